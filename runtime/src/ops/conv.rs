//! What of convolutions MLX does not look at, and padding where it must not do it.
//!
//! MLX 0.32's loop for convolutions in groups, on the CPU, takes as many results at an edge for padded ones as the padding has steps, even where there are fewer
//! results than that, and writes beyond the array. There the padding is added before.

use fuseline_program::ScalarType;

use super::host::{fill_bytes, scalar, within_reach};
use super::op;
use crate::device::Device;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::Array;

/// Refuses what MLX does not look at: operands without a spatial axis for each of `axes` between the first and the last, and axes of no length, which its loops on the CPU divide by. Only a
/// batch may be empty.
fn check(x: &Array, w: &Array, spatial: usize) -> Result<(), Fault> {
    ranks(x, w, spatial)?;
    let (x, w) = (x.shape(), w.shape());
    if x.iter().skip(1).chain(w).any(|length| *length == 0) {
        let what = "the length of an axis of a convolution";
        return Err(Fault::Attribute { what, value: 0 });
    }
    Ok(())
}

/// [`check`] for a transposed convolution, which is one of an input with `stride - 1` zeros between its elements.
pub(super) fn check_transposed(
    x: &Array,
    w: &Array,
    axes: &[Axis],
    output_padding: &[i32],
    f: &Frame<'_>,
) -> Result<(), Fault> {
    check(x, w, axes.len())?;
    let lengths = axes.iter().zip(output_padding).enumerate();
    let lengths = lengths.map(|(at, (axis, more))| {
        // With the zeros behind the last element too, which MLX's loops on the CPU walk over.
        let spread = i64::from(axis.stride) * i64::from(x.shape()[at + 1]);
        let before = (axis.window(w, at) - 1 - i64::from(axis.padding)).max(0);
        let around = before.saturating_mul(2).saturating_add(i64::from(*more));
        spread.saturating_add(around)
    });
    laid_out(x, w, axes, lengths, f)
}

/// Refuses lengths that MLX, which counts in 32 bits, can't count, and an input that takes too much memory with what is put between and around its elements.
fn laid_out(
    x: &Array,
    w: &Array,
    axes: &[Axis],
    lengths: impl Iterator<Item = i64>,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    let lengths: Vec<i64> = lengths.collect();
    let windows = axes.iter().enumerate().map(|(at, axis)| axis.window(w, at));
    if windows
        .chain(lengths.iter().copied())
        .any(|n| n > i64::from(i32::MAX))
    {
        return Err(Fault::Overflow);
    }
    let shape = x.shape();
    let ends = shape.first().into_iter().chain(shape.last());
    let all = ends.map(|n| i64::from(*n)).chain(lengths);
    countable(all.map(i64::unsigned_abs), x.dtype(), f)
}

fn ranks(x: &Array, w: &Array, spatial: usize) -> Result<(), Fault> {
    match [x, w].iter().find(|operand| operand.rank() != spatial + 2) {
        None => Ok(()),
        Some(operand) => Err(Fault::Axis {
            axis: i32::try_from(spatial).unwrap_or(i32::MAX) + 1,
            rank: operand.rank(),
        }),
    }
}

/// Refuses a convolution that takes too much memory on its way: on the CPU, MLX makes it a product of matrices, and lays out a copy of what each result is made from.
pub(super) fn affordable(out: &Array, w: &Array, groups: i32, f: &Frame<'_>) -> Result<(), Fault> {
    if f.stream.device() != Device::Cpu {
        return Ok(());
    }
    let length = |n: &i32| u64::from(n.unsigned_abs());
    let places = out
        .shape()
        .split_last()
        .map_or(&[][..], |(_, places)| places);
    let window = w
        .shape()
        .split_first()
        .map_or(&[][..], |(_, window)| window);
    let all = places.iter().chain(window).chain([&groups]).map(length);
    countable(all, out.dtype(), f)
}

/// Refuses what does not fit, and on the CPU what has more elements than MLX's loops count, which go wrong then.
fn countable(
    lengths: impl Iterator<Item = u64>,
    dtype: ScalarType,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    let lengths: Vec<u64> = lengths.collect();
    let elements = lengths.iter().copied().fold(1, u64::saturating_mul);
    if f.stream.device() == Device::Cpu && elements > u64::from(i32::MAX.unsigned_abs()) {
        return Err(Fault::Overflow);
    }
    within_reach(lengths, dtype, f)
}

/// One spatial axis of a convolution.
pub(super) struct Axis {
    pub(super) stride: i32,
    pub(super) padding: i32,
    pub(super) dilation: i32,
}

impl Axis {
    /// How far the kernel reaches along the spatial axis of this number.
    fn window(&self, w: &Array, at: usize) -> i64 {
        i64::from(self.dilation) * (i64::from(w.shape()[at + 1]) - 1) + 1
    }
}

/// `x` with its padding in it, where MLX's own would go wrong or `x` has nothing but its padding; else `None`. What MLX is given then passes [`check`].
/// `x` and `w` have their spatial axes behind the first.
pub(super) fn padded(
    x: &Array,
    w: &Array,
    axes: &[Axis],
    f: &Frame<'_>,
) -> Result<Option<Array>, Fault> {
    ranks(x, w, axes.len())?;
    let x_shape = x.shape();
    let length = |at: usize, axis: &Axis| i64::from(x_shape[at + 1]) + 2 * i64::from(axis.padding);
    let few = axes.iter().enumerate().any(|(at, axis)| {
        let stride = i64::from(axis.stride);
        let results = (length(at, axis) - axis.window(w, at)).div_euclid(stride) + 1;
        i64::from(axis.padding) > results * stride
    });
    let lengths = axes.iter().enumerate();
    laid_out(x, w, axes, lengths.map(|(at, axis)| length(at, axis)), f)?;
    let nothing = x_shape[1..=axes.len()].contains(&0);
    if !nothing && (!few || f.stream.device() != Device::Cpu) {
        check(x, w, axes.len())?;
        return Ok(None);
    }
    let spatial: Vec<i32> = (1..).take(axes.len()).collect();
    let widths: Vec<i32> = axes.iter().map(|axis| axis.padding).collect();
    let lengths = x_shape.iter().enumerate().map(|(at, length)| {
        let padding = at.checked_sub(1).and_then(|at| widths.get(at));
        u64::from(length.unsigned_abs()) + 2 * u64::from(padding.map_or(0, |p| p.unsigned_abs()))
    });
    fill_bytes(lengths, x.dtype(), f)?;
    let zero = scalar(0.0, x.dtype())?;
    let x = op!(
        f,
        mlx_pad,
        x.raw(),
        spatial.as_ptr(),
        spatial.len(),
        widths.as_ptr(),
        widths.len(),
        widths.as_ptr(),
        widths.len(),
        zero.raw(),
        c"constant".as_ptr(),
    );
    check(&x, w, axes.len())?;
    Ok(Some(x))
}
