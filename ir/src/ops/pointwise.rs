//! Pointwise ops. A new one is a row here: what it does to doubles and to integers, and the target's node.
//!
//! Integers are evaluated as `i128`, in which every integer dtype (`u64` too) has its own value, and wrapped to the dtype.

pub use super::table::{
    Abs, Acos, Acosh, Add, Asin, Asinh, Atan, Atan2, Atanh, BitwiseAnd, BitwiseNot, BitwiseOr,
    BitwiseXor, Cast, Ceil, Cos, Cosh, Div, Eq, Erf, Exp, Expm1, Floor, FloorDiv, Ge, Gelu, Gt, Le,
    Log, Log1p, Log2, Log10, LogAddExp, LogicalAnd, LogicalNot, LogicalOr, Lt, Maximum, Minimum,
    Mul, Ne, Neg, Pow, Reciprocal, Remainder, Round, Rsqrt, Sigmoid, Sign, Silu, Sin, Sinh, Sqrt,
    Square, Sub, Tan, Tanh, Trunc, Where,
};
use super::util::{broadcast, broadcast_flat, fail, for_each_index, one, tensor};
use super::{EvalCx, OpImpl};
use crate::attr::Scalar;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Data, Tensor, numel};
use crate::types::{TensorType, Type};
use std::borrow::Cow;

/// The dtypes that an op takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    /// Floats.
    Floats,
    /// Floats and integers.
    Numbers,
    /// Integers and bools.
    Bits,
    /// Bools.
    Bools,
    /// Every dtype.
    Any,
}

impl Takes {
    /// Refuses a dtype that the op doesn't take.
    pub(super) fn check(self, dtype: DType) -> Result<(), OpError> {
        let (ok, what) = match self {
            Takes::Floats => (dtype.is_float(), "floats"),
            Takes::Numbers => (dtype != DType::Bool, "numbers"),
            Takes::Bits => (!dtype.is_float(), "integers or bools"),
            Takes::Bools => (dtype == DType::Bool, "bools"),
            Takes::Any => (true, "anything"),
        };
        if ok {
            Ok(())
        } else {
            fail(format!("takes {what}, not {dtype}"))
        }
    }
}

/// The type of a unary op that keeps the dtype.
fn infer_unary(args: &[&Type], takes: Takes) -> Result<Type, OpError> {
    let x = tensor(args, 0)?;
    takes.check(x.dtype)?;
    Ok(x.clone().into())
}

/// The type of a binary op: both dtypes equal, `out` or else theirs, the shapes broadcast.
fn infer_binary(args: &[&Type], takes: Takes, out: Option<DType>) -> Result<Type, OpError> {
    let (a, b) = (tensor(args, 0)?, tensor(args, 1)?);
    same_dtype(a, b)?;
    takes.check(a.dtype)?;
    Ok(Type::tensor(
        out.unwrap_or(a.dtype),
        broadcast(&a.shape, &b.shape)?,
    ))
}

/// Refuses two dtypes that differ: conversions are explicit in the IR.
pub(super) fn same_dtype(a: &TensorType, b: &TensorType) -> Result<(), OpError> {
    if a.dtype == b.dtype {
        return Ok(());
    }
    fail(format!("dtypes {} and {} differ", a.dtype, b.dtype))
}

/// The n-th argument of an evaluation.
pub(super) fn arg<'a>(args: &[&'a Tensor], n: usize) -> Result<&'a Tensor, OpError> {
    match args.get(n) {
        Some(t) => Ok(t),
        None => fail(format!("argument {n} is missing")),
    }
}

/// The elements of a float tensor.
pub(super) fn floats(t: &Tensor) -> Result<&[f64], OpError> {
    match t.data() {
        Data::Float(v) => Ok(v),
        Data::Int(_) => fail(format!("takes floats, not {}", t.dtype())),
    }
}

/// The value of an integer element: `u64` is held by its bits.
pub(super) fn wide(dtype: DType, x: i64) -> i128 {
    if dtype == DType::U64 {
        i128::from(x as u64)
    } else {
        i128::from(x)
    }
}

/// The elements of an integer or bool tensor by value; of floats, truncated.
pub(super) fn ints(t: &Tensor) -> Vec<i128> {
    match t.data() {
        Data::Float(v) => v.iter().map(|&x| x as i128).collect(),
        Data::Int(v) => v.iter().map(|&x| wide(t.dtype(), x)).collect(),
    }
}

/// An integer or bool tensor of these values, wrapped to the dtype.
pub(super) fn from_ints(
    dtype: DType,
    shape: Vec<usize>,
    data: impl IntoIterator<Item = i128>,
) -> Result<Tensor, OpError> {
    Tensor::ints(dtype, shape, data.into_iter().map(|x| x as i64).collect())
}

/// The shape in numbers that shapes broadcast to; an error where they don't, or where the result is too large.
pub(super) fn broadcast_sizes(a: &[usize], b: &[usize]) -> Result<Vec<usize>, OpError> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| {
        (i + s.len())
            .checked_sub(rank)
            .and_then(|i| s.get(i))
            .copied()
            .unwrap_or(1)
    };
    let sizes = (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            (x, y) => fail(format!("sizes {x} and {y} of axis {i} don't broadcast")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    numel(&sizes)?;
    Ok(sizes)
}

/// The tensor repeated to a shape that it broadcasts to.
pub(super) fn expand<'a>(t: &'a Tensor, shape: &[usize]) -> Result<Cow<'a, Tensor>, OpError> {
    if t.shape() == shape {
        return Ok(Cow::Borrowed(t));
    }
    let mut indices = Vec::with_capacity(numel(shape)?);
    for_each_index(shape, |_, index| {
        indices.push(broadcast_flat(t.shape(), index))
    });
    Ok(Cow::Owned(t.pick(shape.to_vec(), indices.into_iter())?))
}

fn eval_unary(
    args: &[&Tensor],
    float: fn(f64) -> f64,
    int: fn(i128) -> i128,
) -> Result<Vec<Tensor>, OpError> {
    let x = arg(args, 0)?;
    let shape = x.shape().to_vec();
    let out = match x.data() {
        Data::Float(v) => Tensor::floats(x.dtype(), shape, v.iter().map(|&x| float(x)).collect())?,
        Data::Int(_) => from_ints(x.dtype(), shape, ints(x).into_iter().map(int))?,
    };
    Ok(vec![out])
}

fn eval_floats(args: &[&Tensor], f: fn(f64) -> f64) -> Result<Vec<Tensor>, OpError> {
    floats(arg(args, 0)?)?;
    eval_unary(args, f, |x| x)
}

/// Two arguments expanded to the shape that they broadcast to.
fn operands<'a>(args: &[&'a Tensor]) -> Result<(Cow<'a, Tensor>, Cow<'a, Tensor>), OpError> {
    let (a, b) = (arg(args, 0)?, arg(args, 1)?);
    let shape = broadcast_sizes(a.shape(), b.shape())?;
    Ok((expand(a, &shape)?, expand(b, &shape)?))
}

type IntFn = fn(i128, i128) -> Result<i128, &'static str>;

fn eval_binary(
    args: &[&Tensor],
    float: fn(f64, f64) -> f64,
    int: IntFn,
) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = operands(args)?;
    let shape = a.shape().to_vec();
    let out = match (a.data(), b.data()) {
        (Data::Float(x), Data::Float(y)) => Tensor::floats(
            a.dtype(),
            shape,
            x.iter().zip(y).map(|(&x, &y)| float(x, y)).collect(),
        )?,
        _ => {
            let data: Result<Vec<i128>, _> = ints(&a)
                .into_iter()
                .zip(ints(&b))
                .map(|(x, y)| int(x, y))
                .collect();
            from_ints(a.dtype(), shape, data.or_else(fail)?)?
        }
    };
    Ok(vec![out])
}

fn eval_compare(
    args: &[&Tensor],
    float: fn(&f64, &f64) -> bool,
    int: fn(&i128, &i128) -> bool,
) -> Result<Vec<Tensor>, OpError> {
    let (a, b) = operands(args)?;
    let data: Vec<i64> = match (a.data(), b.data()) {
        (Data::Float(x), Data::Float(y)) => x
            .iter()
            .zip(y)
            .map(|(x, y)| i64::from(float(x, y)))
            .collect(),
        _ => ints(&a)
            .iter()
            .zip(&ints(&b))
            .map(|(x, y)| i64::from(int(x, y)))
            .collect(),
    };
    Ok(vec![Tensor::ints(DType::Bool, a.shape().to_vec(), data)?])
}

/// One instruction `AsType`.
pub(super) fn as_type(from: Operand, dtype: DType, to: Operand) -> Inst {
    Inst::new("AsType")
        .tensor("x", from)
        .with("scalar_type", Field::DType(dtype))
        .tensor("out", to)
}

fn unary(node: &'static str, x: Operand, out: Operand) -> Inst {
    Inst::new(node).tensor("x", x).tensor("out", out)
}

fn binary(node: &'static str, a: Operand, b: Operand, out: Operand) -> Inst {
    Inst::new(node)
        .tensor("a", a)
        .tensor("b", b)
        .tensor("out", out)
}

/// The dtype of the n-th argument of a lowering.
pub(super) fn arg_dtype(cx: &LowerCx<'_>, n: usize) -> Result<DType, OpError> {
    match cx.arg(n) {
        Some(t) => Ok(t.dtype),
        None => fail(format!("argument {n} is not a tensor")),
    }
}

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

/// The error function to a few units in the last place of a double.
///
/// Near zero the series 2/√π · x·exp(−x²) · Σ (2x²)ⁿ / (1·3·…·(2n+1)), whose terms have one sign; further out 1 − erfc by the continued fraction
/// erfc x = exp(−x²)/√π · 1/(x + ½/(x + 1/(x + (3/2)/(x + …)))).
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
    // From 6 on, erfc is less than half a unit in the last place of 1.
    let erfc = if a < 6.0 {
        let tail = (1..=100)
            .rev()
            .fold(a, |tail, n| a + f64::from(n) / 2.0 / tail);
        0.5 * std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() / tail
    } else {
        0.0
    };
    (1.0 - erfc).copysign(x)
}

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

binary!(
    Add,
    Numbers,
    |a, b| a + b,
    |a, b| Ok(a.wrapping_add(b)),
    "Add"
);
binary!(
    Sub,
    Numbers,
    |a, b| a - b,
    |a, b| Ok(a.wrapping_sub(b)),
    "Subtract"
);
binary!(
    Mul,
    Numbers,
    |a, b| a * b,
    |a, b| Ok(a.wrapping_mul(b)),
    "Multiply"
);
binary!(Div, floats, |a, b| a / b, "Divide");
binary!(
    Remainder,
    Numbers,
    remainder,
    |a, b| Ok(floor_div_rem(a, b)?.1),
    "Remainder"
);
binary!(Pow, Numbers, f64::powf, int_pow, "Power");
binary!(
    Maximum,
    Any,
    |a, b| if a > b || a.is_nan() { a } else { b },
    |a, b| Ok(a.max(b)),
    "Maximum"
);
binary!(
    Minimum,
    Any,
    |a, b| if a < b || a.is_nan() { a } else { b },
    |a, b| Ok(a.min(b)),
    "Minimum"
);
binary!(Atan2, floats, f64::atan2, "Atan2");
binary!(LogAddExp, floats, log_add_exp, "LogAddExp");

fn remainder(a: f64, b: f64) -> f64 {
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

fn log_add_exp(a: f64, b: f64) -> f64 {
    // Equal infinities would give inf − inf.
    if a == b {
        return a + std::f64::consts::LN_2;
    }
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

/// Rounds the quotient itself down, not the double nearest to it: a less the remainder is a multiple of b.
fn floor_div(a: f64, b: f64) -> f64 {
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

/// A number as an element of an integer dtype: truncated and wrapped, at the ends of 64 bits where it is beyond, 0 for NaN.
fn truncate(dtype: DType, x: f64) -> i64 {
    match dtype {
        DType::Bool => i64::from(x != 0.0),
        DType::U64 if x >= 0.0 => (x as u64) as i64,
        _ => x as i64,
    }
}

/// `t` converted to `dtype`.
pub(super) fn cast(t: &Tensor, dtype: DType) -> Result<Tensor, OpError> {
    let shape = t.shape().to_vec();
    match t.data() {
        Data::Float(v) if dtype.is_float() => Tensor::floats(dtype, shape, v.clone()),
        Data::Float(v) => Tensor::ints(
            dtype,
            shape,
            v.iter().map(|&x| truncate(dtype, x)).collect(),
        ),
        Data::Int(_) if dtype.is_float() => Tensor::floats(
            dtype,
            shape,
            ints(t).into_iter().map(|x| x as f64).collect(),
        ),
        Data::Int(v) => Tensor::ints(dtype, shape, v.clone()),
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

/// A chain of plain ops under construction, for `decompose`.
pub(super) struct Build<'a> {
    graph: &'a mut Graph,
    /// What the chain computes in: f32 for the narrow floats, else the dtype itself.
    pub(super) dtype: DType,
    result: DType,
}

impl<'a> Build<'a> {
    /// A chain whose result has the dtype of `x`.
    pub(super) fn new(graph: &'a mut Graph, x: Option<&Value>) -> Result<Build<'a>, OpError> {
        let Some(x) = x else {
            return fail("argument 0 is missing");
        };
        let result = graph.tensor_ty(*x)?.dtype;
        Takes::Floats.check(result)?;
        Ok(Build {
            graph,
            dtype: wide_float(result),
            result,
        })
    }

    /// The number of axes of a value.
    pub(super) fn rank(&self, x: Value) -> Result<usize, OpError> {
        Ok(self.graph.tensor_ty(x)?.rank())
    }

    /// Applies an op.
    pub(super) fn op(
        &mut self,
        op: impl Into<super::Op>,
        args: &[Value],
    ) -> Result<Value, OpError> {
        self.graph.add(op, args, &Loc::default())
    }

    /// `x` in the dtype of the chain.
    pub(super) fn up(&mut self, x: Value) -> Result<Value, OpError> {
        self.convert(x, self.dtype)
    }

    /// `x` in the dtype of the result.
    pub(super) fn down(&mut self, x: Value) -> Result<Value, OpError> {
        self.convert(x, self.result)
    }

    fn convert(&mut self, x: Value, dtype: DType) -> Result<Value, OpError> {
        if self.graph.tensor_ty(x)?.dtype == dtype {
            return Ok(x);
        }
        self.op(Cast { dtype }, &[x])
    }

    /// A 0-d number in the dtype of the chain.
    pub(super) fn number(&mut self, x: f64) -> Result<Value, OpError> {
        let value = Scalar::float(x).cast(self.dtype);
        self.op(
            super::create::Full {
                value,
                ty: TensorType::new(self.dtype, vec![]),
            },
            &[],
        )
    }
}

/// The float dtype to compute in for a result of `dtype`.
pub(super) fn wide_float(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

impl OpImpl for Silu {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_unary(args, Takes::Floats)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_floats(args, |x| x * sigmoid(x))
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let mut b = Build::new(graph, args.first())?;
        let x = b.up(args[0])?;
        let s = b.op(Sigmoid {}, &[x])?;
        let y = b.op(Mul {}, &[x, s])?;
        b.down(y).map(Some)
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(one("Silu", &["x"]))
    }
}

/// √(2/π), the slope inside the tanh approximation of gelu.
const GELU_SLOPE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
/// The weight of x³ inside the tanh approximation of gelu.
const GELU_CUBIC: f64 = 0.044715;

impl OpImpl for Gelu {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        infer_unary(args, Takes::Floats)
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        if self.tanh {
            eval_floats(args, |x| {
                0.5 * x * (1.0 + (GELU_SLOPE * (x + GELU_CUBIC * x * x * x)).tanh())
            })
        } else {
            eval_floats(args, |x| {
                0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
            })
        }
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let mut b = Build::new(graph, args.first())?;
        let x = b.up(args[0])?;
        let bent = if self.tanh {
            let cubic = b.number(GELU_CUBIC)?;
            let slope = b.number(GELU_SLOPE)?;
            let square = b.op(Square {}, &[x])?;
            let cube = b.op(Mul {}, &[square, x])?;
            let scaled = b.op(Mul {}, &[cube, cubic])?;
            let inner = b.op(Add {}, &[x, scaled])?;
            let inner = b.op(Mul {}, &[inner, slope])?;
            b.op(Tanh {}, &[inner])?
        } else {
            let scale = b.number(std::f64::consts::FRAC_1_SQRT_2)?;
            let inner = b.op(Mul {}, &[x, scale])?;
            b.op(Erf {}, &[inner])?
        };
        let unit = b.number(1.0)?;
        let half = b.number(0.5)?;
        let gate = b.op(Add {}, &[bent, unit])?;
        let halved = b.op(Mul {}, &[x, half])?;
        let y = b.op(Mul {}, &[halved, gate])?;
        b.down(y).map(Some)
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let inst = Inst::new("Gelu").tensor("x", Operand::Arg(0)).with(
            "approximate",
            Field::Str(if self.tanh { "tanh" } else { "none" }),
        );
        Ok(Lowering::Insts(vec![inst.out()]))
    }
}

/// What the unit tests of the themes share.
#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::dim::Dim;
    use crate::ops::Op;
    use std::collections::BTreeMap;

    pub(crate) fn type_of(t: &Tensor) -> Type {
        Type::tensor(t.dtype(), t.shape().iter().map(|&n| Dim::from(n)).collect())
    }

    /// Infers, evaluates, and checks that the result is of the inferred type.
    pub(crate) fn run(op: impl Into<Op>, args: &[&Tensor]) -> Result<Tensor, OpError> {
        let op = op.into();
        let types: Vec<Type> = args.iter().map(|t| type_of(t)).collect();
        let types: Vec<&Type> = types.iter().collect();
        let out = op.infer(&types)?;
        let symbols = BTreeMap::new();
        let cx = EvalCx {
            symbols: &symbols,
            args: &types,
            out: &out,
        };
        let mut results = op.eval(&cx, args)?;
        assert_eq!(results.len(), 1);
        let result = results.remove(0);
        assert_eq!(type_of(&result), out);
        Ok(result)
    }

    pub(crate) fn lowered(op: impl Into<Op>, args: &[Type]) -> Result<Lowering, OpError> {
        let op = op.into();
        let types: Vec<&Type> = args.iter().collect();
        let out = op.infer(&types)?;
        op.lower(&LowerCx {
            args: &types,
            out: &out,
        })
    }

    pub(crate) fn nodes(lowering: &Lowering) -> Vec<&'static str> {
        match lowering {
            Lowering::Insts(insts) => insts.iter().map(|i| i.node).collect(),
            _ => vec![],
        }
    }

    pub(crate) fn f(shape: &[usize], data: &[f64]) -> Tensor {
        Tensor::floats(DType::F32, shape.to_vec(), data.to_vec()).unwrap()
    }

    pub(crate) fn i(dtype: DType, shape: &[usize], data: &[i64]) -> Tensor {
        Tensor::ints(dtype, shape.to_vec(), data.to_vec()).unwrap()
    }

    /// Evaluates a fused op and the plain ops that it stands for.
    pub(crate) fn both_ways(op: impl Into<Op>, args: &[&Tensor]) -> (Tensor, Tensor) {
        let op = op.into();
        let direct = run(op.clone(), args).unwrap();
        let mut graph = Graph::new("test");
        let inputs: Vec<Value> = args
            .iter()
            .enumerate()
            .map(|(n, t)| graph.input(format!("x{n}"), type_of(t)).unwrap())
            .collect();
        let value = op.decompose(&mut graph, &inputs).unwrap().unwrap();
        assert_eq!(graph.ty(value), &type_of(&direct));
        let mut values: Vec<Tensor> = vec![];
        for (n, node) in graph.nodes().iter().enumerate() {
            let args: Vec<&Tensor> = match args.get(n) {
                Some(input) => {
                    values.push((*input).clone());
                    continue;
                }
                None => node.args.iter().map(|v| &values[v.index()]).collect(),
            };
            let next = run(node.op.clone(), &args).unwrap();
            values.push(next);
        }
        (direct, values[value.index()].clone())
    }

    pub(crate) fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64) {
        assert_eq!(a.shape(), b.shape());
        for (x, y) in a.to_f64().into_iter().zip(b.to_f64()) {
            let same = x == y || x.is_nan() && y.is_nan();
            assert!(
                same || (x - y).abs() <= tolerance * (1.0 + y.abs()),
                "{x} and {y}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    #[test]
    fn erf_is_exact_to_a_few_ulps() {
        // Values from tables of high precision.
        let table = [
            (0.0, 0.0),
            (1e-10, 1.1283791670955126e-10),
            (0.1, 0.1124629160182849),
            (0.5, 0.5204998778130465),
            (1.0, 0.8427007929497149),
            (1.5, 0.9661051464753108),
            (2.0, 0.9953222650189527),
            (2.5, 0.999593047982555),
            (3.0, 0.9999779095030014),
            (4.0, 0.9999999845827421),
            (7.0, 1.0),
            (INF, 1.0),
        ];
        for (x, y) in table {
            assert!(
                (erf(x) - y).abs() <= 1e-15 * y.abs(),
                "erf({x}) = {}, not {y}",
                erf(x)
            );
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(NAN).is_nan());
    }

    #[test]
    fn rounding_and_signs() {
        let x = f(&[6], &[0.5, 1.5, 2.5, -0.5, -1.5, 3.7]);
        assert_eq!(
            run(Round {}, &[&x]).unwrap().to_f64(),
            [0.0, 2.0, 2.0, 0.0, -2.0, 4.0]
        );
        assert_eq!(
            run(Trunc {}, &[&x]).unwrap().to_f64(),
            [0.0, 1.0, 2.0, 0.0, -1.0, 3.0]
        );
        assert_eq!(
            run(Sign {}, &[&f(&[3], &[-INF, NAN, -0.0])])
                .unwrap()
                .to_f64(),
            [-1.0, 0.0, 0.0]
        );
        let big = i(DType::U64, &[2], &[-1, 0]);
        assert_eq!(run(Sign {}, &[&big]).unwrap().to_i64(), [1, 0]);
        assert_eq!(run(Abs {}, &[&big]).unwrap().to_i64(), [-1, 0]);
        assert_eq!(
            run(Abs {}, &[&i(DType::I8, &[1], &[-128])])
                .unwrap()
                .to_i64(),
            [-128]
        );
        assert_eq!(run(Floor {}, &[&big]).unwrap(), big);
        assert!(run(Neg {}, &[&i(DType::Bool, &[1], &[1])]).is_err());
        assert!(run(Exp {}, &[&big]).is_err());
    }

    #[test]
    fn division_rounds_down() {
        let a = i(DType::I32, &[5], &[7, -7, 7, -7, 6]);
        let b = i(DType::I32, &[5], &[2, 2, -2, -2, 3]);
        assert_eq!(
            run(FloorDiv {}, &[&a, &b]).unwrap().to_i64(),
            [3, -4, -4, 3, 2]
        );
        assert_eq!(
            run(Remainder {}, &[&a, &b]).unwrap().to_i64(),
            [1, 1, -1, -1, 0]
        );
        let zero = i(DType::I32, &[], &[0]);
        assert!(run(FloorDiv {}, &[&a, &zero]).is_err());
        assert!(run(Remainder {}, &[&a, &zero]).is_err());
        let (least, minus) = (i(DType::I64, &[1], &[i64::MIN]), i(DType::I64, &[1], &[-1]));
        assert_eq!(
            run(FloorDiv {}, &[&least, &minus]).unwrap().to_i64(),
            [i64::MIN]
        );
        assert_eq!(run(Remainder {}, &[&least, &minus]).unwrap().to_i64(), [0]);
        let (most, two) = (i(DType::U64, &[1], &[-1]), i(DType::U64, &[1], &[2]));
        assert_eq!(
            run(FloorDiv {}, &[&most, &two]).unwrap().to_i64(),
            [i64::MAX]
        );
    }

    #[test]
    fn float_division_is_not_fooled_by_rounding() {
        // The nearest double to 0.1 lies above it, so that the quotient lies below 10 although 1 / 0.1 rounds to 10.
        assert_eq!(floor_div(1.0, 0.1), 9.0);
        assert_eq!(floor_div(-1.0, 0.1), -10.0);
        assert_eq!(floor_div(7.5, 2.0), 3.0);
        assert_eq!(floor_div(-7.5, 2.0), -4.0);
        assert_eq!(floor_div(-7.5, -2.0), 3.0);
        assert_eq!(floor_div(1.0, 0.0), INF);
        assert_eq!(floor_div(-1.0, 0.0), -INF);
        assert_eq!(floor_div(-1.0, INF), -1.0);
        assert_eq!(floor_div(1.0, INF), 0.0);
        assert!(
            floor_div(0.0, 0.0).is_nan()
                && floor_div(INF, 2.0).is_nan()
                && floor_div(NAN, 1.0).is_nan()
        );
        assert_eq!(remainder(-1.0, 3.0), 2.0);
        assert_eq!(remainder(1.0, -3.0), -2.0);
        assert!(remainder(1.0, 0.0).is_nan());
    }

    #[test]
    fn powers() {
        let a = f(&[4], &[-2.0, -2.0, 0.0, NAN]);
        let b = f(&[4], &[3.0, 0.5, -1.0, 0.0]);
        let out = run(Pow {}, &[&a, &b]).unwrap().to_f64();
        assert!(out[0] == -8.0 && out[1].is_nan() && out[2] == INF && out[3] == 1.0);
        let two = i(DType::I8, &[], &[2]);
        assert_eq!(
            run(Pow {}, &[&two, &i(DType::I8, &[3], &[0, 6, 7])])
                .unwrap()
                .to_i64(),
            [1, 64, -128]
        );
        assert!(run(Pow {}, &[&two, &i(DType::I8, &[], &[-1])]).is_err());
        let top = i(DType::I64, &[], &[i64::MAX]);
        assert_eq!(run(Pow {}, &[&top, &top]).unwrap().to_i64(), [i64::MAX]);
    }

    #[test]
    fn extremes_and_comparisons_of_nan() {
        let (a, b) = (f(&[3], &[NAN, 1.0, -INF]), f(&[3], &[1.0, NAN, 2.0]));
        for op in [run(Maximum {}, &[&a, &b]), run(Minimum {}, &[&a, &b])] {
            let out = op.unwrap().to_f64();
            assert!(out[0].is_nan() && out[1].is_nan() && !out[2].is_nan());
        }
        assert_eq!(run(Ne {}, &[&a, &b]).unwrap().to_i64(), [1, 1, 1]);
        assert_eq!(run(Le {}, &[&a, &b]).unwrap().to_i64(), [0, 0, 1]);
        let (u, v) = (i(DType::U64, &[1], &[-1]), i(DType::U64, &[1], &[1]));
        assert_eq!(run(Gt {}, &[&u, &v]).unwrap().to_i64(), [1]);
        assert_eq!(run(LogicalNot {}, &[&a]).unwrap().to_i64(), [0, 0, 0]);
        assert_eq!(log_add_exp(-INF, -INF), -INF);
        assert_eq!(log_add_exp(INF, 1.0), INF);
        assert!((log_add_exp(1000.0, 1000.0) - 1000.0 - std::f64::consts::LN_2).abs() < 1e-12);
        assert!(log_add_exp(NAN, 1.0).is_nan());
    }

    #[test]
    fn casts() {
        let x = f(&[5], &[-1.9, 1.9, NAN, 300.0, 0.5]);
        assert_eq!(
            run(Cast { dtype: DType::I32 }, &[&x]).unwrap().to_i64(),
            [-1, 1, 0, 300, 0]
        );
        assert_eq!(
            run(Cast { dtype: DType::U8 }, &[&x]).unwrap().to_i64(),
            [255, 1, 0, 44, 0]
        );
        assert_eq!(
            run(Cast { dtype: DType::Bool }, &[&x]).unwrap().to_i64(),
            [1, 1, 1, 1, 1]
        );
        let top = i(DType::U64, &[1], &[-1]);
        let there = run(Cast { dtype: DType::F64 }, &[&top]).unwrap();
        assert_eq!(there.to_f64(), [18446744073709551616.0]);
        assert_eq!(
            run(Cast { dtype: DType::U64 }, &[&there]).unwrap().to_i64(),
            [-1]
        );
        let f32_type = Type::tensor(DType::F32, vec![]);
        assert_eq!(
            lowered(Cast { dtype: DType::F32 }, &[f32_type]).unwrap(),
            Lowering::Alias(0)
        );
    }

    #[test]
    fn shapes_broadcast_and_dtypes_agree() {
        let (a, b) = (f(&[2, 1], &[1.0, 2.0]), f(&[3], &[10.0, 20.0, 30.0]));
        let sum = run(Add {}, &[&a, &b]).unwrap();
        assert_eq!(
            (sum.shape(), sum.to_f64()),
            (&[2, 3][..], vec![11.0, 21.0, 31.0, 12.0, 22.0, 32.0])
        );
        let empty = run(Add {}, &[&f(&[0], &[]), &f(&[1], &[1.0])]).unwrap();
        assert_eq!(empty.shape(), [0]);
        assert!(run(Add {}, &[&f(&[2], &[1.0, 2.0]), &b]).is_err());
        assert!(run(Add {}, &[&a, &i(DType::I32, &[], &[1])]).is_err());
        assert!(
            run(
                Add {},
                &[&i(DType::Bool, &[], &[1]), &i(DType::Bool, &[], &[1])]
            )
            .is_err()
        );
        let cond = i(DType::Bool, &[2, 1, 1], &[1, 0]);
        let picked = run(Where {}, &[&cond, &a, &b]).unwrap();
        assert_eq!(picked.shape(), [2, 2, 3]);
        assert_eq!(picked.to_f64()[..6], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert!(run(Where {}, &[&a, &a, &b]).is_err());
        assert!(broadcast_sizes(&[1 << 20, 1], &[1, 1 << 20]).is_err());
    }

    #[test]
    fn integers_wrap_and_bits_are_bits() {
        let (a, b) = (i(DType::U8, &[1], &[200]), i(DType::U8, &[1], &[100]));
        assert_eq!(run(Add {}, &[&a, &b]).unwrap().to_i64(), [44]);
        assert_eq!(run(Sub {}, &[&b, &a]).unwrap().to_i64(), [156]);
        assert_eq!(run(BitwiseNot {}, &[&a]).unwrap().to_i64(), [55]);
        let t = i(DType::Bool, &[2], &[1, 0]);
        assert_eq!(run(BitwiseNot {}, &[&t]).unwrap().to_i64(), [0, 1]);
        assert_eq!(run(BitwiseXor {}, &[&t, &t]).unwrap().to_i64(), [0, 0]);
        let xor = lowered(BitwiseXor {}, &[type_of(&t), type_of(&t)]).unwrap();
        assert_eq!(nodes(&xor), ["NotEqual"]);
        let least = i(DType::I64, &[1], &[i64::MIN]);
        assert_eq!(run(Mul {}, &[&least, &least]).unwrap().to_i64(), [0]);
        assert!(run(BitwiseAnd {}, &[&f(&[], &[1.0]), &f(&[], &[1.0])]).is_err());
    }

    #[test]
    fn fused_activations_mean_their_decomposition() {
        let data: Vec<f64> = (-40..=40).map(|n| f64::from(n) / 5.0).collect();
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let x = Tensor::floats(dtype, vec![81], data.clone()).unwrap();
            let tolerance = if dtype.size() == 2 { 1e-2 } else { 1e-5 };
            for (a, b) in [
                both_ways(Silu {}, &[&x]),
                both_ways(Gelu { tanh: false }, &[&x]),
                both_ways(Gelu { tanh: true }, &[&x]),
            ] {
                assert_close(&a, &b, tolerance);
            }
        }
    }
}
