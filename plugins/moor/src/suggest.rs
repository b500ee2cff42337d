//! "Did you mean": the nearest known word.

use strsim::damerau_levenshtein;

/// The known word that is at most two edits away, and no more than a third of the word.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = 2.min(word.chars().count() / 3);
    let is_near = |known: &&str| known.len().abs_diff(word.len()) <= 2 * limit;
    known
        .into_iter()
        .filter(is_near)
        .map(|known| (damerau_levenshtein(word, known), known))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_corrected_and_another_word_is_not() {
        assert_eq!(nearest("isDefaultGatway", ["isGateway", "isDefaultGateway"]), Some("isDefaultGateway"));
        assert_eq!(nearest("fornt", ["back", "front"]), Some("front"));
        assert_eq!(nearest("fonrtt", ["back", "front"]), None);
        assert_eq!(nearest("fronnt", ["back", "front"]), Some("front"));
        assert_eq!(nearest("ab", ["ac"]), None);
    }
}
