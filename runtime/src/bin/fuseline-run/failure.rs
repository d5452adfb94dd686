//! How a command fails: a message and an exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use fuseline_runtime::{Error, Fault, TensorError};

/// The codes, as the help shows them. The compiler's are the same.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a bug in the command itself
  2  wrong usage
  3  a file can't be read or written
  4  a file is not what it should be
  5  something that is not supported here
  6  inputs that the program does not take
  7  running the program failed, or gave other results than expected
  8  more memory is needed than --max-memory allows
  130  interrupted (128 and the signal's number)";

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

    /// A bug of ours.
    pub fn bug(text: impl Into<String>) -> Self {
        Self::new(1, text)
    }

    /// A file that can't be read or written.
    pub fn file(path: &Path, error: &dyn Display) -> Self {
        Self::new(3, format!("{}: {error}", path.display()))
    }

    /// A file that is not what it should be.
    pub fn malformed(path: &Path, error: &dyn Display) -> Self {
        Self::new(4, format!("{}: {error}", path.display()))
    }

    /// Something that can't be done.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(5, text)
    }

    /// Inputs that the program does not take.
    pub fn input(text: impl Into<String>) -> Self {
        Self::new(6, text)
    }

    /// Running failed, or gave something unexpected.
    pub fn execution(text: impl Into<String>) -> Self {
        Self::new(7, text)
    }

    /// The failure of writing to standard output.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Quiet
        } else {
            Self::new(3, format!("standard output: {error}"))
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
            Self::Quiet => 0,
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
            Error::Memory { .. }
            | Error::Instruction {
                fault: Fault::TooLarge { .. },
                ..
            } => 8,
            Error::Read { .. } | Error::Gone { .. } => 3,
            Error::Format { .. } | Error::Interface(_) => 4,
            Error::Unsupported { .. }
            | Error::NoDevice { .. }
            | Error::Instruction {
                fault: Fault::Unsupported { .. },
                ..
            } => 5,
            Error::NoMethod { .. } | Error::InputCount { .. } | Error::Input { .. } => 6,
            _ => 7,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TensorError> for Failure {
    fn from(error: TensorError) -> Self {
        Self::from(Error::from(error))
    }
}
