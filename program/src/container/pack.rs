//! The FlatBuffers part of a file.

use std::collections::BTreeMap;

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};

use super::header::IDENTIFIER;
use super::{Call, CompileSpec, Delegate, Method, Note, Program, Storage, TensorValue, Value};
use crate::error::{Fault, FormatError, Within};
use crate::generated::executorch as wire;

/// Where one segment lies: first byte, from the segment base, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Where the bytes outside lie.
pub(super) struct Places {
    pub(super) segments: Vec<Place>,
    /// Offsets of the constants in segment 0.
    pub(super) constant_offsets: Vec<u64>,
    /// The segment of each delegate, through all methods.
    pub(super) payloads: Vec<usize>,
    /// The segment of each of the named data.
    pub(super) named: Vec<usize>,
}

type Builder = FlatBufferBuilder<'static>;

/// The finished FlatBuffers data, root offset and identifier first, without the extended header.
pub(super) fn pack_program(program: &Program<'_>, places: &Places) -> Result<Vec<u8>, FormatError> {
    let mut fbb = Builder::new();
    let mut payloads = places.payloads.iter();
    let mut plans = Vec::new();
    for method in &program.methods {
        plans.push(
            pack_method(&mut fbb, method, &mut payloads)
                .within(|| format!("method {:?}", method.name))?,
        );
    }
    let execution_plan = Some(fbb.create_vector(&plans));
    let constant_buffer = Some(empty(&mut fbb));
    let backend_delegate_data = Some(empty(&mut fbb));
    let one = |segment: &Place| {
        wire::DataSegment::create(
            &mut fbb,
            &wire::DataSegmentArgs {
                offset: segment.offset,
                size_: segment.size,
            },
        )
    };
    let segments: Vec<_> = places.segments.iter().map(one).collect();
    let segments = Some(fbb.create_vector(&segments));
    let mut offsets = vec![0];
    offsets.extend(&places.constant_offsets);
    let offsets = Some(fbb.create_vector(&offsets));
    let args = wire::SubsegmentOffsetsArgs {
        segment_index: 0,
        offsets,
    };
    let constant_segment = wire::SubsegmentOffsets::create(&mut fbb, &args);
    let begins = |value: &Value| {
        let tensor = value.as_tensor();
        let begins = |tensor: &TensorValue| {
            matches!(
                tensor.storage,
                Storage::Planned {
                    initial: Some(_),
                    ..
                }
            )
        };
        tensor.is_some_and(begins)
    };
    let mut values = program.methods.iter().flat_map(|method| &method.values);
    let mutable_data_segments = values
        .any(begins)
        .then(|| fbb.create_vector(&[constant_segment]));
    let constant_segment = Some(constant_segment);
    let mut named = Vec::new();
    for (item, segment) in program.named_data.iter().zip(&places.named) {
        let segment_index = index("segments", *segment)?;
        let key = Some(fbb.create_string(&item.key));
        named.push(wire::NamedData::create(
            &mut fbb,
            &wire::NamedDataArgs { key, segment_index },
        ));
    }
    let named_data = if named.is_empty() {
        None
    } else {
        Some(fbb.create_vector(&named))
    };
    let args = wire::ProgramArgs {
        version: 0,
        execution_plan,
        constant_buffer,
        backend_delegate_data,
        segments,
        constant_segment,
        mutable_data_segments,
        named_data,
    };
    let root = wire::Program::create(&mut fbb, &args);
    // The program and every file identifier are ASCII: this can't fail, but a conversion that could is no panic either.
    fbb.finish(root, std::str::from_utf8(IDENTIFIER).ok());
    Ok(fbb.finished_data().to_vec())
}

fn empty<T: 'static>(fbb: &mut Builder) -> WIPOffset<Vector<'static, ForwardsUOffset<T>>> {
    let none: [WIPOffset<T>; 0] = [];
    fbb.create_vector(&none)
}

fn pack_method<'p>(
    fbb: &mut Builder,
    method: &Method<'_>,
    payloads: &mut impl Iterator<Item = &'p usize>,
) -> Result<WIPOffset<wire::ExecutionPlan<'static>>, FormatError> {
    let mut values = Vec::new();
    for (at, value) in method.values.iter().enumerate() {
        values.push(pack_value(fbb, value).within(|| format!("value {at}"))?);
    }
    let values = Some(fbb.create_vector(&values));
    let inputs = Some(pack_indices(fbb, &method.inputs)?);
    let outputs = Some(pack_indices(fbb, &method.outputs)?);
    let mut chains = Vec::new();
    for (at, chain) in method.chains.iter().enumerate() {
        let notes = method.notes.iter().filter(|note| note.chain as usize == at);
        chains.push(pack_chain(fbb, chain, notes).within(|| format!("chain {at}"))?);
    }
    let chains = Some(fbb.create_vector(&chains));
    let mut operators = Vec::new();
    for operator in &method.operators {
        let name = Some(fbb.create_string(&operator.name));
        let overload = Some(fbb.create_string(&operator.overload));
        operators.push(wire::Operator::create(
            fbb,
            &wire::OperatorArgs { name, overload },
        ));
    }
    let operators = Some(fbb.create_vector(&operators));
    let mut delegates = Vec::new();
    for delegate in &method.delegates {
        let segment = payloads
            .next()
            .copied()
            .ok_or(Fault::Missing("the place of a payload"))?;
        delegates.push(pack_delegate(fbb, delegate, segment)?);
    }
    let delegates = Some(fbb.create_vector(&delegates));
    let mut arenas = Vec::new();
    for size in &method.arenas {
        let too_large = Fault::TooLarge {
            what: "an arena".to_owned(),
            bytes: *size,
            cap: i64::MAX as u64,
        };
        arenas.push(i64::try_from(*size).map_err(|_| too_large)?);
    }
    let non_const_buffer_sizes = Some(fbb.create_vector(&arenas));
    let container_meta_type = method.trees.as_ref().map(|trees| {
        let encoded_inp_str = Some(fbb.create_string(&trees.inputs));
        let encoded_out_str = Some(fbb.create_string(&trees.outputs));
        wire::ContainerMetadata::create(
            fbb,
            &wire::ContainerMetadataArgs {
                encoded_inp_str,
                encoded_out_str,
            },
        )
    });
    let name = Some(fbb.create_string(&method.name));
    let args = wire::ExecutionPlanArgs {
        name,
        container_meta_type,
        values,
        inputs,
        outputs,
        chains,
        operators,
        delegates,
        non_const_buffer_sizes,
        non_const_buffer_device: None,
    };
    Ok(wire::ExecutionPlan::create(fbb, &args))
}

fn pack_delegate(
    fbb: &mut Builder,
    delegate: &Delegate<'_>,
    segment: usize,
) -> Result<WIPOffset<wire::BackendDelegate<'static>>, Fault> {
    let place = wire::BackendDelegateDataReferenceArgs {
        location: wire::DataLocation::SEGMENT,
        index: index("segments", segment)?,
    };
    let processed = Some(wire::BackendDelegateDataReference::create(fbb, &place));
    let mut specs = Vec::new();
    for CompileSpec { key, value } in &delegate.specs {
        let key = Some(fbb.create_string(key));
        let value = Some(fbb.create_vector(value));
        specs.push(wire::CompileSpec::create(
            fbb,
            &wire::CompileSpecArgs { key, value },
        ));
    }
    let compile_specs = Some(fbb.create_vector(&specs));
    let id = Some(fbb.create_string(&delegate.id));
    Ok(wire::BackendDelegate::create(
        fbb,
        &wire::BackendDelegateArgs {
            id,
            processed,
            compile_specs,
        },
    ))
}

fn pack_chain<'n>(
    fbb: &mut Builder,
    chain: &[Call],
    notes: impl Iterator<Item = &'n Note>,
) -> Result<WIPOffset<wire::Chain<'static>>, FormatError> {
    let mut calls = Vec::with_capacity(chain.len());
    for (at, call) in chain.iter().enumerate() {
        calls.push(pack_call(fbb, call).within(|| format!("call {at}"))?);
    }
    let instructions = Some(fbb.create_vector(&calls));
    let inputs = Some(fbb.create_vector::<i32>(&[]));
    let outputs = Some(fbb.create_vector::<i32>(&[]));
    let stacktrace = pack_notes(fbb, chain.len(), notes);
    Ok(wire::Chain::create(
        fbb,
        &wire::ChainArgs {
            inputs,
            outputs,
            instructions,
            stacktrace,
        },
    ))
}

/// A list of frames for each call, if there is a note about any of them.
fn pack_notes<'n>(
    fbb: &mut Builder,
    calls: usize,
    notes: impl Iterator<Item = &'n Note>,
) -> Option<WIPOffset<Vector<'static, ForwardsUOffset<wire::FrameList<'static>>>>> {
    let notes: BTreeMap<usize, &Note> = notes.map(|note| (note.call as usize, note)).collect();
    if notes.is_empty() {
        return None;
    }
    let mut lists = Vec::with_capacity(calls);
    for call in 0..calls {
        let mut frames = Vec::new();
        if let Some(note) = notes.get(&call) {
            let name = Some(fbb.create_string(&note.module));
            let context = Some(fbb.create_string(&note.reason));
            let frame = wire::FrameArgs {
                name,
                context,
                ..wire::FrameArgs::default()
            };
            frames.push(wire::Frame::create(fbb, &frame));
        }
        let items = Some(fbb.create_vector(&frames));
        lists.push(wire::FrameList::create(fbb, &wire::FrameListArgs { items }));
    }
    Some(fbb.create_vector(&lists))
}

fn pack_call(
    fbb: &mut Builder,
    call: &Call,
) -> Result<WIPOffset<wire::Instruction<'static>>, Fault> {
    let (instr_args_type, instr_args) = match call {
        Call::Kernel { operator, args } => {
            let args = Some(pack_indices(fbb, args)?);
            let call = wire::KernelCallArgs {
                op_index: signed(*operator)?,
                args,
            };
            (
                wire::InstructionArguments::KernelCall,
                wire::KernelCall::create(fbb, &call).as_union_value(),
            )
        }
        Call::Delegate { delegate, args } => {
            let args = Some(pack_indices(fbb, args)?);
            let call = wire::DelegateCallArgs {
                delegate_index: signed(*delegate)?,
                args,
            };
            (
                wire::InstructionArguments::DelegateCall,
                wire::DelegateCall::create(fbb, &call).as_union_value(),
            )
        }
        Call::Move { from, to } => {
            let call = wire::MoveCallArgs {
                move_from: signed(*from)?,
                move_to: signed(*to)?,
            };
            (
                wire::InstructionArguments::MoveCall,
                wire::MoveCall::create(fbb, &call).as_union_value(),
            )
        }
        Call::JumpFalse { condition, target } => {
            let (cond_value_index, destination_instruction) =
                (signed(*condition)?, signed(*target)?);
            let call = wire::JumpFalseCallArgs {
                cond_value_index,
                destination_instruction,
            };
            (
                wire::InstructionArguments::JumpFalseCall,
                wire::JumpFalseCall::create(fbb, &call).as_union_value(),
            )
        }
        Call::Free { value } => {
            let call = wire::FreeCallArgs {
                value_index: signed(*value)?,
            };
            (
                wire::InstructionArguments::FreeCall,
                wire::FreeCall::create(fbb, &call).as_union_value(),
            )
        }
    };
    let args = wire::InstructionArgs {
        instr_args_type,
        instr_args: Some(instr_args),
    };
    Ok(wire::Instruction::create(fbb, &args))
}

fn pack_value(fbb: &mut Builder, value: &Value) -> Result<WIPOffset<wire::EValue<'static>>, Fault> {
    use wire::KernelTypes as Kind;
    let (val_type, val) = match value {
        Value::None => (
            Kind::Null,
            wire::Null::create(fbb, &wire::NullArgs {}).as_union_value(),
        ),
        Value::Int(int_val) => (
            Kind::Int,
            wire::Int::create(fbb, &wire::IntArgs { int_val: *int_val }).as_union_value(),
        ),
        Value::Bool(bool_val) => (
            Kind::Bool,
            wire::Bool::create(
                fbb,
                &wire::BoolArgs {
                    bool_val: *bool_val,
                },
            )
            .as_union_value(),
        ),
        Value::Double(double_val) => {
            let args = wire::DoubleArgs {
                double_val: *double_val,
            };
            (
                Kind::Double,
                wire::Double::create(fbb, &args).as_union_value(),
            )
        }
        Value::String(text) => {
            let string_val = Some(fbb.create_string(text));
            (
                Kind::String,
                wire::String::create(fbb, &wire::StringArgs { string_val }).as_union_value(),
            )
        }
        Value::Tensor(tensor) => (Kind::Tensor, pack_tensor(fbb, tensor)?.as_union_value()),
        Value::IntList(items) => {
            let items: Vec<i64> = items.iter().map(|item| i64::from(*item)).collect();
            let items = Some(fbb.create_vector(&items));
            (
                Kind::IntList,
                wire::IntList::create(fbb, &wire::IntListArgs { items }).as_union_value(),
            )
        }
        Value::DoubleList(items) => {
            let items = Some(fbb.create_vector(items));
            (
                Kind::DoubleList,
                wire::DoubleList::create(fbb, &wire::DoubleListArgs { items }).as_union_value(),
            )
        }
        Value::BoolList(items) => {
            let items = Some(fbb.create_vector(items));
            (
                Kind::BoolList,
                wire::BoolList::create(fbb, &wire::BoolListArgs { items }).as_union_value(),
            )
        }
        Value::TensorList(items) => {
            let items = Some(pack_indices(fbb, items)?);
            (
                Kind::TensorList,
                wire::TensorList::create(fbb, &wire::TensorListArgs { items }).as_union_value(),
            )
        }
        Value::OptionalTensorList(items) => {
            let items = items
                .iter()
                .map(|item| item.map_or(Ok(-1), signed))
                .collect::<Result<Vec<_>, _>>()?;
            let items = Some(fbb.create_vector(&items));
            let args = wire::OptionalTensorListArgs { items };
            (
                Kind::OptionalTensorList,
                wire::OptionalTensorList::create(fbb, &args).as_union_value(),
            )
        }
    };
    Ok(wire::EValue::create(
        fbb,
        &wire::EValueArgs {
            val_type,
            val: Some(val),
        },
    ))
}

fn pack_tensor(
    fbb: &mut Builder,
    tensor: &TensorValue,
) -> Result<WIPOffset<wire::Tensor<'static>>, Fault> {
    let sizes = Some(pack_indices(fbb, &tensor.sizes)?);
    let order: Vec<u8> = (0..).take(tensor.sizes.len()).collect();
    let dim_order = Some(fbb.create_vector(&order));
    let (data_buffer_idx, allocation_info) = match tensor.storage {
        Storage::Caller => (0, None),
        // Number 0 is kept for tensors that are not constants.
        Storage::Constant(constant) => (
            constant
                .checked_add(1)
                .ok_or(Fault::Missing("room for a constant's number"))?,
            None,
        ),
        Storage::Planned {
            arena,
            offset,
            initial,
        } => {
            let args = wire::AllocationDetailsArgs {
                memory_id: arena,
                memory_offset_low: (offset & u64::from(u32::MAX)) as u32,
                memory_offset_high: (offset >> 32) as u32,
            };
            // What it begins with is in the segment of the constants, which is listed as one of such contents too.
            let content = initial.map_or(Some(0), |constant| constant.checked_add(1));
            (
                content.ok_or(Fault::Missing("room for a constant's number"))?,
                Some(wire::AllocationDetails::create(fbb, &args)),
            )
        }
    };
    let shape_dynamism = if tensor.dynamic {
        wire::TensorShapeDynamism::DYNAMIC_BOUND
    } else {
        wire::TensorShapeDynamism::STATIC
    };
    let args = wire::TensorArgs {
        scalar_type: wire::ScalarType(tensor.dtype.code()),
        storage_offset: 0,
        sizes,
        dim_order,
        requires_grad: false,
        data_buffer_idx,
        allocation_info,
        layout: 0,
        shape_dynamism,
        extra_tensor_info: None,
    };
    Ok(wire::Tensor::create(fbb, &args))
}

fn pack_indices(
    fbb: &mut Builder,
    indices: &[u32],
) -> Result<WIPOffset<Vector<'static, i32>>, Fault> {
    let indices = indices
        .iter()
        .map(|number| signed(*number))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(fbb.create_vector(&indices))
}

fn signed(number: u32) -> Result<i32, Fault> {
    let value = || number.to_string();
    i32::try_from(number).map_err(|_| Fault::Value {
        what: "a size or index",
        value: value(),
        allowed: "below 2^31",
    })
}

fn index(what: &'static str, number: usize) -> Result<u32, Fault> {
    u32::try_from(number).map_err(|_| Fault::TooMany {
        what,
        count: number as u64,
        cap: u64::from(u32::MAX),
    })
}
