//! Checks that MLX leaves to its callers, and numbers between host and arrays.

use std::ffi::CString;

use fuseline_program::ScalarType;
use fuseline_program::instr::FloatOrVid;

use crate::device::Device;
use crate::fault::Fault;
use crate::frame::{Frame, Number};
use crate::late::Span;
use crate::mlx::{Array, MlxError, Stream};
use crate::ops::metal_kernel::metal_is_there;

/// The most bytes that one instruction may fill without an input of that size; ExecuTorch's delegate has the same limit.
const FILL_LIMIT: u64 = 4 << 30;

/// The most bytes of what any one instruction makes. Without a limit, a few broadcasts ask for more than there is memory in the world, and the number of elements
/// is counted modulo 2⁶⁴.
const ARRAY_LIMIT: u64 = 64 << 30;

/// `axis` counted from the front, for an array of `rank` axes.
pub(crate) fn axis_of(axis: i32, rank: usize) -> Result<usize, Fault> {
    let counted = if axis < 0 {
        i64::from(axis) + rank as i64
    } else {
        i64::from(axis)
    };
    match usize::try_from(counted) {
        Ok(found) if found < rank => Ok(found),
        _ => Err(Fault::Axis { axis, rank }),
    }
}

/// Refuses negative lengths; up to `open` of them may be -1.
pub(super) fn lengths(shape: &[i32], open: usize) -> Result<(), Fault> {
    let inferred = shape.iter().filter(|n| **n == -1).count();
    match shape
        .iter()
        .find(|n| **n < 0 && (inferred > open || **n != -1))
    {
        Some(length) => Err(Fault::Length { length: *length }),
        None => Ok(()),
    }
}

/// Refuses steps below 1 and paddings below 0.
pub(super) fn steps(positive: &[i32], not_negative: &[i32]) -> Result<(), Fault> {
    let bad = positive
        .iter()
        .find(|n| **n < 1)
        .or(not_negative.iter().find(|n| **n < 0));
    match bad {
        Some(value) => Err(Fault::Attribute {
            what: "stride, dilation, groups or padding",
            value: i64::from(*value),
        }),
        None => Ok(()),
    }
}

/// Whether MLX runs on a GPU of NVIDIA's.
pub(super) fn on_cuda(f: &Frame<'_>) -> bool {
    f.stream.device() == Device::Gpu && !metal_is_there()
}

/// Refuses an array that is larger than [`ARRAY_LIMIT`], or than all that the program may take, before anything is computed.
pub(super) fn bounded(array: Array, f: &Frame<'_>) -> Result<Array, Fault> {
    let lengths = array.shape().iter().map(|n| u64::from(n.unsigned_abs()));
    within_reach(lengths, array.dtype(), f)?;
    Ok(array)
}

/// Refuses what [`bounded`] does, by lengths: for an array that MLX makes on its way.
pub(super) fn within_reach(
    lengths: impl IntoIterator<Item = u64>,
    dtype: ScalarType,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    within(ARRAY_LIMIT, lengths, dtype, f)
}

/// Refuses an array of these lengths that takes more than the limit, or than all that the program may take. A length of 0 counts as 1: what MLX makes on the way to an array without
/// elements may have as many as its other lengths say.
fn within(
    limit: u64,
    lengths: impl IntoIterator<Item = u64>,
    dtype: ScalarType,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    let limit = limit.min(f.budget.largest());
    let lengths = lengths.into_iter().map(|length| length.max(1));
    let bytes = lengths.fold(dtype.size(), u64::saturating_mul);
    if bytes > limit {
        Err(Fault::TooLarge { bytes, limit })
    } else {
        Ok(())
    }
}

/// Refuses to fill more than [`FILL_LIMIT`].
pub(super) fn fill_bytes(
    lengths: impl IntoIterator<Item = u64>,
    dtype: ScalarType,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    within(FILL_LIMIT, lengths, dtype, f)
}

pub(super) fn c_string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| Fault::Text {
        text: text.to_owned(),
    })
}

/// An array without axes, of any real element type.
pub(super) fn scalar(value: f64, dtype: ScalarType) -> Result<Array, Fault> {
    use ScalarType as T;
    // `as` saturates, so that no value is out of range.
    let bytes = match dtype {
        T::Bool => vec![u8::from(value != 0.0)],
        T::U8 => (value as u8).to_le_bytes().to_vec(),
        T::I8 => (value as i8).to_le_bytes().to_vec(),
        T::U16 => (value as u16).to_le_bytes().to_vec(),
        T::I16 => (value as i16).to_le_bytes().to_vec(),
        T::U32 => (value as u32).to_le_bytes().to_vec(),
        T::I32 => (value as i32).to_le_bytes().to_vec(),
        T::U64 => (value as u64).to_le_bytes().to_vec(),
        T::I64 => (value as i64).to_le_bytes().to_vec(),
        T::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
        T::BF16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
        T::F32 => (value as f32).to_le_bytes().to_vec(),
        T::F64 => value.to_le_bytes().to_vec(),
        T::C64 | T::F8E5M2 | T::F8E4M3 => return Err(Fault::DType { dtype }),
    };
    Ok(Array::from_bytes(&bytes, &[], dtype)?)
}

/// An array that takes no work. MLX signals all that is started at once when the last of it is computed, so this one, started with them, tells for all.
pub(crate) fn mark(stream: &Stream) -> Result<Array, MlxError> {
    let one = Array::from_bytes(&[0], &[], ScalarType::U8)?;
    let mut mark = Array::empty();
    // SAFETY: the handles are valid, and there are as many lengths as the count says.
    let status =
        unsafe { mlx_sys::mlx_broadcast_to(mark.slot(), one.raw(), [1].as_ptr(), 1, stream.raw()) };
    mark.if_made(status)
}

/// An array without axes that holds an integer, or the nearest one of its type.
pub(super) fn whole(value: i64, dtype: ScalarType) -> Result<Array, Fault> {
    let bytes = match dtype {
        ScalarType::I64 => value.to_le_bytes(),
        ScalarType::U64 => value.max(0).to_le_bytes(),
        // No other integers are as wide as what a double does not round.
        _ => return scalar(value as f64, dtype),
    };
    Ok(Array::from_bytes(&bytes, &[], dtype)?)
}

/// An array without axes that holds a host number.
pub(super) fn number(value: FloatOrVid, dtype: ScalarType, f: &Frame<'_>) -> Result<Array, Fault> {
    if let FloatOrVid::Vid(vid) = value
        && let Number::Int(integer) = f.value(vid)?
    {
        return whole(integer, dtype);
    }
    scalar(f.float(value)?, dtype)
}

/// Visits the elements of an integer array in row-major order, as host numbers, which waits for them. Those beyond 63 bits are cut to the largest.
pub(crate) fn each_integer(array: &Array, visit: impl FnMut(i64)) -> Result<(), Fault> {
    fn decode<const N: usize>(bytes: &[u8], one: impl Fn([u8; N]) -> i64, visit: impl FnMut(i64)) {
        let chunks = bytes.as_chunks::<N>().0.iter();
        chunks.map(|chunk| one(*chunk)).for_each(visit);
    }
    let bytes = array.read()?;
    match array.dtype() {
        ScalarType::Bool | ScalarType::U8 => {
            decode(&bytes, |[byte]: [u8; 1]| i64::from(byte), visit);
        }
        ScalarType::I8 => decode(&bytes, |b| i64::from(i8::from_le_bytes(b)), visit),
        ScalarType::U16 => decode(&bytes, |b| i64::from(u16::from_le_bytes(b)), visit),
        ScalarType::I16 => decode(&bytes, |b| i64::from(i16::from_le_bytes(b)), visit),
        ScalarType::U32 => decode(&bytes, |b| i64::from(u32::from_le_bytes(b)), visit),
        ScalarType::I32 => decode(&bytes, |b| i64::from(i32::from_le_bytes(b)), visit),
        ScalarType::I64 => decode(&bytes, i64::from_le_bytes, visit),
        ScalarType::U64 => {
            let cut = |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX);
            decode(&bytes, cut, visit);
        }
        dtype => return Err(Fault::DType { dtype }),
    }
    Ok(())
}

/// Between what the elements of an array lie, which waits for them; none unless they are integers, if there are none, or if one is beyond 63 bits.
pub(crate) fn span_of(array: &Array) -> Result<Option<Span>, Fault> {
    let mut span: Option<Span> = None;
    if is_integer(array.dtype()) {
        each_integer(array, |number| {
            let one = Span {
                least: number,
                most: number,
            };
            span = Some(span.map_or(one, |span| span.with(one)));
        })?;
    }
    // The largest integer stands for those beyond it.
    let cut = array.dtype() == ScalarType::U64;
    Ok(span.filter(|span| !cut || span.most < i64::MAX))
}

/// The elements of an integer array, as host numbers.
pub(super) fn integers(array: &Array) -> Result<Vec<i64>, Fault> {
    let mut all = Vec::with_capacity(array.len());
    each_integer(array, |number| all.push(number))?;
    Ok(all)
}

pub(super) fn item(array: &Array) -> Result<i64, Fault> {
    let elements = array.len();
    if elements == 1
        && let [value] = *integers(array)?
    {
        return Ok(value);
    }
    Err(Fault::NotOne { elements })
}

pub(super) fn is_integer(dtype: ScalarType) -> bool {
    use ScalarType as T;
    matches!(
        dtype,
        T::Bool | T::U8 | T::I8 | T::U16 | T::I16 | T::U32 | T::I32 | T::U64 | T::I64
    )
}
