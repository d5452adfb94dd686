//! Elementwise operators: arithmetic, comparison, logic, activations.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Op, Scalar, Value};

use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote::{self, Operand};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "add" => |cx, call| scaled(cx, call, op::Add {}.into()),
        "sub" | "subtract" => |cx, call| scaled(cx, call, op::Sub {}.into()),
        "rsub" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let b_scaled = scale(cx, call, a)?;
            done(cx.build.add(op::Sub {}, &[b, b_scaled]))
        },
        "mul" | "multiply" => |cx, call| binary(cx, call, op::Mul {}.into()),
        "div" | "divide" | "true_divide" => divide,
        "floor_divide" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            done(floor_quotient(cx, a, b))
        },
        "remainder" => |cx, call| binary(cx, call, op::Remainder {}.into()),
        "fmod" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            done(fmod(cx, a, b))
        },
        "pow" => |cx, call| {
            let (a, b) = promoted(cx, call, ["self", "exponent"])?;
            done(cx.build.add(op::Pow {}, &[a, b]))
        },
        "float_power" => |cx, call| {
            let (a, b) = promoted(cx, call, ["self", "exponent"])?;
            let (a, b) = (cx.build.cast(a, DType::F64)?, cx.build.cast(b, DType::F64)?);
            done(cx.build.add(op::Pow {}, &[a, b]))
        },
        "maximum" => |cx, call| binary(cx, call, op::Maximum {}.into()),
        "minimum" => |cx, call| binary(cx, call, op::Minimum {}.into()),
        "max" if target == "aten.max.other" => |cx, call| binary(cx, call, op::Maximum {}.into()),
        "min" if target == "aten.min.other" => |cx, call| binary(cx, call, op::Minimum {}.into()),
        "fmax" => |cx, call| ignore_nan(cx, call, op::Maximum {}.into()),
        "fmin" => |cx, call| ignore_nan(cx, call, op::Minimum {}.into()),
        "atan2" | "arctan2" => |cx, call| float_binary(cx, call, op::Atan2 {}.into()),
        "logaddexp" => |cx, call| float_binary(cx, call, op::LogAddExp {}.into()),
        "hypot" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            widened(cx, &[a, b], |cx, v| {
                let (a, b) = (
                    cx.build.add(op::Square {}, &[v[0]])?,
                    cx.build.add(op::Square {}, &[v[1]])?,
                );
                let sum = cx.build.add(op::Add {}, &[a, b])?;
                cx.build.add(op::Sqrt {}, &[sum])
            })
        },
        "eq" => |cx, call| binary(cx, call, op::Eq {}.into()),
        "ne" | "not_equal" => |cx, call| binary(cx, call, op::Ne {}.into()),
        "lt" | "less" => |cx, call| binary(cx, call, op::Lt {}.into()),
        "le" | "less_equal" => |cx, call| binary(cx, call, op::Le {}.into()),
        "gt" | "greater" => |cx, call| binary(cx, call, op::Gt {}.into()),
        "ge" | "greater_equal" => |cx, call| binary(cx, call, op::Ge {}.into()),
        "logical_and" => |cx, call| logical(cx, call, op::LogicalAnd {}.into()),
        "logical_or" => |cx, call| logical(cx, call, op::LogicalOr {}.into()),
        "logical_xor" => |cx, call| logical(cx, call, op::Ne {}.into()),
        "bitwise_and" | "__and__" => |cx, call| binary(cx, call, op::BitwiseAnd {}.into()),
        "bitwise_or" | "__or__" => |cx, call| binary(cx, call, op::BitwiseOr {}.into()),
        "bitwise_xor" | "__xor__" => |cx, call| binary(cx, call, op::BitwiseXor {}.into()),
        "bitwise_left_shift" | "__lshift__" => |cx, call| shift(cx, call, op::Mul {}.into()),
        "bitwise_right_shift" | "__rshift__" => |cx, call| shift(cx, call, op::FloorDiv {}.into()),
        "where" if target != "aten.where.default" => choose,
        "masked_fill" => masked_fill,
        "clamp" | "clip" => |cx, call| clamp(cx, call, Some("min"), Some("max")),
        "clamp_min" => |cx, call| clamp(cx, call, Some("min"), None),
        "clamp_max" => |cx, call| clamp(cx, call, None, Some("max")),
        "lerp" => lerp,
        "addcmul" => |cx, call| addc(cx, call, op::Mul {}.into()),
        "addcdiv" => |cx, call| addc(cx, call, op::Div {}.into()),
        _ => return unary(operator),
    })
}

/// Operators of one tensor.
fn unary(operator: &str) -> Option<Handler> {
    Some(match operator {
        "relu" => |cx, call| {
            let x = call.value(cx, "self")?;
            let zero = cx.build.scalar(Scalar::Int(0), cx.build.dtype(x)?)?;
            done(cx.build.add(op::Maximum {}, &[x, zero]))
        },
        "gelu" => |cx, call| {
            let x = call.value(cx, "self")?;
            let tanh = match call.opt_str("approximate")? {
                None | Some("none") => false,
                Some("tanh") => true,
                Some(other) => return invalid(format!("gelu has no approximation `{other}`")),
            };
            done(cx.build.add(op::Gelu { tanh }, &[x]))
        },
        "round" => |cx, call| {
            let x = call.value(cx, "self")?;
            let known = call
                .schema
                .is_some_and(|schema| schema.arg("decimals").is_some());
            let decimals = if known { call.int("decimals")? } else { 0 };
            if decimals == 0 {
                return done(cx.build.add(op::Round {}, &[x]));
            }
            let factor = 10f64.powi(decimals.unsigned_abs().min(300) as i32);
            let (up, down): (Op, Op) = if decimals > 0 {
                (op::Mul {}.into(), op::Div {}.into())
            } else {
                (op::Div {}.into(), op::Mul {}.into())
            };
            let scaled = cx.build.with_float(up, x, factor)?;
            let rounded = cx.build.add(op::Round {}, &[scaled])?;
            done(cx.build.with_float(down, rounded, factor))
        },
        // What concerns the imaginary part leaves a real tensor as it is.
        "positive" | "real" | "conj" | "_conj" | "conj_physical" | "_conj_physical"
        | "resolve_conj" | "resolve_neg" => |_, call| Ok(vec![Out::Tensor(call.tensor("self")?)]),
        "angle" => |cx, call| {
            activation(cx, call, |cx, x| {
                let dtype = cx.build.dtype(x)?;
                let (zero, half) = (
                    cx.build.float(0.0, dtype)?,
                    cx.build.float(std::f64::consts::PI, dtype)?,
                );
                let below = cx.build.add(op::Lt {}, &[x, zero])?;
                let angle = cx.build.select(below, half, zero)?;
                let nan = cx.build.add(op::Ne {}, &[x, x])?;
                cx.build.select(nan, x, angle)
            })
        },
        // A boolean is its own sign.
        "sign" | "sgn" => |cx, call| {
            let x = call.value(cx, "self")?;
            match cx.build.dtype(x)? {
                DType::Bool => done(Ok(x)),
                _ => done(cx.build.add(op::Sign {}, &[x])),
            }
        },
        "rad2deg" => |cx, call| {
            activation(cx, call, |cx, x| {
                cx.build
                    .with_float(op::Mul {}, x, 180.0 / std::f64::consts::PI)
            })
        },
        "deg2rad" => |cx, call| {
            activation(cx, call, |cx, x| {
                cx.build
                    .with_float(op::Mul {}, x, std::f64::consts::PI / 180.0)
            })
        },
        "exp2" => |cx, call| {
            activation(cx, call, |cx, x| {
                let two = cx.build.float(2.0, cx.build.dtype(x)?)?;
                cx.build.add(op::Pow {}, &[two, x])
            })
        },
        "frac" => |cx, call| {
            let x = call.value(cx, "self")?;
            let whole = cx.build.add(op::Trunc {}, &[x])?;
            done(cx.build.add(op::Sub {}, &[x, whole]))
        },
        "relu6" => |cx, call| {
            let x = call.value(cx, "self")?;
            done(between(cx, x, 0.0, 6.0))
        },
        "hardtanh" => |cx, call| {
            let x = call.value(cx, "self")?;
            let (low, high) = (call.float(cx, "min_val")?, call.float(cx, "max_val")?);
            done(between(cx, x, low, high))
        },
        "hardsigmoid" => |cx, call| activation(cx, call, hard_sigmoid),
        "hardswish" => |cx, call| {
            activation(cx, call, |cx, x| {
                let gate = hard_sigmoid(cx, x)?;
                cx.build.add(op::Mul {}, &[x, gate])
            })
        },
        "leaky_relu" => |cx, call| {
            let slope = call.float(cx, "negative_slope")?;
            let x = call.value(cx, "self")?;
            widened(cx, &[x], |cx, v| {
                let below = cx.build.with_float(op::Mul {}, v[0], slope)?;
                where_positive(cx, v[0], v[0], below)
            })
        },
        "prelu" | "_prelu_kernel" => |cx, call| {
            let (x, weight) = (call.value(cx, "self")?, call.value(cx, "weight")?);
            let mut shape = vec![fuseline_ir::Dim::from(1i64); cx.build.rank(x)?];
            let count = cx.build.ty(weight)?.numel();
            if let Some(channels) = shape.get_mut(1) {
                *channels = count;
            }
            let weight = cx.build.reshape(weight, shape)?;
            let below = cx.build.add(op::Mul {}, &[x, weight])?;
            done(where_positive(cx, x, x, below))
        },
        "elu" => |cx, call| {
            let (alpha, scale) = (call.float(cx, "alpha")?, call.float(cx, "scale")?);
            let input_scale = call.float(cx, "input_scale")?;
            exponential(cx, call, alpha * scale, scale, input_scale)
        },
        "celu" => |cx, call| {
            let alpha = call.float(cx, "alpha")?;
            exponential(cx, call, alpha, 1.0, 1.0 / alpha)
        },
        "selu" => |cx, call| {
            const ALPHA: f64 = 1.673_263_242_354_377_2;
            const SCALE: f64 = 1.050_700_987_355_480_5;
            exponential(cx, call, ALPHA * SCALE, SCALE, 1.0)
        },
        "softplus" => |cx, call| {
            let (beta, threshold) = (call.float(cx, "beta")?, call.float(cx, "threshold")?);
            let x = call.value(cx, "self")?;
            widened(cx, &[x], |cx, v| softplus(cx, v[0], beta, threshold))
        },
        "sum_to_size" => |cx, call| {
            let x = call.value(cx, "self")?;
            let (from, to) = (cx.build.shape(x)?, call.dims("size")?);
            let Some(extra) = from.len().checked_sub(to.len()) else {
                return invalid("a sum to more axes than there are");
            };
            let summed =
                |axis: &usize| *axis < extra || (to[*axis - extra].is(1) && !from[*axis].is(1));
            let (axes, keepdim) = ((0..from.len()).filter(summed).collect::<Vec<_>>(), false);
            if axes.is_empty() {
                let x = cx.build.cast(x, call.out_dtype(0)?)?;
                return done(cx.build.reshape(x, to));
            }
            let sum = cx.build.add(op::Sum { axes, keepdim }, &[x])?;
            done(cx.build.reshape(sum, to))
        },
        "mish" => |cx, call| {
            activation(cx, call, |cx, x| {
                let soft = softplus(cx, x, 1.0, 20.0)?;
                let gate = cx.build.add(op::Tanh {}, &[soft])?;
                cx.build.add(op::Mul {}, &[x, gate])
            })
        },
        "log_sigmoid" | "log_sigmoid_forward" => log_sigmoid,
        "softsign" => |cx, call| {
            activation(cx, call, |cx, x| {
                let size = cx.build.add(op::Abs {}, &[x])?;
                let below = cx.build.with_float(op::Add {}, size, 1.0)?;
                cx.build.add(op::Div {}, &[x, below])
            })
        },
        "hardshrink" => |cx, call| shrink(cx, call, |_, x, _| Ok(x)),
        "softshrink" => |cx, call| {
            shrink(cx, call, |cx, x, lambda| {
                let sign = cx.build.add(op::Sign {}, &[x])?;
                let step = cx.build.with_float(op::Mul {}, sign, lambda)?;
                cx.build.add(op::Sub {}, &[x, step])
            })
        },
        "threshold" => |cx, call| {
            let (limit, value) = (call.num(cx, "threshold")?, call.num(cx, "value")?);
            let x = call.value(cx, "self")?;
            let dtype = cx.build.dtype(x)?;
            let (limit, value) = (cx.number(&limit, dtype)?, cx.number(&value, dtype)?);
            let above = cx.build.add(op::Gt {}, &[x, limit])?;
            done(cx.build.select(above, x, value))
        },
        "glu" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let size = cx.build.shape(x)?[axis].clone();
            let half = size.floor_div(&2i64.into());
            let value = cx.build.slice(x, axis, 0i64.into(), half.clone())?;
            let gate = cx.build.slice(x, axis, half, size)?;
            widened(cx, &[value, gate], |cx, v| {
                let gate = cx.build.add(op::Sigmoid {}, &[v[1]])?;
                cx.build.add(op::Mul {}, &[v[0], gate])
            })
        },
        _ => return None,
    })
}

/// One new tensor as a handler's result.
pub(in crate::import) fn done(value: Result<Value>) -> Result<Vec<Out>> {
    Ok(vec![Out::Value(value?)])
}

fn operand(cx: &Importer<'_>, value: Value) -> Result<Operand> {
    let ty = cx.build.ty(value)?;
    Ok(if ty.rank() == 0 {
        Operand::ZeroDim(ty.dtype)
    } else {
        Operand::Tensor(ty.dtype)
    })
}

/// An argument that can be a tensor or a number.
#[derive(Debug, Clone)]
pub(in crate::import) enum Arg {
    Tensor(Value),
    Number(Num),
}

impl Arg {
    fn operand(&self, cx: &Importer<'_>) -> Result<Operand> {
        match self {
            Self::Tensor(value) => operand(cx, *value),
            Self::Number(number) => Ok(Operand::Number(number.category(cx)?)),
        }
    }

    pub(in crate::import) fn to(&self, cx: &mut Importer<'_>, dtype: DType) -> Result<Value> {
        match self {
            Self::Tensor(value) => cx.build.cast(*value, dtype),
            Self::Number(number) => cx.number(number, dtype),
        }
    }
}

/// An argument that can be a tensor or a number, by name.
pub(in crate::import) fn tensor_or_number(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Arg> {
    Ok(match call.tensor(name) {
        Ok(tensor) => Arg::Tensor(cx.read(tensor)?),
        Err(_) => Arg::Number(call.num(cx, name)?),
    })
}

/// Converts arguments to their common dtype.
pub(in crate::import) fn to_common(cx: &mut Importer<'_>, args: &[Arg]) -> Result<Vec<Value>> {
    let operands = args
        .iter()
        .map(|arg| arg.operand(cx))
        .collect::<Result<Vec<_>>>()?;
    let Some(dtype) = promote::result_type(operands) else {
        return unsupported("a combination of element types that PyTorch does not promote");
    };
    args.iter().map(|arg| arg.to(cx, dtype)).collect()
}

fn promoted(cx: &mut Importer<'_>, call: &Call<'_>, names: [&str; 2]) -> Result<(Value, Value)> {
    let args = [
        tensor_or_number(cx, call, names[0])?,
        tensor_or_number(cx, call, names[1])?,
    ];
    let values = to_common(cx, &args)?;
    Ok((values[0], values[1]))
}

/// `self` and `other` in their common dtype.
pub(in crate::import) fn operands(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
) -> Result<(Value, Value)> {
    promoted(cx, call, ["self", "other"])
}

fn binary(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let (a, b) = operands(cx, call)?;
    done(boolean(cx, op, a, b))
}

/// Applies a binary op; arithmetic on two booleans, which the IR lacks, is the logic that it amounts to.
pub(in crate::import) fn boolean(
    cx: &mut Importer<'_>,
    op: Op,
    a: Value,
    b: Value,
) -> Result<Value> {
    let op = match op {
        _ if cx.build.dtype(a)? != DType::Bool => op,
        Op::Mul(_) | Op::Minimum(_) => op::LogicalAnd {}.into(),
        Op::Add(_) | Op::Maximum(_) => op::LogicalOr {}.into(),
        other => other,
    };
    cx.build.add(op, &[a, b])
}

fn float_binary(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let (a, b) = operands(cx, call)?;
    let dtype = promote::to_float(cx.build.dtype(a)?);
    let (a, b) = (cx.build.cast(a, dtype)?, cx.build.cast(b, dtype)?);
    done(cx.build.add(op, &[a, b]))
}

/// `value` times the argument `alpha`.
fn scale(cx: &mut Importer<'_>, call: &Call<'_>, value: Value) -> Result<Value> {
    let alpha = call.num(cx, "alpha")?;
    if matches!(alpha, Num::Known(alpha) if alpha.as_f64() == 1.0) {
        return Ok(value);
    }
    let dtype = cx.build.dtype(value)?;
    let alpha = cx.number(&alpha, dtype)?;
    cx.build.add(op::Mul {}, &[value, alpha])
}

/// `self ± alpha · other`, rounded once.
fn scaled(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let (a, b) = operands(cx, call)?;
    let unit = matches!(call.num(cx, "alpha")?, Num::Known(alpha) if alpha.as_f64() == 1.0);
    if unit {
        return done(boolean(cx, op, a, b));
    }
    let dtype = cx.build.dtype(a)?;
    let wide = promote::compute_type(dtype);
    let (a, b) = (cx.build.cast(a, wide)?, cx.build.cast(b, wide)?);
    let b = scale(cx, call, b)?;
    let sum = cx.build.add(op, &[a, b])?;
    done(cx.build.cast(sum, dtype))
}

/// ⌊a / b⌋; of floats NaN where a is infinite, since an infinity leaves no remainder.
fn floor_quotient(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    let quotient = cx.build.add(op::FloorDiv {}, &[a, b])?;
    if !cx.build.dtype(a)?.is_float() {
        return Ok(quotient);
    }
    let nothing = cx.build.add(op::Sub {}, &[a, a])?;
    cx.build.add(op::Add {}, &[quotient, nothing])
}

fn divide(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (a, b) = operands(cx, call)?;
    let dtype = cx.build.dtype(a)?;
    let has_mode = call
        .schema
        .is_some_and(|schema| schema.arg("rounding_mode").is_some());
    let mode = if has_mode {
        call.opt_str("rounding_mode")?
    } else {
        None
    };
    match mode {
        None => {
            let dtype = promote::to_float(dtype);
            let (a, b) = (cx.build.cast(a, dtype)?, cx.build.cast(b, dtype)?);
            done(cx.build.add(op::Div {}, &[a, b]))
        }
        Some("floor") => done(floor_quotient(cx, a, b)),
        Some("trunc") if dtype.is_float() => {
            let quotient = cx.build.add(op::Div {}, &[a, b])?;
            done(cx.build.add(op::Trunc {}, &[quotient]))
        }
        Some("trunc") => {
            // (a - fmod(a, b)) / b has no remainder, so rounding down does nothing.
            let rest = fmod(cx, a, b)?;
            let whole = cx.build.add(op::Sub {}, &[a, rest])?;
            done(cx.build.add(op::FloorDiv {}, &[whole, b]))
        }
        Some(other) => invalid(format!("division has no rounding mode `{other}`")),
    }
}

/// The remainder with the sign of the dividend.
fn fmod(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    let (size_a, size_b) = (
        cx.build.add(op::Abs {}, &[a])?,
        cx.build.add(op::Abs {}, &[b])?,
    );
    let rest = cx.build.add(op::Remainder {}, &[size_a, size_b])?;
    let sign = cx.build.add(op::Sign {}, &[a])?;
    cx.build.add(op::Mul {}, &[sign, rest])
}

/// `fmax`, `fmin`: the other operand where one is NaN.
fn ignore_nan(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let (a, b) = operands(cx, call)?;
    let both = boolean(cx, op, a, b)?;
    let (a_nan, b_nan) = (
        cx.build.add(op::Ne {}, &[a, a])?,
        cx.build.add(op::Ne {}, &[b, b])?,
    );
    let without_b = cx.build.select(b_nan, a, both)?;
    done(cx.build.select(a_nan, b, without_b))
}

pub(in crate::import) fn to_bool(cx: &mut Importer<'_>, value: Value) -> Result<Value> {
    cx.build.cast(value, DType::Bool)
}

fn logical(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let (a, b) = (call.value(cx, "self")?, call.value(cx, "other")?);
    let (a, b) = (to_bool(cx, a)?, to_bool(cx, b)?);
    done(cx.build.add(op, &[a, b]))
}

/// A shift by whole bits is a product with, or a quotient by, a power of two.
fn shift(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let (a, b) = operands(cx, call)?;
    let two = cx.build.scalar(Scalar::Int(2), cx.build.dtype(a)?)?;
    let factor = cx.build.add(op::Pow {}, &[two, b])?;
    done(cx.build.add(op, &[a, factor]))
}

fn choose(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let cond = call.value(cx, "condition")?;
    let cond = to_bool(cx, cond)?;
    let (a, b) = operands(cx, call)?;
    done(cx.build.select(cond, a, b))
}

fn masked_fill(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, mask) = (call.value(cx, "self")?, call.value(cx, "mask")?);
    let value = call.num(cx, "value")?;
    let value = cx.number(&value, cx.build.dtype(x)?)?;
    let mask = to_bool(cx, mask)?;
    done(cx.build.select(mask, value, x))
}

fn clamp(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    min: Option<&str>,
    max: Option<&str>,
) -> Result<Vec<Out>> {
    let mut args = vec![Arg::Tensor(call.value(cx, "self")?)];
    let mut bounds: Vec<Op> = Vec::new();
    for (name, op) in [
        (min, Op::from(op::Maximum {})),
        (max, Op::from(op::Minimum {})),
    ] {
        if let Some(name) = name
            && !call.is_none(name)?
        {
            args.push(tensor_or_number(cx, call, name)?);
            bounds.push(op);
        }
    }
    let values = to_common(cx, &args)?;
    let mut x = values[0];
    for (op, bound) in bounds.into_iter().zip(values.into_iter().skip(1)) {
        x = cx.build.add(op, &[x, bound])?;
    }
    done(Ok(x))
}

fn lerp(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let args = [
        tensor_or_number(cx, call, "self")?,
        tensor_or_number(cx, call, "end")?,
        tensor_or_number(cx, call, "weight")?,
    ];
    let values = to_common(cx, &args)?;
    widened(cx, &values, |cx, v| {
        let span = cx.build.add(op::Sub {}, &[v[1], v[0]])?;
        let step = cx.build.add(op::Mul {}, &[span, v[2]])?;
        cx.build.add(op::Add {}, &[v[0], step])
    })
}

fn addc(cx: &mut Importer<'_>, call: &Call<'_>, op: Op) -> Result<Vec<Out>> {
    let args = [
        tensor_or_number(cx, call, "self")?,
        tensor_or_number(cx, call, "tensor1")?,
        tensor_or_number(cx, call, "tensor2")?,
    ];
    let value = call.num(cx, "value")?;
    let values = to_common(cx, &args)?;
    let dtype = cx.build.dtype(values[0])?;
    let wide = promote::compute_type(dtype);
    let mut v = Vec::new();
    for x in values {
        v.push(cx.build.cast(x, wide)?);
    }
    let mut term = cx.build.add(op, &[v[1], v[2]])?;
    if !matches!(value, Num::Known(value) if value.as_f64() == 1.0) {
        let factor = cx.number(&value, wide)?;
        term = cx.build.add(op::Mul {}, &[term, factor])?;
    }
    let sum = cx.build.add(op::Add {}, &[v[0], term])?;
    done(cx.build.cast(sum, dtype))
}

/// Computes on floats as PyTorch does inside one operator: integers become the default float, halves are widened and rounded once.
pub(in crate::import) fn widened(
    cx: &mut Importer<'_>,
    values: &[Value],
    compute: impl FnOnce(&mut Importer<'_>, &[Value]) -> Result<Value>,
) -> Result<Vec<Out>> {
    let Some(first) = values.first() else {
        return invalid("no operands");
    };
    let dtype = promote::to_float(cx.build.dtype(*first)?);
    let wide = promote::compute_type(dtype);
    let mut inner = Vec::new();
    for value in values {
        inner.push(cx.build.cast(*value, wide)?);
    }
    let result = compute(cx, &inner)?;
    done(cx.build.cast(result, dtype))
}

/// `-log(1 + e^-x)`, by a sum of exponentials that does not overflow.
fn log_sigmoid(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    activation(cx, call, |cx, x| {
        let minus = cx.build.add(op::Neg {}, &[x])?;
        let zero = cx.build.float(0.0, cx.build.dtype(x)?)?;
        let sum = cx.build.add(op::LogAddExp {}, &[minus, zero])?;
        cx.build.add(op::Neg {}, &[sum])
    })
}

/// A function of `self`, computed [`widened`].
pub(in crate::import) fn activation(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    compute: impl FnOnce(&mut Importer<'_>, Value) -> Result<Value>,
) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    widened(cx, &[x], |cx, values| compute(cx, values[0]))
}

pub(in crate::import) fn one_minus(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let one = cx.build.float(1.0, cx.build.dtype(x)?)?;
    cx.build.add(op::Sub {}, &[one, x])
}

/// `min(max(x, low), high)`.
fn between(cx: &mut Importer<'_>, x: Value, low: f64, high: f64) -> Result<Value> {
    let x = cx.build.with_float(op::Maximum {}, x, low)?;
    cx.build.with_float(op::Minimum {}, x, high)
}

fn hard_sigmoid(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let shifted = cx.build.with_float(op::Add {}, x, 3.0)?;
    let cut = between(cx, shifted, 0.0, 6.0)?;
    cx.build.with_float(op::Div {}, cut, 6.0)
}

pub(in crate::import) fn where_positive(
    cx: &mut Importer<'_>,
    x: Value,
    then: Value,
    otherwise: Value,
) -> Result<Value> {
    let zero = cx.build.scalar(Scalar::Int(0), cx.build.dtype(x)?)?;
    let positive = cx.build.add(op::Gt {}, &[x, zero])?;
    cx.build.select(positive, then, otherwise)
}

/// `positive · x` above zero, `negative · (e^(inner · x) − 1)` below.
fn exponential(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    negative: f64,
    positive: f64,
    inner: f64,
) -> Result<Vec<Out>> {
    activation(cx, call, |cx, x| {
        let scaled = cx.build.with_float(op::Mul {}, x, inner)?;
        let grown = cx.build.add(op::Expm1 {}, &[scaled])?;
        let below = cx.build.with_float(op::Mul {}, grown, negative)?;
        let above = cx.build.with_float(op::Mul {}, x, positive)?;
        where_positive(cx, x, above, below)
    })
}

/// `log(1 + e^(beta·x)) / beta`, linear above the threshold.
fn softplus(cx: &mut Importer<'_>, x: Value, beta: f64, threshold: f64) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let scaled = if beta == 1.0 {
        x
    } else {
        cx.build.with_float(op::Mul {}, x, beta)?
    };
    let zero = cx.build.float(0.0, dtype)?;
    let soft = cx.build.add(op::LogAddExp {}, &[scaled, zero])?;
    let soft = if beta == 1.0 {
        soft
    } else {
        cx.build.with_float(op::Div {}, soft, beta)?
    };
    let limit = cx.build.float(threshold, dtype)?;
    let linear = cx.build.add(op::Gt {}, &[scaled, limit])?;
    cx.build.select(linear, x, soft)
}

/// Zero where `|x| ≤ lambd`; NaN passes.
fn shrink(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    outside: impl FnOnce(&mut Importer<'_>, Value, f64) -> Result<Value>,
) -> Result<Vec<Out>> {
    let lambda = call.float(cx, "lambd")?;
    activation(cx, call, |cx, x| {
        let dtype = cx.build.dtype(x)?;
        let size = cx.build.add(op::Abs {}, &[x])?;
        let limit = cx.build.float(lambda, dtype)?;
        let inside = cx.build.add(op::Le {}, &[size, limit])?;
        let zero = cx.build.float(0.0, dtype)?;
        let outside = outside(cx, x, lambda)?;
        cx.build.select(inside, zero, outside)
    })
}
