//! Looking values up: whether they are in a set, where they belong in a sorted row, where what is not zero stands.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Scalar, Value};

use super::index::dim_tensor;
use super::pointwise::{Arg, done, tensor_or_number, to_common};
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "isin" => isin,
        "bucketize" => |cx, call| {
            let bounds = call.value(cx, "boundaries")?;
            let right = call.bool("right")?;
            sorted_places(cx, call, bounds, right)
        },
        "searchsorted" => |cx, call| {
            let mut bounds = call.value(cx, "sorted_sequence")?;
            if let Some(order) = call.opt_value(cx, "sorter")? {
                let axis = cx.build.rank(bounds)?.saturating_sub(1);
                bounds = cx.build.add(op::TakeAlong { axis }, &[bounds, order])?;
            }
            let right = match call.opt_str("side")? {
                Some(side) => side == "right",
                None => call.bool("right")?,
            };
            sorted_places(cx, call, bounds, right)
        },
        "nonzero_static" => nonzero_static,
        _ => return None,
    })
}

/// Arguments in their common dtype.
fn alike(cx: &mut Importer<'_>, args: [Arg; 2]) -> Result<[Value; 2]> {
    match to_common(cx, &args)?.as_slice() {
        [a, b] => Ok([*a, *b]),
        _ => invalid("two arguments became others"),
    }
}

/// Whether each element is one of a set.
fn isin(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let name = |tensor: &'static str, number: &'static str| {
        let is = |name| call.schema.is_some_and(|schema| schema.arg(name).is_some());
        if is(tensor) { tensor } else { number }
    };
    let elements = tensor_or_number(cx, call, name("elements", "element"))?;
    let set = tensor_or_number(cx, call, name("test_elements", "test_element"))?;
    let [x, set] = alike(cx, [elements, set])?;
    let rank = cx.build.rank(x)?;
    let column = cx.build.unsqueeze(x, rank)?;
    let row = cx.build.reshape(set, vec![cx.build.ty(set)?.numel()])?;
    let hits = cx.build.add(op::Eq {}, &[column, row])?;
    let (axes, keepdim) = (vec![rank], false);
    let found = cx.build.add(op::Any { axes, keepdim }, &[hits])?;
    done(match call.bool("invert")? {
        true => cx.build.add(op::LogicalNot {}, &[found]),
        false => Ok(found),
    })
}

/// Where each value belongs in a sorted row, of its own leading axes or the same for all: the number of bounds that it passes. NaN passes all.
fn sorted_places(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    bounds: Value,
    right: bool,
) -> Result<Vec<Out>> {
    let values = tensor_or_number(cx, call, "self")?;
    let [x, bounds] = alike(cx, [values, Arg::Tensor(bounds)])?;
    let (rank, rows) = (cx.build.rank(x)?, cx.build.rank(bounds)?);
    if rows != 1 && rows != rank {
        return invalid(format!(
            "values with {rank} axes in sorted rows with {rows}"
        ));
    }
    let column = cx.build.unsqueeze(x, rank)?;
    let bounds = match rows {
        1 => bounds,
        _ => cx.build.unsqueeze(bounds, rows - 1)?,
    };
    let stops: Op = match right {
        true => op::Gt {}.into(),
        false => op::Ge {}.into(),
    };
    let stopped = cx.build.add(stops, &[bounds, column])?;
    let passed = cx.build.add(op::LogicalNot {}, &[stopped])?;
    let (axes, keepdim) = (vec![rank], false);
    let count = cx.build.add(op::Sum { axes, keepdim }, &[passed])?;
    done(cx.build.cast(count, call.out_dtype(0)?))
}

/// The indices of the first `size` elements that are not zero, one row each; rows beyond the last are `fill_value`.
fn nonzero_static(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let shape = cx.build.shape(x)?;
    let size = call.dim("size")?;
    let fill = cx
        .build
        .scalar(Scalar::Int(call.int("fill_value")?), DType::I64)?;
    let out = call.out_shape(0)?;
    let count = cx.build.ty(x)?.numel();
    if shape.is_empty() || count.is(0) {
        return done(cx.build.broadcast(fill, out));
    }
    let marks = cx.build.reshape(x, vec![count.clone()])?;
    let marks = cx.build.cast(marks, DType::Bool)?;
    // A stable sort brings the zeros behind, and all others stay in their order.
    let zeros = cx.build.add(op::LogicalNot {}, &[marks])?;
    let zeros = cx.build.cast(zeros, DType::U8)?;
    let order = cx.build.add(op::Argsort { axis: 0 }, &[zeros])?;
    let (low, high) = (vec![0i64.into()], vec![size.clone()]);
    let value = Scalar::Int(0);
    let longer = cx.build.add(op::Pad { low, high, value }, &[order])?;
    let mut at = cx.build.slice(longer, 0, 0i64.into(), size.clone())?;
    let (axes, keepdim) = (vec![0], false);
    let total = cx.build.add(op::Sum { axes, keepdim }, &[marks])?;
    let row = cx
        .build
        .arange(0i64.into(), 1i64.into(), size.clone(), DType::I64)?;
    let there = cx.build.add(op::Lt {}, &[row, total])?;
    let mut columns = Vec::new();
    for own in shape.iter().rev() {
        let own = dim_tensor(cx, own)?;
        let column = cx.build.add(op::Remainder {}, &[at, own])?;
        at = cx.build.add(op::FloorDiv {}, &[at, own])?;
        let column = cx.build.select(there, column, fill)?;
        columns.push(
            cx.build
                .reshape(column, vec![size.clone(), Dim::from(1i64)])?,
        );
    }
    columns.reverse();
    done(cx.build.cat(&columns, 1))
}
