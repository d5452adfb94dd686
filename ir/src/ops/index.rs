//! Reading and writing by index.

use super::create::{fill, spread};
use super::movement::{check_args, check_axes, check_range, safe_strides};
use super::table::{Add, Cast, Full, IntTensor, Mul, Remainder, Reshape, Size, Transpose};
use super::util::{broadcast, broadcast_flat, check_axis, fail, for_each_index, tensor};
use super::{EvalCx, OpImpl};
use crate::attr::Scalar;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Data, Tensor, numel};
use crate::types::{Shape, TensorType, Type};

pub use super::table::{Gather, IndexCopy, ScatterAdd, SliceUpdate, Take, TakeAlong};

/// The n-th argument as a tensor of indices.
pub(super) fn check_indices<'a>(args: &[&'a Type], n: usize) -> Result<&'a TensorType, OpError> {
    let t = tensor(args, n)?;
    if !t.dtype.is_int() {
        return fail(format!("argument {n} is {t}, not integers"));
    }
    Ok(t)
}

/// The indices as positions of an axis of `size` elements: negative ones count from the end.
pub(super) fn positions(indices: &Tensor, size: usize) -> Result<Vec<usize>, OpError> {
    let wrap = |i: i64| {
        let at = if indices.dtype() == DType::U64 {
            usize::try_from(i as u64).ok()
        } else {
            let end = if i < 0 {
                i64::try_from(size).ok()
            } else {
                Some(0)
            };
            end.and_then(|end| i.checked_add(end))
                .and_then(|i| usize::try_from(i).ok())
        };
        match at.filter(|at| *at < size) {
            Some(at) => Ok(at),
            None if indices.dtype() == DType::U64 => {
                fail(format!("index {} of an axis of size {size}", i as u64))
            }
            None => fail(format!("index {i} of an axis of size {size}")),
        }
    };
    indices.to_i64().into_iter().map(wrap).collect()
}

/// `x` with the elements of `source` at the flat indices that are not `None`.
fn overlay(x: &Tensor, source: &Tensor, from: &[Option<usize>]) -> Result<Vec<Tensor>, OpError> {
    let at = |i: usize| match from.get(i).copied().flatten() {
        Some(at) => source.get(at),
        None => x.get(i),
    };
    Ok(vec![Tensor::from_fn(x.dtype(), x.shape().to_vec(), at)?])
}

/// Replaces an axis of a shape by other axes.
fn replace_axis<T: Clone>(shape: &[T], axis: usize, by: &[T]) -> Vec<T> {
    let mut out = shape.to_vec();
    out.splice(axis..=axis, by.iter().cloned());
    out
}

impl OpImpl for Take {
    /// An integer serves as a 0-d tensor of indices.
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axis(self.axis, x.rank())?;
        let indices: &[Dim] = match args.get(1) {
            Some(Type::Int(_)) => &[],
            _ => &check_indices(args, 1)?.shape,
        };
        Ok(Type::tensor(
            x.dtype,
            replace_axis(&x.shape, self.axis, indices),
        ))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, indices] = args else {
            return fail("takes two tensors");
        };
        check_axis(self.axis, x.shape().len())?;
        let at = positions(indices, x.shape()[self.axis])?;
        let out = cx.out_shape()?;
        let strides = safe_strides(x.shape());
        // Axes before, of the indices, after: seen as three.
        let rank = if matches!(cx.args[1], Type::Int(_)) {
            0
        } else {
            indices.shape().len()
        };
        let mut picks = Vec::with_capacity(numel(&out)?);
        for_each_index(&out, |_, index| {
            let (before, rest) = index.split_at(self.axis);
            let (middle, after) = rest.split_at(rank);
            let chosen = at[if rank == 0 {
                0
            } else {
                broadcast_flat(indices.shape(), middle)
            }];
            let full = before.iter().chain([&chosen]).chain(after);
            picks.push(full.zip(&strides).map(|(i, s)| i * s).sum::<usize>());
        });
        Ok(vec![x.pick(out, picks.into_iter())?])
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![take(self.axis, Operand::Out(0))]))
    }
}

fn take(axis: usize, out: Operand) -> Inst {
    Inst::new("Take")
        .tensor("x", Operand::Arg(0))
        .tensor("out", out)
        .with("index", Field::Value(Operand::Arg(1)))
        .int("axis", axis as i64)
}

/// Whether two sizes are equal or one of them is 1.
fn one_or(size: &Dim, of: &Dim) -> bool {
    size == of || size.is(1)
}

impl OpImpl for TakeAlong {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, indices) = (tensor(args, 0)?, check_indices(args, 1)?);
        check_axis(self.axis, x.rank())?;
        if indices.rank() != x.rank() {
            return fail(format!("{x} and indices {indices} differ in rank"));
        }
        // On the axis itself the indices' size holds whatever x's is.
        let mut like = x.shape.clone();
        like[self.axis] = indices.shape[self.axis].clone();
        Ok(Type::tensor(x.dtype, broadcast(&like, &indices.shape)?))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, indices] = args else {
            return fail("takes two tensors");
        };
        check_axis(self.axis, x.shape().len())?;
        let at = positions(indices, x.shape()[self.axis])?;
        let out = cx.out_shape()?;
        let strides = safe_strides(x.shape());
        let mut picks = Vec::with_capacity(numel(&out)?);
        for_each_index(&out, |_, index| {
            let chosen = at[broadcast_flat(indices.shape(), index)];
            let flat = index
                .iter()
                .enumerate()
                .map(|(axis, &i)| match x.shape()[axis] {
                    _ if axis == self.axis => chosen * strides[axis],
                    1 => 0,
                    _ => i * strides[axis],
                });
            picks.push(flat.sum::<usize>());
        });
        Ok(vec![x.pick(out, picks.into_iter())?])
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![
            Inst::new("TakeAlongAxis")
                .tensor("x", Operand::Arg(0))
                .tensor("indices", Operand::Arg(1))
                .out()
                .int("axis", self.axis as i64),
        ]))
    }
}

impl Gather {
    /// The shape that the indices broadcast to.
    fn index_shape(&self, args: &[&Type]) -> Result<Shape, OpError> {
        (1..args.len()).try_fold(vec![], |shape, n| {
            broadcast(&shape, &check_indices(args, n)?.shape)
        })
    }
}

impl OpImpl for Gather {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axes(&self.axes, x.rank())?;
        if self.axes.is_empty() || self.axes.len() + 1 != args.len() {
            return fail(format!(
                "{} tensors of indices for {} axes",
                args.len() - 1,
                self.axes.len()
            ));
        }
        let mut shape = self.index_shape(args)?;
        let kept = (0..x.rank()).filter(|axis| !self.axes.contains(axis));
        shape.extend(kept.map(|axis| x.shape[axis].clone()));
        Ok(Type::tensor(x.dtype, shape))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let Some((x, indices)) = args.split_first() else {
            return fail("takes a tensor and indices");
        };
        let rank = x.shape().len();
        check_axes(&self.axes, rank)?;
        let at = indices
            .iter()
            .zip(&self.axes)
            .map(|(t, &axis)| positions(t, x.shape()[axis]))
            .collect::<Result<Vec<_>, _>>()?;
        let out = cx.out_shape()?;
        let kept: Vec<usize> = (0..rank).filter(|axis| !self.axes.contains(axis)).collect();
        let Some(lead) = out.len().checked_sub(kept.len()) else {
            return fail("the result has too few axes");
        };
        let strides = safe_strides(x.shape());
        let mut picks = Vec::with_capacity(numel(&out)?);
        for_each_index(&out, |_, index| {
            let (front, back) = index.split_at(lead);
            let mut flat = 0;
            for ((&axis, at), t) in self.axes.iter().zip(&at).zip(indices) {
                flat += at[broadcast_flat(t.shape(), front)] * strides[axis];
            }
            flat += kept
                .iter()
                .zip(back)
                .map(|(&axis, i)| i * strides[axis])
                .sum::<usize>();
            picks.push(flat);
        });
        Ok(vec![x.pick(out, picks.into_iter())?])
    }

    /// The target gathers over several axes only where the others have a fixed size. Else the axes become one, and their indices positions in it.
    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let Some((&x, indices)) = args.split_first() else {
            return fail("takes a tensor and indices");
        };
        let shape = graph.tensor_ty(x)?.shape.clone();
        check_axes(&self.axes, shape.len())?;
        let kept = (0..shape.len()).filter(|axis| !self.axes.contains(axis));
        // Axes that follow each other stay where they are.
        let first = match self.axes.as_slice() {
            [first, rest @ ..] if (first + 1..).zip(rest).all(|(n, axis)| n == *axis) => *first,
            _ => 0,
        };
        let mut perm: Vec<usize> = kept.collect();
        perm.splice(first..first, self.axes.iter().copied());
        let mut merged: Vec<Dim> = perm.iter().map(|axis| shape[*axis].clone()).collect();
        let sizes: Vec<Dim> = merged.drain(first..first + self.axes.len()).collect();
        let product = sizes.iter().fold(Dim::from(1i64), |n, size| &n * size);
        merged.insert(first, product);
        let mut place = None;
        for (index, size) in indices.iter().zip(&sizes) {
            place = Some(position(graph, place, *index, size)?);
        }
        let Some(place) = place else {
            return fail("gathers over no axes");
        };
        let none = Loc::default();
        let lead = graph.tensor_ty(place)?.rank();
        let x = match perm.is_sorted() {
            true => x,
            false => graph.add(Transpose { perm }, &[x], &none)?,
        };
        let rank = merged.len();
        let x = graph.add(Reshape { shape: merged }, &[x], &none)?;
        let taken = graph.add(Take { axis: first }, &[x, place], &none)?;
        let front = (first..first + lead).chain(0..first);
        let perm: Vec<usize> = front.chain(first + lead..lead + rank - 1).collect();
        match perm.is_sorted() {
            true => Ok(Some(taken)),
            false => graph.add(Transpose { perm }, &[taken], &none).map(Some),
        }
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let x = tensor(cx.args, 0)?;
        let lead = self.index_shape(cx.args)?.len();
        if let [axis] = self.axes[..] {
            return Ok(Lowering::Insts(self.as_take(axis, lead, x.rank())));
        }
        let mut sizes = vec![];
        for (axis, size) in x.shape.iter().enumerate() {
            match size.as_const() {
                _ if self.axes.contains(&axis) => sizes.push(1),
                Some(n) => sizes.push(n),
                None => return Ok(Lowering::Decompose),
            }
        }
        if sizes.contains(&0) {
            // Nothing to read: the target refuses slices of size 0.
            return match cx.out() {
                Some(out) => Ok(Lowering::Insts(fill(Scalar::Int(0), out, spread(out, cx))?)),
                None => fail("the result is not a tensor"),
            };
        }
        let literal =
            |axes: &mut dyn Iterator<Item = usize>| Field::Ints(axes.map(|a| a as i64).collect());
        // The target keeps the gathered axes, of size 1, behind the axes of the indices.
        Ok(Lowering::Insts(vec![
            Inst::new("Gather")
                .tensor("x", Operand::Arg(0))
                .with(
                    "indices",
                    Field::Tensors((1..cx.args.len()).map(Operand::Arg).collect()),
                )
                .tensor("out", Operand::Temp(0))
                .with("axes", literal(&mut self.axes.iter().copied()))
                .with("slice_sizes", Field::Ints(sizes)),
            Inst::new("Squeeze")
                .tensor("x", Operand::Temp(0))
                .out()
                .with("dims", literal(&mut self.axes.iter().map(|a| a + lead))),
        ]))
    }
}

/// The row-major position of `index` in an axis of `size` behind `before`. The first index may be negative, as positions then are; the others count from the start.
fn position(
    graph: &mut Graph,
    before: Option<Value>,
    index: Value,
    size: &Dim,
) -> Result<Value, OpError> {
    let none = Loc::default();
    let dtype = DType::I64;
    let index = match graph.tensor_ty(index)?.dtype {
        DType::I64 => index,
        _ => graph.add(Cast { dtype }, &[index], &none)?,
    };
    let Some(before) = before else {
        return Ok(index);
    };
    let size = match size.as_const() {
        Some(n) => {
            let (value, ty) = (Scalar::Int(n), TensorType::new(dtype, vec![]));
            graph.add(Full { value, ty }, &[], &none)?
        }
        None => {
            let value = size.clone();
            let size = graph.add(Size { value }, &[], &none)?;
            graph.add(IntTensor { dtype }, &[size], &none)?
        }
    };
    let index = graph.add(Remainder {}, &[index, size], &none)?;
    let rows = graph.add(Mul {}, &[before, size], &none)?;
    graph.add(Add {}, &[rows, index], &none)
}

impl Gather {
    /// A gather over one axis: `take`, whose index axes then move to the front.
    fn as_take(&self, axis: usize, lead: usize, rank: usize) -> Vec<Inst> {
        if axis == 0 || lead == 0 {
            return vec![take(axis, Operand::Out(0))];
        }
        let moved = (axis..axis + lead)
            .chain(0..axis)
            .chain(axis + lead..lead + rank.saturating_sub(1));
        vec![
            take(axis, Operand::Temp(0)),
            Inst::new("Transpose")
                .tensor("x", Operand::Temp(0))
                .out()
                .with("perm", Field::Ints(moved.map(|a| a as i64).collect())),
        ]
    }
}

impl OpImpl for IndexCopy {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, indices, source) = (tensor(args, 0)?, check_indices(args, 1)?, tensor(args, 2)?);
        check_axis(self.axis, x.rank())?;
        if indices.rank() != 1 {
            return fail(format!("the indices {indices} are not 1-d"));
        }
        let needed = TensorType::new(x.dtype, replace_axis(&x.shape, self.axis, &indices.shape));
        if *source != needed {
            return fail(format!("the source is {source}, not {needed}"));
        }
        Ok(Type::Tensor(x.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, indices, source] = args else {
            return fail("takes three tensors");
        };
        check_axis(self.axis, x.shape().len())?;
        let at = positions(indices, x.shape()[self.axis])?;
        let negative = || indices.to_i64().into_iter().find(|i| *i < 0);
        if let (false, true, Some(i)) = (self.wraps, indices.dtype() != DType::U64, negative()) {
            return fail(format!("index {i} of an axis that takes none below 0"));
        }
        overlay(x, source, &targets(x, source, self.axis, |i| at[i])?)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let indices = tensor(cx.args, 1)?;
        let mut insts = vec![];
        let mut from = Operand::Arg(1);
        if indices.dtype != DType::I64 {
            from = Operand::Temp(0);
            insts.push(
                Inst::new("AsType")
                    .tensor("x", Operand::Arg(1))
                    .tensor("out", from)
                    .with("scalar_type", Field::DType(DType::I64)),
            );
        }
        insts.push(
            Inst::new("IndexCopy")
                .tensor("dst", Operand::Arg(0))
                .tensor("update", Operand::Arg(2))
                .tensor("indices", from)
                .out()
                .int("axis", self.axis as i64),
        );
        Ok(Lowering::Insts(insts))
    }

    fn updates(&self) -> Option<usize> {
        Some(0)
    }
}

/// For each element of x the element of `source` that lands on it, the last one where several do. `position` maps positions of the axis in `source` to those in x.
fn targets(
    x: &Tensor,
    source: &Tensor,
    axis: usize,
    position: impl Fn(usize) -> usize,
) -> Result<Vec<Option<usize>>, OpError> {
    let mut from = vec![None; x.len()];
    let strides = safe_strides(x.shape());
    numel(source.shape())?;
    for_each_index(source.shape(), |flat, index| {
        let at = index.iter().enumerate().map(|(k, &i)| {
            let i = if k == axis { position(i) } else { i };
            i * strides[k]
        });
        if let Some(slot) = from.get_mut(at.sum::<usize>()) {
            *slot = Some(flat);
        }
    });
    Ok(from)
}

impl OpImpl for SliceUpdate {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, source) = (tensor(args, 0)?, tensor(args, 1)?);
        check_axis(self.axis, x.rank())?;
        if self.step < 1 {
            return fail(format!("step {} is not positive", self.step));
        }
        let fits = source.dtype == x.dtype
            && source.rank() == x.rank()
            && (0..x.rank()).all(|i| i == self.axis || source.shape[i] == x.shape[i]);
        if !fits {
            return fail(format!(
                "the source {source} doesn't fit {x} but for axis {}",
                self.axis
            ));
        }
        let n = &source.shape[self.axis];
        let last = &(n - &Dim::from(1i64)) * &Dim::from(self.step);
        let stop = match n.as_const() {
            Some(0) => self.start.clone(),
            _ => &(&self.start + &last) + &Dim::from(1i64),
        };
        check_range(&self.start, &stop, &x.shape[self.axis])?;
        Ok(Type::Tensor(x.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, source] = args else {
            return fail("takes two tensors");
        };
        check_axis(self.axis, x.shape().len())?;
        let (size, n) = (x.shape()[self.axis], source.shape()[self.axis]);
        let start = match cx.dim(&self.start)? {
            before if before < 0 => i64::try_from(size)
                .ok()
                .and_then(|size| before.checked_add(size)),
            start => Some(start),
        };
        let Some(start) = start.and_then(|start| usize::try_from(start).ok()) else {
            return fail(format!("start {} of an axis of size {size}", self.start));
        };
        let step = usize::try_from(self.step).unwrap_or(1).max(1);
        let past = match n.checked_sub(1) {
            Some(last) => last
                .checked_mul(step)
                .and_then(|k| k.checked_add(start))
                .and_then(|k| k.checked_add(1)),
            None => Some(start),
        };
        if past.is_none_or(|past| past > size) {
            return fail(format!(
                "{n} elements from {start} by {step} in axis {} of size {size}",
                self.axis
            ));
        }
        overlay(
            x,
            source,
            &targets(x, source, self.axis, |i| start + i * step)?,
        )
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let source = tensor(cx.args, 1)?;
        let Some(n) = source.shape.get(self.axis) else {
            return fail("the source has too few axes");
        };
        // May pass the axis by less than a step: the target clamps it.
        let stop = &self.start + &(n * &Dim::from(self.step));
        Ok(Lowering::Insts(vec![
            Inst::new("SliceUpdate")
                .tensor("dst", Operand::Arg(0))
                .tensor("update", Operand::Arg(1))
                .out()
                .int("axis", self.axis as i64)
                .with("start", Field::Dim(self.start.clone()))
                .with("stop", Field::Dim(stop))
                .int("step", self.step),
        ]))
    }

    fn updates(&self) -> Option<usize> {
        Some(0)
    }
}

impl OpImpl for ScatterAdd {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, indices, source) = (tensor(args, 0)?, check_indices(args, 1)?, tensor(args, 2)?);
        check_axis(self.axis, x.rank())?;
        if x.dtype == DType::Bool || source.dtype != x.dtype {
            return fail(format!("can't add {source} to {x}"));
        }
        let same_rank = indices.rank() == x.rank() && source.rank() == x.rank();
        let each = broadcast(&indices.shape, &source.shape)?;
        let fits =
            same_rank && (0..x.rank()).all(|i| i == self.axis || one_or(&each[i], &x.shape[i]));
        if !fits {
            return fail(format!(
                "indices {indices} and source {source} don't fit {x} but for axis {}",
                self.axis
            ));
        }
        Ok(Type::Tensor(x.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, indices, source] = args else {
            return fail("takes three tensors");
        };
        let rank = x.shape().len();
        check_axis(self.axis, rank)?;
        if indices.shape().len() != rank || source.shape().len() != rank {
            return fail("ranks differ");
        }
        let at = positions(indices, x.shape()[self.axis])?;
        // Every axis as x has it; the axis itself as indices and source have it together.
        let mut each = x.shape().to_vec();
        each[self.axis] = match (indices.shape()[self.axis], source.shape()[self.axis]) {
            (1, n) | (n, _) => n,
        };
        numel(&each)?;
        let strides = safe_strides(x.shape());
        let mut adds = vec![];
        for_each_index(&each, |_, index| {
            let chosen = at[broadcast_flat(indices.shape(), index)];
            let to = index.iter().enumerate().map(|(k, &i)| {
                if k == self.axis {
                    chosen * strides[k]
                } else {
                    i * strides[k]
                }
            });
            adds.push((to.sum::<usize>(), broadcast_flat(source.shape(), index)));
        });
        let shape = x.shape().to_vec();
        let out = match (x.data(), source.data()) {
            (Data::Float(x_data), Data::Float(source)) => {
                let mut sums = x_data.clone();
                for (to, from) in adds {
                    sums[to] += source[from];
                }
                Tensor::floats(x.dtype(), shape, sums)?
            }
            _ => {
                let (mut sums, source) = (x.to_i64(), source.to_i64());
                for (to, from) in adds {
                    sums[to] = sums[to].wrapping_add(source[from]);
                }
                Tensor::ints(x.dtype(), shape, sums)?
            }
        };
        Ok(vec![out])
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![
            Inst::new("ScatterAdd")
                .tensor("x", Operand::Arg(0))
                .tensor("indices", Operand::Arg(1))
                .tensor("updates", Operand::Arg(2))
                .out()
                .int("axis", self.axis as i64),
        ]))
    }

    fn updates(&self) -> Option<usize> {
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Symbols;
    use crate::ops::testing::{both_ways, run};

    fn ints(dtype: DType, shape: &[usize], data: &[i64]) -> Tensor {
        Tensor::ints(dtype, shape.to_vec(), data.to_vec()).unwrap()
    }

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::from_fn(DType::F32, shape.to_vec(), |i| Scalar::Int(i as i64)).unwrap()
    }

    #[test]
    fn take_wraps_negative_indices_and_names_bad_ones() {
        let x = iota(&[2, 3]);
        let at = ints(DType::I32, &[2, 1], &[-1, 0]);
        let out = run(Take { axis: 1 }, &[&x, &at]).unwrap();
        assert_eq!(
            (out.shape(), out.to_f64()),
            (&[2, 2, 1][..], vec![2.0, 0.0, 5.0, 3.0])
        );
        let bad = run(Take { axis: 1 }, &[&x, &ints(DType::I64, &[1], &[-4])]).unwrap_err();
        assert!(
            bad.reason.contains("index -4 of an axis of size 3"),
            "{bad}"
        );
        assert!(run(Take { axis: 1 }, &[&x, &ints(DType::I64, &[], &[i64::MIN])]).is_err());
        assert!(run(Take { axis: 1 }, &[&x, &ints(DType::U64, &[], &[-1])]).is_err());
        assert!(
            run(
                Take { axis: 0 },
                &[&iota(&[0]), &ints(DType::I64, &[1], &[0])]
            )
            .is_err()
        );
        let none = ints(DType::I64, &[0], &[]);
        assert_eq!(
            run(Take { axis: 0 }, &[&iota(&[0, 2]), &none])
                .unwrap()
                .shape(),
            [0, 2]
        );
    }

    #[test]
    fn take_along_broadcasts_the_other_axes() {
        let x = iota(&[1, 3]);
        let at = ints(DType::I64, &[2, 1], &[2, -3]);
        assert_eq!(
            run(TakeAlong { axis: 1 }, &[&x, &at]).unwrap().to_f64(),
            [2.0, 0.0]
        );
    }

    #[test]
    fn gather_puts_the_indices_first() {
        let x = iota(&[2, 3, 4]);
        let (a, b) = (
            ints(DType::I64, &[2, 1], &[0, 1]),
            ints(DType::I64, &[2], &[3, -4]),
        );
        let out = run(Gather { axes: vec![0, 2] }, &[&x, &a, &b]).unwrap();
        assert_eq!(out.shape(), [2, 2, 3]);
        assert_eq!(
            out.to_f64(),
            [3, 7, 11, 0, 4, 8, 15, 19, 23, 12, 16, 20].map(f64::from)
        );
        assert!(run(Gather { axes: vec![0, 0] }, &[&x, &a, &b]).is_err());
        assert!(run(Gather { axes: vec![0] }, &[&x, &a, &b]).is_err());
    }

    #[test]
    fn gather_over_several_axes_is_a_take_over_one() {
        let x = iota(&[2, 3, 4, 5]);
        let a = ints(DType::I64, &[2, 1], &[0, -2]);
        let b = ints(DType::I32, &[3], &[1, -1, 0]);
        for axes in [[0, 1], [1, 2], [2, 3], [0, 2], [1, 3], [2, 0], [3, 1]] {
            let gather = Gather { axes: axes.into() };
            let (direct, plain) = both_ways(gather, &[&x, &a, &b]);
            assert_eq!(direct.shape(), plain.shape(), "{axes:?}");
            assert_eq!(direct.to_f64(), plain.to_f64(), "{axes:?}");
        }
        let c = ints(DType::I64, &[1], &[-1]);
        let (direct, plain) = both_ways(
            Gather {
                axes: vec![1, 2, 3],
            },
            &[&x, &a, &b, &c],
        );
        assert_eq!(direct.to_f64(), plain.to_f64());
    }

    #[test]
    fn gather_over_one_axis_is_take_and_transpose() {
        let symbolic = Type::tensor(
            DType::F32,
            vec![Dim::symbol("s0"), 5i64.into(), 7i64.into()],
        );
        let at = Type::tensor(DType::I64, vec![2i64.into(), 3i64.into()]);
        let lower = |op: Gather, args: &[&Type]| {
            let out = op.infer(args)?;
            op.lower(&LowerCx {
                args,
                out: &out,
                symbols: &Symbols::new(),
            })
        };
        let one = lower(Gather { axes: vec![1] }, &[&symbolic, &at]).unwrap();
        let Lowering::Insts(insts) = one else {
            panic!("{one:?}")
        };
        assert_eq!(insts[1].fields[2].1, Field::Ints(vec![1, 2, 0, 3]));
        let two = lower(Gather { axes: vec![1, 2] }, &[&symbolic, &at, &at]).unwrap();
        assert_eq!(two, Lowering::Decompose);
        let Ok(Lowering::Insts(insts)) = lower(Gather { axes: vec![2, 0] }, &[&symbolic, &at, &at])
        else {
            panic!("a symbolic gathered axis is fine")
        };
        assert_eq!(insts[0].fields[4].1, Field::Ints(vec![1, 5, 1]));
        assert_eq!(insts[1].fields[2].1, Field::Ints(vec![4, 2]));
    }

    #[test]
    fn updates_write_where_they_say() {
        let (x, source) = (iota(&[1, 4]), iota(&[1, 2]));
        let copy = IndexCopy {
            axis: 1,
            wraps: true,
        };
        let at = |v: &[i64]| ints(DType::I64, &[2], v);
        assert_eq!(
            run(copy.clone(), &[&x, &at(&[-1, 0]), &source])
                .unwrap()
                .to_f64(),
            [1.0, 1.0, 2.0, 0.0]
        );
        assert_eq!(
            run(copy.clone(), &[&x, &at(&[2, 2]), &source])
                .unwrap()
                .to_f64(),
            [0.0, 1.0, 1.0, 3.0]
        );
        assert!(run(copy, &[&x, &at(&[0, 4]), &source]).is_err());
        let update = |start: i64, step| SliceUpdate {
            axis: 1,
            start: start.into(),
            step,
        };
        assert_eq!(
            run(update(1, 2), &[&x, &source]).unwrap().to_f64(),
            [0.0, 0.0, 2.0, 1.0]
        );
        assert!(run(update(3, 1), &[&x, &source]).is_err());
        assert!(run(update(2, 2), &[&x, &source]).is_err());
        assert!(run(update(-1, 1), &[&x, &source]).is_err());
        assert!(run(update(0, i64::MAX), &[&x, &source]).is_err());
        assert_eq!(run(update(4, 3), &[&x, &iota(&[1, 0])]).unwrap(), x);
    }

    #[test]
    fn repeated_indices_add_up() {
        let (x, at) = (iota(&[1, 3]), ints(DType::I64, &[1, 4], &[0, 0, -1, 0]));
        let ones = Tensor::from_fn(DType::F32, vec![1, 4], |_| Scalar::Int(1)).unwrap();
        assert_eq!(
            run(ScatterAdd { axis: 1 }, &[&x, &at, &ones])
                .unwrap()
                .to_f64(),
            [3.0, 1.0, 3.0]
        );
        let one = Tensor::from_fn(DType::F32, vec![1, 1], |_| Scalar::Int(1)).unwrap();
        assert_eq!(
            run(ScatterAdd { axis: 1 }, &[&x, &at, &one])
                .unwrap()
                .to_f64(),
            [3.0, 1.0, 3.0]
        );
        assert!(run(ScatterAdd { axis: 0 }, &[&x, &at, &ones]).is_err());
    }
}
