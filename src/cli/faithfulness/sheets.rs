//! A sheet for each of the first photos: all maps, each with what was measured of it.

use std::path::Path;

use anyhow::Result;

use super::{Judged, Request, class_name};
use crate::cli::explain::file_stem;
use crate::draw::png::write_png;
use crate::draw::sheet::{SheetHeader, contact_sheet};
use crate::explain::faithfulness::card::{HeatStyle, method_tile, photo_tile};
use crate::explain::faithfulness::{Candidate, Masks, Ranking};
use crate::explain::overlay::{ExplainedPhoto, percent};
use crate::explain::photos::SeenPhoto;
use crate::explain::{Explainer, Method};

/// Tiles in a row of a photo's sheet.
const TILES: usize = 4;

/// What all sheets share. They are drawn when everything has been judged, since marks are of all photos together.
pub(super) struct Sheets<'a> {
    pub request: &'a Request<'a>,
    pub explainer: &'a Explainer<'a>,
    pub methods: &'a [Method],
    pub masks: Option<&'a Masks>,
    pub ranking: &'a Ranking,
}

impl Sheets<'_> {
    /// Writes `NN-PHOTO.png`.
    ///
    /// # Errors
    /// If the photo is gone, or the file cannot be written.
    pub fn write(&self, out: &Path, number: usize, judged: &Judged) -> Result<()> {
        let Request { model, colours, alpha, .. } = *self.request;
        let (description, chosen, finding) = (&model.description, judged.chosen, &judged.finding);
        let photo = SeenPhoto::read(&chosen.photo, description, model.network.device())?;
        let object = match self.masks {
            Some(masks) if judged.area.is_some() => {
                masks.object(&chosen.id, photo.image.dimensions(), &photo.region, description.image_size)?
            }
            _ => None,
        };
        let style = HeatStyle { colours, alpha };
        let (predicted, explained) =
            (class_name(self.request, finding.predicted), class_name(self.request, finding.explained));
        let mut tiles = Vec::new();
        for ((&method, map), score) in self.methods.iter().zip(&finding.maps).zip(&finding.scores) {
            let name = method.to_string();
            let of_method = ExplainedPhoto {
                photo: &photo.image,
                region: photo.region,
                map,
                placement: Some(self.explainer.placement(method)?),
                name: &chosen.id,
                predicted,
                probability: finding.probability,
                truth: chosen.truth.as_deref(),
                explained,
                layer: self.explainer.layer(),
                method: &name,
            };
            if tiles.is_empty() {
                tiles.push(photo_tile(&of_method, object.as_ref())?);
            }
            tiles.push(method_tile(&of_method, score, &style, self.is_marked(method))?);
        }
        let truth = chosen.truth.as_ref().map(|truth| format!(" · truth: {truth}")).unwrap_or_default();
        let header = SheetHeader {
            title: format!("{predicted} {}{truth}", percent(finding.probability)),
            lines: vec![chosen.id.clone(), format!("maps at {} for {explained}", self.explainer.layer())],
            empty: String::new(),
            colours: Some(style.colours),
        };
        let stem = file_stem(&Path::new(&chosen.id).with_extension("").to_string_lossy());
        write_png(&out.join(format!("{number:02}-{stem}.png")), &contact_sheet(&header, &tiles, TILES)?)
    }

    fn is_marked(&self, method: Method) -> bool {
        let mut standings = self.ranking.standings.iter();
        standings.any(|s| s.candidate == Candidate::Method(method) && !s.marks.is_empty())
    }
}
