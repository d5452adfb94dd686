//! The canonical form changes no result: random small graphs, evaluated by the reference before and after, agree element by element.

#![cfg(test)]

mod common;
#[path = "common/graphs.rs"]
mod graphs;

use common::{Random, same, witness};
use fuseline_ir::{Graph, Loc, Tensor, Value};
use fuseline_passes::canon;
use graphs::{arguments, fragment, leaf, op, start};
use std::collections::{BTreeMap, BTreeSet};

fn random_graph(seed: u64) -> Graph {
    let mut r = Random::new(seed);
    let mut g = start();
    let mut values: Vec<Value> = g.inputs().to_vec();
    let mut tries = 0;
    while values.len() < 48 && tries < 4000 {
        tries += 1;
        if r.one_in(6) {
            values.extend(leaf(&mut r, &mut g));
            continue;
        }
        // Recent values more often, so that rules meet chains.
        let recent = values.len().saturating_sub(8);
        let choose = |r: &mut Random| {
            let from = if r.one_in(2) { recent } else { 0 };
            values[from + r.below(values.len() - from)]
        };
        let x = choose(&mut r);
        if r.one_in(8) {
            values.extend(fragment(&mut r, &mut g, x));
            continue;
        }
        let op = op(&mut r, &g, x);
        let Some(args) = arguments(&mut r, &g, &op, x, choose) else {
            continue;
        };
        values.extend(g.add(op, &args, &Loc::default()));
    }
    let used = g.use_counts();
    let ends: Vec<Value> = g
        .values()
        .map(|(v, _)| v)
        .filter(|v| used[v.index()] == 0 && g.ty(*v).as_tensor().is_some())
        .collect();
    for (n, v) in ends.iter().enumerate() {
        g.output(format!("o{n}"), *v);
    }
    g
}

/// Numbers that are hard for floats.
const HARD: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    1e-40,
    6e-8,
    0.1,
    -2.5,
    3.75,
    1e4,
    70000.0,
];

#[test]
fn canonical_form_is_exact_and_final() {
    let mut fired = BTreeSet::new();
    let mut compared = 0;
    for seed in 1..=2_000 {
        let graph = random_graph(seed);
        graph
            .verify()
            .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{graph}"));
        let (after, rules) =
            canon::canonical(&graph).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{graph}"));
        after
            .verify()
            .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{after}"));
        fired.extend(rules.iter().map(|(name, _)| *name));
        let (again, rules) = canon::canonical(&after).unwrap();
        assert!(
            again.same(&after),
            "seed {seed} is not final, {rules:?}:\n{after}\nbecomes\n{again}"
        );
        for s in [1, 3] {
            let mut r = Random::new(seed + 1);
            let inputs: Vec<Tensor> = graph
                .inputs()
                .iter()
                .map(|v| witness(&mut r, graph.tensor_ty(*v).unwrap(), s, HARD))
                .collect();
            // An index out of range, say: nothing to compare with.
            let Ok(before) = graph.eval(&inputs, &BTreeMap::new()) else {
                continue;
            };
            let now = after
                .eval(&inputs, &BTreeMap::new())
                .unwrap_or_else(|e| panic!("seed {seed}: {e}\n{after}"));
            for (n, (x, y)) in before.outputs.iter().zip(&now.outputs).enumerate() {
                assert!(
                    same(x, y),
                    "seed {seed}, s = {s}, output {n}:\n{graph}\n{after}\n{x:?}\n{y:?}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 5_000, "only {compared} outputs compared");
    let all: BTreeSet<&str> = canon::RULES
        .iter()
        .flat_map(|t| t.iter())
        .map(|r| r.name)
        .collect();
    let silent: Vec<_> = all.difference(&fired).copied().collect();
    // What the generator leaves out has a case file.
    assert_eq!(
        silent,
        [
            "and-not-both",
            "bound-nothing",
            "broadcast-heads",
            "cat-of-raised",
            "cat-signs",
            "chosen-compared",
            "compare-bounds",
            "convolution-of-one",
            "end-of-groups",
            "few-bits-cut",
            "few-bits-merged",
            "few-bits-moved",
            "few-bits-turned",
            "group-of-row",
            "mask-nothing",
            "matmul-outer",
            "not-any-not",
            "offset-size",
            "slice-of-groups",
            "split-repeated",
            "take-repeated",
            "take-rotated",
            "turned-rows",
            "update-tiled",
            "where-less",
            "where-slice",
        ]
    );
}
