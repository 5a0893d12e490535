//! The pictures that `ft explain` makes: a card for each photo, raw maps, and contact sheets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use serde::Serialize;

use super::cards::{Cards, Kind};
use super::chosen::{Chosen, Group};
use super::request::{ClassChoice, Look, Scale, file_stem, joined_name};
use super::sheets::write_sheets;
use super::subject::{Found, FoundMap, Subject};
use crate::cli::console::Console;
use crate::data::photo::Photo;
use crate::draw::png::write_png;
use crate::explain::Method;
use crate::explain::files::write_npy;
use crate::explain::scale::own_top;

/// What is to be shown of each photo.
pub struct Gallery {
    pub subjects: Vec<Subject>,
    pub methods: Vec<Method>,
    pub choices: Vec<ClassChoice>,
    pub look: Look,
    /// Where everything goes; the folder must exist.
    pub out: PathBuf,
}

/// A line of the command's result.
#[derive(Debug, Serialize)]
pub struct ExplainedFile {
    pub path: String,
    pub predicted: String,
    pub probability: f32,
    pub truth: Option<String>,
    pub explained: String,
    /// The card, and the raw values of its first map.
    pub picture: PathBuf,
    pub map: PathBuf,
    /// All maps of the card, in reading order.
    pub maps: Vec<MapFile>,
    /// What each model takes the photo for, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelVerdict>,
}

#[derive(Debug, Serialize)]
pub struct MapFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    pub method: &'static str,
    pub layer: String,
    pub class: String,
    /// The raw value of the last colour.
    pub top: f32,
    pub file: PathBuf,
}

#[derive(Debug, Serialize)]
pub struct ModelVerdict {
    pub run: String,
    pub predicted: String,
    pub probability: f32,
}

/// What came of it all.
pub struct Shown {
    pub photos: Vec<ExplainedFile>,
    pub sheets: Vec<PathBuf>,
}

/// A photo with its maps, on the way to its card.
pub struct Explained {
    pub id: String,
    pub truth: Option<String>,
    pub found: Found,
    /// The raw value of the last colour of each map.
    pub tops: Vec<f32>,
    photo: Photo,
    group: usize,
    stem: String,
    files: Vec<PathBuf>,
}

/// What shares a scale: model, method, layer, and the photo unless all share one.
type ScaleKey = (usize, usize, usize, Option<usize>);

impl Gallery {
    /// Explains the photos and writes maps, cards and sheets.
    ///
    /// # Errors
    /// If a photo that must be there cannot be read, none can, or a file cannot be written.
    pub fn show(&self, groups: Vec<Group>) -> Result<Shown> {
        let mut console = Console::default();
        let headings: Vec<(&'static str, String)> = groups.iter().map(|g| (g.kind, g.shown.clone())).collect();
        let mut explained = self.explain_all(groups, &mut console)?;
        let tops = self.shared_tops(&explained);
        for (index, photo) in explained.iter_mut().enumerate() {
            let top = |found: &FoundMap| match self.look.scale {
                Scale::Each => own_top(&found.map, &found.placement),
                _ => tops.get(&self.scale_key(found, index)).copied().unwrap_or(0.0),
            };
            photo.tops = photo.found.maps.iter().map(top).collect();
        }
        console.begin("draw", explained.len());
        let cards = Cards { gallery: self };
        let (mut photos, mut small) = (Vec::new(), Vec::new());
        for photo in &explained {
            let image = read(&photo.photo)?;
            let picture = self.out.join(format!("{}.png", photo.stem));
            write_png(&picture, &cards.draw(photo, &image, Kind::Single)?)?;
            small.push((photo.group, cards.draw(photo, &image, Kind::OnSheet)?));
            photos.push(self.result(photo, picture)?);
            console.progress(photos.len(), "");
        }
        console.end();
        let largest = (self.look.scale == Scale::Shared).then(|| tops.values().copied().collect::<Vec<_>>());
        let mut sheets = Vec::new();
        for (group, (kind, shown)) in headings.iter().enumerate() {
            let (of_group, others): (Vec<_>, Vec<_>) = small.into_iter().partition(|(g, _)| *g == group);
            small = others;
            let of_group: Vec<RgbImage> = of_group.into_iter().map(|(_, card)| card).collect();
            sheets.extend(write_sheets(self, kind, shown, &of_group, largest.as_deref())?);
        }
        Ok(Shown { photos, sheets })
    }

    /// The maps of all photos, batch by batch, written as they are.
    fn explain_all(&self, groups: Vec<Group>, console: &mut Console) -> Result<Vec<Explained>> {
        let batch = self.subjects.first().map_or(1, |subject| subject.options.batch_size);
        let (mut explained, mut skipped, mut stems) = (Vec::new(), Vec::new(), BTreeSet::new());
        let total = groups.iter().map(|g| g.photos.len()).sum();
        let mut seen = 0;
        console.begin("explain", total);
        for (group, Group { photos, lenient, .. }) in groups.into_iter().enumerate() {
            let mut photos = photos.into_iter().peekable();
            while photos.peek().is_some() {
                let part: Vec<Chosen> = photos.by_ref().take(batch).collect();
                seen += part.len();
                let (mut readable, mut images) = (Vec::new(), Vec::new());
                for chosen in part {
                    match read(&chosen.photo) {
                        Ok(image) => {
                            images.push(image);
                            readable.push(chosen);
                        }
                        Err(error) if lenient => skipped.push(format!("{error:#}")),
                        Err(error) => return Err(error),
                    }
                }
                for (chosen, found) in readable.iter().zip(self.explain(&readable, &images)?) {
                    let Chosen { id, photo, truth } = chosen;
                    if found.maps.is_empty() {
                        skipped.push(format!("{id}: no map, since its true class is not known to the model"));
                        continue;
                    }
                    let stem = free_stem(id, &mut stems);
                    let files = self.write_maps(&found, &stem)?;
                    let (id, truth, photo) = (id.clone(), truth.clone(), photo.clone());
                    explained.push(Explained { id, truth, found, tops: Vec::new(), photo, group, stem, files });
                }
                console.progress(seen, "");
            }
        }
        console.end();
        skipped.iter().for_each(|line| console.log(&format!("skipped {line}")));
        ensure!(total == 0 || !explained.is_empty(), "none of the {total} photos could be {}", "read and explained");
        Ok(explained)
    }

    fn explain(&self, photos: &[Chosen], images: &[RgbImage]) -> Result<Vec<Found>> {
        let mut found = vec![Found::default(); photos.len()];
        if photos.is_empty() {
            return Ok(found);
        }
        let given: Vec<_> = images.iter().zip(photos.iter().map(|p| p.truth.as_deref())).collect();
        for (number, subject) in self.subjects.iter().enumerate() {
            subject.explain(number, &given, &self.methods, &self.choices, &mut found).with_context(|| {
                let names: Vec<&str> = photos.iter().map(|p| p.id.as_str()).take(3).collect();
                format!("{}: {}", subject.title, names.join(", "))
            })?;
        }
        Ok(found)
    }

    /// `STEM.npy`, with model, class, method and layer in the name where there are several.
    fn write_maps(&self, found: &Found, stem: &str) -> Result<Vec<PathBuf>> {
        let write = |map: &FoundMap| {
            let subject = self.subject(map.model)?;
            let parts = [
                (self.subjects.len() > 1).then(|| subject.title.clone()),
                (self.choices.len() > 1).then(|| self.choices.get(map.choice).map_or("", |c| c.name()).to_owned()),
                (self.methods.len() > 1).then(|| self.method(map).name().to_owned()),
                (subject.layers.len() > 1).then(|| subject.layers.get(map.layer).cloned().unwrap_or_default()),
            ];
            let name = joined_name(parts.into_iter().flatten());
            let name = if name.is_empty() { format!("{stem}.npy") } else { format!("{stem}-{name}.npy") };
            let path = self.out.join(name);
            write_npy(&path, &map.map)?;
            Ok(path)
        };
        found.maps.iter().map(write).collect()
    }

    /// The model of that number.
    pub fn subject(&self, number: usize) -> Result<&Subject> {
        self.subjects.get(number).context("a map of a model that was not asked for")
    }

    /// A run's name without the time and the letters that make it unique, where that tells the models apart.
    pub fn short_title(&self, number: usize) -> String {
        let short = |title: &str| -> Option<String> {
            let (time, rest) = (title.get(..16)?, title.get(16..)?);
            let is_time = time.chars().all(|c| c.is_ascii_digit() || c == '-');
            let (name, _unique) = rest.rsplit_once('-')?;
            (is_time && !name.is_empty()).then(|| name.to_owned())
        };
        let title = self.subjects.get(number).map_or("", |s| s.title.as_str());
        let others = self.subjects.iter().enumerate().filter(|(i, _)| *i != number);
        match short(title) {
            Some(name) if others.clone().all(|(_, s)| short(&s.title).as_ref() != Some(&name)) => name,
            _ => title.to_owned(),
        }
    }

    /// The method of a map.
    pub fn method(&self, found: &FoundMap) -> Method {
        self.methods.get(found.method).copied().unwrap_or_default()
    }

    fn scale_key(&self, found: &FoundMap, photo: usize) -> ScaleKey {
        let photo = (self.look.scale != Scale::Shared).then_some(photo);
        (found.model, found.method, found.layer, photo)
    }

    /// The largest top of the maps that share a scale.
    fn shared_tops(&self, explained: &[Explained]) -> BTreeMap<ScaleKey, f32> {
        let mut tops = BTreeMap::new();
        for (index, photo) in explained.iter().enumerate() {
            for found in &photo.found.maps {
                let top = tops.entry(self.scale_key(found, index)).or_insert(0f32);
                *top = top.max(own_top(&found.map, &found.placement));
            }
        }
        tops
    }

    fn result(&self, photo: &Explained, picture: PathBuf) -> Result<ExplainedFile> {
        let several = self.subjects.len() > 1;
        let map_file = |((found, file), &top): ((&FoundMap, &PathBuf), &f32)| -> Result<MapFile> {
            let subject = self.subject(found.model)?;
            Ok(MapFile {
                run: several.then(|| subject.title.clone()),
                method: self.method(found).name(),
                layer: subject.layers.get(found.layer).cloned().unwrap_or_default(),
                class: subject.class_name(found.class).to_owned(),
                top,
                file: file.clone(),
            })
        };
        let maps: Vec<MapFile> =
            photo.found.maps.iter().zip(&photo.files).zip(&photo.tops).map(map_file).collect::<Result<_>>()?;
        let verdict = |(subject, verdict): (&Subject, &super::subject::Verdict)| ModelVerdict {
            run: subject.title.clone(),
            predicted: subject.class_name(verdict.predicted).to_owned(),
            probability: verdict.probability(verdict.predicted),
        };
        let models: Vec<ModelVerdict> = self.subjects.iter().zip(&photo.found.verdicts).map(verdict).collect();
        let first = models.first().context("no model was asked for")?;
        let first_map = maps.first().context("a photo without a map")?;
        Ok(ExplainedFile {
            path: photo.id.clone(),
            predicted: first.predicted.clone(),
            probability: first.probability,
            truth: photo.truth.clone(),
            explained: first_map.class.clone(),
            picture,
            map: first_map.file.clone(),
            maps,
            models: if several { models } else { Vec::new() },
        })
    }

    /// What is the same on all cards: `Grad-CAM at post_relu for the predicted class`.
    pub fn summary(&self) -> String {
        let methods = match self.methods.as_slice() {
            several if several.len() > 4 => format!("{} methods", several.len()),
            few => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let layers = match self.subjects.first().map(|s| s.layers.as_slice()) {
            Some([one]) if self.subjects.iter().all(|s| s.layers == [one.as_str()]) => format!("at {one}"),
            Some([_]) => "at the last feature map".to_owned(),
            Some([first, .., last]) if self.subjects.iter().all(|s| s.layers.first() == Some(first)) => {
                format!("from {first} to {last}")
            }
            Some([_, .., _]) => "from the first stage to the last".to_owned(),
            _ => String::new(),
        };
        let classes: Vec<String> = self.choices.iter().map(ClassChoice::title).collect();
        format!("{methods} {layers} for {}", classes.join(", "))
    }
}

/// A photo at full resolution.
pub fn read(photo: &Photo) -> Result<RgbImage> {
    let bytes = photo.bytes().with_context(|| {
        format!("cannot read {}; if the photos have moved, name their folder or archive with --data", photo.describe())
    })?;
    photo.decode_bytes(&bytes).with_context(|| photo.describe())
}

/// A file name for a photo that no other one has: `a/b_c` and `a_b/c` would share theirs.
pub fn free_stem(id: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = file_stem(id);
    let mut stem = plain.clone();
    for number in 2.. {
        if taken.insert(stem.clone()) {
            break;
        }
        stem = format!("{plain}-{number}");
    }
    stem
}

/// Where a run's explanations go: `explain/` in its folder.
pub fn folder_of(run: &Path, name: &str) -> PathBuf {
    run.join("explain").join(name)
}
