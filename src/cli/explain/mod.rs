//! `ft explain`: where a trained model looks.

mod cards;
mod channels;
mod chosen;
mod gallery;
mod request;
mod settings;
mod sheets;
mod subject;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::channels::ChannelRequest;
use self::chosen::Group;
use self::gallery::{Gallery, Shown, folder_of};
pub(super) use self::request::file_stem;
use self::request::{ClassChoice, Layout, Look, Methods, Scale, joined_name};
use self::settings::Settings;
use self::subject::{LeftOut, Subject, applicable};
use super::faithfulness::{self, FaithfulnessArgs, Request};
use super::model::OpenModel;
use super::output::{print, print_json};
use super::{MachineArgs, RunsArgs, board};
use crate::draw::colour::{ColourMap, DEFAULT_ALPHA};
use crate::error::{say, usage};
use crate::explain::Method;
use crate::explain::features::ChannelOrder;
use crate::models::Graph;
use crate::runs::{Status, file, list};

const EXAMPLES: &str = "\
Examples:
  ft explain                                           the best run: test photos, right and wrong ones
  ft explain --model latest --layer conv3_block4_out   another layer of the newest run
  ft explain --class roses --images garden/ rose.jpg   what speaks for roses in these photos
  ft explain --class cat,dog                           what speaks for cat, and what for dog, on one scale
  ft explain --class predicted,true --scale shared     what misled the model, on one scale for all photos
  ft explain --method gradcam,layercam,hirescam        methods beside each other; all for all of them
  ft explain --depth all --count 6                     from the first stage to the last, right and wrong ones
  ft explain --model vgg16 --model resnet --depth all  two models, one above the other
  ft explain --model all                               the same pictures for every finished run
  ft explain --features conv2_block1_out --channels 25 channels of a layer
  ft explain --features stages                         a few channels of every stage
  ft explain --faithfulness                            which methods' maps are true for the best run's model";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run whose model is explained: best, latest, an id or a part of it, a recipe or tag that one run has, or the path of a run or a checkpoint; twice for two
    /// models on one card; all for every finished run, each in its own folder [default: best]
    #[arg(long = "model", value_name = "RUN")]
    models: Vec<String>,
    /// Methods to explain with, separated by commas, or all [default: gradcam, with --faithfulness all]
    #[arg(long, value_name = "NAME[,NAME…]")]
    method: Option<String>,
    /// The layer to look at [default: the last convolution]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// A row of maps for each photo: all for each stage from the first to the last, or layers separated by commas
    #[arg(long, value_name = "all|NAME[,NAME…]", conflicts_with = "layer")]
    depth: Option<String>,
    /// Classes to explain, separated by commas: names, predicted, true, or second for the runner-up [default: predicted]
    #[arg(long, value_name = "NAME[,NAME…]")]
    class: Option<String>,
    /// Channels of a layer instead of maps; stages for a few of every stage
    #[arg(long, value_name = "LAYER|stages", conflicts_with_all = ["method", "layer", "depth", "class", "alpha", "layout", "full_size"])]
    features: Option<String>,
    /// How many channels to show [default: 16 of a layer, 8 of each stage]
    #[arg(long, value_name = "N", requires = "features", value_parser = clap::value_parser!(u16).range(1..=256))]
    channels: Option<u16>,
    /// Which channels come first: strongest (by mean absolute activation) or first (by number) [default: strongest]
    #[arg(long, value_name = "ORDER", requires = "features")]
    order: Option<ChannelOrder>,
    /// Photos, folders of photos, or quoted patterns such as '*.jpg' [default: test photos of the run, right and wrong ones]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    images: Vec<PathBuf>,
    /// Where the run's photos lie now [default: where they lay in training]
    #[arg(long, value_name = "PATH", conflicts_with = "images")]
    data: Option<PathBuf>,
    /// How many test photos of each kind, right and wrong [default: 12, with --features 1]
    #[arg(long, value_name = "N", conflicts_with = "images", value_parser = clap::value_parser!(u16).range(1..))]
    count: Option<u16>,
    /// Folder for the pictures [default: explain/ in the run folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Colours of the maps: jet, viridis or turbo [default: jet, with --features viridis]
    #[arg(long, value_name = "NAME")]
    colour_map: Option<ColourMap>,
    /// Opacity of the heat over the photo, from 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = DEFAULT_ALPHA, value_parser = fraction)]
    alpha: f32,
    /// Which maps share a scale of colours [default: photo for several classes or for channels, else each]
    #[arg(long, value_enum, value_name = "WHICH")]
    scale: Option<Scale>,
    /// Photo and maps side by side, or only the maps over the photo
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    layout: Layout,
    /// Each photo's card at the photo's own resolution, however large [default: at most 960 pixels a side]
    #[arg(long)]
    full_size: bool,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    faithfulness: FaithfulnessArgs,
}

impl Args {
    /// The methods that were named, or the usual one.
    fn methods(&self) -> Result<Methods> {
        Methods::parse(self.method.as_deref().unwrap_or(Method::default().name()))
    }
}

fn fraction(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

/// Explains models.
///
/// # Errors
/// A usage error if there is no such run, layer, class or method; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    let (result, text) = explain(args)?;
    if args.json { print_json(&result) } else { print(&text) }
}

/// Explains models; what came of it, for programs and for people.
///
/// # Errors
/// As [`run`].
pub(super) fn explain(args: &Args) -> Result<(Value, String)> {
    args.machine.set_threads()?;
    let device = args.machine.device.ready()?;
    let open = |which: &str| OpenModel::open(&args.runs.runs, which, &device);
    if args.faithfulness.faithfulness {
        return rank_methods(args, &open);
    }
    match args.models.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["all"] => explain_all(args, &open),
        several if several.contains(&"all") => {
            Err(usage("--model all is every run already; name it alone, or name the runs without it"))
        }
        [] => explain_models(args, vec![open("best")?], args.out.as_deref()),
        some => explain_models(args, some.iter().map(|which| open(which)).collect::<Result<_>>()?, args.out.as_deref()),
    }
}

/// Tests the methods' maps of one model.
fn rank_methods(args: &Args, open: &dyn Fn(&str) -> Result<OpenModel>) -> Result<(Value, String)> {
    let which = match args.models.as_slice() {
        [] => "best",
        [one] if one != "all" => one,
        _ => return Err(usage("--faithfulness judges the maps of one model; name one run with --model")),
    };
    let methods = args.method.as_deref().map(Methods::parse).transpose()?;
    let model = open(which)?;
    check_predictions(args, &model)?;
    let classes = &model.description.classes;
    let class = match class_choices(args, classes)?.as_slice() {
        [ClassChoice::Predicted] => None,
        [ClassChoice::Named(name)] => classes.iter().position(|class| class == name).map(|class| class as u32),
        _ => return Err(usage("--faithfulness explains the predicted class, or one that --class names")),
    };
    let request = Request {
        model: &model,
        methods: methods.as_ref().filter(|methods| !methods.all).map_or(&[], |methods| &methods.list),
        layer: args.layer.as_deref(),
        class,
        images: &args.images,
        data: args.data.as_deref(),
        out: args.out.as_deref(),
        colours: args.colour_map.unwrap_or_default(),
        alpha: args.alpha,
        options: args.settings.options(),
    };
    faithfulness::run(&args.faithfulness, &request)
}

/// Explains every finished run; those that cannot be are listed.
fn explain_all(args: &Args, open: &dyn Fn(&str) -> Result<OpenModel>) -> Result<(Value, String)> {
    // What is misspelled is said once, not for each run.
    args.methods()?;
    let (mut results, mut text, mut left_out) = (Vec::new(), String::new(), Vec::new());
    let runs = list(&args.runs.runs)?;
    for run in &runs {
        let explained = match (run.status, run.has_model) {
            (Status::Finished, true) => {
                let out = args.out.as_ref().map(|out| out.join(&run.id));
                open(&run.folder.to_string_lossy()).and_then(|model| explain_models(args, vec![model], out.as_deref()))
            }
            (Status::Finished, false) => Err(anyhow::anyhow!("it kept no checkpoint")),
            (status, _) => Err(anyhow::anyhow!("it is {status}, not finished")),
        };
        match explained {
            Ok((result, line)) => {
                results.push(result);
                text.push_str(&line);
            }
            Err(error) => left_out.push((run.id.clone(), format!("{error:#}"))),
        }
    }
    let lines: Vec<String> = left_out.iter().map(|(id, why)| format!("not explained: {id}: {why}")).collect();
    if results.is_empty() {
        let lines: String = lines.iter().map(|line| format!("\n  {line}")).collect();
        bail!("no run in {} could be explained{lines}", args.runs.runs.display());
    }
    lines.iter().for_each(|line| say(line));
    let left_out: Vec<Value> =
        left_out.into_iter().map(|(run, reason)| json!({ "run": run, "reason": reason })).collect();
    Ok((json!({ "runs": results, "not_explained": left_out }), text))
}

/// Explains one model, or several beside each other. The result, and the folder as a line.
fn explain_models(args: &Args, models: Vec<OpenModel>, out: Option<&Path>) -> Result<(Value, String)> {
    check_predictions(args, models.first().context("no model to explain")?)?;
    if let Some(wanted) = &args.features {
        return explain_channels(args, models, out, wanted);
    }
    let layers = |model: &OpenModel| wanted_layers(args, model.network.graph());
    let subjects: Vec<Subject> = models
        .into_iter()
        .map(|model| layers(&model).and_then(|l| Subject::new(model, &l, args.settings.options())))
        .collect::<Result<_>>()?;
    check_different(&subjects)?;
    let choices =
        subjects.iter().map(|s| class_choices(args, &s.model.description.classes)).collect::<Result<Vec<_>>>()?;
    let choices = choices.into_iter().next().context("no model to explain")?;
    let methods = args.methods()?;
    let (kept, left_out) = applicable(&methods, &subjects)?;
    for (method, why) in &left_out {
        say(&format!("left out {}: {why}", method.name()));
    }
    let look = look(args, choices.len());
    let out = match out {
        Some(out) => out.to_owned(),
        None => folder(args, &subjects, &methods, &choices, &look)?,
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let groups = groups(args, subjects.first().map(|s| &s.model).context("no model to explain")?, 12)?;
    if args.images.is_empty() {
        caution_about_training(&subjects, &groups)?;
    }
    subjects.iter().flat_map(|s| s.cautions(&kept)).for_each(|caution| say(&format!("caution: {caution}")));
    let gallery = Gallery { subjects, methods: kept, choices, look, out };
    let shown = gallery.show(groups)?;
    let out = &gallery.out;
    if let Some(first) = gallery.subjects.first() {
        board::add_sheets(&first.model, out, &shown.sheets);
    }
    say(&format!("{} photos explained with {}: {}", shown.photos.len(), gallery.summary(), out.display()));
    let result = result(&gallery, shown, &left_out)?;
    Ok((result, format!("{}\n", out.display())))
}

fn result(gallery: &Gallery, shown: Shown, left_out: &[LeftOut]) -> Result<Value> {
    let Gallery { subjects, methods, out, .. } = gallery;
    let first = subjects.first().context("no model to explain")?;
    let left_out: Vec<Value> = left_out.iter().map(|(m, why)| json!({ "method": m.name(), "reason": why })).collect();
    Ok(json!({
        "run": first.title,
        "runs": subjects.iter().map(|s| s.title.as_str()).collect::<Vec<_>>(),
        "method": methods.first().map(|m| m.name()),
        "methods": methods.iter().map(|m| m.name()).collect::<Vec<_>>(),
        "methods_left_out": left_out,
        "layer": first.layers.last(),
        "layers": first.layers,
        "out": out,
        "sheets": shown.sheets,
        "photos": shown.photos,
    }))
}

/// Test photos need predictions, which a run has only of its best checkpoint.
fn check_predictions(args: &Args, model: &OpenModel) -> Result<()> {
    if model.is_best() || !args.images.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "the run's predictions are those of {}; to explain {} name photos with --images PATH",
        file::BEST,
        model.checkpoint.display()
    )))
}

fn check_different(subjects: &[Subject]) -> Result<()> {
    for (index, subject) in subjects.iter().enumerate() {
        if subjects.iter().take(index).any(|s| s.model.checkpoint == subject.model.checkpoint) {
            return Err(usage(format!("--model names {} twice; name two different runs", subject.title)));
        }
    }
    Ok(())
}

/// Says so where a model was trained on photos that are shown as the test photos of another.
fn caution_about_training(subjects: &[Subject], groups: &[Group]) -> Result<()> {
    let dataset = subjects.first().map(|s| &s.model.description.dataset);
    for subject in subjects.iter().skip(1).filter(|s| Some(&s.model.description.dataset) == dataset) {
        let seen = chosen::trained_on(&subject.model.folder, groups)?;
        if seen > 0 {
            say(&format!("{} was trained on {seen} of these photos: what it makes of them is no test", subject.title));
        }
    }
    Ok(())
}

fn explain_channels(
    args: &Args,
    mut models: Vec<OpenModel>,
    out: Option<&Path>,
    wanted: &str,
) -> Result<(Value, String)> {
    let model = match (models.pop(), models.is_empty()) {
        (Some(model), true) => model,
        _ => {
            return Err(usage(
                "--features shows the channels of one model, and channels of two models have nothing to do with each \
                 other; run the command for each, or with --model all",
            ));
        }
    };
    let groups = groups(args, &model, 1)?;
    let request = ChannelRequest {
        wanted,
        channels: args.channels.map(usize::from),
        order: args.order.unwrap_or_default(),
        colours: args.colour_map.unwrap_or(ColourMap::Viridis),
        scale: args.scale.unwrap_or(Scale::Photo),
    };
    request.show(&model, groups, out)
}

/// The layers of `--layer` or `--depth`; none for the default.
fn wanted_layers(args: &Args, graph: &Graph) -> Result<Vec<String>> {
    let Some(depth) = &args.depth else { return Ok(args.layer.iter().cloned().collect()) };
    if depth == "all" {
        let layers: Vec<String> = graph.stages().into_iter().map(|(_, layer)| layer.to_owned()).collect();
        return if layers.is_empty() {
            Err(usage("this network has no stages; name layers: --depth A,B"))
        } else {
            Ok(layers)
        };
    }
    let mut layers: Vec<String> = Vec::new();
    for layer in depth.split(',').map(str::trim) {
        if layers.iter().any(|l| l == layer) {
            return Err(usage(format!("--depth {depth}: {layer} comes twice; name it once")));
        }
        layers.push(layer.to_owned());
    }
    Ok(layers)
}

fn class_choices(args: &Args, classes: &[String]) -> Result<Vec<ClassChoice>> {
    args.class.as_ref().map_or(Ok(vec![ClassChoice::Predicted]), |text| ClassChoice::parse_list(text, classes))
}

fn usual_look(classes: usize) -> Look {
    let scale = if classes > 1 { Scale::Photo } else { Scale::Each };
    Look { colours: ColourMap::Jet, alpha: DEFAULT_ALPHA, scale, layout: Layout::SideBySide, full_size: false }
}

fn look(args: &Args, classes: usize) -> Look {
    let usual = usual_look(classes);
    Look {
        colours: args.colour_map.unwrap_or(usual.colours),
        alpha: args.alpha,
        scale: args.scale.unwrap_or(usual.scale),
        layout: args.layout,
        full_size: args.full_size,
    }
}

fn groups(args: &Args, model: &OpenModel, usual_count: u16) -> Result<Vec<Group>> {
    match args.images.is_empty() {
        false => chosen::given_photos(&args.images, &model.description),
        true => {
            let count = args.count.unwrap_or(usual_count).into();
            chosen::test_photos(&model.folder, &model.description, args.data.as_deref(), count)
        }
    }
}

/// A folder of its own for each request: `gradcam-post_relu`, with the classes, the other models and the look where they are not
/// the usual ones.
fn folder(
    args: &Args,
    subjects: &[Subject],
    methods: &Methods,
    choices: &[ClassChoice],
    look: &Look,
) -> Result<PathBuf> {
    let first = subjects.first().context("no model to explain")?;
    let checkpoint = (!first.model.is_best()).then(|| first.model.checkpoint.file_stem()).flatten();
    let layers = match (&args.depth, first.layers.as_slice()) {
        (Some(depth), _) if depth == "all" => "depth".to_owned(),
        (Some(_), layers) => format!("depth-{}", layers.join("+")),
        (None, layers) => layers.join("+"),
    };
    let classes = (choices != [ClassChoice::Predicted])
        .then(|| choices.iter().map(ClassChoice::name).collect::<Vec<_>>().join("+"));
    let mut parts = Vec::from_iter(checkpoint.map(|stem| stem.to_string_lossy().into_owned()));
    parts.extend([methods.folder_name(), layers]);
    parts.extend(classes);
    parts.extend(subjects.iter().skip(1).map(|s| format!("with-{}", s.title)));
    parts.extend(args.settings.name_parts());
    parts.extend(look.name_parts(&usual_look(choices.len())));
    Ok(folder_of(&first.model.folder, &joined_name(parts)))
}
