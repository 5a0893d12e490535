//! `ft lr-find`: which learning rates a recipe can take.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::arguments::{MachineArgs, RunsArgs, TableArgs, TrainingArgs};
use super::conduct::read_photos;
use super::console::Console;
use super::output::{Column, print, print_json, table};
use super::prepare::{Prepared, prepare};
use super::sources::Opener;
use super::training::check_training;
use super::{interrupt, precision};
use crate::error::say;
use crate::parallel::Ranks;
use crate::recipe::{PrecisionChoice, Recipe, load};
use crate::report::plot::{Axis, Chart, Figure, Mark, Series, Style};
use crate::train::lr_find::{Curve, Point, Range, lr_find};
use crate::train::objective::Objective;
use crate::train::observer::Observer;
use crate::train::phases::phases;

const EXAMPLES: &str = "\
Examples:
  ft lr-find resnet50v2-unfreeze-conv4
  ft lr-find my.toml --data photos/ --from 1e-6 --to 1 --steps 200
  ft lr-find vgg16-gap --set train.optimizer=sgd --plot sgd.png --json

The suggestion is the smaller of two learning rates: where the smoothed loss falls fastest, and a tenth of the one with
the smallest loss. Nothing is recorded, and a run after it gives the same bits as one without.";

/// Lines of the printed table.
const LINES: usize = 25;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A built-in recipe (`ft recipe --list`), or the path of a TOML file
    #[arg(value_name = "NAME|PATH")]
    recipe: String,
    /// The first learning rate
    #[arg(long, value_name = "LR", default_value_t = 1e-7, allow_negative_numbers = true)]
    from: f64,
    /// The last learning rate
    #[arg(long, value_name = "LR", default_value_t = 10.0, allow_negative_numbers = true)]
    to: f64,
    /// Updates, each with a larger learning rate than the one before
    #[arg(long, value_name = "N", default_value_t = 100)]
    steps: usize,
    /// Where the picture of the curve goes, as a PNG and beside it as an SVG
    #[arg(long, value_name = "FILE", default_value = "lr-find.png")]
    plot: PathBuf,
    /// A folder of class folders, or a known data set such as tf_flowers
    #[arg(long, value_name = "DIR|NAME")]
    data: Option<String>,
    /// CSV file `path,split` that says which photo is for train, val or test
    #[arg(long, value_name = "FILE")]
    split_file: Option<String>,
    /// Leave out classes that have no readable photo to train with, instead of ending with an error that names them
    #[arg(long)]
    skip_empty_classes: bool,
    #[command(flatten)]
    table: TableArgs,
    /// Initial weights: a known name, a file, a URL, or none
    #[arg(long, value_name = "FILE|NAME")]
    weights: Option<String>,
    /// All randomness follows from it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Numbers to compute in; auto takes bf16 where the device is fast in it [default: the recipe's, f32]
    #[arg(long, value_name = "NUMBERS", value_parser = precision::parser())]
    precision: Option<PrecisionChoice>,
    /// Change any key of the recipe, e.g. train.batch_size=64 (repeatable; the flags above win)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    recipe: &'a str,
    dataset: &'a str,
    plot: String,
    #[serde(flatten)]
    curve: &'a Curve,
}

/// Runs the test.
///
/// # Errors
/// A usage error for what is wrong with the recipe or the range; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    let range = Range { from: args.from, to: args.to, steps: args.steps }.check()?;
    let training = args.training();
    let recipe = load(&args.recipe, &training.overrides())?;
    training.machine.set_threads()?;
    let selected = training.machine.device.select_ready()?;
    let device = selected.device.clone();
    let mut console = Console::default();
    console.log(&selected.line());
    let mut prepared = prepare(&recipe, training.machine.offline, &device, &mut console)?;
    check_training(&recipe, &prepared)?;
    interrupt::install()?;
    let curve = test(&recipe, &mut prepared, range, console)?;
    draw(&args.plot, &recipe, &curve)?;
    if args.json {
        let plot = args.plot.display().to_string();
        return print_json(&Report { recipe: &recipe.name, dataset: &prepared.dataset.name, plot, curve: &curve });
    }
    print(&text(&curve))
}

impl Args {
    /// The same as arguments of a training that records nothing.
    fn training(&self) -> TrainingArgs {
        TrainingArgs {
            data: self.data.clone(),
            split_file: self.split_file.clone(),
            table: self.table.clone(),
            weights: self.weights.clone(),
            epochs: None,
            seed: self.seed,
            precision: self.precision,
            tfds_filter: false,
            skip_empty_classes: self.skip_empty_classes,
            set: self.set.clone(),
            json: self.json,
            runs: RunsArgs { runs: PathBuf::new() },
            machine: self.machine.clone(),
        }
    }
}

fn test(recipe: &Recipe, prepared: &mut Prepared, range: Range, mut console: Console) -> Result<Curve> {
    let Prepared { dataset, description, network, device, .. } = prepared;
    let manifest = read_photos(dataset, &mut console, &Ranks::alone())?;
    let labels: Vec<u32> = dataset.train.iter().map(|s| s.label).collect();
    let objective = Objective::new(&recipe.train, &dataset.classes, &labels)?;
    let phases = phases(recipe);
    if let Some(first) = phases.first() {
        first.freeze(network)?;
        if phases.len() > 1 {
            console.log(&format!(
                "what trains in the first of {} phases: from {} on",
                phases.len(),
                first.freeze_before
            ));
        }
    }
    let (manifest, ranks, user) = (&manifest, &Ranks::alone(), "ft lr-find");
    let opener = Opener { recipe, dataset, manifest, description, network, device, ranks, user };
    let sources = opener.open(&mut console)?;
    lr_find(recipe, network, sources.train.as_ref(), &objective, range, &mut Watched { console })
}

/// Shows progress; the rest of an observer's calls do not occur in a range test.
struct Watched {
    console: Console,
}

impl Observer for Watched {
    fn begin(&mut self, what: &str, total: usize) {
        self.console.begin(what, total);
    }

    fn progress(&mut self, done: usize, note: &str) {
        self.console.progress(done, note);
    }

    fn end(&mut self) {
        self.console.end();
    }

    fn note(&mut self, line: &str) {
        self.console.log(line);
    }

    fn stop_requested(&self) -> bool {
        interrupt::requested()
    }
}

/// The curve as a table, thinned out, and what follows from it.
fn text(curve: &Curve) -> String {
    let columns = [Column::Right("learning rate"), Column::Right("loss"), Column::Right("smoothed")];
    let row = |p: &Point| vec![format!("{:.2e}", p.lr), format!("{:.4}", p.loss), format!("{:.4}", p.smoothed)];
    let every = curve.points.len().div_ceil(LINES).max(1);
    let mut text = table(&columns, &curve.points.iter().step_by(every).map(row).collect::<Vec<_>>());
    if curve.diverged {
        let last = curve.points.last().map_or_else(|| "the first one".to_owned(), |p| format!("{:.2e}", p.lr));
        text += &format!("\nended early: the loss diverges from a learning rate of {last} on\n");
    }
    text + "\n" + &conclusion(curve)
}

fn conclusion(curve: &Curve) -> String {
    match (curve.steepest, curve.minimum_tenth, curve.suggestion) {
        (Some(steepest), Some(tenth), Some(suggestion)) => format!(
            "the loss falls fastest at {steepest:.2e}; a tenth of the rate with the smallest loss is {tenth:.2e}\n\
             suggestion, the smaller of the two: --set train.lr={suggestion:.1e}\n"
        ),
        _ => "the loss never falls in this range: no suggestion; try --from and --to further down, or more --steps\n"
            .to_owned(),
    }
}

/// Draws the curve, with the loss of single updates behind it.
fn draw(path: &Path, recipe: &Recipe, curve: &Curve) -> Result<()> {
    let series = |name: &str, style, value: fn(&Point) -> f64| Series {
        name: name.to_owned(),
        style,
        points: curve.points.iter().map(|p| (p.lr, value(p))).collect(),
    };
    // What diverges would press the rest of the curve flat.
    let first = curve.points.first().map_or(1.0, |p| p.smoothed);
    let highest = curve.points.iter().map(|p| p.smoothed).fold(first, f64::max).min(2.0 * first);
    let chart = Chart {
        title: "Learning-rate range test".to_owned(),
        x: Axis::log("learning rate"),
        y: Axis::linear("loss").within(0.0, highest),
        series: vec![
            series("one update", Style::Background, |p| p.loss),
            series("smoothed", Style::First, |p| p.smoothed),
        ],
        marks: curve.suggestion.map(|x| Mark { x, name: format!("suggestion: {x:.1e}") }).into_iter().collect(),
    };
    let [png, svg] = Figure { title: recipe.name.clone(), charts: vec![chart] }.save(path)?;
    say(&format!("plot {}, {}", png.display(), svg.display()));
    Ok(())
}
