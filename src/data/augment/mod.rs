//! Augmentation: random changes of the training photos, between fit and normalisation.
//!
//! What happens to a photo is a function of (seed, epoch, id of the photo, place of the step in the list): it depends neither on
//! threads nor on the order of the photos nor on which others there are. A fixed copy is what the epoch of its number
//! shows. Epoch 0 is evaluation: nothing is changed.
//!
//! 8-bit pixels stay 8-bit: each step rounds and limits its result to 0..=255. Float pixels are neither rounded nor limited,
//! except that saturation, hue and RandAugment limit what they are given (and RandAugment makes it 8-bit).

mod affine;
mod colour;
mod crop;
mod deferred;
mod draws;
mod erasing;
mod flip;
mod mix;
mod rand_augment;
mod steps;

pub use affine::{Affine, Fill};
pub use crop::Rectangle;
pub use deferred::Flips;
pub use erasing::Erased;
pub use mix::{Mixed, Mixing};
pub use rand_augment::{MAX_MAGNITUDE, Operation};
pub use steps::{KINDS, Kind, Step};

use super::resize::Pixels;
use crate::random::{hash_name, mix};
use draws::Draws;

/// One change with its strength, as drawn for one photo.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    FlipLeftRight,
    FlipUpDown,
    /// Added, in units of the value range.
    Brightness(f32),
    /// Factor of the distances from each channel's mean.
    Contrast(f32),
    /// Factor of the saturation.
    Saturation(f32),
    /// Part of the full circle.
    Hue(f32),
    Affine {
        affine: Affine,
        fill: Fill,
    },
    /// The frame moves over the image by so many pixels.
    Move {
        right: i64,
        down: i64,
        fill: Fill,
    },
    Erase {
        part: Rectangle,
        erased: Erased,
    },
    RandAugment {
        operation: Operation,
        outside: u8,
    },
}

impl Action {
    /// Applies it to an image `[height, width, 3]`, which keeps its size.
    pub fn apply(&self, mut pixels: Pixels, width: usize) -> Pixels {
        match *self {
            Self::FlipLeftRight => match &mut pixels {
                Pixels::U8(values) => flip::left_right(values, width),
                Pixels::F32(values) => flip::left_right(values, width),
            },
            Self::FlipUpDown => match &mut pixels {
                Pixels::U8(values) => flip::up_down(values, width),
                Pixels::F32(values) => flip::up_down(values, width),
            },
            Self::Brightness(delta) => colour::brightness(&mut pixels, delta),
            Self::Contrast(factor) => colour::contrast(&mut pixels, factor),
            Self::Saturation(factor) => colour::saturation(&mut pixels, factor),
            Self::Hue(delta) => colour::hue(&mut pixels, delta),
            Self::Erase { part, erased } => match &mut pixels {
                Pixels::U8(values) => erasing::erase(values, width, part, erased),
                Pixels::F32(values) => erasing::erase(values, width, part, erased),
            },
            Self::Affine { affine, fill } => {
                return match &pixels {
                    Pixels::U8(values) => Pixels::U8(affine::transform(values, width, &affine, fill)),
                    Pixels::F32(values) => Pixels::F32(affine::transform(values, width, &affine, fill)),
                };
            }
            Self::Move { right, down, fill } => {
                return match &pixels {
                    Pixels::U8(values) => Pixels::U8(crop::shifted(values, width, right, down, fill)),
                    Pixels::F32(values) => Pixels::F32(crop::shifted(values, width, right, down, fill)),
                };
            }
            Self::RandAugment { operation, outside } => {
                return Pixels::U8(operation.apply(pixels.into_u8(), width, outside));
            }
        }
        pixels
    }
}

/// The steps of a recipe with its seed.
#[derive(Clone, Debug)]
pub struct Augmenter {
    steps: Vec<Step>,
    key: u64,
    copies: usize,
}

impl Augmenter {
    /// The steps are applied in their order.
    pub fn new(steps: Vec<Step>, seed: u64) -> Self {
        Self { steps, key: mix(seed, hash_name("augmentation")), copies: 0 }
    }

    /// Instead of anew in each epoch, photos are changed once: the set is each photo as it is and `copies` changed ones.
    pub fn with_copies(self, copies: usize) -> Self {
        Self { copies, ..self }
    }

    /// Number of fixed changed copies of each photo; 0: changed anew in each epoch.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether parts of photos are taken, so that fitted photos cannot be kept.
    pub fn crops_photo(&self) -> bool {
        self.steps.iter().any(Step::crops_photo)
    }

    /// Whether whole batches are mixed.
    pub fn mixes(&self) -> bool {
        self.steps.iter().any(Step::mixes)
    }

    /// The part of the photo `id`, of the given (width, height), that takes the place of the whole in this epoch; `None`: the whole.
    pub fn crop(&self, id: &str, epoch: u64, photo: (u32, u32)) -> Option<Rectangle> {
        let key = self.photo_key(id, epoch)?;
        self.steps.iter().enumerate().find_map(|(i, step)| {
            let Kind::RandomResizedCrop { scale, ratio } = step.kind else { return None };
            let mut draws = Draws::new(mix(key, i as u64));
            draws.chance(step.probability).then(|| crop::random_resized(&mut draws, photo, scale, ratio))
        })
    }

    /// What happens in this epoch to the photo `id` as a square of `size` pixels.
    pub fn actions(&self, id: &str, epoch: u64, size: usize) -> Vec<Action> {
        let Some(key) = self.photo_key(id, epoch) else { return Vec::new() };
        let mut actions = Vec::new();
        let mut geometry: Option<Geometry> = None;
        for (i, step) in self.steps.iter().enumerate() {
            let mut draws = Draws::new(mix(key, i as u64));
            let applies = draws.chance(step.probability);
            if let Some((part, fill)) = Part::of(&step.kind) {
                let fits = geometry.as_ref().is_some_and(|g| g.fill == fill && !g.parts.contains(&part));
                if !fits {
                    actions.extend(geometry.take().and_then(Geometry::finish));
                }
                let geometry = geometry.get_or_insert_with(|| Geometry::new(fill));
                geometry.parts.push(part);
                if applies {
                    draw_affine(&mut geometry.affine, &step.kind, size, &mut draws);
                }
                continue;
            }
            actions.extend(geometry.take().and_then(Geometry::finish));
            if applies {
                draw_actions(&step.kind, size, &mut draws, &mut actions);
            }
        }
        actions.extend(geometry.and_then(Geometry::finish));
        actions
    }

    /// Changes the fitted photo `id`, a square of `size` pixels, as this epoch has it.
    pub fn apply(&self, pixels: Pixels, size: usize, id: &str, epoch: u64) -> Pixels {
        self.actions(id, epoch, size).iter().fold(pixels, |pixels, action| action.apply(pixels, size))
    }

    /// How the batch of these photos is mixed, if it is. With both mixup and cutmix each batch draws one of the two.
    pub fn mixing<'a>(&self, ids: impl Iterator<Item = &'a str>, epoch: u64, size: usize) -> Option<Mixing> {
        let mixing: Vec<&Step> = self.steps.iter().filter(|step| step.mixes()).collect();
        if mixing.is_empty() || epoch == 0 {
            return None;
        }
        let key = mix(mix(self.key, hash_name("batch")), epoch);
        let mut draws = Draws::new(ids.fold(key, |key, id| mix(key, hash_name(id))));
        let step = mixing.get(draws.below(mixing.len() as u64) as usize)?;
        if !draws.chance(step.probability) {
            return None;
        }
        match step.kind {
            Kind::Mixup { alpha } => Some(Mixing::mixup(&mut draws, alpha)),
            Kind::Cutmix { alpha } => Some(Mixing::cutmix(&mut draws, alpha, size as u32)),
            _ => None,
        }
    }

    /// The stream of a photo in an epoch; `None` in evaluation.
    fn photo_key(&self, id: &str, epoch: u64) -> Option<u64> {
        (epoch > 0).then(|| mix(mix(self.key, epoch), hash_name(id)))
    }
}

/// Geometric steps that make one transformation, as Keras does.
struct Geometry {
    affine: Affine,
    fill: Fill,
    parts: Vec<Part>,
}

/// Which of the arguments of [`Affine`] a step decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Rotation,
    Shear,
    Zoom,
    Shift,
}

impl Part {
    fn of(kind: &Kind) -> Option<(Self, Fill)> {
        match *kind {
            Kind::Rotation { fill, .. } => Some((Self::Rotation, fill)),
            Kind::Shear { fill, .. } => Some((Self::Shear, fill)),
            Kind::Zoom { fill, .. } => Some((Self::Zoom, fill)),
            Kind::Shift { fill, .. } => Some((Self::Shift, fill)),
            _ => None,
        }
    }
}

impl Geometry {
    fn new(fill: Fill) -> Self {
        Self { affine: Affine::IDENTITY, fill, parts: Vec::new() }
    }

    fn finish(self) -> Option<Action> {
        let Self { affine, fill, .. } = self;
        (affine != Affine::IDENTITY).then_some(Action::Affine { affine, fill })
    }
}

/// Draws the arguments that a geometric step decides.
fn draw_affine(affine: &mut Affine, kind: &Kind, size: usize, draws: &mut Draws) {
    match *kind {
        Kind::Rotation { degrees, .. } => affine.theta = draws.between(-degrees, degrees),
        Kind::Shear { degrees, .. } => affine.shear = draws.between(-degrees, degrees),
        Kind::Zoom { by, .. } => {
            affine.zx = draws.between(1.0 - by, 1.0 + by);
            affine.zy = draws.between(1.0 - by, 1.0 + by);
        }
        Kind::Shift { width, height, .. } => {
            affine.tx = draws.between(-width, width) * size as f64;
            affine.ty = draws.between(-height, height) * size as f64;
        }
        _ => {}
    }
}

/// Draws the strength of a step on single photos that is not geometric.
fn draw_actions(kind: &Kind, size: usize, draws: &mut Draws, actions: &mut Vec<Action>) {
    let mut around = |centre: f64, by: f64| draws.between(centre - by, centre + by) as f32;
    let action = match *kind {
        Kind::FlipLeftRight => Action::FlipLeftRight,
        Kind::FlipUpDown => Action::FlipUpDown,
        Kind::Brightness { by } => Action::Brightness(around(0.0, by)),
        Kind::Contrast { by } => Action::Contrast(around(1.0, by)),
        Kind::Saturation { by } => Action::Saturation(around(1.0, by)),
        Kind::Hue { by } => Action::Hue(around(0.0, by)),
        Kind::RandomCrop { padding, fill } => {
            let mut shift = || draws.below(2 * padding as u64 + 1) as i64 - padding as i64;
            Action::Move { right: shift(), down: shift(), fill }
        }
        Kind::Erasing { scale, ratio, value } => {
            let side = size as u32;
            // The ratio here is that of height to width.
            let inverse = [1.0 / ratio[1], 1.0 / ratio[0]];
            let Some(part) = crop::rectangle(draws, (side, side), scale, inverse) else { return };
            let erased = match value {
                Some(value) => Erased::Grey(value as f32),
                None => Erased::Noise(draws.below(u64::MAX)),
            };
            Action::Erase { part, erased }
        }
        Kind::RandAugment { operations, magnitude, value } => {
            let outside = value.round() as u8;
            let mut draw = || Operation::draw(draws, magnitude as u32);
            actions.extend((0..operations).map(|_| Action::RandAugment { operation: draw(), outside }));
            return;
        }
        Kind::Rotation { .. }
        | Kind::Shear { .. }
        | Kind::Zoom { .. }
        | Kind::Shift { .. }
        | Kind::RandomResizedCrop { .. }
        | Kind::Mixup { .. }
        | Kind::Cutmix { .. } => return,
    };
    actions.push(action);
}
