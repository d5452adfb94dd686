//! The tests of the program crate: the table, files, writing, validation.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as the tests do"
)]

mod alignment;
mod common;
mod executorch;
mod files;
mod instructions;
mod newer;
mod validate;
mod write;
