//! A few integers that are known already are worked out at once, on the CPU.
//!
//! Where a step's positions begin, and which rows of a cache they are, is the work of a few instructions on a few integers, and later instructions want the result on
//! the host: `IndexCopy` to check and to place its rows, `ItemInt`, every check of indices. Queued on the device it would be there only when everything that was
//! queued before it is done, the step before included. The CPU has it in no time, and the device is not waited for.

use fuseline_program::ScalarType;
use fuseline_program::instr::{Instruction as I, Slot};

use super::host::is_integer;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::{self, Array};

/// The most integers of a tensor that is worked out early.
const FEW: usize = 256;

/// Whether the instruction makes a few integers from a few integers that are there.
pub(super) fn is_early(instruction: &I, f: &Frame<'_>) -> bool {
    let integers_stay = match instruction {
        I::Arange(i) => {
            let ends = f.number(i.start).ok().zip(f.number(i.stop).ok());
            ends.is_some_and(|(start, stop)| stop.abs_diff(start) <= FEW as u64)
                && i.scalar_type.is_none_or(is_integer)
        }
        I::AsType(i) => is_integer(i.scalar_type) && i.scalar_type != ScalarType::Bool,
        I::Add(_)
        | I::Subtract(_)
        | I::Multiply(_)
        | I::FloorDivide(_)
        | I::Remainder(_)
        | I::Maximum(_)
        | I::Minimum(_)
        | I::Take(_)
        | I::Slice(_)
        | I::Reshape(_)
        | I::ExpandDims(_)
        | I::Squeeze(_)
        | I::Concatenate(_) => true,
        _ => return false,
    };
    let known = |x: &Array| x.len() <= FEW && is_integer(x.dtype()) && x.is_computed();
    integers_stay
        && instruction.reads().into_iter().all(|slot| match slot {
            Slot::Tensor(tid) => f.get(tid).is_ok_and(known),
            Slot::Value(_) => true,
        })
}

/// Computes what the instruction has put into its slots.
pub(super) fn compute(instruction: &I, f: &Frame<'_>) -> Result<(), Fault> {
    let written = instruction
        .writes()
        .into_iter()
        .filter_map(|slot| match slot {
            Slot::Tensor(tid) => Some(f.get(tid)),
            Slot::Value(_) => None,
        });
    let written = written.collect::<Result<Vec<_>, _>>()?;
    Ok(mlx::eval(written)?)
}
