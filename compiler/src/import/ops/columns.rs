//! Sliding blocks as columns, and their inverse: blocks added where they overlap.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Dim, Scalar, Value};

use super::complex::Pair;
use super::conv::per_axis;
use super::fourier;
use super::pointwise::done;
use super::rearrange::pad;
use crate::import::call::Call;
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.im2col.default" => im2col,
        "aten.col2im.default" => col2im,
        "aten.istft.default" => istft,
        _ => return None,
    })
}

/// The blocks of an image along its two axes.
struct Blocks {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    padding: Vec<usize>,
    dilation: Vec<usize>,
}

impl Blocks {
    fn of(call: &Call<'_>) -> Result<Self> {
        let blocks = Self {
            kernel: per_axis(call, "kernel_size", 2, 1)?,
            stride: per_axis(call, "stride", 2, 1)?,
            padding: per_axis(call, "padding", 2, 0)?,
            dilation: per_axis(call, "dilation", 2, 1)?,
        };
        let positive = [&blocks.kernel, &blocks.stride, &blocks.dilation];
        if positive.iter().any(|list| list.contains(&0)) {
            return invalid("a kernel, stride or dilation of 0");
        }
        Ok(blocks)
    }

    /// How many blocks start along an axis of that size.
    fn count(&self, axis: usize, size: &Dim) -> Dim {
        let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        let span = &(size + &Dim::from(2 * self.padding[axis])) - &Dim::from(reach);
        &span.floor_div(&Dim::from(self.stride[axis])) + &Dim::from(1i64)
    }
}

/// `[N?, C, H, W]` to `[N?, C · block, blocks]`.
fn im2col(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let blocks = Blocks::of(call)?;
    let x = call.value(cx, "self")?;
    let shape = cx.build.shape(x)?;
    let [lead @ .., channels, height, width] = shape.as_slice() else {
        return invalid("an image has three axes at least");
    };
    let (first, out) = (lead.len() + 1, call.out_shape(0)?);
    let widths = [1, 1, 0, 0].map(|axis| Dim::from(blocks.padding[axis]));
    let x = pad(cx, x, &widths, Scalar::Int(0))?;
    let window = op::Window {
        axes: vec![first, first + 1],
        sizes: blocks.kernel.clone(),
        steps: blocks.stride.clone(),
        dilations: blocks.dilation.clone(),
    };
    let cut = cx.build.add(window, &[x])?;
    // [.., C, blocks down, blocks across, kernel down, kernel across], the kernel first.
    let perm = (0..first)
        .chain([first + 2, first + 3, first, first + 1])
        .collect();
    let turned = cx.build.transpose(cut, perm)?;
    let mut flat = lead.to_vec();
    flat.push(channels * &Dim::from(blocks.kernel[0] * blocks.kernel[1]));
    flat.push(&blocks.count(0, height) * &blocks.count(1, width));
    if flat.len() != out.len() {
        return invalid("columns of another rank than the image's");
    }
    done(cx.build.reshape(turned, flat))
}

/// The inverse of [`im2col`], where blocks that overlap add up.
fn col2im(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let blocks = Blocks::of(call)?;
    let x = call.value(cx, "self")?;
    let shape = cx.build.shape(x)?;
    let size = call.dims("output_size")?;
    let ([lead @ .., rows, _], [height, width]) = (shape.as_slice(), size.as_slice()) else {
        return invalid("columns have two axes at least, an image two sizes");
    };
    let first = lead.len() + 1;
    let kernel = Dim::from(blocks.kernel[0] * blocks.kernel[1]);
    let mut split = lead.to_vec();
    split.extend([
        rows.floor_div(&kernel),
        Dim::from(blocks.kernel[0]),
        Dim::from(blocks.kernel[1]),
        blocks.count(0, height),
        blocks.count(1, width),
    ]);
    let mut x = cx.build.reshape(x, split)?;
    for axis in [1, 0] {
        // The axis of the kernel, and that of the blocks.
        let (tap, block) = (first + axis, first + axis + 2 - (1 - axis));
        let spread = spread(cx, x, block, blocks.stride[axis])?;
        let added = overlapped(cx, spread, tap, block, blocks.dilation[axis])?;
        x = cropped(cx, added, block - 1, blocks.padding[axis], &size[axis])?;
    }
    done(Ok(x))
}

/// `step − 1` zeros after each element of an axis.
fn spread(cx: &mut Importer<'_>, x: Value, axis: usize, step: usize) -> Result<Value> {
    if step == 1 {
        return Ok(x);
    }
    let mut shape = cx.build.shape(x)?;
    let apart = cx.build.unsqueeze(x, axis + 1)?;
    let padded = around(cx, apart, axis + 1, 0i64.into(), (step - 1).into())?;
    shape[axis] = &shape[axis] * &Dim::from(step);
    cx.build.reshape(padded, shape)
}

/// Zeros before and after an axis.
fn around(cx: &mut Importer<'_>, x: Value, axis: usize, low: Dim, high: Dim) -> Result<Value> {
    let after = cx.build.rank(x)?.saturating_sub(axis + 1);
    let mut widths = vec![Dim::from(0i64); 2 * after];
    widths.extend([low, high]);
    pad(cx, x, &widths, Scalar::Int(0))
}

/// The sum over `taps` of what stands along `axis`, each moved by `step` more than the one before; `taps`, which comes before `axis`, goes.
fn overlapped(
    cx: &mut Importer<'_>,
    x: Value,
    taps: usize,
    axis: usize,
    step: usize,
) -> Result<Value> {
    let shape = cx.build.shape(x)?;
    let count = shape.get(taps).and_then(|n| n.as_const());
    let Some(count) = count.and_then(|n| usize::try_from(n).ok()) else {
        return Err(Fail::Bug("blocks of unknown size".to_owned()));
    };
    let mut rest = shape;
    rest.remove(taps);
    let mut sum = None;
    for n in 0..count {
        let one = cx.build.slice(x, taps, n.into(), (n + 1).into())?;
        let one = cx.build.reshape(one, rest.clone())?;
        let (low, high) = (n * step, (count - 1 - n) * step);
        let moved = around(cx, one, axis - 1, low.into(), high.into())?;
        sum = Some(match sum {
            None => moved,
            Some(sum) => cx.build.add(op::Add {}, &[sum, moved])?,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => invalid("empty blocks"),
    }
}

/// Elements `start .. start + size` of an axis; zeros where it ends before.
fn cropped(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    start: usize,
    size: &Dim,
) -> Result<Value> {
    let start = Dim::from(start);
    let stop = &start + size;
    let there = cx.build.shape(x)?[axis].clone();
    let lacking = (&stop - &there).maximum(&0i64.into());
    let x = around(cx, x, axis, 0i64.into(), lacking)?;
    cx.build.slice(x, axis, start, stop)
}

/// The signal of short-time transforms `[batch?, bins, frames]`: frames back in time, added, and divided by the sum of the squared windows.
fn istft(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = Pair::of(cx, call, "self")?;
    let size = call.int("n_fft")?;
    let hop = call.opt_int("hop_length")?.unwrap_or(size / 4);
    let length = call.opt_int("win_length")?.unwrap_or(size);
    let (Ok(n_fft), Ok(step)) = (usize::try_from(size), usize::try_from(hop)) else {
        return invalid("a negative size of windows");
    };
    if n_fft == 0 || step == 0 || !(1..=size).contains(&length) {
        return invalid(format!(
            "windows of {length} in {size} elements, {hop} apart"
        ));
    }
    if call.bool("return_complex")? {
        return unsupported("a complex signal");
    }
    let onesided = call.opt_num(cx, "onesided")?.is_none() || call.bool("onesided")?;
    let rank = cx.build.rank(x.re)?;
    if rank < 2 {
        return invalid("a spectrum has two axes at least");
    }
    let turned = x.each(cx, |cx, part| cx.build.swap(part, rank - 2, rank - 1))?;
    let mut frames = fourier::inverse_real(cx, turned, size, onesided)?;
    let scale = if call.bool("normalized")? {
        1.0 / (size as f64).sqrt()
    } else {
        1.0 / size as f64
    };
    frames = cx.build.with_float(op::Mul {}, frames, scale)?;
    let dtype = cx.build.dtype(frames)?;
    let window = match call.opt_value(cx, "window")? {
        Some(window) => cx.build.cast(window, dtype)?,
        None => cx.build.full(Scalar::Int(1), dtype, vec![length.into()])?,
    };
    let before = (size - length) / 2;
    let widths = [before, size - length - before].map(Dim::from);
    let window = pad(cx, window, &widths, Scalar::Int(0))?;
    frames = cx.build.add(op::Mul {}, &[frames, window])?;
    let count = cx.build.shape(frames)?[rank - 2].clone();
    let squares = cx.build.add(op::Square {}, &[window])?;
    let squares = cx
        .build
        .broadcast(squares, vec![count.clone(), size.into()])?;
    let signal = added_frames(cx, frames, step)?;
    let weight = added_frames(cx, squares, step)?;

    let start = if call.bool("center")? { size / 2 } else { 0 };
    let whole = &(&(&count - &1i64.into()) * &hop.into()) + &size.into();
    let wanted = match call.opt_dim("length")? {
        Some(length) => length,
        None => &whole - &Dim::from(2 * start),
    };
    let kept = wanted.minimum(&(&whole - &start.into()));
    let stop = &kept + &start.into();
    let signal = cx
        .build
        .slice(signal, rank - 2, start.into(), stop.clone())?;
    let weight = cx.build.slice(weight, 0, start.into(), stop)?;
    let out = cx.build.add(op::Div {}, &[signal, weight])?;
    done(around(cx, out, rank - 2, 0i64.into(), &wanted - &kept))
}

/// Frames `[.., count, n]`, `step` apart, added to one signal of at least `(count − 1)·step + n` elements.
fn added_frames(cx: &mut Importer<'_>, x: Value, step: usize) -> Result<Value> {
    // Frames are cut into pieces of one step, so that what is added is whole pieces.
    let mut shape = cx.build.shape(x)?;
    let (Some(size), Some(count)) = (shape.pop(), shape.pop()) else {
        return Err(Fail::Bug("frames without axes".to_owned()));
    };
    let Some(size) = size.as_const().and_then(|n| usize::try_from(n).ok()) else {
        return unsupported("windows of dynamic size");
    };
    let pieces = size.div_ceil(step);
    let (lead, axis) = (shape, cx.build.rank(x)? - 1);
    let x = around(cx, x, axis, 0i64.into(), (pieces * step - size).into())?;
    let with = |tail: &[Dim]| -> Vec<Dim> { lead.iter().chain(tail).cloned().collect() };
    let split = cx
        .build
        .reshape(x, with(&[count.clone(), pieces.into(), step.into()]))?;
    let split = cx.build.swap(split, axis - 1, axis)?;
    let added = overlapped(cx, split, axis - 1, axis, 1)?;
    let total = &(&count + &(pieces - 1).into()) * &step.into();
    cx.build.reshape(added, with(&[total]))
}
