//! What `ft bench` prints for people.

use super::{Machine, Training};
use crate::bench::{LayerTime, Spread};
use crate::cli::output::{Column, table};

/// A line about the machine.
pub fn machine(machine: &Machine) -> String {
    let processor = machine.processor.as_deref().unwrap_or("unknown processor");
    let threads = if machine.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", machine.threads) };
    format!("ft {}, {processor}, {}, {threads}\n", machine.ft_version, machine.instructions)
}

/// Images a second and memory.
pub fn training(training: &Training) -> String {
    let Training { model, size, batch, precision, steps, warm_up_steps, step_seconds, .. } = training;
    let frozen = match training.freeze_before.as_str() {
        "none" => "nothing frozen".to_owned(),
        "all" => "frozen but for the head".to_owned(),
        before => format!("frozen before {before}"),
    };
    let row = |name: &str, seconds: Spread| {
        let rate = |seconds: f64| format!("{:.1}", *batch as f64 / seconds);
        let milliseconds = format!("{:.1}", seconds.median * 1e3);
        vec![name.to_owned(), rate(seconds.median), rate(seconds.maximum), rate(seconds.minimum), milliseconds]
    };
    let columns = [
        Column::Left(""),
        Column::Right("images/s"),
        Column::Right("slowest"),
        Column::Right("fastest"),
        Column::Right("ms a step"),
    ];
    let rows = [
        row("train", step_seconds.train),
        row("train, first half cached", step_seconds.train_cached),
        row("predict", step_seconds.forward),
    ];
    let memory = match training.peak_memory_bytes {
        Some(bytes) => format!("{:.0} MB at most while training", bytes as f64 / 1e6),
        None => "the system does not tell how much memory it took".to_owned(),
    };
    format!(
        "{model}, {frozen}, {size} px, batch {batch}, {precision}; medians of {steps} steps after {warm_up_steps}\n\n{}\n{memory}\n",
        table(&columns, &rows)
    )
}

/// The time of a training step by kind of layer.
pub fn totals(training: &Training) -> String {
    let columns = [
        Column::Left("kind"),
        Column::Right("rows"),
        Column::Right("ms"),
        Column::Right("share"),
        Column::Right("GFLOP/s"),
    ];
    let row = |part: &crate::bench::Part| {
        let (seconds, share) = (milliseconds(part.seconds), percent(part.share));
        vec![part.kind.to_owned(), part.rows.to_string(), seconds, share, whole(part.gflop_per_second)]
    };
    let rows: Vec<_> = training.table.totals.iter().map(row).collect();
    let (sum, steps) = (training.table.rows_seconds * 1e3, training.steps);
    format!(
        "\nWhere a training step's time goes: {sum:.1} ms, each layer as in its fastest of {steps} steps\n\n{}",
        table(&columns, &rows)
    )
}

/// The time of a training step by layer, the most costly first.
pub fn layers(training: &Training) -> String {
    let columns = [
        Column::Left("layer"),
        Column::Left("kernel"),
        Column::Left("input"),
        Column::Left("output"),
        Column::Right("fwd"),
        Column::Right("bwd x"),
        Column::Right("bwd w"),
        Column::Right("rest"),
        Column::Right("ms"),
        Column::Right("share"),
        Column::Right("GF/s fwd"),
        Column::Right("bwd x"),
        Column::Right("bwd w"),
    ];
    let mut layers: Vec<&LayerTime> = training.table.layers.iter().collect();
    layers.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let row = |layer: &LayerTime| {
        let parts = [layer.forward, layer.backward_input, layer.backward_kernel, layer.backward_rest];
        let mut row = vec![layer.layer.clone(), layer.kernel.clone(), shape(&layer.input), shape(&layer.output)];
        row.extend(parts.iter().map(|part| milliseconds(part.seconds)));
        row.extend([milliseconds(layer.seconds), percent(layer.share)]);
        row.extend(parts.iter().take(3).map(|part| whole(part.gflop_per_second)));
        row
    };
    let rows: Vec<_> = layers.into_iter().map(row).collect();
    format!(
        "\nms forwards, backwards to the input (x) and to the kernel (w), the rest of the way back; GFLOP/s of the three products:\n\n{}",
        table(&columns, &rows)
    )
}

/// Sizes of one image's activations: the number of images is the same everywhere.
fn shape(dims: &[usize]) -> String {
    dims.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// Nothing where there is no time at all.
fn milliseconds(seconds: f64) -> String {
    if seconds > 0.0 { format!("{:.2}", seconds * 1e3) } else { String::new() }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn whole(number: Option<f64>) -> String {
    number.map(|number| format!("{number:.0}")).unwrap_or_default()
}
