//! Random numbers, as a function of a seed.

pub use super::table::RandomBits;
use super::util::fail;
use super::{EvalCx, OpImpl};
use crate::dtype::DType;
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::Type;

/// Threefry-2x32 with 20 rounds, as Random123 specifies it: two words of noise for a counter of two words, under a key of two words.
fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD1_1BDA];
    let [mut a, mut b] = [
        counter[0].wrapping_add(keys[0]),
        counter[1].wrapping_add(keys[1]),
    ];
    for round in 0..5u32 {
        let n = round as usize;
        for rotation in ROTATIONS[n % 2] {
            a = a.wrapping_add(b);
            b = b.rotate_left(rotation) ^ a;
        }
        a = a.wrapping_add(keys[(n + 1) % 3]);
        b = b.wrapping_add(keys[(n + 2) % 3]).wrapping_add(round + 1);
    }
    [a, b]
}

/// `n` words under a key: the first half of them are the first words of the counters `(i, i + ⌈n/2⌉)`, the second half their second words; of an odd
/// number the one in the middle has the counter `(⌊n/2⌋, 0)`.
fn words(key: [u32; 2], n: usize) -> Vec<u32> {
    let half = n / 2;
    let second = n - half;
    let mut out = vec![0; n];
    for i in 0..half {
        [out[i], out[second + i]] = threefry(key, [i as u32, (second + i) as u32]);
    }
    if second > half {
        out[half] = threefry(key, [half as u32, 0])[0];
    }
    out
}

impl OpImpl for RandomBits {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        super::create::check_sizes(&self.shape)?;
        match args {
            [Type::Int(_)] => Ok(Type::tensor(DType::U32, self.shape.clone())),
            [other, ..] => fail(format!("argument 0 is {other}, not an integer")),
            [] => fail("argument 0 is missing"),
        }
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let [seed] = args else {
            return fail("takes one integer");
        };
        let seed = seed.to_i64().first().copied().unwrap_or_default();
        let shape = cx.out_shape()?;
        let n = shape.iter().product();
        let bits = words([(seed >> 32) as u32, seed as u32], n);
        let bits = bits.into_iter().map(i64::from).collect();
        Ok(vec![Tensor::ints(DType::U32, shape, bits)?])
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        Ok(Lowering::Insts(vec![
            Inst::new("RandomBits")
                .out()
                .with("shape", Field::Dims(self.shape.clone()))
                .with("seed", Field::Value(Operand::Arg(0))),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 publishes for 20 rounds.
    #[test]
    fn known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        let all = u32::MAX;
        assert_eq!(threefry([all, all], [all, all]), [0x1cb9_96fc, 0xbb00_2be7]);
        let (key, counter) = ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]);
        assert_eq!(threefry(key, counter), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn a_seed_fills_a_shape() {
        let shape = vec![2i64.into(), 3i64.into()];
        let op = RandomBits {
            shape: shape.clone(),
        };
        let (seed, ty) = (Type::Int(7i64.into()), Type::tensor(DType::U32, shape));
        assert_eq!(op.infer(&[&seed]), Ok(ty.clone()));
        assert!(op.infer(&[&ty]).is_err());
        let symbols = std::collections::BTreeMap::new();
        let cx = EvalCx {
            symbols: &symbols,
            args: &[&seed],
            out: &ty,
        };
        let drawn = |seed: i64| {
            let seed = Tensor::ints(DType::I64, vec![], vec![seed]).unwrap();
            op.eval(&cx, &[&seed]).unwrap().remove(0)
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let want: Vec<i64> = words([0, 7], 6).into_iter().map(i64::from).collect();
        assert_eq!(drawn(7).to_i64(), want);
    }

    #[test]
    fn every_word_has_a_counter_of_its_own() {
        for n in [0, 1, 2, 7, 1000] {
            let mut all = words([0, 5], n);
            assert_eq!(all.len(), n);
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), n);
        }
    }
}
