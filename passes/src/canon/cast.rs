//! Casts.

use fuseline_ir::DType;

/// Whether every value of `from` is a value of `to`: a cast there and back changes nothing, and what follows can't tell that it was there.
pub fn keeps(from: DType, to: DType) -> bool {
    use DType::*;
    if from == to {
        return true;
    }
    match from {
        Bool => true,
        U8 => to.is_float() || matches!(to, U16 | I16 | U32 | I32 | U64 | I64),
        I8 => to.is_float() || matches!(to, I16 | I32 | I64),
        U16 => matches!(to, U32 | I32 | U64 | I64 | F32 | F64),
        I16 => matches!(to, I32 | I64 | F32 | F64),
        U32 => matches!(to, U64 | I64 | F64),
        I32 => matches!(to, I64 | F64),
        U64 | I64 | F64 => false,
        F16 | BF16 => matches!(to, F32 | F64),
        F32 => to == F64,
    }
}
