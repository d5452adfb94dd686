//! The values of a method.

use super::ValueIdx;
use crate::dtype::ScalarType;

/// Anything that a call can take or return.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: an optional argument that is not given.
    None,
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A float.
    Double(f64),
    /// A string.
    String(String),
    /// A tensor.
    Tensor(TensorValue),
    /// Integers, each of them a value of its own.
    IntList(Vec<ValueIdx>),
    /// Floats.
    DoubleList(Vec<f64>),
    /// Truth values.
    BoolList(Vec<bool>),
    /// Tensors, each of them a value of its own.
    TensorList(Vec<ValueIdx>),
    /// Tensors that may be absent, those that are there being values of their own.
    OptionalTensorList(Vec<Option<ValueIdx>>),
}

/// The size of a dimension without an upper bound. A tensor that has one is not planned: its memory is the caller's affair.
pub const UNBOUNDED: u32 = i32::MAX as u32;

/// A tensor of a method: type, largest shape, and where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorValue {
    /// The element type.
    pub dtype: ScalarType,
    /// The dimensions, outermost first: the lengths, or their upper bounds if the shape is dynamic. In row-major order.
    pub sizes: Vec<u32>,
    /// Whether lengths may differ from call to call, up to `sizes`.
    pub dynamic: bool,
    /// Where the bytes lie.
    pub storage: Storage,
}

/// Where a tensor's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// Wherever the caller says.
    Caller,
    /// In one of the method's arenas.
    Planned {
        /// Number in [`super::Method::arenas`], from 1.
        arena: u32,
        /// First byte.
        offset: u64,
        /// Number in [`super::Program::constants`] of what the tensor begins with. Such a tensor is kept from call to call.
        initial: Option<u32>,
    },
    /// In the file: number in [`super::Program::constants`].
    Constant(u32),
}

impl TensorValue {
    /// Bytes at the upper bounds; none if the number has no room in 64 bits.
    #[must_use]
    pub fn max_bytes(&self) -> Option<u64> {
        self.sizes
            .iter()
            .try_fold(self.dtype.size(), |bytes, size| {
                bytes.checked_mul(u64::from(*size))
            })
    }

    /// Lowers the upper bounds of a dynamic shape, the largest first, until its bytes can be counted in 63 bits. ExecuTorch refuses
    /// a whole program for a tensor that has more, also where nobody sets its memory aside; what a length may really be, the
    /// delegates say that make or take it.
    pub fn lower_bounds(&mut self) {
        let countable =
            |bytes: Option<u64>| bytes.is_some_and(|bytes| i64::try_from(bytes).is_ok());
        while self.dynamic && !countable(self.max_bytes()) {
            match self.sizes.iter_mut().max() {
                Some(largest) => *largest /= 2,
                None => return,
            }
        }
    }
}

impl Value {
    /// The tensor, if it is one.
    #[must_use]
    pub fn as_tensor(&self) -> Option<&TensorValue> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}
