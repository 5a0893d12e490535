//! The part of a number line that an axis shows, and where its ticks are.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::plot::{Axis, Scale};

/// Ticks that an axis should have, about.
const WANTED: f64 = 6.0;

/// An axis in its own coordinates: on a logarithmic axis these are decadic logarithms.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticks {
    pub low: f64,
    pub high: f64,
    /// Ascending, within the range.
    pub at: Vec<f64>,
    /// Digits after the point that tell neighbouring ticks apart.
    decimals: usize,
    scale: Scale,
}

impl Ticks {
    /// The range that shows `values` (finite, in the axis' own coordinates). Horizontal axes end with the data, vertical ones
    /// (`whole_steps`) with a tick.
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>, whole_steps: bool) -> Self {
        let zero = axis.from_zero.then_some(0.0);
        let (low, high) =
            values.chain(zero).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let (limit_low, limit_high) = axis.limits.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let (low, high) = (low.max(limit_low).min(limit_high), high.min(limit_high).max(limit_low));
        let (low, high) = widened(low, high);
        let step = step(high - low, axis.scale);
        let (low, high) = if whole_steps {
            ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step)
        } else {
            let margin = (high - low) * 0.02;
            (low - margin, high + margin)
        };
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
        Self { low, high, at: (first..=last).map(|i| i as f64 * step).collect(), decimals, scale: axis.scale }
    }

    /// What stands at a tick.
    pub fn label(&self, value: f64) -> String {
        match self.scale {
            Scale::Logarithmic if value.fract() == 0.0 => format!("1e{value}"),
            Scale::Logarithmic => format!("{:.1e}", 10f64.powf(value)),
            _ if value.abs() >= 1e6 => format!("{value:.1e}"),
            // -0.0 is zero for a reader.
            _ => format!("{:.*}", self.decimals, value + 0.0),
        }
    }
}

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + ((value - self.low) / (self.high - self.low) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.at.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

/// A range that is not empty.
fn widened(low: f64, high: f64) -> (f64, f64) {
    if high - low > 1e-9 * low.abs().max(high.abs()).max(1e-9) {
        return (low, high);
    }
    let by = if low == 0.0 { 0.5 } else { low.abs() * 0.1 };
    (low - by, high + by)
}

/// The distance of ticks: 1, 2 or 5 times a power of ten.
fn step(range: f64, scale: Scale) -> f64 {
    let rough = range / WANTED;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    match scale {
        Scale::Linear => step,
        Scale::Whole => step.max(1.0),
        // Within less than a decade the ticks stand at uneven numbers; it cannot be helped.
        Scale::Logarithmic => {
            if range > 2.0 {
                step.max(1.0).round()
            } else {
                step
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis, values: &[f64], whole_steps: bool) -> Vec<String> {
        let ticks = Ticks::new(axis, values.iter().copied(), whole_steps);
        assert!(values.iter().all(|v| axis.limits.is_some() || (ticks.low <= *v && *v <= ticks.high)), "{ticks:?}");
        ticks.at.iter().map(|&v| ticks.label(v)).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers_and_their_labels_differ() {
        assert_eq!(ticks(&Axis::linear("loss").from_zero(), &[0.31, 1.7], true), ["0.0", "0.5", "1.0", "1.5", "2.0"]);
        assert_eq!(ticks(&Axis::linear("a"), &[0.912, 0.958], true), ["0.91", "0.92", "0.93", "0.94", "0.95", "0.96"]);
        assert_eq!(ticks(&Axis::whole("epoch"), &[1.0, 10.0], false), ["2", "4", "6", "8", "10"]);
        assert_eq!(ticks(&Axis::whole("epoch"), &[1.0, 2.0], false), ["1", "2"]);
    }

    #[test]
    fn an_axis_can_show_nothing_or_one_value() {
        for values in [&[][..], &[0.0], &[5.0], &[-3.0, -3.0], &[1e-30]] {
            let ticks = Ticks::new(&Axis::linear("x"), values.iter().copied(), true);
            assert!(ticks.low < ticks.high && ticks.at.len() >= 2, "{values:?}: {ticks:?}");
        }
    }

    #[test]
    fn limits_cut_off_what_lies_beyond() {
        let ticks = Ticks::new(&Axis::linear("loss").within(0.0, 4.0), [0.5, 1e9].into_iter(), true);
        assert_eq!((ticks.low, ticks.high), (0.0, 4.0));
    }

    #[test]
    fn decades_are_named_as_powers_of_ten() {
        let values = [1e-7f64, 10.0].map(f64::log10);
        assert_eq!(ticks(&Axis::log("learning rate"), &values, false), ["1e-6", "1e-4", "1e-2", "1e0"]);
    }
}
