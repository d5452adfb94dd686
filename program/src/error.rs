//! What can be wrong with a file, and where.

use std::fmt;

use crate::dtype::ScalarType;
use crate::instr::UnpackError;
use crate::kind::Kind;
use crate::newer::UnknownField;

/// A file, or a part of one, that is not what it should be: the place, outermost first, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatError {
    /// Innermost first.
    place: Vec<String>,
    fault: Box<Fault>,
}

impl FormatError {
    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Where, outermost first: `method "forward"`, `delegate 0`, `chain 1`, `instruction 7 (RmsNorm)`.
    pub fn place(&self) -> impl Iterator<Item = &str> {
        self.place.iter().rev().map(String::as_str)
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.place().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            write!(f, "{gap}{part}")?;
        }
        let gap = if self.place.is_empty() { "" } else { ": " };
        write!(f, "{gap}{}", self.fault)
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.fault)
    }
}

impl From<Fault> for FormatError {
    fn from(fault: Fault) -> Self {
        Self {
            place: Vec::new(),
            fault: Box::new(fault),
        }
    }
}

impl From<UnknownField> for FormatError {
    fn from(error: UnknownField) -> Self {
        Fault::UnknownField(error).into()
    }
}

impl From<UnpackError> for FormatError {
    fn from(error: UnpackError) -> Self {
        Fault::Instruction(error).into()
    }
}

/// Adds the place to an error on its way out.
pub(crate) trait Within<T> {
    fn within(self, place: impl FnOnce() -> String) -> Result<T, FormatError>;
}

impl<T, E: Into<FormatError>> Within<T> for Result<T, E> {
    fn within(self, place: impl FnOnce() -> String) -> Result<T, FormatError> {
        self.map_err(|error| {
            let mut error = error.into();
            error.place.push(place());
            error
        })
    }
}

/// What to do with a file of that kind.
fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Archive => ": compile it first (`fuseline compile`)",
        Kind::ExternalData => ": name the program, and this file with --data",
        _ => "",
    }
}

/// What can be wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes end too early.
    #[error("cut short: {need} bytes are needed, there are {have}")]
    Short {
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// The identifying bytes are others.
    #[error("not {what}: the identifying bytes are {found:02x?}")]
    Magic {
        /// What it should be.
        what: &'static str,
        /// The bytes in their place.
        found: Vec<u8>,
    },
    /// The file is of another kind.
    #[error("not {what} but {found}{}", advice(*found))]
    OtherKind {
        /// What it should be.
        what: &'static str,
        /// What it is.
        found: Kind,
    },
    /// The FlatBuffers structure is broken.
    #[error("broken FlatBuffers data: {0}")]
    FlatBuffer(String),
    /// A version that this crate does not know.
    #[error("{what} of version {found}: only {known} is known")]
    Version {
        /// What has the version.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What is known.
        known: &'static str,
    },
    /// A table with fields of a newer schema.
    #[error(transparent)]
    UnknownField(#[from] UnknownField),
    /// A part that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Bytes that are in another file, which is not there.
    #[error(
        "the bytes of {name:?} are in another file (.ptd), which is not given or does not have them"
    )]
    External {
        /// Their name.
        name: String,
    },
    /// A part that the format allows and this crate does not support.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A number that should be an index points past the end.
    #[error("{what} {index} does not exist (there are {count})")]
    Index {
        /// What is counted.
        what: &'static str,
        /// The index.
        index: i64,
        /// How many there are.
        count: u64,
    },
    /// A count beyond the cap.
    #[error("{count} {what}: more than the {cap} that are allowed")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many are allowed.
        cap: u64,
    },
    /// A byte range that leaves its container.
    #[error("{what}: bytes {offset} to {offset} + {size} leave the {available} that are there")]
    Range {
        /// What lies there.
        what: &'static str,
        /// First byte.
        offset: u64,
        /// Length in bytes.
        size: u64,
        /// Length of the container in bytes.
        available: u64,
    },
    /// Two byte ranges share bytes and must not.
    #[error("{what} {first} and {second} overlap")]
    Overlap {
        /// What they are.
        what: &'static str,
        /// The one.
        first: u64,
        /// The other.
        second: u64,
    },
    /// A number that stands for no element type.
    #[error("{0} is no element type that is known here")]
    UnknownDType(i8),
    /// An element type that can't stand here.
    #[error("the element type {dtype} can't be used for {what}")]
    DType {
        /// The element type.
        dtype: ScalarType,
        /// What it is used for.
        what: &'static str,
    },
    /// A number outside the values that it may have.
    #[error("{what} is {value}, which is not {allowed}")]
    Value {
        /// The number.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Two numbers that should be equal.
    #[error("{what}: {left} and {right} should be equal")]
    Mismatch {
        /// What they count.
        what: &'static str,
        /// The one.
        left: u64,
        /// The other.
        right: u64,
    },
    /// A name that comes twice where it must not.
    #[error("the {what} `{name}` comes twice")]
    Repeated {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A size that does not fit the limits of the format.
    #[error("{what} has {bytes} bytes, more than {cap}")]
    TooLarge {
        /// What.
        what: String,
        /// Its bytes (the largest number if they can't be counted).
        bytes: u64,
        /// The limit.
        cap: u64,
    },
    /// A slot that is read before anything was put into it.
    #[error("{slot} is read before it is written")]
    Undefined {
        /// The slot.
        slot: String,
    },
    /// A chain that runs itself.
    #[error("chain {0} runs itself")]
    Cycle(u32),
    /// A node that is no instruction.
    #[error(transparent)]
    Instruction(#[from] UnpackError),
}
