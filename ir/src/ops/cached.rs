//! Attention over caches that belong to a session, and not to the program.

pub use super::table::UpdateAndAttend;

use super::attention::{Sdpa, sizes};
use super::movement::check_args;
use super::util::{fail, tensor};
use super::{EvalCx, OpImpl};
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

impl OpImpl for UpdateAndAttend {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (q, k, v) = (tensor(args, 0)?, tensor(args, 1)?, tensor(args, 2)?);
        let position = tensor(args, 3)?;
        if [k, v].iter().any(|x| !x.dtype.is_float()) || !self.out_dtype.is_float() {
            return fail(format!(
                "k {k}, v {v} and the result in {} must be of floats",
                self.out_dtype
            ));
        }
        let like_q = |x: &TensorType| TensorType::new(q.dtype, x.shape.clone());
        let (k, v) = (like_q(k), like_q(v));
        let z = sizes(q, &k, &v)?;
        if z.s != z.t {
            return fail(format!("{} queries for {} keys", z.s, z.t));
        }
        if !position.dtype.is_int() || position.numel() != *z.s {
            return fail(format!("{} positions in {position}", z.s));
        }
        if i32::try_from(self.layer_id).is_err() {
            return fail(format!("the layer {} is no 32-bit number", self.layer_id));
        }
        if args.len() > 4 {
            tensor(args, 4)?;
        }
        let shape = [z.b, z.h, z.s, z.e].map(Clone::clone).to_vec();
        Ok(Type::tensor(self.out_dtype, shape))
    }

    /// A step that begins at position 0 sees no rows but its own, whatever the cache held before, so that it is causal attention. One that begins later is refused: its
    /// rows are the session's.
    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let ([q, k, v, position, ..], [q_ty, ..]) = (args, cx.args) else {
            return fail("takes q, k, v and positions");
        };
        let positions = position.to_i64();
        if positions.first().is_some_and(|first| *first != 0) {
            return fail("a step that doesn't begin at position 0 needs a session's cache");
        }
        if !positions.iter().zip(0..).all(|(at, n)| *at == n) {
            return fail(format!(
                "the positions {positions:?} don't follow each other"
            ));
        }
        let like_q = |x: &Tensor| Tensor::floats(q.dtype(), x.shape().to_vec(), x.to_f64());
        let (k, v) = (like_q(k)?, like_q(v)?);
        let attend = Sdpa {
            scale: self.scale,
            causal: true,
        };
        let ty =
            |x: &Tensor| Type::tensor(x.dtype(), x.shape().iter().map(|&n| n.into()).collect());
        let (k_ty, v_ty) = (ty(&k), ty(&v));
        let args = &[*q_ty, &k_ty, &v_ty];
        let out = attend.eval(&EvalCx { args, ..*cx }, &[q, &k, &v])?;
        let cast = |x: &Tensor| Tensor::floats(self.out_dtype, x.shape().to_vec(), x.to_f64());
        out.iter().map(cast).collect()
    }

    fn lower(&self, _cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![
            Inst::new("UpdateAndAttend")
                .tensor("q", Operand::Arg(0))
                .tensor("k", Operand::Arg(1))
                .tensor("v", Operand::Arg(2))
                .tensor("position", Operand::Arg(3))
                .out()
                .int("layer_id", self.layer_id)
                .with("scale", Field::Float(self.scale.get()))
                .with("out_dtype", Field::DType(self.out_dtype)),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::{F64, Scalar};
    use crate::dim::Dim;
    use crate::dtype::DType;
    use crate::ops::testing::{lowered, nodes, run, type_of};

    fn op(out_dtype: DType) -> UpdateAndAttend {
        UpdateAndAttend {
            layer_id: 3,
            scale: F64::new(0.5),
            out_dtype,
        }
    }

    fn wave(dtype: DType, shape: [usize; 4]) -> Tensor {
        Tensor::from_fn(dtype, shape.to_vec(), |i| {
            Scalar::float((i as f64 * 0.7).sin())
        })
        .unwrap()
    }

    fn positions(all: &[i64]) -> Tensor {
        Tensor::ints(DType::I32, vec![all.len(), 1], all.to_vec()).unwrap()
    }

    #[test]
    fn a_first_step_is_causal_attention() {
        let (q, k) = (
            wave(DType::F32, [1, 4, 3, 8]),
            wave(DType::F16, [1, 2, 3, 8]),
        );
        let v = wave(DType::F32, [1, 2, 3, 5]);
        let causal = Sdpa {
            scale: F64::new(0.5),
            causal: true,
        };
        let wide = Tensor::floats(DType::F32, k.shape().to_vec(), k.to_f64()).unwrap();
        let want = run(causal, &[&q, &wide, &v]).unwrap();
        let at = positions(&[0, 1, 2]);
        assert_eq!(run(op(DType::F32), &[&q, &k, &v, &at]).unwrap(), want);
        // The call before it orders, and changes nothing.
        assert_eq!(run(op(DType::F32), &[&q, &k, &v, &at, &q]).unwrap(), want);
        let half = run(op(DType::F16), &[&q, &k, &v, &at]).unwrap();
        assert_eq!(half.dtype(), DType::F16);
    }

    #[test]
    fn what_a_session_knows_is_refused() {
        let x = wave(DType::F32, [1, 1, 2, 4]);
        let eval = |at: &[i64]| run(op(DType::F32), &[&x, &x, &x, &positions(at)]);
        assert!(eval(&[0, 1]).is_ok());
        let later = eval(&[5, 6]).unwrap_err();
        assert!(later.reason.contains("session's cache"), "{later}");
        assert!(eval(&[0, 2]).is_err());
        assert!(eval(&[0, 0]).is_err());
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let ty = |dtype, shape: &[i64]| {
            Type::tensor(dtype, shape.iter().map(|&n| Dim::from(n)).collect())
        };
        let q = ty(DType::F32, &[1, 4, 3, 8]);
        let infer = |k: &[i64], v: &[i64], at: &Type| {
            let (k, v) = (ty(DType::F32, k), ty(DType::F16, v));
            op(DType::F32).infer(&[&q, &k, &v, at])
        };
        let at = ty(DType::I64, &[3]);
        assert!(infer(&[1, 2, 3, 8], &[1, 2, 3, 5], &at).is_ok());
        assert!(infer(&[1, 2, 4, 8], &[1, 2, 4, 5], &at).is_err());
        assert!(infer(&[1, 3, 3, 8], &[1, 3, 3, 5], &at).is_err());
        let k = [1, 2, 3, 8];
        assert!(infer(&k, &k, &ty(DType::I64, &[3, 2])).is_err());
        assert!(infer(&k, &k, &ty(DType::F32, &[3])).is_err());
        let far = UpdateAndAttend {
            layer_id: 1 << 31,
            ..op(DType::F32)
        };
        let k = ty(DType::F32, &k);
        assert!(far.infer(&[&q, &k, &k, &at]).is_err());
        assert!(op(DType::I32).infer(&[&q, &k, &k, &at]).is_err());
    }

    #[test]
    fn becomes_one_instruction() {
        let x = wave(DType::F32, [1, 1, 2, 4]);
        let (ty, at) = (type_of(&x), type_of(&positions(&[0, 1])));
        let args = [ty.clone(), ty.clone(), ty.clone(), at, ty];
        let lowering = lowered(op(DType::F32), &args).unwrap();
        assert_eq!(nodes(&lowering), ["UpdateAndAttend"]);
    }
}
