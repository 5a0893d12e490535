//! Weight files inside the program: small ones that the project trained itself.

/// Name in `weights/` and content.
const FILES: &[(&str, &[u8])] =
    &[("resnet-mini-formulas.f16.safetensors", include_bytes!("../../weights/resnet-mini-formulas.f16.safetensors"))];

/// The file of this name.
pub fn embedded(file: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == file).map(|(_, content)| *content)
}
