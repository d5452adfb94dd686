//! The float dtypes of weights that are quantised: numbers from bytes, and rounding. Without branches that depend on the numbers, so that a processor can take several at once.

/// A dtype that is quantised.
pub(super) trait Element {
    /// Bytes of a number.
    const WIDTH: usize;

    /// Numbers from their bytes, little-endian, as many as there is room for.
    fn read(bytes: &[u8], out: &mut [f32]);

    /// A number rounded to the dtype, ties to even.
    fn rounded(x: f32) -> f32;

    /// Appends the bytes of numbers rounded to the dtype.
    fn put(numbers: &[f32], out: &mut Vec<u8>);
}

impl Element for f32 {
    const WIDTH: usize = 4;

    #[inline(always)]
    fn read(bytes: &[u8], out: &mut [f32]) {
        for (bytes, out) in bytes.chunks_exact(4).zip(out) {
            *out = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }

    #[inline(always)]
    fn rounded(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    fn put(numbers: &[f32], out: &mut Vec<u8>) {
        append(numbers, out, |x| x.to_le_bytes());
    }
}

impl Element for half::bf16 {
    const WIDTH: usize = 2;

    #[inline(always)]
    fn read(bytes: &[u8], out: &mut [f32]) {
        for (bytes, out) in bytes.chunks_exact(2).zip(out) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16);
        }
    }

    #[inline(always)]
    fn rounded(x: f32) -> f32 {
        let bits = x.to_bits();
        let odd = (bits >> 16) & 1;
        let rounded = f32::from_bits(bits.wrapping_add(0x7fff + odd) & 0xffff_0000);
        if x.is_nan() { x } else { rounded }
    }

    #[inline(always)]
    fn put(numbers: &[f32], out: &mut Vec<u8>) {
        append(numbers, out, |x| half::bf16::from_f32(x).to_le_bytes());
    }
}

impl Element for half::f16 {
    const WIDTH: usize = 2;

    #[inline(always)]
    fn read(bytes: &[u8], out: &mut [f32]) {
        /// 2^112: the difference between the dtypes' exponents.
        const UP: f32 = f32::from_bits(239 << 23);
        for (bytes, out) in bytes.chunks_exact(2).zip(out) {
            let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            let (sign, magnitude) = ((bits & 0x8000) << 16, bits & 0x7fff);
            let finite = (f32::from_bits(magnitude << 13) * UP).to_bits();
            let other = magnitude << 13 | 0x7f80_0000;
            let magnitude = if magnitude < 0x7c00 { finite } else { other };
            *out = f32::from_bits(sign | magnitude);
        }
    }

    #[inline(always)]
    fn rounded(x: f32) -> f32 {
        /// The least number that is rounded up to infinity.
        const TOO_LARGE: f32 = 65_520.0;
        /// The least normal number of the dtype: smaller ones are all multiples of 2^-24, which is what the last bit of 0.5 stands for.
        const NORMAL: f32 = f32::from_bits(113 << 23);
        let size = x.abs();
        let bits = size.to_bits();
        let odd = (bits >> 13) & 1;
        let normal = f32::from_bits(bits.wrapping_add(0xfff + odd) & 0xffff_e000);
        let small = (size + 0.5) - 0.5;
        let rounded = if size < NORMAL { small } else { normal };
        let rounded = if size < TOO_LARGE {
            rounded
        } else {
            f32::INFINITY
        };
        if x.is_nan() { x } else { rounded.copysign(x) }
    }

    #[inline(always)]
    fn put(numbers: &[f32], out: &mut Vec<u8>) {
        append(numbers, out, |x| half::f16::from_f32(x).to_le_bytes());
    }
}

/// Appends what each number becomes.
#[inline(always)]
fn append<const WIDTH: usize>(
    numbers: &[f32],
    out: &mut Vec<u8>,
    bytes: impl Fn(f32) -> [u8; WIDTH],
) {
    let start = out.len();
    out.resize(start + numbers.len() * WIDTH, 0);
    for (out, x) in out[start..].as_chunks_mut().0.iter_mut().zip(numbers) {
        *out = bytes(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal bit for bit, or both NaN.
    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn every_number_of_two_bytes_is_read() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0.0; 1 << 16];
        half::f16::read(&bytes, &mut out);
        for (bits, read) in (0..=u16::MAX).zip(&out) {
            assert!(
                same(*read, half::f16::from_bits(bits).to_f32()),
                "{bits:04x}"
            );
        }
        half::bf16::read(&bytes, &mut out);
        for (bits, read) in (0..=u16::MAX).zip(&out) {
            assert!(
                same(*read, half::bf16::from_bits(bits).to_f32()),
                "{bits:04x}"
            );
        }
    }

    #[test]
    fn numbers_are_rounded_as_everywhere() {
        // Every exponent and sign, with the bits before and after the last one that is kept in all combinations.
        for high in 0..=0xffff_u32 {
            for low in [
                0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x7fff, 0x8000, 0x8001, 0xffff,
            ] {
                let x = f32::from_bits(high << 16 | low);
                let (f, b) = (half::f16::from_f32(x), half::bf16::from_f32(x));
                assert!(same(half::f16::rounded(x), f.to_f32()), "{x:e}");
                assert!(same(half::bf16::rounded(x), b.to_f32()), "{x:e}");
            }
        }
    }
}
