//! Views, copies, and operators that only move elements.
//!
//! Views matter beyond their value: a write through one is seen by all others. So operators that return views, always or when
//! they can, record them as such; for those that decide by strides (`reshape`, `contiguous`), so does this.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Range, Scalar, Symbol, Value};

use super::pointwise::done;
use crate::import::build::wrap_axis;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::memory::TensorId;
use crate::import::symbolic;
use crate::import::{Handler, Importer, Out};
use crate::pt2::exported::TensorMeta;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "tensor_split" if overload == "tensor_indices_or_sections" => split_by_data,
        "alias" | "detach" | "detach_" | "lift_fresh" => same,
        "clone" | "alias_copy" | "detach_copy" | "lift_fresh_copy" | "_lazy_clone" => copy_of_self,
        "to"
        | "type_as"
        | "_to_copy"
        | "_autocast_to_reduced_precision"
        | "_autocast_to_full_precision" => convert,
        "contiguous" => |cx, call| {
            let format = call.opt_memory_format("memory_format")?.unwrap_or(1);
            if format == 1 && is_contiguous(call.arg_meta("self")?)? {
                return same(cx, call);
            }
            copy_of_self(cx, call)
        },
        "copy" => |cx, call| {
            let (old, src) = (call.value(cx, "self")?, call.value(cx, "src")?);
            let ty = cx.build.ty(old)?.clone();
            let src = cx.build.cast(src, ty.dtype)?;
            done(cx.build.broadcast(src, ty.shape))
        },
        "view" if overload == "default" => recorded_shape,
        "_unsafe_view" | "view_copy" | "_reshape_copy" | "unsqueeze_copy" | "squeeze_copy" => {
            |cx, call| {
                let x = call.value(cx, "self")?;
                let shape = call.out_shape(0)?;
                done(cx.build.reshape(x, shape))
            }
        }
        "unsqueeze" | "squeeze" | "unflatten" | "view_as" => recorded_shape,
        "unsqueeze_" | "squeeze_" => recorded_shape,
        "reshape" | "reshape_as" | "flatten" | "ravel" | "_reshape_alias" => reshape,
        "expand" | "expand_as" | "broadcast_to" => |cx, call| {
            let x = call.tensor("self")?;
            let shape = call.out_shape(0)?;
            Ok(vec![Out::Tensor(
                cx.memory.view(x, op::Broadcast { shape }),
            )])
        },
        "expand_copy" => |cx, call| {
            let x = call.value(cx, "self")?;
            let shape = call.out_shape(0)?;
            done(cx.build.broadcast(x, shape))
        },
        "broadcast_tensors" => |cx, call| {
            let mut outs = Vec::new();
            for (n, x) in call.tensors("tensors")?.into_iter().enumerate() {
                let shape = call.out_shape(n)?;
                outs.push(Out::Tensor(cx.memory.view(x, op::Broadcast { shape })));
            }
            Ok(outs)
        },
        "transpose" | "transpose_" | "swapaxes" | "swapdims" | "transpose_copy" => |cx, call| {
            let names = if call.target.contains("swapaxes") {
                ["axis0", "axis1"]
            } else {
                ["dim0", "dim1"]
            };
            let (a, b) = (call.int(names[0])?, call.int(names[1])?);
            swapped(cx, call, a, b)
        },
        "t" | "t_" | "t_copy" | "numpy_T" | "mT" | "mH" | "adjoint" | "matrix_H" => |cx, call| {
            let x = call.tensor("self")?;
            let rank = rank(cx, x)?;
            if call.target.contains("numpy_T") || call.target.contains("matrix_H") {
                return permuted(cx, x, (0..rank).rev().collect());
            }
            if rank < 2 {
                same(cx, call)
            } else {
                swapped(cx, call, -2, -1)
            }
        },
        "permute" | "permute_copy" => |cx, call| {
            let x = call.tensor("self")?;
            let rank = rank(cx, x)?;
            let perm = call
                .ints("dims")?
                .into_iter()
                .map(|axis| wrap_axis(axis, rank))
                .collect::<Result<_>>()?;
            permuted(cx, x, perm)
        },
        "movedim" | "moveaxis" => movedim,
        "slice" | "slice_copy" => slice,
        "narrow" | "narrow_copy" => |cx, call| {
            let x = call.tensor("self")?;
            let axis = wrap_axis(call.int("dim")?, rank(cx, x)?)?;
            let size = size(cx, x, axis)?;
            let start = from_start(call.dim("start")?, &size, cx);
            let stop = &start + &call.dim("length")?;
            cx.require_within(&start, &stop, &size);
            part(cx, x, axis, start, stop, 1).map(|view| vec![Out::Tensor(view)])
        },
        "select" | "select_copy" => |cx, call| {
            let x = call.tensor("self")?;
            let axis = wrap_axis(call.int("dim")?, rank(cx, x)?)?;
            let size = size(cx, x, axis)?;
            let index = call.dim("index")?;
            cx.require_index(&index, &size);
            let start = from_start(index, &size, cx);
            selected(cx, x, axis, start).map(|view| vec![Out::Tensor(view)])
        },
        "unbind" | "unbind_copy" => |cx, call| {
            let x = call.tensor("self")?;
            let axis = wrap_axis(call.int("dim")?, rank(cx, x)?)?;
            (0..call.out_names().len())
                .map(|n| selected(cx, x, axis, n.into()).map(Out::Tensor))
                .collect()
        },
        "split"
        | "split_with_sizes"
        | "chunk"
        | "tensor_split"
        | "unsafe_split"
        | "unsafe_split_with_sizes"
        | "unsafe_chunk"
        | "split_copy"
        | "split_with_sizes_copy"
        | "hsplit"
        | "vsplit"
        | "dsplit" => split,
        "cat" | "concat" | "concatenate" => |cx, call| {
            let values = call.values(cx, "tensors")?;
            concatenate(
                cx,
                &values,
                call.int(if call.schema.is_some_and(|s| s.arg("axis").is_some()) {
                    "axis"
                } else {
                    "dim"
                })?,
            )
        },
        "stack" | "_stack" => |cx, call| {
            let values = call.values(cx, "tensors")?;
            let axis = wrap_axis(
                call.int("dim")?,
                values
                    .first()
                    .map_or(Ok(0), |first| cx.build.rank(*first))?
                    + 1,
            )?;
            let values = values
                .into_iter()
                .map(|value| cx.build.unsqueeze(value, axis))
                .collect::<Result<Vec<_>>>()?;
            concatenate(cx, &values, i64::try_from(axis).unwrap_or(i64::MAX))
        },
        "hstack" | "vstack" | "row_stack" | "dstack" | "column_stack" => side_by_side,
        "atleast_1d" | "atleast_2d" | "atleast_3d" if overload == "default" => recorded_shape,
        "atleast_1d" | "atleast_2d" | "atleast_3d" => |cx, call| {
            let mut outs = Vec::new();
            for (n, x) in call.tensors("tensors")?.into_iter().enumerate() {
                let shape = call.out_shape(n)?;
                outs.push(Out::Tensor(cx.memory.view(x, op::Reshape { shape })));
            }
            Ok(outs)
        },
        _ => return None,
    })
}

fn rank(cx: &mut Importer<'_>, x: TensorId) -> Result<usize> {
    let value = cx.read(x)?;
    cx.build.rank(value)
}

fn size(cx: &mut Importer<'_>, x: TensorId, axis: usize) -> Result<Dim> {
    let value = cx.read(x)?;
    match cx.build.shape(value)?.get(axis) {
        Some(size) => Ok(size.clone()),
        None => invalid("a 0-d tensor can't be sliced"),
    }
}

/// The tensor itself.
fn same(_: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    Ok(vec![Out::Tensor(call.tensor("self")?)])
}

/// The same value in a storage of its own: later writes to either do not reach the other.
fn copy_of_self(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    done(call.value(cx, "self"))
}

/// `to` in all its forms: the tensor itself where there is nothing to convert, unless a copy is asked for.
fn convert(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = call.out_dtype(0)?;
    let has_copy = call
        .schema
        .is_some_and(|schema| schema.arg("copy").is_some());
    let copies = call.target.starts_with("aten._to_copy") || (has_copy && call.bool("copy")?);
    let format = call
        .schema
        .is_some_and(|schema| schema.arg("memory_format").is_some())
        && call.opt_memory_format("memory_format")?.is_some();
    if cx.build.dtype(x)? != dtype {
        return done(cx.build.cast(x, dtype));
    }
    if copies || (format && !is_contiguous(call.arg_meta("self")?)?) {
        return done(Ok(x));
    }
    same(cx, call)
}

/// A view under the shape that the export recorded.
fn recorded_shape(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.tensor("self")?;
    let shape = call.out_shape(0)?;
    let value = cx.read(x)?;
    if cx.build.shape(value)? == shape {
        return Ok(vec![Out::Tensor(x)]);
    }
    Ok(vec![Out::Tensor(cx.memory.view(x, op::Reshape { shape }))])
}

/// `reshape` and its like: a view where the strides allow one, a copy elsewhere.
fn reshape(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if is_viewable(call.arg_meta("self")?, &call.out_shape(0)?)? {
        return recorded_shape(cx, call);
    }
    let x = call.value(cx, "self")?;
    let shape = call.out_shape(0)?;
    done(cx.build.reshape(x, shape))
}

/// Whether the recorded strides are those of a row-major tensor. Axes of size 1 can have any stride.
pub(in crate::import) fn is_contiguous(meta: &TensorMeta) -> Result<bool> {
    let (sizes, strides) = layout(meta)?;
    let mut expected = Dim::from(1i64);
    for (size, stride) in sizes.iter().zip(&strides).rev() {
        if size.is(0) {
            return Ok(true);
        }
        if !size.is(1) && *stride != expected {
            return Ok(false);
        }
        expected = &expected * size;
    }
    Ok(true)
}

/// The recorded lengths of the axes, and the recorded strides: one for each.
pub(super) fn layout(meta: &TensorMeta) -> Result<(Vec<Dim>, Vec<Dim>)> {
    let (sizes, strides) = (
        symbolic::sizes(&meta.sizes)?,
        symbolic::sizes(&meta.strides)?,
    );
    if sizes.len() == strides.len() {
        Ok((sizes, strides))
    } else {
        let (axes, given) = (sizes.len(), strides.len());
        invalid(format!("{given} strides for {axes} dimensions"))
    }
}

/// Whether a tensor with the recorded strides can be seen under `shape` without a copy: each run of axes whose elements lie
/// evenly spaced must be cut into whole new axes.
fn is_viewable(meta: &TensorMeta, shape: &[Dim]) -> Result<bool> {
    let (sizes, strides) = layout(meta)?;
    if sizes.iter().any(|size| size.is(0)) {
        return Ok(true);
    }
    let mut new = shape.len();
    let mut run = Dim::from(1i64);
    for axis in (0..sizes.len()).rev() {
        run = &run * &sizes[axis];
        let run_ends = axis == 0
            || (!sizes[axis - 1].is(1) && strides[axis - 1] != &sizes[axis] * &strides[axis]);
        if !run_ends {
            continue;
        }
        let mut cut = Dim::from(1i64);
        while new > 0 && (cut != run || shape[new - 1].is(1)) {
            cut = &cut * &shape[new - 1];
            new -= 1;
            if cut
                .as_const()
                .zip(run.as_const())
                .is_some_and(|(cut, run)| cut > run)
            {
                return Ok(false);
            }
        }
        if cut != run {
            return Ok(false);
        }
        run = Dim::from(1i64);
    }
    Ok(new == 0)
}

fn permuted(cx: &mut Importer<'_>, x: TensorId, perm: Vec<usize>) -> Result<Vec<Out>> {
    Ok(vec![Out::Tensor(cx.memory.view(x, op::Transpose { perm }))])
}

fn swapped(cx: &mut Importer<'_>, call: &Call<'_>, a: i64, b: i64) -> Result<Vec<Out>> {
    let x = call.tensor("self")?;
    let rank = rank(cx, x)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 0 {
        perm.swap(wrap_axis(a, rank)?, wrap_axis(b, rank)?);
    }
    permuted(cx, x, perm)
}

fn movedim(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.tensor("self")?;
    let rank = rank(cx, x)?;
    let wrap = |axes: Vec<i64>| {
        axes.into_iter()
            .map(|axis| wrap_axis(axis, rank))
            .collect::<Result<Vec<_>>>()
    };
    let (from, to) = (
        wrap(call.ints("source")?)?,
        wrap(call.ints("destination")?)?,
    );
    let mut perm = vec![None; rank];
    for (from, to) in from.iter().zip(&to) {
        perm[*to] = Some(*from);
    }
    let mut rest = (0..rank).filter(|axis| !from.contains(axis));
    let perm = perm
        .into_iter()
        .map(|axis| axis.or_else(|| rest.next()).unwrap_or_default())
        .collect();
    permuted(cx, x, perm)
}

/// An index counted from the start: negative ones count from the end, also where only the data know the sign.
pub(in crate::import) fn from_start(index: Dim, size: &Dim, cx: &Importer<'_>) -> Dim {
    let range = index.range(&cx.build.graph.symbols);
    if range.max < 0 {
        return &index + size;
    }
    if range.min >= 0 {
        return index;
    }
    let below = (&Dim::from(0i64) - &index)
        .maximum(&0i64.into())
        .minimum(&1i64.into());
    &index + &(&below * size)
}

/// As [`from_start`] and then held within the axis, as Python's slices are.
fn within(index: Dim, size: &Dim, cx: &Importer<'_>) -> Dim {
    let symbols = &cx.build.graph.symbols;
    let mut index = from_start(index, size, cx);
    if index.range(symbols).min < 0 {
        index = index.maximum(&0i64.into());
    }
    if (&index - size).range(symbols).max > 0 {
        index = index.minimum(size);
    }
    index
}

/// The view `start, start + step, … < stop` of an axis.
fn part(
    cx: &mut Importer<'_>,
    x: TensorId,
    axis: usize,
    start: Dim,
    stop: Dim,
    step: i64,
) -> Result<TensorId> {
    if start.is(0) && step == 1 && size(cx, x, axis)? == stop {
        return Ok(x);
    }
    Ok(cx.memory.view(
        x,
        op::Slice {
            axis,
            start,
            stop,
            step,
        },
    ))
}

/// The view of one position of an axis, without the axis.
fn selected(cx: &mut Importer<'_>, x: TensorId, axis: usize, index: Dim) -> Result<TensorId> {
    let stop = &index + &Dim::from(1i64);
    let one = part(cx, x, axis, index, stop, 1)?;
    let value = cx.read(one)?;
    let mut shape = cx.build.shape(value)?;
    if axis >= shape.len() {
        return invalid("a 0-d tensor can't be indexed");
    }
    shape.remove(axis);
    Ok(cx.memory.view(one, op::Reshape { shape }))
}

fn slice(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.tensor("self")?;
    let axis = wrap_axis(call.int("dim")?, rank(cx, x)?)?;
    let (start, stop, step) = slice_bounds(cx, call, x, axis, &call.out_shape(0)?)?;
    part(cx, x, axis, start, stop, step).map(|view| vec![Out::Tensor(view)])
}

/// Bounds of a slice inside the axis, from the arguments `start`, `end`, `step` and the number of elements that the export recorded.
pub(in crate::import) fn slice_bounds(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: TensorId,
    axis: usize,
    shape: &[Dim],
) -> Result<(Dim, Dim, i64)> {
    let size = size(cx, x, axis)?;
    let step = call.int("step")?;
    if step < 1 {
        return invalid(format!("a slice with step {step}"));
    }
    let Some(count) = shape.get(axis) else {
        return invalid("a slice of an axis that is not there");
    };
    let given = call.opt_dim("start")?.unwrap_or_else(|| 0i64.into());
    let start = from_start(given.clone(), &size, cx);
    // Python's slices stop at the ends of the axis.
    let symbols = &cx.build.graph.symbols;
    let beyond = (&start - &size).range(symbols).min >= 0;
    let mut start = if start.range(symbols).max < 0 {
        0i64.into()
    } else if beyond {
        size.clone()
    } else {
        start
    };
    if let Some(symbol) = count.as_symbol().filter(|s| s.starts_with('u')) {
        start = within(given, &size, cx);
        let stop = match call.opt_dim("end")? {
            Some(stop) => within(stop, &size, cx),
            None => size,
        };
        let reach = &(&stop - &start) + &Dim::from(step - 1);
        let reach = reach.floor_div(&Dim::from(step)).maximum(&0i64.into());
        cx.define(symbol, &reach)?;
    }
    let stop = match step {
        1 => &start + count,
        _ if count.is(0) => start.clone(),
        _ => {
            let last = &(count - &Dim::from(1i64)) * &Dim::from(step);
            &(&start + &last) + &Dim::from(1i64)
        }
    };
    Ok((start, stop, step))
}

/// Every operator that cuts an axis into parts: the export recorded how long each is.
fn split(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.tensor("self")?;
    let rank = rank(cx, x)?;
    let axis = match call.target.split('.').nth(1) {
        Some("hsplit") => usize::from(rank > 1),
        Some("vsplit") => 0,
        Some("dsplit") => 2,
        _ => wrap_axis(call.int("dim")?, rank)?,
    };
    let mut outs = Vec::new();
    let mut start = Dim::from(0i64);
    for n in 0..call.out_names().len() {
        let shape = call.out_shape(n)?;
        let Some(count) = shape.get(axis) else {
            return invalid("a part without the axis that was split");
        };
        let stop = &start + count;
        outs.push(Out::Tensor(part(cx, x, axis, start, stop.clone(), 1)?));
        start = stop;
    }
    if call.target.contains("with_sizes") {
        let size = size(cx, x, axis)?;
        cx.require_equal(&start, &size);
    }
    if call.target.contains("copy") || call.target.contains("unsafe") {
        let tensors = outs.into_iter().map(|out| match out {
            Out::Tensor(tensor) => cx.read(tensor).map(Out::Value),
            other => Ok(other),
        });
        return tensors.collect();
    }
    Ok(outs)
}

/// Parts of an axis between positions that stand in a tensor: counted from the end where they are negative, and no part where they go back.
fn split_by_data(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.tensor("self")?;
    let axis = wrap_axis(call.int("dim")?, rank(cx, x)?)?;
    let names = call.out_names();
    let at = call.value(cx, "tensor_indices_or_sections")?;
    if cx.build.rank(at)? != 1 {
        return unsupported("a number of parts that depends on data");
    }
    let length = size(cx, x, axis)?;
    let end = super::index::dim_tensor(cx, &length)?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let at = cx.build.cast(at, DType::I64)?;
    let negative = cx.build.add(op::Lt {}, &[at, zero])?;
    let wrapped = cx.build.plus(at, end)?;
    let at = cx.build.select(negative, wrapped, at)?;
    let at = cx.build.add(op::Maximum {}, &[at, zero])?;
    let at = cx.build.add(op::Minimum {}, &[at, end])?;
    let mut outs = Vec::new();
    let (mut start, mut first) = (zero, Dim::from(0i64));
    for (n, name) in names.iter().enumerate() {
        let Some(count) = call.out_shape(n)?.get(axis).cloned() else {
            return invalid("a part without the axis that was split");
        };
        let stop = if n + 1 == names.len() {
            end
        } else {
            let one = cx.build.slice(at, 0, n.into(), (n + 1).into())?;
            cx.build.reshape(one, Vec::new())?
        };
        let gap = cx.build.minus(stop, start)?;
        let gap = cx.build.add(op::Maximum {}, &[gap, zero])?;
        super::counting::measured(cx, gap, &count)?;
        let last = &first + &count;
        outs.push(Out::Tensor(part(cx, x, axis, first, last, 1)?));
        // Where the next part begins is not the sum of the lengths: positions may go back.
        let symbol = Symbol::from(format!("{name}_stop"));
        let max = length.range(&cx.build.graph.symbols).max;
        cx.build
            .graph
            .declare_symbol(symbol.clone(), Range { min: 0, max });
        cx.build.add(
            op::Item {
                symbol: symbol.clone(),
            },
            &[stop],
        )?;
        (start, first) = (stop, Dim::symbol(symbol));
    }
    Ok(outs)
}

fn concatenate(cx: &mut Importer<'_>, values: &[Value], axis: i64) -> Result<Vec<Out>> {
    let args: Vec<_> = values
        .iter()
        .map(|value| super::pointwise::Arg::Tensor(*value))
        .collect();
    let mut values = super::pointwise::to_common(cx, &args)?;
    // An old rule: 1-d tensors without elements fit anything.
    let mut kept = Vec::new();
    for value in &values {
        let shape = cx.build.shape(*value)?;
        if !matches!(shape.as_slice(), [size] if size.is(0)) {
            kept.push(*value);
        }
    }
    if !kept.is_empty() {
        values = kept;
    }
    let Some(first) = values.first() else {
        return invalid("nothing to concatenate");
    };
    let axis = cx.build.axis(*first, axis)?;
    done(cx.build.cat(&values, axis))
}

fn side_by_side(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let mut values = call.values(cx, "tensors")?;
    let operator = call.target.split('.').nth(1).unwrap_or_default();
    let mut axis = 1;
    for value in &mut values {
        let rank = cx.build.rank(*value)?;
        let shape = cx.build.shape(*value)?;
        let one = || Dim::from(1i64);
        let numel = cx.build.ty(*value)?.numel();
        let shape = match (operator, rank) {
            ("hstack", 0) => vec![one()],
            ("vstack" | "row_stack", 0 | 1) => vec![one(), numel],
            ("column_stack", 0 | 1) => vec![numel, one()],
            ("dstack", 0 | 1) => vec![one(), numel, one()],
            ("dstack", 2) => [shape, vec![one()]].concat(),
            _ => shape,
        };
        axis = match operator {
            "hstack" => usize::from(shape.len() > 1),
            "vstack" | "row_stack" => 0,
            "dstack" => 2,
            _ => 1,
        };
        *value = cx.build.reshape(*value, shape)?;
    }
    concatenate(cx, &values, i64::try_from(axis).unwrap_or(0))
}

/// Axes as PyTorch counts them, sorted and distinct.
pub(in crate::import) fn sorted_axes(axes: Vec<i64>, rank: usize) -> Result<Vec<usize>> {
    let mut axes = axes
        .into_iter()
        .map(|axis| wrap_axis(axis, rank))
        .collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    axes.retain(|axis| *axis < rank);
    Ok(axes)
}
