//! Reductions over runs of rows, whose lengths or ends are data.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    (target == "aten.segment_reduce.default").then_some(segment_reduce as Handler)
}

/// `segment_reduce`: each run against all rows, with what doesn't belong to it replaced by what changes nothing.
fn segment_reduce(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "data")?;
    let Some(how) = call.opt_str("reduce")? else {
        return invalid("a reduction without a name");
    };
    let (least, identity) = match how {
        "sum" | "mean" => (0.0, 0.0),
        "prod" => (1.0, 1.0),
        "max" => (f64::NEG_INFINITY, f64::NEG_INFINITY),
        "min" => (f64::INFINITY, f64::INFINITY),
        other => return invalid(format!("the reduction `{other}`")),
    };
    let (starts, ends) = bounds(cx, call)?;
    let shape = cx.build.shape(x)?;
    let dtype = cx.build.dtype(x)?;
    // Runs are told for each index of the axes before the one that they divide.
    let column = |runs: &[Dim]| [runs, &[Dim::from(1i64)]].concat();
    let runs = cx.build.shape(ends)?;
    let axis = cx.build.axis(x, call.int("axis")?)?;
    if runs.len() != axis + 1 {
        return unsupported("segments of another axis than the last that their lengths have");
    }
    let length = shape[axis].clone();
    let row = cx
        .build
        .arange(0i64.into(), 1i64.into(), length.clone(), DType::I64)?;
    let (from, to) = (
        cx.build.reshape(starts, column(&runs))?,
        cx.build.reshape(ends, column(&runs))?,
    );
    let (after, before) = (
        cx.build.add(op::Ge {}, &[row, from])?,
        cx.build.add(op::Lt {}, &[row, to])?,
    );
    let own = cx.build.add(op::LogicalAnd {}, &[after, before])?;
    let mut wide = [runs.as_slice(), &[length]].concat();
    wide.resize(shape.len() + 1, Dim::from(1i64));
    let own = cx.build.reshape(own, wide)?;
    let nothing = cx.build.float(identity, dtype)?;
    let rows = cx.build.unsqueeze(x, axis)?;
    let kept = cx.build.select(own, rows, nothing)?;
    let (axes, keepdim) = (vec![axis + 1], false);
    let mut result = match how {
        "sum" | "mean" => cx.build.add(op::Sum { axes, keepdim }, &[kept])?,
        "prod" => cx.build.add(op::Prod { axes, keepdim }, &[kept])?,
        "max" => cx.build.add(op::Amax { axes, keepdim }, &[kept])?,
        _ => cx.build.add(op::Amin { axes, keepdim }, &[kept])?,
    };
    let initial = call.opt_float(cx, "initial")?;
    let start = cx.build.float(initial.unwrap_or(least), dtype)?;
    result = match how {
        "sum" | "mean" => cx.build.plus(result, start)?,
        "prod" => cx.build.times(result, start)?,
        "max" => cx.build.add(op::Maximum {}, &[result, start])?,
        _ => cx.build.add(op::Minimum {}, &[result, start])?,
    };
    if how == "mean" {
        let lengths = cx.build.minus(ends, starts)?;
        let mut wide = runs;
        wide.resize(shape.len(), Dim::from(1i64));
        let lengths = cx.build.reshape(lengths, wide)?;
        let lengths = cx.build.cast(lengths, dtype)?;
        // Nothing over nothing is not a number, as PyTorch has it, unless there is a number to begin with.
        let divisor = match initial {
            None => lengths,
            Some(_) => cx.build.with_float(op::Maximum {}, lengths, 1.0)?,
        };
        result = cx.build.over(result, divisor)?;
    }
    done(Ok(result))
}

/// Where each run starts and where it ends.
fn bounds(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, Value)> {
    if let Some(lengths) = call.opt_value(cx, "lengths")? {
        let lengths = cx.build.cast(lengths, DType::I64)?;
        let Some(axis) = cx.build.rank(lengths)?.checked_sub(1) else {
            return invalid("lengths have an axis");
        };
        let ends = cx.build.add(op::Cumsum { axis }, &[lengths])?;
        return Ok((cx.build.minus(ends, lengths)?, ends));
    }
    let Some(offsets) = call.opt_value(cx, "offsets")? else {
        return unsupported("segments that are neither lengths nor offsets");
    };
    let offsets = cx.build.cast(offsets, DType::I64)?;
    let shape = cx.build.shape(offsets)?;
    let Some((size, before)) = shape.split_last() else {
        return invalid("offsets have an axis");
    };
    let (axis, one) = (before.len(), Dim::from(1i64));
    let starts = cx.build.slice(offsets, axis, 0i64.into(), size - &one)?;
    Ok((starts, cx.build.slice(offsets, axis, one, size.clone())?))
}
