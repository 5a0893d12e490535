//! Loss and accuracy over the epochs of a run.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::plot::{Axis, Chart, Figure, Mark, Series, Style};
use crate::runs::file;
use crate::train::observer::EpochMetrics;

/// Draws `curves.png` and `curves.svg` in a run folder: loss and accuracy by epoch, of training and validation, the epoch of
/// the best checkpoint marked. Returns their paths.
///
/// # Errors
/// If they cannot be written.
pub fn save(folder: &Path, title: &str, epochs: &[EpochMetrics], best_epoch: Option<usize>) -> Result<[PathBuf; 2]> {
    figure(title, epochs, best_epoch).save(&folder.join(file::CURVES_PNG))
}

/// The curves as a figure.
pub fn figure(title: &str, epochs: &[EpochMetrics], best_epoch: Option<usize>) -> Figure {
    let chart = |title: &str, y: Axis, train: fn(&EpochMetrics) -> f64, val: fn(&EpochMetrics) -> Option<f64>| {
        let points = |value: &dyn Fn(&EpochMetrics) -> Option<f64>| -> Vec<(f64, f64)> {
            epochs.iter().filter_map(|e| Some((e.epoch as f64, value(e)?))).collect()
        };
        let series = |name: &str, style, points: Vec<(f64, f64)>| Series { name: name.to_owned(), style, points };
        let lines = [
            series("training", Style::First, points(&|e| Some(train(e)))),
            series("validation", Style::Second, points(&|e| val(e))),
        ];
        Chart {
            title: title.to_owned(),
            x: Axis::whole("epoch"),
            y,
            series: lines.into_iter().filter(|line| !line.points.is_empty()).collect(),
            marks: best_epoch.map(|e| Mark { x: e as f64, name: format!("best: epoch {e}") }).into_iter().collect(),
        }
    };
    let loss = Axis::linear("loss (nats, mean of photos)").from_zero();
    let accuracy = Axis::linear("accuracy (share of photos)").within(0.0, 1.0);
    Figure {
        title: title.to_owned(),
        charts: vec![
            chart("Loss", loss, |e| e.train_loss, |e| e.val_loss),
            chart("Accuracy", accuracy, |e| e.train_accuracy, |e| e.val_accuracy),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(count: usize) -> Vec<EpochMetrics> {
        (1..=count)
            .map(|epoch| {
                let x = epoch as f64;
                EpochMetrics {
                    epoch,
                    train_loss: 1.6 / x.sqrt(),
                    train_objective: None,
                    val_objective: None,
                    train_accuracy: 1.0 - 0.6 / x,
                    val_loss: Some(1.5 / x.sqrt() + 0.02 * x),
                    val_accuracy: Some(0.92 - 0.5 / x),
                    lr: 1e-3,
                    seconds: 1.0,
                    images_per_second: 1.0,
                }
            })
            .collect()
    }

    #[test]
    fn curves_are_two_pictures_of_the_same_figure() {
        let folder = tempfile::tempdir().unwrap();
        let [png, svg] = save(folder.path(), "a run", &epochs(12), Some(7)).unwrap();
        assert_eq!((png, svg.clone()), (folder.path().join("curves.png"), folder.path().join("curves.svg")));
        let picture = image::open(folder.path().join("curves.png")).unwrap().into_rgb8();
        let drawn = std::fs::read_to_string(svg).unwrap();
        assert!(drawn.contains(&format!("width=\"{}\" height=\"{}\"", picture.width(), picture.height())), "{drawn}");
        assert_eq!(drawn.matches("best: epoch 7").count(), 2);
    }

    #[test]
    fn without_validation_there_is_only_the_training_line() {
        let mut epochs = epochs(3);
        for epoch in &mut epochs {
            (epoch.val_loss, epoch.val_accuracy) = (None, None);
        }
        let figure = figure("a run", &epochs, None);
        assert!(figure.charts.iter().all(|c| c.series.len() == 1 && c.marks.is_empty()));
        assert_eq!(figure.charts[1].series[0].points, [(1.0, 0.4), (2.0, 0.7), (3.0, 0.8)]);
    }
}
