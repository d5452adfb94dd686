//! Convolutions of one, two or three spatial axes: what MLX does not look at, and padding where it must not do it.
//!
//! Operands have their batch or results first, then the spatial axes, then the channels. All six instructions are MLX's one general convolution.
//!
//! MLX 0.32's loop for convolutions in groups, on the CPU, takes as many results at an edge for padded ones as the padding has steps, even where there are fewer
//! results than that, and writes beyond the array. There the padding is added before. With CUDA, its transposed convolution in groups gives other numbers (those of one group are right, so
//! the groups are computed one by one there).

use fuseline_program::ScalarType;
use fuseline_program::instr::Tid;

use super::host::{fill_bytes, on_cuda, scalar, steps, within_reach};
use super::op;
use super::several::along;
use crate::device::Device;
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::{Array, Vector};

/// What an instruction says of its spatial axes, outermost first.
pub(super) struct Axes<const N: usize> {
    pub(super) stride: [i32; N],
    /// Zeros on both sides; of a transposed convolution, what is cut off both sides.
    pub(super) padding: [i32; N],
    /// The distance of neighbours in the kernel.
    pub(super) dilation: [i32; N],
    /// What a transposed convolution adds behind the end.
    pub(super) output_padding: [i32; N],
}

impl<const N: usize> Axes<N> {
    /// Refuses numbers that no convolution can have.
    fn check(&self, groups: i32) -> Result<(), Fault> {
        let positive = [&self.stride[..], &self.dilation, &[groups]].concat();
        steps(&positive, &[self.padding, self.output_padding].concat())
    }

    /// How far the kernel reaches along each axis.
    fn windows(&self, w: &Array) -> [i64; N] {
        let length = |at: usize| i64::from(w.shape()[at + 1]);
        std::array::from_fn(|at| i64::from(self.dilation[at]) * (length(at) - 1) + 1)
    }
}

/// What MLX's general convolution takes besides operands.
struct General<const N: usize> {
    stride: [i32; N],
    before: [i32; N],
    after: [i32; N],
    dilation: [i32; N],
    /// The distance of neighbours in the input, with zeros between them.
    spread: [i32; N],
    groups: i32,
    /// Whether the kernel is walked from its end.
    flip: bool,
}

impl<const N: usize> General<N> {
    fn of(&self, x: &Array, w: &Array, f: &Frame<'_>) -> Result<Array, Fault> {
        let out = op!(
            f,
            mlx_conv_general,
            x.raw(),
            w.raw(),
            self.stride.as_ptr(),
            N,
            self.before.as_ptr(),
            N,
            self.after.as_ptr(),
            N,
            self.dilation.as_ptr(),
            N,
            self.spread.as_ptr(),
            N,
            self.groups,
            self.flip,
        );
        affordable(&out, w, self.groups, f)?;
        Ok(out)
    }
}

/// The convolution of `x` with `w`.
pub(super) fn forward<const N: usize>(
    x: Tid,
    w: Tid,
    axes: &Axes<N>,
    groups: i32,
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    axes.check(groups)?;
    let (x, w) = (f.get(x)?, f.get(w)?);
    let own = padded(x, w, axes, f)?;
    let padding = if own.is_some() { [0; N] } else { axes.padding };
    let general = General {
        stride: axes.stride,
        before: padding,
        after: padding,
        dilation: axes.dilation,
        spread: [1; N],
        groups,
        flip: false,
    };
    general.of(own.as_ref().unwrap_or(x), w, f)
}

/// The transposed convolution of `x` with `w`: that of an input with `stride - 1` zeros between its elements, and all around it as far as the kernel reaches.
pub(super) fn transposed<const N: usize>(
    x: Tid,
    w: Tid,
    axes: &Axes<N>,
    groups: i32,
    f: &Frame<'_>,
) -> Result<Array, Fault> {
    axes.check(groups)?;
    let (x, w) = (f.get(x)?, f.get(w)?);
    check_transposed(x, w, axes, f)?;
    let windows = axes.windows(w);
    let around = |at: usize, more: i32| {
        let length = windows[at] - 1 - i64::from(axes.padding[at]) + i64::from(more);
        i32::try_from(length).map_err(|_| Fault::Overflow)
    };
    let (mut before, mut after) = ([0; N], [0; N]);
    for at in 0..N {
        before[at] = around(at, 0)?;
        after[at] = around(at, axes.output_padding[at])?;
    }
    let general = General {
        stride: [1; N],
        before,
        after,
        dilation: axes.dilation,
        spread: axes.stride,
        groups,
        flip: true,
    };
    if groups == 1 || !on_cuda(f) {
        return general.of(x, w, f);
    }
    let one = General {
        groups: 1,
        ..general
    };
    by_group(x, w, groups, f, |x, w| one.of(x, w, f))
}

/// A convolution in groups from one without: each group has its share of the input's channels and of the kernel's results.
fn by_group(
    x: &Array,
    w: &Array,
    groups: i32,
    f: &Frame<'_>,
    convolve: impl Fn(&Array, &Array) -> Result<Array, Fault>,
) -> Result<Array, Fault> {
    let channels = x.rank() - 1;
    let (of_x, of_w) = (x.shape()[channels], w.shape()[0]);
    if of_x % groups != 0 || of_w % groups != 0 {
        return Err(Fault::Attribute {
            what: "the number of groups of a convolution, which divides the channels",
            value: groups.into(),
        });
    }
    let part = |of: &Array, axis: usize, length: i32, group: i32| {
        along(of, axis, group * length, (group + 1) * length, f)
    };
    let parts: Vec<Array> = (0..groups)
        .map(|group| {
            let x = part(x, channels, of_x / groups, group)?;
            let w = part(w, 0, of_w / groups, group)?;
            convolve(&x, &w)
        })
        .collect::<Result<_, Fault>>()?;
    let parts = Vector::of(&parts)?;
    Ok(op!(f, mlx_concatenate_axis, parts.raw(), -1))
}

/// Refuses what MLX does not look at: operands without a spatial axis for each of `axes` between the first and the last, and axes of no length, which its loops on the CPU divide by. Only a
/// batch may be empty.
fn check(x: &Array, w: &Array, spatial: usize) -> Result<(), Fault> {
    ranks(x, w, spatial)?;
    let (x, w) = (x.shape(), w.shape());
    if x.iter().skip(1).chain(w).any(|length| *length == 0) {
        let what = "the length of an axis of a convolution";
        return Err(Fault::Attribute { what, value: 0 });
    }
    Ok(())
}

/// [`check`] for a transposed convolution.
fn check_transposed<const N: usize>(
    x: &Array,
    w: &Array,
    axes: &Axes<N>,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    check(x, w, N)?;
    let windows = axes.windows(w);
    let lengths = std::array::from_fn(|at| {
        // With the zeros behind the last element too, which MLX's loops on the CPU walk over.
        let spread = i64::from(axes.stride[at]) * i64::from(x.shape()[at + 1]);
        let before = (windows[at] - 1 - i64::from(axes.padding[at])).max(0);
        let around = before.saturating_mul(2);
        spread.saturating_add(around.saturating_add(i64::from(axes.output_padding[at])))
    });
    laid_out(x, windows, lengths, f)
}

/// Refuses lengths that MLX, which counts in 32 bits, can't count, and an input that takes too much memory with what is put between and around its elements.
fn laid_out<const N: usize>(
    x: &Array,
    windows: [i64; N],
    lengths: [i64; N],
    f: &Frame<'_>,
) -> Result<(), Fault> {
    let mut counted = windows.into_iter().chain(lengths);
    if counted.any(|n| n > i64::from(i32::MAX)) {
        return Err(Fault::Overflow);
    }
    let shape = x.shape();
    let ends = shape.first().into_iter().chain(shape.last());
    let all = ends.map(|n| i64::from(*n)).chain(lengths);
    countable(all.map(i64::unsigned_abs), x.dtype(), f)
}

fn ranks(x: &Array, w: &Array, spatial: usize) -> Result<(), Fault> {
    match [x, w].iter().find(|operand| operand.rank() != spatial + 2) {
        None => Ok(()),
        Some(operand) => Err(Fault::Axis {
            axis: i32::try_from(spatial).unwrap_or(i32::MAX) + 1,
            rank: operand.rank(),
        }),
    }
}

/// Refuses a convolution that takes too much memory on its way: on the CPU, MLX makes it a product of matrices, and lays out a copy of what each result is made from.
fn affordable(out: &Array, w: &Array, groups: i32, f: &Frame<'_>) -> Result<(), Fault> {
    if f.stream.device() != Device::Cpu {
        return Ok(());
    }
    let length = |n: &i32| u64::from(n.unsigned_abs());
    let places = out
        .shape()
        .split_last()
        .map_or(&[][..], |(_, places)| places);
    let window = w
        .shape()
        .split_first()
        .map_or(&[][..], |(_, window)| window);
    let all = places.iter().chain(window).chain([&groups]).map(length);
    countable(all, out.dtype(), f)
}

/// Refuses what does not fit, and on the CPU what has more elements than MLX's loops count, which go wrong then.
fn countable(
    lengths: impl Iterator<Item = u64>,
    dtype: ScalarType,
    f: &Frame<'_>,
) -> Result<(), Fault> {
    let lengths: Vec<u64> = lengths.collect();
    let elements = lengths.iter().copied().fold(1, u64::saturating_mul);
    if f.stream.device() == Device::Cpu && elements > u64::from(i32::MAX.unsigned_abs()) {
        return Err(Fault::Overflow);
    }
    within_reach(lengths, dtype, f)
}

/// `x` with its padding in it, where MLX's own would go wrong or `x` has nothing but its padding; else `None`. What MLX is given then passes [`check`].
/// `x` and `w` have their spatial axes behind the first.
fn padded<const N: usize>(
    x: &Array,
    w: &Array,
    axes: &Axes<N>,
    f: &Frame<'_>,
) -> Result<Option<Array>, Fault> {
    ranks(x, w, N)?;
    let (x_shape, windows, widths) = (x.shape(), axes.windows(w), axes.padding);
    let lengths: [i64; N] =
        std::array::from_fn(|at| i64::from(x_shape[at + 1]) + 2 * i64::from(widths[at]));
    let few = (0..N).any(|at| {
        let stride = i64::from(axes.stride[at]);
        let results = (lengths[at] - windows[at]).div_euclid(stride) + 1;
        i64::from(widths[at]) > results * stride
    });
    laid_out(x, windows, lengths, f)?;
    let nothing = x_shape[1..=N].contains(&0);
    if !nothing && (!few || f.stream.device() != Device::Cpu) {
        check(x, w, N)?;
        return Ok(None);
    }
    let spatial: Vec<i32> = (1..).take(N).collect();
    let lengths = x_shape.iter().enumerate().map(|(at, length)| {
        let padding = at.checked_sub(1).and_then(|at| widths.get(at));
        u64::from(length.unsigned_abs()) + 2 * u64::from(padding.map_or(0, |p| p.unsigned_abs()))
    });
    fill_bytes(lengths, x.dtype(), f)?;
    let zero = scalar(0.0, x.dtype())?;
    let x = op!(
        f,
        mlx_pad,
        x.raw(),
        spatial.as_ptr(),
        spatial.len(),
        widths.as_ptr(),
        widths.len(),
        widths.as_ptr(),
        widths.len(),
        zero.raw(),
        c"constant".as_ptr(),
    );
    check(&x, w, N)?;
    Ok(Some(x))
}
