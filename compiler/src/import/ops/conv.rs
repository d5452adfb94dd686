//! Convolutions. The IR's are channels last; PyTorch's channels come second, so axes are moved on the way in and out.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Dim, Scalar, Value};

use super::pointwise::done;
use super::whole_conv::{self, Taps};
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match (operator, overload) {
        ("conv1d" | "conv2d" | "conv3d", "default") => |cx, call| {
            let groups = call.int("groups")?;
            convolve(
                cx,
                call,
                "padding",
                Given {
                    groups,
                    ..Given::default()
                },
            )
        },
        ("conv1d" | "conv2d" | "conv3d", "padding") => |cx, call| {
            let groups = call.int("groups")?;
            let same = match call.opt_str("padding")? {
                Some("valid") => false,
                Some("same") => true,
                other => return invalid(format!("convolution has no padding {other:?}")),
            };
            convolve(
                cx,
                call,
                "",
                Given {
                    groups,
                    same,
                    ..Given::default()
                },
            )
        },
        ("conv_tbc", "default") => conv_tbc,
        ("conv_transpose1d", "default") | ("conv_transpose2d" | "conv_transpose3d", "input") => {
            |cx, call| {
                let groups = call.int("groups")?;
                convolve(
                    cx,
                    call,
                    "padding",
                    Given {
                        groups,
                        transposed: true,
                        ..Given::default()
                    },
                )
            }
        }
        ("convolution" | "_convolution", _) => |cx, call| {
            let groups = call.int("groups")?;
            let transposed = call.bool("transposed")?;
            convolve(
                cx,
                call,
                "padding",
                Given {
                    groups,
                    transposed,
                    ..Given::default()
                },
            )
        },
        _ => return None,
    })
}

/// What the operators say in different ways.
#[derive(Default)]
struct Given {
    groups: i64,
    transposed: bool,
    same: bool,
}

/// One value for each of `n` axes; a list of one stands for all.
pub(in crate::import) fn per_axis(
    call: &Call<'_>,
    name: &str,
    n: usize,
    absent: usize,
) -> Result<Vec<usize>> {
    let values = call.opt_ints(name)?.unwrap_or_default();
    let values = values
        .into_iter()
        .map(|value| {
            // Programs count in 32 bits; a step or a window of nothing is none.
            let fits = i32::try_from(value)
                .ok()
                .and_then(|n| usize::try_from(n).ok());
            match fits.filter(|n| *n >= absent) {
                Some(n) => Ok(n),
                None => invalid(format!("argument `{name}` can't be {value}")),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    match values.as_slice() {
        [] => Ok(vec![absent; n]),
        [one] => Ok(vec![*one; n]),
        all if all.len() == n => Ok(values),
        _ => invalid(format!(
            "argument `{name}` has {} values for {n} axes",
            values.len()
        )),
    }
}

fn convolve(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    padding: &str,
    given: Given,
) -> Result<Vec<Out>> {
    let (input, weight) = (call.value(cx, "input")?, call.value(cx, "weight")?);
    let bias = call.opt_value(cx, "bias")?;
    let rank = cx.build.rank(weight)?;
    let Some(n) = rank.checked_sub(2).filter(|n| (1..=3).contains(n)) else {
        return unsupported(format!("a convolution with a {rank}-d kernel"));
    };
    let Ok(groups) = usize::try_from(given.groups) else {
        return invalid("a negative number of groups");
    };
    let batched = cx.build.rank(input)? == rank;
    let x = if batched {
        input
    } else {
        cx.build.unsqueeze(input, 0)?
    };
    let (stride, dilation) = (
        per_axis(call, "stride", n, 1)?,
        per_axis(call, "dilation", n, 1)?,
    );
    let mut pad = if padding.is_empty() {
        vec![0; n]
    } else {
        per_axis(call, padding, n, 0)?
    };

    let to_last: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let mut x = cx.build.transpose(x, to_last.clone())?;
    if given.same {
        (x, pad) = pad_same(cx, x, weight, &dilation)?;
    }
    let dtype = cx.build.dtype(x)?;
    let product = if !dtype.is_float() {
        if given.transposed {
            return unsupported(
                "a transposed convolution of integers; convert input and weights to floats",
            );
        }
        let weight = cx.build.transpose(weight, to_last)?;
        let taps = Taps {
            stride,
            pad,
            dilation,
            groups,
        };
        whole_conv::convolve(cx, x, weight, &taps)?
    } else if given.transposed {
        let output_padding = per_axis(call, "output_padding", n, 0)?;
        let kernel = cx.build.shape(weight)?;
        let weight = transposed_weight(cx, weight, groups)?;
        // MLX takes no padding that is wider than the kernel reaches: what such a one takes away beyond that is cut off after.
        let mut cut = vec![0; n];
        for (axis, pad) in pad.iter_mut().enumerate() {
            let reach = kernel[axis + 2].as_const();
            let reach = reach.and_then(|size| usize::try_from(size - 1).ok());
            if let Some(reach) = reach.map(|reach| reach * dilation[axis]) {
                cut[axis] = pad.saturating_sub(reach);
                *pad -= cut[axis];
            }
        }
        let op = op::ConvTranspose {
            stride,
            padding: pad,
            dilation,
            output_padding,
            groups,
        };
        let mut product = cx.build.add(op, &[x, weight])?;
        for (axis, cut) in cut.into_iter().enumerate().filter(|(_, cut)| *cut > 0) {
            let stop = &cx.build.shape(product)?[axis + 1] - &Dim::from(cut);
            product = cx.build.slice(product, axis + 1, cut.into(), stop)?;
        }
        product
    } else {
        let weight = cx.build.transpose(weight, to_last)?;
        cx.build.add(
            op::Conv {
                stride,
                padding: pad,
                dilation,
                groups,
            },
            &[x, weight],
        )?
    };
    let mut out = product;
    if let Some(bias) = bias {
        let bias = cx.build.cast(bias, dtype)?;
        out = cx.build.add(op::Add {}, &[out, bias])?;
    }
    let to_second = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let out = cx.build.transpose(out, to_second)?;
    if batched {
        return done(Ok(out));
    }
    let shape = call.out_shape(0)?;
    done(cx.build.reshape(out, shape))
}

/// A convolution along the first axis of [time, batch, channels], with weights [kernel, channels, outputs].
fn conv_tbc(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, weight) = (call.value(cx, "self")?, call.value(cx, "weight")?);
    let bias = call.value(cx, "bias")?;
    let Ok(pad) = usize::try_from(call.int("pad")?) else {
        return invalid("a negative padding");
    };
    let x = cx.build.swap(x, 0, 1)?;
    let weight = cx.build.transpose(weight, vec![2, 0, 1])?;
    let conv = op::Conv {
        stride: vec![1],
        padding: vec![pad],
        dilation: vec![1],
        groups: 1,
    };
    let product = cx.build.add(conv, &[x, weight])?;
    let sum = cx.build.plus(product, bias)?;
    done(cx.build.swap(sum, 0, 1))
}

/// Padding that keeps the size for stride 1: what both sides share goes to the convolution, an odd one to the end.
fn pad_same(
    cx: &mut Importer<'_>,
    x: Value,
    weight: Value,
    dilation: &[usize],
) -> Result<(Value, Vec<usize>)> {
    let kernel = cx.build.shape(weight)?;
    let rank = kernel.len();
    let mut pad = Vec::new();
    let zero = || Dim::from(0i64);
    let (low, mut high) = (vec![zero(); rank], vec![zero(); rank]);
    for (axis, dilation) in dilation.iter().enumerate() {
        let Some(size) = kernel[axis + 2]
            .as_const()
            .and_then(|k| usize::try_from(k - 1).ok())
        else {
            return unsupported("a kernel of dynamic size");
        };
        let Some(total) = size.checked_mul(*dilation) else {
            return invalid(format!("a dilation of {dilation}"));
        };
        pad.push(total / 2);
        high[axis + 1] = Dim::from(total % 2);
    }
    if high.iter().all(|width| width.is(0)) {
        return Ok((x, pad));
    }
    let value = Scalar::Int(0).cast(cx.build.dtype(x)?);
    Ok((cx.build.add(op::Pad { low, high, value }, &[x])?, pad))
}

/// From `[in, out / groups, kernel…]` to `[out, kernel…, in / groups]`.
fn transposed_weight(cx: &mut Importer<'_>, weight: Value, groups: usize) -> Result<Value> {
    let shape = cx.build.shape(weight)?;
    let [channels, outs, kernel @ ..] = shape.as_slice() else {
        return invalid("a kernel without channels");
    };
    let groups_dim = Dim::from(groups);
    let apart = [
        vec![
            groups_dim.clone(),
            channels.floor_div(&groups_dim),
            outs.clone(),
        ],
        kernel.to_vec(),
    ]
    .concat();
    let apart = cx.build.reshape(weight, apart)?;
    // [groups, in, out, kernel…] to [groups, out, kernel…, in].
    let perm = [0, 2]
        .into_iter()
        .chain(3..3 + kernel.len())
        .chain([1])
        .collect();
    let moved = cx.build.transpose(apart, perm)?;
    let merged = [
        vec![outs * &groups_dim],
        kernel.to_vec(),
        vec![channels.floor_div(&groups_dim)],
    ]
    .concat();
    cx.build.reshape(moved, merged)
}
