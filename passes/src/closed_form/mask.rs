//! Masks: which keys a query sees, as linear conditions on the index.

use super::{Expr, Form, Key, position};
use fuseline_ir::ops::pointwise as p;
use fuseline_ir::{DType, Dim, Op};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A score with this number or less added is as good as masked beside one without, in every dtype that can hold it. The lowest `f16` is too near to other scores to count.
pub const HIDING: f64 = -1e30;

/// A score with this number or less added weighs nothing beside one that is seen, as long as scores are smaller than half of it. It doesn't swallow a score as [`HIDING`] does, so
/// it only hides where something is seen in each row.
pub const LOW: f64 = -1e9;

/// `constant + Σ stepₐ·iₐ ≥ 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfSpace {
    /// Steps along axes, none of them 0.
    pub axes: BTreeMap<usize, Dim>,
    /// The value at the origin.
    pub constant: Dim,
}

/// Where a mask lets a score through: in all of the half-spaces, where nothing else hides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Conditions that must hold.
    pub within: Vec<HalfSpace>,
    /// Whether they are all that must hold.
    pub complete: bool,
    /// Whether what is hidden gets −∞, or is left out by a truth value; otherwise a number that is [low](LOW) is added.
    pub infinite: bool,
}

/// Where a mask that chooses (truth values) or is added (0 where a score counts, a number that hides it elsewhere) lets scores through. `None` where a form of floats is
/// neither.
pub fn seen<K: Key>(form: &Arc<Form<K>>) -> Option<Seen> {
    let mut seen = Seen {
        within: Vec::new(),
        complete: true,
        infinite: true,
    };
    if form.dtype.is_float() {
        added(form, &mut seen)?;
    } else {
        chosen(form, true, &mut seen);
    }
    Some(seen)
}

/// Adds what must be so for the truth value to be `holds`.
fn chosen<K: Key>(form: &Arc<Form<K>>, holds: bool, seen: &mut Seen) {
    match (&form.expr, holds) {
        (Expr::Apply(Op::LogicalNot(_), args), _) if args.len() == 1 => {
            chosen(&args[0], !holds, seen);
        }
        (Expr::Apply(Op::LogicalAnd(_), args), true)
        | (Expr::Apply(Op::LogicalOr(_), args), false) => {
            args.iter().for_each(|a| chosen(a, holds, seen));
        }
        // One of two conditions of which the narrow one is never met without the wide one: the wide one without the narrow one.
        (Expr::Apply(Op::Ne(_), args), true) | (Expr::Apply(Op::Eq(_), args), false)
            if wide_and_narrow(args).is_some() =>
        {
            if let Some([wide, narrow]) = wide_and_narrow(args) {
                chosen(wide, true, seen);
                chosen(narrow, false, seen);
            }
        }
        (Expr::Apply(op @ (Op::Lt(_) | Op::Le(_)), args), true) if distance_of(args).is_some() => {
            for side in distance_of(args).into_iter().flatten() {
                let side = Form::apply(op, DType::Bool, vec![side, args[1].clone()]);
                chosen(&side, true, seen);
            }
        }
        _ => match half_space(form, holds) {
            Some(half) if seen.within.contains(&half) => {}
            Some(half) => seen.within.push(half),
            None => seen.complete = false,
        },
    }
}

/// Two comparisons of positions, the one that follows from the other first.
fn wide_and_narrow<K: Key>(args: &[Arc<Form<K>>]) -> Option<[&Arc<Form<K>>; 2]> {
    let [a, b] = args else { return None };
    if a.dtype != DType::Bool {
        return None;
    }
    let (x, y) = (half_space(a, true)?, half_space(b, true)?);
    let further = (&x.constant - &y.constant).as_const()?;
    let along = x.axes == y.axes;
    along.then_some(if further >= 0 { [a, b] } else { [b, a] })
}

/// `x` and `−x`, where the first of two integers is the absolute value of x: both are below what that is below.
fn distance_of<K: Key>(args: &[Arc<Form<K>>]) -> Option<[Arc<Form<K>>; 2]> {
    let [distance, _] = args else { return None };
    let (Expr::Apply(Op::Abs(_), x), true) = (&distance.expr, distance.dtype.is_int()) else {
        return None;
    };
    let x = x.first()?;
    let minus = Form::apply(&Op::Neg(p::Neg {}), x.dtype, vec![x.clone()]);
    Some([x.clone(), minus])
}

/// Adds what must be so for nothing to be added to a score.
fn added<K: Key>(form: &Arc<Form<K>>, seen: &mut Seen) -> Option<()> {
    let number = |f: &Arc<Form<K>>| f.literal().map(|s| s.as_f64());
    match &form.expr {
        Expr::Literal(s) if s.as_f64() == 0.0 => Some(()),
        Expr::Apply(Op::Add(_), args) => args.iter().try_for_each(|a| added(a, seen)),
        Expr::Apply(Op::Where(_), args) => {
            let [condition, yes, no] = args.as_slice() else {
                return None;
            };
            let (holds, open, hidden) = match number(no) {
                Some(n) if n <= LOW => (true, yes, n),
                _ => (false, no, number(yes).filter(|n| *n <= LOW)?),
            };
            seen.infinite &= hidden == f64::NEG_INFINITY;
            chosen(condition, holds, seen);
            added(open, seen)
        }
        // A number times a truth value.
        Expr::Apply(Op::Mul(_), args) => {
            let [a, b] = args.as_slice() else { return None };
            let (hidden, flag) = match (number(a), number(b)) {
                (Some(n), _) => (n, b),
                (_, Some(n)) => (n, a),
                _ => return None,
            };
            let Expr::Apply(Op::Cast(_), args) = &flag.expr else {
                return None;
            };
            let condition = args.first().filter(|c| c.dtype == DType::Bool)?;
            // −∞ · 0 is no number.
            if !(hidden <= LOW && hidden.is_finite()) {
                return None;
            }
            seen.infinite = false;
            chosen(condition, false, seen);
            Some(())
        }
        _ => None,
    }
}

/// A comparison of positions as a half-space; with `holds` false, what its opposite says.
pub fn half_space<K: Key>(form: &Arc<Form<K>>, holds: bool) -> Option<HalfSpace> {
    let Expr::Apply(op, args) = &form.expr else {
        return None;
    };
    let (less, more, strict) = match (op, args.as_slice()) {
        (Op::LogicalNot(_), [x]) => return half_space(x, !holds),
        (Op::Le(_), [a, b]) | (Op::Ge(_), [b, a]) if holds => (a, b, false),
        (Op::Lt(_), [a, b]) | (Op::Gt(_), [b, a]) if holds => (a, b, true),
        (Op::Le(_), [a, b]) | (Op::Ge(_), [b, a]) => (b, a, true),
        (Op::Lt(_), [a, b]) | (Op::Gt(_), [b, a]) => (b, a, false),
        _ => return None,
    };
    let difference = position(more)?.minus(position(less)?);
    if !difference.scalars.is_empty() {
        return None;
    }
    let constant = if strict {
        &difference.constant - &Dim::from(1i64)
    } else {
        difference.constant
    };
    Some(HalfSpace {
        axes: difference.axes,
        constant,
    })
}
