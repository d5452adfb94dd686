//! Products with quantised weights as products with floats, within a budget of memory: for targets whose quantised kernels are slow.
//!
//! The weight stays quantised in the file and is dequantised once, when the program is loaded; from then on its floats fill memory. So a product is changed only where
//! [`PassCx::memory_budget`] has room for them and the target's table says that the product of floats is faster, those first that gain most for a byte. Rows of
//! embeddings stay quantised: few are read.
//!
//! Numerics: a product's terms are the same, rounded to the weight's dtype on the way.

use crate::cost::Model;
use crate::decompose::copy_ends;
use crate::pass::{Numerics, PassCx, PassError};
use crate::{hoist, sweep};
use fuseline_ir::{Graph, Op, OpError, TensorType, Type, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The pass's name.
pub const NAME: &str = "unpack";

/// The pass: see the module.
///
/// # Errors
/// An op that the pass built doesn't take its arguments: a bug.
pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError> {
    if cx.memory_budget == 0 || cx.numerics < Numerics::Reassociates {
        return Ok(graph.clone());
    }
    let fail = |place: &str| PassError::op(NAME, place.to_string());
    let chosen = chosen(graph, cx).map_err(fail("the choice of products"))?;
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let start = out.nodes().len();
        let place = || fail(&graph.describe(value, node));
        let plain = if chosen.contains(&value) {
            node.op.decompose(&mut out, &args).map_err(place())?
        } else {
            None
        };
        out.place_from(start, &node.loc);
        map.push(match plain {
            Some(plain) => plain,
            None => out
                .add(node.op.clone(), &args, &node.loc)
                .map_err(place())?,
        });
    }
    copy_ends(graph, &mut out, &map);
    sweep::sweep(&out).map_err(fail("the sweep at the end"))
}

/// A quantised weight, the products that read it, and what it is in floats.
#[derive(Default)]
struct Weight {
    products: Vec<Value>,
    /// What the products gain in sum, in picoseconds.
    gain: u64,
    bytes: u64,
}

/// The products to change.
fn chosen(graph: &Graph, cx: &PassCx) -> Result<BTreeSet<Value>, OpError> {
    let model = Model::of(cx, &graph.symbols);
    let once = hoist::const_only(graph);
    let live = graph.live();
    let mut weights: BTreeMap<Vec<Value>, Weight> = BTreeMap::new();
    for (value, node) in graph.values() {
        let quantised = match node.op {
            Op::QuantizedMatmul(_) => 1..,
            Op::GatherQmm(_) => 2..,
            _ => continue,
        };
        let quantised = node.args.get(quantised).unwrap_or_default();
        if !live[value.index()] || !quantised.iter().all(|a| once[a.index()]) {
            continue;
        }
        let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
        let now = model.cost(&node.op, &types, &node.ty, false);
        let Some(plain) = plain(&node.op, &types, &model)? else {
            continue;
        };
        let weight = weights.entry(quantised.to_vec()).or_default();
        weight.products.push(value);
        weight.gain = weight.gain.saturating_add(now.saturating_sub(plain.cost));
        weight.bytes = plain.bytes;
    }
    let mut sorted: Vec<Weight> = weights.into_values().filter(|w| w.gain > 0).collect();
    // Stable: of equals, the one that comes first in the graph.
    sorted.sort_by(|a, b| {
        let left = u128::from(a.gain) * u128::from(b.bytes);
        let right = u128::from(b.gain) * u128::from(a.bytes);
        right.cmp(&left)
    });
    let mut room = cx.memory_budget;
    let mut out = BTreeSet::new();
    for weight in sorted {
        if weight.bytes <= room {
            room -= weight.bytes;
            out.extend(weight.products);
        }
    }
    Ok(out)
}

/// A product of floats.
struct Plain {
    cost: u64,
    /// The bytes of the dequantised weight.
    bytes: u64,
}

/// What the product costs in plain ops, the weight's dequantisation left out; `None` where the weight's size is not known.
fn plain(op: &Op, types: &[&Type], model: &Model) -> Result<Option<Plain>, OpError> {
    let mut graph = Graph::new(NAME);
    let mut args = Vec::new();
    for (n, ty) in types.iter().enumerate() {
        args.push(graph.input(format!("x{n}"), (*ty).clone())?);
    }
    if op.decompose(&mut graph, &args)?.is_none() {
        return Ok(None);
    }
    let (mut cost, mut bytes) = (0u64, None);
    for (_, node) in graph.values() {
        if matches!(node.op, Op::Dequantize(_)) {
            bytes = node.ty.as_tensor().and_then(size);
        } else if matches!(node.op, Op::Matmul(_) | Op::GatherMm(_)) {
            let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
            cost = cost.saturating_add(model.cost(&node.op, &types, &node.ty, false));
        }
    }
    Ok(bytes.map(|bytes| Plain { cost, bytes }))
}

fn size(ty: &TensorType) -> Option<u64> {
    let shape = ty.static_shape()?;
    shape
        .iter()
        .try_fold(ty.dtype.size() as u64, |n, d| n.checked_mul(*d as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;

    /// Two products of a decoder's step, the second with a weight of twice the size.
    fn graph() -> Graph {
        use fuseline_ir::ops::table as op;
        use fuseline_ir::{DType, Loc};
        let mut graph = Graph::new("forward");
        let ty = |dtype, shape: [i64; 2]| TensorType::new(dtype, shape.map(Into::into).to_vec());
        let x = graph.input("x", ty(DType::F32, [1, 256])).unwrap();
        for (name, rows) in [("a", 256), ("b", 512)] {
            let mut list = |suffix: &str, dtype, last| {
                graph.constant(format!("{name}.{suffix}"), ty(dtype, [rows, last]), None)
            };
            let w = list("w", DType::U32, 32).unwrap();
            let s = list("s", DType::F32, 4).unwrap();
            let z = list("z", DType::F32, 4).unwrap();
            let product = op::QuantizedMatmul {
                group: 64,
                bits: 4,
                mode: "affine".into(),
            };
            let y = graph.add(product, &[x, w, s, z], &Loc::default()).unwrap();
            graph.output(name, y);
        }
        graph
    }

    fn products(target: Target, memory_budget: u64) -> usize {
        let cx = PassCx {
            memory_budget,
            ..PassCx::new(target)
        };
        let out = run(&graph(), &cx).unwrap();
        out.verify().unwrap();
        let floats = out.values().filter(|(_, n)| matches!(n.op, Op::Matmul(_)));
        floats.count()
    }

    #[test]
    fn floats_fill_the_budget_and_no_more() {
        let a = 256 * 256 * 4;
        for (budget, expected) in [(0, 0), (a - 1, 0), (a, 1), (3 * a - 1, 1), (3 * a, 2)] {
            assert_eq!(products(Target::Cpu, budget), expected, "{budget}");
        }
        assert_eq!(products(Target::Metal, u64::MAX), 0);
    }
}
