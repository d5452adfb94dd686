//! Normalisation: softmax, RMS norm, layer norm.

use super::pointwise::{Add, Div, Exp, Mul, Rsqrt, Square, Sub};
use super::pointwise::{Build, Takes, arg, floats, same_dtype};
use super::reduce::{Amax, Mean, Sum};
use super::reduce::{around, axis_number};
pub use super::table::{LayerNorm, RmsNorm, Softmax};
use super::util::{check_axis, fail, tensor};
use super::{EvalCx, OpImpl};
use crate::error::OpError;
use crate::graph::{Graph, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

impl OpImpl for Softmax {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        Takes::Floats.check(x.dtype)?;
        check_axis(self.axis, x.rank())?;
        Ok(x.clone().into())
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        let v = floats(x)?;
        let (before, n, after) = around(x.shape(), self.axis)?;
        let mut out = vec![0.0; v.len()];
        let lines = if v.is_empty() { 0 } else { before };
        for (b, a) in (0..lines).flat_map(|b| (0..after).map(move |a| (b, a))) {
            let at = |i: usize| (b * n + i) * after + a;
            let max = (0..n).map(|i| v[at(i)]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..n).map(|i| (v[at(i)] - max).exp()).sum();
            for i in 0..n {
                out[at(i)] = (v[at(i)] - max).exp() / sum;
            }
        }
        Ok(vec![Tensor::floats(x.dtype(), x.shape().to_vec(), out)?])
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let mut b = Build::new(graph, args.first())?;
        let x = b.up(args[0])?;
        let max = b.op(
            Amax {
                axes: vec![self.axis],
                keepdim: true,
            },
            &[x],
        )?;
        let below = b.op(Sub {}, &[x, max])?;
        let e = b.op(Exp {}, &[below])?;
        let sum = b.op(
            Sum {
                axes: vec![self.axis],
                keepdim: true,
            },
            &[e],
        )?;
        let y = b.op(Div {}, &[e, sum])?;
        b.down(y).map(Some)
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        // `precise` is what keeps the sum of the narrow floats in f32.
        let inst = Inst::new("Softmax")
            .tensor("x", Operand::Arg(0))
            .int("axis", axis_number(self.axis)?)
            .with("precise", Field::Bool(true));
        Ok(Lowering::Insts(vec![inst.out()]))
    }
}

/// The type of a norm over the last axis: that of x, whose last size each weight has, with the dtype of x.
fn infer_norm(args: &[&Type]) -> Result<Type, OpError> {
    let x = tensor(args, 0)?;
    Takes::Floats.check(x.dtype)?;
    let Some(last) = x.shape.last() else {
        return fail("x has no axes");
    };
    for n in 1..args.len() {
        let w = tensor(args, n)?;
        same_dtype(x, w)?;
        if w.shape.as_slice() != std::slice::from_ref(last) {
            return fail(format!(
                "argument {n} is {w}, not {}",
                TensorType::new(x.dtype, vec![last.clone()])
            ));
        }
    }
    Ok(x.clone().into())
}

/// Applies `row` to each row along the last axis, with the weights' elements.
fn eval_norm(args: &[&Tensor], row: impl Fn(&[f64], &mut [f64])) -> Result<Vec<Tensor>, OpError> {
    let x = arg(args, 0)?;
    let mut out = floats(x)?.to_vec();
    let n = match x.shape().last() {
        Some(&n) => n,
        None => return fail("x has no axes"),
    };
    let weights = args
        .iter()
        .skip(1)
        .map(|w| floats(w))
        .collect::<Result<Vec<_>, _>>()?;
    if weights.iter().any(|w| w.len() != n) {
        return fail(format!("weights are not of size {n}"));
    }
    if n > 0 {
        for (y, v) in out.chunks_exact_mut(n).zip(floats(x)?.chunks_exact(n)) {
            row(v, y);
            if let Some(w) = weights.first() {
                y.iter_mut().zip(*w).for_each(|(y, w)| *y *= w);
            }
            if let Some(b) = weights.get(1) {
                y.iter_mut().zip(*b).for_each(|(y, b)| *y += b);
            }
        }
    }
    Ok(vec![Tensor::floats(x.dtype(), x.shape().to_vec(), out)?])
}

fn mean(v: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = v.len() as f64;
    v.sum::<f64>() / n
}

/// x / √(mean(x²) + eps), then the weight and the bias where they are given; `centred` subtracts the mean first.
fn decompose_norm(
    graph: &mut Graph,
    args: &[Value],
    eps: f64,
    centred: bool,
) -> Result<Option<Value>, OpError> {
    let mut b = Build::new(graph, args.first())?;
    let Some(axis) = b.rank(args[0])?.checked_sub(1) else {
        return fail("x has no axes");
    };
    let mean = || Mean {
        axes: vec![axis],
        keepdim: true,
    };
    let mut x = b.up(args[0])?;
    if centred {
        let centre = b.op(mean(), &[x])?;
        x = b.op(Sub {}, &[x, centre])?;
    }
    let square = b.op(Square {}, &[x])?;
    let square = b.op(mean(), &[square])?;
    let eps = b.number(eps)?;
    let raised = b.op(Add {}, &[square, eps])?;
    let scale = b.op(Rsqrt {}, &[raised])?;
    let mut y = b.op(Mul {}, &[x, scale])?;
    if let Some(w) = args.get(1) {
        let w = b.up(*w)?;
        y = b.op(Mul {}, &[y, w])?;
    }
    if let Some(bias) = args.get(2) {
        let bias = b.up(*bias)?;
        y = b.op(Add {}, &[y, bias])?;
    }
    b.down(y).map(Some)
}

impl OpImpl for RmsNorm {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_norm(args)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_norm(args, |v, y| {
            let scale = (mean(v.iter().map(|x| x * x)) + self.eps.get()).sqrt();
            y.iter_mut().for_each(|y| *y /= scale);
        })
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        decompose_norm(graph, args, self.eps.get(), false)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let inst = Inst::new("RMSNorm")
            .tensor("x", Operand::Arg(0))
            .tensor_if(cx.args.len() > 1, "weight", Operand::Arg(1))
            .with("eps", Field::Float(self.eps.get()));
        Ok(Lowering::Insts(vec![inst.out()]))
    }
}

impl OpImpl for LayerNorm {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_norm(args)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_norm(args, |v, y| {
            let centre = mean(v.iter().copied());
            let scale =
                (mean(v.iter().map(|x| (x - centre) * (x - centre))) + self.eps.get()).sqrt();
            y.iter_mut().for_each(|y| *y = (*y - centre) / scale);
        })
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        decompose_norm(graph, args, self.eps.get(), true)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let inst = Inst::new("LayerNorm")
            .tensor("x", Operand::Arg(0))
            .tensor_if(cx.args.len() > 1, "weight", Operand::Arg(1))
            .tensor_if(cx.args.len() > 2, "bias", Operand::Arg(2))
            .with("eps", Field::Float(self.eps.get()));
        Ok(Lowering::Insts(vec![inst.out()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::F64;
    use crate::dtype::DType;
    use crate::ops::testing::*;

    const INF: f64 = f64::INFINITY;

    fn samples(dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let data = (0..n)
            .map(|i| ((i * 37 + 11) % 17) as f64 / 4.0 - 2.0)
            .collect();
        Tensor::floats(dtype, shape.to_vec(), data).unwrap()
    }

    #[test]
    fn softmax_is_stable() {
        let x = f(&[2, 2], &[1000.0, 1000.0, -INF, 0.0]);
        assert_eq!(
            run(Softmax { axis: 1 }, &[&x]).unwrap(),
            f(&[2, 2], &[0.5, 0.5, 0.0, 1.0])
        );
        let masked = run(Softmax { axis: 0 }, &[&f(&[2], &[-INF, -INF])]).unwrap();
        assert!(masked.to_f64().iter().all(|v| v.is_nan()));
        assert!(
            run(Softmax { axis: 0 }, &[&f(&[0, 3], &[])])
                .unwrap()
                .is_empty()
        );
        assert!(run(Softmax { axis: 0 }, &[&f(&[], &[1.0])]).is_err());
        assert!(run(Softmax { axis: 0 }, &[&i(DType::I32, &[1], &[1])]).is_err());
    }

    #[test]
    fn norms_scale_rows() {
        let x = f(&[2], &[3.0, 4.0]);
        let y = run(RmsNorm { eps: F64::new(0.0) }, &[&x]).unwrap().to_f64();
        assert!((y[0] - 3.0 / 12.5f64.sqrt()).abs() < 1e-6);
        let (w, b) = (f(&[2], &[2.0, 2.0]), f(&[2], &[1.0, -1.0]));
        let y = run(LayerNorm { eps: F64::new(0.0) }, &[&x, &w, &b]).unwrap();
        assert_eq!(y, f(&[2], &[-1.0, 1.0]));
        let rms = RmsNorm {
            eps: F64::new(1e-6),
        };
        assert!(run(rms.clone(), &[&x, &f(&[1], &[1.0])]).is_err());
        assert!(run(rms.clone(), &[&x, &samples(DType::F16, &[2])]).is_err());
        assert!(run(rms.clone(), &[&f(&[], &[1.0])]).is_err());
        assert!(run(rms, &[&f(&[3, 0], &[])]).unwrap().is_empty());
    }

    #[test]
    fn they_mean_their_decomposition() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let tolerance = if dtype.size() == 2 { 1e-2 } else { 1e-5 };
            let (x, w, b) = (
                samples(dtype, &[2, 3, 5]),
                samples(dtype, &[5]),
                samples(dtype, &[5]),
            );
            let eps = F64::new(1e-5);
            for (direct, plain) in [
                both_ways(Softmax { axis: 1 }, &[&x]),
                both_ways(RmsNorm { eps }, &[&x]),
                both_ways(RmsNorm { eps }, &[&x, &w]),
                both_ways(LayerNorm { eps }, &[&x]),
                both_ways(LayerNorm { eps }, &[&x, &w]),
                both_ways(LayerNorm { eps }, &[&x, &w, &b]),
            ] {
                assert_close(&direct, &plain, tolerance);
            }
        }
    }
}
