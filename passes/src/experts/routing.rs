//! How much of each expert a token takes: what a value's elements are, where they are weights for the experts that the token chose and nothing for the others.
//!
//! Whatever compares choices with numbers of experts, writes weights to the places that choices name, or goes on from there by steps that keep this true, is brought into one form:
//! choices and weights, each with a slot for each choice.

use super::slots::{self, Slots, moved, rows};
use crate::canon::Builder;
use crate::closed_form::{Expr, Form, HIDING};
use crate::shapes::product;
use fuseline_ir::ops::{movement as mv, table as op};
use fuseline_ir::{Dim, Op, OpError, Scalar, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Which experts the elements of a value are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Each expert, along this axis.
    Axis(usize),
    /// This one.
    One(i64),
}

/// A value whose element for a token, a slot and an expert is the slot's weight where the slot holds the expert, and 0 elsewhere. Without an axis of slots it is the sum over them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed {
    /// The choices, `[tokens, slots]`, different for each slot of a token.
    pub index: Value,
    /// How many experts there are to choose from.
    pub count: i64,
    /// The weights, `[tokens, slots]`; 1 where there are none.
    pub weight: Option<Value>,
    /// The axis of the slots.
    pub slot: Option<usize>,
    /// The axis of the experts.
    pub which: Which,
    /// It is −∞ elsewhere, or as good as that.
    pub hidden: bool,
}

impl Routed {
    fn expert(&self) -> Option<usize> {
        match self.which {
            Which::Axis(axis) => Some(axis),
            Which::One(_) => None,
        }
    }

    /// The same of a value with so many axes of size 1 in front.
    fn behind(self, axes: usize) -> Routed {
        Routed {
            slot: self.slot.map(|a| a + axes),
            which: match self.which {
                Which::Axis(a) => Which::Axis(a + axes),
                one => one,
            },
            ..self
        }
    }

    /// Whether the axis is one of tokens.
    fn is_token(&self, axis: usize) -> bool {
        self.slot != Some(axis) && self.expert() != Some(axis)
    }
}

/// What is known of the values of a graph that grows.
#[derive(Default)]
pub(super) struct Routing {
    slots: BTreeMap<Value, Slots>,
    routed: BTreeMap<Value, Routed>,
    /// Of vectors that hold `[tokens, experts]` in row-major order.
    lists: BTreeMap<Value, Routed>,
}

/// A shape with ones in front, so that it has `rank` axes.
pub(super) fn padded(shape: &[Dim], rank: usize) -> Vec<Dim> {
    let ones = rank.saturating_sub(shape.len());
    let ones = std::iter::repeat_n(Dim::from(1i64), ones);
    ones.chain(shape.iter().cloned()).collect()
}

impl Routing {
    /// What is known of a value.
    pub fn get(&self, value: Value) -> Option<&Routed> {
        self.routed.get(&value)
    }

    /// The choices that a value holds.
    pub fn slots(&self, value: Value) -> Option<&Slots> {
        self.slots.get(&value)
    }

    /// Looks at a value whose arguments have been looked at.
    pub fn note(&mut self, b: &mut Builder, value: Value) -> Result<(), OpError> {
        if let Some(mut slots) = slots::of(b, value, |v| self.slots.get(&v).copied())? {
            // A single slot needs no axis.
            slots.axis = slots.axis.filter(|a| !b.shape(value)[*a].is(1));
            self.slots.insert(value, slots);
        }
        if self.slots.is_empty() || self.routed.contains_key(&value) {
            return Ok(());
        }
        if let Some(list) = self.list(b, value)? {
            self.lists.insert(value, list);
        }
        if let Some(routed) = self.of(b, value)? {
            self.routed.insert(value, routed);
        }
        Ok(())
    }

    fn of(&self, b: &mut Builder, value: Value) -> Result<Option<Routed>, OpError> {
        let made = b.op(value).clone();
        let args = b.args(value).to_vec();
        let Some(&first) = args.first() else {
            return Ok(None);
        };
        let known = self.get(first).copied();
        Ok(match (&made, known) {
            (Op::Eq(_), _) => self.compared(b, value, &args),
            (Op::Mul(_), _) => {
                let Some(&second) = args.get(1) else {
                    return Ok(None);
                };
                match (known, self.get(second).copied()) {
                    (Some(r), Some(o)) => both(b, value, (first, r), (second, o))?,
                    (Some(r), None) => weighed(b, value, (first, r), second, false)?,
                    (None, Some(r)) => weighed(b, value, (second, r), first, false)?,
                    (None, None) => None,
                }
            }
            (Op::Div(_), Some(r)) if !r.hidden => match args.get(1) {
                Some(by) if self.get(*by).is_none() => weighed(b, value, (first, r), *by, true)?,
                _ => None,
            },
            (Op::Where(_), Some(r)) if r.weight.is_none() && !r.hidden => {
                let &[_, chosen, other] = args.as_slice() else {
                    return Ok(None);
                };
                let other = b.literal(other).map(Scalar::as_f64);
                let hidden = other.is_some_and(|n| n <= HIDING);
                if other != Some(0.0) && !hidden {
                    return Ok(None);
                }
                let made = weighed(b, value, (first, r), chosen, false)?;
                made.map(|r| Routed { hidden, ..r })
            }
            (Op::Cast(cast), Some(r)) if cast.dtype != fuseline_ir::DType::Bool => {
                let weight = r.weight.map(|w| b.cast(w, cast.dtype)).transpose()?;
                Some(Routed { weight, ..r })
            }
            (Op::Reshape(_) | Op::Transpose(_), Some(r)) => {
                let (from, to) = (b.shape(first).to_vec(), b.shape(value).to_vec());
                let axes = moved(&made, &from, &to, [r.slot, r.expert()]);
                axes.and_then(|[slot, expert]| {
                    let which = match (r.which, expert) {
                        (Which::Axis(_), axis) => Which::Axis(axis?),
                        (one, _) => one,
                    };
                    Some(Routed { slot, which, ..r })
                })
            }
            (Op::Reshape(_), None) => {
                let list = self.lists.get(&first).copied();
                list.and_then(|r| unlisted(b.shape(value), r))
            }
            (Op::Slice(slice), Some(r)) if Some(slice.axis) == r.expert() => {
                one(slice).map(|n| Routed {
                    which: Which::One(n),
                    ..r
                })
            }
            (Op::Slice(slice), None) => {
                let list = self.lists.get(&first).copied();
                list.filter(|r| slice.step == r.count).and_then(|r| {
                    let n = slice.start.as_const()?;
                    let all = product(b.shape(value)) == *b.shape(r.index).first()?;
                    all.then_some(Routed {
                        which: Which::One(n),
                        ..r
                    })
                })
            }
            (Op::Sum(op::Sum { axes, keepdim }), Some(r)) if !r.hidden => {
                over_slots(r, axes, *keepdim)
            }
            (
                Op::Any(op::Any { axes, keepdim }) | Op::Amax(op::Amax { axes, keepdim }),
                Some(r),
            ) if r.weight.is_none() => over_slots(r, axes, *keepdim),
            (Op::Softmax(softmax), Some(r))
                if r.hidden && r.slot.is_none() && r.expert() == Some(softmax.axis) =>
            {
                let Some(weight) = r.weight else {
                    return Ok(None);
                };
                let weight = Some(b.add(op::Softmax { axis: 1 }, &[weight])?);
                Some(Routed {
                    weight,
                    hidden: false,
                    ..r
                })
            }
            (Op::Matmul(_), _) => self.summed(b, value, &args)?,
            (Op::ScatterAdd(to), _) => {
                let &[zeros, index, source] = args.as_slice() else {
                    return Ok(None);
                };
                let whole = b.shape(zeros).get(to.axis).and_then(Dim::as_const);
                match self.slots.get(&index).copied() {
                    Some(s)
                        if (s.axis == Some(to.axis) || b.shape(index)[to.axis].is(1))
                            && whole == Some(s.count)
                            && b.literal(zeros).is_some_and(|n| n.as_f64() == 0.0)
                            && b.shape(source) == b.shape(index) =>
                    {
                        Some(Routed {
                            index: s.index,
                            count: s.count,
                            weight: Some(rows(b, source, s.axis)?),
                            slot: None,
                            which: Which::Axis(to.axis),
                            hidden: false,
                        })
                    }
                    _ => None,
                }
            }
            _ => None,
        })
    }

    /// Choices compared with the numbers of experts, or with one of them.
    fn compared(&self, b: &Builder, value: Value, args: &[Value]) -> Option<Routed> {
        let &[x, y] = args else { return None };
        let (choices, numbers) = match (self.slots.get(&x), self.slots.get(&y)) {
            (Some(_), None) => (x, y),
            (None, Some(_)) => (y, x),
            _ => return None,
        };
        let slots = self.slots.get(&choices)?;
        let out = b.shape(value);
        let mut own = padded(b.shape(choices), out.len());
        let slot = slots.axis.map(|a| a + out.len() - b.shape(choices).len());
        let which = match b.literal(numbers) {
            Some(Scalar::Int(n)) => Which::One(n),
            Some(_) => return None,
            None => {
                let form = b.form(numbers)?;
                let Expr::Index(axis) = form.expr else {
                    return None;
                };
                let shape = b.shape(numbers);
                let wide = shape.iter().enumerate().all(|(n, d)| n == axis || d.is(1));
                let each = shape.get(axis)?.is(slots.count);
                let axis = axis + out.len() - shape.len();
                if !wide || !each || !own[axis].is(1) || slot == Some(axis) {
                    return None;
                }
                own[axis] = out[axis].clone();
                Which::Axis(axis)
            }
        };
        (own == out).then_some(Routed {
            index: slots.index,
            count: slots.count,
            weight: None,
            slot,
            which,
            hidden: false,
        })
    }

    /// A product that sums over the slots: weights beside each other, times what has the slots and the experts as its last two axes.
    fn summed(
        &self,
        b: &mut Builder,
        value: Value,
        args: &[Value],
    ) -> Result<Option<Routed>, OpError> {
        let &[x, y] = args else { return Ok(None) };
        let rank = b.shape(value).len();
        let (r, weights, slot, expert) = match (self.get(x), self.get(y)) {
            (None, Some(r)) => (*r, x, rank - 2, rank - 1),
            (Some(r), None) => (*r, y, rank - 1, rank - 2),
            _ => return Ok(None),
        };
        let routed = if weights == x { y } else { x };
        let shape = b.shape(weights).to_vec();
        let alike = b.shape(routed).len() == rank
            && shape.len() == rank
            && shape[..rank - 2] == b.shape(routed)[..rank - 2];
        let fits = r.slot == Some(slot) && r.which == Which::Axis(expert) && !r.hidden;
        // One row of weights, or one column.
        let single = shape.get(if weights == x { rank - 2 } else { rank - 1 });
        if !alike || !fits || !single.is_some_and(|d| d.is(1)) {
            return Ok(None);
        }
        let all = b.shape(r.index).to_vec();
        let given = b.reshape(weights, all)?;
        let weight = match r.weight {
            Some(own) => b.add(op::Mul {}, &[own, given])?,
            None => given,
        };
        Ok(Some(Routed {
            weight: Some(weight),
            slot: None,
            which: Which::Axis(if weights == x { rank - 1 } else { rank - 2 }),
            ..r
        }))
    }

    /// A vector of one number, with weights written at `expert + token · experts`.
    fn list(&self, b: &mut Builder, value: Value) -> Result<Option<Routed>, OpError> {
        let (Op::IndexCopy(copy), &[into, places, source]) = (b.op(value), b.args(value)) else {
            return Ok(None);
        };
        let outside = b.literal(into).map(Scalar::as_f64);
        let hidden = outside.is_some_and(|n| n <= HIDING);
        if copy.axis != 0 || b.shape(into).len() != 1 || outside != Some(0.0) && !hidden {
            return Ok(None);
        }
        let mut sum = places;
        while let Op::Reshape(_) = b.op(sum) {
            sum = b.arg(sum, 0);
        }
        let (Op::Add(_), &[x, y]) = (b.op(sum), b.args(sum)) else {
            return Ok(None);
        };
        let found = match (self.slots.get(&x), self.slots.get(&y)) {
            (Some(s), None) => (*s, x, y),
            (None, Some(s)) => (*s, y, x),
            _ => return Ok(None),
        };
        let (slots, choices, first) = found;
        let shape = b.shape(sum).to_vec();
        let slot = slots.axis.map(|a| a + shape.len() - b.shape(choices).len());
        let last = slot.is_none_or(|s| shape[s + 1..].iter().all(|d| d.is(1)));
        let tokens: Vec<Dim> = (0..shape.len())
            .map(|a| match slot {
                Some(slot) if slot == a => Dim::from(1i64),
                _ => shape[a].clone(),
            })
            .collect();
        let all = &product(&tokens) * &Dim::from(slots.count);
        let starts = b.form(first).is_some_and(|form| {
            let lead = shape.len() - b.shape(first).len();
            row_starts(&form, lead, &tokens, slots.count)
        });
        let own = padded(b.shape(choices), shape.len()) == shape;
        if !last || !starts || !own || b.shape(into) != [all] {
            return Ok(None);
        }
        let index_shape = b.shape(slots.index).to_vec();
        let weight = b.reshape(source, index_shape)?;
        Ok(Some(Routed {
            index: slots.index,
            count: slots.count,
            weight: Some(weight),
            slot: None,
            which: Which::Axis(0),
            hidden,
        }))
    }
}

/// The one element of the axis that a slice takes.
pub(super) fn one(slice: &mv::Slice) -> Option<i64> {
    let (start, stop) = (slice.start.as_const()?, slice.stop.as_const()?);
    (stop == start + 1).then_some(start)
}

/// What is routed, of a vector that holds tokens and experts, under a shape that parts the two.
fn unlisted(shape: &[Dim], r: Routed) -> Option<Routed> {
    let axis = shape.iter().rposition(|d| !d.is(1))?;
    let axis = shape[axis].is(r.count).then_some(axis)?;
    Some(Routed {
        which: Which::Axis(axis),
        ..r
    })
}

/// What is left of the axes where one of them, that of the slots, is summed over.
fn over_slots(r: Routed, axes: &[usize], keepdim: bool) -> Option<Routed> {
    let &[axis] = axes else { return None };
    if r.slot != Some(axis) {
        return None;
    }
    let which = match r.which {
        Which::Axis(expert) if expert > axis && !keepdim => Which::Axis(expert - 1),
        which => which,
    };
    Some(Routed {
        slot: None,
        which,
        ..r
    })
}

/// The product of two that are routed alike.
fn both(
    b: &mut Builder,
    value: Value,
    (x, r): (Value, Routed),
    (y, o): (Value, Routed),
) -> Result<Option<Routed>, OpError> {
    let rank = b.shape(value).len();
    let (r, o) = (
        r.behind(rank - b.shape(x).len()),
        o.behind(rank - b.shape(y).len()),
    );
    let whole = |v| padded(b.shape(v), rank) == b.shape(value);
    let alike = (r.index, r.slot, r.which) == (o.index, o.slot, o.which);
    if !alike || r.hidden || o.hidden || !whole(x) || !whole(y) {
        return Ok(None);
    }
    let weight = match (r.weight, o.weight) {
        (Some(a), Some(c)) => Some(b.add(op::Mul {}, &[a, c])?),
        (a, c) => a.or(c),
    };
    Ok(Some(Routed { weight, ..r }))
}

/// What is routed, multiplied or divided by something else that is given for each token, slot or expert.
fn weighed(
    b: &mut Builder,
    value: Value,
    (x, r): (Value, Routed),
    other: Value,
    divided: bool,
) -> Result<Option<Routed>, OpError> {
    let out = b.shape(value).to_vec();
    let r = r.behind(out.len() - b.shape(x).len());
    if padded(b.shape(x), out.len()) != out || r.hidden {
        return Ok(None);
    }
    let given = match each_expert(b, other, &r, &out)? {
        Some(given) => given,
        None => match each_slot(b, other, &r, &out)? {
            Some(given) => given,
            None => return Ok(None),
        },
    };
    let weight = match (r.weight, divided) {
        (Some(own), false) => b.add(op::Mul {}, &[own, given])?,
        (Some(own), true) => b.add(op::Div {}, &[own, given])?,
        (None, false) => given,
        (None, true) => b.add(op::Reciprocal {}, &[given])?,
    };
    Ok(Some(Routed {
        weight: Some(weight),
        ..r
    }))
}

/// Of a number for each token and expert, those of the experts that the slots hold.
fn each_expert(
    b: &mut Builder,
    other: Value,
    r: &Routed,
    out: &[Dim],
) -> Result<Option<Value>, OpError> {
    let lead = out.len() - b.shape(other).len();
    let table = match r.which {
        Which::Axis(axis) => axis
            .checked_sub(lead)
            .filter(|a| !b.shape(other)[*a].is(1))
            .map(|a| (other, a)),
        Which::One(n) => element(b, other, n, r.count),
    };
    let Some((table, axis)) = table else {
        return Ok(None);
    };
    chosen(b, table, axis, r.index)
}

/// The tensor of which a value is element `n` of `count` along an axis, and the axis.
pub(super) fn element(b: &Builder, value: Value, n: i64, count: i64) -> Option<(Value, usize)> {
    let mut at = value;
    while let Op::Reshape(_) = b.op(at) {
        at = b.arg(at, 0);
    }
    let Op::Slice(slice) = b.op(at) else {
        return None;
    };
    let table = b.arg(at, 0);
    let all = b.shape(table)[slice.axis].is(count);
    (one(slice) == Some(n) && all).then_some((table, slice.axis))
}

/// `[tokens, slots]` of a table with a number for each token and, along `axis`, each expert.
pub(super) fn chosen(
    b: &mut Builder,
    table: Value,
    axis: usize,
    index: Value,
) -> Result<Option<Value>, OpError> {
    let table = rows(b, table, Some(axis))?;
    if b.shape(table).first() != b.shape(index).first() {
        return Ok(None);
    }
    b.add(op::TakeAlong { axis: 1 }, &[table, index]).map(Some)
}

/// A number for each token, each slot, or both, as `[tokens, slots]`.
fn each_slot(
    b: &mut Builder,
    other: Value,
    r: &Routed,
    out: &[Dim],
) -> Result<Option<Value>, OpError> {
    let shape = padded(b.shape(other), out.len());
    if r.expert().is_some_and(|a| !shape[a].is(1)) {
        return Ok(None);
    }
    let value = b.reshape(other, shape.clone())?;
    let narrow = |a: usize| r.is_token(a) && shape[a] != out[a];
    let tokens = |a: usize| r.is_token(a) && !out[a].is(1);
    let some = (0..out.len()).any(narrow);
    let value = if some && !(0..out.len()).filter(|a| tokens(*a)).all(narrow) {
        let full = (0..out.len()).map(|a| if narrow(a) { &out[a] } else { &shape[a] });
        b.broadcast(value, full.cloned().collect())?
    } else {
        value
    };
    let list = rows(b, value, r.slot)?;
    let all = b.shape(r.index).to_vec();
    b.broadcast(list, all).map(Some)
}

/// Whether an integer is `count · t` for the t-th token, the tokens lying in row-major order along the axes of `tokens`, of which the first `lead` are not among its own.
fn row_starts(form: &Arc<Form<Value>>, lead: usize, tokens: &[Dim], count: i64) -> bool {
    let mut strides = BTreeMap::new();
    let one = Dim::from(1i64);
    let linear = add_strides(form, &one, &tokens[lead..], &mut strides).is_some();
    let axes: BTreeSet<usize> = (0..tokens.len()).filter(|a| !tokens[*a].is(1)).collect();
    let expected = |axis: usize| &product(&tokens[axis + 1..]) * &Dim::from(count);
    let none = Dim::from(0i64);
    linear
        && (0..tokens.len()).all(|axis| {
            let own = axis.checked_sub(lead).and_then(|a| strides.get(&a));
            match axes.contains(&axis) {
                true => own == Some(&expected(axis)),
                false => own.is_none_or(|s| *s == none) || tokens[axis].is(1),
            }
        })
}

/// Adds how much an integer, times `factor`, changes with the index along each axis. `None` where that isn't always the same, or where it isn't 0 for the first element of all.
fn add_strides(
    form: &Arc<Form<Value>>,
    factor: &Dim,
    sizes: &[Dim],
    strides: &mut BTreeMap<usize, Dim>,
) -> Option<()> {
    match &form.expr {
        Expr::Index(axis) => {
            let stride = strides.entry(*axis).or_insert_with(|| Dim::from(0i64));
            *stride = &*stride + factor;
            Some(())
        }
        Expr::Literal(Scalar::Int(0)) => Some(()),
        Expr::Apply(Op::Cast(_), args) => add_strides(args.first()?, factor, sizes, strides),
        Expr::Apply(Op::Add(_), args) => args
            .iter()
            .try_for_each(|a| add_strides(a, factor, sizes, strides)),
        Expr::Apply(Op::Mul(_), args) => {
            let [x, y] = args.as_slice() else { return None };
            let (x, by) = match (x.as_dim(), y.as_dim()) {
                (None, Some(by)) => (x, by),
                (Some(by), None) => (y, by),
                _ => return None,
            };
            add_strides(x, &(factor * &by), sizes, strides)
        }
        // An index is less than the size of its axis.
        Expr::Apply(Op::Remainder(_), args) => {
            let [x, by] = args.as_slice() else {
                return None;
            };
            let Expr::Index(axis) = x.expr else {
                return None;
            };
            (sizes.get(axis) == Some(&by.as_dim()?)).then_some(())?;
            add_strides(x, factor, sizes, strides)
        }
        _ => None,
    }
}
