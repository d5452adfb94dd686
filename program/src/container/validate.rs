//! What a program must hold before anything is made of it.
//!
//! [`Program::validate`] checks, in this order:
//! 1. names of methods and data are there, are unique and hold no zero bytes; sizes add up to something;
//! 2. values: lists lead to values of the right kind; tensors have a countable size; planned ones lie inside their arena, constants are
//!    as large as their tensors;
//! 3. calls: operators, delegates, values and jump targets exist; they name a million values at most, those in lists among them; the values of one call share no
//!    planned memory;
//! 4. each MLX delegate: its own [`MlxGraph::validate`]; the bytes of each constant are there and of the right size; it is called with
//!    as many values as it has inputs and outputs, tensors for tensors and numbers for numbers, inputs of the type and
//!    the number of dimensions that it expects.
//!
//! [`Pte::validate`] adds what can only be said of a file: segments share no bytes and end where the header says.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Call, Delegate, Header, MLX_BACKEND, Method, Operator, Payload, Program, Pte, Segment, Storage,
    TensorValue, Value, ValueIdx,
};
use crate::caps;
use crate::error::{Fault, FormatError, Within};
use crate::graph::{IoSlot, MlxGraph};
use crate::instr::Tid;

/// ExecuTorch has a buffer of 100 bytes for an operator's name, point, overload and a final zero.
const OPERATOR_NAME: usize = 99;
/// All data of a program together: far beyond any disk, and far below where sums of sizes overflow.
const DATA_BYTES: u64 = 1 << 56;

impl Pte<'_> {
    /// Checks everything that can be known without running the program.
    ///
    /// # Errors
    /// The first thing that is wrong, and where it is.
    pub fn validate(&self) -> Result<(), FormatError> {
        disjoint(&self.segments, &self.header)?;
        self.program.validate()
    }
}

/// That segments share no bytes and end where the header says.
pub(super) fn disjoint(segments: &[Segment], header: &Header) -> Result<(), FormatError> {
    let mut by_place: Vec<(usize, &Segment)> = segments.iter().enumerate().collect();
    by_place.retain(|(_, segment)| segment.size > 0);
    by_place.sort_by_key(|(_, segment)| segment.offset);
    for pair in by_place.windows(2) {
        if pair[0].1.offset.saturating_add(pair[0].1.size) > pair[1].1.offset {
            let (first, second) = (pair[0].0 as u64, pair[1].0 as u64);
            return Err(Fault::Overlap {
                what: "segments",
                first,
                second,
            }
            .into());
        }
    }
    if let Some(available) = header.segment_data_size
        && let Some((_, Segment { offset, size, .. })) = by_place.last()
        && offset.saturating_add(*size) > available
    {
        return Err(Fault::Range {
            what: "the last segment",
            offset: *offset,
            size: *size,
            available,
        }
        .into());
    }
    Ok(())
}

impl Program<'_> {
    /// Checks everything that can be known without running the program.
    ///
    /// # Errors
    /// The first thing that is wrong, and where it is.
    pub fn validate(&self) -> Result<(), FormatError> {
        caps::count("methods", self.methods.len())?;
        caps::count("named data", self.named_data.len())?;
        caps::count("constants", self.constants.len())?;
        unique(
            "method",
            self.methods.iter().map(|method| method.name.as_str()),
        )?;
        unique(
            "data",
            self.named_data.iter().map(|named| named.key.as_str()),
        )?;
        let sizes = self
            .named_data
            .iter()
            .map(|named| &named.data)
            .chain(&self.constants)
            .map(super::Data::len);
        let bytes = sizes.fold(0_u64, u64::saturating_add);
        if bytes > DATA_BYTES {
            return Err(Fault::TooLarge {
                what: "all data together".to_owned(),
                bytes,
                cap: DATA_BYTES,
            }
            .into());
        }
        let named: BTreeMap<&str, u64> = self
            .named_data
            .iter()
            .map(|named| (&*named.key, named.data.len()))
            .collect();
        for method in &self.methods {
            self.check_method(method, &named)
                .within(|| format!("method {:?}", method.name))?;
        }
        Ok(())
    }

    fn check_method(
        &self,
        method: &Method<'_>,
        named: &BTreeMap<&str, u64>,
    ) -> Result<(), FormatError> {
        caps::count("values", method.values.len())?;
        caps::count("delegates", method.delegates.len())?;
        caps::count("operators", method.operators.len())?;
        if method.arenas.is_empty() {
            return Err(Fault::Missing("the list of arenas").into());
        }
        for (at, size) in method.arenas.iter().enumerate() {
            if i64::try_from(*size).is_err() {
                let cap = i64::MAX as u64;
                return Err(Fault::TooLarge {
                    what: format!("arena {at}"),
                    bytes: *size,
                    cap,
                }
                .into());
            }
        }
        for (at, value) in method.values.iter().enumerate() {
            self.check_value(method, value)
                .within(|| format!("value {at}"))?;
        }
        for (place, list) in [("inputs", &method.inputs), ("outputs", &method.outputs)] {
            for value in list {
                method.value(*value).within(|| place.to_owned())?;
            }
        }
        for (at, operator) in method.operators.iter().enumerate() {
            check_operator(operator).within(|| format!("operator {at}"))?;
        }
        for (at, delegate) in method.delegates.iter().enumerate() {
            check_delegate(delegate, named).within(|| format!("delegate {at}"))?;
        }
        let named = method
            .chains
            .iter()
            .flatten()
            .map(|call| method.named(call));
        caps::count(
            "values named by calls",
            named.fold(0_usize, usize::saturating_add),
        )?;
        for (at, chain) in method.chains.iter().enumerate() {
            caps::count("calls", chain.len()).within(|| format!("chain {at}"))?;
            for (number, call) in chain.iter().enumerate() {
                method
                    .check_call(call, chain.len())
                    .within(|| format!("call {number}"))
                    .within(|| format!("chain {at}"))?;
            }
        }
        Ok(())
    }

    fn check_value(&self, method: &Method<'_>, value: &Value) -> Result<(), Fault> {
        let wrong = |index: ValueIdx, allowed| Fault::Value {
            what: "an item",
            value: format!("value {index}"),
            allowed,
        };
        match value {
            Value::Tensor(tensor) => self.check_tensor(method, tensor),
            Value::IntList(items) => {
                items
                    .iter()
                    .try_for_each(|item| match method.value(*item)? {
                        Value::Int(_) => Ok(()),
                        _ => Err(wrong(*item, "an integer")),
                    })
            }
            Value::TensorList(items) => {
                items
                    .iter()
                    .try_for_each(|item| match method.value(*item)? {
                        Value::Tensor(_) => Ok(()),
                        _ => Err(wrong(*item, "a tensor")),
                    })
            }
            Value::OptionalTensorList(items) => {
                items
                    .iter()
                    .flatten()
                    .try_for_each(|item| match method.value(*item)? {
                        Value::Tensor(_) | Value::None => Ok(()),
                        _ => Err(wrong(*item, "a tensor")),
                    })
            }
            Value::None | Value::Int(_) | Value::Bool(_) | Value::Double(_) => Ok(()),
            Value::String(_) | Value::DoubleList(_) | Value::BoolList(_) => Ok(()),
        }
    }

    fn check_tensor(&self, method: &Method<'_>, tensor: &TensorValue) -> Result<(), Fault> {
        caps::rank(tensor.sizes.len())?;
        tensor.sizes.iter().try_for_each(|size| caps::dim(*size))?;
        let too_large = Fault::TooLarge {
            what: "the tensor".to_owned(),
            bytes: u64::MAX,
            cap: i64::MAX as u64,
        };
        let size = match tensor.max_bytes() {
            Some(size) => size,
            // Nobody sets memory aside for it before its real size is known.
            None if tensor.storage == Storage::Caller => return Ok(()),
            None => return Err(too_large),
        };
        match tensor.storage {
            Storage::Caller => Ok(()),
            Storage::Planned {
                arena,
                offset,
                initial,
            } => {
                let missing = Fault::Index {
                    what: "arena",
                    index: i64::from(arena),
                    count: method.arenas.len() as u64,
                };
                let available = *method
                    .arenas
                    .get(arena as usize)
                    .filter(|_| arena > 0)
                    .ok_or(missing)?;
                if offset.checked_add(size).is_none_or(|end| end > available) {
                    return Err(Fault::Range {
                        what: "the tensor in its arena",
                        offset,
                        size,
                        available,
                    });
                }
                initial.map_or(Ok(()), |constant| self.check_constant(constant, size))
            }
            Storage::Constant(constant) => self.check_constant(constant, size),
        }
    }

    /// Checks that a constant is there and large enough.
    fn check_constant(&self, constant: u32, size: u64) -> Result<(), Fault> {
        let count = self.constants.len() as u64;
        let missing = Fault::Index {
            what: "constant",
            index: i64::from(constant),
            count,
        };
        let available = self.constants.get(constant as usize).ok_or(missing)?.len();
        if size > available {
            return Err(Fault::Range {
                what: "the tensor in its constant",
                offset: 0,
                size,
                available,
            });
        }
        Ok(())
    }
}

impl Method<'_> {
    fn value(&self, index: ValueIdx) -> Result<&Value, Fault> {
        let missing = Fault::Index {
            what: "value",
            index: i64::from(index),
            count: self.values.len() as u64,
        };
        self.values.get(index as usize).ok_or(missing)
    }

    /// How many values a call names, each of a list of tensors counted: many calls may name one long list.
    fn named(&self, call: &Call) -> usize {
        let items = |value: &ValueIdx| match self.values.get(*value as usize) {
            Some(Value::TensorList(items)) => items.len(),
            Some(Value::OptionalTensorList(items)) => items.len(),
            _ => 1,
        };
        let values = call.values();
        values.iter().map(items).fold(0, usize::saturating_add)
    }

    fn check_call(&self, call: &Call, calls: usize) -> Result<(), FormatError> {
        let values = call.values();
        caps::count("arguments", values.len())?;
        for value in &values {
            self.value(*value)?;
        }
        match call {
            Call::Kernel { operator, .. } => {
                let (index, count) = (i64::from(*operator), self.operators.len() as u64);
                self.operators.get(*operator as usize).ok_or(Fault::Index {
                    what: "operator",
                    index,
                    count,
                })?;
            }
            Call::Delegate { delegate, args } => {
                let (index, count) = (i64::from(*delegate), self.delegates.len() as u64);
                let found = self.delegates.get(*delegate as usize);
                let found = found.ok_or(Fault::Index {
                    what: "delegate",
                    index,
                    count,
                })?;
                if let Payload::Mlx(graph) = &found.payload {
                    self.check_mlx_call(graph, args)?;
                }
            }
            Call::JumpFalse { condition, target } => {
                if !matches!(self.value(*condition)?, Value::Bool(_) | Value::Tensor(_)) {
                    let (value, allowed) = (format!("value {condition}"), "a truth value");
                    return Err(Fault::Value {
                        what: "the condition",
                        value,
                        allowed,
                    }
                    .into());
                }
                if *target as usize > calls {
                    let (index, count) = (i64::from(*target), calls as u64);
                    return Err(Fault::Index {
                        what: "call",
                        index,
                        count,
                    }
                    .into());
                }
            }
            Call::Move { .. } | Call::Free { .. } => {}
        }
        self.check_apart(&values)
    }

    fn check_mlx_call(&self, graph: &MlxGraph, args: &[ValueIdx]) -> Result<(), FormatError> {
        let (left, right) = (
            args.len() as u64,
            (graph.inputs.len() + graph.outputs.len()) as u64,
        );
        if left != right {
            return Err(Fault::Mismatch {
                what: "arguments and the delegate's inputs and outputs",
                left,
                right,
            }
            .into());
        }
        let slots = graph.inputs.iter().chain(&graph.outputs);
        for (at, (arg, slot)) in args.iter().zip(slots).enumerate() {
            let is_input = at < graph.inputs.len();
            self.check_mlx_argument(graph, *arg, *slot, is_input)
                .within(|| format!("argument {at} (value {arg})"))?;
        }
        Ok(())
    }

    fn check_mlx_argument(
        &self,
        graph: &MlxGraph,
        arg: ValueIdx,
        slot: IoSlot,
        is_input: bool,
    ) -> Result<(), Fault> {
        match (slot, self.value(arg)?) {
            (IoSlot::Tensor(tid), Value::Tensor(tensor)) => {
                // Outputs are converted to what the method says; inputs are taken as they are.
                let Some(meta) = graph.tensors.get(tid.0 as usize).filter(|_| is_input) else {
                    return Ok(());
                };
                if meta.dtype != tensor.dtype {
                    return Err(Fault::DType {
                        dtype: tensor.dtype,
                        what: "an input that the delegate has in another type",
                    });
                }
                let (left, right) = (tensor.sizes.len() as u64, meta.shape.len() as u64);
                if left != right {
                    return Err(Fault::Mismatch {
                        what: "dimensions of the value and of the delegate's input",
                        left,
                        right,
                    });
                }
                Ok(())
            }
            (IoSlot::Int(_), Value::Int(_))
            | (IoSlot::Float(_), Value::Double(_))
            | (IoSlot::Bool(_), Value::Bool(_)) => Ok(()),
            (slot, _) => {
                let value = format!("value {arg}");
                let allowed = match slot {
                    IoSlot::Tensor(_) => "a tensor",
                    IoSlot::Int(_) => "an integer",
                    IoSlot::Float(_) => "a float",
                    IoSlot::Bool(_) => "a truth value",
                };
                Err(Fault::Value {
                    what: "the argument",
                    value,
                    allowed,
                })
            }
        }
    }

    /// Checks that different planned values of one call do not lie on one another.
    fn check_apart(&self, values: &[ValueIdx]) -> Result<(), FormatError> {
        let mut placed = Vec::new();
        for value in values.iter().collect::<BTreeSet<_>>() {
            if let Value::Tensor(tensor) = self.value(*value)?
                && let Storage::Planned { arena, offset, .. } = tensor.storage
                && let Some(size) = tensor.max_bytes().filter(|size| *size > 0)
            {
                placed.push((arena, offset, offset.saturating_add(size), *value));
            }
        }
        placed.sort_unstable();
        for pair in placed.windows(2) {
            if pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1 {
                let (first, second) = (u64::from(pair[0].3), u64::from(pair[1].3));
                return Err(Fault::Overlap {
                    what: "values",
                    first,
                    second,
                }
                .into());
            }
        }
        Ok(())
    }
}

fn check_operator(operator: &Operator) -> Result<(), Fault> {
    let Operator { name, overload } = operator;
    plain("operator", name)?;
    if overload.contains('\0') {
        return Err(Fault::Value {
            what: "the overload",
            value: format!("{overload:?}"),
            allowed: "text without zeros",
        });
    }
    let length = name.len() + usize::from(!overload.is_empty()) + overload.len();
    if length > OPERATOR_NAME {
        let (count, cap) = (length as u64, OPERATOR_NAME as u64);
        return Err(Fault::TooMany {
            what: "bytes of an operator's name",
            count,
            cap,
        });
    }
    Ok(())
}

fn check_delegate(delegate: &Delegate<'_>, named: &BTreeMap<&str, u64>) -> Result<(), FormatError> {
    let is_mlx = matches!(delegate.payload, Payload::Mlx(_));
    if is_mlx != (delegate.id == MLX_BACKEND) {
        let (value, allowed) = (
            format!("{:?}", delegate.id),
            "the one that its payload is for",
        );
        return Err(Fault::Value {
            what: "the delegate's id",
            value,
            allowed,
        }
        .into());
    }
    plain("delegate", &delegate.id)?;
    let Payload::Mlx(graph) = &delegate.payload else {
        return Ok(());
    };
    graph.validate()?;
    for entry in &graph.names {
        let IoSlot::Tensor(tid) = entry.slot else {
            continue;
        };
        if tid.0 >= graph.counts.constants {
            continue;
        }
        check_constant(graph, tid, &entry.name, named)
            .within(|| format!("constant %c{} ({:?})", tid.0, entry.name))?;
    }
    Ok(())
}

fn check_constant(
    graph: &MlxGraph,
    tid: Tid,
    name: &str,
    named: &BTreeMap<&str, u64>,
) -> Result<(), Fault> {
    let size = *named.get(name).ok_or(Fault::Missing(
        "the data with its name, in the file and in those given beside it (.ptd),",
    ))?;
    let wanted = graph
        .tensors
        .get(tid.0 as usize)
        .and_then(crate::graph::TensorMeta::max_bytes);
    let wanted = wanted.ok_or(Fault::Missing("its size"))?;
    if size != wanted {
        return Err(Fault::Mismatch {
            what: "bytes of the data and of the tensor",
            left: size,
            right: wanted,
        });
    }
    Ok(())
}

/// Names are C strings for ExecuTorch.
fn plain(what: &'static str, name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.contains('\0') {
        return Err(Fault::Value {
            what,
            value: format!("{name:?}"),
            allowed: "a name",
        });
    }
    Ok(())
}

fn unique<'n>(what: &'static str, names: impl Iterator<Item = &'n str>) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for name in names {
        plain(what, name)?;
        if !seen.insert(name) {
            return Err(Fault::Repeated {
                what,
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}
