//! `fuseline compile`.

use super::output::{self, Progress};
use crate::compile::{Compiled, Options, compile_method, program, write};
use crate::error::Error;
use crate::import::HostOps;
use crate::quantize::{Map, MapError, Plan, Scheme};
use fuseline_ir::DType;
use fuseline_passes::{Level, PassCx, Target};
use fuseline_program::command::parse_bytes;
use fuseline_program::command::paths::Paths;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The exported model; it becomes the method `forward`
    #[arg(required_unless_present = "methods", conflicts_with = "methods")]
    model: Option<PathBuf>,
    /// Put a model into the file as the method NAME; may be given several times. Weights that the models share are stored once; state is each method's own unless --share-state is given
    #[arg(long = "method", id = "methods", value_name = "NAME=MODEL", value_parser = method)]
    methods: Vec<(String, PathBuf)>,
    /// Make states of the same name in several methods one state: what one method leaves there, the others find (a key/value cache that one method fills and another one extends).
    /// Otherwise each method has its own. Runtimes other than fuseline-run keep them apart
    #[arg(long, requires = "methods")]
    share_state: bool,
    /// Where to write the program
    #[arg(short, long)]
    output: PathBuf,
    #[command(flatten)]
    machine: super::machine::Machine,
    /// How hard to optimise: 0 only what the target needs, 1 canonical form and folding, 2 equality saturation as well
    #[arg(short = 'O', value_name = "LEVEL", default_value = "2", value_parser = clap::builder::PossibleValuesParser::new(["0", "1", "2"]))]
    level: String,
    /// Compute in another float dtype than the model's own: weights, states and what is computed from them get it; inputs and results keep theirs, and so do positions, masks and sums of f32 models
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["bf16", "f16", "f32"]))]
    dtype: Option<String>,
    /// Quantise the weights of products and embeddings: affineBgG with B bits (2, 3, 4, 5, 6, 8) in groups of G (32, 64, 128), such as affine4g64; mxfp4, mxfp8 or nvfp4
    #[arg(long, value_name = "SCHEME")]
    quantize: Option<Scheme>,
    /// Exceptions to `--quantize`: lines `PATTERN = SCHEME` or `PATTERN = none`, the last that fits a weight's or its module's path decides; `*` within a part of the path, `**` across parts
    #[arg(long, value_name = "FILE")]
    quantize_map: Option<PathBuf>,
    /// Search for scales that fit better than MLX's own
    #[arg(long)]
    quantize_search: bool,
    /// Write a report as JSON (`-` for standard output)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print something beside the program: `ir` the optimised graph, `imported` the graph as imported, `program` the instructions; `dot`, `svg`, `html` a picture of the optimised graph
    #[arg(long, value_name = "WHAT", value_parser = clap::builder::PossibleValuesParser::new(["ir", "imported", "program", "dot", "svg", "html"]))]
    emit: Option<String>,
    /// Where `--emit` goes
    #[arg(long, value_name = "FILE", default_value = "-", requires = "emit")]
    emit_to: PathBuf,
    /// Print the graph after that pass, or after `all` of them, to standard error
    #[arg(long, value_name = "PASS", value_parser = super::opt::pass_or_all())]
    print_after: Option<String>,
    /// Leave an operator to a kernel of the program that runs the model: its name as in the export, `*` for any characters (`aten.topk.*`), or its schema
    /// (`mylib::foo(Tensor x, int k=2) -> Tensor`), from which arguments left at their defaults are filled in; may be given several times. Operators of libraries that are not
    /// PyTorch's own go there without being named
    #[arg(long = "host", value_name = "OP")]
    host: Vec<String>,
    /// The most memory to take, mapped files not counted: a number of bytes, or of kB, MB, GB (1000 each) or K, M, G (1024 each). What needs more ends with exit code 8
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_memory: Option<u64>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// The target that this machine would be.
fn default_target() -> Target {
    if cfg!(target_os = "macos") {
        Target::Metal
    } else {
        Target::Cpu
    }
}

/// Reads `NAME=MODEL`.
fn method(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_string(), path.into()))
        }
        _ => Err("expected NAME=MODEL.pt2".to_string()),
    }
}

/// What the options say of quantisation.
fn plan(args: &Args) -> Result<Plan, Error> {
    let mut plan = Plan {
        scheme: args.quantize,
        search: args.quantize_search,
        ..Plan::default()
    };
    if let Some(path) = &args.quantize_map {
        let map = output::read_file(path)?.parse::<Map>();
        plan.map = map.map_err(|error| in_map(path, &error))?;
    }
    if plan.search && plan.is_empty() {
        return Err(Error::Usage(
            "--quantize-search needs --quantize or --quantize-map".to_owned(),
        ));
    }
    Ok(plan)
}

fn in_map(path: &Path, error: &MapError) -> Error {
    Error::Malformed {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

/// Every pattern must fit a weight of one of the models.
fn check_patterns(args: &Args, plan: &Plan, methods: &[Compiled]) -> Result<(), Error> {
    let weights = methods.iter().flat_map(|m| m.names.values());
    match (
        &args.quantize_map,
        plan.map.unused(weights.map(Vec::as_slice)),
    ) {
        (Some(path), Some(error)) => Err(in_map(path, &error)),
        _ => Ok(()),
    }
}

/// Every operator that is sent to the host must be one of the models'.
fn check_host(host: &HostOps, methods: &[Compiled]) -> Result<(), Error> {
    let operators = methods.iter().flat_map(|m| &m.operators);
    match host.unused(operators.map(String::as_str)).first() {
        None => Ok(()),
        Some(name) => Err(Error::Usage(format!(
            "--host {name}: no operator of the model fits (`fuseline inspect` lists them)"
        ))),
    }
}

/// A pass must run to have something after it.
fn check_pass(name: Option<&str>, level: Level) -> Result<(), Error> {
    match name {
        Some(name) if !["import", "all"].contains(&name) && !level.passes().contains(&name) => {
            Err(Error::Usage(format!(
                "--print-after {name}: that pass does not run at -{level}"
            )))
        }
        _ => Ok(()),
    }
}

/// Looks at the files that are named before any is read or written.
fn check_paths(args: &Args) -> Result<(), Error> {
    let models = args.methods.iter().map(|(_, path)| path);
    let mut paths = Paths::new()
        .reads("the model", args.model.iter().chain(models))
        .reads("--quantize-map", &args.quantize_map)
        .reads("--cost", args.machine.cost_file())
        .writes("--output", &args.output);
    if let Some(report) = &args.report {
        paths = paths.writes_text("--report", report);
    }
    if args.emit.is_some() {
        paths = paths.writes_text("--emit-to", &args.emit_to);
    }
    Ok(paths.check()?)
}

pub fn run(args: &Args) -> Result<(), Error> {
    check_paths(args)?;
    if let Some(bytes) = args.max_memory {
        super::memory::limit(bytes);
    }
    let mut models = args.methods.clone();
    models.extend(
        args.model
            .iter()
            .map(|path| ("forward".to_string(), path.clone())),
    );
    let repeated = models
        .iter()
        .enumerate()
        .find(|(i, (name, _))| models[..*i].iter().any(|(n, _)| n == name));
    if let Some((_, (name, _))) = repeated {
        return Err(Error::Usage(format!("the method `{name}` is given twice")));
    }
    let level = args.level.parse::<Level>().map_err(Error::Usage)?;
    let cx = PassCx {
        shares_weights: models.len() > 1,
        ..args.machine.cx(default_target())?
    };
    check_pass(args.print_after.as_deref(), level)?;
    let host = HostOps::new(&args.host).map_err(Error::Usage)?;
    let plan = plan(args)?;
    let mut imported = String::new();
    let mut after = String::new();
    let mut progress = Progress::new(|pass, graph| {
        if pass == "import" && args.emit.as_deref() == Some("imported") {
            imported.push_str(&graph.to_string());
        }
        if args
            .print_after
            .as_deref()
            .is_some_and(|p| p == "all" || p == pass)
        {
            after.push_str(&format!("// after {pass}\n{graph}\n"));
        }
    });
    let mut methods = Vec::new();
    let result = models.iter().try_for_each(|(name, path)| {
        let options = Options {
            input: path.clone(),
            level,
            cx: cx.clone(),
            host: host.clone(),
            dtype: args.dtype.as_deref().and_then(DType::from_name),
            quantize: plan.clone(),
        };
        let mut compiled = compile_method(name, &options, &mut progress)?;
        compiled.share_state = args.share_state;
        methods.push(compiled);
        Ok(())
    });
    let result = result.and_then(|()| check_patterns(args, &plan, &methods));
    let result = result.and_then(|()| check_host(&host, &methods));
    let result = result.and_then(|()| write(&methods, &args.output, &mut progress));
    progress.done();
    output::warn(&after);
    let report = result?;
    match args.emit.as_deref() {
        Some("imported") => output::write_file(&args.emit_to, &imported)?,
        Some("program") => {
            let text = super::inspect::describe_program(&program(&methods)?);
            output::write_file(&args.emit_to, &text)?;
        }
        Some(format) => {
            let graphs: Vec<_> = methods.iter().map(|m| m.graph.clone()).collect();
            let text = crate::workbench::emitted(&graphs, format, &cx)?;
            output::write_file(&args.emit_to, &text)?;
        }
        None => {}
    }
    if let Some(path) = &args.report {
        let json = super::inspect::json("fuseline-report", &report, path)?;
        output::write_file(path, &json)?;
    }
    if !args.quiet {
        output::warn(&report.to_string());
    }
    Ok(())
}
