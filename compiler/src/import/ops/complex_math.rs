//! Functions of complex numbers, in terms of their parts, their sizes and their angles.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Value};

use super::complex::{Pair, operand, polar, quotient, zeros};
use super::pointwise::done;
use crate::import::call::{Call, Val};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out, Scope, dispatch};

/// The handler of a function, for arguments of which one at least is complex.
pub(in crate::import) fn find(operator: &str, overload: &str) -> Option<Handler> {
    Some(match operator {
        "log" => |cx, call| of(cx, call, log),
        "log2" => |cx, call| {
            of(cx, call, |cx, x| {
                log(cx, x)?.scaled(cx, std::f64::consts::LOG2_E)
            })
        },
        "log10" => |cx, call| {
            of(cx, call, |cx, x| {
                log(cx, x)?.scaled(cx, std::f64::consts::LOG10_E)
            })
        },
        "log1p" => |cx, call| {
            of(cx, call, |cx, x| {
                let above = shifted(cx, x, 1.0)?;
                log(cx, above)
            })
        },
        "exp" => |cx, call| of(cx, call, exp),
        "expm1" => |cx, call| {
            of(cx, call, |cx, x| {
                let all = exp(cx, x)?;
                shifted(cx, all, -1.0)
            })
        },
        "exp2" => |cx, call| {
            of(cx, call, |cx, x| {
                let scaled = x.scaled(cx, std::f64::consts::LN_2)?;
                exp(cx, scaled)
            })
        },
        "sqrt" => |cx, call| of(cx, call, sqrt),
        "rsqrt" => |cx, call| {
            of(cx, call, |cx, x| {
                let root = sqrt(cx, x)?;
                inverse(cx, root)
            })
        },
        "sigmoid" => |cx, call| {
            of(cx, call, |cx, x| {
                let negative = x.scaled(cx, -1.0)?;
                let power = exp(cx, negative)?;
                let below = shifted(cx, power, 1.0)?;
                inverse(cx, below)
            })
        },
        "sinh" => |cx, call| of(cx, call, |cx, x| hyperbolic(cx, x, true)),
        "cosh" => |cx, call| of(cx, call, |cx, x| hyperbolic(cx, x, false)),
        "sin" => |cx, call| of(cx, call, |cx, x| circular(cx, x, true)),
        "cos" => |cx, call| of(cx, call, |cx, x| circular(cx, x, false)),
        "tanh" => |cx, call| of(cx, call, tanh),
        "tan" => |cx, call| {
            of(cx, call, |cx, x| {
                // tan z = −i·tanh(iz).
                let turned = turned(cx, x)?;
                let t = tanh(cx, turned)?;
                let t = self::turned(cx, t)?;
                t.scaled(cx, -1.0)
            })
        },
        "sgn" => |cx, call| {
            of(cx, call, |cx, x| {
                let size = x.magnitude(cx)?;
                let zero = zeros(cx, size)?;
                let none = cx.build.add(op::Eq {}, &[size, zero])?;
                x.each(cx, |cx, part| {
                    let ratio = cx.build.over(part, size)?;
                    cx.build.select(none, zero, ratio)
                })
            })
        },
        "pow" if overload == "Scalar" => |cx, call| {
            let (a, b) = (operand(cx, call, "self")?, operand(cx, call, "exponent")?);
            power(cx, call, a, b)
        },
        "pow" => |cx, call| {
            let a = operand(cx, call, "self")?;
            if exponent_is_small(call) {
                return small_power(cx, call, a);
            }
            let b = operand(cx, call, "exponent")?;
            power(cx, call, a, b)
        },
        "eq" => |cx, call| equal(cx, call, true),
        "ne" => |cx, call| equal(cx, call, false),
        "isnan" | "isinf" | "isfinite" | "isposinf" | "isneginf" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let im = x.imaginary(cx)?;
            let re = own(cx, call, x.re)?;
            let im = own(cx, call, im)?;
            done(match call.target.contains("finite") {
                true => cx.build.add(op::LogicalAnd {}, &[re, im]),
                false => cx.build.add(op::LogicalOr {}, &[re, im]),
            })
        },
        "isreal" => |cx, call| {
            let im = Pair::of(cx, call, "self")?.imaginary(cx)?;
            let zero = zeros(cx, im)?;
            done(cx.build.add(op::Eq {}, &[im, zero]))
        },
        "logical_not" | "any" | "all" | "count_nonzero" | "nonzero" | "linalg_vector_norm"
        | "norm" | "frobenius_norm" => |cx, call| {
            // Only sizes matter.
            let x = Pair::of(cx, call, "self")?;
            let size = x.magnitude(cx)?;
            Ok(vec![own(cx, call, size)?.into()])
        },
        "prod" | "cumprod" => |cx, call| {
            // Sizes multiply and angles add.
            let x = operand(cx, call, "self")?;
            let (size, angle) = (x.magnitude(cx)?, angle(cx, x)?);
            let size = own(cx, call, size)?;
            let rank = cx.build.rank(x.re)?;
            let angle = match call
                .target
                .strip_prefix("aten.")
                .and_then(|name| name.split_once('.'))
            {
                Some(("cumprod", _)) => {
                    let axis = cx.build.axis(x.re, call.int("dim")?)?;
                    cx.build.add(op::Cumsum { axis }, &[angle])?
                }
                Some((_, "dim_int")) => {
                    let axes = vec![cx.build.axis(x.re, call.int("dim")?)?];
                    let keepdim = call.bool("keepdim")?;
                    cx.build.add(op::Sum { axes, keepdim }, &[angle])?
                }
                _ => {
                    let (axes, keepdim) = ((0..rank).collect(), false);
                    cx.build.add(op::Sum { axes, keepdim }, &[angle])?
                }
            };
            Ok(vec![polar(cx, size, angle)?.into()])
        },
        _ => return None,
    })
}

/// Applies a function to the argument `self`.
fn of(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    function: impl Fn(&mut Importer<'_>, Pair) -> Result<Pair>,
) -> Result<Vec<Out>> {
    let x = operand(cx, call, "self")?;
    Ok(vec![function(cx, x)?.into()])
}

/// What the operator's own handler makes of a real tensor in the place of `self`.
fn own(cx: &mut Importer<'_>, call: &Call<'_>, x: Value) -> Result<Value> {
    let Some(handler) = dispatch::find(call.target) else {
        return unsupported("this operator on complex numbers");
    };
    let mut names = call.scope.names.clone();
    let tensor = cx.memory.root(Some(x));
    let mut node = call.node.clone();
    node.inputs.retain(|input| input.name != "dtype");
    for input in &mut node.inputs {
        if let (true, crate::pt2::exported::Argument::Tensor(name)) =
            (input.name == "self", &mut input.arg)
        {
            names.insert(name.name.clone(), Val::Tensor(tensor));
        }
    }
    let scope = Scope {
        graph: call.scope.graph,
        names,
    };
    let inner = Call {
        node: &node,
        scope: &scope,
        ..*call
    };
    match handler(cx, &inner)?.into_iter().next() {
        Some(Out::Value(value)) => Ok(value),
        Some(Out::Tensor(tensor)) => cx.read(tensor),
        _ => Err(Fail::Bug("an operator of tensors gives none".to_owned())),
    }
}

fn shifted(cx: &mut Importer<'_>, x: Pair, by: f64) -> Result<Pair> {
    let re = cx.build.with_float(op::Add {}, x.re, by)?;
    Ok(Pair { re, ..x })
}

fn inverse(cx: &mut Importer<'_>, x: Pair) -> Result<Pair> {
    let re = cx.build.float(1.0, cx.build.dtype(x.re)?)?;
    quotient(cx, Pair { re, im: None }, x)
}

/// i·z.
fn turned(cx: &mut Importer<'_>, x: Pair) -> Result<Pair> {
    let im = x.imaginary(cx)?;
    Ok(Pair {
        re: cx.build.add(op::Neg {}, &[im])?,
        im: Some(x.re),
    })
}

fn angle(cx: &mut Importer<'_>, x: Pair) -> Result<Value> {
    let im = x.imaginary(cx)?;
    cx.build.add(op::Atan2 {}, &[im, x.re])
}

fn log(cx: &mut Importer<'_>, x: Pair) -> Result<Pair> {
    let size = x.magnitude(cx)?;
    Ok(Pair {
        re: cx.build.add(op::Log {}, &[size])?,
        im: Some(angle(cx, x)?),
    })
}

fn exp(cx: &mut Importer<'_>, x: Pair) -> Result<Pair> {
    let size = cx.build.add(op::Exp {}, &[x.re])?;
    let angle = x.imaginary(cx)?;
    polar(cx, size, angle)
}

/// The root with a real part that isn't negative: √((|z| + re)/2) with the sign of the imaginary part on √((|z| − re)/2).
fn sqrt(cx: &mut Importer<'_>, x: Pair) -> Result<Pair> {
    let (size, im) = (x.magnitude(cx)?, x.imaginary(cx)?);
    let half = |cx: &mut Importer<'_>, sum: Value| {
        let half = cx.build.with_float(op::Mul {}, sum, 0.5)?;
        let least = cx.build.with_float(op::Maximum {}, half, 0.0)?;
        cx.build.add(op::Sqrt {}, &[least])
    };
    let (above, below) = (cx.build.plus(size, x.re)?, cx.build.minus(size, x.re)?);
    let (re, size) = (half(cx, above)?, half(cx, below)?);
    let zero = zeros(cx, im)?;
    let negative = cx.build.add(op::Lt {}, &[im, zero])?;
    let opposite = cx.build.add(op::Neg {}, &[size])?;
    let im = cx.build.select(negative, opposite, size)?;
    Ok(Pair { re, im: Some(im) })
}

/// sinh or cosh: both parts of eᶻ, each with a hyperbolic function of the real part.
fn hyperbolic(cx: &mut Importer<'_>, x: Pair, sine: bool) -> Result<Pair> {
    let im = x.imaginary(cx)?;
    let (sinh, cosh) = (
        cx.build.add(op::Sinh {}, &[x.re])?,
        cx.build.add(op::Cosh {}, &[x.re])?,
    );
    let (first, second) = if sine { (sinh, cosh) } else { (cosh, sinh) };
    let (cos, sin) = (
        cx.build.add(op::Cos {}, &[im])?,
        cx.build.add(op::Sin {}, &[im])?,
    );
    Ok(Pair {
        re: cx.build.times(first, cos)?,
        im: Some(cx.build.times(second, sin)?),
    })
}

/// sin z = −i·sinh(iz), cos z = cosh(iz).
fn circular(cx: &mut Importer<'_>, x: Pair, sine: bool) -> Result<Pair> {
    let turned = turned(cx, x)?;
    let value = hyperbolic(cx, turned, sine)?;
    if !sine {
        return Ok(value);
    }
    let im = cx.build.add(op::Neg {}, &[value.re])?;
    Ok(Pair {
        re: value.imaginary(cx)?,
        im: Some(im),
    })
}

fn tanh(cx: &mut Importer<'_>, x: Pair) -> Result<Pair> {
    // (e²ᶻ − 1)/(e²ᶻ + 1), on the side where the exponential is small.
    let zero = zeros(cx, x.re)?;
    let right = cx.build.add(op::Gt {}, &[x.re, zero])?;
    let minus = x.scaled(cx, -1.0)?;
    let im = (x.imaginary(cx)?, minus.imaginary(cx)?);
    let left = Pair {
        re: cx.build.select(right, minus.re, x.re)?,
        im: Some(cx.build.select(right, im.1, im.0)?),
    };
    let twice = left.scaled(cx, 2.0)?;
    let all = exp(cx, twice)?;
    let (above, below) = (shifted(cx, all, -1.0)?, shifted(cx, all, 1.0)?);
    let value = quotient(cx, above, below)?;
    value.each(cx, |cx, part| {
        let opposite = cx.build.add(op::Neg {}, &[part])?;
        cx.build.select(right, opposite, part)
    })
}

/// Whether the exponent is a whole number of which few multiplications make the power.
fn exponent_is_small(call: &Call<'_>) -> bool {
    call.opt_int("exponent")
        .is_ok_and(|n| n.is_some_and(|n| n.abs() <= 64))
}

/// A power by repeated squaring.
fn small_power(cx: &mut Importer<'_>, call: &Call<'_>, x: Pair) -> Result<Vec<Out>> {
    let n = call.int("exponent")?;
    let (mut square, mut product, mut rest) = (x, None, n.unsigned_abs());
    while rest > 0 {
        if rest % 2 == 1 {
            product = Some(match product {
                Some(product) => square.times(cx, product)?,
                None => square,
            });
        }
        rest /= 2;
        if rest > 0 {
            square = square.times(cx, square)?;
        }
    }
    let one = cx.build.full(
        fuseline_ir::Scalar::Int(1),
        cx.build.dtype(x.re)?,
        cx.build.shape(x.re)?,
    )?;
    let product = product.unwrap_or(Pair { re: one, im: None });
    Ok(vec![
        if n < 0 {
            inverse(cx, product)?
        } else {
            product
        }
        .into(),
    ])
}

/// aᵇ = e^(b·ln a); 0 to a power is 0, to the power 0 it is 1.
fn power(cx: &mut Importer<'_>, call: &Call<'_>, a: Pair, b: Pair) -> Result<Vec<Out>> {
    let shape = call.out_shape(0)?;
    if cx.build.dtype(a.re)? == DType::F16 {
        return invalid("complex numbers of float16");
    }
    let logarithm = log(cx, a)?;
    let exponent = b.times(cx, logarithm)?;
    let value = exp(cx, exponent)?;
    let size = a.magnitude(cx)?;
    let zero = zeros(cx, size)?;
    let none = cx.build.add(op::Eq {}, &[size, zero])?;
    let (no_re, no_im) = (b.re, b.imaginary(cx)?);
    let (re_zero, im_zero) = (zeros(cx, no_re)?, zeros(cx, no_im)?);
    let re_none = cx.build.add(op::Eq {}, &[no_re, re_zero])?;
    let im_none = cx.build.add(op::Eq {}, &[no_im, im_zero])?;
    let unit = cx.build.add(op::LogicalAnd {}, &[re_none, im_none])?;
    let dtype = cx.build.dtype(a.re)?;
    let (nothing, one) = (cx.build.float(0.0, dtype)?, cx.build.float(1.0, dtype)?);
    let im = value.imaginary(cx)?;
    let mut part = |value: Value, at_zero: Value| -> Result<Value> {
        let value = cx.build.broadcast(value, shape.clone())?;
        let value = cx.build.select(none, nothing, value)?;
        cx.build.select(unit, at_zero, value)
    };
    Ok(vec![
        Pair {
            re: part(value.re, one)?,
            im: Some(part(im, nothing)?),
        }
        .into(),
    ])
}

/// Whether both parts agree.
fn equal(cx: &mut Importer<'_>, call: &Call<'_>, wanted: bool) -> Result<Vec<Out>> {
    let (a, b) = (Pair::of(cx, call, "self")?, Pair::of(cx, call, "other")?);
    let dtype = cx.build.dtype(if a.im.is_some() { a.re } else { b.re })?;
    let parts = |cx: &mut Importer<'_>, x: Pair| -> Result<[Value; 2]> {
        let x = x.each(cx, |cx, part| cx.build.cast(part, dtype))?;
        Ok([x.re, x.imaginary(cx)?])
    };
    let ([a_re, a_im], [b_re, b_im]) = (parts(cx, a)?, parts(cx, b)?);
    done(if wanted {
        let (re, im) = (
            cx.build.add(op::Eq {}, &[a_re, b_re])?,
            cx.build.add(op::Eq {}, &[a_im, b_im])?,
        );
        cx.build.add(op::LogicalAnd {}, &[re, im])
    } else {
        let (re, im) = (
            cx.build.add(op::Ne {}, &[a_re, b_re])?,
            cx.build.add(op::Ne {}, &[a_im, b_im])?,
        );
        cx.build.add(op::LogicalOr {}, &[re, im])
    })
}
