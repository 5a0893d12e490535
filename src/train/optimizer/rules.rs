//! Update rules and the numbers of one step.

use super::OptimizerConfig;
use crate::recipe::Convention;

/// The update rule with its constants; the learning rate is given to each step. `g` is the gradient, `p` the parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// torch: `v = momentum v + (1 - dampening) g; p -= lr v`, the first `v` undampened. Keras: `v = momentum v - lr g; p += v`. The
    /// same while the learning rate is, and `dampening` is 0.
    Sgd { momentum: f64, nesterov: bool, dampening: f64 },
    /// torch adds epsilon to the root of the corrected second moment, Keras to that of the uncorrected one. With `amsgrad` the
    /// largest uncorrected second moment so far takes its place.
    Adam { beta_1: f64, beta_2: f64, epsilon: f64, amsgrad: bool },
    /// `v = rho v + (1 - rho) g^2`, of which `centered` subtracts the square of the mean gradient. torch divides by
    /// `sqrt(v) + epsilon`, Keras by `sqrt(v + epsilon)`; momentum is added up after the division.
    RmsProp { rho: f64, epsilon: f64, momentum: f64, centered: bool },
}

impl Rule {
    /// Names of the tensors kept for each parameter.
    pub(super) fn slots(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &["momentum"],
            Self::Adam { amsgrad: false, .. } => &["first_moment", "second_moment"],
            Self::Adam { amsgrad: true, .. } => &["first_moment", "second_moment", "largest_second_moment"],
            Self::RmsProp { centered: false, momentum: 0.0, .. } => &["second_moment"],
            Self::RmsProp { centered: false, .. } => &["second_moment", "momentum"],
            Self::RmsProp { centered: true, momentum: 0.0, .. } => &["second_moment", "first_moment"],
            Self::RmsProp { centered: true, .. } => &["second_moment", "first_moment", "momentum"],
        }
    }
}

/// What one step does with one parameter. Computed in `f64`: `1 - beta_2^t` loses most digits in `f32`.
#[derive(Clone, Copy)]
pub(super) struct Constants<T> {
    pub update: Update<T>,
    pub gradient: Gradient<T>,
    /// What is left of the parameter before the update.
    pub shrink: T,
}

/// What becomes of a gradient before the rule sees it.
#[derive(Clone, Copy)]
pub(super) struct Gradient<T> {
    /// Factor of clipping by norm; 1 without.
    pub scale: T,
    /// Largest size of an element; infinite without clipping by value.
    pub limit: T,
    /// Added for each unit of the parameter.
    pub decay: T,
}

/// One step's rule; `T` is `f64` for candle's operations and `f32` in the kernel.
#[derive(Clone, Copy)]
pub(super) enum Update<T> {
    PlainSgd {
        lr: T,
    },
    /// `v = momentum v + gradient_scale g`, then `p -= step v`, or with Nesterov `p -= step (momentum v + gradient_scale g)`.
    MomentumSgd {
        momentum: T,
        gradient_scale: T,
        step: T,
        nesterov: bool,
    },
    Adam(AdamStep<T>),
    RmsProp(RmsPropStep<T>),
}

/// `p -= step m / (root_scale sqrt(v) + epsilon)`.
#[derive(Clone, Copy)]
pub(super) struct AdamStep<T> {
    pub beta_1: T,
    pub rest_1: T,
    pub beta_2: T,
    pub rest_2: T,
    pub step: T,
    pub root_scale: T,
    pub epsilon: T,
}

/// `d = gradient_scale g / (sqrt(v + inner_epsilon) + outer_epsilon)`, then `b = momentum b + d` and `p -= step b`, or `p -= step d`
/// without momentum.
#[derive(Clone, Copy)]
pub(super) struct RmsPropStep<T> {
    pub rho: T,
    pub rest: T,
    pub inner_epsilon: T,
    pub outer_epsilon: T,
    pub momentum: T,
    pub gradient_scale: T,
    pub step: T,
    pub centered: bool,
}

impl Constants<f64> {
    /// For update number `t` of a parameter, counted from 1, with its own learning rate and weight decay.
    pub fn new(config: &OptimizerConfig, t: u64, lr: f64, decay: f64, scale: f64, limit: f64) -> Self {
        let (coupled, shrink) = if config.decoupled { (0.0, 1.0 - lr * decay) } else { (decay, 1.0) };
        let update = Update::new(config, t, lr);
        Self { update, gradient: Gradient { scale, limit, decay: coupled }, shrink }
    }

    /// The same numbers for the kernel.
    pub fn to_f32(self) -> Constants<f32> {
        let Gradient { scale, limit, decay } = self.gradient;
        Constants {
            update: self.update.to_f32(),
            gradient: Gradient { scale: scale as f32, limit: limit as f32, decay: decay as f32 },
            shrink: self.shrink as f32,
        }
    }
}

impl Update<f64> {
    fn new(config: &OptimizerConfig, t: u64, lr: f64) -> Self {
        let keras = config.convention == Convention::Keras;
        match config.rule {
            Rule::Sgd { momentum: 0.0, .. } => Self::PlainSgd { lr },
            Rule::Sgd { momentum, nesterov, dampening } => {
                let undampened = if t == 1 { 1.0 } else { 1.0 - dampening };
                let (gradient_scale, step) = if keras { (-lr, -1.0) } else { (undampened, lr) };
                Self::MomentumSgd { momentum, gradient_scale, step, nesterov }
            }
            Rule::Adam { beta_1, beta_2, epsilon, .. } => {
                let t = t as f64;
                let (correction_1, root_2) = (1.0 - beta_1.powf(t), (1.0 - beta_2.powf(t)).sqrt());
                let (step, root_scale) =
                    if keras { (lr * root_2 / correction_1, 1.0) } else { (lr / correction_1, 1.0 / root_2) };
                let (rest_1, rest_2) = (1.0 - beta_1, 1.0 - beta_2);
                Self::Adam(AdamStep { beta_1, rest_1, beta_2, rest_2, step, root_scale, epsilon })
            }
            Rule::RmsProp { rho, epsilon, momentum, centered } => {
                let (inner_epsilon, outer_epsilon) = if keras { (epsilon, 0.0) } else { (0.0, epsilon) };
                let (gradient_scale, step) = if keras { (lr, 1.0) } else { (1.0, lr) };
                let rest = 1.0 - rho;
                Self::RmsProp(RmsPropStep {
                    rho,
                    rest,
                    inner_epsilon,
                    outer_epsilon,
                    momentum,
                    gradient_scale,
                    step,
                    centered,
                })
            }
        }
    }

    fn to_f32(self) -> Update<f32> {
        match self {
            Self::PlainSgd { lr } => Update::PlainSgd { lr: lr as f32 },
            Self::MomentumSgd { momentum, gradient_scale, step, nesterov } => Update::MomentumSgd {
                momentum: momentum as f32,
                gradient_scale: gradient_scale as f32,
                step: step as f32,
                nesterov,
            },
            Self::Adam(adam) => Update::Adam(AdamStep {
                beta_1: adam.beta_1 as f32,
                rest_1: adam.rest_1 as f32,
                beta_2: adam.beta_2 as f32,
                rest_2: adam.rest_2 as f32,
                step: adam.step as f32,
                root_scale: adam.root_scale as f32,
                epsilon: adam.epsilon as f32,
            }),
            Self::RmsProp(rms) => Update::RmsProp(RmsPropStep {
                rho: rms.rho as f32,
                rest: rms.rest as f32,
                inner_epsilon: rms.inner_epsilon as f32,
                outer_epsilon: rms.outer_epsilon as f32,
                momentum: rms.momentum as f32,
                gradient_scale: rms.gradient_scale as f32,
                step: rms.step as f32,
                centered: rms.centered,
            }),
        }
    }
}
