//! Softmax and normalisation.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, F64, Scalar, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "softmax" | "_softmax" => |cx, call| {
            let (x, axis) = softmax_input(cx, call)?;
            let result = match axis {
                Some(axis) => cx.build.add(op::Softmax { axis }, &[x])?,
                None => cx.build.float(1.0, cx.build.dtype(x)?)?,
            };
            done(Ok(result))
        },
        "_safe_softmax" => |cx, call| {
            // Rows that are masked everywhere become 0, not NaN.
            let (x, axis) = softmax_input(cx, call)?;
            let Some(axis) = axis else {
                return done(cx.build.float(1.0, cx.build.dtype(x)?));
            };
            let dtype = cx.build.dtype(x)?;
            let result = cx.build.add(op::Softmax { axis }, &[x])?;
            let max = cx.build.add(
                op::Amax {
                    axes: vec![axis],
                    keepdim: true,
                },
                &[x],
            )?;
            let lowest = cx.build.float(f64::NEG_INFINITY, dtype)?;
            let masked = cx.build.add(op::Eq {}, &[max, lowest])?;
            let zero = cx.build.float(0.0, dtype)?;
            done(cx.build.select(masked, zero, result))
        },
        "log_softmax" | "_log_softmax" => |cx, call| {
            let (x, axis) = softmax_input(cx, call)?;
            let Some(axis) = axis else {
                return done(cx.build.float(0.0, cx.build.dtype(x)?));
            };
            let dtype = cx.build.dtype(x)?;
            let wide = cx.build.cast(x, promote::compute_type(dtype))?;
            let sum = super::reduce::log_sum_exp(cx, wide, vec![axis], true)?;
            let result = cx.build.add(op::Sub {}, &[wide, sum])?;
            done(cx.build.cast(result, dtype))
        },
        "layer_norm" => |cx, call| {
            let axes = call.dims("normalized_shape")?.len();
            let eps = call.float(cx, "eps")?;
            let out = layer_norm(cx, call, axes, eps)?;
            done(Ok(out))
        },
        "native_layer_norm" => |cx, call| {
            let axes = call.dims("normalized_shape")?.len();
            let eps = call.float(cx, "eps")?;
            let out = layer_norm(cx, call, axes, eps)?;
            let x = call.value(cx, "input")?;
            let rank = cx.build.rank(x)?;
            let (mean, scale) = moments(cx, x, (rank.saturating_sub(axes)..rank).collect(), eps)?;
            let mut outs = vec![out.into()];
            for (n, value) in [(1, mean), (2, scale)] {
                let wanted = call.out_dtype(n).unwrap_or(cx.build.dtype(value)?);
                outs.push(cx.build.cast(value, wanted)?.into());
            }
            Ok(outs)
        },
        "rms_norm" | "_fused_rms_norm" => rms_norm,
        "batch_norm" => |cx, call| batch_norm(cx, call, call.bool("training")?),
        "_native_batch_norm_legit_no_training" => |cx, call| batch_norm(cx, call, false),
        "_native_batch_norm_legit"
        | "native_batch_norm"
        | "_native_batch_norm_legit_functional" => {
            |cx, call| batch_norm(cx, call, call.bool("training")?)
        }
        "instance_norm" => |cx, call| {
            if !call.bool("use_input_stats")? {
                return batch_norm(cx, call, false);
            }
            let x = call.value(cx, "input")?;
            let eps = call.float(cx, "eps")?;
            let rank = cx.build.rank(x)?;
            let (weight, bias) = (call.opt_value(cx, "weight")?, call.opt_value(cx, "bias")?);
            done(normalised(cx, x, (2..rank).collect(), eps, weight, bias))
        },
        "group_norm" => |cx, call| {
            let groups = call.int("num_groups")?;
            let (x, eps) = (call.value(cx, "input")?, call.float(cx, "eps")?);
            done(group_norm(cx, call, x, groups, eps).map(|out| out.0))
        },
        "native_group_norm" => |cx, call| {
            let groups = call.int("group")?;
            let (x, eps) = (call.value(cx, "input")?, call.float(cx, "eps")?);
            let (out, mean, scale) = group_norm(cx, call, x, groups, eps)?;
            Ok(vec![out.into(), mean.into(), scale.into()])
        },
        _ => return None,
    })
}

/// The argument of a softmax in the dtype of its result, and its axis; none for a 0-d tensor.
fn softmax_input(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, Option<usize>)> {
    let x = call.value(cx, "self")?;
    let x = cx.build.cast(x, call.out_dtype(0)?)?;
    let axis = cx.build.axis(x, call.int("dim")?)?;
    Ok((x, (cx.build.rank(x)? > 0).then_some(axis)))
}

/// The product of the last `axes` sizes, and the sizes before them.
fn merged_tail(shape: &[Dim], axes: usize) -> Result<(Vec<Dim>, Dim)> {
    match shape.len().checked_sub(axes) {
        Some(lead) => Ok((
            shape[..lead].to_vec(),
            shape[lead..].iter().fold(Dim::from(1i64), |n, d| &n * d),
        )),
        None => invalid(format!(
            "normalising {axes} axes of a {}-d tensor",
            shape.len()
        )),
    }
}

/// Layer norm over the last `axes` axes, which are merged into one. Weights take the dtype of the input.
fn layer_norm(cx: &mut Importer<'_>, call: &Call<'_>, axes: usize, eps: f64) -> Result<Value> {
    let x = call.value(cx, "input")?;
    let shape = cx.build.shape(x)?;
    let dtype = cx.build.dtype(x)?;
    let (mut merged, size) = merged_tail(&shape, axes)?;
    merged.push(size.clone());
    let flat = cx.build.reshape(x, merged)?;
    let mut args = vec![flat];
    let (weight, bias) = (call.opt_value(cx, "weight")?, call.opt_value(cx, "bias")?);
    if weight.is_some() || bias.is_some() {
        for (value, neutral) in [(weight, 1.0), (bias, 0.0)] {
            if args.len() == 2 && value.is_none() {
                break;
            }
            let value = match value {
                Some(value) => cx.build.reshape(value, vec![size.clone()])?,
                None => cx
                    .build
                    .full(Scalar::float(neutral), dtype, vec![size.clone()])?,
            };
            args.push(cx.build.cast(value, dtype)?);
        }
    }
    let out = cx.build.add(op::LayerNorm { eps: F64::new(eps) }, &args)?;
    cx.build.reshape(out, shape)
}

fn rms_norm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "input")?;
    let axes = call.dims("normalized_shape")?.len();
    let dtype = cx.build.dtype(x)?;
    let eps = call
        .opt_float(cx, "eps")?
        .unwrap_or(match promote::compute_type(dtype) {
            DType::F64 => f64::EPSILON,
            _ => f64::from(f32::EPSILON),
        });
    let shape = cx.build.shape(x)?;
    let (mut merged, size) = merged_tail(&shape, axes)?;
    merged.push(size.clone());
    let mut args = vec![cx.build.reshape(x, merged)?];
    let weight = call.opt_value(cx, "weight")?;
    if let Some(weight) = weight {
        let weight = cx.build.reshape(weight, vec![size])?;
        args.push(cx.build.cast(weight, dtype)?);
    }
    let out = cx.build.add(op::RmsNorm { eps: F64::new(eps) }, &args)?;
    let out = cx.build.reshape(out, shape)?;
    let out = cx.build.cast(out, call.out_dtype(0)?)?;
    if call.target.starts_with("aten._fused") && call.out_names().len() > 1 {
        // The second result is 1/√(mean(x²) + eps).
        let wide = cx.build.cast(x, promote::compute_type(dtype))?;
        let squares = cx.build.add(op::Square {}, &[wide])?;
        let rank = cx.build.rank(x)?;
        let mean = op::Mean {
            axes: (rank.saturating_sub(axes)..rank).collect(),
            keepdim: true,
        };
        let mean = cx.build.add(mean, &[squares])?;
        let raised = cx.build.with_float(op::Add {}, mean, eps)?;
        let scale = cx.build.add(op::Rsqrt {}, &[raised])?;
        let scale = cx.build.cast(scale, call.out_dtype(1)?)?;
        return Ok(vec![out.into(), scale.into()]);
    }
    done(Ok(out))
}

/// Mean and `1/√(variance + eps)` over axes, which stay as size 1, in f32 at least.
fn moments(cx: &mut Importer<'_>, x: Value, axes: Vec<usize>, eps: f64) -> Result<(Value, Value)> {
    let wide = promote::compute_type(cx.build.dtype(x)?);
    let x = cx.build.cast(x, wide)?;
    let (mean, squares) = super::reduce::deviations(cx, x, &axes)?;
    let variance = cx.build.add(
        op::Mean {
            axes,
            keepdim: true,
        },
        &[squares],
    )?;
    let shifted = cx.build.with_float(op::Add {}, variance, eps)?;
    Ok((mean, cx.build.add(op::Rsqrt {}, &[shifted])?))
}

/// A tensor of one value per channel, shaped to broadcast over axis 1.
fn per_channel(cx: &mut Importer<'_>, value: Value, rank: usize, dtype: DType) -> Result<Value> {
    let mut shape = vec![Dim::from(1i64); rank.max(2)];
    shape[1] = cx.build.ty(value)?.numel();
    shape.truncate(rank);
    let value = cx.build.reshape(value, shape)?;
    cx.build.cast(value, dtype)
}

/// `(x − mean) · scale · weight + bias`, with weight and bias by channel, in f32 at least and rounded once.
fn affine(
    cx: &mut Importer<'_>,
    x: Value,
    (mean, scale): (Value, Value),
    weight: Option<Value>,
    bias: Option<Value>,
) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let wide = promote::compute_type(dtype);
    let rank = cx.build.rank(x)?;
    let x = cx.build.cast(x, wide)?;
    let gap = cx.build.add(op::Sub {}, &[x, mean])?;
    let mut out = cx.build.add(op::Mul {}, &[gap, scale])?;
    if let Some(weight) = weight {
        let weight = per_channel(cx, weight, rank, wide)?;
        out = cx.build.add(op::Mul {}, &[out, weight])?;
    }
    if let Some(bias) = bias {
        let bias = per_channel(cx, bias, rank, wide)?;
        out = cx.build.add(op::Add {}, &[out, bias])?;
    }
    cx.build.cast(out, dtype)
}

fn normalised(
    cx: &mut Importer<'_>,
    x: Value,
    axes: Vec<usize>,
    eps: f64,
    weight: Option<Value>,
    bias: Option<Value>,
) -> Result<Value> {
    let moments = moments(cx, x, axes, eps)?;
    affine(cx, x, moments, weight, bias)
}

/// Batch norm with the recorded statistics, or with the batch's own where there are none. In training mode the recorded ones move: they are written to, and those that
/// the functional form returns as its last results are new.
fn batch_norm(cx: &mut Importer<'_>, call: &Call<'_>, training: bool) -> Result<Vec<Out>> {
    let (x, eps) = (call.value(cx, "input")?, call.float(cx, "eps")?);
    let (weight, bias) = (call.opt_value(cx, "weight")?, call.opt_value(cx, "bias")?);
    let rank = cx.build.rank(x)?;
    // Without elements a tensor needs no axis of channels.
    if rank < 2 && cx.build.ty(x)?.numel().is(0) {
        return done(Ok(x));
    }
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let stats = |name: &str, cx: &mut Importer<'_>| {
        if has(name) {
            call.opt_value(cx, name)
        } else {
            Ok(None)
        }
    };
    let (mean, variance) = (stats("running_mean", cx)?, stats("running_var", cx)?);
    let wide = promote::compute_type(cx.build.dtype(x)?);
    let functional = call.target == "aten._native_batch_norm_legit_functional.default";
    let mut recorded = [mean, variance];
    let (out, saved) = match (mean, variance) {
        (Some(mean), Some(variance)) if !training => {
            let (mean, variance) = (
                per_channel(cx, mean, rank, wide)?,
                per_channel(cx, variance, rank, wide)?,
            );
            let shifted = cx.build.with_float(op::Add {}, variance, eps)?;
            let scale = cx.build.add(op::Rsqrt {}, &[shifted])?;
            (affine(cx, x, (mean, scale), weight, bias)?, None)
        }
        (running_mean, running_variance) => {
            let axes: Vec<usize> = (0..rank).filter(|axis| *axis != 1).collect();
            let moments = moments(cx, x, axes.clone(), eps)?;
            if let (Some(mean), Some(variance)) = (running_mean, running_variance) {
                let spread = unbiased(cx, x, moments.0, &axes)?;
                let momentum = call.float(cx, "momentum")?;
                let mean = follow(cx, mean, moments.0, momentum)?;
                let variance = follow(cx, variance, spread, momentum)?;
                if !functional {
                    cx.write(call.tensor("running_mean")?, mean)?;
                    cx.write(call.tensor("running_var")?, variance)?;
                }
                recorded = [Some(mean), Some(variance)];
            }
            (affine(cx, x, moments, weight, bias)?, Some(moments))
        }
    };
    // The further results are statistics for the backward pass: empty where they were given.
    let mut outs = vec![Out::Value(out)];
    for n in 1..call.out_names().len().min(3) {
        let (dtype, shape) = (call.out_dtype(n)?, call.out_shape(n)?);
        let value = match saved {
            Some((mean, scale)) => {
                let value = cx.build.reshape(if n == 1 { mean } else { scale }, shape)?;
                cx.build.cast(value, dtype)?
            }
            None => cx.build.full(Scalar::Int(0), dtype, shape)?,
        };
        outs.push(value.into());
    }
    if functional {
        outs.extend(recorded.into_iter().flatten().map(Out::Value));
    }
    Ok(outs)
}

/// The variance that a sample says its population has: divided by one less than the count.
fn unbiased(cx: &mut Importer<'_>, x: Value, mean: Value, axes: &[usize]) -> Result<Value> {
    let x = cx.build.cast(x, cx.build.dtype(mean)?)?;
    let gap = cx.build.minus(x, mean)?;
    let squares = cx.build.add(op::Square {}, &[gap])?;
    let (axes, keepdim) = (axes.to_vec(), true);
    let count = super::reduce::count_of(cx, x, &axes)?;
    let sum = cx.build.add(op::Sum { axes, keepdim }, &[squares])?;
    let others = cx.build.with_float(op::Sub {}, count, 1.0)?;
    cx.build.over(sum, others)
}

/// Where a running statistic has moved towards the batch's: `(1 − momentum) · old + momentum · new`.
fn follow(cx: &mut Importer<'_>, old: Value, new: Value, momentum: f64) -> Result<Value> {
    let ty = cx.build.ty(old)?.clone();
    let new = cx.build.reshape(new, ty.shape)?;
    let new = cx.build.cast(new, ty.dtype)?;
    let kept = cx.build.with_float(op::Mul {}, old, 1.0 - momentum)?;
    let step = cx.build.with_float(op::Mul {}, new, momentum)?;
    cx.build.plus(kept, step)
}

/// Group norm, with the mean and scale of each group as [batch, groups].
fn group_norm(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: Value,
    groups: i64,
    eps: f64,
) -> Result<(Value, Value, Value)> {
    let shape = cx.build.shape(x)?;
    let [batch, rest @ ..] = shape.as_slice() else {
        return invalid("group norm of a 0-d tensor");
    };
    let count = rest.iter().fold(Dim::from(1i64), |n, d| &n * d);
    let groups = Dim::from(groups);
    let grouped = cx.build.reshape(
        x,
        vec![batch.clone(), groups.clone(), count.floor_div(&groups)],
    )?;
    let (mean, scale) = moments(cx, grouped, vec![2], eps)?;
    let dtype = cx.build.dtype(x)?;
    let wide = promote::compute_type(dtype);
    let flat = cx.build.cast(grouped, wide)?;
    let gap = cx.build.add(op::Sub {}, &[flat, mean])?;
    let scaled = cx.build.add(op::Mul {}, &[gap, scale])?;
    let mut out = cx.build.reshape(scaled, shape.clone())?;
    if let Some(weight) = call.opt_value(cx, "weight")? {
        let weight = per_channel(cx, weight, shape.len(), wide)?;
        out = cx.build.add(op::Mul {}, &[out, weight])?;
    }
    if let Some(bias) = call.opt_value(cx, "bias")? {
        let bias = per_channel(cx, bias, shape.len(), wide)?;
        out = cx.build.add(op::Add {}, &[out, bias])?;
    }
    let out = cx.build.cast(out, dtype)?;
    let small = vec![batch.clone(), groups];
    let (mean, scale) = (
        cx.build.reshape(mean, small.clone())?,
        cx.build.reshape(scale, small)?,
    );
    Ok((
        out,
        cx.build.cast(mean, dtype)?,
        cx.build.cast(scale, dtype)?,
    ))
}
