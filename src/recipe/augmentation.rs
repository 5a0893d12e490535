//! `[augmentation]`: random changes of the training photos, as a list of steps.

use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::read::{FromNode, Section, word};
use super::tree::{Item, Node};
use crate::data::augment::{Fill, KINDS, Kind, MAX_MAGNITUDE, Step};
use crate::error::suggestion;

/// What happens to training photos; validation and test photos are never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// 0 (the default): each epoch changes the photos anew. N: the training set is each photo as it is and N fixed changed copies,
    /// so that the frozen half of a network can be computed once for all of them.
    pub copies: usize,
    /// In order; see [`Kind`]. An entry is a table `{ kind = "rotation", degrees = 40 }` or, with its defaults, a word: `"rotation"`.
    pub steps: Vec<Step>,
}

const PATH: &str = "augmentation";
const MAX_COPIES: usize = 1000;

/// Reads the section; `image_size` is the side of the network input in pixels.
pub(super) fn augmentation(node: Option<&Node>, image_size: usize, problems: &mut Problems) -> Augmentation {
    let mut augmentation = Augmentation::default();
    let mut section = Section::new(node, PATH, problems);
    section.value("copies", &mut augmentation.copies);
    let steps_node = section.table("steps");
    section.finish();
    match steps_node {
        Some(Node { item: Item::Array(nodes), .. }) => {
            for (i, node) in nodes.iter().enumerate() {
                let path = format!("{PATH}.steps[{i}]");
                augmentation.steps.extend(step(node, &path, image_size, problems));
            }
        }
        Some(node) => problems.at_key(
            "augmentation.steps",
            &format!("expected a list such as [\"flip_left_right\"], found {}", node.item.describe()),
        ),
        None => {}
    }
    check(&augmentation, problems);
    augmentation
}

/// What must hold for the list as a whole.
fn check(augmentation: &Augmentation, problems: &mut Problems) {
    let Augmentation { copies, steps } = augmentation;
    problems.require(*copies <= MAX_COPIES, "augmentation.copies", || {
        format!("must be from 0 to {MAX_COPIES}, it is {copies}")
    });
    problems.require(*copies == 0 || !steps.is_empty(), "augmentation.copies", || {
        "without augmentation.steps all copies would be the same photo".to_owned()
    });
    problems.require(*copies == 0 || !steps.iter().any(Step::mixes), "augmentation.copies", || {
        "mixup and cutmix change whole batches, not single photos: leave them out, or set copies = 0".to_owned()
    });
    let crops: Vec<usize> = (0..steps.len()).filter(|&i| steps.get(i).is_some_and(Step::crops_photo)).collect();
    problems.require(crops.is_empty() || crops == [0], "augmentation.steps", || {
        "random_resized_crop takes its part from the photo itself: it must be the first step, and the only one of its kind"
            .to_owned()
    });
    let first_mixing = steps.iter().position(Step::mixes).unwrap_or(steps.len());
    problems.require(steps.iter().skip(first_mixing).all(Step::mixes), "augmentation.steps", || {
        "mixup and cutmix work on whole batches: they must be the last steps".to_owned()
    });
}

/// Reads one step; `None` if its kind is not known, which is reported.
fn step(node: &Node, path: &str, image_size: usize, problems: &mut Problems) -> Option<Step> {
    let name = match &node.item {
        Item::Text(name) => name.clone(),
        Item::Table(_) => match node.child("kind") {
            Some(kind) => match String::from_node(kind) {
                Ok(name) => name,
                Err(message) => {
                    problems.at_key(&format!("{path}.kind"), &message);
                    return None;
                }
            },
            None => {
                problems.at_key(path, "has no `kind`, such as { kind = \"rotation\", degrees = 40 }");
                return None;
            }
        },
        other => {
            problems.at_key(path, &format!("expected a word or a table with `kind`, found {}", other.describe()));
            return None;
        }
    };
    let Some(mut step) = Step::named(&name) else {
        let hint = match suggestion(&name, &KINDS) {
            hint if hint.is_empty() => format!("; there are {}", KINDS.join(", ")),
            hint => hint,
        };
        problems.at_key(path, &format!("unknown kind {name:?}{hint}"));
        return None;
    };
    if let Item::Table(_) = node.item {
        read_keys(node, path, &mut step, problems);
    }
    check_ranges(&step, path, image_size, problems);
    Some(step)
}

/// Replaces the defaults by what the table says.
fn read_keys(node: &Node, path: &str, step: &mut Step, problems: &mut Problems) {
    let mut section = Section::new(Some(node), path, problems);
    section.table("kind");
    section.value("probability", &mut step.probability);
    match &mut step.kind {
        Kind::FlipLeftRight | Kind::FlipUpDown => {}
        Kind::Brightness { by } | Kind::Contrast { by } | Kind::Saturation { by } | Kind::Hue { by } => {
            section.value("by", by);
        }
        Kind::Rotation { degrees, fill } | Kind::Shear { degrees, fill } => {
            section.value("degrees", degrees);
            read_fill(&mut section, fill);
        }
        Kind::Zoom { by, fill } => {
            section.value("by", by);
            read_fill(&mut section, fill);
        }
        Kind::Shift { width, height, fill } => {
            section.value("width", width);
            section.value("height", height);
            read_fill(&mut section, fill);
        }
        Kind::RandomResizedCrop { scale, ratio } => {
            section.value("scale", scale);
            section.value("ratio", ratio);
        }
        Kind::RandomCrop { padding, fill } => {
            section.value("padding", padding);
            read_fill(&mut section, fill);
        }
        Kind::Erasing { scale, ratio, value } => {
            section.value("scale", scale);
            section.value("ratio", ratio);
            section.value("value", value);
        }
        Kind::RandAugment { operations, magnitude, value } => {
            section.value("operations", operations);
            section.value("magnitude", magnitude);
            section.value("value", value);
        }
        Kind::Mixup { alpha } | Kind::Cutmix { alpha } => section.value("alpha", alpha),
    }
    section.finish_alone();
}

/// `fill` with its `value`, which only a constant fill has.
fn read_fill(section: &mut Section<'_, '_>, fill: &mut Fill) {
    let mut mode = FillMode(*fill);
    section.value("fill", &mut mode);
    let mut value = None;
    section.value("value", &mut value);
    *fill = match (mode.0, value) {
        (Fill::Constant { .. }, Some(value)) => Fill::Constant { value },
        (fill, None) => fill,
        (fill, Some(_)) => {
            section.problem("value", "is for fill = \"constant\" only");
            fill
        }
    };
}

struct FillMode(Fill);

impl FromNode for FillMode {
    fn from_node(node: &Node) -> Result<Self, String> {
        let words = [
            ("nearest", Fill::Nearest),
            ("constant", Fill::Constant { value: 0.0 }),
            ("reflect", Fill::Reflect),
            ("wrap", Fill::Wrap),
        ];
        word(node, &words).map(Self)
    }
}

/// Two numbers, from and to.
impl FromNode for [f64; 2] {
    fn from_node(node: &Node) -> Result<Self, String> {
        let numbers: Vec<f64> = FromNode::from_node(node)?;
        Self::try_from(numbers).map_err(|n| format!("expected two numbers [from, to], found {}", n.len()))
    }
}

/// Reports numbers that a step cannot take.
fn check_ranges(step: &Step, path: &str, image_size: usize, problems: &mut Problems) {
    let mut number = |key: &str, value: f64, low: f64, high: f64| {
        problems.require((low..=high).contains(&value), &format!("{path}.{key}"), || {
            format!("must be from {low} to {high}, it is {value}")
        });
    };
    number("probability", step.probability, 0.0, 1.0);
    let fill = match step.kind {
        Kind::Rotation { fill, .. } | Kind::Shear { fill, .. } | Kind::Zoom { fill, .. } => Some(fill),
        Kind::Shift { fill, .. } | Kind::RandomCrop { fill, .. } => Some(fill),
        _ => None,
    };
    if let Some(Fill::Constant { value }) = fill {
        number("value", value, 0.0, 255.0);
    }
    match step.kind {
        Kind::FlipLeftRight | Kind::FlipUpDown => {}
        Kind::Brightness { by } | Kind::Contrast { by } | Kind::Saturation { by } => number("by", by, 0.0, 1.0),
        Kind::Hue { by } => number("by", by, 0.0, 0.5),
        Kind::Rotation { degrees, .. } => number("degrees", degrees, 0.0, 180.0),
        Kind::Shear { degrees, .. } => number("degrees", degrees, 0.0, 80.0),
        Kind::Zoom { by, .. } => number("by", by, 0.0, 0.95),
        Kind::Shift { width, height, .. } => {
            number("width", width, 0.0, 1.0);
            number("height", height, 0.0, 1.0);
        }
        Kind::RandomResizedCrop { scale, ratio } | Kind::Erasing { scale, ratio, .. } => {
            check_pair(path, "scale", scale, 1.0, problems);
            check_pair(path, "ratio", ratio, 100.0, problems);
            if let Kind::Erasing { value: Some(value), .. } = step.kind {
                problems.require((0.0..=255.0).contains(&value), &format!("{path}.value"), || {
                    format!("must be a grey from 0 to 255, it is {value}")
                });
            }
        }
        Kind::RandomCrop { padding, .. } => number("padding", padding as f64, 1.0, image_size as f64),
        Kind::RandAugment { operations, magnitude, value } => {
            number("operations", operations as f64, 1.0, 14.0);
            number("magnitude", magnitude as f64, 0.0, f64::from(MAX_MAGNITUDE));
            number("value", value, 0.0, 255.0);
        }
        Kind::Mixup { alpha } | Kind::Cutmix { alpha } => number("alpha", alpha, 0.01, 100.0),
    }
}

fn check_pair(path: &str, key: &str, [from, to]: [f64; 2], most: f64, problems: &mut Problems) {
    problems.require(from > 0.0 && from <= to && to <= most, &format!("{path}.{key}"), || {
        format!("must be [from, to] with 0 < from <= to <= {most}, it is [{from}, {to}]")
    });
}
