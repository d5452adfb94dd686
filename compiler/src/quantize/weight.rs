//! One weight in few bits, made block by block when somebody asks for some of its bytes. Nothing of it is kept but how well it fits.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use fuseline_ir::DType;
use fuseline_ir::graph::Payload;
use fuseline_ir::ops::quant::Mode;

use super::affine::{self, LANES};
use super::element::Element;
use super::floats::Rounding;
use super::scheme::Scheme;

/// Elements that are made at once, and whose differences are summed together: a multiple of every group.
const BLOCK: usize = 1 << 16;

/// A weight and the form that it gets.
pub(super) struct Weight {
    /// The weight's own elements, rows of groups.
    pub data: Arc<dyn Payload>,
    /// Their dtype; the scales' and biases' too.
    pub dtype: DType,
    /// How many there are: whole groups.
    pub elements: usize,
    pub scheme: Scheme,
    /// Whether scales are searched for, beyond MLX's.
    pub search: bool,
    sums: Vec<OnceLock<Sums>>,
}

/// The lists of numbers that a quantised weight consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Codes,
    Scales,
    Biases,
}

/// How a weight and what its bits stand for differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// The sum of the squared differences.
    pub error: f64,
    /// The same for MLX's own rounding.
    pub plain: f64,
    /// The sum of the squares.
    pub power: f64,
    /// The largest difference.
    pub worst: f64,
}

impl Sums {
    /// Takes a group into account.
    fn see(&mut self, group: &Differences) {
        self.error += group.error;
        self.power += group.power;
        self.worst = if group.worst < self.worst {
            self.worst
        } else {
            group.worst
        };
    }

    fn add(&mut self, other: &Sums) {
        self.error += other.error;
        self.plain += other.plain;
        self.power += other.power;
        self.worst = if other.worst < self.worst {
            self.worst
        } else {
            other.worst
        };
    }
}

impl Weight {
    pub fn new(
        data: Arc<dyn Payload>,
        dtype: DType,
        elements: usize,
        scheme: Scheme,
        search: bool,
    ) -> Weight {
        Weight {
            data,
            dtype,
            elements,
            scheme,
            search,
            sums: vec![OnceLock::new(); elements.div_ceil(BLOCK)],
        }
    }

    /// Bytes of a list for so many elements.
    pub fn bytes(&self, list: List, elements: usize) -> usize {
        let each = if self.scheme.mode == Mode::Affine {
            self.dtype.size()
        } else {
            1
        };
        match list {
            List::Codes => elements / 8 * self.scheme.bits,
            List::Scales | List::Biases => elements / self.scheme.group * each,
        }
    }

    /// How the whole weight differs. Where no block of it was made yet, it is made for this.
    ///
    /// # Errors
    /// The weight's bytes can't be had.
    pub fn sums(&self) -> Result<Sums, String> {
        let mut all = Sums::default();
        for (at, block) in self.sums.iter().enumerate() {
            if block.get().is_none() {
                self.block(at, List::Codes, &mut Vec::new())?;
            }
            all.add(block.get().unwrap_or(&Sums::default()));
        }
        Ok(all)
    }

    /// Appends a list's bytes for a block.
    fn block(&self, at: usize, list: List, out: &mut Vec<u8>) -> Result<(), String> {
        let width = self.dtype.size();
        let range = at * BLOCK..((at + 1) * BLOCK).min(self.elements);
        let bytes = self.data.range(range.start * width..range.end * width)?;
        let mut sums = Sums::default();
        match self.dtype {
            DType::BF16 => self.groups::<half::bf16>(&bytes, list, &mut sums, out),
            DType::F16 => self.groups::<half::f16>(&bytes, list, &mut sums, out),
            DType::F32 => self.groups::<f32>(&bytes, list, &mut sums, out),
            other => return Err(format!("{other} is not a dtype that is quantised")),
        }
        if !self.search {
            sums.plain = sums.error;
        }
        if let (List::Codes, Some(known)) = (list, self.sums.get(at)) {
            // What is there already is the same.
            known.get_or_init(|| sums);
        }
        Ok(())
    }

    /// The same for the groups of elements in these bytes.
    fn groups<T: Element>(&self, bytes: &[u8], list: List, sums: &mut Sums, out: &mut Vec<u8>) {
        let group = self.scheme.group;
        let mut numbers = vec![0.0f32; group];
        let mut scratch = Scratch {
            codes: vec![0; group],
            stored: vec![0.0; group],
        };
        out.reserve(self.bytes(list, bytes.len() / T::WIDTH));
        for bytes in bytes.chunks_exact(group * T::WIDTH) {
            T::read(bytes, &mut numbers);
            match self.scheme.mode {
                Mode::Affine => self.affine::<T>(&numbers, list, &mut scratch, sums, out),
                mode => {
                    let round = T::rounded;
                    let rounding = Rounding { mode, round };
                    self.small(&numbers, list, &rounding, &mut scratch, sums, out);
                }
            }
        }
    }

    fn affine<T: Element>(
        &self,
        numbers: &[f32],
        list: List,
        Scratch { codes, stored }: &mut Scratch,
        sums: &mut Sums,
        out: &mut Vec<u8>,
    ) {
        let bits = self.scheme.bits;
        let plain = affine::line(numbers, bits);
        let line = if self.search {
            affine::search(numbers, bits, T::rounded)
        } else {
            plain
        };
        match list {
            List::Scales => T::put(line.scale, out),
            List::Biases => T::put(line.bias, out),
            List::Codes => {
                let mut differences = |line: affine::Line, codes: &mut [u8]| {
                    affine::codes(numbers, line, bits, codes);
                    let rounded = affine::Line {
                        scale: T::rounded(line.scale),
                        bias: T::rounded(line.bias),
                    };
                    for (stored, code) in stored.iter_mut().zip(codes) {
                        *stored = rounded.at(*code);
                    }
                    Differences::of(numbers, stored)
                };
                if self.search {
                    sums.plain += differences(plain, codes).error;
                }
                sums.see(&differences(line, codes));
                pack(codes, bits, out);
            }
        }
    }

    fn small<R: Fn(f32) -> f32>(
        &self,
        numbers: &[f32],
        list: List,
        rounding: &Rounding<R>,
        Scratch { codes, stored }: &mut Scratch,
        sums: &mut Sums,
        out: &mut Vec<u8>,
    ) {
        let plain = rounding.scale(numbers);
        let scale = if self.search {
            rounding.search(numbers)
        } else {
            plain
        };
        if list != List::Codes {
            out.push(scale);
            return;
        }
        let mut differences = |scale: u8, codes: &mut [u8]| {
            rounding.codes(numbers, scale, codes);
            rounding.stored(codes, scale, stored);
            Differences::of(numbers, stored)
        };
        if self.search {
            sums.plain += differences(plain, codes).error;
        }
        sums.see(&differences(scale, codes));
        pack(codes, self.scheme.bits, out);
    }
}

/// Room for what becomes of a group.
struct Scratch {
    codes: Vec<u8>,
    stored: Vec<f32>,
}

/// How numbers and what their bits stand for differ.
#[derive(Clone, Copy)]
struct Differences {
    /// The sum of their squares.
    error: f64,
    /// The sum of the numbers' squares.
    power: f64,
    /// The largest.
    worst: f64,
}

impl Differences {
    fn of(numbers: &[f32], stored: &[f32]) -> Differences {
        // Several sums of each kind, so that several elements go at once. A group is small enough for sums in f32.
        let (mut error, mut power, mut worst) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for (numbers, stored) in numbers.chunks_exact(LANES).zip(stored.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let w = numbers[lane];
                let size = (w - stored[lane]).abs();
                error[lane] += size * size;
                power[lane] += w * w;
                worst[lane] = larger(worst[lane], size);
            }
        }
        let sum = |lanes: [f32; LANES]| f64::from(lanes.iter().sum::<f32>());
        let (error, power) = (sum(error), sum(power));
        if power > LEAST_POWER && power < MOST_POWER {
            let worst = worst.into_iter().fold(0.0, larger);
            return Differences {
                error,
                power,
                worst: f64::from(worst),
            };
        }
        Differences::wide(numbers, stored)
    }

    /// The same where squares may not fit in f32.
    fn wide(numbers: &[f32], stored: &[f32]) -> Differences {
        let mut all = Differences {
            error: 0.0,
            power: 0.0,
            worst: 0.0,
        };
        for (w, stored) in numbers.iter().zip(stored) {
            let (w, stored) = (f64::from(*w), f64::from(*stored));
            let size = (w - stored).abs();
            all.error += size * size;
            all.power += w * w;
            all.worst = if size < all.worst { all.worst } else { size };
        }
        all
    }
}

/// The larger of two numbers; NaN if the second one is.
fn larger(a: f32, b: f32) -> f32 {
    if b < a { a } else { b }
}

/// Between these, sums of squares in f32 lose nothing that shows.
const LEAST_POWER: f64 = 1e-20;
const MOST_POWER: f64 = 1e30;

/// A list of a quantised weight, as a constant.
pub(super) struct Part {
    pub weight: Arc<Weight>,
    pub list: List,
}

impl Payload for Part {
    fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        self.range(0..self.weight.bytes(self.list, self.weight.elements))
    }

    fn range(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, String> {
        let unit = self.weight.bytes(self.list, BLOCK);
        let (first, last) = (range.start / unit, range.end.div_ceil(unit));
        let mut out = Vec::with_capacity((last - first) * unit);
        for block in first..last {
            self.weight.block(block, self.list, &mut out)?;
        }
        let skipped = range.start - first * unit;
        if out.len() < skipped + range.len() {
            return Err("bytes past the end of a quantised weight".to_owned());
        }
        out.truncate(skipped + range.len());
        out.drain(..skipped);
        Ok(Cow::Owned(out))
    }
}

/// Appends elements of so many bits, the lowest bit first. Their number is a multiple of eight.
fn pack(codes: &[u8], bits: usize, out: &mut Vec<u8>) {
    if bits == 8 {
        return out.extend_from_slice(codes);
    }
    for eight in codes.as_chunks::<8>().0 {
        // Neighbours are put together: two, then four, then eight.
        let mut word = u64::from_le_bytes(*eight);
        for (step, low) in [
            (0, 0x00ff_00ff_00ff_00ff),
            (1, 0xffff_0000_ffff),
            (2, 0xffff_ffff),
        ] {
            word = (word & low) | ((word >> (8 << step)) & low) << (bits << step);
        }
        out.extend_from_slice(&word.to_le_bytes()[..bits]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(elements: usize, scheme: &str, search: bool) -> Arc<Weight> {
        let bytes: Vec<u8> = (0..elements)
            .flat_map(|i| half::bf16::from_f32(((i * 7919) as f32).sin()).to_le_bytes())
            .collect();
        let scheme = scheme.parse().unwrap();
        Arc::new(Weight::new(
            Arc::new(bytes),
            DType::BF16,
            elements,
            scheme,
            search,
        ))
    }

    #[test]
    fn any_range_is_a_slice_of_all() {
        for scheme in ["affine3g32", "affine6g128", "affine8g64", "mxfp8", "nvfp4"] {
            let weight = weight(2 * BLOCK + 1280, scheme, false);
            for list in [List::Codes, List::Scales] {
                let part = Part {
                    weight: Arc::clone(&weight),
                    list,
                };
                let all = part.bytes().unwrap();
                assert_eq!(all.len(), weight.bytes(list, weight.elements));
                for (from, to) in [
                    (0, 1),
                    (5, 77),
                    (1, all.len()),
                    (all.len() / 2, all.len() - 3),
                ] {
                    assert_eq!(part.range(from..to).unwrap(), &all[from..to]);
                }
            }
        }
    }

    #[test]
    fn more_bits_and_a_search_fit_better() {
        let error = |scheme: &str, search: bool| weight(BLOCK, scheme, search).sums().unwrap();
        let errors =
            ["affine2g64", "affine3g64", "affine4g64", "affine8g64"].map(|s| error(s, false).error);
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        for scheme in ["affine2g64", "affine4g32", "nvfp4", "mxfp4"] {
            let sums = error(scheme, true);
            assert!(sums.error < sums.plain && sums.plain == error(scheme, false).error);
        }
    }

    #[test]
    fn elements_of_all_widths_are_packed_lowest_bit_first() {
        let packed = |codes: &[u8], bits: usize| {
            let mut out = Vec::new();
            pack(codes, bits, &mut out);
            out
        };
        assert_eq!(packed(&[0, 1, 2, 3, 4, 5, 6, 7], 3), [0x88, 0xc6, 0xfa]);
        assert_eq!(
            packed(&[31, 0, 31, 0, 31, 0, 31, 0], 5),
            [0x1f, 0x7c, 0xf0, 0xc1, 0x07]
        );
        assert_eq!(packed(&[0, 15, 8, 7, 0, 0, 0, 1], 4), [0xf0, 0x78, 0, 0x10]);
    }
}
