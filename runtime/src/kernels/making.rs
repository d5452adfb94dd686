//! Operators that make tensors of nothing but numbers.

use fuseline_program::instr::{
    Add, Arange, Cos, FloorDivide, IntOrVid, Log, Multiply, RandomBits, Sqrt, Subtract,
};
use fuseline_program::{ScalarType, Tid};

use super::call::{Call, Result, known};
use super::pointwise::times;
use super::types::{Kind, Scalar, kind};
use super::{Kernels, bad};

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.device("aten::full.out", 2, |call| {
        let (shape, number) = (call.ints(0)?, call.scalar(1)?);
        let dtype = call.result(0).unwrap_or(number.dtype());
        call.full(&shape, number, dtype)
    });
    kernels.device("aten::zeros.out", 1, |call| filled(call, Scalar::Int(0)));
    kernels.device("aten::ones.out", 1, |call| filled(call, Scalar::Int(1)));
    // What stands in new memory is anybody's guess; zeros are the same in every run.
    kernels.device("aten::empty.out", 2, |call| filled(call, Scalar::Int(0)));
    kernels.device("dim_order_ops::_empty_dim_order.out", 2, |call| {
        filled(call, Scalar::Int(0))
    });
    kernels.device("aten::full_like.out", 3, |call| {
        let number = call.scalar(1)?;
        filled_like(call, number)
    });
    for overload in ["Scalar_out", "Tensor_out"] {
        kernels.device(format!("aten::fill.{overload}"), 2, |call| {
            let (x, value) = (call.tensor(0)?, call.operand(1)?);
            let (dtype, shape) = (call.dtype(x)?, call.shape(x)?);
            let value = call.as_type(value, dtype)?;
            call.broadcast(value, &shape)
        });
    }
    kernels.device("aten::scalar_tensor.out", 1, |call| {
        let number = call.scalar(0)?;
        let dtype = call.result(0).unwrap_or(number.dtype());
        call.number(number, dtype)
    });
    kernels.device("aten::rand.out", 1, uniform);
    kernels.device("aten::randn.out", 1, normal);
    kernels.device("aten::arange.out", 1, |call| {
        let end = call.scalar(0)?;
        counted(call, Scalar::Int(0), end, Scalar::Int(1))
    });
    kernels.device("aten::arange.start_out", 3, |call| {
        let (start, end) = (call.scalar(0)?, call.scalar(1)?);
        let step = if call.given(2) {
            call.scalar(2)?
        } else {
            Scalar::Int(1)
        };
        counted(call, start, end, step)
    });
}

fn filled(call: &mut Call<'_>, number: Scalar) -> Result {
    let shape = call.ints(0)?;
    let dtype = call.result(0).unwrap_or(ScalarType::F32);
    call.full(&shape, number, dtype)
}

fn filled_like(call: &mut Call<'_>, number: Scalar) -> Result {
    let x = call.tensor(0)?;
    let (dtype, shape) = (call.result(0).unwrap_or(call.dtype(x)?), call.shape(x)?);
    call.full(&shape, number, dtype)
}

/// `start, start + step, …` before `end`: a count of integers, scaled and moved where they are floats.
fn counted(call: &mut Call<'_>, start: Scalar, end: Scalar, step: Scalar) -> Result {
    let integers = [start, end, step]
        .iter()
        .all(|n| !matches!(n, Scalar::Float(_)));
    let dtype = match call.result(0) {
        Some(dtype) => dtype,
        None if integers => ScalarType::I64,
        None => ScalarType::F32,
    };
    let count = ((end.float() - start.float()) / step.float()).ceil();
    if !(0.0..=f64::from(i32::MAX)).contains(&count) {
        return Err(bad(
            1,
            "is not a finite number of steps away from the first",
        ));
    }
    let working = if kind(dtype) == Kind::Float {
        ScalarType::F32
    } else {
        ScalarType::I64
    };
    let x = count_to(call, count as i64, working)?;
    let step = call.number(step, working)?;
    let start = call.number(start, working)?;
    let x = call.make(|out| Multiply { a: x, b: step, out })?;
    call.make(|out| Add {
        a: x,
        b: start,
        out,
    })
}

/// The integers from 0.
fn count_to(call: &mut Call<'_>, count: i64, dtype: ScalarType) -> Result<Tid> {
    call.make(|out| Arange {
        out,
        start: IntOrVid::Int(0),
        stop: IntOrVid::Int(count),
        step: IntOrVid::Int(1),
        scalar_type: Some(dtype),
    })
}

/// Numbers below 1, in steps that all floats of single precision have there.
fn uniform(call: &mut Call<'_>) -> Result {
    const STEPS: f64 = 16_777_216.0;
    let shape = known(&call.ints(0)?);
    let bits = call.make(|out| RandomBits {
        out,
        shape,
        seed: None,
        width: 4,
    })?;
    // The lower bits are cut off, so that none is rounded up to 1.
    let dtype = call.dtype(bits)?;
    let b = call.number(Scalar::Int(256), dtype)?;
    let steps = call.make(|out| FloorDivide { a: bits, b, out })?;
    let steps = call.cast(steps, ScalarType::F32)?;
    times(call, steps, 1.0 / STEPS)
}

/// Numbers of the normal distribution, by Box and Muller: a length and an angle.
fn normal(call: &mut Call<'_>) -> Result {
    let (a, turns) = (uniform(call)?, uniform(call)?);
    let one = call.number(Scalar::Int(1), ScalarType::F32)?;
    let x = call.make(|out| Subtract { a: one, b: a, out })?;
    let x = call.make(|out| Log { x, out })?;
    let x = times(call, x, -2.0)?;
    let length = call.make(|out| Sqrt { x, out })?;
    let x = times(call, turns, std::f64::consts::TAU)?;
    let across = call.make(|out| Cos { x, out })?;
    call.make(|out| Multiply {
        a: length,
        b: across,
        out,
    })
}
