//! Another float dtype for a whole model, as `model.to(dtype)` gives it in PyTorch: `fuseline compile --dtype`.
//!
//! Replaced is the model's *own* dtype, that of most of its trained weights: weights, states and what is computed from them get the new one. Inputs and results
//! keep the dtypes that the export states and are converted at the border, so what calls the program needs no change.
//!
//! A model in f32 says nowhere where f32 matters, since there it is everywhere. So two kinds of values stay in f32 when such a model gets a narrow dtype, as they do
//! in PyTorch's own modules in that dtype:
//!
//! - *Positions*: what is computed from integers, literals and buffers alone, such as rotary tables and masks. It is converted where it meets data.
//! - *Statistics*: sums, means and what is made of them, and the squares, differences and exponentials that are summed. So a norm or a softmax that is
//!   written out accumulates in f32 and is rounded once, just as MLX's own do, and is still recognised as one.
//!
//! Ops that accumulate in f32 by themselves (products, attention, norms, softmax) are in the new dtype.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use fuseline_ir::graph::Payload;
use fuseline_ir::ops::table as op;
use fuseline_ir::{
    DType, Flag, Graph, Node, Op, OpError, Scalar, State, Symbol, Tensor, Type, Value,
};
use fuseline_passes::PassError;

use crate::quantize::Names;

/// The graph with its own float dtype replaced by `to`. `names` has the model's trained weights. Also the dtype that was replaced; none where nothing had to be.
///
/// # Errors
/// A node that can't be added again: a bug.
pub fn convert(
    graph: &Graph,
    to: DType,
    names: &Names,
) -> Result<(Graph, Option<DType>), PassError> {
    let from = own_dtype(graph, names);
    if from == to {
        return Ok((graph.clone(), None));
    }
    let plan = Plan::new(graph, from, to, names);
    Ok((Rebuild::new(&plan).run()?, Some(from)))
}

/// The float dtype of most of the trained weights' bytes; of floats in general where there are none.
fn own_dtype(graph: &Graph, names: &Names) -> DType {
    let mut bytes: BTreeMap<DType, usize> = BTreeMap::new();
    for (name, constant) in &graph.constants {
        let size = constant.ty.static_shape().unwrap_or_default();
        if names.contains_key(name) && constant.ty.dtype.is_float() {
            let size = size.iter().product::<usize>() * constant.ty.dtype.size();
            *bytes.entry(constant.ty.dtype).or_default() += size;
        }
    }
    let most = bytes.into_iter().max_by_key(|(_, size)| *size);
    most.map_or(DType::F32, |(dtype, _)| dtype)
}

/// What a value of the model's own dtype becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of another dtype, or no tensor.
    Other,
    /// Of the new dtype.
    Data,
    /// Stays: computed from integers, literals and buffers.
    Position,
    /// Stays: a sum, or made of sums.
    Statistic,
}

/// What happens to each value.
struct Plan<'g> {
    graph: &'g Graph,
    from: DType,
    to: DType,
    names: &'g Names,
    kinds: Vec<Kind>,
    /// Whether the node is computed in the old dtype; its result is rounded where its kind is `Data`.
    wide: Vec<bool>,
}

impl<'g> Plan<'g> {
    fn new(graph: &'g Graph, from: DType, to: DType, names: &'g Names) -> Plan<'g> {
        let mut plan = Plan {
            graph,
            from,
            to,
            names,
            kinds: Vec::new(),
            wide: Vec::new(),
        };
        for node in graph.nodes() {
            let (kind, wide) = plan.kind(node);
            plan.kinds.push(kind);
            plan.wide.push(wide);
        }
        if plan.narrows() {
            plan.widen();
        }
        plan
    }

    /// Whether precision is lost, so that some values had better stay.
    fn narrows(&self) -> bool {
        self.from.size() > self.to.size()
    }

    fn is_own(&self, ty: &Type) -> bool {
        ty.as_tensor().is_some_and(|t| t.dtype == self.from)
    }

    fn arg_kinds(&self, node: &Node) -> Vec<Kind> {
        node.args.iter().map(|a| self.kinds[a.index()]).collect()
    }

    /// What a node's result becomes, and whether the node is computed in the old dtype.
    fn kind(&self, node: &Node) -> (Kind, bool) {
        let own = self.is_own(&node.ty);
        let result = |kind: Kind| if own { kind } else { Kind::Other };
        if matches!(node.op, Op::Host(_)) {
            return (result(Kind::Position), true);
        }
        if !self.narrows() {
            return (result(Kind::Data), false);
        }
        let args = self.arg_kinds(node);
        let data = args.contains(&Kind::Data);
        let statistic = args.contains(&Kind::Statistic);
        match &node.op {
            Op::Input(_) | Op::State(_) | Op::Dequantize(_) => (result(Kind::Data), false),
            Op::Constant(op) if self.names.contains_key(&op.name) => (result(Kind::Data), false),
            Op::Sum(_) | Op::Mean(_) | Op::Prod(_) | Op::Cumsum(_) | Op::Amax(_) | Op::Amin(_)
                if data =>
            {
                (result(Kind::Statistic), true)
            }
            _ if !data => {
                let kind = if statistic {
                    Kind::Statistic
                } else {
                    Kind::Position
                };
                (result(kind), true)
            }
            // A statistic meets data: rounded after that.
            op if op.info().has(Flag::Pointwise) && statistic => (result(Kind::Data), true),
            _ => (result(Kind::Data), false),
        }
    }

    /// What is only made to be summed stays, if it is made of one value.
    fn widen(&mut self) {
        let mut users = vec![Vec::new(); self.graph.nodes().len()];
        for (value, node) in self.graph.values() {
            for arg in &node.args {
                users[arg.index()].push(value);
            }
        }
        let roots: BTreeSet<Value> = self.graph.roots().into_iter().collect();
        let wide = self.wide.iter().zip(&self.kinds);
        let mut sums: Vec<bool> = wide
            .map(|(wide, kind)| *wide && *kind != Kind::Position)
            .collect();
        for at in (0..sums.len()).rev() {
            let value = Value::from_index(at);
            let node = self.graph.node(value);
            let made_of: BTreeSet<Value> = node
                .args
                .iter()
                .copied()
                .filter(|a| self.kinds[a.index()] == Kind::Data)
                .collect();
            let summed = !users[at].is_empty() && users[at].iter().all(|u| sums[u.index()]);
            if self.kinds[at] == Kind::Data
                && node.op.info().has(Flag::Pointwise)
                && made_of.len() == 1
                && summed
                && !roots.contains(&value)
            {
                self.kinds[at] = Kind::Statistic;
                self.wide[at] = true;
                sums[at] = true;
            }
        }
    }
}

/// The graph under construction.
struct Rebuild<'p, 'g> {
    plan: &'p Plan<'g>,
    out: Graph,
    /// What stands for each old value.
    map: Vec<Value>,
    casts: BTreeMap<(Value, DType), Value>,
}

impl<'p, 'g> Rebuild<'p, 'g> {
    fn new(plan: &'p Plan<'g>) -> Self {
        let mut out = plan.graph.rebuilt();
        let initial = plan.graph.states.iter().filter_map(|s| s.init.as_ref());
        let initial: BTreeSet<&Symbol> = initial.collect();
        for (name, constant) in &mut out.constants {
            let data = plan.names.contains_key(name) || initial.contains(name) || !plan.narrows();
            if data && constant.ty.dtype == plan.from {
                let old = constant.clone();
                constant.ty.dtype = plan.to;
                constant.data = old.data.map(|data| {
                    let data: Arc<dyn Payload> = Arc::new(Converted {
                        data,
                        from: plan.from,
                        to: plan.to,
                    });
                    data
                });
            }
        }
        for state in &mut out.states {
            if state.ty.dtype == plan.from {
                state.ty.dtype = plan.to;
            }
        }
        Rebuild {
            plan,
            out,
            map: Vec::new(),
            casts: BTreeMap::new(),
        }
    }

    fn run(mut self) -> Result<Graph, PassError> {
        let graph = self.plan.graph;
        for (value, node) in graph.values() {
            let start = self.out.nodes().len();
            let new = self.node(value, node).map_err(|error| PassError::Op {
                pass: "convert",
                place: graph.describe(value, node),
                error,
            })?;
            self.out.place_from(start, &node.loc);
            self.map.push(new);
        }
        let ends = |error| PassError::Op {
            pass: "convert",
            place: "the results".to_owned(),
            error,
        };
        for output in &graph.outputs {
            let value = match graph.ty(output.value).as_tensor() {
                Some(ty) => self.to(output.value, ty.dtype).map_err(ends)?,
                None => self.map[output.value.index()],
            };
            self.out.output(output.name.clone(), value);
        }
        let mut states: Vec<State> = self.out.states.clone();
        for (state, old) in states.iter_mut().zip(&graph.states) {
            if let Some(next) = old.next {
                state.next = Some(self.to(next, state.ty.dtype).map_err(ends)?);
            }
        }
        self.out.states = states;
        Ok(self.out)
    }

    /// An old value in a dtype.
    fn to(&mut self, old: Value, dtype: DType) -> Result<Value, OpError> {
        let value = self.map[old.index()];
        if self.out.tensor_ty(value)?.dtype == dtype {
            return Ok(value);
        }
        if let Some(known) = self.casts.get(&(value, dtype)) {
            return Ok(*known);
        }
        let node = self.out.node(value).clone();
        let new = match &node.op {
            Op::Full(full) => {
                let mut full = full.clone();
                full.ty.dtype = dtype;
                full.value = within(full.value, dtype);
                self.out.add(full, &[], &node.loc)?
            }
            _ => self.out.add(op::Cast { dtype }, &[value], &node.loc)?,
        };
        self.casts.insert((value, dtype), new);
        Ok(new)
    }

    fn node(&mut self, value: Value, node: &Node) -> Result<Value, OpError> {
        let plan = self.plan;
        let (kind, wide) = (plan.kinds[value.index()], plan.wide[value.index()]);
        let computed = if wide { plan.from } else { plan.to };
        let mut args = Vec::with_capacity(node.args.len());
        for (at, arg) in node.args.iter().enumerate() {
            // The kernel of the rotary embedding takes periods in f32, whatever it turns.
            let periods = at == 2 && matches!(node.op, Op::Rope(_));
            args.push(if plan.is_own(plan.graph.ty(*arg)) && !periods {
                self.to(*arg, computed)?
            } else if periods {
                self.to(*arg, DType::F32)?
            } else {
                self.map[arg.index()]
            });
        }
        let mut op = node.op.clone();
        if kind == Kind::Data && !wide {
            match &mut op {
                Op::Constant(op) if op.ty.dtype == plan.from => op.ty.dtype = plan.to,
                Op::State(op) if op.ty.dtype == plan.from => op.ty.dtype = plan.to,
                Op::Full(op) if op.ty.dtype == plan.from => {
                    op.ty.dtype = plan.to;
                    op.value = within(op.value, plan.to);
                }
                Op::Cast(op) if op.dtype == plan.from => op.dtype = plan.to,
                Op::Dequantize(op) if op.dtype == plan.from => op.dtype = plan.to,
                Op::UpdateAndAttend(op) if op.out_dtype == plan.from => op.out_dtype = plan.to,
                _ => {}
            }
        }
        if let Op::Full(full) = &mut op {
            // The lowest number of a wide dtype stands for "never"; as an infinity it would make NaN of a row that is all of it.
            full.value = within(
                full.value,
                if plan.narrows() {
                    plan.to
                } else {
                    full.ty.dtype
                },
            );
        }
        let new = self.out.add(op, &args, &node.loc)?;
        if kind == Kind::Data && self.out.tensor_ty(new)?.dtype != plan.to {
            return self.out.add(op::Cast { dtype: plan.to }, &[new], &node.loc);
        }
        Ok(new)
    }
}

/// A finite literal that the dtype can't hold becomes the largest that it can.
fn within(value: Scalar, dtype: DType) -> Scalar {
    let most = match dtype {
        DType::F16 => f64::from(half::f16::MAX.to_f32()),
        DType::BF16 => f64::from(half::bf16::MAX.to_f32()),
        DType::F32 => f64::from(f32::MAX),
        _ => return value,
    };
    match value {
        Scalar::Float(_) if value.as_f64().is_finite() && value.as_f64().abs() > most => {
            Scalar::float(most.copysign(value.as_f64()))
        }
        _ => value,
    }
}

/// A constant's elements in another float dtype, converted when they are asked for.
struct Converted {
    data: Arc<dyn Payload>,
    from: DType,
    to: DType,
}

impl Converted {
    fn convert(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let count = bytes.len() / self.from.size();
        let fail = |e: OpError| e.to_string();
        match (self.from, self.to) {
            (DType::F32, DType::BF16 | DType::F16) => {
                let narrow: fn(f32) -> [u8; 2] = if self.to == DType::BF16 {
                    |x| half::bf16::from_f32(x).to_le_bytes()
                } else {
                    |x| half::f16::from_f32(x).to_le_bytes()
                };
                let words = bytes.chunks_exact(4);
                let floats = words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                Ok(floats.flat_map(narrow).collect())
            }
            _ => {
                let tensor = Tensor::from_bytes(self.from, vec![count], bytes).map_err(fail)?;
                let tensor = Tensor::floats(self.to, vec![count], tensor.to_f64()).map_err(fail)?;
                Ok(tensor.to_bytes())
            }
        }
    }
}

impl Payload for Converted {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.convert(&self.data.bytes()?).map(Cow::Owned)
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let (old, new) = (self.from.size(), self.to.size());
        let (first, last) = (range.start / new, range.end.div_ceil(new));
        let mut out = self.convert(&self.data.range(first * old..last * old)?)?;
        let skipped = range.start - first * new;
        out.truncate(skipped + range.len());
        out.drain(..skipped);
        Ok(Cow::Owned(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuseline_ir::text;

    /// The largest difference between what a graph gives for numbers of `to` and what it gives when it is converted, in units of the last place of numbers as
    /// large as the result's root mean square.
    fn off(body: &str, to: DType) -> f64 {
        let text = format!(
            "graph \"forward\" {{\n  %x = input[name=\"x\", ty=f32[2, 4096]]\n{body}  output \"y\" = %y\n}}"
        );
        let wide = text::parse(&text).unwrap();
        let (narrow, from) = convert(&wide, to, &Names::new()).unwrap();
        assert_eq!(from, Some(DType::F32));
        narrow.verify().unwrap();
        // Far from 0, so that sums are large beside what is added to them.
        let x = |i: usize| to.round(3.0 + (i as f64 * 0.7).sin() + (i as f64 * 0.013).cos());
        let x = Tensor::from_fn(DType::F32, vec![2, 4096], |i| Scalar::float(x(i))).unwrap();
        let run = |graph: &Graph| {
            let results = graph
                .eval(std::slice::from_ref(&x), &BTreeMap::new())
                .unwrap();
            results.outputs[0].to_f64()
        };
        let (exact, found) = (run(&wide), run(&narrow));
        let mean = exact.iter().map(|y| y * y).sum::<f64>() / exact.len() as f64;
        let last_place = if to == DType::BF16 { -7 } else { -10 };
        let unit =
            |y: f64| (y.abs().max(mean.sqrt()).log2().floor() + f64::from(last_place)).exp2();
        let pairs = exact.iter().zip(&found);
        pairs
            .map(|(a, b)| (a - b).abs() / unit(*a))
            .fold(0.0, f64::max)
    }

    #[test]
    fn norms_and_softmax_accumulate_in_f32() {
        let softmax = "
  %m = amax[axes=[1], keepdim=true](%x)
  %d = sub(%x, %m)
  %e = exp(%d)
  %s = sum[axes=[1], keepdim=true](%e)
  %y = div(%e, %s)
";
        let rms = "
  %q = mul(%x, %x)
  %m = mean[axes=[1], keepdim=true](%q)
  %r = rsqrt(%m)
  %y = mul(%x, %r)
";
        let layer = "
  %m = mean[axes=[1], keepdim=true](%x)
  %d = sub(%x, %m)
  %q = mul(%d, %d)
  %v = mean[axes=[1], keepdim=true](%q)
  %r = rsqrt(%v)
  %y = mul(%d, %r)
";
        // What is not summed is rounded at most twice, half a unit each.
        for body in [softmax, rms, layer] {
            for to in [DType::BF16, DType::F16] {
                let off = off(body, to);
                assert!(off <= 1.01, "{off} units in {to}:{body}");
            }
        }
    }
}
