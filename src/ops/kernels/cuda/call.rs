//! What cuDNN is asked for.

/// Which of the three convolutions of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Of the input and the kernel.
    Forward,
    /// Of the kernel and the output's gradient: the input's gradient.
    InputGradient,
    /// Of the input and the output's gradient: the kernel's gradient.
    KernelGradient,
}

/// A convolution as cuDNN sees it; images are `[batch, height, width, channels]`, kernels `[out, height, width, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub input: [usize; 4],
    pub output: [usize; 4],
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    /// On both sides, (vertical, horizontal).
    pub padding: (usize, usize),
}

impl Shape {
    /// Of the kernel.
    pub fn kernel_dims(&self) -> [usize; 4] {
        [self.output[3], self.kernel.0, self.kernel.1, self.input[3]]
    }
}
