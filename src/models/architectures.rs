//! The backbones by name.

use anyhow::Result;

use super::graph::Graph;
use super::{cnn, resnet, resnet_v2, vgg};
use crate::error::{suggestion, usage};

const BLOCKS_50: [usize; 4] = [3, 4, 6, 3];
const BLOCKS_101: [usize; 4] = [3, 4, 23, 3];

type Builder = fn((usize, usize), Option<usize>) -> Result<Graph>;

/// A backbone that `ft` can build.
pub struct Architecture {
    /// The name that recipes and the command line use.
    pub name: &'static str,
    /// Where its structure and layer names come from.
    pub reference: &'static str,
    build: Builder,
}

/// All backbones.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "resnet50v2",
        reference: "keras.applications.ResNet50V2",
        build: |size, top| resnet_v2::keras(size, BLOCKS_50, top),
    },
    Architecture {
        name: "resnet101v2",
        reference: "keras.applications.ResNet101V2",
        build: |size, top| resnet_v2::keras(size, BLOCKS_101, top),
    },
    Architecture {
        name: "resnet50",
        reference: "keras.applications.ResNet50",
        build: |size, top| resnet::keras(size, BLOCKS_50, top),
    },
    Architecture {
        name: "resnet101",
        reference: "keras.applications.ResNet101",
        build: |size, top| resnet::keras(size, BLOCKS_101, top),
    },
    Architecture {
        name: "resnet50-torch",
        reference: "torchvision.models.resnet50",
        build: |size, top| resnet::torchvision(size, BLOCKS_50, top),
    },
    Architecture {
        name: "resnet101-torch",
        reference: "torchvision.models.resnet101",
        build: |size, top| resnet::torchvision(size, BLOCKS_101, top),
    },
    Architecture {
        name: "resnetv2_50",
        reference: "timm resnetv2_50",
        build: |size, top| resnet_v2::timm(size, BLOCKS_50, top),
    },
    Architecture {
        name: "resnetv2_101",
        reference: "timm resnetv2_101",
        build: |size, top| resnet_v2::timm(size, BLOCKS_101, top),
    },
    Architecture { name: "vgg16", reference: "keras.applications.VGG16", build: vgg::keras },
    Architecture { name: "vgg16-torch", reference: "torchvision.models.vgg16", build: vgg::torchvision },
    Architecture {
        name: "cnn-basic",
        reference: "the plain network of the tf_flowers study",
        build: |size, _| cnn::basic(size),
    },
];

impl Architecture {
    /// The backbone `name`, or a usage error that names what is near and what there is.
    pub fn find(name: &str) -> Result<&'static Self> {
        ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| {
            let all: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
            usage(format!("there is no model {name:?}{}\n  models: {}", suggestion(name, &all), all.join(", ")))
        })
    }

    /// Its layers without the ImageNet classifier, for images of `size` (height, width).
    pub fn backbone(&self, size: (usize, usize)) -> Result<Graph> {
        (self.build)(size, None)
    }

    /// Its layers with the reference's classifier of `classes` outputs (logits, no softmax).
    pub fn with_top(&self, size: (usize, usize), classes: usize) -> Result<Graph> {
        (self.build)(size, Some(classes))
    }
}
