//! The e-graph over IR ops: what a node is, and what is known of each class.
//!
//! A node is an op with its attributes and the classes of its arguments, so two applications of one op to equal values are one node. Every value of the graph
//! is in a class of its own to begin with; a rule that fires merges two. Facts of a class ([`Facts`]) hold for each of its nodes.

use crate::closed_form::{self, Form};
use crate::pass::PassError;
use crate::tables::Tables;
use egg::{Analysis, DidMerge, Id, Language};
use fuseline_ir::ops::create::Constant;
use fuseline_ir::{Graph, Op, Scalar, Symbol, Type, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The e-graph of IR ops.
pub type EGraph = egg::EGraph<ENode, Terms>;

/// An op applied to classes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ENode {
    /// The op and its attributes.
    pub op: Op,
    /// The classes of the arguments.
    pub children: Vec<Id>,
}

impl Language for ENode {
    type Discriminant = &'static str;

    fn discriminant(&self) -> &'static str {
        self.op.name()
    }

    fn matches(&self, other: &ENode) -> bool {
        self.op == other.op && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// What is known of the values of a class.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Their type. Classes are merged only where the types are the same.
    pub ty: Type,
    /// The number that every element is, where that is known.
    pub scalar: Option<Scalar>,
    /// No element is below 0. One may be NaN, or −0.
    pub not_negative: bool,
    /// Some node depends on constants alone: its work is done once, not in a step.
    pub constant: bool,
    /// Elements as a function of the index, where one was found.
    pub form: Option<Arc<Form<Id>>>,
    /// The first value of the input graph that is in the class.
    pub first: Option<u32>,
    /// The value of the input graph in whose place the class stands: [`Facts::first`], or for a class that a rule made the root of its match.
    pub near: u32,
}

/// The analysis that keeps [`Facts`], and what it must know of the node being added.
#[derive(Debug, Default)]
pub struct Terms {
    /// One-element constants.
    numbers: BTreeMap<Symbol, Scalar>,
    /// What constants that hold rotary tables or triangles are.
    tables: BTreeMap<Symbol, Arc<Form<Id>>>,
    first: Option<u32>,
    near: u32,
}

impl Analysis<ENode> for Terms {
    type Data = Facts;

    fn make(egraph: &mut EGraph, node: &ENode, _: Id) -> Facts {
        let facts = |id: &Id| &egraph[*id].data;
        let types: Vec<&Type> = node.children.iter().map(|c| &facts(c).ty).collect();
        // Nodes are only added after inference has accepted them; the empty tuple unites with nothing.
        let ty = node.op.infer(&types).unwrap_or(Type::Tuple(Vec::new()));
        let forms: Vec<Option<&Arc<Form<Id>>>> = node
            .children
            .iter()
            .map(|c| facts(c).form.as_ref())
            .collect();
        let scalar = scalar(egraph, node, &ty);
        Facts {
            not_negative: match scalar {
                Some(number) => number.as_f64() >= 0.0,
                // Integers wrap.
                None => {
                    let float = ty.as_tensor().is_some_and(|t| t.dtype.is_float());
                    float && not_negative(egraph, node)
                }
            },
            scalar,
            constant: is_constant(egraph, node),
            form: match &node.op {
                Op::Constant(constant) => egraph.analysis.tables.get(&constant.name).cloned(),
                op => closed_form::of(op, &forms, &types, &ty, |n| node.children[n]),
            },
            first: egraph.analysis.first,
            near: egraph.analysis.first.unwrap_or(egraph.analysis.near),
            ty,
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        let (mut from_a, mut from_b) = (false, false);
        let mut pick = |keep: bool, take: bool| {
            from_b |= keep;
            from_a |= take;
            take
        };
        if pick(
            a.scalar.is_some() && b.scalar.is_none(),
            a.scalar.is_none() && b.scalar.is_some(),
        ) {
            a.scalar = b.scalar;
        }
        if pick(a.constant && !b.constant, !a.constant && b.constant) {
            a.constant = true;
        }
        if pick(
            a.not_negative && !b.not_negative,
            !a.not_negative && b.not_negative,
        ) {
            a.not_negative = true;
        }
        if pick(
            a.form.is_some() && b.form.is_none(),
            a.form.is_none() && b.form.is_some(),
        ) {
            a.form = b.form;
        }
        let first = a.first.into_iter().chain(b.first).min();
        let near = first.unwrap_or(a.near.min(b.near));
        pick(a.first == first && b.first != first, a.first != first);
        pick(a.near == near && b.near != near, a.near != near);
        (a.first, a.near) = (first, near);
        DidMerge(from_a, from_b)
    }
}

fn scalar(egraph: &EGraph, node: &ENode, ty: &Type) -> Option<Scalar> {
    let dtype = ty.as_tensor()?.dtype;
    match &node.op {
        Op::Full(full) => Some(full.value.cast(dtype)),
        Op::Constant(constant) => egraph.analysis.numbers.get(&constant.name).copied(),
        Op::Reshape(_)
        | Op::Broadcast(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Flip(_)
        | Op::Cast(_) => {
            let child = node.children.first()?;
            egraph[*child].data.scalar.map(|s| s.cast(dtype))
        }
        _ => None,
    }
}

/// Whether no element of the node can be below 0, by its op and what is known of its arguments.
fn not_negative(egraph: &EGraph, node: &ENode) -> bool {
    let known = |id: &Id| egraph[*id].data.not_negative;
    match &node.op {
        Op::Abs(_) | Op::Square(_) | Op::Exp(_) | Op::Sigmoid(_) | Op::Softmax(_) => true,
        Op::Sqrt(_) | Op::Erfc(_) => true,
        Op::Mul(_) if node.children.windows(2).all(|pair| pair[0] == pair[1]) => true,
        Op::Maximum(_) => node.children.iter().any(known),
        // log(eˣ + e⁰) is above 0.
        Op::LogAddExp(_) => node.children.iter().any(known),
        Op::Add(_) | Op::Mul(_) | Op::Minimum(_) | Op::Cat(_) => node.children.iter().all(known),
        Op::Where(_) => node.children.iter().skip(1).all(known),
        Op::Div(_) => {
            let positive = |id: &Id| egraph[*id].data.scalar.is_some_and(|s| s.as_f64() > 0.0);
            node.children.first().is_some_and(known) && node.children.get(1).is_some_and(positive)
        }
        Op::Sum(_)
        | Op::Mean(_)
        | Op::Prod(_)
        | Op::Amin(_)
        | Op::Cast(_)
        | Op::Reshape(_)
        | Op::Broadcast(_)
        | Op::Transpose(_)
        | Op::Slice(_)
        | Op::Flip(_) => node.children.first().is_some_and(known),
        _ => false,
    }
}

/// Whether the node depends on constants alone: neither on inputs or states, nor on symbols.
pub fn is_constant(egraph: &EGraph, node: &ENode) -> bool {
    if matches!(node.op, Op::Input(_) | Op::State(_) | Op::Item(_)) {
        return false;
    }
    let mut symbolic = false;
    node.op
        .attrs()
        .iter()
        .for_each(|(_, a)| fuseline_ir::attr::visit_symbols(a, &mut |_| symbolic = true));
    !symbolic && node.children.iter().all(|c| egraph[*c].data.constant)
}

/// Adds `node` to the e-graph as new work in the place of value `near` of the input graph. The caller has checked that its type can be inferred.
pub fn add_near(egraph: &mut EGraph, node: ENode, near: u32) -> Id {
    egraph.analysis.first = None;
    egraph.analysis.near = near;
    egraph.add(node)
}

/// A graph in an e-graph.
pub struct Loaded {
    /// The e-graph, rebuilt.
    pub egraph: EGraph,
    /// The class of each value that is live.
    pub classes: Vec<Option<Id>>,
}

/// Puts the live values of `graph` in a new e-graph, where constants that hold rotary tables are `tables`.
///
/// Errors: an argument that isn't live though its user is, which a valid graph doesn't have.
pub fn load(graph: &Graph, tables: &Tables) -> Result<Loaded, PassError> {
    let mut egraph = EGraph::new(Terms {
        numbers: numbers(graph),
        ..Terms::default()
    });
    for (name, table) in tables {
        let constant = Constant {
            name: table.freqs.clone(),
            ty: table.freqs_type(),
        };
        let freqs = add_near(&mut egraph, leaf(constant), 0);
        if let Some(form) = table.form(freqs) {
            egraph.analysis.tables.insert(name.clone(), form);
        }
    }
    for (name, form) in closed_form::constant_forms(graph) {
        egraph.analysis.tables.insert(name, form);
    }
    let live = graph.live();
    let mut classes: Vec<Option<Id>> = vec![None; graph.nodes().len()];
    for (value, node) in graph.values() {
        if !live[value.index()] {
            continue;
        }
        let children = node
            .args
            .iter()
            .map(|a| classes[a.index()])
            .collect::<Option<Vec<Id>>>()
            .ok_or_else(|| {
                PassError::broken(
                    "saturate",
                    graph.describe(value, node),
                    "an argument is not live",
                )
            })?;
        egraph.analysis.first = u32::try_from(value.index()).ok();
        let op = node.op.clone();
        classes[value.index()] = Some(egraph.add(ENode { op, children }));
    }
    egraph.analysis.first = None;
    egraph.rebuild();
    Ok(Loaded { egraph, classes })
}

fn leaf(op: impl Into<Op>) -> ENode {
    ENode {
        op: op.into(),
        children: Vec::new(),
    }
}

/// The elements of the constants that have just one.
pub(crate) fn numbers(graph: &Graph) -> BTreeMap<Symbol, Scalar> {
    let one = |c: &fuseline_ir::Constant| c.ty.shape.iter().all(|d| d.is(1)) && c.data.is_some();
    graph
        .constants
        .iter()
        .filter(|(_, c)| one(c))
        .filter_map(|(name, _)| Some((name.clone(), graph.constant_tensor(name).ok()?.get(0))))
        .collect()
}

/// The value of the input graph at whose place the class stands.
pub fn place(egraph: &EGraph, id: Id) -> Value {
    Value::from_index(egraph[id].data.near as usize)
}
