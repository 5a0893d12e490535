//! Contact sheets of the cards of a group of photos.

use std::path::PathBuf;

use anyhow::Result;
use image::RgbImage;

use super::gallery::Gallery;
use super::request::Scale;
use crate::draw::png::write_png;
use crate::draw::sheet::{DEFAULT_COLUMNS, SheetHeader, labelled_sheet};
use crate::explain::caption::bar_number;

/// Widest row of cards and tallest column of them on one page, in pixels.
const PAGE: (u32, u32) = (1900, 6400);

/// Writes `sheet-KIND.png`, and `sheet-KIND-2.png` and so on for what does not fit on one page. `tops` are the largest raw values
/// of the scales that all photos share.
pub fn write_sheets(
    gallery: &Gallery,
    kind: &str,
    shown: &str,
    cards: &[RgbImage],
    tops: Option<&[f32]>,
) -> Result<Vec<PathBuf>> {
    let tallest = cards.iter().map(RgbImage::height).max().unwrap_or(1);
    let widest = cards.iter().map(RgbImage::width).max().unwrap_or(1);
    let columns = ((PAGE.0 / widest) as usize).clamp(1, DEFAULT_COLUMNS);
    let per_page = columns * ((PAGE.1 / tallest) as usize).max(1);
    let pages = cards.len().div_ceil(per_page).max(1);
    let ends = match (gallery.look.scale, tops) {
        (Scale::Each, _) => ("0  weakest".to_owned(), "strongest  1".to_owned()),
        (Scale::Shared, Some([top])) => ("0".to_owned(), bar_number(*top)),
        (Scale::Shared, _) => ("0".to_owned(), "largest of all photos".to_owned()),
        (Scale::Photo, _) => ("0".to_owned(), "largest of the photo".to_owned()),
    };
    let models: Vec<String> = (0..gallery.subjects.len()).map(|number| gallery.short_title(number)).collect();
    let models = models.join(" and ");
    let title = match kind {
        "right" => format!("Right predictions of {models}"),
        "wrong" => format!("Wrong predictions of {models}"),
        _ => format!("Photos seen by {models}"),
    };
    let runs: Vec<&str> = gallery.subjects.iter().map(|subject| subject.title.as_str()).collect();
    let dataset = gallery.subjects.first().map_or("", |s| s.model.description.dataset.as_str());
    let mut files = Vec::new();
    for page in 0..pages {
        let part = cards.chunks(per_page).nth(page).unwrap_or_default();
        let of_pages = if pages > 1 { format!(" · page {} of {pages}", page + 1) } else { String::new() };
        let header = SheetHeader {
            title: title.clone(),
            lines: vec![format!("{dataset} · {shown}{of_pages}"), gallery.summary(), runs.join(", ")],
            empty: format!("nothing to show: {shown}"),
            colours: Some(gallery.look.colours),
        };
        let name = if page == 0 { format!("sheet-{kind}.png") } else { format!("sheet-{kind}-{}.png", page + 1) };
        let path = gallery.out.join(name);
        write_png(&path, &labelled_sheet(&header, (&ends.0, &ends.1), part, columns)?)?;
        files.push(path);
    }
    Ok(files)
}
