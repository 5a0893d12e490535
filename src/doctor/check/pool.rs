//! Pools, padding, and the shortcut that leaves pixels out.

use anyhow::Result;

use super::sliding;
use crate::doctor::lab::Lab;
use crate::doctor::reference::pool::{self as reference, Averages};
use crate::doctor::reference::{Map, Sum};
use crate::doctor::verdict::Growth;
use crate::ops::{self, Conv2d, Padding, Pool, Subsample};

/// The largest of each window.
pub fn max(lab: &mut Lab, input: Map, by: &Pool) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let window = sliding(input, by.kernel, by.stride, by.padding, windows(input, by)?, input.channels);
    let (y, places) = ops::max_pool(lab.backend(), &lab.map(&x)?, by)?;
    let depth = by.kernel.0 * by.kernel.1;
    lab.judge("max_pool", &y, Growth::None, depth, |i| Sum::single(reference::largest(&window, &x.data, i).0))?;
    let grad = lab.draw("gradient", &window.output.dims());
    let gradient = ops::max_pool_backward(lab.backend(), &places, &lab.map(&grad)?)?;
    let expected = reference::largest_gradient(&window, &x.data, &grad.data);
    lab.judge_all("max_pool.backward", &gradient, Growth::Sum, &expected)
}

/// The largest of each image and channel. What follows is the head, in `f32`.
pub fn global_max(lab: &mut Lab, input: Map) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let size = (input.height, input.width);
    let window = sliding(input, size, (1, 1), Padding::NONE, (1, 1), input.channels);
    let (y, places) = ops::global_max_pool(lab.backend(), &lab.map(&x)?)?;
    let depth = input.height * input.width;
    lab.judge("global_max_pool", &y, Growth::None, depth, |i| Sum::single(reference::largest(&window, &x.data, i).0))?;
    let grad = lab.draw("gradient", &[input.batch, input.channels]);
    let gradient = ops::max_pool_backward(lab.backend(), &places, &lab.map(&grad)?)?;
    let expected = reference::largest_gradient(&window, &x.data, &grad.data);
    lab.judge_all("global_max_pool.backward", &gradient, Growth::Few, &expected)
}

/// The mean of each window, padding counted or not.
pub fn average(lab: &mut Lab, input: Map, by: &Pool, count_padding: bool) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let window = sliding(input, by.kernel, by.stride, by.padding, windows(input, by)?, input.channels);
    let averages = Averages::of_windows(&window, count_padding);
    let y = ops::avg_pool(lab.backend(), &lab.map(&x)?, by, count_padding)?;
    let depth = by.kernel.0 * by.kernel.1;
    lab.judge("avg_pool", &y, Growth::Sum, depth, |i| averages.output(&x.data, i))?;
    let grad = lab.draw("gradient", &window.output.dims());
    let gradient = ops::avg_pool_backward(lab.backend(), &input.dims(), by, count_padding, &lab.map(&grad)?)?;
    lab.judge("avg_pool.backward", &gradient, Growth::Sum, depth, |i| averages.gradient(&grad.data, i))
}

/// The mean of nearly equal regions.
pub fn adaptive_average(lab: &mut Lab, input: Map, output: (usize, usize)) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let averages = Averages::of_regions(input, output);
    let y = ops::adaptive_avg_pool(lab.backend(), &lab.map(&x)?, output)?;
    let depth = (input.height * input.width).div_ceil(output.0 * output.1);
    lab.judge("adaptive_avg_pool", &y, Growth::Sum, depth, |i| averages.output(&x.data, i))?;
    let grad = lab.draw("gradient", &averages.output.dims());
    let gradient = ops::adaptive_avg_pool_backward(lab.backend(), &input.dims(), &lab.map(&grad)?)?;
    lab.judge("adaptive_avg_pool.backward", &gradient, Growth::Sum, depth, |i| averages.gradient(&grad.data, i))
}

/// The mean of each image and channel.
pub fn global_average(lab: &mut Lab, input: Map) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let averages = Averages::of_regions(input, (1, 1));
    let y = ops::global_avg_pool(lab.backend(), &lab.map(&x)?)?;
    lab.judge("global_avg_pool", &y, Growth::Sum, input.height * input.width, |i| averages.output(&x.data, i))?;
    let grad = lab.draw("gradient", &[input.batch, input.channels]);
    let gradient = ops::global_avg_pool_backward(lab.backend(), &input.dims(), &lab.map(&grad)?)?;
    lab.judge("global_avg_pool.backward", &gradient, Growth::Sum, 1, |i| averages.gradient(&grad.data, i))
}

/// Zeros around images.
pub fn zero_pad(lab: &mut Lab, input: Map, padding: Padding) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let Padding { top, bottom, left, right } = padding;
    let output = Map { height: input.height + top + bottom, width: input.width + left + right, ..input };
    let origin = |index: usize| reference::padded(&input, &output, (top, left), index);
    let value = |index: usize| Sum::single(origin(index).map_or(0.0, |place| x.data[place]));
    lab.judge("zero_pad", &ops::zero_pad(&lab.map(&x)?, padding)?, Growth::None, 1, value)?;
    let grad = lab.draw("gradient", &output.dims());
    let gradient = ops::zero_pad_backward(&lab.map(&grad)?, padding)?;
    let expected = reference::moved_gradient(input.count(), &grad.data, origin);
    lab.judge_all("zero_pad.backward", &gradient, Growth::None, &expected)
}

/// Every n-th pixel, with channels of zeros.
pub fn subsample(lab: &mut Lab, input: Map, by: Subsample) -> Result<()> {
    let x = lab.draw("input", &input.dims());
    let Subsample { stride, before, after } = by;
    let (height, width) = (input.height.div_ceil(stride), input.width.div_ceil(stride));
    let output = Map { height, width, channels: before + input.channels + after, ..input };
    let origin = |index: usize| reference::subsampled(&input, &output, stride, before, index);
    let value = |index: usize| Sum::single(origin(index).map_or(0.0, |place| x.data[place]));
    let y = ops::subsample(lab.backend(), &lab.map(&x)?, by)?;
    lab.judge("subsample", &y, Growth::None, 1, value)?;
    let grad = lab.draw("gradient", &output.dims());
    let gradient = ops::subsample_backward(lab.backend(), &input.dims(), &lab.map(&grad)?, by)?;
    let expected = reference::moved_gradient(input.count(), &grad.data, origin);
    lab.judge_all("subsample.backward", &gradient, Growth::None, &expected)
}

/// Positions (rows, columns) of a pool's window.
fn windows(input: Map, by: &Pool) -> Result<(usize, usize)> {
    Conv2d { stride: by.stride, padding: by.padding }.output_size((input.height, input.width), by.kernel)
}
