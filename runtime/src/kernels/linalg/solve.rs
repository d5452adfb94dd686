//! Systems of equations: general ones by LU, triangular ones by substitution.

use super::lu::{self, Factors};
use super::matrix::{Batch, Matrix, flag, made};
use crate::kernels::{KernelError, bad, tensor};
use crate::value::Value;

/// Which triangle of a matrix is meant, and whether its diagonal is ones whatever stands there.
#[derive(Clone, Copy)]
struct Triangle {
    upper: bool,
    unit: bool,
}

/// Overwrites `b` by the solution of `a`·x = b.
fn substitute(a: &Matrix, triangle: Triangle, b: &mut Matrix) {
    let n = a.rows;
    for step in 0..n {
        let row = if triangle.upper { n - 1 - step } else { step };
        let known = if triangle.upper { row + 1..n } else { 0..row };
        for column in 0..b.columns {
            let sum: f64 = known.clone().map(|j| a[(row, j)] * b[(j, column)]).sum();
            let rest = b[(row, column)] - sum;
            b[(row, column)] = if triangle.unit {
                rest
            } else {
                rest / a[(row, row)]
            };
        }
    }
}

/// The solution of A·x = b (`adjoint`: of Aᵀ·x = b) for the packed factors of A and the order of its rows.
fn solution(packed: &Matrix, order: &[usize], b: &Matrix, adjoint: bool) -> Matrix {
    let lower = Triangle {
        upper: false,
        unit: true,
    };
    let upper = Triangle {
        upper: true,
        unit: false,
    };
    let mut x = b.clone();
    if !adjoint {
        for (at, from) in order.iter().enumerate() {
            for column in 0..b.columns {
                x[(at, column)] = b[(*from, column)];
            }
        }
        substitute(packed, lower, &mut x);
        substitute(packed, upper, &mut x);
        return x;
    }
    let turned = packed.transposed();
    substitute(
        &turned,
        Triangle {
            upper: false,
            unit: false,
        },
        &mut x,
    );
    substitute(
        &turned,
        Triangle {
            upper: true,
            unit: true,
        },
        &mut x,
    );
    let mut back = Matrix::zeros(b.rows, b.columns);
    for (at, to) in order.iter().enumerate() {
        for column in 0..b.columns {
            back[(*to, column)] = x[(at, column)];
        }
    }
    back
}

/// Checks that there is a right side, or a left one, for each row of the matrices.
fn fits(a: &Batch, b: &Batch, left: bool, position: usize) -> Result<(), KernelError> {
    let length = if left { b.rows } else { b.columns };
    if a.rows != a.columns || length != a.rows {
        let shapes = format!("{}x{} and {}x{}", a.rows, a.columns, b.rows, b.columns);
        return Err(bad(
            position,
            format!("does not fit the system: matrices of {shapes}"),
        ));
    }
    Ok(())
}

/// Solves each pair of a system and what it is to give, from either side.
fn each(
    (a, b): (&Batch, &Batch),
    left: bool,
    position: usize,
    vectors: bool,
    solve: impl Fn(&Matrix, &Matrix) -> Matrix,
) -> Result<Value, KernelError> {
    let (shape, pairs) = a.pairs(b, position)?;
    let all: Vec<Matrix> = pairs
        .into_iter()
        .map(|(a, b)| match left {
            true => solve(a, b),
            false => solve(a, &b.transposed()).transposed(),
        })
        .collect();
    let axes = if vectors {
        vec![b.rows]
    } else {
        vec![b.rows, b.columns]
    };
    made(
        b.dtype,
        &shape,
        &axes,
        all.iter().map(|one| one.elements.as_slice()),
    )
}

/// `_linalg_solve_ex(A, B, left, check_errors)`: X with A·X = B, or X·A = B; then what `linalg_lu_factor_ex` gives. B is a vector for each matrix where its shape is the batch's and one axis.
pub(super) fn system(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let a = Batch::square(arguments, 0)?;
    let left = !matches!(arguments.get(2), Some(Value::Bool(false)));
    let given = tensor(arguments, 1)?.shape();
    let vectors = given.len() == 1 || given == [a.shape.as_slice(), &[a.rows]].concat();
    let b = match vectors {
        true => Batch::of_vectors(arguments, 1)?,
        false => Batch::of(arguments, 1)?,
    };
    fits(&a, &b, left, 1)?;
    let all: Vec<Factors> = a
        .matrices
        .iter()
        .map(|one| Factors::of(one, true))
        .collect();
    if flag(arguments, 3)? {
        lu::regular(&all)?;
    }
    let factor = |matrix: &Matrix, b: &Matrix| {
        // From the right it is the transposed system.
        let factors = Factors::of(matrix, true);
        let order = lu::order(&factors.pivots, matrix.rows);
        solution(&factors.packed, &order, b, !left)
    };
    let solved = each((&a, &b), left, 1, vectors, factor)?;
    let mut results = vec![solved];
    results.extend(lu::factor(&[arguments[0].clone(), Value::Bool(true)])?);
    Ok(results)
}

/// `linalg_inv_ex(A, check_errors)`: the inverse, and for each matrix the number of the first pivot that is 0, or 0.
pub(super) fn inverse(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::square(arguments, 0)?;
    let n = batch.rows;
    let all: Vec<Factors> = batch
        .matrices
        .iter()
        .map(|one| Factors::of(one, true))
        .collect();
    if flag(arguments, 1)? {
        lu::regular(&all)?;
    }
    let one = |factors: &Factors| {
        let order = lu::order(&factors.pivots, n);
        solution(&factors.packed, &order, &Matrix::identity(n, n), false)
    };
    let inverses: Vec<Matrix> = all.iter().map(one).collect();
    let elements = inverses.iter().map(|one| one.elements.as_slice());
    Ok(vec![
        batch.made(&[n, n], elements)?,
        lu::codes(&batch, &all)?,
    ])
}

/// `linalg_lu_solve(LU, pivots, B, left, adjoint)`.
pub(super) fn by_factors(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let (packed, b) = (Batch::square(arguments, 0)?, Batch::of(arguments, 2)?);
    let left = !matches!(arguments.get(3), Some(Value::Bool(false)));
    let adjoint = flag(arguments, 4)?;
    fits(&packed, &b, left, 2)?;
    let orders = lu::orders(arguments, 1, &packed)?;
    let (shape, pairs) = packed.pairs(&b, 2)?;
    let places: Vec<usize> = crate::kernels::Walk::broadcast(&packed.shape, &shape)
        .offsets()
        .collect();
    let all: Vec<Matrix> = pairs
        .into_iter()
        .zip(places)
        .map(|((packed, b), at)| match left {
            true => solution(packed, &orders[at], b, adjoint),
            false => solution(packed, &orders[at], &b.transposed(), !adjoint).transposed(),
        })
        .collect();
    let axes = [b.rows, b.columns];
    let elements = all.iter().map(|one| one.elements.as_slice());
    Ok(vec![made(b.dtype, &shape, &axes, elements)?])
}

/// `linalg_solve_triangular(A, B, upper, left, unitriangular)`: reads only that triangle of A. A zero on the diagonal gives infinities.
pub(super) fn triangular(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let (a, b) = (Batch::square(arguments, 0)?, Batch::of(arguments, 1)?);
    let upper = flag(arguments, 2)?;
    let left = !matches!(arguments.get(3), Some(Value::Bool(false)));
    let unit = flag(arguments, 4)?;
    fits(&a, &b, left, 1)?;
    let solve = |a: &Matrix, b: &Matrix| {
        let mut x = b.clone();
        match left {
            true => substitute(a, Triangle { upper, unit }, &mut x),
            false => substitute(
                &a.transposed(),
                Triangle {
                    upper: !upper,
                    unit,
                },
                &mut x,
            ),
        }
        x
    };
    Ok(vec![each((&a, &b), left, 1, false, solve)?])
}
