//! What witnesses are drawn from: numbers of every kind that a dtype has, in moods.

use crate::build::{least_normal, lowest};
use crate::pass::Numerics;
use crate::sort::Range;
use fuseline_ir::DType;

/// Numbers that a rule may not be meant for.
pub const STRAY: [f64; 13] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-5,
    -1e-5,
    3.0,
    1e30,
    -1e31,
    1e-42,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

/// How wild the inputs are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    /// Moderate numbers.
    Plain,
    /// Zeros of both signs, numbers without all their digits, and moderate ones.
    Small,
    /// Also NaN and infinities.
    Wild,
    /// Some tensors with numbers up to where `f16` ends, and known numbers that bring products of them back from beyond it.
    Large,
}

/// A number that one element at least of a variable shall be.
#[derive(Clone, Copy, Debug)]
pub struct Special<'a> {
    /// The variable.
    pub variable: &'a str,
    /// The number.
    pub number: f64,
}

/// One draw of a witness.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// How wild its numbers are.
    pub mood: Mood,
    /// Which of the draws of that mood it is.
    pub seed: u64,
    /// What must be among its numbers.
    pub special: Option<Special<'a>>,
}

/// The special numbers of a dtype: zeros, least normal numbers, infinities, the largest numbers, and NaN. Where sums are reassociated in a dtype with the range of `f32`, products of three
/// numbers stay inside it, as the class has it, so the largest are smaller there.
pub fn specials(class: Numerics, dtype: DType) -> [f64; 9] {
    let roomy = dtype != DType::F16 && class == Numerics::Reassociates;
    let most = if roomy { 1e9 } else { -lowest(dtype) };
    let (least, inf) = (least_normal(dtype), f64::INFINITY);
    [0.0, -0.0, least, -least, most, -most, inf, -inf, f64::NAN]
}

/// A small generator of random numbers (SplitMix64): the same seed, the same witness, everywhere.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of one draw for a rule with its floats in one dtype: no two rules, and no two dtypes, see the same numbers.
    pub fn of(rule: &str, dtype: DType, seed: u64) -> Rng {
        let bytes = rule.bytes().chain(dtype.to_string().into_bytes());
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let mut rng = Rng(bytes.fold(0xcbf2_9ce4_8422_2325, fold) ^ seed.rotate_left(32));
        rng.next();
        rng
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Uniform between −1 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// The mood of one tensor's elements: of large draws only some tensors are large.
    pub fn mood_of_tensor(&mut self, mood: Mood) -> Mood {
        match mood {
            Mood::Large if self.below(2) == 0 => Mood::Plain,
            mood => mood,
        }
    }

    /// A number of that range, if the dtype has one.
    pub fn number(&mut self, mood: Mood, range: Range, dtype: DType) -> Option<f64> {
        let any = match mood {
            Mood::Large => self.pick(&[0.0009765625, 0.001, 0.01, -0.015625, 0.125, 8.0, 100.0]),
            _ => self.pick(&[1.0, -2.5, 0.5, 0.3535533905932738, 3.0, -0.125, 17.0]),
        };
        let x = match range {
            Range::Any if self.below(4) == 0 => self.pick(&STRAY),
            Range::Any | Range::Finite => any,
            Range::Positive => self.pick(&[1e-5, 1e-6, 1e-3, 0.5, 1.0]),
            Range::Share => self.pick(&[0.5, 0.5, 0.7, 1.0]),
            Range::Threshold => self.pick(&[20.0, 32.0]),
            Range::HidingFinite if dtype == DType::F16 => return None,
            Range::HidingFinite => lowest(dtype),
            Range::LowFinite if dtype == DType::F16 => return None,
            Range::LowFinite => self.pick(&[-1e5, -1e9, -1e20]),
            Range::MinusInfinity | Range::Hiding | Range::Low => f64::NEG_INFINITY,
        };
        Some(x)
    }

    /// An element of a tensor of that dtype.
    pub fn element(&mut self, mood: Mood, dtype: DType) -> f64 {
        let plain = self.unit() * self.pick(&[0.1, 1.0, 1.0, 2.0, 6.0]);
        let tiny = least_normal(dtype) * self.unit();
        match (mood, self.below(10)) {
            (Mood::Large, _) => plain.signum() * (4.0 + 11.99 * self.unit().abs()).exp2(),
            (Mood::Small | Mood::Wild, 0) => self.pick(&[0.0, -0.0]),
            (Mood::Small | Mood::Wild, 1) => tiny,
            (Mood::Wild, 2) => self.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
            _ => plain,
        }
    }
}
