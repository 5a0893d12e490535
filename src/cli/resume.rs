//! `ft resume`: goes on with a run that has ended before its time, as if it never had; or with one that has ended, for more epochs, as a
//! new run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::Device;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::arguments::text_override;
use super::conduct::{prepare_among, read_photos};
use super::console::Console;
use super::prepare::{Prepared, prepare};
use super::training::{Session, Start, check_training, log_ranks, shown_name};
use super::{DeviceChoice, MachineArgs, RunsArgs, follow, interrupt, output, precision, sweep};
use crate::data::check::Manifest;
use crate::data::split::Split;
use crate::error::{say, usage};
use crate::files::sha256_file;
use crate::parallel::Ranks;
use crate::recipe::{Recipe, load};
use crate::runs::{self, Environment, Parent, RankRecord, Restored, Resumption, RunWriter, States, Status, file};
use crate::train::extension::{Continuation, Extension, extend};

const EXAMPLES: &str = "\
Examples:
  ft resume latest                       the newest run, stopped by Ctrl-C, a crash, or the power
  ft resume 20250131-1200                a run by its id or the beginning of it
  ft resume latest --data moved/photos   its photos lie elsewhere now
  ft resume best --epochs 20             more epochs for a finished run: up to 20 in all, as a new run

Weights, figures and predictions come out as if the run had never stopped, bit for bit on the CPU.";

/// Photos that a message about changed ones names.
const NAMED: usize = 5;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// latest, an id or its beginning, or the path of a run
    #[arg(value_name = "RUN")]
    run: String,
    /// More epochs for a run that has ended: train up to so many in all, as a new run; the old one stays as it is
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<u32>,
    /// What becomes of the learning rate then: it goes on as one of N epochs, stays what it was last, or begins anew over those that
    /// are added [default: continue; restart where a decay with a length of its own is over]
    #[arg(long, value_name = "HOW", requires = "epochs", value_parser = continuations())]
    schedule: Option<Continuation>,
    /// Where the photos lie now, if they were moved; they must be the same
    #[arg(long, value_name = "PATH|NAME")]
    data: Option<String>,
    /// Where the photos of a table lie now, if it was trained on with --images
    #[arg(long, value_name = "DIR")]
    images: Option<String>,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

fn continuations() -> impl TypedValueParser<Value = Continuation> {
    PossibleValuesParser::new(Continuation::WORDS.map(|(word, _)| word)).try_map(|text| {
        let known = Continuation::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, how)| *how).ok_or_else(|| anyhow!("there is no schedule {text:?}"))
    })
}

/// Goes on with a run.
///
/// # Errors
/// A usage error if the run has finished and no more epochs are asked for, is going on, or is not what it was: another recipe, other
/// photos or weights. Any other for what fails.
pub fn run(args: &Args, ranks: &Ranks) -> Result<()> {
    let started = Instant::now();
    args.machine.set_threads_among(ranks)?;
    let moved = [("data.source", &args.data), ("data.table.images", &args.images)];
    let moved = moved.map(|(key, path)| text_override(key, &path.as_ref().map(|path| from_here(path))));
    let moved: Vec<String> = moved.into_iter().flatten().collect();
    let mut console = Console::default();
    let taken = take_together(args, &moved, ranks, &console)?;
    let (recipe, mut prepared, selected) = prepare_among(ranks, taken.device, |device| {
        let recipe = precision::settled(&taken.recipe, device)?;
        let prepared = prepare(&recipe, args.machine.offline, device, &mut console);
        let prepared = prepared.with_context(|| {
            format!(
                "what {} trained with cannot be had; for photos that lie elsewhere now there is --data PATH (and --images DIR)",
                taken.name
            )
        })?;
        check_training(&recipe, &prepared)?;
        Ok((recipe, prepared))
    })?;
    let now = taken.refuse_other_weights(&prepared, ranks)?;
    interrupt::install_for(ranks)?;
    let manifest = taken.same_photos(&mut prepared, &mut console, ranks)?;
    let Some(mut now) = now else {
        ranks.agree(Ok(()))?;
        return follow::conduct(&recipe, prepared, Start { manifest, restored: taken.restored }, ranks);
    };
    log_ranks(&console, ranks);
    console.log(&selected.line());
    announce(&console, taken.environment.as_ref().unwrap_or(&now), &now, taken.restored.as_ref());
    (now.device_hardware, now.device_reason) = (selected.hardware, selected.reason);
    let settled = taken.settle(&recipe, &prepared, now, !moved.is_empty(), ranks);
    let (run, name, environment, restored) = ranks.agree(settled)?;
    if let Some(parent) = &environment.parent
        && args.epochs.is_some()
    {
        console.log(&format!("run {}, which goes on from {parent}", run.folder().display()));
    }
    Session { recipe: &recipe, run, name, environment, console, started, ranks: ranks.clone() }
        .conduct(prepared, Start { manifest, restored })?
        .report(&recipe, args.json)
}

/// A run that is to go on, as each rank sees it.
struct Taken {
    /// The first rank has it, with its lock; not if a new run goes on with its training.
    run: Option<RunWriter>,
    folder: PathBuf,
    name: String,
    environment: Option<Environment>,
    device: DeviceChoice,
    recipe: Recipe,
    restored: Option<Restored>,
    /// If a new run goes on with its training: what becomes of the schedule.
    schedule: Option<Continuation>,
}

/// All ranks read what the run has left, before the first one changes anything in its folder.
fn take_together(args: &Args, moved: &[String], ranks: &Ranks, console: &Console) -> Result<Taken> {
    // The first rank finds what others cannot: which run is the latest one.
    let (run, own) = ranks.agree(match (ranks.is_first(), args.epochs) {
        (false, _) => Ok((None, (String::new(), String::new()))),
        (true, None) => take(args).map(|run| {
            let own = (run.folder().display().to_string(), shown_name(run.folder()));
            (Some(run), own)
        }),
        (true, Some(_)) => find_ended(args).map(|folder| (None, (folder.display().to_string(), shown_name(&folder)))),
    })?;
    let folder = PathBuf::from(ranks.from_first(&own.0)?);
    let name = ranks.from_first(&own.1)?;
    let environment = ranks.agree(runs::read_environment(&folder))?;
    let device = device(args.machine.device, environment.as_ref());
    enter(environment.as_ref());
    console.log(&format!("run {}", folder.display()));
    let (mut recipe, mut restored) = ranks.agree(recipe_and_state(&folder, moved))?;
    let state = restored.as_ref().map_or("none", |restored| restored.name.as_str());
    ranks.agree(ranks.ensure_same("the saved state", state))?;
    let mut schedule = None;
    if let Some(epochs) = args.epochs {
        let extension = extension(&folder, &name, &recipe, restored.as_ref(), epochs, args.schedule);
        let Extension { recipe: longer, state, schedule: how, words } = ranks.agree(extension)?;
        console.log(&format!("schedule {words}"));
        (recipe, schedule) = (longer, Some(how));
        restored = restored.map(|restored| Restored { state, ..restored });
    } else if let (None, Some(parent)) = (&restored, environment.as_ref().and_then(|e| e.parent.as_ref())) {
        return Err(usage(format!(
            "the run {name} has no whole state of its training any more, and it did not begin from its beginning: begin it again with \
             ft resume {} --epochs {} --schedule {}",
            folder.with_file_name(&parent.run).display(),
            recipe.train.epochs,
            parent.schedule
        )));
    }
    Ok(Taken { run, folder, name, environment, device, recipe, restored, schedule })
}

/// The folder of a run whose training a new one may go on with.
fn find_ended(args: &Args) -> Result<PathBuf> {
    let folder = find(&args.runs.runs, &args.run)?;
    let folder = folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
    if runs::info(&folder).status == Status::Running {
        return Err(usage(format!("the run {} is going on: wait for its end, or stop it", folder.display())));
    }
    sweep::attach(None)?;
    Ok(folder)
}

fn extension(
    folder: &Path,
    name: &str,
    recipe: &Recipe,
    restored: Option<&Restored>,
    epochs: u32,
    schedule: Option<Continuation>,
) -> Result<Extension> {
    let Some(restored) = restored else {
        return Err(usage(format!(
            "the run {name} has kept no state of its training (runs of older versions and with train.keep_checkpoints=0 do not), so that \
             it cannot go on; start a new run from its weights: ft recipe {} --from {name}",
            folder.join(file::RECIPE).display()
        )));
    };
    let state = &restored.state;
    let epoch = state.progress.epoch;
    let known = if epoch == 0 { Vec::new() } else { runs::read_epochs(folder)? };
    let last_lr = known.iter().find(|known| known.epoch == epoch).map_or(f64::NAN, |known| known.lr);
    let epochs = usize::try_from(epochs).unwrap_or(usize::MAX);
    extend(recipe, state, epochs, schedule, last_lr).with_context(|| format!("the run {name} cannot go on"))
}

impl Taken {
    /// What the first rank runs on now.
    fn refuse_other_weights(&self, prepared: &Prepared, ranks: &Ranks) -> Result<Option<Environment>> {
        let device = output::device_name(&prepared.device);
        let now = ranks.is_first().then(|| Environment::collect(device, prepared.weights.clone()));
        let then = self.environment.as_ref().zip(now.as_ref());
        ranks.agree(then.map_or(Ok(()), |(then, now)| refuse_other_weights(then, now)))?;
        Ok(now)
    }

    /// Reads every photo once more and refuses other photos than those of the run.
    fn same_photos(&self, prepared: &mut Prepared, console: &mut Console, ranks: &Ranks) -> Result<Manifest> {
        let known = self.restored.as_ref().map(|restored| &restored.origin.data_sha256);
        let known = known.or(self.environment.as_ref().map(|environment| &environment.data_sha256));
        // What the run drew once stays, however photos are divided now.
        prepared.dataset.keep_splits(recorded_splits(&self.folder));
        let manifest = read_photos(&mut prepared.dataset, console, ranks);
        let manifest =
            ranks.agree(manifest.and_then(|manifest| same_photos(&self.folder, known, prepared, manifest)))?;
        let name = &self.name;
        let go_on = match ranks.any(interrupt::requested())? {
            true => Err(anyhow!("stopped before training went on; the run is as it was (ft resume {name})")),
            false => Ok(()),
        };
        ranks.agree(go_on)?;
        Ok(manifest)
    }
}

/// The split of each photo in the run's `data.csv`; none if there is no such table, or it cannot be read.
fn recorded_splits(run: &Path) -> BTreeMap<String, Split> {
    let rows = runs::read_photos(&run.join(file::DATA)).unwrap_or_default();
    rows.into_iter().filter_map(|row| Some((row.path, Split::parse(&row.split)?))).collect()
}

impl Taken {
    /// The first rank makes the folder ready: takes the run back to the state that it goes on from, or makes a new run of it.
    fn settle(
        self,
        recipe: &Recipe,
        prepared: &Prepared,
        now: Environment,
        moved: bool,
        ranks: &Ranks,
    ) -> Result<(RunWriter, String, Environment, Option<Restored>)> {
        let Self { run, folder, name, environment, restored, schedule, .. } = self;
        let mut environment = environment.filter(|_| schedule.is_none()).unwrap_or_else(|| now.clone());
        environment.ranks = RankRecord::of(ranks, recipe.train.batch_norm_sync);
        if moved || environment.data_root.is_none() {
            environment.data_root =
                std::path::absolute(&prepared.dataset.photos_root).ok().map(|p| p.display().to_string());
        }
        if let Some(run) = run {
            rewind(&run, restored.as_ref(), now, ranks)?;
            return Ok((run, name, environment, restored));
        }
        let (mut from, schedule) = restored.zip(schedule).context("there is no run to go on with")?;
        let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let epochs = from.state.progress.epoch;
        environment.parent = Some(Parent { run: id.clone(), epochs, schedule: schedule.to_string() });
        let run = RunWriter::create_from(&folder, recipe, &environment, &mut from)?;
        // Both lie in one folder.
        let name = if name == id { run.id().to_owned() } else { run.folder().display().to_string() };
        Ok((run, name, environment, Some(from)))
    }
}

/// Takes the run back to the state that it goes on from, and records that it does.
fn rewind(run: &RunWriter, restored: Option<&Restored>, now: Environment, ranks: &Ranks) -> Result<()> {
    let progress = restored.map(|restored| &restored.state.progress);
    let epochs = progress.map_or(0, |progress| progress.epoch);
    let batches = progress.and_then(|progress| progress.partial.as_ref()).map_or(0, |partial| partial.batches);
    run.rewind(epochs, batches)?;
    States::of(run.folder()).rewind(restored)?;
    run.record_resumption(&Resumption {
        time: now.started,
        ft_version: now.ft_version,
        command: runs::command_line().trim_end().to_owned(),
        cpu: now.cpu,
        device: now.device,
        threads: now.threads,
        state: restored.map(|restored| restored.name.clone()),
        epoch: epochs,
        ranks: ranks.size(),
    })
}

/// Takes up the run that is meant.
fn take(args: &Args) -> Result<RunWriter> {
    let run = RunWriter::open(&find(&args.runs.runs, &args.run)?)?;
    sweep::attach(None)?;
    refuse_finished(&run)?;
    Ok(run)
}

/// The run's recipe and its newest whole state, if there is one.
fn recipe_and_state(folder: &Path, moved: &[String]) -> Result<(Recipe, Option<Restored>)> {
    let recipe = read_recipe(folder, moved)?;
    let restored = States::of(folder).newest(&mut |line| say(line))?;
    refuse_changed_recipe(folder, restored.as_ref())?;
    Ok((recipe, restored))
}

/// The folder of the run. `latest` is the newest one, whatever has become of it: to go on with an older one instead would
/// surprise.
fn find(runs: &Path, which: &str) -> Result<PathBuf> {
    if which != "latest" {
        return runs::resolve(runs, which);
    }
    let newest = runs::list(runs)?.into_iter().next();
    let newest = newest.ok_or_else(|| usage(format!("there are no runs in {}", runs.display())))?;
    Ok(newest.folder)
}

fn refuse_finished(run: &RunWriter) -> Result<()> {
    match runs::read_result(run.folder())? {
        Some(result) if !result.interrupted => Err(usage(format!(
            "the run {id} has finished; there is nothing to resume (`ft runs` shows which runs are interrupted). For more epochs, N in all: \
             ft resume {id} --epochs N",
            id = run.id()
        ))),
        _ => Ok(()),
    }
}

/// What began on the CPU goes on there, unless the user wants otherwise.
fn device(asked: DeviceChoice, environment: Option<&Environment>) -> DeviceChoice {
    match asked {
        DeviceChoice::Auto if environment.is_some_and(|e| e.device == output::device_name(&Device::Cpu)) => {
            DeviceChoice::Cpu
        }
        asked => asked,
    }
}

/// A path of the command line as one that is the same from every folder; names of data sets stay names.
fn from_here(data: &str) -> String {
    let path = Path::new(data);
    let absolute = path.exists().then(|| std::path::absolute(path).ok()).flatten();
    absolute.map_or_else(|| data.to_owned(), |path| path.display().to_string())
}

/// Goes to the folder in which the run was started, where its relative paths lead to what they did, if it is still there.
fn enter(environment: Option<&Environment>) {
    if let Some(folder) = environment.and_then(|environment| environment.working_folder.as_ref())
        && let Err(error) = std::env::set_current_dir(folder)
    {
        say(&format!("note: the folder in which the run was started, {folder}, cannot be entered: {error}"));
    }
}

/// The recipe of the run, with the photos where they lie now.
fn read_recipe(run: &Path, moved: &[String]) -> Result<Recipe> {
    let path = run.join(file::RECIPE);
    let text = path.to_str().context("the path of the run is no UTF-8 text")?;
    load(text, moved)
}

fn refuse_changed_recipe(run: &Path, restored: Option<&Restored>) -> Result<()> {
    let path = run.join(file::RECIPE);
    match restored {
        Some(restored) if restored.origin.recipe_sha256 != sha256_file(&path)? => Err(usage(format!(
            "{} has changed since the run was stopped; undo that, or start a new run with it: ft recipe {}",
            path.display(),
            path.display()
        ))),
        _ => Ok(()),
    }
}

fn refuse_other_weights(then: &Environment, now: &Environment) -> Result<()> {
    match (&then.weights, &now.weights) {
        (Some(then), Some(now)) if then.sha256 != now.sha256 => Err(usage(format!(
            "the weights {} are not those that the run was started with (sha256 {} now, {} then); put the old file back",
            now.path, now.sha256, then.sha256
        ))),
        _ => Ok(()),
    }
}

/// Refuses other photos than those of the run, whose hashes are `known`.
fn same_photos(
    run: &Path,
    known: Option<&BTreeMap<String, String>>,
    prepared: &Prepared,
    manifest: Manifest,
) -> Result<Manifest> {
    let now = manifest.split_hashes();
    // Killed before the photos were looked at, a run can go on with any.
    let Some(known) = known.filter(|known| !known.is_empty() && **known != now) else { return Ok(manifest) };
    let other: Vec<&str> =
        now.iter().filter(|(split, hash)| known.get(*split) != Some(hash)).map(|e| e.0.as_str()).collect();
    let differences = differences(&run.join(file::DATA), &manifest).unwrap_or_default();
    Err(usage(format!(
        "the photos in {} are not those of the run (split {}):{differences}\n  put them back, say where they lie now with --data PATH, \
         or start a new run: ft recipe {}",
        prepared.dataset.root.display(),
        other.join(", "),
        run.join(file::RECIPE).display()
    )))
}

/// A line for each of the first photos that differ from `data.csv`; none if that cannot be read.
fn differences(data: &Path, manifest: &Manifest) -> Option<String> {
    let mut then = BTreeMap::new();
    for row in csv::Reader::from_path(data).ok()?.into_records() {
        let row = row.ok()?;
        let [split, path, label, sha256] = [0, 1, 2, 3].map(|i| row.get(i).unwrap_or_default().to_owned());
        then.insert(path, (split, label, sha256));
    }
    let mut lines = Vec::new();
    for entry in &manifest.entries {
        let difference = match then.remove(&entry.id) {
            None => "is new".to_owned(),
            Some((split, ..)) if split != entry.split.name() => format!("was in {split}, is in {}", entry.split.name()),
            Some((_, label, _)) if label != entry.label => format!("was of class {label}, is of {}", entry.label),
            Some((.., sha256)) if sha256 != entry.sha256 => "has another content".to_owned(),
            Some(_) => continue,
        };
        lines.push(format!("{} {difference}", entry.id));
    }
    lines.extend(then.into_keys().map(|id| format!("{id} is missing")));
    let more = lines.len().saturating_sub(NAMED);
    let mut text: String = lines.iter().take(NAMED).map(|line| format!("\n    {line}")).collect();
    if more > 0 {
        text.push_str(&format!("\n    and {more} more"));
    }
    Some(text)
}

/// Says where training goes on, and what may keep the result from being the same.
fn announce(console: &Console, then: &Environment, now: &Environment, restored: Option<&Restored>) {
    match restored {
        None => console.log("there is no saved state of training: the run starts from its beginning"),
        Some(Restored { name, state, .. }) => {
            let within = state.progress.partial.as_ref();
            let within = within.map(|p| format!(" and {} batches of the next", p.batches)).unwrap_or_default();
            let epochs = state.progress.epoch;
            console.log(&format!("resumed from state/{name}: {epochs} epochs{within} are done"));
        }
    }
    // Runs of older versions do not say it, nor does anything but a CPU.
    let [before, after] = [&then.vector_instructions, &now.vector_instructions].map(Option::as_ref);
    let differ = [
        ("device", Some(&then.device), Some(&now.device)),
        ("processor", then.cpu.as_ref(), now.cpu.as_ref()),
        ("set of vector instructions", before.or(after), after.or(before)),
        ("version of ft", Some(&then.ft_version), Some(&now.ft_version)),
    ];
    for (what, then, now) in differ {
        if then != now {
            let name = |value: Option<&String>| value.cloned().unwrap_or_else(|| "unknown".to_owned());
            console.log(&format!(
                "note: another {what} than before ({}, it was {}); the result may differ in its last digits",
                name(now),
                name(then)
            ));
        }
    }
}
