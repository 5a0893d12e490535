//! Models: one file a family, each a flat list of named layers; what runs them.
//!
//! [`Graph`] is the structure (layers with the reference's names), [`Network`] adds parameter values, freezing and the two
//! halves of every model; `plan` fuses layers into steps and `execute` runs them forwards and backwards.

mod affine;
mod architectures;
mod cifar_resnet;
mod cnn;
mod data_parallel;
mod execute;
pub mod freeze;
mod graph;
mod head;
mod init;
mod layer;
mod network;
mod partial;
mod parts;
mod plan;
pub mod profile;
mod resnet;
mod resnet_basic;
mod resnet_mini;
mod resnet_v2;
mod spec;
pub mod summary;
mod vgg;
mod vgg_gap;

pub use architectures::Architecture;
pub use data_parallel::BatchPart;
pub use execute::{Pass, ReluRule};
pub use freeze::freeze_boundary;
pub use graph::Graph;
pub use head::attach as attach_head;
pub use layer::{BatchNorm, Centres, Layer, Op, Shape};
pub use network::{Network, StepOutput};
pub use partial::{ActivationGradient, PartialPass};
pub use plan::{Demand, Kernel, Step, plan};
pub use spec::{Naming, ParamKind, ParamSpec};
