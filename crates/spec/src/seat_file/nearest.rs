//! The known word nearest to a mistyped one.
//!
//! Not here: what the words mean. Called by [`super::shape`].

/// The longest word that is compared: the cost grows with the product of both lengths.
const MAX_WORD: usize = 64;

/// From this many letters on, the beginning of a word stands for it.
const SHORTEST_BEGINNING: usize = 3;

/// Finds the known word that differs least from `word`, when it differs so little that it can be meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = fold(word);
    if folded.is_empty() || folded.len() > MAX_WORD {
        return None;
    }
    let scored = known.into_iter().map(|candidate| {
        let other = fold(candidate);
        let begins = folded.len() >= SHORTEST_BEGINNING && other.starts_with(&folded);
        let distance = if begins { 0 } else { distance(&folded, &other) };
        (distance, candidate)
    });
    let (distance, best) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + folded.len() / 4).then_some(best)
}

/// Case and the choice between `-`, `_` and a space are never what was meant to differ.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .take(MAX_WORD + 1)
        .map(|character| match character {
            '_' | ' ' => '-',
            _ => character.to_ascii_lowercase(),
        })
        .collect()
}

/// Counts the insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let width = to.len() + 1;
    let mut before_last: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (row, left) in from.iter().enumerate() {
        let mut next = vec![row + 1; width];
        for (column, right) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(left != right);
            next[column + 1] = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && from[row - 1] == *right && *left == to[column - 1];
            if swapped {
                next[column + 1] = next[column + 1].min(before_last[column - 1] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_word() {
        let known = ["address", "path", "class", "vendor", "connector", "monitor", "read-only"];
        for (word, expected) in [
            ("adress", Some("address")),
            ("Adderss", Some("address")),
            ("moniter", Some("monitor")),
            ("pahT", Some("path")),
            ("read_only", Some("read-only")),
            ("conn", Some("connector")),
            ("gpu", None),
            ("zzzzzzzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word:?}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }
}
