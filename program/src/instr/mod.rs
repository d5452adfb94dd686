//! The instructions of an MLX program and the slots that they work on.
//!
//! The file `table.rs` has one row for each; everything else here follows from the rows: the types, [`Instruction::build`] for making
//! one by name, [`Instruction::reads`] and [`Instruction::writes`], text, and the wire form.

mod display;
mod field;
mod macros;
mod table;
mod wire;

pub use display::SlotNames;
pub use field::{BuildError, Field, FieldKind, FieldProblem};
pub use table::*;
pub use wire::UnpackError;

use std::fmt;

/// The number of a tensor slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub u32);

/// The number of a value slot: a host number, not a tensor. The two kinds of slots are numbered apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vid(pub u32);

/// Either kind of slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// A tensor slot.
    Tensor(Tid),
    /// A value slot.
    Value(Vid),
}

/// A slot inside an instruction, to be renumbered in place.
#[derive(Debug, PartialEq, Eq)]
pub enum SlotMut<'a> {
    /// A tensor slot.
    Tensor(&'a mut Tid),
    /// A value slot.
    Value(&'a mut Vid),
}

/// An integer: known, or in a value slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrVid {
    /// Known when the program is made.
    Int(i64),
    /// Found in a value slot when the program runs.
    Vid(Vid),
}

/// A float: known, or in a value slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FloatOrVid {
    /// Known when the program is made.
    Float(f64),
    /// Found in a value slot when the program runs.
    Vid(Vid),
}

/// A host number or a tensor, both from slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VidOrTid {
    /// A value slot.
    Vid(Vid),
    /// A tensor slot.
    Tid(Tid),
}

/// An integer: known, in a value slot, or in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntOrVidOrTid {
    /// Known when the program is made.
    Int(i64),
    /// Found in a value slot when the program runs.
    Vid(Vid),
    /// Found in a tensor slot when the program runs.
    Tid(Tid),
}

/// What an instruction does with the slots in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Takes what is in them.
    Read,
    /// Puts something new into them.
    Write,
    /// Both.
    Update,
    /// The field holds no slots.
    Attr,
}

impl Role {
    /// Whether the slots are read.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Update)
    }

    /// Whether the slots are written.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Update)
    }
}

/// One field of a row of the table.
#[derive(Debug, Clone, Copy)]
pub struct FieldInfo {
    /// The name.
    pub name: &'static str,
    /// What is done with the slots in it.
    pub role: Role,
    /// What it can hold.
    pub kind: FieldKind,
    /// Makes the value of a field that is left out; none where the field must be given.
    pub default: Option<fn() -> Field>,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct InstrInfo {
    /// The name: `RmsNorm`.
    pub name: &'static str,
    /// The number in the wire's union, from 1.
    pub number: u8,
    /// The name in the schema: `RMSNormNode`.
    pub node: &'static str,
    /// What it computes.
    pub doc: &'static str,
    /// The fields, in the wire's order.
    pub fields: &'static [FieldInfo],
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%v{}", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(tid) => tid.fmt(f),
            Self::Value(vid) => vid.fmt(f),
        }
    }
}
