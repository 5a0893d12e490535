//! `ft data preview`: what the network sees in training.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use image::RgbImage;
use serde_json::json;

use super::photos;
use super::preview_sheet::{Look, Row, draw};
use crate::cli::arguments::set_threads;
use crate::cli::arguments::{TableArgs, text_override};
use crate::cli::console::Console;
use crate::cli::output::{print, print_json};
use crate::cli::prepare::{contract_of, open_dataset};
use crate::cli::sources::training_photos;
use crate::data::dataset::{Dataset, Sample};
use crate::data::preprocess::Normalization;
use crate::data::split::place;
use crate::draw::png::write_png;
use crate::error::say;
use crate::recipe::{self, Recipe};
use crate::train::source::{FeatureBatch, Source};

const EXAMPLES: &str = "\
The pixels come out of the same loader as in training, after augmentation, resize and crop; only the normalisation is undone.
With mixup or cutmix the photos of the sheet are mixed with each other.

Examples:
  ft data preview resnet50v2-unfreeze-conv4
  ft data preview my.toml --data photos/ --count 12 --epochs 8 --out sheet.png
  ft data preview vgg16-gap --set 'augmentation.steps=[\"flip_left_right\", \"rotation\"]'";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A built-in recipe, or the path of a TOML file [default: what an empty recipe means]
    #[arg(value_name = "NAME|PATH")]
    recipe: Option<String>,
    /// A folder, archive or table of photos, or a known data set [default: the recipe's]
    #[arg(long, value_name = "PATH|NAME")]
    data: Option<String>,
    /// CSV file `path,split`; training photos are shown
    #[arg(long, value_name = "FILE")]
    split_file: Option<String>,
    #[command(flatten)]
    table: TableArgs,
    /// Change any key of the recipe (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The picture to write
    #[arg(long, value_name = "FILE", default_value = "preview.png")]
    out: PathBuf,
    /// How many photos, as evenly from all classes as possible
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=200))]
    count: u16,
    /// In how many epochs they are shown; of a recipe with fixed copies, how many copies
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=20))]
    epochs: u16,
    /// Threads to use; results do not depend on it [default: all processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Use only what is on disk already, never the network
    #[arg(long)]
    offline: bool,
    /// Print what was drawn as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The recipe with everything that the command line changes.
    fn recipe(&self) -> Result<Recipe> {
        let flags = [text_override("data.source", &self.data), text_override("data.split_file", &self.split_file)];
        let flags = flags.into_iter().flatten().chain(self.table.overrides());
        let overrides: Vec<String> = self.set.iter().cloned().chain(flags).collect();
        match &self.recipe {
            Some(name) => recipe::load(name, &overrides),
            None => recipe::from_text("", "of nothing but --set", &overrides),
        }
    }
}

/// Draws photos as the network sees them in training.
///
/// # Errors
/// A usage error for what is wrong with the recipe; otherwise if no photo can be read or the picture cannot be written.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    let recipe = args.recipe()?;
    let dataset = open_dataset(&recipe.data, args.offline)?;
    let contract = contract_of(&recipe, args.offline, &Console::default())?;
    let (samples, originals) = readable(&dataset, recipe.seed, args.count.into())?;
    let source = training_photos(&recipe, samples.clone(), &contract, 0, &Device::Cpu)?;
    let mut rows: Vec<Row> = samples
        .iter()
        .zip(originals)
        .map(|(sample, original)| Row {
            id: sample.id.clone(),
            class: class(&dataset, sample.label),
            original,
            looks: Vec::new(),
        })
        .collect();
    for (name, order, epoch) in passes(&recipe, samples.len(), args.epochs.into()) {
        let batch = source.batches(&order, order.len(), epoch)?.next().context("the loader gave no batch")??;
        for (i, row) in rows.iter_mut().enumerate() {
            row.looks.push(look(&dataset, &recipe, &contract.normalization, &batch, i, &name)?);
        }
    }
    write_png(&args.out, &draw(&recipe, &dataset, &contract, &rows)?)?;
    if recipe.augmentation.steps.is_empty() {
        say("note: the recipe has no augmentation; every epoch shows the same");
    }
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    if args.json {
        return print_json(&json!({ "picture": args.out, "photos": ids }));
    }
    print(&format!("{}: {}\n", args.out.display(), photos(rows.len())))
}

/// What is shown: a caption, indices into the source, and the epoch. First the photos as evaluation would see them.
fn passes(recipe: &Recipe, count: usize, epochs: usize) -> Vec<(String, Vec<usize>, u64)> {
    let mut passes = vec![("not augmented".to_owned(), (0..count).collect(), 0)];
    let copies = recipe.augmentation.copies;
    if copies > 0 {
        // A copy is an index of its own; see [`crate::data::loader::Batch::indices`].
        let copy = |i: usize| (format!("copy {i}"), (i * count..(i + 1) * count).collect(), 1);
        passes.extend((1..=epochs.min(copies)).map(copy));
    } else if !recipe.augmentation.steps.is_empty() {
        passes.extend((1..=epochs).map(|epoch| (format!("epoch {epoch}"), (0..count).collect(), epoch as u64)));
    }
    passes
}

/// `count` training photos that can be read, from each class in turn, drawn by the seed; with their pixels.
fn readable(dataset: &Dataset, seed: u64, count: usize) -> Result<(Vec<Sample>, Vec<RgbImage>)> {
    let mut classes: Vec<Vec<&Sample>> = vec![Vec::new(); dataset.classes.len()];
    for sample in &dataset.train {
        if let Some(class) = classes.get_mut(sample.label as usize) {
            class.push(sample);
        }
    }
    for class in &mut classes {
        class.sort_by(|a, b| place(seed, &b.id).total_cmp(&place(seed, &a.id)));
    }
    let (mut samples, mut originals, mut broken) = (Vec::new(), Vec::new(), 0);
    while samples.len() < count && classes.iter().any(|class| !class.is_empty()) {
        for sample in classes.iter_mut().filter_map(Vec::pop) {
            match sample.photo.decode() {
                Ok(_) if samples.len() >= count => {}
                Ok(original) => {
                    samples.push(sample.clone());
                    originals.push(original);
                }
                Err(_) => broken += 1,
            }
        }
    }
    if broken > 0 {
        say(&format!("note: {} could not be read: passed over (see ft data check)", photos(broken)));
    }
    ensure!(!samples.is_empty(), "{} has no readable image to train with", dataset.root.display());
    Ok((samples, originals))
}

fn class(dataset: &Dataset, label: u32) -> String {
    dataset.classes.get(label as usize).cloned().unwrap_or_default()
}

/// Image `i` of a batch as pixels again.
fn look(
    dataset: &Dataset,
    recipe: &Recipe,
    normalization: &Normalization,
    batch: &FeatureBatch,
    i: usize,
    name: &str,
) -> Result<Look> {
    let images = batch.crossing.first().context("a batch without images")?;
    let inputs: Vec<f32> = images.get(i)?.flatten_all()?.to_vec1()?;
    let size = recipe.data.image_size as u32;
    let picture =
        RgbImage::from_raw(size, size, normalization.pixels_of(&inputs)).context("size of a network input")?;
    let caption = match &batch.mixed {
        Some(mixed) => {
            let other = class(dataset, mixed.labels.get(i).copied().context("a mixture without labels")?);
            format!("{name}: {:.0} % {other}", 100.0 * (1.0 - mixed.share))
        }
        None => name.to_owned(),
    };
    Ok(Look { caption, picture })
}
