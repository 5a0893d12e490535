//! `ft init`: a recipe for photos that nobody has trained on yet.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use serde_json::{Value, json};

use super::arguments::TableArgs;
use super::data::check::headline;
use super::data::look_at;
use super::data::split::Division;
use super::output::{print, print_json};
use super::prepare::open_dataset;
use super::{MachineArgs, output};
use crate::data::audit::{Audit, Kind};
use crate::data::dataset::Dataset;
use crate::data::division::{Shares, divide};
use crate::data::inspect::Inspection;
use crate::data::photos_below;
use crate::data::split::{Split, read_split_file};
use crate::draft::{self, Backbone, Draft, Facts, SplitFile, Wanted, photos, shares};
use crate::error::{say, usage};
use crate::files::write_atomically;
use crate::models::summary::thousands;
use crate::models::{Architecture, attach_head};
use crate::natural;
use crate::recipe::{self, Data, Recipe, head};

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
    let data = Data { source: args.data.clone(), table: args.table.options(), ..Data::default() };
    let dataset = open_dataset(&data, args.machine.offline).map_err(|error| explain(error, &args.data))?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", file_name(&dataset.name))));
    refuse_overwriting(&out, args.force)?;
    dataset.notes.iter().for_each(|note| say(note));
    let inspection = look_at(&dataset)?;
    let audit = Audit::new(&dataset, &inspection);
    let facts = Facts::new(&dataset, &inspection, groups_of_duplicates(&audit)).context("no readable photo")?;
    refuse_empty_classes(&facts, &dataset)?;
    report(&facts, &audit, &named(args));
    let wanted = Wanted {
        model: args.model.as_deref(),
        weights: args.weights.as_deref(),
        offline: args.machine.offline,
        gpu: !matches!(device, Device::Cpu),
    };
    let backbone = draft::choose(&facts, &wanted)?;
    let split = SplitChoice::new(&facts, &inspection, &out)?;
    let file = split.as_ref().map(|split| SplitFile { path: &split.path, kept: split.kept });
    let draft = Draft::new(&facts, &backbone, wanted.gpu, &args.data, file)?.with_table(&data.table)?;
    let text = text_of(&draft, &facts, args, &out, &backbone)?;
    if let Some(split) = &split {
        split.write()?;
    }
    write_atomically(&out, |file| Ok(file.write_all(text.as_bytes())?))?;
    say_what_next(&out, &backbone, args.machine.offline, &device);
    if args.json {
        return print_json(&as_json(&draft, &facts, &audit, &out, split.as_ref(), &backbone));
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

/// Broken photos may leave a class without any.
fn refuse_empty_classes(facts: &Facts, dataset: &Dataset) -> Result<()> {
    match facts.classes.iter().find(|class| class.photos == 0) {
        Some(class) => anyhow::bail!(
            "class {:?} of {} has no readable photo; add some, or take its folder out (ft data check {} lists the broken ones)",
            class.name,
            dataset.root.display(),
            dataset.root.display()
        ),
        None => Ok(()),
    }
}

/// What was found, on stderr.
fn report(facts: &Facts, audit: &Audit, data: &str) {
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
    for warning in warnings(facts, audit) {
        say(&format!("warning: {warning}"));
    }
    if !audit.findings.is_empty() {
        say(&format!("each of these in full: ft data check {data}"));
    }
}

/// What the user should do something about.
fn warnings(facts: &Facts, audit: &Audit) -> Vec<String> {
    /// With fewer photos of a class a model can hardly be trained, let alone tested.
    const TOO_FEW: usize = 10;
    let mut warnings = Vec::new();
    let few: Vec<String> = facts
        .classes
        .iter()
        .filter(|class| class.photos < TOO_FEW)
        .map(|class| format!("{:?} ({})", class.name, class.photos))
        .collect();
    if !few.is_empty() {
        warnings.push(format!(
            "too few photos of {}: collect at least {TOO_FEW}, better 50, or leave these classes out",
            few.join(", ")
        ));
    }
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
    fn new(facts: &Facts, inspection: &Inspection, out: &Path) -> Result<Option<Self>> {
        if facts.duplicates == 0 || !facts.own_splits.is_empty() {
            return Ok(None);
        }
        let stem = out.file_stem().unwrap_or_default().to_string_lossy();
        let path = out.with_file_name(format!("{stem}-split.csv"));
        let kept = path.exists();
        let old = if kept { read_split_file(&path)? } else { BTreeMap::new() };
        let division = Division::new(inspection, &old, |units| divide(units, &shares(facts), 0, Shares::Stable));
        let notes = division.notes(inspection, &old);
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
fn text_of(draft: &Draft, facts: &Facts, args: &Args, out: &Path, backbone: &Backbone) -> Result<String> {
    let name = out.file_stem().map_or_else(|| facts.name.clone(), |stem| stem.to_string_lossy().into_owned());
    let start = if backbone.from_scratch() { "from scratch" } else { "fine-tuned" };
    let description =
        format!("{} {start}, {} in {} classes", backbone.model, photos(facts.photos), facts.classes.len());
    let text = draft::to_toml(draft, &name, &description, &format!("ft init {}", named(args)));
    let recipe = recipe::from_text(&text, &out.display().to_string(), &[])
        .context("the recipe that ft init made cannot be read; this is a bug in ft, please report it")?;
    check_network(&recipe, facts.classes.len())?;
    Ok(text)
}

/// Whether such a network can be: the image may be too small for it.
fn check_network(recipe: &Recipe, classes: usize) -> Result<()> {
    let side = recipe.data.image_size;
    let mut graph = Architecture::find(&recipe.backbone.model)?.backbone((side, side))?;
    if let Some(until) = &recipe.backbone.until {
        graph.cut_after(until)?;
    }
    attach_head(&mut graph, &head::parse(&recipe.head.layers)?, classes)?;
    crate::models::freeze_boundary(&graph, &recipe.backbone.freeze_before)?;
    Ok(())
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

fn as_json(
    draft: &Draft,
    facts: &Facts,
    audit: &Audit,
    out: &Path,
    split: Option<&SplitChoice>,
    backbone: &Backbone,
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
        "warnings": warnings(facts, audit),
        "fetch": backbone.fetch.as_ref().map(|(from, bytes)| json!({ "from": from, "about_bytes": bytes })),
        "choices": choices,
    })
}
