//! One look at every photo of a data set: what it is, how large, how it looks, whether it can be read at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use image::{ImageFormat, RgbImage};
use rayon::prelude::*;

use super::dataset::{Dataset, Sample, Skipped};
use super::duplicates::{Duplicates, Print};
use super::header::Header;
use super::perceptual_hash::Fingerprint;
use super::photo::Photo;
use super::split::Split;
use crate::files::sha256;

/// A side below this is tiny: backbones of the ImageNet kind divide it by 32.
pub const TINY_SIDE: u32 = 32;

/// A longer side of more than so many shorter ones is extreme: squashed to a square nothing in it can be recognised, and
/// a central square shows a fraction of it.
pub const EXTREME_ASPECT: f64 = 4.0;

/// Something about a readable photo that often is a mistake, or becomes one on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    Tiny,
    ExtremeAspect,
    Cmyk,
    SixteenBit,
    Alpha,
    Grey,
    Turned,
    Animated,
    WrongExtension,
    ForeignBytes,
}

impl Oddity {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Tiny,
        Self::ExtremeAspect,
        Self::Cmyk,
        Self::SixteenBit,
        Self::Alpha,
        Self::Grey,
        Self::Turned,
        Self::Animated,
        Self::WrongExtension,
        Self::ForeignBytes,
    ];

    /// What it is, and what becomes of it.
    pub fn describe(self) -> String {
        match self {
            Self::Tiny => format!("tiny: a side below {TINY_SIDE} pixels"),
            Self::ExtremeAspect => format!("extreme aspect ratio: one side more than {EXTREME_ASPECT} times the other"),
            Self::Cmyk => "CMYK: converted without a colour profile".to_owned(),
            Self::SixteenBit => "more than 8 bits a channel: rounded to 8".to_owned(),
            Self::Alpha => "alpha channel: dropped without blending".to_owned(),
            Self::Grey => "grey: becomes three equal channels".to_owned(),
            Self::Turned => "EXIF orientation: applied, but other programs may show it turned".to_owned(),
            Self::Animated => "several frames or pages: only the first is used".to_owned(),
            Self::WrongExtension => "wrong extension: the content decides".to_owned(),
            Self::ForeignBytes => "foreign bytes before the image or between its headers: passed over".to_owned(),
        }
    }

    /// The name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::ExtremeAspect => "extreme_aspect",
            Self::Cmyk => "cmyk",
            Self::SixteenBit => "sixteen_bit",
            Self::Alpha => "alpha",
            Self::Grey => "grey",
            Self::Turned => "turned",
            Self::Animated => "animated",
            Self::WrongExtension => "wrong_extension",
            Self::ForeignBytes => "foreign_bytes",
        }
    }
}

/// A readable photo.
#[derive(Clone, Debug)]
pub struct Inspected {
    pub sample: Sample,
    pub split: Split,
    /// Of the stored bytes, as hexadecimal digits.
    pub sha256: String,
    /// Size of the file, or of the record.
    pub bytes: u64,
    /// In pixels, upright.
    pub width: u32,
    pub height: u32,
    /// `JPEG`, `PNG`, …, or `raw` for a record of pixels.
    pub format: String,
    pub oddities: Vec<Oddity>,
    pub fingerprint: Fingerprint,
    pub channels: Channels,
}

/// Means over the pixels of one photo, of values 0 to 1; red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channels {
    pub mean: [f64; 3],
    pub mean_of_squares: [f64; 3],
}

/// All photos of a data set.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Sorted by id.
    pub photos: Vec<Inspected>,
    /// Sorted by id.
    pub broken: Vec<Skipped>,
}

/// Reads and decodes every photo once, on all cores.
///
/// `progress(done)` is called from several threads after each photo.
pub fn inspect(dataset: &Dataset, progress: &(dyn Fn(usize) + Sync)) -> Inspection {
    let samples: Vec<(Split, &Sample)> =
        Split::ALL.iter().flat_map(|&split| dataset.split(split).iter().map(move |sample| (split, sample))).collect();
    let done = AtomicUsize::new(0);
    let results: Vec<Result<Inspected>> = samples
        .par_iter()
        .with_max_len(1)
        .map(|&(split, sample)| {
            let result = look_at(sample, split);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            result
        })
        .collect();
    let mut inspection = Inspection { photos: Vec::with_capacity(samples.len()), broken: dataset.skipped.clone() };
    for ((split, sample), result) in samples.into_iter().zip(results) {
        match result {
            Ok(photo) => inspection.photos.push(photo),
            Err(e) => {
                let reason = format!("{e:#}");
                inspection.broken.push(Skipped { id: sample.id.clone(), split: Some(split), reason });
            }
        }
    }
    inspection.photos.sort_by(|a, b| a.sample.id.cmp(&b.sample.id));
    inspection.broken.sort_by(|a, b| a.id.cmp(&b.id));
    inspection
}

impl Inspected {
    /// What [`Duplicates`] compares.
    pub fn print(&self) -> Print<'_> {
        Print { sha256: &self.sha256, fingerprint: &self.fingerprint }
    }
}

impl Inspection {
    /// The data set with what can be read of it, divided as a training divides it.
    pub fn readable(&self, dataset: &Dataset) -> Dataset {
        let mut readable = dataset.clone();
        readable.skipped.clone_from(&self.broken);
        let find = |id: &str| self.photos.binary_search_by(|photo| photo.sample.id.as_str().cmp(id)).ok();
        for split in Split::ALL {
            readable.split_mut(split).retain(|sample| find(&sample.id).is_some());
        }
        readable.draw_splits(&|samples| {
            let photos = samples.iter().filter_map(|sample| self.photos.get(find(&sample.id)?));
            Duplicates::find(&photos.map(Inspected::print).collect::<Vec<_>>()).groups
        });
        readable
    }

    /// Gives photos the splits of [`Self::readable`]: those that a training draws of them.
    pub fn divide(&mut self, dataset: &Dataset) {
        let readable = self.readable(dataset);
        let splits: BTreeMap<&str, Split> = Split::ALL
            .iter()
            .flat_map(|&split| readable.split(split).iter().map(move |sample| (sample.id.as_str(), split)))
            .collect();
        for photo in &mut self.photos {
            photo.split = splits.get(photo.sample.id.as_str()).copied().unwrap_or(photo.split);
        }
    }
}

fn look_at(sample: &Sample, split: Split) -> Result<Inspected> {
    let bytes = sample.photo.bytes()?;
    let image = sample.photo.decode_bytes(&bytes)?;
    let header = match sample.photo {
        Photo::Pixels { .. } => None,
        // What can be decoded has headers; if they are too odd to be read here, that is no reason to call it broken.
        Photo::File(_) | Photo::Encoded { .. } => Header::read(&bytes).ok(),
    };
    let (width, height) = image.dimensions();
    Ok(Inspected {
        sample: sample.clone(),
        split,
        sha256: sha256(&bytes),
        bytes: bytes.len() as u64,
        width,
        height,
        format: header.map_or_else(|| "raw".to_owned(), |header| header.format_name()),
        oddities: oddities(&sample.photo, header.as_ref(), width, height),
        fingerprint: Fingerprint::of(&image),
        channels: Channels::of(&image),
    })
}

fn oddities(photo: &Photo, header: Option<&Header>, width: u32, height: u32) -> Vec<Oddity> {
    let (short, long) = (width.min(height), width.max(height));
    let has = |what: fn(&Header) -> bool| header.is_some_and(what);
    let format = header.map(|header| header.format);
    let found = |oddity: &Oddity| match oddity {
        // All records of a block are of one size, and that was a choice.
        Oddity::Tiny => short < TINY_SIDE && header.is_some(),
        Oddity::ExtremeAspect => f64::from(long) > EXTREME_ASPECT * f64::from(short),
        Oddity::Cmyk => has(|h| h.cmyk),
        Oddity::SixteenBit => has(|h| h.deep),
        Oddity::Alpha => has(|h| h.alpha),
        Oddity::Grey => has(|h| h.grey),
        Oddity::Turned => has(|h| h.turned),
        Oddity::Animated => has(|h| h.animated),
        Oddity::WrongExtension => {
            let named = photo.path().and_then(|path| ImageFormat::from_path(path).ok());
            named.is_some() && format.is_some() && named != format
        }
        Oddity::ForeignBytes => has(|h| h.junk),
    };
    Oddity::ALL.into_iter().filter(found).collect()
}

impl Channels {
    fn of(image: &RgbImage) -> Self {
        let (mut sums, mut squares) = ([0u64; 3], [0u64; 3]);
        for pixel in image.as_raw().as_chunks::<3>().0 {
            for channel in 0..3 {
                let value = u64::from(pixel[channel]);
                sums[channel] += value;
                squares[channel] += value * value;
            }
        }
        let count = (u64::from(image.width()) * u64::from(image.height())).max(1) as f64;
        Self {
            mean: sums.map(|sum| sum as f64 / (255.0 * count)),
            mean_of_squares: squares.map(|sum| sum as f64 / (255.0 * 255.0 * count)),
        }
    }
}
