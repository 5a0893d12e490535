//! `ft quickstart`: the whole way in two minutes, without a network or a photo of one's own: train from scratch and by transfer on
//! the same few photos, compare, explain, report. It runs the commands that a user would run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};

use super::output::{Column, print, print_json, table};
use super::prepare::data_cache;
use super::{Cli, Command, DeviceChoice, RunsArgs, explain, interrupt, recipe, report};
use crate::data::drawn;
use crate::error::say;
use crate::models::summary::thousands;
use crate::recipe::{Recipe, load};
use crate::report::page::data::{Comparison, Difference, Estimate, Page};
use crate::runs::RunResult;

/// What learns from nothing but the photos.
const SCRATCH: &str = "petals-scratch";

/// What starts from weights that are inside the program.
const TRANSFER: &str = "petals-transfer";

/// Test photos in which the peak of the heat is compared with where the flower is.
const POINTED: u32 = 40;

/// What to do with one's own photos.
const NEXT: [&str; 3] = ["ft init photos/", "ft recipe photos.toml", "ft explain --model best"];

const EXAMPLES: &str = "\
The photos are drawn by the program, and the weights are inside it: nothing is fetched. Each call adds two runs.

Examples:
  ft quickstart
  ft quickstart --photos-per-class 40 --seed 1
  ft quickstart --json --runs /tmp/runs";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Photos of each class to train with [default: what the recipes say]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    photos_per_class: Option<u16>,
    /// Passes over the training photos, for a shorter try [default: what the recipes say]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    epochs: Option<u16>,
    /// All randomness of both trainings follows from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// Threads to use; results do not depend on it [default: all processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceChoice,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Trains both ways, compares, explains, reports.
///
/// # Errors
/// Whatever stops one of the commands; Ctrl-C.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    super::arguments::set_threads(args.threads)?;
    let recipes = [SCRATCH, TRANSFER].map(|name| load(name, &args.overrides(name)?));
    let [scratch, transfer] = recipes;
    let (scratch, transfer) = (scratch?, transfer?);
    introduce(&scratch, &transfer);
    say(&format!(
        "\n1. From scratch: every one of its weights starts at random and learns from these photos alone ({SCRATCH}).\n"
    ));
    let scratch_run = args.train(SCRATCH)?;
    say(&format!(
        "\n2. By transfer: the same network starts from weights that have seen other pictures ({TRANSFER}).\n"
    ));
    let transfer_run = args.train(TRANSFER)?;
    say("\n3. Where both look (Grad-CAM), on the same test photos.\n");
    let folders = [&scratch_run, &transfer_run].map(|run| PathBuf::from(&run.folder));
    let explained = args.explain(&folders)?;
    refuse_when_stopped()?;
    let masks = masks_of(&scratch)?;
    let pointing = match &masks {
        Some(masks) => folders.iter().map(|folder| args.point(folder, masks)).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    refuse_when_stopped()?;
    say("\n4. A page that compares them.\n");
    let (page_path, page) = args.report(&folders)?;
    let story = Story {
        runs: [&scratch_run, &transfer_run],
        page: &page,
        page_path: &page_path,
        explained: &explained,
        pointing,
    };
    if args.json {
        return print_json(&story.as_json(started)?);
    }
    print(&story.text(started)?)
}

/// Ctrl-C behind the trainings: they are kept, the rest can be had by single commands.
fn refuse_when_stopped() -> Result<()> {
    ensure!(
        !interrupt::requested(),
        "stopped; both runs are complete (ft runs), and the rest is: ft explain --model RUN --model RUN; ft report RUN RUN"
    );
    Ok(())
}

/// What is going to happen, and why.
fn introduce(scratch: &Recipe, transfer: &Recipe) {
    say(&format!(
        "Few photos, two ways: {} and {} are trained on the same photos of flowers, drawn by this program.\n\
         Can a network that has seen other pictures before learn more from few photos than one that starts from nothing?\n\
         All of it happens here; nothing is fetched. It takes less than two minutes on two cores.",
        scratch.name, transfer.name
    ));
}

impl Args {
    /// What is changed in a recipe.
    fn overrides(&self, recipe: &str) -> Result<Vec<String>> {
        let mut overrides = vec![format!("seed={}", self.seed)];
        if let Some(count) = self.photos_per_class {
            let source = load(recipe, &[])?.data.source;
            overrides.push(format!("data.source={}", toml::Value::String(with_train_count(&source, count))));
        }
        if let Some(epochs) = self.epochs {
            overrides.push(format!("train.epochs={epochs}"));
        }
        Ok(overrides)
    }

    /// A command as a user would type it, with what of the machine may be used.
    fn command(&self, words: &[&str], paths: &[&Path]) -> Result<Command> {
        let device = self.device.to_string();
        let words = ["ft"].iter().chain(words).map(OsString::from);
        let paths = paths.iter().map(|path| OsString::from(path.as_os_str()));
        let machine = ["--offline", "--device", device.as_str(), "--runs"].map(OsString::from);
        let runs = [self.runs.runs.clone().into_os_string()];
        let line = words.chain(paths).chain(machine).chain(runs);
        Ok(Cli::try_parse_from(line)
            .map_err(|e| anyhow!("{e}"))
            .context("ft cannot run its own command; please report it")?
            .command)
    }

    fn train(&self, name: &str) -> Result<RunResult> {
        let overrides = self.overrides(name)?;
        let sets = overrides.iter().flat_map(|set| ["--set", set.as_str()]);
        let words: Vec<&str> = ["recipe", name].into_iter().chain(sets).collect();
        let Command::Recipe(command) = self.command(&words, &[])? else { bail!("no command to train") };
        let finished = recipe::train(&command)?;
        finished.say_figures();
        if finished.result.interrupted {
            bail!(
                "stopped; what was reached is in {} (ft resume {} goes on with it, ft quickstart begins anew)",
                finished.result.folder,
                finished.name()
            );
        }
        Ok(finished.result)
    }

    /// Both models on one card for each photo: the object that `ft explain --json` prints.
    fn explain(&self, folders: &[PathBuf; 2]) -> Result<Value> {
        let [scratch, transfer] = folders;
        let words = ["explain", "--count", "6", "--model"];
        // The transferred model's predictions decide which photos are right and wrong ones.
        let mut line = vec![transfer.as_path(), Path::new("--model")];
        line.push(scratch);
        let Command::Explain(command) = self.command(&words, &line)? else { bail!("no command to explain") };
        Ok(explain::explain(&command)?.0)
    }

    /// How often the peak of the heat lies on the flower, where the data set says where it is.
    fn point(&self, folder: &Path, masks: &Path) -> Result<Option<Value>> {
        let count = POINTED.to_string();
        let words = [
            "explain",
            "--faithfulness",
            "--method",
            "gradcam",
            "--steps",
            "2",
            "--cards",
            "0",
            "--photos",
            &count,
            "--masks",
        ];
        let Command::Explain(command) = self.command(&words, &[masks, Path::new("--model"), folder])? else {
            bail!("no command to explain")
        };
        let result = explain::explain(&command)?.0;
        let methods = result["methods"].as_array().into_iter().flatten();
        let gradcam = methods.into_iter().find(|method| method["method"] == "gradcam");
        Ok(gradcam.map(|method| method["measures"]["pointing_game"].clone()).filter(|value| !value.is_null()))
    }

    fn report(&self, folders: &[PathBuf; 2]) -> Result<(PathBuf, Page)> {
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        let Command::Report(command) = self.command(&["report"], &folders)? else { bail!("no command to report") };
        report::write(&command)
    }
}

/// Where the flowers are in the photos of a recipe, pixel by pixel.
fn masks_of(recipe: &Recipe) -> Result<Option<PathBuf>> {
    let Some(source) = drawn::find(&recipe.data.source) else { return Ok(None) };
    Ok(source?.in_cache(&data_cache()).map(|drawn| drawn.masks()))
}

/// A drawn data set's name with another number of training photos: `petals?train=40&seed=1`.
fn with_train_count(source: &str, count: u16) -> String {
    let (name, options) = source.split_once('?').unwrap_or((source, ""));
    let kept = options.split('&').filter(|option| !option.is_empty() && !option.starts_with("train="));
    let options: Vec<String> = kept.map(str::to_owned).chain([format!("train={count}")]).collect();
    format!("{name}?{}", options.join("&"))
}

/// What came of it: from scratch first, by transfer second.
struct Story<'a> {
    runs: [&'a RunResult; 2],
    page: &'a Page,
    page_path: &'a Path,
    explained: &'a Value,
    pointing: Vec<Option<Value>>,
}

impl Story<'_> {
    fn comparison(&self) -> Result<&Comparison> {
        self.page.comparison.as_ref().context("the page compares nothing")
    }

    fn accuracy(&self, run: usize) -> Option<Estimate> {
        self.page.comparison.as_ref()?.rows.get(run)?.accuracy
    }

    fn difference(&self) -> Result<Option<&Difference>> {
        Ok(self.comparison()?.rows.get(1).and_then(|row| row.difference.as_ref()))
    }

    fn text(&self, started: Instant) -> Result<String> {
        let mut text = self.table()?;
        text.push('\n');
        text.push_str(&self.verdict()?);
        text.push_str("\nlook at\n");
        for (what, path) in self.places() {
            text.push_str(&format!("  {what:<34}  {}\n", shown(&path)));
        }
        text.push_str("\nnext, with your own photos (a folder photos/ with one folder for each class)\n");
        for command in NEXT {
            text.push_str(&format!("  {command}\n"));
        }
        text.push_str(&format!("\nall of this took {:.0} s; more: ft help topics\n", started.elapsed().as_secs_f64()));
        Ok(text)
    }

    fn table(&self) -> Result<String> {
        let columns = [Column::Left(""), Column::Right("from scratch"), Column::Right("transfer")];
        let photos = self.page.runs.first().and_then(|run| run.evaluation.as_ref()).map_or(0, |e| e.photos);
        let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
        let interval =
            |e: Option<Estimate>| e.map_or_else(|| "-".to_owned(), |e| format!("{:.3} to {:.3}", e.low, e.high));
        let both = |value: &dyn Fn(usize) -> String| [value(0), value(1)];
        let epochs = |i: usize| {
            let run = self.runs[i];
            format!(
                "{} (best: {})",
                run.epochs,
                run.best_epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string())
            )
        };
        let mut rows = vec![
            (format!("test accuracy, {photos} photos"), both(&|i| share(self.accuracy(i).map(|e| e.value)))),
            ("  95 % interval".to_owned(), both(&|i| interval(self.accuracy(i)))),
            ("validation accuracy".to_owned(), both(&|i| share(self.runs[i].best_val_accuracy))),
            ("epochs".to_owned(), both(&epochs)),
            ("seconds".to_owned(), both(&|i| format!("{:.0}", self.runs[i].seconds))),
            ("trained parameters".to_owned(), both(&|i| thousands(self.runs[i].trainable_params))),
        ];
        if self.pointing.iter().any(Option::is_some) {
            let pointed = |i: usize| {
                let value = self.pointing.get(i).and_then(Option::as_ref);
                let part = |key: &str| value.and_then(|v| v[key].as_f64()).map(|v| 100.0 * v);
                match (part("mean"), part("low"), part("high")) {
                    (Some(mean), Some(low), Some(high)) => format!("{mean:.0} % ({low:.0} to {high:.0})"),
                    _ => "-".to_owned(),
                }
            };
            rows.push(("heat peaks on the flower".to_owned(), both(&pointed)));
        }
        let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, [a, b])| vec![name, a, b]).collect();
        Ok(table(&columns, &rows))
    }

    /// Whether the difference is more than chance.
    fn verdict(&self) -> Result<String> {
        let Some(difference) = self.difference()? else { return Ok(String::new()) };
        let Difference { photos, accuracy, gained, lost, p_value } = difference;
        let p = if *p_value < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {p_value:.4}") };
        let verdict = match (*p_value < 0.05, accuracy.value > 0.0) {
            (true, true) => "transfer is better, by more than chance",
            (true, false) => "training from scratch is better, by more than chance",
            (false, _) => "chance alone could make such a difference",
        };
        Ok(format!(
            "transfer less scratch: {:+.3} (95 % interval {:+.3} to {:+.3}). Of {photos} photos {gained} are right by transfer only,\n\
             {lost} from scratch only; McNemar's test: {p}. So {verdict}.\n",
            accuracy.value, accuracy.low, accuracy.high
        ))
    }

    /// What to look at, in this order.
    fn places(&self) -> Vec<(String, PathBuf)> {
        let mut places = vec![("both runs on a page".to_owned(), self.page_path.to_owned())];
        let sheets = self.explained["sheets"].as_array().into_iter().flatten().filter_map(Value::as_str);
        places.extend(sheets.map(|sheet| {
            let kind = if sheet.contains("wrong") { "wrong" } else { "right" };
            (format!("where both look, {kind} by transfer"), PathBuf::from(sheet))
        }));
        let names = ["the run from scratch", "the run by transfer"];
        places.extend(names.iter().zip(self.runs).map(|(name, run)| ((*name).to_owned(), PathBuf::from(&run.folder))));
        places
    }

    fn as_json(&self, started: Instant) -> Result<Value> {
        let run = |i: usize| {
            let result = self.runs[i];
            json!({
                "run": result.run,
                "recipe": result.recipe,
                "folder": result.folder,
                "test_accuracy": self.accuracy(i),
                "best_val_accuracy": result.best_val_accuracy,
                "epochs": result.epochs,
                "best_epoch": result.best_epoch,
                "seconds": result.seconds,
                "trainable_params": result.trainable_params,
                "pointing_game": self.pointing.get(i),
            })
        };
        Ok(json!({
            "scratch": run(0),
            "transfer": run(1),
            "difference": self.difference()?,
            "report": self.page_path,
            "explanations": { "out": self.explained["out"], "sheets": self.explained["sheets"] },
            "next": NEXT,
            "seconds": started.elapsed().as_secs_f64(),
        }))
    }
}

/// As short as it can be from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
    short.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::with_train_count;

    #[test]
    fn the_number_of_training_photos_is_an_option_of_the_data_set() {
        assert_eq!(with_train_count("petals", 40), "petals?train=40");
        assert_eq!(with_train_count("petals?train=20&seed=3", 5), "petals?seed=3&train=5");
    }
}
