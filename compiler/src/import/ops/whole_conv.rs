//! Convolutions of integers, exactly: a product with the weights at each position of the kernel.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Dim, Scalar, Value};

use crate::import::Importer;
use crate::import::error::{Result, invalid, unsupported};

/// The most positions of a kernel that are written out.
const MOST: i64 = 1024;

/// Which elements a kernel meets.
pub(in crate::import) struct Taps {
    /// From one result to the next, per axis.
    pub stride: Vec<usize>,
    /// Zeros at both ends, per axis.
    pub pad: Vec<usize>,
    /// From one position of the kernel to the next, per axis.
    pub dilation: Vec<usize>,
    /// Parts of the channels that don't mix.
    pub groups: usize,
}

/// `[batch, axes…, channels]` with weights `[outs, axes…, channels / groups]`: `[batch, axes…, outs]`.
pub(in crate::import) fn convolve(
    cx: &mut Importer<'_>,
    x: Value,
    weight: Value,
    taps: &Taps,
) -> Result<Value> {
    let n = taps.stride.len();
    let zero = || Dim::from(0i64);
    let mut low = vec![zero(); n + 2];
    for (axis, pad) in taps.pad.iter().enumerate() {
        low[axis + 1] = Dim::from(*pad);
    }
    let (high, value) = (low.clone(), Scalar::Int(0).cast(cx.build.dtype(x)?));
    let x = cx.build.add(op::Pad { low, high, value }, &[x])?;
    let (shape, kernel) = (cx.build.shape(x)?, cx.build.shape(weight)?);
    let sizes: Option<Vec<i64>> = kernel[1..=n].iter().map(Dim::as_const).collect();
    let Some(sizes) = sizes.filter(|sizes| (1..=MOST).contains(&sizes.iter().product())) else {
        return unsupported(format!(
            "a convolution of integers with a kernel that is dynamic, empty or above {MOST} elements"
        ));
    };
    let outs: Vec<Dim> = (0..n)
        .map(|axis| {
            let reach = Dim::from((sizes[axis] - 1) * taps.dilation[axis] as i64 + 1);
            let steps = (&shape[axis + 1] - &reach).floor_div(&taps.stride[axis].into());
            &steps + &Dim::from(1i64)
        })
        .collect();
    let groups = Dim::from(taps.groups);
    let (Some(channels), Some(features)) = (
        shape[n + 1].exact_div(&groups),
        kernel[0].exact_div(&groups),
    ) else {
        return invalid("groups that don't divide the channels");
    };
    let mut sum: Option<Value> = None;
    for at in 0..sizes.iter().product() {
        let (mut rest, mut part, mut factor) = (at, x, weight);
        for axis in (0..n).rev() {
            let place = rest % sizes[axis];
            rest /= sizes[axis];
            let start = Dim::from(place * taps.dilation[axis] as i64);
            let stride = taps.stride[axis] as i64;
            let last = &(&outs[axis] - &Dim::from(1i64)) * &Dim::from(stride);
            let stop = &(&start + &last) + &Dim::from(1i64);
            let slice = op::Slice {
                axis: axis + 1,
                start,
                stop,
                step: stride,
            };
            part = cx.build.add(slice, &[part])?;
            factor = cx
                .build
                .slice(factor, axis + 1, place.into(), (place + 1).into())?;
        }
        // [batch, axes…, groups, 1, channels] · [groups, features, channels], summed over the last.
        let apart = [
            &shape[..1],
            &outs,
            &[groups.clone(), Dim::from(1i64), channels.clone()],
        ]
        .concat();
        let part = cx.build.reshape(part, apart)?;
        let factor = cx.build.reshape(
            factor,
            vec![groups.clone(), features.clone(), channels.clone()],
        )?;
        let product = cx.build.times(part, factor)?;
        let (axes, keepdim) = (vec![cx.build.rank(product)? - 1], false);
        let product = cx.build.add(op::Sum { axes, keepdim }, &[product])?;
        sum = Some(match sum {
            Some(sum) => cx.build.plus(sum, product)?,
            None => product,
        });
    }
    let Some(sum) = sum else {
        return invalid("a kernel without elements");
    };
    let merged = [&shape[..1], &outs, &kernel[..1]].concat();
    let sum = cx.build.reshape(sum, merged)?;
    cx.build.cast(sum, cx.build.dtype(x)?)
}
