//! What `inspect` and `diff` print as JSON is what docs/inspect.md says.

use fuseline_tests::{Result, bins, cases, workspace};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

/// Objects whose keys are names of the file's.
const NAMED: [&str; 3] = ["counts", "ranges", "targets"];

/// Fields that no fixture has.
const RARE: [&str; 4] = [
    "host[].module",
    "methods[].host[].module",
    "methods[].runs.elsewhere[]",
    "refused",
];

/// The fields of an object by their paths.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(entries) => {
            let names = NAMED.iter().any(|named| path.ends_with(named));
            for (key, value) in entries {
                let key = if names { "NAME" } else { key };
                let gap = if path.is_empty() { "" } else { "." };
                fields(value, &format!("{path}{gap}{key}"), found);
            }
        }
        Value::Array(items) => {
            for item in items {
                fields(item, &format!("{path}[]"), found);
            }
        }
        Value::Null => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// The fields that the document has for each format.
fn documented() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut format = String::new();
    for line in workspace::read("docs/inspect.md")?.lines() {
        if let Some(title) = line.strip_prefix("## `") {
            title
                .split('`')
                .next()
                .unwrap_or_default()
                .clone_into(&mut format);
        }
        let Some(cell) = line
            .strip_prefix("| `")
            .and_then(|row| row.split(" | ").next())
        else {
            continue;
        };
        let paths = cell
            .split(", ")
            .map(|path| path.trim_matches('`').to_owned());
        tables.entry(format.clone()).or_default().extend(paths);
    }
    Ok(tables)
}

fn printed(command: &str, files: &[&Path]) -> Result<Value> {
    let arguments = [OsStr::new(command), OsStr::new("--json")];
    let files = files.iter().map(|file| file.as_os_str());
    let done = bins::run("fuseline", arguments.into_iter().chain(files))?;
    Ok(serde_json::from_str(&done.stdout).map_err(|e| format!("{e}: {}", done.stderr))?)
}

#[test]
fn every_field_is_documented_and_every_documented_field_is_there() -> Result {
    let folder = tempfile::tempdir()?;
    let ours = folder.path().join("ours.pte");
    let host = cases::find("modules/host_count")?.folder.join("model.pt2");
    let cache = cases::find("decoders/llama3_cache_bf16")?.folder;
    let compiled = [
        OsStr::new("compile"),
        host.as_os_str(),
        OsStr::new("-o"),
        ours.as_os_str(),
    ];
    assert_eq!(bins::run("fuseline", compiled)?.code, Some(0));
    let mut files = vec![ours, host, cache.join("model_core.pt2")];
    for case in [
        "control_cond",
        "control_scan",
        "two_methods",
        "portable_movement",
        "scan",
        "node_moe_gather_inputs_N4_E8_k2_dyn",
    ] {
        let case = cases::find(&format!("executorch/{case}"))?;
        files.extend(case.lowered());
    }
    files.extend(cases::find("executorch/external_weights")?.data()?);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |value: &Value| {
        let format = value["format"].as_str().unwrap_or_default().to_owned();
        fields(value, "", found.entry(format).or_default());
    };
    for file in &files {
        add(&printed("inspect", &[file])?);
    }
    let lowered = |case: &str| {
        Ok::<_, String>(
            cases::find(case)
                .map_err(|e| e.to_string())?
                .lowered()
                .unwrap_or_default(),
        )
    };
    let (two, scan) = (
        lowered("executorch/two_methods")?,
        lowered("executorch/scan")?,
    );
    for pair in [[two.as_path(), scan.as_path()], [&scan, &two]] {
        add(&printed("diff", &pair)?);
    }
    let documented = documented()?;
    for (format, fields) in &found {
        let known = documented.get(format).cloned().unwrap_or_default();
        let new: Vec<&String> = fields.difference(&known).collect();
        assert!(new.is_empty(), "{format}: not in docs/inspect.md: {new:?}");
        let gone = known.difference(fields);
        let gone: Vec<&String> = gone
            .filter(|field| !RARE.contains(&field.as_str()))
            .collect();
        assert!(
            gone.is_empty(),
            "{format}: in docs/inspect.md alone: {gone:?}"
        );
    }
    assert!(found.keys().eq(documented.keys()), "{:?}", found.keys());
    Ok(())
}
