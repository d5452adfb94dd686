//! Instructions that no file of ExecuTorch's among the fixtures has, each in a small program with numbers worked out by hand. `docs/nodes.md` says which test
//! has which instruction.

use crate::programs::{GraphBuilder, fixed};
use fuseline_program::instr::{
    Add, AddInt, AsType, Conv2D, Conv3D, ConvTranspose1D, ConvTranspose3D, FloatOrVid, FloorDivide,
    Full, IdCopy, If, IntOrVid, Median, ModInt, Noop, RandomBits, Remainder, Scan, SymSize,
    Transpose, Tri,
};
use fuseline_program::{Instruction, ScalarType, Tid, Vid};
use fuseline_runtime::{Device, Options, Program, Tensor, Value};

const F32: ScalarType = ScalarType::F32;

/// Runs a graph on float inputs, and gives its first output.
fn run(graph: &GraphBuilder, inputs: &[&[f32]]) -> Vec<f32> {
    let options = Options {
        device: Some(Device::Cpu),
        ..Options::default()
    };
    let file = graph.file();
    let program = Program::open_with(&file.path, &options).expect("a program");
    let values: Vec<Value> = graph
        .inputs
        .iter()
        .zip(inputs)
        .map(|((_, meta), numbers)| {
            let shape = meta.static_shape().expect("a shape");
            let shape: Vec<usize> = shape.iter().map(|length| *length as usize).collect();
            Tensor::from_slice(&shape, numbers)
                .expect("a tensor")
                .into()
        })
        .collect();
    let mut session = program.session().expect("a session");
    let outputs = session.run("forward", &values).expect("results");
    let first = outputs[0].as_tensor().expect("a tensor");
    first.to_vec().expect("floats")
}

/// A graph with one input, one output, and no more than that.
fn graph(input: &[u32], output: &[u32], main: Vec<Instruction>) -> GraphBuilder {
    GraphBuilder {
        inputs: vec![("x", fixed(F32, input))],
        outputs: vec![fixed(F32, output)],
        main,
        ..GraphBuilder::default()
    }
}

#[test]
fn median() {
    let one = Median {
        x: Tid(0),
        out: Tid(1),
        axes: vec![1],
        keepdims: false,
    };
    let rows = graph(&[2, 3], &[2], vec![one.into()]);
    assert_eq!(run(&rows, &[&[1.0, 3.0, 2.0, 9.0, 4.0, 5.0]]), [2.0, 5.0]);
}

#[test]
fn noop() {
    let copy = IdCopy {
        x: Tid(0),
        out: Tid(1),
    };
    let same = graph(
        &[2],
        &[2],
        vec![Noop {}.into(), copy.into(), Noop {}.into()],
    );
    assert_eq!(run(&same, &[&[1.0, 2.0]]), [1.0, 2.0]);
}

#[test]
fn tri() {
    let one = Tri {
        out: Tid(1),
        n: IntOrVid::Int(3),
        m: IntOrVid::Int(4),
        k: 1,
        scalar_type: F32,
    };
    let triangle = graph(&[1], &[3, 4], vec![one.into()]);
    let wanted = [
        [1.0, 1.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 0.0],
        [1.0, 1.0, 1.0, 1.0],
    ];
    assert_eq!(run(&triangle, &[&[0.0]]), wanted.concat());
}

/// `length of x mod divisor`, as a tensor.
fn rest(divisor: i64) -> Vec<f32> {
    let mut graph = graph(&[5], &[1], Vec::new());
    graph.values = 2;
    graph.main = vec![
        SymSize {
            a: Tid(0),
            dim: 0,
            out: Vid(0),
        }
        .into(),
        ModInt {
            a: IntOrVid::Vid(Vid(0)),
            b: IntOrVid::Int(divisor),
            out: Vid(1),
        }
        .into(),
        Full {
            out: Tid(1),
            shape: vec![IntOrVid::Int(1)],
            v: FloatOrVid::Vid(Vid(1)),
            scalar_type: F32,
        }
        .into(),
    ];
    run(&graph, &[&[0.0; 5]])
}

#[test]
fn mod_int_has_the_sign_of_the_divisor() {
    assert_eq!(rest(3), [2.0]);
    assert_eq!(rest(-3), [-1.0]);
    assert_eq!(rest(5), [0.0]);
}

/// Zeros to begin with, then one step for each column of `x`: the sum so far, kept in `carry`, collected along the axis.
#[test]
fn scan_carries_from_step_to_step_and_stacks_what_each_leaves() {
    let (x, out, sliced, carry) = (Tid(0), Tid(1), Tid(2), Tid(3));
    let mut sums = graph(&[2, 3], &[2, 3], Vec::new());
    sums.temps = 2;
    let zeros = |out| Full {
        out,
        shape: vec![IntOrVid::Int(2)],
        v: FloatOrVid::Float(0.0),
        scalar_type: F32,
    };
    sums.main = vec![
        zeros(carry).into(),
        zeros(out).into(),
        Scan {
            originals: vec![x],
            sliced: vec![sliced],
            outputs: vec![out],
            carry: vec![carry],
            body_chain_idx: 1,
            scan_axis: 1,
        }
        .into(),
    ];
    sums.more = vec![vec![
        Add {
            a: carry,
            b: sliced,
            out: carry,
        }
        .into(),
        IdCopy { x: carry, out }.into(),
    ]];
    let rows = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
    assert_eq!(run(&sums, &[&rows]), [1.0, 3.0, 6.0, 10.0, 30.0, 60.0]);
}

/// As above, but the body puts something shorter into the slot of what is cut up: its steps are those of what was there before.
#[test]
fn scan_cuts_up_what_its_body_overwrites() {
    let (x, out, sliced) = (Tid(0), Tid(1), Tid(2));
    let mut shrinking = graph(&[2, 3], &[2, 3], Vec::new());
    shrinking.temps = 1;
    shrinking.main = vec![
        IdCopy { x, out }.into(),
        Scan {
            originals: vec![x],
            sliced: vec![sliced],
            outputs: vec![out],
            carry: Vec::new(),
            body_chain_idx: 1,
            scan_axis: 1,
        }
        .into(),
    ];
    shrinking.more = vec![vec![
        IdCopy { x: sliced, out }.into(),
        IdCopy { x: sliced, out: x }.into(),
    ]];
    let rows = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
    assert_eq!(run(&shrinking, &[&rows]), rows);
}

/// A convolution without channels would end the process; one over tensors of too many axes would read beyond them.
#[test]
fn convolutions_of_nothing_and_of_other_ranks_are_errors() {
    for shape in [&[1, 3, 0][..], &[1, 0, 2], &[1, 3, 2, 2], &[3, 2]] {
        let mut conv = graph(shape, &[1], Vec::new());
        let (x, out) = (Tid(0), Tid(1));
        conv.main = vec![
            ConvTranspose1D {
                x,
                w: x,
                out,
                stride: 1,
                padding: 0,
                dilation: 1,
                output_padding: 0,
                groups: 1,
            }
            .into(),
        ];
        let file = conv.file();
        let program = Program::open(&file.path).expect("a program");
        let mut session = program.session().expect("a session");
        let count = shape.iter().product::<u32>() as usize;
        let lengths: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
        let input = Tensor::from_slice(&lengths, &vec![1.0_f32; count]).expect("a tensor");
        let said = session
            .run("forward", &[input.into()])
            .expect_err("an error");
        assert!(said.to_string().contains("ConvTranspose1D"), "{said}");
    }
}

/// The length of `x` decides: more than three doubles it, else it is copied. Both branches write the same slot.
#[test]
fn if_runs_one_of_two_chains() {
    for (length, wanted) in [(4, vec![2.0; 4]), (5, vec![1.0; 5])] {
        let mut choice = graph(&[length], &[length], Vec::new());
        choice.values = 2;
        choice.main = vec![
            SymSize {
                a: Tid(0),
                dim: 0,
                out: Vid(0),
            }
            .into(),
            ModInt {
                a: IntOrVid::Vid(Vid(0)),
                b: IntOrVid::Int(5),
                out: Vid(1),
            }
            .into(),
            If {
                cond: IntOrVid::Vid(Vid(1)),
                then_chain_idx: 1,
                else_chain_idx: 2,
            }
            .into(),
        ];
        choice.more = vec![
            vec![
                Add {
                    a: Tid(0),
                    b: Tid(0),
                    out: Tid(1),
                }
                .into(),
            ],
            vec![
                IdCopy {
                    x: Tid(0),
                    out: Tid(1),
                }
                .into(),
            ],
        ];
        assert_eq!(run(&choice, &[&vec![1.0; length as usize]]), wanted);
    }
}

#[test]
fn convolutions_in_three_dimensions() {
    let mut sum = GraphBuilder {
        inputs: vec![
            ("x", fixed(F32, &[1, 2, 2, 3, 1])),
            ("w", fixed(F32, &[1, 2, 2, 2, 1])),
        ],
        outputs: vec![fixed(F32, &[1, 1, 1, 2, 1])],
        main: vec![
            Conv3D {
                x: Tid(0),
                w: Tid(1),
                out: Tid(2),
                stride_d: 1,
                stride_h: 1,
                stride_w: 1,
                padding_d: 0,
                padding_h: 0,
                padding_w: 0,
                dilation_d: 1,
                dilation_h: 1,
                dilation_w: 1,
                groups: 1,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    // Columns 1, 2, 3 in each of the four rows; a window of ones covers two columns.
    let columns = [1.0, 2.0, 3.0].repeat(4);
    assert_eq!(run(&sum, &[&columns, &[1.0; 8]]), [12.0, 20.0]);

    sum.inputs = vec![
        ("x", fixed(F32, &[1, 1, 1, 2, 1])),
        ("w", fixed(F32, &[1, 1, 1, 2, 1])),
    ];
    sum.outputs = vec![fixed(F32, &[1, 1, 1, 4, 1])];
    sum.main = vec![
        ConvTranspose3D {
            x: Tid(0),
            w: Tid(1),
            out: Tid(2),
            stride_d: 1,
            stride_h: 1,
            stride_w: 2,
            padding_d: 0,
            padding_h: 0,
            padding_w: 0,
            dilation_d: 1,
            dilation_h: 1,
            dilation_w: 1,
            output_padding_d: 0,
            output_padding_h: 0,
            output_padding_w: 0,
            groups: 1,
        }
        .into(),
    ];
    // Each element spreads the two weights at twice its position.
    assert_eq!(
        run(&sum, &[&[1.0, 10.0], &[3.0, 5.0]]),
        [3.0, 5.0, 30.0, 50.0]
    );
}

#[test]
fn random_bits_follow_the_seed() {
    let draw = |seed: i64| {
        let mut bits = graph(&[1], &[4], Vec::new());
        bits.temps = 1;
        bits.values = 1;
        bits.main = vec![
            AddInt {
                a: IntOrVid::Int(seed),
                b: IntOrVid::Int(0),
                out: Vid(0),
            }
            .into(),
            RandomBits {
                out: Tid(2),
                shape: vec![IntOrVid::Int(4)],
                seed: Some(Vid(0)),
                width: 1,
            }
            .into(),
            AsType {
                x: Tid(2),
                out: Tid(1),
                scalar_type: F32,
            }
            .into(),
        ];
        run(&bits, &[&[0.0]])
    };
    let first = draw(7);
    assert_eq!(first, draw(7));
    assert_ne!(first, draw(8));
    // Of one byte each.
    assert!(first.iter().all(|bits| (0.0..256.0).contains(bits)));
}

/// Two channels apart, a window of seven over two rows and two columns: fewer results than steps of padding.
#[test]
fn a_convolution_with_more_padding_than_results() {
    let sum = GraphBuilder {
        inputs: vec![
            ("x", fixed(F32, &[1, 2, 2, 2])),
            ("w", fixed(F32, &[2, 7, 7, 1])),
        ],
        outputs: vec![fixed(F32, &[1, 2, 2, 2])],
        main: vec![
            Conv2D {
                x: Tid(0),
                w: Tid(1),
                out: Tid(2),
                stride_h: 1,
                stride_w: 1,
                padding_h: 3,
                padding_w: 3,
                dilation_h: 1,
                dilation_w: 1,
                groups: 2,
            }
            .into(),
        ],
        ..GraphBuilder::default()
    };
    let x = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0];
    assert_eq!(run(&sum, &[&x, &[1.0; 98]]), [10.0, 100.0].repeat(4));
}

#[test]
fn axes_of_a_transposition_may_count_from_the_last() {
    let turn = Transpose {
        x: Tid(0),
        out: Tid(1),
        perm: vec![0, -1, 1],
    };
    let turned = graph(&[1, 2, 2], &[1, 2, 2], vec![turn.into()]);
    assert_eq!(run(&turned, &[&[1.0, 2.0, 3.0, 4.0]]), [1.0, 3.0, 2.0, 4.0]);
}

#[test]
fn integers_divided_by_minus_one() {
    let integers = |x, out| AsType {
        x: Tid(x),
        out: Tid(out),
        scalar_type: ScalarType::I64,
    };
    let floats = AsType {
        x: Tid(2),
        out: Tid(2),
        scalar_type: F32,
    };
    let divided = |then: Instruction| GraphBuilder {
        inputs: vec![("a", fixed(F32, &[5])), ("b", fixed(F32, &[5]))],
        outputs: vec![fixed(F32, &[5])],
        temps: 2,
        main: vec![
            integers(0, 3).into(),
            integers(1, 4).into(),
            then,
            floats.clone().into(),
        ],
        ..GraphBuilder::default()
    };
    let (a, b, out) = (Tid(3), Tid(4), Tid(2));
    // The least integer of 64 bits has no opposite among them.
    let least = i64::MIN as f32;
    let inputs: [&[f32]; 2] = [
        &[7.0, -7.0, 7.0, least, -8.0],
        &[-1.0, -1.0, -2.0, -1.0, 3.0],
    ];
    let quotients = divided(FloorDivide { a, b, out }.into());
    assert_eq!(run(&quotients, &inputs), [-7.0, 7.0, -4.0, least, -3.0]);
    let rests = divided(Remainder { a, b, out }.into());
    assert_eq!(run(&rests, &inputs), [0.0, 0.0, -1.0, 0.0, 1.0]);
}
