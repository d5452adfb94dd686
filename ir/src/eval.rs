//! Reference evaluation of a graph: binds inputs, states and constants, walks the nodes in order.

use crate::dim::Symbol;
use crate::error::{EvalError, OpError};
use crate::graph::Graph;
use crate::ops::{EvalCx, Op};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::collections::BTreeMap;

/// What a run gives.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The outputs, in order. An integer output is a 0-d `i64` tensor.
    pub outputs: Vec<Tensor>,
    /// The states after the run, by name.
    pub states: BTreeMap<Symbol, Tensor>,
}

impl Graph {
    /// The states as they are before the first run.
    ///
    /// Errors: an initial constant without data, or of another size than its type says.
    pub fn initial_states(&self) -> Result<BTreeMap<Symbol, Tensor>, EvalError> {
        let mut out = BTreeMap::new();
        for state in &self.states {
            let what = format!("state \"{}\"", state.name);
            let shape = static_shape(&state.ty, &what)?;
            let tensor = match &state.init {
                Some(name) => self.constant_tensor(name)?,
                None => Tensor::from_fn(state.ty.dtype, shape, |_| crate::attr::Scalar::Int(0))
                    .map_err(|e| binding(&what, e.reason))?,
            };
            out.insert(state.name.clone(), tensor);
        }
        Ok(out)
    }

    /// The elements of the constant `name`.
    ///
    /// Errors: no such constant, no data, or data of the wrong size.
    pub fn constant_tensor(&self, name: &str) -> Result<Tensor, EvalError> {
        let what = format!("constant \"{name}\"");
        let constant = self
            .constants
            .get(name)
            .ok_or_else(|| binding(&what, "is not in the graph"))?;
        let shape = static_shape(&constant.ty, &what)?;
        let data = constant
            .data
            .as_ref()
            .ok_or_else(|| binding(&what, "has no data"))?;
        let bytes = data.bytes().map_err(|e| binding(&what, e))?;
        Tensor::from_bytes(constant.ty.dtype, shape, &bytes).map_err(|e| binding(&what, e.reason))
    }

    /// Evaluates the graph on `inputs` (in order; an integer input is a 0-d `i64` tensor) and `states` (by name).
    ///
    /// Errors: an input or state that doesn't have the dtype and shape that the graph says, a size that would take two values or leaves its range, a number that is read from
    /// a tensor and leaves its range, a requirement that does not hold, or an op that can't work on its values.
    pub fn eval(
        &self,
        inputs: &[Tensor],
        states: &BTreeMap<Symbol, Tensor>,
    ) -> Result<Results, EvalError> {
        let mut symbols = self.bind_inputs(inputs)?;
        let mut last_use = vec![0usize; self.nodes().len()];
        for (value, node) in self.values() {
            for a in &node.args {
                last_use[a.index()] = value.index();
            }
        }
        for root in self.roots() {
            last_use[root.index()] = usize::MAX;
        }
        let mut values: Vec<Option<Vec<Tensor>>> = vec![None; self.nodes().len()];
        let live = self.live();
        for (value, node) in self.values() {
            if !live[value.index()] {
                continue;
            }
            let fail = |error: OpError| EvalError::Op {
                value: value.index(),
                error,
            };
            let result =
                match &node.op {
                    Op::Input(_) => {
                        let at = self.inputs().iter().position(|v| *v == value);
                        let tensor = at
                            .and_then(|i| inputs.get(i))
                            .ok_or_else(|| binding("input", "is missing"))?;
                        vec![tensor.clone()]
                    }
                    Op::Constant(op) => vec![self.constant_tensor(&op.name)?],
                    Op::State(op) => {
                        let what = format!("state \"{}\"", op.name);
                        let tensor = states
                            .get(&op.name)
                            .ok_or_else(|| binding(&what, "is missing"))?;
                        check(&what, &op.ty, tensor, &symbols)?;
                        vec![tensor.clone()]
                    }
                    op => {
                        let types: Vec<&Type> = node.args.iter().map(|a| self.ty(*a)).collect();
                        let cx = EvalCx {
                            symbols: &symbols,
                            args: &types,
                            out: &node.ty,
                        };
                        if let Op::Get(get) = op {
                            let tuple = node.args.first().and_then(|a| values[a.index()].as_ref());
                            let item = tuple.and_then(|t| t.get(get.index)).cloned();
                            vec![item.ok_or_else(|| {
                                fail(OpError::new(op.to_string(), "no such result"))
                            })?]
                        } else {
                            let args = node
                                .args
                                .iter()
                                .map(|a| values[a.index()].as_ref().and_then(|v| v.first()))
                                .collect::<Option<Vec<_>>>()
                                .ok_or_else(|| {
                                    fail(OpError::new(op.to_string(), "an argument has no value"))
                                })?;
                            op.eval(&cx, &args).map_err(fail)?
                        }
                    }
                };
            if let Op::Item(item) = &node.op {
                let n = result.first().map(|t| t.to_i64());
                if let Some([n]) = n.as_deref() {
                    let range = self.symbols.get(&item.symbol);
                    if let Some(range) = range.filter(|range| !range.contains(*n)) {
                        return Err(binding(&item.symbol, format!("is {n}, outside {range}")));
                    }
                    symbols.insert(item.symbol.clone(), *n);
                }
            }
            if let Op::Host(op) = &node.op {
                for (ty, tensor) in op.results().iter().zip(&result) {
                    bind_result(ty, tensor, &mut symbols);
                }
            }
            values[value.index()] = Some(result);
            for a in &node.args {
                if last_use[a.index()] == value.index() {
                    values[a.index()] = None;
                }
            }
        }
        for requirement in &self.requirements {
            if let Some(n) = requirement.violated(&symbols) {
                let what = format!("require {requirement}");
                return Err(binding(&what, format!("it is {n}")));
            }
        }
        let read = |v: crate::graph::Value| -> Result<Tensor, EvalError> {
            let tensor = values[v.index()].as_ref().and_then(|t| t.first());
            tensor
                .cloned()
                .ok_or_else(|| binding(&v.to_string(), "has no value"))
        };
        let mut results = Results::default();
        for output in &self.outputs {
            results.outputs.push(read(output.value)?);
        }
        for state in &self.states {
            let tensor = match state.next {
                Some(v) => read(v)?,
                None => states
                    .get(&state.name)
                    .cloned()
                    .ok_or_else(|| binding(&format!("state \"{}\"", state.name), "is missing"))?,
            };
            results.states.insert(state.name.clone(), tensor);
        }
        Ok(results)
    }

    /// The values that the symbols take for these inputs.
    ///
    /// Errors: too few or too many inputs, a wrong dtype or rank, a size that contradicts the graph or another input, or one outside its range; the message names
    /// input and axis.
    pub fn bind_inputs(&self, inputs: &[Tensor]) -> Result<BTreeMap<Symbol, i64>, EvalError> {
        if inputs.len() != self.inputs().len() {
            return Err(binding(
                "inputs",
                format!("{} given, {} expected", inputs.len(), self.inputs().len()),
            ));
        }
        let mut symbols = BTreeMap::new();
        let mut later = Vec::new();
        for (value, tensor) in self.inputs().iter().zip(inputs) {
            let node = self.node(*value);
            let name = match &node.op {
                Op::Input(op) => op.name.clone(),
                _ => continue,
            };
            let what = format!("input \"{name}\"");
            match &node.ty {
                Type::Tensor(ty) => {
                    if ty.dtype != tensor.dtype() || ty.rank() != tensor.shape().len() {
                        return Err(binding(
                            &what,
                            format!("is {}{:?}, expected {ty}", tensor.dtype(), tensor.shape()),
                        ));
                    }
                    for (axis, (dim, &size)) in ty.shape.iter().zip(tensor.shape()).enumerate() {
                        later.push((format!("{what}, axis {axis}"), dim, size as i64));
                    }
                }
                Type::Int(dim) => match tensor.to_i64().as_slice() {
                    [n] => later.push((what, dim, *n)),
                    _ => return Err(binding(&what, "is not one integer")),
                },
                Type::Tuple(_) => return Err(binding(&what, "is a tuple")),
            }
        }
        for (what, dim, size) in &later {
            if let Some(symbol) = dim.as_symbol() {
                if let Some(range) = self.symbols.get(symbol)
                    && !range.contains(*size)
                {
                    return Err(binding(what, format!("is {size}, outside {range}")));
                }
                symbols.entry(symbol.clone()).or_insert(*size);
            }
        }
        // A symbol that no input has on its own is solved from a multiple of it.
        for (what, dim, size) in &later {
            let Some((symbol, factor, offset)) = dim.as_linear() else {
                continue;
            };
            if symbols.contains_key(symbol) {
                continue;
            }
            let value = size.saturating_sub(offset).div_euclid(factor);
            if let Some(range) = self.symbols.get(symbol)
                && !range.contains(value)
            {
                return Err(binding(
                    what,
                    format!("is {size}, but {dim} with {symbol} in {range} is expected"),
                ));
            }
            symbols.insert(symbol.clone(), value);
        }
        for (what, dim, size) in &later {
            if dim.eval(&symbols) != Some(*size) {
                return Err(binding(what, format!("is {size}, expected {dim}")));
            }
        }
        Ok(symbols)
    }
}

/// Binds the symbols that a host kernel's result defines: those that are sizes, or all there is to a size, and have no value yet.
fn bind_result(ty: &Type, tensor: &Tensor, symbols: &mut BTreeMap<Symbol, i64>) {
    let shape = ty
        .as_tensor()
        .map(|t| t.shape.as_slice())
        .unwrap_or_default();
    for (dim, &size) in shape.iter().zip(tensor.shape()) {
        if let Some((symbol, factor, offset)) = dim.as_linear() {
            let value = (size as i64 - offset).div_euclid(factor);
            symbols.entry(symbol.clone()).or_insert(value);
        }
    }
}

/// Evaluates a fused op through what it means in plain ops.
///
/// Errors: the op has no decomposition, or one of its steps fails.
pub fn eval_decomposed(op: &Op, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
    let mut graph = Graph::new("decomposed");
    for (name, value) in cx.symbols {
        graph.declare_symbol(
            name.clone(),
            crate::dim::Range {
                min: *value,
                max: *value,
            },
        );
    }
    let mut values = Vec::new();
    for (i, (ty, tensor)) in cx.args.iter().zip(args).enumerate() {
        // Sizes as numbers: the symbols' values are fixed here, and an argument alone may not determine them.
        let ty = match ty {
            Type::Tensor(t) => {
                Type::tensor(t.dtype, tensor.shape().iter().map(|&n| n.into()).collect())
            }
            Type::Int(dim) => Type::Int(cx.dim(dim)?.into()),
            Type::Tuple(_) => (*ty).clone(),
        };
        values.push(graph.input(format!("arg{i}"), ty)?);
    }
    let result = op
        .decompose(&mut graph, &values)?
        .ok_or_else(|| OpError::new(op.to_string(), "has no decomposition"))?;
    graph.output("result", result);
    let inputs: Vec<Tensor> = args.iter().map(|t| (*t).clone()).collect();
    let results = graph
        .eval(&inputs, &BTreeMap::new())
        .map_err(|e| OpError::new(op.to_string(), e.to_string()))?;
    Ok(results.outputs)
}

fn binding(what: &str, reason: impl AsRef<str>) -> EvalError {
    EvalError::Binding {
        what: what.to_string(),
        reason: reason.as_ref().to_string(),
    }
}

fn static_shape(ty: &TensorType, what: &str) -> Result<Vec<usize>, EvalError> {
    ty.static_shape()
        .ok_or_else(|| binding(what, format!("has the dynamic type {ty}")))
}

fn check(
    what: &str,
    ty: &TensorType,
    tensor: &Tensor,
    symbols: &BTreeMap<Symbol, i64>,
) -> Result<(), EvalError> {
    let fits = ty.dtype == tensor.dtype()
        && ty.rank() == tensor.shape().len()
        && ty
            .shape
            .iter()
            .zip(tensor.shape())
            .all(|(d, &n)| d.eval(symbols) == Some(n as i64));
    if fits {
        return Ok(());
    }
    Err(binding(
        what,
        format!("is {}{:?}, expected {ty}", tensor.dtype(), tensor.shape()),
    ))
}
