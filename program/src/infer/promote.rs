//! The element types of results, by MLX's rules.

use crate::dtype::ScalarType as T;

/// The type that operands of two types are brought to.
pub(super) fn promoted(a: Option<T>, b: Option<T>) -> Option<T> {
    let (a, b) = (a?, b?);
    if a == b {
        return Some(a);
    }
    Some(match (kind(a), kind(b)) {
        (Kind::Bool, _) => b,
        (_, Kind::Bool) => a,
        (Kind::Complex, _) | (_, Kind::Complex) => T::C64,
        (Kind::Float, Kind::Float) if a == T::F64 || b == T::F64 => T::F64,
        // Among the others either one is single precision, or they are the two halves.
        (Kind::Float, Kind::Float) => T::F32,
        (Kind::Float, _) => a,
        (_, Kind::Float) => b,
        (Kind::Signed, Kind::Unsigned) => mixed(b, a),
        (Kind::Unsigned, Kind::Signed) => mixed(a, b),
        _ if a.size() > b.size() => a,
        _ => b,
    })
}

/// The type of what has a fraction.
pub(super) fn with_fraction(dtype: Option<T>) -> Option<T> {
    dtype.map(|dtype| match kind(dtype) {
        Kind::Float | Kind::Complex => dtype,
        _ => T::F32,
    })
}

/// The type of sums and products: small integers are added up in 32 bits.
pub(super) fn summed(dtype: Option<T>) -> Option<T> {
    dtype.map(|dtype| match dtype {
        T::Bool | T::I8 | T::I16 => T::I32,
        T::U8 | T::U16 => T::U32,
        other => other,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
    Complex,
}

fn kind(dtype: T) -> Kind {
    match dtype {
        T::Bool => Kind::Bool,
        T::U8 | T::U16 | T::U32 | T::U64 => Kind::Unsigned,
        T::I8 | T::I16 | T::I32 | T::I64 => Kind::Signed,
        T::F16 | T::BF16 | T::F32 | T::F64 | T::F8E5M2 | T::F8E4M3 => Kind::Float,
        T::C64 => Kind::Complex,
    }
}

/// The signed type that holds both, or single precision where there is none.
fn mixed(unsigned: T, signed: T) -> T {
    match (unsigned.size(), signed.size()) {
        (8, _) => T::F32,
        (n, m) if m > n => signed,
        (1, _) => T::I16,
        (2, _) => T::I32,
        _ => T::I64,
    }
}
