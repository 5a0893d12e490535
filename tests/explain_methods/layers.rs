//! A forward pass that halts behind a layer and goes on.

use candle_core::Tensor;
use ft::error::UsageError;
use ft::explain::{Explainer, Method, Options, Resolution};
use ft::models::{Architecture, Op};

use crate::common::{assert_close, formula_input, values};
use crate::{images, map_at, network, with_gain};

#[test]
fn an_unchanged_output_gives_the_logits_of_the_whole_network() {
    for (model, side, layer) in
        [("cifar-resnet14", 20, "gap"), ("resnet50v2", 40, "gap"), ("vgg16", 33, "flatten"), ("resnet50", 33, "gap")]
    {
        let graph = Architecture::find(model).unwrap().backbone((side, side)).unwrap();
        // The fixtures' gain, with which activations neither grow nor fade.
        let gain = if model == "vgg16" { 1.0 } else { 0.7 };
        let network = with_gain(graph, &[layer, "dense(5, relu)", "dense(1)"], 2, 0, gain);
        let images = formula_input("images", &[2, side, side, 3]);
        let expected = network.predict(&images).unwrap();
        let layers = &network.graph().layers;
        let mut exact = 0;
        for (i, layer) in layers.iter().enumerate().filter(|(i, _)| i % 7 == 0 && i + 1 < layers.len()) {
            let pass = network.run_to(&layer.name, &images).unwrap();
            let whole = network.activations(&images, &[&layer.name]).unwrap();
            assert_eq!(values(pass.activation()), values(&whole[&layer.name]), "{model}, {}", layer.name);
            let logits = network.continue_from(&pass, pass.activation()).unwrap();
            // Only where a convolution is parted from its batch norm are the operations others.
            let parted = (0..=i).any(|c| {
                let reads = |b: &ft::models::Layer| b.inputs.contains(&c) && matches!(b.op, Op::BatchNorm(_));
                matches!(layers[c].op, Op::Conv { .. }) && layers[i + 1..].iter().any(reads)
            });
            match parted {
                true => assert_close(&layer.name, &logits, &expected, 1e-5, 1e-6),
                false => assert_eq!(values(&logits), values(&expected), "{model}, {}", layer.name),
            }
            exact += usize::from(!parted);
        }
        assert!(exact > 1, "{model}: {exact} layers");
    }
}

#[test]
fn one_photo_goes_on_from_many_outputs() {
    let network = network(&["gap", "dense(classes)"], 3, 0);
    let image = images(1);
    // Inside a residual block: the shortcut passes it by.
    let pass = network.run_to("relu2", &image).unwrap();
    let other = pass.activation().affine(0.5, 0.1).unwrap();
    let both = Tensor::cat(&[pass.activation(), &other], 0).unwrap();
    let found = values(&network.continue_from(&pass, &both).unwrap());
    assert_eq!(found[..3], values(&network.predict(&image).unwrap())[..]);
    assert_eq!(found[3..], values(&network.continue_from(&pass, &other).unwrap())[..]);
    assert_ne!(found[..3], found[3..]);
    let two = network.run_to("relu2", &images(2)).unwrap();
    let three = Tensor::cat(&[pass.activation(); 3], 0).unwrap();
    let error = network.continue_from(&two, &three).expect_err("2 photos, 3 outputs");
    assert!(error.to_string().contains("relu2"), "{error}");
    let narrow = pass.activation().narrow(3, 0, 2).unwrap();
    let error = network.continue_from(&pass, &narrow).expect_err("another number of channels");
    assert!(error.to_string().contains("relu2"), "{error}");
    let error = network.run_to("head_dense1", &image).expect_err("the output itself");
    assert!(error.is::<UsageError>(), "{error}");
}

#[test]
fn what_a_method_says_of_itself_is_so() {
    let network = network(&["gap", "dense(classes)"], 3, 0);
    for method in Method::ALL {
        let map = |layer, class| map_at(&network, layer, Options::default(), method, &images(1), class);
        // CAM needs a layer behind the last ReLU; `add2` and `conv4` are two.
        let at_last = map("add2", 0);
        assert_eq!(method.uses_layer(), at_last != map("conv4", 0), "{method}");
        assert_eq!(method.depends_on_class(), at_last != map("add2", 1), "{method}");
        let explainer = Explainer::new(&network, Some("add2"), Options::default()).unwrap();
        let placement = explainer.placement(method).unwrap();
        let (side, step) = match method.resolution() {
            Resolution::Pixels => (crate::SIDE, 1.0),
            Resolution::Layer => (crate::SIDE / 2, 2.0),
        };
        assert_eq!(([at_last.height, at_last.width], placement.size), ([side; 2], crate::SIDE), "{method}");
        assert_eq!((placement.rows.step, placement.columns.step), (step, step), "{method}");
    }
}

#[test]
fn methods_that_expect_a_relu_say_so_elsewhere() {
    let network = network(&["gap", "dense(classes)"], 3, 0);
    for (layer, rectified) in [
        ("conv1", true),
        ("pool", true),
        ("conv3", false),
        ("bn3", false),
        ("add1", false),
        ("relu3", true),
        ("add2", true),
    ] {
        let explainer = Explainer::new(&network, Some(layer), Options::default()).unwrap();
        for method in Method::ALL {
            let caution = explainer.caution(method);
            assert_eq!(caution.is_some(), !rectified && method.expects_positive_activation(), "{method} at {layer}");
            assert!(caution.is_none_or(|c| c.contains(layer) && c.contains("gradcam")), "{method} at {layer}");
        }
    }
    // Pre-activation blocks add up without a ReLU.
    let graph = Architecture::find("resnet50v2").unwrap().backbone((64, 64)).unwrap();
    let layers: Vec<_> =
        graph.stages().iter().map(|(_, layer)| graph.is_rectified(graph.find(layer).unwrap())).collect();
    assert_eq!(layers, [false, false, false, false, true], "conv1, three sums of blocks, and post_relu");
}
