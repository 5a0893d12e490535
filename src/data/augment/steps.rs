//! What a recipe can ask for: kinds of change with the ranges their strength is drawn from.

use serde::{Deserialize, Serialize};

use super::affine::Fill;

/// One entry of `augmentation.steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    #[serde(flatten)]
    pub kind: Kind,
    /// Of being applied at all, for each photo (for mixup and cutmix: each batch) anew.
    pub probability: f64,
}

/// The kinds of change. Strengths are drawn uniformly unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Default probability 0.5, as of `flip_up_down`; of `erasing` 0.25; of everything else 1.
    FlipLeftRight,
    FlipUpDown,
    /// Adds -by..by of the value range to all values. Default 0.2.
    Brightness {
        by: f64,
    },
    /// Distances from the mean of each channel times 1 - by..1 + by. Default 0.2.
    Contrast {
        by: f64,
    },
    /// Saturation of HSV times 1 - by..1 + by. Default 0.2.
    Saturation {
        by: f64,
    },
    /// Hue of HSV turned by -by..by of the full circle. Default 0.05.
    Hue {
        by: f64,
    },
    /// By -degrees..degrees. Default 20. Rotation, shear, zoom and shift that follow each other with the same fill become
    /// one transformation in Keras' order, whatever their own: `R . T . Shear . Zoom`.
    Rotation {
        degrees: f64,
        #[serde(flatten)]
        fill: Fill,
    },
    /// By -degrees..degrees. Default 10. Keras' `ImageDataGenerator(shear_range=0.2)` is in degrees too: 0.2 degrees move the
    /// edge of an image of 160 pixels by a quarter of a pixel, which is next to nothing.
    Shear {
        degrees: f64,
        #[serde(flatten)]
        fill: Fill,
    },
    /// Width and height each by 1 - by..1 + by (the two are drawn separately). Default 0.2.
    Zoom {
        by: f64,
        #[serde(flatten)]
        fill: Fill,
    },
    /// By -width..width of the width and -height..height of the height. Default 0.1 and 0.1.
    Shift {
        width: f64,
        height: f64,
        #[serde(flatten)]
        fill: Fill,
    },
    /// A part of the photo, in its own resolution, takes the place of the whole (torchvision's `RandomResizedCrop`): `scale` of its
    /// area with a ratio of width to height of `ratio` (uniform in its logarithm). Default 0.08..1 and 3/4..4/3.
    RandomResizedCrop {
        scale: [f64; 2],
        ratio: [f64; 2],
    },
    /// The image with a frame of `padding` pixels (default 4, black) cut back to its size at a random place.
    RandomCrop {
        padding: usize,
        #[serde(flatten)]
        fill: Fill,
    },
    /// A rectangle of `scale` of the area (default 0.02..0.33) and a ratio of height to width of `ratio` (default 0.3..3.3) becomes
    /// random values, or the grey `value`.
    Erasing {
        scale: [f64; 2],
        ratio: [f64; 2],
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<f64>,
    },
    /// `operations` (default 2) of the 14 of RandAugment, each with `magnitude` of 30 (default 9); what comes from outside of the image
    /// is the grey `value` (default 0). Works on 8-bit values; floats are rounded first.
    RandAugment {
        operations: usize,
        magnitude: usize,
        value: f64,
    },
    /// Images and labels of a batch blended with a share of Beta(alpha, alpha). Default 0.2.
    Mixup {
        alpha: f64,
    },
    /// A rectangle of each image of a batch comes from another, Beta(alpha, alpha) of its area; labels blended alike. Default 1.
    Cutmix {
        alpha: f64,
    },
}

/// Spellings of all kinds in a recipe.
pub const KINDS: [&str; 16] = [
    "flip_left_right",
    "flip_up_down",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "rotation",
    "shear",
    "zoom",
    "shift",
    "random_resized_crop",
    "random_crop",
    "erasing",
    "rand_augment",
    "mixup",
    "cutmix",
];

impl Step {
    /// The step that a word alone stands for.
    pub fn named(kind: &str) -> Option<Self> {
        let fill = Fill::Nearest;
        let kind = match kind {
            "flip_left_right" => Kind::FlipLeftRight,
            "flip_up_down" => Kind::FlipUpDown,
            "brightness" => Kind::Brightness { by: 0.2 },
            "contrast" => Kind::Contrast { by: 0.2 },
            "saturation" => Kind::Saturation { by: 0.2 },
            "hue" => Kind::Hue { by: 0.05 },
            "rotation" => Kind::Rotation { degrees: 20.0, fill },
            "shear" => Kind::Shear { degrees: 10.0, fill },
            "zoom" => Kind::Zoom { by: 0.2, fill },
            "shift" => Kind::Shift { width: 0.1, height: 0.1, fill },
            "random_resized_crop" => Kind::RandomResizedCrop { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] },
            "random_crop" => Kind::RandomCrop { padding: 4, fill: Fill::Constant { value: 0.0 } },
            "erasing" => Kind::Erasing { scale: [0.02, 0.33], ratio: [0.3, 3.3], value: None },
            "rand_augment" => Kind::RandAugment { operations: 2, magnitude: 9, value: 0.0 },
            "mixup" => Kind::Mixup { alpha: 0.2 },
            "cutmix" => Kind::Cutmix { alpha: 1.0 },
            _ => return None,
        };
        let probability = match kind {
            Kind::FlipLeftRight | Kind::FlipUpDown => 0.5,
            Kind::Erasing { .. } => 0.25,
            _ => 1.0,
        };
        Some(Self { kind, probability })
    }

    /// Whether it works on whole batches.
    pub fn mixes(&self) -> bool {
        matches!(self.kind, Kind::Mixup { .. } | Kind::Cutmix { .. })
    }

    /// Whether it works on the photo before that becomes the network's square.
    pub fn crops_photo(&self) -> bool {
        matches!(self.kind, Kind::RandomResizedCrop { .. })
    }
}
