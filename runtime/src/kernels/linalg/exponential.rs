//! The exponential of matrices.

use super::matrix::{Batch, Matrix};
use crate::kernels::KernelError;
use crate::value::Value;

/// Terms of the series, good to double precision for matrices of norm ½.
const TERMS: usize = 18;

/// `linalg_matrix_exp(A)`: by the series for A/2ˢ, squared s times.
pub(super) fn of(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::square(arguments, 0)?;
    let n = batch.rows;
    let all: Vec<Matrix> = batch.matrices.iter().map(exponential).collect();
    Ok(vec![batch.made(
        &[n, n],
        all.iter().map(|one| one.elements.as_slice()),
    )?])
}

fn exponential(matrix: &Matrix) -> Matrix {
    let n = matrix.rows;
    let row = |row: usize| {
        (0..n)
            .map(|column| matrix[(row, column)].abs())
            .sum::<f64>()
    };
    let norm = (0..n).map(row).fold(0.0, f64::max);
    let squarings = if norm.is_finite() && norm > 0.5 {
        (norm / 0.5).log2().ceil() as i32
    } else {
        0
    };
    let mut scaled = matrix.clone();
    for x in &mut scaled.elements {
        *x *= 0.5_f64.powi(squarings);
    }
    let (mut sum, mut term) = (Matrix::identity(n, n), Matrix::identity(n, n));
    for k in 1..=TERMS {
        term = term.times(&scaled);
        for (total, x) in sum.elements.iter_mut().zip(&mut term.elements) {
            *x /= k as f64;
            *total += *x;
        }
    }
    for _ in 0..squarings {
        sum = sum.times(&sum);
    }
    sum
}
