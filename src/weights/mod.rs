//! Pretrained weights: sources, formats, name maps, the manifest.
