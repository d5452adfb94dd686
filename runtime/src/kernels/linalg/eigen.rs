//! Eigenvalues of symmetric matrices, by Jacobi's rotations.

use super::matrix::{Batch, Matrix, failed, flag};
use crate::kernels::{KernelError, bad};
use crate::value::Value;

/// Rounds over all pairs of axes; five to ten are enough for any matrix that converges.
const SWEEPS: usize = 64;

/// `_linalg_eigh(A, UPLO, compute_v)`: the eigenvalues, ascending, and the eigenvectors as columns, reading only one triangle of A.
pub(super) fn symmetric(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::square(arguments, 0)?;
    let upper = match arguments.get(1) {
        Some(Value::String(part)) if part.eq_ignore_ascii_case("u") => true,
        Some(Value::String(part)) if part.eq_ignore_ascii_case("l") => false,
        _ => return Err(bad(1, "is neither L nor U")),
    };
    let n = batch.rows;
    let (mut values, mut vectors) = (Vec::new(), Vec::new());
    for (at, matrix) in batch.matrices.iter().enumerate() {
        let mut whole = matrix.clone();
        for row in 0..n {
            for column in 0..row {
                let (low, high) = ((row, column), (column, row));
                let given = if upper { matrix[high] } else { matrix[low] };
                (whole[low], whole[high]) = (given, given);
            }
        }
        let (own, columns) = decomposed(whole).ok_or_else(|| {
            failed(
                at,
                "has elements that are not finite, so that it has no eigenvalues",
            )
        })?;
        values.push(own);
        vectors.push(columns);
    }
    let wanted = flag(arguments, 2)?;
    let elements = vectors.iter().map(|one| one.elements.as_slice());
    Ok(vec![
        batch.made(&[n], values.iter().map(Vec::as_slice))?,
        match wanted {
            true => batch.made(&[n, n], elements)?,
            false => crate::kernels::portable::from_floats(batch.dtype, &[0], &[])?.into(),
        },
    ])
}

/// The eigenvalues of a symmetric matrix, ascending, with their vectors as columns; none if its elements are not finite.
fn decomposed(mut a: Matrix) -> Option<(Vec<f64>, Matrix)> {
    if !a.is_finite() {
        return None;
    }
    let n = a.rows;
    let mut vectors = Matrix::identity(n, n);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                let size = (a[(p, p)] * a[(q, q)]).abs().sqrt();
                // Below what the diagonal can hold there is nothing to turn away.
                if a[(p, q)].abs() <= f64::EPSILON * f64::EPSILON.max(size) || a[(p, q)] == 0.0 {
                    continue;
                }
                turned = true;
                let slope = (a[(q, q)] - a[(p, p)]) / (2.0 * a[(p, q)]);
                let tangent = slope.signum() / (slope.abs() + slope.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                turn(&mut a, &mut vectors, [p, q], [cosine, tangent * cosine]);
            }
        }
        if !turned {
            break;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| a[(*i, *i)].total_cmp(&a[(*j, *j)]));
    let mut columns = Matrix::zeros(n, n);
    for (at, from) in order.iter().enumerate() {
        let sign = sign_of((0..n).map(|row| vectors[(row, *from)]));
        for row in 0..n {
            columns[(row, at)] = sign * vectors[(row, *from)];
        }
    }
    let values = order.iter().map(|i| a[(*i, *i)]).collect();
    Some((values, columns))
}

/// One rotation in the plane of two axes, from both sides.
fn turn(a: &mut Matrix, vectors: &mut Matrix, [p, q]: [usize; 2], [cosine, sine]: [f64; 2]) {
    for k in 0..a.rows {
        let (x, y) = (a[(k, p)], a[(k, q)]);
        (a[(k, p)], a[(k, q)]) = (cosine * x - sine * y, sine * x + cosine * y);
    }
    for k in 0..a.rows {
        let (x, y) = (a[(p, k)], a[(q, k)]);
        (a[(p, k)], a[(q, k)]) = (cosine * x - sine * y, sine * x + cosine * y);
        let (x, y) = (vectors[(k, p)], vectors[(k, q)]);
        (vectors[(k, p)], vectors[(k, q)]) = (cosine * x - sine * y, sine * x + cosine * y);
    }
    (a[(p, q)], a[(q, p)]) = (0.0, 0.0);
}

/// −1 where the largest of a vector's elements, the first of equals, is negative, else 1.
pub(super) fn sign_of(elements: impl Iterator<Item = f64>) -> f64 {
    let mut largest = 0.0_f64;
    for x in elements {
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    if largest < 0.0 { -1.0 } else { 1.0 }
}
