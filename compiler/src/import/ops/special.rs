//! Elementwise operators that are told by cases: special values, signs, logarithms with a limit, inverse error function.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Op, Scalar, Value};

use super::pointwise::{activation, done, one_minus, operands, where_positive, widened};
use super::random;
use crate::import::call::Call;
use crate::import::error::{Result, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "isnan" => |cx, call| {
            let x = call.value(cx, "self")?;
            done(cx.build.add(op::Ne {}, &[x, x]))
        },
        "isinf" => |cx, call| infinite(cx, call, op::Eq {}.into()),
        "isfinite" => |cx, call| infinite(cx, call, op::Lt {}.into()),
        "signbit" => |cx, call| {
            let x = call.value(cx, "self")?;
            let dtype = cx.build.dtype(x)?;
            if dtype.is_float() {
                return done(sign_bit(cx, x));
            }
            let zero = cx.build.scalar(Scalar::Int(0), dtype)?;
            done(cx.build.add(op::Lt {}, &[x, zero]))
        },
        "nan_to_num" => nan_to_num,
        "frexp" => frexp,
        "logit" => |cx, call| {
            let eps = call.opt_float(cx, "eps")?;
            let x = call.value(cx, "self")?;
            widened(cx, &[x], |cx, v| {
                let mut x = v[0];
                if let Some(eps) = eps {
                    x = cx.build.with_float(op::Maximum {}, x, eps)?;
                    x = cx.build.with_float(op::Minimum {}, x, 1.0 - eps)?;
                }
                let rest = one_minus(cx, x)?;
                let odds = cx.build.add(op::Div {}, &[x, rest])?;
                cx.build.add(op::Log {}, &[odds])
            })
        },
        "isposinf" => |cx, call| is_number(cx, call, f64::INFINITY),
        "isneginf" => |cx, call| is_number(cx, call, f64::NEG_INFINITY),
        "isreal" => |cx, call| {
            let x = call.value(cx, "self")?;
            let shape = cx.build.shape(x)?;
            done(cx.build.full(Scalar::Bool(true), DType::Bool, shape))
        },
        "copysign" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let dtype = promote::to_float(cx.build.dtype(a)?);
            let (a, b) = (cx.build.cast(a, dtype)?, cx.build.cast(b, dtype)?);
            let size = cx.build.add(op::Abs {}, &[a])?;
            let negative = sign_bit(cx, b)?;
            let below = cx.build.add(op::Neg {}, &[size])?;
            done(cx.build.select(negative, below, size))
        },
        "heaviside" => |cx, call| {
            let args = [
                super::pointwise::Arg::Tensor(call.value(cx, "self")?),
                super::pointwise::Arg::Tensor(call.value(cx, "values")?),
            ];
            let values = super::pointwise::to_common(cx, &args)?;
            let dtype = cx.build.dtype(values[0])?;
            let (zero, one) = (
                cx.build.scalar(Scalar::Int(0), dtype)?,
                cx.build.scalar(Scalar::Int(1), dtype)?,
            );
            let step = where_positive(cx, values[0], one, zero)?;
            let at_zero = cx.build.add(op::Eq {}, &[values[0], zero])?;
            done(cx.build.select(at_zero, values[1], step))
        },
        "ldexp" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            widened(cx, &[a, b], |cx, v| {
                let two = cx.build.float(2.0, cx.build.dtype(v[0])?)?;
                let power = cx.build.add(op::Pow {}, &[two, v[1]])?;
                cx.build.add(op::Mul {}, &[v[0], power])
            })
        },
        "logaddexp2" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            widened(cx, &[a, b], |cx, v| {
                let natural = v
                    .iter()
                    .map(|x| cx.build.with_float(op::Mul {}, *x, std::f64::consts::LN_2))
                    .collect::<Result<Vec<_>>>()?;
                let sum = cx.build.add(op::LogAddExp {}, &natural)?;
                cx.build.with_float(op::Div {}, sum, std::f64::consts::LN_2)
            })
        },
        "xlogy" | "special_xlogy" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            widened(cx, &[a, b], |cx, v| {
                let log = cx.build.add(op::Log {}, &[v[1]])?;
                zero_wins(cx, v[0], v[1], log)
            })
        },
        "special_xlog1py" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            widened(cx, &[a, b], |cx, v| {
                let log = cx.build.add(op::Log1p {}, &[v[1]])?;
                zero_wins(cx, v[0], v[1], log)
            })
        },
        "special_entr" => |cx, call| {
            activation(cx, call, |cx, x| {
                let dtype = cx.build.dtype(x)?;
                let log = cx.build.add(op::Log {}, &[x])?;
                let product = cx.build.add(op::Mul {}, &[x, log])?;
                let inside = cx.build.add(op::Neg {}, &[product])?;
                let zero = cx.build.float(0.0, dtype)?;
                let at_zero = cx.build.add(op::Eq {}, &[x, zero])?;
                let inside = cx.build.select(at_zero, zero, inside)?;
                let below = cx.build.add(op::Lt {}, &[x, zero])?;
                let lowest = cx.build.float(f64::NEG_INFINITY, dtype)?;
                cx.build.select(below, lowest, inside)
            })
        },
        "sinc" => |cx, call| {
            activation(cx, call, |cx, x| {
                let dtype = cx.build.dtype(x)?;
                let angle = cx.build.with_float(op::Mul {}, x, std::f64::consts::PI)?;
                let sine = cx.build.add(op::Sin {}, &[angle])?;
                let quotient = cx.build.add(op::Div {}, &[sine, angle])?;
                let (zero, one) = (cx.build.float(0.0, dtype)?, cx.build.float(1.0, dtype)?);
                let at_zero = cx.build.add(op::Eq {}, &[x, zero])?;
                cx.build.select(at_zero, one, quotient)
            })
        },
        "erfinv" | "special_erfinv" => |cx, call| activation(cx, call, erfinv),
        "special_ndtri" => |cx, call| {
            activation(cx, call, |cx, x| {
                let twice = cx.build.with_float(op::Mul {}, x, 2.0)?;
                let centred = cx.build.with_float(op::Sub {}, twice, 1.0)?;
                let inverse = erfinv(cx, centred)?;
                cx.build
                    .with_float(op::Mul {}, inverse, std::f64::consts::SQRT_2)
            })
        },
        "special_ndtr" => |cx, call| {
            activation(cx, call, |cx, x| {
                let scaled = cx
                    .build
                    .with_float(op::Mul {}, x, std::f64::consts::FRAC_1_SQRT_2)?;
                let erf = cx.build.add(op::Erf {}, &[scaled])?;
                let shifted = cx.build.with_float(op::Add {}, erf, 1.0)?;
                cx.build.with_float(op::Mul {}, shifted, 0.5)
            })
        },
        "rrelu" | "rrelu_with_noise" => |cx, call| {
            let (lower, upper) = (call.float(cx, "lower")?, call.float(cx, "upper")?);
            if call.bool("training")? && call.target.starts_with("aten.rrelu.") {
                let shape = call.out_shape(0)?;
                return activation(cx, call, |cx, x| {
                    let slope = random::uniform(cx, shape, cx.build.dtype(x)?)?;
                    let slope = cx.build.with_float(op::Mul {}, slope, upper - lower)?;
                    let slope = cx.build.with_float(op::Add {}, slope, lower)?;
                    let below = cx.build.add(op::Mul {}, &[x, slope])?;
                    where_positive(cx, x, x, below)
                });
            }
            if call.bool("training")? {
                return unsupported("a randomised activation that also returns its noise");
            }
            let slope = (lower + upper) / 2.0;
            activation(cx, call, |cx, x| {
                let below = cx.build.with_float(op::Mul {}, x, slope)?;
                where_positive(cx, x, x, below)
            })
        },
        _ => return None,
    })
}

/// `x · log`, but 0 where x is 0 and the logarithm's argument is not NaN.
fn zero_wins(cx: &mut Importer<'_>, x: Value, argument: Value, log: Value) -> Result<Value> {
    let product = cx.build.add(op::Mul {}, &[x, log])?;
    let zero = cx.build.float(0.0, cx.build.dtype(x)?)?;
    let at_zero = cx.build.add(op::Eq {}, &[x, zero])?;
    let product = cx.build.select(at_zero, zero, product)?;
    let nan = cx.build.add(op::Ne {}, &[argument, argument])?;
    cx.build.select(nan, argument, product)
}

/// Where the sign bit is set. −0 has it only in what it does: 1/−0 is −∞.
fn sign_bit(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let zero = cx.build.float(0.0, cx.build.dtype(x)?)?;
    let inverse = cx.build.add(op::Reciprocal {}, &[x])?;
    let (below, inverse_below) = (
        cx.build.add(op::Lt {}, &[x, zero])?,
        cx.build.add(op::Lt {}, &[inverse, zero])?,
    );
    cx.build.add(op::LogicalOr {}, &[below, inverse_below])
}

fn is_number(cx: &mut Importer<'_>, call: &Call<'_>, number: f64) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = promote::to_float(cx.build.dtype(x)?);
    let x = cx.build.cast(x, dtype)?;
    let number = cx.build.float(number, dtype)?;
    done(cx.build.add(op::Eq {}, &[x, number]))
}

/// The inverse error function: Winitzki's closed approximation (relative error below 2·10⁻³), then Newton's method, which squares the error each time.
/// ±1 gives ±∞, beyond them NaN.
fn erfinv(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    const A: f64 = 0.147;
    let dtype = cx.build.dtype(x)?;
    let square = cx.build.add(op::Square {}, &[x])?;
    let rest = one_minus(cx, square)?;
    let log = cx.build.add(op::Log {}, &[rest])?;
    let half = cx.build.with_float(op::Mul {}, log, 0.5)?;
    let centre = cx
        .build
        .with_float(op::Add {}, half, 2.0 / (std::f64::consts::PI * A))?;
    let centre_square = cx.build.add(op::Square {}, &[centre])?;
    let scaled = cx.build.with_float(op::Div {}, log, A)?;
    let inside = cx.build.add(op::Sub {}, &[centre_square, scaled])?;
    let root = cx.build.add(op::Sqrt {}, &[inside])?;
    let gap = cx.build.add(op::Sub {}, &[root, centre])?;
    let size = cx.build.add(op::Sqrt {}, &[gap])?;
    let sign = cx.build.add(op::Sign {}, &[x])?;
    let mut y = cx.build.add(op::Mul {}, &[sign, size])?;
    for _ in 0..2 {
        let erf = cx.build.add(op::Erf {}, &[y])?;
        let error = cx.build.add(op::Sub {}, &[erf, x])?;
        let y_square = cx.build.add(op::Square {}, &[y])?;
        let growth = cx.build.add(op::Exp {}, &[y_square])?;
        let slope = cx
            .build
            .with_float(op::Mul {}, growth, std::f64::consts::PI.sqrt() / 2.0)?;
        let step = cx.build.add(op::Mul {}, &[error, slope])?;
        y = cx.build.add(op::Sub {}, &[y, step])?;
    }
    // At the ends the closed form is infinite already, and a step from there is not a number.
    let size = cx.build.add(op::Abs {}, &[x])?;
    let one = cx.build.float(1.0, dtype)?;
    let at_end = cx.build.add(op::Eq {}, &[size, one])?;
    let infinity = cx.build.float(f64::INFINITY, dtype)?;
    let end = cx.build.add(op::Mul {}, &[sign, infinity])?;
    cx.build.select(at_end, end, y)
}

/// Compares magnitudes with infinity.
fn infinite(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = promote::to_float(cx.build.dtype(x)?);
    let x = cx.build.cast(x, dtype)?;
    let size = cx.build.add(op::Abs {}, &[x])?;
    let infinity = cx.build.float(f64::INFINITY, dtype)?;
    done(cx.build.add(op, &[size, infinity]))
}

fn nan_to_num(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = cx.build.dtype(x)?;
    if !dtype.is_float() {
        return done(Ok(x));
    }
    let largest = match dtype {
        DType::F16 => 65504.0,
        DType::BF16 => f64::from(f32::from_bits(0x7f7f_0000)),
        DType::F32 => f64::from(f32::MAX),
        _ => f64::MAX,
    };
    let nan = call.opt_float(cx, "nan")?.unwrap_or(0.0);
    let (above, below) = (
        call.opt_float(cx, "posinf")?.unwrap_or(largest),
        call.opt_float(cx, "neginf")?.unwrap_or(-largest),
    );
    let mut result = x;
    for (special, replacement) in [(f64::INFINITY, above), (f64::NEG_INFINITY, below)] {
        let special = cx.build.float(special, dtype)?;
        let found = cx.build.add(op::Eq {}, &[x, special])?;
        let replacement = cx.build.float(replacement, dtype)?;
        result = cx.build.select(found, replacement, result)?;
    }
    let found = cx.build.add(op::Ne {}, &[x, x])?;
    let nan = cx.build.float(nan, dtype)?;
    done(cx.build.select(found, nan, result))
}

/// `x = m · 2ᵉ` with ½ ≤ |m| < 1; zeros, infinities and NaN are themselves, with e = 0.
fn frexp(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = cx.build.dtype(x)?;
    let wide = promote::compute_type(dtype);
    let x = cx.build.cast(x, wide)?;
    let (zero, one) = (cx.build.float(0.0, wide)?, cx.build.float(1.0, wide)?);
    let infinity = cx.build.float(f64::INFINITY, wide)?;
    let size = cx.build.add(op::Abs {}, &[x])?;
    let above = cx.build.add(op::Gt {}, &[size, zero])?;
    let finite = cx.build.add(op::Lt {}, &[size, infinity])?;
    let plain = cx.build.add(op::LogicalAnd {}, &[above, finite])?;
    let safe = cx.build.select(plain, size, one)?;
    let log = cx.build.add(op::Log2 {}, &[safe])?;
    let floor = cx.build.add(op::Floor {}, &[log])?;
    let mut exponent = cx.build.with_float(op::Add {}, floor, 1.0)?;
    // In two steps, since 2ᵉ itself may pass the largest number.
    let half = cx.build.with_float(op::Mul {}, exponent, 0.5)?;
    let first = cx.build.add(op::Floor {}, &[half])?;
    let second = cx.build.add(op::Sub {}, &[exponent, first])?;
    let two = cx.build.float(2.0, wide)?;
    let mut mantissa = safe;
    for part in [first, second] {
        let power = cx.build.add(op::Pow {}, &[two, part])?;
        mantissa = cx.build.add(op::Div {}, &[mantissa, power])?;
    }
    // The logarithm may be rounded over a power of two, either way.
    let over = cx.build.add(op::Ge {}, &[mantissa, one])?;
    let half = cx.build.float(0.5, wide)?;
    let under = cx.build.add(op::Lt {}, &[mantissa, half])?;
    for (hit, factor, step) in [(over, 0.5, 1.0), (under, 2.0, -1.0)] {
        let scaled = cx.build.with_float(op::Mul {}, mantissa, factor)?;
        mantissa = cx.build.select(hit, scaled, mantissa)?;
        let next = cx.build.with_float(op::Add {}, exponent, step)?;
        exponent = cx.build.select(hit, next, exponent)?;
    }
    let sign = cx.build.add(op::Sign {}, &[x])?;
    let mantissa = cx.build.add(op::Mul {}, &[sign, mantissa])?;
    let mantissa = cx.build.select(plain, mantissa, x)?;
    let exponent = cx.build.select(plain, exponent, zero)?;
    let mantissa = cx.build.cast(mantissa, dtype)?;
    let exponent = cx.build.cast(exponent, DType::I32)?;
    Ok(vec![mantissa.into(), exponent.into()])
}
