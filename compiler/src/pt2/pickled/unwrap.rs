//! A graph that reads quantised weights as objects, turned into one that reads plain tensors: what `run_decompositions` makes of it in Python.
//!
//! - Each such input becomes one input for each of the object's tensors.
//! - `export.access_subclass_inner_tensor(weight, "qdata")` is that input.
//! - Whatever else reads the weight reads the result of the operator that dequantises it, which is called at the graph's beginning.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;

use super::{Arg, Quantised};
use crate::pt2::error::{Error, Result};
use crate::pt2::exported::{
    Argument, ExportedProgram, GraphModule, InputSpec, NamedArgument, Node, OptionalTensor, Place,
    SymInt, TensorMeta, TensorName,
};
use crate::pt2::weights::Weights;

/// What takes a tensor out of an object.
const ACCESS: &str = "torch.ops.export.access_subclass_inner_tensor.default";

/// Rewrites the program; the tensors join `weights`.
///
/// # Errors
/// An object that is not what the graph takes it for.
pub(in crate::pt2) fn unwrap(program: &mut ExportedProgram, weights: &mut Weights) -> Result<()> {
    if weights.quantised.is_empty() {
        return Ok(());
    }
    let module = &mut program.graph_module;
    let mut inputs = Vec::new();
    let mut specs = Vec::new();
    // The objects that the graph reads, by the input's name.
    let mut objects = BTreeMap::new();
    let old = std::mem::take(&mut module.signature.input_specs);
    for (spec, input) in old
        .into_iter()
        .zip(std::mem::take(&mut module.graph.inputs))
    {
        let object = match &spec {
            InputSpec::Parameter {
                arg,
                parameter_name: fqn,
            }
            | InputSpec::Buffer {
                arg,
                buffer_name: fqn,
                ..
            } => weights
                .quantised
                .get(fqn)
                .map(|object| (arg.name.clone(), fqn.clone(), object)),
            _ => None,
        };
        let Some((arg, fqn, object)) = object else {
            inputs.push(input);
            specs.push(spec);
            continue;
        };
        check_type(module, &arg, object).map_err(|reason| Error::PickledWeight {
            fqn: fqn.clone(),
            reason,
            more: 0,
        })?;
        for (attribute, tensor) in &object.parts {
            let name = part(&arg, attribute);
            module
                .graph
                .tensor_values
                .insert(name.clone(), meta(tensor));
            inputs.push(Argument::Tensor(TensorName { name: name.clone() }));
            specs.push(InputSpec::Parameter {
                arg: TensorName { name },
                parameter_name: tensor.fqn.clone(),
            });
            let other = weights.mapped.insert(tensor.fqn.clone(), tensor.clone());
            if other.is_some() {
                return Err(Error::malformed(
                    "model_weights_config.json",
                    format!("`{}` is a weight, and a part of one", tensor.fqn),
                ));
            }
        }
        objects.insert(arg, (fqn, object));
    }
    module.graph.inputs = inputs;
    module.signature.input_specs = specs;

    let mut renamed = BTreeMap::new();
    module
        .graph
        .nodes
        .retain(|node| match accessed(node, &objects) {
            Some((result, tensor)) => {
                renamed.insert(result, tensor);
                false
            }
            None => true,
        });
    let mut read = BTreeSet::new();
    let nodes = module.graph.nodes.iter_mut();
    let arguments = nodes.flat_map(|node| node.inputs.iter_mut().map(|input| &mut input.arg));
    for argument in arguments.chain(&mut module.graph.outputs) {
        for_names(argument, &mut |name| {
            if let Some(tensor) = renamed.get(name.as_str()) {
                name.clone_from(tensor);
            }
            read.insert(name.clone());
        });
    }
    let mut calls = Vec::new();
    for (arg, (fqn, object)) in objects.iter().filter(|(arg, _)| read.contains(*arg)) {
        if object.activation {
            return Err(Error::PickledWeight {
                fqn: fqn.clone(),
                reason: format!(
                    "{}: products with it quantise their other operand as well, which the graph does not say",
                    object.class
                ),
                more: 0,
            });
        }
        calls.push(call(arg, object));
    }
    module.graph.nodes.splice(0..0, calls);
    Ok(())
}

/// The graph's name of one of an object's tensors. Names of PyTorch have no dot.
fn part(arg: &str, attribute: &str) -> String {
    format!("{arg}.{attribute}")
}

/// That the graph takes the object for a tensor of its shape and dtype.
fn check_type(module: &GraphModule, arg: &str, object: &Quantised) -> Result<(), String> {
    let meta = module.graph.tensor_values.get(arg);
    let meta = meta.ok_or_else(|| format!("the graph has no type for its input `{arg}`"))?;
    let sizes: Option<Vec<usize>> = meta
        .sizes
        .iter()
        .map(|size| match size {
            SymInt::Int(n) => usize::try_from(*n).ok(),
            SymInt::Expr(_) => None,
        })
        .collect();
    if sizes.as_ref() != Some(&object.sizes) || object.dtype.is_some_and(|is| is != meta.dtype) {
        return Err(format!(
            "{}: it stands for a tensor of sizes {:?}, which is not what the graph says",
            object.class, object.sizes
        ));
    }
    Ok(())
}

fn meta(tensor: &crate::pt2::WeightRef) -> TensorMeta {
    let all = |list: &[usize]| {
        let numbers = list.iter().map(|n| i64::try_from(*n).unwrap_or(i64::MAX));
        numbers.map(SymInt::Int).collect()
    };
    TensorMeta {
        dtype: tensor.dtype,
        sizes: all(&tensor.sizes),
        strides: all(&tensor.strides),
        storage_offset: SymInt::Int(0),
    }
}

/// The result of a node that takes a tensor out of one of these objects, and that tensor's name.
fn accessed(
    node: &Node,
    objects: &BTreeMap<String, (String, &Quantised)>,
) -> Option<(String, String)> {
    if node.target != ACCESS {
        return None;
    }
    let [source, attribute] = node.inputs.as_slice() else {
        return None;
    };
    let (Argument::Tensor(source), Argument::String(attribute), [Argument::Tensor(result)]) =
        (&source.arg, &attribute.arg, node.outputs.as_slice())
    else {
        return None;
    };
    let (_, object) = objects.get(&source.name)?;
    let (attribute, _) = object.parts.iter().find(|(name, _)| name == attribute)?;
    Some((result.name.clone(), part(&source.name, attribute)))
}

/// Calls `f` for every name of a tensor in an argument. The bodies of higher-order ops have names of their own.
fn for_names(argument: &mut Argument, f: &mut dyn FnMut(&mut String)) {
    match argument {
        Argument::Tensor(tensor) | Argument::OptionalTensor(OptionalTensor::Tensor(tensor)) => {
            f(&mut tensor.name);
        }
        Argument::Tensors(list) => list.iter_mut().for_each(|tensor| f(&mut tensor.name)),
        Argument::NestedTensors(lists) => {
            let all = lists.iter_mut().flatten();
            all.for_each(|tensor| f(&mut tensor.name));
        }
        Argument::OptionalTensors(list) => {
            for tensor in list {
                if let OptionalTensor::Tensor(tensor) = tensor {
                    f(&mut tensor.name);
                }
            }
        }
        _ => {}
    }
}

/// The call that dequantises an object, under the name that the graph has for it.
fn call(arg: &str, object: &Quantised) -> Node {
    let tensor = |name: String| Argument::Tensor(TensorName { name });
    let inputs = object.args.iter().map(|(name, value)| NamedArgument {
        name: (*name).to_owned(),
        arg: match value {
            Arg::Part(attribute) => tensor(part(arg, attribute)),
            Arg::None => Argument::None(IgnoredAny),
            Arg::Int(n) => Argument::Int(*n),
            Arg::Ints(list) => Argument::Ints(list.clone()),
            Arg::Dtype(dtype) => Argument::ScalarType(*dtype),
        },
    });
    Node {
        target: object.operator.to_owned(),
        inputs: inputs.collect(),
        outputs: vec![tensor(arg.to_owned())],
        place: Place::default(),
        name: None,
        is_hop_single_tensor_return: None,
    }
}
