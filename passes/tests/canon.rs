//! Each rule of the canonical form has a case, `tests/cases/canon/RULE.ir`, in which it fires and, where there is something to show, doesn't. The results are
//! snapshots, and the reference evaluation gives the same before and after.

#![cfg(test)]

mod common;

use common::{Random, same, witness};
use fuseline_ir::{Graph, Tensor, text};
use fuseline_passes::canon;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn case(name: &str) -> Graph {
    let path = root().join(format!("tests/cases/canon/{name}.ir"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let graph = text::parse(&text).unwrap_or_else(|e| panic!("{name}.ir:{e}"));
    graph.verify().unwrap_or_else(|e| panic!("{name}: {e}"));
    graph
}

fn names() -> Vec<&'static str> {
    canon::RULES
        .iter()
        .flat_map(|theme| theme.iter())
        .map(|r| r.name)
        .collect()
}

#[test]
fn each_rule_fires_in_its_case() {
    for name in names() {
        let (after, fired) =
            canon::canonical(&case(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        after.verify().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(
            fired.iter().any(|(rule, _)| *rule == name),
            "{name} doesn't fire:\n{after}"
        );
        let fired: Vec<String> = fired
            .iter()
            .map(|(rule, n)| format!("// {rule}: {n}\n"))
            .collect();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(root().join("snapshots/canon"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, format!("{}{after}", fired.concat())));
    }
}

#[test]
fn each_case_belongs_to_a_rule() {
    let rules: BTreeSet<String> = names().iter().map(|n| format!("{n}.ir")).collect();
    for entry in std::fs::read_dir(root().join("tests/cases/canon")).unwrap() {
        let file = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(rules.contains(&file), "{file} is the case of no rule");
    }
    assert_eq!(rules.len(), names().len(), "two rules of one name");
}

#[test]
fn each_case_keeps_its_results() {
    for name in names() {
        let before = case(name);
        let (after, _) = canon::canonical(&before).unwrap();
        for s in [1, 5] {
            let mut r = Random::new(s);
            // Numbers on which a root and a power agree.
            const NUMBERS: &[f64] = &[0.5, 1.0, 2.5, 7.0, f64::NAN, f64::INFINITY];
            let inputs: Vec<Tensor> = before
                .inputs()
                .iter()
                .map(|v| {
                    witness(
                        &mut r,
                        before.tensor_ty(*v).unwrap(),
                        s.try_into().unwrap(),
                        NUMBERS,
                    )
                })
                .collect();
            let (x, y) = (
                before.eval(&inputs, &BTreeMap::new()),
                after.eval(&inputs, &BTreeMap::new()),
            );
            if [
                "literal-pointwise",
                "operand-order",
                "reshaped-operand",
                "bias-rows",
            ]
            .contains(&name)
            {
                // One divides an integer by zero, the others have a constant without data: before and after.
                assert!(x.is_err() && y.is_err());
                continue;
            }
            let (x, y) = (
                x.unwrap_or_else(|e| panic!("{name}: {e}")),
                y.unwrap_or_else(|e| panic!("{name}: {e}")),
            );
            for (n, (x, y)) in x.outputs.iter().zip(&y.outputs).enumerate() {
                assert!(same(x, y), "{name}, s = {s}, output {n}: {x:?}\n{y:?}");
            }
        }
    }
}
