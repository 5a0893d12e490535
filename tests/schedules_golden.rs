//! Learning-rate schedules, plateaus and early stopping against torch and Keras; and what can be saved of them.

mod common;

use common::{assert_values_close, golden_json};
use ft::recipe::{self, Convention, EarlyStopping, Monitor, MultiStep, OneCycle, ScheduleKind, Train, Update};
use ft::train::early_stopping;
use ft::train::plateau::Plateau;
use ft::train::schedule::Schedule;
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn convention(case: &Value) -> Convention {
    match case["convention"].as_str().unwrap() {
        "keras" => Convention::Keras,
        "torch" => Convention::Torch,
        other => panic!("unknown convention {other}"),
    }
}

/// The golden case as a schedule whose epochs are the case's steps, and its length where that matters.
fn plan(case: &Value) -> (recipe::Schedule, usize) {
    let (key, arguments) = (case["key"].as_str().unwrap(), &case["arguments"]);
    let number = |name: &str| arguments[name].as_f64().unwrap_or_else(|| panic!("{key} has no {name}"));
    let plain = |kind| recipe::Schedule { kind, ..recipe::Schedule::default() };
    let steps = |milestones, factor| ScheduleKind::MultiStep(MultiStep { milestones, factor });
    let any = 1000;
    match key {
        "torch_step" => (plain(ScheduleKind::Step { every: number("step_size"), factor: number("gamma") }), any),
        "torch_multistep" => (plain(steps(numbers(&arguments["milestones"]), number("gamma"))), any),
        "torch_exponential" => {
            (plain(ScheduleKind::Exponential { every: 1.0, factor: number("gamma"), staircase: false }), any)
        }
        "torch_cosine" => {
            (plain(ScheduleKind::Cosine { minimum: number("eta_min"), epochs: Some(number("T_max")) }), any)
        }
        "torch_warmup_cosine" => {
            let (linear, cosine) = (&arguments["linear"], &arguments["cosine"]);
            let kind = ScheduleKind::Cosine { minimum: cosine["eta_min"].as_f64().unwrap(), epochs: None };
            let (warmup, length) = (linear["total_iters"].as_f64().unwrap(), cosine["T_max"].as_f64().unwrap());
            let warmup_start = linear["start_factor"].as_f64().unwrap();
            let plan = recipe::Schedule { warmup_epochs: warmup, warmup_start, ..plain(kind) };
            (plan, (warmup + length) as usize)
        }
        "torch_onecycle" => (plain(ScheduleKind::OneCycle(OneCycle::default())), number("total_steps") as usize),
        "keras_exponential" | "keras_exponential_staircase" => {
            let staircase = arguments["staircase"].as_bool().unwrap();
            let (every, factor) = (number("decay_steps"), number("decay_rate"));
            (plain(ScheduleKind::Exponential { every, factor, staircase }), any)
        }
        "keras_piecewise" => {
            let plan = plain(steps(numbers(&arguments["boundaries"]), 0.1));
            (recipe::Schedule { update: Some(Update::Step), ..plan }, any)
        }
        "keras_cosine" => {
            let minimum = number("alpha") * number("initial_learning_rate");
            (plain(ScheduleKind::Cosine { minimum, epochs: None }), number("decay_steps") as usize)
        }
        "keras_warmup_cosine" => {
            let (target, warmup) = (number("warmup_target"), number("warmup_steps"));
            let kind = ScheduleKind::Cosine { minimum: number("alpha") * target, epochs: None };
            let warmup_start = number("initial_learning_rate") / target;
            let plan = recipe::Schedule { warmup_epochs: warmup, warmup_start, ..plain(kind) };
            (plan, (warmup + number("decay_steps")) as usize)
        }
        "keras_polynomial" => {
            let (minimum, power) = (number("end_learning_rate"), number("power"));
            (plain(ScheduleKind::Polynomial { minimum, power, epochs: None }), number("decay_steps") as usize)
        }
        other => panic!("no schedule for the golden case {other}"),
    }
}

fn train(schedule: recipe::Schedule, convention: Convention) -> Train {
    Train { schedule, convention, ..Train::default() }
}

/// A golden case: the rates that a schedule over so many epochs gives at some steps.
struct Case {
    key: String,
    train: Train,
    epochs: usize,
    steps: Vec<u64>,
    expected: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let json = golden_json("optim/schedules.json");
    let case = |case: &Value| {
        let ((plan, epochs), expected) = (plan(case), numbers(&case["lr"]));
        let steps = match case["at_steps"].is_array() {
            true => numbers(&case["at_steps"]).iter().map(|&s| s as u64).collect(),
            false => (0..expected.len() as u64).collect(),
        };
        let key = case["key"].as_str().unwrap().to_owned();
        Case { key, train: train(plan, convention(case)), epochs, steps, expected }
    };
    json["schedules"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn every_schedule_gives_the_learning_rates_of_torch_and_keras() {
    let cases = cases();
    assert_eq!(cases.len(), 12);
    for Case { key, train, epochs, steps, expected } in cases {
        let schedule = Schedule::new(&train, epochs, 1);
        for (step, expected) in steps.into_iter().zip(expected) {
            let lr = schedule.lr(0.1, step);
            assert_values_close(&format!("{key} step {step}"), &[lr], &[expected], 1e-6, 0.0);
        }
    }
}

#[test]
fn keras_schedules_move_with_each_step_and_torch_ones_once_an_epoch() {
    for Case { key, train, epochs, steps, expected } in cases() {
        // One-cycle always moves with each step, and a warm-up too.
        if key == "torch_onecycle" || key.contains("warmup") || key == "keras_piecewise" {
            continue;
        }
        let per_epoch = 7;
        for (&epoch, expected) in steps.iter().zip(expected) {
            let schedule = Schedule::new(&train, epochs, per_epoch as usize);
            let first = schedule.lr(0.1, epoch * per_epoch);
            assert_values_close(&format!("{key} epoch {epoch}"), &[first], &[expected], 1e-6, 0.0);
            let inside = (1..per_epoch).map(|step| schedule.lr(0.1, epoch * per_epoch + step));
            let moves = inside.filter(|lr| *lr != first).count();
            let steady = train.convention == Convention::Torch || key.ends_with("staircase") || epoch >= epochs as u64;
            assert_eq!(moves > 0, !steady, "{key} epoch {epoch}: {moves} other rates");
        }
    }
}

#[test]
fn a_warm_up_stands_in_front_of_any_schedule() {
    let kinds = [
        ScheduleKind::Constant,
        ScheduleKind::Step { every: 2.0, factor: 0.5 },
        ScheduleKind::MultiStep(MultiStep { milestones: vec![1.0, 3.0], factor: 0.5 }),
        ScheduleKind::Exponential { every: 1.0, factor: 0.5, staircase: false },
        ScheduleKind::Cosine { minimum: 0.0, epochs: Some(4.0) },
        ScheduleKind::Plateau(recipe::Plateau::default()),
    ];
    for kind in kinds {
        for convention in [Convention::Keras, Convention::Torch] {
            let without = recipe::Schedule { kind: kind.clone(), ..recipe::Schedule::default() };
            let with = recipe::Schedule { warmup_epochs: 1.5, warmup_start: 0.2, ..without.clone() };
            let without = Schedule::new(&train(without, convention), 8, 10);
            let with = Schedule::new(&train(with, convention), 8, 10);
            for step in 0..15 {
                let expected = 0.1 * (0.2 + 0.8 * step as f64 / 15.0);
                assert_values_close(&format!("{kind:?} step {step}"), &[with.lr(0.1, step)], &[expected], 1e-12, 0.0);
            }
            for step in 0..60 {
                assert_eq!(with.lr(0.1, step + 15), without.lr(0.1, step), "{kind:?} {convention} step {step}");
            }
        }
    }
}

#[test]
fn the_shortest_trainings_have_finite_rates() {
    let kinds = [
        ScheduleKind::OneCycle(OneCycle::default()),
        ScheduleKind::Cosine { minimum: 0.0, epochs: None },
        ScheduleKind::Polynomial { minimum: 0.0, power: 2.0, epochs: None },
    ];
    for kind in kinds {
        for (epochs, per_epoch) in [(1, 1), (1, 2), (2, 1), (1, 4), (3, 2)] {
            let plan = recipe::Schedule { kind: kind.clone(), ..recipe::Schedule::default() };
            let schedule = Schedule::new(&train(plan, Convention::Keras), epochs, per_epoch);
            for step in 0..(epochs * per_epoch) as u64 {
                let lr = schedule.lr(0.1, step);
                assert!((0.0..=0.1).contains(&lr), "{kind:?}, {epochs} epochs of {per_epoch}, step {step}: {lr}");
            }
        }
    }
}

/// The golden case's settings, and the losses that all cases see.
fn plateau(case: &Value) -> recipe::Plateau {
    let arguments = &case["arguments"];
    let number = |name: &str| arguments[name].as_f64();
    let count = |name: &str| arguments[name].as_u64().map(|n| n as usize);
    recipe::Plateau {
        factor: number("factor").unwrap(),
        patience: count("patience").unwrap(),
        min_delta: number("threshold").or(number("min_delta")).unwrap_or(1e-4),
        relative: arguments["threshold_mode"].as_str().map(|mode| mode == "rel"),
        cooldown: count("cooldown").unwrap_or(0),
        minimum: number("min_lr").unwrap_or(0.0),
        monitor: Monitor::ValLoss,
    }
}

#[test]
fn a_plateau_reduces_the_rate_when_torch_and_keras_do_also_after_a_restart_from_its_state() {
    let json = golden_json("optim/schedules.json");
    let losses = numbers(&json["plateau_losses"]);
    let cases = json["reduce_on_plateau"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let (settings, convention) = (plateau(case), convention(case));
        // Accuracies that mirror the losses must be treated alike, if improvements are absolute.
        let relative = settings.relative.unwrap_or(convention == Convention::Torch);
        let mirrored = if relative { &[Monitor::ValLoss][..] } else { &[Monitor::ValLoss, Monitor::ValAccuracy] };
        for &monitor in mirrored {
            let settings = recipe::Plateau { monitor, ..settings };
            let mut plateau = Plateau::new(settings, convention, case["base"].as_f64().unwrap());
            for (epoch, (loss, expected)) in losses.iter().zip(numbers(&case["lr"])).enumerate() {
                let before = plateau.lr();
                let reduced = plateau.observe(if monitor == Monitor::ValLoss { *loss } else { -loss });
                let what = format!("{convention} {} epoch {epoch} {monitor}", case["arguments"]);
                assert_values_close(&what, &[plateau.lr()], &[expected], 1e-6, 0.0);
                assert_eq!(reduced, plateau.lr() < before, "{what}");
                let saved = serde_json::to_string(&plateau.state()).unwrap();
                let resumed = Plateau::new(settings, convention, 1.0).resume(serde_json::from_str(&saved).unwrap());
                assert_eq!(resumed, plateau, "{what}");
                plateau = resumed;
            }
        }
    }
}

#[test]
fn early_stopping_fires_when_keras_does_also_after_a_restart_from_its_state() {
    let json = golden_json("optim/schedules.json");
    let losses = numbers(&json["plateau_losses"]);
    let cases = json["early_stopping"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        for monitor in [Monitor::ValLoss, Monitor::ValAccuracy] {
            let settings = EarlyStopping {
                patience: case["arguments"]["patience"].as_u64().unwrap() as usize,
                min_delta: case["arguments"]["min_delta"].as_f64().unwrap_or(0.0),
                monitor: None,
            };
            let recipe = Train { early_stopping: Some(settings), monitor, ..Train::default() };
            let new = || early_stopping::EarlyStopping::from_recipe(&recipe).unwrap();
            let mut stopping = new();
            assert_eq!(stopping.monitor(), monitor);
            let mut stopped = None;
            for (epoch, loss) in losses.iter().enumerate() {
                let stops = stopping.observe(if monitor == Monitor::ValLoss { *loss } else { -loss });
                let saved = serde_json::to_string(&stopping.state()).unwrap();
                stopping = new().resume(serde_json::from_str(&saved).unwrap());
                if stops {
                    stopped = Some(epoch as u64);
                    break;
                }
            }
            let expected = case["stopped"].as_bool().unwrap().then(|| case["stopped_after_epoch"].as_u64().unwrap());
            assert_eq!(stopped, expected, "{}", case["arguments"]);
            assert_eq!(stopping.state().best.map(f64::abs), case["best"].as_f64(), "{}", case["arguments"]);
        }
    }
}

#[test]
fn a_figure_that_is_no_number_is_never_an_improvement() {
    let mut plateau = Plateau::new(recipe::Plateau { patience: 1, ..Default::default() }, Convention::Keras, 1.0);
    assert!(plateau.observe(f64::NAN));
    let recipe =
        Train { early_stopping: Some(EarlyStopping { patience: 2, ..Default::default() }), ..Train::default() };
    let mut stopping = early_stopping::EarlyStopping::from_recipe(&recipe).unwrap();
    assert!(!stopping.observe(f64::NAN) && stopping.observe(f64::NAN));
}
