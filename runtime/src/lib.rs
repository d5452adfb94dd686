//! Runs compiled programs through MLX.
//!
//! ```no_run
//! use fuseline_runtime::{Program, Tensor};
//!
//! # fn main() -> Result<(), fuseline_runtime::Error> {
//! let program = Program::open("model.pte")?;
//! let mut session = program.session()?;
//! let ids = Tensor::from_slice(&[1, 3], &[5_i64, 17, 2])?;
//! let positions = Tensor::from_slice(&[3], &[0_i64, 1, 2])?;
//! let outputs = session.run("forward", &[ids.into(), positions.into()])?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is what
//! A [`Program`] is a file that has been mapped, validated and loaded: what is in it never changes, and any number of
//! sessions on any number of threads share it. A [`Session`] holds what does change: the tensors that the model
//! keeps from call to call, and a queue on the device. A [`Tensor`] is a reference to an array on the device that
//! may still be on its way.
//!
//! # What happens in a call
//! [`Session::run`] checks the inputs, then walks the instructions of the method once. Each adds an operation to MLX's graph;
//! nothing is computed yet. Then the outputs and the new state are queued together, and the call returns. So a loop
//! over tokens can queue the next step before it has read the last one, and an output that is the next
//! input never leaves the device.
//!
//! State is updated in place: the old array is let go before the new one is computed, and MLX writes into its memory.
//! A call that fails while the graph is built leaves the state as it was. What only the device can find out, an index out of range (`late`) or a failure while it computes, is an error for
//! whoever reads the results (`call`); nothing outside of an array is touched meanwhile.
//!
//! # Order of the modules
//! `program` opens files with the help of `load`, `session` runs methods, `replay` walks chains of instructions over the slots of a `frame`, `ops` says what
//! each instruction is in MLX, `kernels` has what runs on the host between two segments, and `mlx` is the way to the library.
//! Nothing here knows how a program came to be: no graph, no rule, no PyTorch.
//!
//! # Errors
//! Everything is an [`Error`]. MLX's C interface would end the process at the first one; the handler in `mlx` is installed
//! before anything can fail.

mod budget;
mod call;
mod device;
mod error;
mod fault;
mod frame;
mod kernels;
mod late;
mod load;
pub mod memory;
mod mlx;
mod ops;
mod program;
mod replay;
mod session;
mod tensor;
mod value;

pub use budget::MAX_STEPS;
pub use device::{Device, leave};
pub use error::{Error, InputProblem};
pub use fault::Fault;
pub use fuseline_program::{Dim, FormatError, ScalarType};
pub use kernels::{KernelError, Kernels};
pub use mlx::MlxError;
pub use ops::CacheOptions;
pub use program::{FixedInput, Input, InputKind, Options, Output, Program, StateInfo};
pub use session::Session;
pub use tensor::{Element, Tensor, TensorError};
pub use value::Value;
