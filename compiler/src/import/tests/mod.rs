//! Small programs in the file's own JSON, imported and evaluated: aliasing, mutation, promotion, errors.

use std::collections::BTreeMap;

use fuseline_ir::{DType, Graph, Tensor};
use serde_json::{Value, json};

use super::*;
use crate::pt2::testing::{Weight, dense, floats, meta};
use program::*;

mod coverage;
mod graphs;
mod mlx;
mod program;
mod quant;
mod quantise;

#[test]
fn a_write_through_a_view_reaches_the_buffer_and_every_other_view() {
    // row = b[1]; column = b.T[0]; row += x; return column, b
    let program = Program::default()
        .buffer("b", dense(F32, &[2, 2]))
        .input("x", dense(F32, &[2]))
        .node(
            "row",
            meta(F32, &[2], &[1], 2),
            "select.int",
            &[("self", t("b_b")), ("dim", int(0)), ("index", int(-1))],
        )
        .node(
            "turned",
            meta(F32, &[2, 2], &[1, 2], 0),
            "transpose.int",
            &[("self", t("b_b")), ("dim0", int(0)), ("dim1", int(1))],
        )
        .node(
            "column",
            meta(F32, &[2], &[2], 0),
            "select.int",
            &[("self", t("turned")), ("dim", int(0)), ("index", int(0))],
        )
        .node(
            "added",
            meta(F32, &[2], &[1], 2),
            "add_.Tensor",
            &[("self", t("row")), ("other", t("x"))],
        )
        .output("column")
        .output("b_b");
    let (outputs, state) = run_with_buffer(
        &program,
        &[2, 2],
        &[1.0, 2.0, 3.0, 4.0],
        &[f32s(&[2], &[10.0, 20.0])],
    );
    assert_eq!(outputs[0], f32s(&[2], &[1.0, 13.0]));
    assert_eq!(state, f32s(&[2, 2], &[1.0, 2.0, 13.0, 24.0]));
    assert_eq!(outputs[1], state);
}

#[test]
fn a_value_read_before_a_write_stays() {
    // y = b + 1; b.copy_(x); return y
    let program = Program::default()
        .buffer("b", dense(F32, &[2]))
        .input("x", dense(F32, &[2]))
        .node(
            "y",
            dense(F32, &[2]),
            "add.Tensor",
            &[("self", t("b_b")), ("other", int(1))],
        )
        .node(
            "copied",
            dense(F32, &[2]),
            "copy_.default",
            &[("self", t("b_b")), ("src", t("x"))],
        )
        .output("y");
    let (outputs, state) = run_with_buffer(&program, &[2], &[1.0, 2.0], &[f32s(&[2], &[8.0, 9.0])]);
    assert_eq!(outputs[0], f32s(&[2], &[2.0, 3.0]));
    assert_eq!(state, f32s(&[2], &[8.0, 9.0]));
}

#[test]
fn a_conversion_with_nothing_to_convert_is_an_alias() {
    // same = b.to(float32); same += 1: the buffer changes. half = b.to(float16); half += 1: it doesn't.
    let add_one = |out: &str, of: &str, dtype: i64, program: Program| {
        program.node(
            out,
            dense(dtype, &[2]),
            "add_.Tensor",
            &[("self", t(of)), ("other", int(1))],
        )
    };
    let program = Program::default().buffer("b", dense(F32, &[2])).node(
        "same",
        dense(F32, &[2]),
        "to.dtype",
        &[
            ("self", t("b_b")),
            ("dtype", json!({"as_scalar_type": F32})),
        ],
    );
    let program = add_one("one", "same", F32, program).node(
        "half",
        dense(F16, &[2]),
        "to.dtype",
        &[
            ("self", t("b_b")),
            ("dtype", json!({"as_scalar_type": F16})),
        ],
    );
    let program = add_one("two", "half", F16, program).output("two");
    let (outputs, state) = run_with_buffer(&program, &[2], &[1.0, 2.0], &[]);
    assert_eq!(outputs[0].to_f64(), [3.0, 4.0]);
    assert_eq!(state, f32s(&[2], &[2.0, 3.0]));
}

#[test]
fn reshape_is_a_view_exactly_where_strides_allow() {
    let reshaped = |source: &str, strides: &[i64]| {
        Program::default()
            .buffer("b", dense(F32, &[2, 3]))
            .node(
                "turned",
                meta(F32, &[3, 2], &[1, 3], 0),
                "t.default",
                &[("self", t("b_b"))],
            )
            .node(
                "flat",
                meta(F32, &[6], strides, 0),
                "reshape.default",
                &[("self", t(source)), ("shape", ints(&[6]))],
            )
            .node(
                "zeroed",
                dense(F32, &[6]),
                "zero_.default",
                &[("self", t("flat"))],
            )
            .node(
                "touched",
                dense(F32, &[2, 3]),
                "add_.Tensor",
                &[("self", t("b_b")), ("other", int(0))],
            )
            .output("zeroed")
    };
    let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let (_, state) = run_with_buffer(&reshaped("b_b", &[1]), &[2, 3], &data, &[]);
    assert_eq!(state.to_f64(), [0.0; 6]);
    let (_, state) = run_with_buffer(&reshaped("turned", &[1]), &[2, 3], &data, &[]);
    assert_eq!(state.to_f64(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn a_strided_slice_is_written_back_in_place() {
    let slice = [
        ("self", t("b_b")),
        ("dim", int(0)),
        ("start", int(1)),
        ("end", int(i64::MAX)),
        ("step", int(2)),
    ];
    let program = Program::default()
        .buffer("b", dense(F32, &[5]))
        .node("odd", meta(F32, &[2], &[2], 1), "slice.Tensor", &slice)
        .node(
            "filled",
            meta(F32, &[2], &[2], 1),
            "fill_.Scalar",
            &[("self", t("odd")), ("value", json!({"as_float": 7.5}))],
        )
        .output("b_b");
    let (outputs, state) = run_with_buffer(&program, &[5], &[0.0, 1.0, 2.0, 3.0, 4.0], &[]);
    assert_eq!(state.to_f64(), [0.0, 7.5, 2.0, 7.5, 4.0]);
    assert_eq!(outputs[0], state);
}

#[test]
fn writing_to_an_expanded_tensor_is_refused() {
    let program = Program::default()
        .input("x", dense(F32, &[1, 2]))
        .node(
            "wide",
            meta(F32, &[3, 2], &[0, 1], 0),
            "expand.default",
            &[("self", t("x")), ("size", ints(&[3, -1]))],
        )
        .node(
            "added",
            meta(F32, &[3, 2], &[0, 1], 0),
            "add_.Scalar",
            &[("self", t("wide")), ("other", int(1))],
        )
        .output("added");
    let error = program.error();
    assert!(
        error.contains("aten.add_.Scalar (1×): writing to a broadcast (expanded) tensor"),
        "{error}"
    );
}

#[test]
fn a_diagonal_is_written_to_where_it_lies() {
    let program = Program::default()
        .buffer("b", dense(F32, &[2, 3]))
        .node(
            "d",
            meta(F32, &[2], &[4], 1),
            "diagonal.default",
            &[("self", t("b_b")), ("offset", int(1))],
        )
        .node(
            "z",
            meta(F32, &[2], &[4], 1),
            "zero_.default",
            &[("self", t("d"))],
        )
        .output("b_b");
    let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let (outputs, _) = run_with_buffer(&program, &[2, 3], &data, &[]);
    assert_eq!(outputs[0].to_f64(), [1.0, 0.0, 3.0, 4.0, 5.0, 0.0]);
}

#[test]
fn views_by_index_are_snapshots_that_refuse_to_lie() {
    let windows = || {
        Program::default().buffer("b", dense(F32, &[2, 2])).node(
            "d",
            meta(F32, &[2, 2, 1], &[2, 1, 1], 0),
            "unfold.default",
            &[
                ("self", t("b_b")),
                ("dimension", int(1)),
                ("size", int(1)),
                ("step", int(1)),
            ],
        )
    };
    let data = [1.0, 2.0, 3.0, 4.0];
    let (outputs, _) = run_with_buffer(
        &windows()
            .node(
                "s",
                dense(F32, &[2, 2]),
                "add_.Scalar",
                &[("self", t("b_b")), ("other", int(0))],
            )
            .output("b_b"),
        &[2, 2],
        &data,
        &[],
    );
    assert_eq!(outputs[0].to_f64(), [1.0, 2.0, 3.0, 4.0]);
    let weight = || Weight {
        fqn: "b",
        dtype: F32,
        sizes: &[2, 2],
        bytes: floats(data),
    };
    let written = windows()
        .node(
            "z",
            meta(F32, &[2, 2, 1], &[2, 1, 1], 0),
            "zero_.default",
            &[("self", t("d"))],
        )
        .output("b_b");
    let error = written.import(&[weight()]).unwrap_err().to_string();
    assert!(
        error.contains("aten.zero_.default (1×): writing through a view by index"),
        "{error}"
    );
    let stale = windows()
        .node(
            "z",
            dense(F32, &[2, 2]),
            "zero_.default",
            &[("self", t("b_b"))],
        )
        .node(
            "n",
            dense(F32, &[2, 2, 1]),
            "neg.default",
            &[("self", t("d"))],
        )
        .output("n");
    let error = stale.import(&[weight()]).unwrap_err().to_string();
    assert!(
        error.contains("aten.neg.default (1×): reading a view by index"),
        "{error}"
    );
}

#[test]
fn the_functional_dialect_states_its_mutations() {
    let program = Program::default()
        .buffer("b", dense(F32, &[2]))
        .input("x", dense(F32, &[2]))
        .node(
            "new",
            dense(F32, &[2]),
            "mul.Tensor",
            &[("self", t("b_b")), ("other", t("x"))],
        )
        .mutation("new", "b")
        .output("b_b");
    let (outputs, state) = run_with_buffer(&program, &[2], &[1.0, 2.0], &[f32s(&[2], &[3.0, 4.0])]);
    assert_eq!(state.to_f64(), [3.0, 8.0]);
    assert_eq!(outputs[0].to_f64(), [1.0, 2.0]);
}

#[test]
fn buffers_that_nobody_writes_to_are_constants_and_zero_states_need_no_data() {
    let program = Program::default()
        .buffer("b", dense(F32, &[2]))
        .node("y", dense(F32, &[2]), "neg.default", &[("self", t("b_b"))])
        .output("y");
    let weight = || Weight {
        fqn: "b",
        dtype: F32,
        sizes: &[2],
        bytes: vec![0; 8],
    };
    let graph = program.import(&[weight()]).unwrap();
    assert!(graph.states.is_empty() && graph.constants.contains_key("b"));

    let program = program.node(
        "z",
        dense(F32, &[2]),
        "add_.Scalar",
        &[("self", t("b_b")), ("other", int(1))],
    );
    let graph = program.import(&[weight()]).unwrap();
    assert!(graph.constants.is_empty());
    assert_eq!((graph.states.len(), &graph.states[0].init), (1, &None));
}

#[test]
fn a_written_user_input_is_a_further_output() {
    let program = Program::default()
        .input("x", dense(F32, &[2]))
        .node(
            "y",
            dense(F32, &[2]),
            "mul_.Scalar",
            &[("self", t("x")), ("other", int(3))],
        )
        .node(
            "z",
            dense(F32, &[2]),
            "add.Scalar",
            &[("self", t("x")), ("other", int(1))],
        )
        .output("z");
    let graph = program.import(&[]).unwrap();
    let names: Vec<&str> = graph.outputs.iter().map(|output| &*output.name).collect();
    assert_eq!(names, ["z", "x_out"]);
    let outputs = program.run(&[f32s(&[2], &[1.0, 2.0])]);
    assert_eq!(outputs[0].to_f64(), [4.0, 7.0]);
    assert_eq!(outputs[1].to_f64(), [3.0, 6.0]);
}

#[test]
fn types_are_promoted_and_defaults_filled_in() {
    let ints = Tensor::ints(DType::I32, vec![2], vec![7, -7]).unwrap();
    let by_two = |target: &str, dtype: i64, other: Value| {
        Program::default()
            .input("x", dense(I32, &[2]))
            .node(
                "y",
                dense(dtype, &[2]),
                target,
                &[("self", t("x")), ("other", other)],
            )
            .output("y")
            .run(std::slice::from_ref(&ints))[0]
            .clone()
    };
    assert_eq!(
        by_two("mul.Tensor", F32, json!({"as_float": 0.5})).to_f64(),
        [3.5, -3.5]
    );
    assert_eq!(by_two("div.Tensor", F32, int(2)).to_f64(), [3.5, -3.5]);
    assert_eq!(
        by_two("floor_divide.default", I32, int(2)).to_i64(),
        [3, -4]
    );
    assert_eq!(by_two("remainder.Scalar", I32, int(4)).to_i64(), [3, 1]);
    assert_eq!(by_two("fmod.Scalar", I32, int(4)).to_i64(), [3, -3]);
    assert_eq!(
        by_two("lt.Scalar", BOOL, json!({"as_float": -0.5})).to_i64(),
        [0, 1]
    );

    let modes = [("trunc", [3, -3]), ("floor", [3, -4])];
    for (mode, expected) in modes {
        let inputs = [
            ("self", t("x")),
            ("other", int(2)),
            ("rounding_mode", json!({"as_string": mode})),
        ];
        let program = Program::default()
            .input("x", dense(I32, &[2]))
            .node("y", dense(I32, &[2]), "div.Tensor_mode", &inputs)
            .output("y");
        assert_eq!(
            program.run(std::slice::from_ref(&ints))[0].to_i64(),
            expected
        );
    }
}

#[test]
fn an_in_place_operator_keeps_the_dtype_it_writes_to() {
    let program = Program::default()
        .input("x", dense(BF16, &[1]))
        .input("y", dense(F32, &[1]))
        .node(
            "z",
            dense(BF16, &[1]),
            "add_.Tensor",
            &[("self", t("x")), ("other", t("y"))],
        )
        .output("z");
    let x = Tensor::floats(DType::BF16, vec![1], vec![1.0]).unwrap();
    let z = &program.run(&[x, f32s(&[1], &[0.001])])[0];
    assert_eq!((z.dtype(), z.to_f64()[0]), (DType::BF16, 1.0));
}

#[test]
fn everything_unsupported_is_listed_once_with_its_place() {
    let nonzero = |out: &str, of: &str, program: Program| {
        program.node(out, dense(I64, &[1]), "made_up.default", &[("self", t(of))])
    };
    let program = Program::default().input("x", dense(F32, &[1]));
    let program = nonzero("a", "x", program);
    // What depends on it is not reported, what comes after is.
    let program = program.node("b", dense(I64, &[1]), "neg.default", &[("self", t("a"))]);
    let program = nonzero("c", "b", program)
        .node("d", dense(F32, &[1]), "made_up.other", &[("self", t("x"))])
        .output("d");
    let Err(Error::Unsupported(all)) = program.import(&[]) else {
        panic!()
    };
    let found: Vec<_> = all
        .iter()
        .map(|one| (one.target.as_str(), one.count))
        .collect();
    assert_eq!(
        found,
        [("aten.made_up.default", 2), ("aten.made_up.other", 1)]
    );
    let message = Error::Unsupported(all).to_string();
    assert!(
        message.starts_with(
            "3 operations of the model can't be compiled:\n  aten.made_up.default (2×)"
        ),
        "{message}"
    );
    assert!(
        message.contains("first in block, model.py:1 in forward"),
        "{message}"
    );
}

#[test]
fn files_that_contradict_themselves_are_refused_with_their_place() {
    let base = || Program::default().input("x", dense(F32, &[2]));
    let unknown = base()
        .node(
            "y",
            dense(F32, &[2]),
            "neg.default",
            &[("self", t("nobody"))],
        )
        .output("y");
    let error = unknown.error();
    assert!(
        error.contains(
            "`y` = aten.neg.default in block, model.py:1 in forward: `nobody` is used before"
        ),
        "{error}"
    );

    let missing = base()
        .node("y", dense(F32, &[2]), "add.Tensor", &[("self", t("x"))])
        .output("y");
    assert!(
        missing.error().contains("argument `other` is missing"),
        "{}",
        missing.error()
    );

    let kind = base()
        .node(
            "y",
            dense(F32, &[2]),
            "add.Tensor",
            &[("self", t("x")), ("other", json!({"as_string": "1"}))],
        )
        .output("y");
    assert!(
        kind.error()
            .contains("argument `other` is a string, not a number"),
        "{}",
        kind.error()
    );

    let axis = base()
        .node(
            "y",
            dense(F32, &[2]),
            "softmax.int",
            &[("self", t("x")), ("dim", int(5))],
        )
        .output("y");
    assert!(
        axis.error().contains("axis 5 of a tensor with 1 axes"),
        "{}",
        axis.error()
    );

    let lied = base()
        .node("y", dense(F32, &[3]), "neg.default", &[("self", t("x"))])
        .output("y");
    assert!(
        lied.error()
            .contains("`y` became f32[2], but the export says f32[3]"),
        "{}",
        lied.error()
    );
}

#[test]
fn symbolic_sizes_carry_their_ranges() {
    let size = json!({"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 4}}});
    let row = |sizes: Vec<Value>| {
        let strides: Vec<Value> = sizes.iter().map(|_| int(1)).collect();
        json!({"dtype": F32, "sizes": sizes, "strides": strides, "storage_offset": int(0)})
    };
    let mut program = Program::default().input("x", row(vec![size.clone()]));
    program
        .ranges
        .insert("s0".to_owned(), json!({"min_val": 2, "max_val": 9}));
    program.sym_ints.insert("n".to_owned(), size.clone());
    program.nodes.push(json!({
        "target": "torch.ops.aten.sym_size.int",
        "inputs": [{"name": "self", "arg": t("x")}, {"name": "dim", "arg": int(0)}],
        "outputs": [{"as_sym_int": {"as_name": "n"}}],
    }));
    let double = json!({"as_expr": {"expr_str": "Mul(Integer(2), Symbol('s0'))", "hint": null}});
    let program = program
        .node(
            "both",
            row(vec![double]),
            "cat.default",
            &[(
                "tensors",
                json!({"as_tensors": [{"name": "x"}, {"name": "x"}]}),
            )],
        )
        .node(
            "scaled",
            row(vec![
                json!({"as_expr": {"expr_str": "Mul(Integer(2), Symbol('s0'))", "hint": null}}),
            ]),
            "mul.Tensor",
            &[
                ("self", t("both")),
                ("other", json!({"as_sym_int": {"as_name": "n"}})),
            ],
        )
        .output("scaled");
    let graph = program.import(&[]).unwrap();
    let range = graph.symbols.get("s0").copied().unwrap();
    assert_eq!((range.min, range.max), (2, 9));
    let outputs = graph
        .eval(&[f32s(&[2], &[1.0, 2.0])], &BTreeMap::new())
        .unwrap()
        .outputs;
    assert_eq!(outputs[0].to_f64(), [2.0, 4.0, 2.0, 4.0]);
    assert!(graph.eval(&[f32s(&[1], &[1.0])], &BTreeMap::new()).is_err());
}

#[test]
fn indexing_puts_axes_where_pytorch_does() {
    // x[:, i, j] with neighbouring indices, x[i, :, j] with separated ones.
    let x = Tensor::from_fn(DType::F32, vec![2, 3, 4], |n| {
        fuseline_ir::Scalar::float(n as f64)
    })
    .unwrap();
    let i = Tensor::ints(DType::I64, vec![2], vec![1, -1]).unwrap();
    let j = Tensor::ints(DType::I64, vec![2], vec![0, 3]).unwrap();
    let none = json!({"as_none": true});
    let pick = |indices: Value, sizes: &[i64]| {
        Program::default()
            .input("x", dense(F32, &[2, 3, 4]))
            .input("i", dense(I64, &[2]))
            .input("j", dense(I64, &[2]))
            .node(
                "y",
                dense(F32, sizes),
                "index.Tensor",
                &[
                    ("self", t("x")),
                    ("indices", json!({"as_optional_tensors": indices})),
                ],
            )
            .output("y")
            .run(&[x.clone(), i.clone(), j.clone()])[0]
            .to_f64()
    };
    assert_eq!(
        pick(json!([none, t("i"), t("j")]), &[2, 2]),
        [4.0, 11.0, 16.0, 23.0]
    );
    assert_eq!(
        pick(json!([t("i"), none, t("j")]), &[2, 3]),
        [12.0, 16.0, 20.0, 15.0, 19.0, 23.0]
    );
}

#[test]
fn index_put_writes_and_accumulates_through_several_indices() {
    let put = |accumulate: bool| {
        let inputs = [
            ("self", t("x")),
            (
                "indices",
                json!({"as_optional_tensors": [json!({"as_none": true}), t("i"), t("i")]}),
            ),
            ("values", t("v")),
            ("accumulate", json!({"as_bool": accumulate})),
        ];
        Program::default()
            .input("x", dense(F32, &[1, 2, 2]))
            .input("i", dense(I64, &[3]))
            .input("v", dense(F32, &[]))
            .node("y", dense(F32, &[1, 2, 2]), "index_put.default", &inputs)
            .output("y")
            .run(&[
                f32s(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
                Tensor::ints(DType::I64, vec![3], vec![1, 1, -2]).unwrap(),
                f32s(&[], &[10.0]),
            ])[0]
            .to_f64()
    };
    assert_eq!(put(false), [10.0, 2.0, 3.0, 10.0]);
    assert_eq!(put(true), [11.0, 2.0, 3.0, 24.0]);
}

#[test]
fn matrices_of_integers_multiply_exactly() {
    let big = 1i64 << 40;
    let program = Program::default()
        .input("a", dense(I64, &[1, 2]))
        .input("b", dense(I64, &[3, 2, 1]))
        .node(
            "y",
            dense(I64, &[3, 1, 1]),
            "matmul.default",
            &[("self", t("a")), ("other", t("b"))],
        )
        .output("y");
    let a = Tensor::ints(DType::I64, vec![1, 2], vec![big, 1]).unwrap();
    let b = Tensor::ints(DType::I64, vec![3, 2, 1], vec![3, 1, 0, 5, -1, 7]).unwrap();
    assert_eq!(program.run(&[a, b])[0].to_i64(), [3 * big + 1, 5, 7 - big]);
}
