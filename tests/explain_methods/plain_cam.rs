//! CAM: exact behind affine heads, refused behind others.

use ft::error::UsageError;
use ft::explain::cam::class_activation_map;
use ft::explain::{Explainer, FeatureMap, Method, Options};
use ft::models::{Graph, Naming, Op};
use proptest::prelude::*;

use crate::common::{assert_values_close, formula_input, values};
use crate::{as_f64, images, logit, map_at, maps, network, with_head};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cam_is_grad_cam_times_the_places_behind_global_average_pooling(
        seed in 0u64..1000, side in 3usize..12, channels in 1usize..9, classes in 2usize..6, deep in any::<bool>()
    ) {
        let mut graph = Graph::new(Naming::Keras, (side, side));
        graph.then("conv", Op::conv(channels, 3, 1, true)).unwrap();
        if deep {
            graph.activate("conv_relu", Op::Relu).unwrap();
        }
        let network = with_head(graph, &["gap", "dense(classes)"], classes, seed);
        let image = formula_input(&format!("image {seed}"), &[1, side, side, 3]);
        let class = (seed % classes as u64) as u32;
        let explainer = Explainer::new(&network, Some("conv"), Options::default()).unwrap();
        let found = explainer.maps(&[Method::Cam, Method::GradCam], &image, &[class]).unwrap();
        let places = (side - 2).pow(2) as f64;
        let grad_cam: Vec<f64> = found[1][0].raw.iter().map(|&v| f64::from(v) * places).collect();
        assert_values_close("CAM", &as_f64(&found[0][0].raw), &grad_cam, 1e-5, 1e-6);
        // Zhou's own form: the class's row of the dense kernel at every place.
        let (_, kernel) = network.named_parameters().find(|(spec, _)| spec.name == "head_dense1/kernel").unwrap();
        let row: Vec<f32> = values(kernel).iter().skip(class as usize).step_by(classes).map(|&w| w as f32).collect();
        let activation = network.activations(&image, &["conv"]).unwrap().remove("conv").unwrap();
        let expected = class_activation_map(&FeatureMap::from_tensor(&activation).unwrap(), &row).unwrap();
        assert_values_close("Zhou", &as_f64(&found[0][0].raw), &as_f64(&expected.raw), 1e-5, 1e-6);
    }
}

#[test]
fn the_places_of_cam_add_up_to_the_logit_behind_any_affine_head() {
    for (head, classes) in [
        (&["gap", "dense(classes)"][..], 3),
        (&["gap", "dropout(0.3)", "dense(1)"], 2),
        (&["gap", "batch_norm", "dense(9)", "batch_norm", "dense(classes)"], 4),
        (&["flatten", "dropout(0.1)", "dense(5)", "dense(classes)"], 3),
    ] {
        let network = network(head, classes, 0);
        let explainer = Explainer::new(&network, Some("add2"), Options::default()).unwrap();
        for class in 0..classes as u32 {
            let found = maps(&explainer, Method::Cam, &images(3), &[class; 3]);
            // What is left is what the head adds whatever the photo.
            let constant = |i: usize| {
                let map = &found[i].raw;
                let mean = map.iter().map(|&v| f64::from(v)).sum::<f64>() / map.len() as f64;
                logit(&network, &images(3).narrow(0, i, 1).unwrap(), class) - mean
            };
            let constants = [0, 1, 2].map(constant);
            assert_values_close(&format!("{head:?}"), &constants[1..], &[constants[0]; 2], 1e-5, 2e-6);
        }
    }
}

#[test]
fn what_is_not_affine_is_named() {
    let cases: [(&[&str], &str, &str); 5] = [
        (&["gap", "dense(7, relu)", "dense(classes)"], "add2", "head_dense1_relu"),
        (&["gap", "dense(7, leaky_relu)", "dense(classes)"], "add2", "head_dense1_leaky_relu"),
        (&["gmp", "dense(classes)"], "add2", "head_gmp"),
        (&["gap", "dense(classes)"], "conv3", "relu3"),
        (&["gap", "dense(classes)"], "conv1", "layer pool"),
    ];
    for (head, layer, named) in cases {
        let network = network(head, 3, 0);
        let explainer = Explainer::new(&network, Some(layer), Options::default()).unwrap();
        let error = explainer.maps(&[Method::GradCam, Method::Cam], &images(1), &[0]).expect_err("not affine");
        assert!(error.is::<UsageError>(), "{error}");
        for said in [named, layer, "gradcam", "hirescam"] {
            assert!(error.to_string().contains(said), "{said:?} is not said: {error}");
        }
        let applicable = explainer.applicable();
        assert!(!applicable.contains(&Method::Cam) && applicable.len() == Method::ALL.len() - 1);
    }
    let affine = network(&["gap", "dense(1)"], 2, 0);
    assert_eq!(Explainer::new(&affine, Some("add2"), Options::default()).unwrap().applicable(), Method::ALL);
    // The last convolution's own leaky ReLU lies in front of its output.
    assert!(map_at(&affine, "conv4", Options::default(), Method::Cam, &images(1), 1).raw.iter().any(|&v| v != 0.0));
}
