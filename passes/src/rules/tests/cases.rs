//! Each row's case file: `tests/cases/rules/NAME.ir`, a graph on which it fires, then one or more on which it must not, and what comes out of the first as a snapshot.

use crate::pass::{PassCx, Target};
use crate::rule::Rule;
use crate::rules;
use crate::saturate::run_with;
use fuseline_ir::{Graph, text};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const FIRES: &str = "// fires";
const ON_CPU: &str = " on cpu";
const MUST_NOT: &str = "\n// must not fire";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The graphs of a case file, on which the rule fires and on which it must not, and the target that makes its right side worth choosing.
pub fn graphs(rule: &Rule) -> (Graph, Vec<Graph>, Target) {
    let path = root()
        .join("tests/cases/rules")
        .join(rule.name)
        .with_extension("ir");
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parts = file
        .strip_prefix(FIRES)
        .and_then(|f| f.split_once(MUST_NOT));
    let (fires, must_not) = parts.unwrap_or_else(|| {
        panic!(
            "{}: first `// fires`, then `// must not fire: why`",
            path.display()
        )
    });
    let read = |text: &str| {
        let graph = text::parse(text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()));
        graph
            .verify()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        graph
    };
    let after_why = |part: &str| read(part.split_once('\n').map_or("", |(_, graph)| graph));
    let must_not = must_not.split(MUST_NOT).map(after_why).collect();
    let (target, fires) = match fires.strip_prefix(ON_CPU) {
        Some(fires) => (Target::Cpu, fires),
        None => (Target::Metal, fires),
    };
    (read(fires), must_not, target)
}

#[test]
fn every_row_fires_in_its_case_and_keeps_still_in_the_other() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots/rules"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for rule in rules::all() {
        let (fires, must_not, target) = graphs(rule);
        let cx = PassCx::new(target);
        let (graph, report) = run_with(&fires, &cx, [rule]).unwrap();
        assert!(
            !report.steps.is_empty(),
            "{} doesn't fire:\n{fires}",
            rule.name
        );
        for must_not in &must_not {
            let (_, still) = run_with(must_not, &cx, [rule]).unwrap();
            assert!(still.steps.is_empty(), "{} fires:\n{must_not}", rule.name);
        }
        let mut text = String::new();
        for step in &report.steps {
            writeln!(text, "{}: {} → {}", step.value, step.before, step.after).unwrap();
        }
        write!(text, "{graph}").unwrap();
        settings.bind(|| insta::assert_snapshot!(rule.name, text));
    }
}

#[test]
fn every_case_belongs_to_a_row() {
    for entry in std::fs::read_dir(root().join("tests/cases/rules")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy();
        assert!(
            rules::find(&name).is_some(),
            "{} has no rule",
            path.display()
        );
    }
}
