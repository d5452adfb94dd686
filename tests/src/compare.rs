//! How a result is compared with eager PyTorch's.

use crate::cases::{Array, Case};
use safetensors::Dtype;

/// The elements as doubles; exact for every dtype but 64-bit integers beyond 2⁵³, which [`check`] compares by their bytes.
pub fn to_f64(array: &Array) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
    let bytes = &array.bytes;
    Some(match array.dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |c| f32::from_le_bytes(c).into()),
        Dtype::BF16 => each(bytes, |c: [u8; 2]| {
            f32::from_bits(u32::from(u16::from_le_bytes(c)) << 16).into()
        }),
        Dtype::F16 => each(bytes, |c| half_to_f64(u16::from_le_bytes(c))),
        Dtype::I64 => each(bytes, |c| i64::from_le_bytes(c) as f64),
        Dtype::I32 => each(bytes, |c| i32::from_le_bytes(c).into()),
        Dtype::I16 => each(bytes, |c| i16::from_le_bytes(c).into()),
        Dtype::I8 => each(bytes, |c| i8::from_le_bytes(c).into()),
        Dtype::U8 | Dtype::BOOL => each(bytes, |[c]: [u8; 1]| c.into()),
        Dtype::U16 => each(bytes, |c| u16::from_le_bytes(c).into()),
        Dtype::U32 => each(bytes, |c| u32::from_le_bytes(c).into()),
        _ => return None,
    })
}

fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

/// How far an element may lie from the expected one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// t · max(1, max |want|) for every element.
    Scaled(f64),
    /// atol + rtol · |want|, for operators that record their own.
    Own {
        /// Relative part.
        rtol: f64,
        /// Absolute part.
        atol: f64,
    },
}

/// The tolerance for a case: the operator's own, or the one of the lowest precision that the module computes in.
///
/// The dtype of a case is the one that its `meta.json` names: a bfloat16 model may return float32 logits.
pub fn tolerance(case: &Case) -> Tolerance {
    if let Some((rtol, atol)) = case.own_tolerance() {
        return Tolerance::Own { rtol, atol };
    }
    Tolerance::Scaled(match case.meta.get("dtype").and_then(|d| d.as_str()) {
        Some("bf16") => 3e-2,
        Some("fp16") => 5e-3,
        _ => 1e-4,
    })
}

/// What is wrong with `got`, or nothing. NaN equals NaN, an infinity only itself; integers and booleans are equal.
pub fn check(got: &Array, want: &Array, tolerance: Tolerance) -> Result<(), String> {
    if got.dtype != want.dtype || got.shape != want.shape {
        return Err(format!(
            "{:?}{:?}, expected {:?}{:?}",
            got.dtype, got.shape, want.dtype, want.shape
        ));
    }
    let float = matches!(
        want.dtype,
        Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
    );
    if !float {
        let size = want.bytes.len() / want.shape.iter().product::<usize>().max(1);
        let pairs = got
            .bytes
            .chunks(size.max(1))
            .zip(want.bytes.chunks(size.max(1)));
        let off = pairs.filter(|(g, w)| g != w).count();
        return if off == 0 {
            Ok(())
        } else {
            Err(format!(
                "{off} of {} integers differ: {:?}, expected {:?}",
                want.bytes.len() / size.max(1),
                head(got),
                head(want)
            ))
        };
    }
    let (Some(g), Some(w)) = (to_f64(got), to_f64(want)) else {
        return Err(format!("no comparison for {:?}", want.dtype));
    };
    let largest = w
        .iter()
        .filter(|x| x.is_finite())
        .fold(0.0f64, |m, x| m.max(x.abs()));
    let close = |g: f64, w: f64| {
        let bound = match tolerance {
            Tolerance::Scaled(t) => t * largest.max(1.0),
            Tolerance::Own { rtol, atol } => atol + rtol * w.abs(),
        };
        g == w || g.is_nan() && w.is_nan() || w.is_finite() && (g - w).abs() <= bound
    };
    let off = g.iter().zip(&w).filter(|(g, w)| !close(**g, **w)).count();
    if off == 0 {
        return Ok(());
    }
    let worst = g
        .iter()
        .zip(&w)
        .map(|(g, w)| (g - w).abs())
        .filter(|d| d.is_finite())
        .fold(0.0, f64::max);
    let first = g
        .iter()
        .zip(&w)
        .position(|(g, w)| !close(*g, *w))
        .unwrap_or_default();
    Err(format!(
        "{off} of {} elements off, by at most {worst:.3e} where the largest is {largest:.3e}; first at {first}: {}, expected {}",
        w.len(),
        g[first],
        w[first]
    ))
}

fn head(array: &Array) -> Vec<f64> {
    to_f64(array)
        .unwrap_or_default()
        .into_iter()
        .take(8)
        .collect()
}

/// Checks every call's every output.
pub fn check_calls(
    got: &[Vec<Array>],
    want: &[Vec<Array>],
    tolerance: Tolerance,
) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} calls, expected {}", got.len(), want.len()));
    }
    for (number, (got, want)) in got.iter().zip(want).enumerate() {
        if got.len() != want.len() {
            return Err(format!(
                "call {number}: {} outputs, expected {}",
                got.len(),
                want.len()
            ));
        }
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            check(got, want, tolerance)
                .map_err(|e| format!("call {number}, output {index}: {e}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Array {
        Array {
            dtype: Dtype::F32,
            shape: vec![values.len()],
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    #[test]
    fn the_scale_is_the_largest_expected_element_but_at_least_one() {
        let t = Tolerance::Scaled(1e-2);
        assert!(check(&floats(&[100.0, 0.9]), &floats(&[100.0, 0.0]), t).is_ok());
        assert!(check(&floats(&[0.0, 0.02]), &floats(&[0.1, 0.0]), t).is_err());
        assert!(check(&floats(&[0.0, 0.009]), &floats(&[0.001, 0.0]), t).is_ok());
    }

    #[test]
    fn nan_and_infinities_only_equal_themselves() {
        let t = Tolerance::Scaled(1.0);
        let special = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(check(&special, &special, t).is_ok());
        assert!(
            check(
                &floats(&[0.0, f32::INFINITY, f32::NEG_INFINITY]),
                &special,
                t
            )
            .is_err()
        );
        assert!(
            check(
                &floats(&[f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY]),
                &special,
                t
            )
            .is_err()
        );
        assert!(
            check(
                &floats(&[f32::NAN, f32::MAX, f32::NEG_INFINITY]),
                &special,
                t
            )
            .is_err()
        );
        assert!(check(&floats(&[f32::INFINITY]), &floats(&[1.0]), t).is_err());
        assert!(check(&floats(&[f32::NAN]), &floats(&[1.0]), t).is_err());
    }

    #[test]
    fn shapes_dtypes_and_integers_are_equal() {
        let t = Tolerance::Scaled(1.0);
        let int = |v: i64| Array {
            dtype: Dtype::I64,
            shape: vec![],
            bytes: v.to_le_bytes().to_vec(),
        };
        assert!(check(&int(1 << 60), &int((1 << 60) + 1), t).is_err());
        assert!(check(&int(7), &int(7), t).is_ok());
        assert!(check(&int(7), &floats(&[7.0]), t).is_err());
        let mut column = floats(&[1.0, 2.0]);
        column.shape = vec![2, 1];
        assert!(check(&column, &floats(&[1.0, 2.0]), t).is_err());
    }

    #[test]
    fn half_precision_converts_exactly() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 2f64.powi(-24)),
            (0x7bff, 65504.0),
            (0x3555, 0.333251953125),
        ] {
            assert_eq!(half_to_f64(bits), value);
        }
        assert_eq!(half_to_f64(0x7c00), f64::INFINITY);
        assert!(half_to_f64(0x7e00).is_nan());
    }
}
