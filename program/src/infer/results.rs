//! What each instruction makes of what is known of its operands.

use super::length::{Length, NONE};
use super::promote::{promoted, summed, with_fraction};
use super::shapes::{
    Shape, counted, leading_ones, not_negative, reduced, taken, window, with, without,
};
use super::{Array, Known, Walk};
use crate::caps;
use crate::dtype::ScalarType as T;
use crate::instr::{Instruction as I, IntOrVid, IntOrVidOrTid};

impl Walk<'_> {
    /// What is known of the results, in the order of the slots that are written. Arrays of more axes than there can be are not followed.
    pub(super) fn results(&mut self, instruction: &I) -> Vec<Known> {
        let mut results = self.made(instruction);
        for known in &mut results {
            if let Known::Tensor(Array { shape, .. }) = known {
                shape.take_if(|shape| shape.len() > caps::RANK);
            }
        }
        results
    }

    fn made(&mut self, instruction: &I) -> Vec<Known> {
        match instruction {
            I::Noop(_) | I::If(_) | I::Scan(_) => Vec::new(),
            I::ItemInt(_) => vec![Known::Int(self.lengths.fresh(NONE, None))],
            I::SymSize(i) => {
                let a = self.array(i.a);
                let length = self.axis(&a, i.dim.into());
                vec![Known::Int(length.unwrap_or(Length::Unknown))]
            }
            I::AddInt(i) => self.host(i.a, i.b, |w, a, b| w.lengths.add(a, b)),
            I::SubtractInt(i) => self.host(i.a, i.b, |w, a, b| w.lengths.subtract(a, b)),
            I::MultiplyInt(i) => self.host(i.a, i.b, |w, a, b| w.lengths.multiply(a, b)),
            I::FloorDivideInt(i) => self.host(i.a, i.b, |w, a, b| w.lengths.divide(a, b)),
            I::ModInt(i) => self.host(i.a, i.b, |w, a, b| w.lengths.rest(a, b)),
            I::Split(i) => {
                let x = self.array(i.x);
                let lengths = self.pieces(&x, i.axis.into(), &i.sizes, i.outs.len());
                let piece = |length| {
                    let mut piece = x.clone();
                    let at = piece.shape.as_ref().map(Vec::len);
                    let at = at.and_then(|rank| counted(i.axis.into(), rank));
                    if let (Some(shape), Some(at)) = (&mut piece.shape, at) {
                        shape[at] = length;
                    }
                    Known::Tensor(piece)
                };
                lengths.into_iter().map(piece).collect()
            }
            I::MetalKernel(i) => {
                let mut rest = i.output_shapes_flat.as_slice();
                let outputs = i.output_dtypes.iter().zip(&i.output_shape_lengths);
                let output = |(dtype, rank): (&T, &i32)| {
                    let (own, others) = rest.split_at_checked(usize::try_from(*rank).ok()?)?;
                    rest = others;
                    let shape = own.iter().map(|n| self.int(*n)).collect();
                    Some(Known::Tensor(Array {
                        dtype: Some(*dtype),
                        shape: Some(shape),
                    }))
                };
                let known: Vec<Known> = outputs.map_while(output).collect();
                let any = std::iter::repeat(Known::Tensor(Array::ANY));
                known.into_iter().chain(any).take(i.outputs.len()).collect()
            }
            other => {
                let (dtype, shape) = self.array_of(other);
                vec![Known::Tensor(Array { dtype, shape })]
            }
        }
    }

    fn host(
        &mut self,
        a: IntOrVid,
        b: IntOrVid,
        of: impl Fn(&mut Self, Length, Length) -> Length,
    ) -> Vec<Known> {
        let (a, b) = (self.int(a), self.int(b));
        vec![Known::Int(of(self, a, b))]
    }

    /// The result of an instruction that has one, and it is an array.
    fn array_of(&mut self, instruction: &I) -> (Option<T>, Shape) {
        macro_rules! x {
            ($i:expr) => {{
                let Array { dtype, shape } = self.array($i.x);
                (dtype, shape)
            }};
        }
        macro_rules! pair {
            ($i:expr) => {
                self.broadcast_of(&[$i.a, $i.b])
            };
        }
        macro_rules! reduced {
            ($i:expr, $dtype:expr) => {{
                let (dtype, shape) = x!($i);
                ($dtype(dtype), reduced(shape, &$i.axes, $i.keepdims))
            }};
        }
        let same = |dtype: Option<T>| dtype;
        let truth = |_: Option<T>| Some(T::Bool);
        match instruction {
            // As the operand is.
            I::IdCopy(i) => x!(i),
            I::Neg(i) => x!(i),
            I::Sign(i) => x!(i),
            I::Square(i) => x!(i),
            I::Floor(i) => x!(i),
            I::Ceil(i) => x!(i),
            I::Trunc(i) => x!(i),
            I::Round(i) => x!(i),
            I::BitwiseInvert(i) => x!(i),
            I::Tril(i) => x!(i),
            I::Triu(i) => x!(i),
            I::Contiguous(i) => x!(i),
            I::Roll(i) => x!(i),
            I::Flip(i) => x!(i),
            I::Sort(i) => x!(i),
            I::Partition(i) => x!(i),
            I::Gelu(i) => x!(i),
            I::Rope(i) => x!(i),
            I::ScatterAdd(i) => x!(i),
            I::SliceUpdate(i) => self.like(i.dst),
            I::IndexCopy(i) => self.like(i.dst),
            I::Abs(i) => {
                let (dtype, shape) = x!(i);
                let real = |dtype| if dtype == T::C64 { T::F32 } else { dtype };
                (dtype.map(real), shape)
            }
            I::AsType(i) => (Some(i.scalar_type), x!(i).1),
            I::Cumsum(i) => {
                let (dtype, shape) = x!(i);
                let counted = |dtype| if dtype == T::Bool { T::I32 } else { dtype };
                (dtype.map(counted), shape)
            }
            I::LogicalNot(i) => (Some(T::Bool), x!(i).1),
            I::Argsort(i) => (Some(T::U32), x!(i).1),
            I::ArgPartition(i) => (Some(T::U32), x!(i).1),

            // With a fraction.
            I::Sqrt(i) => fractional(x!(i)),
            I::Rsqrt(i) => fractional(x!(i)),
            I::Reciprocal(i) => fractional(x!(i)),
            I::Exp(i) => fractional(x!(i)),
            I::Expm1(i) => fractional(x!(i)),
            I::Log(i) => fractional(x!(i)),
            I::Log2(i) => fractional(x!(i)),
            I::Log10(i) => fractional(x!(i)),
            I::Log1p(i) => fractional(x!(i)),
            I::Erf(i) => fractional(x!(i)),
            I::Sin(i) => fractional(x!(i)),
            I::Cos(i) => fractional(x!(i)),
            I::Tan(i) => fractional(x!(i)),
            I::Arcsin(i) => fractional(x!(i)),
            I::Arccos(i) => fractional(x!(i)),
            I::Arctan(i) => fractional(x!(i)),
            I::Sinh(i) => fractional(x!(i)),
            I::Cosh(i) => fractional(x!(i)),
            I::Tanh(i) => fractional(x!(i)),
            I::Arcsinh(i) => fractional(x!(i)),
            I::Arccosh(i) => fractional(x!(i)),
            I::Arctanh(i) => fractional(x!(i)),
            I::Sigmoid(i) => fractional(x!(i)),
            I::Silu(i) => fractional(x!(i)),
            I::Softmax(i) => fractional(x!(i)),

            // Two operands broadcast.
            I::Add(i) => pair!(i),
            I::Subtract(i) => pair!(i),
            I::Multiply(i) => pair!(i),
            I::FloorDivide(i) => pair!(i),
            I::Remainder(i) => pair!(i),
            I::Power(i) => pair!(i),
            I::Maximum(i) => pair!(i),
            I::Minimum(i) => pair!(i),
            I::BitwiseAnd(i) => pair!(i),
            I::BitwiseOr(i) => pair!(i),
            I::BitwiseXor(i) => pair!(i),
            I::Divide(i) => fractional(pair!(i)),
            I::Atan2(i) => fractional(pair!(i)),
            I::LogAddExp(i) => fractional(pair!(i)),
            I::Less(i) => (Some(T::Bool), pair!(i).1),
            I::LessEqual(i) => (Some(T::Bool), pair!(i).1),
            I::Greater(i) => (Some(T::Bool), pair!(i).1),
            I::GreaterEqual(i) => (Some(T::Bool), pair!(i).1),
            I::Equal(i) => (Some(T::Bool), pair!(i).1),
            I::NotEqual(i) => (Some(T::Bool), pair!(i).1),
            I::LogicalAnd(i) => (Some(T::Bool), pair!(i).1),
            I::LogicalOr(i) => (Some(T::Bool), pair!(i).1),
            I::Where(i) => {
                let shape = self.broadcast_of(&[i.condition, i.x, i.y]).1;
                (self.broadcast_of(&[i.x, i.y]).0, shape)
            }
            I::Clip(i) => {
                let operands = [Some(i.x), i.a_min, i.a_max];
                self.broadcast_of(&operands.into_iter().flatten().collect::<Vec<_>>())
            }

            // Reductions.
            I::Sum(i) => reduced!(i, summed),
            I::Prod(i) => reduced!(i, summed),
            I::Mean(i) => reduced!(i, with_fraction),
            I::Var(i) => reduced!(i, with_fraction),
            I::Std(i) => reduced!(i, with_fraction),
            I::LogSumExp(i) => reduced!(i, with_fraction),
            I::Median(i) => reduced!(i, with_fraction),
            I::Max(i) => reduced!(i, same),
            I::Min(i) => reduced!(i, same),
            I::Any(i) => reduced!(i, truth),
            I::All(i) => reduced!(i, truth),
            I::Argmax(i) => (Some(T::U32), reduced(x!(i).1, &[i.axis], i.keepdims)),
            I::Argmin(i) => (Some(T::U32), reduced(x!(i).1, &[i.axis], i.keepdims)),

            // Fused operations of transformers.
            I::RmsNorm(i) => self.normed(i.x, &[i.weight]),
            I::LayerNorm(i) => self.normed(i.x, &[i.weight, i.bias]),
            I::Sdpa(i) => {
                let dtype = self.broadcast_of(&[i.q, i.k, i.v]).0;
                (dtype, self.attended(i.q, i.v))
            }
            I::UpdateAndAttend(i) => {
                let dtype = i.out_dtype.or(self.array(i.q).dtype);
                (dtype, self.attended(i.q, i.v))
            }
            I::Addmm(i) => self.product(i.mat1, i.mat2, i.bias),
            I::QuantizedMatmul(i) => {
                let (x, w) = (self.array(i.x), self.array(i.w));
                let columns = self.unpacked(&w, i.transpose, i.bits);
                let shape = x.shape.and_then(|mut shape| {
                    *shape.last_mut()? = columns;
                    Some(shape)
                });
                (self.quantized(x.dtype, i.scales, &i.mode), shape)
            }
            I::GatherMm(i) => {
                let (a, b) = (self.array(i.a), self.array(i.b));
                let columns = self.axis(&b, -1).unwrap_or(Length::Unknown);
                let shape = self.gathered(&a, &b, [i.lhs_indices, i.rhs_indices], columns);
                (promoted(a.dtype, b.dtype), shape)
            }
            I::GatherQmm(i) => {
                let (x, w) = (self.array(i.x), self.array(i.w));
                let columns = self.unpacked(&w, i.transpose, i.bits);
                let shape = self.gathered(&x, &w, [i.lhs_indices, i.rhs_indices], columns);
                (self.quantized(x.dtype, i.scales, &i.mode), shape)
            }
            I::Dequantize(i) => {
                let mut w = self.array(i.w);
                let columns = self.unpacked(&w, false, i.bits);
                if let Some(length) = w.shape.as_mut().and_then(|shape| shape.last_mut()) {
                    *length = columns;
                }
                let own = match i.mode.as_str() {
                    "affine" => self.array(i.scales).dtype,
                    _ => Some(T::BF16),
                };
                (i.dtype.or(own), w.shape)
            }
            I::Conv1D(i) => self.conv(i.x, i.w, &[window(i.stride, i.padding, i.dilation)]),
            I::Conv2D(i) => {
                let h = window(i.stride_h, i.padding_h, i.dilation_h);
                let w = window(i.stride_w, i.padding_w, i.dilation_w);
                self.conv(i.x, i.w, &[h, w])
            }
            I::Conv3D(i) => {
                let d = window(i.stride_d, i.padding_d, i.dilation_d);
                let h = window(i.stride_h, i.padding_h, i.dilation_h);
                let w = window(i.stride_w, i.padding_w, i.dilation_w);
                self.conv(i.x, i.w, &[d, h, w])
            }
            I::ConvTranspose1D(i) => {
                let mut one = window(i.stride, i.padding, i.dilation);
                one.more = i.output_padding;
                self.conv_transposed(i.x, i.w, &[one])
            }
            I::ConvTranspose2D(i) => {
                let mut h = window(i.stride_h, i.padding_h, i.dilation_h);
                let mut w = window(i.stride_w, i.padding_w, i.dilation_w);
                (h.more, w.more) = (i.output_padding_h, i.output_padding_w);
                self.conv_transposed(i.x, i.w, &[h, w])
            }
            I::ConvTranspose3D(i) => {
                let mut d = window(i.stride_d, i.padding_d, i.dilation_d);
                let mut h = window(i.stride_h, i.padding_h, i.dilation_h);
                let mut w = window(i.stride_w, i.padding_w, i.dilation_w);
                (d.more, h.more) = (i.output_padding_d, i.output_padding_h);
                w.more = i.output_padding_w;
                self.conv_transposed(i.x, i.w, &[d, h, w])
            }

            // Shapes.
            I::ExpandDims(i) => {
                let x = with(&self.array(i.x), i.axis.into(), Length::Known(1));
                (x.dtype, x.shape)
            }
            I::Squeeze(i) => {
                let (dtype, shape) = x!(i);
                (dtype, shape.and_then(|shape| self.squeezed(shape, &i.dims)))
            }
            I::Reshape(i) => {
                let x = self.array(i.x);
                (x.dtype, self.reshaped(x.shape.as_deref(), &i.shape))
            }
            I::Transpose(i) => {
                let (dtype, shape) = x!(i);
                let axes = |shape: Vec<Length>| {
                    let axes = i
                        .perm
                        .iter()
                        .map(|axis| counted((*axis).into(), shape.len()));
                    axes.map(|axis| shape.get(axis?).copied()).collect()
                };
                (dtype, shape.and_then(axes))
            }
            I::BroadcastTo(i) => {
                let (dtype, shape) = x!(i);
                let mut to = self.ints(&i.shape);
                let own = shape.map(|shape| shape.into_iter().rev().map(Some));
                let own = own.into_iter().flatten().chain(std::iter::repeat(None));
                for (entry, own) in to.iter_mut().rev().zip(own) {
                    if *entry == Length::Known(-1) {
                        *entry = own.unwrap_or(Length::Unknown);
                    }
                }
                (dtype, Some(to))
            }
            I::AsStrided(i) => (x!(i).0, Some(self.ints(&i.shape))),
            I::Slice(i) => {
                let (dtype, shape) = x!(i);
                (dtype, shape.and_then(|shape| self.sliced(shape, i)))
            }
            I::Concatenate(i) => self.joined(&i.tensors, i.axis.into()),
            I::Stack(i) => {
                let (dtype, _) = self.broadcast_of(&i.tensors);
                let first = i.tensors.first().map(|tid| self.array(*tid));
                let count = Length::Known(i.tensors.len() as i64);
                let shape = first.and_then(|first| with(&first, i.axis.into(), count).shape);
                (dtype, shape)
            }
            I::Tile(i) => {
                let (dtype, shape) = x!(i);
                let reps = self.ints(&i.reps);
                let tiled = |shape: Vec<Length>| {
                    let rank = shape.len().max(reps.len());
                    let (shape, reps) = (leading_ones(shape, rank), leading_ones(reps, rank));
                    let lengths = shape.into_iter().zip(reps);
                    lengths
                        .map(|(n, times)| self.lengths.multiply(n, times))
                        .collect()
                };
                (dtype, shape.map(tiled))
            }
            I::Repeat(i) => {
                let (dtype, shape) = x!(i);
                let times = self.int(i.repeats);
                let repeated = |mut shape: Vec<Length>| {
                    let at = counted(i.axis.into(), shape.len())?;
                    shape[at] = self.lengths.multiply(shape[at], times);
                    Some(shape)
                };
                (dtype, shape.and_then(repeated))
            }
            I::Pad(i) => {
                let (dtype, shape) = x!(i);
                let widths = self.ints(&i.pad_width);
                let padded = |shape: Vec<Length>| {
                    let widths = widths.as_chunks::<2>().0;
                    let lengths = shape.into_iter().zip(widths);
                    let one = |(n, [before, after]): (Length, &[Length; 2])| {
                        let more = self.lengths.add(*before, *after);
                        self.lengths.add(n, more)
                    };
                    lengths.map(one).collect()
                };
                (dtype, shape.map(padded))
            }

            // Positions.
            I::Take(i) => {
                let x = self.array(i.x);
                match i.index {
                    IntOrVidOrTid::Tid(tid) => {
                        let indices = self.array(tid).shape;
                        (x.dtype, taken(x.shape, i.axis.into(), indices))
                    }
                    _ => (x.dtype, without(&x, i.axis.into()).shape),
                }
            }
            I::TakeAlongAxis(i) => {
                let (x, indices) = (self.array(i.x), self.array(i.indices));
                (
                    x.dtype,
                    self.taken_along(x.shape, indices.shape, i.axis.into()),
                )
            }
            I::Gather(i) => {
                let (_, at) = self.broadcast_of(&i.indices);
                let sizes = i.slice_sizes.iter().map(|n| Length::Known((*n).into()));
                let joined = at.map(|at| at.into_iter().chain(sizes).collect());
                (x!(i).0, joined)
            }

            // From nothing.
            I::Full(i) => (Some(i.scalar_type), Some(self.ints(&i.shape))),
            I::FullLike(i) => {
                let (dtype, shape) = x!(i);
                (i.scalar_type.or(dtype), shape)
            }
            I::Tri(i) => {
                let shape = vec![self.int(i.n), self.int(i.m)];
                (Some(i.scalar_type), Some(shape))
            }
            I::RandomBits(i) => {
                let dtype = match i.width {
                    1 => Some(T::U8),
                    2 => Some(T::U16),
                    4 => Some(T::U32),
                    _ => None,
                };
                (dtype, Some(self.ints(&i.shape)))
            }
            I::Arange(i) => {
                let (start, stop, step) = (self.int(i.start), self.int(i.stop), self.int(i.step));
                let distance = self.lengths.subtract(stop, start);
                let length = match step {
                    Length::Known(step) if step > 0 => {
                        let rounded = self.lengths.add(distance, Length::Known(step - 1));
                        let count = self.lengths.divide(rounded, Length::Known(step));
                        not_negative(count)
                    }
                    Length::Known(step) if step < 0 => match distance {
                        Length::Known(n) if n <= 0 => Length::Known((n + step + 1) / step),
                        _ => Length::Unknown,
                    },
                    _ => Length::Unknown,
                };
                (Some(i.scalar_type.unwrap_or(T::I32)), Some(vec![length]))
            }

            // Not arrays, or several: see `results`.
            I::Noop(_)
            | I::If(_)
            | I::Scan(_)
            | I::ItemInt(_)
            | I::SymSize(_)
            | I::AddInt(_)
            | I::SubtractInt(_)
            | I::MultiplyInt(_)
            | I::FloorDivideInt(_)
            | I::ModInt(_)
            | I::Split(_)
            | I::MetalKernel(_) => (None, None),
        }
    }
}

fn fractional((dtype, shape): (Option<T>, Shape)) -> (Option<T>, Shape) {
    (with_fraction(dtype), shape)
}
