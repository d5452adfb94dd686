//! Canonical form: what is always better, or as good and the one way to say it, is done here, while the graph is rebuilt node by node.
//!
//! A [`Builder`] shares equal nodes (common subexpressions), tries the rules of [`RULES`] on each node before it is made, and drops what nothing needs at the end.
//! A rule looks only at a node's op and at its arguments, which are canonical already, and gives a value that is never more work and that is *exact*: it has the same
//! elements as the node would have had, any NaN equal to any other. Where a zero may change its sign, or PyTorch itself picks the same shortcut, the rule's documentation
//! says so. What depends on a choice (how often a value is used, what a target does fast, rounding) is not done here but in the e-graph.

mod arith;
mod attention;
mod broadcast;
mod builder;
pub mod cast;
mod chosen;
mod few_bits;
mod groups;
mod index;
mod literal;
mod logic;
mod matmul;
mod movement;
mod reduce;
mod slice;
mod update;

pub use builder::Builder;

use crate::pass::{PassCx, PassError};
use fuseline_ir::{Graph, Op, OpError, Value};

/// The pass's name.
pub const NAME: &str = "canon";

/// What a rule gives: the value to use instead of the node, where it fires.
pub type Rewrite = Result<Option<Value>, OpError>;

/// How often each rule fired, in the order of the table; those that didn't are left out.
pub type Fired = Vec<(&'static str, usize)>;

/// A rule of the canonical form.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Its name, unique, and that of the case file that shows it.
    pub name: &'static str,
    /// What it does, in one line.
    pub doc: &'static str,
    /// Tries it on `op(args)`. Values that it builds go through the rules as well.
    pub apply: fn(&mut Builder, &Op, &[Value]) -> Rewrite,
}

/// The rules by theme, in the order in which they are tried.
pub const RULES: &[&[Rule]] = &[
    literal::RULES,
    cast::RULES,
    arith::RULES,
    logic::RULES,
    chosen::RULES,
    movement::RULES,
    few_bits::RULES,
    reduce::RULES,
    slice::RULES,
    broadcast::RULES,
    matmul::RULES,
    attention::RULES,
    update::RULES,
    index::RULES,
    groups::RULES,
];

/// Brings a graph into canonical form.
///
/// Errors: a rule built something ill-typed, which is a bug of the rule.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    canonical(graph).map(|(graph, _)| graph)
}

/// As [`run`]; also which rules fired.
///
/// Errors: as [`run`].
pub fn canonical(graph: &Graph) -> Result<(Graph, Fired), PassError> {
    let mut builder = Builder::new(graph);
    let new = rebuild(graph, graph.nodes().len(), &mut builder)?;
    let fired = builder.fired();
    let mut out = builder.finish();
    for output in &graph.outputs {
        out.output(output.name.clone(), new[output.value.index()]);
    }
    for (state, old) in out.states.iter_mut().zip(&graph.states) {
        state.next = old.next.map(|v| new[v.index()]);
    }
    let out = crate::sweep::sweep(&out).map_err(|error| PassError::Op {
        pass: NAME,
        place: "the sweep at the end".into(),
        error,
    })?;
    Ok((out, fired))
}

/// The rules that fire where `value` is rebuilt: at its own node, and at what those rules build for it.
///
/// Errors: as [`run`].
pub fn rules_at(graph: &Graph, value: Value) -> Result<Fired, PassError> {
    let mut builder = Builder::new(graph);
    rebuild(graph, value.index(), &mut builder)?;
    let before = builder.fired();
    let mut builder = Builder::new(graph);
    rebuild(graph, value.index() + 1, &mut builder)?;
    let earlier = |name: &str| {
        before
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(0, |(_, n)| *n)
    };
    let fired = builder.fired().into_iter();
    let here = fired.map(|(name, n)| (name, n - earlier(name)));
    Ok(here.filter(|(_, n)| *n > 0).collect())
}

/// Rebuilds the first `count` values in `builder`; what each has become.
fn rebuild(graph: &Graph, count: usize, builder: &mut Builder) -> Result<Vec<Value>, PassError> {
    let mut new: Vec<Value> = Vec::with_capacity(count);
    let live = graph.live();
    for (value, node) in graph.values().take(count) {
        if !live[value.index()] {
            // Never read: any value will do as its place in the map.
            new.push(Value::from_index(0));
            continue;
        }
        let args: Vec<Value> = node.args.iter().map(|a| new[a.index()]).collect();
        let made = builder.at(&node.loc).add(node.op.clone(), &args);
        new.push(made.map_err(PassError::at(NAME, graph, value))?);
    }
    Ok(new)
}
