//! What `ft doctor` prints for people.

use super::Report;
use crate::cli::output::{Column, table};
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::doctor::history::Outcome;
use crate::doctor::lab::Form;
use crate::doctor::step::StepReport;
use crate::doctor::{Findings, Row};

/// Facts, tables and verdict.
pub fn report(report: &Report) -> String {
    let Report { facts, findings, earlier } = report;
    let mut text = machine(facts);
    text += &devices(&facts.devices);
    text += &kept(earlier);
    text += &operations(findings, facts);
    text += &steps(&findings.steps, facts);
    text += &refused(findings);
    text += &verdict(findings);
    text
}

fn machine(facts: &Facts) -> String {
    let commit = facts.commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
    let features = if facts.features.is_empty() { "none".to_owned() } else { facts.features.join(", ") };
    let kernel = facts.kernel.as_deref().unwrap_or("unknown");
    let gigabytes = |bytes: Option<u64>| match bytes {
        Some(bytes) => format!("{:.1} GB", bytes as f64 / 1e9),
        None => "unknown".to_owned(),
    };
    let found: Vec<_> = facts
        .cpu_features
        .iter()
        .map(|feature| format!("{} {}", feature.name, if feature.found { "yes" } else { "no" }))
        .collect();
    let best = facts.levels.iter().rev().find(|level| level.available).map_or("portable", |level| level.name);
    let chosen = match &facts.instructions_limit {
        Some(limit) => format!("{} (FT_INSTRUCTIONS={limit}; the processor has {best})", facts.instructions),
        None => format!("{} (the best that the processor has; FT_INSTRUCTIONS limits it)", facts.instructions),
    };
    let bf16 = match facts.fast_bf16 {
        true => "fast (AMX); --precision auto takes bf16",
        false => "without instructions of its own; --precision auto takes f32",
    };
    let mut lines = vec![
        ("ft", format!("{}{commit}, candle {}, features: {features}", facts.ft_version, facts.candle_version)),
        ("system", format!("{} {}, kernel {kernel}", facts.os, facts.architecture)),
        ("processor", facts.processor.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("cores", format!("{}, {} threads in use", facts.cores, facts.threads)),
        (
            "memory",
            format!(
                "{}, {} available; allocator {}",
                gigabytes(facts.memory_bytes),
                gigabytes(facts.available_bytes),
                facts.allocator
            ),
        ),
        ("features", found.join(", ")),
        ("instructions", chosen),
    ];
    lines.extend(facts.kernels.iter().map(|(what, kernel)| ("kernels", format!("{what}: {kernel}"))));
    lines.push(("bfloat16", bf16.to_owned()));
    lines.into_iter().map(|(name, text)| format!("{name:13} {text}\n")).collect()
}

fn devices(devices: &[DeviceFacts]) -> String {
    let line = |device: &DeviceFacts| {
        let name = device.name.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
        let driver = device.driver.as_deref().map(|driver| format!(", driver {driver}")).unwrap_or_default();
        let state = match &device.reason {
            None => "usable".to_owned(),
            Some(reason) => format!("not usable: {reason}"),
        };
        let kernels = device.kernels.as_deref().map(|kernels| format!("; batch norms: {kernels}")).unwrap_or_default();
        format!("{:13} {}: {state}{name}{driver}{kernels}\n", "device", device.device)
    };
    devices.iter().map(line).collect()
}

/// Results of earlier checks.
fn kept(earlier: &[Outcome]) -> String {
    let line = |outcome: &Outcome| {
        let identity = &outcome.identity;
        let parts = [&identity.name, &identity.driver, &identity.instructions];
        let what: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        let verdict = if outcome.ok { "ok".to_owned() } else { format!("OFF: {}", outcome.off.join(", ")) };
        let day = outcome.checked.get(..16).unwrap_or(&outcome.checked).replace('T', " ");
        format!(
            "{:13} {day} UTC, {} form, ft {}, {} ({}): {verdict}\n",
            "earlier",
            outcome.form,
            identity.ft_version,
            identity.device,
            what.join(", ")
        )
    };
    earlier.iter().map(line).collect()
}

fn operations(findings: &Findings, facts: &Facts) -> String {
    let mut text = String::new();
    for form in Form::ALL {
        let rows: Vec<&Row> = findings.operations.iter().filter(|row| row.form == form).collect();
        if rows.is_empty() {
            continue;
        }
        let instructions = match form {
            Form::ComposedF32 | Form::ComposedTf32 | Form::ComposedBf16 => String::new(),
            Form::NativeF32 | Form::NativeBf16 => format!(", {}", facts.instructions),
        };
        text += &format!(
            "\nOperations on {}, {}{instructions}, against f64: largest relative errors\n\n{}",
            findings.device.device,
            form.title(),
            operation_table(&rows)
        );
    }
    text
}

fn operation_table(rows: &[&Row]) -> String {
    let columns = [
        Column::Left("operation"),
        Column::Right("cases"),
        Column::Right("values"),
        Column::Right("error"),
        Column::Right("limit"),
        Column::Left(""),
        Column::Left("at"),
    ];
    let row = |row: &&Row| {
        vec![
            row.op.to_owned(),
            row.cases.to_string(),
            row.compared.to_string(),
            scientific(row.worst.error),
            scientific(row.worst.limit),
            state(row.ok),
            row.case.clone(),
        ]
    };
    table(&columns, &rows.iter().map(row).collect::<Vec<_>>())
}

/// Each step in a row: an error and its limit in each cell.
fn steps(steps: &[StepReport], facts: &Facts) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let columns = [
        Column::Left("recipe"),
        Column::Right("logits / limit"),
        Column::Right("gradients / limit"),
        Column::Right("statistics / limit"),
        Column::Right("update / limit"),
        Column::Left(""),
        Column::Right("ms"),
        Column::Right("images/s"),
    ];
    let row = |step: &StepReport| {
        let more = step.recipes.len().saturating_sub(1);
        let recipe = step.recipes.first().cloned().unwrap_or_default();
        let recipe = if more == 0 { recipe } else { format!("{recipe} +{more}") };
        let mut row = vec![recipe];
        row.extend(step.figures.iter().map(|f| format!("{} / {}", scientific(f.error), scientific(f.limit))));
        row.push(state(step.figures.iter().all(|figure| figure.ok)));
        row.push(format!("{:.0}", step.seconds.median * 1e3));
        row.push(format!("{:.1}", step.images_per_second));
        row
    };
    let batch = steps.first().map_or(0, |step| step.batch);
    format!(
        "\nA training step of each recipe's network, f32, batch {batch}, {} threads, against composed operations on the processor\n\n{}",
        facts.threads,
        table(&columns, &steps.iter().map(row).collect::<Vec<_>>())
    )
}

fn refused(findings: &Findings) -> String {
    let line = |refused: &crate::doctor::Refused| format!("  {}: {}\n", refused.what, refused.error);
    let lines: String = findings.refused.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\nErrors in place of results:\n{lines}") }
}

fn verdict(findings: &Findings) -> String {
    let broken = findings.broken.map(|name| format!(" ({name} was broken on purpose)")).unwrap_or_default();
    let compared: usize = findings.checks.iter().map(|check| check.compared).sum();
    match findings.ok {
        true => format!(
            "\nAll well{broken}: {} results, {compared} values, {} steps in {:.0} s.\n",
            findings.checks.len(),
            findings.steps.len(),
            findings.seconds
        ),
        false => format!("\nOFF{broken}:\n{}", findings.off.iter().map(|off| format!("  {off}\n")).collect::<String>()),
    }
}

fn state(ok: bool) -> String {
    if ok { "ok" } else { "OFF" }.to_owned()
}

fn scientific(number: f64) -> String {
    if number == 0.0 { "0".to_owned() } else { format!("{number:.1e}") }
}
