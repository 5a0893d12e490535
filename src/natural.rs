//! Names in the order in which people put them: 2 before 10. For what people read; indices and files keep the order of the classes.

use std::cmp::Ordering;

/// Which of two names comes first. Numbers in them are compared as numbers.
pub fn compare(a: &str, b: &str) -> Ordering {
    alphanumeric_sort::compare_str(a, b).then_with(|| a.cmp(b))
}

/// The indices of names in their natural order.
pub fn order<T: AsRef<str>>(names: &[T]) -> Vec<usize> {
    let mut named: Vec<(usize, &str)> = names.iter().map(AsRef::as_ref).enumerate().collect();
    named.sort_by(|(_, a), (_, b)| compare(a, b));
    named.into_iter().map(|(index, _)| index).collect()
}

/// Names in their natural order, with commas between them.
pub fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<T> = names.into_iter().collect();
    let mut names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.sort_by(|a, b| compare(a, b));
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn numbers_in_names_are_compared_as_numbers() {
        assert_eq!(list(["10", "9", "1", "2"]), "1, 2, 9, 10");
        assert_eq!(list(["class 10", "class 9", "Class 1", "b"]), "Class 1, b, class 9, class 10");
        assert_eq!(list(["a2b10", "a2b9", "a10b1", "a02b1"]), "a02b1, a2b9, a2b10, a10b1");
        assert_eq!(order(&["dog", "cat", "ant"]), [2, 1, 0]);
        // More digits than any number type holds.
        let long = "9".repeat(60);
        assert_eq!(list([format!("1{long}"), long.clone()]), format!("{long}, 1{long}"));
    }

    /// What no order is would end a sort with a panic.
    #[test]
    fn it_is_an_order_of_whatever_names() {
        let letters = ['0', '1', '9', 'a', '-', 'ü', '中', ' '];
        let name = |seed: u64| -> String {
            let bits = mix(seed, 9);
            (0..bits % 5).filter_map(|i| letters.get((bits >> (8 + 3 * i)) as usize % letters.len())).collect()
        };
        let names: Vec<String> = (0..400).map(name).collect();
        for (a, b) in names.iter().zip(names.iter().skip(1)) {
            assert_eq!(compare(a, b), compare(b, a).reverse(), "{a:?} {b:?}");
            for c in &names {
                let chained = compare(a, b).is_le() && compare(b, c).is_le();
                assert!(!chained || compare(a, c).is_le(), "{a:?} {b:?} {c:?}");
            }
        }
    }
}
