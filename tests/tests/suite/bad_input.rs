//! Bad input through the real command: the message says what and where, the exit code is the documented one, and nothing is left behind: no
//! output where there was none, the old one untouched where there was one.

use fuseline_tests::archive::Entries;
use fuseline_tests::bins::{self, Finished};
use fuseline_tests::{Result, workspace};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit codes, as `fuseline --help` lists them.
const USAGE: i32 = 2;
const UNREADABLE: i32 = 3;
const MALFORMED: i32 = 4;
const UNSUPPORTED: i32 = 5;

fn good() -> PathBuf {
    workspace::fixtures().join("modules/linear_bias/model.pt2")
}

fn compile(model: &Path, output: &Path) -> Result<Finished> {
    bins::run(
        "fuseline",
        [Path::new("compile"), model, Path::new("-o"), output],
    )
}

/// Compiles a file that must be refused, with and without an old output, and returns what was said.
fn refused(model: &Path, code: i32) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pte");
    let left = |when: &str| -> Result<Vec<String>> {
        let names = fs::read_dir(folder.path()).map_err(|e| format!("{when}: {e}"))?;
        Ok(names
            .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
            .collect())
    };
    let first = compile(model, &output)?;
    assert_eq!(first.code, Some(code), "{}", first.stderr);
    assert!(
        left("without an old output")?.is_empty(),
        "left behind: {:?}",
        left("")?
    );
    fs::write(&output, "old")?;
    let second = compile(model, &output)?;
    assert_eq!(second.code, Some(code), "{}", second.stderr);
    assert_eq!(left("with an old output")?, ["out.pte"]);
    assert_eq!(fs::read(&output)?, b"old");
    assert_eq!(first.stderr, second.stderr);
    assert!(!first.stderr.contains("panicked"), "{}", first.stderr);
    Ok(first.stderr)
}

/// As [`refused`], for these bytes in a file `broken.pt2`.
fn refused_bytes(bytes: &[u8], code: i32) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("broken.pt2");
    fs::write(&model, bytes)?;
    refused(&model, code)
}

/// As [`refused`], for a good archive after a change.
fn refused_change(change: impl FnOnce(&mut Entries) -> Result, code: i32) -> Result<String> {
    let mut entries = Entries::read(&good())?;
    change(&mut entries)?;
    refused_bytes(&entries.to_bytes()?, code)
}

/// Fails unless the message holds every one of the words.
fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "nothing of `{word}` in: {message}");
    }
}

/// The graph's nodes in a model.json.
fn nodes(model: &mut Value) -> Result<&mut Vec<Value>> {
    let nodes = model
        .pointer_mut("/graph_module/graph/nodes")
        .and_then(Value::as_array_mut);
    Ok(nodes.ok_or("no nodes")?)
}

#[test]
fn the_archive_that_all_others_are_made_of_compiles() -> Result {
    let folder = tempfile::tempdir()?;
    let model = folder.path().join("good.pt2");
    fs::write(&model, Entries::read(&good())?.to_bytes()?)?;
    let done = compile(&model, &folder.path().join("out.pte"))?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    Ok(())
}

#[test]
fn a_missing_file() -> Result {
    says(
        &refused(Path::new("no/such/model.pt2"), UNREADABLE)?,
        &["no/such/model.pt2", "No such file"],
    );
    Ok(())
}

#[test]
fn a_folder() -> Result {
    let folder = tempfile::tempdir()?;
    says(
        &refused(folder.path(), UNREADABLE)?,
        &[&folder.path().to_string_lossy()],
    );
    Ok(())
}

#[test]
fn not_a_zip() -> Result {
    let program = tempfile::tempdir()?;
    let program = program.path().join("program.pte");
    compile(&good(), &program)?;
    let kinds: [(&[u8], &str); 5] = [
        (b"import torch\nprint('hello')\n", "but text"),
        (b"", "the file is empty"),
        (b"{\"format\": 1}", "but JSON"),
        (&fs::read(&program)?, "a compiled program (.pte)"),
        (b"\x02\0\0\0\0\0\0\0{}", "a safetensors file"),
    ];
    for (bytes, kind) in kinds {
        says(
            &refused_bytes(bytes, MALFORMED)?,
            &["broken.pt2", "zip", kind],
        );
    }
    says(&refused_bytes(&[7; 64], MALFORMED)?, &["broken.pt2", "zip"]);
    Ok(())
}

#[test]
fn a_zip_that_is_cut() -> Result {
    let bytes = fs::read(good())?;
    for length in [bytes.len() - 1, bytes.len() - 30, bytes.len() / 2, 100, 4] {
        says(
            &refused_bytes(&bytes[..length], MALFORMED)?,
            &["broken.pt2", "zip"],
        );
    }
    Ok(())
}

#[test]
fn a_compressed_entry() -> Result {
    let mut bytes = fs::read(good())?;
    // The central directory's place stands in its end record, and the method of its first entry at byte 10.
    let end = bytes.len() - 22;
    let place: [u8; 4] = bytes[end + 16..end + 20].try_into()?;
    bytes[usize::try_from(u32::from_le_bytes(place))? + 10] = 8;
    says(
        &refused_bytes(&bytes, MALFORMED)?,
        &["broken.pt2", "compress"],
    );
    Ok(())
}

#[test]
fn json_that_is_cut() -> Result {
    let cut = |entries: &mut Entries| -> Result {
        let json = entries.get_mut("models/model.json")?;
        json.truncate(json.len() / 2);
        Ok(())
    };
    says(&refused_change(cut, MALFORMED)?, &["models/model.json"]);
    Ok(())
}

#[test]
fn json_of_the_wrong_types() -> Result {
    let changes: [(&str, Value, &str); 7] = [
        ("/graph_module/graph/nodes", json!("x"), "nodes"),
        ("/graph_module/graph/nodes/0/target", json!(7), "target"),
        ("/graph_module/graph/nodes/0/inputs", json!({}), "inputs"),
        (
            "/graph_module/graph/tensor_values",
            json!([1]),
            "tensor_values",
        ),
        (
            "/graph_module/signature/input_specs",
            json!(null),
            "input_specs",
        ),
        ("/range_constraints", json!([]), "range_constraints"),
        ("/schema_version/major", json!("eight"), "major"),
    ];
    for (place, value, word) in changes {
        let change = |entries: &mut Entries| {
            entries.edit_json("models/model.json", |model| {
                *model
                    .pointer_mut(place)
                    .ok_or_else(|| format!("no {place}"))? = value;
                Ok(())
            })
        };
        says(
            &refused_change(change, MALFORMED)?,
            &["models/model.json", word],
        );
    }
    Ok(())
}

#[test]
fn a_graph_that_refers_to_nothing() -> Result {
    let change = |entries: &mut Entries| {
        entries.edit_json("models/model.json", |model| {
            let input = nodes(model)?[0]
                .pointer_mut("/inputs/0/arg")
                .ok_or("no input")?;
            *input = json!({"as_tensor": {"name": "nobody"}});
            Ok(())
        })
    };
    says(&refused_change(change, MALFORMED)?, &["nobody"]);
    Ok(())
}

#[test]
fn another_schema_version() -> Result {
    let change = |entries: &mut Entries| {
        entries.edit_json("models/model.json", |model| {
            model["schema_version"]["major"] = json!(99);
            Ok(())
        })
    };
    says(&refused_change(change, UNSUPPORTED)?, &["99"]);
    Ok(())
}

#[test]
fn no_program_inside() -> Result {
    let change = |entries: &mut Entries| {
        entries.remove("models/model.json");
        Ok(())
    };
    says(&refused_change(change, MALFORMED)?, &["models/"]);
    Ok(())
}

#[test]
fn a_weight_that_is_missing() -> Result {
    let change = |entries: &mut Entries| {
        entries.remove("weights/weight_0");
        Ok(())
    };
    says(&refused_change(change, MALFORMED)?, &["weight_0", "first."]);
    Ok(())
}

#[test]
fn a_weight_of_the_wrong_size() -> Result {
    let change = |entries: &mut Entries| -> Result {
        let weight = entries.get_mut("weights/weight_0")?;
        weight.truncate(weight.len() - 4);
        Ok(())
    };
    says(
        &refused_change(change, MALFORMED)?,
        &["weight_0", "first.", "bytes"],
    );
    Ok(())
}

#[test]
fn a_pickled_weight() -> Result {
    let change = |entries: &mut Entries| {
        entries.edit_json("model_weights_config.json", |config| {
            config["config"]["first.weight"]["use_pickle"] = json!(true);
            Ok(())
        })
    };
    says(
        &refused_change(change, UNSUPPORTED)?,
        &["first.weight", "pickle", "run_decompositions({})"],
    );
    Ok(())
}

#[test]
fn unknown_ops_are_reported_at_once_with_their_places() -> Result {
    let change = |entries: &mut Entries| {
        entries.edit_json("models/model.json", |model| {
            let mut linears = 0;
            for node in nodes(model)? {
                match node["target"].as_str() {
                    Some("torch.ops.aten.linear.default") => {
                        node["target"] = json!("torch.ops.aten.fancy_linear.default");
                        linears += 1;
                    }
                    Some("torch.ops.aten.relu.default") => {
                        node["target"] = json!("torch.ops.aten.no_such_op.Tensor")
                    }
                    _ => {}
                }
            }
            assert_eq!(linears, 2);
            Ok(())
        })
    };
    let message = refused_change(change, UNSUPPORTED)?;
    assert!(
        !message.contains("linear.py"),
        "a line of PyTorch's, not of the model's: {message}"
    );
    // Both ops, how often, the module's path and the line of the model's source.
    says(
        &message,
        &[
            "aten.fancy_linear",
            "aten.no_such_op",
            "2",
            "first",
            "fixture_modules.py",
        ],
    );
    Ok(())
}

#[test]
fn an_output_folder_that_is_not_there() -> Result {
    let done = compile(&good(), Path::new("no/such/folder/out.pte"))?;
    assert_eq!(done.code, Some(UNREADABLE), "{}", done.stderr);
    says(&done.stderr, &["there is no folder no/such/folder"]);
    assert!(!done.stderr.contains(".tmp"), "{}", done.stderr);
    Ok(())
}

/// Runs `fuseline compile` in a folder with a `model.pt2`, a link to it, and `costs.json`; it must end with that code, say that, and leave all as it was.
fn refused_in_place(arguments: &[&str], code: i32, words: &[&str]) -> Result {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::copy(good(), at("model.pt2"))?;
    fs::hard_link(at("model.pt2"), at("link.pt2"))?;
    fs::write(at("costs.json"), "costs")?;
    let done = Command::new(bins::path("fuseline")?)
        .arg("compile")
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .map(bins::finished)?;
    assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.stderr);
    says(&done.stderr, words);
    assert!(done.stdout.is_empty(), "{arguments:?}");
    assert_eq!(fs::read(at("model.pt2"))?, fs::read(good())?);
    assert_eq!(fs::read(at("costs.json"))?, b"costs");
    assert_eq!(fs::read_dir(folder.path())?.count(), 3, "{arguments:?}");
    Ok(())
}

#[test]
fn nothing_that_is_read_or_written_is_written_over() -> Result {
    let all: [(&[&str], &[&str]); 7] = [
        (
            &["model.pt2", "-o", "model.pt2"],
            &["--output", "the model"],
        ),
        (
            &["model.pt2", "-o", "./link.pt2"],
            &["--output", "the model"],
        ),
        (
            &["--method", "a=link.pt2", "-o", "model.pt2"],
            &["--output", "the model"],
        ),
        (
            &["model.pt2", "-o", "x.pte", "--report", "link.pt2"],
            &["--report", "the model"],
        ),
        (
            &["model.pt2", "-o", "x.pte", "--report", "x.pte"],
            &["--report", "--output"],
        ),
        (
            &[
                "model.pt2",
                "-o",
                "x.pte",
                "--cost",
                "costs.json",
                "--report",
                "costs.json",
            ],
            &["--report", "--cost"],
        ),
        (
            &[
                "model.pt2",
                "-o",
                "x.pte",
                "--emit",
                "ir",
                "--emit-to",
                "x.pte",
            ],
            &["--emit-to", "--output"],
        ),
    ];
    for (arguments, words) in all {
        refused_in_place(arguments, USAGE, words)?;
    }
    Ok(())
}

#[test]
fn what_is_asked_for_must_be_there() -> Result {
    let all = [
        (["--host", "aten.topk"], "no operator of the model fits"),
        (["-O0", "--print-after=saturate"], "does not run at -O0"),
    ];
    for (option, words) in all {
        let arguments = [&["model.pt2", "-o", "x.pte"], &option[..]].concat();
        refused_in_place(&arguments, USAGE, &[words])?;
    }
    Ok(())
}

#[test]
fn standard_output_takes_one_text_and_no_program() -> Result {
    refused_in_place(&["model.pt2", "-o", "-"], USAGE, &["--output", "./-"])?;
    refused_in_place(
        &["model.pt2", "-o", "x.pte", "--report", "-", "--emit", "ir"],
        USAGE,
        &["--report", "--emit-to", "standard output"],
    )
}

#[test]
fn side_files_without_a_place_are_found_before_the_program_is_written() -> Result {
    for side in [
        &["--report", "no/r"][..],
        &["--emit", "ir", "--emit-to", "no/r"],
    ] {
        let arguments = [&["model.pt2", "-o", "x.pte"], side].concat();
        refused_in_place(&arguments, UNREADABLE, &["there is no folder no"])?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_no_text_is_malformed_wherever_text_is_wanted() -> Result {
    let model = good();
    let model = model.to_string_lossy();
    for arguments in [
        &["opt", &model][..],
        &["opt", "--diff", &model, &model],
        &["compile", &model, "-o", "x.pte", "--cost", &model],
        &["compile", &model, "-o", "x.pte", "--quantize-map", &model],
    ] {
        let done = bins::run("fuseline", arguments)?;
        assert_eq!(done.code, Some(MALFORMED), "{arguments:?}: {}", done.stderr);
        says(&done.stderr, &["model.pt2", "a zip archive"]);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() -> Result {
    let done = compile(&good(), Path::new("/dev/full"))?;
    assert_eq!(done.code, Some(UNREADABLE), "{}", done.stderr);
    says(&done.stderr, &["/dev/full", "No space left"]);
    Ok(())
}

/// A limit on the size of files stops the write in its middle, as a full disk does.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_while_writing() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pte");
    for old in [None, Some("old")] {
        if let Some(old) = old {
            fs::write(&output, old)?;
        }
        // One block of 512 or 1024 bytes; the signal is ignored, so that the write fails as on a full disk.
        let done = Command::new("sh")
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f 1; exec \"$0\" compile \"$1\" -o \"$2\"",
            ])
            .args([bins::path("fuseline")?, good(), output.clone()])
            .output()
            .map(bins::finished)?;
        assert_eq!(done.code, Some(UNREADABLE), "{}", done.stderr);
        says(&done.stderr, &["out.pte"]);
        let left = fs::read_dir(folder.path())?.count();
        assert_eq!(
            left,
            usize::from(old.is_some()),
            "a temporary file is left behind"
        );
        assert_eq!(fs::read_to_string(&output).ok().as_deref(), old);
    }
    Ok(())
}

#[test]
fn wrong_usage() -> Result {
    for arguments in [
        &["compile"][..],
        &["compile", "x.pt2", "-o", "y.pte", "-O7"],
        &["compile", "x.pt2", "-o", "y.pte", "--target", "abacus"],
        &["frobnicate"],
    ] {
        let done = bins::run("fuseline", arguments)?;
        assert_eq!(done.code, Some(USAGE), "{arguments:?}: {}", done.stderr);
    }
    Ok(())
}
