//! `ft doctor`: this machine passes, what is broken is found and named, results are kept, and a device is checked before its first use.

mod common;
#[path = "common/networks.rs"]
mod networks;
mod workshop;

use serde_json::Value;
use workshop::{Outcome, Workshop};

/// Runs `ft` with variables set.
fn with(shop: &Workshop, variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = shop.ft(arguments).envs(variables.iter().copied()).output().expect("ft starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8 output");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn kept(shop: &Workshop) -> usize {
    std::fs::read_dir(shop.path("cache/doctor")).map_or(0, Iterator::count)
}

#[track_caller]
fn rows<'a>(report: &'a Value, op: &str) -> Vec<&'a Value> {
    let rows = report["operations"].as_array().expect("operations");
    rows.iter().filter(|row| row["op"] == op).collect()
}

#[test]
fn this_machine_passes_and_the_json_has_every_comparison() {
    let shop = Workshop::new();
    let outcome: Outcome = shop.run(&["doctor", "--quick", "--json"]).code(0);
    let report = outcome.json();
    assert_eq!((&report["ok"], &report["form"]), (&Value::Bool(true), &Value::from("quick")), "{}", outcome.all());
    let facts = &report["facts"];
    assert_eq!(facts["ft_version"], env!("CARGO_PKG_VERSION"));
    assert!(facts["kernels"].as_array().is_some_and(|kernels| kernels.len() == 3), "{facts}");
    let devices = facts["devices"].as_array().expect("devices");
    assert!(devices.iter().any(|device| device["device"] == "cpu" && device["usable"] == true), "{facts}");
    // Each form on the processor, and for each the worst of its cases, which is within its limit.
    let forms: Vec<_> = rows(&report, "conv2d.backward_kernel").into_iter().map(|row| row["form"].clone()).collect();
    assert_eq!(forms, ["native_f32", "native_bf16", "composed_f32", "composed_bf16"]);
    for check in report["checks"].as_array().expect("checks") {
        let figure = |name: &str| check["worst"][name].as_f64().unwrap_or_else(|| panic!("{name} of {check}"));
        assert!(check["ok"] == true && figure("error") <= figure("limit") && figure("limit") < 0.005, "{check}");
    }
    let steps = report["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|step| step["seconds"]["median"].as_f64().is_some_and(|s| s > 0.0)), "{steps:?}");
    assert_eq!(steps.len(), 2);
    assert_eq!(report["earlier"], Value::Array(vec![]));
    assert_eq!(kept(&shop), 1, "the result is kept");

    // The next one shows it, and its tables fit a usual window.
    let text = shop.run(&["doctor", "--quick", "--threads", "1"]).code(0).stdout;
    for part in
        ["instructions  ", "kernels  ", "not usable", "earlier  ", "quick form", "native kernels, bf16", "All well"]
    {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(!text.contains("OFF"), "{text}");
    let longest = text.lines().filter(|line| !line.starts_with("device")).map(|line| line.chars().count()).max();
    assert!(longest.is_some_and(|longest| longest <= 120), "{text}");
    assert_eq!(kept(&shop), 1, "in the place of the earlier one");
}

#[test]
fn a_broken_operation_fails_the_check_and_is_named() {
    let shop = Workshop::new();
    let broken = ("FT_DOCTOR_BREAK", "conv2d.backward_input");
    let (code, stdout, stderr) = with(&shop, &[broken], &["doctor", "--quick"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("error: off: conv2d.backward_input (native kernels, f32)"), "{stderr}");
    // The table is there all the same, and accuses nothing else.
    let off: Vec<&str> = stdout.lines().filter(|line| line.contains("  OFF  ")).collect();
    assert!(off.len() == 4 && off.iter().all(|line| line.starts_with("conv2d.backward_input ")), "{stdout}");
    assert_eq!(kept(&shop), 0, "it says nothing about this machine");
}

#[test]
fn a_broken_step_fails_the_check_and_is_named() {
    let shop = Workshop::new();
    let (code, stdout, stderr) =
        with(&shop, &[("FT_DOCTOR_BREAK", "step.gradients")], &["doctor", "--quick", "--json"]);
    assert_eq!(code, Some(1), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(
        report["off"],
        serde_json::json!(["step.gradients of petals-transfer", "step.gradients of resnet20-cifar10"])
    );
}

#[test]
fn what_cannot_be_broken_or_opened_is_told() {
    let shop = Workshop::new();
    let (code, _, stderr) = with(&shop, &[("FT_DOCTOR_BREAK", "conv2d.backward_inptu")], &["doctor", "--quick"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("did you mean \"conv2d.backward_input\"?"), "{stderr}");
    if !cfg!(feature = "cuda") {
        shop.run(&["doctor", "--device", "cuda"]).code(1).says(&["--features cuda"]);
    }
}

/// On the processor only if it is asked for, as here; on a GPU always.
#[test]
fn a_device_is_checked_before_its_first_use_until_it_has_passed() {
    let shop = Workshop::new();
    let predict = ["predict", "--model", "nothing", "rose.jpg"];
    let (_, _, stderr) = with(&shop, &[], &predict);
    assert!(!stderr.contains("first use") && kept(&shop) == 0, "{stderr}");
    let always = ("FT_DOCTOR", "always");
    let (code, _, stderr) = with(&shop, &[always, ("FT_DOCTOR_BREAK", "max_pool")], &predict);
    assert_eq!(code, Some(1), "{stderr}");
    for part in ["cpu does not compute what it should", "max_pool (native kernels, f32)", "ft doctor --device cpu"] {
        assert!(stderr.contains(part), "{part:?} is missing: {stderr}");
    }
    let (_, _, stderr) = with(&shop, &[always], &predict);
    assert!(stderr.contains("first use of this device") && kept(&shop) == 1, "{stderr}");
    let (_, _, stderr) = with(&shop, &[always], &predict);
    assert!(!stderr.contains("first use") && stderr.contains("rose.jpg"), "it goes on with its work: {stderr}");
    let (code, _, stderr) = with(&shop, &[("FT_DOCTOR", "sometimes")], &predict);
    assert!(code == Some(2) && stderr.contains("never, gpu, always"), "{stderr}");
}
