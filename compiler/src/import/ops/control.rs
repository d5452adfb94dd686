//! Graphs inside nodes, numbers read from tensors, and arithmetic on symbolic numbers.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Type};

use crate::import::call::{Call, Names, Val};
use crate::import::error::{Fail, Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out, Scope, named_number};
use crate::pt2::exported::{
    Argument, GraphArgument, Node, SymBoolArgument, SymFloatArgument, SymIntArgument,
};
use crate::pt2::sym::SymExpr;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.item.default" | "aten._local_scalar_dense.default" => item,
        "aten.sym_size.int"
        | "aten.sym_stride.int"
        | "aten.sym_numel.default"
        | "aten.sym_storage_offset.default" => recorded,
        "aten.numel.default" | "aten.size.int" => recorded,
        _ if target.starts_with("_operator.")
            || target.starts_with("torch.sym_")
            || target.starts_with("math.") =>
        {
            recorded
        }
        _ => return None,
    })
}

/// Higher-order operators that only set a mode around their graph. The graph's operations already show its effect.
pub(in crate::import) fn is_inlined(target: &str) -> bool {
    matches!(
        target,
        "higher_order.wrap_with_set_grad_enabled" | "higher_order.wrap_with_autocast"
    )
}

/// A number that the export knows as an expression of sizes: the graph's record of it is its value.
fn recorded(_: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let mut outs = Vec::new();
    for output in &call.node.outputs {
        let name = match output {
            Argument::SymInt(SymIntArgument::Name(name))
            | Argument::SymFloat(SymFloatArgument::Name(name))
            | Argument::SymBool(SymBoolArgument::Name(name)) => name,
            _ => continue,
        };
        outs.push(Out::Number(named_number(call.scope.graph, name)?));
    }
    Ok(outs)
}

/// A number read from a tensor of one element. An integer becomes a symbol of the graph, anything else stays where it is.
fn item(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let Some(Argument::SymInt(SymIntArgument::Name(name))) = call.node.outputs.first() else {
        let value = cx.build.reshape(x, Vec::new())?;
        let tensor = cx.memory.root(Some(value));
        return Ok(vec![Out::Number(Val::Number(tensor))]);
    };
    let value = named_number(call.scope.graph, name)?;
    let symbol = match &value {
        Val::Int(dim) => match (dim.as_symbol(), dim.as_const()) {
            (Some(symbol), _) => symbol.clone(),
            // The export proved which number it is.
            (None, Some(_)) => return Ok(vec![Out::Number(value)]),
            (None, None) => {
                return unsupported(format!(
                    "a number from a tensor that is known to be `{dim}`"
                ));
            }
        },
        Val::Sym(SymExpr::Symbol(name)) => name.as_str().into(),
        _ => return unsupported("a number from a tensor in terms of another"),
    };
    let x = if cx.build.dtype(x)? == DType::Bool {
        cx.build.cast(x, DType::I64)?
    } else {
        x
    };
    let read = cx.build.add(op::Item { symbol }, &[x])?;
    match cx.build.graph.ty(read) {
        Type::Int(dim) => Ok(vec![Out::Number(Val::Int(dim.clone()))]),
        _ => Err(Fail::Bug(
            "a number read from a tensor is not one".to_owned(),
        )),
    }
}

impl<'a> Importer<'a> {
    /// Imports the graph inside a node in its place.
    pub(in crate::import) fn inline(
        &mut self,
        node: &'a Node,
        scope: &mut Scope<'a>,
    ) -> Result<Vec<(String, Val)>> {
        let at = node
            .inputs
            .iter()
            .position(|input| matches!(input.arg, Argument::Graph(_)));
        let Some(at) = at else {
            return invalid("a higher-order operator without a graph");
        };
        let (Argument::Graph(body), given) = (&node.inputs[at].arg, &node.inputs[at + 1..]) else {
            return Err(Fail::Bug("a graph argument that is none".to_owned()));
        };
        let GraphArgument { graph, .. } = &**body;
        if given.len() != graph.inputs.len() {
            return invalid(format!(
                "a graph with {} inputs is given {}",
                graph.inputs.len(),
                given.len()
            ));
        }
        let mut names = Names::new();
        for (formal, actual) in graph.inputs.iter().zip(given) {
            if let (Some(inner), Some(outer)) = (name_of(formal), name_of(&actual.arg)) {
                match scope.get(outer) {
                    Some(value) => names.insert(inner.to_owned(), value.clone()),
                    None => return invalid(format!("`{outer}` is used before it is computed")),
                };
            }
        }
        let mut inner = Scope { graph, names };
        self.run_nodes(&mut inner)
            .map_err(|error| Fail::Nested(Box::new(error)))?;

        let outer: Vec<&Argument> = node.outputs.iter().collect();
        if outer.len() != graph.outputs.len() {
            return invalid(format!(
                "a graph with {} outputs gives {}",
                graph.outputs.len(),
                outer.len()
            ));
        }
        let mut bound = Vec::new();
        for (formal, actual) in graph.outputs.iter().zip(outer) {
            if let (Some(inside), Some(outside)) = (name_of(formal), name_of(actual)) {
                match inner.get(inside) {
                    Some(value) => bound.push((outside.to_owned(), value.clone())),
                    None => return invalid(format!("`{inside}` is returned but not computed")),
                }
            }
        }
        Ok(bound)
    }
}

fn name_of(argument: &Argument) -> Option<&str> {
    match argument {
        Argument::Tensor(name) => Some(&name.name),
        Argument::SymInt(SymIntArgument::Name(name))
        | Argument::SymFloat(SymFloatArgument::Name(name))
        | Argument::SymBool(SymBoolArgument::Name(name)) => Some(name),
        _ => None,
    }
}
