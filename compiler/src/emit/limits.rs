//! Limits of the format that a graph must keep, checked before anything is emitted so that the value can be named.

use super::EmitError;
use fuseline_ir::{Graph, Op, TensorType, Type};
use fuseline_program::caps;

/// Checks every value and every state of a graph and of the graphs inside its ops. Constants may be of any size: their bytes are used where the file has them.
///
/// # Errors
/// Too many dimensions, one of 2^31 or more, or more bytes than a program may allocate for one tensor.
pub fn check(graph: &Graph) -> Result<(), EmitError> {
    for state in &graph.states {
        let place = || format!("state \"{}\"", state.name);
        shape(&state.ty, place)?;
        allocation(&state.ty, place)?;
    }
    for (value, node) in graph.values() {
        let place = || graph.describe(value, node);
        types(&node.ty, place)?;
        match (&node.op, &node.ty) {
            (Op::Full(_) | Op::Arange(_), Type::Tensor(ty)) => allocation(ty, place)?,
            (Op::Branch(op), _) => {
                check(op.yes.graph())?;
                check(op.no.graph())?;
            }
            (Op::WhileLoop(op), _) => {
                check(op.cond.graph())?;
                check(op.step.graph())?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn types(ty: &Type, place: impl Fn() -> String + Copy) -> Result<(), EmitError> {
    match ty {
        Type::Tensor(ty) => shape(ty, place),
        Type::Int(_) => Ok(()),
        Type::Tuple(parts) => parts.iter().try_for_each(|part| types(part, place)),
    }
}

fn shape(ty: &TensorType, place: impl Fn() -> String) -> Result<(), EmitError> {
    if ty.rank() > caps::RANK {
        return Err(EmitError::Rank {
            place: place(),
            rank: ty.rank(),
        });
    }
    let large = |n: &i64| i32::try_from(*n).is_err();
    match ty
        .shape
        .iter()
        .find(|dim| dim.as_const().as_ref().is_some_and(large))
    {
        Some(dim) => Err(EmitError::Size {
            place: place(),
            dim: dim.to_string(),
        }),
        None => Ok(()),
    }
}

/// What a program allocates has an upper bound. Where sizes vary, the runtime checks it.
fn allocation(ty: &TensorType, place: impl Fn() -> String) -> Result<(), EmitError> {
    let bytes = ty
        .shape
        .iter()
        .try_fold(ty.dtype.size() as u64, |bytes, dim| {
            let length = u64::try_from(dim.as_const()?).unwrap_or(0);
            Some(bytes.saturating_mul(length))
        });
    match bytes {
        Some(bytes) if bytes > caps::TENSOR_BYTES => Err(EmitError::Bytes {
            place: place(),
            bytes,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MethodInput, emit};
    use super::*;
    use fuseline_ir::{DType, Dim, Payload, text};
    use fuseline_passes::partition::partition;
    use std::borrow::Cow;
    use std::sync::Arc;

    /// Bytes that are not there.
    struct Absent;

    impl Payload for Absent {
        fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
            Err("nobody was to ask for these".to_owned())
        }
    }

    fn emitted(graph: &Graph) -> Result<(), EmitError> {
        let plan = partition(graph);
        let method = MethodInput {
            graph,
            plan: std::borrow::Cow::Owned(plan),
            trees: None,
            fixed: &[],
            share_state: false,
        };
        emit(&[method]).map(|_| ())
    }

    fn tensor(dtype: DType, lengths: &[i64]) -> TensorType {
        TensorType::new(dtype, lengths.iter().map(|n| Dim::from(*n)).collect())
    }

    /// `out = x`, and a state and a constant that are handed out too.
    fn graph(x: TensorType, state: TensorType, constant: TensorType) -> Graph {
        let mut graph = Graph::new("forward");
        let values = [
            graph.input("x", x),
            graph.state("kept", state, None),
            graph.constant("w", constant, Some(Arc::new(Absent))),
        ];
        for (n, value) in values.into_iter().enumerate() {
            graph.output(format!("out{n}"), value.unwrap());
        }
        graph
    }

    #[test]
    fn what_no_file_can_hold_is_refused_by_name() {
        let small = || tensor(DType::F32, &[2]);
        let ok = graph(small(), small(), small());
        emitted(&ok).unwrap();
        let long = 1 << 31;
        let cases = [
            (
                graph(tensor(DType::U8, &[1; 17]), small(), small()),
                "17 dimensions, more than 16",
                "x",
            ),
            (
                graph(tensor(DType::U8, &[long]), small(), small()),
                "2147483648 does not fit",
                "x",
            ),
            (
                graph(small(), small(), tensor(DType::U8, &[long, 1])),
                "2147483648 does not fit",
                "w",
            ),
            (
                graph(small(), tensor(DType::F32, &[1 << 15, 1 << 15, 2]), small()),
                "8589934592 bytes, more than 4294967296",
                "state \"kept\"",
            ),
            (
                graph(small(), tensor(DType::F32, &[long - 1; 16]), small()),
                "18446744073709551615 bytes",
                "state \"kept\"",
            ),
        ];
        for (graph, reason, name) in cases {
            let said = emitted(&graph).unwrap_err().to_string();
            assert!(said.contains(reason) && said.contains(name), "{said}");
        }
    }

    #[test]
    fn a_new_tensor_that_is_too_large_is_refused() {
        let graph = text::parse(
            r#"graph "forward" { %x = full[value=1.0, ty=f32[65536, 65536]] output "out" = %x }"#,
        );
        let said = emitted(&graph.unwrap()).unwrap_err().to_string();
        assert!(
            said.contains("17179869184 bytes, more than 4294967296"),
            "{said}"
        );
    }

    #[test]
    fn a_constant_of_any_size_keeps_its_place_in_the_archive() {
        let small = || tensor(DType::F32, &[2]);
        let large = tensor(DType::F32, &[1 << 16, 1 << 16, 3]);
        emitted(&graph(small(), small(), large)).unwrap();
    }
}
