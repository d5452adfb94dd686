//! Products with matrices that an index chooses: mixtures of experts.

use super::index::{check_indices, positions};
use super::matmul::eval_product;
use super::movement::check_args;
use super::table::{Matmul, Op, Take};
use super::util::{broadcast, fail, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

pub use super::table::GatherMm;

/// The type of `a @ b[indices]` for `b [E, K, N]`, given `[K, N]`: the leading axes of `a` and the indices broadcast.
pub(super) fn infer_chosen(
    a: &TensorType,
    k: &Dim,
    n: &Dim,
    indices: &TensorType,
) -> Result<Type, OpError> {
    let [batch @ .., rows, inner] = a.shape.as_slice() else {
        return fail(format!("{a} is not at least 2-d"));
    };
    if inner != k {
        return fail(format!("inner sizes {inner} and {k} differ"));
    }
    let mut shape = broadcast(batch, &indices.shape)?;
    shape.extend([rows.clone(), n.clone()]);
    Ok(Type::tensor(a.dtype, shape))
}

/// `matrices[indices]` of `[E, K, N]`.
pub(super) fn choose(matrices: &Tensor, indices: &Tensor) -> Result<Tensor, OpError> {
    let [count, k, n] = *matrices.shape() else {
        return fail("takes matrices with one leading axis");
    };
    let at = positions(indices, count)?;
    let shape = indices.shape().iter().copied().chain([k, n]).collect();
    let size = k * n;
    matrices.pick(shape, at.into_iter().flat_map(|e| e * size..(e + 1) * size))
}

impl OpImpl for GatherMm {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (a, b, indices) = (tensor(args, 0)?, tensor(args, 1)?, check_indices(args, 2)?);
        let [_, k, n] = b.shape.as_slice() else {
            return fail(format!("the matrices {b} are not 3-d"));
        };
        if !a.dtype.is_float() || a.dtype != b.dtype {
            return fail(format!("takes floats of one dtype, not {a} and {b}"));
        }
        infer_chosen(a, k, n, indices)
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [a, b, indices] = args else {
            return fail("takes 3 arguments");
        };
        eval_product(a, &choose(b, indices)?, None)
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let &[a, b, indices] = args else {
            return fail("takes 3 arguments");
        };
        let mut add = |op: Op, args: &[Value]| graph.add(op, args, &Loc::default());
        let chosen = add(Take { axis: 0 }.into(), &[b, indices])?;
        add(Matmul {}.into(), &[a, chosen]).map(Some)
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let inst = Inst::new("GatherMm")
            .tensor("a", Operand::Arg(0))
            .tensor("b", Operand::Arg(1))
            .tensor("rhs_indices", Operand::Arg(2));
        Ok(Lowering::Insts(vec![inst.out()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::ops::testing::*;

    #[test]
    fn each_row_meets_its_matrix() {
        let a = f(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let b = f(&[3, 2, 1], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let indices = i(DType::I32, &[2], &[2, 1]);
        let (direct, plain) = both_ways(GatherMm {}, &[&a, &b, &indices]);
        assert_eq!(direct, f(&[2, 1, 1], &[3.0, 4.0]));
        assert_eq!(direct, plain);
        // One matrix of rows for several experts: the indices' axes come first.
        let one = f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(
            run(GatherMm {}, &[&one, &b, &indices]).unwrap().shape(),
            [2, 2, 1]
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let a = f(&[2, 1, 2], &[0.0; 4]);
        let b = f(&[3, 2, 1], &[0.0; 6]);
        let three = i(DType::I32, &[3], &[0, 1, 2]);
        assert!(run(GatherMm {}, &[&a, &b, &three]).is_err());
        assert!(run(GatherMm {}, &[&a, &b, &i(DType::I32, &[2], &[0, 3])]).is_err());
        assert!(run(GatherMm {}, &[&a, &b, &f(&[2], &[0.0; 2])]).is_err());
        assert!(
            run(
                GatherMm {},
                &[&a, &f(&[2, 1], &[0.0; 2]), &i(DType::I32, &[2], &[0, 0])]
            )
            .is_err()
        );
    }
}
