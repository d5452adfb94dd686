//! Ops that move elements without arithmetic.

use super::create::{Full, check_sizes, exact_f32};
use super::util::{broadcast_flat, check_axis, fail, for_each_index, strides, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Tensor, numel};
use crate::types::{Shape, Type};

pub use super::table::{Broadcast, Cat, Flip, Pad, Reshape, Slice, Transpose};

/// Refuses arguments that don't have the dtypes and sizes that their types say under the symbols' values.
pub(super) fn check_args(cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<(), OpError> {
    if args.len() != cx.args.len() {
        return fail(format!(
            "{} arguments for {} types",
            args.len(),
            cx.args.len()
        ));
    }
    for (n, (ty, arg)) in cx.args.iter().zip(args).enumerate() {
        let fits = match ty {
            Type::Tensor(t) => {
                t.dtype == arg.dtype()
                    && t.rank() == arg.shape().len()
                    && t.shape
                        .iter()
                        .zip(arg.shape())
                        .all(|(d, &size)| d.eval(cx.symbols) == i64::try_from(size).ok())
            }
            Type::Int(_) => arg.len() == 1 && !arg.dtype().is_float(),
            Type::Tuple(_) => false,
        };
        if !fits {
            return fail(format!(
                "argument {n} is {}{:?}, not {ty}",
                arg.dtype(),
                arg.shape()
            ));
        }
    }
    Ok(())
}

/// The result's shape and the checked argument of an op on one tensor.
fn unary<'t>(cx: &EvalCx<'_>, args: &[&'t Tensor]) -> Result<(Vec<usize>, &'t Tensor), OpError> {
    check_args(cx, args)?;
    match args {
        [x] => Ok((cx.out_shape()?, x)),
        _ => fail("takes one tensor"),
    }
}

/// The tensor of shape `out` whose element at an index is x's element at the flat index `from(index)`.
fn gathered(
    x: &Tensor,
    out: Vec<usize>,
    mut from: impl FnMut(&[usize]) -> usize,
) -> Result<Vec<Tensor>, OpError> {
    let mut picks = Vec::with_capacity(numel(&out)?);
    for_each_index(&out, |_, index| picks.push(from(index)));
    Ok(vec![x.pick(out, picks.into_iter())?])
}

/// Row-major strides of a shape that has elements; zeros for one that has none, where nothing is read.
pub(super) fn safe_strides(shape: &[usize]) -> Vec<usize> {
    if shape.contains(&0) {
        return vec![0; shape.len()];
    }
    strides(shape)
}

/// An instruction with field `x` as argument 0 and the result as `out`.
fn unary_inst(node: &'static str) -> Inst {
    Inst::new(node).tensor("x", Operand::Arg(0)).out()
}

fn insts(inst: Inst) -> Result<Lowering, OpError> {
    Ok(Lowering::Insts(vec![inst]))
}

/// Refuses axes that repeat or pass the rank.
pub(super) fn check_axes(axes: &[usize], rank: usize) -> Result<(), OpError> {
    for (i, &axis) in axes.iter().enumerate() {
        check_axis(axis, rank)?;
        if axes[..i].contains(&axis) {
            return fail(format!("axis {axis} is there twice"));
        }
    }
    Ok(())
}

fn literal_axis(axis: usize) -> Field {
    Field::Int(axis as i64)
}

fn literal_axes(axes: &[usize]) -> Field {
    Field::Ints(axes.iter().map(|&a| a as i64).collect())
}

impl OpImpl for Reshape {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_sizes(&self.shape)?;
        let out = Type::tensor(x.dtype, self.shape.clone());
        let n = self.shape.iter().fold(Dim::from(1i64), |n, d| &n * d);
        if n != x.numel() {
            return fail(format!("{x} has {} elements, {out} has {n}", x.numel()));
        }
        Ok(out)
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (shape, x) = unary(cx, args)?;
        Ok(vec![x.with_shape(shape)?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let x = tensor(cx.args, 0)?;
        match unit_axes(&x.shape, &self.shape) {
            Some((removed, inserted)) if removed.is_empty() && inserted.is_empty() => {
                Ok(Lowering::Alias(0))
            }
            Some((removed, inserted)) if removed.is_empty() && inserted.len() == 1 => {
                insts(unary_inst("ExpandDims").with("axis", literal_axis(inserted[0])))
            }
            Some((removed, inserted)) if inserted.is_empty() => {
                insts(unary_inst("Squeeze").with("dims", literal_axes(&removed)))
            }
            _ => insts(unary_inst("Reshape").with("shape", Field::Dims(self.shape.clone()))),
        }
    }
}

/// Where two shapes differ by axes of size 1 alone: the axes of `from` that are not in `to`, and those of `to` that are not in `from`.
fn unit_axes(from: &[Dim], to: &[Dim]) -> Option<(Vec<usize>, Vec<usize>)> {
    let (mut removed, mut inserted) = (vec![], vec![]);
    let (mut i, mut j) = (0, 0);
    loop {
        match (from.get(i), to.get(j)) {
            (None, None) => return Some((removed, inserted)),
            (Some(a), Some(b)) if a == b => {
                i += 1;
                j += 1;
            }
            (Some(a), _) if a.is(1) => {
                removed.push(i);
                i += 1;
            }
            (_, Some(b)) if b.is(1) => {
                inserted.push(j);
                j += 1;
            }
            _ => return None,
        }
    }
}

impl OpImpl for Transpose {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axes(&self.perm, x.rank())?;
        if self.perm.len() != x.rank() {
            return fail(format!("{} axes for {x}", self.perm.len()));
        }
        let shape = self
            .perm
            .iter()
            .filter_map(|&p| x.shape.get(p).cloned())
            .collect();
        Ok(Type::tensor(x.dtype, shape))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (shape, x) = unary(cx, args)?;
        let strides = safe_strides(x.shape());
        gathered(x, shape, |index| {
            index
                .iter()
                .zip(&self.perm)
                .map(|(i, &p)| i * strides[p])
                .sum()
        })
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if self.perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(Lowering::Alias(0));
        }
        insts(unary_inst("Transpose").with("perm", literal_axes(&self.perm)))
    }
}

impl OpImpl for Broadcast {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_sizes(&self.shape)?;
        let out = Type::tensor(x.dtype, self.shape.clone());
        let fits = self.shape.len() >= x.rank() && {
            let same = &self.shape[self.shape.len() - x.rank()..];
            x.shape.iter().zip(same).all(|(a, b)| a == b || a.is(1))
        };
        if !fits {
            return fail(format!("{x} doesn't broadcast to {out}"));
        }
        Ok(out)
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (shape, x) = unary(cx, args)?;
        gathered(x, shape, |index| broadcast_flat(x.shape(), index))
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if tensor(cx.args, 0)?.shape == self.shape {
            return Ok(Lowering::Alias(0));
        }
        insts(unary_inst("BroadcastTo").with("shape", Field::Dims(self.shape.clone())))
    }
}

/// Refuses `start` below 0 or, where `stop` and the size are comparable, a range that leaves the axis.
pub(super) fn check_range(start: &Dim, stop: &Dim, size: &Dim) -> Result<(), OpError> {
    let known = |d: &Dim| d.as_const();
    if known(start).is_some_and(|n| n < 0)
        || known(&(stop - start)).is_some_and(|n| n < 0)
        || known(&(size - stop)).is_some_and(|n| n < 0)
    {
        return fail(format!("range {start}..{stop} of an axis of size {size}"));
    }
    Ok(())
}

impl OpImpl for Slice {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axis(self.axis, x.rank())?;
        if self.step < 1 {
            return fail(format!("step {} is not positive", self.step));
        }
        check_range(&self.start, &self.stop, &x.shape[self.axis])?;
        let step = Dim::from(self.step);
        let span = &self.stop - &self.start;
        let mut shape = x.shape.clone();
        shape[self.axis] = (&span + &Dim::from(self.step - 1)).floor_div(&step);
        Ok(Type::tensor(x.dtype, shape))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (shape, x) = unary(cx, args)?;
        check_axis(self.axis, x.shape().len())?;
        let (start, stop) = (cx.size(&self.start)?, cx.size(&self.stop)?);
        let size = x.shape()[self.axis];
        if start > stop || stop > size {
            return fail(format!(
                "range {start}..{stop} of axis {} of size {size}",
                self.axis
            ));
        }
        let step = usize::try_from(self.step).unwrap_or(1).max(1);
        let strides = safe_strides(x.shape());
        gathered(x, shape, |index| {
            let at = |(axis, &i): (usize, &usize)| {
                let i = if axis == self.axis {
                    start + i * step
                } else {
                    i
                };
                i * strides[axis]
            };
            index.iter().enumerate().map(at).sum()
        })
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let x = tensor(cx.args, 0)?;
        if self.step == 1 && self.start.is(0) && x.shape.get(self.axis) == Some(&self.stop) {
            return Ok(Lowering::Alias(0));
        }
        insts(
            unary_inst("Slice")
                .with("axis", literal_axis(self.axis))
                .with("start", Field::Dim(self.start.clone()))
                .with("stop", Field::Dim(self.stop.clone()))
                .int("step", self.step),
        )
    }
}

impl OpImpl for Cat {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let first = tensor(args, 0)?;
        check_axis(self.axis, first.rank())?;
        let mut out = first.clone();
        for n in 1..args.len() {
            let x = tensor(args, n)?;
            let fits = x.dtype == first.dtype
                && x.rank() == first.rank()
                && (0..x.rank()).all(|i| i == self.axis || x.shape[i] == first.shape[i]);
            if !fits {
                return fail(format!(
                    "argument {n}, {x}, doesn't fit argument 0, {first}"
                ));
            }
            out.shape[self.axis] = &out.shape[self.axis] + &x.shape[self.axis];
        }
        Ok(Type::Tensor(out))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let shape = cx.out_shape()?;
        let Some(first) = args.first() else {
            return fail("takes one tensor at least");
        };
        // Where each position of the axis comes from: which argument, and which position of it.
        let sizes = args
            .iter()
            .map(|x| x.shape().get(self.axis).copied().unwrap_or(0));
        let origin: Vec<(usize, usize)> = match numel(&shape)? {
            0 => vec![],
            _ => sizes
                .enumerate()
                .flat_map(|(n, size)| (0..size).map(move |i| (n, i)))
                .collect(),
        };
        let strides: Vec<_> = args.iter().map(|x| safe_strides(x.shape())).collect();
        let mut picks = vec![];
        for_each_index(&shape, |_, index| {
            let (n, i) = origin[index[self.axis]];
            let at = index.iter().enumerate().map(|(axis, &k)| {
                let k = if axis == self.axis { i } else { k };
                k * strides[n][axis]
            });
            picks.push((n, at.sum::<usize>()));
        });
        let of = |i: usize| {
            let (n, at) = picks[i];
            args[n].get(at)
        };
        Ok(vec![Tensor::from_fn(first.dtype(), shape, of)?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if cx.args.len() == 1 {
            return Ok(Lowering::Alias(0));
        }
        let all = (0..cx.args.len()).map(Operand::Arg).collect();
        let inst = Inst::new("Concatenate").with("tensors", Field::Tensors(all));
        insts(inst.out().with("axis", literal_axis(self.axis)))
    }
}

impl OpImpl for Pad {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        if self.low.len() != x.rank() || self.high.len() != x.rank() {
            return fail(format!(
                "{} and {} widths for {x}",
                self.low.len(),
                self.high.len()
            ));
        }
        check_sizes(&self.low)?;
        check_sizes(&self.high)?;
        let widths = self.low.iter().zip(&self.high);
        let shape: Shape = x
            .shape
            .iter()
            .zip(widths)
            .map(|(d, (l, h))| &(d + l) + h)
            .collect();
        Ok(Type::tensor(x.dtype, shape))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (shape, x) = unary(cx, args)?;
        let low = self
            .low
            .iter()
            .map(|d| cx.size(d))
            .collect::<Result<Vec<_>, _>>()?;
        for d in &self.high {
            cx.size(d)?;
        }
        let value = self.value.cast(x.dtype());
        let strides = safe_strides(x.shape());
        let mut from = Vec::with_capacity(numel(&shape)?);
        for_each_index(&shape, |_, index| {
            let mut flat = Some(0);
            for (axis, (&i, &low)) in index.iter().zip(&low).enumerate() {
                let inside = i.checked_sub(low).filter(|i| *i < x.shape()[axis]);
                flat = flat.zip(inside).map(|(flat, i)| flat + i * strides[axis]);
            }
            from.push(flat);
        });
        let of = |i: usize| from[i].map_or(value, |at: usize| x.get(at));
        Ok(vec![Tensor::from_fn(x.dtype(), shape, of)?])
    }

    /// The target takes the value as f32. One that f32 doesn't hold is put beside x.
    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let &[mut x] = args else {
            return fail("takes 1 argument");
        };
        for axis in 0..self.low.len() {
            let mut parts = Vec::new();
            let ty = graph.tensor_ty(x)?.clone();
            for (width, own) in [(&self.low[axis], None), (&self.high[axis], Some(x))] {
                parts.extend(own);
                if !width.is(0) {
                    let mut ty = ty.clone();
                    ty.shape[axis] = width.clone();
                    let value = self.value.cast(ty.dtype);
                    parts.push(graph.add(Full { value, ty }, &[], &Loc::default())?);
                }
            }
            if parts.len() > 1 {
                x = graph.add(Cat { axis }, &parts, &Loc::default())?;
            }
        }
        Ok(Some(x))
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let x = tensor(cx.args, 0)?;
        if self.low.iter().chain(&self.high).all(|d| d.is(0)) {
            return Ok(Lowering::Alias(0));
        }
        let Some(value) = exact_f32(self.value, x.dtype) else {
            return Ok(Lowering::Decompose);
        };
        let pairs = self.low.iter().zip(&self.high);
        let widths = pairs.flat_map(|(l, h)| [l.clone(), h.clone()]).collect();
        insts(
            unary_inst("Pad")
                .with("pad_width", Field::Dims(widths))
                .with("mode", Field::Str("constant"))
                .with("constant_value", Field::Float(value)),
        )
    }
}

impl OpImpl for Flip {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axes(&self.axes, x.rank())?;
        Ok(Type::Tensor(x.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (shape, x) = unary(cx, args)?;
        let strides = safe_strides(x.shape());
        gathered(x, shape, |index| {
            let at = |(axis, &i): (usize, &usize)| {
                let i = if self.axes.contains(&axis) {
                    x.shape()[axis] - 1 - i
                } else {
                    i
                };
                i * strides[axis]
            };
            index.iter().enumerate().map(at).sum()
        })
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if self.axes.is_empty() {
            return Ok(Lowering::Alias(0));
        }
        insts(unary_inst("Flip").with("axes", literal_axes(&self.axes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Scalar;
    use crate::dim::Symbols;
    use crate::dtype::DType;
    use crate::ops::Op;
    use crate::ops::testing::run;

    fn dims(shape: &[i64]) -> Vec<Dim> {
        shape.iter().map(|&n| n.into()).collect()
    }

    fn f32s(shape: &[i64]) -> Type {
        Type::tensor(DType::F32, dims(shape))
    }

    fn iota(shape: &[usize]) -> Tensor {
        Tensor::from_fn(DType::I64, shape.to_vec(), |i| Scalar::Int(i as i64)).unwrap()
    }

    fn node(op: impl Into<Op>, args: &[&Type]) -> &'static str {
        let op = op.into();
        let out = op.infer(args).unwrap();
        let symbols = Symbols::new();
        let cx = LowerCx {
            args,
            out: &out,
            symbols: &symbols,
        };
        match op.lower(&cx).unwrap() {
            Lowering::Insts(i) => i[0].node,
            Lowering::Alias(_) => "alias",
            _ => "other",
        }
    }

    #[test]
    fn reshape_picks_the_cheapest_instruction() {
        let to = |from: &[i64], to: &[i64]| node(Reshape { shape: dims(to) }, &[&f32s(from)]);
        assert_eq!(to(&[2, 3], &[2, 3]), "alias");
        assert_eq!(to(&[2, 3], &[2, 1, 3]), "ExpandDims");
        assert_eq!(to(&[2, 3], &[1, 2, 1, 3]), "Reshape");
        assert_eq!(to(&[1, 1, 3], &[1, 3]), "Squeeze");
        assert_eq!(to(&[1, 3], &[3, 1]), "Reshape");
        assert_eq!(to(&[2, 3], &[3, 2]), "Reshape");
        assert_eq!(to(&[1, 1], &[]), "Squeeze");
    }

    #[test]
    fn reshape_refuses_what_the_algebra_cannot_prove() {
        let s = Dim::symbol("s0");
        let x = Type::tensor(DType::F32, vec![s.clone(), 6i64.into()]);
        let to = |shape: Vec<Dim>| Reshape { shape }.infer(&[&x]);
        assert!(to(vec![2i64.into(), &s * &3i64.into()]).is_ok());
        let half = s.floor_div(&2i64.into());
        assert!(to(vec![half, 12i64.into()]).is_err());
        assert!(
            Reshape {
                shape: dims(&[-2, -3])
            }
            .infer(&[&f32s(&[6])])
            .is_err()
        );
    }

    #[test]
    fn slices_by_steps() {
        let slice = |start: i64, stop: i64, step| Slice {
            axis: 1,
            start: start.into(),
            stop: stop.into(),
            step,
        };
        let x = iota(&[2, 5]);
        assert_eq!(run(slice(1, 5, 2), &[&x]).unwrap().to_i64(), [1, 3, 6, 8]);
        assert_eq!(run(slice(3, 3, 7), &[&x]).unwrap().shape(), [2, 0]);
        assert_eq!(run(slice(0, 5, i64::MAX), &[&x]).unwrap().to_i64(), [0, 5]);
        for bad in [
            slice(-1, 3, 1),
            slice(4, 3, 1),
            slice(0, 6, 1),
            slice(0, 5, 0),
        ] {
            assert!(run(bad, &[&x]).is_err());
        }
    }

    #[test]
    fn a_symbolic_slice_is_checked_when_it_runs() {
        let op = Slice {
            axis: 0,
            start: 0i64.into(),
            stop: Dim::symbol("u0"),
            step: 1,
        };
        let x = iota(&[3]);
        let ty = Type::tensor(DType::I64, dims(&[3]));
        let out = op.infer(&[&ty]).unwrap();
        let run = |n| {
            let symbols = std::collections::BTreeMap::from([("u0".into(), n)]);
            let cx = EvalCx {
                symbols: &symbols,
                args: &[&ty],
                out: &out,
            };
            op.eval(&cx, &[&x])
        };
        assert_eq!(run(2).unwrap()[0].to_i64(), [0, 1]);
        assert!(run(4).is_err());
        assert!(run(-1).is_err());
    }

    #[test]
    fn moves() {
        let x = iota(&[2, 3]);
        assert_eq!(
            run(Transpose { perm: vec![1, 0] }, &[&x]).unwrap().to_i64(),
            [0, 3, 1, 4, 2, 5]
        );
        assert_eq!(
            run(Flip { axes: vec![1] }, &[&x]).unwrap().to_i64(),
            [2, 1, 0, 5, 4, 3]
        );
        let y = iota(&[1, 3]);
        assert_eq!(
            run(Cat { axis: 0 }, &[&y, &x]).unwrap().to_i64(),
            [0, 1, 2, 0, 1, 2, 3, 4, 5]
        );
        assert!(run(Cat { axis: 1 }, &[&y, &x]).is_err());
        let wide = Broadcast {
            shape: dims(&[2, 2, 3]),
        };
        assert_eq!(run(wide, &[&y]).unwrap().to_i64(), [0, 1, 2].repeat(4));
        assert!(run(Broadcast { shape: dims(&[3]) }, &[&y]).is_err());
        assert!(run(Transpose { perm: vec![0, 0] }, &[&x]).is_err());
    }

    #[test]
    fn pads() {
        let pad = |low: &[i64], high: &[i64]| Pad {
            low: dims(low),
            high: dims(high),
            value: Scalar::Int(9),
        };
        let x = iota(&[1, 2]);
        let out = run(pad(&[0, 1], &[1, 0]), &[&x]).unwrap();
        assert_eq!(
            (out.shape(), out.to_i64()),
            (&[2, 3][..], vec![9, 0, 1, 9, 9, 9])
        );
        assert!(run(pad(&[0, -1], &[0, 0]), &[&x]).is_err());
        assert!(run(pad(&[0], &[0]), &[&x]).is_err());
        let empty = iota(&[0, 2]);
        assert_eq!(
            run(pad(&[1, 0], &[0, 0]), &[&empty]).unwrap().to_i64(),
            [9, 9]
        );
    }

    #[test]
    fn empty_tensors_with_huge_sizes_move_without_overflow() {
        let huge = Tensor::from_fn(DType::F32, vec![usize::MAX / 2, 0, usize::MAX / 2], |_| {
            Scalar::Int(0)
        })
        .unwrap();
        assert!(
            run(
                Transpose {
                    perm: vec![2, 1, 0]
                },
                &[&huge]
            )
            .is_ok()
        );
        assert!(run(Flip { axes: vec![0, 1] }, &[&huge]).is_ok());
        assert!(run(Cat { axis: 1 }, &[&huge, &huge]).is_ok());
    }
}
