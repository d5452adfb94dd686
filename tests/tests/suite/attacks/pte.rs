//! Programs that lie about sizes and places, that lead in circles, and that ask for too much.

use super::Attack;
use fuseline_program::container::{
    Call, Delegate, Method, NamedData, Operator, Storage, TensorValue, Value,
};
use fuseline_program::instr::{Field, FloatOrVid, IntOrVid, IntOrVidOrTid};
use fuseline_program::{
    Data, Instruction, IoSlot, MlxGraph, NamedSlot, Payload, Program, ScalarType, SlotCounts,
    TensorMeta, Tid, Vid,
};
use fuseline_tests::Result;

/// The slots: a constant `[1, 2, 1000]`, the input and the output `f32[2, 3]`, two temporaries, two host numbers.
pub(super) const W: Tid = Tid(0);
pub(super) const X: Tid = Tid(1);
pub(super) const OUT: Tid = Tid(2);
pub(super) const T: Tid = Tid(3);
pub(super) const U: Tid = Tid(4);

pub(super) fn make(name: &str, fields: &[(&str, Field)]) -> Result<Instruction> {
    Ok(Instruction::build(name, fields)?)
}

pub(super) fn int(number: i64) -> Field {
    Field::IntOrVid(IntOrVid::Int(number))
}

pub(super) fn ints(numbers: &[i64]) -> Field {
    Field::IntOrVids(numbers.iter().map(|n| IntOrVid::Int(*n)).collect())
}

fn exp() -> Result<Instruction> {
    make("Exp", &[("x", X.into()), ("out", OUT.into())])
}

fn branch(to: i64) -> Result<Instruction> {
    let to = [("then_chain_idx", to.into()), ("else_chain_idx", to.into())];
    make("If", &[("cond", int(1)), to[0].clone(), to[1].clone()])
}

/// A sound program with these chains, the first of which is the main one.
pub(super) fn program(chains: Vec<Vec<Instruction>>) -> Program<'static> {
    let matrix = TensorMeta::fixed(ScalarType::F32, &[2, 3]);
    let graph = MlxGraph {
        counts: SlotCounts {
            constants: 1,
            inputs: 1,
            outputs: 1,
            temps: 2,
            values: 2,
            ..SlotCounts::default()
        },
        chains,
        main_chain: 0,
        init_chain: None,
        inputs: vec![IoSlot::Tensor(X)],
        outputs: vec![IoSlot::Tensor(OUT)],
        state: Vec::new(),
        names: vec![NamedSlot {
            name: "w".to_owned(),
            slot: IoSlot::Tensor(W),
        }],
        tensors: vec![
            TensorMeta::fixed(ScalarType::I32, &[3]),
            matrix.clone(),
            matrix,
        ],
    };
    let tensor = |offset| {
        Value::Tensor(TensorValue {
            dtype: ScalarType::F32,
            sizes: vec![2, 3],
            dynamic: false,
            storage: Storage::Planned {
                arena: 1,
                offset,
                initial: None,
            },
        })
    };
    let call = Call::Delegate {
        delegate: 0,
        args: vec![0, 1],
    };
    let method = Method {
        name: "forward".to_owned(),
        values: vec![tensor(0), tensor(32), Value::Bool(false)],
        inputs: vec![0],
        outputs: vec![1],
        chains: vec![vec![call]],
        delegates: vec![Delegate::mlx(graph)],
        arenas: vec![0, 64],
        ..Method::default()
    };
    let weight: Vec<u8> = [1_i32, 2, 1000]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    Program {
        methods: vec![method],
        constants: Vec::new(),
        named_data: vec![NamedData {
            key: "w".to_owned(),
            data: Data::owned(weight),
        }],
    }
}

pub(super) fn bytes(program: &Program<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    program.write_unvalidated(&mut bytes)?;
    Ok(bytes)
}

/// A program with this main chain before the instruction that fills the output.
fn with(main: Vec<Instruction>) -> Result<Vec<u8>> {
    let mut main = main;
    main.push(exp()?);
    bytes(&program(vec![main]))
}

fn changed(change: impl FnOnce(&mut Program<'static>)) -> Result<Vec<u8>> {
    let mut program = program(vec![vec![exp()?]]);
    change(&mut program);
    bytes(&program)
}

fn graph_changed(change: impl FnOnce(&mut MlxGraph)) -> Result<Vec<u8>> {
    changed(|program| {
        if let Payload::Mlx(graph) = &mut program.methods[0].delegates[0].payload {
            change(graph);
        }
    })
}

/// The sound file with `new` at a place.
fn put(at: usize, new: &[u8]) -> Result<Vec<u8>> {
    let mut file = changed(|_| {})?;
    file[at..at + new.len()].copy_from_slice(new);
    Ok(file)
}

/// The sound file with other bytes where `old` stands first.
fn patched(old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    let file = changed(|_| {})?;
    let at = file.windows(old.len()).position(|window| window == old);
    put(at.ok_or("the sound file has no such bytes")?, new)
}

/// The list entry of the last segment: where it begins, and its 12 bytes.
fn segment(offset: u64, size: u64) -> Result<Vec<u8>> {
    let entry = |offset: u64, size: u64| [offset.to_le_bytes(), size.to_le_bytes()].concat();
    let file = changed(|_| {})?;
    let pte = fuseline_program::Pte::parse(&file)?;
    let last = pte.segments.last().ok_or("no segments")?;
    let (old_offset, old_size) = (last.offset.to_le_bytes(), last.size.to_le_bytes());
    if let Ok(patched) = patched(&entry(last.offset, last.size), &entry(offset, size)) {
        return Ok(patched);
    }
    // Not side by side: each where it stands.
    let program = &file[..usize::try_from(pte.header.program_size)?];
    let place = |what: &[u8]| {
        let at = program.windows(8).rposition(|window| window == what);
        at.ok_or("no segment")
    };
    let (at_offset, at_size) = (place(&old_offset)?, place(&old_size)?);
    let mut file = file.clone();
    file[at_offset..at_offset + 8].copy_from_slice(&offset.to_le_bytes());
    file[at_size..at_size + 8].copy_from_slice(&size.to_le_bytes());
    Ok(file)
}

/// An instruction of a kind that is not there, whose table says that the node is where nothing is: readers must not look for it.
fn kind_that_is_not_there() -> Result<Vec<u8>> {
    let other = make("Log", &[("x", X.into()), ("out", OUT.into())])?;
    let (mut file, other) = (changed(|_| {})?, bytes(&program(vec![vec![other]]))?);
    let tag = file.iter().zip(&other).position(|(a, b)| a != b);
    let tag = tag.ok_or("kinds are not told apart")?;
    file[tag] = 0xff;
    // The table begins a little before its tag, with the way back to the offsets of its fields.
    for table in tag.saturating_sub(12)..tag {
        let back = i32::from_le_bytes(file[table..table + 4].try_into()?);
        let offsets = table.checked_add_signed(-isize::try_from(back)?);
        if let Some(offsets) = offsets.filter(|at| at + 8 <= file.len())
            && usize::from(u16::from_le_bytes([file[offsets + 4], file[offsets + 5]]))
                == tag - table
        {
            file[offsets + 6..offsets + 8].copy_from_slice(&0xff00_u16.to_le_bytes());
            return Ok(file);
        }
    }
    Err("the instruction has no table".into())
}

fn headers() -> Result<Vec<Attack>> {
    Ok(vec![
        ("sound", changed(|_| {})?),
        ("empty", Vec::new()),
        ("kind_that_is_not_there", kind_that_is_not_there()?),
        ("only_the_header", changed(|_| {})?[..40].to_vec()),
        ("program_size_overflows", put(16, &u64::MAX.to_le_bytes())?),
        (
            "program_size_beyond_the_end",
            put(16, &(1_u64 << 40).to_le_bytes())?,
        ),
        (
            "segment_base_overflows",
            put(24, &(u64::MAX - 8).to_le_bytes())?,
        ),
        (
            "segment_base_inside_the_program",
            put(24, &8_u64.to_le_bytes())?,
        ),
        (
            "segment_data_size_overflows",
            put(32, &u64::MAX.to_le_bytes())?,
        ),
        ("root_is_itself", put(0, &[0; 4])?),
        ("root_beyond_the_end", put(0, &[0xff; 4])?),
        ("segment_offset_overflows", segment(u64::MAX - 4, 12)?),
        ("segment_size_overflows", segment(128, u64::MAX)?),
        ("segment_beyond_the_end", segment(1 << 20, 12)?),
        ("segments_overlap", segment(0, 12)?),
        (
            "huge_count_before_data",
            patched(b"\x07\0\0\0forward", b"\xff\xff\xff\xffforward")?,
        ),
        (
            "no_zero_after_a_string",
            patched(b"forward\0", b"forwardX")?,
        ),
        (
            "method_of_another_version",
            patched(b"\x01\0\0\x001\0", b"\x01\0\0\x009\0")?,
        ),
    ])
}

fn structure() -> Result<Vec<Attack>> {
    let deep = (1..40).map(|next| Ok(vec![branch(next)?]));
    let mut deep: Vec<Vec<Instruction>> = deep.collect::<Result<_>>()?;
    deep.push(vec![exp()?]);
    Ok(vec![
        (
            "method_names_repeat",
            changed(|p| p.methods.push(p.methods[0].clone()))?,
        ),
        (
            "data_names_repeat",
            changed(|p| p.named_data.push(p.named_data[0].clone()))?,
        ),
        (
            "data_shorter_than_its_tensor",
            changed(|p| p.named_data[0].data = Data::owned(vec![0; 4]))?,
        ),
        (
            "output_aliases_input",
            changed(|p| {
                if let Value::Tensor(tensor) = &mut p.methods[0].values[1] {
                    tensor.storage = Storage::Planned {
                        arena: 1,
                        offset: 16,
                        initial: None,
                    };
                }
            })?,
        ),
        (
            "tensor_beyond_its_arena",
            changed(|p| p.methods[0].arenas[1] = 40)?,
        ),
        (
            "arena_of_exabytes",
            changed(|p| p.methods[0].arenas[1] = 1 << 62)?,
        ),
        (
            "two_outputs_are_one_value",
            changed(|p| p.methods[0].outputs = vec![1, 1])?,
        ),
        (
            "jump_beyond_the_chain",
            changed(|p| {
                p.methods[0].chains[0].push(Call::JumpFalse {
                    condition: 2,
                    target: 9,
                })
            })?,
        ),
        (
            "jump_to_itself",
            changed(|p| {
                p.methods[0].chains[0].push(Call::JumpFalse {
                    condition: 2,
                    target: 1,
                })
            })?,
        ),
        (
            "delegate_called_without_arguments",
            changed(|p| {
                p.methods[0].chains[0][0] = Call::Delegate {
                    delegate: 0,
                    args: vec![],
                }
            })?,
        ),
        (
            "many_calls_of_a_long_list",
            changed(|p| {
                let method = &mut p.methods[0];
                let list = method.values.len() as u32;
                method.values.push(Value::TensorList(vec![0; 2000]));
                method.operators.push(Operator {
                    name: "aten::cat".to_owned(),
                    overload: "out".to_owned(),
                });
                let call = Call::Kernel {
                    operator: 0,
                    args: vec![list, 2, 1, 1],
                };
                method.chains[0].extend(vec![call; 600]);
            })?,
        ),
        (
            "a_million_temporaries_too_many",
            graph_changed(|g| g.counts.temps = 1_000_001)?,
        ),
        (
            "more_slots_than_descriptions",
            graph_changed(|g| g.counts.constants = 1_000_000)?,
        ),
        (
            "sizes_overflow",
            graph_changed(|g| {
                g.tensors[0] = TensorMeta::fixed(ScalarType::I32, &[0x7fff_ffff; 4])
            })?,
        ),
        (
            "slot_that_is_not_there",
            with(vec![make(
                "Exp",
                &[("x", Tid(99).into()), ("out", T.into())],
            )?])?,
        ),
        (
            "constant_overwritten",
            with(vec![make("Exp", &[("x", X.into()), ("out", W.into())])?])?,
        ),
        (
            "read_before_written",
            with(vec![make("Exp", &[("x", T.into()), ("out", U.into())])?])?,
        ),
        ("chain_runs_itself", with(vec![branch(0)?])?),
        (
            "chains_run_each_other",
            bytes(&program(vec![
                vec![branch(1)?],
                vec![branch(2)?],
                vec![branch(1)?],
            ]))?,
        ),
        ("chains_forty_deep", bytes(&program(deep))?),
        (
            "main_chain_is_not_there",
            graph_changed(|g| g.main_chain = 7)?,
        ),
        (
            "init_chain_is_not_there",
            graph_changed(|g| g.init_chain = Some(7))?,
        ),
    ])
}

/// What only a call can find, or what is allowed and must not end the process.
/// A product with packed numbers of a shape, and scales of another one.
fn quantized(packed: &[i64], scales: &[i64]) -> Result<Vec<u8>> {
    let full = |out: Tid, shape: &[i64], dtype: ScalarType| {
        let fields = [
            ("out", out.into()),
            ("v", Field::FloatOrVid(FloatOrVid::Float(1.0))),
            ("shape", ints(shape)),
            ("scalar_type", dtype.into()),
        ];
        make("Full", &fields)
    };
    let product = [
        ("x", Field::from(X)),
        ("w", T.into()),
        ("scales", U.into()),
        ("biases", U.into()),
        ("group_size", 32_i64.into()),
        ("bits", 8_i64.into()),
        ("mode", Field::Str("affine".to_owned())),
        ("transpose", Field::Bool(true)),
        ("out", OUT.into()),
    ];
    with(vec![
        full(T, packed, ScalarType::U32)?,
        full(U, scales, ScalarType::F32)?,
        make("QuantizedMatmul", &product)?,
    ])
}

fn calls() -> Result<Vec<Attack>> {
    let x_to_t = |more: &[(&'static str, Field)]| {
        let mut fields = vec![("x", Field::from(X)), ("out", T.into())];
        fields.extend_from_slice(more);
        fields
    };
    let number = |value: i64| {
        make(
            "AddInt",
            &[("a", int(value)), ("b", int(0)), ("out", Vid(0).into())],
        )
    };
    let from_slot = || Field::IntOrVid(IntOrVid::Vid(Vid(0)));
    // Each chain runs the next twice: 2³⁰ instructions out of 60.
    let twice = (1..31).map(|next| Ok(vec![branch(next)?, branch(next)?]));
    let mut twice: Vec<Vec<Instruction>> = twice.collect::<Result<_>>()?;
    twice.push(vec![exp()?]);
    let long = 0x7fff_ffff;
    let full = |shape: Vec<IntOrVid>| {
        let fields = [
            ("out", T.into()),
            ("v", Field::FloatOrVid(FloatOrVid::Float(0.0))),
            ("shape", Field::IntOrVids(shape)),
            ("scalar_type", ScalarType::F32.into()),
        ];
        make("Full", &fields)
    };
    let divide = |by: Tid| {
        make(
            "FloorDivide",
            &[("a", W.into()), ("b", by.into()), ("out", U.into())],
        )
    };
    let zero = make(
        "Subtract",
        &[("a", W.into()), ("b", W.into()), ("out", T.into())],
    )?;
    let scan = |body: i64| {
        let one = |tid: Tid| Field::Tids(vec![tid]);
        let fields = [
            ("originals", one(T)),
            ("sliced", one(U)),
            ("outputs", Field::Tids(vec![])),
            ("carry", Field::Tids(vec![])),
            ("body_chain_idx", body.into()),
            ("scan_axis", 0_i64.into()),
        ];
        make("Scan", &fields)
    };
    let wide = make(
        "BroadcastTo",
        &[
            ("x", W.into()),
            ("out", T.into()),
            ("shape", ints(&[100_000_000, 3])),
        ],
    )?;
    Ok(vec![
        ("branches_double", bytes(&program(twice))?),
        (
            "loop_of_a_hundred_million",
            bytes(&program(vec![vec![wide, scan(1)?, exp()?], vec![]]))?,
        ),
        (
            "jump_backwards_for_ever",
            changed(|p| {
                p.methods[0].chains[0].push(Call::JumpFalse {
                    condition: 2,
                    target: 0,
                })
            })?,
        ),
        (
            "index_out_of_range",
            with(vec![make(
                "Take",
                &x_to_t(&[
                    ("index", Field::IntOrVidOrTid(IntOrVidOrTid::Tid(W))),
                    ("axis", 1_i64.into()),
                ]),
            )?])?,
        ),
        ("packed_numbers_in_a_row", quantized(&[24], &[3])?),
        ("scales_for_fewer_rows", quantized(&[6, 24], &[1, 3])?),
        ("scales_without_rows", quantized(&[6, 24], &[3])?),
        (
            "index_from_a_slot_out_of_range",
            with(vec![
                number(i64::MIN)?,
                make(
                    "Take",
                    &x_to_t(&[
                        ("index", Field::IntOrVidOrTid(IntOrVidOrTid::Vid(Vid(0)))),
                        ("axis", 0_i64.into()),
                    ]),
                )?,
            ])?,
        ),
        (
            "reshape_that_does_not_fit",
            with(vec![make("Reshape", &x_to_t(&[("shape", ints(&[7]))]))?])?,
        ),
        (
            "reshape_to_two_unknowns",
            with(vec![make(
                "Reshape",
                &x_to_t(&[("shape", ints(&[-1, -1]))]),
            )?])?,
        ),
        (
            "negative_length_from_a_slot",
            with(vec![number(-5)?, full(vec![IntOrVid::Vid(Vid(0))])?])?,
        ),
        (
            "fill_of_exabytes",
            with(vec![number(long)?, full(vec![IntOrVid::Vid(Vid(0)); 2])?])?,
        ),
        (
            "broadcast_beyond_counting",
            with(vec![make(
                "BroadcastTo",
                &[
                    ("x", W.into()),
                    ("out", T.into()),
                    ("shape", ints(&[long, long, long, 3])),
                ],
            )?])?,
        ),
        (
            "tile_beyond_counting",
            with(vec![make(
                "Tile",
                &x_to_t(&[("reps", ints(&[long, long]))]),
            )?])?,
        ),
        (
            "view_beyond_the_tensor",
            with(vec![make(
                "AsStrided",
                &x_to_t(&[
                    ("shape", ints(&[2, 3])),
                    ("strides", ints(&[1000, 1])),
                    ("offset", Field::Int(0)),
                ]),
            )?])?,
        ),
        ("division_by_zero", with(vec![zero, divide(T)?])?),
        (
            "host_division_by_zero",
            with(vec![make(
                "FloorDivideInt",
                &[("a", int(1)), ("b", int(0)), ("out", Vid(0).into())],
            )?])?,
        ),
        (
            "host_division_overflows",
            with(vec![make(
                "FloorDivideInt",
                &[("a", int(i64::MIN)), ("b", int(-1)), ("out", Vid(0).into())],
            )?])?,
        ),
        (
            "host_sum_overflows",
            with(vec![make(
                "AddInt",
                &[("a", int(i64::MAX)), ("b", int(1)), ("out", Vid(0).into())],
            )?])?,
        ),
        (
            "axis_beyond_the_rank",
            with(vec![make("Softmax", &x_to_t(&[("axis", 5_i64.into())]))?])?,
        ),
        (
            "step_of_zero",
            with(vec![make(
                "Slice",
                &x_to_t(&[
                    ("axis", int(0)),
                    ("start", int(0)),
                    ("stop", int(2)),
                    ("step", 0_i64.into()),
                ]),
            )?])?,
        ),
        (
            "arange_without_end",
            with(vec![
                number(i64::MAX)?,
                make(
                    "Arange",
                    &[
                        ("out", T.into()),
                        ("start", int(0)),
                        ("stop", from_slot()),
                        ("step", int(1)),
                    ],
                )?,
            ])?,
        ),
        (
            "epsilon_is_no_number",
            with(vec![make(
                "RmsNorm",
                &x_to_t(&[("eps", Field::F32(f32::NAN))]),
            )?])?,
        ),
        (
            "alpha_is_no_number",
            with(vec![make(
                "Addmm",
                &[
                    ("mat1", X.into()),
                    ("mat2", X.into()),
                    ("out", T.into()),
                    ("alpha", Field::F32(f32::NAN)),
                ],
            )?])?,
        ),
        (
            "seventeen_axes_at_run_time",
            with(vec![make(
                "ExpandDims",
                &x_to_t(&[("axis", 17_i64.into())]),
            )?])?,
        ),
    ])
}

/// All of them.
pub fn attacks() -> Result<Vec<Attack>> {
    Ok([headers()?, structure()?, calls()?].concat())
}
