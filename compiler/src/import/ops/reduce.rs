//! Reductions and cumulative operators.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

use super::movement::sorted_axes;
use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "sum" => |cx, call| accumulated(cx, call, |axes, keepdim| op::Sum { axes, keepdim }.into()),
        "prod" => {
            |cx, call| accumulated(cx, call, |axes, keepdim| op::Prod { axes, keepdim }.into())
        }
        "mean" => |cx, call| {
            let (x, axes, keepdim) = over(cx, call)?;
            let dtype = call.opt_dtype("dtype")?;
            let x = cx.build.cast(x, dtype.unwrap_or(cx.build.dtype(x)?))?;
            done(cx.build.add(op::Mean { axes, keepdim }, &[x]))
        },
        "amax" => |cx, call| plain(cx, call, |axes, keepdim| op::Amax { axes, keepdim }.into()),
        "amin" => |cx, call| plain(cx, call, |axes, keepdim| op::Amin { axes, keepdim }.into()),
        "aminmax" => |cx, call| {
            let (x, axes, keepdim) = over(cx, call)?;
            let low = cx.build.add(
                op::Amin {
                    axes: axes.clone(),
                    keepdim,
                },
                &[x],
            )?;
            let high = cx.build.add(op::Amax { axes, keepdim }, &[x])?;
            Ok(vec![low.into(), high.into()])
        },
        "any" => |cx, call| plain(cx, call, |axes, keepdim| op::Any { axes, keepdim }.into()),
        "all" => |cx, call| plain(cx, call, |axes, keepdim| op::All { axes, keepdim }.into()),
        "_is_all_true" => {
            |cx, call| plain(cx, call, |axes, keepdim| op::All { axes, keepdim }.into())
        }
        "_is_any_true" => {
            |cx, call| plain(cx, call, |axes, keepdim| op::Any { axes, keepdim }.into())
        }
        "max" if overload == "default" => {
            |cx, call| plain(cx, call, |axes, keepdim| op::Amax { axes, keepdim }.into())
        }
        "min" if overload == "default" => {
            |cx, call| plain(cx, call, |axes, keepdim| op::Amin { axes, keepdim }.into())
        }
        "max" if overload == "dim" => |cx, call| extreme(cx, call, true),
        "min" if overload == "dim" => |cx, call| extreme(cx, call, false),
        "argmax" => |cx, call| position(cx, call, true),
        "argmin" => |cx, call| position(cx, call, false),
        "var" | "std" => |cx, call| {
            let out = spread(cx, call, call.target.contains(".std"))?;
            Ok(vec![out.0.into()])
        },
        "var_mean" | "std_mean" => |cx, call| {
            let out = spread(cx, call, call.target.contains("std_mean"))?;
            Ok(vec![out.0.into(), out.1.into()])
        },
        "logsumexp" => |cx, call| {
            let (x, axes, keepdim) = over(cx, call)?;
            let dtype = promote::to_float(cx.build.dtype(x)?);
            let x = cx.build.cast(x, promote::compute_type(dtype))?;
            let sum = log_sum_exp(cx, x, axes, keepdim)?;
            done(cx.build.cast(sum, dtype))
        },
        "linalg_vector_norm" => |cx, call| {
            let ord = call.float(cx, "ord")?;
            let (x, axes, keepdim) = over(cx, call)?;
            let dtype = call
                .opt_dtype("dtype")?
                .unwrap_or(promote::to_float(cx.build.dtype(x)?));
            done(vector_norm(cx, x, ord, axes, keepdim, dtype))
        },
        "norm" => |cx, call| {
            let ord = call.opt_float(cx, "p")?.unwrap_or(2.0);
            let (x, axes, keepdim) = over(cx, call)?;
            let has_dtype = call
                .schema
                .is_some_and(|schema| schema.arg("dtype").is_some());
            let given = if has_dtype {
                call.opt_dtype("dtype")?
            } else {
                None
            };
            let dtype = given.unwrap_or(promote::to_float(cx.build.dtype(x)?));
            done(vector_norm(cx, x, ord, axes, keepdim, dtype))
        },
        "count_nonzero" => |cx, call| {
            let (x, axes, keepdim) = over(cx, call)?;
            let marks = cx.build.cast(x, DType::Bool)?;
            done(cx.build.add(op::Sum { axes, keepdim }, &[marks]))
        },
        "cumsum" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let dtype = call.opt_dtype("dtype")?;
            let x = cx.build.cast(x, dtype.unwrap_or(cx.build.dtype(x)?))?;
            if cx.build.rank(x)? == 0 {
                return done(cx.build.cast(x, call.out_dtype(0)?));
            }
            let sum = cx.build.add(op::Cumsum { axis }, &[x])?;
            done(cx.build.cast(sum, call.out_dtype(0)?))
        },
        "trace" => |cx, call| {
            let x = call.value(cx, "self")?;
            let shape = cx.build.shape(x)?;
            let [rows, columns] = shape.as_slice() else {
                return invalid("the trace of a tensor that is no matrix");
            };
            let index =
                cx.build
                    .arange(0i64.into(), 1i64.into(), rows.minimum(columns), DType::I64)?;
            let diagonal = cx
                .build
                .add(op::Gather { axes: vec![0, 1] }, &[x, index, index])?;
            done(cx.build.add(
                op::Sum {
                    axes: vec![0],
                    keepdim: false,
                },
                &[diagonal],
            ))
        },
        "dist" => |cx, call| {
            let (a, b) = super::pointwise::operands(cx, call)?;
            let p = call.float(cx, "p")?;
            let gap = cx.build.add(op::Sub {}, &[a, b])?;
            let dtype = cx.build.dtype(gap)?;
            let axes = (0..cx.build.rank(gap)?).collect();
            done(vector_norm(cx, gap, p, axes, false, dtype))
        },
        _ => return None,
    })
}

/// The argument `self`, the axes to reduce and `keepdim`. No axes given are all of them.
pub(in crate::import) fn over(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
) -> Result<(Value, Vec<usize>, bool)> {
    let x = call.value(cx, "self")?;
    let rank = cx.build.rank(x)?;
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let given = if has("dim") {
        call.opt_ints("dim")?.unwrap_or_default()
    } else {
        Vec::new()
    };
    let axes = if given.is_empty() {
        (0..rank).collect()
    } else {
        sorted_axes(given, rank)?
    };
    let keepdim = has("keepdim") && call.bool("keepdim")?;
    Ok((x, axes, keepdim))
}

fn plain(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    op: fn(Vec<usize>, bool) -> Op,
) -> Result<Vec<Out>> {
    let (x, axes, keepdim) = over(cx, call)?;
    let result = cx.build.add(op(axes, keepdim), &[x])?;
    done(cx.build.cast(result, call.out_dtype(0)?))
}

/// Sums and products: a given dtype converts before, integers accumulate in i64.
fn accumulated(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    op: fn(Vec<usize>, bool) -> Op,
) -> Result<Vec<Out>> {
    let (x, axes, keepdim) = over(cx, call)?;
    let dtype = call.opt_dtype("dtype")?;
    let x = cx.build.cast(x, dtype.unwrap_or(cx.build.dtype(x)?))?;
    let result = cx.build.add(op(axes, keepdim), &[x])?;
    done(cx.build.cast(result, call.out_dtype(0)?))
}

/// Values and positions of the extremes along one axis.
fn extreme(cx: &mut Importer<'_>, call: &Call<'_>, largest: bool) -> Result<Vec<Out>> {
    let (x, axes, keepdim) = over(cx, call)?;
    let Some(&axis) = axes.first() else {
        let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
        return Ok(vec![x.into(), zero.into()]);
    };
    let axes = vec![axis];
    let value: Op = if largest {
        op::Amax { axes, keepdim }.into()
    } else {
        op::Amin { axes, keepdim }.into()
    };
    let value = cx.build.add(value, &[x])?;
    let at = first_extreme(cx, x, axis, keepdim, largest)?;
    Ok(vec![value.into(), at.into()])
}

/// The position of the first largest or smallest element along an axis; of the first NaN where there is one, which is more than both.
pub(in crate::import) fn first_extreme(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    keepdim: bool,
    largest: bool,
) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    // The IR finds positions of numbers; truth values are numbers here.
    let numbers = match dtype {
        DType::Bool => cx.build.cast(x, DType::U8)?,
        _ => x,
    };
    let at: Op = if largest {
        op::Argmax { axis, keepdim }.into()
    } else {
        op::Argmin { axis, keepdim }.into()
    };
    let found = cx.build.add(at, &[numbers])?;
    if !dtype.is_float() {
        return Ok(found);
    }
    let nan = cx.build.add(op::Ne {}, &[x, x])?;
    let axes = vec![axis];
    let some = cx.build.add(op::Any { axes, keepdim }, &[nan])?;
    let marks = cx.build.cast(nan, DType::U8)?;
    let first = cx.build.add(op::Argmax { axis, keepdim }, &[marks])?;
    cx.build.select(some, first, found)
}

fn position(cx: &mut Importer<'_>, call: &Call<'_>, largest: bool) -> Result<Vec<Out>> {
    let mut x = call.value(cx, "self")?;
    let mut keepdim = call.bool("keepdim")?;
    let rank = cx.build.rank(x)?;
    let axis = match call.opt_int("dim")? {
        Some(axis) if rank > 0 => cx.build.axis(x, axis)?,
        _ => {
            x = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
            keepdim = false;
            0
        }
    };
    let at = first_extreme(cx, x, axis, keepdim, largest)?;
    let out = call.out_shape(0)?;
    done(cx.build.reshape(at, out))
}

/// Variance or standard deviation, and mean.
fn spread(cx: &mut Importer<'_>, call: &Call<'_>, root: bool) -> Result<(Value, Value)> {
    let (x, axes, keepdim) = over(cx, call)?;
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let correction = if has("correction") {
        call.opt_float(cx, "correction")?.unwrap_or(1.0)
    } else {
        f64::from(u8::from(call.bool("unbiased")?))
    };
    let dtype = cx.build.dtype(x)?;
    let x = cx.build.cast(x, promote::compute_type(dtype))?;
    let (mean, squares) = deviations(cx, x, &axes)?;
    let mut result = if correction == 0.0 {
        cx.build.add(
            op::Mean {
                axes: axes.clone(),
                keepdim,
            },
            &[squares],
        )?
    } else {
        let sum = cx.build.add(
            op::Sum {
                axes: axes.clone(),
                keepdim,
            },
            &[squares],
        )?;
        let count = count_of(cx, x, &axes)?;
        let divisor = cx.build.with_float(op::Sub {}, count, correction)?;
        let divisor = cx.build.with_float(op::Maximum {}, divisor, 0.0)?;
        cx.build.add(op::Div {}, &[sum, divisor])?
    };
    if root {
        result = cx.build.add(op::Sqrt {}, &[result])?;
    }
    let shape = cx.build.shape(result)?;
    let mean = cx.build.reshape(mean, shape)?;
    Ok((cx.build.cast(result, dtype)?, cx.build.cast(mean, dtype)?))
}

/// The mean over `axes`, which stay as size 1, and the squares of what each element is away from it.
pub(super) fn deviations(
    cx: &mut Importer<'_>,
    x: Value,
    axes: &[usize],
) -> Result<(Value, Value)> {
    let mean = op::Mean {
        axes: axes.to_vec(),
        keepdim: true,
    };
    let mean = cx.build.add(mean, &[x])?;
    let gap = cx.build.add(op::Sub {}, &[x, mean])?;
    Ok((mean, cx.build.add(op::Square {}, &[gap])?))
}

/// How many elements of `x` along `axis`, which stays as size 1, are numbers: int64.
pub(super) fn count_of_numbers(cx: &mut Importer<'_>, x: Value, axis: usize) -> Result<Value> {
    let real = cx.build.add(op::Eq {}, &[x, x])?;
    let count = op::Sum {
        axes: vec![axis],
        keepdim: true,
    };
    cx.build.add(count, &[real])
}

/// The number of elements along `axes`, as a 0-d tensor of `x`'s dtype.
pub(in crate::import) fn count_of(
    cx: &mut Importer<'_>,
    x: Value,
    axes: &[usize],
) -> Result<Value> {
    let shape = cx.build.shape(x)?;
    let count = axes
        .iter()
        .filter_map(|axis| shape.get(*axis))
        .fold(Dim::from(1i64), |n, d| &n * d);
    let number = match count.as_const() {
        Some(n) => crate::import::call::Num::Known(Scalar::Int(n)),
        None => crate::import::call::Num::Dim(count),
    };
    cx.number(&number, cx.build.dtype(x)?)
}

/// ln Σ eˣ over the axes; −∞ of no elements.
pub(in crate::import) fn log_sum_exp(
    cx: &mut Importer<'_>,
    x: Value,
    axes: Vec<usize>,
    keepdim: bool,
) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    if cx.build.shape(x)?.iter().any(|d| d.is(0)) {
        let nothing = cx.build.add(op::Sum { axes, keepdim }, &[x])?;
        let lowest = cx.build.float(f64::NEG_INFINITY, dtype)?;
        return cx.build.broadcast(lowest, cx.build.shape(nothing)?);
    }
    cx.build.add(op::LogSumExp { axes, keepdim }, &[x])
}

pub(in crate::import) fn vector_norm(
    cx: &mut Importer<'_>,
    x: Value,
    ord: f64,
    axes: Vec<usize>,
    keepdim: bool,
    dtype: DType,
) -> Result<Value> {
    let x = cx.build.cast(x, promote::compute_type(dtype))?;
    let size = cx.build.add(op::Abs {}, &[x])?;
    let result = if ord == f64::INFINITY {
        cx.build.add(op::Amax { axes, keepdim }, &[size])?
    } else if ord == f64::NEG_INFINITY {
        cx.build.add(op::Amin { axes, keepdim }, &[size])?
    } else if ord == 0.0 {
        let marks = cx.build.cast(x, DType::Bool)?;
        let count = cx.build.add(op::Sum { axes, keepdim }, &[marks])?;
        cx.build.cast(count, promote::compute_type(dtype))?
    } else if ord == 1.0 {
        cx.build.add(op::Sum { axes, keepdim }, &[size])?
    } else if ord == 2.0 {
        let squares = cx.build.add(op::Square {}, &[x])?;
        let sum = cx.build.add(op::Sum { axes, keepdim }, &[squares])?;
        cx.build.add(op::Sqrt {}, &[sum])?
    } else {
        let powers = cx.build.with_float(op::Pow {}, size, ord)?;
        let sum = cx.build.add(op::Sum { axes, keepdim }, &[powers])?;
        cx.build.with_float(op::Pow {}, sum, 1.0 / ord)?
    };
    cx.build.cast(result, dtype)
}
