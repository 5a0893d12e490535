//! The pictures that `ft explain` makes: a card for each photo, raw maps, and contact sheets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::Tensor;
use image::RgbImage;
use serde::Serialize;

use super::console::Console;
use super::photos;
use crate::data::lookup::Lookup;
use crate::data::photo::Photo;
use crate::data::preprocess::{Region, preprocess};
use crate::draw::colour::ColourMap;
use crate::draw::png::write_png;
use crate::draw::sheet::{DEFAULT_COLUMNS, SheetHeader, contact_sheet};
use crate::error::usage;
use crate::explain::cam::{FeatureMap, HeatMap, Method, Placement};
use crate::explain::files::write_npy;
use crate::explain::overlay::{CardStyle, ExplainedPhoto, card};
use crate::explain::select::{Prediction, right_predictions, wrong_predictions};
use crate::models::{Network, Shape};
use crate::runs::{Environment, file, read_predictions};
use crate::train::checkpoint::ModelDescription;
use crate::train::fit::argmax;

/// A model and what of it to look at.
pub struct Explainer {
    pub network: Network,
    pub description: ModelDescription,
    pub layer: String,
    /// The class to explain; the predicted one if `None`.
    pub class: Option<u32>,
    pub method: Method,
}

/// What the model makes of a photo.
struct Explanation {
    map: HeatMap,
    region: Region,
    predicted: usize,
    probability: f32,
    explained: usize,
}

/// A line of the command's result.
#[derive(Debug, Serialize)]
pub struct ExplainedFile {
    pub path: String,
    pub predicted: String,
    pub probability: f32,
    pub truth: Option<String>,
    pub explained: String,
    /// The card, and the map's raw values.
    pub picture: PathBuf,
    pub map: PathBuf,
}

impl Explainer {
    /// A usage error unless the layer exists and gives a feature map.
    pub fn check_layer(&self) -> Result<()> {
        let graph = self.network.graph();
        let index = graph.find(&self.layer)?;
        match graph.layers.get(index).map(|l| l.shape) {
            Some(Shape::Map { .. }) => Ok(()),
            _ => Err(usage(format!(
                "layer {} gives no feature map, but a vector; choose one before the pooling, such as {}",
                self.layer,
                graph.last_feature_map().unwrap_or("the last convolution")
            ))),
        }
    }

    /// `gradcam-post_relu`, with the class if one was asked for.
    pub fn folder_name(&self) -> String {
        let class = self.class.and_then(|c| self.description.classes.get(c as usize));
        let parts = [Some(self.method.name()), Some(self.layer.as_str()), class.map(String::as_str)];
        let name: Vec<String> = parts.into_iter().flatten().map(file_stem).collect();
        name.join("-")
    }

    fn placement(&self) -> Result<Placement> {
        let graph = self.network.graph();
        let (rows, columns) = graph.centres(graph.find(&self.layer)?);
        Ok(Placement { rows, columns, size: self.description.image_size })
    }

    fn class_name(&self, index: usize) -> &str {
        self.description.classes.get(index).map_or("?", String::as_str)
    }

    fn explain(&self, photo: &RgbImage) -> Result<Explanation> {
        let size = self.description.image_size;
        let contract = &self.description.preprocessing;
        let mut input = vec![0f32; size * size * 3];
        preprocess(photo, size, contract, &mut input)?;
        let image = Tensor::from_vec(input, (1, size, size, 3), self.network.device())?;
        let logits = self.network.predict(&image)?.flatten_all()?.to_vec1::<f32>()?;
        let predicted = argmax(&logits);
        let explained = self.class.unwrap_or(predicted as u32);
        let found = self.network.activation_and_gradient(&image, &self.layer, &[explained])?;
        let map = self
            .method
            .heat_map(&FeatureMap::from_tensor(&found.activation)?, &FeatureMap::from_tensor(&found.gradient)?)?;
        Ok(Explanation {
            map,
            region: Region::seen(contract.fit, size, photo.dimensions())?,
            predicted,
            probability: self.description.probabilities(&logits).get(predicted).copied().unwrap_or(f32::NAN),
            explained: explained as usize,
        })
    }
}

/// Explains photos and writes what it finds.
pub struct Gallery {
    pub explainer: Explainer,
    /// Where everything goes.
    pub out: PathBuf,
    /// The run's name, for the sheets.
    pub title: String,
    pub alpha: f32,
    console: Console,
    /// Names of the files made so far, without extension.
    stems: BTreeSet<String>,
}

impl Gallery {
    /// Nothing is written yet; the folder `out` must exist.
    pub fn new(explainer: Explainer, out: PathBuf, title: String, alpha: f32) -> Self {
        Self { explainer, out, title, alpha, console: Console::default(), stems: BTreeSet::new() }
    }

    /// Right and wrong predictions among the run's test photos, `count` of each, with a contact sheet for both.
    pub fn test_photos(&mut self, run: &Path, data: Option<&Path>, count: usize) -> Result<Vec<ExplainedFile>> {
        let rows = test_predictions(run, &self.explainer.description)?;
        let photos = match data {
            Some(root) => Lookup::open(root)?,
            None => Lookup::open(&data_root(run)?)?,
        };
        let right = right_predictions(&rows, count);
        let wrong = wrong_predictions(&rows, count);
        let mut files = Vec::new();
        self.console.begin("explain", right.len() + wrong.len());
        for (kind, chosen) in [("right", right), ("wrong", wrong)] {
            let mut cards = Vec::new();
            for row in &chosen {
                let truth = Some(self.explainer.class_name(row.truth).to_owned());
                let (card, file) = self.photo(&photos.find(&row.id)?, &row.id, truth)?;
                cards.push(card);
                files.push(file);
                self.console.progress(files.len(), "");
            }
            let total = rows.iter().filter(|r| r.is_right() == (kind == "right")).count();
            self.sheet(
                kind,
                &cards,
                format!("{} of {total} {kind} predictions among {} test photos", cards.len(), rows.len()),
            )?;
        }
        self.console.end();
        Ok(files)
    }

    /// The given photos, and all photos in the given folders, on one sheet. The truth is known for a photo in a folder
    /// named after a class.
    pub fn given_photos(&mut self, paths: &[PathBuf]) -> Result<Vec<ExplainedFile>> {
        let photos = photos::find(paths)?;
        let (mut cards, mut files, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        self.console.begin("explain", photos.len());
        for path in &photos {
            let folder = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
            let truth = folder.filter(|name| self.explainer.description.classes.contains(name));
            match self.photo(&Photo::File(path.clone()), &path.to_string_lossy(), truth) {
                Ok((card, file)) => {
                    cards.push(card);
                    files.push(file);
                }
                Err(error) => broken.push(format!("{}: {error:#}", path.display())),
            }
            self.console.progress(files.len(), "");
        }
        self.console.end();
        for line in &broken {
            self.console.log(&format!("skipped {line}"));
        }
        ensure!(!files.is_empty(), "none of the {} photos could be read", photos.len());
        self.sheet("photos", &cards, format!("{} photos", cards.len()))?;
        Ok(files)
    }

    /// Explains one photo: writes its card and raw map, returns a small card for the sheet.
    fn photo(&mut self, photo: &Photo, id: &str, truth: Option<String>) -> Result<(RgbImage, ExplainedFile)> {
        let stem = self.free_stem(id);
        let explainer = &self.explainer;
        let bytes = photo.bytes().with_context(|| {
            format!(
                "cannot read {}; if the photos have moved, name their folder or archive with --data",
                photo.describe()
            )
        })?;
        let image = photo.decode_bytes(&bytes).with_context(|| photo.describe())?;
        let found = explainer.explain(&image).with_context(|| photo.describe())?;
        let method = explainer.method.to_string();
        let explained = ExplainedPhoto {
            photo: &image,
            region: found.region,
            map: &found.map,
            placement: Some(explainer.placement()?),
            name: id,
            predicted: explainer.class_name(found.predicted),
            probability: found.probability,
            truth: truth.as_deref(),
            explained: explainer.class_name(found.explained),
            layer: &explainer.layer,
            method: &method,
        };
        let (picture, map) = (self.out.join(format!("{stem}.png")), self.out.join(format!("{stem}.npy")));
        write_png(&picture, &card(&explained, &CardStyle { alpha: self.alpha, ..CardStyle::SINGLE })?)?;
        write_npy(&map, &found.map)?;
        let small = card(&explained, &CardStyle { alpha: self.alpha, ..CardStyle::ON_SHEET })?;
        let file = ExplainedFile {
            path: id.to_owned(),
            predicted: explained.predicted.to_owned(),
            probability: found.probability,
            truth: truth.clone(),
            explained: explained.explained.to_owned(),
            picture,
            map,
        };
        Ok((small, file))
    }

    /// A file name for a photo that no other one has: `a/b_c` and `a_b/c` would share theirs.
    fn free_stem(&mut self, id: &str) -> String {
        let plain = file_stem(id);
        let mut stem = plain.clone();
        for number in 2.. {
            if self.stems.insert(stem.clone()) {
                break;
            }
            stem = format!("{plain}-{number}");
        }
        stem
    }

    fn sheet(&self, kind: &str, cards: &[RgbImage], shown: String) -> Result<()> {
        let explainer = &self.explainer;
        let class = match explainer.class {
            Some(class) => format!("for the class {}", explainer.class_name(class as usize)),
            None => "for the predicted class".to_owned(),
        };
        let header = SheetHeader {
            title: format!("{}: {kind}", self.title),
            lines: vec![
                format!("{} · {shown}", explainer.description.dataset),
                format!("{} at {} {class}", explainer.method, explainer.layer),
            ],
            empty: format!("nothing to show: {shown}"),
            colours: Some(ColourMap::Jet),
        };
        write_png(&self.out.join(format!("sheet-{kind}.png")), &contact_sheet(&header, cards, DEFAULT_COLUMNS)?)
    }
}

/// A name for files made from an id or a layer: no separators, nothing a shell or file system minds.
fn file_stem(id: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+') { c } else { '_' };
    id.trim_start_matches(['/', '.']).chars().map(safe).collect()
}

fn test_predictions(run: &Path, description: &ModelDescription) -> Result<Vec<Prediction>> {
    let path = run.join(file::PREDICTIONS);
    ensure!(
        path.is_file(),
        "{} has no predictions (the run did not reach its evaluation); name photos with --images PATH",
        run.display()
    );
    let classes: BTreeMap<&str, usize> =
        description.classes.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let index = |name: &str| {
        classes.get(name).copied().ok_or_else(|| anyhow!("{}: the model knows no class {name:?}", path.display()))
    };
    let rows = read_predictions(&path)?.into_iter().filter(|row| row.split == "test");
    let rows: Vec<Prediction> = rows
        .map(|row| {
            let (truth, predicted) = (index(&row.truth)?, index(&row.predicted)?);
            Ok(Prediction { id: row.path, truth, predicted, probability: row.probability })
        })
        .collect::<Result<_>>()?;
    if rows.is_empty() {
        bail!("{} has no test photos; name photos with --images PATH", path.display());
    }
    Ok(rows)
}

/// The folder, archive or table that the run's photos were read from.
fn data_root(run: &Path) -> Result<PathBuf> {
    let path = run.join(file::ENVIRONMENT);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let environment: Environment =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let root =
        environment.data_root.context("the run does not say where its photos lie; name the folder with --data")?;
    let root = PathBuf::from(root);
    ensure!(
        root.exists(),
        "the run's photos are no longer in {}; name their folder or archive with --data",
        root.display()
    );
    Ok(root)
}
