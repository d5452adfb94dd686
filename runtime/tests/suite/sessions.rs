//! Sessions: state, sharing, threads, errors.

use std::thread;

use crate::programs::{
    File, GraphBuilder, bytes, fixed, operator, up_to, value, write, write_program,
};
use fuseline_program::container::{Call, Delegate, Method, Storage, TensorValue};
use fuseline_program::instr::{
    Add, AddInt, Addmm, Concatenate, IdCopy, IndexCopy, IntOrVid, IntOrVidOrTid, ItemInt, Multiply,
    Remainder, Reshape, Slice, Take,
};
use fuseline_program::{Tid, Vid};
use fuseline_runtime::{
    Device, Dim, Error, Fault, InputProblem, Kernels, Options, Program, ScalarType, Session,
    Tensor, TensorError, Value,
};

const F32: ScalarType = ScalarType::F32;

fn cpu(file: &File) -> Program {
    let options = Options {
        device: Some(Device::Cpu),
        ..Options::default()
    };
    Program::open_with(&file.path, &options).expect("the program opens")
}

fn floats(shape: &[usize], elements: &[f32]) -> Value {
    Tensor::from_slice(shape, elements)
        .expect("a tensor")
        .into()
}

fn run(session: &mut Session, inputs: &[Value]) -> Result<Vec<f32>, Error> {
    let outputs = session.run("forward", inputs)?;
    Ok(outputs[0].as_tensor().expect("a tensor").to_vec()?)
}

/// `total += x; out = total`, where the total begins with a constant: constant 0, input 1, output 2, state 3.
fn counter() -> File {
    let graph = GraphBuilder {
        constants: vec![("start", fixed(F32, &[2]), bytes(&[10.0, 20.0]))],
        inputs: vec![("x", fixed(F32, &[2]))],
        outputs: vec![fixed(F32, &[2])],
        state: vec![("total", fixed(F32, &[2]))],
        main: vec![
            Add {
                a: Tid(3),
                b: Tid(1),
                out: Tid(3),
            }
            .into(),
            IdCopy {
                x: Tid(3),
                out: Tid(2),
            }
            .into(),
        ],
        init: vec![
            IdCopy {
                x: Tid(0),
                out: Tid(3),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    graph.file()
}

/// `cache[positions] = rows; out = cache`: inputs 0 and 1, output 2, state 3.
fn cache() -> File {
    let graph = GraphBuilder {
        inputs: vec![
            ("rows", up_to(F32, 4)),
            ("positions", up_to(ScalarType::I64, 4)),
        ],
        outputs: vec![fixed(F32, &[4])],
        state: vec![("cache", fixed(F32, &[4]))],
        main: vec![
            IndexCopy {
                dst: Tid(3),
                update: Tid(0),
                indices: Tid(1),
                out: Tid(3),
                axis: 0,
            }
            .into(),
            IdCopy {
                x: Tid(3),
                out: Tid(2),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    graph.file()
}

#[test]
fn state_starts_as_the_init_chain_left_it_and_is_kept() {
    let program = cpu(&counter());
    let mut session = program.session().expect("a session");
    assert_eq!(
        session.state("total").unwrap().to_vec::<f32>().unwrap(),
        [10.0, 20.0]
    );
    let one = [floats(&[2], &[1.0, 2.0])];
    assert_eq!(run(&mut session, &one).unwrap(), [11.0, 22.0]);
    assert_eq!(run(&mut session, &one).unwrap(), [12.0, 24.0]);
    session.reset();
    assert_eq!(run(&mut session, &one).unwrap(), [11.0, 22.0]);
}

#[test]
fn sessions_of_one_program_do_not_see_each_other() {
    let program = cpu(&counter());
    let (mut a, mut b) = (program.session().unwrap(), program.session().unwrap());
    let one = [floats(&[2], &[1.0, 1.0])];
    run(&mut a, &one).unwrap();
    run(&mut a, &one).unwrap();
    assert_eq!(run(&mut b, &one).unwrap(), [11.0, 21.0]);
    assert_eq!(run(&mut a, &one).unwrap(), [13.0, 23.0]);
}

#[test]
fn state_can_be_read_and_replaced() {
    let program = cpu(&counter());
    let info: Vec<_> = program.state().collect();
    assert_eq!(
        (
            info[0].name.as_str(),
            info[0].dtype,
            info[0].shape.as_slice()
        ),
        ("total", F32, &[2][..])
    );
    let mut session = program.session().unwrap();
    session
        .set_state("total", &Tensor::from_slice(&[2], &[5.0_f32, 6.0]).unwrap())
        .unwrap();
    assert_eq!(
        run(&mut session, &[floats(&[2], &[1.0, 1.0])]).unwrap(),
        [6.0, 7.0]
    );
    let wrong = Tensor::from_slice(&[3], &[0.0_f32; 3]).unwrap();
    assert!(matches!(
        session.set_state("total", &wrong),
        Err(Error::State {
            problem: InputProblem::Dimension { .. },
            ..
        })
    ));
    assert!(matches!(
        session.state("nothing"),
        Err(Error::NoState { .. })
    ));
}

#[test]
fn a_failing_call_leaves_the_state_alone() {
    let program = cpu(&cache());
    let mut session = program.session().unwrap();
    let positions = |at: &[i64]| Value::from(Tensor::from_slice(&[at.len()], at).unwrap());
    run(
        &mut session,
        &[floats(&[2], &[1.0, 2.0]), positions(&[0, 1])],
    )
    .unwrap();
    let beyond = run(
        &mut session,
        &[floats(&[2], &[8.0, 9.0]), positions(&[3, 4])],
    );
    match beyond {
        Err(Error::Instruction {
            chain: 0,
            position: 0,
            fault:
                Fault::Index {
                    index: 4,
                    length: 4,
                    ..
                },
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
    let scattered = run(
        &mut session,
        &[floats(&[3], &[7.0, 8.0, 9.0]), positions(&[3, 2, -4])],
    );
    assert_eq!(scattered.unwrap(), [9.0, 2.0, 8.0, 7.0]);
}

/// Whether a program takes one element where its graph says `2..4`, with names as ExecuTorch gives them or as our compiler does.
fn takes_one(names_results: bool) -> bool {
    let meta = fuseline_program::TensorMeta {
        dtype: F32,
        shape: vec![Dim::Dynamic {
            min: 2,
            max: Some(4),
        }],
    };
    let graph = GraphBuilder {
        inputs: vec![("0a1b/x", meta.clone())],
        outputs: vec![meta],
        main: vec![
            Add {
                a: Tid(0),
                b: Tid(0),
                out: Tid(1),
            }
            .into(),
        ],
        names_results,
        ..GraphBuilder::default()
    };
    let program = cpu(&graph.file());
    let mut session = program.session().unwrap();
    match session.run("forward", &[floats(&[1], &[1.0])]) {
        Ok(_) => true,
        Err(Error::Input { name, .. }) if name == "x" => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_least_length_of_2_is_the_callers_own_unless_executorch_wrote_the_file() {
    assert!(takes_one(true));
    assert!(!takes_one(false));
}

#[test]
fn inputs_are_checked_by_name_type_rank_and_range() {
    let program = cpu(&cache());
    let names: Vec<_> = program
        .inputs("forward")
        .unwrap()
        .iter()
        .map(|input| &*input.name)
        .collect();
    assert_eq!(names, ["rows", "positions"]);
    let mut session = program.session().unwrap();
    let positions = Value::from(Tensor::from_slice(&[1], &[0_i64]).unwrap());
    let mut problem = |rows: Value| match session.run("forward", &[rows, positions.clone()]) {
        Err(Error::Input {
            position: 0,
            name,
            problem,
            ..
        }) if name == "rows" => problem,
        other => panic!("{other:?}"),
    };
    let range = Dim::Dynamic {
        min: 1,
        max: Some(4),
    };
    assert_eq!(
        problem(floats(&[5], &[0.0; 5])),
        InputProblem::Dimension {
            dimension: 0,
            given: 5,
            wanted: range
        }
    );
    assert_eq!(
        problem(floats(&[0], &[])),
        InputProblem::Dimension {
            dimension: 0,
            given: 0,
            wanted: range
        }
    );
    assert_eq!(
        problem(floats(&[1, 1], &[0.0])),
        InputProblem::Rank {
            given: vec![1, 1],
            wanted: 1
        }
    );
    let ints = Tensor::from_slice(&[1], &[0_i64]).unwrap();
    assert_eq!(
        problem(ints.into()),
        InputProblem::DType {
            given: ScalarType::I64,
            wanted: F32
        }
    );
    assert_eq!(
        problem(Value::Int(1)),
        InputProblem::Kind {
            given: "an integer",
            wanted: "a tensor"
        }
    );
    assert!(matches!(
        session.run("forward", &[]),
        Err(Error::InputCount {
            wanted: 2,
            given: 0,
            ..
        })
    ));
    assert!(matches!(
        session.run("backward", &[]),
        Err(Error::NoMethod { .. })
    ));
}

#[test]
fn outputs_feed_the_next_call_without_being_read() {
    let program = cpu(&counter());
    let mut session = program.session().unwrap();
    let mut value = floats(&[2], &[1.0, 0.0]);
    // total: 10 → 11 → 22 → 44 …, because each output is the next input.
    for _ in 0..20 {
        value = session.run("forward", &[value]).unwrap().remove(0);
    }
    let tensor = value.as_tensor().unwrap().to_vec::<f32>().unwrap();
    assert_eq!(tensor[0], 11.0 * f32::powi(2.0, 19));
}

#[test]
fn threads_share_a_program_and_sessions_move_between_them() {
    let program = cpu(&counter());
    let totals: Vec<Vec<f32>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let program = program.clone();
                scope.spawn(move || {
                    let mut session = program.session().unwrap();
                    let mut last = Vec::new();
                    for _ in 0..50 {
                        last = run(&mut session, &[floats(&[2], &[worker as f32, 1.0])]).unwrap();
                    }
                    last
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    for (worker, total) in totals.iter().enumerate() {
        assert_eq!(*total, [10.0 + 50.0 * worker as f32, 70.0]);
    }

    // Made here, used there; its results are read on a third thread and fed again from a fourth.
    let mut session = program.session().unwrap();
    let one = floats(&[2], &[1.0, 1.0]);
    let (mut session, unread) = thread::spawn(move || {
        let unread = session.run("forward", &[one]).unwrap().remove(0);
        (session, unread)
    })
    .join()
    .unwrap();
    let again = unread.clone();
    let read = thread::spawn(move || again.as_tensor().unwrap().to_vec::<f32>().unwrap())
        .join()
        .unwrap();
    assert_eq!(read, [11.0, 21.0]);
    let total = thread::spawn(move || run(&mut session, &[unread]).unwrap())
        .join()
        .unwrap();
    assert_eq!(total, [22.0, 42.0]);
}

#[test]
fn what_mlx_refuses_is_an_error_with_its_place() {
    let graph = GraphBuilder {
        inputs: vec![("a", up_to(F32, 4)), ("b", up_to(F32, 4))],
        outputs: vec![up_to(F32, 4)],
        main: vec![
            Multiply {
                a: Tid(0),
                b: Tid(1),
                out: Tid(2),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let file = graph.file();
    let mut session = cpu(&file).session().unwrap();
    let refused = run(
        &mut session,
        &[floats(&[2], &[1.0; 2]), floats(&[3], &[1.0; 3])],
    );
    match refused {
        Err(Error::Instruction {
            position: 0,
            text,
            fault: Fault::Mlx(_),
            ..
        }) => {
            assert_eq!(text, "%o0 = Multiply(a=%i0, b=%i1)");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        run(
            &mut session,
            &[floats(&[1], &[2.0]), floats(&[2], &[3.0, 4.0])]
        )
        .unwrap(),
        [6.0, 8.0]
    );
}

#[test]
fn indices_and_divisors_that_would_end_the_process_are_errors() {
    let i64s = |max| up_to(ScalarType::I64, max);
    let take = GraphBuilder {
        constants: vec![("table", fixed(F32, &[3]), bytes(&[1.0, 2.0, 3.0]))],
        inputs: vec![("at", i64s(4))],
        outputs: vec![up_to(F32, 4)],
        main: vec![
            Take {
                x: Tid(0),
                index: IntOrVidOrTid::Tid(Tid(1)),
                out: Tid(2),
                axis: 0,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let mut session = cpu(&take.file()).session().unwrap();
    let at = |index: i64| [Value::from(Tensor::from_slice(&[1], &[index]).unwrap())];
    assert_eq!(run(&mut session, &at(-1)).unwrap(), [3.0]);
    assert!(matches!(
        run(&mut session, &at(1 << 40)),
        Err(Error::Instruction {
            fault: Fault::Index { .. },
            ..
        })
    ));

    // An index that is computed is looked at as well: on the CPU a wild one would end the process.
    let computed = GraphBuilder {
        constants: vec![("table", fixed(F32, &[3]), bytes(&[1.0, 2.0, 3.0]))],
        inputs: vec![("at", i64s(4))],
        outputs: vec![up_to(F32, 4)],
        main: vec![
            Add {
                a: Tid(1),
                b: Tid(1),
                out: Tid(2),
            }
            .into(),
            Take {
                x: Tid(0),
                index: IntOrVidOrTid::Tid(Tid(2)),
                out: Tid(2),
                axis: 0,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let mut session = cpu(&computed.file()).session().unwrap();
    assert!(matches!(
        run(&mut session, &at(1 << 40)),
        Err(Error::Instruction {
            fault: Fault::Index { .. },
            ..
        })
    ));
    assert_eq!(run(&mut session, &at(1)).unwrap(), [3.0]);

    let remainder = GraphBuilder {
        inputs: vec![("a", i64s(4)), ("b", i64s(4))],
        outputs: vec![i64s(4)],
        main: vec![
            Remainder {
                a: Tid(0),
                b: Tid(1),
                out: Tid(2),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let mut session = cpu(&remainder.file()).session().unwrap();
    let zero = Tensor::from_slice(&[1], &[0_i64]).unwrap();
    assert!(matches!(
        session.run("forward", &[zero.clone().into(), zero.into()]),
        Err(Error::Instruction {
            fault: Fault::Division,
            ..
        })
    ));
}

#[test]
fn a_failure_while_computing_is_an_error_and_the_session_can_go_on() {
    // A length that is only known on the device decides a shape, and the product is refused while it is computed or before.
    let graph = GraphBuilder {
        inputs: vec![("n", fixed(ScalarType::I64, &[])), ("x", fixed(F32, &[4]))],
        outputs: vec![up_to(F32, 4)],
        values: 2,
        main: vec![
            ItemInt {
                x: Tid(0),
                out: Vid(0),
            }
            .into(),
            AddInt {
                a: IntOrVid::Vid(Vid(0)),
                b: IntOrVid::Int(1),
                out: Vid(1),
            }
            .into(),
            Slice {
                x: Tid(1),
                out: Tid(2),
                axis: IntOrVid::Int(0),
                start: IntOrVid::Int(0),
                stop: IntOrVid::Vid(Vid(1)),
                step: 1,
            }
            .into(),
            Reshape {
                x: Tid(2),
                out: Tid(2),
                shape: vec![IntOrVid::Vid(Vid(1))],
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let file = graph.file();
    let mut session = cpu(&file).session().unwrap();
    let n = |n: i64| Value::from(Tensor::from_scalar(n).unwrap());
    let x = || floats(&[4], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(run(&mut session, &[n(1), x()]).unwrap(), [1.0, 2.0]);
    assert!(matches!(
        run(&mut session, &[n(7), x()]),
        Err(Error::Instruction { position: 3, .. })
    ));
    assert!(matches!(
        run(&mut session, &[n(i64::MAX), x()]),
        Err(Error::Instruction {
            fault: Fault::Overflow,
            ..
        })
    ));
    assert!(matches!(
        run(&mut session, &[n(-9), x()]),
        Err(Error::Instruction { .. })
    ));
    assert_eq!(
        run(&mut session, &[n(3), x()]).unwrap(),
        [1.0, 2.0, 3.0, 4.0]
    );
}

/// `nonzero(x + x)` on the host, then `concat(positions, positions)` on the device.
fn two_segments() -> File {
    let (input, sum) = (fixed(F32, &[2, 2]), fixed(F32, &[2, 2]));
    let positions = fuseline_program::TensorMeta {
        dtype: ScalarType::I64,
        shape: vec![
            Dim::Dynamic {
                min: 0,
                max: Some(4),
            },
            Dim::Static(2),
        ],
    };
    let twice = fuseline_program::TensorMeta {
        dtype: ScalarType::I64,
        shape: vec![
            Dim::Dynamic {
                min: 0,
                max: Some(8),
            },
            Dim::Static(2),
        ],
    };
    let before = GraphBuilder {
        inputs: vec![("x", input.clone())],
        outputs: vec![sum.clone()],
        main: vec![
            Add {
                a: Tid(0),
                b: Tid(0),
                out: Tid(1),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let after = GraphBuilder {
        inputs: vec![("positions", positions.clone())],
        outputs: vec![twice.clone()],
        main: vec![
            Concatenate {
                tensors: vec![Tid(0), Tid(0)],
                out: Tid(1),
                axis: 0,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let method = Method {
        name: "forward".to_owned(),
        values: [&input, &sum, &positions, &twice]
            .into_iter()
            .map(value)
            .collect(),
        inputs: vec![0],
        outputs: vec![3],
        operators: vec![operator("aten::nonzero", "out")],
        delegates: vec![Delegate::mlx(before.build()), Delegate::mlx(after.build())],
        chains: vec![vec![
            Call::Delegate {
                delegate: 0,
                args: vec![0, 1],
            },
            Call::Kernel {
                operator: 0,
                args: vec![1, 2, 2],
            },
            Call::Delegate {
                delegate: 1,
                args: vec![2, 3],
            },
        ]],
        ..Method::default()
    };
    write(method, &[])
}

#[test]
fn operators_of_the_host_run_between_segments() {
    let file = two_segments();
    let mut session = cpu(&file).session().unwrap();
    let outputs = session
        .run("forward", &[floats(&[2, 2], &[0.0, 3.0, -0.0, 5.0])])
        .unwrap();
    let rows = outputs[0].as_tensor().unwrap();
    assert_eq!(rows.shape(), [4, 2]);
    assert_eq!(rows.to_vec::<i64>().unwrap(), [0, 1, 1, 1, 0, 1, 1, 1]);
    let none = session
        .run("forward", &[floats(&[2, 2], &[0.0; 4])])
        .unwrap();
    assert_eq!(none[0].as_tensor().unwrap().shape(), [0, 2]);
}

#[test]
fn operators_that_are_not_registered_are_named_when_the_file_is_opened() {
    let file = two_segments();
    let options = Options {
        device: Some(Device::Cpu),
        kernels: Some(Kernels::none()),
        ..Options::default()
    };
    match Program::open_with(&file.path, &options) {
        Err(Error::Unsupported { needs, .. }) => {
            assert_eq!(
                needs,
                ["the operator `aten::nonzero.out`, which is not registered"]
            );
        }
        other => panic!("{:?}", other.err()),
    }
    let mut kernels = Kernels::none();
    kernels.register("aten::nonzero.out", 1, 1, |_| {
        Ok(vec![Tensor::from_slice(&[1, 2], &[7_i64, 8])?.into()])
    });
    let options = Options {
        device: Some(Device::Cpu),
        kernels: Some(kernels),
        ..Options::default()
    };
    let program = Program::open_with(&file.path, &options).unwrap();
    let outputs = program
        .session()
        .unwrap()
        .run("forward", &[floats(&[2, 2], &[0.0; 4])])
        .unwrap();
    assert_eq!(
        outputs[0].as_tensor().unwrap().to_vec::<i64>().unwrap(),
        [7, 8, 7, 8]
    );
}

#[test]
fn files_that_are_no_programs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.pte");
    assert!(matches!(Program::open(&missing), Err(Error::Read { .. })));
    assert!(matches!(
        Program::open(folder.path()),
        Err(Error::Read { .. })
    ));
    let good = std::fs::read(&counter().path).unwrap();
    let broken = folder.path().join("broken.pte");
    for length in [0, 1, 7, 40, good.len() / 2, good.len() - 1] {
        std::fs::write(&broken, &good[..length]).unwrap();
        assert!(
            matches!(Program::open(&broken), Err(Error::Format { .. })),
            "{length} bytes"
        );
    }
}

#[test]
fn tensors_say_when_bytes_and_shape_differ() {
    assert!(matches!(
        Tensor::from_bytes(F32, &[2, 2], &[0; 12]),
        Err(TensorError::Size {
            bytes: 12,
            wanted: 16,
            ..
        })
    ));
    assert!(matches!(
        Tensor::from_bytes(F32, &[usize::MAX, 2], &[]),
        Err(TensorError::TooLarge { .. })
    ));
    let tensor = Tensor::from_slice(&[2], &[true, false]).unwrap();
    assert_eq!(tensor.to_vec::<bool>().unwrap(), [true, false]);
    assert!(matches!(
        tensor.to_vec::<u8>(),
        Err(TensorError::DType { .. })
    ));
    assert_eq!(
        Tensor::from_slice::<f32>(&[0, 3], &[])
            .unwrap()
            .to_vec::<f32>()
            .unwrap(),
        [0.0; 0]
    );
}

#[test]
fn views_are_read_in_row_major_order() {
    let graph = GraphBuilder {
        inputs: vec![("x", fixed(F32, &[2, 3]))],
        outputs: vec![fixed(F32, &[3, 2]), fixed(F32, &[2, 2])],
        main: vec![
            fuseline_program::instr::Transpose {
                x: Tid(0),
                out: Tid(1),
                perm: vec![1, 0],
            }
            .into(),
            Slice {
                x: Tid(0),
                out: Tid(2),
                axis: IntOrVid::Int(1),
                start: IntOrVid::Int(0),
                stop: IntOrVid::Int(3),
                step: 2,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let file = graph.file();
    let mut session = cpu(&file).session().unwrap();
    let outputs = session
        .run(
            "forward",
            &[floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
        )
        .unwrap();
    let read = |at: usize| outputs[at].as_tensor().unwrap().to_vec::<f32>().unwrap();
    assert_eq!(read(0), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(read(1), [1.0, 3.0, 4.0, 6.0]);
}

#[test]
fn products_of_integers_are_exact() {
    let ints = || fixed(ScalarType::I64, &[2, 2]);
    let graph = GraphBuilder {
        inputs: vec![("a", ints()), ("b", ints())],
        outputs: vec![ints()],
        main: vec![
            Addmm {
                mat1: Tid(0),
                mat2: Tid(1),
                out: Tid(2),
                bias: None,
                alpha: 1.0,
                beta: 1.0,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let file = graph.file();
    let mut session = cpu(&file).session().unwrap();
    let large = 1_i64 << 53;
    let matrix = |elements: [i64; 4]| Value::from(Tensor::from_slice(&[2, 2], &elements).unwrap());
    let (a, b) = (matrix([1, 2, large, -1]), matrix([3, 1, -1, 1]));
    let outputs = session.run("forward", &[a, b]).unwrap();
    let product = outputs[0].as_tensor().unwrap().to_vec::<i64>().unwrap();
    assert_eq!(product, [1, 3, 3 * large + 1, large - 1]);
}

#[test]
fn a_program_of_many_inputs_and_outputs_is_opened_in_no_time() {
    let count = 4000_u32;
    let scalar = || fixed(ScalarType::F32, &[]);
    let copy = |at| {
        IdCopy {
            x: Tid(at),
            out: Tid(count + at),
        }
        .into()
    };
    let file = GraphBuilder {
        inputs: (0..count).map(|_| ("x", scalar())).collect(),
        outputs: (0..count).map(|_| scalar()).collect(),
        main: (0..count).map(copy).collect(),
        ..GraphBuilder::default()
    }
    .file();
    let begin = std::time::Instant::now();
    let program = Program::open(&file.path).expect("a program");
    assert_eq!(
        program.inputs("forward").expect("inputs").len(),
        count as usize
    );
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn what_a_method_keeps_counts_against_the_most_memory() {
    // A gibibyte among the method's values that nothing fills before an operator reads it: it begins with zeros.
    let large = TensorValue {
        dtype: F32,
        sizes: vec![1 << 28],
        dynamic: false,
        storage: Storage::Planned {
            arena: 1,
            offset: 0,
            initial: None,
        },
    };
    let result = value(&fixed(F32, &[1 << 28]));
    let method = Method {
        name: "forward".to_owned(),
        values: vec![fuseline_program::Value::Tensor(large), result],
        outputs: vec![1],
        chains: vec![vec![Call::Kernel {
            operator: 0,
            args: vec![0, 1, 1],
        }]],
        operators: vec![operator("aten::exp", "out")],
        arenas: vec![0, 1 << 30],
        ..Method::default()
    };
    let contents = fuseline_program::Program {
        methods: vec![method],
        ..fuseline_program::Program::default()
    };
    let file = write_program(&contents);
    let mut kernels = Kernels::none();
    kernels.register("aten::exp", 1, 1, |inputs| Ok(inputs.to_vec()));
    let options = Options {
        device: Some(Device::Cpu),
        kernels: Some(kernels),
        max_memory: Some(1 << 20),
        ..Options::default()
    };
    let refused = Program::open_with(&file.path, &options).map(drop);
    assert!(matches!(refused, Err(Error::Memory { .. })), "{refused:?}");
}
