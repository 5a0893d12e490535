//! `ft runs export`: the list of runs for spreadsheets and other programs.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

use super::Choice;
use crate::cli::RunsArgs;
use crate::cli::output::{print, print_json};
use crate::error::{say, usage};
use crate::files::write_atomically;
use crate::runs::export::RunTable;
use crate::runs::{list, mlflow};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Json,
    Markdown,
    /// A workbook of Excel or LibreOffice
    Xlsx,
    /// A folder that `mlflow ui --backend-store-uri` shows
    Mlflow,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ft runs export > runs.csv\n  ft runs export --format xlsx --out runs.xlsx --where dataset=tf_flowers\n  ft runs export --format mlflow --out mlruns"
)]
pub struct Args {
    /// What to write
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// File to write, for mlflow a folder [default: stdout]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    runs: RunsArgs,
}

/// Writes the list.
///
/// # Errors
/// A usage error for a condition that cannot be understood, or a format that needs a file; any other if it cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let runs = args.choice.of(list(&args.runs.runs)?)?;
    let table = RunTable::new(&runs);
    let text = match (args.format, &args.out) {
        (Format::Csv, _) => table.csv()?,
        (Format::Markdown, _) => table.markdown(),
        (Format::Json, None) => return print_json(&json!({ "runs": runs })),
        (Format::Json, Some(_)) => serde_json::to_string(&json!({ "runs": runs }))? + "\n",
        (Format::Xlsx, Some(path)) => return table.write_xlsx(path).map(|()| wrote(runs.len(), path)),
        (Format::Mlflow, Some(path)) => return mlflow::write(path, &runs).map(|()| wrote(runs.len(), path)),
        (Format::Xlsx, None) => return Err(usage("an XLSX workbook needs a file: --out runs.xlsx")),
        (Format::Mlflow, None) => return Err(usage("MLflow's layout needs a folder: --out mlruns")),
    };
    match &args.out {
        Some(path) => {
            write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))?;
            wrote(runs.len(), path);
            Ok(())
        }
        None => print(&text),
    }
}

fn wrote(runs: usize, path: &std::path::Path) {
    say(&format!("{runs} runs: {}", path.display()));
}
