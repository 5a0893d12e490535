//! How data get to the device: uploads in a row, as many as reuse each staging buffer several times; what becomes of pixels there; and what
//! is chosen of features that lie there.

use anyhow::Result;
use candle_core::Tensor;

use super::shape;
use crate::doctor::lab::Lab;
use crate::doctor::reference::{Map, Sum};
use crate::doctor::verdict::Growth;
use crate::ops::{self, PixelInputs, Upload, Uploader};

/// Batches under way at a time.
const IN_FLIGHT: usize = 3;
/// Batches in all.
const BATCHES: usize = 10;
/// Of photos with odd sides.
const PHOTOS: Map = Map { batch: 8, height: 113, width: 111, channels: 3 };
/// Features of photos, and the photos of which some are chosen.
const FEATURES: [usize; 2] = [500, 1031];
/// What is left of a photo when another is blended in.
const SHARE: f32 = 0.7;

/// Tries all of it.
///
/// # Errors
/// If the device refuses.
pub fn run(lab: &mut Lab) -> Result<()> {
    pixels(lab)?;
    features(lab)
}

/// The byte at a place of a batch: each place and each batch has others.
fn byte(batch: usize, index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 7).wrapping_add(batch * 41) as u8
}

fn pixels(lab: &mut Lab) -> Result<()> {
    lab.case = format!("{BATCHES} batches of {}", shape(&PHOTOS.dims()));
    let uploader = Uploader::new(&lab.device, IN_FLIGHT)?;
    let table: Vec<f32> = (0..256 * PHOTOS.channels).map(|i| i as f32 / 255.0 - 1.1).collect();
    let inputs = PixelInputs::new(&table, &[2, 1, 0], &lab.device)?;
    let batch = |number: usize| uploader.upload((0..PHOTOS.count()).map(|i| byte(number, i)).collect(), &PHOTOS.dims());
    let mut under_way: Vec<Upload> = (0..IN_FLIGHT).map(batch).collect::<Result<_>>()?;
    let mirrored = [0, 1].map(|axis| (0..PHOTOS.batch).map(|image| (image >> axis) % 2 == 1).collect::<Vec<_>>());
    for number in 0..BATCHES {
        let pixels = under_way.remove(0).arrive()?;
        // Copied while the one before is worked on.
        if number + IN_FLIGHT < BATCHES {
            under_way.push(batch(number + IN_FLIGHT)?);
        }
        let [left_right, up_down] = &mirrored;
        let images = ops::mirrored(&ops::mirrored(&pixels, 2, left_right)?, 1, up_down)?;
        let images = inputs.of(&images)?;
        let expected = |index: usize| {
            let (image, y, x, channel) = PHOTOS.place(index);
            let y = if up_down[image] { PHOTOS.height - 1 - y } else { y };
            let x = if left_right[image] { PHOTOS.width - 1 - x } else { x };
            let byte = byte(number, PHOTOS.index(image, y, x, 2 - channel));
            f64::from(table[channel * 256 + usize::from(byte)])
        };
        lab.judge("data.pixels", &images, Growth::None, 1, |index| Sum::single(expected(index)))?;
        if number == 0 {
            let blended = ops::blended_with_previous(&images, SHARE)?;
            let image = PHOTOS.count() / PHOTOS.batch;
            let (own, other) = (f64::from(SHARE), f64::from(1.0 - SHARE));
            lab.judge("data.blend", &blended, Growth::Few, 1, |index| {
                let before = (index + PHOTOS.count() - image) % PHOTOS.count();
                Sum::of([own * expected(index), other * expected(before)])
            })?;
        }
    }
    Ok(())
}

fn features(lab: &mut Lab) -> Result<()> {
    lab.case = shape(&FEATURES);
    let [photos, values] = FEATURES;
    let uploader = Uploader::new(&lab.device, IN_FLIGHT)?;
    let value = |photo: usize, place: usize| (photo * values + place) as f32 * 0.25;
    let whole = Tensor::zeros(&FEATURES, candle_core::DType::F32, &lab.device)?;
    let chunk = photos / BATCHES;
    for first in (0..photos).step_by(chunk) {
        let rows: Vec<usize> = (first..photos.min(first + chunk)).collect();
        let numbers = rows.iter().flat_map(|&photo| (0..values).map(move |place| value(photo, place))).collect();
        whole.slice_set(&uploader.upload(numbers, &[rows.len(), values])?.arrive()?, 0, first)?;
    }
    let chosen: Vec<u32> = (0..64).map(|i| i * 367 % photos as u32).collect();
    let rows = whole.index_select(&Tensor::new(chosen.as_slice(), &lab.device)?, 0)?;
    lab.judge("data.features", &rows, Growth::None, 1, |index| {
        let photo = chosen.get(index / values).copied().unwrap_or_default() as usize;
        Sum::single(f64::from(value(photo, index % values)))
    })
}
