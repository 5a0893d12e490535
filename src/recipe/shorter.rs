//! Fewer epochs than a recipe is made for: its phases and what its schedule counts in epochs shrink in proportion.

use super::problems::Problems;
use super::read::FromNode;
use super::tree::{Item, Node, set};
use super::{set_key, train};

/// Sets keys as `--set` does, in order. If that leaves the recipe fewer epochs, phases and schedule are shortened as far as no key sets
/// them; the line that is returned says what became of them.
pub(super) fn set_keys<'c>(
    root: &mut Node,
    changes: impl IntoIterator<Item = (&'c Vec<String>, &'c Node)>,
) -> Option<String> {
    let before = train::read(root.child("train"), &mut Problems::default()).epochs;
    let mut paths = Vec::new();
    for (path, value) in changes {
        set_key(root, path, value.clone());
        paths.push(path);
    }
    let node = root.child("train")?.child("epochs")?;
    let epochs =
        usize::from_node(node).ok().filter(|epochs| (1..before.min(train::MOST_EPOCHS + 1)).contains(epochs))?;
    let place = node.place.clone();
    if !paths.iter().any(|path| ["train", "epochs"].iter().eq(path.iter())) {
        return None;
    }
    let train = train::read(root.child("train"), &mut Problems::default());
    // New and old number of epochs.
    let mut ratio = (epochs, before);
    let mut said = Vec::new();
    let is_set = |key: &[&str]| paths.iter().any(|path| key.iter().zip(path.iter()).all(|(a, b)| a == b));
    if !train.phase.is_empty() && !is_set(&["train", "phase"]) {
        let old: Vec<usize> = train.phase.iter().map(|phase| phase.epochs).collect();
        // Refused with the other mistakes.
        let new = apportioned(&old, epochs)?;
        // What fits into each phase before fits into it now.
        let ratios = new.iter().copied().zip(old.iter().copied());
        let crossed = |a: usize, b: usize| a as u128 * b as u128;
        ratio = ratios.reduce(|a, b| if crossed(b.0, a.1) < crossed(a.0, b.1) { b } else { a })?;
        shorten_phases(root, &new);
        said.push(format!("the epochs of train.phase are {} (were {})", listed(&new), listed(&old)));
    }
    let mut scaled = train.schedule.clone();
    scaled.scale(ratio.0, ratio.1);
    let mut old = train.schedule;
    for ((key, new), (_, old)) in scaled.lengths_mut().into_iter().zip(old.lengths_mut()) {
        let path = ["train", "schedule", key];
        if is_set(&path) {
            continue;
        }
        let float = |value: &f64| Node { place: place.clone(), item: Item::Float(*value), typed: None };
        let node = match &*new {
            [value] if key != "milestones" => float(value),
            values => Node { place: place.clone(), item: Item::Array(values.iter().map(float).collect()), typed: None },
        };
        said.push(format!("train.schedule.{key} is {} (was {})", shown(new), shown(old)));
        set(root, &path.map(str::to_owned), node);
    }
    (!said.is_empty())
        .then(|| format!("{epochs} epochs instead of the recipe's {before}; in proportion {}", said.join(", ")))
}

fn shorten_phases(root: &mut Node, epochs: &[usize]) {
    let phases = root.child_mut("train").and_then(|train| train.child_mut("phase"));
    let Some(Node { item: Item::Array(phases), .. }) = phases else { return };
    for (phase, epochs) in phases.iter_mut().zip(epochs) {
        if let Some(node) = phase.child_mut("epochs") {
            // Never more than was read as an integer.
            node.item = Item::Integer(i64::try_from(*epochs).unwrap_or(i64::MAX));
        }
    }
}

/// `total` epochs divided as `old` are, at least one each; none if there are not so many.
fn apportioned(old: &[usize], total: usize) -> Option<Vec<usize>> {
    let sum = old.iter().copied().fold(0usize, usize::saturating_add).max(1);
    if total < old.len() {
        return None;
    }
    // How many epochs a part lacks of its share, in units of 1 / sum.
    let lacks = |old: usize, new: usize| old as i128 * total as i128 - new as i128 * sum as i128;
    let mut new: Vec<usize> =
        old.iter().map(|old| ((*old as u128 * total as u128 / sum as u128) as usize).max(1)).collect();
    loop {
        let given: usize = new.iter().sum();
        let parts = old.iter().zip(new.iter_mut());
        match given.cmp(&total) {
            std::cmp::Ordering::Equal => return Some(new),
            // Of equal ones the first.
            std::cmp::Ordering::Less => *parts.rev().max_by_key(|(old, new)| lacks(**old, **new))?.1 += 1,
            std::cmp::Ordering::Greater => {
                *parts.filter(|(_, new)| **new > 1).min_by_key(|(old, new)| lacks(**old, **new))?.1 -= 1;
            }
        }
    }
}

fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// With at most four decimals.
fn shown(values: &[f64]) -> String {
    let short = |value: &f64| {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    values.iter().map(short).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::apportioned;

    #[test]
    fn epochs_of_phases_are_divided_as_before_with_one_for_each() {
        assert_eq!(apportioned(&[2, 6], 4), Some(vec![1, 3]));
        assert_eq!(apportioned(&[1, 1, 38], 4), Some(vec![1, 1, 2]));
        assert_eq!(apportioned(&[5, 5, 5], 10), Some(vec![4, 3, 3]));
        assert_eq!(apportioned(&[30, 10], 2), Some(vec![1, 1]));
        assert_eq!(apportioned(&[3, 4], 1), None);
    }
}
