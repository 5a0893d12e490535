//! Which test photos to show: deterministic, spread over the classes.

use std::collections::BTreeMap;

/// One row of the prediction table.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// What the photo is called: its path below the data folder.
    pub id: String,
    /// Index of the true class.
    pub truth: usize,
    /// Index of the class with the highest probability.
    pub predicted: usize,
    /// Probability of the predicted class, in 0..=1.
    pub probability: f32,
}

impl Prediction {
    /// Whether the prediction is right.
    pub fn is_right(&self) -> bool {
        self.truth == self.predicted
    }
}

/// Up to `count` right predictions, spread evenly over the classes (differing by one photo at most, unless a class has
/// too few), ordered by class and then by falling probability.
///
/// Of each class, half are the most confident ones and half lie at even steps through the others, so that a sheet shows
/// the best and the typical alike. The order of the rows does not matter.
pub fn right_predictions(rows: &[Prediction], count: usize) -> Vec<&Prediction> {
    let mut classes: BTreeMap<usize, Vec<&Prediction>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.is_right()) {
        classes.entry(row.truth).or_default().push(row);
    }
    let mut classes: Vec<_> = classes.into_values().collect();
    classes.iter_mut().for_each(|class| sort_by_confidence(class));
    let available: Vec<_> = classes.iter().map(Vec::len).collect();
    let shares = fair_shares(&available, count);
    classes.iter().zip(shares).flat_map(|(class, share)| best_and_typical(class, share)).collect()
}

/// Up to `count` wrong predictions, the most confident mistakes first. The order of the rows does not matter.
pub fn wrong_predictions(rows: &[Prediction], count: usize) -> Vec<&Prediction> {
    let mut wrong: Vec<_> = rows.iter().filter(|row| !row.is_right()).collect();
    sort_by_confidence(&mut wrong);
    wrong.truncate(count);
    wrong
}

/// Falling probability (NaN last), ties by name.
fn sort_by_confidence(rows: &mut [&Prediction]) {
    let key = |row: &Prediction| if row.probability.is_nan() { f32::NEG_INFINITY } else { row.probability };
    rows.sort_by(|a, b| key(b).total_cmp(&key(a)).then_with(|| a.id.cmp(&b.id)));
}

/// How many photos each class gets: one each, round by round, while there are any. Where the last round does not reach
/// all classes, it takes some at even steps rather than always the first ones.
fn fair_shares(available: &[usize], count: usize) -> Vec<usize> {
    let mut shares = vec![0; available.len()];
    let mut left = count;
    loop {
        let open: Vec<usize> =
            available.iter().zip(&shares).enumerate().filter(|(_, (a, s))| a > s).map(|(class, _)| class).collect();
        let round = open.len().min(left);
        if round == 0 {
            return shares;
        }
        for step in 0..round {
            if let Some(share) = open.get(step * open.len() / round).and_then(|&class| shares.get_mut(class)) {
                *share += 1;
            }
        }
        left -= round;
    }
}

/// `share` of the rows, which are sorted by falling confidence: the first half from the top, the others at even steps
/// through the rest.
fn best_and_typical<'a>(sorted: &[&'a Prediction], share: usize) -> Vec<&'a Prediction> {
    let best = share.div_ceil(2).min(sorted.len());
    let (top, rest) = sorted.split_at(best);
    let typical = (share - best).min(rest.len());
    // The middle of each of `typical` equal parts; with one, the median.
    let middle = |part: usize| rest.get((2 * part + 1) * rest.len() / (2 * typical)).copied();
    top.iter().copied().chain((0..typical).filter_map(middle)).collect()
}
