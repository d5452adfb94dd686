//! Transpositions that many steps lie between meet and cancel.
//!
//! The target's convolutions want channels last, and PyTorch's have them second: between two of them an export has a transposition, steps that don't care how axes lie
//! (activations, sums, padding, pooling), and the transposition back. `nn.MultiheadAttention` puts positions before the batch, and the batch before positions again behind its
//! products. Those steps are done on the axes as they lie before the first one instead. What is joined by such steps is decided as one: all of it moves where fewer
//! transpositions are left, or none of it.
//!
//! Numerics: exact, up to the order in which a reduction of several axes sums.

use crate::decompose::copy_ends;
use crate::hoist::const_only;
use crate::pass::{PassCx, PassError};
use crate::shapes::{Group, groups};
use crate::sweep;
use fuseline_ir::ops::table as op;
use fuseline_ir::{Dim, Flag, Graph, Loc, Node, Op, OpError, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The pass's name.
pub const NAME: &str = "layout";

/// The pass: see the module.
///
/// # Errors
/// An op that the pass built doesn't take its arguments, which is a bug.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let fixed = const_only(graph);
    let all = Plan::new(graph, &fixed, |_| true);
    let paying = all.paying();
    if paying.is_empty() {
        return Ok(graph.clone());
    }
    let plan = Plan::new(graph, &fixed, |v| paying.contains(&all.region(v)));
    plan.emit()
        .map_err(PassError::op(NAME, format!("graph \"{}\"", graph.name)))
}

/// How a value is made from one whose axes lie otherwise: axis i of the value is axis `perm[i]` of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// The op on the axes as they lie; `None` where it is nothing but another order.
    op: Option<Op>,
    /// The order of the result; the identity where a value comes out as it was.
    perm: Vec<usize>,
    /// The order of the arguments that aren't scalars, and that don't stay.
    before: Vec<usize>,
    /// A transposition of the first argument that the op needs, where axes that it joins lie apart.
    first: Option<Vec<usize>>,
}

/// What would be done otherwise.
struct Plan<'a> {
    graph: &'a Graph,
    fixed: &'a [bool],
    steps: Vec<Option<Step>>,
    /// A value of the same region with a smaller number, or the value itself.
    joined: Vec<usize>,
}

impl<'a> Plan<'a> {
    fn new(graph: &'a Graph, fixed: &'a [bool], allowed: impl Fn(usize) -> bool) -> Plan<'a> {
        let count = graph.nodes().len();
        let mut plan = Plan {
            graph,
            fixed,
            steps: Vec::with_capacity(count),
            joined: (0..count).collect(),
        };
        for (value, node) in graph.values() {
            let step = (!fixed[value.index()] && allowed(value.index()))
                .then(|| plan.step(node))
                .flatten();
            for a in node.args.iter().filter(|_| step.is_some()) {
                if plan.order(*a).is_some() {
                    plan.join(a.index(), value.index());
                }
            }
            plan.steps.push(step);
        }
        plan
    }

    /// The order in which a value is there, where that isn't its own.
    fn order(&self, v: Value) -> Option<&[usize]> {
        let step = self.steps[v.index()].as_ref()?;
        (!identity(&step.perm)).then_some(step.perm.as_slice())
    }

    fn region(&self, mut v: usize) -> usize {
        while self.joined[v] != v {
            v = self.joined[v];
        }
        v
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.region(a), self.region(b));
        self.joined[a.max(b)] = a.min(b);
    }

    /// A node on the axes as they lie in its arguments. Only where an argument's do lie otherwise, or the node is a transposition.
    fn step(&self, node: &Node) -> Option<Step> {
        let rank = |v: &Value| self.graph.ty(*v).as_tensor().map(|t| t.rank());
        let result = node.ty.as_tensor()?.rank();
        if let Op::Transpose(t) = &node.op {
            let perm = match self.order(node.args[0]) {
                Some(order) => t.perm.iter().map(|&p| order[p]).collect(),
                None => t.perm.clone(),
            };
            let before = (0..result).collect();
            return Some(Step {
                op: None,
                perm,
                before,
                first: None,
            });
        }
        let before = node.args.iter().find_map(|a| self.order(*a))?.to_vec();
        if let Op::Reshape(reshape) = &node.op {
            let from = &self.graph.ty(node.args[0]).as_tensor()?.shape;
            return reshaped(from, &reshape.shape, before);
        }
        let pointwise = node.op.info().has(Flag::Pointwise);
        for (n, a) in node.args.iter().enumerate() {
            if self.stays(node, n) {
                if self.order(*a).is_some() {
                    return None;
                }
                continue;
            }
            let agrees = match self.order(*a) {
                Some(order) => order == before,
                None => pointwise || rank(a)? == before.len(),
            };
            if !agrees || rank(a)? > before.len() {
                return None;
            }
        }
        if pointwise && result != before.len() {
            return None;
        }
        let (op, perm) = match &node.op {
            op if by_rows(op) => {
                let last = before.last().is_some_and(|p| p + 1 == before.len());
                let matrix =
                    !matches!(op, Op::Matmul(_) | Op::Addmm(_)) || rank(&node.args[1])? == 2;
                (last && matrix && result == before.len()).then(|| (op.clone(), before.clone()))?
            }
            op => moved(op, &before)?,
        };
        Some(Step {
            op: Some(op),
            perm,
            before,
            first: None,
        })
    }

    /// Whether argument `n` of a node is taken as it is, however the others lie: the weights of what works on rows.
    fn stays(&self, node: &Node, n: usize) -> bool {
        let vector = || {
            let ty = node.args.get(n).and_then(|a| self.graph.ty(*a).as_tensor());
            ty.is_some_and(|t| t.rank() <= 1)
        };
        match &node.op {
            Op::Addmm(_) if n == 2 => vector(),
            op => n > 0 && by_rows(op),
        }
    }

    /// Whether argument `n` of a node, which is done by this step, must get another order first.
    fn foreign(&self, step: &Step, node: &Node, n: usize) -> bool {
        let arg = node.args[n];
        let scalar = self.graph.ty(arg).as_tensor().is_none_or(|t| t.rank() == 0);
        step.op.is_some() && self.order(arg).is_none() && !scalar && !self.stays(node, n)
    }

    /// The regions that have fewer transpositions afterwards.
    fn paying(&self) -> BTreeSet<usize> {
        let mut gain: BTreeMap<usize, i64> = BTreeMap::new();
        let mut outside: BTreeSet<Value> = self.graph.roots().into_iter().collect();
        let mut turned: BTreeSet<(usize, Value)> = BTreeSet::new();
        for (value, node) in self.graph.values() {
            let Some(step) = &self.steps[value.index()] else {
                outside.extend(&node.args);
                continue;
            };
            let region = self.region(value.index());
            if step.op.is_none() {
                *gain.entry(region).or_default() += 1;
            }
            if step.first.is_some() {
                *gain.entry(region).or_default() -= 1;
            }
            for (n, a) in node.args.iter().enumerate() {
                if self.foreign(step, node, n) && !self.fixed[a.index()] {
                    turned.insert((region, *a));
                } else if self.stays(node, n) {
                    outside.insert(*a);
                }
            }
        }
        for v in outside.iter().filter(|v| self.order(**v).is_some()) {
            *gain.entry(self.region(v.index())).or_default() -= 1;
        }
        for (region, _) in &turned {
            *gain.entry(*region).or_default() -= 1;
        }
        gain.into_iter()
            .filter(|(_, n)| *n > 0)
            .map(|(r, _)| r)
            .collect()
    }

    fn emit(&self) -> Result<Graph, OpError> {
        let mut out = self.graph.rebuilt();
        // Each value as it lies, and as it was.
        let mut lying: Vec<Value> = Vec::with_capacity(self.graph.nodes().len());
        let mut own: Vec<Option<Value>> = Vec::with_capacity(self.graph.nodes().len());
        let mut turned: BTreeMap<(Value, Vec<usize>), Value> = BTreeMap::new();
        let roots: BTreeSet<Value> = self.graph.roots().into_iter().collect();
        for (value, node) in self.graph.values() {
            let step = self.steps[value.index()].as_ref();
            let mut args = Vec::with_capacity(node.args.len());
            for (n, a) in node.args.iter().enumerate() {
                args.push(match step {
                    Some(step) if self.foreign(step, node, n) => {
                        let key = (*a, step.before.clone());
                        match turned.get(&key) {
                            Some(v) => *v,
                            None => {
                                let v = turn(&mut out, lying[a.index()], &step.before, &node.loc)?;
                                turned.insert(key, v);
                                v
                            }
                        }
                    }
                    Some(_) => lying[a.index()],
                    None => self.as_it_was(&mut out, *a, &lying, &mut own)?,
                });
            }
            if let Some(perm) = step.and_then(|step| step.first.clone()) {
                args[0] = out.add(op::Transpose { perm }, &args[..1], &node.loc)?;
            }
            let new = match step {
                None => out.add(node.op.clone(), &args, &node.loc)?,
                Some(Step { op: Some(op), .. }) => out.add(op.clone(), &args, &node.loc)?,
                Some(Step { op: None, .. }) => args[0],
            };
            lying.push(new);
            own.push(None);
            if roots.contains(&value) {
                self.as_it_was(&mut out, value, &lying, &mut own)?;
            }
        }
        let map: Vec<Value> = own
            .iter()
            .zip(&lying)
            .map(|(own, v)| own.unwrap_or(*v))
            .collect();
        copy_ends(self.graph, &mut out, &map);
        sweep::sweep(&out)
    }

    fn as_it_was(
        &self,
        out: &mut Graph,
        v: Value,
        lying: &[Value],
        own: &mut [Option<Value>],
    ) -> Result<Value, OpError> {
        if let Some(there) = own[v.index()] {
            return Ok(there);
        }
        let value = match self.order(v) {
            Some(order) => {
                let perm = order.to_vec();
                out.add(
                    op::Transpose { perm },
                    &[lying[v.index()]],
                    &self.graph.node(v).loc,
                )?
            }
            None => lying[v.index()],
        };
        own[v.index()] = Some(value);
        Ok(value)
    }
}

fn identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, p)| i == *p)
}

/// The value whose axis `order[i]` is axis i of `v`; axes that `v` lacks are of size 1.
fn turn(out: &mut Graph, v: Value, order: &[usize], loc: &Loc) -> Result<Value, OpError> {
    let shape = &out.tensor_ty(v)?.shape;
    let mut full = vec![Dim::from(1i64); order.len().saturating_sub(shape.len())];
    full.extend(shape.iter().cloned());
    let v = if full.len() == shape.len() {
        v
    } else {
        out.add(op::Reshape { shape: full }, &[v], loc)?
    };
    let mut perm = vec![0; order.len()];
    for (i, p) in order.iter().enumerate() {
        perm[*p] = i;
    }
    out.add(op::Transpose { perm }, &[v], loc)
}

/// Whether the op treats each row, along the last axis of its first argument, alike: however many axes number them, and in whatever order.
fn by_rows(op: &Op) -> bool {
    matches!(
        op,
        Op::Matmul(_) | Op::Addmm(_) | Op::QuantizedMatmul(_) | Op::RmsNorm(_) | Op::LayerNorm(_)
    )
}

/// A reshape of what lies in an order. Where axes that it joins lie apart, a transposition brings them together, with the last axis last, which leaves the others as they lie.
fn reshaped(from: &[Dim], to: &[Dim], before: Vec<usize>) -> Option<Step> {
    let groups = groups(from, to)?;
    let together = |group: &Group, order: &[usize]| {
        let lying = &order[group.from.clone()];
        lying.windows(2).all(|pair| pair[0] + 1 == pair[1])
    };
    let mut order = before.clone();
    let mut first = None;
    if !groups.iter().all(|group| together(group, &order)) {
        let last = before.len().checked_sub(1)?;
        let place = |group: &&Group| {
            let least = before[group.from.clone()].iter().min().copied();
            (group.from.contains(&last), least)
        };
        let mut sorted: Vec<&Group> = groups.iter().filter(|g| !g.from.is_empty()).collect();
        sorted.sort_by_key(place);
        let axes = || sorted.iter().flat_map(|group| group.from.clone());
        first = Some(axes().map(|axis| before[axis]).collect());
        for (lies, axis) in axes().enumerate() {
            order[axis] = lies;
        }
    }
    // An axis of size 1 that the reshape adds comes behind what is before it.
    let mut behind = None;
    let mut placed = Vec::with_capacity(groups.len());
    for group in &groups {
        behind = order[group.from.clone()].first().copied().or(behind);
        placed.push((behind, group));
    }
    placed.sort_by_key(|(behind, _)| *behind);
    let axes: Vec<usize> = placed.iter().flat_map(|(_, g)| g.to.clone()).collect();
    let mut perm = vec![0; to.len()];
    for (lies, axis) in axes.iter().enumerate() {
        perm[*axis] = lies;
    }
    let shape = axes.iter().map(|axis| to[*axis].clone()).collect();
    Some(Step {
        op: Some(op::Reshape { shape }.into()),
        perm,
        before,
        first,
    })
}

/// An op on arguments of which axis i lies at `order[i]`, and how the axes of its result lie.
fn moved(op: &Op, order: &[usize]) -> Option<(Op, Vec<usize>)> {
    let same = |op: Op| Some((op, order.to_vec()));
    let lying = |of: &[Dim]| {
        let mut out = of.to_vec();
        for (i, p) in order.iter().enumerate() {
            out[*p] = of[i].clone();
        }
        out
    };
    match op {
        op if op.info().has(Flag::Pointwise) => same(op.clone()),
        Op::Pad(pad) => same(
            op::Pad {
                low: lying(&pad.low),
                high: lying(&pad.high),
                value: pad.value,
            }
            .into(),
        ),
        Op::Slice(slice) => same(
            op::Slice {
                axis: order[slice.axis],
                ..slice.clone()
            }
            .into(),
        ),
        Op::Cat(cat) => same(
            op::Cat {
                axis: order[cat.axis],
            }
            .into(),
        ),
        Op::Softmax(s) => same(
            op::Softmax {
                axis: order[s.axis],
            }
            .into(),
        ),
        Op::Window(window) => {
            let axes: Vec<usize> = window.axes.iter().map(|a| order[*a]).collect();
            let ascending = axes.is_sorted();
            let mut perm = order.to_vec();
            perm.extend(order.len()..order.len() + axes.len());
            let op = op::Window {
                axes,
                ..window.clone()
            };
            ascending.then(|| (op.into(), perm))
        }
        Op::Mean(op::Mean { axes, keepdim }) => {
            let (axes, keepdim, perm) = reduced(axes, *keepdim, order);
            Some((op::Mean { axes, keepdim }.into(), perm))
        }
        Op::LogSumExp(op::LogSumExp { axes, keepdim }) => {
            let (axes, keepdim, perm) = reduced(axes, *keepdim, order);
            Some((op::LogSumExp { axes, keepdim }.into(), perm))
        }
        Op::Sum(op::Sum { axes, keepdim }) => {
            let (axes, keepdim, perm) = reduced(axes, *keepdim, order);
            Some((op::Sum { axes, keepdim }.into(), perm))
        }
        Op::Amax(op::Amax { axes, keepdim }) => {
            let (axes, keepdim, perm) = reduced(axes, *keepdim, order);
            Some((op::Amax { axes, keepdim }.into(), perm))
        }
        Op::Amin(op::Amin { axes, keepdim }) => {
            let (axes, keepdim, perm) = reduced(axes, *keepdim, order);
            Some((op::Amin { axes, keepdim }.into(), perm))
        }
        _ => None,
    }
}

/// The axes of a reduction as they lie, and the order of what is left.
fn reduced(axes: &[usize], keepdim: bool, order: &[usize]) -> (Vec<usize>, bool, Vec<usize>) {
    let mut lying: Vec<usize> = axes.iter().map(|a| order[*a]).collect();
    lying.sort_unstable();
    let perm = if keepdim {
        order.to_vec()
    } else {
        let left = |p: &usize| p - lying.iter().filter(|a| *a < p).count();
        let kept = order.iter().enumerate().filter(|(i, _)| !axes.contains(i));
        kept.map(|(_, p)| left(p)).collect()
    };
    (lying, keepdim, perm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;

    fn transposes(text: &str) -> usize {
        let graph = fuseline_ir::text::parse(text).unwrap();
        let out = run(&graph, &PassCx::new(Target::Cpu)).unwrap();
        out.verify().unwrap();
        assert_eq!(out.outputs.len(), graph.outputs.len());
        for (a, b) in out.outputs.iter().zip(&graph.outputs) {
            assert_eq!(out.ty(a.value), graph.ty(b.value));
        }
        let moves = |n: &&Node| matches!(n.op, Op::Transpose(_));
        out.nodes().iter().filter(moves).count()
    }

    #[test]
    fn steps_between_two_convolutions_keep_channels_last() {
        let text = r#"graph "g" {
  data "w" : f32[3, 1, 1, 3]
  data "b" : f32[3, 1, 1] = [1.0, 2.0, 3.0]
  %x = input[name="x", ty=f32[2, 4, 4, 3]]
  %w = constant[name="w", ty=f32[3, 1, 1, 3]]
  %b = constant[name="b", ty=f32[3, 1, 1]]
  %c = conv[stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1](%x, %w)
  %t = transpose[perm=[0, 3, 1, 2]](%c)
  %s = add(%t, %b)
  %p = pad[low=[0, 0, 1, 0], high=[0, 0, 1, 2], value=0.0](%s)
  %v = window[axes=[2, 3], sizes=[2, 2], steps=[2, 2], dilations=[1, 1]](%p)
  %m = amax[axes=[4, 5], keepdim=false](%v)
  %u = transpose[perm=[0, 2, 3, 1]](%m)
  %d = conv[stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1](%u, %w)
  %e = transpose[perm=[0, 3, 1, 2]](%d)
  %f = mean[axes=[2, 3], keepdim=false](%e)
  output "f" = %f
}"#;
        // What is left is of the constant.
        assert_eq!(transposes(text), 1);
    }

    #[test]
    fn products_of_rows_take_the_batch_where_it_lies() {
        // As nn.MultiheadAttention does with the batch in front: only the heads change places with the positions, before attention and behind it.
        let text = r#"graph "g" {
  symbol s in 1..=64
  data "w" : f32[8, 24]
  data "b" : f32[24]
  data "o" : f32[8, 8]
  %x = input[name="x", ty=f32[2, s, 8]]
  %w = constant[name="w", ty=f32[8, 24]]
  %b = constant[name="b", ty=f32[24]]
  %o = constant[name="o", ty=f32[8, 8]]
  %t = transpose[perm=[1, 0, 2]](%x)
  %a = addmm(%t, %w, %b)
  %r = reshape[shape=[1, s, 2, 3, 8]](%a)
  %p = transpose[perm=[3, 1, 2, 0, 4]](%r)
  %q = slice[axis=0, start=0, stop=1, step=1](%p)
  %k = slice[axis=0, start=1, stop=2, step=1](%p)
  %q4 = reshape[shape=[s, 2, 4, 2]](%q)
  %k4 = reshape[shape=[s, 2, 4, 2]](%k)
  %qt = transpose[perm=[1, 2, 0, 3]](%q4)
  %kt = transpose[perm=[1, 2, 0, 3]](%k4)
  %d = sdpa[scale=1.0, causal=false](%qt, %kt, %kt)
  %u = transpose[perm=[2, 0, 1, 3]](%d)
  %m = reshape[shape=[s, 2, 8]](%u)
  %n = matmul(%m, %o)
  %y = transpose[perm=[1, 0, 2]](%n)
  output "y" = %y
}"#;
        assert_eq!(transposes(text), 3);
    }

    #[test]
    fn weights_that_are_turned_themselves_and_last_axes_stay() {
        let text = r#"graph "g" {
  %x = input[name="x", ty=f32[4, 3]]
  %w = input[name="w", ty=f32[4, 5]]
  %t = transpose[perm=[1, 0]](%x)
  %y = matmul(%t, %w)
  %u = transpose[perm=[1, 0]](%y)
  output "u" = %u
}"#;
        assert_eq!(transposes(text), 2);
    }

    #[test]
    fn what_pays_nothing_stays() {
        let text = r#"graph "g" {
  %x = input[name="x", ty=f32[2, 4, 3]]
  %y = input[name="y", ty=f32[2, 3, 4]]
  %t = transpose[perm=[0, 2, 1]](%x)
  %s = add(%t, %y)
  %u = transpose[perm=[0, 2, 1]](%s)
  output "s" = %s
  output "u" = %u
}"#;
        assert_eq!(transposes(text), 2);
    }

    #[test]
    fn a_reduction_may_leave_axes_in_another_order() {
        let (axes, _, perm) = reduced(&[1], false, &[0, 3, 1, 2]);
        assert_eq!((axes, perm), (vec![3], vec![0, 1, 2]));
        let (axes, _, perm) = reduced(&[2], false, &[0, 3, 1, 2]);
        assert_eq!((axes, perm), (vec![1], vec![0, 2, 1]));
    }
}
