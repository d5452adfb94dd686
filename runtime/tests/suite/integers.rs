//! Integers that the host works out, or reasons about, before the device has them: where it is wrong, memory is read that is not the array's.

use crate::programs::{GraphBuilder, fixed};
use fuseline_program::instr::{
    AddInt, Arange, BroadcastTo, FloatOrVid, FloorDivide, Full, IndexCopy, IntOrVid, IntOrVidOrTid,
    ItemInt, Reshape, Slice, Subtract, Take,
};
use fuseline_program::{Dim, Instruction, ScalarType as T, TensorMeta, Tid, Vid};
use fuseline_runtime::{Device, Error, Fault, Options, Program, TensorError};
use std::time::{Duration, Instant};

const TABLE: Tid = Tid(0);
const MOST: Tid = Tid(1);
const HALF: Tid = Tid(2);
const PART: Tid = Tid(3);
const FEW: Tid = Tid(4);
const NONE: Tid = Tid(5);
const OUT: Tid = Tid(6);
const A: Tid = Tid(7);
const B: Tid = Tid(8);

fn ints(lengths: &[i64]) -> Vec<IntOrVid> {
    lengths.iter().map(|n| IntOrVid::Int(*n)).collect()
}

/// Runs a program over constants: a table of 1000 floats, 2⁶⁴ − 1, 2⁶³ − 1 and a thousandth of it, zeros, and no integers. The last two slots are free.
fn run(main: Vec<Instruction>, late: bool) -> Result<Vec<u8>, Error> {
    let table: Vec<u8> = (0..1000_u16)
        .flat_map(|n| f32::from(n).to_le_bytes())
        .collect();
    let result = TensorMeta {
        dtype: T::F32,
        shape: vec![Dim::Dynamic {
            min: 0,
            max: Some(8),
        }],
    };
    let number = |n: u64| n.to_le_bytes().to_vec();
    let file = GraphBuilder {
        constants: vec![
            ("table", fixed(T::F32, &[1000]), table),
            ("most", fixed(T::U64, &[1]), number(u64::MAX)),
            ("half", fixed(T::U64, &[1]), number(u64::MAX / 2)),
            ("part", fixed(T::U64, &[1]), number((1 << 63) / 1000)),
            ("few", fixed(T::I64, &[256]), vec![0; 256 * 8]),
            ("none", fixed(T::I64, &[0]), Vec::new()),
        ],
        outputs: vec![result],
        temps: 2,
        values: 2,
        main,
        ..GraphBuilder::default()
    }
    .file();
    let options = Options {
        device: Some(Device::Cpu),
        late_checks: Some(late),
        max_memory: Some(1 << 26),
        ..Options::default()
    };
    let mut session = Program::open_with(&file.path, &options)?.session()?;
    let outputs = session.run("forward", &[])?;
    Ok(outputs[0].as_tensor().expect("a tensor").to_bytes()?)
}

fn take(index: Tid) -> Instruction {
    Take {
        x: TABLE,
        out: OUT,
        index: IntOrVidOrTid::Tid(index),
        axis: 0,
    }
    .into()
}

fn subtract(a: Tid, b: Tid) -> Instruction {
    Subtract { a, b, out: A }.into()
}

/// The one element of a result, or the index that was out of range.
fn one(main: Vec<Instruction>, late: bool) -> Result<f32, i64> {
    match run(main, late) {
        Ok(bytes) => Ok(f32::from_le_bytes(
            bytes[..4].try_into().expect("an element"),
        )),
        Err(Error::Instruction {
            fault: Fault::Index { index, .. },
            ..
        }) => Err(index),
        Err(Error::Tensor(TensorError::Instruction { fault, .. })) => match *fault {
            Fault::Index { index, .. } => Err(index),
            other => panic!("{other}"),
        },
        Err(other) => panic!("{other}"),
    }
}

/// A host integer of any size as an array.
fn full(number: i64, out: Tid, vid: u32) -> Vec<Instruction> {
    let (number, vid) = (IntOrVid::Int(number), Vid(vid));
    let v = FloatOrVid::Vid(vid);
    let (b, shape) = (IntOrVid::Int(0), ints(&[1]));
    vec![
        AddInt {
            a: number,
            b,
            out: vid,
        }
        .into(),
        Full {
            shape,
            out,
            v,
            scalar_type: T::I64,
        }
        .into(),
    ]
}

#[test]
fn a_number_beyond_63_bits_is_no_index_after_all() {
    for late in [false, true] {
        assert_eq!(
            one(vec![subtract(MOST, HALF), take(A)], late),
            Err(i64::MAX)
        );
        let quotient = FloorDivide {
            a: MOST,
            b: PART,
            out: A,
        };
        assert_eq!(one(vec![quotient.into(), take(A)], late), Err(2000));
    }
}

#[test]
fn host_integers_are_not_rounded() {
    for base in [1_i64 << 62, -(1 << 62), 1 << 53] {
        let mut main = full(base + 601, A, 0);
        main.extend(full(base, B, 1));
        main.extend([subtract(A, B), take(A)]);
        assert_eq!(one(main, false), Ok(601.0));
        let arange = |from: i64, out| -> Instruction {
            let [start, stop] = [from, from + 400].map(IntOrVid::Int);
            let step = IntOrVid::Int(1);
            Arange {
                start,
                stop,
                step,
                out,
                scalar_type: Some(T::I64),
            }
            .into()
        };
        let last = Slice {
            x: OUT,
            out: OUT,
            axis: IntOrVid::Int(0),
            start: IntOrVid::Int(399),
            stop: IntOrVid::Int(400),
            step: 1,
        };
        let main = vec![
            arange(base + 501, A),
            arange(base, B),
            subtract(A, B),
            take(A),
            last.into(),
        ];
        assert_eq!(one(main, false), Ok(501.0));
    }
}

#[test]
fn long_axes_of_nothing_are_not_walked() {
    let reshape = |x, out, shape: &[i64]| -> Instruction {
        let shape = ints(shape);
        Reshape { x, out, shape }.into()
    };
    let begin = Instant::now();
    let fault = |shape: &[i64], then: Instruction| {
        let main = vec![reshape(NONE, A, shape), then, take(B)];
        match run(main, false) {
            Err(Error::Instruction { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    };
    let taken = |index| {
        Take {
            x: A,
            out: B,
            index,
            axis: 2,
        }
        .into()
    };
    let index = taken(IntOrVidOrTid::Int(1));
    assert!(matches!(
        fault(&[46_341, 46_341, 4, 0], index),
        Fault::TooLarge { .. }
    ));
    let indices = taken(IntOrVidOrTid::Tid(FEW));
    assert!(matches!(
        fault(&[2, 0x7fff_ffff, 4, 0], indices),
        Fault::TooLarge { .. }
    ));
    let [start, stop] = [0, 0x7fff_ffff].map(IntOrVid::Int);
    let axis = IntOrVid::Int(0);
    let slice = Slice {
        x: A,
        out: B,
        axis,
        start,
        stop,
        step: 1,
    };
    assert!(matches!(
        fault(&[0x7fff_ffff, 0], slice.into()),
        Fault::TooLarge { .. }
    ));
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn many_copies_of_an_index_are_refused_before_they_are_read() {
    let begin = Instant::now();
    let many = || -> Vec<Instruction> {
        vec![
            Full {
                shape: ints(&[1]),
                out: A,
                v: FloatOrVid::Float(0.0),
                scalar_type: T::I8,
            }
            .into(),
            BroadcastTo {
                x: A,
                out: A,
                shape: ints(&[1 << 26]),
            }
            .into(),
        ]
    };
    let fault = |then: Vec<Instruction>| match run([many(), then].concat(), false) {
        Err(Error::Instruction { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    let out = || take(FEW);
    let copy = IndexCopy {
        dst: TABLE,
        update: A,
        indices: A,
        out: B,
        axis: 0,
    };
    assert!(matches!(
        fault(vec![copy.into(), out()]),
        Fault::TooLarge { .. }
    ));
    let item = ItemInt { x: A, out: Vid(0) };
    assert!(matches!(
        fault(vec![item.into(), out()]),
        Fault::NotOne { .. }
    ));
    assert!(begin.elapsed() < Duration::from_secs(10));
}
