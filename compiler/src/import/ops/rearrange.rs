//! Operators that give the elements of a tensor a new order or repeat them, as new tensors: flips, rolls, repeats, padding, windows.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Dim, Scalar, Value};

use super::movement::sorted_axes;
use super::pointwise::done;
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid, unsupported};
use crate::import::memory::TensorId;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "diagonal" | "linalg_diagonal" => diagonal,
        "unfold" => unfold,
        "flip" | "fliplr" | "flipud" => |cx, call| {
            let x = call.value(cx, "self")?;
            let rank = cx.build.rank(x)?;
            let axes = match call.target {
                "aten.fliplr.default" => vec![1],
                "aten.flipud.default" => vec![0],
                _ => sorted_axes(call.ints("dims")?, rank)?,
            };
            if axes.is_empty() {
                return done(Ok(x));
            }
            done(cx.build.add(op::Flip { axes }, &[x]))
        },
        "roll" => roll,
        "rot90" => rot90,
        "repeat" | "tile" => repeat,
        "repeat_interleave" if overload == "self_int" => repeat_interleave,
        "constant_pad_nd" => |cx, call| {
            let value = call.num(cx, "value")?;
            let crate::import::call::Num::Known(value) = value else {
                return unsupported("padding with a value known only at run time");
            };
            let x = call.value(cx, "self")?;
            done(pad(cx, x, &call.dims("pad")?, value))
        },
        "pad" => |cx, call| {
            let x = call.value(cx, "self")?;
            match call.opt_str("mode")? {
                None | Some("constant") => {
                    let value = call.opt_float(cx, "value")?.unwrap_or(0.0);
                    done(pad(cx, x, &call.dims("pad")?, Scalar::float(value)))
                }
                Some(mode) => mirrored_pad(cx, x, &call.ints("pad")?, mode),
            }
        },
        "pad_sequence" => pad_sequence,
        "reflection_pad1d" | "reflection_pad2d" | "reflection_pad3d" => |cx, call| {
            let x = call.value(cx, "self")?;
            mirrored_pad(cx, x, &call.ints("padding")?, "reflect")
        },
        "replication_pad1d" | "replication_pad2d" | "replication_pad3d" => |cx, call| {
            let x = call.value(cx, "self")?;
            mirrored_pad(cx, x, &call.ints("padding")?, "replicate")
        },
        "_pad_circular" => |cx, call| {
            let x = call.value(cx, "self")?;
            mirrored_pad(cx, x, &call.ints("pad")?, "circular")
        },
        "pixel_shuffle" => |cx, call| pixels(cx, call, true),
        "pixel_unshuffle" => |cx, call| pixels(cx, call, false),
        "channel_shuffle" | "native_channel_shuffle" => |cx, call| {
            let x = call.value(cx, "self")?;
            let shape = cx.build.shape(x)?;
            let groups = Dim::from(call.int("groups")?);
            let Some((batch, rest)) = shape.split_first() else {
                return invalid("a 0-d tensor has no channels");
            };
            let Some((channels, after)) = rest.split_first() else {
                return invalid("a 1-d tensor has no channels");
            };
            let mut split = vec![batch.clone(), groups.clone(), channels.floor_div(&groups)];
            split.extend_from_slice(after);
            let split = cx.build.reshape(x, split)?;
            let swapped = cx.build.swap(split, 1, 2)?;
            done(cx.build.reshape(swapped, shape))
        },
        _ => return None,
    })
}

/// A diagonal of two axes, as a new tensor at the end of the other axes.
fn diagonal(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let own = call.schema.is_some_and(|schema| schema.arg("A").is_some());
    let x = call.value(cx, if own { "A" } else { "self" })?;
    let (a, b) = (
        cx.build.axis(x, call.int("dim1")?)?,
        cx.build.axis(x, call.int("dim2")?)?,
    );
    let offset = call.int("offset")?;
    let Some(len) = call.out_shape(0)?.last().cloned() else {
        return invalid("a diagonal without an axis");
    };
    if let Some(view) = diagonal_view(cx, call, if own { "A" } else { "self" }, [a, b])? {
        return Ok(vec![Out::Tensor(view)]);
    }
    let start = |n: i64| Dim::from(n.max(0));
    let index = fuseline_ir::DType::I64;
    let rows = cx
        .build
        .arange(start(-offset), 1i64.into(), len.clone(), index)?;
    let columns = cx.build.arange(start(offset), 1i64.into(), len, index)?;
    // Gathered axes come first; a diagonal comes last.
    let picked = cx
        .build
        .add(op::Gather { axes: vec![a, b] }, &[x, rows, columns])?;
    let rank = cx.build.rank(picked)?;
    let perm = (1..rank).chain([0]).collect();
    done(cx.build.transpose(picked, perm))
}

/// The same as a view, where sizes are known: in one row after the other, every element that is one column further.
fn diagonal_view(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    name: &str,
    [a, b]: [usize; 2],
) -> Result<Option<TensorId>> {
    let x = call.tensor(name)?;
    let value = cx.read(x)?;
    let shape = cx.build.shape(value)?;
    let offset = call.int("offset")?;
    let len = call.out_shape(0)?.last().and_then(Dim::as_const);
    let (Some(rows), Some(columns), Some(len)) = (shape[a].as_const(), shape[b].as_const(), len)
    else {
        return Ok(None);
    };
    if len == 0 || a == b {
        return Ok(None);
    }
    let outer = (0..shape.len()).filter(|axis| *axis != a && *axis != b);
    let mut flat: Vec<Dim> = outer.clone().map(|axis| shape[axis].clone()).collect();
    let perm = outer.chain([a, b]).collect();
    let axis = flat.len();
    flat.push(Dim::from(rows.saturating_mul(columns)));
    let turned = cx.memory.view(x, op::Transpose { perm });
    let row = cx.memory.view(turned, op::Reshape { shape: flat });
    let step = columns.saturating_add(1);
    let start = if offset < 0 {
        offset.saturating_neg().saturating_mul(columns)
    } else {
        offset
    };
    let slice = op::Slice {
        axis,
        start: Dim::from(start),
        stop: &Dim::from(start) + &Dim::from((len - 1).saturating_mul(step).saturating_add(1)),
        step,
    };
    Ok(Some(cx.memory.view(row, slice)))
}

/// Windows of an axis: the axis counts windows, a new last axis the positions inside one.
fn unfold(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let axis = cx.build.axis(x, call.int("dimension")?)?;
    let (size, step) = (call.int("size")?, call.int("step")?);
    if cx.build.rank(x)? == 0 {
        // One window, of no more than the one element.
        let row = cx.build.reshape(x, vec![1i64.into()])?;
        return done(cx.build.slice(row, 0, 0i64.into(), size.into()));
    }
    let windows = match call.out_shape(0)?.get(axis) {
        Some(windows) => windows.clone(),
        None => return invalid("unfold without the axis of windows"),
    };
    let index = fuseline_ir::DType::I64;
    let starts = cx
        .build
        .arange(0i64.into(), step.into(), windows.clone(), index)?;
    let starts = cx.build.reshape(starts, vec![windows, 1i64.into()])?;
    let inside = cx
        .build
        .arange(0i64.into(), 1i64.into(), size.into(), index)?;
    let positions = cx.build.add(op::Add {}, &[starts, inside])?;
    let picked = cx.build.add(op::Take { axis }, &[x, positions])?;
    let rank = cx.build.rank(picked)?;
    let perm = (0..rank)
        .filter(|a| *a != axis + 1)
        .chain([axis + 1])
        .collect();
    done(cx.build.transpose(picked, perm))
}

fn roll(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let whole = cx.build.shape(x)?;
    let (shifts, mut axes) = (call.dims("shifts")?, call.ints("dims")?);
    let mut value = x;
    if axes.is_empty() {
        value = cx.build.reshape(value, vec![cx.build.ty(x)?.numel()])?;
        axes = vec![0];
    }
    for (shift, axis) in shifts.iter().zip(axes) {
        let axis = cx.build.axis(value, axis)?;
        let Some(size) = cx.build.shape(value)?.get(axis).cloned() else {
            continue;
        };
        if size.is(0) {
            continue;
        }
        let cut = &size - &shift.modulo(&size);
        if cut == size {
            continue;
        }
        let head = cx.build.slice(value, axis, 0i64.into(), cut.clone())?;
        let tail = cx.build.slice(value, axis, cut, size)?;
        value = cx.build.cat(&[tail, head], axis)?;
    }
    done(cx.build.reshape(value, whole))
}

fn rot90(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let axes = call.ints("dims")?;
    let [a, b] = axes.as_slice() else {
        return invalid("rot90 turns two axes");
    };
    let (a, b) = (cx.build.axis(x, *a)?, cx.build.axis(x, *b)?);
    let mut value = x;
    for _ in 0..call.int("k")?.rem_euclid(4) {
        value = cx.build.add(op::Flip { axes: vec![b] }, &[value])?;
        value = cx.build.swap(value, a, b)?;
    }
    done(Ok(value))
}

/// Copies side by side: each axis of size n repeated r times is an axis pair (r, n), merged.
fn repeat(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let tile = call.target.starts_with("aten.tile");
    let mut counts = call.dims(if tile { "dims" } else { "repeats" })?;
    let mut shape = cx.build.shape(x)?;
    while counts.len() < shape.len() {
        counts.insert(0, 1i64.into());
    }
    while shape.len() < counts.len() {
        shape.insert(0, 1i64.into());
    }
    let pairs = |count: &dyn Fn(usize) -> Dim| {
        (0..shape.len())
            .flat_map(|axis| [count(axis), shape[axis].clone()])
            .collect()
    };
    let apart = cx.build.reshape(x, pairs(&|_| 1i64.into()))?;
    let wide = cx
        .build
        .broadcast(apart, pairs(&|axis| counts[axis].clone()))?;
    let merged = shape
        .iter()
        .zip(&counts)
        .map(|(size, count)| size * count)
        .collect();
    done(cx.build.reshape(wide, merged))
}

fn repeat_interleave(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let mut x = call.value(cx, "self")?;
    let count = call.dim("repeats")?;
    let axis = match call.opt_int("dim")? {
        Some(axis) => cx.build.axis(x, axis)?,
        None => {
            x = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
            0
        }
    };
    let mut merged = cx.build.shape(x)?;
    let apart = cx.build.unsqueeze(x, axis + 1)?;
    let mut wide = cx.build.shape(apart)?;
    wide[axis + 1] = count.clone();
    merged[axis] = &merged[axis] * &count;
    let wide = cx.build.broadcast(apart, wide)?;
    done(cx.build.reshape(wide, merged))
}

/// Sequences of different lengths, filled up at their ends or beginnings, on a new axis: the first, or the second.
fn pad_sequence(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let value = call.num(cx, "padding_value")?;
    let Num::Known(value) = value else {
        return unsupported("a padding value that is known only at run time");
    };
    let at = usize::from(!call.bool("batch_first")?);
    let Some(longest) = call.out_shape(0)?.get(1 - at).cloned() else {
        return invalid("sequences without an axis");
    };
    let left = call.opt_str("padding_side")? == Some("left");
    let mut rows = Vec::new();
    for row in call.values(cx, "sequences")? {
        let ty = cx.build.ty(row)?.clone();
        let zero = || vec![Dim::from(0i64); ty.rank()];
        let (mut low, mut high) = (zero(), zero());
        let own = match ty.shape.first() {
            Some(own) => own.clone(),
            None => return invalid("a sequence without an axis"),
        };
        let side = if left { &mut low } else { &mut high };
        side[0] = &longest - &own;
        let value = value.cast(ty.dtype);
        let row = cx.build.add(op::Pad { low, high, value }, &[row])?;
        rows.push(cx.build.unsqueeze(row, at)?);
    }
    done(cx.build.cat(&rows, at))
}

/// Widths as PyTorch writes them, last axis first; negative ones cut.
pub(in crate::import) fn pad(
    cx: &mut Importer<'_>,
    x: Value,
    widths: &[Dim],
    value: Scalar,
) -> Result<Value> {
    let rank = cx.build.rank(x)?;
    if !widths.len().is_multiple_of(2) || widths.len() > 2 * rank {
        return invalid(format!("{} padding widths for {rank} axes", widths.len()));
    }
    let zero = || Dim::from(0i64);
    let (mut low, mut high) = (vec![zero(); rank], vec![zero(); rank]);
    let mut x = x;
    for (n, pair) in widths.chunks_exact(2).enumerate() {
        let axis = rank - 1 - n;
        let size = cx.build.shape(x)?[axis].clone();
        let negative = |dim: &Dim| dim.as_const().is_some_and(|n| n < 0);
        let (start, stop) = (
            if negative(&pair[0]) {
                -&pair[0]
            } else {
                zero()
            },
            if negative(&pair[1]) {
                &size + &pair[1]
            } else {
                size
            },
        );
        x = cx.build.slice(x, axis, start, stop)?;
        low[axis] = if negative(&pair[0]) {
            zero()
        } else {
            pair[0].clone()
        };
        high[axis] = if negative(&pair[1]) {
            zero()
        } else {
            pair[1].clone()
        };
    }
    if low.iter().chain(&high).all(|width| width.is(0)) {
        return Ok(x);
    }
    let value = value.cast(cx.build.dtype(x)?);
    cx.build.add(op::Pad { low, high, value }, &[x])
}

/// Padding with elements of the tensor itself, each padded axis a `take` of known or symbolic positions.
pub(in crate::import) fn mirrored_pad(
    cx: &mut Importer<'_>,
    x: Value,
    widths: &[i64],
    mode: &str,
) -> Result<Vec<Out>> {
    let rank = cx.build.rank(x)?;
    if !widths.len().is_multiple_of(2) || widths.len() > 2 * rank {
        return invalid(format!("{} padding widths for {rank} axes", widths.len()));
    }
    let mut x = x;
    for (n, pair) in widths.chunks_exact(2).enumerate() {
        let axis = rank - 1 - n;
        // Negative widths cut: before a circle is closed, but after a border is repeated or mirrored.
        if mode == "circular" {
            x = cut(cx, x, axis, pair)?;
        }
        let size = cx.build.shape(x)?[axis].clone();
        let [before, after] = [pair[0].max(0), pair[1].max(0)];
        let piece =
            |cx: &mut Importer<'_>, start: Dim, count: i64, reversed: bool| -> Result<Value> {
                let stop = &start + &Dim::from(count);
                let piece = cx.build.slice(x, axis, start, stop)?;
                if reversed {
                    cx.build.add(op::Flip { axes: vec![axis] }, &[piece])
                } else {
                    Ok(piece)
                }
            };
        let repeated = |cx: &mut Importer<'_>, start: Dim, count: i64| -> Result<Value> {
            let one = cx
                .build
                .slice(x, axis, start.clone(), &start + &Dim::from(1i64))?;
            let mut shape = cx.build.shape(one)?;
            shape[axis] = count.into();
            cx.build.broadcast(one, shape)
        };
        let last = &size - &Dim::from(1i64);
        let mut pieces = Vec::new();
        if before > 0 {
            pieces.push(match mode {
                "reflect" => piece(cx, 1i64.into(), before, true)?,
                "replicate" => repeated(cx, 0i64.into(), before)?,
                "circular" => piece(cx, &size - &Dim::from(before), before, false)?,
                other => return invalid(format!("padding has no mode `{other}`")),
            });
        }
        pieces.push(x);
        if after > 0 {
            pieces.push(match mode {
                "reflect" => piece(cx, &last - &Dim::from(after), after, true)?,
                "replicate" => repeated(cx, last, after)?,
                "circular" => piece(cx, 0i64.into(), after, false)?,
                other => return invalid(format!("padding has no mode `{other}`")),
            });
        }
        x = cx.build.cat(&pieces, axis)?;
        if mode != "circular" {
            x = cut(cx, x, axis, pair)?;
        }
    }
    done(Ok(x))
}

/// An axis without what the negative ones of two widths cut off.
fn cut(cx: &mut Importer<'_>, x: Value, axis: usize, widths: &[i64]) -> Result<Value> {
    let [before, after] = [0, 1].map(|n| widths.get(n).map_or(0, |width| (*width).min(0)));
    let stop = &cx.build.shape(x)?[axis] + &after.into();
    cx.build
        .slice(x, axis, before.saturating_neg().into(), stop)
}

/// Channels to pixels (`shuffle`) or back: [.., C·r², H, W] and [.., C, H·r, W·r].
fn pixels(cx: &mut Importer<'_>, call: &Call<'_>, shuffle: bool) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let r = Dim::from(call.int(if shuffle {
        "upscale_factor"
    } else {
        "downscale_factor"
    })?);
    let shape = cx.build.shape(x)?;
    let [lead @ .., c, h, w] = shape.as_slice() else {
        return invalid("an image has three axes at least");
    };
    let lead_axes = lead.len();
    let (split, order): (Vec<Dim>, [usize; 5]) = if shuffle {
        (
            vec![c.floor_div(&(&r * &r)), r.clone(), r, h.clone(), w.clone()],
            [0, 3, 1, 4, 2],
        )
    } else {
        (
            vec![c.clone(), h.floor_div(&r), r.clone(), w.floor_div(&r), r],
            [0, 2, 4, 1, 3],
        )
    };
    let apart = cx.build.reshape(x, [lead, split.as_slice()].concat())?;
    let perm = (0..lead_axes)
        .chain(order.iter().map(|axis| lead_axes + axis))
        .collect();
    let moved = cx.build.transpose(apart, perm)?;
    let out = call.out_shape(0)?;
    done(cx.build.reshape(moved, out))
}
