//! Class activation maps and the pictures made of them.
