//! The delegate blob: a header of 24 bytes, then the FlatBuffers form of the graph.

use flatbuffers::{FlatBufferBuilder, Vector, WIPOffset};

use super::{Dim, IoSlot, MlxGraph, NamedSlot, SlotCounts, TensorMeta};
use crate::caps;
use crate::dtype::ScalarType;
use crate::error::{Fault, FormatError, Within};
use crate::generated::mlx as wire;
use crate::instr::{Instruction, Tid, Vid};
use crate::newer::{self, known_fields};

const MAGIC: &[u8; 4] = b"MLX0";
/// Four zeros, the magic, where the data that follows the graph begins, how long it is (it is never there: zero).
const HEADER: usize = 24;
const ALIGN: usize = 16;
const VERSION: &str = "1";

impl MlxGraph {
    /// The bytes of the delegate, the same for the same graph. Their start should be aligned to 8 bytes or more.
    ///
    /// # Errors
    /// A dimension with no room in 31 bits.
    pub fn to_blob(&self) -> Result<Vec<u8>, FormatError> {
        let mut fbb = FlatBufferBuilder::new();
        let root = pack_graph(&mut fbb, self)?;
        fbb.finish(root, None);
        let graph = fbb.finished_data();
        let end = (HEADER + graph.len()).next_multiple_of(ALIGN);
        let mut blob = Vec::with_capacity(end);
        blob.extend_from_slice(&[0; 4]);
        blob.extend_from_slice(MAGIC);
        blob.extend_from_slice(&(end as u64).to_le_bytes());
        blob.extend_from_slice(&0_u64.to_le_bytes());
        blob.extend_from_slice(graph);
        blob.resize(end, 0);
        Ok(blob)
    }

    /// Reads the bytes of a delegate. Its structure is checked, its meaning is not: see [`MlxGraph::validate`].
    ///
    /// # Errors
    /// Bytes that end too early, other identifying bytes, broken FlatBuffers data, a newer version, too much of something, nodes
    /// that are no instructions.
    pub fn from_blob(blob: &[u8]) -> Result<Self, FormatError> {
        let short = Fault::Short {
            need: HEADER as u64,
            have: blob.len() as u64,
        };
        let (header, _) = blob.split_first_chunk::<HEADER>().ok_or(short)?;
        let [
            _,
            _,
            _,
            _,
            m0,
            m1,
            m2,
            m3,
            offset @ ..,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = *header;
        newer::identifier("an MLX delegate", &[m0, m1, m2, m3], MAGIC)?;
        let end = u64::from_le_bytes(offset);
        let range = Fault::Range {
            what: "the graph",
            offset: HEADER as u64,
            size: end,
            available: blob.len() as u64,
        };
        let graph = usize::try_from(end)
            .ok()
            .and_then(|end| blob.get(HEADER..end))
            .ok_or(range)?;
        let root =
            flatbuffers::root_with_opts::<wire::MLXGraph<'_>>(&caps::verifier(graph.len()), graph);
        unpack_graph(root.map_err(|error| Fault::FlatBuffer(error.to_string()))?)
    }
}

fn pack_graph<'f>(
    fbb: &mut FlatBufferBuilder<'f>,
    graph: &MlxGraph,
) -> Result<WIPOffset<wire::MLXGraph<'f>>, FormatError> {
    let chains: Vec<_> = graph
        .chains
        .iter()
        .map(|chain| pack_chain(fbb, chain))
        .collect();
    let chains = fbb.create_vector(&chains);
    let inputs = pack_slots(fbb, &graph.inputs);
    let outputs = pack_slots(fbb, &graph.outputs);
    let state = pack_slots(fbb, &graph.state);
    let names: Vec<_> = graph
        .names
        .iter()
        .map(|named| pack_name(fbb, named))
        .collect();
    let names = fbb.create_vector(&names);
    let mut tensors = Vec::with_capacity(graph.tensors.len());
    for (at, meta) in graph.tensors.iter().enumerate() {
        tensors.push(pack_meta(fbb, meta).within(|| format!("tensor {at}"))?);
    }
    let tensors = fbb.create_vector(&tensors);
    let version = fbb.create_string(VERSION);
    let init_chain_idx = match graph.init_chain {
        None => -1,
        Some(chain) => signed("the init chain's number", chain)?,
    };
    let args = wire::MLXGraphArgs {
        version: Some(version),
        num_constant_tensors: graph.counts.constants,
        num_input_tensors: graph.counts.inputs,
        num_output_tensors: graph.counts.outputs,
        num_mutable_buffer_tensors: graph.counts.state,
        num_temp_tensors: graph.counts.temps,
        num_values: graph.counts.values,
        instruction_chains: Some(chains),
        main_chain_idx: graph.main_chain,
        init_chain_idx,
        input_map: Some(inputs),
        output_map: Some(outputs),
        mutable_buffer_map: Some(state),
        named_slots: Some(names),
        tensor_meta: Some(tensors),
    };
    Ok(wire::MLXGraph::create(fbb, &args))
}

fn pack_chain<'f>(
    fbb: &mut FlatBufferBuilder<'f>,
    chain: &[Instruction],
) -> WIPOffset<wire::InstructionChain<'f>> {
    let mut instructions = Vec::with_capacity(chain.len());
    for instruction in chain {
        let (number, node) = instruction.pack(fbb);
        let args = wire::InstructionArgs {
            op_type: wire::OpNode(number),
            op: Some(node),
        };
        instructions.push(wire::Instruction::create(fbb, &args));
    }
    let instructions = Some(fbb.create_vector(&instructions));
    wire::InstructionChain::create(fbb, &wire::InstructionChainArgs { instructions })
}

type SlotVector<'f> = Vector<'f, flatbuffers::ForwardsUOffset<wire::SlotVariant<'f>>>;

fn pack_slots<'f>(fbb: &mut FlatBufferBuilder<'f>, slots: &[IoSlot]) -> WIPOffset<SlotVector<'f>> {
    let slots: Vec<_> = slots.iter().map(|slot| pack_slot(fbb, *slot)).collect();
    fbb.create_vector(&slots)
}

fn pack_slot<'f>(
    fbb: &mut FlatBufferBuilder<'f>,
    slot: IoSlot,
) -> WIPOffset<wire::SlotVariant<'f>> {
    let (idx, slot_type) = match slot {
        IoSlot::Tensor(tid) => (tid.0, wire::SlotType::TensorSlot),
        IoSlot::Int(vid) => (vid.0, wire::SlotType::IntValueSlot),
        IoSlot::Float(vid) => (vid.0, wire::SlotType::FloatValueSlot),
        IoSlot::Bool(vid) => (vid.0, wire::SlotType::BoolValueSlot),
    };
    wire::SlotVariant::create(fbb, &wire::SlotVariantArgs { idx, slot_type })
}

fn pack_name<'f>(
    fbb: &mut FlatBufferBuilder<'f>,
    named: &NamedSlot,
) -> WIPOffset<wire::NamedSlot<'f>> {
    let slot = Some(pack_slot(fbb, named.slot));
    let name = Some(fbb.create_string(&named.name));
    wire::NamedSlot::create(fbb, &wire::NamedSlotArgs { name, slot })
}

fn pack_meta<'f>(
    fbb: &mut FlatBufferBuilder<'f>,
    meta: &TensorMeta,
) -> Result<WIPOffset<wire::TensorMeta<'f>>, FormatError> {
    let mut shape = Vec::with_capacity(meta.shape.len());
    for dim in &meta.shape {
        let args = match dim {
            Dim::Static(length) => wire::ShapeDimArgs {
                value: signed("a dimension", *length)?,
                ..Default::default()
            },
            Dim::Dynamic { min, max } => wire::ShapeDimArgs {
                value: -1,
                min_value: signed("a dimension's lower bound", *min)?,
                max_value: max.map_or(Ok(-1), |max| signed("a dimension's upper bound", max))?,
            },
        };
        shape.push(wire::ShapeDim::create(fbb, &args));
    }
    let shape = Some(fbb.create_vector(&shape));
    caps::rank(meta.shape.len())?;
    let order: Vec<u8> = (0_u8..).take(meta.shape.len()).collect();
    let dim_order = Some(fbb.create_vector(&order));
    Ok(wire::TensorMeta::create(
        fbb,
        &wire::TensorMetaArgs {
            shape,
            scalar_type: meta.dtype.code(),
            dim_order,
        },
    ))
}

fn signed(what: &'static str, number: u32) -> Result<i32, Fault> {
    i32::try_from(number).map_err(|_| Fault::Value {
        what,
        value: number.to_string(),
        allowed: "below 2^31",
    })
}

fn unpack_graph(graph: wire::MLXGraph<'_>) -> Result<MlxGraph, FormatError> {
    // A file without a version counts as the first one.
    if graph.version().is_some_and(|version| version != VERSION) {
        let found = graph.version().unwrap_or_default().to_owned();
        return Err(Fault::Version {
            what: "the program of an MLX delegate",
            found,
            known: VERSION,
        }
        .into());
    }
    known_fields!(graph, MLXGraph, VT_TENSOR_META)?;
    let mut chains = Vec::new();
    let mut instructions = 0_usize;
    caps::count("chains", graph.instruction_chains().len())?;
    for (at, chain) in graph.instruction_chains().iter().enumerate() {
        instructions = instructions.saturating_add(chain.instructions().len());
        caps::count("instructions", instructions)?;
        chains.push(unpack_chain(chain).within(|| format!("chain {at}"))?);
    }
    let mut names = Vec::new();
    for (at, named) in graph.named_slots().iter().flatten().enumerate() {
        known_fields!(named, NamedSlot, VT_SLOT)?;
        let slot = unpack_slot(named.slot()).within(|| format!("name {at}"))?;
        names.push(NamedSlot {
            name: named.name().to_owned(),
            slot,
        });
    }
    let mut tensors = Vec::new();
    for (at, meta) in graph.tensor_meta().iter().flatten().enumerate() {
        tensors.push(unpack_meta(meta).within(|| format!("tensor {at}"))?);
    }
    let init_chain = match graph.init_chain_idx() {
        -1 => None,
        chain => Some(u32::try_from(chain).map_err(|_| Fault::Index {
            what: "init chain",
            index: i64::from(chain),
            count: chains.len() as u64,
        })?),
    };
    Ok(MlxGraph {
        counts: SlotCounts {
            constants: graph.num_constant_tensors(),
            inputs: graph.num_input_tensors(),
            outputs: graph.num_output_tensors(),
            state: graph.num_mutable_buffer_tensors(),
            temps: graph.num_temp_tensors(),
            values: graph.num_values(),
        },
        chains,
        main_chain: graph.main_chain_idx(),
        init_chain,
        inputs: unpack_slots(graph.input_map()).within(|| "inputs".to_owned())?,
        outputs: unpack_slots(graph.output_map()).within(|| "outputs".to_owned())?,
        state: unpack_slots(graph.mutable_buffer_map()).within(|| "state".to_owned())?,
        names,
        tensors,
    })
}

fn unpack_chain(chain: wire::InstructionChain<'_>) -> Result<Vec<Instruction>, FormatError> {
    known_fields!(chain, InstructionChain, VT_INSTRUCTIONS)?;
    let instructions = chain.instructions();
    let one =
        |(at, instruction)| Instruction::unpack(instruction).within(|| format!("instruction {at}"));
    instructions.iter().enumerate().map(one).collect()
}

fn unpack_slots(slots: Option<SlotVector<'_>>) -> Result<Vec<IoSlot>, FormatError> {
    slots
        .iter()
        .flatten()
        .map(|slot| Ok(unpack_slot(slot)?))
        .collect()
}

fn unpack_slot(slot: wire::SlotVariant<'_>) -> Result<IoSlot, Fault> {
    known_fields!(slot, SlotVariant, VT_SLOT_TYPE)?;
    let idx = slot.idx();
    match slot.slot_type() {
        wire::SlotType::TensorSlot => Ok(IoSlot::Tensor(Tid(idx))),
        wire::SlotType::IntValueSlot => Ok(IoSlot::Int(Vid(idx))),
        wire::SlotType::FloatValueSlot => Ok(IoSlot::Float(Vid(idx))),
        wire::SlotType::BoolValueSlot => Ok(IoSlot::Bool(Vid(idx))),
        other => Err(Fault::Value {
            what: "a slot's type",
            value: other.0.to_string(),
            allowed: "0 to 3",
        }),
    }
}

fn unpack_meta(meta: wire::TensorMeta<'_>) -> Result<TensorMeta, FormatError> {
    known_fields!(meta, TensorMeta, VT_DIM_ORDER)?;
    let code = meta.scalar_type();
    let dtype = ScalarType::from_code(code).ok_or(Fault::UnknownDType(code))?;
    caps::rank(meta.shape().len())?;
    if let Some(order) = meta.dim_order()
        && !order.is_empty()
        && !order.iter().map(usize::from).eq(0..meta.shape().len())
    {
        return Err(
            Fault::Unsupported(format!("the order of dimensions {:?}", order.bytes())).into(),
        );
    }
    let shape = meta
        .shape()
        .iter()
        .map(unpack_dim)
        .collect::<Result<_, Fault>>()?;
    Ok(TensorMeta { dtype, shape })
}

fn unpack_dim(dim: wire::ShapeDim<'_>) -> Result<Dim, Fault> {
    known_fields!(dim, ShapeDim, VT_MAX_VALUE)?;
    let length = |what, number: i32, allowed| {
        u32::try_from(number).map_err(|_| Fault::Value {
            what,
            value: number.to_string(),
            allowed,
        })
    };
    if dim.value() != -1 {
        return Ok(Dim::Static(length(
            "a dimension",
            dim.value(),
            "a length or -1",
        )?));
    }
    let min = length("a dimension's lower bound", dim.min_value(), "a length")?;
    let max = match dim.max_value() {
        -1 => None,
        max => Some(length("a dimension's upper bound", max, "a length or -1")?),
    };
    if max.is_some_and(|max| max < min) {
        let value = format!("{min} to {}", dim.max_value());
        return Err(Fault::Value {
            what: "the range of a dimension",
            value,
            allowed: "in ascending order",
        });
    }
    Ok(Dim::Dynamic { min, max })
}
