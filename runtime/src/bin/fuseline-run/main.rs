//! The command `fuseline-run`: runs compiled programs.

mod bench;
mod decoder;
mod failure;
mod generate;
mod run;
mod tensors;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use fuseline_runtime::{Device, Options, Program};

use failure::Failure;

/// Runs programs that `fuseline compile` has made, and ExecuTorch's own for its MLX delegate.
#[derive(Parser)]
#[command(name = "fuseline-run", version, after_help = failure::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a method on inputs from a safetensors file, and write its outputs to another.
    Run(run::RunArgs),
    /// Continue a text with a language model.
    Generate(generate::GenerateArgs),
    /// Measure time to first token and tokens per second, or the time of a call.
    Bench(bench::BenchArgs),
}

/// The program and where it runs.
#[derive(Args)]
struct ModelArgs {
    /// The compiled program (.pte).
    model: PathBuf,
    /// The method to call.
    #[arg(long, default_value = "forward")]
    method: String,
    /// Where to run: cpu or gpu. Without it, where MLX prefers to: the GPU if there is one.
    #[arg(long)]
    device: Option<Device>,
}

impl ModelArgs {
    fn open(&self) -> Result<Program, Failure> {
        let options = Options {
            device: self.device,
            ..Options::default()
        };
        Ok(Program::open_with(&self.model, &options)?)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = catch_unwind(AssertUnwindSafe(|| match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Generate(args) => generate::generate(args),
        Command::Bench(args) => bench::bench(args),
    }));
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        // The panic's message is on standard error already.
        Err(_) => Failure::bug("this is a bug in fuseline-run: please report it").report(),
    }
}

/// Reads a file whole.
fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::file(path, &error))
}
