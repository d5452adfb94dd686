//! `fuseline-run run`: inputs from a file, outputs to a file.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::tensors::{OutputFile, Side, output_name, read_calls};

/// What `run` takes.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    model: crate::ModelArgs,
    /// The inputs (.safetensors).
    #[arg(long)]
    inputs: PathBuf,
    /// Where the outputs go (.safetensors).
    #[arg(long)]
    outputs: PathBuf,
}

/// Runs the calls of a file.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let program = args.model.open()?;
    let mut file = read_calls(&args.inputs, Side::Input)?;
    if file.calls.is_empty() {
        // A method without inputs needs no names in the file.
        file.calls.insert(None, Vec::new());
    }
    let mut output = OutputFile::with(file.entries);
    let mut sequence = program.session()?;
    for (call, inputs) in &file.calls {
        let results = match call {
            Some(number) => sequence
                .run(&args.model.method, inputs)
                .map_err(|error| Failure::from(error).at(&format!("call {number}")))?,
            None => program.session()?.run(&args.model.method, inputs)?,
        };
        for (position, value) in results.iter().enumerate() {
            output.add(output_name(*call, position), value)?;
        }
    }
    output.write(&args.outputs)
}
