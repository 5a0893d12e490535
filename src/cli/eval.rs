//! `ft eval`: how a trained model does on new labelled photos.
//!
//! `--json` prints one object, to which keys may be added but none taken away:
//!
//! ```json
//! {"run": "...", "checkpoint": "...", "name": "garden", "data": "...", "folder": "...", "report": "...", "predictions": "...",
//!  "photos": 120, "trained_on": 0, "skipped": [{"path": "b.jpg", "reason": "broken JPEG: ..."}], "warnings": [],
//!  "evaluation": {"accuracy": {"value": 0.9, "low": 0.83, "high": 0.94}, "macro_f1": {}, "rows": [], "confusion": []}}
//! ```
//!
//! `evaluation` has the figures of the report page, without curves and single photos.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::arguments::TableArgs;
use super::console::Console;
use super::model::OpenModel;
use super::output::{device_name, print, print_json};
use super::predict::reason;
use super::prepare::locate_data;
use super::{MachineArgs, RunsArgs, precision};
use crate::data::dataset::{Sample, Split};
use crate::data::labelled::Labelled;
use crate::data::lookup::Lookup;
use crate::error::{say, suggestion, usage};
use crate::files::write_atomically;
use crate::natural;
use crate::ops::Precision;
use crate::recipe::PrecisionChoice;
use crate::report::evaluation::evaluate;
use crate::report::page::collect::{Evaluated, evaluated_page};
use crate::report::page::data::{Page, RunPage};
use crate::report::page::{html, pictures};
use crate::report::summary::Summary;
use crate::runs::{
    Environment, Prediction, SkippedRow, SplitFigures, UsedPhoto, command_line, file, photos_hash, read_photos,
    read_predictions, write_photos, write_predictions, write_skipped,
};
use crate::train::checkpoint::ModelDescription;
use crate::train::predict::predict_readable;
use crate::train::source::PhotoSource;

const EXAMPLES: &str = "\
Examples:
  ft eval --data garden/                             the best model on a folder of class folders
  ft eval --model latest --data photos.csv --split test
  ft eval --data tf_flowers --split-file split.csv --split val --name validation

Classes are matched by name; some may have no photos. Photos that cannot be read are skipped, counted and listed.
Tables, predictions and report.html go into the folder eval/NAME-TIME of the run, or to --out.";

/// The page of an evaluation.
const REPORT: &str = "report.html";
/// Broken photos that are named at the end.
const SHOWN: usize = 5;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model: best, best:DATASET[:METRIC], latest, an id or a part of it, a recipe or tag that one run has, or the path of a run or a checkpoint
    #[arg(long, value_name = "RUN", default_value = "best")]
    model: String,
    /// A folder of class folders, a .zip or .tar.gz of that, a .csv or .tsv table of photos and labels, or a known data
    /// set: tf_flowers, cats_vs_dogs, cifar10, stl10, or hf:OWNER/NAME[:CONFIG][@REVISION] of the Hugging Face hub
    #[arg(long, value_name = "PATH|NAME")]
    data: String,
    #[command(flatten)]
    table: TableArgs,
    /// CSV file `path,split`; photos that it does not list are left out
    #[arg(long, value_name = "FILE")]
    split_file: Option<PathBuf>,
    /// Only the photos of one split: train, val or test [default: all photos]
    #[arg(long, value_name = "SPLIT", value_parser = split)]
    split: Option<Split>,
    /// What the photos are called in tables and report [default: the data's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder for the results [default: eval/NAME-TIME in the run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Leave out the photos of the report and what the model looks at in them
    #[arg(long)]
    no_pictures: bool,
    /// Photos that go through the network at once
    #[arg(long, value_name = "N", default_value_t = 32, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
    /// Numbers to compute in; auto takes bf16 where the device is fast in it
    #[arg(long, value_name = "NUMBERS", default_value_t, value_parser = precision::parser())]
    precision: PrecisionChoice,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

fn split(text: &str) -> Result<Split, String> {
    Split::parse(text).ok_or_else(|| {
        let names = Split::ALL.map(Split::name);
        format!("it must be train, val or test{}", suggestion(text, &names))
    })
}

/// Evaluates a model and prints where its report lies.
///
/// # Errors
/// A usage error if there is no such model or data set, or the classes do not fit; any other if no photo can be read or the
/// results cannot be written.
pub fn run(args: &Args) -> Result<()> {
    args.machine.set_threads()?;
    let device = args.machine.device.ready()?;
    let precision = precision::resolve(args.precision, &device)?;
    let mut model = OpenModel::open(&args.runs.runs, &args.model, &device)?;
    model.network.set_precision(precision);
    let located = locate_data(&args.data, args.machine.offline)?;
    let table = args.table.options();
    let data = Labelled::open(&located, &table, args.split_file.as_deref(), args.split, &model.description.classes)?;
    data.notes.iter().for_each(|note| say(note));
    let name = name(args, &data)?;
    let predicted = Predicted::of(&model, &data, &name, args.batch_size.into())?;
    if predicted.rows.is_empty() {
        let first =
            predicted.skipped.first().map_or_else(String::new, |s| format!("; the first, {}: {}", s.path, s.reason));
        bail!("none of the {} photos in {} could be read{first}", predicted.skipped.len(), data.root.display());
    }
    let seen = Seen::of(&model, &predicted.photos);
    // Maps are those of ft explain.
    model.network.set_precision(Precision::F32);
    let mut page = page(&model, &data, &name, &predicted, seen)?;
    add_pictures(&mut page, &model, &data, args.no_pictures)?;
    page.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let out = match &args.out {
        Some(out) => {
            fs::create_dir_all(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
            out.clone()
        }
        None => new_folder(&model.folder.join("eval"), &name)?,
    };
    let title = format!("{} on {name}", model.run_name());
    let figures = write(&out, &title, &page, &predicted)?;
    tell(&figures, &predicted.skipped);
    if args.json {
        return print_json(&as_json(&model, &out, &data, &page, seen)?);
    }
    print(&format!("{}\n", out.join(REPORT).display()))
}

/// The page of the model on these photos.
fn page(model: &OpenModel, data: &Labelled, name: &str, predicted: &Predicted, seen: Option<Seen>) -> Result<RunPage> {
    let description = &model.description;
    let evaluation = evaluate(name, &description.classes, &predicted.rows, &validation(model))?;
    let mut environment = Environment::collect(device_name(model.network.device()), None);
    environment.data_root = std::path::absolute(&data.root).ok().map(|path| path.display().to_string());
    environment.data_sha256.insert(name.to_owned(), photos_hash(&predicted.photos));
    let evaluated = Evaluated {
        evaluation,
        description: description.clone(),
        photos: predicted.photos.clone(),
        skipped: predicted.skipped.clone(),
        environment,
        command: command_line().trim().to_owned(),
        warnings: warnings(description, predicted, seen),
    };
    evaluated_page(&model.folder, evaluated)
}

fn add_pictures(page: &mut RunPage, model: &OpenModel, data: &Labelled, none: bool) -> Result<()> {
    if none {
        page.pictures.absent = Some("this page was asked for without them.".to_owned());
        return Ok(());
    }
    let photos = data.samples.iter().map(|sample| (sample.id.clone(), sample.photo.clone())).collect();
    let photos = Lookup::Listed { photos, root: data.root.clone() };
    pictures::add_pictures(page, &photos, Some((&model.description, &model.network)))
}

/// What the photos are called: as asked for, or as the data and its split.
fn name(args: &Args, data: &Labelled) -> Result<String> {
    match (&args.name, args.split) {
        (Some(name), _) if name.trim().is_empty() => Err(usage("--name: a name is missing")),
        (Some(name), _) => Ok(name.trim().to_owned()),
        (None, Some(split)) => Ok(format!("{}-{split}", data.name)),
        (None, None) => Ok(data.name.clone()),
    }
}

/// Photos that went through the model.
struct Predicted {
    /// In the order of the photos.
    rows: Vec<Prediction>,
    photos: Vec<UsedPhoto>,
    skipped: Vec<SkippedRow>,
}

impl Predicted {
    fn of(model: &OpenModel, data: &Labelled, name: &str, batch_size: usize) -> Result<Self> {
        let OpenModel { description, network, .. } = model;
        let mut console = Console::default();
        let source = PhotoSource::new(
            data.samples.clone(),
            description.image_size,
            &description.preprocessing,
            0,
            network.device(),
        )?;
        console.begin("evaluate", data.samples.len());
        let outcomes = predict_readable(network, &source, batch_size, &mut |done| console.progress(done, ""))?;
        console.end();
        let skipped = data.skipped.iter().map(|s| SkippedRow { path: s.id.clone(), reason: s.reason.clone() });
        let mut predicted = Self { rows: Vec::new(), photos: Vec::new(), skipped: skipped.collect() };
        for (sample, outcome) in data.samples.iter().zip(outcomes) {
            let hashed = outcome.and_then(|logits| Ok((logits, sample.photo.hash()?.0)));
            match hashed {
                Ok((logits, sha256)) => predicted.add(description, sample, name, logits, sha256)?,
                Err(error) => predicted.skipped.push(SkippedRow { path: sample.id.clone(), reason: reason(&error) }),
            }
        }
        predicted.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(predicted)
    }

    fn add(
        &mut self,
        description: &ModelDescription,
        sample: &Sample,
        name: &str,
        logits: Vec<f32>,
        sha256: String,
    ) -> Result<()> {
        let class = |i: usize| description.classes.get(i).cloned().with_context(|| format!("there is no class {i}"));
        let decision = description.decide(&logits).with_context(|| sample.photo.describe())?;
        let truth = class(sample.label as usize)?;
        self.photos.push(UsedPhoto { split: name.to_owned(), path: sample.id.clone(), label: truth.clone(), sha256 });
        self.rows.push(Prediction {
            split: name.to_owned(),
            path: sample.id.clone(),
            truth,
            predicted: class(decision.class)?,
            probability: decision.probability,
            logits,
        });
        Ok(())
    }
}

/// How many of the photos the run has seen, by the hashes of their files; `None` if the run does not tell.
#[derive(Clone, Copy)]
struct Seen {
    train: usize,
    val: usize,
}

impl Seen {
    fn of(model: &OpenModel, photos: &[UsedPhoto]) -> Option<Self> {
        let path = model.folder.join(file::DATA);
        let of_run = path.is_file().then(|| read_photos(&path));
        let of_run = match of_run? {
            Ok(rows) => rows,
            Err(error) => {
                say(&format!("warning: it is not known whether the model was trained on these photos: {error:#}"));
                return None;
            }
        };
        let count = |split: Split| {
            let of_split = of_run.iter().filter(|photo| photo.split == split.name());
            let hashes: BTreeSet<&str> = of_split.map(|photo| photo.sha256.as_str()).collect();
            photos.iter().filter(|photo| hashes.contains(photo.sha256.as_str())).count()
        };
        Some(Self { train: count(Split::Train), val: count(Split::Val) })
    }
}

/// What keeps the figures from meaning what they seem to, as whole sentences.
fn warnings(description: &ModelDescription, predicted: &Predicted, seen: Option<Seen>) -> Vec<String> {
    let total = predicted.photos.len();
    let mut warnings = Vec::new();
    match seen {
        Some(Seen { train, val }) => {
            if train > 0 {
                warnings.push(format!(
                    "{train} of {total} photos were trained on (their files are identical): the figures say little about new photos."
                ));
            }
            if val > 0 {
                warnings
                    .push(format!("{val} of {total} photos were validation photos, by which the model was chosen."));
            }
        }
        None => warnings.push(
            "The model comes without the table of its training photos: whether it was trained on these is not known."
                .to_owned(),
        ),
    }
    let there: BTreeSet<&str> = predicted.photos.iter().map(|photo| photo.label.as_str()).collect();
    let absent: Vec<&str> =
        description.classes.iter().map(String::as_str).filter(|class| !there.contains(class)).collect();
    if !absent.is_empty() {
        warnings.push(format!("There are no photos of {}.", natural::list(absent)));
    }
    warnings
}

/// The run's predictions of its validation photos, by the same model: the temperature is fitted on them.
fn validation(model: &OpenModel) -> Vec<Prediction> {
    let path = model.folder.join(file::PREDICTIONS);
    if !model.is_best() || !path.is_file() {
        return Vec::new();
    }
    match read_predictions(&path) {
        Ok(rows) => rows.into_iter().filter(|row| row.split == Split::Val.name()).collect(),
        Err(error) => {
            say(&format!("warning: no temperature is fitted: {error:#}"));
            Vec::new()
        }
    }
}

/// Makes a folder `NAME-TIME` (UTC) that no other evaluation has.
fn new_folder(parent: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    let harmless = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let part: String = name.chars().take(48).map(harmless).collect();
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    for number in 1..1000 {
        let end = if number == 1 { String::new() } else { format!("-{number}") };
        let folder = parent.join(format!("{}-{time}{end}", part.trim_start_matches('.')));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot make the folder {}", folder.display())),
        }
    }
    bail!("found no free name for an evaluation in {}", parent.display())
}

/// Writes tables and report; returns what is told of them.
fn write(out: &Path, title: &str, page: &RunPage, predicted: &Predicted) -> Result<Summary> {
    write_predictions(&out.join(file::PREDICTIONS), &predicted.rows)?;
    write_photos(&out.join(file::DATA), &predicted.photos)?;
    write_skipped(&out.join(file::SKIPPED), &predicted.skipped)?;
    let text =
        |name: &str, text: String| write_atomically(&out.join(name), |file| Ok(file.write_all(text.as_bytes())?));
    text(file::ENVIRONMENT, serde_json::to_string_pretty(&page.environment)? + "\n")?;
    text(file::COMMAND, format!("{}\n", page.command))?;
    let evaluation = page.evaluation.as_ref().context("there is no evaluation")?;
    let figures = SplitFigures::of_split(&evaluation.split, &evaluation.classes, &predicted.rows)?;
    let summary = Summary {
        parent: None,
        best_epoch: page.best_epoch,
        test_accuracy: None,
        test_loss: None,
        history: Vec::new(),
        splits: figures.into_iter().collect(),
    };
    summary.save(out, title)?;
    html::write(
        &out.join(REPORT),
        &Page {
            title: title.to_owned(),
            generated: jiff::Timestamp::now().to_string(),
            ft_version: env!("CARGO_PKG_VERSION").to_owned(),
            runs: vec![page.clone()],
            comparison: None,
        },
    )?;
    Ok(summary)
}

fn tell(summary: &Summary, skipped: &[SkippedRow]) {
    say(&summary.text());
    if !skipped.is_empty() {
        say(&format!("{} broken photos skipped, listed in {}:", skipped.len(), file::SKIPPED));
        skipped.iter().take(SHOWN).for_each(|row| say(&format!("  {}: {}", row.path, row.reason)));
    }
}

fn as_json(model: &OpenModel, out: &Path, data: &Labelled, page: &RunPage, seen: Option<Seen>) -> Result<Value> {
    let evaluation = page.evaluation.as_ref().context("there is no evaluation")?;
    let mut figures = serde_json::to_value(evaluation)?;
    for heavy in ["predictions", "highest_loss", "roc", "precision_recall"] {
        figures.as_object_mut().and_then(|object| object.shift_remove(heavy));
    }
    Ok(json!({
        "run": model.run_name(),
        "checkpoint": model.checkpoint,
        "name": evaluation.split,
        "data": data.root,
        "folder": out,
        "report": out.join(REPORT),
        "predictions": out.join(file::PREDICTIONS),
        "photos": evaluation.photos,
        "trained_on": seen.map(|seen| seen.train),
        "skipped": page.skipped,
        "warnings": page.warnings,
        "evaluation": figures,
    }))
}
