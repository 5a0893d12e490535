//! Which values a convolution multiplies: for each position of its output grid and each tap, a run of the source.

use crate::ops::conv2d::ConvShape;
use crate::ops::shape::Image;

/// A position of the output grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub image: usize,
    pub row: usize,
    pub column: usize,
}

/// Where each output position's taps lie in a source `[batch, height, width, channels]`.
#[derive(Clone, Debug)]
pub struct Addressing {
    source: Image,
    /// Output positions of an image (rows, columns).
    pub grid: (usize, usize),
    /// Source pixels from one output position to the next.
    step: (usize, usize),
    /// Each tap's source pixel (row, column) for the output position (0, 0).
    pub taps: Vec<(isize, isize)>,
    /// Consecutive values of a tap: the channels of one pixel or of several neighbours.
    pub run: usize,
}

impl Addressing {
    /// The input pixels that each output pixel sees. Without padding the pixels of a kernel row are one tap.
    pub fn of_taps(shape: &ConvShape) -> Self {
        let ConvShape { input, output, window } = *shape;
        let (rows, columns) = window.kernel;
        let unpadded = window.padding == crate::ops::Padding::NONE;
        let (taps_per_row, run) = if unpadded { (1, columns * input.channels) } else { (columns, input.channels) };
        let (top, left) = (window.padding.top as isize, window.padding.left as isize);
        let taps =
            (0..rows as isize).flat_map(|i| (0..taps_per_row as isize).map(move |j| (i - top, j - left))).collect();
        Self { source: input, grid: output.size(), step: window.stride, taps, run }
    }

    /// The output pixels that see the input pixels of one phase, i.e. those `first + index * stride`, and the kernel's
    /// taps `(row, column)` through which they do.
    pub fn of_phase(shape: &ConvShape, first: (usize, usize)) -> (Self, Vec<(usize, usize)>) {
        let ConvShape { input, output, window } = *shape;
        // An output row sees input row `first` through tap `i` if `first + before - i` is `stride` times its index.
        let axis = |first: usize, before: usize, kernel: usize, stride: usize| {
            (0..kernel).filter_map(move |i| {
                let distance = (first + before) as isize - i as isize;
                (distance.rem_euclid(stride as isize) == 0).then(|| (i, distance.div_euclid(stride as isize)))
            })
        };
        let mut taps = (vec![], vec![]);
        for (i, row) in axis(first.0, window.padding.top, window.kernel.0, window.stride.0) {
            for (j, column) in axis(first.1, window.padding.left, window.kernel.1, window.stride.1) {
                taps.0.push((row, column));
                taps.1.push((i, j));
            }
        }
        let grid =
            ((input.height - first.0).div_ceil(window.stride.0), (input.width - first.1).div_ceil(window.stride.1));
        (Self { source: output, grid, step: (1, 1), taps: taps.0, run: output.channels }, taps.1)
    }

    /// Whether each output position sees just the pixel at its place.
    pub fn is_pointwise(&self) -> bool {
        self.taps == [(0, 0)] && self.step == (1, 1) && self.grid == self.source.size()
    }

    /// The same positions, each of which sees `channels` values of its own.
    pub fn pointwise(&self, channels: usize) -> Self {
        let source = Image { channels, ..self.source.resized(self.grid) };
        Self { source, grid: self.grid, step: (1, 1), taps: vec![(0, 0)], run: channels }
    }

    /// Number of output positions in all images.
    pub fn rows(&self) -> usize {
        self.source.batch * self.grid.0 * self.grid.1
    }

    /// Number of values that an output position sees.
    pub fn depth(&self) -> usize {
        self.taps.len() * self.run
    }

    /// The output positions from number `row` on.
    #[inline]
    pub fn positions(&self, row: usize) -> impl Iterator<Item = Position> + use<> {
        let (rows, columns) = self.grid;
        let mut next = Position { image: row / (rows * columns), row: row / columns % rows, column: row % columns };
        std::iter::repeat_with(move || {
            let position = next;
            next.column += 1;
            if next.column == columns {
                (next.column, next.row) = (0, next.row + 1);
            }
            if next.row == rows {
                (next.row, next.image) = (0, next.image + 1);
            }
            position
        })
    }

    /// The run of values at a tap; `None` in the padding.
    #[inline(always)]
    pub fn values<'a>(&self, source: &'a [f32], at: Position, tap: (isize, isize)) -> Option<&'a [f32]> {
        self.start(at, tap).map(|start| &source[start..start + self.run])
    }

    /// Where the run of values at a tap begins; `None` in the padding.
    #[inline(always)]
    pub fn start(&self, at: Position, (row, column): (isize, isize)) -> Option<usize> {
        let Image { height, width, channels, .. } = self.source;
        // Negative numbers wrap around to large ones.
        let y = ((at.row * self.step.0) as isize + row) as usize;
        let x = ((at.column * self.step.1) as isize + column) as usize;
        if y >= height || x >= width {
            return None;
        }
        Some(((at.image * height + y) * width + x) * channels)
    }
}

/// Where output positions are written: offsets of positions in the result.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    first: usize,
    image: usize,
    row: usize,
    column: usize,
}

impl Target {
    /// All pixels of an image.
    pub fn whole(image: Image) -> Self {
        Self::phase(image, (0, 0), (1, 1))
    }

    /// The pixels `first + index * stride` of an image.
    pub fn phase(image: Image, first: (usize, usize), stride: (usize, usize)) -> Self {
        let line = image.width * image.channels;
        Self {
            first: first.0 * line + first.1 * image.channels,
            image: image.height * line,
            row: stride.0 * line,
            column: stride.1 * image.channels,
        }
    }

    #[inline]
    pub fn offset(&self, at: Position) -> usize {
        self.first + at.image * self.image + at.row * self.row + at.column * self.column
    }
}
