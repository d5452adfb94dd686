//! Fractional max pooling: windows of one size whose places are drawn. The draws are arguments.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Value};

use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let known = matches!(
        target,
        "aten.fractional_max_pool2d.default" | "aten.fractional_max_pool3d.default"
    );
    known.then_some(pool as Handler)
}

/// The windows of each axis are gathered one axis after the other; the largest of each is the result.
fn pool(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, mut samples) = (call.value(cx, "self")?, call.value(cx, "random_samples")?);
    let (kernel, outs) = (call.ints("kernel_size")?, call.ints("output_size")?);
    let n = if call.target.contains("2d") { 2 } else { 3 };
    let fill = |list: Vec<i64>| {
        if list.len() == 1 {
            vec![list[0]; n]
        } else {
            list
        }
    };
    let (kernel, outs) = (fill(kernel), fill(outs));
    let rank = cx.build.rank(x)?;
    let Some(lead) = rank
        .checked_sub(n)
        .filter(|_| kernel.len() == n && outs.len() == n)
    else {
        return invalid("a pooling of fewer axes than its windows have");
    };
    let shape = cx.build.shape(x)?;
    let sizes: Option<Vec<i64>> = shape[lead..].iter().map(Dim::as_const).collect();
    let Some(sizes) = sizes else {
        return unsupported("fractional pooling of an axis of dynamic size");
    };
    if lead == 1 {
        // One image has the draws of the first.
        samples = cx.build.slice(samples, 0, 0i64.into(), 1i64.into())?;
    }
    let planes = cx.build.shape(samples)?[..2].to_vec();
    let merged = [planes.as_slice(), &shape[lead..]].concat();
    let mut windows = cx.build.reshape(x, merged)?;
    let mut places: Option<Value> = None;
    for axis in 0..n {
        // In the plane the last axis has the first draw, in space the first axis has.
        let draw = if n == 2 { 1 - axis } else { axis } as i64;
        let draw = cx.build.slice(samples, 2, draw.into(), (draw + 1).into())?;
        let starts = starts(cx, draw, [sizes[axis], outs[axis], kernel[axis]])?;
        let reach = cx
            .build
            .arange(0i64.into(), 1i64.into(), kernel[axis].into(), DType::I64)?;
        let starts = cx.build.unsqueeze(starts, 3)?;
        let index = cx.build.plus(starts, reach)?;
        let length = Dim::from(outs[axis] * kernel[axis]);
        // Along its own axis of what is gathered so far: [n, c, outs and windows …].
        let mut along = planes.clone();
        along.resize(2 + n, Dim::from(1i64));
        along[2 + axis] = length.clone();
        let index = cx.build.reshape(index, along)?;
        let mut whole = cx.build.shape(windows)?;
        whole[2 + axis] = length;
        let gathered = cx.build.broadcast(index, whole)?;
        windows = cx
            .build
            .add(op::TakeAlong { axis: 2 + axis }, &[windows, gathered])?;
        let step = fuseline_ir::Scalar::Int(sizes[axis + 1..].iter().product());
        let step = cx.build.scalar(step, DType::I64)?;
        let own = cx.build.times(index, step)?;
        places = Some(match places {
            Some(sum) => cx.build.plus(sum, own)?,
            None => own,
        });
    }
    let Some(places) = places else {
        return invalid("windows without axes");
    };
    // Outs before windows.
    let mut apart = planes.clone();
    for axis in 0..n {
        apart.extend([Dim::from(outs[axis]), Dim::from(kernel[axis])]);
    }
    let order: Vec<usize> = [0, 1]
        .into_iter()
        .chain((0..n).map(|a| 2 + 2 * a))
        .chain((0..n).map(|a| 3 + 2 * a))
        .collect();
    let mut last = planes;
    last.extend(outs.iter().map(|size| Dim::from(*size)));
    last.push(Dim::from(kernel.iter().product::<i64>()));
    let arranged = |cx: &mut Importer<'_>, x: Value| -> Result<Value> {
        let x = cx.build.reshape(x, apart.clone())?;
        let x = cx.build.transpose(x, order.clone())?;
        cx.build.reshape(x, last.clone())
    };
    let whole = cx.build.shape(windows)?;
    let places = cx.build.broadcast(places, whole)?;
    let (windows, places) = (arranged(cx, windows)?, arranged(cx, places)?);
    let axis = 2 + n;
    let best = cx.build.add(
        op::Argmax {
            axis,
            keepdim: true,
        },
        &[windows],
    )?;
    let mut outs = Vec::new();
    for (from, at) in [windows, places].into_iter().zip(0..) {
        let taken = cx.build.add(op::TakeAlong { axis }, &[from, best])?;
        outs.push(cx.build.reshape(taken, call.out_shape(at)?)?.into());
    }
    Ok(outs)
}

/// Where the windows of an axis begin, for draws `[n, c, 1]`: `[n, c, outs]`.
fn starts(cx: &mut Importer<'_>, draw: Value, [size, outs, kernel]: [i64; 3]) -> Result<Value> {
    let last = size - kernel;
    let planes = cx.build.shape(draw)?;
    let whole = [&planes[..2], &[Dim::from(1i64)]].concat();
    let end = cx
        .build
        .full(fuseline_ir::Scalar::Int(last), DType::I64, whole)?;
    if outs <= 1 {
        return Ok(end);
    }
    let dtype = cx.build.dtype(draw)?;
    let slope = last as f64 / (outs - 1) as f64;
    let index = cx
        .build
        .arange(0i64.into(), 1i64.into(), (outs - 1).into(), DType::I64)?;
    let index = cx.build.cast(index, dtype)?;
    let at = cx.build.plus(index, draw)?;
    let (at, first) = (
        cx.build.with_float(op::Mul {}, at, slope)?,
        cx.build.with_float(op::Mul {}, draw, slope)?,
    );
    let (at, first) = (
        cx.build.cast(at, DType::I64)?,
        cx.build.cast(first, DType::I64)?,
    );
    let inner = cx.build.minus(at, first)?;
    cx.build.cat(&[inner, end], 2)
}
