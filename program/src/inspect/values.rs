//! What a method takes and gives, and its steps, as values for whoever reads the summary with a program.

use std::fmt;

use serde::Serialize;

use super::{kernel_name, value_text};
use crate::container::{Call, Method, Payload, Value, ValueIdx};
use crate::diff::plain;
use crate::graph::{Dim, IoSlot, MlxGraph};

/// An input or an output of a method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArgumentSummary {
    /// `in0`, `out0`, …: what it is called in the files of `fuseline-run run`.
    pub argument: String,
    /// The number of the value among the method's.
    pub value: ValueIdx,
    /// The name in the model, where a delegate has one for it.
    pub name: Option<String>,
    /// `tensor`, `int`, `bool`, `float`, `string`, `list` or `none`.
    pub kind: &'static str,
    /// The element type of a tensor.
    pub dtype: Option<String>,
    /// The lengths of a tensor, outermost first.
    pub shape: Option<Vec<LengthSummary>>,
    /// All of it in words.
    #[serde(skip)]
    text: String,
}

/// The length of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LengthSummary {
    /// One that never changes.
    Fixed(u32),
    /// One that may be another in each call.
    Between {
        /// The least.
        min: u32,
        /// The most, if there is a bound.
        max: Option<u32>,
    },
}

impl From<Dim> for LengthSummary {
    fn from(dim: Dim) -> Self {
        match dim {
            Dim::Static(length) => Self::Fixed(length),
            Dim::Dynamic { min, max } => Self::Between { min, max },
        }
    }
}

/// The inputs of a method.
pub(super) fn inputs(method: &Method<'_>) -> Vec<ArgumentSummary> {
    arguments(method, &method.inputs, "in")
}

/// The outputs of a method.
pub(super) fn outputs(method: &Method<'_>) -> Vec<ArgumentSummary> {
    arguments(method, &method.outputs, "out")
}

fn arguments(method: &Method<'_>, values: &[ValueIdx], side: &str) -> Vec<ArgumentSummary> {
    let values = values.iter().enumerate();
    values
        .map(|(at, value)| argument(method, *value, format!("{side}{at}")))
        .collect()
}

fn argument(method: &Method<'_>, value: ValueIdx, argument: String) -> ArgumentSummary {
    let slot = slot(method, value);
    let name = slot.and_then(|(graph, slot)| {
        let named = graph.names.iter().find(|named| named.slot == slot)?;
        Some(plain(&named.name).to_owned())
    });
    let meta = slot.and_then(|(graph, slot)| match slot {
        IoSlot::Tensor(tid) => graph.tensors.get(tid.0 as usize),
        _ => None,
    });
    let there = method.values.get(value as usize);
    let tensor = match there {
        Some(Value::Tensor(tensor)) => Some(tensor),
        _ => None,
    };
    // What a delegate says of a length is more exact than the upper bound beside it.
    let shape = tensor.map(|tensor| match meta {
        Some(meta) if tensor.dynamic && meta.shape.len() == tensor.sizes.len() => {
            meta.shape.iter().map(|dim| (*dim).into()).collect()
        }
        _ => tensor
            .sizes
            .iter()
            .map(|size| match tensor.dynamic {
                true => LengthSummary::Between {
                    min: 0,
                    max: Some(*size),
                },
                false => LengthSummary::Fixed(*size),
            })
            .collect(),
    });
    ArgumentSummary {
        text: value_text(method, value),
        argument,
        value,
        name,
        kind: kind(there),
        dtype: tensor.map(|tensor| tensor.dtype.to_string()),
        shape,
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::None) => "none",
        Some(Value::Int(_)) => "int",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Double(_)) => "float",
        Some(Value::String(_)) => "string",
        Some(Value::Tensor(_)) => "tensor",
        Some(_) => "list",
    }
}

/// The first slot of a delegate that takes or gives the value.
fn slot<'m>(method: &'m Method<'_>, value: ValueIdx) -> Option<(&'m MlxGraph, IoSlot)> {
    method.chains.iter().flatten().find_map(|call| {
        let Call::Delegate { delegate, args } = call else {
            return None;
        };
        let Payload::Mlx(graph) = &method.delegates.get(*delegate as usize)?.payload else {
            return None;
        };
        let mut slots = graph.inputs.iter().chain(&graph.outputs);
        let at = args.iter().position(|arg| *arg == value)?;
        Some((&**graph, *slots.nth(at)?))
    })
}

impl fmt::Display for ArgumentSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.argument)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, " = value {}", self.text)
    }
}

/// A step of a method. Numbers are those of values, but for a delegate's and a target's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CallSummary {
    /// An operator of the host.
    Kernel {
        /// `namespace::name.overload`.
        kernel: String,
        /// What it takes, then what it gives.
        args: Vec<ValueIdx>,
    },
    /// A delegate.
    Delegate {
        /// Its number.
        delegate: u32,
        /// What it takes, then what it gives.
        args: Vec<ValueIdx>,
    },
    /// A copy.
    Move {
        /// What is copied.
        from: ValueIdx,
        /// Where to.
        to: ValueIdx,
    },
    /// A jump within the chain.
    JumpFalse {
        /// If this is false.
        condition: ValueIdx,
        /// To the call of this number.
        target: u32,
    },
    /// The end of a value.
    Free {
        /// The value.
        value: ValueIdx,
    },
}

impl CallSummary {
    /// What a call of the method is.
    pub(crate) fn of(method: &Method<'_>, call: &Call) -> Self {
        match call {
            Call::Kernel { operator, args } => Self::Kernel {
                kernel: kernel_name(method, *operator),
                args: args.clone(),
            },
            Call::Delegate { delegate, args } => Self::Delegate {
                delegate: *delegate,
                args: args.clone(),
            },
            Call::Move { from, to } => Self::Move {
                from: *from,
                to: *to,
            },
            Call::JumpFalse { condition, target } => Self::JumpFalse {
                condition: *condition,
                target: *target,
            },
            Call::Free { value } => Self::Free { value: *value },
        }
    }
}

impl fmt::Display for CallSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { kernel, args } => write!(f, "kernel {kernel} {args:?}"),
            Self::Delegate { delegate, args } => write!(f, "delegate {delegate} {args:?}"),
            Self::Move { from, to } => write!(f, "move {from} to {to}"),
            Self::JumpFalse { condition, target } => {
                write!(f, "if {condition} is false go to {target}")
            }
            Self::Free { value } => write!(f, "free {value}"),
        }
    }
}
