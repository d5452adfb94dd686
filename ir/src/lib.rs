//! What a computation means.
//!
//! A [`Graph`] is a list of *values* in topological order. Each is the result of one [`Op`] applied to earlier values, and each has a [`Type`]: a tensor with
//! a dtype and a shape of symbolic sizes, an integer that is an expression over the sizes, or a tuple that [`ops::table::Get`] takes apart. Nothing in a graph has an effect:
//! two nodes with the same op and arguments are the same value, a node that nothing reads can go, and nodes can be reordered as long as arguments
//! come first. Ops with [`Flag::Effect`] keep to that: the call that must come before is an argument, so that no two calls on one thing are the same
//! value ([`ops::table::UpdateAndAttend`]), and [`ops::table::After`] reads those that nothing else reads. Their results are no constants, even of constants.
//!
//! **What comes from outside** are leaves: `input` (given at each call), `constant` (a weight; its bytes stay where they are until someone asks) and `state`.
//! A *state* is a buffer that the model mutates. Its old value is read at the entry, by a `state` leaf, and its new one is named at the exit, in
//! [`graph::State::next`]; between the two there are only pure updates such as `index_copy`. Whether the update happens in place is decided by the compiler, long after.
//!
//! **Symbols.** A size is a [`Dim`]: a polynomial over symbols such as `s0`, whose ranges the graph declares. An input's shape binds its symbols when the graph is
//! run; an [`item`](ops::control::Item) binds one to a number that stands in a tensor, which then must lie in the symbol's range. What else must hold of such numbers is a
//! [`Requirement`]. Two sizes are equal where their normal forms are; what can't be shown equal is treated as different, so shapes are never specialised in silence.
//!
//! **Graphs inside ops.** A branch and a loop hold the graphs of their sides and steps as attributes ([`Region`]). Such a graph sees nothing of the one around it but what the
//! op's arguments bind to its inputs.
//!
//! **Meaning.** Each op's impl holds the rule for its type ([`OpImpl::infer`]), its reference evaluation ([`OpImpl::eval`]: readable, slow, floats accumulated in f64 and
//! rounded once), and what it becomes on the target ([`OpImpl::lower`], in terms of [`lower::Inst`]). A *fused* op also says what it means in plain ops
//! ([`OpImpl::decompose`]). Operands of pointwise ops have one dtype (promotion is the importer's job) and broadcast as in NumPy.
//!
//! **Text.** A graph prints ([`std::fmt::Display`]) to a form that [`text::parse`] reads back to the same graph. Case files, snapshots, bug reports and
//! `fuseline opt` use it. [`Graph::verify`] checks the invariants; passes call it when they are done.
//!
//! Adding an op: a row in [`ops::table`], an impl in the theme file that the row names.

pub mod attr;
pub mod dim;
pub mod dtype;
pub mod error;
pub mod eval;
pub mod graph;
pub mod lower;
pub mod ops;
pub mod region;
pub mod require;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use attr::{Attr, F64, Scalar};
pub use dim::{Dim, Range, Symbol, Symbols};
pub use dtype::DType;
pub use error::{EvalError, OpError, ParseError, VerifyError};
pub use graph::{Constant, Graph, Loc, Node, Output, Payload, State, Value};
pub use ops::{Flag, Op, OpImpl, OpInfo};
pub use region::Region;
pub use require::Requirement;
pub use tensor::Tensor;
pub use types::{Shape, TensorType, Type};
