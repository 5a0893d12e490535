//! The pictures that `ft explain` makes: a card for each photo, raw maps, and contact sheets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use serde::Serialize;

use super::console::Console;
use super::photos;
use crate::data::photo::Photo;
use crate::draw::colour::ColourMap;
use crate::draw::png::write_png;
use crate::draw::sheet::{DEFAULT_COLUMNS, SheetHeader, contact_sheet};
use crate::explain::files::write_npy;
use crate::explain::overlay::{CardStyle, ExplainedPhoto, card};
use crate::explain::photos::{RunPhotos, SeenPhoto};
use crate::explain::{Explainer, HeatMap, Method, Options, Placement};
use crate::models::Network;
use crate::train::checkpoint::ModelDescription;
use crate::train::fit::argmax;

/// A model and what of it to look at.
pub struct Subject {
    pub network: Network,
    pub description: ModelDescription,
    /// The layer to look at.
    pub layer: String,
    /// The class to explain; the predicted one if `None`.
    pub class: Option<u32>,
    pub method: Method,
}

/// What the model makes of a photo.
struct Explanation {
    map: HeatMap,
    placement: Placement,
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

impl Subject {
    /// `gradcam-post_relu`, with the class if one was asked for.
    pub fn folder_name(&self) -> String {
        let class = self.class.and_then(|c| self.description.classes.get(c as usize));
        let parts = [Some(self.method.name()), Some(self.layer.as_str()), class.map(String::as_str)];
        let name: Vec<String> = parts.into_iter().flatten().map(file_stem).collect();
        name.join("-")
    }

    fn class_name(&self, index: usize) -> &str {
        self.description.classes.get(index).map_or("?", String::as_str)
    }

    fn explain(&self, photo: &SeenPhoto) -> Result<Explanation> {
        let logits = self.network.predict(&photo.input)?.flatten_all()?.to_vec1::<f32>()?;
        let predicted = argmax(&logits);
        let explained = self.class.unwrap_or(predicted as u32);
        let explainer = Explainer::new(&self.network, Some(&self.layer), Options::default())?;
        let maps = explainer.maps(&[self.method], &photo.input, &[explained])?;
        Ok(Explanation {
            map: maps.into_iter().flatten().next().context("there is no map")?,
            placement: explainer.placement(self.method)?,
            predicted,
            probability: self.description.probabilities(&logits).get(predicted).copied().unwrap_or(f32::NAN),
            explained: explained as usize,
        })
    }
}

/// Explains photos and writes what it finds.
pub struct Gallery {
    pub subject: Subject,
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
    pub fn new(subject: Subject, out: PathBuf, title: String, alpha: f32) -> Self {
        Self { subject, out, title, alpha, console: Console::default(), stems: BTreeSet::new() }
    }

    /// Right and wrong predictions among the run's test photos, `count` of each, with a contact sheet for both.
    pub fn test_photos(&mut self, run: &Path, data: Option<&Path>, count: usize) -> Result<Vec<ExplainedFile>> {
        let photos = RunPhotos::open(run, &self.subject.description, data)?;
        let (rows, right, wrong) = (&photos.rows, photos.right(count), photos.wrong(count));
        let mut files = Vec::new();
        self.console.begin("explain", right.len() + wrong.len());
        for (kind, chosen) in [("right", right), ("wrong", wrong)] {
            let mut cards = Vec::new();
            for row in &chosen {
                let truth = Some(self.subject.class_name(row.truth).to_owned());
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
            let truth = folder.filter(|name| self.subject.description.classes.contains(name));
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
        let subject = &self.subject;
        let seen = SeenPhoto::read(photo, &subject.description, subject.network.device())?;
        let found = subject.explain(&seen).with_context(|| photo.describe())?;
        let method = subject.method.to_string();
        let explained = ExplainedPhoto {
            photo: &seen.image,
            region: seen.region,
            map: &found.map,
            placement: Some(found.placement),
            name: id,
            predicted: subject.class_name(found.predicted),
            probability: found.probability,
            truth: truth.as_deref(),
            explained: subject.class_name(found.explained),
            layer: &subject.layer,
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
        let subject = &self.subject;
        let class = match subject.class {
            Some(class) => format!("for the class {}", subject.class_name(class as usize)),
            None => "for the predicted class".to_owned(),
        };
        let header = SheetHeader {
            title: format!("{}: {kind}", self.title),
            lines: vec![
                format!("{} · {shown}", subject.description.dataset),
                format!("{} at {} {class}", subject.method, subject.layer),
            ],
            empty: format!("nothing to show: {shown}"),
            colours: Some(ColourMap::Jet),
        };
        write_png(&self.out.join(format!("sheet-{kind}.png")), &contact_sheet(&header, cards, DEFAULT_COLUMNS)?)
    }
}

/// A name for files made from an id or a layer: no separators, nothing a shell or file system minds.
pub(super) fn file_stem(id: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+') { c } else { '_' };
    id.trim_start_matches(['/', '.']).chars().map(safe).collect()
}
