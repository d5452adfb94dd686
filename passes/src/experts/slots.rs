//! Which experts each token chose, as a vector of slots.

use crate::canon::Builder;
use crate::shapes::{groups, product};
use fuseline_ir::ops::{movement as mv, table as op};
use fuseline_ir::{Dim, Op, OpError, Scalar, Value};

/// A value that holds, for each token, the numbers of the experts that it chose. Those of one token differ from each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    /// The numbers, `[tokens, slots]`.
    pub index: Value,
    /// How many experts there are: each number is one of `0..count`.
    pub count: i64,
    /// The axis of the value along which the slots lie, if there is one; its other axes are the tokens, in order. Without one there is a single slot.
    pub axis: Option<usize>,
}

/// What the value is, where it is the places of some elements of an axis in an order of all of them, or the place of the largest or least one; `known` says what its arguments are.
pub(super) fn of(
    b: &mut Builder,
    value: Value,
    known: impl Fn(Value) -> Option<Slots>,
) -> Result<Option<Slots>, OpError> {
    let Some(&arg) = b.args(value).first() else {
        return Ok(None);
    };
    let (from, to) = (b.shape(arg).to_vec(), b.shape(value).to_vec());
    let inner = known(arg);
    let made = b.op(value).clone();
    let found = match (&made, inner) {
        (Op::Slice(slice), None) if slice.step == 1 => {
            let Some(count) = permutation(b, arg, slice.axis) else {
                return Ok(None);
            };
            let axis = Some(slice.axis);
            let index = rows(b, value, axis)?;
            Some(Slots { index, count, axis })
        }
        (Op::Slice(mv::Slice { axis, .. }), Some(inner)) if inner.axis == Some(*axis) => {
            let index = rows(b, value, inner.axis)?;
            Some(Slots { index, ..inner })
        }
        (Op::Flip(flip), Some(inner)) if inner.axis.is_some_and(|a| flip.axes == [a]) => {
            let index = rows(b, value, inner.axis)?;
            Some(Slots { index, ..inner })
        }
        // Of two choices of one expert each, either: where there is a NaN, say.
        (Op::Where(_), _) => {
            let (Some(x), Some(y)) = (known(b.arg(value, 1)), known(b.arg(value, 2))) else {
                return Ok(None);
            };
            let single = |s: &Slots| b.shape(s.index).get(1).is_some_and(|d| d.is(1));
            let alike = single(&x) && single(&y) && (x.count, x.axis) == (y.count, y.axis);
            if !alike || b.shape(b.arg(value, 1)) != to || b.shape(b.arg(value, 2)) != to {
                return Ok(None);
            }
            let index = rows(b, value, x.axis)?;
            Some(Slots { index, ..x })
        }
        (
            Op::Argmax(op::Argmax { axis, keepdim }) | Op::Argmin(op::Argmin { axis, keepdim }),
            _,
        ) => {
            let Some(count) = from[*axis].as_const() else {
                return Ok(None);
            };
            let axis = keepdim.then_some(*axis);
            let index = rows(b, value, axis)?;
            Some(Slots { index, count, axis })
        }
        (Op::Cast(cast), Some(inner)) if cast.dtype.is_int() => Some(inner),
        (Op::Remainder(_), Some(inner)) => {
            let by = b.literal(b.arg(value, 1));
            let kept = matches!(by, Some(Scalar::Int(n)) if n >= inner.count);
            (kept && from == to).then_some(inner)
        }
        (Op::Reshape(_) | Op::Transpose(_), Some(inner)) => {
            let Some([axis]) = moved(&made, &from, &to, [inner.axis]) else {
                return Ok(None);
            };
            Some(Slots { axis, ..inner })
        }
        _ => None,
    };
    Ok(found)
}

/// How many elements the axis has, where the value holds the number of each of them once along it.
fn permutation(b: &Builder, value: Value, axis: usize) -> Option<i64> {
    let mut at = value;
    loop {
        let args = b.args(at);
        let inner = match (b.op(at), args) {
            (Op::Argsort(sort), _) if sort.axis == axis => {
                return b.shape(at).get(axis)?.as_const();
            }
            (Op::Flip(flip), &[x]) if flip.axes == [axis] => x,
            (Op::Sub(_), &[last, x]) => {
                let Some(Scalar::Int(last)) = b.literal(last) else {
                    return None;
                };
                let whole = b.shape(x).get(axis)?.is(last.checked_add(1)?);
                (whole && b.shape(x) == b.shape(at)).then_some(x)?
            }
            (Op::Cast(cast), &[x]) if cast.dtype.is_int() => x,
            _ => return None,
        };
        at = inner;
    }
}

/// The value as `[tokens, n]`, where `axis` of it has n elements; without an axis as `[tokens, 1]`.
pub(super) fn rows(b: &mut Builder, value: Value, axis: Option<usize>) -> Result<Value, OpError> {
    let shape = b.shape(value).to_vec();
    let Some(axis) = axis else {
        return b.reshape(value, vec![product(&shape), Dim::from(1i64)]);
    };
    let mut tokens: Vec<usize> = (0..shape.len()).filter(|a| *a != axis).collect();
    let sizes: Vec<Dim> = tokens.iter().map(|a| shape[*a].clone()).collect();
    let mut turned = value;
    if axis + 1 != shape.len() {
        tokens.push(axis);
        turned = b.add(mv::Transpose { perm: tokens }, &[value])?;
    }
    b.reshape(turned, vec![product(&sizes), shape[axis].clone()])
}

/// Where a reshape or transposition moves some axes, none to none, and one of size 1 perhaps to none. `None` where it takes one apart, or changes the order of the others.
pub(super) fn moved<const N: usize>(
    op: &Op,
    from: &[Dim],
    to: &[Dim],
    axes: [Option<usize>; N],
) -> Option<[Option<usize>; N]> {
    let mut out = [None; N];
    match op {
        Op::Transpose(t) => {
            let others = t
                .perm
                .iter()
                .filter(|a| !axes.contains(&Some(**a)) && !from[**a].is(1));
            if !others.is_sorted() {
                return None;
            }
            for (out, axis) in out.iter_mut().zip(axes) {
                *out = axis.and_then(|axis| t.perm.iter().position(|a| *a == axis));
            }
        }
        Op::Reshape(_) => {
            let groups = groups(from, to)?;
            for (out, axis) in out.iter_mut().zip(axes) {
                let Some(axis) = axis else { continue };
                let group = groups.iter().find(|g| g.from.contains(&axis))?;
                *out = match (group.from.len(), group.to.len()) {
                    (1, 1) => Some(group.to.start),
                    (1, 0) => None,
                    _ => return None,
                };
            }
        }
        _ => return None,
    }
    Some(out)
}
