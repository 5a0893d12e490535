//! What could have stood where pixels were removed: the fill of ROAD.
//!
//! Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022, arXiv:2202.00449: a removed
//! pixel is the weighted mean of its eight neighbours, direct ones 1/6 and diagonal ones 1/12, known or removed alike. A flat
//! fill leaves the outline of what was removed, from which a network can still tell the class; this one does not.
//!
//! The linear system is that of a diffusion. Conjugate gradients solve it, preconditioned by one multigrid cycle: without it
//! they need hundreds of steps for a hole of the size of the photo, with it about ten.

/// Relative size of the preconditioned residual at which the solution is good enough: a thousandth of the noise that ROAD adds.
const TOLERANCE: f64 = 1e-5;
/// Steps that suffice many times over.
const MOST_STEPS: usize = 200;
/// Grids of this side are not made coarser.
const COARSEST: usize = 4;
/// Smoothing steps on the coarsest grid, each of which removes a good part of all errors there.
const COARSEST_STEPS: usize = 12;

/// Fills the removed pixels of an image `[size, size, 3]` (any affine preprocessing); the others stay. If all are removed there is
/// nothing to go by, and nothing changes.
///
/// `image` holds `size * size * 3` values, `removed` has `size * size`.
pub fn impute(image: &[f32], size: usize, removed: &[bool]) -> Vec<f32> {
    let mut filled = image.to_vec();
    if removed.iter().all(|&r| r) || !removed.contains(&true) {
        return filled;
    }
    let grids = Grid::hierarchy(size, removed);
    let Some(finest) = grids.first() else { return filled };
    for channel in 0..3 {
        let values = image.iter().skip(channel).step_by(3);
        // Zero-mean values lose the least in f32.
        let mean = values.clone().map(|&v| f64::from(v)).sum::<f64>() / (size * size).max(1) as f64;
        let mut known = finest.zeros();
        for ((place, &value), &gone) in finest.places().zip(values).zip(removed) {
            known[place] = if gone { 0.0 } else { (f64::from(value) - mean) as f32 };
        }
        let mut right = finest.zeros();
        finest.neighbours(&known, &mut right);
        let solution = solve(&grids, right);
        for ((pixel, place), &gone) in filled.iter_mut().skip(channel).step_by(3).zip(finest.places()).zip(removed) {
            if gone {
                *pixel = (f64::from(solution[place]) + mean) as f32;
            }
        }
    }
    filled
}

/// One resolution: which cells are unknown. Arrays have a border of one cell, which stays 0, so that no cell is special.
struct Grid {
    size: usize,
    /// 1 where a cell is unknown, 0 where it is known and in the border.
    unknown: Vec<f32>,
    /// Share of a cell's neighbours that lie in the picture, by weight: the diagonal of the system.
    diagonal: Vec<f32>,
}

impl Grid {
    fn new(size: usize, removed: impl Iterator<Item = bool>) -> Self {
        let mut grid = Self { size, unknown: vec![0.0; (size + 2) * (size + 2)], diagonal: Vec::new() };
        let mut inside = grid.zeros();
        for (place, gone) in grid.places().zip(removed).collect::<Vec<_>>() {
            grid.unknown[place] = f32::from(u8::from(gone));
            inside[place] = 1.0;
        }
        let mut diagonal = grid.zeros();
        let everywhere = Self { size, unknown: inside.clone(), diagonal: Vec::new() };
        everywhere.neighbours(&inside, &mut diagonal);
        grid.diagonal = diagonal;
        grid
    }

    /// The finest grid and ever coarser ones. A coarse cell is unknown if all of the up to four cells below it are.
    fn hierarchy(size: usize, removed: &[bool]) -> Vec<Self> {
        let mut grids = vec![Self::new(size, removed.iter().copied())];
        while let Some(fine) = grids.last()
            && fine.size > COARSEST
        {
            let side = fine.size.div_ceil(2);
            let is_unknown = |y: usize, x: usize| fine.unknown[fine.place(y, x)] > 0.0;
            let last = fine.size - 1;
            let all_below = |cell: usize| {
                let (y, x) = (cell / side * 2, cell % side * 2);
                let (below, right) = ((y + 1).min(last), (x + 1).min(last));
                is_unknown(y, x) && is_unknown(y, right) && is_unknown(below, x) && is_unknown(below, right)
            };
            let coarse = Self::new(side, (0..side * side).map(all_below));
            if coarse.unknown.iter().all(|&u| u == 0.0) {
                break;
            }
            grids.push(coarse);
        }
        grids
    }

    fn zeros(&self) -> Vec<f32> {
        vec![0.0; (self.size + 2) * (self.size + 2)]
    }

    fn place(&self, y: usize, x: usize) -> usize {
        (y + 1) * (self.size + 2) + x + 1
    }

    /// Indices of the cells, row by row.
    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        let (size, stride) = (self.size, self.size + 2);
        (1..=size).flat_map(move |row| (row * stride + 1)..=(row * stride + size))
    }

    /// For each unknown cell the weighted sum over its neighbours; 0 elsewhere. The weights 1/6 and 1/12 are the product of
    /// (1, 2, 1) by rows and by columns, over 12, without its centre.
    fn neighbours(&self, values: &[f32], out: &mut [f32]) {
        let stride = self.size + 2;
        for row in 1..=self.size {
            let line = |r: usize| &values[r * stride..(r + 1) * stride];
            let (above, here, below) = (line(row - 1), line(row), line(row + 1));
            let unknown = &self.unknown[row * stride + 1..(row + 1) * stride - 1];
            let out = &mut out[row * stride + 1..(row + 1) * stride - 1];
            let columns = above.windows(3).zip(here.windows(3)).zip(below.windows(3));
            for ((out, &unknown), ((a, h), b)) in out.iter_mut().zip(unknown).zip(columns) {
                let outer = (a[0] + a[2]) + (b[0] + b[2]);
                let direct = (a[1] + b[1]) + (h[0] + h[2]);
                *out = unknown * (outer + 2.0 * direct) * (1.0 / 12.0);
            }
        }
    }

    /// The residual `right - A values` on the unknown cells.
    fn residual(&self, right: &[f32], values: &[f32], out: &mut [f32]) {
        self.neighbours(values, out);
        for (((out, &right), &value), &diagonal) in out.iter_mut().zip(right).zip(values).zip(&self.diagonal) {
            *out += right - diagonal * value;
        }
    }

    /// One Jacobi step: each unknown becomes the mean of its neighbours. Of the errors that the coarser grid cannot show, a third
    /// is left. `scratch` is overwritten.
    fn smooth(&self, right: &[f32], values: &mut [f32], scratch: &mut [f32]) {
        self.neighbours(values, scratch);
        for (((value, &sum), &right), (&diagonal, &unknown)) in
            values.iter_mut().zip(&*scratch).zip(right).zip(self.diagonal.iter().zip(&self.unknown))
        {
            *value = if unknown > 0.0 { (sum + right) / diagonal } else { 0.0 };
        }
    }

    /// For each row or column of this grid, the two of the `coarse` one between which it lies; the first has weight 3/4.
    fn parents(&self, coarse: &Self) -> Vec<(usize, usize)> {
        let parent = |i: usize| {
            let near = i / 2;
            let far = if i.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(coarse.size - 1) };
            (near, far)
        };
        (0..self.size).map(parent).collect()
    }

    /// Calls `visit` with each unknown cell of this grid, and the four of the coarse one around it with their weights.
    fn with_parents(&self, coarse: &Self, mut visit: impl FnMut(usize, [(usize, f32); 4])) {
        let parents = self.parents(coarse);
        for (y, &(row, far_row)) in parents.iter().enumerate() {
            for (x, &(column, far_column)) in parents.iter().enumerate() {
                let place = self.place(y, x);
                if self.unknown[place] > 0.0 {
                    let around = [
                        (coarse.place(row, column), 9.0 / 16.0),
                        (coarse.place(row, far_column), 3.0 / 16.0),
                        (coarse.place(far_row, column), 3.0 / 16.0),
                        (coarse.place(far_row, far_column), 1.0 / 16.0),
                    ];
                    visit(place, around);
                }
            }
        }
    }
}

/// Preconditioned conjugate gradients on the first grid. The system is symmetric and positive definite: every unknown is connected
/// with a known cell.
fn solve(grids: &[Grid], right: Vec<f32>) -> Vec<f32> {
    let Some(grid) = grids.first() else { return right };
    let mut values = grid.zeros();
    let mut residual = right;
    let mut scratch = grid.zeros();
    let mut corrected = cycle(grids, &residual);
    let mut direction = corrected.clone();
    let mut size = dot(&residual, &corrected);
    let enough = size * TOLERANCE * TOLERANCE;
    for _ in 0..MOST_STEPS {
        if size <= enough {
            break;
        }
        // -A p, from a residual with nothing on the right.
        grid.neighbours(&direction, &mut scratch);
        for ((out, &p), &diagonal) in scratch.iter_mut().zip(&direction).zip(&grid.diagonal) {
            *out -= diagonal * p;
        }
        let curvature = -dot(&direction, &scratch);
        if curvature <= 0.0 {
            break;
        }
        let step = (size / curvature) as f32;
        for ((value, &p), (r, &minus)) in values.iter_mut().zip(&direction).zip(residual.iter_mut().zip(&scratch)) {
            *value += step * p;
            *r += step * minus;
        }
        corrected = cycle(grids, &residual);
        let next = dot(&residual, &corrected);
        let keep = (next / size) as f32;
        direction.iter_mut().zip(&corrected).for_each(|(p, &z)| *p = z + keep * *p);
        size = next;
    }
    values
}

/// One multigrid V-cycle from zero: an approximation of the solution that depends linearly and symmetrically on `right`.
fn cycle(grids: &[Grid], right: &[f32]) -> Vec<f32> {
    let Some((grid, coarser)) = grids.split_first() else { return right.to_vec() };
    let (mut values, mut scratch) = (grid.zeros(), grid.zeros());
    grid.smooth(right, &mut values, &mut scratch);
    let Some(coarse) = coarser.first() else {
        for _ in 1..COARSEST_STEPS {
            grid.smooth(right, &mut values, &mut scratch);
        }
        return values;
    };
    grid.residual(right, &values, &mut scratch);
    let mut below = coarse.zeros();
    // A sum, not a mean: the equations of the coarse grid are for four times the area.
    grid.with_parents(coarse, |place, around| {
        for (parent, weight) in around {
            below[parent] += weight * scratch[place] * coarse.unknown[parent];
        }
    });
    let correction = cycle(coarser, &below);
    grid.with_parents(coarse, |place, around| {
        values[place] += around.iter().map(|&(parent, weight)| weight * correction[parent]).sum::<f32>();
    });
    grid.smooth(right, &mut values, &mut scratch);
    values
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    // Eight sums side by side, so that the processor can add them at once; always in the same order.
    let mut sums = [0f64; 8];
    let (a, rest_a) = a.as_chunks::<8>();
    let (b, rest_b) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    /// Solves the same equations, written down cell by cell from the paper, by Gaussian elimination.
    fn dense(image: &[f32], size: usize, removed: &[bool], channel: usize) -> Vec<f64> {
        let cells: Vec<usize> = (0..size * size).filter(|&i| removed[i]).collect();
        let column = |cell: usize| cells.iter().position(|&c| c == cell).unwrap();
        let n = cells.len();
        let mut rows = vec![vec![0.0; n + 1]; n];
        for (row, &cell) in rows.iter_mut().zip(&cells) {
            let (y, x) = ((cell / size) as i64, (cell % size) as i64);
            for (dy, dx) in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)] {
                let (ny, nx) = (y + dy, x + dx);
                if ny < 0 || nx < 0 || ny >= size as i64 || nx >= size as i64 {
                    continue;
                }
                let weight = if dy == 0 || dx == 0 { 1.0 / 6.0 } else { 1.0 / 12.0 };
                let other = ny as usize * size + nx as usize;
                row[column(cell)] += weight;
                if removed[other] {
                    row[column(other)] -= weight;
                } else {
                    row[n] += weight * f64::from(image[other * 3 + channel]);
                }
            }
        }
        for pivot in 0..n {
            let (own, scale) = (rows[pivot].clone(), rows[pivot][pivot]);
            for (_, row) in rows.iter_mut().enumerate().filter(|(other, _)| *other != pivot) {
                let factor = row[pivot] / scale;
                row.iter_mut().zip(&own).for_each(|(value, own)| *value -= factor * own);
            }
        }
        (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
    }

    fn photo(size: usize) -> Vec<f32> {
        (0..size * size * 3).map(|i| random::uniform(3, i as u64) * 200.0 - 60.0 + (i % 50) as f32).collect()
    }

    #[test]
    fn the_fill_solves_the_linear_system_of_the_paper() {
        for size in [5, 8, 13, 18] {
            let image = photo(size);
            let centre = |i: usize| ((i / size) as f32 - 4.0).hypot((i % size) as f32 - 6.0);
            let holes: [Vec<bool>; 4] = [
                (0..size * size).map(|i| random::uniform(9, i as u64) < 0.5).collect(),
                (0..size * size).map(|i| centre(i) < 5.5).collect(),
                (0..size * size).map(|i| centre(i) > 2.0).collect(),
                (0..size * size).map(|i| i != 7).collect(),
            ];
            for (hole, removed) in holes.iter().enumerate() {
                let filled = impute(&image, size, removed);
                for channel in 0..3 {
                    let expected = dense(&image, size, removed, channel);
                    let cells = (0..size * size).filter(|&i| removed[i]);
                    for (cell, expected) in cells.zip(expected) {
                        let found = f64::from(filled[cell * 3 + channel]);
                        assert!(
                            (found - expected).abs() < 5e-3,
                            "size {size}, hole {hole}, {cell}: {found} {expected}"
                        );
                    }
                }
                let kept = (0..size * size * 3).filter(|&i| !removed[i / 3]);
                kept.for_each(|i| assert_eq!(filled[i], image[i], "a pixel that was not removed changed"));
            }
        }
    }

    #[test]
    fn a_large_hole_is_filled_in_few_steps_and_lies_between_its_edges() {
        let size = 160;
        let image: Vec<f32> = (0..size * size * 3).map(|i| ((i / 3) % size) as f32).collect();
        let removed: Vec<bool> = (0..size * size).map(|i| (10..150).contains(&(i % size))).collect();
        let filled = impute(&image, size, &removed);
        // The equations hold for a ramp: the mean of a pixel's neighbours is the pixel.
        for (i, (found, expected)) in filled.iter().zip(&image).enumerate() {
            assert!((found - expected).abs() < 0.02, "{i}: {found} instead of {expected}");
        }
    }

    #[test]
    fn without_a_known_or_a_removed_pixel_nothing_changes() {
        let image = photo(6);
        assert_eq!(impute(&image, 6, &[true; 36]), image);
        assert_eq!(impute(&image, 6, &[false; 36]), image);
    }
}
