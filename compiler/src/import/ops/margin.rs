//! Losses that ask for a margin between what belongs together and what does not.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::loss::finished;
use super::pointwise::{Arg, to_common};
use super::reduce::{count_of, vector_norm};
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out, promote};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.cosine_embedding_loss.default" => cosine_embedding,
        "aten.triplet_margin_loss.default" => triplet,
        "aten.multi_margin_loss.default" => multi_margin,
        "aten.multilabel_margin_loss.default" | "aten.multilabel_margin_loss_forward.default" => {
            multilabel
        }
        _ => return None,
    })
}

/// Tensor arguments in their common dtype, as wide as PyTorch computes.
fn wide(cx: &mut Importer<'_>, call: &Call<'_>, names: &[&str]) -> Result<Vec<Value>> {
    let mut args = Vec::new();
    for name in names {
        args.push(Arg::Tensor(call.value(cx, name)?));
    }
    let values = to_common(cx, &args)?;
    let dtype = cx.build.dtype(values[0])?;
    let dtype = promote::compute_type(promote::to_float(dtype));
    values
        .into_iter()
        .map(|value| cx.build.cast(value, dtype))
        .collect()
}

fn sum(cx: &mut Importer<'_>, x: Value, axes: Vec<usize>) -> Result<Value> {
    let keepdim = false;
    cx.build.add(op::Sum { axes, keepdim }, &[x])
}

/// max(0, margin − x).
fn short_of(cx: &mut Importer<'_>, x: Value, margin: f64) -> Result<Value> {
    let margin = cx.build.float(margin, cx.build.dtype(x)?)?;
    let short = cx.build.minus(margin, x)?;
    cx.build.with_float(op::Maximum {}, short, 0.0)
}

/// 1 − cos where the target is 1, max(0, cos − margin) where it is −1.
fn cosine_embedding(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    const EPS: f64 = 1e-12;
    let values = wide(cx, call, &["input1", "input2"])?;
    let target = call.value(cx, "target")?;
    let margin = call.float(cx, "margin")?;
    let axis = cx.build.rank(target)?;
    let mut products = Vec::new();
    for (a, b) in [(0, 1), (0, 0), (1, 1)] {
        let product = cx.build.times(values[a], values[b])?;
        products.push(sum(cx, product, vec![axis])?);
    }
    let (first, second) = (
        cx.build.with_float(op::Add {}, products[1], EPS)?,
        cx.build.with_float(op::Add {}, products[2], EPS)?,
    );
    let square = cx.build.times(first, second)?;
    let size = cx.build.add(op::Sqrt {}, &[square])?;
    let cosine = cx.build.over(products[0], size)?;
    let alike = super::pointwise::one_minus(cx, cosine)?;
    let apart = cx.build.with_float(op::Sub {}, cosine, margin)?;
    let apart = cx.build.with_float(op::Maximum {}, apart, 0.0)?;
    let zero = cx.build.float(0.0, cx.build.dtype(cosine)?)?;
    let mut loss = zero;
    for (label, part) in [(1, alike), (-1, apart)] {
        let label = cx
            .build
            .scalar(Scalar::Int(label), cx.build.dtype(target)?)?;
        let hit = cx.build.add(op::Eq {}, &[target, label])?;
        let part = cx.build.select(hit, part, zero)?;
        loss = cx.build.plus(loss, part)?;
    }
    finished(cx, call, loss)
}

/// max(0, margin + |anchor − positive| − |anchor − negative|), where `swap` lets the nearer of anchor and positive be compared with the negative.
fn triplet(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let values = wide(cx, call, &["anchor", "positive", "negative"])?;
    let (margin, p, eps) = (
        call.float(cx, "margin")?,
        call.float(cx, "p")?,
        call.float(cx, "eps")?,
    );
    let distance = |cx: &mut Importer<'_>, a: usize, b: usize| {
        let gap = cx.build.minus(values[a], values[b])?;
        let gap = cx.build.with_float(op::Add {}, gap, eps)?;
        let (rank, dtype) = (cx.build.rank(gap)?, cx.build.dtype(gap)?);
        vector_norm(cx, gap, p, vec![rank.saturating_sub(1)], false, dtype)
    };
    let near = distance(cx, 0, 1)?;
    let mut far = distance(cx, 0, 2)?;
    if call.bool("swap")? {
        let other = distance(cx, 1, 2)?;
        far = cx.build.add(op::Minimum {}, &[far, other])?;
    }
    let gain = cx.build.minus(far, near)?;
    let loss = short_of(cx, gain, margin)?;
    finished(cx, call, loss)
}

/// Rows of one sample or several, and targets with as many rows.
fn rows(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<(Value, Value, Dim)> {
    let mut x = wide(cx, call, &["self"])?[0];
    if cx.build.rank(x)? < 2 {
        let count = cx.build.ty(x)?.numel();
        x = cx.build.reshape(x, vec![1i64.into(), count])?;
    }
    let shape = cx.build.shape(x)?;
    let [samples, classes] = shape.as_slice() else {
        return invalid("a loss of samples that have no axis of classes");
    };
    let target = call.value(cx, "target")?;
    let target = cx.build.cast(target, DType::I64)?;
    let each = cx.build.ty(target)?.numel();
    let each = match each == *samples {
        true => vec![samples.clone(), 1i64.into()],
        false => vec![samples.clone(), classes.clone()],
    };
    let target = cx.build.reshape(target, each)?;
    Ok((x, target, classes.clone()))
}

/// 0, 1, … as a row.
fn classes(cx: &mut Importer<'_>, count: &Dim) -> Result<Value> {
    cx.build
        .arange(0i64.into(), 1i64.into(), count.clone(), DType::I64)
}

/// The mean over classes of max(0, margin − x[target] + x[class])ᵖ, the target's own left out.
fn multi_margin(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, target, count) = rows(cx, call)?;
    let (p, margin) = (call.float(cx, "p")?, call.float(cx, "margin")?);
    let own = cx.build.add(op::TakeAlong { axis: 1 }, &[x, target])?;
    let gain = cx.build.minus(own, x)?;
    let mut loss = short_of(cx, gain, margin)?;
    if p == 2.0 {
        loss = cx.build.add(op::Square {}, &[loss])?;
    }
    if let Some(weight) = call.opt_value(cx, "weight")? {
        let weight = cx.build.cast(weight, cx.build.dtype(x)?)?;
        let weight = cx.build.add(op::Take { axis: 0 }, &[weight, target])?;
        loss = cx.build.times(loss, weight)?;
    }
    let row = classes(cx, &count)?;
    let own = cx.build.add(op::Eq {}, &[target, row])?;
    let zero = cx.build.float(0.0, cx.build.dtype(x)?)?;
    let loss = cx.build.select(own, zero, loss)?;
    let loss = per_class(cx, x, loss, vec![1])?;
    done(cx, call, loss)
}

/// The sum over targets and all other classes of max(0, 1 − x[target] + x[class]), by the number of classes. A row's targets end before its first negative one.
fn multilabel(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, target, count) = rows(cx, call)?;
    let dtype = cx.build.dtype(x)?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let ends = cx.build.add(op::Lt {}, &[target, zero])?;
    let ended = cx.build.add(op::Cumsum { axis: 1 }, &[ends])?;
    let listed = cx.build.add(op::Eq {}, &[ended, zero])?;
    let at = cx.build.add(op::Maximum {}, &[target, zero])?;
    let own = cx.build.add(op::TakeAlong { axis: 1 }, &[x, at])?;
    // By sample, target and class.
    let (own, at, listed) = (
        cx.build.unsqueeze(own, 2)?,
        cx.build.unsqueeze(at, 2)?,
        cx.build.unsqueeze(listed, 2)?,
    );
    let row = classes(cx, &count)?;
    let hit = cx.build.add(op::Eq {}, &[at, row])?;
    let hit = cx.build.add(op::LogicalAnd {}, &[hit, listed])?;
    let (axes, keepdim) = (vec![1], true);
    let chosen = cx.build.add(op::Any { axes, keepdim }, &[hit])?;
    let other = cx.build.add(op::LogicalNot {}, &[chosen])?;
    let counts = cx.build.add(op::LogicalAnd {}, &[listed, other])?;
    let all = cx.build.unsqueeze(x, 1)?;
    let gain = cx.build.minus(own, all)?;
    let loss = short_of(cx, gain, 1.0)?;
    let nothing = cx.build.float(0.0, dtype)?;
    let loss = cx.build.select(counts, loss, nothing)?;
    let loss = per_class(cx, x, loss, vec![1, 2])?;
    let mut outs = done(cx, call, loss)?;
    if call.out_names().len() > 1 {
        let chosen = cx.build.cast(chosen, call.out_dtype(1)?)?;
        let shape = call.out_shape(1)?;
        outs.push(cx.build.reshape(chosen, shape)?.into());
    }
    Ok(outs)
}

fn per_class(cx: &mut Importer<'_>, x: Value, loss: Value, axes: Vec<usize>) -> Result<Value> {
    let sum = sum(cx, loss, axes)?;
    let count = count_of(cx, x, &[1])?;
    cx.build.over(sum, count)
}

/// Reduced, in the shape of the result: one sample without an axis of samples has one number.
fn done(cx: &mut Importer<'_>, call: &Call<'_>, loss: Value) -> Result<Vec<Out>> {
    let shape = call.out_shape(0)?;
    match finished(cx, call, loss)?.as_slice() {
        [Out::Value(loss)] => Ok(vec![cx.build.reshape(*loss, shape)?.into()]),
        _ => invalid("a loss without a value"),
    }
}
