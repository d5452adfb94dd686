//! The builder: a graph that grows in canonical form.

use super::{Fired, RULES, Rewrite};
use crate::closed_form::{self, Form};
use fuseline_ir::ops::create;
use fuseline_ir::ops::{movement as mv, pointwise as pw};
use fuseline_ir::{
    Constant, DType, Dim, Flag, Graph, Loc, Op, OpError, Payload, Scalar, Symbol, Tensor,
    TensorType, Type, Value,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How deep rules may build on each other. Beyond it nodes are made as they are: correct, and reached only by graphs written to reach it.
const MAX_DEPTH: usize = 48;

/// The most elements of a constant that rules look at.
const MOST_KNOWN: i64 = 4096;

/// Builds a graph, sharing equal nodes and applying the rules of the canonical form to each.
pub struct Builder {
    graph: Graph,
    /// Only looked up, never walked.
    made: HashMap<(Op, Vec<Value>), Value>,
    fixed: Vec<bool>,
    forms: Vec<Option<Arc<Form<Value>>>>,
    fired: BTreeMap<&'static str, usize>,
    depth: usize,
    loc: Loc,
}

impl Builder {
    /// An empty builder with the name, symbols, states and constants of `graph`.
    pub fn new(graph: &Graph) -> Builder {
        Builder {
            graph: graph.rebuilt(),
            made: HashMap::new(),
            fixed: Vec::new(),
            forms: Vec::new(),
            fired: BTreeMap::new(),
            depth: 0,
            loc: Loc::default(),
        }
    }

    /// What is built next comes from `loc`.
    pub fn at(&mut self, loc: &Loc) -> &mut Builder {
        self.loc = loc.clone();
        self
    }

    /// Adds a constant and the value that reads it.
    ///
    /// Errors: as [`Graph::constant`].
    pub fn constant(
        &mut self,
        name: Symbol,
        ty: TensorType,
        data: Option<Arc<dyn Payload>>,
    ) -> Result<Value, OpError> {
        if !self.graph.constants.contains_key(&name) {
            let constant = Constant {
                ty: ty.clone(),
                data,
            };
            self.graph.constants.insert(name.clone(), constant);
        }
        self.add(create::Constant { name, ty }, &[])
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph so far, with outputs and next states still to be set.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// How often each rule fired, in the order of the table.
    pub fn fired(&self) -> Fired {
        let rules = RULES.iter().flat_map(|theme| theme.iter());
        rules
            .filter_map(|r| self.fired.get(r.name).map(|n| (r.name, *n)))
            .collect()
    }

    /// The value of `op(args)`: one that is there already, what a rule makes of it, or a new node.
    ///
    /// Errors: the op doesn't take the arguments.
    pub fn add(&mut self, op: impl Into<Op>, args: &[Value]) -> Result<Value, OpError> {
        let op = op.into();
        let key = (op, args.to_vec());
        if let Some(&value) = self.made.get(&key) {
            return Ok(value);
        }
        let (op, args) = (&key.0, args);
        if self.depth < MAX_DEPTH {
            self.depth += 1;
            let rewritten = self.rewrite(op, args);
            self.depth -= 1;
            if let Some(value) = rewritten? {
                self.made.insert(key, value);
                return Ok(value);
            }
        }
        let value = self.graph.add(op.clone(), args, &self.loc)?;
        let node = self.graph.node(value);
        let fixed =
            crate::hoist::may_be_constant(node) && args.iter().all(|a| self.fixed[a.index()]);
        self.fixed.push(fixed);
        let form = self.form_of(op, args);
        self.forms.push(form);
        self.made.insert(key, value);
        Ok(value)
    }

    fn rewrite(&mut self, op: &Op, args: &[Value]) -> Rewrite {
        for rule in RULES.iter().flat_map(|theme| theme.iter()) {
            let Some(value) = (rule.apply)(self, op, args)? else {
                continue;
            };
            let types: Vec<&Type> = args.iter().map(|a| self.graph.ty(*a)).collect();
            let expected = op.infer(&types)?;
            if *self.ty(value) != expected {
                let reason = format!("rule {} makes {} of {expected}", rule.name, self.ty(value));
                return Err(OpError::new(op.to_string(), reason));
            }
            *self.fired.entry(rule.name).or_insert(0) += 1;
            return Ok(Some(value));
        }
        Ok(None)
    }

    /// What an element of a value is as a function of its index, where the elements are integers or truth values and it is known.
    pub fn form(&self, v: Value) -> Option<Arc<Form<Value>>> {
        self.forms[v.index()].clone()
    }

    /// What an element of `op(args)` is as a function of its index, where the elements are integers or truth values and it is known.
    pub fn form_of(&self, op: &Op, args: &[Value]) -> Option<Arc<Form<Value>>> {
        let types: Vec<&Type> = args.iter().map(|a| self.ty(*a)).collect();
        let out = op.infer(&types).ok()?;
        if out.as_tensor()?.dtype.is_float() {
            return None;
        }
        let forms: Vec<_> = args
            .iter()
            .map(|a| self.forms[a.index()].as_ref())
            .collect();
        closed_form::of(op, &forms, &types, &out, |n| args[n])
    }

    /// The op that makes a value.
    pub fn op(&self, v: Value) -> &Op {
        &self.graph.node(v).op
    }

    /// A value's argument `n`, which its op has.
    pub fn arg(&self, v: Value, n: usize) -> Value {
        self.graph.node(v).args[n]
    }

    /// A value's arguments.
    pub fn args(&self, v: Value) -> &[Value] {
        &self.graph.node(v).args
    }

    /// A value's type.
    pub fn ty(&self, v: Value) -> &Type {
        self.graph.ty(v)
    }

    /// A value's tensor type, where it is a tensor.
    pub fn tensor(&self, v: Value) -> Option<&TensorType> {
        self.ty(v).as_tensor()
    }

    /// A tensor's sizes; none for what is no tensor.
    pub fn shape(&self, v: Value) -> &[Dim] {
        self.tensor(v).map_or(&[], |t| &t.shape)
    }

    /// A tensor's dtype, where it is a tensor.
    pub fn dtype(&self, v: Value) -> Option<DType> {
        self.tensor(v).map(|t| t.dtype)
    }

    /// The type that `op(args)` would have, where it takes them.
    pub fn infer(&self, op: &Op, args: &[Value]) -> Option<Type> {
        let types: Vec<&Type> = args.iter().map(|a| self.graph.ty(*a)).collect();
        op.infer(&types).ok()
    }

    /// Whether a value depends on constants alone.
    pub fn is_fixed(&self, v: Value) -> bool {
        self.fixed[v.index()]
    }

    /// The number that every element of the value is, where it is made by `full`.
    pub fn literal(&self, v: Value) -> Option<Scalar> {
        match self.op(v) {
            Op::Full(full) => Some(full.value),
            _ => None,
        }
    }

    /// The integers that a small constant holds, in row-major order.
    pub fn known_integers(&self, v: Value) -> Option<Vec<i64>> {
        let data = self.known(v)?;
        let integer = |n| match data.get(n) {
            Scalar::Int(n) => Some(n),
            _ => None,
        };
        (0..data.len()).map(integer).collect()
    }

    /// The floats that a small constant holds, in row-major order.
    pub fn known_floats(&self, v: Value) -> Option<Vec<f64>> {
        let data = self.known(v)?;
        let float = data.dtype().is_float();
        float.then(|| (0..data.len()).map(|n| data.get(n).as_f64()).collect())
    }

    fn known(&self, v: Value) -> Option<Tensor> {
        let Op::Constant(constant) = self.op(v) else {
            return None;
        };
        let elements = constant.ty.numel().as_const();
        elements.filter(|n| *n <= MOST_KNOWN)?;
        self.graph.constant_tensor(&constant.name).ok()
    }

    /// Whether every element of the value is the number `n`, and it is not −0.
    pub fn is_number(&self, v: Value, n: f64) -> bool {
        self.literal(v).is_some_and(|s| {
            s.as_f64() == n && s.as_f64().is_sign_positive() == n.is_sign_positive()
        })
    }

    /// The least value that a symbolic integer can have.
    pub fn least(&self, d: &Dim) -> i64 {
        d.range(&self.graph.symbols).min
    }

    /// The greatest value that a symbolic integer can have.
    pub fn most(&self, d: &Dim) -> i64 {
        d.range(&self.graph.symbols).max
    }

    /// Whether `a ≤ b` for all values of the symbols, as far as intervals tell.
    pub fn at_most(&self, a: &Dim, b: &Dim) -> bool {
        self.least(&(b - a)) >= 0
    }

    /// A tensor filled with a number.
    pub fn full(&mut self, value: Scalar, ty: TensorType) -> Result<Value, OpError> {
        let value = value.cast(ty.dtype);
        self.add(create::Full { value, ty }, &[])
    }

    /// A 0-d tensor of a number.
    pub fn scalar(&mut self, value: Scalar, dtype: DType) -> Result<Value, OpError> {
        self.full(value, TensorType::new(dtype, vec![]))
    }

    /// The value under another shape.
    pub fn reshape(&mut self, v: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
        self.add(mv::Reshape { shape }, &[v])
    }

    /// The value repeated to a shape.
    pub fn broadcast(&mut self, v: Value, shape: Vec<Dim>) -> Result<Value, OpError> {
        self.add(mv::Broadcast { shape }, &[v])
    }

    /// The value converted.
    pub fn cast(&mut self, v: Value, dtype: DType) -> Result<Value, OpError> {
        self.add(pw::Cast { dtype }, &[v])
    }

    /// Whether the op is pointwise.
    pub fn is_pointwise(op: &Op) -> bool {
        op.info().has(Flag::Pointwise)
    }
}
