//! Documents that show sessions and files: what they show is what is there. Blocks of three kinds are checked:
//!
//! - ```` ```console ````: lines `$ fuseline …` are run in the repository, and what they print must follow, standard error after standard output;
//! - ```` ```text PATH ````: the whole file;
//! - ```` ```rust PATH ````: a part of that file.
//!
//! Commands in ```` ```sh ```` blocks aren't run; crates and filters of tests that they name must exist. `FUSELINE_BLESS=1` renews the sessions and the files.

use fuseline_passes::pass::Numerics;
use fuseline_passes::rule::Rule;
use fuseline_passes::sort::{Elem, Sort};
use fuseline_passes::{PassCx, Target, saturate};
use fuseline_tests::{Result, bins, workspace};
use std::fs;
use std::process::Command;

const DOCUMENTS: [&str; 2] = ["README.md", "docs/writing-a-pass.md"];

/// A fenced block: its info string and its lines.
struct Block {
    info: String,
    lines: Vec<String>,
}

/// A document as text and blocks, in turn; the fences belong to the blocks.
fn parsed(text: &str) -> Vec<std::result::Result<Block, String>> {
    let mut out = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    info: info.to_string(),
                    lines: Vec::new(),
                });
            }
            (Some(_), Some("")) => out.extend(open.take().map(Ok)),
            (Some(block), _) => block.lines.push(line.to_string()),
            (None, None) => out.push(Err(line.to_string())),
        }
    }
    out
}

/// What the command line prints; it may be any of the two commands' own.
fn session(line: &str) -> Result<Vec<String>> {
    let mut words = line.split_whitespace();
    let command = words.next().unwrap_or_default();
    assert!(["fuseline", "fuseline-run"].contains(&command), "`{line}`");
    let mut process = Command::new(bins::path(command)?);
    process.current_dir(workspace::root()).args(words);
    let done = bins::finished(process.output()?);
    let text = done.stdout + &done.stderr;
    Ok(text.lines().map(str::to_string).collect())
}

/// The block as it must be.
fn checked(block: &Block) -> Result<Vec<String>> {
    let (kind, path) = block.info.split_once(' ').unwrap_or((&block.info, ""));
    match (kind, path) {
        ("console", _) => {
            let mut lines = Vec::new();
            for line in &block.lines {
                if let Some(command) = line.strip_prefix("$ ") {
                    lines.push(line.clone());
                    lines.extend(session(command)?);
                }
            }
            Ok(lines)
        }
        ("text", path) if !path.is_empty() => {
            let text = workspace::read(path)?;
            Ok(text.trim_end().lines().map(str::to_string).collect())
        }
        ("rust", path) if !path.is_empty() => {
            let part = block.lines.join("\n");
            assert!(
                workspace::read(path)?.contains(&part),
                "{path} has no\n{part}"
            );
            Ok(block.lines.clone())
        }
        ("sh", _) => {
            for line in &block.lines {
                tests_exist(line)?;
            }
            Ok(block.lines.clone())
        }
        _ => Ok(block.lines.clone()),
    }
}

/// `cargo test -p CRATE FILTER`: there is such a crate, and a module or a test whose name has the filter.
fn tests_exist(line: &str) -> Result {
    let Some((_, after)) = line.split_once("cargo test -p fuseline-") else {
        return Ok(());
    };
    let mut words = after.split_whitespace();
    let folder = words.next().unwrap_or_default();
    assert!(
        workspace::CRATES.contains(&folder),
        "`{line}`: no crate {folder}"
    );
    let Some(filter) = words.next() else {
        return Ok(());
    };
    let mut found = false;
    for path in workspace::files(folder, "rs")? {
        let text = workspace::read(&path)?;
        found |= text.contains("#[test]") && (path.contains(filter) || text.contains(filter));
    }
    assert!(found, "`{line}`: nothing is called {filter}");
    Ok(())
}

#[test]
fn documents_show_what_is_there() -> Result {
    for path in DOCUMENTS {
        let text = workspace::read(path)?;
        let mut now = String::new();
        for part in parsed(&text) {
            match part {
                Err(line) => now.push_str(&format!("{line}\n")),
                Ok(block) => {
                    let lines = checked(&block)?.join("\n");
                    now.push_str(&format!("```{}\n{lines}\n```\n", block.info));
                }
            }
        }
        if std::env::var_os("FUSELINE_BLESS").is_some() {
            fs::write(workspace::root().join(path), &now)?;
            continue;
        }
        let differs = text.lines().zip(now.lines()).find(|(a, b)| a != b);
        assert!(
            text == now,
            "{path} shows {differs:?}: run FUSELINE_BLESS=1 cargo test -p fuseline-tests documents"
        );
    }
    Ok(())
}

/// The steps of docs/writing-a-pass.md with a row of one's own: 1/eˣ is e⁻ˣ.
#[test]
fn the_steps_of_writing_a_pass() -> Result {
    let row = Rule {
        name: "exp_turned",
        doc: "1/eˣ is e⁻ˣ.",
        vars: &[("x", Sort::Tensor(Elem::Float("T"), "L.."))],
        lhs: "reciprocal(exp(?x))",
        rhs: "exp(neg(?x))",
        class: Numerics::Ulps(4),
    };
    let case = |op: &str| {
        let text = format!(
            "graph \"case\" {{ %x = input[name=\"x\", ty=f32[4]] %e = {op}(%x) %y = reciprocal(%e) output \"y\" = %y }}"
        );
        fuseline_ir::text::parse(&text)
    };
    let cx = PassCx::new(Target::Metal);
    let (graph, report) = saturate::run_with(&case("exp")?, &cx, [&row])?;
    assert_eq!(report.fired.get("exp_turned"), Some(&1));
    graph.verify()?;
    let (_, report) = saturate::run_with(&case("tanh")?, &cx, [&row])?;
    assert!(report.fired.is_empty());
    // Withheld where it would round.
    let exact = PassCx {
        numerics: Numerics::Exact,
        ..cx
    };
    let (_, report) = saturate::run_with(&case("exp")?, &exact, [&row])?;
    assert!(report.fired.is_empty());
    // A row with a mistake says which side, where, and what.
    let wrong = |row: Rule| {
        row.compile()
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    let unsorted = wrong(Rule { vars: &[], ..row });
    assert!(
        unsorted.contains("rule exp_turned, variables") && unsorted.contains("`x` has no sort")
    );
    let free = wrong(Rule {
        rhs: "exp(neg(?z))",
        ..row
    });
    assert!(
        free.contains("right") && free.contains("nothing binds `z`"),
        "{free}"
    );
    let open = wrong(Rule {
        lhs: "reciprocal(exp(?x)",
        ..row
    });
    assert!(open.contains("rule exp_turned, left: 1:"), "{open}");
    Ok(())
}
