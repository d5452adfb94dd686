//! Windows, and the frequencies and the order of a spectrum.

use std::sync::Arc;

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, TensorType, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

/// The most elements that a table made here has.
const MOST: i64 = 1 << 20;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "bartlett_window" => {
            |cx, call| window(cx, call, "bartlett", |t| 1.0 - (2.0 * t - 1.0).abs())
        }
        "kaiser_window" => |cx, call| {
            let given = call
                .schema
                .is_some_and(|schema| schema.arg("beta").is_some());
            let beta = if given { call.float(cx, "beta")? } else { 12.0 };
            window(cx, call, &format!("kaiser {beta}"), |t| {
                let x = 2.0 * t - 1.0;
                bessel_i0(beta * (1.0 - x * x).max(0.0).sqrt()) / bessel_i0(beta)
            })
        },
        "fft_fftfreq" => |cx, call| frequencies(cx, call, false),
        "fft_rfftfreq" => |cx, call| frequencies(cx, call, true),
        "fft_fftshift" => |cx, call| shifted(cx, call, false),
        "fft_ifftshift" => |cx, call| shifted(cx, call, true),
        "logspace" if !target.ends_with("default") => |cx, call| {
            let exponents = super::create::spaced(cx, call, DType::F32)?;
            let base = call.float(cx, "base")?;
            let base = cx.build.float(base, DType::F32)?;
            let x = cx.build.add(op::Pow {}, &[base, exponents])?;
            done(cx.build.cast(x, call.out_dtype(0)?))
        },
        "logspace" => |cx, call| {
            let (start, end) = (call.float(cx, "start")?, call.float(cx, "end")?);
            let (steps, base) = (call.int("steps")?, call.float(cx, "base")?);
            let name = format!("{base} from {start} to {end}");
            let last = steps.saturating_sub(1).max(1) as f64;
            let values = |n: i64| base.powf(start + (end - start) * n as f64 / last);
            let x = listed(cx, &name, steps, values)?;
            done(cx.build.cast(x, call.out_dtype(0)?))
        },
        _ => return None,
    })
}

/// A constant row of f32.
fn listed(
    cx: &mut Importer<'_>,
    name: &str,
    count: i64,
    value: impl Fn(i64) -> f64,
) -> Result<Value> {
    if !(0..=MOST).contains(&count) {
        return unsupported(format!("a table of {count} elements"));
    }
    let bytes: Vec<u8> = (0..count)
        .flat_map(|n| (value(n) as f32).to_le_bytes())
        .collect();
    let ty = TensorType::new(DType::F32, vec![count.into()]);
    let name = format!("<{name}, {count} elements>");
    Ok(cx.build.graph.constant(name, ty, Some(Arc::new(bytes)))?)
}

/// A window as a function of 0 … 1. A periodic one is that of one element more, without its last.
fn window(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    name: &str,
    value: impl Fn(f64) -> f64,
) -> Result<Vec<Out>> {
    let count = call.int("window_length")?;
    let chosen = call
        .schema
        .is_some_and(|schema| schema.arg("periodic").is_some());
    let periodic = !chosen || call.bool("periodic")?;
    let last = if periodic { count } else { count - 1 };
    let name = format!("{name} window over {last}");
    let row = listed(cx, &name, count, |n| match last {
        0 => 1.0,
        _ if count == 1 => 1.0,
        last => value(n as f64 / last as f64),
    })?;
    done(cx.build.cast(row, call.out_dtype(0)?))
}

/// The modified Bessel function I₀, by its power series: all terms are positive.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-17 && k < 1000.0 {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

/// The frequencies of a spectrum of n samples `d` apart: 0, 1, … and, of a whole one, the negative ones behind them.
fn frequencies(cx: &mut Importer<'_>, call: &Call<'_>, half: bool) -> Result<Vec<Out>> {
    let (n, d) = (call.int("n")?, call.float(cx, "d")?);
    if n < 1 {
        return invalid("a spectrum of no samples");
    }
    let count = if half { n / 2 + 1 } else { n };
    let name = format!("frequencies of {n} samples {d} apart");
    let row = listed(cx, &name, count, |k| {
        let k = if half || k < n - n / 2 { k } else { k - n };
        k as f64 / (n as f64 * d)
    })?;
    done(cx.build.cast(row, call.out_dtype(0)?))
}

/// The zero frequency moved to the middle of the axes, or back.
fn shifted(cx: &mut Importer<'_>, call: &Call<'_>, back: bool) -> Result<Vec<Out>> {
    let mut x = call.value(cx, "self")?;
    let rank = cx.build.rank(x)?;
    let axes = match call.opt_ints("dim")? {
        Some(axes) => super::movement::sorted_axes(axes, rank)?,
        None => (0..rank).collect(),
    };
    for axis in axes {
        let size = cx.build.shape(x)?[axis].clone();
        let Some(n) = size.as_const() else {
            return unsupported("a shift of an axis of dynamic size");
        };
        let first = if back { n / 2 } else { n - n / 2 };
        let head = cx.build.slice(x, axis, 0i64.into(), first.into())?;
        let tail = cx.build.slice(x, axis, first.into(), size)?;
        x = cx.build.add(op::Cat { axis }, &[tail, head])?;
    }
    done(Ok(x))
}
