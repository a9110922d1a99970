//! The nearest known word to a misspelt one.

/// The candidate with the fewest edits from `word`, when it is near enough to be what was
/// meant: at most a third of its letters, and at least one edit allowed.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(MAX_WORD).collect();
    let b: Vec<char> = b.chars().take(MAX_WORD).collect();
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(above[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// Longer words are compared by their beginning, so that a hostile key costs nothing.
const MAX_WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_what_was_meant() {
        let keys = ["max_bytes", "overflow", "retain", "topics"];
        for (typed, meant) in [
            ("max_byte", Some("max_bytes")),
            ("max-bytes", Some("max_bytes")),
            ("MaxBytes", Some("max_bytes")),
            ("overflw", Some("overflow")),
            ("ratein", Some("retain")),
            ("tpoics", Some("topics")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn the_first_of_two_equally_near_words_wins() {
        assert_eq!(nearest("ab", ["ac", "ad"]), Some("ac"));
    }

    #[test]
    fn a_very_long_word_is_compared_by_its_beginning() {
        assert_eq!(nearest(&"x".repeat(1 << 20), ["retain"]), None);
    }
}
