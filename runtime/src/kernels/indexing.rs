//! Operators that read or write at positions which tensors hold, and those that find positions.

use std::cmp::Ordering;

use fuseline_program::instr::{IntOrVidOrTid, Take, TakeAlongAxis};
use fuseline_program::{ScalarType, Tid};

use super::call::{Call, Result, small};
use super::portable::{from_floats, from_integers};
use super::types::{Kind, Scalar, kind};
use super::views::{axis, integer, straight};
use super::{KernelError, Kernels, Walk, bad, broadcast_shape, is_affordable, tensor, truths};
use crate::tensor::Tensor;
use crate::value::Value;

type Results = std::result::Result<Vec<Value>, KernelError>;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.device("aten::embedding.out", 5, |call| {
        let (x, index) = (call.tensor(0)?, call.tensor(1)?);
        call.make(|out| Take {
            x,
            out,
            index: IntOrVidOrTid::Tid(index),
            axis: 0,
        })
    });
    kernels.device("aten::index_select.out", 3, |call| {
        let mut x = call.tensor(0)?;
        let mut index = call.tensor(2)?;
        if call.rank(index)? == 0 {
            index = call.reshape(index, &[1])?;
        }
        let Some(axis) = call.axis(1, 0, x)? else {
            x = call.reshape(x, &[1])?;
            x = taken(call, x, index, 0)?;
            return call.reshape(x, &[]);
        };
        taken(call, x, index, axis)
    });
    kernels.device("aten::gather.out", 4, gathered);
    for name in ["scatter.src_out", "scatter.value_out"] {
        kernels.insert(format!("aten::{name}"), 4, 1, |arguments| {
            scatter(arguments, false)
        });
    }
    kernels.insert("aten::scatter_add.out", 4, 1, |arguments| {
        scatter(arguments, true)
    });
    kernels.insert("aten::index_put.out", 4, 1, put);
    kernels.insert("aten::index_put_", 4, 1, put);
    kernels.insert("aten::index.Tensor_out", 2, 1, index);
    kernels.insert("aten::repeat_interleave.Tensor_out", 2, 1, repeated);
    kernels.insert("aten::topk.values", 5, 2, topk);
    kernels.insert("aten::sort.values", 3, 2, sort);
    for (name, largest) in [("argmax", true), ("argmin", false)] {
        kernels.insert(format!("aten::{name}.out"), 3, 1, move |arguments| {
            best(arguments, largest)
        });
    }
}

fn taken(call: &mut Call<'_>, x: Tid, index: Tid, axis: usize) -> Result {
    let axis = small(axis as i64)?;
    call.make(|out| Take {
        x,
        out,
        index: IntOrVidOrTid::Tid(index),
        axis,
    })
}

/// `gather(self, dim, index)`: axes of `index` other than `dim` may be shorter than those of `self`.
fn gathered(call: &mut Call<'_>) -> Result {
    let (mut x, indices) = (call.tensor(0)?, call.tensor(2)?);
    if call.rank(x)? != call.rank(indices)? {
        return Err(bad(2, "has another number of axes"));
    }
    let Some(axis) = call.axis(1, 0, x)? else {
        return Ok(x);
    };
    let (own, wanted) = (call.shape(x)?, call.shape(indices)?);
    for (at, (own, wanted)) in own.iter().zip(&wanted).enumerate() {
        if at != axis && wanted > own {
            return Err(bad(2, format!("is longer than the tensor along axis {at}")));
        }
        if at != axis && wanted < own {
            x = call.slice(x, at, 0, *wanted, 1)?;
        }
    }
    let axis = small(axis as i64)?;
    call.make(|out| TakeAlongAxis {
        x,
        indices,
        out,
        axis,
    })
}

/// The elements of a tensor, to be read and written one by one.
enum Numbers {
    Floats(Vec<f64>),
    Integers(Vec<i64>),
}

impl Numbers {
    /// Those of a tensor, to be put among elements of a type.
    fn of(
        x: &Tensor,
        position: usize,
        dtype: ScalarType,
    ) -> std::result::Result<Self, KernelError> {
        match (kind(x.dtype()), kind(dtype)) {
            (Kind::Complex, _) | (_, Kind::Complex) => Err(bad(position, "has complex elements")),
            (_, Kind::Float) => Ok(Self::Floats(x.to_floats()?)),
            (Kind::Float, _) => Err(bad(
                position,
                format!("has elements of type {}, not {dtype}", x.dtype()),
            )),
            _ => Ok(Self::Integers(x.to_ints()?)),
        }
    }

    /// Replaces an element by one of others, or adds that to it. Positions beyond the end don't count.
    fn put(&mut self, at: usize, others: &Self, from: usize, adds: bool) {
        match (self, others) {
            (Self::Floats(own), Self::Floats(others)) => {
                if let (Some(own), Some(new)) = (own.get_mut(at), others.get(from)) {
                    *own = if adds { *own + new } else { *new };
                }
            }
            (Self::Integers(own), Self::Integers(others)) => {
                if let (Some(own), Some(new)) = (own.get_mut(at), others.get(from)) {
                    *own = if adds { own.wrapping_add(*new) } else { *new };
                }
            }
            _ => {}
        }
    }

    /// A tensor of them.
    fn into_tensor(self, dtype: ScalarType, shape: &[usize]) -> Results {
        let made = match self {
            Self::Floats(numbers) => from_floats(dtype, shape, &numbers)?,
            Self::Integers(numbers) => from_integers(dtype, shape, &numbers)?,
        };
        Ok(vec![made.into()])
    }

    /// Which of two elements comes first: NaN behind everything.
    fn order(&self, a: usize, b: usize) -> Ordering {
        match self {
            Self::Integers(numbers) => numbers.get(a).cmp(&numbers.get(b)),
            Self::Floats(numbers) => {
                let at = |at: usize| numbers.get(at).copied().unwrap_or(f64::NAN);
                let (a, b) = (at(a), at(b));
                a.partial_cmp(&b)
                    .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
        }
    }
}

/// The only element of a number's tensor.
fn number_tensor(value: &Value, position: usize) -> std::result::Result<Tensor, KernelError> {
    Ok(match Scalar::of(value) {
        Some(Scalar::Float(number)) => from_floats(ScalarType::F64, &[], &[number])?,
        Some(number) => Tensor::from_scalar(number.int())?,
        None => return Err(bad(position, "is not a number")),
    })
}

/// `scatter(self, dim, index, src)`: elements of `src`, a tensor or a number, in the places of `self` that `index` names along an axis. They replace what is
/// there, in order, or are added to it.
fn scatter(arguments: &[Value], adds: bool) -> Results {
    let (x, index) = (tensor(arguments, 0)?, tensor(arguments, 2)?);
    let (mut shape, mut counts) = (x.shape(), index.shape());
    let dim = integer(arguments, 1)?;
    let rank = shape.len();
    // What has no axes is taken for one of length 1.
    if rank == 0 {
        shape = vec![1];
    }
    if counts.is_empty() {
        counts = vec![1];
    }
    let at = axis(1, dim, shape.len())?;
    let fits = |of: &[usize]| {
        let lengths = counts.iter().zip(of).enumerate();
        let mut lengths = lengths.filter(|(axis, _)| *axis != at);
        counts.len() == of.len() && lengths.all(|(_, (count, length))| count <= length)
    };
    if counts.iter().product::<usize>() > 0 && !fits(&shape) {
        return Err(bad(
            2,
            format!("has shape {counts:?}, which is no part of {shape:?}"),
        ));
    }
    let held;
    let (source, from) = match arguments.get(3) {
        Some(Value::Tensor(source)) => {
            let mut from = source.shape();
            if from.is_empty() {
                from = vec![1];
            }
            let short = counts
                .iter()
                .zip(&from)
                .any(|(count, length)| count > length);
            if from.len() != counts.len() || short {
                return Err(bad(
                    3,
                    format!("has shape {from:?}, which {counts:?} is no part of"),
                ));
            }
            (source, Some(from))
        }
        Some(other) => {
            held = number_tensor(other, 3)?;
            (&held, None)
        }
        None => return Err(bad(3, "is missing")),
    };
    let source = Numbers::of(source, 3, x.dtype())?;
    let mut numbers = Numbers::of(x, 0, x.dtype())?;
    let places = index.to_ints()?;
    let part = |of: &[usize]| Walk {
        shape: counts.clone(),
        steps: straight(of).steps,
    };
    let mut own = part(&shape);
    let step = std::mem::take(&mut own.steps[at]);
    let from = match &from {
        Some(from) => part(from),
        None => Walk::broadcast(&[], &counts),
    };
    for ((place, to), from) in places.iter().zip(own.offsets()).zip(from.offsets()) {
        let row = usize::try_from(*place).ok().filter(|row| *row < shape[at]);
        let row = row.ok_or_else(|| bad(2, format!("holds {place}, no index of {}", shape[at])))?;
        numbers.put(to + row * step, &source, from, adds);
    }
    numbers.into_tensor(x.dtype(), &x.shape())
}

/// `index_put(self, indices, values, accumulate)`: as an assignment to several arrays of integers, or of truth values, in brackets.
fn put(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let values = tensor(arguments, 2)?;
    let adds = matches!(arguments.get(3), Some(Value::Bool(true)));
    let (places, shape) = places(x, arguments)?;
    let own = values.shape();
    if broadcast_shape(&own, &shape).as_ref() != Some(&shape) {
        return Err(bad(
            2,
            format!("has shape {own:?}, which does not broadcast to {shape:?}"),
        ));
    }
    let source = Numbers::of(values, 2, x.dtype())?;
    let mut numbers = Numbers::of(x, 0, x.dtype())?;
    for (to, from) in places.iter().zip(Walk::broadcast(&own, &shape).offsets()) {
        numbers.put(*to, &source, from, adds);
    }
    numbers.into_tensor(x.dtype(), &x.shape())
}

/// `topk(self, k, dim, largest, sorted)`, and with `k` the whole length a sort: the elements in order, and where they were. Of equal ones the first comes first.
fn ranked(x: &Tensor, dim: i64, count: Option<usize>, descending: bool) -> Results {
    let mut shape = x.shape();
    if shape.is_empty() {
        axis(1, dim, 1)?;
        return Ok(vec![x.clone().into(), Tensor::from_scalar(0_i64)?.into()]);
    }
    let at = axis(1, dim, shape.len())?;
    let walk = straight(&shape);
    let (length, step) = (shape[at], walk.steps[at]);
    let count = count.unwrap_or(length);
    if count > length {
        return Err(bad(
            1,
            format!("is {count}, more than the {length} that there are"),
        ));
    }
    let numbers = Numbers::of(x, 0, x.dtype())?;
    shape[at] = count;
    let mut rows = Walk {
        shape: shape.clone(),
        steps: walk.steps,
    };
    rows.shape[at] = 1;
    let made = straight(&shape);
    let mut into = Walk {
        shape: rows.shape.clone(),
        steps: made.steps,
    };
    let into_step = into.steps[at];
    into.steps[at] = 0;
    let (size, bytes) = (x.dtype().size() as usize, x.to_bytes()?);
    let total: usize = shape.iter().product();
    let (mut best, mut positions) = (vec![0_u8; total * size], vec![0_i64; total]);
    for (row, to) in rows.offsets().zip(into.offsets()) {
        let mut order: Vec<usize> = (0..length).collect();
        order.sort_by(|a, b| {
            let order = numbers.order(row + a * step, row + b * step);
            if descending { order.reverse() } else { order }
        });
        for (rank, from) in order.into_iter().take(count).enumerate() {
            let (to, from_at) = (to + rank * into_step, row + from * step);
            positions[to] = from as i64;
            best[to * size..][..size].copy_from_slice(&bytes[from_at * size..][..size]);
        }
    }
    Ok(vec![
        Tensor::from_bytes(x.dtype(), &shape, &best)?.into(),
        Tensor::from_slice(&shape, &positions)?.into(),
    ])
}

/// `repeat_interleave(repeats, output_size)`: each position as often as its number says.
fn repeated(arguments: &[Value]) -> Results {
    let repeats = tensor(arguments, 0)?.to_ints()?;
    let counts = repeats.iter().map(|count| usize::try_from(*count).ok());
    let counts = counts.collect::<Option<Vec<usize>>>();
    let counts = counts.ok_or_else(|| bad(0, "holds a negative number"))?;
    let total = counts
        .iter()
        .try_fold(0_usize, |all, n| all.checked_add(*n));
    if !total.is_some_and(|total| is_affordable(&[total])) {
        return Err(bad(0, "asks for too many elements"));
    }
    let counts = (0_i64..).zip(counts);
    let positions = counts.flat_map(|(at, count)| std::iter::repeat_n(at, count));
    let positions: Vec<i64> = positions.collect();
    Ok(vec![
        Tensor::from_slice(&[positions.len()], &positions)?.into(),
    ])
}

/// An integer argument, or this one if there is none.
fn integer_or(
    arguments: &[Value],
    position: usize,
    absent: i64,
) -> std::result::Result<i64, KernelError> {
    match arguments.get(position) {
        None | Some(Value::None) => Ok(absent),
        Some(_) => integer(arguments, position),
    }
}

fn topk(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let count = usize::try_from(integer(arguments, 1)?).map_err(|_| bad(1, "is negative"))?;
    let smallest = matches!(arguments.get(3), Some(Value::Bool(false)));
    ranked(x, integer_or(arguments, 2, -1)?, Some(count), !smallest)
}

fn sort(arguments: &[Value]) -> Results {
    let descending = matches!(arguments.get(2), Some(Value::Bool(true)));
    ranked(
        tensor(arguments, 0)?,
        integer_or(arguments, 1, -1)?,
        None,
        descending,
    )
}

/// `argmax(self, dim, keepdim)`: without `dim` among all elements in a row.
fn best(arguments: &[Value], largest: bool) -> Results {
    let x = tensor(arguments, 0)?;
    let whole = matches!(arguments.get(1), None | Some(Value::None));
    let found = |arguments: &[Value]| {
        let found = if largest {
            super::portable::largest(arguments)
        } else {
            super::portable::smallest(arguments)
        };
        found.map(|mut found| found.split_off(found.len().min(1)))
    };
    if whole || x.shape().is_empty() {
        let row = Tensor::from_bytes(x.dtype(), &[x.len()], &x.to_bytes()?)?;
        let keeps = matches!(arguments.get(2), Some(Value::Bool(true)));
        let found = found(&[row.into(), Value::Int(0), Value::Bool(false)])?;
        let shape = vec![1; if keeps { x.shape().len() } else { 0 }];
        let place = found.first().and_then(Value::as_int).unwrap_or_default();
        return Ok(vec![Tensor::from_slice(&shape, &[place])?.into()]);
    }
    found(arguments)
}

/// `index(self, indices)`: as with several arrays of integers, or of truth values, in brackets.
fn index(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let (places, shape) = places(x, arguments)?;
    let (size, bytes) = (
        usize::try_from(x.dtype().size()).unwrap_or(1),
        x.to_bytes()?,
    );
    let mut moved = Vec::with_capacity(places.len() * size);
    for place in places {
        moved.extend_from_slice(&bytes[place * size..][..size]);
    }
    Ok(vec![Tensor::from_bytes(x.dtype(), &shape, &moved)?.into()])
}

/// The elements of `x` that a list of indices, the second argument, stands for, and the shape that they have. The common shape of the indices stands where the
/// first of them stands, or in front if other axes lie between them. Truth values stand for the positions of those that are true.
fn places(
    x: &Tensor,
    arguments: &[Value],
) -> std::result::Result<(Vec<usize>, Vec<usize>), KernelError> {
    let Some(Value::List(indices)) = arguments.get(1) else {
        return Err(bad(1, "is not a list"));
    };
    let Walk { shape, steps } = straight(&x.shape());
    let mut chosen = Vec::new();
    let mut at = 0;
    for one in indices {
        match one {
            Value::Tensor(mask) if mask.dtype() == ScalarType::Bool => {
                let own = mask.shape();
                if shape.get(at..at + own.len()) != Some(&own[..]) {
                    return Err(bad(
                        1,
                        format!("holds a mask of {own:?} for axes of {shape:?}"),
                    ));
                }
                let found = truths(mask)?.into_iter().enumerate().filter(|(_, is)| *is);
                let found: Vec<usize> = found.map(|(place, _)| place).collect();
                let walk = straight(&own);
                for (axis, (length, step)) in own.iter().zip(&walk.steps).enumerate() {
                    let numbers = found.iter().map(|place| (place / step % length) as i64);
                    let numbers = numbers.collect::<Vec<i64>>();
                    chosen.push((at + axis, vec![numbers.len()], numbers));
                }
                if own.is_empty() {
                    return Err(bad(1, "holds a truth value without axes"));
                }
                at += own.len();
            }
            Value::Tensor(one) if at < shape.len() => {
                chosen.push((at, one.shape(), one.to_ints()?));
                at += 1;
            }
            Value::None => at += 1,
            _ => return Err(bad(1, format!("holds something else than indices at {at}"))),
        }
    }
    let mut common = Vec::new();
    for (_, own, _) in &chosen {
        common = broadcast_shape(&common, own)
            .ok_or_else(|| bad(1, "holds shapes that do not broadcast"))?;
    }
    // Where each place of the common shape is in `x`, the other axes at 0.
    let mut offsets = vec![0_usize; common.iter().product()];
    for (at, own, numbers) in &chosen {
        let walk = Walk::broadcast(own, &common);
        for (offset, number) in offsets.iter_mut().zip(walk.offsets()) {
            *offset += axis(1, numbers[number], shape[*at])? * steps[*at];
        }
    }
    let is_chosen = |at: &usize| chosen.iter().any(|(axis, ..)| axis == at);
    let first = chosen.first().map_or(0, |(at, ..)| *at);
    let mut in_order = chosen.iter().zip(first..);
    let together = in_order.all(|((at, ..), next)| *at == next);
    let before = if together { first } else { 0 };
    let others: Vec<usize> = (0..shape.len()).filter(|at| !is_chosen(at)).collect();
    let part = |axes: &[usize]| Walk {
        shape: axes.iter().map(|at| shape[*at]).collect(),
        steps: axes.iter().map(|at| steps[*at]).collect(),
    };
    let (outer, inner) = (part(&others[..before]), part(&others[before..]));
    let result = [&outer.shape[..], &common, &inner.shape].concat();
    if !is_affordable(&result) {
        return Err(bad(1, format!("asks for {result:?}, too many elements")));
    }
    let mut all = Vec::with_capacity(result.iter().product());
    for from in outer.offsets() {
        for offset in &offsets {
            all.extend(inner.offsets().map(|to| from + offset + to));
        }
    }
    Ok((all, result))
}
