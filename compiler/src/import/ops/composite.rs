//! Operators that PyTorch itself composes from others, in their unfolded form.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::matmul::matmul;
use super::pointwise::{Arg, boolean, done, operands, to_common};
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "isclose" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let (rtol, atol) = (call.float(cx, "rtol")?, call.float(cx, "atol")?);
            let equal = cx.build.add(op::Eq {}, &[a, b])?;
            let dtype = crate::import::promote::to_float(cx.build.dtype(a)?);
            let (x, y) = (cx.build.cast(a, dtype)?, cx.build.cast(b, dtype)?);
            let gap = cx.build.add(op::Sub {}, &[x, y])?;
            let gap = cx.build.add(op::Abs {}, &[gap])?;
            let size = cx.build.add(op::Abs {}, &[y])?;
            let allowed = cx.build.with_float(op::Mul {}, size, rtol)?;
            let allowed = cx.build.with_float(op::Add {}, allowed, atol)?;
            let near = cx.build.add(op::Le {}, &[gap, allowed])?;
            // An infinite bound allows nothing but equality.
            let infinity = cx.build.float(f64::INFINITY, dtype)?;
            let finite = cx.build.add(op::Lt {}, &[gap, infinity])?;
            let near = cx.build.add(op::LogicalAnd {}, &[near, finite])?;
            let close = cx.build.add(op::LogicalOr {}, &[equal, near])?;
            if !call.bool("equal_nan")? {
                return done(Ok(close));
            }
            let (nan_a, nan_b) = (
                cx.build.add(op::Ne {}, &[a, a])?,
                cx.build.add(op::Ne {}, &[b, b])?,
            );
            let both = cx.build.add(op::LogicalAnd {}, &[nan_a, nan_b])?;
            done(cx.build.add(op::LogicalOr {}, &[close, both]))
        },
        "nansum" => |cx, call| {
            let (x, axes, keepdim) = super::reduce::over(cx, call)?;
            let x = cx.build.cast(x, call.out_dtype(0)?)?;
            let (kept, _) = without_nan(cx, x)?;
            let sum = cx.build.add(op::Sum { axes, keepdim }, &[kept])?;
            done(cx.build.cast(sum, call.out_dtype(0)?))
        },
        "nanmean" => |cx, call| {
            let (x, axes, keepdim) = super::reduce::over(cx, call)?;
            let dtype = call.out_dtype(0)?;
            let x = cx.build.cast(x, dtype)?;
            let (kept, real) = without_nan(cx, x)?;
            let sum = cx.build.add(
                op::Sum {
                    axes: axes.clone(),
                    keepdim,
                },
                &[kept],
            )?;
            let count = cx.build.add(op::Sum { axes, keepdim }, &[real])?;
            let count = cx.build.cast(count, dtype)?;
            done(cx.build.add(op::Div {}, &[sum, count]))
        },
        "tensordot" => tensordot,
        "linalg_multi_dot" | "chain_matmul" => |cx, call| {
            let name = if call.target.contains("chain") {
                "matrices"
            } else {
                "tensors"
            };
            let mut values = call.values(cx, name)?.into_iter();
            let Some(mut product) = values.next() else {
                return invalid("a product of no matrices");
            };
            for value in values {
                product = matmul(cx, product, value)?;
            }
            done(Ok(product))
        },
        "linalg_matrix_power" | "matrix_power" => |cx, call| {
            let x = call.value(cx, "self")?;
            let n = call.int("n")?;
            let mut square = if n < 0 {
                super::factor::inverse(cx, x)?
            } else {
                x
            };
            let mut product = None;
            let mut rest = n.unsigned_abs();
            while rest > 0 {
                if rest % 2 == 1 {
                    product = Some(match product {
                        Some(product) => matmul(cx, product, square)?,
                        None => square,
                    });
                }
                rest /= 2;
                if rest > 0 {
                    square = matmul(cx, square, square)?;
                }
            }
            match product {
                Some(product) => done(Ok(product)),
                None => {
                    let ty = cx.build.ty(x)?.clone();
                    let side = ty.shape[..ty.rank().saturating_sub(1)].to_vec();
                    let ones = cx.build.full(Scalar::Int(1), ty.dtype, side)?;
                    done(on_diagonal(cx, ones, 0))
                }
            }
        },
        "cdist" | "_cdist_forward" => |cx, call| {
            let (a, b) = (call.value(cx, "x1")?, call.value(cx, "x2")?);
            let p = call.float(cx, "p")?;
            let (a, b) = (
                cx.build.unsqueeze(a, cx.build.rank(a)?.saturating_sub(1))?,
                cx.build.unsqueeze(b, cx.build.rank(b)?.saturating_sub(2))?,
            );
            let gap = cx.build.add(op::Sub {}, &[a, b])?;
            let last = cx.build.rank(gap)?.saturating_sub(1);
            let dtype = cx.build.dtype(gap)?;
            done(super::reduce::vector_norm(
                cx,
                gap,
                p,
                vec![last],
                false,
                dtype,
            ))
        },
        "pairwise_distance" => |cx, call| {
            let (a, b) = (call.value(cx, "x1")?, call.value(cx, "x2")?);
            let (p, eps, keepdim) = (
                call.float(cx, "p")?,
                call.float(cx, "eps")?,
                call.bool("keepdim")?,
            );
            let values = to_common(cx, &[Arg::Tensor(a), Arg::Tensor(b)])?;
            let gap = cx.build.add(op::Sub {}, &values)?;
            let gap = cx.build.cast(gap, call.out_dtype(0)?)?;
            let gap = cx.build.with_float(op::Add {}, gap, eps)?;
            let (last, dtype) = (cx.build.rank(gap)?.saturating_sub(1), cx.build.dtype(gap)?);
            done(super::reduce::vector_norm(
                cx,
                gap,
                p,
                vec![last],
                keepdim,
                dtype,
            ))
        },
        "linalg_cross" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let axis = cx.build.axis(a, call.int("dim")?)?;
            let shape = call.out_shape(0)?;
            done(turned_product(cx, a, b, axis, shape))
        },
        "kron" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let (mut left, mut right) = (cx.build.shape(a)?, cx.build.shape(b)?);
            while left.len() < right.len() {
                left.insert(0, 1i64.into());
            }
            while right.len() < left.len() {
                right.insert(0, 1i64.into());
            }
            let one = || Dim::from(1i64);
            let a = cx.build.reshape(
                a,
                left.iter().flat_map(|size| [size.clone(), one()]).collect(),
            )?;
            let b = cx.build.reshape(
                b,
                right
                    .iter()
                    .flat_map(|size| [one(), size.clone()])
                    .collect(),
            )?;
            let product = boolean(cx, op::Mul {}.into(), a, b)?;
            done(cx.build.reshape(
                product,
                left.iter().zip(&right).map(|(x, y)| x * y).collect(),
            ))
        },
        "diag" => |cx, call| {
            let x = call.value(cx, "self")?;
            let offset = call.int("diagonal")?;
            match cx.build.rank(x)? {
                1 => done(on_diagonal(cx, x, offset)),
                2 => {
                    let Some(len) = call.out_shape(0)?.last().cloned() else {
                        return invalid("a diagonal without an axis");
                    };
                    let rows = cx.build.arange(
                        (-offset).max(0).into(),
                        1i64.into(),
                        len.clone(),
                        DType::I64,
                    )?;
                    let columns =
                        cx.build
                            .arange(offset.max(0).into(), 1i64.into(), len, DType::I64)?;
                    done(
                        cx.build
                            .add(op::Gather { axes: vec![0, 1] }, &[x, rows, columns]),
                    )
                }
                rank => invalid(format!("the diagonal of a {rank}-d tensor")),
            }
        },
        "diag_embed" => |cx, call| {
            let x = call.value(cx, "self")?;
            let rank = cx.build.rank(x)? + 1;
            let (a, b) = (
                crate::import::build::wrap_axis(call.int("dim1")?, rank)?,
                crate::import::build::wrap_axis(call.int("dim2")?, rank)?,
            );
            let matrices = on_diagonal(cx, x, call.int("offset")?)?;
            let mut rest = 0..rank - 2;
            let perm = (0..rank)
                .map(|axis| {
                    if axis == a {
                        rank - 2
                    } else if axis == b {
                        rank - 1
                    } else {
                        rest.next().unwrap_or_default()
                    }
                })
                .collect();
            done(cx.build.transpose(matrices, perm))
        },
        "tril_indices" => |cx, call| triangle_indices(cx, call, true),
        "triu_indices" => |cx, call| triangle_indices(cx, call, false),
        "combinations" => combinations,
        "cartesian_prod" => |cx, call| {
            let values = call.values(cx, "tensors")?;
            let sizes = values
                .iter()
                .map(|value| Ok(cx.build.ty(*value)?.numel()))
                .collect::<Result<Vec<_>>>()?;
            if let [one] = values.as_slice() {
                return done(Ok(*one));
            }
            let count = sizes.iter().fold(Dim::from(1i64), |n, d| &n * d);
            let mut columns = Vec::new();
            for (n, value) in values.iter().enumerate() {
                let mut lined = vec![Dim::from(1i64); sizes.len()];
                lined[n] = sizes[n].clone();
                let value = cx.build.reshape(*value, lined)?;
                let value = cx.build.broadcast(value, sizes.clone())?;
                columns.push(cx.build.reshape(value, vec![count.clone(), 1i64.into()])?);
            }
            done(cx.build.cat(&columns, 1))
        },
        _ => return None,
    })
}

/// The cross product along an axis of size 3.
pub(in crate::import) fn turned_product(
    cx: &mut Importer<'_>,
    a: Value,
    b: Value,
    axis: usize,
    shape: Vec<Dim>,
) -> Result<Value> {
    let (a, b) = (
        cx.build.broadcast(a, shape.clone())?,
        cx.build.broadcast(b, shape)?,
    );
    let turned = |cx: &mut Importer<'_>, x: Value, by: i64| -> Result<Value> {
        let head = cx.build.slice(x, axis, 0i64.into(), by.into())?;
        let tail = cx.build.slice(x, axis, by.into(), 3i64.into())?;
        cx.build.cat(&[tail, head], axis)
    };
    let (a1, b2) = (turned(cx, a, 1)?, turned(cx, b, 2)?);
    let (a2, b1) = (turned(cx, a, 2)?, turned(cx, b, 1)?);
    let (left, right) = (
        cx.build.add(op::Mul {}, &[a1, b2])?,
        cx.build.add(op::Mul {}, &[a2, b1])?,
    );
    cx.build.add(op::Sub {}, &[left, right])
}

/// `x` with 0 for NaN, and where it was a number.
fn without_nan(cx: &mut Importer<'_>, x: Value) -> Result<(Value, Value)> {
    let real = cx.build.add(op::Eq {}, &[x, x])?;
    let zero = cx.build.scalar(Scalar::Int(0), cx.build.dtype(x)?)?;
    Ok((cx.build.select(real, x, zero)?, real))
}

/// The last axis of `x` on a diagonal of square matrices, zeros elsewhere.
pub(in crate::import) fn on_diagonal(
    cx: &mut Importer<'_>,
    x: Value,
    offset: i64,
) -> Result<Value> {
    let Some(size) = cx.build.shape(x)?.last().cloned() else {
        return invalid("a diagonal of a 0-d tensor");
    };
    let rank = cx.build.rank(x)?;
    let side = &size + &Dim::from(offset.saturating_abs());
    // Padded to the side, each element stands in its row; the column decides.
    let zero = || Dim::from(0i64);
    let (mut low, mut high) = (vec![zero(); rank], vec![zero(); rank]);
    low[rank - 1] = Dim::from(offset.saturating_neg().max(0));
    high[rank - 1] = Dim::from(offset.max(0));
    let dtype = cx.build.dtype(x)?;
    let pad = op::Pad {
        low,
        high,
        value: Scalar::Int(0).cast(dtype),
    };
    let padded = if offset == 0 {
        x
    } else {
        cx.build.add(pad, &[x])?
    };
    let rows = cx.build.unsqueeze(padded, rank)?;
    let row = cx
        .build
        .arange(0i64.into(), 1i64.into(), side.clone(), DType::I64)?;
    let column = cx.build.arange(
        offset.saturating_neg().into(),
        1i64.into(),
        side,
        DType::I64,
    )?;
    let row = cx.build.unsqueeze(row, 1)?;
    let hit = cx.build.add(op::Eq {}, &[row, column])?;
    let zero = cx.build.scalar(Scalar::Int(0), dtype)?;
    cx.build.select(hit, rows, zero)
}

/// Every choice of r elements of a row, in the order of their positions.
fn combinations(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let (Ok(r), again) = (
        usize::try_from(call.int("r")?),
        call.bool("with_replacement")?,
    ) else {
        return invalid("a choice of fewer than no elements");
    };
    let Some(size) = cx.build.ty(x)?.numel().as_const() else {
        return unsupported("combinations of a dynamic number of elements");
    };
    let mut rows: Vec<Vec<i64>> = vec![Vec::new()];
    for _ in 0..r {
        let longer = rows.iter().flat_map(|row| {
            let from = row.last().map_or(0, |last| last + i64::from(!again));
            (from..size).map(move |next| [row.as_slice(), &[next]].concat())
        });
        rows = longer.take((1 << 20) + 1).collect();
        if rows.len() > 1 << 20 {
            return unsupported("more than a million combinations");
        }
    }
    let bytes: Vec<u8> = rows
        .concat()
        .into_iter()
        .flat_map(i64::to_le_bytes)
        .collect();
    let count = Dim::from(rows.len());
    let ty = fuseline_ir::TensorType::new(DType::I64, vec![count.clone(), r.into()]);
    let name = format!("<combinations {size} {r} {again}>");
    let table = std::sync::Arc::new(bytes);
    let mut index = cx.build.graph.constant(name, ty, Some(table))?;
    // The export takes their number for one that depends on data.
    let recorded = call.out_shape(0)?.into_iter().next();
    if let Some(size) = recorded
        && let Some(symbol) = size.as_symbol().cloned()
    {
        let known = super::index::dim_tensor(cx, &count)?;
        cx.build.add(op::Item { symbol }, &[known])?;
        index = cx.build.slice(index, 0, 0i64.into(), size)?;
    }
    done(cx.build.add(op::Take { axis: 0 }, &[x, index]))
}

/// Row and column of each element of a triangle, in row-major order, as a literal table.
fn triangle_indices(cx: &mut Importer<'_>, call: &Call<'_>, lower: bool) -> Result<Vec<Out>> {
    let (rows, columns, offset) = (call.int("row")?, call.int("col")?, call.int("offset")?);
    if rows.checked_mul(columns).is_none_or(|n| n > 1 << 22) {
        return unsupported("indices of a triangle of this size");
    }
    let inside = |row: i64, column: i64| {
        if lower {
            column - row <= offset
        } else {
            column - row >= offset
        }
    };
    let cells: Vec<(i64, i64)> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .filter(|(row, column)| inside(*row, *column))
        .collect();
    let numbers = cells
        .iter()
        .map(|cell| cell.0)
        .chain(cells.iter().map(|cell| cell.1));
    let bytes: Vec<u8> = numbers.flat_map(i64::to_le_bytes).collect();
    let ty = fuseline_ir::TensorType::new(DType::I64, vec![2i64.into(), cells.len().into()]);
    let side = if lower { "tril" } else { "triu" };
    let name = format!("_{side}_indices_{rows}_{columns}_{offset}");
    let table = cx
        .build
        .graph
        .constant(name, ty, Some(std::sync::Arc::new(bytes)))?;
    done(cx.build.cast(table, call.out_dtype(0)?))
}

/// Sums over pairs of axes: the left tensor's come last, the right's first, and both are matrices.
fn tensordot(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (mut a, mut b) = operands(cx, call)?;
    let axes = |cx: &Importer<'_>, name: &str, x: Value| {
        call.ints(name)?
            .into_iter()
            .map(|axis| cx.build.axis(x, axis))
            .collect::<Result<Vec<usize>>>()
    };
    let (left, right) = (axes(cx, "dims_self", a)?, axes(cx, "dims_other", b)?);
    // A size of 1 meets any size, so that the other tensor's elements are summed.
    let (own, other) = (cx.build.shape(a)?, cx.build.shape(b)?);
    for (i, j) in left.iter().zip(&right) {
        let (x, axis) = match (own[*i].is(1), other[*j].is(1)) {
            (true, false) => (&mut b, *j),
            (false, true) => (&mut a, *i),
            _ => continue,
        };
        let (axes, keepdim) = (vec![axis], true);
        let dtype = cx.build.dtype(*x)?;
        let sum = cx.build.add(op::Sum { axes, keepdim }, &[*x])?;
        *x = cx.build.cast(sum, dtype)?;
    }
    let (shape_a, shape_b) = (cx.build.shape(a)?, cx.build.shape(b)?);
    let free = |shape: &[Dim], used: &[usize]| {
        (0..shape.len())
            .filter(|axis| !used.contains(axis))
            .collect::<Vec<_>>()
    };
    let (rows, columns) = (free(&shape_a, &left), free(&shape_b, &right));
    let product = |shape: &[Dim], axes: &[usize]| {
        axes.iter()
            .fold(Dim::from(1i64), |n, axis| &n * &shape[*axis])
    };
    let k = product(&shape_a, &left);
    let a = cx.build.transpose(a, [rows.as_slice(), &left].concat())?;
    let a = cx
        .build
        .reshape(a, vec![product(&shape_a, &rows), k.clone()])?;
    let b = cx
        .build
        .transpose(b, [right.as_slice(), &columns].concat())?;
    let b = cx.build.reshape(b, vec![k, product(&shape_b, &columns)])?;
    let out = matmul(cx, a, b)?;
    let shape = rows
        .iter()
        .map(|axis| shape_a[*axis].clone())
        .chain(columns.iter().map(|axis| shape_b[*axis].clone()));
    done(cx.build.reshape(out, shape.collect()))
}
