//! Rows of attention in which every key is masked.
//!
//! In PyTorch, and in the IR, they are zeros. The target's instruction gives a mean, or NaN that later layers spread. So where a mask may hide a whole row, the result is
//! guarded: `where(any(mask), sdpa, 0)`. A mask that is a comparison of positions, as causal masks and windows are, hides no row; one that
//! comes from outside, or from data that hides something, may.

use crate::closed_form;
use crate::pass::PassError;
use fuseline_ir::lower::{LowerCx, Lowering};
use fuseline_ir::ops::Flag;
use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Graph, Loc, Node, Op, OpError, Scalar, Symbol, TensorType, Type, Value};
use std::collections::BTreeSet;

/// A mask constant with more elements is taken to hide something without a look.
const MOST_ELEMENTS: i64 = 1 << 22;

/// The graph with a guard around each attention that needs one. Exact: the IR's attention gives those zeros by itself.
///
/// # Errors
/// A graph that was not verified.
pub(crate) fn guard(graph: &Graph) -> Result<Graph, PassError> {
    let hides = Hides::of(graph);
    let guarded = |node: &Node| -> Result<Option<Value>, OpError> {
        let (Op::Sdpa(_), [_, _, _, mask]) = (&node.op, node.args.as_slice()) else {
            return Ok(None);
        };
        let types: Vec<&Type> = node.args.iter().map(|a| graph.ty(*a)).collect();
        let cx = LowerCx {
            args: &types,
            out: &node.ty,
            symbols: &graph.symbols,
        };
        let direct = matches!(node.op.lower(&cx), Ok(Lowering::Insts(_)));
        Ok(hides.get(*mask).then_some(*mask).filter(|_| direct))
    };
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let fail = PassError::at("decompose", graph, value);
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let mut new = out.add(node.op.clone(), &args, &node.loc).map_err(fail)?;
        if let Some(mask) = guarded(node).map_err(fail)? {
            let mask = map[mask.index()];
            new = zeroed(&mut out, new, mask, &node.loc).map_err(fail)?;
        }
        map.push(new);
    }
    crate::decompose::copy_ends(graph, &mut out, &map);
    Ok(out)
}

/// `x` where its row of the mask shows a key, else 0.
fn zeroed(graph: &mut Graph, x: Value, mask: Value, loc: &Loc) -> Result<Value, OpError> {
    let (dtype, ty) = (graph.tensor_ty(x)?.dtype, graph.tensor_ty(mask)?.clone());
    let number = |value: f64, dtype: DType| op::Full {
        value: Scalar::float(value),
        ty: TensorType::new(dtype, Vec::new()),
    };
    let shown = if ty.dtype == DType::Bool {
        mask
    } else {
        let lowest = graph.add(number(f64::NEG_INFINITY, ty.dtype), &[], loc)?;
        graph.add(op::Ne {}, &[mask, lowest], loc)?
    };
    let some = match ty.rank().checked_sub(1) {
        Some(keys) => {
            let (axes, keepdim) = (vec![keys], true);
            graph.add(op::Any { axes, keepdim }, &[shown], loc)?
        }
        // One element stands for all keys.
        None => shown,
    };
    let zero = graph.add(number(0.0, dtype), &[], loc)?;
    graph.add(op::Where {}, &[some, x, zero], loc)
}

/// For each value, whether as a mask it may hide all keys of a row: be false there, or −∞.
struct Hides {
    hides: Vec<bool>,
    /// Whether the value is computed from positions.
    positional: Vec<bool>,
    /// Constants that show a key in each row: triangles that are not cut off in their first rows.
    triangles: BTreeSet<Symbol>,
}

impl Hides {
    fn of(graph: &Graph) -> Hides {
        let mut all = Hides {
            hides: Vec::new(),
            positional: Vec::new(),
            triangles: closed_form::triangles(graph)
                .into_iter()
                .filter(|(_, t)| t.shift >= 0 && shows(t.below))
                .map(|(name, _)| name)
                .collect(),
        };
        for (node, asked) in graph.nodes().iter().zip(asked(graph)) {
            let hides = !asked || all.node(graph, node);
            let positional = match &node.op {
                Op::Arange(_) => true,
                op if op.info().has(Flag::Pointwise) || op.info().has(Flag::Movement) => {
                    node.args.iter().any(|a| all.positional[a.index()])
                }
                _ => false,
            };
            all.hides.push(hides);
            all.positional.push(positional);
        }
        all
    }

    fn get(&self, value: Value) -> bool {
        self.hides.get(value.index()).copied().unwrap_or(true)
    }

    fn node(&self, graph: &Graph, node: &Node) -> bool {
        let any = || node.args.iter().any(|a| self.get(*a));
        let is_bool = node
            .ty
            .as_tensor()
            .is_some_and(|ty| ty.dtype == DType::Bool);
        match &node.op {
            Op::Input(_) | Op::State(_) | Op::Host(_) | Op::Get(_) => true,
            // Each row of a triangle has its first key, at least.
            Op::Constant(constant) if self.triangles.contains(&constant.name) => false,
            Op::Constant(constant) => {
                let length = constant.ty.numel().as_const();
                let few = length.is_some_and(|n| n <= MOST_ELEMENTS);
                let known = graph.constants.get(&constant.name).filter(|_| few);
                let data = known.and_then(|c| c.data.as_ref()?.bytes().ok());
                data.is_none_or(|bytes| shows_not(&constant.ty, &bytes))
            }
            Op::Full(full) => match full.value {
                Scalar::Bool(shown) => !shown,
                value => value.as_f64() == f64::NEG_INFINITY,
            },
            Op::Eq(_) | Op::Ne(_) | Op::Lt(_) | Op::Le(_) | Op::Gt(_) | Op::Ge(_) => {
                !node.args.iter().any(|a| self.positional[a.index()])
            }
            // The numbers hide nothing by themselves: which is chosen may.
            Op::Where(_) => match node.args.as_slice() {
                [condition, a, b] if is_bool || self.get(*a) || self.get(*b) => {
                    let number = |v: &Value| matches!(graph.node(*v).op, Op::Full(_));
                    self.get(*condition) || [a, b].into_iter().any(|v| !number(v) && self.get(*v))
                }
                _ => false,
            },
            // To a number, whatever was false or −∞ before; from one, what is not 0.
            op if op.info().has(Flag::Pointwise) || op.info().has(Flag::Movement) => any(),
            Op::Take(_)
            | Op::TakeAlong(_)
            | Op::Gather(_)
            | Op::IndexCopy(_)
            | Op::SliceUpdate(_)
            | Op::ScatterAdd(_) => any(),
            _ => is_bool,
        }
    }
}

/// For each value, whether the mask of an attention depends on it. Nothing else is looked into: the bytes of a weight may be dear to make.
fn asked(graph: &Graph) -> Vec<bool> {
    let mut asked = vec![false; graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if let (Op::Sdpa(_), [_, _, _, mask]) = (&node.op, node.args.as_slice()) {
            asked[mask.index()] = true;
        }
        if asked[index] {
            for a in &node.args {
                asked[a.index()] = true;
            }
        }
    }
    asked
}

/// Whether a number of a mask shows its key.
fn shows(number: Scalar) -> bool {
    match number {
        Scalar::Bool(shown) => shown,
        number => number.as_f64() != f64::NEG_INFINITY,
    }
}

/// Whether the elements hold a false, or a −∞.
fn shows_not(ty: &TensorType, bytes: &[u8]) -> bool {
    let pattern: &[u8] = match ty.dtype {
        DType::Bool => return bytes.contains(&0),
        DType::F16 => &[0x00, 0xfc],
        DType::BF16 => &[0x80, 0xff],
        DType::F32 => &[0x00, 0x00, 0x80, 0xff],
        DType::F64 => &[0, 0, 0, 0, 0, 0, 0xf0, 0xff],
        _ => return true,
    };
    bytes
        .chunks_exact(pattern.len())
        .any(|element| element == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuseline_ir::text::parse;

    /// Whether the attention of a graph is guarded, where `lines` make the mask `%mask`.
    fn guarded(lines: &[&str]) -> bool {
        let text = format!(
            "graph \"g\" {{\n  %q = input[name=\"q\", ty=f32[1, 2, 4, 8]]\n  {}\n  %out = sdpa[scale=1.0, causal=false](%q, %q, %q, %mask)\n  output \"out\" = %out\n}}\n",
            lines.join("\n  ")
        );
        let graph = parse(&text).unwrap();
        let guarded = guard(&graph).unwrap();
        guarded.nodes().len() > graph.nodes().len()
    }

    #[test]
    fn a_mask_from_outside_may_hide_a_row() {
        assert!(guarded(&["%mask = input[name=\"m\", ty=bool[1, 1, 4, 4]]"]));
        assert!(guarded(&["%mask = input[name=\"m\", ty=f32[1, 1, 4, 4]]"]));
        assert!(guarded(&["%mask = input[name=\"m\", ty=f32[]]"]));
        assert!(guarded(&["%mask = input[name=\"m\", ty=bool[4]]"]));
    }

    #[test]
    fn a_comparison_of_positions_hides_none() {
        let causal = [
            "%k = arange[start=0, step=1, len=4, dtype=i64]",
            "%r = reshape[shape=[4, 1]](%k)",
            "%s = le(%k, %r)",
        ];
        let alone = [&causal[..], &["%mask = reshape[shape=[1, 1, 4, 4]](%s)"]].concat();
        assert!(!guarded(&alone));
        let both = [
            "%p = input[name=\"p\", ty=bool[1, 1, 1, 4]]",
            "%t = reshape[shape=[1, 1, 4, 4]](%s)",
            "%mask = logical_and(%t, %p)",
        ];
        assert!(guarded(&[&causal[..], &both].concat()));
    }

    #[test]
    fn finite_numbers_hide_nothing() {
        let chosen = |low: &str| {
            let low = format!("%low = full[value={low}, ty=f32[]]");
            guarded(&[
                "%p = input[name=\"p\", ty=bool[1, 1, 4, 4]]",
                "%zero = full[value=0.0, ty=f32[]]",
                &low,
                "%mask = where(%p, %zero, %low)",
            ])
        };
        assert!(chosen("-inf"));
        assert!(!chosen("-1e30"));
    }
}
