//! From a file to a program: mapping, constants, names, what is run once.

mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use fuseline_program as format;
use fuseline_program::container::limits::Limit;
use fuseline_program::container::uses::{Border, Uses};
use fuseline_program::diff::plain;
use fuseline_program::infer::{indices_behind_axes, taken_as_rows};
use fuseline_program::instr::{Instruction, Slot};
use fuseline_program::{Dim, IoSlot, Mapping, MlxGraph, ScalarType, Storage, Tid};

use crate::budget::{self, Budget};
use crate::error::Error;
use crate::fault::Fault;
use crate::frame::{Constant, Frame};
use crate::kernels::{Kernels, Place, place};
use crate::late::Late;
use crate::mlx::{self, Array, Stream};
use crate::ops::{self, CacheLayout, CacheOptions, Caches};
use crate::program::{
    Argument, FixedInput, Input, InputKind, Method, Output, Segment, State, StateInfo, Step,
};
use crate::replay;
use crate::tensor::Tensor;
use crate::value::Value;

/// What a file's methods are made from.
pub(crate) struct Loader<'a> {
    pub(crate) files: &'a Arc<Vec<Mapping>>,
    pub(crate) program: &'a format::Program<'a>,
    /// The program's data by name.
    pub(crate) named: BTreeMap<&'a str, &'a format::Data<'a>>,
    pub(crate) kernels: &'a Kernels,
    pub(crate) stream: Stream,
    /// What an init chain may take.
    pub(crate) max_steps: u64,
    /// How many bytes a single array of an init chain may have.
    pub(crate) largest: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) states: Vec<State>,
    /// The numbers of states that have a name, by name, type and shape.
    pub(crate) known_states: BTreeMap<(String, ScalarType, Vec<usize>), usize>,
    /// What is missing, all of it, for one message.
    pub(crate) needs: Vec<String>,
    /// The same, for a look at what is among it.
    pub(crate) known_needs: BTreeSet<String>,
}

impl Loader<'_> {
    fn need(&mut self, need: String) {
        if self.known_needs.insert(need.clone()) {
            self.needs.push(need);
        }
    }

    /// A method, with the segments that it runs.
    pub(crate) fn method(
        &mut self,
        number: usize,
        method: &format::Method<'_>,
    ) -> Result<Method, Error> {
        let mut limits: BTreeMap<usize, Vec<Limit>> = BTreeMap::new();
        for limit in texts::<Limit>(method) {
            limits.entry(limit.delegate).or_default().push(limit);
        }
        let uses = Uses::of(method);
        let mut segments = Vec::with_capacity(method.delegates.len());
        for delegate in &method.delegates {
            segments.push(match &delegate.payload {
                format::Payload::Mlx(graph) => {
                    for instruction in graph.chains.iter().flatten() {
                        if let Some(need) = ops::missing(instruction) {
                            let need = format!("{}, which needs {need}", instruction.info().node);
                            self.need(need);
                        }
                    }
                    if !self.needs.is_empty() {
                        segments.push(None);
                        continue;
                    }
                    let mut own = limits.remove(&segments.len()).unwrap_or_default();
                    own.sort_by_key(|limit| limit.slot);
                    let segment = self.segment(graph, own)?;
                    self.segments.push(segment);
                    Some(self.segments.len() - 1)
                }
                format::Payload::Other(_) => {
                    self.need(format!(
                        "the delegate `{}`, which is not known here",
                        delegate.id
                    ));
                    None
                }
            });
        }
        let values = method.values.iter().map(|value| self.value(value, method));
        let mut values = values.collect::<Result<Vec<_>, _>>()?;
        let mut chains: Vec<Vec<Step>> = Vec::with_capacity(method.chains.len());
        for (number, chain) in (0..).zip(&method.chains) {
            let steps = (0..)
                .zip(chain)
                .filter_map(|(at, call)| self.step(call, uses.note(number, at), method, &segments));
            chains.push(steps.collect());
        }
        views::add(method, &mut chains);
        let mut kept = self.kept(method, &chains, &mut values)?;
        let mut states = Vec::new();
        for at in &kept {
            if let Some(number) = self.kept_state(method, *at, &values)? {
                states.push((*at, number));
            }
        }
        kept.retain(|at| !states.iter().any(|(state, _)| state == at));
        let (fixed, inputs): (Vec<_>, Vec<_>) = method
            .inputs
            .iter()
            .enumerate()
            .partition(|(_, value)| is_fixed(**value, method, &uses));
        let outputs = method.outputs.iter().map(|value| {
            let tensor = method
                .values
                .get(*value as usize)
                .and_then(format::Value::as_tensor);
            (
                *value as usize,
                Output {
                    dtype: tensor.map(|tensor| tensor.dtype),
                },
            )
        });
        Ok(Method {
            name: method.name.clone(),
            values,
            inputs: inputs
                .into_iter()
                .map(|(at, value)| {
                    (
                        *value as usize,
                        input(at, *value, method, uses.taken(*value)),
                    )
                })
                .collect(),
            fixed: fixed
                .into_iter()
                .map(|(at, value)| fixed_input(at, *value, method))
                .collect(),
            sizes: texts(method).next(),
            outputs: outputs.collect(),
            chains,
            number,
            kept,
            states,
        })
    }

    /// The values that a method keeps from call to call: planned tensors that have a content to begin with, and those that are read before they are
    /// written, which begin with zeros.
    fn kept(
        &self,
        method: &format::Method<'_>,
        chains: &[Vec<Step>],
        values: &mut [Value],
    ) -> Result<Vec<usize>, Error> {
        let planned = |at: usize| match method.values.get(at).and_then(format::Value::as_tensor) {
            Some(tensor) => match tensor.storage {
                Storage::Planned { initial, .. } => Some((tensor, initial.is_some())),
                _ => None,
            },
            None => None,
        };
        let mut kept: BTreeSet<usize> = (0..values.len())
            .filter(|at| planned(*at).is_some_and(|(_, begins)| begins))
            .collect();
        let mut needed = 0_u64;
        let mut written: BTreeSet<usize> = method.inputs.iter().map(|at| *at as usize).collect();
        for step in chains.iter().flatten() {
            let (reads, writes) = step.slots();
            for at in reads {
                if let Some((tensor, false)) = planned(at).filter(|_| !written.contains(&at))
                    && kept.insert(at)
                {
                    let bytes = tensor.max_bytes().filter(|bytes| *bytes <= 1 << 32);
                    let bytes = bytes.ok_or(Error::Interface(Fault::Overflow))?;
                    needed = needed.saturating_add(bytes);
                    if needed > self.largest {
                        let limit = self.largest;
                        return Err(Error::Memory { needed, limit });
                    }
                    let zeros = vec![0; usize::try_from(bytes).unwrap_or_default()];
                    let shape: Vec<usize> = tensor.sizes.iter().map(|n| *n as usize).collect();
                    values[at] = Tensor::from_bytes(tensor.dtype, &shape, &zeros)?.into();
                }
            }
            written.extend(writes);
        }
        Ok(kept.into_iter().collect())
    }

    /// The number of the state that a kept value is, if a delegate reads or writes it under a name. Values of other methods are other states.
    fn kept_state(
        &mut self,
        method: &format::Method<'_>,
        at: usize,
        values: &[Value],
    ) -> Result<Option<usize>, Error> {
        let reader = method.chains.iter().flatten().find_map(|call| {
            let format::Call::Delegate { delegate, args } = call else {
                return None;
            };
            let format::Payload::Mlx(graph) = &method.delegates.get(*delegate as usize)?.payload
            else {
                return None;
            };
            let slots = args.iter().zip(graph.inputs.iter().chain(&graph.outputs));
            let mut named = slots.filter(|(arg, _)| **arg as usize == at);
            named.find_map(|(_, slot)| graph.name_of(*slot))
        });
        let (Some(name), Some(Value::Tensor(tensor))) = (reader, values.get(at)) else {
            return Ok(None);
        };
        let info = StateInfo {
            name: plain(name).to_owned(),
            dtype: tensor.dtype(),
            shape: tensor.shape(),
        };
        let initial = Some(tensor.array().share()?);
        Ok(Some(self.state(None, info, initial)))
    }

    fn value(&self, value: &format::Value, method: &format::Method<'_>) -> Result<Value, Error> {
        use format::Value as F;
        let numbers = |indices: &[u32]| {
            let each = indices
                .iter()
                .map(|at| match method.values.get(*at as usize) {
                    Some(F::Int(number)) => Value::Int(*number),
                    _ => Value::None,
                });
            Value::List(each.collect())
        };
        Ok(match value {
            F::None | F::TensorList(_) | F::OptionalTensorList(_) => Value::None,
            F::Int(number) => Value::Int(*number),
            F::Bool(flag) => Value::Bool(*flag),
            F::Double(number) => Value::Float(*number),
            F::String(text) => Value::String(text.clone()),
            F::IntList(indices) => numbers(indices),
            F::DoubleList(numbers) => {
                Value::List(numbers.iter().map(|n| Value::Float(*n)).collect())
            }
            F::BoolList(flags) => Value::List(flags.iter().map(|b| Value::Bool(*b)).collect()),
            F::Tensor(tensor) => match tensor.storage {
                Storage::Constant(number)
                | Storage::Planned {
                    initial: Some(number),
                    ..
                } => {
                    let data = self.program.constants.get(number as usize);
                    let bytes = data.and_then(format::Data::as_slice).unwrap_or_default();
                    Value::Tensor(self.constant(bytes, tensor.dtype, &tensor.sizes)?.into())
                }
                Storage::Caller | Storage::Planned { .. } => Value::None,
            },
        })
    }

    /// An array over bytes of the file.
    fn constant(&self, bytes: &[u8], dtype: ScalarType, shape: &[u32]) -> Result<Array, Error> {
        let size = shape
            .iter()
            .try_fold(dtype.size(), |size, n| size.checked_mul(u64::from(*n)));
        let lengths = shape
            .iter()
            .map(|length| i32::try_from(*length))
            .collect::<Result<Vec<_>, _>>();
        match (size, lengths) {
            (Some(size), Ok(lengths)) if size == bytes.len() as u64 => {
                Ok(Array::over_bytes(bytes, self.files, &lengths, dtype)?)
            }
            _ => Err(Error::Interface(Fault::TooLarge {
                bytes: size.unwrap_or(u64::MAX),
                limit: bytes.len() as u64,
            })),
        }
    }

    fn step(
        &mut self,
        call: &format::Call,
        note: Option<&format::Note>,
        method: &format::Method<'_>,
        segments: &[Option<usize>],
    ) -> Option<Step> {
        match call {
            format::Call::Delegate { delegate, args } => {
                let segment = segments.get(*delegate as usize).copied().flatten()?;
                let taken = self.segments[segment].graph.inputs.len().min(args.len());
                let (inputs, outputs) = args.split_at(taken);
                let declared = |value: &u32| {
                    let value = method.values.get(*value as usize);
                    value.and_then(format::Value::as_tensor).cloned()
                };
                Some(Step::Delegate {
                    segment,
                    inputs: inputs.iter().map(|value| *value as usize).collect(),
                    outputs: outputs
                        .iter()
                        .map(|value| (*value as usize, declared(value)))
                        .collect(),
                })
            }
            format::Call::Kernel { operator, args } => {
                let name = method.operators.get(*operator as usize)?.to_string();
                let Some(kernel) = self.kernels.get(&name).cloned() else {
                    let module = note.map(|note| note.module.as_str()).unwrap_or_default();
                    let place = match module {
                        "" => String::new(),
                        module => format!(" (in {module})"),
                    };
                    self.need(format!(
                        "the operator `{name}`, which is not registered{place}"
                    ));
                    return None;
                };
                let place = place(&name);
                let behind = match place {
                    Place::Twice => kernel.outputs + 1,
                    Place::Last => kernel.outputs,
                    Place::First => 0,
                };
                let taken = args.len().checked_sub(behind);
                let Some(taken) = taken.filter(|taken| *taken <= kernel.inputs) else {
                    self.need(format!(
                        "the operator `{name}` with {} arguments, results among them; the one that is registered takes {} and gives {}",
                        args.len().saturating_sub(1),
                        kernel.inputs,
                        kernel.outputs
                    ));
                    return None;
                };
                let (inputs, rest) = args.split_at(taken);
                let rest = if place == Place::First { inputs } else { rest };
                // A list of results stands for its tensors.
                let rest = rest.iter().take(kernel.outputs).flat_map(|value| {
                    match method.values.get(*value as usize) {
                        Some(format::Value::TensorList(items)) => items.clone(),
                        _ => vec![*value],
                    }
                });
                let results = rest.map(|value| {
                    let meta = method.values.get(value as usize);
                    let meta = meta.and_then(format::Value::as_tensor).cloned();
                    (value as usize, meta)
                });
                Some(Step::Kernel {
                    inputs: inputs
                        .iter()
                        .map(|value| argument(*value, method))
                        .collect(),
                    outputs: results.collect(),
                    name,
                    kernel,
                })
            }
            format::Call::Move { from, to } => Some(Step::Move {
                from: *from as usize,
                to: *to as usize,
            }),
            format::Call::JumpFalse { condition, target } => Some(Step::JumpFalse {
                condition: *condition as usize,
                target: *target as usize,
            }),
            format::Call::Free { value } => Some(Step::Free {
                value: *value as usize,
            }),
        }
    }

    /// Loads the constants of a delegate and runs its init chain.
    fn segment(&mut self, graph: &MlxGraph, limits: Vec<Limit>) -> Result<Segment, Error> {
        let with_rows = taken_as_rows(graph);
        let graph = with_rows.as_ref().unwrap_or(graph);
        let turned = indices_behind_axes(graph);
        let graph = turned.as_ref().unwrap_or(graph);
        let counts = graph.counts;
        // A file may name a million slots: one look at each.
        let names: BTreeMap<IoSlot, &str> = graph
            .names
            .iter()
            .map(|named| (named.slot, named.name.as_str()))
            .collect();
        let interface = |slot: u32| Error::Interface(Fault::UnsetTensor { slot });
        let mut tensors = Vec::with_capacity(usize::try_from(counts.tensors()).unwrap_or_default());
        for number in 0..counts.constants {
            let meta = graph
                .tensors
                .get(number as usize)
                .ok_or_else(|| interface(number))?;
            let key = names.get(&IoSlot::Tensor(Tid(number)));
            let bytes = key
                .and_then(|key| self.named.get(key))
                .and_then(|data| data.as_slice());
            let shape = meta.static_shape().ok_or_else(|| interface(number))?;
            let array =
                self.constant(bytes.ok_or_else(|| interface(number))?, meta.dtype, &shape)?;
            tensors.push(Some(array.into()));
        }
        tensors.resize_with(
            usize::try_from(counts.tensors()).unwrap_or_default(),
            || None,
        );
        let budget = Budget::new(self.max_steps, self.largest);
        let steps = budget::chain_steps(graph);
        let layout = CacheLayout::default();
        let late = Late::new(false);
        let mut frame = Frame {
            constants: &[],
            tensors,
            values: vec![None; counts.values as usize],
            limits: &[],
            stream: &self.stream,
            budget: &budget,
            late: &late,
            steps: &steps,
            caches: Caches::default(),
            layout: &layout,
        };

        let mut infos = Vec::with_capacity(graph.state.len());
        for slot in &graph.state {
            infos.push(state_info(*slot, graph, names.get(slot))?);
        }
        let mut initial: Vec<Option<Array>> = infos.iter().map(|_| None).collect();
        if let Some(chain) = graph.init_chain {
            for (tid, info) in &infos {
                let zeros = info.zeros(&frame)?;
                frame.put(*tid, zeros).map_err(Error::Interface)?;
            }
            replay::run_chain(graph, chain, &mut frame)?;
            let written = written_by(graph, chain);
            for ((tid, _), initial) in infos.iter().zip(&mut initial) {
                if written.as_ref().is_none_or(|written| written.contains(tid)) {
                    *initial = Some(frame.take(*tid).map_err(Error::Interface)?);
                }
            }
        }
        let mut constants = Vec::with_capacity(counts.constants as usize);
        for number in 0..counts.constants {
            constants.push(frame.take(Tid(number)).map_err(Error::Interface)?);
        }
        if graph.init_chain.is_some() {
            drop(frame);
            mlx::eval(constants.iter().chain(initial.iter().flatten()))?;
        }
        let mut state = Vec::with_capacity(infos.len());
        for ((slot, (tid, info)), initial) in graph.state.iter().zip(infos).zip(initial) {
            let name = names.get(slot).map(|name| (*name).to_owned());
            state.push((tid, self.state(name, info, initial)));
        }
        Ok(Segment {
            graph: graph.clone(),
            steps,
            limits,
            constants: constants.into_iter().map(Constant::from).collect(),
            state,
        })
    }

    /// The number of a state. Slots of one name, type and shape are the same one, in whichever delegate they stand.
    fn state(&mut self, name: Option<String>, info: StateInfo, initial: Option<Array>) -> usize {
        if let Some(name) = name {
            let new = self.states.len();
            let key = (name, info.dtype, info.shape.clone());
            let known = *self.known_states.entry(key).or_insert(new);
            if known < new {
                return known;
            }
        }
        self.states.push(State { info, initial });
        self.states.len() - 1
    }
}

/// What strings among a method's values say, of those that say something of this kind.
fn texts<T: FromStr>(method: &format::Method<'_>) -> impl Iterator<Item = T> {
    method.values.iter().filter_map(|value| match value {
        format::Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

/// The bytes of a program's weights and of its state.
pub(crate) fn kept_bytes(program: &format::Program<'_>) -> u64 {
    let data = program.named_data.iter().map(|named| &named.data);
    let weights = data.chain(&program.constants).map(format::Data::len);
    let delegates = program.methods.iter().flat_map(|method| &method.delegates);
    let graphs = delegates.filter_map(|delegate| match &delegate.payload {
        format::Payload::Mlx(graph) => Some(graph),
        format::Payload::Other(_) => None,
    });
    let state = graphs.flat_map(|graph| {
        let metas = graph.state.iter().map(|slot| match slot {
            IoSlot::Tensor(tid) => graph.tensors.get(tid.0 as usize),
            _ => None,
        });
        metas.map(|meta| meta.and_then(format::TensorMeta::max_bytes).unwrap_or(0))
    });
    weights.chain(state).fold(0, u64::saturating_add)
}

/// Whether an instruction of the program works on a cache that is kept outside of it.
pub(crate) fn has_outside_caches(program: &format::Program<'_>) -> bool {
    let delegates = program.methods.iter().flat_map(|method| &method.delegates);
    let chains = delegates.flat_map(|delegate| match &delegate.payload {
        format::Payload::Mlx(graph) => graph.chains.as_slice(),
        format::Payload::Other(_) => &[],
    });
    let mut instructions = chains.flatten();
    instructions.any(|i| matches!(i, format::Instruction::UpdateAndAttend(_)))
}

/// How a file wants its layers' caches to be kept: ExecuTorch's exporter of language models says it in methods that return a constant.
pub(crate) fn cache_layout(program: &format::Program<'_>, options: &CacheOptions) -> CacheLayout {
    let constant = |name: &str| {
        let method = program.method(name)?;
        method.values.get(*method.outputs.first()? as usize)
    };
    let capacity = match constant("get_max_ctx_len") {
        Some(format::Value::Int(most)) => u32::try_from(*most).ok(),
        _ => None,
    };
    let windows = constant("get_windows")
        .and_then(format::Value::as_tensor)
        .filter(|tensor| tensor.dtype == ScalarType::I32)
        .and_then(|tensor| match tensor.storage {
            Storage::Constant(number) => program.constants.get(number as usize)?.as_slice(),
            _ => None,
        });
    let window = |bytes: &[u8; 4]| u32::try_from(i32::from_le_bytes(*bytes)).unwrap_or(0);
    let windows = || {
        windows.map_or_else(Vec::new, |bytes| {
            bytes.as_chunks().0.iter().map(window).collect()
        })
    };
    CacheLayout {
        capacity: options.capacity.or(capacity),
        dtype: options.dtype,
        windows: options.windows.clone().unwrap_or_else(windows),
    }
}

fn state_info(
    slot: IoSlot,
    graph: &MlxGraph,
    name: Option<&&str>,
) -> Result<(Tid, StateInfo), Error> {
    let IoSlot::Tensor(tid) = slot else {
        return Err(Error::Interface(Fault::Unsupported {
            node: "a host number among the state",
            needs: "a tensor there",
        }));
    };
    let unset = || Error::Interface(Fault::UnsetTensor { slot: tid.0 });
    let meta = graph.tensors.get(tid.0 as usize).ok_or_else(unset)?;
    let shape = meta.static_shape().ok_or_else(unset)?;
    let info = StateInfo {
        name: name.map_or_else(|| format!("state{}", tid.0), |name| plain(name).to_owned()),
        dtype: meta.dtype,
        shape: shape.into_iter().map(|length| length as usize).collect(),
    };
    Ok((tid, info))
}

/// The tensor slots that a chain writes; none if it runs other chains.
fn written_by(graph: &MlxGraph, chain: u32) -> Option<BTreeSet<Tid>> {
    let mut written = BTreeSet::new();
    for instruction in graph.chain(chain) {
        if matches!(instruction, Instruction::If(_) | Instruction::Scan(_)) {
            return None;
        }
        written.extend(
            instruction
                .writes()
                .into_iter()
                .filter_map(|slot| match slot {
                    Slot::Tensor(tid) => Some(tid),
                    Slot::Value(_) => None,
                }),
        );
    }
    Some(written)
}

fn argument(value: u32, method: &format::Method<'_>) -> Argument {
    match method.values.get(value as usize) {
        Some(format::Value::TensorList(items)) => {
            Argument::List(items.iter().map(|item| Some(*item as usize)).collect())
        }
        Some(format::Value::OptionalTensorList(items)) => Argument::List(
            items
                .iter()
                .map(|item| item.map(|item| item as usize))
                .collect(),
        ),
        _ => Argument::One(value as usize),
    }
}

/// Whether an input is a constant that nothing in the method reads.
fn is_fixed(value: u32, method: &format::Method<'_>, uses: &Uses<'_>) -> bool {
    use format::Value as V;
    let constant = matches!(
        method.values.get(value as usize),
        Some(V::None | V::Int(_) | V::Bool(_) | V::Double(_) | V::String(_))
    );
    constant && !uses.touches(value)
}

/// A fixed input. A string behind its value, which nothing reads, is its name.
fn fixed_input(position: usize, value: u32, method: &format::Method<'_>) -> FixedInput {
    let name = match method.values.get(value as usize + 1) {
        Some(format::Value::String(name)) => name.clone(),
        _ => format!("in{position}"),
    };
    let value = method.values.get(value as usize);
    FixedInput {
        position,
        name,
        value: value.cloned().unwrap_or(format::Value::None),
    }
}

/// What an input takes. The delegate that reads it knows name and ranges; else the method's own value says less.
fn input(
    position: usize,
    value: u32,
    method: &format::Method<'_>,
    reader: Option<&Border<'_>>,
) -> Input {
    let named = reader.and_then(|reader| reader.name);
    let name = named.map_or_else(|| format!("in{position}"), |name| plain(name).to_owned());
    // Only ExecuTorch names what a graph returns.
    let theirs = reader.is_some_and(|reader| reader.names_outputs);
    let kind = match method.values.get(value as usize) {
        Some(format::Value::Tensor(tensor)) => {
            let own = tensor.sizes.iter().map(|size| {
                if tensor.dynamic {
                    Dim::Dynamic {
                        min: 0,
                        max: Some(*size),
                    }
                } else {
                    Dim::Static(*size)
                }
            });
            let meta = reader.and_then(|reader| match reader.slot {
                IoSlot::Tensor(tid) => reader.graph.tensors.get(tid.0 as usize),
                _ => None,
            });
            let known = meta.filter(|meta| meta.shape.len() == tensor.sizes.len());
            InputKind::Tensor {
                dtype: tensor.dtype,
                shape: known.map_or_else(
                    || own.collect(),
                    |meta| {
                        let dims = meta.shape.iter();
                        dims.map(|dim| from_one(dim, theirs)).collect()
                    },
                ),
            }
        }
        Some(format::Value::Int(_)) => InputKind::Int,
        Some(format::Value::Bool(_)) => InputKind::Bool,
        Some(format::Value::Double(_)) => InputKind::Float,
        _ => InputKind::Other,
    };
    Input { name, kind }
}

/// torch.export notes 2 as the least length of a dimension, whether a caller has given 1, 2 or nothing, because it traces lengths 0 and 1 apart, and ExecuTorch hands
/// that on. Its programs run with 1 too. Our own compiler knows what was given, so that the ranges of its files stand as they are.
fn from_one(dim: &Dim, theirs: bool) -> Dim {
    match *dim {
        Dim::Dynamic { min: 2, max } if theirs => Dim::Dynamic { min: 1, max },
        other => other,
    }
}
