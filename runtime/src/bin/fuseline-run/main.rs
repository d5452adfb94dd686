//! The command `fuseline-run`: runs compiled programs.

mod bench;
mod calibrate;
mod decoder;
mod failure;
mod generate;
mod perplexity;
mod run;
mod tensors;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use fuseline_program::command::paths::Paths;
use fuseline_program::command::{self, exit, parse_bytes};
use fuseline_program::interrupt::tidy_up_on_signals;
use fuseline_program::replace::Replacement;
use fuseline_runtime::{CacheOptions, Device, Options, Program, ScalarType};

use failure::Failure;

/// Runs programs that `fuseline compile` has made, and ExecuTorch's own for its MLX delegate.
#[derive(Parser)]
#[command(name = "fuseline-run", version, after_help = exit::help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a method on inputs from a safetensors file, and write its outputs to another.
    ///
    /// The input file holds `in0, in1, …` in the order of the method's inputs; the output file receives
    /// `out0, out1, …`. For a sequence of calls on one session it holds `call0_in0, …, call1_in0, …`, which run in
    /// order and give `call0_out0, …`. Where both kinds stand in a file, the unnumbered call runs in a session of its
    /// own. The output file repeats the inputs, so that it is a full record.
    Run(run::RunArgs),
    /// Continue a text with a language model.
    ///
    /// Each next token is the most likely one. The text goes to standard output as it comes; measurements and
    /// comparisons go to standard error.
    Generate(generate::GenerateArgs),
    /// Measure time to first token and tokens per second, or the time of a call.
    ///
    /// For a decoder with a cache: the time to the first token of a prompt, and tokens per second after it. For any
    /// other program: the time of one call on zeros. Medians over the repetitions, after one that is not counted.
    Bench(bench::BenchArgs),
    /// Measure what things cost on this machine.
    ///
    /// Writes a table of times and rates that `fuseline compile --cost` and `fuseline opt --cost` take in the place of
    /// the target's own.
    Calibrate(calibrate::CalibrateArgs),
    /// Say how well a language model predicts a text.
    ///
    /// The text is cut into pieces that are predicted each from an empty cache; printed is the exponential of the mean of −ln p over all tokens.
    Perplexity(perplexity::PerplexityArgs),
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
    /// A file with weights that the program does not hold itself (.ptd); may be given several times.
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// The most memory that weights, state and results may take: a number of bytes, or of kB, MB, GB (1000 each) or K, M, G (1024 each). What needs more ends with exit code 8.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_memory: Option<u64>,
    /// The most steps (instructions, and slots that they name) that branches and loops may take in one call. Without it, 16,777,216.
    #[arg(long, value_name = "N")]
    max_steps: Option<u64>,
    /// For programs whose key/value caches are kept outside of them: the most positions. Without it, what the program says, or no limit.
    #[arg(long, value_name = "N")]
    kv_capacity: Option<u32>,
    /// The element type that those caches are kept in. Without it, the one that keys and values come in.
    #[arg(long, value_name = "TYPE", value_parser = element_type)]
    kv_dtype: Option<ScalarType>,
}

fn element_type(name: &str) -> Result<ScalarType, String> {
    ScalarType::from_name(name).ok_or_else(|| {
        let names: Vec<_> = ScalarType::ALL.iter().map(ToString::to_string).collect();
        format!("the types are {}", names.join(", "))
    })
}

impl ModelArgs {
    /// The files that are read.
    fn paths(&self) -> Paths<'_> {
        let paths = Paths::new().reads("the program", [&self.model]);
        paths.reads("--data", &self.data)
    }

    fn open(&self) -> Result<Program, Failure> {
        let options = Options {
            device: self.device,
            data: self.data.clone(),
            max_memory: self.max_memory,
            max_steps: self.max_steps,
            cache: CacheOptions {
                capacity: self.kv_capacity,
                dtype: self.kv_dtype,
                windows: None,
            },
            ..Options::default()
        };
        let program = Program::open_with(&self.model, &options)?;
        let asked = [
            ("--kv-capacity", self.kv_capacity.is_some()),
            ("--kv-dtype", self.kv_dtype.is_some()),
        ];
        match asked.into_iter().find(|(_, given)| *given) {
            Some((option, _)) if !program.has_outside_caches() => {
                let path = self.model.display();
                let text = format!("{option}: {path} keeps no key/value caches outside of it");
                Err(Failure::usage(text))
            }
            _ => Ok(program),
        }
    }
}

fn main() {
    let cli = Cli::parse();
    tidy_up_on_signals();
    let done = catch_unwind(AssertUnwindSafe(|| match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Generate(args) => generate::generate(args),
        Command::Bench(args) => bench::bench(args),
        Command::Calibrate(args) => calibrate::calibrate(args),
        Command::Perplexity(args) => perplexity::perplexity(args),
    }));
    let code = match done {
        Ok(Ok(())) => exit::SUCCESS,
        Ok(Err(failure)) => failure.report(),
        // The panic's message is on standard error already.
        Err(_) => Failure::bug("this is a bug in fuseline-run: please report it").report(),
    };
    fuseline_runtime::leave(code)
}

/// Reads a text whole.
fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = command::read_whole(path, command::MOST_TEXT);
    bytes.map_err(|error| Failure::file(path, &error))
}

/// Writes beside the file and renames, so that a failure leaves what was there. What is no plain file is written to directly.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return std::fs::write(path, bytes);
    }
    let mut file = Replacement::of(path)?;
    file.write_all(bytes)?;
    file.complete()
}
