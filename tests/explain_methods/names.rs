//! Names of methods, lists of them, and what they say of themselves.

use std::collections::BTreeSet;

use ft::error::UsageError;
use ft::explain::{FeatureMap, Method};

#[test]
fn lists_of_methods_are_read() {
    assert_eq!(Method::parse_list("all").unwrap(), Method::ALL);
    assert_eq!(Method::parse_list(" ALL ").unwrap(), Method::ALL);
    let some = Method::parse_list("Score-CAM, gradcam,guided backpropagation").unwrap();
    assert_eq!(some, [Method::ScoreCam, Method::GradCam, Method::GuidedBackpropagation]);
    for (text, said) in [
        ("gradcam,hirescam,grad-cam", "gradcam comes twice"),
        ("all,gradcam", "'all'"),
        ("", "no explanation method"),
        (",", "there are all, cam, gradcam"),
        ("gradcam,gardcam", "did you mean \"gradcam\"?"),
        ("oclusion", "did you mean \"occlusion\"?"),
        ("zzzzzzzzzz", "there are cam, gradcam"),
    ] {
        let error = Method::parse_list(text).expect_err(text);
        assert!(error.is::<UsageError>() && error.to_string().contains(said), "{text}: {error}");
    }
}

#[test]
fn every_method_has_names_and_a_line_of_its_own() {
    let names: BTreeSet<_> = Method::ALL.iter().map(|m| m.name()).collect();
    let titles: BTreeSet<_> = Method::ALL.iter().map(ToString::to_string).collect();
    let summaries: BTreeSet<_> = Method::ALL.iter().map(|m| m.summary()).collect();
    assert_eq!([names.len(), titles.len(), summaries.len()], [14; 3]);
    for method in Method::ALL {
        assert_eq!(method.name().parse::<Method>().unwrap(), method);
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
        assert!(method.summary().len() < 120 && method.summary().contains("20"), "{method}: {}", method.summary());
    }
}

#[test]
fn closed_forms_follow_their_formulas() {
    // Three places, two channels.
    let a = FeatureMap::new(vec![1.0, 2.0, 3.0, 0.0, -1.0, 1.0], 1, 3, 2).unwrap();
    let g = FeatureMap::new(vec![0.5, -1.0, 1.5, 2.0, 0.0, 1.0], 1, 3, 2).unwrap();
    let cam = Method::Cam.heat_map(&a, &g).unwrap();
    assert_eq!(cam.raw, [3.0 * (0.5 - 2.0), 3.0 * 4.5, 3.0]);
    // A G = [0.5, -2], [4.5, 0], [0, 1]; centred: [-7/6, -5/3], [17/6, 1/3], [-5/3, 4/3]; projected on the eigenvector of
    // the larger eigenvalue.
    let rows: [(f64, f64); 3] = [(-7.0 / 6.0, -5.0 / 3.0), (17.0 / 6.0, 1.0 / 3.0), (-5.0 / 3.0, 4.0 / 3.0)];
    let sums = rows.iter().fold((0.0, 0.0, 0.0), |s, r| (s.0 + r.0 * r.0, s.1 + r.0 * r.1, s.2 + r.1 * r.1));
    let largest = (sums.0 + sums.2) / 2.0 + (((sums.0 - sums.2) / 2.0).powi(2) + sums.1 * sums.1).sqrt();
    let (x, y) = (largest - sums.2, sums.1);
    let length = (x * x + y * y).sqrt();
    let projection: Vec<f64> = rows.iter().map(|r| (r.0 * x + r.1 * y) / length).collect();
    // The second place speaks most for the class, so it must be positive.
    let sign = projection[1].signum();
    let map = Method::EigenGradCam.heat_map(&a, &g).unwrap();
    for (found, expected) in map.raw.iter().zip(&projection) {
        assert!((f64::from(*found) - sign * expected).abs() < 1e-5, "{:?}, expected {projection:?}", map.raw);
    }
    // The sign follows what speaks for the class, though the largest absolute value speaks against it.
    let against = FeatureMap::new(vec![-5.0, 1.0, 1.5], 1, 3, 1).unwrap();
    let ones = FeatureMap::new(vec![1.0; 3], 1, 3, 1).unwrap();
    let map = Method::EigenGradCam.heat_map(&against, &ones).unwrap();
    assert!(map.raw[0] < 0.0 && map.raw[1] > 0.0 && map.raw[2] > map.raw[1], "{:?}", map.raw);
    let error = Method::Occlusion.heat_map(&a, &g).expect_err("it needs the network");
    assert!(error.to_string().contains("needs the network"), "{error}");
}
