//! Drawn data sets: the pictures themselves, and that colour alone does not tell what they show.

use ft::data::petals::Petals;
use ft::data::procedural::{Draws, Painter, Picture};
use ft::data::split::Split;
use rayon::prelude::*;

fn picture(class: usize, split: Split, index: usize, size: usize) -> Picture {
    let draws = Draws::of_picture(0, "petals", split, Petals.classes()[class], index);
    Petals.paint(class, &draws, size).photograph()
}

/// A picture as shares of its pixels: 4 x 4 x 4 colours, with the square root's spread.
fn histogram(picture: &Picture) -> Vec<f64> {
    let mut counts = vec![0.0; 64];
    for pixel in picture.image.pixels() {
        let [r, g, b] = pixel.0.map(|v| usize::from(v / 64));
        counts[r * 16 + g * 4 + b] += 1.0;
    }
    let all = f64::from(picture.image.width() * picture.image.height());
    counts.into_iter().map(|count: f64| (count / all).sqrt()).collect()
}

/// The histograms of so many pictures of each class, with their classes.
fn histograms(split: Split, count: usize) -> Vec<(Vec<f64>, usize)> {
    let of = |class: usize| (0..count).map(move |index| (class, index));
    let pictures: Vec<(usize, usize)> = (0..Petals.classes().len()).flat_map(of).collect();
    let of = |(class, index)| (histogram(&picture(class, split, index, 32)), class);
    pictures.into_par_iter().map(of).collect()
}

fn accuracy(test: &[(Vec<f64>, usize)], predict: impl Fn(&[f64]) -> usize) -> f64 {
    test.iter().filter(|(features, class)| predict(features) == *class).count() as f64 / test.len() as f64
}

fn largest(scores: &[f64]) -> usize {
    (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).expect("classes")
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Multinomial logistic regression by gradient descent: weights `[classes][features]`, the last of which is the bias.
fn logistic_regression(train: &[(Vec<f64>, usize)], classes: usize) -> Vec<Vec<f64>> {
    let width = train[0].0.len();
    let mut weights = vec![vec![0.0; width + 1]; classes];
    for _ in 0..400 {
        let mut gradient = vec![vec![0.0; width + 1]; classes];
        for (features, class) in train {
            let scores: Vec<f64> = weights.iter().map(|w| dot(&w[..width], features) + w[width]).collect();
            let highest = scores[largest(&scores)];
            let exponentials: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
            let sum: f64 = exponentials.iter().sum();
            for (c, e) in exponentials.iter().enumerate() {
                let error = e / sum - f64::from(u8::from(c == *class));
                gradient[c].iter_mut().zip(features).for_each(|(g, f)| *g += error * f);
                gradient[c][width] += error;
            }
        }
        for (w, g) in weights.iter_mut().zip(&gradient) {
            w.iter_mut().zip(g).for_each(|(w, g)| *w -= 4.0 * (g / train.len() as f64 + 1e-4 * *w));
        }
    }
    weights
}

#[test]
fn colour_alone_does_not_give_the_class_away() {
    let (train, test) = (histograms(Split::Train, 120), histograms(Split::Test, 80));
    let classes = Petals.classes().len();
    let width = train[0].0.len();
    let means: Vec<Vec<f64>> = (0..classes)
        .map(|class| {
            let of: Vec<&Vec<f64>> = train.iter().filter(|t| t.1 == class).map(|t| &t.0).collect();
            (0..width).map(|i| of.iter().map(|f| f[i]).sum::<f64>() / of.len() as f64).collect()
        })
        .collect();
    let nearest_mean = accuracy(&test, |f| {
        largest(
            &means.iter().map(|m| -m.iter().zip(f).map(|(m, f)| (m - f) * (m - f)).sum::<f64>()).collect::<Vec<_>>(),
        )
    });
    let weights = logistic_regression(&train, classes);
    let logistic =
        accuracy(&test, |f| largest(&weights.iter().map(|w| dot(&w[..width], f) + w[width]).collect::<Vec<_>>()));
    eprintln!("nearest class mean {nearest_mean:.3}, logistic regression {logistic:.3}");
    assert!(nearest_mean < 0.35 && logistic < 0.35, "nearest mean {nearest_mean}, logistic regression {logistic}");
}

#[test]
fn any_size_can_be_drawn_and_the_object_is_in_it() {
    for (class, size) in (0..5).flat_map(|class| [16, 17, 301].map(|size| (class, size))) {
        let drawn = picture(class, Split::Val, 4, size);
        assert_eq!(
            (drawn.image.dimensions(), drawn.mask.dimensions()),
            ((size as u32, size as u32), (size as u32, size as u32))
        );
        assert!(drawn.mask.pixels().all(|pixel| pixel.0 == [0] || pixel.0 == [255]));
    }
    let shown = (0..50).filter(|i| picture(i % 5, Split::Test, i / 5, 64).mask.pixels().any(|pixel| pixel.0 == [255]));
    assert!(shown.count() >= 48, "pictures show their flowers");
}
