//! What `ft bench` prints for people.

use super::{Machine, Report, Training};
use crate::bench::pipeline::{Pipeline, Stage};
use crate::bench::{LayerTime, Part, Roofline, Spread};
use crate::cli::output::{Column, table};

/// Everything that was measured; the table of layers if `layers`.
pub fn report(report: &Report, layers: bool) -> String {
    let mut text = machine(&report.machine);
    if let Some(training) = &report.training {
        text += &figures(training);
        text += &totals(training);
        if layers {
            text += &layer_table(training);
        }
    }
    if let Some(roofline) = &report.roofline {
        text += &limits(roofline);
    }
    if let Some(pipeline) = &report.pipeline {
        text += &stages(pipeline);
    }
    text
}

/// A line about the machine.
fn machine(machine: &Machine) -> String {
    let device = match (machine.device, &machine.hardware) {
        ("cpu", _) => String::new(),
        (device, None) => format!("{device}, beside "),
        (device, Some(name)) => format!("{device}, {name}, beside "),
    };
    let processor = machine.processor.as_deref().unwrap_or("unknown processor");
    let threads = if machine.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", machine.threads) };
    format!("ft {}, {device}{processor}, {}, {threads}\n", machine.ft_version, machine.instructions)
}

/// Images a second and memory.
fn figures(training: &Training) -> String {
    let Training { model, size, batch, precision, steps, warm_up_steps, step_seconds, .. } = training;
    let frozen = match training.freeze_before.as_str() {
        "none" => "nothing frozen".to_owned(),
        "all" => "all frozen but the head".to_owned(),
        before => format!("frozen before {before}"),
    };
    let row = |name: &str, seconds: Spread| {
        let rate = |seconds: f64| format!("{:.1}", *batch as f64 / seconds);
        let milliseconds = format!("{:.1}", seconds.median * 1e3);
        vec![name.to_owned(), rate(seconds.median), rate(seconds.maximum), rate(seconds.minimum), milliseconds]
    };
    let columns = [
        Column::Left("images/s"),
        Column::Right("median"),
        Column::Right("slowest"),
        Column::Right("fastest"),
        Column::Right("ms a step"),
    ];
    let rows = [
        row("train", step_seconds.train),
        row("train, first half cached", step_seconds.train_cached),
        row("predict", step_seconds.forward),
    ];
    let steps = counted(*steps);
    let memory = match training.peak_memory_bytes {
        Some(bytes) => format!("{} at most while training", megabytes(bytes)),
        None => "the system does not tell how much memory training took".to_owned(),
    };
    let memory = match training.peak_device_memory_bytes {
        Some(bytes) => format!("{memory}; {} of the device's", megabytes(bytes)),
        None => memory,
    };
    format!(
        "{model}, {frozen}, {size} px, batch {batch}, {precision}; {steps} each after {warm_up_steps}\n\n{}\n{memory}\n",
        table(&columns, &rows)
    )
}

/// The time of a training step by kind of layer.
fn totals(training: &Training) -> String {
    let has_limits = training.table.limit_seconds.is_some();
    let mut columns = vec![
        Column::Left("kind"),
        Column::Right("rows"),
        Column::Right("ms"),
        Column::Right("share"),
        Column::Right("GFLOP/s"),
    ];
    columns.extend(has_limits.then_some(Column::Right("limit ms")));
    let row = |part: &Part| {
        let (seconds, share) = (milliseconds(part.seconds), percent(part.share));
        let mut row = vec![part.kind.to_owned(), part.rows.to_string(), seconds, share, whole(part.gflop_per_second)];
        let rows = training.table.layers.iter().filter(|layer| layer.kind == part.kind);
        row.extend(has_limits.then(|| milliseconds(rows.filter_map(|layer| layer.limit_seconds).sum())));
        row
    };
    let rows: Vec<_> = training.table.totals.iter().map(row).collect();
    let (sum, steps) = (training.table.rows_seconds * 1e3, counted(training.steps));
    let limit = training.table.limit_seconds.map(|limit| format!("; the machine's limits allow {:.1} ms", limit * 1e3));
    format!(
        "\nWhere a training step's time goes: {sum:.1} ms, each layer as in its fastest of {steps}{}\n\n{}",
        limit.unwrap_or_default(),
        table(&columns, &rows)
    )
}

/// The time of a training step by layer, the most costly first.
fn layer_table(training: &Training) -> String {
    let has_limits = training.table.limit_seconds.is_some();
    let mut columns = vec![
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
    columns.extend(has_limits.then_some(Column::Right("limit ms")));
    let mut layers: Vec<&LayerTime> = training.table.layers.iter().collect();
    layers.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let row = |layer: &LayerTime| {
        let parts = [layer.forward, layer.backward_input, layer.backward_kernel, layer.rest];
        let mut row = vec![layer.layer.clone(), layer.kernel.clone(), shape(&layer.input), shape(&layer.output)];
        row.extend(parts.iter().map(|part| milliseconds(part.seconds)));
        row.extend([milliseconds(layer.seconds), percent(layer.share)]);
        row.extend(parts.iter().take(3).map(|part| whole(part.gflop_per_second)));
        row.extend(has_limits.then(|| layer.limit_seconds.map(milliseconds).unwrap_or_default()));
        row
    };
    let rows: Vec<_> = layers.into_iter().map(row).collect();
    format!(
        "\nms forwards, backwards to the input (x) and to the kernel (w), and what else the way back needs; GFLOP/s of products:\n\n{}",
        table(&columns, &rows)
    )
}

/// The machine's limits, and from how many operations a byte on products are bound by arithmetic.
fn limits(roofline: &Roofline) -> String {
    let (copy, triad) = (roofline.copy_bytes_per_second / 1e9, roofline.triad_bytes_per_second / 1e9);
    let mut text = format!(
        "\nLimits of this machine: memory {copy:.1} GB/s copy, {triad:.1} GB/s triad, over buffers of {} MiB\n",
        roofline.buffer_bytes >> 20
    );
    for peak in &roofline.products {
        text += &format!(
            "products of {} {:.0} GFLOP/s; what has fewer than {:.0} operations a byte waits for memory\n",
            peak.precision,
            peak.gflop_per_second,
            peak.gflop_per_second / triad
        );
    }
    text
}

/// What a photo costs before the network sees it.
fn stages(pipeline: &Pipeline) -> String {
    let columns = [Column::Left("stage"), Column::Right("images/s"), Column::Right("ms"), Column::Left("")];
    let row = |stage: &Stage| {
        let name = match stage.stage {
            "decode" => "read and decode".to_owned(),
            "fit" => format!("resize to {} px", pipeline.size),
            "all" => "all of it".to_owned(),
            other => other.to_owned(),
        };
        let rate = format!("{:.0}", stage.images_per_second);
        vec![name, rate, format!("{:.3}", stage.seconds * 1e3), stage.steps.join(", ")]
    };
    let rows: Vec<_> = pipeline.stages.iter().map(row).collect();
    let broken = match pipeline.broken {
        0 => String::new(),
        n => format!("; {n} more could not be decoded (`ft data check` says why)"),
    };
    format!(
        "\nFrom photo files to network inputs, on one core: {} photos of {:.2} megapixels{broken}\n\n{}",
        pipeline.photos,
        pipeline.pixels / 1e6,
        table(&columns, &rows)
    )
}

fn counted(steps: usize) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") }
}

/// Sizes of one image's activations: the number of images is the same everywhere.
fn shape(dims: &[usize]) -> String {
    dims.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// Nothing where there is no time at all.
fn milliseconds(seconds: f64) -> String {
    if seconds > 0.0 { format!("{:.2}", seconds * 1e3) } else { String::new() }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn whole(number: Option<f64>) -> String {
    number.map(|number| format!("{number:.0}")).unwrap_or_default()
}
