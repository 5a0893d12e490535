//! More epochs for a training that was planned with fewer: what it goes on with, and what becomes of its learning rate.

use std::fmt;

use anyhow::{Context, Result};

use super::pace::Pace;
use super::phases::{Phase, phase_of, phases};
use super::schedule::Schedule;
use super::state::TrainingState;
use crate::error::usage;
use crate::recipe::{self, Recipe, ScheduleKind};

/// The part of the recipe's learning rate below which next to nothing is learnt.
const NEXT_TO_NOTHING: f64 = 1e-3;

/// What becomes of the schedule when a training gets more epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// It goes on as one of the new number of epochs.
    Continue,
    /// The last learning rate stays.
    Hold,
    /// It begins anew, over the epochs that are added.
    Restart,
}

impl Continuation {
    /// All of them with their names.
    pub const WORDS: [(&'static str, Self); 3] =
        [("continue", Self::Continue), ("hold", Self::Hold), ("restart", Self::Restart)];

    /// What is best for most trainings. A schedule that does not depend on the number of epochs goes on as it would have with more of
    /// them; one that does is stretched, so that its rate is small again when it goes on for a little, and larger for more. Held, it
    /// would stay near zero. So it would if its decay has an end of its own that is behind: then it begins anew.
    fn usual(recipe: &Recipe, epochs_of_phase: usize) -> Self {
        let schedule = &recipe.train.schedule;
        let is_over = |length: f64| epochs_of_phase as f64 >= schedule.warmup_epochs + length;
        match schedule.kind {
            ScheduleKind::Cosine { epochs: Some(length), .. }
            | ScheduleKind::Polynomial { epochs: Some(length), .. }
                if is_over(length) =>
            {
                Self::Restart
            }
            _ => Self::Continue,
        }
    }
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::WORDS.iter().find(|(_, own)| own == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// A training with more epochs than it was planned with.
#[derive(Clone, Debug)]
pub struct Extension {
    pub recipe: Recipe,
    pub state: TrainingState,
    pub schedule: Continuation,
    /// What becomes of the learning rate, in words.
    pub words: String,
}

/// Gives the training of `recipe`, which is in `state`, `epochs` in all; `last_lr` is the learning rate of its last completed epoch. The
/// last phase gets what is added. Everything that training remembers stays, but that early stopping has ended it: then it waits anew for
/// something better than the best so far. A schedule that restarts does so in a phase of its own, in which early stopping begins anew.
///
/// # Errors
/// A usage error if there are so many epochs already, or the schedule cannot be treated as asked.
pub fn extend(
    recipe: &Recipe,
    state: &TrainingState,
    epochs: usize,
    schedule: Option<Continuation>,
    last_lr: f64,
) -> Result<Extension> {
    let done = state.progress.epoch;
    if done == 0 {
        return Err(usage("no epoch is complete yet: go on with it as it is (ft resume without --epochs)"));
    }
    if epochs <= done {
        return Err(usage(format!(
            "{done} epochs are done already, and --epochs is the number of all of them: ask for more than {done}"
        )));
    }
    let planned = phases(recipe);
    let last = planned.last().context("the recipe has no phases")?;
    if epochs < last.first {
        return Err(usage(format!(
            "the last phase begins with epoch {}: ask for that many epochs at least",
            last.first
        )));
    }
    let how = schedule.unwrap_or_else(|| Continuation::usual(recipe, (done + 1).saturating_sub(last.first)));
    let in_last = state.progress.pace.as_ref().is_some_and(|pace| pace.phase == last.number);
    if how != Continuation::Continue && !in_last {
        return Err(usage(format!("--schedule {how} is for the last phase, which has not begun")));
    }
    let (mut recipe, mut state) = (recipe.clone(), state.clone());
    let pace = state.progress.pace.as_mut();
    if state.progress.stopped_early.take().is_some()
        && let Some(stopping) = pace.and_then(|pace| pace.stopping.as_mut())
    {
        stopping.waited = 0;
    }
    match how {
        Continuation::Continue => set_last_phase(&mut recipe, last, epochs),
        Continuation::Hold => {
            set_last_phase(&mut recipe, last, epochs);
            hold(&mut recipe, &mut state, last_lr)?;
        }
        Continuation::Restart => restart(&mut recipe, &state, last, epochs)?,
    }
    // Whatever was changed, it must be a recipe still.
    let recipe = recipe::from_text(&recipe.to_toml()?, "with more epochs", &[])?;
    let words = words(&recipe, &state, how, last_lr, &planned)?;
    Ok(Extension { recipe, state, schedule: how, words })
}

/// Lets the last phase end with epoch `epochs`.
fn set_last_phase(recipe: &mut Recipe, last: &Phase, epochs: usize) {
    recipe.train.epochs = epochs;
    if let Some(phase) = recipe.train.phase.last_mut() {
        phase.epochs = epochs + 1 - last.first;
    }
}

fn hold(recipe: &mut Recipe, state: &mut TrainingState, last_lr: f64) -> Result<()> {
    if !(last_lr > 0.0 && last_lr.is_finite()) {
        return Err(usage(format!(
            "the last learning rate was {last_lr}, with which nothing is learnt: --schedule restart begins anew"
        )));
    }
    recipe.train.schedule = recipe::Schedule::default();
    match recipe.train.phase.last_mut() {
        Some(phase) => phase.lr = Some(last_lr),
        None => recipe.train.lr = last_lr,
    }
    if let Some(pace) = &mut state.progress.pace {
        pace.plateau = None;
    }
    Ok(())
}

fn restart(recipe: &mut Recipe, state: &TrainingState, last: &Phase, epochs: usize) -> Result<()> {
    let done = state.progress.epoch;
    if state.progress.partial.is_some() {
        return Err(usage(format!(
            "training was stopped within epoch {}, and a schedule restarts between epochs only: take --schedule continue or hold",
            done + 1
        )));
    }
    let added = epochs - done;
    let train = &mut recipe.train;
    if added < last.epochs() {
        train.schedule.scale(added, last.epochs());
    }
    if train.phase.is_empty() {
        let freeze_before = recipe.backbone.freeze_before.clone();
        train.phase.push(recipe::Phase { epochs: done, freeze_before, lr: None });
    }
    let before = train.phase.last_mut().context("the recipe has no phases")?;
    before.epochs = done + 1 - last.first;
    let phase = recipe::Phase { epochs: added, ..before.clone() };
    train.phase.push(phase);
    train.epochs = epochs;
    Ok(())
}

/// What becomes of the learning rate.
fn words(recipe: &Recipe, state: &TrainingState, how: Continuation, last_lr: f64, planned: &[Phase]) -> Result<String> {
    let (train, done) = (&recipe.train, state.progress.epoch);
    let phases = phases(recipe);
    let phase = phase_of(&phases, done + 1).context("the recipe has no phase for the next epoch")?;
    let schedule = serde_json::to_value(&train.schedule)?;
    let kind = schedule.get("kind").and_then(serde_json::Value::as_str).context("a schedule has a kind")?;
    let course = match how {
        Continuation::Continue => format!("{kind}, continued as one of {} epochs", train.epochs),
        Continuation::Hold => "held at its last learning rate".to_owned(),
        Continuation::Restart => format!("{kind}, restarted over {} epochs", phase.epochs()),
    };
    let Some(updates) = updates_per_epoch(state, train.accumulate, planned) else { return Ok(course) };
    let mut pace = Pace::new(train, phase, updates);
    if let Some(state) = &state.progress.pace {
        pace = pace.resume(state)?;
    }
    let next = pace.lr();
    let (end, ends) = match train.schedule.kind {
        // What the validation photos will say.
        ScheduleKind::Plateau(_) => (next, String::new()),
        _ => {
            let schedule = Schedule::new(train, phase.epochs(), usize::try_from(updates).unwrap_or(usize::MAX));
            let end = schedule.lr(phase.lr, (updates * phase.epochs() as u64).saturating_sub(1));
            (end, format!(" and ends with {end:.2e}"))
        }
    };
    let mut text = match next == last_lr && end == last_lr {
        true => format!("{course}: it stays {last_lr:.2e}"),
        false => format!("{course}: it was {last_lr:.2e}, goes on with {next:.2e}{ends}"),
    };
    let full = planned.last().map_or(phase.lr, |last| last.lr);
    if next.max(end) < NEXT_TO_NOTHING * full {
        text += "; so little that next to nothing will be learnt: --schedule restart begins anew";
    } else if how == Continuation::Continue && next > 2.0 * last_lr {
        text += "; it rises again: --schedule hold keeps the last one";
    }
    Ok(text)
}

/// Updates of an epoch, as the state has counted them; none if its phase has no whole epoch yet.
fn updates_per_epoch(state: &TrainingState, accumulate: usize, planned: &[Phase]) -> Option<u64> {
    let progress = &state.progress;
    let pace = progress.pace.as_ref()?;
    let first = planned.iter().find(|phase| phase.number == pace.phase)?.first;
    let epochs = (progress.epoch + 1).checked_sub(first).filter(|epochs| *epochs > 0)?;
    let within = progress.partial.as_ref().map_or(0, |partial| partial.batches.div_ceil(accumulate.max(1) as u64));
    Some(pace.step.saturating_sub(within) / epochs as u64)
}
