//! Tensors of the reference evaluation: simple, slow, exact where a double can be.

use crate::attr::Scalar;
use crate::dtype::DType;
use crate::error::OpError;

/// The elements: floats as doubles that are exact values of the dtype, integers and bools as `i64` (bools 0 or 1, `u64` by its bits).
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Elements of a float dtype.
    Float(Vec<f64>),
    /// Elements of an integer dtype or bool.
    Int(Vec<i64>),
}

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

/// The most elements that a tensor of the reference evaluation may have: a bound on what a hostile graph can make it allocate.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// The number of elements of a shape, where it doesn't pass [`MAX_ELEMENTS`].
pub fn numel(shape: &[usize]) -> Result<usize, OpError> {
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul(*d))
        .filter(|n| *n <= MAX_ELEMENTS)
        .ok_or_else(|| {
            OpError::new(
                "tensor",
                format!("shape {shape:?} is too large to evaluate"),
            )
        })
}

impl Tensor {
    /// A float tensor of these numbers, rounded to `dtype`. `data` has as many as the shape.
    pub fn floats(dtype: DType, shape: Vec<usize>, data: Vec<f64>) -> Result<Tensor, OpError> {
        check_len(&shape, data.len())?;
        if !dtype.is_float() {
            return Err(OpError::new(
                "tensor",
                format!("{dtype} is not a float dtype"),
            ));
        }
        let data = data.into_iter().map(|x| dtype.round(x)).collect();
        Ok(Tensor {
            dtype,
            shape,
            data: Data::Float(data),
        })
    }

    /// An integer or bool tensor of these numbers, wrapped to `dtype`.
    pub fn ints(dtype: DType, shape: Vec<usize>, data: Vec<i64>) -> Result<Tensor, OpError> {
        check_len(&shape, data.len())?;
        if dtype.is_float() {
            return Err(OpError::new("tensor", format!("{dtype} is a float dtype")));
        }
        let data = data.into_iter().map(|x| dtype.wrap(x)).collect();
        Ok(Tensor {
            dtype,
            shape,
            data: Data::Int(data),
        })
    }

    /// A tensor whose element at flat row-major index i is `f(i)`, converted to `dtype`.
    pub fn from_fn(
        dtype: DType,
        shape: Vec<usize>,
        mut f: impl FnMut(usize) -> Scalar,
    ) -> Result<Tensor, OpError> {
        let n = numel(&shape)?;
        if dtype.is_float() {
            Tensor::floats(dtype, shape, (0..n).map(|i| f(i).as_f64()).collect())
        } else {
            let int = |s: Scalar| match s.cast(DType::I64) {
                Scalar::Int(i) => i,
                other => other.as_f64() as i64,
            };
            let data = (0..n)
                .map(|i| {
                    let s = f(i);
                    if dtype == DType::Bool {
                        i64::from(s.as_f64() != 0.0)
                    } else {
                        int(s)
                    }
                })
                .collect();
            Tensor::ints(dtype, shape, data)
        }
    }

    /// A tensor from the little-endian bytes of its row-major elements.
    pub fn from_bytes(dtype: DType, shape: Vec<usize>, bytes: &[u8]) -> Result<Tensor, OpError> {
        let n = numel(&shape)?;
        if n.checked_mul(dtype.size()) != Some(bytes.len()) {
            return Err(OpError::new(
                "tensor",
                format!(
                    "{} bytes for {dtype}{shape:?}, not {}",
                    bytes.len(),
                    n * dtype.size()
                ),
            ));
        }
        macro_rules! read {
            ($ty:ty, |$v:ident| $e:expr) => {
                bytes
                    .chunks_exact(size_of::<$ty>())
                    .map(|c| {
                        let mut b = [0u8; size_of::<$ty>()];
                        b.copy_from_slice(c);
                        let $v = <$ty>::from_le_bytes(b);
                        $e
                    })
                    .collect()
            };
        }
        let data = match dtype {
            DType::Bool | DType::U8 => Data::Int(read!(u8, |v| i64::from(v))),
            DType::I8 => Data::Int(read!(i8, |v| i64::from(v))),
            DType::U16 => Data::Int(read!(u16, |v| i64::from(v))),
            DType::I16 => Data::Int(read!(i16, |v| i64::from(v))),
            DType::U32 => Data::Int(read!(u32, |v| i64::from(v))),
            DType::I32 => Data::Int(read!(i32, |v| i64::from(v))),
            DType::U64 => Data::Int(read!(u64, |v| v as i64)),
            DType::I64 => Data::Int(read!(i64, |v| v)),
            DType::F16 => Data::Float(read!(u16, |v| half::f16::from_bits(v).to_f64())),
            DType::BF16 => Data::Float(read!(u16, |v| half::bf16::from_bits(v).to_f64())),
            DType::F32 => Data::Float(read!(f32, |v| f64::from(v))),
            DType::F64 => Data::Float(read!(f64, |v| v)),
        };
        Ok(Tensor { dtype, shape, data })
    }

    /// The little-endian bytes of the row-major elements.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * self.dtype.size());
        match &self.data {
            Data::Float(v) => {
                for &x in v {
                    match self.dtype {
                        DType::F16 => out.extend(half::f16::from_f64(x).to_le_bytes()),
                        DType::BF16 => out.extend(half::bf16::from_f64(x).to_le_bytes()),
                        DType::F32 => out.extend((x as f32).to_le_bytes()),
                        _ => out.extend(x.to_le_bytes()),
                    }
                }
            }
            Data::Int(v) => {
                for &x in v {
                    out.extend(&x.to_le_bytes()[..self.dtype.size()]);
                }
            }
        }
        out
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// True where there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The element at flat index `i`; `i` is less than [`Tensor::len`].
    pub fn get(&self, i: usize) -> Scalar {
        match &self.data {
            Data::Float(v) => Scalar::float(v[i]),
            Data::Int(v) if self.dtype == DType::Bool => Scalar::Bool(v[i] != 0),
            Data::Int(v) => Scalar::Int(v[i]),
        }
    }

    /// The elements as doubles.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::Float(v) => v.clone(),
            Data::Int(v) => v.iter().map(|&x| x as f64).collect(),
        }
    }

    /// The elements as integers: floats truncate.
    pub fn to_i64(&self) -> Vec<i64> {
        match &self.data {
            Data::Float(v) => v.iter().map(|&x| x as i64).collect(),
            Data::Int(v) => v.clone(),
        }
    }

    /// The elements at these flat indices, under another shape: what every movement and indexing op comes down to.
    pub fn pick(
        &self,
        shape: Vec<usize>,
        indices: impl Iterator<Item = usize>,
    ) -> Result<Tensor, OpError> {
        numel(&shape)?;
        let data = match &self.data {
            Data::Float(v) => Data::Float(indices.map(|i| v[i]).collect()),
            Data::Int(v) => Data::Int(indices.map(|i| v[i]).collect()),
        };
        let out = Tensor {
            dtype: self.dtype,
            shape,
            data,
        };
        check_len(&out.shape, out.len())?;
        Ok(out)
    }

    /// The same elements under another shape with as many.
    pub fn with_shape(&self, shape: Vec<usize>) -> Result<Tensor, OpError> {
        check_len(&shape, self.len())?;
        Ok(Tensor {
            shape,
            ..self.clone()
        })
    }
}

fn check_len(shape: &[usize], len: usize) -> Result<(), OpError> {
    let n = numel(shape)?;
    if n != len {
        return Err(OpError::new(
            "tensor",
            format!("{len} elements for shape {shape:?}"),
        ));
    }
    Ok(())
}
