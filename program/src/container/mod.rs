//! The container: methods, their values and calls, delegates, and bytes by name.

mod data;
mod external;
mod header;
pub mod limits;
mod pack;
mod plan;
mod read;
pub mod sizes;
mod stream;
pub mod uses;
mod validate;
mod value;
mod write;

pub use data::Data;
pub use external::{ExternalData, Layout, Ptd};
pub use header::{HEADER_END, Header};
pub use read::{Pte, Segment};
pub use value::{Storage, TensorValue, UNBOUNDED, Value};
pub use write::{WriteError, WriteOptions, Written};

use std::fmt;

use crate::graph::MlxGraph;

/// The id of delegates whose payload is an [`MlxGraph`].
pub const MLX_BACKEND: &str = "MLXBackend";

/// A number of a value in [`Method::values`].
pub type ValueIdx = u32;

/// All that is in a file, without how it lies there. Bytes may be borrowed from the file, or be made when they are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program<'a> {
    /// What can be called.
    pub methods: Vec<Method<'a>>,
    /// The bytes of constant tensors among the methods' values ([`Storage::Constant`] counts from 0 here).
    pub constants: Vec<Data<'a>>,
    /// Bytes by name, for the delegates: their constants.
    pub named_data: Vec<NamedData<'a>>,
}

/// Bytes with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedData<'a> {
    /// The name, unique in the file. ExecuTorch's own are `<4 hex digits>/<name in the model>`; any other works as well.
    pub key: String,
    /// The bytes.
    pub data: Data<'a>,
}

/// Something that can be called: a list of values, and calls over them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Method<'a> {
    /// The name, unique in the file.
    pub name: String,
    /// How arguments and results nest in Python.
    pub trees: Option<Trees>,
    /// Everything that a call can take or return.
    pub values: Vec<Value>,
    /// The values that the caller gives.
    pub inputs: Vec<ValueIdx>,
    /// The values that the caller gets.
    pub outputs: Vec<ValueIdx>,
    /// Calls in order. ExecuTorch writes one chain.
    pub chains: Vec<Vec<Call>>,
    /// The operators of the host that kernel calls name.
    pub operators: Vec<Operator>,
    /// The delegates that delegate calls name.
    pub delegates: Vec<Delegate<'a>>,
    /// What a person may want to know about single calls, such as why an operator is left to the host.
    pub notes: Vec<Note>,
    /// Bytes of each arena that planned tensors lie in. Number 0 is reserved and empty, also in a method that plans nothing.
    pub arenas: Vec<u64>,
}

/// What a person may want to know about a call. In a file it is the innermost frame of the call's stack trace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// Number in [`Method::chains`].
    pub chain: u32,
    /// Number of the call in its chain.
    pub call: u32,
    /// The module of the model that the call comes from; may be empty.
    pub module: String,
    /// Why it is there; may be empty.
    pub reason: String,
}

/// Python's argument and result structure, as the text that PyTorch makes of its tree specs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trees {
    /// Of the pair of positional and named arguments.
    pub inputs: String,
    /// Of the result.
    pub outputs: String,
}

/// One step of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// An operator of the host, in the variant that writes into tensors it is given (`aten::add.out`). `args` are all arguments
    /// of its schema in order, defaults and outputs included, and then the result once more: the output again, or, if
    /// there are several, a [`Value::TensorList`] of them. ExecuTorch's kernels count on that last one.
    Kernel {
        /// Number in [`Method::operators`].
        operator: u32,
        /// The values.
        args: Vec<ValueIdx>,
    },
    /// A delegate. `args` are its inputs, then its outputs, in the delegate's order.
    Delegate {
        /// Number in [`Method::delegates`].
        delegate: u32,
        /// The values.
        args: Vec<ValueIdx>,
    },
    /// Copies a value.
    Move {
        /// What is copied.
        from: ValueIdx,
        /// Where to.
        to: ValueIdx,
    },
    /// Jumps within the chain if a value is false.
    JumpFalse {
        /// The truth value.
        condition: ValueIdx,
        /// Number of the call to go on with.
        target: u32,
    },
    /// The value's memory is not needed any more.
    Free {
        /// The value.
        value: ValueIdx,
    },
}

/// An operator of the host: `aten::sort` with the overload `values`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operator {
    /// Namespace and name.
    pub name: String,
    /// The overload; may be empty.
    pub overload: String,
}

/// `namespace::name.overload`, without the point where there is no overload.
impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.overload.as_str() {
            "" => f.write_str(&self.name),
            overload => write!(f, "{}.{overload}", self.name),
        }
    }
}

/// A part of a method that another engine runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegate<'a> {
    /// The engine: [`MLX_BACKEND`] for ours.
    pub id: String,
    /// What it runs.
    pub payload: Payload<'a>,
    /// Options for the engine.
    pub specs: Vec<CompileSpec>,
}

impl Delegate<'_> {
    /// A delegate of [`MLX_BACKEND`] without options.
    #[must_use]
    pub fn mlx(graph: MlxGraph) -> Self {
        Self {
            id: MLX_BACKEND.to_owned(),
            payload: Payload::Mlx(Box::new(graph)),
            specs: Vec::new(),
        }
    }
}

/// What a delegate runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload<'a> {
    /// A program of MLX instructions.
    Mlx(Box<MlxGraph>),
    /// Bytes for an engine that this crate does not know.
    Other(Data<'a>),
}

/// An option for a delegate's engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileSpec {
    /// The option.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl<'a> Program<'a> {
    /// The method with this name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&Method<'a>> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// The bytes with this name.
    #[must_use]
    pub fn named(&self, key: &str) -> Option<&Data<'a>> {
        self.named_data
            .iter()
            .find(|named| named.key == key)
            .map(|named| &named.data)
    }
}
