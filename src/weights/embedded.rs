//! Weight files inside the program: small ones that the project trained itself.

/// Name in `weights/` and content.
const FILES: &[(&str, &[u8])] = &[];

/// The file of this name.
pub fn embedded(file: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == file).map(|(_, content)| *content)
}
