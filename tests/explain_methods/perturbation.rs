//! Methods that change the photo or the layer's output, against the same done one at a time.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ft::error::UsageError;
use ft::explain::{Explainer, Method, Options};
use ft::models::Network;

use crate::common::{assert_values_close, values};
use crate::{SIDE, as_f64, images, logit, map_at, network, with_head};

/// The network with every parameter of one channel of a layer zero, so that its output is.
fn without_channel(network: &Network, prefix: &str, channel: usize) -> Network {
    let mut parameters = network.parameters().unwrap();
    for (name, value) in &mut parameters {
        if name.starts_with(&format!("{prefix}/")) && !name.contains("moving") {
            let mut all = values(value).iter().map(|&v| v as f32).collect::<Vec<_>>();
            let last = *value.dims().last().unwrap();
            all.iter_mut().skip(channel).step_by(last).for_each(|v| *v = 0.0);
            *value = Tensor::from_vec(all, value.dims(), &Device::Cpu).unwrap();
        }
    }
    Network::with_parameters(network.graph().clone(), &parameters, &Device::Cpu).unwrap()
}

/// `[height * width][channels]`
fn activation(network: &Network, image: &Tensor, layer: &str) -> (Vec<Vec<f64>>, [usize; 2]) {
    let found = network.activations(image, &[layer]).unwrap().remove(layer).unwrap();
    let (_, height, width, channels) = found.dims4().unwrap();
    (values(&found).chunks(channels).map(<[f64]>::to_vec).collect(), [height, width])
}

fn weighted(activation: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    activation.iter().map(|place| place.iter().zip(weights).map(|(a, w)| a * w).sum()).collect()
}

#[test]
fn ablation_cam_matches_networks_without_the_channel() {
    let image = images(1);
    let head = ["gap", "dense(7, relu)", "dense(classes)"];
    let network = network(&head, 4, 0);
    let mut signs = [0, 0];
    // A plain layer, one inside a residual block, one whose zeroed channel is its batch norm's, and the last.
    for (layer, prefix) in [("conv1", "conv1"), ("relu2", "bn2"), ("bn3", "bn3"), ("relu4", "bn4"), ("conv4", "conv4")]
    {
        let (places, _) = activation(&network, &image, layer);
        for class in 0..4 {
            let y = logit(&network, &image, class);
            signs[usize::from(y > 0.0)] += 1;
            let weight = |k| (y - logit(&without_channel(&network, prefix, k), &image, class)) / y.abs();
            let expected = weighted(&places, &(0..places[0].len()).map(weight).collect::<Vec<_>>());
            assert!(expected.iter().any(|v| v.abs() > 1e-3), "{layer}: nothing to see");
            for batch_size in [32, 2] {
                let options = Options { batch_size, ..Options::default() };
                let map = map_at(&network, layer, options, Method::AblationCam, &image, class);
                assert_values_close(&format!("{layer}, class {class}"), &as_f64(&map.raw), &expected, 2e-5, 1e-6);
            }
        }
    }
    assert!(signs[0] > 0 && signs[1] > 0, "logits of one sign only: {signs:?}");
}

/// Bilinear, corners on corners.
fn enlarged(small: &[f64], [height, width]: [usize; 2]) -> Vec<f64> {
    let read = |y: f64, x: f64| {
        let (top, left) = (y.floor().min(height as f64 - 1.0) as usize, x.floor().min(width as f64 - 1.0) as usize);
        let (bottom, right) = ((top + 1).min(height - 1), (left + 1).min(width - 1));
        let (down, across) = (y - top as f64, x - left as f64);
        let row = |r: usize| small[r * width + left] * (1.0 - across) + small[r * width + right] * across;
        row(top) * (1.0 - down) + row(bottom) * down
    };
    let scale = |size: usize| (size as f64 - 1.0) / (SIDE as f64 - 1.0);
    (0..SIDE * SIDE).map(|i| read((i / SIDE) as f64 * scale(height), (i % SIDE) as f64 * scale(width))).collect()
}

/// Score-CAM with these channels, a photo at a time.
fn score_cam(network: &Network, image: &Tensor, layer: &str, class: u32, channels: &[usize]) -> Vec<f64> {
    let (places, size) = activation(network, image, layer);
    let score = |&k: &usize| {
        let small: Vec<f64> = places.iter().map(|place| place[k]).collect();
        let large = enlarged(&small, size);
        let low = large.iter().copied().fold(f64::INFINITY, f64::min);
        let high = large.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mask = |i: usize| (large[i] - low) / (high - low + 1e-8);
        let masked: Vec<f32> = values(image).iter().enumerate().map(|(i, v)| (v * mask(i / 3)) as f32).collect();
        logit(network, &Tensor::from_vec(masked, (1, SIDE, SIDE, 3), &Device::Cpu).unwrap(), class)
    };
    let scores: Vec<f64> = channels.iter().map(score).collect();
    let sum: f64 = scores.iter().map(|s| s.exp()).sum();
    let mut weights = vec![0.0; places[0].len()];
    channels.iter().zip(&scores).for_each(|(&k, score)| weights[k] = score.exp() / sum);
    weighted(&places, &weights)
}

#[test]
fn score_cam_matches_masking_by_one_channel_at_a_time() {
    let image = images(1);
    let head = ["gap", "dense(7, relu)", "dense(classes)"];
    let whole = network(&head, 4, 0);
    for layer in ["conv1", "relu2", "add2"] {
        let channels: Vec<usize> = (0..activation(&whole, &image, layer).0[0].len()).collect();
        let expected = score_cam(&whole, &image, layer, 1, &channels);
        let map = map_at(&whole, layer, Options { batch_size: 4, ..Options::default() }, Method::ScoreCam, &image, 1);
        assert_values_close(layer, &as_f64(&map.raw), &expected, 2e-5, 0.0);
    }
    // Channels that are the same everywhere: their mask is 0 whatever their value.
    let dead = without_channel(&without_channel(&whole, "bn2", 3), "bn2", 5);
    let beta = Tensor::from_vec(vec![0f32, 0.1, 0.0, 0.7, 0.1, 0.0, 0.2, 0.1], 8, &Device::Cpu).unwrap();
    let mut constant =
        Network::with_parameters(dead.graph().clone(), &dead.parameters().unwrap(), &Device::Cpu).unwrap();
    constant.set_parameters(&BTreeMap::from([("bn2/beta".to_owned(), beta)])).unwrap();
    let (places, _) = activation(&constant, &image, "relu2");
    assert!(places.iter().all(|place| place[3] == 0.7 || (place[3] - 0.7).abs() < 1e-6 && place[5] == 0.0));
    let expected = score_cam(&constant, &image, "relu2", 2, &(0..8).collect::<Vec<_>>());
    let map = map_at(&constant, "relu2", Options::default(), Method::ScoreCam, &image, 2);
    assert_values_close("constant channels", &as_f64(&map.raw), &expected, 2e-5, 0.0);
}

#[test]
fn fewer_channels_are_those_that_vary_most() {
    let (image, layer) = (images(1), "relu2");
    let network = network(&["gap", "dense(classes)"], 4, 0);
    let (places, _) = activation(&network, &image, layer);
    let count = places.len() as f64;
    let variance = |k: usize| {
        let mean = places.iter().map(|p| p[k]).sum::<f64>() / count;
        places.iter().map(|p| (p[k] - mean).powi(2)).sum::<f64>()
    };
    let mut order: Vec<usize> = (0..places[0].len()).collect();
    order.sort_by(|&a, &b| variance(b).total_cmp(&variance(a)));
    let options = |channels| Options { channels: Some(channels), ..Options::default() };
    for few in [1, 3] {
        let expected = score_cam(&network, &image, layer, 1, &order[..few]);
        let map = map_at(&network, layer, options(few), Method::ScoreCam, &image, 1);
        assert_values_close(&format!("Score-CAM, {few}"), &as_f64(&map.raw), &expected, 2e-5, 0.0);
        let y = logit(&network, &image, 1);
        let mut weights = vec![0.0; places[0].len()];
        for &k in &order[..few] {
            weights[k] = (y - logit(&without_channel(&network, "bn2", k), &image, 1)) / y.abs();
        }
        let map = map_at(&network, layer, options(few), Method::AblationCam, &image, 1);
        let expected = weighted(&places, &weights);
        assert_values_close(&format!("Ablation-CAM, {few}"), &as_f64(&map.raw), &expected, 2e-5, 1e-6);
    }
    for method in [Method::ScoreCam, Method::AblationCam] {
        let all = map_at(&network, layer, Options::default(), method, &image, 1);
        assert_eq!(map_at(&network, layer, options(8), method, &image, 1), all);
        assert_eq!(map_at(&network, layer, options(1000), method, &image, 1), all);
    }
}

/// Occlusion pixel by pixel: the mean over all windows that hold the pixel.
fn occlusion(network: &Network, image: &Tensor, class: u32, window: usize, starts: &[usize]) -> Vec<f64> {
    let all = values(image);
    let mean = |c: usize| all.iter().skip(c).step_by(3).sum::<f64>() / (SIDE * SIDE) as f64;
    let y = logit(network, image, class);
    let inside = |start: usize, i: usize| (start..start + window).contains(&i);
    let (mut sums, mut counts) = (vec![0.0; SIDE * SIDE], vec![0.0; SIDE * SIDE]);
    for (&top, &left) in starts.iter().flat_map(|top| starts.iter().map(move |left| (top, left))) {
        let hidden = |i: usize| inside(top, i / SIDE) && inside(left, i % SIDE);
        let value = |(i, v): (usize, &f64)| if hidden(i / 3) { mean(i % 3) as f32 } else { *v as f32 };
        let pixels: Vec<f32> = all.iter().enumerate().map(value).collect();
        let fall = y - logit(network, &Tensor::from_vec(pixels, (1, SIDE, SIDE, 3), &Device::Cpu).unwrap(), class);
        for i in (0..SIDE * SIDE).filter(|&i| hidden(i)) {
            sums[i] += fall;
            counts[i] += 1.0;
        }
    }
    sums.iter().zip(counts).map(|(sum, count)| sum / count).collect()
}

#[test]
fn occlusion_matches_hiding_one_window_at_a_time() {
    let image = images(1);
    let network = network(&["gap", "dense(7, relu)", "dense(classes)"], 4, 0);
    let cases = [
        // A fifth of 14 pixels is 3, half of that 1.
        (None, None, 3, (0..=11).collect::<Vec<_>>()),
        // The last window ends with the photo.
        (Some(5), Some(4), 5, vec![0, 4, 8, 9]),
        (Some(5), None, 5, vec![0, 2, 4, 6, 8, 9]),
        (Some(14), Some(3), 14, vec![0]),
    ];
    for (occlusion_window, occlusion_stride, window, starts) in cases {
        let expected = occlusion(&network, &image, 1, window, &starts);
        let options = Options { occlusion_window, occlusion_stride, ..Options::default() };
        let map = map_at(&network, "add2", options, Method::Occlusion, &image, 1);
        assert_eq!([map.height, map.width], [SIDE; 2]);
        assert_values_close(&format!("window {window}"), &as_f64(&map.raw), &expected, 1e-5, 1e-6);
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let network = with_head(crate::backbone(), &["gap", "dense(classes)"], 2, 0);
    let default = Options::default();
    for (options, said) in [
        (Options { batch_size: 0, ..default }, "batch size"),
        (Options { channels: Some(0), ..default }, "channels"),
        (Options { integration_steps: 0, ..default }, "integration steps"),
        (Options { occlusion_window: Some(0), ..default }, "window"),
        (Options { occlusion_window: Some(15), ..default }, "photos of 14"),
        (Options { occlusion_stride: Some(0), ..default }, "stride"),
        (Options { occlusion_window: Some(3), occlusion_stride: Some(4), ..default }, "gaps"),
    ] {
        let error = Explainer::new(&network, None, options).err().unwrap_or_else(|| panic!("{said}: not refused"));
        assert!(error.is::<UsageError>() && error.to_string().contains(said), "{error}");
    }
}
