//! Mirror images that may as well be made last, on the device that computes.

use super::Action;

/// Mirrorings of an image that are left to be done; their order does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flips {
    pub left_right: bool,
    pub up_down: bool,
}

impl Flips {
    /// Takes the mirrorings out of `actions` on 8-bit pixels that give the same image, bit for bit, when they come last: those that only
    /// mirrorings and changes of colour follow. Two of a kind make none.
    pub fn take(actions: &mut Vec<Action>) -> Self {
        let bound = actions.iter().rposition(|action| !is_flip(action) && !commutes(action)).map_or(0, |last| last + 1);
        let mut flips = Self::default();
        for action in actions.iter().skip(bound) {
            flips.left_right ^= *action == Action::FlipLeftRight;
            flips.up_down ^= *action == Action::FlipUpDown;
        }
        let mut place = 0;
        actions.retain(|action| {
            place += 1;
            place <= bound || !is_flip(action)
        });
        flips
    }

    /// The same as actions.
    pub fn actions(self) -> impl Iterator<Item = Action> {
        let left_right = self.left_right.then_some(Action::FlipLeftRight);
        left_right.into_iter().chain(self.up_down.then_some(Action::FlipUpDown))
    }
}

fn is_flip(action: &Action) -> bool {
    matches!(action, Action::FlipLeftRight | Action::FlipUpDown)
}

/// Whether it treats all places alike. Contrast needs the mean of each channel, but sums of bytes are exact in any order.
fn commutes(action: &Action) -> bool {
    match action {
        Action::Brightness(_) | Action::Contrast(_) | Action::Saturation(_) | Action::Hue(_) => true,
        Action::FlipLeftRight
        | Action::FlipUpDown
        | Action::Affine { .. }
        | Action::Move { .. }
        | Action::Erase { .. }
        | Action::RandAugment { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fill, Rectangle};
    use super::*;
    use crate::data::augment::Erased;
    use crate::data::resize::Pixels;

    const SIZE: usize = 9;

    fn image() -> Pixels {
        Pixels::U8((0..SIZE * SIZE * 3).map(|i| (i * 71 % 251) as u8).collect())
    }

    fn apply(actions: impl IntoIterator<Item = Action>) -> Pixels {
        actions.into_iter().fold(image(), |pixels, action| action.apply(pixels, SIZE))
    }

    #[test]
    fn the_image_is_the_same_when_mirrored_last() {
        let erase =
            Action::Erase { part: Rectangle { left: 1, top: 2, width: 3, height: 2 }, erased: Erased::Noise(5) };
        let shift = Action::Move { right: 2, down: -1, fill: Fill::Constant { value: 7.0 } };
        let (lr, ud) = (Action::FlipLeftRight, Action::FlipUpDown);
        for (actions, left_right, up_down) in [
            (vec![], false, false),
            (vec![lr.clone()], true, false),
            (vec![lr.clone(), lr.clone(), ud.clone()], false, true),
            (
                vec![ud.clone(), Action::Contrast(1.4), Action::Hue(0.1), lr.clone(), Action::Saturation(0.5)],
                true,
                true,
            ),
            (vec![lr.clone(), Action::Brightness(-0.2)], true, false),
            (vec![lr.clone(), erase.clone(), ud.clone()], false, true),
            (vec![lr.clone(), ud.clone(), shift.clone()], false, false),
            (vec![shift, Action::Contrast(0.7), lr, erase, Action::Contrast(0.8)], false, false),
        ] {
            let mut kept = actions.clone();
            let flips = Flips::take(&mut kept);
            assert_eq!(flips, Flips { left_right, up_down }, "{actions:?}");
            assert_eq!(apply(kept.into_iter().chain(flips.actions())), apply(actions.clone()), "{actions:?}");
        }
    }
}
