//! Tensors as a caller sees them.

use std::fmt;
use std::sync::Arc;

use fuseline_program::ScalarType;
use half::{bf16, f16};

use crate::call::Call;
use crate::fault::Fault;
use crate::mlx::{Array, MlxError};

/// A tensor on the device. Cloning copies a reference.
///
/// What a [`crate::Session`] returns may still be computed; [`Tensor::to_bytes`] and [`Tensor::to_vec`] wait for it. A tensor can
/// be passed on as an input without being read. It can be sent to and read from any thread.
#[derive(Clone)]
pub struct Tensor {
    array: Arc<Array>,
    /// The call that makes it, which must have worked out before the elements mean anything.
    call: Option<Arc<Call>>,
}

/// Why a tensor can't be made or read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// There are not as many bytes as type and shape ask for.
    #[error("{bytes} bytes, but {dtype} {shape:?} has {wanted}")]
    Size {
        /// The element type.
        dtype: ScalarType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes that are there.
        bytes: usize,
        /// Bytes that there should be.
        wanted: usize,
    },
    /// A shape beyond what MLX can count.
    #[error("the shape {shape:?} is too large")]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// The elements are of another type than the one that is asked for.
    #[error("the elements are {is}, not {wanted}")]
    DType {
        /// What they are.
        is: ScalarType,
        /// What is asked for.
        wanted: ScalarType,
    },
    /// An instruction of the call that made the tensor, or of one that this call has built on, failed on the device: an index was out of range.
    #[error("chain {chain}, instruction {position}: {text}: {fault}")]
    Instruction {
        /// The chain.
        chain: u32,
        /// Its place in the chain, from 0.
        position: usize,
        /// The instruction.
        text: String,
        /// Why.
        fault: Box<Fault>,
    },
    /// MLX could not do it: no memory, or computing the tensor failed.
    #[error(transparent)]
    Mlx(#[from] MlxError),
}

impl Tensor {
    /// Copies elements, in row-major order and little-endian, into a new tensor.
    ///
    /// # Errors
    /// Another number of bytes than `dtype` and `shape` say, a type that MLX lacks, no memory.
    pub fn from_bytes(
        dtype: ScalarType,
        shape: &[usize],
        bytes: &[u8],
    ) -> Result<Self, TensorError> {
        let too_large = || TensorError::TooLarge {
            shape: shape.to_vec(),
        };
        let lengths: Vec<i32> = shape
            .iter()
            .map(|length| i32::try_from(*length))
            .collect::<Result<_, _>>()
            .map_err(|_| too_large())?;
        let element = usize::try_from(dtype.size()).map_err(|_| too_large())?;
        let wanted = shape
            .iter()
            .try_fold(element, |size, length| size.checked_mul(*length))
            .ok_or_else(too_large)?;
        if bytes.len() != wanted {
            return Err(TensorError::Size {
                dtype,
                shape: shape.to_vec(),
                bytes: bytes.len(),
                wanted,
            });
        }
        Ok(Array::from_bytes(bytes, &lengths, dtype)?.into())
    }

    /// Copies elements in row-major order into a new tensor.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn from_slice<T: Element>(shape: &[usize], elements: &[T]) -> Result<Self, TensorError> {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        for element in elements {
            element.write(&mut bytes);
        }
        Self::from_bytes(T::DTYPE, shape, &bytes)
    }

    /// A tensor without dimensions.
    ///
    /// # Errors
    /// As [`Tensor::from_bytes`].
    pub fn from_scalar<T: Element>(element: T) -> Result<Self, TensorError> {
        Self::from_slice(&[], &[element])
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> ScalarType {
        self.array.dtype()
    }

    /// The lengths of the dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.array
            .shape()
            .iter()
            .map(|length| length.unsigned_abs() as usize)
            .collect()
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the elements and copies them out, in row-major order and little-endian.
    ///
    /// # Errors
    /// Computing them failed, or they were computed with an index that is out of range.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TensorError> {
        if let Some(call) = &self.call {
            call.settle()?;
        }
        Ok(self.array.read()?)
    }

    /// Waits for the elements and copies them out in row-major order.
    ///
    /// # Errors
    /// They are of another type, or computing them failed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if self.dtype() != T::DTYPE {
            return Err(TensorError::DType {
                is: self.dtype(),
                wanted: T::DTYPE,
            });
        }
        let bytes = self.to_bytes()?;
        Ok(bytes.chunks_exact(T::SIZE).map(T::read).collect())
    }

    /// Waits for the elements of any integer type, or truth values as 0 and 1, and copies them out. Beyond 63 bits they are cut off there.
    ///
    /// # Errors
    /// They are of another type, or computing them failed.
    pub fn to_ints(&self) -> Result<Vec<i64>, TensorError> {
        use ScalarType as T;
        fn all<N: Copy + Element>(
            of: &Tensor,
            one: impl Fn(N) -> i64,
        ) -> Result<Vec<i64>, TensorError> {
            Ok(of.to_vec::<N>()?.into_iter().map(one).collect())
        }
        match self.dtype() {
            T::Bool => all(self, |x: bool| i64::from(x)),
            T::U8 => all(self, |x: u8| i64::from(x)),
            T::I8 => all(self, |x: i8| i64::from(x)),
            T::U16 => all(self, |x: u16| i64::from(x)),
            T::I16 => all(self, |x: i16| i64::from(x)),
            T::U32 => all(self, |x: u32| i64::from(x)),
            T::I32 => all(self, |x: i32| i64::from(x)),
            T::U64 => all(self, |x: u64| i64::try_from(x).unwrap_or(i64::MAX)),
            _ => self.to_vec::<i64>(),
        }
    }

    /// Waits for the elements of any real type and copies them out, widened.
    ///
    /// # Errors
    /// They are of another type, or computing them failed.
    pub fn to_floats(&self) -> Result<Vec<f64>, TensorError> {
        use ScalarType as T;
        Ok(match self.dtype() {
            T::F16 => self
                .to_vec::<half::f16>()?
                .iter()
                .map(|x| x.to_f64())
                .collect(),
            T::BF16 => self
                .to_vec::<half::bf16>()?
                .iter()
                .map(|x| x.to_f64())
                .collect(),
            T::F32 => self
                .to_vec::<f32>()?
                .iter()
                .map(|x| f64::from(*x))
                .collect(),
            T::F64 | T::C64 | T::F8E5M2 | T::F8E4M3 => self.to_vec::<f64>()?,
            _ => self.to_ints()?.iter().map(|n| *n as f64).collect(),
        })
    }

    pub(crate) fn array(&self) -> &Array {
        &self.array
    }

    /// The call that makes it, which must have worked out before the elements mean anything.
    pub(crate) fn call(&self) -> Option<&Arc<Call>> {
        self.call.as_ref()
    }

    /// The same tensor as a result of a call.
    pub(crate) fn of_call(self, call: Arc<Call>) -> Self {
        Self {
            call: Some(call),
            ..self
        }
    }
}

impl From<Array> for Tensor {
    fn from(array: Array) -> Self {
        Self {
            array: Arc::new(array),
            call: None,
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype(), self.shape())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that the elements of a tensor can have.
pub trait Element: Copy + sealed::Sealed {
    /// The type's name among tensors.
    const DTYPE: ScalarType;
    #[doc(hidden)]
    const SIZE: usize;
    #[doc(hidden)]
    fn write(self, bytes: &mut Vec<u8>);
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($ty:ty = $dtype:ident),+ $(,)?) => {$(
        impl sealed::Sealed for $ty {}

        impl Element for $ty {
            const DTYPE: ScalarType = ScalarType::$dtype;
            const SIZE: usize = size_of::<$ty>();

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$ty>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    )+};
}

elements! {
    u8 = U8, i8 = I8, u16 = U16, i16 = I16, u32 = U32, i32 = I32, u64 = U64, i64 = I64,
    f16 = F16, bf16 = BF16, f32 = F32, f64 = F64,
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DTYPE: ScalarType = ScalarType::Bool;
    const SIZE: usize = 1;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self));
    }

    fn read(bytes: &[u8]) -> Self {
        bytes != [0]
    }
}
