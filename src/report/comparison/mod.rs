//! Several runs beside each other: what differs in recipe and data, and whether one is better on the same photos.
//!
//! [`pairs`] and [`keys`] serve the report page too; [`compare`] and [`groups`] are what `ft runs compare` prints.

pub mod compare;
pub mod groups;
pub mod keys;
pub mod pairs;
pub mod record;
pub mod words;

/// `A` to `Z`, then `AA`: what a run is called in tables and sentences.
pub fn label(index: usize) -> String {
    let letter = char::from(b'A' + (index % 26) as u8);
    match index / 26 {
        0 => letter.to_string(),
        before => format!("{}{letter}", label(before - 1)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn labels_go_on_behind_z() {
        assert_eq!([0, 25, 26, 51, 52, 701, 702].map(super::label), ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }
}
