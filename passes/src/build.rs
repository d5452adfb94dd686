//! Building the right side of a rule.
//!
//! The whole side is planned, with the type of each new node, before anything is added to the e-graph: a side that doesn't type, or has another type than the left, leaves no trace.

use crate::egraph::{EGraph, ENode, add_near};
use crate::matcher::{Bindings, Bound, Made, resolve_axes};
use crate::pattern::{Apply, AttrPattern, Pattern};
use egg::Id;
use fuseline_ir::ops::create::Full;
use fuseline_ir::ops::movement::{Reshape, Slice, Transpose};
use fuseline_ir::{Attr, DType, Dim, F64, Op, Scalar, TensorType, Type};

/// A node to come, or a class that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ref {
    /// A class that is there.
    There(Id),
    /// The node of that number among those to come.
    New(usize),
}

/// A right side that types: what has to be added, arguments before their users.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The nodes to come.
    pub nodes: Vec<(Op, Vec<Ref>)>,
    /// The term itself.
    pub root: Ref,
}

struct Plan<'a> {
    egraph: &'a EGraph,
    b: &'a Bindings,
    new: Vec<(Op, Vec<Ref>, Type)>,
}

/// Plans `pattern` with what `b` binds, where its type is `ty`. `None` where it isn't, or a node doesn't take its arguments.
pub fn plan(egraph: &EGraph, pattern: &Pattern, b: &Bindings, ty: &Type) -> Option<Planned> {
    let mut plan = Plan {
        egraph,
        b,
        new: Vec::new(),
    };
    let root = plan.term(pattern)?;
    if plan.ty(root) != ty {
        return None;
    }
    let nodes = plan
        .new
        .into_iter()
        .map(|(op, args, _)| (op, args))
        .collect();
    Some(Planned { nodes, root })
}

/// Adds what was planned. New nodes stand in the place of value `near` of the input graph. `None` only for a plan that isn't one of [`plan`]'s.
pub fn build(egraph: &mut EGraph, planned: &Planned, near: u32) -> Option<Id> {
    let mut ids: Vec<Id> = Vec::new();
    let there = |r: &Ref, ids: &[Id]| match r {
        Ref::There(id) => Some(*id),
        Ref::New(n) => ids.get(*n).copied(),
    };
    for (op, args) in &planned.nodes {
        let children = args
            .iter()
            .map(|a| there(a, &ids))
            .collect::<Option<Vec<Id>>>()?;
        let op = op.clone();
        ids.push(add_near(egraph, ENode { op, children }, near));
    }
    there(&planned.root, &ids)
}

impl Plan<'_> {
    fn ty(&self, r: Ref) -> &Type {
        match r {
            Ref::There(id) => &self.egraph[id].data.ty,
            Ref::New(n) => &self.new[n].2,
        }
    }

    fn tensor(&self, r: Ref) -> Option<&TensorType> {
        self.ty(r).as_tensor()
    }

    fn add(&mut self, op: impl Into<Op>, args: Vec<Ref>) -> Option<Ref> {
        let op = op.into();
        let types: Vec<&Type> = args.iter().map(|a| self.ty(*a)).collect();
        let ty = op.infer(&types).ok()?;
        // A broadcast to the shape that is there would be an argument of itself in the next round.
        if matches!(op, Op::Broadcast(_)) && types.first() == Some(&&ty) {
            return args.first().copied();
        }
        self.new.push((op, args, ty));
        Some(Ref::New(self.new.len() - 1))
    }

    fn term(&mut self, pattern: &Pattern) -> Option<Ref> {
        match pattern {
            Pattern::Var(slot) => match self.b.get(*slot)? {
                Bound::Class(id) => Some(Ref::There(self.egraph.find(*id))),
                Bound::Made(made) => self.made(&made.clone()),
                Bound::Classes(_) | Bound::Attr(_) => None,
            },
            // A number on its own has no dtype; helpers make numbers that do.
            Pattern::Number(_) => None,
            Pattern::Apply(apply) => self.apply(apply),
        }
    }

    fn made(&mut self, made: &Made) -> Option<Ref> {
        match made {
            Made::Class(id) => Some(Ref::There(self.egraph.find(*id))),
            Made::Op(op, args) => {
                let args = args
                    .iter()
                    .map(|a| self.made(a))
                    .collect::<Option<Vec<_>>>()?;
                self.add(op.clone(), args)
            }
        }
    }

    fn apply(&mut self, apply: &Apply) -> Option<Ref> {
        let mut args = apply
            .args
            .iter()
            .map(|a| self.term(a))
            .collect::<Option<Vec<_>>>()?;
        if let Some(Bound::Classes(rest)) = apply.rest.and_then(|slot| self.b.get(slot)) {
            args.extend(rest.iter().map(|id| Ref::There(self.egraph.find(*id))));
        }
        match (apply.name.as_str(), args.as_slice()) {
            ("reshaped", [x]) => {
                let shape = self.shape(apply)?;
                self.reshaped(*x, shape)
            }
            ("part", [x]) => self.part(apply, *x),
            ("vector", [x]) => {
                let shape = self.tensor(*x)?.shape.last().cloned().into_iter().collect();
                self.reshaped(*x, shape)
            }
            ("swapped", [x]) => self.swapped(*x),
            ("product", [x, y]) => {
                let number = self.number(*x)? * self.number(*y)?;
                self.full(*x, number)
            }
            ("zero_of", [x]) => self.full(*x, 0.0),
            ("lowest_of", [x]) => {
                let dtype = self.tensor(*x)?.dtype;
                self.full(*x, lowest(dtype))
            }
            ("reciprocal_of", [x]) => {
                let number = self.number(*x)?.recip();
                self.full(*x, number)
            }
            _ => {
                let op = self.op(apply, &args)?;
                self.add(op, args)
            }
        }
    }

    fn op(&self, apply: &Apply, args: &[Ref]) -> Option<Op> {
        let rank = args
            .first()
            .and_then(|a| self.tensor(*a))
            .map(TensorType::rank);
        let attrs = apply
            .attrs
            .iter()
            .map(|(name, pattern)| {
                let attr = match resolve_axes(name, pattern, rank) {
                    AttrPattern::NumberOf(slot) => Attr::Float(F64::new(self.known(slot)?)),
                    AttrPattern::Times(bound, slot) => {
                        Attr::Float(F64::new(self.bound(bound)? * self.known(slot)?))
                    }
                    AttrPattern::Multiple(bound, times) => {
                        Attr::Float(F64::new(self.bound(bound)? * times as f64))
                    }
                    pattern => pattern.with_letters(self.b)?,
                };
                Some((name.as_str(), attr))
            })
            .collect::<Option<Vec<_>>>()?;
        Op::build(&apply.name, &attrs).ok()
    }

    /// The number in the attribute that `slot` binds.
    fn bound(&self, slot: usize) -> Option<f64> {
        match self.b.get(slot)? {
            Bound::Attr(Attr::Float(x)) => Some(x.get()),
            _ => None,
        }
    }

    /// The number that the variable in `slot` is known to be.
    fn known(&self, slot: usize) -> Option<f64> {
        match self.b.get(slot)? {
            Bound::Class(id) => self.egraph[*id].data.scalar.map(Scalar::as_f64),
            _ => None,
        }
    }

    fn shape(&self, apply: &Apply) -> Option<Vec<Dim>> {
        let (_, pattern) = apply.attrs.iter().find(|(name, _)| name == "shape")?;
        match pattern.with_letters(self.b)? {
            Attr::List(items) => items
                .into_iter()
                .map(|i| match i {
                    Attr::Int(d) => Some(d),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    /// Places of the last axis; x itself where those are all.
    fn part(&mut self, apply: &Apply, x: Ref) -> Option<Ref> {
        let place = |name: &str| {
            let (_, pattern) = apply.attrs.iter().find(|(n, _)| n == name)?;
            match pattern.with_letters(self.b)? {
                Attr::Int(d) => Some(d),
                _ => None,
            }
        };
        let (start, stop) = (place("start")?, place("stop")?);
        let shape = &self.tensor(x)?.shape;
        if start.is(0) && shape.last() == Some(&stop) {
            return Some(x);
        }
        let axis = shape.len().checked_sub(1)?;
        let step = 1;
        self.add(
            Slice {
                axis,
                start,
                stop,
                step,
            },
            vec![x],
        )
    }

    fn reshaped(&mut self, x: Ref, shape: Vec<Dim>) -> Option<Ref> {
        if self.tensor(x)?.shape == shape {
            return Some(x);
        }
        self.add(Reshape { shape }, vec![x])
    }

    /// x with its last two axes exchanged: where x is a transpose, one transpose of what that takes, or that itself.
    fn swapped(&mut self, x: Ref) -> Option<Ref> {
        let rank = self.tensor(x)?.rank();
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank.checked_sub(2)?, rank - 1);
        let mut of = x;
        if let Ref::There(id) = x {
            let transposed = self.egraph[id].nodes.iter().find_map(|n| match &n.op {
                Op::Transpose(t) => Some((t.perm.clone(), *n.children.first()?)),
                _ => None,
            });
            if let Some((inner, child)) = transposed {
                perm = perm
                    .iter()
                    .filter_map(|&axis| inner.get(axis).copied())
                    .collect();
                of = Ref::There(self.egraph.find(child));
            }
        }
        if perm.iter().copied().eq(0..rank) {
            return Some(of);
        }
        self.add(Transpose { perm }, vec![of])
    }

    fn number(&self, x: Ref) -> Option<f64> {
        match x {
            Ref::There(id) => self.egraph[id].data.scalar.map(Scalar::as_f64),
            Ref::New(n) => match &self.new[n].0 {
                Op::Full(full) => Some(full.value.as_f64()),
                _ => None,
            },
        }
    }

    /// A new number. Not one that the dtype can't hold without losing its digits.
    fn full(&mut self, like: Ref, number: f64) -> Option<Ref> {
        let dtype = self.tensor(like)?.dtype;
        let normal = number == 0.0
            || (dtype.round(number).is_finite() && number.abs() >= least_normal(dtype));
        if !normal {
            return None;
        }
        let ty = TensorType::new(dtype, Vec::new());
        let value = Scalar::float(number);
        self.add(Full { value, ty }, Vec::new())
    }
}

/// The lowest finite number of a float dtype.
pub fn lowest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => -65504.0,
        DType::BF16 => -3.3895313892515355e38,
        DType::F32 => f64::from(f32::MIN),
        _ => f64::MIN,
    }
}

/// The smallest number above 0 that a float dtype holds with all its digits.
pub fn least_normal(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 6.103515625e-5,
        DType::BF16 | DType::F32 => f64::from(f32::MIN_POSITIVE),
        _ => f64::MIN_POSITIVE,
    }
}
