//! Numbers known while compiling: arithmetic on `full`, on `arange` and on integers computed from sizes.

use super::{Builder, Rewrite, Rule};
use fuseline_ir::ops::{EvalCx, create};
use fuseline_ir::{DType, Dim, Op, OpError, Scalar, Tensor, TensorType, Type, Value};
use std::collections::BTreeMap;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "literal-pointwise",
        doc: "f(full a, full b) -> full f(a, b)",
        apply: pointwise,
    },
    Rule {
        name: "literal-movement",
        doc: "reshape, transpose, broadcast, slice, flip or cat of one number -> full of the result's type",
        apply: movement,
    },
    Rule {
        name: "int-tensor-literal",
        doc: "int_tensor(n) of a known n -> full n",
        apply: int_tensor,
    },
    Rule {
        name: "int-tensor-arithmetic",
        doc: "int_tensor(a) + int_tensor(b) -> int_tensor(a + b), also −, · and full; casts between i32 and i64",
        apply: int_arithmetic,
    },
    Rule {
        name: "arange-arithmetic",
        doc: "arange + n, arange · n, −arange, slice, flip and integer cast of arange -> arange",
        apply: arange,
    },
];

/// The reference evaluation on one element: what the op does to each element.
fn pointwise(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    if !Builder::is_pointwise(op) || args.is_empty() {
        return Ok(None);
    }
    let Some(numbers) = args
        .iter()
        .map(|a| Some((b.literal(*a)?, b.dtype(*a)?)))
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let Some(Type::Tensor(out)) = b.infer(op, args) else {
        return Ok(None);
    };
    match evaluated(op, &numbers, out.dtype)? {
        Some(result) => b.full(result, out).map(Some),
        None => Ok(None),
    }
}

/// What a pointwise op makes of numbers of these dtypes. `None` where it can't be computed (an integer divided by zero): that fails where it always did, when it runs.
pub(super) fn evaluated(
    op: &Op,
    numbers: &[(Scalar, DType)],
    out: DType,
) -> Result<Option<Scalar>, OpError> {
    let types: Vec<Type> = numbers
        .iter()
        .map(|(_, d)| Type::tensor(*d, vec![]))
        .collect();
    let tensors = numbers
        .iter()
        .map(|(s, d)| Tensor::from_fn(*d, vec![], |_| *s))
        .collect::<Result<Vec<_>, _>>()?;
    let types: Vec<&Type> = types.iter().collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let element = Type::tensor(out, vec![]);
    let cx = EvalCx {
        symbols: &BTreeMap::new(),
        args: &types,
        out: &element,
    };
    let Ok(results) = op.eval(&cx, &tensors) else {
        return Ok(None);
    };
    let result = results.first().filter(|r| r.len() == 1);
    Ok(result.map(|r| r.get(0)))
}

fn movement(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    if !matches!(
        op,
        Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Broadcast(_)
            | Op::Slice(_)
            | Op::Flip(_)
            | Op::Cat(_)
    ) {
        return Ok(None);
    }
    let Some(first) = args.first().and_then(|a| b.literal(*a)) else {
        return Ok(None);
    };
    if !args.iter().all(|a| b.literal(*a) == Some(first)) {
        return Ok(None);
    }
    match b.infer(op, args) {
        Some(Type::Tensor(out)) => b.full(first, out).map(Some),
        _ => Ok(None),
    }
}

fn int_tensor(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    match (op, args.first().map(|a| b.ty(*a))) {
        (Op::IntTensor(t), Some(Type::Int(d))) => match d.as_const() {
            Some(n) => b.scalar(Scalar::Int(n), t.dtype).map(Some),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The integer that a 0-d tensor of `i32` or `i64` holds, where it is known as an expression.
fn integer(b: &Builder, v: Value) -> Option<Dim> {
    let ty = b.tensor(v)?;
    if ty.rank() != 0 || !matches!(ty.dtype, DType::I32 | DType::I64) {
        return None;
    }
    match b.op(v) {
        Op::Full(full) => match full.value {
            Scalar::Int(n) => Some(Dim::from(n)),
            _ => None,
        },
        Op::IntTensor(_) => match b.ty(b.arg(v, 0)) {
            Type::Int(d) => Some(d.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn combine(op: &Op, x: &Dim, y: &Dim) -> Option<Dim> {
    match op {
        Op::Add(_) => Some(x + y),
        Op::Sub(_) => Some(x - y),
        Op::Mul(_) => Some(x * y),
        _ => None,
    }
}

/// Exact for what sizes can be: they stay far from the ends of `i32`, as do sums and products that are used as sizes and positions.
fn int_arithmetic(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (value, dtype) = match (op, args) {
        (Op::Cast(c), [x]) if matches!(c.dtype, DType::I32 | DType::I64) => {
            (integer(b, *x), c.dtype)
        }
        (Op::Neg(_), [x]) => (
            integer(b, *x).map(|d| -&d),
            b.dtype(*x).unwrap_or(DType::I64),
        ),
        (_, [x, y]) => {
            let value = integer(b, *x)
                .zip(integer(b, *y))
                .and_then(|(x, y)| combine(op, &x, &y));
            (value, b.dtype(*x).unwrap_or(DType::I64))
        }
        _ => return Ok(None),
    };
    let Some(value) = value else { return Ok(None) };
    let n = b.add(create::Size { value }, &[])?;
    b.add(create::IntTensor { dtype }, &[n]).map(Some)
}

/// The `arange` that makes a value.
fn progression(b: &Builder, v: Value) -> Option<create::Arange> {
    match b.op(v) {
        Op::Arange(a) => Some(a.clone()),
        _ => None,
    }
}

/// Exact: integers wrap alike whether a step is added before or after.
fn arange(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let made = match (op, args) {
        (Op::Cast(c), [x]) if c.dtype.is_int() => progression(b, *x)
            .filter(|a| c.dtype.size() <= a.dtype.size())
            .map(|a| create::Arange {
                dtype: c.dtype,
                ..a
            }),
        (Op::Neg(_), [x]) => progression(b, *x).map(|a| create::Arange {
            start: -&a.start,
            step: -&a.step,
            ..a
        }),
        (Op::Slice(s), [x]) => progression(b, *x).and_then(|a| {
            let len = b.infer(op, args)?.as_tensor()?.shape.first()?.clone();
            Some(create::Arange {
                start: &a.start + &(&a.step * &s.start),
                step: &a.step * &Dim::from(s.step),
                len,
                dtype: a.dtype,
            })
        }),
        (Op::Flip(f), [x]) if f.axes == [0] => progression(b, *x).map(|a| {
            let last = &a.len - &Dim::from(1i64);
            create::Arange {
                start: &a.start + &(&a.step * &last),
                step: -&a.step,
                ..a
            }
        }),
        (Op::Add(_) | Op::Sub(_) | Op::Mul(_), [x, y]) => {
            match (progression(b, *x), progression(b, *y)) {
                (Some(a), None) => shifted(b, op, &a, *y),
                (None, Some(a)) if !matches!(op, Op::Sub(_)) => shifted(b, op, &a, *x),
                _ => None,
            }
        }
        _ => None,
    };
    // A step of 0 is no arange.
    match made.map(Op::from).filter(|a| b.infer(a, &[]).is_some()) {
        Some(a) => b.add(a, &[]).map(Some),
        None => Ok(None),
    }
}

/// `a op n` for an `n` of one element that is known as an integer.
fn shifted(b: &Builder, op: &Op, a: &create::Arange, n: Value) -> Option<create::Arange> {
    let n = match (b.literal(n), b.tensor(n)?) {
        (Some(Scalar::Int(n)), TensorType { shape, .. })
            if shape.len() <= 1 && shape.iter().all(|d| d.is(1)) =>
        {
            Dim::from(n)
        }
        _ => integer(b, n)?,
    };
    Some(create::Arange {
        start: combine(op, &a.start, &n)?,
        step: if matches!(op, Op::Mul(_)) {
            &a.step * &n
        } else {
            a.step.clone()
        },
        ..a.clone()
    })
}
