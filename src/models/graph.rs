//! A network's structure: a flat, topologically ordered list of named layers.

use anyhow::{Result, bail, ensure};

use super::layer::{BatchNorm, Centres, Layer, Op, Shape};
use super::spec::{Naming, ParamKind, ParamSpec};
use crate::error::{suggestion, usage};
use crate::ops::{Conv2d, Padding, Pool};

/// Layers and the specification of their parameters, without values.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub naming: Naming,
    pub layers: Vec<Layer>,
    pub params: Vec<ParamSpec>,
    groups: Vec<String>,
    head: bool,
}

impl Graph {
    /// A graph with only its input: images of `[height, width, 3]`, here of `size` (height, width).
    pub fn new(naming: Naming, size: (usize, usize)) -> Self {
        let input = Layer {
            name: match naming {
                Naming::Keras => "input_layer".into(),
                Naming::Torch => "input".into(),
            },
            op: Op::Input,
            inputs: vec![],
            params: vec![],
            groups: vec![],
            head: false,
            inline: false,
            shape: Shape::Map { height: size.0, width: size.1, channels: 3 },
        };
        Self { naming, layers: vec![input], params: vec![], groups: vec![], head: false }
    }

    /// Index of the last layer.
    pub fn last(&self) -> usize {
        self.layers.len() - 1
    }

    /// Output of the last layer for one image.
    pub fn output(&self) -> Shape {
        self.layers[self.last()].shape
    }

    /// Names of the groups (stage, block) that the layers added from now on belong to.
    pub fn enter(&mut self, groups: &[&str]) {
        self.groups = groups.iter().map(ToString::to_string).collect();
    }

    /// Layers added from now on belong to the head, which is named Keras' way whatever the backbone.
    pub fn enter_head(&mut self) {
        self.head = true;
        self.groups = vec!["head".into()];
    }

    /// Index of the layer `name`.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.layers.iter().position(|l| l.name == name)
    }

    /// Index of the layer `name`, or a usage error that lists what is near.
    pub fn find(&self, name: &str) -> Result<usize> {
        self.index_of(name).ok_or_else(|| usage(format!("no layer {name:?}{}", self.suggest(name))))
    }

    /// `; did you mean …` for a layer or group name, and where to see them all.
    pub fn suggest(&self, name: &str) -> String {
        let names: Vec<&str> = self
            .layers
            .iter()
            .flat_map(|l| &l.groups)
            .chain(self.layers.iter().map(|l| &l.name))
            .map(String::as_str)
            .collect();
        let near = suggestion(name, &names);
        format!("{near} (`ft summary MODEL` lists the layers)")
    }

    /// Drops all layers after `name`.
    pub fn cut_after(&mut self, name: &str) -> Result<()> {
        let index = self.output_of(name)?;
        self.layers.truncate(index + 1);
        let used = self.layers.iter().flat_map(|l| l.params.iter().copied()).max().map_or(0, |p| p + 1);
        self.params.truncate(used);
        Ok(())
    }

    /// Appends a layer and returns its index. Panics on a structure that cannot be: models are fixed in the code.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[usize]) -> Result<usize> {
        let name = name.into();
        ensure!(self.index_of(&name).is_none(), "layer {name} exists twice");
        let shape = self.output_shape(&name, &op, inputs)?;
        let first = self.params.len();
        let incoming = self.layers[inputs[0]].shape;
        for (variable, kind, dims) in variables(&op, incoming) {
            let kind = match (kind, self.flattened_from(inputs[0])) {
                (ParamKind::DenseKernel, Some((height, width, channels))) => {
                    ParamKind::FlattenedDenseKernel { height, width, channels }
                }
                (kind, _) => kind,
            };
            self.params.push(ParamSpec {
                name: self.param_name(&name, variable),
                layer: name.clone(),
                class: op.class(),
                kind,
                shape: dims,
            });
        }
        let params = (first..self.params.len()).collect();
        let groups = self.groups.clone();
        self.layers.push(Layer {
            name,
            op,
            inputs: inputs.to_vec(),
            params,
            groups,
            head: self.head,
            inline: false,
            shape,
        });
        Ok(self.last())
    }

    /// Appends a layer that reads the last one.
    pub fn then(&mut self, name: impl Into<String>, op: Op) -> Result<usize> {
        self.add(name, op, &[self.last()])
    }

    /// Appends the activation that the reference keeps inside its last layer.
    pub fn activate(&mut self, name: impl Into<String>, op: Op) -> Result<usize> {
        let index = self.then(name, op)?;
        self.layers[index].inline = true;
        Ok(index)
    }

    /// Name of the layer with the deepest feature map of a resolution that a convolution works at: what class activation
    /// maps look at by default. It includes the batch norm, addition and activation after the last convolution, but no
    /// pooling (`block5_conv3` of VGG16, `conv5_block3_out` of ResNet50, `post_relu` of ResNet50V2).
    pub fn last_feature_map(&self) -> Option<&str> {
        let conv = self.layers.iter().rposition(|l| matches!(l.op, Op::Conv { .. }))?;
        let reduces = |l: &Layer| !matches!(l.op, Op::BatchNorm(_) | Op::Relu | Op::LeakyRelu(_) | Op::Add);
        let after = self.layers.iter().skip(conv + 1).take_while(|l| !l.head && !reduces(l)).count();
        let last = conv + after;
        let named = if self.layers[last].inline { last - 1 } else { last };
        Some(&self.layers[named].name)
    }

    /// The backbone's stages (`conv2`, `block3`, `layer4`) from the input on, each with the layer of its last feature map.
    /// As in [`Self::last_feature_map`], that is what convolutions work at, not what a pool after them gives; what
    /// follows the last stage without a convolution (`post_relu` of ResNet50V2) stands for it.
    pub fn stages(&self) -> Vec<(&str, &str)> {
        let mut stages: Vec<(&str, &str)> = Vec::new();
        let body: Vec<&Layer> = self.layers.iter().filter(|l| !l.head && !l.groups.is_empty()).collect();
        for group in body.chunk_by(|a, b| a.groups.first() == b.groups.first()) {
            let is_map = |l: &&&Layer| matches!(l.shape, Shape::Map { .. });
            let pools = |l: &Layer| matches!(l.op, Op::MaxPool(_) | Op::ZeroPad(_) | Op::AdaptiveAvgPool(..));
            let last = group.iter().rev().filter(is_map).find(|l| !pools(l) && !l.inline);
            let (Some(stage), Some(last)) = (group.first().and_then(|l| l.groups.first()), last) else { continue };
            match stages.last_mut() {
                Some(before) if !group.iter().any(|l| matches!(l.op, Op::Conv { .. })) => before.1 = &last.name,
                _ => stages.push((stage, &last.name)),
            }
        }
        stages
    }

    /// The layers that end a stage or a block of the backbone with a feature map, from the input on: where it can be cut.
    pub fn ends(&self) -> Vec<usize> {
        let maps = |i: &usize| {
            let layer = &self.layers[*i];
            let pools = matches!(layer.op, Op::MaxPool(_) | Op::ZeroPad(_) | Op::AdaptiveAvgPool(..));
            matches!(layer.shape, Shape::Map { .. }) && !pools && !layer.inline
        };
        let body: Vec<usize> =
            (0..self.layers.len()).filter(|&i| !self.layers[i].head && !self.layers[i].groups.is_empty()).collect();
        let groups = body.chunk_by(|&a, &b| self.layers[a].groups == self.layers[b].groups);
        groups.filter_map(|group| group.iter().copied().rfind(maps)).collect()
    }

    /// Where the cells of a layer's feature map lie on the input image: (rows, columns).
    pub fn centres(&self, layer: usize) -> (Centres, Centres) {
        let pixels = Centres { start: 0.0, step: 1.0 };
        match self.layers[layer].inputs.first() {
            // What an addition adds is aligned: any of its inputs will do.
            Some(&input) => self.layers[layer].op.centres(self.centres(input), self.layers[input].shape),
            None => (pixels, pixels),
        }
    }

    /// Index in the reference's own list of layers (Keras' `model.layers`); an inline activation has its layer's.
    pub fn reference_index(&self, index: usize) -> usize {
        self.layers.iter().take(index + 1).filter(|l| !l.inline).count() - 1
    }

    /// The layer whose output the reference would give for `name`: its inline activation where it has one.
    pub fn output_of(&self, name: &str) -> Result<usize> {
        let index = self.find(name)?;
        Ok(if self.layers.get(index + 1).is_some_and(|next| next.inline) { index + 1 } else { index })
    }

    fn param_name(&self, layer: &str, variable: Variable) -> String {
        match self.naming {
            Naming::Torch if !self.head => format!("{layer}.{}", variable.torch),
            _ => format!("{layer}/{}", variable.keras),
        }
    }

    /// The map that a layer's flattened output came from (dropout and activations in between do not matter).
    fn flattened_from(&self, index: usize) -> Option<(usize, usize, usize)> {
        let layer = &self.layers[index];
        match layer.op {
            Op::Flatten => match self.layers[layer.inputs[0]].shape {
                Shape::Map { height, width, channels } => Some((height, width, channels)),
                Shape::Vector(_) => None,
            },
            Op::Relu | Op::LeakyRelu(_) | Op::Dropout(_) => self.flattened_from(layer.inputs[0]),
            _ => None,
        }
    }

    fn output_shape(&self, name: &str, op: &Op, inputs: &[usize]) -> Result<Shape> {
        let shape = self.layers[inputs[0]].shape;
        let too_small =
            |e: anyhow::Error| e.context(format!("layer {name} on a map of {shape}: the image is too small"));
        Ok(match (op, shape) {
            (Op::ZeroPad(p), Shape::Map { height, width, channels }) => {
                Shape::Map { height: height + p.top + p.bottom, width: width + p.left + p.right, channels }
            }
            (Op::Conv { filters, kernel, config, .. }, Shape::Map { height, width, .. }) => {
                let (height, width) = config.output_size((height, width), *kernel).map_err(too_small)?;
                Shape::Map { height, width, channels: *filters }
            }
            (Op::MaxPool(pool), Shape::Map { height, width, channels }) => {
                let window = Conv2d { stride: pool.stride, padding: pool.padding };
                let (height, width) = window.output_size((height, width), pool.kernel).map_err(too_small)?;
                Shape::Map { height, width, channels }
            }
            (Op::AdaptiveAvgPool(height, width), Shape::Map { channels, .. }) => {
                Shape::Map { height: *height, width: *width, channels }
            }
            (Op::GlobalAvgPool | Op::GlobalMaxPool, Shape::Map { channels, .. }) => Shape::Vector(channels),
            (Op::Flatten, shape) => Shape::Vector(shape.count()),
            (Op::Dense { units }, Shape::Vector(_)) => Shape::Vector(*units),
            (Op::Subsample(by), Shape::Map { height, width, channels }) => Shape::Map {
                height: height.div_ceil(by.stride),
                width: width.div_ceil(by.stride),
                channels: by.before + channels + by.after,
            },
            (Op::BinaryLogits, Shape::Vector(1)) => Shape::Vector(2),
            (Op::Add, shape) => {
                for &other in inputs {
                    ensure!(
                        self.layers[other].shape == shape,
                        "layer {name} adds {shape} and {}",
                        self.layers[other].shape
                    );
                }
                shape
            }
            (Op::BatchNorm(_) | Op::Relu | Op::LeakyRelu(_) | Op::Dropout(_), shape) => shape,
            (op, shape) => bail!(
                "layer {name} ({}) cannot follow an output of {shape}{}",
                op.class(),
                match op {
                    Op::Dense { .. } => ": put \"gap\" or \"flatten\" before the first dense layer of the head",
                    _ => "",
                }
            ),
        })
    }
}

/// The two spellings of a variable's name.
#[derive(Clone, Copy)]
struct Variable {
    keras: &'static str,
    torch: &'static str,
}

/// Variables of a layer, in the order of both references.
fn variables(op: &Op, incoming: Shape) -> Vec<(Variable, ParamKind, Vec<usize>)> {
    let v = |keras, torch| Variable { keras, torch };
    let channels = incoming.channels();
    match op {
        Op::Conv { filters, kernel, bias, .. } => {
            let shape = vec![kernel.0, kernel.1, channels, *filters];
            let mut all = vec![(v("kernel", "weight"), ParamKind::ConvKernel, shape)];
            if *bias {
                all.push((v("bias", "bias"), ParamKind::Bias, vec![*filters]));
            }
            all
        }
        Op::Dense { units } => vec![
            (v("kernel", "weight"), ParamKind::DenseKernel, vec![channels, *units]),
            (v("bias", "bias"), ParamKind::Bias, vec![*units]),
        ],
        Op::BatchNorm(_) => vec![
            (v("gamma", "weight"), ParamKind::Gamma, vec![channels]),
            (v("beta", "bias"), ParamKind::Beta, vec![channels]),
            (v("moving_mean", "running_mean"), ParamKind::MovingMean, vec![channels]),
            (v("moving_variance", "running_var"), ParamKind::MovingVariance, vec![channels]),
        ],
        _ => vec![],
    }
}

/// Short constructors, so that a model reads like the table in its paper.
impl Op {
    /// A convolution without padding.
    pub fn conv(filters: usize, kernel: usize, stride: usize, bias: bool) -> Self {
        Self::conv_padded(filters, kernel, stride, 0, bias)
    }

    /// A convolution with the same zero padding on all sides.
    pub fn conv_padded(filters: usize, kernel: usize, stride: usize, padding: usize, bias: bool) -> Self {
        let config = Conv2d { stride: (stride, stride), padding: Padding::symmetric(padding) };
        Self::Conv { filters, kernel: (kernel, kernel), config, bias }
    }

    /// A max pool; padding counts as minus infinity.
    pub fn max_pool(kernel: usize, stride: usize, padding: usize) -> Self {
        Self::MaxPool(Pool { kernel: (kernel, kernel), stride: (stride, stride), padding: Padding::symmetric(padding) })
    }

    /// Zeros around the map.
    pub fn zero_pad(amount: usize) -> Self {
        Self::ZeroPad(Padding::symmetric(amount))
    }

    /// `BatchNormalization(epsilon=eps)`.
    pub fn keras_batch_norm(eps: f64) -> Self {
        Self::BatchNorm(BatchNorm::keras(eps))
    }

    /// `nn.BatchNorm2d()`.
    pub fn torch_batch_norm() -> Self {
        Self::BatchNorm(BatchNorm::torch())
    }
}
