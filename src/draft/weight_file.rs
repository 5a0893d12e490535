//! Which network a weight file is for, and how far into it the file goes.

use anyhow::{Result, ensure};

use crate::error::usage;
use crate::models::{Architecture, Graph, ParamKind};
use crate::weights::{Format, TensorFile};

/// Side of the input for which networks are built here: their parameters are the same at every size.
const SIDE: usize = 224;

/// A network that a file has weights for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fit {
    pub architecture: String,
    /// The last layer of the stage or block up to which the file has all weights; `None` if it has them all.
    pub until: Option<String>,
}

/// The network that the file fits best.
///
/// # Errors
/// A usage error if it fits none, or does not say (Keras 3 files have no layer names).
pub(super) fn recognise(file: &TensorFile) -> Result<Fit> {
    let shown = file.path.display();
    let names = Architecture::names().into_iter().filter_map(|name| Architecture::find(name).ok());
    let mut best: Option<(usize, usize, Architecture)> = None;
    for architecture in names {
        let graph = architecture.backbone((SIDE, SIDE))?;
        let found = graph.params.iter().enumerate().filter(|(i, _)| has(file, &graph, *i)).count();
        let missing = graph.params.len() - found;
        let better = best.as_ref().is_none_or(|(most, least, _)| found > *most || found == *most && missing < *least);
        if found > 0 && better {
            best = Some((found, missing, architecture));
        }
    }
    match best {
        Some((_, _, architecture)) if file.format != Format::Keras3 => fit(file, &architecture),
        _ => Err(usage(format!(
            "{shown} does not say which network it is for; name it with --model, e.g. --model resnet50v2"
        ))),
    }
}

/// How far the file goes into a network that is known.
///
/// # Errors
/// If the file lacks even the first stage.
pub(super) fn fit(file: &TensorFile, architecture: &Architecture) -> Result<Fit> {
    let graph = architecture.backbone((SIDE, SIDE))?;
    let whole = Fit { architecture: architecture.name.clone(), until: None };
    // Keras 3 files name no layers: whether one is complete shows when it is read.
    let missing = (0..graph.params.len()).find(|&i| !has(file, &graph, i));
    let Some(missing) = missing.filter(|_| file.format != Format::Keras3) else { return Ok(whole) };
    let first = graph.layers.iter().position(|layer| layer.params.contains(&missing)).unwrap_or(0);
    let until = graph.ends().into_iter().rfind(|&end| end < first).and_then(|end| graph.layers.get(end));
    ensure!(
        until.is_some(),
        "{} does not fit {}: it lacks {}, which the first stage needs; name another network with --model or give another file",
        file.path.display(),
        architecture.name,
        graph.params[missing].name
    );
    Ok(Fit { until: until.map(|layer| layer.name.clone()), ..whole })
}

/// Whether the file has a parameter: by name and number of values, since layouts differ in the order of axes only.
fn has(file: &TensorFile, graph: &Graph, param: usize) -> bool {
    let spec = &graph.params[param];
    let there = |name: &str| {
        let count = file.tensors.get(name).map(|tensor| tensor.elem_count());
        count == Some(spec.shape.iter().product())
    };
    // A batch norm without scale: its scale is one.
    let scale_is_one = spec.kind == ParamKind::Gamma
        && [format!("{}/beta", spec.layer), format!("{}.bias", spec.layer)].iter().any(|name| there(name));
    there(&spec.name) || scale_is_one
}
