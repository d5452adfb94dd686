//! Activations that a model quantises by itself, in TorchAO's operators: the scale of each block from its least and largest element, and the integers.
//!
//! Both are plain arithmetic in the dtypes, and in the order, of TorchAO's own definition, so that each rounding is where PyTorch has it.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(
        match target.strip_prefix("torchao.")?.strip_suffix(".default")? {
            "choose_qparams_affine" => choose_qparams,
            "quantize_affine" => quantize,
            _ => return None,
        },
    )
}

/// A tensor whose axes are two each: which block, and the place in it.
struct Blocks {
    /// Sizes of the tensor in blocks.
    split: Vec<Dim>,
    /// Sizes of a list with one number for each block, beside `split`.
    each: Vec<Dim>,
}

impl Blocks {
    fn of(shape: &[Dim], block: &[Dim]) -> Result<Blocks> {
        if shape.len() != block.len() {
            return invalid(format!(
                "blocks of {} axes for a tensor of {}",
                block.len(),
                shape.len()
            ));
        }
        let (mut split, mut each) = (Vec::new(), Vec::new());
        for (size, block) in shape.iter().zip(block) {
            let count = if block == size {
                Some(1i64.into())
            } else {
                size.exact_div(block)
            };
            let Some(count) = count.filter(|_| !block.is(0)) else {
                return invalid(format!("an axis of size {size} in blocks of {block}"));
            };
            split.extend([count.clone(), block.clone()]);
            each.extend([count, 1i64.into()]);
        }
        Ok(Blocks { split, each })
    }

    /// The axes of the places in a block.
    fn places(&self) -> Vec<usize> {
        (1..self.split.len()).step_by(2).collect()
    }
}

/// The least and the largest integer to use: what the call says, within what the dtype holds.
fn bounds(cx: &mut Importer<'_>, call: &Call<'_>, dtype: DType) -> Result<(f64, f64)> {
    let (least, most) = match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        other => {
            return unsupported(format!(
                "activations quantised to {other}; i8 and u8 are known"
            ));
        }
    };
    let bound = |cx: &mut Importer<'_>, name: &str, otherwise: f64| -> Result<f64> {
        if call.is_none(name)? {
            return Ok(otherwise);
        }
        let bound = call.scalar(cx, name)?.as_f64();
        if bound.fract() != 0.0 || !(least..=most).contains(&bound) {
            return invalid(format!("`{name}` is {bound}, which {dtype} does not hold"));
        }
        Ok(bound)
    };
    let (low, high) = (
        bound(cx, "quant_min", least)?,
        bound(cx, "quant_max", most)?,
    );
    if low >= high {
        return invalid(format!("integers from {low} to {high}"));
    }
    Ok((low, high))
}

/// The floats that TorchAO quantises.
fn input(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, DType)> {
    let x = call.value(cx, "input")?;
    match cx.build.dtype(x)? {
        dtype @ (DType::F32 | DType::F16 | DType::BF16) => Ok((x, dtype)),
        other => invalid(format!("elements of type {other} to quantise")),
    }
}

/// A scale and a zero point for each block, from its least and largest element, zero among them.
fn choose_qparams(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, dtype) = input(cx, call)?;
    let Some(target) = call.opt_dtype("target_dtype")? else {
        return invalid("no `target_dtype`");
    };
    let (low, high) = bounds(cx, call, target)?;
    let eps = match call.opt_float(cx, "eps")? {
        Some(eps) => eps,
        None if dtype == DType::F16 => 2f64.powi(-14),
        None => f64::from(f32::MIN_POSITIVE),
    };
    let shape = cx.build.shape(x)?;
    let blocks = Blocks::of(&shape, &call.dims("block_size")?)?;
    let axes = blocks.places();
    let x = cx.build.reshape(x, blocks.split)?;
    let zero = cx.build.float(0.0, dtype)?;
    let least = op::Amin {
        axes: axes.clone(),
        keepdim: true,
    };
    let least = cx.build.add(least, &[x])?;
    let least = cx.build.add(op::Minimum {}, &[least, zero])?;
    let most = cx.build.add(
        op::Amax {
            axes,
            keepdim: true,
        },
        &[x],
    )?;
    let most = cx.build.add(op::Maximum {}, &[most, zero])?;

    let eps = cx.build.float(eps, dtype)?;
    let over = |cx: &mut Importer<'_>, x: Value, by: f64| cx.build.with_float(op::Div {}, x, by);
    let (scale, zeros) = match call.opt_str("mapping_type")? {
        Some(mode @ ("SYMMETRIC" | "SYMMETRIC_NO_CLIPPING_ERR")) => {
            let scale = if mode == "SYMMETRIC" {
                let below = cx.build.add(op::Neg {}, &[least])?;
                let most = cx.build.add(op::Maximum {}, &[below, most])?;
                over(cx, most, (high - low) / 2.0)?
            } else if low == 0.0 || high == 0.0 {
                return unsupported(format!("{mode} of integers from {low} to {high}"));
            } else {
                let (below, above) = (over(cx, least, low)?, over(cx, most, high)?);
                let greater = cx.build.add(op::Gt {}, &[below, above])?;
                cx.build.add(op::Where {}, &[greater, below, above])?
            };
            let shape = cx.build.shape(scale)?;
            let zeros = Scalar::float(((high + low + 1.0) / 2.0).trunc());
            let zeros = cx.build.full(zeros, dtype, shape)?;
            (cx.build.add(op::Maximum {}, &[scale, eps])?, zeros)
        }
        Some("ASYMMETRIC") => {
            let span = cx.build.add(op::Sub {}, &[most, least])?;
            let scale = over(cx, span, high - low)?;
            let scale = cx.build.add(op::Maximum {}, &[scale, eps])?;
            let steps = cx.build.add(op::Div {}, &[least, scale])?;
            let steps = cx.build.add(op::Round {}, &[steps])?;
            let from = cx.build.float(low, dtype)?;
            let zeros = cx.build.add(op::Sub {}, &[from, steps])?;
            (scale, clamped(cx, zeros, low, high)?)
        }
        mode => {
            return unsupported(format!(
                "scales chosen by the mode {}",
                mode.unwrap_or("None")
            ));
        }
    };
    let mut list = |n: usize, x: Value| -> Result<Out> {
        let x = cx.build.reshape(x, call.out_shape(n)?)?;
        Ok(cx.build.cast(x, call.out_dtype(n)?)?.into())
    };
    Ok(vec![list(0, scale)?, list(1, zeros)?])
}

/// `round(input · (1/scale)) + zero_point`, within bounds.
fn quantize(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, dtype) = input(cx, call)?;
    let out = call.out_dtype(0)?;
    let (low, high) = bounds(cx, call, out)?;
    let Some(zeros) = call.opt_value(cx, "zero_point")? else {
        return unsupported("integers without a zero point");
    };
    let scale = call.value(cx, "scale")?;
    let shape = cx.build.shape(x)?;
    let blocks = Blocks::of(&shape, &call.dims("block_size")?)?;
    let one = cx.build.dtype(scale)?;
    let wide = match (dtype, one) {
        (_, DType::F32 | DType::F16 | DType::BF16) if dtype == one => dtype,
        (_, DType::F32 | DType::F16 | DType::BF16) => DType::F32,
        (_, other) => return invalid(format!("scales of type {other}")),
    };
    let x = cx.build.reshape(x, blocks.split)?;
    let x = cx.build.cast(x, wide)?;
    let scale = cx.build.reshape(scale, blocks.each.clone())?;
    let one = cx.build.float(1.0, one)?;
    let factor = cx.build.add(op::Div {}, &[one, scale])?;
    let factor = cx.build.cast(factor, wide)?;
    let x = cx.build.add(op::Mul {}, &[x, factor])?;
    let x = cx.build.add(op::Round {}, &[x])?;
    let zeros = cx.build.reshape(zeros, blocks.each)?;
    // Beside zero points in floats the sum has the wider of the two dtypes.
    let wide = match cx.build.dtype(zeros)? {
        float if float.is_float() && float != wide => DType::F32,
        _ => wide,
    };
    let (x, zeros) = (cx.build.cast(x, wide)?, cx.build.cast(zeros, wide)?);
    let x = cx.build.add(op::Add {}, &[x, zeros])?;
    let x = clamped(cx, x, low, high)?;
    let x = cx.build.reshape(x, shape)?;
    done(cx.build.cast(x, out))
}

/// Within `low ..= high`.
fn clamped(cx: &mut Importer<'_>, x: Value, low: f64, high: f64) -> Result<Value> {
    let x = cx.build.with_float(op::Maximum {}, x, low)?;
    cx.build.with_float(op::Minimum {}, x, high)
}
