//! `ft predict`: what a trained model takes photos for.
//!
//! `--json` prints one object, to which keys may be added but none taken away:
//!
//! ```json
//! {"model": {"run": "...", "checkpoint": "...", "architecture": "...", "recipe": "...", "dataset": "...", "image_size": 160, "epoch": 7, "val_accuracy": 0.9},
//!  "classes": ["daisy", "roses"],
//!  "predictions": [{"path": "a.jpg", "truth": "roses", "top": [{"class": "roses", "probability": 0.97}]}],
//!  "skipped": [{"path": "b.jpg", "reason": "broken JPEG: ..."}],
//!  "evaluation": null}
//! ```
//!
//! `truth` and `evaluation` (as in `ft runs show --json`: accuracy, classes, confusion) are there with `--truth`. Probabilities
//! are a softmax, or one sigmoid for each class if the model was trained so.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::console::Console;
use super::output::{print, print_json};
use super::{MachineArgs, RunsArgs, photos, precision};
use crate::data::dataset::Sample;
use crate::data::photo::Photo;
use crate::error::{say, usage};
use crate::natural;
use crate::recipe::PrecisionChoice;
use crate::report::summary::class_table;
use crate::report::table::{Align, Table};
use crate::runs::{SplitFigures, resolve_checkpoint};
use crate::train::checkpoint::{self, ModelDescription};
use crate::train::finite::NotFinite;
use crate::train::predict::predict_readable;
use crate::train::source::PhotoSource;

const EXAMPLES: &str = "\
Examples:
  ft predict rose.jpg                                  the best model's three most probable classes
  ft predict --model latest --top 1 garden/ 'more/*.jpg'
  find . -name '*.png' | ft predict --csv - > predictions.csv
  ft predict --truth test/                             with accuracy: test/roses/1.jpg is a rose

Photos that cannot be read are skipped, counted and listed on stderr. Exit code 1 only if none could be predicted.
Predictions are in the order of the arguments, photos of a folder sorted by path; a photo named twice counts once.";

/// Classes that are shown unless told otherwise.
const SHOWN: usize = 3;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Photos, folders of photos, quoted patterns such as '*.jpg', or - for paths on stdin, one a line
    #[arg(value_name = "PHOTO", required = true)]
    photos: Vec<PathBuf>,
    /// The model: best, best:DATASET[:METRIC], latest, an id or a part of it, a recipe or tag that one run has, or the path of a run or a checkpoint
    #[arg(long, value_name = "RUN", default_value = "best")]
    model: String,
    /// How many classes to show for each photo, most probable first [default: 3]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Compare with the names of the folders that the photos lie in
    #[arg(long)]
    truth: bool,
    /// Photos that go through the network at once
    #[arg(long, value_name = "N", default_value_t = 32, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Print the result as one JSON object
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print the result as CSV: path, truth if asked for, then class and probability of each rank
    #[arg(long)]
    csv: bool,
    /// Numbers to compute in; auto takes bf16 where the device is fast in it
    #[arg(long, value_name = "NUMBERS", default_value_t, value_parser = precision::parser())]
    precision: PrecisionChoice,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

/// A class that a photo may be of.
#[derive(Debug, Serialize)]
struct Candidate {
    class: String,
    /// From 0 to 1.
    probability: f32,
}

/// What the model makes of a photo.
#[derive(Debug, Serialize)]
struct Predicted {
    path: String,
    /// Class whose name one of the photo's folders has; only with `--truth`.
    #[serde(skip_serializing_if = "Option::is_none")]
    truth: Option<String>,
    /// Most probable first.
    top: Vec<Candidate>,
}

/// A photo that could not be read.
#[derive(Debug, Serialize)]
struct Skipped {
    path: String,
    reason: String,
}

/// Everything that is printed.
struct Report {
    description: ModelDescription,
    checkpoint: PathBuf,
    predictions: Vec<Predicted>,
    skipped: Vec<Skipped>,
    /// Of the photos whose true class is known; only with `--truth`.
    figures: Option<SplitFigures>,
}

/// Predicts photos.
///
/// # Errors
/// A usage error if there is no such model or photo; any other if no photo can be predicted.
pub fn run(args: &Args) -> Result<()> {
    args.machine.set_threads()?;
    let started = Instant::now();
    let device = args.machine.device.ready()?;
    let precision = precision::resolve(args.precision, &device)?;
    let paths = photos::find_with_list(&args.photos, &mut io::stdin().lock())?;
    let checkpoint = resolve_checkpoint(&args.runs.runs, &args.model)?;
    let (description, mut network) = checkpoint::load(&checkpoint, &device)?;
    network.set_precision(precision);
    let truths: Vec<Option<usize>> = match args.truth {
        true => truths(&paths, &description.classes)?,
        false => vec![None; paths.len()],
    };
    let sample =
        |path: &PathBuf| Sample { id: path.to_string_lossy().into_owned(), photo: Photo::File(path.clone()), label: 0 };
    let samples = paths.iter().map(sample).collect();
    let source = PhotoSource::new(samples, description.image_size, &description.preprocessing, 0, &device)?;
    let mut console = Console::default();
    console.begin("predict", paths.len());
    let outcomes = predict_readable(&network, &source, args.batch_size.into(), &mut |done| console.progress(done, ""))?;
    console.end();
    let report = Report::new(description, checkpoint, args, &paths, outcomes, &truths)?;
    report.tell(started);
    ensure!(!report.predictions.is_empty(), "none of the {} photos could be read", paths.len());
    report.print(args)
}

impl Report {
    fn new(
        description: ModelDescription,
        checkpoint: PathBuf,
        args: &Args,
        paths: &[PathBuf],
        outcomes: Vec<Result<Vec<f32>>>,
        truths: &[Option<usize>],
    ) -> Result<Self> {
        let count = args.top.map_or(SHOWN, |top| top as usize);
        let (mut predictions, mut skipped) = (Vec::new(), Vec::new());
        let (mut known, mut labels) = (Vec::new(), Vec::new());
        for ((path, outcome), truth) in paths.iter().zip(outcomes).zip(truths) {
            let path = path.to_string_lossy().into_owned();
            match outcome {
                Ok(logits) => {
                    let top = candidates(&description, &logits, count).with_context(|| path.clone())?;
                    let name = truth.and_then(|t| description.classes.get(t)).cloned();
                    predictions.push(Predicted { path, truth: name, top });
                    if let Some(truth) = truth {
                        labels.push(*truth);
                        known.push(logits);
                    }
                }
                Err(error) => skipped.push(Skipped { path, reason: reason(&error) }),
            }
        }
        let figures = match labels.is_empty() {
            true => None,
            false => Some(SplitFigures::new("given", &description.classes, &known, &labels)?),
        };
        Ok(Self { description, checkpoint, predictions, skipped, figures })
    }

    /// What stdout is not for.
    fn tell(&self, started: Instant) {
        let ModelDescription { architecture, epoch, classes, .. } = &self.description;
        say(&format!("model {}: {architecture} of epoch {epoch}, {} classes", self.model_name(), classes.len()));
        for Skipped { path, reason } in &self.skipped {
            say(&format!("skipped {path}: {reason}"));
        }
        say(&format!(
            "{} photo{} predicted, {} skipped, in {:.2} s",
            self.predictions.len(),
            if self.predictions.len() == 1 { "" } else { "s" },
            self.skipped.len(),
            started.elapsed().as_secs_f64()
        ));
    }

    /// The run's name, or the file's if it lies in no folder with a name.
    fn model_name(&self) -> String {
        let folder = std::path::absolute(&self.checkpoint).ok();
        let name = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
        name.map_or_else(|| self.checkpoint.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    fn print(&self, args: &Args) -> Result<()> {
        if args.json {
            return print_json(&self.json());
        }
        if args.csv {
            self.say_figures();
            return print(&self.csv(args.truth)?);
        }
        print(&self.table(args.truth))?;
        match &self.figures {
            Some(figures) => print(&format!("\n{}\n{}", accuracy_line(figures), class_table(figures).text())),
            None => Ok(()),
        }
    }

    fn say_figures(&self) {
        if let Some(figures) = &self.figures {
            say(&accuracy_line(figures));
        }
    }

    fn json(&self) -> serde_json::Value {
        let ModelDescription { architecture, recipe, dataset, classes, image_size, epoch, val_accuracy, .. } =
            &self.description;
        json!({
            "model": {
                "run": self.model_name(),
                "checkpoint": self.checkpoint,
                "architecture": architecture,
                "recipe": recipe,
                "dataset": dataset,
                "image_size": image_size,
                "epoch": epoch,
                "val_accuracy": val_accuracy,
            },
            "classes": classes,
            "predictions": self.predictions,
            "skipped": self.skipped,
            "evaluation": self.figures,
        })
    }

    fn csv(&self, with_truth: bool) -> Result<String> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        let ranks = self.predictions.first().map_or(0, |p| p.top.len());
        let fixed: &[&str] = if with_truth { &["path", "truth"] } else { &["path"] };
        let ranked = (1..=ranks).flat_map(|rank| [format!("class_{rank}"), format!("probability_{rank}")]);
        csv.write_record(fixed.iter().map(|s| (*s).to_owned()).chain(ranked))?;
        for Predicted { path, truth, top } in &self.predictions {
            let truth = with_truth.then(|| truth.clone().unwrap_or_default());
            let ranked = top.iter().flat_map(|c| [c.class.clone(), c.probability.to_string()]);
            csv.write_record(std::iter::once(path.clone()).chain(truth).chain(ranked))?;
        }
        Ok(String::from_utf8(csv.into_inner().map_err(|e| e.into_error())?)?)
    }

    /// A line for each photo; with `--truth`, wrong predictions are marked.
    fn table(&self, with_truth: bool) -> String {
        let mut columns = vec!["photo", "predicted"];
        if with_truth {
            columns.extend(["truth", ""]);
        }
        let mut table = Table::new(columns, ["probability"]);
        table.columns.push(("then".to_owned(), Align::Left));
        for Predicted { path, truth, top } in &self.predictions {
            let Some((first, others)) = top.split_first() else { continue };
            let mut row = vec![path.clone(), first.class.clone()];
            if with_truth {
                let wrong = truth.as_ref().is_some_and(|truth| *truth != first.class);
                row.push(truth.clone().unwrap_or_else(|| "-".to_owned()));
                row.push(if wrong { "wrong" } else { "" }.to_owned());
            }
            row.push(format!("{:.4}", first.probability));
            let others = others.iter().map(|c| format!("{} {:.4}", c.class, c.probability));
            row.push(others.collect::<Vec<_>>().join(", "));
            table.rows.push(row);
        }
        table.text()
    }
}

fn accuracy_line(figures: &SplitFigures) -> String {
    let SplitFigures { correct, photos, accuracy, .. } = figures;
    format!("accuracy {accuracy:.4}: {correct} of {photos} photos in folders named after a class are right")
}

/// The `count` most probable classes; of equal ones the first come first.
///
/// # Errors
/// If a logit is not finite.
fn candidates(description: &ModelDescription, logits: &[f32], count: usize) -> Result<Vec<Candidate>, NotFinite> {
    let probabilities = description.decide(logits)?.probabilities;
    let mut candidates: Vec<Candidate> = description
        .classes
        .iter()
        .zip(probabilities)
        .map(|(class, probability)| Candidate { class: class.clone(), probability })
        .collect();
    candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    candidates.truncate(count);
    Ok(candidates)
}

/// The class that the innermost of a photo's folders is named after.
///
/// # Errors
/// A usage error if no photo lies in such a folder.
fn truths(paths: &[PathBuf], classes: &[String]) -> Result<Vec<Option<usize>>> {
    let class = |name: &std::ffi::OsStr| classes.iter().position(|class| class.as_str() == name);
    let truth = |path: &PathBuf| {
        // The folder that a photo lies in may be the current one.
        let whole = std::path::absolute(path).ok()?;
        whole.ancestors().skip(1).filter_map(Path::file_name).find_map(class)
    };
    let truths: Vec<Option<usize>> = paths.iter().map(truth).collect();
    match truths.iter().any(Option::is_some) {
        true => Ok(truths),
        false => Err(usage(format!(
            "--truth: no photo lies in a folder that is named after a class; the classes are {}",
            natural::list(classes)
        ))),
    }
}

/// Why a photo cannot be read, without its name.
pub(super) fn reason(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    match causes.as_slice() {
        [_, causes @ ..] if !causes.is_empty() => causes.join(": "),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_folder_that_is_a_class_tells_the_truth() {
        let classes = ["roses", "tulips"].map(String::from);
        let paths = ["a/roses/1.jpg", "a/roses/red/2.jpg", "roses/tulips/3.jpg", "a/4.jpg", "a/roses.jpg"];
        let truths = truths(&paths.map(PathBuf::from), &classes).unwrap();
        assert_eq!(truths, [Some(0), Some(0), Some(1), None, None]);
        assert!(super::truths(&[PathBuf::from("a/4.jpg")], &classes).is_err());
    }

    #[test]
    fn a_reason_does_not_repeat_the_photo() {
        let error = anyhow::anyhow!("it ends too early").context("broken JPEG").context("photo a.jpg");
        assert_eq!(reason(&error), "broken JPEG: it ends too early");
        assert_eq!(reason(&anyhow::anyhow!("alone")), "alone");
    }
}
