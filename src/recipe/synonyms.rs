//! What users of other tools (Keras, PyTorch, fastai, timm, Ultralytics, Lightning, Transformers) call the keys of a recipe, and where
//! a name leads that is no key where it stands.

use std::collections::BTreeSet;
use std::fmt;

use super::problems::Problems;
use super::read;
use super::tree;
use crate::error::closest;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Keys with their sections, such as `train.lr`; several where the name alone does not say which.
    Keys(Vec<String>),
    /// A key with the value that does it.
    Value(&'static str, &'static str),
    /// A step of `augmentation.steps`.
    Step(&'static str),
    /// No key: how it is done here, as half a sentence.
    Otherwise(&'static str),
}

impl fmt::Display for Meaning {
    /// What goes behind `unknown key; `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                write!(f, "did you mean {}?", keys.join(" or "))
            }
            Self::Value(key, value) => write!(f, "did you mean `{key} = {value:?}`?"),
            Self::Step(step) => write!(f, "did you mean the step `{step}` of `augmentation.steps`?"),
            Self::Otherwise(sentence) => f.write_str(sentence),
        }
    }
}

/// What stands behind a row of [`SYNONYMS`].
#[derive(Clone, Copy)]
enum Here {
    Key(&'static str),
    Value(&'static str, &'static str),
    Step(&'static str),
    Otherwise(&'static str),
}

use Here::{Key, Otherwise, Step, Value};

/// Names, in lower case with `_`, and what they are here.
#[rustfmt::skip] // a table
const SYNONYMS: &[(&[&str], Here)] = &[
    (&["learning_rate", "lr0", "base_lr", "init_lr", "initial_lr", "initial_learning_rate", "base_learning_rate", "max_lr", "lr_max", "rate", "eta"], Key("train.lr")),
    (&["lrf", "min_lr", "lr_min", "eta_min", "final_lr", "end_lr", "end_learning_rate"], Otherwise("the last learning rate is `train.schedule.minimum`, itself and not as a factor, of `train.schedule.kind = \"cosine\"` or \"polynomial\"")),
    (&["batch", "bs", "train_batch_size", "per_device_train_batch_size", "minibatch_size", "mini_batch_size"], Key("train.batch_size")),
    (&["eval_batch_size", "val_batch_size", "validation_batch_size", "test_batch_size", "per_device_eval_batch_size"], Key("train.evaluation_batch_size")),
    (&["n_epochs", "n_epoch", "num_epochs", "nb_epochs", "nb_epoch", "max_epochs", "total_epochs", "num_train_epochs"], Key("train.epochs")),
    (&["imgsz", "img_size", "img_sz", "input_size", "input_shape", "target_size", "crop_size", "resolution", "resize", "size", "image_height", "image_width", "img_height", "img_width"], Key("data.image_size")),
    (&["data", "dataset", "dataset_name", "dataset_path", "data_dir", "data_path", "data_root", "dataroot", "root", "root_dir", "train_dir", "train_data_dir", "image_dir", "image_folder", "img_dir"], Key("data.source")),
    (&["val_split", "validation_split", "val_size", "valid_size", "validation_size", "valid_pct", "val_pct", "val_fraction", "val_ratio"], Key("data.split.val")),
    (&["test_split", "test_size", "test_fraction", "test_ratio", "test_pct"], Key("data.split.test")),
    (&["train_split", "train_size", "train_fraction", "train_ratio", "split_ratio"], Key("data.split.train")),
    (&["split_csv", "splits_file", "split_path"], Key("data.split_file")),
    (&["num_classes", "nc", "n_classes", "nb_classes", "num_labels", "classes", "class_names", "names", "labels"], Otherwise("the classes are those of the photos, by folder or label, and the layer `dense(classes)` of `head.layers` follows them")),
    (&["backbone", "arch", "architecture", "model_name", "model_type", "net", "network", "base_model", "encoder"], Key("backbone.model")),
    (&["freeze", "frozen", "freeze_layers", "frozen_layers", "freeze_backbone", "freeze_until", "freeze_at", "frozen_stages", "unfreeze", "unfreeze_from", "trainable", "trainable_layers", "fine_tune_at", "fine_tune_from"], Key("backbone.freeze_before")),
    (&["freeze_epochs", "unfreeze_epochs", "frozen_epochs", "gradual_unfreezing", "phases"], Key("train.phase")),
    (&["freeze_bn", "bn_freeze", "frozen_bn", "train_bn", "bn", "batchnorm"], Key("backbone.batch_norm")),
    (&["kernel_initializer", "weight_init", "init"], Key("backbone.initializer")),
    (&["weights", "pretrained", "pretrained_weights", "weights_path", "weight_file", "checkpoint", "checkpoint_path", "initial_checkpoint", "ckpt", "ckpt_path"], Key("weights.source")),
    (&["mean", "std", "normalize", "norm_mean", "norm_std", "image_mean", "image_std", "rescale", "interpolation"], Otherwise("how photos become numbers comes with the weights; `weights.preprocessing` replaces it")),
    (&["dropout", "drop", "drop_rate", "dropout_rate"], Otherwise("dropout is a layer of `head.layers`, as in [\"gap\", \"dropout(0.3)\", \"dense(classes)\"]")),
    (&["head", "pooling", "global_pool", "pool", "fc", "classifier", "include_top", "dense_units", "hidden_units"], Key("head.layers")),
    (&["opt", "optim"], Key("train.optimizer")),
    (&["mom"], Key("train.momentum")),
    (&["wd", "decay", "l2", "l2_reg"], Key("train.weight_decay")),
    (&["beta1", "adam_beta1"], Key("train.beta_1")),
    (&["beta2", "adam_beta2"], Key("train.beta_2")),
    (&["betas", "opt_betas"], Otherwise("they are `train.beta_1` and `train.beta_2`")),
    (&["eps", "adam_epsilon", "opt_eps"], Key("train.epsilon")),
    (&["clipnorm", "clip_grad", "clip_grad_norm", "grad_clip", "gradient_clip_val", "max_grad_norm", "max_norm"], Key("train.clip_norm")),
    (&["clipvalue", "clip_grad_value"], Key("train.clip_value")),
    (&["accum", "grad_accum", "grad_accum_steps", "accumulation_steps", "gradient_accumulation_steps", "accumulate_grad_batches"], Key("train.accumulate")),
    (&["ema_decay", "model_ema", "model_ema_decay", "use_ema", "ema_momentum"], Key("train.ema")),
    (&["smoothing", "label_smoothing_factor"], Key("train.label_smoothing")),
    (&["class_weight", "cls_weights", "loss_weights"], Key("train.class_weights")),
    (&["criterion", "loss_fn", "loss_function", "objective"], Key("train.loss")),
    (&["amp", "fp16", "bf16", "half", "mixed_precision", "autocast", "dtype"], Key("train.precision")),
    (&["patience", "early_stopping", "early_stopping_patience", "early_stop", "es_patience"], Key("train.early_stopping.patience")),
    (&["min_delta"], Key("train.early_stopping.min_delta")),
    (&["metric", "eval_metric", "metric_for_best_model"], Key("train.monitor")),
    (&["schedule", "scheduler", "lr_scheduler", "lr_schedule", "lr_scheduler_type", "lr_policy", "sched"], Key("train.schedule.kind")),
    (&["cos_lr", "cosine", "cosine_annealing", "cosine_decay"], Value("train.schedule.kind", "cosine")),
    (&["one_cycle", "onecycle", "fit_one_cycle"], Value("train.schedule.kind", "one_cycle")),
    (&["plateau", "reduce_lr_on_plateau"], Value("train.schedule.kind", "plateau")),
    (&["warmup", "warmup_steps", "num_warmup_steps", "warmup_ratio"], Key("train.schedule.warmup_epochs")),
    (&["gamma", "lr_gamma", "decay_rate"], Key("train.schedule.factor")),
    (&["step_size", "lr_step_size", "decay_epochs"], Key("train.schedule.every")),
    (&["t_max"], Key("train.schedule.epochs")),
    (&["layer_decay", "llrd", "discriminative_lr", "layerwise_lr_decay"], Key("train.lr_decay")),
    (&["lr_mult", "lr_multiplier", "backbone_lr", "head_lr"], Key("train.lr_scale")),
    (&["save_period", "save_every", "save_steps", "checkpoint_interval"], Key("train.checkpoint_every")),
    (&["save_total_limit", "save_top_k"], Key("train.keep_checkpoints")),
    (&["log_interval", "logging_steps", "log_every_n_steps", "print_freq"], Key("train.log_every")),
    (&["cache", "cache_images"], Key("train.cache_features")),
    (&["random_seed", "random_state", "manual_seed", "rng_seed"], Key("seed")),
    (&["run_name", "exp_name", "experiment", "experiment_name"], Key("name")),
    (&["augmentation", "augment", "augmentations", "aug", "data_augmentation", "transforms", "transform"], Key("augmentation.steps")),
    (&["hflip", "horizontal_flip", "random_horizontal_flip", "fliplr", "flip", "do_flip"], Step("flip_left_right")),
    (&["vflip", "vertical_flip", "random_vertical_flip", "flipud", "flip_vert"], Step("flip_up_down")),
    (&["rotation", "rotation_range", "random_rotation", "degrees", "max_rotate"], Step("rotation")),
    (&["zoom", "zoom_range", "random_zoom", "max_zoom"], Step("zoom")),
    (&["shear", "shear_range"], Step("shear")),
    (&["translate", "width_shift_range", "height_shift_range"], Step("shift")),
    (&["brightness", "brightness_range", "hsv_v", "max_lighting"], Step("brightness")),
    (&["contrast"], Step("contrast")),
    (&["saturation", "hsv_s"], Step("saturation")),
    (&["hue", "hsv_h"], Step("hue")),
    (&["random_resized_crop"], Step("random_resized_crop")),
    (&["random_crop"], Step("random_crop")),
    (&["erasing", "random_erasing", "reprob", "cutout"], Step("erasing")),
    (&["auto_augment", "rand_augment", "randaugment", "aa"], Step("rand_augment")),
    (&["mixup", "mixup_alpha"], Step("mixup")),
    (&["cutmix", "cutmix_alpha"], Step("cutmix")),
    (&["workers", "num_workers", "dataloader_num_workers", "threads", "n_jobs", "nthreads"], Otherwise("`--threads N` on the command line says how many; no recipe does, as results do not depend on it")),
    (&["device", "gpu", "gpus", "cuda", "use_cuda", "no_cuda", "accelerator"], Otherwise("`--device` on the command line chooses where to compute; no recipe does")),
    (&["project", "output_dir", "out_dir", "save_dir", "log_dir", "logdir", "runs_dir", "exist_ok"], Otherwise("`--runs DIR` on the command line says where runs are recorded; no recipe does")),
    (&["resume"], Otherwise("`ft resume RUN` goes on with a run that was stopped")),
    (&["shuffle"], Otherwise("training photos are shuffled in each epoch, as `seed` says")),
    (&["deterministic"], Otherwise("all randomness follows from `seed`")),
];

/// What a key of this path (`train.learning_rate`, `model`, `lr0`) is here: a synonym, or a key at the wrong place. The last part
/// decides; what is in front of it only where several keys have that name.
pub fn exact_meaning_of(path: &str) -> Option<Meaning> {
    let (section, name) = parts(path);
    synonym(&name).or_else(|| key_named(&name, section))
}

/// As [`exact_meaning_of`], of a misspelt name too: `train.lerning_rate`, `modle`.
pub fn meaning_of(path: &str) -> Option<Meaning> {
    if let Some(meaning) = exact_meaning_of(path) {
        return Some(meaning);
    }
    let (section, name) = parts(path);
    let keys = known_keys();
    let names = keys.iter().map(|key| last_part(key));
    // Words of three letters are near to everything.
    let synonyms = SYNONYMS.iter().flat_map(|(names, _)| names.iter().copied());
    let candidates: Vec<&str> = names.chain(synonyms).filter(|name| name.len() > 3).collect();
    let near = closest(&name, &candidates)?;
    synonym(near).or_else(|| key_named(near, section))
}

/// The section, and the name as [`SYNONYMS`] spells names.
fn parts(path: &str) -> (&str, String) {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    (section, name.trim().to_lowercase().replace('-', "_"))
}

/// Whether a recipe can have a key of this path with a value of its own.
pub fn is_key(path: &str) -> bool {
    let keys = known_keys();
    keys.contains(path) && !keys.iter().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// What [`SYNONYMS`] says of a name.
pub(super) fn synonym(name: &str) -> Option<Meaning> {
    let (_, here) = SYNONYMS.iter().find(|(names, _)| names.contains(&name))?;
    Some(match *here {
        Key(key) => Meaning::Keys(vec![key.to_owned()]),
        Value(key, value) => Meaning::Value(key, value),
        Step(step) => Meaning::Step(step),
        Otherwise(sentence) => Meaning::Otherwise(sentence),
    })
}

/// A key without its sections.
pub(super) fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The keys of this name that are not in `section` itself: those that share most with it, and of them the ones that lie least deep.
fn key_named(name: &str, section: &str) -> Option<Meaning> {
    let keys = known_keys();
    let named = keys.iter().filter(|key| last_part(key) == name);
    let shared = |key: &str| key.split('.').zip(section.split('.')).take_while(|(a, b)| a == b).count();
    let rank = |key: &&String| (usize::MAX - shared(key), key.matches('.').count());
    let elsewhere: Vec<&String> =
        named.filter(|key| key.rsplit_once('.').map_or("", |(of, _)| of) != section).collect();
    let best = elsewhere.iter().map(rank).min()?;
    Some(Meaning::Keys(elsewhere.into_iter().filter(|key| rank(key) == best).cloned().collect()))
}

/// Every key that a recipe can have, without those of `expected`, which nobody sets, and of the steps of augmentation.
fn known_keys() -> BTreeSet<String> {
    let kinds = ["constant", "step", "multi_step", "exponential", "cosine", "polynomial", "one_cycle", "plateau"];
    let mut keys = BTreeSet::new();
    for kind in kinds {
        let text = format!("train.early_stopping = {{}}\ntrain.schedule.kind = {kind:?}");
        let Ok(root) = tree::parse(&text, "") else { continue };
        let mut problems = Problems::default();
        read::recipe(&root, &mut problems);
        keys.append(&mut problems.into_known());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::KINDS;
    use crate::recipe;

    #[test]
    fn every_key_that_a_synonym_leads_to_exists() {
        let known = known_keys();
        let exists = |key: &str| assert!(known.contains(key), "{key} is no key of a recipe");
        for (names, here) in SYNONYMS {
            match here {
                Key(key) => exists(key),
                Value(key, value) => {
                    exists(key);
                    recipe::from_text("", "r", &[format!("{key}={value}")])
                        .unwrap_or_else(|e| panic!("{names:?}: {e}"));
                }
                Step(step) => assert!(KINDS.contains(step), "{step}"),
                Otherwise(sentence) => {
                    let quoted: Vec<&str> = sentence.split('`').skip(1).step_by(2).collect();
                    assert!(!quoted.is_empty(), "{names:?} must lead somewhere");
                    let keys = quoted.iter().map(|text| text.split(' ').next().unwrap_or_default());
                    keys.filter(|text| text.contains('.') || *text == "seed").for_each(exists);
                }
            }
        }
    }

    #[test]
    fn no_synonym_stands_in_two_rows_or_could_not_be_typed() {
        let mut seen = BTreeSet::new();
        for name in SYNONYMS.iter().flat_map(|(names, _)| names.iter()) {
            assert!(seen.insert(name), "{name} is there twice");
            assert_eq!(*name, name.to_lowercase().replace('-', "_"), "{name} could never be found");
        }
    }

    #[test]
    fn known_keys_are_those_that_are_read() {
        let known = known_keys();
        for key in
            ["seed", "data.split.val", "train.monitor", "train.schedule.pct_start", "train.early_stopping.patience"]
        {
            assert!(known.contains(key), "{key} is missing");
        }
        assert!(known.iter().all(|key| !key.contains('[')));
    }

    #[test]
    fn a_name_that_several_sections_have_leads_to_the_nearest_or_to_all() {
        let to = |path: &str| meaning_of(path).map(|meaning| meaning.to_string()).unwrap_or_default();
        assert_eq!(to("source"), "did you mean `data.source` or `weights.source`?");
        assert_eq!(to("train.schedule.monitor"), "did you mean `train.monitor`?");
        assert_eq!(to("train.seed"), "did you mean `seed`?");
        assert_eq!(to("data.val"), "did you mean `data.split.val`?");
        assert_eq!(to("modle"), "did you mean `backbone.model`?");
        assert_eq!(to("xyzzy"), "");
    }
}
