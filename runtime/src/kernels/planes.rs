//! Windows over planes, places between pixels, and distances between rows: in double precision, on the host.

use super::portable::from_floats;
use super::views::integers;
use super::{KernelError, Kernels, bad, is_affordable, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

type Results = Result<Vec<Value>, KernelError>;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    kernels.insert("aten::avg_pool2d.out", 7, 1, averages);
    kernels.insert("aten::max_pool2d_with_indices.out", 6, 2, largest);
    kernels.insert("aten::_upsample_bilinear2d_aa.out", 5, 1, smoothed);
    kernels.insert("aten::grid_sampler_2d.out", 5, 1, sampled);
    kernels.insert("aten::_cdist_forward.out", 4, 1, |arguments| {
        let (a, b) = (Rows::of(arguments, 0)?, Rows::of(arguments, 1)?);
        let p = float(arguments, 2).unwrap_or(2.0);
        let batches = a.batch();
        let same = a.width == b.width && batches == b.batch();
        if !same {
            return Err(bad(1, "has rows that are not like the others"));
        }
        let shape = [&a.shape[..a.shape.len() - 1], &[b.count()]].concat();
        if !is_affordable(&shape) {
            return Err(bad(1, format!("asks for {shape:?}, too many elements")));
        }
        let mut distances = Vec::new();
        for batch in 0..batches {
            for one in a.rows(batch) {
                distances.extend(b.rows(batch).map(|other| distance(one, other, p)));
            }
        }
        Ok(vec![from_floats(a.dtype, &shape, &distances)?.into()])
    });
    kernels.insert("aten::_pdist_forward.out", 2, 1, |arguments| {
        let rows = Rows::of(arguments, 0)?;
        let p = float(arguments, 1).unwrap_or(2.0);
        let count = rows.count();
        let pairs = count * count.saturating_sub(1) / 2;
        if rows.shape.len() != 2 || !is_affordable(&[pairs]) {
            return Err(bad(0, "is no matrix, or a too large one"));
        }
        let all: Vec<&[f64]> = rows.rows(0).collect();
        let pairs = all.iter().enumerate();
        let pairs =
            pairs.flat_map(|(at, one)| all[at + 1..].iter().map(|other| distance(one, other, p)));
        let distances: Vec<f64> = pairs.collect();
        Ok(vec![
            from_floats(rows.dtype, &[distances.len()], &distances)?.into(),
        ])
    });
}

fn float(arguments: &[Value], position: usize) -> Option<f64> {
    arguments.get(position).and_then(Value::as_float)
}

fn flag(arguments: &[Value], position: usize) -> bool {
    matches!(arguments.get(position), Some(Value::Bool(true)))
}

/// Two lengths: one for both, none for those given.
fn two(
    arguments: &[Value],
    position: usize,
    absent: [usize; 2],
) -> Result<[usize; 2], KernelError> {
    let numbers = match arguments.get(position) {
        None | Some(Value::None) => return Ok(absent),
        Some(_) => integers(arguments, position)?,
    };
    let numbers = numbers.iter().map(|n| {
        usize::try_from(*n)
            .ok()
            .filter(|n| i32::try_from(*n).is_ok())
    });
    match numbers.collect::<Option<Vec<usize>>>().as_deref() {
        Some([]) => Ok(absent),
        Some([both]) => Ok([*both; 2]),
        Some([a, b]) => Ok([*a, *b]),
        _ => Err(bad(position, "is not two lengths")),
    }
}

/// A tensor of planes: the last two axes.
struct Planes {
    dtype: fuseline_program::ScalarType,
    batch: Vec<usize>,
    lengths: [usize; 2],
    elements: Vec<f64>,
}

impl Planes {
    fn of(arguments: &[Value]) -> Result<Self, KernelError> {
        let x = tensor(arguments, 0)?;
        let shape = x.shape();
        let Some((batch, lengths)) = shape.split_last_chunk::<2>() else {
            return Err(bad(0, "has no planes"));
        };
        Ok(Self {
            dtype: x.dtype(),
            batch: batch.to_vec(),
            lengths: *lengths,
            elements: x.to_floats()?,
        })
    }

    /// The shape with planes of another size, if that is not too large.
    fn resized(&self, lengths: [usize; 2]) -> Result<Vec<usize>, KernelError> {
        let shape = [&self.batch[..], &lengths].concat();
        if self.elements.is_empty() || !is_affordable(&shape) {
            return Err(bad(0, format!("can't become {shape:?}")));
        }
        Ok(shape)
    }

    fn planes(&self) -> impl Iterator<Item = &[f64]> {
        self.elements
            .chunks_exact((self.lengths[0] * self.lengths[1]).max(1))
    }
}

/// How windows go along an axis.
#[derive(Clone, Copy)]
struct Windows {
    length: usize,
    size: usize,
    step: usize,
    padding: usize,
    dilation: usize,
    count: usize,
}

impl Windows {
    /// Those of both axes: their arguments stand from position 1.
    fn of(
        arguments: &[Value],
        lengths: [usize; 2],
        dilated: bool,
    ) -> Result<[Self; 2], KernelError> {
        let size = two(arguments, 1, [0; 2])?;
        let (step, padding) = (two(arguments, 2, size)?, two(arguments, 3, [0; 2])?);
        let dilation = if dilated {
            two(arguments, 4, [1; 2])?
        } else {
            [1; 2]
        };
        let ceil = flag(arguments, if dilated { 5 } else { 4 });
        let along = |at: usize| {
            let (length, size, step, padding) = (lengths[at], size[at], step[at], padding[at]);
            let reach = size
                .checked_sub(1)?
                .checked_mul(dilation[at])?
                .checked_add(1)?;
            let room = (length + 2 * padding).checked_sub(reach)?;
            if step == 0 || dilation[at] == 0 || 2 * padding > size {
                return None;
            }
            let mut count = (if ceil {
                room.div_ceil(step)
            } else {
                room / step
            }) + 1;
            // The last window must not begin behind the end.
            if ceil && (count - 1) * step >= length + padding {
                count -= 1;
            }
            Some(Self {
                length,
                size,
                step,
                padding,
                dilation: dilation[at],
                count,
            })
        };
        match (along(0), along(1)) {
            (Some(down), Some(across)) => Ok([down, across]),
            _ => Err(bad(1, format!("is no window over planes of {lengths:?}"))),
        }
    }

    /// The places of a window that lie in the plane.
    fn places(self, window: usize) -> impl Iterator<Item = usize> + Clone {
        let places = (0..self.size).map(move |at| window * self.step + at * self.dilation);
        let inside = move |place: usize| {
            place
                .checked_sub(self.padding)
                .filter(|at| *at < self.length)
        };
        places.filter_map(inside)
    }

    /// How many places a window has in the padded plane.
    fn padded(self, window: usize) -> usize {
        let start = window * self.step;
        (start + self.size).min(self.length + 2 * self.padding) - start
    }
}

/// `avg_pool2d(self, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)`.
fn averages(arguments: &[Value]) -> Results {
    let x = Planes::of(arguments)?;
    let [down, across] = Windows::of(arguments, x.lengths, false)?;
    let with_padding = !matches!(arguments.get(5), Some(Value::Bool(false)));
    let divisor = float(arguments, 6);
    let shape = x.resized([down.count, across.count])?;
    let mut means = Vec::new();
    for plane in x.planes() {
        for row in 0..down.count {
            for column in 0..across.count {
                let lines = down
                    .places(row)
                    .flat_map(|y| across.places(column).map(move |x| (y, x)));
                let (sum, count) = lines.fold((0.0, 0), |(sum, count), (y, place)| {
                    (sum + plane[y * x.lengths[1] + place], count + 1)
                });
                let all = if with_padding {
                    down.padded(row) * across.padded(column)
                } else {
                    count
                };
                means.push(sum / divisor.unwrap_or(all as f64));
            }
        }
    }
    Ok(vec![from_floats(x.dtype, &shape, &means)?.into()])
}

/// `max_pool2d_with_indices(self, kernel_size, stride, padding, dilation, ceil_mode)`: the largest element of each window, and where in its plane it stands.
fn largest(arguments: &[Value]) -> Results {
    let x = Planes::of(arguments)?;
    let [down, across] = Windows::of(arguments, x.lengths, true)?;
    let shape = x.resized([down.count, across.count])?;
    let (mut best, mut positions) = (Vec::new(), Vec::new());
    for plane in x.planes() {
        for row in 0..down.count {
            for column in 0..across.count {
                let places = down.places(row);
                let mut places =
                    places.flat_map(|y| across.places(column).map(move |at| y * x.lengths[1] + at));
                let first = places.next();
                let first = first.ok_or_else(|| bad(1, "is a window over nothing"))?;
                let found = places.fold(first, |best, at| {
                    let (old, new) = (plane[best], plane[at]);
                    if new > old || (new.is_nan() && !old.is_nan()) {
                        at
                    } else {
                        best
                    }
                });
                best.push(plane[found]);
                positions.push(found as i64);
            }
        }
    }
    Ok(vec![
        from_floats(x.dtype, &shape, &best)?.into(),
        Tensor::from_slice(&shape, &positions)?.into(),
    ])
}

/// `_upsample_bilinear2d_aa(self, output_size, align_corners, scales_h, scales_w)`: each pixel is a weighted mean of those that it covers.
fn smoothed(arguments: &[Value]) -> Results {
    let x = Planes::of(arguments)?;
    let lengths = two(arguments, 1, [0; 2])?;
    let shape = x.resized(lengths)?;
    let corners = flag(arguments, 2);
    let scales = [0, 1].map(|at| {
        let (from, to) = (x.lengths[at], lengths[at]);
        match float(arguments, 3 + at) {
            _ if corners => from.saturating_sub(1) as f64 / to.saturating_sub(1).max(1) as f64,
            Some(factor) if factor > 0.0 => 1.0 / factor,
            _ => from as f64 / to.max(1) as f64,
        }
    });
    for (at, scale) in scales.into_iter().enumerate() {
        let widest = (2.0 * scale.max(1.0) + 2.0).min(x.lengths[at] as f64) as usize;
        if !is_affordable(&[lengths[at], widest]) {
            return Err(bad(3 + at, "makes each pixel of too many"));
        }
    }
    let weights = [0, 1].map(|at| {
        let (from, to, scale) = (x.lengths[at], lengths[at], scales[at]);
        let reach = scale.max(1.0);
        let of = move |place: usize| {
            let centre = scale * (place as f64 + 0.5);
            let first = ((centre - reach + 0.5) as usize).min(from);
            let end = ((centre + reach + 0.5) as usize).min(from).max(first);
            let weight = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / reach).abs()).max(0.0);
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            (
                first,
                weights
                    .into_iter()
                    .map(|weight| weight / sum)
                    .collect::<Vec<f64>>(),
            )
        };
        (0..to).map(of).collect::<Vec<_>>()
    });
    let mut pixels = Vec::new();
    for plane in x.planes() {
        for (top, rows) in &weights[0] {
            for (left, columns) in &weights[1] {
                let line = |(y, weight): (usize, &f64)| {
                    let line = plane[(top + y) * x.lengths[1] + left..].iter().zip(columns);
                    weight * line.map(|(pixel, weight)| pixel * weight).sum::<f64>()
                };
                pixels.push(rows.iter().enumerate().map(line).sum());
            }
        }
    }
    Ok(vec![from_floats(x.dtype, &shape, &pixels)?.into()])
}

/// What stands outside of a plane.
#[derive(Clone, Copy)]
enum Outside {
    Zeros,
    Border,
    Mirror,
}

/// `grid_sampler_2d(input, grid, interpolation_mode, padding_mode, align_corners)`: pixels at places from -1 to 1, across and down.
fn sampled(arguments: &[Value]) -> Results {
    let x = Planes::of(arguments)?;
    let grid = tensor(arguments, 1)?;
    let (&[batch, channels], &[_, rows, columns, 2]) = (&x.batch[..], &grid.shape()[..]) else {
        return Err(bad(1, "is no grid over planes"));
    };
    if grid.shape()[0] != batch {
        return Err(bad(1, "is for another batch"));
    }
    let mode = arguments.get(2).and_then(Value::as_int);
    let outside = match arguments.get(3).and_then(Value::as_int) {
        Some(0) => Outside::Zeros,
        Some(1) => Outside::Border,
        Some(2) => Outside::Mirror,
        _ => return Err(bad(3, "is no way to pad")),
    };
    let Some(nearest @ (0 | 1)) = mode else {
        return Err(bad(2, "is neither bilinear nor nearest"));
    };
    let corners = flag(arguments, 4);
    let shape = x.resized([rows, columns])?;
    let places = grid.to_floats()?;
    let (places, _) = places.as_chunks::<2>();
    let place = |at: f64, length: usize| {
        let (length, half) = (length as f64, if corners { 0.0 } else { 0.5 });
        let scaled = (at + 1.0) / 2.0 * (length - 1.0 + 2.0 * half) - half;
        match outside {
            Outside::Zeros => scaled,
            Outside::Border => scaled.clamp(0.0, length - 1.0),
            Outside::Mirror => {
                mirrored(scaled, -half, length - 1.0 + half).clamp(0.0, length - 1.0)
            }
        }
    };
    let [height, width] = x.lengths;
    let mut pixels = Vec::new();
    for (number, plane) in x.planes().enumerate() {
        let own = &places[number / channels * rows * columns..][..rows * columns];
        let pixel = |y: f64, x: f64| {
            let inside = (0.0..height as f64).contains(&y) && (0.0..width as f64).contains(&x);
            if inside {
                plane[y as usize * width + x as usize]
            } else {
                0.0
            }
        };
        for [across, down] in own {
            let (x, y) = (place(*across, width), place(*down, height));
            if nearest == 1 {
                pixels.push(pixel(y.round_ties_even(), x.round_ties_even()));
                continue;
            }
            let (left, top) = (x.floor(), y.floor());
            let (right, low) = (x - left, y - top);
            let line = |y: f64| pixel(y, left) * (1.0 - right) + pixel(y, left + 1.0) * right;
            pixels.push(line(top) * (1.0 - low) + line(top + 1.0) * low);
        }
    }
    Ok(vec![from_floats(x.dtype, &shape, &pixels)?.into()])
}

/// A place between two ends, reached by turning round at each.
fn mirrored(place: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 {
        return 0.0;
    }
    let rest = (place - low).abs() % (2.0 * span);
    low + if rest > span { 2.0 * span - rest } else { rest }
}

/// The rows of a batch of matrices.
struct Rows {
    dtype: fuseline_program::ScalarType,
    shape: Vec<usize>,
    width: usize,
    elements: Vec<f64>,
}

impl Rows {
    fn of(arguments: &[Value], position: usize) -> Result<Self, KernelError> {
        let x = tensor(arguments, position)?;
        let shape = x.shape();
        match shape[..] {
            [.., count, width] if count * width > 0 && !x.is_empty() => Ok(Self {
                dtype: x.dtype(),
                width,
                elements: x.to_floats()?,
                shape,
            }),
            _ => Err(bad(position, "has no rows")),
        }
    }

    fn count(&self) -> usize {
        self.elements.len() / self.width / self.batch()
    }

    fn batch(&self) -> usize {
        self.shape[..self.shape.len() - 2].iter().product()
    }

    fn rows(&self, batch: usize) -> impl Iterator<Item = &[f64]> {
        let size = self.count() * self.width;
        self.elements[batch * size..][..size].chunks_exact(self.width)
    }
}

/// The `p`-norm of the difference of two rows.
fn distance(a: &[f64], b: &[f64], p: f64) -> f64 {
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    if p == f64::INFINITY {
        return apart.fold(0.0, f64::max);
    }
    if p == 0.0 {
        return apart.filter(|n| *n != 0.0).count() as f64;
    }
    if p == 2.0 {
        return apart.map(|n| n * n).sum::<f64>().sqrt();
    }
    apart.map(|n| n.powf(p)).sum::<f64>().powf(1.0 / p)
}
