//! What a compile says about itself: for people as text, for machines as JSON.

use crate::quantize::{Kept, WeightReport};
use fuseline_ir::{DType, Graph, Op};
use fuseline_program::container::{Call, Payload, Program};
use fuseline_program::words::counted;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The report of one compile.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The methods, in order. What follows is the sum over them.
    pub methods: Vec<String>,
    /// Level and target, as on the command line.
    pub level: String,
    /// `metal`, `cuda` or `cpu`.
    pub target: String,
    /// Where the costs come from: the target's own table, or a file and the machine that it was measured on.
    pub costs: String,
    /// The passes in order.
    pub passes: Vec<PassReport>,
    /// How often each rewrite rule fired.
    pub rules: BTreeMap<String, usize>,
    /// What a person should know: limits that were hit, for instance.
    pub notes: Vec<String>,
    /// Ops of the imported graph by name.
    pub imported: BTreeMap<String, usize>,
    /// Ops of the optimised graph by name.
    pub optimised: BTreeMap<String, usize>,
    /// Instructions of the main chains by name.
    pub instructions: BTreeMap<String, usize>,
    /// Instructions that run once, when the program is loaded.
    pub init_instructions: usize,
    /// Delegate segments.
    pub segments: usize,
    /// Host calls, with reasons.
    pub host: Vec<HostReport>,
    /// The weights that were quantised, and how well they fit.
    pub quantized: Vec<WeightReport>,
    /// The weights that were to be quantised and could not be.
    pub kept: Vec<Kept>,
    /// Weights in the file: number and bytes.
    pub weights: Weights,
    /// Mutable state: buffers and bytes.
    pub state: Weights,
    /// Bytes of the file.
    pub bytes: u64,
    /// Wall time in milliseconds by step: `read`, `import`, `optimise`, `emit`, `write`.
    pub milliseconds: BTreeMap<String, f64>,
}

/// One pass of a compile.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// Its name.
    pub name: String,
    /// Nodes before it.
    pub before: usize,
    /// Nodes after it.
    pub after: usize,
    /// The most nodes that it held at once: those of the graphs before and after it, or of the e-graph.
    pub peak: usize,
    /// How many layers were alike and solved as one; 0 where the graph was taken whole.
    pub layers: usize,
    /// Wall time in milliseconds.
    pub milliseconds: f64,
}

/// An op that runs on the host.
#[derive(Clone, Debug, Serialize)]
pub struct HostReport {
    /// The kernel.
    pub kernel: String,
    /// Why the target can't run it.
    pub reason: String,
    /// The module path in the model.
    pub module: Option<String>,
}

/// A number of tensors and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Weights {
    /// How many.
    pub count: usize,
    /// Bytes in sum.
    pub bytes: u64,
}

/// Ops of a graph by name, leaves left out.
pub fn histogram(graph: &Graph) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    let live = graph.live();
    for (value, node) in graph.values() {
        if live[value.index()] && !node.op.info().has(fuseline_ir::Flag::Leaf) {
            *out.entry(node.op.name().to_string()).or_insert(0) += 1;
        }
    }
    out
}

/// Instructions of all main chains by name, and how many the init chains hold.
pub fn instructions(program: &Program<'_>) -> (BTreeMap<String, usize>, usize) {
    let mut main = BTreeMap::new();
    let mut init = 0;
    for delegate in program.methods.iter().flat_map(|m| &m.delegates) {
        let Payload::Mlx(graph) = &delegate.payload else {
            continue;
        };
        for (i, chain) in graph.chains.iter().enumerate() {
            if graph.init_chain == Some(i as u32) {
                init += chain.len();
                continue;
            }
            for instruction in chain {
                *main.entry(instruction.info().name.to_string()).or_insert(0) += 1;
            }
        }
    }
    (main, init)
}

/// Delegate calls of all methods.
pub fn segments(program: &Program<'_>) -> usize {
    let calls = program
        .methods
        .iter()
        .flat_map(|m| m.chains.iter().flatten());
    calls.filter(|c| matches!(c, Call::Delegate { .. })).count()
}

/// The host nodes of a graph and of the graphs inside its ops, with their reasons.
pub fn host(graph: &Graph) -> Vec<HostReport> {
    let mut out = Vec::new();
    for (_, node) in graph.values() {
        match &node.op {
            Op::Host(op) => out.push(HostReport {
                kernel: op.kernel.to_string(),
                reason: op.reason.to_string(),
                module: node.loc.module.as_ref().map(|m| m.to_string()),
            }),
            Op::WhileLoop(op) => {
                out.extend(host(op.cond.graph()));
                out.extend(host(op.step.graph()));
            }
            _ => {}
        }
    }
    out
}

/// The states of a graph: number and bytes.
pub fn state(graph: &Graph) -> Weights {
    let bytes = |s: &fuseline_ir::State| {
        let shape = s.ty.static_shape().unwrap_or_default();
        shape
            .iter()
            .fold(size(s.ty.dtype), |n, d| n.saturating_mul(*d as u64))
    };
    Weights {
        count: graph.states.len(),
        bytes: graph.states.iter().map(bytes).sum(),
    }
}

fn size(dtype: DType) -> u64 {
    dtype.size() as u64
}

impl Report {
    /// Adds what was done for a method to this report of the whole program.
    pub fn add(&mut self, method: &str, other: &Report) {
        fn sum(into: &mut BTreeMap<String, usize>, from: &BTreeMap<String, usize>) {
            for (name, n) in from {
                *into.entry(name.clone()).or_insert(0) += n;
            }
        }
        self.methods.push(method.to_string());
        self.level.clone_from(&other.level);
        self.target.clone_from(&other.target);
        self.costs.clone_from(&other.costs);
        self.passes.extend(other.passes.iter().cloned());
        sum(&mut self.rules, &other.rules);
        for note in &other.notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
        sum(&mut self.imported, &other.imported);
        sum(&mut self.optimised, &other.optimised);
        self.host.extend(other.host.iter().cloned());
        self.kept.extend(other.kept.iter().cloned());
        self.state.count += other.state.count;
        self.state.bytes += other.state.bytes;
        for (step, ms) in &other.milliseconds {
            *self.milliseconds.entry(step.clone()).or_insert(0.0) += ms;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |m: &BTreeMap<String, usize>| m.values().sum::<usize>();
        writeln!(
            f,
            "{} imported, {} a call in {} (and {} once, at load), for {} at -{}",
            counted(total(&self.imported), "op"),
            counted(total(&self.instructions), "instruction"),
            counted(self.segments, "segment"),
            self.init_instructions,
            self.target,
            self.level,
        )?;
        if !self.rules.is_empty() {
            writeln!(f, "rules fired:  {}", list(&self.rules))?;
        }
        let fused: BTreeMap<String, usize> = self
            .optimised
            .iter()
            .filter(|(name, _)| Op::find(name).is_some_and(|row| row.has(fuseline_ir::Flag::Fused)))
            .map(|(name, n)| (name.clone(), *n))
            .collect();
        if !fused.is_empty() {
            writeln!(f, "fused:        {}", list(&fused))?;
        }
        for note in &self.notes {
            writeln!(f, "note:         {note}")?;
        }
        writeln!(f, "instructions: {}", list(&self.instructions))?;
        for h in &self.host {
            let module = h.module.as_deref().unwrap_or("the top module");
            writeln!(f, "on the host:  {} in {module}: {}", h.kernel, h.reason)?;
        }
        quantized(f, &self.quantized)?;
        for kept in &self.kept {
            writeln!(f, "in floats:    {}: {}", kept.name, kept.reason)?;
        }
        writeln!(
            f,
            "weights:      {}, {}; state: {}, {}; file: {}",
            counted(self.weights.count, "tensor"),
            bytes(self.weights.bytes),
            counted(self.state.count, "buffer"),
            bytes(self.state.bytes),
            bytes(self.bytes)
        )?;
        let ms: f64 = self.milliseconds.values().sum();
        writeln!(f, "costs:        {}", self.costs)?;
        writeln!(f, "time:         {ms:.0} ms")
    }
}

/// One line over all weights that were quantised.
fn quantized(f: &mut fmt::Formatter<'_>, weights: &[WeightReport]) -> fmt::Result {
    let errors = || weights.iter().filter_map(|w| Some((w.relative_error?, w)));
    let Some((most, worst)) = errors().max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return Ok(());
    };
    let sum = |of: fn(&WeightReport) -> u64| bytes(weights.iter().map(of).sum());
    // Each weight counts by its size, as it does in a sum of squares.
    let mean = |of: fn(&WeightReport) -> Option<f64>| {
        let (mut squares, mut size) = (0.0, 0.0);
        for (error, w) in weights.iter().filter_map(|w| Some((of(w)?, w))) {
            squares += error * error * w.bytes_before as f64;
            size += w.bytes_before as f64;
        }
        100.0 * f64::sqrt(squares / size)
    };
    write!(
        f,
        "quantized:    {} from {} to {}; off by {:.2} %, at most {:.2} % ({})",
        counted(weights.len(), "weight"),
        sum(|w| w.bytes_before),
        sum(|w| w.bytes),
        mean(|w| w.relative_error),
        100.0 * most,
        worst.name
    )?;
    if weights
        .iter()
        .any(|w| w.relative_error_without_search.is_some())
    {
        let plain = mean(|w| w.relative_error_without_search);
        write!(f, "; {plain:.2} % without the search")?;
    }
    writeln!(f)
}

/// `9 RmsNorm, 4 Sdpa, …`, the most frequent first.
fn list(counts: &BTreeMap<String, usize>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let items: Vec<String> = sorted
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    items.join(", ")
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}
