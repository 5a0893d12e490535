//! Updates of a single parameter value by its gradients, step after step.

use super::Sum;

/// A rule with Keras' conventions, and its learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// `v = momentum v + g`, `p -= lr v`; with Nesterov `p -= lr (momentum v + g)`.
    Sgd { lr: f64, momentum: f64, nesterov: bool },
    /// `m` and `v` are moving averages of the gradient and its square, corrected for their start at 0;
    /// `p -= lr m / (sqrt(v) + epsilon)`, epsilon beside the root of the uncorrected `v`.
    Adam { lr: f64, beta_1: f64, beta_2: f64, epsilon: f64 },
    /// `v = rho v + (1 - rho) g^2`, `p -= lr g / sqrt(v + epsilon)`.
    RmsProp { lr: f64, rho: f64, epsilon: f64 },
}

impl Update {
    /// The parameter after an update by each of the gradients in turn.
    pub fn apply(self, parameter: f64, gradients: &[f64]) -> Sum {
        let (mut p, mut first, mut second) = (Sum::single(parameter), 0.0, 0.0);
        for (t, &g) in (1i32..).zip(gradients) {
            let change = match self {
                Self::Sgd { lr, momentum, nesterov } => {
                    first = momentum * first + g;
                    lr * if nesterov { momentum * first + g } else { first }
                }
                Self::Adam { lr, beta_1, beta_2, epsilon } => {
                    first = beta_1 * first + (1.0 - beta_1) * g;
                    second = beta_2 * second + (1.0 - beta_2) * g * g;
                    let step = lr * (1.0 - beta_2.powi(t)).sqrt() / (1.0 - beta_1.powi(t));
                    step * first / (second.sqrt() + epsilon)
                }
                Self::RmsProp { lr, rho, epsilon } => {
                    second = rho * second + (1.0 - rho) * g * g;
                    lr * g / (second + epsilon).sqrt()
                }
            };
            p = p.plus(-change);
        }
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(update: Update, gradients: &[f64], expected: f64) {
        let found = update.apply(1.0, gradients).value;
        assert!((found - expected).abs() < 1e-12, "{update:?}: {found}, expected {expected}");
    }

    #[test]
    fn updates_are_those_on_paper() {
        let sgd = |momentum, nesterov| Update::Sgd { lr: 0.5, momentum, nesterov };
        close(sgd(0.0, false), &[1.0, 2.0], 1.0 - 0.5 - 1.0);
        close(sgd(0.5, false), &[1.0, 2.0], 1.0 - 0.5 - 0.5 * 2.5);
        close(sgd(0.5, true), &[1.0], 1.0 - 0.5 * 1.5);
        // The first step of Adam is the learning rate, whatever the gradient.
        let adam = Update::Adam { lr: 0.25, beta_1: 0.9, beta_2: 0.999, epsilon: 0.0 };
        close(adam, &[3.0], 0.75);
        close(adam, &[-1e-3], 1.25);
        close(adam, &[2.0, 2.0], 0.5);
        let rms = Update::RmsProp { lr: 0.5, rho: 0.75, epsilon: 0.0 };
        close(rms, &[4.0], 1.0 - 0.5 * 4.0 / 2.0);
    }
}
