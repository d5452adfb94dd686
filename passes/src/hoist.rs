//! Which values depend on constants alone: they cost nothing per step, since the init chain computes them once, when the program is loaded.

use fuseline_ir::{Flag, Graph, Node, Op};

/// For each value, whether it depends on constants alone and has a static type. Constants themselves and literals (`full`, `arange`) count.
pub fn const_only(graph: &Graph) -> Vec<bool> {
    let mut out: Vec<bool> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let args = node
            .args
            .iter()
            .all(|a| out.get(a.index()).copied().unwrap_or(false));
        out.push(args && may_be_constant(node));
    }
    out
}

/// Whether the node would be constant if all its arguments were.
pub fn may_be_constant(node: &Node) -> bool {
    let literal = match &node.op {
        Op::Constant(_) | Op::Full(_) | Op::Arange(_) => true,
        Op::Host(_) | Op::Item(_) => false,
        op if op.info().has(Flag::Effect) => false,
        _ => !node.args.is_empty(),
    };
    let static_type = node
        .ty
        .as_tensor()
        .is_some_and(|t| t.static_shape().is_some());
    let mut symbolic = false;
    for (_, attr) in node.op.attrs() {
        fuseline_ir::attr::visit_symbols(&attr, &mut |_| symbolic = true);
    }
    literal && static_type && !symbolic
}
