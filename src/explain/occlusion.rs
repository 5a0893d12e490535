//! Occlusion: what the class's logit loses when a window of the photo is hidden.

use anyhow::Result;

use super::heat_map::HeatMap;
use super::probe::Probe;

/// The part of the photo's side that a window covers unless told otherwise.
const WINDOWS_PER_SIDE: usize = 5;

/// Side and stride of the windows for a photo of that side, in pixels.
pub(super) fn window_and_stride(side: usize, window: Option<usize>, stride: Option<usize>) -> (usize, usize) {
    let rounded = (side + WINDOWS_PER_SIDE / 2) / WINDOWS_PER_SIDE;
    let window = window.unwrap_or(rounded.max(1)).min(side);
    (window, stride.unwrap_or((window / 2).max(1)))
}

/// A map `[height, width]` of the photo's pixels: how far the class's logit falls when a window around the pixel takes the
/// photo's mean colour, mean over the windows that cover it.
pub(super) fn occlusion(probe: &Probe) -> Result<HeatMap> {
    let (height, width) = (probe.height, probe.width);
    let options = probe.options();
    let (window, stride) = window_and_stride(height.min(width), options.occlusion_window, options.occlusion_stride);
    let (tops, lefts) = (starts(height, window, stride), starts(width, window, stride));
    let windows: Vec<(usize, usize)> =
        tops.iter().flat_map(|&top| lefts.iter().map(move |&left| (top, left))).collect();
    let colour = probe.mean_colour();
    let logit = probe.logit()?;
    let row_length = width * probe.colours;
    let hidden = probe.logits(windows.len(), |i, pixels| {
        let Some(&(top, left)) = windows.get(i) else { return };
        for row in pixels.chunks_exact_mut(row_length).skip(top).take(window) {
            for pixel in row.chunks_exact_mut(probe.colours).skip(left).take(window) {
                pixel.copy_from_slice(&colour);
            }
        }
    })?;
    let (mut sums, mut counts) = (vec![0.0f64; height * width], vec![0u32; height * width]);
    for (&(top, left), hidden) in windows.iter().zip(hidden) {
        let rows = sums.chunks_exact_mut(width).zip(counts.chunks_exact_mut(width)).skip(top).take(window);
        for (sums, counts) in rows {
            for (sum, count) in sums.iter_mut().zip(counts).skip(left).take(window) {
                *sum += logit - hidden;
                *count += 1;
            }
        }
    }
    let raw = sums.iter().zip(&counts).map(|(sum, &count)| (sum / f64::from(count.max(1))) as f32).collect();
    Ok(HeatMap { raw, height, width })
}

/// Where windows begin along a side; the last ends with it, so that every pixel is covered.
fn starts(side: usize, window: usize, stride: usize) -> Vec<usize> {
    let last = side - window.min(side);
    let mut starts: Vec<usize> = (0..last).step_by(stride).collect();
    starts.push(last);
    starts
}
