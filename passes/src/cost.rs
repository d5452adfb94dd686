//! What an op costs on a target.
//!
//! A cost is a time in picoseconds: what the host spends on each primitive, and what the device spends on launching, moving bytes and arithmetic. The figures of a target are a
//! [`Table`]; how an op uses them is the same for all. Sizes are weighed at two points of each symbol's range, since a program serves single steps and prefills alike.

mod tables;

use crate::pass::Target;
use fuseline_ir::ops::Flag;
use fuseline_ir::{DType, Dim, Op, Symbol, Symbols, TensorType, Type};
use std::collections::BTreeMap;

pub use tables::{Figure, Table, table};

/// The cost of work that is done once, not in a step: enough to prefer less of it.
const ONCE: u64 = 1;

/// The cost of a weight that is dequantised for good. It was quantised to be small, so this is the last choice, though its product may be faster.
const FILLS: u64 = 1 << 46;

/// The cost of what the target has no kernel for, or none that is exact enough: more than any work, and not so much that sums overflow.
const ABSENT: u64 = 1 << 52;

/// The size that stands for a long input, where the symbol's range allows it.
const LONG: i64 = 128;

/// Costs for a target, and the sizes that they are weighed at.
#[derive(Clone, Debug)]
pub struct Model {
    table: &'static Table,
    points: Vec<BTreeMap<Symbol, i64>>,
}

impl Model {
    /// The model of a target for a graph with these symbols.
    pub fn new(target: Target, symbols: &Symbols) -> Model {
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
            table: table(target),
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
        let at = |point| self.at(point, op, args, out);
        let total = self.points.iter().map(at).fold(0u64, u64::saturating_add);
        let mean = total / u64::try_from(self.points.len().max(1)).unwrap_or(1);
        // Of two nodes that cost the same the one with fewer operands is cheaper: an operand that many share (a mask) can then fall away reader by reader.
        let memory = if once { FILLS } else { 0 };
        mean.max(ONCE)
            .saturating_add(memory)
            .saturating_add(args.len() as u64)
    }

    fn at(&self, point: &BTreeMap<Symbol, i64>, op: &Op, args: &[&Type], out: &Type) -> u64 {
        let t = self.table;
        let host = t.primitive.value.saturating_mul(primitives(op, args, t));
        if is_view(op) {
            return host;
        }
        let absent = match op {
            Op::GatherMm(_) => !t.narrow_experts,
            Op::QuantizedMatmul(_) | Op::GatherQmm(_) => !t.narrow_quantized,
            _ => false,
        };
        if absent && is_narrow(out) {
            return ABSENT;
        }
        let bytes = args
            .iter()
            .chain([&out])
            .map(|ty| bytes(ty, point))
            .fold(0.0, |a, b| a + b);
        let moved = bytes * 1e6 / t.bytes.value as f64;
        let rate = if is_narrow(out) {
            t.narrow.value
        } else {
            t.single.value
        };
        let arithmetic = operations(op, args, out, point) * 1e6 / rate as f64;
        let device = t.launch.value as f64 + moved.max(arithmetic);
        host.saturating_add(device as u64)
    }
}

/// How many of MLX's primitives the op becomes.
fn primitives(op: &Op, args: &[&Type], table: &Table) -> u64 {
    match op {
        Op::RmsNorm(_) | Op::LayerNorm(_) | Op::Rope(_) | Op::Sdpa(_) => table.fused.value,
        Op::Gelu(_) => 4,
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

fn bytes(ty: &Type, point: &BTreeMap<Symbol, i64>) -> f64 {
    match ty {
        Type::Tensor(t) => numel(t, point) * t.dtype.size() as f64,
        Type::Int(_) => 0.0,
        Type::Tuple(items) => items.iter().map(|t| bytes(t, point)).sum(),
    }
}

/// Multiplications and additions, or function values, whichever there are.
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
        Op::Sdpa(_) => {
            let keys = tensor(1)
                .and_then(|k| k.shape.get(2))
                .map_or(1.0, |d| size(d, point));
            // q·kᵀ, the softmax, and its product with v.
            results * keys * 4.0 + results / last(2).max(1.0) * keys * 8.0
        }
        op if op.info().has(Flag::Reduction) => tensor(0).map_or(0.0, |t| numel(t, point)),
        op if op.info().has(Flag::Fused) => 8.0 * results,
        _ => results,
    }
}
