//! Gamma functions, Bessel functions and relatives of the error function, none of which the target has: each by a series that is good to single precision.

use std::f64::consts::{LN_2, PI};

use fuseline_ir::Value;
use fuseline_ir::ops::pointwise::SCALED_ERFC;
use fuseline_ir::ops::table as op;

use super::pointwise::{activation, one_minus, operands, widened};
use crate::import::error::{Result, invalid};
use crate::import::{Handler, Importer};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "lgamma" => |cx, call| activation(cx, call, log_gamma),
        "digamma" => |cx, call| activation(cx, call, digamma),
        "mvlgamma" => |cx, call| {
            let p = call.int("p")?;
            if !(1..=64).contains(&p) {
                return invalid(format!("a gamma function of {p} dimensions"));
            }
            activation(cx, call, |cx, x| {
                let offset = (p * (p - 1)) as f64 / 4.0 * PI.ln();
                let mut sum = cx.build.float(offset, cx.build.dtype(x)?)?;
                for i in 0..p {
                    let at = cx.build.with_float(op::Sub {}, x, i as f64 / 2.0)?;
                    let term = log_gamma(cx, at)?;
                    sum = cx.build.add(op::Add {}, &[sum, term])?;
                }
                Ok(sum)
            })
        },
        "polygamma" => |cx, call| {
            let n = call.int("n")?;
            if !(0..=30).contains(&n) {
                return invalid(format!("the derivative {n} of the digamma function"));
            }
            activation(cx, call, |cx, x| {
                if n == 0 {
                    return digamma(cx, x);
                }
                let order = cx.build.float((n + 1) as f64, cx.build.dtype(x)?)?;
                let zeta = zeta(cx, order, x)?;
                let factorial: f64 = (1..=n).map(|k| k as f64).product();
                let sign = if n % 2 == 0 { -1.0 } else { 1.0 };
                cx.build.with_float(op::Mul {}, zeta, sign * factorial)
            })
        },
        "special_zeta" => |cx, call| {
            let (s, q) = operands(cx, call)?;
            widened(cx, &[s, q], |cx, v| zeta(cx, v[0], v[1]))
        },
        "erfc" => |cx, call| activation(cx, call, |cx, x| cx.build.add(op::Erfc {}, &[x])),
        "special_erfcx" => |cx, call| {
            activation(cx, call, |cx, x| {
                let size = cx.build.add(op::Abs {}, &[x])?;
                let right = scaled_erfc(cx, size)?;
                // erfcx(−x) = 2eˣ² − erfcx(x).
                let square = cx.build.add(op::Square {}, &[x])?;
                let growth = cx.build.add(op::Exp {}, &[square])?;
                let twice = cx.build.with_float(op::Mul {}, growth, 2.0)?;
                let left = cx.build.add(op::Sub {}, &[twice, right])?;
                above(cx, x, 0.0, right, left)
            })
        },
        "special_log_ndtr" => |cx, call| {
            activation(cx, call, |cx, x| {
                let z = cx
                    .build
                    .with_float(op::Mul {}, x, -std::f64::consts::FRAC_1_SQRT_2)?;
                let scaled = scaled_erfc(cx, z)?;
                let log = cx.build.add(op::Log {}, &[scaled])?;
                let log = cx.build.with_float(op::Sub {}, log, LN_2)?;
                let square = cx.build.add(op::Square {}, &[z])?;
                let tail = cx.build.add(op::Sub {}, &[log, square])?;
                let erf = cx.build.add(op::Erf {}, &[z])?;
                let unit = cx.build.float(1.0, cx.build.dtype(erf)?)?;
                let upper = cx.build.add(op::Sub {}, &[erf, unit])?;
                let upper = cx.build.with_float(op::Mul {}, upper, 0.5)?;
                let body = cx.build.add(op::Neg {}, &[upper])?;
                let body = cx.build.add(op::Log {}, &[body])?;
                above(cx, x, -1.0, body, tail)
            })
        },
        "i0" | "special_modified_bessel_i0" => {
            |cx, call| activation(cx, call, |cx, x| bessel_i(cx, x, &ORDER_0, true))
        }
        "special_i0e" => |cx, call| activation(cx, call, |cx, x| bessel_i(cx, x, &ORDER_0, false)),
        "special_i1" | "special_modified_bessel_i1" => {
            |cx, call| activation(cx, call, |cx, x| bessel_i(cx, x, &ORDER_1, true))
        }
        "special_i1e" => |cx, call| activation(cx, call, |cx, x| bessel_i(cx, x, &ORDER_1, false)),
        _ => return None,
    })
}

/// `c₀ + c₁x + c₂x² + …`.
fn polynomial(cx: &mut Importer<'_>, x: Value, coefficients: &[f64]) -> Result<Value> {
    let Some((last, rest)) = coefficients.split_last() else {
        return invalid("a polynomial without coefficients");
    };
    let mut sum = cx.build.float(*last, cx.build.dtype(x)?)?;
    for coefficient in rest.iter().rev() {
        let product = cx.build.add(op::Mul {}, &[sum, x])?;
        sum = cx.build.with_float(op::Add {}, product, *coefficient)?;
    }
    Ok(sum)
}

/// `then` where x is above the limit.
fn above(
    cx: &mut Importer<'_>,
    x: Value,
    limit: f64,
    then: Value,
    otherwise: Value,
) -> Result<Value> {
    let limit = cx.build.float(limit, cx.build.dtype(x)?)?;
    let hit = cx.build.add(op::Gt {}, &[x, limit])?;
    cx.build.select(hit, then, otherwise)
}

/// x less its nearest integer, the sign of zero kept: what a function of period 1 sees of x.
fn centred(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let whole = cx.build.add(op::Round {}, &[x])?;
    let rest = cx.build.add(op::Sub {}, &[x, whole])?;
    let size = cx.build.add(op::Abs {}, &[x])?;
    above(cx, size, 0.5, rest, x)
}

/// Where asymptotic series begin to serve.
const FAR: i64 = 8;

/// `ln |Γ(x)|`: Stirling's series from [`FAR`] on, the recurrence below it, the reflection formula below ½.
fn log_gamma(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let reflected = one_minus(cx, x)?;
    let positive = above(cx, x, 0.5, x, reflected)?;
    // Γ(x) = Γ(x + n) / (x (x + 1) … (x + n − 1)).
    let mut product = positive;
    for n in 1..FAR {
        let next = cx.build.with_float(op::Add {}, positive, n as f64)?;
        product = cx.build.add(op::Mul {}, &[product, next])?;
    }
    let far = cx.build.with_float(op::Add {}, positive, FAR as f64)?;
    let unit = cx.build.float(1.0, dtype)?;
    let z = above(cx, positive, FAR as f64, positive, far)?;
    let product = above(cx, positive, FAR as f64, unit, product)?;
    let log = cx.build.add(op::Log {}, &[z])?;
    let exponent = cx.build.with_float(op::Sub {}, z, 0.5)?;
    // (z − ½)(ln z − 1) is z·ln z − ½·ln z − z without the difference of large numbers; ½ makes up for it.
    let log_less = cx.build.with_float(op::Sub {}, log, 1.0)?;
    let main = cx.build.add(op::Mul {}, &[exponent, log_less])?;
    let inverse = cx.build.add(op::Reciprocal {}, &[z])?;
    let square = cx.build.add(op::Square {}, &[inverse])?;
    let series = polynomial(cx, square, &[1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0])?;
    let series = cx.build.add(op::Mul {}, &[series, inverse])?;
    let constant = 0.5 * (2.0 * PI).ln() - 0.5;
    let series = cx.build.with_float(op::Add {}, series, constant)?;
    let stirling = cx.build.add(op::Add {}, &[main, series])?;
    let log_product = cx.build.add(op::Log {}, &[product])?;
    let right = cx.build.add(op::Sub {}, &[stirling, log_product])?;
    // Γ(x) Γ(1 − x) = π / sin πx.
    let angle = centred(cx, x)?;
    let angle = cx.build.with_float(op::Mul {}, angle, PI)?;
    let sine = cx.build.add(op::Sin {}, &[angle])?;
    let sine = cx.build.add(op::Abs {}, &[sine])?;
    let log_sine = cx.build.add(op::Log {}, &[sine])?;
    let log_pi = cx.build.float(PI.ln(), dtype)?;
    let left = cx.build.add(op::Sub {}, &[log_pi, log_sine])?;
    let left = cx.build.add(op::Sub {}, &[left, right])?;
    let result = above(cx, x, 0.5, right, left)?;
    let size = cx.build.add(op::Abs {}, &[x])?;
    let infinity = cx.build.float(f64::INFINITY, dtype)?;
    let infinite = cx.build.add(op::Eq {}, &[size, infinity])?;
    cx.build.select(infinite, infinity, result)
}

/// `Γ'(x) / Γ(x)`, as [`log_gamma`].
fn digamma(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let dtype = cx.build.dtype(x)?;
    let reflected = one_minus(cx, x)?;
    let positive = above(cx, x, 0.5, x, reflected)?;
    let mut sum = cx.build.add(op::Reciprocal {}, &[positive])?;
    for n in 1..FAR {
        let next = cx.build.with_float(op::Add {}, positive, n as f64)?;
        let next = cx.build.add(op::Reciprocal {}, &[next])?;
        sum = cx.build.add(op::Add {}, &[sum, next])?;
    }
    let z = cx.build.with_float(op::Add {}, positive, FAR as f64)?;
    let log = cx.build.add(op::Log {}, &[z])?;
    let inverse = cx.build.add(op::Reciprocal {}, &[z])?;
    let square = cx.build.add(op::Square {}, &[inverse])?;
    let series = polynomial(cx, square, &[1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0])?;
    let series = cx.build.add(op::Mul {}, &[series, square])?;
    let half = cx.build.with_float(op::Mul {}, inverse, 0.5)?;
    let series = cx.build.add(op::Add {}, &[series, half])?;
    let right = cx.build.add(op::Sub {}, &[log, series])?;
    let right = cx.build.add(op::Sub {}, &[right, sum])?;
    let angle = centred(cx, x)?;
    let scaled = cx.build.with_float(op::Mul {}, angle, PI)?;
    let tangent = cx.build.add(op::Tan {}, &[scaled])?;
    let pi = cx.build.float(PI, dtype)?;
    let term = cx.build.add(op::Div {}, &[pi, tangent])?;
    let left = cx.build.add(op::Sub {}, &[right, term])?;
    let result = above(cx, x, 0.5, right, left)?;
    // A pole on either side of which the signs differ has no value, except at the two zeros.
    let zero = cx.build.float(0.0, dtype)?;
    let whole = cx.build.add(op::Eq {}, &[angle, zero])?;
    let negative = cx.build.add(op::Lt {}, &[x, zero])?;
    let pole = cx.build.add(op::LogicalAnd {}, &[whole, negative])?;
    let nan = cx.build.float(f64::NAN, dtype)?;
    cx.build.select(pole, nan, result)
}

/// Hurwitz' `ζ(s, q) = Σ (q + k)⁻ˢ` for s > 1; ∞ at the poles q = 0, −1, …. Below 0 it has a value for whole s only: the terms on either side of 0 are sums of positive numbers.
fn zeta(cx: &mut Importer<'_>, s: Value, q: Value) -> Result<Value> {
    let dtype = cx.build.dtype(q)?;
    let (zero, one) = (cx.build.float(0.0, dtype)?, cx.build.float(1.0, dtype)?);
    let negative = cx.build.add(op::Le {}, &[q, zero])?;
    let whole = cx.build.add(op::Floor {}, &[q])?;
    let fraction = cx.build.minus(q, whole)?;
    let start = cx.build.select(negative, fraction, q)?;
    let right = zeta_above(cx, s, start)?;
    let (near, far) = (one_minus(cx, fraction)?, one_minus(cx, q)?);
    let far = cx.build.select(negative, far, one)?;
    let (near, far) = (zeta_above(cx, s, near)?, zeta_above(cx, s, far)?);
    let left = cx.build.minus(near, far)?;
    // (−1)ˢ.
    let two = cx.build.float(2.0, dtype)?;
    let odd = cx.build.add(op::Remainder {}, &[s, two])?;
    let sign = cx.build.with_float(op::Mul {}, odd, -2.0)?;
    let sign = cx.build.with_float(op::Add {}, sign, 1.0)?;
    let rounded = cx.build.add(op::Floor {}, &[s])?;
    let is_whole = cx.build.add(op::Eq {}, &[s, rounded])?;
    let nan = cx.build.float(f64::NAN, dtype)?;
    let sign = cx.build.select(is_whole, sign, nan)?;
    let left = cx.build.times(sign, left)?;
    let both = cx.build.plus(right, left)?;
    let pole = cx.build.add(op::Eq {}, &[fraction, zero])?;
    let both = cx.build.select(pole, right, both)?;
    let value = cx.build.select(negative, both, right)?;
    // The sum ends for s > 1 only.
    let (ends, least) = (
        cx.build.add(op::Gt {}, &[s, one])?,
        cx.build.add(op::Eq {}, &[s, one])?,
    );
    let infinity = cx.build.float(f64::INFINITY, dtype)?;
    let endless = cx.build.select(least, infinity, nan)?;
    cx.build.select(ends, value, endless)
}

/// The same for q ≥ 0, by Euler and Maclaurin.
fn zeta_above(cx: &mut Importer<'_>, s: Value, q: Value) -> Result<Value> {
    let power = cx.build.add(op::Neg {}, &[s])?;
    let mut sum = cx.build.add(op::Pow {}, &[q, power])?;
    for k in 1..FAR {
        let base = cx.build.with_float(op::Add {}, q, k as f64)?;
        let term = cx.build.add(op::Pow {}, &[base, power])?;
        sum = cx.build.add(op::Add {}, &[sum, term])?;
    }
    let z = cx.build.with_float(op::Add {}, q, FAR as f64)?;
    let last = cx.build.add(op::Pow {}, &[z, power])?;
    let less = cx.build.with_float(op::Sub {}, s, 1.0)?;
    let integral = cx.build.add(op::Div {}, &[z, less])?;
    let integral = cx.build.with_float(op::Add {}, integral, 0.5)?;
    // B₂ⱼ/(2j)! · s (s + 1) … (s + 2j − 2) / z²ʲ⁻¹.
    let inverse = cx.build.add(op::Reciprocal {}, &[z])?;
    let mut factor = cx.build.add(op::Mul {}, &[s, inverse])?;
    let mut total = integral;
    let mut at = 1.0;
    for coefficient in [1.0 / 12.0, -1.0 / 720.0, 1.0 / 30240.0, -1.0 / 1_209_600.0] {
        let term = cx.build.with_float(op::Mul {}, factor, coefficient)?;
        total = cx.build.add(op::Add {}, &[total, term])?;
        for _ in 0..2 {
            let next = cx.build.with_float(op::Add {}, s, at)?;
            let next = cx.build.add(op::Mul {}, &[next, inverse])?;
            factor = cx.build.add(op::Mul {}, &[factor, next])?;
            at += 1.0;
        }
    }
    let rest = cx.build.add(op::Mul {}, &[last, total])?;
    cx.build.add(op::Add {}, &[sum, rest])
}

/// `eˣ² erfc(x)` for x ≥ 0: see [`SCALED_ERFC`].
fn scaled_erfc(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let half = cx.build.with_float(op::Mul {}, x, 0.5)?;
    let raised = cx.build.with_float(op::Add {}, half, 1.0)?;
    let t = cx.build.add(op::Reciprocal {}, &[raised])?;
    let exponent = polynomial(cx, t, &SCALED_ERFC)?;
    let grown = cx.build.add(op::Exp {}, &[exponent])?;
    cx.build.add(op::Mul {}, &[t, grown])
}

/// A modified Bessel function of the first kind: series in (x/3.75)² up to 3.75, and of √x·e⁻ˣ·I(x) in 3.75/x beyond (Abramowitz and Stegun 9.8.1 to 9.8.4).
struct Bessel {
    near: [f64; 7],
    far: [f64; 9],
    odd: bool,
}

const ORDER_0: Bessel = Bessel {
    near: [
        1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813,
    ],
    far: [
        0.39894228,
        0.01328592,
        0.00225319,
        -0.00157565,
        0.00916281,
        -0.02057706,
        0.02635537,
        -0.01647633,
        0.00392377,
    ],
    odd: false,
};

const ORDER_1: Bessel = Bessel {
    near: [
        0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411,
    ],
    far: [
        0.39894228,
        -0.03988024,
        -0.00362018,
        0.00163801,
        -0.01031555,
        0.02282967,
        -0.02895312,
        0.01787654,
        -0.00420059,
    ],
    odd: true,
};

/// `I(x)`, or `e^(−|x|) I(x)` where it is not `whole`.
fn bessel_i(cx: &mut Importer<'_>, x: Value, bessel: &Bessel, whole: bool) -> Result<Value> {
    const LIMIT: f64 = 3.75;
    let size = cx.build.add(op::Abs {}, &[x])?;
    let decayed = cx.build.add(op::Neg {}, &[size])?;
    let growth = cx
        .build
        .add(op::Exp {}, &[if whole { size } else { decayed }])?;
    let ratio = cx.build.with_float(op::Div {}, size, LIMIT)?;
    let square = cx.build.add(op::Square {}, &[ratio])?;
    let mut near = polynomial(cx, square, &bessel.near)?;
    if bessel.odd {
        near = cx.build.add(op::Mul {}, &[near, size])?;
    }
    if !whole {
        near = cx.build.add(op::Mul {}, &[near, growth])?;
    }
    let inverse = cx.build.add(op::Reciprocal {}, &[ratio])?;
    let far = polynomial(cx, inverse, &bessel.far)?;
    let root = cx.build.add(op::Rsqrt {}, &[size])?;
    let mut far = cx.build.add(op::Mul {}, &[far, root])?;
    if whole {
        far = cx.build.add(op::Mul {}, &[far, growth])?;
    }
    let result = above(cx, size, LIMIT, far, near)?;
    if !bessel.odd {
        return Ok(result);
    }
    let sign = cx.build.add(op::Sign {}, &[x])?;
    cx.build.add(op::Mul {}, &[sign, result])
}
