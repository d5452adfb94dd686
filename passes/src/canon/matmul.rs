//! Matrix products on the rank that the model thinks in: the views around `mm` and `bmm` that a decomposed export has are taken off again.

use super::{Builder, Rewrite, Rule};
use crate::shapes::groups;
use fuseline_ir::ops::{matmul, movement as mv, pointwise as pw};
use fuseline_ir::{Dim, Op, OpError, Type, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "matmul-outer",
        doc: "matmul of inner size 1 -> a · b",
        apply: outer,
    },
    Rule {
        name: "convolution-of-one",
        doc: "conv with a kernel of size 1 that neither skips nor pads -> matmul",
        apply: convolution_of_one,
    },
    Rule {
        name: "matmul-rows",
        doc: "matmul(reshape(x), w) -> reshape(matmul(x, w)) where w is a matrix and the reshape merges x's leading axes; addmm alike",
        apply: rows,
    },
    Rule {
        name: "bias-rows",
        doc: "reshape(x) + b -> reshape(x + b) where b is a constant vector and the reshape merges x's leading axes",
        apply: bias,
    },
    Rule {
        name: "matmul-batch",
        doc: "matmul(reshape(a), b) -> reshape(matmul(a, reshape(b))) where the reshape merges leading axes; either operand, or both",
        apply: batch,
    },
    Rule {
        name: "turned-rows",
        doc: "the rows of matmul(reshape(x), w), split and in another order -> matmul of x's rows in that order",
        apply: turned_rows,
    },
];

/// Exact up to the sign of zero: a sum of one product is that product.
fn outer(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Matmul(_), &[x, y]) = (op, args) else {
        return Ok(None);
    };
    let one = b.shape(x).last().is_some_and(|d| d.is(1));
    if !one || !b.dtype(x).is_some_and(|d| d.is_float()) {
        return Ok(None);
    }
    b.add(pw::Mul {}, &[x, y]).map(Some)
}

/// Exact: the same sums over the channels.
fn convolution_of_one(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Conv(conv), &[x, w]) = (op, args) else {
        return Ok(None);
    };
    let [out, kernel @ .., channels] = b.shape(w) else {
        return Ok(None);
    };
    let plain = conv.stride.iter().all(|s| *s == 1) && conv.padding.iter().all(|p| *p == 0);
    if !plain || conv.groups != 1 || !kernel.iter().all(|k| k.is(1)) {
        return Ok(None);
    }
    let matrix = vec![out.clone(), channels.clone()];
    let w = b.reshape(w, matrix)?;
    let w = b.add(mv::Transpose { perm: vec![1, 0] }, &[w])?;
    b.add(matmul::Matmul {}, &[x, w]).map(Some)
}

/// The argument of a reshape that leaves the last `n` axes alone and merges others: it has more axes than the result.
fn unmerged(b: &Builder, v: Value, n: usize) -> Option<Value> {
    if !matches!(b.op(v), Op::Reshape(_)) {
        return None;
    }
    let x = b.arg(v, 0);
    let (from, to) = (b.shape(x), b.shape(v));
    let keeps =
        from.len() > to.len() && to.len() >= n && from[from.len() - n..] == to[to.len() - n..];
    keeps.then_some(x)
}

/// What merges x's leading axes only, where `v` is a reshape of x that merges leading axes: x itself, or x with its last axes merged as `v` has them.
fn unmerged_rows(b: &mut Builder, v: Value) -> Result<Option<Value>, OpError> {
    if let Some(x) = unmerged(b, v, 1) {
        return Ok(Some(x));
    }
    if !matches!(b.op(v), Op::Reshape(_)) {
        return Ok(None);
    }
    let x = b.arg(v, 0);
    let (from, to) = (b.shape(x), b.shape(v));
    let last = groups(from, to).and_then(|g| g.last().cloned());
    let Some(last) = last.filter(|g| g.to == (to.len() - 1..to.len()) && g.from.start >= to.len())
    else {
        return Ok(None);
    };
    let shape = from[..last.from.start]
        .iter()
        .chain(to.last())
        .cloned()
        .collect();
    b.reshape(x, shape).map(Some)
}

/// Whether a value is the same for all rows: nothing but its last axis is wide.
fn same_for_rows(b: &Builder, v: Value) -> bool {
    b.shape(v).iter().rev().skip(1).all(|d| d.is(1))
}

/// Exact: each row of the product is the same sum. The view back, which follows in an export, cancels the reshape.
fn rows(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let [x, w, rest @ ..] = args else {
        return Ok(None);
    };
    let linear = matches!(op, Op::Matmul(_) | Op::Addmm(_)) && b.shape(*w).len() == 2;
    // A summand that differs between rows would have to be reshaped as well.
    if !linear || !rest.iter().all(|c| same_for_rows(b, *c)) {
        return Ok(None);
    }
    let Some(x) = unmerged_rows(b, *x)? else {
        return Ok(None);
    };
    let Some(Type::Tensor(out)) = b.infer(op, args) else {
        return Ok(None);
    };
    let args: Vec<Value> = [x, *w].iter().chain(rest).copied().collect();
    let product = b.add(op.clone(), &args)?;
    b.reshape(product, out.shape).map(Some)
}

/// Exact: the same sums. A bias after a product of merged rows is added where the product is.
fn bias(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Add(_), &[x, c]) = (op, args) else {
        return Ok(None);
    };
    let vector = b.is_fixed(c) && same_for_rows(b, c);
    let Some(inner) = unmerged(b, x, 1).filter(|_| vector) else {
        return Ok(None);
    };
    let shape = b.shape(x).to_vec();
    if b.infer(op, args).as_ref() != Some(b.ty(x)) {
        return Ok(None);
    }
    let sum = b.add(pw::Add {}, &[inner, c])?;
    b.reshape(sum, shape).map(Some)
}

/// Exact: the batch is walked in the same order. Of the ranks that the two operands had before, the lower one is taken, so that a view that splits heads further
/// (repeated key/value heads) stays on the operand that has it. One matrix for the whole batch is one in any rank.
fn batch(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Matmul(_), &[x, y]) = (op, args) else {
        return Ok(None);
    };
    if b.shape(x).len() != b.shape(y).len() || b.shape(x).len() < 3 {
        return Ok(None);
    }
    let leading = |b: &Builder, v: Value| b.shape(v)[..b.shape(v).len() - 2].to_vec();
    let before = |b: &Builder, v: Value| unmerged(b, v, 2).map(|inner| leading(b, inner));
    let ones = |lead: &[Dim]| lead.iter().all(|d| d.is(1));
    let (x_lead, y_lead) = (leading(b, x), leading(b, y));
    let candidates = match (ones(&x_lead), ones(&y_lead)) {
        (false, true) => [before(b, x), None],
        (true, false) => [None, before(b, y)],
        _ if x_lead == y_lead => {
            // With several axes, an operand that was not reshaped has the rank that the model thinks in.
            let reshaped = [x, y].map(|v| matches!(b.op(v), Op::Reshape(_)));
            if x_lead.len() > 1 && reshaped != [true, true] {
                return Ok(None);
            }
            [before(b, x), before(b, y)]
        }
        _ => return Ok(None),
    };
    let Some(lead) = candidates.into_iter().flatten().min_by_key(Vec::len) else {
        return Ok(None);
    };
    let matrices = |b: &Builder, v: Value, given: &[Dim]| -> Vec<Dim> {
        let shape = b.shape(v);
        let one = vec![Dim::from(1); lead.len()];
        let lead = if ones(given) { &one } else { &lead };
        lead.iter()
            .chain(&shape[shape.len() - 2..])
            .cloned()
            .collect()
    };
    let (x_shape, y_shape) = (matrices(b, x, &x_lead), matrices(b, y, &y_lead));
    let Some(out) = b.infer(op, args).and_then(|t| t.as_tensor().cloned()) else {
        return Ok(None);
    };
    let x = b.reshape(x, x_shape)?;
    let y = b.reshape(y, y_shape)?;
    let product = b.add(op.clone(), &[x, y])?;
    b.reshape(product, out.shape).map(Some)
}

/// Exact: each row of a product is made by itself. Grouped queries that an einsum keeps in the order of the rows get the order of the heads before the product.
fn turned_rows(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Transpose(turn), &[split]) = (op, args) else {
        return Ok(None);
    };
    if !matches!(b.op(split), Op::Reshape(_)) {
        return Ok(None);
    }
    let product = b.arg(split, 0);
    let (Op::Matmul(_), &[x, w]) = (b.op(product), b.args(product)) else {
        return Ok(None);
    };
    let (out, apart) = (b.shape(product).to_vec(), b.shape(split).to_vec());
    let rows = out.len() - 2;
    let (Some(groups), Some((depth, lead))) = (groups(&out, &apart), b.shape(x).split_last())
    else {
        return Ok(None);
    };
    let lone = groups.len() == out.len() && groups.iter().all(|g| g.from.len() == 1);
    let Some(own) = groups.get(rows).map(|g| g.to.clone()).filter(|_| lone) else {
        return Ok(None);
    };
    // The rows' parts change places among themselves, and nothing else moves; x has as many leading axes as the product.
    let within = |(at, from): (usize, &usize)| {
        own.contains(&at) == own.contains(from) && (own.contains(&at) || at == *from)
    };
    let keeps = turn.perm.iter().enumerate().all(within) && groups[rows + 1].to.len() == 1;
    if !keeps || *lead != out[..=rows] || !matches!(b.op(x), Op::Reshape(_)) {
        return Ok(None);
    }
    let (depth, whole) = (depth.clone(), b.shape(x).to_vec());
    let mut parts = apart[..own.end].to_vec();
    parts.push(depth);
    let Some(shape) = b.infer(op, args).and_then(|t| t.as_tensor().cloned()) else {
        return Ok(None);
    };
    let x = b.reshape(x, parts)?;
    let x = b.add(turn.clone(), &[x])?;
    let x = b.reshape(x, whole)?;
    let product = b.add(fuseline_ir::ops::matmul::Matmul {}, &[x, w])?;
    b.reshape(product, shape.shape).map(Some)
}
