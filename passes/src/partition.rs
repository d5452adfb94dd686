//! Which part of a graph runs where: the fewest delegate segments, with host kernel calls and loops between them.
//!
//! Every node gets a *level*: the number of host calls that must come before it on the longest way. Segment n holds the target's nodes of level n, and the host nodes of
//! level n are called after it. So segments are convex by construction (a node depends on its own level or lower ones), and there are exactly as many as the
//! longest chain of host calls makes necessary. What depends on constants alone is not passed between segments: each has its own.
//!
//! A state lives in one delegate, so far as that can be: all its readers and its next value are lifted to one level. Where a host call or a loop stands between them, the
//! method keeps it, outside of all delegates: those that read it take it as an input, and one hands out its next value. Delegates that share a state by its
//! name are for [`shared`] states only, since ExecuTorch's delegates share none.

use crate::hoist;
use fuseline_ir::lower::{LowerCx, Lowering};
use fuseline_ir::{Flag, Graph, Node, Op, State, Symbol, Type, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A part of a graph that becomes one delegate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The nodes that become instructions, in the graph's order.
    pub nodes: Vec<Value>,
    /// What comes in: graph inputs, results of host calls and of other segments, in the graph's order.
    pub inputs: Vec<Value>,
    /// What others need: graph outputs, arguments of host calls and of other segments, in the graph's order.
    pub outputs: Vec<Value>,
    /// The states that get their next value here, by number in the graph.
    pub sets: Vec<usize>,
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
    /// Repeats steps: a `while_loop` node, whose graphs are partitioned in turn.
    Loop {
        /// The node.
        value: Value,
    },
}

/// The steps of a graph, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// The states that no segment holds, by number in the graph: they come in and go out as other values do.
    pub kept: Vec<usize>,
}

/// Partitions a graph. The graph must have been verified and decomposed.
pub fn partition(graph: &Graph) -> Plan {
    planned(graph, true)
}

/// As [`partition`], for a graph that shares its states with other methods: every segment that reads or sets one holds it.
pub fn shared(graph: &Graph) -> Plan {
    planned(graph, false)
}

fn planned(graph: &Graph, keep: bool) -> Plan {
    let levels = levels(graph);
    let constant = hoist::const_only(graph);
    let live = graph.live();
    let last = levels.iter().copied().max().unwrap_or(0);
    let sets = set_levels(graph, &levels, last, &constant);
    let last = sets.iter().copied().flatten().max().unwrap_or(0).max(last);
    let kept = match keep {
        true => several_segments(graph, [&levels, &[last]], &sets, &live),
        false => Vec::new(),
    };
    let mut steps = Vec::new();
    for level in 0..=last {
        let own = |v: Value| live[v.index()] && levels[v.index()] == level;
        let segment = segment(
            graph,
            [&levels, &[level, last]],
            &sets,
            &kept,
            &constant,
            &live,
        );
        if !segment.nodes.is_empty() || !segment.outputs.is_empty() || !segment.sets.is_empty() {
            steps.push(Step::Segment(segment));
        }
        for (value, node) in graph.values() {
            match node.op {
                Op::Host(_) if own(value) => steps.push(Step::Host { value }),
                Op::WhileLoop(_) if own(value) => steps.push(Step::Loop { value }),
                _ => {}
            }
        }
    }
    Plan { steps, kept }
}

/// The states that segments of several levels would hold, given the levels of all values and the last one.
fn several_segments(
    graph: &Graph,
    [levels, last]: [&[usize]; 2],
    set_levels: &[Option<usize>],
    live: &[bool],
) -> Vec<usize> {
    let several = |(state, set): (&State, &Option<usize>)| {
        let is_it = |v: Value| matches!(&graph.node(v).op, Op::State(op) if op.name == state.name);
        let reads = |(value, node): &(Value, &Node)| {
            live[value.index()] && node.args.iter().any(|a| is_it(*a))
        };
        let readers = graph.values().filter(reads);
        let mut at: BTreeSet<usize> = readers.map(|(value, _)| levels[value.index()]).collect();
        if graph.outputs.iter().any(|output| is_it(output.value)) {
            at.extend(last);
        }
        let takers = graph.states.iter().zip(set_levels);
        let takers = takers.filter(|(other, _)| other.next.is_some_and(is_it));
        at.extend(takers.filter_map(|(_, set)| *set));
        at.extend(set);
        at.len() > 1
    };
    let all = graph.states.iter().zip(set_levels).enumerate();
    let kept = all.filter(|(_, state)| several(*state));
    kept.map(|(number, _)| number).collect()
}

/// For each state, the level of the segment that sets it: the next value is there, and nobody reads the old one later.
fn set_levels(
    graph: &Graph,
    levels: &[usize],
    last: usize,
    constant: &[bool],
) -> Vec<Option<usize>> {
    let level = |state: &State| {
        let is_it = |v: Value| matches!(&graph.node(v).op, Op::State(op) if op.name == state.name);
        let next = state.next.filter(|next| !is_it(*next))?;
        let leaf = constant[next.index()] || graph.node(next).op.info().has(Flag::Leaf);
        let own = match leaf {
            true => 0,
            false => levels[next.index()] + usize::from(is_host_result(graph, next)),
        };
        let reads = |node: &Node| node.args.iter().any(|a| is_it(*a));
        let readers = graph.values().filter(|(_, node)| reads(node));
        let readers = readers.map(|(value, _)| levels[value.index()]).max();
        let is_output = graph.outputs.iter().any(|output| is_it(output.value));
        Some(
            own.max(readers.unwrap_or(0))
                .max(if is_output { last } else { 0 }),
        )
    };
    graph.states.iter().map(level).collect()
}

/// Whether the node runs between segments: a call of the host, or a loop.
fn is_between(graph: &Graph, value: Value) -> bool {
    matches!(graph.node(value).op, Op::Host(_) | Op::WhileLoop(_))
}

/// Whether the value is a result of what runs between segments: its only one, or one that is read from a tuple.
fn is_host_result(graph: &Graph, value: Value) -> bool {
    let node = graph.node(value);
    match &node.op {
        Op::Get(_) => node.args.iter().any(|a| is_between(graph, *a)),
        _ => is_between(graph, value) && !matches!(node.ty, Type::Tuple(_)),
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
        symbols: &graph.symbols,
    };
    !matches!(node.op.lower(&cx), Ok(Lowering::Nothing | Lowering::Host))
}

fn levels(graph: &Graph) -> Vec<usize> {
    let n = graph.nodes().len();
    let hosts = graph
        .values()
        .filter(|(v, _)| is_between(graph, *v))
        .count();
    let mut levels = vec![0usize; n];
    // Lifting a state's group can lift what depends on it, and so another group; each round that changes something lifts by one at least, and `hosts` is the most there is.
    let split = split_states(graph);
    let makers = size_makers(graph);
    for _ in 0..=hosts.saturating_mul(graph.states.len().max(1)) {
        for i in 0..n {
            for a in &graph.nodes()[i].args {
                let after_host = usize::from(is_host_result(graph, *a));
                levels[i] = levels[i].max(levels[a.index()] + after_host).min(hosts);
            }
            for maker in &makers[i] {
                levels[i] = levels[i].max(levels[maker.index()] + 1).min(hosts);
            }
        }
        if !lift_states(graph, &split, &mut levels) {
            break;
        }
    }
    levels
}

/// For each value, the results of host calls that first have a size which it mentions: it may need nothing else of them.
fn size_makers(graph: &Graph) -> Vec<Vec<Value>> {
    let mut known: BTreeMap<Symbol, Option<Value>> = BTreeMap::new();
    let mut all = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let mut mentioned = BTreeSet::new();
        let mut see = |symbol: &Symbol| {
            mentioned.insert(symbol.clone());
        };
        node.ty.visit_symbols(&mut see);
        for (_, attr) in node.op.attrs() {
            fuseline_ir::attr::visit_symbols(&attr, &mut see);
        }
        let inside = matches!(node.op, Op::Host(_));
        let made = is_host_result(graph, value).then_some(value);
        let mut makers = Vec::new();
        for symbol in mentioned.into_iter().filter(|_| !inside || made.is_some()) {
            match known.get(&symbol) {
                Some(maker) => makers.extend(maker.filter(|_| made.is_none())),
                None => {
                    known.insert(symbol, made);
                }
            }
        }
        all.push(makers);
    }
    all
}

/// For each state, whether something that runs between segments stands between its readers and its next value.
fn split_states(graph: &Graph) -> Vec<bool> {
    let split = |state: &State| {
        let is_it = |v: Value| matches!(&graph.node(v).op, Op::State(op) if op.name == state.name);
        // What depends on the state, and what depends on it through something between segments.
        let n = graph.nodes().len();
        let (mut after, mut beyond) = (vec![false; n], vec![false; n]);
        for (value, node) in graph.values() {
            let i = value.index();
            after[i] = node.args.iter().any(|a| after[a.index()] || is_it(*a));
            let through = node.args.iter().any(|a| beyond[a.index()]);
            beyond[i] = through || (after[i] && is_between(graph, value));
        }
        let reads = |node: &Node| node.args.iter().any(|a| is_it(*a));
        let next = state.next.is_some_and(|next| beyond[next.index()]);
        next || graph
            .values()
            .any(|(v, node)| reads(node) && beyond[v.index()] && !is_between(graph, v))
    };
    graph.states.iter().map(split).collect()
}

/// Puts each state's readers and its next value on one level, but for those that are split. Returns whether anything changed.
fn lift_states(graph: &Graph, split: &[bool], levels: &mut [usize]) -> bool {
    let mut changed = false;
    for (state, _) in graph.states.iter().zip(split).filter(|(_, split)| !**split) {
        let reads =
            |v: &Value| matches!(&graph.node(*v).op, Op::State(op) if op.name == state.name);
        let mut group: Vec<usize> = Vec::new();
        for (value, node) in graph.values() {
            if !is_between(graph, value) && node.args.iter().any(reads) {
                group.push(value.index());
            }
        }
        group.extend(
            state
                .next
                .filter(|v| !graph.node(*v).args.is_empty() && !is_host_result(graph, *v))
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

/// The segment of a level, given the levels of all values, and that level with the last one.
fn segment(
    graph: &Graph,
    [levels, at]: [&[usize]; 2],
    set_levels: &[Option<usize>],
    kept: &[usize],
    constant: &[bool],
    live: &[bool],
) -> Segment {
    let (level, last) = (at[0], at[1]);
    let names: BTreeSet<&Symbol> = kept.iter().map(|n| &graph.states[*n].name).collect();
    let held = |v: Value| matches!(&graph.node(v).op, Op::State(op) if !names.contains(&op.name));
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
            need(
                graph,
                arg,
                [&here, &held],
                constant,
                &mut constants,
                &mut inputs,
            );
        }
    }
    for (value, node) in graph.values() {
        let outside = live[value.index()] && !here(value) && !constant[value.index()];
        if outside {
            outputs.extend(node.args.iter().copied().filter(|a| here(*a)));
            // A host call takes its constants and state from the segment before it.
            if is_between(graph, value) && levels[value.index()] == level {
                let resident = |a: &Value| constant[a.index()] || held(*a);
                outputs.extend(node.args.iter().copied().filter(resident));
            }
        }
    }
    for output in &graph.outputs {
        let node = graph.node(output.value);
        let resident =
            constant[output.value.index()] || held(output.value) || matches!(node.ty, Type::Int(_));
        let is_input = matches!(node.op, Op::Input(_)) && !matches!(node.ty, Type::Int(_));
        if here(output.value) || (resident && !is_input && level == last) {
            outputs.insert(output.value);
        }
    }
    let mut sets = Vec::new();
    for (number, (state, set)) in graph.states.iter().zip(set_levels).enumerate() {
        let (Some(next), Some(set)) = (state.next, set) else {
            continue;
        };
        let keeps = kept.contains(&number);
        if *set == level && !keeps {
            sets.push(number);
            need(
                graph,
                next,
                [&here, &held],
                constant,
                &mut constants,
                &mut inputs,
            );
        } else if here(next) || (keeps && *set == level && (constant[next.index()] || held(next))) {
            outputs.insert(next);
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
        sets,
    }
}

/// Notes where an argument comes from.
fn need(
    graph: &Graph,
    arg: Value,
    [here, held]: [&dyn Fn(Value) -> bool; 2],
    constant: &[bool],
    constants: &mut Vec<Value>,
    inputs: &mut BTreeSet<Value>,
) {
    if constant[arg.index()] {
        constants.push(arg);
    } else if !here(arg) && !held(arg) && !matches!(graph.node(arg).op, Op::Size(_)) {
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
