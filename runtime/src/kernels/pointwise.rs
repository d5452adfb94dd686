//! Operators that work element by element. Floats of 16 bits are worked on in single precision and rounded once, as PyTorch does.

use fuseline_program::instr::*;
use fuseline_program::{ScalarType, Tid};

use super::call::{Call, Operand, Result};
use super::types::{Kind, Scalar, kind};
use super::{Kernels, bad};

type Unary = fn(Tid, Tid) -> Instruction;
type Binary = fn(Tid, Tid, Tid) -> Instruction;

macro_rules! unary {
    ($name:ident) => {
        |x, out| $name { x, out }.into()
    };
}

macro_rules! binary {
    ($name:ident) => {
        |a, b, out| $name { a, b, out }.into()
    };
}

/// Of floats; integers are taken for such.
const OF_FLOATS: [(&str, Unary); 24] = [
    ("acos", unary!(Arccos)),
    ("acosh", unary!(Arccosh)),
    ("asin", unary!(Arcsin)),
    ("asinh", unary!(Arcsinh)),
    ("atan", unary!(Arctan)),
    ("atanh", unary!(Arctanh)),
    ("cos", unary!(Cos)),
    ("cosh", unary!(Cosh)),
    ("erf", unary!(Erf)),
    ("exp", unary!(Exp)),
    ("expm1", unary!(Expm1)),
    ("log", unary!(Log)),
    ("log10", unary!(Log10)),
    ("log1p", unary!(Log1p)),
    ("log2", unary!(Log2)),
    ("reciprocal", unary!(Reciprocal)),
    ("rsqrt", unary!(Rsqrt)),
    ("sigmoid", unary!(Sigmoid)),
    ("silu", unary!(Silu)),
    ("sin", unary!(Sin)),
    ("sinh", unary!(Sinh)),
    ("sqrt", unary!(Sqrt)),
    ("tan", unary!(Tan)),
    ("tanh", unary!(Tanh)),
];

/// Of any numbers.
const OF_NUMBERS: [(&str, Unary); 4] = [
    ("abs", unary!(Abs)),
    ("neg", unary!(Neg)),
    ("sign", unary!(Sign)),
    ("square", unary!(Square)),
];

/// Of floats; integers stay what they are.
const ROUNDED: [(&str, Unary); 4] = [
    ("ceil", unary!(Ceil)),
    ("floor", unary!(Floor)),
    ("trunc", unary!(Trunc)),
    ("round", |x, out| {
        Round {
            x,
            out,
            decimals: 0,
        }
        .into()
    }),
];

/// Arithmetic between two operands in the type that they have in common.
const ARITHMETIC: [(&str, Binary); 5] = [
    ("mul", binary!(Multiply)),
    ("maximum", binary!(Maximum)),
    ("minimum", binary!(Minimum)),
    ("floor_divide", binary!(FloorDivide)),
    ("remainder", binary!(Remainder)),
];

/// Comparisons, of which 16-bit floats take numbers as rounded.
const COMPARISONS: [(&str, Binary); 6] = [
    ("eq", binary!(Equal)),
    ("ne", binary!(NotEqual)),
    ("lt", binary!(Less)),
    ("le", binary!(LessEqual)),
    ("gt", binary!(Greater)),
    ("ge", binary!(GreaterEqual)),
];

const LOGICAL: [(&str, Binary); 3] = [
    ("and", binary!(LogicalAnd)),
    ("or", binary!(LogicalOr)),
    ("xor", binary!(NotEqual)),
];

const BITWISE: [(&str, Binary); 3] = [
    ("and", binary!(BitwiseAnd)),
    ("or", binary!(BitwiseOr)),
    ("xor", binary!(BitwiseXor)),
];

/// A shift to the left is a product with a power of 2, one to the right a division rounded down.
const SHIFTS: [([&str; 4], Binary); 2] = [
    (
        [
            "bitwise_left_shift.Tensor_out",
            "bitwise_left_shift.Tensor_Scalar_out",
            "__lshift__.Tensor_out",
            "__lshift__.Scalar_out",
        ],
        binary!(Multiply),
    ),
    (
        [
            "bitwise_right_shift.Tensor_out",
            "bitwise_right_shift.Tensor_Scalar_out",
            "__rshift__.Tensor_out",
            "__rshift__.Scalar_out",
        ],
        binary!(FloorDivide),
    ),
];

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    for (name, make) in OF_FLOATS {
        kernels.device(format!("aten::{name}.out"), 1, move |call| {
            let x = floats(call, 0)?;
            call.make(|out| make(x, out))
        });
    }
    for (name, make) in OF_NUMBERS {
        kernels.device(format!("aten::{name}.out"), 1, move |call| {
            let x = call.tensor(0)?;
            call.make(|out| make(x, out))
        });
    }
    for (name, make) in ROUNDED {
        kernels.device(format!("aten::{name}.out"), 1, move |call| {
            let x = call.tensor(0)?;
            match kind(call.dtype(x)?) {
                Kind::Float => call.make(|out| make(x, out)),
                _ => Ok(x),
            }
        });
    }
    for (name, make) in ARITHMETIC {
        for overload in ["out", "Scalar_out", "Tensor_out"] {
            kernels.device(format!("aten::{name}.{overload}"), 2, move |call| {
                let (a, b) = pair(call)?;
                call.make(|out| make(a, b, out))
            });
        }
    }
    for (name, make) in COMPARISONS {
        for overload in ["Scalar_out", "Tensor_out"] {
            kernels.device(format!("aten::{name}.{overload}"), 2, move |call| {
                let (a, b) = (call.operand(0)?, call.operand(1)?);
                let dtype = call.common(&[a, b])?;
                let (a, b) = (call.as_type(a, dtype)?, call.as_type(b, dtype)?);
                call.make(|out| make(a, b, out))
            });
        }
    }
    for (name, make) in LOGICAL {
        kernels.device(format!("aten::logical_{name}.out"), 2, move |call| {
            let (a, b) = (truths(call, 0)?, truths(call, 1)?);
            call.make(|out| make(a, b, out))
        });
    }
    for (name, make) in BITWISE {
        for overload in ["Scalar_out", "Tensor_out"] {
            kernels.device(format!("aten::bitwise_{name}.{overload}"), 2, move |call| {
                let (a, b) = pair(call)?;
                call.make(|out| make(a, b, out))
            });
        }
    }
    for (names, by) in SHIFTS {
        for name in names {
            kernels.device(format!("aten::{name}"), 2, move |call| shifted(call, by));
        }
    }
    for overload in ["out", "Scalar_out"] {
        kernels.device(format!("aten::add.{overload}"), 3, |call| {
            let [a, b] = scaled(call, [0, 1])?;
            call.make(|out| Add { a, b, out })
        });
        kernels.device(format!("aten::sub.{overload}"), 3, |call| {
            let [a, b] = scaled(call, [0, 1])?;
            call.make(|out| Subtract { a, b, out })
        });
        kernels.device(format!("aten::rsub.{overload}"), 3, |call| {
            let [a, b] = scaled(call, [1, 0])?;
            call.make(|out| Subtract { a, b, out })
        });
        kernels.device(format!("aten::div.{overload}"), 2, quotient);
    }
    for overload in ["out_mode", "Scalar_mode_out"] {
        kernels.device(format!("aten::div.{overload}"), 3, quotient);
    }
    for overload in ["Tensor_out", "Scalar_out"] {
        kernels.device(format!("aten::fmod.{overload}"), 2, towards_zero);
    }
    for overload in ["Tensor_Tensor_out", "Tensor_Scalar_out", "Scalar_out"] {
        kernels.device(format!("aten::pow.{overload}"), 2, power);
    }
    kernels.device("aten::atan2.out", 2, |call| {
        let (a, b) = (floats(call, 0)?, floats(call, 1)?);
        call.make(|out| Atan2 { a, b, out })
    });
    kernels.device("aten::bitwise_not.out", 1, |call| {
        let x = call.tensor(0)?;
        match call.dtype(x)? {
            ScalarType::Bool => call.make(|out| LogicalNot { x, out }),
            _ => call.make(|out| BitwiseInvert { x, out }),
        }
    });
    kernels.device("aten::logical_not.out", 1, |call| {
        let x = truths(call, 0)?;
        call.make(|out| LogicalNot { x, out })
    });
    kernels.device("aten::isnan.out", 1, |call| {
        let a = call.tensor(0)?;
        call.make(|out| NotEqual { a, b: a, out })
    });
    kernels.device("aten::isinf.out", 1, |call| {
        let x = floats(call, 0)?;
        let a = call.make(|out| Abs { x, out })?;
        let b = call.number(Scalar::Float(f64::INFINITY), ScalarType::F32)?;
        call.make(|out| Equal { a, b, out })
    });
    kernels.device("aten::where.self_out", 3, |call| {
        let (x, y) = (call.operand(1)?, call.operand(2)?);
        let dtype = call.common(&[x, y])?;
        let (x, y) = (call.as_type(x, dtype)?, call.as_type(y, dtype)?);
        let condition = truths(call, 0)?;
        call.make(|out| Where {
            condition,
            x,
            y,
            out,
        })
    });
    for overload in ["Scalar_out", "Tensor_out"] {
        kernels.device(format!("aten::masked_fill.{overload}"), 3, |call| {
            let (y, value) = (call.tensor(0)?, call.operand(2)?);
            let dtype = call.dtype(y)?;
            let x = call.as_type(value, dtype)?;
            let condition = truths(call, 1)?;
            call.make(|out| Where {
                condition,
                x,
                y,
                out,
            })
        });
    }
    activations(kernels);
}

/// Adds those that are built of several.
fn activations(kernels: &mut Kernels) {
    for overload in ["out", "Tensor_out"] {
        kernels.device(format!("aten::clamp.{overload}"), 3, clamped);
    }
    kernels.device("aten::hardtanh.out", 3, clamped);
    kernels.device("aten::relu.out", 1, |call| {
        let a = call.tensor(0)?;
        let dtype = call.dtype(a)?;
        let b = call.number(Scalar::Int(0), dtype)?;
        call.make(|out| Maximum { a, b, out })
    });
    kernels.device("aten::gelu.out", 2, |call| {
        let approximate = match call.argument(1) {
            Some(crate::value::Value::String(name)) => name.clone(),
            _ => "none".to_owned(),
        };
        let x = floats(call, 0)?;
        call.make(|out| Gelu {
            x,
            out,
            approximate,
        })
    });
    kernels.device("aten::leaky_relu.out", 2, |call| {
        let x = floats(call, 0)?;
        let slope = call.float(1, 0.01)?;
        let y = times(call, x, slope)?;
        positive_or(call, x, x, y)
    });
    kernels.device("aten::elu.out", 4, |call| {
        let x = floats(call, 0)?;
        let (alpha, scale) = (call.float(1, 1.0)?, call.float(2, 1.0)?);
        let inner = call.float(3, 1.0)?;
        let inner = times(call, x, inner)?;
        let grown = call.make(|out| Expm1 { x: inner, out })?;
        let below = times(call, grown, alpha * scale)?;
        let above = times(call, x, scale)?;
        positive_or(call, x, above, below)
    });
    kernels.device("aten::logit.out", 2, |call| {
        let mut x = floats(call, 0)?;
        if call.given(1) {
            let eps = call.float(1, 0.0)?;
            x = within(call, x, Some(eps), Some(1.0 - eps))?;
        }
        let dtype = call.dtype(x)?;
        let one = call.number(Scalar::Int(1), dtype)?;
        let rest = call.make(|out| Subtract { a: one, b: x, out })?;
        let odds = call.make(|out| Divide { a: x, b: rest, out })?;
        call.make(|out| Log { x: odds, out })
    });
    kernels.device("aten::glu.out", 2, |call| {
        let x = floats(call, 0)?;
        let axis = call.axis(1, -1, x)?.ok_or_else(|| bad(0, "has no axes"))?;
        let half = call.length(x, axis)? / 2;
        if 2 * half != call.length(x, axis)? {
            return Err(bad(0, format!("has no even length along axis {axis}")));
        }
        let a = call.slice(x, axis, 0, half, 1)?;
        let x = call.slice(x, axis, half, 2 * half, 1)?;
        let b = call.make(|out| Sigmoid { x, out })?;
        call.make(|out| Multiply { a, b, out })
    });
}

/// The type that a type is worked on in.
fn working(dtype: ScalarType) -> ScalarType {
    match dtype {
        ScalarType::F16 | ScalarType::BF16 => ScalarType::F32,
        other => other,
    }
}

/// A tensor of floats, in which it is worked on.
pub(super) fn floats(call: &mut Call<'_>, position: usize) -> Result {
    let x = call.tensor(position)?;
    let dtype = call.dtype(x)?;
    match kind(dtype) {
        Kind::Float | Kind::Complex => call.cast(x, working(dtype)),
        _ => call.cast(x, ScalarType::F32),
    }
}

/// A tensor of truth values.
pub(super) fn truths(call: &mut Call<'_>, position: usize) -> Result {
    let x = call.tensor(position)?;
    call.cast(x, ScalarType::Bool)
}

/// The first two arguments in the type that they have in common, as it is worked on.
fn pair(call: &mut Call<'_>) -> Result<(Tid, Tid)> {
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    let dtype = working(call.common(&[a, b])?);
    Ok((call.as_type(a, dtype)?, call.as_type(b, dtype)?))
}

/// Two arguments in the order given, the second of them times the factor that is the third argument.
fn scaled(call: &mut Call<'_>, order: [usize; 2]) -> Result<[Tid; 2]> {
    let (a, b) = (call.operand(order[0])?, call.operand(order[1])?);
    let dtype = working(call.common(&[a, b])?);
    let (a, b) = (call.as_type(a, dtype)?, call.as_type(b, dtype)?);
    let is_one = !call.given(2) || call.scalar(2)?.float() == 1.0;
    if is_one {
        return Ok([a, b]);
    }
    let factor = call.scalar(2)?;
    let factor = call.number(factor, dtype)?;
    Ok([
        a,
        call.make(|out| Multiply {
            a: b,
            b: factor,
            out,
        })?,
    ])
}

/// `div(self, other, rounding_mode)`: as floats, or rounded to an integer towards zero or down.
fn quotient(call: &mut Call<'_>) -> Result {
    use crate::value::Value;
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    let dtype = working(call.common(&[a, b])?);
    match call.argument(2) {
        Some(Value::String(mode)) if mode == "floor" => {
            let (a, b) = (call.as_type(a, dtype)?, call.as_type(b, dtype)?);
            call.make(|out| FloorDivide { a, b, out })
        }
        Some(Value::String(mode)) if mode == "trunc" => {
            let (a, b) = (call.as_type(a, dtype)?, call.as_type(b, dtype)?);
            if kind(dtype) == Kind::Float {
                let x = call.make(|out| Divide { a, b, out })?;
                return call.make(|out| Trunc { x, out });
            }
            // Without the rest that has the sign of `a` the division is exact.
            let rest = rest(call, a, b)?;
            let a = call.make(|out| Subtract { a, b: rest, out })?;
            call.make(|out| FloorDivide { a, b, out })
        }
        Some(Value::String(mode)) => Err(bad(2, format!("is {mode:?}, no way to round"))),
        _ => {
            let dtype = match kind(dtype) {
                Kind::Truth | Kind::Integer => ScalarType::F32,
                Kind::Float | Kind::Complex => dtype,
            };
            let (a, b) = (call.as_type(a, dtype)?, call.as_type(b, dtype)?);
            call.make(|out| Divide { a, b, out })
        }
    }
}

/// `fmod(self, other)`: the rest with the sign of `self`.
fn towards_zero(call: &mut Call<'_>) -> Result {
    let (a, b) = pair(call)?;
    rest(call, a, b)
}

/// What a division towards zero leaves: that of the absolute values, with the sign of `a`.
fn rest(call: &mut Call<'_>, a: Tid, b: Tid) -> Result {
    let length = call.make(|out| Abs { x: a, out })?;
    let step = call.make(|out| Abs { x: b, out })?;
    let y = call.make(|out| Remainder {
        a: length,
        b: step,
        out,
    })?;
    let x = call.make(|out| Neg { x: y, out })?;
    let dtype = call.dtype(a)?;
    let zero = call.number(Scalar::Int(0), dtype)?;
    let condition = call.make(|out| Less { a, b: zero, out })?;
    call.make(|out| Where {
        condition,
        x,
        y,
        out,
    })
}

/// `pow(self, exponent)`. An integer to a negative power is what its inverse is rounded to towards zero: nothing but of 1 and -1.
fn power(call: &mut Call<'_>) -> Result {
    let (a, b) = pair(call)?;
    let dtype = call.dtype(a)?;
    if kind(dtype) == Kind::Float || kind(dtype) == Kind::Complex {
        return call.make(|out| Power { a, b, out });
    }
    let length = call.make(|out| Abs { x: b, out })?;
    let whole = call.make(|out| Power { a, b: length, out })?;
    let zero = call.number(Scalar::Int(0), dtype)?;
    let one = call.number(Scalar::Int(1), dtype)?;
    let size = call.make(|out| Abs { x: a, out })?;
    let is_unit = call.make(|out| Equal {
        a: size,
        b: one,
        out,
    })?;
    let below = call.make(|out| Where {
        condition: is_unit,
        x: whole,
        y: zero,
        out,
    })?;
    let condition = call.make(|out| Less { a: b, b: zero, out })?;
    call.make(|out| Where {
        condition,
        x: below,
        y: whole,
        out,
    })
}

/// `a` and a power of 2.
fn shifted(call: &mut Call<'_>, by: Binary) -> Result {
    let (a, b) = pair(call)?;
    let dtype = call.dtype(a)?;
    let two = call.number(Scalar::Int(2), dtype)?;
    let none = call.number(Scalar::Int(0), dtype)?;
    let b = call.make(|out| Maximum { a: b, b: none, out })?;
    let b = call.make(|out| Power { a: two, b, out })?;
    call.make(|out| by(a, b, out))
}

/// `clamp(self, min, max)`, and what is like it.
fn clamped(call: &mut Call<'_>) -> Result {
    let x = Operand::Tensor(call.tensor(0)?);
    let mut bounds = [None, None];
    let mut operands = vec![x];
    for (position, bound) in (1..).zip(&mut bounds) {
        if call.given(position) {
            let operand = call.operand(position)?;
            operands.push(operand);
            *bound = Some(operand);
        }
    }
    let dtype = call.common(&operands)?;
    let x = call.as_type(x, dtype)?;
    let [low, high] = bounds;
    let a_min = low.map(|low| call.as_type(low, dtype)).transpose()?;
    let a_max = high.map(|high| call.as_type(high, dtype)).transpose()?;
    call.make(|out| Clip {
        x,
        out,
        a_min,
        a_max,
    })
}

/// A tensor cut to a range.
fn within(call: &mut Call<'_>, x: Tid, low: Option<f64>, high: Option<f64>) -> Result {
    let dtype = call.dtype(x)?;
    let mut bound = |bound: Option<f64>| {
        let bound = bound.map(|bound| call.number(Scalar::Float(bound), dtype));
        bound.transpose()
    };
    let (a_min, a_max) = (bound(low)?, bound(high)?);
    call.make(|out| Clip {
        x,
        out,
        a_min,
        a_max,
    })
}

/// A tensor times a number.
pub(super) fn times(call: &mut Call<'_>, a: Tid, factor: f64) -> Result {
    let dtype = call.dtype(a)?;
    let b = call.number(Scalar::Float(factor), dtype)?;
    call.make(|out| Multiply { a, b, out })
}

/// `above` where a tensor is positive, `below` elsewhere.
fn positive_or(call: &mut Call<'_>, of: Tid, above: Tid, below: Tid) -> Result {
    let dtype = call.dtype(of)?;
    let zero = call.number(Scalar::Int(0), dtype)?;
    let condition = call.make(|out| Greater {
        a: of,
        b: zero,
        out,
    })?;
    call.make(|out| Where {
        condition,
        x: above,
        y: below,
        out,
    })
}
