//! `UpdateAndAttend`: caches that sessions keep, layer by layer. Keys are zeros throughout, so that a query's result is the mean of the values that it sees.

use crate::programs::{File, GraphBuilder, method, write_program};
use fuseline_program::instr::{Add, ItemInt, UpdateAndAttend};
use fuseline_program::{
    Data, Dim, Method, Program as Container, ScalarType, Storage, TensorMeta, TensorValue, Tid, Vid,
};
use fuseline_runtime::{
    CacheOptions, Device, Error, Fault, Options, Program, Session, Tensor, Value,
};

const F32: ScalarType = ScalarType::F32;
const WIDTH: usize = 2;

/// `[1, 1, up to 8, WIDTH]`.
fn rows() -> TensorMeta {
    let length = Dim::Dynamic {
        min: 1,
        max: Some(8),
    };
    TensorMeta {
        dtype: F32,
        shape: vec![
            Dim::Static(1),
            Dim::Static(1),
            length,
            Dim::Static(WIDTH as u32),
        ],
    }
}

fn positions() -> TensorMeta {
    TensorMeta {
        dtype: ScalarType::I32,
        shape: vec![
            Dim::Dynamic {
                min: 1,
                max: Some(8),
            },
            Dim::Static(1),
        ],
    }
}

fn attend(layer: i32, out: u32) -> UpdateAndAttend {
    UpdateAndAttend {
        q: Tid(0),
        k: Tid(0),
        v: Tid(1),
        position: Tid(2),
        out: Tid(out),
        layer_id: Some(layer),
        scale: Some(1.0),
        out_dtype: None,
    }
}

/// Attends in layer 0; then, where `number` is not one element, fails.
fn graph() -> GraphBuilder {
    GraphBuilder {
        inputs: vec![
            ("zeros", rows()),
            ("values", rows()),
            ("positions", positions()),
            (
                "number",
                TensorMeta {
                    dtype: ScalarType::I64,
                    shape: vec![Dim::Dynamic {
                        min: 1,
                        max: Some(2),
                    }],
                },
            ),
        ],
        outputs: vec![rows()],
        values: 1,
        main: vec![
            attend(0, 4).into(),
            ItemInt {
                x: Tid(3),
                out: Vid(0),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    }
}

fn open(file: &File, cache: CacheOptions) -> Program {
    let options = Options {
        device: Some(Device::Cpu),
        cache,
        ..Options::default()
    };
    Program::open_with(&file.path, &options).expect("the program opens")
}

fn session(layout: CacheOptions) -> Session {
    open(&graph().file(), layout).session().unwrap()
}

fn inputs(start: i32, values: &[f32], numbers: &[i64]) -> Vec<Value> {
    let count = values.len();
    let twice: Vec<f32> = values.iter().flat_map(|value| [*value; WIDTH]).collect();
    let shape = [1, 1, count, WIDTH];
    let positions: Vec<i32> = (0..count as i32).map(|at| start + at).collect();
    vec![
        Tensor::from_slice(&shape, &vec![0.0_f32; count * WIDTH])
            .unwrap()
            .into(),
        Tensor::from_slice(&shape, &twice).unwrap().into(),
        Tensor::from_slice(&[count, 1], &positions).unwrap().into(),
        Tensor::from_slice(&[numbers.len()], numbers)
            .unwrap()
            .into(),
    ]
}

/// The results of a step, one for each of its queries.
fn step(session: &mut Session, start: i32, values: &[f32]) -> Result<Vec<f32>, Error> {
    let outputs = session.run("forward", &inputs(start, values, &[0]))?;
    let all = outputs[0].as_tensor().unwrap().to_vec::<f32>()?;
    Ok(all.chunks(WIDTH).map(|row| row[0]).collect())
}

fn fault(result: Result<Vec<f32>, Error>) -> Fault {
    match result {
        Err(Error::Instruction { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn queries_see_all_positions_up_to_their_own() {
    let mut session = session(CacheOptions::default());
    assert_eq!(
        step(&mut session, 0, &[2.0, 4.0, 6.0]).unwrap(),
        [2.0, 3.0, 4.0]
    );
    assert_eq!(step(&mut session, 3, &[8.0]).unwrap(), [5.0]);
    assert_eq!(step(&mut session, 4, &[0.0, 4.0]).unwrap(), [4.0, 4.0]);
    // More than the first array had room for.
    for position in 6..40 {
        let mean = step(&mut session, position, &[4.0]).unwrap()[0];
        assert!((mean - 4.0).abs() < 1e-5, "{mean}");
    }
}

#[test]
fn an_earlier_position_replaces_what_was_there() {
    let mut session = session(CacheOptions::default());
    step(&mut session, 0, &[2.0, 4.0, 6.0]).unwrap();
    assert_eq!(step(&mut session, 1, &[8.0]).unwrap(), [5.0]);
    assert_eq!(step(&mut session, 2, &[2.0]).unwrap(), [4.0]);
}

#[test]
fn a_window_hides_what_is_further_back() {
    let layout = CacheOptions {
        windows: Some(vec![2]),
        ..CacheOptions::default()
    };
    let mut session = session(layout);
    assert_eq!(
        step(&mut session, 0, &[2.0, 4.0, 6.0]).unwrap(),
        [2.0, 3.0, 5.0]
    );
    for position in 3..50 {
        let before = if position == 3 {
            6.0
        } else {
            (position - 1) as f32
        };
        let value = position as f32;
        let mean = f32::midpoint(before, value);
        assert_eq!(step(&mut session, position, &[value]).unwrap(), [mean]);
    }
    assert_eq!(step(&mut session, 50, &[1.0, 3.0]).unwrap(), [25.0, 2.0]);
    // What a window has passed is forgotten, so that the cache does not grow with the text.
    assert!(matches!(
        fault(step(&mut session, 1, &[1.0])),
        Fault::Position { position: 1, .. }
    ));
}

#[test]
fn a_capacity_is_a_limit() {
    let layout = CacheOptions {
        capacity: Some(3),
        ..CacheOptions::default()
    };
    let mut session = session(layout);
    step(&mut session, 0, &[1.0, 3.0]).unwrap();
    let full = Fault::CacheFull {
        end: 4,
        capacity: 3,
    };
    assert_eq!(fault(step(&mut session, 2, &[1.0, 1.0])), full);
    assert_eq!(step(&mut session, 2, &[5.0]).unwrap(), [3.0]);
}

#[test]
fn positions_must_follow_what_is_there() {
    let mut session = session(CacheOptions::default());
    let gap = Fault::Position {
        position: 1,
        first: 0,
        end: 0,
    };
    assert_eq!(fault(step(&mut session, 1, &[1.0])), gap);
    let negative = Fault::Positions {
        count: 1,
        start: -1,
    };
    assert_eq!(fault(step(&mut session, -1, &[1.0])), negative);
    let mut apart = inputs(0, &[1.0, 1.0], &[0]);
    apart[2] = Tensor::from_slice(&[2, 1], &[0, 2]).unwrap().into();
    assert!(matches!(
        session.run("forward", &apart),
        Err(Error::Instruction {
            fault: Fault::Positions { count: 2, .. },
            ..
        })
    ));
}

#[test]
fn a_type_of_its_own_rounds_what_is_kept() {
    let layout = CacheOptions {
        dtype: Some(ScalarType::F16),
        ..CacheOptions::default()
    };
    let mut session = session(layout);
    // Half precision has no odd numbers beyond 2048.
    assert_eq!(step(&mut session, 0, &[2049.0]).unwrap(), [2048.0]);
}

#[test]
fn a_call_that_fails_leaves_the_cache_as_it_was() {
    let mut session = session(CacheOptions::default());
    step(&mut session, 0, &[2.0]).unwrap();
    // The second instruction fails, after the first has written to the cache.
    assert!(
        session
            .run("forward", &inputs(1, &[100.0], &[0, 0]))
            .is_err()
    );
    assert!(
        session
            .run("forward", &inputs(0, &[100.0], &[0, 0]))
            .is_err()
    );
    assert_eq!(step(&mut session, 1, &[4.0]).unwrap(), [3.0]);
    session.reset();
    assert_eq!(step(&mut session, 0, &[7.0]).unwrap(), [7.0]);
}

#[test]
fn sessions_have_caches_of_their_own() {
    let program = open(&graph().file(), CacheOptions::default());
    let (mut a, mut b) = (program.session().unwrap(), program.session().unwrap());
    step(&mut a, 0, &[2.0]).unwrap();
    assert_eq!(step(&mut b, 0, &[4.0]).unwrap(), [4.0]);
    assert_eq!(step(&mut a, 1, &[4.0]).unwrap(), [3.0]);
}

/// A method without calls that returns a constant.
fn constant(name: &str, value: fuseline_program::Value) -> Method<'static> {
    Method {
        name: name.to_owned(),
        values: vec![value],
        outputs: vec![0],
        chains: vec![Vec::new()],
        arenas: vec![0],
        ..Method::default()
    }
}

#[test]
fn constant_methods_of_a_file_say_how_to_keep_the_cache() {
    let windows = fuseline_program::Value::Tensor(TensorValue {
        dtype: ScalarType::I32,
        sizes: vec![1],
        dynamic: false,
        storage: Storage::Constant(0),
    });
    let container = Container {
        methods: vec![
            method(&graph()),
            constant("get_max_ctx_len", fuseline_program::Value::Int(4)),
            constant("get_windows", windows),
        ],
        constants: vec![Data::owned(2_i32.to_le_bytes().to_vec())],
        named_data: Vec::new(),
    };
    let program = open(&write_program(&container), CacheOptions::default());
    let mut session = program.session().unwrap();
    assert_eq!(
        step(&mut session, 0, &[2.0, 4.0, 6.0]).unwrap(),
        [2.0, 3.0, 5.0]
    );
    assert!(matches!(
        fault(step(&mut session, 3, &[1.0, 1.0])),
        Fault::CacheFull { .. }
    ));
    // They are methods like any other.
    let most = session.run("get_max_ctx_len", &[]).unwrap();
    assert!(matches!(most[0], Value::Int(4)));
    let windows = session.run("get_windows", &[]).unwrap();
    assert_eq!(
        windows[0].as_tensor().unwrap().to_vec::<i32>().unwrap(),
        [2]
    );
}

#[test]
fn layers_are_apart() {
    let mut two = graph();
    two.temps = 1;
    two.main.insert(1, attend(1, 5).into());
    two.main.insert(
        2,
        Add {
            a: Tid(4),
            b: Tid(5),
            out: Tid(4),
        }
        .into(),
    );
    let mut session = open(&two.file(), CacheOptions::default())
        .session()
        .unwrap();
    assert_eq!(step(&mut session, 0, &[2.0, 4.0]).unwrap(), [4.0, 6.0]);
}
