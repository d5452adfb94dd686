//! Fourier transforms, as products with a constant basis.
//!
//! A transform of n elements is one product with an n × n table, where n is small or has no factors; otherwise n = a·b, and it is transforms of a and
//! of b elements with a multiplication in between, which costs n·(a + b) instead of n². Tables are computed here in double precision; that of an axis of dynamic
//! size is computed in the call.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::complex::Pair;
use super::matmul::matmul;
use super::rearrange::{mirrored_pad, pad};
use crate::import::call::{Call, Num};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

/// A transform of at most this many elements is one product.
const DIRECT: i64 = 1024;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "fft_fft" | "fft_fft2" | "fft_fftn" => |cx, call| named(cx, call, Form::Full(-1)),
        "fft_ifft" | "fft_ifft2" | "fft_ifftn" => |cx, call| named(cx, call, Form::Full(1)),
        "fft_rfft" | "fft_rfft2" | "fft_rfftn" | "fft_ihfft" | "fft_ihfft2" | "fft_ihfftn" => {
            |cx, call| named(cx, call, Form::FromReal)
        }
        "fft_irfft" | "fft_irfft2" | "fft_irfftn" | "fft_hfft" | "fft_hfft2" | "fft_hfftn" => {
            |cx, call| named(cx, call, Form::ToReal)
        }
        "_fft_c2c" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let sign = if call.bool("forward")? { -1 } else { 1 };
            let axes = axes_of(cx, x.re, &call.ints("dim")?)?;
            let scale = scale_by(cx, x.re, &axes, call.int("normalization")?, None)?;
            let mut x = x;
            for axis in axes {
                x = along(cx, x, axis, |cx, x| full(cx, x, sign))?;
            }
            Ok(vec![x.scaled(cx, scale)?.into()])
        },
        "_fft_r2c" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let axes = axes_of(cx, x.re, &call.ints("dim")?)?;
            let scale = scale_by(cx, x.re, &axes, call.int("normalization")?, None)?;
            let half = call.bool("onesided")?;
            Ok(vec![
                from_real(cx, x, &axes, half)?.scaled(cx, scale)?.into(),
            ])
        },
        "_fft_c2r" => |cx, call| {
            let x = Pair::of(cx, call, "self")?;
            let axes = axes_of(cx, x.re, &call.ints("dim")?)?;
            let size = call.int("last_dim_size")?;
            let scale = scale_by(cx, x.re, &axes, call.int("normalization")?, Some(size))?;
            let out = to_real(cx, x, &axes, size)?;
            Ok(vec![times(cx, out, scale)?.into()])
        },
        "stft" => stft,
        "hann_window" => |cx, call| window(cx, call, &[0.5, 0.5]),
        "hamming_window" => |cx, call| {
            let given = |cx: &mut Importer<'_>, name: &str, absent: f64| {
                let has = call.schema.is_some_and(|schema| schema.arg(name).is_some());
                if has {
                    call.float(cx, name)
                } else {
                    Ok(absent)
                }
            };
            let (alpha, beta) = (given(cx, "alpha", 0.54)?, given(cx, "beta", 0.46)?);
            window(cx, call, &[alpha, beta])
        },
        "blackman_window" => |cx, call| window(cx, call, &[0.42, 0.5, 0.08]),
        _ => return None,
    })
}

/// What goes in and what comes out.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Complex to complex; the sign of the exponent.
    Full(i64),
    /// Real to the half of the spectrum that determines it.
    FromReal,
    /// The inverse of that.
    ToReal,
}

fn axes_of(cx: &Importer<'_>, x: Value, axes: &[i64]) -> Result<Vec<usize>> {
    axes.iter().map(|axis| cx.build.axis(x, *axis)).collect()
}

/// The known size of an axis.
fn known(cx: &Importer<'_>, x: Value, axis: usize) -> Result<i64> {
    match cx.build.shape(x)?.get(axis) {
        Some(size) => match size.as_const() {
            Some(n) if n > 0 => Ok(n),
            Some(_) => unsupported("a Fourier transform of an empty axis"),
            None => unsupported(format!(
                "a Fourier transform over an axis of dynamic size (`{size}`)"
            )),
        },
        None => Err(Fail::Bug(format!("no axis {axis}"))),
    }
}

/// The factor that `normalization` of the core operators asks for: none, 1/√n or 1/n; `last` is the size of the last axis where it is not x's.
fn scale_by(
    cx: &Importer<'_>,
    x: Value,
    axes: &[usize],
    mode: i64,
    last: Option<i64>,
) -> Result<f64> {
    if mode == 0 {
        return Ok(1.0);
    }
    let mut count = 1.0;
    for (n, axis) in axes.iter().enumerate() {
        let last = last.filter(|_| n + 1 == axes.len());
        count *= match last {
            Some(size) => size as f64,
            None => known(cx, x, *axis)? as f64,
        };
    }
    match mode {
        1 => Ok(1.0 / count.sqrt()),
        2 => Ok(1.0 / count),
        other => invalid(format!("normalization {other}")),
    }
}

fn times(cx: &mut Importer<'_>, x: Value, factor: f64) -> Result<Value> {
    if factor == 1.0 {
        return Ok(x);
    }
    cx.build.with_float(op::Mul {}, x, factor)
}

/// The operators of `torch.fft`: axes and sizes by their own defaults, a norm by name.
fn named(cx: &mut Importer<'_>, call: &Call<'_>, form: Form) -> Result<Vec<Out>> {
    let mut x = Pair::of(cx, call, "self")?;
    let float = promote::to_float(cx.build.dtype(x.re)?);
    x.re = cx.build.cast(x.re, float)?;
    let rank = cx.build.rank(x.re)?;
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let (given, sizes) = if has("s") {
        (call.opt_ints("dim")?, call.opt_ints("s")?)
    } else {
        (call.opt_ints("dim")?, call.opt_int("n")?.map(|n| vec![n]))
    };
    let axes = match (given, &sizes) {
        (Some(axes), _) => axes_of(cx, x.re, &axes)?,
        (None, Some(sizes)) if sizes.len() <= rank => (rank - sizes.len()..rank).collect(),
        (None, _) => (0..rank).collect(),
    };
    let Some((&last, _)) = axes.split_last() else {
        return invalid("a Fourier transform over no axes");
    };
    let to_real_form = matches!(form, Form::ToReal);
    // The size of the result's last axis, where the spectrum doesn't tell.
    let mut whole = match form {
        Form::ToReal => 2 * (known(cx, x.re, last)? - 1),
        _ => 0,
    };
    if let Some(sizes) = sizes {
        if sizes.len() != axes.len() {
            return invalid(format!("{} sizes for {} axes", sizes.len(), axes.len()));
        }
        for (axis, size) in axes.iter().zip(sizes) {
            if size < 1 {
                continue;
            }
            let size = if to_real_form && *axis == last {
                whole = size;
                size / 2 + 1
            } else {
                size
            };
            x = x.each(cx, |cx, part| resized(cx, part, *axis, size))?;
        }
    }
    // Of a signal with a real spectrum, and back: the transforms of the mirrored one, scaled as the opposite direction is.
    let mirrored = call.target.contains("hfft");
    if mirrored && to_real_form {
        x = x.conjugate(cx)?;
    }
    let inverse = matches!(form, Form::ToReal | Form::Full(1)) != mirrored;
    let mode = match call.opt_str("norm")? {
        Some("ortho") => 1,
        None | Some("backward") if inverse => 2,
        Some("forward") if !inverse => 2,
        None | Some("backward" | "forward") => 0,
        Some(other) => return invalid(format!("norm `{other}`")),
    };
    let scale = scale_by(cx, x.re, &axes, mode, to_real_form.then_some(whole))?;
    let out = match form {
        Form::Full(sign) => {
            for axis in axes {
                x = along(cx, x, axis, |cx, x| full(cx, x, sign))?;
            }
            x
        }
        Form::FromReal => from_real(cx, x, &axes, true)?,
        Form::ToReal => {
            let out = to_real(cx, x, &axes, whole)?;
            return Ok(vec![times(cx, out, scale)?.into()]);
        }
    };
    let out = out.scaled(cx, scale)?;
    Ok(vec![if mirrored { out.conjugate(cx)? } else { out }.into()])
}

/// An axis cut or filled up with zeros to `size`.
fn resized(cx: &mut Importer<'_>, x: Value, axis: usize, size: i64) -> Result<Value> {
    let old = known(cx, x, axis)?;
    if size <= old {
        return cx.build.slice(x, axis, 0i64.into(), size.into());
    }
    let after = cx.build.rank(x)? - 1 - axis;
    let mut widths = vec![Dim::from(0i64); 2 * after + 1];
    widths.push((size - old).into());
    pad(cx, x, &widths, Scalar::Int(0))
}

/// Applies a transform of the last axis to another one.
fn along(
    cx: &mut Importer<'_>,
    x: Pair,
    axis: usize,
    f: impl FnOnce(&mut Importer<'_>, Pair) -> Result<Pair>,
) -> Result<Pair> {
    let last = cx.build.rank(x.re)?.saturating_sub(1);
    let turned = x.each(cx, |cx, part| cx.build.swap(part, axis, last))?;
    f(cx, turned)?.each(cx, |cx, part| cx.build.swap(part, axis, last))
}

/// Real to complex: the last axis first, of which half the spectrum is kept where `half`.
fn from_real(cx: &mut Importer<'_>, x: Pair, axes: &[usize], half: bool) -> Result<Pair> {
    let Some((&last, others)) = axes.split_last() else {
        return invalid("a Fourier transform over no axes");
    };
    let mut out = along(cx, x, last, |cx, x| match (half, dynamic(cx, x)?) {
        (false, _) => full(cx, x, -1),
        (true, Some(n)) => {
            let kept = &n.floor_div(&2i64.into()) + &1i64.into();
            by_formula(cx, x, -1, &n, kept)
        }
        (true, None) => {
            let n = known(cx, x.re, last_axis(cx, x)?)?;
            forward(cx, x, -1, n / 2 + 1)
        }
    })?;
    for axis in others.iter().rev() {
        out = along(cx, out, *axis, |cx, x| full(cx, x, -1))?;
    }
    Ok(out)
}

/// Complex to real: `axes` but the last as usual, then the last from the half of the spectrum to `size` elements.
fn to_real(cx: &mut Importer<'_>, x: Pair, axes: &[usize], size: i64) -> Result<Value> {
    let Some((&last, others)) = axes.split_last() else {
        return invalid("a Fourier transform over no axes");
    };
    if size < 1 {
        return invalid(format!("a result of {size} elements"));
    }
    let mut x = x;
    for axis in others {
        x = along(cx, x, *axis, |cx, x| full(cx, x, 1))?;
    }
    let kept = size / 2 + 1;
    x = x.each(cx, |cx, part| resized(cx, part, last, kept))?;
    let end = cx.build.rank(x.re)?.saturating_sub(1);
    let x = x.each(cx, |cx, part| cx.build.swap(part, last, end))?;
    let out = inverse_real(cx, x, size, true)?;
    cx.build.swap(out, last, end)
}

/// The real sequence of `n` elements, not scaled, of the spectrum in the last axis, or of the half that determines it.
pub(in crate::import) fn inverse_real(
    cx: &mut Importer<'_>,
    x: Pair,
    n: i64,
    half: bool,
) -> Result<Value> {
    if !half {
        return Ok(full(cx, x, 1)?.re);
    }
    let kept = n / 2 + 1;
    if n <= DIRECT {
        // Every bin but the first and the middle one stands for two.
        let weight = |k: i64| if k == 0 || 2 * k == n { 1.0 } else { 2.0 };
        let dtype = cx.build.dtype(x.re)?;
        let cos = cx.build.table("irfft cos", dtype, [kept, n], |k, t| {
            weight(k) * angle(k, t, n).cos()
        })?;
        let re = matmul(cx, x.re, cos)?;
        let Some(im) = x.im else { return Ok(re) };
        let sin = cx.build.table("irfft sin", dtype, [kept, n], |k, t| {
            if k == 0 || 2 * k == n {
                0.0
            } else {
                -2.0 * angle(k, t, n).sin()
            }
        })?;
        let im = matmul(cx, im, sin)?;
        return cx.build.add(op::Add {}, &[re, im]);
    }
    let axis = cx.build.rank(x.re)?.saturating_sub(1);
    let tail = |cx: &mut Importer<'_>, part: Value| -> Result<Value> {
        let inner = cx
            .build
            .slice(part, axis, 1i64.into(), (n - kept + 1).into())?;
        cx.build.add(op::Flip { axes: vec![axis] }, &[inner])
    };
    let mirrored = tail(cx, x.re)?;
    let re = cx.build.cat(&[x.re, mirrored], axis)?;
    let im = match x.im {
        Some(im) => {
            let mirrored = tail(cx, im)?;
            let mirrored = cx.build.add(op::Neg {}, &[mirrored])?;
            Some(cx.build.cat(&[im, mirrored], axis)?)
        }
        None => None,
    };
    Ok(full(cx, Pair { re, im }, 1)?.re)
}

/// The whole transform of the last axis, not scaled.
fn full(cx: &mut Importer<'_>, x: Pair, sign: i64) -> Result<Pair> {
    if let Some(n) = dynamic(cx, x)? {
        return by_formula(cx, x, sign, &n, n.clone());
    }
    let n = known(cx, x.re, last_axis(cx, x)?)?;
    forward(cx, x, sign, n)
}

fn last_axis(cx: &Importer<'_>, x: Pair) -> Result<usize> {
    Ok(cx.build.rank(x.re)?.saturating_sub(1))
}

/// The size of the last axis, where only the call knows it.
fn dynamic(cx: &Importer<'_>, x: Pair) -> Result<Option<Dim>> {
    let size = cx.build.shape(x.re)?.last().cloned();
    Ok(size.filter(|n| n.as_const().is_none()))
}

/// The first `kept` elements of the transform of the last axis, of dynamic size `n`: one product with a basis that is computed in the call.
fn by_formula(cx: &mut Importer<'_>, x: Pair, sign: i64, n: &Dim, kept: Dim) -> Result<Pair> {
    let dtype = basis_dtype(cx, x)?;
    let count = |cx: &mut Importer<'_>, size: &Dim, shape: [Dim; 2]| {
        let along = cx
            .build
            .arange(0i64.into(), 1i64.into(), size.clone(), DType::I64)?;
        cx.build.reshape(along, shape.to_vec())
    };
    let t = count(cx, n, [n.clone(), 1i64.into()])?;
    let k = count(cx, &kept, [1i64.into(), kept.clone()])?;
    let size = cx.number(&Num::Dim(n.clone()), DType::I64)?;
    // Whole turns are taken out exactly.
    let steps = cx.build.add(op::Mul {}, &[t, k])?;
    let steps = cx.build.add(op::Remainder {}, &[steps, size])?;
    let steps = cx.build.cast(steps, dtype)?;
    let turned = times(cx, steps, std::f64::consts::TAU)?;
    let size = cx.build.cast(size, dtype)?;
    let angle = cx.build.add(op::Div {}, &[turned, size])?;
    let cos = cx.build.add(op::Cos {}, &[angle])?;
    let sin = cx.build.add(op::Sin {}, &[angle])?;
    let sin = times(cx, sin, sign as f64)?;
    transformed(cx, x, cos, sin)
}

/// The first `kept` elements of the transform of the last axis.
fn forward(cx: &mut Importer<'_>, x: Pair, sign: i64, kept: i64) -> Result<Pair> {
    let axis = cx.build.rank(x.re)?.saturating_sub(1);
    let n = known(cx, x.re, axis)?;
    match factor(n) {
        Some(a) if n > DIRECT => {
            let out = in_two(cx, x, sign, a, n / a)?;
            out.each(cx, |cx, part| {
                cx.build.slice(part, axis, 0i64.into(), kept.into())
            })
        }
        _ => direct(cx, x, sign, n, kept),
    }
}

/// The factor of `n` that is nearest to its root, if there is one.
fn factor(n: i64) -> Option<i64> {
    let root = n.isqrt();
    (2..=root).rev().find(|a| n % a == 0)
}

/// `2π·j·k/n`, with the multiple of 2π that it holds taken out exactly.
fn angle(j: i64, k: i64, n: i64) -> f64 {
    std::f64::consts::TAU * ((j * k) % n) as f64 / n as f64
}

/// The dtype of a basis for `x`.
fn basis_dtype(cx: &Importer<'_>, x: Pair) -> Result<DType> {
    match cx.build.dtype(x.re)? {
        dtype @ (DType::F32 | DType::F64) => Ok(dtype),
        dtype => unsupported(format!("a Fourier transform of {dtype}")),
    }
}

/// One product with the basis.
fn direct(cx: &mut Importer<'_>, x: Pair, sign: i64, n: i64, kept: i64) -> Result<Pair> {
    let dtype = basis_dtype(cx, x)?;
    let shape = [n, kept];
    let cos = cx
        .build
        .table("dft cos", dtype, shape, |t, k| angle(t, k, n).cos())?;
    let name = if sign < 0 { "dft -sin" } else { "dft sin" };
    let sin = cx.build.table(name, dtype, shape, |t, k| {
        sign as f64 * angle(t, k, n).sin()
    })?;
    transformed(cx, x, cos, sin)
}

/// A product with a basis.
fn transformed(cx: &mut Importer<'_>, x: Pair, cos: Value, sin: Value) -> Result<Pair> {
    let product = |cx: &mut Importer<'_>, a, b| matmul(cx, a, b);
    let (mut re, mut im) = (product(cx, x.re, cos)?, product(cx, x.re, sin)?);
    if let Some(imaginary) = x.im {
        let (a, b) = (product(cx, imaginary, sin)?, product(cx, imaginary, cos)?);
        re = cx.build.add(op::Sub {}, &[re, a])?;
        im = cx.build.add(op::Add {}, &[im, b])?;
    }
    Ok(Pair { re, im: Some(im) })
}

/// The transform of a·b elements: element b·t + u of the sequence and a·l + k of the spectrum, transforms over t, a turn by u·k, transforms over u.
fn in_two(cx: &mut Importer<'_>, x: Pair, sign: i64, a: i64, b: i64) -> Result<Pair> {
    let shape = cx.build.shape(x.re)?;
    let Some((_, lead)) = shape.split_last() else {
        return invalid("a Fourier transform of a 0-d tensor");
    };
    let axis = lead.len();
    let with = |tail: &[i64]| -> Vec<Dim> {
        lead.iter()
            .cloned()
            .chain(tail.iter().map(|n| (*n).into()))
            .collect()
    };
    let turn = |cx: &mut Importer<'_>, x: Value| cx.build.swap(x, axis, axis + 1);
    let split = x.each(cx, |cx, part| {
        let part = cx.build.reshape(part, with(&[a, b]))?;
        turn(cx, part)
    })?;
    let inner = full(cx, split, sign)?;
    let (n, dtype) = (a * b, cx.build.dtype(x.re)?);
    let cos = cx
        .build
        .table(&format!("turn {n} cos"), dtype, [b, a], |u, k| {
            angle(u, k, n).cos()
        })?;
    let name = format!("turn {n} {}", if sign < 0 { "-sin" } else { "sin" });
    let sin = cx.build.table(&name, dtype, [b, a], |u, k| {
        sign as f64 * angle(u, k, n).sin()
    })?;
    let turned = inner.times(
        cx,
        Pair {
            re: cos,
            im: Some(sin),
        },
    )?;
    let outer = turned.each(cx, turn)?;
    let outer = full(cx, outer, sign)?;
    outer.each(cx, |cx, part| {
        let part = turn(cx, part)?;
        cx.build.reshape(part, with(&[n]))
    })
}

/// A window that is a sum of cosines with alternating signs: `Σ (−1)ᵏ·cₖ·cos(2πk·t/n)`.
fn window(cx: &mut Importer<'_>, call: &Call<'_>, terms: &[f64]) -> Result<Vec<Out>> {
    let length = call.int("window_length")?;
    if length < 0 {
        return invalid(format!("a window of {length} elements"));
    }
    let has = call
        .schema
        .is_some_and(|schema| schema.arg("periodic").is_some());
    let periodic = !has || call.bool("periodic")?;
    let dtype = call.out_dtype(0)?;
    if length < 2 {
        return Ok(vec![
            cx.build
                .full(Scalar::Int(1), dtype, vec![length.into()])?
                .into(),
        ]);
    }
    let period = if periodic { length } else { length - 1 };
    let value = |t: i64| -> f64 {
        let terms = (0..).zip(terms);
        terms
            .map(|(k, c)| if k % 2 == 0 { *c } else { -c } * angle(k, t, period).cos())
            .sum()
    };
    let name = format!("window {terms:?} {period}");
    let wide = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let table = cx.build.table(&name, wide, [1, length], |_, t| value(t))?;
    let flat = cx.build.reshape(table, vec![length.into()])?;
    Ok(vec![cx.build.cast(flat, dtype)?.into()])
}

/// Short-time transforms: windows of the signal, `[batch?, bins, frames]`.
fn stft(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = Pair::of(cx, call, "self")?;
    let size = call.int("n_fft")?;
    let hop = call.opt_int("hop_length")?.unwrap_or(size / 4);
    let length = call.opt_int("win_length")?.unwrap_or(size);
    if size < 1 || hop < 1 || !(1..=size).contains(&length) {
        return invalid(format!(
            "windows of {length} in {size} elements, {hop} apart"
        ));
    }
    if call.target == "aten.stft.center" && call.bool("center")? {
        return centred(cx, call, x, size, hop, length);
    }
    frames(cx, call, x, size, hop, length)
}

/// Pads by half a window at both ends first.
fn centred(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: Pair,
    size: i64,
    hop: i64,
    length: i64,
) -> Result<Vec<Out>> {
    let widths = [size / 2, size / 2];
    let mode = call.opt_str("pad_mode")?.unwrap_or("reflect");
    let padded = x.each(cx, |cx, part| {
        if mode == "constant" {
            return pad(cx, part, &widths.map(Dim::from), Scalar::Int(0));
        }
        match mirrored_pad(cx, part, &widths, mode)?.as_slice() {
            [Out::Value(value)] => Ok(*value),
            _ => Err(Fail::Bug("padding has one result".to_owned())),
        }
    })?;
    frames(cx, call, padded, size, hop, length)
}

fn frames(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    x: Pair,
    size: i64,
    hop: i64,
    length: i64,
) -> Result<Vec<Out>> {
    if call.bool("align_to_window")? {
        return unsupported("windows aligned to the signal's start");
    }
    let rank = cx.build.rank(x.re)?;
    let Some((axis, samples)) = rank.checked_sub(1).zip(cx.build.shape(x.re)?.pop()) else {
        return invalid("a signal without an axis");
    };
    let count = &(&samples - &size.into()).floor_div(&hop.into()) + &Dim::from(1i64);
    if count.as_const().is_some_and(|n| n < 1) {
        return invalid(format!(
            "windows of {size} elements in a signal of {samples}"
        ));
    }
    let starts = cx
        .build
        .arange(0i64.into(), hop.into(), count.clone(), DType::I64)?;
    let starts = cx.build.reshape(starts, vec![count, 1i64.into()])?;
    let inside = cx
        .build
        .arange(0i64.into(), 1i64.into(), size.into(), DType::I64)?;
    let positions = cx.build.add(op::Add {}, &[starts, inside])?;
    let mut cut = x.each(cx, |cx, part| {
        cx.build.add(op::Take { axis }, &[part, positions])
    })?;
    if let Some(window) = call.opt_value(cx, "window")? {
        let before = (size - length) / 2;
        let widths = [before, size - length - before].map(Dim::from);
        let window = pad(cx, window, &widths, Scalar::Int(0))?;
        let window = cx.build.cast(window, cx.build.dtype(x.re)?)?;
        cut = cut.each(cx, |cx, part| cx.build.add(op::Mul {}, &[part, window]))?;
    } else if length < size {
        return unsupported("short windows without a window function");
    }
    let onesided = call.opt_num(cx, "onesided")?.is_none() || call.bool("onesided")?;
    let kept = if onesided && x.im.is_none() {
        size / 2 + 1
    } else {
        size
    };
    let mut out = forward(cx, cut, -1, kept)?;
    if call.bool("normalized")? {
        out = out.scaled(cx, 1.0 / (size as f64).sqrt())?;
    }
    let out = out.each(cx, |cx, part| cx.build.swap(part, axis, axis + 1))?;
    if call.bool("return_complex")? {
        return Ok(vec![out.into()]);
    }
    Ok(vec![out.as_real(cx)?.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_near_the_root() {
        assert_eq!(factor(2048), Some(32));
        assert_eq!(factor(1201), None);
        assert_eq!(factor(2402), Some(2));
        assert_eq!(factor(3600), Some(60));
    }

    #[test]
    fn angles_lose_no_digits_to_whole_turns() {
        assert_eq!(angle(1 << 20, 1 << 20, 1 << 10), 0.0);
        assert_eq!(angle(3, 5, 4), std::f64::consts::TAU * 0.75);
    }
}
