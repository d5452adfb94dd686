//! The first bytes of a file: ExecuTorch's extended header, put between FlatBuffers' own first eight bytes and the rest.

use crate::error::Fault;
use crate::kind::Kind;
use crate::newer;

/// Bytes before the rest of the FlatBuffers data.
pub const HEADER_END: usize = PREFIX + HEADER_LEN;
/// FlatBuffers' root offset and file identifier.
pub(super) const PREFIX: usize = 8;
/// Length of the extended header as we write it. It keeps the data behind it aligned to 16.
pub(super) const HEADER_LEN: usize = 32;
pub(super) const IDENTIFIER: &[u8; 4] = b"ET12";
const MAGIC: &[u8; 4] = b"eh00";
/// What a file of external data begins with.
pub(super) const EXTERNAL: Marks = Marks {
    identifier: b"FT01",
    magic: b"FH01",
};
/// Magic, length, then offset and size of the FlatBuffers data, segment base, size of the segments' data.
const EXTERNAL_LEN: u32 = 40;
/// Magic, length, program size, segment base. The size of the segments' data may be absent.
const MIN_LEN: u32 = 24;

/// FlatBuffers' file identifier, and the first bytes of the header behind it.
pub(super) struct Marks {
    pub(super) identifier: &'static [u8; 4],
    magic: &'static [u8; 4],
}

/// Where the parts of a file lie, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The end of the FlatBuffers data, this header counted in.
    pub program_size: u64,
    /// What segments' offsets count from; 0 in a file without segments.
    pub segment_base: u64,
    /// From there to the end of the last segment; none in an older file that does not say.
    pub segment_data_size: Option<u64>,
}

impl Header {
    /// Reads the header of a file and checks that the parts that it names are inside the file. A file without one is all program.
    pub(super) fn parse(file: &[u8]) -> Result<Self, Fault> {
        let program = Marks {
            identifier: IDENTIFIER,
            magic: MAGIC,
        };
        let names = [
            "an ExecuTorch program",
            "an ExecuTorch program with an extended header",
        ];
        // ExecuTorch writes none where nothing has been delegated and nothing lies in a segment.
        let bare = file
            .get(8..12)
            .is_some_and(|magic| !magic.starts_with(&MAGIC[..2]));
        if bare && file.get(4..8).is_some_and(|found| found == IDENTIFIER) {
            return Ok(Self {
                program_size: file.len() as u64,
                segment_base: 0,
                segment_data_size: None,
            });
        }
        let len = marked(file, &program, names, MIN_LEN, "24 or more")?;
        let header = Self {
            program_size: number(file, 16)?,
            segment_base: number(file, 24)?,
            segment_data_size: if len >= HEADER_LEN as u32 {
                Some(number(file, 32)?)
            } else {
                None
            },
        };
        header.check(len, file.len() as u64)
    }

    /// Reads the header of a file of external data, with the same checks.
    pub(super) fn parse_external(file: &[u8]) -> Result<Self, Fault> {
        let names = [
            "a file of external data",
            "a file of external data with a header",
        ];
        let len = marked(file, &EXTERNAL, names, EXTERNAL_LEN, "40 or more")?;
        let header = Self {
            // The FlatBuffers data's own first bytes lie before the header, so what counts is where it ends.
            program_size: number(file, 16)?.saturating_add(number(file, 24)?),
            segment_base: number(file, 32)?,
            segment_data_size: Some(number(file, 40)?),
        };
        header.check(len, file.len() as u64)
    }

    /// That the parts are inside a file of `have` bytes and share none.
    fn check(self, len: u32, have: u64) -> Result<Self, Fault> {
        let header_end = PREFIX as u64 + u64::from(len);
        if self.program_size < header_end || self.program_size > have {
            return Err(Fault::Range {
                what: "the program",
                offset: 0,
                size: self.program_size,
                available: have,
            });
        }
        if self.segment_base != 0 && self.segment_base < self.program_size {
            return Err(Fault::Overlap {
                what: "program and segments at bytes",
                first: self.program_size,
                second: self.segment_base,
            });
        }
        let size = self.segment_data_size.unwrap_or(0);
        let end = self.segment_base.checked_add(size);
        if end.is_none_or(|end| end > have) {
            return Err(Fault::Range {
                what: "the segments",
                offset: self.segment_base,
                size,
                available: have,
            });
        }
        Ok(self)
    }

    /// The bytes between FlatBuffers' first eight and the rest.
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.program_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment_base.to_le_bytes());
        bytes[24..].copy_from_slice(&self.segment_data_size.unwrap_or(0).to_le_bytes());
        bytes
    }
}

/// Checks that the file is of no other kind, identifier and magic, which `names` says in words, and returns the header's length, `least` or more.
fn marked(
    file: &[u8],
    marks: &Marks,
    names: [&'static str; 2],
    least: u32,
    allowed: &'static str,
) -> Result<u32, Fault> {
    let short = Fault::Short {
        need: PREFIX as u64 + u64::from(least),
        have: file.len() as u64,
    };
    let kind = Kind::of(file).filter(|_| !newer::is_of_kind(file, marks.identifier));
    if let Some(found) = kind {
        let what = names[0];
        return Err(Fault::OtherKind { what, found });
    }
    if file.len() < PREFIX + least as usize {
        return Err(short);
    }
    for (what, at, wanted) in [(names[0], 4, marks.identifier), (names[1], 8, marks.magic)] {
        let found = file.get(at..at + 4).unwrap_or_default();
        newer::identifier(what, found, wanted)?;
    }
    let len = file.get(12..16).and_then(|bytes| bytes.try_into().ok());
    let len = len.map(u32::from_le_bytes).ok_or(short)?;
    if len < least {
        let (what, value) = ("the header's length", len.to_string());
        return Err(Fault::Value {
            what,
            value,
            allowed,
        });
    }
    Ok(len)
}

/// The 64-bit number at a place.
fn number(file: &[u8], at: usize) -> Result<u64, Fault> {
    let bytes = file.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_le_bytes).ok_or(Fault::Short {
        need: at as u64 + 8,
        have: file.len() as u64,
    })
}
