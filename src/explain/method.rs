//! The methods of explanation, by name and paper.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

use super::cam::{
    eigen_cam, elementwise, grad_cam_plus_plus_weights, grad_cam_weights, weighted_sum, x_grad_cam_weights,
};
use super::feature_map::FeatureMap;
use super::heat_map::HeatMap;
use crate::error::usage;

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
