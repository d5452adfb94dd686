//! Choices between numbers: masks and their arithmetic become one choice by one condition.

use super::arith::stand_in;
use super::literal::evaluated;
use super::{Builder, Rewrite, Rule};
use fuseline_ir::ops::pointwise as pw;
use fuseline_ir::{DType, Op, Scalar, Type, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "chosen-number",
        doc: "f(where(c, a, b), n) of numbers a, b, n -> where(c, f(a, n), f(b, n)); a truth value cast to numbers counts as such a choice",
        apply: number,
    },
    Rule {
        name: "chosen-numbers",
        doc: "f(where(c, a, b), where(d, m, n)) of numbers that takes two values -> one choice by c and d, c or d, or one of them alone",
        apply: numbers,
    },
    Rule {
        name: "chosen-compared",
        doc: "f(where(c, a, b), where(d, m, n)) compared with a number -> what that is of c and d",
        apply: compared,
    },
    Rule {
        name: "chosen-reshaped",
        doc: "reshape(where(c, a, b)) of numbers a, b -> where(reshape(c), a, b); a truth value cast to numbers alike",
        apply: reshaped,
    },
    Rule {
        name: "chosen-twice",
        doc: "where(c, where(d, x, n), n) -> where(c and d, x, n), also with a not where n stands first; where(c, where(c, x, y), z) -> where(c, x, z)",
        apply: twice,
    },
    Rule {
        name: "and-not-both",
        doc: "x and not (x and y) -> x and not y, of truth values of one shape",
        apply: and_not_both,
    },
];

/// A value that is one of two numbers.
struct Choice {
    condition: Value,
    yes: Scalar,
    no: Scalar,
    dtype: DType,
}

impl Choice {
    fn of(b: &Builder, v: Value) -> Option<Choice> {
        let dtype = b.dtype(v)?;
        let (condition, yes, no) = match (b.op(v), b.args(v)) {
            (Op::Where(_), &[c, x, y]) => (c, b.literal(x)?, b.literal(y)?),
            (Op::Cast(_), &[c]) if b.dtype(c) == Some(DType::Bool) => {
                let of = |t: bool| Scalar::Bool(t).cast(dtype);
                (c, of(true), of(false))
            }
            _ => return None,
        };
        let bool = b.dtype(condition) == Some(DType::Bool);
        bool.then_some(Choice {
            condition,
            yes,
            no,
            dtype,
        })
    }
}

/// Whether the op computes an element from an element, and isn't a choice itself.
fn computes(b: &Builder, op: &Op, args: &[Value]) -> Option<DType> {
    let fits = Builder::is_pointwise(op) && !matches!(op, Op::Where(_)) && !args.is_empty();
    match b.infer(op, args)? {
        Type::Tensor(out) if fits => Some(out.dtype),
        _ => None,
    }
}

/// The choice between two numbers of a dtype, where it has the type of `op(args)`.
fn chosen(
    b: &mut Builder,
    (op, args): (&Op, &[Value]),
    condition: Value,
    (yes, no): (Scalar, Scalar),
    dtype: DType,
) -> Rewrite {
    let (x, y) = (b.scalar(yes, dtype)?, b.scalar(no, dtype)?);
    choose(b, (op, args), condition, (x, y))
}

/// Exact: each element is the op of the same numbers. A truth value that is only cast stays as it is.
fn number(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Some(out) = computes(b, op, args) else {
        return Ok(None);
    };
    let choices: Vec<usize> = (0..args.len())
        .filter(|n| b.literal(args[*n]).is_none())
        .collect();
    let &[at] = choices.as_slice() else {
        return Ok(None);
    };
    let Some(choice) = Choice::of(b, args[at]) else {
        return Ok(None);
    };
    let numbers = |of: Scalar| {
        let each = args.iter().enumerate().map(|(n, a)| {
            let number = if n == at { Some(of) } else { b.literal(*a) };
            Some((number?, b.dtype(*a)?))
        });
        each.collect::<Option<Vec<_>>>()
    };
    let (Some(yes), Some(no)) = (numbers(choice.yes), numbers(choice.no)) else {
        return Ok(None);
    };
    let made = (evaluated(op, &yes, out)?, evaluated(op, &no, out)?);
    let (Some(yes), Some(no)) = made else {
        return Ok(None);
    };
    chosen(b, (op, args), choice.condition, (yes, no), out)
}

/// Exact, and it is truth values that get their shape.
fn reshaped(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(to), &[v]) = (op, args) else {
        return Ok(None);
    };
    let Some(choice) = Choice::of(b, v).filter(|c| b.shape(c.condition) == b.shape(v)) else {
        return Ok(None);
    };
    let condition = b.reshape(choice.condition, to.shape.clone())?;
    match b.op(v).clone() {
        Op::Cast(cast) => b.add(cast, &[condition]).map(Some),
        _ => chosen(
            b,
            (op, args),
            condition,
            (choice.yes, choice.no),
            choice.dtype,
        ),
    }
}

/// Exact: of the four pairs of numbers all but one give the same, or only one of the two conditions matters.
fn numbers(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Some(out), &[x, y]) = (computes(b, op, args), args) else {
        return Ok(None);
    };
    let (Some(x), Some(y)) = (Choice::of(b, x), Choice::of(b, y)) else {
        return Ok(None);
    };
    let mut made = Vec::with_capacity(4);
    for (m, n) in [(x.yes, y.yes), (x.yes, y.no), (x.no, y.yes), (x.no, y.no)] {
        let pair = [(m, x.dtype), (n, y.dtype)];
        let Some(number) = evaluated(op, &pair, out)? else {
            return Ok(None);
        };
        made.push(number);
    }
    let (c, d) = (x.condition, y.condition);
    let (condition, numbers) = match *made.as_slice() {
        // The same condition twice.
        [p, _, _, q] if c == d => (c, (p, q)),
        [p, q, r, s] if q == r && r == s => (b.add(pw::LogicalAnd {}, &[c, d])?, (p, q)),
        [p, q, r, s] if p == q && q == r => (b.add(pw::LogicalOr {}, &[c, d])?, (p, s)),
        _ => return Ok(None),
    };
    chosen(b, (op, args), condition, numbers, out)
}

/// Exact, and the conditions meet before what is wide.
fn twice(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Where(_), &[c, x, y]) = (op, args) else {
        return Ok(None);
    };
    let inner = |v: Value| match (b.op(v), b.args(v)) {
        (Op::Where(_), &[d, x, y]) => Some((d, x, y)),
        _ => None,
    };
    let same = |a: Value, z: Value| {
        let number = b.literal(a).is_some() && b.literal(a) == b.literal(z);
        a == z || (number && b.dtype(a) == b.dtype(z))
    };
    // A choice by the same condition again is made already.
    let again = match (inner(x), inner(y)) {
        (Some((d, x, _)), _) if d == c => Some((x, y)),
        (_, Some((d, _, y))) if d == c => Some((x, y)),
        _ => None,
    };
    if let Some((x, y)) = again {
        return choose(b, (op, args), c, (x, y));
    }
    // Where it is neither hidden here nor there.
    let (c, c_shows, d, d_shows, x, n) = match (inner(x), inner(y)) {
        (Some((d, x, n)), _) if same(n, y) => (c, true, d, true, x, n),
        (Some((d, n, x)), _) if same(n, y) => (c, true, d, false, x, n),
        (_, Some((d, n, x))) if same(n, args[1]) => (c, false, d, false, x, n),
        (_, Some((d, x, n))) if same(n, args[1]) => (c, false, d, true, x, n),
        _ => return Ok(None),
    };
    let mut shown = |condition: Value, shows: bool| {
        if shows {
            Ok(condition)
        } else {
            b.add(pw::LogicalNot {}, &[condition])
        }
    };
    let (c, d) = (shown(c, c_shows)?, shown(d, d_shows)?);
    let both = b.add(pw::LogicalAnd {}, &[c, d])?;
    choose(b, (op, args), both, (x, n))
}

/// The choice between two values, where it has the type of `op(args)`.
fn choose(
    b: &mut Builder,
    (op, args): (&Op, &[Value]),
    condition: Value,
    (x, y): (Value, Value),
) -> Rewrite {
    let choice = Op::from(pw::Where {});
    if b.infer(&choice, &[condition, x, y]) != b.infer(op, args) {
        return Ok(None);
    }
    b.add(choice, &[condition, x, y]).map(Some)
}

/// Exact: for each pair of truth values the comparison is made now.
fn compared(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let compares = matches!(op, Op::Eq(_) | Op::Ne(_) | Op::Lt(_) | Op::Le(_));
    let &[l, r] = args else { return Ok(None) };
    let (sum, number, at) = match (b.literal(l), b.literal(r)) {
        (None, Some(number)) => (l, number, 0),
        (Some(number), None) => (r, number, 1),
        _ => return Ok(None),
    };
    let &[x, y] = b.args(sum) else {
        return Ok(None);
    };
    let inner = b.op(sum).clone();
    let Some(dtype) = computes(b, &inner, &[x, y]).filter(|_| compares) else {
        return Ok(None);
    };
    let (Some(x), Some(y)) = (Choice::of(b, x), Choice::of(b, y)) else {
        return Ok(None);
    };
    let mut holds = Vec::with_capacity(4);
    for (m, n) in [(x.yes, y.yes), (x.yes, y.no), (x.no, y.yes), (x.no, y.no)] {
        let pair = [(m, x.dtype), (n, y.dtype)];
        let Some(sum) = evaluated(&inner, &pair, dtype)? else {
            return Ok(None);
        };
        let mut pair = [(number, dtype); 2];
        pair[at] = (sum, dtype);
        let Some(Scalar::Bool(truth)) = evaluated(op, &pair, DType::Bool)? else {
            return Ok(None);
        };
        holds.push(truth);
    }
    let (c, d) = (x.condition, y.condition);
    let not = |b: &mut Builder, v: Value| b.add(pw::LogicalNot {}, &[v]);
    let made = match holds.as_slice() {
        [true, false, false, false] => b.add(pw::LogicalAnd {}, &[c, d])?,
        [false, true, false, false] => {
            let d = not(b, d)?;
            b.add(pw::LogicalAnd {}, &[c, d])?
        }
        [false, false, true, false] => {
            let c = not(b, c)?;
            b.add(pw::LogicalAnd {}, &[c, d])?
        }
        [false, true, true, true] => {
            let both = b.add(pw::LogicalAnd {}, &[c, d])?;
            not(b, both)?
        }
        [true, true, true, false] => b.add(pw::LogicalOr {}, &[c, d])?,
        [false, false, false, true] => {
            let one = b.add(pw::LogicalOr {}, &[c, d])?;
            not(b, one)?
        }
        [false, true, true, false] => b.add(pw::Ne {}, &[c, d])?,
        [true, false, false, true] => b.add(pw::Eq {}, &[c, d])?,
        _ => return Ok(None),
    };
    stand_in(b, op, args, made)
}

/// x and y of `not (x and y)`.
fn not_both(b: &Builder, v: Value) -> Option<(Value, Value)> {
    if !matches!(b.op(v), Op::LogicalNot(_)) {
        return None;
    }
    let and = b.arg(v, 0);
    match (b.op(and), b.args(and)) {
        (Op::LogicalAnd(_), &[x, y]) => Some((x, y)),
        _ => None,
    }
}

/// Exact.
fn and_not_both(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::LogicalAnd(_), &[l, r]) = (op, args) else {
        return Ok(None);
    };
    let bools = args.iter().all(|v| b.dtype(*v) == Some(DType::Bool));
    for (x, both) in [(l, r), (r, l)] {
        let other = match not_both(b, both) {
            Some((y, z)) if y == x => z,
            Some((z, y)) if y == x => z,
            _ => continue,
        };
        if bools && b.dtype(other) == Some(DType::Bool) {
            let not = b.add(pw::LogicalNot {}, &[other])?;
            let and = Op::from(pw::LogicalAnd {});
            if b.infer(&and, &[x, not]) == b.infer(op, args) {
                return b.add(and, &[x, not]).map(Some);
            }
        }
    }
    Ok(None)
}
