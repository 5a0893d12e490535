//! Which network fits the photos, the machine and what weights are at hand.

use std::path::Path;

use anyhow::{Context, Result};

use super::facts::Facts;
use super::text::photos;
use super::weight_file::{self, Fit};
use crate::error::{say, usage};
use crate::models::summary::thousands;
use crate::models::{Architecture, Graph, Op};
use crate::train::checkpoint;
use crate::weights::{self, Entry, Resolved, formats};

/// Photos of which half have a shorter side below this hold no more than the networks of the CIFAR-10 kind see.
const TINY: u32 = 48;

/// Photos for each class from which a small network learns from scratch what it needs.
const ENOUGH_FROM_SCRATCH: usize = 500;

/// Photos up to which a processor is asked to train a network of 50 layers.
const MANY_FOR_A_PROCESSOR: usize = 5000;

/// Networks from the most to the least fitting, for training on a GPU or on few photos. ResNet50V2 comes first because it is the
/// one whose results were measured with this program.
const LARGE_FIRST: [&str; 10] = [
    "resnet50v2",
    "resnet50-torch",
    "resnet50",
    "resnetv2_50",
    "resnet34-torch",
    "resnet18-torch",
    "resnet101v2",
    "resnet101-torch",
    "vgg16",
    "vgg16-torch",
];

/// The same for many photos on a processor: the shallow ones cost a third.
const SMALL_FIRST: [&str; 10] = [
    "resnet18-torch",
    "resnet34-torch",
    "resnet50v2",
    "resnet50-torch",
    "resnet50",
    "resnetv2_50",
    "vgg16",
    "vgg16-torch",
    "resnet101v2",
    "resnet101-torch",
];

/// The network for photos of 64 pixels, which divides sides by 8 only.
const SMALL_PHOTOS: &str = "resnet-mini";

/// What the user asks for, and what the machine allows.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub model: Option<&'a str>,
    /// As a recipe's `weights.source`.
    pub weights: Option<&'a str>,
    pub offline: bool,
    /// Whether training is on a GPU.
    pub gpu: bool,
}

/// A network with the weights that it starts from.
#[derive(Clone, Debug)]
pub struct Backbone {
    pub model: String,
    pub model_why: String,
    /// As a recipe's `weights.source`.
    pub weights: String,
    pub weights_why: String,
    /// The last layer to keep, with the reason.
    pub until: Option<(String, String)>,
    /// The stages of the whole network, from the input on.
    pub stages: Vec<String>,
    pub has_batch_norm: bool,
    /// Whether the weights know shapes only, so that most of the network must still learn.
    pub weak: bool,
    /// What of the weights must still be fetched: from where, and about how many bytes.
    pub fetch: Option<(String, u64)>,
}

impl Backbone {
    /// Whether it starts from random values.
    pub fn from_scratch(&self) -> bool {
        self.weights == "none"
    }

    /// Smallest and largest side of input that suit the network and its weights.
    pub fn sizes(&self) -> (u32, u32) {
        if self.model == SMALL_PHOTOS { (32, 64) } else { (96, 224) }
    }

    /// The stages that are left where it is cut.
    pub fn kept_stages(&self) -> Result<Vec<String>> {
        let mut graph = graph_of(&Architecture::find(&self.model)?)?;
        if let Some((until, _)) = &self.until {
            graph.cut_after(until)?;
        }
        Ok(names_of_stages(&graph))
    }
}

/// Chooses the network for the photos.
///
/// # Errors
/// A usage error for an unknown network or weights; any other if a weight file cannot be read or does not fit.
pub fn choose(facts: &Facts, wanted: &Wanted) -> Result<Backbone> {
    match (wanted.weights, wanted.model) {
        (Some("none"), model) => {
            let why = "--weights none: every value is learnt from these photos";
            from_scratch(model.unwrap_or(scratch_model(facts)), why.to_owned(), facts)
        }
        (Some(source), model) => from_source(source, model, wanted.offline),
        (None, Some(model)) => with_default_weights(model),
        (None, None) => by_photos(facts, wanted),
    }
}

fn by_photos(facts: &Facts, wanted: &Wanted) -> Result<Backbone> {
    let per_class = facts.free_per_class();
    if facts.short_side <= TINY && per_class >= ENOUGH_FROM_SCRATCH {
        let why = format!(
            "{} a class are enough to learn from scratch, and networks made for photos see little in so few pixels",
            photos(per_class)
        );
        return from_scratch(scratch_model(facts), why, facts);
    }
    let slow = !wanted.gpu && facts.photos > MANY_FOR_A_PROCESSOR;
    let order: &[&str] = if slow { &SMALL_FIRST } else { &LARGE_FIRST };
    let known: Vec<(&str, &Entry)> =
        order.iter().filter_map(|model| Some((*model, weights::default_for(model)?))).collect();
    let there = known.iter().find(|(_, entry)| weights::is_at_hand(entry));
    let inside = || weights::manifest().entries.iter().find(|entry| entry.embedded.is_some());
    if there.is_none()
        && wanted.offline
        && let Some(entry) = inside()
    {
        let why = "the network whose weights are inside ft: no others are on this disk, and it is offline";
        return with_entry(&entry.architecture, entry, why.to_owned());
    }
    let (model, entry) = there.or(known.first()).context("no weights are known")?;
    let place = if wanted.gpu { "on a GPU" } else { "on a processor" };
    let mut why = match slow {
        true => format!("{} {place}: a network of few layers", photos(facts.photos)),
        false if wanted.gpu => "a GPU trains 50 layers quickly".to_owned(),
        false => format!("{} {place}: few enough for 50 layers", photos(facts.photos)),
    };
    if order.first() != Some(model) {
        why = format!(
            "its weights are on this disk already ({} would have to be fetched)",
            order.first().unwrap_or(model)
        );
    }
    with_entry(model, entry, why)
}

/// A small network for training from scratch.
fn scratch_model(facts: &Facts) -> &'static str {
    if facts.short_side <= TINY { "cifar-resnet20" } else { "cnn-basic" }
}

fn from_scratch(model: &str, why: String, facts: &Facts) -> Result<Backbone> {
    let graph = graph_of(&Architecture::find(model)?)?;
    Ok(Backbone {
        model: model.to_owned(),
        model_why: format!("a small network, for photos of about {} × {} pixels", facts.width, facts.height),
        weights: "none".to_owned(),
        weights_why: why,
        until: None,
        stages: names_of_stages(&graph),
        has_batch_norm: has_batch_norm(&graph),
        weak: false,
        fetch: None,
    })
}

fn with_default_weights(model: &str) -> Result<Backbone> {
    let architecture = Architecture::find(model)?;
    match weights::default_for(model) {
        Some(entry) => with_entry(model, entry, "asked for with --model".to_owned()),
        None => {
            let graph = graph_of(&architecture)?;
            Ok(Backbone {
                model: model.to_owned(),
                model_why: "asked for with --model".to_owned(),
                weights: "none".to_owned(),
                weights_why: format!("no pretrained weights are known for {model}"),
                until: None,
                stages: names_of_stages(&graph),
                has_batch_norm: has_batch_norm(&graph),
                weak: false,
                fetch: None,
            })
        }
    }
}

/// A network with known weights.
fn with_entry(model: &str, entry: &Entry, model_why: String) -> Result<Backbone> {
    let graph = graph_of(&Architecture::find(model)?)?;
    let there = weights::is_at_hand(entry);
    let top1 = entry.top1.map_or_else(String::new, |top1| format!(", {top1:.1} % on ImageNet"));
    let fetch = (!there).then(|| (source_of(entry), bytes_of(&graph)));
    let weights_why = match &fetch {
        None if entry.embedded.is_some() => format!("inside ft: shapes and textures, no objects; {}", entry.licence),
        None => format!("on this disk already; {}{top1}", entry.licence),
        Some((from, bytes)) => {
            format!(
                "about {} MB, fetched once from {from}; {}{top1}",
                thousands((bytes / 1_000_000) as usize),
                entry.licence
            )
        }
    };
    Ok(Backbone {
        model: model.to_owned(),
        model_why,
        weights: entry.name.clone(),
        weights_why,
        until: None,
        stages: names_of_stages(&graph),
        has_batch_norm: has_batch_norm(&graph),
        weak: entry.embedded.is_some(),
        fetch,
    })
}

/// A network for weights that the user names.
fn from_source(source: &str, model: Option<&str>, offline: bool) -> Result<Backbone> {
    if let Ok(entry) = weights::find(source) {
        let model = model.unwrap_or(&entry.architecture);
        refuse_other(model, &entry.architecture, source)?;
        return with_entry(model, entry, format!("what {source} are weights of"));
    }
    let resolved = weights::resolve(source, offline)?;
    let Fit { architecture, until } = fit_of(&resolved, source, model)?;
    let graph = graph_of(&Architecture::find(&architecture)?)?;
    let until = until.map(|until| {
        let why = format!("the file has no weights for what follows; {architecture} is cut here");
        (until, why)
    });
    Ok(Backbone {
        model_why: format!("the network that {} fits", file_name(&resolved.path)),
        model: architecture,
        weights: source.to_owned(),
        weights_why: "asked for with --weights".to_owned(),
        until,
        stages: names_of_stages(&graph),
        has_batch_norm: has_batch_norm(&graph),
        weak: false,
        fetch: None,
    })
}

fn fit_of(resolved: &Resolved, source: &str, model: Option<&str>) -> Result<Fit> {
    // What ft wrote knows its network, and where that was cut.
    let checkpoint =
        checkpoint::describe(&resolved.path)?.map(|d| Fit { architecture: d.architecture, until: d.until });
    let card = weights::read_card(&resolved.path)?.map(|c| Fit { architecture: c.architecture, until: c.until });
    if let Some(fit) = checkpoint.or(card) {
        refuse_other(model.unwrap_or(&fit.architecture), &fit.architecture, source)?;
        return Ok(fit);
    }
    let own = resolved.entry.map(|entry| entry.architecture.as_str());
    if let (Some(model), Some(own)) = (model, own) {
        refuse_other(model, own, source)?;
    }
    let file = formats::read(&resolved.path)?;
    match model.or(own) {
        Some(model) => weight_file::fit(&file, &Architecture::find(model)?),
        None => {
            let fit = weight_file::recognise(&file)?;
            say(&format!("{} fits {}", file_name(&resolved.path), fit.architecture));
            Ok(fit)
        }
    }
}

fn refuse_other(model: &str, own: &str, source: &str) -> Result<()> {
    if model == own {
        return Ok(());
    }
    Err(usage(format!("{source} are weights of {own}, not of {model}; leave out --model, or name other weights")))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// At the usual size of input: stages and parameters do not depend on it.
fn graph_of(architecture: &Architecture) -> Result<Graph> {
    architecture.backbone((224, 224))
}

fn names_of_stages(graph: &Graph) -> Vec<String> {
    graph.stages().into_iter().map(|(stage, _)| stage.to_owned()).collect()
}

fn has_batch_norm(graph: &Graph) -> bool {
    graph.layers.iter().any(|layer| matches!(layer.op, Op::BatchNorm(_)))
}

/// The host or repository that weights come from.
fn source_of(entry: &Entry) -> String {
    let host = |url: &String| url.split('/').nth(2).unwrap_or(url).to_owned();
    match &entry.hub {
        Some(hub) => format!("the Hugging Face hub ({})", hub.repo),
        None => entry.urls.first().map_or_else(String::new, host),
    }
}

/// About the size of the file: four bytes for each value of the backbone.
fn bytes_of(graph: &Graph) -> u64 {
    graph.params.iter().map(|spec| 4 * spec.shape.iter().product::<usize>() as u64).sum()
}
