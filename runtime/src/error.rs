//! What can go wrong.

use std::path::PathBuf;

use fuseline_program::words::counted;
use fuseline_program::{Dim, FormatError, ScalarType};

use crate::fault::Fault;
use crate::kernels::KernelError;
use crate::mlx::MlxError;
use crate::tensor::TensorError;

/// What can go wrong between opening a program and reading its results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A part of an open program's file is not there any more.
    #[error("the program's file: {source}")]
    Gone {
        /// What happened.
        source: std::io::Error,
    },
    /// The file is not a program, or a broken one.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: FormatError,
    },
    /// The file asks for things that are not there.
    #[error("{}: {}", path.display(), needs.join("; "))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// All of them.
        needs: Vec<String>,
    },
    /// The program needs more memory than it may take.
    #[error("{needed} bytes are needed, {limit} may be taken")]
    Memory {
        /// Bytes of weights, state and results.
        needed: u64,
        /// Bytes that may be.
        limit: u64,
    },
    /// The device is not there.
    #[error("there is no {device} that MLX can use here")]
    NoDevice {
        /// The device that was asked for.
        device: crate::Device,
    },
    /// The program has no such method.
    #[error("there is no method `{name}`; there is {}", known.join(", "))]
    NoMethod {
        /// What was asked for.
        name: String,
        /// The methods that there are.
        known: Vec<String>,
    },
    /// A call with another number of inputs than the method has.
    #[error("`{method}` takes {}{}, not {given}", counted(*wanted, "input"), listed(names))]
    InputCount {
        /// The method.
        method: String,
        /// How many it takes.
        wanted: usize,
        /// How many were given.
        given: usize,
        /// The names of those that it takes.
        names: Vec<String>,
    },
    /// An input that the method can't take.
    #[error("`{method}`: input {position} (`{name}`) {problem}")]
    Input {
        /// The method.
        method: String,
        /// Which input, from 0.
        position: usize,
        /// Its name in the model, where the file has one.
        name: String,
        /// What is wrong with it.
        problem: InputProblem,
    },
    /// There is no state of this name.
    #[error("there is no state `{name}`; there is {}", known.join(", "))]
    NoState {
        /// What was asked for.
        name: String,
        /// The state that there is.
        known: Vec<String>,
    },
    /// New state that does not fit.
    #[error("state `{name}` {problem}")]
    State {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: InputProblem,
    },
    /// An instruction failed.
    #[error("chain {chain}, instruction {position}: {text}: {fault}")]
    Instruction {
        /// The chain.
        chain: u32,
        /// Its place in the chain, from 0.
        position: usize,
        /// The instruction.
        text: String,
        /// Why.
        fault: Fault,
    },
    /// A loop over the steps of a method goes on and on.
    #[error("`{method}`: loops take more than {limit} steps, the most of a call")]
    Endless {
        /// The method.
        method: String,
        /// The limit.
        limit: u64,
    },
    /// An operator of the host failed.
    #[error("{operator}: {source}")]
    Kernel {
        /// The operator.
        operator: String,
        /// Why.
        source: KernelError,
    },
    /// A tensor could not be made or read.
    #[error(transparent)]
    Tensor(TensorError),
    /// MLX failed outside of an instruction.
    #[error(transparent)]
    Mlx(#[from] MlxError),
    /// A slot of the program's interface is not what the interface says.
    #[error("the program's interface: {0}")]
    Interface(Fault),
    /// A result does not have the shape that the file declares. Where the file is right, an index or a length that only the data decide was out of range.
    #[error(
        "a result has the shape {made:?}, the program declares {wanted:?}: an index or a length that the data decide is out of range"
    )]
    ResultShape {
        /// The result's shape.
        made: Vec<usize>,
        /// The declared one.
        wanted: Vec<u32>,
    },
    /// A call failed while its results were computed, after the memory of the old state had been given to the new.
    #[error(
        "an earlier call failed halfway and took the session's state with it: reset the session"
    )]
    StateLost,
}

impl From<TensorError> for Error {
    /// An instruction's error is the same whether its call finds it or who reads the results.
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::Instruction {
                chain,
                position,
                text,
                fault,
            } => Self::Instruction {
                chain,
                position,
                text,
                fault: *fault,
            },
            other => Self::Tensor(other),
        }
    }
}

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputProblem {
    /// Not this kind of value.
    #[error("is {given}, but {wanted} is wanted")]
    Kind {
        /// What it is.
        given: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Another element type.
    #[error("has elements of type {given}, but {wanted} are wanted")]
    DType {
        /// What they are.
        given: ScalarType,
        /// What they should be.
        wanted: ScalarType,
    },
    /// Another number of dimensions.
    #[error("has the shape {given:?}, but {wanted} dimensions are wanted")]
    Rank {
        /// The shape.
        given: Vec<usize>,
        /// How many dimensions there should be.
        wanted: usize,
    },
    /// A length, or a number, that doesn't fit the other inputs or the model.
    #[error("{} {given}{}, but it must be {wanted}", if dimension.is_some() { "has length" } else { "is" }, place(*dimension))]
    Size {
        /// Which dimension, from 0; none of a number.
        dimension: Option<usize>,
        /// What it is.
        given: i64,
        /// What it may be, and what of.
        wanted: String,
    },
    /// Another value than the one that the export computed with.
    #[error(
        "is {given}, but the export fixed it at {wanted}: export the model again for another value"
    )]
    Fixed {
        /// What it is.
        given: String,
        /// What it must be.
        wanted: String,
    },
    /// A dimension outside of its range.
    #[error("has length {given} in dimension {dimension}, but it must be {}", range(*wanted))]
    Dimension {
        /// Which dimension, from 0.
        dimension: usize,
        /// Its length.
        given: usize,
        /// What it may be.
        wanted: Dim,
    },
}

/// In brackets, if there is something.
fn listed(names: &[String]) -> String {
    match names.is_empty() {
        true => String::new(),
        false => format!(" ({})", names.join(", ")),
    }
}

fn place(dimension: Option<usize>) -> String {
    dimension.map_or_else(String::new, |dimension| {
        format!(" in dimension {dimension}")
    })
}

fn range(dim: Dim) -> String {
    match dim {
        Dim::Static(length) => length.to_string(),
        Dim::Dynamic {
            min,
            max: Some(max),
        } if min == max => max.to_string(),
        Dim::Dynamic {
            min,
            max: Some(max),
        } => format!("{min} to {max}"),
        Dim::Dynamic { min, max: None } => format!("at least {min}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_never_changes_is_a_number() {
        let between = |min, max| range(Dim::Dynamic { min, max });
        assert_eq!(between(16, Some(16)), "16");
        assert_eq!(between(2, Some(16)), "2 to 16");
        assert_eq!(between(2, None), "at least 2");
    }
}
