//! Finished runs made on the spot, whose predictions are known photo by photo.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ft::recipe::{self, Recipe};
use ft::runs::{
    ClassFigures, Environment, Prediction, RunResult, RunWriter, UsedPhoto, file, photos_hash, write_photos,
};
use ft::train::observer::EpochMetrics;
use serde_json::Value;

pub const CLASSES: [&str; 2] = ["cat", "dog"];

/// A folder of runs.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// A run to be made.
#[derive(Clone)]
pub struct Plan<'a> {
    pub recipe: &'a str,
    pub preset: Option<&'a str>,
    /// Keys of the recipe.
    pub set: &'a [&'a str],
    pub dataset: &'a str,
    /// Numbers of the training, validation and test photos; the content of a photo is its number, its class whether that is odd.
    pub train: std::ops::Range<usize>,
    pub val: std::ops::Range<usize>,
    pub test: std::ops::Range<usize>,
    /// So many test photos are right, from the first on.
    pub right: usize,
    /// Put before the names of photos.
    pub prefix: &'a str,
    pub day: usize,
    pub val_accuracy: f64,
}

impl Default for Plan<'_> {
    /// 100 training photos, 20 for validation, 20 for test, of which 10 are right.
    fn default() -> Self {
        Self {
            recipe: "cnn-basic",
            preset: None,
            set: &[],
            dataset: "pets",
            train: 0..100,
            val: 100..120,
            test: 200..220,
            right: 10,
            prefix: "",
            day: 1,
            val_accuracy: 0.75,
        }
    }
}

pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }

    #[track_caller]
    pub fn refused(self, message: &str) {
        assert_eq!(self.code, 2, "{}\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(message), "{}", self.stderr);
    }
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the run; returns its id.
    pub fn add(&self, plan: &Plan) -> String {
        let set: Vec<String> = plan.set.iter().map(ToString::to_string).collect();
        let recipe = recipe::load_preset(plan.recipe, plan.preset, &set).unwrap();
        self.add_named(plan, &recipe)
    }

    /// [`Self::add`] with a recipe of its own.
    pub fn add_named(&self, plan: &Plan, recipe: &Recipe) -> String {
        let run = RunWriter::create(self.path(), recipe).unwrap();
        let photos = plan.photos();
        write_photos(&run.path(file::DATA), &photos).unwrap();
        let mut environment = Environment::collect("cpu", None);
        environment.started = format!("2026-01-{:02}T00:00:00Z", plan.day);
        environment.data_sha256 = ["train", "val", "test"]
            .map(|split| (split.to_owned(), photos_hash(photos.iter().filter(|photo| photo.split == split))))
            .into();
        run.write_environment(&environment).unwrap();
        run.append_epoch(&EpochMetrics {
            epoch: 1,
            train_loss: 1.0,
            train_objective: None,
            val_objective: None,
            train_accuracy: 0.5,
            val_loss: Some(1.5 - plan.val_accuracy),
            val_accuracy: Some(plan.val_accuracy),
            lr: 0.1,
            seconds: 2.5,
            images_per_second: 20.0,
        })
        .unwrap();
        let (predictions, classes) = plan.predictions(&photos);
        run.write_predictions(&predictions).unwrap();
        fs::write(run.path(file::BEST), "weights").unwrap();
        let id = run.id().to_owned();
        run.finish(&RunResult {
            run: id.clone(),
            dataset: plan.dataset.to_owned(),
            classes: CLASSES.map(str::to_owned).to_vec(),
            best_epoch: Some(1),
            best_val_accuracy: Some(plan.val_accuracy),
            test_accuracy: Some(plan.right as f64 / plan.test.len() as f64),
            test_loss: Some(1.0 - plan.right as f64 / 100.0),
            test_classes: classes,
            seconds: 60.0,
            images: photos.len(),
            ..RunResult::default()
        })
        .unwrap();
        id
    }

    /// `ft runs` in this folder.
    pub fn runs(&self, arguments: &[&str]) -> Outcome {
        self.ft(&[&["runs"], arguments].concat())
    }

    /// `ft` with these runs.
    pub fn ft(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_ft"))
            .args(arguments)
            .args(["--runs", self.path().to_str().unwrap()])
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Outcome { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `ft runs` with `--json`.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.runs(&[arguments, &["--json"]].concat()).ok()).unwrap()
    }

    /// Folder of a run.
    pub fn run(&self, id: &str) -> PathBuf {
        self.path().join(id)
    }
}

impl Plan<'_> {
    fn photos(&self) -> Vec<UsedPhoto> {
        let of = |split: &'static str, numbers: std::ops::Range<usize>| {
            numbers.map(move |number| UsedPhoto {
                split: split.to_owned(),
                path: format!("{}{number}.jpg", self.prefix),
                label: CLASSES[number % 2].to_owned(),
                sha256: format!("{number:064}"),
            })
        };
        of("train", self.train.clone())
            .chain(of("val", self.val.clone()))
            .chain(of("test", self.test.clone()))
            .collect()
    }

    fn predictions(&self, photos: &[UsedPhoto]) -> (Vec<Prediction>, Vec<ClassFigures>) {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let test = photos.iter().filter(|photo| photo.split == "test").enumerate();
        let predictions = test.map(|(i, photo)| {
            let truth = CLASSES.iter().position(|class| *class == photo.label).unwrap();
            let predicted = if i < self.right { truth } else { 1 - truth };
            let count = counts.entry(CLASSES[truth]).or_default();
            *count = (count.0 + 1, count.1 + usize::from(i < self.right));
            Prediction {
                split: "test".to_owned(),
                path: photo.path.clone(),
                truth: photo.label.clone(),
                predicted: CLASSES[predicted].to_owned(),
                probability: 0.880_797,
                logits: if predicted == 0 { vec![2.0, 0.0] } else { vec![0.0, 2.0] },
            }
        });
        let predictions = predictions.collect();
        let class = |name: &&str| {
            let (support, correct) = counts.get(name).copied().unwrap_or_default();
            let recall = (support > 0).then(|| correct as f64 / support as f64);
            ClassFigures { class: (*name).to_owned(), support, correct, recall, precision: recall, f1: recall }
        };
        (predictions, CLASSES.iter().map(class).collect())
    }
}
