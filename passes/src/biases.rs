//! Biases of quantised weights that follow from their scales are computed once, when the program is loaded, and are not in the file.
//!
//! A symmetric weight has one zero point: each of its biases is its scale times the same integer. With a zero point for each group, the integers still take a byte each where a bias takes two or
//! four. Which of this holds is read off the constants themselves, wherever they come from: biases are replaced only where the product, rounded to their dtype, equals them.
//!
//! Numerics: exact.

use crate::decompose::copy_ends;
use crate::pass::{PassCx, PassError};
use crate::sweep;
use fuseline_ir::graph::Payload;
use fuseline_ir::ops::table as op;
use fuseline_ir::{
    Constant, DType, Graph, Loc, Op, OpError, Scalar, Symbol, Tensor, TensorType, Value,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The pass's name.
pub const NAME: &str = "biases";

/// Biases of fewer bytes are left: what computes them takes some bytes as well.
const SMALL_BYTES: usize = 1024;

/// Numbers that are looked at first: mostly enough to see that biases follow from nothing.
const FIRST: usize = 1 << 10;

/// Numbers that are looked at together from then on.
const TILE: usize = 1 << 14;

/// The pass: see the module.
///
/// # Errors
/// A constant's bytes can't be read; an op that the pass built doesn't take its arguments, which is a bug.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let mut pairs: BTreeMap<&Symbol, (&Symbol, String)> = BTreeMap::new();
    for (value, node) in graph.values() {
        let first = match node.op {
            Op::Dequantize(_) => 1,
            Op::QuantizedMatmul(_) => 2,
            Op::GatherQmm(_) => 3,
            _ => continue,
        };
        let (Some(scales), Some(biases)) = (node.args.get(first), node.args.get(first + 1)) else {
            continue;
        };
        if let Some((scales, biases)) = constants(graph, *scales, *biases) {
            let place = || (scales, graph.describe(value, node));
            pairs.entry(biases).or_insert_with(place);
        }
    }
    let pairs: Vec<_> = pairs.into_iter().collect();
    let factors = side_by_side(&pairs, |(biases, (scales, _))| {
        factor(graph, scales, biases)
    });
    let mut found: BTreeMap<Symbol, (Symbol, Factor)> = BTreeMap::new();
    for ((biases, (scales, place)), factor) in pairs.into_iter().zip(factors) {
        if let Some(factor) = factor.map_err(|e| PassError::broken(NAME, place, e))? {
            found.insert(biases.clone(), (scales.clone(), factor));
        }
    }
    replace(graph, &found).map_err(PassError::op(NAME, format!("graph \"{}\"", graph.name)))
}

/// What `look` says of each, in their order; on all cores, since scales of weights that are quantised while compiling take long to make.
fn side_by_side<T: Sync, R: Send>(all: &[T], look: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let turns = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = turns.map_while(|n| Some((n, look(all.get(n)?))));
        mine.collect::<Vec<_>>()
    };
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut done = thread::scope(|scope| {
        let others = 1..cores.min(all.len());
        let others: Vec<_> = others.map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The constants that scales and biases are, if the same happens to both on the way.
fn constants(graph: &Graph, scales: Value, biases: Value) -> Option<(&Symbol, &Symbol)> {
    let (a, b) = (graph.node(scales), graph.node(biases));
    if let (Op::Constant(a), Op::Constant(b)) = (&a.op, &b.op) {
        return (a.ty == b.ty && a.name != b.name).then_some((&a.name, &b.name));
    }
    let same = a.op == b.op && matches!(a.op, Op::Cast(_) | Op::Take(_));
    let (first, rest) = a.args.split_first()?;
    let (other, others) = b.args.split_first()?;
    if !same || rest != others {
        return None;
    }
    constants(graph, *first, *other)
}

/// What scales are multiplied by to give the biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factor {
    /// All by one number.
    One(i64),
    /// Each by its own, of an 8-bit dtype.
    Each(DType),
}

/// The factor, if there is one that gives just these biases.
fn factor(graph: &Graph, scales: &Symbol, biases: &Symbol) -> Result<Option<Factor>, String> {
    let (Some(s), Some(b)) = (graph.constants.get(scales), graph.constants.get(biases)) else {
        return Ok(None);
    };
    let (Some(shape), Some(sd), Some(bd)) = (s.ty.static_shape(), &s.data, &b.data) else {
        return Ok(None);
    };
    let dtype = s.ty.dtype;
    let count: usize = shape.iter().product();
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) || count * dtype.size() < SMALL_BYTES
    {
        return Ok(None);
    }
    let (mut least, mut most) = (i64::MAX, i64::MIN);
    let mut range = 0..count.min(FIRST);
    while !range.is_empty() {
        let Some(multiples) = multiples(dtype, sd.as_ref(), bd.as_ref(), range.clone())? else {
            return Ok(None);
        };
        for n in multiples.into_iter().flatten() {
            (least, most) = (least.min(n), most.max(n));
        }
        if least < most && most - least > 255 {
            return Ok(None);
        }
        range = range.end..count.min(range.end + TILE);
    }
    Ok(match (least, most) {
        (least, most) if least >= most => Some(Factor::One(if least == most { least } else { 0 })),
        (0.., ..=255) => Some(Factor::Each(DType::U8)),
        (-128.., ..=127) => Some(Factor::Each(DType::I8)),
        _ => None,
    })
}

/// For each number of a range, the integer that the scale is multiplied by to give the bias: inner `None` where every integer does, outer where one has none.
fn multiples(
    dtype: DType,
    scales: &dyn Payload,
    biases: &dyn Payload,
    range: Range<usize>,
) -> Result<Option<Vec<Option<i64>>>, String> {
    let width = dtype.size();
    let read = |data: &dyn Payload| {
        let bytes = data.range(range.start * width..range.end * width)?;
        let tensor = Tensor::from_bytes(dtype, vec![range.len()], &bytes);
        tensor.map(|t| t.to_f64()).map_err(|e| e.to_string())
    };
    let (scales, biases) = (read(scales)?, read(biases)?);
    let integer = |(scale, bias): (&f64, &f64)| {
        if *scale == 0.0 && *bias == 0.0 {
            return Some(None);
        }
        let n = (bias / scale).round();
        let exact = n.abs() <= 255.0 && dtype.round(scale * n) == *bias;
        exact.then_some(Some(n as i64))
    };
    Ok(scales.iter().zip(&biases).map(integer).collect())
}

/// The graph with the biases computed.
fn replace(graph: &Graph, found: &BTreeMap<Symbol, (Symbol, Factor)>) -> Result<Graph, OpError> {
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let computed = match &node.op {
            Op::Constant(op) => found.get(&op.name).map(|(s, f)| (op, s, *f)),
            _ => None,
        };
        map.push(match computed {
            Some((op, scales, factor)) => {
                compute(&mut out, &op.name, &op.ty, scales, factor, &node.loc)?
            }
            None => out.add(node.op.clone(), &args, &node.loc)?,
        });
    }
    copy_ends(graph, &mut out, &map);
    sweep::sweep(&out)
}

fn compute(
    graph: &mut Graph,
    biases: &Symbol,
    ty: &TensorType,
    scales: &Symbol,
    factor: Factor,
    loc: &Loc,
) -> Result<Value, OpError> {
    let constant = |name: &Symbol, ty: &TensorType| op::Constant {
        name: name.clone(),
        ty: ty.clone(),
    };
    let factor = match factor {
        Factor::One(n) => {
            let full = op::Full {
                value: Scalar::float(n as f64),
                ty: TensorType::new(ty.dtype, Vec::new()),
            };
            graph.add(full, &[], loc)?
        }
        Factor::Each(dtype) => {
            let name = Symbol::from(format!("{biases}.factors"));
            let data = |name: &Symbol| graph.constants.get(name).and_then(|c| c.data.clone());
            let data = data(scales).zip(data(biases)).map(|(scales, biases)| {
                let factors = Factors {
                    dtype: ty.dtype,
                    scales,
                    biases,
                };
                Arc::new(factors) as Arc<dyn Payload>
            });
            let bytes = TensorType::new(dtype, ty.shape.clone());
            let entry = Constant {
                ty: bytes.clone(),
                data,
            };
            graph.constants.insert(name.clone(), entry);
            let factors = graph.add(constant(&name, &bytes), &[], loc)?;
            graph.add(op::Cast { dtype: ty.dtype }, &[factors], loc)?
        }
    };
    let scales = graph.add(constant(scales, ty), &[], loc)?;
    graph.add(op::Mul {}, &[scales, factor], loc)
}

/// The integers that scales are multiplied by, a byte each.
struct Factors {
    dtype: DType,
    scales: Arc<dyn Payload>,
    biases: Arc<dyn Payload>,
}

impl Payload for Factors {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        let count = self.scales.bytes()?.len() / self.dtype.size();
        self.range(0..count)
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let found = multiples(self.dtype, &*self.scales, &*self.biases, range)?;
        let found = found.ok_or("biases that are no multiples of their scales any more")?;
        let bytes = found.into_iter().map(|n| n.unwrap_or(0) as u8);
        Ok(Cow::Owned(bytes.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;

    /// A product with a weight of these scales and biases.
    fn graph(dtype: DType, scale: impl Fn(usize) -> f64, bias: impl Fn(usize) -> f64) -> Graph {
        let mut graph = Graph::new("forward");
        let ty = |dtype, shape: [i64; 2]| TensorType::new(dtype, shape.map(Into::into).to_vec());
        let mut constant = |name: &str, dtype: DType, last: i64, f: &dyn Fn(usize) -> Scalar| {
            let tensor = Tensor::from_fn(dtype, vec![512, last as usize], f).unwrap();
            let data: Arc<dyn Payload> = Arc::new(tensor.to_bytes());
            graph
                .constant(name, ty(dtype, [512, last]), Some(data))
                .unwrap()
        };
        let words = |i: usize| Scalar::Int((i as i64).wrapping_mul(0x9e37_79b9) & 0xffff_ffff);
        let w = constant("w", DType::U32, 16, &words);
        let s = constant("s", dtype, 2, &|i| Scalar::float(scale(i)));
        let z = constant("z", dtype, 2, &|i| Scalar::float(bias(i)));
        let x = graph.input("x", ty(dtype, [2, 128])).unwrap();
        let product = op::QuantizedMatmul {
            group: 64,
            bits: 4,
            mode: "affine".into(),
        };
        let y = graph.add(product, &[x, w, s, z], &Loc::default()).unwrap();
        graph.output("y", y);
        graph
    }

    /// The bytes of the constants after the pass, if it changed the graph; the results must be the same.
    fn after(graph: &Graph) -> Option<usize> {
        let out = run(graph, &PassCx::new(Target::Cpu)).unwrap();
        out.verify().unwrap();
        let ty = graph.tensor_ty(graph.inputs()[0]).unwrap();
        let x =
            Tensor::from_fn(ty.dtype, vec![2, 128], |i| Scalar::float((i as f64).sin())).unwrap();
        let results = |g: &Graph| {
            g.eval(std::slice::from_ref(&x), &BTreeMap::new())
                .unwrap()
                .outputs
        };
        assert_eq!(results(graph), results(&out));
        let bytes = |g: &Graph| -> usize {
            g.constants
                .values()
                .map(|c| c.data.as_ref().unwrap().bytes().unwrap().len())
                .sum()
        };
        assert_eq!(graph.same(&out), bytes(graph) == bytes(&out));
        (!graph.same(&out)).then(|| bytes(graph) - bytes(&out))
    }

    #[test]
    fn what_follows_from_the_scales_is_computed() {
        let scale = |i: usize| DType::BF16.round(0.01 + (i as f64).cos().abs());
        for dtype in [DType::BF16, DType::F32] {
            let (all, width) = (1024, dtype.size());
            assert_eq!(
                after(&graph(dtype, scale, |i| -8.0 * scale(i))),
                Some(all * width)
            );
            // Zero points of their own: a byte each.
            let zero = |i: usize| -((i % 16) as f64) * scale(i);
            assert_eq!(after(&graph(dtype, scale, zero)), Some(all * (width - 1)));
            // Biases that are none of their multiples.
            assert_eq!(after(&graph(dtype, scale, |i| scale(i) * 1.5 + 0.1)), None);
            let nearly = |i: usize| if i == 1023 { 0.3 } else { -8.0 * scale(i) };
            assert_eq!(after(&graph(dtype, scale, nearly)), None);
            assert_eq!(after(&graph(dtype, |_| 0.0, |_| 0.0)), Some(all * width));
            assert_eq!(after(&graph(dtype, |_| 0.0, |_| 1.0)), None);
        }
    }
}
