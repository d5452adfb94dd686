//! A file's bytes to a program. Everything that the file counts or points at is checked before it is used.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::external::{Externals, Ptd};
use super::header::{Header, IDENTIFIER};
use super::{
    Call, CompileSpec, Data, Delegate, MLX_BACKEND, Method, NamedData, Note, Operator, Payload,
    Program, Storage, TensorValue, Trees, Value,
};
use crate::caps;
use crate::dtype::ScalarType;
use crate::error::{Fault, FormatError, Within};
use crate::generated::executorch as wire;
use crate::graph::MlxGraph;
use crate::newer::{self, known_fields};

/// A file that has been read: the program, and how it lies in the file. Bytes are borrowed from the file, never copied.
#[derive(Debug, Clone, PartialEq)]
pub struct Pte<'a> {
    /// Where the parts lie.
    pub header: Header,
    /// The segments, in the order of the file's list.
    pub segments: Vec<Segment>,
    /// What the file says.
    pub program: Program<'a>,
}

/// A run of bytes behind the program part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// First byte, from [`Header::segment_base`].
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// What the bytes are, in words; several things if they share them, nothing if nothing uses them.
    pub holds: Vec<String>,
}

impl<'a> Pte<'a> {
    /// Whether the file says that it is a `.pte`, of this version or another. What else is in it may still be wrong.
    #[must_use]
    pub fn is_one(file: &[u8]) -> bool {
        newer::is_of_kind(file, IDENTIFIER)
    }

    /// Reads a file. Its structure is checked here, [`Pte::validate`] checks what it means.
    ///
    /// # Errors
    /// Other identifying bytes, bytes that end too early, broken FlatBuffers data, indices and byte ranges that lead nowhere,
    /// too much of something, parts that this crate does not support.
    pub fn parse(file: &'a [u8]) -> Result<Self, FormatError> {
        Self::parse_with(file, &[])
    }

    /// Reads a file whose weights are in others. What those hold becomes part of the program.
    ///
    /// # Errors
    /// As [`Pte::parse`], and a tensor whose bytes are in none of the other files, or not as it says.
    pub fn parse_with(file: &'a [u8], external: &[Ptd<'a>]) -> Result<Self, FormatError> {
        let header = Header::parse(file).within(|| "header".to_owned())?;
        let size = usize::try_from(header.program_size).unwrap_or(usize::MAX);
        let available = file.len() as u64;
        let data = file.get(..size).ok_or(Fault::Short {
            need: header.program_size,
            have: available,
        })?;
        let root =
            flatbuffers::root_with_opts::<wire::Program<'_>>(&caps::verifier(data.len()), data);
        let root = root.map_err(|error| Fault::FlatBuffer(error.to_string()))?;
        if root.version() != 0 {
            return Err(Fault::Version {
                what: "an ExecuTorch program",
                found: root.version().to_string(),
                known: "0",
            }
            .into());
        }
        known_fields!(root, Program, VT_NAMED_DATA)?;
        let reader = Reader {
            file,
            base: header.segment_base,
            root,
            payloads: Cell::new(0),
            instructions: Cell::new(0),
            external: Externals::of(external)?,
        };
        let mut segments = reader.segments()?;
        let program = reader.program()?;
        reader.label(&mut segments);
        Ok(Self {
            header,
            segments,
            program,
        })
    }
}

struct Reader<'r, 'a> {
    file: &'a [u8],
    base: u64,
    root: wire::Program<'a>,
    /// Bytes of payloads that have been read. Delegates may share one, and each reads it anew.
    payloads: Cell<u64>,
    /// Instructions in them.
    instructions: Cell<usize>,
    external: Externals<'r, 'a>,
}

/// The bytes of the tensors among methods' values: those of the file, and behind them those of other files, as they are asked for.
struct Constants<'r, 'a> {
    bytes: Vec<Data<'a>>,
    /// How many are the file's own.
    own: usize,
    external: &'r Externals<'r, 'a>,
    /// Where in `bytes` those of other files are.
    named: BTreeMap<String, u32>,
    /// What planned tensors may begin with.
    initial: Vec<Vec<Data<'a>>>,
}

impl Constants<'_, '_> {
    /// The number of what a planned tensor begins with, the entry `buffer` of the list `list`.
    fn initial(&mut self, list: u64, buffer: u32) -> Result<u32, Fault> {
        let parts = usize::try_from(list)
            .ok()
            .and_then(|at| self.initial.get(at));
        let parts = parts.ok_or(Fault::Index {
            what: "list of initial contents",
            index: i64::try_from(list).unwrap_or(i64::MAX),
            count: self.initial.len() as u64,
        })?;
        let at = index("initial content", i64::from(buffer) - 1, parts.len())?;
        // We write both lists as one.
        let part = parts[at as usize].as_slice();
        let own = self.bytes[..self.own].get(at as usize);
        if let (Some(part), Some(own)) = (part, own.and_then(Data::as_slice))
            && std::ptr::eq(part, own)
        {
            return Ok(at);
        }
        self.bytes.push(parts[at as usize].clone());
        Ok(self.bytes.len() as u32 - 1)
    }

    /// The number of the bytes with this name in another file.
    fn external(&mut self, name: &str, tensor: &TensorValue) -> Result<u32, Fault> {
        let data = self.external.tensor(name, tensor)?;
        if let Some(number) = self.named.get(name) {
            return Ok(*number);
        }
        let number = self.bytes.len() as u32;
        self.bytes.push(data);
        self.named.insert(name.to_owned(), number);
        Ok(number)
    }
}

impl<'a> Reader<'_, 'a> {
    fn segments(&self) -> Result<Vec<Segment>, FormatError> {
        let list = self.root.segments();
        caps::count("segments", list.map_or(0, |list| list.len()))?;
        let mut segments = Vec::new();
        for (at, segment) in list.iter().flatten().enumerate() {
            let (offset, size) = (segment.offset(), segment.size_());
            self.segment(at as u64).within(|| format!("segment {at}"))?;
            segments.push(Segment {
                offset,
                size,
                holds: Vec::new(),
            });
        }
        Ok(segments)
    }

    /// Says of each segment what it holds.
    fn label(&self, segments: &mut [Segment]) {
        let mut holds = |segment: u32, what: String| {
            if let Some(segment) = segments.get_mut(segment as usize) {
                segment.holds.push(what);
            }
        };
        if let Some(entry) = self.root.constant_segment() {
            holds(entry.segment_index(), "constants".to_owned());
        }
        for plan in self.root.execution_plan().iter().flatten() {
            for (at, delegate) in plan.delegates().iter().flatten().enumerate() {
                let place = delegate
                    .processed()
                    .filter(|place| place.location() == wire::DataLocation::SEGMENT);
                if let Some(place) = place {
                    holds(
                        place.index(),
                        format!("delegate {at} of {:?}", plan.name().unwrap_or_default()),
                    );
                }
            }
        }
        for named in self.root.named_data().iter().flatten() {
            holds(
                named.segment_index(),
                format!("{:?}", named.key().unwrap_or_default()),
            );
        }
    }

    /// The bytes of a segment.
    fn segment(&self, index: u64) -> Result<&'a [u8], Fault> {
        let list = self.root.segments();
        let count = list.map_or(0, |list| list.len()) as u64;
        let missing = || Fault::Index {
            what: "segment",
            index: i64::try_from(index).unwrap_or(i64::MAX),
            count,
        };
        let list = list.ok_or_else(missing)?;
        if index >= count {
            return Err(missing());
        }
        let segment = list.get(index as usize);
        bytes_at(self.file, self.base, segment.offset(), segment.size_())
    }

    fn program(&self) -> Result<Program<'a>, FormatError> {
        let own = self.constants().within(|| "constants".to_owned())?;
        let mut constants = Constants {
            own: own.len(),
            bytes: own,
            external: &self.external,
            named: BTreeMap::new(),
            initial: self.initial().within(|| "initial contents".to_owned())?,
        };
        let plans = self
            .root
            .execution_plan()
            .ok_or(Fault::Missing("the list of methods"))?;
        caps::count("methods", plans.len())?;
        let mut methods = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            let name = plan
                .name()
                .map_or_else(|| at.to_string(), |name| format!("{name:?}"));
            methods.push(
                self.method(plan, &mut constants)
                    .within(|| format!("method {name}"))?,
            );
        }
        let mut constants = constants.bytes;
        trim(&mut constants, &methods);
        let mut named_data = Vec::new();
        caps::count(
            "named data",
            self.root.named_data().map_or(0, |list| list.len()),
        )?;
        for (at, named) in self.root.named_data().iter().flatten().enumerate() {
            let key = named
                .key()
                .ok_or(Fault::Missing("the key"))
                .within(|| format!("named data {at}"))?;
            let bytes = self
                .segment(u64::from(named.segment_index()))
                .within(|| format!("named data {key:?}"))?;
            named_data.push(NamedData {
                key: key.to_owned(),
                data: Data::borrowed(bytes),
            });
        }
        let external = self.external.iter().map(|entry| NamedData {
            key: entry.key.clone(),
            data: entry.data.clone(),
        });
        named_data.extend(external);
        Ok(Program {
            methods,
            constants,
            named_data,
        })
    }

    /// The constant tensors' bytes. The file has their offsets, not their sizes: each goes on to the next larger offset.
    fn constants(&self) -> Result<Vec<Data<'a>>, Fault> {
        if self
            .root
            .constant_buffer()
            .is_some_and(|list| list.len() > 1)
        {
            return Err(Fault::Unsupported(
                "constants inside the FlatBuffers data".to_owned(),
            ));
        }
        let entry = self.root.constant_segment();
        self.subsegments(entry.ok_or(Fault::Missing("the constant segment's entry"))?)
    }

    /// What tensors that are kept from call to call begin with, by list and number in it.
    fn initial(&self) -> Result<Vec<Vec<Data<'a>>>, Fault> {
        let list = self.root.mutable_data_segments();
        caps::count(
            "segments of initial contents",
            list.map_or(0, |list| list.len()),
        )?;
        let all = list.iter().flatten();
        all.map(|entry| self.subsegments(entry)).collect()
    }

    /// The parts of a segment. The first offset stands for no part.
    fn subsegments(&self, entry: wire::SubsegmentOffsets<'a>) -> Result<Vec<Data<'a>>, Fault> {
        let offsets: Vec<u64> = entry.offsets().iter().flatten().collect();
        caps::count("constants", offsets.len())?;
        if offsets.len() < 2 {
            return Ok(Vec::new());
        }
        let bytes = self.segment(u64::from(entry.segment_index()))?;
        let mut ends = offsets.clone();
        ends.push(bytes.len() as u64);
        ends.sort_unstable();
        let one = |offset: &u64| {
            let size = ends[ends
                .partition_point(|end| end <= offset)
                .min(ends.len() - 1)]
            .saturating_sub(*offset);
            let leaves = Fault::Range {
                what: "a constant",
                offset: *offset,
                size,
                available: bytes.len() as u64,
            };
            let (start, size) = (usize::try_from(*offset).ok(), usize::try_from(size).ok());
            let range = start
                .zip(size)
                .and_then(|(start, size)| bytes.get(start..start.checked_add(size)?));
            range.map(Data::borrowed).ok_or(leaves)
        };
        offsets[1..].iter().map(one).collect()
    }

    fn method(
        &self,
        plan: wire::ExecutionPlan<'a>,
        constants: &mut Constants<'_, 'a>,
    ) -> Result<Method<'a>, FormatError> {
        known_fields!(plan, ExecutionPlan, VT_NON_CONST_BUFFER_DEVICE)?;
        let name = plan
            .name()
            .ok_or(Fault::Missing("the method's name"))?
            .to_owned();
        let trees = plan.container_meta_type().map(|trees| Trees {
            inputs: trees.encoded_inp_str().unwrap_or_default().to_owned(),
            outputs: trees.encoded_out_str().unwrap_or_default().to_owned(),
        });
        let list = plan.values().ok_or(Fault::Missing("the list of values"))?;
        caps::count("values", list.len())?;
        let count = list.len();
        let mut values = Vec::new();
        for (at, value) in list.iter().enumerate() {
            values.push(read_value(value, count, constants).within(|| format!("value {at}"))?);
        }
        let mut operators = Vec::new();
        caps::count("operators", plan.operators().map_or(0, |list| list.len()))?;
        for (at, operator) in plan.operators().iter().flatten().enumerate() {
            let name = operator
                .name()
                .ok_or(Fault::Missing("the name"))
                .within(|| format!("operator {at}"))?;
            let overload = operator.overload().unwrap_or_default();
            operators.push(Operator {
                name: name.to_owned(),
                overload: overload.to_owned(),
            });
        }
        let list = plan
            .delegates()
            .ok_or(Fault::Missing("the list of delegates"))?;
        caps::count("delegates", list.len())?;
        let mut delegates = Vec::new();
        for (at, delegate) in list.iter().enumerate() {
            delegates.push(
                self.delegate(delegate)
                    .within(|| format!("delegate {at}"))?,
            );
        }
        let mut arenas = Vec::new();
        let sizes = plan
            .non_const_buffer_sizes()
            .ok_or(Fault::Missing("the list of arenas"))?;
        caps::count("arenas", sizes.len())?;
        for (at, size) in sizes.iter().enumerate() {
            let negative = |_| Fault::Value {
                what: "the size",
                value: size.to_string(),
                allowed: "0 or more",
            };
            arenas.push(
                u64::try_from(size)
                    .map_err(negative)
                    .within(|| format!("arena {at}"))?,
            );
        }
        if let Some(place) = plan
            .non_const_buffer_device()
            .iter()
            .flatten()
            .find(|place| place.device_type().0 != 0)
        {
            return Err(Fault::Unsupported(format!(
                "arena {} on another device",
                place.buffer_idx()
            ))
            .into());
        }
        let list = plan.chains().ok_or(Fault::Missing("the list of chains"))?;
        caps::count("chains", list.len())?;
        let mut chains = Vec::new();
        let mut notes = Vec::new();
        for (at, chain) in list.iter().enumerate() {
            let counts = CallCounts {
                values: count,
                operators: operators.len(),
                delegates: delegates.len(),
            };
            let calls = read_chain(chain, &counts).within(|| format!("chain {at}"))?;
            read_notes(chain, at, &calls, &mut notes);
            chains.push(calls);
        }
        Ok(Method {
            name,
            trees,
            inputs: indices("value", plan.inputs(), count).within(|| "inputs".to_owned())?,
            outputs: indices("value", plan.outputs(), count).within(|| "outputs".to_owned())?,
            values,
            chains,
            operators,
            delegates,
            notes,
            arenas,
        })
    }

    fn delegate(&self, delegate: wire::BackendDelegate<'a>) -> Result<Delegate<'a>, FormatError> {
        known_fields!(delegate, BackendDelegate, VT_COMPILE_SPECS)?;
        let id = delegate.id().ok_or(Fault::Missing("the id"))?;
        let place = delegate
            .processed()
            .ok_or(Fault::Missing("the place of the payload"))?;
        let bytes: &'a [u8] = match place.location() {
            wire::DataLocation::SEGMENT => self.segment(u64::from(place.index()))?,
            wire::DataLocation::INLINE => {
                let list = self.root.backend_delegate_data();
                let count = list.map_or(0, |list| list.len());
                let index = place.index() as usize;
                let missing = Fault::Index {
                    what: "inline payload",
                    index: i64::from(place.index()),
                    count: count as u64,
                };
                let item = list
                    .filter(|_| index < count)
                    .map(|list| list.get(index))
                    .ok_or(missing)?;
                item.data().map_or(&[], |data| data.bytes())
            }
            other => {
                let value = other.0.to_string();
                return Err(Fault::Value {
                    what: "the place of the payload",
                    value,
                    allowed: "0 or 1",
                }
                .into());
            }
        };
        let payload = if id == MLX_BACKEND {
            Payload::Mlx(Box::new(self.graph(bytes).within(|| "payload".to_owned())?))
        } else {
            Payload::Other(Data::borrowed(bytes))
        };
        let spec = |spec: wire::CompileSpec<'_>| CompileSpec {
            key: spec.key().unwrap_or_default().to_owned(),
            value: spec
                .value()
                .map_or_else(Vec::new, |value| value.bytes().to_vec()),
        };
        let specs = delegate
            .compile_specs()
            .iter()
            .flatten()
            .map(spec)
            .collect();
        Ok(Delegate {
            id: id.to_owned(),
            payload,
            specs,
        })
    }
}

impl Reader<'_, '_> {
    /// The program in a payload. What all of them together take is bounded by the file's size, however often they are shared.
    fn graph(&self, bytes: &[u8]) -> Result<MlxGraph, FormatError> {
        self.payloads
            .set(self.payloads.get().saturating_add(bytes.len() as u64));
        caps::shared("all payloads", self.payloads.get(), self.file.len() as u64)?;
        let graph = MlxGraph::from_blob(bytes)?;
        let instructions: usize = graph.chains.iter().map(Vec::len).sum();
        self.instructions
            .set(self.instructions.get().saturating_add(instructions));
        caps::count("instructions in all", self.instructions.get())?;
        Ok(graph)
    }
}

/// The bytes of a segment that lies at `offset` from `base`.
pub(super) fn bytes_at(file: &[u8], base: u64, offset: u64, size: u64) -> Result<&[u8], Fault> {
    let leaves = || Fault::Range {
        what: "the segment",
        offset,
        size,
        available: (file.len() as u64).saturating_sub(base),
    };
    let start = base.checked_add(offset).ok_or_else(leaves)?;
    let end = start.checked_add(size).ok_or_else(leaves)?;
    let range = usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .ok_or_else(leaves)?;
    file.get(range.0..range.1).ok_or_else(leaves)
}

/// Cuts off the padding behind constants: a constant is as large as the largest tensor that it is the content of.
fn trim(constants: &mut [Data<'_>], methods: &[Method<'_>]) {
    let mut used = vec![0; constants.len()];
    for tensor in methods
        .iter()
        .flat_map(|method| &method.values)
        .filter_map(Value::as_tensor)
    {
        if let Storage::Constant(constant)
        | Storage::Planned {
            initial: Some(constant),
            ..
        } = tensor.storage
            && let Some(used) = used.get_mut(constant as usize)
        {
            *used = tensor.max_bytes().unwrap_or(u64::MAX).max(*used);
        }
    }
    for (constant, used) in constants.iter_mut().zip(used) {
        let all = constant.as_borrowed().unwrap_or_default();
        let used = usize::try_from(used).unwrap_or(usize::MAX).min(all.len());
        *constant = Data::borrowed(&all[..used]);
    }
}

/// How many of each there are in a method.
struct CallCounts {
    values: usize,
    operators: usize,
    delegates: usize,
}

fn read_chain(chain: wire::Chain<'_>, counts: &CallCounts) -> Result<Vec<Call>, FormatError> {
    let list = chain
        .instructions()
        .ok_or(Fault::Missing("the list of calls"))?;
    caps::count("calls", list.len())?;
    let mut calls = Vec::new();
    for (at, call) in list.iter().enumerate() {
        calls.push(read_call(call, counts, list.len()).within(|| format!("call {at}"))?);
    }
    Ok(calls)
}

/// The most bytes of a text in a note: many notes may point at one long text.
const NOTE: usize = 1000;

/// What the stack traces of a chain say about its kernel calls.
fn read_notes(chain: wire::Chain<'_>, number: usize, calls: &[Call], notes: &mut Vec<Note>) {
    let text = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        let end = (0..=NOTE.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text[..end.unwrap_or_default()].to_owned()
    };
    for (call, (frames, _)) in (0..).zip(chain.stacktrace().iter().flatten().zip(calls)) {
        let kernel = matches!(calls.get(call as usize), Some(Call::Kernel { .. }));
        let last = frames.items().and_then(|list| list.iter().next_back());
        if let Some(frame) = last.filter(|_| kernel) {
            notes.push(Note {
                chain: u32::try_from(number).unwrap_or(u32::MAX),
                call,
                module: text(frame.name()),
                reason: text(frame.context()),
            });
        }
    }
}

fn read_call(
    call: wire::Instruction<'_>,
    counts: &CallCounts,
    calls: usize,
) -> Result<Call, Fault> {
    if let Some(call) = call.instr_args_as_kernel_call() {
        let operator = index("operator", i64::from(call.op_index()), counts.operators)?;
        return Ok(Call::Kernel {
            operator,
            args: indices("value", call.args(), counts.values)?,
        });
    }
    if let Some(call) = call.instr_args_as_delegate_call() {
        let delegate = index(
            "delegate",
            i64::from(call.delegate_index()),
            counts.delegates,
        )?;
        return Ok(Call::Delegate {
            delegate,
            args: indices("value", call.args(), counts.values)?,
        });
    }
    let value = |number: i32| index("value", i64::from(number), counts.values);
    if let Some(call) = call.instr_args_as_move_call() {
        return Ok(Call::Move {
            from: value(call.move_from())?,
            to: value(call.move_to())?,
        });
    }
    if let Some(call) = call.instr_args_as_jump_false_call() {
        // One past the last call is the end of the chain.
        let target = index("call", i64::from(call.destination_instruction()), calls + 1)?;
        return Ok(Call::JumpFalse {
            condition: value(call.cond_value_index())?,
            target,
        });
    }
    if let Some(call) = call.instr_args_as_free_call() {
        return Ok(Call::Free {
            value: value(call.value_index())?,
        });
    }
    Err(Fault::Unsupported(format!(
        "a call of kind {}",
        call.instr_args_type().0
    )))
}

fn read_value(
    value: wire::EValue<'_>,
    count: usize,
    constants: &mut Constants<'_, '_>,
) -> Result<Value, Fault> {
    let missing = Fault::Missing("the content");
    if let Some(tensor) = value.val_as_tensor() {
        return Ok(Value::Tensor(read_tensor(tensor, constants)?));
    }
    match value.val_type() {
        wire::KernelTypes::Null => Ok(Value::None),
        wire::KernelTypes::Int => Ok(Value::Int(value.val_as_int().ok_or(missing)?.int_val())),
        wire::KernelTypes::Bool => Ok(Value::Bool(value.val_as_bool().ok_or(missing)?.bool_val())),
        wire::KernelTypes::Double => Ok(Value::Double(
            value.val_as_double().ok_or(missing)?.double_val(),
        )),
        wire::KernelTypes::String => {
            let text = value
                .val_as_string()
                .and_then(|text| text.string_val())
                .ok_or(missing)?;
            Ok(Value::String(text.to_owned()))
        }
        wire::KernelTypes::IntList => {
            let items = value
                .val_as_int_list()
                .and_then(|list| list.items())
                .ok_or(missing)?;
            let items: Result<_, _> = items
                .iter()
                .map(|item| index("value", item, count))
                .collect();
            Ok(Value::IntList(items?))
        }
        wire::KernelTypes::DoubleList => {
            let items = value
                .val_as_double_list()
                .and_then(|list| list.items())
                .ok_or(missing)?;
            Ok(Value::DoubleList(items.iter().collect()))
        }
        wire::KernelTypes::BoolList => {
            let items = value
                .val_as_bool_list()
                .and_then(|list| list.items())
                .ok_or(missing)?;
            Ok(Value::BoolList(items.iter().collect()))
        }
        wire::KernelTypes::TensorList => {
            let items = value.val_as_tensor_list().and_then(|list| list.items());
            Ok(Value::TensorList(indices(
                "value",
                Some(items.ok_or(missing)?),
                count,
            )?))
        }
        wire::KernelTypes::OptionalTensorList => {
            let items = value
                .val_as_optional_tensor_list()
                .and_then(|list| list.items())
                .ok_or(missing)?;
            let one = |item| {
                if item == -1 {
                    Ok(None)
                } else {
                    index("value", i64::from(item), count).map(Some)
                }
            };
            let items: Result<_, _> = items.iter().map(one).collect();
            Ok(Value::OptionalTensorList(items?))
        }
        other => Err(Fault::Unsupported(format!("a value of kind {}", other.0))),
    }
}

fn read_tensor(
    tensor: wire::Tensor<'_>,
    constants: &mut Constants<'_, '_>,
) -> Result<TensorValue, Fault> {
    let code = tensor.scalar_type().0;
    let dtype = ScalarType::from_code(code).ok_or(Fault::UnknownDType(code))?;
    if tensor.storage_offset() != 0 {
        return Err(Fault::Unsupported("an offset into the storage".to_owned()));
    }
    let list = tensor.sizes().ok_or(Fault::Missing("the list of sizes"))?;
    caps::rank(list.len())?;
    let size = |size: i32| {
        u32::try_from(size).map_err(|_| Fault::Value {
            what: "a size",
            value: size.to_string(),
            allowed: "0 or more",
        })
    };
    let sizes = list.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let order = tensor
        .dim_order()
        .ok_or(Fault::Missing("the order of dimensions"))?;
    if !order.iter().map(usize::from).eq(0..sizes.len()) {
        return Err(Fault::Unsupported(format!(
            "the order of dimensions {:?}",
            order.bytes()
        )));
    }
    let dynamic = match tensor.shape_dynamism() {
        wire::TensorShapeDynamism::STATIC => false,
        wire::TensorShapeDynamism::DYNAMIC_BOUND => true,
        _ => {
            return Err(Fault::Unsupported(
                "a shape without upper bounds".to_owned(),
            ));
        }
    };
    let extra = tensor.extra_tensor_info();
    if extra.is_some_and(|extra| extra.device_type() != wire::DeviceType::CPU) {
        return Err(Fault::Unsupported("a tensor on another device".to_owned()));
    }
    let elsewhere = extra.filter(|extra| extra.location() == wire::TensorDataLocation::EXTERNAL);
    let buffer = tensor.data_buffer_idx();
    let mut read = TensorValue {
        dtype,
        sizes,
        dynamic,
        storage: Storage::Caller,
    };
    if let Some(elsewhere) = elsewhere {
        let name = elsewhere
            .fully_qualified_name()
            .ok_or(Fault::Missing("the name of bytes in another file"))?;
        read.storage = Storage::Constant(constants.external(name, &read)?);
        return Ok(read);
    }
    read.storage = match (tensor.allocation_info(), buffer) {
        (None, 0) => Storage::Caller,
        (Some(place), 0) => Storage::Planned {
            arena: place.memory_id(),
            offset: planned_offset(place),
            initial: None,
        },
        (None, buffer) => {
            Storage::Constant(index("constant", i64::from(buffer) - 1, constants.own)?)
        }
        (Some(place), buffer) => {
            let list = extra.map_or(0, |extra| extra.mutable_data_segments_idx());
            Storage::Planned {
                arena: place.memory_id(),
                offset: planned_offset(place),
                initial: Some(constants.initial(list, buffer)?),
            }
        }
    };
    Ok(read)
}

fn planned_offset(place: wire::AllocationDetails<'_>) -> u64 {
    u64::from(place.memory_offset_high()) << 32 | u64::from(place.memory_offset_low())
}

fn index(what: &'static str, index: i64, count: usize) -> Result<u32, Fault> {
    let number = u32::try_from(index)
        .ok()
        .filter(|number| (*number as usize) < count);
    number.ok_or(Fault::Index {
        what,
        index,
        count: count as u64,
    })
}

fn indices(
    what: &'static str,
    list: Option<flatbuffers::Vector<'_, i32>>,
    count: usize,
) -> Result<Vec<u32>, Fault> {
    caps::count("indices", list.map_or(0, |list| list.len()))?;
    list.iter()
        .flatten()
        .map(|number| index(what, i64::from(number), count))
        .collect()
}
