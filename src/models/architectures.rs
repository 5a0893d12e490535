//! The backbones by name. Most names stand for one network; `cifar-resnetN` is a family.

use anyhow::Result;

use super::graph::Graph;
use super::{cifar_resnet, cnn, resnet, resnet_basic, resnet_mini, resnet_v2, vgg, vgg_gap};
use crate::error::{suggestion, usage};

const BLOCKS_18: [usize; 4] = [2, 2, 2, 2];
const BLOCKS_50: [usize; 4] = [3, 4, 6, 3];
const BLOCKS_101: [usize; 4] = [3, 4, 23, 3];

type Builder = fn((usize, usize), Option<usize>) -> Result<Graph>;

/// A backbone that `ft` can build.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// The name that recipes and the command line use.
    pub name: String,
    /// Where its structure and layer names come from.
    pub reference: &'static str,
    build: Build,
}

#[derive(Clone, Copy, Debug)]
enum Build {
    Fixed(Builder),
    Cifar(cifar_resnet::Form),
}

struct Known {
    name: &'static str,
    reference: &'static str,
    build: Builder,
}

/// The backbones with a name of their own.
const ARCHITECTURES: &[Known] = &[
    Known {
        name: "resnet50v2",
        reference: "keras.applications.ResNet50V2",
        build: |size, top| resnet_v2::keras(size, BLOCKS_50, top),
    },
    Known {
        name: "resnet101v2",
        reference: "keras.applications.ResNet101V2",
        build: |size, top| resnet_v2::keras(size, BLOCKS_101, top),
    },
    Known {
        name: "resnet50",
        reference: "keras.applications.ResNet50",
        build: |size, top| resnet::keras(size, BLOCKS_50, top),
    },
    Known {
        name: "resnet101",
        reference: "keras.applications.ResNet101",
        build: |size, top| resnet::keras(size, BLOCKS_101, top),
    },
    Known {
        name: "resnet50-torch",
        reference: "torchvision.models.resnet50",
        build: |size, top| resnet::torchvision(size, BLOCKS_50, top),
    },
    Known {
        name: "resnet101-torch",
        reference: "torchvision.models.resnet101",
        build: |size, top| resnet::torchvision(size, BLOCKS_101, top),
    },
    Known {
        name: "resnet18-torch",
        reference: "torchvision.models.resnet18",
        build: |size, top| resnet_basic::torchvision(size, BLOCKS_18, top),
    },
    Known {
        name: "resnet34-torch",
        reference: "torchvision.models.resnet34",
        build: |size, top| resnet_basic::torchvision(size, BLOCKS_50, top),
    },
    Known {
        name: "resnetv2_50",
        reference: "timm resnetv2_50",
        build: |size, top| resnet_v2::timm(size, BLOCKS_50, top),
    },
    Known {
        name: "resnetv2_101",
        reference: "timm resnetv2_101",
        build: |size, top| resnet_v2::timm(size, BLOCKS_101, top),
    },
    Known {
        name: "resnet-mini",
        reference: "He et al. 2016, basic blocks; the weights inside ft",
        build: resnet_mini::build,
    },
    Known { name: "vgg16", reference: "keras.applications.VGG16", build: vgg::keras },
    Known { name: "vgg16-torch", reference: "torchvision.models.vgg16", build: vgg::torchvision },
    Known { name: "vgg-gap", reference: "the network of the STL-10 study", build: vgg_gap::build },
    Known {
        name: "cnn-basic",
        reference: "the plain network of the tf_flowers study",
        build: |size, _| cnn::basic(size),
    },
];

/// Members of the family that messages name: those of its paper.
const FAMILY: [&str; 6] =
    ["cifar-resnet20", "cifar-resnet32", "cifar-resnet44", "cifar-resnet56", "cifar-resnet110", "cifar-resnet20-b"];

impl Architecture {
    /// The backbone `name`.
    ///
    /// # Errors
    /// A usage error that names what is near and what there is.
    pub fn find(name: &str) -> Result<Self> {
        if let Some(known) = ARCHITECTURES.iter().find(|known| known.name == name) {
            let build = Build::Fixed(known.build);
            return Ok(Self { name: name.to_owned(), reference: known.reference, build });
        }
        if let Some(form) = name.strip_prefix(cifar_resnet::PREFIX) {
            let form =
                cifar_resnet::Form::parse(form).map_err(|e| usage(format!("there is no model {name:?}: {e}")))?;
            let reference = "He et al. 2015, section 4.2";
            return Ok(Self { name: name.to_owned(), reference, build: Build::Cifar(form) });
        }
        let near: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).chain(FAMILY).collect();
        Err(usage(format!(
            "there is no model {name:?}{}\n  models: {}",
            suggestion(name, &near),
            Self::names().join(", ")
        )))
    }

    /// What messages list: all names, and the pattern of the family.
    pub fn names() -> Vec<&'static str> {
        let family = "cifar-resnetN or cifar-resnetN-b with N = 6n+2 (20, 32, 44, 56, 110)";
        ARCHITECTURES.iter().map(|known| known.name).chain([family]).collect()
    }

    /// Its layers without the reference's classifier, for images of `size` (height, width).
    pub fn backbone(&self, size: (usize, usize)) -> Result<Graph> {
        self.build(size, None)
    }

    /// Its layers with the reference's classifier of `classes` outputs (logits, no softmax).
    pub fn with_top(&self, size: (usize, usize), classes: usize) -> Result<Graph> {
        self.build(size, Some(classes))
    }

    fn build(&self, size: (usize, usize), top: Option<usize>) -> Result<Graph> {
        match self.build {
            Build::Fixed(build) => build(size, top),
            Build::Cifar(form) => cifar_resnet::build(size, form, top),
        }
    }
}
