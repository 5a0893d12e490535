//! A learning rate that falls when training stops to improve: torch's and Keras' `ReduceLROnPlateau`.

use serde::{Deserialize, Serialize};

use crate::recipe::{self, Convention, Monitor};

/// torch leaves the rate alone if a reduction would change it by no more than this.
const SMALLEST_CHANGE: f64 = 1e-8;

/// The learning rate and what was counted so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Plateau {
    settings: recipe::Plateau,
    convention: Convention,
    state: PlateauState,
}

/// What a [`Plateau`] must remember to go on later.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlateauState {
    /// The base rate as reduced so far.
    pub lr: f64,
    /// The best value of the monitored figure; none before the first epoch.
    pub best: Option<f64>,
    /// Epochs without improvement that count.
    pub bad_epochs: usize,
    /// What is left of the cooldown.
    pub cooldown: usize,
}

impl Plateau {
    /// Starts with the learning rate `lr`.
    pub fn new(settings: recipe::Plateau, convention: Convention, lr: f64) -> Self {
        Self { settings, convention, state: PlateauState { lr, best: None, bad_epochs: 0, cooldown: 0 } }
    }

    /// The same, going on from a saved [`Self::state`].
    pub fn resume(self, state: PlateauState) -> Self {
        Self { state, ..self }
    }

    /// What [`Self::resume`] needs.
    pub fn state(&self) -> PlateauState {
        self.state
    }

    /// The base rate for the next epoch.
    pub fn lr(&self) -> f64 {
        self.state.lr
    }

    /// What [`Self::observe`] wants to be told.
    pub fn monitor(&self) -> Monitor {
        self.settings.monitor
    }

    /// Takes the monitored figure of an epoch; returns whether the learning rate was reduced.
    pub fn observe(&mut self, value: f64) -> bool {
        let state = &mut self.state;
        // Keras counts the cooldown down first: its last epoch may already be a bad one.
        if self.convention == Convention::Keras && state.cooldown > 0 {
            state.cooldown -= 1;
            state.bad_epochs = 0;
        }
        if is_improvement(&self.settings, self.convention, value, state.best) {
            state.best = Some(value);
            state.bad_epochs = 0;
        } else if self.convention == Convention::Torch || state.cooldown == 0 {
            state.bad_epochs += 1;
        }
        if self.convention == Convention::Torch && state.cooldown > 0 {
            state.cooldown -= 1;
            state.bad_epochs = 0;
        }
        let patience = self.settings.patience;
        let exhausted = match self.convention {
            Convention::Torch => state.bad_epochs > patience,
            Convention::Keras => state.bad_epochs > 0 && state.bad_epochs >= patience,
        };
        exhausted && self.reduce()
    }

    fn reduce(&mut self) -> bool {
        let state = &mut self.state;
        let reduced = (state.lr * self.settings.factor).max(self.settings.minimum);
        let changes = match self.convention {
            Convention::Torch => state.lr - reduced > SMALLEST_CHANGE,
            Convention::Keras => reduced < state.lr,
        };
        // Keras does not even start a cooldown at the minimum.
        if changes || self.convention == Convention::Torch {
            state.cooldown = self.settings.cooldown;
            state.bad_epochs = 0;
        }
        if changes {
            state.lr = reduced;
        }
        changes
    }
}

fn is_improvement(settings: &recipe::Plateau, convention: Convention, value: f64, best: Option<f64>) -> bool {
    // The first figure is the best so far; one that is no number never is.
    let Some(best) = best else { return !value.is_nan() };
    let relative = settings.relative.unwrap_or(convention == Convention::Torch);
    let delta = if relative { settings.min_delta * best } else { settings.min_delta };
    match settings.monitor {
        Monitor::ValLoss => value < best - delta,
        Monitor::ValAccuracy => value > best + delta,
    }
}
