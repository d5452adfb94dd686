//! From an exported program to the IR.
//!
//! An exported program comes in two dialects that both become the same IR here: the *training* dialect straight from `torch.export.export`, with in-place
//! operators on buffers, inputs and views of them, and the functional one that `run_decompositions` leaves. The import walks the nodes in order:
//!
//! - names stand for tensors in a model of PyTorch's memory ([`memory`]), which turns in-place operators into new values;
//! - each operator has a handler in a file of [`ops`] by theme, found through [`dispatch`]; many are a row of the IR's own table;
//! - handlers see arguments by name with all schema defaults filled in ([`call`]) and promote types by PyTorch's rules ([`promote`]);
//! - every result is compared with the type that the export recorded for it, so that a wrong import is an error here and not a wrong number later.
//!
//! Buffers that end up with a new value are the states of the graph; weights and other buffers are its constants, and their bytes stay in the mapped
//! file. What is not supported is collected over the whole program and reported at once, with its place in the model.

mod build;
mod call;
mod checks;
mod dispatch;
mod error;
mod host;
mod inputs;
mod memory;
mod ops;
mod pack;
mod promote;
mod region;
mod symbolic;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Graph, Loc, Scalar, Symbol, Value};

pub use dispatch::{Road, refused, road};
pub use error::{Error, Unsupported};
pub use host::HostOps;
pub use inputs::parameters;
pub use ops::random::SEED;

use crate::pt2::Archive;
use crate::pt2::exported::{self, Argument, Node, Place, SymBool, SymFloat, SymInt};
use crate::pt2::schema::Schema;
use crate::pt2::sym::{SymExpr, SymOp};
use build::Builder;
use call::{Call, Names, Num, Val};
use error::{Fail, Result, invalid, unsupported};
use inputs::Weights;
use memory::{Memory, TensorId};

/// Imports the program of an archive. The graph is named `forward`; its inputs are the user inputs that are tensors or
/// symbolic integers, its outputs the user outputs in order, followed by the new values of user inputs that the program writes to.
///
/// # Errors
///
/// [`Error::Unsupported`] with everything in the program that can't be imported; [`Error::Invalid`] for a file that contradicts itself.
pub fn import(archive: &Archive) -> std::result::Result<Graph, Error> {
    import_with(archive, &HostOps::default())
}

/// As [`import`], with operators that the user sends to the host.
///
/// # Errors
///
/// As [`import`].
pub fn import_with(archive: &Archive, host_ops: &HostOps) -> std::result::Result<Graph, Error> {
    // Which buffers are states is known once all writes were seen, and matters from the first read on.
    let mut mutated = inputs::declared_mutations(archive);
    loop {
        let (graph, found) = Importer::new(archive, &mutated, host_ops).run()?;
        if found.is_subset(&mutated) {
            return Ok(graph);
        }
        mutated.extend(found);
    }
}

/// The name of the program's graph.
const MAIN: &str = "forward";

/// The state of an import.
struct Importer<'a> {
    build: Builder,
    memory: Memory,
    weights: Weights<'a>,
    archive: &'a Archive,
    failures: Failures,
    recipes: ops::quant::Recipes,
    host_ops: &'a HostOps,
    /// How many graphs inside ops there are so far: they have names of their own.
    regions: usize,
    /// How many keys of random numbers were handed out.
    draws: i64,
    /// Where in the program the graph stands that is being imported, for who draws random numbers.
    round: ops::random::Round,
    /// The last call so far for each layer whose cache belongs to a session.
    cached: BTreeMap<i64, Value>,
}

/// A graph of the file, and what its names stand for so far.
struct Scope<'a> {
    graph: &'a exported::Graph,
    names: Names,
}

impl Scope<'_> {
    fn get(&self, name: &str) -> Option<&Val> {
        self.names.get(name)
    }
}

/// A result of a handler.
#[derive(Debug, Clone)]
enum Out {
    /// A new tensor with a storage of its own.
    Value(Value),
    /// A tensor that exists already, or a view of one.
    Tensor(TensorId),
    /// A new complex tensor.
    Complex(ops::complex::Pair),
    /// The parts of a complex tensor that exists already, or of a view of one.
    Views(TensorId, TensorId),
    /// A number.
    Number(Val),
}

impl From<Value> for Out {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// Imports one operator.
type Handler = fn(&mut Importer<'_>, &Call<'_>) -> Result<Vec<Out>>;

impl<'a> Importer<'a> {
    fn new(archive: &'a Archive, mutated: &'a BTreeSet<String>, host_ops: &'a HostOps) -> Self {
        Self {
            build: Builder {
                graph: Graph::new(MAIN),
                loc: Loc::default(),
            },
            memory: Memory::default(),
            weights: Weights::new(mutated),
            archive,
            failures: Failures::default(),
            recipes: ops::quant::Recipes::default(),
            host_ops,
            regions: 0,
            draws: 0,
            round: ops::random::Round::Once,
            cached: BTreeMap::new(),
        }
    }

    /// Imports everything. Also returns the names of the buffers that were written to.
    fn run(mut self) -> std::result::Result<(Graph, BTreeSet<String>), Error> {
        let graph = &self.archive.program().graph_module.graph;
        let mut scope = Scope {
            graph,
            names: Names::new(),
        };
        self.declare_symbols()
            .map_err(|fail| at("range_constraints", fail))?;
        self.bind_inputs(&mut scope)?;
        self.run_nodes(&mut scope)?;
        if !self.failures.0.is_empty() {
            return Err(Error::Unsupported(self.failures.0));
        }
        self.finish(&scope)
    }

    /// Imports the nodes of a graph whose inputs are bound.
    fn run_nodes(&mut self, scope: &mut Scope<'a>) -> std::result::Result<(), Error> {
        let graph = scope.graph;
        let mut at = 0;
        while at < graph.nodes.len() {
            match self.batched(&graph.nodes, at, scope)? {
                Some(next) => at = next,
                None => {
                    self.run_one(&graph.nodes[at], scope)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Imports one node, and notes it down where it is not supported.
    fn run_one(&mut self, node: &'a Node, scope: &mut Scope<'a>) -> std::result::Result<(), Error> {
        let loc = &node.place.module;
        self.build.loc = if loc.is_empty() {
            Loc::default()
        } else {
            Loc::module(loc.as_str())
        };
        let outputs = match self.run_node(node, scope) {
            Ok(outputs) => outputs,
            Err(fail) => {
                match fail {
                    Fail::Poisoned => {}
                    Fail::Unsupported(reason) => {
                        self.failures.add(target(node), reason, &node.place)
                    }
                    other => return Err(at(&describe(node), other)),
                }
                for name in all_out_names(node) {
                    scope.names.insert(name.to_owned(), Val::Poison);
                }
                return Ok(());
            }
        };
        scope.names.extend(outputs);
        Ok(())
    }

    fn run_node(&mut self, node: &'a Node, scope: &mut Scope<'a>) -> Result<Vec<(String, Val)>> {
        let target = target(node);
        if dispatch::is_assertion(target) {
            self.assertion(node, scope);
            return Ok(Vec::new());
        }
        if ops::control::is_inlined(target) {
            return self.inline(node, scope);
        }
        if ops::higher_order::is_higher_order(target) {
            return self.higher_order(node, scope);
        }
        let schema = Schema::find(target).or_else(|| Schema::find(&dispatch::writing(target)?));
        let call = Call {
            node,
            target,
            schema: schema.as_ref(),
            scope,
        };
        let import = match self.host_ops.has(target) {
            true => Some(host::import as Handler),
            false => ops::complex::find(&call).or_else(|| dispatch::find(target)),
        };
        let custom = || host::is_custom(&node.target).then_some(host::import as Handler);
        if let Some(import) = import.or_else(custom) {
            if call.reads_poison() {
                return Err(Fail::Poisoned);
            }
            let outs = import(self, &call)?;
            let outs = self.unshare(&call, outs)?;
            return self.bind(&call, outs);
        }
        let import = dispatch::in_place(target, schema.as_ref());
        match (import, schema.as_ref().map(host::obstacle)) {
            (None, None) => return host::refusal(target),
            _ if call.reads_poison() => return Err(Fail::Poisoned),
            (None, Some(Some(reason))) => {
                return unsupported(format!("this operator is not supported: it {reason}"));
            }
            _ => {}
        }
        let Some(import) = import else {
            let outs = host::import(self, &call)?;
            return self.bind(&call, outs);
        };
        let written = call.tensor("self")?;
        // Some operators name their arguments otherwise than the in-place ones do.
        let names = |schema: &Schema| {
            schema
                .args
                .iter()
                .map(|arg| arg.name.clone())
                .collect::<Vec<_>>()
        };
        let own = dispatch::functional(target)
            .and_then(|name| Schema::find(&name))
            .filter(|own| {
                schema
                    .as_ref()
                    .is_some_and(|schema| names(schema) == names(own))
            });
        let pure = Call {
            target: own.as_ref().map_or(target, |own| own.name.as_str()),
            schema: own.as_ref().or(call.schema),
            ..call
        };
        let value = match import(self, &pure)?.into_iter().next() {
            Some(Out::Value(value)) => value,
            Some(Out::Tensor(tensor)) => self.read(tensor)?,
            _ => return Err(Fail::Bug("an in-place operator has no result".to_owned())),
        };
        self.write(written, value)?;
        self.bind(&call, vec![Out::Tensor(written)])
    }

    /// Makes sharing agree with the operator's schema: a storage of its own for a result that is no view, and a snapshot for a view
    /// that the handler has only the value of.
    fn unshare(&mut self, call: &Call<'_>, outs: Vec<Out>) -> Result<Vec<Out>> {
        let Some(schema) = call.schema else {
            return Ok(outs);
        };
        let is_view = schema
            .returns
            .iter()
            .any(|one| one.alias.as_ref().is_some_and(|alias| !alias.write));
        let viewed = match schema.args.first() {
            Some(arg) if is_view && arg.alias.is_some() && !dispatch::may_copy(call.target) => {
                call.tensor(&arg.name).ok()
            }
            _ => None,
        };
        let may_share = is_view || dispatch::may_return_self(call.target);
        let agree = |out| match (out, viewed) {
            (Out::Tensor(tensor), _) if !may_share => self.read(tensor).map(Out::Value),
            (Out::Views(re, im), _) if !may_share => {
                let (re, im) = (self.read(re)?, Some(self.read(im)?));
                Ok(ops::complex::Pair { re, im }.into())
            }
            (Out::Value(value), Some(of)) => Ok(Out::Tensor(self.memory.snapshot(value, of))),
            (other, _) => Ok(other),
        };
        outs.into_iter().map(agree).collect()
    }

    /// The value of a tensor now.
    fn read(&mut self, tensor: TensorId) -> Result<Value> {
        self.memory.read(tensor, &mut self.build, &mut self.weights)
    }

    /// Overwrites a tensor, converting to its dtype and broadcasting to its shape.
    fn write(&mut self, tensor: TensorId, value: Value) -> Result<()> {
        let old = self.read(tensor)?;
        let ty = self.build.ty(old)?.clone();
        let value = self.build.cast(value, ty.dtype)?;
        let value = self.build.broadcast(value, ty.shape)?;
        self.memory
            .write(tensor, value, &mut self.build, &mut self.weights)
    }

    /// A number as a 0-d tensor of `dtype`.
    fn number(&mut self, number: &Num, dtype: DType) -> Result<Value> {
        match number {
            Num::Known(scalar) => self.build.scalar(*scalar, dtype),
            Num::Dim(dim) => {
                let int = self.build.add(op::Size { value: dim.clone() }, &[])?;
                let wide = self
                    .build
                    .add(op::IntTensor { dtype: DType::I64 }, &[int])?;
                self.build.cast(wide, dtype)
            }
            Num::Tensor(value) => {
                let value = self.build.reshape(*value, Vec::new())?;
                self.build.cast(value, dtype)
            }
        }
    }

    /// Says what a symbol is that the export invented for a size, unless something said so before.
    fn define(&mut self, symbol: &Symbol, size: &Dim) -> Result<()> {
        let mut defined = size.as_symbol() == Some(symbol);
        for node in self.build.graph.nodes() {
            node.ty.visit_symbols(&mut |s| defined |= s == symbol);
        }
        if !defined {
            let number = self.number(&Num::Dim(size.clone()), DType::I64)?;
            let symbol = symbol.clone();
            self.build.add(op::Item { symbol }, &[number])?;
        }
        Ok(())
    }

    /// A symbolic number: known, an integer expression, or computed at run time in a 0-d f32 tensor.
    fn sym_number(&mut self, expr: &SymExpr) -> Result<Num> {
        if let SymExpr::Float(value) = expr {
            return Ok(Num::Known(Scalar::float(*value)));
        }
        if let SymExpr::Bool(value) = expr {
            return Ok(Num::Known(Scalar::Bool(*value)));
        }
        if let Ok(dim) = symbolic::dim(expr) {
            return Ok(match dim.as_const() {
                Some(n) => Num::Known(Scalar::Int(n)),
                None => Num::Dim(dim),
            });
        }
        let SymExpr::Call(function, args) = expr else {
            return invalid(format!("`{expr}` is not a number"));
        };
        let mut values = Vec::new();
        for arg in args {
            let number = self.sym_number(arg)?;
            values.push(self.number(&number, promote::DEFAULT_FLOAT)?);
        }
        let result = match (function, values.as_slice()) {
            (SymOp::ToFloat, [x]) => *x,
            (SymOp::Sqrt, [x]) => self.build.add(op::Sqrt {}, &[*x])?,
            (SymOp::Abs, [x]) => self.build.add(op::Abs {}, &[*x])?,
            (SymOp::IntTrueDiv | SymOp::FloatTrueDiv, [a, b]) => {
                self.build.add(op::Div {}, &[*a, *b])?
            }
            (SymOp::Pow | SymOp::FloatPow, [a, b]) => self.build.add(op::Pow {}, &[*a, *b])?,
            (SymOp::Add, all) => self.fold(op::Add {}, all)?,
            (SymOp::Mul, all) => self.fold(op::Mul {}, all)?,
            (SymOp::Max, all) => self.fold(op::Maximum {}, all)?,
            (SymOp::Min, all) => self.fold(op::Minimum {}, all)?,
            (SymOp::Lt, [a, b]) => self.build.add(op::Lt {}, &[*a, *b])?,
            (SymOp::Le, [a, b]) => self.build.add(op::Le {}, &[*a, *b])?,
            (SymOp::Gt, [a, b]) => self.build.add(op::Gt {}, &[*a, *b])?,
            (SymOp::Ge, [a, b]) => self.build.add(op::Ge {}, &[*a, *b])?,
            (SymOp::Eq, [a, b]) => self.build.add(op::Eq {}, &[*a, *b])?,
            (SymOp::Ne, [a, b]) => self.build.add(op::Ne {}, &[*a, *b])?,
            _ => return unsupported(format!("the number `{expr}`")),
        };
        Ok(Num::Tensor(result))
    }

    fn fold(&mut self, op: impl Into<fuseline_ir::Op> + Clone, values: &[Value]) -> Result<Value> {
        let mut values = values.iter().copied();
        let Some(mut result) = values.next() else {
            return invalid("an operation without operands");
        };
        for value in values {
            result = self.build.add(op.clone(), &[result, value])?;
        }
        Ok(result)
    }

    /// Pairs the results of a handler with the names that the file gives them, and checks their types.
    fn bind(&mut self, call: &Call<'_>, outs: Vec<Out>) -> Result<Vec<(String, Val)>> {
        let mut bound = Vec::new();
        let mut outs = outs.into_iter();
        for output in &call.node.outputs {
            match output {
                Argument::Tensor(name) => {
                    let out = outs.next();
                    bound.push((name.name.clone(), self.bind_tensor(call, &name.name, out)?));
                }
                Argument::Tensors(names) => {
                    for name in names {
                        let out = outs.next();
                        bound.push((name.name.clone(), self.bind_tensor(call, &name.name, out)?));
                    }
                }
                Argument::SymInt(exported::SymIntArgument::Name(name)) => {
                    let value = match outs.next() {
                        Some(Out::Number(value)) => value,
                        _ => named_number(call.scope.graph, name)?,
                    };
                    bound.push((name.clone(), value));
                }
                Argument::SymFloat(exported::SymFloatArgument::Name(name))
                | Argument::SymBool(exported::SymBoolArgument::Name(name)) => {
                    let value = match outs.next() {
                        Some(Out::Number(value)) => value,
                        _ => named_number(call.scope.graph, name)?,
                    };
                    bound.push((name.clone(), value));
                }
                _ => {}
            }
        }
        Ok(bound)
    }

    /// Checks a complex result against the recorded type, and gives its parts the recorded shape.
    fn bind_complex(
        &mut self,
        call: &Call<'_>,
        name: &str,
        pair: ops::complex::Pair,
    ) -> Result<Val> {
        let meta = call.meta(name)?;
        let Some(dtype) = symbolic::part_dtype(meta.dtype) else {
            return Err(Fail::Contradiction(format!(
                "`{name}` became complex, but the export says {:?}",
                meta.dtype
            )));
        };
        let shape = symbolic::sizes(&meta.sizes)?;
        let im = pair.imaginary(self)?;
        let mut part = |value: Value| -> Result<TensorId> {
            let ty = self.build.ty(value)?.clone();
            if ty.dtype != dtype || ty.shape.len() != shape.len() {
                let recorded = fuseline_ir::TensorType::new(dtype, shape.clone());
                return Err(Fail::Contradiction(format!(
                    "a part of `{name}` became {ty}, but the export says {recorded}"
                )));
            }
            let value = self.build.reshape(value, shape.clone())?;
            Ok(self.memory.root(Some(value)))
        };
        Ok(Val::Complex(part(pair.re)?, part(im)?))
    }

    /// Checks one tensor result against the recorded type. Sizes that the export proved equal, but the IR's algebra does not, are
    /// taken from the record: they are what later operators refer to.
    fn bind_tensor(&mut self, call: &Call<'_>, name: &str, out: Option<Out>) -> Result<Val> {
        if name.contains("_unused_") {
            // PyTorch counts results that nothing reads; their types may depend on the kernel that made them.
            return Ok(Val::Poison);
        }
        let (value, tensor) = match out {
            Some(Out::Value(value)) => (value, None),
            Some(Out::Tensor(tensor)) => (self.read(tensor)?, Some(tensor)),
            Some(Out::Complex(pair)) => return self.bind_complex(call, name, pair),
            Some(Out::Views(re, im)) => return Ok(Val::Complex(re, im)),
            // What operators keep for their gradients, say.
            None if call.is_unread(name) => return Ok(Val::Poison),
            None => return unsupported(format!("its result `{name}`, which is not computed")),
            Some(_) => return Err(Fail::Bug(format!("`{name}` is no tensor"))),
        };
        let ty = self.build.ty(value)?.clone();
        let meta = call.meta(name)?;
        let (dtype, shape) = (symbolic::dtype(meta.dtype)?, symbolic::sizes(&meta.sizes)?);
        let same_rank = ty.shape.len() == shape.len();
        let contradicts = |(a, b): (&Dim, &Dim)| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
        if ty.dtype != dtype || !same_rank || ty.shape.iter().zip(&shape).any(contradicts) {
            let recorded = fuseline_ir::TensorType::new(dtype, shape);
            return Err(Fail::Contradiction(format!(
                "`{name}` became {ty}, but the export says {recorded}"
            )));
        }
        if ty.shape == shape {
            return Ok(Val::Tensor(
                tensor.unwrap_or_else(|| self.memory.root(Some(value))),
            ));
        }
        Ok(Val::Tensor(match tensor {
            Some(tensor) => Builder::relabelled(&ty, &shape)
                .into_iter()
                .fold(tensor, |of, op| self.memory.view(of, op)),
            None => {
                let mut value = value;
                for op in Builder::relabelled(&ty, &shape) {
                    value = self.build.add(op, &[value])?;
                }
                self.memory.root(Some(value))
            }
        }))
    }
}

/// The recorded value of a symbolic number.
fn named_number(graph: &exported::Graph, name: &str) -> Result<Val> {
    if let Some(value) = graph.sym_int_values.get(name) {
        return Ok(match value {
            SymInt::Int(n) => Val::Int(Dim::from(*n)),
            SymInt::Expr(expr) => match symbolic::dim(&expr.expr) {
                Ok(dim) => Val::Int(dim),
                Err(_) => Val::Sym(expr.expr.clone()),
            },
        });
    }
    if let Some(value) = graph.sym_float_values.get(name) {
        return Ok(Val::Sym(match value {
            SymFloat::Float(x) => SymExpr::Float(x.0),
            SymFloat::Expr(expr) => expr.expr.clone(),
        }));
    }
    match graph.sym_bool_values.get(name) {
        Some(SymBool::Bool(b)) => Ok(Val::Sym(SymExpr::Bool(*b))),
        Some(SymBool::Expr(expr)) => Ok(Val::Sym(expr.expr.clone())),
        None => invalid(format!("the graph has no value for `{name}`")),
    }
}

/// The target without the prefix that all operators share.
fn target(node: &Node) -> &str {
    node.target
        .strip_prefix("torch.ops.")
        .unwrap_or(&node.target)
}

fn all_out_names(node: &Node) -> impl Iterator<Item = &str> {
    node.outputs.iter().flat_map(|output| -> Vec<&str> {
        match output {
            Argument::Tensor(name) => vec![&name.name],
            Argument::Tensors(names) => names.iter().map(|name| name.name.as_str()).collect(),
            Argument::SymInt(exported::SymIntArgument::Name(name))
            | Argument::SymFloat(exported::SymFloatArgument::Name(name))
            | Argument::SymBool(exported::SymBoolArgument::Name(name)) => vec![name],
            _ => Vec::new(),
        }
    })
}

/// A node for messages: its result, target and place.
fn describe(node: &Node) -> String {
    let name = all_out_names(node)
        .next()
        .or(node.name.as_deref())
        .unwrap_or("node");
    let mut text = format!("`{name}` = {}", target(node));
    if !node.place.module.is_empty() {
        text.push_str(&format!(" in {}", node.place.module));
    }
    if let Some(source) = &node.place.source {
        text.push_str(&format!(", {source}"));
    }
    text
}

fn at(place: &str, fail: Fail) -> Error {
    let at = place.to_owned();
    match fail {
        Fail::Unsupported(reason) => Error::Unsupported(vec![Unsupported {
            target: at,
            reason,
            count: 1,
            place: Place::default(),
        }]),
        Fail::Invalid(reason) => Error::Invalid { at, reason },
        Fail::Contradiction(reason) => Error::Contradiction { at, reason },
        Fail::Bug(reason) => Error::Bug { at, reason },
        Fail::Nested(error) => *error,
        Fail::Poisoned => Error::Bug {
            at,
            reason: "a value depends on an operation that failed".to_owned(),
        },
    }
}

/// What is not supported, in order of first occurrence.
#[derive(Debug, Default)]
struct Failures(Vec<Unsupported>);

impl Failures {
    fn add(&mut self, target: &str, reason: String, place: &Place) {
        match self
            .0
            .iter_mut()
            .find(|one| one.target == target && one.reason == reason)
        {
            Some(one) => one.count += 1,
            None => self.0.push(Unsupported {
                target: target.to_owned(),
                reason,
                count: 1,
                place: place.clone(),
            }),
        }
    }
}
