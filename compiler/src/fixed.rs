//! Arguments of a model whose values the export made constants.
//!
//! `torch.export` keeps a Python number, truth value, string or `None` among the inputs of a program, but computes with the value of the example. Our files hold them as ExecuTorch's do: as
//! inputs that no instruction reads, with their values, so that a call with another value is refused instead of answered wrongly.

use crate::pt2;
use crate::pt2::exported::{Argument, InputSpec};
use fuseline_program::container::Value;

/// One argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Fixed {
    /// Its place among all arguments of a call.
    pub position: usize,
    /// Its name in the model.
    pub name: String,
    /// The value that it must have.
    pub value: Value,
}

/// Those of an archive, in order.
pub fn of(archive: &pt2::Archive) -> Vec<Fixed> {
    let module = &archive.program().graph_module;
    let mut all = Vec::new();
    let mut position = 0;
    let specs = module.signature.input_specs.iter();
    for (spec, placeholder) in specs.zip(&module.graph.inputs) {
        let (name, argument) = match spec {
            InputSpec::UserInput { arg } => (format!("argument {position}"), arg),
            InputSpec::ConstantInput { name, value } => (name.clone(), value),
            _ => continue,
        };
        // What the graph reads is an input of it, whatever the signature says.
        let value = match (argument, placeholder) {
            (_, Argument::Tensor(_) | Argument::SymInt(_)) => None,
            (Argument::Int(n), _) => Some(Value::Int(*n)),
            (Argument::Bool(flag), _) => Some(Value::Bool(*flag)),
            (Argument::Float(x), _) => Some(Value::Double(x.0)),
            (Argument::String(text), _) => Some(Value::String(text.clone())),
            _ => Some(Value::None),
        };
        all.extend(value.map(|value| Fixed {
            position,
            name,
            value,
        }));
        position += 1;
    }
    all
}

/// What the report says of them.
pub fn note(fixed: &Fixed) -> String {
    let value = match &fixed.value {
        Value::Int(n) => n.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Double(x) => x.to_string(),
        Value::String(text) => format!("{text:?}"),
        _ => "None".to_owned(),
    };
    format!("fixed by the export: {} = {value}", fixed.name)
}
