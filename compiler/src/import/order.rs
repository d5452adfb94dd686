//! Sorting and selection by rank.
//!
//! The IR sorts ascending and stably. A descending order that is stable too is the mirror image of the ascending one of the mirrored tensor.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::call::Call;
use super::error::{Result, invalid, unsupported};
use super::pointwise::done;
use super::{Handler, Importer, Out};

pub(super) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "sort" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let descending = call.bool("descending")?;
            if cx.build.rank(x)? == 0 {
                let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
                return Ok(vec![x.into(), zero.into()]);
            }
            let order = order(cx, x, axis, descending)?;
            let mut values = cx.build.add(op::Sort { axis }, &[x])?;
            if descending {
                values = cx.build.add(op::Flip { axes: vec![axis] }, &[values])?;
            }
            Ok(vec![values.into(), order.into()])
        },
        "argsort" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = cx.build.axis(x, call.int("dim")?)?;
            if cx.build.rank(x)? == 0 {
                return done(cx.build.scalar(Scalar::Int(0), DType::I64));
            }
            done(order(cx, x, axis, call.bool("descending")?))
        },
        "msort" => |cx, call| {
            let x = call.value(cx, "self")?;
            if cx.build.rank(x)? == 0 {
                return done(Ok(x));
            }
            done(cx.build.add(op::Sort { axis: 0 }, &[x]))
        },
        "topk" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = cx.build.axis(x, call.int("dim")?)?;
            if cx.build.rank(x)? == 0 {
                let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
                return Ok(vec![x.into(), zero.into()]);
            }
            let order = order(cx, x, axis, call.bool("largest")?)?;
            let first = cx.build.slice(order, axis, 0i64.into(), call.dim("k")?)?;
            let values = cx.build.add(op::TakeAlong { axis }, &[x, first])?;
            Ok(vec![values.into(), first.into()])
        },
        "kthvalue" => |cx, call| {
            let k = call.int("k")?;
            ranked(cx, call, |_| Ok(Dim::from(k - 1)))
        },
        "median" | "nanmedian" => |cx, call| {
            if call.target.contains("nanmedian") {
                return unsupported("a median that skips NaN");
            }
            ranked(cx, call, |size| {
                Ok((size - &Dim::from(1i64)).floor_div(&Dim::from(2i64)))
            })
        },
        _ => return None,
    })
}

/// Positions that sort `x`, equal elements in their order.
fn order(cx: &mut Importer<'_>, x: Value, axis: usize, descending: bool) -> Result<Value> {
    if !descending {
        return cx.build.add(op::Argsort { axis }, &[x]);
    }
    let flip = |cx: &mut Importer<'_>, x: Value| cx.build.add(op::Flip { axes: vec![axis] }, &[x]);
    let mirrored = flip(cx, x)?;
    let ascending = cx.build.add(op::Argsort { axis }, &[mirrored])?;
    let back = flip(cx, ascending)?;
    let Some(size) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("a 0-d tensor has no order");
    };
    let last = &size - &Dim::from(1i64);
    let number = match last.as_const() {
        Some(n) => super::call::Num::Known(Scalar::Int(n)),
        None => super::call::Num::Dim(last),
    };
    let last = cx.number(&number, DType::I64)?;
    cx.build.add(op::Sub {}, &[last, back])
}

/// The element of a rank along an axis, and where it is; without an axis, of all elements.
fn ranked(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    rank: impl FnOnce(&Dim) -> Result<Dim>,
) -> Result<Vec<Out>> {
    let mut x = call.value(cx, "self")?;
    let has_axis = call
        .schema
        .is_some_and(|schema| schema.arg("dim").is_some());
    if !has_axis || cx.build.rank(x)? == 0 {
        x = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
    }
    let axis = if has_axis {
        cx.build.axis(x, call.int("dim")?)?
    } else {
        0
    };
    let Some(size) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("a 0-d tensor has no order");
    };
    let at = rank(&size)?;
    let order = cx.build.add(op::Argsort { axis }, &[x])?;
    let stop = &at + &Dim::from(1i64);
    let position = cx.build.slice(order, axis, at, stop)?;
    let value = cx.build.add(op::TakeAlong { axis }, &[x, position])?;
    let shape = call.out_shape(0)?;
    let value = cx.build.reshape(value, shape.clone())?;
    if call.out_names().len() < 2 {
        return done(Ok(value));
    }
    let position = cx.build.reshape(position, shape)?;
    Ok(vec![value.into(), position.into()])
}
