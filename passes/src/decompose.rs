//! Replaces ops that the target has no instruction for by what they mean in ops that it has, and guards those whose instruction means less.

use crate::pass::{PassCx, PassError};
use fuseline_ir::lower::{LowerCx, Lowering};
use fuseline_ir::{Graph, Output, State, Type, Value};

/// A decomposition may hold ops that must be decomposed in turn, but not without end.
const MAX_ROUNDS: usize = 8;

/// The pass: see the module.
///
/// # Errors
/// An op that asks to be decomposed and can't be, or whose decomposition has another type than the op.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let mut graph = crate::masks::guard(graph)?;
    for _ in 0..MAX_ROUNDS {
        let (next, changed) = round(&graph)?;
        if !changed {
            return Ok(graph);
        }
        graph = next;
    }
    Ok(graph)
}

fn round(graph: &Graph) -> Result<(Graph, bool), PassError> {
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    let mut changed = false;
    for (value, node) in graph.values() {
        let fail = PassError::at("decompose", graph, value);
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
        let cx = LowerCx {
            args: &types,
            out: &node.ty,
            symbols: &graph.symbols,
        };
        // One that can't be lowered stays: emission says why.
        let decompose = matches!(node.op.lower(&cx), Ok(Lowering::Decompose));
        let start = out.nodes().len();
        let new = if decompose {
            changed = true;
            let result = node.op.decompose(&mut out, &args).map_err(fail)?;
            out.place_from(start, &node.loc);
            result.ok_or_else(|| {
                fail(fuseline_ir::OpError::new(
                    node.op.to_string(),
                    "has no decomposition",
                ))
            })?
        } else {
            out.add(node.op.clone(), &args, &node.loc).map_err(fail)?
        };
        map.push(new);
    }
    copy_ends(graph, &mut out, &map);
    Ok((out, changed))
}

/// Gives `out` the outputs and next states of `graph`, under the values that `map` has for them.
pub fn copy_ends(graph: &Graph, out: &mut Graph, map: &[Value]) {
    out.outputs = graph
        .outputs
        .iter()
        .map(|o| Output {
            name: o.name.clone(),
            value: map[o.value.index()],
        })
        .collect();
    out.states = graph
        .states
        .iter()
        .map(|s| State {
            next: s.next.map(|v| map[v.index()]),
            ..s.clone()
        })
        .collect();
}
