//! A file in words: [`Summary`] is made from a [`Pte`], prints as text, and serialises.

mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::container::uses::Uses;
use crate::container::{
    Call, Delegate, Header, Method, Payload, Ptd, Pte, Segment, Storage, TensorValue, Value,
    ValueIdx,
};
use crate::graph::{Dim, IoSlot, MlxGraph, SlotClass, TensorMeta};
use crate::infer::{SlotType, Types};
use crate::instr::{Instruction, Slot, Tid};
use crate::words::counted;
pub(crate) use values::between;
pub use values::{ArgumentSummary, CallSummary, LengthSummary, PlaceSummary, ValueSummary};

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Bytes up to the end of the last segment.
    pub bytes: u64,
    /// Bytes of the program part, its header counted in.
    pub program_bytes: u64,
    /// First byte of the segments.
    pub segment_base: u64,
    /// The segments, in the file's order.
    pub segments: Vec<SegmentSummary>,
    /// What can be called.
    pub methods: Vec<MethodSummary>,
    /// Bytes by name.
    pub named_data: Vec<DataSummary>,
}

/// What a file of external data holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExternalSummary {
    /// Bytes of the part that describes the others, its header counted in.
    pub program_bytes: u64,
    /// First byte of the segments.
    pub segment_base: u64,
    /// The segments, in the file's order.
    pub segments: Vec<SegmentSummary>,
    /// Bytes by name.
    pub named_data: Vec<DataSummary>,
}

/// A segment of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentSummary {
    /// First byte, from the start of the file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What they are.
    pub holds: Vec<String>,
}

/// Bytes with a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataSummary {
    /// The name.
    pub key: String,
    /// Type and shape, if the file says that they are a tensor.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// How many bytes.
    pub bytes: u64,
}

/// A method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MethodSummary {
    /// The name.
    pub name: String,
    /// What the caller gives.
    pub inputs: Vec<ArgumentSummary>,
    /// What the caller gets.
    pub outputs: Vec<ArgumentSummary>,
    /// What operators of the host take and give beside these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueSummary>,
    /// The steps, chain after chain.
    pub calls: Vec<CallSummary>,
    /// Where the work is done.
    pub runs: Places,
    /// The operators that are left to the host, in the order of their calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<HostSummary>,
    /// Bytes of each arena.
    pub arenas: Vec<u64>,
    /// The delegates.
    pub delegates: Vec<DelegateSummary>,
}

/// A call of a kernel of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostSummary {
    /// The kernel, `namespace::name.overload`: what an embedding program registers.
    pub kernel: String,
    /// The module of the model that it comes from, where the file says.
    pub module: Option<String>,
    /// Why it is left to the host, where the file says.
    pub reason: Option<String>,
}

/// Where the work of a method is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Places {
    /// Delegate calls that MLX runs.
    pub device_calls: usize,
    /// Instructions of the delegates that are called, all chains but the init chains counted once.
    pub device_instructions: usize,
    /// Calls of operators of the host.
    pub host_calls: usize,
    /// The engines of other delegates, each once.
    pub elsewhere: Vec<String>,
}

/// A delegate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DelegateSummary {
    /// The engine.
    pub id: String,
    /// Its program, if it is one of MLX instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlx: Option<MlxSummary>,
}

/// A program of MLX instructions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MlxSummary {
    /// Tensors found in the file.
    pub constants: Vec<SlotSummary>,
    /// Tensors and numbers given at each call, in the order of the arguments.
    pub inputs: Vec<SlotSummary>,
    /// Tensors and numbers handed back by each call, in the order of the arguments.
    pub outputs: Vec<SlotSummary>,
    /// Tensors kept from call to call.
    pub state: Vec<SlotSummary>,
    /// How many temporary tensor slots there are.
    pub temps: u32,
    /// How many value slots there are.
    pub values: u32,
    /// The chains.
    pub chains: Vec<ChainSummary>,
    /// How often each instruction stands in the chains, the init chain left out, by name.
    pub counts: BTreeMap<String, usize>,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SlotSummary {
    /// How it is called in the instructions: `%c0`.
    pub slot: String,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Type and shape: `f32[1, 1..16, 64]`.
    #[serde(rename = "type")]
    pub ty: String,
    /// Bytes at the upper bounds, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A chain of instructions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainSummary {
    /// `main`, `init`, or `branch` for one that others run.
    pub role: &'static str,
    /// The instructions, in order.
    pub instructions: Vec<InstructionSummary>,
}

/// An instruction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstructionSummary {
    /// Its name: `Silu`.
    pub name: &'static str,
    /// What it writes, with types and shapes as far as they are known ([`crate::infer`]).
    pub results: Vec<SlotSummary>,
    /// What it does: `Silu(x=%t0)`.
    pub call: String,
}

impl InstructionSummary {
    /// The instruction without types: `%t1 = Silu(x=%t0)`.
    #[must_use]
    pub fn text(&self) -> String {
        let slots: Vec<&str> = self.results.iter().map(|r| r.slot.as_str()).collect();
        match slots.is_empty() {
            true => self.call.clone(),
            false => format!("{} = {}", slots.join(", "), self.call),
        }
    }
}

impl fmt::Display for InstructionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, SlotSummary { slot, ty, .. }) in self.results.iter().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            write!(f, "{gap}{slot}: {ty}")?;
        }
        let gap = if self.results.is_empty() { "" } else { " = " };
        write!(f, "{gap}{}", self.call)
    }
}

impl Pte<'_> {
    /// What the file holds.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let segments = segment_summaries(&self.segments, &self.header);
        let ends = segments
            .iter()
            .map(|segment| segment.offset.saturating_add(segment.bytes));
        Summary {
            bytes: ends.fold(self.header.program_size, u64::max),
            program_bytes: self.header.program_size,
            segment_base: self.header.segment_base,
            segments,
            methods: self.program.methods.iter().map(method_summary).collect(),
            named_data: self
                .program
                .named_data
                .iter()
                .map(|named| DataSummary {
                    key: named.key.clone(),
                    ty: None,
                    bytes: named.data.len(),
                })
                .collect(),
        }
    }
}

fn segment_summaries(segments: &[Segment], header: &Header) -> Vec<SegmentSummary> {
    let one = |segment: &Segment| SegmentSummary {
        offset: header.segment_base.saturating_add(segment.offset),
        bytes: segment.size,
        holds: segment.holds.clone(),
    };
    segments.iter().map(one).collect()
}

impl Ptd<'_> {
    /// What the file holds.
    #[must_use]
    pub fn summary(&self) -> ExternalSummary {
        let entries = self.entries.iter().map(|entry| DataSummary {
            key: entry.key.clone(),
            ty: entry.layout.as_ref().map(|layout| {
                let sizes: Vec<String> = layout.sizes.iter().map(u32::to_string).collect();
                format!("{}[{}]", layout.dtype, sizes.join(", "))
            }),
            bytes: entry.data.len(),
        });
        ExternalSummary {
            program_bytes: self.header.program_size,
            segment_base: self.header.segment_base,
            segments: segment_summaries(&self.segments, &self.header),
            named_data: entries.collect(),
        }
    }
}

fn places(method: &Method<'_>) -> Places {
    let mut places = Places {
        device_calls: 0,
        device_instructions: 0,
        host_calls: 0,
        elsewhere: Vec::new(),
    };
    for call in method.chains.iter().flatten() {
        match call {
            Call::Kernel { .. } => places.host_calls += 1,
            Call::Delegate { delegate, .. } => match method.delegates.get(*delegate as usize) {
                Some(Delegate {
                    payload: Payload::Mlx(graph),
                    ..
                }) => {
                    places.device_calls += 1;
                    places.device_instructions += graph.instructions().count();
                }
                Some(other) if !places.elsewhere.contains(&other.id) => {
                    places.elsewhere.push(other.id.clone());
                }
                Some(_) => {}
                None => {}
            },
            _ => {}
        }
    }
    places
}

fn method_summary(method: &Method<'_>) -> MethodSummary {
    let uses = Uses::of(method);
    MethodSummary {
        name: method.name.clone(),
        inputs: values::inputs(method, &uses),
        outputs: values::outputs(method, &uses),
        values: values::values(method),
        calls: method
            .chains
            .iter()
            .flatten()
            .map(|call| CallSummary::of(method, call))
            .collect(),
        runs: places(method),
        host: host_summaries(method, &uses),
        arenas: method.arenas.clone(),
        delegates: method.delegates.iter().map(delegate_summary).collect(),
    }
}

/// The values of a method in words.
pub(crate) struct Texts<'m, 'f> {
    method: &'m Method<'f>,
    /// Those that calls write, of which the file says nothing but an example.
    written: BTreeSet<ValueIdx>,
}

impl<'m, 'f> Texts<'m, 'f> {
    /// Those of a method.
    pub(crate) fn of(method: &'m Method<'f>) -> Self {
        let mut written = BTreeSet::new();
        for call in method.chains.iter().flatten() {
            match call {
                Call::Kernel { args, .. } => written.extend(args.last()),
                Call::Delegate { args, .. } => written.extend(args),
                Call::Move { to, .. } => {
                    written.insert(*to);
                }
                Call::JumpFalse { .. } | Call::Free { .. } => {}
            }
        }
        Self { method, written }
    }

    /// `3: f32[2, 64] in arena 1 at 2048`.
    pub(crate) fn numbered(&self, index: ValueIdx) -> String {
        format!("{index}: {}", self.text(index))
    }

    /// `f32[2, 64] in arena 1 at 2048`.
    pub(crate) fn text(&self, index: ValueIdx) -> String {
        let listed = |items: Vec<String>| items.join(", ");
        match self.method.values.get(index as usize) {
            None => "nothing there".to_owned(),
            Some(Value::None) => "none".to_owned(),
            Some(Value::Int(number)) => format!("int {number}"),
            Some(Value::Bool(value)) => format!("bool {value}"),
            Some(Value::Double(number)) => format!("float {number:?}"),
            Some(Value::String(text)) => format!("string {text:?}"),
            Some(Value::Tensor(tensor)) => tensor_text(tensor),
            Some(Value::IntList(items)) => {
                let item = |item: &ValueIdx| match self.method.values.get(*item as usize) {
                    Some(Value::Int(number)) if !self.written.contains(item) => number.to_string(),
                    _ => format!("value {item}"),
                };
                format!("ints [{}]", listed(items.iter().map(item).collect()))
            }
            Some(Value::DoubleList(items)) => format!("floats {items:?}"),
            Some(Value::BoolList(items)) => format!("bools {items:?}"),
            Some(Value::TensorList(items)) => format!("tensors {items:?}"),
            Some(Value::OptionalTensorList(items)) => {
                let item = |item: &Option<ValueIdx>| {
                    item.map_or_else(|| "none".to_owned(), |item| item.to_string())
                };
                format!("tensors [{}]", listed(items.iter().map(item).collect()))
            }
        }
    }
}

fn tensor_text(tensor: &TensorValue) -> String {
    let bound = if tensor.dynamic { "up to " } else { "" };
    let sizes: Vec<String> = tensor.sizes.iter().map(u32::to_string).collect();
    let place = match tensor.storage {
        Storage::Caller => String::new(),
        Storage::Planned {
            arena,
            offset,
            initial,
        } => {
            let begins = initial.map(|constant| format!(", kept, begins as constant {constant}"));
            format!(
                " in arena {arena} at {offset}{}",
                begins.unwrap_or_default()
            )
        }
        Storage::Constant(constant) => {
            let bytes = tensor.max_bytes();
            let bytes = bytes.map_or_else(String::new, |bytes| format!(", {bytes} bytes"));
            format!(", constant {constant}{bytes}")
        }
    };
    format!("{bound}{}[{}]{place}", tensor.dtype, sizes.join(", "))
}

fn kernel_name(method: &Method<'_>, operator: u32) -> String {
    let operator = method.operators.get(operator as usize);
    operator.map_or_else(String::new, ToString::to_string)
}

/// The kernel calls of a method, with what the file notes about them.
fn host_summaries(method: &Method<'_>, uses: &Uses<'_>) -> Vec<HostSummary> {
    let mut all = Vec::new();
    for (chain, calls) in (0..).zip(&method.chains) {
        for (at, call) in (0..).zip(calls) {
            let Call::Kernel { operator, .. } = call else {
                continue;
            };
            let note = uses.note(chain, at).cloned().unwrap_or_default();
            let said = |text: String| Some(text).filter(|text| !text.is_empty());
            all.push(HostSummary {
                kernel: kernel_name(method, *operator),
                module: said(note.module),
                reason: said(note.reason),
            });
        }
    }
    all
}

fn delegate_summary(delegate: &Delegate<'_>) -> DelegateSummary {
    let mlx = match &delegate.payload {
        Payload::Mlx(graph) => Some(graph.summary()),
        Payload::Other(_) => None,
    };
    DelegateSummary {
        id: delegate.id.clone(),
        mlx,
    }
}

impl MlxGraph {
    /// What the program holds.
    #[must_use]
    pub fn summary(&self) -> MlxSummary {
        let mut names = BTreeMap::new();
        for named in &self.names {
            names.entry(named.slot).or_insert(named.name.as_str());
        }
        let slots = |slots: &[IoSlot]| {
            slots
                .iter()
                .map(|slot| self.slot_summary(*slot, &names))
                .collect()
        };
        // A file that has not been validated may claim more constants than it describes.
        let described = self.tensors.len();
        let constants: Vec<IoSlot> = (0..self.counts.constants)
            .take(described)
            .map(|tid| IoSlot::Tensor(Tid(tid)))
            .collect();
        let types = Types::of(self);
        let mut counts = BTreeMap::new();
        for instruction in self.instructions() {
            *counts
                .entry(instruction.info().name.to_owned())
                .or_default() += 1;
        }
        MlxSummary {
            constants: slots(&constants),
            inputs: slots(&self.inputs),
            outputs: slots(&self.outputs),
            state: slots(&self.state),
            temps: self.counts.temps,
            values: self.counts.values,
            chains: self
                .chains
                .iter()
                .enumerate()
                .map(|(at, _)| self.chain_summary(at, &types))
                .collect(),
            counts,
        }
    }

    /// All instructions but those of the init chain.
    fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        let init = self.init_chain.map(|init| init as usize);
        let chains = self.chains.iter().enumerate();
        let kept = chains.filter(move |(at, _)| init != Some(*at));
        kept.flat_map(|(_, chain)| chain)
    }

    fn chain_summary(&self, at: usize, types: &Types) -> ChainSummary {
        let role = match at {
            at if at == self.main_chain as usize => "main",
            at if Some(at) == self.init_chain.map(|init| init as usize) => "init",
            _ => "branch",
        };
        let instructions = self.chains.get(at).into_iter().flatten();
        let one = |(position, instruction): (usize, &Instruction)| {
            let known = types.results(at, position).iter().map(Some);
            let known = known.chain(std::iter::repeat(None));
            let results = instruction.writes().into_iter().zip(known);
            let result = |(slot, known): (Slot, Option<&SlotType>)| SlotSummary {
                slot: self.counts.name(slot),
                name: None,
                ty: known.map_or_else(|| "?".to_owned(), SlotType::to_string),
                bytes: None,
            };
            InstructionSummary {
                name: instruction.info().name,
                results: results.map(result).collect(),
                call: instruction.display_call(&self.counts).to_string(),
            }
        };
        ChainSummary {
            role,
            instructions: instructions.enumerate().map(one).collect(),
        }
    }

    fn slot_summary(&self, slot: IoSlot, names: &BTreeMap<IoSlot, &str>) -> SlotSummary {
        let name = names.get(&slot).map(|name| (*name).to_owned());
        match slot {
            IoSlot::Tensor(tid) => {
                let meta = self.tensors.get(tid.0 as usize);
                let in_place = self
                    .counts
                    .locate(tid)
                    .is_some_and(|(class, _)| class != SlotClass::Temp);
                let meta = meta.filter(|_| in_place);
                SlotSummary {
                    slot: self.counts.name(Slot::Tensor(tid)),
                    name,
                    ty: meta.map_or_else(|| "tensor".to_owned(), TensorMeta::to_string),
                    bytes: meta.and_then(TensorMeta::max_bytes),
                }
            }
            IoSlot::Int(vid) => SlotSummary {
                slot: vid.to_string(),
                name,
                ty: "int".to_owned(),
                bytes: None,
            },
            IoSlot::Float(vid) => SlotSummary {
                slot: vid.to_string(),
                name,
                ty: "float".to_owned(),
                bytes: None,
            },
            IoSlot::Bool(vid) => SlotSummary {
                slot: vid.to_string(),
                name,
                ty: "bool".to_owned(),
                bytes: None,
            },
        }
    }
}

impl fmt::Display for TensorMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (at, dim) in self.shape.iter().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            match dim {
                Dim::Static(length) => write!(f, "{gap}{length}")?,
                Dim::Dynamic {
                    min,
                    max: Some(max),
                } => write!(f, "{gap}{min}..{max}")?,
                Dim::Dynamic { min, max: None } => write!(f, "{gap}{min}..")?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} bytes: program {}, segments from {}",
            self.bytes, self.program_bytes, self.segment_base
        )?;
        write_segments(&self.segments, f)?;
        for method in &self.methods {
            write!(f, "\n{method}")?;
        }
        Ok(())
    }
}

fn write_segments(segments: &[SegmentSummary], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (at, segment) in segments.iter().enumerate() {
        let SegmentSummary {
            offset,
            bytes,
            holds,
        } = segment;
        writeln!(
            f,
            "segment {at}: {bytes} bytes at {offset}: {}",
            holds.join(", ")
        )?;
    }
    Ok(())
}

impl fmt::Display for ExternalSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "external data: description {}, segments from {}",
            self.program_bytes, self.segment_base
        )?;
        write_segments(&self.segments, f)?;
        for DataSummary { key, ty, bytes } in &self.named_data {
            let ty = ty.as_deref().unwrap_or("bytes");
            writeln!(f, "  {key:?}: {ty}, {bytes} bytes")?;
        }
        Ok(())
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "on the device: {} in {}; on the host: {}",
            counted(self.device_instructions, "instruction"),
            counted(self.device_calls, "call"),
            counted(self.host_calls, "call")
        )?;
        for engine in &self.elsewhere {
            write!(f, "; elsewhere: {engine}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MethodSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "method {:?}, arenas of {:?} bytes",
            self.name, self.arenas
        )?;
        writeln!(f, "  runs {}", self.runs)?;
        for (what, list) in [("input", &self.inputs), ("output", &self.outputs)] {
            for argument in list {
                writeln!(f, "  {what} {argument}")?;
            }
        }
        for value in &self.values {
            writeln!(f, "  value {value}")?;
        }
        // Who reads a jump wants to count.
        let jumps = |call: &CallSummary| matches!(call, CallSummary::JumpFalse { .. });
        let counts = self.calls.iter().any(jumps);
        for (at, call) in self.calls.iter().enumerate() {
            if counts {
                writeln!(f, "  call {at}: {call}")?;
            } else {
                writeln!(f, "  call {call}")?;
            }
        }
        for HostSummary {
            kernel,
            module,
            reason,
        } in &self.host
        {
            if module.is_none() && reason.is_none() {
                continue;
            }
            write!(f, "  on the host {kernel}")?;
            if let Some(module) = module {
                write!(f, " in {module}")?;
            }
            match reason {
                None => writeln!(f)?,
                Some(reason) => writeln!(f, ": {reason}")?,
            }
        }
        for (at, delegate) in self.delegates.iter().enumerate() {
            writeln!(f, "  delegate {at}: {}", delegate.id)?;
            if let Some(mlx) = &delegate.mlx {
                mlx.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for MlxSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("constant", &self.constants),
            ("input", &self.inputs),
            ("output", &self.outputs),
            ("state", &self.state),
        ];
        for (what, slots) in lists {
            for SlotSummary {
                slot,
                name,
                ty,
                bytes,
            } in slots
            {
                write!(f, "    {what} {slot}: {ty}")?;
                if let Some(bytes) = bytes {
                    write!(f, ", {bytes} bytes")?;
                }
                match name {
                    Some(name) => writeln!(f, ", {name:?}")?,
                    None => writeln!(f)?,
                }
            }
        }
        let temps = match self.temps {
            1 => "1 temporary".to_owned(),
            temps => format!("{temps} temporaries"),
        };
        let values = counted(self.values as usize, "value");
        writeln!(f, "    {temps}, {values}")?;
        for (at, chain) in self.chains.iter().enumerate() {
            writeln!(
                f,
                "    chain {at} ({}), {}",
                chain.role,
                counted(chain.instructions.len(), "instruction")
            )?;
            for instruction in &chain.instructions {
                writeln!(f, "      {instruction}")?;
            }
        }
        Ok(())
    }
}
