//! Operators that only move elements. PyTorch's exporter writes views as copies (`permute_copy` for `permute`).

use fuseline_program::instr::*;
use fuseline_program::{ScalarType, Tid};

use super::call::{Call, Result, known, small};
use super::types::Scalar;
use super::views::axis;
use super::{Kernels, bad, numbers};

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    // Another type, if at all, is the result's.
    for (name, inputs) in [
        ("aten::_to_copy.out", 3),
        ("aten::alias_copy.out", 1),
        ("aten::clone.out", 2),
        ("aten::detach_copy.out", 1),
        ("aten::lift_fresh_copy.out", 1),
        ("dim_order_ops::_to_dim_order_copy.out", 3),
        ("dim_order_ops::_clone_dim_order.out", 3),
        ("et_copy::_h2d_copy.out", 1),
        ("et_copy::_d2h_copy.out", 1),
    ] {
        kernels.device(name, inputs, |call| call.tensor(0));
    }
    for name in ["aten::copy.out", "aten::copy_"] {
        kernels.device(name, 3, |call| {
            let to = call.tensor(0)?;
            let (dtype, shape) = (call.dtype(to)?, call.shape(to)?);
            let from = call.tensor(1)?;
            let from = call.cast(from, dtype)?;
            call.broadcast(from, &shape)
        });
    }
    // Nothing is dropped but in training.
    kernels.devices("aten::native_dropout.out", 3, 2, |call| {
        let (x, p) = (call.tensor(0)?, call.float(1, 0.0)?);
        if call.flag(2) && p > 0.0 {
            return Err(bad(2, "asks for training"));
        }
        let shape = call.shape(x)?;
        let kept = call.full(&shape, Scalar::Bool(true), ScalarType::Bool)?;
        Ok(vec![x, kept])
    });
    kernels.device(numbers::COPY_ROW, 3, copy_row);
    shapes(kernels);
    parts(kernels);
    joined(kernels);
}

/// Adds those that give the elements another shape or order.
fn shapes(kernels: &mut Kernels) {
    for name in ["aten::view_copy.out", "aten::_unsafe_view.out", super::VIEW] {
        kernels.device(name, 2, |call| {
            let (x, shape) = (call.tensor(0)?, call.ints(1)?);
            call.reshape(x, &shape)
        });
    }
    kernels.device("aten::permute_copy.out", 2, |call| {
        let (x, dims) = (call.tensor(0)?, call.ints(1)?);
        let rank = call.rank(x)?;
        let order = dims.iter().map(|dim| axis(1, *dim, rank));
        let order: Vec<usize> = order.collect::<Result<_>>()?;
        call.transpose(x, &order)
    });
    kernels.device("aten::transpose_copy.int_out", 3, |call| {
        let x = call.tensor(0)?;
        match (call.axis(1, 0, x)?, call.axis(2, 1, x)?) {
            (Some(a), Some(b)) => swapped(call, x, a, b),
            _ => Ok(x),
        }
    });
    kernels.device("aten::t_copy.out", 1, |call| {
        let x = call.tensor(0)?;
        match call.rank(x)? {
            0 | 1 => Ok(x),
            2 => swapped(call, x, 0, 1),
            rank => Err(bad(0, format!("has {rank} axes, more than a matrix"))),
        }
    });
    kernels.device("aten::unsqueeze_copy.out", 2, |call| {
        let x = call.tensor(0)?;
        let at = axis(1, call.int(1, 0)?, call.rank(x)? + 1)?;
        let axis = small(at as i64)?;
        call.make(|out| ExpandDims { x, out, axis })
    });
    for overload in ["dim_out", "dims_out"] {
        // Axes of another length than 1 stay.
        kernels.device(format!("aten::squeeze_copy.{overload}"), 2, |call| {
            let x = call.tensor(0)?;
            let (named, shape) = (call.axes(1, x)?, call.shape(x)?);
            let lengths = shape.iter().enumerate();
            let kept =
                lengths.filter(|(at, n)| **n != 1 || !named.iter().any(|one| *one as usize == *at));
            let kept: Vec<i64> = kept.map(|(_, n)| *n).collect();
            call.reshape(x, &kept)
        });
    }
    kernels.device("aten::expand_copy.out", 3, |call| {
        let (x, mut sizes) = (call.tensor(0)?, call.ints(1)?);
        let own = call.shape(x)?;
        let missing = sizes.len().checked_sub(own.len());
        let missing = missing.ok_or_else(|| bad(1, "has fewer axes than the tensor"))?;
        for (size, own) in sizes.iter_mut().skip(missing).zip(own) {
            if *size == -1 {
                *size = own;
            }
        }
        call.broadcast(x, &sizes)
    });
    kernels.device("aten::repeat.out", 2, |call| {
        let (mut x, repeats) = (call.tensor(0)?, call.ints(1)?);
        let own = call.shape(x)?;
        let missing = repeats.len().checked_sub(own.len());
        let missing = missing.ok_or_else(|| bad(1, "has fewer axes than the tensor"))?;
        if missing > 0 {
            let shape = [vec![1; missing], own].concat();
            x = call.reshape(x, &shape)?;
        }
        call.make(|out| Tile {
            x,
            out,
            reps: known(&repeats),
        })
    });
    kernels.device("aten::flip.out", 2, |call| {
        let x = call.tensor(0)?;
        let axes = call.axes(1, x)?;
        if axes.is_empty() {
            return Ok(x);
        }
        call.make(|out| Flip { x, out, axes })
    });
    kernels.device("aten::roll.out", 3, |call| {
        let x = call.tensor(0)?;
        let (shift, axes, shape) = (call.ints(1)?, call.axes(2, x)?, call.shape(x)?);
        if !axes.is_empty() || shape.is_empty() {
            return rolled(call, x, &shift, axes);
        }
        // Without axes the elements are a single row.
        let row = call.reshape(x, &[-1])?;
        let row = rolled(call, row, &shift, vec![0])?;
        call.reshape(row, &shape)
    });
    kernels.device("aten::pixel_shuffle.out", 2, |call| pixels(call, true));
    kernels.device("aten::pixel_unshuffle.out", 2, |call| pixels(call, false));
}

/// Adds those that take some of the elements.
fn parts(kernels: &mut Kernels) {
    kernels.device("aten::select_copy.int_out", 3, |call| {
        let x = call.tensor(0)?;
        let (axis, length) = axis_of(call, 1, x)?;
        let at = super::views::axis(2, call.int(2, 0)?, length as usize)?;
        let axis = small(axis as i64)?;
        call.make(|out| Take {
            x,
            out,
            index: IntOrVidOrTid::Int(at as i64),
            axis,
        })
    });
    kernels.device("aten::slice_copy.Tensor_out", 5, |call| {
        let x = call.tensor(0)?;
        let (axis, start, stop) = range(call, 1, x)?;
        let step = call.int(4, 1)?;
        if step < 1 {
            return Err(bad(4, format!("is {step}, no step")));
        }
        call.slice(x, axis, start, stop, step)
    });
    kernels.device("aten::narrow_copy.out", 4, |call| {
        let x = call.tensor(0)?;
        let (axis, length) = axis_of(call, 1, x)?;
        let start = call.int(2, 0)?;
        let start = if start < 0 {
            start.saturating_add(length)
        } else {
            start
        };
        let stop = start.saturating_add(call.int(3, 0)?);
        if start < 0 || stop < start || stop > length {
            return Err(bad(2, format!("to {stop} is no part of {length}")));
        }
        call.slice(x, axis, start, stop, 1)
    });
    kernels.devices("aten::split_copy.Tensor_out", 3, 1, |call| {
        let x = call.tensor(0)?;
        let (axis, length) = axis_of(call, 2, x)?;
        let size = call.int(1, 0)?;
        if size < 1 && length > 0 {
            return Err(bad(1, format!("is {size}, no length")));
        }
        let starts = (0..call.results()).map(|at| (at as i64).saturating_mul(size));
        let pieces = starts.map(|start| (start, start.saturating_add(size).min(length)));
        cut(call, x, axis, pieces.collect())
    });
    kernels.devices("aten::split_with_sizes_copy.out", 3, 1, |call| {
        let x = call.tensor(0)?;
        let (axis, length) = axis_of(call, 2, x)?;
        let mut pieces = Vec::new();
        let mut end = 0_i64;
        for size in call.ints(1)? {
            let start = end;
            end = end.saturating_add(size);
            if size < 0 || end > length {
                return Err(bad(1, format!("is no division of {length}")));
            }
            pieces.push((start, end));
        }
        cut(call, x, axis, pieces)
    });
    kernels.devices("aten::unbind_copy.int_out", 2, 1, |call| {
        let x = call.tensor(0)?;
        let (axis, _) = axis_of(call, 1, x)?;
        let axis = small(axis as i64)?;
        let rows = 0..call.results();
        let rows = rows.map(|at| {
            call.make(|out| Take {
                x,
                out,
                index: IntOrVidOrTid::Int(at as i64),
                axis,
            })
        });
        rows.collect()
    });
    kernels.device("aten::unfold_copy.out", 4, |call| {
        let x = call.tensor(0)?;
        let (axis, length) = axis_of(call, 1, x)?;
        let (size, step) = (call.int(2, 0)?, call.int(3, 1)?);
        if size < 0 || size > length || step < 1 {
            return Err(bad(2, format!("every {step} is no window of {length}")));
        }
        let mut shape = call.shape(x)?;
        let mut strides = strides_of(&shape);
        shape.push(size);
        strides.push(strides[axis]);
        shape[axis] = (length - size) / step + 1;
        strides[axis] = strides[axis].saturating_mul(step);
        strided(call, x, &shape, &strides, 0)
    });
    kernels.device("aten::as_strided_copy.out", 4, |call| {
        let x = call.tensor(0)?;
        let (shape, strides, offset) = (call.ints(1)?, call.ints(2)?, call.int(3, 0)?);
        strided(call, x, &shape, &strides, offset)
    });
    kernels.device("aten::diagonal_copy.out", 4, |call| {
        let (x, offset) = (call.tensor(0)?, call.int(1, 0)?);
        let rank = call.rank(x)?;
        let (a, b) = (
            axis(2, call.int(2, 0)?, rank)?,
            axis(3, call.int(3, 1)?, rank)?,
        );
        if a == b {
            return Err(bad(3, "is the other axis"));
        }
        let mut shape = call.shape(x)?;
        let mut strides = strides_of(&shape);
        let (down, along) = (offset.saturating_neg().max(0), offset.max(0));
        let length = (shape[a] - down.min(shape[a])).min(shape[b] - along.min(shape[b]));
        let start = if length == 0 {
            0
        } else {
            down * strides[a] + along * strides[b]
        };
        let step = strides[a] + strides[b];
        for at in [a.max(b), a.min(b)] {
            shape.remove(at);
            strides.remove(at);
        }
        shape.push(length);
        strides.push(step);
        strided(call, x, &shape, &strides, start)
    });
    kernels.device("aten::tril.out", 2, |call| {
        let (x, k) = (call.tensor(0)?, call.small(1, 0)?);
        call.make(|out| Tril { x, out, k })
    });
    kernels.device("aten::triu.out", 2, |call| {
        let (x, k) = (call.tensor(0)?, call.small(1, 0)?);
        call.make(|out| Triu { x, out, k })
    });
}

/// Adds those that put elements of several tensors, or more of the same, side by side.
fn joined(kernels: &mut Kernels) {
    kernels.device("aten::cat.out", 2, |call| {
        let mut tensors = call.tensors(0)?;
        let dtype = call.result(0);
        // PyTorch skips what is empty and has a single axis, whatever the others look like.
        let mut kept = Vec::new();
        for tid in &tensors {
            if call.shape(*tid)? != [0] {
                kept.push(*tid);
            }
        }
        if !kept.is_empty() {
            tensors = kept;
        }
        let first = tensors.first().copied();
        let first = first.ok_or_else(|| bad(0, "is an empty list"))?;
        let (axis, _) = axis_of(call, 1, first)?;
        let axis = small(axis as i64)?;
        if let Some(dtype) = dtype {
            for tid in &mut tensors {
                *tid = call.cast(*tid, dtype)?;
            }
        }
        call.make(|out| Concatenate { tensors, out, axis })
    });
    kernels.device("aten::stack.out", 2, |call| {
        let tensors = call.tensors(0)?;
        let first = tensors.first().copied();
        let first = first.ok_or_else(|| bad(0, "is an empty list"))?;
        let at = axis(1, call.int(1, 0)?, call.rank(first)? + 1)?;
        let axis = small(at as i64)?;
        call.make(|out| Stack { tensors, out, axis })
    });
    kernels.device("aten::constant_pad_nd.out", 3, |call| {
        let (x, pad) = (call.tensor(0)?, call.ints(1)?);
        let value = if call.given(2) {
            call.scalar(2)?
        } else {
            Scalar::Int(0)
        };
        let (widths, shape) = (widths(call, x, &pad)?, call.shape(x)?);
        let dtype = call.dtype(x)?;
        // Negative widths cut; the rest stands in the middle of a tensor of the value.
        let mut inner = x;
        let mut total = shape.clone();
        for (at, (low, high)) in widths.iter().enumerate() {
            total[at] = shape[at].saturating_add(*low).saturating_add(*high);
            let (start, stop) = (
                low.min(&0).saturating_neg(),
                shape[at].saturating_add(*high.min(&0)),
            );
            if stop < start {
                return Err(bad(1, format!("cuts more than there is along axis {at}")));
            }
            if (start, stop) != (0, shape[at]) {
                inner = call.slice(inner, at, start, stop, 1)?;
            }
        }
        let around = call.full(&total, value, dtype)?;
        placed(call, around, inner, &widths)
    });
    for axes in 1..=3 {
        kernels.device(format!("aten::reflection_pad{axes}d.out"), 2, |call| {
            padded(call, |at, length| {
                let period = 2 * (length - 1).max(1);
                let at = at.rem_euclid(period);
                at.min(period - at)
            })
        });
        kernels.device(format!("aten::replication_pad{axes}d.out"), 2, |call| {
            padded(call, |at, length| at.clamp(0, length - 1))
        });
    }
    for overload in ["self_int_out", "self_Tensor_out"] {
        kernels.device(format!("aten::repeat_interleave.{overload}"), 3, |call| {
            let x = call.tensor(0)?;
            let (axis, _) = axis_of(call, 2, x)?;
            let (axis, repeats) = (small(axis as i64)?, IntOrVid::Int(call.int(1, 1)?));
            call.make(|out| Repeat {
                x,
                out,
                repeats,
                axis,
            })
        });
    }
    kernels.device("aten::select_scatter.out", 4, |call| {
        let (x, update) = (call.tensor(0)?, call.tensor(1)?);
        let (axis, length) = axis_of(call, 2, x)?;
        let at = super::views::axis(3, call.int(3, 0)?, length as usize)? as i64;
        let row = small(axis as i64)?;
        let update = call.make(|out| ExpandDims {
            x: update,
            out,
            axis: row,
        })?;
        updated(call, x, update, axis, (at, at + 1, 1))
    });
    kernels.device("aten::slice_scatter.out", 6, |call| {
        let (x, update) = (call.tensor(0)?, call.tensor(1)?);
        let (axis, start, stop) = range(call, 2, x)?;
        let step = call.int(5, 1)?;
        updated(call, x, update, axis, (start, stop.max(start), step))
    });
}

/// An axis that an argument names, the first if it names none, and its length.
fn axis_of(call: &Call<'_>, position: usize, x: Tid) -> Result<(usize, i64)> {
    let axis = call.axis(position, 0, x)?;
    let axis = axis.ok_or_else(|| bad(0, "has no axes"))?;
    Ok((axis, call.length(x, axis)?))
}

/// Axis, start and end, cut to the axis, as slices have them.
fn range(call: &Call<'_>, position: usize, x: Tid) -> Result<(usize, i64, i64)> {
    let (axis, length) = axis_of(call, position, x)?;
    let within = |at: i64| {
        (if at < 0 {
            at.saturating_add(length)
        } else {
            at
        })
        .clamp(0, length)
    };
    let start = within(call.int(position + 1, 0)?);
    let stop = within(call.int(position + 2, i64::MAX)?);
    Ok((axis, start, stop.max(start)))
}

fn swapped(call: &mut Call<'_>, x: Tid, a: usize, b: usize) -> Result {
    let mut order: Vec<usize> = (0..call.rank(x)?).collect();
    order.swap(a, b);
    call.transpose(x, &order)
}

fn rolled(call: &mut Call<'_>, x: Tid, shift: &[i64], axes: Vec<i32>) -> Result {
    if axes.is_empty() {
        return Ok(x);
    }
    let shift = known(shift);
    call.make(|out| Roll {
        x,
        out,
        shift,
        axes,
    })
}

/// The pieces of an axis from each start to each end.
fn cut(call: &mut Call<'_>, x: Tid, axis: usize, pieces: Vec<(i64, i64)>) -> Result<Vec<Tid>> {
    let pieces = pieces.into_iter();
    let pieces = pieces.map(|(start, stop)| call.slice(x, axis, start, stop.max(start), 1));
    pieces.collect()
}

/// How far each index of a row-major tensor steps.
fn strides_of(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1_i64; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at].saturating_mul(shape[at].max(1));
    }
    strides
}

fn strided(call: &mut Call<'_>, x: Tid, shape: &[i64], strides: &[i64], offset: i64) -> Result {
    let offset = u64::try_from(offset).map_err(|_| bad(3, "is negative"))?;
    let (shape, strides) = (known(shape), known(strides));
    call.make(|out| AsStrided {
        x,
        out,
        shape,
        strides,
        offset,
    })
}

/// Before and after each axis how much is added: the list begins with the last axis.
fn widths(call: &Call<'_>, x: Tid, pad: &[i64]) -> Result<Vec<(i64, i64)>> {
    let rank = call.rank(x)?;
    let (pairs, rest) = pad.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > rank {
        return Err(bad(1, format!("is no padding of {rank} axes")));
    }
    let mut widths = vec![(0, 0); rank];
    for ([low, high], at) in pairs.iter().zip((0..rank).rev()) {
        widths[at] = (*low, *high);
    }
    Ok(widths)
}

/// `around` with `inner` in it, behind the widths.
fn placed(call: &mut Call<'_>, around: Tid, inner: Tid, widths: &[(i64, i64)]) -> Result {
    let Some(axis) = widths.iter().position(|width| *width != (0, 0)) else {
        return Ok(inner);
    };
    // Axis by axis from the outside: the part of `around` beside the rest of the axes.
    let (low, length) = (widths[axis].0.max(0), call.length(inner, axis)?);
    let middle = call.slice(around, axis, low, low.saturating_add(length), 1)?;
    let mut rest = widths.to_vec();
    rest[axis] = (0, 0);
    let middle = placed(call, middle, inner, &rest)?;
    updated(
        call,
        around,
        middle,
        axis,
        (low, low.saturating_add(length), 1),
    )
}

/// A tensor with a part along an axis replaced.
fn updated(
    call: &mut Call<'_>,
    dst: Tid,
    update: Tid,
    axis: usize,
    (start, stop, step): (i64, i64, i64),
) -> Result {
    let dtype = call.dtype(dst)?;
    let update = call.cast(update, dtype)?;
    let step = small(step)?;
    call.make(|out| SliceUpdate {
        dst,
        update,
        out,
        axis: IntOrVid::Int(axis as i64),
        start: IntOrVid::Int(start),
        stop: IntOrVid::Int(stop),
        step,
    })
}

/// Padding with elements of the tensor itself: which one stands at a position before the first or behind the last of so many.
fn padded(call: &mut Call<'_>, source: impl Fn(i64, i64) -> i64) -> Result {
    let (mut x, pad) = (call.tensor(0)?, call.ints(1)?);
    for (at, (low, high)) in widths(call, x, &pad)?.into_iter().enumerate() {
        if (low, high) == (0, 0) {
            continue;
        }
        let length = call.length(x, at)?;
        let end = length.saturating_add(high);
        if length == 0 || low.saturating_add(end) < 0 || low.max(high) > i64::from(i32::MAX) {
            return Err(bad(1, format!("is no padding of {length}")));
        }
        let total = u64::try_from(low.saturating_add(end)).unwrap_or_default();
        if !super::is_affordable(&[usize::try_from(total).unwrap_or(usize::MAX)]) {
            return Err(bad(1, format!("asks for {total} elements along axis {at}")));
        }
        let places: Vec<i64> = (-low..end).map(|place| source(place, length)).collect();
        let places = crate::tensor::Tensor::from_slice(&[places.len()], &places)?;
        let index = IntOrVidOrTid::Tid(call.hold(&places)?);
        let axis = small(at as i64)?;
        x = call.make(|out| Take {
            x,
            out,
            index,
            axis,
        })?;
    }
    Ok(x)
}

/// Blocks of `factor` by `factor` pixels out of channels, or back into them.
fn pixels(call: &mut Call<'_>, shuffles: bool) -> Result {
    let (x, factor) = (call.tensor(0)?, call.int(1, 1)?);
    let shape = call.shape(x)?;
    let square = factor.checked_mul(factor).filter(|_| factor > 0);
    let square = square.ok_or_else(|| bad(1, format!("is {factor}, no factor")))?;
    let Some((batch, &[channels, height, width])) = shape.split_last_chunk() else {
        return Err(bad(0, "has no channels of pixels"));
    };
    let rank = batch.len();
    let order: Vec<usize> = (0..rank).collect();
    let (parts, rest, result) = if shuffles {
        if channels % square != 0 {
            return Err(bad(
                0,
                format!("has {channels} channels, no multiple of {square}"),
            ));
        }
        let parts = vec![channels / square, factor, factor, height, width];
        (
            parts,
            [0, 3, 1, 4, 2],
            [channels / square, height * factor, width * factor],
        )
    } else {
        if height % factor != 0 || width % factor != 0 {
            return Err(bad(
                0,
                format!("has planes that are no multiples of {factor}"),
            ));
        }
        let (rows, columns) = (height / factor, width / factor);
        let parts = vec![channels, rows, factor, columns, factor];
        (
            parts,
            [0, 2, 4, 1, 3],
            [channels.saturating_mul(square), rows, columns],
        )
    };
    let apart = call.reshape(x, &[batch, &parts].concat())?;
    let order = [order, rest.iter().map(|at| at + rank).collect()].concat();
    let turned = call.transpose(apart, &order)?;
    call.reshape(turned, &[batch, &result[..]].concat())
}

/// The rows of a tensor before an index, and one more: how a loop collects results.
fn copy_row(call: &mut Call<'_>) -> Result {
    let (to, row) = (call.tensor(0)?, call.tensor(1)?);
    let (rows, at) = (call.shape(to)?, call.int(2, 0)?);
    let Some((rows, _)) = rows
        .split_first()
        .filter(|(rows, _)| (0..=**rows).contains(&at))
    else {
        return Err(bad(
            2,
            format!("is {at}, which does not follow the rows that are there"),
        ));
    };
    let dtype = call.dtype(to)?;
    let row = call.cast(row, dtype)?;
    let row = call.make(|out| ExpandDims {
        x: row,
        out,
        axis: 0,
    })?;
    if at == 0 {
        return Ok(row);
    }
    let before = if at == *rows {
        to
    } else {
        call.slice(to, 0, 0, at, 1)?
    };
    call.make(|out| Concatenate {
        tensors: vec![before, row],
        out,
        axis: 0,
    })
}
