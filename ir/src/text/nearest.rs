//! Suggestions for misspelt names.

/// The candidate that a misspelt `word` most likely means: the one that the fewest edits lead to, if that is few for its length; the first of equals.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = word.chars().count() / 3 + 1;
    candidates
        .into_iter()
        .map(|c| (edits(word, c), c))
        .filter(|(n, _)| *n <= most)
        .min_by_key(|(n, _)| *n)
        .map(|(_, c)| c)
}

/// How many characters must be put in, taken out or replaced to make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_of_near_ones() {
        let names = ["mul", "matmul", "maximum"];
        assert_eq!(nearest("mull", names), Some("mul"));
        assert_eq!(nearest("mattmul", names), Some("matmul"));
        assert_eq!(nearest("rope", names), None);
        assert_eq!(nearest("", names), None);
    }
}
