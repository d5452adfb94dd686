//! Padding of convolutions where MLX must not do it.
//!
//! MLX 0.32's loop for convolutions in groups, on the CPU, takes as many results at an edge for padded ones as the padding has steps, even where there are fewer
//! results than that, and writes beyond the array. There the padding is added before.

use super::host::{fill_bytes, scalar};
use super::op;
use crate::device::Device;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::Array;

/// Refuses what MLX does not look at: operands without `spatial` axes between the first and the last, and axes of no length, which its loops on the CPU divide by. Only a batch may be
/// empty.
pub(super) fn check(x: &Array, w: &Array, spatial: usize) -> Result<(), Fault> {
    ranks(x, w, spatial)?;
    let (x, w) = (x.shape(), w.shape());
    if x.iter().skip(1).chain(w).any(|length| *length == 0) {
        let what = "the length of an axis of a convolution";
        return Err(Fault::Attribute { what, value: 0 });
    }
    Ok(())
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

/// One spatial axis of a convolution.
pub(super) struct Axis {
    pub(super) stride: i32,
    pub(super) padding: i32,
    pub(super) dilation: i32,
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
    let (x_shape, w_shape) = (x.shape(), w.shape());
    let few = axes.iter().enumerate().any(|(at, axis)| {
        let (stride, padding) = (i64::from(axis.stride), i64::from(axis.padding));
        let length = i64::from(x_shape[at + 1]) + 2 * padding;
        let window = i64::from(axis.dilation) * (i64::from(w_shape[at + 1]) - 1) + 1;
        let results = (length - window).div_euclid(stride) + 1;
        padding > results * stride
    });
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
