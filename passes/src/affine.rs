//! What the channels of a convolution or a product are multiplied by goes into its weights, and what is added to them is one summand.
//!
//! A batch norm after a convolution is four steps over the whole result; with its statistics fixed it is `s · x + t` for each channel, `s` is a matter of the weights,
//! and `s` and `t` are computed before the first step. The same holds for a product and a scale of its columns (a layer scale).
//!
//! In `f16` only where the weights that come of it, and what is added, are known to keep its range and its digits: a batch norm may divide by a very small number, and a layer scale be one.
//!
//! Only chains that nothing else reads are rewritten, and only weights that nothing else reads: another copy of them would be kept otherwise.
//!
//! Numerics: reassociates.

use crate::build::{least_normal, lowest};
use crate::fold;
use crate::hoist::const_only;
use crate::pass::{Numerics, PassCx, PassError};
use crate::shapes::wide_axes;
use crate::sweep;
use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Graph, Loc, Op, OpError, Value};

/// The pass's name.
pub const NAME: &str = "affine";

/// The most elements of `f16` weights that are looked at, in steps of the work that [`fold::known`] counts: more are left as they are.
const NARROW_WORK: usize = 1 << 24;

/// The most that may be added to a channel in `f16`, a sixteenth of its range.
const ROOM: f64 = 4094.0;

/// The pass: see the module.
///
/// # Errors
/// An op that the pass built doesn't take its arguments, which is a bug.
pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError> {
    if cx.numerics < Numerics::Reassociates {
        return Ok(graph.clone());
    }
    let chains = Chains::new(graph);
    let rewritten = sweep::replaced(graph, |out, map, value| {
        let steps = chains.ending(value);
        steps.map(|steps| chains.emit(out, map, &steps)).transpose()
    });
    rewritten.map_err(PassError::op(NAME, format!("graph \"{}\"", graph.name)))
}

/// A value on the way from a convolution or product through steps that treat each channel alike.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// The argument that the way comes from; none for the convolution or product itself.
    from: Option<Value>,
    /// The axis of the channels.
    axis: usize,
    /// Multiplications by a number for each channel so far.
    scales: usize,
    /// Multiplications and additions so far.
    steps: usize,
}

/// For each value of a graph, whether it is on such a way.
struct Chains<'a> {
    graph: &'a Graph,
    fixed: Vec<bool>,
    links: Vec<Option<Link>>,
    /// Whether the one user of a value continues its way.
    continues: Vec<bool>,
}

impl<'a> Chains<'a> {
    fn new(graph: &'a Graph) -> Chains<'a> {
        let uses = graph.use_counts();
        let mut chains = Chains {
            graph,
            fixed: const_only(graph),
            links: Vec::with_capacity(graph.nodes().len()),
            continues: vec![false; graph.nodes().len()],
        };
        for (value, _) in graph.values() {
            let link = chains
                .start(value, &uses)
                .or_else(|| chains.step(value, &uses));
            if let Some(from) = link.and_then(|l| l.from) {
                chains.continues[from.index()] = true;
            }
            chains.links.push(link);
        }
        chains
    }

    /// A way begins at a convolution or product of which the weights are its own.
    fn start(&self, value: Value, uses: &[usize]) -> Option<Link> {
        let node = self.graph.node(value);
        let rank = node.ty.as_tensor()?.rank();
        let weights = *node.args.get(1)?;
        let matrix = self.graph.ty(weights).as_tensor()?.rank() == 2;
        let product = matches!(node.op, Op::Matmul(_)) && matrix;
        if !product && !matches!(node.op, Op::Conv(_)) {
            return None;
        }
        let mut source = weights;
        while matches!(
            self.graph.node(source).op,
            Op::Transpose(_) | Op::Reshape(_)
        ) && uses[source.index()] == 1
        {
            source = self.graph.node(source).args[0];
        }
        let own =
            matches!(self.graph.node(source).op, Op::Constant(_)) && uses[source.index()] == 1;
        own.then_some(Link {
            from: None,
            axis: rank - 1,
            scales: 0,
            steps: 0,
        })
    }

    /// A way goes on where a value that has no other user is moved, or combined with a constant for each channel.
    fn step(&self, value: Value, uses: &[usize]) -> Option<Link> {
        let node = self.graph.node(value);
        let on_way = |v: &Value| self.links[v.index()].filter(|_| uses[v.index()] == 1);
        if let Op::Transpose(_) | Op::Reshape(_) = &node.op {
            let from = node.args[0];
            let link = on_way(&from)?;
            let axis = self.moved(from, value, link.axis)?;
            return Some(Link {
                from: Some(from),
                axis,
                ..link
            });
        }
        let &[a, b] = node.args.as_slice() else {
            return None;
        };
        let turned = matches!(node.op, Op::Add(_) | Op::Mul(_));
        let plain = turned || matches!(node.op, Op::Sub(_) | Op::Div(_));
        let (from, other) = match (on_way(&a), on_way(&b)) {
            (Some(_), _) if plain && self.fixed[b.index()] => (a, b),
            (_, Some(_)) if turned && self.fixed[a.index()] => (b, a),
            _ => return None,
        };
        let link = on_way(&from)?;
        let (x, c) = (
            self.graph.ty(from).as_tensor()?,
            self.graph.ty(other).as_tensor()?,
        );
        let missing = x.rank().checked_sub(c.rank())?;
        let each = c
            .shape
            .iter()
            .enumerate()
            .all(|(i, d)| d.is(1) || i + missing == link.axis);
        if node.ty.as_tensor() != Some(x) || c.dtype != x.dtype || !each {
            return None;
        }
        let scale = matches!(node.op, Op::Mul(_) | Op::Div(_)) && wide_axes(&c.shape) > 0;
        Some(Link {
            from: Some(from),
            axis: link.axis,
            scales: link.scales + usize::from(scale),
            steps: link.steps + 1,
        })
    }

    /// Where the axis of the channels lies after a movement: any place after a transposition, the last one after a reshape of the others.
    fn moved(&self, from: Value, to: Value, axis: usize) -> Option<usize> {
        if let Op::Transpose(t) = &self.graph.node(to).op {
            return t.perm.iter().position(|&p| p == axis);
        }
        let (x, y) = (
            self.graph.ty(from).as_tensor()?,
            self.graph.ty(to).as_tensor()?,
        );
        let kept = axis + 1 == x.rank() && x.shape.last() == y.shape.last();
        kept.then(|| y.rank() - 1)
    }

    /// The values of the way that ends at `value`, the convolution or product first, where it is worth being rewritten.
    fn ending(&self, value: Value) -> Option<Vec<Value>> {
        let link = self.links[value.index()].filter(|_| !self.continues[value.index()])?;
        if link.scales == 0 {
            return None;
        }
        let mut steps = vec![value];
        let mut at = link;
        while let Some(from) = at.from {
            steps.push(from);
            at = self.links[from.index()]?;
        }
        steps.reverse();
        self.keeps_range(&steps).then_some(steps)
    }

    /// Whether the weights of the way stay in the range of their dtype.
    fn keeps_range(&self, steps: &[Value]) -> bool {
        let half = |v: &Value| {
            self.graph
                .tensor_ty(*v)
                .is_ok_and(|t| t.dtype == DType::F16)
        };
        !steps.first().is_some_and(half) || self.narrow(steps).is_some()
    }

    /// That the way can be folded in `f16`: each channel's largest weight keeps its digits and the range, and so does what is added to it on the way, with room for what it is added to.
    fn narrow(&self, steps: &[Value]) -> Option<()> {
        let (&base, rest) = steps.split_first()?;
        let node = self.graph.node(base);
        let known = |v: Value| Some(fold::known(self.graph, v, NARROW_WORK)?.to_f64());
        let weights = known(node.args[1])?;
        let shape = self.graph.tensor_ty(node.args[1]).ok()?.static_shape()?;
        let conv = matches!(node.op, Op::Conv(_));
        let channels = *if conv { shape.first()? } else { shape.last()? };
        let (mut scale, mut shift) = (vec![1.0; channels], vec![0.0; channels]);
        for (&step, &from) in rest.iter().zip(steps) {
            let node = self.graph.node(step);
            let Some(&other) = node.args.iter().find(|a| **a != from) else {
                continue;
            };
            let c = known(other)?;
            for (i, (scale, shift)) in scale.iter_mut().zip(&mut shift).enumerate() {
                let c = *c.get(if c.len() == 1 { 0 } else { i })?;
                match node.op {
                    Op::Mul(_) => (*scale, *shift) = (*scale * c, *shift * c),
                    Op::Div(_) => (*scale, *shift) = (*scale / c, *shift / c),
                    Op::Sub(_) => *shift -= c,
                    _ => *shift += c,
                }
                (shift.abs() <= ROOM && scale.is_finite()).then_some(())?;
            }
        }
        let mut largest = vec![0.0f64; channels];
        for (i, w) in weights.iter().enumerate() {
            let channel = if conv {
                i * channels / weights.len()
            } else {
                i % channels
            };
            largest[channel] = largest[channel].max(w.abs());
        }
        let kept = |(w, s): (f64, f64)| {
            let product = w * s.abs();
            product == 0.0 && (w == 0.0 || s == 0.0)
                || (least_normal(DType::F16)..=-lowest(DType::F16)).contains(&product)
        };
        largest.into_iter().zip(scale).all(kept).then_some(())
    }

    fn emit(&self, out: &mut Graph, map: &[Value], steps: &[Value]) -> Result<Value, OpError> {
        let Some((&base, rest)) = steps.split_first() else {
            return Err(OpError::new(NAME, "a way without values"));
        };
        let node = self.graph.node(base);
        let loc = &node.loc;
        let (mut scale, mut shift) = (None, None);
        for (&step, &from) in rest.iter().zip(steps) {
            let node = self.graph.node(step);
            let Some(other) = node.args.iter().find(|a| **a != from) else {
                continue;
            };
            let c = vector(out, map[other.index()], loc)?;
            if let Op::Mul(_) | Op::Div(_) = node.op {
                scale = Some(then(out, scale, &node.op, c, loc)?);
                if shift.is_none() {
                    continue;
                }
            }
            shift = Some(then(out, shift, &node.op, c, loc)?);
        }
        let mut args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        if let Some(scale) = scale {
            let scale = match node.op {
                // Channels are the first axis of a convolution's weights, and the last of a matrix.
                Op::Conv(_) => {
                    let size = out.tensor_ty(scale)?.shape[0].clone();
                    let mut shape = vec![Dim::from(1i64); out.tensor_ty(args[1])?.rank()];
                    shape[0] = size;
                    out.add(op::Reshape { shape }, &[scale], loc)?
                }
                _ => scale,
            };
            args[1] = out.add(op::Mul {}, &[args[1], scale], loc)?;
        }
        let mut value = out.add(node.op.clone(), &args, loc)?;
        if let Some(shift) = shift {
            value = out.add(op::Add {}, &[value, shift], loc)?;
        }
        for &step in rest {
            if let op @ (Op::Transpose(_) | Op::Reshape(_)) = &self.graph.node(step).op {
                value = out.add(op.clone(), &[value], loc)?;
            }
        }
        Ok(value)
    }
}

/// A constant that is wide along one axis at most, as a vector.
fn vector(out: &mut Graph, c: Value, loc: &Loc) -> Result<Value, OpError> {
    let wide = out.tensor_ty(c)?.shape.iter().find(|d| !d.is(1)).cloned();
    let shape = vec![wide.unwrap_or_else(|| Dim::from(1i64))];
    out.add(op::Reshape { shape }, &[c], loc)
}

/// What was gathered so far and one more step; at first, the step alone.
fn then(
    out: &mut Graph,
    sofar: Option<Value>,
    step: &Op,
    c: Value,
    loc: &Loc,
) -> Result<Value, OpError> {
    match (sofar, step) {
        (Some(x), _) => out.add(step.clone(), &[x, c], loc),
        (None, Op::Div(_)) => out.add(op::Reciprocal {}, &[c], loc),
        (None, Op::Sub(_)) => out.add(op::Neg {}, &[c], loc),
        (None, _) => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;

    fn count(text: &str, numerics: Numerics, name: &str) -> usize {
        let graph = fuseline_ir::text::parse(text).unwrap();
        let mut cx = PassCx::new(Target::Cpu);
        cx.numerics = numerics;
        let out = run(&graph, &cx).unwrap();
        out.verify().unwrap();
        let live = out.live();
        let fixed = const_only(&out);
        let counted = |(v, n): &(Value, &fuseline_ir::Node)| {
            live[v.index()] && !fixed[v.index()] && n.op.name() == name
        };
        out.values().filter(counted).count()
    }

    const NORM: &str = r#"graph "norm" {
  data "w" : f32[2, 1, 1, 3]
  data "m" : f32[2, 1, 1] = [1.0, 2.0]
  data "s" : f32[2, 1, 1] = [3.0, 4.0]
  %x = input[name="x", ty=f32[1, 4, 4, 3]]
  %w = constant[name="w", ty=f32[2, 1, 1, 3]]
  %m = constant[name="m", ty=f32[2, 1, 1]]
  %s = constant[name="s", ty=f32[2, 1, 1]]
  %c = conv[stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1](%x, %w)
  %t = transpose[perm=[0, 3, 1, 2]](%c)
  %a = sub(%t, %m)
  %b = mul(%a, %s)
  %d = add(%b, %m)
  output "d" = %d
}"#;

    #[test]
    fn a_norm_after_a_convolution_is_one_summand() {
        let left = |name| count(NORM, Numerics::Reassociates, name);
        assert_eq!([left("sub"), left("mul"), left("add")], [0, 0, 1]);
    }

    #[test]
    fn exact_numerics_keep_the_steps() {
        let left = |name| count(NORM, Numerics::Exact, name);
        assert_eq!([left("sub"), left("mul"), left("add")], [1, 1, 1]);
    }

    #[test]
    fn a_value_on_the_way_that_is_read_elsewhere_keeps_its_steps() {
        let read = NORM.replace("  output", "  output \"a\" = %a\n  output");
        let left = |name| count(&read, Numerics::Reassociates, name);
        assert_eq!([left("sub"), left("mul"), left("add")], [1, 1, 1]);
    }

    #[test]
    fn f16_keeps_the_steps_where_its_range_wants_them() {
        let half = |scale: &str, weights: &str| {
            let text = NORM
                .replace(
                    "f32[2, 1, 1] = [3.0, 4.0]",
                    &format!("f32[2, 1, 1] = {scale}"),
                )
                .replace(
                    "f32[2, 1, 1, 3]\n",
                    &format!("f32[2, 1, 1, 3] = {weights}\n"),
                )
                .replace("f32", "f16");
            count(&text, Numerics::Reassociates, "mul")
        };
        let plain = "[0.5, -0.25, 0.125, 1.0, 0.0, 2.0]";
        assert_eq!(half("[3.0, 4.0]", plain), 0);
        // The shift, 2 · 40000; then the weights, 2 · 40000 and 0.001 · 0.001.
        assert_eq!(half("[3.0, 40000.0]", plain), 1);
        assert_eq!(
            half("[3.0, 0.00001]", "[0.5, 0.5, 0.5, 0.001, 0.001, 0.001]"),
            1
        );
        assert_eq!(half("[3.0, 0.0]", plain), 0);
    }

    #[test]
    fn what_differs_between_positions_is_no_matter_of_channels() {
        let rows = NORM
            .replace(
                "f32[2, 1, 1] = [3.0, 4.0]",
                "f32[1, 4, 1] = [3.0, 4.0, 5.0, 6.0]",
            )
            .replace("name=\"s\", ty=f32[2, 1, 1]", "name=\"s\", ty=f32[1, 4, 1]");
        let left = |name| count(&rows, Numerics::Reassociates, name);
        assert_eq!([left("sub"), left("mul"), left("add")], [1, 1, 1]);
    }
}
