//! What no layer of the networks calls: operations that only heads, losses or other networks use, losses, and updates.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Tensor;

use super::{data, layer, pointwise, pool, shape};
use crate::doctor::cases::{IMAGES, ROWS};
use crate::doctor::lab::Lab;
use crate::doctor::reference::update::Update;
use crate::doctor::reference::{Map, Sum, loss};
use crate::doctor::values::Values;
use crate::doctor::verdict::Growth;
use crate::models::Op;
use crate::ops::{
    self, CrossEntropy, LossConvention, Padding, Pool, Precision, Reduction, SigmoidCrossEntropy, Subsample,
};
use crate::recipe::Convention;
use crate::train::optimizer::{Optimizer, OptimizerConfig, Rule};

/// Classes of ImageNet, the most that a head here has.
const CLASSES: usize = 1000;

/// Tries all of it.
///
/// # Errors
/// If the device refuses.
pub fn beside(lab: &mut Lab) -> Result<()> {
    maps(lab)?;
    // The rest is `f32` in any precision, and has been tried in that.
    if lab.form.precision() != Precision::F32 {
        return Ok(());
    }
    data::run(lab)?;
    vectors(lab)?;
    losses(lab)?;
    for update in [
        Update::Sgd { lr: 0.1, momentum: 0.9, nesterov: true },
        Update::Adam { lr: 0.1, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 },
        Update::RmsProp { lr: 0.1, rho: 0.9, epsilon: 1e-7 },
    ] {
        updates(lab, update)?;
    }
    Ok(())
}

/// At the shape of a late stage, and at one whose sizes and channels are no multiples of anything.
fn maps(lab: &mut Lab) -> Result<()> {
    for (height, width, channels) in [(14, 14, 256), (11, 9, 37)] {
        let input = Map { batch: IMAGES, height, width, channels };
        let dims = input.dims();
        lab.case = shape(&dims);
        let window = Pool { kernel: (3, 3), stride: (2, 2), padding: Padding::symmetric(1) };
        pool::average(lab, input, &window, true)?;
        pool::average(lab, input, &window, false)?;
        for op in [
            Op::LeakyRelu(0.2),
            Op::Relu,
            Op::MaxPool(window),
            Op::GlobalMaxPool,
            Op::GlobalAvgPool,
            Op::AdaptiveAvgPool(7, 7),
            Op::ZeroPad(Padding { top: 1, bottom: 2, left: 0, right: 3 }),
            Op::Subsample(Subsample { stride: 2, before: 8, after: 8 }),
        ] {
            layer(lab, op, &dims)?;
        }
        for relu in [false, true] {
            pointwise::add(lab, &dims, relu)?;
        }
    }
    Ok(())
}

fn vectors(lab: &mut Lab) -> Result<()> {
    lab.case = format!("{ROWS}x{CLASSES}");
    for op in [Op::Relu, Op::Dropout(0.3)] {
        layer(lab, op, &[ROWS, CLASSES])?;
    }
    pointwise::saturating(lab, &[ROWS, CLASSES])?;
    pointwise::shares(lab, ROWS, CLASSES)?;
    lab.case = format!("{ROWS}x1");
    layer(lab, Op::BinaryLogits, &[ROWS, 1])
}

fn losses(lab: &mut Lab) -> Result<()> {
    lab.case = format!("{ROWS}x{CLASSES}");
    let logits = Values::drawn("logits", &[ROWS, CLASSES], false).map(false, |v| 4.0 * v);
    let input = lab.vector(&logits)?;
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 31 % CLASSES as u32).collect();
    let smoothing = 0.1;
    let settings = CrossEntropy {
        label_smoothing: smoothing,
        class_weights: None,
        reduction: Reduction::Mean,
        convention: LossConvention::Keras,
    };
    let found = ops::softmax_cross_entropy(&input, &labels, &settings)?;
    let expected = loss::softmax_cross_entropy(&logits.data, &labels, CLASSES, smoothing);
    lab.judge_all("softmax_cross_entropy", &found.0, Growth::Few, &[expected.0])?;
    lab.judge_all("softmax_cross_entropy.backward", &found.1, Growth::Few, &expected.1)?;
    let targets = Values::drawn("targets", &[ROWS, CLASSES], false).map(false, |v| if v > 0.0 { 1.0 } else { 0.0 });
    let settings = SigmoidCrossEntropy { label_smoothing: 0.0, pos_weight: None, reduction: Reduction::Mean };
    let found = ops::sigmoid_cross_entropy(&input, &lab.vector(&targets)?, &settings)?;
    let expected = loss::sigmoid_cross_entropy(&logits.data, &targets.data);
    lab.judge_all("sigmoid_cross_entropy", &found.0, Growth::Few, &[expected.0])?;
    lab.judge_all("sigmoid_cross_entropy.backward", &found.1, Growth::Few, &expected.1)
}

/// Two updates of the same parameters by different gradients.
fn updates(lab: &mut Lab, update: Update) -> Result<()> {
    const COUNT: usize = 10_007;
    let (name, rule, lr) = match update {
        Update::Sgd { lr, momentum, nesterov } => {
            ("optimizer.sgd", Rule::Sgd { momentum, nesterov, dampening: 0.0 }, lr)
        }
        Update::Adam { lr, beta_1, beta_2, epsilon } => {
            ("optimizer.adam", Rule::Adam { beta_1, beta_2, epsilon, amsgrad: false }, lr)
        }
        Update::RmsProp { lr, rho, epsilon } => {
            ("optimizer.rmsprop", Rule::RmsProp { rho, epsilon, momentum: 0.0, centered: false }, lr)
        }
    };
    lab.case = format!("{COUNT} parameters, 2 updates");
    let values = Values::drawn("parameter", &[COUNT], false);
    let gradients = ["first", "second"].map(|name| Values::drawn(name, &[COUNT], false));
    let mut parameter = lab.vector(&values)?;
    let config = OptimizerConfig::new(rule, Convention::Keras);
    let mut optimizer = Optimizer::with_backend(config, lab.backend());
    for gradient in &gradients {
        let gradient: Tensor = lab.vector(gradient)?;
        let gradients = BTreeMap::from([("p".to_owned(), gradient)]);
        optimizer.step(&mut [("p", &mut parameter)], &gradients, lr)?;
    }
    let [first, second] = &gradients;
    let expected = |index: usize| -> Sum { update.apply(values.data[index], &[first.data[index], second.data[index]]) };
    lab.judge(name, &parameter, Growth::Sum, 1, expected)
}
