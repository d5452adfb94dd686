//! The choices of a mutation, all from the seed that libFuzzer gives it.

/// A small generator of random numbers (xorshift).
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 53 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// A number below `n`; 0 if `n` is.
    pub fn below(&mut self, n: usize) -> usize {
        self.bits() as usize % n.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the items; none of none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// A place in the items; none in none.
    pub fn pick_mut<'a, T>(&mut self, items: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(items.len());
        items.get_mut(at)
    }

    /// A number of the kind that loaders stumble over, or a small one.
    pub fn odd(&mut self) -> i64 {
        const ODD: [i64; 18] = [
            i64::MIN,
            i64::MAX,
            -1,
            1 << 31,
            -(1 << 31),
            (1 << 31) - 1,
            1 << 32,
            (1 << 32) - 1,
            1 << 62,
            1_000_000,
            1_000_001,
            65536,
            65535,
            255,
            256,
            127,
            128,
            1 << 20,
        ];
        if self.one_in(4) {
            ODD[self.below(ODD.len())]
        } else {
            self.below(12) as i64 - 3
        }
    }
}
