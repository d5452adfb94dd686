//! (crate essay to come)
pub mod dtype;
mod generated;
pub mod instr;

pub use dtype::ScalarType;
pub use instr::Instruction;
