//! What the methods of explanation are told.

use std::str::FromStr;

use crate::explain::Options;

/// Options of single methods.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What the methods are told")]
pub struct Settings {
    /// How many channels Score-CAM and Ablation-CAM try, those that vary most over the photo; all as in their papers
    #[arg(long, value_name = "N|all", default_value = "64")]
    tried_channels: ChannelLimit,
    /// Points between a plain photo and the photo at which integrated gradients reads the gradient
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    integration_steps: u16,
    /// Side of the window that occlusion hides, in pixels of what the network sees [default: a fifth of its side]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..))]
    occlusion_window: Option<u16>,
    /// Pixels from one window to the next [default: half a window]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(1..))]
    occlusion_stride: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct ChannelLimit(Option<usize>);

impl FromStr for ChannelLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self(None)),
            (_, Ok(count @ 1..)) => Ok(Self(Some(count))),
            _ => Err("it must be a number from 1 on, or all".to_owned()),
        }
    }
}

impl Settings {
    /// For the explainer.
    pub fn options(&self) -> Options {
        Options {
            channels: self.tried_channels.0,
            integration_steps: self.integration_steps.into(),
            occlusion_window: self.occlusion_window.map(usize::from),
            occlusion_stride: self.occlusion_stride.map(usize::from),
            ..Options::default()
        }
    }

    /// The parts of a folder name that say what differs from the usual.
    pub fn name_parts(&self) -> Vec<String> {
        let part = |name: &str, value: Option<u16>| value.map(|value| format!("{name}-{value}"));
        let channels = match self.tried_channels.0 {
            Some(64) => None,
            Some(count) => Some(format!("channels-{count}")),
            None => Some("channels-all".to_owned()),
        };
        let steps = (self.integration_steps != 32).then_some(self.integration_steps);
        let parts = [
            channels,
            part("steps", steps),
            part("window", self.occlusion_window),
            part("stride", self.occlusion_stride),
        ];
        parts.into_iter().flatten().collect()
    }
}
