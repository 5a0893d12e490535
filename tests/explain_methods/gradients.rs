//! Gradients at the pixels, and the methods made of them.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ft::explain::{Explainer, Method, Options};
use ft::models::{Architecture, Naming, Network, Op, ReluRule};

use crate::common::{assert_values_close, formula_input, values};
use crate::reference::Reference;
use crate::{as_f64, images, map_at, maps, network, with_head};

const DEEP_HEAD: [&str; 5] = ["gap", "dense(7, relu)", "batch_norm", "dense(6, leaky_relu)", "dense(classes)"];

/// Of image `i` of [`images`].
fn pixels(i: usize) -> Vec<f64> {
    values(&images(i + 1).narrow(0, i, 1).unwrap())
}

#[test]
fn input_gradients_match_plain_loops_and_those_finite_differences() {
    /// Wide against the rounding of `f64`, narrow against the distance to the next kink of a ReLU.
    const STEP: f64 = 1e-6;
    for (head, classes) in
        [(&DEEP_HEAD[..], 4), (&["gap", "dropout(0.5)", "dense(1)"], 2), (&["flatten", "dense(classes)"], 3)]
    {
        let network = network(head, classes, 0);
        let reference = Reference::new(&network);
        for (i, class) in [(0, 0), (1, classes - 1)] {
            let image = pixels(i);
            let tensor = images(2).narrow(0, i, 1).unwrap();
            assert_values_close(
                "logits",
                &values(&network.predict(&tensor).unwrap()),
                reference.forward(&image).last().unwrap(),
                1e-5,
                1e-6,
            );
            let expected = reference.gradient(&image, class, ReluRule::Gradient);
            assert!(expected.iter().filter(|g| g.abs() > 1e-6).count() > 300, "{head:?}: hardly any gradient");
            let found = network.input_gradient(&tensor, &[class as u32], ReluRule::Gradient).unwrap();
            assert_eq!(found.dims(), tensor.dims());
            assert_values_close(&format!("{head:?}"), &values(&found), &expected, 1e-5, 0.0);
            for pixel in (0..image.len()).step_by(37) {
                let at = |step: f64| {
                    let mut moved = image.clone();
                    moved[pixel] += step;
                    reference.logit(&moved, class)
                };
                let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                assert_values_close(&format!("{head:?}, value {pixel}"), &[expected[pixel]], &[difference], 1e-6, 1e-8);
            }
        }
    }
}

#[test]
fn guided_gradients_match_plain_loops_for_every_fused_form() {
    for head in [&DEEP_HEAD[..], &["gap", "dense(classes)"]] {
        let network = network(head, 4, 0);
        let reference = Reference::new(&network);
        for class in 0..4 {
            let image = pixels(0);
            let expected = reference.gradient(&image, class, ReluRule::Guided);
            let plain = reference.gradient(&image, class, ReluRule::Gradient);
            assert!(expected.iter().any(|&g| g != 0.0) || head.len() > 2, "{head:?}, class {class}: all is 0");
            assert_ne!(expected, plain);
            let found = network.input_gradient(&images(1), &[class as u32], ReluRule::Guided).unwrap();
            assert_values_close(&format!("{head:?}, class {class}"), &values(&found), &expected, 1e-5, 0.0);
            let map =
                map_at(&network, "conv1", Options::default(), Method::GuidedBackpropagation, &images(1), class as u32);
            let summed: Vec<f64> = expected.chunks(3).map(|p| p.iter().map(|g| g.abs()).sum()).collect();
            assert_values_close("map", &as_f64(&map.raw), &summed, 1e-5, 0.0);
        }
    }
    // Real blocks: shortcuts of three kinds, pre-activation.
    for (model, head) in [("cifar-resnet8", "gap"), ("cifar-resnet8-b", "gap"), ("vgg-gap", "gap")] {
        let side = if model == "vgg-gap" { 16 } else { 12 };
        let graph = Architecture::find(model).unwrap().backbone((side, side)).unwrap();
        let network = with_head(graph, &[head, "dense(classes)"], 3, 0);
        let image = formula_input("image", &[1, side, side, 3]);
        for rule in [ReluRule::Gradient, ReluRule::Guided] {
            let expected = Reference::new(&network).gradient(&values(&image), 1, rule);
            let found = network.input_gradient(&image, &[1], rule).unwrap();
            assert_values_close(&format!("{model}, {rule:?}"), &values(&found), &expected, 3e-5, 0.0);
        }
    }
}

#[test]
fn the_guided_gradient_is_the_gradient_where_everything_is_positive() {
    let mut network = network(&["gap", "dense(classes)"], 2, 0);
    let positive: BTreeMap<String, Tensor> = network
        .named_parameters()
        .filter(|(spec, _)| !spec.name.contains("moving_mean"))
        .map(|(spec, value)| (spec.name.clone(), value.abs().unwrap()))
        .chain(["bn2", "bn3", "bn4"].map(|bn| {
            let name = format!("{bn}/moving_mean");
            let length = if bn == "bn2" { 8 } else { 6 };
            (name, Tensor::zeros(length, candle_core::DType::F32, &Device::Cpu).unwrap())
        }))
        .collect();
    network.set_parameters(&positive).unwrap();
    let image = images(1).abs().unwrap();
    let of = |rule| values(&network.input_gradient(&image, &[1], rule).unwrap());
    assert_eq!(of(ReluRule::Guided), of(ReluRule::Gradient));
    assert!(of(ReluRule::Guided).iter().all(|&g| g >= 0.0) && of(ReluRule::Guided).iter().any(|&g| g > 0.0));
}

#[test]
fn guided_grad_cam_is_the_product_of_its_parts() {
    let network = network(&["gap", "dense(classes)"], 3, 0);
    for layer in ["add2", "conv1", "relu2"] {
        let explainer = Explainer::new(&network, Some(layer), Options::default()).unwrap();
        let methods = [Method::GuidedGradCam, Method::GradCam, Method::GuidedBackpropagation];
        let found = explainer.maps(&methods, &images(2), &[2, 0]).unwrap();
        let placement = explainer.placement(Method::GradCam).unwrap();
        for ((guided_cam, grad_cam), guided) in found[0].iter().zip(&found[1]).zip(&found[2]) {
            let heat = grad_cam.finalize_placed(crate::SIDE, crate::SIDE, &placement);
            let product: Vec<f64> =
                heat.values.iter().zip(&guided.raw).map(|(&h, &g)| f64::from(h) * f64::from(g)).collect();
            assert_values_close(layer, &as_f64(&guided_cam.raw), &product, 1e-6, 0.0);
        }
    }
}

/// The photo's mean colour at every place.
fn baseline(image: &[f64]) -> Vec<f64> {
    let mean = |c: usize| image.iter().skip(c).step_by(3).sum::<f64>() / (image.len() / 3) as f64;
    let colour = [mean(0), mean(1), mean(2)];
    (0..image.len()).map(|i| colour[i % 3]).collect()
}

#[test]
fn integrated_gradients_are_complete() {
    let shortfall = |network: &Network, steps: usize, class: u32| {
        let options = Options { integration_steps: steps, ..Options::default() };
        let reference = Reference::new(network);
        let image = pixels(0);
        let change = reference.logit(&image, class as usize) - reference.logit(&baseline(&image), class as usize);
        assert!(change.abs() > 1e-3, "the logit hardly changes: {change}");
        let map = map_at(network, "conv1", options, Method::IntegratedGradients, &images(1), class);
        ((as_f64(&map.raw).iter().sum::<f64>() - change) / change).abs()
    };
    // Affine: any number of steps is exact, to rounding.
    let mut graph = ft::models::Graph::new(Naming::Keras, (crate::SIDE, crate::SIDE));
    graph.then("conv1", Op::conv_padded(5, 3, 2, 1, true)).unwrap();
    graph.then("bn1", Op::keras_batch_norm(1e-3)).unwrap();
    let affine = with_head(graph, &["flatten", "dense(classes)"], 3, 0);
    for steps in [1, 3] {
        let shortfall = shortfall(&affine, steps, 1);
        assert!(shortfall < 1e-5, "affine, {steps} steps: {shortfall}");
    }
    // Not affine: the midpoint rule converges. Single errors may be small by chance, their mean is not.
    let network = network(&DEEP_HEAD, 4, 0);
    let errors = [1, 8, 64, 512].map(|steps| (0..4).map(|class| shortfall(&network, steps, class)).sum::<f64>() / 4.0);
    assert!(errors[3] < 1e-3 && errors[3] < errors[1] / 20.0 && errors[2] < errors[0] / 3.0, "{errors:?}");
}

#[test]
fn integrated_gradients_match_plain_loops() {
    let network = network(&DEEP_HEAD, 4, 0);
    let options = Options { integration_steps: 5, batch_size: 2, ..Options::default() };
    let (image, reference) = (pixels(0), Reference::new(&network));
    let base = baseline(&image);
    let mut expected = vec![0.0; image.len() / 3];
    for step in 0..5 {
        let share = (f64::from(step) + 0.5) / 5.0;
        let between: Vec<f64> = image.iter().zip(&base).map(|(x, b)| b + share * (x - b)).collect();
        let gradient = reference.gradient(&between, 3, ReluRule::Gradient);
        for (i, g) in gradient.iter().enumerate() {
            expected[i / 3] += (image[i] - base[i]) * g / 5.0;
        }
    }
    let map = map_at(&network, "add2", options, Method::IntegratedGradients, &images(1), 3);
    assert_values_close("map", &as_f64(&map.raw), &expected, 1e-4, 0.0);
}

#[test]
fn a_batch_gives_what_its_photos_give_alone() {
    // More photos than go through the network in one part.
    let (count, classes) = (10, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]);
    let network = network(&DEEP_HEAD, 4, 0);
    let options = Options { integration_steps: 3, ..Options::default() };
    for method in Explainer::new(&network, Some("relu2"), options).unwrap().applicable() {
        let together = Explainer::new(&network, Some("relu2"), options).unwrap();
        let small = Explainer::new(&network, Some("relu2"), Options { batch_size: 3, ..options }).unwrap();
        let all = maps(&together, method, &images(count), &classes);
        assert_eq!(maps(&small, method, &images(count), &classes), all, "{method} in batches of 3");
        for (i, map) in all.iter().enumerate() {
            let image = images(count).narrow(0, i, 1).unwrap();
            assert_eq!(&maps(&together, method, &image, &classes[i..=i])[0], map, "{method}, photo {i}");
        }
    }
}
