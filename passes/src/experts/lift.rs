//! One expert in the place of all: what is the same for all of them but for weights, with the weights stacked, of those that each token chose.

use super::routing::{chosen, element};
use crate::beside;
use crate::canon::Builder;
use crate::shapes::product;
use fuseline_ir::ops::{movement as mv, table as op};
use fuseline_ir::{Dim, Op, OpError, Symbol, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The most different steps and weights of an expert.
const MOST_STEPS: usize = 256;

/// What values of the experts, one of each, are together.
#[derive(Clone, Copy, Debug)]
enum Lifted {
    /// The same for all.
    Same(Value),
    /// `[experts, ..]`: weights, or what is computed from weights alone.
    Stacked(Value),
    /// `[tokens, slots, features]`: what the chosen ones make of the tokens.
    Chosen(Value),
}

/// A function of tokens that is the same for all experts but for weights.
pub(super) struct Lift<'a> {
    b: &'a mut Builder,
    /// The choices, `[tokens, slots]`.
    index: Value,
    count: usize,
    tokens: Dim,
    slots: Dim,
    /// The constants that are read once: stacked ones take their place.
    alone: &'a BTreeSet<Symbol>,
    done: BTreeMap<Vec<Value>, Lifted>,
}

impl<'a> Lift<'a> {
    /// For the choices `index`, `[tokens, slots]`, among `count` experts.
    pub fn new(
        b: &'a mut Builder,
        index: Value,
        count: usize,
        alone: &'a BTreeSet<Symbol>,
    ) -> Option<Lift<'a>> {
        let [tokens, slots] = b.shape(index) else {
            return None;
        };
        Some(Lift {
            tokens: tokens.clone(),
            slots: slots.clone(),
            b,
            index,
            count,
            alone,
            done: BTreeMap::new(),
        })
    }

    /// `[tokens, slots, features]` of what the chosen experts make, given what each makes of every token. `None` where experts do different things, or none has weights of its own.
    pub fn chosen(&mut self, experts: &[Value]) -> Result<Option<Value>, OpError> {
        Ok(match self.lift(experts)? {
            Some(Lifted::Chosen(value)) => Some(value),
            _ => None,
        })
    }

    fn lift(&mut self, values: &[Value]) -> Result<Option<Lifted>, OpError> {
        let Some((&first, rest)) = values.split_first() else {
            return Ok(None);
        };
        if rest.iter().all(|v| *v == first) {
            return Ok(Some(Lifted::Same(first)));
        }
        if let Some(done) = self.done.get(values) {
            return Ok(Some(*done));
        }
        if self.done.len() > MOST_STEPS {
            return Ok(None);
        }
        let ty = self.b.ty(first);
        if !rest.iter().all(|v| self.b.ty(*v) == ty) {
            return Ok(None);
        }
        let lifted = match self.elements(values)? {
            Some(lifted) => Some(lifted),
            None if values.iter().all(|v| self.b.is_fixed(*v)) => {
                self.stacked(values)?.map(Lifted::Stacked)
            }
            None => self.step(values)?.map(Lifted::Chosen),
        };
        if let Some(lifted) = lifted {
            self.done.insert(values.to_vec(), lifted);
        }
        Ok(lifted)
    }

    /// The n-th arguments of all the values, lifted.
    fn argument(&mut self, values: &[Value], n: usize) -> Result<Option<Lifted>, OpError> {
        let nth = values.iter().map(|v| self.b.args(*v).get(n).copied());
        match nth.collect::<Option<Vec<Value>>>() {
            Some(nth) => self.lift(&nth),
            None => Ok(None),
        }
    }

    /// Stretches of one tensor, one after the other for the experts in their order.
    fn elements(&mut self, values: &[Value]) -> Result<Option<Lifted>, OpError> {
        let (Op::Slice(first), Some(&table)) =
            (self.b.op(values[0]).clone(), self.b.args(values[0]).first())
        else {
            return Ok(None);
        };
        let own = self.b.shape(values[0]).to_vec();
        let len = own[first.axis].clone();
        let stretches = values.iter().zip(0i64..).all(|(v, n)| {
            let Op::Slice(slice) = self.b.op(*v) else {
                return false;
            };
            let at = &len * &Dim::from(n);
            self.b.args(*v).first() == Some(&table)
                && (slice.axis, slice.step) == (first.axis, 1)
                && slice.start == at
        });
        let count = Dim::from(i64::try_from(self.count).unwrap_or(i64::MAX));
        let mut shape = self.b.shape(table).to_vec();
        if !stretches || shape[first.axis] != &len * &count {
            return Ok(None);
        }
        if self.b.is_fixed(table) {
            shape.splice(first.axis..=first.axis, [count, len]);
            let parted = self.b.reshape(table, shape)?;
            let mut perm: Vec<usize> = (0..=own.len()).filter(|a| *a != first.axis).collect();
            perm.insert(0, first.axis);
            let stacked = self.b.add(mv::Transpose { perm }, &[parted])?;
            return Ok(Some(Lifted::Stacked(stacked)));
        }
        let single = element(self.b, values[0], 0, count.as_const().unwrap_or(0));
        let last = first.axis + 1 == own.len();
        match single.filter(|_| last && self.rows(&own)) {
            Some((table, axis)) => {
                let Some(list) = chosen(self.b, table, axis, self.index)? else {
                    return Ok(None);
                };
                self.column(list).map(|v| Some(Lifted::Chosen(v)))
            }
            None => Ok(None),
        }
    }

    /// `[tokens, slots, 1]` of `[tokens, slots]`.
    pub fn column(&mut self, list: Value) -> Result<Value, OpError> {
        let shape = vec![self.tokens.clone(), self.slots.clone(), Dim::from(1i64)];
        self.b.reshape(list, shape)
    }

    /// Whether a shape is that of a row of features for each token.
    fn rows(&self, shape: &[Dim]) -> bool {
        shape
            .split_last()
            .is_some_and(|(_, tokens)| product(tokens) == self.tokens)
    }

    /// What is computed from weights alone, for all experts at once.
    fn stacked(&mut self, values: &[Value]) -> Result<Option<Value>, OpError> {
        let made = self.b.op(values[0]).clone();
        if let Op::Constant(constant) = &made {
            let names: BTreeSet<&Symbol> = values.iter().filter_map(|v| self.name(*v)).collect();
            if names.len() < values.len() || !names.iter().all(|n| self.alone.contains(*n)) {
                return Ok(None);
            }
            let mut shape = constant.ty.shape.clone();
            shape.insert(
                0,
                Dim::from(i64::try_from(values.len()).unwrap_or(i64::MAX)),
            );
            let ty = TensorType::new(constant.ty.dtype, shape);
            return match beside::joined(self.b.graph(), values, 0) {
                Some((name, data)) => self.b.constant(name, ty, data).map(Some),
                None => Ok(None),
            };
        }
        let experts = |shape: &[Dim]| -> Vec<Dim> {
            let count = Dim::from(i64::try_from(values.len()).unwrap_or(i64::MAX));
            std::iter::once(count)
                .chain(shape.iter().cloned())
                .collect()
        };
        let all: Op = match &made {
            Op::Reshape(_) => mv::Reshape {
                shape: experts(self.b.shape(values[0])),
            }
            .into(),
            Op::Transpose(t) => {
                let behind = t.perm.iter().map(|a| a + 1);
                mv::Transpose {
                    perm: std::iter::once(0).chain(behind).collect(),
                }
                .into()
            }
            Op::Cast(_) | Op::Dequantize(_) => made.clone(),
            _ => return Ok(None),
        };
        if !values.iter().all(|v| *self.b.op(*v) == made) {
            return Ok(None);
        }
        let mut args = Vec::new();
        for n in 0..self.b.args(values[0]).len() {
            match self.argument(values, n)? {
                Some(Lifted::Stacked(arg)) => args.push(arg),
                _ => return Ok(None),
            }
        }
        self.b.add(all, &args).map(Some)
    }

    fn name(&self, value: Value) -> Option<&Symbol> {
        match self.b.op(value) {
            Op::Constant(constant) => Some(&constant.name),
            _ => None,
        }
    }

    /// A step that treats each token by itself, done for the chosen experts.
    fn step(&mut self, values: &[Value]) -> Result<Option<Value>, OpError> {
        let made = self.b.op(values[0]).clone();
        let shape = self.b.shape(values[0]).to_vec();
        let count = self.b.args(values[0]).len();
        let alike = |v: &Value| *self.b.op(*v) == made && self.b.args(*v).len() == count;
        if !self.rows(&shape) || !values.iter().all(alike) {
            return Ok(None);
        }
        let mut args = Vec::with_capacity(count);
        for n in 0..count {
            match self.argument(values, n)? {
                Some(arg) => args.push(arg),
                None => return Ok(None),
            }
        }
        let from = self.b.args(values[0]).first().copied();
        let from = from.map_or(Vec::new(), |v| self.b.shape(v).to_vec());
        let last = |axis: usize| axis + 1 == shape.len();
        match (&made, args.as_slice()) {
            (Op::Matmul(_), &[x, w]) => self.product(x, w),
            (Op::Addmm(_), &[x, w, c]) => {
                let (Some(product), Some(c)) = (self.product(x, w)?, self.features(c)?) else {
                    return Ok(None);
                };
                self.b.add(op::Add {}, &[product, c]).map(Some)
            }
            // Tokens in other axes are the same tokens.
            (Op::Reshape(_), &[Lifted::Chosen(x)]) if from.last() == shape.last() => Ok(Some(x)),
            (Op::Slice(slice), &[Lifted::Chosen(x)]) if last(slice.axis) => {
                let axis = 2;
                let slice = mv::Slice {
                    axis,
                    ..slice.clone()
                };
                self.b.add(slice, &[x]).map(Some)
            }
            (Op::Softmax(softmax), &[Lifted::Chosen(x)]) if last(softmax.axis) => {
                self.b.add(op::Softmax { axis: 2 }, &[x]).map(Some)
            }
            (
                Op::Sum(op::Sum {
                    axes,
                    keepdim: true,
                }),
                &[Lifted::Chosen(x)],
            ) if matches!(axes.as_slice(), &[a] if last(a)) => {
                let (axes, keepdim) = (vec![2], true);
                self.b.add(op::Sum { axes, keepdim }, &[x]).map(Some)
            }
            (
                Op::Mean(op::Mean {
                    axes,
                    keepdim: true,
                }),
                &[Lifted::Chosen(x)],
            ) if matches!(axes.as_slice(), &[a] if last(a)) => {
                let (axes, keepdim) = (vec![2], true);
                self.b.add(op::Mean { axes, keepdim }, &[x]).map(Some)
            }
            (Op::RmsNorm(_) | Op::LayerNorm(_), [Lifted::Chosen(x), weights @ ..]) => {
                let mut own = vec![*x];
                for weight in weights {
                    match weight {
                        Lifted::Same(weight) => own.push(*weight),
                        _ => return Ok(None),
                    }
                }
                self.b.add(made, &own).map(Some)
            }
            (pointwise, _) if Builder::is_pointwise(pointwise) => {
                let mut own = Vec::with_capacity(count);
                for arg in args {
                    match self.features(arg)? {
                        Some(arg) => own.push(arg),
                        None => return Ok(None),
                    }
                }
                self.b.add(made, &own).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// A value as `[tokens, slots, features]`, or what broadcasts to that.
    fn features(&mut self, value: Lifted) -> Result<Option<Value>, OpError> {
        match value {
            Lifted::Chosen(value) => Ok(Some(value)),
            Lifted::Same(value) => {
                let shape = self.b.shape(value).to_vec();
                let Some((width, tokens)) = shape.split_last().filter(|(_, t)| !t.is_empty())
                else {
                    return Ok(Some(value));
                };
                let one = Dim::from(1i64);
                if tokens.iter().all(|d| d.is(1)) {
                    return self.b.reshape(value, vec![width.clone()]).map(Some);
                }
                if !self.rows(&shape) {
                    return Ok(None);
                }
                let shape = vec![self.tokens.clone(), one, width.clone()];
                self.b.reshape(value, shape).map(Some)
            }
            Lifted::Stacked(value) => {
                let [count, ones @ .., width] = self.b.shape(value) else {
                    return Ok(None);
                };
                if !ones.iter().all(|d| d.is(1)) {
                    return Ok(None);
                }
                let shape = vec![count.clone(), width.clone()];
                let table = self.b.reshape(value, shape)?;
                self.b
                    .add(op::Take { axis: 0 }, &[table, self.index])
                    .map(Some)
            }
        }
    }

    /// A product with the chosen expert's matrix, or with a matrix that all share.
    fn product(&mut self, x: Lifted, w: Lifted) -> Result<Option<Value>, OpError> {
        let Some(x) = self.features(x)? else {
            return Ok(None);
        };
        let stacked = match w {
            Lifted::Stacked(w) if self.b.shape(w).len() == 3 => w,
            Lifted::Same(w) if self.b.shape(w).len() == 2 => {
                return self.b.add(op::Matmul {}, &[x, w]).map(Some);
            }
            _ => return Ok(None),
        };
        let [tokens, slots, width] = self.b.shape(x) else {
            return Ok(None);
        };
        let one = Dim::from(1i64);
        let row = vec![tokens.clone(), slots.clone(), one, width.clone()];
        let row = self.b.reshape(x, row)?;
        let product = self.b.add(op::GatherMm {}, &[row, stacked, self.index])?;
        let mut shape = self.b.shape(product).to_vec();
        shape.remove(2);
        self.b.reshape(product, shape).map(Some)
    }
}
