//! Scatter operators that combine what falls on one place.
//!
//! Sums are the IR's own. For products and extremes each place of the axis looks at every source: `out[j] = ⊕ { src[i] : index[i] = j }`, a comparison of all
//! indices with all places, reduced.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

use super::cumulative::{greatest, least};
use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

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

fn combine(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    index: Value,
    source: Value,
    kept: bool,
) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = cx.build.dtype(x)?;
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let (shape, index_shape) = (cx.build.shape(x)?, cx.build.shape(index)?);
    if shape.is_empty()
        || (0..shape.len()).any(|n| n != axis && index_shape.get(n) != Some(&shape[n]))
    {
        return unsupported("a scatter whose index covers only part of the other axes");
    }
    let mut source = cx.build.cast(source, dtype)?;
    for (n, size) in index_shape.iter().enumerate() {
        source = cx.build.slice(source, n, 0i64.into(), size.clone())?;
    }
    let reduce = call.opt_str("reduce")?.unwrap_or_default();
    let zero = cx.build.scalar(Scalar::Int(0), dtype)?;
    match reduce {
        "sum" | "add" | "mean" => {
            let start = if kept {
                x
            } else {
                cx.build.full(Scalar::Int(0), dtype, shape.clone())?
            };
            let sum = cx
                .build
                .add(op::ScatterAdd { axis }, &[start, index, source])?;
            let ones = cx.build.full(Scalar::Int(1), dtype, index_shape)?;
            let first = cx.build.full(Scalar::Int(i64::from(kept)), dtype, shape)?;
            let count = cx
                .build
                .add(op::ScatterAdd { axis }, &[first, index, ones])?;
            let hit = cx.build.add(op::Gt {}, &[count, zero])?;
            let result = if reduce == "mean" {
                let one = cx.build.scalar(Scalar::Int(1), dtype)?;
                let count = cx.build.add(op::Maximum {}, &[count, one])?;
                let division: Op = if dtype.is_float() {
                    op::Div {}.into()
                } else {
                    op::FloorDiv {}.into()
                };
                cx.build.add(division, &[sum, count])?
            } else {
                sum
            };
            done(if kept {
                Ok(result)
            } else {
                cx.build.select(hit, result, x)
            })
        }
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
    }
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
) -> Result<Vec<Out>> {
    let dtype = cx.build.dtype(x)?;
    let places = cx.build.shape(x)?[axis].clone();
    // Places on a new axis before the sources'.
    let index = cx.build.cast(index, DType::I64)?;
    let size = super::index::dim_tensor(cx, &places)?;
    let index = cx.build.add(op::Remainder {}, &[index, size])?;
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
        return done(cx.build.add(join, &[x, result]));
    }
    let any = cx.build.add(
        op::Any {
            axes: vec![axis + 1],
            keepdim: false,
        },
        &[hit],
    )?;
    done(cx.build.select(any, result, x))
}
