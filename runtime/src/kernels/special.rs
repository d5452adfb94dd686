//! Special functions that only the host computes: orthogonal polynomials, Bessel functions and Airy's.

use std::f64::consts::{FRAC_PI_4, PI};

use fuseline_program::ScalarType;

use super::portable::from_floats;
use super::{KernelError, Kernels, Walk, bad, broadcast_shape};
use crate::value::Value;

type Polynomial = fn(f64, i64) -> f64;
type Function = fn(f64) -> f64;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    let polynomials: [(&str, Polynomial); 12] = [
        ("chebyshev_polynomial_t", |x, n| chebyshev(x, x, n)),
        ("chebyshev_polynomial_u", |x, n| chebyshev(x, 2.0 * x, n)),
        ("chebyshev_polynomial_v", |x, n| {
            chebyshev(x, 2.0 * x - 1.0, n)
        }),
        ("chebyshev_polynomial_w", |x, n| {
            chebyshev(x, 2.0 * x + 1.0, n)
        }),
        ("shifted_chebyshev_polynomial_t", |x, n| {
            let x = 2.0 * x - 1.0;
            chebyshev(x, x, n)
        }),
        ("shifted_chebyshev_polynomial_u", |x, n| {
            let x = 2.0 * x - 1.0;
            chebyshev(x, 2.0 * x, n)
        }),
        ("shifted_chebyshev_polynomial_v", |x, n| {
            let x = 2.0 * x - 1.0;
            chebyshev(x, 2.0 * x - 1.0, n)
        }),
        ("shifted_chebyshev_polynomial_w", |x, n| {
            let x = 2.0 * x - 1.0;
            chebyshev(x, 2.0 * x + 1.0, n)
        }),
        ("hermite_polynomial_h", |x, n| {
            recurrence(n, 2.0 * x, |k, now, before| 2.0 * (x * now - k * before))
        }),
        ("hermite_polynomial_he", |x, n| {
            recurrence(n, x, |k, now, before| x * now - k * before)
        }),
        ("laguerre_polynomial_l", |x, n| {
            recurrence(n, 1.0 - x, |k, now, before| {
                ((2.0 * k + 1.0 - x) * now - k * before) / (k + 1.0)
            })
        }),
        ("legendre_polynomial_p", |x, n| {
            recurrence(n, x, |k, now, before| {
                ((2.0 * k + 1.0) * x * now - k * before) / (k + 1.0)
            })
        }),
    ];
    for (name, function) in polynomials {
        for overload in ["", ".n_scalar", ".x_scalar"] {
            kernels.register(
                format!("aten::special_{name}{overload}"),
                2,
                1,
                move |arguments| polynomial(arguments, function),
            );
        }
    }
    let functions: [(&str, Function); 10] = [
        ("bessel_j0", |x| first_kind(0, x.abs())),
        ("bessel_j1", |x| first_kind(1, x.abs()) * x.signum()),
        ("bessel_y0", |x| second_kind(0, x)),
        ("bessel_y1", |x| second_kind(1, x)),
        ("modified_bessel_k0", |x| modified(0.0, x, false)),
        ("modified_bessel_k1", |x| modified(1.0, x, false)),
        ("scaled_modified_bessel_k0", |x| modified(0.0, x, true)),
        ("scaled_modified_bessel_k1", |x| modified(1.0, x, true)),
        ("spherical_bessel_j0", |x| match x {
            _ if x.is_infinite() => 0.0,
            _ if x.abs() < 1e-4 => 1.0 - x * x / 6.0,
            _ => x.sin() / x,
        }),
        ("airy_ai", airy),
    ];
    for (name, function) in functions {
        kernels.register(format!("aten::special_{name}"), 1, 1, move |arguments| {
            let x = super::tensor(arguments, 0)?;
            let numbers: Vec<f64> = x.to_floats()?.into_iter().map(function).collect();
            let dtype = if is_float(x.dtype()) {
                x.dtype()
            } else {
                ScalarType::F32
            };
            Ok(vec![from_floats(dtype, &x.shape(), &numbers)?.into()])
        });
    }
}

/// `special_…(x, n)`: either may be a number; the degree is cut off to an integer.
fn polynomial(arguments: &[Value], function: Polynomial) -> Result<Vec<Value>, KernelError> {
    let operand = |position: usize| match arguments.get(position) {
        Some(Value::Tensor(tensor)) => {
            Ok((tensor.shape(), tensor.to_floats()?, Some(tensor.dtype())))
        }
        Some(other) => match other.as_float() {
            Some(number) => Ok((Vec::new(), vec![number], None)),
            None => Err(bad(position, format!("is {}, not a number", other.kind()))),
        },
        None => Err(bad(position, "is missing")),
    };
    let ((x_shape, x, x_dtype), (n_shape, n, n_dtype)) = (operand(0)?, operand(1)?);
    let Some(shape) = broadcast_shape(&x_shape, &n_shape) else {
        return Err(bad(
            1,
            format!("has a shape that does not broadcast with {x_shape:?}"),
        ));
    };
    let dtype = [x_dtype, n_dtype]
        .into_iter()
        .flatten()
        .find(|dtype| is_float(*dtype));
    let (left, right) = (
        Walk::broadcast(&x_shape, &shape),
        Walk::broadcast(&n_shape, &shape),
    );
    let pairs = left.offsets().zip(right.offsets());
    let numbers: Vec<f64> = pairs.map(|(i, j)| function(x[i], n[j] as i64)).collect();
    let dtype = dtype.unwrap_or(ScalarType::F32);
    Ok(vec![from_floats(dtype, &shape, &numbers)?.into()])
}

fn is_float(dtype: ScalarType) -> bool {
    matches!(
        dtype,
        ScalarType::F16 | ScalarType::BF16 | ScalarType::F32 | ScalarType::F64
    )
}

/// The highest degree that is computed; what is beyond it is out of every float's range or precision.
const DEGREES: i64 = 1 << 20;

/// The n-th of polynomials that begin with 1 and `first`, each from the two before it; 0 for a negative degree.
fn recurrence(n: i64, first: f64, next: impl Fn(f64, f64, f64) -> f64) -> f64 {
    if n < 0 {
        return 0.0;
    }
    if n > DEGREES {
        return f64::NAN;
    }
    let (mut before, mut now) = (1.0, first);
    if n == 0 {
        return before;
    }
    for k in 1..n {
        (before, now) = (now, next(k as f64, now, before));
    }
    now
}

fn chebyshev(x: f64, first: f64, n: i64) -> f64 {
    recurrence(n, first, |_, now, before| 2.0 * x * now - before)
}

/// Where power series give way to asymptotic ones.
const FAR: f64 = 14.0;

/// The asymptotic series of Hankel for the order 0 or 1: the part with the cosine and the one with the sine.
fn hankel(order: i32, x: f64) -> (f64, f64) {
    let mu = 4.0 * f64::from(order * order);
    let (mut even, mut odd) = (1.0, 0.0);
    let mut term = 1.0_f64;
    for k in 1..40 {
        let side = f64::from(2 * k - 1);
        let next = term * (mu - side * side) / (f64::from(k) * 8.0 * x);
        if next.abs() > term.abs() || next.abs() < f64::EPSILON {
            break;
        }
        term = next;
        add_turned(&mut even, &mut odd, k, term);
    }
    (even, odd)
}

/// Adds the real part of `iᵏ · term` to `even` and its imaginary part to `odd`.
fn add_turned(even: &mut f64, odd: &mut f64, k: i32, term: f64) {
    match k % 4 {
        1 => *odd += term,
        2 => *even -= term,
        3 => *odd -= term,
        _ => *even += term,
    }
}

/// The phase of the asymptotic forms.
fn phase(order: i32, x: f64) -> f64 {
    x - FRAC_PI_4 - f64::from(order) * PI / 2.0
}

/// Bessel's function of the first kind of the order 0 or 1, for x ≥ 0.
fn first_kind(order: i32, x: f64) -> f64 {
    if x.is_nan() || x.is_infinite() {
        return if x.is_nan() { x } else { 0.0 };
    }
    if x > FAR {
        let ((even, odd), angle) = (hankel(order, x), phase(order, x));
        return (2.0 / (PI * x)).sqrt() * (even * angle.cos() - odd * angle.sin());
    }
    let square = -x * x / 4.0;
    let mut term = if order == 0 { 1.0 } else { x / 2.0 };
    let mut sum = term;
    for k in 1..80 {
        term *= square / f64::from(k * (k + order));
        sum += term;
    }
    sum
}

/// Bessel's function of the second kind of the order 0 or 1.
fn second_kind(order: i32, x: f64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 || x.is_infinite() {
        return if x == 0.0 { f64::NEG_INFINITY } else { 0.0 };
    }
    if x > FAR {
        let ((even, odd), angle) = (hankel(order, x), phase(order, x));
        return (2.0 / (PI * x)).sqrt() * (even * angle.sin() + odd * angle.cos());
    }
    let square = -x * x / 4.0;
    let logarithm = (x / 2.0).ln() * first_kind(order, x);
    // ψ(k + 1) + ψ(k + 1 + order), and ψ(1) = −γ.
    let mut psi = if order == 0 {
        -2.0 * EULER
    } else {
        1.0 - 2.0 * EULER
    };
    let mut term = if order == 0 { 1.0 } else { x / 2.0 };
    let mut sum = term * psi;
    for k in 1..80 {
        let (k, up) = (f64::from(k), f64::from(k + order));
        term *= square / (k * up);
        psi += 1.0 / k + 1.0 / up;
        sum += term * psi;
    }
    let pole = if order == 0 { 0.0 } else { 2.0 / x };
    (2.0 * logarithm - sum - pole) / PI
}

/// The modified Bessel function of the second kind, `∫ e^(−x·cosh t)·cosh(νt) dt` from 0 up; `scaled` by eˣ.
fn modified(order: f64, x: f64, scaled: bool) -> f64 {
    const STEP: f64 = 1.0 / 16.0;
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 || x.is_infinite() {
        return if x == 0.0 { f64::INFINITY } else { 0.0 };
    }
    // The sum at equal steps is as good as the integral: the integrand falls off doubly exponentially on both sides.
    let mut sum = 0.5;
    for k in 1..20_000 {
        let t = STEP * f64::from(k);
        let fall = x * (t.cosh() - 1.0);
        if fall > 745.0 {
            break;
        }
        sum += (-fall).exp() * (order * t).cosh();
    }
    STEP * sum * if scaled { 1.0 } else { (-x).exp() }
}

/// Airy's function of the first kind.
fn airy(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let zeta = 2.0 / 3.0 * x.abs().powf(1.5);
    if x > 2.0 {
        return (x / 3.0).sqrt() / PI * modified(1.0 / 3.0, zeta, false);
    }
    if x < -9.0 {
        // u₀ … of the asymptotic series.
        let (mut even, mut odd, mut term) = (1.0, 0.0, 1.0_f64);
        for k in 1..30 {
            let n = f64::from(k);
            let next = term * (6.0 * n - 5.0) * (6.0 * n - 3.0) * (6.0 * n - 1.0)
                / (216.0 * n * (2.0 * n - 1.0) * zeta);
            if next.abs() > term.abs() {
                break;
            }
            term = next;
            add_turned(&mut even, &mut odd, k, term);
        }
        let angle = zeta + FRAC_PI_4;
        return (even * angle.sin() - odd * angle.cos()) / (PI.sqrt() * x.abs().powf(0.25));
    }
    // Ai(0)·f − |Ai′(0)|·g.
    let (mut f, mut g, cube) = (1.0, x, x * x * x);
    let (mut sum_f, mut sum_g) = (f, g);
    for k in 1..80 {
        let n = 3.0 * f64::from(k);
        f *= cube / (n * (n - 1.0));
        g *= cube / (n * (n + 1.0));
        sum_f += f;
        sum_g += g;
    }
    0.355_028_053_887_817_2 * sum_f - 0.258_819_403_792_806_8 * sum_g
}
