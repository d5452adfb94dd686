//! Archives made byte by byte: good ones, and each way in which one can be bad.

use serde_json::{Value, json};

use super::testing::{Parts, floats, meta, open, payload};
use super::*;

/// `add = x + w`: `w` a 2×3 float32 parameter, beside it an unused constant.
fn program() -> Value {
    let tensor = |name| json!({"as_tensor": {"name": name}});
    json!({
        "graph_module": {
            "graph": {
                "inputs": [tensor("p_w"), tensor("c_c"), tensor("x")],
                "outputs": [tensor("add")],
                "nodes": [{
                    "target": "torch.ops.aten.add.Tensor",
                    "inputs": [
                        {"name": "self", "arg": tensor("x"), "kind": 1},
                        {"name": "other", "arg": tensor("p_w"), "kind": 1},
                    ],
                    "outputs": [tensor("add")],
                    "metadata": {"nn_module_stack": "k,sub,pkg.Sub"},
                    "name": "add",
                }],
                "tensor_values": {
                    "p_w": meta(7, &[2, 3], &[3, 1], 0),
                    "c_c": meta(5, &[], &[], 0),
                    "x": meta(7, &[2, 3], &[3, 1], 0),
                    "add": meta(7, &[2, 3], &[3, 1], 0),
                },
                "sym_int_values": {"n": {"as_expr": {"expr_str": "Symbol('s0')", "hint": null}}},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "sub.w"}},
                    {"tensor_constant": {"arg": {"name": "c_c"}, "tensor_constant_name": "c"}},
                    {"user_input": {"arg": tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": tensor("add")}}],
            },
        },
        "schema_version": {"major": 8, "minor": 20},
        "range_constraints": {"2*s0": {"min_val": 2, "max_val": null}},
    })
}

fn with(program: &Value, weights: Value) -> Parts {
    let constants = json!({"c": payload("tensor_0", meta(5, &[], &[], 0))});
    let weight = ("weight_0".to_owned(), floats((0..6).map(|i| i as f32)));
    let constant = ("tensor_0".to_owned(), 7i64.to_le_bytes().to_vec());
    Parts::new(program, vec![weight], weights, vec![constant], constants)
}

fn good() -> Parts {
    with(
        &program(),
        json!({"sub.w": payload("weight_0", meta(7, &[2, 3], &[3, 1], 0))}),
    )
}

/// Replaces the first occurrence, or all.
fn patch(mut bytes: Vec<u8>, from: &[u8], to: &[u8], times: usize) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    for _ in 0..times {
        at += bytes[at..]
            .windows(from.len())
            .position(|w| w == from)
            .unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn a_good_archive_opens() {
    let archive = good().open().unwrap();
    let graph = &archive.program().graph_module.graph;
    assert_eq!(graph.nodes[0].place.module, "sub");
    let weight = archive
        .weight_of(&archive.program().graph_module.signature.input_specs[0])
        .unwrap();
    assert_eq!(weight.contiguous_bytes(), floats((0..6).map(|i| i as f32)));
    assert_eq!(weight.mapped().unwrap().len(), 24);
    assert_eq!(
        &*archive.constants()["c"].contiguous_bytes(),
        7i64.to_le_bytes()
    );
}

#[test]
fn a_summary_lists_every_entry_and_groups_those_alike() {
    let mut parts = good();
    for n in 1..3 {
        parts
            .0
            .push((format!("m/data/weights/weight_{n}"), vec![0; 8]));
    }
    let archive = parts.open().unwrap();
    let summary = summary::of(&archive);
    let names: Vec<&str> = summary.entries.iter().map(|e| e.name.as_str()).collect();
    let written: Vec<&str> = parts.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, written);
    let sizes = summary.entries.iter().map(|e| e.bytes as usize);
    assert!(sizes.eq(parts.0.iter().map(|(_, bytes)| bytes.len())));
    let text = summary.to_string();
    assert!(text.contains("10 entries:\n  m/data/weights/weight_*: 3 entries, 40 bytes from "));
    assert!(
        text.contains("  m/data/constants/tensor_0: 8 bytes at "),
        "{text}"
    );
    let weight = summary.weights.iter().find(|w| w.name == "sub.w").unwrap();
    assert_eq!(weight.entry, "m/data/weights/weight_0");
}

#[test]
fn views_of_one_storage_are_gathered() {
    let mut program = program();
    program["graph_module"]["graph"]["tensor_values"]["p_w"] = meta(7, &[3, 2], &[1, 3], 0);
    let weights = json!({
        "sub.w": payload("weight_0", meta(7, &[3, 2], &[1, 3], 0)),
        "tied": payload("weight_0", meta(7, &[2], &[1], 4)),
        "empty": payload("weight_0", meta(7, &[0, 9], &[9, 1], 6)),
    });
    let archive = with(&program, weights).open().unwrap();
    let weight = &archive.weights()["sub.w"];
    assert!(weight.mapped().is_none());
    assert_eq!(
        weight.contiguous_bytes(),
        floats([0.0, 3.0, 1.0, 4.0, 2.0, 5.0])
    );
    let tied = &archive.weights()["tied"];
    assert_eq!(tied.entry, weight.entry);
    assert_eq!(&*tied.mapped().unwrap(), floats([4.0, 5.0]));
    assert!(archive.weights()["empty"].contiguous_bytes().is_empty());
}

#[test]
fn what_is_not_a_zip_is_refused() {
    assert!(matches!(
        Archive::open("/nonexistent/m.pt2"),
        Err(Error::Io { .. })
    ));
    assert!(matches!(Archive::open("/"), Err(Error::Io { .. })));
    assert!(matches!(open(b""), Err(Error::NotAZip { .. })));
    assert!(matches!(
        open(b"not a zip, but longer than the end record of one"),
        Err(Error::OtherKind { .. })
    ));
    assert!(matches!(open(&[0xa5; 64]), Err(Error::NotAZip { .. })));
    let whole = good().zip();
    for keep in [10, whole.len() / 2, whole.len() - 1] {
        assert!(open(&whole[..keep]).is_err(), "cut to {keep} bytes");
    }
}

#[test]
fn hostile_directories_are_refused() {
    let whole = good().zip();
    let twice = patch(whole.clone(), b"m/archive_format", b"m/models/model.j", 2);
    let twice = patch(twice, b"m/models/model.json", b"m/models/model.jxxx", 0);
    assert!(open(&twice).is_err());

    let mut duplicate = good();
    duplicate
        .0
        .push(("m/archive_versiom".to_owned(), b"0".to_vec()));
    let duplicate = patch(
        duplicate.zip(),
        b"m/archive_versiom",
        b"m/archive_version",
        2,
    );
    assert!(
        open(&duplicate)
            .unwrap_err()
            .to_string()
            .contains("same name")
    );

    for name in ["../escape", "/rooted", "back\\slash"] {
        let mut parts = good();
        parts.0.push(("x".repeat(name.len()), Vec::new()));
        let bytes = patch(
            parts.zip(),
            "x".repeat(name.len()).as_bytes(),
            name.as_bytes(),
            2,
        );
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains("not a plain relative path"), "{error}");
    }

    // Sizes of the first entry in the directory: 24 bytes become four gigabytes.
    let central = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let mut huge = whole.clone();
    huge[central + 20..central + 28].copy_from_slice(&[0xfe; 8]);
    assert!(open(&huge).is_err());
    let mut shifted = whole;
    shifted[central + 42] ^= 0x7f;
    assert!(open(&shifted).is_err());
}

#[test]
fn damaged_json_is_found_by_its_checksum() {
    let bytes = patch(
        good().zip(),
        b"torch.ops.aten.add.Tensor",
        b"torch.ops.aten.sub.Tensor",
        1,
    );
    let error = open(&bytes).unwrap_err().to_string();
    assert!(
        error.starts_with("entry `m/models/model.json`: its bytes have checksum"),
        "{error}"
    );
}

#[test]
fn json_errors_name_entry_path_and_position() {
    let mut cut = good();
    let json = cut.entry("models/model.json");
    json.truncate(json.len() / 2);
    let Err(Error::Json {
        entry,
        line: 1,
        column,
        ..
    }) = cut.open()
    else {
        panic!("{:?}", cut.open())
    };
    assert_eq!(entry, "m/models/model.json");
    assert!(column > 10);

    let mut wrong = program();
    wrong["graph_module"]["graph"]["nodes"][0]["target"] = json!(5);
    let Err(Error::Json {
        json_path, reason, ..
    }) = with(&wrong, json!({})).open()
    else {
        panic!()
    };
    assert_eq!(json_path, "graph_module.graph.nodes[0].target");
    assert_eq!(reason, "invalid type: integer `5`, expected a string");

    let mut wrong = program();
    wrong["graph_module"]["graph"]["sym_int_values"]["n"]["as_expr"]["expr_str"] = json!("Add(");
    let error = with(&wrong, json!({})).error();
    assert!(
        error.contains("sym_int_values.n.as_expr.expr_str")
            && error.contains("an expression is missing"),
        "{error}"
    );

    let error = with(&program(), json!({"sub.w": {"path_name": 3}})).error();
    assert!(
        error.contains("model_weights_config.json") && error.contains("config.sub.w.path_name"),
        "{error}"
    );
}

#[test]
fn missing_entries_and_versions_are_named() {
    assert!(
        good()
            .without("models/model.json")
            .error()
            .contains("no entry `m/models/model.json`")
    );
    assert!(
        good()
            .without("archive_format")
            .error()
            .contains("torch.export.save")
    );
    assert!(
        good()
            .without("data/weights/model_weights_config.json")
            .error()
            .contains("model_weights_config.json")
    );

    let mut other = good();
    *other.entry("byteorder") = b"big".to_vec();
    assert!(matches!(
        other.open(),
        Err(Error::UnsupportedVersion {
            what: "byte order",
            ..
        })
    ));
    let mut newer = program();
    newer["schema_version"]["major"] = json!(9);
    newer["graph_module"] = json!("of another shape");
    let error = with(&newer, json!({})).error();
    assert!(error.contains("schema version 9.20"), "{error}");

    let mut several = good();
    several
        .0
        .push(("m/models/second.json".to_owned(), b"{}".to_vec()));
    assert!(several.error().contains("holds 2 programs"));
}

#[test]
fn weights_that_do_not_fit_are_named() {
    assert!(matches!(
        with(&program(), json!({})).open(),
        Err(Error::MissingWeight { fqn, .. }) if fqn == "sub.w"
    ));
    assert!(
        good()
            .without("data/weights/weight_0")
            .error()
            .contains("no such entry")
    );

    let mut short = good();
    short.entry("data/weights/weight_0").truncate(23);
    let error = short.error();
    assert!(
        error.starts_with("weight `sub.w` in entry `m/data/weights/weight_0`"),
        "{error}"
    );
    assert!(
        error.contains("needs 24 bytes, but the entry has 23"),
        "{error}"
    );

    let with_meta = |meta| with(&program(), json!({"sub.w": payload("weight_0", meta)})).error();
    assert!(
        with_meta(meta(7, &[3, 2], &[2, 1], 0))
            .contains("but the graph says Float32 of sizes [2, 3]")
    );
    assert!(with_meta(meta(6, &[2, 3], &[3, 1], 0)).contains("it is Float16"));
    assert!(with_meta(meta(7, &[2, 3], &[3, 1], 1)).contains("needs 28 bytes"));
    assert!(with_meta(meta(7, &[2, 3], &[i64::MAX, 1], 0)).contains("too large"));
    assert!(with_meta(meta(7, &[i64::MAX, i64::MAX], &[0, 0], 0)).contains("too large"));
    assert!(with_meta(meta(7, &[1 << 20, 1 << 20], &[0, 0], 0)).contains("describe"));
    assert!(with_meta(meta(7, &[-2, 3], &[3, 1], 0)).contains("-2 is no size"));
    assert!(with_meta(meta(7, &[2, 3], &[3], 0)).contains("2 sizes but 1 strides"));
}

#[test]
fn pickled_weights_are_refused_with_the_way_out() {
    let mut pickled = payload("weight_0", meta(7, &[2, 3], &[3, 1], 0));
    pickled["use_pickle"] = json!(true);
    let error = with(&program(), json!({"sub.w": pickled})).error();
    assert!(
        error.contains("`sub.w`") && error.contains("run_decompositions({})"),
        "{error}"
    );
}

#[test]
fn a_signature_must_match_its_graph() {
    let mut fewer = program();
    fewer["graph_module"]["signature"]["output_specs"] = json!([]);
    assert!(with(&fewer, json!({})).error().contains("1 outputs"));
}
