//! Random draws for one picture: streams of numbers that depend on nothing but their keys.

use std::f32::consts::TAU;

use crate::data::split::Split;
use crate::random::{Stream, hash_name, mix};

/// The numbers of a key, one after the other.
///
/// What belongs together should have a stream of its own ([`Draws::of`]), so that one more draw for the leaves does not change
/// the petals.
#[derive(Clone, Debug)]
pub struct Draws {
    key: u64,
    stream: Stream,
}

impl Draws {
    /// The stream of `key`, from its beginning.
    pub fn new(key: u64) -> Self {
        Self { key, stream: Stream::new(key) }
    }

    /// The stream of the picture `index` of a class: a function of these names and numbers only, not of how many pictures
    /// there are or how large they are.
    pub fn of_picture(seed: u64, data_set: &str, split: Split, class: &str, index: usize) -> Self {
        let of_class = mix(mix(mix(seed, hash_name(data_set)), hash_name(split.name())), hash_name(class));
        Self::new(mix(of_class, index as u64))
    }

    /// A stream of its own for `purpose`; the same one however much has been drawn from this one.
    pub fn of(&self, purpose: &str) -> Self {
        Self::new(mix(self.key, hash_name(purpose)))
    }

    /// As [`Draws::of`], for the part `index` of several.
    pub fn of_part(&self, purpose: &str, index: usize) -> Self {
        Self::new(mix(mix(self.key, hash_name(purpose)), index as u64))
    }

    /// A number for whatever wants a key.
    pub fn key(&mut self) -> u64 {
        self.stream.bits()
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        self.stream.unit()
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in [-1, 1).
    pub fn signed(&mut self) -> f32 {
        self.between(-1.0, 1.0)
    }

    /// An angle in radians, uniform in [0, 2 pi).
    pub fn angle(&mut self) -> f32 {
        TAU * self.unit()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..count`; 0 if there is nothing to choose from.
    pub fn below(&mut self, count: usize) -> usize {
        self.stream.below(count as u64) as usize
    }

    /// Uniform in `low..=high`.
    pub fn whole(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// One of `choices`, each as likely as the others.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Mean 0 and variance 1, near a normal distribution and never beyond 3.5: the sum of twelve uniform numbers would
    /// be the classic; four with a wider range do here.
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 1.732_050_8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_purpose_and_do_not_depend_on_what_was_drawn() {
        let mut picture = Draws::of_picture(0, "petals", Split::Train, "daisy", 3);
        let before = picture.of("leaves").unit();
        picture.unit();
        assert_eq!(picture.of("leaves").unit(), before);
        assert_ne!(picture.of("petals").unit(), before);
        assert_ne!(picture.of_part("leaves", 1).unit(), before);
        for other in [
            Draws::of_picture(1, "petals", Split::Train, "daisy", 3),
            Draws::of_picture(0, "petals", Split::Val, "daisy", 3),
            Draws::of_picture(0, "petals", Split::Train, "roses", 3),
            Draws::of_picture(0, "petals", Split::Train, "daisy", 4),
        ] {
            assert_ne!(other.of("leaves").unit(), before);
        }
    }

    #[test]
    fn numbers_have_the_mean_and_variance_that_they_promise() {
        let mut draws = Draws::new(5);
        let normal: Vec<f32> = (0..20_000).map(|_| draws.normal()).collect();
        let mean = normal.iter().sum::<f32>() / 20_000.0;
        let variance = normal.iter().map(|v| v * v).sum::<f32>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean}, {variance}");
        let mut counts = [0; 3];
        (0..9_000).for_each(|_| counts[draws.whole(4, 6) - 4] += 1);
        assert!(counts.iter().all(|count| (2_850..3_150).contains(count)), "{counts:?}");
        assert_eq!(draws.below(0), 0);
    }
}
