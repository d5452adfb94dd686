//! Tensors from nothing: filled, counted, identity, triangles.
//!
//! Their sizes and dtypes are the ones that the export recorded, in which all defaults are resolved.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::done;
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let target = if target == "prims.scalar_tensor.default" {
        "aten.scalar_tensor.default"
    } else {
        target
    };
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "zeros" | "zeros_like" | "new_zeros" | "zero" => {
            |cx, call| recorded(cx, call, Scalar::Int(0))
        }
        // Memory without a value: zeros are as good as any.
        "empty" | "empty_like" | "new_empty" | "empty_permuted" | "empty_strided"
        | "new_empty_strided" => |cx, call| recorded(cx, call, Scalar::Int(0)),
        "ones" | "ones_like" | "new_ones" => |cx, call| recorded(cx, call, Scalar::Int(1)),
        "full" | "full_like" | "new_full" => |cx, call| filled(cx, call, "fill_value"),
        "fill" => |cx, call| filled(cx, call, "value"),
        "scalar_tensor" => |cx, call| {
            let value = call.num(cx, "s")?;
            done(cx.number(&value, call.out_dtype(0)?))
        },
        "arange" => arange,
        "linspace" => linspace,
        "eye" => |cx, call| {
            let shape = call.out_shape(0)?;
            let distance = distances(cx, &shape)?;
            let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
            let hit = cx.build.add(op::Eq {}, &[distance, zero])?;
            done(cx.build.cast(hit, call.out_dtype(0)?))
        },
        "tril" => |cx, call| triangle(cx, call, true),
        "triu" => |cx, call| triangle(cx, call, false),
        "one_hot" => |cx, call| {
            let x = call.value(cx, "self")?;
            let shape = call.out_shape(0)?;
            let Some(classes) = shape.last() else {
                return invalid("one_hot without classes");
            };
            let column = cx.build.unsqueeze(x, cx.build.rank(x)?)?;
            let classes = cx
                .build
                .arange(0i64.into(), 1i64.into(), classes.clone(), DType::I64)?;
            let column = cx.build.cast(column, DType::I64)?;
            let hit = cx.build.add(op::Eq {}, &[column, classes])?;
            done(cx.build.cast(hit, DType::I64))
        },
        "meshgrid" => meshgrid,
        _ => return None,
    })
}

fn recorded(cx: &mut Importer<'_>, call: &Call<'_>, value: Scalar) -> Result<Vec<Out>> {
    done(cx.build.full(value, call.out_dtype(0)?, call.out_shape(0)?))
}

fn filled(cx: &mut Importer<'_>, call: &Call<'_>, name: &str) -> Result<Vec<Out>> {
    let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
    match call.num(cx, name)? {
        Num::Known(value) => done(cx.build.full(value, dtype, shape)),
        number => {
            let value = cx.number(&number, dtype)?;
            done(cx.build.broadcast(value, shape))
        }
    }
}

/// `start, start + step, …`. Integers are exact; floats are `start + i · step`, computed in f32 at least.
fn arange(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let dtype = call.out_dtype(0)?;
    let shape = call.out_shape(0)?;
    let [len] = shape.as_slice() else {
        return invalid("arange has one axis");
    };
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let mut number = |name: &str, default: i64| {
        if has(name) {
            call.num(cx, name)
        } else {
            Ok(Num::Known(Scalar::Int(default)))
        }
    };
    let (start, step) = (number("start", 0)?, number("step", 1)?);
    let whole = |number: &Num| match number {
        Num::Known(Scalar::Int(n)) => Some(Dim::from(*n)),
        Num::Dim(dim) => Some(dim.clone()),
        _ => None,
    };
    if let (Some(start), Some(step)) = (whole(&start), whole(&step)) {
        let exact = if dtype.is_int() { dtype } else { DType::I64 };
        let count = cx.build.arange(start, step, len.clone(), exact)?;
        return done(cx.build.cast(count, dtype));
    }
    let wide = crate::import::promote::compute_type(crate::import::promote::to_float(dtype));
    let count = cx
        .build
        .arange(0i64.into(), 1i64.into(), len.clone(), DType::I64)?;
    let count = cx.build.cast(count, wide)?;
    let (start, step) = (cx.number(&start, wide)?, cx.number(&step, wide)?);
    let offset = cx.build.add(op::Mul {}, &[count, step])?;
    let value = cx.build.add(op::Add {}, &[offset, start])?;
    done(cx.build.cast(value, dtype))
}

/// Evenly spaced from both ends, as PyTorch computes it: the upper half counts down from `end`.
fn linspace(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let dtype = call.out_dtype(0)?;
    let steps = call.int("steps")?;
    let (start, end) = (call.num(cx, "start")?, call.num(cx, "end")?);
    let wide = crate::import::promote::compute_type(crate::import::promote::to_float(dtype));
    let len = Dim::from(steps);
    let (Num::Known(start), Num::Known(end)) = (&start, &end) else {
        let all = between(cx, &start, &end, wide, steps)?;
        return done(cx.build.cast(all, dtype));
    };
    let (start, end) = (start.as_f64(), end.as_f64());
    if steps <= 1 {
        return done(cx.build.full(Scalar::float(start), dtype, vec![len]));
    }
    let step = (end - start) / (steps - 1) as f64;
    let half = steps / 2;
    let ramp = |cx: &mut Importer<'_>,
                from: i64,
                by: i64,
                count: i64,
                base: f64,
                slope: f64|
     -> Result<Value> {
        let index = cx
            .build
            .arange(from.into(), by.into(), count.into(), DType::I64)?;
        let index = cx.build.cast(index, wide)?;
        let offset = cx.build.with_float(op::Mul {}, index, slope)?;
        cx.build.with_float(op::Add {}, offset, base)
    };
    let low = ramp(cx, 0, 1, half, start, step)?;
    let high = ramp(cx, steps - half - 1, -1, steps - half, end, -step)?;
    let both = cx.build.cat(&[low, high], 0)?;
    done(cx.build.cast(both, dtype))
}

/// The same between numbers that are known only at run time.
fn between(
    cx: &mut Importer<'_>,
    start: &Num,
    end: &Num,
    wide: DType,
    steps: i64,
) -> Result<Value> {
    let (start, end) = (cx.number(start, wide)?, cx.number(end, wide)?);
    if steps <= 1 {
        return cx.build.broadcast(start, vec![Dim::from(steps)]);
    }
    let gap = cx.build.minus(end, start)?;
    let step = cx.build.with_float(op::Div {}, gap, (steps - 1) as f64)?;
    let half = steps / 2;
    let mut ramp = |from: i64, by: i64, count: i64| -> Result<Value> {
        let index = cx
            .build
            .arange(from.into(), by.into(), count.into(), DType::I64)?;
        let index = cx.build.cast(index, wide)?;
        cx.build.times(index, step)
    };
    // Each half from its own end.
    let (low, high) = (ramp(0, 1, half)?, ramp(steps - half - 1, -1, steps - half)?);
    let (low, high) = (cx.build.plus(start, low)?, cx.build.minus(end, high)?);
    cx.build.cat(&[low, high], 0)
}

/// What `start`, `end` and `steps` say, the ends known at run time.
pub(in crate::import) fn spaced(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    dtype: DType,
) -> Result<Value> {
    let (start, end) = (call.num(cx, "start")?, call.num(cx, "end")?);
    between(cx, &start, &end, dtype, call.int("steps")?)
}

/// Column minus row of the last two axes, as i64.
fn distances(cx: &mut Importer<'_>, shape: &[Dim]) -> Result<Value> {
    let [.., rows, columns] = shape else {
        return invalid("a matrix has two axes");
    };
    let row = cx
        .build
        .arange(0i64.into(), 1i64.into(), rows.clone(), DType::I64)?;
    let row = cx.build.unsqueeze(row, 1)?;
    let column = cx
        .build
        .arange(0i64.into(), 1i64.into(), columns.clone(), DType::I64)?;
    cx.build.add(op::Sub {}, &[column, row])
}

fn triangle(cx: &mut Importer<'_>, call: &Call<'_>, lower: bool) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let shape = cx.build.shape(x)?;
    let distance = distances(cx, &shape)?;
    let diagonal = call.dim("diagonal")?;
    let number = match diagonal.as_const() {
        Some(n) => Num::Known(Scalar::Int(n)),
        None => Num::Dim(diagonal),
    };
    let diagonal = cx.number(&number, DType::I64)?;
    let kept = if lower {
        cx.build.add(op::Le {}, &[distance, diagonal])?
    } else {
        cx.build.add(op::Ge {}, &[distance, diagonal])?
    };
    let zero = cx.build.scalar(Scalar::Int(0), cx.build.dtype(x)?)?;
    done(cx.build.select(kept, x, zero))
}

fn meshgrid(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let has = call
        .schema
        .is_some_and(|schema| schema.arg("indexing").is_some());
    let swapped = has && call.opt_str("indexing")? == Some("xy");
    let values = call.values(cx, "tensors")?;
    let mut outs = Vec::new();
    for (n, value) in values.iter().enumerate() {
        let shape = call.out_shape(n)?;
        let axis = if swapped && n < 2 && values.len() > 1 {
            1 - n
        } else {
            n
        };
        let mut along = vec![Dim::from(1i64); shape.len()];
        if let (Some(own), Some(size)) = (along.get_mut(axis), shape.get(axis)) {
            *own = size.clone();
        }
        let along = cx.build.reshape(*value, along)?;
        outs.push(cx.build.broadcast(along, shape)?.into());
    }
    Ok(outs)
}
