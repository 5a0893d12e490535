//! Mirror images: exact, whatever the type of the values.

/// Exchanges left and right of `[height, width, 3]`.
pub fn left_right<T: Copy>(values: &mut [T], width: usize) {
    for row in values.chunks_exact_mut((width * 3).max(1)) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// Exchanges top and bottom of `[height, width, 3]`.
pub fn up_down<T: Copy>(values: &mut [T], width: usize) {
    let mut rows = values.chunks_exact_mut((width * 3).max(1));
    while let (Some(top), Some(bottom)) = (rows.next(), rows.next_back()) {
        top.swap_with_slice(bottom);
    }
}
