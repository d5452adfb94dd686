//! `fuseline-run run`: inputs from a file, outputs to a file.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::tensors::{OutputFile, Side, output_name, read_calls};

/// What `run` takes.
///
/// The input file holds `in0, in1, …` in the order of the method's inputs, and the output file receives `out0, out1, …`.
/// For a sequence of calls on one session it holds `call0_in0, …, call1_in0, …`, which run in order and give
/// `call0_out0, …`; they take precedence where both kinds stand in a file.
#[derive(Args)]
#[command(verbatim_doc_comment)]
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
    let file = read_calls(&args.inputs, Side::Input)?;
    let mut session = program.session()?;
    let mut output = OutputFile::default();
    let mut calls = file.calls;
    if calls.is_empty() {
        // A method without inputs needs no names in the file.
        calls.insert(0, Vec::new());
    }
    for (call, inputs) in calls {
        let number = file.numbered.then_some(call);
        let results = session.run(&args.model.method, &inputs).map_err(|error| {
            let failure = Failure::from(error);
            match number {
                Some(call) => failure.at(&format!("call {call}")),
                None => failure,
            }
        });
        for (position, value) in results?.iter().enumerate() {
            output.add(output_name(number, position), value)?;
        }
    }
    output.write(&args.outputs)
}
