//! Arithmetic with the numbers among a method's values, as Python has it: lengths that are known when a program runs, and the counters of loops.

use std::cmp::Ordering;

use super::types::Scalar;
use super::{KernelError, Kernels, Place, bad, tensor};
use crate::value::Value;

type Result = std::result::Result<Value, KernelError>;

/// Adds all of them.
pub(super) fn register(kernels: &mut Kernels) {
    for (name, run) in ONE {
        kernels.number(
            &format!("executorch_prim::{name}.Scalar"),
            1,
            move |arguments| run(number(arguments, 0)?),
        );
    }
    for (name, run) in TWO {
        kernels.number(
            &format!("executorch_prim::{name}.Scalar"),
            2,
            move |arguments| run(number(arguments, 0)?, number(arguments, 1)?),
        );
    }
    for (name, holds) in COMPARED {
        kernels.number(
            &format!("executorch_prim::{name}.Scalar"),
            2,
            move |arguments| {
                let (a, b) = (number(arguments, 0)?, number(arguments, 1)?);
                Ok(compare(a, b).is_some_and(holds).into())
            },
        );
    }
    // The name in older files.
    kernels.number("executorch_prim::mod.int", 2, |arguments| {
        modulo(number(arguments, 0)?, number(arguments, 1)?)
    });
    kernels.number("executorch_prim::sym_ite.Scalar", 3, |arguments| {
        let chosen = if number(arguments, 0)?.float() == 0.0 {
            2
        } else {
            1
        };
        Ok(value(number(arguments, chosen)?))
    });
    kernels.number("aten::sym_size.int", 2, |arguments| {
        let shape = tensor(arguments, 0)?.shape();
        let axis = super::views::axis(1, super::views::integer(arguments, 1)?, shape.len())?;
        Ok(Value::Int(shape[axis] as i64))
    });
    kernels.number("aten::sym_stride.int", 2, |arguments| {
        let shape = tensor(arguments, 0)?.shape();
        let axis = super::views::axis(1, super::views::integer(arguments, 1)?, shape.len())?;
        let step: usize = shape[axis + 1..].iter().map(|n| (*n).max(1)).product();
        Ok(Value::Int(step as i64))
    });
    kernels.number("aten::sym_numel", 1, |arguments| {
        Ok(Value::Int(tensor(arguments, 0)?.len() as i64))
    });
    kernels.number("aten::_local_scalar_dense", 1, element);
}

type One = fn(Scalar) -> Result;
type Two = fn(Scalar, Scalar) -> Result;

const ONE: [(&str, One); 8] = [
    ("neg", |x| match x {
        Scalar::Float(x) => Ok(Value::Float(-x)),
        x => x.int().checked_neg().map(Value::Int).ok_or_else(overflow),
    }),
    ("ceil", |x| whole(x, f64::ceil)),
    ("floor", |x| whole(x, f64::floor)),
    ("round", |x| whole(x, f64::round_ties_even)),
    ("trunc", |x| whole(x, f64::trunc)),
    ("sym_int", |x| whole(x, f64::trunc)),
    ("sym_float", |x| Ok(Value::Float(x.float()))),
    ("sym_not", |x| Ok((x.float() == 0.0).into())),
];

const TWO: [(&str, Two); 8] = [
    ("add", |a, b| {
        arithmetic(a, b, i64::checked_add, |a, b| a + b)
    }),
    ("sub", |a, b| {
        arithmetic(a, b, i64::checked_sub, |a, b| a - b)
    }),
    ("mul", |a, b| {
        arithmetic(a, b, i64::checked_mul, |a, b| a * b)
    }),
    ("truediv", |a, b| match b.float() {
        0.0 => Err(bad(1, "is zero")),
        b => Ok(Value::Float(a.float() / b)),
    }),
    ("floordiv", |a, b| {
        if b.float() == 0.0 {
            return Err(bad(1, "is zero"));
        }
        let floor = |a: i64, b: i64| {
            let below = i64::from(a.checked_rem(b)? != 0 && (a < 0) != (b < 0));
            a.checked_div(b)?.checked_sub(below)
        };
        arithmetic(a, b, floor, |a, b| (a / b).floor())
    }),
    ("mod", modulo),
    ("sym_max", |a, b| {
        Ok(value(if compare(a, b) == Some(Ordering::Less) {
            b
        } else {
            a
        }))
    }),
    ("sym_min", |a, b| {
        Ok(value(if compare(a, b) == Some(Ordering::Greater) {
            b
        } else {
            a
        }))
    }),
];

type Holds = fn(Ordering) -> bool;

const COMPARED: [(&str, Holds); 6] = [
    ("eq", Ordering::is_eq),
    ("ne", Ordering::is_ne),
    ("lt", Ordering::is_lt),
    ("le", Ordering::is_le),
    ("gt", Ordering::is_gt),
    ("ge", Ordering::is_ge),
];

/// A number: one among the values, or the only element of a tensor.
fn number(arguments: &[Value], position: usize) -> std::result::Result<Scalar, KernelError> {
    let number = arguments.get(position).and_then(Scalar::of);
    number.ok_or_else(|| bad(position, "is not a number"))
}

fn value(number: Scalar) -> Value {
    match number {
        Scalar::Int(number) => Value::Int(number),
        Scalar::Bool(flag) => Value::Bool(flag),
        Scalar::Float(number) => Value::Float(number),
    }
}

fn overflow() -> KernelError {
    KernelError::Other("integer overflow".to_owned())
}

/// Of two integers an integer, if there is one; else a float.
fn arithmetic(
    a: Scalar,
    b: Scalar,
    integers: impl Fn(i64, i64) -> Option<i64>,
    floats: impl Fn(f64, f64) -> f64,
) -> Result {
    match (a, b) {
        (Scalar::Float(_), _) | (_, Scalar::Float(_)) => {
            Ok(Value::Float(floats(a.float(), b.float())))
        }
        _ => integers(a.int(), b.int())
            .map(Value::Int)
            .ok_or_else(overflow),
    }
}

/// The remainder, with the sign of the divisor.
fn modulo(a: Scalar, b: Scalar) -> Result {
    if b.float() == 0.0 {
        return Err(bad(1, "is zero"));
    }
    let integers = |a: i64, b: i64| {
        let rest = a.wrapping_rem(b);
        Some(if rest != 0 && (rest < 0) != (b < 0) {
            rest + b
        } else {
            rest
        })
    };
    let floats = |a: f64, b: f64| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
            rest + b
        } else {
            rest
        }
    };
    arithmetic(a, b, integers, floats)
}

fn compare(a: Scalar, b: Scalar) -> Option<Ordering> {
    match (a, b) {
        (Scalar::Float(_), _) | (_, Scalar::Float(_)) => a.float().partial_cmp(&b.float()),
        _ => Some(a.int().cmp(&b.int())),
    }
}

/// The integer that a float is rounded to.
fn whole(x: Scalar, round: impl Fn(f64) -> f64) -> Result {
    const END: f64 = 9_223_372_036_854_775_808.0;
    match x {
        Scalar::Float(x) => {
            let rounded = round(x);
            let fits = (-END..END).contains(&rounded);
            fits.then_some(Value::Int(rounded as i64))
                .ok_or_else(overflow)
        }
        x => Ok(Value::Int(x.int())),
    }
}

/// `_local_scalar_dense(self)`: the only element.
fn element(arguments: &[Value]) -> Result {
    use super::types::{Kind, kind};
    let x = tensor(arguments, 0)?;
    if x.len() != 1 {
        return Err(bad(0, format!("has {} elements, not one", x.len())));
    }
    Ok(match kind(x.dtype()) {
        Kind::Truth => (x.to_ints()?[0] != 0).into(),
        Kind::Integer => x.to_ints()?[0].into(),
        Kind::Float => x.to_floats()?[0].into(),
        Kind::Complex => return Err(bad(0, "is complex")),
    })
}

/// `et_copy_index(self, from, index)`: the rows of `self` before `index`, and `from` as one more. A loop collects the results of its rounds so.
pub(super) const COPY_ROW: &str = "executorch_prim::et_copy_index.tensor";

/// Where the result of a kernel stands in its call.
pub(crate) fn place(name: &str) -> Place {
    match name {
        COPY_ROW => Place::First,
        name if super::in_place(name) => Place::Last,
        name if name.starts_with("executorch_prim::")
            || name.starts_with("aten::sym_")
            || name.starts_with("aten::_local_scalar_dense") =>
        {
            Place::Last
        }
        _ => Place::Twice,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;

    fn run(name: &str, arguments: &[Value]) -> Option<Value> {
        let kernels = Kernels::standard();
        let super::super::Run::Host(run) = &kernels.get(name).unwrap().run else {
            panic!("{name} reads numbers");
        };
        run(arguments).ok()?.into_iter().next()
    }

    #[test]
    fn numbers_are_pythons() {
        let two = |name: &str, a: i64, b: i64| {
            let name = format!("executorch_prim::{name}.Scalar");
            run(&name, &[a.into(), b.into()]).and_then(|value| value.as_int())
        };
        assert_eq!(two("floordiv", -7, 2), Some(-4));
        assert_eq!(two("floordiv", 7, -2), Some(-4));
        assert_eq!(two("mod", -7, 2), Some(1));
        assert_eq!(two("mod", 7, -2), Some(-1));
        assert_eq!(two("sym_max", 3, 5), Some(5));
        assert_eq!(two("sym_min", 3, 5), Some(3));
        assert_eq!(two("add", i64::MAX, 1), None);
        assert_eq!(two("floordiv", i64::MIN, -1), None);
        assert_eq!(two("mod", 1, 0), None);
        assert_eq!(two("lt", 1, 2), Some(1));
        let half = run("executorch_prim::truediv.Scalar", &[1.into(), 2.into()]);
        assert_eq!(half.and_then(|value| value.as_float()), Some(0.5));
        for (x, rounded) in [
            (2.5, Some(2)),
            (3.5, Some(4)),
            (1e300, None),
            (f64::NAN, None),
        ] {
            let made = run("executorch_prim::round.Scalar", &[x.into()]);
            assert_eq!(made.and_then(|value| value.as_int()), rounded, "{x}");
        }
        let chosen = [true.into(), 4.into(), 5.into()];
        let chosen = run("executorch_prim::sym_ite.Scalar", &chosen);
        assert_eq!(chosen.and_then(|value| value.as_int()), Some(4));
    }
}
