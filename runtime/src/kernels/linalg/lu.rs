//! The LU factorisation, and determinants, which are products of its diagonal.

use super::matrix::{Batch, Matrix, failed, flag};
use crate::kernels::{KernelError, bad, tensor};
use crate::value::Value;

/// L below the diagonal and U on and above it, of a matrix whose rows were exchanged.
#[derive(Debug)]
pub(super) struct Factors {
    pub packed: Matrix,
    /// For each step the row, from 0, that the row of that number was exchanged with.
    pub pivots: Vec<usize>,
    /// The number, from 1, of the first pivot that is 0; 0 if none is.
    pub singular: usize,
}

impl Factors {
    /// Factors a matrix of any shape. Without `pivoting` rows stay where they are.
    pub fn of(matrix: &Matrix, pivoting: bool) -> Self {
        let mut packed = matrix.clone();
        let (mut pivots, mut singular) = (Vec::new(), 0);
        for k in 0..matrix.diagonal() {
            let mut best = k;
            for row in k + 1..matrix.rows {
                if pivoting && packed[(row, k)].abs() > packed[(best, k)].abs() {
                    best = row;
                }
            }
            pivots.push(best);
            if packed[(best, k)] == 0.0 {
                singular = if singular == 0 { k + 1 } else { singular };
                continue;
            }
            packed.swap_rows(k, best);
            for row in k + 1..matrix.rows {
                let factor = packed[(row, k)] / packed[(k, k)];
                packed[(row, k)] = factor;
                for column in k + 1..matrix.columns {
                    packed[(row, column)] -= factor * packed[(k, column)];
                }
            }
        }
        Self {
            packed,
            pivots,
            singular,
        }
    }

    /// −1 where an odd number of rows were exchanged, else 1.
    fn parity(&self) -> f64 {
        let exchanged = self.pivots.iter().enumerate().filter(|(at, to)| at != *to);
        if exchanged.count() % 2 == 1 {
            -1.0
        } else {
            1.0
        }
    }

    fn diagonal(&self) -> impl Iterator<Item = f64> {
        (0..self.packed.diagonal()).map(|i| self.packed[(i, i)])
    }
}

/// Packed factors, and the order of rows that exchanges gave.
type Exchanged = (Matrix, Vec<usize>);

/// The order of rows that exchanges give: row i of the exchanged matrix is row `order[i]` of the other.
pub(super) fn order(pivots: &[usize], rows: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    for (at, to) in pivots.iter().enumerate() {
        order.swap(at, *to);
    }
    order
}

fn factored(batch: &Batch, pivoting: bool) -> Vec<Factors> {
    let one = |matrix| Factors::of(matrix, pivoting);
    batch.matrices.iter().map(one).collect()
}

/// The packed factors and the pivots, counted from 1.
fn packed(batch: &Batch, all: &[Factors]) -> Result<[Value; 2], KernelError> {
    let pivots: Vec<i32> = all
        .iter()
        .flat_map(|one| &one.pivots)
        .map(|row| i32::try_from(row + 1).unwrap_or(i32::MAX))
        .collect();
    let elements = all.iter().map(|one| one.packed.elements.as_slice());
    Ok([
        batch.made(&[batch.rows, batch.columns], elements)?,
        batch.integers(&[batch.rows.min(batch.columns)], &pivots)?,
    ])
}

/// `linalg_lu_factor_ex(A, pivot, check_errors)`: the packed factors, the pivots, and for each matrix the number of the first pivot that is 0, or 0.
pub(super) fn factor(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let (pivoting, check) = (flag(arguments, 1)?, flag(arguments, 2)?);
    let all = factored(&batch, pivoting);
    if check {
        regular(&all)?;
    }
    let [packed, pivots] = packed(&batch, &all)?;
    Ok(vec![packed, pivots, codes(&batch, &all)?])
}

/// An error for the first matrix that has no inverse.
pub(super) fn regular<'a>(all: impl IntoIterator<Item = &'a Factors>) -> Result<(), KernelError> {
    let mut all = all.into_iter().enumerate();
    match all.find(|(_, one)| one.singular != 0) {
        None => Ok(()),
        Some((at, one)) => {
            let pivot = one.singular;
            Err(failed(
                at,
                format!("is singular: pivot {pivot} of its factorisation is zero"),
            ))
        }
    }
}

/// For each matrix the number of the first pivot that is 0, or 0.
pub(super) fn codes(batch: &Batch, all: &[Factors]) -> Result<Value, KernelError> {
    let codes = all
        .iter()
        .map(|one| i32::try_from(one.singular).unwrap_or(i32::MAX));
    batch.integers(&[], &codes.collect::<Vec<_>>())
}

/// `linalg_lu(A, pivot)`: P, L and U with A = P·L·U. P has no elements where rows stay.
pub(super) fn parts(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let pivoting = flag(arguments, 1)?;
    let all: Vec<_> = factored(&batch, pivoting)
        .into_iter()
        .map(|one| (one.packed, order(&one.pivots, batch.rows)))
        .collect();
    unpacked(&batch, &all, true, pivoting)
}

/// `lu_unpack(LU, pivots, unpack_data, unpack_pivots)`: as [`parts`]; what isn't wanted has no elements.
pub(super) fn unpack(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::of(arguments, 0)?;
    let (data, exchanges) = (flag(arguments, 2)?, flag(arguments, 3)?);
    let orders = orders(arguments, 1, &batch)?;
    let all: Vec<_> = batch.matrices.iter().cloned().zip(orders).collect();
    unpacked(&batch, &all, data, exchanges)
}

/// The orders of rows that a batch of pivots, counted from 1, gives the matrices of another argument.
pub(super) fn orders(
    arguments: &[Value],
    position: usize,
    batch: &Batch,
) -> Result<Vec<Vec<usize>>, KernelError> {
    let pivots = tensor(arguments, position)?;
    let steps = batch.rows.min(batch.columns);
    if pivots.shape() != [batch.shape.as_slice(), &[steps]].concat() {
        return Err(bad(position, "does not have one pivot for each step"));
    }
    let rows: Option<Vec<usize>> = pivots
        .to_ints()?
        .into_iter()
        .map(|row| {
            usize::try_from(row)
                .ok()?
                .checked_sub(1)
                .filter(|row| *row < batch.rows)
        })
        .collect();
    let Some(rows) = rows else {
        return Err(bad(position, "has a pivot that is no row of the matrix"));
    };
    let one = |at: usize| order(&rows[at * steps..][..steps], batch.rows);
    Ok((0..batch.matrices.len()).map(one).collect())
}

fn unpacked(
    batch: &Batch,
    all: &[Exchanged],
    data: bool,
    exchanges: bool,
) -> Result<Vec<Value>, KernelError> {
    let (rows, columns) = (batch.rows, batch.columns);
    let steps = rows.min(columns);
    let nothing = || crate::kernels::portable::from_floats(batch.dtype, &[0], &[]);
    let place = |(_, order): &Exchanged| {
        let mut matrix = Matrix::zeros(rows, rows);
        for (at, from) in order.iter().enumerate() {
            matrix[(*from, at)] = 1.0;
        }
        matrix
    };
    let lower = |(packed, _): &Exchanged| {
        let mut lower = packed
            .resized(rows, steps)
            .masked(|row, column| row > column);
        for i in 0..steps {
            lower[(i, i)] = 1.0;
        }
        lower
    };
    let upper = |(packed, _): &Exchanged| {
        packed
            .resized(steps, columns)
            .masked(|row, column| row <= column)
    };
    let whole = |axes: [usize; 2], part: &dyn Fn(&Exchanged) -> Matrix| {
        let parts: Vec<Matrix> = all.iter().map(part).collect();
        batch.made(&axes, parts.iter().map(|one| one.elements.as_slice()))
    };
    Ok(vec![
        if exchanges {
            whole([rows, rows], &place)?
        } else {
            nothing()?.into()
        },
        if data {
            whole([rows, steps], &lower)?
        } else {
            nothing()?.into()
        },
        if data {
            whole([steps, columns], &upper)?
        } else {
            nothing()?.into()
        },
    ])
}

/// `_linalg_det(A)`: the determinants, the packed factors and the pivots.
pub(super) fn determinant(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::square(arguments, 0)?;
    let all = factored(&batch, true);
    let products = all
        .iter()
        .map(|one| one.parity() * one.diagonal().product::<f64>());
    let products: Vec<f64> = products.collect();
    let [packed, pivots] = packed(&batch, &all)?;
    Ok(vec![
        batch.made(&[], [products.as_slice()])?,
        packed,
        pivots,
    ])
}

/// `_linalg_slogdet(A)`: the signs of the determinants, the logarithms of their sizes, the packed factors and the pivots.
pub(super) fn log_determinant(arguments: &[Value]) -> Result<Vec<Value>, KernelError> {
    let batch = Batch::square(arguments, 0)?;
    let all = factored(&batch, true);
    let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
    let signs = all
        .iter()
        .map(|one| one.parity() * one.diagonal().map(sign).product::<f64>());
    let signs: Vec<f64> = signs.collect();
    let sizes = all
        .iter()
        .map(|one| one.diagonal().map(|x| x.abs().ln()).sum::<f64>());
    let sizes: Vec<f64> = sizes.collect();
    let [packed, pivots] = packed(&batch, &all)?;
    Ok(vec![
        batch.made(&[], [signs.as_slice()])?,
        batch.made(&[], [sizes.as_slice()])?,
        packed,
        pivots,
    ])
}
