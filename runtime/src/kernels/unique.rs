//! `unique` and `unique_consecutive`.

use std::cmp::Ordering;

use fuseline_program::ScalarType;

use super::{KernelError, bad, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

/// `_unique2(self, sorted, return_inverse, return_counts)`: the distinct elements, ascending with NaN last whether that is asked for or not; where each element of `self` is
/// among them; how often each occurs.
pub(super) fn sorted(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    dispatch(arguments, false, flag(arguments, 2)?, flag(arguments, 3)?)
}

/// `unique_consecutive(self, return_inverse, return_counts, dim)`: the same of runs of equal neighbours, in their order. Without `dim` only.
pub(super) fn runs(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    match arguments.get(3) {
        None | Some(Value::None) => {}
        Some(_) => return Err(bad(3, "is an axis: only elements are compared, not slices")),
    }
    dispatch(arguments, true, flag(arguments, 1)?, flag(arguments, 2)?)
}

fn flag(arguments: &[Value], position: usize) -> Result<bool, KernelError> {
    match arguments.get(position) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(bad(
            position,
            format!("is {}, not a truth value", other.kind()),
        )),
    }
}

fn dispatch(
    arguments: &[Value],
    runs: bool,
    inverse: bool,
    counts: bool,
) -> Result<Vec<Value>, KernelError> {
    let x = tensor(arguments, 0)?;
    use ScalarType as T;
    // Integers that fit keep their order as `i64`, floats as `f64`; `u64` beyond is the one type that needs its own.
    match x.dtype() {
        T::F16 | T::BF16 | T::F32 | T::F64 => {
            let order = |a: &f64, b: &f64| {
                (a.partial_cmp(b)).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            };
            unique(x, &x.to_floats()?, order, runs, [inverse, counts])
        }
        T::U64 => unique(x, &x.to_vec::<u64>()?, u64::cmp, runs, [inverse, counts]),
        T::C64 => Err(bad(0, "has complex elements")),
        _ => unique(x, &x.to_ints()?, i64::cmp, runs, [inverse, counts]),
    }
}

fn unique<E: PartialEq>(
    x: &Tensor,
    elements: &[E],
    compare: impl Fn(&E, &E) -> Ordering,
    runs: bool,
    [inverse, counts]: [bool; 2],
) -> Result<Vec<Value>, KernelError> {
    let mut order: Vec<usize> = (0..elements.len()).collect();
    if !runs {
        order.sort_by(|a, b| compare(&elements[*a], &elements[*b]));
    }
    let size = usize::try_from(x.dtype().size()).unwrap_or(1);
    let bytes = x.to_bytes()?;
    let (mut distinct, mut times) = (Vec::new(), Vec::new());
    let mut kind = vec![0_i64; elements.len()];
    let mut last = None;
    for at in order {
        // NaN differs from itself, so that each of them is an element of its own.
        if last.is_none_or(|last: usize| elements[last] != elements[at]) {
            distinct.extend_from_slice(&bytes[at * size..][..size]);
            times.push(0_i64);
        }
        last = Some(at);
        kind[at] = times.len() as i64 - 1;
        if let Some(times) = times.last_mut() {
            *times += 1;
        }
    }
    let empty = || Tensor::from_slice::<i64>(&[0], &[]);
    let kind = match inverse {
        true => Tensor::from_slice(&x.shape(), &kind)?,
        false => empty()?,
    };
    let shape = [times.len()];
    let times = match counts {
        true => Tensor::from_slice(&shape, &times)?,
        false => empty()?,
    };
    let distinct = Tensor::from_bytes(x.dtype(), &shape, &distinct)?;
    Ok(vec![distinct.into(), kind.into(), times.into()])
}
