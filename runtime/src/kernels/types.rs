//! The types that PyTorch computes in.

use fuseline_program::ScalarType as T;

use crate::value::Value;

/// How much an operand says about the type of the result: tensors with axes more than those without, and these more than numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    Number,
    Point,
    Tensor,
}

/// Truth values, integers, floats, complex numbers: the later contain the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Truth,
    Integer,
    Float,
    Complex,
}

/// The kind of a type.
pub(super) fn kind(dtype: T) -> Kind {
    match dtype {
        T::Bool => Kind::Truth,
        T::F16 | T::BF16 | T::F32 | T::F64 | T::F8E5M2 | T::F8E4M3 => Kind::Float,
        T::C64 => Kind::Complex,
        _ => Kind::Integer,
    }
}

/// The type that holds what both do, as PyTorch promotes operands of one weight.
fn wider(a: T, b: T) -> T {
    let unsigned = |dtype: T| matches!(dtype, T::U8 | T::U16 | T::U32 | T::U64);
    let (low, high) = if (kind(a), a.size()) <= (kind(b), b.size()) {
        (a, b)
    } else {
        (b, a)
    };
    match (low, high) {
        (T::F16, T::BF16) | (T::BF16, T::F16) => T::F32,
        // An unsigned one needs a bit more among signed ones.
        _ if kind(low) == Kind::Integer
            && low.size() == high.size()
            && unsigned(low) != unsigned(high) =>
        {
            match high.size() {
                1 => T::I16,
                2 => T::I32,
                _ => T::I64,
            }
        }
        _ if kind(low) == Kind::Integer
            && unsigned(high)
            && !unsigned(low)
            && kind(high) == Kind::Integer =>
        {
            if high.size() < 4 {
                T::I32
            } else {
                T::I64
            }
        }
        _ => high,
    }
}

/// The type that an operator of these operands is computed in.
pub(super) fn common(operands: &[(T, Weight)]) -> Option<T> {
    let of = |weight: Weight| {
        let own = operands.iter().filter(|(_, own)| *own == weight);
        own.map(|(dtype, _)| *dtype).reduce(wider)
    };
    let classes = [of(Weight::Tensor), of(Weight::Point), of(Weight::Number)];
    // What says less decides only if it is of a larger kind.
    let classes = classes.into_iter().flatten();
    classes.reduce(|more, less| if kind(less) > kind(more) { less } else { more })
}

/// A number among the arguments of an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    Int(i64),
    Bool(bool),
    Float(f64),
}

impl Scalar {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(number) => Some(Self::Int(*number)),
            Value::Bool(flag) => Some(Self::Bool(*flag)),
            Value::Float(number) => Some(Self::Float(*number)),
            _ => None,
        }
    }

    /// The type that it has by itself.
    pub(super) fn dtype(self) -> T {
        match self {
            Self::Int(_) => T::I64,
            Self::Bool(_) => T::Bool,
            Self::Float(_) => T::F32,
        }
    }

    pub(super) fn float(self) -> f64 {
        match self {
            Self::Int(number) => number as f64,
            Self::Bool(flag) => f64::from(flag),
            Self::Float(number) => number,
        }
    }

    /// The integer; of a float what is left without its fraction.
    pub(super) fn int(self) -> i64 {
        match self {
            Self::Int(number) => number,
            Self::Bool(flag) => flag.into(),
            Self::Float(number) => number as i64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_promoted_as_pytorch_does() {
        use Weight::{Number, Point, Tensor};
        let cases: [(&[(T, Weight)], T); 12] = [
            (&[(T::F16, Tensor), (T::BF16, Tensor)], T::F32),
            (&[(T::I64, Tensor), (T::F16, Tensor)], T::F16),
            (&[(T::U8, Tensor), (T::I8, Tensor)], T::I16),
            (&[(T::U8, Tensor), (T::I32, Tensor)], T::I32),
            (&[(T::I8, Tensor), (T::Bool, Tensor)], T::I8),
            (&[(T::I32, Tensor), (T::I64, Point)], T::I32),
            (&[(T::I32, Tensor), (T::F64, Point)], T::F64),
            (&[(T::I32, Tensor), (T::F32, Number)], T::F32),
            (&[(T::BF16, Tensor), (T::F32, Number)], T::BF16),
            (&[(T::Bool, Tensor), (T::I64, Number)], T::I64),
            (&[(T::F16, Point), (T::I64, Tensor)], T::F16),
            (&[(T::C64, Tensor), (T::F32, Tensor)], T::C64),
        ];
        for (operands, wanted) in cases {
            assert_eq!(common(operands), Some(wanted), "{operands:?}");
        }
    }
}
