//! The invariants of the architecture (ARCHITECTURE.md), each one a test.

use fuseline_compiler::{Options, Quiet, compile};
use fuseline_passes::{Level, PassCx};
use fuseline_program::container::WriteOptions;
use fuseline_tests::{Result, bins, cases, roads, workspace};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
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

/// As [`sources`], without tests: files of them, and what follows `#[cfg(test)]`.
fn production(crates: &[&str], except: &[&str]) -> Result<Vec<(String, String)>> {
    let mut all = sources(crates, except)?;
    all.retain(|(path, _)| !path.contains("test"));
    for (_, text) in &mut all {
        if let Some(end) = text.find("#[cfg(test)]\nmod tests {") {
            text.truncate(end);
        }
    }
    Ok(all)
}

#[test]
fn only_the_importers_reader_knows_the_json_of_torch_export() -> Result {
    let crates = ["ir", "passes", "program", "compiler", "runtime"];
    let others = production(&crates, &["compiler/src/pt2/"])?;
    refuse(
        &others,
        &[
            "\"as_",
            "\"graph_module\"",
            "\"input_specs\"",
            "\"expr_str\"",
            "weights_config",
        ],
    );
    let import = production(
        &["compiler"],
        &[
            "compiler/src/pt2/",
            "compiler/src/cli/",
            "compiler/src/report",
            // Its JSON is our own.
            "compiler/src/cost_file",
        ],
    )?;
    refuse(&import, &["serde_json::from_", "Deserialize"]);
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
    let mut all = production(&["ir", "passes", "program", "compiler", "runtime"], &[])?;
    for (_, text) in &mut all {
        *text = text.to_lowercase();
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
    refuse(&compiling, &["SystemTime", "RandomState", "thread_rng"]);
    Ok(())
}

#[test]
fn files_are_short_enough_to_read() -> Result {
    let mut long = Vec::new();
    for (path, _) in sources(&workspace::CRATES, &["program/src/generated"])? {
        let lines = workspace::read(&path)?.lines().count();
        if lines > 900 {
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

/// The names of the case files in `tests/cases/{folder}`.
fn case_files(folder: &str) -> Result<BTreeSet<String>> {
    let place = format!("tests/cases/{folder}/");
    let files = workspace::files(&place, "ir")?;
    Ok(files
        .iter()
        .map(|f| {
            f.trim_start_matches(&place)
                .trim_end_matches(".ir")
                .to_owned()
        })
        .collect())
}

#[test]
fn every_rule_has_its_case_file_and_every_case_file_its_rule() -> Result {
    let rules: BTreeSet<String> = fuseline_passes::rules::all()
        .map(|r| r.name.to_owned())
        .collect();
    assert_eq!(case_files("rules")?, rules);
    Ok(())
}

#[test]
fn every_rule_of_the_canonical_form_has_its_case_file() -> Result {
    let rules = fuseline_passes::canon::RULES.iter().copied().flatten();
    let rules: BTreeSet<String> = rules.map(|r| r.name.to_owned()).collect();
    assert_eq!(case_files("canon")?, rules);
    Ok(())
}

#[test]
fn every_op_has_a_meaning_and_a_reference_test() -> Result {
    // A unit test in the op's crate, or a fixture whose graph holds it: those are evaluated and compared with PyTorch.
    let mut tested = String::new();
    for path in workspace::files("ir", "rs")? {
        let text = workspace::read(&path)?;
        if path.contains("test") {
            tested.push_str(&text);
        } else if let Some((_, tests)) = text.split_once("#[cfg(test)]") {
            tested.push_str(tests);
        }
    }
    let mut in_fixtures = BTreeSet::new();
    for case in cases::all()? {
        for (_, path) in case.forms() {
            let Ok(graph) = roads::imported(&path) else {
                continue; // `end_to_end` says why.
            };
            let graph_after = roads::optimised(&graph, Level::O2)?;
            for node in graph.nodes().iter().chain(graph_after.nodes()) {
                in_fixtures.insert(node.op.info().name);
            }
        }
    }
    let mut missing = Vec::new();
    for row in fuseline_ir::ops::table::TABLE {
        assert!(
            !row.doc.trim().is_empty(),
            "{} has no documentation",
            row.name
        );
        let camel: String = row
            .name
            .split('_')
            .map(|part| part[..1].to_uppercase() + &part[1..])
            .collect();
        let written = [
            format!("{}(", row.name),
            format!("{}[", row.name),
            format!("{camel} {{"),
            format!("{camel}("),
        ];
        // What `host` means is its kernel's business.
        if row.name != "host"
            && !in_fixtures.contains(row.name)
            && !written.iter().any(|w| tested.contains(w.as_str()))
        {
            missing.push(row.name);
        }
    }
    assert!(
        missing.is_empty(),
        "neither a test in ir nor a fixture has {missing:?}"
    );
    Ok(())
}

/// Compiles a copy of the archive in a folder of that name, quantised where a scheme is given: by the command in another environment, or here with another
/// number of threads.
fn compiled(archive: &Path, scheme: Option<&str>, folder: &str, run: usize) -> Result<Vec<u8>> {
    let root = tempfile::tempdir()?;
    let folder = root.path().join(folder);
    std::fs::create_dir(&folder)?;
    let (input, output) = (folder.join("model.pt2"), folder.join("model.pte"));
    std::fs::copy(archive, &input)?;
    if !run.is_multiple_of(4) {
        let mut options = Options::new(&input, Level::O2, PassCx::new(roads::target()));
        options.quantize.scheme = scheme.map(str::parse).transpose()?;
        let compiled = compile(&options, &mut Quiet)?;
        let threads = NonZeroUsize::new(run);
        let write = WriteOptions {
            threads,
            ..WriteOptions::default()
        };
        compiled.program()?.write_file_with(&output, &write)?;
        return Ok(std::fs::read(output)?);
    }
    let mut command = Command::new(bins::path("fuseline")?);
    command
        .current_dir(&folder)
        .args(["compile", "model.pt2", "-o", "model.pte", "--target"])
        .arg(roads::target().to_string())
        .args(scheme.map(|scheme| format!("--quantize={scheme}")))
        .env("LC_ALL", ["C", "de_DE.UTF-8", "tr_TR.UTF-8"][run % 3])
        .env("TZ", ["UTC", "Asia/Tokyo"][run % 2])
        .env("FILLER", "x".repeat(997 * run));
    let done = command.output()?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into());
    }
    Ok(std::fs::read(output)?)
}

#[test]
fn the_same_archive_gives_the_same_bytes() -> Result {
    for (name, scheme, times) in [
        ("modules/state_counter", None, 20),
        ("modules/symbolic_sizes", None, 20),
        ("modules/linear_bias", Some("affine4g32"), 20),
        ("decoders/gemma3_cache_fp32", None, 4),
        ("decoders/llama3_cache_bf16", Some("mxfp4"), 4),
    ] {
        let archive = workspace::fixtures().join(name).join("model.pt2");
        let mut files = Vec::new();
        // One at a time, then two, then four at once: what one thread does is no other's business.
        for at_once in [1, 2, 4].into_iter().cycle() {
            let left = times - files.len();
            let runs: Vec<usize> = (files.len()..files.len() + left.min(at_once)).collect();
            let made: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
                let archive = &archive;
                let threads: Vec<_> = runs
                    .iter()
                    .map(|run| {
                        scope.spawn(move || {
                            compiled(archive, scheme, &"in here ".repeat(1 + run), *run)
                        })
                    })
                    .collect();
                let lost = || Err("a thread that panicked".into());
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|_| lost()))
                    .collect()
            });
            for file in made {
                files.push(file?);
            }
            if files.len() == times {
                break;
            }
        }
        for (run, file) in files.iter().enumerate() {
            assert!(
                *file == files[0],
                "{name}: run {run} gives other bytes than the first"
            );
        }
    }
    Ok(())
}

/// What the runtime may name of MLX outside `ops`: arrays, devices, streams and memory. Everything else computes.
const NOT_OPERATIONS: [&str; 14] = [
    "mlx_sys",
    "mlx_rs",
    "mlx_array",
    "mlx_vector",
    "mlx_device",
    "mlx_stream",
    "mlx_clear_streams",
    "mlx_dtype",
    "mlx_eval",
    "mlx_async_eval",
    "mlx_synchronize",
    "mlx_set_error_handler",
    "mlx_get_default_device",
    "mlx_default",
];

#[test]
fn one_match_over_the_instructions_names_mlx_operations() -> Result {
    let mut found = BTreeSet::new();
    let mut matches = BTreeSet::new();
    for (path, text) in production(&["runtime"], &["runtime/src/bin/"])? {
        if text.contains(" I::Addmm(") || text.contains("Instruction::Addmm(") {
            matches.insert(path.clone());
        }
        if path.starts_with("runtime/src/ops/") {
            continue;
        }
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let memory = word.contains("_memory") || word.contains("_cache");
            if word.starts_with("mlx_")
                && !memory
                && !NOT_OPERATIONS.iter().any(|n| word.starts_with(n))
            {
                found.insert(format!("{path}: {word}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "operations outside runtime/src/ops: {found:?}"
    );
    assert_eq!(
        matches,
        BTreeSet::from(["runtime/src/ops/mod.rs".to_owned()])
    );
    Ok(())
}
