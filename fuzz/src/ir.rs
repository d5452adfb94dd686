//! The text form of graphs.

use crate::edit;
use crate::random::Random;

/// Words that the grammar knows, and numbers that are none.
const WORDS: &[&str] = &[
    "symbol",
    "data",
    "state",
    "next",
    "output",
    "input",
    "constant",
    "in",
    "inf",
    "nan",
    "-inf",
    "..=",
    "f32[s0, 2]",
    "f16",
    "bf16",
    "i64",
    "bool",
    "%0",
    "%1",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "s0*s0",
    "s0//2",
    "s0%3",
    "max(s0, 2)",
    "neg",
    "add",
    "matmul",
    "reshape",
    "cat",
    "slice",
    "gather",
    "sdpa",
    "softmax",
    "true",
    "1e400",
    "-0.0",
    "\"x\"",
    "\"\\\"\"",
];

/// A changed text; none where the bytes are no text.
pub fn edited(source: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let source = std::str::from_utf8(source)
        .ok()
        .filter(|source| !source.is_empty())?;
    (!random.one_in(8)).then(|| edit::text(source, WORDS, random).into_bytes())
}
