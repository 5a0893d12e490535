//! The average of the weights over the steps of training (Polyak and Juditsky 1992), with exponentially decaying memory.
//!
//! As `timm.utils.ModelEmaV2`, batch norm's moving statistics are averaged like the weights: `a = d a + (1 - d) p` after
//! each update. As in `tf.train.ExponentialMovingAverage` with `num_updates`, the decay warms up, `d = min(decay,
//! (1 + n) / (10 + n))` at update n: else an average of 0.999 would consist of the initial weights for a thousand steps.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};

use crate::models::Network;

/// Name of the update counter in [`Ema::state`]. Averages are called `average/parameter`.
const UPDATES: &str = "updates";
const PREFIX: &str = "average/";

/// Averages of all parameters and statistics that training changes, by name.
///
/// Training goes on from the raw weights; [`Self::swap`] puts the averages into the network to evaluate or save it.
pub struct Ema {
    decay: f64,
    updates: u64,
    average: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average without values; `decay` from 0 to below 1.
    pub fn new(decay: f64) -> Self {
        Self { decay, updates: 0, average: BTreeMap::new() }
    }

    /// To be called whenever another part of the network is frozen. What changes from now on and did not before starts
    /// from its value; what is frozen from now on keeps its raw value, which the cached first half is computed from.
    ///
    /// # Errors
    /// If a parameter cannot be copied.
    pub fn begin(&mut self, network: &Network) -> Result<()> {
        let mut known = std::mem::take(&mut self.average);
        for (name, value) in network.changing_parameters() {
            let average = match known.remove(name) {
                Some(average) => average,
                // Of its own: the optimiser works in place.
                None => value.copy()?,
            };
            self.average.insert(name.to_owned(), average);
        }
        Ok(())
    }

    /// The decay of the update after `updates` others.
    pub fn decay_at(&self, updates: u64) -> f64 {
        let n = (updates + 1) as f64;
        self.decay.min((1.0 + n) / (10.0 + n))
    }

    /// Takes the network's present values into the average; after each update of the optimiser.
    ///
    /// # Errors
    /// If the network has no parameter of that name: [`Self::begin`] was called with another one.
    pub fn update(&mut self, network: &Network) -> Result<()> {
        let decay = self.decay_at(self.updates);
        for (name, value) in network.changing_parameters() {
            let average = self.average.get_mut(name).with_context(|| format!("there is no average of {name}"))?;
            *average = ((&*average * decay)? + (value * (1.0 - decay))?)?;
        }
        self.updates += 1;
        Ok(())
    }

    /// Exchanges averages and raw weights, bit for bit; a second call undoes the first.
    ///
    /// # Errors
    /// If the network is another one.
    pub fn swap(&mut self, network: &mut Network) -> Result<()> {
        network.swap_parameters(&mut self.average)
    }

    /// Everything needed to go on later: a counter and `average/parameter`.
    ///
    /// # Errors
    /// If there were more than 2⁶³ updates.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let updates = i64::try_from(self.updates).context("too many updates")?;
        let averages = self.average.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.clone()));
        let counter = (UPDATES.to_owned(), Tensor::new(updates, &Device::Cpu)?);
        Ok(averages.chain([counter]).collect())
    }

    /// Goes back to a saved [`Self::state`].
    ///
    /// # Errors
    /// If it is the state of something else; then nothing changes.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let updates = state.get(UPDATES).context("the state of the averaged weights has no `updates`")?;
        let updates = updates.to_dtype(DType::I64)?.to_scalar::<i64>().context("`updates` of the averaged weights")?;
        ensure!(updates >= 0, "the averaged weights count {updates} updates");
        let average = state.iter().filter(|(name, _)| *name != UPDATES).map(|(name, value)| {
            let name = name.strip_prefix(PREFIX).with_context(|| format!("{name} is no average of weights"))?;
            Ok((name.to_owned(), value.copy()?))
        });
        self.average = average.collect::<Result<_>>()?;
        self.updates = updates.unsigned_abs();
        Ok(())
    }
}
