//! `ft sweep`: many runs of one recipe, and what they say together.

mod arguments;
mod child;
mod conductor;
mod halving;
mod networks;
mod progress;
mod results;
mod slurm;

use anyhow::Result;
use serde_json::json;

pub use arguments::Args;
pub(super) use child::attach;

use super::output::{print, print_json};
use super::precision;
use crate::error::{say, usage};
use crate::recipe::PrecisionChoice;
use crate::recipe::sweep::{Point, Sweep, Trial};
use conductor::{Conductor, Wanted};
use results::Results;

/// Runs a sweep, or shows what it is and what came of it.
///
/// # Errors
/// A usage error for what is wrong with the sweep; any other if a run failed, or the sweep was stopped before its end.
pub fn run(args: &Args) -> Result<()> {
    let mut sweep = Sweep::load(&args.file, &args.settings())?;
    networks::check(&sweep)?;
    sweep.notes.iter().for_each(|note| say(note));
    if args.plan.is_some() {
        return slurm::run(args, &sweep);
    }
    if args.dry_run {
        return list(args, &sweep);
    }
    settle_precision(args, &mut sweep)?;
    if args.status {
        return Results::gather(&sweep, &args.runs.runs)?.show(args);
    }
    super::interrupt::install()?;
    let mut conductor = Conductor::new(args, &sweep)?;
    if let Some(task) = args.task {
        let trials = trials(&sweep)?;
        let number = task.index_in(trials.len(), &args.file)?;
        conductor.conduct(trials.get(number..=number).unwrap_or_default())?;
        return conductor.verdict();
    }
    match &sweep.halving {
        None => conductor.conduct(&trials(&sweep)?)?,
        Some(halving) => halving::conduct(&mut conductor, &sweep, halving)?,
    }
    Results::gather(&sweep, &args.runs.runs)?.show(args)?;
    conductor.verdict()
}

/// What `auto` comes to on the device of the runs; one that does not compute in what is asked for is told before any of them starts.
fn settle_precision(args: &Args, sweep: &mut Sweep) -> Result<()> {
    let usual = |trial: &Trial| trial.recipe.train.precision == PrecisionChoice::F32;
    if sweep.trials().all(|(_, trial)| usual(trial)) {
        return Ok(());
    }
    let device = args.machine.device.open()?;
    sweep.settle_precision(|choice| precision::settle(choice, &device))
}

/// All runs of a sweep without halving, in the order of its file.
fn trials(sweep: &Sweep) -> Result<Vec<Wanted<'_>>> {
    if sweep.halving.is_some() {
        return Err(usage(
            "with [halving] each rung depends on the one before, which a job array cannot say; run the sweep in one job (ft sweep FILE \
             --jobs N), or in several at once: they share its runs",
        ));
    }
    Ok(sweep.trials().map(|(point, trial)| Wanted { point, trial }).collect())
}

/// `1 run`, `2 runs`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What would be run.
fn list(args: &Args, sweep: &Sweep) -> Result<()> {
    let first_rung = |point: &'_ Point| point.rungs.first().cloned().unwrap_or_default();
    let all: Vec<(&Point, Vec<Trial>)> = sweep.points.iter().map(|point| (point, first_rung(point))).collect();
    if args.json {
        let point = |(point, trials): &(&Point, Vec<Trial>)| json!({ "point": point.name, "runs": trials.iter().map(|t| json!({ "seed": t.seed, "set": t.overrides })).collect::<Vec<_>>() });
        return print_json(&json!({ "sweep": sweep.name, "points": all.iter().map(point).collect::<Vec<_>>() }));
    }
    let runs: usize = all.iter().map(|(_, trials)| trials.len()).sum();
    let mut text = String::new();
    for (point, trials) in &all {
        let seeds: Vec<String> = trials.iter().map(|trial| trial.seed.to_string()).collect();
        text.push_str(&format!("{}  seeds {}\n", point.name, seeds.join(", ")));
    }
    print(&text)?;
    let (points, runs) = (counted(sweep.points.len(), "point"), counted(runs, "run"));
    say(&format!("sweep {}: {points}, {runs} of {}", sweep.name, sweep.recipe));
    if let Some(halving) = &sweep.halving {
        halving::describe(halving, sweep.points.len()).iter().for_each(|line| say(line));
    }
    Ok(())
}
