//! Every way in which a compile can fail, and the exit code that the command gives it.

use crate::cost_file::CostError;
use crate::emit::EmitError;
use crate::{import, pt2};
use fuseline_passes::PassError;
use fuseline_program::command::exit;
use fuseline_program::command::paths::PathError;
use fuseline_program::container::WriteError;
use std::path::{Path, PathBuf};

/// Why a compile failed. The program was not written and the old file is untouched, unless what failed is a side file: those are written last, but whether they have a place is looked at first.
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

/// A reason behind the file that it is about, unless it begins with the file itself.
fn located(path: &Path, source: &dyn std::error::Error) -> String {
    let (path, reason) = (path.display().to_string(), source.to_string());
    if reason.starts_with(&path) {
        reason
    } else {
        format!("{path}: {reason}")
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Unwritable { path, source } => Error::File {
                path,
                reason: source.to_string(),
            },
            wrong => Error::Usage(wrong.to_string()),
        }
    }
}

impl Error {
    /// The exit code: see [`exit::EXIT_CODES`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Archive { source, .. } => match source {
                pt2::Error::Io { .. } => exit::FILE,
                pt2::Error::PickledWeight { .. } | pt2::Error::UnsupportedVersion { .. } => {
                    exit::UNSUPPORTED
                }
                _ => exit::MALFORMED,
            },
            Error::Malformed { .. } => exit::MALFORMED,
            Error::Import { source, .. } => match source {
                import::Error::Unsupported(_) => exit::UNSUPPORTED,
                import::Error::Invalid { .. } | import::Error::Contradiction { .. } => {
                    exit::MALFORMED
                }
                import::Error::Bug { .. } => exit::BUG,
            },
            Error::Pass(_) => exit::BUG,
            Error::Emit(EmitError::Instruction { .. }) => exit::BUG,
            Error::Emit(EmitError::Constant { .. }) => exit::MALFORMED,
            Error::Emit(_) => exit::UNSUPPORTED,
            Error::Write(WriteError::Program(_)) => exit::BUG,
            Error::Write(_) | Error::File { .. } => exit::FILE,
            Error::Cost { source, .. } => match source {
                CostError::Io(_) => exit::FILE,
                CostError::OtherTarget { .. } => exit::USAGE,
                _ => exit::MALFORMED,
            },
            Error::Usage(_) => exit::USAGE,
        }
    }
}
