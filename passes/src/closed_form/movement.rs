//! What each op does to forms: leaves give one, movement substitutes indices, pointwise ops apply.

use super::construct::{add, below, floor_div, modulo, mul, sub};
use super::{Cx, Expr, Form, Key};
use crate::shapes::{Group, groups, wide_axes};
use fuseline_ir::ops::pointwise as p;
use fuseline_ir::{DType, Dim, Flag, Op, Scalar, TensorType, Type};
use std::sync::Arc;

type F<K> = Arc<Form<K>>;

fn zero<K: Key>() -> F<K> {
    Form::number(DType::I64, Scalar::Int(0))
}

impl<K: Key> Cx<'_, K> {
    /// The form of argument n: the known one, an integer as it is, or an opaque element. An argument that is one element of a larger opaque tensor counts as opaque
    /// itself, so that its key alone names a number.
    fn arg(&self, n: usize) -> Option<F<K>> {
        match (self.args.get(n).copied().flatten(), self.types.get(n)?) {
            (Some(form), Type::Tensor(t))
                if matches!(form.expr, Expr::Element(..)) && wide_axes(&t.shape) == 0 =>
            {
                Form::element((self.opaque)(n), t)
            }
            (Some(form), _) => Some(form.clone()),
            (None, Type::Int(d)) => Some(Form::dim(DType::I64, d)),
            (None, Type::Tensor(t)) => Form::element((self.opaque)(n), t),
            (None, Type::Tuple(_)) => None,
        }
    }

    fn tensor(&self, n: usize) -> Option<&TensorType> {
        self.types.get(n)?.as_tensor()
    }

    pub(super) fn of(&self, op: &Op) -> Option<F<K>> {
        let out = self.out.as_tensor()?;
        match op {
            Op::Full(full) => Some(Form::number(full.ty.dtype, full.value)),
            Op::Arange(a) => {
                let dtype = a.dtype;
                let whole = if dtype.is_int() { dtype } else { DType::I64 };
                let index = Form::apply(
                    &Op::Cast(p::Cast { dtype: whole }),
                    whole,
                    vec![Form::index(0)],
                );
                let step = Form::apply(
                    &Op::Mul(p::Mul {}),
                    whole,
                    vec![index, Form::dim(whole, &a.step)],
                );
                let count = Form::apply(
                    &Op::Add(p::Add {}),
                    whole,
                    vec![step, Form::dim(whole, &a.start)],
                );
                Some(Form::apply(
                    &Op::Cast(p::Cast { dtype }),
                    dtype,
                    vec![count],
                ))
            }
            Op::IntTensor(t) if t.dtype.is_int() => match self.types.first()? {
                Type::Int(d) => Some(Form::dim(t.dtype, d)),
                _ => None,
            },
            Op::Reshape(_) => {
                let groups = groups(&self.tensor(0)?.shape, &out.shape)?;
                let index = reshape_indices(&groups, &self.tensor(0)?.shape, &out.shape);
                Some(
                    self.arg(0)?
                        .substitute(&|a| index.get(a).cloned().unwrap_or_else(zero)),
                )
            }
            Op::Transpose(t) => {
                let of = |axis: usize| t.perm.iter().position(|&x| x == axis);
                Some(
                    self.arg(0)?
                        .substitute(&|a| of(a).map_or_else(zero, Form::index)),
                )
            }
            Op::Broadcast(_) => self.aligned(0, out.rank()),
            Op::Slice(s) => {
                let start = Form::dim(DType::I64, &s.start);
                let along = add(mul(Form::index(s.axis), &Dim::from(s.step)), start);
                let part = self.arg(0)?.substitute(&|a| {
                    if a == s.axis {
                        along.clone()
                    } else {
                        Form::index(a)
                    }
                });
                let len = out.shape.get(s.axis).and_then(Dim::as_const);
                Some(len.map_or_else(|| part.clone(), |len| part.within(s.axis, len)))
            }
            Op::Cat(cat) => self.cat(cat.axis),
            Op::Flip(flip) => {
                let shape = &self.tensor(0)?.shape;
                let back = |a: usize| {
                    let last = shape
                        .get(a)
                        .map_or_else(|| Dim::from(0i64), |n| n - &Dim::from(1i64));
                    add(
                        mul(Form::index(a), &Dim::from(-1i64)),
                        Form::dim(DType::I64, &last),
                    )
                };
                Some(self.arg(0)?.substitute(&|a| {
                    if flip.axes.contains(&a) {
                        back(a)
                    } else {
                        Form::index(a)
                    }
                }))
            }
            Op::Take(take) => self.take(take.axis),
            Op::TakeAlong(take) => {
                let (x, at) = (self.aligned(0, out.rank())?, self.index(1, take.axis)?);
                let at = at.substitute(&|a| {
                    let one = self
                        .tensor(1)
                        .and_then(|t| t.shape.get(a))
                        .is_some_and(|d| d.is(1));
                    if one { zero() } else { Form::index(a) }
                });
                Some(x.substitute(&|a| {
                    if a == take.axis {
                        at.clone()
                    } else {
                        Form::index(a)
                    }
                }))
            }
            Op::Gather(gather) => self.gather(&gather.axes),
            // A running sum of one number counts; of nothing it stays.
            Op::Cumsum(sum) => {
                let each = self.arg(0)?.literal()?;
                let dtype = out.dtype;
                if each.as_f64() == 0.0 {
                    return Some(Form::number(dtype, each));
                }
                let Scalar::Int(each) = each.cast(DType::I64) else {
                    return None;
                };
                let counted = add(
                    Form::index(sum.axis),
                    Form::number(DType::I64, Scalar::Int(1)),
                );
                let summed = mul(counted, &Dim::from(each));
                let cast = Op::Cast(p::Cast { dtype });
                dtype
                    .is_int()
                    .then(|| Form::apply(&cast, dtype, vec![summed]))
            }
            Op::Matmul(_) => self.outer_product(out.rank()),
            _ if op.info().has(Flag::Pointwise) && !op.info().has(Flag::Fused) => {
                let args = (0..self.types.len())
                    .map(|n| self.aligned(n, out.rank()))
                    .collect::<Option<Vec<_>>>()?;
                Some(Form::apply(op, out.dtype, args))
            }
            _ => None,
        }
    }

    /// Argument n as seen from the index of a result of `rank` axes that it broadcasts to.
    fn aligned(&self, n: usize, rank: usize) -> Option<F<K>> {
        let form = self.arg(n)?;
        let Some(ty) = self.tensor(n) else {
            return Some(form);
        };
        let lead = rank.checked_sub(ty.rank())?;
        Some(form.substitute(&|a| {
            if ty.shape.get(a).is_some_and(|d| d.is(1)) {
                zero()
            } else {
                Form::index(a + lead)
            }
        }))
    }

    /// Equal parts of equal form repeat with the part's size; other parts are chosen by comparing the index.
    fn cat(&self, axis: usize) -> Option<F<K>> {
        let parts = (0..self.types.len())
            .map(|n| self.arg(n))
            .collect::<Option<Vec<_>>>()?;
        let sizes = (0..parts.len())
            .map(|n| self.tensor(n)?.shape.get(axis))
            .collect::<Option<Vec<_>>>()?;
        let (first, size) = (parts.first()?, *sizes.first()?);
        if parts.iter().all(|p| p == first) && sizes.iter().all(|s| *s == size) {
            if !first.depends_on(axis) {
                return Some(first.clone());
            }
            let along = modulo(Form::index(axis), size);
            return Some(first.substitute(&|a| {
                if a == axis {
                    along.clone()
                } else {
                    Form::index(a)
                }
            }));
        }
        let mut ends = Vec::new();
        let mut end = Dim::from(0i64);
        for size in &sizes {
            ends.push((end.clone(), &end + *size));
            end = &end + *size;
        }
        let mut out: Option<F<K>> = None;
        for (part, (start, end)) in parts.iter().zip(&ends).rev() {
            let along = sub(Form::index(axis), start);
            let here = part.substitute(&|a| {
                if a == axis {
                    along.clone()
                } else {
                    Form::index(a)
                }
            });
            out = Some(match out {
                None => here,
                Some(rest) => {
                    let dtype = here.dtype;
                    Form::apply(
                        &Op::Where(p::Where {}),
                        dtype,
                        vec![below(Form::index(axis), end), here, rest],
                    )
                }
            });
            if out.as_ref().is_some_and(|f| f.size() > super::MAX_SIZE) {
                return None;
            }
        }
        out
    }

    /// Element by index.
    fn take(&self, axis: usize) -> Option<F<K>> {
        let (x, indices) = (self.arg(0)?, self.index(1, axis)?);
        let rank = self.tensor(1)?.rank();
        let at = indices.substitute(&|a| Form::index(a + axis));
        Some(x.substitute(&|a| match a.cmp(&axis) {
            std::cmp::Ordering::Less => Form::index(a),
            std::cmp::Ordering::Equal => at.clone(),
            std::cmp::Ordering::Greater => Form::index(a + rank - 1),
        }))
    }

    /// Argument n as an index along an axis of x: an `i64` that isn't negative. One that might be counts from the end, and is within the axis modulo its size.
    fn index(&self, n: usize, axis: usize) -> Option<F<K>> {
        let form = self.arg(n)?;
        let cast = Op::Cast(p::Cast { dtype: DType::I64 });
        let form = Form::apply(&cast, DType::I64, vec![form]);
        if form.not_negative() {
            return Some(form);
        }
        Some(modulo(form, self.tensor(0)?.shape.get(axis)?))
    }

    /// Elements by several indices: the indices' common axes come first, then the axes of x that aren't indexed.
    fn gather(&self, axes: &[usize]) -> Option<F<K>> {
        let x = self.arg(0)?;
        let ranks = (1..self.types.len())
            .map(|n| Some(self.tensor(n)?.rank()))
            .collect::<Option<Vec<_>>>()?;
        let rank = *ranks.iter().max()?;
        let mut at = Vec::new();
        for (n, own) in ranks.iter().enumerate() {
            let shape = &self.tensor(n + 1)?.shape;
            let lead = rank - own;
            let axis = *axes.get(n)?;
            at.push(self.index(n + 1, axis)?.substitute(&|a| {
                let one = shape.get(a).is_some_and(|d| d.is(1));
                if one { zero() } else { Form::index(a + lead) }
            }));
        }
        let rest: Vec<usize> = (0..self.tensor(0)?.rank())
            .filter(|a| !axes.contains(a))
            .collect();
        Some(x.substitute(&|a| match axes.iter().position(|&x| x == a) {
            Some(n) => at.get(n).cloned().unwrap_or_else(zero),
            None => Form::index(rank + rest.iter().position(|&r| r == a).unwrap_or(0)),
        }))
    }

    /// A matrix product of inner size 1 is the product of a column and a row.
    fn outer_product(&self, rank: usize) -> Option<F<K>> {
        let (a, b) = (self.tensor(0)?, self.tensor(1)?);
        if !a.shape.last()?.is(1) {
            return None;
        }
        let see = |n: usize, ty: &TensorType, gone: usize| -> Option<F<K>> {
            let lead = rank.checked_sub(ty.rank())?;
            Some(self.arg(n)?.substitute(&|axis| {
                let one = ty.shape.get(axis).is_some_and(|d| d.is(1));
                if one || axis == gone {
                    zero()
                } else {
                    Form::index(axis + lead)
                }
            }))
        };
        let x = see(0, a, a.rank() - 1)?;
        let y = see(1, b, b.rank().checked_sub(2)?)?;
        Some(Form::apply(&Op::Mul(p::Mul {}), x.dtype, vec![x, y]))
    }
}

/// For each axis before a reshape, its index in terms of the indices after it.
fn reshape_indices<K: Key>(groups: &[Group], from: &[Dim], to: &[Dim]) -> Vec<F<K>> {
    let mut out: Vec<F<K>> = vec![zero(); from.len()];
    for g in groups {
        let wide: Vec<usize> = g.from.clone().filter(|&a| !from[a].is(1)).collect();
        let mut flat = zero();
        for a in g.to.clone().filter(|&a| !to[a].is(1)) {
            flat = add(mul(flat, &to[a]), Form::index(a));
        }
        let mut inner = Dim::from(1i64);
        for (n, &a) in wide.iter().enumerate().rev() {
            let shifted = floor_div(flat.clone(), &inner);
            out[a] = if n == 0 {
                shifted
            } else {
                modulo(shifted, &from[a])
            };
            inner = &inner * &from[a];
        }
    }
    out
}

impl<K: Key> Form<K> {
    /// The form below casts that keep every value.
    pub fn uncast(self: &Arc<Self>) -> &Arc<Form<K>> {
        match &self.expr {
            Expr::Apply(Op::Cast(_), args)
                if args
                    .first()
                    .is_some_and(|x| crate::canon::cast::keeps(x.dtype, self.dtype)) =>
            {
                args[0].uncast()
            }
            _ => self,
        }
    }
}
