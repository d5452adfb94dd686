//! Indices into an array are in range when MLX gets them.

use fuseline_program::{ScalarType, Tid};

use super::host::{axis_of, is_integer, scalar};
use super::op;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::late::{Range, Span};
use crate::mlx::Array;

/// The most numbers on a device that are looked at on the host before they are used.
pub(super) const CHECKED: usize = 1 << 16;

/// Indices along an axis of `x`, of each of which `width` rows are read; negative ones count from the end.
pub(super) fn along(
    x: &Array,
    axis: i32,
    width: i32,
    indices: Tid,
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    let length = i64::from(x.shape()[axis_of(axis, x.rank())?]);
    let span = Span {
        least: -length,
        most: length - i64::from(width.max(1)),
    };
    let range = Range { axis, length, span };
    in_range(indices, range, f)
}

/// Numbers of matrices, if any are given, counted over all axes of `x` but the last two. MLX takes them for unsigned, so that none counts from the end.
pub(super) fn of_matrices(
    x: &Array,
    indices: Option<Tid>,
    f: &Frame<'_>,
) -> Result<Option<Array>, Fault> {
    let Some(indices) = indices else {
        return Ok(None);
    };
    let batch = x.shape().get(..x.rank().saturating_sub(2)).unwrap_or(&[]);
    let length = batch.iter().map(|n| i64::from(*n)).product();
    let span = Span {
        least: 0,
        most: length - 1,
    };
    let range = Range {
        axis: 0,
        length,
        span,
    };
    in_range(indices, range, f).map(Some)
}

/// The indices in a slot, as they are if all are in range, and an error if one is known not to be. Those that can't be known without waiting, where waiting
/// is not wanted, are cut to the range, and the call's results say later whether that changed any.
fn in_range(tid: Tid, range: Range, f: &Frame<'_>) -> Result<Array, Fault> {
    let indices = f.get(tid)?;
    let dtype = indices.dtype();
    // Truth values are no positions, which MLX finds out only in the middle of its work.
    if !is_integer(dtype) || dtype == ScalarType::Bool {
        return Err(Fault::DType { dtype });
    }
    if f.span(tid, usize::MAX)?
        .is_some_and(|span| range.span.covers(span))
    {
        return Ok(indices.share()?);
    }
    let few = indices.len() <= CHECKED && indices.is_computed();
    let Some(all) = Span::of_type(dtype) else {
        return checked(indices, range);
    };
    let Span { least, most } = range.span;
    if !f.late.is_on() || few || most < least || most < all.least || least > all.most {
        return checked(indices, range);
    }
    let bound = |number: i64, limit: i64| match number == limit {
        true => Ok(None),
        false => scalar(number as f64, dtype).map(Some),
    };
    let mut cut = indices.share()?;
    if let Some(least) = bound(least.max(all.least), all.least)? {
        cut = op!(f, mlx_maximum, cut.raw(), least.raw());
    }
    if let Some(most) = bound(most.min(all.most), all.most)? {
        cut = op!(f, mlx_minimum, cut.raw(), most.raw());
    }
    let changed = op!(f, mlx_not_equal, cut.raw(), indices.raw());
    let any = op!(f, mlx_any, changed.raw(), false);
    f.late.leave(any, indices.share()?, range);
    Ok(cut)
}

fn checked(indices: &Array, range: Range) -> Result<Array, Fault> {
    range.check(indices)?;
    Ok(indices.share()?)
}
