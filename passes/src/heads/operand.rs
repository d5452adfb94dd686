//! What a region takes from outside, on the axes that it needs.

use super::{Lift, shape};
use crate::shapes::{only_ones_differ, product};
use egg::Id;
use fuseline_ir::ops::movement::{Broadcast, Transpose};
use fuseline_ir::{Dim, Graph, Node, Op, Value};

/// The axes before the last two.
pub(super) fn lead(shape: &[Dim]) -> &[Dim] {
    &shape[..shape.len().saturating_sub(2)]
}

/// The last two axes.
pub(super) fn matrix(shape: &[Dim]) -> Option<&[Dim; 2]> {
    shape.last_chunk()
}

/// An operand, below the views that only arrange its leading axes or exchange the last two, and below what is done to each of its elements with numbers.
pub(super) struct Operand {
    value: Value,
    /// What is done to each element, the last first: the op, and its arguments but for the operand's own place.
    each: Vec<(Op, Vec<Option<Value>>)>,
    /// Whether the last two axes are exchanged.
    swapped: bool,
    /// The leading axes of the product, merged or split as the operand has them.
    pub full: Vec<Dim>,
    /// The operand's own: as many, each as large or 1.
    own: Vec<Dim>,
}

impl Operand {
    /// `x` as an operand of what has these leading axes.
    pub fn of(graph: &Graph, x: Value, full: &[Dim]) -> Option<Operand> {
        let mut at = Operand {
            value: x,
            each: Vec::new(),
            swapped: false,
            own: padded(lead(shape(graph, x)?), full.len())?,
            full: full.to_vec(),
        };
        while at.descend(graph) {}
        Some(at)
    }

    /// The batch that the merged axis began with, where the operand is `[rows, batch, width]` that was split into heads and turned.
    pub fn merged_from<'g>(&self, graph: &'g Graph) -> Option<&'g Dim> {
        let turned = graph.node(self.value);
        let Op::Transpose(turn) = &turned.op else {
            return None;
        };
        let merged = graph.node(*turned.args.first()?);
        let Op::Reshape(to) = &merged.op else {
            return None;
        };
        let from = shape(graph, *merged.args.first()?)?;
        let axis = *turn.perm.first()?;
        let groups = crate::shapes::groups(from, &to.shape)?;
        let group = groups.iter().find(|g| g.to.contains(&axis))?;
        let first = from.get(group.from.start)?;
        (group.to.start == axis && group.from.len() > 1).then_some(first)
    }

    /// Takes one view off.
    fn descend(&mut self, graph: &Graph) -> bool {
        let node = graph.node(self.value);
        let below = only_argument(graph, node);
        let (Some(to), Some(below), Some(from)) = (
            shape(graph, self.value),
            below,
            below.and_then(|x| shape(graph, x)),
        ) else {
            return false;
        };
        let kept = from.len() >= 2 && matrix(from) == matrix(to);
        match &node.op {
            Op::Reshape(_) if kept && self.own == self.full => {
                (self.full, self.own) = (lead(from).to_vec(), lead(from).to_vec());
            }
            Op::Reshape(_) if kept && only_ones_differ(lead(from), lead(to)) => {}
            Op::Broadcast(_) if kept && self.own == self.full && lead(to) == self.full => {
                let Some(own) = padded(lead(from), self.full.len()) else {
                    return false;
                };
                self.own = own;
            }
            Op::Transpose(t) if is_swap(&t.perm) => self.swapped = !self.swapped,
            Op::Mul(_) | Op::Div(_) | Op::Where(_) | Op::LogicalNot(_) if from == to => {
                let others = node.args.iter().map(|a| Some(*a).filter(|a| *a != below));
                self.each.push((node.op.clone(), others.collect()));
            }
            _ => return false,
        }
        self.value = below;
        true
    }

    /// The operand with all leading axes of the product.
    pub fn full(&self, lift: &mut Lift<'_>) -> Option<Id> {
        let all = self.full.len();
        let x = self.widened(lift, all)?;
        self.turned(lift, x)
    }

    /// The operand on `[batch, heads, ..]`, repeated for heads that share it.
    pub fn repeated(&self, lift: &mut Lift<'_>, batch: &Dim, heads: &Dim) -> Option<Id> {
        let shared = self.own.iter().rev().take_while(|d| d.is(1)).count();
        let few = self.own.len() - shared;
        let per_batch = product(&self.full[..few]).exact_div(batch);
        let (count, few) = match per_batch {
            Some(count) => (count, few),
            None => (heads.clone(), self.full.len()),
        };
        let times = heads.exact_div(&count)?;
        let x = self.widened(lift, few)?;
        let [a, b] = matrix(&lift.tensor(x)?.shape)?.clone();
        let of =
            |lead: &[&Dim]| -> Vec<Dim> { lead.iter().copied().chain([&a, &b]).cloned().collect() };
        let x = lift.reshape(x, of(&[batch, &count]))?;
        let x = if times.is(1) {
            x
        } else if count.is(1) {
            let shape = of(&[batch, heads]);
            lift.add(Broadcast { shape }.into(), &[x])?
        } else {
            let x = lift.reshape(x, of(&[batch, &count, &Dim::from(1i64)]))?;
            let shape = of(&[batch, &count, &times]);
            let x = lift.add(Broadcast { shape }.into(), &[x])?;
            lift.reshape(x, of(&[batch, heads]))?
        };
        self.turned(lift, x)
    }

    /// Broadcast to the first `n` leading axes of the product, the others left out.
    fn widened(&self, lift: &mut Lift<'_>, n: usize) -> Option<Id> {
        let x = lift.class(self.value)?;
        if self.own[..n] == self.full[..n] {
            return Some(x);
        }
        let matrix = matrix(&lift.tensor(x)?.shape)?.clone();
        let of = |lead: &[Dim]| [lead, &matrix].concat();
        let x = lift.reshape(x, of(&self.own[..n]))?;
        let shape = of(&self.full[..n]);
        lift.add(Broadcast { shape }.into(), &[x])
    }

    /// The axes exchanged and the elements changed as they were.
    fn turned(&self, lift: &mut Lift<'_>, mut x: Id) -> Option<Id> {
        if self.swapped {
            let rank = lift.tensor(x)?.rank();
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.swap(rank - 2, rank - 1);
            x = lift.add(Transpose { perm }.into(), &[x])?;
        }
        for (op, args) in self.each.iter().rev() {
            let args = args
                .iter()
                .map(|a| a.map_or(Some(x), |a| lift.class(a)))
                .collect::<Option<Vec<Id>>>()?;
            x = lift.add(op.clone(), &args)?;
        }
        Some(x)
    }

    /// As one that broadcasts to `[batch, heads, ..]`.
    pub fn aligned(&self, lift: &mut Lift<'_>, batch: &Dim, heads: &Dim) -> Option<Id> {
        let x = lift.class(self.value)?;
        let x = self.spread(lift, x, batch, heads)?;
        self.turned(lift, x)
    }

    fn spread(&self, lift: &mut Lift<'_>, x: Id, batch: &Dim, heads: &Dim) -> Option<Id> {
        let shape = lift.tensor(x)?.shape.clone();
        let (own, full) = (&self.own, self.full.as_slice());
        let matrix = matrix(&shape)?;
        let to = |lead: &[Dim]| [lead, matrix].concat();
        if shape.len() == 2 {
            return Some(x);
        }
        let one = Dim::from(1i64);
        if own.iter().all(|d| d.is(1)) {
            return lift.reshape(x, to(&[one.clone(), one]));
        }
        // The axes that became the batch, and those that became the heads.
        let split = (0..=full.len()).find(|n| product(&full[..*n]) == *batch);
        let Some(split) = split.filter(|_| *own != full) else {
            return (*own == full)
                .then(|| lift.reshape(x, to(&[batch.clone(), heads.clone()])))
                .flatten();
        };
        let part = |range: std::ops::Range<usize>| -> Vec<Dim> {
            let own = &own[range.clone()];
            if own.iter().all(|d| d.is(1)) {
                own.to_vec()
            } else {
                full[range].to_vec()
            }
        };
        let (first, second) = (part(0..split), part(split..full.len()));
        let wide = to(&[first.as_slice(), &second].concat());
        let mut x = lift.reshape(x, to(own))?;
        if lift.tensor(x)?.shape != wide {
            x = lift.add(Broadcast { shape: wide }.into(), &[x])?;
        }
        lift.reshape(x, to(&[product(&first), product(&second)]))
    }
}

/// The argument of a view, or the one of a pointwise op that isn't one number.
fn only_argument(graph: &Graph, node: &Node) -> Option<Value> {
    let number = |v: &&Value| matches!(graph.node(**v).op, Op::Full(_));
    let mut others = node.args.iter().filter(|v| !number(v));
    match (others.next(), others.next()) {
        (Some(x), None) => Some(*x),
        _ => None,
    }
}

/// With axes of size 1 in front, so that there are `rank`.
fn padded(lead: &[Dim], rank: usize) -> Option<Vec<Dim>> {
    let ones = rank.checked_sub(lead.len())?;
    let ones = std::iter::repeat_n(Dim::from(1i64), ones);
    Some(ones.chain(lead.iter().cloned()).collect())
}

/// Whether a permutation exchanges the last two axes and nothing else.
fn is_swap(perm: &[usize]) -> bool {
    let rank = perm.len();
    let swapped = |a: usize| match rank - a {
        1 => rank.wrapping_sub(2),
        2 => rank - 1,
        _ => a,
    };
    rank >= 2 && perm.iter().enumerate().all(|(a, p)| *p == swapped(a))
}
