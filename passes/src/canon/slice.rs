//! Slices and concatenations.

use super::{Builder, Rewrite, Rule};
use crate::shapes::groups;
use fuseline_ir::ops::{movement as mv, pointwise as pw};
use fuseline_ir::{Dim, Op, OpError, Type, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "slice-all",
        doc: "slice of a whole axis -> x",
        apply: slice_all,
    },
    Rule {
        name: "slice-single",
        doc: "slice of one place, whatever the step to the next would be -> with step 1",
        apply: slice_single,
    },
    Rule {
        name: "slice-chain",
        doc: "slice(slice(x)) of one axis -> slice(x), where the inner one has step 1",
        apply: slice_chain,
    },
    Rule {
        name: "slice-of-cat",
        doc: "slice of cat along its axis that takes whole parts, each n-th of parts of size 1, or lies within one -> those parts, or a slice of that one",
        apply: slice_of_cat,
    },
    Rule {
        name: "slice-of-broadcast",
        doc: "slice(broadcast(x)) -> a smaller broadcast",
        apply: slice_of_broadcast,
    },
    Rule {
        name: "slice-of-transpose",
        doc: "one place of an axis of transpose(x) -> transpose of one place of x",
        apply: slice_of_transpose,
    },
    Rule {
        name: "slice-of-groups",
        doc: "one place of each group of n along the last axis, by way of an axis of size n -> slice with step n",
        apply: slice_of_groups,
    },
    Rule {
        name: "slice-of-split",
        doc: "slice along the first of several axes that a reshape divided one into, joined again or without that axis -> slice of that one, reshaped",
        apply: slice_of_split,
    },
    Rule {
        name: "cat-of-raised",
        doc: "cat along an axis that a reshape gave each part, not behind all others -> reshape of a cat along the axis behind it",
        apply: cat_of_raised,
    },
    Rule {
        name: "cat-of-lowered",
        doc: "cat(reshape(x), …) along an axis before which each x has one of size 1 -> reshape(cat(x, …)) along that one",
        apply: cat_of_lowered,
    },
    Rule {
        name: "cat-one",
        doc: "cat(x) -> x; parts of size 0 dropped",
        apply: cat_one,
    },
    Rule {
        name: "cat-signs",
        doc: "cat(x, y) · c, where c is 1 along all of one part and −1 along all of the other -> cat(x, −y)",
        apply: cat_signs,
    },
    Rule {
        name: "cat-chain",
        doc: "cat(cat(x, y), z) along one axis -> cat(x, y, z)",
        apply: cat_chain,
    },
    Rule {
        name: "cat-repeated",
        doc: "cat of parts of size 1, each as often as the others and in a row -> cat of each once, repeated",
        apply: cat_repeated,
    },
    Rule {
        name: "split-repeated",
        doc: "reshape(cat(x, x, …)) that has an axis for the parts -> broadcast(reshape(x))",
        apply: split_repeated,
    },
    Rule {
        name: "cat-of-slices",
        doc: "cat of slices of x that follow each other -> one slice of x",
        apply: cat_of_slices,
    },
];

fn slice_all(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(s), &[x]) = (op, args) else {
        return Ok(None);
    };
    let all = s.step == 1 && s.start.is(0) && b.shape(x).get(s.axis) == Some(&s.stop);
    Ok(all.then_some(x))
}

fn slice_single(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Slice(s) = op else { return Ok(None) };
    let (Some(start), Some(stop)) = (s.start.as_const(), s.stop.as_const()) else {
        return Ok(None);
    };
    if s.step == 1 || stop <= start || stop - start > s.step {
        return Ok(None);
    }
    let single = mv::Slice {
        stop: (start + 1).into(),
        step: 1,
        ..s.clone()
    };
    b.add(single, args).map(Some)
}

fn slice_chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(outer), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Op::Slice(inner) = b.op(y) else {
        return Ok(None);
    };
    if inner.axis != outer.axis || inner.step != 1 {
        return Ok(None);
    }
    let merged = mv::Slice {
        axis: outer.axis,
        start: &inner.start + &outer.start,
        stop: &inner.start + &outer.stop,
        step: outer.step,
    };
    let x = b.arg(y, 0);
    b.add(merged, &[x]).map(Some)
}

fn slice_of_cat(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(s), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Op::Cat(cat) = b.op(y) else {
        return Ok(None);
    };
    if cat.axis != s.axis {
        return Ok(None);
    }
    let cat = cat.clone();
    if s.step != 1 {
        let single = |v: &Value| b.shape(*v).get(s.axis).is_some_and(|d| d.is(1));
        let places = s.start.as_const().zip(s.stop.as_const());
        let places = places.and_then(|(from, to)| Some(from.try_into().ok()?..to.try_into().ok()?));
        let (Some(places), Ok(step), true) = (
            places,
            usize::try_from(s.step),
            b.args(y).iter().all(single),
        ) else {
            return Ok(None);
        };
        let parts = b.args(y).get(places).unwrap_or_default();
        let parts: Vec<Value> = parts.iter().copied().step_by(step.max(1)).collect();
        return match parts.is_empty() {
            true => Ok(None),
            false => b.add(cat, &parts).map(Some),
        };
    }
    let mut end = Dim::from(0i64);
    let mut whole: Option<Vec<Value>> = None;
    for part in b.args(y).to_vec() {
        let start = end.clone();
        let Some(size) = b.shape(part).get(s.axis) else {
            return Ok(None);
        };
        end = &start + size;
        if s.start == start {
            whole = Some(Vec::new());
        }
        if let Some(parts) = &mut whole {
            parts.push(part);
            if s.stop == end {
                return b.add(cat, parts).map(Some);
            }
        }
        if b.at_most(&start, &s.start) && b.at_most(&s.stop, &end) && b.at_most(&s.start, &s.stop) {
            let inner = mv::Slice {
                start: &s.start - &start,
                stop: &s.stop - &start,
                ..s.clone()
            };
            return b.add(inner, &[part]).map(Some);
        }
    }
    Ok(None)
}

/// Less is repeated. Along an axis that isn't repeated the slice moves inside, where it meets what made x.
fn slice_of_broadcast(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(s), &[y]) = (op, args) else {
        return Ok(None);
    };
    if !matches!(b.op(y), Op::Broadcast(_)) {
        return Ok(None);
    }
    let x = b.arg(y, 0);
    let Some(Type::Tensor(out)) = b.infer(op, args) else {
        return Ok(None);
    };
    let lead = out.rank().saturating_sub(b.shape(x).len());
    let inside = s
        .axis
        .checked_sub(lead)
        .filter(|&a| b.shape(x).get(a).is_some_and(|d| !d.is(1)));
    let x = match inside {
        Some(axis) => b.add(mv::Slice { axis, ..s.clone() }, &[x])?,
        None => x,
    };
    b.broadcast(x, out.shape).map(Some)
}

/// Only for one place, as packed projections are taken apart: other parts of a transpose share it.
fn slice_of_transpose(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(s), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Op::Transpose(turn) = b.op(y).clone() else {
        return Ok(None);
    };
    let Some(&axis) = turn.perm.get(s.axis).filter(|_| (&s.stop - &s.start).is(1)) else {
        return Ok(None);
    };
    let x = b.arg(y, 0);
    let part = b.add(mv::Slice { axis, ..s.clone() }, &[x])?;
    b.add(turn, &[part]).map(Some)
}

/// Exact: place j of group i is place n·i + j of all groups in one axis, which the value has already or is given.
fn slice_of_groups(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(_), &[part]) = (op, args) else {
        return Ok(None);
    };
    let Op::Slice(s) = b.op(part).clone() else {
        return Ok(None);
    };
    let grouped = b.arg(part, 0);
    if !matches!(b.op(grouped), Op::Reshape(_)) {
        return Ok(None);
    }
    let x = b.arg(grouped, 0);
    let [outer @ .., groups, n] = b.shape(grouped) else {
        return Ok(None);
    };
    let one = &s.stop - &s.start;
    let (Some(n), Some(start)) = (n.as_const(), s.start.as_const()) else {
        return Ok(None);
    };
    let (axis, groups) = (outer.len(), groups.clone());
    let apart = s.axis == axis + 1 && one.is(1) && n > 1 && b.least(&groups) >= 1;
    let lead = outer.to_vec();
    let shape = [lead.as_slice(), std::slice::from_ref(&groups)].concat();
    let same = b
        .infer(op, args)
        .and_then(|t| t.as_tensor().map(|t| t.shape == shape));
    if !apart || same != Some(true) {
        return Ok(None);
    }
    let x = b.reshape(x, [lead, vec![&groups * &Dim::from(n)]].concat())?;
    let before_last = &(&groups - &Dim::from(1i64)) * &Dim::from(n);
    let strided = mv::Slice {
        axis,
        start: s.start,
        stop: &before_last + &Dim::from(start + 1),
        step: n,
    };
    b.add(strided, &[x]).map(Some)
}

/// Exact: place i of the first axis is the run of places from i·m on, where m is the product of the others. Only where one place is taken, or nothing is left of the division:
/// several parts that stay divided share it.
fn slice_of_split(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(joined), &[part]) = (op, args) else {
        return Ok(None);
    };
    let Op::Slice(s) = b.op(part).clone() else {
        return Ok(None);
    };
    let divided = b.arg(part, 0);
    if s.step != 1 || !matches!(b.op(divided), Op::Reshape(_)) {
        return Ok(None);
    }
    let x = b.arg(divided, 0);
    let (from, to) = (b.shape(x), b.shape(divided));
    let Some((axis, inner)) = first_of_several(to, from, s.axis) else {
        return Ok(None);
    };
    let run = mv::Slice {
        axis,
        start: &s.start * &inner,
        stop: &s.stop * &inner,
        step: 1,
    };
    let one = (&s.stop - &s.start).is(1);
    let whole = b.infer(&run.clone().into(), &[x]);
    let same = whole.is_some_and(|ty| ty.as_tensor().is_some_and(|t| t.shape == joined.shape));
    if !one && !same {
        return Ok(None);
    }
    let shape = joined.shape.clone();
    let part = b.add(run, &[x])?;
    b.reshape(part, shape).map(Some)
}

/// Exact: the places of each part follow those of the one before. One reshape in the place of many.
fn cat_of_raised(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Cat(cat) = op else { return Ok(None) };
    let axis = cat.axis;
    let own = |v: Value| {
        let (raised, x) = (b.shape(v), b.arg(v, 0));
        let without = [raised.get(..axis)?, raised.get(axis + 1..)?].concat();
        let whole = raised.get(axis)?.is(1) && axis + 1 < raised.len();
        (whole && b.shape(x) == without).then_some(x)
    };
    let parts: Option<Vec<Value>> = args
        .iter()
        .map(|v| matches!(b.op(*v), Op::Reshape(_)).then(|| own(*v))?)
        .collect();
    let (Some(parts), Some(Type::Tensor(out))) = (parts, b.infer(op, args)) else {
        return Ok(None);
    };
    if parts.len() < 2 {
        return Ok(None);
    }
    let all = b.add(mv::Cat { axis }, &parts)?;
    b.reshape(all, out.shape).map(Some)
}

/// Exact, and one reshape for several: what a stack of steps is where each step kept its axis.
fn cat_of_lowered(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Cat(cat) = op else { return Ok(None) };
    let axis = cat.axis;
    let own = |v: Value| {
        let (lowered, x) = (b.shape(v), b.arg(v, 0));
        let with = [
            lowered.get(..axis)?,
            &[Dim::from(1i64)],
            lowered.get(axis..)?,
        ]
        .concat();
        (b.shape(x) == with).then_some(x)
    };
    let parts: Option<Vec<Value>> = args
        .iter()
        .map(|v| matches!(b.op(*v), Op::Reshape(_)).then(|| own(*v))?)
        .collect();
    let (Some(parts), Some(Type::Tensor(out))) = (parts, b.infer(op, args)) else {
        return Ok(None);
    };
    let alike = args.iter().all(|v| b.shape(*v) == b.shape(args[0]));
    if parts.len() < 2 || !alike {
        return Ok(None);
    }
    let all = b.add(mv::Cat { axis }, &parts)?;
    b.reshape(all, out.shape).map(Some)
}

/// Where `axis` of the divided shape is the first of several that are one axis of the whole one: that axis, and the size of the others together.
fn first_of_several(divided: &[Dim], whole: &[Dim], axis: usize) -> Option<(usize, Dim)> {
    let groups = groups(divided, whole)?;
    let group = groups.iter().find(|g| g.from.contains(&axis))?;
    let one = |axes: std::ops::Range<usize>, shape: &[Dim]| {
        let mut wide = axes.filter(|a| !shape[*a].is(1));
        wide.next().map(|first| (first, wide.next().is_some()))
    };
    let (to, false) = one(group.to.clone(), whole)? else {
        return None;
    };
    let (first, true) = one(group.from.clone(), divided)? else {
        return None;
    };
    let others = divided[first + 1..group.from.end].iter();
    let inner = others.fold(Dim::from(1i64), |n, d| &n * d);
    (first == axis).then_some((to, inner))
}

fn cat_one(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Cat(cat) = op else { return Ok(None) };
    if let &[x] = args {
        return Ok(Some(x));
    }
    let empty = |v: &Value| b.shape(*v).get(cat.axis).is_some_and(|d| d.is(0));
    let kept: Vec<Value> = args.iter().copied().filter(|v| !empty(v)).collect();
    match (kept.first(), args.first()) {
        (None, Some(&x)) => Ok(Some(x)),
        _ if kept.len() == args.len() => Ok(None),
        _ => b.add(cat.clone(), &kept).map(Some),
    }
}

/// One part changes its sign where all were multiplied.
fn cat_signs(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Mul(_), &[x, y]) = (op, args) else {
        return Ok(None);
    };
    for (joined, signs) in [(x, y), (y, x)] {
        let (Op::Cat(cat), Some(known)) = (b.op(joined).clone(), b.known_floats(signs)) else {
            continue;
        };
        let (shape, own) = (b.shape(joined).to_vec(), b.shape(signs));
        let Some(axis) = (cat.axis + own.len()).checked_sub(shape.len()) else {
            continue;
        };
        let along = own.iter().enumerate().all(|(a, d)| a == axis || d.is(1));
        let kept = b.infer(op, args) == Some(b.ty(joined).clone());
        if !along || !kept || own.get(axis) != shape.get(cat.axis) {
            continue;
        }
        let mut rest = known.as_slice();
        let mut signed = Vec::new();
        for part in b.args(joined) {
            let size = b.shape(*part)[cat.axis].as_const();
            let size = size.and_then(|n| usize::try_from(n).ok());
            let Some((own, behind)) = size.and_then(|n| rest.split_at_checked(n)) else {
                return Ok(None);
            };
            rest = behind;
            match own.first() {
                Some(&sign) if sign.abs() == 1.0 && own.iter().all(|c| *c == sign) => {
                    signed.push((*part, sign < 0.0));
                }
                _ => return Ok(None),
            }
        }
        if signed.iter().filter(|(_, negative)| *negative).count() > 1 {
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(signed.len());
        for (part, negative) in signed {
            parts.push(match negative {
                true => b.add(pw::Neg {}, &[part])?,
                false => part,
            });
        }
        return b.add(cat, &parts).map(Some);
    }
    Ok(None)
}

fn cat_chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Cat(cat) = op else { return Ok(None) };
    let inner = |v: Value| matches!(b.op(v), Op::Cat(c) if c.axis == cat.axis);
    if !args.iter().any(|a| inner(*a)) {
        return Ok(None);
    }
    let flat: Vec<Value> = args
        .iter()
        .flat_map(|&a| {
            if inner(a) {
                b.args(a).to_vec()
            } else {
                vec![a]
            }
        })
        .collect();
    b.add(cat.clone(), &flat).map(Some)
}

fn cat_of_slices(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Cat(cat) = op else { return Ok(None) };
    let piece = |v: Value| match b.op(v) {
        Op::Slice(s) if s.axis == cat.axis && s.step == 1 => {
            Some((b.arg(v, 0), s.start.clone(), s.stop.clone()))
        }
        _ => None,
    };
    for at in 1..args.len() {
        let (Some((x, start, end)), Some((y, from, stop))) = (piece(args[at - 1]), piece(args[at]))
        else {
            continue;
        };
        if x != y || end != from {
            continue;
        }
        let axis = cat.axis;
        let cat = cat.clone();
        let both = b.add(
            mv::Slice {
                axis,
                start,
                stop,
                step: 1,
            },
            &[x],
        )?;
        let mut rest = args.to_vec();
        rest.splice(at - 1..=at, [both]);
        return b.add(cat, &rest).map(Some);
    }
    Ok(None)
}

/// Exact: the same elements. Repeating is a view, and what takes repeated heads takes them once.
fn cat_repeated(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Op::Cat(cat) = op else {
        return Ok(None);
    };
    let axis = cat.axis;
    let one = |v: &Value| b.shape(*v).get(axis).is_some_and(|d| d.is(1));
    let times = args.iter().take_while(|v| args.first() == Some(v)).count();
    let runs: Vec<&[Value]> = args.chunks(times.max(1)).collect();
    let even = runs
        .iter()
        .all(|run| run.len() == times && run.iter().all(|v| v == &run[0]));
    if times < 2 || !even || !args.iter().all(one) {
        return Ok(None);
    }
    let once: Vec<Value> = runs.iter().map(|run| run[0]).collect();
    let x = b.add(cat.clone(), &once)?;
    repeated(b, x, axis, times).map(Some)
}

/// `x` with each place of an axis so many times in a row.
pub(super) fn repeated(
    b: &mut Builder,
    x: Value,
    axis: usize,
    times: usize,
) -> Result<Value, OpError> {
    let mut shape = b.shape(x).to_vec();
    let Some(size) = shape.get(axis).cloned() else {
        return Err(OpError::new("repeated", "has no such axis"));
    };
    let times = Dim::from(times);
    if size.is(1) {
        shape[axis] = times;
        return b.broadcast(x, shape);
    }
    shape.insert(axis + 1, Dim::from(1i64));
    let apart = b.reshape(x, shape.clone())?;
    shape[axis + 1] = times.clone();
    let wide = b.broadcast(apart, shape.clone())?;
    shape.remove(axis + 1);
    shape[axis] = &size * &times;
    b.reshape(wide, shape)
}

/// Exact: the same elements. Parts that are all the same, stacked by way of a longer axis.
fn split_repeated(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(to), &[joined]) = (op, args) else {
        return Ok(None);
    };
    let (Op::Cat(cat), [x, rest @ ..]) = (b.op(joined), b.args(joined)) else {
        return Ok(None);
    };
    if rest.is_empty() || rest.iter().any(|v| v != x) {
        return Ok(None);
    }
    let (x, axis) = (*x, cat.axis);
    let mut apart = b.shape(x).to_vec();
    apart.insert(axis, Dim::from(1i64));
    let mut wide = apart.clone();
    wide[axis] = Dim::from(b.args(joined).len());
    if wide != to.shape {
        return Ok(None);
    }
    let x = b.reshape(x, apart)?;
    b.broadcast(x, wide).map(Some)
}
