//! Casts.

use super::{Builder, Rewrite, Rule};
use fuseline_ir::{DType, Op, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "cast-identity",
        doc: "cast[d](x) of an x of dtype d -> x",
        apply: identity,
    },
    Rule {
        name: "cast-chain",
        doc: "cast[d](cast[m](x)) -> cast[d](x) where m holds every value of x",
        apply: chain,
    },
];

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

fn identity(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    match (op, args) {
        (Op::Cast(c), &[x]) if b.dtype(x) == Some(c.dtype) => Ok(Some(x)),
        _ => Ok(None),
    }
}

/// Exact: the middle dtype changes no value, and casting to `d` depends on the value alone. A middle dtype that rounds, truncates or wraps stays.
fn chain(b: &mut Builder, op: &Op, args: &[Value]) -> Rewrite {
    let (Op::Cast(outer), &[m]) = (op, args) else {
        return Ok(None);
    };
    let Op::Cast(inner) = b.op(m) else {
        return Ok(None);
    };
    let middle = inner.dtype;
    let x = b.arg(m, 0);
    match b.dtype(x) {
        Some(from) if keeps(from, middle) => b.cast(x, outer.dtype).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuseline_ir::Scalar;

    #[test]
    fn a_dtype_is_kept_where_its_extremes_come_back() {
        // Every value that decides: the ends of each integer range, and numbers with all significant bits set.
        let probes: Vec<Scalar> = [
            -(1i64 << 62) - 1,
            i64::MIN,
            -32769,
            -32768,
            -129,
            -128,
            -1,
            0,
            1,
            127,
            128,
            255,
            256,
            257,
            2049,
            32767,
            65535,
            65537,
        ]
        .into_iter()
        .chain([
            (1 << 24) + 1,
            i64::from(i32::MAX),
            i64::from(u32::MAX),
            i64::MAX,
            (1 << 53) + 1,
        ])
        .map(Scalar::Int)
        .chain([0.1, 1.0 + f64::EPSILON, 65504.0, 1e-40, 3.0e38, 1e300].map(Scalar::float))
        .collect();
        for from in DType::ALL {
            for to in DType::ALL {
                let survives = probes.iter().all(|&p| {
                    let x = p.cast(from);
                    // A large unsigned 64-bit number is held by its bits, as a negative one.
                    let fits = from == to || to != DType::U64 || x.as_f64() >= 0.0;
                    x.cast(to).cast(from) == x && (from.is_float() || fits)
                });
                if keeps(from, to) {
                    assert!(survives, "{from} -> {to} loses a value");
                }
            }
        }
    }
}
