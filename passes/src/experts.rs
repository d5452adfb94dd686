//! Experts that every token goes through, most of them for nothing, become a product with the matrices of those that it chose.
//!
//! A mixture of experts that is written without indices of data computes `Σₑ cₑ(t) · fₑ(x)(t)` over all experts, where `cₑ(t)` is the weight of the expert for token t, and 0 for all but the few
//! that the token chose. [`routing`] finds that a factor is such a weight, however it was written: choices compared with numbers, one-hot, or written to their places among zeros. Where
//! the `fₑ` are one function but for their weights ([`lift`]), the sum is `Σₖ wₖ(t) · f(x)(t)` with the weights of the expert that slot k of the token holds: `gather_mm` with all
//! experts' weights stacked, which is a view of them or, where they were apart, one constant made of their bytes.
//!
//! It is done where
//! - choices are places in an order of all experts (`topk`, `sort`) or of a largest element, so that they are in range and those of a token differ;
//! - there is a term for each expert that can be chosen;
//! - constants that are stacked are read by nothing else;
//! - the target's table says that it is cheaper. It counts arithmetic, bytes and launches; for `f16` and `bf16` on the CPU, which has no such product, it never is.
//!
//! A product with matrices that were copied because an index chose them is one with chosen matrices too, however they were arranged on the way ([`products`]).
//!
//! Numerics: reassociates, but for such products, which are exact. The sum runs over the chosen experts only, so that an expert that wasn't chosen has no part in it even where it makes an infinity or NaN, of which 0 times would
//! be NaN.

mod lift;
mod products;
mod routing;
mod slots;

use crate::canon::Builder;
use crate::cost::Model;
use crate::decompose::copy_ends;
use crate::pass::{Numerics, PassCx, PassError};
use crate::shapes::{Group as Run, groups, product};
use crate::sweep;
use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Graph, Op, OpError, Symbol, Type, Value};
use lift::Lift;
use routing::{Routed, Routing, Which, padded};
use std::collections::{BTreeMap, BTreeSet};

/// The pass's name.
pub const NAME: &str = "experts";

/// The most steps between a term of the sum and the factors that it is made of.
const DEEPEST: usize = 8;

/// The pass: see the module.
///
/// # Errors
/// An op that the pass built doesn't take its arguments, which is a bug.
pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError> {
    let chooses = |op: &Op| matches!(op, Op::Argsort(_) | Op::Argmax(_) | Op::Argmin(_));
    let choices = graph.nodes().iter().any(|n| chooses(&n.op));
    let sums = choices && cx.numerics >= Numerics::Reassociates;
    if !sums && !graph.nodes().iter().any(|n| matches!(n.op, Op::Take(_))) {
        return Ok(graph.clone());
    }
    let rewritten = || -> Result<Graph, OpError> {
        let mut experts = Experts::new(graph, Model::of(cx, &graph.symbols));
        for (value, node) in graph.values() {
            let args: Vec<Value> = node.args.iter().map(|a| experts.map[a.index()]).collect();
            let b = experts.b.at(&node.loc);
            let new = b.add(node.op.clone(), &args)?;
            experts.images.insert(new);
            let new = match experts.product(value, new)? {
                Some(product) => product,
                None if sums => {
                    experts.routing.note(&mut experts.b, new)?;
                    experts.replaced(value, new)?
                }
                None => new,
            };
            experts.images.insert(new);
            experts.map.push(new);
        }
        let map = experts.map;
        let mut out = experts.b.finish();
        copy_ends(graph, &mut out, &map);
        sweep::sweep(&out)
    };
    rewritten().map_err(PassError::op(NAME, format!("graph \"{}\"", graph.name)))
}

/// The graph while it is rebuilt.
struct Experts<'a> {
    graph: &'a Graph,
    /// The nodes that read each value, a node once for each argument, and once more each output and next state by the value itself.
    users: Vec<Vec<Value>>,
    /// The constants that one node reads, and no state begins with.
    alone: BTreeSet<Symbol>,
    b: Builder,
    /// What each old value is in the builder.
    map: Vec<Value>,
    /// The builder's values that are some old value.
    images: BTreeSet<Value>,
    routing: Routing,
    model: Model,
}

/// The experts of a sum that are weighed alike, by number.
type Groups = BTreeMap<(Value, Option<Value>), Group>;

struct Group {
    routed: Routed,
    experts: BTreeMap<i64, Value>,
    /// The terms of the sum.
    terms: Vec<Value>,
}

impl<'a> Experts<'a> {
    fn new(graph: &'a Graph, model: Model) -> Experts<'a> {
        let live = graph.live();
        let mut users = vec![Vec::new(); graph.nodes().len()];
        for (value, node) in graph.values().filter(|(v, _)| live[v.index()]) {
            for a in &node.args {
                users[a.index()].push(value);
            }
        }
        for root in graph.roots() {
            users[root.index()].push(root);
        }
        let mut alone = BTreeSet::new();
        for (value, node) in graph.values() {
            if let Op::Constant(constant) = &node.op {
                let initial = graph
                    .states
                    .iter()
                    .any(|s| s.init.as_ref() == Some(&constant.name));
                if users[value.index()].len() == 1 && !initial {
                    alone.insert(constant.name.clone());
                }
            }
        }
        Experts {
            graph,
            users,
            alone,
            b: Builder::new(graph),
            map: Vec::with_capacity(graph.nodes().len()),
            images: BTreeSet::new(),
            routing: Routing::default(),
            model,
        }
    }

    /// A product with chosen matrices, in the place of an old value that has become `new`.
    fn product(&mut self, value: Value, new: Value) -> Result<Option<Value>, OpError> {
        let product = products::chosen(&mut self.b, new)?;
        Ok(product.filter(|product| self.is_cheaper(value, *product)))
    }

    /// What stands in the place of an old value that has become `new`: itself, where it is no sum over experts.
    fn replaced(&mut self, value: Value, new: Value) -> Result<Value, OpError> {
        if let Some(taken) = self.taken(new)?.filter(|v| self.is_cheaper(value, *v)) {
            return Ok(taken);
        }
        let of_stack = match self.stack(new) {
            Some((routed, experts)) => {
                let experts = experts.into_iter().zip(0..).map(|(v, n)| (n, v)).collect();
                self.chosen(&routed, &experts, new)?
            }
            None => None,
        };
        if let Some(sum) = of_stack.filter(|sum| self.is_cheaper(value, *sum)) {
            return Ok(sum);
        }
        if !self.is_sum(value) {
            return Ok(new);
        }
        let terms = self.terms(value);
        let mut groups = Groups::new();
        for &term in &terms {
            if let Some((expert, routed)) = self.term(term, 0)?
                && let Which::One(number) = routed.which
            {
                let key = (routed.index, routed.weight);
                let group = groups.entry(key).or_insert_with(|| Group {
                    routed,
                    experts: BTreeMap::new(),
                    terms: Vec::new(),
                });
                if group.experts.insert(number, expert).is_none() {
                    group.terms.push(term);
                } else {
                    // A second term for an expert: not a sum over experts.
                    group.routed.count = -1;
                }
            }
        }
        let mut sums = Vec::new();
        let mut done: BTreeSet<Value> = BTreeSet::new();
        for group in groups.values() {
            if let Some(sum) = self.chosen(&group.routed, &group.experts, new)? {
                sums.push(sum);
                done.extend(&group.terms);
            }
        }
        if sums.is_empty() {
            return Ok(new);
        }
        let zero = |v: &Value| self.b.literal(*v).is_some_and(|n| n.as_f64() == 0.0);
        let kept: Vec<Value> = terms
            .into_iter()
            .filter(|t| !done.contains(t) && !zero(t))
            .collect();
        let mut all = kept.into_iter().chain(sums);
        let Some(mut sum) = all.next() else {
            return Ok(new);
        };
        for term in all {
            sum = self.b.add(op::Add {}, &[sum, term])?;
        }
        let same = self.b.ty(sum) == self.b.ty(new);
        Ok(if same && self.is_cheaper(value, sum) {
            sum
        } else {
            new
        })
    }

    /// Whether the value is an addition that is no term of another one alone.
    fn is_sum(&self, value: Value) -> bool {
        let add = |v: Value| matches!(self.graph.node(v).op, Op::Add(_));
        let term = match self.users[value.index()].as_slice() {
            &[user] => user != value && add(user) && self.graph.ty(user) == self.graph.ty(value),
            _ => false,
        };
        add(value) && !term
    }

    /// The terms of a sum, as the builder has them.
    fn terms(&self, sum: Value) -> Vec<Value> {
        let mut terms = Vec::new();
        let mut open = vec![sum];
        while let Some(value) = open.pop() {
            let node = self.graph.node(value);
            let inner = matches!(node.op, Op::Add(_))
                && (value == sum
                    || self.users[value.index()].len() == 1 && node.ty == *self.graph.ty(sum));
            if inner {
                open.extend(node.args.iter().rev());
            } else {
                terms.push(self.map[value.index()]);
            }
        }
        terms
    }

    /// A term as an expert's value and its weight.
    fn term(&mut self, value: Value, depth: usize) -> Result<Option<(Value, Routed)>, OpError> {
        if depth > DEEPEST {
            return Ok(None);
        }
        let made = self.b.op(value).clone();
        let args = self.b.args(value).to_vec();
        match (&made, args.as_slice()) {
            (Op::Mul(_), &[x, y]) => {
                for (factor, rest) in [(x, y), (y, x)] {
                    if let Some(routed) = self.weight(factor, value) {
                        return Ok(Some((rest, routed)));
                    }
                }
                for (factor, rest) in [(x, y), (y, x)] {
                    if let Some((expert, routed)) = self.term(factor, depth + 1)? {
                        let expert = self.b.add(made.clone(), &[expert, rest])?;
                        return Ok(Some((expert, routed)));
                    }
                }
                Ok(None)
            }
            (Op::Div(_), &[x, y]) => Ok(match self.term(x, depth + 1)? {
                Some((expert, routed)) => Some((self.b.add(made.clone(), &[expert, y])?, routed)),
                None => None,
            }),
            (Op::Where(_), &[condition, chosen, other])
                if self.b.literal(other).is_some_and(|n| n.as_f64() == 0.0) =>
            {
                Ok(self.weight(condition, value).map(|r| (chosen, r)))
            }
            (Op::Reshape(_), &[x]) if self.b.shape(x).last() == self.b.shape(value).last() => {
                self.term(x, depth + 1)
            }
            // The sum is made before it is rounded to the narrower dtype, once.
            (Op::Cast(cast), &[x]) if cast.dtype.is_float() => {
                let wide = |d: DType| d.is_float() && d.size() > cast.dtype.size();
                match self.b.dtype(x).is_some_and(wide) {
                    true => self.term(x, depth + 1),
                    false => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The weight of one expert that a factor of `of` is, the same for all features of a token.
    fn weight(&self, factor: Value, of: Value) -> Option<Routed> {
        let routed = self.routing.get(factor)?;
        let mut shape = self.b.shape(of).to_vec();
        *shape.last_mut()? = 1i64.into();
        let own = padded(self.b.shape(factor), shape.len()) == shape;
        let single = matches!(routed.which, Which::One(_)) && routed.slot.is_none();
        (own && single && !routed.hidden).then_some(*routed)
    }

    /// The weights and the values of a sum over experts whose values stand side by side along an axis.
    fn stack(&mut self, sum: Value) -> Option<(Routed, Vec<Value>)> {
        let b = &mut self.b;
        let (made, args) = (b.op(sum).clone(), b.args(sum).to_vec());
        let (x, y, summed) = match (&made, args.as_slice()) {
            (Op::Sum(s), &[product]) => match (b.op(product), b.args(product), s.axes.as_slice()) {
                (Op::Mul(_), &[x, y], &[axis]) => (x, y, Some((product, axis))),
                _ => return None,
            },
            (Op::Matmul(_), &[x, y]) => (x, y, None),
            _ => return None,
        };
        let (weights, values) = match (self.routing.get(x), self.routing.get(y)) {
            (Some(_), None) => (x, y),
            (None, Some(_)) => (y, x),
            _ => return None,
        };
        let rank = b.shape(summed.map_or(sum, |(product, _)| product)).len();
        // Where the experts and the features are, of the values, and the experts of the weights.
        let (experts, features, own) = match summed {
            Some((_, axis)) if axis + 1 == rank => (axis, rank.checked_sub(2)?, axis),
            Some((_, axis)) => (axis, rank - 1, axis),
            None if weights == x => (rank - 2, rank - 1, rank - 1),
            None => (rank - 1, rank - 2, rank - 2),
        };
        let routed = *self.routing.get(weights)?;
        let lead = rank - b.shape(weights).len();
        let (all, shape) = (padded(b.shape(weights), rank), b.shape(values).to_vec());
        let ones = match summed {
            Some(_) => features,
            None => rank - 1 - (own - (rank - 2)),
        };
        let tokens = |a: &usize| *a != experts && *a != features;
        let fits = shape.len() == rank
            && routed.which == Which::Axis(own.checked_sub(lead)?)
            && routed.slot.is_none()
            && !routed.hidden
            && all[ones].is(1)
            && shape[experts].is(routed.count)
            && (0..rank).filter(tokens).all(|a| all[a] == shape[a]);
        let experts = fits.then(|| unstacked(b, values, experts, features));
        Some((routed, experts.flatten()?))
    }

    /// What the chosen experts make, where it is taken from what all make, side by side along an axis.
    fn taken(&mut self, value: Value) -> Result<Option<Value>, OpError> {
        let b = &mut self.b;
        let (Op::TakeAlong(take), &[values, index]) = (b.op(value), b.args(value)) else {
            return Ok(None);
        };
        let (axis, shape) = (take.axis, b.shape(value).to_vec());
        let index = match b.op(index) {
            Op::Broadcast(_) => b.arg(index, 0),
            _ => index,
        };
        let Some(slots) = self.routing.slots(index).copied() else {
            return Ok(None);
        };
        let all = b.shape(values).to_vec();
        let mut choices = shape.clone();
        choices.pop();
        choices.push(1i64.into());
        let lead = shape.len() - b.shape(index).len();
        let fits = axis + 2 == shape.len()
            && slots.axis.is_none_or(|a| a + lead == axis)
            && padded(b.shape(index), shape.len()) == choices
            && all[axis].is(slots.count)
            && all[..axis] == shape[..axis]
            && all.last() == shape.last()
            && product(&choices) == product(b.shape(slots.index));
        let experts = fits.then(|| unstacked(b, values, axis, axis + 1)).flatten();
        let (Some(experts), true) = (experts, slots.count > 1) else {
            return Ok(None);
        };
        let lift = Lift::new(b, slots.index, experts.len(), &self.alone);
        let Some(mut lift) = lift else {
            return Ok(None);
        };
        match lift.chosen(&experts)? {
            Some(chosen) if product(b.shape(chosen)) == product(&shape) => {
                b.reshape(chosen, shape).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `Σₖ wₖ · f(x)` with the chosen experts, in the shape of `like`.
    fn chosen(
        &mut self,
        routed: &Routed,
        experts: &BTreeMap<i64, Value>,
        like: Value,
    ) -> Result<Option<Value>, OpError> {
        let complete = experts.keys().copied().eq(0..routed.count) && experts.len() > 1;
        if !complete {
            return Ok(None);
        }
        let experts: Vec<Value> = experts.values().copied().collect();
        let shape = self.b.shape(like).to_vec();
        let lift = Lift::new(&mut self.b, routed.index, experts.len(), &self.alone);
        let Some(mut lift) = lift else {
            return Ok(None);
        };
        let Some(mut values) = lift.chosen(&experts)? else {
            return Ok(None);
        };
        if let Some(weight) = routed.weight {
            let weight = lift.column(weight)?;
            values = self.b.add(op::Mul {}, &[values, weight])?;
        }
        let (axes, keepdim) = (vec![1], false);
        let sum = self.b.add(op::Sum { axes, keepdim }, &[values])?;
        if product(self.b.shape(sum)) != product(&shape) {
            return Ok(None);
        }
        let sum = self.b.reshape(sum, shape)?;
        match self.b.dtype(like) {
            Some(dtype) => self.b.cast(sum, dtype).map(Some),
            None => Ok(None),
        }
    }

    /// Whether what is new behind `sum` costs less than what nothing needs any longer once it stands in the place of `old`.
    fn is_cheaper(&self, old: Value, sum: Value) -> bool {
        let mut kept = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![sum];
        let mut after = 0u64;
        while let Some(value) = open.pop() {
            if self.images.contains(&value) {
                kept.insert(value);
            } else if seen.insert(value) {
                let node = self.b.graph().node(value);
                let fixed = self.b.is_fixed(value);
                after = after.saturating_add(self.cost(self.b.graph(), value, fixed));
                open.extend(&node.args);
            }
        }
        let mut dead = BTreeSet::from([old]);
        let mut before = self.cost(self.graph, old, false);
        for value in (0..old.index()).rev().map(Value::from_index) {
            let users = &self.users[value.index()];
            let image = self.map[value.index()];
            if !users.is_empty()
                && users.iter().all(|u| *u != value && dead.contains(u))
                && !kept.contains(&image)
            {
                dead.insert(value);
                let fixed = self.b.is_fixed(image);
                before = before.saturating_add(self.cost(self.graph, value, fixed));
            }
        }
        after < before
    }

    fn cost(&self, graph: &Graph, value: Value, fixed: bool) -> u64 {
        let node = graph.node(value);
        let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
        self.model.cost(&node.op, &types, &node.ty, fixed)
    }
}

/// The values that stand side by side along the axis `experts`, each with the features of a token last, as they are along `features` of the whole.
fn unstacked(
    b: &mut Builder,
    value: Value,
    mut experts: usize,
    mut features: usize,
) -> Option<Vec<Value>> {
    let mut at = value;
    loop {
        let shape = b.shape(at).to_vec();
        let &inner = b.args(at).first()?;
        match b.op(at).clone() {
            Op::Transpose(t) => {
                let axes = [experts, features];
                let tokens = |a: &&usize| !axes.contains(a) && !shape[**a].is(1);
                let order: Vec<usize> = (0..shape.len())
                    .filter(|a| tokens(&a))
                    .map(|a| t.perm[a])
                    .collect();
                if !order.is_sorted() {
                    return None;
                }
                (experts, features) = (t.perm[experts], t.perm[features]);
                at = inner;
            }
            Op::Reshape(_) => {
                let groups = groups(&shape, b.shape(inner))?;
                let of = |axis| groups.iter().find(|g| g.from.contains(&axis));
                let (e, f) = (of(experts)?, of(features)?);
                let one_each = |g: &Run| g.from.len() == 1 && g.to.len() == 1;
                if e == f && e.from == (experts..features + 1) && e.to.len() == 1 {
                    let parts = parts(b, inner, e.to.start, &shape[features])?;
                    let last = e.to.end == b.shape(inner).len();
                    return last.then_some(parts);
                }
                if !one_each(e) || !one_each(f) {
                    return None;
                }
                (experts, features) = (e.to.start, f.to.start);
                at = inner;
            }
            Op::Cat(_) => {
                let last = features + 1 + usize::from(experts > features) == shape.len();
                let parts = parts(b, at, experts, &1i64.into())?;
                let mut each = shape;
                each.remove(experts);
                let flat = |v| b.reshape(v, each.clone()).ok();
                return last
                    .then(|| parts.into_iter().map(flat).collect::<Option<_>>())
                    .flatten();
            }
            _ => return None,
        }
    }
}

/// What is put together along an axis, where each has the same size along it.
fn parts(b: &Builder, value: Value, axis: usize, len: &Dim) -> Option<Vec<Value>> {
    let Op::Cat(cat) = b.op(value) else {
        return None;
    };
    let each = |v: &Value| b.shape(*v).get(axis) == Some(len);
    let parts = b.args(value);
    (cat.axis == axis && parts.iter().all(each)).then(|| parts.to_vec())
}

#[cfg(test)]
mod tests;
