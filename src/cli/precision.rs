//! In which numbers a network computes: the option, and what it comes to on this machine.

use anyhow::{Result, anyhow};
use candle_core::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::output::device_name;
use crate::error::usage;
use crate::ops::{Bf16Support, Precision, bf16_support};
use crate::recipe::{PrecisionChoice, Recipe, Train};

/// Reads one of the words of `train.precision`.
pub fn parser() -> impl TypedValueParser<Value = PrecisionChoice> {
    let words = PrecisionChoice::WORDS;
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word)).try_map(move |text| {
        let known = words.iter().find(|(word, _)| *word == text);
        known.map(|(_, choice)| *choice).ok_or_else(|| anyhow!("there is no precision {text:?}"))
    })
}

/// What a choice comes to on a device of this machine.
///
/// # Errors
/// A usage error if the device does not compute in these numbers.
pub fn resolve(choice: PrecisionChoice, device: &Device) -> Result<Precision> {
    on(choice, device_name(device), bf16_support(device)?)
}

/// [`resolve`] as a recipe says it: never `auto`.
///
/// # Errors
/// As [`resolve`].
pub fn settle(choice: PrecisionChoice, device: &Device) -> Result<PrecisionChoice> {
    Ok(match resolve(choice, device)? {
        Precision::F32 => PrecisionChoice::F32,
        Precision::Tf32 => PrecisionChoice::Tf32,
        Precision::Bf16 => PrecisionChoice::Bf16,
    })
}

/// The recipe with what its precision comes to on the device: what a run records, and a resumed run goes on with.
///
/// # Errors
/// As [`resolve`].
pub fn settled(recipe: &Recipe, device: &Device) -> Result<Recipe> {
    let precision = settle(recipe.train.precision, device)?;
    Ok(Recipe { train: Train { precision, ..recipe.train.clone() }, ..recipe.clone() })
}

/// What to tell the user of a training on a device; nothing of the usual precision.
pub fn note(precision: Precision, device: &Device) -> Option<String> {
    let gain = match bf16_support(device) {
        Ok(Bf16Support::Fast) => "",
        _ => "; this device has no instructions for them, expect no gain",
    };
    match precision {
        Precision::F32 => None,
        Precision::Tf32 => {
            Some("precision tf32: factors of products are rounded to 11 bits, all else is f32".to_owned())
        }
        Precision::Bf16 => Some(format!(
            "precision bf16: activations and operands of convolutions are bfloat16, parameters stay f32{gain}"
        )),
    }
}

/// Name of the devices that have them.
const TENSOR_CORES: &str = "cuda";

fn on(choice: PrecisionChoice, device: &str, support: Bf16Support) -> Result<Precision> {
    match (choice, support) {
        (PrecisionChoice::F32, _) | (PrecisionChoice::Auto, Bf16Support::Plain | Bf16Support::None) => {
            Ok(Precision::F32)
        }
        (PrecisionChoice::Auto, Bf16Support::Fast)
        | (PrecisionChoice::Bf16, Bf16Support::Plain | Bf16Support::Fast) => Ok(Precision::Bf16),
        // The same generation of tensor cores brought both.
        (PrecisionChoice::Tf32, Bf16Support::Fast) if device == TENSOR_CORES => Ok(Precision::Tf32),
        (PrecisionChoice::Tf32, _) => Err(usage(format!(
            "precision tf32 is of NVIDIA's tensor cores (compute capability 8.0 and later), which this {device} device has not: compute in \
             f32 or, where it is fast, in bf16 (--precision auto, train.precision=auto)"
        ))),
        (PrecisionChoice::Bf16, Bf16Support::None) => Err(usage(format!(
            "this {device} device does not compute in bf16 (NVIDIA's do from compute capability 8.0 on): compute in f32 \
             (--precision f32, train.precision=f32), or on another device (--device cpu)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UsageError;

    #[test]
    fn auto_is_bf16_only_where_the_device_is_made_for_it() {
        use Bf16Support::{Fast, None, Plain};
        use PrecisionChoice::{Auto, Bf16, F32, Tf32};
        for (choice, support, expected) in [
            (F32, Fast, Precision::F32),
            (F32, None, Precision::F32),
            (Bf16, Fast, Precision::Bf16),
            (Bf16, Plain, Precision::Bf16),
            (Auto, Fast, Precision::Bf16),
            (Auto, Plain, Precision::F32),
            (Auto, None, Precision::F32),
            (Tf32, Fast, Precision::Tf32),
        ] {
            assert_eq!(on(choice, "cuda", support).unwrap(), expected, "{choice}, {support:?}");
        }
    }

    #[test]
    fn bf16_where_there_is_none_is_refused_with_what_to_do_instead() {
        let error = on(PrecisionChoice::Bf16, "cuda", Bf16Support::None).unwrap_err();
        assert!(error.is::<UsageError>());
        let message = error.to_string();
        assert!(message.contains("cuda") && message.contains("--device cpu"), "{message}");
    }

    #[test]
    fn tf32_is_for_tensor_cores_only() {
        for (device, support) in
            [("cpu", Bf16Support::Fast), ("metal", Bf16Support::Plain), ("cuda", Bf16Support::None)]
        {
            let error = on(PrecisionChoice::Tf32, device, support).unwrap_err();
            assert!(error.is::<UsageError>());
            let message = error.to_string();
            assert!(message.contains(device) && message.contains("--precision auto"), "{message}");
        }
    }

    #[test]
    fn a_run_records_what_auto_came_to() {
        let recipe = crate::recipe::load("cnn-basic", &["train.precision=auto".to_owned()]).unwrap();
        let recorded = settled(&recipe, &Device::Cpu).unwrap();
        let expected = if crate::ops::has_fast_bf16() { PrecisionChoice::Bf16 } else { PrecisionChoice::F32 };
        assert_eq!(recorded.train.precision, expected);
        assert!(recorded.to_toml().unwrap().contains(&format!("precision = \"{expected}\"")));
        assert_eq!(settled(&recorded, &Device::Cpu).unwrap(), recorded, "and a resumed run goes on with it");
    }
}
