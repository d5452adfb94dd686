//! What a file is by its bytes, so that one that is taken for another can be named.

use std::fmt;

use crate::container::{Ptd, Pte};

/// Kinds of files that have to do with compiling and running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// No bytes at all.
    Empty,
    /// A zip: `.pt2`, if it is one of ours.
    Archive,
    /// A compiled program, `.pte`.
    Program,
    /// A program of ExecuTorch with test cases around it, `.bpte`.
    BundledProgram,
    /// Weights of a program, `.ptd`.
    ExternalData,
    /// Tensors by name.
    Safetensors,
    /// Graphs in the text form, `.ir`.
    Graphs,
    /// A JSON object.
    Json,
    /// Other text.
    Text,
}

/// How much of a file is looked at to tell text from other bytes.
const LOOKED_AT: usize = 4096;

impl Kind {
    /// What these bytes are, if that can be told from how they begin. Whether they are whole and right is another matter.
    #[must_use]
    pub fn of(file: &[u8]) -> Option<Self> {
        if file.is_empty() {
            Some(Self::Empty)
        } else if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
            Some(Self::Archive)
        } else if Pte::is_one(file) {
            Some(Self::Program)
        } else if Ptd::is_one(file) {
            Some(Self::ExternalData)
        } else if file.get(4..8) == Some(b"BP08") {
            Some(Self::BundledProgram)
        } else if is_safetensors(file) {
            Some(Self::Safetensors)
        } else {
            text(file)
        }
    }
}

/// A length of 64 bits, and then JSON of that length.
fn is_safetensors(file: &[u8]) -> bool {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return false;
    };
    u64::from_le_bytes(*length) <= rest.len() as u64 && rest.first() == Some(&b'{')
}

fn text(file: &[u8]) -> Option<Kind> {
    let start = file.get(..LOOKED_AT).unwrap_or(file);
    let start = match std::str::from_utf8(start) {
        Ok(text) => text,
        // The last character may be cut by us.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(start.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let plain = |c: char| !c.is_control() || c.is_whitespace();
    let begins = start.trim_start();
    start.chars().all(plain).then_some(match begins {
        graph if graph.starts_with("graph ") => Kind::Graphs,
        json if json.starts_with('{') => Kind::Json,
        _ => Kind::Text,
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Archive => "a zip archive (a .pt2, perhaps)",
            Self::Program => "a compiled program (.pte)",
            Self::BundledProgram => "a program with test cases around it (.bpte), of which the program itself (.pte) is wanted",
            Self::ExternalData => "weights of a program (.ptd)",
            Self::Safetensors => "a safetensors file",
            Self::Graphs => "graphs in the text form (.ir)",
            Self::Json => "JSON",
            Self::Text => "text",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn kinds_by_their_first_bytes() {
        let safetensors = [&2_u64.to_le_bytes()[..], b"{}"].concat();
        let cut_in_a_character = format!("x{}", "é".repeat(4096));
        let all: [(&[u8], Option<Kind>); 12] = [
            (b"", Some(Kind::Empty)),
            (b"PK\x03\x04....", Some(Kind::Archive)),
            (b"\0\0\0\0ET12rest", Some(Kind::Program)),
            (b"\0\0\0\0BP08rest", Some(Kind::BundledProgram)),
            (b"\0\0\0\0FT01rest", Some(Kind::ExternalData)),
            (&safetensors, Some(Kind::Safetensors)),
            (b"// a case\n", Some(Kind::Text)),
            (b"\ngraph \"x\" {}", Some(Kind::Graphs)),
            (b"{ \"format\": 1 }", Some(Kind::Json)),
            (cut_in_a_character.as_bytes(), Some(Kind::Text)),
            (b"\x80\x02}q", None),
            (b"\0\0\0\0", None),
        ];
        for (bytes, kind) in all {
            assert_eq!(Kind::of(bytes), kind, "{bytes:02x?}");
        }
    }
}
