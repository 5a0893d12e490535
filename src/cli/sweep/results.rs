//! What a sweep has found: a line for each point, the best first. Computed from the run folders each time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::super::output::{print, print_json};
use super::arguments::{Args, Format};
use super::counted;
use super::halving::survivors;
use crate::error::say;
use crate::files::write_atomically;
use crate::recipe::Monitor;
use crate::recipe::sweep::{Point, Sweep, Trial};
use crate::report::table::{Align, Table};
use crate::runs::sweeps::Index;
use crate::runs::{Metric, RunInfo, Status, read_environment, read_epochs};
use crate::statistics::{Repeats, repeats, welch};

/// Differences whose p is below it are told apart.
const LEVEL: f64 = 0.05;

/// All that is known of a sweep.
#[derive(Debug, Serialize)]
pub struct Results {
    sweep: String,
    recipe: String,
    columns: Vec<String>,
    /// The best first.
    points: Vec<PointResult>,
    /// Runs that the sweep asks for, of all rungs that are known so far.
    runs: usize,
    finished: usize,
    failed: usize,
    warnings: Vec<String>,
    #[serde(skip)]
    halving: bool,
}

/// What the runs of a point say together.
#[derive(Debug, Serialize)]
struct PointResult {
    point: String,
    values: Vec<String>,
    /// The last rung that it reached, from 1, with halving.
    rung: Option<usize>,
    epochs: usize,
    /// How it compares with the best point, by the metric that the list is sorted by.
    standing: Standing,
    /// Runs asked for.
    planned: usize,
    best_val_accuracy: Option<Repeats>,
    test_accuracy: Option<Repeats>,
    seconds: Option<Repeats>,
    #[serde(skip)]
    figures: Vec<(Metric, Option<Repeats>)>,
    /// Ids of the runs that have finished, of the last rung.
    runs: Vec<String>,
    failed: Vec<Failure>,
    running: usize,
}

#[derive(Debug, Serialize)]
struct Failure {
    seed: u64,
    run: String,
    why: String,
}

/// A point beside the best one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Best,
    /// The difference may be chance.
    NotToldApart,
    Behind,
    /// One of the two has fewer than two runs, or none.
    Unknown,
}

/// The best figure of a run's epochs, by what halving goes by.
pub fn best_monitored(run: &RunInfo, monitor: Monitor) -> Option<f64> {
    match monitor {
        Monitor::ValAccuracy => run.best_val_accuracy,
        Monitor::ValLoss => {
            let epochs = read_epochs(&run.folder).ok()?;
            epochs.iter().filter_map(|epoch| epoch.val_loss).filter(|loss| loss.is_finite()).reduce(f64::min)
        }
    }
}

impl Results {
    /// Looks into the folder of runs.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn gather(sweep: &Sweep, runs: &Path) -> Result<Self> {
        let mut index = Index::default();
        index.read(runs)?;
        let reached = reached(sweep, &index);
        let asked: Vec<&Trial> = reached.iter().flat_map(|(point, rung)| trials_up_to(point, *rung)).collect();
        let count = |status: Status| {
            let is = |trial: &&&Trial| index.run(&trial.identity).is_some_and(|run| run.status == status);
            asked.iter().filter(is).count()
        };
        Ok(Self {
            sweep: sweep.name.clone(),
            recipe: sweep.recipe.clone(),
            columns: sweep.columns.clone(),
            runs: asked.len(),
            finished: count(Status::Finished),
            failed: count(Status::Failed),
            warnings: different_photos(sweep, &index)?,
            halving: sweep.halving.is_some(),
            points: reached.iter().map(|(point, rung)| PointResult::of(sweep, point, *rung, &index)).collect(),
        })
    }

    /// Prints or writes the table.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn show(mut self, args: &Args) -> Result<()> {
        self.sort(args.metric);
        self.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
        let text = match args.format {
            _ if args.json && args.out.is_none() => return print_json(&self),
            _ if args.json => serde_json::to_string(&self)? + "\n",
            Format::Text => self.table(args.metric).text(),
            Format::Markdown => self.table(args.metric).markdown(),
            Format::Csv => self.csv()?,
        };
        match &args.out {
            Some(path) => {
                write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))?;
                say(&format!("{}: {}", counted(self.points.len(), "point"), path.display()));
            }
            None => print(&text)?,
        }
        self.legend(args).iter().for_each(|line| say(line));
        Ok(())
    }

    /// The best first, and how the others compare with it.
    fn sort(&mut self, metric: Metric) {
        // Higher is better from here on.
        let sign = if metric.is_better(0.0, 1.0) { -1.0 } else { 1.0 };
        let mean = |point: &PointResult| point.figure(metric).map(|figure| sign * figure.mean);
        // Stable: of equal ones the first in the file stays first. Points of a later rung were chosen from those of the one before.
        self.points.sort_by(|a, b| {
            let order = |point| (point_rung(point), mean(point).unwrap_or(f64::NEG_INFINITY));
            let (a, b) = (order(a), order(b));
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        let best = self.points.first().and_then(|best| Some((point_rung(best), best.figure(metric).copied()?)));
        for (place, point) in self.points.iter_mut().enumerate() {
            point.standing = match (&best, point.figure(metric)) {
                (Some(_), Some(_)) if place == 0 => Standing::Best,
                (Some((rung, _)), _) if *rung != point_rung(point) => Standing::Behind,
                (Some((_, best)), Some(own)) => match welch(best, own) {
                    Some(difference) if difference.p_value < LEVEL => Standing::Behind,
                    Some(_) => Standing::NotToldApart,
                    // Repeats that all came out alike.
                    None if best.count > 1 && own.count > 1 && best.mean == own.mean => Standing::NotToldApart,
                    None if best.count > 1 && own.count > 1 => Standing::Behind,
                    None => Standing::Unknown,
                },
                _ => Standing::Unknown,
            };
        }
    }

    fn table(&self, metric: Metric) -> Table {
        let own = !matches!(metric, Metric::ValAccuracy | Metric::TestAccuracy);
        let epochs = self.halving.then(|| "epochs".to_owned());
        let text = std::iter::once(String::new()).chain(self.columns.clone());
        let numbers = epochs.into_iter().chain(["n", "validation", "test", "time"].map(str::to_owned));
        let numbers = numbers.chain(own.then(|| metric.name().to_owned()));
        let mut table = Table::new(text, numbers);
        if self.columns.is_empty() {
            table.columns.insert(1, ("point".to_owned(), Align::Left));
        }
        for point in &self.points {
            let mark = match point.standing {
                Standing::Best => "*",
                Standing::NotToldApart => "~",
                Standing::Behind | Standing::Unknown => "",
            };
            let mut row = vec![mark.to_owned()];
            if self.columns.is_empty() {
                row.push(point.point.clone());
            }
            row.extend(point.values.iter().cloned());
            row.extend(self.halving.then(|| point.epochs.to_string()));
            let count = point.runs.len();
            row.push(if count == point.planned { count.to_string() } else { format!("{count}/{}", point.planned) });
            row.extend([&point.best_val_accuracy, &point.test_accuracy].map(|figure| shown(figure.as_ref(), 4)));
            row.push(shown(point.seconds.as_ref(), 1) + if point.seconds.is_some() { " s" } else { "" });
            row.extend(own.then(|| shown(point.figure(metric), 4)));
            table.rows.push(row);
        }
        table
    }

    fn csv(&self) -> Result<String> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        let fixed = [
            "rung",
            "epochs",
            "standing",
            "planned",
            "n",
            "failed",
            "best_val_accuracy_mean",
            "best_val_accuracy_sd",
            "test_accuracy_mean",
            "test_accuracy_sd",
            "seconds_mean",
            "seconds_sd",
            "runs",
        ];
        let columns = ["sweep", "point"].into_iter().chain(self.columns.iter().map(String::as_str)).chain(fixed);
        csv.write_record(columns)?;
        for point in &self.points {
            let standing = serde_json::to_value(point.standing)?.as_str().unwrap_or_default().to_owned();
            let mut row = vec![self.sweep.clone(), point.point.clone()];
            row.extend(point.values.iter().cloned());
            row.extend([
                point.rung.map(|rung| rung.to_string()).unwrap_or_default(),
                point.epochs.to_string(),
                standing,
            ]);
            row.extend([point.planned, point.runs.len(), point.failed.len()].map(|count| count.to_string()));
            for figure in [&point.best_val_accuracy, &point.test_accuracy, &point.seconds] {
                let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
                row.push(number(figure.as_ref().map(|figure| figure.mean)));
                row.push(number(figure.as_ref().and_then(|figure| figure.deviation)));
            }
            row.push(point.runs.join(" "));
            csv.write_record(&row)?;
        }
        Ok(String::from_utf8(csv.into_inner().context("a table in memory")?)?)
    }

    /// What the table does not say.
    fn legend(&self, args: &Args) -> Vec<String> {
        let mut lines = vec![format!(
            "sweep {}: {} of {} done{}",
            self.sweep,
            self.finished,
            counted(self.runs, "run"),
            match self.failed {
                0 => String::new(),
                failed => format!(", {failed} failed"),
            }
        )];
        let read_by_people = !args.json && args.format != Format::Csv;
        if self.finished > 0 && read_by_people {
            let among = if self.halving { " among those that reached the last rung" } else { "" };
            let how = "mean ± standard deviation of the runs of a point";
            lines.push(format!("{how}; * the best by {}{among}", args.metric.name()));
        }
        if read_by_people && self.points.iter().any(|point| point.standing == Standing::NotToldApart) {
            lines.push(format!("~ not told apart from it: the difference may be chance (Welch's test, p ≥ {LEVEL})"));
        }
        let compared = |point: &&PointResult| point.standing == Standing::Unknown && !point.runs.is_empty();
        if read_by_people && self.points.iter().any(|point| compared(&point)) {
            lines.push(
                "where a point was run once nobody can say what is chance; `repeats = 3` in the file would tell"
                    .to_owned(),
            );
        }
        for point in &self.points {
            for Failure { seed, run, why } in &point.failed {
                lines.push(format!("failed: {} seed={seed} ({run}): {why}", point.point));
            }
        }
        lines
    }
}

fn point_rung(point: &PointResult) -> usize {
    point.rung.unwrap_or(1)
}

fn shown(figure: Option<&Repeats>, digits: usize) -> String {
    match figure {
        None => "-".to_owned(),
        Some(Repeats { mean, deviation: None, .. }) => format!("{mean:.digits$}"),
        Some(Repeats { mean, deviation: Some(deviation), .. }) => format!("{mean:.digits$} ± {deviation:.digits$}"),
    }
}

/// What a point is asked for in all rungs up to one.
fn trials_up_to(point: &Point, rung: usize) -> impl Iterator<Item = &Trial> {
    point.rungs.iter().take(rung + 1).flatten()
}

/// Every point with the last rung that it has reached, as far as that is known yet.
fn reached<'s>(sweep: &'s Sweep, index: &Index) -> Vec<(&'s Point, usize)> {
    let mut reached: Vec<(&Point, usize)> = sweep.points.iter().map(|point| (point, 0)).collect();
    let Some(halving) = &sweep.halving else { return reached };
    let mut points: Vec<&Point> = sweep.points.iter().collect();
    for rung in 0..halving.epochs.len() {
        for (_, own) in reached.iter_mut().filter(|(point, _)| points.iter().any(|p| std::ptr::eq(*p, *point))) {
            *own = rung;
        }
        let settled = |point: &&Point| {
            let mut trials = point.rungs.get(rung).into_iter().flatten();
            let over = |status| matches!(status, Status::Finished | Status::Failed);
            trials.all(|trial| index.run(&trial.identity).is_some_and(|run| over(run.status)))
        };
        if !points.iter().all(settled) {
            break;
        }
        let count = halving.survivors(sweep.points.len(), rung + 1);
        let finished = |identity: &str| index.run(identity).filter(|run| run.status == Status::Finished);
        points = survivors(&points, rung, halving.monitor, count, &finished);
    }
    reached
}

impl PointResult {
    fn of(sweep: &Sweep, point: &Point, rung: usize, index: &Index) -> Self {
        let trials: &[Trial] = point.rungs.get(rung).map_or(&[], Vec::as_slice);
        let with = |trial: &Trial, status: Status| index.run(&trial.identity).filter(|run| run.status == status);
        let finished: Vec<&RunInfo> = trials.iter().filter_map(|trial| with(trial, Status::Finished)).collect();
        let failure = |trial: &Trial| {
            let run = with(trial, Status::Failed)?;
            Some(Failure { seed: trial.seed, run: run.id.clone(), why: run.problem.clone().unwrap_or_default() })
        };
        Self {
            point: point.name.clone(),
            values: point.values.clone(),
            rung: sweep.halving.is_some().then_some(rung + 1),
            epochs: trials.first().map_or(0, |trial| trial.recipe.train.epochs),
            standing: Standing::Unknown,
            planned: trials.len(),
            best_val_accuracy: repeats(finished.iter().filter_map(|run| run.best_val_accuracy)),
            test_accuracy: repeats(finished.iter().filter_map(|run| run.test_accuracy)),
            seconds: repeats(finished.iter().map(|run| run.seconds)),
            figures: Metric::ALL
                .map(|metric| (metric, repeats(finished.iter().filter_map(|run| metric.of(run)))))
                .to_vec(),
            runs: finished.iter().map(|run| run.id.clone()).collect(),
            failed: trials_up_to(point, rung).filter_map(failure).collect(),
            running: trials.iter().filter(|trial| with(trial, Status::Running).is_some()).count(),
        }
    }

    fn figure(&self, metric: Metric) -> Option<&Repeats> {
        self.figures.iter().find(|(own, _)| *own == metric).and_then(|(_, figure)| figure.as_ref())
    }
}

/// Runs that asked for the same photos and got others, because those have changed meanwhile, are not comparable.
fn different_photos(sweep: &Sweep, index: &Index) -> Result<Vec<String>> {
    let mut seen: BTreeMap<String, (String, BTreeMap<String, String>)> = BTreeMap::new();
    let mut warnings = Vec::new();
    for (_, trial) in sweep.trials() {
        let Some(run) = index.run(&trial.identity).filter(|run| run.status == Status::Finished) else { continue };
        let Some(environment) = read_environment(&run.folder)? else { continue };
        let asked = toml::to_string(&trial.recipe.data)?;
        let (first, photos) = seen.entry(asked).or_insert_with(|| (run.id.clone(), environment.data_sha256.clone()));
        if *photos != environment.data_sha256 {
            warnings.push(format!(
                "the photos, or how they are divided, have changed between {first} and {}: these runs are not comparable; \
                 `ft runs rm` removes one, and `ft sweep` makes it anew",
                run.id
            ));
        }
    }
    warnings.truncate(5);
    Ok(warnings)
}
