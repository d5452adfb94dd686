//! Numbers in messages.

/// So many of something: `1 input`, `2 inputs`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}
