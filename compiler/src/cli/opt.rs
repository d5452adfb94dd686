//! `fuseline opt`.

use super::output;
use crate::error::Error;
use fuseline_passes::{Level, PASSES, PassCx, Target, run_passes};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One or more graphs in the text form (`-` for standard input)
    #[arg(required_unless_present = "list")]
    case: Option<PathBuf>,
    /// The passes to run, in order, separated by commas; default: those of -O2
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    passes: Option<Vec<String>>,
    /// Run only the first N of them
    #[arg(long, value_name = "N")]
    stop_after: Option<usize>,
    /// Print the graph after every pass
    #[arg(long)]
    print_after_all: bool,
    /// The machine whose costs decide
    #[arg(long, default_value = "metal", value_parser = clap::builder::PossibleValuesParser::new(["metal", "cuda", "cpu"]))]
    target: String,
    /// List the passes and what they do
    #[arg(long)]
    list: bool,
}

pub fn run(args: &Args) -> Result<(), Error> {
    if args.list {
        let rows: Vec<String> = PASSES
            .iter()
            .map(|p| format!("{:<12} {}\n", p.name, p.doc))
            .collect();
        return output::print(&rows.concat());
    }
    let case = args.case.clone().unwrap_or_else(|| PathBuf::from("-"));
    let path = if case == std::path::Path::new("-") {
        PathBuf::from("/dev/stdin")
    } else {
        case.clone()
    };
    let text = output::read_file(&path)?;
    let malformed = |reason: String| Error::Malformed {
        path: case.clone(),
        reason,
    };
    let graphs = fuseline_ir::text::parse_all(&text).map_err(|e| malformed(e.to_string()))?;
    for graph in &graphs {
        graph.verify().map_err(|e| malformed(e.to_string()))?;
    }
    let default: Vec<String> = Level::O2.passes().iter().map(|p| p.to_string()).collect();
    let names = args.passes.as_ref().unwrap_or(&default);
    if let Some(unknown) = names
        .iter()
        .find(|n| !PASSES.iter().any(|p| p.name == n.as_str()))
    {
        return Err(Error::Usage(format!(
            "no pass `{unknown}`; --list names them"
        )));
    }
    let count = args.stop_after.unwrap_or(names.len()).min(names.len());
    let names: Vec<&str> = names[..count].iter().map(String::as_str).collect();
    let cx = PassCx::new(args.target.parse::<Target>().map_err(Error::Usage)?);
    let mut out = String::new();
    for graph in &graphs {
        let (result, report) = run_passes(graph, &names, &cx, &mut |pass, g| {
            if args.print_after_all {
                out.push_str(&format!("// after {pass}\n{g}\n"));
            }
        })?;
        for (rule, times) in &report.rules {
            out.push_str(&format!("// fired {times} times: {rule}\n"));
        }
        if !args.print_after_all {
            out.push_str(&result.to_string());
        }
    }
    output::print(&out)
}
