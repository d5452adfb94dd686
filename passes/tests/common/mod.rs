//! What several tests share.

use fuseline_ir::tensor::Data;
use fuseline_ir::{DType, Scalar, Tensor, TensorType};
use std::collections::BTreeMap;

/// A small generator of random numbers (xorshift), so that a failing seed fails everywhere.
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % n
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let n = self.below(items.len());
        &items[n]
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Elements for an input of that type where the symbol is `s`: floats of `numbers`, small integers, truth values.
pub fn witness(r: &mut Random, ty: &TensorType, s: i64, numbers: &[f64]) -> Tensor {
    let env = BTreeMap::from([("s".into(), s)]);
    let shape: Vec<usize> = ty
        .shape
        .iter()
        .map(|d| usize::try_from(d.eval(&env).unwrap()).unwrap())
        .collect();
    Tensor::from_fn(ty.dtype, shape, |_| match ty.dtype {
        DType::Bool => Scalar::Bool(r.one_in(2)),
        d if d.is_float() => Scalar::float(*r.pick(numbers)),
        // Small and not negative: often an index in range.
        _ => Scalar::Int([0, 1, 2, 3][r.below(4)]),
    })
    .unwrap()
}

pub fn same(a: &Tensor, b: &Tensor) -> bool {
    let elements = match (a.data(), b.data()) {
        (Data::Float(x), Data::Float(y)) => x
            .iter()
            .zip(y)
            .all(|(x, y)| x == y || (x.is_nan() && y.is_nan())),
        (x, y) => x == y,
    };
    a.dtype() == b.dtype() && a.shape() == b.shape() && elements
}
