//! Pooling: windows of the spatial axes, reduced.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::conv::per_axis;
use super::cumulative::least;
use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "max_pool1d" => |cx, call| max_pool(cx, call, 1, false),
        "max_pool2d" => |cx, call| max_pool(cx, call, 2, false),
        "max_pool3d" => |cx, call| max_pool(cx, call, 3, false),
        "max_pool1d_with_indices" => |cx, call| max_pool(cx, call, 1, true),
        "max_pool2d_with_indices" => |cx, call| max_pool(cx, call, 2, true),
        "max_pool3d_with_indices" => |cx, call| max_pool(cx, call, 3, true),
        "avg_pool1d" => |cx, call| avg_pool(cx, call, 1),
        "avg_pool2d" => |cx, call| avg_pool(cx, call, 2),
        "avg_pool3d" => |cx, call| avg_pool(cx, call, 3),
        "adaptive_avg_pool1d" => |cx, call| adaptive(cx, call, 1, false),
        "adaptive_avg_pool2d" | "_adaptive_avg_pool2d" => |cx, call| adaptive(cx, call, 2, false),
        "adaptive_avg_pool3d" | "_adaptive_avg_pool3d" => |cx, call| adaptive(cx, call, 3, false),
        "adaptive_max_pool1d" => |cx, call| adaptive(cx, call, 1, true),
        "adaptive_max_pool2d" => |cx, call| adaptive(cx, call, 2, true),
        "adaptive_max_pool3d" => |cx, call| adaptive(cx, call, 3, true),
        _ => return None,
    })
}

/// The windows of the last axes.
struct Windows {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    padding: Vec<usize>,
    dilation: Vec<usize>,
}

impl Windows {
    fn of(call: &Call<'_>, n: usize) -> Result<Self> {
        let kernel = per_axis(call, "kernel_size", n, 1)?;
        let has_dilation = call
            .schema
            .is_some_and(|schema| schema.arg("dilation").is_some());
        Ok(Self {
            stride: match call.opt_ints("stride")? {
                Some(stride) if !stride.is_empty() => per_axis(call, "stride", n, 1)?,
                _ => kernel.clone(),
            },
            padding: per_axis(call, "padding", n, 0)?,
            dilation: if has_dilation {
                per_axis(call, "dilation", n, 1)?
            } else {
                vec![1; n]
            },
            kernel,
        })
    }

    /// `x` with its last axes padded by `value` and cut into windows: [.., windows…, positions…]. With a ceiling the last window may
    /// reach further than the padding; the recorded sizes say how far.
    fn apply(
        &self,
        cx: &mut Importer<'_>,
        x: Value,
        value: Scalar,
        out: &[Dim],
        ceil: bool,
    ) -> Result<Value> {
        let shape = cx.build.shape(x)?;
        if out.len() != shape.len() {
            let (given, made) = (shape.len(), out.len());
            return invalid(format!(
                "pooling makes {made} dimensions of {given}, the archive says"
            ));
        }
        let n = self.kernel.len();
        let first = shape.len() - n;
        let zero = || Dim::from(0i64);
        let (mut low, mut high) = (vec![zero(); shape.len()], vec![zero(); shape.len()]);
        for axis in 0..n {
            let padding = Dim::from(self.padding[axis]);
            low[first + axis] = padding.clone();
            high[first + axis] = padding.clone();
            if ceil {
                let last = &(&out[first + axis] - &Dim::from(1i64)) * &Dim::from(self.stride[axis]);
                let needed = &last + &Dim::from((self.kernel[axis] - 1) * self.dilation[axis] + 1);
                let extra = &(&needed - &shape[first + axis]) - &padding;
                high[first + axis] = match extra.as_const() {
                    Some(extra) => {
                        Dim::from(extra.max(i64::try_from(self.padding[axis]).unwrap_or(i64::MAX)))
                    }
                    None => extra.maximum(&padding),
                };
            }
        }
        let mut x = x;
        if low.iter().chain(&high).any(|width| !width.is(0)) {
            x = cx.build.add(
                op::Pad {
                    low,
                    high,
                    value: value.cast(cx.build.dtype(x)?),
                },
                &[x],
            )?;
        }
        let window = op::Window {
            axes: (first..shape.len()).collect(),
            sizes: self.kernel.clone(),
            steps: self.stride.clone(),
            dilations: self.dilation.clone(),
        };
        cx.build.add(window, &[x])
    }
}

/// What is pooled over its last n axes, and the windows.
fn pooled(cx: &mut Importer<'_>, call: &Call<'_>, n: usize) -> Result<(Value, Windows)> {
    let x = call.value(cx, "self")?;
    match cx.build.rank(x)? {
        rank if rank < n => invalid(format!("{n}-d pooling of a {rank}-d tensor")),
        _ => Ok((x, Windows::of(call, n)?)),
    }
}

fn max_pool(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    n: usize,
    with_indices: bool,
) -> Result<Vec<Out>> {
    let (x, windows) = pooled(cx, call, n)?;
    let (shape, out) = (cx.build.shape(x)?, call.out_shape(0)?);
    let parts = windows.apply(
        cx,
        x,
        least(cx.build.dtype(x)?),
        &out,
        call.bool("ceil_mode")?,
    )?;
    let rank = cx.build.rank(parts)?;
    let max = cx.build.add(
        op::Amax {
            axes: (rank - n..rank).collect(),
            keepdim: false,
        },
        &[parts],
    )?;
    if !with_indices {
        return done(Ok(max));
    }
    // Positions in a window, then in the plane that the window was cut from.
    let parts_shape = cx.build.shape(parts)?;
    let inside = windows.kernel.iter().product::<usize>();
    let flat = cx.build.reshape(
        parts,
        [&parts_shape[..rank - n], &[Dim::from(inside)]].concat(),
    )?;
    let mut rest = largest(cx, flat, rank - n)?;
    let first = shape.len() - n;
    let mut position = None;
    let mut scale = Dim::from(1i64);
    for axis in (0..n).rev() {
        let kernel = cx.build.scalar(
            Scalar::Int(i64::try_from(windows.kernel[axis]).unwrap_or(1)),
            DType::I64,
        )?;
        let step = cx.build.add(op::Remainder {}, &[rest, kernel])?;
        rest = cx.build.add(op::FloorDiv {}, &[rest, kernel])?;
        let dilation = cx.build.scalar(
            Scalar::Int(i64::try_from(windows.dilation[axis]).unwrap_or(1)),
            DType::I64,
        )?;
        let offset = cx.build.add(op::Mul {}, &[step, dilation])?;
        let start = -i64::try_from(windows.padding[axis]).unwrap_or(0);
        let starts = cx.build.arange(
            start.into(),
            Dim::from(windows.stride[axis]),
            out[first + axis].clone(),
            DType::I64,
        )?;
        let mut lined = vec![Dim::from(1i64); out.len()];
        lined[first + axis] = out[first + axis].clone();
        let starts = cx.build.reshape(starts, lined)?;
        let mut at = cx.build.add(op::Add {}, &[starts, offset])?;
        if start < 0 {
            // A window without anything above −∞ counts from its first position that is not padding.
            let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
            let padding = cx.build.add(op::Lt {}, &[at, zero])?;
            let first = cx.build.add(op::Remainder {}, &[at, dilation])?;
            at = cx.build.select(padding, first, at)?;
        }
        let number = match scale.as_const() {
            Some(n) => crate::import::call::Num::Known(Scalar::Int(n)),
            None => crate::import::call::Num::Dim(scale.clone()),
        };
        let factor = cx.number(&number, DType::I64)?;
        let scaled = cx.build.add(op::Mul {}, &[at, factor])?;
        position = Some(match position {
            None => scaled,
            Some(position) => cx.build.add(op::Add {}, &[position, scaled])?,
        });
        scale = &scale * &shape[first + axis];
    }
    match position {
        Some(position) => Ok(vec![max.into(), position.into()]),
        None => invalid("pooling without axes"),
    }
}

fn avg_pool(cx: &mut Importer<'_>, call: &Call<'_>, n: usize) -> Result<Vec<Out>> {
    let (x, windows) = pooled(cx, call, n)?;
    let (shape, out) = (cx.build.shape(x)?, call.out_shape(0)?);
    let ceil = call.bool("ceil_mode")?;
    let counts_padding = call.bool("count_include_pad")?;
    let dtype = cx.build.dtype(x)?;
    let wide = promote::compute_type(dtype);
    let x = cx.build.cast(x, wide)?;
    let parts = windows.apply(cx, x, Scalar::Int(0), &out, ceil)?;
    let rank = cx.build.rank(parts)?;
    let axes: Vec<usize> = (rank - n..rank).collect();
    let has_override = call
        .schema
        .is_some_and(|schema| schema.arg("divisor_override").is_some());
    let divisor = if has_override {
        call.opt_int("divisor_override")?
    } else {
        None
    };
    let unpadded = windows.padding.iter().all(|padding| *padding == 0);
    if dtype.is_int() && !dtype.is_float() {
        let (axes, keepdim) = (axes, false);
        let sum = cx.build.add(op::Sum { axes, keepdim }, &[parts])?;
        let count = match divisor {
            Some(divisor) => cx.build.scalar(Scalar::Int(divisor), DType::I64)?,
            None => window_counts(cx, &windows, &shape, &out, DType::I64, counts_padding, ceil)?,
        };
        let quotient = towards_zero(cx, sum, count)?;
        return done(cx.build.cast(quotient, dtype));
    }
    let result = if divisor.is_none() && !ceil && (unpadded || counts_padding) {
        cx.build.add(
            op::Mean {
                axes,
                keepdim: false,
            },
            &[parts],
        )?
    } else {
        let sum = cx.build.add(
            op::Sum {
                axes: axes.clone(),
                keepdim: false,
            },
            &[parts],
        )?;
        match divisor {
            Some(divisor) => cx.build.with_float(op::Div {}, sum, divisor as f64)?,
            None => {
                let count = window_counts(cx, &windows, &shape, &out, wide, counts_padding, ceil)?;
                cx.build.add(op::Div {}, &[sum, count])?
            }
        }
    };
    done(cx.build.cast(result, dtype))
}

/// The quotient of integers, rounded towards zero.
fn towards_zero(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    let size = cx.build.add(op::Abs {}, &[a])?;
    let quotient = cx.build.add(op::FloorDiv {}, &[size, b])?;
    let sign = cx.build.add(op::Sign {}, &[a])?;
    cx.build.times(sign, quotient)
}

/// Where the first largest element of an axis is, or the last NaN, if there is one.
fn largest(cx: &mut Importer<'_>, x: Value, axis: usize) -> Result<Value> {
    let keepdim = false;
    let first = cx.build.add(op::Argmax { axis, keepdim }, &[x])?;
    if !cx.build.dtype(x)?.is_float() {
        return Ok(first);
    }
    let nan = cx.build.add(op::Ne {}, &[x, x])?;
    let axes = vec![axis];
    let some = cx.build.add(op::Any { axes, keepdim }, &[nan])?;
    let marks = cx.build.cast(nan, DType::U8)?;
    let mirrored = cx.build.add(op::Flip { axes: vec![axis] }, &[marks])?;
    let from_end = cx.build.add(op::Argmax { axis, keepdim }, &[mirrored])?;
    let Some(size) = cx.build.shape(x)?.get(axis).cloned() else {
        return invalid("the largest element of a 0-d tensor");
    };
    let end = super::index::dim_tensor(cx, &(&size - &Dim::from(1i64)))?;
    let last = cx.build.minus(end, from_end)?;
    cx.build.select(some, last, first)
}

/// How many positions of each window count: those of the tensor, and of its padding where that counts.
fn window_counts(
    cx: &mut Importer<'_>,
    windows: &Windows,
    shape: &[Dim],
    out: &[Dim],
    dtype: DType,
    counts_padding: bool,
    ceil: bool,
) -> Result<Value> {
    let n = windows.kernel.len();
    let first = shape.len() - n;
    let ones = vec![Dim::from(1i64); first];
    let mut marks = cx.build.full(
        Scalar::Int(1),
        dtype,
        [ones.as_slice(), &shape[first..]].concat(),
    )?;
    let mut around = Windows {
        kernel: windows.kernel.clone(),
        stride: windows.stride.clone(),
        padding: windows.padding.clone(),
        dilation: windows.dilation.clone(),
    };
    if counts_padding {
        let padding: Vec<Dim> = vec![Dim::from(0i64); first]
            .into_iter()
            .chain(windows.padding.iter().map(|p| Dim::from(*p)))
            .collect();
        marks = cx.build.add(
            op::Pad {
                low: padding.clone(),
                high: padding,
                value: Scalar::Int(1).cast(dtype),
            },
            &[marks],
        )?;
        around.padding = vec![0; n];
    }
    let parts = around.apply(cx, marks, Scalar::Int(0), out, ceil)?;
    let rank = cx.build.rank(parts)?;
    cx.build.add(
        op::Sum {
            axes: (rank - n..rank).collect(),
            keepdim: false,
        },
        &[parts],
    )
}

/// Regions of an axis that are pooled each by itself; more are cut out together.
const MOST_REGIONS: i64 = 64;

/// The regions of an axis that adaptive pooling makes.
struct Regions {
    /// How many there are.
    count: Dim,
    /// The length of the longest.
    longest: Dim,
    /// Where they start and stop, `[count, 1]`.
    start: Value,
    stop: Value,
    /// Their positions, `[count, longest]`, within the axis.
    at: Value,
    /// Which of those positions belong to the region.
    inside: Value,
}

impl Regions {
    fn of(cx: &mut Importer<'_>, from: &Dim, to: &Dim) -> Result<Self> {
        let one = Dim::from(1i64);
        let above = &(from + to) - &one;
        let longest = &above.floor_div(to) + &one;
        let (size, count) = (whole(cx, from)?, whole(cx, to)?);
        let number = cx
            .build
            .arange(0i64.into(), one.clone(), to.clone(), DType::I64)?;
        let scaled = cx.build.add(op::Mul {}, &[number, size])?;
        let start = cx.build.add(op::FloorDiv {}, &[scaled, count])?;
        let above = whole(cx, &above)?;
        let next = cx.build.add(op::Add {}, &[scaled, above])?;
        let stop = cx.build.add(op::FloorDiv {}, &[next, count])?;
        let (start, stop) = (cx.build.unsqueeze(start, 1)?, cx.build.unsqueeze(stop, 1)?);
        let inside = cx
            .build
            .arange(0i64.into(), one.clone(), longest.clone(), DType::I64)?;
        let at = cx.build.add(op::Add {}, &[start, inside])?;
        let inside = cx.build.add(op::Lt {}, &[at, stop])?;
        let end = whole(cx, &(from - &one))?;
        Ok(Self {
            count: to.clone(),
            longest,
            start,
            stop,
            at: cx.build.add(op::Minimum {}, &[at, end])?,
            inside,
        })
    }

    /// `x` with an axis cut into regions and positions; positions outside of their region are `neutral`.
    fn cut(&self, cx: &mut Importer<'_>, x: Value, axis: usize, neutral: Scalar) -> Result<Value> {
        let parts = cx.build.add(op::Take { axis }, &[x, self.at])?;
        let mut lined = vec![self.count.clone(), self.longest.clone()];
        lined.resize(cx.build.rank(parts)? - axis, Dim::from(1i64));
        let mask = cx.build.reshape(self.inside, lined)?;
        let neutral = cx.build.scalar(neutral, cx.build.dtype(x)?)?;
        cx.build.select(mask, parts, neutral)
    }
}

/// One axis pooled to `to` regions, all of them at once: of sizes that are known only at run time, or too many for an instruction each.
fn regions_at_once(
    cx: &mut Importer<'_>,
    x: Value,
    axis: usize,
    to: &Dim,
    max: bool,
) -> Result<Value> {
    let from = cx.build.shape(x)?[axis].clone();
    let regions = Regions::of(cx, &from, to)?;
    let dtype = cx.build.dtype(x)?;
    let neutral = if max { least(dtype) } else { Scalar::Int(0) };
    let parts = regions.cut(cx, x, axis, neutral)?;
    let (axes, keepdim) = (vec![axis + 1], false);
    if max {
        return cx.build.add(op::Amax { axes, keepdim }, &[parts]);
    }
    let sum = cx.build.add(op::Sum { axes, keepdim }, &[parts])?;
    let length = cx.build.add(op::Sub {}, &[regions.stop, regions.start])?;
    let mut lined = vec![to.clone()];
    lined.resize(cx.build.rank(sum)? - axis, Dim::from(1i64));
    let length = cx.build.reshape(length, lined)?;
    let length = cx.build.cast(length, dtype)?;
    cx.build.add(op::Div {}, &[sum, length])
}

/// Where the largest elements of the regions of the last `n` axes stand, counted within these axes.
fn adaptive_indices(cx: &mut Importer<'_>, x: Value, n: usize, out: &[Dim]) -> Result<Value> {
    let shape = cx.build.shape(x)?;
    let lead = shape.len() - n;
    let neutral = least(cx.build.dtype(x)?);
    let mut parts = x;
    let mut all = Vec::new();
    for axis in (lead..shape.len()).rev() {
        let regions = Regions::of(cx, &shape[axis], &out[axis])?;
        parts = regions.cut(cx, parts, axis, neutral)?;
        all.push(regions);
    }
    // [.., regions, positions, regions, positions, ..]: positions last, and as one axis.
    let perm = (0..lead)
        .chain((0..n).map(|i| lead + 2 * i))
        .chain((0..n).map(|i| lead + 2 * i + 1))
        .collect();
    let parts = cx.build.transpose(parts, perm)?;
    let mut flat = out.to_vec();
    flat.push(
        all.iter()
            .fold(Dim::from(1i64), |n, regions| &n * &regions.longest),
    );
    let parts = cx.build.reshape(parts, flat)?;
    let mut rest = largest(cx, parts, out.len())?;
    let mut sum = None;
    let mut scale = Dim::from(1i64);
    for (axis, regions) in (lead..shape.len()).rev().zip(&all) {
        let longest = whole(cx, &regions.longest)?;
        let step = cx.build.add(op::Remainder {}, &[rest, longest])?;
        rest = cx.build.add(op::FloorDiv {}, &[rest, longest])?;
        let mut lined = vec![regions.count.clone()];
        lined.resize(out.len() - axis, Dim::from(1i64));
        let start = cx.build.reshape(regions.start, lined)?;
        let at = cx.build.add(op::Add {}, &[start, step])?;
        let factor = whole(cx, &scale)?;
        let at = cx.build.add(op::Mul {}, &[at, factor])?;
        sum = Some(match sum {
            None => at,
            Some(sum) => cx.build.add(op::Add {}, &[sum, at])?,
        });
        scale = &scale * &shape[axis];
    }
    match sum {
        Some(sum) => Ok(sum),
        None => invalid("pooling without axes"),
    }
}

/// A size as a 0-d tensor of i64.
fn whole(cx: &mut Importer<'_>, size: &Dim) -> Result<Value> {
    let number = match size.as_const() {
        Some(n) => crate::import::call::Num::Known(Scalar::Int(n)),
        None => crate::import::call::Num::Dim(size.clone()),
    };
    cx.number(&number, DType::I64)
}

/// Pooling to given sizes: region i of an axis is `⌊i·n/m⌋ .. ⌈(i+1)·n/m⌉`. Axes are independent.
fn adaptive(cx: &mut Importer<'_>, call: &Call<'_>, n: usize, max: bool) -> Result<Vec<Out>> {
    let input = call.value(cx, "self")?;
    let dtype = cx.build.dtype(input)?;
    let mut x = if max {
        input
    } else {
        cx.build.cast(input, promote::compute_type(dtype))?
    };
    let shape = cx.build.shape(x)?;
    let out = call.out_shape(0)?;
    if shape.len() < n || out.len() != shape.len() {
        return invalid(format!("{n}-d pooling of a {}-d tensor", shape.len()));
    }
    let reduce = |cx: &mut Importer<'_>, x: Value, axes: Vec<usize>, keepdim: bool| {
        if max {
            cx.build.add(op::Amax { axes, keepdim }, &[x])
        } else {
            cx.build.add(op::Mean { axes, keepdim }, &[x])
        }
    };
    let whole = |axis: &usize| shape[*axis] != out[*axis] && out[*axis].is(1);
    let (axes, others): (Vec<usize>, Vec<usize>) = (shape.len() - n..shape.len()).partition(whole);
    if !axes.is_empty() {
        x = reduce(cx, x, axes, true)?;
    }
    for axis in others {
        let (from, to) = (&shape[axis], &out[axis]);
        if from == to {
            continue;
        }
        if let Some(size) = from.exact_div(to) {
            let mut apart = cx.build.shape(x)?;
            apart[axis] = to.clone();
            apart.insert(axis + 1, size);
            let apart = cx.build.reshape(x, apart)?;
            x = reduce(cx, apart, vec![axis + 1], false)?;
        } else {
            let known = from.as_const().zip(to.as_const());
            let Some((from, to)) = known.filter(|(_, to)| *to <= MOST_REGIONS) else {
                x = regions_at_once(cx, x, axis, to, max)?;
                continue;
            };
            let mut regions = Vec::new();
            for i in 0..to {
                let (start, stop) = (i * from / to, ((i + 1) * from + to - 1) / to);
                let region = cx.build.slice(x, axis, start.into(), stop.into())?;
                regions.push(reduce(cx, region, vec![axis], true)?);
            }
            x = cx.build.cat(&regions, axis)?;
        }
    }
    if max {
        let indices = adaptive_indices(cx, input, n, &out)?;
        return Ok(vec![x.into(), indices.into()]);
    }
    done(cx.build.cast(x, dtype))
}
