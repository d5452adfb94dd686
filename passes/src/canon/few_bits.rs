//! Weights in few bits: what moves their elements about and leaves each group of them together moves the words, scales and biases instead. So the weight of a product is found however it was
//! viewed, cut or put together on the way. Only for weights, which depend on constants alone: nothing of this is done in a call.

use super::{Builder, Rewrite, Rule};
use crate::shapes::{Group, groups, wide_axes, without_ones};
use fuseline_ir::ops::movement as mv;
use fuseline_ir::ops::table::Dequantize;
use fuseline_ir::{Dim, Op, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "few-bits-moved",
        doc: "reshape, transpose, slice or cat of dequantize(w, s, z) that leaves groups together -> dequantize of those of w, s and z, for weights",
        apply: moved,
    },
    Rule {
        name: "few-bits-turned",
        doc: "transpose(dequantize(w, s, z)) of the last axis and others -> transpose of the last axis alone, for weights",
        apply: turned,
    },
    Rule {
        name: "few-bits-cut",
        doc: "slice(transpose(dequantize(w, s, z))) of another axis than the one with groups -> transpose(slice), for weights",
        apply: cut,
    },
    Rule {
        name: "few-bits-merged",
        doc: "reshape(transpose(dequantize(w, s, z))) that merges axes which were neighbours before -> transpose(reshape), for weights",
        apply: merged,
    },
];

/// The op, where a value is a weight in few bits.
fn weight(b: &Builder, v: Value) -> Option<Dequantize> {
    match b.op(v) {
        Op::Dequantize(op) if b.is_fixed(v) => Some(op.clone()),
        _ => None,
    }
}

fn moved(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let Some(first) = args.first().and_then(|x| weight(b, *x)) else {
        return Ok(None);
    };
    let shape = b.shape(args[0]).to_vec();
    let last = shape.len() - 1;
    let keeps_groups = match op {
        Op::Reshape(to) => {
            let row = to.shape.last().and_then(Dim::as_const);
            let whole = row.is_some_and(|row| row > 0 && row % first.group as i64 == 0);
            let only_adds_ones =
                to.shape.len() >= shape.len() && without_ones(&shape) == without_ones(&to.shape);
            whole && !only_adds_ones
        }
        Op::Transpose(turn) => turn.perm.last() == Some(&last),
        Op::Slice(cut) => cut.axis < last,
        Op::Cat(cat) => {
            let alike = |x: &Value| weight(b, *x).is_some_and(|other| other == first);
            cat.axis < last && args.iter().all(alike)
        }
        _ => false,
    };
    if !keeps_groups {
        return Ok(None);
    }
    let mut lists = Vec::new();
    for list in 0..b.args(args[0]).len() {
        let parts: Vec<Value> = args.iter().map(|x| b.arg(*x, list)).collect();
        let op = match op {
            Op::Reshape(to) => {
                let mut shape = to.shape.clone();
                let Some(row) = shape.pop() else {
                    return Ok(None);
                };
                // A word has 32 bits; a group has one scale.
                let (times, by) = match list {
                    0 => (first.bits, 32),
                    _ => (1, first.group),
                };
                let Some(row) = (&row * &Dim::from(times)).exact_div(&Dim::from(by)) else {
                    return Ok(None);
                };
                shape.push(row);
                mv::Reshape { shape }.into()
            }
            other => other.clone(),
        };
        if b.infer(&op, &parts).is_none() {
            return Ok(None);
        }
        lists.push(b.add(op, &parts)?);
    }
    b.add(first, &lists).map(Some)
}

fn turned(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Transpose(turn), &[w]) = (op, args) else {
        return Ok(None);
    };
    if weight(b, w).is_none() {
        return Ok(None);
    }
    let last = turn.perm.len() - 1;
    let mut perm: Vec<usize> = turn.perm.iter().copied().filter(|a| *a != last).collect();
    // What a product sums over may be this axis and the one before it, to be merged yet.
    let apart = turn.perm.is_sorted_by(|a, b| *b != last || a + 1 != last);
    if perm.is_sorted() || turn.perm[last] == last || !apart {
        return Ok(None);
    }
    perm.push(last);
    let w = b.add(mv::Transpose { perm }, &[w])?;
    let mut order = 0..last;
    let perm = turn
        .perm
        .iter()
        .map(|a| if *a == last { Some(last) } else { order.next() });
    let Some(perm) = perm.collect() else {
        return Ok(None);
    };
    b.add(mv::Transpose { perm }, &[w]).map(Some)
}

fn cut(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Slice(cut), &[t]) = (op, args) else {
        return Ok(None);
    };
    let Op::Transpose(turn) = b.op(t).clone() else {
        return Ok(None);
    };
    let w = b.arg(t, 0);
    let axis = turn.perm[cut.axis];
    if weight(b, w).is_none() || axis + 1 == turn.perm.len() {
        return Ok(None);
    }
    let w = b.add(
        mv::Slice {
            axis,
            ..cut.clone()
        },
        &[w],
    )?;
    b.add(turn, &[w]).map(Some)
}

fn merged(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Reshape(to), &[t]) = (op, args) else {
        return Ok(None);
    };
    let Op::Transpose(turn) = b.op(t).clone() else {
        return Ok(None);
    };
    let w = b.arg(t, 0);
    if weight(b, w).is_none() {
        return Ok(None);
    }
    let mid = b.shape(t).to_vec();
    let Some(runs) = groups(&mid, &to.shape) else {
        return Ok(None);
    };
    // What each run of axes was before the transpose: neighbours, in their order.
    let source = |run: &Group| turn.perm[run.from.clone()].to_vec();
    let neighbours = |axes: &[usize]| axes.is_sorted_by(|a, b| a + 1 == *b);
    let all = runs.iter().all(|run| neighbours(&source(run)));
    let merges = |run: &Group| wide_axes(&mid[run.from.clone()]) > 1;
    if !all || !runs.iter().any(merges) || runs.iter().any(|run| run.from.is_empty()) {
        return Ok(None);
    }
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|n| source(&runs[*n]));
    let (mut shape, mut starts) = (Vec::new(), vec![0; runs.len()]);
    for n in order {
        starts[n] = shape.len();
        shape.extend_from_slice(&to.shape[runs[n].to.clone()]);
    }
    let axes = runs.iter().zip(starts);
    let perm = axes.flat_map(|(run, start)| start..start + run.to.len());
    let perm = perm.collect();
    let w = b.reshape(w, shape)?;
    b.add(mv::Transpose { perm }, &[w]).map(Some)
}
