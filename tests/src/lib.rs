//! What the suites share: where things are, the recorded cases, and how results are compared.
//!
//! A *case* is a folder under `tests/fixtures` with exported programs, inputs and eager PyTorch's outputs ([`cases`]). A
//! suite takes every case through one road (reference evaluation, the compiled program on MLX, …) and compares with
//! one rule ([`compare`]); what isn't expected to pass stands in the suite's list of exceptions, each with its reason.

pub mod archive;
pub mod bins;
pub mod cases;
pub mod compare;
pub mod roads;
pub mod workspace;

/// The result of a test or a helper: any error fails the test, with its message.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
