//! Types of values: tensors with symbolic shapes, integers computed from shapes, tuples.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use std::fmt;

/// The sizes of a tensor, outermost axis first; empty for a 0-d tensor.
pub type Shape = Vec<Dim>;

/// A dtype and a shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Shape,
}

impl TensorType {
    /// A tensor type.
    pub fn new(dtype: DType, shape: Shape) -> TensorType {
        TensorType { dtype, shape }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> Dim {
        self.shape.iter().fold(Dim::from(1i64), |n, d| &n * d)
    }

    /// The sizes as numbers, where all are known and none is negative.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.shape
            .iter()
            .map(|d| d.as_const().and_then(|n| usize::try_from(n).ok()))
            .collect()
    }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// A tensor.
    Tensor(TensorType),
    /// An integer known as an expression over the graph's symbols. The expression is the value.
    Int(Dim),
    /// The results of an op that has several; read with `get`.
    Tuple(Vec<Type>),
}

impl Type {
    /// A tensor type.
    pub fn tensor(dtype: DType, shape: Shape) -> Type {
        Type::Tensor(TensorType { dtype, shape })
    }

    /// The tensor type, where it is one.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The type with each symbol for which `f` gives a dim replaced by it.
    pub fn substitute(&self, f: &dyn Fn(&Symbol) -> Option<Dim>) -> Type {
        match self {
            Type::Tensor(t) => {
                Type::tensor(t.dtype, t.shape.iter().map(|d| d.substitute(f)).collect())
            }
            Type::Int(d) => Type::Int(d.substitute(f)),
            Type::Tuple(ts) => Type::Tuple(ts.iter().map(|t| t.substitute(f)).collect()),
        }
    }

    /// Calls `f` with each symbol that occurs in a shape or an integer.
    pub fn visit_symbols(&self, f: &mut dyn FnMut(&Symbol)) {
        match self {
            Type::Tensor(t) => t.shape.iter().for_each(|d| d.visit_symbols(f)),
            Type::Int(d) => d.visit_symbols(f),
            Type::Tuple(ts) => ts.iter().for_each(|t| t.visit_symbols(f)),
        }
    }
}

impl From<TensorType> for Type {
    fn from(t: TensorType) -> Type {
        Type::Tensor(t)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Int(d) => write!(f, "int({d})"),
            Type::Tuple(ts) => {
                f.write_str("(")?;
                for (i, t) in ts.iter().enumerate() {
                    write!(f, "{}{t}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
        }
    }
}
