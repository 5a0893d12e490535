//! Heads as data: `["gap", "dense(32, relu)", "batch_norm", "dropout(0.2)", "dense(classes)"]`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};

use super::tree::split_list;
use crate::error::suggestion;

/// Slope of `leaky_relu` for negative inputs, as the VGG + GAP network on STL-10 has it.
pub const LEAKY_RELU_SLOPE: f64 = 0.2;

/// Width of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    Fixed(usize),
    /// One output for each class of the data set.
    Classes,
}

/// What follows a dense layer's sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Relu,
    /// Slope [`LEAKY_RELU_SLOPE`] below zero.
    LeakyRelu,
}

/// One layer of a head. Until a pooling layer or `Flatten` the input is a map `[batch, height, width, channels]`, from
/// there on a vector `[batch, channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeadLayer {
    /// `gap`: mean over all positions.
    GlobalAveragePool,
    /// `gmp`: maximum over all positions.
    GlobalMaxPool,
    /// `flatten`: row-major `[height, width, channels]`.
    Flatten,
    /// `dense(32)`, `dense(32, relu)`, `dense(classes)`.
    Dense { units: Units, activation: Option<Activation> },
    /// `batch_norm`.
    BatchNorm,
    /// `dropout(0.2)`: the fraction of values set to zero in training.
    Dropout(f64),
    /// `relu`.
    Relu,
}

const SPELLINGS: [&str; 7] = ["gap", "gmp", "flatten", "dense", "batch_norm", "dropout", "relu"];

impl fmt::Display for HeadLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GlobalAveragePool => f.write_str("gap"),
            Self::GlobalMaxPool => f.write_str("gmp"),
            Self::Flatten => f.write_str("flatten"),
            Self::BatchNorm => f.write_str("batch_norm"),
            Self::Relu => f.write_str("relu"),
            Self::Dropout(rate) => write!(f, "dropout({rate})"),
            Self::Dense { units, activation } => {
                match units {
                    Units::Fixed(units) => write!(f, "dense({units}")?,
                    Units::Classes => f.write_str("dense(classes")?,
                }
                match activation {
                    Some(Activation::Relu) => f.write_str(", relu)"),
                    Some(Activation::LeakyRelu) => f.write_str(", leaky_relu)"),
                    None => f.write_str(")"),
                }
            }
        }
    }
}

impl FromStr for HeadLayer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, arguments) = split_call(text)?;
        if !SPELLINGS.contains(&name) {
            let hint = suggestion(name, &SPELLINGS);
            bail!(
                "unknown head layer {text:?}{hint}; there are gap, gmp, flatten, dense(32), dense(32, relu), dense(classes), batch_norm, dropout(0.2), relu"
            );
        }
        match (name, arguments.as_slice()) {
            ("gap", []) => Ok(Self::GlobalAveragePool),
            ("gmp", []) => Ok(Self::GlobalMaxPool),
            ("flatten", []) => Ok(Self::Flatten),
            ("batch_norm", []) => Ok(Self::BatchNorm),
            ("relu", []) => Ok(Self::Relu),
            ("dropout", [rate]) => dropout(text, rate),
            ("dense", [units]) => Ok(Self::Dense { units: dense_units(text, units)?, activation: None }),
            ("dense", [units, activation]) => Ok(Self::Dense {
                units: dense_units(text, units)?,
                activation: Some(dense_activation(text, activation)?),
            }),
            ("dropout", _) => bail!("head layer {text:?}: write dropout(0.2)"),
            ("dense", _) => bail!("head layer {text:?}: write dense(32), dense(32, relu) or dense(classes)"),
            (name, _) => bail!("head layer {text:?}: {name} takes no arguments"),
        }
    }
}

/// `name` or `name(argument, argument)`.
fn split_call(text: &str) -> Result<(&str, Vec<&str>)> {
    let text = text.trim();
    let Some((name, rest)) = text.split_once('(') else { return Ok((text, Vec::new())) };
    let inside =
        rest.strip_suffix(')').ok_or_else(|| anyhow!("head layer {text:?}: the closing bracket is missing"))?;
    Ok((name.trim(), inside.split(',').map(str::trim).collect()))
}

fn dropout(text: &str, rate: &str) -> Result<HeadLayer> {
    match rate.parse::<f64>() {
        Ok(rate) if (0.0..1.0).contains(&rate) => Ok(HeadLayer::Dropout(rate)),
        _ => bail!("head layer {text:?}: the rate must be a number from 0 up to, but not including, 1"),
    }
}

fn dense_units(text: &str, units: &str) -> Result<Units> {
    if units == "classes" {
        return Ok(Units::Classes);
    }
    match units.parse::<usize>() {
        Ok(units) if (1..=1 << 20).contains(&units) => Ok(Units::Fixed(units)),
        _ => bail!("head layer {text:?}: the width must be a whole number from 1 to 1048576, or `classes`"),
    }
}

fn dense_activation(text: &str, activation: &str) -> Result<Activation> {
    match activation {
        "relu" => Ok(Activation::Relu),
        "leaky_relu" => Ok(Activation::LeakyRelu),
        _ => bail!("head layer {text:?}: unknown activation {activation:?}; there are relu and leaky_relu"),
    }
}

/// The layers in command-line arguments, each of which may hold several, with or without brackets:
/// `--head gap "dense(32, relu)"`, `--head "[gap, dense(32, relu), dense(classes)]"`.
pub fn from_arguments(arguments: &[String]) -> Vec<String> {
    let inside = |text: &str| {
        let text = text.trim();
        let list = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let unquoted = |layer: &str| layer.trim_matches(['"', '\'']).to_owned();
        split_list(list).into_iter().map(unquoted).collect::<Vec<_>>()
    };
    arguments.iter().flat_map(|text| inside(text)).collect()
}

/// Whether the head ends in `dense(1)`: one number for two classes, whose sigmoid is the probability of the second.
pub fn is_binary(head: &[HeadLayer]) -> bool {
    head.last() == Some(&HeadLayer::Dense { units: Units::Fixed(1), activation: None })
}

/// Reads a head. The last layer must be `dense(classes)`, or `dense(1)` for two classes, without activation; `dense(classes)`
/// must stand nowhere else, and a single `gap`, `gmp` or `flatten` must come before the first dense layer.
///
/// # Errors
/// All that is wrong, one line each.
pub fn parse(layers: &[String]) -> Result<Vec<HeadLayer>> {
    let mut problems = Vec::new();
    let mut head = Vec::new();
    for layer in layers {
        match layer.parse::<HeadLayer>() {
            Ok(layer) => head.push(layer),
            Err(e) => problems.push(e.to_string()),
        }
    }
    // The order of layers can be judged only if all of them were understood.
    if problems.is_empty() {
        check_order(&head, &mut problems);
    }
    if problems.is_empty() { Ok(head) } else { Err(anyhow!(problems.join("\n"))) }
}

fn check_order(head: &[HeadLayer], problems: &mut Vec<String>) {
    let is_output = |l: &HeadLayer| matches!(l, HeadLayer::Dense { units: Units::Classes, .. });
    let is_pool =
        |l: &HeadLayer| matches!(l, HeadLayer::GlobalAveragePool | HeadLayer::GlobalMaxPool | HeadLayer::Flatten);
    match head.last() {
        Some(HeadLayer::Dense { units: Units::Classes, activation: None }) => {}
        Some(_) if is_binary(head) => {}
        Some(last) => problems.push(format!(
            "the last head layer must be dense(classes), or dense(1) for two classes, not {last}: it gives the logits"
        )),
        None => problems.push("the head is empty; the shortest is [\"gap\", \"dense(classes)\"]".to_owned()),
    }
    if head.iter().rev().skip(1).any(is_output) {
        problems.push("dense(classes) may stand only at the end of the head".to_owned());
    }
    if head.iter().filter(|l| is_pool(l)).count() > 1 {
        problems
            .push("the head has more than one of gap, gmp and flatten; the first already gives a vector".to_owned());
    }
    let dense = head.iter().position(|l| matches!(l, HeadLayer::Dense { .. }));
    let pool = head.iter().position(is_pool);
    if let Some(dense) = dense
        && pool.is_none_or(|pool| pool > dense)
    {
        problems.push("a dense layer needs a vector: put gap, gmp or flatten before the first one".to_owned());
    }
}
