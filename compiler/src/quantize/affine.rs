//! Groups of floats as small integers on a line, w ≈ scale·q + bias, rounded as MLX's `quantize` rounds them.

/// A group whose numbers lie nearer together than this gets it as its scale.
const LEAST_SCALE: f32 = 1e-7;

/// A number that adding to, and taking away again, rounds floats from 0 to 2^23 to integers, ties to even; just added, it leaves the integer in the lowest bits.
pub(super) const ROUNDER: f32 = 8_388_608.0;

/// Numbers that are compared or summed side by side, so that a processor can take several at once. Every group has a multiple of so many.
pub(super) const LANES: usize = 8;

/// What the integers of a group stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub scale: f32,
    pub bias: f32,
}

impl Line {
    /// What an integer stands for.
    #[inline(always)]
    pub fn at(self, q: u8) -> f32 {
        self.scale * f32::from(q) + self.bias
    }
}

/// The largest integer of so many bits.
#[inline(always)]
fn top(bits: usize) -> f32 {
    ((1u32 << bits) - 1) as f32
}

/// The least and the largest number. NaN is neither.
#[inline(always)]
pub(super) fn extremes(group: &[f32]) -> (f32, f32) {
    let least = among(group, f32::INFINITY, |a, b| if b < a { b } else { a });
    let most = among(group, f32::NEG_INFINITY, |a, b| if a < b { b } else { a });
    (least, most)
}

/// What is left of numbers when `choose` takes one of two, in any order. Several are compared at once: one list of them at a time, which compilers turn into an instruction.
#[inline(always)]
fn among(group: &[f32], start: f32, choose: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    for numbers in group.chunks_exact(LANES) {
        for (lane, number) in lanes.iter_mut().zip(numbers) {
            *lane = choose(*lane, *number);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = choose(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The nearest integer, ties to even, without an instruction for it.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    let size = x.abs();
    if size < ROUNDER {
        ((size + ROUNDER) - ROUNDER).copysign(x)
    } else {
        x
    }
}

impl Line {
    /// MLX's line for numbers between two: through the end of larger magnitude, and through 0 if that is between the ends. Its numbers are not rounded to the weight's
    /// dtype; integers are made with these.
    #[inline(always)]
    pub fn between(least: f32, most: f32, bits: usize) -> Line {
        let low_edge = least.abs() > most.abs();
        let step = (most - least) / top(bits);
        let step = if step < LEAST_SCALE {
            LEAST_SCALE
        } else {
            step
        };
        let scale = if low_edge { step } else { -step };
        let edge = if low_edge { least } else { most };
        let q = nearest(edge / scale);
        let fitted = edge / q;
        Line {
            scale: if q == 0.0 { scale } else { fitted },
            bias: if q == 0.0 { 0.0 } else { edge },
        }
    }
}

/// The nearest integers. NaN becomes 0.
#[inline(always)]
pub(super) fn codes(group: &[f32], line: Line, bits: usize, out: &mut [u8]) {
    let top = top(bits);
    for (w, out) in group.iter().zip(out) {
        let q = (*w - line.bias) / line.scale;
        let q = if q > 0.0 { q } else { 0.0 };
        let q = if q < top { q } else { top };
        *out = (q + ROUNDER).to_bits() as u8;
    }
}

/// The nearest integers, and what they stand for on the line whose numbers are rounded to the weight's dtype.
#[inline(always)]
pub(super) fn quantised(
    group: &[f32],
    line: Line,
    bits: usize,
    round: impl Fn(f32) -> f32,
    (q, stored): (&mut [u8], &mut [f32]),
) {
    codes(group, line, bits, q);
    let line = rounded(line, round);
    for (q, stored) in q.iter().zip(stored) {
        *stored = line.at(*q);
    }
}

#[inline(always)]
fn rounded(line: Line, round: impl Fn(f32) -> f32) -> Line {
    Line {
        scale: round(line.scale),
        bias: round(line.bias),
    }
}

/// A line, in numbers that `round` leaves as they are, with a small sum of squared differences: never a larger one than MLX's has. Codes belong to the
/// rounded line.
///
/// Tried are narrower ranges than from end to end, each moved twice to where the sum is least for the integers that it gives.
#[inline(always)]
pub(super) fn search(
    group: &[f32],
    (least, most): (f32, f32),
    bits: usize,
    round: impl Fn(f32) -> f32,
) -> Line {
    let mut q = vec![0; group.len()];
    let mut best = rounded(Line::between(least, most, bits), &round);
    codes(group, best, bits, &mut q);
    let mut least_error = error(group, best, &q);
    if !(most - least).is_finite() || most <= least {
        return best;
    }
    for step in 0..STARTS {
        let inset = (most - least) * (step as f32) * INSET;
        let mut tried = Line {
            scale: (most - least - 2.0 * inset) / top(bits),
            bias: least + inset,
        };
        for _ in 0..MOVES {
            let candidate = rounded(tried, &round);
            codes(group, candidate, bits, &mut q);
            let sum = error(group, candidate, &q);
            if sum < least_error {
                (least_error, best) = (sum, candidate);
            }
            match fitted(group, &q) {
                Some(line) => tried = line,
                None => break,
            }
        }
    }
    best
}

/// How many ranges are tried.
const STARTS: usize = 6;
/// By how much of the whole range each is narrower than the last, at each end.
const INSET: f32 = 0.025;
/// How often each is moved, and once more.
const MOVES: usize = 3;

/// The sum of squared differences between numbers and what their integers stand for.
#[inline(always)]
fn error(group: &[f32], line: Line, q: &[u8]) -> f64 {
    // Several sums, so that several elements go at once.
    let mut sums = [0.0; LANES];
    for (group, q) in group.chunks_exact(LANES).zip(q.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let d = group[lane] - line.at(q[lane]);
            sums[lane] += d * d;
        }
    }
    sums.iter().copied().map(f64::from).sum()
}

/// The line of the least sum of squared differences for given integers; none if they are all the same.
#[inline(always)]
fn fitted(group: &[f32], q: &[u8]) -> Option<Line> {
    let n = group.len() as f64;
    // Sums of integers are exact in f32: there are at most 128 numbers below 256.
    let (mut sw, mut sq, mut sqq, mut swq) =
        ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for (group, q) in group.chunks_exact(LANES).zip(q.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let (w, q) = (group[lane], f32::from(q[lane]));
            sw[lane] += w;
            sq[lane] += q;
            sqq[lane] += q * q;
            swq[lane] += w * q;
        }
    }
    let [sw, sq, sqq, swq] =
        [sw, sq, sqq, swq].map(|lanes: [f32; LANES]| lanes.into_iter().map(f64::from).sum::<f64>());
    let spread = n * sqq - sq * sq;
    if spread <= 0.0 {
        return None;
    }
    let scale = (n * swq - sw * sq) / spread;
    Some(Line {
        scale: scale as f32,
        bias: ((sw - scale * sq) / n) as f32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(f: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..64).map(f).collect()
    }

    fn line(group: &[f32], bits: usize) -> Line {
        let (least, most) = extremes(group);
        Line::between(least, most, bits)
    }

    fn quantised(group: &[f32], line: Line, bits: usize) -> Vec<u8> {
        let mut q = vec![0; group.len()];
        codes(group, line, bits, &mut q);
        q
    }

    #[test]
    fn constants_zeros_and_what_is_not_finite() {
        assert_eq!(
            line(&group(|_| 0.0), 4),
            Line {
                scale: -1e-7,
                bias: 0.0
            }
        );
        for constant in [0.5, -3.0] {
            let all = group(|_| constant);
            let line = line(&all, 4);
            assert_eq!(line.bias, constant);
            assert!(quantised(&all, line, 4).iter().all(|q| *q == 0));
        }
        // NaN is never an end, and its integer is 0.
        let mut some = group(|i| i as f32);
        some[3] = f32::NAN;
        let known = line(&some, 4);
        assert_eq!((known.bias, extremes(&some)), (63.0, (0.0, 63.0)));
        assert_eq!(quantised(&some, known, 4)[3], 0);
        some[4] = f32::INFINITY;
        assert!(line(&some, 4).scale.is_nan());
        assert!(quantised(&some, line(&some, 4), 4).iter().all(|q| *q == 0));
    }

    #[test]
    fn the_end_of_larger_magnitude_and_zero_are_met_exactly() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let all = group(|i| i as f32 / 7.0 - 6.0);
            let found = line(&all, bits);
            let q = quantised(&all, found, bits);
            assert_eq!(found.at(q[0]), -6.0);
            let zero = (0.0 - found.bias) / found.scale;
            assert!((zero - zero.round()).abs() < 1e-4, "{zero}");
        }
    }

    #[test]
    fn a_search_is_never_worse() {
        let round = |x: f32| half::bf16::from_f32(x).to_f32();
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0 - 0.5
        };
        let mut gains = 0;
        for bits in [2, 3, 4, 8] {
            for _ in 0..20 {
                let all: Vec<f32> = (0..64).map(|_| random() * random() * random()).collect();
                let plain = line(&all, bits);
                let q = quantised(&all, plain, bits);
                let stored = Line {
                    scale: round(plain.scale),
                    bias: round(plain.bias),
                };
                let found = search(&all, extremes(&all), bits, round);
                let (before, after) = (
                    error(&all, stored, &q),
                    error(&all, found, &quantised(&all, found, bits)),
                );
                assert!(after <= before * 1.0001, "{bits} bits: {after} > {before}");
                gains += usize::from(after < 0.9 * before);
            }
        }
        assert!(gains > 20, "{gains}");
    }
}
