//! What a compiled program says.
//!
//! A program is a file in ExecuTorch's `.pte` format, and so has two languages, one inside the other.
//!
//! # The container
//!
//! A [`Program`] is a set of [`Method`]s. A method is a list of [`Value`]s (tensors mostly; also numbers, strings and lists) and a
//! list of [`Call`]s over them, in order. A call is one of two things that matter: a *delegate call* hands some of the values
//! to a [`Delegate`], a part of the method that another engine runs; a *kernel call* asks the host for an operator by its
//! PyTorch name. The first values of a delegate call are the delegate's inputs, the others its outputs. A method's own
//! inputs and outputs are values too. Tensors that live between calls are *planned*: they have a place in an arena of the
//! method's ([`Method::plan_memory`]). A shape may vary from call to call; its sizes are then upper bounds, and the memory is
//! planned for those.
//!
//! Bytes are not part of this. A weight is a piece of [`Data`] with a key ([`NamedData`]); whoever needs it asks for the key. Reading
//! a file copies none of it, writing takes each from where it is, one at a time.
//!
//! # The payload
//!
//! A delegate for MLX holds an [`MlxGraph`]: chains of [`Instruction`]s over numbered slots. There are two kinds of slots: *tensor
//! slots* ([`Tid`]), and *value slots* ([`Vid`]) for host numbers, such as a length that the program computes with. Tensor slots
//! are numbered by class, in this order:
//!
//! | class | printed | filled by | lives |
//! |---|---|---|---|
//! | constant | `%c0` | the data with the slot's name | as long as the program |
//! | input | `%i0` | the caller, at each call | one call |
//! | output | `%o0` | the program | one call |
//! | state | `%s0` | zeros at first, then the program | from call to call |
//! | temporary | `%t0` | the program | one call |
//!
//! An instruction reads slots and writes slots; nothing else passes between instructions. Slots are storage, not values: a slot may be
//! written many times, an instruction may write a slot that it reads, and an output slot may hold an intermediate result
//! meanwhile. The file has no types of temporaries: what one holds is what the last instruction left there. [`infer`] follows a program to say what that is, as
//! far as it can be known.
//!
//! The *main chain* runs at each call. The *init chain*, if there is one, runs once, when the constants have been loaded, and may
//! replace constants by something computed from them. Further chains are run by `If` and `Scan`.
//!
//! # From bytes and back
//!
//! [`Pte::parse`] reads a file and checks its structure; [`Pte::validate`] checks what it means. After both nothing in the program
//! leads nowhere: every slot, value, chain and operator exists, every byte range is inside the file, every attribute is in range,
//! nothing is read before it is written. Sizes from the file decide no allocation before they have been checked.
//! [`Program::write_file`] is the way back; it validates first. The same program gives the same bytes, and
//! reading what was written gives an equal program. [`Pte::summary`] is the file in words.
//!
//! This is the only crate that knows the wire format. The schemas are in `schema/`; `make schemas` makes the private module
//! `generated` from them. The rows of `instr/table.rs` say what each instruction is called, what its fields are, what it reads and
//! writes; everything about single instructions follows from them.

pub mod caps;
pub mod command;
pub mod container;
pub mod diff;
pub mod dtype;
pub mod error;
pub mod executorch;
mod generated;
pub mod graph;
pub mod infer;
pub mod inspect;
pub mod instr;
pub mod interrupt;
pub mod kind;
pub mod mapping;
pub mod newer;
pub mod replace;
pub mod words;

pub use container::{
    Call, Data, Delegate, ExternalData, Layout, Method, NamedData, Note, Operator, Payload,
    Program, Ptd, Pte, Storage, TensorValue, Value, WriteError,
};
pub use dtype::ScalarType;
pub use error::{Fault, FormatError};
pub use graph::{Dim, IoSlot, MlxGraph, NamedSlot, SlotClass, SlotCounts, TensorMeta};
pub use instr::{Instruction, Tid, Vid};
pub use kind::Kind;
pub use mapping::Mapping;
