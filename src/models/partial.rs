//! A forward pass that halts behind a layer: what explanations read there, change and send on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::Tensor;

use super::execute::{Pass, ReluRule};
use super::network::Network;
use super::parts::FEW;
use crate::error::usage;
use crate::ops::Backend;

/// Everything of a batch that the layers behind a layer read: its output, and what passes it by (the shortcut of a
/// residual block that the layer lies in).
#[derive(Clone, Debug)]
pub struct PartialPass {
    layer: usize,
    activation: Tensor,
    /// Outputs by layer of all that crosses the cut behind `layer`; `layer` itself always among them.
    crossing: BTreeMap<usize, Tensor>,
}

impl PartialPass {
    /// The layer's output, `[batch, ...]`.
    pub fn activation(&self) -> &Tensor {
        &self.activation
    }

    /// The images `start..start + count` of the batch.
    ///
    /// # Errors
    /// If the batch has fewer.
    pub fn narrow(&self, start: usize, count: usize) -> Result<Self> {
        let part = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.narrow(0, start, count)?) };
        let crossing = self.crossing.iter().map(|(&layer, tensor)| Ok((layer, part(tensor)?)));
        Ok(Self { layer: self.layer, activation: part(&self.activation)?, crossing: crossing.collect::<Result<_>>()? })
    }
}

/// Activation of a layer and the gradient of one class's logit with respect to it, both `[batch, ...]`.
pub struct ActivationGradient {
    pub activation: Tensor,
    pub gradient: Tensor,
    /// `[batch, classes]`
    pub logits: Tensor,
}

impl Network {
    /// Runs images `[batch, height, width, 3]` to the output of `layer`, in inference mode.
    ///
    /// # Errors
    /// A usage error if there is no such layer, or nothing comes after it.
    pub fn run_to(&self, layer: &str, images: &Tensor) -> Result<PartialPass> {
        let index = self.graph().output_of(layer)?;
        let cut = index + 1;
        if cut >= self.graph().layers.len() {
            return Err(usage(format!("layer {layer} is the output itself: name one before it")));
        }
        let mut keep: BTreeSet<usize> = self.crossing(cut).into_iter().collect();
        keep.insert(index);
        let crossing = self.infer((0, cut), 0, vec![images.clone()], &keep)?;
        let activation = crossing.get(&index).cloned().ok_or_else(|| anyhow!("layer {layer} was not computed"))?;
        Ok(PartialPass { layer: index, activation, crossing })
    }

    /// Logits `[n, classes]` that follow from another output of the layer at which `pass` halted. A pass of one image goes
    /// with any number of outputs: what passes the layer by is the same for each.
    ///
    /// With the unchanged output these are the logits of [`Self::predict`], to the bit unless the halt parted a convolution
    /// from the batch norm that is folded into it otherwise, or, in bf16, from the addition that is.
    ///
    /// # Errors
    /// If the output has another shape, or neither as many images as the pass nor the pass a single one.
    pub fn continue_from(&self, pass: &PartialPass, activation: &Tensor) -> Result<Tensor> {
        let batch = activation.dims().first().copied().unwrap_or(0);
        let cut = pass.layer + 1;
        let beside = |layer: usize| -> Result<Tensor> {
            if layer == pass.layer {
                return Ok(activation.clone());
            }
            let own = pass.crossing.get(&layer).ok_or_else(|| anyhow!("the output of layer {layer} is not there"))?;
            match own.dims().first() {
                Some(&count) if count == batch => Ok(own.clone()),
                Some(1) => Ok(own.repeat(once_per_image(batch, own.rank()))?),
                count => Err(anyhow!("{batch} outputs of layer {} for {count:?} images", self.name(pass.layer))),
            }
        };
        let crossing = self.crossing(cut).into_iter().map(beside).collect::<Result<_>>()?;
        self.output(cut, crossing)
    }

    /// The gradient of the logit of `class[i]` for image i with respect to the output at which `pass` halted, whatever is
    /// frozen.
    ///
    /// # Errors
    /// If there is not one class for each image, or no such class.
    pub fn gradient_from(&self, pass: &PartialPass, class: &[u32], rule: ReluRule) -> Result<ActivationGradient> {
        let batch = pass.activation.dims().first().copied().unwrap_or(0);
        ensure!(class.len() == batch, "{} classes for {batch} images", class.len());
        // What the backward pass reads of a batch is many times as large as its images.
        let part = if self.backend() == Backend::Composed { batch.max(1) } else { FEW };
        let parts = (0..batch).step_by(part).zip(class.chunks(part));
        let parts: Vec<(Tensor, Tensor)> = parts
            .map(|(start, class)| self.gradient_of_part(&pass.narrow(start, class.len())?, class, rule))
            .collect::<Result<_>>()?;
        let (gradients, logits): (Vec<Tensor>, Vec<Tensor>) = parts.into_iter().unzip();
        let (gradient, logits) = (Tensor::cat(&gradients, 0)?, Tensor::cat(&logits, 0)?);
        Ok(ActivationGradient { activation: pass.activation.clone(), gradient, logits })
    }

    /// Gradient and logits.
    fn gradient_of_part(&self, pass: &PartialPass, class: &[u32], rule: ReluRule) -> Result<(Tensor, Tensor)> {
        let none = vec![false; self.graph().params.len()];
        let requires = self.requires(&none, Some(pass.layer));
        let last = self.graph().last();
        let executor = self.executor(Pass::Inference, &none, rule);
        let range = (pass.layer + 1, last + 1);
        let mut run = executor.forward(range, pass.crossing.clone(), &BTreeSet::from([last]), &requires)?;
        let logits = run.values.remove(&last).context("the network has no output")?;
        let (batch, classes) = logits.dims2()?;
        let mut one_hot = vec![0f32; batch * classes];
        for (row, &class) in one_hot.chunks_mut(classes).zip(class) {
            *row.get_mut(class as usize).ok_or_else(|| anyhow!("class {class}: there are {classes}"))? = 1.0;
        }
        let seed = Tensor::from_vec(one_hot, (batch, classes), self.device())?;
        let mut gradients = executor.backward(run.tape, BTreeMap::from([(last, seed)]), &requires)?.layers;
        let gradient = match gradients.remove(&pass.layer) {
            Some(gradient) => gradient,
            None => pass.activation.zeros_like()?,
        };
        Ok((gradient, logits))
    }

    /// Activation of `layer` and gradient of the logit of `class[i]` for image i with respect to it, whatever is frozen.
    ///
    /// # Errors
    /// As [`Self::run_to`] and [`Self::gradient_from`].
    pub fn activation_and_gradient(&self, images: &Tensor, layer: &str, class: &[u32]) -> Result<ActivationGradient> {
        self.gradient_from(&self.run_to(layer, images)?, class, ReluRule::Gradient)
    }

    /// The gradient of the logit of `class[i]` with respect to image i, `[batch, height, width, 3]`; with
    /// [`ReluRule::Guided`] what guided backpropagation makes of it.
    ///
    /// # Errors
    /// As [`Self::gradient_from`].
    pub fn input_gradient(&self, images: &Tensor, class: &[u32], rule: ReluRule) -> Result<Tensor> {
        let pass =
            PartialPass { layer: 0, activation: images.clone(), crossing: self.cut_values(0, vec![images.clone()])? };
        Ok(self.gradient_from(&pass, class, rule)?.gradient)
    }

    fn name(&self, layer: usize) -> &str {
        self.graph().layers.get(layer).map_or("?", |l| l.name.as_str())
    }
}

/// Repeats along the first of `rank` axes.
fn once_per_image(count: usize, rank: usize) -> Vec<usize> {
    (0..rank).map(|axis| if axis == 0 { count } else { 1 }).collect()
}
