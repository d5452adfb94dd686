//! Groups of floats as smaller floats times a scale, rounded as MLX's `quantize` rounds them on the CPU: with arithmetic in the weight's dtype.

use fuseline_ir::ops::quant::Mode;

use super::affine::ROUNDER;

/// How a group of one mode becomes elements and a byte for the scale. `round` rounds to the weight's dtype.
pub(super) struct Rounding<R> {
    pub mode: Mode,
    pub round: R,
}

/// Elements of a group in any of these modes, at most.
const MOST_IN_GROUP: usize = 32;
/// Between each two FP4 (E2M1) numbers that are neighbours, of those that are not negative. A number just on one belongs to the smaller.
const BETWEEN: [f32; 7] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0];

impl<R: Fn(f32) -> f32> Rounding<R> {
    /// The largest magnitude of an element.
    #[inline(always)]
    fn most(&self) -> f32 {
        if self.mode == Mode::MxFp8 { 448.0 } else { 6.0 }
    }

    /// The scale's byte that MLX finds for a group with this largest magnitude.
    #[inline(always)]
    pub fn scale(&self, most: f32) -> u8 {
        let ratio = (self.round)(most / self.most());
        if self.mode == Mode::NvFp4 {
            return to_e4m3(ratio);
        }
        if ratio == 0.0 {
            return 127;
        }
        // The exponent of the next power of two; a fraction so small that the logarithm in f32 may not show it is left to that.
        let (exponent, fraction) = (ratio.to_bits() >> 23, ratio.to_bits() << 9);
        match exponent {
            1..=253 if fraction == 0 => exponent as u8,
            1..=253 if fraction >= 1 << 22 => exponent as u8 + 1,
            _ => by_logarithm(ratio),
        }
    }

    /// The number that a scale's byte stands for.
    #[inline(always)]
    pub fn value(&self, byte: u8) -> f32 {
        match self.mode {
            Mode::NvFp4 => from_e4m3(byte),
            _ => power_of_two(byte),
        }
    }

    /// The elements' bits, each in a byte. What is not finite after it is divided by the scale is 0 in FP4 and the largest number in FP8.
    #[inline(always)]
    pub fn codes(&self, group: &[f32], scale: u8, out: &mut [u8]) {
        let by = (self.round)(self.value(scale));
        for (w, out) in group.iter().zip(out) {
            let x = (self.round)(*w / by);
            // The mode is the same for all: what is chosen here is chosen outside the loop.
            *out = if self.mode == Mode::MxFp8 {
                to_e4m3(x)
            } else {
                to_e2m1(x)
            };
        }
    }

    /// What elements' bits stand for, times the scale. Exact.
    #[inline(always)]
    pub fn stored(&self, codes: &[u8], scale: u8, out: &mut [f32]) {
        let by = self.value(scale);
        for (code, out) in codes.iter().zip(out) {
            let value = if self.mode == Mode::MxFp8 {
                from_e4m3(*code)
            } else {
                from_e2m1(*code)
            };
            *out = value * by;
        }
    }

    /// The sum of squared differences between numbers and what their elements stand for.
    #[inline(always)]
    pub fn error(&self, group: &[f32], scale: u8, codes: &[u8]) -> f64 {
        let mut stored = [0.0; MOST_IN_GROUP];
        self.stored(codes, scale, &mut stored);
        let pairs = group.iter().zip(stored);
        pairs
            .map(|(w, stored)| (f64::from(*w) - f64::from(stored)).powi(2))
            .sum()
    }

    /// The scale near MLX's, `plain`, with the least sum of squared differences; MLX's own if none has a smaller one.
    #[inline(always)]
    pub fn search(&self, group: &[f32], plain: u8) -> u8 {
        let reach = if self.mode == Mode::NvFp4 { 4 } else { 1 };
        // The byte after the last of these is NaN.
        let last = if self.mode == Mode::NvFp4 { 126 } else { 254 };
        let mut codes = vec![0; group.len()];
        let mut cost = |scale: u8| {
            self.codes(group, scale, &mut codes);
            self.error(group, scale, &codes)
        };
        let mut best = (cost(plain), plain);
        for scale in plain.saturating_sub(reach)..=plain.saturating_add(reach).min(last) {
            let sum = cost(scale);
            if sum < best.0 {
                best = (sum, scale);
            }
        }
        best.1
    }
}

/// The byte of the power of two that MLX finds for the ratio of a group's largest magnitude to that of an element.
#[cold]
fn by_logarithm(ratio: f32) -> u8 {
    // Where this is below the least power of two that the byte has, MLX's own wraps around.
    let exponent = (f64::from(ratio).log2() as f32).ceil();
    (exponent + 127.0).clamp(0.0, 254.0) as u8
}

#[inline(always)]
fn power_of_two(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(0x0040_0000),
        byte => f32::from_bits(u32::from(byte) << 23),
    }
}

/// The nearest FP4 number's bits; 0 for what is not finite.
#[inline(always)]
fn to_e2m1(x: f32) -> u8 {
    let magnitude = x.abs();
    // Chosen among floats, as many at once as are compared at once, and added to what leaves an integer in the lowest bits.
    let mut code = 0.0;
    for (least, next) in BETWEEN.into_iter().zip(1u8..) {
        let reached = magnitude > least && magnitude < f32::INFINITY;
        code = if reached { f32::from(next) } else { code };
    }
    let code = (code + ROUNDER).to_bits() & 7;
    let negative = u32::from(x < 0.0 && code > 0);
    (code | negative << 3) as u8
}

/// What the bits of an FP4 number mean.
#[inline(always)]
fn from_e2m1(bits: u8) -> f32 {
    // The exponent and the bit after it, where f32 has them, and what 1 has of exponent beyond theirs.
    let magnitude = u32::from(bits & 7);
    let normal = f32::from_bits((magnitude << 22) + (126 << 23));
    let small = magnitude as f32 * 0.5;
    let size = if magnitude < 2 { small } else { normal };
    f32::from_bits(size.to_bits() | u32::from(bits & 8) << 28)
}

/// The nearest FP8 (E4M3) number's bits, ties to even. What is too large, infinite or NaN becomes the largest number.
#[inline(always)]
pub(super) fn to_e4m3(x: f32) -> u8 {
    const LARGEST: u32 = 543 << 21;
    const SMALLEST_NORMAL: u32 = 121 << 23;
    // Added to a small number, it leaves just the bits that the result has.
    const ALIGN: u32 = 141 << 23;
    let sign = x.to_bits() & 0x8000_0000;
    let bits = x.to_bits() ^ sign;
    let magnitude = if bits >= LARGEST {
        0x7e
    } else if bits < SMALLEST_NORMAL {
        let aligned = f32::from_bits(bits) + f32::from_bits(ALIGN);
        aligned.to_bits().wrapping_sub(ALIGN) as u8
    } else {
        let odd = (bits >> 20) & 1;
        let rounded = bits.wrapping_sub(120 << 23).wrapping_add(0x7_ffff + odd);
        (rounded >> 20) as u8
    };
    magnitude | (sign >> 24) as u8
}

/// What the bits of an FP8 (E4M3) number mean.
#[inline(always)]
pub(super) fn from_e4m3(bits: u8) -> f32 {
    /// 2^120: the difference between this format's exponents and those of f32.
    const UP: f32 = f32::from_bits(247 << 23);
    let (sign, magnitude) = (u32::from(bits & 128) << 24, u32::from(bits & 127));
    let value = f32::from_bits(sign | (f32::from_bits(magnitude << 20) * UP).to_bits());
    if magnitude == 127 { f32::NAN } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the bits of an FP4 number mean; the sign is bit 3.
    const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

    fn rounding(mode: Mode) -> Rounding<fn(f32) -> f32> {
        Rounding { mode, round: |x| x }
    }

    #[test]
    fn every_small_float_reads_back() {
        for bits in (0..=255u8).filter(|bits| bits & 127 != 127) {
            assert_eq!(to_e4m3(from_e4m3(bits)), bits);
        }
        assert_eq!(from_e4m3(0x7e), 448.0);
        assert_eq!(to_e4m3(f32::INFINITY), 0x7e);
        // Half-way to the next goes to the even one.
        assert_eq!(
            (to_e4m3(17.0), to_e4m3(19.0)),
            (to_e4m3(16.0), to_e4m3(20.0))
        );
        for code in 0..8u8 {
            let number = E2M1[usize::from(code)];
            assert_eq!((to_e2m1(number), from_e2m1(code)), (code, number));
            assert_eq!(from_e2m1(code | 8), -number);
        }
        assert_eq!([-0.1, -0.3, 2.5, 9.0].map(to_e2m1), [0, 9, 4, 7]);
        assert_eq!([f32::NAN, f32::INFINITY].map(to_e2m1), [0, 0]);
    }

    #[test]
    fn scales() {
        assert_eq!(rounding(Mode::MxFp4).scale(0.0), 127);
        assert_eq!(rounding(Mode::MxFp4).scale(6.0), 127);
        assert_eq!(rounding(Mode::MxFp8).scale(448.0 * 4.0), 129);
        assert_eq!(rounding(Mode::MxFp4).scale(f32::MIN_POSITIVE), 0);
        assert_eq!(rounding(Mode::NvFp4).scale(3.0), 0x30);
        assert_eq!(power_of_two(0), 2f32.powi(-127));
        assert_eq!(rounding(Mode::MxFp4).value(130), 8.0);
    }

    #[test]
    fn the_next_power_of_two_is_that_of_the_logarithm() {
        let rounding = rounding(Mode::MxFp4);
        for high in 0..0xff_u32 {
            for low in [
                0, 1, 2, 0x3f, 0x1000, 0x1fff, 0x2000, 0x2001, 0x1_0000, 0x7f_ffff,
            ] {
                let ratio = f32::from_bits(high << 23 | low);
                if ratio > 0.0 && (ratio * 6.0) / 6.0 == ratio {
                    assert_eq!(
                        rounding.scale(ratio * 6.0),
                        by_logarithm(ratio),
                        "{ratio:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_search_is_never_worse() {
        for mode in [Mode::MxFp4, Mode::MxFp8, Mode::NvFp4] {
            let rounding = rounding(mode);
            let mut gains = 0;
            for seed in 0..50 {
                // Groups that reach from 1 to 3: a smaller power of two gains where it cuts little off.
                let reach = 1.0 + seed as f32 / 25.0;
                let group: Vec<f32> = (0..32)
                    .map(|i| ((i * 37 + seed * 11) as f32).sin() * reach)
                    .collect();
                let mut codes = vec![0; 32];
                let mut cost = |scale: u8| {
                    rounding.codes(&group, scale, &mut codes);
                    rounding.error(&group, scale, &codes)
                };
                let most = group.iter().fold(0.0f32, |a, b| a.max(b.abs()));
                let plain = rounding.scale(most);
                let found = cost(rounding.search(&group, plain));
                let plain = cost(plain);
                assert!(found <= plain);
                gains += usize::from(found < plain);
            }
            // FP8 has an exponent of its own: another power of two changes nothing but what is cut off.
            assert_eq!(gains > 0, mode != Mode::MxFp8, "{}", mode.name());
        }
    }
}
