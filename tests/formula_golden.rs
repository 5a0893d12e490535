//! The formula tensors that the other golden tests compute are those of the fixtures, bit for bit.

mod common;

use common::{fnv1a64, formula_labels, formula_seeded, golden_json, golden_tensors, raw, splitmix64, values};
use serde_json::Value;

/// Hexadecimal digits, or a number.
fn number(value: &Value) -> u64 {
    match value.as_str() {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => value.as_u64().unwrap(),
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_else(|| panic!("{row} has no text {key}"))
}

/// The values that a row of the list describes.
fn described(row: &Value) -> Vec<f32> {
    let count: u64 = list(row, "shape").iter().map(number).product();
    let fan_in = row["fan_in"].as_u64().unwrap_or(1) as usize;
    let gain = row["gain"].as_f64().unwrap();
    formula_seeded(text(row, "name"), count as usize, text(row, "kind"), fan_in, gain, number(&row["seed"]))
}

fn list<'a>(json: &'a Value, name: &str) -> &'a Vec<Value> {
    json[name].as_array().unwrap_or_else(|| panic!("vectors.json has no list {name}"))
}

#[test]
fn hashes_and_random_streams_equal_the_vectors() {
    let json = golden_json("formula/vectors.json");
    for row in list(&json, "fnv1a64") {
        assert_eq!(fnv1a64(text(row, "text")), number(&row["fnv1a64"]), "{row}");
    }
    for row in list(&json, "splitmix64") {
        assert_eq!(splitmix64(number(&row["in"])), number(&row["out"]), "{row}");
    }
    for row in list(&json, "raw_u64") {
        let seed = row["seed"].as_u64().unwrap();
        assert_eq!(raw(text(row, "name"), row["index"].as_u64().unwrap(), seed), number(&row["u64"]), "{row}");
    }
    for row in list(&json, "labels") {
        let (name, classes) = (row["name"].as_str().unwrap(), row["classes"].as_u64().unwrap());
        let expected: Vec<u64> = list(row, "values").iter().map(number).collect();
        let seed = row["seed"].as_u64().unwrap_or(0);
        let ours: Vec<u64> = formula_labels(name, expected.len(), classes, seed).into_iter().map(u64::from).collect();
        assert_eq!(ours, expected, "{name}");
    }
}

#[test]
fn formula_tensors_equal_the_vectors_bit_for_bit() {
    let json = golden_json("formula/vectors.json");
    let tensors = golden_tensors("formula/vectors.safetensors");
    for row in list(&json, "tensors") {
        let ours = described(row);
        let expected: Vec<f32> = values(tensors.get(text(row, "key"))).iter().map(|&v| v as f32).collect();
        assert_eq!(ours, expected, "{row}");
        let bits: Vec<u64> = list(row, "bits_of_first").iter().map(number).collect();
        let ours: Vec<u64> = ours.iter().take(bits.len()).map(|v| u64::from(v.to_bits())).collect();
        assert_eq!(ours, bits, "{row}");
    }
    for row in list(&json, "checksums") {
        let sum = described(row).iter().fold(0u64, |sum, v| sum.wrapping_add(u64::from(v.to_bits())));
        assert_eq!(sum, number(&row["wrapping_u64_sum_of_f32_bits"]), "{row}");
    }
}
