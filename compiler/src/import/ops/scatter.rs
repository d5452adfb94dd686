//! Scatter operators that combine what falls on one place.
//!
//! Sums are the IR's own. For products and extremes each place of the axis looks at every source: `out[j] = ⊕ { src[i] : index[i] = j }`, a comparison of all
//! indices with all places, reduced.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

use super::cumulative::{greatest, least};
use super::index::cut;
use super::pointwise::{boolean, done};
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out, promote};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.scatter_reduce.two" => |cx, call| {
            let (index, source) = (call.value(cx, "index")?, call.value(cx, "src")?);
            let kept = call.bool("include_self")?;
            combine(cx, call, index, source, kept)
        },
        "aten.scatter.reduce" => |cx, call| {
            let (index, source) = (call.value(cx, "index")?, call.value(cx, "src")?);
            combine(cx, call, index, source, true)
        },
        "aten.scatter.value_reduce" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
            let value = call.num(cx, "value")?;
            let value = cx.number(&value, cx.build.dtype(x)?)?;
            let shape = cx.build.shape(index)?;
            let source = cx.build.broadcast(value, shape)?;
            combine(cx, call, index, source, true)
        },
        "aten.index_reduce.default" => |cx, call| {
            let (x, index, source) = (
                call.value(cx, "self")?,
                call.value(cx, "index")?,
                call.value(cx, "source")?,
            );
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let shape = cx.build.shape(source)?;
            let mut lined = vec![Dim::from(1i64); shape.len()];
            if let Some(own) = lined.get_mut(axis) {
                *own = cx.build.ty(index)?.numel();
            }
            let index = cx.build.reshape(index, lined)?;
            let index = cx.build.broadcast(index, shape)?;
            let kept = call.bool("include_self")?;
            combine(cx, call, index, source, kept)
        },
        _ => return None,
    })
}

/// Combines what an index puts on one place. An index may leave out the end of an axis; what is there stays.
fn combine(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    index: Value,
    source: Value,
    kept: bool,
) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let own = cx.build.shape(x)?;
    if cx.build.ty(index)?.numel().is(0) {
        return done(Ok(x));
    }
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let (x, index, source) = (
        at_least_1d(cx, x)?,
        at_least_1d(cx, index)?,
        at_least_1d(cx, source)?,
    );
    let dtype = cx.build.dtype(x)?;
    let (shape, index_shape) = (cx.build.shape(x)?, cx.build.shape(index)?);
    if index_shape.len() != shape.len() {
        return invalid("a scatter whose index has other axes than what it writes to");
    }
    let source = cx.build.cast(source, dtype)?;
    let source = cut(cx, source, &index_shape)?;
    // Positions that the index leaves out point nowhere.
    let index = cx.build.cast(index, DType::I64)?;
    let index = fill_up(cx, index, axis, &shape, Scalar::Int(-1))?;
    let source = fill_up(cx, source, axis, &shape, Scalar::Int(0).cast(dtype))?;
    let reduce = call.opt_str("reduce")?.unwrap_or_default();
    let result = match reduce {
        "sum" | "add" | "mean" => summed(cx, x, axis, index, source, kept, reduce == "mean"),
        "prod" | "multiply" => reduced(
            cx,
            x,
            axis,
            index,
            source,
            kept,
            (
                Scalar::Int(1),
                |axes| {
                    op::Prod {
                        axes,
                        keepdim: false,
                    }
                    .into()
                },
                op::Mul {}.into(),
            ),
        ),
        "amax" => reduced(
            cx,
            x,
            axis,
            index,
            source,
            kept,
            (
                least(dtype),
                |axes| {
                    op::Amax {
                        axes,
                        keepdim: false,
                    }
                    .into()
                },
                op::Maximum {}.into(),
            ),
        ),
        "amin" => reduced(
            cx,
            x,
            axis,
            index,
            source,
            kept,
            (
                greatest(dtype),
                |axes| {
                    op::Amin {
                        axes,
                        keepdim: false,
                    }
                    .into()
                },
                op::Minimum {}.into(),
            ),
        ),
        other => invalid(format!("scatter has no reduction `{other}`")),
    }?;
    done(cx.build.reshape(result, own))
}

/// `x` with an axis, if it has none.
fn at_least_1d(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    match cx.build.rank(x)? {
        0 => cx.build.reshape(x, vec![1i64.into()]),
        _ => Ok(x),
    }
}

/// `x` with `value` up to the sizes of `shape`, on every axis but one.
fn fill_up(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    shape: &[Dim],
    value: Scalar,
) -> Result<Value> {
    let own = cx.build.shape(x)?;
    let missing = |n: usize| match n == axis {
        true => Dim::from(0i64),
        false => &shape[n] - &own[n],
    };
    let high: Vec<Dim> = (0..own.len()).map(missing).collect();
    if high.iter().all(|size| size.is(0)) {
        return Ok(x);
    }
    let low = vec![Dim::from(0i64); own.len()];
    cx.build.add(op::Pad { low, high, value }, &[x])
}

/// Sums or means of what falls on one place; `index` is −1 where there is nothing.
fn summed(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    index: Value,
    source: Value,
    kept: bool,
    mean: bool,
) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let shape = cx.build.shape(x)?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let there = cx.build.add(op::Ge {}, &[index, zero])?;
    let index = cx.build.add(op::Maximum {}, &[index, zero])?;
    let start = match kept {
        true => x,
        false => cx.build.full(Scalar::Int(0), dtype, shape.clone())?,
    };
    let sum = add_at(cx, start, axis, index, source)?;
    if kept && !mean {
        return Ok(sum);
    }
    let first = cx
        .build
        .full(Scalar::Int(i64::from(kept)), DType::I64, shape)?;
    let ones = cx.build.cast(there, DType::I64)?;
    let count = cx
        .build
        .add(op::ScatterAdd { axis }, &[first, index, ones])?;
    let hit = cx.build.add(op::Gt {}, &[count, zero])?;
    let result = if mean {
        let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
        let count = cx.build.add(op::Maximum {}, &[count, one])?;
        let count = cx.build.cast(count, dtype)?;
        let division: Op = match dtype.is_float() {
            true => op::Div {}.into(),
            false => op::FloorDiv {}.into(),
        };
        cx.build.add(division, &[sum, count])?
    } else {
        sum
    };
    cx.build.select(hit, result, x)
}

/// `x` with `source` added at an index, one of each other's shape but along `axis`. Booleans are added as or; narrow floats are added in f32 and rounded once.
pub(super) fn add_at(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    index: Value,
    source: Value,
) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let wide = match dtype {
        DType::Bool => DType::I32,
        other => promote::compute_type(other),
    };
    let (x, source) = (cx.build.cast(x, wide)?, cx.build.cast(source, wide)?);
    let sum = cx.build.add(op::ScatterAdd { axis }, &[x, index, source])?;
    cx.build.cast(sum, dtype)
}

/// A neutral element, the reduction over axes, and the combination of two.
type Reduction = (Scalar, fn(Vec<usize>) -> Op, Op);

fn reduced(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    index: Value,
    source: Value,
    kept: bool,
    (neutral, reduce, join): Reduction,
) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let places = cx.build.shape(x)?[axis].clone();
    // Places on a new axis before the sources'.
    let (index, source) = (
        cx.build.unsqueeze(index, axis)?,
        cx.build.unsqueeze(source, axis)?,
    );
    let mut lined = vec![Dim::from(1i64); cx.build.rank(index)?];
    lined[axis] = places.clone();
    let place = cx
        .build
        .arange(0i64.into(), 1i64.into(), places, DType::I64)?;
    let place = cx.build.reshape(place, lined)?;
    let hit = cx.build.add(op::Eq {}, &[index, place])?;
    let neutral = cx.build.scalar(neutral, dtype)?;
    let chosen = cx.build.select(hit, source, neutral)?;
    let result = cx.build.add(reduce(vec![axis + 1]), &[chosen])?;
    let result = cx.build.cast(result, dtype)?;
    if kept {
        return boolean(cx, join, x, result);
    }
    let any = cx.build.add(
        op::Any {
            axes: vec![axis + 1],
            keepdim: false,
        },
        &[hit],
    )?;
    cx.build.select(any, result, x)
}
