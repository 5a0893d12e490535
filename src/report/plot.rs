//! Line charts as PNG and SVG, with fonts that the binary carries.

use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use image::RgbImage;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::ticks::Ticks;
use crate::data::preprocess::Interpolation;
use crate::data::resize::resize_u8;
use crate::draw::png::write_png;
use crate::draw::text;
use crate::files::write_atomically;

/// How numbers lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Linear, with ticks at whole numbers only.
    Whole,
    /// Decadic; values that are not positive are left out.
    Logarithmic,
}

/// An axis of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit: `learning rate`, `time (s)`.
    pub label: String,
    pub scale: Scale,
    /// Whether 0 is shown, wherever the values are.
    pub from_zero: bool,
    /// The axis does not go beyond; what does is drawn at the edge.
    pub limits: Option<(f64, f64)>,
}

impl Axis {
    /// Shows the range of the values.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, from_zero: false, limits: None }
    }

    /// For counted things such as epochs.
    pub fn whole(label: impl Into<String>) -> Self {
        Self { scale: Scale::Whole, ..Self::linear(label) }
    }

    /// Decades at equal distances.
    pub fn log(label: impl Into<String>) -> Self {
        Self { scale: Scale::Logarithmic, ..Self::linear(label) }
    }

    /// Begins at 0 (for values that are not negative).
    pub fn from_zero(self) -> Self {
        Self { from_zero: true, ..self }
    }

    /// Does not go beyond `low..=high`.
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { limits: Some((low, high)), ..self }
    }

    /// Where a value lies on the axis; `None` if it cannot.
    fn place(&self, value: f64) -> Option<f64> {
        let placed = if self.scale == Scale::Logarithmic { value.log10() } else { value };
        placed.is_finite().then_some(placed)
    }
}

/// How a line is drawn. Each style has a colour, a stroke and a marker of its own, so that it is known without colour too;
/// the colours (Okabe and Ito 2008) stay apart for colour-blind readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Blue, solid, filled discs.
    First,
    /// Vermilion, dashed, open squares.
    Second,
    /// Dark grey, dotted, no markers: for what the others are compared with.
    Third,
    /// Grey, thin and solid, no markers: for what is only the background of another line.
    Background,
}

/// A line through points.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As in the legend; a series without a name is not in it.
    pub name: String,
    pub style: Style,
    /// By ascending x. A point that is not finite interrupts the line.
    pub points: Vec<(f64, f64)>,
}

/// A vertical line that marks a place, e.g. the best epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub x: f64,
    /// As in the legend.
    pub name: String,
}

/// Lines over common axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub marks: Vec<Mark>,
}

/// Charts side by side under a title.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub title: String,
    pub charts: Vec<Chart>,
}

/// Width of a chart and height of the figure, in pixels of the PNG and units of the SVG.
const CHART: (u32, u32) = (640, 480);
/// The PNG is drawn at this multiple of its size and reduced, which smooths the edges.
const OVERSAMPLING: u32 = 3;
/// Markers on more points than this would run into each other.
const MOST_MARKERS: usize = 40;

const TITLE: i32 = 24;
const HEADING: i32 = 20;
const LABEL: i32 = 18;
const TICK: i32 = 16;

const INK: RGBColor = RGBColor(28, 32, 38);
const QUIET: RGBColor = RGBColor(97, 104, 115);
const GRID: RGBColor = RGBColor(228, 230, 234);
const MARK: RGBColor = RGBColor(60, 64, 72);

impl Figure {
    /// Writes the figure beside each other as `.png` and `.svg`, whatever the extension of `path`, each atomically; returns
    /// their paths.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, path: &Path) -> Result<[PathBuf; 2]> {
        let (png, svg) = (path.with_extension("png"), path.with_extension("svg"));
        let drawn = self.svg().with_context(|| format!("cannot draw {}", svg.display()))?;
        write_atomically(&svg, |out| Ok(out.write_all(drawn.as_bytes())?))?;
        write_png(&png, &self.picture().with_context(|| format!("cannot draw {}", png.display()))?)?;
        Ok([png, svg])
    }

    /// The figure as pixels.
    ///
    /// # Errors
    /// If it has no chart.
    pub fn picture(&self) -> Result<RgbImage> {
        let (width, height) = self.size();
        let (wide, high) = (width * OVERSAMPLING, height * OVERSAMPLING);
        let mut pixels = vec![255; (wide * high * 3) as usize];
        let area = BitMapBackend::with_buffer(&mut pixels, (wide, high)).into_drawing_area();
        self.draw(&area, OVERSAMPLING as i32).map_err(|e| anyhow!("{e}"))?;
        drop(area);
        let large = RgbImage::from_raw(wide, high, pixels).context("a figure without charts")?;
        Ok(resize_u8(&large, width, height, Interpolation::Bilinear))
    }

    /// The figure as SVG text; its fonts are those of whoever shows it.
    ///
    /// # Errors
    /// Only if plotters fails.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, self.size()).into_drawing_area();
        self.draw(&area, 1).map_err(|e| anyhow!("{e}"))?;
        drop(area);
        Ok(text)
    }

    fn size(&self) -> (u32, u32) {
        (CHART.0 * self.charts.len() as u32, CHART.1)
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: i32) -> Drawn<DB> {
        register_fonts();
        area.fill(&WHITE)?;
        let pen = Pen { scale };
        let (head, body) = area.split_vertically(pen.px(46));
        head.draw_text(&self.title, &pen.text(TITLE, true, INK), (pen.px(20), pen.px(14)))?;
        for (part, chart) in body.split_evenly((1, self.charts.len())).iter().zip(&self.charts) {
            pen.chart(part, chart)?;
        }
        area.present()
    }
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// The fonts under the name that SVG viewers know too.
fn register_fonts() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (style, font) in [(FontStyle::Normal, text::REGULAR), (FontStyle::Bold, text::BOLD)] {
            // Sound fonts, as the tests of `text` prove; without one, drawing says so.
            let _ = register_font("sans-serif", style, font);
        }
    });
}

impl Style {
    fn colour(self) -> RGBColor {
        match self {
            Self::First => RGBColor(0, 114, 178),
            Self::Second => RGBColor(213, 94, 0),
            Self::Third => RGBColor(60, 64, 72),
            Self::Background => RGBColor(170, 175, 183),
        }
    }
}

/// Draws at a scale.
#[derive(Clone, Copy)]
struct Pen {
    scale: i32,
}

impl Pen {
    fn px(self, length: i32) -> i32 {
        length * self.scale
    }

    fn text(self, size: i32, bold: bool, colour: RGBColor) -> TextStyle<'static> {
        let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
        FontDesc::new(FontFamily::SansSerif, f64::from(self.px(size)), style).color(&colour)
    }

    fn stroke(self, colour: RGBColor, width: i32) -> ShapeStyle {
        ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width: self.px(width) as u32 }
    }

    /// Heading, legend and the lines over their axes.
    fn chart<DB: DrawingBackend>(self, area: &DrawingArea<DB, Shift>, chart: &Chart) -> Drawn<DB> {
        let (head, body) = area.split_vertically(self.px(62));
        head.draw_text(&chart.title, &self.text(HEADING, true, INK), (self.px(92), self.px(6)))?;
        self.legend(&head, chart)?;
        let placed: Vec<Vec<Vec<(f64, f64)>>> = chart.series.iter().map(|s| runs(s, chart)).collect();
        let points = || placed.iter().flatten().flatten();
        let marks: Vec<f64> = chart.marks.iter().filter_map(|mark| chart.x.place(mark.x)).collect();
        let x = Ticks::new(&chart.x, points().map(|p| p.0).chain(marks.iter().copied()), false);
        let y = Ticks::new(&chart.y, points().map(|p| p.1), true);
        let mut context = ChartBuilder::on(&body)
            .margin_right(self.px(26))
            .margin_top(self.px(8))
            .margin_bottom(self.px(10))
            .x_label_area_size(self.px(54))
            .margin_left(self.px(14))
            .y_label_area_size(self.px(78))
            .build_cartesian_2d(x.clone(), y.clone())?;
        context
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(self.stroke(GRID, 1))
            .axis_style(self.stroke(QUIET, 1))
            .set_all_tick_mark_size(self.px(5))
            .label_style(self.text(TICK, false, INK))
            .axis_desc_style(self.text(LABEL, false, INK))
            .x_desc(chart.x.label.clone())
            .y_desc(chart.y.label.clone())
            .draw()?;
        let plane = context.plotting_area();
        for mark in marks {
            let ends = [(mark, y.low), (mark, y.high)].map(|end| plane.map_coordinate(&end));
            self.dotted(&plane.use_screen_coord(), ends)?;
        }
        for (series, runs) in chart.series.iter().zip(&placed) {
            let clipped =
                |&(px, py): &(f64, f64)| plane.map_coordinate(&(px.clamp(x.low, x.high), py.clamp(y.low, y.high)));
            let pixels: Vec<Vec<(i32, i32)>> = runs.iter().map(|run| run.iter().map(clipped).collect()).collect();
            self.series(&plane.use_screen_coord(), series.style, &pixels)?;
        }
        Ok(())
    }

    /// The lines and markers of a series, in pixels.
    fn series<DB: DrawingBackend>(
        self,
        area: &DrawingArea<DB, Shift>,
        style: Style,
        runs: &[Vec<(i32, i32)>],
    ) -> Drawn<DB> {
        let count: usize = runs.iter().map(Vec::len).sum();
        for run in runs {
            self.line(area, style, run)?;
            // A lone point has no line and must have a marker.
            if !matches!(style, Style::Third | Style::Background) && (count <= MOST_MARKERS || run.len() == 1) {
                run.iter().try_for_each(|&at| self.marker(area, style, at))?;
            }
        }
        Ok(())
    }

    fn line<DB: DrawingBackend>(self, area: &DrawingArea<DB, Shift>, style: Style, points: &[(i32, i32)]) -> Drawn<DB> {
        let points = points.to_vec();
        match style {
            Style::First => area.draw(&PathElement::new(points, self.stroke(style.colour(), 2))),
            Style::Second => {
                let (dash, gap) = (self.px(8), self.px(5));
                area.draw(&DashedPathElement::new(points, dash, gap, self.stroke(style.colour(), 2)))
            }
            Style::Third => {
                let (dash, gap) = (self.px(2), self.px(4));
                area.draw(&DashedPathElement::new(points, dash, gap, self.stroke(style.colour(), 2)))
            }
            Style::Background => area.draw(&PathElement::new(points, self.stroke(style.colour(), 1))),
        }
    }

    fn marker<DB: DrawingBackend>(self, area: &DrawingArea<DB, Shift>, style: Style, (x, y): (i32, i32)) -> Drawn<DB> {
        let radius = self.px(4);
        match style {
            Style::First => area.draw(&Circle::new((x, y), radius, style.colour().filled())),
            Style::Second => {
                // Not outlined by a path: the corners of a closed path are not joined.
                let square = |radius| [(x - radius, y - radius), (x + radius, y + radius)];
                area.draw(&Rectangle::new(square(radius + self.px(1)), style.colour().filled()))?;
                area.draw(&Rectangle::new(square(radius - self.px(1)), WHITE.filled()))
            }
            Style::Third | Style::Background => Ok(()),
        }
    }

    fn dotted<DB: DrawingBackend>(self, area: &DrawingArea<DB, Shift>, ends: [(i32, i32); 2]) -> Drawn<DB> {
        area.draw(&DashedPathElement::new(ends.to_vec(), self.px(2), self.px(4), self.stroke(MARK, 2)))
    }

    /// What each line means, in a row below the heading.
    fn legend<DB: DrawingBackend>(self, area: &DrawingArea<DB, Shift>, chart: &Chart) -> Drawn<DB> {
        let text = self.text(TICK, false, INK).pos(Pos::new(HPos::Left, VPos::Center));
        let named = chart.series.iter().filter(|series| !series.name.is_empty());
        let lines = named.map(|series| (Some(series.style), &series.name));
        let entries: Vec<_> = lines.chain(chart.marks.iter().map(|mark| (None, &mark.name))).collect();
        let mut widths = 0;
        for (_, name) in &entries {
            widths += area.estimate_text_size(name, &text)?.0 as i32;
        }
        // Many names get shorter samples, and the row begins further left.
        let width = |sample: i32, gap: i32| widths + entries.len() as i32 * self.px(sample + 7 + gap);
        let room = area.dim_in_pixel().0 as i32;
        let is_tight = self.px(92) + width(44, 18) > room;
        let (sample, gap) = if is_tight { (26, 10) } else { (44, 18) };
        let (mut left, middle) = (self.px(92).min(room - width(sample, gap)).max(self.px(4)), self.px(46));
        for (style, name) in entries {
            let right = left + self.px(if style.is_some() { sample } else { 20 });
            match style {
                Some(style) => {
                    self.line(area, style, &[(left, middle), (right, middle)])?;
                    self.marker(area, style, ((left + right) / 2, middle))?;
                }
                None => {
                    let x = (left + right) / 2;
                    self.dotted(area, [(x, middle - self.px(9)), (x, middle + self.px(9))])?;
                }
            }
            left = right + self.px(7);
            area.draw_text(name, &text, (left, middle))?;
            left += area.estimate_text_size(name, &text)?.0 as i32 + self.px(gap);
        }
        Ok(())
    }
}

/// The parts of a series between points that cannot be drawn, in the axes' own coordinates.
fn runs(series: &Series, chart: &Chart) -> Vec<Vec<(f64, f64)>> {
    let placed: Vec<Option<(f64, f64)>> =
        series.points.iter().map(|&(x, y)| Some((chart.x.place(x)?, chart.y.place(y)?))).collect();
    placed
        .split(Option::is_none)
        .map(|run| run.iter().copied().flatten().collect())
        .filter(|r: &Vec<_>| !r.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(points: Vec<(f64, f64)>) -> Figure {
        let series = |name: &str, style| Series { name: name.to_owned(), style, points: points.clone() };
        let chart = Chart {
            title: "loss".into(),
            x: Axis::whole("epoch"),
            y: Axis::linear("cross-entropy (nats)").from_zero(),
            series: vec![series("training", Style::First), series("validation", Style::Second)],
            marks: vec![Mark { x: 2.0, name: "best: epoch 2".into() }],
        };
        Figure { title: "a run".into(), charts: vec![chart] }
    }

    #[test]
    fn a_figure_names_its_axes_lines_and_marks() {
        let svg = figure(vec![(1.0, 0.9), (2.0, 0.4)]).svg().unwrap();
        for text in ["a run", "loss", "epoch", "cross-entropy (nats)", "training", "validation", "best: epoch 2"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn whatever_the_values_are_there_is_a_picture() {
        let wild = [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e300, 1e-300];
        let points: Vec<Vec<(f64, f64)>> = vec![
            vec![],
            vec![(1.0, 0.5)],
            vec![(1.0, f64::NAN)],
            wild.iter().enumerate().map(|(i, &y)| (i as f64, y)).collect(),
            wild.iter().map(|&x| (x, 1.0)).collect(),
            (0..500).map(|i| (f64::from(i), f64::from(i).sin())).collect(),
        ];
        for points in points {
            for scale in [Scale::Linear, Scale::Whole, Scale::Logarithmic] {
                let mut figure = figure(points.clone());
                figure.charts[0].x.scale = scale;
                assert_eq!(figure.picture().unwrap().dimensions(), CHART, "{points:?}");
                assert!(figure.svg().unwrap().ends_with("</svg>\n"), "{points:?}");
            }
        }
    }

    #[test]
    fn lines_differ_without_colour_and_a_gap_interrupts_them() {
        let svg = figure(vec![(1.0, 0.9), (2.0, f64::NAN), (3.0, 0.4)]).svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 3, "two lone points and the legend:\n{svg}");
        let whole = figure(vec![(1.0, 0.9), (2.0, 0.6), (3.0, 0.4)]).svg().unwrap();
        let strokes = |svg: &str, colour: &str| svg.matches(&format!("stroke=\"{colour}\"")).count();
        assert!(strokes(&whole, "#D55E00") > 3 * strokes(&whole, "#0072B2"), "dashes against one line:\n{whole}");
    }
}
