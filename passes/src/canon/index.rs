//! Integers and truth values that are a simple function of their index, however they were computed: a model's way to a position or to a mask that always holds
//! may lead over concatenations, differences, running sums and gathers. See [`crate::closed_form`].

use super::{Builder, Rewrite, Rule};
use crate::closed_form::{Expr, Form, Position, position};
use fuseline_ir::ops::{create, pointwise as pw};
use fuseline_ir::{Dim, Flag, Op, Scalar, TensorType, Type, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "index-literal",
        doc: "what is the same number at every index -> full",
        apply: literal,
    },
    Rule {
        name: "index-progression",
        doc: "what counts along one axis, or along several as along one that they were, from a number or from a one-element tensor -> arange (plus that tensor), reshaped and broadcast",
        apply: progression,
    },
];

/// The result's type, where it holds integers or truth values and the op isn't a leaf.
fn counted(b: &Builder, op: &Op, args: &[Value]) -> Option<TensorType> {
    match b.infer(op, args)? {
        Type::Tensor(ty) if !ty.dtype.is_float() && !op.info().has(Flag::Leaf) => Some(ty),
        _ => None,
    }
}

/// Exact. An index out of range, which would fail, is not looked for.
fn literal(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Some(ty) = counted(b, op, args) else {
        return Ok(None);
    };
    let Some(form) = b.form_of(op, args) else {
        return Ok(None);
    };
    let value = form
        .literal()
        .or_else(|| always(b, &form, &ty).map(Scalar::Bool));
    match value {
        Some(value) => b.full(value, ty).map(Some),
        None => Ok(None),
    }
}

/// What a comparison of positions is at every index of a tensor of type `ty`, where it is the same at all of them.
fn always(b: &Builder, form: &Form<Value>, ty: &TensorType) -> Option<bool> {
    let Expr::Apply(op, args) = &form.expr else {
        return None;
    };
    let [x, y] = args.as_slice() else {
        return None;
    };
    let d = position(y).zip(position(x)).map(|(y, x)| y.minus(x))?;
    if !d.scalars.is_empty() {
        return None;
    }
    // The least and the largest that y − x gets.
    let (mut least, mut most) = (d.constant.clone(), d.constant);
    for (&axis, step) in &d.axes {
        let last = step * &(ty.shape.get(axis)? - &Dim::from(1i64));
        if step.as_const()? > 0 {
            most = &most + &last;
        } else {
            least = &least + &last;
        }
    }
    let (least, most) = (b.least(&least), b.least(&-&most).saturating_neg());
    match op {
        Op::Le(_) if least >= 0 => Some(true),
        Op::Le(_) if most < 0 => Some(false),
        Op::Lt(_) if least > 0 => Some(true),
        Op::Lt(_) if most <= 0 => Some(false),
        Op::Eq(_) if least > 0 || most < 0 => Some(false),
        Op::Ne(_) if least > 0 || most < 0 => Some(true),
        _ => None,
    }
}

/// Exact: integer arithmetic is linear modulo 2ⁿ.
fn progression(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    // These are what the result is made of.
    if matches!(op, Op::Reshape(_) | Op::Broadcast(_)) {
        return Ok(None);
    }
    let Some(ty) = counted(b, op, args).filter(|t| t.dtype.is_int()) else {
        return Ok(None);
    };
    let Some(p) = b.form_of(op, args).and_then(|form| position(&form)) else {
        return Ok(None);
    };
    let moves = op.info().has(Flag::Movement)
        || matches!(op, Op::Take(_) | Op::TakeAlong(_) | Op::Gather(_));
    let Some(base) = base(b, &p, ty.dtype, moves) else {
        return Ok(None);
    };
    let Some((step, len)) = counting(&p, &ty) else {
        return Ok(None);
    };
    let arange: Op = create::Arange {
        start: p.constant.clone(),
        step,
        len,
        dtype: ty.dtype,
    }
    .into();
    if b.infer(&arange, &[]).is_none() {
        return Ok(None);
    }
    let mut value = b.add(arange, &[])?;
    if let Some(k) = base {
        let k = b.reshape(k, vec![])?;
        value = b.add(pw::Add {}, &[value, k])?;
    }
    let mut narrow = vec![Dim::from(1i64); ty.rank()];
    for &axis in p.axes.keys() {
        narrow[axis] = ty.shape[axis].clone();
    }
    let value = b.reshape(value, narrow)?;
    b.broadcast(value, ty.shape).map(Some)
}

/// The step and the length of the one count that the steps along axes make up in row-major order.
fn counting(p: &Position<Value>, ty: &TensorType) -> Option<(Dim, Dim)> {
    let mut axes = p.axes.iter().rev();
    let (&last, step) = axes.next()?;
    let mut len = ty.shape.get(last)?.clone();
    for (&axis, outer) in axes {
        if *outer != step * &len {
            return None;
        }
        len = &len * ty.shape.get(axis)?;
    }
    Some((step.clone(), len))
}

/// What is added to the progression; `None` where that is more than one tensor, or one that an `add` of it would have to be made for again.
fn base(
    b: &Builder,
    p: &Position<Value>,
    dtype: fuseline_ir::DType,
    moves: bool,
) -> Option<Option<Value>> {
    let mut scalars = p.scalars.iter();
    match (scalars.next(), scalars.next()) {
        (None, _) => Some(None),
        (Some((&k, 1)), None) if moves && b.dtype(k) == Some(dtype) => Some(Some(k)),
        _ => None,
    }
}
