//! Cholesky's factorisation.

use super::matrix::{Batch, Matrix, failed, flag};
use crate::kernels::KernelError;
use crate::value::Value;

/// `linalg_cholesky_ex(A, upper, check_errors)`: L with A = L·Lᵀ, or its transpose, reading only that triangle of A; and for each matrix 0, or the order of the first leading minor
/// that isn't positive.
pub(super) fn factor(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::square(arguments, 0)?;
    let (upper, check) = (flag(arguments, 1)?, flag(arguments, 2)?);
    let n = batch.rows;
    let (mut factors, mut codes) = (Vec::new(), Vec::new());
    for (at, matrix) in batch.matrices.iter().enumerate() {
        let lower = if upper {
            matrix.transposed()
        } else {
            matrix.clone()
        };
        let (factor, code) = factored(&lower);
        if check && code != 0 {
            let problem = format!(
                "is not positive-definite: its leading minor of order {code} is not positive"
            );
            return Err(failed(at, problem));
        }
        factors.push(if upper { factor.transposed() } else { factor });
        codes.push(i32::try_from(code).unwrap_or(i32::MAX));
    }
    let elements = factors.iter().map(|one| one.elements.as_slice());
    Ok(vec![
        batch.made(&[n, n], elements)?,
        batch.integers(&[], &codes)?,
    ])
}

/// The factor, as far as it exists, and the order of the first minor that isn't positive, or 0.
fn factored(a: &Matrix) -> (Matrix, usize) {
    let n = a.rows;
    let mut factor = a.clone().masked(|row, column| row >= column);
    for k in 0..n {
        let sum: f64 = (0..k).map(|j| factor[(k, j)] * factor[(k, j)]).sum();
        let rest = a[(k, k)] - sum;
        // Not a number is not positive either.
        if rest.is_nan() || rest <= 0.0 {
            return (factor, k + 1);
        }
        let root = rest.sqrt();
        factor[(k, k)] = root;
        for row in k + 1..n {
            let sum: f64 = (0..k).map(|j| factor[(row, j)] * factor[(k, j)]).sum();
            factor[(row, k)] = (a[(row, k)] - sum) / root;
        }
    }
    (factor, 0)
}
