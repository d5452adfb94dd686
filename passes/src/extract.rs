//! Extraction: from an e-graph, the graph that costs least, every shared node paid once.
//!
//! A *choice* takes one node of each class. It starts as the input graph itself, so that the result is never worse by the model's own measure; then single classes switch to another of
//! their nodes wherever that makes the whole graph cheaper. What a switch changes is found by counting references: the old node's cone is released, which frees what nobody else
//! uses, and the new node's cone is taken, which pays for what wasn't there. A choice never has a cycle: a switch that would close one is not made. Where no single switch pays, those
//! that free a value together are tried (`evict`).
//!
//! Classes that the current graph doesn't use choose the node that adds least to it, so that a switch to something new meets good choices below.

use crate::egraph::{EGraph, is_constant};
use crate::pass::PassError;
use egg::Id;
use fuseline_ir::{Graph, Loc, Op, Symbol, Type, Value};
use std::collections::BTreeMap;

mod evict;

const PASS: &str = "saturate";

/// The most sweeps over all classes; each but the last makes the graph cheaper.
const SWEEPS: usize = 32;

/// The cost of an op applied to values of these types, never 0; the flag says whether it depends on constants alone. See [`crate::cost::Model::cost`].
pub type Weigh<'a> = &'a dyn Fn(&Op, &[&Type], &Type, bool) -> u64;

/// The cheapest graph found for the roots of `graph`, whose values are in `classes`; and the costs of the input graph and of that.
///
/// Errors: an e-graph that doesn't hold the graph, or a result whose ops don't take their arguments.
pub fn extract(
    graph: &Graph,
    egraph: &EGraph,
    classes: &[Option<Id>],
    weigh: Weigh<'_>,
) -> Result<(Graph, (u64, u64)), PassError> {
    choose(graph, egraph, classes, weigh).map(|e| (e.graph, e.cost))
}

/// What was taken out of an e-graph.
pub struct Extracted {
    /// The graph.
    pub graph: Graph,
    /// The class of each of its values.
    pub classes: Vec<Id>,
    /// The costs of the input graph and of this one.
    pub cost: (u64, u64),
}

/// As [`extract`], and which class each value of the graph is of.
///
/// Errors: as [`extract`].
pub fn choose(
    graph: &Graph,
    egraph: &EGraph,
    classes: &[Option<Id>],
    weigh: Weigh<'_>,
) -> Result<Extracted, PassError> {
    let mut choice = Choice::new(graph, egraph, classes, weigh)?;
    let before = choice.total;
    choice.improve();
    let (graph, classes) = choice.rebuild(graph, classes)?;
    Ok(Extracted {
        graph,
        classes,
        cost: (before, choice.total),
    })
}

/// A node that a class may choose.
struct Candidate<'a> {
    op: &'a Op,
    args: Vec<usize>,
    /// The classes that must be there: arguments, and the items whose symbols the node mentions.
    needs: Vec<usize>,
    cost: u64,
}

struct Class<'a> {
    candidates: Vec<Candidate<'a>>,
    chosen: usize,
    /// How many chosen nodes of the graph, and roots, use it.
    uses: usize,
    /// First value of the input graph in the class.
    first: Option<usize>,
    near: usize,
}

struct Choice<'a> {
    egraph: &'a EGraph,
    index: BTreeMap<Id, usize>,
    classes: Vec<Class<'a>>,
    total: u64,
    /// For searches: the number of the last search that saw the class.
    seen: Vec<usize>,
    searches: usize,
}

impl<'a> Choice<'a> {
    fn new(
        graph: &Graph,
        egraph: &'a EGraph,
        values: &[Option<Id>],
        weigh: Weigh<'_>,
    ) -> Result<Choice<'a>, PassError> {
        let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
        ids.sort();
        let index: BTreeMap<Id, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let at = |id: Id| index[&egraph.find(id)];
        let items = items(egraph, &ids);
        let mut classes = Vec::with_capacity(ids.len());
        for id in &ids {
            let class = &egraph[*id];
            let candidates = class.nodes.iter().map(|node| {
                let args: Vec<usize> = node.children.iter().map(|c| at(*c)).collect();
                let types: Vec<&Type> = node.children.iter().map(|c| &egraph[*c].data.ty).collect();
                let mut needs = args.clone();
                mentions(&node.op, &class.data.ty, &mut |s| {
                    needs.extend(items.get(s).map(|id| at(*id)))
                });
                needs.sort_unstable();
                needs.dedup();
                Candidate {
                    op: &node.op,
                    args,
                    needs,
                    cost: weigh(&node.op, &types, &class.data.ty, is_constant(egraph, node)),
                }
            });
            classes.push(Class {
                candidates: candidates.collect(),
                chosen: 0,
                uses: 0,
                first: class.data.first.map(|n| n as usize),
                near: class.data.near as usize,
            });
        }
        let n = classes.len();
        let mut choice = Choice {
            egraph,
            index,
            classes,
            total: 0,
            seen: vec![0; n],
            searches: 0,
        };
        choice.start(graph, values)?;
        Ok(choice)
    }

    fn class_of(&self, id: Id) -> usize {
        self.index[&self.egraph.find(id)]
    }

    fn needs(&self, class: usize) -> &[usize] {
        let class = &self.classes[class];
        &class.candidates[class.chosen].needs
    }

    fn cost(&self, class: usize) -> u64 {
        let class = &self.classes[class];
        class.candidates[class.chosen].cost
    }

    /// The input graph as a choice: each class takes the node of its first value.
    fn start(&mut self, graph: &Graph, values: &[Option<Id>]) -> Result<(), PassError> {
        for c in 0..self.classes.len() {
            let Some(first) = self.classes[c].first else {
                continue;
            };
            let value = Value::from_index(first);
            let node = graph.node(value);
            let broken =
                |reason: &str| PassError::broken(PASS, graph.describe(value, node), reason);
            let args = node
                .args
                .iter()
                .map(|a| values[a.index()].map(|id| self.class_of(id)))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| broken("an argument has no class"))?;
            let own = |k: &Candidate<'_>| *k.op == node.op && k.args == args;
            self.classes[c].chosen = self.classes[c]
                .candidates
                .iter()
                .position(own)
                .ok_or_else(|| broken("the class lost its first node"))?;
        }
        self.choose_unused(true);
        for root in graph.roots() {
            let id = values[root.index()]
                .ok_or_else(|| PassError::broken(PASS, root.to_string(), "a root has no class"))?;
            self.take(self.class_of(id));
        }
        Ok(())
    }

    /// Counts one more use of the class; pays for what that brings in.
    fn take(&mut self, class: usize) {
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            self.classes[c].uses += 1;
            if self.classes[c].uses == 1 {
                self.total = self.total.saturating_add(self.cost(c));
                stack.extend_from_slice(self.needs(c));
            }
        }
    }

    /// Counts one use of the class less; no longer pays for what that frees.
    fn release(&mut self, class: usize) {
        let mut stack = vec![class];
        while let Some(c) = stack.pop() {
            self.classes[c].uses -= 1;
            if self.classes[c].uses == 0 {
                self.total = self.total.saturating_sub(self.cost(c));
                stack.extend_from_slice(self.needs(c));
            }
        }
    }

    /// A used class takes another of its nodes.
    fn switch(&mut self, class: usize, to: usize) {
        let old = self.needs(class).to_vec();
        self.total = self.total.saturating_sub(self.cost(class));
        self.classes[class].chosen = to;
        self.total = self.total.saturating_add(self.cost(class));
        for need in self.needs(class).to_vec() {
            self.take(need);
        }
        for need in old {
            self.release(need);
        }
    }

    /// Whether the choice leads from one of these classes to `target`.
    fn reaches(&mut self, from: &[usize], target: usize) -> bool {
        self.searches += 1;
        let mut stack = from.to_vec();
        while let Some(c) = stack.pop() {
            if c == target {
                return true;
            }
            if self.seen[c] != self.searches {
                self.seen[c] = self.searches;
                stack.extend_from_slice(self.needs(c));
            }
        }
        false
    }

    /// Lets each class that isn't used choose the node that would add least to the graph; `only_new` leaves the classes of the input graph as they are.
    fn choose_unused(&mut self, only_new: bool) {
        let fixed: Vec<bool> = self
            .classes
            .iter()
            .map(|c| c.uses > 0 || (only_new && c.first.is_some()))
            .collect();
        let mut adds: Vec<Option<u64>> = fixed.iter().map(|f| f.then_some(0)).collect();
        loop {
            let mut changed = false;
            for c in (0..self.classes.len()).filter(|c| !fixed[*c]) {
                let sum = |k: &Candidate<'_>| {
                    let mut needs = k.needs.iter();
                    needs.try_fold(k.cost, |sum, n| Some(sum.saturating_add(adds[*n]?)))
                };
                let sums = self.classes[c].candidates.iter().map(sum).enumerate();
                let best = sums.filter_map(|(i, s)| Some((s?, i))).min();
                if let Some((sum, i)) = best
                    && adds[c].is_none_or(|old| sum < old)
                {
                    adds[c] = Some(sum);
                    self.classes[c].chosen = i;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn improve(&mut self) {
        let mut order: Vec<usize> = (0..self.classes.len())
            .filter(|c| self.classes[*c].candidates.len() > 1)
            .collect();
        order.sort_by_key(|c| (self.classes[*c].near, *c));
        for _ in 0..SWEEPS {
            let before = self.total;
            for &c in &order {
                if self.classes[c].uses > 0 {
                    self.improve_class(c);
                }
            }
            if self.total >= before && !self.evict_all() {
                return;
            }
            self.choose_unused(false);
        }
    }

    /// Switches a used class to the node that makes the graph cheapest; the earliest of equals, and the present one before others.
    fn improve_class(&mut self, class: usize) {
        let present = self.classes[class].chosen;
        let mut best = (self.total, present);
        for to in 0..self.classes[class].candidates.len() {
            if to == present
                || self.reaches(&self.classes[class].candidates[to].needs.clone(), class)
            {
                continue;
            }
            self.switch(class, to);
            if self.total < best.0 {
                best = (self.total, to);
            }
            self.switch(class, present);
        }
        if best.1 != present {
            self.switch(class, best.1);
        }
    }

    /// The chosen graph. Inputs keep their order; a class that stood in the input graph stays as near to its place as its arguments allow.
    fn rebuild(&self, graph: &Graph, values: &[Option<Id>]) -> Result<(Graph, Vec<Id>), PassError> {
        let mut out = graph.rebuilt();
        let mut done: Vec<Option<Value>> = vec![None; self.classes.len()];
        for input in graph.inputs() {
            if let Some(id) = values[input.index()] {
                self.emit(self.class_of(id), graph, &mut out, &mut done)?;
            }
        }
        for id in values.iter().flatten() {
            let class = self.class_of(*id);
            if self.classes[class].uses > 0 {
                self.emit(class, graph, &mut out, &mut done)?;
            }
        }
        let value = |v: Value| {
            let class = values[v.index()].map(|id| self.class_of(id));
            class
                .and_then(|c| done[c])
                .ok_or_else(|| PassError::broken(PASS, v.to_string(), "a root was not built"))
        };
        for output in &graph.outputs {
            out.output(output.name.clone(), value(output.value)?);
        }
        for (new, old) in out.states.iter_mut().zip(&graph.states) {
            new.next = old.next.map(value).transpose()?;
        }
        let mut of: Vec<(Value, Id)> = self
            .index
            .iter()
            .filter_map(|(id, n)| Some((done[*n]?, *id)))
            .collect();
        of.sort_unstable();
        Ok((out, of.into_iter().map(|(_, id)| id).collect()))
    }

    fn emit(
        &self,
        class: usize,
        graph: &Graph,
        out: &mut Graph,
        done: &mut [Option<Value>],
    ) -> Result<(), PassError> {
        // (class, whether what it needs has been pushed)
        let mut stack = vec![(class, false)];
        while let Some((c, ready)) = stack.pop() {
            if done[c].is_some() {
                continue;
            }
            if !ready {
                stack.push((c, true));
                let needs = self.needs(c).iter().rev();
                stack.extend(needs.filter(|n| done[**n].is_none()).map(|n| (*n, false)));
                continue;
            }
            let class = &self.classes[c];
            let node = &class.candidates[class.chosen];
            let place = || node.op.to_string();
            let args = node
                .args
                .iter()
                .map(|a| done[*a])
                .collect::<Option<Vec<Value>>>()
                .ok_or_else(|| PassError::broken(PASS, place(), "the choice has a cycle"))?;
            let loc = graph
                .nodes()
                .get(class.near)
                .map_or_else(Loc::default, |n| n.loc.clone());
            let value = out.add(node.op.clone(), &args, &loc);
            done[c] = Some(value.map_err(PassError::op(PASS, place()))?);
        }
        Ok(())
    }
}

/// The classes that define symbols: items, and the first calls of the host in whose results sizes occur that no input has.
fn items(egraph: &EGraph, ids: &[Id]) -> BTreeMap<Symbol, Id> {
    let nodes = || {
        ids.iter()
            .flat_map(|id| egraph[*id].nodes.iter().map(|n| (*id, n)))
    };
    let mut given: BTreeMap<Symbol, Id> = BTreeMap::new();
    let mut made: BTreeMap<Symbol, (u32, Id)> = BTreeMap::new();
    for (id, node) in nodes() {
        match &node.op {
            Op::Input(input) => input.ty.visit_symbols(&mut |symbol| {
                given.insert(symbol.clone(), id);
            }),
            Op::Host(host) => host.ty.visit_symbols(&mut |symbol| {
                let this = (egraph[id].data.near, id);
                let first = made.entry(symbol.clone()).or_insert(this);
                *first = this.min(*first);
            }),
            _ => {}
        }
    }
    let made = made
        .into_iter()
        .filter(|(symbol, _)| !given.contains_key(symbol));
    let mut all: BTreeMap<Symbol, Id> = made.map(|(symbol, (_, id))| (symbol, id)).collect();
    for (id, node) in nodes() {
        if let Op::Item(item) = &node.op {
            all.insert(item.symbol.clone(), id);
        }
    }
    all
}

/// Calls `f` with the symbols that a node mentions and doesn't define.
pub(crate) fn mentions(op: &Op, ty: &Type, f: &mut dyn FnMut(&Symbol)) {
    if matches!(op, Op::Item(_) | Op::Host(_)) {
        return;
    }
    ty.visit_symbols(f);
    op.attrs()
        .iter()
        .for_each(|(_, a)| fuseline_ir::attr::visit_symbols(a, f));
}

/// The cost of a graph: each live node once.
pub fn graph_cost(graph: &Graph, weigh: Weigh<'_>) -> u64 {
    let live = graph.live();
    let mut constant = vec![false; graph.nodes().len()];
    let mut total = 0u64;
    for (value, node) in graph.values() {
        let mut symbolic = matches!(node.op, Op::Input(_) | Op::State(_) | Op::Item(_));
        node.op
            .attrs()
            .iter()
            .for_each(|(_, a)| fuseline_ir::attr::visit_symbols(a, &mut |_| symbolic = true));
        constant[value.index()] = !symbolic && node.args.iter().all(|a| constant[a.index()]);
        if live[value.index()] {
            let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
            let cost = weigh(&node.op, &types, &node.ty, constant[value.index()]);
            total = total.saturating_add(cost);
        }
    }
    total
}

#[cfg(test)]
mod exact;
#[cfg(test)]
mod tests;
