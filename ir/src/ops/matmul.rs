//! Matrix products.

use super::movement::Reshape;
use super::pointwise::{Add, Cast, Mul};
use super::pointwise::{Build, Takes, arg, broadcast_sizes, expand, from_ints, ints, same_dtype};
use super::reduce::Sum;
use super::table::Op;
pub use super::table::{Addmm, Matmul};
use super::util::{broadcast, broadcast_flat, fail, for_each_index, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Data, Tensor, numel};
use crate::types::{TensorType, Type};

/// The type of a·b.
fn infer_product(args: &[&Type]) -> Result<TensorType, OpError> {
    let (a, b) = (tensor(args, 0)?, tensor(args, 1)?);
    same_dtype(a, b)?;
    Takes::Numbers.check(a.dtype)?;
    let ([batch_a @ .., m, k], [batch_b @ .., l, n]) = (a.shape.as_slice(), b.shape.as_slice())
    else {
        return fail(format!("{a} and {b} are not both at least 2-d"));
    };
    if k != l {
        return fail(format!("inner sizes {k} and {l} of {a} and {b} differ"));
    }
    let mut shape = broadcast(batch_a, batch_b)?;
    shape.extend([m.clone(), n.clone()]);
    Ok(TensorType::new(a.dtype, shape))
}

/// The sizes of a product: the batch, m, k, n, and each argument's batch.
struct Sizes<'a> {
    batch: Vec<usize>,
    batch_a: &'a [usize],
    batch_b: &'a [usize],
    m: usize,
    k: usize,
    n: usize,
}

impl<'a> Sizes<'a> {
    fn of(a: &'a [usize], b: &'a [usize]) -> Result<Sizes<'a>, OpError> {
        let ([batch_a @ .., m, k], [batch_b @ .., l, n]) = (a, b) else {
            return fail(format!("{a:?} and {b:?} are not both at least 2-d"));
        };
        if k != l {
            return fail(format!("inner sizes {k} and {l} differ"));
        }
        let batch = broadcast_sizes(batch_a, batch_b)?;
        Ok(Sizes {
            batch,
            batch_a,
            batch_b,
            m: *m,
            k: *k,
            n: *n,
        })
    }

    fn shape(&self) -> Vec<usize> {
        self.batch.iter().copied().chain([self.m, self.n]).collect()
    }

    /// The elements of the product, each accumulated from `zero` by `add(sum, x, y)`.
    fn product<T: Copy>(
        &self,
        a: &[T],
        b: &[T],
        zero: T,
        add: fn(T, T, T) -> T,
    ) -> Result<Vec<T>, OpError> {
        let &Sizes { m, k, n, .. } = self;
        let mut out = vec![zero; numel(&self.shape())?];
        if out.is_empty() {
            return Ok(out);
        }
        for_each_index(&self.batch, |flat, index| {
            let a = &a[broadcast_flat(self.batch_a, index) * m * k..];
            let b = &b[broadcast_flat(self.batch_b, index) * k * n..];
            let out = &mut out[flat * m * n..];
            // Row by row of b, so that the inner loop runs along memory.
            for (i, p) in (0..m).flat_map(|i| (0..k).map(move |p| (i, p))) {
                for j in 0..n {
                    out[i * n + j] = add(out[i * n + j], a[i * k + p], b[p * n + j]);
                }
            }
        });
        Ok(out)
    }
}

/// a·b + c, floats in doubles that are rounded once.
pub(super) fn eval_product(
    a: &Tensor,
    b: &Tensor,
    c: Option<&Tensor>,
) -> Result<Vec<Tensor>, OpError> {
    let sizes = Sizes::of(a.shape(), b.shape())?;
    let shape = sizes.shape();
    numel(&shape)?;
    let c = match c {
        Some(c) if broadcast_sizes(c.shape(), &shape)? == shape => Some(expand(c, &shape)?),
        Some(c) => return fail(format!("{:?} doesn't broadcast to {shape:?}", c.shape())),
        None => None,
    };
    let out = match (a.data(), b.data()) {
        (Data::Float(x), Data::Float(y)) => {
            let mut out = sizes.product(x, y, 0.0, |sum, x, y| sum + x * y)?;
            if let Some(c) = c {
                out.iter_mut().zip(c.to_f64()).for_each(|(o, c)| *o += c);
            }
            Tensor::floats(a.dtype(), shape, out)?
        }
        _ => {
            let add: fn(i128, i128, i128) -> i128 = |sum, x, y| sum.wrapping_add(x.wrapping_mul(y));
            let mut out = sizes.product(&ints(a), &ints(b), 0, add)?;
            if let Some(c) = c {
                out.iter_mut()
                    .zip(ints(&c))
                    .for_each(|(o, c)| *o = o.wrapping_add(c));
            }
            from_ints(a.dtype(), shape, out)?
        }
    };
    Ok(vec![out])
}

/// The instruction of a·b, or of a·b + c.
fn lower_product(cx: &LowerCx<'_>, bias: bool) -> Result<Lowering, OpError> {
    if !super::pointwise::arg_dtype(cx, 0)?.is_float() {
        return Ok(Lowering::Decompose);
    }
    let inst = Inst::new("Addmm")
        .tensor("mat1", Operand::Arg(0))
        .tensor("mat2", Operand::Arg(1))
        .tensor_if(bias, "bias", Operand::Arg(2));
    Ok(Lowering::Insts(vec![inst.out()]))
}

impl OpImpl for Matmul {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        Ok(infer_product(args)?.into())
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_product(arg(args, 0)?, arg(args, 1)?, None)
    }

    /// The target multiplies matrices of floats only: integers are multiplied in pairs and summed, which is exact.
    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let &[a, b] = args else {
            return fail("takes 2 arguments");
        };
        let (a_ty, b_ty) = (graph.tensor_ty(a)?.clone(), graph.tensor_ty(b)?.clone());
        if a_ty.dtype.is_float() {
            return Ok(None);
        }
        let mut add = |op: Op, args: &[Value]| graph.add(op, args, &Loc::default());
        let spread = |shape: &[Dim], axis: usize| {
            let mut shape = shape.to_vec();
            shape.insert(axis, Dim::from(1i64));
            Reshape { shape }
        };
        let axis = a_ty.rank().max(b_ty.rank()) - 1;
        let rows = add(spread(&a_ty.shape, a_ty.rank()).into(), &[a])?;
        let columns = add(spread(&b_ty.shape, b_ty.rank() - 2).into(), &[b])?;
        let pairs = add(Mul {}.into(), &[rows, columns])?;
        let sum = Sum {
            axes: vec![axis],
            keepdim: false,
        };
        let sum = add(sum.into(), &[pairs])?;
        let dtype = a_ty.dtype;
        if dtype == DType::I64 {
            return Ok(Some(sum));
        }
        add(Cast { dtype }.into(), &[sum]).map(Some)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        lower_product(cx, false)
    }
}

impl OpImpl for Addmm {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (product, c) = (infer_product(args)?, tensor(args, 2)?);
        same_dtype(&product, c)?;
        if broadcast(&product.shape, &c.shape)? != product.shape {
            return fail(format!("{c} doesn't broadcast to {product}"));
        }
        Ok(product.into())
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_product(arg(args, 0)?, arg(args, 1)?, Some(arg(args, 2)?))
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let &[x, y, c] = args else {
            return fail("takes 3 arguments");
        };
        let mut b = Build::new(graph, args.first())?;
        let (x, y, c) = (b.up(x)?, b.up(y)?, b.up(c)?);
        let product = b.op(Matmul {}, &[x, y])?;
        let sum = b.op(Add {}, &[product, c])?;
        b.down(sum).map(Some)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        lower_product(cx, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::*;

    #[test]
    fn products_and_batches() {
        let a = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let b = f(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(
            run(Matmul {}, &[&a, &b]).unwrap(),
            f(&[2, 2], &[4.0, 5.0, 10.0, 11.0])
        );
        let batch = f(&[2, 1, 1, 3], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        let many = f(&[2, 3, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let out = run(Matmul {}, &[&batch, &many]).unwrap();
        assert_eq!(out, f(&[2, 2, 1, 1], &[6.0, 15.0, 12.0, 30.0]));
        assert!(run(Matmul {}, &[&a, &a]).is_err());
        assert!(run(Matmul {}, &[&f(&[3], &[1.0; 3]), &b]).is_err());
        assert!(run(Matmul {}, &[&a, &i(DType::I32, &[3, 1], &[1, 2, 3])]).is_err());
    }

    #[test]
    fn empty_products_are_zero() {
        let out = run(Matmul {}, &[&f(&[2, 0], &[]), &f(&[0, 3], &[])]).unwrap();
        assert_eq!(out, f(&[2, 3], &[0.0; 6]));
        assert!(
            run(Matmul {}, &[&f(&[0, 2], &[]), &f(&[2, 3], &[0.0; 6])])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn integers_wrap_and_are_written_out() {
        let a = i(DType::U8, &[1, 2], &[200, 2]);
        let b = i(DType::U8, &[2, 1], &[2, 1]);
        assert_eq!(run(Matmul {}, &[&a, &b]).unwrap().to_i64(), [146]);
        assert_eq!(
            lowered(Matmul {}, &[type_of(&a), type_of(&b)]).unwrap(),
            Lowering::Decompose
        );
        let (direct, plain) = both_ways(Matmul {}, &[&a, &b]);
        assert_eq!(direct, plain);
    }

    #[test]
    fn addmm_broadcasts_the_bias_only() {
        let a = f(&[2, 1], &[1.0, 2.0]);
        let b = f(&[1, 2], &[3.0, 4.0]);
        let c = f(&[2], &[10.0, 20.0]);
        let (direct, plain) = both_ways(Addmm {}, &[&a, &b, &c]);
        assert_eq!(direct, f(&[2, 2], &[13.0, 24.0, 16.0, 28.0]));
        assert_eq!(direct, plain);
        assert!(run(Addmm {}, &[&a, &b, &f(&[3, 1, 1], &[1.0; 3])]).is_err());
        assert_eq!(
            nodes(&lowered(Addmm {}, &[type_of(&a), type_of(&b), type_of(&c)]).unwrap()),
            ["Addmm"]
        );
    }
}
