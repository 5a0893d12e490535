//! mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image of a batch with its neighbour, one share for all.

use super::crop::Rectangle;
use super::draws::Draws;

/// Labels of the images that were mixed into those of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// In the order of the batch.
    pub labels: Vec<u32>,
    /// What remains of the image itself, in 0..=1; the loss is `share * loss(own) + (1 - share) * loss(labels)`.
    pub share: f32,
}

/// How the images of a batch are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mixing {
    /// Each value is `share * own + (1 - share) * other`.
    Blend { share: f32 },
    /// The rectangle comes from the other image.
    Paste { part: Rectangle, share: f32 },
}

impl Mixing {
    /// mixup: the share is Beta(alpha, alpha).
    pub(super) fn mixup(draws: &mut Draws, alpha: f64) -> Self {
        Self::Blend { share: draws.beta(alpha) as f32 }
    }

    /// CutMix: a rectangle with the image's ratio of sides, of Beta(alpha, alpha) of its area, about a random centre; what of it
    /// lies outside is lost, and the share is that of what remains.
    pub(super) fn cutmix(draws: &mut Draws, alpha: f64, size: u32) -> Self {
        let half = 0.5 * (1.0 - draws.beta(alpha)).sqrt() * f64::from(size);
        let mut side = || {
            let centre = draws.below(u64::from(size)) as f64;
            let from = (centre - half).max(0.0).trunc();
            (from as u32, (centre + half).min(f64::from(size)).trunc() as u32)
        };
        let ((left, right), (top, bottom)) = (side(), side());
        let part = Rectangle { left, top, width: right.saturating_sub(left), height: bottom.saturating_sub(top) };
        let area = f64::from(part.width) * f64::from(part.height) / f64::from(size).powi(2);
        Self::Paste { part, share: (1.0 - area) as f32 }
    }

    /// What remains of each image.
    pub fn share(&self) -> f32 {
        match *self {
            Self::Blend { share } | Self::Paste { share, .. } => share,
        }
    }

    /// Mixes each image of `inputs`, `[images, size, size, 3]`, with the one before it (the first with the last), and says which
    /// labels came in. An order of chance makes that a chance partner.
    ///
    /// Inputs are a linear function of pixels, the same for all images, so it does not matter that they are normalised already.
    pub fn apply(&self, inputs: &mut [f32], size: usize, labels: &[u32]) -> Mixed {
        match *self {
            Self::Blend { share } => with_previous(inputs, size, |image, partner| blend(image, partner, share)),
            Self::Paste { part, .. } => with_previous(inputs, size, |image, partner| paste(image, partner, size, part)),
        }
        self.labels(labels)
    }

    /// [`Self::apply`] on 8-bit pixels as far as they can show it: rectangles are pasted, while a blend is returned as the share of it
    /// that is each image's own.
    pub fn apply_to_bytes(&self, pixels: &mut [u8], size: usize) -> Option<f32> {
        match *self {
            Self::Blend { share } => Some(share),
            Self::Paste { part, .. } => {
                with_previous(pixels, size, |image, partner| paste(image, partner, size, part));
                None
            }
        }
    }

    /// The labels of the partners.
    pub fn labels(&self, labels: &[u32]) -> Mixed {
        let mut mixed = labels.to_vec();
        if !mixed.is_empty() {
            mixed.rotate_right(1);
        }
        Mixed { labels: mixed, share: self.share() }
    }
}

/// Calls `mix(image, partner)` with each image and the one before it, the first with the last; partners are as they were.
fn with_previous<T: Copy>(inputs: &mut [T], size: usize, mix: impl Fn(&mut [T], &[T])) {
    let image_len = (size * size * 3).max(1);
    let first_partner: Vec<T> = inputs.rchunks_exact(image_len).next().unwrap_or_default().to_vec();
    let mut rest = inputs;
    // From the end, so that each partner is still as it was.
    while rest.len() > image_len {
        let (before, image) = rest.split_at_mut(rest.len() - image_len);
        let partner = before.get(before.len() - image_len..).unwrap_or_default();
        mix(image, partner);
        rest = before;
    }
    mix(rest, &first_partner);
}

fn blend(image: &mut [f32], partner: &[f32], share: f32) {
    for (own, other) in image.iter_mut().zip(partner) {
        *own = share * *own + (1.0 - share) * other;
    }
}

fn paste<T: Copy>(image: &mut [T], partner: &[T], size: usize, part: Rectangle) {
    let (from, stride) = (part.left as usize * 3, (size * 3).max(1));
    let rows = image.chunks_exact_mut(stride).zip(partner.chunks_exact(stride));
    for (own, other) in rows.skip(part.top as usize).take(part.height as usize) {
        let pasted = from..from + part.width as usize * 3;
        if let (Some(own), Some(other)) = (own.get_mut(pasted.clone()), other.get(pasted)) {
            own.copy_from_slice(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 8;

    /// Three images, all 10, 20 and 40.
    fn batch() -> Vec<f32> {
        [10.0, 20.0, 40.0].iter().flat_map(|&v| [v; SIZE * SIZE * 3]).collect()
    }

    #[test]
    fn mixup_blends_each_image_with_the_one_before_it() {
        let mut inputs = batch();
        let mixed = Mixing::Blend { share: 0.75 }.apply(&mut inputs, SIZE, &[0, 1, 2]);
        assert_eq!(mixed, Mixed { labels: vec![2, 0, 1], share: 0.75 });
        let firsts: Vec<f32> = inputs.chunks(SIZE * SIZE * 3).map(|image| image[5]).collect();
        assert_eq!(firsts, [17.5, 17.5, 35.0]);
    }

    #[test]
    fn the_share_of_cutmix_is_the_share_of_pixels_that_stay() {
        let mut smallest = 1.0f32;
        for key in 0..200 {
            let mut inputs = batch();
            let mixing = Mixing::cutmix(&mut Draws::new(key), 1.0, SIZE as u32);
            let mixed = mixing.apply(&mut inputs, SIZE, &[0, 1, 2]);
            for (image, (own, other)) in inputs.chunks(SIZE * SIZE * 3).zip([(10.0, 40.0), (20.0, 10.0), (40.0, 20.0)])
            {
                let stayed = image.iter().filter(|&&v| v == own).count();
                assert_eq!(stayed + image.iter().filter(|&&v| v == other).count(), image.len());
                assert!((stayed as f32 / image.len() as f32 - mixed.share).abs() < 1e-6, "{mixing:?}");
            }
            smallest = smallest.min(mixed.share);
        }
        assert!(smallest < 0.3, "large parts are pasted too: {smallest}");
    }

    #[test]
    fn a_batch_of_one_or_none_stays_as_it_is() {
        let mut one = vec![3.0; SIZE * SIZE * 3];
        let mixed = Mixing::Blend { share: 0.25 }.apply(&mut one, SIZE, &[7]);
        assert_eq!((one[0], mixed.labels), (3.0, vec![7]));
        assert!(Mixing::Blend { share: 0.25 }.apply(&mut [], SIZE, &[]).labels.is_empty());
    }
}
