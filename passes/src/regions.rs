//! Graphs inside ops go through the passes before the graph around them does.

use crate::decompose::copy_ends;
use crate::fold;
use crate::pass::{PassCx, PassError};
use crate::pipeline::run_passes;
use fuseline_ir::ops::control::{Branch, WhileLoop};
use fuseline_ir::{Attr, Graph, Node, Op, Region, Value};

/// Whether there is a graph inside the node's op.
pub(crate) fn has_region(node: &Node) -> bool {
    let region = |(_, a): &(&str, Attr)| matches!(a, Attr::Region(_));
    node.op.attrs().iter().any(region)
}

/// The graph with the passes of these names run on every graph inside its ops. A folded value would be a constant, which such graphs have none of: that pass is left out.
///
/// # Errors
/// A pass that fails.
pub(crate) fn run(graph: &Graph, names: &[&str], cx: &PassCx) -> Result<Graph, PassError> {
    let has_regions = |op: &Op| matches!(op, Op::Branch(_) | Op::WhileLoop(_));
    if !graph.nodes().iter().any(|node| has_regions(&node.op)) {
        return Ok(graph.clone());
    }
    let inner: Vec<&str> = names.iter().copied().filter(|n| *n != fold::NAME).collect();
    let region = |region: &Region| -> Result<Region, PassError> {
        let (graph, _) = run_passes(region.graph(), &inner, cx, &mut |_, _| ())?;
        Region::new(graph).map_err(|e| PassError::broken("regions", &*e.op, &*e.reason))
    };
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let op = match &node.op {
            Op::Branch(op) => Op::from(Branch {
                yes: region(&op.yes)?,
                no: region(&op.no)?,
            }),
            Op::WhileLoop(op) => Op::from(WhileLoop {
                cond: region(&op.cond)?,
                step: region(&op.step)?,
            }),
            other => other.clone(),
        };
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let new = out.add(op, &args, &node.loc);
        map.push(new.map_err(PassError::at("regions", graph, value))?);
    }
    copy_ends(graph, &mut out, &map);
    Ok(out)
}
