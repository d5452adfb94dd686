//! The singular value decomposition, by rotations that make columns orthogonal.

use super::eigen::sign_of;
use super::matrix::{Batch, Matrix, failed, flag};
use super::qr::{orthogonal, reflected};
use crate::kernels::KernelError;
use crate::value::Value;

/// Rounds over all pairs of columns.
const SWEEPS: usize = 64;

/// U, the values in descending order, and V, with A = U·diag·Vᵀ; U has as many columns as there are values.
struct Parts {
    left: Matrix,
    values: Vec<f64>,
    right: Matrix,
}

/// `_linalg_svd(A, full_matrices, compute_uv, driver)`: U, the singular values, descending, and Vᵀ. Without `compute_uv` the matrices have no elements.
pub(super) fn values(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let (full, wanted) = (flag(arguments, 1)?, flag(arguments, 2)?);
    let (rows, columns) = (batch.rows, batch.columns);
    let count = rows.min(columns);
    let (mut all, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for (at, matrix) in batch.matrices.iter().enumerate() {
        if !matrix.is_finite() {
            return Err(failed(
                at,
                "has elements that are not finite, so that it has no singular values",
            ));
        }
        let tall = rows >= columns;
        let parts = if tall {
            decomposed(matrix)
        } else {
            decomposed(&matrix.transposed())
        };
        let (u, v) = if tall {
            (parts.left, parts.right)
        } else {
            (parts.right, parts.left)
        };
        if wanted {
            left.push(if full { completed(&u, rows) } else { u });
            right.push(if full { completed(&v, columns) } else { v }.transposed());
        }
        all.push(parts.values);
    }
    let [width, height] = if full {
        [rows, columns]
    } else {
        [count, count]
    };
    let part = |axes: [usize; 2], matrices: &[Matrix]| match wanted {
        true => batch.made(&axes, matrices.iter().map(|one| one.elements.as_slice())),
        false => Ok(crate::kernels::portable::from_floats(batch.dtype, &[0], &[])?.into()),
    };
    Ok(vec![
        part([rows, width], &left)?,
        batch.made(&[count], all.iter().map(Vec::as_slice))?,
        part([height, columns], &right)?,
    ])
}

/// The parts of a matrix of at least as many rows as columns.
fn decomposed(matrix: &Matrix) -> Parts {
    let (rows, n) = (matrix.rows, matrix.columns);
    let mut a = matrix.clone();
    let mut v = Matrix::identity(n, n);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                let inner = |i: usize, j: usize| {
                    (0..rows).map(|row| a[(row, i)] * a[(row, j)]).sum::<f64>()
                };
                let (alpha, beta, gamma) = (inner(p, p), inner(q, q), inner(p, q));
                if gamma == 0.0 || gamma.abs() <= f64::EPSILON * (alpha * beta).sqrt() {
                    continue;
                }
                turned = true;
                let slope = (beta - alpha) / (2.0 * gamma);
                let tangent = slope.signum() / (slope.abs() + slope.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                for part in [&mut a, &mut v] {
                    for row in 0..part.rows {
                        let (x, y) = (part[(row, p)], part[(row, q)]);
                        (part[(row, p)], part[(row, q)]) =
                            (cosine * (x - tangent * y), cosine * (tangent * x + y));
                    }
                }
            }
        }
        if !turned {
            break;
        }
    }
    let norm = |column: usize| {
        (0..rows)
            .map(|row| a[(row, column)] * a[(row, column)])
            .sum::<f64>()
            .sqrt()
    };
    let sizes: Vec<f64> = (0..n).map(norm).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| sizes[*j].total_cmp(&sizes[*i]));
    let values: Vec<f64> = order.iter().map(|i| sizes[*i]).collect();
    // Columns that are lost in rounding beside the first one have no direction of their own.
    let least = values.first().map_or(0.0, |first| first * f64::EPSILON);
    let rank = values.iter().take_while(|value| **value > least).count();
    let (mut left, mut right) = (Matrix::zeros(rows, rank), Matrix::zeros(n, n));
    for (at, from) in order.iter().enumerate() {
        let sign = sign_of((0..n).map(|row| v[(row, *from)]));
        for row in 0..n {
            right[(row, at)] = sign * v[(row, *from)];
        }
        for row in (0..rows).filter(|_| at < rank) {
            left[(row, at)] = sign * a[(row, *from)] / values[at];
        }
    }
    Parts {
        left: completed(&left, n),
        values,
        right,
    }
}

/// Orthonormal columns, with more that are orthogonal to them, `count` in all.
fn completed(columns: &Matrix, count: usize) -> Matrix {
    let (packed, factors) = reflected(columns);
    let mut whole = orthogonal(&packed, &factors, count);
    for row in 0..columns.rows {
        for column in 0..columns.columns.min(count) {
            whole[(row, column)] = columns[(row, column)];
        }
    }
    whole
}
