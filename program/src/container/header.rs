//! The first bytes of a file: ExecuTorch's extended header, put between FlatBuffers' own first eight bytes and the rest.

use crate::error::Fault;

/// Bytes before the rest of the FlatBuffers data.
pub const HEADER_END: usize = PREFIX + HEADER_LEN;
/// FlatBuffers' root offset and file identifier.
pub(super) const PREFIX: usize = 8;
/// Length of the extended header as we write it. It keeps the data behind it aligned to 16.
pub(super) const HEADER_LEN: usize = 32;
pub(super) const IDENTIFIER: &[u8; 4] = b"ET12";
const MAGIC: &[u8; 4] = b"eh00";
/// Magic, length, program size, segment base. The size of the segments' data may be absent.
const MIN_LEN: u32 = 24;

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
    /// Reads the header of a file and checks that the parts that it names are inside the file.
    pub(super) fn parse(file: &[u8]) -> Result<Self, Fault> {
        let have = file.len() as u64;
        let u32_at = |at: usize| {
            file.get(at..at + 4)?
                .try_into()
                .ok()
                .map(u32::from_le_bytes)
        };
        let u64_at = |at: usize| {
            file.get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_le_bytes)
        };
        let short = Fault::Short {
            need: (PREFIX + MIN_LEN as usize) as u64,
            have,
        };
        let (Some(identifier), Some(magic), Some(len), Some(program_size), Some(segment_base)) = (
            file.get(4..8),
            file.get(8..12),
            u32_at(12),
            u64_at(16),
            u64_at(24),
        ) else {
            return Err(short);
        };
        if identifier != IDENTIFIER {
            return Err(Fault::Magic {
                what: "an ExecuTorch program",
                found: identifier.to_vec(),
            });
        }
        if magic != MAGIC {
            return Err(Fault::Magic {
                what: "an ExecuTorch program with an extended header",
                found: magic.to_vec(),
            });
        }
        if len < MIN_LEN {
            let value = len.to_string();
            return Err(Fault::Value {
                what: "the header's length",
                value,
                allowed: "24 or more",
            });
        }
        let header_end = PREFIX as u64 + u64::from(len);
        if program_size < header_end || program_size > have {
            let (offset, size) = (0, program_size);
            return Err(Fault::Range {
                what: "the program",
                offset,
                size,
                available: have,
            });
        }
        let segment_data_size = if len >= HEADER_LEN as u32 {
            u64_at(32)
        } else {
            None
        };
        let header = Self {
            program_size,
            segment_base,
            segment_data_size,
        };
        if segment_base != 0 && segment_base < program_size {
            return Err(Fault::Overlap {
                what: "program and segments at bytes",
                first: program_size,
                second: segment_base,
            });
        }
        let size = segment_data_size.unwrap_or(0);
        if segment_base.checked_add(size).is_none_or(|end| end > have) {
            return Err(Fault::Range {
                what: "the segments",
                offset: segment_base,
                size,
                available: have,
            });
        }
        Ok(header)
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
