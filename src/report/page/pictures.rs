//! The pictures of a run's page: photos in small, and what the model looks at in some of them.
//!
//! All are JPEG at a size that keeps the page of a usual run below 5 MB; [`THUMBNAILS`] bounds it whatever the number of photos.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use candle_core::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;

use super::data::{DepthRow, Evaluation, Explained, FeatureRow, FeatureTile, PhotoRow, Pictures, RunPage, Stage};
use crate::data::lookup::Lookup;
use crate::draw::canvas::resize;
use crate::draw::colour::{ColourMap, DEFAULT_ALPHA};
use crate::draw::jpeg;
use crate::explain::features::{Channel, ChannelOrder, channels};
use crate::explain::overlay::{ExplainedPhoto, overlay};
use crate::explain::photos::SeenPhoto;
use crate::explain::select::{Prediction, right_predictions, wrong_predictions};
use crate::explain::{Explainer, FeatureMap, HeatMap, Method, Options};
use crate::models::Network;
use crate::runs::file;
use crate::train::checkpoint::{self, ModelDescription};

/// Most photos in small on a page.
pub const THUMBNAILS: usize = 400;
/// Of these, kept for right predictions.
const THUMBNAILS_OF_RIGHT: usize = 120;
/// Right predictions of a class that are shown in small.
pub const RIGHT_PER_CLASS: usize = 12;
/// Photos in each of the galleries of right and wrong predictions.
const IN_GALLERY: usize = 12;
/// Channels of a stage.
const CHANNELS: usize = 8;
/// Photos whose maps are made at once.
const BATCH: usize = 8;

/// Sides in pixels.
const THUMBNAIL_SIDE: u32 = 112;
const GALLERY_SIDE: u32 = 240;
const DEPTH_SIDE: u32 = 176;
const TILE_SIDE: u32 = 80;
const JPEG_QUALITY: u8 = 78;

/// Fills the pictures of a run's page: which photos the cells, lists and galleries show, in small, and the maps of `model`.
///
/// A photo that cannot be read is left out. [`Pictures::absent`] says why there are no pictures, or no maps.
///
/// # Errors
/// If the model cannot explain a photo (its numbers are not finite), or a picture cannot be encoded.
pub fn add_pictures(run: &mut RunPage, photos: &Lookup, model: Option<(&ModelDescription, &Network)>) -> Result<()> {
    let Some(evaluation) = &mut run.evaluation else {
        run.pictures.absent = Some("the run has no predicted photos".to_owned());
        return Ok(());
    };
    let thumbnails = add_thumbnails(evaluation, photos)?;
    let wrong_or_right = !evaluation.predictions.is_empty();
    let absent = match (&thumbnails.first_problem, model) {
        (Some(problem), _) if thumbnails.pictures.is_empty() && wrong_or_right => Some(problem.clone()),
        _ => None,
    };
    run.pictures = Pictures { thumbnails: thumbnails.pictures, absent, ..Pictures::default() };
    if let (Some((description, network)), None) = (model, &run.pictures.absent) {
        add_maps(&mut run.pictures, evaluation, photos, description, network)?;
    }
    Ok(())
}

/// [`add_pictures`] for a run: of the model in its folder, with the photos where they lay in training, or at `data`. Photos that
/// are gone and a model that cannot be read are no errors: [`Pictures::absent`] says so.
///
/// # Errors
/// As [`add_pictures`].
pub fn of_run(run: &mut RunPage, folder: &Path, data: Option<&Path>, device: &Device) -> Result<()> {
    let root = match (data, run.environment.as_ref().and_then(|environment| environment.data_root.as_deref())) {
        (Some(data), _) => data.to_owned(),
        (None, Some(root)) => PathBuf::from(root),
        (None, None) => {
            run.pictures.absent = Some("the run does not say where its photos lie; name them with --data.".to_owned());
            return Ok(());
        }
    };
    if !root.exists() {
        let gone = format!("the photos are not in {}; name where they lie with --data.", root.display());
        run.pictures.absent = Some(gone);
        return Ok(());
    }
    let photos = match Lookup::open(&root) {
        Ok(photos) => photos,
        Err(problem) => {
            run.pictures.absent = Some(format!("the photos cannot be read: {problem:#}"));
            return Ok(());
        }
    };
    let checkpoint = folder.join(file::BEST);
    if !checkpoint.is_file() {
        add_pictures(run, &photos, None)?;
        run.pictures.absent.get_or_insert_with(|| "the run has no model.".to_owned());
        return Ok(());
    }
    match checkpoint::load(&checkpoint, device) {
        Ok((description, network)) => add_pictures(run, &photos, Some((&description, &network))),
        Err(problem) => {
            add_pictures(run, &photos, None)?;
            run.pictures.absent.get_or_insert_with(|| format!("the model cannot be read: {problem:#}"));
            Ok(())
        }
    }
}

struct Thumbnails {
    pictures: Vec<String>,
    /// Why the first photo that could not be read could not.
    first_problem: Option<String>,
}

/// Reads the chosen photos and gives their rows the numbers of their pictures.
fn add_thumbnails(evaluation: &mut Evaluation, photos: &Lookup) -> Result<Thumbnails> {
    let chosen = chosen_for_thumbnails(evaluation);
    let read = |&index: &usize| -> Option<Result<String>> {
        let row = evaluation.predictions.get(index)?;
        let photo = photos.find(&row.path).and_then(|photo| photo.decode());
        Some(photo.and_then(|photo| jpeg_address(&square(&photo, THUMBNAIL_SIDE)?)))
    };
    let pictures: Vec<_> = chosen.par_iter().map(read).collect();
    let mut thumbnails = Thumbnails { pictures: Vec::new(), first_problem: None };
    for (index, picture) in chosen.into_iter().zip(pictures) {
        let row = evaluation.predictions.get_mut(index);
        match (row, picture) {
            (Some(row), Some(Ok(picture))) => {
                row.thumbnail = Some(thumbnails.pictures.len());
                thumbnails.pictures.push(picture);
            }
            (Some(row), Some(Err(problem))) if thumbnails.first_problem.is_none() => {
                thumbnails.first_problem = Some(format!("{}: {problem:#}", row.path));
            }
            _ => {}
        }
    }
    Ok(thumbnails)
}

/// Indices of the photos to show in small: those with the highest loss, all wrong ones as far as there is room, and of each
/// class some right ones, from the most to the least confident.
pub fn chosen_for_thumbnails(evaluation: &Evaluation) -> Vec<usize> {
    let cells = cells(evaluation);
    let (right, wrong): (Vec<_>, Vec<_>) = cells.into_iter().partition(|cell| cell.is_right);
    let right: Vec<Vec<usize>> = right.into_iter().map(|cell| spread(&cell.rows, RIGHT_PER_CLASS)).collect();
    let right = by_turns(right);
    let wrong = by_turns(wrong.into_iter().map(|cell| cell.rows).collect());
    let for_right = right.len().min(THUMBNAILS_OF_RIGHT.max(THUMBNAILS.saturating_sub(wrong.len())));
    let first = evaluation.highest_loss.iter().copied().chain(wrong).take(THUMBNAILS - for_right);
    let mut seen = BTreeSet::new();
    let chosen: Vec<usize> = first.chain(right.iter().copied().take(for_right)).collect();
    chosen.into_iter().filter(|&index| index < evaluation.predictions.len() && seen.insert(index)).collect()
}

/// A cell of the confusion matrix with its photos, most confident first.
struct Cell {
    is_right: bool,
    rows: Vec<usize>,
}

fn cells(evaluation: &Evaluation) -> Vec<Cell> {
    let mut cells: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for (index, row) in evaluation.predictions.iter().enumerate() {
        cells.entry((row.truth, row.predicted)).or_default().push(index);
    }
    let confidence = |index: &usize| evaluation.predictions.get(*index).map_or(0.0, |row| row.probability);
    let cell = |((truth, predicted), mut rows): ((usize, usize), Vec<usize>)| {
        rows.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)).then(a.cmp(b)));
        Cell { is_right: truth == predicted, rows }
    };
    cells.into_iter().map(cell).collect()
}

/// `count` of the items at even steps, the first and the last among them.
fn spread(items: &[usize], count: usize) -> Vec<usize> {
    if items.len() <= count || count < 2 {
        return items.iter().copied().take(count).collect();
    }
    (0..count).filter_map(|step| items.get(step * (items.len() - 1) / (count - 1)).copied()).collect()
}

/// The first of each list, then the second of each, and so on.
fn by_turns(lists: Vec<Vec<usize>>) -> Vec<usize> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn).copied())).collect()
}

/// Galleries, the row through the depth, and feature maps.
fn add_maps(
    pictures: &mut Pictures,
    evaluation: &Evaluation,
    photos: &Lookup,
    description: &ModelDescription,
    network: &Network,
) -> Result<()> {
    let rows: Vec<Prediction> = evaluation.predictions.iter().map(prediction).collect();
    let sight = Sight { evaluation, photos, description, network };
    let right = sight.photos(&right_predictions(&rows, IN_GALLERY));
    let wrong = sight.photos(&wrong_predictions(&rows, IN_GALLERY));
    let explainer = Explainer::new(network, None, Options::default())?;
    pictures.method = format!("{} at {}", Method::GradCam, explainer.layer());
    pictures.right = sight.gallery(&explainer, &right)?;
    pictures.wrong = sight.gallery(&explainer, &wrong)?;
    let examples: Vec<&Shown> = [right.first(), wrong.first()].into_iter().flatten().collect();
    pictures.depth = sight.depth(&examples)?;
    pictures.features = match examples.first() {
        Some(example) => features(network, &example.seen)?,
        None => Vec::new(),
    };
    Ok(())
}

fn prediction(row: &PhotoRow) -> Prediction {
    Prediction { id: row.path.clone(), truth: row.truth, predicted: row.predicted, probability: row.probability as f32 }
}

/// A model and the photos that it looks at.
struct Sight<'a> {
    evaluation: &'a Evaluation,
    photos: &'a Lookup,
    description: &'a ModelDescription,
    network: &'a Network,
}

/// A predicted photo, read.
struct Shown<'a> {
    row: &'a Prediction,
    truth: &'a str,
    predicted: &'a str,
    /// Index of the predicted class among those of the model, which may know more than the evaluated photos have.
    class: u32,
    seen: SeenPhoto,
}

impl<'a> Sight<'a> {
    /// Those of the photos that can be read.
    fn photos(&self, rows: &[&'a Prediction]) -> Vec<Shown<'a>> {
        let read = |row: &&'a Prediction| {
            let name = |index: usize| self.evaluation.classes.get(index).map(String::as_str);
            let predicted = name(row.predicted)?;
            let class = self.description.classes.iter().position(|class| class == predicted)?;
            let photo = self.photos.find(&row.id).ok()?;
            let seen = SeenPhoto::read(&photo, self.description, self.network.device()).ok()?;
            Some(Shown { row, truth: name(row.truth)?, predicted, class: class as u32, seen })
        };
        rows.par_iter().filter_map(read).collect()
    }

    fn gallery(&self, explainer: &Explainer, shown: &[Shown]) -> Result<Vec<Explained>> {
        let overlays = overlays(explainer, &shown.iter().collect::<Vec<_>>(), GALLERY_SIDE)?;
        let explained = |(shown, overlay): (&Shown, String)| {
            Ok(Explained {
                path: shown.row.id.clone(),
                truth: shown.truth.to_owned(),
                predicted: shown.predicted.to_owned(),
                probability: f64::from(shown.row.probability),
                photo: fitted_address(&shown.seen.image, GALLERY_SIDE)?,
                overlay,
            })
        };
        shown.iter().zip(overlays).map(explained).collect()
    }

    /// A row for each photo, with its map at the end of each stage.
    fn depth(&self, shown: &[&Shown]) -> Result<Vec<DepthRow>> {
        let row = |shown: &&Shown| {
            Ok(DepthRow {
                path: shown.row.id.clone(),
                truth: shown.truth.to_owned(),
                predicted: shown.predicted.to_owned(),
                photo: fitted_address(&shown.seen.image, DEPTH_SIDE)?,
                stages: Vec::new(),
            })
        };
        let mut rows: Vec<DepthRow> = shown.iter().map(row).collect::<Result<_>>()?;
        if rows.is_empty() {
            return Ok(rows);
        }
        for (stage, layer) in self.network.graph().stages() {
            let explainer = Explainer::new(self.network, Some(layer), Options::default())?;
            let overlays = overlays(&explainer, shown, DEPTH_SIDE)?;
            for (row, overlay) in rows.iter_mut().zip(overlays) {
                row.stages.push(Stage { stage: stage.to_owned(), layer: layer.to_owned(), overlay });
            }
        }
        Ok(rows)
    }
}

/// Each photo with the map of its predicted class over it.
fn overlays(explainer: &Explainer, shown: &[&Shown], side: u32) -> Result<Vec<String>> {
    let placement = explainer.placement(Method::GradCam)?;
    let mut maps: Vec<HeatMap> = Vec::new();
    for part in shown.chunks(BATCH) {
        let inputs: Vec<&Tensor> = part.iter().map(|shown| &shown.seen.input).collect();
        let classes: Vec<u32> = part.iter().map(|shown| shown.class).collect();
        let found = explainer.maps(&[Method::GradCam], &Tensor::cat(&inputs, 0)?, &classes)?;
        maps.extend(found.into_iter().next().context("there are no maps")?);
    }
    let drawn = |(shown, map): (&&Shown, &HeatMap)| {
        let explained = ExplainedPhoto {
            photo: &shown.seen.image,
            region: shown.seen.region,
            map,
            placement: Some(placement),
            name: &shown.row.id,
            predicted: shown.predicted,
            probability: shown.row.probability,
            truth: Some(shown.truth),
            explained: shown.predicted,
            layer: explainer.layer(),
            method: "Grad-CAM",
        };
        jpeg_address(&overlay(&explained, fitted(&shown.seen.image, side), ColourMap::Jet, DEFAULT_ALPHA)?)
    };
    shown.par_iter().zip(&maps).map(drawn).collect()
}

/// The strongest channels at the end of each stage.
fn features(network: &Network, photo: &SeenPhoto) -> Result<Vec<FeatureRow>> {
    let stages = network.graph().stages();
    let layers: Vec<&str> = stages.iter().map(|&(_, layer)| layer).collect();
    let activations = network.activations(&photo.input, &layers)?;
    let row = |(stage, layer): &(&str, &str)| {
        let activation = activations.get(*layer).with_context(|| format!("layer {layer} was not computed"))?;
        let activation = FeatureMap::from_tensor(activation)?;
        let tile = |channel: &Channel| {
            Ok(FeatureTile { channel: channel.index, picture: jpeg_address(&tile_picture(&channel.map)?)? })
        };
        Ok(FeatureRow {
            stage: (*stage).to_owned(),
            layer: (*layer).to_owned(),
            shape: activation.shape(),
            channels: channels(&activation, ChannelOrder::Strongest, CHANNELS)
                .iter()
                .map(tile)
                .collect::<Result<_>>()?,
        })
    };
    stages.iter().map(row).collect()
}

/// A channel in viridis, each on its own scale; enlarged to whole cells so that none is blurred away.
fn tile_picture(map: &HeatMap) -> Result<RgbImage> {
    let (low, high) = map.range();
    let scaled = |value: f32| (value - low) / (high - low).max(f32::MIN_POSITIVE);
    let (width, height) = (u32::try_from(map.width)?, u32::try_from(map.height)?);
    let mut cells = RgbImage::new(width, height);
    for (pixel, &value) in cells.pixels_mut().zip(&map.raw) {
        *pixel = ColourMap::Viridis.colour(scaled(value));
    }
    if width >= TILE_SIDE {
        return resize(&cells, TILE_SIDE, TILE_SIDE);
    }
    let factor = TILE_SIDE.div_ceil(width.max(1));
    let nearest = image::imageops::FilterType::Nearest;
    Ok(image::imageops::resize(&cells, width * factor, height * factor, nearest))
}

/// The size at which a photo fits into a square, with its shape.
fn fitted(photo: &RgbImage, side: u32) -> (u32, u32) {
    let longest = f64::from(photo.width().max(photo.height()).max(1));
    let scaled = |length: u32| ((f64::from(length) * f64::from(side) / longest).round() as u32).max(1);
    (scaled(photo.width()), scaled(photo.height()))
}

fn fitted_address(photo: &RgbImage, side: u32) -> Result<String> {
    let (width, height) = fitted(photo, side);
    jpeg_address(&resize(photo, width, height)?)
}

/// The square in the middle of a photo.
fn square(photo: &RgbImage, side: u32) -> Result<RgbImage> {
    let shortest = photo.width().min(photo.height());
    let (x, y) = ((photo.width() - shortest) / 2, (photo.height() - shortest) / 2);
    resize(&image::imageops::crop_imm(photo, x, y, shortest, shortest).to_image(), side, side)
}

/// A picture as a `data:` address.
///
/// # Errors
/// If it cannot be encoded.
pub fn jpeg_address(picture: &RgbImage) -> Result<String> {
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg::encode(picture, JPEG_QUALITY)?)))
}
