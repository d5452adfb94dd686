//! PyTorch's type promotion, once for all operators.
//!
//! Operands fall into three ranks that are promoted among themselves first: tensors with axes, 0-d tensors, Python numbers. A lower rank
//! changes the result only if its *category* (bool < integer < float) is higher than that of the ranks above it.

use fuseline_ir::DType;

/// What a floating-point Python number, or an integer in a floating-point function, becomes.
pub(super) const DEFAULT_FLOAT: DType = DType::F32;

/// An operand as far as promotion looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A tensor with at least one axis.
    Tensor(DType),
    /// A 0-d tensor.
    ZeroDim(DType),
    /// A Python number, by the dtype that stands for its category.
    Number(DType),
}

/// The dtype that the operands are converted to; `None` without operands, or where PyTorch refuses the combination.
pub(super) fn result_type(operands: impl IntoIterator<Item = Operand>) -> Option<DType> {
    let (mut tensor, mut zero_dim, mut number) = (None, None, None);
    for operand in operands {
        let (rank, dtype) = match operand {
            Operand::Tensor(dtype) => (&mut tensor, dtype),
            Operand::ZeroDim(dtype) => (&mut zero_dim, dtype),
            Operand::Number(dtype) => (&mut number, dtype),
        };
        *rank = match *rank {
            None => Some(dtype),
            Some(other) => Some(promote(other, dtype)?),
        };
    }
    join(tensor, join(zero_dim, number)?)?
}

/// Joins two ranks, either of which can be empty. `None` is a refusal.
fn join(high: Option<DType>, low: Option<DType>) -> Option<Option<DType>> {
    Some(match (high, low) {
        (None, low) => low,
        (high, None) => high,
        (Some(high), Some(_)) if high.is_float() => Some(high),
        (Some(high), Some(low)) if high == DType::Bool || low.is_float() => {
            Some(promote(high, low)?)
        }
        (high, Some(_)) => high,
    })
}

/// The smallest dtype that both convert to, by PyTorch's table; `None` where it has none (wide unsigned with signed integers).
pub(super) fn promote(a: DType, b: DType) -> Option<DType> {
    use DType::{BF16, Bool, F16, F32, F64, I8, I16, U8};
    if a == b {
        return Some(a);
    }
    Some(match (a, b) {
        (Bool, other) | (other, Bool) => other,
        (F64, _) | (_, F64) => F64,
        (F32, _) | (_, F32) | (F16, BF16) | (BF16, F16) => F32,
        (float, other) | (other, float) if float.is_float() && other.is_int() => float,
        (I8, U8) | (U8, I8) => I16,
        (U8, other) | (other, U8) => other,
        (a, b) if signed(a) && signed(b) => {
            if a.size() >= b.size() {
                a
            } else {
                b
            }
        }
        _ => return None,
    })
}

fn signed(dtype: DType) -> bool {
    matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

/// The dtype in which a floating-point function of `dtype` is computed and returned.
pub(super) fn to_float(dtype: DType) -> DType {
    if dtype.is_float() {
        dtype
    } else {
        DEFAULT_FLOAT
    }
}

/// The dtype in which PyTorch computes inside one operator: halves are widened and rounded once at the end.
pub(super) fn compute_type(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::DType::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16};
    use super::Operand::{Number, Tensor, ZeroDim};
    use super::*;

    #[test]
    fn ranks_follow_pytorch() {
        let cases: [(&[Operand], Option<DType>); 14] = [
            (&[], None),
            (&[Tensor(BF16), Number(F32)], Some(BF16)),
            (&[Tensor(BF16), ZeroDim(F32)], Some(BF16)),
            (&[Tensor(BF16), Tensor(F16)], Some(F32)),
            (&[Tensor(I32), Number(F32)], Some(F32)),
            (&[Tensor(I32), Number(I64)], Some(I32)),
            (&[Tensor(I32), ZeroDim(F16)], Some(F16)),
            (&[Tensor(I32), ZeroDim(F64)], Some(F64)),
            (&[Tensor(Bool), Number(I64)], Some(I64)),
            (&[Tensor(Bool), ZeroDim(U8), Number(I64)], Some(U8)),
            (&[ZeroDim(I64), Number(F32)], Some(F32)),
            (&[ZeroDim(F64), Number(F32)], Some(F64)),
            (&[Number(Bool), Number(I64)], Some(I64)),
            (&[Tensor(U16), Tensor(I32)], None),
        ];
        for (operands, expected) in cases {
            assert_eq!(
                result_type(operands.iter().copied()),
                expected,
                "{operands:?}"
            );
        }
    }

    #[test]
    fn pairs_follow_pytorch() {
        for (a, b, expected) in [
            (U8, I8, I16),
            (U8, I16, I16),
            (I8, I64, I64),
            (Bool, BF16, BF16),
            (I64, F16, F16),
            (F16, F32, F32),
        ] {
            assert_eq!(promote(a, b), Some(expected));
            assert_eq!(promote(b, a), Some(expected));
        }
    }
}
