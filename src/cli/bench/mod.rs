//! `ft bench`: how fast this machine trains and predicts, where the time goes, and what it could do at most.

mod text;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::arguments::set_threads;
use super::device::{DeviceChoice, Selected};
use super::output::{device_name, print, print_json};
use super::precision;
use crate::bench::{LayerTable, Roofline, Setting, Spread, Subject, WARM_UP, machine, photos, pipeline};
use crate::data::photos_below;
use crate::error::{say, usage};
use crate::ops::{vector_instructions, with_peak_memory};
use crate::recipe::PrecisionChoice;
use crate::runs::cpu_name;

/// Photos of which the pipeline is measured, at most.
const PHOTOS: usize = 200;

const EXAMPLES: &str = "\
Examples:
  ft bench --model resnet50v2 --freeze-before conv4 --size 160
  ft bench --model resnet50v2 --freeze-before conv4 --size 160 --layers --roofline
  ft bench --model vgg16 --freeze-before all --threads 2 --json
  ft bench --model resnet50v2 --device cuda --precision bf16 --batch 256 --roofline
  ft bench --pipeline photos/ --size 160

Weights and images are random numbers: nothing is downloaded. Other programs on the same
processors make everything slower: look at the fastest steps too, and measure again.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Args {
    /// The network, e.g. resnet50v2
    #[arg(long, value_name = "NAME", required_unless_present_any = ["pipeline", "roofline"])]
    model: Option<String>,
    /// Everything before it is frozen: none, all, a stage, a block, a layer, or a Keras layer index
    #[arg(long, value_name = "LAYER", default_value = "none")]
    freeze_before: String,
    /// Side of the square images in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u16).range(8..=4096))]
    size: u16,
    /// Images of a step
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Classes of the head: gap, dense(32, relu), batch_norm, dense(32, relu), dense(classes)
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..))]
    classes: u16,
    /// The numbers in which layers compute; auto: bf16 where the processor (AMX) or the GPU (tensor cores) is fast in it
    #[arg(long, value_name = "NUMBERS", default_value_t, value_parser = precision::parser())]
    precision: PrecisionChoice,
    /// Measured steps of each figure, after two that do not count
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    /// Threads to use [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print the time of every layer too, the most costly first
    #[arg(long)]
    layers: bool,
    /// Measure what the device can do at most: memory bandwidth and products; limits of layers follow
    #[arg(long)]
    roofline: bool,
    /// Measure the stages from photo files to network inputs, with drawn photos or those below DIR
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pipeline: Option<Option<PathBuf>>,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the figures come from.
#[derive(Debug, Serialize)]
struct Machine {
    /// `cpu`, `cuda` or `metal`: where the network and the limits were measured; photos are always prepared on the CPU.
    device: &'static str,
    /// Name of its hardware, where it is known.
    hardware: Option<String>,
    /// Name of the processor, where the system tells it.
    processor: Option<String>,
    /// Vector instructions of the kernels.
    instructions: &'static str,
    threads: usize,
    ft_version: &'static str,
}

impl Machine {
    fn with(selected: Selected) -> Self {
        Self {
            device: device_name(&selected.device),
            hardware: selected.hardware,
            processor: cpu_name(),
            instructions: vector_instructions(),
            threads: rayon::current_num_threads(),
            ft_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Figures of a network; images a second are those of the median step.
#[derive(Debug, Serialize)]
struct Training {
    model: String,
    freeze_before: String,
    size: usize,
    batch: usize,
    classes: usize,
    precision: &'static str,
    steps: usize,
    warm_up_steps: usize,
    train_images_per_second: f64,
    train_cached_images_per_second: f64,
    forward_images_per_second: f64,
    /// Of the process up to the end of the training steps, the first that is measured.
    peak_memory_bytes: Option<u64>,
    /// Of tensors in the device's own memory during those steps; none of devices without.
    peak_device_memory_bytes: Option<u64>,
    step_seconds: StepSeconds,
    #[serde(flatten)]
    table: LayerTable,
}

/// Seconds of a step of each figure.
#[derive(Debug, Serialize)]
struct StepSeconds {
    train: Spread,
    train_cached: Spread,
    forward: Spread,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    #[serde(flatten)]
    training: Option<Training>,
    #[serde(skip_serializing_if = "Option::is_none")]
    roofline: Option<Roofline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<pipeline::Pipeline>,
}

/// Measures and prints.
///
/// # Errors
/// A usage error for an unknown model or layer, or a folder without photos; if the device is not there.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let selected = args.device.select_ready()?;
    if let Some(reason) = &selected.reason {
        say(&format!("device: {}; {reason}", device_name(&selected.device)));
    }
    // The network first: what it takes of the memory is looked at while nothing else has taken any.
    let mut training = args.model.as_deref().map(|model| train(args, model, &selected)).transpose()?;
    let pipeline = args.pipeline.as_ref().map(|folder| photos_to_inputs(folder.as_deref(), args.size)).transpose()?;
    let roofline = args.roofline.then(|| measure_roofline(&selected)).transpose()?;
    if let (Some(training), Some(roofline)) = (&mut training, &roofline) {
        roofline.limit(&mut training.table, precision::resolve(args.precision, &selected.device)?);
    }
    let report = Report { machine: Machine::with(selected), training, roofline, pipeline };
    if args.json {
        return print_json(&report);
    }
    print(&text::report(&report, args.layers))
}

/// Measures a network. Memory is looked at after the training steps: the other figures must not count.
fn train(args: &Args, model: &str, selected: &Selected) -> Result<Training> {
    let setting = Setting {
        model: model.to_owned(),
        freeze_before: args.freeze_before.clone(),
        size: args.size.into(),
        batch: args.batch.into(),
        classes: args.classes.into(),
        precision: precision::resolve(args.precision, &selected.device)?,
        device: selected.device.clone(),
        steps: args.steps.into(),
    };
    let mut subject = Subject::new(&setting)?;
    say(&format!("training, {WARM_UP} + {} steps of {} images …", setting.steps, setting.batch));
    let (train, peak_device_memory_bytes) = with_peak_memory(&setting.device, || subject.train());
    let train = train?;
    let peak_memory_bytes = machine::peak_memory();
    say("training with the first half cached …");
    let train_cached = subject.train_cached()?;
    say("predicting …");
    let forward = subject.forward()?;
    say("training with a clock at every layer …");
    let table = subject.layers()?;
    let rate = |seconds: Spread| setting.batch as f64 / seconds.median;
    Ok(Training {
        freeze_before: setting.freeze_before,
        model: setting.model,
        size: setting.size,
        batch: setting.batch,
        classes: setting.classes,
        precision: setting.precision.name(),
        steps: setting.steps,
        warm_up_steps: WARM_UP,
        train_images_per_second: rate(train),
        train_cached_images_per_second: rate(train_cached),
        forward_images_per_second: rate(forward),
        peak_memory_bytes,
        peak_device_memory_bytes,
        step_seconds: StepSeconds { train, train_cached, forward },
        table,
    })
}

fn measure_roofline(selected: &Selected) -> Result<Roofline> {
    say("memory bandwidth and products …");
    Roofline::measure(&selected.device)
}

/// Measures the data pipeline over some of the photos below a folder, or over drawn ones.
fn photos_to_inputs(folder: Option<&Path>, size: u16) -> Result<pipeline::Pipeline> {
    let Some(folder) = folder else {
        say("drawing photos …");
        let folder = tempfile::tempdir().context("cannot make a temporary folder for drawn photos")?;
        let drawn = (0..PHOTOS as u32).map(|number| photos::draw(folder.path(), number)).collect::<Result<Vec<_>>>()?;
        say("photos to network inputs …");
        return pipeline::measure(&drawn, size.into());
    };
    if !folder.is_dir() {
        return Err(usage(format!("--pipeline {}: there is no such folder", folder.display())));
    }
    let photos = photos_below(folder)?;
    if photos.is_empty() {
        return Err(usage(format!("--pipeline {}: there are no photos in it", folder.display())));
    }
    say("photos to network inputs …");
    // Some of every subfolder, as they are listed one after another.
    let every = photos.len().div_ceil(PHOTOS);
    pipeline::measure(&photos.into_iter().step_by(every).collect::<Vec<_>>(), size.into())
}
