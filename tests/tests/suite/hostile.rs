//! Archives that are broken at random: whatever stands in one, reading, importing and compiling it gives a program or an error, never a
//! panic, and never takes long.

use fuseline_passes::Level;
use fuseline_tests::archive::Entries;
use fuseline_tests::{Result, cases, roads, workspace};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The archives that are broken: between them they have state, views, symbolic sizes, tuples and constants.
const ARCHIVES: [&str; 4] = [
    "inplace_buffer_views",
    "symbolic_sizes",
    "state_counter",
    "gather_scatter",
];

fn runner() -> TestRunner {
    // A fixed seed: a failure here is a failure everywhere.
    TestRunner::new_with_rng(
        Config {
            cases: 96,
            failure_persistence: None,
            ..Config::default()
        },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    )
}

fn archive(name: &str) -> Result<Entries> {
    Entries::read(
        &workspace::fixtures()
            .join("modules")
            .join(name)
            .join("model.pt2"),
    )
}

/// Compiles, and forgets the error: what matters is that it comes back.
fn survive(bytes: &[u8]) -> std::result::Result<(), TestCaseError> {
    let go = || -> Result {
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model.pt2");
        fs::write(&model, bytes)?;
        let _ = roads::compile_to(&model, Level::O1, &folder.path().join("model.pte"));
        Ok(())
    };
    go().map_err(|e| TestCaseError::fail(e.to_string()))
}

/// Something to put in the place of a JSON value.
fn replacement() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!({})),
        Just(json!([])),
        Just(json!("")),
        Just(json!("x")),
        Just(json!(true)),
        Just(json!(0.5)),
        prop_oneof![
            Just(-1i64),
            Just(0),
            Just(1),
            Just(2),
            Just(7),
            Just(i64::MAX),
            Just(i64::MIN),
            Just(1 << 40)
        ]
        .prop_map(Value::from),
        prop_oneof![Just(-3i64), Just(3), Just(1 << 31)].prop_map(|n| json!({ "as_int": n })),
        Just(json!({ "as_none": true })),
    ]
}

/// The paths of all values in a document.
fn places(value: &Value, here: &mut String, found: &mut Vec<String>) {
    let mut below = |key: &str, child: &Value| {
        let length = here.len();
        here.push('/');
        here.push_str(&key.replace('~', "~0").replace('/', "~1"));
        found.push(here.clone());
        places(child, here, found);
        here.truncate(length);
    };
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| below(&i.to_string(), v)),
        Value::Object(fields) => fields.iter().for_each(|(k, v)| below(k, v)),
        _ => {}
    }
}

/// As [`survive`], of the archive with `model` for its program.
fn survive_with(mut entries: Entries, model: &Value) -> std::result::Result<(), TestCaseError> {
    let mut changed = || -> Result<Vec<u8>> {
        *entries.get_mut("models/model.json")? = serde_json::to_vec(model)?;
        entries.to_bytes()
    };
    survive(&changed().map_err(|e| TestCaseError::fail(e.to_string()))?)
}

#[test]
fn a_value_of_the_program_replaced() -> Result {
    for name in ARCHIVES {
        let mut entries = archive(name)?;
        let original: Value = serde_json::from_slice(entries.get_mut("models/model.json")?)?;
        let mut found = Vec::new();
        places(&original, &mut String::new(), &mut found);
        // What only errors look at says nothing here.
        found.retain(|place| !place.contains("/metadata/"));
        let strategy = (any::<prop::sample::Index>(), replacement());
        runner().run(&strategy, |(index, value)| {
            let mut model = original.clone();
            if let Some(place) = model.pointer_mut(&found[index.index(found.len())]) {
                *place = value;
            }
            survive_with(entries.clone(), &model)
        })?;
    }
    Ok(())
}

#[test]
fn a_node_removed_repeated_or_moved() -> Result {
    for name in ARCHIVES {
        let mut entries = archive(name)?;
        let original: Value = serde_json::from_slice(entries.get_mut("models/model.json")?)?;
        let strategy = (
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            0..3usize,
        );
        runner().run(&strategy, |(from, to, what)| {
            let mut model = original.clone();
            if let Some(nodes) = model
                .pointer_mut("/graph_module/graph/nodes")
                .and_then(Value::as_array_mut)
            {
                let (from, to) = (from.index(nodes.len()), to.index(nodes.len()));
                match what {
                    0 => drop(nodes.remove(from)),
                    1 => nodes.insert(to, nodes[from].clone()),
                    _ => nodes.swap(from, to),
                }
            }
            survive_with(entries.clone(), &model)
        })?;
    }
    Ok(())
}

#[test]
fn bytes_of_the_zip_changed() -> Result {
    let bytes =
        fs::read(Path::new(&workspace::fixtures()).join("modules/state_counter/model.pt2"))?;
    let strategy = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    runner().run(&strategy, |changes| {
        let mut broken = bytes.clone();
        for (index, value) in changes {
            let at = index.index(broken.len());
            broken[at] = value;
        }
        survive(&broken)
    })?;
    Ok(())
}

/// Changes to what an archive says of a tensor.
const CHANGES: [fn(&mut Value); 7] = [
    |meta| with_list(meta, "sizes", |all| drop(all.pop())),
    |meta| with_list(meta, "sizes", |all| all.push(json!({ "as_int": 1 }))),
    |meta| with_list(meta, "sizes", |all| all.fill(json!({ "as_int": 0 }))),
    |meta| with_list(meta, "strides", |all| drop(all.pop())),
    |meta| meta["dtype"] = json!(12),
    |meta| meta["dtype"] = json!(5),
    |meta| meta["dtype"] = json!(9),
];

fn with_list(meta: &mut Value, key: &str, change: fn(&mut Vec<Value>)) {
    if let Some(Value::Array(list)) = meta.get_mut(key) {
        change(list);
    }
}

/// What an archive says of its tensors is no more to be trusted than the rest of it: their numbers of dimensions are what handlers index by.
#[test]
fn tensors_described_otherwise() -> Result {
    let (mut tried, mut died) = (0, Vec::new());
    for case in cases::all()? {
        let Some((_, path)) = case.forms().into_iter().next() else {
            continue;
        };
        let mut entries = Entries::read(&path)?;
        let Ok(model) = entries.get_mut("models/model.json") else {
            continue;
        };
        let original: Value = serde_json::from_slice(model)?;
        let place = "/graph_module/graph/tensor_values";
        let Some(Value::Object(all)) = original.pointer(place) else {
            continue;
        };
        if all.len() > 10 {
            continue;
        }
        for name in all.keys() {
            for change in CHANGES {
                let mut model = original.clone();
                let Some(meta) = model.pointer_mut(&format!("{place}/{name}")) else {
                    continue;
                };
                change(meta);
                *entries.get_mut("models/model.json")? = serde_json::to_vec(&model)?;
                let folder = tempfile::tempdir()?;
                let file = folder.path().join("model.pt2");
                fs::write(&file, entries.to_bytes()?)?;
                let lived = std::panic::catch_unwind(|| drop(roads::imported(&file)));
                if lived.is_err() {
                    died.push(format!(
                        "{}: {name}, {}",
                        case.name,
                        model
                            .pointer(&format!("{place}/{name}"))
                            .unwrap_or(&Value::Null)
                    ));
                }
                tried += 1;
            }
        }
    }
    assert!(died.is_empty(), "{}", died.join("\n"));
    assert!(tried > 1000, "{tried}");
    Ok(())
}
