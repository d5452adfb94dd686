//! Operators that make one element of many, and those along an axis.

use fuseline_program::instr::*;
use fuseline_program::{ScalarType, Tid};

use super::call::{Call, Result, small};
use super::pointwise::{floats, times};
use super::types::{Kind, kind};
use super::{Kernels, bad};

/// A reduction over axes, none listed meaning all.
type Reduce = fn(Tid, Tid, Vec<i32>, bool) -> Instruction;

macro_rules! reduce {
    ($name:ident) => {
        |x, out, axes, keepdims| {
            $name {
                x,
                out,
                axes,
                keepdims,
            }
            .into()
        }
    };
}

/// What the elements are turned into before they are reduced.
#[derive(Clone, Copy, PartialEq)]
enum As {
    /// The type that the file gives the result: integers are summed in 64 bits. Floats of 16 bits in single precision, rounded once.
    Result,
    /// Truth values.
    Truths,
    /// What they are.
    Selves,
}

/// Whether the arguments behind the tensor are axes, and whether they stay with length 1; without them it is about all elements.
#[derive(Clone, Copy, PartialEq)]
enum Over {
    Axes,
    All,
}

const REDUCTIONS: [(&str, Reduce, As, Over); 17] = [
    ("sum.IntList_out", reduce!(Sum), As::Result, Over::Axes),
    ("sum.out", reduce!(Sum), As::Result, Over::All),
    ("mean.out", reduce!(Mean), As::Result, Over::Axes),
    ("mean.dtype_out", reduce!(Mean), As::Result, Over::All),
    ("prod.int_out", reduce!(Prod), As::Result, Over::Axes),
    ("prod.out", reduce!(Prod), As::Result, Over::All),
    ("amax.out", reduce!(Max), As::Selves, Over::Axes),
    ("amin.out", reduce!(Min), As::Selves, Over::Axes),
    ("max.unary_out", reduce!(Max), As::Selves, Over::All),
    ("min.unary_out", reduce!(Min), As::Selves, Over::All),
    ("any.out", reduce!(Any), As::Truths, Over::Axes),
    ("any.dims_out", reduce!(Any), As::Truths, Over::Axes),
    ("any.all_out", reduce!(Any), As::Truths, Over::All),
    ("all.out", reduce!(All), As::Truths, Over::Axes),
    ("all.dims_out", reduce!(All), As::Truths, Over::Axes),
    ("all.all_out", reduce!(All), As::Truths, Over::All),
    ("logsumexp.out", reduce!(LogSumExp), As::Result, Over::Axes),
];

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    for (name, make, by, over) in REDUCTIONS {
        let inputs = if over == Over::Axes { 4 } else { 2 };
        kernels.device(format!("aten::{name}"), inputs, move |call| {
            let x = call.tensor(0)?;
            let x = match by {
                As::Selves => x,
                As::Truths => call.cast(x, ScalarType::Bool)?,
                As::Result => summand(call, x)?,
            };
            let (axes, keepdims) = match over {
                Over::Axes => (call.axes(1, x)?, call.flag(2)),
                Over::All => (Vec::new(), false),
            };
            call.make(|out| make(x, out, axes, keepdims))
        });
    }
    kernels.device("aten::cumsum.out", 3, |call| {
        let x = call.tensor(0)?;
        let x = summand(call, x)?;
        let Some(axis) = call.axis(1, 0, x)? else {
            return Ok(x);
        };
        let axis = small(axis as i64)?;
        call.make(|out| Cumsum {
            x,
            out,
            axis,
            reverse: false,
            inclusive: true,
        })
    });
    kernels.device("aten::var.correction_out", 4, |call| {
        let ddof = call.float(2, 1.0)?;
        variance(call, ddof)
    });
    kernels.device("aten::var.out", 4, |call| {
        let ddof = if call.given(2) && !call.flag(2) {
            0.0
        } else {
            1.0
        };
        variance(call, ddof)
    });
    kernels.devices("aten::var_mean.correction_out", 4, 2, |call| {
        let ddof = call.float(2, 1.0)?;
        let variance = variance(call, ddof)?;
        let x = floats(call, 0)?;
        let (axes, keepdims) = (call.axes(1, x)?, call.flag(3));
        let mean = call.make(|out| Mean {
            x,
            out,
            axes,
            keepdims,
        })?;
        Ok(vec![variance, mean])
    });
    kernels.device("aten::_softmax.out", 3, |call| {
        let (x, axis) = along(call)?;
        call.make(|out| Softmax {
            x,
            out,
            axis,
            precise: true,
        })
        .and_then(|made| shaped_as_argument(call, made))
    });
    kernels.device("aten::_log_softmax.out", 3, |call| {
        let (x, axis) = along(call)?;
        let all = call.make(|out| LogSumExp {
            x,
            out,
            axes: vec![axis],
            keepdims: true,
        })?;
        let made = call.make(|out| Subtract { a: x, b: all, out })?;
        shaped_as_argument(call, made)
    });
}

/// The elements in the type of the result, floats of 16 bits in single precision.
fn summand(call: &mut Call<'_>, x: Tid) -> Result {
    let dtype = call.result(0).unwrap_or(call.dtype(x)?);
    match dtype {
        ScalarType::F16 | ScalarType::BF16 => {
            // An element of another type is rounded to the result's first.
            let x = call.cast(x, dtype)?;
            call.cast(x, ScalarType::F32)
        }
        dtype => call.cast(x, dtype),
    }
}

/// The variance over the axes of the second argument, with the divisor `count - ddof`.
fn variance(call: &mut Call<'_>, ddof: f64) -> Result {
    let x = floats(call, 0)?;
    if kind(call.dtype(x)?) == Kind::Complex {
        return Err(bad(0, "has complex elements"));
    }
    let (axes, keepdims) = (call.axes(1, x)?, call.flag(3));
    let shape = call.shape(x)?;
    let lengths = shape.iter().enumerate();
    let reduced =
        lengths.filter(|(at, _)| axes.is_empty() || axes.iter().any(|axis| *axis as usize == *at));
    let count = reduced.map(|(_, n)| *n as f64).product::<f64>();
    let spread = call.make(|out| Var {
        x,
        out,
        axes,
        keepdims,
        ddof: 0,
    })?;
    times(call, spread, count / (count - ddof).max(0.0))
}

/// A tensor of floats with an axis at least, and the axis of the second argument.
fn along(call: &mut Call<'_>) -> Result<(Tid, i32)> {
    let x = floats(call, 0)?;
    match call.axis(1, -1, x)? {
        Some(axis) => Ok((x, small(axis as i64)?)),
        None => Ok((call.reshape(x, &[1])?, 0)),
    }
}

/// The same elements in the shape of the first argument.
fn shaped_as_argument(call: &mut Call<'_>, x: Tid) -> Result {
    let first = call.tensor(0)?;
    let shape = call.shape(first)?;
    if shape == call.shape(x)? {
        return Ok(x);
    }
    call.reshape(x, &shape)
}
