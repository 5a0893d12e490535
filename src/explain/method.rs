//! The methods of explanation, by name and paper.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

use super::cam::{
    elementwise, grad_cam_plus_plus_weights, grad_cam_weights, plain_cam, weighted_sum, x_grad_cam_weights,
};
use super::eigen::{eigen_cam, eigen_grad_cam};
use super::feature_map::FeatureMap;
use super::heat_map::HeatMap;
use crate::error::{suggestion, usage};

/// How a map is made. `A` is the layer's output, `G` the gradient of the class's logit with respect to it, `y` that logit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Channels weighted by what the head makes of them, `number of places * sum over channels of G A`. Zhou et al.,
    /// "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv:1512.04150.
    ///
    /// Good: exact, the places add up to the logit. Bad: only where everything behind the layer is affine (no ReLU, no max
    /// pool); for a head of global average pooling and one dense layer it is the paper's `sum_k w_k A_k`.
    Cam,
    /// Channels weighted by their mean gradient. Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    ///
    /// Good: robust, for every network, cheap. Bad: at early layers the mean gradient says little of any one place.
    #[default]
    GradCam,
    /// Channels weighted by positive gradients, each place by how much it matters alone. Chattopadhay et al., "Grad-CAM++",
    /// WACV 2018, arXiv:1710.11063.
    ///
    /// Good: finds several objects of a class. Bad: looks at positive gradients only, so that maps of different classes
    /// differ less.
    GradCamPlusPlus,
    /// Every place weighted by its own gradient. Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv:2011.08891.
    ///
    /// Good: exact where only affine layers follow. Bad: scattered at early layers.
    HiResCam,
    /// Channels weighted by the mean gradient, weighted by the activation. Fu et al., "Axiom-based Grad-CAM", BMVC 2020,
    /// arXiv:2008.02312.
    ///
    /// Good: the map's sum comes closest to the logit among channel weights. Bad: unstable where a channel's values
    /// nearly cancel.
    XGradCam,
    /// Every place weighted by its own positive gradient. Jiang et al., "LayerCAM", IEEE TIP 2021.
    ///
    /// Good: sharp at early layers. Bad: ignores what speaks against the class.
    LayerCam,
    /// Channels weighted by the class's logit when they mask the photo. Wang et al., "Score-CAM", CVPR workshops 2020,
    /// arXiv:1910.01279.
    ///
    /// Good: no gradients, hence no noise from them. Bad: one forward pass for each channel; masked photos are none that
    /// the network knows. As in the paper's code, masks multiply the preprocessed photo: what is masked becomes the
    /// preprocessing's zero (mid-grey for x / 127.5 - 1, black for x / 255).
    ScoreCam,
    /// Channels weighted by the share of the logit that is lost without them, `(y - y_k) / |y|`. Desai and Ramaswamy,
    /// "Ablation-CAM", WACV 2020.
    ///
    /// Good: measures instead of estimating, finds saturated evidence where the gradient is 0. Bad: one pass through what
    /// follows the layer for each channel. The paper divides by `y`; the absolute value makes no difference for a positive
    /// logit, and for a negative one keeps the meaning of the sign.
    AblationCam,
    /// The first principal component of `A`; it does not depend on a class. Muhammad and Yeasin, "Eigen-CAM", IJCNN 2020,
    /// arXiv:2008.00299.
    ///
    /// Good: shows what stands out to the network, without gradients. Bad: the same map for every class; its sign is a
    /// convention (the largest absolute value is positive).
    EigenCam,
    /// The first principal component of `A G`, after pytorch-grad-cam (Gildenblat et al., 2021) and Muhammad and Yeasin,
    /// arXiv:2008.00299.
    ///
    /// Good: as Eigen-CAM, but for a class, and smoother than HiResCAM. Bad: without the weaker components. A principal
    /// component's sign is arbitrary: here it agrees with HiResCAM's.
    EigenGradCam,
    /// The gradient with respect to the photo, of which every ReLU lets only positive values through; absolute values
    /// added up over the colours. Springenberg et al., "Striving for Simplicity", ICLR workshops 2015, arXiv:1412.6806.
    ///
    /// Good: fine lines. Bad: hardly depends on class or weights (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS
    /// 2018): it draws edges.
    GuidedBackpropagation,
    /// Guided backpropagation times Grad-CAM, scaled to 0..1 and laid where the layer's receptive fields are. Selvaraju et
    /// al., "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    ///
    /// Good: fine lines within what Grad-CAM found. Bad: the lines are those of guided backpropagation.
    GuidedGradCam,
    /// The photo's difference from a baseline times the mean gradient on the way from there, added up over the colours.
    /// Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, arXiv:1703.01365.
    ///
    /// Good: complete, the pixels add up to the change of the logit from baseline to photo. Bad: grainy, and it depends on
    /// the baseline. The baseline is a photo of one colour, this photo's mean: it is well defined whatever the
    /// preprocessing (zero is black for one and grey for another) and no darker or brighter than the photo. Pixels
    /// of that very colour get nothing.
    IntegratedGradients,
    /// How far the class's logit falls when a window of the photo is hidden, mean over the windows that cover a pixel. Zeiler
    /// and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, arXiv:1311.2901.
    ///
    /// Good: asks the network itself; easy to understand. Bad: coarse, some two hundred forward passes, blind to evidence that
    /// two places hold alike. What is hidden takes the photo's mean colour.
    Occlusion,
}

/// The grid on which a method makes its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// One value for each place of the layer's feature map.
    Layer,
    /// One value for each pixel that the network sees.
    Pixels,
}

impl Method {
    /// All methods, in the order in which help lists them.
    pub const ALL: [Self; 14] = [
        Self::Cam,
        Self::GradCam,
        Self::GradCamPlusPlus,
        Self::HiResCam,
        Self::XGradCam,
        Self::LayerCam,
        Self::ScoreCam,
        Self::AblationCam,
        Self::EigenCam,
        Self::EigenGradCam,
        Self::GuidedBackpropagation,
        Self::GuidedGradCam,
        Self::IntegratedGradients,
        Self::Occlusion,
    ];

    /// The name on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cam => "cam",
            Self::GradCam => "gradcam",
            Self::GradCamPlusPlus => "gradcam++",
            Self::HiResCam => "hirescam",
            Self::XGradCam => "xgradcam",
            Self::LayerCam => "layercam",
            Self::ScoreCam => "scorecam",
            Self::AblationCam => "ablationcam",
            Self::EigenCam => "eigencam",
            Self::EigenGradCam => "eigengradcam",
            Self::GuidedBackpropagation => "guidedbackprop",
            Self::GuidedGradCam => "guidedgradcam",
            Self::IntegratedGradients => "integratedgradients",
            Self::Occlusion => "occlusion",
        }
    }

    /// What it does and is good for, in one line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Cam => "the head's own weights: exact, but only for heads without ReLU (Zhou et al. 2016)",
            Self::GradCam => "mean gradient of each channel: robust and cheap, coarse (Selvaraju et al. 2017)",
            Self::GradCamPlusPlus => {
                "positive gradients: several objects of a class; classes differ less (Chattopadhay et al. 2018)"
            }
            Self::HiResCam => {
                "gradient of each place: exact before affine heads, scattered early (Draelos and Carin 2020)"
            }
            Self::XGradCam => "gradient weighted by activation: adds up to the logit most nearly (Fu et al. 2020)",
            Self::LayerCam => "positive gradient of each place: sharp at early layers (Jiang et al. 2021)",
            Self::ScoreCam => "logit of the photo masked by each channel: no gradients, slow (Wang et al. 2020)",
            Self::AblationCam => {
                "what the logit loses without each channel: measured, slow at early layers (Desai and Ramaswamy 2020)"
            }
            Self::EigenCam => "what stands out in the layer, the same for every class (Muhammad and Yeasin 2020)",
            Self::EigenGradCam => "what stands out in activation times gradient: smooth (Muhammad and Yeasin 2020)",
            Self::GuidedBackpropagation => {
                "fine lines, nearly the same for any class: shows edges (Springenberg et al. 2015)"
            }
            Self::GuidedGradCam => "those lines where Grad-CAM is warm (Selvaraju et al. 2017)",
            Self::IntegratedGradients => {
                "pixels that add up to the logit's change from a plain photo: complete, grainy (Sundararajan et al. 2017)"
            }
            Self::Occlusion => {
                "how far the logit falls when a window is hidden: direct, coarse, slow (Zeiler and Fergus 2014)"
            }
        }
    }

    /// The grid of its maps.
    pub fn resolution(self) -> Resolution {
        match self {
            Self::GuidedBackpropagation | Self::GuidedGradCam | Self::IntegratedGradients | Self::Occlusion => {
                Resolution::Pixels
            }
            _ => Resolution::Layer,
        }
    }

    /// Whether its map depends on which layer is looked at.
    pub fn uses_layer(self) -> bool {
        !matches!(self, Self::GuidedBackpropagation | Self::IntegratedGradients | Self::Occlusion)
    }

    /// Whether its map depends on which class is explained.
    pub fn depends_on_class(self) -> bool {
        self != Self::EigenCam
    }

    /// Whether it takes activations for strengths, as they are behind a ReLU: where they are negative, what speaks for the
    /// class comes out negative, and the map may be empty.
    pub fn expects_positive_activation(self) -> bool {
        matches!(self, Self::GradCamPlusPlus | Self::LayerCam | Self::ScoreCam | Self::AblationCam)
    }

    /// Whether its map is a function of the layer's activation and gradient alone: what [`Self::heat_map`] can make.
    pub fn is_closed_form(self) -> bool {
        self.resolution() == Resolution::Layer && !matches!(self, Self::ScoreCam | Self::AblationCam)
    }

    /// Whether it reads the gradient at the layer.
    pub(super) fn reads_gradient(self) -> bool {
        self == Self::GuidedGradCam || (self.is_closed_form() && self != Self::EigenCam)
    }

    /// The map of one photo.
    ///
    /// # Errors
    /// If activation and gradient differ in shape, or the method needs more than these (see [`Self::is_closed_form`]).
    pub fn heat_map(self, activation: &FeatureMap, gradient: &FeatureMap) -> Result<HeatMap> {
        let (a, g) = (activation, gradient);
        ensure!(
            a.shape() == g.shape(),
            "{self}: the activation has shape {:?}, its gradient {:?}; both must be of the same layer and photo",
            a.shape(),
            g.shape()
        );
        ensure!(self.is_closed_form(), "{self} cannot be made from activation and gradient: it needs the network");
        Ok(match self {
            Self::Cam => plain_cam(a, g),
            Self::GradCamPlusPlus => weighted_sum(a, &grad_cam_plus_plus_weights(a, g)),
            Self::XGradCam => weighted_sum(a, &x_grad_cam_weights(a, g)),
            Self::LayerCam => elementwise(a, g, |g| g.max(0.0)),
            Self::HiResCam => elementwise(a, g, |g| g),
            Self::EigenCam => eigen_cam(a),
            Self::EigenGradCam => eigen_grad_cam(a, g),
            _ => weighted_sum(a, &grad_cam_weights(g)),
        })
    }

    /// Reads `NAME[,NAME…]`, or `all`: every method.
    ///
    /// # Errors
    /// A usage error for an unknown name, none at all, or one that is there twice.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        if text.trim().eq_ignore_ascii_case("all") {
            return Ok(Self::ALL.to_vec());
        }
        let mut methods = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name.eq_ignore_ascii_case("all") {
                return Err(usage(format!("'all' stands for every method: write it alone, not in '{text}'")));
            }
            let method: Self = name.parse()?;
            if methods.contains(&method) {
                return Err(usage(format!("the method {} comes twice in '{text}'; name it once", method.name())));
            }
            methods.push(method);
        }
        match methods.is_empty() {
            true => Err(usage(format!("no explanation method in '{text}'; there are all, {}", known().join(", ")))),
            false => Ok(methods),
        }
    }
}

fn known() -> Vec<&'static str> {
    Method::ALL.iter().map(|m| m.name()).collect()
}

impl fmt::Display for Method {
    /// The name as its paper writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cam => "CAM",
            Self::GradCam => "Grad-CAM",
            Self::GradCamPlusPlus => "Grad-CAM++",
            Self::HiResCam => "HiResCAM",
            Self::XGradCam => "XGrad-CAM",
            Self::LayerCam => "LayerCAM",
            Self::ScoreCam => "Score-CAM",
            Self::AblationCam => "Ablation-CAM",
            Self::EigenCam => "Eigen-CAM",
            Self::EigenGradCam => "EigenGrad-CAM",
            Self::GuidedBackpropagation => "Guided backpropagation",
            Self::GuidedGradCam => "Guided Grad-CAM",
            Self::IntegratedGradients => "Integrated gradients",
            Self::Occlusion => "Occlusion",
        })
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    /// Reads [`Method::name`] or what [`fmt::Display`] writes; capitals, hyphens and spaces do not matter.
    fn from_str(text: &str) -> Result<Self> {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
        let wanted = plain(text);
        let is_it = |m: &Self| m.name() == wanted || plain(&m.to_string()) == wanted;
        Self::ALL.into_iter().find(is_it).ok_or_else(|| {
            let near = suggestion(&wanted, &known());
            usage(format!("no explanation method '{text}'{near}; there are {}", known().join(", ")).replace("?;", "?"))
        })
    }
}
