//! safetensors files: f32, f16, bf16 and the other plain types.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};

use super::numbers::{self, Element};
use super::{Format, TensorFile};

/// Whether the content looks like safetensors: a header length that fits, and a JSON object there.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) < 1 << 30
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
    let damaged = "the file is damaged or was not downloaded completely";
    let (_, header) = SafeTensors::read_metadata(bytes).context(damaged)?;
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let file = SafeTensors::deserialize(bytes).context(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let element = element(view.dtype()).with_context(|| format!("tensor {name}"))?;
        let tensor = numbers::tensor(element.to_f32(view.data()), view.shape());
        tensors.insert(name.to_owned(), tensor.with_context(|| format!("tensor {name}"))?);
    }
    Ok(TensorFile { path: path.to_path_buf(), format: Format::Safetensors, metadata, tensors })
}

fn element(dtype: Dtype) -> Result<Element> {
    Ok(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U8 | Dtype::BOOL => Element::U8,
        other => bail!("numbers of type {other:?} are not supported; convert them to float32 or float16"),
    })
}
