//! What holds for any recipe: its resolved form loads to the same one, and no text makes the reader panic.

use std::path::PathBuf;

use ft::data::preprocess::{Fit, Interpolation, Normalization, Preprocessing};
use ft::recipe::{
    self, Annealing, BatchNormMode, ClassWeights, ClipScope, Convention, DecayScope, EarlyStopping, Expected,
    Initializer, LossKind, Monitor, MultiStep, OneCycle, OptimizerKind, Phase, Plateau, PrecisionChoice, Recipe,
    Schedule, ScheduleKind, Update,
};
use proptest::prelude::*;

fn preprocessing() -> impl Strategy<Value = Preprocessing> {
    let channel = || prop::array::uniform3(0.01f32..2.0);
    let normalization = prop_oneof![
        Just(Normalization::Tf),
        Just(Normalization::Caffe),
        Just(Normalization::Unit),
        (channel(), channel()).prop_map(|(mean, std)| Normalization::Torch { mean, std }),
    ];
    let fit = prop_oneof![Just(Fit::Squash), (0.5f32..1.0).prop_map(|fraction| Fit::Crop { fraction })];
    (normalization, fit, any::<bool>()).prop_map(|(normalization, fit, antialias)| Preprocessing {
        normalization,
        interpolation: if antialias { Interpolation::Bicubic } else { Interpolation::Nearest },
        antialias,
        fit,
    })
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let text = "[ -~äé\n]{1,12}x";
    let general = (text, text, 0..=i64::MAX as u64, prop::option::of(0.0f64..=1.0));
    let data = (text, prop::option::of(text), 32usize..4097, 0.0f64..0.5, 0..=i64::MAX as u64);
    let layers = (
        text,
        prop::option::of("[a-m_0-9]{2,9}"),
        text,
        prop::collection::vec(text, 0..3),
        prop::option::of(preprocessing()),
    );
    let rates = (1e-12f64..1e3, 0.01f64..1.0, any::<bool>(), prop::option::of(1e-12f64..1.0), 0.0f64..1.0);
    let weights = prop_oneof![
        Just(ClassWeights::None),
        Just(ClassWeights::Auto),
        prop::collection::btree_map(text, 0.0f64..9.0, 0..3).prop_map(ClassWeights::PerClass),
    ];
    let course = (schedules(), prop::collection::vec(phases(), 0..3), any::<(bool, bool)>());
    let stopping = prop::option::of((0usize..9, 0.0f64..1.0, prop::option::of(monitors())));
    (general, data, layers, rates, weights, course, stopping).prop_map(
        |(general, data, layers, rates, weights, course, stopping)| {
            let mut recipe = Recipe { name: general.0, description: general.1, seed: general.2, ..Recipe::default() };
            recipe.expected = general.3.map(|a| Expected {
                dataset: "d".to_owned(),
                test_accuracy: a,
                tolerance: a / 3.0,
                source: "s".to_owned(),
            });
            recipe.data.source = data.0;
            recipe.data.split_file = data.1.map(PathBuf::from);
            recipe.data.image_size = data.2;
            recipe.data.split = recipe::Split { train: 1.0 - data.3, val: data.3 / 2.0, test: data.3 / 2.0 };
            recipe.data.split_seed = data.4;
            recipe.backbone.model = layers.0;
            recipe.backbone.until = layers.1;
            recipe.backbone.freeze_before = layers.2;
            recipe.backbone.initializer = if rates.2 { Initializer::HeUniform } else { Initializer::GlorotUniform };
            recipe.backbone.batch_norm = if rates.2 { BatchNormMode::Stats } else { BatchNormMode::Frozen };
            recipe.weights.missing = layers.3;
            recipe.weights.preprocessing = layers.4;
            recipe.train.lr = rates.0;
            recipe.train.momentum = Some(rates.1 * 0.99);
            recipe.train.nesterov = !rates.2;
            recipe.train.epsilon = rates.3;
            recipe.train.label_smoothing = rates.4;
            recipe.train.class_weights = weights;
            if !rates.2 {
                recipe.train.optimizer = OptimizerKind::Sgd;
                recipe.train.loss = LossKind::Sigmoid;
                recipe.train.convention = Convention::Torch;
            }
            recipe.train.epochs = 5000;
            recipe.train.schedule = course.0;
            recipe.train.phase = course.1;
            if !recipe.train.phase.is_empty() {
                recipe.train.epochs = recipe.train.phase.iter().map(|phase| phase.epochs).sum();
            }
            if course.2.0 {
                recipe.train.clip_norm = Some(rates.0);
                recipe.train.clip_norm_scope = ClipScope::Parameter;
                recipe.train.weight_decay_on = DecayScope::All;
                recipe.train.ema = Some(rates.4);
                recipe.train.lr_scale = [("layer3.0".to_owned(), 0.5), ("head".to_owned(), rates.0)].into();
            }
            if course.2.1 {
                recipe.train.accumulate = 4;
                recipe.train.precision = if rates.2 { PrecisionChoice::Bf16 } else { PrecisionChoice::Auto };
                recipe.train.steps_per_epoch = Some(90);
                recipe.train.validation_steps = Some(20);
                recipe.train.monitor = Monitor::ValLoss;
                recipe.train.lr_decay = rates.1;
                recipe.train.rho = Some(rates.4);
            }
            recipe.train.early_stopping =
                stopping.map(|(patience, min_delta, monitor)| EarlyStopping { patience, min_delta, monitor });
            recipe
        },
    )
}

fn monitors() -> impl Strategy<Value = Monitor> {
    prop_oneof![Just(Monitor::ValAccuracy), Just(Monitor::ValLoss)]
}

fn phases() -> impl Strategy<Value = Phase> {
    (5usize..9, "[a-m_0-9]{2,9}", prop::option::of(1e-9f64..1.0)).prop_map(|(epochs, freeze_before, lr)| Phase {
        epochs,
        freeze_before,
        lr,
    })
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let factor = || 0.01f64..0.99;
    let length = || prop::option::of(0.1f64..9.0);
    let kinds = prop_oneof![
        Just(ScheduleKind::Constant),
        (0.1f64..9.0, factor()).prop_map(|(every, factor)| ScheduleKind::Step { every, factor }),
        (prop::collection::vec(0.1f64..9.0, 0..4), factor()).prop_map(|(mut milestones, factor)| {
            milestones.sort_by(f64::total_cmp);
            ScheduleKind::MultiStep(MultiStep { milestones, factor })
        }),
        (0.1f64..9.0, factor(), any::<bool>()).prop_map(|(every, factor, staircase)| ScheduleKind::Exponential {
            every,
            factor,
            staircase
        }),
        (0.0f64..1.0, length()).prop_map(|(minimum, epochs)| ScheduleKind::Cosine { minimum, epochs }),
        (0.0f64..1.0, factor(), length()).prop_map(|(minimum, power, epochs)| ScheduleKind::Polynomial {
            minimum,
            power,
            epochs
        }),
        (factor(), any::<bool>()).prop_map(|(pct_start, linear)| {
            let anneal = if linear { Annealing::Linear } else { Annealing::Cos };
            ScheduleKind::OneCycle(OneCycle { pct_start, anneal, ..OneCycle::default() })
        }),
        (factor(), 0usize..9, prop::option::of(any::<bool>()), monitors()).prop_map(
            |(factor, patience, relative, monitor)| {
                ScheduleKind::Plateau(Plateau { factor, patience, relative, monitor, ..Plateau::default() })
            }
        ),
    ];
    (kinds, 0.0f64..4.0, factor(), any::<bool>()).prop_map(|(kind, warmup, warmup_start, each_step)| {
        let warmup_epochs = if matches!(kind, ScheduleKind::OneCycle(_)) { 0.0 } else { warmup };
        let fixed = matches!(kind, ScheduleKind::OneCycle(_) | ScheduleKind::Plateau(_));
        let update = (!fixed).then_some(if each_step { Update::Step } else { Update::Epoch });
        Schedule { kind, warmup_epochs, warmup_start, update }
    })
}

proptest! {
    #[test]
    fn the_resolved_recipe_loads_to_the_same_recipe(recipe in recipes()) {
        let text = recipe.to_toml().unwrap();
        let again = recipe::from_text(&text, "resolved.toml", &[]);
        prop_assert!(again.is_ok(), "{:#}\n{text}", again.unwrap_err());
        prop_assert_eq!(again.unwrap(), recipe.clone());
        // The lists of runs read it without the checks.
        let plain: Result<Recipe, _> = toml::from_str(&text);
        prop_assert!(plain.is_ok(), "{}\n{text}", plain.unwrap_err());
        prop_assert_eq!(plain.unwrap(), recipe);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n]{0,80}", set in "[ -~]{0,40}") {
        let _ = recipe::from_text(&text, "any.toml", std::slice::from_ref(&set));
    }
}
