//! How an op says what it becomes: a short list of instructions in terms of its operands.
//!
//! The IR doesn't know the instruction set's Rust types: an op names a node of the target's instruction table and its fields, and the compiler
//! builds the real instruction from them, checking names and kinds against the table. Symbolic integers in fields are turned into
//! instructions by the compiler as well.

use crate::attr::Scalar;
use crate::dim::{Dim, Symbols};
use crate::dtype::DType;
use crate::types::{TensorType, Type};

/// A tensor that an instruction reads or writes, named from the op's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The op's n-th argument.
    Arg(usize),
    /// The op's n-th result.
    Out(usize),
    /// A temporary of this lowering. Numbered from 0; written before it is read.
    Temp(usize),
}

/// A field of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// A tensor, read or written as the instruction table says.
    Tensor(Operand),
    /// A list of tensors.
    Tensors(Vec<Operand>),
    /// An integer argument of the op (of type `int`), or a tensor argument where the field takes both.
    Value(Operand),
    /// A literal integer.
    Int(i64),
    /// Literal integers.
    Ints(Vec<i64>),
    /// A symbolic integer.
    Dim(Dim),
    /// Symbolic integers.
    Dims(Vec<Dim>),
    /// A floating-point number.
    Float(f64),
    /// A scalar literal where the field takes any number.
    Scalar(Scalar),
    /// A truth value.
    Bool(bool),
    /// A string.
    Str(&'static str),
    /// A dtype.
    DType(DType),
}

/// One instruction: a node of the instruction table and the fields that differ from their defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Inst {
    /// The node's name without the suffix `Node`: `Add`, `RMSNorm`, `Sdpa`.
    pub node: &'static str,
    /// Its fields by name.
    pub fields: Vec<(&'static str, Field)>,
}

impl Inst {
    /// An instruction without fields.
    pub fn new(node: &'static str) -> Inst {
        Inst {
            node,
            fields: Vec::new(),
        }
    }

    /// Adds a field.
    pub fn with(mut self, name: &'static str, field: Field) -> Inst {
        self.fields.push((name, field));
        self
    }

    /// Adds a tensor field.
    pub fn tensor(self, name: &'static str, operand: Operand) -> Inst {
        self.with(name, Field::Tensor(operand))
    }

    /// Adds the tensor field `name` where the op has that argument.
    pub fn tensor_if(self, present: bool, name: &'static str, operand: Operand) -> Inst {
        if present {
            self.tensor(name, operand)
        } else {
            self
        }
    }

    /// Adds a literal integer.
    pub fn int(self, name: &'static str, value: i64) -> Inst {
        self.with(name, Field::Int(value))
    }

    /// Adds the result, field `out`, as the op's result 0.
    pub fn out(self) -> Inst {
        self.tensor("out", Operand::Out(0))
    }
}

/// What an op becomes on the target.
#[derive(Clone, Debug, PartialEq)]
pub enum Lowering {
    /// These instructions, in order.
    Insts(Vec<Inst>),
    /// The same value under another name: the n-th argument.
    Alias(usize),
    /// Nothing: the value lives in a slot that exists already (inputs, constants, state) or is known without one.
    Nothing,
    /// What [`crate::OpImpl::decompose`] gives.
    Decompose,
    /// One of two chains of instructions ([`crate::ops::control::Branch`]).
    Branch,
    /// Nothing on the target: a kernel of the host computes it, or the steps of the program are repeated ([`crate::ops::control::Host`],
    /// [`crate::ops::control::WhileLoop`]).
    Host,
}

/// What a lowering may look at.
#[derive(Clone, Copy, Debug)]
pub struct LowerCx<'a> {
    /// Types of the arguments.
    pub args: &'a [&'a Type],
    /// Type of the result.
    pub out: &'a Type,
    /// The ranges of the symbols in sizes.
    pub symbols: &'a Symbols,
}

impl<'a> LowerCx<'a> {
    /// The n-th argument's tensor type, where it is a tensor.
    pub fn arg(&self, n: usize) -> Option<&'a TensorType> {
        self.args.get(n).and_then(|t| t.as_tensor())
    }

    /// The result's tensor type, where it is a tensor.
    pub fn out(&self) -> Option<&'a TensorType> {
        self.out.as_tensor()
    }
}
