//! Elements looked at as their bits: other types of the same bytes, and neighbours among the floats.

use fuseline_program::ScalarType;

use super::{KernelError, Kernels, Walk, bad, broadcast_shape, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.register("aten::view.dtype", 2, 1, seen_as);
    kernels.register("aten::nextafter", 2, 1, neighbour);
}

/// `view(self, dtype)`: the same bytes, truth values as 0 and 1; the last axis grows or shrinks with the elements' size.
fn seen_as(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    let code = arguments.get(1).and_then(Value::as_int);
    let dtype = code.and_then(|code| ScalarType::from_code(i8::try_from(code).ok()?));
    let Some(dtype) = dtype else {
        return Err(bad(1, "is no element type"));
    };
    let (old, new) = (x.dtype().size(), dtype.size());
    let (Ok(old), Ok(new)) = (usize::try_from(old), usize::try_from(new)) else {
        return Err(bad(1, "is no element type"));
    };
    let mut shape = x.shape();
    if old != new {
        let Some(last) = shape.last_mut() else {
            return Err(bad(0, "has no axis to divide"));
        };
        if *last * old % new != 0 {
            let problem = format!(
                "has a last axis of {} bytes, no multiple of {new}",
                *last * old
            );
            return Err(bad(0, problem));
        }
        *last = *last * old / new;
    }
    let mut bytes = x.to_bytes()?;
    if dtype == ScalarType::Bool {
        for byte in &mut bytes {
            *byte = u8::from(*byte != 0);
        }
    }
    Ok(vec![Tensor::from_bytes(dtype, &shape, &bytes)?.into()])
}

/// `nextafter(self, other)`: the float next to `self` in the direction of `other`.
fn neighbour(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let (x, to) = (tensor(arguments, 0)?, tensor(arguments, 1)?);
    let dtype = x.dtype();
    let size = match dtype {
        ScalarType::F64 => 8,
        ScalarType::F32 => 4,
        ScalarType::F16 | ScalarType::BF16 => 2,
        _ => return Err(bad(0, format!("has elements of type {dtype}, not floats"))),
    };
    if to.dtype() != dtype {
        return Err(bad(
            1,
            format!("has elements of type {}, not {dtype}", to.dtype()),
        ));
    }
    let Some(shape) = broadcast_shape(&x.shape(), &to.shape()) else {
        return Err(bad(
            1,
            format!("has a shape that does not broadcast with {:?}", x.shape()),
        ));
    };
    let (from, ends) = (x.to_floats()?, to.to_floats()?);
    let (bits, others) = (x.to_bytes()?, to.to_bytes()?);
    let sign = 1_u64 << (8 * size - 1);
    let word = |bytes: &[u8], at: usize| {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(&bytes[at * size..][..size]);
        u64::from_le_bytes(wide)
    };
    let mut made = Vec::new();
    let (left, right) = (
        Walk::broadcast(&x.shape(), &shape),
        Walk::broadcast(&to.shape(), &shape),
    );
    for (a, b) in left.offsets().zip(right.offsets()) {
        let own = word(&bits, a);
        let next = if from[a].is_nan() {
            own
        } else if ends[b].is_nan() || from[a] == ends[b] {
            word(&others, b)
        } else if from[a] == 0.0 {
            1 | if ends[b] < 0.0 { sign } else { 0 }
        } else if (from[a] < ends[b]) == (from[a] > 0.0) {
            own + 1
        } else {
            own - 1
        };
        made.extend_from_slice(&next.to_le_bytes()[..size]);
    }
    Ok(vec![Tensor::from_bytes(dtype, &shape, &made)?.into()])
}
