//! The QR factorisation by Householder's reflections, with LAPACK's signs.

use super::matrix::{Batch, Matrix};
use crate::kernels::{KernelError, bad, tensor};
use crate::value::Value;

/// R on and above the diagonal, the reflections' vectors below it, whose first elements are 1; and their factors.
pub(super) fn reflected(matrix: &Matrix) -> (Matrix, Vec<f64>) {
    let mut packed = matrix.clone();
    let mut factors = Vec::new();
    for k in 0..matrix.diagonal() {
        let below: f64 = (k + 1..matrix.rows)
            .map(|row| packed[(row, k)] * packed[(row, k)])
            .sum();
        if below == 0.0 {
            // Nothing to reflect: the diagonal keeps its sign.
            factors.push(0.0);
            continue;
        }
        let first = packed[(k, k)];
        let diagonal = -(first * first + below).sqrt().copysign(first);
        let factor = (diagonal - first) / diagonal;
        factors.push(factor);
        for row in k + 1..matrix.rows {
            packed[(row, k)] /= first - diagonal;
        }
        packed[(k, k)] = diagonal;
        for column in k + 1..matrix.columns {
            let inner: f64 = (k + 1..matrix.rows)
                .map(|row| packed[(row, k)] * packed[(row, column)])
                .sum();
            let sum = factor * (packed[(k, column)] + inner);
            packed[(k, column)] -= sum;
            for row in k + 1..matrix.rows {
                let vector = packed[(row, k)];
                packed[(row, column)] -= sum * vector;
            }
        }
    }
    (packed, factors)
}

/// The first `columns` columns of the product of the reflections.
pub(super) fn orthogonal(packed: &Matrix, factors: &[f64], columns: usize) -> Matrix {
    let rows = packed.rows;
    let mut q = Matrix::identity(rows, columns);
    for (k, factor) in factors.iter().enumerate().rev() {
        for column in 0..columns {
            let inner: f64 = (k + 1..rows)
                .map(|row| packed[(row, k)] * q[(row, column)])
                .sum();
            let sum = factor * (q[(k, column)] + inner);
            q[(k, column)] -= sum;
            for row in k + 1..rows {
                q[(row, column)] -= sum * packed[(row, k)];
            }
        }
    }
    q
}

/// `linalg_qr(A, mode)`: Q and R; with mode `complete` a square Q, with mode `r` none.
pub(super) fn factor(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let (rows, columns) = (batch.rows, batch.columns);
    let width = match arguments.get(1) {
        Some(Value::String(mode)) if mode == "complete" => rows,
        Some(Value::String(mode)) if mode == "reduced" || mode == "r" => rows.min(columns),
        _ => return Err(bad(1, "is not one of reduced, complete and r")),
    };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for matrix in &batch.matrices {
        let (packed, factors) = reflected(matrix);
        left.push(orthogonal(&packed, &factors, width));
        right.push(
            packed
                .resized(width, columns)
                .masked(|row, column| row <= column),
        );
    }
    let q = match arguments.get(1) {
        Some(Value::String(mode)) if mode == "r" => {
            crate::kernels::portable::from_floats(batch.dtype, &[0], &[])?.into()
        }
        _ => batch.made(
            &[rows, width],
            left.iter().map(|one| one.elements.as_slice()),
        )?,
    };
    let r = batch.made(
        &[width, columns],
        right.iter().map(|one| one.elements.as_slice()),
    )?;
    Ok(vec![q, r])
}

/// `geqrf(self)`: what [`reflected`] gives.
pub(super) fn reflections(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let all: Vec<_> = batch.matrices.iter().map(reflected).collect();
    let steps = batch.rows.min(batch.columns);
    let axes = [batch.rows, batch.columns];
    Ok(vec![
        batch.made(
            &axes,
            all.iter().map(|(packed, _)| packed.elements.as_slice()),
        )?,
        batch.made(&[steps], all.iter().map(|(_, factors)| factors.as_slice()))?,
    ])
}

/// `linalg_householder_product(input, tau)`: as many columns of the product of reflections as `input` has.
pub(super) fn product(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let tau = tensor(arguments, 1)?;
    let shape = tau.shape();
    let count = match shape.split_last() {
        Some((count, outer)) if outer == batch.shape && *count <= batch.columns => *count,
        _ => return Err(bad(1, "does not fit the vectors")),
    };
    if batch.columns > batch.rows {
        return Err(bad(0, "has more columns than rows"));
    }
    let factors = tau.to_floats()?;
    let one = |(at, matrix): (usize, &Matrix)| {
        orthogonal(matrix, &factors[at * count..][..count], batch.columns)
    };
    let all: Vec<Matrix> = batch.matrices.iter().enumerate().map(one).collect();
    let axes = [batch.rows, batch.columns];
    Ok(vec![batch.made(
        &axes,
        all.iter().map(|one| one.elements.as_slice()),
    )?])
}
