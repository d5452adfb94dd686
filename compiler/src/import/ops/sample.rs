//! Sampling of images at computed positions, and resampling with a filter as wide as the step.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Value};

use super::pointwise::done;
use super::resize::cubic_weights;
use crate::import::build::Builder;
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out, promote};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "grid_sampler" | "grid_sampler_2d" | "grid_sampler_3d" => grid_sampler,
        "affine_grid_generator" => affine_grid,
        "_upsample_bilinear2d_aa" => |cx, call| filtered(cx, call, Filter::Linear),
        "_upsample_bicubic2d_aa" => |cx, call| filtered(cx, call, Filter::Cubic),
        _ => return None,
    })
}

/// How positions outside the image are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// An axis of the image: its size as an integer and as a 0-d tensor of the dtype of the positions.
struct Side {
    size: Dim,
    last: Value,
}

/// One position along an axis that a sample reads, and its weight. All of the shape `[N, 1, samples]`.
#[derive(Clone, Copy)]
struct Tap {
    /// The index, within the axis.
    index: Value,
    /// Whether the position was within the axis.
    inside: Value,
    /// `None` for 1.
    weight: Option<Value>,
}

/// A size as a 0-d tensor.
fn number(cx: &mut Importer<'_>, n: &Dim, dtype: DType) -> Result<Value> {
    let n = match n.as_const() {
        Some(n) => Num::Known(Scalar::Int(n)),
        None => Num::Dim(n.clone()),
    };
    cx.number(&n, dtype)
}

fn grid_sampler(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (input, grid) = (call.value(cx, "input")?, call.value(cx, "grid")?);
    let (shape, points) = (cx.build.shape(input)?, cx.build.shape(grid)?);
    let rank = shape.len().saturating_sub(2);
    if points.len() != rank + 2 || !points[rank + 1].is(rank as i64) || rank == 0 {
        return invalid(format!(
            "a grid of {} for an image of {}",
            cx.build.ty(grid)?,
            cx.build.ty(input)?
        ));
    }
    let outside = match call.int("padding_mode")? {
        0 => Outside::Zeros,
        1 => Outside::Border,
        2 => Outside::Reflection,
        other => return invalid(format!("padding mode {other}")),
    };
    let (mode, corners) = (call.int("interpolation_mode")?, call.bool("align_corners")?);
    let dtype = cx.build.dtype(input)?;
    let wide = promote::compute_type(dtype);
    let image = cx.build.cast(input, wide)?;
    let grid = cx.build.cast(grid, wide)?;
    let samples = points[1..=rank]
        .iter()
        .fold(Dim::from(1i64), |n, size| &n * size);
    let line = vec![points[0].clone(), Dim::from(1i64), samples];
    let mut taps: Vec<Vec<Tap>> = Vec::new();
    for axis in 0..rank {
        // The last coordinate belongs to the first spatial axis.
        let n = (rank - 1 - axis) as i64;
        let position = cx.build.slice(grid, rank + 1, n.into(), (n + 1).into())?;
        let position = cx.build.reshape(position, line.clone())?;
        let size = shape[axis + 2].clone();
        let last = number(cx, &(&size - &1i64.into()), wide)?;
        let side = Side { size, last };
        let position = pixel(cx, position, &side, corners)?;
        taps.push(match mode {
            0 => linear_taps(cx, position, &side, outside, corners)?,
            1 => {
                let position = bounded(cx, position, &side, outside, corners)?;
                let nearest = cx.build.add(op::Round {}, &[position])?;
                vec![tap(cx, nearest, &side, None)?]
            }
            2 => cubic_taps(cx, position, &side, outside, corners)?,
            other => return invalid(format!("interpolation mode {other}")),
        });
    }
    let pixels = shape[2..].iter().fold(Dim::from(1i64), |n, size| &n * size);
    let flat = vec![shape[0].clone(), shape[1].clone(), pixels];
    let flat = cx.build.reshape(image, flat)?;
    let sum = sampled(cx, flat, &shape[2..], &taps)?;
    let mut out = vec![shape[0].clone(), shape[1].clone()];
    out.extend_from_slice(&points[1..=rank]);
    let sum = cx.build.reshape(sum, out)?;
    done(cx.build.cast(sum, dtype))
}

/// From −1 … 1 to pixels.
fn pixel(cx: &mut Importer<'_>, x: Value, side: &Side, corners: bool) -> Result<Value> {
    let raised = cx.build.with_float(op::Add {}, x, 1.0)?;
    if corners {
        let half = cx.build.with_float(op::Mul {}, raised, 0.5)?;
        return cx.build.add(op::Mul {}, &[half, side.last]);
    }
    let size = cx.build.with_float(op::Add {}, side.last, 1.0)?;
    let scaled = cx.build.add(op::Mul {}, &[raised, size])?;
    let shifted = cx.build.with_float(op::Sub {}, scaled, 1.0)?;
    cx.build.with_float(op::Mul {}, shifted, 0.5)
}

/// A position moved into the image, where the mode does so.
fn bounded(
    cx: &mut Importer<'_>,
    x: Value,
    side: &Side,
    outside: Outside,
    corners: bool,
) -> Result<Value> {
    let x = match outside {
        Outside::Zeros => return Ok(x),
        Outside::Border => x,
        Outside::Reflection => reflected(cx, x, side, corners)?,
    };
    let x = cx.build.with_float(op::Maximum {}, x, 0.0)?;
    cx.build.add(op::Minimum {}, &[x, side.last])
}

/// A position mirrored at the centres of the outermost pixels, or at their outer edges.
fn reflected(cx: &mut Importer<'_>, x: Value, side: &Side, corners: bool) -> Result<Value> {
    let (low, span) = if corners {
        if side.size.is(1) {
            return cx.build.with_float(op::Mul {}, x, 0.0);
        }
        (0.0, side.last)
    } else {
        (-0.5, cx.build.with_float(op::Add {}, side.last, 1.0)?)
    };
    let from_low = cx.build.with_float(op::Sub {}, x, low)?;
    let distance = cx.build.add(op::Abs {}, &[from_low])?;
    // A sawtooth of twice the span, folded.
    let period = cx.build.with_float(op::Mul {}, span, 2.0)?;
    let within = cx.build.add(op::Remainder {}, &[distance, period])?;
    let back = cx.build.add(op::Sub {}, &[period, within])?;
    let folded = cx.build.add(op::Minimum {}, &[within, back])?;
    cx.build.with_float(op::Add {}, folded, low)
}

/// A tap at a whole number that may lie outside of the axis.
fn tap(cx: &mut Importer<'_>, x: Value, side: &Side, weight: Option<Value>) -> Result<Tap> {
    let dtype = cx.build.dtype(x)?;
    let zero = cx.build.float(0.0, dtype)?;
    let above = cx.build.add(op::Ge {}, &[x, zero])?;
    let below = cx.build.add(op::Le {}, &[x, side.last])?;
    let inside = cx.build.add(op::LogicalAnd {}, &[above, below])?;
    let index = cx.build.select(inside, x, zero)?;
    let index = cx.build.cast(index, DType::I64)?;
    Ok(Tap {
        index,
        inside,
        weight,
    })
}

fn linear_taps(
    cx: &mut Importer<'_>,
    x: Value,
    side: &Side,
    outside: Outside,
    corners: bool,
) -> Result<Vec<Tap>> {
    let x = bounded(cx, x, side, outside, corners)?;
    let first = cx.build.add(op::Floor {}, &[x])?;
    let second = cx.build.with_float(op::Add {}, first, 1.0)?;
    let of_second = cx.build.add(op::Sub {}, &[x, first])?;
    let of_first = cx.build.add(op::Sub {}, &[second, x])?;
    Ok(vec![
        tap(cx, first, side, Some(of_first))?,
        tap(cx, second, side, Some(of_second))?,
    ])
}

/// Four taps; each of them is moved into the image by itself.
fn cubic_taps(
    cx: &mut Importer<'_>,
    x: Value,
    side: &Side,
    outside: Outside,
    corners: bool,
) -> Result<Vec<Tap>> {
    let first = cx.build.add(op::Floor {}, &[x])?;
    let part = cx.build.add(op::Sub {}, &[x, first])?;
    let mut taps = Vec::new();
    for (n, weight) in cubic_weights(cx, part)?.into_iter().enumerate() {
        let at = cx.build.with_float(op::Add {}, first, n as f64 - 1.0)?;
        let at = bounded(cx, at, side, outside, corners)?;
        // Mirrored at edges between pixels, a whole number stays one up to rounding.
        let at = cx.build.add(op::Round {}, &[at])?;
        taps.push(tap(cx, at, side, Some(weight))?);
    }
    Ok(taps)
}

/// The sum over all combinations of taps: `[N, C, pixels]` read at `[N, 1, samples]`.
fn sampled(cx: &mut Importer<'_>, flat: Value, sizes: &[Dim], taps: &[Vec<Tap>]) -> Result<Value> {
    let mut combined: Vec<Tap> = Vec::new();
    for (axis, of_axis) in taps.iter().enumerate() {
        if axis == 0 {
            combined.clone_from(of_axis);
            continue;
        }
        let size = number(cx, &sizes[axis], DType::I64)?;
        let mut next = Vec::new();
        for before in &combined {
            let row = cx.build.add(op::Mul {}, &[before.index, size])?;
            for tap in of_axis {
                next.push(Tap {
                    index: cx.build.add(op::Add {}, &[row, tap.index])?,
                    inside: cx
                        .build
                        .add(op::LogicalAnd {}, &[before.inside, tap.inside])?,
                    weight: match (before.weight, tap.weight) {
                        (Some(a), Some(b)) => Some(cx.build.add(op::Mul {}, &[a, b])?),
                        (one, other) => one.or(other),
                    },
                });
            }
        }
        combined = next;
    }
    let zero = cx.build.float(0.0, cx.build.dtype(flat)?)?;
    let mut sum = None;
    for tap in combined {
        let mut value = cx
            .build
            .add(op::TakeAlong { axis: 2 }, &[flat, tap.index])?;
        if let Some(weight) = tap.weight {
            value = cx.build.add(op::Mul {}, &[value, weight])?;
        }
        let value = cx.build.select(tap.inside, value, zero)?;
        sum = Some(match sum {
            None => value,
            Some(sum) => cx.build.add(op::Add {}, &[sum, value])?,
        });
    }
    match sum {
        Some(sum) => Ok(sum),
        None => invalid("an image without axes"),
    }
}

/// Positions of the pixels of an image under affine maps `[N, d, d + 1]`: `[N, spatial…, d]`.
fn affine_grid(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let theta = call.value(cx, "theta")?;
    let size = call.dims("size")?;
    let corners = call.bool("align_corners")?;
    let [batch, _, spatial @ ..] = size.as_slice() else {
        return invalid("an image without batch and channels");
    };
    let dtype = cx.build.dtype(theta)?;
    let rank = spatial.len();
    let mut coordinates = Vec::new();
    let mut point = spatial.to_vec();
    point.push(Dim::from(1i64));
    for (axis, n) in spatial.iter().enumerate().rev() {
        // (2i − (n − 1)) / (n − 1), or / n.
        let last = n - &Dim::from(1i64);
        let odd = cx
            .build
            .arange(-&last, 2i64.into(), n.clone(), DType::I64)?;
        let odd = cx.build.cast(odd, dtype)?;
        let by = if corners {
            last.maximum(&1i64.into())
        } else {
            n.clone()
        };
        let by = number(cx, &by, dtype)?;
        let x = cx.build.add(op::Div {}, &[odd, by])?;
        let mut lined = vec![Dim::from(1i64); rank + 1];
        lined[axis] = n.clone();
        let x = cx.build.reshape(x, lined)?;
        coordinates.push(cx.build.broadcast(x, point.clone())?);
    }
    coordinates.push(cx.build.full(Scalar::Int(1), dtype, point)?);
    let points = cx.build.cat(&coordinates, rank)?;
    let count = spatial.iter().fold(Dim::from(1i64), |n, size| &n * size);
    let points = cx.build.reshape(points, vec![count, Dim::from(rank + 1)])?;
    let turned = cx.build.swap(theta, 1, 2)?;
    let grid = cx.build.add(op::Matmul {}, &[points, turned])?;
    let mut shape = vec![batch.clone()];
    shape.extend_from_slice(spatial);
    shape.push(Dim::from(rank));
    done(cx.build.reshape(grid, shape))
}

/// What weighs the pixels around a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Linear,
    Cubic,
}

impl Filter {
    /// The weight at a distance, in steps.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Filter::Linear => (1.0 - x).max(0.0),
            Filter::Cubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Cubic if x < 2.0 => ((x - 5.0) * x + 8.0) * x * A - 4.0 * A,
            Filter::Cubic => 0.0,
        }
    }

    /// How far it reaches, in steps.
    fn reach(self) -> f64 {
        match self {
            Filter::Linear => 1.0,
            Filter::Cubic => 2.0,
        }
    }

    /// The weights of all `from` pixels for output `n`, `step` pixels apart.
    fn row(self, n: i64, from: i64, step: f64) -> Vec<f64> {
        let wide = step.max(1.0);
        let centre = step * (n as f64 + 0.5);
        let reach = self.reach() * wide;
        let first = ((centre - reach + 0.5) as i64).max(0);
        let end = ((centre + reach + 0.5) as i64).min(from);
        let weight = |t: i64| {
            if (first..end).contains(&t) {
                self.weight((t as f64 - centre + 0.5) / wide)
            } else {
                0.0
            }
        };
        let weights: Vec<f64> = (0..from).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights
            .into_iter()
            .map(|w| if sum == 0.0 { w } else { w / sum })
            .collect()
    }
}

/// Resampling that does not alias: each axis is a product with a constant matrix.
fn filtered(cx: &mut Importer<'_>, call: &Call<'_>, filter: Filter) -> Result<Vec<Out>> {
    let has_factors = call
        .schema
        .is_some_and(|schema| schema.arg("scale_factors").is_some());
    let x = call.value(cx, if has_factors { "input" } else { "self" })?;
    let (from, to) = (cx.build.shape(x)?, call.out_shape(0)?);
    if from.len() != 4 || to.len() != 4 {
        return invalid(format!("an image of {}", cx.build.ty(x)?));
    }
    let corners = call.bool("align_corners")?;
    let factors = if has_factors {
        call.opt_floats("scale_factors")?
            .map(|all| all.into_iter().map(Some).collect())
    } else {
        let all = [
            call.opt_float(cx, "scales_h")?,
            call.opt_float(cx, "scales_w")?,
        ];
        Some(Vec::from(all))
    };
    let factors: Vec<Option<f64>> = factors.unwrap_or_default();
    let dtype = cx.build.dtype(x)?;
    let mut out = cx.build.cast(x, promote::compute_type(dtype))?;
    for axis in [3, 2] {
        let (Some(n), Some(m)) = (from[axis].as_const(), to[axis].as_const()) else {
            return unsupported("resampling a dynamic size without aliasing");
        };
        let step = match factors.get(axis - 2).copied().flatten() {
            _ if corners => (n - 1) as f64 / (m - 1).max(1) as f64,
            Some(factor) if factor > 0.0 => 1.0 / factor,
            _ => n as f64 / m as f64,
        };
        let name = format!("resample {filter:?} by {step}");
        Builder::check_table([n, m])?;
        let rows: Vec<Vec<f64>> = (0..m).map(|i| filter.row(i, n, step)).collect();
        let wide = cx.build.dtype(out)?;
        let weights = cx
            .build
            .table(&name, wide, [n, m], |t, i| rows[i as usize][t as usize])?;
        let turned = cx.build.swap(out, axis, 3)?;
        let product = cx.build.add(op::Matmul {}, &[turned, weights])?;
        out = cx.build.swap(product, axis, 3)?;
    }
    done(cx.build.cast(out, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_sum_to_one_and_reach_as_far_as_they_should() {
        for filter in [Filter::Linear, Filter::Cubic] {
            for (from, to) in [(8, 3), (5, 9), (4, 4), (1, 3)] {
                for n in 0..to {
                    let row = filter.row(n, from, from as f64 / to as f64);
                    let sum: f64 = row.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-12, "{filter:?} {from} {to} {row:?}");
                }
            }
        }
        assert_eq!(Filter::Linear.row(1, 4, 1.0), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(Filter::Cubic.weight(1.0), 0.0);
        assert_eq!(Filter::Cubic.weight(2.5), 0.0);
    }
}
