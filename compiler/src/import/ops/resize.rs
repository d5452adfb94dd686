//! Resampling of images by axis.
//!
//! Positions are computed as PyTorch does, in float32, by operators on a counted range: constant folding leaves tables.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::done;
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "upsample_nearest1d" | "upsample_nearest2d" | "upsample_nearest3d" => {
            |cx, call| nearest(cx, call, 0.0)
        }
        "_upsample_nearest_exact1d" | "_upsample_nearest_exact2d" | "_upsample_nearest_exact3d" => {
            |cx, call| nearest(cx, call, 0.5)
        }
        "upsample_linear1d" | "upsample_bilinear2d" | "upsample_trilinear3d" => {
            |cx, call| smooth(cx, call, false)
        }
        "upsample_bicubic2d" => |cx, call| smooth(cx, call, true),
        _ => return None,
    })
}

/// Input positions per output position of each spatial axis: what the caller gave, or the ratio of sizes.
fn scales(cx: &mut Importer<'_>, call: &Call<'_>, from: &[Dim], to: &[Dim]) -> Result<Vec<Step>> {
    let n = from.len();
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let mut given: Vec<Option<f64>> = vec![None; n];
    if has("scale_factors") {
        if let Some(factors) = call.opt_floats("scale_factors")? {
            given = factors.into_iter().map(Some).collect();
        }
    } else {
        let names: &[&str] = match n {
            1 => &["scales"],
            2 => &["scales_h", "scales_w"],
            _ => &["scales_d", "scales_h", "scales_w"],
        };
        for (slot, name) in given.iter_mut().zip(names) {
            *slot = if has(name) {
                call.opt_float(cx, name)?
            } else {
                None
            };
        }
    }
    let mut steps = Vec::new();
    for axis in 0..n {
        let (from, to) = (&from[axis], &to[axis]);
        steps.push(match given.get(axis).copied().flatten() {
            Some(factor) if factor > 0.0 => Step::Known(1.0 / factor),
            _ => ratio(cx, from, to)?,
        });
    }
    Ok(steps)
}

/// Input positions per output position.
#[derive(Debug, Clone, Copy)]
enum Step {
    Known(f64),
    /// A 0-d float32.
    Value(Value),
}

impl Step {
    fn is(self, n: f64) -> bool {
        matches!(self, Self::Known(step) if step == n)
    }

    /// `x · step`.
    fn times(self, cx: &mut Importer<'_>, x: Value) -> Result<Value> {
        match self {
            Self::Known(step) => cx.build.with_float(op::Mul {}, x, step),
            Self::Value(step) => cx.build.add(op::Mul {}, &[x, step]),
        }
    }
}

/// The ratio of two sizes.
fn ratio(cx: &mut Importer<'_>, from: &Dim, to: &Dim) -> Result<Step> {
    if let (Some(from), Some(to)) = (from.as_const(), to.as_const())
        && to > 0
    {
        return Ok(Step::Known(from as f64 / to as f64));
    }
    if let Some(factor) = to.exact_div(from).and_then(|factor| factor.as_const()) {
        return Ok(Step::Known(1.0 / factor as f64));
    }
    let mut float = |size: &Dim| {
        let number = match size.as_const() {
            Some(n) => Num::Known(Scalar::Int(n)),
            None => Num::Dim(size.clone()),
        };
        cx.number(&number, DType::F32)
    };
    let (from, to) = (float(from)?, float(to)?);
    Ok(Step::Value(cx.build.add(op::Div {}, &[from, to])?))
}

/// `0, 1, …` as float32.
fn counted(cx: &mut Importer<'_>, len: &Dim) -> Result<Value> {
    let count = cx
        .build
        .arange(0i64.into(), 1i64.into(), len.clone(), DType::I64)?;
    cx.build.cast(count, DType::F32)
}

/// The image, its shape and that of the result: batch, channels and as many further axes as are resized.
fn image(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, Vec<Dim>, Vec<Dim>)> {
    let schema = call.schema;
    let named = schema.is_some_and(|schema| schema.arg("input").is_some());
    let x = call.value(cx, if named { "input" } else { "self" })?;
    let (from, to) = (cx.build.shape(x)?, call.out_shape(0)?);
    if from.len() < 3 || from.len() != to.len() {
        return invalid("an image has batch and channel axes");
    }
    Ok((x, from, to))
}

fn nearest(cx: &mut Importer<'_>, call: &Call<'_>, centre: f64) -> Result<Vec<Out>> {
    let (mut x, from, to) = image(cx, call)?;
    let scales = scales(cx, call, &from[2..], &to[2..])?;
    for (n, scale) in scales.into_iter().enumerate() {
        let axis = n + 2;
        if from[axis] == to[axis] && scale.is(1.0) {
            continue;
        }
        // A whole factor repeats each element.
        let factor = match scale {
            Step::Known(scale) => (1.0 / scale).round(),
            Step::Value(_) => 0.0,
        };
        if scale.is(1.0 / factor) && to[axis] == &from[axis] * &Dim::from(factor as i64) {
            let apart = cx.build.unsqueeze(x, axis + 1)?;
            let mut wide = cx.build.shape(apart)?;
            wide[axis + 1] = Dim::from(factor as i64);
            let mut merged = cx.build.shape(x)?;
            merged[axis] = to[axis].clone();
            let wide = cx.build.broadcast(apart, wide)?;
            x = cx.build.reshape(wide, merged)?;
            continue;
        }
        let mut position = counted(cx, &to[axis])?;
        if centre != 0.0 {
            position = cx.build.with_float(op::Add {}, position, centre)?;
        }
        let position = scale.times(cx, position)?;
        let position = cx.build.add(op::Floor {}, &[position])?;
        let index = cx.build.cast(position, DType::I64)?;
        let index = limited(cx, index, &from[axis])?;
        x = cx.build.add(op::Take { axis }, &[x, index])?;
    }
    done(Ok(x))
}

/// Indices cut to `0 .. size`.
fn limited(cx: &mut Importer<'_>, index: Value, size: &Dim) -> Result<Value> {
    let last = size - &Dim::from(1i64);
    let number = match last.as_const() {
        Some(n) => Num::Known(Scalar::Int(n)),
        None => Num::Dim(last),
    };
    let last = cx.number(&number, DType::I64)?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let index = cx.build.add(op::Maximum {}, &[index, zero])?;
    cx.build.add(op::Minimum {}, &[index, last])
}

/// Linear and cubic interpolation, one axis after the other.
fn smooth(cx: &mut Importer<'_>, call: &Call<'_>, cubic: bool) -> Result<Vec<Out>> {
    let (input, from, to) = image(cx, call)?;
    let corners = call.bool("align_corners")?;
    let dtype = cx.build.dtype(input)?;
    let wide = promote::compute_type(dtype);
    let mut x = cx.build.cast(input, wide)?;
    let scales = scales(cx, call, &from[2..], &to[2..])?;
    for (n, mut scale) in scales.into_iter().enumerate() {
        let axis = n + 2;
        if from[axis] == to[axis] && (corners || scale.is(1.0)) {
            continue;
        }
        if corners {
            // With one position there is nothing between the corners.
            let one = Dim::from(1i64);
            scale = if to[axis].is(1) {
                Step::Known(0.0)
            } else {
                let gaps = (&to[axis] - &one).maximum(&one);
                ratio(cx, &(&from[axis] - &one), &gaps)?
            };
        }
        let count = counted(cx, &to[axis])?;
        let position = if corners {
            scale.times(cx, count)?
        } else {
            let centre = cx.build.with_float(op::Add {}, count, 0.5)?;
            let scaled = scale.times(cx, centre)?;
            let shifted = cx.build.with_float(op::Sub {}, scaled, 0.5)?;
            // Linear interpolation does not look before the first element.
            if cubic {
                shifted
            } else {
                cx.build.with_float(op::Maximum {}, shifted, 0.0)?
            }
        };
        let whole = cx.build.add(op::Floor {}, &[position])?;
        let part = cx.build.add(op::Sub {}, &[position, whole])?;
        let part = cx.build.cast(part, wide)?;
        let first = cx.build.cast(whole, DType::I64)?;
        let weights = if cubic {
            cubic_weights(cx, part)?
        } else {
            linear_weights(cx, part)?
        };
        let mut lined = vec![Dim::from(1i64); from.len()];
        lined[axis] = to[axis].clone();
        let mut sum = None;
        for (tap, weight) in weights.into_iter().enumerate() {
            let offset = i64::try_from(tap).unwrap_or(0) - i64::from(cubic);
            let offset = cx.build.scalar(Scalar::Int(offset), DType::I64)?;
            let index = cx.build.add(op::Add {}, &[first, offset])?;
            let index = limited(cx, index, &from[axis])?;
            let values = cx.build.add(op::Take { axis }, &[x, index])?;
            let weight = cx.build.reshape(weight, lined.clone())?;
            let term = cx.build.add(op::Mul {}, &[values, weight])?;
            sum = Some(match sum {
                None => term,
                Some(sum) => cx.build.add(op::Add {}, &[sum, term])?,
            });
        }
        x = sum.unwrap_or(x);
    }
    done(cx.build.cast(x, dtype))
}

fn linear_weights(cx: &mut Importer<'_>, part: Value) -> Result<Vec<Value>> {
    let one = cx.build.float(1.0, cx.build.dtype(part)?)?;
    Ok(vec![cx.build.add(op::Sub {}, &[one, part])?, part])
}

/// The cubic convolution kernel with A = −0.75 at distances 1 + t, t, 1 − t, 2 − t.
pub(in crate::import) fn cubic_weights(cx: &mut Importer<'_>, part: Value) -> Result<Vec<Value>> {
    const A: f64 = -0.75;
    let one = cx.build.float(1.0, cx.build.dtype(part)?)?;
    let rest = cx.build.add(op::Sub {}, &[one, part])?;
    let polynomial = |cx: &mut Importer<'_>, t: Value, coefficients: [f64; 4]| -> Result<Value> {
        let [a, b, c, d] = coefficients;
        let mut sum = cx.build.with_float(op::Mul {}, t, a)?;
        for coefficient in [b, c] {
            sum = cx.build.with_float(op::Add {}, sum, coefficient)?;
            sum = cx.build.add(op::Mul {}, &[sum, t])?;
        }
        cx.build.with_float(op::Add {}, sum, d)
    };
    let near = [A + 2.0, -(A + 3.0), 0.0, 1.0];
    let far = [A, -5.0 * A, 8.0 * A, -4.0 * A];
    let mut weights = Vec::new();
    for (t, coefficients, shift) in [
        (part, far, 1.0),
        (part, near, 0.0),
        (rest, near, 0.0),
        (rest, far, 1.0),
    ] {
        let distance = if shift == 0.0 {
            t
        } else {
            cx.build.with_float(op::Add {}, t, shift)?
        };
        weights.push(polynomial(cx, distance, coefficients)?);
    }
    Ok(weights)
}
