//! The drawn data set `formulas`, on which the weights inside the program were trained.

use ft::data::drawn;
use ft::data::formulas::Formulas;
use ft::data::petals::Petals;
use ft::data::procedural::{Draws, Painter};
use ft::data::split::Split;
use ft::files::sha256;
use std::collections::BTreeSet;

const SIDE: usize = 32;

fn picture(class: usize, index: usize, side: usize) -> Vec<u8> {
    let draws = Draws::of_picture(0, "formulas", Split::Train, Formulas.classes()[class], index);
    Formulas.paint(class, &draws, side).photograph().image.into_raw()
}

#[test]
fn there_are_at_least_sixty_classes_and_none_is_a_flower() {
    let classes = Formulas.classes();
    assert!(classes.len() >= 60, "{} classes", classes.len());
    assert!(classes.is_sorted());
    let names: BTreeSet<&str> = classes.iter().copied().collect();
    assert_eq!(names.len(), classes.len(), "names are unique");
    for name in names {
        assert!(!Petals.classes().contains(&name), "{name} is a class of the target");
        for word in ["flower", "petal", "blossom", "daisy", "dandelion", "rose", "sunflower", "tulip"] {
            assert!(!name.contains(word), "{name}");
        }
    }
}

#[test]
fn a_picture_is_a_function_of_its_class_and_number() {
    for class in (0..Formulas.classes().len()).step_by(7) {
        let first = picture(class, 0, SIDE);
        assert_eq!(picture(class, 0, SIDE), first, "{}", Formulas.classes()[class]);
        assert_ne!(picture(class, 1, SIDE), first, "{}", Formulas.classes()[class]);
    }
}

#[test]
fn another_size_shows_the_same_picture() {
    let brightness = |pixels: &[u8]| pixels.iter().map(|&v| f64::from(v)).sum::<f64>() / pixels.len() as f64;
    for class in 0..Formulas.classes().len() {
        let (small, large) = (brightness(&picture(class, 0, 32)), brightness(&picture(class, 0, 64)));
        assert!((small - large).abs() < 14.0, "{}: {small:.1} and {large:.1}", Formulas.classes()[class]);
    }
}

#[test]
fn every_subject_is_seen_in_nearly_all_of_its_pictures() {
    for (class, name) in Formulas.classes().iter().enumerate() {
        let shown = |index: usize| {
            let draws = Draws::of_picture(0, "formulas", Split::Val, name, index);
            let scene = Formulas.paint(class, &draws, SIDE);
            scene.canvas.object().iter().sum::<f32>() / (SIDE * SIDE) as f32
        };
        let shares: Vec<f32> = (0..12).map(shown).collect();
        let seen = shares.iter().filter(|&&share| share > 0.01).count();
        assert!(seen >= 10, "{name} is seen in {seen} of 12 pictures: {shares:?}");
    }
}

/// SHA-256 of the first training picture of every class at 64 pixels, one after the other. If this changes, the edition in
/// `data/drawn.rs` goes up, and the weights inside the program are no longer those of these pictures.
const PICTURES: (u32, &str) = (1, "6ddd7af67256ad71adb4d31d25c31baab84c985bedcc6bb43c57d395ea1b5434");

#[test]
fn the_pictures_of_an_edition_stay_as_they_are() {
    let all: Vec<u8> = (0..Formulas.classes().len()).flat_map(|class| picture(class, 0, 64)).collect();
    let set = drawn::SETS.iter().find(|set| set.name == "formulas").unwrap();
    assert_eq!((set.edition, sha256(&all).as_str()), PICTURES);
}
