//! Horizontal fusion: what several values are computed from one value by the same op is computed once, and then split.
//!
//! - *Products.* Matrix products of one value with several weights (queries, keys and values; gate and up; the gate and up of experts) become one product with the weights laid side by
//!   side. They are laid so in the file: the new constant is made of the old ones' bytes ([`concat`]), piece by piece while it is written. A weight that
//!   anything else reads stays where it is.
//! - *Steps.* What then happens to every part alike (the view as heads, the transpose, a cast) happens once, before the split, and so does what happens to some of them that lie side by
//!   side: one rotary embedding for queries and keys. This holds for a value that the model itself splits as well, so that a model with one projection and a model with
//!   three reach the same program ([`sink`]).
//!
//! No rewrite of a single value can see this, since it pays only where several values change together; so it is a pass and no rule. Each group is taken only where the
//! target's table says that it is cheaper: what is saved in launches and primitives against the split, and against reading parts whose rows no longer lie one after another.
//!
//! Numerics: a step is exact. A product's element is the same sum, but a library may take the terms in another order for another width, so products are joined where
//! sums may be reassociated.

mod concat;
mod sink;

use crate::cost::Model;
use crate::pass::{Numerics, PassCx, PassError};
use crate::shapes::partition;
use crate::sweep;
use fuseline_ir::{Graph, Op, OpError, Output, State, Value};
use sink::Part;
use std::collections::{BTreeMap, BTreeSet};

/// The pass's name.
pub const NAME: &str = "horizontal";

/// The most parts that are treated together; a value with more is treated in several goes.
const MAX_PARTS: usize = 64;

/// The most nodes between the first product of a group and the last: what is computed together is kept until its last part is used.
const SPAN: usize = 512;

/// The pass: see the module.
///
/// # Errors
/// An op that the pass built doesn't take its arguments: a bug.
pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError> {
    let fail = || PassError::op(NAME, format!("graph \"{}\"", graph.name));
    let mut fusion = Fusion::new(graph, Model::of(cx, &graph.symbols));
    if cx.numerics >= Numerics::Reassociates {
        for group in fusion.groups() {
            fusion.products(&group).map_err(fail())?;
        }
    }
    for (source, axis, parts) in fusion.splits() {
        let mut trial = fusion.sink(source, axis, &parts, false).map_err(fail())?;
        trial.before = trial.before.saturating_add(fusion.model.split());
        fusion.keep_if_cheaper(trial);
    }
    let out = fusion.finish().map_err(fail())?;
    sweep::sweep(&out).map_err(fail())
}

/// A change that has been tried: which values it replaces by which new ones, and the costs of what is there now and of what would be there.
#[derive(Default)]
struct Trial {
    replaced: Vec<(Value, Value)>,
    before: u64,
    after: u64,
}

impl Trial {
    fn add(&mut self, other: Trial) {
        self.replaced.extend(other.replaced);
        self.before = self.before.saturating_add(other.before);
        self.after = self.after.saturating_add(other.after);
    }
}

/// The graph while it changes. New nodes stand behind the old ones and take old values as arguments; which old value is to be replaced by which new one is noted beside.
struct Fusion {
    graph: Graph,
    /// The number of old nodes.
    old: usize,
    /// The old nodes that read an old value, a node once for each of its arguments.
    users: Vec<Vec<Value>>,
    roots: BTreeSet<Value>,
    /// Depends on constants alone.
    fixed: Vec<bool>,
    replaced: BTreeMap<Value, Value>,
    model: Model,
}

/// Products that can be one: in the graph's order.
struct Group {
    members: Vec<Value>,
}

impl Fusion {
    fn new(graph: &Graph, model: Model) -> Fusion {
        let live = graph.live();
        let mut users = vec![Vec::new(); graph.nodes().len()];
        for (value, node) in graph.values().filter(|(v, _)| live[v.index()]) {
            for a in &node.args {
                users[a.index()].push(value);
            }
        }
        Fusion {
            old: graph.nodes().len(),
            users,
            roots: graph.roots().into_iter().collect(),
            fixed: crate::hoist::const_only(graph),
            replaced: BTreeMap::new(),
            graph: graph.clone(),
            model,
        }
    }

    /// The one reader of an old value, where there is just one and it is a node.
    fn reader(&self, value: Value) -> Option<Value> {
        match self.users.get(value.index())?.as_slice() {
            &[user] if !self.roots.contains(&value) => Some(user),
            _ => None,
        }
    }

    /// The products that differ in nothing but weights that can be laid side by side.
    fn groups(&self) -> Vec<Group> {
        let mut all: BTreeMap<concat::Common, Vec<Value>> = BTreeMap::new();
        for value in (0..self.old).map(Value::from_index) {
            let live = !self.users[value.index()].is_empty() || self.roots.contains(&value);
            if !live || self.fixed[value.index()] {
                continue;
            }
            if let Some(common) = self.product(value) {
                all.entry(common).or_default().push(value);
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        for members in all.into_values().filter(|m| m.len() > 1) {
            groups.extend(
                self.together(&members)
                    .into_iter()
                    .map(|members| Group { members }),
            );
        }
        groups.sort_by_key(|g| g.members.first().copied());
        groups
    }

    /// Cuts a list of products where a later one stands behind heavy work on an earlier one: there the graph has gone on to something else, and what is computed with the first would
    /// only be kept for later.
    fn together(&self, members: &[Value]) -> Vec<Vec<Value>> {
        let mut out: Vec<Vec<Value>> = Vec::new();
        let mut open: Vec<Value> = Vec::new();
        let mut depends: BTreeSet<Value> = BTreeSet::new();
        let mut at = 0;
        for &member in members {
            let far = open
                .first()
                .is_some_and(|f| member.index() - f.index() > SPAN);
            let mut passed = far || open.len() == MAX_PARTS;
            while !passed && !open.is_empty() && at < member.index() {
                let value = Value::from_index(at);
                let node = self.graph.node(value);
                if node.args.iter().any(|a| depends.contains(a)) {
                    depends.insert(value);
                    passed |= is_heavy(&node.op);
                }
                at += 1;
            }
            if passed {
                out.push(std::mem::take(&mut open));
                depends.clear();
            }
            at = at.max(member.index() + 1);
            open.push(member);
            depends.insert(member);
        }
        out.push(open);
        out.retain(|group| group.len() > 1);
        out
    }

    /// Tries one product in the place of the group's.
    fn products(&mut self, group: &Group) -> Result<(), OpError> {
        let mut members = group.members.clone();
        // Parts with the same way ahead lie side by side.
        let ways: Vec<Vec<&'static str>> = members.iter().map(|m| self.way(*m)).collect();
        let first = |m: &Value| {
            let own = group
                .members
                .iter()
                .position(|o| o == m)
                .and_then(|n| ways.get(n));
            ways.iter().position(|w| Some(w) == own)
        };
        members.sort_by_key(|m| (first(m), *m));
        let Some(joint) = self.joint_product(&members)? else {
            return Ok(());
        };
        let axis = self.graph.tensor_ty(joint)?.rank().saturating_sub(1);
        let parts = members
            .iter()
            .map(|m| {
                let len = self.graph.tensor_ty(*m)?.shape[axis].clone();
                Ok(Part { len, old: *m })
            })
            .collect::<Result<Vec<Part>, OpError>>()?;
        let mut trial = Trial {
            before: members
                .iter()
                .fold(0, |n: u64, m| n.saturating_add(self.cost(*m))),
            after: self.cost(joint),
            ..Trial::default()
        };
        trial.add(self.sink(joint, axis, &parts, true)?);
        self.keep_if_cheaper(trial);
        Ok(())
    }

    /// The names of the ops that follow, while each value has one reader.
    fn way(&self, from: Value) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut at = from;
        while let Some(user) = self.reader(at).filter(|_| names.len() < 8) {
            let op = &self.graph.node(user).op;
            if is_heavy(op) {
                break;
            }
            names.push(op.name());
            at = user;
        }
        names
    }

    /// Values that are read only through slices that divide an axis among them.
    fn splits(&self) -> Vec<(Value, usize, Vec<Part>)> {
        let mut out = Vec::new();
        for index in 0..self.old {
            let source = Value::from_index(index);
            let users = &self.users[index];
            if users.len() < 2
                || users.len() > MAX_PARTS
                || self.fixed[index]
                || self.roots.contains(&source)
            {
                continue;
            }
            if let Some((axis, slices)) = partition(&self.graph, users) {
                let parts = slices
                    .into_iter()
                    .filter_map(|old| {
                        let len = self.graph.ty(old).as_tensor()?.shape.get(axis)?.clone();
                        Some(Part { len, old })
                    })
                    .collect();
                out.push((source, axis, parts));
            }
        }
        out
    }

    fn cost(&self, value: Value) -> u64 {
        let node = self.graph.node(value);
        let types: Vec<_> = node.args.iter().map(|a| self.graph.ty(*a)).collect();
        self.model.cost(&node.op, &types, &node.ty, false)
    }

    fn keep_if_cheaper(&mut self, trial: Trial) {
        if trial.after < trial.before {
            self.replaced.extend(trial.replaced);
        }
    }

    /// The graph with every replacement made. What is no longer needed is still in it.
    fn finish(&self) -> Result<Graph, OpError> {
        let mut out = self.graph.rebuilt();
        let mut done: Vec<Option<Value>> = vec![None; self.graph.nodes().len()];
        let target = |v: Value| self.replaced.get(&v).copied().unwrap_or(v);
        let inputs = self.graph.inputs().iter().copied();
        for value in inputs.chain((0..self.old).map(Value::from_index)) {
            let mut stack = vec![(target(value), false)];
            while let Some((v, ready)) = stack.pop() {
                if done[v.index()].is_some() {
                    continue;
                }
                let node = self.graph.node(v);
                let args: Vec<Value> = node.args.iter().map(|a| target(*a)).collect();
                if !ready {
                    stack.push((v, true));
                    stack.extend(args.iter().rev().map(|a| (*a, false)));
                    continue;
                }
                let args: Option<Vec<Value>> = args.iter().map(|a| done[a.index()]).collect();
                let args =
                    args.ok_or_else(|| OpError::new(node.op.to_string(), "depends on itself"))?;
                done[v.index()] = Some(out.add(node.op.clone(), &args, &node.loc)?);
            }
        }
        let end = |v: Value| {
            let missing = || OpError::new(v.to_string(), "was not built");
            done[target(v).index()].ok_or_else(missing)
        };
        for output in &self.graph.outputs {
            out.outputs.push(Output {
                name: output.name.clone(),
                value: end(output.value)?,
            });
        }
        out.states = Vec::new();
        for state in &self.graph.states {
            out.states.push(State {
                next: state.next.map(end).transpose()?,
                ..state.clone()
            });
        }
        Ok(out)
    }
}

/// Whether the op is work of another order than what passes over its result once.
fn is_heavy(op: &Op) -> bool {
    matches!(
        op,
        Op::Matmul(_)
            | Op::Addmm(_)
            | Op::GatherMm(_)
            | Op::QuantizedMatmul(_)
            | Op::GatherQmm(_)
            | Op::Sdpa(_)
            | Op::Conv(_)
    )
}

#[cfg(test)]
mod tests;
