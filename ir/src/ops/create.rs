//! Leaves: what a graph reads from outside, and literals.

use super::util::fail;
use super::{EvalCx, OpImpl};
use crate::attr::Scalar;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Tensor, numel};
use crate::types::{TensorType, Type};

pub use super::table::{Arange, Constant, Full, Input, IntTensor, Size, State};

/// Refuses sizes that are known to be negative.
pub(super) fn check_sizes(shape: &[Dim]) -> Result<(), OpError> {
    match shape.iter().find(|d| d.as_const().is_some_and(|n| n < 0)) {
        Some(d) => fail(format!("size {d} is negative")),
        None => Ok(()),
    }
}

fn check_type(ty: &Type) -> Result<(), OpError> {
    match ty {
        Type::Tensor(t) => check_sizes(&t.shape),
        Type::Int(_) => Ok(()),
        Type::Tuple(items) => items.iter().try_for_each(check_type),
    }
}

fn check_static(ty: &TensorType) -> Result<Type, OpError> {
    if ty.static_shape().is_none() {
        return fail(format!("needs a static type, not {ty}"));
    }
    Ok(Type::Tensor(ty.clone()))
}

/// Leaves that stand for something outside the graph: the evaluator and the compiler give them their values.
macro_rules! bound_by_caller {
    ($Op:ident, |$op:ident| $infer:expr) => {
        impl OpImpl for $Op {
            fn infer(&self, _args: &[&Type]) -> Result<Type, OpError> {
                let $op = self;
                $infer
            }

            fn eval(&self, _cx: &EvalCx<'_>, _args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                fail("is bound by the caller")
            }

            fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(Lowering::Nothing)
            }
        }
    };
}

bound_by_caller!(Input, |op| check_type(&op.ty).map(|()| op.ty.clone()));
bound_by_caller!(Constant, |op| check_static(&op.ty));
bound_by_caller!(State, |op| check_static(&op.ty));

impl OpImpl for Full {
    fn infer(&self, _args: &[&Type]) -> Result<Type, OpError> {
        check_sizes(&self.ty.shape)?;
        Ok(Type::Tensor(self.ty.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, _args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let value = self.value.cast(self.ty.dtype);
        Ok(vec![Tensor::from_fn(
            self.ty.dtype,
            cx.out_shape()?,
            |_| value,
        )?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let insts = fill(self.value, &self.ty, spread(&self.ty, cx))?;
        Ok(Lowering::Insts(insts))
    }
}

/// Instructions that write a tensor of `ty` with every element `value` to result 0.
///
/// The target takes the value as an f32 and refuses sizes of 0 here. A value that f32 doesn't hold is summed from parts that it does; an empty tensor is sliced from one
/// that isn't; one that may be empty (`spread`) is one element, broadcast.
pub(super) fn fill(value: Scalar, ty: &TensorType, spread: bool) -> Result<Vec<Inst>, OpError> {
    let full = |v: f64, shape: Vec<Dim>, out: Operand| {
        Inst::new("Full")
            .tensor("out", out)
            .with("shape", Field::Dims(shape))
            .with("v", Field::Float(v))
            .with("scalar_type", Field::DType(ty.dtype))
    };
    let empty: Vec<usize> = (0..ty.rank()).filter(|&i| ty.shape[i].is(0)).collect();
    if let Some((last, rest)) = empty.split_last() {
        let shape = ty
            .shape
            .iter()
            .map(|d| if d.is(0) { Dim::from(1i64) } else { d.clone() });
        let mut insts = vec![full(0.0, shape.collect(), Operand::Temp(0))];
        let cut = |axis: usize, from: usize, out: Operand| {
            Inst::new("Slice")
                .tensor("x", Operand::Temp(from))
                .tensor("out", out)
                .with("axis", Field::Int(axis as i64))
                .with("start", Field::Dim(Dim::from(0i64)))
                .with("stop", Field::Dim(Dim::from(0i64)))
        };
        for (n, axis) in rest.iter().enumerate() {
            insts.push(cut(*axis, n, Operand::Temp(n + 1)));
        }
        insts.push(cut(*last, rest.len(), Operand::Out(0)));
        return Ok(insts);
    }
    let parts = f32_parts(value, ty.dtype)?;
    let (first, more) = match parts.split_first() {
        Some((first, more)) => (*first, more),
        None => (0.0, &[] as &[f64]),
    };
    if more.is_empty() && !spread {
        return Ok(vec![full(first, ty.shape.clone(), Operand::Out(0))]);
    }
    let mut insts = vec![full(first, vec![], Operand::Temp(0))];
    let mut sum = 0;
    for (n, part) in more.iter().enumerate() {
        let term = Operand::Temp(sum + 1);
        insts.push(full(*part, vec![], term));
        let last = n + 1 == more.len() && ty.rank() == 0;
        sum += 2;
        let out = if last {
            Operand::Out(0)
        } else {
            Operand::Temp(sum)
        };
        insts.push(
            Inst::new("Add")
                .tensor("a", Operand::Temp(sum - 2))
                .tensor("b", term)
                .tensor("out", out),
        );
    }
    if ty.rank() > 0 {
        insts.push(
            Inst::new("BroadcastTo")
                .tensor("x", Operand::Temp(sum))
                .out()
                .with("shape", Field::Dims(ty.shape.clone())),
        );
    }
    Ok(insts)
}

/// The value that a tensor of `dtype` holds for `value`, as an f32, where it is one exactly.
pub(super) fn exact_f32(value: Scalar, dtype: DType) -> Option<f64> {
    match f32_parts(value, dtype).ok()?.as_slice() {
        [] => Some(0.0),
        [one] => Some(*one),
        _ => None,
    }
}

/// Numbers that f32 holds exactly and whose sum in `dtype` is the value.
fn f32_parts(value: Scalar, dtype: DType) -> Result<Vec<f64>, OpError> {
    match value.cast(dtype) {
        Scalar::Bool(b) => Ok(vec![f64::from(u8::from(b))]),
        Scalar::Int(n) => {
            let wide = if dtype == DType::U64 {
                i128::from(n as u64)
            } else {
                i128::from(n)
            };
            if (n as f32) as i128 == wide {
                return Ok(vec![n as f64]);
            }
            // 24-bit digits, the highest with the sign: each has no more bits than an f32's mantissa.
            let digits = [
                (wide >> 48) << 48,
                wide & (0xff_ffff << 24),
                wide & 0xff_ffff,
            ];
            Ok(digits
                .into_iter()
                .filter(|d| *d != 0)
                .map(|d| d as f64)
                .collect())
        }
        Scalar::Float(x) => {
            let x = x.get();
            let (mut rest, mut parts) = (x, Vec::new());
            while parts.is_empty() || (rest != 0.0 && parts.len() < 3) {
                let part = DType::F32.round(rest);
                parts.push(part);
                if !part.is_finite() {
                    break;
                }
                rest -= part;
            }
            let lost = x.is_finite() && (rest != 0.0 || parts.iter().any(|p| !p.is_finite()));
            if lost {
                return fail(format!("the target can't write {x:?}: literals are f32"));
            }
            Ok(parts)
        }
    }
}

impl OpImpl for Arange {
    fn infer(&self, _args: &[&Type]) -> Result<Type, OpError> {
        if !self.dtype.is_int() {
            return fail(format!("{} is not an integer dtype", self.dtype));
        }
        if self.step.is(0) {
            return fail("the step is 0");
        }
        check_sizes(std::slice::from_ref(&self.len))?;
        Ok(Type::tensor(self.dtype, vec![self.len.clone()]))
    }

    fn eval(&self, cx: &EvalCx<'_>, _args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (start, step) = (cx.dim(&self.start)?, cx.dim(&self.step)?);
        let len = numel(&[cx.size(&self.len)?])?;
        let data = (0..len).map(|i| start.wrapping_add(step.wrapping_mul(i as i64)));
        Ok(vec![Tensor::ints(self.dtype, vec![len], data.collect())?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let ty = TensorType::new(self.dtype, vec![self.len.clone()]);
        if self.len.is(0) {
            return Ok(Lowering::Insts(fill(Scalar::Int(0), &ty, false)?));
        }
        let span = &self.step * &self.len;
        let stop = &self.start + &span;
        let far = |d: &Dim| d.as_const().is_some_and(|n| i32::try_from(n).is_err());
        if let Some(start) = self.start.as_const()
            && (far(&self.start) || far(&stop))
            && !far(&span)
        {
            return self.beyond(start, &span).map(Lowering::Insts);
        }
        for d in [&self.start, &stop, &self.step] {
            if far(d) {
                return fail(format!("{d} passes the target's 32-bit integers"));
            }
        }
        let range = |stop: &Dim, out| arange(&self.start, stop, &self.step, self.dtype, out);
        if !may_be_empty(&self.len, cx) {
            return Ok(Lowering::Insts(vec![range(&stop, Operand::Out(0))]));
        }
        // The target makes no empty range: one that may be is cut from a longer one.
        Ok(Lowering::Insts(vec![
            range(&(&stop + &self.step), Operand::Temp(0)),
            Inst::new("Slice")
                .tensor("x", Operand::Temp(0))
                .out()
                .with("axis", Field::Int(0))
                .with("start", Field::Dim(Dim::from(0i64)))
                .with("stop", Field::Dim(self.len.clone())),
        ]))
    }
}

impl Arange {
    /// The target counts in 32 bits: what begins or ends beyond them is counted from 0, and the start added in parts that f32 holds.
    fn beyond(&self, start: i64, span: &Dim) -> Result<Vec<Inst>, OpError> {
        let zero = Dim::from(0i64);
        let mut insts = vec![arange(
            &zero,
            span,
            &self.step,
            self.dtype,
            Operand::Temp(0),
        )];
        let parts = f32_parts(Scalar::Int(start), self.dtype)?;
        for (n, part) in parts.iter().enumerate() {
            let out = if n + 1 == parts.len() {
                Operand::Out(0)
            } else {
                Operand::Temp(2 * n + 2)
            };
            insts.push(
                Inst::new("Full")
                    .tensor("out", Operand::Temp(2 * n + 1))
                    .with("shape", Field::Dims(Vec::new()))
                    .with("v", Field::Float(*part))
                    .with("scalar_type", Field::DType(self.dtype)),
            );
            insts.push(
                Inst::new("Add")
                    .tensor("a", Operand::Temp(2 * n))
                    .tensor("b", Operand::Temp(2 * n + 1))
                    .tensor("out", out),
            );
        }
        Ok(insts)
    }
}

/// Whether a tensor of sizes that aren't known before the program runs may be empty.
pub(super) fn spread(ty: &TensorType, cx: &LowerCx<'_>) -> bool {
    ty.shape.iter().any(|len| may_be_empty(len, cx))
}

/// Whether a length that isn't known before the program runs may be 0.
fn may_be_empty(len: &Dim, cx: &LowerCx<'_>) -> bool {
    len.as_const().is_none() && len.range(cx.symbols).min <= 0
}

fn arange(start: &Dim, stop: &Dim, step: &Dim, dtype: DType, out: Operand) -> Inst {
    Inst::new("ARange")
        .tensor("out", out)
        .with("start", Field::Dim(start.clone()))
        .with("stop", Field::Dim(stop.clone()))
        .with("step", Field::Dim(step.clone()))
        .with("scalar_type", Field::DType(dtype))
}

impl OpImpl for Size {
    fn infer(&self, _args: &[&Type]) -> Result<Type, OpError> {
        Ok(Type::Int(self.value.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, _args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![Tensor::ints(
            DType::I64,
            vec![],
            vec![cx.dim(&self.value)?],
        )?])
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Nothing)
    }
}

impl OpImpl for IntTensor {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        match args {
            [Type::Int(_)] => Ok(Type::tensor(self.dtype, vec![])),
            [other, ..] => fail(format!("argument 0 is {other}, not an integer")),
            [] => fail("argument 0 is missing"),
        }
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        match args {
            [n] if n.len() == 1 => Ok(vec![Tensor::from_fn(self.dtype, vec![], |_| n.get(0))?]),
            _ => fail("takes one integer"),
        }
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let Some(Type::Int(n)) = cx.args.first() else {
            return fail("takes an integer");
        };
        let ty = TensorType::new(self.dtype, vec![]);
        if let Some(n) = n.as_const() {
            return Ok(Lowering::Insts(fill(Scalar::Int(n), &ty, false)?));
        }
        if !self.dtype.is_int() {
            return Ok(Lowering::Insts(vec![
                Inst::new("Full")
                    .out()
                    .with("shape", Field::Dims(vec![]))
                    .with("v", Field::Dim(n.clone()))
                    .with("scalar_type", Field::DType(self.dtype)),
            ]));
        }
        // A range of one element: "Full" would take the integer through an f32.
        let one = Dim::from(1i64);
        Ok(Lowering::Insts(vec![
            arange(n, &(n + &one), &one, self.dtype, Operand::Temp(0)),
            Inst::new("Squeeze")
                .tensor("x", Operand::Temp(0))
                .out()
                .with("dims", Field::Ints(vec![0])),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Range;
    use std::collections::BTreeMap;

    fn parts(n: i64, dtype: DType) -> Vec<f64> {
        f32_parts(Scalar::Int(n), dtype).unwrap_or_default()
    }

    #[test]
    fn integers_split_into_what_f32_holds() {
        assert_eq!(parts(1 << 24, DType::I64), [16_777_216.0]);
        assert_eq!(parts((1 << 24) + 1, DType::I64), [16_777_216.0, 1.0]);
        assert_eq!(parts(i64::MIN, DType::I64), [-(2f64.powi(63))]);
        for (n, dtype) in [
            (i64::MAX, DType::I64),
            (-1, DType::U64),
            (-(1 << 40) - 7, DType::I64),
        ] {
            let wide = if dtype == DType::U64 {
                i128::from(n as u64)
            } else {
                i128::from(n)
            };
            let all = parts(n, dtype);
            assert!(all.iter().all(|p| f64::from(*p as f32) == *p), "{all:?}");
            assert_eq!(all.iter().map(|p| *p as i128).sum::<i128>(), wide);
        }
    }

    #[test]
    fn floats_are_rounded_to_their_dtype_first() {
        let part = |x: f64, d| f32_parts(Scalar::float(x), d);
        assert_eq!(part(0.1, DType::F32), Ok(vec![f64::from(0.1f32)]));
        assert_eq!(
            part(f64::NEG_INFINITY, DType::F16),
            Ok(vec![f64::NEG_INFINITY])
        );
        assert_eq!(
            part(0.1, DType::F64).map(|p| p.iter().sum::<f64>()),
            Ok(0.1)
        );
        assert!(part(1e300, DType::F64).is_err());
        assert!(part(f64::NAN, DType::F32).is_ok_and(|p| p.len() == 1 && p[0].is_nan()));
    }

    #[test]
    fn an_empty_tensor_is_cut_from_one_that_is_not() {
        let ty = TensorType::new(DType::F32, vec![0i64.into(), 3i64.into(), 0i64.into()]);
        let insts = fill(Scalar::Int(1), &ty, false).unwrap_or_default();
        let nodes: Vec<_> = insts.iter().map(|i| i.node).collect();
        assert_eq!(nodes, ["Full", "Slice", "Slice"]);
    }

    #[test]
    fn what_may_be_empty_is_made_of_what_is_not() {
        let lowered = |least: i64| {
            let symbols = [("n".into(), Range { min: least, max: 9 })].into();
            let len = Dim::symbol("n");
            let arange = Arange {
                start: 2i64.into(),
                step: 3i64.into(),
                len: len.clone(),
                dtype: DType::I64,
            };
            let full = Full {
                value: Scalar::Int(7),
                ty: TensorType::new(DType::I64, vec![4i64.into(), len]),
            };
            let nodes = |op: &dyn OpImpl| {
                let out = op.infer(&[]).unwrap();
                let cx = LowerCx {
                    args: &[],
                    out: &out,
                    symbols: &symbols,
                };
                crate::ops::testing::nodes(&op.lower(&cx).unwrap())
            };
            [nodes(&arange), nodes(&full)]
        };
        assert_eq!(lowered(1), [vec!["ARange"], vec!["Full"]]);
        assert_eq!(
            lowered(0),
            [vec!["ARange", "Slice"], vec!["Full", "BroadcastTo"]]
        );
    }

    #[test]
    fn arange_wraps_and_checks() {
        let op = Arange {
            start: 254i64.into(),
            step: 1i64.into(),
            len: 4i64.into(),
            dtype: DType::U8,
        };
        let out = op.infer(&[]);
        let symbols = BTreeMap::new();
        let ty = Type::tensor(DType::U8, vec![4i64.into()]);
        assert_eq!(out.as_ref(), Ok(&ty));
        let cx = EvalCx {
            symbols: &symbols,
            args: &[],
            out: &ty,
        };
        assert_eq!(
            op.eval(&cx, &[]).map(|t| t[0].to_i64()),
            Ok(vec![254, 255, 0, 1])
        );
        assert!(
            Arange {
                step: 0i64.into(),
                ..op.clone()
            }
            .infer(&[])
            .is_err()
        );
        assert!(
            Arange {
                len: (-1i64).into(),
                ..op.clone()
            }
            .infer(&[])
            .is_err()
        );
        assert!(
            Arange {
                dtype: DType::Bool,
                ..op
            }
            .infer(&[])
            .is_err()
        );
    }
}
