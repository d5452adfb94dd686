//! Operators over graphs, and layers that repeat: what is imported, what is refused and how.

use super::*;

/// A graph argument.
fn graph(program: &Program) -> Value {
    json!({"as_graph": {"name": "body", "graph": program.json()["graph_module"]["graph"]}})
}

fn tensors(names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    json!({"as_tensors": names})
}

/// A graph from `x` to `out = target(x, other)`.
fn body(shape: &[i64], target: &str, other: f64) -> Program {
    Program::default()
        .input("x", dense(F32, shape))
        .node(
            "out",
            dense(F32, shape),
            target,
            &[("self", t("x")), ("other", json!({"as_float": other}))],
        )
        .output("out")
}

#[test]
fn a_condition_chooses_between_the_results_of_both_sides() {
    let program = |yes: &Program, no: &Program| {
        Program::default()
            .input("p", dense(BOOL, &[]))
            .input("x", dense(F32, &[2]))
            .call(
                &[("y", dense(F32, &[2]))],
                "higher_order.cond",
                &[
                    ("", t("p")),
                    ("", graph(yes)),
                    ("", graph(no)),
                    ("", tensors(&["x"])),
                ],
            )
            .output("y")
    };
    let (yes, no) = (body(&[2], "add.Tensor", 1.0), body(&[2], "mul.Tensor", 3.0));
    let both = program(&yes, &no);
    for (p, expected) in [(1, [2.0, 3.0]), (0, [3.0, 6.0])] {
        let p = Tensor::ints(DType::Bool, vec![], vec![p]).unwrap();
        let out = both.run(&[p, f32s(&[2], &[1.0, 2.0])]);
        assert_eq!(out[0].to_f64(), expected);
    }
    // What is not supported in a branch is reported like anything else.
    let odd = body(&[2], "made_up.default", 1.0);
    assert!(
        program(&yes, &odd)
            .error()
            .contains("aten.made_up.default (1×)")
    );
    let writes = Program::default()
        .input("x", dense(F32, &[2]))
        .node(
            "out",
            dense(F32, &[2]),
            "add_.Tensor",
            &[("self", t("x")), ("other", json!({"as_float": 1.0}))],
        )
        .output("out");
    // What a branch writes to a tensor from outside is written if it is taken.
    let written = program(&yes, &writes);
    for (p, after) in [(1, [1.0, 2.0]), (0, [2.0, 3.0])] {
        let p = Tensor::ints(DType::Bool, vec![], vec![p]).unwrap();
        let out = written.run(&[p, f32s(&[2], &[1.0, 2.0])]);
        assert_eq!(out[0].to_f64(), [2.0, 3.0]);
        assert_eq!(out[1].to_f64(), after);
    }
}

/// A loop that doubles `x` while `condition` holds of `(i, x)`, from `i = 0`.
fn doubling(condition: Program) -> Program {
    let step = Program::default()
        .input("i", dense(I64, &[]))
        .input("x", dense(F32, &[2]))
        .node(
            "next",
            dense(I64, &[]),
            "add.Tensor",
            &[("self", t("i")), ("other", int(1))],
        )
        .node(
            "twice",
            dense(F32, &[2]),
            "mul.Tensor",
            &[("self", t("x")), ("other", json!({"as_float": 2.0}))],
        )
        .output("next")
        .output("twice");
    Program::default()
        .input("x", dense(F32, &[2]))
        .node(
            "i",
            dense(I64, &[]),
            "full.default",
            &[("size", ints(&[])), ("fill_value", int(0))],
        )
        .call(
            &[("n", dense(I64, &[])), ("y", dense(F32, &[2]))],
            "higher_order.while_loop",
            &[
                ("", graph(&condition)),
                ("", graph(&step)),
                ("", tensors(&["i", "x"])),
                ("", tensors(&[])),
            ],
        )
        .output("n")
        .output("y")
}

#[test]
fn a_loop_is_unrolled_where_a_counter_bounds_it_and_else_runs() {
    let condition = |compared: &str, meta: Value, below: i64| {
        Program::default()
            .input("i", dense(I64, &[]))
            .input("x", dense(F32, &[2]))
            .node(
                "least",
                dense(F32, &[]),
                "amin.default",
                &[("self", t("x"))],
            )
            .node(
                "go",
                meta,
                "lt.Scalar",
                &[("self", t(compared)), ("other", int(below))],
            )
            .output("go")
    };
    let counted = doubling(condition("i", dense(BOOL, &[]), 3));
    let out = counted.run(&[f32s(&[2], &[1.0, -1.0])]);
    assert_eq!(out[0].to_i64(), [3]);
    assert_eq!(out[1].to_f64(), [8.0, -8.0]);
    let loops = |program: &Program| {
        let graph = program.graph();
        let nodes = graph.nodes().iter();
        nodes.filter(|node| node.op.name() == "while_loop").count()
    };
    assert_eq!(loops(&counted), 0);
    let by_data = doubling(condition("least", dense(BOOL, &[]), 100));
    assert_eq!(loops(&by_data), 1);
    let out = by_data.run(&[f32s(&[2], &[2.0, 1.0])]);
    assert_eq!(out[0].to_i64(), [7]);
    assert_eq!(out[1].to_f64(), [256.0, 128.0]);
    let long = doubling(condition("i", dense(BOOL, &[]), 1 << 40));
    assert_eq!(loops(&long), 1);
}

#[test]
fn a_scan_carries_and_stacks() {
    let step = Program::default()
        .input("sum", dense(F32, &[]))
        .input("x", dense(F32, &[]))
        .node(
            "next",
            dense(F32, &[]),
            "add.Tensor",
            &[("self", t("sum")), ("other", t("x"))],
        )
        .output("next")
        .output("next");
    let program = Program::default()
        .input("start", dense(F32, &[]))
        .input("xs", dense(F32, &[3]))
        .call(
            &[("last", dense(F32, &[])), ("all", dense(F32, &[3]))],
            "higher_order.scan",
            &[
                ("", graph(&step)),
                ("", tensors(&["start"])),
                ("", tensors(&["xs"])),
                ("", tensors(&[])),
            ],
        )
        .output("last")
        .output("all");
    let out = program.run(&[f32s(&[], &[10.0]), f32s(&[3], &[1.0, 2.0, 3.0])]);
    assert_eq!(out[0].to_f64(), [16.0]);
    assert_eq!(out[1].to_f64(), [11.0, 13.0, 16.0]);
}

#[test]
fn a_recurrent_layer_needs_a_known_length() {
    let size = json!({"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 4}}});
    let sequence = json!({
        "dtype": F32, "sizes": [size, int(1), int(2)], "strides": [int(2), int(2), int(1)], "storage_offset": int(0),
    });
    let mut program = Program::default()
        .input("x", sequence.clone())
        .input("h", dense(F32, &[1, 1, 2]))
        .input("w", dense(F32, &[2, 2]));
    program
        .ranges
        .insert("s0".to_owned(), json!({"min_val": 2, "max_val": 9}));
    let no = || json!({"as_bool": false});
    let program = program
        .call(
            &[("y", sequence), ("last", dense(F32, &[1, 1, 2]))],
            "aten.rnn_tanh.input",
            &[
                ("input", t("x")),
                ("hx", t("h")),
                ("params", tensors(&["w", "w"])),
                ("has_biases", no()),
                ("num_layers", int(1)),
                ("dropout", json!({"as_float": 0.0})),
                ("train", no()),
                ("bidirectional", no()),
                ("batch_first", no()),
            ],
        )
        .output("y");
    let error = program.error();
    assert!(
        error.contains(
            "aten.rnn_tanh.input (1×): a recurrent network over a sequence of dynamic length (`s0`)"
        ),
        "{error}"
    );
}

#[test]
fn complex_numbers_turn_and_do_not_leave() {
    const COMPLEX: i64 = 10;
    let turned = || {
        Program::default()
            .input("x", dense(F32, &[2, 2]))
            .input("angle", dense(F32, &[2]))
            .node(
                "ones",
                dense(F32, &[2]),
                "ones_like.default",
                &[("self", t("angle"))],
            )
            .node(
                "turn",
                dense(COMPLEX, &[2]),
                "polar.default",
                &[("abs", t("ones")), ("angle", t("angle"))],
            )
            .node(
                "z",
                dense(COMPLEX, &[2]),
                "view_as_complex.default",
                &[("self", t("x"))],
            )
            .node(
                "y",
                dense(COMPLEX, &[2]),
                "mul.Tensor",
                &[("self", t("z")), ("other", t("turn"))],
            )
    };
    let real = turned()
        .node(
            "real",
            dense(F32, &[2, 2]),
            "view_as_real.default",
            &[("self", t("y"))],
        )
        .output("real");
    let quarter = std::f64::consts::FRAC_PI_2;
    let out = real.run(&[
        f32s(&[2, 2], &[1.0, 0.0, 3.0, 4.0]),
        f32s(&[2], &[quarter, 0.0]),
    ]);
    for (got, want) in out[0].to_f64().iter().zip([0.0, 1.0, 3.0, 4.0]) {
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }
    let error = turned().output("y").error();
    assert!(error.contains("an output that is complex"), "{error}");
    let error = turned()
        .node(
            "s",
            dense(COMPLEX, &[2]),
            "erf.default",
            &[("self", t("y"))],
        )
        .output("x")
        .error();
    assert!(
        error.contains("this operator on complex numbers"),
        "{error}"
    );
}
