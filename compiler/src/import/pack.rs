//! Constants that are made from others when the file is written: quantised integers in MLX's layout, and their scales and biases. Nothing of them is kept in memory.

use std::borrow::Cow;
use std::ops::Range;

use fuseline_ir::graph::Payload;
use fuseline_ir::{DType, Scalar, Tensor};

use super::symbolic;
use crate::pt2::WeightRef;

/// Quantised integers as a stream of bits: of each row's elements `low + u`, the lowest `bits` of u, in words of 32 bits.
pub(super) struct Packed {
    /// The integers.
    pub codes: WeightRef,
    /// Set where a byte holds two of them in 4 bits each, the lower one first; the number is what stands for 0.
    pub nibbles: Option<i64>,
    /// What an element of zero bits stands for.
    pub low: i64,
    /// Bits of an element.
    pub bits: usize,
}

impl Packed {
    /// Calls `f` with each integer of a range.
    fn for_each(
        &self,
        range: Range<usize>,
        mut f: impl FnMut(i64) -> Result<(), String>,
    ) -> Result<(), String> {
        let bytes = match self.nibbles {
            Some(_) => self.codes.range(range.start / 2..range.end / 2)?,
            None => {
                let width = self.codes.dtype.size();
                self.codes.range(range.start * width..range.end * width)?
            }
        };
        if let Some(zero) = self.nibbles {
            return bytes.iter().try_for_each(|byte| {
                f(i64::from(byte & 15) + zero)?;
                f(i64::from(byte >> 4) + zero)
            });
        }
        let dtype = symbolic::dtype(self.codes.dtype)
            .map_err(|_| format!("`{}` doesn't hold integers", self.codes.fqn))?;
        match dtype {
            DType::I8 => bytes.iter().try_for_each(|byte| f(i64::from(*byte as i8))),
            DType::U8 => bytes.iter().try_for_each(|byte| f(i64::from(*byte))),
            _ => {
                let width = dtype.size();
                for chunk in bytes.chunks(TILE * width) {
                    let tile = Tensor::from_bytes(dtype, vec![chunk.len() / width], chunk)
                        .map_err(|e| e.to_string())?;
                    tile.to_i64().into_iter().try_for_each(&mut f)?;
                }
                Ok(())
            }
        }
    }
}

/// Elements that are converted at once.
const TILE: usize = 1 << 16;

/// A stream of bits under construction.
struct Stream {
    low: i64,
    bits: usize,
    pending: u32,
    filled: usize,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(low: i64, bits: usize, elements: usize) -> Self {
        Self {
            low,
            bits,
            pending: 0,
            filled: 0,
            bytes: Vec::with_capacity(elements.saturating_mul(bits).div_ceil(8)),
        }
    }

    /// Appends an integer; `None` where its bits are too few for it.
    fn push(&mut self, q: i64) -> Option<()> {
        let u = u32::try_from(q.checked_sub(self.low)?).ok()?;
        if u >> self.bits != 0 {
            return None;
        }
        self.pending |= u << self.filled;
        self.filled += self.bits;
        while self.filled >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
        Some(())
    }
}

impl Payload for Packed {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        let each = if self.nibbles.is_some() { 2 } else { 1 };
        self.range(0..self.codes.numel() * each / 8 * self.bits)
    }

    /// Rows end on whole words, so the stream runs through them: eight elements fill as many bytes as each has bits.
    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let (first, last) = (range.start / self.bits, range.end.div_ceil(self.bits));
        let elements = first * 8..last * 8;
        let mut stream = Stream::new(self.low, self.bits, elements.len());
        self.for_each(elements, |q| {
            stream.push(q).ok_or_else(|| {
                let count = 1u32 << self.bits;
                format!(
                    "`{}` holds {q}, which is not among the {count} values from {} on",
                    self.codes.fqn, self.low
                )
            })
        })?;
        let skipped = range.start - first * self.bits;
        stream.bytes.truncate(skipped + range.len());
        stream.bytes.drain(..skipped);
        Ok(Cow::Owned(stream.bytes))
    }
}

/// One number for each group, from up to three lists of numbers.
pub(super) struct Groups {
    /// Scales of the groups as the export has them.
    pub scale: WeightRef,
    /// Set where `scale` and `zero` are stored with the groups' axis before the rows'.
    pub transposed: bool,
    /// How many of MLX's groups each of them is cut into.
    pub repeat: usize,
    /// Dtype of the result.
    pub dtype: DType,
    /// Set where the result is not the scales.
    pub offset: Option<Offset>,
}

/// `(low − zero)·scale + bias`: what an element of zero bits stands for.
pub(super) struct Offset {
    /// The integer that an element of zero bits stands for.
    pub low: i64,
    /// The integer that stands for 0; 0 where there is none.
    pub zero: Option<WeightRef>,
    /// Added to all elements of the group; 0 where there is none.
    pub bias: Option<WeightRef>,
}

impl Groups {
    /// A range of the numbers of `weight`, rows first.
    fn numbers(&self, weight: &WeightRef, range: Range<usize>) -> Result<Vec<f64>, String> {
        let dtype = symbolic::dtype(weight.dtype)
            .map_err(|_| format!("`{}` has an element type without arithmetic", weight.fqn))?;
        let (width, count) = (dtype.size(), range.len());
        let bytes = match (self.transposed, weight.sizes.as_slice()) {
            (true, &[groups, rows]) => {
                let mut bytes = Vec::with_capacity(count * width);
                for i in range {
                    let at = (i % groups * rows + i / groups) * width;
                    bytes.extend_from_slice(&weight.range(at..at + width)?);
                }
                Cow::Owned(bytes)
            }
            _ => weight.range(range.start * width..range.end * width)?,
        };
        let tensor = Tensor::from_bytes(dtype, vec![count], &bytes).map_err(|e| e.to_string())?;
        Ok(tensor.to_f64())
    }
}

impl Payload for Groups {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.range(0..self.scale.numel() * self.repeat * self.dtype.size())
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        // A number of the export's gives so many bytes.
        let unit = self.repeat * self.dtype.size();
        let numbers = range.start / unit..range.end.div_ceil(unit);
        let skipped = range.start - numbers.start * unit;
        let mut values = self.numbers(&self.scale, numbers.clone())?;
        if let Some(Offset { low, zero, bias }) = &self.offset {
            let list = |list: &Option<WeightRef>| {
                let numbers = list
                    .as_ref()
                    .map(|list| self.numbers(list, numbers.clone()));
                numbers.transpose()
            };
            let (zero, bias) = (list(zero)?, list(bias)?);
            let at = |list: &Option<Vec<f64>>, i: usize| {
                list.as_ref()
                    .and_then(|list| list.get(i))
                    .copied()
                    .unwrap_or(0.0)
            };
            for (i, scale) in values.iter_mut().enumerate() {
                *scale = (*low as f64 - at(&zero, i)) * *scale + at(&bias, i);
            }
        }
        let count = values.len() * self.repeat;
        let tensor = Tensor::from_fn(self.dtype, vec![count], |i| {
            Scalar::float(values[i / self.repeat])
        });
        let mut bytes = tensor.map_err(|e| e.to_string())?.to_bytes();
        bytes.truncate(skipped + range.len());
        bytes.drain(..skipped);
        Ok(Cow::Owned(bytes))
    }
}

/// A weight's bytes under another element type.
pub(super) struct Reinterpreted(pub WeightRef);

impl Payload for Reinterpreted {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        Ok(self.0.contiguous_bytes())
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        self.0.range(range)
    }

    fn stored(&self) -> Option<&[u8]> {
        self.0.stored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_one_after_the_other_lowest_bit_first() {
        let packed = |low: i64, bits: usize, elements: &[i64]| {
            let mut stream = Stream::new(low, bits, elements.len());
            for q in elements {
                stream.push(*q)?;
            }
            Some(stream.bytes)
        };
        assert_eq!(packed(-8, 4, &[-8, 7, 0, -1]), Some(vec![0xf0, 0x78]));
        assert_eq!(packed(0, 2, &[1, 2, 3, 0]), Some(vec![0b0011_1001]));
        // Eight elements of three bits in three bytes: 0 1 2 3 4 5 6 7.
        assert_eq!(
            packed(-4, 3, &[-4, -3, -2, -1, 0, 1, 2, 3]),
            Some(vec![0x88, 0xc6, 0xfa])
        );
        assert_eq!(packed(-128, 8, &[-128, 127]), Some(vec![0, 255]));
        assert_eq!(
            packed(0, 5, &[31, 0, 31, 0, 31, 0, 31, 0]),
            Some(vec![0x1f, 0x7c, 0xf0, 0xc1, 0x07])
        );
        assert_eq!(packed(-8, 4, &[8]), None);
        assert_eq!(packed(-8, 4, &[-9]), None);
        assert_eq!(packed(i64::MIN, 4, &[i64::MAX]), None);
    }
}
