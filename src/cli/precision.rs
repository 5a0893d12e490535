//! In which numbers a network computes: the option, and what it comes to on this machine.

use anyhow::{Result, anyhow};
use candle_core::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::output::device_name;
use crate::error::usage;
use crate::ops::{Precision, has_fast_bf16};
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
    on(choice, device_name(device), has_fast_bf16())
}

/// [`resolve`] as a recipe says it: never `auto`.
///
/// # Errors
/// As [`resolve`].
pub fn settle(choice: PrecisionChoice, device: &Device) -> Result<PrecisionChoice> {
    Ok(match resolve(choice, device)? {
        Precision::F32 => PrecisionChoice::F32,
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

/// What to tell the user of a training; nothing of the usual precision.
pub fn note(precision: Precision) -> Option<String> {
    let gain = if has_fast_bf16() { "" } else { "; this processor has no instructions for them, expect no gain" };
    (precision == Precision::Bf16).then(|| {
        format!("precision bf16: activations and operands of convolutions are bfloat16, parameters stay f32{gain}")
    })
}

fn on(choice: PrecisionChoice, device: &str, fast: bool) -> Result<Precision> {
    let cpu = device == device_name(&Device::Cpu);
    match choice {
        PrecisionChoice::F32 => Ok(Precision::F32),
        PrecisionChoice::Auto if cpu && fast => Ok(Precision::Bf16),
        PrecisionChoice::Auto => Ok(Precision::F32),
        PrecisionChoice::Bf16 if cpu => Ok(Precision::Bf16),
        PrecisionChoice::Bf16 => Err(usage(format!(
            "precision bf16 is not supported on {device} yet, only on the CPU: add --device cpu, or compute in f32 \
             (--precision f32, train.precision=f32)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::UsageError;

    #[test]
    fn auto_is_bf16_only_where_the_processor_is_made_for_it() {
        use PrecisionChoice::{Auto, Bf16, F32};
        for (choice, device, fast, expected) in [
            (F32, "cpu", true, Precision::F32),
            (Bf16, "cpu", true, Precision::Bf16),
            (Bf16, "cpu", false, Precision::Bf16),
            (Auto, "cpu", true, Precision::Bf16),
            (Auto, "cpu", false, Precision::F32),
            (Auto, "cuda", true, Precision::F32),
            (Auto, "metal", true, Precision::F32),
            (F32, "cuda", false, Precision::F32),
        ] {
            assert_eq!(on(choice, device, fast).unwrap(), expected, "{choice} on {device}, fast: {fast}");
        }
    }

    #[test]
    fn bf16_on_a_gpu_is_refused_with_what_to_do_instead() {
        for device in ["cuda", "metal"] {
            let error = on(PrecisionChoice::Bf16, device, true).unwrap_err();
            assert!(error.is::<UsageError>());
            let message = error.to_string();
            assert!(message.contains(device) && message.contains("--device cpu"), "{message}");
        }
    }

    #[test]
    fn a_run_records_what_auto_came_to() {
        let recipe = crate::recipe::load("cnn-basic", &["train.precision=auto".to_owned()]).unwrap();
        let recorded = settled(&recipe, &Device::Cpu).unwrap();
        let expected = if has_fast_bf16() { PrecisionChoice::Bf16 } else { PrecisionChoice::F32 };
        assert_eq!(recorded.train.precision, expected);
        assert!(recorded.to_toml().unwrap().contains(&format!("precision = \"{expected}\"")));
        assert_eq!(settled(&recorded, &Device::Cpu).unwrap(), recorded, "and a resumed run goes on with it");
    }
}
