//! (crate essay to come)
pub mod caps;
pub mod container;
pub mod dtype;
pub mod error;
mod generated;
pub mod graph;
pub mod instr;

pub use container::{
    Call, Data, Delegate, Method, NamedData, Operator, Payload, Program, Pte, Storage, TensorValue,
    Value, WriteError,
};
pub use dtype::ScalarType;
pub use error::{Fault, FormatError};
pub use graph::{Dim, IoSlot, MlxGraph, NamedSlot, SlotClass, SlotCounts, TensorMeta};
pub use instr::{Instruction, Tid, Vid};
