//! Reductions without axes of size 1.

use super::{Builder, Rewrite, Rule};
use crate::shapes::only_ones_differ;
use fuseline_ir::ops::reduce;
use fuseline_ir::{Op, Value};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "reduce-ones",
    doc: "a reduction over axes of size 1, or of a reshape that adds or removes some -> one over the others, reshaped",
    apply: ones,
}];

/// A reduction over given axes that keeps them.
type Over = fn(Vec<usize>) -> Op;

/// The axes of a reduction that leaves a single element as it is, and how it is made over others.
fn reduction(op: &Op) -> Option<(&[usize], Over)> {
    Some(match op {
        Op::Sum(r) => (&r.axes, |axes| {
            reduce::Sum {
                axes,
                keepdim: true,
            }
            .into()
        }),
        Op::Mean(r) => (&r.axes, |axes| {
            reduce::Mean {
                axes,
                keepdim: true,
            }
            .into()
        }),
        Op::LogSumExp(r) => (&r.axes, |axes| {
            reduce::LogSumExp {
                axes,
                keepdim: true,
            }
            .into()
        }),
        Op::Amax(r) => (&r.axes, |axes| {
            reduce::Amax {
                axes,
                keepdim: true,
            }
            .into()
        }),
        Op::Amin(r) => (&r.axes, |axes| {
            reduce::Amin {
                axes,
                keepdim: true,
            }
            .into()
        }),
        _ => return None,
    })
}

/// Exact: the same elements are reduced.
fn ones(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Some((axes, make)), &[x]) = (reduction(op), args) else {
        return Ok(None);
    };
    let Some(out) = b.infer(op, args).and_then(|t| t.as_tensor().cloned()) else {
        return Ok(None);
    };
    let of_reshape =
        matches!(b.op(x), Op::Reshape(_)) && only_ones_differ(b.shape(b.arg(x, 0)), b.shape(x));
    let of_ones = axes.iter().any(|a| b.shape(x)[*a].is(1));
    if b.dtype(x) != Some(out.dtype) || !(of_reshape || of_ones) {
        return Ok(None);
    }
    let inner = if of_reshape { b.arg(x, 0) } else { x };
    let wide = |v: Value| {
        let sizes = b.shape(v).iter().enumerate();
        sizes
            .filter(|(_, d)| !d.is(1))
            .map(|(axis, _)| axis)
            .collect::<Vec<_>>()
    };
    let pairs = wide(x).into_iter().zip(wide(inner));
    let axes: Vec<usize> = pairs
        .filter(|(axis, _)| axes.contains(axis))
        .map(|(_, inner)| inner)
        .collect();
    let value = if axes.is_empty() {
        inner
    } else {
        b.add(make(axes), &[inner])?
    };
    b.reshape(value, out.shape).map(Some)
}
