//! `ft explain --faithfulness`: which methods' maps are true for this model on these photos.

mod sheets;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::sheets::Sheets;
use super::console::Console;
use super::explain::file_stem;
use super::model::OpenModel;
use super::photos;
use crate::data::photo::Photo;
use crate::draw::colour::ColourMap;
use crate::error::{say, usage};
use crate::explain::faithfulness::{
    Candidate, Estimate, Finding, Masks, Measure, ObjectMask, Ranking, Score, Settings, Specimen, Study, Values,
};
use crate::explain::photos::{RunPhotos, SeenPhoto};
use crate::explain::select::Prediction;
use crate::explain::{Explainer, Method, Options};
use crate::files::write_atomically;
use crate::random;
use crate::report::faithfulness::{Intervals, LeftOut, Subject, conclusions, figure, markdown, mean_curves, table};

/// Photos whose maps are made at once; progress shows after each so many.
const BATCH: usize = 4;
/// Photos whose maps are compared with those of randomised networks: a mean of so many tells 0.9 from 1, and each costs the maps of
/// two more networks.
const SANITY_PHOTOS: usize = 10;
/// Seed of the choice of photos.
const SEED: u64 = 0xfa17;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Is the map true?")]
pub struct FaithfulnessArgs {
    /// Test every method's maps on the network itself, and rank the methods
    #[arg(long, conflicts_with_all = ["count", "depth", "features", "scale", "layout", "full_size"])]
    pub faithfulness: bool,
    /// Where the objects are: DIR/<photo>.png (not black = object) or DIR/boxes.csv (path,x,y,width,height)
    #[arg(long, value_name = "DIR", requires = "faithfulness")]
    masks: Option<PathBuf>,
    /// How many test photos, spread over the classes, those with a mask first
    #[arg(long, value_name = "N", requires = "faithfulness", conflicts_with = "images", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(2..))]
    photos: u32,
    /// Steps of the deletion and insertion curves
    #[arg(long, value_name = "N", requires = "faithfulness", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(2..=1000))]
    steps: u16,
    /// For how many of the photos a sheet with all maps is drawn
    #[arg(long, value_name = "N", requires = "faithfulness", default_value_t = 6)]
    cards: u16,
}

/// What `ft explain` was asked for besides.
pub struct Request<'a> {
    pub model: &'a OpenModel,
    /// The methods; all that apply if empty.
    pub methods: &'a [Method],
    pub layer: Option<&'a str>,
    /// The class to explain; the predicted one if `None`.
    pub class: Option<u32>,
    pub images: &'a [PathBuf],
    pub data: Option<&'a Path>,
    pub out: Option<&'a Path>,
    pub colours: ColourMap,
    pub alpha: f32,
    /// What the methods are told.
    pub options: Options,
}

/// A photo to be judged.
struct Chosen {
    id: String,
    photo: Photo,
    /// Name of the true class, if known.
    truth: Option<String>,
}

/// A photo that was judged.
struct Judged<'a> {
    chosen: &'a Chosen,
    finding: Finding,
    /// Share of the input that the object covers.
    area: Option<f64>,
}

/// Ranks methods of explanation; the result, for programs and for people.
///
/// # Errors
/// A usage error if a named method does not apply, or nothing is marked on any photo; any other for what fails.
pub fn run(args: &FaithfulnessArgs, request: &Request) -> Result<(Value, String)> {
    let started = Instant::now();
    let OpenModel { description, network, folder, .. } = request.model;
    let explainer = Explainer::new(network, request.layer, request.options)?;
    let (methods, left_out) = applicable(&explainer, request.methods)?;
    methods.iter().filter_map(|&m| explainer.caution(m)).for_each(|caution| say(&format!("caution: {caution}")));
    let masks = args.masks.as_deref().map(Masks::open).transpose()?;
    let chosen = choose(args, request, masks.as_ref())?;
    if let Some(masks) = &masks
        && !chosen.iter().any(|c| masks.has(&c.id))
    {
        let example = chosen.first().map_or("", |c| c.id.as_str());
        return Err(usage(format!(
            "--masks: no mask or box for any of the {} photos, such as {example:?}",
            chosen.len()
        )));
    }
    let out = request.out.map_or_else(
        || folder.join("explain").join(format!("faithfulness-{}", file_stem(explainer.layer()))),
        Path::to_owned,
    );
    fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;

    let settings = Settings { steps: args.steps.into(), ..Settings::default() };
    let study = Study::new(&explainer, description, &methods, settings)?;
    let mut work = Work { request, study, masks, console: Console::default() };
    let (judged, skipped) = work.photos(&chosen)?;
    let candidates = work.study.candidates();
    let values: Vec<Vec<Values>> = (0..candidates.len())
        .map(|i| judged.iter().filter_map(|j| Some(j.finding.scores.get(i)?.values)).collect())
        .collect();
    let ranking = Ranking::new(&candidates, &values);
    let areas: Vec<f64> = judged.iter().filter_map(|j| j.area).collect();
    let subject = Subject {
        run: request.model.run_name(),
        dataset: description.dataset.clone(),
        layer: explainer.layer().to_owned(),
        class: request.class.map_or("the predicted class".into(), |c| class_name(request, c as usize).to_owned()),
        sanity_photos: judged.len().min(SANITY_PHOTOS),
        masks: work.masks.is_some().then(|| (areas.len(), areas.iter().sum::<f64>() / areas.len().max(1) as f64)),
        steps: settings.steps,
        empty_maps: empty_maps(&methods, &judged),
        left_out,
    };
    write_csv(&out.join("faithfulness.csv"), request, &candidates, &judged)?;
    write_atomically(&out.join("faithfulness.md"), |f| Ok(f.write_all(markdown(&ranking, &subject).as_bytes())?))?;
    save_curves(&out, &ranking, &candidates, &judged, &subject)?;
    let sheets =
        Sheets { request, explainer: &explainer, methods: &methods, masks: work.masks.as_ref(), ranking: &ranking };
    for (number, photo) in judged.iter().enumerate().take(args.cards.into()) {
        sheets.write(&out, number + 1, photo)?;
    }
    say(&work.time_spent(judged.len(), started));
    if let Some((photos, _)) = subject.masks {
        say(&format!("{photos} of {} photos have a mask or box", judged.len()));
    }
    let lines = conclusions(&ranking, &subject).join("\n");
    let text = format!("{}\n{lines}\n\n{}\n", table(&ranking, Intervals::HalfWidth).text(), out.display());
    Ok((object(&ranking, &subject, &judged, &skipped, &out, started), text))
}

/// The methods that apply, and those that do not with the reason. A method that was named must apply.
fn applicable(explainer: &Explainer, named: &[Method]) -> Result<(Vec<Method>, Vec<LeftOut>)> {
    if !named.is_empty() {
        named.iter().try_for_each(|&method| explainer.check(method))?;
        return Ok((named.to_vec(), Vec::new()));
    }
    let (mut methods, mut left_out) = (Vec::new(), Vec::new());
    for method in Method::ALL {
        match explainer.check(method) {
            Ok(()) => methods.push(method),
            Err(reason) => left_out.push((method.to_string(), format!("{reason:#}"))),
        }
    }
    Ok((methods, left_out))
}

fn class_name<'a>(request: &'a Request, index: usize) -> &'a str {
    request.model.description.classes.get(index).map_or("?", String::as_str)
}

/// The photos to judge, in an order whose beginning is spread over the classes too.
fn choose(args: &FaithfulnessArgs, request: &Request, masks: Option<&Masks>) -> Result<Vec<Chosen>> {
    let description = &request.model.description;
    if request.images.is_empty() {
        let photos = RunPhotos::open(&request.model.folder, description, request.data)?;
        let is_marked = |id: &str| masks.is_some_and(|m| m.has(id));
        let rows = drawn(&photos.rows, args.photos as usize, is_marked);
        let chosen = rows.into_iter().map(|row| {
            let truth = Some(class_name(request, row.truth).to_owned());
            Ok(Chosen { id: row.id.clone(), photo: photos.find(&row.id)?, truth })
        });
        return chosen.collect();
    }
    let found = photos::find(request.images)?;
    let chosen = found.into_iter().map(|path| {
        let folder = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        let truth = folder.filter(|name| description.classes.contains(name));
        Chosen { id: id_of_file(&path, masks), truth, photo: Photo::File(path) }
    });
    let chosen: Vec<Chosen> = chosen.collect();
    let mut seen = BTreeMap::new();
    for photo in &chosen {
        let marked = masks.is_some_and(|m| m.has(&photo.id));
        if let Some(other) = seen.insert(photo.id.as_str(), photo.photo.describe())
            && marked
        {
            return Err(usage(format!("--masks: {} is of both {other} and {}", photo.id, photo.photo.describe())));
        }
    }
    Ok(chosen)
}

/// What a photo named on the command line is called in the folder of masks: the longest end of its path that has a mask there,
/// else its whole path.
fn id_of_file(path: &Path, masks: Option<&Masks>) -> String {
    let parts: Vec<_> = path.components().collect();
    let ends = (0..parts.len()).map(|i| parts.iter().skip(i).collect::<PathBuf>());
    let mut ends = ends.filter(|end| end.is_relative()).map(|end| end.to_string_lossy().into_owned());
    let marked = masks.and_then(|masks| ends.find(|end| masks.has(end)));
    marked.unwrap_or_else(|| path.to_string_lossy().into_owned())
}

/// `count` of the rows, right and wrong as they come: the true classes in turn, in each the marked photos first, else in an order
/// drawn from the ids.
fn drawn(rows: &[Prediction], count: usize, is_marked: impl Fn(&str) -> bool) -> Vec<&Prediction> {
    let mut classes: BTreeMap<usize, Vec<&Prediction>> = BTreeMap::new();
    for row in rows {
        classes.entry(row.truth).or_default().push(row);
    }
    for class in classes.values_mut() {
        class.sort_by_cached_key(|row| {
            (!is_marked(&row.id), random::mix(SEED, random::hash_name(&row.id)), row.id.clone())
        });
    }
    let most = classes.values().map(Vec::len).max().unwrap_or(0);
    let turns = (0..most).flat_map(|turn| classes.values().filter_map(move |class| class.get(turn).copied()));
    turns.take(count).collect()
}

/// What it takes to judge the photos.
struct Work<'a> {
    request: &'a Request<'a>,
    study: Study<'a>,
    masks: Option<Masks>,
    console: Console,
}

impl Work<'_> {
    /// Judges all photos that can be read; the others with the reason.
    fn photos<'c>(&mut self, chosen: &'c [Chosen]) -> Result<(Vec<Judged<'c>>, Vec<String>)> {
        let (mut judged, mut skipped) = (Vec::new(), Vec::new());
        self.console.begin("test the maps", chosen.len());
        for batch in chosen.chunks(BATCH) {
            let mut seen = Vec::new();
            for chosen in batch {
                let description = &self.request.model.description;
                match SeenPhoto::read(&chosen.photo, description, self.request.model.network.device()) {
                    Ok(photo) => seen.push((chosen, self.object(chosen, &photo)?, photo)),
                    Err(error) => {
                        self.console.log(&format!("skipped {}: {error:#}", chosen.id));
                        skipped.push(chosen.id.clone());
                    }
                }
            }
            let before = judged.len();
            let specimens = seen.iter().enumerate().map(|(i, (chosen, object, photo))| Specimen {
                input: &photo.input,
                class: self.request.class,
                object: object.clone(),
                key: random::mix(SEED, random::hash_name(&chosen.id)),
                check_sanity: before + i < SANITY_PHOTOS,
            });
            let specimens: Vec<Specimen> = specimens.collect();
            let findings = self.study.photos(&specimens).with_context(|| {
                let names: Vec<&str> = seen.iter().map(|(chosen, ..)| chosen.id.as_str()).take(3).collect();
                names.join(", ")
            })?;
            for (finding, (chosen, object, _)) in findings.into_iter().zip(&seen) {
                let area = object.as_ref().map(ObjectMask::area);
                judged.push(Judged { chosen, finding, area });
                self.console.progress(judged.len() + skipped.len(), "");
            }
        }
        self.console.end();
        ensure!(!judged.is_empty(), "none of the {} photos could be read", chosen.len());
        Ok((judged, skipped))
    }

    /// The marked object, if the network sees any of it.
    fn object(&self, chosen: &Chosen, photo: &SeenPhoto) -> Result<Option<ObjectMask>> {
        let Some(masks) = &self.masks else { return Ok(None) };
        let size = self.request.model.description.image_size;
        let object = masks.object(&chosen.id, photo.image.dimensions(), &photo.region, size)?;
        if object.as_ref().is_some_and(|o| o.area() == 0.0) {
            self.console.log(&format!("{}: nothing of its mask is in what the network sees", chosen.id));
            return Ok(None);
        }
        Ok(object)
    }

    /// `100 photos in 312 s (0.32 photos/s): 40 % maps, 15 % changing photos, 42 % predicting 43,200 of them`
    fn time_spent(&self, photos: usize, started: Instant) -> String {
        let all = started.elapsed().as_secs_f64();
        let share = |part: f64| part / all.max(1e-9) * 100.0;
        let spent = &self.study.judging;
        format!(
            "{photos} photos in {all:.0} s ({:.2} photos/s): {:.0} % maps, {:.0} % changing photos, {:.0} % predicting {} \
             changed photos",
            photos as f64 / all.max(1e-9),
            share(self.study.mapping.as_secs_f64()),
            share(spent.changing.as_secs_f64()),
            share(spent.predicting.as_secs_f64()),
            spent.forms
        )
    }
}

/// Methods with the number of photos for which they find nothing, where they do.
fn empty_maps(methods: &[Method], judged: &[Judged]) -> Vec<(String, usize)> {
    let count = |i: usize| {
        let maps = judged.iter().filter_map(|j| j.finding.maps.get(i));
        maps.filter(|map| !map.has_positive()).count()
    };
    let counts = methods.iter().enumerate().map(|(i, method)| (method.to_string(), count(i)));
    counts.filter(|(_, empty)| *empty > 0).collect()
}

/// One line a photo and candidate.
fn write_csv(path: &Path, request: &Request, candidates: &[Candidate], judged: &[Judged]) -> Result<()> {
    write_atomically(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        let fixed = ["path", "truth", "predicted", "probability", "explained", "object_area", "method"];
        csv.write_record(fixed.into_iter().chain(Measure::ALL.map(Measure::name)))?;
        for photo in judged {
            let finding = &photo.finding;
            let number = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
            for (candidate, score) in candidates.iter().zip(&finding.scores) {
                let row = [
                    photo.chosen.id.clone(),
                    photo.chosen.truth.clone().unwrap_or_default(),
                    class_name(request, finding.predicted).to_owned(),
                    finding.probability.to_string(),
                    class_name(request, finding.explained).to_owned(),
                    number(photo.area),
                    candidate.name().to_owned(),
                ];
                csv.write_record(row.into_iter().chain(Measure::ALL.map(|m| number(score.values.get(m)))))?;
            }
        }
        Ok(csv.flush()?)
    })
}

/// `curves.png` and `curves.svg`.
fn save_curves(
    out: &Path,
    ranking: &Ranking,
    candidates: &[Candidate],
    judged: &[Judged],
    subject: &Subject,
) -> Result<()> {
    let of_standing = ranking.standings.iter().map(|standing| {
        let index = candidates.iter().position(|&c| c == standing.candidate);
        judged.iter().filter_map(|j| j.finding.scores.get(index?)).collect::<Vec<&Score>>()
    });
    let curves = mean_curves(&of_standing.collect::<Vec<_>>());
    figure(ranking, &curves, subject).save(&out.join("curves"))?;
    Ok(())
}

/// The result for programs.
fn object(
    ranking: &Ranking,
    subject: &Subject,
    judged: &[Judged],
    skipped: &[String],
    out: &Path,
    started: Instant,
) -> Value {
    let number = |e: Estimate| json!({ "mean": e.mean, "low": e.low, "high": e.high, "photos": e.photos });
    let methods = ranking.standings.iter().map(|standing| {
        let measures = Measure::ALL.into_iter();
        let measures = measures.filter_map(|m| Some((m.name().to_owned(), number(standing.estimate(m)?))));
        let marks: Vec<&str> = standing.marks.iter().map(|m| m.name()).collect();
        let beaten = standing.not_better_than.iter();
        let beaten: Vec<Value> =
            beaten.map(|(control, measure)| json!({ "control": control.name(), "measure": measure.name() })).collect();
        json!({
            "method": standing.candidate.name(),
            "control": standing.candidate.is_control(),
            "rank": number(standing.rank),
            "measures": serde_json::Map::from_iter(measures),
            "marks": marks,
            "as_good_as_best": standing.ties_best,
            "same_as": standing.same_as.map(|c| c.name()),
            "not_better_than": beaten,
        })
    });
    let left_out: Vec<Value> =
        subject.left_out.iter().map(|(method, reason)| json!({ "method": method, "reason": reason })).collect();
    let empty: Vec<Value> =
        subject.empty_maps.iter().map(|(method, photos)| json!({ "method": method, "photos": photos })).collect();
    json!({
        "run": subject.run,
        "layer": subject.layer,
        "class": subject.class,
        "out": out,
        "photos": judged.len(),
        "skipped_photos": skipped,
        "photos_with_masks": subject.masks.map(|(photos, _)| photos),
        "mean_object_area": subject.masks.map(|(_, area)| area),
        "best": ranking.best().map(|s| s.candidate.name()),
        "methods": methods.collect::<Vec<_>>(),
        "empty_maps": empty,
        "left_out": left_out,
        "seconds": started.elapsed().as_secs_f64(),
    })
}
