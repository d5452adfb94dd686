//! Operators whose result's size depends on data: kernels of the host, and what can be expressed without them.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Attr, DType, Dim, Scalar, TensorType, Type, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.nonzero.default" | "aten.argwhere.default" => |cx, call| {
            let x = call.value(cx, "self")?;
            let count = new_size(call, 0)?;
            done(nonzero(cx, x, count))
        },
        "aten.nonzero_numpy.default" | "aten.where.default" => |cx, call| {
            let name = if call.target.contains("where") {
                "condition"
            } else {
                "self"
            };
            let mut x = call.value(cx, name)?;
            if cx.build.rank(x)? == 0 {
                x = cx.build.reshape(x, vec![1i64.into()])?;
            }
            let count = new_size(call, 0)?;
            let rows = nonzero(cx, x, count)?;
            columns(cx, rows).map(|all| all.into_iter().map(Out::Value).collect())
        },
        "aten.masked_select.default" => |cx, call| {
            let (x, mask) = (call.value(cx, "self")?, call.value(cx, "mask")?);
            let mask = cx.build.cast(mask, DType::Bool)?;
            let count = new_size(call, 0)?;
            let most = most_of(cx, &[x, mask])?;
            let ty = Type::tensor(cx.build.dtype(x)?, vec![count]);
            let kernel = "aten::masked_select.out";
            done(only(host(cx, kernel, tensors(2), &[x, mask], ty, most)?))
        },
        "aten.repeat_interleave.Tensor" => |cx, call| {
            let repeats = call.value(cx, "repeats")?;
            let total = new_size(call, 0)?;
            done(sources(cx, repeats, total))
        },
        "aten.repeat_interleave.self_Tensor" => repeated,
        "aten.masked_scatter.default" => |cx, call| {
            let (x, mask, source) = (
                call.value(cx, "self")?,
                call.value(cx, "mask")?,
                call.value(cx, "source")?,
            );
            let source = cx.build.cast(source, cx.build.dtype(x)?)?;
            let mask = cx.build.cast(mask, DType::Bool)?;
            let shape = call.out_shape(0)?;
            let x = cx.build.broadcast(x, shape.clone())?;
            let mask = cx.build.broadcast(mask, shape)?;
            let flat = cx
                .build
                .reshape(source, vec![cx.build.ty(source)?.numel()])?;
            let picked = by_rank(cx, mask, flat)?;
            done(cx.build.select(mask, picked, x))
        },
        _ => return None,
    })
}

/// The result of a kernel that has one.
fn only(results: Vec<Value>) -> Result<Value> {
    match results.as_slice() {
        [one] => Ok(*one),
        _ => Err(Fail::Bug("a kernel with one result has several".to_owned())),
    }
}

/// The recorded first size of the n-th result.
fn new_size(call: &Call<'_>, n: usize) -> Result<Dim> {
    match call.out_shape(n)?.into_iter().next() {
        Some(size) => Ok(size),
        None => invalid("a result of data-dependent size has no axes"),
    }
}

/// The number of elements of the shape that tensors broadcast to, at most.
fn most_of(cx: &Importer<'_>, values: &[Value]) -> Result<i64> {
    let mut most = 1i64;
    let rank = values
        .iter()
        .map(|value| cx.build.rank(*value))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .max()
        .unwrap_or(0);
    for axis in 0..rank {
        let mut size = 1;
        for value in values {
            let shape = cx.build.shape(*value)?;
            if let Some(own) = (axis + shape.len())
                .checked_sub(rank)
                .and_then(|at| shape.get(at))
            {
                size = size.max(own.range(&cx.build.graph.symbols).max);
            }
        }
        most = most.saturating_mul(size.max(0));
    }
    Ok(most)
}

/// A kernel that every runtime has. Symbols that are first sizes of its results are bounded by `most`.
fn host(
    cx: &mut Importer<'_>,
    kernel: &str,
    call: Vec<Attr>,
    args: &[Value],
    ty: Type,
    most: i64,
) -> Result<Vec<Value>> {
    let host = op::Host {
        kernel: kernel.into(),
        reason: "the size of its result depends on data".into(),
        call,
        ty,
    };
    for result in host.results() {
        let first = result.as_tensor().and_then(|ty| ty.shape.first());
        if let Some(size) = first {
            super::counting::at_most(cx, size, most);
        }
    }
    crate::import::host::results_of(cx, host, args)
}

/// The arguments of a kernel that takes tensors alone.
fn tensors(count: usize) -> Vec<Attr> {
    (0..count).map(Attr::Arg).collect()
}

/// Each position of `repeats` as often as the element there says, `total` positions in all; 1-d. A total that nothing else tells is read from the data, so that all of it stays
/// on the device: every run ends at a running sum, and the position is the number of runs that have ended.
fn sources(cx: &mut Importer<'_>, repeats: Value, total: Dim) -> Result<Value> {
    let repeats = cx.build.cast(repeats, DType::I64)?;
    if let Some(symbol) = total.as_symbol().filter(|symbol| symbol.starts_with('u')) {
        let sum = op::Sum {
            axes: vec![0],
            keepdim: false,
        };
        let sum = cx.build.add(sum, &[repeats])?;
        let symbol = symbol.clone();
        cx.build.add(op::Item { symbol }, &[sum])?;
    }
    let ends = cx.build.add(op::Cumsum { axis: 0 }, &[repeats])?;
    let longer = &total + &Dim::from(1i64);
    let zeros = op::Full {
        ty: TensorType::new(DType::I64, vec![longer]),
        value: Scalar::Int(0),
    };
    let zeros = cx.build.add(zeros, &[])?;
    let ones = op::Full {
        ty: cx.build.ty(ends)?.clone(),
        value: Scalar::Int(1),
    };
    let ones = cx.build.add(ones, &[])?;
    let ended = cx
        .build
        .add(op::ScatterAdd { axis: 0 }, &[zeros, ends, ones])?;
    let ended = cx.build.add(op::Cumsum { axis: 0 }, &[ended])?;
    cx.build.slice(ended, 0, 0i64.into(), total)
}

/// Elements of a tensor along an axis, each as often as `repeats` says.
fn repeated(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let mut x = call.value(cx, "self")?;
    let axis = match call.opt_int("dim")? {
        Some(axis) => cx.build.axis(x, axis)?,
        None => {
            x = cx.build.reshape(x, vec![cx.build.ty(x)?.numel()])?;
            0
        }
    };
    let repeats = call.value(cx, "repeats")?;
    let count = cx.build.shape(x)?.get(axis).cloned();
    let total = call.out_shape(0)?.get(axis).cloned();
    let (Some(count), Some(total)) = (count, total) else {
        return invalid("elements of a 0-d tensor repeated along an axis");
    };
    let repeats = cx.build.broadcast(repeats, vec![count])?;
    let indices = sources(cx, repeats, total)?;
    done(cx.build.add(op::Take { axis }, &[x, indices]))
}

/// The indices of elements that are not zero, one row each.
pub(in crate::import) fn nonzero(cx: &mut Importer<'_>, x: Value, count: Dim) -> Result<Value> {
    let most = most_of(cx, &[x])?;
    let ty = Type::tensor(DType::I64, vec![count, cx.build.rank(x)?.into()]);
    only(host(cx, "aten::nonzero.out", tensors(1), &[x], ty, most)?)
}

/// The columns of a matrix, as rows of their own.
pub(in crate::import) fn columns(cx: &mut Importer<'_>, rows: Value) -> Result<Vec<Value>> {
    let shape = cx.build.shape(rows)?;
    let [count, width] = shape.as_slice() else {
        return invalid("a list of indices is a matrix");
    };
    let Some(width) = width.as_const() else {
        return unsupported("indices of a tensor of unknown rank");
    };
    let mut all = Vec::new();
    for n in 0..width {
        let column = cx.build.slice(rows, 1, n.into(), (n + 1).into())?;
        all.push(cx.build.reshape(column, vec![count.clone()])?);
    }
    Ok(all)
}

/// For each true element of a mask, the row of `source` of its rank among the true ones: a gather by running count, without a size that depends on data.
pub(in crate::import) fn by_rank(
    cx: &mut Importer<'_>,
    mask: Value,
    source: Value,
) -> Result<Value> {
    let shape = cx.build.shape(mask)?;
    let flat = cx.build.reshape(mask, vec![cx.build.ty(mask)?.numel()])?;
    let count = cx.build.add(op::Cumsum { axis: 0 }, &[flat])?;
    let one = cx.build.scalar(fuseline_ir::Scalar::Int(1), DType::I64)?;
    let rank = cx.build.add(op::Sub {}, &[count, one])?;
    let zero = cx.build.scalar(fuseline_ir::Scalar::Int(0), DType::I64)?;
    let rank = cx.build.add(op::Maximum {}, &[rank, zero])?;
    // Elements after the last true one may count further than the source reaches: they are not used.
    let size = &cx.build.shape(source)?[0] - &Dim::from(1i64);
    let last = super::index::dim_tensor(cx, &size)?;
    let rank = cx.build.add(op::Minimum {}, &[rank, last])?;
    let rank = cx.build.reshape(rank, shape)?;
    cx.build.add(op::Take { axis: 0 }, &[source, rank])
}
