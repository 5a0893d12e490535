//! Operations that look at one value at a time.

use anyhow::Result;
use candle_core::Tensor;

use crate::doctor::lab::Lab;
use crate::doctor::reference::{Sum, pointwise as reference};
use crate::doctor::values::Values;
use crate::doctor::verdict::Growth;
use crate::ops;

/// A sum of two maps, rectified or not. Its gradient is the one from above, or [`relu`]'s.
pub fn add(lab: &mut Lab, dims: &[usize], relu: bool) -> Result<()> {
    let (a, b) = (lab.draw("input", dims), lab.draw("other", dims));
    let (x, y) = (lab.map(&a)?, lab.map(&b)?);
    let expected = |index: usize| Sum::of([a.data[index], b.data[index]]);
    if relu {
        let sum = ops::add_relu(lab.backend(), &x, &y)?;
        lab.judge("add_relu", &sum, Growth::Few, 1, |index| expected(index).rectified())?;
        return relu_backward(lab, dims);
    }
    lab.judge("add", &ops::add(lab.backend(), &x, &y)?, Growth::Few, 1, expected)
}

/// A ReLU and its gradient.
pub fn relu(lab: &mut Lab, dims: &[usize]) -> Result<()> {
    let x = lab.draw("input", dims);
    let y = ops::relu(lab.backend(), &lab.map(&x)?)?;
    lab.judge("relu", &y, Growth::None, 1, |index| Sum::single(reference::relu(x.data[index])))?;
    relu_backward(lab, dims)
}

fn relu_backward(lab: &mut Lab, dims: &[usize]) -> Result<()> {
    let (output, grad) = (lab.draw("input", dims).map(lab.short(), |v| v.max(0.0)), lab.draw("gradient", dims));
    let gradient = ops::relu_backward(lab.backend(), &lab.map(&output)?, &lab.map(&grad)?)?;
    lab.judge("relu.backward", &gradient, Growth::None, 1, |index| {
        Sum::single(reference::relu_gradient(output.data[index], grad.data[index]))
    })
}

/// A leaky ReLU and its gradient.
pub fn leaky_relu(lab: &mut Lab, dims: &[usize], slope: f64) -> Result<()> {
    let (x, grad) = (lab.draw("input", dims), lab.draw("gradient", dims));
    let (input, above) = (lab.map(&x)?, lab.map(&grad)?);
    let y = ops::leaky_relu(lab.backend(), &input, slope)?;
    lab.judge("leaky_relu", &y, Growth::Few, 1, |index| Sum::single(reference::leaky_relu(x.data[index], slope)))?;
    let gradient = ops::leaky_relu_backward(lab.backend(), &input, &above, slope)?;
    lab.judge("leaky_relu.backward", &gradient, Growth::Few, 1, |index| {
        Sum::single(reference::leaky_relu_gradient(x.data[index], grad.data[index], slope))
    })
}

/// Dropout: the same elements as everywhere.
pub fn dropout(lab: &mut Lab, dims: &[usize], rate: f64) -> Result<()> {
    const KEY: u64 = 11;
    let (x, grad) = (lab.draw("input", dims), lab.draw("gradient", dims));
    let expected =
        |values: &Values, index: usize| Sum::single(values.data[index] * reference::dropout_factor(rate, KEY, index));
    let y = ops::dropout(&lab.map(&x)?, rate, KEY)?;
    lab.judge("dropout", &y, Growth::Few, 1, |index| expected(&x, index))?;
    let gradient = ops::dropout_backward(&lab.map(&grad)?, rate, KEY)?;
    lab.judge("dropout.backward", &gradient, Growth::Few, 1, |index| expected(&grad, index))
}

/// One logit as two.
pub fn binary_logits(lab: &mut Lab, dims: &[usize]) -> Result<()> {
    let rows = dims.first().copied().unwrap_or(1);
    let (z, grad) = (lab.draw("input", &[rows, 1]), lab.draw("gradient", &[rows, 2]));
    let half = |index: usize| if index.is_multiple_of(2) { -0.5 } else { 0.5 };
    let y = ops::binary_logits(lab.backend(), &lab.vector(&z)?)?;
    lab.judge("binary_logits", &y, Growth::Few, 1, |index| Sum::single(z.data[index / 2] * half(index)))?;
    let gradient = ops::binary_logits_backward(lab.backend(), &lab.vector(&grad)?)?;
    lab.judge("binary_logits.backward", &gradient, Growth::Few, 1, |row| {
        Sum::of([-0.5 * grad.data[2 * row], 0.5 * grad.data[2 * row + 1]])
    })
}

/// Sigmoid and tanh, their gradients from their outputs.
pub fn saturating(lab: &mut Lab, dims: &[usize]) -> Result<()> {
    let x = lab.draw("input", dims).map(false, |v| 4.0 * v);
    let grad = lab.draw("gradient", dims);
    let (input, above) = (lab.vector(&x)?, lab.vector(&grad)?);
    let single = |value: f64| Sum::single(value);
    lab.judge("sigmoid", &ops::sigmoid(&input)?, Growth::Sum, 1, |i| single(reference::sigmoid(x.data[i])))?;
    lab.judge("tanh", &ops::tanh(&input)?, Growth::Sum, 1, |i| single(x.data[i].tanh()))?;
    // An output in (0, 1), which both have.
    let output = lab.draw("output", dims).map(false, |v| v.abs());
    let y = lab.vector(&output)?;
    let of = |i: usize, factor: f64, magnitude: f64| Sum {
        value: grad.data[i] * factor,
        magnitude: (grad.data[i] * magnitude).abs(),
    };
    lab.judge("sigmoid.backward", &ops::sigmoid_backward(&y, &above)?, Growth::Few, 1, |i| {
        let y = output.data[i];
        of(i, y * (1.0 - y), y * (1.0 + y))
    })?;
    lab.judge("tanh.backward", &ops::tanh_backward(&y, &above)?, Growth::Few, 1, |i| {
        let square = output.data[i].powi(2);
        of(i, 1.0 - square, 1.0 + square)
    })
}

/// Softmax and its logarithm over rows, their gradients from their outputs.
pub fn shares(lab: &mut Lab, rows: usize, classes: usize) -> Result<()> {
    let x = lab.draw("input", &[rows, classes]).map(false, |v| 4.0 * v);
    let grad = lab.draw("gradient", &[rows, classes]);
    let (input, above) = (lab.vector(&x)?, lab.vector(&grad)?);
    let by_row = |values: &Values, f: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
        values.data.chunks(classes).flat_map(f).collect()
    };
    let (softmax, log_softmax) = (by_row(&x, &reference::softmax), by_row(&x, &reference::log_softmax));
    lab.judge("softmax", &ops::softmax(&input)?, Growth::OneSign(classes), 1, |i| Sum::single(softmax[i]))?;
    lab.judge("log_softmax", &ops::log_softmax(&input)?, Growth::OneSign(classes), 1, |i| {
        // The largest logit and the logarithm of the sum were taken off.
        Sum { value: log_softmax[i], magnitude: log_softmax[i].abs() + 8.0 }
    })?;
    let gradient = |lab: &mut Lab,
                    op: &'static str,
                    output: &[f64],
                    backward: fn(&Tensor, &Tensor) -> Result<Tensor>,
                    expected: fn(&[f64], &[f64], usize) -> Sum| {
        let output = Values { dims: vec![rows, classes], data: output.to_vec() }.map(false, |v| v);
        let result = backward(&lab.vector(&output)?, &above)?;
        lab.judge(op, &result, Growth::Sum, classes, |i| {
            let (row, c) = (i / classes * classes, i % classes);
            expected(&output.data[row..row + classes], &grad.data[row..row + classes], c)
        })
    };
    gradient(lab, "softmax.backward", &softmax, ops::softmax_backward, reference::softmax_gradient)?;
    gradient(lab, "log_softmax.backward", &log_softmax, ops::log_softmax_backward, reference::log_softmax_gradient)
}
