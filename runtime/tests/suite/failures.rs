//! A call that fails leaves a session as it was, wherever it fails.

use crate::programs::{GraphBuilder, fixed, method, operator, write};
use fuseline_program::container::{Call, Delegate};
use fuseline_program::instr::{Add, IdCopy, ItemInt, Multiply, UpdateAndAttend};
use fuseline_program::{Instruction, ScalarType, Tid, Vid};
use fuseline_runtime::{
    Device, Error, KernelError, Kernels, Options, Program, Session, Tensor, Value,
};

const F32: ScalarType = ScalarType::F32;

/// Two states, each written twice, and a cache: input 0 (a step of one position), positions 1, switch 2, output 3, states 4 and 5.
/// An instruction that fails when the switch has two elements stands at `at`.
fn graph(at: usize) -> GraphBuilder {
    let row = || fixed(F32, &[1, 1, 1, 2]);
    let add = |a, b, out| Instruction::from(Add { a, b, out });
    let mut main = vec![
        add(Tid(4), Tid(0), Tid(4)),
        UpdateAndAttend {
            q: Tid(0),
            k: Tid(0),
            v: Tid(4),
            position: Tid(1),
            out: Tid(3),
            layer_id: Some(0),
            scale: Some(1.0),
            out_dtype: None,
        }
        .into(),
        Multiply {
            a: Tid(4),
            b: Tid(4),
            out: Tid(5),
        }
        .into(),
        add(Tid(5), Tid(3), Tid(5)),
        add(Tid(4), Tid(5), Tid(4)),
        IdCopy {
            x: Tid(5),
            out: Tid(3),
        }
        .into(),
    ];
    let fail = ItemInt {
        x: Tid(2),
        out: Vid(0),
    };
    main.insert(at, fail.into());
    GraphBuilder {
        inputs: vec![
            ("x", row()),
            ("position", fixed(ScalarType::I64, &[1])),
            ("switch", crate::programs::up_to(ScalarType::I64, 2)),
        ],
        outputs: vec![row()],
        state: vec![("a", row()), ("b", row())],
        values: 1,
        main,
        ..GraphBuilder::default()
    }
}

fn inputs(step: i64, fails: bool) -> Vec<Value> {
    let switch = vec![0_i64; 1 + usize::from(fails)];
    let x = [step as f32 + 1.0, 0.5];
    vec![
        Tensor::from_slice(&[1, 1, 1, 2], &x).unwrap().into(),
        Tensor::from_slice(&[1], &[step]).unwrap().into(),
        Tensor::from_slice(&[switch.len()], &switch).unwrap().into(),
    ]
}

fn numbers(outputs: &[Value]) -> Vec<f32> {
    outputs[0].as_tensor().unwrap().to_vec().unwrap()
}

fn states(session: &Session) -> Vec<Vec<f32>> {
    let state = |name| session.state(name).unwrap().to_vec().unwrap();
    vec![state("a"), state("b")]
}

/// Runs three good steps, with a call that must fail before each, and compares with a session that has only the good ones.
fn compare(program: &Program, fail: impl Fn(&mut Session, i64) -> Error) {
    let (mut good, mut tried) = (program.session().unwrap(), program.session().unwrap());
    for step in 0..3 {
        let before = states(&tried);
        fail(&mut tried, step);
        assert_eq!(states(&tried), before);
        let wanted = good.run("forward", &inputs(step, false)).unwrap();
        let got = tried.run("forward", &inputs(step, false)).unwrap();
        assert_eq!(numbers(&got), numbers(&wanted));
        assert_eq!(states(&tried), states(&good));
    }
}

fn options() -> Options {
    Options {
        device: Some(Device::Cpu),
        ..Options::default()
    }
}

#[test]
fn at_every_instruction() {
    let length = graph(0).main.len();
    for at in 0..length {
        let program = Program::open_with(&graph(at).file().path, &options()).unwrap();
        compare(&program, |session, step| {
            let error = session.run("forward", &inputs(step, true)).unwrap_err();
            let place = matches!(error, Error::Instruction { position, .. } if position == at);
            assert!(place, "{error}");
            error
        });
    }
}

#[test]
fn in_the_inputs_and_in_the_positions_of_a_cache() {
    let program = Program::open_with(&graph(0).file().path, &options()).unwrap();
    compare(&program, |session, step| {
        let mut wrong = inputs(step, false);
        wrong[0] = Value::Int(1);
        session.run("forward", &wrong).unwrap_err()
    });
    compare(&program, |session, step| {
        session
            .run("forward", &inputs(step + 1, false))
            .unwrap_err()
    });
    compare(&program, |session, _| {
        session.run("backward", &[]).unwrap_err()
    });
}

#[test]
fn in_an_operator_of_the_host_behind_the_delegate() {
    let graph = graph(0);
    let mut method = method(&graph);
    // What the operator returns stands twice: where it goes, and as what is returned.
    method.operators = vec![operator("test::check", "out")];
    method.values.push(method.values[3].clone());
    method.chains[0].push(Call::Kernel {
        operator: 0,
        args: vec![3, 4, 4],
    });
    method.outputs = vec![4];
    assert!(matches!(method.delegates[..], [Delegate { .. }]));
    let file = write(method, &[]);
    let mut kernels = Kernels::none();
    let count = std::sync::atomic::AtomicUsize::new(0);
    // Each second call fails, first those of the session that is tried.
    kernels.register("test::check.out", 1, 1, move |arguments| {
        let call = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if call.is_multiple_of(3) {
            return Err(KernelError::Other("not this time".to_owned()));
        }
        Ok(arguments.to_vec())
    });
    let options = Options {
        kernels: Some(kernels),
        ..options()
    };
    let program = Program::open_with(&file.path, &options).unwrap();
    compare(&program, |session, step| {
        let error = session.run("forward", &inputs(step, false)).unwrap_err();
        assert!(matches!(error, Error::Kernel { .. }), "{error}");
        error
    });
}

#[test]
fn when_results_and_caches_need_more_memory_than_they_may() {
    let file = graph(0).file();
    let enough = Options {
        max_memory: Some(1 << 20),
        ..options()
    };
    let program = Program::open_with(&file.path, &enough).unwrap();
    let mut session = program.session().unwrap();
    assert!(session.run("forward", &inputs(0, false)).is_ok());
    let state = Options {
        // The two states, and no more.
        max_memory: Some(16),
        ..options()
    };
    let program = Program::open_with(&file.path, &state).unwrap();
    let mut session = program.session().unwrap();
    let before = states(&session);
    let error = session.run("forward", &inputs(0, false)).unwrap_err();
    assert!(matches!(error, Error::Memory { limit: 16, .. }), "{error}");
    assert_eq!(states(&session), before);
    let nothing = Options {
        max_memory: Some(15),
        ..options()
    };
    let refused = Program::open_with(&file.path, &nothing).err();
    assert!(matches!(
        refused,
        Some(Error::Memory {
            needed: 16,
            limit: 15
        })
    ));
}
