//! Tensors without axes. Where PyTorch is given an axis for one, it takes it for one of length 1; MLX refuses.

use super::{Array, Fault, Frame, op};

/// Whether an axis is that of a tensor without any.
fn is_own(axis: i32) -> bool {
    axis == 0 || axis == -1
}

/// The axes of a reduction; none, which are all, where the tensor has none.
pub(super) fn axes<'a>(x: &Array, axes: &'a [i32]) -> &'a [i32] {
    if x.rank() == 0 && axes.iter().all(|axis| is_own(*axis)) {
        &[]
    } else {
        axes
    }
}

/// A tensor without axes as one with an axis of length 1; `None` for others.
pub(super) fn as_row(x: &Array, axis: i32, f: &Frame<'_>) -> Result<Option<Array>, Fault> {
    let is_point = x.rank() == 0 && is_own(axis);
    is_point.then(|| reshaped(x, &[1], f)).transpose()
}

/// The only element without an axis.
pub(super) fn of_row(x: &Array, f: &Frame<'_>) -> Result<Array, Fault> {
    reshaped(x, &[], f)
}

fn reshaped(x: &Array, shape: &[i32], f: &Frame<'_>) -> Result<Array, Fault> {
    Ok(op!(f, mlx_reshape, x.raw(), shape.as_ptr(), shape.len()))
}
