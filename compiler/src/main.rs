//! The command `fuseline`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fuseline_compiler::cli::main()
}
