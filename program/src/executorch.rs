//! What a program asks that ExecuTorch 1.5.1 does not give: its runtime, with its own delegate for MLX.
//!
//! A file that we write loads there and gives the same results, but for what [`refusals`] says of it. Found by running files in that
//! delegate, built against MLX's library for the CPU.

use std::collections::BTreeMap;
use std::fmt;

use crate::container::{Call, Method, Payload, Program, Storage, Value, ValueIdx};
use crate::dtype::ScalarType;
use crate::graph::{Dim, IoSlot, MlxGraph};
use crate::infer::{SlotType, Types};
use crate::instr::{Field, Instruction, Slot, Tid};

/// Something that ExecuTorch does not take, or would do otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where, outermost first: `method "forward", delegate 0`.
    pub place: String,
    /// What.
    pub reason: Reason,
}

/// What ExecuTorch does not take, or would do otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The delegate has no such element type.
    DType(ScalarType),
    /// An instruction that can write in place is handed a constant, which the delegate refuses also where it doesn't.
    Constant(&'static str),
    /// A host integer is read from elements of that type, which are narrower than the four bytes that the delegate reads.
    Narrow(ScalarType),
    /// A tensor that a call makes has no upper bounds, so that nothing sets memory aside for it.
    Unbounded,
    /// A tensor has more bytes at its upper bounds than 63 bits can count: the whole program is refused.
    Uncountable,
    /// The state of that name, and so many others of the method, are in several delegates, or in those of other methods: there each
    /// delegate has its own.
    Shared(String, usize),
    /// The state of that name has no elements.
    Empty(String),
    /// A call moves a tensor: there the two are the same one afterwards.
    Move,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DType(dtype) => write!(f, "its delegate has no elements of type {dtype}"),
            Self::Constant(name) => write!(f, "its delegate takes no constant as {name}'s dst"),
            Self::Narrow(dtype) => write!(f, "it reads a number from four bytes, of {dtype}"),
            Self::Unbounded => write!(f, "it has no memory for a result without upper bounds"),
            Self::Uncountable => write!(f, "it counts a tensor's bytes in 63 bits"),
            Self::Shared(name, 0) => write!(f, "each delegate has a state \"{name}\" of its own"),
            Self::Shared(name, more) => {
                write!(
                    f,
                    "each delegate has a state \"{name}\" of its own, and {more} more"
                )
            }
            Self::Empty(name) => {
                write!(f, "its delegate has no state without elements: \"{name}\"")
            }
            Self::Move => write!(f, "a moved tensor is the same one in both places"),
        }
    }
}

/// All that ExecuTorch 1.5.1 does not take of a program, or would do otherwise. Operators of the host are not among it: which kernels
/// there are is up to who builds it. The same reason at one place stands there once.
#[must_use]
pub fn refusals(program: &Program<'_>) -> Vec<Refusal> {
    let mut found = Vec::new();
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for method in &program.methods {
        let place = format!("method {:?}", method.name);
        let mut reasons = of_method(method);
        let mut shared: Vec<&str> = Vec::new();
        for (number, delegate) in method.delegates.iter().enumerate() {
            let Payload::Mlx(graph) = &delegate.payload else {
                continue;
            };
            for slot in &graph.state {
                let name = graph.name_of(*slot).unwrap_or_default();
                let times = states.entry(name).or_default();
                *times += 1;
                if *times == 2 {
                    shared.push(name);
                }
            }
            let place = format!("{place}, delegate {number}");
            found.extend(listed(&place, of_graph(graph)));
        }
        if let Some((first, more)) = shared.split_first() {
            reasons.push(Reason::Shared((*first).to_owned(), more.len()));
        }
        found.extend(listed(&place, reasons));
    }
    found
}

fn listed(place: &str, mut reasons: Vec<Reason>) -> impl Iterator<Item = Refusal> + use<'_> {
    reasons.sort();
    reasons.dedup();
    reasons.into_iter().map(|reason| Refusal {
        place: place.to_owned(),
        reason,
    })
}

fn of_method(method: &Method<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let moved = method
        .chains
        .iter()
        .flatten()
        .filter_map(|call| match call {
            Call::Move { to, .. } => Some(*to),
            _ => None,
        });
    let moved: Vec<ValueIdx> = moved.collect();
    for (number, value) in (0..).zip(&method.values) {
        let Value::Tensor(tensor) = value else {
            continue;
        };
        let elsewhere = method.inputs.contains(&number) || moved.contains(&number);
        if tensor.dynamic && tensor.storage == Storage::Caller && !elsewhere {
            reasons.push(Reason::Unbounded);
        }
        if tensor
            .max_bytes()
            .is_none_or(|bytes| i64::try_from(bytes).is_err())
        {
            reasons.push(Reason::Uncountable);
        }
    }
    if !moved.is_empty() {
        reasons.push(Reason::Move);
    }
    reasons
}

fn of_graph(graph: &MlxGraph) -> Vec<Reason> {
    let described = graph.tensors.iter().map(|tensor| tensor.dtype);
    let mut dtypes: Vec<ScalarType> = described.collect();
    let mut reasons = Vec::new();
    let types = Types::of(graph);
    for (chain, instructions) in graph.chains.iter().enumerate() {
        // What the slots that are not described hold, as the chain goes: each chain says itself what it reads narrow.
        let mut held: BTreeMap<Tid, ScalarType> = BTreeMap::new();
        for (position, instruction) in instructions.iter().enumerate() {
            let name = instruction.info().name;
            match instruction {
                Instruction::SliceUpdate(update) if update.dst.0 < graph.counts.constants => {
                    reasons.push(Reason::Constant(name));
                }
                Instruction::IndexCopy(update) if update.dst.0 < graph.counts.constants => {
                    reasons.push(Reason::Constant(name));
                }
                Instruction::ItemInt(item) => {
                    let described = graph.tensors.get(item.x.0 as usize).map(|meta| meta.dtype);
                    let dtype = held.get(&item.x).copied().or(described);
                    reasons.extend(dtype.filter(|dtype| dtype.size() < 4).map(Reason::Narrow));
                }
                _ => {}
            }
            for (_, field) in instruction.fields() {
                match field {
                    Field::DType(dtype) => dtypes.push(dtype),
                    Field::DTypes(all) => dtypes.extend(all),
                    _ => {}
                }
            }
            for (slot, ty) in instruction
                .writes()
                .into_iter()
                .zip(types.results(chain, position))
            {
                if let (
                    Slot::Tensor(tid),
                    SlotType::Tensor {
                        dtype: Some(dtype), ..
                    },
                ) = (slot, ty)
                {
                    dtypes.push(*dtype);
                    held.insert(tid, *dtype);
                }
            }
        }
    }
    for slot in &graph.state {
        if let IoSlot::Tensor(tid) = slot
            && let Some(meta) = graph.tensors.get(tid.0 as usize)
            && meta.shape.contains(&Dim::Static(0))
        {
            let name = graph.name_of(*slot).unwrap_or_default();
            reasons.push(Reason::Empty(name.to_owned()));
        }
    }
    let foreign = dtypes.into_iter().filter(|dtype| !has(*dtype));
    reasons.extend(foreign.map(Reason::DType));
    reasons
}

/// Whether the delegate has elements of a type.
fn has(dtype: ScalarType) -> bool {
    use ScalarType as S;
    matches!(
        dtype,
        S::Bool | S::U8 | S::I8 | S::I16 | S::I32 | S::U32 | S::I64 | S::F16 | S::BF16 | S::F32
    )
}
