//! A picture of a graph: what is computed, in which PyTorch module, and what it costs on a target.
//!
//! A [`Picture`] is what is shown, whatever the format: boxes for values, clusters for modules, arrows. Constants and numbers are no boxes of their own; they stand in the box of what
//! reads them. [`dot`] leaves the layout to Graphviz; [`svg`] and [`html`] have their own ([`layout`]) and need nothing else, no network either.

mod layout;
mod render;

pub use render::{dot, html, svg};

use fuseline_ir::{Flag, Graph, Node, Op, Type, Value};
use fuseline_passes::PassCx;
use fuseline_passes::cost::Model;
use std::collections::{BTreeMap, BTreeSet};

/// What kind of thing a box is; decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An input, a state at the entry, an output, a state's next value.
    End,
    /// An op that stands for several: a norm, attention, a rotary embedding.
    Fused,
    /// An op that moves no bytes.
    View,
    /// Work that is done once, when the program is loaded.
    Once,
    /// Any other op.
    Plain,
}

/// A box.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The value, or the name of an end.
    pub name: String,
    /// What it is: the op, or what kind of end.
    pub title: String,
    /// Attributes, constants that it reads, type: a line each.
    pub lines: Vec<String>,
    /// The node as the text form prints it.
    pub text: String,
    /// Its colour.
    pub kind: Kind,
    /// The model's cost in picoseconds; 0 for ends.
    pub cost: u64,
    /// The cluster that it stands in.
    pub cluster: usize,
}

/// A module's run of boxes, or a box that comes from no module.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The PyTorch module's path; empty for what comes from none.
    pub module: String,
    /// The boxes, in order.
    pub shapes: Vec<usize>,
    /// The sum of their costs, in picoseconds.
    pub cost: u64,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The graph's name and sums.
    pub caption: String,
    /// The boxes, arguments before their readers.
    pub shapes: Vec<Shape>,
    /// The clusters, in the order of their first boxes.
    pub clusters: Vec<Cluster>,
    /// From box to box.
    pub edges: Vec<(usize, usize)>,
    /// The sum of all costs, in picoseconds.
    pub cost: u64,
}

impl Picture {
    /// The picture of a graph, with the costs of `cx`.
    pub fn new(graph: &Graph, cx: &PassCx) -> Picture {
        let mut picture = Picture {
            caption: String::new(),
            shapes: Vec::new(),
            clusters: Vec::new(),
            edges: Vec::new(),
            cost: 0,
        };
        let model = Model::of(cx, &graph.symbols);
        let fixed = fuseline_passes::hoist::const_only(graph);
        let mut shape_of: BTreeMap<Value, usize> = BTreeMap::new();
        for value in order(graph) {
            let node = graph.node(value);
            if is_inline(&node.op) {
                continue;
            }
            let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
            let once = fixed[value.index()];
            let cost = match end(&node.op) {
                Some(_) => 0,
                None => model.cost(&node.op, &types, &node.ty, once),
            };
            let module = node.loc.module.as_deref().unwrap_or_default();
            let args = node.args.iter().filter_map(|a| shape_of.get(a).copied());
            let args: BTreeSet<usize> = args.collect();
            let n = picture.add(shape(graph, value, node, cost, once), module);
            picture.edges.extend(args.into_iter().map(|a| (a, n)));
            shape_of.insert(value, n);
        }
        let outputs = graph
            .outputs
            .iter()
            .map(|o| ("output", &o.name, Some(o.value)));
        let states = graph.states.iter().map(|s| ("next", &s.name, s.next));
        for (title, name, value) in outputs.chain(states) {
            let Some(value) = value else { continue };
            let n = picture.add(
                Shape {
                    name: name.to_string(),
                    title: title.into(),
                    lines: vec![name.to_string()],
                    text: format!("{title} \"{name}\" = {value}"),
                    kind: Kind::End,
                    cost: 0,
                    cluster: 0,
                },
                "",
            );
            picture.edges.extend(shape_of.get(&value).map(|a| (*a, n)));
        }
        picture.cost = picture.shapes.iter().map(|s| s.cost).sum();
        let ops = picture
            .shapes
            .iter()
            .filter(|s| s.kind != Kind::End)
            .count();
        picture.caption = format!(
            "{}: {ops} ops, {} on {} by {}",
            graph.name,
            time(picture.cost),
            cx.target,
            cx.costs.name
        );
        picture
    }

    fn add(&mut self, mut shape: Shape, module: &str) -> usize {
        let n = self.shapes.len();
        // What comes from no module stands where it is needed.
        if module.is_empty() || self.clusters.last().is_none_or(|c| c.module != module) {
            self.clusters.push(Cluster {
                module: module.to_string(),
                shapes: Vec::new(),
                cost: 0,
            });
        }
        shape.cluster = self.clusters.len() - 1;
        if let Some(cluster) = self.clusters.last_mut() {
            cluster.shapes.push(n);
            cluster.cost = cluster.cost.saturating_add(shape.cost);
        }
        self.shapes.push(shape);
        n
    }
}

/// A cost as a person reads it.
pub fn time(picoseconds: u64) -> String {
    let ps = picoseconds as f64;
    match picoseconds {
        0..1_000 => format!("{picoseconds} ps"),
        1_000..1_000_000 => format!("{:.1} ns", ps / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} µs", ps / 1e6),
        _ => format!("{:.1} ms", ps / 1e9),
    }
}

/// What is written in the boxes of its readers.
fn is_inline(op: &Op) -> bool {
    matches!(op, Op::Constant(_)) || matches!(op, Op::Full(full) if full.ty.shape.is_empty())
}

/// What kind of end a leaf is.
fn end(op: &Op) -> Option<(&'static str, String)> {
    match op {
        Op::Input(op) => Some(("input", op.name.to_string())),
        Op::State(op) => Some(("state", op.name.to_string())),
        _ => None,
    }
}

fn shape(graph: &Graph, value: Value, node: &Node, cost: u64, once: bool) -> Shape {
    let mut lines = Vec::new();
    let title = match end(&node.op) {
        Some((title, name)) => {
            lines.push(name);
            title.to_string()
        }
        None => node.op.name().to_string(),
    };
    if end(&node.op).is_none() {
        let attrs = node.op.attrs();
        let attrs: Vec<String> = attrs
            .iter()
            .map(|(name, a)| format!("{name}={a}"))
            .collect();
        if !attrs.is_empty() {
            lines.push(attrs.join(", "));
        }
        for arg in &node.args {
            match &graph.node(*arg).op {
                Op::Constant(op) => lines.push(format!("\"{}\"", op.name)),
                Op::Full(full) if full.ty.shape.is_empty() => {
                    let attrs = Op::from(full.clone()).attrs();
                    let number = attrs.iter().find(|(name, _)| *name == "value");
                    lines.extend(number.map(|(_, value)| value.to_string()));
                }
                _ => {}
            }
        }
    }
    lines.push(node.ty.to_string());
    let kind = match &node.op {
        op if end(op).is_some() => Kind::End,
        _ if once => Kind::Once,
        op if op.info().has(Flag::Fused) => Kind::Fused,
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_) => Kind::View,
        _ => Kind::Plain,
    };
    let args: Vec<String> = node.args.iter().map(Value::to_string).collect();
    Shape {
        name: value.to_string(),
        title,
        lines,
        text: format!("{value} = {}({}) : {}", node.op, args.join(", "), node.ty),
        kind,
        cost,
        cluster: 0,
    }
}

/// The live values in an order that keeps what comes from one module together, as far as their arguments allow.
fn order(graph: &Graph) -> Vec<Value> {
    let live = graph.live();
    let module = |v: Value| graph.node(v).loc.module.as_deref();
    let mut missing: Vec<usize> = graph.nodes().iter().map(|n| n.args.len()).collect();
    let mut readers: Vec<Vec<Value>> = vec![Vec::new(); graph.nodes().len()];
    let mut ready: BTreeSet<Value> = BTreeSet::new();
    for (value, node) in graph.values().filter(|(v, _)| live[v.index()]) {
        node.args
            .iter()
            .for_each(|a| readers[a.index()].push(value));
        if node.args.is_empty() {
            ready.insert(value);
        }
    }
    let mut out: Vec<Value> = Vec::new();
    let mut here: Option<&str> = None;
    loop {
        let same = ready.iter().copied().find(|v| module(*v) == here);
        let Some(next) = same.or_else(|| ready.first().copied()) else {
            return out;
        };
        ready.remove(&next);
        here = module(next);
        out.push(next);
        for reader in &readers[next.index()] {
            missing[reader.index()] -= 1;
            if missing[reader.index()] == 0 {
                ready.insert(*reader);
            }
        }
    }
}

#[cfg(test)]
mod tests;
