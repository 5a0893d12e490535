//! The raw value that takes the last colour.

use super::heat_map::{HeatMap, Placement};

/// Share of a pixel map's values below the last colour. Maps with a value for each pixel (guided backpropagation, integrated
/// gradients) have a few that tower above the rest; scaled to these, the others would be invisible.
const PIXEL_PERCENTILE: f64 = 0.995;

/// Whether a map has a value for each pixel of the network's input.
pub fn is_pixel_map(map: &HeatMap, placement: &Placement) -> bool {
    map.height == placement.size && map.width == placement.size
}

/// The raw value for the top of a map's own scale: its largest, and of a pixel map the 99.5th percentile of its values. 0 if no
/// value is positive.
pub fn own_top(map: &HeatMap, placement: &Placement) -> f32 {
    let largest = map.range().1.max(0.0);
    if !is_pixel_map(map, placement) {
        return largest;
    }
    let mut values: Vec<f32> = map.raw.iter().copied().filter(|v| v.is_finite()).collect();
    let index = ((values.len() as f64 * PIXEL_PERCENTILE) as usize).min(values.len().saturating_sub(1));
    if values.is_empty() {
        return 0.0;
    }
    let (_, &mut percentile, _) = values.select_nth_unstable_by(index, f32::total_cmp);
    // Where fewer pixels than that speak for the class at all, the largest is the only top there is.
    if percentile > 0.0 { percentile } else { largest }
}
