//! From an exported model to a compiled program.
//!
//! [`pt2`] reads the archive that `torch.export.save` writes (it is mapped and validated, never unpickled), [`import`] turns its graph into the IR, [`quantize`] its weights into few
//! bits where that is asked for, the passes of `fuseline-passes` make it a better graph, [`emit`] lowers it to instructions, and `fuseline-program` writes the file.
//! [`compile`](compile::compile) is the whole road; [`cli`] is the command `fuseline` on top of it, [`workbench`] what it shows to people who write passes. Nothing in this crate needs MLX or Python.

pub mod cli;
pub mod compile;
pub mod convert;
pub mod cost_file;
pub mod emit;
pub mod error;
pub mod fixed;
pub mod import;
pub mod pt2;
pub mod quantize;
pub mod report;
pub mod workbench;

pub use compile::{Compiled, Observer, Options, Quiet, compile};
pub use error::Error;
pub use report::Report;
