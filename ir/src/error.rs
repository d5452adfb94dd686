//! What can go wrong when a graph is built, read, checked or evaluated.

use std::sync::Arc;

/// An op applied to arguments that it doesn't take, or attributes out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {reason}")]
pub struct OpError {
    /// The op as it prints, without its arguments.
    pub op: Arc<str>,
    /// What is wrong, with the types that show it.
    pub reason: Arc<str>,
}

impl OpError {
    /// An error of `op`.
    pub fn new(op: impl AsRef<str>, reason: impl AsRef<str>) -> OpError {
        OpError {
            op: op.as_ref().into(),
            reason: reason.as_ref().into(),
        }
    }
}

/// A failed evaluation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An op got values that it can't work on (an index out of range, a symbol without a value, …).
    #[error("%{value}: {error}")]
    Op {
        /// Number of the value being computed.
        value: usize,
        /// What is wrong.
        error: OpError,
    },
    /// A named input, constant or state is missing or has another dtype or shape than the graph says.
    #[error("{what}: {reason}")]
    Binding {
        /// Which one, such as `input "x"`.
        what: String,
        /// What is wrong.
        reason: String,
    },
}

/// A place in a text: line and column, both from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {reason}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected or what is wrong.
    pub reason: String,
}

/// A graph that breaks an invariant of the IR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid graph at {place}: {reason}")]
pub struct VerifyError {
    /// The printed node or the name of the input, output or state.
    pub place: String,
    /// The invariant that is broken.
    pub reason: String,
}
