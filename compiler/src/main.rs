//! The command `fuseline`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: fuseline_compiler::cli::Counting = fuseline_compiler::cli::Counting;

fn main() -> ExitCode {
    fuseline_compiler::cli::main()
}
