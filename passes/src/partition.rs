//! Which part of a graph runs where: the fewest delegate segments, with host kernel calls between them.
//!
//! Every node gets a *level*: the number of host calls that must come before it on the longest way. Segment n holds the target's nodes of level n, and the host nodes of
//! level n are called after it. So segments are convex by construction (a node depends on its own level or lower ones), and there are exactly as many as the
//! longest chain of host calls makes necessary. What depends on constants alone is not passed between segments: each has its own.
//!
//! A state lives in one delegate. All its readers and its next value are therefore lifted to one level; where a host call stands between them, that can't be, and
//! emission says so.

use crate::hoist;
use fuseline_ir::lower::{LowerCx, Lowering};
use fuseline_ir::{Flag, Graph, Op, Symbol, Type, Value};
use std::collections::BTreeSet;

/// A part of a graph that becomes one delegate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The nodes that become instructions, in the graph's order.
    pub nodes: Vec<Value>,
    /// What comes in: graph inputs, results of host calls and of other segments, in the graph's order.
    pub inputs: Vec<Value>,
    /// What others need: graph outputs, arguments of host calls and of other segments, in the graph's order.
    pub outputs: Vec<Value>,
}

/// One step of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Calls a delegate.
    Segment(Segment),
    /// Calls a kernel of the host: a `host` node.
    Host {
        /// The node.
        value: Value,
    },
}

/// The steps of a graph, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// Partitions a graph. The graph must have been verified and decomposed.
pub fn partition(graph: &Graph) -> Plan {
    let levels = levels(graph);
    let last = levels.iter().copied().max().unwrap_or(0);
    let constant = hoist::const_only(graph);
    let live = graph.live();
    let mut steps = Vec::new();
    for level in 0..=last {
        let own = |v: Value| live[v.index()] && levels[v.index()] == level;
        let segment = segment(graph, &levels, level, last, &constant, &live);
        // Nothing may be left to compute but a state that takes a constant, an input or another state.
        let sets = level == last && steps.is_empty() && takes_leaf(graph);
        if !segment.nodes.is_empty() || !segment.outputs.is_empty() || sets {
            steps.push(Step::Segment(segment));
        }
        for (value, node) in graph.values() {
            if matches!(node.op, Op::Host(_)) && own(value) {
                steps.push(Step::Host { value });
            }
        }
    }
    Plan { steps }
}

/// Whether a state's next value is a leaf other than the state itself.
fn takes_leaf(graph: &Graph) -> bool {
    graph.states.iter().any(|state| {
        state.next.is_some_and(|next| {
            let op = &graph.node(next).op;
            op.info().has(Flag::Leaf) && !matches!(op, Op::State(s) if s.name == state.name)
        })
    })
}

/// Whether the value is a result of a host call: its only one, or one that is read from a tuple.
fn is_host_result(graph: &Graph, value: Value) -> bool {
    let node = graph.node(value);
    match &node.op {
        Op::Host(_) => !matches!(node.ty, Type::Tuple(_)),
        Op::Get(_) => (node.args.iter()).any(|a| matches!(graph.node(*a).op, Op::Host(_))),
        _ => false,
    }
}

/// Whether the node is an instruction of the target, as opposed to a leaf or a result of a host call that is there anyway.
fn is_instruction(graph: &Graph, value: Value) -> bool {
    if is_host_result(graph, value) {
        return false;
    }
    let node = graph.node(value);
    let args: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
    let cx = LowerCx {
        args: &args,
        out: &node.ty,
    };
    !matches!(node.op.lower(&cx), Ok(Lowering::Nothing | Lowering::Host))
}

fn levels(graph: &Graph) -> Vec<usize> {
    let n = graph.nodes().len();
    let hosts = graph
        .nodes()
        .iter()
        .filter(|node| matches!(node.op, Op::Host(_)))
        .count();
    let mut levels = vec![0usize; n];
    // Lifting a state's group can lift what depends on it, and so another group; each round that changes something lifts by one at least, and `hosts` is the most there is.
    for _ in 0..=hosts.saturating_mul(graph.states.len().max(1)) {
        for i in 0..n {
            for a in &graph.nodes()[i].args {
                let after_host = usize::from(is_host_result(graph, *a));
                levels[i] = levels[i].max(levels[a.index()] + after_host).min(hosts);
            }
        }
        if !lift_states(graph, &mut levels) {
            break;
        }
    }
    levels
}

/// Puts each state's readers and its next value on one level. Returns whether anything changed.
fn lift_states(graph: &Graph, levels: &mut [usize]) -> bool {
    let mut changed = false;
    for state in &graph.states {
        let reads =
            |v: &Value| matches!(&graph.node(*v).op, Op::State(op) if op.name == state.name);
        let mut group: Vec<usize> = Vec::new();
        for (value, node) in graph.values() {
            if !matches!(node.op, Op::Host(_)) && node.args.iter().any(reads) {
                group.push(value.index());
            }
        }
        group.extend(
            state
                .next
                .filter(|v| !graph.node(*v).args.is_empty())
                .map(Value::index),
        );
        let top = group.iter().map(|i| levels[*i]).max().unwrap_or(0);
        for i in group {
            changed |= levels[i] != top;
            levels[i] = top;
        }
    }
    changed
}

fn segment(
    graph: &Graph,
    levels: &[usize],
    level: usize,
    last: usize,
    constant: &[bool],
    live: &[bool],
) -> Segment {
    let mut nodes: BTreeSet<Value> = BTreeSet::new();
    let mut inputs: BTreeSet<Value> = BTreeSet::new();
    let mut outputs: BTreeSet<Value> = BTreeSet::new();
    let instruction: Vec<bool> = (0..graph.nodes().len())
        .map(|i| is_instruction(graph, Value::from_index(i)))
        .collect();
    let here = |v: Value| {
        live[v.index()]
            && instruction[v.index()]
            && !constant[v.index()]
            && levels[v.index()] == level
    };
    let mut constants: Vec<Value> = Vec::new();
    for (value, node) in graph.values() {
        if !here(value) {
            continue;
        }
        nodes.insert(value);
        for &arg in &node.args {
            need(graph, arg, &here, constant, &mut constants, &mut inputs);
        }
    }
    for (value, node) in graph.values() {
        let outside = live[value.index()] && !here(value) && !constant[value.index()];
        if outside {
            outputs.extend(node.args.iter().copied().filter(|a| here(*a)));
            // A host call takes its constants and state from the segment before it.
            if matches!(node.op, Op::Host(_)) && levels[value.index()] == level {
                let resident =
                    |a: &Value| constant[a.index()] || matches!(graph.node(*a).op, Op::State(_));
                outputs.extend(node.args.iter().copied().filter(resident));
            }
        }
    }
    for output in &graph.outputs {
        let node = graph.node(output.value);
        let resident = constant[output.value.index()]
            || matches!(node.op, Op::State(_))
            || matches!(node.ty, Type::Int(_));
        let is_input = matches!(node.op, Op::Input(_)) && !matches!(node.ty, Type::Int(_));
        if here(output.value) || (resident && !is_input && level == last) {
            outputs.insert(output.value);
        }
    }
    if level == last
        || nodes
            .iter()
            .any(|v| graph.states.iter().any(|s| s.next == Some(*v)))
    {
        for next in graph.states.iter().filter_map(|s| s.next) {
            // A state may take a constant or an input as it is.
            if constant[next.index()]
                || (level == last && matches!(graph.node(next).op, Op::Input(_)))
            {
                need(graph, next, &here, constant, &mut constants, &mut inputs);
            }
        }
    }
    for value in outputs.iter().copied().filter(|v| constant[v.index()]) {
        constants.push(value);
    }
    // The constants' own instructions.
    while let Some(value) = constants.pop() {
        if instruction[value.index()] && nodes.insert(value) {
            constants.extend(&graph.node(value).args);
        }
    }
    add_symbol_sources(graph, &nodes, &outputs, &mut inputs);
    Segment {
        nodes: nodes.into_iter().collect(),
        inputs: inputs.into_iter().collect(),
        outputs: outputs.into_iter().collect(),
    }
}

/// Notes where an argument comes from.
fn need(
    graph: &Graph,
    arg: Value,
    here: &dyn Fn(Value) -> bool,
    constant: &[bool],
    constants: &mut Vec<Value>,
    inputs: &mut BTreeSet<Value>,
) {
    if constant[arg.index()] {
        constants.push(arg);
    } else if !here(arg) && !matches!(graph.node(arg).op, Op::State(_) | Op::Size(_)) {
        inputs.insert(arg);
    }
}

/// Each symbol that the segment computes with must be a size of one of its inputs: adds inputs until it is.
fn add_symbol_sources(
    graph: &Graph,
    nodes: &BTreeSet<Value>,
    outputs: &BTreeSet<Value>,
    inputs: &mut BTreeSet<Value>,
) {
    let mut needed: BTreeSet<Symbol> = BTreeSet::new();
    let mut given: BTreeSet<Symbol> = BTreeSet::new();
    for &value in nodes {
        let node = graph.node(value);
        for (_, attr) in node.op.attrs() {
            fuseline_ir::attr::visit_symbols(&attr, &mut |s| {
                needed.insert(s.clone());
            });
        }
        for arg in &node.args {
            if let Type::Int(d) = graph.ty(*arg) {
                d.visit_symbols(&mut |s| {
                    needed.insert(s.clone());
                });
            }
        }
        if let Op::Item(item) = &node.op {
            given.insert(item.symbol.clone());
        }
    }
    for value in outputs {
        if let Type::Int(d) = graph.ty(*value) {
            d.visit_symbols(&mut |s| {
                needed.insert(s.clone());
            });
        }
    }
    given.extend(inputs.iter().flat_map(|v| symbols_given_by(graph.ty(*v))));
    for symbol in needed.difference(&given).cloned().collect::<Vec<_>>() {
        let source = graph.values().find(|(value, node)| {
            let outside = matches!(node.op, Op::Input(_)) || is_host_result(graph, *value);
            outside && !nodes.contains(value) && symbols_given_by(&node.ty).contains(&symbol)
        });
        if let Some((value, _)) = source {
            inputs.insert(value);
        }
    }
}

/// The symbols that sizes, or the value, of something of this type determine.
fn symbols_given_by(ty: &Type) -> Vec<Symbol> {
    match ty {
        Type::Tensor(t) => t
            .shape
            .iter()
            .filter_map(|d| d.as_linear().map(|(symbol, ..)| symbol.clone()))
            .collect(),
        Type::Int(d) => d.as_symbol().cloned().into_iter().collect(),
        Type::Tuple(_) => Vec::new(),
    }
}
