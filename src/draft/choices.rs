//! The keys of a recipe that follow from the photos, each with the fact that it follows from.

use std::path::Path;

use anyhow::Result;
use toml::{Table, Value};

use super::backbone::Backbone;
use super::facts::Facts;
use super::text::photos;
use crate::data::audit::BALANCED;
use crate::data::split::{Fractions, Split};
use crate::data::table::TableOptions;
use crate::models::summary::thousands;

/// A key of the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// With its sections: `data.image_size`.
    pub key: &'static str,
    pub value: Value,
    /// The fact that it follows from, in a line.
    pub why: String,
}

/// How much there is to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Few,
    Some,
    Many,
}

/// Training photos for each class below which only a head is trained.
const FEW: usize = 50;

/// Training photos for each class from which two stages are trained.
const MANY: usize = 250;

/// Training photos for each class that need no altered copies.
const PLENTY: usize = 1000;

impl Amount {
    fn of(train_per_class: usize) -> Self {
        match train_per_class {
            n if n < FEW => Self::Few,
            n if n < MANY => Self::Some,
            _ => Self::Many,
        }
    }
}

/// A split file that keeps near-duplicates together.
#[derive(Clone, Copy, Debug)]
pub struct SplitFile<'a> {
    pub path: &'a Path,
    /// Whether it lay there already.
    pub kept: bool,
}

/// A recipe with its reasons.
#[derive(Clone, Debug)]
pub struct Draft {
    /// In the order of the file.
    pub choices: Vec<Choice>,
    /// Training photos, about, without copies.
    pub train: usize,
    /// Validation photos, about.
    pub validation: usize,
}

/// The shares of a random split that suit so many photos.
pub fn shares(facts: &Facts) -> Fractions {
    let least = facts.extremes().0.map_or(0, |class| class.photos);
    match (least, facts.photos) {
        (..30, _) => Fractions { train: 0.6, val: 0.2, test: 0.2 },
        (_, ..1000) => Fractions { train: 0.7, val: 0.15, test: 0.15 },
        _ => Fractions::default(),
    }
}

impl Draft {
    /// Decides every key. `source` is what `data.source` shall say.
    ///
    /// # Errors
    /// If the network cannot be built.
    pub fn new(facts: &Facts, backbone: &Backbone, gpu: bool, source: &str, split: Option<SplitFile>) -> Result<Self> {
        let setting = Setting::new(facts, backbone, gpu)?;
        let mut choices = vec![seed(), setting.source(source)];
        choices.push(setting.image_size());
        choices.extend(setting.split(split));
        choices.extend(setting.augmentation());
        choices.extend(setting.backbone());
        choices.push(choice("weights.source", backbone.weights.as_str(), backbone.weights_why.clone()));
        choices.push(setting.head());
        choices.extend(setting.training());
        Ok(Self { choices, train: setting.train, validation: setting.validation })
    }

    /// With what was asked of a table of photos.
    ///
    /// # Errors
    /// If a path is no text.
    pub fn with_table(mut self, table: &TableOptions) -> Result<Self> {
        if !table.is_default() {
            let after_source = self.choices.iter().position(|c| c.key == "data.source").map_or(0, |place| place + 1);
            let why = "which columns of the table are meant, and where its photos lie, as they were named to ft init";
            self.choices.insert(after_source, choice("data.table", Value::try_from(table)?, why));
        }
        Ok(self)
    }
}

fn choice(key: &'static str, value: impl Into<Value>, why: impl Into<String>) -> Choice {
    Choice { key, value: value.into(), why: why.into() }
}

fn seed() -> Choice {
    choice("seed", 0, "another seed shuffles and starts differently: the spread between seeds is what chance does")
}

/// A table of a few keys, written in one line.
fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Table>())
}

/// All that the choices depend on.
struct Setting<'a> {
    facts: &'a Facts,
    backbone: &'a Backbone,
    gpu: bool,
    shares: Fractions,
    /// Training photos, about.
    train: usize,
    /// Validation photos, about.
    validation: usize,
    /// Training photos of the middle class, about.
    per_class: usize,
    amount: Amount,
    freeze_before: String,
    /// Fixed altered copies of each photo; `None` for altering them anew in each epoch.
    copies: Option<usize>,
}

impl<'a> Setting<'a> {
    fn new(facts: &'a Facts, backbone: &'a Backbone, gpu: bool) -> Result<Self> {
        let shares = shares(facts);
        let has = |split| facts.own_splits.contains(&split);
        let share = match (has(Split::Val), has(Split::Test)) {
            (true, true) => 1.0,
            (false, true) => shares.train / (shares.train + shares.val),
            (true, false) => shares.train / (shares.train + shares.test),
            (false, false) => shares.train,
        };
        let train = (facts.free() as f64 * share).round() as usize;
        let drawn = if has(Split::Test) { 1.0 - share } else { shares.val };
        let validation = facts.own_validation.unwrap_or((facts.free() as f64 * drawn).round() as usize);
        let per_class = (facts.free_per_class() as f64 * share).round() as usize;
        let amount = Amount::of(per_class);
        let freeze_before = freeze_before(backbone, amount)?;
        let mut setting =
            Self { facts, backbone, gpu, shares, train, validation, per_class, amount, freeze_before, copies: None };
        setting.copies = setting.choose_copies();
        Ok(setting)
    }

    fn all_frozen(&self) -> bool {
        self.freeze_before == "all"
    }

    /// What is frozen is computed once for each copy, so that fixed copies are cheap where much of the network is frozen.
    fn choose_copies(&self) -> Option<usize> {
        /// Photos that pass the network once, or once an epoch, without anybody losing patience with a processor.
        const PASSES: usize = 10_000;
        if self.backbone.from_scratch() || self.backbone.weak || self.gpu && !self.all_frozen() {
            return None;
        }
        let affordable = (PASSES / self.train.max(1)).saturating_sub(1);
        Some(match self.amount {
            Amount::Few => affordable.min(8),
            Amount::Some => affordable.min(4),
            Amount::Many if self.per_class >= PLENTY => 0,
            Amount::Many => affordable.min(2),
        })
    }

    /// Photos of an epoch.
    fn epoch_photos(&self) -> usize {
        self.train * (1 + self.copies.unwrap_or(0))
    }

    fn source(&self, source: &str) -> Choice {
        let classes = self.facts.classes.len();
        let broken = match self.facts.broken {
            0 => String::new(),
            n => format!(", {} broken and left out", thousands(n)),
        };
        let why = format!(
            "{} in {classes} classes{broken}; a path is meant from where ft is started",
            photos(self.facts.photos)
        );
        choice("data.source", source, why)
    }

    fn image_size(&self) -> Choice {
        let Facts { short_side, width, height, photos: count, .. } = *self.facts;
        let median = format!("{}, median {width}×{height}", photos(count));
        let (size, why) = if self.backbone.from_scratch() {
            let size = (short_side / 8 * 8).clamp(32, 128);
            (size, format!("{median}: small keeps learning from scratch quick"))
        } else {
            let (least, native) = self.backbone.sizes();
            let (cap, reason) = self.largest_size(native);
            let sizes = [224, 192, 160, 128, 96, 64, 48].into_iter().filter(|size| *size > least);
            let size = sizes.into_iter().find(|size| *size <= short_side.min(cap)).unwrap_or(least);
            let why = match size {
                _ if short_side < least => {
                    format!("enlarged to {least} px, so that the last feature map has some places left")
                }
                size if size == native => format!("{native} px is what the network has learnt from"),
                _ if size == cap && short_side > cap => reason.to_owned(),
                _ => format!("{size} px keeps most of what is there"),
            };
            (size, format!("{median}: {why}"))
        };
        choice("data.image_size", i64::from(size), why)
    }

    /// The largest side that makes sense, and why no larger one does.
    fn largest_size(&self, native: u32) -> (u32, &'static str) {
        match () {
            () if self.gpu || self.all_frozen() || native < 128 => (native, ""),
            () if self.train > 5000 => (128, "128 px costs a processor a third of 224 px, and these are many photos"),
            () => (160, "160 px costs a processor half of 224 px and keeps most of what is there"),
        }
    }

    fn split(&self, file: Option<SplitFile>) -> Vec<Choice> {
        let Fractions { train, val, test } = self.shares;
        let groups = self.facts.duplicates;
        if let Some(SplitFile { path, kept }) = file {
            let written = if kept { "kept from before" } else { "written as ft data split does" };
            let why = format!(
                "{} group(s) of near-duplicates: this file, {written}, keeps each on one side",
                thousands(groups)
            );
            return vec![choice("data.split_file", path.display().to_string(), why)];
        }
        let own: Vec<&str> = self.facts.own_splits.iter().filter(|s| **s != Split::Train).map(|s| s.name()).collect();
        if own.len() == 2 {
            return Vec::new();
        }
        let least = self.facts.extremes().0.map_or(0, |class| class.photos);
        let why = match self.shares {
            Fractions { train, .. } if train < 0.65 => {
                format!("the smallest class has {}: with less set aside its figures would be chance", photos(least))
            }
            Fractions { train, .. } if train < 0.75 => {
                format!("{}: 15 % to test with, since 10 % would measure too roughly", photos(self.facts.photos))
            }
            _ => {
                format!("{}: a tenth is enough to choose the epoch by, another to test with", photos(self.facts.photos))
            }
        };
        let why = match own.first() {
            Some(there) => {
                format!("the {there} photos stay as the data has them; the other shares are drawn from train")
            }
            None => why,
        };
        vec![choice("data.split", table([("train", train.into()), ("val", val.into()), ("test", test.into())]), why)]
    }

    fn augmentation(&self) -> Vec<Choice> {
        let per_class = photos(self.per_class);
        if self.copies == Some(0) {
            return Vec::new();
        }
        let mut choices = Vec::new();
        if let Some(copies) = self.copies {
            let why = match self.all_frozen() {
                true => "fixed copies beside each photo pass the frozen network once, whatever the epochs".to_owned(),
                false => "fixed copies beside each photo, so that the frozen half of the network runs once for each"
                    .to_owned(),
            };
            choices.push(choice(
                "augmentation.copies",
                copies as i64,
                format!("{per_class} a class to train with: {why}"),
            ));
        }
        let (steps, why) = self.steps();
        choices.push(choice("augmentation.steps", steps, why));
        choices
    }

    fn steps(&self) -> (Value, String) {
        let step = |kind: &str, entries: &[(&str, Value)]| {
            let all = [("kind", Value::from(kind))].into_iter().chain(entries.iter().cloned());
            Value::Table(all.map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let by = |amount: f64| ("by", Value::from(amount));
        let mut steps = Vec::new();
        let crops = self.copies.is_none() && self.gpu && !self.backbone.from_scratch();
        if crops {
            let scale = Value::Array(vec![0.5.into(), 1.0.into()]);
            steps.push(step("random_resized_crop", &[("scale", scale)]));
        }
        let handed = self.handed_class();
        if handed.is_none() {
            steps.push(step("flip_left_right", &[("probability", 0.5.into())]));
        }
        if !crops {
            steps.push(step("rotation", &[("degrees", 10.into())]));
            steps.push(step("zoom", &[by(0.2)]));
        }
        steps.push(step("brightness", &[by(0.2)]));
        steps.push(step("contrast", &[by(0.2)]));
        let flips = match handed {
            Some(class) => format!("what photos may do; not mirrored, since the class {class:?} might become another"),
            None => {
                "what photos may do; take flip_left_right out if mirrored ones would mean something else (text, arrows)"
                    .to_owned()
            }
        };
        let colour =
            if 2 * self.facts.grey > self.facts.photos { "mostly grey photos: nothing for colours; " } else { "" };
        (Value::Array(steps), format!("{colour}{flips}"))
    }

    /// A class that a mirror may turn into another one: left and right, letters, digits.
    fn handed_class(&self) -> Option<&str> {
        let handed = |name: &str| {
            let lower = name.to_lowercase();
            let words = lower.split(|c: char| !c.is_alphanumeric());
            words.into_iter().any(|word| matches!(word, "left" | "right")) || name.chars().count() == 1
        };
        self.facts.classes.iter().map(|class| class.name.as_str()).find(|name| handed(name))
    }

    fn backbone(&self) -> Vec<Choice> {
        let mut choices = vec![choice("backbone.model", self.backbone.model.as_str(), self.backbone.model_why.clone())];
        if let Some((until, why)) = &self.backbone.until {
            choices.push(choice("backbone.until", until.as_str(), why.clone()));
        }
        let per_class = format!("{} a class to train with", photos(self.per_class));
        let why = match (self.freeze_before.as_str(), self.amount) {
            ("none", _) => "there are no weights worth keeping".to_owned(),
            (stage, _) if self.backbone.weak => {
                format!("the first stages know shapes and textures; from {stage} on, objects must be learnt")
            }
            ("all", _) => format!("{per_class}: too few to change the network; only the head learns"),
            (stage, Amount::Many) => format!("{per_class}: enough for the stages from {stage} on"),
            (stage, _) => format!("{per_class}: enough for the last stage, {stage}"),
        };
        choices.push(choice("backbone.freeze_before", self.freeze_before.as_str(), why));
        if self.backbone.has_batch_norm && !self.all_frozen() {
            let (mode, why) = match self.amount {
                Amount::Some if !self.backbone.from_scratch() && !self.backbone.weak => {
                    ("frozen", "the statistics of the weights are better than those of so few photos")
                }
                _ => ("train", "enough photos for statistics of their own"),
            };
            let why = match (self.backbone.from_scratch(), self.backbone.weak) {
                (true, _) => "there are no statistics to keep",
                (_, true) => "the statistics of other pictures do not fit photos",
                _ => why,
            };
            choices.push(choice("backbone.batch_norm", mode, why));
        }
        choices
    }

    fn head(&self) -> Choice {
        let layers = |names: &[&str]| Value::Array(names.iter().map(|name| Value::from(*name)).collect());
        if self.backbone.model == "cnn-basic" {
            let head = layers(&["flatten", "dropout(0.3)", "dense(64, relu)", "dense(classes)"]);
            return choice("head.layers", head, "the plain network ends in a map that a dense layer reads");
        }
        let why = "the mean of each feature, then one dense layer: little to learn by heart, and CAM can explain it";
        choice("head.layers", layers(&["gap", "dropout(0.2)", "dense(classes)"]), why)
    }

    fn training(&self) -> Vec<Choice> {
        let (batch_size, batch_why) = self.batch_size();
        let updates = self.epoch_photos().div_ceil(batch_size).max(1);
        let (wanted, least, most): (usize, usize, usize) = match (self.backbone.from_scratch(), self.all_frozen()) {
            (true, _) => (6000, 20, 60),
            (_, true) => (1500, 10, 60),
            _ if self.backbone.weak => (2000, 15, 60),
            _ => (1500, 5, 30),
        };
        let epochs = wanted.div_ceil(updates).clamp(least, most);
        let epochs_why = format!(
            "{} an epoch are {} updates: {} in all, if it does not stop earlier",
            photos(self.epoch_photos()),
            thousands(updates),
            thousands(epochs * updates)
        );
        let (lr, lr_why) = match (self.backbone.from_scratch(), self.all_frozen()) {
            (true, _) => (1e-3, "everything starts from random values"),
            (_, true) => (1e-3, "only the new head learns, so that large steps harm nothing"),
            _ if self.backbone.weak => (1e-3, "there is much left to learn"),
            _ => (1e-4, "small steps: the weights are good already"),
        };
        // Less than an epoch, so that a try with --epochs 1 is possible.
        let schedule = table([("kind", "cosine".into()), ("warmup_epochs", 0.5.into())]);
        let (monitor, monitor_why) = self.monitor();
        let patience = (epochs / if self.all_frozen() { 5 } else { 3 }).max(3);
        let stopping_why = format!("{patience} epochs without progress on the validation photos are enough to know");
        let (weights, weights_why) = self.class_weights();
        vec![
            choice("train.epochs", epochs as i64, epochs_why),
            choice("train.batch_size", batch_size as i64, batch_why),
            choice("train.optimizer", "adam", "finds its pace by itself, whatever the sizes of gradients"),
            choice("train.lr", lr, lr_why),
            choice("train.schedule", schedule, "a soft start, then ever smaller steps"),
            choice("train.class_weights", weights, weights_why),
            choice("train.monitor", monitor, monitor_why),
            choice("train.early_stopping", table([("patience", (patience as i64).into())]), stopping_why),
        ]
    }

    fn batch_size(&self) -> (usize, String) {
        /// Updates that an epoch should have.
        const UPDATES: usize = 10;
        let all = self.epoch_photos();
        if self.gpu && all >= 5000 {
            return (64, format!("{} an epoch, on a GPU", photos(all)));
        }
        match [32, 16].into_iter().find(|size| all >= size * UPDATES) {
            Some(32) => (32, "the usual size".to_owned()),
            size => {
                let size = size.unwrap_or(8);
                (size, format!("{} an epoch: small batches, so that there are enough updates", photos(all)))
            }
        }
    }

    fn monitor(&self) -> (&'static str, String) {
        let drawn = || (self.facts.free() as f64 * self.shares.val).round() as usize;
        let val = self.facts.own_validation.unwrap_or_else(drawn);
        if val < 100 {
            let points = 100.0 / val.max(1) as f64;
            let why =
                format!("about {}: accuracy moves in steps of {points:.1} points, the loss is finer", photos(val));
            return ("val_loss", why);
        }
        ("val_accuracy", format!("about {} are enough to tell epochs apart by accuracy", photos(val)))
    }

    fn class_weights(&self) -> (&'static str, String) {
        let (Some(least), Some(most)) = self.facts.extremes() else { return ("none", String::new()) };
        let counts =
            format!("{:?} has {}, {:?} {}", least.name, photos(least.photos), most.name, thousands(most.photos));
        if self.facts.imbalance() > BALANCED {
            return ("auto", format!("{counts}: without weights the rare class would hardly count"));
        }
        ("none", format!("{counts}: balanced enough"))
    }
}

/// The first stage that learns.
fn freeze_before(backbone: &Backbone, amount: Amount) -> Result<String> {
    if backbone.from_scratch() {
        return Ok("none".to_owned());
    }
    let back = match amount {
        _ if backbone.weak => 2,
        Amount::Few => return Ok("all".to_owned()),
        Amount::Some => 1,
        Amount::Many => 2,
    };
    let kept = backbone.kept_stages()?;
    let wanted = backbone.stages.len().saturating_sub(back);
    // Where the network is cut before that stage, the last one that is left.
    let stage = kept.get(wanted).or(kept.last());
    Ok(stage.cloned().unwrap_or_else(|| "all".to_owned()))
}
