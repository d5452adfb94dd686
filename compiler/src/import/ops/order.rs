//! Sorting and selection by rank.
//!
//! The IR sorts ascending and stably. A descending order that is stable too is the mirror image of the ascending one of the mirrored tensor.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
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
            let chosen = extremes(cx, x, axis, call.dim("k")?, call.bool("largest")?)?;
            let values = cx.build.add(op::TakeAlong { axis }, &[x, chosen])?;
            Ok(vec![values.into(), chosen.into()])
        },
        "kthvalue" => |cx, call| {
            let k = call.int("k")?;
            ranked(cx, call, Rank::At(k.saturating_sub(1)))
        },
        "median" => |cx, call| ranked(cx, call, Rank::Middle),
        "nanmedian" => |cx, call| ranked(cx, call, Rank::MiddleOfNumbers),
        "mode" => mode,
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
        Some(n) => crate::import::call::Num::Known(Scalar::Int(n)),
        None => crate::import::call::Num::Dim(last),
    };
    let last = cx.number(&number, DType::I64)?;
    cx.build.add(op::Sub {}, &[last, back])
}

/// The positions of the k largest elements, or smallest, the outermost first; a NaN is larger than any number. PyTorch leaves open which of equal elements come first.
fn extremes(cx: &mut Importer<'_>, x: Value, axis: usize, k: Dim, largest: bool) -> Result<Value> {
    let ascending = cx.build.add(op::Argsort { axis }, &[x])?;
    if !largest {
        return cx.build.slice(ascending, axis, 0i64.into(), k);
    }
    let Some(size) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("a 0-d tensor has no order");
    };
    let last = cx.build.slice(ascending, axis, &size - &k, size)?;
    cx.build.add(op::Flip { axes: vec![axis] }, &[last])
}

/// A place in the ascending order of an axis.
enum Rank {
    /// This place, from 0.
    At(i64),
    /// The lower of the two in the middle; the first NaN where there is one.
    Middle,
    /// The same of the elements that are numbers.
    MiddleOfNumbers,
}

/// The element of a rank along an axis, and where it is; without an axis, of all elements.
fn ranked(cx: &mut Importer<'_>, call: &Call<'_>, rank: Rank) -> Result<Vec<Out>> {
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
    let order = cx.build.add(op::Argsort { axis }, &[x])?;
    let middle = (&size - &Dim::from(1i64)).floor_div(&Dim::from(2i64));
    let place = |cx: &mut Importer<'_>, at: Dim| {
        let stop = &at + &Dim::from(1i64);
        cx.build.slice(order, axis, at, stop)
    };
    let is_float = cx.build.dtype(x)?.is_float();
    let position = match rank {
        Rank::At(at) => place(cx, at.into())?,
        _ if !is_float => place(cx, middle)?,
        _ => {
            // NaN is last: the first one stands at the number of numbers.
            let count = super::reduce::count_of_numbers(cx, x, axis)?;
            let at = if matches!(rank, Rank::Middle) {
                let middle = super::index::dim_tensor(cx, &middle)?;
                let size = super::index::dim_tensor(cx, &size)?;
                let all = cx.build.add(op::Eq {}, &[count, size])?;
                cx.build.select(all, middle, count)?
            } else {
                let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
                let two = cx.build.scalar(Scalar::Int(2), DType::I64)?;
                let count = cx.build.add(op::Maximum {}, &[count, one])?;
                let before = cx.build.add(op::Sub {}, &[count, one])?;
                cx.build.add(op::FloorDiv {}, &[before, two])?
            };
            cx.build.add(op::TakeAlong { axis }, &[order, at])?
        }
    };
    picked(cx, call, x, axis, position)
}

/// The elements of `x` at positions of an axis that the result leaves out or keeps as size 1, and the positions where they are asked for.
fn picked(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: Value,
    axis: usize,
    position: Value,
) -> Result<Vec<Out>> {
    let value = cx.build.add(op::TakeAlong { axis }, &[x, position])?;
    let shape = call.out_shape(0)?;
    let value = cx.build.reshape(value, shape.clone())?;
    if call.out_names().len() < 2 {
        return done(Ok(value));
    }
    let position = cx.build.reshape(position, shape)?;
    Ok(vec![value.into(), position.into()])
}

/// The most frequent element along an axis, the least of several, and where it stands last.
fn mode(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let rank = cx.build.rank(x)?;
    if rank == 0 {
        let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
        return Ok(vec![x.into(), zero.into()]);
    }
    let keepdim = true;
    let sorted = cx.build.add(op::Sort { axis }, &[x])?;
    let rows = cx.build.unsqueeze(sorted, axis + 1)?;
    let columns = cx.build.unsqueeze(sorted, axis)?;
    let same = cx.build.add(op::Eq {}, &[rows, columns])?;
    let axes = vec![axis + 1];
    let often = cx.build.add(
        op::Sum {
            axes,
            keepdim: false,
        },
        &[same],
    )?;
    let at = cx.build.add(op::Argmax { axis, keepdim }, &[often])?;
    let value = cx.build.add(op::TakeAlong { axis }, &[sorted, at])?;
    let hit = cx.build.add(op::Eq {}, &[x, value])?;
    let hit = cx.build.cast(hit, DType::U8)?;
    let mirrored = cx.build.add(op::Flip { axes: vec![axis] }, &[hit])?;
    let from_end = cx.build.add(op::Argmax { axis, keepdim }, &[mirrored])?;
    let Some(size) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("a 0-d tensor has no order");
    };
    let last = super::index::dim_tensor(cx, &(&size - &Dim::from(1i64)))?;
    let position = cx.build.add(op::Sub {}, &[last, from_end])?;
    picked(cx, call, x, axis, position)
}
