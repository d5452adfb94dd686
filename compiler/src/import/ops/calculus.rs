//! Differences, slopes and areas between neighbours along an axis.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

use super::pointwise::{Arg, done, to_common};
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "diff" => diff,
        "trapezoid" | "trapz" => |cx, call| {
            let (areas, axis) = areas(cx, call)?;
            let (axes, keepdim) = (vec![axis], false);
            let sum = cx.build.add(op::Sum { axes, keepdim }, &[areas])?;
            done(cx.build.cast(sum, call.out_dtype(0)?))
        },
        "cumulative_trapezoid" => |cx, call| {
            let (areas, axis) = areas(cx, call)?;
            let sum = cx.build.add(op::Cumsum { axis }, &[areas])?;
            done(cx.build.cast(sum, call.out_dtype(0)?))
        },
        "gradient" => gradient,
        _ => return None,
    })
}

/// An axis without its `first` first and its `last` last elements.
fn without(cx: &mut Importer<'_>, x: Value, axis: usize, first: i64, last: i64) -> Result<Value> {
    match cx.build.shape(x)?.get(axis) {
        Some(size) => {
            let stop = size - &Dim::from(last);
            cx.build.slice(x, axis, first.into(), stop)
        }
        None => invalid("neighbours in a 0-d tensor"),
    }
}

/// Differences of neighbours, `n` times; of booleans, whether they differ.
fn diff(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let n = call.int("n")?;
    if n == 0 {
        return done(Ok(x));
    }
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let (prepend, append) = (
        call.opt_value(cx, "prepend")?,
        call.opt_value(cx, "append")?,
    );
    let pieces: Vec<Arg> = [prepend, Some(x), append]
        .into_iter()
        .flatten()
        .map(Arg::Tensor)
        .collect();
    let pieces = to_common(cx, &pieces)?;
    let mut x = cx.build.cat(&pieces, axis)?;
    let op: Op = match cx.build.dtype(x)? {
        DType::Bool => op::Ne {}.into(),
        _ => op::Sub {}.into(),
    };
    for _ in 0..n {
        if cx.build.shape(x)?.get(axis).is_some_and(|size| size.is(0)) {
            break;
        }
        let (left, right) = (without(cx, x, axis, 0, 1)?, without(cx, x, axis, 1, 0)?);
        x = cx.build.add(op.clone(), &[right, left])?;
    }
    done(Ok(x))
}

/// The areas under the lines between neighbours, and their axis.
fn areas(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, usize)> {
    let y = call.value(cx, "y")?;
    let axis = cx.build.axis(y, call.int("dim")?)?;
    let has_positions = call.schema.is_some_and(|schema| schema.arg("x").is_some());
    let width = if has_positions {
        let mut x = call.value(cx, "x")?;
        let (rank, own) = (cx.build.rank(y)?, cx.build.rank(x)?);
        let along = if own == 1 && rank > 1 {
            let mut shape = vec![Dim::from(1i64); rank];
            shape[axis] = cx.build.ty(x)?.numel();
            x = cx.build.reshape(x, shape)?;
            axis
        } else {
            match (axis + own).checked_sub(rank) {
                Some(axis) => axis,
                None => return invalid("positions without the axis of the values"),
            }
        };
        let (left, right) = (without(cx, x, along, 0, 1)?, without(cx, x, along, 1, 0)?);
        Arg::Tensor(cx.build.minus(right, left)?)
    } else {
        Arg::Number(call.num(cx, "dx")?)
    };
    let (left, right) = (without(cx, y, axis, 0, 1)?, without(cx, y, axis, 1, 0)?);
    let sum = cx.build.plus(left, right)?;
    let both = to_common(cx, &[Arg::Tensor(sum), width])?;
    let dtype = promote::to_float(cx.build.dtype(both[0])?);
    let (sum, width) = (
        cx.build.cast(both[0], dtype)?,
        cx.build.cast(both[1], dtype)?,
    );
    let twice = cx.build.times(sum, width)?;
    let areas = cx.build.with_float(op::Mul {}, twice, 0.5)?;
    let axis = (axis + cx.build.rank(areas)?).saturating_sub(cx.build.rank(y)?);
    Ok((areas, axis))
}

/// How far apart the samples along an axis are.
enum Spacing {
    /// All alike.
    Even(f64),
    /// Where each stands, on an axis of its own.
    At(Value),
}

/// Slopes by central differences inside, one-sided ones of order 1 or 2 at the ends; a result for each axis.
fn gradient(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = promote::to_float(cx.build.dtype(x)?);
    let x = cx.build.cast(x, dtype)?;
    let rank = cx.build.rank(x)?;
    let mut axes = Vec::new();
    for axis in call
        .opt_ints("dim")?
        .unwrap_or_else(|| (0..).take(rank).collect())
    {
        axes.push(cx.build.axis(x, axis)?);
    }
    let overload = call.target.rsplit('.').next().unwrap_or_default();
    let spacings: Vec<Spacing> = match overload {
        "array" => axes.iter().map(|_| Spacing::Even(1.0)).collect(),
        "scalarint" | "scalararray" => {
            let even = call.opt_float(cx, "spacing")?.unwrap_or(1.0);
            axes.iter().map(|_| Spacing::Even(even)).collect()
        }
        "scalarrayint" | "scalarrayarray" => {
            let each = call.opt_floats("spacing")?.unwrap_or_default();
            each.into_iter().map(Spacing::Even).collect()
        }
        _ => call
            .values(cx, "spacing")?
            .into_iter()
            .map(Spacing::At)
            .collect(),
    };
    if spacings.len() != axes.len() {
        return invalid("as many spacings as axes are needed");
    }
    let order = call.int("edge_order")?;
    let mut slopes = Vec::new();
    for (axis, spacing) in axes.into_iter().zip(spacings) {
        slopes.push(Out::Value(slope(cx, x, axis, &spacing, order)?));
    }
    Ok(slopes)
}

/// The slope along one axis. With steps d and e before and after a place, that of the parabola through three neighbours a, b, c is
/// −e/(d(d+e))·a + (e−d)/(de)·b + d/(e(d+e))·c.
fn slope(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    spacing: &Spacing,
    order: i64,
) -> Result<Value> {
    let (rank, dtype) = (cx.build.rank(x)?, cx.build.dtype(x)?);
    let Some(size) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("the slope of a 0-d tensor");
    };
    if !(1..=2).contains(&order) {
        return invalid(format!("slopes at the ends of order {order}"));
    }
    let mut shape = vec![Dim::from(1i64); rank];
    let steps = match spacing {
        Spacing::Even(step) => {
            shape[axis] = &size - &Dim::from(1i64);
            cx.build.full(Scalar::float(*step), dtype, shape)?
        }
        Spacing::At(positions) => {
            shape[axis] = size.clone();
            let positions = cx.build.cast(*positions, dtype)?;
            let positions = cx.build.reshape(positions, shape)?;
            let left = without(cx, positions, axis, 0, 1)?;
            let right = without(cx, positions, axis, 1, 0)?;
            cx.build.minus(right, left)?
        }
    };
    let (before, after) = (
        without(cx, steps, axis, 0, 1)?,
        without(cx, steps, axis, 1, 0)?,
    );
    let (a, b, c) = (
        without(cx, x, axis, 0, 2)?,
        without(cx, x, axis, 1, 1)?,
        without(cx, x, axis, 2, 0)?,
    );
    let inside = match spacing {
        Spacing::Even(step) => {
            let gap = cx.build.minus(c, a)?;
            cx.build.with_float(op::Div {}, gap, 2.0 * step)?
        }
        Spacing::At(_) => parabola(cx, [a, b, c], before, after, Place::Middle)?,
    };
    let neighbours =
        |cx: &mut Importer<'_>, x: Value, from: Dim, count: i64| -> Result<Vec<Value>> {
            let at = |n: i64| &from + &Dim::from(n);
            (0..count)
                .map(|n| cx.build.slice(x, axis, at(n), at(n + 1)))
                .collect()
        };
    let mut ends = Vec::new();
    for place in [Place::First, Place::Last] {
        let from = |count: i64, of: i64| match place {
            Place::First => Dim::from(0i64),
            _ => &size - &Dim::from(count + of),
        };
        let end = if order == 1 {
            let values = neighbours(cx, x, from(2, 0), 2)?;
            let step = neighbours(cx, steps, from(1, 1), 1)?;
            let gap = cx.build.minus(values[1], values[0])?;
            cx.build.over(gap, step[0])?
        } else {
            let values = neighbours(cx, x, from(3, 0), 3)?;
            let steps = neighbours(cx, steps, from(2, 1), 2)?;
            parabola(
                cx,
                [values[0], values[1], values[2]],
                steps[0],
                steps[1],
                place,
            )?
        };
        ends.push(end);
    }
    cx.build.cat(&[ends[0], inside, ends[1]], axis)
}

/// Where on three neighbours a slope is asked for.
#[derive(Clone, Copy)]
enum Place {
    First,
    Middle,
    Last,
}

/// The slope of the parabola through three neighbours, `d` and `e` apart.
fn parabola(
    cx: &mut Importer<'_>,
    [a, b, c]: [Value; 3],
    d: Value,
    e: Value,
    place: Place,
) -> Result<Value> {
    let build = &mut cx.build;
    let (both, product) = (build.plus(d, e)?, build.times(d, e)?);
    let (left, right) = (build.times(d, both)?, build.times(e, both)?);
    let (u, v, w) = match place {
        Place::First => {
            let sum = build.plus(d, both)?;
            (
                build.add(op::Neg {}, &[sum])?,
                both,
                build.add(op::Neg {}, &[d])?,
            )
        }
        Place::Middle => (build.add(op::Neg {}, &[e])?, build.minus(e, d)?, d),
        Place::Last => (e, build.add(op::Neg {}, &[both])?, build.plus(e, both)?),
    };
    let mut terms = Vec::new();
    for (x, above, below) in [(a, u, left), (b, v, product), (c, w, right)] {
        let factor = build.over(above, below)?;
        terms.push(build.times(factor, x)?);
    }
    let sum = build.plus(terms[0], terms[1])?;
    build.plus(sum, terms[2])
}
