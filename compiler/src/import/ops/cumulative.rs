//! Running operators along an axis, for those that the IR has no op for.
//!
//! A running combination of n elements takes ⌈log₂ n⌉ steps: in step k each element is combined with the one 2ᵏ before it. A dynamic n is bounded by the
//! upper end of its range; where that has none, or one too far, every element looks at all before it, n² of them.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "cumprod" => |cx, call| {
            let (x, axis) = input(cx, call)?;
            let Some(axis) = axis else { return done(Ok(x)) };
            // Narrow floats are multiplied in f32 and rounded once.
            let dtype = cx.build.dtype(x)?;
            let x = cx.build.cast(x, promote::compute_type(dtype))?;
            if unbounded(cx, x, axis)? {
                let before = prefixes(cx, x, axis, Scalar::Int(1))?;
                let (axes, keepdim) = (vec![axis + 1], false);
                let product = cx.build.add(op::Prod { axes, keepdim }, &[before])?;
                return done(cx.build.cast(product, call.out_dtype(0)?));
            }
            let one = Some(Scalar::Int(1));
            let result = running(cx, vec![(x, one)], axis, &|cx, before, now| {
                Ok(vec![cx.build.add(op::Mul {}, &[before[0], now[0]])?])
            })?;
            let result = first(result)?;
            done(cx.build.cast(result, dtype))
        },
        "logcumsumexp" | "_logcumsumexp" => |cx, call| {
            let x = call.value(cx, "self")?;
            let dtype = promote::to_float(cx.build.dtype(x)?);
            let x = cx.build.cast(x, promote::compute_type(dtype))?;
            if cx.build.rank(x)? == 0 {
                return done(cx.build.cast(x, dtype));
            }
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let lowest = Scalar::float(f64::NEG_INFINITY);
            if unbounded(cx, x, axis)? {
                let before = prefixes(cx, x, axis, lowest)?;
                let sum = super::reduce::log_sum_exp(cx, before, vec![axis + 1], false)?;
                return done(cx.build.cast(sum, dtype));
            }
            let lowest = Some(lowest);
            let result = running(cx, vec![(x, lowest)], axis, &|cx, before, now| {
                Ok(vec![cx.build.add(op::LogAddExp {}, &[before[0], now[0]])?])
            })?;
            let result = first(result)?;
            done(cx.build.cast(result, dtype))
        },
        "cummax" => |cx, call| extreme(cx, call, true),
        "cummin" => |cx, call| extreme(cx, call, false),
        _ => return None,
    })
}

fn first(values: Vec<Value>) -> Result<Value> {
    match values.first() {
        Some(value) => Ok(*value),
        None => invalid("a running operator without a value"),
    }
}

/// The argument in the dtype of the result, and its axis; none for a 0-d tensor.
fn input(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, Option<usize>)> {
    let x = call.value(cx, "self")?;
    let x = cx.build.cast(x, call.out_dtype(0)?)?;
    let axis = cx.build.axis(x, call.int("dim")?)?;
    Ok((x, (cx.build.rank(x)? > 0).then_some(axis)))
}

/// Whether an axis may be too long to be gone through by doubling.
fn unbounded(cx: &Importer<'_>, x: Value, axis: usize) -> Result<bool> {
    let shape = cx.build.shape(x)?;
    let most = |size: &Dim| size.range(&cx.build.graph.symbols).max;
    Ok(shape.get(axis).is_some_and(|size| most(size) > 1 << 24))
}

/// For each place of an axis all elements up to it, on a new axis behind; `neutral` for those after it.
fn prefixes(cx: &mut Importer<'_>, x: Value, axis: usize, neutral: Scalar) -> Result<Value> {
    let (shape, dtype) = (cx.build.shape(x)?, cx.build.dtype(x)?);
    let mut place = |behind: usize| -> Result<Value> {
        let mut lined = vec![Dim::from(1i64); shape.len() + 1];
        lined[axis + behind] = shape[axis].clone();
        let count = cx
            .build
            .arange(0i64.into(), 1i64.into(), shape[axis].clone(), DType::I64)?;
        cx.build.reshape(count, lined)
    };
    let (row, column) = (place(0)?, place(1)?);
    let until = cx.build.add(op::Ge {}, &[row, column])?;
    let columns = cx.build.unsqueeze(x, axis)?;
    let neutral = cx.build.scalar(neutral, dtype)?;
    cx.build.select(until, columns, neutral)
}

/// Combines two sets of running values, the earlier ones first.
type Combine<'f> = &'f dyn Fn(&mut Importer<'_>, &[Value], &[Value]) -> Result<Vec<Value>>;

/// Combines each position of an axis with all before it. Values come with the neutral element that stands before the start; without one, the first element is
/// neutral beside what begins with it.
fn running(
    cx: &mut Importer<'_>,
    values: Vec<(Value, Option<Scalar>)>,
    axis: usize,
    combine: Combine<'_>,
) -> Result<Vec<Value>> {
    let (mut now, neutral): (Vec<Value>, Vec<Option<Scalar>>) = values.into_iter().unzip();
    let shape = match now.first() {
        Some(value) => cx.build.shape(*value)?,
        None => return Ok(now),
    };
    let Some(size) = shape.get(axis).cloned() else {
        return invalid("a running operator along an axis that is not there");
    };
    let most = size.range(&cx.build.graph.symbols).max;
    let mut shift = 1;
    while shift < most {
        let mut before = Vec::new();
        for (value, neutral) in now.iter().zip(&neutral) {
            let ty = cx.build.ty(*value)?.clone();
            let mut shape = ty.shape;
            shape[axis] = Dim::from(shift);
            let first = match neutral {
                Some(neutral) => cx.build.full(*neutral, ty.dtype, shape)?,
                None => {
                    let first = cx.build.slice(*value, axis, 0i64.into(), 1i64.into())?;
                    cx.build.broadcast(first, shape)?
                }
            };
            let moved = cx.build.cat(&[first, *value], axis)?;
            before.push(cx.build.slice(moved, axis, 0i64.into(), size.clone())?);
        }
        now = combine(cx, &before, &now)?;
        shift *= 2;
    }
    Ok(now)
}

/// Running extremes and their positions: of equal ones the last, and NaN from its first place on.
fn extreme(cx: &mut Importer<'_>, call: &Call<'_>, largest: bool) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let shape = cx.build.shape(x)?;
    if shape.is_empty() {
        let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
        return Ok(vec![x.into(), zero.into()]);
    }
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let count = cx
        .build
        .arange(0i64.into(), 1i64.into(), shape[axis].clone(), DType::I64)?;
    let mut lined = vec![Dim::from(1i64); shape.len()];
    lined[axis] = shape[axis].clone();
    let count = cx.build.reshape(count, lined)?;
    let positions = cx.build.broadcast(count, shape)?;
    if unbounded(cx, x, axis)? {
        return extreme_of_all(cx, x, axis, positions, largest);
    }
    let start = vec![(x, None), (positions, None)];
    let result = running(cx, start, axis, &|cx, before, now| {
        let [(old, old_at), (new, new_at)] = [(before[0], before[1]), (now[0], now[1])];
        let wins = if largest {
            cx.build.add(op::Ge {}, &[new, old])?
        } else {
            cx.build.add(op::Le {}, &[new, old])?
        };
        let nan = cx.build.add(op::Ne {}, &[new, new])?;
        let wins = cx.build.add(op::LogicalOr {}, &[wins, nan])?;
        Ok(vec![
            cx.build.select(wins, new, old)?,
            cx.build.select(wins, new_at, old_at)?,
        ])
    })?;
    Ok(result.into_iter().map(Out::Value).collect())
}

/// The same where each element looks at all before it.
fn extreme_of_all(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    positions: Value,
    largest: bool,
) -> Result<Vec<Out>> {
    let dtype = cx.build.dtype(x)?;
    let (axes, keepdim) = (vec![axis + 1], true);
    let (bound, reduce): (Scalar, Op) = match largest {
        true => (least(dtype), op::Amax { axes, keepdim }.into()),
        false => (greatest(dtype), op::Amin { axes, keepdim }.into()),
    };
    let before = prefixes(cx, x, axis, bound)?;
    let values = cx.build.add(reduce, &[before])?;
    let equal = cx.build.add(op::Eq {}, &[before, values])?;
    let nan = cx.build.add(op::Ne {}, &[before, before])?;
    let hit = cx.build.add(op::LogicalOr {}, &[equal, nan])?;
    let positions = prefixes(cx, positions, axis, Scalar::Int(-1))?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let hit = cx.build.select(hit, positions, zero)?;
    let (axes, keepdim) = (vec![axis + 1], false);
    let last = cx.build.add(op::Amax { axes, keepdim }, &[hit])?;
    let shape = cx.build.shape(x)?;
    Ok(vec![cx.build.reshape(values, shape)?.into(), last.into()])
}

/// The least value of a dtype: what a maximum ignores.
pub(in crate::import) fn least(dtype: DType) -> Scalar {
    match dtype {
        DType::I8 => Scalar::Int(i64::from(i8::MIN)),
        DType::I16 => Scalar::Int(i64::from(i16::MIN)),
        DType::I32 => Scalar::Int(i64::from(i32::MIN)),
        DType::I64 => Scalar::Int(i64::MIN),
        dtype if dtype.is_float() => Scalar::float(f64::NEG_INFINITY),
        _ => Scalar::Int(0),
    }
}

/// The greatest value of a dtype: what a minimum ignores.
pub(in crate::import) fn greatest(dtype: DType) -> Scalar {
    match dtype {
        DType::Bool => Scalar::Bool(true),
        DType::U8 => Scalar::Int(i64::from(u8::MAX)),
        DType::I8 => Scalar::Int(i64::from(i8::MAX)),
        DType::U16 => Scalar::Int(i64::from(u16::MAX)),
        DType::I16 => Scalar::Int(i64::from(i16::MAX)),
        DType::U32 => Scalar::Int(i64::from(u32::MAX)),
        DType::I32 => Scalar::Int(i64::from(i32::MAX)),
        DType::U64 => Scalar::Int(-1),
        DType::I64 => Scalar::Int(i64::MAX),
        _ => Scalar::float(f64::INFINITY),
    }
}
