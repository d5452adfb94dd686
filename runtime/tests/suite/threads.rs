//! Many sessions at once: one program, eight threads, each with sessions of its own, some of them dropped while their work is under way.
//! `FUSELINE_THREAD_SECONDS` says for how long; a few seconds without it.

use std::thread;
use std::time::{Duration, Instant};

use crate::programs::{GraphBuilder, bytes, fixed};
use fuseline_program::instr::{Add, Addmm, IdCopy, Tanh};
use fuseline_program::{ScalarType, Tid};
use fuseline_runtime::{Device, Options, Program, Session, Tensor, Value};

const F32: ScalarType = ScalarType::F32;
const WIDTH: usize = 48;
const THREADS: usize = 8;
const STEPS: usize = 12;

/// `state = tanh(state @ w + x); out = state`: constant 0, input 1, output 2, state 3, temporaries 4 and 5.
fn recurrence() -> GraphBuilder {
    let square = [WIDTH as u32, WIDTH as u32];
    let weights: Vec<f32> = (0..WIDTH * WIDTH)
        .map(|at| ((at * 37 % 101) as f32 - 50.0) / 200.0)
        .collect();
    GraphBuilder {
        constants: vec![("w", fixed(F32, &square), bytes(&weights))],
        inputs: vec![("x", fixed(F32, &square))],
        outputs: vec![fixed(F32, &square)],
        state: vec![("state", fixed(F32, &square))],
        temps: 2,
        main: vec![
            Addmm {
                mat1: Tid(3),
                mat2: Tid(0),
                out: Tid(4),
                bias: None,
                alpha: 1.0,
                beta: 1.0,
            }
            .into(),
            Add {
                a: Tid(4),
                b: Tid(1),
                out: Tid(5),
            }
            .into(),
            Tanh {
                x: Tid(5),
                out: Tid(3),
            }
            .into(),
            IdCopy {
                x: Tid(3),
                out: Tid(2),
            }
            .into(),
        ],
        ..GraphBuilder::default()
    }
}

/// The input of a step for a caller with this number.
fn input(caller: usize, step: usize) -> Value {
    let numbers: Vec<f32> = (0..WIDTH * WIDTH)
        .map(|at| ((at + 7 * caller + 13 * step) % 29) as f32 / 29.0 - 0.5)
        .collect();
    Tensor::from_slice(&[WIDTH, WIDTH], &numbers)
        .expect("a tensor")
        .into()
}

fn step(session: &mut Session, caller: usize, step: usize) -> Tensor {
    let outputs = session
        .run("forward", &[input(caller, step)])
        .expect("results");
    outputs[0].as_tensor().expect("a tensor").clone()
}

/// The bytes of every step's result.
fn whole(program: &Program, caller: usize) -> Vec<Vec<u8>> {
    let mut session = program.session().expect("a session");
    let results: Vec<Tensor> = (0..STEPS)
        .map(|at| step(&mut session, caller, at))
        .collect();
    results
        .iter()
        .map(|result| result.to_bytes().expect("bytes"))
        .collect()
}

#[test]
fn eight_threads_give_the_numbers_of_one_while_sessions_come_and_go() {
    let seconds = std::env::var("FUSELINE_THREAD_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(2);
    let options = Options {
        device: Some(Device::Cpu),
        ..Options::default()
    };
    let file = recurrence().file();
    let program = Program::open_with(&file.path, &options).expect("a program");
    let alone: Vec<_> = (0..THREADS).map(|caller| whole(&program, caller)).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for caller in 0..THREADS {
            let (program, alone) = (&program, &alone[caller]);
            scope.spawn(move || {
                for round in 0.. {
                    assert_eq!(
                        whole(program, caller),
                        *alone,
                        "thread {caller}, round {round}"
                    );
                    // Work that is queued when its session goes, and a result that outlives it.
                    let mut left = program.session().expect("a session");
                    let kept = step(&mut left, caller, 0);
                    drop(step(&mut left, caller, 1));
                    drop(left);
                    assert_eq!(kept.to_bytes().expect("bytes"), alone[0]);
                    // A session that another thread goes on with.
                    let mut moved = program.session().expect("a session");
                    drop(step(&mut moved, caller, 0));
                    let second = scope.spawn(move || step(&mut moved, caller, 1).to_bytes());
                    let second = second.join().expect("no panic").expect("bytes");
                    assert_eq!(second, alone[1]);
                    if Instant::now() >= end {
                        break;
                    }
                }
            });
        }
    });
}
