//! A recipe from data to record: what `ft recipe` and `ft baseline` have in common.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use super::conduct::{Course, Halved, Predicted, TestFigures, prepare_among, read_photos};
use super::console::Console;
use super::prepare::{Prepared, prepare, warnings};
use super::recorder::Recorder;
use super::{TrainingArgs, board, follow, interrupt, output, precision, sweep};
use crate::data::check::Manifest;
use crate::data::dataset::Dataset;
use crate::data::split::Split;
use crate::data::warnings::few_test_photos;
use crate::data::{catalogue, drawn};
use crate::disk::is_full;
use crate::error::{Interrupted, say, usage};
use crate::files::sha256_file;
use crate::models::summary;
use crate::ops::Precision;
use crate::parallel::Ranks;
use crate::recipe::{Expected, Recipe};
use crate::report::summary::Summary;
use crate::runs::{self, Environment, RankRecord, Restored, RunResult, RunWriter, States, file, tensorboard};
use crate::train::checkpoint;
use crate::train::fit::Fitted;
use crate::train::layer_lr::parameter_options;
use crate::train::objective::Objective;
use crate::train::pace::needs_validation;
use crate::train::phases::{frozen_throughout, phases};
use crate::train::state::Origin;
use crate::train::trainer::Stopped;

/// Runs the recipe and prints its result.
///
/// # Errors
/// Whatever stops it; once the run folder exists the error is recorded there too.
pub fn run(recipe: &Recipe, args: &TrainingArgs, ranks: &Ranks) -> Result<()> {
    if !ranks.is_first() {
        return follow::train(recipe, args, ranks);
    }
    train(recipe, args, ranks)?.report(recipe, args.json)
}

/// Runs the recipe as the first of its ranks.
///
/// # Errors
/// As [`run`].
pub(super) fn train(recipe: &Recipe, args: &TrainingArgs, ranks: &Ranks) -> Result<Finished> {
    let started = Instant::now();
    args.machine.set_threads_among(ranks)?;
    let mut console = Console::default();
    let (recipe, mut prepared, selected) = prepare_among(ranks, args.machine.device, |device| {
        let recipe = precision::settled(recipe, device)?;
        let prepared = prepare(&recipe, args.machine.offline, device, &mut console)?;
        check_training(&recipe, &prepared)?;
        Ok((recipe, prepared))
    })?;
    let recipe = &recipe;
    let manifest = ranks.agree(read_photos(&mut prepared.dataset, &mut console, ranks))?;
    // Broken photos may have made the data thinner than they looked.
    let warnings = warnings(&prepared.dataset, recipe);
    warnings.iter().filter(|line| !prepared.warnings.contains(line)).for_each(|line| console.log(line));
    let run = RunWriter::create(&args.runs.runs, recipe)?;
    sweep::attach(Some(run.folder()))?;
    console.log(&format!("run {}", run.folder().display()));
    log_ranks(&console, ranks);
    console.log(&selected.line());
    let mut environment = Environment::collect(output::device_name(&prepared.device), prepared.weights.clone());
    (environment.device_hardware, environment.device_reason) = (selected.hardware, selected.reason);
    environment.ranks = RankRecord::of(ranks, recipe.train.batch_norm_sync);
    environment.data_root = std::path::absolute(&prepared.dataset.photos_root).ok().map(|p| p.display().to_string());
    run.write_environment(&environment)?;
    interrupt::install_for(ranks)?;
    let name = shown_name(run.folder());
    Session { recipe, run, name, environment, console, started, ranks: ranks.clone() }
        .conduct(prepared, Start { manifest, restored: None })
}

/// Says who trains together.
pub(super) fn log_ranks(console: &Console, ranks: &Ranks) {
    if ranks.is_alone() {
        return;
    }
    let mut hosts: Vec<&str> = ranks.place().hosts.iter().map(String::as_str).collect();
    hosts.dedup();
    let threads = rayon::current_num_threads();
    let s = if threads == 1 { "" } else { "s" };
    console.log(&format!("{} ranks on {}, {threads} thread{s} each", ranks.size(), hosts.join(", ")));
}

/// A run that is about to train.
pub(super) struct Session<'a> {
    pub recipe: &'a Recipe,
    pub run: RunWriter,
    /// What the user can call the run.
    pub name: String,
    pub environment: Environment,
    pub console: Console,
    pub started: Instant,
    pub ranks: Ranks,
}

/// A run that has ended, by itself or by Ctrl-C.
pub(super) struct Finished {
    pub result: RunResult,
    name: String,
    summary: Option<Summary>,
}

/// Where a run begins or goes on.
pub(super) struct Start {
    /// Its photos, which have been looked at.
    pub manifest: Manifest,
    /// The state that it goes on from; none from the beginning.
    pub restored: Option<Restored>,
}

impl Session<'_> {
    /// Trains and evaluates.
    ///
    /// # Errors
    /// Whatever stops it, which is recorded in the run folder.
    pub fn conduct(self, mut prepared: Prepared, start: Start) -> Result<Finished> {
        let Self { recipe, run, name, environment, console, started, ranks } = self;
        match execute(recipe, &mut prepared, &run, environment, console, started, start, &ranks) {
            Ok(mut result) => {
                let summary = summarise(&run, &mut result);
                if recipe.train.tensorboard
                    && let Err(error) = tensorboard::record_result(run.folder(), &result)
                {
                    say(&format!("warning: TensorBoard's files lack the result: {error:#}"));
                }
                let states = States::of(run.folder());
                run.finish(&result)?;
                if recipe.train.keep_checkpoints == 0 && !result.interrupted {
                    states.remove_all()?;
                }
                Ok(Finished { result, name, summary })
            }
            // Without its error or result file the run counts as interrupted, which it is.
            Err(error) if error.is::<Interrupted>() => Err(anyhow!("{error:#}\n  resume it: ft resume {name}")),
            Err(error) => {
                // The error itself matters more than the note about it.
                let _ = run.fail(&error);
                Err(if lacks_room(&error) {
                    error.context(format!("there is no room left; make some, and go on with: ft resume {name}"))
                } else {
                    error
                })
            }
        }
    }
}

/// What commands in this folder find the run by: its id in the usual folder of runs, else its path.
pub(super) fn shown_name(folder: &Path) -> String {
    let usual = std::path::absolute("runs").ok();
    let absolute = std::path::absolute(folder).ok();
    let (parent, id) = (absolute.as_deref().and_then(Path::parent), absolute.as_deref().and_then(Path::file_name));
    match id {
        Some(id) if usual.is_some() && usual.as_deref() == parent => id.to_string_lossy().into_owned(),
        _ => folder.display().to_string(),
    }
}

/// Whether a file could not be written because a disk or an allowance is full.
fn lacks_room(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(is_full))
}

/// Mistakes of the recipe that only the network and the photos show, told before anything is written.
pub(super) fn check_training(recipe: &Recipe, prepared: &Prepared) -> Result<()> {
    frozen_throughout(&phases(recipe), prepared.network.graph())?;
    parameter_options(prepared.network.graph(), &recipe.train)?;
    match needs_validation(&recipe.train) {
        Some(key) if prepared.dataset.val.is_empty() => Err(usage(format!(
            "{key} watches validation photos, but there are none; take it out, or set data.split.val"
        ))),
        _ => Ok(()),
    }
}

#[allow(clippy::too_many_arguments)] // the parts of a session
fn execute(
    recipe: &Recipe,
    prepared: &mut Prepared,
    run: &RunWriter,
    mut environment: Environment,
    console: Console,
    started: Instant,
    Start { manifest, restored }: Start,
    ranks: &Ranks,
) -> Result<RunResult> {
    record_photos(&prepared.dataset, &manifest, run, &console)?;
    environment.data_sha256 = manifest.split_hashes();
    run.write_environment(&environment)?;
    let Prepared { dataset, description, network, device, .. } = prepared;
    let labels: Vec<u32> = dataset.train.iter().map(|s| s.label).collect();
    let objective = Objective::new(&recipe.train, &dataset.classes, &labels)?;
    let never_trained = frozen_throughout(&phases(recipe), network.graph())?;
    let frozen = network.hash_before(never_trained)?;
    let origin = Origin {
        ft_version: env!("CARGO_PKG_VERSION").to_owned(),
        recipe_sha256: sha256_file(&run.path(file::RECIPE))?,
        data_sha256: environment.data_sha256.clone(),
        ..Origin::default()
    };
    let mut recorder = Recorder::new(run, &recipe.train, description.clone(), origin, started, console);
    let course = Course { recipe, dataset, manifest: &manifest, description, device, ranks };
    let mut trainer = course.trainer(recipe, &objective, network, restored.as_ref())?;
    match (&restored, trainer.latest_phase()) {
        (Some(restored), Some(phase)) => recorder.resume(restored, phase)?,
        _ => recorder.begin(),
    }
    drop(restored);
    let val = course.train(&mut trainer, network, &mut recorder)?;
    let fitted = trainer.finish(network, &mut recorder)?;
    ensure!(
        network.hash_before(never_trained)? == frozen,
        "a frozen layer has changed during training; this is a bug in ft, please report it with {}",
        run.folder().display()
    );
    let before = recorder.seconds_before();
    let mut console = recorder.into_console();
    if never_trained > 0 {
        console.log(&format!("frozen layers unchanged by training (sha256 {frozen})"));
    }
    let test = evaluate_best(recipe, prepared, &manifest, run, val, &objective, &mut console, ranks)?;
    Ok(RunResult {
        parent: environment.parent.map(|parent| parent.run),
        frozen_sha256: (never_trained > 0).then_some(frozen),
        test_loss: test.map(|test| test.loss),
        test_objective: test.and_then(|test| test.objective),
        test_accuracy: test.map(|test| test.accuracy),
        seconds: before + started.elapsed().as_secs_f64(),
        ..training_result(recipe, prepared, run, &fitted)?
    })
}

/// Writes `summary.md` and puts the figures of the classes into the result. The result matters more than its tables: what
/// keeps them from being made is only said.
fn summarise(run: &RunWriter, result: &mut RunResult) -> Option<Summary> {
    let summary = Summary::with_result(run.folder(), Some(result)).and_then(|summary| {
        summary.save(run.folder(), run.id())?;
        Ok(summary)
    });
    let summary = summary.map_err(|error| say(&format!("warning: there are no tables of this run: {error:#}"))).ok()?;
    if let Some(test) = summary.splits.iter().find(|split| split.split == Split::Test.name()) {
        result.test_classes.clone_from(&test.classes);
        result.test_balanced_accuracy = Some(test.macro_recall);
        result.test_macro_f1 = Some(test.macro_f1);
    }
    Some(summary)
}

/// Records what was found when every photo was read.
fn record_photos(dataset: &Dataset, manifest: &Manifest, run: &RunWriter, console: &Console) -> Result<()> {
    let rows: Vec<_> =
        dataset.skipped.iter().map(|s| runs::SkippedRow { path: s.id.clone(), reason: s.reason.clone() }).collect();
    run.write_skipped(&rows)?;
    manifest.write_csv(&run.path(file::DATA))?;
    console.log(&format!(
        "data {}: {} classes, {} train, {} val, {} test photos",
        dataset.name,
        dataset.classes.len(),
        dataset.train.len(),
        dataset.val.len(),
        dataset.test.len()
    ));
    dataset.drawn_notes().iter().for_each(|note| console.log(note));
    few_test_photos(dataset).iter().for_each(|note| console.log(note));
    if !rows.is_empty() {
        console.log(&format!("{} broken photos skipped, listed in {}:", rows.len(), run.path(file::SKIPPED).display()));
        for row in rows.iter().take(5) {
            console.log(&format!("  {}: {}", row.path, row.reason));
        }
    }
    let shared = manifest.shared_between_splits();
    if let Some((a, b)) = shared.first() {
        console.log(&format!(
            "warning: {} photos lie in two splits at once (the first: {a} and {b}); the test is easier than it looks",
            shared.len()
        ));
    }
    Ok(())
}

/// Evaluates the best checkpoint on the photos that nothing has seen yet, and on the validation photos; writes what it
/// predicts. Returns the figures of the test photos, if there are a checkpoint and such photos.
#[allow(clippy::too_many_arguments)] // what an evaluation depends on
fn evaluate_best(
    recipe: &Recipe,
    prepared: &Prepared,
    manifest: &Manifest,
    run: &RunWriter,
    val: Option<Halved>,
    objective: &Objective,
    console: &mut Console,
    ranks: &Ranks,
) -> Result<Option<TestFigures>> {
    let best = run.path(file::BEST);
    if !ranks.any(best.is_file())? {
        return Ok(None);
    }
    let (description, mut network) = checkpoint::load(&best, &prepared.device)?;
    // As in training: what was computed of the validation photos' first half is in these numbers.
    network.set_precision(prepared.network.precision());
    let Prepared { dataset, device, .. } = prepared;
    let course = Course { recipe, dataset, manifest, description: &description, device, ranks };
    let Predicted { rows, test } = course.predict(&network, &description, val, objective, console)?;
    run.write_predictions(&rows)?;
    // Maps are those of ft explain.
    network.set_precision(Precision::F32);
    if recipe.train.tensorboard
        && let Err(error) = board::add_glance(run, &description, &network, &prepared.dataset, &rows)
    {
        console.log(&format!("warning: TensorBoard's files lack what the model looks at: {error:#}"));
    }
    Ok(test)
}

/// What is known of the result before the test.
fn training_result(recipe: &Recipe, prepared: &Prepared, run: &RunWriter, fitted: &Fitted) -> Result<RunResult> {
    let counts = summary::counts(&prepared.network);
    Ok(RunResult {
        run: run.id().to_owned(),
        folder: std::path::absolute(run.folder())?.display().to_string(),
        recipe: recipe.name.clone(),
        dataset: prepared.dataset.name.clone(),
        model: recipe.backbone.model.clone(),
        classes: prepared.dataset.classes.clone(),
        total_params: counts.total,
        trainable_params: counts.trainable,
        epochs: fitted.epochs,
        best_epoch: fitted.best.as_ref().map(|b| b.epoch),
        best_val_accuracy: fitted.best.as_ref().and_then(|b| b.val_accuracy),
        train_images_per_second: fitted.images_per_second,
        images: prepared.dataset.len(),
        skipped_images: prepared.dataset.skipped.len(),
        interrupted: fitted.stopped == Some(Stopped::Interrupted),
        stopped_early: match &fitted.stopped {
            Some(Stopped::Early(reason)) => Some(reason.clone()),
            _ => None,
        },
        ..RunResult::default()
    })
}

/// Whether these are the photos of the known data set `name`, wherever they lie: its classes, and nine photos of ten at
/// least (some are broken, some are left out by `tfds_filter`). A sample of it is another, harder task.
fn is_dataset(name: &str, classes: &[String], images: usize) -> bool {
    let known = |entry: &&catalogue::Entry| entry.name == name && entry.classes == classes;
    catalogue::ENTRIES.iter().find(known).is_some_and(|entry| images * 10 >= entry.images * 9)
}

/// Whether `used` is the drawn data set `name`: the same pictures, whatever order their options were given in.
fn is_drawn(name: &str, used: &str) -> bool {
    let source = |text| drawn::parse_source(text)?.ok().map(|source| source.text());
    source(name).is_some_and(|name| source(used) == Some(name))
}

fn comparison(expected: &Expected, accuracy: f64) -> String {
    let Expected { dataset, test_accuracy, tolerance, source } = expected;
    let verdict = match accuracy - test_accuracy {
        d if d < -tolerance => format!("this run is {:.4} below it", -d),
        d if d > *tolerance => format!("this run is {d:.4} above it"),
        _ => "this run confirms it".to_owned(),
    };
    format!("expected on {dataset}: {test_accuracy:.4} ± {tolerance} ({source}); {verdict}")
}

impl Finished {
    /// The last words: figures on stderr, the JSON object on stdout if asked for.
    pub fn report(&self, recipe: &Recipe, json: bool) -> Result<()> {
        let Self { result, name, summary } = self;
        if let Some(tables) = summary.as_ref().map(Summary::short_text).filter(|tables| !tables.is_empty()) {
            say(&format!("\n{tables}"));
        }
        self.say_figures();
        if let (Some(expected), Some(accuracy)) = (&recipe.expected, result.test_accuracy)
            && (is_dataset(&expected.dataset, &result.classes, result.images)
                || is_drawn(&expected.dataset, &result.dataset))
        {
            say(&comparison(expected, accuracy));
        }
        if result.best_epoch.is_some() {
            say(&format!("tables and curves: ft runs show {}", result.run));
            say(&format!("all of it on a page: ft report {}", result.run));
            say(&format!("explain it: ft explain --model {}", result.run));
        }
        if result.interrupted {
            say(&format!("resume it: ft resume {name}"));
        }
        if json { output::print_json(result) } else { Ok(()) }
    }

    /// What the user can call the run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The figures in a line, and why training ended where it did.
    pub fn say_figures(&self) {
        let result = &self.result;
        let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        if let Some(reason) = &result.stopped_early {
            say(&format!("stopped early after epoch {}: {reason}", result.epochs));
        }
        say(&format!(
            "{}: {} epochs in {:.0} s, {:.1} images/s in training, best validation accuracy {} (epoch {}), test accuracy {}, test loss {}{}",
            if result.interrupted { "interrupted" } else { "done" },
            result.epochs,
            result.seconds,
            result.train_images_per_second,
            percent(result.best_val_accuracy),
            result.best_epoch.map_or_else(|| "-".to_owned(), |e| e.to_string()),
            percent(result.test_accuracy),
            percent(result.test_loss),
            result.test_objective.map_or_else(String::new, |v| format!(", test objective {v:.4}"))
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_compared_with_what_its_own_data_set_should_give() {
        let flowers = ["daisy", "dandelion", "roses", "sunflowers", "tulips"].map(String::from);
        assert!(is_dataset("tf_flowers", &flowers, 3_660));
        assert!(!is_dataset("tf_flowers", &flowers, 500), "a sample of the data set is another task");
        assert!(!is_dataset("tf_flowers", &["cat".to_owned(), "dog".to_owned()], 3_670));
        assert!(is_drawn("petals", "petals?seed=0"));
        assert!(!is_drawn("petals", "petals?train=100") && !is_drawn("petals", "formulas"));
        assert!(!is_drawn("tf_flowers", "tf_flowers"));
        let expected =
            Expected { dataset: "tf_flowers".into(), test_accuracy: 0.88, tolerance: 0.02, source: "a study".into() };
        assert!(comparison(&expected, 0.87).contains("confirms"));
        assert!(comparison(&expected, 0.80).contains("0.0800 below"));
        assert!(comparison(&expected, 0.95).contains("0.0700 above"));
    }
}
