//! What a class draws: parts in its own plane, from the back to the front, without light, camera or surroundings.

use super::outlines::{Point, circle, length};

/// Which of the colours of a picture a part has. The colours are drawn for each picture, whatever its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What the subject is made of.
    Main,
    /// A second material.
    Second,
    /// A third one.
    Third,
    /// Darker than all.
    Dark,
    /// Lighter than all.
    Light,
}

/// One part of a subject.
#[derive(Clone, Debug)]
pub struct Part {
    /// Closed outlines; those that go around in the other direction are holes.
    pub outlines: Vec<Vec<Point>>,
    pub tone: Tone,
    /// Factor on the colour: 1 faces the light.
    pub light: f32,
}

/// A subject.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    pub parts: Vec<Part>,
}

impl Sketch {
    /// A filled outline.
    pub fn fill(&mut self, outline: Vec<Point>, tone: Tone) {
        self.shaded(outline, tone, 1.0);
    }

    /// A filled outline that has its own brightness.
    pub fn shaded(&mut self, outline: Vec<Point>, tone: Tone, light: f32) {
        self.parts.push(Part { outlines: vec![outline], tone, light });
    }

    /// An outline, the first, with the others as holes in it.
    pub fn pierced(&mut self, mut outlines: Vec<Vec<Point>>, tone: Tone) {
        // A hole is what goes around in the other direction.
        let clockwise = outlines.first().is_some_and(|outline| area(outline) > 0.0);
        for hole in outlines.iter_mut().skip(1).filter(|hole| (area(hole) > 0.0) == clockwise) {
            hole.reverse();
        }
        self.parts.push(Part { outlines, tone, light: 1.0 });
    }

    /// A disc.
    pub fn disc(&mut self, centre: Point, radius: f32, tone: Tone) {
        self.fill(circle(centre, radius), tone);
    }

    /// A line of some width with mitred joints.
    pub fn line(&mut self, path: &[Point], width: f32, tone: Tone) {
        self.tapered(path, width, width, tone);
    }

    /// A closed line.
    pub fn closed_line(&mut self, path: &[Point], width: f32, tone: Tone) {
        let closed: Vec<Point> = path.iter().chain(path.iter().take(2)).copied().collect();
        self.line(&closed, width, tone);
    }

    /// A line whose width changes from its start to its end. Long paths are cut, so that a path may cross itself.
    pub fn tapered(&mut self, path: &[Point], from: f32, to: f32, tone: Tone) {
        const PIECE: usize = 6;
        let last = path.len().saturating_sub(1);
        let width = |i: usize| from + (to - from) * i as f32 / last.max(1) as f32;
        for start in (0..last).step_by(PIECE) {
            // One point more, so that pieces overlap.
            let end = (start + PIECE + 1).min(last);
            let side = |i: usize, sign: f32| {
                let before = path.get(i.saturating_sub(1)).copied().unwrap_or_default();
                let after = path.get((i + 1).min(last)).copied().unwrap_or_default();
                let at = path.get(i).copied().unwrap_or_default();
                let [dx, dy] = [after[0] - before[0], after[1] - before[1]];
                let half = sign * width(i) / 2.0 / length(dx, dy);
                [at[0] - dy * half, at[1] + dx * half]
            };
            let outline = (start..=end).map(|i| side(i, 1.0)).chain((start..=end).rev().map(|i| side(i, -1.0)));
            self.fill(outline.collect(), tone);
        }
    }

    /// The same again, mirrored at the vertical axis: parts from `start` on.
    pub fn mirror_from(&mut self, start: usize) {
        let mut mirrored: Vec<Part> = self.parts.iter().skip(start).cloned().collect();
        let outlines = mirrored.iter_mut().flat_map(|part| part.outlines.iter_mut().flatten());
        outlines.for_each(|point| point[0] = -point[0]);
        self.parts.extend(mirrored);
    }
}

/// Twice the area of an outline, negative if it goes around counterclockwise.
fn area(outline: &[Point]) -> f32 {
    let next = outline.iter().cycle().skip(1);
    outline.iter().zip(next).map(|([x0, y0], [x1, y1])| x0 * y1 - x1 * y0).sum()
}
