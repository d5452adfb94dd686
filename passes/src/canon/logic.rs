//! Comparisons, truth values and choices.

use super::arith::stand_in;
use super::cast::keeps;
use super::{Builder, Rewrite, Rule};
use fuseline_ir::ops::{pointwise as pw, reduce};
use fuseline_ir::{DType, Op, Scalar, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "less-only",
        doc: "a > b -> b < a; a ≥ b -> b ≤ a",
        apply: less_only,
    },
    Rule {
        name: "not-comparison",
        doc: "not (a = b) -> a ≠ b and back; of integers also not (a < b) -> b ≤ a, not (a ≤ b) -> b < a",
        apply: not_comparison,
    },
    Rule {
        name: "double-not",
        doc: "not not x -> x of truth values",
        apply: double_not,
    },
    Rule {
        name: "not-any-not",
        doc: "not any(not x) -> all(x) of truth values",
        apply: not_any_not,
    },
    Rule {
        name: "bitwise-bool",
        doc: "bitwise ops of truth values -> logical ones; xor -> ≠",
        apply: bitwise,
    },
    Rule {
        name: "compare-bool",
        doc: "x = true, x ≠ false -> x; x = false, x ≠ true -> not x of truth values; cast to bool of integers that were truth values",
        apply: compare_bool,
    },
    Rule {
        name: "compare-self",
        doc: "x = x, x ≤ x -> true; x ≠ x, x < x -> false of integers",
        apply: compare_self,
    },
    Rule {
        name: "and-or",
        doc: "x and true, x or false, x and x, x or x -> x; x and false -> false; x or true -> true",
        apply: and_or,
    },
    Rule {
        name: "where-known",
        doc: "where(true, a, b) -> a; where(false, a, b) -> b; where(c, a, a) -> a",
        apply: where_known,
    },
    Rule {
        name: "where-not",
        doc: "where(not c, a, b) -> where(c, b, a)",
        apply: where_not,
    },
    Rule {
        name: "where-less",
        doc: "where(a < b, x, y) -> where(b ≤ a, y, x) of integers",
        apply: where_less,
    },
    Rule {
        name: "where-bool",
        doc: "where(c, true, false) -> c; where(c, false, true) -> not c; where(c, true, b) -> c or b; where(c, a, false) -> c and a",
        apply: where_bool,
    },
];

fn not_any_not(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::LogicalNot(_), &[any]) = (op, args) else {
        return Ok(None);
    };
    let Op::Any(reduce::Any { axes, keepdim }) = b.op(any).clone() else {
        return Ok(None);
    };
    let not = b.arg(any, 0);
    if !matches!(b.op(not), Op::LogicalNot(_)) || !is_bool(b, b.arg(not, 0)) {
        return Ok(None);
    }
    let x = b.arg(not, 0);
    b.add(reduce::All { axes, keepdim }, &[x]).map(Some)
}

fn is_bool(b: &Builder, v: Value) -> bool {
    b.dtype(v) == Some(DType::Bool)
}

/// The truth value that every element has.
fn truth(b: &Builder, v: Value) -> Option<bool> {
    match b.literal(v) {
        Some(Scalar::Bool(t)) => Some(t),
        _ => None,
    }
}

/// Exact, NaN included: both are false then.
fn less_only(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    match op {
        Op::Gt(_) => b.add(pw::Lt {}, &[y, x]).map(Some),
        Op::Ge(_) => b.add(pw::Le {}, &[y, x]).map(Some),
        _ => Ok(None),
    }
}

/// Of floats only = and ≠ are each other's opposites: NaN is neither less than, nor greater than, nor equal to anything.
fn not_comparison(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::LogicalNot(_), &[c]) = (op, args) else {
        return Ok(None);
    };
    let &[x, y] = b.args(c) else { return Ok(None) };
    let ordered = b.dtype(x).is_some_and(|d| !d.is_float());
    match b.op(c) {
        Op::Eq(_) => b.add(pw::Ne {}, &[x, y]).map(Some),
        Op::Ne(_) => b.add(pw::Eq {}, &[x, y]).map(Some),
        Op::Lt(_) if ordered => b.add(pw::Le {}, &[y, x]).map(Some),
        Op::Le(_) if ordered => b.add(pw::Lt {}, &[y, x]).map(Some),
        _ => Ok(None),
    }
}

fn double_not(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::LogicalNot(_), &[n]) = (op, args) else {
        return Ok(None);
    };
    Ok(match b.op(n) {
        Op::LogicalNot(_) if is_bool(b, b.arg(n, 0)) => Some(b.arg(n, 0)),
        _ => None,
    })
}

fn bitwise(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    if !args.iter().all(|a| is_bool(b, *a)) {
        return Ok(None);
    }
    let logical: Op = match op {
        Op::BitwiseAnd(_) | Op::Mul(_) | Op::Minimum(_) => pw::LogicalAnd {}.into(),
        Op::BitwiseOr(_) | Op::Maximum(_) => pw::LogicalOr {}.into(),
        Op::BitwiseXor(_) => pw::Ne {}.into(),
        Op::BitwiseNot(_) => pw::LogicalNot {}.into(),
        _ => return Ok(None),
    };
    if b.infer(&logical, args).is_none() || b.infer(&logical, args) != b.infer(op, args) {
        return Ok(None);
    }
    b.add(logical, args).map(Some)
}

/// Exact: 0 and 1 are values of every dtype, and they are the only ones that a cast truth value has.
fn compare_bool(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (x, equal, to) = match (op, args) {
        (Op::Eq(_), &[x, y]) => (x, true, y),
        (Op::Ne(_), &[x, y]) => (x, false, y),
        _ => return Ok(None),
    };
    let Some(n) = b.literal(to).map(Scalar::as_f64) else {
        return Ok(None);
    };
    let x = match b.op(x) {
        Op::Cast(c) if is_bool(b, b.arg(x, 0)) && keeps(DType::Bool, c.dtype) => b.arg(x, 0),
        _ => x,
    };
    if !is_bool(b, x) || (n != 0.0 && n != 1.0) {
        return Ok(None);
    }
    if (n == 1.0) == equal {
        return stand_in(b, op, args, x);
    }
    let not = b.add(pw::LogicalNot {}, &[x])?;
    stand_in(b, op, args, not)
}

/// Not of floats: NaN differs from itself.
fn compare_self(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let Some(ty) = b.tensor(x).filter(|t| x == y && !t.dtype.is_float()) else {
        return Ok(None);
    };
    let truth = match op {
        Op::Eq(_) | Op::Le(_) => true,
        Op::Ne(_) | Op::Lt(_) => false,
        _ => return Ok(None),
    };
    let ty = fuseline_ir::TensorType::new(DType::Bool, ty.shape.clone());
    b.full(Scalar::Bool(truth), ty).map(Some)
}

fn and_or(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let neutral = match op {
        Op::LogicalAnd(_) => true,
        Op::LogicalOr(_) => false,
        _ => return Ok(None),
    };
    if !is_bool(b, x) || !is_bool(b, y) {
        return Ok(None);
    }
    if x == y {
        return Ok(Some(x));
    }
    for (x, y) in [(x, y), (y, x)] {
        if let Some(t) = truth(b, y) {
            return stand_in(b, op, args, if t == neutral { x } else { y });
        }
    }
    Ok(None)
}

fn where_known(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Where(_), &[c, x, y]) = (op, args) else {
        return Ok(None);
    };
    match truth(b, c) {
        Some(true) => stand_in(b, op, args, x),
        Some(false) => stand_in(b, op, args, y),
        None if x == y => stand_in(b, op, args, x),
        None => Ok(None),
    }
}

/// Exact, and one of the two orders: masks are written both ways.
fn where_less(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Where(_), &[c, x, y]) = (op, args) else {
        return Ok(None);
    };
    if !matches!(b.op(c), Op::Lt(_)) {
        return Ok(None);
    }
    let (less, more) = (b.arg(c, 0), b.arg(c, 1));
    if b.dtype(less).is_none_or(DType::is_float) {
        return Ok(None);
    }
    let not = b.add(pw::Le {}, &[more, less])?;
    b.add(pw::Where {}, &[not, y, x]).map(Some)
}

fn where_not(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Where(_), &[c, x, y]) = (op, args) else {
        return Ok(None);
    };
    match b.op(c) {
        Op::LogicalNot(_) if is_bool(b, b.arg(c, 0)) => {
            let c = b.arg(c, 0);
            b.add(pw::Where {}, &[c, y, x]).map(Some)
        }
        _ => Ok(None),
    }
}

fn where_bool(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Where(_), &[c, x, y]) = (op, args) else {
        return Ok(None);
    };
    if !is_bool(b, x) || !is_bool(b, c) {
        return Ok(None);
    }
    let made = match (truth(b, x), truth(b, y)) {
        (Some(true), Some(false)) => c,
        (Some(false), Some(true)) => b.add(pw::LogicalNot {}, &[c])?,
        (Some(true), None) => b.add(pw::LogicalOr {}, &[c, y])?,
        (None, Some(false)) => b.add(pw::LogicalAnd {}, &[c, x])?,
        _ => return Ok(None),
    };
    stand_in(b, op, args, made)
}
