//! Arithmetic: neutral elements, signs, powers, and one order of operands.

use super::{Builder, Rewrite, Rule};
use fuseline_ir::ops::pointwise as pw;
use fuseline_ir::{DType, Op, Scalar, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "neutral",
        doc: "x + 0 (of integers), x + −0.0, x − 0, x · 1, x / 1, x ^ 1 -> x",
        apply: neutral,
    },
    Rule {
        name: "absorbing",
        doc: "x · 0 -> 0 of integers; x ^ 0 -> 1",
        apply: absorbing,
    },
    Rule {
        name: "negation",
        doc: "−(−x) -> x; x + (−y) -> x − y; x − (−y) -> x + y; x + (−y)·z -> x − y·z; x − (−y)·z -> x + y·z; (−x)·(−y) -> x·y; x · −1 -> −x; (−x) · c -> x · −c",
        apply: negation,
    },
    Rule {
        name: "even",
        doc: "|−x|, ||x|| -> |x|; (−x)², |x|² -> x²; cos(−x) -> cos x",
        apply: even,
    },
    Rule {
        name: "power",
        doc: "x ^ 2, x · x -> square; x ^ 0.5 -> sqrt; x ^ −0.5 -> rsqrt; x ^ −1, 1 / x -> reciprocal",
        apply: power,
    },
    Rule {
        name: "subtract-literal",
        doc: "x − c -> x + (−c)",
        apply: subtract_literal,
    },
    Rule {
        name: "divide-by-power-of-two",
        doc: "x / 2ⁿ -> x · 2⁻ⁿ",
        apply: divide,
    },
    Rule {
        name: "integer-chain",
        doc: "(x + a) + b -> x + (a + b) and (x · a) · b -> x · (a · b) of integers",
        apply: integer_chain,
    },
    Rule {
        name: "same-operands",
        doc: "max(x, x), min(x, x) -> x; x − x -> 0 of integers",
        apply: same,
    },
    Rule {
        name: "bound-nothing",
        doc: "max(x, −∞), min(x, ∞), max(x, 0) of what is never negative -> x",
        apply: bound,
    },
    Rule {
        name: "operand-order",
        doc: "operands of commutative ops: computed ones first, then constants, then literals; the older one first",
        apply: order,
    },
];

/// Returns `x` where it has the node's type, else `x` broadcast to it: what is left when the other operand of a pointwise op falls away.
pub(super) fn stand_in(b: &mut Builder, op: &Op, args: &[Value], x: Value) -> Rewrite {
    match b.infer(op, args) {
        Some(ty) if ty == *b.ty(x) => Ok(Some(x)),
        Some(ty) => match ty.as_tensor() {
            Some(t) if b.dtype(x) == Some(t.dtype) => b.broadcast(x, t.shape.clone()).map(Some),
            _ => Ok(None),
        },
        None => Ok(None),
    }
}

fn is_int(b: &Builder, v: Value) -> bool {
    b.dtype(v).is_some_and(DType::is_int)
}

fn is_float(b: &Builder, v: Value) -> bool {
    b.dtype(v).is_some_and(DType::is_float)
}

/// `x + 0.0` stays: it turns −0 into +0.
fn neutral(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let keep = match op {
        Op::Add(_) if is_int(b, x) => pick(b, x, y, 0.0),
        Op::Add(_) => pick(b, x, y, -0.0),
        Op::Sub(_) if b.is_number(y, 0.0) => Some(x),
        Op::Mul(_) => pick(b, x, y, 1.0),
        Op::Div(_) | Op::Pow(_) if b.is_number(y, 1.0) => Some(x),
        Op::FloorDiv(_) if is_int(b, x) && b.is_number(y, 1.0) => Some(x),
        _ => None,
    };
    match keep {
        Some(x) => stand_in(b, op, args, x),
        None => Ok(None),
    }
}

/// The operand beside the number `n`.
fn pick(b: &Builder, x: Value, y: Value, n: f64) -> Option<Value> {
    if b.is_number(y, n) {
        Some(x)
    } else if b.is_number(x, n) {
        Some(y)
    } else {
        None
    }
}

/// Not of floats: NaN · 0 and ∞ · 0 are NaN. `x ^ 0` is 1 for every x, NaN included, as IEEE 754 and PyTorch have it.
fn absorbing(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let Some(ty) = b.tensor(x) else {
        return Ok(None);
    };
    let dtype = ty.dtype;
    match op {
        Op::Mul(_) if dtype.is_int() && pick(b, x, y, 0.0).is_some() => {
            let zero = b.scalar(Scalar::Int(0), dtype)?;
            stand_in(b, op, args, zero)
        }
        Op::Pow(_) if b.literal(y).is_some_and(|s| s.as_f64() == 0.0) => {
            let one = b.scalar(Scalar::Int(1), dtype)?;
            stand_in(b, op, args, one)
        }
        _ => Ok(None),
    }
}

fn negated(b: &Builder, v: Value) -> Option<Value> {
    matches!(b.op(v), Op::Neg(_)).then(|| b.arg(v, 0))
}

/// What the value is the negative of: `y` of −y, and `y · z` of −y · z.
fn negative(b: &mut Builder, v: Value) -> Rewrite {
    if !matches!(b.op(v), Op::Mul(_)) {
        return Ok(negated(b, v));
    }
    let (y, z) = (b.arg(v, 0), b.arg(v, 1));
    match (negated(b, y), negated(b, z)) {
        (Some(y), _) => b.add(pw::Mul {}, &[y, z]).map(Some),
        (None, Some(z)) => b.add(pw::Mul {}, &[y, z]).map(Some),
        (None, None) => Ok(None),
    }
}

/// All exact: a sign is a bit of its own, and IEEE subtraction is addition of the negated operand.
fn negation(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    match (op, args) {
        (Op::Neg(_), &[x]) => Ok(negated(b, x)),
        (Op::Add(_), &[x, y]) => match (negative(b, x)?, negative(b, y)?) {
            (_, Some(y)) => b.add(pw::Sub {}, &[x, y]).map(Some),
            (Some(x), None) => b.add(pw::Sub {}, &[y, x]).map(Some),
            _ => Ok(None),
        },
        (Op::Sub(_), &[x, y]) => match negative(b, y)? {
            Some(y) => b.add(pw::Add {}, &[x, y]).map(Some),
            None => Ok(None),
        },
        (Op::Mul(_) | Op::Div(_), &[x, y]) => {
            let is_mul = matches!(op, Op::Mul(_));
            match (negated(b, x), negated(b, y)) {
                (Some(x), Some(y)) => return b.add(op.clone(), &[x, y]).map(Some),
                (Some(x), None) if b.literal(y).is_some() => {
                    let y = b.add(pw::Neg {}, &[y])?;
                    return b.add(op.clone(), &[x, y]).map(Some);
                }
                _ => {}
            }
            if b.is_number(y, -1.0) || (is_mul && b.is_number(x, -1.0)) {
                let x = if b.is_number(y, -1.0) { x } else { y };
                let minus = b.add(pw::Neg {}, &[x])?;
                return stand_in(b, op, args, minus);
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Exact for floats. Integers are left alone: |−x| differs at the least integer only by wrapping twice, which is not worth a proof.
fn even(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x] = args else { return Ok(None) };
    let inner = match (op, b.op(x)) {
        (Op::Abs(_) | Op::Square(_), Op::Neg(_) | Op::Abs(_))
        | (Op::Cos(_), Op::Neg(_) | Op::Abs(_))
            if is_float(b, x) =>
        {
            b.arg(x, 0)
        }
        _ => return Ok(None),
    };
    b.add(op.clone(), &[inner]).map(Some)
}

/// Of floats. `square`, `reciprocal` are correctly rounded where `pow` is at best that. PyTorch computes `x ** 0.5` as `sqrt` and `x ** -0.5` as
/// `rsqrt` too, so its results at −0 and −∞ are those of the root, not of `pow`.
fn power(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    if !is_float(b, x) {
        return Ok(None);
    }
    let made: Op = match op {
        Op::Mul(_) if x == y => pw::Square {}.into(),
        Op::Div(_) if b.is_number(x, 1.0) => {
            let inverse = b.add(pw::Reciprocal {}, &[y])?;
            return stand_in(b, op, args, inverse);
        }
        Op::Pow(_) => match b.literal(y).map(Scalar::as_f64) {
            Some(2.0) => pw::Square {}.into(),
            Some(0.5) => pw::Sqrt {}.into(),
            Some(-0.5) => pw::Rsqrt {}.into(),
            Some(-1.0) => pw::Reciprocal {}.into(),
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    let made = b.add(made, &[x])?;
    stand_in(b, op, args, made)
}

/// Exact: `x − c` and `x + (−c)` are the same operation in IEEE arithmetic and modulo 2ⁿ.
fn subtract_literal(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    if !matches!(op, Op::Sub(_)) || b.literal(y).is_none() {
        return Ok(None);
    }
    let minus = b.add(pw::Neg {}, &[y])?;
    b.add(pw::Add {}, &[x, minus]).map(Some)
}

/// Exact: both round the same real number. Only where the inverse is a normal number of the dtype.
fn divide(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let (Op::Div(_), Some(c), Some(dtype)) = (op, b.literal(y), b.dtype(y)) else {
        return Ok(None);
    };
    let c = c.as_f64();
    let inverse = 1.0 / c;
    let power_of_two = c.is_normal() && c.to_bits() & ((1 << 52) - 1) == 0;
    let smallest = if dtype == DType::F16 { 6.2e-5 } else { 1.2e-38 };
    if !power_of_two || inverse.abs() < smallest || dtype.round(inverse) != inverse {
        return Ok(None);
    }
    let Some(ty) = b.tensor(y).cloned() else {
        return Ok(None);
    };
    let inverse = b.full(Scalar::float(inverse), ty)?;
    b.add(pw::Mul {}, &[x, inverse]).map(Some)
}

/// Exact: addition and multiplication are associative modulo 2ⁿ.
fn integer_chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[inner, c] = args else { return Ok(None) };
    let same = matches!(
        (op, b.op(inner)),
        (Op::Add(_), Op::Add(_)) | (Op::Mul(_), Op::Mul(_))
    );
    if !same || !is_int(b, inner) || b.literal(c).is_none() {
        return Ok(None);
    }
    let (x, d) = (b.arg(inner, 0), b.arg(inner, 1));
    if b.literal(d).is_none() {
        return Ok(None);
    }
    let both = b.add(op.clone(), &[d, c])?;
    b.add(op.clone(), &[x, both]).map(Some)
}

fn same(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    match op {
        Op::Maximum(_) | Op::Minimum(_) if x == y => Ok(Some(x)),
        Op::Sub(_) if x == y && is_int(b, x) => match b.tensor(x).cloned() {
            Some(ty) => b.full(Scalar::Int(0), ty).map(Some),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// Exact: no element is outside the bound, and NaN stays NaN.
fn bound(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let keep = match op {
        Op::Maximum(_) => pick(b, x, y, f64::NEG_INFINITY)
            .or_else(|| pick(b, x, y, 0.0).filter(|x| never_negative(b, *x))),
        Op::Minimum(_) => pick(b, x, y, f64::INFINITY),
        _ => None,
    };
    match keep {
        Some(x) if is_float(b, x) => stand_in(b, op, args, x),
        _ => Ok(None),
    }
}

/// Whether no element can be below 0, nor −0.
fn never_negative(b: &Builder, x: Value) -> bool {
    match b.op(x) {
        Op::Exp(_) | Op::Sigmoid(_) | Op::Softmax(_) | Op::Abs(_) | Op::Square(_) => true,
        Op::LogAddExp(_) => b.args(x).iter().any(|a| b.is_number(*a, 0.0)),
        _ => false,
    }
}

/// Whether `f(x, y) = f(y, x)`.
fn commutes(op: &Op) -> bool {
    matches!(
        op,
        Op::Add(_)
            | Op::Mul(_)
            | Op::Maximum(_)
            | Op::Minimum(_)
            | Op::LogAddExp(_)
            | Op::Eq(_)
            | Op::Ne(_)
            | Op::LogicalAnd(_)
            | Op::LogicalOr(_)
            | Op::BitwiseAnd(_)
            | Op::BitwiseOr(_)
            | Op::BitwiseXor(_)
    )
}

/// Exact, up to which of two NaNs a sum of both gives. Which of −0 and +0 is the larger is left to the order that the model gave.
fn order(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let &[x, y] = args else { return Ok(None) };
    let rank = |v: Value| match b.op(v) {
        Op::Full(_) => 3,
        Op::Constant(_) => 2,
        _ if b.is_fixed(v) => 1,
        _ => 0,
    };
    let zero_shows = matches!(op, Op::Maximum(_) | Op::Minimum(_))
        && is_float(b, x)
        && !b.literal(x).is_some_and(|c| c.as_f64() != 0.0);
    if !commutes(op) || zero_shows || (rank(x), x) <= (rank(y), y) {
        return Ok(None);
    }
    b.add(op.clone(), &[y, x]).map(Some)
}
