//! Operators that ExecuTorch's partitioner leaves to the host in whole models, and that have nothing in common but that.

use fuseline_program::ScalarType;
use half::{bf16, f16};

use super::{KernelError, bad, tensor};
use crate::tensor::{Tensor, TensorError};
use crate::value::Value;

/// `_adaptive_avg_pool2d(self, output_size)`: the last two axes divided into so many parts, which may overlap by one element, and the mean of each.
pub(super) fn adaptive_average(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    let shape = x.shape();
    let Some((planes, &[height, width])) = shape.split_last_chunk() else {
        return Err(bad(0, "has no two axes"));
    };
    let Some(Value::List(sizes)) = arguments.get(1) else {
        return Err(bad(1, "is not a list of two lengths"));
    };
    let lengths = sizes
        .iter()
        .map(Value::as_int)
        .map(|size| usize::try_from(size?).ok());
    let Some([rows, columns]) = lengths
        .collect::<Option<Vec<usize>>>()
        .and_then(|lengths| <[usize; 2]>::try_from(lengths).ok())
    else {
        return Err(bad(1, "is not a list of two lengths"));
    };
    if height * width == 0 && rows * columns > 0 {
        return Err(bad(0, "has no elements to take the mean of"));
    }
    let made = planes
        .iter()
        .try_fold(rows.saturating_mul(columns), |all, n| all.checked_mul(*n));
    // The file gives the result a type that was checked when it was opened, so a size beyond it is wrong.
    let Some(made) = made.filter(|made| i32::try_from(*made).is_ok()) else {
        return Err(bad(1, "asks for too many elements"));
    };
    let elements = x.to_floats()?;
    let part =
        |at: usize, of: usize, length: usize| at * length / of..((at + 1) * length).div_ceil(of);
    let mut means = Vec::with_capacity(made);
    for plane in elements.chunks_exact((height * width).max(1)) {
        for row in 0..rows {
            for column in 0..columns {
                let (down, across) = (part(row, rows, height), part(column, columns, width));
                let count = down.len() * across.len();
                let line = |y: usize| plane[y * width..][across.clone()].iter().sum::<f64>();
                means.push(down.map(line).sum::<f64>() / count as f64);
            }
        }
    }
    let shape = [planes, &[rows, columns]].concat();
    Ok(vec![from_floats(x.dtype(), &shape, &means)?.into()])
}

/// A tensor of these numbers, rounded to its type.
pub(super) fn from_floats(
    dtype: ScalarType,
    shape: &[usize],
    numbers: &[f64],
) -> Result<Tensor, TensorError> {
    use ScalarType as T;
    let bytes: Vec<u8> = match dtype {
        T::F64 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        T::F16 => numbers
            .iter()
            .flat_map(|x| f16::from_f64(*x).to_le_bytes())
            .collect(),
        T::BF16 => numbers
            .iter()
            .flat_map(|x| bf16::from_f64(*x).to_le_bytes())
            .collect(),
        T::Bool => numbers.iter().map(|x| u8::from(*x != 0.0)).collect(),
        T::U8 => numbers.iter().map(|x| *x as u8).collect(),
        T::I8 => numbers.iter().map(|x| (*x as i8).cast_unsigned()).collect(),
        T::I16 => numbers
            .iter()
            .flat_map(|x| (*x as i16).to_le_bytes())
            .collect(),
        T::I64 => numbers
            .iter()
            .flat_map(|x| (*x as i64).to_le_bytes())
            .collect(),
        T::I32 => numbers
            .iter()
            .flat_map(|x| (*x as i32).to_le_bytes())
            .collect(),
        T::F32 => numbers
            .iter()
            .flat_map(|x| (*x as f32).to_le_bytes())
            .collect(),
        is => {
            let wanted = T::F32;
            return Err(TensorError::DType { is, wanted });
        }
    };
    Tensor::from_bytes(dtype, shape, &bytes)
}

/// A tensor of these integers, cut to its type.
pub(super) fn from_integers(
    dtype: ScalarType,
    shape: &[usize],
    numbers: &[i64],
) -> Result<Tensor, TensorError> {
    let size = usize::try_from(dtype.size()).unwrap_or(8).min(8);
    let bytes = numbers.iter().flat_map(|number| {
        let number = if dtype == ScalarType::Bool {
            i64::from(*number != 0)
        } else {
            *number
        };
        number.to_le_bytes().into_iter().take(size)
    });
    Tensor::from_bytes(dtype, shape, &bytes.collect::<Vec<u8>>())
}

/// `max(self, dim, keepdim)`: the largest element along an axis and the position of the first such one. NaN is larger than anything.
pub(super) fn largest(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    extreme(arguments, |a, b| a > b)
}

/// `min(self, dim, keepdim)`: the smallest element along an axis and the position of the first such one. NaN is smaller than anything.
pub(super) fn smallest(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    extreme(arguments, |a, b| a < b)
}

fn extreme(
    arguments: &[Value],
    beats: impl Fn(f64, f64) -> bool,
) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    let mut shape = x.shape();
    let rank = shape.len() as i64;
    let axis = arguments.get(1).and_then(Value::as_int);
    let axis = axis.map(|axis| if axis < 0 { axis + rank } else { axis });
    let axis = axis.and_then(|axis| usize::try_from(axis).ok());
    let Some(axis) = axis.filter(|axis| *axis < shape.len()) else {
        return Err(bad(1, format!("is no axis of {shape:?}")));
    };
    let (length, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let outer: usize = shape[..axis].iter().product();
    if length == 0 {
        return Err(bad(0, "has no elements along the axis"));
    }
    // Beyond 53 bits integers round, so they are compared as what they are.
    let floats = x.to_floats()?;
    let integers = match x.dtype() {
        ScalarType::I64 | ScalarType::U64 => Some(x.to_ints()?),
        _ => None,
    };
    let better = |at: usize, than: usize| match &integers {
        Some(all) if all[at] != all[than] => beats(1.0, 0.0) == (all[at] > all[than]),
        Some(_) => false,
        None if floats[than].is_nan() => false,
        None => floats[at].is_nan() || beats(floats[at], floats[than]),
    };
    let (size, bytes) = (x.dtype().size() as usize, x.to_bytes()?);
    let (mut values, mut positions) = (Vec::new(), Vec::new());
    for row in 0..outer {
        for column in 0..inner {
            let place = |at: usize| (row * length + at) * inner + column;
            let best = (1..length).fold(0, |best, at| {
                if better(place(at), place(best)) {
                    at
                } else {
                    best
                }
            });
            values.extend_from_slice(&bytes[place(best) * size..][..size]);
            positions.push(best as i64);
        }
    }
    match arguments.get(2) {
        Some(Value::Bool(true)) => shape[axis] = 1,
        _ => drop(shape.remove(axis)),
    }
    Ok(vec![
        Tensor::from_bytes(x.dtype(), &shape, &values)?.into(),
        Tensor::from_slice(&shape, &positions)?.into(),
    ])
}
