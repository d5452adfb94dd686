//! Changes to bytes and to text that know a little of what they change.

use crate::random::Random;

/// Puts what a mutation made into libFuzzer's buffer; none if it made nothing, or too much.
pub fn put(data: &mut [u8], made: Option<Vec<u8>>, max_size: usize) -> Option<usize> {
    let made = made.filter(|made| made.len() <= max_size.min(data.len()))?;
    data[..made.len()].copy_from_slice(&made);
    Some(made.len())
}

/// Changes one aligned word among `bytes`: another value, one more or less, or a word from elsewhere among them. Counts, offsets and tags of the
/// binary formats are such words.
pub fn word(bytes: &mut [u8], random: &mut Random) {
    let width = [1, 2, 4, 4, 8][random.below(5)];
    let words = bytes.len() / width;
    if words == 0 {
        return;
    }
    let at = random.below(words) * width;
    let from = random.below(words) * width;
    let mut full = [0; 8];
    full[..width].copy_from_slice(&bytes[at..at + width]);
    let old = i64::from_le_bytes(full);
    let new = match random.below(4) {
        0 => random.odd(),
        1 => old.wrapping_add(random.below(9) as i64 - 4),
        2 => old ^ (1 << random.below(width * 8)),
        _ => {
            full[..width].copy_from_slice(&bytes[from..from + width]);
            i64::from_le_bytes(full)
        }
    };
    bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
}

/// The words of a text: runs of letters and digits, strings in quotes, and single other characters, with what lies between.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
        let end = if first == '"' {
            rest[1..].find('"').map_or(rest.len(), |end| end + 2)
        } else if plain(first) {
            rest.find(|c| !plain(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, more) = rest.split_at(end);
        tokens.push(token);
        rest = more;
    }
    tokens
}

/// Changes a few words of a text: another word of the same text, one of `others`, a number, a word twice or not at all, a line twice, moved or not at all.
pub fn text(source: &str, others: &[&str], random: &mut Random) -> String {
    if random.one_in(4) {
        let mut lines: Vec<&str> = source.lines().collect();
        if lines.is_empty() {
            return String::new();
        }
        let (at, to) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(3) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(to, lines[at]),
            _ => lines.swap(at, to),
        }
        return lines.join("\n") + "\n";
    }
    let mut words: Vec<String> = tokens(source).into_iter().map(str::to_owned).collect();
    for _ in 0..=random.below(3) {
        if words.is_empty() {
            break;
        }
        let at = random.below(words.len());
        match random.below(6) {
            0 => words[at] = random.pick(others).copied().unwrap_or_default().to_owned(),
            1 => words[at] = random.odd().to_string(),
            2 => drop(words.remove(at)),
            3 => words.insert(at, words[at].clone()),
            _ => words[at] = words[random.below(words.len())].clone(),
        }
    }
    words.concat()
}
