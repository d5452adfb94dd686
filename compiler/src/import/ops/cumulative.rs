//! Running operators along an axis, for those that the IR has no op for.
//!
//! A running combination of n elements takes ⌈log₂ n⌉ steps: in step k each element is combined with the one 2ᵏ before it. A dynamic n is bounded by the
//! upper end of its range.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "cumprod" => |cx, call| {
            let (x, axis) = input(cx, call)?;
            let Some(axis) = axis else { return done(Ok(x)) };
            let one = Scalar::Int(1);
            let result = running(cx, vec![(x, one)], axis, &|cx, before, now| {
                Ok(vec![cx.build.add(op::Mul {}, &[before[0], now[0]])?])
            })?;
            done(first(result))
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

/// Combines two sets of running values, the earlier ones first.
type Combine<'f> = &'f dyn Fn(&mut Importer<'_>, &[Value], &[Value]) -> Result<Vec<Value>>;

/// Combines each position of an axis with all before it. Values come with the neutral element that stands before the start.
fn running(
    cx: &mut Importer<'_>,
    values: Vec<(Value, Scalar)>,
    axis: usize,
    combine: Combine<'_>,
) -> Result<Vec<Value>> {
    let (mut now, neutral): (Vec<Value>, Vec<Scalar>) = values.into_iter().unzip();
    let shape = match now.first() {
        Some(value) => cx.build.shape(*value)?,
        None => return Ok(now),
    };
    let Some(size) = shape.get(axis).cloned() else {
        return invalid("a running operator along an axis that is not there");
    };
    let most = size.range(&cx.build.graph.symbols).max;
    if most > 1 << 24 {
        return unsupported(format!(
            "a running operator along an axis of `{size}` elements, which has no upper bound"
        ));
    }
    let mut shift = 1;
    while shift < most {
        let mut before = Vec::new();
        for (value, neutral) in now.iter().zip(&neutral) {
            let zero = Dim::from(0i64);
            let mut low = vec![zero.clone(); shape.len()];
            low[axis] = Dim::from(shift);
            let pad = op::Pad {
                low,
                high: vec![zero.clone(); shape.len()],
                value: neutral.cast(cx.build.dtype(*value)?),
            };
            let moved = cx.build.add(pad, &[*value])?;
            before.push(cx.build.slice(moved, axis, zero, size.clone())?);
        }
        now = combine(cx, &before, &now)?;
        shift *= 2;
    }
    Ok(now)
}

/// Running extremes and their positions: of equal ones the last, and NaN from its first place on.
fn extreme(cx: &mut Importer<'_>, call: &Call<'_>, largest: bool) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = cx.build.dtype(x)?;
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
    let bound = if largest {
        least(dtype)
    } else {
        greatest(dtype)
    };
    let start = vec![(x, bound), (positions, Scalar::Int(0))];
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
