//! Whether two results are as near as a rule's class promises.

use crate::build::{least_normal, lowest};
use crate::pass::Numerics;
use fuseline_ir::{DType, Tensor};

/// The largest relative rounding error of a dtype, doubled: one unit in the last place of 1.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        DType::F32 => 2f64.powi(-23),
        _ => 2f64.powi(-52),
    }
}

/// How many units of rounding of the largest term a reassociating rule may be off.
const REASSOCIATED: f64 = 64.0;

/// One result of a rule's sides: left, right, and the left side in exact arithmetic.
pub struct Sides<'a> {
    pub left: &'a Tensor,
    pub right: &'a Tensor,
    pub exact: &'a Tensor,
    /// The largest finite magnitude among the inputs.
    pub inputs: f64,
}

/// The first element that breaks the promise, in words.
pub fn broken(class: Numerics, sides: &Sides<'_>) -> Option<String> {
    let dtype = sides.left.dtype();
    if (dtype, sides.left.shape()) != (sides.right.dtype(), sides.right.shape()) {
        return Some("the types differ".into());
    }
    let (left, right, exact) = (
        sides.left.to_f64(),
        sides.right.to_f64(),
        sides.exact.to_f64(),
    );
    let magnitude = |v: &[f64]| {
        v.iter()
            .copied()
            .filter(|x| x.is_finite())
            .fold(0.0, |a: f64, x| a.max(x.abs()))
    };
    let largest = magnitude(&exact).max(sides.inputs);
    let near = |a: f64, b: f64| {
        let same = a == b || (a.is_nan() && b.is_nan());
        let of = a.abs().max(b.abs());
        let bound = match class {
            Numerics::Exact => 0.0,
            Numerics::Ulps(n) => f64::from(n) * unit(dtype) * of.max(least_normal(dtype)),
            Numerics::Reassociates => REASSOCIATED * unit(dtype) * largest.max(least_normal(dtype)),
        };
        same || (a - b).abs() <= bound
    };
    let most = -lowest(dtype);
    let fails = |(i, ((l, r), x)): (usize, ((f64, f64), f64))| {
        // Where exact arithmetic gives no number, where the left side left the range of its dtype though the result didn't, and where the result is within rounding of that range's end.
        let lost = x.is_nan()
            || (!l.is_finite() && x.abs() < most)
            || (x.is_finite() && x.abs() > 0.9 * most);
        let meaningless = class == Numerics::Reassociates && lost;
        let fine =
            meaningless || near(l, r) || (class != Numerics::Exact && near(dtype.round(x), r));
        (!fine).then(|| format!("element {i}: left {l:e}, right {r:e}, exact {x:e}"))
    };
    left.into_iter()
        .zip(right)
        .zip(exact)
        .enumerate()
        .find_map(fails)
}
