//! The class activation map family: which places of a feature map speak for a class.
//!
//! Everything here is a pure function of an activation `A` and of the gradient `G` of the class logit with respect to
//! it, both `[height, width, channels]`, for one photo. Sums run in `f64`, in a fixed order.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};

use crate::error::usage;
use crate::models::Centres;

/// Keeps divisions finite where a map is constant; the value is pytorch-grad-cam's, which the fixtures follow.
const EPSILON: f64 = 1e-7;

/// How a map is made from activation and gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Channels weighted by their mean gradient. Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    #[default]
    GradCam,
    /// Channels weighted by positive gradients, each place by how much it matters alone; finds several objects of a
    /// class better. Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv:1710.11063.
    GradCamPlusPlus,
    /// Channels weighted by the mean gradient, weighted by the activation. Fu et al., "Axiom-based Grad-CAM", BMVC 2020,
    /// arXiv:2008.02312.
    XGradCam,
    /// Every place weighted by its own positive gradient: sharp at early layers. Jiang et al., "LayerCAM", IEEE TIP 2021.
    LayerCam,
    /// Every place weighted by its own gradient, exact where only linear layers follow. Draelos and Carin, "Use HiResCAM
    /// instead of Grad-CAM", arXiv:2011.08891.
    HiResCam,
    /// The first principal component of the activation; it does not depend on a class. Muhammad and Yeasin, "Eigen-CAM",
    /// IJCNN 2020, arXiv:2008.00299.
    EigenCam,
}

impl Method {
    /// All methods, in the order in which help lists them.
    pub const ALL: [Self; 6] =
        [Self::GradCam, Self::GradCamPlusPlus, Self::XGradCam, Self::LayerCam, Self::HiResCam, Self::EigenCam];

    /// The name on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::GradCam => "gradcam",
            Self::GradCamPlusPlus => "gradcam++",
            Self::XGradCam => "xgradcam",
            Self::LayerCam => "layercam",
            Self::HiResCam => "hirescam",
            Self::EigenCam => "eigencam",
        }
    }

    /// The map of one photo.
    ///
    /// # Errors
    /// If activation and gradient differ in shape.
    pub fn heat_map(self, activation: &FeatureMap, gradient: &FeatureMap) -> Result<HeatMap> {
        let (a, g) = (activation, gradient);
        ensure!(
            a.shape() == g.shape(),
            "{self}: the activation has shape {:?}, its gradient {:?}; both must be of the same layer and photo",
            a.shape(),
            g.shape()
        );
        Ok(match self {
            Self::GradCam => weighted_sum(a, &grad_cam_weights(g)),
            Self::GradCamPlusPlus => weighted_sum(a, &grad_cam_plus_plus_weights(a, g)),
            Self::XGradCam => weighted_sum(a, &x_grad_cam_weights(a, g)),
            Self::LayerCam => elementwise(a, g, |g| g.max(0.0)),
            Self::HiResCam => elementwise(a, g, |g| g),
            Self::EigenCam => eigen_cam(a),
        })
    }
}

impl fmt::Display for Method {
    /// The name as its paper writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GradCam => "Grad-CAM",
            Self::GradCamPlusPlus => "Grad-CAM++",
            Self::XGradCam => "XGrad-CAM",
            Self::LayerCam => "LayerCAM",
            Self::HiResCam => "HiResCAM",
            Self::EigenCam => "Eigen-CAM",
        })
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    /// Reads [`Method::name`]; capitals and hyphens do not matter.
    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.to_lowercase().replace(['-', '_', ' '], "");
        Self::ALL.into_iter().find(|m| m.name() == wanted).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|m| m.name()).collect();
            usage(format!("no explanation method '{text}'; there are {}", names.join(", ")))
        })
    }
}

/// An activation, or the gradient with respect to one, of a single photo.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// Row-major `[height, width, channels]`.
    values: Vec<f32>,
    height: usize,
    width: usize,
    channels: usize,
}

impl FeatureMap {
    /// From values in row-major order `[height, width, channels]`.
    ///
    /// # Errors
    /// If the number of values is not that of the shape, a side is 0, or a value is not finite (a network whose
    /// training diverged).
    pub fn new(values: Vec<f32>, height: usize, width: usize, channels: usize) -> Result<Self> {
        let shape = [height, width, channels];
        let count = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        ensure!(count == Some(values.len()), "{} values for a feature map of shape {shape:?}", values.len());
        ensure!(count != Some(0), "an empty feature map of shape {shape:?}: the photo is too small for this layer");
        if let Some(i) = values.iter().position(|v| !v.is_finite()) {
            bail!(
                "the feature map of shape {shape:?} holds {} at index {i}: the network does not give finite numbers, \
                 its training may have diverged; explain an earlier checkpoint",
                values.get(i).copied().unwrap_or_default()
            );
        }
        Ok(Self { values, height, width, channels })
    }

    /// From a tensor `[height, width, channels]` or `[1, height, width, channels]` of any float type, on any device.
    ///
    /// # Errors
    /// If the tensor has another shape (such as a layer behind global pooling), and as [`FeatureMap::new`].
    pub fn from_tensor(tensor: &Tensor) -> Result<Self> {
        let (height, width, channels) = match *tensor.dims() {
            [height, width, channels] | [1, height, width, channels] => (height, width, channels),
            ref other => bail!(
                "a map needs the output of a layer with shape [1, height, width, channels], this one has {other:?}; \
                 choose a layer before pooling and flattening"
            ),
        };
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Self::new(values, height, width, channels)
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The channels at each position, row by row.
    fn positions(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.channels)
    }

    /// Sum over the positions, per channel.
    fn channel_sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for position in self.positions() {
            sums.iter_mut().zip(position).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        sums
    }

    fn position_count(&self) -> f64 {
        (self.height * self.width) as f64
    }

    fn heat_map(&self, raw: impl Iterator<Item = f64>) -> HeatMap {
        HeatMap { raw: raw.map(|v| v as f32).collect(), height: self.height, width: self.width }
    }
}

/// A map at the size of the feature map, as the method gives it: before ReLU and scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// Row-major `[height, width]`; positive where the place speaks for the class.
    pub raw: Vec<f32>,
    pub height: usize,
    pub width: usize,
}

/// A map ready to be drawn: from 0 to 1, at the size of the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaledMap {
    /// Row-major `[height, width]`, in 0..=1.
    pub values: Vec<f32>,
    pub height: usize,
    pub width: usize,
}

impl ScaledMap {
    /// The value at a place; 0 outside.
    pub fn at(&self, x: usize, y: usize) -> f32 {
        if x < self.width { self.values.get(y * self.width + x).copied().unwrap_or(0.0) } else { 0.0 }
    }
}

impl HeatMap {
    /// Whether any place speaks for the class. If none does, the scaled map is 0 everywhere.
    pub fn has_positive(&self) -> bool {
        self.raw.iter().any(|&v| v > 0.0)
    }

    /// Smallest and largest raw value; 0 and 0 for an empty map.
    pub fn range(&self) -> (f32, f32) {
        let finite = || self.raw.iter().copied().filter(|v| v.is_finite());
        match (finite().reduce(f32::min), finite().reduce(f32::max)) {
            (Some(low), Some(high)) => (low, high),
            _ => (0.0, 0.0),
        }
    }

    /// The map for a picture of the given size: ReLU, scaled to 0..1, resized, scaled again, as pytorch-grad-cam does.
    ///
    /// The resize is bilinear with half-pixel centres and clamped borders, without antialiasing (OpenCV's
    /// `INTER_LINEAR`). A map without positive values becomes 0 everywhere.
    pub fn finalize(&self, width: usize, height: usize) -> ScaledMap {
        let half_pixel = |from: usize, to: usize, i: usize| (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let columns = bilinear_taps(self.width, width, |x| half_pixel(self.width, width, x));
        let rows = bilinear_taps(self.height, height, |y| half_pixel(self.height, height, y));
        self.scaled(&columns, &rows)
    }

    /// [`Self::finalize`] with each value put where its receptive field is centred. A stride-2 convolution whose padding
    /// puts its first window on the first pixel shifts its map by half a cell to the top left of where half-pixel centres
    /// would draw it; after the five of a ResNet that is 15 pixels of the input.
    pub fn finalize_placed(&self, width: usize, height: usize, placement: &Placement) -> ScaledMap {
        let taps = |from: usize, to: usize, axis: &Centres| {
            bilinear_taps(from, to, |i| {
                let pixel = (i as f64 + 0.5) * placement.size as f64 / to as f64 - 0.5;
                (pixel - axis.start) / axis.step
            })
        };
        let columns = taps(self.width, width, &placement.columns);
        let rows = taps(self.height, height, &placement.rows);
        self.scaled(&columns, &rows)
    }

    fn scaled(&self, columns: &[Tap], rows: &[Tap]) -> ScaledMap {
        let positive = |v: &f32| if v.is_finite() { f64::from(v.max(0.0)) } else { 0.0 };
        let mut map: Vec<f64> = self.raw.iter().map(positive).collect();
        scale_to_unit(&mut map);
        let mut resized = resize_bilinear(&map, self.width, columns, rows);
        scale_to_unit(&mut resized);
        let values = resized.into_iter().map(|v| v as f32).collect();
        ScaledMap { values, height: rows.len(), width: columns.len() }
    }
}

/// Where the cells of a feature map lie on the network's square input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    pub rows: Centres,
    pub columns: Centres,
    /// Side of the input in pixels.
    pub size: usize,
}

/// Plain CAM: the class's row of the dense layer that follows global average pooling, applied at every place.
/// Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv:1512.04150.
///
/// # Errors
/// If there is not one weight for each channel.
pub fn class_activation_map(features: &FeatureMap, class_weights: &[f32]) -> Result<HeatMap> {
    ensure!(
        class_weights.len() == features.channels,
        "plain CAM: {} class weights for features of shape {:?}; it needs a head of global average pooling and one \
         dense layer, use gradcam for any other",
        class_weights.len(),
        features.shape()
    );
    let weights: Vec<f64> = class_weights.iter().map(|&w| f64::from(w)).collect();
    Ok(weighted_sum(features, &weights))
}

/// Grad-CAM's channel weights: the mean of the gradient over the positions.
pub fn grad_cam_weights(gradient: &FeatureMap) -> Vec<f64> {
    let count = gradient.position_count();
    gradient.channel_sums().into_iter().map(|sum| sum / count).collect()
}

/// Grad-CAM++'s channel weights: `sum(relu(G) a)`, `a = G² / (2 G² + sum(A) G³ + 1e-6)` and 0 where `G` is 0.
///
/// Both maps must have the same shape.
pub fn grad_cam_plus_plus_weights(activation: &FeatureMap, gradient: &FeatureMap) -> Vec<f64> {
    let sums = activation.channel_sums();
    let mut weights = vec![0.0; gradient.channels];
    for position in gradient.positions() {
        for ((weight, &sum), &g) in weights.iter_mut().zip(&sums).zip(position) {
            let g = f64::from(g);
            if g > 0.0 {
                *weight += ratio(g * g * g, 2.0 * g * g + sum * g * g * g + 1e-6);
            }
        }
    }
    weights
}

/// XGrad-CAM's channel weights: `sum(G A) / (sum(A) + 1e-7)`. Both maps must have the same shape.
pub fn x_grad_cam_weights(activation: &FeatureMap, gradient: &FeatureMap) -> Vec<f64> {
    let mut products = vec![0.0; gradient.channels];
    for (a, g) in activation.positions().zip(gradient.positions()) {
        for ((product, &a), &g) in products.iter_mut().zip(a).zip(g) {
            *product += f64::from(a) * f64::from(g);
        }
    }
    products.iter().zip(activation.channel_sums()).map(|(product, sum)| ratio(*product, sum + EPSILON)).collect()
}

/// `sum over channels of weight * A` at every position.
fn weighted_sum(activation: &FeatureMap, weights: &[f64]) -> HeatMap {
    activation.heat_map(activation.positions().map(|position| dot(position, weights)))
}

/// `sum over channels of weight(G) * A` at every position.
fn elementwise(activation: &FeatureMap, gradient: &FeatureMap, weight: impl Fn(f64) -> f64) -> HeatMap {
    let at = |(a, g): (&[f32], &[f32])| a.iter().zip(g).map(|(&a, &g)| f64::from(a) * weight(f64::from(g))).sum();
    activation.heat_map(activation.positions().zip(gradient.positions()).map(at))
}

/// The positions (rows) of the centred activation, projected on its first right singular vector, which power iteration
/// finds. A singular vector's sign is arbitrary: it is chosen so that the largest absolute value is positive.
fn eigen_cam(activation: &FeatureMap) -> HeatMap {
    /// Iterations end earlier unless the two largest singular values are closer than a part in a thousand.
    const MOST_ITERATIONS: usize = 2000;
    const TOLERANCE: f64 = 1e-12;
    let centred = CentredRows::new(activation);
    let mut projection = centred.project(&centred.largest_row());
    let mut length = norm(&projection);
    for _ in 0..MOST_ITERATIONS {
        if length == 0.0 {
            break;
        }
        let mut direction = centred.combine(&projection);
        let scale = norm(&direction);
        if scale == 0.0 {
            break;
        }
        direction.iter_mut().for_each(|v| *v /= scale);
        let next = centred.project(&direction);
        let next_length = norm(&next);
        let change =
            next.iter().zip(&projection).map(|(n, p)| (n / next_length - p / length).abs()).fold(0.0, f64::max);
        (projection, length) = (next, next_length);
        if change < TOLERANCE {
            break;
        }
    }
    let largest = projection.iter().copied().fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
    let sign = if largest < 0.0 { -1.0 } else { 1.0 };
    activation.heat_map(projection.into_iter().map(|v| v * sign))
}

/// The matrix positions × channels of an activation, less the mean of each channel.
struct CentredRows {
    values: Vec<f64>,
    channels: usize,
}

impl CentredRows {
    fn new(activation: &FeatureMap) -> Self {
        let count = activation.position_count();
        let means: Vec<f64> = activation.channel_sums().into_iter().map(|sum| sum / count).collect();
        let centre =
            |position: &[f32]| -> Vec<f64> { position.iter().zip(&means).map(|(&a, m)| f64::from(a) - m).collect() };
        Self { values: activation.positions().flat_map(centre).collect(), channels: activation.channels }
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.channels)
    }

    /// Start of the iteration: a row is never orthogonal to all leading directions, and this one is the safest.
    fn largest_row(&self) -> Vec<f64> {
        let longest = self.rows().reduce(|best, row| if norm(row) > norm(best) { row } else { best });
        longest.map(<[f64]>::to_vec).unwrap_or_default()
    }

    /// One value per position.
    fn project(&self, direction: &[f64]) -> Vec<f64> {
        self.rows().map(|row| row.iter().zip(direction).map(|(a, b)| a * b).sum()).collect()
    }

    /// One value per channel.
    fn combine(&self, projection: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for (row, &factor) in self.rows().zip(projection) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += factor * value;
            }
        }
        sums
    }
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn dot(position: &[f32], weights: &[f64]) -> f64 {
    position.iter().zip(weights).map(|(&a, w)| f64::from(a) * w).sum()
}

/// A quotient that is 0 where it is not defined, so that one odd channel cannot spoil a map.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

/// `(v - min) / (1e-7 + max - min)`.
fn scale_to_unit(values: &mut [f64]) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|v| *v = (*v - low) / (EPSILON + (high - low)));
}

/// Where a target coordinate reads: the two source indices and the share of the second.
type Tap = (usize, usize, f64);

/// The taps of `to` target coordinates, each of which reads at `place` among `from` source values; clamped at the borders.
fn bilinear_taps(from: usize, to: usize, place: impl Fn(usize) -> f64) -> Vec<Tap> {
    let last = from.saturating_sub(1);
    let tap = |i: usize| {
        let place = place(i).clamp(0.0, last as f64);
        let first = place.floor() as usize;
        (first, (first + 1).min(last), place - first as f64)
    };
    (0..to).map(tap).collect()
}

/// Bilinear resize of a row-major map of the given width.
fn resize_bilinear(map: &[f64], width: usize, columns: &[Tap], rows: &[Tap]) -> Vec<f64> {
    let read = |x: usize, y: usize| map.get(y * width + x).copied().unwrap_or(0.0);
    let mut resized = Vec::with_capacity(columns.len() * rows.len());
    for &(top, bottom, down) in rows {
        resized.extend(columns.iter().map(|&(left, right, across)| {
            let row = |y| read(left, y) * (1.0 - across) + read(right, y) * across;
            row(top) * (1.0 - down) + row(bottom) * down
        }));
    }
    resized
}
