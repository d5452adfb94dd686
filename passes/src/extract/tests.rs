//! The extraction against the exact one, on whole regions: attention blocks, norms, a transformer layer.

use super::exact::compare;
use super::*;
use crate::canon;
use crate::cost::Model;
use crate::egraph::{ENode, load};
use crate::pass::{PassCx, Target};
use crate::rules;
use crate::saturate::saturated;
use fuseline_ir::ops::pointwise as pw;
use fuseline_ir::text::{parse, parse_all};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The graphs of a folder of cases, by file and number.
fn cases(folder: &str) -> Vec<(String, Graph)> {
    let folder = root().join("tests/cases").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    let mut out = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let graphs = parse_all(&text).unwrap_or_else(|e| panic!("{}:{e}", path.display()));
        out.extend(
            graphs
                .into_iter()
                .enumerate()
                .map(|(n, g)| (format!("{name} {n}"), g)),
        );
    }
    out
}

/// How far the extraction is from the best graph that the e-graph holds, on every target. The gap is a snapshot: where it grows, something got worse.
#[test]
fn the_gap_to_the_best() {
    let mut text = String::new();
    let (mut tried, mut proved) = (0, 0);
    for (name, graph) in cases("egraph").into_iter().chain(cases("rules")) {
        for target in Target::ALL {
            let (graph, _) = canon::canonical(&graph).unwrap();
            let cx = PassCx::new(target);
            let (loaded, _) = saturated(&graph, &cx, rules::all()).unwrap();
            let model = Model::new(target, &graph.symbols);
            let weigh: Weigh<'_> = &|op, args, out, once| model.cost(op, args, out, once);
            let (found, exact) = compare(&graph, &loaded.egraph, &loaded.classes, weigh).unwrap();
            tried += 1;
            proved += usize::from(exact.proved);
            assert!(
                found.cost.1 >= exact.cost,
                "{name} on {target}: cheaper than the cheapest"
            );
            let gap = (found.cost.1 - exact.cost) as f64 * 100.0 / exact.cost.max(1) as f64;
            if gap > 0.0 || !exact.proved {
                let what = if exact.proved {
                    "above the best"
                } else {
                    "above a bound"
                };
                writeln!(text, "{name} on {target}: {gap:.2} % {what}").unwrap();
            }
        }
    }
    assert!(
        tried > 500 && proved * 10 > tried * 9,
        "{proved} of {tried} proved"
    );
    let summary = format!("but for these, what is found is the best graph:\n{text}");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots/extract"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("gap", summary));
}

/// Two roots that gain only together: what no change of a single class finds, and the exact search does.
#[test]
fn the_exact_search_sees_what_pays_only_together() {
    let text = r#"graph "g" {
  %x = input[name="x", ty=f32[4]]
  %a = exp(%x)
  %b = sin(%x)
  output "a" = %a
  output "b" = %b
}"#;
    let graph = parse(text).unwrap();
    let mut loaded = load(&graph, &Default::default()).unwrap();
    let class = |n: usize| loaded.classes[n].unwrap();
    let (x, a, b) = (class(0), class(1), class(2));
    let add = |egraph: &mut EGraph, op: Op, of: Id| {
        let children = vec![of];
        egraph.add(ENode { op, children })
    };
    let shared = add(&mut loaded.egraph, pw::Neg {}.into(), x);
    for (root, op) in [(a, Op::from(pw::Tanh {})), (b, Op::from(pw::Cos {}))] {
        let other = add(&mut loaded.egraph, op, shared);
        loaded.egraph.union(root, other);
    }
    loaded.egraph.rebuild();
    let weigh: Weigh<'_> = &|op, _, _, _| match op.name() {
        "exp" | "sin" => 10,
        "tanh" | "cos" => 6,
        "neg" => 7,
        _ => 1,
    };
    let (found, exact) = compare(&graph, &loaded.egraph, &loaded.classes, weigh).unwrap();
    assert_eq!(found.cost, (21, 21));
    assert_eq!((exact.cost, exact.proved), (20, true));
}

/// Two steps of a recurrent network: neither gains by leaving the product that both read, both together do.
#[test]
fn what_is_freed_only_together_is_freed() {
    let text = r#"graph "steps" {
  data "w" : f32[8, 4]
  data "u" : f32[8, 4]
  data "b" : f32[4]
  data "c" : f32[4]
  %g = input[name="g", ty=f32[1, 2, 8]]
  %h = input[name="h", ty=f32[1, 2, 8]]
  %i = input[name="i", ty=f32[5, 2, 8]]
  %w = constant[name="w", ty=f32[8, 4]]
  %u = constant[name="u", ty=f32[8, 4]]
  %b = constant[name="b", ty=f32[4]]
  %c = constant[name="c", ty=f32[4]]
  %x = addmm(%i, %u, %b)
  %x1 = slice[axis=0, start=1, stop=2, step=1](%x)
  %x2 = slice[axis=0, start=2, stop=3, step=1](%x)
  %m1 = addmm(%g, %w, %c)
  %m2 = addmm(%h, %w, %c)
  %y1 = add(%x1, %m1)
  %y2 = add(%x2, %m2)
  output "y1" = %y1
  output "y2" = %y2
}"#;
    let graph = parse(text).unwrap();
    let out = crate::saturate::run(&graph, &PassCx::new(Target::Metal)).unwrap();
    let fixed = crate::hoist::const_only(&out);
    let sums =
        |(v, n): &(Value, &fuseline_ir::Node)| matches!(n.op, Op::Add(_)) && !fixed[v.index()];
    assert_eq!(out.values().filter(sums).count(), 0, "{out}");
}
