//! Every operation once more in `f64`, written as its definition reads: plain loops, one output value at a time, no blocking, no
//! vectors, nothing shared with [`crate::ops`]. What the kernels are compared with.
//!
//! Tensors are slices in row-major order, `[batch, height, width, channels]`. Each function gives one value, so that a large
//! convolution can be looked at in a sample of places.

pub mod conv;
pub mod loss;
pub mod norm;
pub mod pointwise;
pub mod pool;
pub mod update;

/// A sum, and the sum of the absolute values of its terms: what rounding errors are in proportion to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    pub value: f64,
    pub magnitude: f64,
}

impl Sum {
    /// A number on its own.
    pub fn single(value: f64) -> Self {
        Self { value, magnitude: value.abs() }
    }

    /// Of these terms.
    pub fn of(terms: impl IntoIterator<Item = f64>) -> Self {
        terms.into_iter().fold(Self::default(), |sum, term| sum.plus(term))
    }

    /// With one term more.
    pub fn plus(self, term: f64) -> Self {
        Self { value: self.value + term, magnitude: self.magnitude + term.abs() }
    }

    /// Times a number.
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, magnitude: self.magnitude * factor.abs() }
    }

    /// What a ReLU makes of it: an error of its input is one of its output at most.
    pub fn rectified(self) -> Self {
        Self { value: self.value.max(0.0), ..self }
    }
}

/// Sizes of images in row-major order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Map {
    /// Number of values.
    pub fn count(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Place of a value.
    pub fn index(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        ((n * self.height + y) * self.width + x) * self.channels + c
    }

    /// (image, row, column, channel) of a place.
    pub fn place(&self, index: usize) -> (usize, usize, usize, usize) {
        let (pixel, c) = (index / self.channels, index % self.channels);
        let (row, x) = (pixel / self.width, pixel % self.width);
        (row / self.height, row % self.height, x, c)
    }

    /// The sizes as dimensions of a tensor.
    pub fn dims(&self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }
}

/// A window sliding over images: what convolutions and pools have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sliding {
    pub input: Map,
    pub output: Map,
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    /// Rows above and columns to the left of the image that the window sees.
    pub before: (usize, usize),
}

impl Sliding {
    /// The image's row and column under place (i, j) of the window at (y, x) of the output; none in the padding.
    pub fn under(&self, (y, x): (usize, usize), (i, j): (usize, usize)) -> Option<(usize, usize)> {
        let row = (y * self.stride.0 + i).checked_sub(self.before.0)?;
        let column = (x * self.stride.1 + j).checked_sub(self.before.1)?;
        (row < self.input.height && column < self.input.width).then_some((row, column))
    }

    /// The output's row and column whose window has the image's (y, x) under its place (i, j); none if no window has.
    pub fn over(&self, (y, x): (usize, usize), (i, j): (usize, usize)) -> Option<(usize, usize)> {
        let exact = |from: usize, stride: usize| from.is_multiple_of(stride).then_some(from / stride);
        let row = exact((y + self.before.0).checked_sub(i)?, self.stride.0)?;
        let column = exact((x + self.before.1).checked_sub(j)?, self.stride.1)?;
        (row < self.output.height && column < self.output.width).then_some((row, column))
    }

    /// The places of the window, row by row.
    pub fn taps(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, columns) = self.kernel;
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }
}
