//! Quantisation as training simulates it: rounded to integers and back at once.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Value};

use super::pointwise::Arg;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer, Out, promote};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.fake_quantize_per_tensor_affine.default"
        | "aten.fake_quantize_per_tensor_affine.tensor_qparams"
        | "aten.fake_quantize_per_tensor_affine_cachemask.default"
        | "aten.fake_quantize_per_channel_affine.default"
        | "aten.fake_quantize_per_channel_affine_cachemask.default" => fake_quantize,
        "aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams.default" => switched,
        _ => return None,
    })
}

/// (clamp(round(x / scale) + zero, least, most) − zero) · scale, with one scale and zero for all or for each place of an axis; and where nothing was cut off.
fn fake_quantize(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let dtype = cx.build.dtype(x)?;
    let wide = promote::compute_type(dtype);
    let x = cx.build.cast(x, wide)?;
    let by_channel = call.target.contains("per_channel");
    let rank = cx.build.rank(x)?;
    let shape = match by_channel {
        true => {
            let axis = cx.build.axis(x, call.int("axis")?)?;
            let mut shape = vec![Dim::from(1i64); rank];
            match (shape.get_mut(axis), cx.build.shape(x)?.get(axis)) {
                (Some(own), Some(size)) => *own = size.clone(),
                _ => return invalid("the channels of a 0-d tensor"),
            }
            shape
        }
        false => Vec::new(),
    };
    let mut parameters = Vec::new();
    let mut rounds_late = false;
    for name in ["scale", "zero_point"] {
        let given = super::pointwise::tensor_or_number(cx, call, name)?;
        if let (Arg::Tensor(value), true) = (&given, name == "zero_point") {
            rounds_late = cx.build.dtype(*value)?.is_float();
        }
        let value = given.to(cx, wide)?;
        parameters.push(cx.build.reshape(value, shape.clone())?);
    }
    let (scale, zero) = (parameters[0], parameters[1]);
    let (least, most) = (call.int("quant_min")? as f64, call.int("quant_max")? as f64);
    let inverse = cx.build.add(op::Reciprocal {}, &[scale])?;
    let scaled = cx.build.times(x, inverse)?;
    let code = if rounds_late {
        let moved = cx.build.plus(scaled, zero)?;
        cx.build.add(op::Round {}, &[moved])?
    } else {
        let rounded = cx.build.add(op::Round {}, &[scaled])?;
        cx.build.plus(rounded, zero)?
    };
    let kept = cx.build.with_float(op::Maximum {}, code, least)?;
    let kept = cx.build.with_float(op::Minimum {}, kept, most)?;
    let centred = cx.build.minus(kept, zero)?;
    let back = cx.build.times(centred, scale)?;
    let mut outs = vec![cx.build.cast(back, dtype)?.into()];
    if call.out_names().len() > 1 {
        outs.push(inside(cx, code, least, most)?.into());
    }
    Ok(outs)
}

/// The same where it is switched on, and `self` where it is off.
fn switched(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let switch = call.value(cx, "fake_quant_enabled")?;
    let switch = cx.build.reshape(switch, Vec::new())?;
    let switch = cx.build.cast(switch, DType::Bool)?;
    let [Out::Value(quantised), Out::Value(inside)] = fake_quantize(cx, call)?[..] else {
        return invalid("a result and where it was not cut off are asked for");
    };
    let off = cx.build.add(op::LogicalNot {}, &[switch])?;
    let kept = cx.build.add(op::LogicalOr {}, &[inside, off])?;
    Ok(vec![
        cx.build.select(switch, quantised, x)?.into(),
        kept.into(),
    ])
}

/// Where a code is within its bounds.
fn inside(cx: &mut Importer<'_>, code: Value, least: f64, most: f64) -> Result<Value> {
    let dtype: DType = cx.build.dtype(code)?;
    let (least, most) = (cx.build.float(least, dtype)?, cx.build.float(most, dtype)?);
    let above = cx.build.add(op::Ge {}, &[code, least])?;
    let below = cx.build.add(op::Le {}, &[code, most])?;
    cx.build.add(op::LogicalAnd {}, &[above, below])
}
