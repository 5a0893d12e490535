//! Each operation forwards and backwards on the device, and what the reference says to it.

mod beside;
mod conv;
mod data;
mod norm;
mod pointwise;
mod pool;

use anyhow::{Result, anyhow, ensure};

use super::cases::{Case, Work};
use super::lab::Lab;
use super::reference::{Map, Sliding};
use crate::models::Op;
use crate::ops::{Needed, Padding};

pub use beside::beside;

/// Gradients of input and parameters.
const BOTH: Needed = Needed { input: true, parameters: true };

/// Tries what a network calls.
///
/// # Errors
/// If the device refuses: no room, no such operation.
pub fn run(lab: &mut Lab, case: &Case) -> Result<()> {
    lab.case = describe(case);
    // What has lost height and width is `f32` in any precision, and has been tried in that.
    let is_map = case.input.len() == 4;
    if lab.short() && !is_map {
        return Ok(());
    }
    match case.work {
        Work::Conv { kernel, config, bias, relu, folds, adds } => {
            let call = conv::Call { input: map(&case.input)?, kernel, config, bias, relu, adds };
            conv::run(lab, &call, folds)?;
            if folds { conv::fold(lab, kernel) } else { Ok(()) }
        }
        Work::BatchNorm { layer, live: true, relu } => norm::by_batch(lab, &case.input, &layer, relu),
        Work::BatchNorm { layer, live: false, relu } => norm::stored(lab, &case.input, &layer, relu),
        Work::Add { relu } => pointwise::add(lab, &case.input, relu),
        Work::Layer(op) => layer(lab, op, &case.input),
    }
}

fn layer(lab: &mut Lab, op: Op, input: &[usize]) -> Result<()> {
    match op {
        Op::Relu => pointwise::relu(lab, input),
        Op::LeakyRelu(slope) => pointwise::leaky_relu(lab, input, slope),
        Op::Dropout(rate) => pointwise::dropout(lab, input, rate),
        Op::BinaryLogits => pointwise::binary_logits(lab, input),
        Op::MaxPool(by) => pool::max(lab, map(input)?, &by),
        Op::GlobalMaxPool => pool::global_max(lab, map(input)?),
        Op::GlobalAvgPool => pool::global_average(lab, map(input)?),
        Op::AdaptiveAvgPool(height, width) => pool::adaptive_average(lab, map(input)?, (height, width)),
        Op::ZeroPad(padding) => pool::zero_pad(lab, map(input)?, padding),
        Op::Subsample(by) => pool::subsample(lab, map(input)?, by),
        Op::Dense { units } => {
            let &[rows, inputs] = input else { return Err(anyhow!("a dense layer of {input:?}")) };
            conv::dense(lab, rows, inputs, units)
        }
        // A reshape.
        Op::Flatten | Op::Input => Ok(()),
        Op::Conv { .. } | Op::BatchNorm(_) | Op::Add => Err(anyhow!("{} has a step of its own", op.class())),
    }
}

fn map(dims: &[usize]) -> Result<Map> {
    let &[batch, height, width, channels] = dims else { return Err(anyhow!("{dims:?} are no images")) };
    ensure!(batch * height * width * channels > 0, "images without values: {dims:?}");
    Ok(Map { batch, height, width, channels })
}

/// A window over images; the output's size follows from `windows`, (rows, columns) of it.
fn sliding(
    input: Map,
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: Padding,
    windows: (usize, usize),
    channels: usize,
) -> Sliding {
    let output = Map { batch: input.batch, height: windows.0, width: windows.1, channels };
    Sliding { input, output, kernel, stride, before: (padding.top, padding.left) }
}

/// Shapes and settings as the table shows them.
fn describe(case: &Case) -> String {
    let input = shape(&case.input);
    let then = |relu: bool| if relu { " + relu" } else { "" };
    match case.work {
        Work::Conv { kernel: [height, width, _, out], config, relu, folds, adds, .. } => {
            let stride = if config.stride == (1, 1) { String::new() } else { format!("/{}", config.stride.0) };
            let norm = if folds { " + bn" } else { "" };
            let add = if adds { " + add" } else { "" };
            format!("{input}, {height}x{width}{stride} to {out}{norm}{add}{}", then(relu))
        }
        Work::BatchNorm { relu, .. } | Work::Add { relu } => format!("{input}{}", then(relu)),
        Work::Layer(Op::MaxPool(pool)) => format!("{input}, {}x{}/{}", pool.kernel.0, pool.kernel.1, pool.stride.0),
        Work::Layer(Op::AdaptiveAvgPool(height, width)) => format!("{input} to {height}x{width}"),
        Work::Layer(Op::Dense { units }) => format!("{input} to {units}"),
        Work::Layer(Op::Subsample(by)) => format!("{input}, /{}", by.stride),
        Work::Layer(_) => input,
    }
}

fn shape(dims: &[usize]) -> String {
    dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}
