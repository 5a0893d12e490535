//! What the end-to-end tests share: photos drawn on the spot, weight files, and the program with a cache of its own.
#![allow(dead_code)] // each test binary uses a part of it

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use ft::models::Architecture;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{raw, splitmix64};
use crate::networks::formula_network;

/// The three classes of the drawn photos.
pub const CLASSES: [&str; 3] = ["checks", "disc", "stripes"];

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keys that `--json` promises.
pub const RESULT_KEYS: [&str; 12] = [
    "run",
    "recipe",
    "dataset",
    "classes",
    "total_params",
    "trainable_params",
    "best_val_accuracy",
    "test_accuracy",
    "test_loss",
    "seconds",
    "train_images_per_second",
    "skipped_images",
];

/// A folder of its own for one test, with photos, weights, cache and runs in it; removed at its end.
pub struct Workshop {
    folder: TempDir,
}

/// What a finished command left.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8 output");
        let outcome = Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        for panic in ["panicked", "a mistake in ft", "RUST_BACKTRACE"] {
            assert!(!outcome.all().contains(panic), "{}", outcome.all());
        }
        outcome
    }

    /// Everything, for messages.
    pub fn all(&self) -> String {
        format!("exit code {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }

    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }

    /// Fails unless stderr has all of these.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not said:\n{}", self.all());
        }
        self
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.stdout.matches('\n').count(), 1, "one line on stdout:\n{}", self.all());
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}\n{}", self.all()));
        assert!(value.is_object(), "{}", self.all());
        value
    }
}

impl Workshop {
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with its folders.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path
    }

    /// `ft` in this folder, with a cache of its own and nothing of the caller's settings.
    pub fn ft(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ft"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in
            ["HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "HUGGINGFACE_HUB_CACHE", "RUST_BACKTRACE", "FT_CACHE_LIMIT"]
        {
            command.env_remove(name);
        }
        command.env("FT_CACHE", self.path("cache")).env("HF_HOME", self.path("hub"));
        command
    }

    /// Runs `ft` to its end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        Outcome::new(self.ft(arguments).output().expect("ft starts"))
    }

    /// Trains without network and with `--json`; must succeed. The JSON object, and the run folder.
    #[track_caller]
    pub fn train(&self, arguments: &[&str]) -> (Value, PathBuf) {
        let arguments = [arguments, &["--offline", "--json"]].concat();
        let result = self.run(&arguments).code(0).json();
        let runs = arguments.iter().position(|a| *a == "--runs").map_or("runs", |i| arguments[i + 1]);
        let folder = self.path(runs).join(result["run"].as_str().expect("a run"));
        (result, folder)
    }

    /// Starts `ft` in the background.
    pub fn start(&self, arguments: &[&str]) -> Going {
        let child = self.ft(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ft starts");
        Going::new(child)
    }

    /// `count` photos of each class, half PNG and half JPEG, in class folders below `name`.
    pub fn photos(&self, name: &str, count: usize) -> PathBuf {
        for class in CLASSES {
            for i in 0..count {
                self.photo(&format!("{name}/{class}/{i:03}"), class, i);
            }
        }
        self.path(name)
    }

    /// A photo of a class; the extension is added.
    pub fn photo(&self, name: &str, class: &str, i: usize) -> PathBuf {
        let (extension, format) =
            if i.is_multiple_of(2) { ("png", ImageFormat::Png) } else { ("jpg", ImageFormat::Jpeg) };
        let mut bytes = std::io::Cursor::new(Vec::new());
        draw(class, i as u64).write_to(&mut bytes, format).expect("an encoded photo");
        self.write(&format!("{name}.{extension}"), bytes.into_inner())
    }

    /// The recipe of the plain network on `photos`, small and quick; `more` goes below the other keys of `[train]`.
    pub fn plain_recipe(&self, more: &str) -> PathBuf {
        self.write(
            "plain.toml",
            format!(
                r#"
                name = "plain"
                [data]
                source = "photos"
                image_size = 32
                [backbone]
                model = "cnn-basic"
                freeze_before = "none"
                [weights]
                source = "none"
                [head]
                layers = ["flatten", "dense(16, relu)", "dense(classes)"]
                [train]
                epochs = 2
                batch_size = 8
                lr = 2e-3
                {more}
                "#
            ),
        )
    }

    /// The recipe of a ResNet50V2 cut after `conv3_block1_out`, frozen before `conv3`, with weights in a file.
    pub fn resnet_recipe(&self) -> PathBuf {
        self.resnet_weights();
        self.write(
            "resnet.toml",
            r#"
            name = "resnet"
            [data]
            source = "photos"
            image_size = 48
            [backbone]
            model = "resnet50v2"
            until = "conv3_block1_out"
            freeze_before = "conv3"
            [weights]
            source = "resnet.safetensors"
            [head]
            layers = ["gap", "dense(8, relu)", "batch_norm", "dropout(0.2)", "dense(classes)"]
            [train]
            epochs = 2
            batch_size = 16
            lr = 1e-3
            "#,
        )
    }

    /// `resnet.safetensors`: the first layers of a ResNet50V2 under Keras' names, with formula values.
    pub fn resnet_weights(&self) -> BTreeMap<String, Tensor> {
        let mut graph = Architecture::find("resnet50v2").unwrap().backbone((48, 48)).unwrap();
        graph.cut_after("conv3_block1_out").unwrap();
        let parameters = formula_network(graph, 0.7).parameters().unwrap();
        self.weights("resnet.safetensors", &parameters);
        parameters
    }

    /// A safetensors file.
    pub fn weights(&self, name: &str, tensors: &BTreeMap<String, Tensor>) -> PathBuf {
        let path = self.path(name);
        let tensors: HashMap<String, Tensor> = tensors.iter().map(|(n, t)| (n.clone(), t.clone())).collect();
        candle_core::safetensors::save(&tensors, &path).expect("a weight file");
        path
    }

    /// What `ft runs --json` lists, newest first.
    #[track_caller]
    pub fn runs(&self) -> Vec<Value> {
        let list = self.run(&["runs", "--json"]).code(0).json();
        list["runs"].as_array().expect("a list of runs").clone()
    }

    /// Cached outputs of frozen halves.
    pub fn features(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("cache/features")).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "features")).collect()
    }

    /// Names of the run folders.
    pub fn run_folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("runs")).map(|e| e.map(|e| e.expect("an entry").path()).collect());
        entries.unwrap_or_default()
    }
}

/// A photo of 44 × 36 pixels: a coloured shape somewhere on noise.
fn draw(class: &str, i: u64) -> RgbImage {
    let dice = |what: &str, below: u64| raw(&format!("{class} {what}"), i, 0) % below;
    let (x0, y0) = (14 + dice("x", 16) as i64, 12 + dice("y", 12) as i64);
    let (period, shade) = (4 + dice("period", 3) as i64, dice("shade", 60) as u8);
    RgbImage::from_fn(44, 36, |x, y| {
        let noise = splitmix64(u64::from(x) * 7919 + u64::from(y) * 104_729 + i * 31 + class.len() as u64);
        let ground = Rgb([noise, noise >> 8, noise >> 16].map(|n| 70 + (n % 60) as u8));
        let (x, y) = (i64::from(x), i64::from(y));
        match class {
            "disc" if (x - x0).pow(2) + (y - y0).pow(2) < 90 => Rgb([190 + shade, 30, 40]),
            "stripes" if (x + y + x0) % period < 2 => Rgb([30, 180 + shade, 50]),
            "checks" if (x / period + y / period) % 2 == 0 => Rgb([40, 50, 180 + shade]),
            _ => ground,
        }
    })
}

/// A command that is going on; killed if the test ends before it.
pub struct Going {
    child: Child,
    reader: Option<thread::JoinHandle<String>>,
    said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Going {
    pub fn new(mut child: Child) -> Self {
        let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let mut stderr = child.stderr.take().expect("stderr");
        let heard = said.clone();
        thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(n) = stderr.read(&mut buffer) {
                if n == 0 {
                    return;
                }
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        let mut stdout = child.stdout.take().expect("stdout");
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8 output");
            text
        });
        Self { child, reader: Some(reader), said }
    }

    /// Waits until stderr has this text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let since = Instant::now();
        while !self.said().contains(text) {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended ({ended:?}) before it said {text:?}:\n{}", self.said());
            assert!(since.elapsed() < PATIENCE, "it never said {text:?}:\n{}", self.said());
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Sends a signal, e.g. `INT`.
    pub fn signal(&self, name: &str) {
        self.signal_to(self.child.id(), name);
    }

    /// The processes that it has started itself (Linux).
    pub fn children(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("its children");
        children.split_whitespace().map(|id| id.parse().expect("a number")).collect()
    }

    /// Sends a signal to a process.
    pub fn signal_to(&self, id: u32, name: &str) {
        let id = id.to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill starts");
        assert!(status.success(), "kill -s {name}");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, Outcome) {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                break status;
            }
            assert!(since.elapsed() < PATIENCE, "it does not end:\n{}", self.said());
            thread::sleep(Duration::from_millis(5));
        };
        let stdout = self.reader.take().map(|r| r.join().expect("stdout")).unwrap_or_default();
        // What it said last may still be on its way.
        thread::sleep(Duration::from_millis(20));
        let stderr = self.said();
        (status, Outcome::new(Output { status, stdout: stdout.into_bytes(), stderr: stderr.into_bytes() }))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The rows of a CSV file by column name.
#[track_caller]
pub fn csv_rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    reader.deserialize().map(|row| row.unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

/// All tensors of a checkpoint as bits.
#[track_caller]
pub fn checkpoint_bits(path: &Path) -> BTreeMap<String, Vec<u32>> {
    let tensors =
        candle_core::safetensors::load(path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect()
}

/// A tensor's values as bits.
pub fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// What must not change between equal runs: checkpoints, metrics of epochs and steps without times, predictions.
#[derive(Debug, PartialEq)]
pub struct Essence {
    pub best: BTreeMap<String, Vec<u32>>,
    pub last: BTreeMap<String, Vec<u32>>,
    pub metrics: Vec<BTreeMap<String, String>>,
    pub steps: Vec<BTreeMap<String, String>>,
    pub predictions: String,
}

impl Essence {
    pub fn of(run: &Path) -> Self {
        let mut metrics = csv_rows(&run.join("metrics.csv"));
        for row in &mut metrics {
            row.remove("seconds").expect("seconds");
            row.remove("images_per_second").expect("images_per_second");
        }
        let steps = run.join("steps.csv");
        let mut steps = if steps.exists() { csv_rows(&steps) } else { Vec::new() };
        for row in &mut steps {
            row.remove("images_per_second").expect("images_per_second");
        }
        Self {
            best: checkpoint_bits(&run.join("best.safetensors")),
            last: checkpoint_bits(&run.join("last.safetensors")),
            metrics,
            steps,
            predictions: fs::read_to_string(run.join("predictions.csv")).expect("predictions"),
        }
    }

    /// Fails with a short message, unlike `assert_eq!`.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, what: &str) {
        assert_eq!(self.metrics, other.metrics, "{what}: metrics");
        assert_eq!(self.steps, other.steps, "{what}: steps");
        assert_eq!(self.predictions, other.predictions, "{what}: predictions");
        for (checkpoint, a, b) in [("best", &self.best, &other.best), ("last", &self.last, &other.last)] {
            assert!(a.keys().eq(b.keys()), "{what}: tensors of {checkpoint}");
            let different: Vec<_> = a.keys().filter(|name| a[*name] != b[*name]).collect();
            assert!(different.is_empty(), "{what}: {checkpoint} differs in {different:?}");
        }
    }
}
