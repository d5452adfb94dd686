//! What an op costs on a target.
//!
//! A cost is a time in picoseconds: what the host spends on each primitive, and what the device spends on launching, moving bytes and arithmetic. The figures of a target are a
//! [`Table`]; how an op uses them is the same for all. Sizes are weighed at two points of each symbol's range, since a program serves single steps and prefills alike.

mod figures;
mod tables;

use crate::pass::{PassCx, Target};
use fuseline_ir::{DType, Dim, Op, Symbol, Symbols, TensorType, Type};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use figures::{FIGURES, Figure, FigureError, FigureInfo, Table};
pub use tables::table;

/// The cost of work that is done once, not in a step: enough to prefer less of it.
const ONCE: u64 = 1;

/// The cost of a weight that is dequantised for good. It was quantised to be small, so this is the last choice, though its product may be faster.
const FILLS: u64 = 1 << 46;

/// The cost of what the target has no kernel for, or none that is exact enough: more than any work, and not so much that sums overflow.
const ABSENT: u64 = 1 << 52;

/// The size that stands for a long input, where the symbol's range allows it.
const LONG: i64 = 128;

/// The most rows of which a quantised product is bound by reading the weight.
const FEW_ROWS: f64 = 8.0;

/// Picoseconds in a nanosecond.
const PICO: f64 = 1e3;

/// Costs for a target, and the sizes that they are weighed at.
#[derive(Clone, Debug)]
pub struct Model {
    target: Target,
    table: Arc<Table>,
    shares_weights: bool,
    points: Vec<BTreeMap<Symbol, i64>>,
}

impl Model {
    /// The model of a target's own table for a graph with these symbols.
    pub fn new(target: Target, symbols: &Symbols) -> Model {
        Model::of(&PassCx::new(target), symbols)
    }

    /// The model of a context's table.
    pub fn of(cx: &PassCx, symbols: &Symbols) -> Model {
        let point = |of: &dyn Fn(i64, i64) -> i64| {
            symbols
                .iter()
                .map(|(name, r)| (name.clone(), of(r.min, r.max)))
                .collect()
        };
        let mut points: Vec<BTreeMap<Symbol, i64>> = vec![
            point(&|min, _| min.max(1)),
            point(&|min, max| LONG.clamp(min.max(1), max.max(1))),
        ];
        points.dedup();
        Model {
            target: cx.target,
            table: cx.costs.clone(),
            shares_weights: cx.shares_weights,
            points,
        }
    }

    /// The cost of one op applied to values of these types, in picoseconds; `once` where it depends on constants alone. Never 0.
    pub fn cost(&self, op: &Op, args: &[&Type], out: &Type, once: bool) -> u64 {
        let leaf = matches!(
            op,
            Op::Input(_) | Op::Constant(_) | Op::State(_) | Op::Size(_) | Op::Get(_)
        );
        // A dequantised weight is made once, but it fills memory from then on.
        let fills = matches!(op, Op::Dequantize(_));
        if leaf || once && !fills {
            return ONCE;
        }
        let mean = self.mean(|point| self.at(point, op, args, out));
        // Of two nodes that cost the same the one with fewer operands is cheaper: an operand that many share (a mask) can then fall away reader by reader.
        let memory = if once { FILLS } else { 0 };
        mean.max(ONCE)
            .saturating_add(memory)
            .saturating_add(args.len() as u64)
    }

    /// The cost of dividing a value into parts along an axis, however many: one primitive that moves nothing.
    pub fn split(&self) -> u64 {
        self.mean(|_| self.table.host_ns.value * PICO)
    }

    /// What reading a part of a value costs more than reading a value of type `ty`, where the part is cut out along `axis` and its rows don't follow one another.
    ///
    /// Where methods share weights, parts of a product's columns are weighed at the mean of a single row and of a long input, however many rows `ty` has: so methods for few and for many
    /// come to the same.
    pub fn gaps(&self, ty: &TensorType, axis: usize) -> u64 {
        let t = &*self.table;
        let slower = (PICO / t.strided_gbs.value - PICO / t.copy_gbs.value).max(0.0);
        let (before, behind) = ty.shape.split_at(axis.min(ty.rank()));
        let alike = self.shares_weights && axis + 1 == ty.rank();
        self.mean(|point| {
            let product = |dims: &[Dim]| -> f64 { dims.iter().map(|d| size(d, point)).product() };
            let rows = match product(before) {
                _ if alike => LONG as f64 / 2.0,
                rows if rows > 1.0 => rows,
                _ => 0.0,
            };
            rows * product(behind) * ty.dtype.size() as f64 * slower
        })
    }

    fn mean(&self, at: impl Fn(&BTreeMap<Symbol, i64>) -> f64) -> u64 {
        let total = self
            .points
            .iter()
            .map(|p| at(p) as u64)
            .fold(0u64, u64::saturating_add);
        total / u64::try_from(self.points.len().max(1)).unwrap_or(1)
    }

    fn at(&self, point: &BTreeMap<Symbol, i64>, op: &Op, args: &[&Type], out: &Type) -> f64 {
        let t = &*self.table;
        let host = t.host_ns.value * PICO * primitives(op, args, self.target) as f64;
        if is_view(op) {
            return host;
        }
        let absent = match op {
            Op::GatherMm(_) => !self.target.narrow_experts(),
            Op::QuantizedMatmul(_) | Op::GatherQmm(_) => !self.target.narrow_quantized(),
            _ => false,
        };
        // The target counts rows itself.
        let listed = |ty: &&Type| ty.as_tensor().is_some_and(|t| t.rank() > 1);
        let listed = matches!(op, Op::Rope(_)) && args.get(1).is_some_and(listed);
        if listed || absent && is_narrow(out) {
            return ABSENT as f64;
        }
        let bytes = args
            .iter()
            .chain([&out])
            .map(|ty| bytes(ty, point))
            .fold(0.0, |a, b| a + b);
        let work = operations(op, args, out, point);
        let device = match op {
            Op::QuantizedMatmul(_) | Op::GatherQmm(_) if rows(out, point) < FEW_ROWS => {
                bytes / t.quantized_row_gbs.value
            }
            Op::QuantizedMatmul(_) | Op::GatherQmm(_) => {
                (bytes / t.copy_gbs.value).max(work / t.quantized_gflops.value)
            }
            _ => (bytes / t.copy_gbs.value).max(work / rate(op, out, t)),
        };
        host + (t.launch_ns.value + device) * PICO
    }
}

/// Operations a nanosecond.
fn rate(op: &Op, out: &Type, t: &Table) -> f64 {
    match op {
        Op::Matmul(_) | Op::Addmm(_) | Op::GatherMm(_) | Op::Conv(_) => {
            match out.as_tensor().map(|t| t.dtype) {
                Some(DType::F16) => t.matmul_f16_gflops.value,
                Some(DType::BF16) => t.matmul_bf16_gflops.value,
                _ => t.matmul_f32_gflops.value,
            }
        }
        Op::Sdpa(_) => t.attention_gflops.value,
        _ => t.pointwise_gops.value,
    }
}

/// How many of MLX's primitives the op becomes.
fn primitives(op: &Op, args: &[&Type], target: Target) -> u64 {
    match op {
        Op::RmsNorm(_) | Op::LayerNorm(_) | Op::Rope(_) | Op::Sdpa(_) => target.fused_primitives(),
        Op::Gelu(_) => 4,
        // It has none, and is decomposed.
        Op::Erfc(_) => 32,
        Op::Silu(_) => 2,
        Op::Gather(_) | Op::IndexCopy(_) => 2,
        Op::Cat(_) => u64::try_from(args.len()).map_or(2, |n| n.max(2)),
        _ => 1,
    }
}

fn is_view(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast(_) | Op::Slice(_)
    )
}

fn is_narrow(ty: &Type) -> bool {
    ty.as_tensor()
        .is_some_and(|t| matches!(t.dtype, DType::F16 | DType::BF16))
}

fn size(dim: &Dim, point: &BTreeMap<Symbol, i64>) -> f64 {
    // A symbol without a range is a number read from data: as good as any.
    let dim = dim.substitute(&|s| Some(Dim::from(point.get(s).copied().unwrap_or(LONG))));
    dim.as_const().unwrap_or(LONG).max(0) as f64
}

fn numel(ty: &TensorType, point: &BTreeMap<Symbol, i64>) -> f64 {
    ty.shape.iter().map(|d| size(d, point)).product()
}

/// How many rows a product has: elements over the last axis' size.
fn rows(ty: &Type, point: &BTreeMap<Symbol, i64>) -> f64 {
    let axes = ty.as_tensor().map_or(&[][..], |t| &t.shape);
    axes.iter().rev().skip(1).map(|d| size(d, point)).product()
}

fn bytes(ty: &Type, point: &BTreeMap<Symbol, i64>) -> f64 {
    match ty {
        Type::Tensor(t) => numel(t, point) * t.dtype.size() as f64,
        Type::Int(_) => 0.0,
        Type::Tuple(items) => items.iter().map(|t| bytes(t, point)).sum(),
    }
}
/// Multiplications and additions of a product, or function values; 0 for what only moves bytes, simple arithmetic included.
fn operations(op: &Op, args: &[&Type], out: &Type, point: &BTreeMap<Symbol, i64>) -> f64 {
    let tensor = |n: usize| args.get(n).and_then(|t| t.as_tensor());
    let last = |n: usize| {
        tensor(n)
            .and_then(|t| t.shape.last())
            .map_or(1.0, |d| size(d, point))
    };
    let results = out.as_tensor().map_or(0.0, |t| numel(t, point));
    match op {
        Op::Matmul(_)
        | Op::Addmm(_)
        | Op::GatherMm(_)
        | Op::QuantizedMatmul(_)
        | Op::GatherQmm(_) => 2.0 * results * last(0),
        Op::Conv(_) => {
            let weight = tensor(1).map_or(0.0, |w| numel(w, point));
            let channels = tensor(1)
                .and_then(|w| w.shape.first())
                .map_or(1.0, |d| size(d, point));
            2.0 * results * weight / channels.max(1.0)
        }
        Op::Sdpa(_) => {
            let keys = tensor(1)
                .and_then(|k| k.shape.get(2))
                .map_or(1.0, |d| size(d, point));
            // q·kᵀ, the softmax, and its product with v.
            results * keys * 4.0 + results / last(2).max(1.0) * keys * 8.0
        }
        Op::Exp(_)
        | Op::Expm1(_)
        | Op::Log(_)
        | Op::Log2(_)
        | Op::Log10(_)
        | Op::Log1p(_)
        | Op::LogAddExp(_)
        | Op::Pow(_)
        | Op::Sin(_)
        | Op::Cos(_)
        | Op::Tan(_)
        | Op::Asin(_)
        | Op::Acos(_)
        | Op::Atan(_)
        | Op::Atan2(_)
        | Op::Sinh(_)
        | Op::Cosh(_)
        | Op::Tanh(_)
        | Op::Asinh(_)
        | Op::Acosh(_)
        | Op::Atanh(_)
        | Op::Erf(_)
        | Op::Erfc(_)
        | Op::Sigmoid(_)
        | Op::Silu(_)
        | Op::Gelu(_)
        | Op::Softmax(_) => results,
        _ => 0.0,
    }
}
