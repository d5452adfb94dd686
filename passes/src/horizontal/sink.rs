//! Steps that all parts of a value take alike, taken once before the split.

use super::{Fusion, Trial};
use fuseline_ir::ops::movement::{Reshape, Slice};
use fuseline_ir::{Dim, Flag, Loc, Op, OpError, TensorType, Type, Value};

/// A part of a value along an axis.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its size along the axis.
    pub len: Dim,
    /// The old value that it is.
    pub old: Value,
}

/// What follows every part alike.
struct Step {
    /// The op for all parts together.
    op: Op,
    /// Which of its arguments the parts are; the others are the same for all.
    position: usize,
    args: Vec<Value>,
    /// The axis of the result that the parts divide.
    axis: usize,
    /// The parts of the result.
    parts: Vec<Part>,
}

impl Fusion {
    /// Tries to take the steps that follow the parts of `source` along `axis` once for all of them, and for runs of them where not all go on together; what is left are slices. `dense`:
    /// each part lay in memory without gaps before.
    pub(super) fn sink(
        &mut self,
        source: Value,
        axis: usize,
        parts: &[Part],
        dense: bool,
    ) -> Result<Trial, OpError> {
        let (mut source, mut axis, mut dense) = (source, axis, dense);
        let mut parts = parts.to_vec();
        let mut trial = Trial::default();
        while let Some(step) = self.common(&self.graph.tensor_ty(source)?.clone(), axis, &parts) {
            dense = match &step.op {
                Op::Transpose(_) => false,
                Op::Reshape(_) => dense,
                _ => true,
            };
            trial.add(self.step_cost(&step));
            source = self.take(source, &step)?;
            trial.after = trial.after.saturating_add(self.cost(source));
            (axis, parts) = (step.axis, step.parts);
        }
        self.divide(source, axis, &parts, dense, &mut trial)?;
        Ok(trial)
    }

    /// The parts as slices, some of them in runs that go on together.
    fn divide(
        &mut self,
        source: Value,
        axis: usize,
        parts: &[Part],
        dense: bool,
        trial: &mut Trial,
    ) -> Result<(), OpError> {
        let whole = self.graph.tensor_ty(source)?.clone();
        let mut start = Dim::from(0i64);
        let mut at = 0;
        while at < parts.len() {
            let run = (at + 2..=parts.len())
                .rev()
                .filter(|end| end - at < parts.len())
                .find(|end| {
                    self.common(
                        &part_of(&whole, axis, &parts[at..*end]),
                        axis,
                        &parts[at..*end],
                    )
                    .is_some()
                });
            if let Some(end) = run {
                let stop = &start + &length(&parts[at..end]);
                let slice = self.slice(source, axis, &start, &stop)?;
                let inner = self.sink(slice, axis, &parts[at..end], dense)?;
                if inner.after < inner.before {
                    trial.add(inner);
                    (at, start) = (end, stop);
                    continue;
                }
            }
            let Some(part) = parts.get(at) else { break };
            let stop = &start + &part.len;
            let slice = self.slice(source, axis, &start, &stop)?;
            trial.replaced.push((part.old, slice));
            if dense && !self.turned(part.old) {
                let ty = self.graph.tensor_ty(part.old)?;
                let gaps = self.model.gaps(ty, axis);
                trial.after = trial.after.saturating_add(gaps);
            }
            (at, start) = (at + 1, stop);
        }
        trial.after = trial.after.saturating_add(self.model.split());
        Ok(())
    }

    /// Whether a value is only read through a transpose, so that whoever computes with it reads it with gaps as it is. Of a single row that is a reshape to more axes.
    fn turned(&self, value: Value) -> bool {
        let mut at = value;
        while let Some(reader) = self.reader(at) {
            let (from, to) = (
                self.graph.ty(at).as_tensor(),
                self.graph.ty(reader).as_tensor(),
            );
            let (Some(from), Some(to)) = (from, to) else {
                return false;
            };
            let row = from.shape.iter().rev().skip(1).all(|d| d.is(1));
            match self.graph.node(reader).op {
                Op::Transpose(_) => return true,
                Op::Reshape(_) if row && to.rank() > from.rank() => return true,
                Op::Reshape(_) => at = reader,
                _ => return false,
            }
        }
        false
    }

    fn slice(
        &mut self,
        source: Value,
        axis: usize,
        start: &Dim,
        stop: &Dim,
    ) -> Result<Value, OpError> {
        let slice = Slice {
            axis,
            start: start.clone(),
            stop: stop.clone(),
            step: 1,
        };
        let loc = self.graph.node(source).loc.clone();
        self.graph.add(slice, &[source], &loc)
    }

    /// What the step costs where each part takes it alone.
    fn step_cost(&self, step: &Step) -> Trial {
        Trial {
            before: step
                .parts
                .iter()
                .fold(0, |n: u64, p| n.saturating_add(self.cost(p.old))),
            ..Trial::default()
        }
    }

    fn take(&mut self, source: Value, step: &Step) -> Result<Value, OpError> {
        let mut args = step.args.clone();
        if let Some(arg) = args.get_mut(step.position) {
            *arg = source;
        }
        let loc = step
            .parts
            .first()
            .map_or_else(Loc::default, |p| self.graph.node(p.old).loc.clone());
        self.graph.add(step.op.clone(), &args, &loc)
    }

    /// The step that follows every part of a value of type `whole`, where each part has one reader, and all readers do the same, along an axis that they don't mix.
    fn common(&self, whole: &TensorType, axis: usize, parts: &[Part]) -> Option<Step> {
        let readers = parts
            .iter()
            .map(|p| self.reader(p.old))
            .collect::<Option<Vec<Value>>>()?;
        if readers.iter().any(|r| self.replaced.contains_key(r)) {
            return None;
        }
        let first = self.graph.node(*readers.first()?);
        let position = first.args.iter().position(|a| *a == parts[0].old)?;
        let alike = parts.iter().zip(&readers).all(|(part, reader)| {
            let node = self.graph.node(*reader);
            let others = |(n, (a, b)): (usize, (&Value, &Value))| {
                if n == position {
                    *a == part.old
                } else {
                    a == b
                }
            };
            node.args.len() == first.args.len()
                && node.args.iter().zip(&first.args).enumerate().all(others)
        });
        if !alike {
            return None;
        }
        let types = readers
            .iter()
            .map(|r| self.graph.ty(*r).as_tensor())
            .collect::<Option<Vec<_>>>()?;
        let (op, axis) = if let Op::Reshape(_) = &first.op {
            self.reshape(whole, axis, parts, &types)?
        } else {
            let same = readers.iter().all(|r| self.graph.node(*r).op == first.op);
            let rank = first.ty.as_tensor()?.rank();
            (
                first.op.clone(),
                same.then(|| self.kept_axis(&first.op, whole.rank(), rank, axis))
                    .flatten()?,
            )
        };
        let parts: Vec<Part> = readers
            .iter()
            .zip(&types)
            .map(|(old, ty)| {
                Some(Part {
                    len: ty.shape.get(axis)?.clone(),
                    old: *old,
                })
            })
            .collect::<Option<_>>()?;
        // What the op makes of the whole must be what it makes of the parts, side by side.
        let whole = Type::Tensor(whole.clone());
        let args: Vec<&Type> = first
            .args
            .iter()
            .enumerate()
            .map(|(n, a)| {
                if n == position {
                    &whole
                } else {
                    self.graph.ty(*a)
                }
            })
            .collect();
        let one_along = |ty: &Type| match ty.as_tensor() {
            // From the last axis on, as broadcasting counts.
            Some(t) => (t.rank() + axis)
                .checked_sub(types[0].rank())
                .is_none_or(|a| t.shape.get(a).is_some_and(|d| d.is(1))),
            None => true,
        };
        let pointwise = first.op.info().has(Flag::Pointwise);
        if pointwise
            && args
                .iter()
                .enumerate()
                .any(|(n, ty)| n != position && !one_along(ty))
        {
            return None;
        }
        let made = op.infer(&args).ok()?;
        let made = made.as_tensor()?;
        let fits = types.iter().zip(&parts).all(|(ty, part)| {
            let mut own = made.clone();
            own.shape
                .get_mut(axis)
                .map(|d| *d = part.len.clone())
                .is_some()
                && own == **ty
        });
        (fits && made.shape.get(axis) == Some(&length(&parts))).then(|| Step {
            op,
            position,
            args: first.args.clone(),
            axis,
            parts,
        })
    }

    /// Where an op leaves `axis` of an argument that has `rank` axes, if it does the same all along it; `out` axes has the result.
    fn kept_axis(&self, op: &Op, rank: usize, out: usize, axis: usize) -> Option<usize> {
        match op {
            Op::Transpose(t) => t.perm.iter().position(|a| *a == axis),
            // The first axis has offsets of its own, the last two are positions and pairs.
            Op::Rope(_) => (axis > 0 && axis + 2 < rank).then_some(axis),
            Op::RmsNorm(_) | Op::LayerNorm(_) => (axis + 1 < rank).then_some(axis),
            Op::Softmax(s) => (axis != s.axis).then_some(axis),
            _ if op.info().has(Flag::Pointwise) => (axis + out).checked_sub(rank),
            _ => None,
        }
    }

    /// A reshape of all parts that leaves the runs before and behind the axis alike: the sizes before the two axes multiply to the same, and an index of the new one stands for as many
    /// elements in every part.
    fn reshape(
        &self,
        whole: &TensorType,
        axis: usize,
        parts: &[Part],
        types: &[&TensorType],
    ) -> Option<(Op, usize)> {
        let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1i64), |n, d| &n * d);
        let (before, behind) = (
            product(&whole.shape[..axis]),
            product(&whole.shape[axis + 1..]),
        );
        let first = types.first()?;
        let fits = |&to: &usize| {
            let unit = product(&first.shape[to + 1..]).exact_div(&behind);
            let alike = |ty: &TensorType, part: &Part| {
                let others = |(n, (a, b)): (usize, (&Dim, &Dim))| n == to || a == b;
                ty.rank() == first.rank()
                    && ty.shape.iter().zip(&first.shape).enumerate().all(others)
                    && unit
                        .as_ref()
                        .is_some_and(|unit| part.len == &ty.shape[to] * unit)
            };
            product(&first.shape[..to]) == before
                && types.iter().zip(parts).all(|(ty, part)| alike(ty, part))
        };
        // Where axes of size 1 leave a choice: the first of the axes that the last one of the whole becomes, as heads do.
        let all: Vec<usize> = (0..first.rank()).filter(fits).collect();
        let heads = (axis + first.rank()).checked_sub(whole.rank() + 1);
        let to = heads
            .filter(|to| all.contains(to))
            .or(all.last().copied())?;
        let mut shape = first.shape.clone();
        shape[to] = types
            .iter()
            .fold(Dim::from(0i64), |n, ty| &n + &ty.shape[to]);
        Some((Reshape { shape }.into(), to))
    }
}

fn length(parts: &[Part]) -> Dim {
    parts.iter().fold(Dim::from(0i64), |n, p| &n + &p.len)
}

/// The type of a run of parts of a value.
fn part_of(whole: &TensorType, axis: usize, parts: &[Part]) -> TensorType {
    let mut ty = whole.clone();
    if let Some(d) = ty.shape.get_mut(axis) {
        *d = length(parts);
    }
    ty
}
