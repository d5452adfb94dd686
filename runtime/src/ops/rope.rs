//! Rotary embeddings.

use fuseline_program::instr::{IntOrVid, Rope, VidOrTid};

use super::host::on_cuda;
use super::op;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::Array;

pub(super) fn rope(i: &Rope, f: &mut Frame<'_>) -> Result<(), Fault> {
    let freqs = f.optional(i.freqs)?;
    // MLX takes either a base or frequencies.
    let base = mlx_sys::mlx_optional_float {
        value: i.base,
        has_value: i.freqs.is_none(),
    };
    let rows = in_rows(f.get(i.x)?, f)?;
    let x = rows.as_ref().map_or(f.raw(i.x)?, Array::raw);
    let (dims, traditional, scale, freqs) = (i.dims, i.traditional, i.scale, freqs.raw());
    let out = match i.offset {
        VidOrTid::Vid(vid) => {
            let offset = f.int(IntOrVid::Vid(vid))?;
            op!(
                f,
                mlx_fast_rope,
                x,
                dims,
                traditional,
                base,
                scale,
                offset,
                freqs
            )
        }
        VidOrTid::Tid(tid) => {
            let offset = f.raw(tid)?;
            op!(
                f,
                mlx_fast_rope_dynamic,
                x,
                dims,
                traditional,
                base,
                scale,
                offset,
                freqs
            )
        }
    };
    f.put(i.out, out)
}

/// The elements in row-major order, where MLX needs that: on CUDA it gives the result the strides of `x` and as many bytes as `x` says to span, and what a `Split`
/// made says too few, what was reversed begins at its end, and what was broadcast has each element once. All of these write where other arrays are. What is in
/// order already is not copied.
fn in_rows(x: &Array, f: &Frame<'_>) -> Result<Option<Array>, Fault> {
    if !on_cuda(f) {
        return Ok(None);
    }
    Ok(Some(op!(f, mlx_contiguous, x.raw(), false)))
}
