//! What a method takes and gives, and its steps, as values for whoever reads the summary with a program.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Texts, kernel_name};
use crate::container::uses::{Border, Uses};
use crate::container::{Call, Method, Storage, TensorValue, Value, ValueIdx};
use crate::diff::plain;
use crate::graph::{Dim, IoSlot};

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
    /// Where a tensor lies, unless the caller says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceSummary>,
    /// What it is, in words: of a number that a method always gives, the number.
    pub text: String,
}

/// A value of a method that is neither an input nor an output: what operators of the host take and give.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValueSummary {
    /// Its number among the method's.
    pub value: ValueIdx,
    /// `tensor`, `int`, `bool`, `float`, `string`, `list` or `none`.
    pub kind: &'static str,
    /// The element type of a tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// The lengths of a tensor, outermost first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<LengthSummary>>,
    /// Where a tensor lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceSummary>,
    /// What it is, in words.
    pub text: String,
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PlaceSummary {
    /// In memory that the file plans.
    Planned {
        /// The number of the arena among the method's, from 1 (0 is no arena).
        arena: u32,
        /// The first byte in it.
        offset: u64,
    },
    /// Among the program's constants.
    Constant {
        /// Its number there.
        constant: u32,
    },
}

impl PlaceSummary {
    fn of(tensor: &TensorValue) -> Option<Self> {
        match tensor.storage {
            Storage::Caller => None,
            Storage::Planned { arena, offset, .. } => Some(Self::Planned { arena, offset }),
            Storage::Constant(constant) => Some(Self::Constant { constant }),
        }
    }
}

/// The values that operators of the host, copies and jumps name, without the inputs and outputs of the method.
pub(crate) fn between(method: &Method<'_>) -> Vec<ValueIdx> {
    let mut named = BTreeSet::new();
    for call in method.chains.iter().flatten() {
        if matches!(call, Call::Delegate { .. }) {
            continue;
        }
        for value in call.values() {
            named.insert(value);
            match method.values.get(value as usize) {
                Some(Value::TensorList(items)) => named.extend(items),
                Some(Value::OptionalTensorList(items)) => named.extend(items.iter().flatten()),
                _ => {}
            }
        }
    }
    for value in method.inputs.iter().chain(&method.outputs) {
        named.remove(value);
    }
    named.into_iter().collect()
}

/// Those of a method, described.
pub(super) fn values(method: &Method<'_>) -> Vec<ValueSummary> {
    let texts = Texts::of(method);
    let one = |value: ValueIdx| {
        let there = method.values.get(value as usize);
        let tensor = there.and_then(Value::as_tensor);
        ValueSummary {
            value,
            kind: kind(there),
            dtype: tensor.map(|tensor| tensor.dtype.to_string()),
            shape: tensor.map(lengths),
            place: tensor.and_then(PlaceSummary::of),
            text: texts.text(value),
        }
    };
    between(method).into_iter().map(one).collect()
}

/// The lengths of a tensor as the method has them.
fn lengths(tensor: &TensorValue) -> Vec<LengthSummary> {
    let length = |size: &u32| match tensor.dynamic {
        true => LengthSummary::Between {
            min: 0,
            max: Some(*size),
        },
        false => LengthSummary::Fixed(*size),
    };
    tensor.sizes.iter().map(length).collect()
}

impl fmt::Display for ValueSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.value, self.text)
    }
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
pub(super) fn inputs(method: &Method<'_>, uses: &Uses<'_>) -> Vec<ArgumentSummary> {
    arguments(method, uses, &method.inputs, "in")
}

/// The outputs of a method.
pub(super) fn outputs(method: &Method<'_>, uses: &Uses<'_>) -> Vec<ArgumentSummary> {
    arguments(method, uses, &method.outputs, "out")
}

fn arguments(
    method: &Method<'_>,
    uses: &Uses<'_>,
    values: &[ValueIdx],
    side: &str,
) -> Vec<ArgumentSummary> {
    let texts = Texts::of(method);
    let values = values.iter().enumerate();
    values
        .map(|(at, value)| {
            let name = format!("{side}{at}");
            argument(method, &texts, *value, uses.border(*value), name)
        })
        .collect()
}

fn argument(
    method: &Method<'_>,
    texts: &Texts<'_, '_>,
    value: ValueIdx,
    border: Option<&Border<'_>>,
    argument: String,
) -> ArgumentSummary {
    let name = border.and_then(|border| border.name);
    let name = name.map(|name| plain(name).to_owned());
    let meta = border.and_then(|border| match border.slot {
        IoSlot::Tensor(tid) => border.graph.tensors.get(tid.0 as usize),
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
        _ => lengths(tensor),
    });
    ArgumentSummary {
        text: texts.text(value),
        argument,
        value,
        name,
        kind: kind(there),
        dtype: tensor.map(|tensor| tensor.dtype.to_string()),
        shape,
        place: tensor.and_then(PlaceSummary::of),
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

impl fmt::Display for ArgumentSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.argument)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, " = value {}: {}", self.value, self.text)
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
