//! Elements looked at as their bits, and scalar functions that only the host computes.

use fuseline_ir::ops::table as op;
use fuseline_ir::{Attr, Type};
use fuseline_program::ScalarType;

use super::pointwise::done;
use crate::import::error::{invalid, unsupported};
use crate::import::{Handler, host};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.view.dtype" => |cx, call| {
            let x = call.value(cx, "self")?;
            let (from, to) = (cx.build.dtype(x)?, call.out_dtype(0)?);
            // Integers of one size differ in how a sign is read, which a conversion leaves alone.
            if from == to || (from.size() == to.size() && !from.is_float() && !to.is_float()) {
                return done(cx.build.cast(x, to));
            }
            let Some(code) = ScalarType::from_name(to.name()) else {
                return unsupported(format!("the element type {to}"));
            };
            let call = op::Host {
                kernel: "aten::view.dtype_out".into(),
                reason: "bits seen as another element type, which the target's instructions lack"
                    .into(),
                call: vec![Attr::Arg(0), Attr::Int(i64::from(code.code()).into())],
                ty: Type::tensor(to, call.out_shape(0)?),
            };
            match host::results_of(cx, call, &[x])?.as_slice() {
                [one] => done(Ok(*one)),
                _ => invalid("a view of a tensor is one tensor"),
            }
        },
        "aten.nextafter.default" => |cx, call| {
            host::built_in(
                cx,
                call,
                "a step to the next float, which the target's instructions lack",
                &[],
            )
        },
        "aten.igamma.default"
        | "aten.igammac.default"
        | "aten.special_gammainc.default"
        | "aten.special_gammaincc.default" => |cx, call| {
            host::built_in(
                cx,
                call,
                "a series of as many terms as the data ask for",
                &[],
            )
        },
        _ if is_special(target) => |cx, call| {
            host::built_in(
                cx,
                call,
                "a special function, which the target's instructions lack",
                &[],
            )
        },
        _ => return None,
    })
}

/// Whether it is one of the special functions that every runtime has a kernel for.
fn is_special(target: &str) -> bool {
    let operator = target
        .strip_prefix("aten.special_")
        .and_then(|name| name.split('.').next());
    operator.is_some_and(|name| {
        let polynomials = [
            "chebyshev_polynomial_",
            "hermite_polynomial_",
            "laguerre_polynomial_",
            "legendre_polynomial_",
        ];
        let name = name.strip_prefix("shifted_").unwrap_or(name);
        polynomials
            .iter()
            .any(|polynomial| name.starts_with(polynomial))
            || matches!(
                name.strip_prefix("scaled_").unwrap_or(name),
                "bessel_j0"
                    | "bessel_j1"
                    | "bessel_y0"
                    | "bessel_y1"
                    | "modified_bessel_k0"
                    | "modified_bessel_k1"
                    | "spherical_bessel_j0"
                    | "airy_ai"
            )
    })
}
