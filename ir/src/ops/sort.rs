//! Order: sorted elements and the positions that sort them. Ascending; NaN counts as larger than every number.

use super::pointwise::{arg, as_type, from_ints};
use super::reduce::around;
pub use super::table::{Argsort, Sort};
use super::util::{check_axis, tensor};
use super::{EvalCx, OpImpl};
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Data, Tensor};
use crate::types::Type;
use std::cmp::Ordering;

/// For each position of the result, the flat index of the element of x that belongs there; equal elements keep their order.
fn sorted(x: &Tensor, axis: usize) -> Result<Vec<usize>, OpError> {
    let (before, n, after) = around(x.shape(), axis)?;
    let compare =
        |a: &usize, b: &usize| match x.data() {
            Data::Float(v) => v[*a].partial_cmp(&v[*b]).unwrap_or_else(|| {
                match (v[*a].is_nan(), v[*b].is_nan()) {
                    (true, false) => Ordering::Greater,
                    (false, true) => Ordering::Less,
                    _ => Ordering::Equal,
                }
            }),
            Data::Int(v) if x.dtype() == DType::U64 => (v[*a] as u64).cmp(&(v[*b] as u64)),
            Data::Int(v) => v[*a].cmp(&v[*b]),
        };
    let mut out = vec![0; x.len()];
    for (b, a) in (0..before).flat_map(|b| (0..after).map(move |a| (b, a))) {
        let at = |i: usize| (b * n + i) * after + a;
        let mut line: Vec<usize> = (0..n).map(at).collect();
        line.sort_by(compare);
        for (i, from) in line.into_iter().enumerate() {
            out[at(i)] = from;
        }
    }
    Ok(out)
}

fn instruction(node: &'static str, axis: usize, out: Operand) -> Inst {
    Inst::new(node)
        .tensor("x", Operand::Arg(0))
        .tensor("out", out)
        .int("axis", axis as i64)
}

impl OpImpl for Sort {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axis(self.axis, x.rank())?;
        Ok(x.clone().into())
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        Ok(vec![x.pick(
            x.shape().to_vec(),
            sorted(x, self.axis)?.into_iter(),
        )?])
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![instruction(
            "Sort",
            self.axis,
            Operand::Out(0),
        )]))
    }
}

impl OpImpl for Argsort {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axis(self.axis, x.rank())?;
        Ok(Type::tensor(DType::I64, x.shape.clone()))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        let (_, n, after) = around(x.shape(), self.axis)?;
        let along = sorted(x, self.axis)?
            .into_iter()
            .map(|flat| (flat / after.max(1) % n.max(1)) as i128);
        Ok(vec![from_ints(DType::I64, x.shape().to_vec(), along)?])
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        // The target counts in u32.
        let cast = as_type(Operand::Temp(0), DType::I64, Operand::Out(0));
        Ok(Lowering::Insts(vec![
            instruction("Argsort", self.axis, Operand::Temp(0)),
            cast,
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::*;

    #[test]
    fn nan_is_last_and_equals_keep_their_order() {
        let x = f(&[5], &[2.0, f64::NAN, -1.0, 2.0, f64::INFINITY]);
        let values = run(Sort { axis: 0 }, &[&x]).unwrap().to_f64();
        assert_eq!(values[..4], [-1.0, 2.0, 2.0, f64::INFINITY]);
        assert!(values[4].is_nan());
        assert_eq!(
            run(Argsort { axis: 0 }, &[&x]).unwrap().to_i64(),
            [2, 0, 3, 4, 1]
        );
    }

    #[test]
    fn each_line_is_sorted_alone() {
        let x = i(DType::I32, &[2, 2], &[4, 1, 3, 2]);
        assert_eq!(run(Sort { axis: 0 }, &[&x]).unwrap().to_i64(), [3, 1, 4, 2]);
        assert_eq!(
            run(Argsort { axis: 1 }, &[&x]).unwrap().to_i64(),
            [1, 0, 1, 0]
        );
        assert!(run(Sort { axis: 2 }, &[&x]).is_err());
        let empty = i(DType::I32, &[0, 2], &[]);
        assert!(run(Argsort { axis: 0 }, &[&empty]).unwrap().is_empty());
    }
}
