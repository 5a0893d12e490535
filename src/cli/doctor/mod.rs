//! `ft doctor`: what this machine is, and whether it computes what it should.

mod text;

use anyhow::Result;
use candle_core::Device;
use serde::Serialize;

use super::DeviceChoice;
use super::arguments::set_threads;
use super::output::{print, print_json};
use crate::doctor::facts::Facts;
use crate::doctor::history::{self, FirstUse, Outcome, before_first_use};
use crate::doctor::lab::Hook;
use crate::doctor::{Examination, Findings};
use crate::download::cache_dir;
use crate::error::say;

/// Names a check to break on purpose, so that one can see that it would be found: for tests.
const BREAK: &str = "FT_DOCTOR_BREAK";

/// Which devices are checked before their first use: `never`, `gpu` (the default) or `always`.
const FIRST_USE: &str = "FT_DOCTOR";

const EXAMPLES: &str = "\
Examples:
  ft doctor                          everything; a minute or two on two cores
  ft doctor --quick                  every operation over small maps, two steps: seconds
  ft doctor --device cuda            the GPU against the processor
  ft doctor --json > doctor.json     every single comparison, for a report of a mistake
  FT_INSTRUCTIONS=avx2 ft doctor     the kernels of a lesser processor

Each operation runs forwards and backwards at the shapes of real networks and is compared with
plain f64 code; large results in a sample of places. An error is the distance from the reference
relative to the sum of the absolute terms of a value; its limit follows from the roundings that
f32 or bfloat16 allow. Steps of recipes are compared with composed operations on the processor;
their limits follow from how far a step moves if its weights are off by 16 roundings.
Exit code 1 if anything is off. Results are kept by device, driver and version of ft; a GPU
without one is checked by the quick form when a command first uses it (FT_DOCTOR=never: not).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to check
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// The short form: every operation over small maps, and two training steps
    #[arg(long)]
    quick: bool,
    /// Threads to use [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    facts: Facts,
    #[serde(flatten)]
    findings: Findings,
    /// Earlier results in the cache.
    earlier: Vec<Outcome>,
}

/// Checks, prints, and keeps the result.
///
/// # Errors
/// A usage error for an unknown check to break; any other if the device cannot be opened or anything is off.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let hook = hook()?;
    let device = args.device.open()?;
    let earlier = history::all(&cache_dir());
    let findings = examine(&device, args.quick, hook)?;
    let report = Report { facts: Facts::collect(), findings, earlier };
    if args.json {
        print_json(&report)?;
    } else {
        print(&text::report(&report))?;
    }
    report.findings.verdict()
}

/// Checks a device that no earlier result is known of, in the short form, before a command computes on it.
///
/// # Errors
/// If anything is off, with what to do about it; a usage error for a wrong `FT_DOCTOR`.
pub(super) fn first_use(device: &Device) -> Result<()> {
    let wanted = FirstUse::parse(std::env::var(FIRST_USE).ok().as_deref())?;
    before_first_use(&cache_dir(), device, wanted, || {
        say("first use of this device: checking what it computes (ft doctor --quick) …");
        Ok(examine(device, true, hook()?)?.outcome())
    })
}

fn hook() -> Result<Hook> {
    std::env::var(BREAK).map_or_else(|_| Ok(Hook::default()), |name| Hook::breaking(&name))
}

fn examine(device: &Device, quick: bool, hook: Hook) -> Result<Findings> {
    let findings = Examination { device: device.clone(), quick, hook }.run(&mut |line| say(line))?;
    // What was broken on purpose says nothing about the device. A full disk is no reason not to show what was found.
    if hook.name().is_none()
        && let Err(error) = history::store(&cache_dir(), &findings.outcome())
    {
        say(&format!("warning: the result is not kept: {error:#}"));
    }
    Ok(findings)
}
