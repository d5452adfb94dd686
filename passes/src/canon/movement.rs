//! Reshapes and transposes: at most one of each in a row, and none that moves nothing.

use super::{Builder, Rewrite, Rule};
use crate::shapes::{Group, groups, only_ones_differ, wide_axes};
use fuseline_ir::ops::{movement as mv, reduce};
use fuseline_ir::{Dim, Op, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "move-nothing",
        doc: "reshape and broadcast to x's own shape, transpose that keeps the order, pad by nothing, flip of axes of size 1 -> x",
        apply: nothing,
    },
    Rule {
        name: "reshape-chain",
        doc: "reshape(reshape(x)) -> reshape(x)",
        apply: reshape_chain,
    },
    Rule {
        name: "transpose-chain",
        doc: "transpose[p](transpose[q](x)) -> transpose[q∘p](x)",
        apply: transpose_chain,
    },
    Rule {
        name: "transpose-of-ones",
        doc: "transpose that only moves axes of size 1 -> reshape",
        apply: transpose_of_ones,
    },
    Rule {
        name: "broadcast-of-ones",
        doc: "broadcast that only adds leading axes of size 1 -> reshape",
        apply: broadcast_of_ones,
    },
    Rule {
        name: "keep-reduced",
        doc: "a reduction that drops its axes, reshaped to have them as axes of size 1 -> the reduction that keeps them; and the other way round",
        apply: keep_reduced,
    },
    Rule {
        name: "transpose-through-ones",
        doc: "transpose(reshape(x)) -> reshape(transpose(x)) where the reshape only adds axes of size 1, or removes some after a transpose",
        apply: transpose_through_ones,
    },
    Rule {
        name: "split-through-transpose",
        doc: "reshape(transpose(reshape(x))) -> transpose(reshape(x)) where the outer reshape only splits axes",
        apply: split_through_transpose,
    },
    Rule {
        name: "flip-chain",
        doc: "flip[a](flip[b](x)) -> flip of the axes in one of them only",
        apply: flip_chain,
    },
];

fn nothing(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Some(&x) = args.first() else {
        return Ok(None);
    };
    let shape = b.shape(x);
    let still = match op {
        Op::Reshape(r) => r.shape == shape,
        Op::Broadcast(r) => r.shape == shape,
        Op::Transpose(t) => t.perm.iter().enumerate().all(|(i, &a)| i == a),
        Op::Pad(p) => p.low.iter().chain(&p.high).all(|d| d.is(0)),
        Op::Flip(f) => f
            .axes
            .iter()
            .all(|&a| shape.get(a).is_some_and(|d| d.is(1))),
        _ => false,
    };
    Ok(still.then_some(x))
}

fn reshape_chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(r), &[y]) = (op, args) else {
        return Ok(None);
    };
    match b.op(y) {
        Op::Reshape(_) => {
            let x = b.arg(y, 0);
            b.reshape(x, r.shape.clone()).map(Some)
        }
        _ => Ok(None),
    }
}

fn transpose_chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Transpose(outer), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Op::Transpose(inner) = b.op(y) else {
        return Ok(None);
    };
    let perm = outer
        .perm
        .iter()
        .filter_map(|&a| inner.perm.get(a).copied())
        .collect();
    let x = b.arg(y, 0);
    b.add(mv::Transpose { perm }, &[x]).map(Some)
}

fn broadcast_of_ones(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Broadcast(to), &[x]) = (op, args) else {
        return Ok(None);
    };
    let lead = to.shape.len().saturating_sub(b.shape(x).len());
    let ones = lead > 0 && to.shape[..lead].iter().all(|d| d.is(1));
    if !ones || to.shape[lead..] != *b.shape(x) {
        return Ok(None);
    }
    b.reshape(x, to.shape.clone()).map(Some)
}

fn keep_reduced(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(to), &[y]) = (op, args) else {
        return Ok(None);
    };
    let kept: Op = match b.op(y).clone() {
        Op::Sum(r) => {
            let keepdim = !r.keepdim;
            reduce::Sum { keepdim, ..r }.into()
        }
        Op::Mean(r) => {
            let keepdim = !r.keepdim;
            reduce::Mean { keepdim, ..r }.into()
        }
        Op::LogSumExp(r) => {
            let keepdim = !r.keepdim;
            reduce::LogSumExp { keepdim, ..r }.into()
        }
        Op::Amax(r) => {
            let keepdim = !r.keepdim;
            reduce::Amax { keepdim, ..r }.into()
        }
        Op::Amin(r) => {
            let keepdim = !r.keepdim;
            reduce::Amin { keepdim, ..r }.into()
        }
        _ => return Ok(None),
    };
    let x = b.arg(y, 0);
    let same = b
        .infer(&kept, &[x])
        .and_then(|t| t.as_tensor().map(|t| t.shape == to.shape));
    if same != Some(true) {
        return Ok(None);
    }
    b.add(kept, &[x]).map(Some)
}

/// The axes of `perm` whose size isn't 1, in the order of the result.
fn wide(shape: &[Dim], perm: &[usize]) -> Vec<usize> {
    perm.iter()
        .copied()
        .filter(|&a| shape.get(a).is_some_and(|d| !d.is(1)))
        .collect()
}

fn transpose_of_ones(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Transpose(t), &[x]) = (op, args) else {
        return Ok(None);
    };
    let shape = b.shape(x);
    if !wide(shape, &t.perm).is_sorted() {
        return Ok(None);
    }
    let shape = t
        .perm
        .iter()
        .filter_map(|&a| shape.get(a).cloned())
        .collect();
    b.reshape(x, shape).map(Some)
}

/// Saves a transpose, or lets the reshape meet the one that takes its axes away again. The axes that aren't of size 1 keep their order through the reshape, so the outer
/// permutation of them acts before it as well.
fn transpose_through_ones(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Transpose(outer), &[r]) = (op, args) else {
        return Ok(None);
    };
    if !matches!(b.op(r), Op::Reshape(_)) {
        return Ok(None);
    }
    let x = b.arg(r, 0);
    let (from, to) = (b.shape(x).to_vec(), b.shape(r).to_vec());
    let meets = matches!(b.op(x), Op::Transpose(_)) || from.len() < to.len();
    if !meets || !only_ones_differ(&from, &to) {
        return Ok(None);
    }
    let all = |shape: &[Dim]| wide(shape, &(0..shape.len()).collect::<Vec<_>>());
    let (wide_from, wide_to) = (all(&from), all(&to));
    // The wide axes of x in their new order; the others stay where they are.
    let mut order = wide(&to, &outer.perm).into_iter().filter_map(|a| {
        let nth = wide_to.iter().position(|&w| w == a)?;
        wide_from.get(nth).copied()
    });
    let perm = (0..from.len())
        .map(|a| {
            if wide_from.contains(&a) {
                order.next()
            } else {
                Some(a)
            }
        })
        .collect::<Option<Vec<_>>>();
    let Some(perm) = perm else { return Ok(None) };
    let shape: Vec<Dim> = outer
        .perm
        .iter()
        .filter_map(|&a| to.get(a).cloned())
        .collect();
    let turned = b.add(mv::Transpose { perm }, &[x])?;
    b.reshape(turned, shape).map(Some)
}

/// Saves a reshape, and splits an axis before its elements lie apart.
fn split_through_transpose(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(to), &[t]) = (op, args) else {
        return Ok(None);
    };
    let Op::Transpose(turn) = b.op(t).clone() else {
        return Ok(None);
    };
    let y = b.arg(t, 0);
    if !matches!(b.op(y), Op::Reshape(_)) {
        return Ok(None);
    }
    let (mid, from) = (b.shape(t).to_vec(), b.shape(y).to_vec());
    let Some(groups) = groups(&mid, &to.shape) else {
        return Ok(None);
    };
    let splits = groups.iter().all(|g| g.from.len() == 1 && !g.to.is_empty());
    let apart = |g: &Group| wide_axes(&to.shape[g.to.clone()]) > 1;
    if !splits || !groups.iter().any(apart) {
        return Ok(None);
    }
    // Group n is what axis n of the transpose became; the transpose took it from axis perm[n] of y.
    let mut shape = Vec::with_capacity(to.shape.len());
    let mut starts = vec![0; from.len()];
    for (axis, start) in starts.iter_mut().enumerate() {
        *start = shape.len();
        let group = turn.perm.iter().position(|p| *p == axis);
        let Some(group) = group.and_then(|n| groups.get(n)) else {
            return Ok(None);
        };
        shape.extend_from_slice(&to.shape[group.to.clone()]);
    }
    let perm = groups
        .iter()
        .zip(&turn.perm)
        .flat_map(|(g, p)| starts[*p]..starts[*p] + g.to.len())
        .collect();
    let split = b.reshape(y, shape)?;
    b.add(mv::Transpose { perm }, &[split]).map(Some)
}

fn flip_chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Flip(outer), &[y]) = (op, args) else {
        return Ok(None);
    };
    let Op::Flip(inner) = b.op(y) else {
        return Ok(None);
    };
    let once = |a: &usize| outer.axes.contains(a) != inner.axes.contains(a);
    let axes: Vec<usize> = (0..b.shape(y).len()).filter(once).collect();
    let x = b.arg(y, 0);
    if axes.is_empty() {
        return Ok(Some(x));
    }
    b.add(mv::Flip { axes }, &[x]).map(Some)
}
