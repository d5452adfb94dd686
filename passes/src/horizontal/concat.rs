//! Products whose weights can be laid side by side, and the product with all of them.

use super::Fusion;
use crate::beside;
use fuseline_ir::graph::Payload;
use fuseline_ir::ops::create::Full;
use fuseline_ir::ops::matmul::{Addmm, Matmul};
use fuseline_ir::{DType, Dim, Op, OpError, Scalar, TensorType, Value};
use std::sync::Arc;

/// How a weight comes from constants, read from the product on, without what may differ between weights that are laid side by side: names, and the size along the axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    /// An op over what follows.
    Op(Op),
    /// A constant of this type, the axis' size left out.
    Constant(TensorType),
    /// A number for all elements of this type, the axis' size left out.
    Full(Scalar, TensorType),
}

/// What products that can be one have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Common {
    op: Op,
    shared: Vec<Value>,
    layouts: Vec<Layout>,
}

/// The most ops and constants that a weight may be made of.
const MOST_STEPS: usize = 16;

/// Which argument of a product with a bias that is.
const BIAS: usize = 2;

/// The arguments that products must share to be one.
fn shared(op: &Op) -> Option<&'static [usize]> {
    match op {
        Op::Matmul(_) | Op::Addmm(_) | Op::QuantizedMatmul(_) => Some(&[0]),
        Op::GatherMm(_) => Some(&[0, 2]),
        Op::GatherQmm(_) => Some(&[0, 1]),
        _ => None,
    }
}

/// The axis of a weight, of so many axes, along which the product's last axis lies.
fn weight_axis(op: &Op, rank: usize) -> Option<usize> {
    match op {
        // Rows of packed words, of scales and of biases.
        Op::QuantizedMatmul(_) | Op::GatherQmm(_) => rank.checked_sub(2),
        _ => rank.checked_sub(1),
    }
}

impl Fusion {
    /// What products must have in common to be one: the op, where one with a bias goes with one without; arguments; and how their weights are made. `None` for what is no product or
    /// whose weights can't be laid side by side.
    pub(super) fn product(&self, value: Value) -> Option<Common> {
        let node = self.graph.node(value);
        let shared = shared(&node.op)?;
        let out = node.ty.as_tensor()?;
        let width = out.shape.last()?;
        let mut layouts = Vec::new();
        let biased = self.bias(value).is_some();
        for (n, arg) in node.args.iter().enumerate() {
            if shared.contains(&n) || biased && n == BIAS {
                continue;
            }
            let ty = self.graph.ty(*arg).as_tensor()?;
            let axis = weight_axis(&node.op, ty.rank())?;
            // A bias may be one number for all columns, which has no place beside another.
            if ty.shape.get(axis)? != width {
                return None;
            }
            self.layout(*arg, axis, &mut layouts)?;
        }
        let shared = shared.iter().map(|n| node.args.get(*n).copied());
        Some(Common {
            op: if biased {
                Matmul {}.into()
            } else {
                node.op.clone()
            },
            shared: shared.collect::<Option<_>>()?,
            layouts,
        })
    }

    /// The bias of a product, where it is a constant vector that nothing else reads, as long as the product is wide.
    fn bias(&self, value: Value) -> Option<Value> {
        let node = self.graph.node(value);
        let bias = *node
            .args
            .get(BIAS)
            .filter(|_| matches!(node.op, Op::Addmm(_)))?;
        let mut layout = Vec::new();
        self.layout(bias, 0, &mut layout)?;
        let vector = self.graph.ty(bias).as_tensor()?.shape.as_slice()
            == [node.ty.as_tensor()?.shape.last()?.clone()];
        (vector && matches!(layout.as_slice(), [Layout::Constant(_)])).then_some(bias)
    }

    /// The biases of products side by side, zeros where one has none.
    fn joint_bias(&mut self, members: &[Value], dtype: DType) -> Result<Option<Value>, OpError> {
        let mut biases = Vec::with_capacity(members.len());
        for member in members {
            let width = self.graph.tensor_ty(*member)?.shape.last().cloned();
            let Some(width) = width.and_then(|d| usize::try_from(d.as_const()?).ok()) else {
                return Ok(None);
            };
            biases.push(match self.bias(*member) {
                Some(bias) => bias,
                None => {
                    let zeros: Arc<dyn Payload> = Arc::new(vec![0u8; width * dtype.size()]);
                    let ty = TensorType::new(dtype, vec![width.into()]);
                    let name = beside::free_name(&self.graph, "zeros");
                    self.graph.constant(name, ty, Some(zeros))?
                }
            });
        }
        self.side_by_side(&biases, 0)
    }

    fn layout(&self, value: Value, axis: usize, out: &mut Vec<Layout>) -> Option<()> {
        if out.len() >= MOST_STEPS {
            return None;
        }
        let node = self.graph.node(value);
        let mut without = node.ty.as_tensor()?.clone();
        *without.shape.get_mut(axis)? = Dim::from(0i64);
        if let Op::Full(full) = &node.op {
            out.push(Layout::Full(full.value, without));
            return Some(());
        }
        // What something else reads as well would be there twice.
        self.reader(value)?;
        if let Op::Constant(op) = &node.op {
            let initial = |s: &fuseline_ir::State| s.init.as_ref() == Some(&op.name);
            let alone = !self.graph.states.iter().any(initial);
            out.push(Layout::Constant(without));
            return (alone && node.ty.as_tensor()?.static_shape().is_some()).then_some(());
        }
        let axis = inner_axis(&node.op, without.rank(), axis)?;
        out.push(Layout::Op(node.op.clone()));
        node.args
            .iter()
            .try_for_each(|a| self.layout(*a, axis, out))
    }

    /// One product in the place of several that [`Fusion::product`] says the same of.
    pub(super) fn joint_product(&mut self, members: &[Value]) -> Result<Option<Value>, OpError> {
        let Some(mut node) = members.first().map(|m| self.graph.node(*m).clone()) else {
            return Ok(None);
        };
        let shared = shared(&node.op).unwrap_or_default();
        let biased = members.iter().any(|m| self.bias(*m).is_some());
        let mut args = node.args.clone();
        if biased {
            args.truncate(BIAS);
        }
        for (n, arg) in args.iter_mut().enumerate() {
            if shared.contains(&n) {
                continue;
            }
            let weights: Option<Vec<Value>> = members
                .iter()
                .map(|m| self.graph.node(*m).args.get(n).copied())
                .collect();
            let axis = weight_axis(&node.op, self.graph.tensor_ty(*arg)?.rank());
            let (Some(weights), Some(axis)) = (weights, axis) else {
                return Ok(None);
            };
            match self.side_by_side(&weights, axis)? {
                Some(joint) => *arg = joint,
                None => return Ok(None),
            }
        }
        if biased {
            let Some(bias) =
                self.joint_bias(members, node.ty.as_tensor().map_or(DType::F32, |t| t.dtype))?
            else {
                return Ok(None);
            };
            args.push(bias);
            node.op = Addmm {}.into();
        }
        self.graph.add(node.op, &args, &node.loc).map(Some)
    }

    /// Values of one [`Layout`] as one value, along an axis.
    fn side_by_side(&mut self, values: &[Value], axis: usize) -> Result<Option<Value>, OpError> {
        let Some(node) = values.first().map(|v| self.graph.node(*v).clone()) else {
            return Ok(None);
        };
        let mut ty = self.graph.tensor_ty(values[0])?.clone();
        let mut width = Dim::from(0i64);
        for value in values {
            width = &width + &self.graph.tensor_ty(*value)?.shape[axis];
        }
        ty.shape[axis] = width;
        match &node.op {
            Op::Full(full) => {
                let value = full.value;
                return self.graph.add(Full { value, ty }, &[], &node.loc).map(Some);
            }
            Op::Constant(_) => return self.joint_constant(values, axis, ty),
            _ => {}
        }
        let Some(inner) = inner_axis(&node.op, ty.rank(), axis) else {
            return Ok(None);
        };
        let mut args = Vec::with_capacity(node.args.len());
        for n in 0..node.args.len() {
            let nth = values
                .iter()
                .map(|v| self.graph.node(*v).args.get(n).copied());
            let Some(nth) = nth.collect::<Option<Vec<Value>>>() else {
                return Ok(None);
            };
            match self.side_by_side(&nth, inner)? {
                Some(arg) => args.push(arg),
                None => return Ok(None),
            }
        }
        self.graph.add(node.op, &args, &node.loc).map(Some)
    }

    fn joint_constant(
        &mut self,
        values: &[Value],
        axis: usize,
        ty: TensorType,
    ) -> Result<Option<Value>, OpError> {
        match beside::joined(&self.graph, values, axis) {
            Some((name, data)) => self.graph.constant(name, ty, data).map(Some),
            None => Ok(None),
        }
    }
}

/// The axis of an op's arguments that its result has as `axis`, where the op does the same along all of it.
fn inner_axis(op: &Op, rank: usize, axis: usize) -> Option<usize> {
    match op {
        Op::Transpose(t) => t.perm.get(axis).copied(),
        Op::Cast(_) => Some(axis),
        // Elements, scales and biases of a row stand in its row.
        Op::Dequantize(_) => (axis + 1 < rank).then_some(axis),
        _ => None,
    }
}
