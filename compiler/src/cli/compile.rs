//! `fuseline compile`.

use super::output::{self, Progress};
use crate::compile::{Options, compile};
use crate::error::Error;
use fuseline_passes::{Level, PassCx, Target};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The exported model
    model: PathBuf,
    /// Where to write the program
    #[arg(short, long)]
    output: PathBuf,
    /// The machine to choose instructions for; the file runs on all of them
    #[arg(long, default_value_t = default_target(), value_parser = clap::builder::PossibleValuesParser::new(["metal", "cuda", "cpu"]))]
    target: String,
    /// How hard to optimise: 0 only what the target needs, 1 canonical form and folding, 2 equality saturation as well
    #[arg(short = 'O', value_name = "LEVEL", default_value = "2", value_parser = clap::builder::PossibleValuesParser::new(["0", "1", "2"]))]
    level: String,
    /// Write a report as JSON (`-` for standard output)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print something beside the program: `ir` the optimised graph, `imported` the graph as imported, `program` the instructions
    #[arg(long, value_name = "WHAT", value_parser = clap::builder::PossibleValuesParser::new(["ir", "imported", "program"]))]
    emit: Option<String>,
    /// Where `--emit` goes
    #[arg(long, value_name = "FILE", default_value = "-", requires = "emit")]
    emit_to: PathBuf,
    /// Print the graph after each pass to standard error
    #[arg(long)]
    print_after_all: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// The target that this machine would be.
fn default_target() -> String {
    let target = if cfg!(target_os = "macos") {
        Target::Metal
    } else {
        Target::Cpu
    };
    target.to_string()
}

pub fn run(args: &Args) -> Result<(), Error> {
    let options = Options {
        input: args.model.clone(),
        level: args.level.parse::<Level>().map_err(Error::Usage)?,
        cx: PassCx::new(args.target.parse::<Target>().map_err(Error::Usage)?),
    };
    let mut imported = None;
    let mut after = String::new();
    let mut progress = Progress::new(|pass, graph| {
        if pass == "import" && args.emit.as_deref() == Some("imported") {
            imported = Some(graph.to_string());
        }
        if args.print_after_all {
            after.push_str(&format!("// after {pass}\n{graph}\n"));
        }
    });
    let result = compile(&options, &mut progress).and_then(|compiled| {
        let report = compiled.write(&args.output, &mut progress)?;
        Ok((compiled, report))
    });
    progress.done();
    output::warn(&after);
    let (compiled, report) = result?;
    match args.emit.as_deref() {
        Some("ir") => output::write_file(&args.emit_to, &compiled.graph.to_string())?,
        Some("imported") => output::write_file(&args.emit_to, &imported.unwrap_or_default())?,
        Some("program") => {
            let text = super::inspect::describe_program(&compiled.program()?);
            output::write_file(&args.emit_to, &text)?;
        }
        _ => {}
    }
    if let Some(path) = &args.report {
        let mut json = serde_json::to_string_pretty(&report).map_err(|e| Error::File {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        json.push('\n');
        output::write_file(path, &json)?;
    }
    if !args.quiet {
        output::warn(&report.to_string());
    }
    Ok(())
}
