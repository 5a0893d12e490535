//! What a comparison means, as sentences.

use std::collections::BTreeSet;

use super::compare::{Against, ComparedSplit, DifferingKey};
use super::label;
use super::pairs::Common;
use super::record::Record;
use crate::natural;
use crate::runs::Status;

/// `p = 0.31`, `p = 0.0021`, `p < 0.0001`.
pub fn p(value: f64) -> String {
    match value {
        v if v < 0.0001 => "p < 0.0001".to_owned(),
        v if v < 0.001 => format!("p = {v:.4}"),
        v if v < 0.1 => format!("p = {v:.3}"),
        v => format!("p = {v:.2}"),
    }
}

/// A difference of shares in points: `+3.3`.
pub fn points(share: f64) -> String {
    format!("{:+.1}", 100.0 * share)
}

/// Whether a run is better than the first, and how that is known. `names` are the first's and its own; `comparisons` were asked
/// for at once.
pub fn verdict(names: (&str, &str), split: &str, against: &Against, comparisons: usize) -> String {
    let (first, own) = names;
    let Against { difference, all_photos, first_accuracy, accuracy, corrected_p, verdict, .. } = against;
    let (photos, each) = (difference.photos, &difference.accuracy);
    let place = match all_photos {
        true => format!("on the same {photos} {split} photos"),
        false => format!("on the {photos} photos with which both were tested"),
    };
    if difference.gained + difference.lost == 0 {
        return format!("{first} and {own} cannot be told apart: {place} they are right and wrong alike (p = 1).");
    }
    let p_value = match comparisons {
        // Nobody needs the digits of a chance of one in ten thousand.
        _ if p(difference.p_value) == p(*corrected_p) => p(*corrected_p),
        _ => format!(
            "{}, {} corrected for {comparisons} comparisons",
            p(difference.p_value),
            p(*corrected_p).trim_start_matches("p = ")
        ),
    };
    let what = match *verdict {
        "better" => format!("{own} is better than {first}"),
        "worse" => format!("{first} is better than {own}"),
        _ => format!("{first} and {own} cannot be told apart ({})", p(*corrected_p)),
    };
    format!(
        "{what}: {place} {own} has {accuracy:.4} and {first} {first_accuracy:.4}, {} points (95 % interval {} to {}); only {own} is right \
         on {}, only {first} on {} (McNemar's exact test: {p_value}).",
        points(each.value),
        points(each.low),
        points(each.high),
        difference.gained,
        difference.lost,
    )
}

/// What each run lacks.
pub fn of_runs(records: &[Record]) -> Vec<String> {
    let mut said = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let (name, info) = (label(i), &record.info);
        let planned = info.epochs_planned.map(|planned| format!(" of {planned}")).unwrap_or_default();
        match info.status {
            Status::Running => said.push(format!("{name} is still running: {}{planned} epochs so far.", info.epochs)),
            Status::Interrupted => {
                said.push(format!("{name} was interrupted after {}{planned} epochs.", info.epochs));
            }
            Status::Failed => said.push(format!("{name} failed after {}{planned} epochs.", info.epochs)),
            Status::Finished | Status::Damaged => {}
        }
        if record.recipe.is_none() {
            said.push(format!("The recipe of {name} cannot be read; it is left out of the comparison of recipes."));
        }
        if !record.problems.is_empty() {
            said.push(format!("{name}: {}.", record.problems.join("; ").trim_end_matches('.')));
        }
        match &record.figures {
            None => said.push(format!(
                "{name} has no predictions: its figures are not known, and nothing says whether it is better."
            )),
            Some(figures) if figures.split == "val" => said.push(format!(
                "{name} has no test photos: its figures are of the validation photos, which chose its best epoch."
            )),
            Some(_) => {}
        }
    }
    said
}

/// Why a run may not be compared with the first.
pub fn of_pair((a, first): (&str, &Record), (b, other): (&str, &Record), common: &Common) -> Vec<String> {
    let mut said = Vec::new();
    let (Some(one), Some(two)) = (&first.figures, &other.figures) else { return said };
    said.extend(classes(a, &first.classes, b, &other.classes));
    let found = common.pairs.len();
    if found == 0 {
        said.push(format!(
            "{a} and {b} were tested with different photos, none of them in common: their accuracies cannot be compared, and no difference \
             is given."
        ));
    } else if found + common.seen_by_one < one.photos.max(two.photos) {
        said.push(format!(
            "{a} was tested with {} photos and {b} with {}, of which {} the same: their accuracies cannot be compared as they \
             stand, and the difference is that on these {found}.",
            one.photos,
            two.photos,
            are(found)
        ));
    }
    if common.seen_by_one > 0 {
        said.push(format!(
            "{} photos are left out of the difference between {a} and {b}: only one of them has trained on these.",
            common.seen_by_one
        ));
    }
    if common.relabelled > 0 {
        said.push(format!(
            "{} test photos of {b} have another true class in {a}: they are left out of the difference.",
            common.relabelled
        ));
    }
    if found > 0 && !common.by_content {
        said.push(format!(
            "{a} or {b} has not recorded the content of its photos: those of the same name were taken for the same."
        ));
    }
    said
}

fn classes(a: &str, one: &BTreeSet<String>, b: &str, two: &BTreeSet<String>) -> Option<String> {
    let only = |x: &BTreeSet<String>, y: &BTreeSet<String>| natural::list(x.difference(y));
    let told = [(only(one, two), a), (only(two, one), b)];
    let told: Vec<String> = told
        .iter()
        .filter(|(only, _)| !only.is_empty())
        .map(|(only, name)| format!("only {name} knows {only}"))
        .collect();
    (!told.is_empty()).then(|| {
        format!("The classes differ ({}): choosing among fewer or other classes is another task.", told.join("; "))
    })
}

/// Which runs had other photos to learn from and to be chosen by.
pub fn of_splits(splits: &[ComparedSplit]) -> Vec<String> {
    let mut said = Vec::new();
    let doing = [
        ("train", "was trained on other photos than", "what is better may be the photos, not the recipe"),
        ("val", "had other validation photos than", "validation accuracies cannot be compared"),
    ];
    for (split, doing, so) in doing {
        let Some(compared) = splits.iter().find(|compared| compared.split == split && !compared.same) else { continue };
        let Some(first) = compared.runs.iter().position(Option::is_some) else { continue };
        for (i, run) in compared.runs.iter().enumerate() {
            let name = label(i);
            match run {
                Some(run) if run.added + run.missing > 0 => said.push(format!(
                    "{name} {doing} {}: {} photos, {} of them not among those of {0}, {} missing; {so}.",
                    label(first),
                    run.photos,
                    run.added,
                    run.missing,
                )),
                Some(_) => {}
                None if split == "train" => {
                    said.push(format!(
                        "{name} has not recorded its photos: whether they are the others' is not known."
                    ));
                }
                None => {}
            }
        }
    }
    said
}

/// Which test photos have been seen in training, by the own run or by what it is compared with.
pub fn of_leaks(first: &Record, others: &[Record]) -> Vec<String> {
    let mut said = Vec::new();
    let all: Vec<(String, &Record)> =
        std::iter::once(first).chain(others).enumerate().map(|(i, record)| (label(i), record)).collect();
    let is_test = |record: &Record| record.figures.as_ref().is_some_and(|figures| figures.split == "test");
    for (tested, by) in all.iter().filter(|(_, record)| is_test(record)) {
        let photos = by.judged();
        for (trained, of) in &all {
            let is_own = trained == tested;
            if !is_own && trained != "A" && tested != "A" {
                continue;
            }
            let [training, validation] =
                [of.trained_on(), of.chosen_by()].map(|seen| seen.map_or(0, |seen| seen.count(&photos)));
            let total = photos.len();
            if is_own && training + validation > 0 {
                said.push(format!(
                    "Of the {total} test photos of {tested}, {} also by content among its own training ({training}) or validation \
                     photos ({validation}): its accuracy is too high for new photos.",
                    are(training + validation)
                ));
            } else if training + validation > 0 {
                said.push(format!(
                    "Of the {total} test photos of {tested}, {} among the training photos of {trained} ({training}) or its validation \
                     photos ({validation}): they cannot test {trained}.",
                    are(training + validation)
                ));
            }
        }
    }
    said
}

fn are(count: usize) -> String {
    if count == 1 { "1 is".to_owned() } else { format!("{count} are") }
}

/// Times are of a machine.
pub fn of_machines(differing: &[DifferingKey]) -> Option<String> {
    let of_machine = |key: &&DifferingKey| ["device", "processor", "cores", "threads"].contains(&key.key.as_str());
    let keys: Vec<&str> = differing.iter().filter(of_machine).map(|key| key.key.as_str()).collect();
    (!keys.is_empty()).then(|| format!("The runs had not the same {}: times cannot be compared.", keys.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::page::data::{Difference, Estimate};

    fn against(gained: usize, lost: usize, p_value: f64, verdict: &'static str) -> Against {
        let accuracy = Estimate { value: 0.05, low: -0.012, high: 0.11 };
        Against {
            difference: Difference { photos: 100, accuracy, gained, lost, p_value },
            all_photos: true,
            first_accuracy: 0.8,
            accuracy: 0.85,
            corrected_p: p_value,
            verdict,
            seen_by_one: 0,
        }
    }

    #[test]
    fn verdicts_are_plain_words() {
        let said = verdict(("A", "B"), "test", &against(8, 3, 0.2266, "not_distinguishable"), 1);
        assert!(said.starts_with("A and B cannot be told apart (p = 0.23): on the same 100 test photos"), "{said}");
        assert!(
            said.contains("+5.0 points (95 % interval -1.2 to +11.0); only B is right on 8, only A on 3"),
            "{said}"
        );
        let several = Against { corrected_p: 0.043, ..against(9, 1, 0.0215, "better") };
        let said = verdict(("A", "C"), "test", &several, 3);
        assert!(said.starts_with("C is better than A:"), "{said}");
        assert!(said.contains("0.043 corrected for 3 comparisons"), "{said}");
        assert!(verdict(("A", "B"), "test", &against(1, 9, 0.0215, "worse"), 1).starts_with("A is better than B:"));
        assert!(
            verdict(("A", "B"), "test", &against(0, 0, 1.0, "not_distinguishable"), 1)
                .contains("right and wrong alike")
        );
    }

    #[test]
    fn small_p_values_keep_their_digits() {
        assert_eq!([0.5, 0.05, 0.0004, 1e-9].map(p), ["p = 0.50", "p = 0.050", "p = 0.0004", "p < 0.0001"]);
    }
}
