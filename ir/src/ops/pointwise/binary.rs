//! Pointwise ops of two arguments, and `where`.

use super::support::{
    Takes, arg, arg_dtype, as_type, binary, broadcast_sizes, eval_binary, eval_compare, expand,
    infer_binary, ints, same_dtype, unary,
};
use super::{
    Add, Atan2, BitwiseAnd, BitwiseOr, BitwiseXor, Div, Eq, FloorDiv, Ge, Gt, Le, LogAddExp,
    LogicalAnd, LogicalOr, Lt, Maximum, Minimum, Mul, Ne, Pow, Remainder, Sub, Where,
};
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Inst, LowerCx, Lowering, Operand};
use crate::ops::util::{broadcast, fail, one, tensor};
use crate::ops::{EvalCx, OpImpl};
use crate::tensor::{Data, Tensor};
use crate::types::Type;

macro_rules! binary {
    ($Op:ident, floats, $float:expr, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_binary(args, Takes::Floats, None)
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_binary(args, $float, |_, _| Err("takes floats"))
            }
            fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(one($node, &["a", "b"]))
            }
        }
    };
    ($Op:ident, $takes:ident, $float:expr, $int:expr, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_binary(args, Takes::$takes, None)
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_binary(args, $float, $int)
            }
            fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(one($node, &["a", "b"]))
            }
        }
    };
}

binary! { Add, Numbers, |a, b| a + b, |a, b| Ok(a.wrapping_add(b)), "Add" }
binary! { Sub, Numbers, |a, b| a - b, |a, b| Ok(a.wrapping_sub(b)), "Subtract" }
binary! { Mul, Numbers, |a, b| a * b, |a, b| Ok(a.wrapping_mul(b)), "Multiply" }
binary! { Div, floats, |a, b| a / b, "Divide" }
binary! { Remainder, Numbers, remainder, |a, b| Ok(floor_div_rem(a, b)?.1), "Remainder" }
binary! { Pow, Numbers, f64::powf, int_pow, "Power" }
binary! { Maximum, Any, |a, b| if a > b || a.is_nan() { a } else { b }, |a, b| Ok(a.max(b)), "Maximum" }
binary! { Minimum, Any, |a, b| if a < b || a.is_nan() { a } else { b }, |a, b| Ok(a.min(b)), "Minimum" }
binary! { Atan2, floats, f64::atan2, "Atan2" }
binary! { LogAddExp, floats, log_add_exp, "LogAddExp" }

pub(super) fn remainder(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r != 0.0 && (r < 0.0) != (b < 0.0) {
        r + b
    } else {
        r
    }
}

fn floor_div_rem(a: i128, b: i128) -> Result<(i128, i128), &'static str> {
    if b == 0 {
        return Err("integer division by zero");
    }
    let (q, r) = (a / b, a % b);
    Ok(if r != 0 && (r < 0) != (b < 0) {
        (q - 1, r + b)
    } else {
        (q, r)
    })
}

/// Wraps modulo 2¹²⁸, which every narrower width divides.
fn int_pow(a: i128, b: i128) -> Result<i128, &'static str> {
    let (mut base, mut exponent, mut product) = (a, b, 1i128);
    if exponent < 0 {
        return Err("integer raised to a negative power");
    }
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = product.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    Ok(product)
}

pub(super) fn log_add_exp(a: f64, b: f64) -> f64 {
    // Equal infinities would give inf − inf.
    if a == b {
        return a + std::f64::consts::LN_2;
    }
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

/// Rounds the quotient itself down, not the double nearest to it: a less the remainder is a multiple of b.
pub(super) fn floor_div(a: f64, b: f64) -> f64 {
    if b == 0.0 {
        return a / b;
    }
    let r = a % b;
    let turned = r != 0.0 && (r < 0.0) != (b < 0.0);
    let q = ((a - r) / b).round_ties_even() - if turned { 1.0 } else { 0.0 };
    if q == 0.0 { 0.0f64.copysign(a / b) } else { q }
}

impl OpImpl for FloorDiv {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_binary(args, Takes::Numbers, None)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_binary(args, floor_div, |a, b| Ok(floor_div_rem(a, b)?.0))
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        use Operand::{Arg, Out, Temp};
        let dtype = arg_dtype(cx, 0)?;
        if dtype == DType::U64 {
            return fail("the target has no division of 64-bit unsigned integers");
        }
        if dtype.is_float() {
            // (a − remainder) / b is an integer up to rounding, unlike a / b, which may round up to the next one. It is NaN where b is zero or infinite: there a / b decides.
            return Ok(Lowering::Insts(vec![
                binary("Remainder", Arg(0), Arg(1), Temp(0)),
                binary("Subtract", Arg(0), Temp(0), Temp(1)),
                binary("Divide", Temp(1), Arg(1), Temp(2)),
                unary("Round", Temp(2), Temp(3)),
                binary("FloorDivide", Arg(0), Arg(1), Temp(4)),
                binary("Equal", Temp(3), Temp(3), Temp(5)),
                Inst::new("Where")
                    .tensor("condition", Temp(5))
                    .tensor("x", Temp(3))
                    .tensor("y", Temp(4))
                    .tensor("out", Out(0)),
            ]));
        }
        // The target's division of integers is one of f32. a − remainder is a multiple of b, so that rounding finds the quotient; what f32 lost of a
        // wide one is divided again. Exact for quotients below 2⁴⁶. Narrow dtypes are widened first: a − remainder may pass their range.
        let narrow = dtype.size() <= 2;
        let work = if narrow { DType::I32 } else { DType::I64 };
        let mut insts = vec![
            as_type(Arg(0), work, Temp(0)),
            as_type(Arg(1), work, Temp(1)),
            binary("Remainder", Temp(0), Temp(1), Temp(2)),
            binary("Subtract", Temp(0), Temp(2), Temp(3)),
            binary("Divide", Temp(3), Temp(1), Temp(4)),
            unary("Round", Temp(4), Temp(5)),
        ];
        if narrow {
            insts.push(as_type(Temp(5), dtype, Out(0)));
        } else {
            insts.extend([
                as_type(Temp(5), work, Temp(6)),
                binary("Multiply", Temp(6), Temp(1), Temp(7)),
                binary("Subtract", Temp(3), Temp(7), Temp(8)),
                binary("Divide", Temp(8), Temp(1), Temp(9)),
                unary("Round", Temp(9), Temp(10)),
                as_type(Temp(10), work, Temp(11)),
                binary("Add", Temp(6), Temp(11), Temp(12)),
                as_type(Temp(12), dtype, Out(0)),
            ]);
        }
        Ok(Lowering::Insts(insts))
    }
}

macro_rules! compare {
    ($Op:ident, $method:ident, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_binary(args, Takes::Any, Some(DType::Bool))
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_compare(args, f64::$method, i128::$method)
            }
            fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(one($node, &["a", "b"]))
            }
        }
    };
}

compare!(Eq, eq, "Equal");
compare!(Ne, ne, "NotEqual");
compare!(Lt, lt, "Less");
compare!(Le, le, "LessEqual");
compare!(Gt, gt, "Greater");
compare!(Ge, ge, "GreaterEqual");

macro_rules! bits {
    ($Op:ident, $takes:ident, $int:expr, $node:literal, bool $bool:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                infer_binary(args, Takes::$takes, None)
            }
            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                eval_binary(args, |_, _| f64::NAN, $int)
            }
            fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
                Ok(one(
                    if arg_dtype(cx, 0)? == DType::Bool {
                        $bool
                    } else {
                        $node
                    },
                    &["a", "b"],
                ))
            }
        }
    };
}

bits!(LogicalAnd, Bools, |a, b| Ok(a & b), "LogicalAnd", bool "LogicalAnd");
bits!(LogicalOr, Bools, |a, b| Ok(a | b), "LogicalOr", bool "LogicalOr");
bits!(BitwiseAnd, Bits, |a, b| Ok(a & b), "BitwiseAnd", bool "LogicalAnd");
bits!(BitwiseOr, Bits, |a, b| Ok(a | b), "BitwiseOr", bool "LogicalOr");
bits!(BitwiseXor, Bits, |a, b| Ok(a ^ b), "BitwiseXor", bool "NotEqual");

impl OpImpl for Where {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (cond, a, b) = (tensor(args, 0)?, tensor(args, 1)?, tensor(args, 2)?);
        Takes::Bools.check(cond.dtype)?;
        same_dtype(a, b)?;
        Ok(Type::tensor(
            a.dtype,
            broadcast(&cond.shape, &broadcast(&a.shape, &b.shape)?)?,
        ))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let (cond, a, b) = (arg(args, 0)?, arg(args, 1)?, arg(args, 2)?);
        let shape = broadcast_sizes(cond.shape(), &broadcast_sizes(a.shape(), b.shape())?)?;
        let (cond, a, b) = (
            expand(cond, &shape)?,
            expand(a, &shape)?,
            expand(b, &shape)?,
        );
        let cond = ints(&cond);
        let out = match (a.data(), b.data()) {
            (Data::Float(x), Data::Float(y)) => {
                let data = cond
                    .iter()
                    .zip(x.iter().zip(y))
                    .map(|(c, (x, y))| if *c != 0 { *x } else { *y });
                Tensor::floats(a.dtype(), shape, data.collect())?
            }
            _ => {
                let (x, y) = (a.to_i64(), b.to_i64());
                let data = cond
                    .iter()
                    .zip(x.iter().zip(&y))
                    .map(|(c, (x, y))| if *c != 0 { *x } else { *y });
                Tensor::ints(a.dtype(), shape, data.collect())?
            }
        };
        Ok(vec![out])
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(one("Where", &["condition", "x", "y"]))
    }
}
