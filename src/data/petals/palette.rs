//! Colours of a flower. They are drawn without looking at its kind, so that colour does not give the kind away.

use crate::data::procedural::Draws;
use crate::data::procedural::colour::{Colour, blend, near_hsv, shade};

/// Hue, saturation and value of petals: white, cream, yellow, orange, red, pink, violet.
const PETALS: [[f32; 3]; 7] = [
    [0.12, 0.04, 0.93],
    [0.13, 0.3, 0.93],
    [0.14, 0.8, 0.92],
    [0.07, 0.82, 0.92],
    [0.985, 0.82, 0.75],
    [0.93, 0.5, 0.88],
    [0.78, 0.5, 0.7],
];

/// The same of discs, hearts and throats.
const HEARTS: [[f32; 3]; 4] = [[0.13, 0.8, 0.85], [0.09, 0.75, 0.6], [0.06, 0.6, 0.25], [0.19, 0.6, 0.55]];

/// The colours of one flower.
#[derive(Clone, Debug, PartialEq)]
pub struct Palette {
    /// Of petals, near their base and at their tip.
    pub petal: Colour,
    pub tip: Colour,
    /// Of disc, heart or throat, and of what lies deep in it.
    pub heart: Colour,
    pub deep: Colour,
    /// How far the heart's colour runs out along the petals, in 0..=1.
    pub flame: f32,
    /// How strongly petals are streaked, in 0..=1.
    pub streaks: f32,
}

impl Palette {
    pub fn draw(draws: &mut Draws) -> Self {
        let family = draws.pick(&PETALS);
        let petal = near_hsv(draws, family, 0.05);
        // Tips of the same colour, paler or darker, or of another one.
        let tip = match draws.below(5) {
            0 => blend(petal, [0.9, 0.9, 0.85], 0.45),
            1 => shade(petal, 0.75),
            2 => {
                let other = draws.pick(&PETALS);
                blend(petal, near_hsv(draws, other, 0.05), 0.5)
            }
            _ => petal,
        };
        // Of two hearts the one that differs more from the petals.
        let mut heart = || {
            let family = draws.pick(&HEARTS);
            near_hsv(draws, family, 0.07)
        };
        let (one, other) = (heart(), heart());
        let distance = |c: Colour| (0..3).map(|i| (c[i] - petal[i]) * (c[i] - petal[i])).sum::<f32>();
        let heart = if distance(one) > distance(other) { one } else { other };
        let deep = shade(heart, draws.between(0.3, 0.9));
        Self { petal, tip, heart, deep, flame: draws.between(0.0, 0.45), streaks: draws.between(0.0, 0.35) }
    }
}
