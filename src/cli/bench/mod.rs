//! `ft bench`: how fast this machine trains and predicts, and where the time goes.

mod text;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::arguments::set_threads;
use super::output::{print, print_json};
use crate::bench::{LayerTable, Setting, Spread, Subject, WARM_UP, machine};
use crate::error::say;
use crate::ops::{Precision, vector_instructions};
use crate::runs::cpu_name;

const EXAMPLES: &str = "\
Examples:
  ft bench --model resnet50v2 --freeze-before conv4 --size 160
  ft bench --model resnet50v2 --freeze-before conv4 --size 160 --layers   where the time of a step goes
  ft bench --model vgg16 --freeze-before all --threads 2 --json

Weights and images are random numbers: nothing is downloaded. Other programs on the same processors make all of
it slower; look at the minima, and measure again.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The network, e.g. resnet50v2
    #[arg(long, value_name = "NAME")]
    model: String,
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
    /// The numbers in which layers compute; auto: bf16 where the processor has instructions for it (AMX)
    #[arg(long, value_enum, default_value_t = PrecisionChoice::F32)]
    precision: PrecisionChoice,
    /// Measured steps of each figure, after two that do not count
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Threads to use [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print every layer's time too, the most costly first
    #[arg(long)]
    layers: bool,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

/// In which numbers to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PrecisionChoice {
    F32,
    Bf16,
    Auto,
}

impl PrecisionChoice {
    fn resolve(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::Auto => machine::fastest_precision(),
        }
    }
}

/// Where the figures come from.
#[derive(Debug, Serialize)]
struct Machine {
    /// Name of the processor, where the system tells it.
    processor: Option<String>,
    /// Vector instructions of the kernels.
    instructions: &'static str,
    threads: usize,
    ft_version: &'static str,
}

impl Machine {
    fn here() -> Self {
        Self {
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
    /// Of the process until the end of the training steps (the first figure), before anything else is measured.
    peak_memory_bytes: Option<u64>,
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

/// Measures and prints.
///
/// # Errors
/// A usage error for an unknown model or layer.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let machine = Machine::here();
    let training = train(args)?;
    if args.json {
        return print_json(&Report { machine, training });
    }
    print(&text::machine(&machine))?;
    print(&text::training(&training))?;
    print(&text::totals(&training))?;
    if args.layers { print(&text::layers(&training)) } else { Ok(()) }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    #[serde(flatten)]
    training: Training,
}

/// Measures a network. Memory is looked at after the training steps alone: the other figures must not count.
fn train(args: &Args) -> Result<Training> {
    let setting = Setting {
        model: args.model.clone(),
        freeze_before: args.freeze_before.clone(),
        size: args.size.into(),
        batch: args.batch.into(),
        classes: args.classes.into(),
        precision: args.precision.resolve(),
        steps: args.steps.into(),
    };
    let mut subject = Subject::new(&setting)?;
    say(&format!("training: {} + {} steps of {} images …", WARM_UP, setting.steps, setting.batch));
    let train = subject.train()?;
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
        step_seconds: StepSeconds { train, train_cached, forward },
        table,
    })
}
