//! Indices that the device computes: found out of range before they are used, or with the results, and never used as they are.

use crate::programs::{File, GraphBuilder, bytes, fixed};
use fuseline_program::instr::{
    Add, AsType, Gather, GatherMm, GatherQmm, IntOrVid, IntOrVidOrTid, Reshape, ScatterAdd, Sum,
    Take, TakeAlongAxis,
};
use fuseline_program::{Instruction, ScalarType, Tid};
use fuseline_runtime::{
    Device, Error, Fault, Options, Program, Session, Tensor, TensorError, Value,
};

const F32: ScalarType = ScalarType::F32;

fn open(file: &File, late: bool) -> Session {
    let options = Options {
        device: Some(Device::Cpu),
        late_checks: Some(late),
        ..Options::default()
    };
    let program = Program::open_with(&file.path, &options).expect("a program");
    program.session().expect("a session")
}

fn floats(shape: &[usize], elements: &[f32]) -> Value {
    let tensor = Tensor::from_slice(shape, elements);
    tensor.expect("a tensor").into()
}

fn call(session: &mut Session, inputs: &[Value]) -> Result<Vec<f32>, Error> {
    let outputs = session.run("forward", inputs)?;
    Ok(outputs[0].as_tensor().expect("a tensor").to_vec()?)
}

/// Constants 0 to 2 are numbers `[4, 4]`, matrices `[3, 2, 2]` and packed ones `[3, 8, 4]`, 3 their scales; input 4 has two floats, output 5 is what instructions leave there. Slot 6 has
/// the input as integers, which the first instruction makes, and 7 is free.
fn reads(dtype: ScalarType, output: &[u32], then: Vec<Instruction>) -> File {
    let count = |from: u8, to: u8| {
        let all: Vec<f32> = (from..to).map(f32::from).collect();
        bytes(&all)
    };
    let first = AsType {
        x: Tid(4),
        out: Tid(6),
        scalar_type: dtype,
    };
    let packed = vec![0x21; 3 * 8 * 4 * 4];
    let mut main = vec![first.into()];
    main.extend(then);
    let graph = GraphBuilder {
        constants: vec![
            ("table", fixed(F32, &[4, 4]), count(0, 16)),
            ("matrices", fixed(F32, &[3, 2, 2]), count(0, 12)),
            ("packed", fixed(ScalarType::U32, &[3, 8, 4]), packed),
            ("scales", fixed(F32, &[3, 8, 1]), count(1, 25)),
        ],
        inputs: vec![("at", fixed(F32, &[2]))],
        outputs: vec![fixed(F32, output)],
        temps: 2,
        main,
        ..GraphBuilder::default()
    };
    graph.file()
}

fn take() -> Instruction {
    Take {
        x: Tid(0),
        out: Tid(5),
        index: IntOrVidOrTid::Tid(Tid(6)),
        axis: 0,
    }
    .into()
}

/// Programs that use their input as indices, each with the least index and the largest.
fn programs() -> Vec<(&'static str, File, i64, i64)> {
    let sum = |x, out| {
        Sum {
            x,
            out,
            axes: vec![],
            keepdims: false,
        }
        .into()
    };
    let i32s = ScalarType::I32;
    let row = fixed(F32, &[4]);
    let scattered = GraphBuilder {
        inputs: vec![("at", fixed(F32, &[2])), ("rows", row.clone())],
        outputs: vec![row],
        temps: 1,
        main: vec![
            AsType {
                x: Tid(0),
                out: Tid(3),
                scalar_type: ScalarType::I64,
            }
            .into(),
            ScatterAdd {
                x: Tid(1),
                indices: Tid(3),
                updates: Tid(0),
                out: Tid(2),
                axis: 0,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let row = Take {
        x: Tid(0),
        out: Tid(7),
        index: IntOrVidOrTid::Int(1),
        axis: 0,
    };
    let beside = TakeAlongAxis {
        x: Tid(7),
        indices: Tid(6),
        out: Tid(5),
        axis: 0,
    };
    let gathered = Gather {
        x: Tid(0),
        indices: vec![Tid(6)],
        out: Tid(5),
        axes: vec![1],
        slice_sizes: vec![4, 2],
    };
    let product = GatherMm {
        a: Tid(1),
        b: Tid(1),
        out: Tid(7),
        lhs_indices: Some(Tid(6)),
        rhs_indices: Some(Tid(6)),
        sorted_indices: false,
        sorted_indices_flag: None,
    };
    // The scales as rows of 8, to multiply with matrices of 8 rows and 32 columns.
    let squares = Reshape {
        x: Tid(3),
        out: Tid(7),
        shape: [3, 1, 8].map(IntOrVid::Int).to_vec(),
    };
    let squares = squares.into();
    let packed = GatherQmm {
        x: Tid(7),
        w: Tid(2),
        scales: Tid(3),
        out: Tid(7),
        mode: "affine".to_owned(),
        biases: Some(Tid(3)),
        lhs_indices: Some(Tid(6)),
        rhs_indices: Some(Tid(6)),
        transpose: false,
        group_size: 32,
        bits: 4,
        sorted_indices: false,
        sorted_indices_flag: None,
    };
    vec![
        ("Take", reads(i32s, &[2, 4], vec![take()]), -4, 3),
        (
            "Take of narrow indices",
            reads(ScalarType::I8, &[2, 4], vec![take()]),
            -4,
            3,
        ),
        (
            "TakeAlongAxis",
            reads(i32s, &[2], vec![row.into(), beside.into()]),
            -4,
            3,
        ),
        (
            "Gather of two columns",
            reads(i32s, &[2, 4, 2], vec![gathered.into()]),
            -4,
            2,
        ),
        ("ScatterAdd", scattered.file(), -4, 3),
        (
            "GatherMm",
            reads(
                ScalarType::U32,
                &[],
                vec![product.into(), sum(Tid(7), Tid(5))],
            ),
            0,
            2,
        ),
        (
            "GatherQmm",
            reads(
                ScalarType::U32,
                &[],
                vec![squares, packed.into(), sum(Tid(7), Tid(5))],
            ),
            0,
            2,
        ),
    ]
}

fn inputs(session: &Session, at: [i64; 2]) -> Vec<Value> {
    let mut inputs = vec![floats(&[2], &at.map(|n| n as f32))];
    if session.program().inputs("forward").expect("inputs").len() > 1 {
        inputs.push(floats(&[4], &[1.0, 2.0, 3.0, 4.0]));
    }
    inputs
}

#[test]
fn no_index_reaches_beyond_an_array() {
    for (name, file, least, most) in programs() {
        let [mut early, mut late] = [false, true].map(|late| open(&file, late));
        let given = inputs(&early, [least, most]);
        let expected = call(&mut early, &given).expect(name);
        assert_eq!(call(&mut late, &given).expect(name), expected, "{name}");
        // What is below zero has no place among unsigned indices.
        let below = [least - 1, least - 100].map(|n| (least < 0).then_some(n));
        let beyond = [most + 1, most + 100].map(Some);
        for wrong in beyond.into_iter().chain(below).flatten() {
            let given = inputs(&early, [least, wrong]);
            let at = |error: Error| match error {
                Error::Instruction {
                    position,
                    text,
                    fault: Fault::Index { index, .. },
                    ..
                } => (position, text, index),
                other => panic!("{name}: {other}"),
            };
            let first = at(call(&mut early, &given).expect_err(name));
            let results = late.run("forward", &given).expect(name);
            let read = results[0].as_tensor().expect("a tensor").to_bytes();
            let second = at(read.expect_err(name).into());
            assert_eq!(second, first, "{name}");
            assert_eq!(first.2, wrong, "{name}");
            assert!(
                first.1.contains(name.split(' ').next().unwrap()),
                "{first:?}"
            );
        }
        let given = inputs(&early, [most, least]);
        let expected = call(&mut early, &given).expect(name);
        assert_eq!(call(&mut late, &given).expect(name), expected, "{name}");
    }
}

#[test]
fn results_of_wrong_results_are_no_results() {
    let file = reads(
        ScalarType::I32,
        &[2],
        vec![
            take(),
            Sum {
                x: Tid(5),
                out: Tid(5),
                axes: vec![1],
                keepdims: false,
            }
            .into(),
        ],
    );
    let mut session = open(&file, true);
    let good = session.run("forward", &[floats(&[2], &[0.0, 1.0])]);
    let good = good.expect("a call");
    let bad = session.run("forward", &[floats(&[2], &[0.0, 4.0])]);
    let bad = bad.expect("a call");
    // Unless the flag is computed before the next call begins, that goes on with what is there.
    let next = session
        .run("forward", &bad)
        .map_err(|error| error.to_string());
    let told = next.and_then(|outputs| {
        let read = outputs[0].as_tensor().expect("a tensor").to_vec::<f32>();
        read.map_err(|error| error.to_string())
    });
    let told = told.expect_err("the index of the call before");
    assert!(
        told.contains("index 4 is out of range for axis 0 of length 4"),
        "{told}"
    );
    assert_eq!(
        good[0]
            .as_tensor()
            .expect("a tensor")
            .to_vec::<f32>()
            .expect("numbers"),
        [6.0, 22.0]
    );
    assert!(session.synchronize().is_ok());
    assert!(matches!(
        bad[0].as_tensor().expect("a tensor").to_vec::<f32>(),
        Err(TensorError::Instruction { position: 1, .. })
    ));
}

/// `total += table[at]`: constant 0, input 1, output 2, state 3, slots 4 and 5.
fn sums() -> File {
    let graph = GraphBuilder {
        constants: vec![("table", fixed(F32, &[2]), bytes(&[1.0, 10.0]))],
        inputs: vec![("at", fixed(F32, &[1]))],
        outputs: vec![fixed(F32, &[1])],
        state: vec![("total", fixed(F32, &[1]))],
        temps: 2,
        main: vec![
            AsType {
                x: Tid(1),
                out: Tid(4),
                scalar_type: ScalarType::I32,
            }
            .into(),
            Take {
                x: Tid(0),
                out: Tid(5),
                index: IntOrVidOrTid::Tid(Tid(4)),
                axis: 0,
            }
            .into(),
            Add {
                a: Tid(3),
                b: Tid(5),
                out: Tid(3),
            }
            .into(),
            Add {
                a: Tid(3),
                b: Tid(3),
                out: Tid(2),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    graph.file()
}

#[test]
fn state_that_a_wrong_index_has_changed_is_lost_until_reset() {
    let file = sums();
    let at = |n: f32| [floats(&[1], &[n])];
    let mut session = open(&file, true);
    assert_eq!(call(&mut session, &at(0.0)).expect("a call"), [2.0]);
    assert_eq!(call(&mut session, &at(-1.0)).expect("a call"), [22.0]);
    let wrong = |error: &Error| {
        let index = Fault::Index {
            index: 2,
            axis: 0,
            length: 2,
        };
        matches!(error, Error::Instruction { chain: 0, position: 1, fault, .. } if *fault == index)
    };
    let outputs = session.run("forward", &at(2.0)).expect("a call");
    // Reading the state tells too.
    let state = session.state("total").expect("a state").to_bytes();
    assert!(wrong(&state.expect_err("the index").into()));
    let read = outputs[0].as_tensor().expect("a tensor").to_bytes();
    assert!(wrong(&read.expect_err("the index").into()));
    let next = session.run("forward", &at(0.0)).expect_err("the index");
    assert!(wrong(&next), "{next}");
    let after = session.run("forward", &at(0.0));
    assert!(matches!(after, Err(Error::StateLost)));
    session.reset();
    assert_eq!(call(&mut session, &at(1.0)).expect("a call"), [20.0]);

    // A session that waits looks first, and has its state as it was.
    let mut session = open(&file, false);
    assert_eq!(call(&mut session, &at(0.0)).expect("a call"), [2.0]);
    assert!(wrong(&call(&mut session, &at(2.0)).expect_err("the index")));
    assert_eq!(call(&mut session, &at(0.0)).expect("a call"), [4.0]);

    // Nobody reads results: the session finds it out by itself.
    let mut session = open(&file, true);
    let told = (0..200).find_map(|_| session.run("forward", &at(2.0)).err());
    assert!(told.is_some_and(|error| wrong(&error)));
    session.reset();
    session.run("forward", &at(2.0)).expect("a call");
    assert!(wrong(&session.synchronize().expect_err("the index")));
}
