//! Ending training when it no longer helps: Keras' `EarlyStopping`.

use serde::{Deserialize, Serialize};

use crate::recipe::{self, Monitor, Train};

/// Counts epochs without improvement.
#[derive(Clone, Debug, PartialEq)]
pub struct EarlyStopping {
    settings: recipe::EarlyStopping,
    monitor: Monitor,
    state: EarlyStoppingState,
}

/// What an [`EarlyStopping`] must remember to go on later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EarlyStoppingState {
    /// The best value of the monitored figure; none before the first epoch.
    pub best: Option<f64>,
    /// Epochs since then.
    pub waited: usize,
}

impl EarlyStopping {
    /// What the recipe asks for, if it does.
    pub fn from_recipe(train: &Train) -> Option<Self> {
        let settings = train.early_stopping?;
        let monitor = settings.monitor.unwrap_or(train.monitor);
        Some(Self { settings, monitor, state: EarlyStoppingState::default() })
    }

    /// The same, going on from a saved [`Self::state`].
    pub fn resume(self, state: EarlyStoppingState) -> Self {
        Self { state, ..self }
    }

    /// What [`Self::resume`] needs.
    pub fn state(&self) -> EarlyStoppingState {
        self.state
    }

    /// What [`Self::observe`] wants to be told.
    pub fn monitor(&self) -> Monitor {
        self.monitor
    }

    /// Takes the monitored figure of an epoch; returns whether training should end. A figure that is no number is no
    /// improvement.
    pub fn observe(&mut self, value: f64) -> bool {
        let delta = self.settings.min_delta;
        let improves = match (self.state.best, self.monitor) {
            (None, _) => !value.is_nan(),
            (Some(best), Monitor::ValLoss) => value + delta < best,
            (Some(best), Monitor::ValAccuracy) => value - delta > best,
        };
        if improves {
            self.state = EarlyStoppingState { best: Some(value), waited: 0 };
            return false;
        }
        self.state.waited += 1;
        self.state.waited >= self.settings.patience.max(1)
    }
}
