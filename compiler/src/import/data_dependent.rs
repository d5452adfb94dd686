//! Operators whose result's size depends on data: kernels of the host, and what can be expressed without them.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Range, TensorType, Value};

use super::call::Call;
use super::error::{Result, invalid, unsupported};
use super::pointwise::done;
use super::{Handler, Importer, Out};

pub(super) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.nonzero.default" => |cx, call| {
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
            let x = call.value(cx, name)?;
            let count = new_size(call, 0)?;
            let rows = nonzero(cx, x, count)?;
            columns(cx, rows).map(|all| all.into_iter().map(Out::Value).collect())
        },
        "aten.masked_select.default" => |cx, call| {
            let (x, mask) = (call.value(cx, "self")?, call.value(cx, "mask")?);
            let mask = cx.build.cast(mask, DType::Bool)?;
            let count = new_size(call, 0)?;
            let most = most_of(cx, &[x, mask])?;
            let ty = TensorType::new(cx.build.dtype(x)?, vec![count]);
            done(host(cx, "aten::masked_select.out", &[x, mask], ty, most))
        },
        "aten.masked_scatter.default" => |cx, call| {
            let (x, mask, source) = (
                call.value(cx, "self")?,
                call.value(cx, "mask")?,
                call.value(cx, "source")?,
            );
            let source = cx.build.cast(source, cx.build.dtype(x)?)?;
            let mask = cx.build.cast(mask, DType::Bool)?;
            let shape = cx.build.shape(x)?;
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

/// A kernel of the host. A first size that is a symbol of its own is bounded by `most`.
fn host(
    cx: &mut Importer<'_>,
    kernel: &str,
    args: &[Value],
    ty: TensorType,
    most: i64,
) -> Result<Value> {
    if let Some(symbol) = ty.shape.first().and_then(Dim::as_symbol) {
        let known = cx
            .build
            .graph
            .symbols
            .get(symbol)
            .copied()
            .unwrap_or(Range { min: 0, max: most });
        let range = Range {
            min: known.min.max(0),
            max: known.max.min(most),
        };
        cx.build.graph.declare_symbol(symbol.clone(), range);
    }
    let reason = "the size of its result depends on data";
    cx.build.add(
        op::Host {
            kernel: kernel.into(),
            reason: reason.into(),
            ty,
        },
        args,
    )
}

/// The indices of elements that are not zero, one row each.
pub(super) fn nonzero(cx: &mut Importer<'_>, x: Value, count: Dim) -> Result<Value> {
    let most = most_of(cx, &[x])?;
    let ty = TensorType::new(DType::I64, vec![count, cx.build.rank(x)?.into()]);
    host(cx, "aten::nonzero.out", &[x], ty, most)
}

/// The columns of a matrix, as rows of their own.
pub(super) fn columns(cx: &mut Importer<'_>, rows: Value) -> Result<Vec<Value>> {
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
pub(super) fn by_rank(cx: &mut Importer<'_>, mask: Value, source: Value) -> Result<Value> {
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
