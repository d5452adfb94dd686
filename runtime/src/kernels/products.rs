//! Products of matrices, convolutions, norms, and resizing of planes.

use fuseline_program::instr::*;
use fuseline_program::{ScalarType, Tid};

use super::call::{Call, Result, small};
use super::pointwise::floats;
use super::types::Scalar;
use super::{Kernels, bad};
use crate::tensor::Tensor;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    for name in ["aten::mm.out", "aten::bmm.out"] {
        kernels.device(name, 2, |call| {
            let (mat1, mat2) = (call.tensor(0)?, call.tensor(1)?);
            product(call, mat1, mat2)
        });
    }
    for name in ["aten::addmm.out", "aten::baddbmm.out"] {
        kernels.device(name, 5, |call| {
            let (mat1, mat2) = (call.tensor(1)?, call.tensor(2)?);
            let a = product(call, mat1, mat2)?;
            let a = factor(call, a, 4)?;
            let b = call.tensor(0)?;
            let b = factor(call, b, 3)?;
            call.make(|out| Add { a, b, out })
        });
    }
    kernels.device("aten::convolution.out", 9, convolution);
    kernels.devices("aten::native_layer_norm.out", 5, 3, layer_norm);
    kernels.devices("aten::native_group_norm.out", 8, 3, group_norm);
    kernels.devices(
        "aten::_native_batch_norm_legit_no_training.out",
        7,
        3,
        |call| {
            let (mean, variance) = (call.tensor(3)?, call.tensor(4)?);
            let made = batch_norm(call, Some((mean, variance)), 6)?;
            let none = call.full(&[0], Scalar::Float(0.0), ScalarType::F32)?;
            Ok(vec![made[0], none, none])
        },
    );
    kernels.devices(
        "aten::_native_batch_norm_legit.no_stats_out",
        6,
        3,
        |call| batch_norm(call, None, 5),
    );
    kernels.devices("aten::_native_batch_norm_legit.out", 8, 3, |call| {
        if call.flag(5) {
            return Err(bad(5, "asks for training"));
        }
        let (mean, variance) = (call.tensor(3)?, call.tensor(4)?);
        batch_norm(call, Some((mean, variance)), 7)
    });
    kernels.device("aten::upsample_nearest2d.vec_out", 3, |call| {
        resized(call, 2, |place, scale, _| {
            vec![((place as f64 * scale) as i64, 1.0)]
        })
    });
    kernels.device("aten::upsample_bilinear2d.vec_out", 4, |call| {
        let corners = call.flag(2);
        resized(call, 3, move |place, scale, length| {
            let at = if corners {
                place as f64 * scale
            } else {
                ((place as f64 + 0.5) * scale - 0.5).max(0.0)
            };
            let low = (at as i64).min(length - 1);
            let part = at - low as f64;
            vec![(low, 1.0 - part), ((low + 1).min(length - 1), part)]
        })
    });
}

/// `mat1 @ mat2`.
fn product(call: &mut Call<'_>, mat1: Tid, mat2: Tid) -> Result {
    call.make(|out| Addmm {
        mat1,
        mat2,
        out,
        bias: None,
        alpha: 1.0,
        beta: 1.0,
    })
}

/// A tensor times the number that an argument is, 1 if it is not given.
fn factor(call: &mut Call<'_>, a: Tid, position: usize) -> Result {
    if !call.given(position) || call.scalar(position)?.float() == 1.0 {
        return Ok(a);
    }
    let (number, dtype) = (call.scalar(position)?, call.dtype(a)?);
    let b = call.number(number, dtype)?;
    call.make(|out| Multiply { a, b, out })
}

/// One number for each of so many axes: a single one is for all of them.
fn each<const N: usize>(call: &Call<'_>, position: usize, absent: i32) -> Result<[i32; N]> {
    let given = call.ints(position)?;
    let given = given.into_iter().map(small).collect::<Result<Vec<i32>>>()?;
    match given.as_slice() {
        [] => Ok([absent; N]),
        [one] => Ok([*one; N]),
        all => <[i32; N]>::try_from(all).map_err(|_| bad(position, format!("is not {N} numbers"))),
    }
}

/// `convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)`. Instructions have channels last.
fn convolution(call: &mut Call<'_>) -> Result {
    let (x, w) = (call.tensor(0)?, call.tensor(1)?);
    let rank = call.rank(x)?;
    if !(3..=5).contains(&rank) || call.rank(w)? != rank {
        return Err(bad(0, format!("has {rank} axes, as no convolution has")));
    }
    let channels_last: Vec<usize> = [&[0][..], &(2..rank).collect::<Vec<_>>(), &[1]].concat();
    let x = call.transpose(x, &channels_last)?;
    let (transposed, groups) = (call.flag(6), call.int(8, 1)?);
    let w = if transposed {
        turned_weight(call, w, groups)?
    } else {
        call.transpose(w, &channels_last)?
    };
    let groups = small(groups)?;
    let made = match rank {
        3 => along_one(call, x, w, transposed, groups)?,
        4 => along_two(call, x, w, transposed, groups)?,
        _ => along_three(call, x, w, transposed, groups)?,
    };
    let made = match call.optional(2)? {
        Some(b) => call.make(|out| Add { a: made, b, out })?,
        None => made,
    };
    let channels_first: Vec<usize> =
        [&[0, rank - 1][..], &(1..rank - 1).collect::<Vec<_>>()].concat();
    call.transpose(made, &channels_first)
}

/// `[in, out / groups, …]` as `[out, …, in / groups]`.
fn turned_weight(call: &mut Call<'_>, w: Tid, groups: i64) -> Result {
    let shape = call.shape(w)?;
    let Some((&[inner, outer], kernel)) = shape.split_first_chunk() else {
        return Err(bad(1, "is no weight of a convolution"));
    };
    if groups < 1 || inner % groups != 0 {
        return Err(bad(
            8,
            format!("is {groups}, which does not divide {inner}"),
        ));
    }
    let apart = [&[groups, inner / groups, outer][..], kernel].concat();
    let apart = call.reshape(w, &apart)?;
    let rank = kernel.len() + 3;
    let order: Vec<usize> = [&[0, 2][..], &(3..rank).collect::<Vec<_>>(), &[1]].concat();
    let turned = call.transpose(apart, &order)?;
    let whole = [
        &[groups.saturating_mul(outer)][..],
        kernel,
        &[inner / groups],
    ]
    .concat();
    call.reshape(turned, &whole)
}

fn along_one(call: &mut Call<'_>, x: Tid, w: Tid, transposed: bool, groups: i32) -> Result {
    let ([stride], [padding]) = (each(call, 3, 1)?, each(call, 4, 0)?);
    let ([dilation], [output_padding]) = (each(call, 5, 1)?, each(call, 7, 0)?);
    if transposed {
        return call.make(|out| ConvTranspose1D {
            x,
            w,
            out,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
        });
    }
    call.make(|out| Conv1D {
        x,
        w,
        out,
        stride,
        padding,
        dilation,
        groups,
    })
}

fn along_two(call: &mut Call<'_>, x: Tid, w: Tid, transposed: bool, groups: i32) -> Result {
    let ([stride_h, stride_w], [padding_h, padding_w]) = (each(call, 3, 1)?, each(call, 4, 0)?);
    let [dilation_h, dilation_w] = each(call, 5, 1)?;
    let [output_padding_h, output_padding_w] = each(call, 7, 0)?;
    if transposed {
        return call.make(|out| ConvTranspose2D {
            x,
            w,
            out,
            stride_h,
            stride_w,
            padding_h,
            padding_w,
            dilation_h,
            dilation_w,
            output_padding_h,
            output_padding_w,
            groups,
        });
    }
    call.make(|out| Conv2D {
        x,
        w,
        out,
        stride_h,
        stride_w,
        padding_h,
        padding_w,
        dilation_h,
        dilation_w,
        groups,
    })
}

fn along_three(call: &mut Call<'_>, x: Tid, w: Tid, transposed: bool, groups: i32) -> Result {
    let [stride_d, stride_h, stride_w] = each(call, 3, 1)?;
    let [padding_d, padding_h, padding_w] = each(call, 4, 0)?;
    let [dilation_d, dilation_h, dilation_w] = each(call, 5, 1)?;
    let [output_padding_d, output_padding_h, output_padding_w] = each(call, 7, 0)?;
    if transposed {
        return call.make(|out| ConvTranspose3D {
            x,
            w,
            out,
            stride_d,
            stride_h,
            stride_w,
            padding_d,
            padding_h,
            padding_w,
            dilation_d,
            dilation_h,
            dilation_w,
            output_padding_d,
            output_padding_h,
            output_padding_w,
            groups,
        });
    }
    call.make(|out| Conv3D {
        x,
        w,
        out,
        stride_d,
        stride_h,
        stride_w,
        padding_d,
        padding_h,
        padding_w,
        dilation_d,
        dilation_h,
        dilation_w,
        groups,
    })
}

/// What rows have in common: the mean, and 1 over the root of the variance. Axes stay, with length 1.
fn moments(call: &mut Call<'_>, x: Tid, axes: &[i32], eps: f64) -> Result<[Tid; 2]> {
    let mean = call.make(|out| Mean {
        x,
        out,
        axes: axes.to_vec(),
        keepdims: true,
    })?;
    let variance = call.make(|out| Var {
        x,
        out,
        axes: axes.to_vec(),
        keepdims: true,
        ddof: 0,
    })?;
    Ok([mean, inverse_root(call, variance, eps)?])
}

/// `1 / sqrt(x + eps)`.
fn inverse_root(call: &mut Call<'_>, x: Tid, eps: f64) -> Result {
    let dtype = call.dtype(x)?;
    let eps = call.number(Scalar::Float(eps), dtype)?;
    let x = call.make(|out| Add { a: x, b: eps, out })?;
    call.make(|out| Rsqrt { x, out })
}

/// `(x - mean) · scale · weight + bias`, weight and bias in a shape that broadcasts.
fn normed(
    call: &mut Call<'_>,
    x: Tid,
    [mean, scale]: [Tid; 2],
    places: [usize; 2],
    shape: &[i64],
) -> Result {
    let moved = call.make(|out| Subtract { a: x, b: mean, out })?;
    let made = call.make(|out| Multiply {
        a: moved,
        b: scale,
        out,
    })?;
    weighted(call, made, places, shape)
}

/// `native_layer_norm(input, normalized_shape, weight, bias, eps)`: the result, means, and 1 over the roots of variances.
fn layer_norm(call: &mut Call<'_>) -> Result<Vec<Tid>> {
    let (x, shape) = (floats(call, 0)?, call.ints(1)?);
    let rank = call.rank(x)?;
    if shape.is_empty() || !call.shape(x)?.ends_with(&shape) {
        return Err(bad(1, "is not how the tensor's shape ends"));
    }
    let axes = (rank - shape.len()..rank).map(|at| small(at as i64));
    let axes = axes.collect::<Result<Vec<i32>>>()?;
    let eps = call.float(4, 1e-5)?;
    let [mean, scale] = moments(call, x, &axes, eps)?;
    let made = normed(call, x, [mean, scale], [2, 3], &shape)?;
    Ok(vec![made, mean, scale])
}

/// `native_group_norm(input, weight, bias, N, C, HxW, group, eps)`.
fn group_norm(call: &mut Call<'_>) -> Result<Vec<Tid>> {
    let x = floats(call, 0)?;
    let shape = call.shape(x)?;
    let groups = call.int(6, 1)?;
    let Some((&[batch, channels], planes)) = shape.split_first_chunk() else {
        return Err(bad(0, "has no channels"));
    };
    if groups < 1 || channels % groups != 0 {
        return Err(bad(
            6,
            format!("is {groups}, which does not divide {channels}"),
        ));
    }
    let size = planes
        .iter()
        .fold(channels / groups, |all, n| all.saturating_mul(*n));
    let rows = call.reshape(x, &[batch, groups, size])?;
    let eps = call.float(7, 1e-5)?;
    let [mean, scale] = moments(call, rows, &[2], eps)?;
    let moved = call.make(|out| Subtract {
        a: rows,
        b: mean,
        out,
    })?;
    let made = call.make(|out| Multiply {
        a: moved,
        b: scale,
        out,
    })?;
    let made = call.reshape(made, &shape)?;
    let wide: Vec<i64> = [&[channels][..], &vec![1; planes.len()]].concat();
    let made = weighted(call, made, [1, 2], &wide)?;
    let mean = call.reshape(mean, &[batch, groups])?;
    let scale = call.reshape(scale, &[batch, groups])?;
    Ok(vec![made, mean, scale])
}

/// `x · weight + bias`, those of the two that are given, in a shape that broadcasts.
fn weighted(call: &mut Call<'_>, x: Tid, [weight, bias]: [usize; 2], shape: &[i64]) -> Result {
    let mut made = x;
    if call.given(weight) {
        let b = floats(call, weight)?;
        let b = call.reshape(b, shape)?;
        made = call.make(|out| Multiply { a: made, b, out })?;
    }
    if call.given(bias) {
        let b = floats(call, bias)?;
        let b = call.reshape(b, shape)?;
        made = call.make(|out| Add { a: made, b, out })?;
    }
    Ok(made)
}

/// The norm of each channel by these means and variances, or by its own; with the means, and 1 over the roots of variances.
fn batch_norm(call: &mut Call<'_>, known: Option<(Tid, Tid)>, eps: usize) -> Result<Vec<Tid>> {
    let x = floats(call, 0)?;
    let shape = call.shape(x)?;
    let Some((&[_, channels], planes)) = shape.split_first_chunk() else {
        return Err(bad(0, "has no channels"));
    };
    let wide: Vec<i64> = [&[channels][..], &vec![1; planes.len()]].concat();
    let eps = call.float(eps, 1e-5)?;
    let [mean, scale] = match known {
        Some((mean, variance)) => {
            let dtype = call.dtype(x)?;
            let (mean, variance) = (call.cast(mean, dtype)?, call.cast(variance, dtype)?);
            let scale = inverse_root(call, variance, eps)?;
            [call.reshape(mean, &wide)?, call.reshape(scale, &wide)?]
        }
        None => {
            let axes = (0..shape.len()).filter(|at| *at != 1);
            let axes = axes
                .map(|at| small(at as i64))
                .collect::<Result<Vec<i32>>>()?;
            moments(call, x, &axes, eps)?
        }
    };
    let made = normed(call, x, [mean, scale], [1, 2], &wide)?;
    let mean = call.reshape(mean, &[channels])?;
    let scale = call.reshape(scale, &[channels])?;
    Ok(vec![made, mean, scale])
}

/// As many numbers as are laid out for a place of a plane in another size.
const WEIGHTS: usize = 8;

/// The last two axes in another size: what `input` elements a place is made of, with their weights, given the place, the step between places in
/// elements, and the length. The size is the second argument; without it, it follows from the factors at `factors`.
fn resized(
    call: &mut Call<'_>,
    factors: usize,
    parts: impl Fn(i64, f64, i64) -> Vec<(i64, f64)>,
) -> Result {
    let mut x = floats(call, 0)?;
    let shape = call.shape(x)?;
    let Some((batch, lengths)) = shape.split_last_chunk::<2>() else {
        return Err(bad(0, "has no planes"));
    };
    let sizes = call.ints(1)?;
    let given = match call.argument(factors) {
        Some(crate::value::Value::List(items)) => items
            .iter()
            .filter_map(crate::value::Value::as_float)
            .collect(),
        _ => Vec::new(),
    };
    for (at, length) in lengths.iter().copied().enumerate() {
        let factor = given.get(at).copied();
        let size = match (sizes.get(at), factor) {
            (Some(size), _) => *size,
            (None, Some(factor)) => (length as f64 * factor) as i64,
            (None, None) => return Err(bad(1, "is missing")),
        };
        // Each place is worked out with its weights.
        let affordable =
            usize::try_from(size).is_ok_and(|size| super::is_affordable(&[size, WEIGHTS]));
        if length == 0 || !affordable {
            return Err(bad(1, format!("is no size of a plane of {length}")));
        }
        let corners = factors == 3 && call.flag(2);
        let scale = match factor {
            _ if corners => (length - 1) as f64 / (size - 1).max(1) as f64,
            Some(factor) if factor > 0.0 => 1.0 / factor,
            _ => length as f64 / size.max(1) as f64,
        };
        let made_of: Vec<_> = (0..size).map(|place| parts(place, scale, length)).collect();
        x = mixed(call, x, batch.len() + at, &made_of, length)?;
    }
    Ok(x)
}

/// Each place along an axis as a sum of weighted elements.
fn mixed(
    call: &mut Call<'_>,
    x: Tid,
    axis: usize,
    made_of: &[Vec<(i64, f64)>],
    length: i64,
) -> Result {
    let mut sum = None;
    let terms = made_of.first().map_or(1, Vec::len);
    let rest = call.rank(x)? - axis - 1;
    let dtype = call.dtype(x)?;
    for term in 0..terms {
        let of = |place: &Vec<(i64, f64)>| place.get(term).copied().unwrap_or((0, 0.0));
        let places: Vec<i64> = made_of
            .iter()
            .map(|place| of(place).0.clamp(0, length - 1))
            .collect();
        let places = call.hold(&Tensor::from_slice(&[places.len()], &places)?)?;
        let at = small(axis as i64)?;
        let mut taken = call.make(|out| Take {
            x,
            out,
            index: IntOrVidOrTid::Tid(places),
            axis: at,
        })?;
        if terms > 1 {
            let weights: Vec<f32> = made_of.iter().map(|place| of(place).1 as f32).collect();
            let shape = [vec![weights.len()], vec![1; rest]].concat();
            let b = call.hold(&Tensor::from_slice(&shape, &weights)?)?;
            let b = call.cast(b, dtype)?;
            taken = call.make(|out| Multiply { a: taken, b, out })?;
        }
        sum = Some(match sum {
            Some(a) => call.make(|out| Add { a, b: taken, out })?,
            None => taken,
        });
    }
    sum.ok_or_else(|| bad(1, "is missing"))
}
