//! What both commands, `fuseline` and `fuseline-run`, do alike: exit codes, amounts of memory, and care for the files that they are given.

pub mod exit;
pub mod paths;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most bytes of a text that somebody has written or that stands beside a model: a prompt, a tokenizer, a graph, a list of exceptions.
pub const MOST_TEXT: u64 = 1 << 28;

/// Reads a file, a pipe or a device to its end.
///
/// # Errors
/// It can't be read, or has more than `most` bytes: some devices have no end.
pub fn read_whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let read = file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > most {
        let reason = format!("more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Reads an amount of memory: a number of bytes, or of kB, MB, GB, TB (1000 each), or of K, M, G, T, or KiB, MiB, GiB, TiB (1024 each); capital or small.
///
/// # Errors
/// Anything else, or more than 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let (power, base) = match unit.as_str() {
        "" | "b" => (0, 1),
        "kb" => (1, 1000),
        "mb" => (2, 1000),
        "gb" => (3, 1000),
        "tb" => (4, 1000),
        "k" | "kib" => (1, 1024),
        "m" | "mib" => (2, 1024),
        "g" | "gib" => (3, 1024),
        "t" | "tib" => (4, 1024),
        _ => (0, 0),
    };
    let number = digits.trim_end().parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(u64::pow(base, power)));
    bytes.filter(|_| base != 0).ok_or_else(|| {
        "expected a number of bytes, or of kB, MB, GB, TB (1000 each) or K, M, G, T, KiB, MiB, GiB, TiB (1024 each)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn amounts_of_memory() {
        let good = [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("4kB", 4_000),
            ("4KB", 4_000),
            ("3 MB", 3_000_000),
            ("2GB", 2_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("1M", 1 << 20),
            ("1G", 1 << 30),
            ("1GiB", 1 << 30),
            ("1T", 1 << 40),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "G",
            "-1",
            "1.5G",
            "4X",
            "4Ki",
            "4 GB more",
            "18446744073709551616",
            "18014398509481985K",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
