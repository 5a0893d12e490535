//! How well a score separates the photos of one class from the others: ROC and precision-recall curves and their areas.

/// Scores of photos and whether they are of the class, highest score first.
pub type Scored = [(f64, bool)];

/// Groups of equal scores: (right ones, wrong ones), highest score first.
fn tied_groups(scored: &Scored) -> impl Iterator<Item = (f64, f64)> {
    let count = |group: &Scored| {
        let right = group.iter().filter(|(_, right)| *right).count();
        (right as f64, (group.len() - right) as f64)
    };
    scored.chunk_by(|a, b| a.0 == b.0).map(count)
}

fn totals(scored: &Scored) -> (f64, f64) {
    let right = scored.iter().filter(|(_, right)| *right).count();
    (right as f64, (scored.len() - right) as f64)
}

/// Area under the ROC curve: the probability that a right one scores above a wrong one (Mann-Whitney U), ties counting half.
/// `None` if all are right, or all wrong.
pub fn roc_auc(scored: &Scored) -> Option<f64> {
    let (mut right_above, mut wrong_above, mut area) = (0.0, 0.0, 0.0);
    for (right, wrong) in tied_groups(scored) {
        area += wrong * (right_above + right / 2.0);
        right_above += right;
        wrong_above += wrong;
    }
    (right_above * wrong_above > 0.0).then(|| area / (right_above * wrong_above))
}

/// Average precision: the area under the stepwise precision-recall curve. `None` if none is right.
pub fn average_precision(scored: &Scored) -> Option<f64> {
    let (mut right_above, mut all_above, mut sum) = (0.0, 0.0, 0.0);
    for (right, wrong) in tied_groups(scored) {
        right_above += right;
        all_above += right + wrong;
        sum += right * right_above / all_above;
    }
    (right_above > 0.0).then(|| sum / right_above)
}

/// The ROC curve from (0, 0) to (1, 1): false and true positive rate at each threshold; equal scores make one step. `None`
/// if all are right, or all wrong.
pub fn roc_curve(scored: &Scored) -> Option<Vec<(f64, f64)>> {
    let (right_total, wrong_total) = totals(scored);
    if right_total * wrong_total == 0.0 {
        return None;
    }
    let (mut right_above, mut wrong_above) = (0.0, 0.0);
    let steps = tied_groups(scored).map(|(right, wrong)| {
        right_above += right;
        wrong_above += wrong;
        (wrong_above / wrong_total, right_above / right_total)
    });
    Some(std::iter::once((0.0, 0.0)).chain(steps).collect())
}

/// The precision-recall curve: recall and precision at each threshold, from (0, 1), which stands for no prediction at all, to
/// recall 1 at the share of the class among all photos. `None` if none is right.
pub fn precision_recall_curve(scored: &Scored) -> Option<Vec<(f64, f64)>> {
    let (right_total, _) = totals(scored);
    if right_total == 0.0 {
        return None;
    }
    let (mut right_above, mut all_above) = (0.0, 0.0);
    let steps = tied_groups(scored).map(|(right, wrong)| {
        right_above += right;
        all_above += right + wrong;
        (right_above / right_total, right_above / all_above)
    });
    Some(std::iter::once((0.0, 1.0)).chain(steps).collect())
}

/// At most `most` points of a curve (2 at least), among them both ends, chosen as Ramer, Douglas and Peucker do: the point
/// farthest from the line through its neighbours comes first. Points on such a line are left out whatever `most` allows.
pub fn thin(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let Some(last) = points.len().checked_sub(1).filter(|&last| last > 0) else { return points.to_vec() };
    let mut parts = vec![Part::new(points, 0, last)];
    while parts.len() + 1 < most {
        let widest = parts.iter().enumerate().max_by(|a, b| a.1.deviation.total_cmp(&b.1.deviation));
        let Some((place, part)) = widest.filter(|(_, part)| part.deviation > 1e-12) else { break };
        let (first, second) = (Part::new(points, part.from, part.farthest), Part::new(points, part.farthest, part.to));
        parts.splice(place..=place, [first, second]);
    }
    let ends = std::iter::once(0).chain(parts.iter().map(|part| part.to));
    ends.filter_map(|i| points.get(i).copied()).collect()
}

/// A part of a curve that a straight line stands for.
struct Part {
    from: usize,
    to: usize,
    /// The point between that lies farthest from the line.
    farthest: usize,
    deviation: f64,
}

impl Part {
    fn new(points: &[(f64, f64)], from: usize, to: usize) -> Self {
        let at = |i: usize| points.get(i).copied().unwrap_or_default();
        let ((x0, y0), (x1, y1)) = (at(from), at(to));
        let (dx, dy) = (x1 - x0, y1 - y0);
        let length = dx.hypot(dy);
        let distance = |i: usize| {
            let (x, y) = at(i);
            // To the point itself where the line has no direction.
            if length > 0.0 { ((x - x0) * dy - (y - y0) * dx).abs() / length } else { (x - x0).hypot(y - y0) }
        };
        let farthest = (from + 1..to).map(|i| (i, distance(i))).max_by(|a, b| a.1.total_cmp(&b.1));
        let (farthest, deviation) = farthest.unwrap_or((from, 0.0));
        Self { from, to, farthest, deviation }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trapezoids(points: &[(f64, f64)]) -> f64 {
        points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum()
    }

    #[test]
    fn curves_have_their_ends_and_one_step_for_equal_scores() {
        // Two right above a tie of one right and one wrong, then a wrong one.
        let scored = [(0.9, true), (0.8, true), (0.5, true), (0.5, false), (0.1, false)];
        let roc = roc_curve(&scored).unwrap();
        let third = 1.0 / 3.0;
        assert_eq!(roc, [(0.0, 0.0), (0.0, third), (0.0, 2.0 * third), (0.5, 1.0), (1.0, 1.0)]);
        let curve = precision_recall_curve(&scored).unwrap();
        assert_eq!(curve, [(0.0, 1.0), (third, 1.0), (2.0 * third, 1.0), (1.0, 0.75), (1.0, 0.6)]);
        assert_eq!(thin(&roc, 200), [(0.0, 0.0), (0.0, 2.0 * third), (0.5, 1.0), (1.0, 1.0)]);
        for one_sided in [vec![(0.5, true)], vec![(0.5, false)]] {
            assert_eq!(roc_curve(&one_sided), None);
            assert_eq!(precision_recall_curve(&one_sided).is_some(), one_sided[0].1);
        }
    }

    fn scored() -> impl Strategy<Value = Vec<(f64, bool)>> {
        let photo = (0u32..400, any::<bool>(), 0u32..100);
        proptest::collection::vec(photo, 2..1500).prop_map(|photos| {
            // Right ones score higher on average, and many scores are equal.
            let score = |(score, right, shift)| (f64::from(score + if right { shift } else { 0 }) / 500.0, right);
            let mut scored: Vec<(f64, bool)> = photos.into_iter().map(score).collect();
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            scored
        })
    }

    proptest! {
        #[test]
        fn thinned_roc_curves_keep_their_shape(scored in scored()) {
            if let (Some(auc), Some(roc)) = (roc_auc(&scored), roc_curve(&scored)) {
                prop_assert!((trapezoids(&roc) - auc).abs() < 1e-9, "{} {auc}", trapezoids(&roc));
                let thinned = thin(&roc, 200);
                prop_assert!(thinned.len() <= 200);
                prop_assert_eq!((thinned.first(), thinned.last()), (Some(&(0.0, 0.0)), Some(&(1.0, 1.0))));
                prop_assert!(thinned.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1));
                prop_assert!((trapezoids(&thinned) - auc).abs() < 2e-3, "{} {auc}", trapezoids(&thinned));
            }
        }

        #[test]
        fn precision_recall_curves_end_at_the_share_of_the_class(scored in scored()) {
            if let Some(curve) = precision_recall_curve(&scored) {
                let share = scored.iter().filter(|(_, right)| *right).count() as f64 / scored.len() as f64;
                let thinned = thin(&curve, 200);
                prop_assert!(thinned.len() <= 200);
                let (recall, precision) = *thinned.last().unwrap();
                prop_assert_eq!(recall, 1.0);
                prop_assert!((precision - share).abs() < 1e-12);
                prop_assert!(thinned.windows(2).all(|w| w[0].0 <= w[1].0));
                // No point that was left out lies far from the curve that remains.
                let far = |&(x, y): &(f64, f64)| thinned.windows(2).map(|w| {
                    let ((x0, y0), (x1, y1)) = (w[0], w[1]);
                    let square = (x1 - x0).powi(2) + (y1 - y0).powi(2);
                    let t = if square > 0.0 { (((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / square).clamp(0.0, 1.0) } else { 0.0 };
                    (x - x0 - t * (x1 - x0)).hypot(y - y0 - t * (y1 - y0))
                }).fold(f64::INFINITY, f64::min);
                prop_assert!(curve.iter().all(|p| far(p) < 0.01));
            }
        }
    }
}
