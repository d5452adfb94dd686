//! Vectors and matrices: norms, cross and inner products, distances, covariances.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::composite::turned_product;
use super::factor::{Spectral, matrix_norm};
use super::matmul::matmul;
use super::movement::sorted_axes;
use super::pointwise::{Arg, done, operands, to_common};
use super::reduce::{count_of, vector_norm};
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "cross" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let axis = match call.opt_int("dim")? {
                Some(axis) => cx.build.axis(a, axis)?,
                None => match cx.build.shape(a)?.iter().position(|size| size.is(3)) {
                    Some(axis) => axis,
                    None => return invalid("a cross product without an axis of size 3"),
                },
            };
            let shape = call.out_shape(0)?;
            done(turned_product(cx, a, b, axis, shape))
        },
        "linalg_vecdot" => |cx, call| {
            let (x, y) = (call.value(cx, "x")?, call.value(cx, "y")?);
            let both = to_common(cx, &[Arg::Tensor(x), Arg::Tensor(y)])?;
            let product = cx.build.add(op::Mul {}, &both)?;
            let axes = vec![cx.build.axis(product, call.int("dim")?)?];
            done(cx.build.add(
                op::Sum {
                    axes,
                    keepdim: false,
                },
                &[product],
            ))
        },
        "linalg_norm" if overload == "default" => |cx, call| {
            let ord = call.opt_float(cx, "ord")?;
            norm(cx, call, ord)
        },
        "linalg_norm" | "linalg_matrix_norm" if overload == "ord_str" || overload == "str_ord" => {
            |cx, call| match call.opt_str("ord")? {
                Some("fro") => norm(cx, call, None),
                Some("nuc") => nuclear_norm(cx, call),
                _ => invalid("a matrix norm of this name"),
            }
        }
        "linalg_matrix_norm" => |cx, call| {
            let ord = call.float(cx, "ord")?;
            norm(cx, call, Some(ord))
        },
        "frobenius_norm" => |cx, call| norm(cx, call, None),
        "linalg_vander" | "vander" => vander,
        "renorm" => renorm,
        "pdist" | "_pdist_forward" => pdist,
        "_euclidean_dist" => |cx, call| {
            let (a, b) = (call.value(cx, "x1")?, call.value(cx, "x2")?);
            let (a, b) = (
                cx.build.unsqueeze(a, cx.build.rank(a)?.saturating_sub(1))?,
                cx.build.unsqueeze(b, cx.build.rank(b)?.saturating_sub(2))?,
            );
            let gap = cx.build.add(op::Sub {}, &[a, b])?;
            let (axis, dtype) = (cx.build.rank(gap)?.saturating_sub(1), cx.build.dtype(gap)?);
            done(vector_norm(cx, gap, 2.0, vec![axis], false, dtype))
        },
        "cov" => |cx, call| {
            let x = call.value(cx, "self")?;
            if !call.is_none("fweights")? || !call.is_none("aweights")? {
                return unsupported("a covariance with weights");
            }
            let correction = call.int("correction")? as f64;
            done(covariance(cx, x, correction))
        },
        "corrcoef" => |cx, call| {
            let x = call.value(cx, "self")?;
            correlation(cx, x)
        },
        "_trilinear" => trilinear,
        _ => return None,
    })
}

/// A norm of vectors or matrices: of all elements where neither axes nor an order are given; the Frobenius norm of a matrix without an order.
fn norm(cx: &mut Importer<'_>, call: &Call<'_>, ord: Option<f64>) -> Result<Vec<Out>> {
    let own = call.schema.is_some_and(|schema| schema.arg("A").is_some());
    let x = call.value(cx, if own { "A" } else { "self" })?;
    let rank = cx.build.rank(x)?;
    let given = call.opt_ints("dim")?.filter(|axes| !axes.is_empty());
    let keepdim = call.bool("keepdim")?;
    let dtype = call.out_dtype(0)?;
    let order: Vec<usize> = match &given {
        Some(axes) => axes
            .iter()
            .map(|axis| cx.build.axis(x, *axis))
            .collect::<Result<_>>()?,
        None => (0..rank).collect(),
    };
    let axes = match given {
        Some(axes) => sorted_axes(axes, rank)?,
        None => order.clone(),
    };
    let (Some(ord), [rows, columns]) = (ord, order.as_slice()) else {
        return done(vector_norm(cx, x, ord.unwrap_or(2.0), axes, keepdim, dtype));
    };
    let x = cx.build.cast(x, promote::compute_type(dtype))?;
    let result = norm_of_sums(cx, x, [*rows, *columns], ord)?;
    let shape = call.out_shape(0)?;
    let result = cx.build.reshape(result, shape)?;
    done(cx.build.cast(result, dtype))
}

/// A norm of the matrices in two axes, of the order ±1 (the extreme sum of a column), ±∞ (of a row) or ±2 (the extreme singular value); both axes are gone.
pub(in crate::import) fn norm_of_sums(
    cx: &mut Importer<'_>,
    x: Value,
    [rows, columns]: [usize; 2],
    ord: f64,
) -> Result<Value> {
    let (summed, other) = match ord.abs() {
        1.0 => (rows, columns),
        f64::INFINITY => (columns, rows),
        2.0 if ord > 0.0 => return matrix_norm(cx, x, [rows, columns], Spectral::Largest),
        2.0 => return matrix_norm(cx, x, [rows, columns], Spectral::Smallest),
        _ => return invalid(format!("a matrix norm of order {ord}")),
    };
    let size = cx.build.add(op::Abs {}, &[x])?;
    let (axes, keepdim) = (vec![summed], false);
    let sums = cx.build.add(op::Sum { axes, keepdim }, &[size])?;
    let axes = vec![if other > summed { other - 1 } else { other }];
    if ord > 0.0 {
        cx.build.add(op::Amax { axes, keepdim }, &[sums])
    } else {
        cx.build.add(op::Amin { axes, keepdim }, &[sums])
    }
}

/// The sum of the singular values of matrices.
fn nuclear_norm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let own = call.schema.is_some_and(|schema| schema.arg("A").is_some());
    let x = call.value(cx, if own { "A" } else { "self" })?;
    let axes = call.opt_ints("dim")?.unwrap_or_else(|| vec![-2, -1]);
    let [rows, columns] = axes.as_slice() else {
        return invalid(format!("a norm of matrices over {} axes", axes.len()));
    };
    let axes = [cx.build.axis(x, *rows)?, cx.build.axis(x, *columns)?];
    let result = matrix_norm(cx, x, axes, Spectral::Sum)?;
    let result = cx.build.reshape(result, call.out_shape(0)?)?;
    done(cx.build.cast(result, call.out_dtype(0)?))
}

/// Powers of each element, from 0 up or down to 0.
fn vander(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "x")?;
    let Some(count) = call.out_shape(0)?.last().and_then(Dim::as_const) else {
        return unsupported("a dynamic number of powers");
    };
    let rising = call.target.contains("linalg") || call.bool("increasing")?;
    let x = cx.build.cast(x, call.out_dtype(0)?)?;
    let last = cx.build.rank(x)?;
    let x = cx.build.unsqueeze(x, last)?;
    let shape = cx.build.shape(x)?;
    let mut power = cx.build.full(Scalar::Int(1), cx.build.dtype(x)?, shape)?;
    let mut columns = Vec::new();
    for n in 0..count {
        if n > 0 {
            power = cx.build.add(op::Mul {}, &[power, x])?;
        }
        columns.push(power);
    }
    if !rising {
        columns.reverse();
    }
    if columns.is_empty() {
        return done(
            cx.build
                .full(Scalar::Int(0), call.out_dtype(0)?, call.out_shape(0)?),
        );
    }
    let table = cx.build.cat(&columns, last)?;
    done(cx.build.reshape(table, call.out_shape(0)?))
}

/// Slices along an axis whose norm is above the limit, scaled down to it.
fn renorm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let (p, limit) = (call.float(cx, "p")?, call.float(cx, "maxnorm")?);
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let dtype = cx.build.dtype(x)?;
    let wide = promote::compute_type(dtype);
    let axes = (0..cx.build.rank(x)?).filter(|n| *n != axis).collect();
    let size = vector_norm(cx, x, p, axes, true, wide)?;
    let raised = cx.build.with_float(op::Add {}, size, 1e-7)?;
    let limit_value = cx.build.float(limit, wide)?;
    let factor = cx.build.add(op::Div {}, &[limit_value, raised])?;
    let above = cx.build.add(op::Gt {}, &[size, limit_value])?;
    let one = cx.build.float(1.0, wide)?;
    let factor = cx.build.select(above, factor, one)?;
    let x = cx.build.cast(x, wide)?;
    let x = cx.build.add(op::Mul {}, &[x, factor])?;
    done(cx.build.cast(x, dtype))
}

/// The distance of each pair of rows, (0, 1), (0, 2), …, (1, 2), ….
fn pdist(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let p = call.float(cx, "p")?;
    let Some(count) = cx.build.shape(x)?.first().and_then(Dim::as_const) else {
        return unsupported("distances among a dynamic number of rows");
    };
    if count > 1 << 12 {
        return unsupported(format!("distances among {count} rows"));
    }
    let pairs: Vec<(i64, i64)> = (0..count)
        .flat_map(|a| (a + 1..count).map(move |b| (a, b)))
        .collect();
    let dtype = cx.build.dtype(x)?;
    if pairs.is_empty() {
        return done(cx.build.full(Scalar::Int(0), dtype, vec![0i64.into()]));
    }
    let mut rows = Vec::new();
    for (name, side) in [("first", 0), ("second", 1)] {
        let numbers = pairs
            .iter()
            .map(|pair| if side == 0 { pair.0 } else { pair.1 });
        let bytes: Vec<u8> = numbers.flat_map(i64::to_le_bytes).collect();
        let ty = fuseline_ir::TensorType::new(DType::I64, vec![pairs.len().into()]);
        let name = format!("<{name} of {count} rows>");
        let index = cx
            .build
            .graph
            .constant(name, ty, Some(std::sync::Arc::new(bytes)))?;
        rows.push(cx.build.add(op::Take { axis: 0 }, &[x, index])?);
    }
    let gap = cx.build.add(op::Sub {}, &rows)?;
    done(vector_norm(cx, gap, p, vec![1], false, dtype))
}

/// Rows are variables, columns observations.
fn covariance(cx: &mut Importer<'_>, x: Value, correction: f64) -> Result<Value> {
    let dtype = promote::to_float(cx.build.dtype(x)?);
    let x = cx.build.cast(x, dtype)?;
    let rank = cx.build.rank(x)?;
    let x = match rank {
        0 => cx.build.reshape(x, vec![1i64.into(), 1i64.into()])?,
        1 => cx.build.unsqueeze(x, 0)?,
        _ => x,
    };
    let axes = vec![1];
    let mean = cx.build.add(
        op::Mean {
            axes,
            keepdim: true,
        },
        &[x],
    )?;
    let gap = cx.build.add(op::Sub {}, &[x, mean])?;
    let turned = cx.build.swap(gap, 0, 1)?;
    let product = matmul(cx, gap, turned)?;
    let count = count_of(cx, x, &[1])?;
    let divisor = cx.build.with_float(op::Sub {}, count, correction)?;
    let divisor = cx.build.with_float(op::Maximum {}, divisor, 0.0)?;
    let result = cx.build.add(op::Div {}, &[product, divisor])?;
    if rank < 2 {
        return cx.build.reshape(result, Vec::new());
    }
    Ok(result)
}

fn correlation(cx: &mut Importer<'_>, x: Value) -> Result<Vec<Out>> {
    let rank = cx.build.rank(x)?;
    let covariance = covariance(cx, x, 1.0)?;
    if rank < 2 {
        return done(cx.build.add(op::Div {}, &[covariance, covariance]));
    }
    let count = cx.build.shape(covariance)?[0].clone();
    let at = cx
        .build
        .arange(0i64.into(), 1i64.into(), count, DType::I64)?;
    let axes = vec![0, 1];
    let variance = cx.build.add(op::Gather { axes }, &[covariance, at, at])?;
    let deviation = cx.build.add(op::Sqrt {}, &[variance])?;
    let column = cx.build.unsqueeze(deviation, 1)?;
    let result = cx.build.add(op::Div {}, &[covariance, column])?;
    let result = cx.build.add(op::Div {}, &[result, deviation])?;
    let result = cx.build.with_float(op::Maximum {}, result, -1.0)?;
    done(cx.build.with_float(op::Minimum {}, result, 1.0))
}

/// The product of three tensors with new axes, summed over some.
fn trilinear(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let mut product = None;
    for (name, expand) in [("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")] {
        let mut x = call.value(cx, name)?;
        let new = call.ints(expand)?;
        let rank = cx.build.rank(x)? + new.len();
        for axis in sorted_axes(new, rank)? {
            x = cx.build.unsqueeze(x, axis)?;
        }
        product = Some(match product {
            None => x,
            Some(before) => cx.build.add(op::Mul {}, &[before, x])?,
        });
    }
    let Some(product) = product else {
        return invalid("a product of nothing");
    };
    let axes = sorted_axes(call.ints("sumdim")?, cx.build.rank(product)?)?;
    done(cx.build.add(
        op::Sum {
            axes,
            keepdim: false,
        },
        &[product],
    ))
}
