//! Integers that lie between known bounds, and rows that are grouped by such a number: a mixture of experts sorts its rows by expert, counts them, and asks for each row whose group it
//! lies in. That is the number it was sorted by.

use super::{Builder, Rewrite, Rule};
use fuseline_ir::ops::{create, table as op};
use fuseline_ir::{DType, Dim, Op, Scalar, Type, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "compare-bounds",
        doc: "x < y, x ≤ y of integers whose bounds decide it -> true or false",
        apply: compare,
    },
    Rule {
        name: "within-bounds",
        doc: "max(x, n), min(x, n) of integers that are never beyond n, and x mod n of those in 0..n -> x",
        apply: within,
    },
    Rule {
        name: "group-of-row",
        doc: "how many groups end at or before row n, of rows sorted by group -> the group that row n was sorted by",
        apply: group_of_row,
    },
    Rule {
        name: "end-of-groups",
        doc: "where the last of all groups ends -> the number of rows",
        apply: end_of_groups,
    },
];

/// How far a value is looked through for its bounds.
const DEPTH: usize = 12;

/// Whole numbers up to here are all numbers of `f32`.
const EXACT: i64 = 1 << 24;

/// The least and the greatest integer that the value holds, where something says so.
fn bounds(b: &Builder, v: Value, depth: usize) -> Option<(Dim, Dim)> {
    let of = |n: usize| bounds(b, *b.args(v).get(n)?, depth.checked_sub(1)?);
    let known = |d: &Dim| d.as_const();
    match b.op(v) {
        Op::Full(full) => match full.value {
            Scalar::Int(n) => Some((n.into(), n.into())),
            _ => None,
        },
        Op::IntTensor(_) => match b.ty(b.arg(v, 0)) {
            Type::Int(size) => Some((size.clone(), size.clone())),
            _ => None,
        },
        Op::Arange(a) => {
            let step = known(&a.step).filter(|step| *step >= 0)?;
            let steps = &(&a.len - &Dim::from(1i64)) * &Dim::from(step);
            Some((a.start.clone(), &a.start + &steps))
        }
        Op::Argsort(sort) => {
            let last = b.shape(v).get(sort.axis)? - &Dim::from(1i64);
            Some((0i64.into(), last))
        }
        Op::Argmax(op::Argmax { axis, .. }) | Op::Argmin(op::Argmin { axis, .. }) => {
            let last = b.shape(b.arg(v, 0)).get(*axis)? - &Dim::from(1i64);
            Some((0i64.into(), last))
        }
        // Of values whose bounds are the same.
        Op::Cat(_) | Op::Where(_) => {
            let skip = usize::from(matches!(b.op(v), Op::Where(_)));
            let mut all = (skip..b.args(v).len()).map(of);
            let first = all.next()??;
            all.all(|other| other.as_ref() == Some(&first))
                .then_some(first)
        }
        Op::Sort(_)
        | Op::Slice(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Flip(_)
        | Op::Take(_)
        | Op::TakeAlong(_) => of(0),
        Op::Cast(_) => {
            let (least, most) = of(0)?;
            let dtype = b.dtype(v)?;
            let fits = |d: &Dim| match (dtype, known(d)) {
                (DType::I64, _) => true,
                (DType::I32 | DType::F32 | DType::F64, Some(n)) => n.abs() <= EXACT,
                _ => false,
            };
            (fits(&least) && fits(&most)).then_some((least, most))
        }
        // Neither wraps where the bounds are small.
        op @ (Op::Add(_) | Op::Sub(_)) => {
            let ((least, most), (low, high)) = (of(0)?, of(1)?);
            let few = |d: &Dim| known(d).is_some_and(|n| n.abs() <= EXACT);
            if ![&least, &most, &low, &high].into_iter().all(few) {
                return None;
            }
            Some(match op {
                Op::Add(_) => (&least + &low, &most + &high),
                _ => (&least - &high, &most - &low),
            })
        }
        _ => None,
    }
}

fn is_int(b: &Builder, v: Value) -> bool {
    b.dtype(v).is_some_and(DType::is_int)
}

fn compare(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Lt(_) | Op::Le(_), &[x, y]) = (op, args) else {
        return Ok(None);
    };
    if !is_int(b, x) || !is_int(b, y) {
        return Ok(None);
    }
    let (Some((least, most)), Some((low, high))) = (bounds(b, x, DEPTH), bounds(b, y, DEPTH))
    else {
        return Ok(None);
    };
    let one = Dim::from(1i64);
    let gap = if matches!(op, Op::Lt(_)) {
        one
    } else {
        Dim::from(0i64)
    };
    // x + gap ≤ y is what is asked.
    let holds = b.at_most(&(&most + &gap), &low);
    let fails = b.at_most(&(&high + &Dim::from(1i64)), &(&least + &gap));
    let Some(ty) = b.infer(op, args).and_then(|t| t.as_tensor().cloned()) else {
        return Ok(None);
    };
    if holds == fails {
        return Ok(None);
    }
    b.full(Scalar::Bool(holds), ty).map(Some)
}

fn within(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let sides = match op {
        Op::Maximum(_) | Op::Minimum(_) => vec![(x, y), (y, x)],
        Op::Remainder(_) => vec![(x, y)],
        _ => return Ok(None),
    };
    if !is_int(b, x) {
        return Ok(None);
    }
    for (x, limit) in sides {
        let (Some(Scalar::Int(n)), Some((low, high))) = (b.literal(limit), bounds(b, x, DEPTH))
        else {
            continue;
        };
        let (n, one) = (Dim::from(n), Dim::from(1i64));
        let kept = match op {
            Op::Minimum(_) => b.at_most(&high, &n),
            Op::Maximum(_) => b.at_most(&n, &low),
            _ => b.at_most(&0i64.into(), &low) && b.at_most(&(&high + &one), &n),
        };
        if kept {
            return super::arith::stand_in(b, op, args, x);
        }
    }
    Ok(None)
}

/// What a value was before casts between integers and floats that hold them.
fn uncast(b: &Builder, mut v: Value) -> Value {
    let holds = |d: DType| matches!(d, DType::I32 | DType::I64 | DType::F32 | DType::F64);
    while matches!(b.op(v), Op::Cast(_)) {
        let x = b.arg(v, 0);
        if !b.dtype(v).is_some_and(holds) || !b.dtype(x).is_some_and(holds) {
            break;
        }
        v = x;
    }
    v
}

/// The numbers of groups, one for each row, of which the value says where each group ends: the running sum of how often each number occurs, all of them counted.
fn grouped_by(b: &Builder, ends: Value) -> Option<Value> {
    let ends = uncast(b, ends);
    let (Op::Cumsum(sum), [groups]) = (b.op(ends), b.shape(ends)) else {
        return None;
    };
    let counts = uncast(b, b.arg(ends, 0));
    let Op::ScatterAdd(_) = b.op(counts) else {
        return None;
    };
    let (none, numbers, once) = (b.arg(counts, 0), b.arg(counts, 1), b.arg(counts, 2));
    let is = |v: Value, n: f64| b.literal(v).is_some_and(|s| s.as_f64() == n);
    let (low, high) = bounds(b, numbers, DEPTH)?;
    let counted = b.at_most(&0i64.into(), &low) && b.at_most(&(&high + &Dim::from(1i64)), groups);
    let [rows] = b.shape(numbers) else {
        return None;
    };
    // Counts in floats are exact as far as these hold all integers.
    let few = b.most(rows) <= EXACT;
    (sum.axis == 0 && is(none, 0.0) && is(once, 1.0) && counted && few).then_some(numbers)
}

/// Exact: of rows sorted by group, those up to and including group g are as many as lie before the end of g.
fn group_of_row(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Sum(sum), &[passed]) = (op, args) else {
        return Ok(None);
    };
    if !matches!(b.op(passed), Op::Le(_)) || sum.axes != [1] || sum.keepdim {
        return Ok(None);
    }
    let (ends, rows) = (b.arg(passed, 0), b.arg(passed, 1));
    let Some(numbers) = grouped_by(b, ends) else {
        return Ok(None);
    };
    let count = b.shape(numbers).to_vec();
    let mut row = rows;
    while matches!(b.op(row), Op::Reshape(_) | Op::Cast(_)) {
        row = b.arg(row, 0);
    }
    let (one, zero) = (Dim::from(1i64), Dim::from(0i64));
    let counts = match b.op(row) {
        Op::Arange(a) => a.start == zero && a.step == one && [a.len.clone()] == *count,
        _ => false,
    };
    let column = [count.as_slice(), &[one]].concat();
    let sorted = matches!(b.op(uncast(b, numbers)), Op::Sort(_));
    if !counts || *b.shape(rows) != *column || !sorted {
        return Ok(None);
    }
    let Some(dtype) = b.infer(op, args).and_then(|t| Some(t.as_tensor()?.dtype)) else {
        return Ok(None);
    };
    b.cast(numbers, dtype).map(Some)
}

/// Exact: every row is in a group.
fn end_of_groups(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(slice), &[ends]) = (op, args) else {
        return Ok(None);
    };
    let one = Dim::from(1i64);
    let last = b.shape(ends) == [slice.stop.clone()] && &slice.start + &one == slice.stop;
    let (true, Some(numbers), Some(dtype)) = (last, grouped_by(b, ends), b.dtype(ends)) else {
        return Ok(None);
    };
    let Some(rows) = b.shape(numbers).first().cloned() else {
        return Ok(None);
    };
    let rows = b.add(create::Size { value: rows }, &[])?;
    let rows = b.add(create::IntTensor { dtype: DType::I64 }, &[rows])?;
    let rows = b.cast(rows, dtype)?;
    b.reshape(rows, vec![one]).map(Some)
}
