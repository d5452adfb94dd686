//! `fuseline opt`.

use super::output;
use crate::error::Error;
use crate::workbench::{FORMATS, diff::diff, emitted, snippet};
use clap::builder::PossibleValuesParser;
use fuseline_ir::Graph;
use fuseline_ir::text::{ValueNames, nearest, parse_named};
use fuseline_passes::explain::explain;
use fuseline_passes::{Level, PASSES, PassCx, Target, run_passes};
use fuseline_program::command::paths::Paths;
use fuseline_program::words::counted;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One or more graphs in the text form (`-` for standard input)
    #[arg(required_unless_present_any = ["list", "diff"])]
    case: Option<PathBuf>,
    /// The passes to run, in order, separated by commas; default: those of -O2
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    passes: Option<Vec<String>>,
    /// Run only the first N of them
    #[arg(long, value_name = "N")]
    stop_after: Option<usize>,
    /// Print the graph after that pass, or after `all` of them
    #[arg(long, value_name = "PASS", value_parser = pass_or_all())]
    print_after: Option<String>,
    /// What differs, by value. With a case, A and B are its stages: `input`, a pass' name, or how many passes have run; without one, two files in the text form
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    diff: Option<Vec<String>>,
    /// Print the result in that form: `ir` text, `dot` for Graphviz, `svg`, or `html` for a browser, with search and details
    #[arg(long, value_name = "FORM", value_parser = PossibleValuesParser::new(FORMATS), conflicts_with_all = ["diff", "print_after", "explain"])]
    emit: Option<String>,
    /// Where `--emit` goes
    #[arg(long, value_name = "FILE", default_value = "-", requires = "emit")]
    emit_to: PathBuf,
    /// What became of that value of the case, pass by pass: the rules in order, with the terms between. Saturation then takes the graph whole, also where it would solve layers that are alike as one
    #[arg(long, value_name = "VALUE", conflicts_with_all = ["diff", "print_after"])]
    explain: Option<String>,
    #[command(flatten)]
    machine: super::machine::Machine,
    /// List the passes and what they do
    #[arg(long)]
    list: bool,
}

/// What `--print-after` takes.
pub fn pass_or_all() -> PossibleValuesParser {
    let names = PASSES.iter().map(|p| p.name);
    PossibleValuesParser::new(["import", "all"].into_iter().chain(names))
}

pub fn run(args: &Args) -> Result<(), Error> {
    if args.list {
        let rows: Vec<String> = PASSES
            .iter()
            .map(|p| format!("{:<12} {}\n", p.name, p.doc))
            .collect();
        return output::print(&rows.concat());
    }
    if args.emit.is_some() {
        let case = args.case.iter().filter(|case| *case != Path::new("-"));
        let paths = Paths::new().reads("the case", case);
        let paths = paths.reads("--cost", args.machine.cost_file());
        paths.writes_text("--emit-to", &args.emit_to).check()?;
    }
    let text = match (&args.case, args.diff.as_deref()) {
        (None, Some([a, b])) => diff_files(Path::new(a), Path::new(b))?,
        (Some(case), ends) => {
            let passes = passes(args)?;
            check_pass(args.print_after.as_deref(), &passes)?;
            let mut text = String::new();
            let graphs = read(case)?;
            if args.machine.is_open() {
                output::warn("for metal, as neither --target nor --cost is given\n");
            }
            if let Some(name) = &args.explain {
                return output::print(&explained(&graphs, name, &passes, &cx(args)?)?);
            }
            let mut results = Vec::new();
            for (graph, _) in &graphs {
                let stages = Stages::run(graph, &passes, &cx(args)?)?;
                text.push_str(&match ends {
                    Some([a, b]) => diff(stages.find(a)?, stages.find(b)?).to_string(),
                    _ => stages.print(args.print_after.as_deref()),
                });
                results.extend(stages.graphs.into_iter().next_back().map(|(_, g)| g));
            }
            if let Some(format) = &args.emit {
                let text = emitted(&results, format, &cx(args)?)?;
                return output::write_file(&args.emit_to, &text);
            }
            text
        }
        _ => {
            return Err(Error::Usage(
                "a case is needed: see `fuseline opt --help`".into(),
            ));
        }
    };
    output::print(&text)
}

/// The context. Without a target it is the same everywhere, as the texts of passes shall not depend on who reads them.
fn cx(args: &Args) -> Result<PassCx, Error> {
    args.machine.cx(Target::Metal)
}

/// A pass must run to have something after it.
fn check_pass(name: Option<&str>, passes: &[&str]) -> Result<(), Error> {
    match name {
        Some(name) if !["import", "all"].contains(&name) && !passes.contains(&name) => {
            Err(Error::Usage(format!(
                "--print-after {name}: that pass is not among those that run"
            )))
        }
        _ => Ok(()),
    }
}

/// The passes to run, by name.
fn passes(args: &Args) -> Result<Vec<&'static str>, Error> {
    let names: Vec<&str> = match &args.passes {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => Level::O2.passes().to_vec(),
    };
    let known = |name: &str| {
        let row = PASSES.iter().find(|p| p.name == name);
        row.map(|p| p.name).ok_or_else(|| unknown_pass(name))
    };
    let mut names = names
        .into_iter()
        .map(known)
        .collect::<Result<Vec<_>, _>>()?;
    names.truncate(args.stop_after.unwrap_or(names.len()));
    Ok(names)
}

fn unknown_pass(name: &str) -> Error {
    let names = || PASSES.iter().map(|p| p.name);
    let meant =
        nearest(name, names()).map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
    let all = names().collect::<Vec<_>>().join(", ");
    Error::Usage(format!(
        "no pass `{name}`{meant} (there are {all}; --list says what they do)"
    ))
}

/// The graphs of a text, verified, each with what its values are called there.
fn read(case: &Path) -> Result<Vec<(Graph, ValueNames)>, Error> {
    let path = if case == Path::new("-") {
        Path::new("/dev/stdin")
    } else {
        case
    };
    let text = output::read_file(path)?;
    let malformed = |reason: String| Error::Malformed {
        path: case.to_path_buf(),
        reason,
    };
    let graphs =
        parse_named(&text).map_err(|e| malformed(format!("{e}\n{}", snippet(&text, &e))))?;
    for (graph, _) in &graphs {
        graph.verify().map_err(|e| malformed(e.to_string()))?;
    }
    Ok(graphs)
}

fn diff_files(a: &Path, b: &Path) -> Result<String, Error> {
    let (before, after) = (read(a)?, read(b)?);
    if before.len() != after.len() {
        let (a, b) = (a.display(), b.display());
        let counts = format!(
            "{a} holds {}, {b} {}",
            counted(before.len(), "graph"),
            after.len()
        );
        return Err(Error::Usage(counts));
    }
    let pairs = before.iter().zip(&after);
    Ok(pairs
        .map(|((a, _), (b, _))| diff(a, b).to_string())
        .collect())
}

/// What became of the value called `name` in each graph that has one.
fn explained(
    graphs: &[(Graph, ValueNames)],
    name: &str,
    passes: &[&'static str],
    cx: &PassCx,
) -> Result<String, Error> {
    let name = name.trim_start_matches('%');
    let mut texts = Vec::new();
    for (graph, names) in graphs {
        if let Some(value) = names.get(name) {
            let called = names.iter().map(|(name, v)| (*v, name.clone())).collect();
            texts.push(explain(graph, passes, cx, *value, &called)?);
        }
    }
    if texts.is_empty() {
        let all = graphs.iter().flat_map(|(_, names)| names.keys());
        let near = nearest(name, all.map(String::as_str));
        let meant = near.map_or_else(String::new, |n| format!("; did you mean `%{n}`?"));
        return Err(Error::Usage(format!("no value `%{name}`{meant}")));
    }
    Ok(texts.join("\n"))
}

/// A graph after each pass.
struct Stages {
    /// The pass' name and the graph after it; the first is `input`.
    graphs: Vec<(&'static str, Graph)>,
    rules: Vec<String>,
}

impl Stages {
    fn run(graph: &Graph, passes: &[&'static str], cx: &PassCx) -> Result<Stages, Error> {
        let mut graphs = vec![("input", graph.clone())];
        let (_, report) = run_passes(graph, passes, cx, &mut |pass, g| {
            graphs.push((pass, g.clone()));
        })?;
        let fired = report.rules.iter();
        let rules = fired.map(|(rule, times)| format!("// fired {times} times: {rule}\n"));
        let notes = report.notes.iter().map(|note| format!("// {note}\n"));
        Ok(Stages {
            rules: rules.chain(notes).collect(),
            graphs,
        })
    }

    fn print(&self, after: Option<&str>) -> String {
        let mut text = String::new();
        let Some(after) = after else {
            let last = self.graphs.last().map(|(_, g)| g.to_string());
            return self.rules.concat() + &last.unwrap_or_default();
        };
        for (number, (pass, graph)) in self.graphs.iter().enumerate() {
            // What stands before the first pass is what was imported.
            let pass = if number == 0 { "import" } else { pass };
            if after == pass || (after == "all" && number > 0) {
                text.push_str(&format!("// {number}: after {pass}\n{graph}\n"));
            }
        }
        text + &self.rules.concat()
    }

    /// The graph at a stage: `input`, how many passes have run, a pass' name, or that with `.2` for its second run.
    fn find(&self, stage: &str) -> Result<&Graph, Error> {
        if let Ok(number) = stage.parse::<usize>()
            && let Some((_, graph)) = self.graphs.get(number)
        {
            return Ok(graph);
        }
        let (name, run) = stage.rsplit_once('.').unwrap_or((stage, "1"));
        let run = run.parse::<usize>().unwrap_or(0);
        let mut found = self.graphs.iter().filter(|(pass, _)| *pass == name);
        let graph = run.checked_sub(1).and_then(|n| found.nth(n));
        graph.map(|(_, g)| g).ok_or_else(|| {
            let names: Vec<String> = self
                .graphs
                .iter()
                .enumerate()
                .map(|(number, (pass, _))| format!("{number} {pass}"))
                .collect();
            Error::Usage(format!(
                "no stage `{stage}`; there are {}",
                names.join(", ")
            ))
        })
    }
}
