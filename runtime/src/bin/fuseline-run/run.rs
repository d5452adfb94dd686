//! `fuseline-run run`: inputs from a file, outputs to a file.

use std::path::PathBuf;

use clap::Args;
use fuseline_runtime::{Program, Tensor, Value};

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
    /// The seed of a program that draws random numbers, where the input file leaves it out.
    ///
    /// It is the program's last input, the integer `random_seed`. Call n of a sequence gets the seed plus n.
    /// Without it, 0.
    #[arg(long, value_parser = clap::value_parser!(u32).range(..1 << 30))]
    seed: Option<u32>,
}

/// The name that the compiler gives the input for a seed.
const SEED: &str = "random_seed";

/// Whether the method draws random numbers.
fn takes_seed(program: &Program, method: &str) -> Result<bool, Failure> {
    let inputs = program.inputs(method)?;
    Ok(inputs.last().is_some_and(|input| input.name == SEED))
}

/// Whether the method has an input for a seed that the inputs leave out.
fn lacks_seed(program: &Program, method: &str, inputs: &[Value]) -> Result<bool, Failure> {
    let wanted = program.inputs(method)?;
    let all = wanted.len() + program.fixed_inputs(method)?.len();
    let lacks_one = [wanted.len(), all].contains(&(inputs.len() + 1));
    Ok(lacks_one && takes_seed(program, method)?)
}

/// Runs the calls of a file.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let paths = args.model.paths().reads("--inputs", [&args.inputs]);
    paths.writes("--outputs", &args.outputs).check()?;
    let program = args.model.open()?;
    if args.seed.is_some() && !takes_seed(&program, &args.model.method)? {
        let text = format!("--seed: `{}` draws no random numbers", args.model.method);
        return Err(Failure::usage(text));
    }
    let mut file = read_calls(&args.inputs, Side::Input, args.model.max_memory)?;
    if file.calls.is_empty() {
        // A method without inputs needs no names in the file.
        file.calls.insert(None, Vec::new());
    }
    let mut output = OutputFile::with(file.entries);
    let mut sequence = program.session()?;
    for (call, inputs) in &mut file.calls {
        if lacks_seed(&program, &args.model.method, inputs)? {
            let seed = i64::from(args.seed.unwrap_or(0)) + i64::from(call.unwrap_or(0));
            inputs.push(Tensor::from_scalar(seed)?.into());
        }
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
    let bytes = output.bytes()?;
    crate::write_whole(&args.outputs, &bytes).map_err(|error| Failure::file(&args.outputs, &error))
}
