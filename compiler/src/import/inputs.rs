//! The edges of a program: symbols, weights, states, inputs and outputs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fuseline_ir::graph::Payload;
use fuseline_ir::ops::table as op;
use fuseline_ir::{Constant, DType, Dim, Graph, Range, Scalar, Symbol, TensorType, Type, Value};

use super::build::Builder;
use super::call::{Num, Val};
use super::error::{Error, Fail, Result, invalid, unsupported};
use super::memory::{Sources, StorageId, TensorId};
use super::promote::DEFAULT_FLOAT;
use super::symbolic;
use super::{Importer, Scope, at, named_number};
use crate::pt2::exported::{
    Argument, InputSpec, OutputSpec, SymBoolArgument, SymFloatArgument, SymIntArgument,
};
use crate::pt2::sym::{SymExpr, SymOp};
use crate::pt2::{Archive, WeightRef};

/// The least length that torch.export notes where nobody has said one, because it traces the lengths 0 and 1 apart: of a dimension without bounds (`Dim.AUTO`, `Dim.DYNAMIC`), and of
/// the symbol in a dimension that the user gave as an expression (`2 * Dim("n", min=1)` is noted as `n` from 2 and as `2 * n` from 2). The graphs are right from 1 on, so that in
/// both cases 1 is taken. A least length that a user gave is kept, 2 as well as others: it stands with an upper bound.
const TRACED_LEAST: i64 = 2;

/// A weight's bytes for the IR: mapped where they lie contiguously, gathered on demand where they don't.
struct WeightPayload(WeightRef);

impl Payload for WeightPayload {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        Ok(self.0.contiguous_bytes())
    }

    fn range(&self, range: std::ops::Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        self.0.range(range)
    }

    fn stored(&self) -> Option<&[u8]> {
        self.0.stored()
    }
}

/// Where storages that exist before the program runs get their first value.
pub(super) struct Weights<'a> {
    /// Names of the buffers that are states.
    mutated: &'a BTreeSet<String>,
    /// The weight behind a storage.
    origins: BTreeMap<StorageId, &'a WeightRef>,
}

impl<'a> Weights<'a> {
    pub fn new(mutated: &'a BTreeSet<String>) -> Self {
        Self {
            mutated,
            origins: BTreeMap::new(),
        }
    }

    /// The weight behind a storage, where the program doesn't write to it.
    pub fn constant(&self, storage: StorageId) -> Option<&'a WeightRef> {
        let weight = *self.origins.get(&storage)?;
        (!self.mutated.contains(&weight.fqn)).then_some(weight)
    }
}

impl Sources for Weights<'_> {
    fn first(&mut self, storage: StorageId, build: &mut Builder) -> Result<Value> {
        let Some(weight) = self.origins.get(&storage) else {
            return Err(Fail::Bug("a storage has no source".to_owned()));
        };
        let mut sizes: Vec<Dim> = weight.sizes.iter().map(|&size| size.into()).collect();
        if let Some(part) = symbolic::part_dtype(weight.dtype) {
            // The bytes of a complex tensor are its parts as a last axis.
            sizes.push(2i64.into());
            let ty = TensorType::new(part, sizes);
            if self.mutated.contains(&weight.fqn) {
                return unsupported(format!("the complex buffer `{}` as a state", weight.fqn));
            }
            let data: Arc<dyn Payload> = Arc::new(WeightPayload((*weight).clone()));
            return Ok(build.graph.constant(weight.fqn.as_str(), ty, Some(data))?);
        }
        let dtype = match symbolic::dtype(weight.dtype) {
            Ok(dtype) => dtype,
            Err(_) => {
                return unsupported(format!(
                    "weight `{}` of element type {:?}",
                    weight.fqn, weight.dtype
                ));
            }
        };
        let ty = TensorType::new(dtype, sizes);
        let data: Arc<dyn Payload> = Arc::new(WeightPayload((*weight).clone()));
        if !self.mutated.contains(&weight.fqn) {
            return Ok(build.graph.constant(weight.fqn.as_str(), ty, Some(data))?);
        }
        let zeros = weight.contiguous_bytes().iter().all(|byte| *byte == 0);
        let init = (!zeros).then(|| weight.fqn.as_str().into());
        if let Some(name) = &init {
            build.graph.constants.insert(
                Arc::clone(name),
                Constant {
                    ty: ty.clone(),
                    data: Some(data),
                },
            );
        }
        Ok(build.graph.state(weight.fqn.as_str(), ty, init)?)
    }
}

/// The buffers and parameters that the signature says are written to.
pub(super) fn declared_mutations(archive: &Archive) -> BTreeSet<String> {
    let specs = &archive.program().graph_module.signature.output_specs;
    let names = specs.iter().filter_map(|spec| match spec {
        OutputSpec::BufferMutation {
            buffer_name: name, ..
        }
        | OutputSpec::ParameterMutation {
            parameter_name: name,
            ..
        } => Some(name),
        _ => None,
    });
    names.cloned().collect()
}

impl<'a> Importer<'a> {
    /// Declares every symbol of the program with its range.
    pub(super) fn declare_symbols(&mut self) -> Result<()> {
        let program = self.archive.program();
        let mut ranges: BTreeMap<&str, Range> = BTreeMap::new();
        let full = |name: &str| Range {
            min: if name.starts_with('u') { i64::MIN } else { 0 },
            max: i64::MAX,
        };
        let graph = &program.graph_module.graph;
        let mut see = |expr: &'a SymExpr| {
            expr.for_each_symbol(&mut |name| {
                ranges.entry(name).or_insert_with(|| full(name));
            });
        };
        let sizes = graph.tensor_values.values().flat_map(|meta| &meta.sizes);
        for size in sizes.chain(graph.sym_int_values.values()) {
            if let crate::pt2::exported::SymInt::Expr(expr) = size {
                see(&expr.expr);
            }
        }
        let mut bounds = Vec::new();
        for (key, bound) in &program.range_constraints {
            let expr: SymExpr = key.parse().or_else(|error| invalid(format!("{error}")))?;
            // Python's sys.maxsize - 1 and beyond is how "no bound" looks after arithmetic.
            let max = bound
                .max_val
                .filter(|max| *max < i64::MAX - 1)
                .unwrap_or(i64::MAX);
            let min = bound.min_val.unwrap_or(i64::MIN);
            if let Some((name, range)) = solve(&expr, min, max) {
                bounds.push((matches!(expr, SymExpr::Symbol(_)), name, range));
            }
        }
        // Symbols first, then the expressions that say more about them.
        bounds.sort_by_key(|(is_symbol, ..)| !is_symbol);
        for (is_symbol, name, mut range) in bounds {
            let Some(known) = ranges.get_mut(name.as_str()) else {
                continue;
            };
            let sized = name.starts_with('s');
            if sized && is_symbol && (range.min, range.max) == (TRACED_LEAST, i64::MAX) {
                range.min = 1;
            }
            if sized && !is_symbol && known.min == TRACED_LEAST {
                known.min = range.min.max(0);
            }
            known.min = known.min.max(range.min);
            known.max = known.max.min(range.max);
        }
        for (name, range) in ranges {
            if range.min > range.max {
                return invalid(format!(
                    "the range of `{name}` is empty ({} to {})",
                    range.min, range.max
                ));
            }
            self.build.graph.declare_symbol(name, range);
        }
        Ok(())
    }

    /// Binds the graph's inputs: weights to storages, user inputs to inputs of the IR.
    pub(super) fn bind_inputs(&mut self, scope: &mut Scope<'a>) -> Result<(), Error> {
        let mut tied: BTreeMap<Tie<'a>, TensorId> = BTreeMap::new();
        let specs = &self.archive.program().graph_module.signature.input_specs;
        for (spec, argument) in specs.iter().zip(&scope.graph.inputs) {
            // A token only orders; nobody gives it.
            if matches!(spec, InputSpec::Token { .. }) {
                continue;
            }
            if let Some(weight) = self.archive.weight_of(spec) {
                let tie = Tie::of(weight);
                let tensor = *tied.entry(tie).or_insert_with(|| self.memory.root(None));
                let storage = self.memory.storage(tensor);
                let origin = self.weights.origins.entry(storage).or_insert(weight);
                // Of tied names, the one that is written to names the state.
                if self.weights.mutated.contains(&weight.fqn) {
                    *origin = weight;
                }
                if let Argument::Tensor(name) = argument {
                    let value = self.weight_value(tensor, weight);
                    scope.names.insert(name.name.clone(), value);
                }
                continue;
            }
            let place = |name: &str| format!("input `{name}`");
            match argument {
                Argument::Tensor(name) => {
                    let value = self
                        .tensor_input(scope, &name.name)
                        .map_err(|fail| at(&place(&name.name), fail))?;
                    scope.names.insert(name.name.clone(), value);
                }
                Argument::SymInt(SymIntArgument::Name(name)) => {
                    let value = self
                        .int_input(scope, name)
                        .map_err(|fail| at(&place(name), fail))?;
                    scope.names.insert(name.clone(), value);
                }
                Argument::SymFloat(_) | Argument::SymBool(_) | Argument::CustomObj(_) => {
                    let reason = format!("an input that is {}", argument.kind());
                    return Err(at("the program's signature", Fail::Unsupported(reason)));
                }
                // The export fixed its value; the graph does not read it.
                _ => {}
            }
        }
        self.check_overlaps()?;
        self.declare_states()
    }

    /// What a weight's name stands for: its tensor, or the parts of a complex one.
    fn weight_value(&mut self, tensor: TensorId, weight: &WeightRef) -> Val {
        if symbolic::part_dtype(weight.dtype).is_none() {
            return Val::Tensor(tensor);
        }
        let mut part = |n: i64| {
            let one = self.memory.view(
                tensor,
                op::Slice {
                    axis: weight.sizes.len(),
                    start: n.into(),
                    stop: (n + 1).into(),
                    step: 1,
                },
            );
            let shape = weight.sizes.iter().map(|&size| size.into()).collect();
            self.memory.view(one, op::Reshape { shape })
        };
        Val::Complex(part(0), part(1))
    }

    fn tensor_input(&mut self, scope: &Scope<'_>, name: &str) -> Result<Val> {
        let Some(meta) = scope.graph.tensor_values.get(name) else {
            return invalid("the graph has no type for it");
        };
        let ty = TensorType::new(symbolic::dtype(meta.dtype)?, symbolic::sizes(&meta.sizes)?);
        let value = self.build.graph.input(name, ty)?;
        Ok(Val::Tensor(self.memory.root(Some(value))))
    }

    fn int_input(&mut self, scope: &Scope<'_>, name: &str) -> Result<Val> {
        let value = named_number(scope.graph, name)?;
        let Val::Int(dim) = &value else {
            return unsupported("an input that is not an integer");
        };
        self.build.graph.input(name, Type::Int(dim.clone()))?;
        Ok(value)
    }

    /// A state must not share its payload with another weight under a different shape.
    fn check_overlaps(&self) -> Result<(), Error> {
        let mut users: BTreeMap<&str, Vec<&WeightRef>> = BTreeMap::new();
        for weight in self.weights.origins.values() {
            users.entry(weight.entry.as_str()).or_default().push(weight);
        }
        for sharing in users.values().filter(|sharing| sharing.len() > 1) {
            if let Some(state) = sharing
                .iter()
                .find(|weight| self.weights.mutated.contains(&weight.fqn))
            {
                let reason = "a buffer that is written to while another weight views the same memory in another shape".to_owned();
                return Err(at(
                    &format!("buffer `{}`", state.fqn),
                    Fail::Unsupported(reason),
                ));
            }
        }
        Ok(())
    }

    /// Reads every state at the entry, so that they stand in the signature's order and also exist where they are only written.
    fn declare_states(&mut self) -> Result<(), Error> {
        let states: Vec<(StorageId, &WeightRef)> = self
            .weights
            .origins
            .iter()
            .map(|(storage, weight)| (*storage, *weight))
            .collect();
        for (storage, weight) in states {
            if self.weights.mutated.contains(&weight.fqn) {
                let root = self.memory.root_of(storage);
                self.read(root)
                    .map_err(|fail| at(&format!("buffer `{}`", weight.fqn), fail))?;
            }
        }
        Ok(())
    }

    /// Sets outputs and the next values of states. Also returns the names of the buffers that were written to.
    pub(super) fn finish(mut self, scope: &Scope<'a>) -> Result<(Graph, BTreeSet<String>), Error> {
        self.build.loc = fuseline_ir::Loc::default();
        let specs = &self.archive.program().graph_module.signature.output_specs;
        let mut outputs: Vec<(String, Value)> = Vec::new();
        let mut written_inputs: Vec<(String, Value)> = Vec::new();
        let mut writes: Vec<(TensorId, Value)> = Vec::new();
        for (spec, argument) in specs.iter().zip(&scope.graph.outputs) {
            let place = format!("output {}", outputs.len());
            let fail = |fail| at(&place, fail);
            match spec {
                OutputSpec::UserOutput { .. } | OutputSpec::LossOutput { .. } => {
                    if let Some(output) = self.output(scope, argument).map_err(fail)? {
                        outputs.push(output);
                    }
                }
                OutputSpec::BufferMutation {
                    buffer_name: name, ..
                }
                | OutputSpec::ParameterMutation {
                    parameter_name: name,
                    ..
                } => {
                    let Some((_, value)) = self.output(scope, argument).map_err(fail)? else {
                        continue;
                    };
                    let state = self
                        .weights
                        .origins
                        .iter()
                        .find(|(_, weight)| weight.fqn == *name);
                    let Some((storage, _)) = state else {
                        return Err(fail(Fail::Invalid(format!(
                            "the buffer `{name}` is not an input of the graph"
                        ))));
                    };
                    writes.push((self.memory.root_of(*storage), value));
                }
                OutputSpec::UserInputMutation {
                    user_input_name, ..
                } => {
                    if let Some((_, value)) = self.output(scope, argument).map_err(fail)? {
                        written_inputs.push((user_input_name.clone(), value));
                    }
                }
                OutputSpec::Token { .. } => {}
                OutputSpec::GradientToParameter { .. } | OutputSpec::GradientToUserInput { .. } => {
                    return Err(fail(Fail::Unsupported(
                        "an output that is a gradient".to_owned(),
                    )));
                }
            }
        }
        for (tensor, value) in writes {
            self.write(tensor, value)
                .map_err(|fail| at("a buffer's new value", fail))?;
        }
        for argument in &scope.graph.inputs {
            if let Argument::Tensor(name) = argument
                && let Some(Val::Tensor(tensor)) = scope.get(&name.name)
                && !self
                    .weights
                    .origins
                    .contains_key(&self.memory.storage(*tensor))
                && self.memory.writes(self.memory.storage(*tensor)) > 0
            {
                let value = self.read(*tensor).map_err(|fail| at(&name.name, fail))?;
                written_inputs.push((name.name.clone(), value));
            }
        }
        outputs.extend(
            written_inputs
                .into_iter()
                .map(|(name, value)| (format!("{name}_out"), value)),
        );
        let mut taken = BTreeSet::new();
        for (name, value) in outputs {
            let mut unique = name.clone();
            let mut n = 1;
            while !taken.insert(unique.clone()) {
                n += 1;
                unique = format!("{name}_{n}");
            }
            self.build.graph.output(unique, value);
        }
        let written = self.set_states()?;
        self.keep_cached()
            .map_err(|fail| at("the caches of a session", fail))?;
        Ok((self.build.graph, written))
    }

    fn output(
        &mut self,
        scope: &Scope<'a>,
        argument: &Argument,
    ) -> Result<Option<(String, Value)>> {
        let constant = |importer: &mut Self, value: i64| -> Result<Value> {
            importer.build.add(
                op::Size {
                    value: value.into(),
                },
                &[],
            )
        };
        Ok(Some(match argument {
            Argument::Tensor(name) => match scope.get(&name.name) {
                Some(Val::Tensor(tensor)) => (name.name.clone(), self.read(*tensor)?),
                Some(Val::Poison) => return Err(Fail::Poisoned),
                Some(Val::Complex(..)) => return unsupported("an output that is complex"),
                _ => return invalid(format!("`{}` is not a tensor of the graph", name.name)),
            },
            Argument::SymInt(SymIntArgument::Name(name)) => match scope.get(name) {
                Some(Val::Int(dim)) => (
                    name.clone(),
                    self.build.add(op::Size { value: dim.clone() }, &[])?,
                ),
                Some(Val::Number(tensor)) => (name.clone(), self.read(*tensor)?),
                Some(Val::Poison) => return Err(Fail::Poisoned),
                _ => return unsupported(format!("the output number `{name}`")),
            },
            Argument::SymInt(SymIntArgument::Int(n)) | Argument::Int(n) => {
                ("constant".to_owned(), constant(self, *n)?)
            }
            Argument::SymFloat(SymFloatArgument::Name(name))
            | Argument::SymBool(SymBoolArgument::Name(name)) => {
                let dtype = match argument {
                    Argument::SymBool(_) => DType::Bool,
                    _ => DEFAULT_FLOAT,
                };
                let number = match scope.get(name) {
                    Some(Val::Sym(expr)) => self.sym_number(expr)?,
                    Some(Val::Number(tensor)) => Num::Tensor(self.read(*tensor)?),
                    Some(Val::Poison) => return Err(Fail::Poisoned),
                    _ => return unsupported(format!("the output number `{name}`")),
                };
                (name.clone(), self.number(&number, dtype)?)
            }
            Argument::Float(x) | Argument::SymFloat(SymFloatArgument::Float(x)) => {
                ("constant".to_owned(), self.build.float(x.0, DEFAULT_FLOAT)?)
            }
            Argument::Bool(b) | Argument::SymBool(SymBoolArgument::Bool(b)) => (
                "constant".to_owned(),
                self.build.scalar(Scalar::Bool(*b), DType::Bool)?,
            ),
            Argument::None(_) => return Ok(None),
            other => return unsupported(format!("an output that is {}", other.kind())),
        }))
    }

    fn set_states(&mut self) -> Result<BTreeSet<String>, Error> {
        let mut written = BTreeSet::new();
        let origins: Vec<(StorageId, String)> = self
            .weights
            .origins
            .iter()
            .map(|(storage, weight)| (*storage, weight.fqn.clone()))
            .collect();
        for (storage, fqn) in origins {
            if self.memory.writes(storage) == 0 {
                continue;
            }
            let root = self.memory.root_of(storage);
            let value = self
                .read(root)
                .map_err(|fail| at(&format!("buffer `{fqn}`"), fail))?;
            if let Some(state) = self
                .build
                .graph
                .states
                .iter_mut()
                .find(|state| *state.name == *fqn)
            {
                state.next = Some(value);
            }
            written.insert(fqn);
        }
        Ok(written)
    }
}

/// Weights with equal ties are one tensor under several names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tie<'a> {
    entry: &'a str,
    dtype: crate::pt2::exported::ScalarType,
    sizes: &'a [usize],
    strides: &'a [usize],
    offset: usize,
}

impl<'a> Tie<'a> {
    fn of(weight: &'a WeightRef) -> Self {
        Self {
            entry: &weight.entry,
            dtype: weight.dtype,
            sizes: &weight.sizes,
            strides: &weight.strides,
            offset: weight.storage_offset,
        }
    }
}

/// The trained weights of a program: under the name of the constant that the importer makes of it, all the names that it has. Tied weights have several, also
/// such as the signature leaves out.
pub fn parameters(archive: &Archive) -> BTreeMap<Symbol, Vec<String>> {
    let mut first: BTreeMap<Tie<'_>, &str> = BTreeMap::new();
    let mut trained: BTreeSet<Tie<'_>> = BTreeSet::new();
    for spec in &archive.program().graph_module.signature.input_specs {
        if let Some(weight) = archive.weight_of(spec) {
            first.entry(Tie::of(weight)).or_insert(&weight.fqn);
            if matches!(spec, InputSpec::Parameter { .. }) {
                trained.insert(Tie::of(weight));
            }
        }
    }
    let mut names: BTreeMap<Symbol, Vec<String>> = BTreeMap::new();
    for (name, weight) in archive.weights() {
        let tie = Tie::of(weight);
        if let Some(first) = first.get(&tie).filter(|_| trained.contains(&tie)) {
            let names = names.entry((*first).into()).or_default();
            names.push(name.clone());
        }
    }
    names
}

/// The range of the one symbol in a constrained expression, where the expression is the symbol, a multiple of it, or a sum with a number.
fn solve(expr: &SymExpr, min: i64, max: i64) -> Option<(String, Range)> {
    match expr {
        SymExpr::Symbol(name) => Some((name.clone(), Range { min, max })),
        SymExpr::Call(SymOp::Mul, args) => match args.as_slice() {
            [SymExpr::Int(factor), rest] | [rest, SymExpr::Int(factor)] if *factor > 0 => {
                // Whole multiples inside the bounds: round inward.
                let low = min
                    .checked_add(*factor - 1)
                    .map_or(min, |n| n)
                    .div_euclid(*factor);
                let high = if max == i64::MAX {
                    max
                } else {
                    max.div_euclid(*factor)
                };
                solve(rest, low, high)
            }
            _ => None,
        },
        SymExpr::Call(SymOp::Add, args) => match args.as_slice() {
            [SymExpr::Int(n), rest] | [rest, SymExpr::Int(n)] => {
                let high = if max == i64::MAX {
                    max
                } else {
                    max.saturating_sub(*n)
                };
                solve(rest, min.saturating_sub(*n), high)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_on_expressions_bound_their_symbol() {
        let solved = |text: &str, min, max| {
            let expr: SymExpr = text.parse().unwrap();
            solve(&expr, min, max).map(|(name, range)| (name, range.min, range.max))
        };
        let s0 = |min, max| Some(("s0".to_owned(), min, max));
        assert_eq!(solved("s0", 1, 16), s0(1, 16));
        assert_eq!(solved("2*s0", 3, 33), s0(2, 16));
        assert_eq!(solved("4*s0 + 1", 5, i64::MAX), s0(1, i64::MAX));
        assert_eq!(solved("s0 - 1", 0, 9), s0(1, 10));
        assert_eq!(solved("s0*s1", 0, 9), None);
    }
}
