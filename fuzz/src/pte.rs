//! `.pte` files: changes to the program that is in one, written again with all offsets and sizes as they then are, and changes to single words
//! of the FlatBuffers data.

use crate::edit;
use crate::random::Random;
use fuseline_program::container::{Call, Method, Payload, Storage, Value};
use fuseline_program::instr::{
    Field, FieldInfo, FieldKind, FloatOrVid, IntOrVid, IntOrVidOrTid, VidOrTid, instruction_table,
};
use fuseline_program::{
    Data, Dim, Instruction, IoSlot, MlxGraph, Program, Pte, ScalarType, Tid, Vid,
};

/// Whether two programs say the same; NaN is equal to NaN.
pub fn same(a: &Program<'_>, b: &Program<'_>) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

/// A changed file; none where the bytes are none. What is `wild` may break any rule of the format, else most of what comes out is valid.
pub fn edited(file: &[u8], random: &mut Random, wild: bool) -> Option<Vec<u8>> {
    if random.one_in(8) {
        return None;
    }
    let pte = Pte::parse(file).ok()?;
    if random.one_in(if wild { 3 } else { 16 }) {
        return Some(words(file, &pte, random));
    }
    let mut program = pte.program;
    for _ in 0..=random.below(4) {
        change(&mut program, random, wild);
    }
    if !wild && program.validate().is_err() {
        return None;
    }
    let mut made = Vec::new();
    program.write_unvalidated(&mut made).ok()?;
    Some(made)
}

/// Changes words of the container's or of a delegate's FlatBuffers data; the header stays, so that the change is looked at.
fn words(file: &[u8], pte: &Pte<'_>, random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    let end = usize::try_from(pte.header.program_size).unwrap_or(file.len());
    let mut parts = vec![40.min(end)..end];
    for segment in &pte.segments {
        let start = pte.header.segment_base.saturating_add(segment.offset);
        if segment
            .holds
            .iter()
            .any(|what| what.starts_with("delegate"))
            && let (Ok(start), Ok(end)) = (
                usize::try_from(start),
                usize::try_from(start.saturating_add(segment.size)),
            )
        {
            parts.push(start..end);
        }
    }
    for _ in 0..=random.below(3) {
        let part = random.pick(&parts).cloned().unwrap_or_default();
        if let Some(part) = file.get_mut(part) {
            edit::word(part, random);
        }
    }
    file
}

fn change(program: &mut Program<'_>, random: &mut Random, wild: bool) {
    let kind = random.below(if wild { 12 } else { 9 });
    let method = random.below(program.methods.len());
    let Some(method) = program.methods.get_mut(method) else {
        return;
    };
    match kind {
        0..=7 => {
            let at = random.below(method.delegates.len());
            if let Some(delegate) = method.delegates.get_mut(at)
                && let Payload::Mlx(graph) = &mut delegate.payload
            {
                change_graph(graph, random, wild);
            }
        }
        8..=10 => change_method(method, random),
        _ => change_data(program, random),
    }
}

fn change_graph(graph: &mut MlxGraph, random: &mut Random, wild: bool) {
    let chain = random.below(graph.chains.len());
    let shape = Slots::of(graph, wild);
    match random.below(if wild { 14 } else { 10 }) {
        0..=3 => {
            if let Some(chain) = graph.chains.get_mut(chain)
                && let Some(instruction) = random.pick_mut(chain)
                && let Some(other) = changed(instruction, &shape, random)
            {
                *instruction = other;
            }
        }
        4..=6 => {
            if let Some(chain) = graph.chains.get_mut(chain) {
                let at = random.below(chain.len() + 1);
                if let Some(new) = drawn(&shape, random) {
                    chain.insert(at, new);
                }
            }
        }
        7 => {
            if let Some(chain) = graph
                .chains
                .get_mut(chain)
                .filter(|chain| !chain.is_empty())
            {
                let (at, to) = (random.below(chain.len()), random.below(chain.len()));
                match random.below(3) {
                    0 => drop(chain.remove(at)),
                    1 => chain.insert(to, chain[at].clone()),
                    _ => chain.swap(at, to),
                }
            }
        }
        8 => {
            let counts = &mut graph.counts;
            match random.below(3) {
                0 => counts.temps = counts.temps.saturating_add(1),
                1 => counts.values = counts.values.saturating_add(1),
                _ => graph
                    .chains
                    .push(drawn(&shape, random).into_iter().collect()),
            }
        }
        9 => {
            if let Some(output) = random.pick_mut(&mut graph.outputs) {
                *output = IoSlot::Tensor(Tid(shape.tensor(random)));
            }
        }
        10 => {
            if let Some(meta) = random.pick_mut(&mut graph.tensors) {
                match random.below(3) {
                    0 => meta.dtype = dtype(random),
                    1 => meta.shape.push(dim(random)),
                    _ => random
                        .pick_mut(&mut meta.shape)
                        .into_iter()
                        .for_each(|old| *old = dim(random)),
                }
            }
        }
        11 => {
            let number = random.odd() as u32;
            let counts = &mut graph.counts;
            *[
                &mut counts.constants,
                &mut counts.inputs,
                &mut counts.outputs,
                &mut counts.state,
                &mut counts.temps,
                &mut counts.values,
            ][random.below(6)] = number;
        }
        12 => {
            let slot = match random.below(4) {
                0 => IoSlot::Int(Vid(random.odd() as u32)),
                1 => IoSlot::Float(Vid(0)),
                2 => IoSlot::Bool(Vid(0)),
                _ => IoSlot::Tensor(Tid(random.odd() as u32)),
            };
            let list = [&mut graph.inputs, &mut graph.outputs, &mut graph.state]
                .into_iter()
                .nth(random.below(3));
            if let Some(list) = list {
                let at = random.below(list.len() + 1);
                list.insert(at, slot);
            }
        }
        _ => match random.below(3) {
            0 => graph.main_chain = random.odd() as u32,
            1 => graph.init_chain = Some(random.below(3) as u32),
            _ => graph.names.clear(),
        },
    }
}

fn change_method(method: &mut Method<'_>, random: &mut Random) {
    let values = method.values.len();
    let value = |random: &mut Random| random.below(values) as u32;
    match random.below(6) {
        0 => {
            if let Some(Value::Tensor(tensor)) = random.pick_mut(&mut method.values) {
                match random.below(4) {
                    0 => tensor.dtype = dtype(random),
                    1 => tensor.dynamic = !tensor.dynamic,
                    2 => random
                        .pick_mut(&mut tensor.sizes)
                        .into_iter()
                        .for_each(|size| *size = random.below(6) as u32),
                    _ => {
                        tensor.storage = [
                            Storage::Caller,
                            Storage::Constant(0),
                            Storage::Planned {
                                arena: 1,
                                offset: 16,
                                initial: None,
                            },
                        ][random.below(3)]
                    }
                }
            }
        }
        1 => {
            let list = if random.one_in(2) {
                &mut method.inputs
            } else {
                &mut method.outputs
            };
            let at = random.below(list.len() + 1);
            list.insert(at, random.below(values) as u32);
        }
        2..=4 => {
            let call = match random.below(4) {
                0 => Call::Move {
                    from: value(random),
                    to: value(random),
                },
                1 => Call::JumpFalse {
                    condition: value(random),
                    target: random.below(3) as u32,
                },
                2 => Call::Free {
                    value: value(random),
                },
                _ => Call::Delegate {
                    delegate: 0,
                    args: (0..random.below(5))
                        .map(|_| random.below(values) as u32)
                        .collect(),
                },
            };
            if let Some(chain) = random.pick_mut(&mut method.chains) {
                let at = random.below(chain.len() + 1);
                chain.insert(at, call);
            }
        }
        _ => {
            let number = random.odd();
            let kinds = [
                Value::None,
                Value::Int(number),
                Value::Bool(number > 0),
                Value::Double(f64::NAN),
                Value::IntList(vec![0]),
                Value::TensorList(vec![0, 1]),
                Value::String(String::from("x")),
            ];
            let at = random.below(kinds.len());
            let kind = kinds.into_iter().nth(at);
            if let (Some(place), Some(kind)) = (random.pick_mut(&mut method.values), kind) {
                *place = kind;
            }
        }
    }
}

fn change_data(program: &mut Program<'_>, random: &mut Random) {
    let count = program.named_data.len();
    let other = program.named_data.get(random.below(count)).cloned();
    if let (Some(named), Some(other)) = (random.pick_mut(&mut program.named_data), other) {
        match random.below(3) {
            0 => named.key = other.key,
            1 => named.data = other.data,
            _ => named.data = Data::owned(vec![0; random.below(64)]),
        }
    }
}

/// The slots and chains that there are, for fields that name some.
struct Slots {
    tensors: usize,
    values: usize,
    chains: usize,
    wild: bool,
}

impl Slots {
    fn of(graph: &MlxGraph, wild: bool) -> Self {
        Self {
            tensors: usize::try_from(graph.counts.tensors()).unwrap_or(usize::MAX),
            values: graph.counts.values as usize,
            chains: graph.chains.len(),
            wild,
        }
    }

    fn tensor(&self, random: &mut Random) -> u32 {
        if self.wild && random.one_in(8) {
            random.odd() as u32
        } else {
            random.below(self.tensors) as u32
        }
    }

    fn value(&self, random: &mut Random) -> u32 {
        if self.wild && random.one_in(8) {
            random.odd() as u32
        } else {
            random.below(self.values) as u32
        }
    }
}

/// The instruction with one field or two changed.
fn changed(instruction: &Instruction, slots: &Slots, random: &mut Random) -> Option<Instruction> {
    let info = instruction.info();
    let mut fields: Vec<(&str, Field)> = instruction
        .fields()
        .into_iter()
        .map(|(info, field)| (info.name, field))
        .collect();
    for _ in 0..=random.below(2) {
        let at = random.below(fields.len());
        let new = content(info.fields.get(at)?, slots, random);
        fields.get_mut(at)?.1 = new;
    }
    Instruction::build(info.name, &fields).ok()
}

/// Any instruction.
fn drawn(slots: &Slots, random: &mut Random) -> Option<Instruction> {
    let info = random.pick(instruction_table())?;
    let mut fields = Vec::new();
    for field in info.fields {
        if field.default.is_none() || random.one_in(2) {
            fields.push((field.name, content(field, slots, random)));
        }
    }
    // A field that was drawn as nothing may be one that must hold something.
    Instruction::build(info.name, &fields).ok()
}

fn content(info: &FieldInfo, slots: &Slots, random: &mut Random) -> Field {
    let count = random.below(5);
    let tid = |random: &mut Random| Tid(slots.tensor(random));
    let vid = |random: &mut Random| Vid(slots.value(random));
    let number = |random: &mut Random| {
        if random.one_in(24) {
            random.odd()
        } else {
            random.below(9) as i64 - 2
        }
    };
    let int = |random: &mut Random| {
        if slots.values > 0 && random.one_in(4) {
            IntOrVid::Vid(Vid(slots.value(random)))
        } else {
            IntOrVid::Int(number(random))
        }
    };
    if info.default.is_some_and(|default| default() == Field::None) && random.one_in(4) {
        return Field::None;
    }
    match info.kind {
        FieldKind::Tid => Field::Tid(tid(random)),
        FieldKind::Vid => Field::Vid(vid(random)),
        FieldKind::Tids => Field::Tids((0..count).map(|_| tid(random)).collect()),
        FieldKind::I32 | FieldKind::U32 if info.name.ends_with("chain_idx") => {
            Field::Int(random.below(slots.chains + 1) as i64)
        }
        FieldKind::I32 | FieldKind::U32 if info.name == "bits" => {
            Field::Int([2, 3, 4, 5, 6, 8][random.below(6)])
        }
        FieldKind::I32 | FieldKind::U32 if info.name == "group_size" => {
            Field::Int([16, 32, 64, 128][random.below(4)])
        }
        FieldKind::I32 | FieldKind::U32 | FieldKind::U64 => Field::Int(number(random)),
        FieldKind::I8s | FieldKind::I32s => {
            Field::Ints((0..count).map(|_| number(random)).collect())
        }
        FieldKind::F32 => {
            Field::F32([0.0, 1.0, -1.5, 1e-5, f32::NAN, f32::INFINITY, 1e38][random.below(7)])
        }
        FieldKind::Bool => Field::Bool(random.one_in(2)),
        FieldKind::Str => Field::Str(
            [
                "none", "tanh", "affine", "mxfp4", "mxfp8", "nvfp4", "constant", "edge", "",
            ][random.below(9)]
            .to_owned(),
        ),
        FieldKind::Strs => Field::Strs((0..count).map(|at| at.to_string()).collect()),
        FieldKind::DType => Field::DType(dtype(random)),
        FieldKind::DTypes => Field::DTypes((0..count).map(|_| dtype(random)).collect()),
        FieldKind::IntOrVid => Field::IntOrVid(int(random)),
        FieldKind::IntOrVids => Field::IntOrVids((0..count).map(|_| int(random)).collect()),
        FieldKind::FloatOrVid => Field::FloatOrVid(if random.one_in(4) {
            FloatOrVid::Vid(vid(random))
        } else {
            FloatOrVid::Float(number(random) as f64)
        }),
        FieldKind::VidOrTid => Field::VidOrTid(if random.one_in(2) {
            VidOrTid::Vid(vid(random))
        } else {
            VidOrTid::Tid(tid(random))
        }),
        FieldKind::IntOrVidOrTid => Field::IntOrVidOrTid(match random.below(3) {
            0 => IntOrVidOrTid::Int(number(random)),
            1 => IntOrVidOrTid::Vid(vid(random)),
            _ => IntOrVidOrTid::Tid(tid(random)),
        }),
    }
}

fn dtype(random: &mut Random) -> ScalarType {
    *random.pick(ScalarType::ALL).unwrap_or(&ScalarType::F32)
}

fn dim(random: &mut Random) -> Dim {
    let length = if random.one_in(4) {
        random.odd() as u32
    } else {
        random.below(5) as u32
    };
    if random.one_in(3) {
        Dim::Dynamic {
            min: 0,
            max: Some(length),
        }
    } else {
        Dim::Static(length)
    }
}
