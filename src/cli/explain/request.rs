//! What may be asked of `ft explain`: methods, classes, scales, and the folder name that tells requests apart.

use anyhow::{Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::draw::colour::{ColourMap, DEFAULT_ALPHA};
use crate::error::{suggestion, usage};
use crate::explain::Method;
use crate::files::hex;
use crate::natural;

/// Which maps share a scale of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// Each map has its own: its strongest place takes the last colour
    Each,
    /// The maps of a photo share one, for each method, layer and model: classes can be compared
    Photo,
    /// The maps of all photos share one, for each method, layer and model: photos can be compared
    Shared,
}

impl Scale {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Photo => "photo",
            Self::Shared => "shared",
        }
    }
}

/// What a card shows beside the maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// The photo, then the maps over it
    #[default]
    SideBySide,
    /// Only the maps over the photo, larger
    Overlay,
}

/// How pictures look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub colours: ColourMap,
    pub alpha: f32,
    pub scale: Scale,
    pub layout: Layout,
    /// Cards have the photo's own resolution.
    pub full_size: bool,
}

impl Look {
    /// The parts of a folder name that say what differs from `usual`.
    pub fn name_parts(&self, usual: &Self) -> Vec<String> {
        let parts = [
            (self.colours != usual.colours).then(|| self.colours.name().to_owned()),
            (self.scale != usual.scale).then(|| format!("scale-{}", self.scale.name())),
            (self.layout == Layout::Overlay).then(|| "overlay".to_owned()),
            self.full_size.then(|| "full-size".to_owned()),
            (self.alpha != DEFAULT_ALPHA).then(|| format!("alpha-{}", self.alpha)),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// The methods that `--method` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    pub list: Vec<Method>,
    /// `all` was asked for: those that do not apply are left out with a reason.
    pub all: bool,
}

impl Methods {
    /// Reads `NAME[,NAME…]` or `all`.
    ///
    /// # Errors
    /// A usage error for a name that is unknown or comes twice.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { list: Method::parse_list(text)?, all: text.trim().eq_ignore_ascii_case("all") })
    }

    /// `gradcam+layercam`, or `all`.
    pub fn folder_name(&self) -> String {
        match self.all {
            true => "all".to_owned(),
            false => self.list.iter().map(|m| m.name()).collect::<Vec<_>>().join("+"),
        }
    }
}

/// Which class of a photo a map explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassChoice {
    Predicted,
    True,
    /// The class with the second highest probability.
    Second,
    Named(String),
}

impl ClassChoice {
    /// Reads `NAME[,NAME…]`: names of classes, `predicted`, `true` or `second`. A class of such a name comes first, and so does
    /// one with commas in its name.
    ///
    /// # Errors
    /// A usage error for a name that is no class, or that comes twice.
    pub fn parse_list(text: &str, classes: &[String]) -> Result<Vec<Self>> {
        if classes.iter().any(|class| class == text) {
            return Ok(vec![Self::Named(text.to_owned())]);
        }
        let mut list = Vec::new();
        for name in text.split(',').map(str::trim) {
            let choice = Self::parse(name, classes)?;
            if list.contains(&choice) {
                return Err(usage(format!("--class {text}: {name} comes twice; name it once")));
            }
            list.push(choice);
        }
        Ok(list)
    }

    fn parse(name: &str, classes: &[String]) -> Result<Self> {
        if classes.iter().any(|class| class == name) {
            return Ok(Self::Named(name.to_owned()));
        }
        Ok(match name {
            "predicted" => Self::Predicted,
            "true" => Self::True,
            "second" => Self::Second,
            _ => {
                let words = ["predicted", "true", "second"];
                let known: Vec<&str> = classes.iter().map(String::as_str).chain(words).collect();
                bail!(usage(format!(
                    "the model knows no class {name:?}{}\n  classes: {}; or {}",
                    suggestion(name, &known),
                    natural::list(classes),
                    words.join(", ")
                )))
            }
        })
    }

    /// The word on the command line.
    pub fn name(&self) -> &str {
        match self {
            Self::Predicted => "predicted",
            Self::True => "true",
            Self::Second => "second",
            Self::Named(name) => name,
        }
    }

    /// For headers: `the predicted class`, `roses`.
    pub fn title(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Second => "the runner-up".to_owned(),
            word => format!("the {} class", word.name()),
        }
    }
}

/// A name for files made from an id or a layer: no separators, nothing a shell or file system minds.
pub fn file_stem(id: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+') { c } else { '_' };
    id.trim_start_matches(['/', '.']).chars().map(safe).collect()
}

/// The parts of a name joined by hyphens; one too long for file systems ends in a hash instead.
pub fn joined_name(parts: impl IntoIterator<Item = String>) -> String {
    const LONGEST: usize = 180;
    let name = parts.into_iter().map(|part| file_stem(&part)).filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-");
    if name.len() <= LONGEST {
        return name;
    }
    let mut cut = LONGEST - 20;
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    let hash = hex(&Sha256::digest(name.as_bytes()));
    format!("{}-{}", name.get(..cut).unwrap_or_default(), hash.get(..8).unwrap_or_default())
}
