//! Successive halving: rung by rung, each with the best of the one before.

use anyhow::Result;

use super::conductor::{Conductor, Wanted};
use super::counted;
use super::results::best_monitored;
use crate::recipe::Monitor;
use crate::recipe::sweep::{Halving, Point, Sweep};
use crate::runs::RunInfo;

/// Conducts all rungs.
///
/// # Errors
/// As [`Conductor::conduct`].
pub fn conduct<'s>(conductor: &mut Conductor<'s>, sweep: &'s Sweep, halving: &Halving) -> Result<()> {
    let mut points: Vec<&'s Point> = sweep.points.iter().collect();
    for (rung, epochs) in halving.epochs.iter().enumerate() {
        let (of, what) = (halving.epochs.len(), counted(points.len(), "point"));
        conductor.say(&format!("rung {}/{of}: {what}, {}", rung + 1, counted(*epochs, "epoch")));
        let trials =
            points.iter().flat_map(|point| point.rungs.get(rung).into_iter().flatten().map(|trial| (*point, trial)));
        let wanted: Vec<Wanted<'s>> = trials.map(|(point, trial)| Wanted { point, trial }).collect();
        conductor.conduct(&wanted)?;
        // A run that failed before it had a folder is not on record: whoever looks there later could not tell how the rung ended.
        if !wanted.iter().all(|wanted| conductor.has_ended(&wanted.trial.identity)) {
            conductor.say("the next rung has to wait until this one is complete");
            return Ok(());
        }
        let count = halving.survivors(sweep.points.len(), rung + 1);
        points = survivors(&points, rung, halving.monitor, count, &|identity| conductor.finished(identity));
    }
    Ok(())
}

/// The `count` best points of a rung by the mean of the seeds that finished, in the order of the sweep's file. Of equal ones the first
/// in the file; those without any finished run are out.
pub fn survivors<'s, 'r>(
    points: &[&'s Point],
    rung: usize,
    monitor: Monitor,
    count: usize,
    finished: &dyn Fn(&str) -> Option<&'r RunInfo>,
) -> Vec<&'s Point> {
    let score = |point: &Point| {
        let trials = point.rungs.get(rung).into_iter().flatten();
        let values: Vec<f64> = trials.filter_map(|trial| best_monitored(finished(&trial.identity)?, monitor)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        // Higher is better from here on.
        let sign = if monitor == Monitor::ValLoss { -1.0 } else { 1.0 };
        (!values.is_empty() && mean.is_finite()).then_some(sign * mean)
    };
    let mut scored: Vec<(usize, f64)> =
        points.iter().enumerate().filter_map(|(i, point)| Some((i, score(point)?))).collect();
    // Stable: of equal ones the first stays first.
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(count);
    scored.sort_by_key(|(i, _)| *i);
    scored.into_iter().filter_map(|(i, _)| points.get(i).copied()).collect()
}

/// A line for each rung.
pub fn describe(halving: &Halving, points: usize) -> Vec<String> {
    let rung = |(rung, epochs): (usize, &usize)| {
        let (what, epochs) = (counted(halving.survivors(points, rung), "point"), counted(*epochs, "epoch"));
        format!("rung {}: {what}, {epochs}, anew", rung + 1)
    };
    halving.epochs.iter().enumerate().map(rung).collect()
}
