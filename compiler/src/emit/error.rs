//! What can go wrong on the way from an optimised graph to a file.

use fuseline_ir::OpError;
use fuseline_program::caps::{RANK, TENSOR_BYTES};
use fuseline_program::instr::BuildError;

/// An error of emission.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// An op that reached emission but can't be expressed on the target.
    #[error("{place}: {reason}")]
    Op {
        /// The node as it prints, with its module.
        place: String,
        /// Why it can't be emitted.
        reason: String,
    },
    /// An op's lowering names an instruction or a field that the instruction table doesn't have: a bug of this compiler.
    #[error("bug in the lowering of {place}: {error}")]
    Instruction {
        /// The node as it prints.
        place: String,
        /// What the table says.
        error: BuildError,
    },
    /// A symbolic size whose value the program can't find out when it runs.
    #[error("{place}: the size {dim} needs the symbol {symbol}, which no input's shape gives")]
    Symbol {
        /// The node as it prints.
        place: String,
        /// The size.
        dim: String,
        /// The symbol that is missing.
        symbol: String,
    },
    /// A dtype that the target doesn't have.
    #[error("{place}: dtype {dtype} can't be stored in a program for this target")]
    DType {
        /// The value's name.
        place: String,
        /// The dtype.
        dtype: String,
    },
    /// A size beyond what the format can hold.
    #[error("{place}: size {dim} does not fit the format's 31 bits")]
    Size {
        /// The value's name.
        place: String,
        /// The size.
        dim: String,
    },
    /// More dimensions than the format allows.
    #[error("{place}: {rank} dimensions, more than {RANK}")]
    Rank {
        /// The value's or state's name.
        place: String,
        /// How many dimensions it has.
        rank: usize,
    },
    /// A tensor that a program may not allocate.
    #[error("{place}: {bytes} bytes, more than {TENSOR_BYTES} for one tensor")]
    Bytes {
        /// The value's or state's name.
        place: String,
        /// Its bytes; the largest number if they can't be counted.
        bytes: u64,
    },
    /// A state that is used in more than one delegate segment.
    #[error(
        "state \"{name}\" is used on both sides of a host call ({place}); a delegate's state can't cross one"
    )]
    SplitState {
        /// The state.
        name: String,
        /// A node on the other side.
        place: String,
    },
    /// The method's values need more memory than the format can plan.
    #[error("memory planning: {0}")]
    Plan(fuseline_program::FormatError),
    /// A constant's bytes can't be read.
    #[error("constant \"{name}\": {reason}")]
    Constant {
        /// The constant.
        name: String,
        /// Why.
        reason: String,
    },
}

impl EmitError {
    /// An op's own error at a place.
    pub(crate) fn op(place: String, error: &OpError) -> EmitError {
        EmitError::Op {
            place,
            reason: error.to_string(),
        }
    }
}
