//! Sorts, scans, reductions and norms of no elements. On the CPU MLX divides by the length of the axis, which ends the process where it is 0; and it refuses `argmax`
//! of a tensor without elements even where the result has none.

use fuseline_program::instr::Instruction as I;
use fuseline_program::{ScalarType, Tid};

use super::axis_of;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::Array;

/// A tensor without elements, laid out from scratch. `None` for one that has elements.
///
/// Over a transposed one MLX's loops on the CPU don't end.
pub(super) fn fresh(x: &Array) -> Result<Option<Array>, Fault> {
    if x.len() > 0 {
        return Ok(None);
    }
    Ok(Some(Array::from_bytes(&[], x.shape(), x.dtype())?))
}

/// The result of the instruction and its slot, where the instruction is one of these, and its input and its result have no elements.
pub(super) fn of_nothing(instruction: &I, f: &Frame<'_>) -> Result<Option<(Tid, Array)>, Fault> {
    // Axes that go, and whether they stay with length 1.
    let none: &[i32] = &[];
    let (x, out, positions, axes, keepdims) = match instruction {
        I::Sort(i) => (i.x, i.out, false, none, true),
        I::Partition(i) => (i.x, i.out, false, none, true),
        I::Cumsum(i) => (i.x, i.out, false, none, true),
        I::Argsort(i) => (i.x, i.out, true, none, true),
        I::ArgPartition(i) => (i.x, i.out, true, none, true),
        I::Argmax(i) => (i.x, i.out, true, std::slice::from_ref(&i.axis), i.keepdims),
        I::Argmin(i) => (i.x, i.out, true, std::slice::from_ref(&i.axis), i.keepdims),
        I::Median(i) if f.get(i.x)?.len() == 0 => {
            let what = "the number of elements of a median";
            return Err(Fault::Attribute { what, value: 0 });
        }
        _ => return Ok(None),
    };
    let x = f.get(x)?;
    if x.len() > 0 {
        return Ok(None);
    }
    let mut shape = x.shape().to_vec();
    for axis in axes {
        let axis = axis_of(*axis, shape.len())?;
        if keepdims {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
    }
    if !shape.contains(&0) {
        return Ok(None); // The largest of nothing: MLX says so.
    }
    let dtype = if positions {
        ScalarType::U32
    } else {
        x.dtype()
    };
    Ok(Some((out, Array::from_bytes(&[], &shape, dtype)?)))
}
