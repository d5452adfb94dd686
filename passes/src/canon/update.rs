//! Reads and writes by index that are slices.

use super::{Builder, Rewrite, Rule};
use crate::closed_form::{Expr, Form};
use fuseline_ir::ops::{index, movement as mv};
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "take-slice",
        doc: "take(x, n) of a known n, take(x, arange) -> slice(x)",
        apply: take,
    },
    Rule {
        name: "take-rotated",
        doc: "take(x, i) where i counts from within the axis to its end and goes on at 0 -> cat of two slices; x where it starts at 0",
        apply: take_rotated,
    },
    Rule {
        name: "take-repeated",
        doc: "take(x, indices) that count 0, 0, 1, 1, … over the axis -> x, each place repeated",
        apply: take_repeated,
    },
    Rule {
        name: "index-copy-slice",
        doc: "index_copy(x, arange, y) -> slice_update(x, y)",
        apply: index_copy,
    },
    Rule {
        name: "where-slice",
        doc: "where(arange = n, y, x) of a place n that is known to lie within the axis -> slice_update(x, y)",
        apply: where_slice,
    },
    Rule {
        name: "update-all",
        doc: "slice_update of a whole axis, twice of the same slice -> the last source",
        apply: update_all,
    },
    Rule {
        name: "update-tiled",
        doc: "slice_updates one upon another whose slices are all of an axis -> cat of their sources; of every n-th place, by way of an axis of size n",
        apply: update_tiled,
    },
    Rule {
        name: "slice-of-update",
        doc: "slice(slice_update(x, y)) of the same slice -> y; of places beside it -> slice(x)",
        apply: slice_of_update,
    },
];

/// The steps that rising indices within an axis take, where they are known to lie within it: start, step, count.
fn run(b: &Builder, indices: Value, size: &Dim) -> Option<(Dim, i64, Dim)> {
    let (start, step, len) = match b.op(indices) {
        Op::Reshape(_) => return run(b, b.arg(indices, 0), size),
        Op::Arange(a) => (a.start.clone(), a.step.as_const()?, a.len.clone()),
        Op::Full(full) if full.ty.shape.iter().all(|d| d.is(1)) => match full.value {
            // A negative index counts from the end.
            Scalar::Int(n) if n < 0 => (size + &Dim::from(n), 1, Dim::from(1i64)),
            Scalar::Int(n) => (Dim::from(n), 1, Dim::from(1i64)),
            _ => return None,
        },
        _ => return None,
    };
    let one = Dim::from(1i64);
    let last = &start + &(&(&len - &one) * &Dim::from(step));
    let inside =
        step >= 1 && b.least(&start) >= 0 && b.least(&len) >= 1 && b.at_most(&(&last + &one), size);
    inside.then_some((start, step, len))
}

/// Exact: the same elements. Fires only where every index is known to be in range.
fn take(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Take(take), &[x, indices]) = (op, args) else {
        return Ok(None);
    };
    let Some(size) = b.shape(x).get(take.axis).cloned() else {
        return Ok(None);
    };
    let Some((start, step, len)) = run(b, indices, &size) else {
        return Ok(None);
    };
    let Some(out) = b.infer(op, args).and_then(|t| t.as_tensor().cloned()) else {
        return Ok(None);
    };
    let one = Dim::from(1i64);
    let stop = &(&start + &(&(&len - &one) * &Dim::from(step))) + &one;
    let axis = take.axis;
    let part = b.add(
        mv::Slice {
            axis,
            start,
            stop,
            step,
        },
        &[x],
    )?;
    b.reshape(part, out.shape).map(Some)
}

/// The longest axis of which every index is looked at.
const FEW: i64 = 1024;

/// Exact: the same elements. As a decomposed `roll` takes them, whatever arithmetic leads to its indices.
fn take_rotated(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Take(take), &[x, indices]) = (op, args) else {
        return Ok(None);
    };
    let axis = take.axis;
    let size = b.shape(x).get(axis).and_then(Dim::as_const);
    let (Some(size), Some(form)) = (size.filter(|n| *n <= FEW), b.form(indices)) else {
        return Ok(None);
    };
    if b.shape(indices).iter().map(Dim::as_const).ne([Some(size)]) {
        return Ok(None);
    }
    let at = |i: i64| {
        let index = Form::number(DType::I64, Scalar::Int(i));
        match form.substitute(&|_| index.clone()).literal()? {
            Scalar::Int(n) => Some(n),
            _ => None,
        }
    };
    let Some(first) = at(0).filter(|n| (0..size).contains(n)) else {
        return Ok(None);
    };
    if !(1..size).all(|i| at(i) == Some((first + i) % size)) {
        return Ok(None);
    }
    if first == 0 {
        return Ok(Some(x));
    }
    let mut parts = Vec::with_capacity(2);
    for (start, stop) in [(first, size), (0, first)] {
        let slice = mv::Slice {
            axis,
            start: start.into(),
            stop: stop.into(),
            step: 1,
        };
        parts.push(b.add(slice, &[x])?);
    }
    b.add(mv::Cat { axis }, &parts).map(Some)
}

/// Whether index n is ⌊n / times⌋: as a constant, or computed.
fn counts(b: &Builder, indices: Value, times: usize) -> bool {
    if let Some(places) = b.known_integers(indices) {
        let in_turn = |(n, place): (usize, &i64)| usize::try_from(*place) == Ok(n / times);
        return places.iter().enumerate().all(in_turn);
    }
    let form = b.form_of(b.op(indices), b.args(indices));
    let Some(Expr::Apply(Op::FloorDiv(_), args)) = form.as_ref().map(|f| &f.expr) else {
        return false;
    };
    let [index, by] = args.as_slice() else {
        return false;
    };
    let by = by.literal().map(Scalar::as_f64);
    index.expr == Expr::Index(0) && by == Some(times as f64)
}

/// Exact: the same elements, as a view.
fn take_repeated(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Take(take), &[x, indices]) = (op, args) else {
        return Ok(None);
    };
    let (Some(size), [len]) = (b.shape(x).get(take.axis), b.shape(indices)) else {
        return Ok(None);
    };
    let times = len.exact_div(size).and_then(|n| n.as_const());
    let times = times.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    if times < 2 || !counts(b, indices, times) {
        return Ok(None);
    }
    super::slice::repeated(b, x, take.axis, times).map(Some)
}

fn index_copy(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::IndexCopy(copy), &[x, indices, source]) = (op, args) else {
        return Ok(None);
    };
    let Some(size) = b.shape(x).get(copy.axis).cloned() else {
        return Ok(None);
    };
    let Some((start, step, _)) = run(b, indices, &size) else {
        return Ok(None);
    };
    let axis = copy.axis;
    b.add(index::SliceUpdate { axis, start, step }, &[x, source])
        .map(Some)
}

/// Exact: one place along the axis gets y, the others keep x. Not for a place that may lie outside, where nothing is written.
fn where_slice(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Where(_), &[c, y, x]) = (op, args) else {
        return Ok(None);
    };
    let Some(out) = b.infer(op, args).filter(|ty| ty == b.ty(x)) else {
        return Ok(None);
    };
    let form = b.form_of(b.op(c), b.args(c));
    let Some(Expr::Apply(Op::Eq(_), sides)) = form.as_ref().map(|f| &f.expr) else {
        return Ok(None);
    };
    let place = match sides.as_slice() {
        [index, place] | [place, index] if matches!(index.expr, Expr::Index(_)) => {
            place.as_dim().map(|place| (index, place))
        }
        _ => None,
    };
    let (Some((Expr::Index(at), start)), Some(ty)) = (
        place.map(|(index, place)| (index.expr.clone(), place)),
        out.as_tensor(),
    ) else {
        return Ok(None);
    };
    // The condition's axes are the last ones of the result.
    let lead = ty.rank() - b.shape(c).len();
    let axis = at + lead;
    let one = Dim::from(1i64);
    let inside = b.least(&start) >= 0 && b.at_most(&(&start + &one), &ty.shape[axis]);
    let mut shape = ty.shape.clone();
    shape[axis] = one;
    let own = b.shape(y);
    let along = (own.len() + axis).checked_sub(ty.rank());
    let narrow = along.is_none_or(|a| own[a].is(1));
    if !inside || !narrow || b.dtype(y) != Some(ty.dtype) {
        return Ok(None);
    }
    let y = b.broadcast(y, shape)?;
    let step = 1;
    b.add(index::SliceUpdate { axis, start, step }, &[x, y])
        .map(Some)
}

fn update_all(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::SliceUpdate(update), &[x, source]) = (op, args) else {
        return Ok(None);
    };
    if b.ty(x) == b.ty(source) && update.start.is(0) && update.step == 1 {
        return Ok(Some(source));
    }
    let again = matches!(b.op(x), Op::SliceUpdate(inner) if inner == update)
        && b.ty(b.arg(x, 1)) == b.ty(source);
    if !again {
        return Ok(None);
    }
    let x = b.arg(x, 0);
    b.add(update.clone(), &[x, source]).map(Some)
}

/// Exact: nothing of what was there before is left.
fn update_tiled(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::SliceUpdate(last), &[x, _]) = (op, args) else {
        return Ok(None);
    };
    let (axis, step) = (last.axis, last.step);
    let Some(size) = b.shape(x).get(axis).and_then(Dim::as_const) else {
        return Ok(None);
    };
    // Start, length and source of each, the last one first.
    let mut parts: Vec<(i64, i64, Value)> = Vec::new();
    let (mut update, mut source, mut below) = (last.clone(), args[1], x);
    loop {
        let len = b.shape(source).get(axis).and_then(Dim::as_const);
        let (Some(start), Some(len)) = (update.start.as_const(), len) else {
            return Ok(None);
        };
        let first = parts.is_empty();
        if update.axis != axis || update.step != step || len < 1 || start < 0 || parts.len() > 8 {
            return Ok(None);
        }
        // What a later update covers is not looked for: a second one of the same places spoils the tiling below.
        parts.push((start, len, source));
        let covered: i64 = parts.iter().map(|(_, len, _)| len).sum();
        if covered == size && !first {
            break;
        }
        match b.op(below) {
            Op::SliceUpdate(inner) => {
                update = inner.clone();
                (source, below) = (b.arg(below, 1), b.arg(below, 0));
            }
            _ => return Ok(None),
        }
    }
    parts.sort_by_key(|(start, ..)| *start);
    let count = i64::try_from(parts.len()).unwrap_or(i64::MAX);
    let runs = step == 1
        && parts
            .iter()
            .scan(0, |end, (start, len, _)| {
                let here = *end == *start;
                *end += len;
                Some(here)
            })
            .all(|here| here);
    let strides = step > 1
        && step == count
        && (0..count)
            .zip(&parts)
            .all(|(n, (start, len, _))| n == *start && len * count == size);
    let sources: Vec<Value> = parts.iter().map(|(.., source)| *source).collect();
    if runs {
        return b.add(mv::Cat { axis }, &sources).map(Some);
    }
    if !strides {
        return Ok(None);
    }
    let shape = b.shape(x).to_vec();
    let mut columns = Vec::new();
    for source in sources {
        let mut column = b.shape(source).to_vec();
        column.insert(axis + 1, Dim::from(1i64));
        columns.push(b.reshape(source, column)?);
    }
    let all = b.add(mv::Cat { axis: axis + 1 }, &columns)?;
    b.reshape(all, shape).map(Some)
}

/// Exact: the same elements, and those beside what was written are as they were.
fn slice_of_update(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(s), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Op::SliceUpdate(update) = b.op(y) else {
        return Ok(None);
    };
    let (x, source) = (b.arg(y, 0), b.arg(y, 1));
    let same = update.axis == s.axis && update.start == s.start && update.step == s.step;
    if same && b.infer(op, args).as_ref() == Some(b.ty(source)) {
        return Ok(Some(source));
    }
    let Some(count) = b.shape(source).get(s.axis) else {
        return Ok(None);
    };
    let runs = update.axis == s.axis && update.step == 1 && s.step >= 1;
    // A negative start counts from the end.
    let known = runs && b.least(&update.start) >= 0;
    let before = b.at_most(&s.stop, &update.start);
    let behind = b.at_most(&(&update.start + count), &s.start);
    if !known || !(before || behind) {
        return Ok(None);
    }
    b.add(s.clone(), &[x]).map(Some)
}
