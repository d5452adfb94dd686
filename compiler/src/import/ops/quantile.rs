//! Quantiles: positions between the sorted elements of an axis.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::index::dim_tensor;
use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.quantile.default" | "aten.quantile.scalar" => |cx, call| quantile(cx, call, false),
        "aten.nanquantile.default" | "aten.nanquantile.scalar" => {
            |cx, call| quantile(cx, call, true)
        }
        _ => return None,
    })
}

/// Quantiles along an axis, or of all elements; their own axis comes first. NaN makes a quantile NaN, or is left out (`ignore`).
fn quantile(cx: &mut Importer<'_>, call: &Call<'_>, ignore: bool) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = cx.build.dtype(x)?;
    let (several, q) = match call.tensor("q") {
        Ok(q) => {
            let q = cx.read(q)?;
            (cx.build.rank(q)? == 1, q)
        }
        Err(_) => {
            let q = call.num(cx, "q")?;
            (false, cx.number(&q, dtype)?)
        }
    };
    let q = cx.build.reshape(q, vec![cx.build.ty(q)?.numel()])?;
    let rank = cx.build.rank(x)?;
    // The axis of the elements moves to the end.
    let x = match call.opt_int("dim")? {
        Some(axis) if rank > 0 => {
            let axis = cx.build.axis(x, axis)?;
            let mut perm: Vec<usize> = (0..rank).filter(|n| *n != axis).collect();
            perm.push(axis);
            cx.build.transpose(x, perm)?
        }
        _ => {
            let count = cx.build.ty(x)?.numel();
            cx.build.reshape(x, vec![count])?
        }
    };
    let shape = cx.build.shape(x)?;
    let Some((size, lead)) = shape.split_last() else {
        return invalid("quantiles of a tensor without axes");
    };
    let last = lead.len();
    let sorted = cx.build.add(op::Sort { axis: last }, &[x])?;
    let end = dim_tensor(cx, &(size - &Dim::from(1i64)))?;
    let end = cx.build.cast(end, dtype)?;
    let zero = cx.build.float(0.0, dtype)?;
    let rank = if ignore {
        let count = super::reduce::count_of_numbers(cx, x, last)?;
        let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
        let end = cx.build.add(op::Sub {}, &[count, one])?;
        let end = cx.build.cast(end, dtype)?;
        let rank = cx.build.add(op::Mul {}, &[q, end])?;
        cx.build.add(op::Maximum {}, &[rank, zero])?
    } else {
        // NaN is sorted to the end: there the quantile looks.
        let largest = cx
            .build
            .slice(sorted, last, size - &Dim::from(1i64), size.clone())?;
        let nan = cx.build.add(op::Ne {}, &[largest, largest])?;
        let rank = cx.build.add(op::Mul {}, &[q, end])?;
        cx.build.select(nan, end, rank)?
    };
    let floor = cx.build.add(op::Floor {}, &[rank])?;
    let ceil = cx.build.add(op::Ceil {}, &[rank])?;
    let at = |cx: &mut Importer<'_>, position: Value| -> Result<Value> {
        let position = cx.build.cast(position, DType::I64)?;
        cx.build
            .add(op::TakeAlong { axis: last }, &[sorted, position])
    };
    let result = match call.opt_str("interpolation")?.unwrap_or("linear") {
        "lower" => at(cx, floor)?,
        "higher" => at(cx, ceil)?,
        "nearest" => {
            let nearest = cx.build.add(op::Round {}, &[rank])?;
            at(cx, nearest)?
        }
        way @ ("linear" | "midpoint") => {
            let (low, high) = (at(cx, floor)?, at(cx, ceil)?);
            let weight = if way == "linear" {
                cx.build.add(op::Sub {}, &[rank, floor])?
            } else {
                cx.build.float(0.5, dtype)?
            };
            let gap = cx.build.add(op::Sub {}, &[high, low])?;
            let part = cx.build.add(op::Mul {}, &[gap, weight])?;
            let between = cx.build.add(op::Add {}, &[low, part])?;
            // Two equal infinities have no difference.
            let same = cx.build.add(op::Eq {}, &[low, high])?;
            cx.build.select(same, low, between)?
        }
        other => return invalid(format!("the interpolation `{other}`")),
    };
    let result = if several {
        let mut perm = vec![last];
        perm.extend(0..last);
        cx.build.transpose(result, perm)?
    } else {
        result
    };
    let shape = call.out_shape(0)?;
    done(cx.build.reshape(result, shape))
}
