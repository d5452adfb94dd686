//! Operators that only move elements. PyTorch's exporter writes views so (`permute_copy` for `permute`), and they stand on the host where they are between
//! others that do.

use fuseline_program::ScalarType;

use super::{KernelError, Kernels, Walk, bad, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.register("aten::view_as_real_copy.out", 1, 1, as_real);
    kernels.register("aten::view_as_complex_copy.out", 1, 1, as_complex);
}

type Results = Result<Vec<Value>, KernelError>;

/// The integers of an argument: a list, or a single one.
pub(super) fn integers(arguments: &[Value], position: usize) -> Result<Vec<i64>, KernelError> {
    let numbers = match arguments.get(position) {
        Some(Value::List(items)) => items.iter().map(Value::as_int).collect(),
        Some(one) => one.as_int().map(|number| vec![number]),
        None => None,
    };
    numbers.ok_or_else(|| bad(position, "is not a list of integers"))
}

pub(super) fn integer(arguments: &[Value], position: usize) -> Result<i64, KernelError> {
    match integers(arguments, position)?[..] {
        [number] => Ok(number),
        _ => Err(bad(position, "is not an integer")),
    }
}

/// An axis of so many, counted from the front.
pub(super) fn axis(position: usize, axis: i64, rank: usize) -> Result<usize, KernelError> {
    let counted = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    let found = usize::try_from(counted).ok().filter(|at| *at < rank);
    found.ok_or_else(|| bad(position, format!("is {axis}, no axis of {rank}")))
}

/// The walk past all elements in order; unlike a broadcast one with the step of each axis, also of those of length 1.
pub(super) fn straight(shape: &[usize]) -> Walk {
    let mut steps = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        steps[at - 1] = steps[at] * shape[at];
    }
    Walk {
        shape: shape.to_vec(),
        steps,
    }
}

/// `view_as_real_copy(self)`: real and imaginary part in a new last axis.
fn as_real(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    if x.dtype() != ScalarType::C64 {
        return Err(bad(
            0,
            format!("has elements of type {}, not c64", x.dtype()),
        ));
    }
    let shape = [&x.shape()[..], &[2]].concat();
    Ok(vec![
        Tensor::from_bytes(ScalarType::F32, &shape, &x.to_bytes()?)?.into(),
    ])
}

/// `view_as_complex_copy(self)`: the last axis holds real and imaginary part.
fn as_complex(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let shape = x.shape();
    match shape.split_last() {
        Some((2, shape)) if x.dtype() == ScalarType::F32 => Ok(vec![
            Tensor::from_bytes(ScalarType::C64, shape, &x.to_bytes()?)?.into(),
        ]),
        _ => Err(bad(0, format!("is no pairs of f32: {x:?}"))),
    }
}
