//! Complex numbers, which the IR and the target don't have: a complex tensor is two real ones in the importer.
//!
//! Operators that are linear over the reals and move or sum elements apply to both parts alike, so their own handlers run twice, once for each part. The rest
//! is written out here.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Scalar, Value};

use super::complex_parts::{acts_on_parts, by_parts, multilinear};
use super::pointwise::done;
use super::{columns, complex_math, fourier, matmul};
use crate::import::call::{Call, Val};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::memory::TensorId;
use crate::import::{Handler, Importer, Out, dispatch, symbolic};
use crate::pt2::exported::{Argument, OptionalTensor};

/// A complex value, or a real one seen as complex.
#[derive(Debug, Clone, Copy)]
pub(in crate::import) struct Pair {
    /// The real part.
    pub re: Value,
    /// The imaginary part, of the same shape and dtype; `None` where it is 0 everywhere.
    pub im: Option<Value>,
}

impl From<Pair> for Out {
    fn from(pair: Pair) -> Self {
        Self::Complex(pair)
    }
}

impl Pair {
    /// A tensor or number argument.
    pub fn of(cx: &mut Importer<'_>, call: &Call<'_>, name: &str) -> Result<Self> {
        if let Some((re, im)) = call.complex(name) {
            return Ok(Self {
                re: cx.read(re)?,
                im: Some(cx.read(im)?),
            });
        }
        if let Some(Argument::Complex(number)) = call.argument(name) {
            let dtype = crate::import::promote::DEFAULT_FLOAT;
            return Ok(Self {
                re: cx.build.float(number.real.0, dtype)?,
                im: Some(cx.build.float(number.imag.0, dtype)?),
            });
        }
        Ok(Self {
            re: call.value(cx, name)?,
            im: None,
        })
    }

    /// Applies a function that is linear over the reals to each part.
    pub fn each(
        self,
        cx: &mut Importer<'_>,
        mut f: impl FnMut(&mut Importer<'_>, Value) -> Result<Value>,
    ) -> Result<Self> {
        Ok(Self {
            re: f(cx, self.re)?,
            im: self.im.map(|im| f(cx, im)).transpose()?,
        })
    }

    /// The product with a real number.
    pub fn scaled(self, cx: &mut Importer<'_>, factor: f64) -> Result<Self> {
        if factor == 1.0 {
            return Ok(self);
        }
        self.each(cx, |cx, part| cx.build.with_float(op::Mul {}, part, factor))
    }

    /// The product, elements broadcast.
    pub fn times(self, cx: &mut Importer<'_>, other: Self) -> Result<Self> {
        self.product(cx, other, |cx, a, b| cx.build.add(op::Mul {}, &[a, b]))
    }

    /// The sum, elements broadcast.
    pub fn plus(self, cx: &mut Importer<'_>, other: Self) -> Result<Self> {
        let re = cx.build.plus(self.re, other.re)?;
        let im = match (self.im, other.im) {
            (Some(a), Some(b)) => Some(cx.build.plus(a, b)?),
            (one, other) => one.or(other),
        };
        let shape = cx.build.shape(re)?;
        let im = im.map(|im| cx.build.broadcast(im, shape)).transpose()?;
        Ok(Self { re, im })
    }

    /// A product by parts, of a bilinear function of real tensors.
    fn product(
        self,
        cx: &mut Importer<'_>,
        other: Self,
        f: impl Fn(&mut Importer<'_>, Value, Value) -> Result<Value>,
    ) -> Result<Self> {
        let re = f(cx, self.re, other.re)?;
        match (self.im, other.im) {
            (None, None) => Ok(Self { re, im: None }),
            (Some(im), None) => {
                let im = f(cx, im, other.re)?;
                Ok(Self { re, im: Some(im) })
            }
            (None, Some(im)) => {
                let im = f(cx, self.re, im)?;
                Ok(Self { re, im: Some(im) })
            }
            (Some(a), Some(b)) => {
                let both = f(cx, a, b)?;
                let (left, right) = (f(cx, self.re, b)?, f(cx, a, other.re)?);
                Ok(Self {
                    re: cx.build.add(op::Sub {}, &[re, both])?,
                    im: Some(cx.build.add(op::Add {}, &[left, right])?),
                })
            }
        }
    }

    /// The imaginary part, zeros included.
    pub fn imaginary(self, cx: &mut Importer<'_>) -> Result<Value> {
        match self.im {
            Some(im) => Ok(im),
            None => zeros(cx, self.re),
        }
    }

    /// Both parts as the last axis.
    pub fn as_real(self, cx: &mut Importer<'_>) -> Result<Value> {
        let im = self.imaginary(cx)?;
        let axis = cx.build.rank(self.re)?;
        let parts = [
            cx.build.unsqueeze(self.re, axis)?,
            cx.build.unsqueeze(im, axis)?,
        ];
        cx.build.cat(&parts, axis)
    }

    /// √(re² + im²).
    pub fn magnitude(self, cx: &mut Importer<'_>) -> Result<Value> {
        let Some(im) = self.im else {
            return cx.build.add(op::Abs {}, &[self.re]);
        };
        let (re, im) = (
            cx.build.add(op::Square {}, &[self.re])?,
            cx.build.add(op::Square {}, &[im])?,
        );
        let sum = cx.build.add(op::Add {}, &[re, im])?;
        cx.build.add(op::Sqrt {}, &[sum])
    }

    /// The number mirrored at the real axis.
    pub fn conjugate(self, cx: &mut Importer<'_>) -> Result<Self> {
        let im = self
            .im
            .map(|im| cx.build.add(op::Neg {}, &[im]))
            .transpose()?;
        Ok(Self { im, ..self })
    }

    /// The parts in the dtype of the result's parts.
    fn to_result(self, cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Self> {
        let dtype = call.out_dtype(0)?;
        self.each(cx, |cx, part| cx.build.cast(part, dtype))
    }
}

/// Whether an operator has no meaning but for complex tensors, so that only this file knows it.
pub(in crate::import) fn is_own(target: &str) -> bool {
    let operator = target
        .strip_prefix("aten.")
        .and_then(|rest| rest.split('.').next());
    matches!(
        operator,
        Some(
            "complex"
                | "polar"
                | "imag"
                | "view_as_complex"
                | "view_as_complex_copy"
                | "view_as_real"
                | "view_as_real_copy"
                | "isreal"
        )
    )
}

/// The handler of an operator that makes complex tensors or has them, or complex numbers, among its arguments. One that writes to its argument is found by its
/// functional name.
pub(in crate::import) fn find(call: &Call<'_>) -> Option<Handler> {
    let (operator, overload) = call.target.strip_prefix("aten.")?.split_once('.')?;
    match operator {
        "view_as_complex" | "view_as_complex_copy" => return Some(view_as_complex),
        "complex" => {
            return Some(|cx, call| {
                let (re, im) = (call.value(cx, "real")?, call.value(cx, "imag")?);
                let shape = call.out_shape(0)?;
                let (re, im) = (
                    cx.build.broadcast(re, shape.clone())?,
                    cx.build.broadcast(im, shape)?,
                );
                Ok(vec![Pair { re, im: Some(im) }.into()])
            });
        }
        "polar" => {
            return Some(|cx, call| {
                let (size, angle) = (call.value(cx, "abs")?, call.value(cx, "angle")?);
                let pair = polar(cx, size, angle)?;
                Ok(vec![pair.into()])
            });
        }
        _ => {}
    }
    if !call.has_complex() {
        return match operator {
            _ if !call.out_is_complex() => None,
            "to" | "_to_copy" => Some(|cx, call| {
                let x = Pair::of(cx, call, "self")?;
                let re = cx.build.cast(x.re, call.out_dtype(0)?)?;
                let im = Some(zeros(cx, re)?);
                Ok(vec![Pair { re, im }.into()])
            }),
            _ if operator.contains("fft") || operator == "stft" => None,
            _ => Some(by_parts),
        };
    }
    if let Some(handler) = fourier::find(call.target).or_else(|| columns::find(call.target)) {
        return Some(handler);
    }
    let writes = operator.ends_with('_') && !operator.ends_with("__");
    if writes {
        return Some(in_place);
    }
    Some(
        on_complex(operator, overload)
            .unwrap_or(|_, _| unsupported("this operator on complex numbers")),
    )
}

/// An operator that writes what the one without the underscore gives.
fn in_place(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let functional = dispatch::functional(call.target);
    let Some((operator, overload)) = functional
        .as_deref()
        .and_then(|name| name.strip_prefix("aten.")?.split_once('.'))
    else {
        return Err(Fail::Bug(format!(
            "`{}` has no functional form",
            call.target
        )));
    };
    let Some((re, im)) = call.complex("self") else {
        return unsupported("complex numbers written to a real tensor");
    };
    let Some(handler) = on_complex(operator, overload) else {
        return unsupported("this operator on complex numbers");
    };
    let target = format!("aten.{operator}.{overload}");
    let call = Call {
        target: &target,
        ..*call
    };
    let written = match handler(cx, &call)?.into_iter().next() {
        Some(Out::Complex(pair)) => pair,
        Some(Out::Views(re, im)) => Pair {
            re: cx.read(re)?,
            im: Some(cx.read(im)?),
        },
        _ => {
            return Err(Fail::Bug(
                "an in-place operator has no complex result".to_owned(),
            ));
        }
    };
    let imaginary = written.imaginary(cx)?;
    cx.write(re, written.re)?;
    cx.write(im, imaginary)?;
    Ok(vec![Out::Views(re, im)])
}

fn on_complex(operator: &str, overload: &str) -> Option<Handler> {
    if let Some(handler) = complex_math::find(operator, overload) {
        return Some(handler);
    }
    Some(match operator {
        "view_as_real" | "view_as_real_copy" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            done(x.as_real(cx))
        },
        "real" => |_, call| match call.complex("self") {
            Some((re, _)) => Ok(vec![Out::Tensor(re)]),
            None => invalid("a real part of a real tensor"),
        },
        "imag" => |_, call| match call.complex("self") {
            Some((_, im)) => Ok(vec![Out::Tensor(im)]),
            None => invalid("an imaginary part of a real tensor"),
        },
        "abs" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            done(x.magnitude(cx))
        },
        "angle" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let im = x.imaginary(cx)?;
            done(cx.build.add(op::Atan2 {}, &[im, x.re]))
        },
        "conj" | "_conj" | "conj_physical" | "_conj_physical" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            Ok(vec![x.conjugate(cx)?.into()])
        },
        "mul" | "multiply" => |cx, call| {
            let (a, b) = (operand(cx, call, "self")?, operand(cx, call, "other")?);
            Ok(vec![a.times(cx, b)?.into()])
        },
        "matmul" | "mm" | "bmm" | "mv" | "dot" | "outer" | "ger" | "inner" | "tensordot"
        | "linear" | "einsum" | "kron" => multilinear,
        "mH" | "matrix_H" | "adjoint" => |cx, call| {
            let mut target = call.target.to_owned();
            for name in ["mH", "matrix_H", "adjoint"] {
                target = target.replace(name, "mT");
            }
            let turned = by_parts(
                cx,
                &Call {
                    target: &target,
                    ..*call
                },
            )?;
            match turned.as_slice() {
                [Out::Views(re, im)] => {
                    let pair = Pair {
                        re: cx.read(*re)?,
                        im: Some(cx.read(*im)?),
                    };
                    Ok(vec![pair.conjugate(cx)?.into()])
                }
                _ => Err(Fail::Bug("a transposition is a view".to_owned())),
            }
        },
        "vdot" => |cx, call| {
            let (a, b) = (operand(cx, call, "self")?, operand(cx, call, "other")?);
            let product = a.conjugate(cx)?.times(cx, b)?;
            let (axes, keepdim) = (vec![0], false);
            let sum = product.each(cx, |cx, part| {
                cx.build.add(
                    op::Sum {
                        axes: axes.clone(),
                        keepdim,
                    },
                    &[part],
                )
            })?;
            Ok(vec![sum.into()])
        },
        "addmm" | "baddbmm" | "addmv" => |cx, call| {
            let [first, second] = match call.target.contains("baddbmm") {
                true => ["batch1", "batch2"],
                false if call.target.contains("addmv") => ["mat", "vec"],
                false => ["mat1", "mat2"],
            };
            let (a, b) = (operand(cx, call, first)?, operand(cx, call, second)?);
            let alpha = call.float(cx, "alpha")?;
            let beta = call.float(cx, "beta")?;
            let product = a.product(cx, b, matmul::matmul)?.scaled(cx, alpha)?;
            let added = operand(cx, call, "self")?.scaled(cx, beta)?;
            Ok(vec![added.plus(cx, product)?.into()])
        },
        "add" => |cx, call| sum(cx, call, 1.0),
        "sub" | "subtract" => |cx, call| sum(cx, call, -1.0),
        "div" | "divide" | "true_divide" => divide,
        "reciprocal" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let one = cx.build.float(1.0, cx.build.dtype(x.re)?)?;
            Ok(vec![quotient(cx, Pair { re: one, im: None }, x)?.into()])
        },
        "square" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            Ok(vec![x.times(cx, x)?.into()])
        },
        "exp" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let size = cx.build.add(op::Exp {}, &[x.re])?;
            let angle = x.imaginary(cx)?;
            Ok(vec![polar(cx, size, angle)?.into()])
        },
        "to" | "_to_copy" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let x = x.to_result(cx, call)?;
            // A conversion to a real dtype drops the imaginary part.
            Ok(vec![if call.out_is_complex() {
                x.into()
            } else {
                x.re.into()
            }])
        },
        "rsub" => |cx, call| {
            let (a, b) = (operand(cx, call, "self")?, operand(cx, call, "other")?);
            let alpha = call.float(cx, "alpha")?;
            let a = a.scaled(cx, -alpha)?;
            Ok(vec![b.plus(cx, a)?.into()])
        },
        "addcmul" => |cx, call| {
            let (a, b) = (operand(cx, call, "tensor1")?, operand(cx, call, "tensor2")?);
            let value = call.float(cx, "value")?;
            let product = a.times(cx, b)?.scaled(cx, value)?;
            let added = operand(cx, call, "self")?;
            Ok(vec![added.plus(cx, product)?.into()])
        },
        _ if acts_on_parts(operator) => by_parts,
        _ => return None,
    })
}

/// An argument as a factor or summand: integers become floats of the result's precision.
pub(in crate::import) fn operand(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    name: &str,
) -> Result<Pair> {
    Pair::of(cx, call, name)?.to_result(cx, call)
}

fn sum(cx: &mut Importer<'_>, call: &Call<'_>, sign: f64) -> Result<Vec<Out>> {
    let a = operand(cx, call, "self")?;
    let b = operand(cx, call, "other")?;
    let alpha = call.float(cx, "alpha")?;
    let b = b.scaled(cx, sign * alpha)?;
    Ok(vec![a.plus(cx, b)?.into()])
}

fn divide(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let a = operand(cx, call, "self")?;
    let b = operand(cx, call, "other")?;
    Ok(vec![quotient(cx, a, b)?.into()])
}

/// a / b: a · conj(b) / |b|².
pub(in crate::import) fn quotient(cx: &mut Importer<'_>, a: Pair, b: Pair) -> Result<Pair> {
    let Some(im) = b.im else {
        return a.each(cx, |cx, part| cx.build.add(op::Div {}, &[part, b.re]));
    };
    let (re2, im2) = (
        cx.build.add(op::Square {}, &[b.re])?,
        cx.build.add(op::Square {}, &[im])?,
    );
    let norm = cx.build.add(op::Add {}, &[re2, im2])?;
    let turned = b.conjugate(cx)?;
    let above = a.times(cx, turned)?;
    above.each(cx, |cx, part| cx.build.add(op::Div {}, &[part, norm]))
}

pub(in crate::import) fn polar(cx: &mut Importer<'_>, size: Value, angle: Value) -> Result<Pair> {
    let (cos, sin) = (
        cx.build.add(op::Cos {}, &[angle])?,
        cx.build.add(op::Sin {}, &[angle])?,
    );
    Ok(Pair {
        re: cx.build.add(op::Mul {}, &[size, cos])?,
        im: Some(cx.build.add(op::Mul {}, &[size, sin])?),
    })
}

/// Zeros of the type of `x`.
pub(in crate::import) fn zeros(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let ty = cx.build.ty(x)?.clone();
    cx.build.full(Scalar::Int(0), ty.dtype, ty.shape)
}

/// Pairs along the last axis as complex numbers.
fn view_as_complex(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    if cx.build.dtype(x)? == DType::F16 {
        return unsupported("complex numbers of float16");
    }
    let shape = cx.build.shape(x)?;
    let Some((_, lead)) = shape.split_last() else {
        return invalid("a 0-d tensor seen as complex");
    };
    let axis = lead.len();
    let mut part = |n: i64| -> Result<Value> {
        let part = cx.build.slice(x, axis, n.into(), (n + 1).into())?;
        cx.build.reshape(part, lead.to_vec())
    };
    let (re, im) = (part(0)?, part(1)?);
    Ok(vec![Pair { re, im: Some(im) }.into()])
}

impl Call<'_> {
    /// The parts of a complex tensor argument; `None` where the argument is something else.
    pub(in crate::import) fn complex(&self, name: &str) -> Option<(TensorId, TensorId)> {
        let input = self.node.inputs.iter().find(|input| input.name == name)?;
        let (Argument::Tensor(tensor) | Argument::OptionalTensor(OptionalTensor::Tensor(tensor))) =
            &input.arg
        else {
            return None;
        };
        match self.scope.get(&tensor.name) {
            Some(Val::Complex(re, im)) => Some((*re, *im)),
            _ => None,
        }
    }

    /// Names of all tensors among the arguments.
    pub(super) fn tensor_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for input in &self.node.inputs {
            match &input.arg {
                Argument::Tensor(name) | Argument::OptionalTensor(OptionalTensor::Tensor(name)) => {
                    names.push(name.name.as_str());
                }
                Argument::Tensors(all) => names.extend(all.iter().map(|one| one.name.as_str())),
                Argument::OptionalTensors(all) => {
                    for one in all {
                        if let OptionalTensor::Tensor(name) = one {
                            names.push(name.name.as_str());
                        }
                    }
                }
                _ => {}
            }
        }
        names
    }

    /// An argument that is given.
    pub(super) fn argument(&self, name: &str) -> Option<&Argument> {
        let input = self.node.inputs.iter().find(|input| input.name == name);
        input.map(|input| &input.arg)
    }

    /// Whether a tensor or number among the arguments is complex.
    fn has_complex(&self) -> bool {
        let inputs = &self.node.inputs;
        let number = inputs
            .iter()
            .any(|input| matches!(input.arg, Argument::Complex(_)));
        let creates = inputs.iter().all(|input| {
            matches!(input.name.as_str(), "size" | "fill_value" | "s")
                || !matches!(input.arg, Argument::Tensor(_))
        });
        (number && !creates)
            || self
                .tensor_names()
                .into_iter()
                .any(|name| matches!(self.scope.get(name), Some(Val::Complex(..))))
    }

    /// Whether the first result is complex.
    fn out_is_complex(&self) -> bool {
        self.out_meta(0)
            .is_ok_and(|meta| symbolic::part_dtype(meta.dtype).is_some())
    }
}
