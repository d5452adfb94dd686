//! The invariants of the architecture (ARCHITECTURE.md), each one a test.

use fuseline_tests::{Result, workspace};
use std::collections::BTreeSet;
use std::process::Command;

/// The workspace's crates that each crate may depend on.
const EDGES: [(&str, &[&str]); 5] = [
    ("ir", &[]),
    ("passes", &["fuseline-ir"]),
    ("program", &[]),
    (
        "compiler",
        &["fuseline-ir", "fuseline-passes", "fuseline-program"],
    ),
    ("runtime", &["fuseline-program"]),
];

/// The names in `[dependencies]`, `[build-dependencies]` and the like of a crate; without `[dev-dependencies]`.
fn dependencies(folder: &str) -> Result<BTreeSet<String>> {
    let manifest = workspace::read(&format!("{folder}/Cargo.toml"))?;
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.contains("dependencies") && !section.contains("dev-dependencies");
        } else if inside && !line.starts_with('#') {
            let name = line.split(['=', '.']).next().unwrap_or_default().trim();
            if !name.is_empty() {
                names.insert(name.to_owned());
            }
        }
    }
    Ok(names)
}

#[test]
fn crates_depend_on_each_other_as_drawn() -> Result {
    for (folder, allowed) in EDGES {
        let found: BTreeSet<String> = dependencies(folder)?
            .into_iter()
            .filter(|name| name.starts_with("fuseline-"))
            .collect();
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        assert!(
            found.is_subset(&allowed),
            "{folder} depends on {found:?}, but may only on {allowed:?}"
        );
    }
    Ok(())
}

/// Every package that a crate pulls in, however indirectly; without what only its tests need.
fn closure(package: &str) -> Result<BTreeSet<String>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo.args([
        "tree",
        "--offline",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "-e",
        "normal,build",
        "-p",
        package,
    ]);
    let output = cargo.output()?;
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout)?;
    Ok(names
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect())
}

#[test]
fn the_compiler_builds_on_a_machine_without_mlx() -> Result {
    for package in [
        "fuseline-ir",
        "fuseline-passes",
        "fuseline-program",
        "fuseline-compiler",
    ] {
        let pulled = closure(package)?;
        let mlx: Vec<_> = pulled
            .iter()
            .filter(|name| name.starts_with("mlx"))
            .collect();
        assert!(mlx.is_empty(), "{package} pulls in {mlx:?}");
    }
    Ok(())
}

#[test]
fn the_runtime_knows_no_graph_library_and_no_archive() -> Result {
    let pulled = closure("fuseline-runtime")?;
    for name in [
        "egg",
        "petgraph",
        "zip",
        "fuseline-ir",
        "fuseline-passes",
        "fuseline-compiler",
    ] {
        assert!(!pulled.contains(name), "fuseline-runtime pulls in {name}");
    }
    Ok(())
}

#[test]
fn only_program_knows_flatbuffers() -> Result {
    for folder in workspace::CRATES.into_iter().filter(|c| *c != "program") {
        assert!(
            !dependencies(folder)?.contains("flatbuffers"),
            "{folder} depends on flatbuffers"
        );
    }
    Ok(())
}

/// The crates' sources, as (path, text without comments), but for these folders.
fn sources(crates: &[&str], except: &[&str]) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for folder in crates {
        for path in workspace::files(&format!("{folder}/src"), "rs")? {
            if !except.iter().any(|e| path.starts_with(e)) {
                let text = workspace::without_comments(&workspace::read(&path)?);
                found.push((path, text));
            }
        }
    }
    Ok(found)
}

/// Fails where one of the words stands in one of the sources.
fn refuse(sources: &[(String, String)], words: &[&str]) {
    let found: Vec<_> = sources
        .iter()
        .flat_map(|(path, text)| {
            words
                .iter()
                .filter(|w| text.contains(**w))
                .map(move |w| format!("{path}: {w}"))
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_the_importers_reader_knows_the_json_of_torch_export() -> Result {
    let others = sources(
        &["ir", "passes", "program", "compiler", "runtime"],
        &["compiler/src/pt2/"],
    )?;
    refuse(
        &others,
        &[
            "as_sym_int",
            "as_scalar_type",
            "graph_module",
            "input_specs",
            "expr_str",
            "range_constraints\"",
            "model_weights_config",
        ],
    );
    Ok(())
}

#[test]
fn only_program_knows_the_wire_format() -> Result {
    let others = sources(&["ir", "passes", "compiler", "runtime"], &[])?;
    refuse(
        &others,
        &["b\"ET12\"", "b\"eh00\"", "b\"MLX0\"", "_generated"],
    );
    Ok(())
}

#[test]
fn no_code_knows_a_model() -> Result {
    let mut all = sources(&["ir", "passes", "program", "compiler", "runtime"], &[])?;
    all.retain(|(path, _)| !path.ends_with("tests.rs") && !path.contains("/tests/"));
    for (_, text) in &mut all {
        // What follows is a file's unit tests, which may name what they were taken from.
        *text = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .to_lowercase();
    }
    refuse(
        &all,
        &[
            "llama",
            "qwen",
            "gemma",
            "gpt2",
            "phi3",
            "olmo",
            "mistral",
            "transformers",
        ],
    );
    Ok(())
}

#[test]
fn nothing_random_and_no_hash_order_decides_anything() -> Result {
    let compiling = sources(
        &["ir", "passes", "program", "compiler"],
        &["program/src/generated"],
    )?;
    refuse(
        &compiling,
        &[
            "SystemTime",
            "RandomState",
            "thread_rng",
            "HashSet::new",
            "HashMap::new",
        ],
    );
    Ok(())
}

#[test]
fn files_are_short_enough_to_read() -> Result {
    let mut long = Vec::new();
    for (path, _) in sources(&workspace::CRATES, &["program/src/generated"])? {
        let lines = workspace::read(&path)?.lines().count();
        if lines > 750 {
            long.push(format!("{path}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
    Ok(())
}

#[test]
fn no_file_names_a_machine() -> Result {
    for extension in ["rs", "toml", "md", "py", "sh", "ir", "snap"] {
        for folder in [
            "ir",
            "passes",
            "program",
            "compiler",
            "runtime",
            "tests",
            "tools",
            "snapshots",
        ] {
            if !workspace::root().join(folder).exists() {
                continue;
            }
            for path in workspace::files(folder, extension)? {
                if path.ends_with("invariants.rs") || path.ends_with("suite/fixtures.rs") {
                    continue;
                }
                let text = workspace::read(&path)?;
                for place in ["/home/", "/root/", "/work/", "/Users/"] {
                    assert!(!text.contains(place), "{path} holds a path below {place}");
                }
            }
        }
    }
    Ok(())
}
