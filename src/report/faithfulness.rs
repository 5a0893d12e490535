//! The ranking of explanation methods as a table, as text and as curves.

use std::fmt::Write as _;

use super::plot::{Axis, Chart, Figure, Series, Style};
use super::table::Table;
use crate::explain::faithfulness::{
    COVERAGE, Candidate, Estimate, MOST_WITH_NEW_HEAD, MOST_WITH_NEW_WEIGHTS, Mark, Measure, RESAMPLES, Ranking, Score,
    Standing,
};

/// Lines with a colour of their own in a figure; the others are its background.
const COLOURED: [Style; 2] = [Style::First, Style::Second];

/// How an estimate is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intervals {
    /// `0.312 ± 0.03`: half the interval's width.
    HalfWidth,
    /// `0.312 (0.281 to 0.343)`
    Ends,
}

/// A method that does not apply, and the reason.
pub type LeftOut = (String, String);

/// Mean deletion and insertion curve of a candidate: probabilities at even steps of the share of pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanCurves {
    pub deletion: Vec<f64>,
    pub insertion: Vec<f64>,
}

/// What the study was of, for the page.
#[derive(Clone, Debug)]
pub struct Subject {
    pub run: String,
    pub dataset: String,
    pub layer: String,
    /// `the predicted class`, or the name of one.
    pub class: String,
    /// Photos whose maps were compared with those of randomised networks.
    pub sanity_photos: usize,
    /// Photos with a mask or box, and the mean share of the input that the objects cover; `None` without masks.
    pub masks: Option<(usize, f64)>,
    /// Steps of the curves.
    pub steps: usize,
    /// Methods with the number of photos for which no place of their map is positive.
    pub empty_maps: Vec<(String, usize)>,
    pub left_out: Vec<LeftOut>,
}

/// The ranking as a table, one row a candidate. Columns that nothing was measured for are left out.
pub fn table(ranking: &Ranking, intervals: Intervals) -> Table {
    let measured = |m: &Measure| ranking.standings.iter().any(|s| s.estimate(*m).is_some());
    let measures: Vec<Measure> = Measure::ALL.into_iter().filter(measured).collect();
    let headings = ["rank".to_owned()].into_iter().chain(measures.iter().map(|m| m.heading().to_owned()));
    let mut table = Table::new(["method".to_owned(), "remark".to_owned()], headings);
    // The remark is read last.
    let remark = table.columns.remove(1);
    table.columns.push(remark);
    for standing in &ranking.standings {
        let mut row = vec![standing.candidate.to_string(), cell(standing.rank, intervals, |v| format!("{v:.1}"))];
        row.extend(measures.iter().map(|&measure| match standing.estimate(measure) {
            // Of few photos, and only compared with a threshold.
            Some(e) if matches!(measure, Measure::HeadRandomised | Measure::AllRandomised) => measure.text(e.mean),
            Some(e) => cell(e, intervals, |v| measure.text(v)),
            None => "–".to_owned(),
        }));
        row.push(remark_on(ranking, standing));
        table.rows.push(row);
    }
    table
}

fn cell(estimate: Estimate, intervals: Intervals, text: impl Fn(f64) -> String) -> String {
    let Estimate { mean, low, high, .. } = estimate;
    match intervals {
        Intervals::HalfWidth => format!("{} ± {}", text(mean), text((high - low) / 2.0)),
        Intervals::Ends => format!("{} ({} to {})", text(mean), text(low), text(high)),
    }
}

fn remark_on(ranking: &Ranking, standing: &Standing) -> String {
    if standing.candidate.is_control() {
        return "knows nothing".into();
    }
    let marks: Vec<&str> = standing.marks.iter().map(|mark| mark.name()).collect();
    if !marks.is_empty() {
        return format!("! {}", marks.join(", "));
    }
    match (ranking.best(), standing.same_as) {
        (Some(best), _) if best.candidate == standing.candidate => "best".into(),
        (_, Some(same)) => format!("same maps as {same}"),
        _ if standing.ties_best => "as good as the best".into(),
        _ => String::new(),
    }
}

/// What the table says, in sentences, one a line.
pub fn conclusions(ranking: &Ranking, subject: &Subject) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(best) = ranking.best() {
        let rank = best.rank.mean;
        let is_another = |s: &&Standing| s.ties_best && s.candidate != best.candidate && s.same_as.is_none();
        let others: Vec<String> =
            ranking.standings.iter().filter(is_another).map(|s| s.candidate.to_string()).collect();
        lines.push(match others.is_empty() {
            true => format!("Best: {} (mean rank {rank:.1}), beyond doubt.", best.candidate),
            false => format!(
                "Best: {} (mean rank {rank:.1}); not distinguishable from it: {}.",
                best.candidate,
                others.join(", ")
            ),
        });
    }
    let same = ranking.standings.iter().filter_map(|s| Some((s.same_as?.to_string(), s.candidate.to_string())));
    for (first, others) in grouped(same) {
        lines.push(format!("The same maps as {first}: {}.", others.join(", ")));
    }
    let best_by = Measure::RANKED.into_iter().filter_map(|m| Some((m, ranking.best_by(m)?.candidate)));
    let best_by: Vec<String> =
        best_by.map(|(m, candidate)| format!("{candidate} ({})", m.name().replace('_', " "))).collect();
    if !best_by.is_empty() {
        lines.push(format!("First by each measure: {}.", best_by.join(", ")));
    }
    let unbeaten = ranking.standings.iter().filter(|s| !s.not_better_than.is_empty());
    for (controls, methods) in grouped(unbeaten.map(|s| (not_beaten(s), s.candidate.to_string()))) {
        lines.push(format!("Not better than {controls}: {}.", methods.join(", ")));
    }
    for (method, photos) in &subject.empty_maps {
        lines.push(format!(
            "{method} is 0 everywhere for {photos} of {} photos: nothing speaks for the class.",
            ranking.photos
        ));
    }
    for standing in ranking.standings.iter().filter(|s| !s.marks.is_empty()) {
        for mark in &standing.marks {
            let (what, measure) = match mark {
                Mark::Head => ("a new random head", Measure::HeadRandomised),
                Mark::Weights => ("entirely random weights", Measure::AllRandomised),
            };
            let correlation = standing.estimate(measure).map_or(f64::NAN, |e| e.mean);
            let candidate = standing.candidate;
            lines.push(format!("{candidate} is marked: with {what} its maps stay alike (ρ = {correlation:.2})."));
        }
    }
    for (method, reason) in &subject.left_out {
        lines.push(format!("{method} was left out: {reason}"));
    }
    lines
}

/// Values with the same key together, in the order in which the keys come.
fn grouped(pairs: impl Iterator<Item = (String, String)>) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// `(random) by deletion; (centre) by deletion and insertion`
fn not_beaten(standing: &Standing) -> String {
    let pairs = standing.not_better_than.iter();
    let pairs = pairs.map(|(control, measure)| (control.to_string(), measure.name().replace('_', " ")));
    let parts = grouped(pairs).into_iter().map(|(control, measures)| format!("{control} by {}", measures.join(", ")));
    parts.collect::<Vec<_>>().join("; ")
}

/// The whole study as a Markdown page.
pub fn markdown(ranking: &Ranking, subject: &Subject) -> String {
    let Subject { run, dataset, layer, class, sanity_photos, masks, steps, .. } = subject;
    let mut page = format!(
        "# Which explanations of {run} are true\n\n{dataset}: {} photos, maps at `{layer}` for {class}. Means with \
         {COVERAGE} % bootstrap intervals ({RESAMPLES} resamples of the photos).\n\n",
        ranking.photos
    );
    page += &table(ranking, Intervals::Ends).markdown();
    page.push('\n');
    for line in conclusions(ranking, subject) {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "* {line}");
    }
    let of_masks = match masks {
        Some((photos, area)) => format!(
            "* **pointing**: photos whose highest pixel lies on the object; **energy**: share of the map that does. Of the \
             {photos} photos with a mask or box; the objects cover {:.1} % of the input, which is what a map that knows \
             nothing scores.\n",
            area * 100.0
        ),
        None => String::new(),
    };
    let _ = write!(
        page,
        "\n## How to read it\n\n\
         * **rank**: mean of the ranks by deletion, insertion, ROAD and average drop among all rows.\n\
         * **deletion**: area under the probability of the class while pixels, the most important first, become the photo's \
         mean colour ({steps} steps); **insertion**: while they appear in a blurred photo. Petsiuk et al. 2018.\n\
         * **ROAD**: half the difference of the probability after the least and after the most important pixels were imputed, \
         mean over 20, 40, 60 and 80 %. Rong et al. 2022.\n\
         * **avg. drop**: what the probability loses if only what the map shows is left of the photo; **increase**: photos for \
         which it grows. Chattopadhay et al. 2018. Broad maps do well by it whatever they show.\n\
         * **ρ new head**, **ρ all new**: Spearman's correlation with the map of the same network with a random head, or all \
         weights random, mean over {sanity_photos} photos. Adebayo et al. 2018. From {MOST_WITH_NEW_HEAD} or \
         {MOST_WITH_NEW_WEIGHTS} on a method is marked and comes last: it does not show what the network has learnt.\n\
         {of_masks}\
         * **(random)**, **(centre)**: smooth noise and a Gaussian in the middle. A method that does not beat them explains \
         nothing.\n"
    );
    page
}

/// Mean deletion and insertion curves: the best two methods in colour, the random map dotted, the others in the background.
/// `curves[i]` are those of `ranking.standings[i]`.
pub fn figure(ranking: &Ranking, curves: &[MeanCurves], subject: &Subject) -> Figure {
    let coloured: Vec<Candidate> = ranking
        .standings
        .iter()
        .filter(|s| s.marks.is_empty() && !s.candidate.is_control() && s.same_as.is_none())
        .take(COLOURED.len())
        .map(|s| s.candidate)
        .collect();
    let chart = |title: &str, x: &str, of: fn(&MeanCurves) -> &[f64]| {
        let line = |(standing, curve): (&Standing, &MeanCurves)| {
            let place = coloured.iter().position(|&c| c == standing.candidate);
            let (style, name) = match (place.and_then(|i| COLOURED.get(i)), standing.candidate.name()) {
                (Some(&style), _) => (style, standing.candidate.to_string()),
                (None, "random") => (Style::Third, "(random)".to_owned()),
                (None, _) => (Style::Background, String::new()),
            };
            let probabilities = of(curve);
            let last = probabilities.len().saturating_sub(1).max(1) as f64;
            let points = probabilities.iter().enumerate().map(|(i, &p)| (i as f64 / last * 100.0, p)).collect();
            Series { name, style, points }
        };
        let mut series: Vec<Series> = ranking.standings.iter().zip(curves).map(line).collect();
        if let Some(first) = series.iter_mut().find(|s| s.style == Style::Background) {
            first.name = "others".into();
        }
        // Background first, so that nothing is drawn over the lines that count; the legend begins with the best.
        series.sort_by_key(|s| s.style != Style::Background);
        Chart {
            title: title.to_owned(),
            x: Axis::linear(x).within(0.0, 100.0),
            y: Axis::linear("probability of the class").from_zero().within(0.0, 1.0),
            series,
            marks: vec![],
        }
    };
    Figure {
        title: format!("{}: {} photos, maps at {}", subject.run, ranking.photos, subject.layer),
        charts: vec![
            chart("Deletion: lower is better", "most important pixels deleted (%)", |c| &c.deletion),
            chart("Insertion: higher is better", "most important pixels shown (%)", |c| &c.insertion),
        ],
    }
}

/// The mean of each candidate's deletion and insertion curves; `scores[candidate]` are of the photos.
pub fn mean_curves(scores: &[Vec<&Score>]) -> Vec<MeanCurves> {
    let mean = |scores: &[&Score], of: fn(&Score) -> &[f64]| {
        let length = scores.first().map_or(0, |s| of(s).len());
        let at = |i: usize| scores.iter().filter_map(|s| of(s).get(i)).sum::<f64>() / scores.len().max(1) as f64;
        (0..length).map(at).collect()
    };
    let of = |s: &Vec<&Score>| MeanCurves { deletion: mean(s, |s| &s.deletion), insertion: mean(s, |s| &s.insertion) };
    scores.iter().map(of).collect()
}
