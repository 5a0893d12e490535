//! One photo's card: photo and map side by side, or a panel of many maps.

use anyhow::{Context, Result};
use image::RgbImage;

use super::gallery::{Explained, Gallery};
use super::request::{ClassChoice, Layout, Scale};
use super::subject::{FoundMap, Verdict};
use crate::draw::canvas::resize;
use crate::explain::caption::Caption;
use crate::explain::overlay::{CardStyle, ExplainedPhoto, card, map_tile, percent};
use crate::explain::panel::{PanelStyle, Tile, panel, wrapped};
use crate::explain::scale::is_pixel_map;

/// Most tiles side by side.
const MOST_COLUMNS: usize = 8;

/// Where a card is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In a file of its own, at the photo's resolution where that fits a screen.
    Single,
    /// On a contact sheet.
    OnSheet,
}

/// What makes the rows of a card.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowsBy {
    Nothing,
    Model,
    Class,
}

pub struct Cards<'a> {
    pub gallery: &'a Gallery,
}

impl Cards<'_> {
    /// Draws the card of a photo.
    pub fn draw(&self, photo: &Explained, image: &RgbImage, kind: Kind) -> Result<RgbImage> {
        match photo.found.maps.as_slice() {
            [only] if self.is_plain() => self.plain(photo, image, only, kind),
            _ => self.panel(photo, image, kind),
        }
    }

    /// One map for each photo.
    fn is_plain(&self) -> bool {
        let gallery = self.gallery;
        gallery.subjects.len() * gallery.methods.len() * gallery.choices.len() == 1 && self.layer_count() == 1
    }

    fn layer_count(&self) -> usize {
        self.gallery.subjects.iter().map(|s| s.layers.len()).max().unwrap_or(1)
    }

    /// The raw value of the last colour, where it is not simply the map's largest.
    fn top(&self, found: &FoundMap, top: f32) -> Option<f32> {
        (self.gallery.look.scale != Scale::Each || is_pixel_map(&found.map, &found.placement)).then_some(top)
    }

    fn explained<'a>(
        &'a self,
        photo: &'a Explained,
        image: &'a RgbImage,
        found: &'a FoundMap,
        method: &'a str,
    ) -> Result<ExplainedPhoto<'a>> {
        let subject = self.gallery.subject(found.model)?;
        let verdict = photo.found.verdicts.get(found.model).context("a model without a prediction")?;
        Ok(ExplainedPhoto {
            photo: image,
            region: verdict.region,
            map: &found.map,
            placement: Some(found.placement),
            name: &photo.id,
            predicted: subject.class_name(verdict.predicted),
            probability: verdict.probability(verdict.predicted),
            truth: photo.truth.as_deref(),
            explained: subject.class_name(found.class),
            layer: subject.layers.get(found.layer).map_or("?", String::as_str),
            method,
        })
    }

    fn plain(&self, photo: &Explained, image: &RgbImage, found: &FoundMap, kind: Kind) -> Result<RgbImage> {
        let look = &self.gallery.look;
        let style = match kind {
            Kind::Single => {
                CardStyle::single_for(image.dimensions(), if look.full_size { u32::MAX } else { CardStyle::SCREEN })
            }
            Kind::OnSheet if look.layout == Layout::Overlay => {
                CardStyle { photo_box: (400, 320), ..CardStyle::ON_SHEET }
            }
            Kind::OnSheet => CardStyle::ON_SHEET,
        };
        let top = photo.tops.first().and_then(|&top| self.top(found, top));
        let overlay_only = look.layout == Layout::Overlay;
        let style = CardStyle { alpha: look.alpha, colours: look.colours, overlay_only, top, ..style };
        let method = self.gallery.method(found).to_string();
        card(&self.explained(photo, image, found, &method)?, &style)
    }

    fn panel(&self, photo: &Explained, image: &RgbImage, kind: Kind) -> Result<RgbImage> {
        let gallery = self.gallery;
        let rows_by = self.rows_by();
        let style = self.panel_style(image.dimensions(), kind);
        let mut rows = Vec::new();
        for maps in self.row_maps(photo, rows_by) {
            let mut tiles = Vec::new();
            if gallery.look.layout == Layout::SideBySide {
                let (width, height) = fitted(image.dimensions(), style.tile);
                tiles.push(Tile::new(resize(image, width, height)?, "photo"));
            }
            for &(found, top) in &maps {
                tiles.push(self.tile(photo, image, (found, top), rows_by, &style, kind)?);
            }
            let mut lines = wrapped(tiles, MOST_COLUMNS);
            if let (Some(line), Some((found, _))) = (lines.first_mut(), maps.first()) {
                (line.label, line.verdict) = self.row_label(photo, found, rows_by)?;
            }
            rows.append(&mut lines);
        }
        let first = photo.found.verdicts.first().context("no model was asked for")?;
        let predicted = gallery.subject(0)?.class_name(first.predicted);
        let prediction = (gallery.subjects.len() == 1).then(|| (predicted, first.probability(first.predicted)));
        let caption = Caption { name: &photo.id, prediction, truth: photo.truth.as_deref() };
        let details = (kind == Kind::Single).then(|| gallery.summary());
        panel(&rows, &caption, details.as_deref(), &style)
    }

    fn rows_by(&self) -> RowsBy {
        let gallery = self.gallery;
        let (models, classes) = (gallery.subjects.len(), gallery.choices.len());
        let others = gallery.methods.len() * self.layer_count();
        match () {
            () if models > 1 && classes * others > 1 => RowsBy::Model,
            () if classes > 1 && others > 1 => RowsBy::Class,
            () => RowsBy::Nothing,
        }
    }

    /// The maps of each row, with their tops.
    fn row_maps<'a>(&self, photo: &'a Explained, rows_by: RowsBy) -> Vec<Vec<(&'a FoundMap, f32)>> {
        let key = |found: &FoundMap| match rows_by {
            RowsBy::Nothing => 0,
            RowsBy::Model => found.model,
            RowsBy::Class => found.choice,
        };
        let maps: Vec<_> = photo.found.maps.iter().zip(photo.tops.iter().copied()).collect();
        maps.chunk_by(|a, b| key(a.0) == key(b.0)).map(<[_]>::to_vec).collect()
    }

    fn row_label(&self, photo: &Explained, found: &FoundMap, rows_by: RowsBy) -> Result<(String, Option<bool>)> {
        let subject = self.gallery.subject(found.model)?;
        let verdict = photo.found.verdicts.get(found.model).context("a model without a prediction")?;
        Ok(match rows_by {
            RowsBy::Nothing => (String::new(), None),
            RowsBy::Model => {
                let predicted = subject.class_name(verdict.predicted);
                let chance = percent(verdict.probability(verdict.predicted));
                let is_right = photo.truth.as_deref().map(|truth| truth == predicted);
                (format!("{predicted} {chance} · {}", self.gallery.short_title(found.model)), is_right)
            }
            RowsBy::Class => (format!("for {}", self.class_text(found, verdict)?), None),
        })
    }

    /// `roses (predicted, 93.4 %)`.
    fn class_text(&self, found: &FoundMap, verdict: &Verdict) -> Result<String> {
        let class = self.gallery.subject(found.model)?.class_name(found.class);
        Ok(format!("{class} ({})", self.class_note(found, verdict)))
    }

    /// `predicted, 93.4 %`.
    fn class_note(&self, found: &FoundMap, verdict: &Verdict) -> String {
        let chance = percent(verdict.probability(found.class));
        match self.gallery.choices.get(found.choice) {
            Some(ClassChoice::Named(_)) | None => chance,
            Some(word) => format!("{} {chance}", word.name()),
        }
    }

    fn tile(
        &self,
        photo: &Explained,
        image: &RgbImage,
        (found, top): (&FoundMap, f32),
        rows_by: RowsBy,
        style: &PanelStyle,
        kind: Kind,
    ) -> Result<Tile> {
        let gallery = self.gallery;
        let subject = gallery.subject(found.model)?;
        let verdict = photo.found.verdicts.get(found.model).context("a model without a prediction")?;
        let method = gallery.method(found).to_string();
        let explained = self.explained(photo, image, found, &method)?;
        let size = fitted(image.dimensions(), style.tile);
        let tops = self.top(found, top);
        let picture = map_tile(&explained, size, gallery.look.colours, gallery.look.alpha, tops, style.text)?;

        let several_classes = gallery.choices.len() > 1 && rows_by != RowsBy::Class;
        let several_models = gallery.subjects.len() > 1 && rows_by != RowsBy::Model;
        let parts = [
            several_models.then(|| gallery.short_title(found.model)),
            several_classes.then(|| subject.class_name(found.class).to_owned()),
            (gallery.methods.len() > 1).then(|| method.clone()),
            (subject.layers.len() > 1).then(|| explained.layer.to_owned()),
        ];
        let heading = parts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
        let note = if several_models {
            Some(format!("{} {}", explained.predicted, percent(explained.probability)))
        } else if several_classes {
            Some(self.class_note(found, verdict))
        } else {
            (subject.layers.len() > 1).then(|| format!("{} × {}", found.map.height, found.map.width))
        };
        let shows_bar = kind == Kind::Single || gallery.look.scale != Scale::Each;
        let low = if tops.is_some() { 0.0 } else { found.map.range().0.max(0.0) };
        Ok(Tile {
            picture,
            heading,
            note,
            bar: (shows_bar && top > 0.0).then_some((low, top)),
            verdict: several_models.then(|| photo.truth.as_deref().map(|t| t == explained.predicted)).flatten(),
        })
    }

    /// Tiles as large as their number allows.
    fn panel_style(&self, photo: (u32, u32), kind: Kind) -> PanelStyle {
        let gallery = self.gallery;
        let of_row = match self.rows_by() {
            RowsBy::Nothing => gallery.subjects.len(),
            RowsBy::Model | RowsBy::Class => 1,
        };
        let classes = if self.rows_by() == RowsBy::Class { 1 } else { gallery.choices.len() };
        let tiles = 1 + of_row * classes * gallery.methods.len() * self.layer_count();
        let side = match kind {
            Kind::Single if gallery.look.full_size => photo.0.max(photo.1).max(256),
            Kind::Single => photo.0.max(photo.1).clamp(256, if tiles <= 4 { 640 } else { 384 }),
            Kind::OnSheet if tiles <= 3 || gallery.look.layout == Layout::Overlay => 224,
            Kind::OnSheet => 160,
        };
        let (width, height) = match kind {
            Kind::Single => fitted(photo, (side, side)),
            Kind::OnSheet => (side, side * 13 / 16),
        };
        let text =
            if kind == Kind::Single { (side as f32 / 22.0).clamp(13.0, (side as f32 / 40.0).max(19.0)) } else { 12.5 };
        // A narrow photo still leaves its headings room.
        PanelStyle { tile: (width.max((side / 2).min(200)), height), text, colours: gallery.look.colours }
    }
}

/// The size at which a photo fills a box.
pub fn fitted(photo: (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let scale = |room: u32, photo: u32| f64::from(room) / f64::from(photo.max(1));
    let scale = scale(room.0, photo.0).min(scale(room.1, photo.1));
    let scaled = |length: u32, room: u32| (f64::from(length) * scale).round().clamp(1.0, f64::from(room)) as u32;
    (scaled(photo.0, room.0), scaled(photo.1, room.1))
}
