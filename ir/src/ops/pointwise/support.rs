//! What the pointwise ops share, and other themes with them: checks, broadcasting, mapping over elements, small instructions.

use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Operand};
use crate::ops::util::{broadcast, broadcast_flat, fail, for_each_index, tensor};
use crate::tensor::{Data, Tensor, numel};
use crate::types::{TensorType, Type};
use std::borrow::Cow;

/// The dtypes that an op takes.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) enum Takes {
    /// Floats.
    Floats,
    /// Floats and integers.
    Numbers,
    /// Integers and bools.
    Bits,
    /// Bools.
    Bools,
    /// Every dtype.
    Any,
}

impl Takes {
    /// Refuses a dtype that the op doesn't take.
    pub(in crate::ops) fn check(self, dtype: DType) -> Result<(), OpError> {
        let (ok, what) = match self {
            Takes::Floats => (dtype.is_float(), "floats"),
            Takes::Numbers => (dtype != DType::Bool, "numbers"),
            Takes::Bits => (!dtype.is_float(), "integers or bools"),
            Takes::Bools => (dtype == DType::Bool, "bools"),
            Takes::Any => (true, "anything"),
        };
        if ok {
            Ok(())
        } else {
            fail(format!("takes {what}, not {dtype}"))
        }
    }
}

/// The type of a unary op that keeps the dtype.
pub(super) fn infer_unary(args: &[&Type], takes: Takes) -> Result<Type, OpError> {
    let x = tensor(args, 0)?;
    takes.check(x.dtype)?;
    Ok(x.clone().into())
}

/// The type of a binary op: both dtypes equal, `out` or else theirs, the shapes broadcast.
pub(super) fn infer_binary(
    args: &[&Type],
    takes: Takes,
    out: Option<DType>,
) -> Result<Type, OpError> {
    let (a, b) = (tensor(args, 0)?, tensor(args, 1)?);
    same_dtype(a, b)?;
    takes.check(a.dtype)?;
    Ok(Type::tensor(
        out.unwrap_or(a.dtype),
        broadcast(&a.shape, &b.shape)?,
    ))
}

/// Refuses two dtypes that differ: conversions are explicit in the IR.
pub(in crate::ops) fn same_dtype(a: &TensorType, b: &TensorType) -> Result<(), OpError> {
    if a.dtype == b.dtype {
        return Ok(());
    }
    fail(format!("dtypes {} and {} differ", a.dtype, b.dtype))
}

/// The n-th argument of an evaluation.
pub(in crate::ops) fn arg<'a>(args: &[&'a Tensor], n: usize) -> Result<&'a Tensor, OpError> {
    match args.get(n) {
        Some(t) => Ok(t),
        None => fail(format!("argument {n} is missing")),
    }
}

/// The elements of a float tensor.
pub(in crate::ops) fn floats(t: &Tensor) -> Result<&[f64], OpError> {
    match t.data() {
        Data::Float(v) => Ok(v),
        Data::Int(_) => fail(format!("takes floats, not {}", t.dtype())),
    }
}

/// The value of an integer element: `u64` is held by its bits.
pub(in crate::ops) fn wide(dtype: DType, x: i64) -> i128 {
    if dtype == DType::U64 {
        i128::from(x as u64)
    } else {
        i128::from(x)
    }
}

/// The elements of an integer or bool tensor by value; of floats, truncated.
pub(in crate::ops) fn ints(t: &Tensor) -> Vec<i128> {
    match t.data() {
        Data::Float(v) => v.iter().map(|&x| x as i128).collect(),
        Data::Int(v) => v.iter().map(|&x| wide(t.dtype(), x)).collect(),
    }
}

/// An integer or bool tensor of these values, wrapped to the dtype.
pub(in crate::ops) fn from_ints(
    dtype: DType,
    shape: Vec<usize>,
    data: impl IntoIterator<Item = i128>,
) -> Result<Tensor, OpError> {
    Tensor::ints(dtype, shape, data.into_iter().map(|x| x as i64).collect())
}

/// The shape in numbers that shapes broadcast to; an error where they don't, or where the result is too large.
pub(in crate::ops) fn broadcast_sizes(a: &[usize], b: &[usize]) -> Result<Vec<usize>, OpError> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| {
        (i + s.len())
            .checked_sub(rank)
            .and_then(|i| s.get(i))
            .copied()
            .unwrap_or(1)
    };
    let sizes = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            (x, y) => fail(format!("sizes {x} and {y} of axis {i} don't broadcast")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    numel(&sizes)?;
    Ok(sizes)
}

/// The tensor repeated to a shape that it broadcasts to.
pub(in crate::ops) fn expand<'a>(
    t: &'a Tensor,
    shape: &[usize],
) -> Result<Cow<'a, Tensor>, OpError> {
    if t.shape() == shape {
        return Ok(Cow::Borrowed(t));
    }
    let mut indices = Vec::with_capacity(numel(shape)?);
    for_each_index(shape, |_, index| {
        indices.push(broadcast_flat(t.shape(), index))
    });
    Ok(Cow::Owned(t.pick(shape.to_vec(), indices.into_iter())?))
}

pub(super) fn eval_unary(
    args: &[&Tensor],
    float: fn(f64) -> f64,
    int: fn(i128) -> i128,
) -> Result<Vec<Tensor>, OpError> {
    let x = arg(args, 0)?;
    let shape = x.shape().to_vec();
    let out = match x.data() {
        Data::Float(v) => Tensor::floats(x.dtype(), shape, v.iter().map(|&x| float(x)).collect())?,
        Data::Int(_) => from_ints(x.dtype(), shape, ints(x).into_iter().map(int))?,
    };
    Ok(vec![out])
}

pub(super) fn eval_floats(args: &[&Tensor], f: fn(f64) -> f64) -> Result<Vec<Tensor>, OpError> {
    floats(arg(args, 0)?)?;
    eval_unary(args, f, |x| x)
}

/// Two arguments expanded to the shape that they broadcast to.
pub(super) fn operands<'a>(
    args: &[&'a Tensor],
) -> Result<(Cow<'a, Tensor>, Cow<'a, Tensor>), OpError> {
    let (a, b) = (arg(args, 0)?, arg(args, 1)?);
    let shape = broadcast_sizes(a.shape(), b.shape())?;
    Ok((expand(a, &shape)?, expand(b, &shape)?))
}

pub(super) type IntFn = fn(i128, i128) -> Result<i128, &'static str>;

pub(super) fn eval_binary(
    args: &[&Tensor],
    float: fn(f64, f64) -> f64,
    int: IntFn,
) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = operands(args)?;
    let shape = a.shape().to_vec();
    let out = match (a.data(), b.data()) {
        (Data::Float(x), Data::Float(y)) => Tensor::floats(
            a.dtype(),
            shape,
            x.iter().zip(y).map(|(&x, &y)| float(x, y)).collect(),
        )?,
        _ => {
            let data: Result<Vec<i128>, _> = ints(&a)
                .into_iter()
                .zip(ints(&b))
                .map(|(x, y)| int(x, y))
                .collect();
            from_ints(a.dtype(), shape, data.or_else(fail)?)?
        }
    };
    Ok(vec![out])
}

pub(super) fn eval_compare(
    args: &[&Tensor],
    float: fn(&f64, &f64) -> bool,
    int: fn(&i128, &i128) -> bool,
) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = operands(args)?;
    let data: Vec<i64> = match (a.data(), b.data()) {
        (Data::Float(x), Data::Float(y)) => x
            .iter()
            .zip(y)
            .map(|(x, y)| i64::from(float(x, y)))
            .collect(),
        _ => ints(&a)
            .iter()
            .zip(&ints(&b))
            .map(|(x, y)| i64::from(int(x, y)))
            .collect(),
    };
    Ok(vec![Tensor::ints(DType::Bool, a.shape().to_vec(), data)?])
}

/// One instruction `AsType`.
pub(in crate::ops) fn as_type(from: Operand, dtype: DType, to: Operand) -> Inst {
    Inst::new("AsType")
        .tensor("x", from)
        .with("scalar_type", Field::DType(dtype))
        .tensor("out", to)
}

pub(super) fn unary(node: &'static str, x: Operand, out: Operand) -> Inst {
    Inst::new(node).tensor("x", x).tensor("out", out)
}

pub(super) fn binary(node: &'static str, a: Operand, b: Operand, out: Operand) -> Inst {
    Inst::new(node)
        .tensor("a", a)
        .tensor("b", b)
        .tensor("out", out)
}

/// The dtype of the n-th argument of a lowering.
pub(in crate::ops) fn arg_dtype(cx: &LowerCx<'_>, n: usize) -> Result<DType, OpError> {
    match cx.arg(n) {
        Some(t) => Ok(t.dtype),
        None => fail(format!("argument {n} is not a tensor")),
    }
}

/// A number as an element of an integer dtype: truncated and wrapped, at the ends of 64 bits where it is beyond, 0 for NaN.
fn truncate(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::Bool => i64::from(x != 0.0),
        DType::U64 if x >= 0.0 => (x as u64) as i64,
        _ => x as i64,
    }
}

/// `t` converted to `dtype`.
pub(in crate::ops) fn cast(t: &Tensor, dtype: DType) -> Result<Tensor, OpError> {
    let shape = t.shape().to_vec();
    match t.data() {
        Data::Float(v) if dtype.is_float() => Tensor::floats(dtype, shape, v.clone()),
        Data::Float(v) => Tensor::ints(
            dtype,
            shape,
            v.iter().map(|&x| truncate(dtype, x)).collect(),
        ),
        Data::Int(_) if dtype.is_float() => Tensor::floats(
            dtype,
            shape,
            ints(t).into_iter().map(|x| x as f64).collect(),
        ),
        Data::Int(v) => Tensor::ints(dtype, shape, v.clone()),
    }
}
/// The float dtype to compute in for a result of `dtype`.
pub(in crate::ops) fn wide_float(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}
