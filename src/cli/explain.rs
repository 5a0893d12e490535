//! `ft explain`: where a trained model looks.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::faithfulness;
use super::gallery::{Gallery, Subject};
use super::model::OpenModel;
use super::output::{print, print_json};
use super::{MachineArgs, RunsArgs};
use crate::draw::colour::ColourMap;
use crate::error::{say, usage};
use crate::explain::{Explainer, Method, Options};
use crate::runs::file;

const EXAMPLES: &str = "\
Examples:
  ft explain                                           the best run: test photos, right and wrong ones
  ft explain --model latest --layer conv3_block4_out   another layer of the newest run
  ft explain --class roses --images garden/ rose.jpg   what speaks for roses in these photos
  ft explain --faithfulness                            which methods' maps are true for the best run's model";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run whose model is explained: best, latest, an id or its beginning, or the path of a run or a checkpoint
    #[arg(long, value_name = "RUN", default_value = "best")]
    model: String,
    /// The layer to look at [default: the last convolution]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// The class to explain [default: the predicted one]
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// Photos, folders of photos, or quoted patterns such as '*.jpg' [default: test photos of the run, right and wrong ones]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    images: Vec<PathBuf>,
    /// Where the run's photos lie now [default: where they lay in training]
    #[arg(long, value_name = "PATH", conflicts_with = "images")]
    data: Option<PathBuf>,
    /// How many test photos of each kind, right and wrong
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,
    /// Folder for the pictures [default: explain/ in the run folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Opacity of the heat over the photo, from 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.4, value_parser = fraction)]
    alpha: f32,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    faithfulness: faithfulness::FaithfulnessArgs,
}

fn fraction(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("it must be a number from 0 to 1".to_owned()),
    }
}

/// Explains a run's model.
///
/// # Errors
/// A usage error if there is no such run, layer or class; any other for what fails.
pub fn run(args: &Args) -> Result<()> {
    args.machine.set_threads()?;
    let device = args.machine.device.open()?;
    let model = OpenModel::open(&args.runs.runs, &args.model, &device)?;
    let is_best = model.is_best();
    if !is_best && args.images.is_empty() {
        return Err(usage(format!(
            "the run's predictions are those of {}; to explain {} name photos with --images PATH",
            file::BEST,
            model.checkpoint.display()
        )));
    }
    let class = args.class.as_ref().map(|name| model.class_index(name)).transpose()?;
    if args.faithfulness.faithfulness {
        let request = faithfulness::Request {
            model: &model,
            methods: &[],
            layer: args.layer.as_deref(),
            class,
            images: &args.images,
            data: args.data.as_deref(),
            out: args.out.as_deref(),
            colours: ColourMap::Jet,
            alpha: args.alpha,
            options: Options::default(),
            json: args.json,
        };
        return faithfulness::run(&args.faithfulness, &request);
    }
    let layer = Explainer::new(&model.network, args.layer.as_deref(), Options::default())?.layer().to_owned();
    let title = model.run_name();
    let OpenModel { folder, checkpoint, description, network } = model;
    let subject = Subject { network, description, layer, class, method: Method::GradCam };
    let out = args.out.clone().unwrap_or_else(|| {
        let name = subject.folder_name();
        let of_file = checkpoint.file_stem().filter(|_| !is_best).map(|stem| format!("{}-{name}", stem.display()));
        folder.join("explain").join(of_file.unwrap_or(name))
    });
    fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let mut gallery = Gallery::new(subject, out, title, args.alpha);
    let photos = if args.images.is_empty() {
        gallery.test_photos(&folder, args.data.as_deref(), args.count.into())?
    } else {
        gallery.given_photos(&args.images)?
    };
    let Gallery { subject, out, title, .. } = gallery;
    say(&format!("{} photos explained with {} at {}: {}", photos.len(), subject.method, subject.layer, out.display()));
    if args.json {
        return print_json(&json!({
            "run": title,
            "method": subject.method.name(),
            "layer": subject.layer,
            "out": out,
            "photos": photos,
        }));
    }
    print(&format!("{}\n", out.display()))
}
