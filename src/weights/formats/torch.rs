//! torch `state_dict` files: the zip format, and the one before torch 1.6.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use zip::ZipArchive;

use super::numbers::{self, Element};
use super::pickle::{self, Item, Pickle, Value};
use super::{Format, TensorFile};

/// Where training scripts put the state dict inside a checkpoint, in order of preference.
const NESTED_IN: [&str; 6] = ["state_dict", "model_state_dict", "model", "net", "network", "module"];
/// Prefixes that wrappers add to every name (DataParallel, torch.compile).
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

/// The HDF5 file inside a `.keras` archive; `None` if the zip is no such archive.
pub(super) fn keras_archive(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut archive = open(bytes)?;
    let name = "model.weights.h5";
    if archive.index_for_name(name).is_none() {
        return Ok(None);
    }
    entry(&mut archive, name).map(Some)
}

fn open(bytes: &[u8]) -> Result<Archive<'_>> {
    ZipArchive::new(Cursor::new(bytes)).context("the zip archive is damaged or was not downloaded completely")
}

fn entry(archive: &mut Archive, name: &str) -> Result<Vec<u8>> {
    let entry = archive.by_name(name).with_context(|| format!("entry {name} of the archive"))?;
    let mut bytes = Vec::new();
    let size = entry.size();
    entry.take(size).read_to_end(&mut bytes).with_context(|| format!("entry {name} of the archive"))?;
    Ok(bytes)
}

pub(super) fn read_zip(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
    let mut archive = open(bytes)?;
    let names: Vec<String> = archive.file_names().filter_map(Result::ok).map(|n| n.into_owned()).collect();
    let Some(folder) = names.iter().find_map(|n| n.strip_suffix("data.pkl")).filter(|f| f.matches('/').count() <= 1)
    else {
        bail!("the zip archive holds neither a torch state dict nor Keras weights");
    };
    if names.iter().any(|n| *n == format!("{folder}constants.pkl")) {
        bail!("this is a TorchScript program; save model.state_dict() with torch.save instead");
    }
    if names.iter().any(|n| *n == format!("{folder}byteorder"))
        && entry(&mut archive, &format!("{folder}byteorder"))?.trim_ascii() != b"little"
    {
        bail!("its numbers are big-endian; save it again on a common machine");
    }
    let pickle = pickle::read(&entry(&mut archive, &format!("{folder}data.pkl"))?)?;
    let mut storages = BTreeMap::new();
    for name in &names {
        if let Some(key) = name.strip_prefix(&format!("{folder}data/")) {
            storages.insert(key.to_owned(), entry(&mut archive, name)?);
        }
    }
    state_dict(path, &pickle, &storages)
}

/// The format before torch 1.6: pickles of magic number, version, system, the object and the storages' keys one after
/// another, then each storage as a count and its numbers.
pub(super) fn read_legacy(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
    let mut rest = bytes;
    let mut next = |what: &str| -> Result<Pickle> {
        let pickle = pickle::read(rest).with_context(|| what.to_owned())?;
        rest = rest.get(pickle.length..).unwrap_or_default();
        Ok(pickle)
    };
    next("magic number")?;
    next("version")?;
    let system = next("system information")?;
    if is_big_endian(&system) {
        bail!("its numbers are big-endian; save it again on a common machine");
    }
    let object = next("state dict")?;
    let keys = next("storage keys")?;
    let types = storage_types(&object);
    let mut storages = BTreeMap::new();
    let Some(Item::List(list)) = keys.item(&keys.root) else { bail!("the storage keys are no list") };
    for key in list {
        let Value::Text(key) = key else { bail!("a storage key is no text") };
        let element = types.get(&**key).copied().with_context(|| format!("storage {key} is of unknown type"))?;
        let (count, after) = rest.split_first_chunk::<8>().context("the file ends within its storages")?;
        let length = usize::try_from(u64::from_le_bytes(*count))?.checked_mul(element.size());
        let data = length.and_then(|n| after.get(..n)).context("the file ends within its storages")?;
        storages.insert(key.to_string(), data.to_vec());
        rest = after.get(data.len()..).unwrap_or_default();
    }
    state_dict(path, &object, &storages)
}

fn is_big_endian(system: &Pickle) -> bool {
    let little = Value::Text("little_endian".into());
    let pairs = system.dict(&system.root).unwrap_or_default();
    pairs.iter().any(|(key, value)| *key == little && *value == Value::Bool(false))
}

/// The type of each storage that the object refers to.
fn storage_types(object: &Pickle) -> BTreeMap<String, Element> {
    object
        .items()
        .filter_map(|item| storage(object, item).ok())
        .map(|(key, element)| (key.to_owned(), element))
        .collect()
}

/// Key and element type of a storage reference `("storage", class, key, device, count)`.
fn storage<'p>(pickle: &'p Pickle, item: &'p Item) -> Result<(&'p str, Element)> {
    let Item::Persistent(id) = item else { bail!("a tensor has no storage") };
    match pickle.tuple(id) {
        Some([Value::Text(_), Value::Global(_, class), Value::Text(key), ..]) => Ok((key, element(class)?)),
        _ => bail!("a storage is described in an unknown way"),
    }
}

/// The element type of torch's storage class or dtype.
fn element(class: &str) -> Result<Element> {
    Ok(match class {
        "FloatStorage" | "float32" => Element::F32,
        "DoubleStorage" | "float64" => Element::F64,
        "HalfStorage" | "float16" => Element::F16,
        "BFloat16Storage" | "bfloat16" => Element::Bf16,
        "LongStorage" | "int64" => Element::I64,
        "IntStorage" | "int32" => Element::I32,
        "ShortStorage" | "int16" => Element::I16,
        "CharStorage" | "int8" => Element::I8,
        "ByteStorage" | "BoolStorage" | "uint8" | "bool" | "UntypedStorage" => Element::U8,
        other => bail!("numbers of torch type {other} are not supported; convert them to float32"),
    })
}

type Storages = BTreeMap<String, Vec<u8>>;

/// Finds the state dict in the object and makes its tensors.
fn state_dict(path: &Path, pickle: &Pickle, storages: &Storages) -> Result<TensorFile> {
    let pairs = find_state_dict(pickle)?;
    let mut tensors = BTreeMap::new();
    for (key, value) in pairs {
        let Value::Text(name) = key else { continue };
        if let Some(description) = Description::of(pickle, value).with_context(|| format!("tensor {name}"))? {
            let tensor = description.tensor(storages).with_context(|| format!("tensor {name}"))?;
            tensors.insert(name.to_string(), tensor);
        }
    }
    for wrapper in WRAPPERS {
        if tensors.keys().all(|name| name.starts_with(wrapper)) {
            tensors = tensors.into_iter().map(|(n, t)| (n.get(wrapper.len()..).unwrap_or(&n).to_owned(), t)).collect();
        }
    }
    Ok(TensorFile { path: path.to_path_buf(), format: Format::Torch, metadata: BTreeMap::new(), tensors })
}

fn find_state_dict(pickle: &Pickle) -> Result<&[(Value, Value)]> {
    let advice = "save model.state_dict() with torch.save, or as safetensors";
    let Some(pairs) = pickle.dict(&pickle.root) else {
        bail!("it holds a whole Python object, not a state dict, and its code is never run: {advice}");
    };
    let has_tensors = |pairs: &[(Value, Value)]| {
        pairs.iter().any(|(_, value)| matches!(Description::of(pickle, value), Ok(Some(_)) | Err(_)))
    };
    let nested = NESTED_IN.iter().find_map(|wanted| {
        let (_, value) = pairs.iter().find(|(key, _)| matches!(key, Value::Text(t) if **t == **wanted))?;
        pickle.dict(value).filter(|inner| has_tensors(inner))
    });
    match nested {
        Some(inner) => Ok(inner),
        None if has_tensors(pairs) => Ok(pairs),
        None => bail!("it holds no tensors, alone or under one of {}: {advice}", NESTED_IN.join(", ")),
    }
}

/// A view of a storage, as `torch._utils._rebuild_tensor_v2` gets it.
struct Description<'p> {
    key: &'p str,
    element: Element,
    /// In elements, as are the strides.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl<'p> Description<'p> {
    /// What a pickled value says about a tensor; `None` if it is none.
    fn of(pickle: &'p Pickle, value: &'p Value) -> Result<Option<Self>> {
        let mut value = value;
        // A parameter or subclass wraps the tensor once or twice.
        for _ in 0..3 {
            let Some(Item::Object { class: Value::Global(_, name), arguments, .. }) = pickle.item(value) else {
                return Ok(None);
            };
            let arguments = pickle.tuple(arguments).unwrap_or_default();
            match (&**name, arguments) {
                (
                    "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3",
                    [storage, offset, shape, strides, ..],
                ) => {
                    let dtype = arguments.get(6).filter(|_| &**name == "_rebuild_tensor_v3");
                    return Self::from_parts(pickle, [storage, offset, shape, strides], dtype).map(Some);
                }
                ("_rebuild_parameter", [tensor, ..]) => value = tensor,
                ("_rebuild_from_type_v2", [Value::Global(_, function), _, inner, ..])
                    if function.starts_with("_rebuild_tensor") =>
                {
                    let Some([storage, offset, shape, strides, ..]) = pickle.tuple(inner) else { return Ok(None) };
                    return Self::from_parts(pickle, [storage, offset, shape, strides], None).map(Some);
                }
                (other, _) if other.starts_with("_rebuild_") => bail!("tensors of kind {other} are not supported"),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn from_parts(pickle: &'p Pickle, parts: [&'p Value; 4], dtype: Option<&Value>) -> Result<Self> {
        let [storage_value, offset, shape, strides] = parts;
        let item = pickle.item(storage_value).context("a tensor has no storage")?;
        let (key, mut kind) = storage(pickle, item)?;
        if let Some(Value::Global(_, name)) = dtype {
            kind = element(name)?;
        }
        let numbers = |value: &Value| -> Result<Vec<usize>> {
            pickle.tuple(value).context("a shape is no tuple")?.iter().map(whole).collect()
        };
        let (shape, strides) = (numbers(shape)?, numbers(strides)?);
        if shape.len() != strides.len() {
            bail!("shape {shape:?} and strides {strides:?} do not go together");
        }
        Ok(Self { key, element: kind, offset: whole(offset)?, shape, strides })
    }

    /// The view's values in row-major order.
    fn tensor(&self, storages: &Storages) -> Result<Tensor> {
        let bytes = storages.get(self.key).with_context(|| format!("its storage {} is not in the file", self.key))?;
        let available = bytes.len() / self.element.size();
        let count = numbers::count(&self.shape).unwrap_or(usize::MAX);
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&n, &stride)| at.checked_add(n.saturating_sub(1).checked_mul(stride)?));
        // A view never has more elements than its storage, unless it repeats some; state dicts have no such views.
        if count > available || (count > 0 && last.is_none_or(|last| last >= available)) {
            bail!("shape {:?} with strides {:?} does not fit its {available} stored numbers", self.shape, self.strides);
        }
        let size = self.element.size();
        if count == 0 || self.is_contiguous() {
            let stored = bytes.get(self.offset * size..(self.offset + count) * size).unwrap_or_default();
            return numbers::tensor(self.element.to_f32(stored), &self.shape);
        }
        let stored = self.element.to_f32(bytes);
        numbers::tensor(self.gather(&stored, count), &self.shape)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&n, &stride)| {
            let fits = n == 1 || stride == expected;
            expected *= n;
            fits
        })
    }

    /// Walks the view in row-major order.
    fn gather(&self, stored: &[f32], count: usize) -> Vec<f32> {
        let mut index = vec![0usize; self.shape.len()];
        let mut values = Vec::with_capacity(count);
        let mut at = self.offset;
        for _ in 0..count {
            values.extend(stored.get(at));
            for ((i, &n), &stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                *i += 1;
                at += stride;
                if *i < n {
                    break;
                }
                at -= stride * n;
                *i = 0;
            }
        }
        values
    }
}

fn whole(value: &Value) -> Result<usize> {
    match value {
        Value::Int(n) => usize::try_from(*n).context("a size is negative"),
        _ => bail!("a size is no number"),
    }
}
