//! The layer table and what of it will train, as data and as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::layer::Op;
use super::network::Network;

/// One row of the layer table: a layer as the reference implementation lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Index in the reference's list of layers; head layers go on counting.
    pub index: usize,
    pub name: String,
    /// The Keras class with this behaviour.
    pub class: &'static str,
    /// Without the batch: `[height, width, channels]` or `[features]`.
    pub output_shape: Vec<usize>,
    /// Number of parameters, moving statistics included.
    pub params: usize,
    /// Number of those that training changes by gradient descent.
    pub trainable_params: usize,
    /// `frozen`, `train`, or for batch norm `train`, `stats` (moving statistics only) or `frozen`; empty without parameters.
    pub state: &'static str,
}

/// Numbers of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub total: usize,
    pub trainable: usize,
    /// Frozen weights and moving statistics.
    pub non_trainable: usize,
}

/// All rows of the layer table.
pub fn rows(network: &Network) -> Vec<Row> {
    let graph = network.graph();
    let count = |params: &[usize], wanted: &dyn Fn(usize) -> bool| {
        params.iter().filter(|&&p| wanted(p)).map(|&p| graph.params[p].shape.iter().product::<usize>()).sum()
    };
    (0..graph.layers.len())
        .filter(|&i| !graph.layers[i].inline)
        .map(|i| {
            let layer = &graph.layers[i];
            let trainable_params = count(&layer.params, &|p| network.is_trainable(p));
            let state = match (layer.params.is_empty(), trainable_params > 0) {
                (true, _) => "",
                (false, true) => "train",
                (false, false) if network.is_live_batch_norm(i) => "stats",
                (false, false) => "frozen",
            };
            Row {
                index: graph.reference_index(i),
                name: layer.name.clone(),
                class: layer.op.class(),
                output_shape: layer.shape.dims(),
                params: count(&layer.params, &|_| true),
                trainable_params,
                state,
            }
        })
        .collect()
}

/// Total, trainable and non-trainable parameters, counted as Keras counts them.
pub fn counts(network: &Network) -> Counts {
    rows(network).iter().fold(Counts::default(), |c, row| Counts {
        total: c.total + row.params,
        trainable: c.trainable + row.trainable_params,
        non_trainable: c.non_trainable + row.params - row.trainable_params,
    })
}

/// What will train, block by block: `(block, parameters, trainable parameters, state of its batch norms)`.
pub fn blocks(network: &Network) -> Vec<Block> {
    let graph = network.graph();
    let mut blocks: Vec<Block> = Vec::new();
    for (i, layer) in graph.layers.iter().enumerate() {
        if layer.params.is_empty() {
            continue;
        }
        let name = layer.groups.first().map_or_else(|| layer.name.clone(), Clone::clone);
        if blocks.last().is_none_or(|b| b.name != name) {
            blocks.push(Block { name, params: 0, trainable_params: 0, batch_norm: "none" });
        }
        let Some(block) = blocks.last_mut() else { continue };
        for &param in &layer.params {
            let count = graph.params[param].shape.iter().product::<usize>();
            block.params += count;
            block.trainable_params += if network.is_trainable(param) { count } else { 0 };
        }
        if let Op::BatchNorm(_) = layer.op {
            let trained = layer.params.iter().any(|&p| network.is_trainable(p));
            let state = match (network.is_live_batch_norm(i), trained) {
                (true, true) => "train",
                (true, false) => "statistics only",
                (false, _) => "frozen (inference mode)",
            };
            block.batch_norm = if block.batch_norm == "none" || block.batch_norm == state { state } else { "mixed" };
        }
    }
    blocks
}

/// One stage of the network and what training does to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    pub name: String,
    pub params: usize,
    pub trainable_params: usize,
    pub batch_norm: &'static str,
}

/// The table that is shown before training: block, parameters, trained or frozen, batch norm, learning rate. `learning_rate`
/// gives that of a parameter by its name.
pub fn training_table(network: &Network, learning_rate: &dyn Fn(&str) -> f64) -> String {
    let rates = rates(network, learning_rate);
    let mut text = format!(
        "{:<10} {:>12} {:>12}  {:<8} {:<24} {}\n",
        "block", "parameters", "trainable", "state", "batch norm", "learning rate"
    );
    for block in blocks(network) {
        let trains = block.trainable_params > 0;
        let rate = rates.get(&block.name).map_or("-", String::as_str);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<10} {:>12} {:>12}  {:<8} {:<24} {rate}",
            block.name,
            thousands(block.params),
            thousands(block.trainable_params),
            if trains { "trains" } else { "frozen" },
            block.batch_norm,
        );
    }
    text + &totals(counts(network))
}

/// The learning rates of each block's trainable parameters: one, or the smallest and the largest.
fn rates(network: &Network, learning_rate: &dyn Fn(&str) -> f64) -> BTreeMap<String, String> {
    let graph = network.graph();
    let mut limits: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for layer in &graph.layers {
        let name = layer.groups.first().unwrap_or(&layer.name);
        for &param in layer.params.iter().filter(|&&p| network.is_trainable(p)) {
            let rate = learning_rate(&graph.params[param].name);
            let (low, high) = limits.entry(name.clone()).or_insert((rate, rate));
            (*low, *high) = (low.min(rate), high.max(rate));
        }
    }
    let text = |(low, high): (f64, f64)| if low == high { format!("{low}") } else { format!("{low} to {high}") };
    limits.into_iter().map(|(name, limits)| (name, text(limits))).collect()
}

/// The layer table as text.
pub fn table(network: &Network) -> String {
    let rows = rows(network);
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0).max(5);
    let mut text = format!(
        "{:>5}  {:<width$}  {:<22} {:<18} {:>11}  {}\n",
        "index", "layer", "class", "output", "parameters", "state"
    );
    for row in &rows {
        let shape: Vec<_> = row.output_shape.iter().map(ToString::to_string).collect();
        let line = format!(
            "{:>5}  {:<width$}  {:<22} {:<18} {:>11}  {}",
            row.index,
            row.name,
            row.class,
            shape.join(" × "),
            thousands(row.params),
            row.state
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text + &totals(counts(network))
}

fn totals(counts: Counts) -> String {
    format!(
        "total {} parameters: {} trainable, {} not\n",
        thousands(counts.total),
        thousands(counts.trainable),
        thousands(counts.non_trainable)
    )
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
