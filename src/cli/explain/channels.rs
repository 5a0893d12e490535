//! `ft explain --features`: what the channels of a layer, or of every stage, make of a photo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::RgbImage;
use serde_json::{Value, json};

use super::cards::fitted;
use super::chosen::{Chosen, Group};
use super::gallery::{folder_of, free_stem, read};
use super::request::{Scale, joined_name};
use crate::cli::board;
use crate::cli::console::Console;
use crate::cli::model::OpenModel;
use crate::draw::canvas::resize;
use crate::draw::colour::ColourMap;
use crate::draw::png::write_png;
use crate::draw::sheet::{SheetHeader, labelled_sheet};
use crate::error::{say, usage};
use crate::explain::caption::Caption;
use crate::explain::features::{Channel, ChannelOrder, channel_tile, channels};
use crate::explain::files::write_npy_stack;
use crate::explain::panel::{Lead, PanelStyle, Row, Tile, panel_beside};
use crate::explain::photos::SeenPhoto;
use crate::explain::{Explainer, FeatureMap, Options};
use crate::train::checkpoint::Decision;

/// What is to be shown.
pub struct ChannelRequest<'a> {
    /// A layer, or `stages`.
    pub wanted: &'a str,
    pub channels: Option<usize>,
    pub order: ChannelOrder,
    pub colours: ColourMap,
    pub scale: Scale,
}

/// The chosen channels of a layer for one photo.
struct LayerChannels {
    layer: String,
    /// `[height, width, channels]` of the whole layer.
    shape: [usize; 3],
    channels: Vec<Channel>,
}

/// A photo with the channels of all layers.
struct Photo {
    id: String,
    truth: Option<String>,
    predicted: usize,
    probability: f32,
    image: RgbImage,
    stem: String,
    layers: Vec<LayerChannels>,
    files: Vec<PathBuf>,
}

impl ChannelRequest<'_> {
    /// Writes a card for each photo, the channels' raw values, and a sheet.
    ///
    /// # Errors
    /// A usage error if there is no such layer or it gives no feature map; any other for what fails.
    pub fn show(&self, model: &OpenModel, groups: Vec<Group>, out: Option<&Path>) -> Result<(Value, String)> {
        let layers = self.layers(model)?;
        let out = out.map_or_else(|| self.folder(model), Path::to_owned);
        fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
        let shown: Vec<String> = groups.iter().map(|group| group.shown.clone()).collect();
        let photos = self.read_all(model, groups, &layers, &out)?;
        let ranges = self.shared_ranges(&photos, layers.len());
        let (mut cards, mut results) = (Vec::new(), Vec::new());
        for photo in &photos {
            let card = self.card(model, photo, ranges.as_deref())?;
            let picture = out.join(format!("{}.png", photo.stem));
            write_png(&picture, &card)?;
            cards.push(card);
            results.push(self.result(model, photo, picture));
        }
        let sheet = out.join("sheet-features.png");
        write_png(&sheet, &self.sheet(model, &shown, &cards)?)?;
        board::add_sheets(model, &out, std::slice::from_ref(&sheet));
        say(&format!("channels of {} of {} photos: {}", layers.join(", "), photos.len(), out.display()));
        let result = json!({
            "run": model.run_name(),
            "layers": layers,
            "out": out,
            "sheets": [sheet],
            "photos": results,
        });
        Ok((result, format!("{}\n", out.display())))
    }

    fn layers(&self, model: &OpenModel) -> Result<Vec<String>> {
        let graph = model.network.graph();
        // A layer of that name comes first.
        if self.wanted == "stages" && graph.index_of("stages").is_none() {
            let layers: Vec<String> = graph.stages().into_iter().map(|(_, layer)| layer.to_owned()).collect();
            return match layers.is_empty() {
                true => Err(usage("this network has no stages; name a layer: --features LAYER")),
                false => Ok(layers),
            };
        }
        let explainer = Explainer::new(&model.network, Some(self.wanted), Options::default())?;
        Ok(vec![explainer.layer().to_owned()])
    }

    fn count(&self, layers: usize) -> usize {
        self.channels.unwrap_or(if layers > 1 { 8 } else { 16 })
    }

    fn folder(&self, model: &OpenModel) -> PathBuf {
        let checkpoint = (!model.is_best()).then(|| model.checkpoint.file_stem()).flatten();
        let mut parts = Vec::from_iter(checkpoint.map(|stem| stem.to_string_lossy().into_owned()));
        parts.extend(["features".to_owned(), self.wanted.to_owned()]);
        parts.extend(self.channels.map(|n| format!("{n}-channels")));
        parts.extend((self.order == ChannelOrder::First).then(|| "first".to_owned()));
        parts.extend((self.colours != ColourMap::Viridis).then(|| self.colours.name().to_owned()));
        parts.extend((self.scale != Scale::Photo).then(|| format!("scale-{}", self.scale.name())));
        folder_of(&model.folder, &joined_name(parts))
    }

    fn read_all(&self, model: &OpenModel, groups: Vec<Group>, layers: &[String], out: &Path) -> Result<Vec<Photo>> {
        let mut console = Console::default();
        let (mut photos, mut stems) = (Vec::new(), BTreeSet::new());
        let total = groups.iter().map(|group| group.photos.len()).sum();
        console.begin("features", total);
        for Group { photos: chosen, lenient, .. } in groups {
            for chosen in chosen {
                match read(&chosen.photo) {
                    Ok(image) => photos.push(self.photo(model, chosen, image, layers, out, &mut stems)?),
                    Err(error) if lenient => console.log(&format!("skipped {error:#}")),
                    Err(error) => return Err(error),
                }
                console.progress(photos.len(), "");
            }
        }
        console.end();
        anyhow::ensure!(total == 0 || !photos.is_empty(), "none of the {total} photos could be read");
        Ok(photos)
    }

    fn photo(
        &self,
        model: &OpenModel,
        chosen: Chosen,
        image: RgbImage,
        layers: &[String],
        out: &Path,
        stems: &mut BTreeSet<String>,
    ) -> Result<Photo> {
        let seen = SeenPhoto::of_image(image, &model.description, model.network.device())
            .with_context(|| chosen.photo.describe())?;
        let logits = model.network.predict(&seen.input)?.flatten_all()?.to_vec1::<f32>()?;
        let decision = model.description.decide(&logits).with_context(|| chosen.photo.describe())?;
        let Decision { class: predicted, probability, .. } = decision;
        let names: Vec<&str> = layers.iter().map(String::as_str).collect();
        let activations = model.network.activations(&seen.input, &names)?;
        let stem = free_stem(&chosen.id, stems);
        let (mut found, mut files) = (Vec::new(), Vec::new());
        for layer in layers {
            let activation = activations.get(layer).with_context(|| format!("layer {layer} was not computed"))?;
            let activation = FeatureMap::from_tensor(activation).with_context(|| format!("{}: {layer}", chosen.id))?;
            let channels = channels(&activation, self.order, self.count(layers.len()));
            let name = match layers.len() {
                1 => format!("{stem}.npy"),
                _ => format!("{stem}-{}.npy", joined_name([layer.clone()])),
            };
            let file = out.join(name);
            write_npy_stack(&file, &channels.iter().map(|c| &c.map).collect::<Vec<_>>())?;
            files.push(file);
            found.push(LayerChannels { layer: layer.clone(), shape: activation.shape(), channels });
        }
        let Chosen { id, truth, .. } = chosen;
        Ok(Photo { id, truth, predicted, probability, image: seen.image, stem, layers: found, files })
    }

    /// One range for each layer, where all photos share it.
    fn shared_ranges(&self, photos: &[Photo], layers: usize) -> Option<Vec<(f32, f32)>> {
        let of_layer = |layer: usize| {
            let of_photos = photos.iter().filter_map(|photo| photo.layers.get(layer));
            range(of_photos.flat_map(|l| &l.channels))
        };
        (self.scale == Scale::Shared).then(|| (0..layers).map(of_layer).collect())
    }

    fn card(&self, model: &OpenModel, photo: &Photo, shared: Option<&[(f32, f32)]>) -> Result<RgbImage> {
        let several = photo.layers.len() > 1;
        let side = if several { 112 } else { 128 };
        let style = PanelStyle { tile: (side, side), text: 14.0, colours: self.colours };
        let mut rows = Vec::new();
        for (index, layer) in photo.layers.iter().enumerate() {
            let of_layer = match shared {
                Some(ranges) => ranges.get(index).copied().unwrap_or_default(),
                None => range(&layer.channels),
            };
            let tile = |channel: &Channel| {
                let own = (self.scale == Scale::Each).then(|| range([channel]));
                let picture = channel_tile(&channel.map, side, own.unwrap_or(of_layer), self.colours);
                Tile { bar: own, ..Tile::new(picture, channel.index.to_string()) }
            };
            let [height, width, count] = layer.shape;
            let label = format!("{} · {height} × {width} × {count}", layer.layer);
            let per_row = if several { layer.channels.len().min(16) } else { grid_columns(layer.channels.len()) };
            for (line, part) in layer.channels.chunks(per_row.max(1)).enumerate() {
                let tiles = part.iter().map(tile).collect();
                let first = line == 0;
                rows.push(Row {
                    label: if first { label.clone() } else { String::new() },
                    bar: (first && self.scale != Scale::Each).then_some(of_layer),
                    tiles,
                    ..Row::default()
                });
            }
        }
        let (width, height) = fitted(photo.image.dimensions(), (384, 384));
        let picture = resize(&photo.image, width, height)?;
        let caption = Caption {
            name: &photo.id,
            prediction: Some((model.class_name(photo.predicted), photo.probability)),
            truth: photo.truth.as_deref(),
        };
        panel_beside(&Lead { picture: &picture, width: 384 }, &rows, &caption, &style)
    }

    fn sheet(&self, model: &OpenModel, shown: &[String], cards: &[RgbImage]) -> Result<RgbImage> {
        let order = match self.order {
            ChannelOrder::Strongest => "the strongest channels, by mean absolute activation",
            ChannelOrder::First => "the first channels",
        };
        let what = if self.wanted == "stages" { "every stage" } else { self.wanted };
        let header = SheetHeader {
            title: format!("Channels of {what}"),
            lines: vec![
                format!("{} · {} · {}", model.run_name(), model.description.dataset, shown.join(" · ")),
                format!("{order}; the number below each is its index in the layer"),
            ],
            empty: format!("nothing to show: {}", shown.join(" · ")),
            colours: Some(self.colours),
        };
        let ends = match self.scale {
            Scale::Each => ("lowest", "highest of the channel"),
            Scale::Photo => ("lowest", "highest of the layer"),
            Scale::Shared => ("lowest", "highest of all photos"),
        };
        labelled_sheet(&header, ends, cards, 1)
    }

    fn result(&self, model: &OpenModel, photo: &Photo, picture: PathBuf) -> Value {
        let layer = |(layer, file): (&LayerChannels, &PathBuf)| {
            json!({
                "layer": layer.layer,
                "shape": layer.shape,
                "channels": layer.channels.iter().map(|c| c.index).collect::<Vec<_>>(),
                "strengths": layer.channels.iter().map(|c| c.strength).collect::<Vec<_>>(),
                "file": file,
            })
        };
        json!({
            "path": photo.id,
            "predicted": model.class_name(photo.predicted),
            "probability": photo.probability,
            "truth": photo.truth,
            "picture": picture,
            "features": photo.layers.iter().zip(&photo.files).map(layer).collect::<Vec<_>>(),
        })
    }
}

/// Columns of a grid that is a little wider than high.
fn grid_columns(count: usize) -> usize {
    (1..=count).find(|columns| columns * columns >= count).unwrap_or(1).max(4.min(count))
}

/// From the lowest value, or 0 where none is negative, to the highest.
fn range<'a>(channels: impl IntoIterator<Item = &'a Channel>) -> (f32, f32) {
    let ranges = channels.into_iter().map(|channel| channel.map.range());
    ranges.fold((0.0, 0.0), |(low, high): (f32, f32), (a, b)| (low.min(a), high.max(b)))
}
