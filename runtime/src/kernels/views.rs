//! Operators that only move elements. PyTorch's exporter writes views so (`permute_copy` for `permute`), and they stand on the host where they are between
//! others that do.

use fuseline_program::ScalarType;

use super::{KernelError, Kernels, Walk, bad, broadcast_shape, is_affordable, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.register("aten::view_copy.out", 2, 1, view);
    kernels.register("aten::permute_copy.out", 2, 1, permute);
    kernels.register("aten::transpose_copy.int_out", 3, 1, transpose);
    kernels.register("aten::unsqueeze_copy.out", 2, 1, unsqueeze);
    kernels.register("aten::squeeze_copy.dim_out", 2, 1, squeeze);
    kernels.register("aten::squeeze_copy.dims_out", 2, 1, squeeze);
    kernels.register("aten::expand_copy.out", 3, 1, expand);
    kernels.register("aten::select_copy.int_out", 3, 1, select);
    kernels.register("aten::unfold_copy.out", 4, 1, unfold);
    kernels.register("aten::index.Tensor_out", 2, 1, index);
    kernels.register("aten::view_as_real_copy.out", 1, 1, as_real);
    kernels.register("aten::view_as_complex_copy.out", 1, 1, as_complex);
}

type Results = Result<Vec<Value>, KernelError>;

/// The integers of an argument: a list, or a single one.
fn integers(arguments: &[Value], position: usize) -> Result<Vec<i64>, KernelError> {
    let numbers = match arguments.get(position) {
        Some(Value::List(items)) => items.iter().map(Value::as_int).collect(),
        Some(one) => one.as_int().map(|number| vec![number]),
        None => None,
    };
    numbers.ok_or_else(|| bad(position, "is not a list of integers"))
}

fn integer(arguments: &[Value], position: usize) -> Result<i64, KernelError> {
    match integers(arguments, position)?[..] {
        [number] => Ok(number),
        _ => Err(bad(position, "is not an integer")),
    }
}

/// An axis of so many, counted from the front.
fn axis(position: usize, axis: i64, rank: usize) -> Result<usize, KernelError> {
    let counted = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    let found = usize::try_from(counted).ok().filter(|at| *at < rank);
    found.ok_or_else(|| bad(position, format!("is {axis}, no axis of {rank}")))
}

/// The elements of `x` that a walk from `first` passes.
fn walked(x: &Tensor, first: usize, walk: &Walk) -> Results {
    if !is_affordable(&walk.shape) {
        return Err(bad(
            0,
            format!("would become {:?}, too many elements", walk.shape),
        ));
    }
    let size = usize::try_from(x.dtype().size()).unwrap_or(1);
    let bytes = x.to_bytes()?;
    let element = |at: usize| bytes.get((first + at) * size..(first + at + 1) * size);
    let mut moved = Vec::new();
    for at in walk.offsets() {
        let element = element(at).ok_or_else(|| bad(0, "has fewer elements than are asked for"))?;
        moved.extend_from_slice(element);
    }
    Ok(vec![
        Tensor::from_bytes(x.dtype(), &walk.shape, &moved)?.into(),
    ])
}

/// The same elements in another shape.
fn shaped(x: &Tensor, shape: &[usize]) -> Results {
    Ok(vec![
        Tensor::from_bytes(x.dtype(), shape, &x.to_bytes()?)?.into(),
    ])
}

/// `view_copy(self, size)`: one length may be -1.
fn view(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let sizes = integers(arguments, 1)?;
    let have: usize = x.shape().iter().product();
    let known = sizes.iter().filter(|n| **n != -1);
    let mut known = known.map(|n| usize::try_from(*n).ok());
    let known = known.try_fold(1_usize, |all, n| all.checked_mul(n?));
    let known = known.ok_or_else(|| bad(1, format!("is no shape: {sizes:?}")))?;
    let open = have.checked_div(known).unwrap_or(0);
    let length = |n: &i64| usize::try_from(*n).unwrap_or(open);
    shaped(x, &sizes.iter().map(length).collect::<Vec<usize>>())
}

/// `permute_copy(self, dims)`.
fn permute(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let dims = integers(arguments, 1)?;
    let rank = x.shape().len();
    let order = dims.iter().map(|dim| axis(1, *dim, rank));
    let order = order.collect::<Result<Vec<usize>, _>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(bad(1, format!("is no order of {rank} axes: {dims:?}")));
    }
    reordered(x, &order)
}

/// `transpose_copy(self, dim0, dim1)`.
fn transpose(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let rank = x.shape().len();
    let (a, b) = (integer(arguments, 1)?, integer(arguments, 2)?);
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis(1, a, rank)?, axis(2, b, rank)?);
    reordered(x, &order)
}

fn reordered(x: &Tensor, order: &[usize]) -> Results {
    let straight = straight(&x.shape());
    let walk = Walk {
        shape: order.iter().map(|at| straight.shape[*at]).collect(),
        steps: order.iter().map(|at| straight.steps[*at]).collect(),
    };
    walked(x, 0, &walk)
}

/// The walk past all elements in order; unlike a broadcast one with the step of each axis, also of those of length 1.
fn straight(shape: &[usize]) -> Walk {
    let mut steps = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        steps[at - 1] = steps[at] * shape[at];
    }
    Walk {
        shape: shape.to_vec(),
        steps,
    }
}

/// `unsqueeze_copy(self, dim)`.
fn unsqueeze(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let mut shape = x.shape();
    shape.insert(axis(1, integer(arguments, 1)?, shape.len() + 1)?, 1);
    shaped(x, &shape)
}

/// `squeeze_copy(self, dim)`: axes of another length than 1 stay.
fn squeeze(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let shape = x.shape();
    let named = integers(arguments, 1)?;
    let named = named.iter().map(|dim| axis(1, *dim, shape.len()));
    let named = named.collect::<Result<Vec<usize>, _>>()?;
    let lengths = shape.iter().enumerate();
    let kept = lengths.filter(|(at, length)| **length != 1 || !named.contains(at));
    shaped(x, &kept.map(|(_, length)| *length).collect::<Vec<usize>>())
}

/// `expand_copy(self, size, implicit)`: -1 keeps a length.
fn expand(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let (own, sizes) = (x.shape(), integers(arguments, 1)?);
    let missing = sizes.len().checked_sub(own.len());
    let target = sizes.iter().enumerate().map(|(at, size)| match *size {
        -1 => own.get(at.checked_sub(missing?)?).copied(),
        size => usize::try_from(size).ok(),
    });
    let target = target.collect::<Option<Vec<usize>>>();
    let target = target.filter(|target| broadcast_shape(&own, target).as_ref() == Some(target));
    match target {
        Some(target) => walked(x, 0, &Walk::broadcast(&own, &target)),
        None => Err(bad(
            1,
            format!("is {sizes:?}, which {own:?} does not broadcast to"),
        )),
    }
}

/// `select_copy(self, dim, index)`.
fn select(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let Walk {
        mut shape,
        mut steps,
    } = straight(&x.shape());
    let at = axis(1, integer(arguments, 1)?, shape.len())?;
    let first = axis(2, integer(arguments, 2)?, shape[at])? * steps[at];
    shape.remove(at);
    steps.remove(at);
    walked(x, first, &Walk { shape, steps })
}

/// `unfold_copy(self, dimension, size, step)`: windows along an axis, each a new last axis.
fn unfold(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let Walk {
        mut shape,
        mut steps,
    } = straight(&x.shape());
    let at = axis(1, integer(arguments, 1)?, shape.len())?;
    let size = usize::try_from(integer(arguments, 2)?).ok();
    let size = size.filter(|size| *size <= shape[at]);
    let size = size.ok_or_else(|| bad(2, "is no length of a window"))?;
    let step = usize::try_from(integer(arguments, 3)?).ok();
    let step = step.filter(|step| *step > 0);
    let step = step.ok_or_else(|| bad(3, "is no step"))?;
    shape.push(size);
    steps.push(steps[at]);
    shape[at] = (shape[at] - size) / step + 1;
    steps[at] = steps[at].saturating_mul(step);
    walked(x, 0, &Walk { shape, steps })
}

/// `index(self, indices)`: as with several arrays of integers in brackets. Their common shape stands where the first of them stands, or in front if other axes
/// lie between them.
fn index(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let Some(Value::List(indices)) = arguments.get(1) else {
        return Err(bad(1, "is not a list"));
    };
    let Walk { shape, steps } = straight(&x.shape());
    let mut chosen = Vec::new();
    for (at, one) in indices.iter().enumerate() {
        match one {
            Value::Tensor(one) if at < shape.len() && one.dtype() != ScalarType::Bool => {
                chosen.push((at, one));
            }
            Value::None => {}
            _ => {
                return Err(bad(
                    1,
                    format!("holds something else than integers at {at}"),
                ));
            }
        }
    }
    let mut common = Vec::new();
    for (_, one) in &chosen {
        common = broadcast_shape(&common, &one.shape())
            .ok_or_else(|| bad(1, "holds shapes that do not broadcast"))?;
    }
    // Where each place of the common shape is in `x`, the other axes at 0.
    let mut places = vec![0_usize; common.iter().product()];
    for (at, one) in &chosen {
        let numbers = one.to_ints()?;
        let walk = Walk::broadcast(&one.shape(), &common);
        for (place, number) in places.iter_mut().zip(walk.offsets()) {
            *place += axis(1, numbers[number], shape[*at])? * steps[*at];
        }
    }
    let is_chosen = |at: &usize| chosen.iter().any(|(axis, _)| axis == at);
    let first = chosen.first().map_or(0, |(at, _)| *at);
    let together = chosen
        .iter()
        .zip(first..)
        .all(|((at, _), next)| *at == next);
    let before = if together { first } else { 0 };
    let others: Vec<usize> = (0..shape.len()).filter(|at| !is_chosen(at)).collect();
    let part = |axes: &[usize]| Walk {
        shape: axes.iter().map(|at| shape[*at]).collect(),
        steps: axes.iter().map(|at| steps[*at]).collect(),
    };
    let (outer, inner) = (part(&others[..before]), part(&others[before..]));
    let (size, bytes) = (
        usize::try_from(x.dtype().size()).unwrap_or(1),
        x.to_bytes()?,
    );
    let result = [&outer.shape[..], &common, &inner.shape].concat();
    if !is_affordable(&result) {
        return Err(bad(1, format!("asks for {result:?}, too many elements")));
    }
    let mut moved = Vec::new();
    for from in outer.offsets() {
        for place in &places {
            for to in inner.offsets() {
                let at = from + place + to;
                moved.extend_from_slice(&bytes[at * size..][..size]);
            }
        }
    }
    Ok(vec![Tensor::from_bytes(x.dtype(), &result, &moved)?.into()])
}

/// `view_as_real_copy(self)`: real and imaginary part in a new last axis.
fn as_real(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    if x.dtype() != ScalarType::C64 {
        return Err(bad(
            0,
            format!("has elements of type {}, not c64", x.dtype()),
        ));
    }
    let shape = [&x.shape()[..], &[2]].concat();
    Ok(vec![
        Tensor::from_bytes(ScalarType::F32, &shape, &x.to_bytes()?)?.into(),
    ])
}

/// `view_as_complex_copy(self)`: the last axis holds real and imaginary part.
fn as_complex(arguments: &[Value]) -> Results {
    let x = tensor(arguments, 0)?;
    let shape = x.shape();
    match shape.split_last() {
        Some((2, shape)) if x.dtype() == ScalarType::F32 => Ok(vec![
            Tensor::from_bytes(ScalarType::C64, shape, &x.to_bytes()?)?.into(),
        ]),
        _ => Err(bad(0, format!("is no pairs of f32: {x:?}"))),
    }
}
