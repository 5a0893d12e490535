//! What `best`, `latest`, an id, a name or a path mean.

use std::cell::OnceCell;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};

use super::list::is_run;
use super::{RunInfo, Status, file, list};
use crate::error::{nearest, say, suggestion, usage};

/// The folder of a run, see [`Resolver::resolve`].
///
/// # Errors
/// As there.
pub fn resolve(runs: &Path, which: &str) -> Result<PathBuf> {
    Resolver::new(runs).resolve(which)
}

/// A checkpoint: named by its own path, wherever it lies, or the best one of what [`resolve`] finds.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_checkpoint(runs: &Path, which: &str) -> Result<PathBuf> {
    let given = Path::new(which);
    if given.is_file() && given.extension().is_some_and(|extension| extension == "safetensors") {
        return Ok(given.to_owned());
    }
    Ok(resolve(runs, which)?.join(file::BEST))
}

/// What makes a run the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    #[default]
    ValAccuracy,
    ValLoss,
    TestAccuracy,
    TestLoss,
    TestMacroF1,
}

impl Metric {
    pub const ALL: [Self; 5] =
        [Self::ValAccuracy, Self::ValLoss, Self::TestAccuracy, Self::TestLoss, Self::TestMacroF1];

    /// Its name among the fields of a run.
    pub fn field(self) -> &'static str {
        match self {
            Self::ValAccuracy => "best_val_accuracy",
            Self::ValLoss => "best_val_loss",
            Self::TestAccuracy => "test_accuracy",
            Self::TestLoss => "test_loss",
            Self::TestMacroF1 => "test_macro_f1",
        }
    }

    /// Its short name: `val_accuracy`.
    pub fn name(self) -> &'static str {
        self.field().trim_start_matches("best_")
    }

    /// The photos that it is about.
    pub fn split(self) -> &'static str {
        if self.name().starts_with("val") { "val" } else { "test" }
    }

    /// The figure of a run.
    pub fn of(self, run: &RunInfo) -> Option<f64> {
        match self {
            Self::ValAccuracy => run.best_val_accuracy,
            Self::ValLoss => run.best_val_loss,
            Self::TestAccuracy => run.test_accuracy,
            Self::TestLoss => run.test_loss,
            Self::TestMacroF1 => run.test_macro_f1,
        }
    }

    /// Of losses the lower one.
    pub fn is_better(self, new: f64, old: f64) -> bool {
        match self {
            Self::ValLoss | Self::TestLoss => new < old,
            _ => new > old,
        }
    }
}

impl FromStr for Metric {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|metric| metric.field() == text || metric.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            usage(format!("no metric {text:?}{}; there are {}", suggestion(text, &names), names.join(", ")))
        })
    }
}

/// The best run by a metric among those that ended and kept a checkpoint; of equal ones the first.
pub fn best_of<'a>(infos: impl IntoIterator<Item = &'a RunInfo>, metric: Metric) -> Option<&'a RunInfo> {
    let scored = infos.into_iter().filter_map(|run| Some((judged(run, metric)?, run)));
    scored.reduce(|best, run| if metric.is_better(run.0, best.0) { run } else { best }).map(|(_, run)| run)
}

/// The figure of a run that may be the best.
fn judged(run: &RunInfo, metric: Metric) -> Option<f64> {
    let ended = matches!(run.status, Status::Finished | Status::Interrupted) && run.has_model;
    metric.of(run).filter(|figure| ended && figure.is_finite())
}

/// Runs whose figures of a split are about the same photos, in a list each: as the hashes of the photos say where both runs have
/// one, else as the names of the data do. Lists and the runs in them are in the order given.
pub fn same_photos<'a>(infos: impl IntoIterator<Item = &'a RunInfo>, split: &str) -> Vec<Vec<&'a RunInfo>> {
    struct Group<'a> {
        /// Of its first run that has one.
        hash: Option<&'a String>,
        dataset: &'a Option<String>,
        runs: Vec<&'a RunInfo>,
    }
    let mut all: Vec<Group> = Vec::new();
    for run in infos {
        let hash = run.data_sha256.get(split);
        let is_same = |group: &&mut Group| match (hash, group.hash) {
            (Some(own), Some(others)) => own == others,
            _ => run.dataset == *group.dataset,
        };
        match all.iter_mut().find(is_same) {
            Some(group) => {
                group.hash = group.hash.or(hash);
                group.runs.push(run);
            }
            None => all.push(Group { hash, dataset: &run.dataset, runs: vec![run] }),
        }
    }
    all.into_iter().map(|group| group.runs).collect()
}

/// Finds runs by what the user calls them. The runs are listed once, when that is needed.
pub struct Resolver<'a> {
    runs: &'a Path,
    infos: OnceCell<Vec<RunInfo>>,
}

impl<'a> Resolver<'a> {
    /// Among the runs in a folder.
    pub fn new(runs: &'a Path) -> Self {
        Self { runs, infos: OnceCell::new() }
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// As [`list`].
    pub fn infos(&self) -> Result<&[RunInfo]> {
        if self.infos.get().is_none() {
            // Nobody else can have set it.
            let _ = self.infos.set(list(self.runs)?);
        }
        Ok(self.infos.get().map(Vec::as_slice).unwrap_or_default())
    }

    /// The folder of a run:
    ///
    /// * `best`: of the runs that ended and kept a checkpoint, the one with the highest validation accuracy; `best:DATASET` of
    ///   those on this data, `best:METRIC` and `best:DATASET:METRIC` by another figure. Figures of different photos are never
    ///   compared: of several data sets one must be named, and of several splits of it that of the newest run counts.
    /// * `latest`: the newest with a checkpoint; `latest:NAME` the newest of this recipe, data set or tag.
    /// * an id, its beginning, or its last part (`1a2b`).
    /// * the path of a run folder or of a file in it.
    /// * the name of a recipe or a tag that one run has.
    ///
    /// # Errors
    /// A usage error that names what exists if `which` is no run or several; a plain one if there is no run to choose from.
    pub fn resolve(&self, which: &str) -> Result<PathBuf> {
        if let Some(wanted) = keyword(which, "best") {
            return self.best(wanted);
        }
        if let Some(wanted) = keyword(which, "latest") {
            return self.latest(wanted);
        }
        // Of many thousands of runs, one named by its id is found without reading the others.
        let is_name = matches!(Path::new(which).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        let named = self.runs.join(which);
        if is_name && named.is_dir() && is_run(&named) {
            return Ok(named);
        }
        if let Some(folder) = by_path(Path::new(which)) {
            return Ok(folder);
        }
        let infos = self.infos()?;
        let by = |is: &dyn Fn(&&RunInfo) -> bool| infos.iter().filter(is).collect::<Vec<&RunInfo>>();
        let begins = |run: &&RunInfo| !which.is_empty() && run.id.starts_with(which);
        let ends = |run: &&RunInfo| run.id.rsplit('-').next() == Some(which);
        let found: [(&str, Vec<&RunInfo>); 3] =
            [("begins", by(&begins)), ("ends", by(&ends)), ("is the name of", by(&|run| is_called(run, which)))];
        match found.iter().find(|(_, runs)| !runs.is_empty()) {
            None => Err(self.unknown(which)?),
            Some((_, runs)) if runs.len() == 1 => runs.first().map(|run| run.folder.clone()).context("one run"),
            Some((what, runs)) => {
                let hint =
                    if what.starts_with("is") { format!("\n  latest:{which} is the newest") } else { String::new() };
                Err(usage(format!("{which:?} {what} several runs:{}{hint}", ids(runs.iter().copied()))))
            }
        }
    }

    /// `wanted` is empty, `DATASET`, `METRIC` or `DATASET:METRIC`; names of data sets may have colons themselves.
    fn best(&self, wanted: &str) -> Result<PathBuf> {
        let (dataset, metric) = match (wanted.parse(), wanted.rsplit_once(':')) {
            (Ok(metric), _) => ("", metric),
            (Err(_), Some((dataset, metric))) if metric.parse::<Metric>().is_ok() => (dataset, metric.parse()?),
            _ => (wanted, Metric::default()),
        };
        let infos = self.infos()?;
        let is_candidate = |run: &&RunInfo| judged(run, metric).is_some() && (dataset.is_empty() || run.is_on(dataset));
        let groups = same_photos(infos.iter().filter(is_candidate), metric.split());
        let best: Vec<&RunInfo> = groups.iter().filter_map(|runs| best_of(runs.iter().copied(), metric)).collect();
        let Some((first, others)) = best.split_first() else {
            let on = if dataset.is_empty() { String::new() } else { format!(" on {dataset}") };
            anyhow::bail!(
                "no run{on} in {} has ended with a checkpoint and a {}{}\n  train one first, e.g. `ft recipe cnn-basic`",
                self.runs.display(),
                metric.name().replace("val_", "validation ").replace('_', " "),
                existing(infos)
            );
        };
        if others.iter().any(|run| run.dataset != first.dataset) {
            return Err(several_data_sets(&best, metric));
        }
        if let Some(count) = groups.first().map(Vec::len).filter(|_| !others.is_empty()) {
            say(&several_splits(first, count, &groups, metric));
        }
        Ok(first.folder.clone())
    }

    fn latest(&self, wanted: &str) -> Result<PathBuf> {
        let infos = self.infos()?;
        let is_meant = |run: &&RunInfo| {
            let is_called = wanted.is_empty() || is_called(run, wanted) || run.is_on(wanted);
            is_called && run.has_model && run.status != Status::Damaged
        };
        infos.iter().find(is_meant).map(|run| run.folder.clone()).with_context(|| {
            let called = if wanted.is_empty() { String::new() } else { format!(" of {wanted:?}") };
            format!(
                "no run{called} in {} has a checkpoint{}\n  train one first, e.g. `ft recipe cnn-basic`",
                self.runs.display(),
                existing(infos)
            )
        })
    }

    fn unknown(&self, which: &str) -> Result<anyhow::Error> {
        let infos = self.infos()?;
        let known = infos.iter().flat_map(|run| std::iter::once(&run.id).chain(&run.recipe).chain(&run.tags));
        let names: Vec<&str> = ["best", "latest"].into_iter().chain(known.map(String::as_str)).collect();
        let hint = nearest(which, &names).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        Ok(usage(format!("there is no run {which:?} in {}{hint}{}", self.runs.display(), existing(infos))))
    }
}

/// What stands behind the colon: nothing of `best`, `x` of `best:x`; `None` of any other text.
fn keyword<'w>(which: &'w str, word: &str) -> Option<&'w str> {
    let rest = which.strip_prefix(word)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
}

/// Whether it is the name of its recipe or one of its tags.
fn is_called(run: &RunInfo, name: &str) -> bool {
    run.recipe.as_deref() == Some(name) || run.tags.iter().any(|tag| tag == name)
}

/// The best run of each data set was found, but which data are meant is not said.
fn several_data_sets(best: &[&RunInfo], metric: Metric) -> anyhow::Error {
    let name = |run: &RunInfo| run.dataset.clone().unwrap_or_default();
    let last = |name: &str| name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let is_ambiguous =
        |run: &RunInfo| best.iter().any(|other| other.dataset != run.dataset && last(&name(other)) == last(&name(run)));
    let by = if metric == Metric::default() { String::new() } else { format!(":{}", metric.name()) };
    let mut lines: Vec<String> = Vec::new();
    for run in best {
        let dataset = if is_ambiguous(run) { name(run) } else { last(&name(run)) };
        let figure = metric.of(run).map(|figure| format!("{figure:.4}")).unwrap_or_default();
        let line = format!("\n  best:{dataset}{by}");
        // Of several splits of one data set the newest stands first.
        if !lines.iter().any(|other| other.starts_with(&format!("{line} "))) {
            lines.push(format!("{line}  {} ({} {figure})", run.id, metric.name()));
        }
    }
    usage(format!(
        "figures of different photos cannot be compared: say of which data the best run is meant{}",
        lines.concat()
    ))
}

fn several_splits(best: &RunInfo, count: usize, groups: &[Vec<&RunInfo>], metric: Metric) -> String {
    let others: usize = groups.iter().skip(1).map(Vec::len).sum();
    let photos = if metric.split() == "val" { "validation" } else { "test" };
    let (runs, have) =
        (if count == 1 { "run" } else { "runs" }, if others == 1 { "another has" } else { "others have" });
    format!(
        "best: {}, among the {count} {runs} with the {photos} photos of the newest; {others} {have} other {photos} photos, with which it \
         cannot be compared (`ft runs best` names the best of each)",
        best.id
    )
}

/// A run folder, or a file in one.
fn by_path(path: &Path) -> Option<PathBuf> {
    let folder = if path.is_file() { path.parent()? } else { path };
    let is_run = folder.join(file::RECIPE).is_file() || folder.join(file::BEST).is_file();
    is_run.then(|| if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

fn existing(infos: &[RunInfo]) -> String {
    if infos.is_empty() { "; there are no runs yet".to_owned() } else { format!("; there are:{}", ids(infos)) }
}

/// A line for each of the first ten.
fn ids<'a>(infos: impl IntoIterator<Item = &'a RunInfo>) -> String {
    let all: Vec<String> = infos.into_iter().map(|run| format!("\n  {} ({})", run.id, run.status)).collect();
    let more = all.len().saturating_sub(10);
    let mut text: String = all.into_iter().take(10).collect();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more, see `ft runs`"));
    }
    text
}
