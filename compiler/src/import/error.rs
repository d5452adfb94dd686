//! What can stop an import: an operator that is not supported, a file that contradicts itself, a bug of ours.

use std::fmt;

use fuseline_ir::OpError;

use super::host;
use crate::pt2::exported::Place;
use crate::pt2::schema::Schema;

/// Why a program could not be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model uses operators, or forms of them, that are not supported. All of them are listed.
    #[error("{}", list(.0))]
    Unsupported(Vec<Unsupported>),
    /// The file contradicts itself.
    #[error("the exported graph is invalid at {at}: {reason}")]
    Invalid {
        /// The node, input or output.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// An operator makes something else of its operands than the file says, or does not take them. Only the importer's own tests can tell a file that
    /// contradicts itself from an operator that was imported wrongly.
    #[error(
        "the exported graph contradicts itself at {at}: {reason} (or, if the file is as PyTorch wrote it, this is a bug of the compiler)"
    )]
    Contradiction {
        /// The node.
        at: String,
        /// What does not fit.
        reason: String,
    },
    /// The importer is at a loss, whatever the file says.
    #[error(
        "internal error while importing {at}: {reason} (this is a bug of the compiler, not of the model)"
    )]
    Bug {
        /// The node.
        at: String,
        /// What went wrong.
        reason: String,
    },
}

/// One kind of operator that is not supported, with its first place in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The operator with its overload, such as `aten.nonzero.default`.
    pub target: String,
    /// What about it is not supported.
    pub reason: String,
    /// How often it occurs.
    pub count: usize,
    /// Where it occurs first.
    pub place: Place,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            reason,
            count,
            place,
        } = self;
        write!(f, "{target} ({count}×): {reason}")?;
        let module = if place.module.is_empty() {
            "the top module"
        } else {
            &place.module
        };
        write!(f, "; first in {module}")?;
        match &place.source {
            Some(source) => write!(f, ", {source}"),
            None => Ok(()),
        }
    }
}

fn list(all: &[Unsupported]) -> String {
    let total: usize = all.iter().map(|one| one.count).sum();
    let lines: Vec<String> = all.iter().map(|one| format!("\n  {one}")).collect();
    let plural = if total == 1 {
        "operation"
    } else {
        "operations"
    };
    // What a call of the host can stand for, the user may leave to one.
    let callable = |one: &&Unsupported| {
        let schema = Schema::find(&one.target);
        schema.is_some_and(|schema| host::obstacle(&schema).is_none())
    };
    let options: Vec<String> = all
        .iter()
        .filter(callable)
        .map(|one| format!(" --host {}", one.target))
        .collect();
    let way_out = match options.is_empty() {
        true => String::new(),
        false => format!(
            "\n  to leave them to kernels of the program that runs the model:{}",
            options.concat()
        ),
    };
    format!(
        "{total} {plural} of the model can't be compiled:{}{way_out}",
        lines.concat()
    )
}

/// Why one operation could not be imported, before its place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fail {
    /// Goes on the list of what is not supported.
    Unsupported(String),
    /// The file is wrong.
    Invalid(String),
    /// The file is wrong, or the import of the operator is.
    Contradiction(String),
    /// We are wrong.
    Bug(String),
    /// The graph inside the operation failed, with a place of its own.
    Nested(Box<Error>),
    /// An argument comes from an operation that failed already.
    Poisoned,
}

/// Result of importing one operation.
pub(super) type Result<T, E = Fail> = std::result::Result<T, E>;

impl From<OpError> for Fail {
    fn from(error: OpError) -> Self {
        Self::Contradiction(error.to_string())
    }
}

/// An operation that is not supported.
pub(super) fn unsupported<T>(reason: impl Into<String>) -> Result<T> {
    Err(Fail::Unsupported(reason.into()))
}

/// A contradiction in the file.
pub(super) fn invalid<T>(reason: impl Into<String>) -> Result<T> {
    Err(Fail::Invalid(reason.into()))
}
