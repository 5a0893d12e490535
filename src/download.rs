//! Downloads: resumed after a cut, verified by hash, landed atomically.
