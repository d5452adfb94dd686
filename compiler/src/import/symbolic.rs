//! SymPy expressions as the IR's symbolic integers.

use fuseline_ir::{DType, Dim};

use super::error::{Result, invalid, unsupported};
use crate::pt2::exported::{ScalarType, SymInt};
use crate::pt2::sym::{SymExpr, SymOp};

/// The IR's dtype.
///
/// # Errors
///
/// Complex and 8-bit floating-point types are not supported.
pub(super) fn dtype(scalar: ScalarType) -> Result<DType> {
    Ok(match scalar {
        ScalarType::UInt8 => DType::U8,
        ScalarType::Int8 => DType::I8,
        ScalarType::Int16 => DType::I16,
        ScalarType::Int32 => DType::I32,
        ScalarType::Int64 => DType::I64,
        ScalarType::Float16 => DType::F16,
        ScalarType::Float32 => DType::F32,
        ScalarType::Float64 => DType::F64,
        ScalarType::Bool => DType::Bool,
        ScalarType::BFloat16 => DType::BF16,
        ScalarType::UInt16 => DType::U16,
        ScalarType::UInt32 => DType::U32,
        ScalarType::UInt64 => DType::U64,
        other => return unsupported(format!("element type {other:?}")),
    })
}

/// The dtype of the two parts of a complex number; `None` for a dtype that is not complex.
pub(super) fn part_dtype(scalar: ScalarType) -> Option<DType> {
    match scalar {
        ScalarType::Complex32 => Some(DType::F16),
        ScalarType::Complex64 => Some(DType::F32),
        ScalarType::Complex128 => Some(DType::F64),
        _ => None,
    }
}

/// A size.
pub(super) fn size(value: &SymInt) -> Result<Dim> {
    match value {
        SymInt::Int(n) => Ok(Dim::from(*n)),
        SymInt::Expr(expr) => dim(&expr.expr),
    }
}

/// Sizes of a tensor.
pub(super) fn sizes(values: &[SymInt]) -> Result<Vec<Dim>> {
    values.iter().map(size).collect()
}

/// An integer expression.
///
/// # Errors
///
/// Functions that the IR's symbolic integers don't have are not supported; floats and booleans where an integer belongs are invalid.
pub(super) fn dim(expr: &SymExpr) -> Result<Dim> {
    match expr {
        SymExpr::Int(n) => Ok(Dim::from(*n)),
        SymExpr::Symbol(name) => Ok(Dim::symbol(name.as_str())),
        SymExpr::Float(_) | SymExpr::Bool(_) => invalid(format!("`{expr}` is not an integer")),
        SymExpr::Call(op, args) => call(expr, op, args),
    }
}

fn call(expr: &SymExpr, op: &SymOp, args: &[SymExpr]) -> Result<Dim> {
    let two = || match args {
        [a, b] => Ok((dim(a)?, dim(b)?)),
        _ => invalid(format!("`{expr}` must have two arguments")),
    };
    let fold = |f: fn(Dim, &Dim) -> Dim| {
        let mut all = args.iter().map(dim);
        let first = all
            .next()
            .unwrap_or_else(|| invalid(format!("`{expr}` has no arguments")))?;
        all.try_fold(first, |acc, next| Ok(f(acc, &next?)))
    };
    match op {
        SymOp::Add => fold(|a, b| &a + b),
        SymOp::Mul => product(expr, args),
        SymOp::Max => fold(|a, b| a.maximum(b)),
        SymOp::Min => fold(|a, b| a.minimum(b)),
        SymOp::FloorDiv | SymOp::CleanDiv => two().map(|(a, b)| a.floor_div(&b)),
        SymOp::CeilDiv => two().map(|(a, b)| -&(-&a).floor_div(&b)),
        SymOp::Mod => two().map(|(a, b)| a.modulo(&b)),
        SymOp::ModularIndexing => match args {
            [a, b, c] => Ok(dim(a)?.floor_div(&dim(b)?).modulo(&dim(c)?)),
            _ => invalid(format!("`{expr}` must have three arguments")),
        },
        SymOp::Pow => match args {
            [base, SymExpr::Int(exponent @ 0..=16)] => {
                let base = dim(base)?;
                Ok((0..*exponent).fold(Dim::from(1i64), |acc, _| &acc * &base))
            }
            _ => unsupported(format!("the power in the size `{expr}`")),
        },
        // An integer that was a float in between: exact for the sizes that tensors have.
        SymOp::TruncToInt | SymOp::FloorToInt => match args {
            [SymExpr::Call(SymOp::IntTrueDiv, quotient)] => match quotient.as_slice() {
                [a, b] => Ok(dim(a)?.floor_div(&dim(b)?)),
                _ => invalid(format!("`{expr}` must divide two arguments")),
            },
            [SymExpr::Call(SymOp::ToFloat, inner)] if inner.len() == 1 => {
                inner.iter().map(dim).next().unwrap_or_else(two_fail)
            }
            [SymExpr::Call(SymOp::Mul, factors)] => scaled(expr, factors),
            _ => unsupported(format!("the size `{expr}`")),
        },
        SymOp::CeilToInt => match args {
            [SymExpr::Call(SymOp::IntTrueDiv, quotient)] => match quotient.as_slice() {
                [a, b] => Ok(-&(-&dim(a)?).floor_div(&dim(b)?)),
                _ => invalid(format!("`{expr}` must divide two arguments")),
            },
            _ => unsupported(format!("the size `{expr}`")),
        },
        _ => unsupported(format!("`{}` in the size `{expr}`", op.name())),
    }
}

/// `c · float(size)` without its fraction, for a positive number c of few binary digits: the product of floats is exact then.
fn scaled(expr: &SymExpr, factors: &[SymExpr]) -> Result<Dim> {
    const HALVINGS: i32 = 20;
    if let [SymExpr::Float(c), SymExpr::Call(SymOp::ToFloat, size)]
    | [SymExpr::Call(SymOp::ToFloat, size), SymExpr::Float(c)] = factors
        && let [size] = size.as_slice()
    {
        let above = c * f64::from(1 << HALVINGS);
        if above.fract() == 0.0 && above > 0.0 && above <= f64::from(i32::MAX) {
            let product = &dim(size)? * &Dim::from(above as i64);
            return Ok(product.floor_div(&Dim::from(1i64 << HALVINGS)));
        }
    }
    unsupported(format!("the size `{expr}`"))
}

fn two_fail() -> Result<Dim> {
    invalid("an argument is missing")
}

/// A product. Factors `b**-1` make it an exact quotient.
fn product(expr: &SymExpr, factors: &[SymExpr]) -> Result<Dim> {
    let mut above = Dim::from(1i64);
    let mut below = Dim::from(1i64);
    let mut flat = Vec::new();
    flatten(factors, &mut flat);
    for factor in flat {
        match factor {
            SymExpr::Call(SymOp::Pow, args) => match args.as_slice() {
                [base, SymExpr::Int(-1)] => below = &below * &dim(base)?,
                _ => above = &above * &dim(factor)?,
            },
            _ => above = &above * &dim(factor)?,
        }
    }
    if below.is(0) {
        return invalid(format!("the size `{expr}` divides by zero"));
    }
    Ok(if below.is(1) {
        above
    } else {
        above.floor_div(&below)
    })
}

fn flatten<'a>(factors: &'a [SymExpr], out: &mut Vec<&'a SymExpr>) {
    for factor in factors {
        match factor {
            SymExpr::Call(SymOp::Mul, inner) => flatten(inner, out),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let expr: SymExpr = text.parse().unwrap();
        match dim(&expr) {
            Ok(dim) => dim.to_string(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn integers_become_dims() {
        assert_eq!(
            shown("Add(Symbol('s0'), Mul(Integer(-1), Symbol('s0')), Integer(3))"),
            "3"
        );
        assert_eq!(shown("Pow(Symbol('s0'), Integer(2))"), "s0*s0");
        assert_eq!(
            shown("FloorDiv(Mul(Integer(4), Symbol('s0')), Integer(2))"),
            "2*s0"
        );
        assert_eq!(
            shown("Mul(Rational(1, 2), Add(Mul(Integer(4), Symbol('s0')), Integer(2)))"),
            "2*s0 + 1"
        );
        assert_eq!(
            shown("CeilDiv(Symbol('s0'), Integer(2))"),
            "floordiv(s0 + 1, 2)"
        );
        assert_eq!(shown("Max(Integer(7), Integer(1), Integer(5))"), "7");
        assert_eq!(
            shown("TruncToInt(IntTrueDiv(Symbol('a'), Integer(2)))"),
            "floordiv(a, 2)"
        );
    }

    #[test]
    fn what_is_no_integer_is_refused() {
        assert!(shown("Float('0.5', precision=53)").contains("not an integer"));
        assert!(shown("Where(true, Integer(1), Integer(2))").contains("Where"));
        assert!(
            shown("Mul(Symbol('a'), Pow(Integer(0), Integer(-1)))").contains("divides by zero")
        );
    }
}
