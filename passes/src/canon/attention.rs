//! Operands of attention, and of products with a summand, that the op can do without.

use super::broadcast::source;
use super::{Builder, Rewrite, Rule};
use fuseline_ir::{Dim, Op, Scalar, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "broadcast-mask",
        doc: "sdpa with a broadcast mask, or one with leading axes of size 1, addmm with a broadcast summand -> without",
        apply: mask,
    },
    Rule {
        name: "broadcast-heads",
        doc: "sdpa(q, broadcast(k), broadcast(v)) of one key/value head that was repeated -> sdpa(q, k, v)",
        apply: heads,
    },
    Rule {
        name: "mask-nothing",
        doc: "sdpa with a mask that is true, or 0, everywhere -> sdpa without a mask",
        apply: mask_nothing,
    },
    Rule {
        name: "offset-size",
        doc: "rope whose offset is a tensor of one element that holds a size -> rope with that size",
        apply: offset,
    },
];

/// Exact: one offset serves the whole batch either way.
fn offset(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Rope(_), &[x, offset, ref rest @ ..]) = (op, args) else {
        return Ok(None);
    };
    let mut one = offset;
    while matches!(b.op(one), Op::Reshape(_) | Op::Cast(_)) {
        one = b.arg(one, 0);
    }
    if !matches!(b.op(one), Op::IntTensor(_)) {
        return Ok(None);
    }
    let size = b.arg(one, 0);
    let with: Vec<Value> = [x, size].iter().chain(rest).copied().collect();
    if b.infer(op, &with) != b.infer(op, args) {
        return Ok(None);
    }
    b.add(op.clone(), &with).map(Some)
}

/// Both broadcast by themselves, so leading axes of size 1 are no use either.
fn mask(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let n = match op {
        Op::Sdpa(_) => 3,
        Op::Addmm(_) => 2,
        _ => return Ok(None),
    };
    let Some(&given) = args.get(n) else {
        return Ok(None);
    };
    let mut x = source(b, given).unwrap_or(given);
    if matches!((op, b.op(x)), (Op::Sdpa(_), Op::Reshape(_))) {
        let (inner, outer) = (b.shape(b.arg(x, 0)), b.shape(x));
        let lead = outer.len().saturating_sub(inner.len());
        if inner.len() >= 2 && outer[lead..] == *inner && outer[..lead].iter().all(|d| d.is(1)) {
            x = b.arg(x, 0);
        }
    }
    let mut bared = args.to_vec();
    bared[n] = x;
    if x == given || b.infer(op, &bared) != b.infer(op, args) {
        return Ok(None);
    }
    b.add(op.clone(), &bared).map(Some)
}

/// Exact: `sdpa` gives each group of query heads its key/value head, and one head is every group's.
fn heads(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Sdpa(_), &[q, k, v, ref rest @ ..]) = (op, args) else {
        return Ok(None);
    };
    let one_head = |b: &Builder, n: Value| {
        let x = source(b, n)?;
        let (from, to) = (b.shape(x), b.shape(n));
        // An axis that the source lacks is one of size 1.
        let missing = to.len().checked_sub(from.len())?;
        let size = |axis: usize| {
            axis.checked_sub(missing)
                .map(|a| from[a].clone())
                .unwrap_or(Dim::from(1))
        };
        let others = to.len() == 4 && [0, 2, 3].iter().all(|&a| size(a) == to[a]);
        let shape = (0..4).map(size).collect::<Vec<_>>();
        (others && shape[1].is(1)).then_some((x, shape))
    };
    let (Some((k, k_shape)), Some((v, v_shape))) = (one_head(b, k), one_head(b, v)) else {
        return Ok(None);
    };
    let (k, v) = (b.reshape(k, k_shape)?, b.reshape(v, v_shape)?);
    let bared: Vec<Value> = [q, k, v].iter().chain(rest).copied().collect();
    if b.infer(op, &bared) != b.infer(op, args) {
        return Ok(None);
    }
    b.add(op.clone(), &bared).map(Some)
}

/// Exact: every score stays as it is (a −0 that becomes +0 weighs the same).
fn mask_nothing(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Sdpa(_), &[q, k, v, mask]) = (op, args) else {
        return Ok(None);
    };
    let nothing = match b.literal(mask) {
        Some(Scalar::Bool(seen)) => seen,
        Some(added) => added.as_f64() == 0.0,
        None => false,
    };
    if !nothing {
        return Ok(None);
    }
    b.add(op.clone(), &[q, k, v]).map(Some)
}
