//! What several themes share: checks on types, broadcasting, walking over indices.

use crate::dim::Dim;
use crate::error::OpError;
use crate::lower::{Inst, Lowering, Operand};
use crate::types::{Shape, TensorType, Type};

/// An error whose op is filled in by the caller.
pub fn fail<T>(reason: impl AsRef<str>) -> Result<T, OpError> {
    Err(OpError::new("", reason))
}

/// The n-th argument as a tensor.
pub fn tensor<'a>(args: &[&'a Type], n: usize) -> Result<&'a TensorType, OpError> {
    match args.get(n) {
        Some(Type::Tensor(t)) => Ok(t),
        Some(other) => fail(format!("argument {n} is {other}, not a tensor")),
        None => fail(format!("argument {n} is missing")),
    }
}

/// The shape that two shapes broadcast to, by the rule of NumPy. Sizes that are neither equal nor 1 as far as the algebra knows don't.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, OpError> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1i64);
    let at = |s: &[Dim], i: usize| {
        let lead = rank - s.len();
        if i < lead {
            one.clone()
        } else {
            s[i - lead].clone()
        }
    };
    (0..rank)
        .map(|i| {
            let (x, y) = (at(a, i), at(b, i));
            if x == y || y.is(1) {
                Ok(x)
            } else if x.is(1) {
                Ok(y)
            } else {
                fail(format!("sizes {x} and {y} of axis {i} don't broadcast"))
            }
        })
        .collect()
}

/// An axis that must be below the rank.
pub fn check_axis(axis: usize, rank: usize) -> Result<(), OpError> {
    if axis < rank {
        return Ok(());
    }
    fail(format!("axis {axis} of a {rank}-d tensor"))
}

/// The multi-index of each flat index of a shape, in row-major order. Calls `f(flat, index)`.
pub fn for_each_index(shape: &[usize], mut f: impl FnMut(usize, &[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    let mut flat = 0;
    loop {
        f(flat, &index);
        flat += 1;
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Row-major strides, in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// The flat index in a tensor of `shape` of the element that a broadcast result has at `index`.
pub fn broadcast_flat(shape: &[usize], index: &[usize]) -> usize {
    let lead = index.len() - shape.len();
    let mut flat = 0;
    for (axis, &size) in shape.iter().enumerate() {
        let i = if size == 1 { 0 } else { index[lead + axis] };
        flat = flat * size + i;
    }
    flat
}

/// One instruction that reads the arguments as the fields of these names and writes the result as `out`.
pub fn one(node: &'static str, fields: &[&'static str]) -> Lowering {
    let inst = fields
        .iter()
        .enumerate()
        .fold(Inst::new(node), |inst, (n, name)| {
            inst.tensor(name, Operand::Arg(n))
        });
    Lowering::Insts(vec![inst.out()])
}
