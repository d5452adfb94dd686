//! Reductions and the running sum.

use super::pointwise::{Takes, arg, arg_dtype, as_type, from_ints, ints, wide_float};
pub use super::table::{All, Amax, Amin, Any, Argmax, Argmin, Cumsum, LogSumExp, Mean, Prod, Sum};
use super::util::{check_axis, fail, for_each_index, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Data, Tensor, numel};
use crate::types::{Shape, TensorType, Type};

/// The shape without the axes, or with size 1 in their place. Axes that are not sorted, distinct and below the rank are refused.
fn reduced(shape: &[Dim], axes: &[usize], keepdim: bool) -> Result<Shape, OpError> {
    if !axes.is_sorted_by(|a, b| a < b) {
        return fail(format!("axes {axes:?} are not sorted and distinct"));
    }
    for &axis in axes {
        check_axis(axis, shape.len())?;
    }
    let kept = shape
        .iter()
        .enumerate()
        .filter_map(|(i, d)| match axes.contains(&i) {
            false => Some(d.clone()),
            true => keepdim.then(|| Dim::from(1i64)),
        });
    Ok(kept.collect())
}

/// Refuses to look for an extreme among no elements, as far as the sizes are known.
fn not_empty(x: &TensorType, axes: &[usize]) -> Result<(), OpError> {
    match axes
        .iter()
        .find(|a| x.shape.get(**a).is_some_and(|d| d.is(0)))
    {
        Some(axis) => fail(format!("axis {axis} has no elements")),
        None => Ok(()),
    }
}

/// The shape in numbers of a reduction's result, and what each of its elements is accumulated to: from `init` by `f`, which gets the flat index of each
/// element of x that falls there, in row-major order.
fn accumulate<T: Clone>(
    x: &[usize],
    axes: &[usize],
    keepdim: bool,
    init: T,
    mut f: impl FnMut(&mut T, usize),
) -> Result<(Vec<usize>, Vec<T>), OpError> {
    let kept = |i: usize| !axes.contains(&i);
    let ones: Vec<usize> = x
        .iter()
        .enumerate()
        .map(|(i, &n)| if kept(i) { n } else { 1 })
        .collect();
    let mut acc = vec![init; numel(&ones)?];
    for_each_index(x, |flat, index| {
        let at = index
            .iter()
            .zip(&ones)
            .fold(0, |at, (&i, &n)| at * n + if n == 1 { 0 } else { i });
        f(&mut acc[at], flat);
    });
    let shape = if keepdim {
        ones
    } else {
        x.iter()
            .enumerate()
            .filter(|(i, _)| kept(*i))
            .map(|(_, &n)| n)
            .collect()
    };
    Ok((shape, acc))
}

/// Sizes before an axis (multiplied), of it, and after it (multiplied).
pub(super) fn around(shape: &[usize], axis: usize) -> Result<(usize, usize, usize), OpError> {
    check_axis(axis, shape.len())?;
    Ok((
        numel(&shape[..axis])?,
        shape[axis],
        numel(&shape[axis + 1..])?,
    ))
}

/// The instruction of a reduction over axes.
fn reduction(
    node: &'static str,
    x: Operand,
    axes: &[usize],
    keepdim: bool,
    out: Operand,
) -> Result<Inst, OpError> {
    let axes = axes
        .iter()
        .map(|&a| axis_number(a))
        .collect::<Result<_, _>>()?;
    Ok(Inst::new(node)
        .tensor("x", x)
        .with("axes", Field::Ints(axes))
        .with("keepdims", Field::Bool(keepdim))
        .tensor("out", out))
}

/// An axis as an instruction's field.
pub(super) fn axis_number(axis: usize) -> Result<i64, OpError> {
    i64::try_from(axis).or_else(|_| fail(format!("axis {axis} is too large")))
}

/// `make` between conversions of the argument to `work` and of its result to `out`, each left out where it changes nothing.
fn lower_in(
    cx: &LowerCx<'_>,
    work: DType,
    out: DType,
    make: impl FnOnce(Operand, Operand) -> Result<Inst, OpError>,
) -> Result<Lowering, OpError> {
    let (mut insts, mut x) = (vec![], Operand::Arg(0));
    if arg_dtype(cx, 0)? != work {
        x = Operand::Temp(0);
        insts.push(as_type(Operand::Arg(0), work, x));
    }
    if work == out {
        insts.push(make(x, Operand::Out(0))?);
    } else {
        insts.push(make(x, Operand::Temp(1))?);
        insts.push(as_type(Operand::Temp(1), out, Operand::Out(0)));
    }
    Ok(Lowering::Insts(insts))
}

/// A reduction over no axes: a conversion at most.
fn lower_none(cx: &LowerCx<'_>, out: DType) -> Result<Lowering, OpError> {
    if arg_dtype(cx, 0)? == out {
        return Ok(Lowering::Alias(0));
    }
    Ok(Lowering::Insts(vec![as_type(
        Operand::Arg(0),
        out,
        Operand::Out(0),
    )]))
}

/// The dtype of a sum or product: that of floats, else i64.
fn sum_dtype(dtype: DType) -> DType {
    if dtype.is_float() { dtype } else { DType::I64 }
}

macro_rules! sums {
    ($Op:ident, $start:literal, $float:expr, $int:expr, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                let x = tensor(args, 0)?;
                Ok(Type::tensor(
                    sum_dtype(x.dtype),
                    reduced(&x.shape, &self.axes, self.keepdim)?,
                ))
            }

            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                let x = arg(args, 0)?;
                let (float, int): (fn(f64, f64) -> f64, fn(i64, i64) -> i64) = ($float, $int);
                let out = match x.data() {
                    Data::Float(v) => {
                        let start = f64::from($start);
                        let (shape, acc) =
                            accumulate(x.shape(), &self.axes, self.keepdim, start, |a, i| {
                                *a = float(*a, v[i])
                            })?;
                        Tensor::floats(x.dtype(), shape, acc)?
                    }
                    Data::Int(v) => {
                        let start = i64::from($start);
                        let (shape, acc) =
                            accumulate(x.shape(), &self.axes, self.keepdim, start, |a, i| {
                                *a = int(*a, v[i])
                            })?;
                        Tensor::ints(DType::I64, shape, acc)?
                    }
                };
                Ok(vec![out])
            }

            // The target accumulates in the dtype that it reads.
            fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
                let out = sum_dtype(arg_dtype(cx, 0)?);
                if self.axes.is_empty() {
                    return lower_none(cx, out);
                }
                lower_in(cx, wide_float(out), out, |x, y| {
                    reduction($node, x, &self.axes, self.keepdim, y)
                })
            }
        }
    };
}

sums!(Sum, 0, |a, b| a + b, i64::wrapping_add, "Sum");
sums!(Prod, 1, |a, b| a * b, i64::wrapping_mul, "Prod");

impl OpImpl for Mean {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        Takes::Floats.check(x.dtype)?;
        Ok(Type::tensor(
            x.dtype,
            reduced(&x.shape, &self.axes, self.keepdim)?,
        ))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        let v = super::pointwise::floats(x)?;
        let (shape, acc) = accumulate(x.shape(), &self.axes, self.keepdim, 0.0, |a, i| *a += v[i])?;
        let sizes = self.axes.iter().filter_map(|&a| x.shape().get(a));
        let count: f64 = sizes.map(|&n| n as f64).product();
        Ok(vec![Tensor::floats(
            x.dtype(),
            shape,
            acc.into_iter().map(|a| a / count).collect(),
        )?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let out = arg_dtype(cx, 0)?;
        if self.axes.is_empty() {
            return lower_none(cx, out);
        }
        lower_in(cx, wide_float(out), out, |x, y| {
            reduction("Mean", x, &self.axes, self.keepdim, y)
        })
    }
}

/// ln Σ eˣ, with the largest x taken out of the sum so that nothing overflows.
fn log_sum_exp(v: &[f64]) -> f64 {
    let better = |a: f64, &x: &f64| if beats(x, a, true) { x } else { a };
    let most = v.iter().fold(f64::NEG_INFINITY, better);
    if most.is_finite() {
        most + v.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
    } else {
        most
    }
}

impl OpImpl for LogSumExp {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        Takes::Floats.check(x.dtype)?;
        not_empty(x, &self.axes)?;
        let shape = reduced(&x.shape, &self.axes, self.keepdim)?;
        Ok(Type::tensor(x.dtype, shape))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        let v = super::pointwise::floats(x)?;
        let gather = |terms: &mut Vec<f64>, i: usize| terms.push(v[i]);
        let (shape, terms) = accumulate(x.shape(), &self.axes, self.keepdim, Vec::new(), gather)?;
        let sums = terms.iter().map(|v| log_sum_exp(v)).collect();
        Ok(vec![Tensor::floats(x.dtype(), shape, sums)?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let out = arg_dtype(cx, 0)?;
        if self.axes.is_empty() {
            return lower_none(cx, out);
        }
        lower_in(cx, wide_float(out), out, |x, y| {
            reduction("LogSumExp", x, &self.axes, self.keepdim, y)
        })
    }
}

/// Whether a float beats the best so far; NaN beats every number, and nothing beats NaN.
fn beats(x: f64, best: f64, larger: bool) -> bool {
    !best.is_nan() && (x.is_nan() || if larger { x > best } else { x < best })
}

/// The extremes over axes, and where they are: the flat index of the first.
fn extremes(
    x: &Tensor,
    axes: &[usize],
    keepdim: bool,
    larger: bool,
) -> Result<(Vec<usize>, Vec<usize>), OpError> {
    let better: Box<dyn Fn(usize, usize) -> bool> = match x.data() {
        Data::Float(v) => Box::new(|i, best| beats(v[i], v[best], larger)),
        Data::Int(_) => {
            let v = ints(x);
            Box::new(move |i, best| {
                if larger {
                    v[i] > v[best]
                } else {
                    v[i] < v[best]
                }
            })
        }
    };
    let (shape, found) = accumulate(
        x.shape(),
        axes,
        keepdim,
        None,
        |best: &mut Option<usize>, i| match best {
            Some(b) if !better(i, *b) => {}
            _ => *best = Some(i),
        },
    )?;
    match found.into_iter().collect::<Option<Vec<usize>>>() {
        Some(found) => Ok((shape, found)),
        None => fail("no elements to choose from"),
    }
}

macro_rules! extreme {
    ($Op:ident, $larger:literal, $node:literal, bool $bool:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                let x = tensor(args, 0)?;
                not_empty(x, &self.axes)?;
                Ok(Type::tensor(
                    x.dtype,
                    reduced(&x.shape, &self.axes, self.keepdim)?,
                ))
            }

            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                let x = arg(args, 0)?;
                let (shape, found) = extremes(x, &self.axes, self.keepdim, $larger)?;
                Ok(vec![x.pick(shape, found.into_iter())?])
            }

            fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
                if self.axes.is_empty() {
                    return Ok(Lowering::Alias(0));
                }
                let node = if arg_dtype(cx, 0)? == DType::Bool {
                    $bool
                } else {
                    $node
                };
                let inst = reduction(
                    node,
                    Operand::Arg(0),
                    &self.axes,
                    self.keepdim,
                    Operand::Out(0),
                )?;
                Ok(Lowering::Insts(vec![inst]))
            }
        }
    };
}

extreme!(Amax, true, "Max", bool "Any");
extreme!(Amin, false, "Min", bool "All");

macro_rules! quantifier {
    ($Op:ident, $start:literal, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                let x = tensor(args, 0)?;
                Ok(Type::tensor(
                    DType::Bool,
                    reduced(&x.shape, &self.axes, self.keepdim)?,
                ))
            }

            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                let x = arg(args, 0)?;
                let v = x.to_f64();
                // One element that differs from the start decides.
                let (shape, acc) =
                    accumulate(x.shape(), &self.axes, self.keepdim, $start, |a, i| {
                        if (v[i] != 0.0) != $start {
                            *a = !$start;
                        }
                    })?;
                Ok(vec![Tensor::ints(
                    DType::Bool,
                    shape,
                    acc.into_iter().map(i64::from).collect(),
                )?])
            }

            fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
                if self.axes.is_empty() {
                    return lower_none(cx, DType::Bool);
                }
                // Some of the target's kernels look at the bits, where −0 is not zero.
                lower_in(cx, DType::Bool, DType::Bool, |x, y| {
                    reduction($node, x, &self.axes, self.keepdim, y)
                })
            }
        }
    };
}

quantifier!(Any, false, "Any");
quantifier!(All, true, "All");

macro_rules! arg_extreme {
    ($Op:ident, $larger:literal, $node:literal) => {
        impl OpImpl for $Op {
            fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
                let x = tensor(args, 0)?;
                Takes::Numbers.check(x.dtype)?;
                not_empty(x, &[self.axis])?;
                Ok(Type::tensor(
                    DType::I64,
                    reduced(&x.shape, &[self.axis], self.keepdim)?,
                ))
            }

            fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
                let x = arg(args, 0)?;
                let (_, n, after) = around(x.shape(), self.axis)?;
                let (shape, found) = extremes(x, &[self.axis], self.keepdim, $larger)?;
                // Elements were found, so no size is zero.
                let along = found.into_iter().map(|flat| (flat / after % n) as i128);
                Ok(vec![from_ints(DType::I64, shape, along)?])
            }

            fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
                // The target counts in u32.
                Ok(Lowering::Insts(vec![
                    Inst::new($node)
                        .tensor("x", Operand::Arg(0))
                        .int("axis", axis_number(self.axis)?)
                        .with("keepdims", Field::Bool(self.keepdim))
                        .tensor("out", Operand::Temp(0)),
                    as_type(Operand::Temp(0), DType::I64, Operand::Out(0)),
                ]))
            }
        }
    };
}

arg_extreme!(Argmax, true, "Argmax");
arg_extreme!(Argmin, false, "Argmin");

/// Running sums along an axis of row-major data, in place.
fn running<T: Copy>(v: &mut [T], (n, after): (usize, usize), add: fn(T, T) -> T) {
    for i in 0..v.len() {
        // `v` has an element, so neither size is zero.
        if i / after % n > 0 {
            v[i] = add(v[i - after], v[i]);
        }
    }
}

impl OpImpl for Cumsum {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        check_axis(self.axis, x.rank())?;
        Ok(Type::tensor(sum_dtype(x.dtype), x.shape.clone()))
    }

    fn eval(&self, _: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let x = arg(args, 0)?;
        let (_, n, after) = around(x.shape(), self.axis)?;
        let shape = x.shape().to_vec();
        let out = match x.data() {
            Data::Float(v) => {
                let mut v = v.clone();
                running(&mut v, (n, after), |a, b| a + b);
                Tensor::floats(x.dtype(), shape, v)?
            }
            Data::Int(v) => {
                let mut v = v.clone();
                running(&mut v, (n, after), i64::wrapping_add);
                Tensor::ints(DType::I64, shape, v)?
            }
        };
        Ok(vec![out])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let out = sum_dtype(arg_dtype(cx, 0)?);
        lower_in(cx, wide_float(out), out, |x, y| {
            Ok(Inst::new("Cumsum")
                .tensor("x", x)
                .int("axis", axis_number(self.axis)?)
                .tensor("out", y))
        })
    }
}

#[cfg(test)]
mod tests;
