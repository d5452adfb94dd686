//! Matrices of doubles, and batches of them in tensors.

use std::ops::{Index, IndexMut};

use fuseline_program::ScalarType;

use crate::kernels::portable::from_floats;
use crate::kernels::{KernelError, Walk, bad, broadcast_shape, tensor};
use crate::tensor::Tensor;
use crate::value::Value;

/// A dense matrix, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub elements: Vec<f64>,
}

impl Matrix {
    /// All zeros.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            elements: vec![0.0; rows * columns],
        }
    }

    /// Ones on the diagonal, of any shape.
    pub fn identity(rows: usize, columns: usize) -> Self {
        let mut matrix = Self::zeros(rows, columns);
        for i in 0..rows.min(columns) {
            matrix[(i, i)] = 1.0;
        }
        matrix
    }

    /// The length of the diagonal.
    pub fn diagonal(&self) -> usize {
        self.rows.min(self.columns)
    }

    pub fn transposed(&self) -> Self {
        let mut matrix = Self::zeros(self.columns, self.rows);
        for row in 0..self.rows {
            for column in 0..self.columns {
                matrix[(column, row)] = self[(row, column)];
            }
        }
        matrix
    }

    /// The elements where `keep(row, column)`, zeros elsewhere.
    pub fn masked(mut self, keep: impl Fn(usize, usize) -> bool) -> Self {
        for row in 0..self.rows {
            for column in 0..self.columns {
                if !keep(row, column) {
                    self[(row, column)] = 0.0;
                }
            }
        }
        self
    }

    /// The first rows and columns, as many as there are of each; zeros beyond.
    pub fn resized(&self, rows: usize, columns: usize) -> Self {
        let mut matrix = Self::zeros(rows, columns);
        for row in 0..rows.min(self.rows) {
            for column in 0..columns.min(self.columns) {
                matrix[(row, column)] = self[(row, column)];
            }
        }
        matrix
    }

    pub fn times(&self, other: &Self) -> Self {
        let mut product = Self::zeros(self.rows, other.columns);
        for row in 0..self.rows {
            for inner in 0..self.columns {
                let factor = self[(row, inner)];
                for column in 0..other.columns {
                    product[(row, column)] += factor * other[(inner, column)];
                }
            }
        }
        product
    }

    pub fn swap_rows(&mut self, a: usize, b: usize) {
        for column in 0..self.columns {
            self.elements
                .swap(a * self.columns + column, b * self.columns + column);
        }
    }

    pub fn is_finite(&self) -> bool {
        self.elements.iter().all(|x| x.is_finite())
    }
}

impl Index<(usize, usize)> for Matrix {
    type Output = f64;

    fn index(&self, (row, column): (usize, usize)) -> &f64 {
        &self.elements[row * self.columns + column]
    }
}

impl IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut f64 {
        &mut self.elements[row * self.columns + column]
    }
}

/// A matrix of each of two batches.
pub(super) type Pair<'a> = (&'a Matrix, &'a Matrix);

/// The matrices in the last two axes of a tensor of floats.
#[derive(Debug)]
pub(super) struct Batch {
    /// The axes before the last two.
    pub shape: Vec<usize>,
    pub rows: usize,
    pub columns: usize,
    pub dtype: ScalarType,
    pub matrices: Vec<Matrix>,
}

impl Batch {
    /// Argument `position`.
    pub fn of(arguments: &[Value], position: usize) -> Result<Self, KernelError> {
        let x = tensor(arguments, position)?;
        Self::shaped(x, &x.shape(), position)
    }

    /// Argument `position`, whose vectors are matrices of one column.
    pub fn of_vectors(arguments: &[Value], position: usize) -> Result<Self, KernelError> {
        let x = tensor(arguments, position)?;
        Self::shaped(x, &[x.shape().as_slice(), &[1]].concat(), position)
    }

    fn shaped(x: &Tensor, shape: &[usize], position: usize) -> Result<Self, KernelError> {
        let float = matches!(
            x.dtype(),
            ScalarType::F16 | ScalarType::BF16 | ScalarType::F32 | ScalarType::F64
        );
        if !float {
            let problem = format!("has elements of type {}, not floats", x.dtype());
            return Err(bad(position, problem));
        }
        let Some((outer, &[rows, columns])) = shape.split_last_chunk() else {
            return Err(bad(position, "has no two axes"));
        };
        let elements = x.to_floats()?;
        let count: usize = outer.iter().product();
        let size = rows * columns;
        let one = |at: usize| Matrix {
            rows,
            columns,
            elements: elements[at * size..][..size].to_vec(),
        };
        Ok(Self {
            shape: outer.to_vec(),
            rows,
            columns,
            dtype: x.dtype(),
            matrices: (0..count).map(one).collect(),
        })
    }

    /// As [`Batch::of`], but square ones only.
    pub fn square(arguments: &[Value], position: usize) -> Result<Self, KernelError> {
        let batch = Self::of(arguments, position)?;
        if batch.rows != batch.columns {
            let problem = format!("has matrices of {}x{}", batch.rows, batch.columns);
            return Err(bad(position, format!("{problem}, which are not square")));
        }
        Ok(batch)
    }

    /// Pairs of the matrices of two batches, whose shapes broadcast, and the shape of the pairs.
    pub fn pairs<'a>(
        &'a self,
        other: &'a Self,
        position: usize,
    ) -> Result<(Vec<usize>, Vec<Pair<'a>>), KernelError> {
        let Some(shape) = broadcast_shape(&self.shape, &other.shape) else {
            let problem = format!("has a batch {:?} that does not", other.shape);
            return Err(bad(position, format!("{problem} fit {:?}", self.shape)));
        };
        let (left, right) = (
            Walk::broadcast(&self.shape, &shape),
            Walk::broadcast(&other.shape, &shape),
        );
        let pairs = left
            .offsets()
            .zip(right.offsets())
            .map(|(a, b)| (&self.matrices[a], &other.matrices[b]))
            .collect();
        Ok((shape, pairs))
    }

    /// A tensor of this batch's elements and shape with other axes at its end, from the numbers of all matrices.
    pub fn made<'a>(
        &self,
        axes: &[usize],
        numbers: impl IntoIterator<Item = &'a [f64]>,
    ) -> Result<Value, KernelError> {
        made(self.dtype, &self.shape, axes, numbers)
    }

    /// A tensor of one integer of 32 bits for each matrix and each index of `axes`.
    pub fn integers(&self, axes: &[usize], numbers: &[i32]) -> Result<Value, KernelError> {
        let shape = [self.shape.as_slice(), axes].concat();
        Ok(Tensor::from_slice(&shape, numbers)?.into())
    }
}

/// A tensor of a batch's shape with other axes at its end.
pub(super) fn made<'a>(
    dtype: ScalarType,
    batch: &[usize],
    axes: &[usize],
    numbers: impl IntoIterator<Item = &'a [f64]>,
) -> Result<Value, KernelError> {
    let shape = [batch, axes].concat();
    let all: Vec<f64> = numbers.into_iter().flatten().copied().collect();
    Ok(from_floats(dtype, &shape, &all)?.into())
}

/// A truth value among the arguments; one that isn't given is false.
pub(super) fn flag(arguments: &[Value], position: usize) -> Result<bool, KernelError> {
    match arguments.get(position) {
        Some(Value::Bool(flag)) => Ok(*flag),
        None | Some(Value::None) => Ok(false),
        Some(other) => Err(bad(
            position,
            format!("is {}, not a truth value", other.kind()),
        )),
    }
}

/// Something about one matrix of a batch that stops an operator.
pub(super) fn failed(at: usize, problem: impl Into<String>) -> KernelError {
    KernelError::Matrix {
        at,
        problem: problem.into(),
    }
}
