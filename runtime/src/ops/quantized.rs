//! Products with weights of few bits, and such weights as floats.

use std::ffi::CString;

use fuseline_program::Tid;
use fuseline_program::instr::{Dequantize, GatherQmm, QuantizedMatmul};

use super::host::{c_string, on_cuda};
use super::{code_of, indices, op, sorted, zeros};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::{Array, Optional};

pub(super) fn matmul(i: &QuantizedMatmul, f: &mut Frame<'_>) -> Result<(), Fault> {
    if f.get(i.x)?.len() == 0 {
        return f.put(i.out, empty_product(i, f)?);
    }
    let (groups, bits, mode) = parameters(i.group_size, i.bits, &i.mode)?;
    same_rows(i.w, i.scales, i.biases, f)?;
    let one_group = f.get(i.scales)?.shape().last() == Some(&1);
    let (x, w, scales) = (f.raw(i.x)?, f.raw(i.w)?, f.raw(i.scales)?);
    let biases = f.optional(i.biases)?.raw();
    let mode = mode.as_ptr();
    if one_group && on_cuda(f) {
        // MLX 0.32 has a product of its own for these on Hopper, which is wrong.
        let (none, dtype) = (Optional::of(None).raw(), no_dtype());
        let w = op!(
            f,
            mlx_dequantize,
            w,
            scales,
            biases,
            groups,
            bits,
            mode,
            none,
            dtype
        );
        let w = match i.transpose {
            true => op!(f, mlx_swapaxes, w.raw(), -1, -2),
            false => w,
        };
        return f.put(i.out, op!(f, mlx_matmul, x, w.raw()));
    }
    let out = op!(
        f,
        mlx_quantized_matmul,
        x,
        w,
        scales,
        biases,
        i.transpose,
        groups,
        bits,
        mode
    );
    f.put(i.out, out)
}

pub(super) fn gathered(i: &GatherQmm, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (groups, bits, mode) = parameters(i.group_size, i.bits, &i.mode)?;
    same_rows(i.w, i.scales, i.biases, f)?;
    let (x, w) = (f.get(i.x)?, f.get(i.w)?);
    let (left, right) = (
        indices::of_matrices(x, i.lhs_indices, f)?,
        indices::of_matrices(w, i.rhs_indices, f)?,
    );
    let (left, right) = (
        Optional::of(left.as_ref()).raw(),
        Optional::of(right.as_ref()).raw(),
    );
    let sorted = sorted(i.sorted_indices, i.sorted_indices_flag, f)?;
    let (x, w, scales) = (x.raw(), w.raw(), f.raw(i.scales)?);
    let biases = f.optional(i.biases)?.raw();
    let mode = mode.as_ptr();
    let out = op!(
        f,
        mlx_gather_qmm,
        x,
        w,
        scales,
        biases,
        left,
        right,
        i.transpose,
        groups,
        bits,
        mode,
        sorted
    );
    f.put(i.out, out)
}

pub(super) fn dequantize(i: &Dequantize, f: &mut Frame<'_>) -> Result<(), Fault> {
    let (groups, bits, mode) = parameters(i.group_size, i.bits, &i.mode)?;
    let (biases, scale) = (
        f.optional(i.biases)?.raw(),
        f.optional(i.global_scale)?.raw(),
    );
    let dtype = match i.dtype {
        Some(dtype) => mlx_sys::mlx_optional_dtype {
            value: code_of(dtype)?,
            has_value: true,
        },
        None => no_dtype(),
    };
    let (w, scales) = (f.raw(i.w)?, f.raw(i.scales)?);
    let mode = mode.as_ptr();
    let out = op!(
        f,
        mlx_dequantize,
        w,
        scales,
        biases,
        groups,
        bits,
        mode,
        scale,
        dtype
    );
    f.put(i.out, out)
}

fn no_dtype() -> mlx_sys::mlx_optional_dtype {
    mlx_sys::mlx_optional_dtype {
        value: 0,
        has_value: false,
    }
}

type Parameters = (
    mlx_sys::mlx_optional_int,
    mlx_sys::mlx_optional_int,
    CString,
);

fn parameters(group_size: i32, bits: i32, mode: &str) -> Result<Parameters, Fault> {
    // MLX divides by both before it looks at them.
    if !(1..=32).contains(&bits) {
        return Err(Fault::Attribute {
            what: "bits",
            value: i64::from(bits),
        });
    }
    if group_size < 1 {
        return Err(Fault::Attribute {
            what: "group_size",
            value: i64::from(group_size),
        });
    }
    let some = |value| mlx_sys::mlx_optional_int {
        value,
        has_value: true,
    };
    Ok((some(group_size), some(bits), c_string(mode)?))
}

/// That a packed matrix, its scales and its biases have the same rows: MLX's products compare the lengths of all axes but the last two, which it takes to be there, and
/// read scales for each row of the matrix.
fn same_rows(w: Tid, scales: Tid, biases: Option<Tid>, f: &Frame<'_>) -> Result<(), Fault> {
    let w = f.get(w)?.shape();
    let ([rows @ .., _], true) = (w, w.len() >= 2) else {
        return Err(Fault::Axis {
            axis: -2,
            rank: w.len(),
        });
    };
    for beside in std::iter::once(scales).chain(biases) {
        let shape = f.get(beside)?.shape();
        if !matches!(shape, [same @ .., _] if same == rows) {
            return Err(Fault::Scales {
                packed: w.to_vec(),
                scales: shape.to_vec(),
            });
        }
    }
    Ok(())
}

/// The product of no rows with a quantised matrix. MLX's CPU kernel divides by the number of rows, which ends the process.
fn empty_product(i: &QuantizedMatmul, f: &Frame<'_>) -> Result<Array, Fault> {
    let (x, w) = (f.get(i.x)?, f.get(i.w)?);
    // The matrix holds 32 bits of packed numbers in each element of its last axis.
    let columns = match (w.shape(), i.transpose) {
        ([.., rows, _], true) => *rows,
        ([.., packed], false) => packed.saturating_mul(32) / i.bits.max(1),
        _ => {
            return Err(Fault::Axis {
                axis: -2,
                rank: w.rank(),
            });
        }
    };
    let mut shape = x.shape().to_vec();
    match shape.last_mut() {
        Some(last) => *last = columns,
        None => return Err(Fault::Axis { axis: -1, rank: 0 }),
    }
    zeros(&shape, x.dtype(), f)
}
