//! Instructions that take several operations of MLX, or checks before one.

use fuseline_program::instr::{
    Addmm, Arange, AsStrided, BroadcastTo, FloorDivide, Gather, GatherMm, Gelu, IndexCopy,
    IntOrVid, IntOrVidOrTid, Pad, RandomBits, Remainder, Sdpa, Slice, SliceUpdate, Split, Squeeze,
    Take, TakeAlongAxis,
};
use fuseline_program::{ScalarType, Tid};

use super::host::{
    axis_of, c_string, fill_bytes, integers, is_integer, lengths, scalar, whole, within_reach,
};
use super::indices::{self, CHECKED};
use super::metal_kernel::metal_is_there;
use super::{cast, op, select, sorted};
use crate::device::Device;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::late::Span;
use crate::mlx::{Array, Optional, Vector, check, code_of};

/// The divisor of an integer division with nothing in it that would end the process, and where it was -1, if it may have been somewhere.
///
/// A processor stops at a division by zero, and at that of the least integer by -1. Zero is refused if it can be seen without waiting, else 1 stands in its place; and 1 stands
/// in the place of -1, which leaves no rest either.
fn divisor(tid: Tid, f: &Frame<'_>) -> Result<(Array, Option<Array>), Fault> {
    let divisor = f.get(tid)?;
    let dtype = divisor.dtype();
    let span = f.span(tid, CHECKED)?;
    if !is_integer(dtype) || span.is_some_and(|span| span.least > 0 || span.most < -1) {
        return Ok((divisor.share()?, None));
    }
    let known = divisor.len() <= CHECKED && divisor.is_computed();
    let known = known.then(|| integers(divisor)).transpose()?;
    let one = scalar(1.0, dtype)?;
    let replaced = |of: &Array, number: f64| {
        let number = scalar(number, dtype)?;
        let is_it = op!(f, mlx_equal, of.raw(), number.raw());
        let without = op!(f, mlx_where, is_it.raw(), one.raw(), of.raw());
        Ok::<_, Fault>((without, is_it))
    };
    let nonzero = match &known {
        Some(known) if known.contains(&0) => return Err(Fault::Division),
        Some(_) => divisor.share()?,
        None => replaced(divisor, 0.0)?.0,
    };
    let signed = Span::of_type(dtype).is_some_and(|all| all.least < 0);
    if !signed || known.is_some_and(|known| !known.contains(&-1)) {
        return Ok((nonzero, None));
    }
    let (divisor, negates) = replaced(&nonzero, -1.0)?;
    Ok((divisor, Some(negates)))
}

pub(super) fn remainder(i: &Remainder, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (divisor, _) = divisor(i.b, f)?;
    f.put(i.out, op!(f, mlx_remainder, f.raw(i.a)?, divisor.raw()))
}

pub(super) fn floor_divide(i: &FloorDivide, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (a, b) = (f.get(i.a)?, f.get(i.b)?);
    if !is_integer(a.dtype()) || !is_integer(b.dtype()) {
        return f.put(i.out, op!(f, mlx_floor_divide, a.raw(), b.raw()));
    }
    // MLX divides integers towards zero. The remainder has the divisor's sign, so that without it the division is exact.
    let (b, negates) = divisor(i.b, f)?;
    let rest = op!(f, mlx_remainder, a.raw(), b.raw());
    let exact = op!(f, mlx_subtract, a.raw(), rest.raw());
    let quotient = op!(f, mlx_floor_divide, exact.raw(), b.raw());
    let Some(negates) = negates else {
        return f.put(i.out, quotient);
    };
    let negative = op!(f, mlx_negative, quotient.raw());
    f.put(
        i.out,
        op!(f, mlx_where, negates.raw(), negative.raw(), quotient.raw()),
    )
}

/// GELU by its formula, in single precision for the 16-bit types, whose own steps would lose the tail.
pub(super) fn gelu(i: &Gelu, f: &mut Frame<'_>) -> Result<(), Fault> {
    let input = f.get(i.x)?;
    let out_type = input.dtype();
    let work_type = match out_type {
        ScalarType::F16 | ScalarType::BF16 => ScalarType::F32,
        other => other,
    };
    let x = cast(input, work_type, f)?;
    let constant = |value: f64| scalar(value, work_type);
    let inner = if i.approximate == "tanh" {
        let square = op!(f, mlx_square, x.raw());
        let scaled = op!(f, mlx_multiply, square.raw(), constant(0.044_715)?.raw());
        let plus_one = op!(f, mlx_add, scaled.raw(), constant(1.0)?.raw());
        let cubic = op!(f, mlx_multiply, plus_one.raw(), x.raw());
        let factor = constant((2.0 / std::f64::consts::PI).sqrt())?;
        let angle = op!(f, mlx_multiply, cubic.raw(), factor.raw());
        op!(f, mlx_tanh, angle.raw())
    } else {
        let scaled = op!(
            f,
            mlx_multiply,
            x.raw(),
            constant(std::f64::consts::FRAC_1_SQRT_2)?.raw()
        );
        op!(f, mlx_erf, scaled.raw())
    };
    let shifted = op!(f, mlx_add, inner.raw(), constant(1.0)?.raw());
    let half = op!(f, mlx_multiply, x.raw(), constant(0.5)?.raw());
    let product = op!(f, mlx_multiply, half.raw(), shifted.raw());
    f.put(i.out, cast(&product, out_type, f)?)
}

/// On the CPU, MLX multiplies gathered matrices in single precision only. That indices are sorted is said to Metal alone: MLX 0.32's product on CUDA leaves out
/// rows then, and elsewhere it makes no difference.
pub(super) fn gather_mm(i: &GatherMm, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (a, b) = (f.get(i.a)?, f.get(i.b)?);
    let (left, right) = (
        indices::of_matrices(a, i.lhs_indices, f)?,
        indices::of_matrices(b, i.rhs_indices, f)?,
    );
    let (left, right) = (
        Optional::of(left.as_ref()).raw(),
        Optional::of(right.as_ref()).raw(),
    );
    let sorted = sorted(i.sorted_indices, i.sorted_indices_flag, f)? && metal_is_there();
    let half = |x: &Array| matches!(x.dtype(), ScalarType::F16 | ScalarType::BF16);
    if f.stream.device() == Device::Cpu && half(a) && a.dtype() == b.dtype() {
        let out_type = a.dtype();
        let (a, b) = (cast(a, ScalarType::F32, f)?, cast(b, ScalarType::F32, f)?);
        let out = op!(f, mlx_gather_mm, a.raw(), b.raw(), left, right, sorted);
        return f.put(i.out, cast(&out, out_type, f)?);
    }
    f.put(
        i.out,
        op!(f, mlx_gather_mm, a.raw(), b.raw(), left, right, sorted),
    )
}

pub(super) fn attention(i: &Sdpa, f: &mut Frame<'_>) -> Result<(), Fault> {
    let q = f.get(i.q)?;
    // MLX refuses a mask of a wider type than the query's.
    let mask = match i.mask {
        Some(tid) => {
            let mask = f.get(tid)?;
            let dtype = if mask.dtype() == ScalarType::Bool {
                ScalarType::Bool
            } else {
                q.dtype()
            };
            Some(cast(mask, dtype, f)?)
        }
        None => None,
    };
    let qkv = [q, f.get(i.k)?, f.get(i.v)?];
    f.put(i.out, attend(qkv, i.scale, mask.as_ref(), i.causal, f)?)
}

/// Attention of the query to keys and values, in this order.
pub(super) fn attend(
    [q, k, v]: [&Array; 3],
    scale: f32,
    mask: Option<&Array>,
    causal: bool,
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    if k.shape().get(1) == Some(&0) {
        // MLX divides by it.
        let what = "the number of heads of keys";
        return Err(Fault::Attribute { what, value: 0 });
    }
    if let (Device::Cpu, [batch, heads, queries, _], [.., keys, _]) =
        (f.stream.device(), q.shape(), k.shape())
    {
        // There MLX makes the scores of every query with every key.
        let scores = [batch, heads, queries, keys].map(|n| u64::from(n.unsigned_abs()));
        within_reach(scores, q.dtype(), f)?;
    }
    let mode = if causal { c"causal" } else { c"" };
    let (mask, no_sinks) = (Optional::of(mask).raw(), Optional::of(None).raw());
    Ok(op!(
        f,
        mlx_fast_scaled_dot_product_attention,
        q.raw(),
        k.raw(),
        v.raw(),
        scale,
        mode.as_ptr(),
        mask,
        no_sinks,
        false,
    ))
}

/// Axes that are not of length 1 stay, as in PyTorch.
pub(super) fn squeeze(i: &Squeeze, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    if i.dims.is_empty() {
        return f.put(i.out, op!(f, mlx_squeeze, x.raw()));
    }
    let mut axes = Vec::with_capacity(i.dims.len());
    for dim in &i.dims {
        if x.shape()[axis_of(*dim, x.rank())?] == 1 {
            axes.push(*dim);
        }
    }
    if axes.is_empty() {
        return f.put(i.out, x.share()?);
    }
    f.put(
        i.out,
        op!(f, mlx_squeeze_axes, x.raw(), axes.as_ptr(), axes.len()),
    )
}

/// An entry of -1 keeps the length of the input's axis; axes correspond from the last.
pub(super) fn broadcast_to(i: &BroadcastTo, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    let mut shape = f.ints(&i.shape)?;
    for (entry, length) in shape.iter_mut().rev().zip(x.shape().iter().rev()) {
        if *entry == -1 {
            *entry = *length;
        }
    }
    lengths(&shape, 0)?;
    f.put(
        i.out,
        op!(f, mlx_broadcast_to, x.raw(), shape.as_ptr(), shape.len()),
    )
}

pub(super) fn as_strided(i: &AsStrided, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    let shape = f.ints(&i.shape)?;
    lengths(&shape, 0)?;
    let strides: Vec<i64> = f.ints(&i.strides)?.into_iter().map(i64::from).collect();
    let elements = x.len() as i128;
    let (mut first, mut last) = (i128::from(i.offset), i128::from(i.offset));
    for (length, stride) in shape.iter().zip(&strides) {
        let reach = i128::from(length - 1) * i128::from(*stride);
        *(if reach < 0 { &mut first } else { &mut last }) += reach;
    }
    let empty = shape.contains(&0);
    if shape.len() != strides.len() || (!empty && (first < 0 || last >= elements)) {
        return Err(Fault::View { elements: x.len() });
    }
    let offset = usize::try_from(i.offset).map_err(|_| Fault::Overflow)?;
    let out = op!(
        f,
        mlx_as_strided,
        x.raw(),
        shape.as_ptr(),
        shape.len(),
        strides.as_ptr(),
        strides.len(),
        offset,
    );
    f.put(i.out, out)
}

/// A box that covers `shape`, but goes from `start` to `stop` along `axis`.
fn range(shape: &[i32], axis: usize, start: i32, stop: i32) -> (Vec<i32>, Vec<i32>) {
    let (mut from, mut to) = (vec![0; shape.len()], shape.to_vec());
    (from[axis], to[axis]) = (start, stop);
    (from, to)
}

fn steps_along(rank: usize, axis: usize, step: i32) -> Vec<i32> {
    let mut steps = vec![1; rank];
    steps[axis] = step;
    steps
}

/// The part of `x` from `start` to `stop` along `axis`.
pub(super) fn along(
    x: &Array,
    axis: usize,
    start: i32,
    stop: i32,
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    strided(x, axis, (start, stop, 1), f)
}

fn strided(
    x: &Array,
    axis: usize,
    (start, stop, step): (i32, i32, i32),
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    let (from, to) = range(x.shape(), axis, start, stop);
    let steps = steps_along(x.rank(), axis, step);
    Ok(op!(
        f,
        mlx_slice,
        x.raw(),
        from.as_ptr(),
        from.len(),
        to.as_ptr(),
        to.len(),
        steps.as_ptr(),
        steps.len(),
    ))
}

pub(super) fn slice(i: &Slice, f: &mut Frame<'_>) -> Result<(), Fault> {
    if i.step == 0 {
        return Err(Fault::Attribute {
            what: "step",
            value: 0,
        });
    }
    let x = f.get(i.x)?;
    let axis = axis_of(f.int(i.axis)?, x.rank())?;
    let place = (f.int(i.start)?, f.int(i.stop)?, i.step);
    f.put(i.out, strided(x, axis, place, f)?)
}

/// One size is the length of every piece but the last; several are the lengths themselves.
pub(super) fn split(i: &Split, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    let length = x.shape()[axis_of(i.axis, x.rank())?];
    let sizes = f.ints(&i.sizes)?;
    lengths(&sizes, 0)?;
    let mut ends = Vec::with_capacity(i.outs.len());
    match sizes.as_slice() {
        [0] => {
            return Err(Fault::Attribute {
                what: "sizes",
                value: 0,
            });
        }
        [chunk] => {
            let mut end = *chunk;
            while end < length {
                ends.push(end);
                end = end.saturating_add(*chunk);
            }
        }
        several => {
            let mut end = 0_i32;
            for size in several {
                end = end.checked_add(*size).ok_or(Fault::Overflow)?;
                ends.push(end);
            }
            if ends.pop() != Some(length) {
                return Err(Fault::Pieces {
                    wanted: i.outs.len(),
                });
            }
        }
    }
    let mut pieces = Vector::empty();
    // SAFETY: as for `op`.
    let status = unsafe {
        mlx_sys::mlx_split_sections(
            pieces.slot(),
            x.raw(),
            ends.as_ptr(),
            ends.len(),
            i.axis,
            f.stream.raw(),
        )
    };
    check(status)?;
    let pieces = pieces.arrays()?;
    if pieces.len() != i.outs.len() {
        return Err(Fault::Pieces {
            wanted: i.outs.len(),
        });
    }
    for (out, piece) in i.outs.iter().zip(pieces) {
        f.put(*out, piece)?;
    }
    Ok(())
}

pub(super) fn pad(i: &Pad, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    let mut widths = f.ints(&i.pad_width)?;
    if widths.len() != 2 * x.rank() {
        return Err(Fault::Pieces {
            wanted: 2 * x.rank(),
        });
    }
    if i.mode != "constant" && i.mode != "edge" {
        return Err(Fault::Text {
            text: i.mode.clone(),
        });
    }
    // Negative widths take away.
    let mut x = x.share()?;
    for (axis, [low, high]) in widths.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let length = x.shape()[axis];
        let (start, stop) = (
            (*low).min(0).saturating_neg(),
            length.saturating_add((*high).min(0)),
        );
        lengths(&[stop.saturating_sub(start)], 0)?;
        if (start, stop) != (0, length) {
            x = strided(&x, axis, (start, stop, 1), f)?;
        }
        (*low, *high) = ((*low).max(0), (*high).max(0));
    }
    let low: Vec<i32> = widths.iter().step_by(2).copied().collect();
    let high: Vec<i32> = widths.iter().skip(1).step_by(2).copied().collect();
    let padded = x.shape().iter().zip(low.iter().zip(&high));
    fill_bytes(
        padded.map(|(n, (a, b))| {
            u64::from(n.unsigned_abs()) + u64::from(a.unsigned_abs()) + u64::from(b.unsigned_abs())
        }),
        x.dtype(),
        f,
    )?;
    let axes: Vec<i32> = (0..low.len() as i32).collect();
    let value = scalar(f64::from(i.constant_value), x.dtype())?;
    let mode = c_string(&i.mode)?;
    let out = op!(
        f,
        mlx_pad,
        x.raw(),
        axes.as_ptr(),
        axes.len(),
        low.as_ptr(),
        low.len(),
        high.as_ptr(),
        high.len(),
        value.raw(),
        mode.as_ptr(),
    );
    f.put(i.out, out)
}

/// The part of an array that is as long as `shape` says along each axis, from its start. Axes that are no longer stay, and so do those where `shape` has 1: MLX, and with it
/// ExecuTorch's delegate, repeats what has one element there.
pub(super) fn leading(x: &Array, shape: &[i32], f: &Frame<'_>) -> Result<Array, Fault> {
    let mut part = x.share()?;
    if x.rank() == shape.len() {
        for (axis, length) in shape.iter().enumerate() {
            if *length != 1 && x.shape()[axis] > *length {
                part = strided(&part, axis, (0, *length, 1), f)?;
            }
        }
    }
    Ok(part)
}

/// `alpha · (mat1 @ mat2) + beta · bias` of integers, which MLX has no product of matrices for: the sum of all products.
pub(super) fn integer_product(i: &Addmm, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (a, b) = (f.get(i.mat1)?, f.get(i.mat2)?);
    let dtype = a.dtype();
    for matrix in [a, b] {
        if matrix.rank() < 2 || matrix.dtype() != dtype {
            let dtype = matrix.dtype();
            return Err(Fault::DType { dtype });
        }
    }
    let columns = b.shape().last().copied().unwrap_or_default();
    let all = a.shape().iter().chain([&columns]);
    fill_bytes(all.map(|n| u64::from(n.unsigned_abs())), dtype, f)?;
    let a = op!(f, mlx_expand_dims, a.raw(), -1);
    let b = op!(f, mlx_expand_dims, b.raw(), -3);
    let products = op!(f, mlx_multiply, a.raw(), b.raw());
    let mut sum = op!(f, mlx_sum_axes, products.raw(), [-2].as_ptr(), 1, false);
    if let Some(bias) = i.bias {
        let scaled = |x: &Array, by: f32| {
            let by = scalar(f64::from(by), dtype)?;
            Ok::<Array, Fault>(op!(f, mlx_multiply, x.raw(), by.raw()))
        };
        let (product, bias) = (scaled(&sum, i.alpha)?, scaled(f.get(bias)?, i.beta)?);
        sum = op!(f, mlx_add, product.raw(), bias.raw());
    }
    let sum = cast(&sum, dtype, f)?;
    f.put(i.out, sum)
}

pub(super) fn take(i: &Take, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    let at = match i.index {
        IntOrVidOrTid::Int(at) => at,
        IntOrVidOrTid::Vid(vid) => f.number(IntOrVid::Vid(vid))?,
        IntOrVidOrTid::Tid(tid) => {
            let indices = indices::along(x, i.axis, 1, tid, f)?;
            return f.put(i.out, op!(f, mlx_take_axis, x.raw(), indices.raw(), i.axis));
        }
    };
    let length = i64::from(x.shape()[axis_of(i.axis, x.rank())?]);
    let counted = if at < 0 { at + length } else { at };
    match i32::try_from(counted) {
        Ok(counted) if (0..length).contains(&i64::from(counted)) => {
            f.put(i.out, select(x, counted, i.axis, f)?)
        }
        _ => Err(Fault::Index {
            index: at,
            axis: i.axis,
            length,
        }),
    }
}

/// ExecuTorch 1.5.1 writes this instruction for `x[indices]` too, where both have as many axes: for whole rows as `Take` has them. Where the shapes of results do not say so
/// ([`fuseline_program::infer::taken_as_rows`]), it is that where the other axes could not stand beside each other.
pub(super) fn take_along_axis(i: &TakeAlongAxis, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    let indices = indices::along(x, i.axis, 1, i.indices, f)?;
    let axis = axis_of(i.axis, x.rank())?;
    let mut pairs = x.shape().iter().zip(indices.shape()).enumerate();
    let beside = pairs.all(|(at, (a, b))| at == axis || a == b || *a == 1 || *b == 1);
    let (x, indices) = (x.raw(), indices.raw());
    let out = if beside {
        op!(f, mlx_take_along_axis, x, indices, i.axis)
    } else {
        op!(f, mlx_take_axis, x, indices, i.axis)
    };
    f.put(i.out, out)
}

pub(super) fn gather(i: &Gather, f: &mut Frame<'_>) -> Result<(), Fault> {
    let x = f.get(i.x)?;
    if i.indices.len() != i.axes.len() {
        return Err(Fault::Pieces {
            wanted: i.axes.len(),
        });
    }
    lengths(&i.slice_sizes, 0)?;
    let mut all = Vec::with_capacity(i.indices.len());
    for (axis, indices) in i.axes.iter().zip(&i.indices) {
        // Each index is where a part of this width begins.
        let width = i.slice_sizes.get(axis_of(*axis, x.rank())?).copied();
        all.push(indices::along(x, *axis, width.unwrap_or(1), *indices, f)?);
    }
    let indices = Vector::of(&all)?;
    let out = op!(
        f,
        mlx_gather,
        x.raw(),
        indices.raw(),
        i.axes.as_ptr(),
        i.axes.len(),
        i.slice_sizes.as_ptr(),
        i.slice_sizes.len(),
    );
    f.put(i.out, out)
}

/// `dst` with the part from `start` to `stop` along `axis` replaced.
pub(super) fn replaced(
    dst: &Array,
    update: &Array,
    axis: usize,
    (start, stop, step): (i32, i32, i32),
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    let (from, to) = range(dst.shape(), axis, start, stop);
    let steps = steps_along(dst.rank(), axis, step);
    Ok(op!(
        f,
        mlx_slice_update,
        dst.raw(),
        update.raw(),
        from.as_ptr(),
        from.len(),
        to.as_ptr(),
        to.len(),
        steps.as_ptr(),
        steps.len(),
    ))
}

pub(super) fn slice_update(i: &SliceUpdate, f: &mut Frame<'_>) -> Result<(), Fault> {
    if i.step < 1 {
        return Err(Fault::Attribute {
            what: "step",
            value: i64::from(i.step),
        });
    }
    let dst = f.get(i.dst)?;
    let axis = axis_of(f.int(i.axis)?, dst.rank())?;
    let (length, update) = (dst.shape()[axis], f.get(i.update)?);
    let position = |at: i32| {
        (if at < 0 {
            at.saturating_add(length)
        } else {
            at
        })
        .clamp(0, length)
    };
    let (first, end) = (f.int(i.start)?, f.int(i.stop)?);
    // Rows that count from the end may reach up to it.
    let stop = if first < 0 && end == 0 {
        length
    } else {
        position(end)
    };
    let start = position(first);
    let rows = update.shape().get(axis).copied().unwrap_or(1);
    if first >= 0 && end > length && rows > stop - start {
        return Err(Fault::CacheFull {
            end: end.into(),
            capacity: length.into(),
        });
    }
    if start >= stop {
        // Rows without a place are an error, not a cache that silently stays as it was.
        return match update.shape().get(axis) {
            Some(0) | None => f.put(i.out, dst.share()?),
            Some(_) => Err(Fault::Index {
                index: i64::from(first),
                axis: i32::try_from(axis).unwrap_or(i32::MAX),
                length: i64::from(length),
            }),
        };
    }
    let out = replaced(dst, update, axis, (start, stop, i.step), f)?;
    f.put(i.out, out)
}

/// Rows that follow each other in the destination are copied together.
pub(super) fn index_copy(i: &IndexCopy, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (dst, update) = (f.get(i.dst)?, f.get(i.update)?);
    let axis = axis_of(i.axis, dst.rank())?;
    let length = i64::from(dst.shape()[axis]);
    let indices = f.get(i.indices)?;
    if update.rank() != dst.rank() || update.shape()[axis] as usize != indices.len() {
        let wanted = indices.len();
        return Err(Fault::Pieces { wanted });
    }
    // They are read as numbers of 64 bits, whatever little memory they take on the device.
    within_reach([indices.len() as u64], ScalarType::I64, f)?;
    let mut rows = Vec::with_capacity(indices.len());
    for index in integers(indices)? {
        let row = if index < 0 { index + length } else { index };
        match i32::try_from(row) {
            Ok(row) if (0..length).contains(&i64::from(row)) => rows.push(row),
            _ => {
                return Err(Fault::Index {
                    index,
                    axis: i.axis,
                    length,
                });
            }
        }
    }
    let mut out = dst.share()?;
    let mut first = 0;
    for run in rows.chunk_by(|a, b| *b == a + 1) {
        let (start, count) = (run[0], run.len() as i32);
        let piece = if run.len() == rows.len() {
            update.share()?
        } else {
            along(update, axis, first, first + count, f)?
        };
        out = replaced(&out, &piece, axis, (start, start + count, 1), f)?;
        first += count;
    }
    f.put(i.out, out)
}

/// Integers up to this one, and sums of two of them, are exact as doubles.
const EXACT: u64 = 1 << 52;

pub(super) fn arange(i: &Arange, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (start, stop, step) = (f.number(i.start)?, f.number(i.stop)?, f.number(i.step)?);
    if step == 0 {
        return Err(Fault::Attribute {
            what: "step",
            value: 0,
        });
    }
    let dtype = i.scalar_type.unwrap_or(ScalarType::I32);
    let distance = (i128::from(stop) - i128::from(start)) * i128::from(step.signum());
    let count = distance
        .max(0)
        .unsigned_abs()
        .div_ceil(u128::from(step.unsigned_abs()));
    let length = [u64::try_from(count).unwrap_or(u64::MAX)];
    fill_bytes(length, dtype, f)?;
    if [start, stop, step]
        .iter()
        .all(|n| n.unsigned_abs() <= EXACT)
    {
        let (start, stop, step) = (start as f64, stop as f64, step as f64);
        let out = op!(f, mlx_arange, start, stop, step, code_of(dtype)?);
        return f.put(i.out, out);
    }
    // MLX takes doubles, which would round these.
    fill_bytes(length, ScalarType::I64, f)?;
    let wide = code_of(ScalarType::I64)?;
    let all = op!(f, mlx_arange, 0.0, count as f64, 1.0, wide);
    let [step, start] = [step, start].map(|n| whole(n, ScalarType::I64));
    let all = op!(f, mlx_multiply, all.raw(), step?.raw());
    let all = op!(f, mlx_add, all.raw(), start?.raw());
    f.put(i.out, cast(&all, dtype, f)?)
}

pub(super) fn random_bits(i: &RandomBits, f: &mut Frame<'_>) -> Result<(), Fault> {
    if ![1, 2, 4].contains(&i.width) {
        return Err(Fault::Attribute {
            what: "width",
            value: i64::from(i.width),
        });
    }
    let shape = f.ints(&i.shape)?;
    lengths(&shape, 0)?;
    fill_bytes(
        shape.iter().map(|n| u64::from(n.unsigned_abs())),
        ScalarType::U32,
        f,
    )?;
    let key = match i.seed {
        Some(seed) => {
            let seed = f.number(IntOrVid::Vid(seed))?.cast_unsigned();
            let mut key = Array::empty();
            // SAFETY: as for `op`; the key is made on the host.
            let status = unsafe { mlx_sys::mlx_random_key(key.slot(), seed) };
            Some(key.if_made(status)?)
        }
        None => None,
    };
    let key = Optional::of(key.as_ref()).raw();
    f.put(
        i.out,
        op!(
            f,
            mlx_random_bits,
            shape.as_ptr(),
            shape.len(),
            i.width,
            key
        ),
    )
}
