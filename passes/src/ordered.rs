//! Rows that are put in an order and back again are left where they are.
//!
//! Where a kernel wants rows that go to one expert side by side, a model sorts its rows by expert, computes with them in that order, and undoes it: `take(f(take(x, p)), p⁻¹)`. The
//! target's product with chosen matrices takes rows in any order. So where everything between the two treats each row by itself, it is done on the rows as they were, and neither the
//! order nor its inverse is needed.
//!
//! Numerics: exact.

use crate::pass::{PassCx, PassError};
use crate::sweep;
use fuseline_ir::ops::{create, index, movement as mv};
use fuseline_ir::{DType, Dim, Flag, Graph, Loc, Node, Op, OpError, Value};
use std::collections::BTreeMap;

/// The pass's name.
pub const NAME: &str = "ordered";

/// The most values between an order and its inverse.
const MOST: usize = 256;

/// The pass: see the module.
///
/// # Errors
/// An op that the pass built doesn't take its arguments, which is a bug.
pub fn run(graph: &Graph, _cx: &PassCx) -> Result<Graph, PassError> {
    let mut inverses: BTreeMap<Value, Value> = BTreeMap::new();
    for (value, node) in graph.values() {
        let back = match &node.op {
            Op::Take(index::Take { axis: 0 }) => node.args.get(1),
            _ => None,
        };
        if let Some(order) = back.and_then(|back| inverted(graph, *back)) {
            inverses.insert(value, order);
        }
    }
    if inverses.is_empty() {
        return Ok(graph.clone());
    }
    let rewritten = sweep::replaced(graph, |out, map, value| {
        let node = graph.node(value);
        let (Some(order), Some(x)) = (inverses.get(&value), node.args.first()) else {
            return Ok(None);
        };
        let Some(mut rows) = Rows::new(graph, *order, &node.loc) else {
            return Ok(None);
        };
        let natural = rows.natural(*x, out, map)?;
        Ok(natural.filter(|new| out.ty(*new) == &node.ty))
    });
    rewritten.map_err(PassError::op(NAME, format!("graph \"{}\"", graph.name)))
}

/// The order of rows that the value is the inverse of: what sorts some vector, and whose places are then counted, or which is sorted itself.
fn inverted(graph: &Graph, back: Value) -> Option<Value> {
    let node = graph.node(back);
    let order = match (&node.op, node.args.as_slice()) {
        (Op::Argsort(_), &[order]) => order,
        (Op::IndexCopy(_), &[all, order, places]) => {
            let Op::Arange(count) = &graph.node(places).op else {
                return None;
            };
            let from_zero = count.start.is(0) && count.step.is(1);
            (from_zero && graph.ty(all) == graph.ty(back)).then_some(order)?
        }
        _ => return None,
    };
    let ty = graph.ty(order).as_tensor()?;
    let sorts = matches!(graph.node(order).op, Op::Argsort(_));
    (sorts && ty.rank() == 1 && graph.ty(back).as_tensor()?.shape == ty.shape).then_some(order)
}

/// What is done to rows in an order, done on the rows as they were.
struct Rows<'a> {
    graph: &'a Graph,
    /// What sorts the rows.
    order: Value,
    /// What they are sorted by.
    keys: Value,
    count: Dim,
    loc: &'a Loc,
    done: BTreeMap<Value, Value>,
}

impl<'a> Rows<'a> {
    fn new(graph: &'a Graph, order: Value, loc: &'a Loc) -> Option<Rows<'a>> {
        Some(Rows {
            graph,
            order,
            keys: *graph.node(order).args.first()?,
            count: graph.ty(order).as_tensor()?.shape.first()?.clone(),
            loc,
            done: BTreeMap::new(),
        })
    }

    /// The value with its rows as they were; `map` gives the values of the graph in `out`. `None` where something between doesn't treat rows by themselves.
    fn natural(
        &mut self,
        v: Value,
        out: &mut Graph,
        map: &[Value],
    ) -> Result<Option<Value>, OpError> {
        if let Some(done) = self.done.get(&v) {
            return Ok(Some(*done));
        }
        let graph = self.graph;
        let node = graph.node(v);
        let first = |v: Value| Some(graph.ty(v).as_tensor()?.shape.first()? == &self.count);
        if self.done.len() > MOST || first(v) != Some(true) {
            return Ok(None);
        }
        let made = if v == self.order {
            let count = create::Arange {
                start: 0i64.into(),
                step: 1i64.into(),
                len: self.count.clone(),
                dtype: DType::I64,
            };
            Some(out.add(count, &[], self.loc)?)
        } else if matches!(node.op, Op::Sort(_)) && node.args.first() == Some(&self.keys) {
            Some(map[self.keys.index()])
        } else {
            self.step(node, out, map)?
        };
        if let Some(made) = made {
            self.done.insert(v, made);
        }
        Ok(made)
    }

    /// The node on rows as they were.
    fn step(
        &mut self,
        node: &Node,
        out: &mut Graph,
        map: &[Value],
    ) -> Result<Option<Value>, OpError> {
        let Some(moved) = self.arguments(node) else {
            return Ok(None);
        };
        let mut args = Vec::with_capacity(node.args.len());
        for (arg, moved) in node.args.iter().zip(moved) {
            if !moved {
                args.push(map[arg.index()]);
                continue;
            }
            match self.natural(*arg, out, map)? {
                Some(arg) => args.push(arg),
                None => return Ok(None),
            }
        }
        out.add(node.op.clone(), &args, self.loc).map(Some)
    }

    /// Which of a node's arguments have its rows, where the node treats each row by itself.
    fn arguments(&self, node: &Node) -> Option<Vec<bool>> {
        let shape = |v: &Value| Some(&self.graph.ty(*v).as_tensor()?.shape);
        let rows = |v: &Value| shape(v).and_then(|s| s.first()) == Some(&self.count);
        let rank = node.ty.as_tensor()?.rank();
        let own = |keeps: bool| {
            (keeps && node.args.iter().all(rows)).then(|| vec![true; node.args.len()])
        };
        let rows_of = |taken: &[usize]| {
            let all = taken.iter().all(|n| node.args.get(*n).is_some_and(rows));
            all.then(|| (0..node.args.len()).map(|n| taken.contains(&n)).collect())
        };
        match &node.op {
            op if op.info().has(Flag::Pointwise) => {
                let moved = |v: &Value| match shape(v) {
                    Some(s) if s.len() == rank => Some(rows(v)),
                    Some(_) => Some(false),
                    None => None,
                };
                node.args.iter().map(moved).collect()
            }
            // Rows are taken by a number for each.
            Op::Take(index::Take { axis: 0 }) => Some(vec![false, true]),
            Op::GatherMm(_) => rows_of(&[0, 2]),
            Op::GatherQmm(_) => rows_of(&[0, 1]),
            Op::Matmul(_) => {
                let (a, b) = (shape(node.args.first()?)?, shape(node.args.get(1)?)?);
                let matrix = b.len() == 2 && a.len() >= 2;
                (matrix && rows(&node.args[0])).then(|| vec![true, false])
            }
            // The rows keep their axis to themselves.
            Op::Reshape(mv::Reshape { shape }) => {
                own(shape.first() == Some(&self.count) && !self.count.is(0))
            }
            Op::Broadcast(_) => own(shape(node.args.first()?)?.len() == rank),
            Op::Full(_) => own(true),
            Op::Slice(slice) => own(slice.axis > 0),
            Op::Transpose(t) => own(t.perm.first() == Some(&0)),
            Op::Softmax(s) => own(s.axis > 0),
            Op::Cat(cat) => own(cat.axis > 0),
            Op::Sum(s) => own(!s.axes.contains(&0)),
            Op::Mean(s) => own(!s.axes.contains(&0)),
            Op::Amax(s) => own(!s.axes.contains(&0)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::Target;
    use fuseline_ir::{Scalar, Tensor};

    /// Two rows for each of three, sorted by expert, `between` done to `%rows` as `%done`, and put back.
    fn graph(between: &str) -> Graph {
        let text = format!(
            r#"graph "g" {{
  %x = input[name="x", ty=f32[3, 4]]
  %w = input[name="w", ty=f32[5, 4, 4]]
  %e = input[name="e", ty=i64[6]]
  %order = argsort[axis=0](%e)
  %sorted = sort[axis=0](%e)
  %two = full[value=2, ty=i64[]]
  %token = floor_div(%order, %two)
  %taken = take[axis=0](%x, %token)
  %rows = reshape[shape=[6, 1, 4]](%taken)
  {between}
  %none = full[value=0, ty=i64[6]]
  %places = arange[start=0, step=1, len=6, dtype=i64]
  %back = index_copy[axis=0, wraps=true](%none, %order, %places)
  %y = take[axis=0](%done, %back)
  output "y" = %y
}}"#
        );
        fuseline_ir::text::parse(&text).unwrap()
    }

    /// Whether anything is still sorted afterwards. The numbers are the same.
    fn sorts(graph: &Graph) -> bool {
        let out = run(graph, &PassCx::new(Target::Cpu)).unwrap();
        out.verify().unwrap();
        let floats = |shape: Vec<usize>| {
            Tensor::from_fn(DType::F32, shape, |i| Scalar::float((i as f64).sin())).unwrap()
        };
        let experts = Tensor::ints(DType::I64, vec![6], vec![3, 0, 3, 1, 4, 0]).unwrap();
        let inputs = [floats(vec![3, 4]), floats(vec![5, 4, 4]), experts];
        let of = |g: &Graph| g.eval(&inputs, &BTreeMap::new()).unwrap().outputs;
        assert_eq!(of(graph), of(&out), "{out}");
        out.nodes().iter().any(|n| matches!(n.op, Op::Argsort(_)))
    }

    #[test]
    fn experts_take_rows_in_any_order() {
        let product = "%p = gather_mm(%rows, %w, %sorted)  %done = silu(%p)";
        assert!(!sorts(&graph(product)));
    }

    #[test]
    fn rows_that_meet_others_keep_their_order() {
        assert!(sorts(&graph("%done = cumsum[axis=0](%rows)")));
        let own = "%p = gather_mm(%rows, %w, %e)  %done = silu(%p)";
        assert!(sorts(&graph(own)));
    }
}
