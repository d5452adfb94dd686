//! What the results must be, and where the graph's own rounding leaves them open.

use super::CALLS;
use super::common::Random;
use super::draw::Drawn;
use fuseline_ir::ops::EvalCx;
use fuseline_ir::{DType, Flag, Graph, Op, Scalar, Symbol, Tensor, Type, Value};
use fuseline_tests::Result;
use std::collections::BTreeMap;

/// How many runs with roundings off there are.
const RUNS: usize = 5;

/// A result.
pub struct Wanted {
    /// Its value.
    pub tensor: Tensor,
    /// For each element, whether rounding leaves it where it is.
    pub known: Vec<bool>,
    /// How far an element may lie from the value: [`fuseline_tests::compare::Tolerance::Scaled`].
    pub tolerance: f64,
}

/// The results of every call at one size: outputs, then states.
pub struct Expected {
    /// By call.
    pub calls: Vec<Vec<Wanted>>,
}

/// The value of a node, whose arguments' values are `values`. `None` where there is no way to compute it.
pub fn node(
    graph: &Graph,
    value: Value,
    symbols: &BTreeMap<Symbol, i64>,
    values: &[Tensor],
) -> Option<Tensor> {
    let node = graph.node(value);
    if let Op::Constant(op) = &node.op {
        return graph.constant_tensor(&op.name).ok();
    }
    // Of an op with several results the last one is drawn.
    if let (Op::Get(_), [of]) = (&node.op, node.args.as_slice()) {
        return Some(values[of.index()].clone());
    }
    let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
    let cx = EvalCx {
        symbols,
        args: &types,
        out: &node.ty,
    };
    let args: Vec<&Tensor> = node.args.iter().map(|a| &values[a.index()]).collect();
    node.op.eval(&cx, &args).ok()?.pop()
}

/// Whether the values are ones to compare: see [`super::draw`].
pub fn moderate(t: &Tensor) -> bool {
    t.to_f64().iter().all(|x| x.abs() < 1e4)
}

/// The step between neighbouring floats at 1, and f32's where a library's approximation is what counts.
fn rounding(dtype: DType) -> f64 {
    let narrow = match dtype {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 0.0,
    };
    narrow.max(16.0 * 2f64.powi(-23))
}

/// Whether the result's elements are some of the arguments', or depend on them without rounding.
fn exact(op: &Op) -> bool {
    op.info().has(Flag::Movement)
        || op.info().has(Flag::Leaf)
        || matches!(
            op,
            Op::Neg(_)
                | Op::Abs(_)
                | Op::Sign(_)
                | Op::Floor(_)
                | Op::Ceil(_)
                | Op::Round(_)
                | Op::Trunc(_)
                | Op::Maximum(_)
                | Op::Minimum(_)
                | Op::Where(_)
                | Op::Amax(_)
                | Op::Amin(_)
                | Op::Sort(_)
                | Op::Take(_)
                | Op::TakeAlong(_)
                | Op::Gather(_)
                | Op::IndexCopy(_)
                | Op::SliceUpdate(_)
                | Op::Get(_)
        )
}

fn map(t: &Tensor, mut f: impl FnMut(usize, f64) -> f64) -> Option<Tensor> {
    let data = t.to_f64();
    let data = data.into_iter().enumerate().map(|(i, x)| f(i, x)).collect();
    Tensor::floats(t.dtype(), t.shape().to_vec(), data).ok()
}

/// As [`node`], with each element off by a rounding of what is added up in it.
fn shaken(
    graph: &Graph,
    value: Value,
    symbols: &BTreeMap<Symbol, i64>,
    values: &[Tensor],
    r: &mut Random,
) -> Option<Tensor> {
    let clean = node(graph, value, symbols, values)?;
    let op = &graph.node(value).op;
    if !clean.dtype().is_float() || exact(op) {
        return Some(clean);
    }
    // Terms of either sign may cancel; their roundings don't.
    let sums = matches!(
        op,
        Op::Add(_)
            | Op::Sub(_)
            | Op::Sum(_)
            | Op::Mean(_)
            | Op::Cumsum(_)
            | Op::Matmul(_)
            | Op::Addmm(_)
            | Op::ScatterAdd(_)
            | Op::Conv(_)
            | Op::Rope(_)
            | Op::Sdpa(_)
            | Op::Branch(_)
            | Op::WhileLoop(_)
    );
    let sizes = if sums {
        let mut sizes = values.to_vec();
        let floats = graph.node(value).args.iter().filter(|a| {
            graph
                .ty(**a)
                .as_tensor()
                .is_some_and(|t| t.dtype.is_float())
        });
        for a in floats {
            sizes[a.index()] = map(&values[a.index()], |_, x| x.abs())?;
        }
        // `a − b` is as large as |a| − (−|b|).
        if matches!(op, Op::Sub(_)) {
            let b = graph.node(value).args[1];
            let a = graph.node(value).args[0];
            if a == b {
                map(&sizes[a.index()], |_, x| 2.0 * x)?
            } else {
                sizes[b.index()] = map(&sizes[b.index()], |_, x| -x)?;
                node(graph, value, symbols, &sizes)?
            }
        } else {
            node(graph, value, symbols, &sizes)?
        }
    } else {
        clean.clone()
    };
    let (mut sizes, step) = (sizes.to_f64(), rounding(clean.dtype()));
    // Sums inside of an op, of terms of both signs.
    if matches!(op, Op::Rope(_) | Op::LayerNorm(_)) {
        let largest = sizes.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        sizes.fill(largest);
    }
    if sizes.len() != clean.len() {
        return None;
    }
    map(&clean, |i, x| {
        let off = step * sizes[i].abs().max(x.abs());
        // What may be zero is, now and then: a truth value or a quotient sees that.
        match r.below(3) {
            0 if x.abs() <= off => 0.0,
            1 => x + off,
            _ => x - off,
        }
    })
}

/// Every node's value.
fn run(
    graph: &Graph,
    inputs: &[Tensor],
    states: &BTreeMap<Symbol, Tensor>,
    mut r: Option<&mut Random>,
) -> Result<Vec<Tensor>> {
    let symbols = graph.bind_inputs(inputs)?;
    let mut values = Vec::new();
    for (value, n) in graph.values() {
        let known = match &n.op {
            Op::Input(_) => graph
                .inputs()
                .iter()
                .position(|v| *v == value)
                .map(|i| inputs[i].clone()),
            Op::State(op) => states.get(&op.name).cloned(),
            _ => match &mut r {
                Some(r) => shaken(graph, value, &symbols, &values, r),
                None => node(graph, value, &symbols, &values),
            },
        };
        // Dead where it has no value: the drawing made sure that all have, but roundings move what an index is computed from.
        values.push(match known {
            Some(t) => t,
            None => return Err(format!("no value for {value}").into()),
        });
    }
    Ok(values)
}

/// For each node, the tolerance of the narrowest float that it is computed from.
fn tolerances(graph: &Graph) -> Vec<f64> {
    let mut out: Vec<f64> = Vec::new();
    for (_, node) in graph.values() {
        let own = match node.ty.as_tensor().map(|t| t.dtype) {
            Some(DType::BF16) => 3e-2,
            Some(DType::F16) => 5e-3,
            _ => 1e-4,
        };
        out.push(node.args.iter().map(|a| out[a.index()]).fold(own, f64::max));
    }
    out
}

fn agrees(a: Scalar, b: Scalar, tolerance: f64, largest: f64) -> bool {
    match (a, b) {
        (Scalar::Float(a), Scalar::Float(b)) => {
            let (a, b) = (a.get(), b.get());
            a == b
                || a.is_nan() && b.is_nan()
                || (a - b).abs() <= 0.25 * tolerance * largest.max(1.0)
        }
        (a, b) => a == b,
    }
}

/// The results for every size.
pub fn expected(drawn: &Drawn, r: &mut Random) -> Result<Vec<Expected>> {
    let graph = &drawn.graph;
    let mut narrow = tolerances(graph);
    // A state may bring the roundings of what it was set to.
    let widest = narrow.iter().copied().fold(0.0, f64::max);
    if !graph.states.is_empty() {
        narrow.iter_mut().for_each(|t| *t = widest);
    }
    let roots: Vec<Value> = graph
        .outputs
        .iter()
        .map(|o| o.value)
        .chain(graph.states.iter().filter_map(|s| s.next))
        .collect();
    let step = |inputs: &[Tensor],
                states: &mut BTreeMap<Symbol, Tensor>,
                r: Option<&mut Random>|
     -> Result<Option<Vec<Tensor>>> {
        let values = run(graph, inputs, states, r)?;
        if !values.iter().all(moderate) {
            return Ok(None);
        }
        for s in &graph.states {
            if let Some(next) = s.next {
                states.insert(s.name.clone(), values[next.index()].clone());
            }
        }
        Ok(Some(
            roots.iter().map(|v| values[v.index()].clone()).collect(),
        ))
    };
    let mut all = Vec::new();
    for inputs in &drawn.inputs {
        let initial = graph.initial_states()?;
        let mut states = initial.clone();
        let mut calls: Vec<Vec<Wanted>> = Vec::new();
        for _ in 0..CALLS {
            // The drawing knows the first call only.
            let Some(results) = step(inputs, &mut states, None)? else {
                break;
            };
            calls.push(
                results
                    .into_iter()
                    .zip(&roots)
                    .map(|(tensor, v)| Wanted {
                        known: vec![true; tensor.len()],
                        tolerance: narrow[v.index()],
                        tensor,
                    })
                    .collect(),
            );
        }
        for _ in 0..RUNS {
            let mut states = initial.clone();
            for call in &mut calls {
                let Ok(Some(results)) = step(inputs, &mut states, Some(r)) else {
                    call.iter_mut().for_each(|w| w.known.fill(false));
                    continue;
                };
                for (other, wanted) in results.iter().zip(call) {
                    let largest = wanted
                        .tensor
                        .to_f64()
                        .into_iter()
                        .filter(|x| x.is_finite())
                        .fold(0.0f64, |m, x| m.max(x.abs()));
                    for i in 0..wanted.known.len() {
                        wanted.known[i] &= other.len() == wanted.known.len()
                            && agrees(
                                other.get(i),
                                wanted.tensor.get(i),
                                wanted.tolerance,
                                largest,
                            );
                    }
                }
            }
        }
        all.push(Expected { calls });
    }
    Ok(all)
}
