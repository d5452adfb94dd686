//! Reading and writing by index.
//!
//! PyTorch takes negative indices in some of these operators; the IR's ops take `−size ≤ index < size`, so they pass.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::data_dependent::{by_rank, columns, nonzero};
use super::movement::{from_start, slice_bounds};
use super::pointwise::{boolean, done};
use super::scatter::add_at;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "embedding" => |cx, call| {
            let (weight, indices) = (call.value(cx, "weight")?, call.value(cx, "indices")?);
            done(cx.build.add(op::Take { axis: 0 }, &[weight, indices]))
        },
        "embedding_renorm" => |cx, call| {
            let (weight, indices) = (call.value(cx, "self")?, call.value(cx, "indices")?);
            let (most, p) = (call.float(cx, "max_norm")?, call.float(cx, "norm_type")?);
            let (shape, dtype) = (cx.build.shape(weight)?, cx.build.dtype(weight)?);
            let norm = super::reduce::vector_norm(cx, weight, p, vec![1], true, dtype)?;
            let below = cx.build.with_float(op::Add {}, norm, 1e-7)?;
            let limit = cx.build.float(most, dtype)?;
            let factor = cx.build.over(limit, below)?;
            let long = cx.build.add(op::Gt {}, &[norm, limit])?;
            let marks = vec![shape[0].clone()];
            let marks = cx.build.full(Scalar::Int(0), DType::I64, marks)?;
            let at = cx
                .build
                .reshape(indices, vec![cx.build.ty(indices)?.numel()])?;
            let ones = cx.build.ty(at)?.shape.clone();
            let ones = cx.build.full(Scalar::Int(1), DType::I64, ones)?;
            let read = add_at(cx, marks, 0, at, ones)?;
            let read = cx.build.cast(read, DType::Bool)?;
            let read = cx.build.unsqueeze(read, 1)?;
            let changes = cx.build.add(op::LogicalAnd {}, &[read, long])?;
            let scaled = cx.build.times(weight, factor)?;
            done(cx.build.select(changes, scaled, weight))
        },
        "index_select" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
            let axis = cx.build.axis(x, call.int("dim")?)?;
            if cx.build.rank(x)? == 0 {
                return done(Ok(x));
            }
            let index = as_row(cx, index)?;
            done(cx.build.add(op::Take { axis }, &[x, index]))
        },
        "index" | "_unsafe_index" => index,
        "_unsafe_masked_index" | "_unsafe_masked_index_put_accumulate" => masked_index,
        "gather" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let shape = cx.build.shape(index)?;
            let ty = cx.build.ty(x)?.clone();
            if cx.build.ty(index)?.numel().is(0) {
                return done(cx.build.full(Scalar::Int(0), ty.dtype, shape));
            }
            // A tensor without axes is a row of one element here, and an index without axes one of them.
            if ty.rank() < 2 {
                let x = cx.build.reshape(x, vec![ty.numel()])?;
                return done(cx.build.add(op::Take { axis: 0 }, &[x, index]));
            }
            let x = like_index(cx, x, &shape, axis)?;
            done(cx.build.add(op::TakeAlong { axis }, &[x, index]))
        },
        "take" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
            let flat = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
            done(cx.build.add(op::Take { axis: 0 }, &[flat, index]))
        },
        "put" => |cx, call| {
            let (x, index, source) = (
                call.value(cx, "self")?,
                call.value(cx, "index")?,
                call.value(cx, "source")?,
            );
            let shape = cx.build.shape(x)?;
            let mut flat = Vec::new();
            for value in [x, index, source] {
                let count = cx.build.ty(value)?.numel();
                flat.push(cx.build.reshape(value, vec![count])?);
            }
            let add = call.bool("accumulate")?;
            let out = match scatter(cx, flat[0], 0, flat[1], flat[2], add, true)?.pop() {
                Some(Out::Value(out)) => out,
                _ => return invalid("nothing to put"),
            };
            done(cx.build.reshape(out, shape))
        },
        "max_unpool2d" | "max_unpool3d" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "indices")?);
            let (from, to) = (cx.build.shape(x)?, call.out_shape(0)?);
            let n = call.dims("output_size")?.len();
            let Some(lead) = from.len().checked_sub(n) else {
                return invalid("an image with too few axes");
            };
            let merged = |shape: &[Dim]| {
                let count = |axes: &[Dim]| axes.iter().fold(Dim::from(1i64), |n, d| &n * d);
                vec![count(&shape[..lead]), count(&shape[lead..])]
            };
            let empty = cx
                .build
                .full(Scalar::Int(0), cx.build.dtype(x)?, merged(&to))?;
            let x = cx.build.reshape(x, merged(&from))?;
            let index = cx.build.reshape(index, merged(&from))?;
            let out = match scatter(cx, empty, 1, index, x, false, false)?.pop() {
                Some(Out::Value(out)) => out,
                _ => return invalid("nothing to put"),
            };
            done(cx.build.reshape(out, to))
        },
        "take_along_dim" => |cx, call| {
            let (mut x, mut index) = (call.value(cx, "self")?, call.value(cx, "indices")?);
            let axis = match call.opt_int("dim")? {
                Some(axis) => cx.build.axis(x, axis)?,
                None => {
                    x = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
                    index = cx.build.reshape(index, vec![cx.build.ty(index)?.numel()])?;
                    0
                }
            };
            done(cx.build.add(op::TakeAlong { axis }, &[x, index]))
        },
        "index_copy" => |cx, call| {
            let (x, index, source) = (
                call.value(cx, "self")?,
                call.value(cx, "index")?,
                call.value(cx, "source")?,
            );
            done(index_copy(cx, x, call.int("dim")?, index, source, false))
        },
        "index_fill" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
            let value = call.num(cx, "value")?;
            let value = cx.number(&value, cx.build.dtype(x)?)?;
            done(index_copy(cx, x, call.int("dim")?, index, value, true))
        },
        "index_add" => |cx, call| {
            let (x, index, source) = (
                call.value(cx, "self")?,
                call.value(cx, "index")?,
                call.value(cx, "source")?,
            );
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let alpha = call.num(cx, "alpha")?;
            let alpha = cx.number(&alpha, cx.build.dtype(x)?)?;
            let source = boolean(cx, op::Mul {}.into(), source, alpha)?;
            let shape = cx.build.shape(x)?;
            let index = along(cx, index, axis, shape.len())?;
            let (mut into, mut source) = (x, source);
            if shape.is_empty() {
                into = cx.build.reshape(into, vec![1i64.into()])?;
                source = cx
                    .build
                    .reshape(source, vec![cx.build.ty(source)?.numel()])?;
            }
            let sum = add_at(cx, into, axis, index, source)?;
            done(cx.build.reshape(sum, shape))
        },
        "scatter_add" => |cx, call| scatter_of(cx, call, true),
        "scatter" if overload == "src" => |cx, call| scatter_of(cx, call, false),
        "scatter" if overload == "value" => |cx, call| {
            let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let value = call.num(cx, "value")?;
            let value = cx.number(&value, cx.build.dtype(x)?)?;
            let shape = cx.build.shape(index)?;
            let source = cx.build.broadcast(value, shape)?;
            scatter(cx, x, axis, index, source, false, false)
        },
        "index_put" | "_unsafe_index_put" | "_index_put_impl" => index_put,
        "slice_scatter" => |cx, call| {
            let x = call.tensor("self")?;
            let source = call.value(cx, "src")?;
            let value = cx.read(x)?;
            let axis = cx.build.axis(value, call.int("dim")?)?;
            let shape = cx.build.shape(source)?;
            let (start, stop, step) = slice_bounds(cx, call, x, axis, &shape)?;
            let size = cx.build.shape(value)?[axis].clone();
            cx.require_within(&start, &stop, &size);
            let source = cx.build.cast(source, cx.build.dtype(value)?)?;
            if cx.build.shape(value)? == shape && start.is(0) && step == 1 {
                return done(Ok(source));
            }
            done(
                cx.build
                    .add(op::SliceUpdate { axis, start, step }, &[value, source]),
            )
        },
        "select_scatter" => |cx, call| {
            let (x, source) = (call.value(cx, "self")?, call.value(cx, "src")?);
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let size = cx.build.shape(x)?[axis].clone();
            let index = call.dim("index")?;
            cx.require_index(&index, &size);
            let start = from_start(index, &size, cx);
            let source = cx.build.unsqueeze(source, axis)?;
            let source = cx.build.cast(source, cx.build.dtype(x)?)?;
            done(cx.build.add(
                op::SliceUpdate {
                    axis,
                    start,
                    step: 1,
                },
                &[x, source],
            ))
        },
        _ => return None,
    })
}

/// A 0-d index as one of one element.
fn as_row(cx: &mut Importer<'_>, index: Value) -> Result<Value> {
    if cx.build.rank(index)? == 0 {
        cx.build.reshape(index, vec![1i64.into()])
    } else {
        Ok(index)
    }
}

/// A 1-d index placed on one axis of `rank`, so that it broadcasts over the others.
fn along(cx: &mut Importer<'_>, index: Value, axis: usize, rank: usize) -> Result<Value> {
    let index = as_row(cx, index)?;
    let mut shape = vec![Dim::from(1i64); rank.max(1)];
    shape[axis] = cx.build.ty(index)?.numel();
    cx.build.reshape(index, shape)
}

/// `x` cut to `shape`.
pub(super) fn cut(cx: &mut Importer<'_>, x: Value, shape: &[Dim]) -> Result<Value> {
    let mut x = x;
    for (axis, size) in shape.iter().enumerate() {
        x = cx.build.slice(x, axis, 0i64.into(), size.clone())?;
    }
    Ok(x)
}

/// `x` cut to the index' sizes on every axis but one: `gather` reads no further.
fn like_index(cx: &mut Importer<'_>, x: Value, index: &[Dim], axis: usize) -> Result<Value> {
    let mut shape = cx.build.shape(x)?;
    for (n, size) in shape.iter_mut().enumerate() {
        if let (true, Some(wanted)) = (n != axis, index.get(n)) {
            *size = wanted.clone();
        }
    }
    cut(cx, x, &shape)
}

/// Writes `source`, broadcast as needed, at a 1-d `index` of an axis; `wraps` where negative indices count from the end.
pub(in crate::import) fn index_copy(
    cx: &mut Importer<'_>,
    x: Value,
    axis: i64,
    index: Value,
    source: Value,
    wraps: bool,
) -> Result<Value> {
    let axis = cx.build.axis(x, axis)?;
    let index = as_row(cx, index)?;
    let mut shape = cx.build.shape(x)?;
    let count = cx.build.ty(index)?.numel();
    if shape.is_empty() {
        let source = cx.build.reshape(source, shape)?;
        return cx.build.cast(source, cx.build.dtype(x)?);
    }
    shape[axis] = count;
    let source = cx.build.cast(source, cx.build.dtype(x)?)?;
    let source = cx.build.broadcast(source, shape)?;
    cx.build
        .add(op::IndexCopy { axis, wraps }, &[x, index, source])
}

/// Indices as integers for row-major positions. The axis that counts most may count from the end, as the positions then do, and where an index leaves it, they leave
/// the tensor; others count from the start.
fn place_of(cx: &mut Importer<'_>, index: Value, size: &Dim, is_first: bool) -> Result<Value> {
    let index = cx.build.cast(index, DType::I64)?;
    if is_first {
        return Ok(index);
    }
    let size = dim_tensor(cx, size)?;
    cx.build.add(op::Remainder {}, &[index, size])
}

/// A size as a 0-d tensor.
pub(in crate::import) fn dim_tensor(cx: &mut Importer<'_>, dim: &Dim) -> Result<Value> {
    let number = match dim.as_const() {
        Some(n) => crate::import::call::Num::Known(fuseline_ir::Scalar::Int(n)),
        None => crate::import::call::Num::Dim(dim.clone()),
    };
    cx.number(&number, DType::I64)
}

/// The elements of `src`, as many as there are indices, at their places along `dim`.
fn scatter_of(cx: &mut Importer<'_>, call: &Call<'_>, add: bool) -> Result<Vec<Out>> {
    let (x, index) = (call.value(cx, "self")?, call.value(cx, "index")?);
    let axis = cx.build.axis(x, call.int("dim")?)?;
    let shape = cx.build.shape(index)?;
    let source = call.value(cx, "src")?;
    let source = cut(cx, source, &shape)?;
    scatter(cx, x, axis, index, source, add, false)
}

/// Elementwise writes along an axis: `x[.., index[.., i, ..], ..] = source[.., i, ..]`, or added. Overwriting is a copy into the flat tensor at
/// flat positions. `wraps` where negative indices count from the end.
fn scatter(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    index: Value,
    source: Value,
    add: bool,
    wraps: bool,
) -> Result<Vec<Out>> {
    let shape = cx.build.shape(x)?;
    let source = cx.build.cast(source, cx.build.dtype(x)?)?;
    if shape.is_empty() {
        return done(if add {
            boolean(cx, op::Add {}.into(), x, source)
        } else {
            Ok(source)
        });
    }
    let index_shape = cx.build.shape(index)?;
    if index_shape.len() != shape.len() {
        let (a, b) = (index_shape.len(), shape.len());
        return invalid(format!("a {a}-d index of a {b}-d tensor"));
    }
    let whole = (0..shape.len()).all(|n| n == axis || shape[n] == index_shape[n]);
    if add && whole {
        return done(add_at(cx, x, axis, index, source));
    }
    if whole && let Some(places) = places_along(cx, index, axis)? {
        return done(
            cx.build
                .add(op::IndexCopy { axis, wraps }, &[x, places, source]),
        );
    }
    let mut position = None;
    for n in 0..shape.len() {
        let at = if n == axis {
            place_of(cx, index, &shape[n], n == 0)?
        } else {
            let count =
                cx.build
                    .arange(0i64.into(), 1i64.into(), index_shape[n].clone(), DType::I64)?;
            along(cx, count, n, shape.len())?
        };
        position = Some(advance(cx, position, &shape[n], at)?);
    }
    let Some(position) = position else {
        return invalid("an index without axes");
    };
    let position = cx.build.broadcast(position, index_shape.clone())?;
    let count = vec![index_shape.iter().fold(Dim::from(1i64), |n, d| &n * d)];
    let position = cx.build.reshape(position, count.clone())?;
    let flat = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
    let source = cx.build.reshape(source, count)?;
    let flat = if add {
        add_at(cx, flat, 0, position, source)?
    } else {
        cx.build
            .add(op::IndexCopy { axis: 0, wraps }, &[flat, position, source])?
    };
    done(cx.build.reshape(flat, shape))
}

/// The places that an index has along an axis, where they are the same at all others: a vector that was expanded, as caches are written.
fn places_along(cx: &mut Importer<'_>, index: Value, axis: usize) -> Result<Option<Value>> {
    let node = cx.build.graph.node(index);
    let (fuseline_ir::Op::Broadcast(_), &[narrow]) = (&node.op, node.args.as_slice()) else {
        return Ok(None);
    };
    let (shape, own) = (cx.build.shape(index)?, cx.build.shape(narrow)?);
    let lead = shape.len().saturating_sub(own.len());
    let along = |n: usize| n + lead == axis;
    let same = (0..own.len()).all(|n| own[n].is(1) || along(n));
    let all = axis >= lead && own[axis - lead] == shape[axis];
    if !same || !all {
        return Ok(None);
    }
    let places = cx.build.reshape(narrow, vec![shape[axis].clone()])?;
    cx.build.cast(places, DType::I64).map(Some)
}

/// Row-major position: `before · size + at`.
fn advance(cx: &mut Importer<'_>, before: Option<Value>, size: &Dim, at: Value) -> Result<Value> {
    let Some(before) = before else { return Ok(at) };
    let size = dim_tensor(cx, size)?;
    let scaled = cx.build.add(op::Mul {}, &[before, size])?;
    cx.build.add(op::Add {}, &[scaled, at])
}

/// Indices by axis.
fn index_list(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<(usize, Value)>> {
    let mut found = Vec::new();
    for (axis, index) in call.opt_values(cx, "indices")?.into_iter().enumerate() {
        if let Some(index) = index {
            found.push((axis, index));
        }
    }
    Ok(found)
}

/// Refuses more indices than there are axes.
fn within(indices: &[(usize, Value)], rank: usize) -> Result<()> {
    match indices.iter().find(|(axis, _)| *axis >= rank) {
        Some((axis, _)) => invalid(format!("an index of axis {axis} of a {rank}-d tensor")),
        None => Ok(()),
    }
}

/// Boolean masks among indices, each replaced by the positions where it is true, one index per axis of the mask.
fn without_masks(
    cx: &mut Importer<'_>,
    indices: Vec<(usize, Value)>,
    count: &dyn Fn() -> Result<Dim>,
) -> Result<Vec<(usize, Value)>> {
    let mut plain = Vec::new();
    let mut shift = 0;
    for (axis, index) in indices {
        let axis = axis + shift;
        if cx.build.dtype(index)?.is_int() {
            plain.push((axis, index));
            continue;
        }
        let mask = cx.build.cast(index, DType::Bool)?;
        let rows = nonzero(cx, mask, count()?)?;
        for (n, column) in columns(cx, rows)?.into_iter().enumerate() {
            plain.push((axis + n, column));
        }
        shift += cx.build.rank(mask)?.saturating_sub(1);
    }
    Ok(plain)
}

fn index(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let indices = index_list(cx, call)?;
    let shape = call.out_shape(0)?;
    // A mask's number of positions is the size that the export has no other name for.
    let fresh = || match shape.iter().find(|size| {
        size.as_symbol()
            .is_some_and(|symbol| symbol.starts_with('u'))
    }) {
        Some(size) => Ok(size.clone()),
        None => unsupported(
            "indexing with a boolean mask whose number of positions the export does not name",
        ),
    };
    let indices = without_masks(cx, indices, &fresh)?;
    done(read_at(cx, x, &indices))
}

/// The elements of `x` at indices by axis.
fn read_at(cx: &mut Importer<'_>, x: Value, indices: &[(usize, Value)]) -> Result<Value> {
    match indices {
        [] => Ok(x),
        [(axis, index)] => cx.build.add(op::Take { axis: *axis }, &[x, *index]),
        several => {
            let axes: Vec<usize> = several.iter().map(|(axis, _)| *axis).collect();
            let args: Vec<Value> = [x]
                .into_iter()
                .chain(several.iter().map(|(_, index)| *index))
                .collect();
            let picked = cx.build.add(op::Gather { axes: axes.clone() }, &args)?;
            // Neighbouring indices stand where they were; separated ones come first.
            let neighbours = axes.windows(2).all(|pair| pair[1] == pair[0] + 1);
            let first = axes.first().copied().unwrap_or_default();
            if !neighbours || first == 0 {
                return Ok(picked);
            }
            let rank = cx.build.rank(picked)?;
            let kept = cx.build.rank(x)? - axes.len();
            let width = rank - kept;
            let perm = (width..width + first)
                .chain(0..width)
                .chain(width + first..rank)
                .collect();
            cx.build.transpose(picked, perm)
        }
    }
}

/// `_unsafe_masked_index`: reads that a mask allows, with a number in place of the others; their indices may lie outside. `_unsafe_masked_index_put_accumulate` adds
/// where the mask allows it.
fn masked_index(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, mask) = (call.value(cx, "self")?, call.value(cx, "mask")?);
    let (shape, dtype) = (cx.build.shape(x)?, cx.build.dtype(x)?);
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let mut indices = Vec::new();
    for (axis, index) in index_list(cx, call)? {
        let Some(size) = shape.get(axis) else {
            return invalid("an index of an axis that is not there");
        };
        let last = dim_tensor(cx, &(size - &Dim::from(1i64)))?;
        let index = cx.build.cast(index, DType::I64)?;
        let index = cx.build.add(op::Maximum {}, &[index, zero])?;
        indices.push((axis, cx.build.add(op::Minimum {}, &[index, last])?));
    }
    let adds = call.target.contains("put_accumulate");
    let out = call.out_shape(0)?;
    if adds {
        let values = call.value(cx, "values")?;
        let zero = cx.build.scalar(Scalar::Int(0), cx.build.dtype(values)?)?;
        let values = cx.build.select(mask, values, zero)?;
        return match cx.build.ty(x)?.numel().is(0) {
            true => done(Ok(x)),
            false => write_at(cx, x, indices, values, true),
        };
    }
    let fill = call.num(cx, "fill")?;
    let fill = cx.number(&fill, dtype)?;
    if cx.build.ty(x)?.numel().is(0) {
        return done(cx.build.broadcast(fill, out));
    }
    let picked = read_at(cx, x, &indices)?;
    done(cx.build.select(mask, picked, fill))
}

/// Writes at indices of several axes at once: the indexed axes are brought to the front and merged, and written by flat position.
fn index_put(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, values) = (call.value(cx, "self")?, call.value(cx, "values")?);
    let add = call.bool("accumulate")?;
    let values = cx.build.cast(values, cx.build.dtype(x)?)?;
    let indices = index_list(cx, call)?;
    write_at(cx, x, indices, values, add)
}

fn write_at(
    cx: &mut Importer<'_>,
    x: Value,
    indices: Vec<(usize, Value)>,
    values: Value,
    add: bool,
) -> Result<Vec<Out>> {
    let shape = cx.build.shape(x)?;
    within(&indices, shape.len())?;
    if let [(axis, mask)] = indices.as_slice()
        && cx.build.dtype(*mask)? == DType::Bool
    {
        return masked_put(cx, x, *axis, *mask, values, add);
    }
    for (_, index) in &indices {
        if !cx.build.dtype(*index)?.is_int() {
            return unsupported("writing through several indices of which one is a boolean mask");
        }
    }
    let axes: Vec<usize> = indices.iter().map(|(axis, _)| *axis).collect();
    let Some(&first) = axes.first() else {
        let values = cx.build.broadcast(values, shape)?;
        return done(if add {
            boolean(cx, op::Add {}.into(), x, values)
        } else {
            Ok(values)
        });
    };
    if let ([(axis, index)], false) = (indices.as_slice(), add)
        && cx.build.rank(*index)? == 1
    {
        return done(index_copy(
            cx,
            x,
            i64::try_from(*axis).unwrap_or(i64::MAX),
            *index,
            values,
            true,
        ));
    }
    let mut position = None;
    for (axis, index) in &indices {
        let at = place_of(cx, *index, &shape[*axis], position.is_none())?;
        position = Some(advance(cx, position, &shape[*axis], at)?);
    }
    let Some(position) = position else {
        return invalid("an index without axes");
    };
    let index_shape = cx.build.shape(position)?;
    let rest: Vec<usize> = (0..shape.len())
        .filter(|axis| !axes.contains(axis))
        .collect();
    let sizes = |axes: &[usize]| {
        axes.iter()
            .map(|axis| shape[*axis].clone())
            .collect::<Vec<_>>()
    };
    let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1i64), |n, d| &n * d);
    let (indexed_sizes, rest_sizes) = (sizes(&axes), sizes(&rest));

    // Values in the order that reading gives them, then with the indexed part in front.
    let neighbours = axes.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let lead = if neighbours { first } else { 0 };
    let full = [
        &rest_sizes[..lead],
        index_shape.as_slice(),
        &rest_sizes[lead..],
    ]
    .concat();
    let values = cx.build.broadcast(values, full)?;
    let width = index_shape.len();
    let to_front = (lead..lead + width)
        .chain(0..lead)
        .chain(lead + width..width + rest.len())
        .collect();
    let values = cx.build.transpose(values, to_front)?;
    let count = product(&index_shape);
    let values = cx
        .build
        .reshape(values, [vec![count.clone()], rest_sizes.clone()].concat())?;
    let position = cx.build.reshape(position, vec![count.clone()])?;

    let perm: Vec<usize> = axes.iter().chain(&rest).copied().collect();
    let moved = cx.build.transpose(x, perm.clone())?;
    let merged = cx.build.reshape(
        moved,
        [vec![product(&indexed_sizes)], rest_sizes.clone()].concat(),
    )?;
    let written = if add {
        let at = along(cx, position, 0, rest.len() + 1)?;
        let at = cx
            .build
            .broadcast(at, [vec![count], rest_sizes.clone()].concat())?;
        add_at(cx, merged, 0, at, values)?
    } else {
        cx.build.add(
            op::IndexCopy {
                axis: 0,
                wraps: true,
            },
            &[merged, position, values],
        )?
    };
    let apart = cx
        .build
        .reshape(written, [indexed_sizes, rest_sizes].concat())?;
    let mut inverse = vec![0; perm.len()];
    for (to, from) in perm.iter().enumerate() {
        inverse[*from] = to;
    }
    done(cx.build.transpose(apart, inverse))
}

/// `x[mask] = values`: a choice, between x and one value for all, or the value of each position's rank among the true ones.
fn masked_put(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    mask: Value,
    values: Value,
    add: bool,
) -> Result<Vec<Out>> {
    let shape = cx.build.shape(x)?;
    let mask_shape = cx.build.shape(mask)?;
    let rank = mask_shape.len();
    if axis + rank > shape.len() {
        return invalid(format!(
            "a mask with {rank} axes on axis {axis} of a {}-d tensor",
            shape.len()
        ));
    }
    let rest = shape.len() - axis - rank;
    let own = cx.build.shape(values)?;
    let value = if own.len() <= rest || (own.len() == rest + 1 && own[0].is(1)) {
        // The same for every position: what is left broadcasts over the axes after the mask.
        cx.build
            .reshape(values, own[own.len().saturating_sub(rest)..].to_vec())?
    } else if axis == 0 && own.len() == rest + 1 {
        by_rank(cx, mask, values)?
    } else {
        return unsupported("writing through a boolean mask that stands between other axes");
    };
    let aligned = [mask_shape, vec![Dim::from(1i64); rest]].concat();
    let mask = cx.build.reshape(mask, aligned)?;
    let value = if add {
        boolean(cx, op::Add {}.into(), x, value)?
    } else {
        value
    };
    done(cx.build.select(mask, value, x))
}
