//! Every way in which a compile can fail, and the exit code that the command gives it.

use crate::cost_file::CostError;
use crate::emit::EmitError;
use crate::{import, pt2};
use fuseline_passes::PassError;
use fuseline_program::container::WriteError;
use std::path::{Path, PathBuf};

/// Why a compile failed. Nothing was written, or the old file is untouched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive can't be read.
    #[error("{}", located(path, source))]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pt2::Error,
    },
    /// The exported program can't be imported.
    #[error("{}", located(path, source))]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: import::Error,
    },
    /// A pass failed: a bug of the compiler.
    #[error("internal error (this is a bug of the compiler, not of the model): {0}")]
    Pass(#[from] PassError),
    /// The optimised graph can't be expressed in a program.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// The program can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A report or another side file can't be written, or an input text can't be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A text or a program that is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and what is wrong.
        reason: String,
    },
    /// A table of costs can't be used.
    #[error("{}: {source}", path.display())]
    Cost {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CostError,
    },
    /// Something that was asked for on the command line doesn't exist.
    #[error("{0}")]
    Usage(String),
}

/// The exit code of a command that needs more memory than it may take.
pub const TOO_MUCH_MEMORY: u8 = 8;

/// Exit codes of both commands, with what they mean; printed by `--help`.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (0, "success"),
    (1, "an internal error: a bug of Fuseline"),
    (2, "wrong usage of the command line"),
    (3, "a file can't be read or written"),
    (4, "a file is malformed"),
    (5, "the model uses something that is not supported"),
    (6, "inputs don't fit the program (fuseline-run)"),
    (7, "the program failed while it ran (fuseline-run)"),
    (8, "more memory is needed than --max-memory allows"),
    (130, "interrupted (128 and the signal's number)"),
];

/// A reason behind the file that it is about, unless it begins with the file itself.
fn located(path: &Path, source: &dyn std::error::Error) -> String {
    let (path, reason) = (path.display().to_string(), source.to_string());
    if reason.starts_with(&path) {
        reason
    } else {
        format!("{path}: {reason}")
    }
}

impl Error {
    /// The exit code: see [`EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Archive { source, .. } => match source {
                pt2::Error::Io { .. } => 3,
                pt2::Error::PickledWeight { .. } | pt2::Error::UnsupportedVersion { .. } => 5,
                _ => 4,
            },
            Error::Malformed { .. } => 4,
            Error::Import { source, .. } => match source {
                import::Error::Unsupported(_) => 5,
                import::Error::Invalid { .. } => 4,
                import::Error::Bug { .. } => 1,
            },
            Error::Pass(_) => 1,
            Error::Emit(EmitError::Instruction { .. }) => 1,
            Error::Emit(EmitError::Constant { .. }) => 4,
            Error::Emit(_) => 5,
            Error::Write(WriteError::Program(_)) => 1,
            Error::Write(_) | Error::File { .. } => 3,
            Error::Cost { source, .. } => match source {
                CostError::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => 3,
                CostError::OtherTarget { .. } => 2,
                _ => 4,
            },
            Error::Usage(_) => 2,
        }
    }
}
