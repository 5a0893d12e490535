//! Where operations are tried: a form of them on a device, the judging of their results, and the hook that breaks one.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::reference::Sum;
use super::values::Values;
use super::verdict::{BF16, F32, Growth, Worst, sample, worst};
use crate::error::{suggestion, usage};
use crate::ops::{Backend, Bf16Support, Precision, bf16_support, round_products};

/// All that is checked: an operation, or one of the gradients that its backward half gives. The hook takes these names.
pub const NAMES: &[&str] = &[
    "data.pixels",
    "data.blend",
    "data.features",
    "conv2d",
    "conv2d.packed",
    "conv2d.backward_input",
    "conv2d.backward_kernel",
    "conv2d.backward_bias",
    "fold_batch_norm.kernel",
    "fold_batch_norm.bias",
    "batch_norm_train",
    "batch_norm_train.mean",
    "batch_norm_train.variance",
    "batch_norm_train.backward_input",
    "batch_norm_train.backward_gamma",
    "batch_norm_train.backward_beta",
    "update_running.mean",
    "update_running.variance",
    "batch_norm_inference",
    "batch_norm_inference.backward_input",
    "batch_norm_inference.backward_gamma",
    "batch_norm_inference.backward_beta",
    "add",
    "add_relu",
    "relu",
    "relu.backward",
    "leaky_relu",
    "leaky_relu.backward",
    "max_pool",
    "max_pool.backward",
    "global_max_pool",
    "global_max_pool.backward",
    "avg_pool",
    "avg_pool.backward",
    "adaptive_avg_pool",
    "adaptive_avg_pool.backward",
    "global_avg_pool",
    "global_avg_pool.backward",
    "zero_pad",
    "zero_pad.backward",
    "subsample",
    "subsample.backward",
    "dense",
    "dense.backward_input",
    "dense.backward_kernel",
    "dense.backward_bias",
    "dropout",
    "dropout.backward",
    "binary_logits",
    "binary_logits.backward",
    "sigmoid",
    "sigmoid.backward",
    "tanh",
    "tanh.backward",
    "softmax",
    "softmax.backward",
    "log_softmax",
    "log_softmax.backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy.backward",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy.backward",
    "optimizer.sgd",
    "optimizer.adam",
    "optimizer.rmsprop",
    "step.logits",
    "step.gradients",
    "step.statistics",
    "step.parameters",
];

/// The check that the hook breaks, if there is one: its results are changed before they are judged, those of an operation by one percent,
/// as if the operation itself were wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hook(Option<&'static str>);

impl Hook {
    /// Breaks the check of that name.
    ///
    /// # Errors
    /// A usage error if there is none.
    pub fn breaking(name: &str) -> Result<Self> {
        match NAMES.iter().find(|known| **known == name) {
            Some(known) => Ok(Self(Some(known))),
            None => {
                let near = suggestion(name, NAMES);
                Err(usage(format!("there is no check {name:?} to break{near}\n  checks: {}", NAMES.join(", "))))
            }
        }
    }

    /// The check that is broken.
    pub fn name(self) -> Option<&'static str> {
        self.0
    }

    /// What the device gave, or what it would have given with a broken operation.
    pub fn pass(self, name: &str, found: f64, factor: f64) -> f64 {
        if self.0 == Some(name) { found * factor } else { found }
    }
}

/// What the hook makes of a value of an operation's result.
const BROKEN: f64 = 1.01;

/// One form of the operations on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Our own kernels, `f32`.
    NativeF32,
    /// Our own kernels, maps in bfloat16.
    NativeBf16,
    /// candle's operations, `f32`.
    ComposedF32,
    /// candle's operations, `f32` whose products may be rounded to TF32: of values that it holds exactly, so that the limits are those of `f32`.
    ComposedTf32,
    /// candle's operations, maps in bfloat16.
    ComposedBf16,
}

impl Form {
    /// In the order of the tables.
    pub const ALL: [Self; 5] =
        [Self::NativeF32, Self::NativeBf16, Self::ComposedF32, Self::ComposedTf32, Self::ComposedBf16];

    /// All that a device runs.
    pub fn of(device: &Device) -> &'static [Self] {
        match (Backend::for_device(device), bf16_support(device)) {
            (Backend::Native, _) => &[Self::NativeF32, Self::NativeBf16, Self::ComposedF32, Self::ComposedBf16],
            (Backend::Composed, Ok(Bf16Support::None) | Err(_)) => &[Self::ComposedF32],
            (Backend::Composed, Ok(_)) if device.is_cuda() => {
                &[Self::ComposedF32, Self::ComposedTf32, Self::ComposedBf16]
            }
            (Backend::Composed, Ok(_)) => &[Self::ComposedF32, Self::ComposedBf16],
        }
    }

    /// As tables name it.
    pub fn title(self) -> &'static str {
        match self {
            Self::NativeF32 => "native kernels, f32",
            Self::NativeBf16 => "native kernels, bf16",
            Self::ComposedF32 => "composed operations, f32",
            Self::ComposedTf32 => "composed operations, tf32",
            Self::ComposedBf16 => "composed operations, bf16",
        }
    }

    /// Which operations it calls.
    pub fn backend(self) -> Backend {
        match self {
            Self::NativeF32 | Self::NativeBf16 => Backend::Native,
            Self::ComposedF32 | Self::ComposedTf32 | Self::ComposedBf16 => Backend::Composed,
        }
    }

    /// The numbers of maps.
    pub fn precision(self) -> Precision {
        match self {
            Self::NativeBf16 | Self::ComposedBf16 => Precision::Bf16,
            Self::NativeF32 | Self::ComposedF32 => Precision::F32,
            Self::ComposedTf32 => Precision::Tf32,
        }
    }
}

/// One result that was judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// One of [`NAMES`].
    pub op: &'static str,
    pub form: Form,
    /// Shapes and settings.
    pub case: String,
    /// Values that were compared.
    pub compared: usize,
    /// Values that the result has.
    pub values: usize,
    pub worst: Worst,
    pub ok: bool,
}

/// Tries operations in one form and keeps what was found.
pub struct Lab {
    pub device: Device,
    pub form: Form,
    /// Multiplications that the reference may spend on one result.
    pub budget: usize,
    pub hook: Hook,
    /// Shapes and settings of what is tried now.
    pub case: String,
    pub checks: Vec<Check>,
}

impl Lab {
    /// One without results; from now on products are rounded as the form says.
    pub fn new(device: &Device, form: Form, budget: usize, hook: Hook) -> Self {
        round_products(form.precision());
        Self { device: device.clone(), form, budget, hook, case: String::new(), checks: Vec::new() }
    }

    /// Whether values are rounded to bfloat16.
    pub fn short(&self) -> bool {
        self.form.precision() == Precision::Bf16
    }

    /// The operations' form.
    pub fn backend(&self) -> Backend {
        self.form.backend()
    }

    /// Random values of the form's numbers, the same for every form of the same numbers.
    pub fn draw(&self, name: &str, dims: &[usize]) -> Values {
        Values::drawn(name, dims, self.form.precision() != Precision::F32)
    }

    /// Values on the device in the numbers of maps.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn map(&self, values: &Values) -> Result<Tensor> {
        values.tensor(&self.device, if self.short() { DType::BF16 } else { DType::F32 })
    }

    /// Values on the device in the numbers of parameters and vectors.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn vector(&self, values: &Values) -> Result<Tensor> {
        values.tensor(&self.device, DType::F32)
    }

    /// Compares a result with what the reference expects at each place; `depth` is what one value of the reference costs in
    /// multiplications. Where all of them would cost more than the budget, a sample is compared, of 256 values at least.
    ///
    /// # Errors
    /// If the result cannot be read.
    pub fn judge(
        &mut self,
        op: &'static str,
        result: &Tensor,
        growth: Growth,
        depth: usize,
        expected: impl Fn(usize) -> Sum + Sync,
    ) -> Result<()> {
        let mut found = Values::of(result)?.data;
        if self.hook.name() == Some(op) {
            found.iter_mut().for_each(|value| *value = self.hook.pass(op, *value, BROKEN));
        }
        let stored = if result.dtype() == DType::BF16 { BF16 } else { F32 };
        let mut places = sample(found.len(), (self.budget / depth.max(1)).max(256));
        // What is no number is found wherever it is.
        places.extend(found.iter().position(|value| !value.is_finite()));
        if let Some(worst) = worst(&found, &places, growth, stored, expected) {
            let (compared, values, case, form) = (places.len(), found.len(), self.case.clone(), self.form);
            self.checks.push(Check { op, form, case, compared, values, worst, ok: worst.ok() });
        }
        Ok(())
    }

    /// [`Self::judge`] of a result whose expected values have been computed all together.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_all(&mut self, op: &'static str, result: &Tensor, growth: Growth, expected: &[Sum]) -> Result<()> {
        // A result of another size is wrong at the first place that is missing or too many.
        let missing = Sum { value: f64::NAN, magnitude: 1.0 };
        self.judge(op, result, growth, 1, |index| expected.get(index).copied().unwrap_or(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UsageError;

    #[test]
    fn the_hook_breaks_what_it_names_and_nothing_else() {
        let hook = Hook::breaking("max_pool").unwrap();
        assert_eq!((hook.pass("max_pool", 2.0, BROKEN), hook.pass("max_pool.backward", 2.0, BROKEN)), (2.02, 2.0));
        let error = Hook::breaking("max_pol").unwrap_err();
        assert!(error.is::<UsageError>() && error.to_string().contains("did you mean \"max_pool\"?"), "{error}");
    }

    #[test]
    fn a_result_of_the_wrong_size_or_with_a_hole_is_off() {
        let mut lab = Lab::new(&Device::Cpu, Form::NativeF32, 1000, Hook::default());
        let expected = vec![Sum::single(1.0); 4000];
        let mut data = vec![1.0f32; 4000];
        let judged = |lab: &mut Lab, data: &[f32]| {
            let tensor = Tensor::from_slice(data, data.len(), &Device::Cpu).unwrap();
            lab.judge_all("relu", &tensor, Growth::Few, &expected).unwrap();
            lab.checks.pop().unwrap()
        };
        assert!(judged(&mut lab, &data).ok);
        data[1234] = f32::NAN;
        let check = judged(&mut lab, &data);
        assert!(!check.ok && check.worst.index == 1234, "{check:?}");
        assert!(!judged(&mut lab, &[1.0; 4001]).ok);
    }
}
