//! Operators that `run_decompositions` wraps. Those that write to their arguments: the wrapper takes the arguments' old values and returns the new ones. Those that do something besides
//! their results, such as a check: the wrapper takes a token and returns another, so that they keep their order.

use crate::import::call::{Call, Names, Val};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::memory::TensorId;
use crate::import::{Handler, Importer, Out, Scope, dispatch};
use crate::pt2::exported::{Argument, NamedArgument, Node, TensorName};
use crate::pt2::schema::Schema;

const BASES: &str = "_all_bases";

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "higher_order.auto_functionalized_v2" => second,
        "higher_order.auto_functionalized" => first,
        "higher_order.with_effects" => ordered,
        _ => return None,
    })
}

/// The older wrapper: the written arguments stand among the others, under their own names.
fn first(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (target, schema) = wrapped(call)?;
    let mut inputs = Vec::new();
    let mut written = Vec::new();
    for input in call
        .node
        .inputs
        .iter()
        .filter(|input| !matches!(input.arg, Argument::Operator(_)))
    {
        let writes = schema
            .arg(&input.name)
            .and_then(|arg| arg.alias.as_ref())
            .is_some_and(|alias| alias.write);
        match &input.arg {
            Argument::Tensor(name) if writes => written.push(name.name.clone()),
            Argument::None(_) if writes => {
                return unsupported("a written argument that is left out");
            }
            _ if writes => return unsupported("a list of written arguments"),
            _ => {}
        }
        inputs.push(input.clone());
    }
    run(cx, call, target, &schema, inputs, &written)
}

/// The newer wrapper: `_all_bases` lists the written tensors, `_x_base_index` says which of them the argument `x` is.
fn second(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (target, schema) = wrapped(call)?;
    let bases: Vec<String> = call
        .node
        .inputs
        .iter()
        .find_map(|input| match &input.arg {
            Argument::Tensors(names) if input.name == BASES => {
                Some(names.iter().map(|one| one.name.clone()).collect())
            }
            _ => None,
        })
        .unwrap_or_default();
    let mut inputs = Vec::new();
    for input in &call.node.inputs {
        if matches!(input.arg, Argument::Operator(_)) || input.name == BASES {
            continue;
        }
        if schema.arg(&input.name).is_some() {
            inputs.push(input.clone());
            continue;
        }
        let Some(name) = input
            .name
            .strip_prefix('_')
            .and_then(|rest| rest.strip_suffix("_base_index"))
        else {
            return unsupported(format!("a view of a written argument (`{}`)", input.name));
        };
        let base = match &input.arg {
            Argument::Int(index) => usize::try_from(*index)
                .ok()
                .and_then(|index| bases.get(index)),
            Argument::None(_) => continue,
            other => {
                return invalid(format!(
                    "argument `{}` is {}, not an integer",
                    input.name,
                    other.kind()
                ));
            }
        };
        match base {
            Some(base) if schema.arg(name).is_some() => inputs.push(NamedArgument {
                name: name.to_owned(),
                arg: Argument::Tensor(TensorName { name: base.clone() }),
            }),
            _ => return invalid(format!("argument `{}` fits nothing", input.name)),
        }
    }
    run(cx, call, target, &schema, inputs, &bases)
}

/// A wrapper that takes and returns a token before all else. Tokens hold nothing.
fn ordered(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let operator = call.node.inputs.get(1).map(|input| &input.arg);
    let Some(Argument::Operator(operator)) = operator else {
        return invalid("a wrapper around no operator");
    };
    let target = operator.strip_prefix("torch.ops.").unwrap_or(operator);
    let token = cx.build.full(
        fuseline_ir::Scalar::Int(0),
        fuseline_ir::DType::F32,
        vec![0i64.into()],
    )?;
    let mut outs = vec![Out::Value(token)];
    if dispatch::is_assertion(target) {
        return Ok(outs);
    }
    let schema = Schema::find(target);
    let (Some(import), Some(schema)) = (dispatch::find(target), &schema) else {
        return unsupported(format!("`{target}`, which it wraps, is not supported"));
    };
    let mut node = call.node.clone();
    node.inputs.drain(..2);
    for (input, arg) in node.inputs.iter_mut().zip(&schema.args) {
        if input.name.is_empty() {
            input.name.clone_from(&arg.name);
        }
    }
    node.outputs.drain(..node.outputs.len().min(1));
    let inner = Call {
        node: &node,
        target,
        schema: Some(schema),
        scope: call.scope,
    };
    let results = import(cx, &inner)?;
    outs.extend(cx.unshare(&inner, results)?);
    Ok(outs)
}

/// The wrapped operator, by its target without `torch.ops.`, and its schema.
fn wrapped<'a>(call: &Call<'a>) -> Result<(&'a str, Schema)> {
    let operator = call.node.inputs.iter().find_map(|input| match &input.arg {
        Argument::Operator(name) => Some(name.as_str()),
        _ => None,
    });
    let Some(operator) = operator else {
        return invalid("a wrapper around no operator");
    };
    let target = operator.strip_prefix("torch.ops.").unwrap_or(operator);
    match Schema::find(target) {
        Some(schema) => Ok((target, schema)),
        None if crate::import::host::is_custom(operator) => unsupported(format!(
            "`{target}` writes to its arguments, which a call of the host can't"
        )),
        None => unsupported(format!("`{target}`, which it wraps, is not supported")),
    }
}

/// Imports the wrapped operator on copies of `written`; the results are its own, then the copies' new values.
fn run(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    target: &str,
    schema: &Schema,
    inputs: Vec<NamedArgument>,
    written: &[String],
) -> Result<Vec<Out>> {
    let Some(import) = dispatch::find(target) else {
        return unsupported(format!("`{target}`, which it wraps, is not supported"));
    };
    let mut names: Names = call.scope.names.clone();
    let mut copies: Vec<TensorId> = Vec::new();
    for name in written {
        let tensor = match call.scope.get(name) {
            Some(Val::Tensor(tensor)) => *tensor,
            Some(Val::Poison) => return Err(Fail::Poisoned),
            _ => return invalid(format!("`{name}` is not a tensor")),
        };
        let value = cx.read(tensor)?;
        let copy = cx.memory.root(Some(value));
        names.insert(name.clone(), Val::Tensor(copy));
        copies.push(copy);
    }
    let node = Node {
        inputs,
        ..call.node.clone()
    };
    let scope = Scope {
        graph: call.scope.graph,
        names,
    };
    let inner = Call {
        node: &node,
        target,
        schema: Some(schema),
        scope: &scope,
    };
    let outs = import(cx, &inner).map_err(|fail| match fail {
        Fail::Unsupported(reason) => Fail::Unsupported(format!("`{target}`: {reason}")),
        other => other,
    })?;
    let mut outs = cx.unshare(&inner, outs)?;
    outs.truncate(schema.returns.len());
    outs.extend(copies.into_iter().map(Out::Tensor));
    Ok(outs)
}
