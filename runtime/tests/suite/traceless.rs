//! Drawn programs with state, called with inputs that some calls fail on: what a session gives and keeps is what one gives that never saw those calls.

use crate::drawn::Draw;
use crate::programs::{GraphBuilder, fixed};
use fuseline_program::instr::{
    Add, AddInt, AsType, BroadcastTo, IdCopy, If, IndexCopy, IntOrVid, IntOrVidOrTid, ItemInt,
    Multiply, Reshape, Scan, ScatterAdd, SliceUpdate, Sum, Take, Transpose,
};
use fuseline_program::{Instruction, ScalarType as T, Tid, Vid};
use fuseline_runtime::{Device, Error, Options, Program, Session, Tensor, Value};

const F32: T = T::F32;
/// The inputs: a number, a row, an index.
const X: Tid = Tid(0);
const ROW: Tid = Tid(1);
const AT: Tid = Tid(2);
/// The outputs: the sums of both states, and a row.
const SUMS: [Tid; 2] = [Tid(3), Tid(4)];
const LEFT: Tid = Tid(5);
/// The states, `[4, 3]` each.
const STATE: [Tid; 2] = [Tid(6), Tid(7)];
const A: Tid = Tid(8);
const B: Tid = Tid(9);
const CARRY: Tid = Tid(10);

impl Draw {
    fn state(&mut self) -> Tid {
        STATE[self.below(2)]
    }

    /// One step of a call. Some fail where the index is out of range, some where it is not 0.
    fn step(&mut self, more: &mut Vec<Vec<Instruction>>, depth: usize) -> Vec<Instruction> {
        let (state, other) = (self.state(), self.state());
        let axis = 0;
        let index = || IntOrVidOrTid::Tid(A);
        let vid = IntOrVid::Vid(Vid(0));
        let item = || ItemInt { x: AT, out: Vid(0) }.into();
        // An index that the device computes.
        let computed = || -> Vec<Instruction> {
            vec![
                AsType {
                    x: AT,
                    out: A,
                    scalar_type: F32,
                }
                .into(),
                AsType {
                    x: A,
                    out: A,
                    scalar_type: T::I32,
                }
                .into(),
            ]
        };
        match self.below(if depth < 2 { 11 } else { 8 }) {
            0 => vec![
                Add {
                    a: state,
                    b: X,
                    out: state,
                }
                .into(),
            ],
            1 => vec![
                IndexCopy {
                    dst: state,
                    update: ROW,
                    indices: AT,
                    out: state,
                    axis,
                }
                .into(),
            ],
            2 => [
                computed(),
                vec![
                    Take {
                        x: state,
                        index: index(),
                        out: LEFT,
                        axis,
                    }
                    .into(),
                ],
            ]
            .concat(),
            3 => {
                let (start, one) = (vid, IntOrVid::Int(1));
                vec![
                    item(),
                    AddInt {
                        a: vid,
                        b: one,
                        out: Vid(1),
                    }
                    .into(),
                    SliceUpdate {
                        dst: state,
                        update: ROW,
                        out: state,
                        axis: IntOrVid::Int(0),
                        start,
                        stop: IntOrVid::Vid(Vid(1)),
                        step: 1,
                    }
                    .into(),
                ]
            }
            4 => vec![
                IdCopy {
                    x: STATE[0],
                    out: A,
                }
                .into(),
                IdCopy {
                    x: STATE[1],
                    out: STATE[0],
                }
                .into(),
                IdCopy {
                    x: A,
                    out: STATE[1],
                }
                .into(),
            ],
            // Twelve elements in rows of 4 + index.
            5 => vec![
                item(),
                AddInt {
                    a: vid,
                    b: IntOrVid::Int(4),
                    out: Vid(1),
                }
                .into(),
                Reshape {
                    x: state,
                    out: A,
                    shape: vec![IntOrVid::Vid(Vid(1)), IntOrVid::Int(3)],
                }
                .into(),
            ],
            6 => vec![
                Multiply {
                    a: state,
                    b: ROW,
                    out: state,
                }
                .into(),
            ],
            7 => {
                let turned = Transpose {
                    x: state,
                    out: B,
                    perm: vec![1, 0],
                };
                let back = Transpose {
                    x: B,
                    out: other,
                    perm: vec![1, 0],
                };
                vec![turned.into(), back.into()]
            }
            8 => {
                let mut chain = || {
                    let at = more.len();
                    more.push(Vec::new());
                    let steps = (0..2).flat_map(|_| self.step(more, depth + 1)).collect();
                    more[at] = steps;
                    at as u32 + 1
                };
                let (then_chain_idx, else_chain_idx) = (chain(), chain());
                vec![
                    item(),
                    If {
                        cond: vid,
                        then_chain_idx,
                        else_chain_idx,
                    }
                    .into(),
                ]
            }
            9 => {
                let at = more.len();
                more.push(Vec::new());
                let mut body = self.step(more, depth + 1);
                body.push(
                    Add {
                        a: CARRY,
                        b: B,
                        out: CARRY,
                    }
                    .into(),
                );
                more[at] = body;
                let scan = Scan {
                    originals: vec![state],
                    sliced: vec![B],
                    outputs: vec![],
                    carry: vec![CARRY],
                    body_chain_idx: at as i32 + 1,
                    scan_axis: 0,
                };
                vec![
                    IdCopy { x: ROW, out: CARRY }.into(),
                    scan.into(),
                    Add {
                        a: other,
                        b: CARRY,
                        out: other,
                    }
                    .into(),
                ]
            }
            _ => [
                computed(),
                vec![
                    Reshape {
                        x: A,
                        out: A,
                        shape: vec![IntOrVid::Int(1), IntOrVid::Int(1)],
                    }
                    .into(),
                    BroadcastTo {
                        x: A,
                        out: A,
                        shape: vec![IntOrVid::Int(1), IntOrVid::Int(3)],
                    }
                    .into(),
                    ScatterAdd {
                        x: state,
                        indices: A,
                        updates: ROW,
                        out: state,
                        axis,
                    }
                    .into(),
                ],
            ]
            .concat(),
        }
    }
}

fn program(draw: &mut Draw) -> GraphBuilder {
    let mut more = Vec::new();
    let mut main: Vec<Instruction> = vec![
        IdCopy { x: ROW, out: LEFT }.into(),
        IdCopy { x: ROW, out: A }.into(),
        IdCopy { x: ROW, out: B }.into(),
        IdCopy { x: ROW, out: CARRY }.into(),
    ];
    for _ in 0..2 + draw.below(6) {
        main.extend(draw.step(&mut more, 0));
    }
    for (x, out) in STATE.into_iter().zip(SUMS) {
        main.push(
            Sum {
                x,
                out,
                axes: vec![],
                keepdims: false,
            }
            .into(),
        );
    }
    let matrix = || fixed(F32, &[4, 3]);
    GraphBuilder {
        inputs: vec![
            ("x", fixed(F32, &[])),
            ("row", fixed(F32, &[1, 3])),
            ("at", fixed(T::I32, &[1])),
        ],
        outputs: vec![fixed(F32, &[]), fixed(F32, &[]), fixed(F32, &[1, 3])],
        state: vec![("one", matrix()), ("two", matrix())],
        temps: 3,
        values: 2,
        main,
        more,
        ..GraphBuilder::default()
    }
}

fn inputs(draw: &mut Draw) -> Vec<Value> {
    let float = |draw: &mut Draw| draw.below(9) as f32 / 4.0 - 1.0;
    let at = [-5, -4, -1, 0, 0, 0, 1, 3, 4, 100, i32::MIN, i32::MAX][draw.below(12)];
    let row = [float(draw), float(draw), float(draw)];
    vec![
        Tensor::from_scalar(float(draw)).expect("a tensor").into(),
        Tensor::from_slice(&[1, 3], &row).expect("a tensor").into(),
        Tensor::from_slice(&[1], &[at]).expect("a tensor").into(),
    ]
}

fn call(session: &mut Session, inputs: &[Value]) -> Result<Vec<Vec<u8>>, Error> {
    let outputs = session.run("forward", inputs)?;
    let bytes = outputs
        .iter()
        .filter_map(Value::as_tensor)
        .map(Tensor::to_bytes);
    Ok(bytes.collect::<Result<_, _>>()?)
}

fn states(session: &Session) -> Result<Vec<Vec<u8>>, Error> {
    let states = ["one", "two"].into_iter();
    states
        .map(|name| Ok(session.state(name)?.to_bytes()?))
        .collect()
}

#[test]
fn calls_that_fail_leave_no_trace() {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    let (mut failed, mut worked, mut lost) = (0, 0, 0);
    for number in 0..150 {
        let late = number % 2 == 0;
        let options = Options {
            device: Some(Device::Cpu),
            late_checks: Some(late),
            ..Options::default()
        };
        let file = program(&mut draw).file();
        let program = Program::open_with(&file.path, &options).expect("a program");
        let (mut session, mut other) = (
            program.session().expect("a session"),
            program.session().expect("a session"),
        );
        for _ in 0..8 {
            let inputs = inputs(&mut draw);
            match call(&mut session, &inputs) {
                Ok(given) => {
                    worked += 1;
                    assert_eq!(
                        given,
                        call(&mut other, &inputs).expect("as the other"),
                        "{number}"
                    );
                    assert_eq!(
                        states(&session).expect("states"),
                        states(&other).expect("states"),
                        "{number}"
                    );
                }
                Err(_) => {
                    failed += 1;
                    if late && states(&session).is_err() {
                        lost += 1;
                        // A wrong index that only the device knew: the state is gone, and says so.
                        assert!(call(&mut session, &inputs).is_err());
                        session.reset();
                        other.reset();
                    }
                    assert_eq!(
                        states(&session).expect("states"),
                        states(&other).expect("states"),
                        "{number}"
                    );
                }
            }
        }
    }
    assert!(
        failed > 300 && worked > 300 && lost > 10,
        "{failed} failed, {worked} worked, {lost} lost the state"
    );
}
