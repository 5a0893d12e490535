//! `ft init`: a recipe for photos that nobody has trained on yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::arguments::TableArgs;
use super::data::check::headline;
use super::data::look_at;
use super::data::split::Division;
use super::output::{print, print_json};
use super::prepare::open_dataset;
use super::sources::features_folder;
use super::{MachineArgs, output, precision};
use crate::data::audit::{Audit, Kind};
use crate::data::dataset::Dataset;
use crate::data::division::Shares;
use crate::data::feature_cache::{LIMIT_VARIABLE, limit_from_env};
use crate::data::inspect::Inspection;
use crate::data::photos_below;
use crate::data::split::{Split, read_split_file};
use crate::data::warnings::Warning;
use crate::disk::{Space, size};
use crate::draft::{self, Backbone, Choice, Draft, Facts, SplitFile, Wanted, photos, shares};
use crate::error::{say, usage};
use crate::files::write_atomically;
use crate::models::summary::thousands;
use crate::models::{Architecture, Network, ParamSpec, attach_head};
use crate::natural;
use crate::recipe::{self, Data, Recipe, head};
use crate::train::first_half_bytes;
use crate::train::phases::phases;

const EXAMPLES: &str = "\
Every key of the recipe has a comment that names what it follows from. It is a start, not the end: change what you know better.

Examples:
  ft init photos/                              writes photos.toml; run it with: ft recipe photos.toml
  ft init photos/ --out flowers.toml --force
  ft init photos.zip --weights my-resnet.safetensors
  ft init photos/ --model vgg16 --offline
  ft init photos/ --json                       the choices with their reasons, for scripts";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A folder of class folders, an archive of that, a table of photos and labels, or a known data set such as tf_flowers
    #[arg(value_name = "PATH|NAME")]
    data: String,
    #[command(flatten)]
    table: TableArgs,
    /// The recipe to write [default: NAME.toml in this folder, named after the photos]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite the recipe; a split file beside it keeps every photo where it is
    #[arg(long)]
    force: bool,
    /// Weights to start from: a known name, a file, a URL, or none [default: those of the network that fits the photos]
    #[arg(long, value_name = "FILE|NAME")]
    weights: Option<String>,
    /// The network [default: what fits the photos, the machine and the weights at hand]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Leave out classes that have no readable photo to train with, instead of ending with an error that names them
    #[arg(long)]
    skip_empty_classes: bool,
    /// Print the choices and their reasons as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Looks at photos and writes a recipe for them.
///
/// # Errors
/// A usage error if there are no such photos or weights, or the recipe exists; any other if something cannot be read or written.
pub fn run(args: &Args) -> Result<()> {
    args.machine.set_threads()?;
    let device = args.machine.device.open()?;
    let data = Data {
        source: args.data.clone(),
        table: args.table.options(),
        skip_empty_classes: args.skip_empty_classes,
        ..Data::default()
    };
    let dataset = open_dataset(&data, args.machine.offline).map_err(|error| explain(error, &args.data))?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", file_name(&dataset.name))));
    refuse_overwriting(&out, args.force)?;
    dataset.notes.iter().for_each(|note| say(note));
    let inspection = look_at(&dataset)?;
    let audit = Audit::new(&dataset, &inspection);
    let facts = Facts::new(&dataset, &inspection, groups_of_duplicates(&audit)).context("no readable photo")?;
    let wanted = Wanted {
        model: args.model.as_deref(),
        weights: args.weights.as_deref(),
        offline: args.machine.offline,
        gpu: !matches!(device, Device::Cpu),
    };
    let backbone = draft::choose(&facts, &wanted)?;
    let split = SplitChoice::new(&facts, &dataset, &inspection, &out)?;
    let file = split.as_ref().map(|split| SplitFile { path: &split.path, kept: split.kept });
    let mut draft = Draft::new(&facts, &backbone, wanted.gpu, &args.data, file)?.with_table(&data.table)?;
    if args.skip_empty_classes {
        leave_out_empty_classes(&mut draft);
    }
    let warnings = warnings(&inspection.readable(&dataset), &audit, &draft);
    report(&facts, &audit, &warnings, &named(args));
    let (text, recipe) = text_of(&draft, &facts, args, &out, &backbone)?;
    let features = Features::of(&recipe, &draft, facts.classes.len(), &device)?;
    if let Some(split) = &split {
        split.write()?;
    }
    write_atomically(&out, |file| Ok(file.write_all(text.as_bytes())?))?;
    features.say();
    say_what_next(&out, &backbone, args.machine.offline, &device);
    if args.json {
        let draft = as_json(&draft, &facts, &audit, &warnings, &out, split.as_ref(), &backbone, &features);
        return print_json(&draft);
    }
    print(&format!("{}\n", out.display()))
}

/// The photos as they were named on the command line.
fn named(args: &Args) -> String {
    format!("{}{}", args.data, args.table.flags())
}

/// The name of a data set without what shells and file systems trip over.
fn file_name(name: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.chars().map(safe).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "photos".to_owned() } else { name.to_owned() }
}

fn refuse_overwriting(out: &Path, force: bool) -> Result<()> {
    if out.is_dir() {
        return Err(usage(format!("{} is a folder; give the file to write, e.g. --out recipe.toml", out.display())));
    }
    if force || !out.exists() {
        return Ok(());
    }
    Err(usage(format!("{} exists; overwrite it with --force, or write another file with --out FILE", out.display())))
}

/// Photos that lie in the folder itself have no class: the commonest reason why nothing is found.
fn explain(error: anyhow::Error, data: &str) -> anyhow::Error {
    let folder = Path::new(data);
    let has_loose =
        folder.is_dir() && photos_below(folder).is_ok_and(|all| all.iter().any(|photo| photo.parent() == Some(folder)));
    if has_loose {
        return error.context(format!(
            "the photos in {data} have no classes: put them in one folder for each class ({data}/cat/…, {data}/dog/…), or write a \
             table with the columns path,label and give that"
        ));
    }
    error
}

/// Groups of photos that show the same picture: a group of identical files may be part of one of near-duplicates.
fn groups_of_duplicates(audit: &Audit) -> usize {
    let found = |kind| audit.findings.get(&kind).map_or(&[][..], Vec::as_slice);
    let near: BTreeSet<&str> =
        found(Kind::NearDuplicates).iter().flatten().map(|member| member.path.as_str()).collect();
    let alone = found(Kind::Identical).iter().filter(|group| !group.iter().any(|m| near.contains(m.path.as_str())));
    alone.count() + found(Kind::NearDuplicates).len()
}

/// The recipe leaves out what was left out here.
fn leave_out_empty_classes(draft: &mut Draft) {
    let after = draft.choices.iter().position(|choice| choice.key == "data.source").map_or(0, |at| at + 1);
    let why = "classes that have no readable photo to train with are left out on purpose, and the log names them";
    draft.choices.insert(after, Choice { key: "data.skip_empty_classes", value: true.into(), why: why.to_owned() });
}

/// What was found, on stderr.
fn report(facts: &Facts, audit: &Audit, warnings: &[String], data: &str) {
    /// Classes that are listed one by one.
    const LISTED: usize = 12;
    say(&format!(
        "{}: {} in {} classes, median {} × {} pixels",
        facts.name,
        photos(facts.photos),
        facts.classes.len(),
        facts.width,
        facts.height
    ));
    let mut classes: Vec<_> = facts.classes.iter().collect();
    classes.sort_by(|a, b| natural::compare(&a.name, &b.name));
    let mut classes: Vec<String> =
        classes.iter().take(LISTED).map(|class| format!("{} {}", class.name, thousands(class.photos))).collect();
    if facts.classes.len() > LISTED {
        classes.push(format!("… and {} more", facts.classes.len() - LISTED));
    }
    say(&format!("  {}", classes.join(", ")));
    for (kind, findings) in &audit.findings {
        say(&format!("{:>7}  {}", thousands(findings.len()), headline(*kind, findings)));
    }
    if facts.grey > 0 {
        say(&format!("{:>7}  grey, or nearly: their colours say nothing", thousands(facts.grey)));
    }
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
    if !audit.findings.is_empty() {
        say(&format!("each of these in full: ft data check {data}"));
    }
}

/// What the user should do something about, before training with what was drafted.
fn warnings(dataset: &Dataset, audit: &Audit, draft: &Draft) -> Vec<String> {
    let number = |key: &str| {
        let choice = draft.choices.iter().find(|choice| choice.key == key)?;
        usize::try_from(choice.value.as_integer()?).ok()
    };
    let batches = number("train.batch_size").map(|size| (number("augmentation.copies").unwrap_or(0), size));
    let mut warnings: Vec<String> = Warning::all(dataset, batches).iter().map(ToString::to_string).collect();
    if audit.findings.contains_key(&Kind::TwoClasses) {
        warnings
            .push("the same photo lies in several classes: decide which is right, or it teaches nothing".to_owned());
    }
    if audit.findings.contains_key(&Kind::TwoSplits) {
        warnings.push(
            "the same photo lies in several splits: tests will look better than they are; divide anew with ft data split".to_owned(),
        );
    }
    warnings
}

/// The split file that the recipe shall name.
struct SplitChoice {
    path: PathBuf,
    division: Division,
    /// Whether the file was there before: every photo that it lists stays where it is.
    kept: bool,
    notes: Vec<String>,
}

impl SplitChoice {
    /// Where near-duplicates would otherwise be parted by chance.
    fn new(facts: &Facts, dataset: &Dataset, inspection: &Inspection, out: &Path) -> Result<Option<Self>> {
        if facts.duplicates == 0 || !facts.own_splits.is_empty() {
            return Ok(None);
        }
        let stem = out.file_stem().unwrap_or_default().to_string_lossy();
        let path = out.with_file_name(format!("{stem}-split.csv"));
        let kept = path.exists();
        let old = if kept { read_split_file(&path)? } else { BTreeMap::new() };
        let division = Division::new(inspection, &old, &shares(facts), 0, Shares::Exact);
        let notes = division.notes(dataset, inspection, &old);
        Ok(Some(Self { path, division, kept, notes }))
    }

    fn write(&self) -> Result<()> {
        self.division.write(&self.path)?;
        self.notes.iter().for_each(|note| say(note));
        let parts: Vec<String> =
            Split::ALL.iter().map(|split| format!("{} {split}", thousands(self.division.count(*split)))).collect();
        let what = if self.kept {
            "brought up to date; every photo stays where it was"
        } else {
            "near-duplicates stay on one side"
        };
        say(&format!("{}: {} ({what})", self.path.display(), parts.join(", ")));
        Ok(())
    }
}

/// The recipe's text, after it has been read back and its network built.
fn text_of(draft: &Draft, facts: &Facts, args: &Args, out: &Path, backbone: &Backbone) -> Result<(String, Recipe)> {
    let name = out.file_stem().map_or_else(|| facts.name.clone(), |stem| stem.to_string_lossy().into_owned());
    let start = if backbone.from_scratch() { "from scratch" } else { "fine-tuned" };
    let description =
        format!("{} {start}, {} in {} classes", backbone.model, photos(facts.photos), facts.classes.len());
    let text = draft::to_toml(draft, &name, &description, &format!("ft init {}", named(args)));
    let recipe = recipe::from_text(&text, &out.display().to_string(), &[])
        .context("the recipe that ft init made cannot be read; this is a bug in ft, please report it")?;
    Ok((text, recipe))
}

/// The network of a recipe without its weights. The image may be too small for it.
fn network_of(recipe: &Recipe, classes: usize, device: &Device) -> Result<Network> {
    let side = recipe.data.image_size;
    let mut graph = Architecture::find(&recipe.backbone.model)?.backbone((side, side))?;
    if let Some(until) = &recipe.backbone.until {
        graph.cut_after(until)?;
    }
    attach_head(&mut graph, &head::parse(&recipe.head.layers)?, classes)?;
    let zeros = |spec: &ParamSpec| Ok((spec.name.clone(), Tensor::zeros(&*spec.shape, DType::F32, &Device::Cpu)?));
    let zeros = graph.params.iter().map(zeros).collect::<Result<_>>()?;
    let mut network = Network::with_parameters(graph, &zeros, &Device::Cpu)?;
    network.set_precision(precision::resolve(recipe.train.precision, device)?);
    Ok(network)
}

/// What a training will keep of the frozen half.
struct Features {
    /// Bytes of all that will be written, about.
    bytes: u64,
    limit: Option<u64>,
    space: Option<Space>,
}

impl Features {
    /// Of the photos, their fixed copies and the validation photos, once for each phase. What is altered anew in each epoch is not kept.
    ///
    /// # Errors
    /// If there can be no such network; a usage error if `FT_CACHE_LIMIT` is no size.
    fn of(recipe: &Recipe, draft: &Draft, classes: usize, device: &Device) -> Result<Self> {
        let mut network = network_of(recipe, classes, device)?;
        let augmentation = &recipe.augmentation;
        let train = match augmentation.copies {
            0 if !augmentation.steps.is_empty() => 0,
            copies => draft.train * (1 + copies),
        };
        let mut bytes = 0;
        for phase in phases(recipe) {
            phase.freeze(&mut network)?;
            let each = if recipe.train.cache_features { first_half_bytes(&network) } else { None };
            bytes += (train + draft.validation) as u64 * each.unwrap_or(0) as u64;
        }
        let folder = features_folder();
        Ok(Self { bytes, limit: limit_from_env(&folder)?, space: Space::of(&folder) })
    }

    /// Whether there is room for them, and if not what that means.
    fn say(&self) {
        let Self { bytes, limit, space } = *self;
        if bytes == 0 {
            return;
        }
        let (takes, folder) = (size(bytes), features_folder());
        let place = space.map_or_else(String::new, |space| format!(" ({} free there)", size(space.free)));
        say(&format!(
            "outputs of the frozen half: about {takes}, computed once and kept in {}{place}",
            folder.display()
        ));
        let cost = "would be computed in each epoch instead of once";
        if let Some(limit) = limit.filter(|limit| *limit < bytes) {
            say(&format!(
                "note: that is more than the {} that may be kept, so they {cost}; set {LIMIT_VARIABLE}",
                size(limit)
            ));
        } else if space.is_some_and(|space| space.usable() < bytes) {
            say(&format!("note: there is no room for that, so they {cost}; set FT_CACHE to a folder on a larger disk"));
        }
    }
}

fn say_what_next(out: &Path, backbone: &Backbone, offline: bool, device: &Device) {
    let shown = out.display();
    say(&format!("{shown}: {} on {}", backbone.model, output::device_name(device)));
    if let Some((from, bytes)) = &backbone.fetch {
        let size = bytes / 1_000_000;
        if offline {
            say(&format!(
                "note: its weights are not on this disk; run once without --offline (about {size} MB from {from}), or give a file \
                 with --weights"
            ));
        } else {
            say(&format!("its weights will be fetched once: about {size} MB from {from}"));
        }
    }
    say(&format!("run it:           ft recipe {shown}"));
    say(&format!("see the photos as the network does: ft data preview {shown} --out preview.png"));
}

#[allow(clippy::too_many_arguments)] // all that was found out
fn as_json(
    draft: &Draft,
    facts: &Facts,
    audit: &Audit,
    warnings: &[String],
    out: &Path,
    split: Option<&SplitChoice>,
    backbone: &Backbone,
    features: &Features,
) -> Value {
    let choices: Vec<Value> =
        draft.choices.iter().map(|c| json!({ "key": c.key, "value": c.value, "because": c.why })).collect();
    let classes: serde_json::Map<String, Value> =
        facts.classes.iter().map(|class| (class.name.clone(), json!(class.photos))).collect();
    let findings: serde_json::Map<String, Value> =
        audit.findings.iter().map(|(kind, found)| (kind.name().to_owned(), json!(found.len()))).collect();
    json!({
        "recipe": out,
        "split_file": split.map(|split| &split.path),
        "photos": facts.photos,
        "broken": facts.broken,
        "grey": facts.grey,
        "classes": classes,
        "findings": findings,
        "warnings": warnings,
        "fetch": backbone.fetch.as_ref().map(|(from, bytes)| json!({ "from": from, "about_bytes": bytes })),
        "features_bytes": features.bytes,
        "choices": choices,
    })
}
