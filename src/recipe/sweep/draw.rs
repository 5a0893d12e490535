//! Values drawn at random: a function of the sweep's seed, the key, and the number of the draw, and of nothing else. The first ten of
//! twenty draws are those of ten, and a key that is added changes no other.

use crate::error::suggestion;
use crate::random::{hash_name, mix};
use crate::recipe::read::FromNode;
use crate::recipe::tree::{Item, Node};

/// What a key is drawn from.
#[derive(Clone, Debug)]
pub enum Distribution {
    /// Any number between two, all alike.
    Uniform(f64, f64),
    /// Any number between two above 0, whose logarithms are all alike.
    LogUniform(f64, f64),
    /// A whole number from the first to the last.
    Integer(i64, i64),
    /// One of a list.
    Choice(Vec<Node>),
}

/// How a file spells them.
pub const WORDS: [&str; 4] = ["uniform", "log_uniform", "integer", "choice"];

impl Distribution {
    /// Whether a node is meant as a distribution: a table with one of the words.
    pub fn is_one(node: &Node) -> bool {
        WORDS.iter().any(|word| node.child(word).is_some())
    }

    /// Reads `{ log_uniform = [1e-5, 1e-2] }`.
    pub fn read(node: &Node) -> Result<Self, String> {
        let Item::Table(entries) = &node.item else { return Err(wrong(node)) };
        let [(word, values)] = entries.as_slice() else { return Err(wrong(node)) };
        let range = || match <Vec<f64>>::from_node(values)?.as_slice() {
            &[low, high] if low < high => Ok((low, high)),
            _ => Err(format!("{word}: expected two numbers, the lower one first")),
        };
        match word.as_str() {
            "uniform" => range().map(|(low, high)| Self::Uniform(low, high)),
            "log_uniform" => match range()? {
                (low, high) if low > 0.0 => Ok(Self::LogUniform(low, high)),
                (low, _) => Err(format!("log_uniform: both numbers must be above 0, the lower one is {low}")),
            },
            "integer" => match &values.item {
                Item::Array(nodes) => match nodes.iter().map(|node| &node.item).collect::<Vec<_>>().as_slice() {
                    [Item::Integer(low), Item::Integer(high)] if low < high => Ok(Self::Integer(*low, *high)),
                    _ => Err("integer: expected two whole numbers, the lower one first".to_owned()),
                },
                _ => Err("integer: expected two whole numbers, the lower one first".to_owned()),
            },
            "choice" => match &values.item {
                Item::Array(nodes) if !nodes.is_empty() => Ok(Self::Choice(nodes.clone())),
                _ => Err("choice: expected a list of values".to_owned()),
            },
            other => Err(format!("{other:?} is no distribution{}; {}", suggestion(other, &WORDS), examples())),
        }
    }

    /// The draw of this number for a key, with the place of `at`.
    pub fn draw(&self, seed: u64, key: &str, number: u64, at: &Node) -> Node {
        let bits = mix(mix(hash_name("sweep"), seed) ^ hash_name(key), number);
        let share = (bits >> 11) as f64 / (1u64 << 53) as f64;
        let item = match self {
            Self::Uniform(low, high) => Item::Float(rounded(low + share * (high - low)).clamp(*low, *high)),
            Self::LogUniform(low, high) => {
                let drawn = (low.ln() + share * (high.ln() - low.ln())).exp();
                Item::Float(rounded(drawn).clamp(*low, *high))
            }
            Self::Integer(low, high) => {
                let count = i128::from(*high) - i128::from(*low) + 1;
                let drawn = i128::from(*low) + ((i128::from(bits) * count) >> 64);
                Item::Integer(i64::try_from(drawn).unwrap_or(*high))
            }
            Self::Choice(nodes) => {
                let index = ((u128::from(bits) * nodes.len() as u128) >> 64) as usize;
                return nodes.get(index).cloned().unwrap_or_else(|| at.clone());
            }
        };
        Node { place: at.place.clone(), item, typed: None }
    }
}

/// To four significant digits: nobody needs more of a value drawn at random, and the names of points stay short.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn wrong(node: &Node) -> String {
    format!("expected a distribution, found {}; {}", node.item.describe(), examples())
}

fn examples() -> &'static str {
    "there are { uniform = [0.1, 0.5] }, { log_uniform = [1e-5, 1e-2] }, { integer = [1, 4] }, { choice = [16, 32] }"
}
