//! What is measured of a map, and which way is better.

/// One number about the map of one photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Area under the probability of the class while the most important pixels are replaced by the photo's mean colour. Petsiuk
    /// et al., "RISE", BMVC 2018, arXiv:1806.07421.
    Deletion,
    /// Area under the probability of the class while the most important pixels appear in a blurred photo; same paper.
    Insertion,
    /// `(least - most) / 2`, the probabilities after the least and the most important pixels were imputed, mean over 20, 40, 60
    /// and 80 %. Rong et al., "ROAD", ICML 2022, arXiv:2202.00449; combined as in pytorch-grad-cam.
    Road,
    /// Share of the class's probability that is lost if the network sees only what the map shows; 0 if it gains. Chattopadhay
    /// et al., "Grad-CAM++", WACV 2018, arXiv:1710.11063.
    AverageDrop,
    /// Whether the probability of the class is higher if the network sees only what the map shows; same paper.
    Increase,
    /// Spearman's rank correlation with the map of the same network with a head drawn anew. Adebayo et al., "Sanity Checks for
    /// Saliency Maps", NeurIPS 2018, arXiv:1810.03292.
    HeadRandomised,
    /// The same with all parameters drawn anew.
    AllRandomised,
    /// Whether the map's highest pixel lies on the object, without tolerance. Zhang et al., "Top-down Neural Attention by
    /// Excitation Backprop", ECCV 2016, arXiv:1608.00507.
    Pointing,
    /// Share of the map that lies on the object. Wang et al., "Score-CAM", CVPRW 2020, arXiv:1910.01279.
    Energy,
}

impl Measure {
    /// In the order of tables.
    pub const ALL: [Self; 9] = [
        Self::Deletion,
        Self::Insertion,
        Self::Road,
        Self::AverageDrop,
        Self::Increase,
        Self::HeadRandomised,
        Self::AllRandomised,
        Self::Pointing,
        Self::Energy,
    ];

    /// Those whose ranks make the overall rank.
    pub const RANKED: [Self; 4] = [Self::Deletion, Self::Insertion, Self::Road, Self::AverageDrop];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deletion => "deletion",
            Self::Insertion => "insertion",
            Self::Road => "road",
            Self::AverageDrop => "average_drop",
            Self::Increase => "increase_in_confidence",
            Self::HeadRandomised => "spearman_head_randomised",
            Self::AllRandomised => "spearman_all_randomised",
            Self::Pointing => "pointing_game",
            Self::Energy => "energy_inside",
        }
    }

    /// The heading of its column, with an arrow that points to what is better.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Deletion => "deletion ↓",
            Self::Insertion => "insertion ↑",
            Self::Road => "ROAD ↑",
            Self::AverageDrop => "avg. drop % ↓",
            Self::Increase => "increase % ↑",
            Self::HeadRandomised => "ρ new head",
            Self::AllRandomised => "ρ all new",
            Self::Pointing => "pointing % ↑",
            Self::Energy => "energy % ↑",
        }
    }

    /// Whether small values are good.
    pub fn is_better_low(self) -> bool {
        matches!(self, Self::Deletion | Self::AverageDrop | Self::HeadRandomised | Self::AllRandomised)
    }

    /// Whether tables show it in per cent.
    pub fn is_percentage(self) -> bool {
        matches!(self, Self::AverageDrop | Self::Increase | Self::Pointing | Self::Energy)
    }

    /// A value as tables show it, without unit.
    pub fn text(self, value: f64) -> String {
        let text = if self.is_percentage() { format!("{:.1}", value * 100.0) } else { format!("{value:.3}") };
        text.replace('-', "−")
    }
}

/// One value for each measure; `None` for what was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Values([Option<f64>; Measure::ALL.len()]);

impl Values {
    /// The value of a measure.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        self.0.get(measure as usize).copied().flatten()
    }

    /// Notes a value.
    pub fn set(&mut self, measure: Measure, value: f64) {
        if let Some(place) = self.0.get_mut(measure as usize) {
            *place = Some(value);
        }
    }
}
