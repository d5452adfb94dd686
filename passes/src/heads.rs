//! The law of heads: a product of matrices, and a softmax over its rows, don't mind how the axes before them are arranged.
//!
//! Attention is thought of with four axes: batch, heads, rows, keys. Models write it with two or three, with batch and heads merged for `bmm`, with heads in groups of a
//! fifth axis, or with the rows of a group folded together. The rules of attention know the four axes only. So where a softmax stands between two products, and the whole isn't
//! written on four axes, the e-graph gets a twin that is: what leads from the one product to the other is built again on `[batch, heads, rows, keys]`, keys and values
//! repeated for the heads that share them, and the twin's result reshaped is the other's.
//!
//! It is a law about all ops that work along the last axis alone, at once, so it is not a row of the table of rules; each element is computed from the same numbers in the same
//! order. Whether it pays, extraction decides.

mod operand;

use crate::egraph::{EGraph, ENode, add_near};
use crate::shapes::product;
use egg::Id;
use fuseline_ir::ops::movement::Reshape;
use fuseline_ir::ops::{norm, reduce};
use fuseline_ir::{Dim, Flag, Graph, Node, Op, TensorType, Type, Value};
use operand::{Operand, lead, matrix};
use std::collections::{BTreeMap, BTreeSet};

/// The name under which reports count it.
pub const NAME: &str = "heads";

/// The most values between two products that are looked at.
const MOST: usize = 48;

/// Adds the twins of a graph to its e-graph: each product with values, and the class that is its twin, for the caller to unite. In the order of the graph.
pub fn add(graph: &Graph, egraph: &mut EGraph, classes: &[Option<Id>]) -> Vec<(Value, Id)> {
    let between = Between::of(graph);
    let mut out = Vec::new();
    for (value, node) in graph.values() {
        if classes[value.index()].is_none() {
            continue;
        }
        let region = match &node.op {
            Op::Sdpa(_) => Region::merged(graph, node),
            _ => Region::at(graph, &between, node),
        };
        let Some(region) = region else {
            continue;
        };
        let near = u32::try_from(value.index()).unwrap_or(u32::MAX);
        let mut lift = Lift {
            graph,
            egraph,
            classes,
            near,
            region: &region,
            done: BTreeMap::new(),
        };
        if let Some(twin) = lift.root(value, node) {
            out.push((value, twin));
        }
    }
    out
}

/// What stands between a product of queries with keys and one of weights with values.
struct Between {
    /// Values that come from a product through ops along the last axis.
    scores: Vec<bool>,
    /// Of those, the ones with a softmax, or its exponential, on the way.
    weights: Vec<bool>,
}

impl Between {
    fn of(graph: &Graph) -> Between {
        let mut out = Between {
            scores: Vec::with_capacity(graph.nodes().len()),
            weights: Vec::with_capacity(graph.nodes().len()),
        };
        for (value, node) in graph.values() {
            let from = |flags: &[bool]| node.args.iter().any(|a| flags[a.index()]);
            let along = along_the_last_axis(graph, value, node);
            let softmax = along && matches!(node.op, Op::Softmax(_) | Op::Exp(_));
            let scores = along && from(&out.scores);
            let weights = scores && (softmax || from(&out.weights));
            out.scores.push(scores || matches!(node.op, Op::Matmul(_)));
            out.weights.push(weights);
        }
        out
    }
}

/// Whether the op treats each row of the last axis by itself, whatever the axes before it are.
fn along_the_last_axis(graph: &Graph, value: Value, node: &Node) -> bool {
    let Some(ty) = graph.ty(value).as_tensor() else {
        return false;
    };
    let last = ty.rank().wrapping_sub(1);
    match &node.op {
        Op::Softmax(softmax) => softmax.axis == last,
        Op::Sum(reduce::Sum { axes, keepdim })
        | Op::Amax(reduce::Amax { axes, keepdim })
        | Op::Any(reduce::Any { axes, keepdim }) => *keepdim && axes.as_slice() == [last],
        Op::Reshape(_) => {
            let from = graph.ty(node.args[0]).as_tensor();
            from.is_some_and(|from| from.rank() > 0 && from.shape.last() == ty.shape.last())
        }
        op => op.info().has(Flag::Pointwise) && !op.info().has(Flag::Fused),
    }
}

/// An attention that is not written on four axes.
struct Region {
    /// Values from the product with the keys to the weights, both included.
    inner: BTreeSet<Value>,
    /// Batch and heads.
    batch: Dim,
    heads: Dim,
    /// Rows of each head.
    rows: Dim,
    /// Number of keys.
    keys: Dim,
}

impl Region {
    /// The region that ends in the node.
    fn at(graph: &Graph, between: &Between, node: &Node) -> Option<Region> {
        let (Op::Matmul(_), &[weights, values]) = (&node.op, node.args.as_slice()) else {
            return None;
        };
        if !between.weights[weights.index()] {
            return None;
        }
        let mut inner = BTreeSet::new();
        let mut todo = vec![weights];
        let mut softmax = None;
        while let Some(v) = todo.pop() {
            if !inner.insert(v) {
                continue;
            }
            if inner.len() > MOST {
                return None;
            }
            let node = graph.node(v);
            if matches!(node.op, Op::Softmax(_) | Op::Exp(_)) {
                softmax = softmax.max(Some(v));
            }
            if !matches!(node.op, Op::Matmul(_)) {
                todo.extend(node.args.iter().filter(|a| between.scores[a.index()]));
            }
        }
        let scores = shape(graph, softmax?)?;
        let (lead, [rows, keys]) = (lead(scores), matrix(scores)?);
        let (batch, heads) = match lead {
            [] => (Dim::from(1i64), Dim::from(1i64)),
            [merged] => apart(graph, &inner, values, merged)
                .unwrap_or_else(|| (Dim::from(1i64), merged.clone())),
            [batch, heads @ ..] => (batch.clone(), product(heads)),
        };
        let region = Region {
            inner,
            batch,
            heads,
            rows: rows.clone(),
            keys: keys.clone(),
        };
        (!region.is_plain(graph, values)).then_some(region)
    }

    /// An attention of one batch whose heads are those of several, merged.
    fn merged(graph: &Graph, node: &Node) -> Option<Region> {
        let &[q, k, v, ..] = node.args.as_slice() else {
            return None;
        };
        let of = |x: Value| Some(Operand::of(graph, x, lead(shape(graph, x)?))?.full);
        let (from, own) = (of(q)?, lead(shape(graph, q)?));
        let [batch, heads @ ..] = from.as_slice() else {
            return None;
        };
        let together = |x: Value| of(x).is_some_and(|f| f.len() > 1 && f[0] == *batch);
        let several = own.first()?.is(1) && !batch.is(1) && [q, k, v].into_iter().all(together);
        let [rows, _] = matrix(shape(graph, q)?)?;
        let [keys, _] = matrix(shape(graph, k)?)?;
        several.then(|| Region {
            inner: BTreeSet::new(),
            batch: batch.clone(),
            heads: product(heads),
            rows: rows.clone(),
            keys: keys.clone(),
        })
    }

    /// Whether everything has the four axes already, or reads as if it had.
    fn is_plain(&self, graph: &Graph, values: Value) -> bool {
        let leads = |v: Value| {
            shape(graph, v).is_some_and(|s| lead(s) == [self.batch.clone(), self.heads.clone()])
        };
        leads(values)
            && self.inner.iter().all(|v| {
                let node = graph.node(*v);
                let operands = matches!(node.op, Op::Matmul(_));
                leads(*v) && (!operands || node.args.iter().all(|a| leads(*a)))
            })
    }

    /// The shape of a value of the region on four axes; `last` is the size of its last axis.
    fn shape(&self, last: Dim) -> Vec<Dim> {
        [&self.batch, &self.heads, &self.rows]
            .into_iter()
            .cloned()
            .chain([last])
            .collect()
    }
}

/// The two axes that a merged one was made of: those of the values, or of what the first product takes.
fn apart(
    graph: &Graph,
    inner: &BTreeSet<Value>,
    values: Value,
    merged: &Dim,
) -> Option<(Dim, Dim)> {
    let products = inner
        .iter()
        .filter(|v| matches!(graph.node(**v).op, Op::Matmul(_)))
        .flat_map(|v| graph.node(*v).args.iter());
    let operands = [values].into_iter().chain(products.copied());
    operands.into_iter().find_map(|v| {
        let parted = |lead: &[Dim]| match lead {
            [batch, heads @ ..] if !heads.is_empty() && product(lead) == *merged => {
                Some((batch.clone(), product(heads)))
            }
            _ => None,
        };
        if let Some(known) = parted(lead(shape(graph, v)?)) {
            return Some(known);
        }
        let own = Operand::of(graph, v, std::slice::from_ref(merged))?;
        parted(&own.full).or_else(|| {
            let batch = own.merged_from(graph)?;
            Some((batch.clone(), merged.exact_div(batch)?))
        })
    })
}

fn shape(graph: &Graph, value: Value) -> Option<&[Dim]> {
    Some(&graph.ty(value).as_tensor()?.shape)
}

/// Builds the twin of one region.
struct Lift<'a> {
    graph: &'a Graph,
    egraph: &'a mut EGraph,
    classes: &'a [Option<Id>],
    near: u32,
    region: &'a Region,
    done: BTreeMap<Value, Id>,
}

impl Lift<'_> {
    fn root(&mut self, value: Value, node: &Node) -> Option<Id> {
        let out = shape(self.graph, value)?;
        if let Op::Sdpa(_) = &node.op {
            let attended = self.attention(node)?;
            return self.reshape(attended, out.to_vec());
        }
        let &[weights, values] = node.args.as_slice() else {
            return None;
        };
        let weights_lifted = self.inner(weights)?;
        let values = self.shared(values, lead(shape(self.graph, weights)?))?;
        let attended = self.add(node.op.clone(), &[weights_lifted, values])?;
        self.reshape(attended, out.to_vec())
    }

    /// An attention of merged batches, with each batch apart.
    fn attention(&mut self, node: &Node) -> Option<Id> {
        let &[q, k, v, ref mask @ ..] = node.args.as_slice() else {
            return None;
        };
        let (batch, heads) = (self.region.batch.clone(), self.region.heads.clone());
        let own = lead(shape(self.graph, q)?);
        let mut args = Vec::with_capacity(node.args.len());
        for x in [q, k, v] {
            let [_, merged, _, _] = shape(self.graph, x)? else {
                return None;
            };
            let x = Operand::of(self.graph, x, &[Dim::from(1i64), merged.clone()])?;
            args.push(x.repeated(self, &batch, &merged.exact_div(&batch)?)?);
        }
        for mask in mask {
            let mask = Operand::of(self.graph, *mask, own)?;
            args.push(mask.aligned(self, &batch, &heads)?);
        }
        self.add(node.op.clone(), &args)
    }

    /// A value of the region, on four axes.
    fn inner(&mut self, value: Value) -> Option<Id> {
        if let Some(id) = self.done.get(&value) {
            return Some(*id);
        }
        let node = self.graph.node(value);
        let own = shape(self.graph, value)?;
        let made = match &node.op {
            Op::Matmul(_) => {
                let &[q, k] = node.args.as_slice() else {
                    return None;
                };
                let q = self.rows(q, own)?;
                let k = self.shared(k, lead(own))?;
                self.add(node.op.clone(), &[q, k])?
            }
            Op::Reshape(_) => self.inner(*node.args.first()?)?,
            op => {
                let op = match op {
                    Op::Softmax(_) => norm::Softmax { axis: 3 }.into(),
                    Op::Sum(_) => reduce::Sum {
                        axes: vec![3],
                        keepdim: true,
                    }
                    .into(),
                    Op::Amax(_) => reduce::Amax {
                        axes: vec![3],
                        keepdim: true,
                    }
                    .into(),
                    Op::Any(_) => reduce::Any {
                        axes: vec![3],
                        keepdim: true,
                    }
                    .into(),
                    op => op.clone(),
                };
                let args = node
                    .args
                    .iter()
                    .map(|a| {
                        if self.region.inner.contains(a) {
                            self.inner(*a)
                        } else {
                            self.beside(*a, own)
                        }
                    })
                    .collect::<Option<Vec<Id>>>()?;
                self.add(op, &args)?
            }
        };
        // Everything on the way has the region's rows, and its keys or one number for all of them.
        let ty = self.tensor(made)?;
        let last = ty.shape.last()?.clone();
        let fits =
            ty.shape == self.region.shape(last.clone()) && (last.is(1) || last == self.region.keys);
        self.done.insert(value, made);
        fits.then_some(made)
    }

    /// Queries: the rows of all heads, in whatever shape they come.
    fn rows(&mut self, q: Value, scores: &[Dim]) -> Option<Id> {
        let own = Operand::of(self.graph, q, lead(scores))?;
        let id = own.full(self)?;
        let [_, depth] = matrix(&self.tensor(id)?.shape.clone())?.clone();
        self.reshape(id, self.region.shape(depth))
    }

    /// Keys or values, repeated for the heads that share them.
    fn shared(&mut self, x: Value, scores: &[Dim]) -> Option<Id> {
        let own = Operand::of(self.graph, x, scores)?;
        let (batch, heads) = (self.region.batch.clone(), self.region.heads.clone());
        own.repeated(self, &batch, &heads)
    }

    /// What meets a value of the region of shape `own` element by element.
    fn beside(&mut self, x: Value, own: &[Dim]) -> Option<Id> {
        let id = self.class(x)?;
        let ty = self.tensor(id)?;
        let few = ty.rank() <= 1 || ty.shape.iter().all(|d| d.is(1));
        let [rows, _] = matrix(own)?;
        if few && ty.rank() <= 4 {
            return Some(id);
        }
        if *rows != self.region.rows {
            return None;
        }
        let (batch, heads) = (self.region.batch.clone(), self.region.heads.clone());
        Operand::of(self.graph, x, lead(own))?.aligned(self, &batch, &heads)
    }
}

/// What building nodes takes.
impl Lift<'_> {
    fn class(&self, value: Value) -> Option<Id> {
        self.classes.get(value.index()).copied().flatten()
    }

    fn tensor(&self, id: Id) -> Option<&TensorType> {
        self.egraph[id].data.ty.as_tensor()
    }

    fn add(&mut self, op: Op, args: &[Id]) -> Option<Id> {
        let types: Vec<&Type> = args.iter().map(|a| &self.egraph[*a].data.ty).collect();
        op.infer(&types).ok()?;
        let children = args.to_vec();
        Some(add_near(self.egraph, ENode { op, children }, self.near))
    }

    fn reshape(&mut self, x: Id, shape: Vec<Dim>) -> Option<Id> {
        if self.tensor(x)?.shape == shape {
            return Some(x);
        }
        self.add(Reshape { shape }.into(), &[x])
    }
}

#[cfg(test)]
mod tests;
