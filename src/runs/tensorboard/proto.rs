//! The messages of an event file, as far as a run writes them. Names and numbers are those of TensorBoard's `event.proto`,
//! `summary.proto`, `histogram.proto`, `tensor.proto` and `plugins/hparams/plugin_data.proto`
//! (<https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto>).

use std::collections::BTreeMap;

use prost::{Message, Oneof};

/// A record of an event file.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub what: Option<What>,
    #[prost(message, optional, tag = "10")]
    pub source_metadata: Option<SourceMetadata>,
}

/// What an event says.
#[derive(Clone, PartialEq, Oneof)]
pub enum What {
    /// Of the first event of a file: `brain.Event:2`.
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

/// Which program wrote a file.
#[derive(Clone, PartialEq, Message)]
pub struct SourceMetadata {
    #[prost(string, tag = "1")]
    pub writer: String,
}

/// That writing began anew.
#[derive(Clone, PartialEq, Message)]
pub struct SessionLog {
    /// [`SessionLog::START`].
    #[prost(int32, tag = "1")]
    pub status: i32,
}

impl SessionLog {
    /// What was written with the step of this event or a later one is void.
    pub const START: i32 = 1;
}

/// Values of one step.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// A value of a series.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Name of the series.
    #[prost(string, tag = "1")]
    pub tag: String,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<SummaryMetadata>,
    #[prost(oneof = "Datum", tags = "2, 4, 5, 8")]
    pub value: Option<Datum>,
}

/// A value itself.
#[derive(Clone, PartialEq, Oneof)]
pub enum Datum {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "4")]
    Image(Image),
    #[prost(message, tag = "5")]
    Histogram(Histogram),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

/// An encoded picture.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// [`Image::RGB`].
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// PNG or JPEG.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}

impl Image {
    pub const RGB: i32 = 3;
}

/// How values are distributed.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(double, tag = "1")]
    pub min: f64,
    #[prost(double, tag = "2")]
    pub max: f64,
    /// How many values there are.
    #[prost(double, tag = "3")]
    pub num: f64,
    #[prost(double, tag = "4")]
    pub sum: f64,
    #[prost(double, tag = "5")]
    pub sum_squares: f64,
    /// Right edges of the buckets.
    #[prost(double, repeated, tag = "6")]
    pub bucket_limit: Vec<f64>,
    /// How many values each has.
    #[prost(double, repeated, tag = "7")]
    pub bucket: Vec<f64>,
}

/// An empty tensor, which stands where only the metadata matter.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

impl Tensor {
    /// `float32` of shape `[0]`.
    pub fn empty() -> Self {
        const FLOAT: i32 = 1;
        Self { dtype: FLOAT, tensor_shape: Some(TensorShape { dim: vec![Dimension { size: 0 }] }) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct SummaryMetadata {
    #[prost(message, optional, tag = "1")]
    pub plugin_data: Option<PluginData>,
}

/// What a part of TensorBoard finds for itself.
#[derive(Clone, PartialEq, Message)]
pub struct PluginData {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

/// What the part `hparams` finds.
#[derive(Clone, PartialEq, Message)]
pub struct HParamsPluginData {
    #[prost(int32, tag = "1")]
    pub version: i32,
    #[prost(oneof = "HParamsData", tags = "3, 4")]
    pub data: Option<HParamsData>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum HParamsData {
    #[prost(message, tag = "3")]
    Start(SessionStartInfo),
    #[prost(message, tag = "4")]
    End(SessionEndInfo),
}

/// What a run was made with.
#[derive(Clone, PartialEq, Message)]
pub struct SessionStartInfo {
    #[prost(btree_map = "string, message", tag = "1")]
    pub hparams: BTreeMap<String, HParam>,
    /// Seconds since 1970.
    #[prost(double, tag = "5")]
    pub start_time_secs: f64,
}

/// That a run has ended.
#[derive(Clone, PartialEq, Message)]
pub struct SessionEndInfo {
    /// [`SessionEndInfo::SUCCESS`].
    #[prost(int32, tag = "1")]
    pub status: i32,
    /// Seconds since 1970.
    #[prost(double, tag = "2")]
    pub end_time_secs: f64,
}

impl SessionEndInfo {
    pub const SUCCESS: i32 = 1;
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub struct HParam {
    #[prost(oneof = "HParamValue", tags = "2, 3, 4")]
    pub kind: Option<HParamValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub enum HParamValue {
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(bool, tag = "4")]
    Boolean(bool),
}
