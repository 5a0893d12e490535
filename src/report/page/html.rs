//! The page as one HTML file: structure, style and script from `assets/report/`, the data as JSON in it.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::data::{Page, RunPage};
use crate::files::write_atomically;
use crate::natural;

const TEMPLATE: &str = include_str!("../../../assets/report/page.html");
const STYLE: &str = include_str!("../../../assets/report/style.css");
/// In the order in which they build on each other; one script element, so one scope.
const SCRIPT: &str = concat!(
    include_str!("../../../assets/report/script/dom.js"),
    include_str!("../../../assets/report/script/widgets.js"),
    include_str!("../../../assets/report/script/chart.js"),
    include_str!("../../../assets/report/script/curves.js"),
    include_str!("../../../assets/report/script/photos.js"),
    include_str!("../../../assets/report/script/evaluation.js"),
    include_str!("../../../assets/report/script/run.js"),
    include_str!("../../../assets/report/script/comparison.js"),
    include_str!("../../../assets/report/script/main.js"),
);

/// What the script gets.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(flatten)]
    page: &'a Page,
    /// Of each run with an evaluation: the indices of its classes in the order in which tables show them.
    orders: Vec<Option<Vec<usize>>>,
}

/// Writes the page.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, page: &Page) -> Result<()> {
    let text = render(page)?;
    write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))
}

/// The page's text.
///
/// # Errors
/// If the data cannot be put into JSON.
pub fn render(page: &Page) -> Result<String> {
    let order = |run: &RunPage| run.evaluation.as_ref().map(|evaluation| natural::order(&evaluation.classes));
    let data = Data { page, orders: page.runs.iter().map(order).collect() };
    // Nothing in the data can end the script element or begin a comment in it.
    let json = serde_json::to_string(&data).context("the report's data")?.replace('<', "\\u003c");
    let mut text = String::with_capacity(TEMPLATE.len() + STYLE.len() + SCRIPT.len() + json.len());
    // Split rather than replaced: what one part contains is not searched for the marker of the next.
    let mut rest = TEMPLATE;
    for (marker, part) in
        [("{{title}}", escape(&page.title).as_str()), ("{{style}}", STYLE), ("{{data}}", &json), ("{{script}}", SCRIPT)]
    {
        let (before, after) = rest.split_once(marker).with_context(|| format!("the page has no place for {marker}"))?;
        text.push_str(before);
        text.push_str(part);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

/// Text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
