//! The lists of one block of a weight: all loops over its numbers.
//!
//! They are compiled for the registers that every processor of an architecture has, and on x86-64 for those of AVX2 too. What is added to what, and in which order, is the same in
//! both, so the processor doesn't show in a file or a report.

use fuseline_ir::ops::quant::Mode;

use super::affine::{self, LANES, Line};
use super::element::Element;
use super::floats::Rounding;
use super::scheme::Scheme;

/// Numbers of a group, at most.
const MOST_IN_GROUP: usize = 128;

/// The lists of one block. Scales and biases are always made, elements if they are wanted.
#[derive(Default)]
pub(super) struct Made {
    pub codes: Option<Vec<u8>>,
    pub scales: Vec<u8>,
    pub biases: Vec<u8>,
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
    pub fn add(&mut self, other: &Sums) {
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

/// Makes the lists of a block's bytes; whether scales are searched for is beside the scheme. The sums are those of the elements, if these are wanted.
pub(super) fn make<T: Element>(how: (Scheme, bool), bytes: &[u8], made: &mut Made) -> Sums {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { make_avx2::<T>(how, bytes, made) };
    }
    make_anywhere::<T>(how, bytes, made)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn make_avx2<T: Element>(how: (Scheme, bool), bytes: &[u8], made: &mut Made) -> Sums {
    make_anywhere::<T>(how, bytes, made)
}

/// Inlined, like all functions with a loop over numbers: that is how they get the registers of their caller.
#[inline(always)]
fn make_anywhere<T: Element>(how: (Scheme, bool), bytes: &[u8], made: &mut Made) -> Sums {
    match how.0.mode {
        Mode::Affine => affine::<T>(how, bytes, made),
        mode => {
            let round = T::rounded;
            let rounding = Rounding { mode, round };
            // Each mode has its size of groups.
            match how.0.group {
                16 => small::<T, _, 16>(how, bytes, &rounding, made),
                _ => small::<T, _, 32>(how, bytes, &rounding, made),
            }
        }
    }
}

/// Integers on a line.
#[inline(always)]
fn affine<T: Element>((scheme, search): (Scheme, bool), bytes: &[u8], made: &mut Made) -> Sums {
    let Scheme { bits, group, .. } = scheme;
    let groups = || bytes.chunks_exact(group * T::WIDTH).enumerate();
    let count = groups().len();
    let mut numbers = [0.0; MOST_IN_GROUP];
    let numbers = &mut numbers[..group];
    let (mut low, mut high) = (vec![0.0; count], vec![0.0; count]);
    for (n, bytes) in groups() {
        T::read(bytes, numbers);
        (low[n], high[n]) = affine::extremes(numbers);
    }
    let (mut scales, mut biases) = (vec![0.0; count], vec![0.0; count]);
    for n in 0..count {
        let line = Line::between(low[n], high[n], bits);
        (scales[n], biases[n]) = (line.scale, line.bias);
    }
    let mut tally = Tally::default();
    let (mut codes, mut stored) = ([0; MOST_IN_GROUP], [0.0; MOST_IN_GROUP]);
    let (codes, stored) = (&mut codes[..group], &mut stored[..group]);
    let elements = if made.codes.is_some() || search {
        count
    } else {
        0
    };
    for (n, bytes) in groups().take(elements) {
        T::read(bytes, numbers);
        let most = low[n].abs().max(high[n].abs());
        let mut line = Line {
            scale: scales[n],
            bias: biases[n],
        };
        if search {
            if made.codes.is_some() {
                affine::quantised(numbers, line, bits, T::rounded, (codes, stored));
                tally.see_plain(numbers, stored, (most, most));
            }
            line = affine::search(numbers, (low[n], high[n]), bits, T::rounded);
            (scales[n], biases[n]) = (line.scale, line.bias);
        }
        if let Some(out) = &mut made.codes {
            affine::quantised(numbers, line, bits, T::rounded, (codes, stored));
            tally.see(numbers, stored, (most, most));
            pack(codes, bits, out);
        }
    }
    T::put(&scales, &mut made.scales);
    T::put(&biases, &mut made.biases);
    tally.sums(search)
}

/// Smaller floats times a scale.
#[inline(always)]
fn small<T: Element, R: Fn(f32) -> f32, const GROUP: usize>(
    (scheme, search): (Scheme, bool),
    bytes: &[u8],
    rounding: &Rounding<R>,
    made: &mut Made,
) -> Sums {
    let groups = || bytes.chunks_exact(GROUP * T::WIDTH);
    let mut numbers = [0.0; GROUP];
    let mut ends = vec![0.0; groups().len()];
    for (bytes, most) in groups().zip(&mut ends) {
        T::read(bytes, &mut numbers);
        let (low, high) = affine::extremes(&numbers);
        *most = low.abs().max(high.abs());
    }
    let start = made.scales.len();
    made.scales
        .extend(ends.iter().map(|most| rounding.scale(*most)));
    let mut tally = Tally::default();
    // The elements are wanted for their codes, or for what is lost.
    let read = match made.codes.is_some() || search {
        true => bytes,
        false => &[],
    };
    // Several groups at a time: what is done once for all of them is a good part of the work for one.
    let scales = &mut made.scales[start..];
    let stretches = read.chunks(MOST_IN_GROUP * T::WIDTH);
    let groups = scales.chunks_mut(MOST_IN_GROUP / GROUP);
    for (bytes, (scales, ends)) in stretches.zip(groups.zip(ends.chunks(MOST_IN_GROUP / GROUP))) {
        let count = bytes.len() / T::WIDTH;
        let (mut numbers, mut stored) = ([0.0; MOST_IN_GROUP], [0.0; MOST_IN_GROUP]);
        let (numbers, stored) = (&mut numbers[..count], &mut stored[..count]);
        let mut codes = [0; MOST_IN_GROUP];
        let codes = &mut codes[..count];
        T::read(bytes, numbers);
        let most = ends.iter().copied().fold(0.0, f32::max);
        let least = ends.iter().copied().fold(f32::INFINITY, f32::min);
        if search {
            if made.codes.is_some() {
                each::<_, GROUP>(rounding, numbers, scales, (codes, stored));
                tally.see_plain(numbers, stored, (least, most));
            }
            for (numbers, scale) in numbers.as_chunks::<GROUP>().0.iter().zip(&mut *scales) {
                *scale = rounding.search(numbers, *scale);
            }
        }
        if let Some(out) = &mut made.codes {
            each::<_, GROUP>(rounding, numbers, scales, (codes, stored));
            tally.see(numbers, stored, (least, most));
            pack(codes, scheme.bits, out);
        }
    }
    tally.sums(search)
}

/// The elements of some groups and what they stand for.
#[inline(always)]
fn each<R: Fn(f32) -> f32, const GROUP: usize>(
    rounding: &Rounding<R>,
    numbers: &[f32],
    scales: &[u8],
    (codes, stored): (&mut [u8], &mut [f32]),
) {
    let numbers = numbers.as_chunks::<GROUP>().0.iter().zip(scales);
    let made = codes.as_chunks_mut::<GROUP>().0.iter_mut();
    let made = made.zip(stored.as_chunks_mut::<GROUP>().0);
    for ((numbers, scale), (codes, stored)) in numbers.zip(made) {
        rounding.codes(numbers, *scale, codes);
        rounding.stored(codes, *scale, stored);
    }
}

/// Sums over groups, several of each kind, so that several elements go at once.
#[derive(Default)]
struct Tally {
    error: [f64; LANES],
    plain: [f64; LANES],
    power: [f64; LANES],
    worst: [f32; LANES],
}

impl Tally {
    /// Takes groups into account; `ends` are the smallest and the largest of their largest magnitudes.
    #[inline(always)]
    fn see(&mut self, numbers: &[f32], stored: &[f32], ends: (f32, f32)) {
        let group = Differences::of(numbers, stored, ends);
        for lane in 0..LANES {
            self.error[lane] += group.error[lane];
            self.power[lane] += group.power[lane];
            self.worst[lane] = larger(self.worst[lane], group.worst[lane]);
        }
    }

    /// The same for what MLX's own rounding makes of the groups.
    #[inline(always)]
    fn see_plain(&mut self, numbers: &[f32], stored: &[f32], ends: (f32, f32)) {
        let group = Differences::of(numbers, stored, ends);
        for lane in 0..LANES {
            self.plain[lane] += group.error[lane];
        }
    }

    /// All together. Without a search, the rounding is MLX's own.
    fn sums(&self, search: bool) -> Sums {
        let error = self.error.iter().sum();
        Sums {
            error,
            plain: if search {
                self.plain.iter().sum()
            } else {
                error
            },
            power: self.power.iter().sum(),
            worst: f64::from(self.worst.into_iter().fold(0.0, larger)),
        }
    }
}

/// How the numbers of a group and what their bits stand for differ: parts of the sums of squared differences and of squares, and of the largest difference.
struct Differences {
    error: [f64; LANES],
    power: [f64; LANES],
    worst: [f32; LANES],
}

/// If the largest number of each group is between these, or all are 0, sums of their squares in f32 lose nothing that shows.
const LEAST: f32 = 1e-10;
const MOST: f32 = 1e15;

impl Differences {
    #[inline(always)]
    fn of(numbers: &[f32], stored: &[f32], (least, most): (f32, f32)) -> Differences {
        let narrow = most == 0.0 || LEAST < least && most < MOST;
        if !narrow {
            return Differences::wide(numbers, stored);
        }
        let (mut error, mut power, mut worst) = ([0.0f32; LANES], [0.0f32; LANES], [0.0; LANES]);
        for (numbers, stored) in numbers.chunks_exact(LANES).zip(stored.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let w = numbers[lane];
                let size = (w - stored[lane]).abs();
                error[lane] += size * size;
                power[lane] += w * w;
                worst[lane] = larger(worst[lane], size);
            }
        }
        Differences {
            error: error.map(f64::from),
            power: power.map(f64::from),
            worst,
        }
    }

    /// The same where squares may not fit in f32.
    #[cold]
    fn wide(numbers: &[f32], stored: &[f32]) -> Differences {
        let mut all = Differences {
            error: [0.0; LANES],
            power: [0.0; LANES],
            worst: [0.0; LANES],
        };
        for (at, (w, stored)) in numbers.iter().zip(stored).enumerate() {
            let (lane, w, stored) = (at % LANES, f64::from(*w), f64::from(*stored));
            let size = (w - stored).abs();
            all.error[lane] += size * size;
            all.power[lane] += w * w;
            all.worst[lane] = larger(all.worst[lane], size as f32);
        }
        all
    }
}

/// The larger of two numbers; the second one if it is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b < a { a } else { b }
}

/// Appends elements of so many bits, the lowest bit first. Their number is a multiple of eight, and at most that of a group.
#[inline(always)]
fn pack(codes: &[u8], bits: usize, out: &mut Vec<u8>) {
    if bits == 8 {
        return out.extend_from_slice(codes);
    }
    let mut words = [0; MOST_IN_GROUP / 8];
    let words = &mut words[..codes.len() / 8];
    for (word, eight) in words.iter_mut().zip(codes.as_chunks().0) {
        *word = u64::from_le_bytes(*eight);
    }
    // Neighbours are put together: two, then four, then eight.
    for (step, low) in [
        (0, 0x00ff_00ff_00ff_00ff),
        (1, 0xffff_0000_ffff),
        (2, 0xffff_ffff),
    ] {
        for word in words.iter_mut() {
            *word = (*word & low) | ((*word >> (8 << step)) & low) << (bits << step);
        }
    }
    // Each word is written whole, over the empty end of the one before.
    let start = out.len();
    let end = start + words.len() * bits;
    out.resize(end + 8, 0);
    for (word, at) in words.iter().zip((start..).step_by(bits)) {
        out[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_all_widths_are_packed_lowest_bit_first() {
        let packed = |codes: &[u8], bits: usize| {
            let mut out = vec![7];
            pack(codes, bits, &mut out);
            out.remove(0);
            out
        };
        assert_eq!(packed(&[0, 1, 2, 3, 4, 5, 6, 7], 3), [0x88, 0xc6, 0xfa]);
        assert_eq!(
            packed(&[31, 0, 31, 0, 31, 0, 31, 0, 1, 0, 0, 0, 0, 0, 0, 16], 5),
            [0x1f, 0x7c, 0xf0, 0xc1, 0x07, 1, 0, 0, 0, 0x80]
        );
        assert_eq!(packed(&[0, 15, 8, 7, 0, 0, 0, 1], 4), [0xf0, 0x78, 0, 0x10]);
    }

    /// Numbers of every size, zeros, infinities and NaN among them.
    fn bytes() -> Vec<u8> {
        let number = |i: u32| {
            let bits = i.wrapping_mul(2_654_435_761) >> 16;
            let group = i / 128;
            match group % 4 {
                0 => bits as u16,
                1 => (0x3c00 | bits & 0x83ff) as u16,
                2 => 0,
                _ => (0x3f00 | bits & 0x80ff) as u16,
            }
        };
        (0..1 << 14).flat_map(|i| number(i).to_le_bytes()).collect()
    }

    #[test]
    fn the_registers_of_a_processor_dont_show() {
        let bytes = bytes();
        for scheme in [
            "affine2g32",
            "affine3g64",
            "affine4g64",
            "affine5g128",
            "affine8g64",
            "mxfp4",
            "mxfp8",
            "nvfp4",
        ] {
            for search in [false, true] {
                let how = (scheme.parse().unwrap(), search);
                let made = |make: fn((Scheme, bool), &[u8], &mut Made) -> Sums| {
                    let mut made = Made {
                        codes: Some(Vec::new()),
                        ..Made::default()
                    };
                    let sums = make(how, &bytes, &mut made);
                    let bits = [sums.error, sums.plain, sums.power, sums.worst];
                    (made.codes, made.scales, made.biases, bits.map(f64::to_bits))
                };
                assert!(
                    made(make::<half::bf16>) == made(make_anywhere::<half::bf16>),
                    "{scheme}"
                );
                assert!(
                    made(make::<half::f16>) == made(make_anywhere::<half::f16>),
                    "{scheme}"
                );
            }
        }
    }
}
