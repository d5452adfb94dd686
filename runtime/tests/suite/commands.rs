//! The command `fuseline-run`: what it writes, and how it fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use fuseline_program::instr::Add;
use fuseline_program::{ScalarType, Tid};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tempfile::TempDir;

use crate::programs::{File, GraphBuilder, bytes, fixed, up_to};

/// `total += x; out = total` on up to 4 elements, the total being one that starts at zero.
fn running_total() -> File {
    let graph = GraphBuilder {
        inputs: vec![("x", up_to(ScalarType::F32, 4))],
        outputs: vec![up_to(ScalarType::F32, 4)],
        state: vec![("total", fixed(ScalarType::F32, &[1]))],
        main: vec![
            Add {
                a: Tid(0),
                b: Tid(2),
                out: Tid(1),
            }
            .into(),
            Add {
                a: Tid(2),
                b: Tid(2),
                out: Tid(2),
            }
            .into(),
        ],
        init: vec![],
        ..GraphBuilder::default()
    };
    graph.file()
}

struct Bench {
    folder: TempDir,
    file: File,
}

impl Bench {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            file: running_total(),
        }
    }

    fn inputs(&self, tensors: &[(&str, &[f32])]) {
        let data: Vec<(String, usize, Vec<u8>)> = tensors
            .iter()
            .map(|(name, floats)| ((*name).to_owned(), floats.len(), bytes(floats)))
            .collect();
        let views: BTreeMap<&String, TensorView<'_>> = data
            .iter()
            .map(|(name, length, bytes)| {
                (
                    name,
                    TensorView::new(Dtype::F32, vec![*length], bytes).expect("a view"),
                )
            })
            .collect();
        let file = safetensors::serialize(views, None).expect("a file");
        fs::write(self.folder.path().join("in.safetensors"), file).expect("written");
    }

    fn run(&self, model: &Path, outputs: &str) -> Output {
        command(&[
            "run".as_ref(),
            model,
            "--device".as_ref(),
            "cpu".as_ref(),
            "--inputs".as_ref(),
            &self.folder.path().join("in.safetensors"),
            "--outputs".as_ref(),
            &self.folder.path().join(outputs),
        ])
    }

    fn output(&self) -> BTreeMap<String, Vec<f32>> {
        let bytes = fs::read(self.folder.path().join("out.safetensors")).expect("an output file");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let floats = |view: &TensorView<'_>| {
            let each = view.data().chunks_exact(4);
            each.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect()
        };
        file.iter()
            .map(|(name, view)| (name.to_owned(), floats(&view)))
            .collect()
    }
}

fn command(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fuseline-run"))
        .args(args)
        .output()
        .expect("the command runs")
}

fn fails(output: &Output, code: i32, says: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{text}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_output_file_is_a_full_record() {
    let bench = Bench::new();
    bench.inputs(&[
        ("in0", &[1.0]),
        ("call0_in0", &[2.0, 3.0]),
        ("call1_in0", &[4.0]),
    ]);
    let output = bench.run(&bench.file.path, "out.safetensors");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let record = bench.output();
    let expected: [(&str, &[f32]); 6] = [
        ("call0_in0", &[2.0, 3.0]),
        ("call0_out0", &[2.0, 3.0]),
        ("call1_in0", &[4.0]),
        ("call1_out0", &[4.0]),
        ("in0", &[1.0]),
        ("out0", &[1.0]),
    ];
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(name, floats)| (name.to_owned(), floats.to_vec()))
        .collect();
    assert_eq!(record, expected);
}

#[test]
fn each_kind_of_failure_has_its_code() {
    let bench = Bench::new();
    bench.inputs(&[("in0", &[1.0])]);
    let out = bench.folder.path().join("out.safetensors");
    fs::write(&out, "old").expect("written");
    let missing = bench.folder.path().join("missing.pte");
    fails(&bench.run(&missing, "out.safetensors"), 3, "missing.pte");
    fails(
        &bench.run(&bench.file.path, "nowhere/out.safetensors"),
        3,
        "nowhere",
    );

    let same = bench.run(&bench.file.path, "in.safetensors");
    fails(&same, 2, "is the same file as --inputs");
    let outputs = Path::new("outputs");
    fs::copy(&bench.file.path, bench.folder.path().join(outputs)).expect("a copy");
    let same = bench.run(&bench.folder.path().join(outputs), "outputs");
    fails(&same, 2, "is the same file as the program");
    fs::remove_file(bench.folder.path().join(outputs)).expect("removed");

    let garbage = bench.folder.path().join("garbage.pte");
    fs::write(&garbage, vec![7; 4096]).expect("written");
    fails(&bench.run(&garbage, "out.safetensors"), 4, "garbage.pte");

    fails(&command(&["run".as_ref()]), 2, "--inputs");

    bench.inputs(&[("in0", &[1.0; 5])]);
    fails(
        &bench.run(&bench.file.path, "out.safetensors"),
        6,
        "input 0 (`x`) has length 5 in dimension 0, but it must be 1 to 4",
    );
    bench.inputs(&[("in0", &[1.0]), ("in1", &[1.0])]);
    fails(
        &bench.run(&bench.file.path, "out.safetensors"),
        6,
        "takes 1 input (x), not 2",
    );
    bench.inputs(&[("call0_in1", &[1.0])]);
    fails(
        &bench.run(&bench.file.path, "out.safetensors"),
        6,
        "`call0_in0` is missing",
    );
    bench.inputs(&[("x", &[1.0])]);
    fails(
        &bench.run(&bench.file.path, "out.safetensors"),
        6,
        "`x` is no name for an input",
    );
    fs::write(bench.folder.path().join("in.safetensors"), "no tensors").expect("written");
    fails(
        &bench.run(&bench.file.path, "out.safetensors"),
        4,
        "in.safetensors: not a safetensors file but text",
    );
    let archive = bench.folder.path().join("in.safetensors");
    fs::write(&archive, b"PK\x03\x04").expect("written");
    fails(
        &bench.run(&archive, "out.safetensors"),
        4,
        "compile it first",
    );

    assert_eq!(
        fs::read(&out).expect("still there"),
        b"old",
        "a failure leaves what was there"
    );
    let left = fs::read_dir(bench.folder.path()).expect("a folder").count();
    assert_eq!(left, 3, "nothing is left lying around");
}

#[test]
fn a_program_that_is_no_decoder_is_measured_by_the_call() {
    let file = running_total();
    let output = command(&[
        "bench".as_ref(),
        &file.path,
        "--device".as_ref(),
        "cpu".as_ref(),
        "--json".as_ref(),
        "--repeat".as_ref(),
        "1".as_ref(),
    ]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["device"], "cpu");
    assert!(json["call_ms"].as_f64().is_some_and(|time| time > 0.0));
}

#[test]
fn options_that_a_program_has_no_use_for_are_refused() {
    let bench = Bench::new();
    bench.inputs(&[("in0", &[1.0])]);
    let inputs = bench.folder.path().join("in.safetensors");
    let outputs = bench.folder.path().join("out.safetensors");
    let run = |option: &str| {
        command(&[
            "run".as_ref(),
            &bench.file.path,
            "--inputs".as_ref(),
            &inputs,
            "--outputs".as_ref(),
            &outputs,
            option.as_ref(),
        ])
    };
    fails(&run("--seed=1"), 2, "draws no random numbers");
    fails(&run("--kv-capacity=4"), 2, "keeps no key/value caches");
    fails(&run("--kv-dtype=f16"), 2, "keeps no key/value caches");
    let measure = |length: &str| {
        command(&[
            "bench".as_ref(),
            &bench.file.path,
            "--repeat=1".as_ref(),
            length.as_ref(),
        ])
    };
    fails(
        &measure("--length=5"),
        6,
        "a dimension of `x` may be 1 to 4",
    );
    assert!(measure("--length=4").status.success());
}
