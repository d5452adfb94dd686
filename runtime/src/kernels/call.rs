//! A call of an operator of the host that instructions carry out: where its arguments are, and what comes of them.

use fuseline_program::instr::{
    AsType, BroadcastTo, FloatOrVid, Full, Instruction, IntOrVid, Reshape, Slice, Transpose,
};
use fuseline_program::{ScalarType, TensorValue, Tid};

use super::portable::from_floats;
use super::types::{Kind, Scalar, Weight, common, kind};
use super::{KernelError, bad};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::ops;
use crate::tensor::Tensor;
use crate::value::Value;

pub(super) type Result<T = Tid> = std::result::Result<T, KernelError>;

/// A value of a method, and the type that it must have if it is a tensor.
pub(crate) type Wanted = (usize, Option<TensorValue>);

/// The arguments of a call, the slots that its instructions work on, and the types that its results must have.
pub(crate) struct Call<'a> {
    arguments: &'a [Value],
    results: &'a [Wanted],
    frame: Frame<'a>,
}

/// A tensor or a number, where PyTorch takes both.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand {
    Tensor(Tid),
    Number(Scalar),
}

impl<'a> Call<'a> {
    /// A call whose instructions run in a frame without slots.
    pub(super) fn new(arguments: &'a [Value], results: &'a [Wanted], frame: Frame<'a>) -> Self {
        Self {
            arguments,
            results,
            frame,
        }
    }

    /// What is in these slots, in the types that the file gives the results.
    pub(super) fn finish(mut self, made: &[Tid]) -> Result<Vec<Value>> {
        let mut results = Vec::with_capacity(made.len());
        for (at, tid) in made.iter().enumerate() {
            let tid = match self.result(at) {
                Some(dtype) => self.cast(*tid, dtype)?,
                None => *tid,
            };
            results.push(Tensor::from(self.frame.get(tid)?.share().map_err(Fault::from)?).into());
        }
        Ok(results)
    }

    /// The type that the file gives a result.
    pub(super) fn result(&self, at: usize) -> Option<ScalarType> {
        let (_, wanted) = self.results.get(at)?;
        wanted.as_ref().map(|wanted| wanted.dtype)
    }

    /// How many results the file wants.
    pub(super) fn results(&self) -> usize {
        self.results.len()
    }

    /// Runs an instruction that writes to the slot it is given: a new one.
    pub(super) fn make<I: Into<Instruction>>(
        &mut self,
        instruction: impl FnOnce(Tid) -> I,
    ) -> Result {
        let out = self.slot()?;
        self.run(&instruction(out).into())?;
        Ok(out)
    }

    /// A slot with nothing in it.
    pub(super) fn slot(&mut self) -> Result {
        let slot = u32::try_from(self.frame.tensors.len()).map_err(|_| Fault::Overflow)?;
        self.frame.tensors.push(None);
        Ok(Tid(slot))
    }

    /// Runs an instruction.
    pub(super) fn run(&mut self, instruction: &Instruction) -> Result<()> {
        Ok(ops::execute(instruction, &mut self.frame)?)
    }

    /// A slot with this tensor.
    pub(super) fn hold(&mut self, tensor: &Tensor) -> Result {
        let slot = self.slot()?;
        let array = tensor.array().share().map_err(Fault::from)?;
        self.frame.put(slot, array)?;
        Ok(slot)
    }

    /// An argument.
    pub(super) fn argument(&self, position: usize) -> Option<&'a Value> {
        self.arguments.get(position)
    }

    /// Whether an argument is there, and not nothing.
    pub(super) fn given(&self, position: usize) -> bool {
        !matches!(self.argument(position), None | Some(Value::None))
    }

    /// The slot of a tensor among the arguments.
    pub(super) fn tensor(&mut self, position: usize) -> Result {
        self.hold(super::tensor(self.arguments, position)?)
    }

    /// [`Call::tensor`], if the argument is given.
    pub(super) fn optional(&mut self, position: usize) -> Result<Option<Tid>> {
        self.given(position)
            .then(|| self.tensor(position))
            .transpose()
    }

    /// The slots of a list of tensors.
    pub(super) fn tensors(&mut self, position: usize) -> Result<Vec<Tid>> {
        let Some(Value::List(items)) = self.argument(position) else {
            return Err(bad(position, "is not a list of tensors"));
        };
        let held = items.iter().map(|item| match item {
            Value::Tensor(tensor) => self.hold(tensor),
            other => Err(bad(
                position,
                format!("holds {}, not a tensor", other.kind()),
            )),
        });
        held.collect()
    }

    /// A tensor or a number.
    pub(super) fn operand(&mut self, position: usize) -> Result<Operand> {
        match self.argument(position).and_then(Scalar::of) {
            Some(number) => Ok(Operand::Number(number)),
            None => Ok(Operand::Tensor(self.tensor(position)?)),
        }
    }

    /// A number.
    pub(super) fn scalar(&self, position: usize) -> Result<Scalar> {
        let number = self.argument(position).and_then(|value| match value {
            // A number that the program computes is a tensor of one element.
            Value::Tensor(tensor) if kind(tensor.dtype()) == Kind::Float => {
                value.as_float().map(Scalar::Float)
            }
            Value::Tensor(_) => value.as_int().map(Scalar::Int),
            value => Scalar::of(value),
        });
        number.ok_or_else(|| bad(position, "is not a number"))
    }

    /// A number, or this one if none is given.
    pub(super) fn float(&self, position: usize, absent: f64) -> Result<f64> {
        if self.given(position) {
            Ok(self.scalar(position)?.float())
        } else {
            Ok(absent)
        }
    }

    /// An integer, or this one if none is given.
    pub(super) fn int(&self, position: usize, absent: i64) -> Result<i64> {
        match (self.given(position), self.scalar(position)) {
            (false, _) => Ok(absent),
            (true, Ok(Scalar::Float(_)) | Err(_)) => Err(bad(position, "is not an integer")),
            (true, Ok(number)) => Ok(number.int()),
        }
    }

    /// [`Call::int`] where MLX takes 32 bits.
    pub(super) fn small(&self, position: usize, absent: i64) -> Result<i32> {
        small(self.int(position, absent)?)
    }

    /// A truth value; not true if none is given.
    pub(super) fn flag(&self, position: usize) -> bool {
        matches!(self.argument(position), Some(Value::Bool(true)))
    }

    /// Integers: a list, a single one, or none.
    pub(super) fn ints(&self, position: usize) -> Result<Vec<i64>> {
        if self.given(position) {
            super::views::integers(self.arguments, position)
        } else {
            Ok(Vec::new())
        }
    }

    /// An axis of a tensor, counted from the front. What has no axes is taken for one of length 1, as PyTorch does: none is returned for it.
    pub(super) fn axis(&self, position: usize, absent: i64, of: Tid) -> Result<Option<usize>> {
        let rank = self.rank(of)?;
        let at = super::views::axis(position, self.int(position, absent)?, rank.max(1))?;
        Ok((rank > 0).then_some(at))
    }

    /// Axes of a tensor, as instructions have them; none listed means all.
    pub(super) fn axes(&self, position: usize, of: Tid) -> Result<Vec<i32>> {
        let rank = self.rank(of)?;
        let mut axes = Vec::new();
        for axis in self.ints(position)? {
            let at = super::views::axis(position, axis, rank.max(1))?;
            axes.push(small(at as i64)?);
        }
        if rank == 0 {
            axes.clear();
        }
        Ok(axes)
    }

    /// The type of what is in a slot.
    pub(super) fn dtype(&self, tid: Tid) -> Result<ScalarType> {
        Ok(self.frame.get(tid)?.dtype())
    }

    /// The shape of what is in a slot.
    pub(super) fn shape(&self, tid: Tid) -> Result<Vec<i64>> {
        let shape = self.frame.get(tid)?.shape();
        Ok(shape.iter().map(|n| i64::from(*n)).collect())
    }

    /// The number of axes of what is in a slot.
    pub(super) fn rank(&self, tid: Tid) -> Result<usize> {
        Ok(self.frame.get(tid)?.rank())
    }

    /// The length of an axis.
    pub(super) fn length(&self, tid: Tid, axis: usize) -> Result<i64> {
        self.shape(tid)?
            .get(axis)
            .copied()
            .ok_or_else(|| bad(0, format!("has no axis {axis}")))
    }

    /// The same in another type.
    pub(super) fn cast(&mut self, x: Tid, scalar_type: ScalarType) -> Result {
        if self.dtype(x)? == scalar_type {
            return Ok(x);
        }
        self.make(|out| AsType {
            x,
            out,
            scalar_type,
        })
    }

    /// A number as a tensor without axes.
    pub(super) fn number(&mut self, number: Scalar, dtype: ScalarType) -> Result {
        let exact = match kind(dtype) {
            Kind::Integer => Tensor::from_scalar(number.int())?,
            _ if dtype == ScalarType::F64 => from_floats(dtype, &[], &[number.float()])?,
            _ => from_floats(ScalarType::F32, &[], &[number.float()])?,
        };
        let exact = self.hold(&exact)?;
        self.cast(exact, dtype)
    }

    /// An operand as a tensor of a type.
    pub(super) fn as_type(&mut self, operand: Operand, dtype: ScalarType) -> Result {
        match operand {
            Operand::Tensor(tid) => self.cast(tid, dtype),
            Operand::Number(number) => self.number(number, dtype),
        }
    }

    /// The type that PyTorch gives the result of arithmetic between operands.
    pub(super) fn common(&self, operands: &[Operand]) -> Result<ScalarType> {
        let weighed = operands.iter().map(|operand| match operand {
            Operand::Tensor(tid) if self.rank(*tid)? > 0 => Ok((self.dtype(*tid)?, Weight::Tensor)),
            Operand::Tensor(tid) => Ok((self.dtype(*tid)?, Weight::Point)),
            Operand::Number(number) => Ok((number.dtype(), Weight::Number)),
        });
        let weighed: Vec<_> = weighed.collect::<Result<_>>()?;
        common(&weighed).ok_or_else(|| bad(0, "is missing"))
    }

    /// Another shape for the same elements; one length may be -1.
    pub(super) fn reshape(&mut self, x: Tid, shape: &[i64]) -> Result {
        let shape = known(shape);
        self.make(|out| Reshape { x, out, shape })
    }

    /// Axis `i` of the result is axis `order[i]`.
    pub(super) fn transpose(&mut self, x: Tid, order: &[usize]) -> Result {
        let perm: Vec<i32> = order
            .iter()
            .map(|at| small(*at as i64))
            .collect::<Result<_>>()?;
        self.make(|out| Transpose { x, out, perm })
    }

    /// Repeats along axes of length 1, and new ones in front.
    pub(super) fn broadcast(&mut self, x: Tid, shape: &[i64]) -> Result {
        let shape = known(shape);
        self.make(|out| BroadcastTo { x, out, shape })
    }

    /// `x[start..stop]` along an axis, every `step`th.
    pub(super) fn slice(
        &mut self,
        x: Tid,
        axis: usize,
        start: i64,
        stop: i64,
        step: i64,
    ) -> Result {
        let step = small(step)?;
        let (axis, start, stop) = (
            IntOrVid::Int(axis as i64),
            IntOrVid::Int(start),
            IntOrVid::Int(stop),
        );
        self.make(|out| Slice {
            x,
            out,
            axis,
            start,
            stop,
            step,
        })
    }

    /// A tensor filled with a number.
    pub(super) fn full(&mut self, shape: &[i64], number: Scalar, dtype: ScalarType) -> Result {
        if let Scalar::Int(_) = number {
            // Not every integer is a float.
            let number = self.number(number, dtype)?;
            return self.broadcast(number, shape);
        }
        let shape = known(shape);
        self.make(|out| Full {
            out,
            shape,
            v: FloatOrVid::Float(number.float()),
            scalar_type: dtype,
        })
    }
}

/// Lengths and positions that are known.
pub(super) fn known(numbers: &[i64]) -> Vec<IntOrVid> {
    numbers.iter().copied().map(IntOrVid::Int).collect()
}

/// A number where MLX takes 32 bits.
pub(super) fn small(number: i64) -> Result<i32> {
    i32::try_from(number).map_err(|_| Fault::Overflow.into())
}
