//! Instructions with operands that fit, and some fields and lengths exchanged for others: whatever comes of it, the process lives, and within the memory that it may take.

use crate::programs::{GraphBuilder, fixed, method};
use fuseline_program::instr::{
    AddInt, Field, FieldInfo, FieldKind, FloatOrVid, IdCopy, IntOrVid, IntOrVidOrTid, Role,
    VidOrTid, instruction_table,
};
use fuseline_program::{Dim, Instruction, Program as Contents, ScalarType as T, TensorMeta};
use fuseline_program::{Tid, Vid};
use fuseline_runtime::{Device, Options, Program, Tensor, Value};
use std::time::{Duration, Instant};

/// An instruction, what it reads, and fields that are not at their defaults.
type Sample = (
    &'static str,
    &'static [(T, &'static [u32])],
    &'static [(&'static str, i64)],
);

const SAMPLES: &[Sample] = &[
    ("Conv1D", &[(T::F32, &[2, 9, 4]), (T::F32, &[4, 3, 4])], &[]),
    (
        "Conv1D",
        &[(T::F32, &[2, 9, 4]), (T::F32, &[4, 3, 2])],
        &[("groups", 2)],
    ),
    (
        "Conv2D",
        &[(T::F32, &[1, 8, 8, 4]), (T::F32, &[4, 3, 3, 4])],
        &[],
    ),
    (
        "Conv2D",
        &[(T::F16, &[1, 8, 8, 4]), (T::F16, &[4, 3, 3, 1])],
        &[("groups", 4)],
    ),
    (
        "Conv3D",
        &[(T::F32, &[1, 4, 4, 4, 2]), (T::F32, &[2, 2, 2, 2, 2])],
        &[],
    ),
    (
        "ConvTranspose1D",
        &[(T::F32, &[2, 9, 4]), (T::F32, &[4, 3, 4])],
        &[],
    ),
    (
        "ConvTranspose2D",
        &[(T::F32, &[1, 8, 8, 4]), (T::F32, &[4, 3, 3, 2])],
        &[("groups", 2)],
    ),
    (
        "ConvTranspose3D",
        &[(T::F32, &[1, 4, 4, 4, 2]), (T::F32, &[2, 2, 2, 2, 2])],
        &[],
    ),
    (
        "QuantizedMatmul",
        &[
            (T::F32, &[8, 64]),
            (T::U32, &[8, 8]),
            (T::F32, &[8, 2]),
            (T::F32, &[8, 2]),
        ],
        &[("bits", 4), ("group_size", 32), ("transpose", 1)],
    ),
    (
        "GatherQmm",
        &[
            (T::F32, &[2, 1, 64]),
            (T::U32, &[3, 8, 8]),
            (T::F32, &[3, 8, 2]),
            (T::F32, &[3, 8, 2]),
            (T::U32, &[2]),
            (T::U32, &[2]),
        ],
        &[("bits", 4), ("group_size", 32), ("transpose", 1)],
    ),
    (
        "GatherMm",
        &[
            (T::F32, &[2, 1, 4]),
            (T::F32, &[3, 4, 5]),
            (T::U32, &[2]),
            (T::U32, &[2]),
        ],
        &[],
    ),
    (
        "Dequantize",
        &[(T::U32, &[8, 8]), (T::F32, &[8, 2]), (T::F32, &[8, 2])],
        &[("bits", 4), ("group_size", 32)],
    ),
    (
        "Sdpa",
        &[
            (T::F32, &[1, 4, 2, 8]),
            (T::F32, &[1, 2, 3, 8]),
            (T::F32, &[1, 2, 3, 8]),
            (T::F32, &[2, 3]),
        ],
        &[],
    ),
    (
        "Rope",
        &[(T::F32, &[1, 2, 3, 8]), (T::F32, &[4])],
        &[("dims", 8)],
    ),
    (
        "LayerNorm",
        &[(T::F32, &[2, 8]), (T::F32, &[8]), (T::F32, &[8])],
        &[],
    ),
    ("RmsNorm", &[(T::F32, &[2, 8]), (T::F32, &[8])], &[]),
    (
        "UpdateAndAttend",
        &[
            (T::F32, &[1, 2, 2, 4]),
            (T::F32, &[1, 2, 2, 4]),
            (T::F32, &[1, 2, 2, 4]),
            (T::I64, &[2]),
        ],
        &[],
    ),
    (
        "ScatterAdd",
        &[(T::F32, &[4, 3]), (T::I32, &[2, 3]), (T::F32, &[2, 3])],
        &[("axis", 0)],
    ),
    (
        "TakeAlongAxis",
        &[(T::F32, &[4, 3]), (T::I32, &[2, 3])],
        &[("axis", 0)],
    ),
    (
        "Take",
        &[(T::F32, &[4, 3]), (T::I32, &[2, 3])],
        &[("axis", 0)],
    ),
    ("Gather", &[(T::F32, &[4, 3]), (T::I32, &[2])], &[]),
    (
        "IndexCopy",
        &[(T::F32, &[4, 3]), (T::F32, &[2, 3]), (T::I32, &[2])],
        &[("axis", 0)],
    ),
    (
        "SliceUpdate",
        &[(T::F32, &[4, 3]), (T::F32, &[2, 3])],
        &[("axis", 0), ("start", 0), ("stop", 2), ("step", 1)],
    ),
    (
        "Addmm",
        &[(T::F32, &[4, 3]), (T::F32, &[3, 5]), (T::F32, &[5])],
        &[],
    ),
    (
        "Slice",
        &[(T::F32, &[4, 3])],
        &[("axis", 0), ("start", 0), ("stop", 2), ("step", 1)],
    ),
    ("Pad", &[(T::F32, &[4, 3])], &[]),
    ("AsStrided", &[(T::F32, &[4, 3])], &[]),
    ("Split", &[(T::F32, &[4, 3])], &[("axis", 0)]),
    ("Roll", &[(T::F32, &[4, 3])], &[]),
    ("Tile", &[(T::F32, &[4, 3])], &[]),
    ("Tri", &[(T::F32, &[4, 3])], &[]),
    ("Arange", &[(T::F32, &[4, 3])], &[]),
    ("FloorDivide", &[(T::I64, &[4, 3]), (T::I64, &[3])], &[]),
    ("Remainder", &[(T::I32, &[4, 3]), (T::I32, &[3])], &[]),
    ("Power", &[(T::I32, &[4, 3]), (T::I32, &[3])], &[]),
    ("Cumsum", &[(T::F32, &[4, 3])], &[("axis", 0)]),
    (
        "ArgPartition",
        &[(T::F32, &[4, 3])],
        &[("axis", 0), ("kth", 1)],
    ),
];

/// Numbers without a pattern, the same in every run.
pub struct Draw(pub u64);

impl Draw {
    /// One of so many, from 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    fn of<E: Copy>(&mut self, list: &[E]) -> E {
        list[self.below(list.len())]
    }

    /// A number that no sample has, often one at an end of 32 bits.
    fn odd(&mut self) -> i64 {
        let ends = i64::from(i32::MIN)..=i64::from(i32::MAX);
        let far = [
            *ends.start(),
            *ends.end(),
            -65_537,
            1 << 16,
            1 << 20,
            1 << 24,
            1 << 30,
        ];
        match self.below(3) {
            0 => self.below(9) as i64 - 4,
            _ => self.of(&far),
        }
    }

    /// Something else for a field.
    fn field(&mut self, info: &FieldInfo, slots: usize) -> Field {
        let count = self.below(5);
        let tid = |draw: &mut Self| Tid(draw.below(slots) as u32);
        let int = |draw: &mut Self| match draw.below(4) {
            0 => IntOrVid::Vid(Vid(0)),
            _ => IntOrVid::Int(draw.odd()),
        };
        match info.kind {
            FieldKind::I32 => Field::Int(self.odd()),
            FieldKind::U32 | FieldKind::U64 => Field::Int(self.odd().max(0)),
            FieldKind::I8s => Field::Ints((0..count).map(|_| self.below(5) as i64).collect()),
            FieldKind::I32s => Field::Ints((0..count).map(|_| self.odd()).collect()),
            FieldKind::F32 => Field::F32(self.of(&[0.0, -1.5, f32::NAN, f32::INFINITY, 1e38])),
            FieldKind::Bool => Field::Bool(self.below(2) == 0),
            FieldKind::Str => {
                let words = ["none", "affine", "mxfp4", "nvfp4", "constant", "edge", ""];
                Field::Str(self.of(&words).to_owned())
            }
            FieldKind::DType => Field::DType(self.of(T::ALL)),
            FieldKind::IntOrVid => Field::IntOrVid(int(self)),
            FieldKind::IntOrVids => Field::IntOrVids((0..count).map(|_| int(self)).collect()),
            FieldKind::FloatOrVid => Field::FloatOrVid(FloatOrVid::Float(self.odd() as f64)),
            FieldKind::VidOrTid => Field::VidOrTid(VidOrTid::Tid(tid(self))),
            FieldKind::IntOrVidOrTid => Field::IntOrVidOrTid(match self.below(2) {
                0 => IntOrVidOrTid::Int(self.odd()),
                _ => IntOrVidOrTid::Tid(tid(self)),
            }),
            _ => Field::None,
        }
    }
}

/// A sample with up to three fields exchanged, if there is such an instruction.
fn instruction(sample: &Sample, read: u32, draw: &mut Draw) -> Option<Instruction> {
    let (name, _, set) = sample;
    let info = instruction_table().iter().find(|info| info.name == *name)?;
    let exchanged: Vec<usize> = (0..draw.below(4))
        .map(|_| draw.below(info.fields.len()))
        .collect();
    let mut next = 0..;
    let mut operand = || Tid(next.next().unwrap_or(0).min(read - 1));
    let mut fields = Vec::new();
    for (at, field) in info.fields.iter().enumerate() {
        let reads = matches!(field.role, Role::Read | Role::Update);
        let content = match field.kind {
            FieldKind::Tid if reads => Field::Tid(operand()),
            FieldKind::Tid => Field::Tid(Tid(read)),
            FieldKind::Tids if reads => Field::Tids(vec![operand()]),
            FieldKind::Tids => Field::Tids(
                (0..1 + draw.below(3) as u32)
                    .map(|n| Tid(read + n))
                    .collect(),
            ),
            _ if exchanged.contains(&at) => draw.field(field, read as usize),
            FieldKind::IntOrVidOrTid => Field::IntOrVidOrTid(IntOrVidOrTid::Tid(operand())),
            FieldKind::VidOrTid => Field::VidOrTid(VidOrTid::Vid(Vid(0))),
            kind => match (set.iter().find(|(name, _)| *name == field.name), kind) {
                (Some((_, n)), FieldKind::Bool) => Field::Bool(*n != 0),
                (Some((_, n)), FieldKind::IntOrVid) => Field::IntOrVid(IntOrVid::Int(*n)),
                (Some((_, n)), _) => Field::Int(*n),
                (None, _) if field.default.is_some() => continue,
                (None, FieldKind::Str) => Field::Str("affine".to_owned()),
                (None, _) => draw.field(field, read as usize),
            },
        };
        fields.push((field.name, content));
    }
    Instruction::build(name, &fields).ok()
}

/// Runs one draw: whether there was a valid program, and whether it gave results.
fn run(number: usize, path: &std::path::Path, draw: &mut Draw) -> (bool, bool) {
    let sample = &SAMPLES[number % SAMPLES.len()];
    let mut operands: Vec<(T, Vec<u32>)> = sample
        .1
        .iter()
        .map(|(dtype, shape)| (*dtype, shape.to_vec()))
        .collect();
    if draw.below(3) == 0 {
        let which = draw.below(operands.len());
        let (dtype, shape) = &mut operands[which];
        let axis = draw.below(shape.len());
        match draw.below(4) {
            0 => *dtype = draw.of(&[T::F32, T::F16, T::I32, T::I64, T::U8, T::Bool, T::U32]),
            1 => drop(shape.remove(axis)),
            _ => shape[axis] = draw.of(&[0, 1, 2, 3, 5, 7, 33]),
        }
    }
    let read = operands.len() as u32;
    let Some(drawn) = instruction(sample, read, draw) else {
        return (false, false);
    };
    let result = TensorMeta {
        dtype: T::F32,
        shape: vec![Dim::Dynamic {
            min: 0,
            max: Some(8),
        }],
    };
    let slot = AddInt {
        a: IntOrVid::Int(draw.odd()),
        b: IntOrVid::Int(0),
        out: Vid(0),
    };
    let mut main: Vec<Instruction> = vec![slot.into()];
    main.extend((0..3).map(|n| {
        IdCopy {
            x: Tid(0),
            out: Tid(read + n),
        }
        .into()
    }));
    main.push(drawn);
    let graph = GraphBuilder {
        inputs: operands
            .iter()
            .map(|(dtype, shape)| ("x", fixed(*dtype, shape)))
            .collect(),
        outputs: vec![result; 3],
        values: 1,
        main,
        ..GraphBuilder::default()
    };
    let contents = Contents {
        methods: vec![method(&graph)],
        ..Contents::default()
    };
    if contents.validate().is_err() {
        return (false, false);
    }
    let mut bytes = Vec::new();
    contents.write_unvalidated(&mut bytes).expect("a program");
    std::fs::write(path, bytes).expect("a file");
    let options = Options {
        device: Some(Device::Cpu),
        max_memory: Some(1 << 26),
        late_checks: Some(number.is_multiple_of(2)),
        ..Options::default()
    };
    let Ok(program) = Program::open_with(path, &options) else {
        return (false, false);
    };
    let fill = draw.of(&[0_u8, 1, 0x80, 0xff]);
    let inputs: Vec<Value> = operands
        .iter()
        .map(|(dtype, shape)| {
            let shape: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
            let count = shape.iter().product::<usize>() * dtype.size() as usize;
            let fill = if *dtype == T::Bool { fill & 1 } else { fill };
            Tensor::from_bytes(*dtype, &shape, &vec![fill; count])
                .expect("a tensor")
                .into()
        })
        .collect();
    let mut session = program.session().expect("a session");
    let Ok(outputs) = session.run("forward", &inputs) else {
        return (true, false);
    };
    let mut tensors = outputs.iter().filter_map(Value::as_tensor);
    (true, tensors.all(|tensor| tensor.to_bytes().is_ok()))
}

#[test]
fn the_process_lives() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("drawn.pte");
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let (mut valid, mut worked) = (0, 0);
    for number in 0..3000 {
        let begin = Instant::now();
        let (ran, gave) = run(number, &path, &mut draw);
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "draw {number} of {:?}",
            SAMPLES[number % SAMPLES.len()]
        );
        valid += usize::from(ran);
        worked += usize::from(gave);
    }
    assert!(
        valid > 1500 && worked > 750,
        "{valid} valid, {worked} gave results"
    );
}
