//! `_foreach_…`: one operator on each tensor of a list. They have no schemas in the table; each element is imported as the operator of one tensor.

use crate::import::call::{Call, Val};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out, dispatch};
use crate::pt2::exported::{Argument, NamedArgument, Node};
use crate::pt2::schema::Schema;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    target
        .starts_with("aten._foreach_")
        .then_some(each as Handler)
}

/// The operator of one tensor behind one of lists: `aten.add.Scalar` of `aten._foreach_add_.ScalarList`; and whether it writes.
fn of_one(target: &str) -> Option<(String, bool)> {
    let (name, overload) = target.strip_prefix("aten._foreach_")?.split_once('.')?;
    let plain = name.strip_suffix('_').unwrap_or(name);
    let known = match plain {
        "norm" => "linalg_vector_norm",
        other => other,
    };
    let overloads: &[&str] = match overload {
        "Scalar" | "ScalarList" => &["Scalar", "Tensor_Scalar", "default"],
        "List" | "Tensor" => &["Tensor", "Tensor_Tensor", "default"],
        _ => &["default"],
    };
    let named = overloads.iter().map(|one| format!("aten.{known}.{one}"));
    let found = named
        .into_iter()
        .find(|one| Schema::find(one).is_some() && dispatch::find(one).is_some())?;
    Some((found, plain != name))
}

/// The part of an argument that concerns the n-th tensor.
fn part(argument: &Argument, n: usize) -> Option<Argument> {
    Some(match argument {
        Argument::Tensors(all) => Argument::Tensor(all.get(n)?.clone()),
        Argument::Floats(all) => Argument::Float(*all.get(n)?),
        Argument::Ints(all) => Argument::Int(*all.get(n)?),
        other => other.clone(),
    })
}

fn each(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (Some((target, writes)), Some(Argument::Tensors(all))) = (
        of_one(call.target),
        call.node.inputs.first().map(|input| &input.arg),
    ) else {
        return unsupported("this operator on each of a list of tensors");
    };
    let Some(schema) = Schema::find(&target) else {
        return Err(Fail::Bug(format!("`{target}` has no schema")));
    };
    let import =
        dispatch::find(&target).ok_or_else(|| Fail::Bug(format!("`{target}` has no handler")))?;
    let mut results = Vec::new();
    for (n, name) in all.iter().enumerate() {
        let mut inputs = Vec::new();
        for (place, input) in call.node.inputs.iter().enumerate() {
            let own = schema.arg(&input.name).or(schema.args.get(place));
            match (own, part(&input.arg, n)) {
                (Some(arg), Some(value)) => inputs.push(NamedArgument {
                    name: arg.name.clone(),
                    arg: value,
                }),
                _ => return invalid(format!("argument `{}` fits no tensor", input.name)),
            }
        }
        let outputs = call.node.outputs.iter();
        let node = Node {
            inputs,
            outputs: outputs.filter_map(|output| part(output, n)).collect(),
            ..call.node.clone()
        };
        let one = Call {
            node: &node,
            target: &target,
            schema: Some(&schema),
            scope: call.scope,
        };
        let value = match import(cx, &one)?.pop() {
            Some(Out::Value(value)) => value,
            Some(Out::Tensor(tensor)) => cx.read(tensor)?,
            _ => return Err(Fail::Bug(format!("`{target}` has no result"))),
        };
        match (writes, call.scope.get(&name.name)) {
            (true, Some(Val::Tensor(tensor))) => cx.write(*tensor, value)?,
            (true, _) => return invalid(format!("`{}` is not a tensor", name.name)),
            (false, _) => results.push(Out::Value(value)),
        }
    }
    Ok(results)
}
