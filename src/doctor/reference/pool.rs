//! Pools, padding, and the shortcut that leaves pixels out.

use std::ops::Range;

use super::{Map, Sliding, Sum};

/// The largest value in a window and its place in the input. Padding counts for nothing; of equal values the first one wins.
///
/// Infinitely small at place 0 if the window sees padding only, which no pool of ours does.
pub fn largest(window: &Sliding, input: &[f64], index: usize) -> (f64, usize) {
    let (n, y, x, c) = window.output.place(index);
    let mut best = (f64::NEG_INFINITY, 0);
    for tap in window.taps() {
        let Some((row, column)) = window.under((y, x), tap) else { continue };
        let place = window.input.index(n, row, column, c);
        if input[place] > best.0 {
            best = (input[place], place);
        }
    }
    best
}

/// The gradient of a max pool: that of each output at the place of its maximum.
pub fn largest_gradient(window: &Sliding, input: &[f64], grad: &[f64]) -> Vec<Sum> {
    let mut sums = vec![Sum::default(); window.input.count()];
    for (index, gradient) in grad.iter().enumerate() {
        let (_, place) = largest(window, input, index);
        sums[place] = sums[place].plus(*gradient);
    }
    sums
}

/// An average over rectangles: for each row and column of the output what it covers of the input, and the divisor.
#[derive(Clone, Debug)]
pub struct Averages {
    pub input: Map,
    pub output: Map,
    /// Rows of the input and divisor of each row of the output.
    pub rows: Vec<(Range<usize>, f64)>,
    pub columns: Vec<(Range<usize>, f64)>,
}

impl Averages {
    /// Of windows; padding zeros count if `count_padding`.
    pub fn of_windows(window: &Sliding, count_padding: bool) -> Self {
        let axis = |outputs: usize, kernel: usize, stride: usize, before: usize, size: usize| {
            let span = |i: usize| {
                let inside: Vec<usize> =
                    (0..kernel).filter_map(|k| (i * stride + k).checked_sub(before)).filter(|p| *p < size).collect();
                let start = inside.first().copied().unwrap_or(0);
                let divisor = if count_padding { kernel } else { inside.len() };
                (start..start + inside.len(), divisor as f64)
            };
            (0..outputs).map(span).collect()
        };
        let Sliding { input, output, kernel, stride, before } = *window;
        Self {
            input,
            output,
            rows: axis(output.height, kernel.0, stride.0, before.0, input.height),
            columns: axis(output.width, kernel.1, stride.1, before.1, input.width),
        }
    }

    /// Of nearly equal regions: region i of n over `size` pixels is `floor(i size / n) .. ceil((i + 1) size / n)`.
    pub fn of_regions(input: Map, (height, width): (usize, usize)) -> Self {
        let axis = |regions: usize, size: usize| {
            let region = |i: usize| i * size / regions..((i + 1) * size).div_ceil(regions);
            (0..regions).map(|i| (region(i), region(i).len() as f64)).collect()
        };
        let output = Map { height, width, ..input };
        Self { input, output, rows: axis(height, input.height), columns: axis(width, input.width) }
    }

    /// The mean at `index` of the output.
    pub fn output(&self, input: &[f64], index: usize) -> Sum {
        let (n, y, x, c) = self.output.place(index);
        let ((rows, height), (columns, width)) = (&self.rows[y], &self.columns[x]);
        let mut sum = Sum::default();
        for row in rows.clone() {
            for column in columns.clone() {
                sum = sum.plus(input[self.input.index(n, row, column, c)]);
            }
        }
        sum.times(1.0 / (height * width))
    }

    /// The gradient at `index` of the input.
    pub fn gradient(&self, grad: &[f64], index: usize) -> Sum {
        let (n, y, x, c) = self.input.place(index);
        let covering = |spans: &[(Range<usize>, f64)], place: usize| -> Vec<(usize, f64)> {
            let all = spans.iter().enumerate();
            all.filter(|(_, (span, _))| span.contains(&place)).map(|(i, (_, divisor))| (i, *divisor)).collect()
        };
        let columns = covering(&self.columns, x);
        let mut sum = Sum::default();
        for (row, height) in covering(&self.rows, y) {
            for &(column, width) in &columns {
                sum = sum.plus(grad[self.output.index(n, row, column, c)] / (height * width));
            }
        }
        sum
    }
}

/// Where an output value comes from in the input: none where it is a zero that was put in.
pub type Origin = Option<usize>;

/// Zeros around images: where value `index` of the `output` comes from.
pub fn padded(input: &Map, output: &Map, (top, left): (usize, usize), index: usize) -> Origin {
    let (n, y, x, c) = output.place(index);
    let (y, x) = (y.checked_sub(top)?, x.checked_sub(left)?);
    (y < input.height && x < input.width).then(|| input.index(n, y, x, c))
}

/// Every `stride`-th pixel with `before` channels of zeros in front: where value `index` of the `output` comes from.
pub fn subsampled(input: &Map, output: &Map, stride: usize, before: usize, index: usize) -> Origin {
    let (n, y, x, c) = output.place(index);
    let c = c.checked_sub(before)?;
    (c < input.channels).then(|| input.index(n, y * stride, x * stride, c))
}

/// The gradient of an operation that only moves values.
pub fn moved_gradient(inputs: usize, grad: &[f64], origin: impl Fn(usize) -> Origin) -> Vec<Sum> {
    let mut sums = vec![Sum::default(); inputs];
    for (index, gradient) in grad.iter().enumerate() {
        if let Some(place) = origin(index) {
            sums[place] = sums[place].plus(*gradient);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, before: usize, output: usize) -> Sliding {
        Sliding {
            input: Map { batch: 1, height: 3, width: 3, channels: 1 },
            output: Map { batch: 1, height: output, width: output, channels: 1 },
            kernel: (kernel, kernel),
            stride: (stride, stride),
            before: (before, before),
        }
    }

    const IMAGE: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 7.0, 8.0, -9.0];

    fn values(sums: &[Sum]) -> Vec<f64> {
        sums.iter().map(|sum| sum.value).collect()
    }

    #[test]
    fn the_first_of_equal_maxima_wins_and_gets_the_gradient() {
        let window = window(2, 1, 0, 2);
        assert_eq!(largest(&window, &IMAGE, 0), (9.0, 4));
        assert_eq!(largest(&window, &IMAGE, 1), (9.0, 4));
        let gradient = largest_gradient(&window, &IMAGE, &[1.0, 2.0, 4.0, 8.0]);
        assert_eq!(values(&gradient), [0.0, 0.0, 0.0, 0.0, 15.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn padding_is_smaller_than_any_value() {
        let window = window(2, 2, 1, 2);
        assert_eq!(largest(&window, &[-1.0; 9], 0), (-1.0, 0));
        assert_eq!(largest(&window, &IMAGE, 3).0, 9.0);
    }

    #[test]
    fn averages_divide_by_what_they_cover() {
        let window = window(2, 2, 1, 2);
        let without = Averages::of_windows(&window, false);
        // Pixel 1; 2 and 3; 4 and 7; the last four.
        assert_eq!((0..4).map(|i| without.output(&IMAGE, i).value).collect::<Vec<_>>(), [1.0, 2.5, 5.5, 4.25]);
        let with = Averages::of_windows(&window, true);
        assert_eq!(with.output(&IMAGE, 0).value, 0.25);
        assert_eq!((0..9).map(|i| with.gradient(&[4.0, 8.0, 0.0, 0.0], i).value).sum::<f64>(), 5.0);
        assert_eq!(without.gradient(&[4.0, 8.0, 0.0, 0.0], 2).value, 4.0);
        let whole = Averages::of_regions(window.input, (1, 1));
        assert!((whole.output(&IMAGE, 0).value - 34.0 / 9.0).abs() < 1e-12);
        // Regions 0..2 and 1..3 share the middle.
        let halves = Averages::of_regions(window.input, (2, 2));
        assert_eq!(halves.output(&IMAGE, 0).value, 4.0);
        assert_eq!(halves.gradient(&[1.0; 4], 4).value, 1.0);
    }

    #[test]
    fn values_that_move_take_their_gradients_with_them() {
        let input = Map { batch: 1, height: 3, width: 3, channels: 1 };
        let larger = Map { batch: 1, height: 4, width: 5, channels: 1 };
        let place = |index| padded(&input, &larger, (1, 2), index);
        assert_eq!((place(0), place(7), place(19)), (None, Some(0), Some(8)));
        let fewer = Map { batch: 1, height: 2, width: 2, channels: 3 };
        let place = |index| subsampled(&input, &fewer, 2, 1, index);
        assert_eq!((0..12).filter_map(place).collect::<Vec<_>>(), [0, 2, 6, 8]);
        let gradient = moved_gradient(9, &[1.0; 12], place);
        assert_eq!(values(&gradient), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    }
}
