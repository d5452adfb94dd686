//! ExecuTorch's custom operators for MLX, and the wrapper around those that write.

use super::*;

const CACHE: &[i64] = &[1, 1, 4, 1];

fn update(ring: i64, start: i64, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let rows = values.len() as i64;
    let program = Program::default()
        .input("cache", dense(F32, CACHE))
        .input("x", dense(F32, &[1, 1, rows, 1]))
        .call(
            &[("unused_0", dense(F32, &[1])), ("new", dense(F32, CACHE))],
            "higher_order.auto_functionalized_v2",
            &[
                (
                    "",
                    json!({"as_operator": "torch.ops.mlx.kv_cache_update.default"}),
                ),
                ("new_values", t("x")),
                ("start_pos", int(start)),
                ("ring_size", int(ring)),
                ("_cache_base_index", int(0)),
                ("_all_bases", json!({"as_tensors": [{"name": "cache"}]})),
            ],
        )
        .output("new")
        .output("cache");
    let outputs = program.run(&[
        f32s(&[1, 1, 4, 1], &[1.0, 2.0, 3.0, 4.0]),
        f32s(&[1, 1, values.len(), 1], values),
    ]);
    (outputs[0].to_f64(), outputs[1].to_f64())
}

#[test]
fn a_wrapped_update_leaves_its_argument_alone() {
    assert_eq!(
        update(0, 1, &[8.0, 9.0]),
        (vec![1.0, 8.0, 9.0, 4.0], vec![1.0, 2.0, 3.0, 4.0])
    );
    assert_eq!(update(0, 0, &[5.0, 6.0, 7.0, 8.0]).0, [5.0, 6.0, 7.0, 8.0]);
}

#[test]
fn a_ring_goes_on_at_its_beginning() {
    assert_eq!(update(4, 3, &[8.0, 9.0]).0, [9.0, 2.0, 3.0, 8.0]);
    assert_eq!(update(3, 5, &[8.0, 9.0]).0, [9.0, 2.0, 8.0, 4.0]);
}

#[test]
fn an_unknown_operator_in_the_wrapper_is_named() {
    let error = Program::default()
        .input("cache", dense(F32, CACHE))
        .call(
            &[("unused_0", dense(F32, &[1]))],
            "higher_order.auto_functionalized_v2",
            &[
                ("", json!({"as_operator": "torch.ops.mine.update.default"})),
                ("_cache_base_index", int(0)),
                ("_all_bases", json!({"as_tensors": [{"name": "cache"}]})),
            ],
        )
        .error();
    assert!(
        error.contains(
            "`mine.update.default` writes to its arguments, which a call of the host can't"
        ),
        "{error}"
    );
}

#[test]
fn attention_sees_the_filled_part_of_the_cache() {
    let qkv = |name: &str, rows: i64| (name.to_owned(), dense(F32, &[1, 1, rows, 1]));
    let mut program = Program::default();
    for (name, meta) in [qkv("q", 1), qkv("k", 4), qkv("v", 4)] {
        program = program.input(&name, meta);
    }
    let program = program
        .call(
            &[("y", dense(F32, &[1, 1, 1, 1]))],
            "mlx.custom_sdpa.default",
            &[
                ("query", t("q")),
                ("key", t("k")),
                ("value", t("v")),
                ("start_pos", int(1)),
                ("is_causal", json!({"as_bool": true})),
            ],
        )
        .output("y");
    let rows = |data: &[f64]| f32s(&[1, 1, data.len(), 1], data);
    let out = program.run(&[
        rows(&[0.0]),
        rows(&[1.0; 4]),
        rows(&[2.0, 4.0, 100.0, 100.0]),
    ]);
    assert_eq!(out[0].to_f64(), [3.0]);
}

#[test]
fn rows_go_to_their_experts_and_come_back() {
    for (rows, cutoff) in [(1i64, 1i64), (3, 1), (3, 8)] {
        let (n, k) = (rows as usize, 2usize);
        let total = rows * 2;
        let program = Program::default()
            .input("x", dense(F32, &[rows, 1]))
            .input("experts", dense(I64, &[rows, 2]))
            .call(
                &[
                    ("rows", dense(F32, &[total, 1, 1])),
                    ("chosen", dense(I32, &[total])),
                    ("sorted", dense(I32, &[])),
                    ("order", dense(I32, &[total])),
                ],
                "mlx.moe_gather_inputs.default",
                &[
                    ("x", t("x")),
                    ("expert_indices", t("experts")),
                    ("top_k", int(2)),
                    ("sort_cutoff", int(cutoff)),
                ],
            )
            .call(
                &[("back", dense(F32, &[rows, 2, 1]))],
                "mlx.moe_scatter_outputs.default",
                &[
                    ("down", t("rows")),
                    ("sort_experts", t("sorted")),
                    ("inv_order", t("order")),
                    ("top_k", int(2)),
                ],
            )
            .output("back")
            .output("chosen");
        let x: Vec<f64> = (0..n).map(|i| 10.0 + i as f64).collect();
        let experts: Vec<i64> = (0..n * k).map(|i| (7 - i as i64) % 4).collect();
        let experts = Tensor::ints(DType::I64, vec![n, k], experts).unwrap();
        let outputs = program.run(&[f32s(&[n, 1], &x), experts.clone()]);
        let repeated: Vec<f64> = x.iter().flat_map(|x| [*x, *x]).collect();
        assert_eq!(outputs[0].to_f64(), repeated);
        let mut expected = experts.to_i64();
        if rows > cutoff {
            expected.sort_unstable();
        }
        assert_eq!(outputs[1].to_i64(), expected);
    }
}

#[test]
fn a_recurrence_is_written_out() {
    // One head of one key and one value: s ← g·s; s ← s + k·beta·(v − s·k); y = s·q.
    let steps = |name: &str| (name.to_owned(), dense(F32, &[1, 2, 1, 1]));
    let mut program = Program::default();
    for (name, meta) in ["q", "k", "v"].map(steps) {
        program = program.input(&name, meta);
    }
    let program = program
        .input("g", dense(F32, &[1, 2, 1]))
        .input("beta", dense(F32, &[1, 2, 1]))
        .input("state", dense(F32, &[1, 1, 1, 1]))
        .call(
            &[("y", dense(F32, &[1, 2, 1, 1]))],
            "mlx.gated_delta_rule.default",
            &["q", "k", "v", "g", "beta", "state"].map(|name| (name, t(name))),
        )
        .output("y");
    let two = |a: f64, b: f64| f32s(&[1, 2, 1, 1], &[a, b]);
    let gate = |a: f64, b: f64| f32s(&[1, 2, 1], &[a, b]);
    let out = program.run(&[
        two(1.0, 2.0),
        two(1.0, 0.5),
        two(3.0, 4.0),
        gate(0.5, 1.0),
        gate(1.0, 0.5),
        f32s(&[1, 1, 1, 1], &[2.0]),
    ]);
    // s: 1, then 1 + (3 − 1) = 3; 3, then 3 + ½·½·(4 − 1.5) = 3.625.
    assert_eq!(out[0].to_f64(), [3.0, 7.25]);
    assert_eq!(out[1].to_f64(), [3.625]);
}

/// A call on the cache of a layer, whose keys, values and queries are `x`.
fn cached(program: Program, name: &str, layer: i64) -> Program {
    program.call(
        &[(name, dense(F32, &[1, 1, 2, 4]))],
        "kvcache.update_and_attend.default",
        &[
            ("q", t("x")),
            ("k", t("x")),
            ("v", t("x")),
            ("position", t("at")),
            ("layer_id", int(layer)),
            ("scale", json!({"as_float": 0.5})),
            ("out_dtype", json!({"as_scalar_type": F32})),
        ],
    )
}

#[test]
fn calls_on_a_sessions_caches_keep_their_order_and_are_all_needed() {
    let program = Program::default()
        .input("x", dense(F32, &[1, 1, 2, 4]))
        .input("at", dense(I64, &[2]));
    let program = cached(program, "first", 0);
    let program = cached(program, "other", 1);
    let program = cached(program, "second", 0);
    let graph = program.output("x").graph();
    let text = graph.to_string();
    assert_eq!(text.matches("update_and_attend").count(), 3, "{text}");
    let live = graph.live();
    for (value, node) in graph.values() {
        assert!(live[value.index()], "{}", graph.describe(value, node));
    }
    // The second call for layer 0 takes the first one; layer 1 has a call of its own.
    let calls = graph.nodes().iter().filter(|n| n.args.len() >= 4);
    let counts: Vec<usize> = calls.map(|n| n.args.len()).collect();
    assert_eq!(counts, [4, 4, 5], "{text}");
}

#[test]
fn a_program_of_nothing_but_calls_on_caches_is_refused() {
    let program = Program::default()
        .input("x", dense(F32, &[1, 1, 2, 4]))
        .input("at", dense(I64, &[2]));
    let error = cached(program, "first", 0).error();
    assert!(error.contains("a session's caches"), "{error}");
}
