//! The command `fuseline`: `compile`, `inspect`, `diff`, `opt`, and whatever `fuseline-…` is on the path.

mod compile;
mod diff;
mod inspect;
mod machine;
mod memory;
mod opt;
mod output;

use crate::error::Error;
use clap::{Parser, Subcommand};
use fuseline_program::command::exit;
use fuseline_program::interrupt::tidy_up_on_signals;
pub use memory::Counting;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

/// Ahead-of-time compiler from PyTorch models exported with torch.export (.pt2) to fused MLX programs (.pte).
#[derive(Debug, Parser)]
#[command(name = "fuseline", version, after_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Compile a .pt2 to a .pte
    Compile(compile::Args),
    /// Say what a .pt2, a .pte or a .ptd holds, ours or ExecuTorch's
    Inspect(inspect::Args),
    /// Say what two .pte programs do not have in common
    Diff(diff::Args),
    /// Run passes on the text form of a graph, for people who write passes
    Opt(opt::Args),
    /// Any other command: `fuseline NAME …` runs `fuseline-NAME …` (`fuseline run …` runs `fuseline-run run …`)
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

/// What stands below the list of commands.
fn after_help() -> String {
    let commands = RUNTIME.join(", ");
    format!(
        "`fuseline-run`'s commands ({commands}) are found here too: `fuseline run …` is `fuseline-run run …`. Any other `fuseline NAME …` runs `fuseline-NAME …`, beside fuseline or on the path.\n\n{}",
        exit::help()
    )
}

/// The clap definition, for tests that compare the documented help with the real one.
pub fn definition() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// A write beyond the file size limit shall be an error like a full disk, not the end of the process with half a file left behind.
#[cfg(unix)]
fn report_file_size_limit() {
    // SAFETY: called before any other thread exists; ignoring a signal runs no code in a handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

#[cfg(not(unix))]
fn report_file_size_limit() {}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    report_file_size_limit();
    let command = Cli::parse().command;
    // The message of a panic is on standard error already.
    let code = catch_unwind(AssertUnwindSafe(|| run(command)));
    code.unwrap_or(ExitCode::from(exit::BUG))
}

fn run(command: Sub) -> ExitCode {
    let result = match command {
        Sub::Compile(args) => {
            tidy_up_on_signals();
            compile::run(&args)
        }
        Sub::Inspect(args) => inspect::run(&args),
        Sub::Diff(args) => match diff::run(&args) {
            Ok(false) => return ExitCode::from(exit::DIFFERENT),
            other => other.map(drop),
        },
        Sub::Opt(args) => opt::run(&args),
        Sub::External(args) => return external(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// The subcommands of `fuseline-run`, which `fuseline` finds under their own names.
const RUNTIME: &[&str] = &["run", "generate", "bench", "calibrate", "perplexity"];

/// Runs `fuseline-run SUB …` or `fuseline-NAME …`, beside this executable or on the path.
fn external(args: &[OsString]) -> ExitCode {
    let Some((name, rest)) = args.split_first() else {
        return ExitCode::from(exit::USAGE);
    };
    let runtime = RUNTIME.iter().any(|r| name == *r);
    let program = match (runtime, name.to_str()) {
        (true, _) => "fuseline-run".to_string(),
        (false, Some(name)) => format!("fuseline-{name}"),
        (false, None) => String::new(),
    };
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join(&program)))
        .filter(|path| path.is_file());
    let path = beside.unwrap_or_else(|| PathBuf::from(&program));
    let mut command = Command::new(&path);
    if runtime {
        command.arg(name);
    }
    match command.args(rest).status() {
        Ok(status) => ended(status),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let error = Error::Usage(format!(
                "no command `{}`: `{program}` is neither beside fuseline nor on the path",
                name.to_string_lossy()
            ));
            output::error(&error);
            ExitCode::from(exit::USAGE)
        }
        Err(e) => {
            output::error(&Error::File {
                path,
                reason: e.to_string(),
            });
            ExitCode::from(exit::FILE)
        }
    }
}

/// The code of a command that has ended; as a shell says it where a signal was the end.
fn ended(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None;
    let code = status.code().or_else(|| signal?.checked_add(128));
    let code = code.and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(exit::BUG))
}
