//! The image and its components: sizes, coefficients, sample planes.

use anyhow::{Context, Result, bail};

use super::color::Plane;
use super::idct::inverse_dct;
use super::scan::{Block, ScanKind};

/// An image as its frame header describes it (T.81, B.2.2).
pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    components: Vec<Component>,
    /// Largest sampling factors, across and down.
    max: (usize, usize),
}

struct Component {
    id: u8,
    /// Blocks of this component in a minimum coded unit, across and down.
    sampling: (usize, usize),
    table: usize,
    /// Samples that belong to the image.
    width: usize,
    height: usize,
    /// Blocks a row, padding to whole units included.
    stride: usize,
    /// Progressive: all coefficients. They come in several scans. Sequential: those of the row of units that is being decoded;
    /// zeros between rows.
    coefficients: Vec<Block>,
    /// Sequential: samples, row of units by row of units. Progressive: none yet.
    samples: Vec<u8>,
    rows: usize,
    /// The quantisation steps at the first scan of the component; later tables of the same number do not count.
    steps: Option<[i32; 64]>,
    seen: bool,
    /// Progressive: lowest bit position transmitted of each coefficient, in zigzag order; 0 where none was.
    missing_bits: [u32; 64],
}

/// The minimum coded units of a scan.
pub(super) struct Units {
    pub across: usize,
    pub down: usize,
    /// Several components: units are groups of blocks of each. One component: units are its blocks.
    interleaved: bool,
}

impl Units {
    /// Blocks of a component in a unit, across and down.
    fn blocks(&self, component: &Component) -> (usize, usize) {
        if self.interleaved { component.sampling } else { (1, 1) }
    }
}

impl Frame {
    pub fn parse(content: &[u8], progressive: bool) -> Result<Self> {
        const SHORT: &str = "corrupt: a short frame header";
        let (&[precision, h1, h0, w1, w0, count], rest) = content.split_first_chunk::<6>().context(SHORT)?;
        if precision != 8 {
            bail!("{precision} bits a sample are not supported");
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into());
        if !(1..=4).contains(&count) {
            bail!("{count} components are not supported");
        }
        let mut components: Vec<Component> = Vec::new();
        for &[id, sampling, table] in rest.as_chunks::<3>().0.iter().take(usize::from(count)) {
            let sampling = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if !(1..=4).contains(&sampling.0) || !(1..=4).contains(&sampling.1) || table > 3 {
                bail!("corrupt: component {id} has impossible sampling factors or tables");
            }
            if components.iter().any(|component| component.id == id) {
                bail!("corrupt: component {id} comes twice");
            }
            components.push(Component::new(id, sampling, usize::from(table)));
        }
        if components.len() != usize::from(count) {
            bail!(SHORT);
        }
        // A single component is never subsampled, whatever its factors say.
        if let [only] = components.as_mut_slice() {
            only.sampling = (1, 1);
        }
        let max = components.iter().fold((1, 1), |max, c| (max.0.max(c.sampling.0), max.1.max(c.sampling.1)));
        if components.iter().any(|c| max.0 % c.sampling.0 != 0 || max.1 % c.sampling.1 != 0) {
            bail!("fractional chroma subsampling is not supported");
        }
        Ok(Self { width, height, progressive, components, max })
    }

    /// Takes the memory; to be called once the size is known to be acceptable.
    pub fn allocated(mut self) -> Self {
        let units = self.interleaved_units();
        for component in &mut self.components {
            let (across, down) = component.sampling;
            component.width = (self.width * across).div_ceil(self.max.0);
            component.height = (self.height * down).div_ceil(self.max.1);
            component.stride = units.across * across;
            component.rows = units.down * down;
            let kept_rows = if self.progressive { component.rows } else { down };
            component.coefficients = vec![[0; 64]; component.stride * kept_rows];
            if !self.progressive {
                component.samples = vec![0; component.stride * component.rows * 64];
            }
        }
        self
    }

    pub fn ids(&self) -> Vec<u8> {
        self.components.iter().map(|component| component.id).collect()
    }

    pub fn has_all_components(&self) -> bool {
        self.components.iter().all(|component| component.seen)
    }

    /// Notes how precise the coefficients are after a progressive scan.
    pub fn note_precision(&mut self, components: &[usize], kind: &ScanKind) {
        let (first, last) = kind.band;
        for &index in components {
            let missing = self.components.get_mut(index).and_then(|c| c.missing_bits.get_mut(first..=last));
            missing.unwrap_or_default().fill(kind.low);
        }
    }

    /// Whether every coefficient that was begun is there to its last bit.
    pub fn has_all_bits(&self) -> bool {
        self.components.iter().all(|component| component.missing_bits == [0; 64])
    }

    /// Whether no further scan can add anything.
    pub fn is_complete(&self) -> bool {
        !self.progressive && self.has_all_components()
    }

    pub fn component_index(&self, id: u8) -> Result<usize> {
        let index = self.components.iter().position(|component| component.id == id);
        index.with_context(|| format!("corrupt: a scan of component {id}, which the image does not have"))
    }

    /// Keeps the quantisation steps that hold when the components are first scanned.
    pub fn latch_quantisation(&mut self, components: &[usize], tables: &[Option<[i32; 64]>; 4]) {
        for &index in components {
            if let Some(component) = self.components.get_mut(index) {
                component.steps = component.steps.or(tables.get(component.table).copied().flatten());
            }
        }
    }

    fn interleaved_units(&self) -> Units {
        let (across, down) = (self.width.div_ceil(8 * self.max.0), self.height.div_ceil(8 * self.max.1));
        Units { across, down, interleaved: true }
    }

    /// The units of a scan of these components, which count as seen from now on.
    pub fn units(&mut self, components: &[usize]) -> Result<Units> {
        for (i, &index) in components.iter().enumerate() {
            let component = self.components.get_mut(index).context("corrupt: a scan without components")?;
            if components.iter().take(i).any(|&other| other == index) {
                bail!("corrupt: a component comes twice in a scan");
            }
            component.seen = true;
        }
        match components {
            [] => bail!("corrupt: a scan without components"),
            [only] => {
                let component = self.components.get(*only).context("corrupt: a scan without components")?;
                let (across, down) = (component.width.div_ceil(8), component.height.div_ceil(8));
                Ok(Units { across, down, interleaved: false })
            }
            _ => Ok(self.interleaved_units()),
        }
    }

    /// Decodes the blocks of one unit: `decode` gets the component's place in the scan and the coefficients so far.
    #[inline(always)]
    pub fn decode_unit(
        &mut self,
        units: &Units,
        (unit_row, unit_column): (usize, usize),
        components: &[usize],
        mut decode: impl FnMut(usize, &mut Block) -> Result<()>,
    ) -> Result<()> {
        const OUTSIDE: &str = "corrupt: a block outside of the image";
        for (slot, &index) in components.iter().enumerate() {
            let Some(component) = self.components.get_mut(index) else { continue };
            let (across, down) = units.blocks(component);
            let first_row = if self.progressive { unit_row * down } else { 0 };
            for row in first_row..first_row + down {
                let first = row * component.stride + unit_column * across;
                for block in component.coefficients.get_mut(first..first + across).context(OUTSIDE)? {
                    decode(slot, block)?;
                    if !self.progressive && component.steps.is_none() {
                        bail!(NO_STEPS);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sequential: turns the coefficients of a row of units, all of which have been decoded, into samples.
    pub fn finish_row(&mut self, units: &Units, unit_row: usize, components: &[usize]) {
        if self.progressive {
            return;
        }
        for &index in components {
            let Some(component) = self.components.get_mut(index) else { continue };
            let (across, down) = units.blocks(component);
            let (stride, count) = (component.stride, units.across * across);
            let Some(steps) = &component.steps else { continue };
            let samples = component.samples.chunks_exact_mut((stride * 64).max(1)).skip(unit_row * down);
            let blocks = component.coefficients.chunks_exact_mut(stride.max(1)).take(down);
            for (samples, blocks) in samples.zip(blocks) {
                let blocks = blocks.get_mut(..count).unwrap_or_default();
                inverse_dct(blocks, steps, samples, stride * 8);
                blocks.fill([0; 64]);
            }
        }
    }

    /// The samples of all components. `tables` are the last ones in the file, for components that had none at first.
    pub fn into_planes(self, tables: &[Option<[i32; 64]>; 4]) -> Result<Vec<Plane>> {
        let max = self.max;
        let plane = |mut component: Component| {
            if self.progressive {
                let steps = component.steps.or(tables.get(component.table).copied().flatten());
                component.transform_all(&steps.context(NO_STEPS)?);
            }
            Ok(Plane {
                stride: component.stride * 8,
                width: component.width,
                height: component.height,
                expand: (max.0 / component.sampling.0, max.1 / component.sampling.1),
                samples: component.samples,
            })
        };
        self.components.into_iter().map(plane).collect()
    }
}

const NO_STEPS: &str = "corrupt: a quantisation table is missing";

impl Component {
    fn new(id: u8, sampling: (usize, usize), table: usize) -> Self {
        Self {
            id,
            sampling,
            table,
            width: 0,
            height: 0,
            stride: 0,
            coefficients: Vec::new(),
            samples: Vec::new(),
            rows: 0,
            steps: None,
            seen: false,
            missing_bits: [0; 64],
        }
    }

    /// Progressive: samples of all coefficients, which are given back.
    fn transform_all(&mut self, steps: &[i32; 64]) {
        let stride = self.stride * 8;
        self.samples = vec![0; stride * self.rows * 8];
        let blocks = std::mem::take(&mut self.coefficients);
        let rows = self.samples.chunks_exact_mut((stride * 8).max(1));
        for (rows, blocks) in rows.zip(blocks.chunks_exact(self.stride.max(1))) {
            inverse_dct(blocks, steps, rows, stride);
        }
    }
}
