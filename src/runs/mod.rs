//! The experiment record: a run is a folder of plain files, written atomically or appended line by line. Nothing is overwritten by
//! a later run, and a run's status is derived from what lies in its folder.
//!
//! | file | content |
//! |---|---|
//! | `recipe.toml` | the resolved recipe |
//! | `command.txt` | the command line |
//! | `environment.json` | version, machine, device, state of the git repository, weights file and its hash, hash of each split, start time |
//! | `data.csv`, `skipped.csv` | which photo was in which part; which could not be read, and why |
//! | `metrics.csv` | one line for each epoch |
//! | `steps.csv` | one line for every `train.log_every` batches |
//! | `tensorboard/` | event files of TensorBoard, see [`tensorboard`] |
//! | `best.safetensors`, `last.safetensors` | checkpoints, at the best validation accuracy and the last epoch |
//! | `predictions.csv` | truth, prediction and logits of each photo |
//! | `curves.png`, `curves.svg` | loss and accuracy over the epochs, drawn again after each, if that takes less than a tenth of the time |
//! | `summary.md` | highest and lowest figures, figures of each class, confusion matrix |
//! | `report.html` | the report page |
//! | `result.json` | the figures; its presence means that the run ended in order |
//! | `eval/NAME-TIME/` | what `ft eval` found on other photos: `predictions.csv`, `data.csv`, `summary.md`, `report.html` |
//! | `error.txt` | why it failed |
//! | `tags.txt`, `note.txt` | what the user calls it, one a line, and what they wrote about it |
//! | `lock` | locked while the run's process lives |
//! | `state/` | saved states of training, from which `ft resume` goes on; a finished run keeps the last one |
//! | `sweeps.jsonl` | one line for each sweep that the run is part of: its name, point and overrides |
//! | `resumes.jsonl` | one line for each time that the run was resumed: when, by what, from which state |

pub mod claims;
mod environment;
pub mod export;
mod figures;
pub mod labels;
mod list;
pub mod mlflow;
mod photos;
mod predictions;
pub mod query;
mod resolve;
mod rows;
mod states;
pub mod sweeps;
pub mod tensorboard;
mod write;

pub use environment::{Environment, Parent, RankRecord, WeightsFile, answer_of, cpu_name, host_name, system_setting};
pub use figures::{ClassFigures, Extreme, History, SplitFigures, histories};
pub use list::{FIELDS, RunInfo, Status, TRASH, info, known_fields, list, read_environment, read_result, recipe_keys};
pub use photos::{UsedPhoto, photos_hash, read_photos, read_skipped, write_photos, write_skipped};
pub use predictions::{Prediction, read_predictions, write_predictions};
pub use resolve::{Metric, Resolver, best_of, resolve, resolve_checkpoint, same_photos};
pub use rows::{read_epochs, read_steps};
pub use states::{Restored, States};
pub use write::{Resumption, RunResult, RunWriter, SkippedRow, command_line, quoted};

/// Names of the files of a run folder.
pub mod file {
    pub const RECIPE: &str = "recipe.toml";
    pub const COMMAND: &str = "command.txt";
    pub const ENVIRONMENT: &str = "environment.json";
    pub const DATA: &str = "data.csv";
    pub const SKIPPED: &str = "skipped.csv";
    pub const METRICS: &str = "metrics.csv";
    pub const STEPS: &str = "steps.csv";
    pub const TENSORBOARD: &str = "tensorboard";
    pub const PREDICTIONS: &str = "predictions.csv";
    pub const BEST: &str = "best.safetensors";
    pub const LAST: &str = "last.safetensors";
    pub const RESULT: &str = "result.json";
    pub const SUMMARY: &str = "summary.md";
    pub const REPORT: &str = "report.html";
    pub const CURVES_PNG: &str = "curves.png";
    pub const CURVES_SVG: &str = "curves.svg";
    pub const ERROR: &str = "error.txt";
    pub const LOCK: &str = "lock";
    pub const TAGS: &str = "tags.txt";
    pub const NOTE: &str = "note.txt";
    pub const STATES: &str = "state";
    pub const SWEEPS: &str = "sweeps.jsonl";
    pub const RESUMES: &str = "resumes.jsonl";
}
