//! The graph: SSA values in topological order, pure, with named inputs, outputs, states and constants.

use crate::dim::{Dim, Range, Symbol, Symbols};
use crate::error::OpError;
use crate::ops::Op;
use crate::ops::create::{Constant as ConstantOp, Input as InputOp, State as StateOp};
use crate::require::Requirement;
use crate::types::{TensorType, Type};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops;
use std::sync::Arc;

/// A value: the result of the node of that number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u32);

impl Value {
    /// The number of the node in its graph.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The value of node `index`, for code that walks over nodes by number.
    pub fn from_index(index: usize) -> Value {
        Value(u32::try_from(index).unwrap_or(u32::MAX))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Where in the model a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loc {
    /// The PyTorch module's path, such as `model.layers.0.self_attn`.
    pub module: Option<Arc<str>>,
}

impl Loc {
    /// A place in the module of that path.
    pub fn module(path: impl Into<Arc<str>>) -> Loc {
        Loc {
            module: Some(path.into()),
        }
    }
}

/// One application of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op and its attributes.
    pub op: Op,
    /// Arguments: values of nodes before this one.
    pub args: Vec<Value>,
    /// The type that the op infers for them.
    pub ty: Type,
    /// Where it comes from.
    pub loc: Loc,
}

/// Where a constant's bytes are. Implemented by what maps a file; bytes are read only when something needs them.
pub trait Payload: Send + Sync {
    /// The elements, row-major and contiguous, little-endian. As long as the type says.
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String>;

    /// Those of the bytes that lie in `range`, the same as a slice of all of them: what goes through a large constant piece by piece asks for these.
    ///
    /// # Errors
    /// As [`bytes`](Payload::bytes); a range that reaches past the end.
    fn range(&self, range: ops::Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let part = |len: usize| format!("bytes {}..{} of {len}", range.start, range.end);
        match self.bytes()? {
            Cow::Borrowed(all) => all.get(range.clone()).map(Cow::Borrowed).ok_or(all.len()),
            Cow::Owned(mut all) if range.start <= range.end && range.end <= all.len() => {
                all.truncate(range.end);
                all.drain(..range.start);
                Ok(Cow::Owned(all))
            }
            Cow::Owned(all) => Err(all.len()),
        }
        .map_err(part)
    }

    /// The same bytes where they lie ready, so that nothing has to be made to look at them.
    fn stored(&self) -> Option<&[u8]> {
        None
    }
}

impl Payload for Vec<u8> {
    fn stored(&self) -> Option<&[u8]> {
        Some(self)
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        Ok(Cow::Borrowed(self))
    }
}

/// A named tensor that doesn't change.
#[derive(Clone)]
pub struct Constant {
    /// Static type.
    pub ty: TensorType,
    /// Its bytes; absent where a graph was read from text that names it only.
    pub data: Option<Arc<dyn Payload>>,
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Constant({}{})",
            self.ty,
            if self.data.is_some() { "" } else { ", no data" }
        )
    }
}

/// A mutated buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Name, unique among the states.
    pub name: Symbol,
    /// Static type.
    pub ty: TensorType,
    /// The constant that it starts from; zeros where there is none.
    pub init: Option<Symbol>,
    /// The value that it has after a run; unchanged where there is none.
    pub next: Option<Value>,
}

/// A result of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name, unique among the outputs.
    pub name: Symbol,
    /// The value.
    pub value: Value,
}

/// A computation: see the crate's documentation.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The method's name.
    pub name: String,
    /// Symbols and their ranges.
    pub symbols: Symbols,
    nodes: Vec<Node>,
    inputs: Vec<Value>,
    /// What must hold of numbers, apart from the ranges of symbols.
    pub requirements: Vec<Requirement>,
    /// The mutated buffers.
    pub states: Vec<State>,
    /// Constants by name.
    pub constants: BTreeMap<Symbol, Constant>,
    /// The results, in order.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph {
            name: name.into(),
            ..Graph::default()
        }
    }

    /// A graph with the same name, symbols, requirements, states (their next values cleared) and constants, but no nodes, inputs or outputs: where a pass that rebuilds starts from.
    pub fn rebuilt(&self) -> Graph {
        Graph {
            name: self.name.clone(),
            symbols: self.symbols.clone(),
            requirements: self.requirements.clone(),
            states: self
                .states
                .iter()
                .map(|s| State {
                    next: None,
                    ..s.clone()
                })
                .collect(),
            constants: self.constants.clone(),
            ..Graph::default()
        }
    }

    /// Declares a symbol.
    pub fn declare_symbol(&mut self, name: impl Into<Symbol>, range: Range) {
        self.symbols.insert(name.into(), range);
    }

    /// Applies `op` to `args`: the new value, or why it can't be. An `input` is also appended to the graph's inputs.
    pub fn add(&mut self, op: impl Into<Op>, args: &[Value], loc: &Loc) -> Result<Value, OpError> {
        let op = op.into();
        let types = args
            .iter()
            .map(|v| self.nodes.get(v.index()).map(|n| &n.ty))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                OpError::new(op.to_string(), "an argument is not a value of the graph")
            })?;
        let ty = op.infer(&types)?;
        let value = Value::from_index(self.nodes.len());
        if value.0 == u32::MAX {
            return Err(OpError::new(op.to_string(), "the graph is too large"));
        }
        if matches!(op, Op::Input(_)) {
            self.inputs.push(value);
        }
        self.nodes.push(Node {
            op,
            args: args.to_vec(),
            ty,
            loc: loc.clone(),
        });
        Ok(value)
    }

    /// Gives the nodes from number `start` on that have no place this one: for the nodes that a decomposition added.
    pub fn place_from(&mut self, start: usize, loc: &Loc) {
        for node in self.nodes.iter_mut().skip(start) {
            if node.loc == Loc::default() {
                node.loc = loc.clone();
            }
        }
    }

    /// Requires that `dim` lies in `range`. What it is computed from is computed then, whether or not anything else needs it.
    pub fn require(&mut self, dim: &Dim, range: Range) {
        let new = Requirement::normal(dim, range);
        match self.requirements.iter_mut().find(|old| old.dim == new.dim) {
            Some(old) => old.range = old.range.intersection(&new.range),
            None => self.requirements.push(new),
        }
    }

    /// Adds an input.
    pub fn input(
        &mut self,
        name: impl Into<Symbol>,
        ty: impl Into<Type>,
    ) -> Result<Value, OpError> {
        let op = InputOp {
            name: name.into(),
            ty: ty.into(),
        };
        self.add(op, &[], &Loc::default())
    }

    /// Adds a constant and the value that reads it.
    pub fn constant(
        &mut self,
        name: impl Into<Symbol>,
        ty: TensorType,
        data: Option<Arc<dyn Payload>>,
    ) -> Result<Value, OpError> {
        let name = name.into();
        let constant = Constant {
            ty: ty.clone(),
            data,
        };
        if let Some(old) = self.constants.get(&name)
            && old.ty != ty
        {
            return Err(OpError::new(
                "constant",
                format!("\"{name}\" is there as {}, not {ty}", old.ty),
            ));
        }
        self.constants.entry(name.clone()).or_insert(constant);
        self.add(ConstantOp { name, ty }, &[], &Loc::default())
    }

    /// Adds a state and the value that reads it at the entry.
    pub fn state(
        &mut self,
        name: impl Into<Symbol>,
        ty: TensorType,
        init: Option<Symbol>,
    ) -> Result<Value, OpError> {
        let name = name.into();
        self.states.push(State {
            name: name.clone(),
            ty: ty.clone(),
            init,
            next: None,
        });
        self.add(StateOp { name, ty }, &[], &Loc::default())
    }

    /// Appends an output.
    pub fn output(&mut self, name: impl Into<Symbol>, value: Value) {
        self.outputs.push(Output {
            name: name.into(),
            value,
        });
    }

    /// The nodes, in topological order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The values with their nodes, in topological order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (Value, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (Value::from_index(i), n))
    }

    /// The node that computes `value`, which must be one of this graph's.
    pub fn node(&self, value: Value) -> &Node {
        &self.nodes[value.index()]
    }

    /// The type of `value`.
    pub fn ty(&self, value: Value) -> &Type {
        &self.node(value).ty
    }

    /// The tensor type of `value`, or an error that says what it is.
    pub fn tensor_ty(&self, value: Value) -> Result<&TensorType, OpError> {
        match self.ty(value) {
            Type::Tensor(t) => Ok(t),
            other => Err(OpError::new(
                self.node(value).op.to_string(),
                format!("{value} is {other}, not a tensor"),
            )),
        }
    }

    /// The inputs' values, in order.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// The values that must be computed: outputs, then the states' next values, then the numbers that requirements speak of.
    pub fn roots(&self) -> Vec<Value> {
        let outputs = self.outputs.iter().map(|o| o.value);
        let mut roots: Vec<Value> = outputs
            .chain(self.states.iter().filter_map(|s| s.next))
            .collect();
        if !self.requirements.is_empty() {
            let definers = self.symbol_definers();
            for requirement in &self.requirements {
                requirement.dim.visit_symbols(&mut |s| {
                    let at = definers.get(s).map(|at| Value::from_index(*at));
                    roots.extend(at.filter(|v| !matches!(self.node(*v).op, Op::Input(_))));
                });
            }
        }
        roots
    }

    /// For each value, how many nodes, outputs and states read it.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        let args = self.nodes.iter().flat_map(|n| n.args.iter().copied());
        for v in args.chain(self.roots()) {
            counts[v.index()] += 1;
        }
        counts
    }

    /// For each value, whether an output, a state or a requirement depends on it, through arguments or through a symbol that the value
    /// defines (a number read from a tensor may only occur in sizes and attributes); inputs always count as needed.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        for v in self.roots().iter().chain(&self.inputs) {
            live[v.index()] = true;
        }
        let definers = self.symbol_definers();
        for i in (0..self.nodes.len()).rev() {
            if !live[i] {
                continue;
            }
            let node = &self.nodes[i];
            for a in &node.args {
                live[a.index()] = true;
            }
            let mut mark = |s: &Symbol| {
                if let Some(&at) = definers.get(s) {
                    live[at] = true;
                }
            };
            node.ty.visit_symbols(&mut mark);
            for (_, attr) in node.op.attrs() {
                crate::attr::visit_symbols(&attr, &mut mark);
            }
        }
        live
    }

    /// The node that gives each symbol its value: the first in whose type it occurs.
    fn symbol_definers(&self) -> BTreeMap<Symbol, usize> {
        let mut definers = BTreeMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            node.ty.visit_symbols(&mut |s| {
                definers.entry(s.clone()).or_insert(i);
            });
        }
        definers
    }

    /// Whether two graphs are the same: names, symbols, nodes, states, outputs, and the constants' types.
    pub fn same(&self, other: &Graph) -> bool {
        let types = |g: &Graph| {
            g.constants
                .iter()
                .map(|(n, c)| (n.clone(), c.ty.clone()))
                .collect::<Vec<_>>()
        };
        self.name == other.name
            && self.symbols == other.symbols
            && self.requirements == other.requirements
            && self.nodes == other.nodes
            && self.inputs == other.inputs
            && self.states == other.states
            && self.outputs == other.outputs
            && types(self) == types(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::dtype::DType;
    use crate::ops::table as op;

    #[test]
    fn a_number_that_only_sizes_use_keeps_its_node_alive() {
        let mut graph = Graph::new("forward");
        let scalar = TensorType::new(DType::I64, vec![]);
        let x = graph.input("x", scalar).unwrap();
        let loc = Loc::default();
        let number = graph
            .add(
                op::Item {
                    symbol: "u0".into(),
                },
                &[x],
                &loc,
            )
            .unwrap();
        let dead = graph
            .add(
                op::Item {
                    symbol: "u1".into(),
                },
                &[x],
                &loc,
            )
            .unwrap();
        let count = op::Arange {
            start: Dim::symbol("u0"),
            step: 1i64.into(),
            len: 4i64.into(),
            dtype: DType::I64,
        };
        let out = graph.add(count, &[], &loc).unwrap();
        graph.output("out", out);
        let live = graph.live();
        assert!(live[number.index()] && live[out.index()] && !live[dead.index()]);
    }
}
