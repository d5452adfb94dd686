//! Graphs at random whose every value is there to compare: finite, of moderate size, at each size of the symbol.

use super::common::{Random, witness};
use super::control;
use super::graphs::{arguments, fragment, leaf, literal, op, start};
use super::reference::{moderate, node};
use fuseline_ir::ops::{
    attention, conv, create, index, movement as mv, norm, pointwise, reduce, rope, sort, window,
};
use fuseline_ir::{
    DType, Dim, F64, Flag, Graph, Loc, Op, Range, Symbol, Tensor, TensorType, Type, Value,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A graph with inputs for it.
pub struct Drawn {
    /// The graph.
    pub graph: Graph,
    /// Inputs, by size of the symbol.
    pub inputs: Vec<Vec<Tensor>>,
}

/// What the symbol stands for: of the range that [`start`] gives it, or with nothing at all where a graph takes that.
const SIZES: [[i64; 2]; 2] = [[1, 3], [0, 3]];

const NUMBERS: &[f64] = &[
    0.0, 1.0, -1.0, 0.5, -2.5, 3.75, 0.1, -0.3, 1.7, 0.01, -0.9, 2.2, -1.3, 0.66, -3.1, 0.25,
];

/// What is left out because a target's library means something else at such values, or because it has no such thing. Values that are not finite are left out of every
/// graph: results of a comparison or an index that depend on NaN differ (`argmax`), so does `floor_div` of infinities. The order of NaN is tested elsewhere.
fn left_out(g: &Graph, v: Value) -> bool {
    let node = g.node(v);
    // No target but the host computes in f64.
    node.ty.as_tensor().is_some_and(|t| t.dtype == DType::F64)
        // The importer writes products of integer matrices in other ops.
        || matches!(node.op, Op::Matmul(_) | Op::Addmm(_))
            && node.ty.as_tensor().is_some_and(|t| !t.dtype.is_float())
}

/// An op that the rules of the canonical form say little about.
fn other(r: &mut Random, g: &Graph, x: Value) -> Option<Op> {
    let ty = g.ty(x).as_tensor()?.clone();
    let rank = ty.rank();
    let axis = r.below(rank.max(1));
    let keepdim = r.one_in(2);
    let axes: Vec<usize> = (0..rank).filter(|a| *a == axis || r.one_in(3)).collect();
    let eps = F64::new(1e-5);
    Some(match r.below(30) {
        0..=5 => Op::build(
            r.pick::<&str>(&[
                "sign", "expm1", "log", "log2", "log10", "log1p", "rsqrt", "sin", "tan", "asin",
                "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf",
                "sigmoid", "floor", "ceil", "round", "trunc", "silu",
            ]),
            &[],
        )
        .ok()?,
        6 => pointwise::Gelu { tanh: r.one_in(2) }.into(),
        7..=8 => Op::build(
            r.pick::<&str>(&[
                "atan2",
                "logaddexp",
                "minimum",
                "maximum",
                "div",
                "floor_div",
                "remainder",
                "pow",
            ]),
            &[],
        )
        .ok()?,
        9 => reduce::Mean { axes, keepdim }.into(),
        10 => reduce::Sum { axes, keepdim }.into(),
        11 => reduce::Prod { axes, keepdim }.into(),
        12 => reduce::Amin { axes, keepdim }.into(),
        13 => {
            if r.one_in(2) {
                reduce::Any { axes, keepdim }.into()
            } else {
                reduce::All { axes, keepdim }.into()
            }
        }
        14 => reduce::Argmax { axis, keepdim }.into(),
        15 => reduce::Argmin { axis, keepdim }.into(),
        16 => sort::Sort { axis }.into(),
        17 => sort::Argsort { axis }.into(),
        18 => index::ScatterAdd { axis }.into(),
        23 => pointwise::Cast {
            dtype: *r.pick(&[
                DType::U8,
                DType::I8,
                DType::I16,
                DType::U32,
                DType::F16,
                DType::I32,
            ]),
        }
        .into(),
        24 => window::Window {
            axes: vec![axis],
            sizes: vec![1 + r.below(3)],
            steps: vec![1 + r.below(2)],
            dilations: vec![1 + r.below(2)],
        }
        .into(),
        25 => mv::Pad {
            low: (0..rank).map(|_| r.below(2).into()).collect(),
            high: (0..rank).map(|_| r.below(3).into()).collect(),
            value: literal(r, ty.dtype),
        }
        .into(),
        26 => index::SliceUpdate {
            axis,
            start: r.below(2).into(),
            step: 1 + i64::from(r.one_in(2)),
        }
        .into(),
        27 => mv::Flip { axes }.into(),
        28 => mv::Slice {
            axis,
            start: 0.into(),
            stop: ty.shape.get(axis)? - &Dim::from(1i64),
            step: 1,
        }
        .into(),
        19..=20 => norm::Softmax { axis }.into(),
        21 => norm::RmsNorm { eps }.into(),
        22 => norm::LayerNorm { eps }.into(),
        _ => mv::Slice {
            axis,
            start: 1.into(),
            stop: ty.shape.get(axis)?.clone(),
            step: 1 + i64::from(r.one_in(2)),
        }
        .into(),
    })
}

/// Adds the op, or where it is a fused one and `spelled`, what it means in plain ops: rules find it again.
fn apply(g: &mut Graph, op: Op, args: &[Value], spelled: bool) -> Option<Value> {
    if spelled && op.info().has(Flag::Fused) {
        return op.decompose(g, args).ok()?;
    }
    g.add(op, args, &Loc::default()).ok()
}

/// Attention, rotary embedding, a norm with weights, an update of a state: what needs arguments of shapes that chance seldom brings.
fn block(r: &mut Random, g: &mut Graph, inputs: &Inputs, x: Value) -> Option<Value> {
    let ty = g.ty(x).as_tensor()?.clone();
    let spelled = r.one_in(2);
    let mut add = |op: Op, args: &[Value]| apply(g, op, args, spelled);
    match r.below(6) {
        0 => {
            let (q, kv) = *r.pick(&inputs.heads);
            let scale = F64::new(*r.pick(&[0.5, 1.0, 0.3]));
            let causal = r.one_in(2);
            let sdpa = attention::Sdpa { scale, causal };
            if r.one_in(2) {
                return add(sdpa.into(), &[q, kv, kv]);
            }
            // Every row keeps the diagonal.
            let s = Dim::symbol("s");
            let count = create::Arange {
                start: 0.into(),
                step: 1.into(),
                len: s.clone(),
                dtype: DType::I64,
            };
            let i = add(count.into(), &[])?;
            let column = add(
                mv::Reshape {
                    shape: vec![s, 1.into()],
                }
                .into(),
                &[i],
            )?;
            let compare = Op::build(r.pick::<&str>(&["ge", "le", "eq"]), &[]).ok()?;
            let mask = add(compare, &[column, i])?;
            add(sdpa.into(), &[q, kv, kv, mask])
        }
        1 => {
            let (q, kv) = *r.pick(&inputs.heads);
            let dims = *r.pick(&[2, 4]);
            let rope = rope::Rope {
                dims,
                traditional: r.one_in(2),
                base: Some(F64::new(100.0)),
                scale: F64::new(*r.pick(&[1.0, 0.5])),
            };
            let x = *r.pick(&[q, kv, x]);
            add(rope.into(), &[x, Value::from_index(7)])
        }
        2 => {
            let cast = pointwise::Cast { dtype: ty.dtype };
            let w = add(cast.into(), &[inputs.weight])?;
            let eps = F64::new(1e-5);
            if r.one_in(2) {
                add(norm::RmsNorm { eps }.into(), &[x, w])
            } else {
                add(norm::LayerNorm { eps }.into(), &[x, w, w])
            }
        }
        3 => {
            let rows = mv::Slice {
                axis: 0,
                start: 0.into(),
                stop: 2.into(),
                step: 1,
            };
            let base = *r.pick(&[inputs.state, inputs.weights, Value::from_index(11)]);
            let other = *r.pick(&[inputs.state, inputs.weights, Value::from_index(11)]);
            let source = add(rows.into(), &[other])?;
            add(
                index::SliceUpdate {
                    axis: 0,
                    start: r.below(3).into(),
                    step: 1,
                }
                .into(),
                &[base, source],
            )
        }
        4 => {
            // [N, length, C] and [O, kernel, C / groups].
            let grouped = r.one_in(2);
            let shape = if grouped {
                vec![4.into(), 2.into(), 2.into()]
            } else {
                vec![2.into(), 2.into(), 4.into()]
            };
            let w = add(mv::Reshape { shape }.into(), &[inputs.weights])?;
            let conv = conv::Conv {
                stride: vec![1 + r.below(2)],
                padding: vec![r.below(2)],
                dilation: vec![1 + r.below(2)],
                groups: if grouped { 2 } else { 1 },
            };
            add(conv.into(), &[*r.pick(&[x, Value::from_index(2)]), w])
        }
        _ => {
            let cast = pointwise::Cast { dtype: ty.dtype };
            let w = add(cast.into(), &[inputs.weights])?;
            add(Op::build("matmul", &[]).ok()?, &[x, w])
        }
    }
}

/// The leaves that [`block`] reads.
struct Inputs {
    /// q, and k and v.
    heads: [(Value, Value); 3],
    /// f32 [4].
    weight: Value,
    /// f32 [4, 4].
    weights: Value,
    /// f32 [4, 4].
    state: Value,
}

fn leaves(r: &mut Random, g: &mut Graph) -> Inputs {
    let heads = |g: &mut Graph, name: &str, dtype, h: i64| {
        let shape = vec![1.into(), h.into(), Dim::symbol("s"), 4.into()];
        g.input(name, Type::tensor(dtype, shape)).unwrap()
    };
    let q = heads(g, "q", DType::F32, 4);
    let kv = heads(g, "kv", DType::F32, 2);
    let half = heads(g, "half", DType::BF16, 2);
    let mut constant = |g: &mut Graph, name: &str, shape: Vec<Dim>| {
        let ty = TensorType::new(DType::F32, shape);
        let data = witness(r, &ty, 1, NUMBERS).to_bytes();
        g.constant(name, ty, Some(Arc::new(data))).unwrap()
    };
    let weight = constant(g, "weight", vec![4.into()]);
    let weights = constant(g, "weights", vec![4.into(), 4.into()]);
    let ty = TensorType::new(DType::I64, vec![2.into()]);
    let places = [-1i64, 0]
        .iter()
        .flat_map(|i| i.to_le_bytes())
        .collect::<Vec<u8>>();
    g.constant("places", ty, Some(Arc::new(places))).unwrap();
    let ty = TensorType::new(DType::F32, vec![4.into(), 4.into()]);
    let init = r.one_in(2).then(|| Symbol::from("weights"));
    let state = g.state("memory", ty, init).unwrap();
    Inputs {
        heads: [(q, kv), (half, half), (q, q)],
        weight,
        weights,
        state,
    }
}

/// Inputs at that size of the symbol.
pub fn inputs(r: &mut Random, g: &Graph, s: i64) -> Vec<Tensor> {
    let types = g.inputs().iter().map(|v| g.tensor_ty(*v).unwrap());
    types.map(|ty| witness(r, ty, s, NUMBERS)).collect()
}

/// Every node's value at one size.
struct Run {
    symbols: BTreeMap<Symbol, i64>,
    inputs: Vec<Tensor>,
    values: Vec<Tensor>,
}

impl Run {
    /// The value of the node, if it is one to compare with.
    fn next(&self, g: &Graph, v: Value) -> Option<Tensor> {
        let t = match &g.node(v).op {
            Op::Input(_) => self.inputs[g.inputs().iter().position(|i| *i == v)?].clone(),
            Op::State(op) => g.initial_states().ok()?.get(&op.name)?.clone(),
            _ => node(g, v, &self.symbols, &self.values)?,
        };
        // PyTorch and MLX refuse a kernel that is longer than its padded input, and the largest of no elements even where there is no place for it.
        let first = g
            .node(v)
            .args
            .first()
            .map(|a| self.values[a.index()].shape());
        let nothing = |axes: &[usize]| first.is_some_and(|s| axes.iter().any(|a| s[*a] == 0));
        let refused = match &g.node(v).op {
            Op::Conv(_) => t.is_empty(),
            Op::Amax(op) => nothing(&op.axes),
            Op::Amin(op) => nothing(&op.axes),
            Op::Argmax(op) => nothing(&[op.axis]),
            Op::Argmin(op) => nothing(&[op.axis]),
            _ => false,
        };
        (moderate(&t) && !refused && t.len() < 4096).then_some(t)
    }
}

/// The graph of a seed.
pub fn draw(seed: u64) -> Drawn {
    let mut r = Random::new(seed);
    let mut g = start();
    let sizes = SIZES[usize::from(r.one_in(4))];
    if sizes[0] == 0 {
        g.declare_symbol("s", Range { min: 0, max: 4 });
    }
    let inputs = leaves(&mut r, &mut g);
    let mut runs: Vec<Run> = sizes
        .iter()
        .map(|s| Run {
            symbols: BTreeMap::from([("s".into(), *s)]),
            inputs: self::inputs(&mut r, &g, *s),
            values: Vec::new(),
        })
        .collect();
    let mut values: Vec<Value> = g.values().map(|(v, _)| v).collect();
    for run in &mut runs {
        for v in &values {
            run.values.push(run.next(&g, *v).unwrap());
        }
    }
    let most = values.len() + 4 + r.below(20);
    let mut tries = 0;
    while values.len() < most && tries < 400 {
        tries += 1;
        let recent = values.len().saturating_sub(8);
        let choose = |r: &mut Random| {
            let from = if r.one_in(2) { recent } else { 0 };
            values[from + r.below(values.len() - from)]
        };
        let mut next = g.clone();
        let x = choose(&mut r);
        let y = choose(&mut r);
        let added = match r.below(18) {
            0..=1 => leaf(&mut r, &mut next),
            2..=3 => fragment(&mut r, &mut next, x),
            4..=6 => block(&mut r, &mut next, &inputs, x),
            16 => control::control(&mut r, &mut next, x, y),
            17 => control::quantised(&mut r, &mut next, x),
            n => {
                let op = if n < 11 {
                    Some(op(&mut r, &g, x))
                } else {
                    other(&mut r, &g, x)
                };
                op.and_then(|op| {
                    let args = arguments(&mut r, &g, &op, x, choose)?;
                    apply(&mut next, op, &args, r.one_in(2))
                })
            }
        };
        if added.is_none() {
            continue;
        }
        // Of a row of ops all must have a value.
        let fresh: Vec<Value> = next
            .values()
            .map(|(v, _)| v)
            .skip(g.nodes().len())
            .collect();
        let fits = !fresh.iter().any(|v| left_out(&next, *v))
            && runs.iter_mut().all(|run| {
                let old = run.values.len();
                let all = fresh.iter().all(|v| match run.next(&next, *v) {
                    Some(t) => {
                        run.values.push(t);
                        true
                    }
                    None => false,
                });
                if !all {
                    run.values.truncate(old);
                }
                all
            });
        if fits {
            values.extend(
                fresh
                    .into_iter()
                    .filter(|v| next.ty(*v).as_tensor().is_some()),
            );
            g = next;
        } else {
            runs.iter_mut()
                .for_each(|run| run.values.truncate(g.nodes().len()));
        }
    }
    finish(&mut r, &mut g, &inputs);
    Drawn {
        graph: g,
        inputs: runs.into_iter().map(|run| run.inputs).collect(),
    }
}

/// Names the outputs, and the state's next value.
fn finish(r: &mut Random, g: &mut Graph, inputs: &Inputs) {
    let ty = g.ty(inputs.state).clone();
    let next = g
        .values()
        .filter(|(v, node)| node.ty == ty && *v > inputs.state)
        .map(|(v, _)| v)
        .last();
    g.states[0].next = next;
    let used = g.use_counts();
    let ends: Vec<Value> = g
        .values()
        .filter(|(v, n)| {
            (used[v.index()] == 0 && *v > inputs.state || r.one_in(8))
                && n.ty.as_tensor().is_some_and(|t| t.dtype != DType::F64)
        })
        .map(|(v, _)| v)
        .collect();
    for (n, v) in ends.iter().enumerate() {
        g.output(format!("o{n}"), *v);
    }
}
