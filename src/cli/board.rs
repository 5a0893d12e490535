//! What the pictures in TensorBoard show: what the model looks at, at the end of training and by `ft explain`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Tensor;
use image::RgbImage;

use super::model::OpenModel;
use crate::data::dataset::Dataset;
use crate::data::photo::Photo;
use crate::data::split::Split;
use crate::draw::colour::ColourMap;
use crate::draw::jpeg;
use crate::draw::sheet::{SheetHeader, contact_sheet};
use crate::error::say;
use crate::explain::overlay::{CardStyle, ExplainedPhoto, card};
use crate::explain::photos::SeenPhoto;
use crate::explain::select::{self, right_predictions, wrong_predictions};
use crate::explain::{Explainer, HeatMap, Method, Options};
use crate::models::Network;
use crate::runs::tensorboard::{Picture, add_pictures, exist};
use crate::runs::{Prediction, RunWriter};
use crate::train::checkpoint::ModelDescription;

const QUALITY: u8 = 88;
/// Photos on the sheet that training makes: enough for a glance, few enough to take no time. At most half of them are wrong
/// predictions.
const PHOTOS: usize = 8;
const COLUMNS: usize = 2;

/// Adds the sheets that `ft explain` has made to the events of the model's run, if it has some. What keeps them from there is only
/// said: they lie in `out`.
pub fn add_sheets(model: &OpenModel, out: &Path, sheets: &[PathBuf]) {
    if !exist(&model.folder) {
        return;
    }
    let name = out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let read = |sheet: &PathBuf| -> Result<Picture> {
        let sheet_name = sheet.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = sheet_name.strip_prefix("sheet-").unwrap_or(&sheet_name);
        let image = image::open(sheet).with_context(|| format!("cannot read {}", sheet.display()))?;
        picture(format!("explain/{name}/{kind}"), &image.to_rgb8())
    };
    let added = sheets.iter().map(read).collect::<Result<Vec<_>>>();
    let added = added.and_then(|pictures| add_pictures(&model.folder, model.description.epoch, pictures));
    if let Err(error) = added {
        say(&format!("warning: the sheets are not in TensorBoard's files: {error:#}"));
    }
}

fn picture(tag: String, image: &RgbImage) -> Result<Picture> {
    Ok(Picture { tag, width: image.width(), height: image.height(), bytes: jpeg::encode(image, QUALITY)? })
}

/// A photo whose prediction is known.
struct Shown<'a> {
    row: &'a select::Prediction,
    seen: SeenPhoto,
}

/// Adds a small sheet of wrong and right predictions to the run's events: of test photos, or of validation photos where there are none.
///
/// # Errors
/// If the model cannot explain them, or they cannot be written.
pub fn add_glance(
    run: &RunWriter,
    description: &ModelDescription,
    network: &Network,
    dataset: &Dataset,
    predictions: &[Prediction],
) -> Result<()> {
    let split = if dataset.test.is_empty() { Split::Val } else { Split::Test };
    let class = |name: &str| description.classes.iter().position(|class| class == name);
    let row = |p: &Prediction| {
        let (truth, predicted) = (class(&p.truth)?, class(&p.predicted)?);
        Some(select::Prediction { id: p.path.clone(), truth, predicted, probability: p.probability })
    };
    let rows: Vec<select::Prediction> =
        predictions.iter().filter(|p| p.split == split.name()).filter_map(row).collect();
    let mut chosen = wrong_predictions(&rows, PHOTOS / 2);
    let wrong = chosen.len();
    chosen.extend(right_predictions(&rows, PHOTOS - wrong));
    let photos: BTreeMap<&str, &Photo> = dataset.split(split).iter().map(|s| (s.id.as_str(), &s.photo)).collect();
    let mut shown = Vec::new();
    for row in chosen {
        let photo = photos.get(row.id.as_str()).context("a prediction of a photo that is not there")?;
        shown.push(Shown { row, seen: SeenPhoto::read(photo, description, network.device())? });
    }
    if shown.is_empty() {
        return Ok(());
    }
    let (layer, cards) = cards(description, network, &shown)?;
    let (right, of, split) = (shown.len() - wrong, rows.len(), split.name());
    let header = SheetHeader {
        title: format!("{} after epoch {}", run.id(), description.epoch),
        lines: vec![
            format!("{wrong} wrong and {right} right predictions among {of} {split} photos"),
            format!("Grad-CAM at {layer} for the predicted class"),
        ],
        empty: String::new(),
        colours: Some(ColourMap::Jet),
    };
    let sheet = contact_sheet(&header, &cards, COLUMNS)?;
    add_pictures(run.folder(), description.epoch, vec![picture(format!("gradcam/{split}"), &sheet)?])
}

/// The layer that was looked at, and a card for each photo.
fn cards(description: &ModelDescription, network: &Network, shown: &[Shown<'_>]) -> Result<(String, Vec<RgbImage>)> {
    let explainer = Explainer::new(network, None, Options::default())?;
    let placement = explainer.placement(Method::GradCam)?;
    let inputs = Tensor::cat(&shown.iter().map(|shown| &shown.seen.input).collect::<Vec<_>>(), 0)?;
    let classes: Vec<u32> = shown.iter().map(|shown| shown.row.predicted as u32).collect();
    let maps =
        explainer.maps(&[Method::GradCam], &inputs, &classes)?.into_iter().next().context("there are no maps")?;
    let name = |index: usize| description.classes.get(index).map_or("?", String::as_str);
    let draw = |(Shown { row, seen }, map): (&Shown<'_>, &HeatMap)| {
        let explained = ExplainedPhoto {
            photo: &seen.image,
            region: seen.region,
            map,
            placement: Some(placement),
            name: &row.id,
            predicted: name(row.predicted),
            probability: row.probability,
            truth: Some(name(row.truth)),
            explained: name(row.predicted),
            layer: explainer.layer(),
            method: "Grad-CAM",
        };
        card(&explained, &CardStyle::ON_SHEET)
    };
    let cards = shown.iter().zip(&maps).map(draw).collect::<Result<_>>()?;
    Ok((explainer.layer().to_owned(), cards))
}
