//! The incomplete gamma functions.

use super::portable::from_floats;
use super::{KernelError, Kernels, Walk, bad, broadcast_shape, tensor};
use crate::value::Value;

/// Adds both.
pub(super) fn register(kernels: &mut Kernels) {
    for (name, upper) in [
        ("igamma", false),
        ("igammac", true),
        ("special_gammainc", false),
        ("special_gammaincc", true),
    ] {
        kernels.register(format!("aten::{name}"), 2, 1, move |arguments| {
            regularised(arguments, upper)
        });
    }
}

/// `igamma(self, other)` and `igammac`: the part of Γ(a) below x, and the one above it.
fn regularised(arguments: &[Value], upper: bool) -> Result<Vec<Value>, KernelError> {
    let (a, x) = (tensor(arguments, 0)?, tensor(arguments, 1)?);
    let Some(shape) = broadcast_shape(&a.shape(), &x.shape()) else {
        return Err(bad(
            1,
            format!("has a shape that does not broadcast with {:?}", a.shape()),
        ));
    };
    let (orders, ends) = (a.to_floats()?, x.to_floats()?);
    let pairs = Walk::broadcast(&a.shape(), &shape);
    let others = Walk::broadcast(&x.shape(), &shape);
    let numbers: Vec<f64> = pairs
        .offsets()
        .zip(others.offsets())
        .map(|(i, j)| part(orders[i], ends[j], upper))
        .collect();
    Ok(vec![from_floats(a.dtype(), &shape, &numbers)?.into()])
}

/// Terms after which a series or a fraction has long converged for orders that are not enormous.
const TERMS: usize = 100_000;

fn part(a: f64, x: f64, upper: bool) -> f64 {
    let known = |lower: f64| if upper { 1.0 - lower } else { lower };
    if a.is_nan() || x.is_nan() || a < 0.0 || x < 0.0 || (a.is_infinite() && x.is_infinite()) {
        return f64::NAN;
    }
    if a == 0.0 {
        return if x > 0.0 { known(1.0) } else { f64::NAN };
    }
    if x == 0.0 || a.is_infinite() {
        return known(0.0);
    }
    if x.is_infinite() {
        return known(1.0);
    }
    let scale = (a * x.ln() - x - log_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for n in 1..TERMS {
            term *= x / (a + n as f64);
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return known(sum * scale);
    }
    // Legendre's continued fraction, from the front.
    let least = f64::MIN_POSITIVE / f64::EPSILON;
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / least;
    let mut d = 1.0 / b;
    let mut fraction = d;
    for n in 1..TERMS {
        let n = n as f64;
        let above = n * (a - n);
        b += 2.0;
        d = above.mul_add(d, b);
        d = 1.0 / if d.abs() < least { least } else { d };
        c = b + above / c;
        c = if c.abs() < least { least } else { c };
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    let above = fraction * scale;
    if upper { above } else { 1.0 - above }
}

/// ln Γ(a) for positive a: Stirling's series after steps up to where it is good to double precision.
fn log_gamma(a: f64) -> f64 {
    let mut shift = 0.0;
    let mut a = a;
    while a < 12.0 {
        shift += a.ln();
        a += 1.0;
    }
    let square = 1.0 / (a * a);
    let series =
        (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / a;
    (a - 0.5) * a.ln() - a + 0.5 * std::f64::consts::TAU.ln() + series - shift
}
