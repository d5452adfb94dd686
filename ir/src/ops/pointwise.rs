//! Pointwise ops. A new one is a row here: what it does to doubles and to integers, and the target's node.
//!
//! Integers are evaluated as `i128`, in which every integer dtype (`u64` too) has its own value, and wrapped to the dtype.

mod binary;
mod fused;
mod support;
#[cfg(test)]
mod tests;

pub(super) use fused::Build;
pub(super) use support::{
    Takes, arg, arg_dtype, as_type, broadcast_sizes, expand, floats, from_ints, ints, same_dtype,
    wide_float,
};

pub use fused::SCALED_ERFC;

pub use super::table::{
    Abs, Acos, Acosh, Add, Asin, Asinh, Atan, Atan2, Atanh, BitwiseAnd, BitwiseNot, BitwiseOr,
    BitwiseXor, Cast, Ceil, Cos, Cosh, Div, Eq, Erf, Erfc, Exp, Expm1, Floor, FloorDiv, Ge, Gelu,
    Gt, Le, Log, Log1p, Log2, Log10, LogAddExp, LogicalAnd, LogicalNot, LogicalOr, Lt, Maximum,
    Minimum, Mul, Ne, Neg, Pow, Reciprocal, Remainder, Round, Rsqrt, Sigmoid, Sign, Silu, Sin,
    Sinh, Sqrt, Square, Sub, Tan, Tanh, Trunc, Where,
};
use super::util::{one, tensor};
use super::{EvalCx, OpImpl};
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::Type;
use support::{cast, eval_floats, eval_unary, infer_unary};

macro_rules! unary {
    // Floats only.
    ($Op:ident, floats, $float:expr, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_unary(args, Takes::Floats)
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_floats(args, $float)
            }
            fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(one($node, &["x"]))
            }
        }
    };
    // Floats and integers, each in its own way.
    ($Op:ident, numbers, $float:expr, $int:expr, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_unary(args, Takes::Numbers)
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_unary(args, $float, $int)
            }
            fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(one($node, &["x"]))
            }
        }
    };
    // Rounding to an integer, which leaves integers as they are.
    ($Op:ident, rounding, $float:expr, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_unary(args, Takes::Numbers)
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_unary(args, $float, |x| x)
            }
            fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(if arg_dtype(cx, 0)?.is_float() {
                    one($node, &["x"])
                } else {
                    Lowering::Alias(0)
                })
            }
        }
    };
}

unary!(Neg, numbers, |x| -x, |x| -x, "Neg");
unary!(Abs, numbers, |x| x.abs(), |x| x.abs(), "Abs");
unary!(Sign, numbers, sign, |x| x.signum(), "Sign");
unary!(Square, numbers, |x| x * x, |x| x.wrapping_mul(x), "Square");
unary!(Exp, floats, |x| x.exp(), "Exp");
unary!(Expm1, floats, |x| x.exp_m1(), "Expm1");
unary!(Log, floats, |x| x.ln(), "Log");
unary!(Log2, floats, |x| x.log2(), "Log2");
unary!(Log10, floats, |x| x.log10(), "Log10");
unary!(Log1p, floats, |x| x.ln_1p(), "Log1p");
unary!(Sqrt, floats, |x| x.sqrt(), "Sqrt");
unary!(Rsqrt, floats, |x| 1.0 / x.sqrt(), "Rsqrt");
unary!(Reciprocal, floats, |x| 1.0 / x, "Reciprocal");
unary!(Sin, floats, |x| x.sin(), "Sin");
unary!(Cos, floats, |x| x.cos(), "Cos");
unary!(Tan, floats, |x| x.tan(), "Tan");
unary!(Asin, floats, |x| x.asin(), "Arcsin");
unary!(Acos, floats, |x| x.acos(), "Arccos");
unary!(Atan, floats, |x| x.atan(), "Arctan");
unary!(Sinh, floats, |x| x.sinh(), "Sinh");
unary!(Cosh, floats, |x| x.cosh(), "Cosh");
unary!(Tanh, floats, |x| x.tanh(), "Tanh");
unary!(Asinh, floats, |x| x.asinh(), "Arcsinh");
unary!(Acosh, floats, |x| x.acosh(), "Arccosh");
unary!(Atanh, floats, |x| x.atanh(), "Arctanh");
unary!(Erf, floats, erf, "Erf");
unary!(Sigmoid, floats, sigmoid, "Sigmoid");
unary!(Floor, rounding, |x| x.floor(), "Floor");
unary!(Ceil, rounding, |x| x.ceil(), "Ceil");
unary!(Round, rounding, |x| x.round_ties_even(), "Round");
unary!(Trunc, rounding, |x| x.trunc(), "Trunc");

/// 0 for NaN, as in PyTorch and on the target.
fn sign(x: f64) -> f64 {
    f64::from(i8::from(x > 0.0) - i8::from(x < 0.0))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function to a few units in the last place of a double: 2/√π · x·exp(−x²) · Σ (2x²)ⁿ / (1·3·…·(2n+1)) near zero, where the terms have one sign; further out 1 − erfc.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.0 {
        let (mut sum, mut term) = (1.0, 1.0);
        for n in 1..80 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return std::f64::consts::FRAC_2_SQRT_PI * x * (-x * x).exp() * sum;
    }
    if a.is_nan() {
        return x;
    }
    (1.0 - erfc(a)).copysign(x)
}

/// 1 − erf: beyond 2 by the continued fraction exp(−x²)/√π · 1/(x + ½/(x + 1/(x + (3/2)/(x + …)))).
fn erfc(x: f64) -> f64 {
    // Not above 2 for NaN either.
    if x <= -2.0 {
        return 2.0 - erfc(-x);
    }
    if x.is_nan() || x < 2.0 {
        return 1.0 - erf(x);
    }
    let tail = (1..=100)
        .rev()
        .fold(x, |tail, n| x + f64::from(n) / 2.0 / tail);
    0.5 * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() / tail
}

impl OpImpl for LogicalNot {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        Ok(Type::tensor(DType::Bool, tensor(args, 0)?.shape.clone()))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        let out = x.to_f64().iter().map(|&x| i64::from(x == 0.0)).collect();
        Ok(vec![Tensor::ints(DType::Bool, x.shape().to_vec(), out)?])
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(one("LogicalNot", &["x"]))
    }
}

impl OpImpl for BitwiseNot {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_unary(args, Takes::Bits)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let not: fn(i128) -> i128 = match arg(args, 0)?.dtype() {
            DType::Bool => |x| i128::from(x == 0),
            _ => |x| !x,
        };
        eval_unary(args, |_| f64::NAN, not)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let node = if arg_dtype(cx, 0)? == DType::Bool {
            "LogicalNot"
        } else {
            "BitwiseInvert"
        };
        Ok(one(node, &["x"]))
    }
}

impl OpImpl for Cast {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        Ok(Type::tensor(self.dtype, tensor(args, 0)?.shape.clone()))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        Ok(vec![cast(arg(args, 0)?, self.dtype)?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if arg_dtype(cx, 0)? == self.dtype {
            return Ok(Lowering::Alias(0));
        }
        Ok(Lowering::Insts(vec![as_type(
            Operand::Arg(0),
            self.dtype,
            Operand::Out(0),
        )]))
    }
}
