//! What an archive holds, in a form to print.

use super::Archive;
use super::exported::{
    Argument, Graph, InputSpec, Node, OptionalTensor, OutputSpec, SymBoolArgument,
    SymFloatArgument, SymInt, SymIntArgument,
};
use super::weights::WeightRef;
use fuseline_program::words::counted;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A summary of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How large the file is.
    pub bytes: u64,
    /// The entries of the zip, in the order of the file.
    pub entries: Vec<Entry>,
    /// The version of the program's layout, `8.17`.
    pub schema_version: String,
    /// PyTorch's version as the file states it.
    pub torch_version: String,
    /// `TRAINING` straight from the export, `ATEN` after decompositions.
    pub dialect: Vec<String>,
    /// The symbols' ranges.
    pub ranges: BTreeMap<String, Range>,
    /// What a caller gives.
    pub inputs: Vec<Port>,
    /// What a caller gets, and which states change.
    pub outputs: Vec<Port>,
    /// Weights and buffers by name: dtype, sizes, bytes.
    pub weights: Vec<Weight>,
    /// The operations in order, with the types of their results.
    pub operations: Vec<String>,
    /// Operators and how often each occurs, those of inner graphs too.
    pub targets: BTreeMap<String, usize>,
}

/// What a symbol may be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Range {
    /// The least value, if there is a bound.
    pub min: Option<i64>,
    /// The greatest value, if there is a bound.
    pub max: Option<i64>,
}

/// What goes into an exported program or comes out of it.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// `input`, or `constant` for one that is always the same; `result`, `loss`, `gradient` or `token`; `buffer`, `parameter` or `input` for what the program changes.
    pub role: &'static str,
    /// The name in the graph.
    pub name: String,
    /// What an output changes: the name of the buffer, the parameter or the input.
    pub becomes: Option<String>,
    /// The element type of a tensor, as PyTorch names it.
    pub dtype: Option<String>,
    /// The sizes of a tensor.
    pub shape: Option<Vec<Size>>,
    /// All of it in words.
    #[serde(skip)]
    text: String,
}

/// A size: a number, or an expression of symbols.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Size {
    /// A number.
    Number(i64),
    /// An expression.
    Symbolic(String),
}

/// An entry of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its name, as a path in the archive.
    pub name: String,
    /// Where in the file its bytes begin.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

/// A weight of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct Weight {
    /// Its name in the model.
    pub name: String,
    /// Its element type, as PyTorch names it.
    pub dtype: String,
    /// Its sizes.
    pub sizes: Vec<usize>,
    /// The entry that its elements are in.
    pub entry: String,
    /// How many bytes its elements are.
    pub bytes: u64,
}

/// The summary of an archive.
#[must_use]
pub fn of(archive: &Archive) -> Summary {
    let program = archive.program();
    let graph = &program.graph_module.graph;
    let ranges = program.range_constraints.iter().map(|(name, range)| {
        let (min, max) = (range.min_val, range.max_val);
        (name.clone(), Range { min, max })
    });
    let signature = &program.graph_module.signature;
    let mut operations = Vec::new();
    let mut targets = BTreeMap::new();
    list(graph, "", &mut operations, &mut targets);
    let all = archive.weights().iter().chain(archive.constants());
    Summary {
        bytes: archive.source().len() as u64,
        entries: entries(archive),
        schema_version: format!(
            "{}.{}",
            program.schema_version.major, program.schema_version.minor
        ),
        torch_version: program.torch_version.clone(),
        dialect: program.verifiers.clone(),
        ranges: ranges.collect(),
        inputs: signature
            .input_specs
            .iter()
            .filter_map(|spec| input(spec, graph))
            .collect(),
        outputs: signature
            .output_specs
            .iter()
            .map(|spec| output(spec, graph))
            .collect(),
        weights: all.map(|(name, w)| weight(name, w)).collect(),
        operations,
        targets,
    }
}

fn entries(archive: &Archive) -> Vec<Entry> {
    let entries = archive.entries().iter();
    let mut entries: Vec<Entry> = entries
        .map(|(name, place)| Entry {
            name: name.clone(),
            offset: place.start as u64,
            bytes: place.len() as u64,
        })
        .collect();
    // Empty entries may begin where others do.
    entries.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    entries
}

/// Entries whose names differ in the number at their end only are one line, in the place of the first.
fn write_entries(entries: &[Entry], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let stem = |entry: &Entry| {
        let name = entry.name.trim_end_matches(|c: char| c.is_ascii_digit());
        (name.len() < entry.name.len()).then(|| name.to_owned())
    };
    let mut alike: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for (entry, stem) in entries.iter().filter_map(|e| Some((e, stem(e)?))) {
        let (count, bytes) = alike.entry(stem).or_default();
        *count += 1;
        *bytes = bytes.saturating_add(entry.bytes);
    }
    writeln!(f, "{} entries:", entries.len())?;
    for entry in entries {
        let Entry {
            name,
            offset,
            bytes,
        } = entry;
        match stem(entry).and_then(|stem| alike.remove_entry(&stem)) {
            Some((stem, (count, bytes))) if count > 1 => {
                writeln!(
                    f,
                    "  {}*: {count} entries, {bytes} bytes from {offset}",
                    stem.escape_debug()
                )?;
            }
            None if stem(entry).is_some() => {}
            _ => writeln!(f, "  {}: {bytes} bytes at {offset}", name.escape_debug())?,
        }
    }
    Ok(())
}

fn weight(name: &str, weight: &WeightRef) -> Weight {
    Weight {
        name: name.to_owned(),
        dtype: format!("{:?}", weight.dtype).to_lowercase(),
        sizes: weight.sizes.clone(),
        entry: weight.entry.clone(),
        bytes: (weight.numel() as u64).saturating_mul(weight.dtype.size() as u64),
    }
}

/// An input that a caller gives; none for weights and the like.
fn input(spec: &InputSpec, graph: &Graph) -> Option<Port> {
    match spec {
        InputSpec::UserInput { arg } => {
            Some(port("input", &text(arg), None, typed(arg, graph), graph))
        }
        InputSpec::ConstantInput { name, value } => {
            let always = format!("{name}: always {}", text(value));
            Some(port("constant", name, None, always, graph))
        }
        _ => None,
    }
}

fn output(spec: &OutputSpec, graph: &Graph) -> Port {
    let becomes = |role: &'static str, name: &str, arg: &str| {
        let text = format!("{role} {name:?} becomes {}", with_type(arg, graph));
        port(role, arg, Some(name), text, graph)
    };
    let plain = |role: &'static str, name: &str| {
        let text = format!("{role} {}", with_type(name, graph));
        port(role, name, None, text, graph)
    };
    match spec {
        OutputSpec::UserOutput { arg } => {
            port("result", &text(arg), None, typed(arg, graph), graph)
        }
        OutputSpec::LossOutput { arg } => plain("loss", &arg.name),
        OutputSpec::BufferMutation { arg, buffer_name } => {
            becomes("buffer", buffer_name, &arg.name)
        }
        OutputSpec::ParameterMutation {
            arg,
            parameter_name,
        } => becomes("parameter", parameter_name, &arg.name),
        OutputSpec::UserInputMutation {
            arg,
            user_input_name,
        } => becomes("input", user_input_name, &arg.name),
        OutputSpec::GradientToParameter { arg, .. }
        | OutputSpec::GradientToUserInput { arg, .. } => plain("gradient", &arg.name),
        OutputSpec::Token { arg } => plain("token", &arg.name),
    }
}

fn port(
    role: &'static str,
    name: &str,
    becomes: Option<&str>,
    text: String,
    graph: &Graph,
) -> Port {
    let meta = graph.tensor_values.get(name);
    let size = |size: &SymInt| match size {
        SymInt::Int(n) => Size::Number(*n),
        SymInt::Expr(e) => Size::Symbolic(e.expr.to_string()),
    };
    Port {
        role,
        name: name.to_owned(),
        becomes: becomes.map(str::to_owned),
        dtype: meta.map(|meta| format!("{:?}", meta.dtype).to_lowercase()),
        shape: meta.map(|meta| meta.sizes.iter().map(size).collect()),
        text,
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |n: Option<i64>| n.map_or("inf".to_string(), |n| n.to_string());
        write!(f, "{}..={}", bound(self.min), bound(self.max))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The operators that an archive's graphs call, by name.
#[must_use]
pub fn operators(archive: &Archive) -> BTreeSet<String> {
    let mut targets = BTreeMap::new();
    let graph = &archive.program().graph_module.graph;
    list(graph, "", &mut Vec::new(), &mut targets);
    targets.into_keys().collect()
}

/// The operations of a graph and of those inside it, and how often each operator occurs.
fn list(
    graph: &Graph,
    indent: &str,
    operations: &mut Vec<String>,
    targets: &mut BTreeMap<String, usize>,
) {
    for node in &graph.nodes {
        *targets.entry(node.target.clone()).or_insert(0) += 1;
        operations.push(format!("{indent}{}", operation(node, graph)));
        for input in &node.inputs {
            if let Argument::Graph(inner) = &input.arg {
                operations.push(format!("{indent}  graph {}:", inner.name));
                list(&inner.graph, &format!("{indent}    "), operations, targets);
            }
        }
    }
}

/// `y: float32[2, s0] = torch.ops.aten.add.Tensor(self=x, other=1) in layers.0`.
fn operation(node: &Node, graph: &Graph) -> String {
    let outputs: Vec<String> = node.outputs.iter().map(|out| typed(out, graph)).collect();
    let inputs = node.inputs.iter().map(|input| {
        let value = text(&input.arg);
        match input.name.as_str() {
            "" => value,
            name => format!("{name}={value}"),
        }
    });
    let inputs: Vec<String> = inputs.collect();
    let gap = if outputs.is_empty() { "" } else { " = " };
    let mut line = format!(
        "{}{gap}{}({})",
        outputs.join(", "),
        node.target,
        inputs.join(", ")
    );
    if !node.place.module.is_empty() {
        line.push_str(&format!(" in {}", node.place.module));
    }
    line
}

/// The names in an argument, with the types of tensors.
fn typed(arg: &Argument, graph: &Graph) -> String {
    match arg {
        Argument::Tensor(tensor) => with_type(&tensor.name, graph),
        Argument::Tensors(all) => {
            let all: Vec<String> = all.iter().map(|t| with_type(&t.name, graph)).collect();
            all.join(", ")
        }
        other => text(other),
    }
}

fn with_type(name: &str, graph: &Graph) -> String {
    let Some(meta) = graph.tensor_values.get(name) else {
        return name.to_owned();
    };
    let sizes = meta.sizes.iter().map(|size| match size {
        SymInt::Int(n) => n.to_string(),
        SymInt::Expr(e) => e.expr.to_string(),
    });
    let sizes: Vec<String> = sizes.collect();
    let dtype = format!("{:?}", meta.dtype).to_lowercase();
    format!("{name}: {dtype}[{}]", sizes.join(", "))
}

/// An argument in short: names, numbers, and what kind it is for the rest.
fn text(arg: &Argument) -> String {
    fn listed<T>(all: &[T], one: impl Fn(&T) -> String) -> String {
        let all: Vec<String> = all.iter().map(one).collect();
        format!("[{}]", all.join(", "))
    }
    let optional = |tensor: &OptionalTensor| match tensor {
        OptionalTensor::Tensor(tensor) => tensor.name.clone(),
        OptionalTensor::None(_) => "None".to_owned(),
    };
    let size = |size: &SymIntArgument| match size {
        SymIntArgument::Name(name) => name.clone(),
        SymIntArgument::Int(n) => n.to_string(),
    };
    match arg {
        Argument::None(_) => "None".to_owned(),
        Argument::Tensor(tensor) => tensor.name.clone(),
        Argument::Tensors(all) => listed(all, |tensor| tensor.name.clone()),
        Argument::OptionalTensor(tensor) => optional(tensor),
        Argument::OptionalTensors(all) => listed(all, optional),
        Argument::Int(n) => n.to_string(),
        Argument::Ints(all) => listed(all, i64::to_string),
        Argument::Float(n) => n.0.to_string(),
        Argument::Floats(all) => listed(all, |n| n.0.to_string()),
        Argument::Bool(flag) => flag.to_string(),
        Argument::Bools(all) => listed(all, bool::to_string),
        Argument::String(text) => format!("{text:?}"),
        Argument::Strings(all) => listed(all, |text| format!("{text:?}")),
        Argument::SymInt(n) => size(n),
        Argument::SymInts(all) => listed(all, size),
        Argument::SymFloat(SymFloatArgument::Name(name))
        | Argument::SymBool(SymBoolArgument::Name(name)) => name.clone(),
        Argument::SymFloat(SymFloatArgument::Float(n)) => n.0.to_string(),
        Argument::SymBool(SymBoolArgument::Bool(flag)) => flag.to_string(),
        Argument::ScalarType(dtype) => format!("{dtype:?}").to_lowercase(),
        Argument::Device(device) => device.kind.clone(),
        Argument::Operator(name) => name.clone(),
        Argument::Graph(inner) => format!("graph {}", inner.name),
        Argument::StringToArgument(all) => {
            let all = all
                .iter()
                .map(|(key, value)| format!("{key}={}", text(value)));
            format!("{{{}}}", all.collect::<Vec<_>>().join(", "))
        }
        other => other.kind().to_owned(),
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} bytes: exported program of torch {} ({}), layout {}",
            self.bytes,
            self.torch_version,
            self.dialect.join(", "),
            self.schema_version
        )?;
        write_entries(&self.entries, f)?;
        for (name, range) in &self.ranges {
            writeln!(f, "symbol {name} in {range}")?;
        }
        for input in &self.inputs {
            writeln!(f, "input {input}")?;
        }
        for output in &self.outputs {
            writeln!(f, "output {output}")?;
        }
        writeln!(f, "{} weights, buffers and constants:", self.weights.len())?;
        for w in &self.weights {
            writeln!(
                f,
                "  {} {}{:?}, {} bytes",
                w.name, w.dtype, w.sizes, w.bytes
            )?;
        }
        writeln!(f, "{}:", counted(self.operations.len(), "operation"))?;
        for operation in &self.operations {
            writeln!(f, "  {operation}")?;
        }
        writeln!(f, "operators:")?;
        for (target, n) in &self.targets {
            writeln!(f, "  {n:>5}  {target}")?;
        }
        Ok(())
    }
}
