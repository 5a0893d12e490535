//! Results that are kept, and the check of a GPU at its first use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use serde::{Deserialize, Serialize};

use super::facts::{DeviceFacts, of_device};
use crate::error::usage;
use crate::files::{sha256, write_atomically};
use crate::ops::vector_instructions;

/// What a result holds for: another version, device, driver or level of instructions is to be checked anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub ft_version: String,
    pub commit: Option<String>,
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Name of the hardware, where it is known.
    pub name: Option<String>,
    pub driver: Option<String>,
    /// Of the processor's own kernels; of a CUDA device whether operations are done in one pass or composed.
    pub instructions: Option<String>,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub identity: Identity,
    /// `full` or `quick`.
    pub form: String,
    pub ok: bool,
    /// Checks that were off.
    pub off: Vec<String>,
    /// UTC, RFC 3339.
    pub checked: String,
    pub seconds: f64,
}

/// Which devices are checked before their first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstUse {
    /// None.
    Never,
    /// GPUs.
    #[default]
    Gpu,
    /// The processor too.
    Always,
}

impl FirstUse {
    /// Of the words `never`, `gpu` and `always`; the default if there is none.
    ///
    /// # Errors
    /// A usage error for any other.
    pub fn parse(word: Option<&str>) -> Result<Self> {
        match word {
            None | Some("" | "gpu") => Ok(Self::Gpu),
            Some("never") => Ok(Self::Never),
            Some("always") => Ok(Self::Always),
            Some(other) => Err(usage(format!("FT_DOCTOR={other} is none of never, gpu, always"))),
        }
    }

    fn wants(self, device: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Gpu => device != "cpu",
            Self::Always => true,
        }
    }
}

impl Identity {
    /// Of a device with this program.
    pub fn of(device: &DeviceFacts) -> Self {
        Self {
            ft_version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("FT_COMMIT").map(str::to_owned),
            device: device.device.to_owned(),
            name: device.name.clone(),
            driver: device.driver.clone(),
            instructions: match device.device {
                "cpu" => Some(vector_instructions().to_owned()),
                _ => device.kernels.clone(),
            },
        }
    }

    fn file(&self, cache: &Path) -> PathBuf {
        let hash = sha256(format!("{self:?}").as_bytes());
        folder(cache).join(format!("{}-{}.json", self.device, hash.get(..16).unwrap_or_default()))
    }
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("doctor")
}

/// Keeps an outcome in the cache, in the place of an earlier one of the same.
///
/// # Errors
/// If it cannot be written.
pub fn store(cache: &Path, outcome: &Outcome) -> Result<()> {
    let folder = folder(cache);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let text = serde_json::to_string_pretty(outcome)? + "\n";
    write_atomically(&outcome.identity.file(cache), |file| Ok(file.write_all(text.as_bytes())?))
}

/// The outcomes in the cache, newest first. What cannot be read is no outcome.
pub fn all(cache: &Path) -> Vec<Outcome> {
    let entries = fs::read_dir(folder(cache)).into_iter().flatten().flatten();
    let mut outcomes: Vec<Outcome> = entries.filter_map(|entry| read(&entry.path())).collect();
    outcomes.sort_by(|a, b| b.checked.cmp(&a.checked));
    outcomes
}

fn read(path: &Path) -> Option<Outcome> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Makes sure that a device which is about to be used has been checked: by an earlier outcome, or by `check`, whose outcome is kept.
/// One that was off is checked again.
///
/// # Errors
/// If something is off, or `check` fails.
pub fn before_first_use(
    cache: &Path,
    device: &Device,
    wanted: FirstUse,
    check: impl FnOnce() -> Result<Outcome>,
) -> Result<()> {
    let name = match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    };
    // Before anything is asked of the system: this runs at every command.
    if !wanted.wants(name) {
        return Ok(());
    }
    let identity = Identity::of(&of_device(device));
    let known = read(&identity.file(cache)).filter(|known| known.identity == identity && known.ok);
    if known.is_some() {
        return Ok(());
    }
    let outcome = check()?;
    if outcome.ok {
        return Ok(());
    }
    let other = if name == "cpu" { "forbid instructions with FT_INSTRUCTIONS" } else { "compute with --device cpu" };
    bail!(
        "{name} does not compute what it should, so nothing was done on it\n  off: {}\n  ft doctor --device {name} shows by how much; {other}, \
         or update the driver; FT_DOCTOR=never uses the device all the same",
        outcome.off.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::UsageError;

    fn outcome(ok: bool) -> Outcome {
        Outcome {
            identity: Identity::of(&of_device(&Device::Cpu)),
            form: "quick".to_owned(),
            ok,
            off: if ok { vec![] } else { vec!["conv2d (native kernels, f32)".to_owned()] },
            checked: "2026-01-02T03:04:05Z".to_owned(),
            seconds: 1.5,
        }
    }

    /// Uses the processor; whether it was checked, and what came of it.
    fn first_use(cache: &Path, wanted: FirstUse, ok: bool) -> (bool, Result<()>) {
        let checked = Cell::new(false);
        let result = before_first_use(cache, &Device::Cpu, wanted, || {
            checked.set(true);
            let outcome = outcome(ok);
            store(cache, &outcome)?;
            Ok(outcome)
        });
        (checked.get(), result)
    }

    #[test]
    fn a_device_is_checked_until_it_has_passed_once() {
        let cache = tempfile::tempdir().unwrap();
        assert!(matches!(first_use(cache.path(), FirstUse::Gpu, false), (false, Ok(()))), "a processor is not asked");
        let (checked, result) = first_use(cache.path(), FirstUse::Always, false);
        let error = result.unwrap_err().to_string();
        assert!(checked && error.contains("conv2d") && error.contains("ft doctor --device cpu"), "{error}");
        assert!(matches!(first_use(cache.path(), FirstUse::Always, true), (true, Ok(()))));
        assert!(matches!(first_use(cache.path(), FirstUse::Always, false), (false, Ok(()))), "it is known now");
        assert!(matches!(first_use(cache.path(), FirstUse::Never, false), (false, Ok(()))));
    }

    #[test]
    fn outcomes_are_listed_newest_first_and_other_drivers_count_as_others() {
        let cache = tempfile::tempdir().unwrap();
        let mut other = outcome(true);
        other.identity.driver = Some("550.54.15".to_owned());
        other.checked = "2026-02-02T03:04:05Z".to_owned();
        for outcome in [outcome(true), other.clone()] {
            store(cache.path(), &outcome).unwrap();
        }
        fs::write(cache.path().join("doctor/broken.json"), "{").unwrap();
        assert_eq!(all(cache.path()), [other, outcome(true)]);
        assert!(matches!(first_use(cache.path(), FirstUse::Always, false), (false, Ok(()))));
    }

    #[test]
    fn what_the_variable_may_say() {
        assert_eq!(FirstUse::parse(Some("always")).unwrap(), FirstUse::Always);
        assert_eq!(FirstUse::parse(None).unwrap(), FirstUse::Gpu);
        assert!(FirstUse::parse(Some("yes")).unwrap_err().is::<UsageError>());
    }
}
