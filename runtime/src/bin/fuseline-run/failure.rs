//! How a command fails: a message and an exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use fuseline_program::command::exit;
use fuseline_program::command::paths::PathError;
use fuseline_runtime::{Error, Fault, TensorError};

/// Why a command stops.
pub enum Failure {
    /// Whoever reads our output has had enough; no reason to complain.
    Quiet,
    /// A message for the user.
    Message {
        /// The exit code.
        code: u8,
        /// The message.
        text: String,
    },
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self::Message {
            code,
            text: text.into(),
        }
    }

    /// A command line that asks for what can't be.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(exit::USAGE, text)
    }

    /// A bug of ours.
    pub fn bug(text: impl Into<String>) -> Self {
        Self::new(exit::BUG, text)
    }

    /// A file that can't be read or written.
    pub fn file(path: &Path, error: &dyn Display) -> Self {
        Self::new(exit::FILE, format!("{}: {error}", path.display()))
    }

    /// A file that is not what it should be.
    pub fn malformed(path: &Path, error: &dyn Display) -> Self {
        Self::new(exit::MALFORMED, format!("{}: {error}", path.display()))
    }

    /// Something that can't be done.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(exit::UNSUPPORTED, text)
    }

    /// Inputs that the program does not take.
    pub fn input(text: impl Into<String>) -> Self {
        Self::new(exit::INPUT, text)
    }

    /// Running failed, or gave something unexpected.
    pub fn execution(text: impl Into<String>) -> Self {
        Self::new(exit::EXECUTION, text)
    }

    /// The failure of writing to standard output.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Quiet
        } else {
            Self::new(exit::FILE, format!("standard output: {error}"))
        }
    }

    /// Adds where it happened.
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Quiet => Self::Quiet,
            Self::Message { code, text } => Self::Message {
                code,
                text: format!("{place}: {text}"),
            },
        }
    }

    /// Writes the message and gives the exit code.
    pub fn report(self) -> u8 {
        match self {
            Self::Quiet => exit::SUCCESS,
            Self::Message { code, text } => {
                // Nothing is left to do if standard error is closed.
                let _ = writeln!(io::stderr(), "fuseline-run: {text}");
                code
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Instruction {
                fault: full @ Fault::CacheFull { .. },
                ..
            } => return Self::input(full.to_string()),
            Error::Endless { .. }
            | Error::Instruction {
                fault: Fault::Steps { .. },
                ..
            } => return Self::execution(format!("{error} (--max-steps sets it)")),
            Error::Memory { .. }
            | Error::Instruction {
                fault: Fault::TooLarge { .. },
                ..
            } => exit::MEMORY,
            Error::Read { .. } | Error::Gone { .. } => exit::FILE,
            Error::Format { .. } | Error::Interface(_) => exit::MALFORMED,
            Error::Unsupported { .. }
            | Error::NoDevice { .. }
            | Error::Instruction {
                fault: Fault::Unsupported { .. },
                ..
            } => exit::UNSUPPORTED,
            Error::NoMethod { .. } | Error::InputCount { .. } | Error::Input { .. } => exit::INPUT,
            _ => exit::EXECUTION,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TensorError> for Failure {
    fn from(error: TensorError) -> Self {
        Self::from(Error::from(error))
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Unwritable { path, source } => Self::file(&path, &source),
            wrong => Self::usage(wrong.to_string()),
        }
    }
}
