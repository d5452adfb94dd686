//! Losses: a number for each element or sample, then their mean, their sum, or themselves.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::{Arg, done, one_minus, to_common};
use super::reduce::count_of;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "mse_loss" => |cx, call| {
            pairwise(cx, call, |cx, _, x, y| {
                let gap = cx.build.add(op::Sub {}, &[x, y])?;
                cx.build.add(op::Square {}, &[gap])
            })
        },
        "l1_loss" => |cx, call| pairwise(cx, call, |cx, _, x, y| distance(cx, x, y)),
        "smooth_l1_loss" => |cx, call| {
            pairwise(cx, call, |cx, call, x, y| {
                let beta = call.float(cx, "beta")?;
                let size = distance(cx, x, y)?;
                if beta == 0.0 {
                    return Ok(size);
                }
                let square = cx.build.add(op::Square {}, &[size])?;
                let near = cx.build.with_float(op::Mul {}, square, 0.5 / beta)?;
                let far = cx.build.with_float(op::Sub {}, size, 0.5 * beta)?;
                below(cx, size, beta, near, far)
            })
        },
        "huber_loss" => |cx, call| {
            pairwise(cx, call, |cx, call, x, y| {
                let delta = call.float(cx, "delta")?;
                let size = distance(cx, x, y)?;
                let square = cx.build.add(op::Square {}, &[size])?;
                let near = cx.build.with_float(op::Mul {}, square, 0.5)?;
                let far = cx.build.with_float(op::Sub {}, size, 0.5 * delta)?;
                let far = cx.build.with_float(op::Mul {}, far, delta)?;
                below(cx, size, delta, near, far)
            })
        },
        "soft_margin_loss" => |cx, call| {
            pairwise(cx, call, |cx, _, x, y| {
                let product = cx.build.add(op::Mul {}, &[x, y])?;
                let negative = cx.build.add(op::Neg {}, &[product])?;
                softplus(cx, negative)
            })
        },
        "hinge_embedding_loss" => |cx, call| {
            let margin = call.float(cx, "margin")?;
            pairwise(cx, call, |cx, _, x, y| {
                // x where the target is 1, max(0, margin − x) where it is −1.
                let short = cx.build.with_float(op::Sub {}, x, margin)?;
                let short = cx.build.add(op::Neg {}, &[short])?;
                let short = cx.build.with_float(op::Maximum {}, short, 0.0)?;
                let zero = cx.build.float(0.0, cx.build.dtype(x)?)?;
                let one = cx.build.float(1.0, cx.build.dtype(x)?)?;
                let near = cx.build.add(op::Ne {}, &[y, one])?;
                let far = cx.build.with_float(op::Add {}, y, 1.0)?;
                let far = cx.build.add(op::Ne {}, &[far, zero])?;
                let short = cx.build.select(near, short, zero)?;
                let own = cx.build.select(far, x, zero)?;
                cx.build.add(op::Add {}, &[short, own])
            })
        },
        "margin_ranking_loss" => |cx, call| {
            let (a, b) = (call.value(cx, "input1")?, call.value(cx, "input2")?);
            let target = call.value(cx, "target")?;
            let margin = call.float(cx, "margin")?;
            let both = to_common(cx, &[Arg::Tensor(a), Arg::Tensor(b)])?;
            let gap = cx.build.add(op::Sub {}, &both)?;
            reduced(cx, call, gap, target, |cx, _, gap, y| {
                let product = cx.build.add(op::Mul {}, &[y, gap])?;
                let loss = cx.build.with_float(op::Sub {}, product, margin)?;
                let loss = cx.build.add(op::Neg {}, &[loss])?;
                cx.build.with_float(op::Maximum {}, loss, 0.0)
            })
        },
        "binary_cross_entropy" => |cx, call| {
            pairwise(cx, call, |cx, call, x, y| {
                // Logarithms are not below −100.
                let rest = one_minus(cx, x)?;
                let mut terms = Vec::new();
                for (p, weight) in [(x, y), (rest, one_minus(cx, y)?)] {
                    let log = cx.build.add(op::Log {}, &[p])?;
                    let log = cx.build.with_float(op::Maximum {}, log, -100.0)?;
                    terms.push(cx.build.add(op::Mul {}, &[weight, log])?);
                }
                let sum = cx.build.add(op::Add {}, &terms)?;
                let loss = cx.build.add(op::Neg {}, &[sum])?;
                weighted(cx, call, loss)
            })
        },
        "binary_cross_entropy_with_logits" => |cx, call| {
            pairwise(cx, call, |cx, call, x, y| {
                // (1 − y)·x + w·log(1 + e⁻ˣ), w = 1 + (pos_weight − 1)·y.
                let rest = one_minus(cx, y)?;
                let linear = cx.build.add(op::Mul {}, &[rest, x])?;
                let negative = cx.build.add(op::Neg {}, &[x])?;
                let mut soft = softplus(cx, negative)?;
                if let Some(weight) = call.opt_value(cx, "pos_weight")? {
                    let weight = cx.build.cast(weight, cx.build.dtype(y)?)?;
                    let extra = cx.build.with_float(op::Sub {}, weight, 1.0)?;
                    let extra = cx.build.add(op::Mul {}, &[extra, y])?;
                    let factor = cx.build.with_float(op::Add {}, extra, 1.0)?;
                    soft = cx.build.add(op::Mul {}, &[soft, factor])?;
                }
                let loss = cx.build.add(op::Add {}, &[linear, soft])?;
                weighted(cx, call, loss)
            })
        },
        "kl_div" => |cx, call| {
            let logs = call.bool("log_target")?;
            pairwise(cx, call, |cx, _, x, y| {
                if logs {
                    let gap = cx.build.add(op::Sub {}, &[y, x])?;
                    let weight = cx.build.add(op::Exp {}, &[y])?;
                    return cx.build.add(op::Mul {}, &[weight, gap]);
                }
                // y·log y, 0 at 0, less y·x.
                let log = cx.build.add(op::Log {}, &[y])?;
                let own = cx.build.add(op::Mul {}, &[y, log])?;
                let zero = cx.build.float(0.0, cx.build.dtype(y)?)?;
                let at_zero = cx.build.add(op::Eq {}, &[y, zero])?;
                let own = cx.build.select(at_zero, zero, own)?;
                let cross = cx.build.add(op::Mul {}, &[y, x])?;
                cx.build.add(op::Sub {}, &[own, cross])
            })
        },
        "poisson_nll_loss" => |cx, call| {
            let (x, y) = (call.value(cx, "input")?, call.value(cx, "target")?);
            let (logs, full, eps) = (
                call.bool("log_input")?,
                call.bool("full")?,
                call.float(cx, "eps")?,
            );
            reduced(cx, call, x, y, |cx, _, x, y| {
                let (rate, log) = if logs {
                    (cx.build.add(op::Exp {}, &[x])?, x)
                } else {
                    let raised = cx.build.with_float(op::Add {}, x, eps)?;
                    (x, cx.build.add(op::Log {}, &[raised])?)
                };
                let gain = cx.build.add(op::Mul {}, &[y, log])?;
                let loss = cx.build.add(op::Sub {}, &[rate, gain])?;
                if !full {
                    return Ok(loss);
                }
                // Stirling's approximation of log y!, for more than one.
                let log = cx.build.add(op::Log {}, &[y])?;
                let grown = cx.build.times(y, log)?;
                let circle = cx
                    .build
                    .with_float(op::Mul {}, y, 2.0 * std::f64::consts::PI)?;
                let circle = cx.build.add(op::Log {}, &[circle])?;
                let circle = cx.build.with_float(op::Mul {}, circle, 0.5)?;
                let term = cx.build.minus(grown, y)?;
                let term = cx.build.plus(term, circle)?;
                let (zero, one) = (
                    cx.build.float(0.0, cx.build.dtype(y)?)?,
                    cx.build.float(1.0, cx.build.dtype(y)?)?,
                );
                let several = cx.build.add(op::Gt {}, &[y, one])?;
                let term = cx.build.select(several, term, zero)?;
                cx.build.plus(loss, term)
            })
        },
        "nll_loss" | "nll_loss_nd" | "nll_loss2d" | "nll_loss_forward" | "nll_loss2d_forward" => {
            |cx, call| {
                let x = call.value(cx, "self")?;
                let target = call.value(cx, "target")?;
                let wide = promote::compute_type(cx.build.dtype(x)?);
                let x = cx.build.cast(x, wide)?;
                classes(cx, call, x, target, 0.0)
            }
        }
        "cross_entropy_loss" => |cx, call| {
            let x = call.value(cx, "self")?;
            let target = call.value(cx, "target")?;
            let smoothing = call.float(cx, "label_smoothing")?;
            let wide = promote::compute_type(cx.build.dtype(x)?);
            let x = cx.build.cast(x, wide)?;
            let axis = class_axis(cx, x)?;
            let axes = vec![axis];
            let total = super::reduce::log_sum_exp(cx, x, axes, true)?;
            let x = cx.build.add(op::Sub {}, &[x, total])?;
            if cx.build.dtype(target)?.is_float() {
                return probabilities(cx, call, x, target, smoothing);
            }
            classes(cx, call, x, target, smoothing)
        },
        _ => return None,
    })
}

fn distance(cx: &mut Importer<'_>, x: Value, y: Value) -> Result<Value> {
    let gap = cx.build.add(op::Sub {}, &[x, y])?;
    cx.build.add(op::Abs {}, &[gap])
}

/// `log(1 + eˣ)`.
fn softplus(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let zero = cx.build.float(0.0, cx.build.dtype(x)?)?;
    cx.build.add(op::LogAddExp {}, &[x, zero])
}

fn below(
    cx: &mut Importer<'_>,
    x: Value,
    limit: f64,
    then: Value,
    otherwise: Value,
) -> Result<Value> {
    let limit = cx.build.float(limit, cx.build.dtype(x)?)?;
    let near = cx.build.add(op::Lt {}, &[x, limit])?;
    cx.build.select(near, then, otherwise)
}

/// The loss times the argument `weight`, where there is one.
fn weighted(cx: &mut Importer<'_>, call: &Call<'_>, loss: Value) -> Result<Value> {
    match call.opt_value(cx, "weight")? {
        None => Ok(loss),
        Some(weight) => {
            let weight = cx.build.cast(weight, cx.build.dtype(loss)?)?;
            cx.build.add(op::Mul {}, &[loss, weight])
        }
    }
}

/// A loss for each pair of elements of `self` and `target`.
fn pairwise<'a>(
    cx: &mut Importer<'_>,
    call: &Call<'a>,
    compute: impl FnOnce(&mut Importer<'_>, &Call<'a>, Value, Value) -> Result<Value>,
) -> Result<Vec<Out>> {
    let (x, y) = (call.value(cx, "self")?, call.value(cx, "target")?);
    reduced(cx, call, x, y, compute)
}

/// A loss for each pair of elements, in floats as wide as PyTorch's, reduced as `reduction` says.
fn reduced<'a>(
    cx: &mut Importer<'_>,
    call: &Call<'a>,
    x: Value,
    y: Value,
    compute: impl FnOnce(&mut Importer<'_>, &Call<'a>, Value, Value) -> Result<Value>,
) -> Result<Vec<Out>> {
    let both = to_common(cx, &[Arg::Tensor(x), Arg::Tensor(y)])?;
    let wide = promote::compute_type(promote::to_float(cx.build.dtype(both[0])?));
    let (x, y) = (cx.build.cast(both[0], wide)?, cx.build.cast(both[1], wide)?);
    let loss = compute(cx, call, x, y)?;
    finished(cx, call, loss)
}

/// A loss reduced as `reduction` says, in the dtype of the result.
pub(super) fn finished(cx: &mut Importer<'_>, call: &Call<'_>, loss: Value) -> Result<Vec<Out>> {
    let axes: Vec<usize> = (0..cx.build.rank(loss)?).collect();
    let keepdim = false;
    let loss = match call.int("reduction")? {
        0 => loss,
        1 => cx.build.add(op::Mean { axes, keepdim }, &[loss])?,
        2 => cx.build.add(op::Sum { axes, keepdim }, &[loss])?,
        other => return invalid(format!("the reduction {other}")),
    };
    done(cx.build.cast(loss, call.out_dtype(0)?))
}

/// The axis of classes: the only one of a sample, else the second.
fn class_axis(cx: &Importer<'_>, x: Value) -> Result<usize> {
    match cx.build.rank(x)? {
        0 => invalid("a loss of a tensor without classes"),
        rank => Ok(usize::from(rank > 1)),
    }
}

/// The negative of each sample's element at its class: weighted by class, zero for the ignored one, the mean being that of the weights. With smoothing, part of
/// the mean over all classes.
fn classes(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: Value,
    target: Value,
    smoothing: f64,
) -> Result<Vec<Out>> {
    let axis = class_axis(cx, x)?;
    let dtype = cx.build.dtype(x)?;
    let Some(count) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("a loss of a tensor without classes");
    };
    let target = cx.build.cast(target, DType::I64)?;
    let ignored = match call.dim("ignore_index")?.as_const() {
        Some(n) => cx.build.scalar(Scalar::Int(n), DType::I64)?,
        None => return unsupported("an ignored class that is known only at run time"),
    };
    let kept = cx.build.add(op::Ne {}, &[target, ignored])?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let class = cx.build.select(kept, target, zero)?;
    let zero = cx.build.float(0.0, dtype)?;
    let weight = match call.opt_value(cx, "weight")? {
        Some(weight) => Some(cx.build.cast(weight, dtype)?),
        None => None,
    };
    let index = cx.build.unsqueeze(class, axis)?;
    let picked = cx.build.add(op::TakeAlong { axis }, &[x, index])?;
    let shape = cx.build.shape(class)?;
    let picked = cx.build.reshape(picked, shape.clone())?;
    let mut loss = cx.build.add(op::Neg {}, &[picked])?;
    let share = match weight {
        Some(weight) => cx.build.add(op::Take { axis: 0 }, &[weight, class])?,
        None => cx.build.full(Scalar::Int(1), dtype, shape)?,
    };
    let share = cx.build.select(kept, share, zero)?;
    if weight.is_some() {
        loss = cx.build.add(op::Mul {}, &[loss, share])?;
    }
    loss = cx.build.select(kept, loss, zero)?;
    if smoothing > 0.0 {
        let all = lined(cx, x, weight, axis)?;
        let axes = vec![axis];
        let sum = cx.build.add(
            op::Sum {
                axes,
                keepdim: false,
            },
            &[all],
        )?;
        let smooth = cx.build.add(op::Neg {}, &[sum])?;
        let smooth = cx.build.select(kept, smooth, zero)?;
        let Some(count) = count.as_const() else {
            return unsupported("label smoothing over a dynamic number of classes");
        };
        let part = smoothing / count as f64;
        let smooth = cx.build.with_float(op::Mul {}, smooth, part)?;
        let rest = cx.build.with_float(op::Mul {}, loss, 1.0 - smoothing)?;
        loss = cx.build.add(op::Add {}, &[rest, smooth])?;
    }
    let axes: Vec<usize> = (0..cx.build.rank(loss)?).collect();
    let keepdim = false;
    let total = cx.build.add(
        op::Sum {
            axes: axes.clone(),
            keepdim,
        },
        &[share],
    )?;
    let reduction = call.int("reduction")?;
    let sum = match reduction {
        0 => loss,
        _ => cx.build.add(op::Sum { axes, keepdim }, &[loss])?,
    };
    let loss = match reduction {
        1 => cx.build.add(op::Div {}, &[sum, total])?,
        0 | 2 => sum,
        other => return invalid(format!("the reduction {other}")),
    };
    let loss = cx.build.cast(loss, call.out_dtype(0)?)?;
    if call.out_names().len() < 2 {
        return done(Ok(loss));
    }
    // Without a reduction the total weight is not computed.
    let total = if reduction == 0 { zero } else { total };
    let total = cx.build.cast(total, call.out_dtype(1)?)?;
    Ok(vec![loss.into(), total.into()])
}

/// `x` times the weights of classes along an axis.
fn lined(cx: &mut Importer<'_>, x: Value, weight: Option<Value>, axis: usize) -> Result<Value> {
    let Some(weight) = weight else { return Ok(x) };
    let mut shape = vec![Dim::from(1i64); cx.build.rank(x)?];
    shape[axis] = cx.build.ty(weight)?.numel();
    let weight = cx.build.reshape(weight, shape)?;
    cx.build.add(op::Mul {}, &[x, weight])
}

/// `−Σ p·log q` over classes, with p smoothed; the mean is over samples.
fn probabilities(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: Value,
    target: Value,
    smoothing: f64,
) -> Result<Vec<Out>> {
    let axis = class_axis(cx, x)?;
    let mut p = cx.build.cast(target, cx.build.dtype(x)?)?;
    if smoothing > 0.0 {
        let Some(count) = cx.build.shape(x)?[axis].as_const() else {
            return unsupported("label smoothing over a dynamic number of classes");
        };
        p = cx.build.with_float(op::Mul {}, p, 1.0 - smoothing)?;
        p = cx
            .build
            .with_float(op::Add {}, p, smoothing / count as f64)?;
    }
    let weight = match call.opt_value(cx, "weight")? {
        Some(weight) => Some(cx.build.cast(weight, cx.build.dtype(x)?)?),
        None => None,
    };
    let x = lined(cx, x, weight, axis)?;
    let product = cx.build.add(op::Mul {}, &[p, x])?;
    let axes = vec![axis];
    let sum = cx.build.add(
        op::Sum {
            axes,
            keepdim: false,
        },
        &[product],
    )?;
    let loss = cx.build.add(op::Neg {}, &[sum])?;
    let axes: Vec<usize> = (0..cx.build.rank(loss)?).collect();
    let loss = match call.int("reduction")? {
        0 => loss,
        1 => {
            let count = count_of(cx, loss, &axes)?;
            let sum = cx.build.add(
                op::Sum {
                    axes,
                    keepdim: false,
                },
                &[loss],
            )?;
            cx.build.add(op::Div {}, &[sum, count])?
        }
        2 => cx.build.add(
            op::Sum {
                axes,
                keepdim: false,
            },
            &[loss],
        )?,
        other => return invalid(format!("the reduction {other}")),
    };
    done(cx.build.cast(loss, call.out_dtype(0)?))
}
