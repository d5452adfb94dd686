//! Between tensors, numbers and tuples.

use super::util::{broadcast, broadcast_flat, fail, for_each_index, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::Type;

pub use super::table::{Get, Host, Item};

impl OpImpl for Item {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        if !x.dtype.is_int() || !x.numel().is(1) {
            return fail(format!("takes an integer tensor of one element, not {x}"));
        }
        Ok(Type::Int(Dim::symbol(self.symbol.clone())))
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        match args {
            [x] => Ok(vec![Tensor::ints(DType::I64, vec![], x.to_i64())?]),
            _ => fail("takes one tensor"),
        }
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![
            Inst::new("ItemInt").tensor("x", Operand::Arg(0)).out(),
        ]))
    }
}

impl OpImpl for Get {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        match args {
            [Type::Tuple(items)] => match items.get(self.index) {
                Some(item) => Ok(item.clone()),
                None => fail(format!("result {} of {}", self.index, items.len())),
            },
            [other, ..] => fail(format!("argument 0 is {other}, not a tuple")),
            [] => fail("argument 0 is missing"),
        }
    }

    fn eval(&self, _cx: &EvalCx<'_>, _args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        fail("a tuple has no tensor of its own: the evaluator reads its items")
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Alias(0))
    }
}

impl OpImpl for Host {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        for n in 0..args.len() {
            tensor(args, n)?;
        }
        Ok(Type::Tensor(self.ty.clone()))
    }

    fn eval(&self, _cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        match (&*self.kernel, args) {
            ("aten::nonzero.out", [x]) => nonzero(x),
            ("aten::masked_select.out", [x, mask]) => masked_select(x, mask),
            _ => fail("the reference evaluation doesn't know this kernel"),
        }
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Host)
    }
}

/// The indices of the elements that aren't zero, a row each, in row-major order: i64 [n, rank].
fn nonzero(x: &Tensor) -> Result<Vec<Tensor>, OpError> {
    let mut rows = Vec::new();
    let mut n = 0;
    for_each_index(x.shape(), |flat, index| {
        if x.get(flat).as_f64() != 0.0 {
            rows.extend(index.iter().map(|&i| i as i64));
            n += 1;
        }
    });
    let shape = vec![n, x.shape().len()];
    Ok(vec![Tensor::ints(DType::I64, shape, rows)?])
}

/// The elements of x where the mask holds, in row-major order of the shape that both broadcast to: 1-d.
fn masked_select(x: &Tensor, mask: &Tensor) -> Result<Vec<Tensor>, OpError> {
    let dims = |t: &Tensor| t.shape().iter().map(|&n| Dim::from(n)).collect::<Vec<_>>();
    let shape: Option<Vec<usize>> = broadcast(&dims(x), &dims(mask))?
        .iter()
        .map(|d| d.as_const().and_then(|n| usize::try_from(n).ok()))
        .collect();
    let mut picked = Vec::new();
    for_each_index(&shape.unwrap_or_default(), |_, index| {
        if mask.get(broadcast_flat(mask.shape(), index)).as_f64() != 0.0 {
            picked.push(broadcast_flat(x.shape(), index));
        }
    });
    Ok(vec![x.pick(vec![picked.len()], picked.into_iter())?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_needs_one_integer_by_its_static_type() {
        let item = Item {
            symbol: "u0".into(),
        };
        let of =
            |dtype, shape: &[i64]| Type::tensor(dtype, shape.iter().map(|&n| n.into()).collect());
        assert_eq!(
            item.infer(&[&of(DType::I32, &[1, 1])]),
            Ok(Type::Int(Dim::symbol("u0")))
        );
        assert!(item.infer(&[&of(DType::F32, &[])]).is_err());
        assert!(item.infer(&[&of(DType::I64, &[2])]).is_err());
        assert!(
            item.infer(&[&Type::tensor(DType::I64, vec![Dim::symbol("s0")])])
                .is_err()
        );
    }

    #[test]
    fn get_checks_its_index() {
        let pair = Type::Tuple(vec![
            Type::Int(1i64.into()),
            Type::tensor(DType::F32, vec![]),
        ]);
        assert_eq!(
            Get { index: 1 }.infer(&[&pair]),
            Ok(Type::tensor(DType::F32, vec![]))
        );
        assert!(Get { index: 2 }.infer(&[&pair]).is_err());
    }
}
