//! Element types of tensors, by this format's numbers.

use serde::Deserialize;

/// Element types, with the numbers of this format (they are neither c10's nor ExecuTorch's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "i64")]
#[expect(missing_docs, reason = "the names are PyTorch's names of the types")]
pub enum ScalarType {
    UInt8,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    Float32,
    Float64,
    Complex32,
    Complex64,
    Complex128,
    Bool,
    BFloat16,
    UInt16,
    Float8E4M3FN,
    Float8E5M2,
    Float8E4M3FNUZ,
    Float8E5M2FNUZ,
    Float8E8M0FNU,
    UInt32,
    UInt64,
}

impl ScalarType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::UInt8 | Self::Int8 | Self::Bool => 1,
            Self::Float8E4M3FN
            | Self::Float8E5M2
            | Self::Float8E4M3FNUZ
            | Self::Float8E5M2FNUZ
            | Self::Float8E8M0FNU => 1,
            Self::Int16 | Self::UInt16 | Self::Float16 | Self::BFloat16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 | Self::Complex32 => 4,
            Self::Int64 | Self::UInt64 | Self::Float64 | Self::Complex64 => 8,
            Self::Complex128 => 16,
        }
    }
}

impl TryFrom<i64> for ScalarType {
    type Error = String;

    fn try_from(code: i64) -> Result<Self, String> {
        Ok(match code {
            1 => Self::UInt8,
            2 => Self::Int8,
            3 => Self::Int16,
            4 => Self::Int32,
            5 => Self::Int64,
            6 => Self::Float16,
            7 => Self::Float32,
            8 => Self::Float64,
            9 => Self::Complex32,
            10 => Self::Complex64,
            11 => Self::Complex128,
            12 => Self::Bool,
            13 => Self::BFloat16,
            28 => Self::UInt16,
            29 => Self::Float8E4M3FN,
            30 => Self::Float8E5M2,
            31 => Self::Float8E4M3FNUZ,
            32 => Self::Float8E5M2FNUZ,
            33 => Self::Float8E8M0FNU,
            34 => Self::UInt32,
            35 => Self::UInt64,
            other => return Err(format!("{other} is not the number of an element type")),
        })
    }
}
