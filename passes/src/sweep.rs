//! Dropping what nothing needs.

use crate::decompose::copy_ends;
use fuseline_ir::{Graph, Op, OpError, Symbol, Value};
use std::collections::BTreeSet;

/// The graph with some values made otherwise, without what nothing needs then: `other` gives the value that stands for one, if not the same op on the same arguments does. It gets the new
/// graph and what stands for each value so far.
///
/// Errors: what `other` gives; otherwise none on a valid graph.
pub fn replaced(
    graph: &Graph,
    mut other: impl FnMut(&mut Graph, &[Value], Value) -> Result<Option<Value>, OpError>,
) -> Result<Graph, OpError> {
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let new = match other(&mut out, &map, value)? {
            Some(new) => new,
            None => {
                let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
                out.add(node.op.clone(), &args, &node.loc)?
            }
        };
        map.push(new);
    }
    copy_ends(graph, &mut out, &map);
    sweep(&out)
}

/// The graph without values that no output and no state depends on (inputs stay: they are the signature), and without constants that nothing names.
///
/// Errors: none on a valid graph.
pub fn sweep(graph: &Graph) -> Result<Graph, OpError> {
    let live = graph.live();
    let mut out = graph.rebuilt();
    let mut new = vec![Value::from_index(0); graph.nodes().len()];
    let mut named: BTreeSet<Symbol> = graph.states.iter().filter_map(|s| s.init.clone()).collect();
    for (value, node) in graph.values().filter(|(v, _)| live[v.index()]) {
        if let Op::Constant(op) = &node.op {
            named.insert(op.name.clone());
        }
        let args: Vec<Value> = node.args.iter().map(|a| new[a.index()]).collect();
        new[value.index()] = out.add(node.op.clone(), &args, &node.loc)?;
    }
    out.constants.retain(|name, _| named.contains(name));
    for output in &graph.outputs {
        out.output(output.name.clone(), new[output.value.index()]);
    }
    for (state, old) in out.states.iter_mut().zip(&graph.states) {
        state.next = old.next.map(|v| new[v.index()]);
    }
    Ok(out)
}
