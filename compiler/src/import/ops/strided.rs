//! Views by strides, and what lies on diagonals.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::composite::on_diagonal;
use super::movement::is_contiguous;
use super::pointwise::done;
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid, unsupported};
use crate::import::symbolic;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.rsplit_once('.')?;
    Some(match operator {
        // In place it changes how the tensor is seen, not what it holds.
        "aten.as_strided" | "aten.as_strided_" => |cx, call| {
            let (flat, at) = strided(cx, call)?;
            done(cx.build.add(op::Take { axis: 0 }, &[flat, at]))
        },
        "aten.as_strided_scatter" => |cx, call| {
            let source = call.value(cx, "src")?;
            let (flat, at) = strided(cx, call)?;
            let count = vec![cx.build.ty(at)?.numel()];
            let at = cx.build.reshape(at, count.clone())?;
            let source = cx.build.reshape(source, count)?;
            let source = cx.build.cast(source, cx.build.dtype(flat)?)?;
            let flat = cx.build.add(
                op::IndexCopy {
                    axis: 0,
                    wraps: false,
                },
                &[flat, at, source],
            )?;
            let shape = call.out_shape(0)?;
            done(cx.build.reshape(flat, shape))
        },
        "aten.diagonal_scatter" => diagonal_scatter,
        "aten.diagflat" => |cx, call| {
            let x = call.value(cx, "self")?;
            let count = vec![cx.build.ty(x)?.numel()];
            let x = cx.build.reshape(x, count)?;
            done(on_diagonal(cx, x, call.int("offset")?))
        },
        "aten.fill_diagonal" => fill_diagonal,
        "aten.block_diag" => block_diag,
        _ => return None,
    })
}

/// The elements of `self` in the order of its memory, and the position among them of each element of the view that the call asks for.
fn strided(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, Value)> {
    let meta = call.arg_meta("self")?;
    let x = call.value(cx, "self")?;
    let strides = symbolic::sizes(&meta.strides)?;
    let x = if is_contiguous(meta)? {
        x
    } else {
        // Dense in another order of axes: by falling stride it is contiguous.
        let shape = cx.build.shape(x)?;
        let Some(known) = strides
            .iter()
            .map(Dim::as_const)
            .collect::<Option<Vec<_>>>()
        else {
            return unsupported("a view by strides of a tensor with dynamic strides");
        };
        let mut perm: Vec<usize> = (0..known.len()).collect();
        perm.sort_by_key(|axis| std::cmp::Reverse(known[*axis]));
        let mut expected = Dim::from(1i64);
        for axis in perm.iter().rev() {
            if !shape[*axis].is(1) && expected != strides[*axis] {
                return unsupported("a view by strides of a tensor that has gaps in memory");
            }
            expected = &expected * &shape[*axis];
        }
        cx.build.transpose(x, perm)?
    };
    let start = symbolic::size(&meta.storage_offset)?;
    let offset = match call.opt_dim("storage_offset")? {
        Some(offset) => &offset - &start,
        None => Dim::from(0i64),
    };
    let (sizes, steps) = (call.dims("size")?, call.dims("stride")?);
    if sizes.len() != steps.len() {
        return invalid("as many strides as sizes are needed");
    }
    let count = cx.build.ty(x)?.numel();
    let last = sizes
        .iter()
        .zip(&steps)
        .fold(offset.clone(), |sum, (size, step)| {
            &sum + &(&(size - &Dim::from(1i64)) * step)
        });
    let outside = offset.as_const().is_some_and(|n| n < 0)
        || matches!((last.as_const(), count.as_const()), (Some(last), Some(count)) if last >= count);
    if outside && !sizes.iter().any(|size| size.is(0)) {
        return unsupported("a view by strides that reaches beyond the tensor it views");
    }
    let rank = sizes.len();
    let mut at = cx
        .build
        .arange(offset, 1i64.into(), 1i64.into(), DType::I64)?;
    at = cx.build.reshape(at, vec![1i64.into(); rank])?;
    for (axis, (size, step)) in sizes.iter().zip(&steps).enumerate() {
        let mut shape = vec![Dim::from(1i64); rank];
        shape[axis] = size.clone();
        let along = if step.is(0) {
            cx.build.full(Scalar::Int(0), DType::I64, shape)?
        } else {
            let along = cx
                .build
                .arange(0i64.into(), step.clone(), size.clone(), DType::I64)?;
            cx.build.reshape(along, shape)?
        };
        at = cx.build.add(op::Add {}, &[at, along])?;
    }
    let flat = cx.build.reshape(x, vec![count])?;
    Ok((flat, at))
}

/// For each element of a matrix, how far right of the diagonal it stands.
fn right_of_diagonal(cx: &mut Importer<'_>, rows: Dim, columns: Dim) -> Result<Value> {
    let (row, column) = rows_and_columns(cx, rows, columns)?;
    cx.build.add(op::Sub {}, &[column, row])
}

/// The rows of a matrix counted in a column, and its columns counted in a row.
pub(super) fn rows_and_columns(
    cx: &mut Importer<'_>,
    rows: Dim,
    columns: Dim,
) -> Result<(Value, Value)> {
    let mut counted = |len| cx.build.arange(0i64.into(), 1i64.into(), len, DType::I64);
    let (row, column) = (counted(rows)?, counted(columns)?);
    Ok((cx.build.unsqueeze(row, 1)?, column))
}

/// `self` with `src` on a diagonal of two of its axes.
fn diagonal_scatter(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, source) = (call.value(cx, "self")?, call.value(cx, "src")?);
    let (a, b) = (
        cx.build.axis(x, call.int("dim1")?)?,
        cx.build.axis(x, call.int("dim2")?)?,
    );
    let offset = call.int("offset")?;
    let rank = cx.build.rank(x)?;
    if a == b {
        return invalid("a diagonal of one axis");
    }
    // The two axes move to the end, the diagonal being the last axis of the source.
    let perm: Vec<usize> = (0..rank)
        .filter(|n| *n != a && *n != b)
        .chain([a, b])
        .collect();
    let x = cx.build.transpose(x, perm.clone())?;
    let shape = cx.build.shape(x)?;
    let (rows, columns) = (shape[rank - 2].clone(), shape[rank - 1].clone());
    let source = cx.build.cast(source, cx.build.dtype(x)?)?;
    // Element n of the diagonal stands in row n − min(offset, 0): rows before and after it get what is not used.
    let Some(len) = cx.build.shape(source)?.last().cloned() else {
        return invalid("a diagonal without an axis");
    };
    let before = Dim::from((-offset).max(0));
    let (mut low, mut high) = (
        vec![Dim::from(0i64); rank - 1],
        vec![Dim::from(0i64); rank - 1],
    );
    high[rank - 2] = &(&rows - &len) - &before;
    low[rank - 2] = before;
    let pad = op::Pad {
        low,
        high,
        value: Scalar::Int(0).cast(cx.build.dtype(x)?),
    };
    let source = cx.build.add(pad, &[source])?;
    let source = cx.build.unsqueeze(source, rank - 1)?;
    let distance = right_of_diagonal(cx, rows, columns)?;
    let offset = cx.build.scalar(Scalar::Int(offset), DType::I64)?;
    let hit = cx.build.add(op::Eq {}, &[distance, offset])?;
    let hit = cx.build.broadcast(hit, shape)?;
    let x = cx.build.select(hit, source, x)?;
    let mut back = vec![0; rank];
    for (to, from) in perm.into_iter().enumerate() {
        back[from] = to;
    }
    done(cx.build.transpose(x, back))
}

/// A number on the diagonal: where all indices are equal; of a tall matrix again below it, one row left out, where it wraps.
fn fill_diagonal(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let shape = cx.build.shape(x)?;
    let value = call.num(cx, "fill_value")?;
    let value = cx.number(&value, cx.build.dtype(x)?)?;
    let rank = shape.len();
    let position = |cx: &mut Importer<'_>, axis: usize| -> Result<Value> {
        let mut lined = vec![Dim::from(1i64); rank];
        lined[axis] = shape[axis].clone();
        let at = cx
            .build
            .arange(0i64.into(), 1i64.into(), shape[axis].clone(), DType::I64)?;
        cx.build.reshape(at, lined)
    };
    if rank < 2 {
        return invalid("the diagonal of a tensor with fewer than two axes");
    }
    let mut first = position(cx, 0)?;
    if call.bool("wrap")? && rank == 2 {
        let period = super::index::dim_tensor(cx, &(&shape[1] + &Dim::from(1i64)))?;
        first = cx.build.add(op::Remainder {}, &[first, period])?;
    }
    let mut hit = None;
    for axis in 1..rank {
        let at = position(cx, axis)?;
        let same = cx.build.add(op::Eq {}, &[first, at])?;
        hit = Some(match hit {
            None => same,
            Some(hit) => cx.build.add(op::LogicalAnd {}, &[hit, same])?,
        });
    }
    match hit {
        Some(hit) => done(cx.build.select(hit, value, x)),
        None => done(Ok(x)),
    }
}

/// Matrices along a diagonal, zeros elsewhere.
fn block_diag(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let dtype = call.out_dtype(0)?;
    let shape = call.out_shape(0)?;
    let Some(width) = shape.get(1).cloned() else {
        return invalid("blocks that make no matrix");
    };
    let mut rows = Vec::new();
    let mut before = Dim::from(0i64);
    for block in call.values(cx, "tensors")? {
        let mut own = cx.build.shape(block)?;
        while own.len() < 2 {
            own.insert(0, 1i64.into());
        }
        let block = cx.build.reshape(block, own.clone())?;
        let block = cx.build.cast(block, dtype)?;
        let zero = || Dim::from(0i64);
        let pad = op::Pad {
            low: vec![zero(), before.clone()],
            high: vec![zero(), &(&width - &before) - &own[1]],
            value: Scalar::Int(0).cast(dtype),
        };
        rows.push(cx.build.add(pad, &[block])?);
        before = &before + &own[1];
    }
    match rows.is_empty() {
        true => done(cx.number(&Num::Known(Scalar::Int(0)), dtype)),
        false => done(cx.build.cat(&rows, 0)),
    }
}
