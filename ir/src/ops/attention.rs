//! Scaled dot-product attention.

use super::create::{Arange, Full};
use super::matmul::Matmul;
use super::movement::{Broadcast, Reshape, Transpose, check_args};
use super::norm::Softmax;
use super::pointwise::{Add, Cast, Ge, Mul, Where};
use super::table::Op;
use super::util::{broadcast, broadcast_flat, fail, tensor};
use super::{EvalCx, OpImpl};
use crate::attr::Scalar;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Tensor, numel};
use crate::types::{TensorType, Type};

pub use super::table::Sdpa;

/// The sizes that an attention is made of.
pub(super) struct Sizes<'a> {
    /// Batch.
    pub(super) b: &'a Dim,
    /// Heads of q.
    pub(super) h: &'a Dim,
    /// Heads of k and v.
    k: &'a Dim,
    /// Heads of q for each of k and v.
    groups: i64,
    /// Query rows.
    pub(super) s: &'a Dim,
    /// Key rows.
    pub(super) t: &'a Dim,
    /// Head size of q and k.
    d: &'a Dim,
    /// Head size of v.
    pub(super) e: &'a Dim,
}

pub(super) fn sizes<'a>(
    q: &'a TensorType,
    k: &'a TensorType,
    v: &'a TensorType,
) -> Result<Sizes<'a>, OpError> {
    let ([b, h, s, d], [kb, kh, t, kd], [vb, vh, vt, e]) =
        (&q.shape[..], &k.shape[..], &v.shape[..])
    else {
        return fail(format!("q, k and v must be 4-d, not {q}, {k}, {v}"));
    };
    let same_dtype = q.dtype.is_float() && k.dtype == q.dtype && v.dtype == q.dtype;
    let same_sizes = b == kb && b == vb && kh == vh && t == vt && d == kd;
    if !same_dtype || !same_sizes {
        return fail(format!("q {q}, k {k} and v {v} don't fit"));
    }
    let groups = if h == kh {
        Some(1)
    } else {
        h.exact_div(kh).and_then(|n| n.as_const())
    };
    match groups {
        Some(groups) if groups >= 1 => Ok(Sizes {
            b,
            h,
            k: kh,
            groups,
            s,
            t,
            d,
            e,
        }),
        _ => fail(format!(
            "{h} heads of q are no fixed multiple of {kh} heads of k"
        )),
    }
}

fn check_mask(mask: &TensorType, q: &TensorType, z: &Sizes<'_>) -> Result<(), OpError> {
    if mask.dtype != DType::Bool && mask.dtype != q.dtype {
        return fail(format!("the mask {mask} is neither bool nor {}", q.dtype));
    }
    let scores = [z.b, z.h, z.s, z.t].map(Dim::clone);
    if mask.rank() > 4 || broadcast(&mask.shape, &scores)? != scores {
        return fail(format!(
            "the mask {mask} doesn't broadcast to {}",
            TensorType::new(mask.dtype, scores.to_vec())
        ));
    }
    Ok(())
}

/// The dtype that scores are scaled, masked and normalised in.
fn score_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

impl OpImpl for Sdpa {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (q, k, v) = (tensor(args, 0)?, tensor(args, 1)?, tensor(args, 2)?);
        let z = sizes(q, k, v)?;
        if args.len() > 3 {
            check_mask(tensor(args, 3)?, q, &z)?;
        }
        Ok(Type::tensor(
            q.dtype,
            [z.b, z.h, z.s, z.e].map(Dim::clone).to_vec(),
        ))
    }

    /// A row in which every key is masked gives zeros.
    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [q, k, v, rest @ ..] = args else {
            return fail("takes q, k and v");
        };
        let ([batches, heads, rows, d], [_, kv_heads, keys, e]) = (q.shape(), v.shape()) else {
            return fail("takes 4-d tensors");
        };
        let (heads, rows, d, kv_heads, keys, e) = (*heads, *rows, *d, *kv_heads, *keys, *e);
        let out_shape = vec![*batches, heads, rows, e];
        let mut out = Vec::with_capacity(numel(&out_shape)?);
        let lines = numel(&out_shape)?.checked_div(e).unwrap_or(0);
        let groups = heads.checked_div(kv_heads).unwrap_or(1).max(1);
        let (q, k, v_data) = (q.to_f64(), k.to_f64(), v.to_f64());
        let mask = rest.first();
        for line in 0..lines {
            let (b, h, i) = (line / rows / heads, line / rows % heads, line % rows);
            // The keys and values of this head start at this row of k and v.
            let first_row = (b * kv_heads + h / groups) * keys;
            let query = &q[line * d..][..d];
            let score = |j: usize| -> f64 {
                if self.causal && j + rows > i + keys {
                    return f64::NEG_INFINITY;
                }
                let key = &k[(first_row + j) * d..][..d];
                let product: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                let added = mask.map(|m| m.get(broadcast_flat(m.shape(), &[b, h, i, j])));
                match added {
                    Some(Scalar::Bool(false)) => f64::NEG_INFINITY,
                    Some(Scalar::Bool(true)) | None => product * self.scale.get(),
                    Some(add) => product * self.scale.get() + add.as_f64(),
                }
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if scores.iter().all(|s| *s == f64::NEG_INFINITY) {
                out.resize(out.len() + e, 0.0);
                continue;
            }
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for c in 0..e {
                let column = (0..keys).map(|j| weights[j] * v_data[(first_row + j) * e + c]);
                out.push(column.sum::<f64>() / total);
            }
        }
        Ok(vec![Tensor::floats(v.dtype(), out_shape, out)?])
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let [q, k, v, rest @ ..] = args else {
            return fail("takes q, k and v");
        };
        let (q, k, v, mask) = (*q, *k, *v, rest.first().copied());
        let (q_ty, k_ty, v_ty) = (
            graph.tensor_ty(q)?.clone(),
            graph.tensor_ty(k)?.clone(),
            graph.tensor_ty(v)?.clone(),
        );
        let z = sizes(&q_ty, &k_ty, &v_ty)?;
        let mask_dtype = mask
            .map(|m| graph.tensor_ty(m).map(|t| t.dtype))
            .transpose()?;
        let dtype = score_dtype(q_ty.dtype);
        let mut add = |op: Op, args: &[Value]| graph.add(op, args, &Loc::default());

        let mut repeat = |x: Value, width: &Dim| -> Result<Value, OpError> {
            if z.groups == 1 {
                return Ok(x);
            }
            let shape = |groups: i64| {
                vec![
                    z.b.clone(),
                    z.k.clone(),
                    groups.into(),
                    z.t.clone(),
                    width.clone(),
                ]
            };
            let x = add(Reshape { shape: shape(1) }.into(), &[x])?;
            let x = add(
                Broadcast {
                    shape: shape(z.groups),
                }
                .into(),
                &[x],
            )?;
            let shape = [z.b, z.h, z.t, width].map(Dim::clone).to_vec();
            add(Reshape { shape }.into(), &[x])
        };
        let (k, v) = (repeat(k, z.d)?, repeat(v, z.e)?);
        let full = |value: f64| Full {
            value: Scalar::float(value),
            ty: TensorType::new(dtype, vec![]),
        };
        let perm = vec![0, 1, 3, 2];
        let k = add(Transpose { perm }.into(), &[k])?;
        let mut scores = add(Matmul {}.into(), &[q, k])?;
        if dtype != q_ty.dtype {
            scores = add(Cast { dtype }.into(), &[scores])?;
        }
        if self.scale.get() != 1.0 {
            let scale = add(full(self.scale.get()).into(), &[])?;
            scores = add(Mul {}.into(), &[scores, scale])?;
        }
        match (mask, mask_dtype) {
            (Some(mask), Some(DType::Bool)) => {
                let masked = add(full(f64::NEG_INFINITY).into(), &[])?;
                scores = add(Where {}.into(), &[mask, scores, masked])?;
            }
            (Some(mask), Some(of)) => {
                let mask = if of == dtype {
                    mask
                } else {
                    add(Cast { dtype }.into(), &[mask])?
                };
                scores = add(Add {}.into(), &[scores, mask])?;
            }
            _ => {}
        }
        if self.causal {
            let mut positions =
                |start: Dim, len: &Dim, shape: Vec<Dim>| -> Result<Value, OpError> {
                    let range = Arange {
                        start,
                        step: 1i64.into(),
                        len: len.clone(),
                        dtype: DType::I32,
                    };
                    let range = add(range.into(), &[])?;
                    add(Reshape { shape }.into(), &[range])
                };
            let last = positions(z.t - z.s, z.s, vec![z.s.clone(), 1i64.into()])?;
            let key = positions(0i64.into(), z.t, vec![1i64.into(), z.t.clone()])?;
            let seen = add(Ge {}.into(), &[last, key])?;
            let masked = add(full(f64::NEG_INFINITY).into(), &[])?;
            scores = add(Where {}.into(), &[seen, scores, masked])?;
        }
        let mut weights = add(Softmax { axis: 3 }.into(), &[scores])?;
        if dtype != q_ty.dtype {
            weights = add(Cast { dtype: q_ty.dtype }.into(), &[weights])?;
        }
        Ok(Some(add(Matmul {}.into(), &[weights, v])?))
    }

    /// The target takes an array mask or a causal one, not both.
    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let masked = cx.args.len() > 3;
        if masked && self.causal {
            return Ok(Lowering::Decompose);
        }
        Ok(Lowering::Insts(vec![
            Inst::new("Sdpa")
                .tensor("q", Operand::Arg(0))
                .tensor("k", Operand::Arg(1))
                .tensor("v", Operand::Arg(2))
                .out()
                .with("scale", Field::Float(self.scale.get()))
                .tensor_if(masked, "mask", Operand::Arg(3))
                .with("causal", Field::Bool(self.causal)),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::F64;
    use crate::ops::testing::{run, run_decomposed};

    fn wave(dtype: DType, shape: [usize; 4]) -> Tensor {
        Tensor::from_fn(dtype, shape.to_vec(), |i| {
            Scalar::float((i as f64 * 0.7).sin())
        })
        .unwrap()
    }

    fn sdpa(causal: bool) -> Sdpa {
        Sdpa {
            scale: F64::new(0.5),
            causal,
        }
    }

    #[test]
    fn means_what_its_decomposition_means() {
        let q = wave(DType::F32, [2, 4, 3, 5]);
        let (k, v) = (
            wave(DType::F32, [2, 2, 6, 5]),
            wave(DType::F32, [2, 2, 6, 7]),
        );
        let added = wave(DType::F32, [1, 4, 1, 6]);
        let bools = Tensor::from_fn(DType::Bool, vec![3, 6], |i| Scalar::Bool(i % 4 != 1)).unwrap();
        for causal in [false, true] {
            for mask in [None, Some(&added), Some(&bools)] {
                let args: Vec<&Tensor> = [&q, &k, &v].into_iter().chain(mask).collect();
                let a = run(sdpa(causal), &args).unwrap().to_f64();
                let b = run_decomposed(sdpa(causal), &args).unwrap().to_f64();
                assert!(
                    a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5),
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn causal_is_aligned_with_the_last_key() {
        let q = wave(DType::F32, [1, 1, 2, 1]);
        let k = wave(DType::F32, [1, 1, 3, 1]);
        let v = Tensor::floats(DType::F32, vec![1, 1, 3, 1], vec![1.0, 1.0, 100.0]).unwrap();
        let out = run(sdpa(true), &[&q, &k, &v]).unwrap().to_f64();
        assert!(
            (out[0] - 1.0).abs() < 1e-6,
            "the first query doesn't see the last key"
        );
        assert!(out[1] > 1.5);
    }

    #[test]
    fn rows_without_a_key_are_zeros() {
        let (q, k) = (
            wave(DType::F16, [1, 1, 3, 2]),
            wave(DType::F16, [1, 1, 2, 2]),
        );
        let out = run(sdpa(true), &[&q, &k, &k]).unwrap().to_f64();
        assert_eq!(out[..2], [0.0, 0.0]);
        assert!(out[2..].iter().any(|x| *x != 0.0));
        let none = wave(DType::F16, [1, 1, 0, 2]);
        assert_eq!(
            run(sdpa(false), &[&q, &none, &none]).unwrap().to_f64(),
            [0.0; 6]
        );
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let ty = |shape: [i64; 4]| Type::tensor(DType::F32, shape.map(Dim::from).to_vec());
        let infer = |q, k, v| sdpa(false).infer(&[&ty(q), &ty(k), &ty(v)]);
        assert!(infer([1, 4, 3, 8], [1, 2, 5, 8], [1, 2, 5, 9]).is_ok());
        assert!(infer([1, 4, 3, 8], [1, 3, 5, 8], [1, 3, 5, 8]).is_err());
        assert!(infer([1, 4, 3, 8], [1, 0, 5, 8], [1, 0, 5, 8]).is_err());
        assert!(infer([1, 4, 3, 8], [2, 4, 5, 8], [2, 4, 5, 8]).is_err());
        assert!(infer([1, 4, 3, 8], [1, 4, 5, 7], [1, 4, 5, 7]).is_err());
        let (q, k) = (ty([1, 4, 3, 8]), ty([1, 4, 5, 8]));
        let mask = |dtype, shape: &[i64]| {
            let mask = Type::tensor(dtype, shape.iter().map(|&n| n.into()).collect());
            sdpa(false).infer(&[&q, &k, &k, &mask])
        };
        assert!(mask(DType::Bool, &[3, 5]).is_ok());
        assert!(mask(DType::F32, &[]).is_ok());
        assert!(mask(DType::F16, &[3, 5]).is_err());
        assert!(mask(DType::Bool, &[2, 4, 3, 5]).is_err());
        assert!(mask(DType::Bool, &[1, 1, 4, 3, 5]).is_err());
    }
}
