//! Convolution, its gradients, and the convolution that a batch norm is folded into. A dense layer is a convolution of one pixel.

use super::{Sliding, Sum};

/// A convolution of `input` with a kernel `[kernel_height, kernel_width, in, out]` and a bias `[out]`.
#[derive(Clone, Copy, Debug)]
pub struct Convolution<'a> {
    pub window: Sliding,
    pub input: &'a [f64],
    pub kernel: &'a [f64],
    pub bias: Option<&'a [f64]>,
}

impl Convolution<'_> {
    fn weight(&self, (i, j): (usize, usize), c: usize, o: usize) -> f64 {
        let (inputs, outputs) = (self.window.input.channels, self.window.output.channels);
        self.kernel[((i * self.window.kernel.1 + j) * inputs + c) * outputs + o]
    }

    /// The output's value at `index`.
    pub fn output(&self, index: usize) -> Sum {
        let Sliding { input, output, .. } = self.window;
        let (n, y, x, o) = output.place(index);
        let mut sum = self.bias.map_or(Sum::default(), |bias| Sum::single(bias[o]));
        for tap in self.window.taps() {
            let Some((row, column)) = self.window.under((y, x), tap) else { continue };
            for c in 0..input.channels {
                sum = sum.plus(self.input[input.index(n, row, column, c)] * self.weight(tap, c, o));
            }
        }
        sum
    }

    /// Value `index` of the input's gradient, for the gradient `grad` of the output.
    pub fn input_gradient(&self, grad: &[f64], index: usize) -> Sum {
        let Sliding { input, output, .. } = self.window;
        let (n, y, x, c) = input.place(index);
        let mut sum = Sum::default();
        for tap in self.window.taps() {
            let Some((row, column)) = self.window.over((y, x), tap) else { continue };
            for o in 0..output.channels {
                sum = sum.plus(grad[output.index(n, row, column, o)] * self.weight(tap, c, o));
            }
        }
        sum
    }

    /// Value `index` of the kernel's gradient.
    pub fn kernel_gradient(&self, grad: &[f64], index: usize) -> Sum {
        let Sliding { input, output, kernel, .. } = self.window;
        let (matrix, o) = (index / output.channels, index % output.channels);
        let (tap, c) = (matrix / input.channels, matrix % input.channels);
        let tap = (tap / kernel.1, tap % kernel.1);
        let mut sum = Sum::default();
        for n in 0..output.batch {
            for y in 0..output.height {
                for x in 0..output.width {
                    if let Some((row, column)) = self.window.under((y, x), tap) {
                        sum = sum.plus(self.input[input.index(n, row, column, c)] * grad[output.index(n, y, x, o)]);
                    }
                }
            }
        }
        sum
    }

    /// The bias' gradient of output channel `o`.
    pub fn bias_gradient(&self, grad: &[f64], o: usize) -> Sum {
        Sum::of(grad.iter().skip(o).step_by(self.window.output.channels).copied())
    }
}

/// A batch norm by stored statistics, `[channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub gamma: &'a [f64],
    pub beta: &'a [f64],
    pub mean: &'a [f64],
    pub variance: &'a [f64],
    pub eps: f64,
}

impl Stored<'_> {
    /// Value `index` of a kernel with the batch norm folded in.
    pub fn folded_kernel(&self, kernel: &[f64], index: usize) -> Sum {
        Sum::single(kernel[index] * self.scale(index % self.gamma.len()))
    }

    /// Channel `o` of a bias with the batch norm folded in.
    pub fn folded_bias(&self, bias: &[f64], o: usize) -> Sum {
        let scale = self.scale(o);
        Sum::of([bias[o] * scale, -self.mean[o] * scale, self.beta[o]])
    }

    fn scale(&self, o: usize) -> f64 {
        self.gamma[o] / (self.variance[o] + self.eps).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Map;
    use super::*;

    /// One image of 3 by 3 pixels and one channel, a kernel of 2 by 2: numbers that can be added up on paper.
    fn window(stride: usize, before: usize, output: usize) -> Sliding {
        Sliding {
            input: Map { batch: 1, height: 3, width: 3, channels: 1 },
            output: Map { batch: 1, height: output, width: output, channels: 1 },
            kernel: (2, 2),
            stride: (stride, stride),
            before: (before, before),
        }
    }

    const IMAGE: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    const KERNEL: [f64; 4] = [1.0, -1.0, 2.0, 0.5];

    fn values(count: usize, value: impl Fn(usize) -> Sum) -> Vec<f64> {
        (0..count).map(|i| value(i).value).collect()
    }

    #[test]
    fn a_convolution_and_its_gradients_are_those_on_paper() {
        let conv = Convolution { window: window(1, 0, 2), input: &IMAGE, kernel: &KERNEL, bias: Some(&[10.0]) };
        // 1 - 2 + 2 * 4 + 0.5 * 5 + 10, and so on
        assert_eq!(values(4, |i| conv.output(i)), [19.5, 22.0, 27.0, 29.5]);
        assert_eq!(conv.output(0).magnitude, 1.0 + 2.0 + 8.0 + 2.5 + 10.0);
        let grad = [1.0, 0.0, 0.0, 2.0];
        assert_eq!(values(9, |i| conv.input_gradient(&grad, i)), [1.0, -1.0, 0.0, 2.0, 0.5 + 2.0, -2.0, 0.0, 4.0, 1.0]);
        // Of each tap: the pixel under it in the first window, and twice that in the last.
        assert_eq!(values(4, |i| conv.kernel_gradient(&grad, i)), [11.0, 14.0, 20.0, 23.0]);
        assert_eq!(conv.bias_gradient(&grad, 0).value, 3.0);
    }

    #[test]
    fn stride_and_padding_move_the_window() {
        let conv = Convolution { window: window(2, 1, 2), input: &IMAGE, kernel: &KERNEL, bias: None };
        // The first window sees only pixel 1, at its last place; the last one 5, 6, 8, 9.
        assert_eq!(values(4, |i| conv.output(i)), [0.5, 4.0 + 1.5, -4.0 + 3.5, 5.0 - 6.0 + 16.0 + 4.5]);
        assert_eq!(values(4, |i| conv.kernel_gradient(&[1.0, 0.0, 0.0, 0.0], i)), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(conv.input_gradient(&[0.0, 0.0, 0.0, 1.0], 4).value, 1.0);
    }

    #[test]
    fn channels_are_the_last_axis_of_images_and_kernels() {
        let map = |channels| Map { batch: 1, height: 1, width: 1, channels };
        let window = Sliding { input: map(2), output: map(3), kernel: (1, 1), stride: (1, 1), before: (0, 0) };
        let kernel = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        let dense = Convolution { window, input: &[1.0, -1.0], kernel: &kernel, bias: None };
        assert_eq!(values(3, |i| dense.output(i)), [-9.0, -18.0, -27.0]);
        assert_eq!(values(2, |i| dense.input_gradient(&[1.0, 0.0, 1.0], i)), [4.0, 40.0]);
        assert_eq!(values(6, |i| dense.kernel_gradient(&[1.0, 0.0, 2.0], i)), [1.0, 0.0, 2.0, -1.0, 0.0, -2.0]);
    }

    #[test]
    fn a_folded_batch_norm_scales_and_shifts() {
        let stored = Stored { gamma: &[2.0], beta: &[1.0], mean: &[3.0], variance: &[3.0], eps: 1.0 };
        assert_eq!(stored.folded_kernel(&[5.0], 0).value, 5.0);
        assert_eq!(stored.folded_bias(&[4.0], 0).value, 2.0);
    }
}
