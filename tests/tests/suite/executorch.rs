//! Files that ExecuTorch makes: those with something that few have, those that must be refused, and which instructions are covered by what.

use fuseline_program::diff::Differences;
use fuseline_program::instr::instruction_table;
use fuseline_program::{Payload, Ptd, Pte};
use fuseline_runtime::{Options, Program, Value};
use fuseline_tests::{Result, bins, cases, compare, roads, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    workspace::fixtures().join("executorch").join(name)
}

#[test]
fn several_methods_share_weights_and_constant_methods_answer() -> Result {
    let folder = fixture("two_methods");
    let program = Program::open(folder.join("model.pte"))?;
    let names: Vec<&str> = program.methods().collect();
    assert_eq!(
        names,
        [
            "forward",
            "twice",
            "get_length",
            "get_scale",
            "get_flag",
            "get_table"
        ]
    );
    let mut session = program.session()?;
    let [inputs] = &cases::read_calls(&folder.join("twice.safetensors"), "in")?[..] else {
        return Err("one call is recorded".into());
    };
    let inputs = inputs
        .iter()
        .map(roads::to_value)
        .collect::<Result<Vec<_>>>()?;
    let got = session.run("twice", &inputs)?;
    let got = got.iter().map(roads::from_value).collect::<Result<_>>()?;
    let wanted = cases::read_calls(&folder.join("twice.safetensors"), "out")?;
    let case = cases::find("executorch/two_methods")?;
    compare::check_calls(&[got], &wanted, compare::tolerance(&case))?;

    assert!(matches!(
        session.run("get_length", &[])?[..],
        [Value::Int(6)]
    ));
    assert!(matches!(session.run("get_scale", &[])?[..], [Value::Float(scale)] if scale == 0.5));
    assert!(matches!(
        session.run("get_flag", &[])?[..],
        [Value::Bool(true)]
    ));
    let table = session.run("get_table", &[])?;
    let table = table[0].as_tensor().ok_or("a tensor")?;
    assert_eq!(table.shape(), [2, 3]);
    assert_eq!(table.to_vec::<i32>()?, [0, 1, 2, 3, 4, 5]);
    Ok(())
}

/// What opening a program of this case says, with these of its files of weights.
fn refusal(name: &str, data: Vec<PathBuf>) -> String {
    let options = Options {
        data,
        ..Options::default()
    };
    let opened = Program::open_with(fixture(name).join("model.pte"), &options);
    opened
        .err()
        .map_or_else(String::new, |error| error.to_string())
}

#[test]
fn weights_that_are_in_no_file_or_in_two_are_named() -> Result {
    let all = cases::find("executorch/external_weights")?.data()?;
    assert_eq!(all.len(), 2);
    assert_eq!(refusal("external_weights", all.clone()), "");
    let none = refusal("external_weights", Vec::new());
    assert!(none.contains("/0.weight"), "{none}");
    let one = refusal("external_weights", vec![all[0].clone()]);
    assert!(one.contains("is missing"), "{one}");
    let twice = refusal("external_weights", [&all[..], &all[..1]].concat());
    assert!(twice.contains("comes twice"), "{twice}");
    let constant = refusal("external_constant", Vec::new());
    assert!(
        constant.contains("\"weight\"") && constant.contains(".ptd"),
        "{constant}"
    );
    let other = refusal("external_weights", vec![fixture("two_methods/model.pte")]);
    assert!(other.contains("not a file of external data"), "{other}");
    Ok(())
}

/// Every prefix, and every byte changed in three ways: an error or a good file, and no panic.
#[test]
fn a_broken_file_of_weights_is_refused() -> Result {
    for name in ["external_weights", "external_constant"] {
        for file in cases::find(&format!("executorch/{name}"))?.data()? {
            let whole = fs::read(&file)?;
            let good = Ptd::parse(&whole)?;
            let described = usize::try_from(good.header.segment_base)?;
            for length in 0..whole.len() {
                assert!(Ptd::parse(&whole[..length]).is_err(), "{length} bytes");
            }
            let mut bytes = whole.clone();
            for at in 0..described {
                for change in [1, 0x80, 0xff] {
                    bytes[at] ^= change;
                    if let Ok(ptd) = Ptd::parse(&bytes) {
                        drop(ptd.summary().to_string());
                    }
                    bytes[at] = whole[at];
                }
            }
        }
    }
    Ok(())
}

#[test]
fn inspect_and_diff_say_what_is_in_files_and_what_differs() -> Result {
    let two = fixture("two_methods/model.pte");
    let scan = fixture("scan/model.pte");
    let same = bins::run(
        "fuseline",
        ["diff".as_ref(), two.as_os_str(), two.as_os_str()],
    )?;
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""));
    let differ = bins::run(
        "fuseline",
        ["diff".as_ref(), two.as_os_str(), scan.as_os_str()],
    )?;
    assert_eq!(differ.code, Some(1), "{}", differ.stderr);
    for line in [
        "methods\n",
        "  - 1: twice\n",
        "weights\n",
        "  - \"linear.bias\": f32[8], 32 bytes, sha256",
    ] {
        assert!(
            differ.stdout.contains(line),
            "{line:?} in\n{}",
            differ.stdout
        );
    }
    let json = [
        "diff".as_ref(),
        "--json".as_ref(),
        two.as_os_str(),
        scan.as_os_str(),
    ];
    let json: serde_json::Value = serde_json::from_str(&bins::run("fuseline", json)?.stdout)?;
    assert!(json["weights"][0]["first"]["sha256"].is_string());
    assert_eq!(json["format"], "fuseline-differences");
    let json = ["inspect".as_ref(), "--json".as_ref(), two.as_os_str()];
    let json: serde_json::Value = serde_json::from_str(&bins::run("fuseline", json)?.stdout)?;
    assert_eq!(json["format"], "fuseline-program");
    let method = &json["methods"][0];
    assert_eq!(method["inputs"][0]["argument"], "in0");
    assert!(method["inputs"][0]["shape"].is_array(), "{method}");
    assert_eq!(method["calls"][0]["kind"], "delegate");
    let missing = bins::run(
        "fuseline",
        ["diff".as_ref(), two.as_os_str(), "none.pte".as_ref()],
    )?;
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);

    let data = &cases::find("executorch/external_weights")?.data()?[0];
    let inspected = bins::run("fuseline", ["inspect".as_ref(), data.as_os_str()])?;
    assert_eq!(inspected.code, Some(0), "{}", inspected.stderr);
    assert!(
        inspected
            .stdout
            .contains("0.weight\": f32[16, 8], 512 bytes"),
        "{}",
        inspected.stdout
    );
    let between = fixture("host_between/model.pte");
    let inspected = bins::run("fuseline", ["inspect".as_ref(), between.as_os_str()])?;
    let places = "runs on the device: 4 instructions in 2 calls; on the host: 1 call";
    assert!(inspected.stdout.contains(places), "{}", inspected.stdout);

    let exported = cases::find("modules/host_count")?.folder.join("model.pt2");
    let inspected = bins::run("fuseline", ["inspect".as_ref(), exported.as_os_str()])?;
    for line in [
        "input x: ",
        "output ",
        " operations:\n",
        "would run on the device, but for 1 call of the host\n",
    ] {
        assert!(
            inspected.stdout.contains(line),
            "{line:?} in\n{}",
            inspected.stdout
        );
    }
    Ok(())
}

/// An operator of the host with another number is another program.
#[test]
fn diff_compares_what_operators_of_the_host_take() -> Result {
    let file = fs::read(fixture("control_scan/model.pte"))?;
    let first = Pte::parse(&file)?.program;
    let mut second = first.clone();
    for value in &mut second.methods[0].values {
        if let fuseline_program::Value::Int(number) = value {
            *number += 1;
        }
    }
    assert!(Differences::between(&first, &first)?.lists.is_empty());
    let differ = Differences::between(&first, &second)?;
    let places: Vec<&str> = differ
        .lists
        .iter()
        .map(|list| list.place.as_str())
        .collect();
    assert_eq!(places, ["method \"forward\", values"]);
    Ok(())
}

/// The same instructions on other types are another program.
#[test]
fn diff_compares_types_too() -> Result {
    let folder = tempfile::tempdir()?;
    let model = cases::find("modules/activations")?.folder.join("model.pt2");
    let files = ["f32", "f16"].map(|dtype| folder.path().join(format!("{dtype}.pte")));
    for (dtype, file) in ["f32", "f16"].iter().zip(&files) {
        let done = bins::run(
            "fuseline",
            [
                "compile".as_ref(),
                model.as_os_str(),
                "--dtype".as_ref(),
                dtype.as_ref(),
                "-o".as_ref(),
                file.as_os_str(),
            ],
        )?;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let differ = bins::run(
        "fuseline",
        ["diff".as_ref(), files[0].as_os_str(), files[1].as_os_str()],
    )?;
    assert_eq!(differ.code, Some(1), "{}", differ.stderr);
    for side in ["- ", "+ "] {
        let typed = |line: &&str| {
            line.trim_start().starts_with(side) && line.contains("Gelu(") && line.contains(": f")
        };
        assert!(
            differ.stdout.lines().any(|line| typed(&line)),
            "{side:?} in\n{}",
            differ.stdout
        );
    }
    Ok(())
}

/// The fixtures with a lowered program in which an instruction stands, by the instruction's name. They are replayed end to end.
fn in_fixtures() -> Result<BTreeMap<&'static str, BTreeSet<String>>> {
    let mut found: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for case in cases::all()? {
        let Some(path) = case.lowered() else { continue };
        let file = fs::read(path)?;
        let beside = case
            .data()?
            .iter()
            .map(fs::read)
            .collect::<std::io::Result<Vec<_>>>()?;
        let beside = beside
            .iter()
            .map(|file| Ptd::parse(file))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let pte = Pte::parse_with(&file, &beside)?;
        for delegate in pte
            .program
            .methods
            .iter()
            .flat_map(|method| &method.delegates)
        {
            if let Payload::Mlx(graph) = &delegate.payload {
                for instruction in graph.chains.iter().flatten() {
                    let cases = found.entry(instruction.info().name).or_default();
                    cases.insert(case.name.clone());
                }
            }
        }
    }
    Ok(found)
}

/// The tests of the runtime that build a program with an instruction by hand, by file.
fn in_hand_made(name: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in workspace::files("runtime/tests", "rs")? {
        let text = workspace::read(&file)?;
        let made = [
            format!(" {name} {{\n"),
            format!(" {name} {{}}"),
            format!("({name} {{\n"),
        ];
        if made.iter().any(|made| text.contains(made)) {
            found.push(file);
        }
    }
    Ok(found)
}

#[test]
fn every_node_of_the_schema_is_replayed_by_a_test() -> Result {
    let fixtures = in_fixtures()?;
    let mut text = String::from(
        "# Nodes\n\nThe nodes of ExecuTorch 1.5.1's schema for its MLX delegate, and what replays each: a program that ExecuTorch wrote, among `tests/fixtures`, whose results are \
         compared with eager PyTorch's, and programs made by hand in the runtime's tests, with results worked out by hand. `MetalKernelNode` runs where Metal is; elsewhere a \
         file with it is refused by that name.\n\n| number | node | ExecuTorch's programs | made by hand in |\n|---|---|---|---|\n",
    );
    let mut bare = Vec::new();
    for info in instruction_table() {
        let programs = fixtures.get(info.name);
        let by_hand = in_hand_made(info.name)?;
        if programs.is_none() && by_hand.is_empty() {
            bare.push(info.node);
        }
        let programs = programs.map_or_else(String::new, |cases| {
            let first = cases.first().map_or("", String::as_str);
            match cases.len() {
                1 => first.to_owned(),
                more => format!("{first} and {} more", more - 1),
            }
        });
        let by_hand: Vec<String> = by_hand
            .iter()
            .filter_map(|file| Some(format!("`{}`", file.rsplit('/').next()?)))
            .collect();
        writeln!(
            text,
            "| {} | {} | {programs} | {} |",
            info.number,
            info.node,
            by_hand.join(", ")
        )?;
    }
    assert!(bare.is_empty(), "no test replays {bare:?}");
    super::documents::check("docs/nodes.md", &text)
}
