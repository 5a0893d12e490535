//! The learning rate as a pure function of the step: nothing to save, nothing that a resumed run could lose.
//!
//! Only a plateau depends on what training reached; its state is [`super::plateau::Plateau`], which changes the base rate that
//! [`Schedule::lr`] is given.

use std::f64::consts::PI;

use crate::recipe::{self, Annealing, Convention, MultiStep, OneCycle, ScheduleKind, Train, Update};

/// Epochs are counted in fractions of floating-point numbers; a boundary is met within this.
const TOLERANCE: f64 = 1e-9;

/// The course of the learning rate in training, or in one phase of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    plan: recipe::Schedule,
    convention: Convention,
    update: Update,
    epochs: f64,
    steps_per_epoch: f64,
}

impl Schedule {
    /// The recipe's schedule over `epochs` of `steps_per_epoch` updates each.
    pub fn new(train: &Train, epochs: usize, steps_per_epoch: usize) -> Self {
        Self {
            plan: train.schedule.clone(),
            convention: train.convention,
            update: update(&train.schedule, train.convention),
            epochs: epochs as f64,
            steps_per_epoch: steps_per_epoch.max(1) as f64,
        }
    }

    /// The learning rate of update number `step`, counted from 0 at the start of training or of the phase. `base` is the
    /// recipe's, the phase's, or what a plateau has left of it.
    pub fn lr(&self, base: f64, step: u64) -> f64 {
        let (step, warmup) = (step as f64, self.plan.warmup_epochs * self.steps_per_epoch);
        if step < warmup {
            let start = self.plan.warmup_start;
            return base * (start + (1.0 - start) * step / warmup);
        }
        let time = self.time(step - warmup);
        match &self.plan.kind {
            ScheduleKind::Constant | ScheduleKind::Plateau(_) => base,
            ScheduleKind::Step { every, factor } => base * factor.powf(whole(time / every)),
            ScheduleKind::MultiStep(steps) => base * steps.factor.powf(self.passed(steps, time)),
            ScheduleKind::Exponential { every, factor, staircase } => {
                let exponent = if *staircase { whole(time / every) } else { time / every };
                base * factor.powf(exponent)
            }
            ScheduleKind::Cosine { minimum, epochs } => {
                self.cosine(base, minimum.min(base), time / self.length(*epochs))
            }
            ScheduleKind::Polynomial { minimum, power, epochs } => {
                let (minimum, left) = (minimum.min(base), 1.0 - (time / self.length(*epochs)).min(1.0));
                minimum + (base - minimum) * left.powf(*power)
            }
            ScheduleKind::OneCycle(cycle) => one_cycle(cycle, base, step, self.epochs * self.steps_per_epoch),
        }
    }

    /// Steps as epochs, whole ones if the schedule moves once an epoch.
    fn time(&self, steps: f64) -> f64 {
        match self.update {
            Update::Step => steps / self.steps_per_epoch,
            Update::Epoch => whole(steps / self.steps_per_epoch),
        }
    }

    /// Epochs from the end of the warm-up to the end of the decay.
    fn length(&self, epochs: Option<f64>) -> f64 {
        epochs.unwrap_or(self.epochs - self.plan.warmup_epochs)
    }

    /// Number of milestones behind `time`.
    fn passed(&self, steps: &MultiStep, time: f64) -> f64 {
        let inclusive = self.convention == Convention::Torch || self.update == Update::Epoch;
        let tolerance = if inclusive { TOLERANCE } else { -TOLERANCE };
        steps.milestones.iter().filter(|milestone| time + tolerance >= **milestone).count() as f64
    }

    fn cosine(&self, base: f64, minimum: f64, progress: f64) -> f64 {
        let progress = match self.convention {
            Convention::Keras => progress.min(1.0),
            Convention::Torch => progress,
        };
        minimum + (base - minimum) * (1.0 + (PI * progress).cos()) / 2.0
    }
}

/// How often the schedule moves if the recipe leaves it open.
fn update(plan: &recipe::Schedule, convention: Convention) -> Update {
    plan.update.unwrap_or(match (&plan.kind, convention) {
        (ScheduleKind::OneCycle(_), _) => Update::Step,
        (ScheduleKind::Step { .. } | ScheduleKind::MultiStep(_), _) | (_, Convention::Torch) => Update::Epoch,
        (_, Convention::Keras) => Update::Step,
    })
}

fn whole(time: f64) -> f64 {
    (time + TOLERANCE).floor()
}

/// torch `OneCycleLR`: the peak is at step `pct_start * total - 1`, the end at step `total - 1`.
fn one_cycle(cycle: &OneCycle, peak: f64, step: f64, total: f64) -> f64 {
    let first = peak / cycle.div_factor;
    let last = first / cycle.final_div_factor;
    let (top, end) = (cycle.pct_start * total - 1.0, (total - 1.0).max(0.0));
    let anneal = |from: f64, to: f64, progress: f64| match cycle.anneal {
        Annealing::Cos => to + (from - to) * (1.0 + (PI * progress).cos()) / 2.0,
        Annealing::Linear => from + (to - from) * progress,
    };
    if step <= top && top > 0.0 {
        return anneal(first, peak, step / top);
    }
    let top = top.max(0.0);
    let progress = if end > top { ((step - top) / (end - top)).min(1.0) } else { 1.0 };
    anneal(peak, last, progress)
}
