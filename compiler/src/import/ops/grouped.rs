//! Rows in groups: products with a matrix for each group, and sums of embeddings in bags.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::cumulative::least;
use super::matmul::matmul;
use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten._grouped_mm.default" => grouped_mm,
        // A library's own, for where PyTorch's does not run.
        _ if target.ends_with(".grouped_mm_fallback.default") => |cx, call| {
            let (x, w, ends) = (
                call.value(cx, "input")?,
                call.value(cx, "weight")?,
                call.value(cx, "offs")?,
            );
            let product = by_rows(cx, x, w, ends)?;
            // Rows after the last group are zeros.
            let shape = cx.build.shape(product)?;
            let count = cx.build.shape(ends)?[0].clone();
            let last = cx.build.slice(ends, 0, &count - &Dim::from(1i64), count)?;
            let row = cx
                .build
                .arange(0i64.into(), 1i64.into(), shape[0].clone(), DType::I64)?;
            let last = cx.build.cast(last, DType::I64)?;
            let inside = cx.build.add(op::Lt {}, &[row, last])?;
            let inside = cx.build.unsqueeze(inside, 1)?;
            let zero = cx.build.scalar(Scalar::Int(0), cx.build.dtype(product)?)?;
            done(cx.build.select(inside, product, zero))
        },
        "aten.embedding_bag.default"
        | "aten.embedding_bag.padding_idx"
        | "aten._embedding_bag.default"
        | "aten._embedding_bag_forward_only.default" => embedding_bag,
        _ => return None,
    })
}

/// For positions `0 .. count`, in which group each lies, of groups that end at `ends`: the number of ends that are not after it.
fn group_of(cx: &mut Importer<'_>, count: Dim, ends: Value) -> Result<Value> {
    let row = cx
        .build
        .arange(0i64.into(), 1i64.into(), count, DType::I64)?;
    let row = cx.build.unsqueeze(row, 1)?;
    let ends = cx.build.cast(ends, DType::I64)?;
    let passed = cx.build.add(op::Le {}, &[ends, row])?;
    let axes = vec![1];
    cx.build.add(
        op::Sum {
            axes,
            keepdim: false,
        },
        &[passed],
    )
}

/// `x [T, K] · w[g] [G, K, N]`, g the group that a row of x lies in.
fn by_rows(cx: &mut Importer<'_>, x: Value, w: Value, ends: Value) -> Result<Value> {
    let (rows, groups) = (cx.build.shape(x)?, cx.build.shape(w)?);
    let ([count, _], [number, _, width]) = (rows.as_slice(), groups.as_slice()) else {
        return invalid("rows in groups are a matrix, and their matrices a 3-d tensor");
    };
    let group = group_of(cx, count.clone(), ends)?;
    let last = super::index::dim_tensor(cx, &(number - &Dim::from(1i64)))?;
    let group = cx.build.add(op::Minimum {}, &[group, last])?;
    let x = cx.build.unsqueeze(x, 1)?;
    let product = cx.build.add(op::GatherMm {}, &[x, w, group])?;
    cx.build
        .reshape(product, vec![count.clone(), width.clone()])
}

fn grouped_mm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (a, b) = (call.value(cx, "self")?, call.value(cx, "mat2")?);
    let ends = call.opt_value(cx, "offs")?;
    if !call.is_none("bias")? {
        return unsupported("a product in groups with a bias");
    }
    let product = match (cx.build.rank(a)?, cx.build.rank(b)?, ends) {
        (3, 3, None) => matmul(cx, a, b)?,
        (2, 3, Some(ends)) => by_rows(cx, a, b, ends)?,
        (3, 2, Some(ends)) => {
            // Columns of b in groups are rows of its transpose.
            let (a, b) = (cx.build.swap(a, 1, 2)?, cx.build.swap(b, 0, 1)?);
            let turned = by_rows(cx, b, a, ends)?;
            cx.build.swap(turned, 0, 1)?
        }
        _ => return unsupported("a product whose sum is cut into groups"),
    };
    done(cx.build.cast(product, call.out_dtype(0)?))
}

/// Rows of a table, summed, averaged or maximised over bags that begin at offsets; an empty bag gives zeros.
fn embedding_bag(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (table, indices, offsets) = (
        call.value(cx, "weight")?,
        call.value(cx, "indices")?,
        call.value(cx, "offsets")?,
    );
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let dtype = cx.build.dtype(table)?;
    let shape = call.out_shape(0)?;
    let count = cx.build.ty(indices)?.numel();
    let indices = cx.build.cast(indices, DType::I64)?;
    // A bag is numbered by how many bags have begun.
    let begun = group_of(cx, count.clone(), offsets)?;
    let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
    let bag = cx.build.add(op::Sub {}, &[begun, one])?;
    let padding = if has("padding_idx") {
        let rows = cx.build.shape(table)?.first().and_then(Dim::as_const);
        match (call.opt_int("padding_idx")?, rows) {
            // Of the overload with this argument a negative one counts from the end, of the others it is none.
            (Some(n), Some(rows)) if n < 0 && call.target.ends_with(".padding_idx") => {
                Some(n + rows)
            }
            (n, _) => n.filter(|n| *n >= 0),
        }
    } else {
        None
    };
    let kept = match padding {
        None => cx
            .build
            .full(Scalar::Bool(true), DType::Bool, vec![count])?,
        Some(n) => {
            let n = cx.build.scalar(Scalar::Int(n), DType::I64)?;
            cx.build.add(op::Ne {}, &[indices, n])?
        }
    };
    let rows = cx.build.add(op::Take { axis: 0 }, &[table, indices])?;
    let ones = cx.build.cast(kept, DType::I64)?;
    let bags = shape[..1].to_vec();
    let none = cx.build.full(Scalar::Int(0), DType::I64, bags)?;
    let sizes = cx
        .build
        .add(op::ScatterAdd { axis: 0 }, &[none, bag, ones])?;
    let kept = cx.build.unsqueeze(kept, 1)?;
    let full = cx.build.unsqueeze(sizes, 1)?;
    let mode = call.int("mode")?;
    let result = if mode == 2 {
        // Each bag looks at all rows.
        let number = cx
            .build
            .arange(0i64.into(), 1i64.into(), shape[0].clone(), DType::I64)?;
        let number = cx
            .build
            .reshape(number, vec![shape[0].clone(), 1i64.into(), 1i64.into()])?;
        let bag = cx.build.unsqueeze(bag, 1)?;
        let own = cx.build.add(op::Eq {}, &[bag, number])?;
        let own = cx.build.add(op::LogicalAnd {}, &[own, kept])?;
        let lowest = cx.build.scalar(least(dtype), dtype)?;
        let rows = cx.build.select(own, rows, lowest)?;
        let axes = vec![1];
        let most = cx.build.add(
            op::Amax {
                axes,
                keepdim: false,
            },
            &[rows],
        )?;
        let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
        let filled = cx.build.add(op::Gt {}, &[full, zero])?;
        let zero = cx.build.scalar(Scalar::Int(0), dtype)?;
        cx.build.select(filled, most, zero)?
    } else {
        let zero = cx.build.scalar(Scalar::Int(0), dtype)?;
        let mut rows = match padding {
            None => rows,
            Some(_) => cx.build.select(kept, rows, zero)?,
        };
        if let Some(weights) = call.opt_value(cx, "per_sample_weights")? {
            let weights = cx.build.cast(weights, dtype)?;
            let weights = cx.build.unsqueeze(weights, 1)?;
            rows = cx.build.add(op::Mul {}, &[rows, weights])?;
        }
        let wide = crate::import::promote::compute_type(dtype);
        let rows = cx.build.cast(rows, wide)?;
        let column = cx.build.unsqueeze(bag, 1)?;
        let whole = cx.build.shape(rows)?;
        let column = cx.build.broadcast(column, whole)?;
        let empty = cx.build.full(Scalar::Int(0), wide, shape)?;
        let sum = cx
            .build
            .add(op::ScatterAdd { axis: 0 }, &[empty, column, rows])?;
        let result = if mode == 1 {
            let divisor = cx.build.add(op::Maximum {}, &[full, one])?;
            let divisor = cx.build.cast(divisor, wide)?;
            cx.build.add(op::Div {}, &[sum, divisor])?
        } else {
            sum
        };
        cx.build.cast(result, dtype)?
    };
    // What the backward pass would need is not computed.
    let mut outs = vec![Out::Value(result)];
    for n in 1..call.out_names().len() {
        let (dtype, shape) = (call.out_dtype(n)?, call.out_shape(n)?);
        let known = [bag, sizes]
            .into_iter()
            .zip([1, 2])
            .find(|(value, at)| *at == n && cx.build.ty(*value).is_ok_and(|ty| ty.shape == shape));
        outs.push(Out::Value(match known {
            Some((value, _)) => cx.build.cast(value, dtype)?,
            None => cx.build.full(Scalar::Int(0), dtype, shape)?,
        }));
    }
    Ok(outs)
}
