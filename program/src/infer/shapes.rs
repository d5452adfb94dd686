//! Shapes of results, from shapes of operands.

use super::length::Length;
use super::promote::promoted;
use super::{Array, Walk};
use crate::dtype::ScalarType as T;
use crate::instr::{IntOrVid, Slice, Tid};

/// `axis` counted from the front of `rank` axes, if there is one.
pub(super) fn counted(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let counted = if axis < 0 {
        axis.checked_add(rank)?
    } else {
        axis
    };
    usize::try_from(counted).ok().filter(|_| counted < rank)
}

/// The array without an axis.
pub(super) fn without(array: &Array, axis: i64) -> Array {
    let shape = array.shape.clone().and_then(|mut shape| {
        shape.remove(counted(axis, shape.len())?);
        Some(shape)
    });
    Array { shape, ..*array }
}

/// The array with a new axis of a length.
pub(super) fn with(array: &Array, axis: i64, length: Length) -> Array {
    let shape = array.shape.clone().and_then(|mut shape| {
        shape.insert(counted(axis, shape.len() + 1)?, length);
        Some(shape)
    });
    Array { shape, ..*array }
}

pub(super) type Shape = Option<Vec<Length>>;

/// One spatial axis of a convolution: what its lengths become.
pub(super) struct Window {
    stride: i32,
    padding: i32,
    dilation: i32,
    /// More at the end, of a transposed one.
    pub(super) more: i32,
}

pub(super) fn window(stride: i32, padding: i32, dilation: i32) -> Window {
    Window {
        stride,
        padding,
        dilation,
        more: 0,
    }
}

impl Walk<'_> {
    pub(super) fn like(&self, tid: Tid) -> (Option<T>, Shape) {
        let Array { dtype, shape } = self.array(tid);
        (dtype, shape)
    }

    pub(super) fn ints(&self, values: &[IntOrVid]) -> Vec<Length> {
        values.iter().map(|value| self.int(*value)).collect()
    }

    /// Arrays brought to one type and one shape.
    pub(super) fn broadcast_of(&mut self, tids: &[Tid]) -> (Option<T>, Shape) {
        let mut arrays = tids.iter().map(|tid| self.array(*tid)).collect::<Vec<_>>();
        let Some(first) = arrays.pop() else {
            return (None, None);
        };
        arrays
            .into_iter()
            .rev()
            .fold((first.dtype, first.shape), |(dtype, shape), other| {
                let shape = self.broadcast(other.shape, shape);
                (promoted(other.dtype, dtype), shape)
            })
    }

    pub(super) fn broadcast(&mut self, a: Shape, b: Shape) -> Shape {
        let (a, b) = (a?, b?);
        let rank = a.len().max(b.len());
        let pairs = leading_ones(a, rank).into_iter().zip(leading_ones(b, rank));
        Some(pairs.map(|(a, b)| self.lengths.broadcast(a, b)).collect())
    }

    pub(super) fn normed(&self, x: Tid, weights: &[Option<Tid>]) -> (Option<T>, Shape) {
        let Array { dtype, shape } = self.array(x);
        let types = weights.iter().flatten().map(|tid| self.array(*tid).dtype);
        (types.fold(dtype, promoted), shape)
    }

    /// The shape of the query, with the width of the values.
    pub(super) fn attended(&self, q: Tid, v: Tid) -> Shape {
        let width = self.axis(&self.array(v), -1).unwrap_or(Length::Unknown);
        let mut shape = self.array(q).shape?;
        *shape.last_mut()? = width;
        Some(shape)
    }

    pub(super) fn product(&mut self, a: Tid, b: Tid, bias: Option<Tid>) -> (Option<T>, Shape) {
        let (a, b) = (self.array(a), self.array(b));
        let mut dtype = promoted(a.dtype, b.dtype);
        if let Some(bias) = bias {
            dtype = promoted(dtype, self.array(bias).dtype);
        }
        (dtype, self.matrices(a.shape, b.shape))
    }

    pub(super) fn matrices(&mut self, a: Shape, b: Shape) -> Shape {
        let (mut a, mut b) = (a?, b?);
        // A vector is a matrix of one row, or one column, for the time of the product.
        let (row, column) = (a.len() == 1, b.len() == 1);
        if row {
            a.insert(0, Length::Known(1));
        }
        if column {
            b.push(Length::Known(1));
        }
        let (rows, columns) = (a.get(a.len().checked_sub(2)?).copied()?, b.pop()?);
        a.truncate(a.len() - 2);
        b.pop();
        let mut shape = self.broadcast(Some(a), Some(b))?;
        shape.extend((!row).then_some(rows));
        shape.extend((!column).then_some(columns));
        Some(shape)
    }

    /// How many numbers lie across a packed matrix: its rows if it is used transposed, else what is packed in its last axis.
    pub(super) fn unpacked(&mut self, w: &Array, transposed: bool, bits: i32) -> Length {
        if transposed {
            return self.axis(w, -2).unwrap_or(Length::Unknown);
        }
        let packed = self.axis(w, -1).unwrap_or(Length::Unknown);
        self.lengths.scaled(packed, [32, i64::from(bits.max(1)), 0])
    }

    pub(super) fn quantized(&self, x: Option<T>, scales: Tid, mode: &str) -> Option<T> {
        match mode {
            "affine" => promoted(x, self.array(scales).dtype),
            _ => x,
        }
    }

    /// Matrices picked out of batches; without indices each batch is as it is.
    pub(super) fn gathered(
        &mut self,
        a: &Array,
        b: &Array,
        at: [Option<Tid>; 2],
        columns: Length,
    ) -> Shape {
        let batch = |array: &Array| {
            let shape = array.shape.as_deref()?;
            Some(shape.get(..shape.len().checked_sub(2)?)?.to_vec())
        };
        let picked = |array: &Array, at: Option<Tid>| match at {
            Some(tid) => self.array(tid).shape,
            None => batch(array),
        };
        let (left, right) = (picked(a, at[0]), picked(b, at[1]));
        let rows = self.axis(a, -2)?;
        let mut shape = self.broadcast(left, right)?;
        shape.extend([rows, columns]);
        Some(shape)
    }

    pub(super) fn conv(&mut self, x: Tid, w: Tid, windows: &[Window]) -> (Option<T>, Shape) {
        self.convolved(x, w, windows, |walk, length, size, one| {
            let reach = i64::from(one.dilation) * (size - 1) + 1 - 2 * i64::from(one.padding);
            let room = walk.lengths.subtract(length, Length::Known(reach));
            walk.lengths
                .scaled(room, [1, i64::from(one.stride.max(1)), 1])
        })
    }

    pub(super) fn conv_transposed(
        &mut self,
        x: Tid,
        w: Tid,
        windows: &[Window],
    ) -> (Option<T>, Shape) {
        self.convolved(x, w, windows, |walk, length, size, one| {
            let stride = i64::from(one.stride.max(1));
            let more = i64::from(one.dilation) * (size - 1) + 1 + i64::from(one.more)
                - 2 * i64::from(one.padding);
            walk.lengths.scaled(length, [stride, 1, more - stride])
        })
    }

    pub(super) fn convolved(
        &mut self,
        x: Tid,
        w: Tid,
        windows: &[Window],
        one: impl Fn(&mut Self, Length, i64, &Window) -> Length,
    ) -> (Option<T>, Shape) {
        let (x, w) = (self.array(x), self.array(w));
        let dtype = promoted(x.dtype, w.dtype);
        let (Some(mut shape), Some(kernel)) = (x.shape, w.shape) else {
            return (dtype, None);
        };
        let rank = windows.len() + 2;
        if shape.len() != rank || kernel.len() != rank {
            return (dtype, None);
        }
        for (at, window) in (1..).zip(windows) {
            shape[at] = match kernel[at] {
                Length::Known(size) => one(self, shape[at], size, window),
                _ => Length::Unknown,
            };
        }
        shape[rank - 1] = kernel[0];
        (dtype, Some(shape))
    }

    /// Axes that may be of length 1 or not leave the number of axes open.
    pub(super) fn squeezed(&self, shape: Vec<Length>, dims: &[i32]) -> Shape {
        let rank = shape.len();
        let named = dims.iter().map(|axis| counted((*axis).into(), rank));
        let named = named.collect::<Option<Vec<usize>>>()?;
        let mut kept = Vec::with_capacity(rank);
        for (at, length) in shape.into_iter().enumerate() {
            let stays = !named.is_empty() && !named.contains(&at);
            match self.lengths.bounds(length) {
                _ if stays => kept.push(length),
                (1, Some(1)) => {}
                (min, max) if min > 1 || max == Some(0) => kept.push(length),
                _ => return None,
            }
        }
        Some(kept)
    }

    pub(super) fn reshaped(&mut self, from: Option<&[Length]>, to: &[IntOrVid]) -> Shape {
        let mut shape = self.ints(to);
        if let Some(open) = shape.iter().position(|n| *n == Length::Known(-1)) {
            shape[open] = Length::Known(1);
            let all = from.and_then(|from| self.lengths.product(from));
            let others = self.lengths.product(&shape);
            shape[open] = match all.zip(others) {
                Some((all, others)) => self.lengths.quotient(all, others),
                None => Length::Unknown,
            };
        }
        Some(shape)
    }

    pub(super) fn sliced(&mut self, mut shape: Vec<Length>, i: &Slice) -> Shape {
        let Length::Known(axis) = self.int(i.axis) else {
            return Some(vec![Length::Unknown; shape.len()]);
        };
        let at = counted(axis, shape.len())?;
        let (start, stop) = (self.int(i.start), self.int(i.stop));
        shape[at] = if i.step > 0 {
            let start = self.lengths.position(start, shape[at]);
            let stop = self.lengths.position(stop, shape[at]);
            let span = self.lengths.subtract(stop, start);
            let step = i64::from(i.step);
            let rounded = self.lengths.add(span, Length::Known(step - 1));
            let count = self.lengths.divide(rounded, Length::Known(step));
            match not_negative(count) {
                Length::Unknown => {
                    let (_, longest) = self.lengths.bounds(shape[at]);
                    self.lengths.fresh(0, longest)
                }
                known => known,
            }
        } else {
            let (_, longest) = self.lengths.bounds(shape[at]);
            self.lengths.fresh(0, longest)
        };
        Some(shape)
    }

    /// The lengths that an axis is cut into.
    pub(super) fn pieces(
        &mut self,
        x: &Array,
        axis: i64,
        sizes: &[IntOrVid],
        count: usize,
    ) -> Vec<Length> {
        let sizes = self.ints(sizes);
        let [size] = sizes[..] else {
            let any = std::iter::repeat(Length::Unknown);
            return sizes.into_iter().chain(any).take(count).collect();
        };
        let before = Length::Known(count as i64 - 1);
        let before = self.lengths.multiply(size, before);
        let whole = self.axis(x, axis).unwrap_or(Length::Unknown);
        let rest = self.lengths.subtract(whole, before);
        let mut pieces = vec![size; count];
        if let Some(end) = pieces.last_mut() {
            *end = rest;
        }
        pieces
    }

    pub(super) fn joined(&mut self, tensors: &[Tid], axis: i64) -> (Option<T>, Shape) {
        let arrays: Vec<Array> = tensors.iter().map(|tid| self.array(*tid)).collect();
        let types = arrays.iter().map(|array| array.dtype);
        let dtype = types.reduce(promoted).flatten();
        let lengths = arrays.iter().map(|array| self.axis(array, axis));
        let lengths = lengths.collect::<Option<Vec<Length>>>();
        let shape = lengths.and_then(|lengths| {
            let all = lengths.into_iter();
            let sum = all.reduce(|a, b| self.lengths.add(a, b))?;
            let mut shape = arrays.into_iter().next()?.shape?;
            let at = counted(axis, shape.len())?;
            shape[at] = sum;
            Some(shape)
        });
        (dtype, shape)
    }

    /// Whole rows where the other axes don't broadcast; whether they do must be known.
    pub(super) fn taken_along(&mut self, x: Shape, indices: Shape, axis: i64) -> Shape {
        let (mut own, at) = (x.clone()?, indices.clone()?);
        if own.len() != at.len() {
            return None;
        }
        let along = counted(axis, own.len())?;
        own[along] = at[along];
        let differ = own.iter().zip(&at).any(|pair| match pair {
            (Length::Known(a), Length::Known(b)) => a != b && *a != 1 && *b != 1,
            _ => false,
        });
        if differ {
            return taken(x, axis, indices);
        }
        let clear = own
            .iter()
            .zip(&at)
            .all(|(a, b)| a == b || self.is_one(*a) || self.is_one(*b));
        if clear {
            self.broadcast(Some(own), Some(at))
        } else {
            None
        }
    }

    fn is_one(&self, length: Length) -> bool {
        length == Length::Known(1)
    }
}

pub(super) fn reduced(shape: Shape, axes: &[i32], keepdims: bool) -> Shape {
    let shape = shape?;
    let rank = shape.len();
    let axes = axes.iter().map(|axis| counted((*axis).into(), rank));
    let axes = axes.collect::<Option<Vec<usize>>>()?;
    let goes = |at: &usize| axes.is_empty() || axes.contains(at);
    let lengths = shape.into_iter().enumerate();
    Some(match keepdims {
        true => lengths
            .map(|(at, n)| if goes(&at) { Length::Known(1) } else { n })
            .collect(),
        false => lengths
            .filter(|(at, _)| !goes(at))
            .map(|(_, n)| n)
            .collect(),
    })
}

/// An axis replaced by the shape of the indices.
pub(super) fn taken(x: Shape, axis: i64, indices: Shape) -> Shape {
    let (mut x, indices) = (x?, indices?);
    let at = counted(axis, x.len())?;
    x.splice(at..=at, indices);
    Some(x)
}

pub(super) fn leading_ones(shape: Vec<Length>, rank: usize) -> Vec<Length> {
    let missing = rank.saturating_sub(shape.len());
    let ones = std::iter::repeat_n(Length::Known(1), missing);
    ones.chain(shape).collect()
}

pub(super) fn not_negative(length: Length) -> Length {
    match length {
        Length::Known(n) => Length::Known(n.max(0)),
        other => other,
    }
}
