//! Runs in the file layout of MLflow's tracking store, so that its own tools show them.
//!
//! `mlruns/<experiment>/meta.yaml` and below it for each run `meta.yaml`, `params/`, `metrics/` and `tags/`, a file for each name
//! (<https://mlflow.org/docs/latest/tracking.html>, store version 1). Data sets become experiments.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Metric, RunInfo, Status, file, read_epochs};
use crate::files::{sha256, write_atomically};
use crate::train::observer::EpochMetrics;

/// Writes the runs below `folder`, which MLflow then takes as its tracking address.
///
/// # Errors
/// If something cannot be written, or the epochs of a run are damaged.
pub fn write(folder: &Path, runs: &[RunInfo]) -> Result<()> {
    let mut experiments: BTreeMap<&str, Vec<&RunInfo>> = BTreeMap::new();
    for run in runs {
        experiments.entry(run.dataset.as_deref().unwrap_or("unknown data")).or_default().push(run);
    }
    for (name, runs) in experiments {
        // MLflow's ids of experiments are decimal numbers; this one stays the same when the export is repeated.
        let hash = sha256(name.as_bytes());
        let id = u64::from_str_radix(hash.get(..13).unwrap_or("0"), 16)?.to_string();
        let experiment = folder.join(&id);
        let first = runs.iter().map(|run| millis(&run.started)).min().unwrap_or_default();
        let meta = [
            ("artifact_location", quoted(&location(&experiment)?)),
            ("creation_time", first.to_string()),
            ("experiment_id", quoted(&id)),
            ("last_update_time", first.to_string()),
            ("lifecycle_stage", "active".to_owned()),
            ("name", quoted(name)),
        ];
        write_text(&experiment.join("meta.yaml"), &yaml(&meta))?;
        for run in runs {
            write_run(&experiment, &id, run).with_context(|| format!("run {}", run.id))?;
        }
    }
    Ok(())
}

fn write_run(experiment: &Path, experiment_id: &str, run: &RunInfo) -> Result<()> {
    let hash = sha256(run.id.as_bytes());
    let id = hash.get(..32).unwrap_or(&hash).to_owned();
    let folder = experiment.join(&id);
    let start = millis(&run.started);
    let end = match run.status {
        Status::Running => "null".to_owned(),
        _ => (start + (run.seconds * 1000.0) as i64).to_string(),
    };
    let meta = [
        ("artifact_uri", quoted(&location(&folder.join("artifacts"))?)),
        ("end_time", end),
        ("entry_point_name", quoted("")),
        ("experiment_id", quoted(experiment_id)),
        ("lifecycle_stage", "active".to_owned()),
        ("run_id", quoted(&id)),
        ("run_name", quoted(&run.id)),
        ("source_name", quoted("ft")),
        ("source_type", "4".to_owned()),
        ("source_version", quoted("")),
        ("start_time", start.to_string()),
        // RUNNING, FINISHED, FAILED, KILLED.
        (
            "status",
            match run.status {
                Status::Running => "1",
                Status::Finished => "3",
                Status::Failed | Status::Damaged => "4",
                Status::Interrupted => "5",
            }
            .to_owned(),
        ),
        ("tags", "[]".to_owned()),
        ("user_id", quoted("ft")),
    ];
    write_text(&folder.join("meta.yaml"), &yaml(&meta))?;
    for part in ["artifacts", "metrics", "params", "tags"] {
        fs::create_dir_all(folder.join(part))
            .with_context(|| format!("cannot make {}", folder.join(part).display()))?;
    }
    for (key, value) in &run.keys {
        write_text(&folder.join("params").join(key), &value.text())?;
    }
    write_metrics(&folder, run, start)?;
    let mut tags =
        vec![("mlflow.runName".to_owned(), run.id.clone()), ("ft.folder".to_owned(), run.folder.display().to_string())];
    tags.extend(run.note.iter().map(|note| ("mlflow.note.content".to_owned(), note.clone())));
    tags.extend(run.tags.iter().map(|tag| (safe(tag), "true".to_owned())));
    tags.iter().try_for_each(|(name, text)| write_text(&folder.join("tags").join(name), text))
}

/// `time value step` in a line each.
fn write_metrics(folder: &Path, run: &RunInfo, start: i64) -> Result<()> {
    type Figure = (&'static str, fn(&EpochMetrics) -> Option<f64>);
    const FIGURES: [Figure; 7] = [
        ("train_loss", |e| Some(e.train_loss)),
        ("train_objective", |e| e.train_objective),
        ("train_accuracy", |e| Some(e.train_accuracy)),
        ("val_loss", |e| e.val_loss),
        ("val_objective", |e| e.val_objective),
        ("val_accuracy", |e| e.val_accuracy),
        ("lr", |e| Some(e.lr)),
    ];
    let epochs = if run.folder.join(file::METRICS).is_file() { read_epochs(&run.folder)? } else { Vec::new() };
    for (name, figure) in FIGURES {
        let mut time = start as f64;
        let mut lines = String::new();
        for epoch in &epochs {
            time += epoch.seconds * 1000.0;
            if let Some(value) = figure(epoch) {
                lines.push_str(&format!("{} {value} {}\n", time as i64, epoch.epoch));
            }
        }
        if !lines.is_empty() {
            write_text(&folder.join("metrics").join(name), &lines)?;
        }
    }
    let last = epochs.len();
    let end = start + (run.seconds * 1000.0) as i64;
    for metric in Metric::ALL {
        if let Some(value) = metric.of(run) {
            write_text(&folder.join("metrics").join(metric.field()), &format!("{end} {value} {last}\n"))?;
        }
    }
    Ok(())
}

fn millis(started: &str) -> i64 {
    started.parse::<Timestamp>().map_or(0, Timestamp::as_millisecond)
}

fn location(path: &Path) -> Result<String> {
    Ok(format!("file://{}", std::path::absolute(path)?.display()))
}

/// A text as YAML: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn yaml(lines: &[(&str, String)]) -> String {
    lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// A name that MLflow allows and no file system minds.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "_-. ".contains(c) { c } else { '_' }).collect()
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))
}
