//! Temperature scaling: probabilities that can be taken at their word.

use super::metrics::PredictionTable;

/// Temperatures are looked for between these.
pub const BOUNDS: (f64, f64) = (0.05, 20.0);

/// The temperature that logits are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    pub value: f64,
    /// Whether it lies at one of [`BOUNDS`]. At the lower one, the photos are told apart without a mistake, and the loss falls with
    /// the temperature for ever; at the upper one, the logits say nothing about them.
    pub at_bound: bool,
}

/// The temperature with the lowest negative log-likelihood on photos that were not trained on, as in Guo, Pleiss, Sun and
/// Weinberger, *On Calibration of Modern Neural Networks* (ICML 2017), found by golden-section search. The loss is convex in
/// the reciprocal of the temperature, so there is one minimum. If nothing is better than 1, it is 1.
pub fn fit_temperature(table: &PredictionTable) -> Temperature {
    let loss = |log: f64| table.scaled(log.exp()).nll();
    let (low, high) = (BOUNDS.0.ln(), BOUNDS.1.ln());
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut a, mut b) = (low, high);
    let (mut c, mut d) = (b - golden * (b - a), a + golden * (b - a));
    let (mut at_c, mut at_d) = (loss(c), loss(d));
    while b - a > 1e-6 {
        if at_c <= at_d {
            (b, d, at_d) = (d, c, at_c);
            c = b - golden * (b - a);
            at_c = loss(c);
        } else {
            (a, c, at_c) = (c, d, at_d);
            d = a + golden * (b - a);
            at_d = loss(d);
        }
    }
    // The ends themselves, which the search only comes near to, and 1, which must not be beaten by worse.
    let candidates = [0.0, low, high, (a + b) / 2.0].map(|log| (log, loss(log)));
    let best = candidates.into_iter().reduce(|best, next| if next.1 < best.1 { next } else { best });
    let log = best.map_or(0.0, |(log, _)| log);
    Temperature { value: log.exp(), at_bound: log - low < 1e-5 || high - log < 1e-5 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recipe::LossKind;

    #[test]
    fn the_temperature_of_two_classes_is_the_one_that_can_be_computed() {
        // Three of four right at a logit difference of 4: sigmoid(4 / T) must be 3/4, so T = 4 / ln 3.
        let rows = [vec![4.0, 0.0], vec![4.0, 0.0], vec![4.0, 0.0], vec![4.0, 0.0]];
        let table = PredictionTable::new(&rows, &[0, 0, 0, 1]).unwrap();
        let temperature = fit_temperature(&table);
        assert!((temperature.value - 4.0 / 3f64.ln()).abs() < 1e-4, "{temperature:?}");
        assert!(!temperature.at_bound);
        let calibrated = table.scaled(temperature.value);
        assert!(calibrated.calibration_error(15) < 1e-4, "{}", calibrated.calibration_error(15));
    }

    #[test]
    fn photos_without_a_mistake_end_at_the_lower_bound_and_hopeless_ones_at_the_upper() {
        let right = PredictionTable::new(&[vec![1.0, 0.0], vec![0.0, 1.0]], &[0, 1]).unwrap();
        assert_eq!(fit_temperature(&right), Temperature { value: BOUNDS.0.ln().exp(), at_bound: true });
        let wrong = PredictionTable::new(&[vec![1.0, 0.0], vec![0.0, 1.0]], &[1, 0]).unwrap();
        assert_eq!(fit_temperature(&wrong), Temperature { value: BOUNDS.1.ln().exp(), at_bound: true });
        // Nothing to gain: the loss is 0 already, or does not depend on the temperature.
        for rows in [[vec![1e4, 0.0], vec![0.0, 1e4]], [vec![0.0, 0.0], vec![0.0, 0.0]]] {
            let table = PredictionTable::new(&rows, &[0, 1]).unwrap();
            assert_eq!(fit_temperature(&table), Temperature { value: 1.0, at_bound: false });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn the_loss_never_grows_and_has_no_better_neighbour(
            photos in proptest::collection::vec((proptest::collection::vec(-20f32..20.0, 3), 0usize..3), 1..60),
            sigmoid in any::<bool>(),
        ) {
            let (rows, labels): (Vec<Vec<f32>>, Vec<usize>) = photos.into_iter().unzip();
            let kind = if sigmoid { LossKind::Sigmoid } else { LossKind::Softmax };
            let table = PredictionTable::new(&rows, &labels).unwrap().with_loss(kind);
            let Temperature { value, .. } = fit_temperature(&table);
            let loss = |temperature: f64| table.scaled(temperature).nll();
            prop_assert!(loss(value) <= table.nll());
            prop_assert!((BOUNDS.0 - 1e-9..=BOUNDS.1 + 1e-9).contains(&value));
            for other in [value * 0.99, value * 1.01, 0.5, 2.0, 5.0] {
                let other = other.clamp(BOUNDS.0, BOUNDS.1);
                prop_assert!(loss(value) <= loss(other) + 1e-9, "{value}: {} but {other}: {}", loss(value), loss(other));
            }
        }
    }
}
