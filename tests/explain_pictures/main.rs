//! The pictures of `ft explain`: colours, alignment of map and photo, captions, files, sheets, choice of photos.

mod panels;

use std::collections::BTreeMap;

use ft::data::preprocess::{Fit, Region};
use ft::draw::colour::{ColourMap, blend};
use ft::draw::png::write_png;
use ft::draw::sheet::{SheetHeader, contact_sheet};
use ft::draw::text::{TextStyle, has_glyph};
use ft::explain::files::write_npy;
use ft::explain::overlay::{CardStyle, ExplainedPhoto, card, overlay, percent};
use ft::explain::select::{Prediction, right_predictions, wrong_predictions};
use ft::explain::{FeatureMap, HeatMap, Method, Placement};
use ft::models::Centres;
use image::{Rgb, RgbImage};
use proptest::prelude::*;

const BLACK: Rgb<u8> = Rgb([0, 0, 0]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

/// A map with one hot cell.
fn hot_cell(size: usize, x: usize, y: usize) -> HeatMap {
    let mut raw = vec![-0.5; size * size];
    raw[y * size + x] = 2.0;
    HeatMap { raw, height: size, width: size }
}

fn explained<'a>(photo: &'a RgbImage, region: Region, map: &'a HeatMap) -> ExplainedPhoto<'a> {
    ExplainedPhoto {
        photo,
        region,
        map,
        placement: None,
        name: "daisy/1.jpg",
        predicted: "daisy",
        probability: 0.934,
        truth: Some("tulips"),
        explained: "daisy",
        layer: "conv5_block3_out",
        method: "Grad-CAM",
    }
}

/// Centre of mass of the heat in a picture of a black photo, in pixels, weighted by how red it is.
fn centre_of_heat(picture: &RgbImage) -> (f64, f64) {
    let (mut x, mut y, mut total) = (0.0, 0.0, 0.0);
    for (px, py, pixel) in picture.enumerate_pixels() {
        let weight = f64::from(pixel.0[0].saturating_sub(pixel.0[2]));
        x += weight * (f64::from(px) + 0.5);
        y += weight * (f64::from(py) + 0.5);
        total += weight;
    }
    assert!(total > 0.0, "no heat in the picture");
    (x / total, y / total)
}

fn colours_in(picture: &RgbImage) -> BTreeMap<[u8; 3], usize> {
    picture.pixels().fold(BTreeMap::new(), |mut counts, pixel| {
        *counts.entry(pixel.0).or_default() += 1;
        counts
    })
}

#[test]
fn colour_maps_have_their_published_anchors() {
    let anchors = |map: ColourMap| [0.0, 0.25, 0.5, 0.75, 1.0].map(|v| map.colour(v).0);
    assert_eq!(anchors(ColourMap::Jet), [[0, 0, 128], [0, 128, 255], [125, 255, 122], [255, 148, 0], [128, 0, 0]]);
    assert_eq!(
        anchors(ColourMap::Viridis),
        [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]
    );
    assert_eq!(anchors(ColourMap::Turbo), [[48, 18, 59], [40, 188, 235], [164, 252, 60], [251, 126, 33], [122, 4, 3]]);
}

#[test]
fn values_outside_of_a_colour_map_take_its_ends() {
    for map in ColourMap::ALL {
        assert_eq!(map.colour(-3.0), map.colour(0.0));
        assert_eq!(map.colour(f32::NAN), map.colour(0.0));
        assert_eq!(map.colour(7.0), map.colour(1.0));
        assert_ne!(map.colour(0.0), map.colour(1.0));
        assert_eq!(map.name().parse::<ColourMap>().expect("its own name"), map);
    }
    let error = "rainbow".parse::<ColourMap>().expect_err("no such colour map");
    assert!(error.is::<ft::error::UsageError>() && error.to_string().contains("viridis"), "{error}");
}

#[test]
fn blending_mixes_by_alpha_and_clamps_it() {
    assert_eq!(blend(BLACK, WHITE, 0.4), Rgb([102; 3]));
    assert_eq!(blend(Rgb([200, 100, 0]), Rgb([0, 100, 250]), 0.5), Rgb([100, 100, 125]));
    assert_eq!(blend(BLACK, WHITE, -1.0), BLACK);
    assert_eq!(blend(BLACK, WHITE, 3.0), WHITE);
}

#[test]
fn methods_follow_their_formulas_where_the_gradient_differs_by_place() {
    // Two places, two channels: A = [[1, 2], [3, 0]], G = [[0.5, -1], [1.5, 2]].
    let activation = FeatureMap::new(vec![1.0, 2.0, 3.0, 0.0], 1, 2, 2).expect("activation");
    let gradient = FeatureMap::new(vec![0.5, -1.0, 1.5, 2.0], 1, 2, 2).expect("gradient");
    // a = G² / (2 G² + sum(A) G³): 0.25 / 1, 2.25 / 18 for channel 0; 4 / 24 for the positive one of channel 1.
    let (plus0, plus1) = (0.5 * 0.25 + 1.5 * 0.125, 2.0 / 6.0);
    let expected = [
        (Method::GradCam, [1.0 + 0.5 * 2.0, 3.0]),
        (Method::GradCamPlusPlus, [plus0 + 2.0 * plus1, 3.0 * plus0]),
        (Method::XGradCam, [5.0 / 4.0 - 2.0, 15.0 / 4.0]),
        (Method::LayerCam, [0.5, 4.5]),
        (Method::HiResCam, [-1.5, 4.5]),
        // Both rows lie on one line through their mean, sqrt(2) to either side; ties turn the first one positive.
        (Method::EigenCam, [2f32.sqrt(), -(2f32.sqrt())]),
    ];
    for (method, values) in expected {
        let map = method.heat_map(&activation, &gradient).expect("a map");
        assert_eq!((map.height, map.width), (1, 2));
        for (actual, value) in map.raw.iter().zip(values) {
            assert!((actual - value).abs() < 1e-5, "{method}: {:?}, expected {values:?}", map.raw);
        }
    }
}

#[test]
fn a_feature_map_that_is_no_map_is_refused_with_its_shape() {
    let device = candle_core::Device::Cpu;
    let pooled = candle_core::Tensor::zeros((1, 2048), candle_core::DType::F32, &device).expect("tensor");
    let error = FeatureMap::from_tensor(&pooled).expect_err("two dimensions");
    assert!(error.to_string().contains("[1, 2048]"), "{error}");
    let error = FeatureMap::new(vec![0.0, f32::NAN], 1, 2, 1).expect_err("NaN");
    assert!(error.to_string().contains("diverged"), "{error}");
    assert!(FeatureMap::new(vec![], 0, 0, 4).is_err());
    assert!(FeatureMap::new(vec![0.0; 3], 2, 2, 1).is_err());
    let (small, large) = (FeatureMap::new(vec![1.0], 1, 1, 1), FeatureMap::new(vec![1.0, 2.0], 1, 2, 1));
    let error = Method::GradCam.heat_map(&small.expect("map"), &large.expect("map")).expect_err("two shapes");
    assert!(error.to_string().contains("[1, 2, 1]"), "{error}");
}

#[test]
fn methods_are_found_by_name_whatever_the_spelling() {
    for method in Method::ALL {
        assert_eq!(method.name().parse::<Method>().expect("its name"), method);
        assert_eq!(method.to_string().parse::<Method>().expect("its title"), method);
    }
    let error = "saliency".parse::<Method>().expect_err("unknown");
    assert!(error.is::<ft::error::UsageError>() && error.to_string().contains("gradcam++"), "{error}");
}

#[test]
fn a_map_without_positive_values_is_zero_everywhere() {
    let map = HeatMap { raw: vec![-1.0, -2.0, f32::NAN, -0.5], height: 2, width: 2 };
    assert!(!map.has_positive());
    assert_eq!(map.range(), (-2.0, -0.5));
    assert_eq!(map.finalize(5, 3).values, vec![0.0; 15]);
}

#[test]
fn heat_lands_on_its_place_when_a_photo_was_squashed() {
    let map = hot_cell(8, 5, 2);
    for (width, height) in [(320, 320), (400, 200), (150, 330)] {
        let photo = RgbImage::from_pixel(width, height, BLACK);
        let region = Region::seen(Fit::Squash, 160, (width, height)).expect("region");
        let drawn = overlay(&explained(&photo, region, &map), (width, height), ColourMap::Jet, 1.0).expect("overlay");
        let (x, y) = centre_of_heat(&drawn);
        let expected = (5.5 / 8.0 * f64::from(width), 2.5 / 8.0 * f64::from(height));
        assert!((x - expected.0).abs() < 0.6 && (y - expected.1).abs() < 0.6, "({x}, {y}), expected {expected:?}");
    }
}

#[test]
fn heat_lands_on_its_place_when_a_photo_was_cropped() {
    let map = hot_cell(7, 1, 4);
    for (width, height) in [(300, 300), (400, 300), (300, 500)] {
        let photo = RgbImage::from_pixel(width, height, WHITE);
        let region = Region::seen(Fit::Crop { fraction: 0.875 }, 224, (width, height)).expect("region");
        // The inner square of 224 / 256 of the shorter side.
        let side = 300.0 * 0.875;
        let corner = ((f64::from(width) - side) / 2.0, (f64::from(height) - side) / 2.0);
        // Drawn at half the size of the photo.
        let size = (width / 2, height / 2);
        let drawn = overlay(&explained(&photo, region, &map), size, ColourMap::Jet, 1.0).expect("overlay");
        let (x, y) = centre_of_heat(&drawn);
        let expected = ((corner.0 + side * 1.5 / 7.0) / 2.0, (corner.1 + side * 4.5 / 7.0) / 2.0);
        assert!((x - expected.0).abs() < 1.0 && (y - expected.1).abs() < 1.0, "({x}, {y}), expected {expected:?}");
    }
}

#[test]
fn what_the_network_did_not_see_is_grey_and_the_rest_is_not() {
    let photo = RgbImage::from_pixel(400, 200, Rgb([250, 20, 20]));
    let region = Region::seen(Fit::Crop { fraction: 1.0 }, 100, (400, 200)).expect("region");
    assert_eq!(region, Region { x: 100.0, y: 0.0, width: 200.0, height: 200.0 });
    let map = hot_cell(4, 0, 0);
    let drawn = overlay(&explained(&photo, region, &map), (400, 200), ColourMap::Jet, 0.4).expect("overlay");
    let colourless = |x: u32| drawn.get_pixel(x, 100).0.iter().max().zip(drawn.get_pixel(x, 100).0.iter().min());
    for x in [0, 50, 98, 301, 399] {
        let (most, least) = colourless(x).expect("a pixel");
        assert!(most - least < 10, "column {x} is not grey");
    }
    for x in [102, 200, 297] {
        let expected = blend(Rgb([250, 20, 20]), ColourMap::Jet.colour(0.0), 0.4);
        assert_eq!(*drawn.get_pixel(x, 150), expected, "column {x}");
    }
}

#[test]
fn a_crop_region_follows_the_rounding_of_the_evaluation() {
    // 61x43: shorter side to 36 = floor(32 / 0.875), longer to 51; the crop starts at round(9.5) = 10 and 2.
    let region = Region::seen(Fit::Crop { fraction: 0.875 }, 32, (61, 43)).expect("region");
    let expected =
        Region { x: 10.0 * 61.0 / 51.0, y: 2.0 * 43.0 / 36.0, width: 32.0 * 61.0 / 51.0, height: 32.0 * 43.0 / 36.0 };
    for (actual, wanted) in [
        (region.x, expected.x),
        (region.y, expected.y),
        (region.width, expected.width),
        (region.height, expected.height),
    ] {
        assert!((actual - wanted).abs() < 1e-9, "{region:?}, expected {expected:?}");
    }
}

#[test]
fn a_fraction_that_f32_cannot_hold_still_crops_whole_pixels() {
    // 160 / 0.8 = 200, although 0.8f32 is a little more than 0.8.
    let region = Region::seen(Fit::Crop { fraction: 0.8 }, 160, (200, 200)).expect("region");
    assert_eq!(region, Region { x: 20.0, y: 20.0, width: 160.0, height: 160.0 });
}

#[test]
fn right_and_wrong_cards_differ_in_colour_and_in_sign() {
    let photo = RgbImage::from_pixel(64, 64, BLACK);
    let map = hot_cell(4, 1, 1);
    let wrong = explained(&photo, Region::whole((64, 64)), &map);
    let right = ExplainedPhoto { truth: Some("daisy"), ..wrong };
    let unknown = ExplainedPhoto { truth: None, ..wrong };
    let draw = |e: &ExplainedPhoto| card(e, &CardStyle::SINGLE).expect("card");
    let (wrong, right, unknown) = (draw(&wrong), draw(&right), draw(&unknown));
    let (green, red) = ([11, 117, 84], [196, 62, 0]);
    assert!(colours_in(&right).contains_key(&green) && !colours_in(&right).contains_key(&red));
    assert!(colours_in(&wrong).contains_key(&red) && !colours_in(&wrong).contains_key(&green));
    assert!(!colours_in(&unknown).contains_key(&red) && !colours_in(&unknown).contains_key(&green));
    // The sign: the disc of the caption, told apart without its colour.
    let is_paper = |picture: &RgbImage, x, y| picture.get_pixel(x, y).0.iter().all(|&v| v > 240);
    let below = CardStyle::SINGLE.photo_box.1;
    let shape = |picture: &RgbImage| -> Vec<bool> {
        (below..picture.height() - 2)
            .flat_map(|y| (20..44).map(move |x| (x, y)))
            .map(|(x, y)| is_paper(picture, x, y))
            .collect()
    };
    assert_ne!(shape(&right), shape(&wrong));
}

#[test]
fn a_card_says_so_when_nothing_speaks_for_the_class() {
    let photo = RgbImage::from_pixel(64, 64, WHITE);
    let (silent, speaking) = (HeatMap { raw: vec![-1.0; 4], height: 2, width: 2 }, hot_cell(2, 0, 0));
    for style in [CardStyle::SINGLE, CardStyle::ON_SHEET] {
        let dark = |map: &HeatMap| {
            let drawn = card(&explained(&photo, Region::whole((64, 64)), map), &style).expect("card");
            let photos = image::imageops::crop_imm(&drawn, 0, 0, drawn.width(), style.photo_box.1).to_image();
            photos.pixels().filter(|p| p.0 == [28, 32, 38]).count()
        };
        assert_eq!(dark(&speaking), 0);
        assert!(dark(&silent) > 1000, "a dark band with the note lies over the map");
    }
}

#[test]
fn probabilities_are_never_shown_as_more_certain_than_they_are() {
    for (probability, text) in [
        (0.934, "93.4 %"),
        (1.0, "100.0 %"),
        (0.99999, "> 99.9 %"),
        (0.9994, "99.9 %"),
        (0.0001, "< 0.1 %"),
        (0.0, "0.0 %"),
        (f32::NAN, "? %"),
    ] {
        assert_eq!(percent(probability), text);
    }
}

#[test]
fn embedded_fonts_hold_what_captions_need() {
    for character in "AZaz09 !\"%&'()/·–—…“”½°äöüßéèñçøåÆŁžŠřőğİαΩЖя✓✗−×≥→".chars()
    {
        assert!(has_glyph(character), "no glyph for {character:?}");
    }
    assert!(!has_glyph('漢') && !has_glyph('🌷'));
}

#[test]
fn a_character_without_a_glyph_is_drawn_as_a_box() {
    let style = TextStyle::regular(32.0, BLACK);
    let mut picture = RgbImage::from_pixel(40, 40, WHITE);
    assert!(style.draw(&mut picture, 4.0, 32.0, "漢") > 10.0);
    assert!(picture.pixels().any(|p| p.0[0] < 100), "nothing was drawn");
}

#[test]
fn long_text_is_cut_with_an_ellipsis_and_fits() {
    let style = TextStyle::regular(16.0, BLACK);
    let long = "a class name that goes on and on and never seems to end";
    let cut = style.fit(long, 120.0);
    assert!(cut.ends_with('…') && long.starts_with(cut.trim_end_matches('…')), "{cut}");
    assert!(style.width(&cut) <= 120.0 && style.width(&cut) > 100.0, "{} px", style.width(&cut));
    let path = style.fit_middle("sunflowers/some_very_long_file_name_0123.jpg", 160.0);
    assert!(path.starts_with("sunf") && path.contains('…') && path.ends_with("3.jpg"), "{path}");
    assert!(style.width(&path) <= 160.0);
    assert_eq!(style.fit("short", 120.0), "short");
    assert_eq!(style.fit(long, 3.0), "");
    assert_eq!(style.fit(long, -10.0), "");
    assert_eq!(style.fit(long, f32::NAN), "");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn captions_of_any_text_are_drawn(name in "\\PC{0,60}|.{0,60}", class in any::<String>(), width in -5.0f32..300.0) {
        let style = TextStyle::bold(15.0, BLACK);
        for fitted in [style.fit(&name, width), style.fit_middle(&class, width)] {
            prop_assert!(fitted.is_empty() || style.width(&fitted) <= width, "{fitted:?} is wider than {width}");
        }
        let photo = RgbImage::from_pixel(9, 30, WHITE);
        let map = hot_cell(2, 0, 1);
        let all = ExplainedPhoto {
            name: &name, predicted: &class, truth: Some(&name), explained: &class, layer: &name, method: &class,
            ..explained(&photo, Region::whole((9, 30)), &map)
        };
        let drawn = card(&all, &CardStyle::SINGLE).expect("card");
        prop_assert!(drawn.width() > 0);
    }
}

#[test]
fn cards_of_extreme_photos_are_drawn_and_an_empty_photo_is_refused() {
    let map = hot_cell(3, 1, 1);
    for size in [(1, 1), (3000, 2), (2, 3000), (449, 447)] {
        let photo = RgbImage::from_pixel(size.0, size.1, WHITE);
        for fit in [Fit::Squash, Fit::Crop { fraction: 0.875 }] {
            let e = explained(&photo, Region::seen(fit, 224, size).expect("region"), &map);
            let single = card(&e, &CardStyle::SINGLE).expect("card");
            assert!(single.width() <= 1100 && single.height() <= 700, "{size:?}: {:?}", single.dimensions());
            let fixed = card(&e, &CardStyle::ON_SHEET).expect("card").dimensions();
            let other = RgbImage::from_pixel(30, 40, BLACK);
            let usual = explained(&other, Region::whole((30, 40)), &map);
            assert_eq!(fixed, card(&usual, &CardStyle::ON_SHEET).expect("card").dimensions(), "{size:?}");
        }
    }
    let nothing = RgbImage::new(0, 5);
    let error = card(&explained(&nothing, Region::whole((0, 5)), &map), &CardStyle::SINGLE).expect_err("no photo");
    assert!(error.to_string().contains("daisy/1.jpg"), "{error}");
}

#[test]
fn a_raw_map_is_read_back_from_its_npy_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("map.npy");
    let map = HeatMap { raw: vec![1.5, -2.25, 3e-20, 0.0, f32::MAX, -1.0], height: 2, width: 3 };
    write_npy(&path, &map).expect("written");
    let bytes = std::fs::read(&path).expect("read");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!(data % 64, 0, "data are aligned");
    let header = std::str::from_utf8(&bytes[10..data]).expect("text");
    assert_eq!(header.trim_end(), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    assert!(header.ends_with('\n'));
    let values: Vec<f32> =
        bytes[data..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(values, map.raw);
    assert!(write_npy(&path, &HeatMap { raw: vec![1.0], height: 2, width: 3 }).is_err());
    assert_eq!(std::fs::read(&path).expect("read"), bytes, "a refused map leaves the old file");
}

#[test]
fn a_picture_is_read_back_from_its_png_file() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("card.png");
    let picture = RgbImage::from_fn(7, 5, |x, y| Rgb([x as u8 * 30, y as u8 * 50, 9]));
    write_png(&path, &picture).expect("written");
    assert_eq!(image::open(&path).expect("read").to_rgb8(), picture);
    assert!(write_png(&path, &RgbImage::new(0, 0)).is_err());
    let error = write_png(&folder.path().join("missing/card.png"), &picture).expect_err("no folder");
    assert!(format!("{error:#}").contains("missing"), "{error:#}");
}

fn header() -> SheetHeader {
    SheetHeader {
        title: "Wrong predictions · cnn-basic".into(),
        lines: vec!["flower_photos".into(), "Grad-CAM at conv3".into()],
        empty: "no wrong predictions among 353 test photos".into(),
        colours: Some(ColourMap::Turbo),
    }
}

/// The part of a sheet below its header.
fn below_header(sheet: &RgbImage) -> RgbImage {
    image::imageops::crop_imm(sheet, 0, 120, sheet.width(), sheet.height() - 120).to_image()
}

#[test]
fn a_sheet_without_cards_says_so() {
    let sheet = contact_sheet(&header(), &[], 3).expect("sheet");
    let silent = contact_sheet(&SheetHeader { empty: String::new(), ..header() }, &[], 3).expect("sheet");
    assert!(colours_in(&below_header(&sheet)).len() > 10, "there is text");
    assert_eq!(colours_in(&below_header(&silent)).len(), 1, "and nothing else");
}

#[test]
fn sheets_of_one_and_seven_cards_show_each_card_whole_and_in_order() {
    for count in [1usize, 7] {
        // Cards of different sizes, each of its own colour.
        let cards: Vec<RgbImage> = (0..count)
            .map(|i| RgbImage::from_pixel(90 + 5 * i as u32, 60 + i as u32, Rgb([1, 2, 100 + i as u8])))
            .collect();
        let sheet = contact_sheet(&header(), &cards, 3).expect("sheet");
        let colours = colours_in(&sheet);
        let mut last = (0, 0);
        for (i, card) in cards.iter().enumerate() {
            let colour = card.get_pixel(0, 0);
            assert_eq!(colours.get(&colour.0), Some(&((card.width() * card.height()) as usize)), "card {i} of {count}");
            let (x, y, _) = sheet.enumerate_pixels().find(|(_, _, p)| *p == colour).expect("the card's corner");
            assert!(i == 0 || (y, x) > last, "card {i} comes after card {}", i.saturating_sub(1));
            assert_eq!(i % 3 == 0, i == 0 || y > last.0, "three cards in a row");
            last = (y, x);
        }
    }
}

#[test]
fn a_sheet_too_large_for_a_picture_is_an_error() {
    let cards = vec![RgbImage::new(40_000, 1), RgbImage::new(1, 40_000)];
    let error = contact_sheet(&header(), &cards, 1).expect_err("too large");
    assert!(error.to_string().contains("show fewer photos"), "{error}");
}

fn prediction(id: &str, truth: usize, predicted: usize, probability: f32) -> Prediction {
    Prediction { id: id.into(), truth, predicted, probability }
}

fn ids<'a>(rows: &[&'a Prediction]) -> Vec<&'a str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

#[test]
fn right_photos_are_spread_over_classes_and_mix_best_and_typical() {
    let mut rows: Vec<_> = (0..9).map(|i| prediction(&format!("a{i}"), 0, 0, 0.9 - 0.05 * i as f32)).collect();
    rows.extend((0..9).map(|i| prediction(&format!("b{i}"), 1, 1, 0.99 - 0.01 * i as f32)));
    rows.push(prediction("c0", 2, 2, 0.4));
    rows.push(prediction("wrong", 2, 1, 1.0));
    // Two each, the median of the others being the typical one; class 2 has only one, so another class has more.
    assert_eq!(ids(&right_predictions(&rows, 5)), ["a0", "a5", "b0", "b5", "c0"]);
    assert_eq!(ids(&right_predictions(&rows, 3)), ["a0", "b0", "c0"]);
    assert_eq!(ids(&right_predictions(&rows, 9)), ["a0", "a1", "a3", "a7", "b0", "b1", "b3", "b7", "c0"]);
    assert_eq!(right_predictions(&rows, 100).len(), 19);
    assert!(right_predictions(&rows, 0).is_empty() && right_predictions(&[], 4).is_empty());
}

#[test]
fn fewer_photos_than_classes_do_not_always_come_from_the_first_classes() {
    let rows: Vec<_> = (0..10).map(|class| prediction(&format!("p{class}"), class, class, 0.5)).collect();
    assert_eq!(ids(&right_predictions(&rows, 3)), ["p0", "p3", "p6"]);
}

#[test]
fn wrong_photos_are_the_most_confident_mistakes() {
    let rows = [
        prediction("low", 0, 1, 0.4),
        prediction("right", 1, 1, 0.99),
        prediction("tie_b", 2, 0, 0.8),
        prediction("tie_a", 1, 0, 0.8),
        prediction("broken", 1, 0, f32::NAN),
        prediction("top", 2, 1, 0.97),
    ];
    assert_eq!(ids(&wrong_predictions(&rows, 4)), ["top", "tie_a", "tie_b", "low"]);
    assert_eq!(ids(&wrong_predictions(&rows, 99)), ["top", "tie_a", "tie_b", "low", "broken"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_the_rows(
        (rows, shuffled) in prop::collection::vec((0usize..4, 0usize..4, 0u8..20), 0..40)
            .prop_map(|raw| raw.iter().enumerate()
                .map(|(i, &(truth, predicted, p))| prediction(&format!("{i:02}"), truth, predicted, f32::from(p) / 20.0))
                .collect::<Vec<_>>())
            .prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        count in 0usize..50,
    ) {
        let right = right_predictions(&rows, count);
        prop_assert_eq!(ids(&right), ids(&right_predictions(&shuffled, count)));
        prop_assert_eq!(ids(&wrong_predictions(&rows, count)), ids(&wrong_predictions(&shuffled, count)));
        let available = rows.iter().filter(|row| row.is_right()).count();
        prop_assert_eq!(right.len(), count.min(available), "as many as there are");
        let mut unique = ids(&right);
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), right.len(), "none twice");
    }
}

#[test]
fn a_placed_map_is_hottest_where_the_receptive_field_is_centred() {
    let graph = ft::models::Architecture::find("resnet50v2").expect("model").backbone((160, 160)).expect("graph");
    let (rows, columns) = graph.centres(graph.find("post_relu").expect("layer"));
    // Five strides of 2, each with its first window centred on the first pixel.
    assert_eq!((rows.start, rows.step, columns), (0.0, 32.0, rows));
    let vgg = ft::models::Architecture::find("vgg16").expect("model").backbone((160, 160)).expect("graph");
    let (rows, _) = vgg.centres(vgg.find("block5_conv3").expect("layer"));
    // Four 2 x 2 pools: half-pixel centres.
    assert_eq!((rows.start, rows.step), (7.5, 16.0));

    let mut raw = vec![0.0; 25];
    raw[2 * 5 + 1] = 1.0;
    let map = HeatMap { raw, height: 5, width: 5 };
    let placement = Placement { rows: columns, columns, size: 160 };
    let placed = map.finalize_placed(160, 160, &placement);
    let hottest = placed.values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("values").0;
    assert_eq!((hottest % 160, hottest / 160), (32, 64));
    let even = Placement {
        rows: Centres { start: 15.5, step: 32.0 },
        columns: Centres { start: 15.5, step: 32.0 },
        size: 160,
    };
    assert_eq!(map.finalize_placed(160, 160, &even), map.finalize(160, 160));
}
