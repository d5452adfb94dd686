//! Broadcasts: none before an op that repeats its operands by itself, and otherwise after the work, on as little as there is.

use super::{Builder, Rewrite, Rule};
use crate::shapes::{groups, only_ones_differ, wide_axes};
use fuseline_ir::ops::{create, movement as mv};
use fuseline_ir::{Dim, Op, TensorType, Type, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "broadcast-chain",
        doc: "broadcast(broadcast(x)) -> broadcast(x); broadcast of a reshape that adds leading axes of size 1 -> broadcast(x)",
        apply: chain,
    },
    Rule {
        name: "reshape-of-broadcast",
        doc: "reshape(broadcast(x)) -> broadcast(reshape(x)) where the reshape only adds or removes axes of size 1",
        apply: reshape_of_broadcast,
    },
    Rule {
        name: "transpose-of-broadcast",
        doc: "transpose(broadcast(x)) -> broadcast(transpose(x))",
        apply: transpose_of_broadcast,
    },
    Rule {
        name: "broadcast-operand",
        doc: "f(broadcast(x), y) -> f(x, y), broadcast to the result's shape where that got smaller; full operands become 0-d",
        apply: operand,
    },
    Rule {
        name: "reshaped-operand",
        doc: "f(reshape(w), y) -> f(w, y) of a constant or a vector w where the reshape only adds leading axes of size 1 and the result keeps its shape",
        apply: reshaped_operand,
    },
];

/// What a broadcast repeats, or the value itself.
pub(super) fn source(b: &Builder, v: Value) -> Option<Value> {
    matches!(b.op(v), Op::Broadcast(_)).then(|| b.arg(v, 0))
}

/// What a reshape that only adds leading axes of size 1 reshapes.
fn below_leading_ones(b: &Builder, v: Value) -> Option<Value> {
    if !matches!(b.op(v), Op::Reshape(_)) {
        return None;
    }
    let x = b.arg(v, 0);
    let (from, to) = (b.shape(x), b.shape(v));
    let lead = to.len().checked_sub(from.len())?;
    let fits = to[lead..] == *from && to[..lead].iter().all(|d| d.is(1));
    // One element fits however many axes it has.
    let single = wide_axes(from) == 0 && from.len() <= to.len();
    (fits || single).then_some(x)
}

fn chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Broadcast(br), &[y]) = (op, args) else {
        return Ok(None);
    };
    match source(b, y).or_else(|| below_leading_ones(b, y)) {
        Some(x) => b.broadcast(x, br.shape.clone()).map(Some),
        None => Ok(None),
    }
}

/// Puts the broadcast last, where its reader can do without it.
fn reshape_of_broadcast(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(r), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Some(x) = source(b, y) else {
        return Ok(None);
    };
    let (wide, shape) = (b.shape(y), b.shape(x));
    if !only_ones_differ(wide, &r.shape) {
        return Ok(None);
    }
    let Some(groups) = groups(wide, &r.shape) else {
        return Ok(None);
    };
    let lead = wide.len() - shape.len();
    let mut narrow = vec![Dim::from(1i64); r.shape.len()];
    for g in groups
        .iter()
        .filter(|g| g.from.len() == 1 && g.to.len() == 1)
    {
        if let Some(d) = g.from.start.checked_sub(lead).and_then(|a| shape.get(a)) {
            narrow[g.to.start] = d.clone();
        }
    }
    let x = b.reshape(x, narrow)?;
    b.broadcast(x, r.shape.clone()).map(Some)
}

/// Where x has fewer axes than the broadcast, only if its transpose is free.
fn transpose_of_broadcast(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Transpose(t), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Some(mut x) = source(b, y) else {
        return Ok(None);
    };
    let lead = t.perm.len() - b.shape(x).len();
    if lead > 0 {
        if wide_axes(b.shape(x)) > 1 {
            return Ok(None);
        }
        let shape = std::iter::repeat_n(Dim::from(1i64), lead)
            .chain(b.shape(x).iter().cloned())
            .collect();
        x = b.reshape(x, shape)?;
    }
    let shape = t
        .perm
        .iter()
        .filter_map(|&a| b.shape(y).get(a).cloned())
        .collect();
    let turned = b.add(
        mv::Transpose {
            perm: t.perm.clone(),
        },
        &[x],
    )?;
    b.broadcast(turned, shape).map(Some)
}

/// The operand without what repeats it.
fn bare(b: &mut Builder, op: &Op, v: Value) -> Result<Value, fuseline_ir::OpError> {
    if let Op::Full(full) = b.op(v)
        && Builder::is_pointwise(op)
        && !full.ty.shape.is_empty()
    {
        let (value, dtype) = (full.value, full.ty.dtype);
        return b.add(
            create::Full {
                value,
                ty: TensorType::new(dtype, vec![]),
            },
            &[],
        );
    }
    Ok(match source(b, v) {
        Some(x) if Builder::is_pointwise(op) => x,
        Some(x) if same_matrix(b.shape(x), b.shape(v)) => x,
        _ => v,
    })
}

/// Whether the last two sizes agree: the part of a batch of matrices that a product doesn't broadcast.
fn same_matrix(a: &[Dim], b: &[Dim]) -> bool {
    a.len() >= 2 && b.len() >= 2 && a[a.len() - 2..] == b[b.len() - 2..]
}

/// Pointwise ops and matrix products broadcast their operands, so repeating before is never less work. Each element is computed from the same elements.
fn operand(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    if !Builder::is_pointwise(op) && !matches!(op, Op::Matmul(_)) {
        return Ok(None);
    }
    let Some(Type::Tensor(out)) = b.infer(op, args) else {
        return Ok(None);
    };
    let mut bared = Vec::with_capacity(args.len());
    for &a in args {
        bared.push(bare(b, op, a)?);
    }
    let Some(Type::Tensor(narrow)) = b.infer(op, &bared).filter(|_| bared != args) else {
        return Ok(None);
    };
    let smaller = narrow.shape != out.shape;
    if smaller && may_fail(op, &out) {
        return Ok(None);
    }
    let value = b.add(op.clone(), &bared)?;
    if !smaller {
        return Ok(Some(value));
    }
    b.broadcast(value, out.shape).map(Some)
}

/// Whether there are elements that the op can't compute. Repeated no times at all, such an element would not have been computed.
fn may_fail(op: &Op, out: &TensorType) -> bool {
    !out.dtype.is_float() && matches!(op, Op::FloorDiv(_) | Op::Remainder(_) | Op::Pow(_))
}

/// Only for what is small or constant. A reshaped activation is often read by several ops, and must stay the same value for all of them.
fn reshaped_operand(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    if args.len() < 2 || !(Builder::is_pointwise(op) || matches!(op, Op::Matmul(_))) {
        return Ok(None);
    }
    let out = b.infer(op, args);
    for (n, &a) in args.iter().enumerate() {
        let Some(x) = below_leading_ones(b, a) else {
            continue;
        };
        let small = b.is_fixed(x) || wide_axes(b.shape(x)) <= 1;
        if !small || (matches!(op, Op::Matmul(_)) && b.shape(x).len() < 2) {
            continue;
        }
        let mut bared = args.to_vec();
        bared[n] = x;
        if b.infer(op, &bared) == out {
            return b.add(op.clone(), &bared).map(Some);
        }
    }
    Ok(None)
}
