//! Limits. The first three are ExecuTorch's own: a file beyond them would be refused there.

use flatbuffers::VerifierOptions;

use crate::error::Fault;

/// Elements of any one list, slots of any one kind.
pub const COUNT: u64 = 1_000_000;
/// Dimensions of a tensor.
pub const RANK: usize = 16;
/// Bytes of one tensor that the program allocates.
pub const TENSOR_BYTES: u64 = 1 << 32;
/// How many times as large as the file that it is in something may become when what is shared in it counts once for each use, and what is allowed to a small file.
const SHARED: usize = 16;
const SHARED_SMALL: usize = 1 << 20;
/// Tables within tables in FlatBuffers data.
const DEPTH: usize = 32;

/// Checks a count.
pub(crate) fn count(what: &'static str, count: usize) -> Result<(), Fault> {
    let count = count as u64;
    if count > COUNT {
        Err(Fault::TooMany {
            what,
            count,
            cap: COUNT,
        })
    } else {
        Ok(())
    }
}

/// Checks what has been read of a file of `size` bytes, what is shared counted once for each use.
pub(crate) fn shared(what: &str, bytes: u64, size: u64) -> Result<(), Fault> {
    let cap = size
        .saturating_mul(SHARED as u64)
        .saturating_add(SHARED_SMALL as u64);
    if bytes > cap {
        return Err(Fault::TooLarge {
            what: what.to_owned(),
            bytes,
            cap,
        });
    }
    Ok(())
}

/// Checks a number of dimensions.
pub(crate) fn rank(rank: usize) -> Result<(), Fault> {
    if rank > RANK {
        return Err(Fault::TooMany {
            what: "dimensions",
            count: rank as u64,
            cap: RANK as u64,
        });
    }
    Ok(())
}

/// Checks the length of a dimension: both formats count in 31 bits.
pub(crate) fn dim(length: u32) -> Result<(), Fault> {
    if i32::try_from(length).is_err() {
        return Err(Fault::Value {
            what: "a dimension",
            value: length.to_string(),
            allowed: "below 2^31",
        });
    }
    Ok(())
}

/// Limits for FlatBuffers data of `size` bytes. Data that is shared (as strings may be) counts once for each use, so that what
/// is read from it is at most a few times as large as the file.
pub(crate) fn verifier(size: usize) -> VerifierOptions {
    VerifierOptions {
        max_depth: DEPTH,
        max_tables: 16 * 1_000_000,
        max_apparent_size: size.saturating_mul(SHARED).saturating_add(SHARED_SMALL),
        ignore_missing_null_terminator: false,
    }
}
