//! Where the object is, as somebody marked it: mask pictures or boxes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::GrayImage;
use serde::Deserialize;

use super::super::heat_map::ScaledMap;
use super::change::importance_order;
use crate::data::preprocess::Region;
use crate::error::usage;

/// File with the boxes.
const BOXES: &str = "boxes.csv";
const COLUMNS: [&str; 5] = ["path", "x", "y", "width", "height"];
/// Mistakes in `boxes.csv` that are listed; more are counted.
const MOST_PROBLEMS: usize = 20;

/// A rectangle in pixels of the photo `path`: a line of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct ObjectBox {
    path: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// A folder of masks and boxes.
#[derive(Debug)]
pub struct Masks {
    folder: PathBuf,
    boxes: BTreeMap<String, Vec<ObjectBox>>,
}

impl Masks {
    /// Opens a folder. A photo with the id `roses/a.jpg` has the mask `roses/a.png` there, in which every pixel that is not black
    /// belongs to the object, or rows in `boxes.csv` (`path,x,y,width,height`, in pixels of the photo), or both.
    ///
    /// # Errors
    /// A usage error if there is no such folder, or `boxes.csv` has mistakes: all of them, with their lines.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(usage(format!("--masks {}: there is no such folder", folder.display())));
        }
        let path = folder.join(BOXES);
        let boxes = if path.is_file() { read_boxes(&path)? } else { BTreeMap::new() };
        Ok(Self { folder: folder.to_owned(), boxes })
    }

    /// Whether there is a mask or a box for a photo.
    pub fn has(&self, id: &str) -> bool {
        self.boxes.contains_key(id) || self.mask_path(id).is_file()
    }

    fn mask_path(&self, id: &str) -> PathBuf {
        self.folder.join(Path::new(id).with_extension("png"))
    }

    /// What of the network's input of `size` x `size` belongs to the object; `None` if nobody marked it. `photo` is the photo's
    /// (width, height), `region` what the network sees of it.
    ///
    /// # Errors
    /// If the mask cannot be read or has another shape than the photo, or a box does not lie in the photo.
    pub fn object(&self, id: &str, photo: (u32, u32), region: &Region, size: usize) -> Result<Option<ObjectMask>> {
        let path = self.mask_path(id);
        let mask = if path.is_file() { Some(read_mask(&path, photo)?) } else { None };
        let boxes = self.boxes.get(id).map_or(&[][..], Vec::as_slice);
        if mask.is_none() && boxes.is_empty() {
            return Ok(None);
        }
        for b in boxes {
            let fits = b.x + b.width <= f64::from(photo.0) + 1.0 && b.y + b.height <= f64::from(photo.1) + 1.0;
            ensure!(
                fits,
                "{}: the box of {id} reaches to ({}, {}), but the photo has {} x {} pixels",
                self.folder.join(BOXES).display(),
                b.x + b.width,
                b.y + b.height,
                photo.0,
                photo.1
            );
        }
        let on_mask = |x: f64, y: f64| {
            mask.as_ref().is_some_and(|mask| {
                let place = |v: f64, photo: u32, mask: u32| (v / f64::from(photo) * f64::from(mask)) as u32;
                let (x, y) = (place(x, photo.0, mask.width()), place(y, photo.1, mask.height()));
                mask.get_pixel_checked(x, y).is_some_and(|pixel| pixel.0[0] > 0)
            })
        };
        let in_box =
            |x: f64, y: f64| boxes.iter().any(|b| x >= b.x && y >= b.y && x < b.x + b.width && y < b.y + b.height);
        let at = |start: f64, length: f64, i: usize| start + (i as f64 + 0.5) / size as f64 * length;
        let inside = (0..size * size).map(|i| {
            let (x, y) = (at(region.x, region.width, i % size), at(region.y, region.height, i / size));
            on_mask(x, y) || in_box(x, y)
        });
        Ok(Some(ObjectMask { inside: inside.collect(), size }))
    }
}

fn read_mask(path: &Path, photo: (u32, u32)) -> Result<GrayImage> {
    let mask = image::ImageReader::open(path)
        .with_context(|| format!("cannot open {}", path.display()))?
        .with_guessed_format()?
        .decode()
        .with_context(|| format!("the mask {} cannot be read", path.display()))?;
    // An object drawn in colour (255, 0, 0) must not vanish with a weighted grey: the brightest channel counts.
    let rgb = mask.to_rgb8();
    let (width, height) = rgb.dimensions();
    // A scaled mask has rounded sides: each may be off by one.
    let (across, down) = (u64::from(width) * u64::from(photo.1), u64::from(height) * u64::from(photo.0));
    ensure!(
        across.abs_diff(down) <= u64::from(photo.0) + u64::from(photo.1) && width > 0 && height > 0,
        "the mask {} has {width} x {height} pixels, its photo {} x {}: it must have the same size or be scaled from it",
        path.display(),
        photo.0,
        photo.1
    );
    Ok(GrayImage::from_fn(width, height, |x, y| image::Luma([rgb.get_pixel(x, y).0.into_iter().max().unwrap_or(0)])))
}

/// Reads the boxes, with all mistakes at once.
fn read_boxes(path: &Path) -> Result<BTreeMap<String, Vec<ObjectBox>>> {
    let mut csv = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let header = csv.headers().with_context(|| format!("{}: no header", path.display()))?;
    if !header.iter().eq(COLUMNS) {
        let found: Vec<&str> = header.iter().collect();
        return Err(usage(format!(
            "{}: expected the columns {}, found {}",
            path.display(),
            COLUMNS.join(","),
            found.join(",")
        )));
    }
    let (mut boxes, mut problems) = (BTreeMap::<String, Vec<ObjectBox>>::new(), Vec::new());
    for row in csv.into_deserialize::<ObjectBox>() {
        match row {
            Ok(b) => match problem(&b) {
                None => boxes.entry(b.path.clone()).or_default().push(b),
                Some(problem) => problems.push(format!("{:?}: {problem}", b.path)),
            },
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() {
        return Ok(boxes);
    }
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    problems.truncate(MOST_PROBLEMS);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Err(usage(format!("{} has mistakes:\n  {}", path.display(), problems.join("\n  "))))
}

fn problem(b: &ObjectBox) -> Option<String> {
    if b.path.is_empty() {
        return Some("no path".into());
    }
    if ![b.x, b.y, b.width, b.height].iter().all(|v| v.is_finite()) {
        return Some("not all numbers are finite".into());
    }
    if b.x < 0.0 || b.y < 0.0 {
        return Some(format!("the corner ({}, {}) lies outside of the photo", b.x, b.y));
    }
    (b.width <= 0.0 || b.height <= 0.0).then(|| format!("a box of {} x {} is empty", b.width, b.height))
}

/// The object on the network's input.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectMask {
    /// Row-major `[size, size]`.
    pub inside: Vec<bool>,
    pub size: usize,
}

impl ObjectMask {
    /// Share of the input that the object covers, in 0..=1: what a random map scores.
    pub fn area(&self) -> f64 {
        self.inside.iter().filter(|&&i| i).count() as f64 / self.inside.len().max(1) as f64
    }

    /// Whether the highest pixel of a map lies on the object. A map that is 0 everywhere points at nothing.
    pub fn is_pointed_at(&self, map: &ScaledMap) -> bool {
        let highest = importance_order(map).first().map(|&i| i as usize);
        let is_positive = |i: usize| map.values.get(i).is_some_and(|&v| v > 0.0);
        highest.is_some_and(|i| is_positive(i) && self.inside.get(i).copied().unwrap_or(false))
    }

    /// Share of a map that lies on the object, in 0..=1; 0 for a map that is 0 everywhere.
    pub fn energy_inside(&self, map: &ScaledMap) -> f64 {
        let sum = |only_inside: bool| -> f64 {
            let pixels = map.values.iter().zip(&self.inside);
            pixels.filter(|&(_, &inside)| inside || !only_inside).map(|(&v, _)| f64::from(v)).sum()
        };
        let all = sum(false);
        if all > 0.0 { sum(true) / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32]) -> ScaledMap {
        ScaledMap { values: values.to_vec(), height: 2, width: values.len() / 2 }
    }

    #[test]
    fn the_highest_pixel_and_the_share_of_the_heat_are_looked_up_on_the_object() {
        let object = ObjectMask { inside: vec![true, false, false, true, false, false], size: 2 };
        let hit = map(&[0.1, 0.2, 0.0, 1.0, 0.2, 0.1]);
        assert!(object.is_pointed_at(&hit));
        assert!((object.energy_inside(&hit) - 1.1 / 1.6).abs() < 1e-6);
        assert!(!object.is_pointed_at(&map(&[0.1, 1.0, 0.0, 0.9, 0.2, 0.1])));
        let nothing = map(&[0.0; 6]);
        assert!(!object.is_pointed_at(&nothing), "a map without a value points at nothing");
        assert_eq!(object.energy_inside(&nothing), 0.0);
        assert!((object.area() - 1.0 / 3.0).abs() < 1e-12);
    }
}
