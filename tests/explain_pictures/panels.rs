//! Panels of many maps, channels of layers, scales that maps share.

use std::collections::BTreeSet;

use ft::data::preprocess::Region;
use ft::draw::canvas::palette;
use ft::draw::colour::{ColourMap, blend};
use ft::draw::sheet::{SheetHeader, contact_sheet, labelled_sheet};
use ft::explain::caption::{Caption, bar_number};
use ft::explain::faithfulness::card::{HeatStyle, method_tile};
use ft::explain::faithfulness::{Measure, Score, Values};
use ft::explain::features::channel_tile;
use ft::explain::files::write_npy_stack;
use ft::explain::overlay::{CardStyle, card, overlay_to};
use ft::explain::panel::{Lead, PanelStyle, Row, Tile, panel, panel_beside, wrapped};
use ft::explain::scale::own_top;
use ft::explain::{HeatMap, Placement};
use ft::models::Centres;
use image::{Rgb, RgbImage};
use proptest::prelude::*;

use super::{BLACK, WHITE, colours_in, explained, header, hot_cell};

const STYLE: PanelStyle = PanelStyle { tile: (120, 80), text: 14.0, colours: ColourMap::Turbo };

fn placement(size: usize, cells: usize) -> Placement {
    let step = size as f64 / cells as f64;
    let centres = Centres { start: (step - 1.0) / 2.0, step };
    Placement { rows: centres, columns: centres, size }
}

fn caption(prediction: Option<(&'static str, f32)>) -> Caption<'static> {
    Caption { name: "daisy/1.jpg", prediction, truth: Some("daisy") }
}

/// Tiles of a colour each, which nothing else has.
fn tiles(count: u8) -> Vec<Tile> {
    let tile = |i| Tile::new(RgbImage::from_pixel(100, 70, Rgb([3, i, 77])), format!("tile {i}"));
    (0..count).map(tile).collect()
}

#[test]
fn a_map_on_a_shared_scale_reaches_its_share_of_the_colours() {
    let map = hot_cell(4, 1, 2);
    // 9 pixels a cell, so that a pixel lies on each centre.
    let placement = placement(36, 4);
    let hottest = |top: f32| map.scaled_by(top, 36, 36, Some(&placement)).values.iter().copied().fold(0.0, f32::max);
    // The hot cell has the raw value 2.
    for (top, expected) in [(2.0, 1.0), (8.0, 0.25), (1.0, 1.0), (0.0, 0.0), (-3.0, 0.0), (f32::NAN, 0.0)] {
        assert!((hottest(top) - expected).abs() < 1e-6, "top {top}: {}, expected {expected}", hottest(top));
    }
    // Between whole cells there is no interpolation: each value is its share.
    let ramp = HeatMap { raw: (0..16).map(|v| v as f32 - 3.0).collect(), height: 4, width: 4 };
    let scaled = ramp.scaled_by(24.0, 4, 4, None);
    for (value, raw) in scaled.values.iter().zip(&ramp.raw) {
        assert!((value - raw.max(0.0) / 24.0).abs() < 1e-6, "{value} for {raw}");
    }
}

#[test]
fn heat_on_a_shared_scale_lies_where_it_lies_on_its_own() {
    let photo = RgbImage::from_pixel(64, 48, BLACK);
    let map = hot_cell(8, 5, 2);
    let seen = explained(&photo, Region::whole((64, 48)), &map);
    let hottest = |top: Option<f32>| {
        let drawn = overlay_to(&seen, (640, 480), ColourMap::Viridis, 1.0, top).expect("overlay");
        // Green rises all along viridis.
        drawn.enumerate_pixels().max_by_key(|(_, _, p)| p.0[1]).map(|(x, y, _)| (x / 80, y / 60)).expect("a pixel")
    };
    assert_eq!(hottest(None), (5, 2));
    assert_eq!(hottest(Some(5.0)), (5, 2));
}

#[test]
fn the_top_of_a_pixel_map_leaves_out_what_towers_above_the_rest() {
    let pixels = placement(100, 100);
    // 10,000 pixels: 20 of 1000, the others from 0 to 1.
    let raw: Vec<f32> = (0..10_000).map(|i| if i % 500 == 0 { 1000.0 } else { i as f32 / 10_000.0 }).collect();
    let map = HeatMap { raw, height: 100, width: 100 };
    let top = own_top(&map, &pixels);
    assert!((0.99..=1.0).contains(&top), "{top}");
    assert_eq!(own_top(&map, &placement(200, 100)), 1000.0, "a map of cells keeps its largest value");
    let mut sparse = vec![0.0; 10_000];
    sparse[77] = 3.0;
    let sparse = HeatMap { raw: sparse, height: 100, width: 100 };
    assert_eq!(own_top(&sparse, &pixels), 3.0, "the only value there is");
    let silent = HeatMap { raw: vec![-1.0; 16], height: 4, width: 4 };
    assert_eq!((own_top(&silent, &placement(8, 4)), own_top(&silent, &placement(4, 4))), (0.0, 0.0));
}

#[test]
fn cards_of_one_map_show_it_alone_and_on_a_given_scale_if_asked() {
    let photo = RgbImage::from_pixel(400, 400, WHITE);
    let map = HeatMap { raw: vec![2.0; 4], height: 2, width: 2 };
    let seen = explained(&photo, Region::whole((400, 400)), &map);
    let style = CardStyle { alpha: 0.5, ..CardStyle::single_for((400, 400), CardStyle::SCREEN) };
    let (both, only) = (card(&seen, &style), card(&seen, &CardStyle { overlay_only: true, top: Some(4.0), ..style }));
    let (both, only) = (both.expect("card"), only.expect("card"));
    assert!(only.width() + 350 < both.width(), "{} and {}", only.width(), both.width());
    let half = blend(WHITE, ColourMap::Jet.colour(0.5), 0.5);
    assert!(
        colours_in(&only).get(&half.0).is_some_and(|&n| n >= 400 * 400),
        "half of the scale, the photo at its size"
    );
    assert!(!colours_in(&both).contains_key(&half.0), "a map of its own scale does not have that colour");
    assert!(both.width() > 800 && CardStyle::single_for((9000, 60), CardStyle::SCREEN).photo_box == (960, 960));
    assert_eq!(CardStyle::single_for((32, 32), CardStyle::SCREEN).photo_box, (384, 384));
}

#[test]
fn a_panel_shows_each_tile_whole_and_in_order() {
    let mut rows = wrapped(tiles(5), 3);
    assert_eq!(rows.iter().map(|row| row.tiles.len()).collect::<Vec<_>>(), [3, 2]);
    rows[0].label = "a line above".into();
    let drawn = panel(&rows, &caption(Some(("daisy", 0.9))), Some("details"), &STYLE).expect("panel");
    let counts = colours_in(&drawn);
    let mut corners = Vec::new();
    for i in 0..5 {
        assert_eq!(counts.get(&[3, i, 77]), Some(&7000), "tile {i}");
        let (x, y, _) = drawn.enumerate_pixels().find(|(_, _, p)| p.0 == [3, i, 77]).expect("a corner");
        corners.push((y, x));
    }
    assert!(corners.is_sorted(), "{corners:?}");
    assert_eq!((corners[0].0, corners[0].1), (corners[2].0, corners[3].1), "a grid");
    assert!(corners[3].0 > corners[0].0 && corners[1].1 >= corners[0].1 + 120, "{corners:?}");
    // The prediction is right, and green; without one there is neither green nor vermilion.
    let silent = panel(&rows, &caption(None), Some("details"), &STYLE).expect("panel");
    assert!(counts.contains_key(&[11, 117, 84]) && !colours_in(&silent).contains_key(&[11, 117, 84]));
    assert!(silent.height() < drawn.height());
}

#[test]
fn bars_of_tiles_and_rows_run_through_all_colours() {
    let all: BTreeSet<[u8; 3]> = (0..256).map(|v| STYLE.colours.colour(v as f32 / 255.0).0).collect();
    let seen = |drawn: &RgbImage| colours_in(drawn).keys().filter(|colour| all.contains(*colour)).count();
    let plain = wrapped(tiles(2), 2);
    assert_eq!(seen(&panel(&plain, &caption(None), None, &STYLE).expect("panel")), 0);
    let mut with_bar = plain.clone();
    with_bar[0].tiles[1].bar = Some((0.0, 3.5));
    let barred = panel(&with_bar, &caption(None), None, &STYLE).expect("panel");
    assert!(seen(&barred) > 100, "{} colours", seen(&barred));
    let row_bar = vec![Row { label: "conv1".into(), bar: Some((-1.0, 2.0)), tiles: tiles(2), ..Row::default() }];
    let drawn = panel(&row_bar, &caption(None), None, &STYLE).expect("panel");
    assert!(seen(&drawn) > 60, "{} colours", seen(&drawn));
}

#[test]
fn a_panel_beside_a_photo_holds_both_and_the_caption() {
    let photo = RgbImage::from_pixel(200, 300, Rgb([9, 8, 7]));
    let lead = Lead { picture: &photo, width: 240 };
    let drawn = panel_beside(&lead, &wrapped(tiles(3), 3), &caption(Some(("rose", 0.5))), &STYLE).expect("panel");
    let counts = colours_in(&drawn);
    assert_eq!(counts.get(&[9, 8, 7]), Some(&60_000));
    assert!((0..3).all(|i| counts.get(&[3, i, 77]) == Some(&7000)));
    let first_tile = drawn.enumerate_pixels().find(|(_, _, p)| p.0 == [3, 0, 77]).expect("a tile").0;
    assert!(first_tile > 240 && drawn.height() > 320, "{first_tile}, {:?}", drawn.dimensions());
    assert!(counts.contains_key(&[196, 62, 0]), "a wrong prediction");
}

#[test]
fn channels_are_drawn_cell_by_cell_on_the_given_range() {
    let map = HeatMap { raw: vec![-1.0, 0.0, 1.0, 3.0, 0.5, -0.5], height: 2, width: 3 };
    let tile = channel_tile(&map, 90, (-1.0, 3.0), ColourMap::Viridis);
    assert_eq!(tile.dimensions(), (90, 60));
    for (index, value) in map.raw.iter().enumerate() {
        let (x, y) = ((index % 3) as u32 * 30, (index / 3) as u32 * 30);
        let expected = ColourMap::Viridis.colour((value + 1.0) / 4.0);
        for (dx, dy) in [(0, 0), (29, 0), (15, 15), (0, 29), (29, 29)] {
            assert_eq!(*tile.get_pixel(x + dx, y + dy), expected, "cell {index}, {dx}, {dy}");
        }
    }
    let flat = channel_tile(&HeatMap { raw: vec![2.0; 9], height: 3, width: 3 }, 8, (2.0, 2.0), ColourMap::Jet);
    assert_eq!(colours_in(&flat).len(), 1, "a constant channel has one colour");
    let large = HeatMap { raw: vec![0.0; 500 * 500], height: 500, width: 500 };
    assert_eq!(channel_tile(&large, 64, (0.0, 1.0), ColourMap::Jet).dimensions(), (64, 64));
}

#[test]
fn several_maps_are_one_array_if_they_have_one_size() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("maps.npy");
    let (a, b) = (hot_cell(3, 0, 0), hot_cell(3, 2, 1));
    write_npy_stack(&path, &[&a, &b]).expect("written");
    let bytes = std::fs::read(&path).expect("read");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).expect("text");
    assert!(header.contains("'shape': (2, 3, 3), ") && start % 64 == 0, "{header}");
    let values: Vec<f32> =
        bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!(values, [a.raw.clone(), b.raw].concat());
    assert!(write_npy_stack(&path, &[]).is_err() && write_npy_stack(&path, &[&a, &hot_cell(2, 0, 0)]).is_err());
}

#[test]
fn the_ends_of_a_sheets_colour_bar_are_named() {
    let cards = [RgbImage::from_pixel(300, 200, BLACK)];
    let usual = contact_sheet(&header(), &cards, 3).expect("sheet");
    let named = labelled_sheet(&header(), ("0", "0.034"), &cards, 3).expect("sheet");
    assert_eq!(usual.dimensions(), named.dimensions());
    let differs: Vec<(u32, u32)> = usual
        .enumerate_pixels()
        .filter(|(x, y, pixel)| named.get_pixel(*x, *y) != *pixel)
        .map(|(x, y, _)| (x, y))
        .collect();
    assert!(!differs.is_empty());
    assert!(differs.iter().all(|&(x, y)| x > usual.width() / 2 && y < 80), "only what stands below the bar");
}

/// Columns of a strip of a picture in which something is drawn.
fn inked_columns(picture: &RgbImage, rows: std::ops::Range<u32>) -> Vec<bool> {
    let ground = *picture.get_pixel(0, 0);
    (0..picture.width()).map(|x| rows.clone().any(|y| *picture.get_pixel(x, y) != ground)).collect()
}

#[test]
fn long_ends_of_a_colour_bar_stand_apart_and_a_long_title_is_written_smaller() {
    let cards = [RgbImage::from_pixel(300, 200, BLACK)];
    let ends = ("lowest", "highest of all photos");
    let bare = SheetHeader { title: String::new(), lines: vec![], ..header() };
    let sheet = labelled_sheet(&bare, ends, &cards, 3).expect("sheet");
    // The labels stand below the bar, which lies at 32 to 42.
    let inked = inked_columns(&sheet, 44..64);
    let (first, last) = (inked.iter().position(|&x| x).unwrap(), inked.iter().rposition(|&x| x).unwrap());
    let widest_gap = inked[first..last].split(|&x| x).map(<[bool]>::len).max().unwrap();
    assert!(widest_gap >= 10, "the labels run into each other: {widest_gap} pixels apart");

    let long = SheetHeader { title: "20261125-202143-resnet50v2-unfreeze-conv4-db52: wrong".into(), ..bare.clone() };
    let cut = SheetHeader { title: format!("{}!", long.title), ..bare };
    let drawn = |header: &SheetHeader| contact_sheet(header, &cards, 3).expect("sheet");
    assert_ne!(drawn(&long), drawn(&cut), "the last letter is seen");
}

#[test]
fn a_tile_of_the_faithfulness_study_says_how_alike_the_map_stays_and_marks_its_method() {
    let photo = RgbImage::from_pixel(64, 48, BLACK);
    let map = hot_cell(8, 5, 2);
    let seen = explained(&photo, Region::whole((64, 48)), &map);
    let tile = |new_head: f64, is_marked: bool| {
        let mut values = Values::default();
        values.set(Measure::HeadRandomised, new_head);
        let score = Score { deletion: vec![1.0, 0.0], insertion: vec![0.0, 1.0], values };
        let style = HeatStyle { colours: ColourMap::Jet, alpha: 0.4 };
        method_tile(&seen, &score, &style, is_marked).expect("tile")
    };
    let wrong = |tile: &RgbImage| tile.pixels().filter(|&&pixel| pixel == palette::WRONG).count();
    let usual = tile(0.2, false);
    assert_ne!(tile(0.3, false), usual, "the number is on the tile");
    assert!(wrong(&tile(0.95, false)) > wrong(&usual), "a map that stays alike stands out");
    let marked = tile(0.2, true);
    assert!(wrong(&marked) > wrong(&usual), "a mark");
    let differs = |(x, y, pixel): (u32, u32, &Rgb<u8>)| (*pixel != *usual.get_pixel(x, y)).then_some(y);
    assert!(marked.enumerate_pixels().filter_map(differs).all(|y| y < 38), "beside the name");
}

#[test]
fn raw_values_are_written_with_three_digits() {
    for (value, text) in [
        (0.0, "0"),
        (0.1234, "0.123"),
        (12.345, "12.3"),
        (1234.6, "1235"),
        (-0.5, "−0.500"),
        (0.0123, "0.0123"),
        (1.5e-5, "1.5e−5"),
        (2.5e7, "2.5e7"),
    ] {
        assert_eq!(bar_number(value), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tiles_are_wrapped_evenly_and_none_is_lost(count in 0u8..40, columns in 0usize..12) {
        let rows = wrapped(tiles(count), columns);
        let lengths: Vec<usize> = rows.iter().map(|row| row.tiles.len()).collect();
        prop_assert_eq!(lengths.iter().sum::<usize>(), usize::from(count));
        prop_assert!(lengths.iter().all(|&n| (1..=columns.max(1)).contains(&n)), "{:?}", lengths);
        prop_assert_eq!(lengths.len(), usize::from(count).div_ceil(columns.max(1)), "no more rows than needed");
        let headings: Vec<String> = rows.iter().flat_map(|r| &r.tiles).map(|t| t.heading.clone()).collect();
        let expected: Vec<String> = (0..count).map(|i| format!("tile {i}")).collect();
        prop_assert_eq!(headings, expected);
    }

    #[test]
    fn a_shared_scale_keeps_the_order_of_maps(factor in 0.01f32..1.0, raw in prop::collection::vec(-1.0f32..1.0, 16)) {
        let strong = HeatMap { raw: raw.clone(), height: 4, width: 4 };
        let weak = HeatMap { raw: raw.iter().map(|v| v * factor).collect(), height: 4, width: 4 };
        let (strong, weak) = (strong.scaled_by(1.0, 9, 7, None), weak.scaled_by(1.0, 9, 7, None));
        for (a, b) in strong.values.iter().zip(&weak.values) {
            prop_assert!(*b <= *a + 1e-6 && (b - a * factor).abs() < 1e-5, "{b} of {a}, factor {factor}");
            prop_assert!((0.0..=1.0).contains(a));
        }
    }
}
