//! The compile step: archive → IR → passes → program → file.

use crate::emit::EmitError;
use crate::error::Error;
use crate::fixed::{self, Fixed};
use crate::quantize::{self, Quantised};
use crate::report::{self, PassReport, Report, Weights};
use crate::{convert, emit, import, pt2};
use fuseline_ir::{DType, Graph};
use fuseline_passes::partition::{self, Plan};
use fuseline_passes::{Level, PassCx, optimise};
use fuseline_program::container::{Trees, WriteOptions};
use fuseline_program::{Mapping, Program, executorch};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// What to compile, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `.pt2` archive.
    pub input: PathBuf,
    /// How hard to try.
    pub level: Level,
    /// Target, numerics and limits.
    pub cx: PassCx,
    /// Operators that the user sends to the host.
    pub host: import::HostOps,
    /// The float dtype that the model gets; its own where there is none.
    pub dtype: Option<DType>,
    /// What to quantise, after that.
    pub quantize: quantize::Plan,
}

impl Options {
    /// To compile as it is: in its own dtypes, nothing quantised.
    pub fn new(input: impl Into<PathBuf>, level: Level, cx: PassCx) -> Options {
        Options {
            input: input.into(),
            level,
            cx,
            host: import::HostOps::default(),
            dtype: None,
            quantize: quantize::Plan::default(),
        }
    }
}

/// What a person may want to see of a compile while it runs. Every method may do nothing.
pub trait Observer {
    /// A step begins: `read`, `import`, `optimise`, `emit` or `write`.
    fn step(&mut self, name: &'static str) {
        let _ = name;
    }

    /// A pass is done. The first call has the name `import` and the graph as imported.
    fn graph(&mut self, pass: &'static str, graph: &Graph) {
        let _ = (pass, graph);
    }

    /// So many bytes of so many have been written.
    fn written(&mut self, bytes: u64, of: u64) {
        let _ = (bytes, of);
    }
}

/// An observer that looks away.
pub struct Quiet;

impl Observer for Quiet {}

/// A compiled model that has not been written yet. Weights are still in the mapped archive.
pub struct Compiled {
    /// The optimised graph.
    pub graph: Graph,
    /// What runs where.
    pub plan: Plan,
    /// What became of the weights, where the options say that some be quantised.
    pub quantised: Quantised,
    /// The names of the model's trained weights, by constant.
    pub names: quantize::Names,
    /// The operators of the archive, by name.
    pub operators: BTreeSet<String>,
    /// Whether states of the same name in other methods of the file are the same as this method's.
    pub share_state: bool,
    trees: Option<Trees>,
    fixed: Vec<Fixed>,
    report: Report,
    /// The archive's file, which weights are read from until the program is written.
    source: Option<Arc<Mapping>>,
}

/// Opens an archive.
///
/// # Errors
/// It can't be read, or is malformed.
pub fn open(path: &Path) -> Result<pt2::Archive, Error> {
    pt2::Archive::open(path).map_err(|source| Error::Archive {
        path: path.to_path_buf(),
        source,
    })
}

/// Imports and optimises a model as the method `forward`.
///
/// # Errors
/// As [`compile_method`].
pub fn compile(options: &Options, observer: &mut dyn Observer) -> Result<Compiled, Error> {
    compile_method("forward", options, observer)
}

/// Imports and optimises a model as the method of that name.
///
/// # Errors
/// The archive can't be read, holds something that is not supported, or a pass fails.
pub fn compile_method(
    name: &str,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Compiled, Error> {
    let mut clock = Clock::default();
    observer.step("read");
    let archive = open(&options.input)?;
    clock.lap("read");
    observer.step("import");
    let path = || options.input.clone();
    let imported = import::import_with(&archive, &options.host);
    // What a cut file seems to say is no reason to complain about the model.
    archive.source().check().map_err(|source| Error::Archive {
        path: path(),
        source: pt2::Error::Io {
            path: path(),
            source,
        },
    })?;
    let mut graph = imported.map_err(|source| Error::Import {
        path: path(),
        source,
    })?;
    graph.name = name.to_string();
    let names = import::parameters(&archive);
    let mut notes = Vec::new();
    if let Some(dtype) = options.dtype {
        let (converted, from) = convert::convert(&graph, dtype, &names)?;
        graph = converted;
        notes.extend(from.map(|from| {
            format!("in {dtype} instead of {from}; inputs and results keep their dtypes")
        }));
    }
    let mut quantised = Quantised::default();
    if !options.quantize.is_empty() {
        (graph, quantised) = quantize::apply(&graph, &options.quantize, &names)?;
    }
    let trees = trees(&archive);
    let fixed = fixed::of(&archive);
    notes.extend(fixed.iter().map(fixed::note));
    clock.lap("import");
    let mut compiled = compile_graph(&graph, options.level, &options.cx, observer)?;
    compiled.trees = trees;
    compiled.fixed = fixed;
    compiled.names = names;
    compiled.operators = pt2::summary::operators(&archive);
    compiled.report.notes.extend(notes);
    compiled.report.kept = quantised.kept().to_vec();
    compiled.quantised = quantised;
    compiled.source = Some(Arc::clone(archive.source()));
    compiled.report.milliseconds.extend(clock.times);
    Ok(compiled)
}

/// Optimises and partitions a graph that was imported or read as text.
///
/// # Errors
/// A pass fails: a bug of the compiler.
pub fn compile_graph(
    graph: &Graph,
    level: Level,
    cx: &PassCx,
    observer: &mut dyn Observer,
) -> Result<Compiled, Error> {
    let mut clock = Clock::default();
    fuseline_passes::pass::verified("import", graph.clone())?;
    observer.graph("import", graph);
    observer.step("optimise");
    let (optimised, passes) = optimise(graph, level, cx, &mut |name, g| observer.graph(name, g))?;
    let plan = partition::partition(&optimised);
    clock.lap("optimise");
    let report = Report {
        methods: vec![graph.name.clone()],
        level: level.to_string(),
        target: cx.target.to_string(),
        costs: cx.costs.name.to_string(),
        passes: passes.passes.iter().map(pass_report).collect(),
        rules: passes.rules,
        notes: passes.notes,
        imported: report::histogram(graph),
        optimised: report::histogram(&optimised),
        instructions: BTreeMap::new(),
        init_instructions: 0,
        segments: 0,
        host: report::host(&optimised),
        quantized: Vec::new(),
        kept: Vec::new(),
        weights: Weights::default(),
        state: report::state(&optimised),
        bytes: 0,
        milliseconds: clock.times,
    };
    Ok(Compiled {
        graph: optimised,
        plan,
        quantised: Quantised::default(),
        names: quantize::Names::new(),
        operators: BTreeSet::new(),
        share_state: false,
        trees: None,
        fixed: Vec::new(),
        report,
        source: None,
    })
}

impl Compiled {
    /// The program with this method alone. It borrows the weights.
    ///
    /// # Errors
    /// Something that the target or the format can't express.
    pub fn program(&self) -> Result<Program<'_>, Error> {
        program(std::slice::from_ref(self))
    }

    /// Writes the program with this method alone: see [`write`].
    ///
    /// # Errors
    /// As [`write`].
    pub fn write(&self, output: &Path, observer: &mut dyn Observer) -> Result<Report, Error> {
        write(std::slice::from_ref(self), output, observer)
    }
}

/// The program with these methods. It borrows the weights.
///
/// # Errors
/// Something that the target or the format can't express; two methods of one name.
pub fn program(methods: &[Compiled]) -> Result<Program<'_>, Error> {
    let inputs: Vec<emit::MethodInput<'_>> = methods
        .iter()
        .map(|m| emit::MethodInput {
            graph: &m.graph,
            plan: match m.share_state {
                true => Cow::Owned(partition::shared(&m.graph)),
                false => Cow::Borrowed(&m.plan),
            },
            trees: m.trees.clone(),
            fixed: &m.fixed,
            share_state: m.share_state,
        })
        .collect();
    Ok(emit::emit(&inputs)?)
}

/// Writes the program with these methods: to a temporary file beside `output`, renamed when it is complete. Weights with the same bytes are stored once, whichever methods
/// they belong to. Returns what was done.
///
/// # Errors
/// As [`program`]; a weight or the output can't be read or written. The file at `output` is then what it was before.
pub fn write(
    methods: &[Compiled],
    output: &Path,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    let mut clock = Clock::default();
    let mut report = Report::default();
    for method in methods {
        report.add(&method.graph.name, &method.report);
    }
    observer.step("emit");
    let program = program(methods)?;
    (report.instructions, report.init_instructions) = report::instructions(&program);
    report.segments = report::segments(&program);
    let abroad = executorch::refusals(&program).into_iter();
    report
        .notes
        .extend(abroad.map(|refusal| format!("ExecuTorch can't run this as it is: {refusal}")));
    report.weights = Weights {
        count: program.named_data.len(),
        bytes: program.named_data.iter().map(|d| d.data.len()).sum(),
    };
    clock.lap("emit");
    observer.step("write");
    let observer = RefCell::new(observer);
    let sources = || methods.iter().filter_map(|method| method.source.as_ref());
    let options = WriteOptions {
        progress: Some(&|bytes, of| observer.borrow_mut().written(bytes, of)),
        whole: Some(&|| sources().try_for_each(|source| source.check())),
        ..WriteOptions::default()
    };
    report.bytes = program.write_file_with(output, &options)?.bytes;
    for method in methods {
        let weights = method.quantised.report();
        report
            .quantized
            .extend(weights.map_err(|(name, reason)| EmitError::Constant { name, reason })?);
    }
    clock.lap("write");
    report.milliseconds.extend(clock.times);
    Ok(report)
}

/// How arguments and results nest in Python, as the export states it.
fn trees(archive: &pt2::Archive) -> Option<Trees> {
    let calls = &archive.program().graph_module.module_call_graph;
    let signature = calls
        .iter()
        .find(|c| c.fqn.is_empty())?
        .signature
        .as_ref()?;
    Some(Trees {
        inputs: signature.in_spec.clone(),
        outputs: signature.out_spec.clone(),
    })
}

fn pass_report(p: &fuseline_passes::PassReport) -> PassReport {
    PassReport {
        name: p.name.to_string(),
        before: p.before,
        after: p.after,
        peak: p.peak,
        layers: p.layers,
        milliseconds: p.time.as_secs_f64() * 1e3,
    }
}

/// Times of steps, for the report only.
struct Clock {
    start: Instant,
    times: BTreeMap<String, f64>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            start: Instant::now(),
            times: BTreeMap::new(),
        }
    }
}

impl Clock {
    fn lap(&mut self, name: &str) {
        self.times
            .insert(name.to_string(), self.start.elapsed().as_secs_f64() * 1e3);
        self.start = Instant::now();
    }
}
