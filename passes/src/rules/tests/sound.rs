//! Each row's two sides, evaluated on random witnesses.

use super::compare::{Sides, broken};
use super::witness::{Mood, Witness, witness};
use crate::build::Ref;
use crate::egraph;
use crate::rule::{Compiled, Rule};
use crate::rules;
use fuseline_ir::{DType, Graph, Loc, Tensor, Value};
use std::collections::BTreeMap;

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
const ROUNDS: u64 = 24;

fn run(graph: &Graph, inputs: &[Tensor]) -> Tensor {
    let mut results = graph
        .eval(inputs, &BTreeMap::new())
        .unwrap_or_else(|e| panic!("{e}\n{graph}"));
    results.outputs.remove(0)
}

/// The witness' graph with the rule's right side as its output. `None` where the rule doesn't fire at the root.
fn right_side(rule: &Compiled, w: &Witness) -> Option<Graph> {
    let loaded = egraph::load(&w.graph).unwrap();
    let root = loaded.classes[w.graph.outputs[0].value.index()].unwrap();
    let root = loaded.egraph.find(root);
    let (matches, _) = rule.find(&loaded.egraph, 100);
    let planned = matches
        .iter()
        .filter(|m| m.root == root)
        .find_map(|m| rule.plan(&loaded.egraph, m))?;
    let mut graph = w.graph.clone();
    let mut new: Vec<Value> = Vec::new();
    let at = |r: &Ref, new: &[Value]| match r {
        Ref::There(id) => Value::from_index(loaded.egraph[*id].data.first.unwrap() as usize),
        Ref::New(n) => new[*n],
    };
    for (op, args) in &planned.nodes {
        let args: Vec<Value> = args.iter().map(|a| at(a, &new)).collect();
        new.push(graph.add(op.clone(), &args, &Loc::default()).unwrap());
    }
    graph.outputs[0].value = at(&planned.root, &new);
    Some(graph)
}

/// What is wrong with the rule, by number; and on how many witnesses it fired.
fn check(rule: &Rule) -> (usize, Option<String>) {
    let compiled = rule.compile().unwrap_or_else(|e| panic!("{e}"));
    let mut fired = 0;
    for dtype in FLOATS {
        for round in 0..ROUNDS {
            let mood = [Mood::Plain, Mood::Small, Mood::Wild][round as usize % 3];
            let make = |wide| witness(&compiled, dtype, mood, round, wide);
            let (Some(w), Some(wide)) = (make(false), make(true)) else {
                continue;
            };
            let Some(right) = right_side(&compiled, &w) else {
                continue;
            };
            fired += 1;
            let values = w
                .inputs
                .iter()
                .flat_map(Tensor::to_f64)
                .filter(|x| x.is_finite());
            let sides = Sides {
                left: &run(&w.graph, &w.inputs),
                right: &run(&right, &w.inputs),
                exact: &run(&wide.graph, &wide.inputs),
                inputs: values.fold(0.0, |a: f64, x| a.max(x.abs())),
            };
            if let Some(what) = broken(rule.class, &sides) {
                let inputs = &w.inputs;
                return (
                    fired,
                    Some(format!(
                        "{}, {dtype}, round {round}: {what}\n{}\n{right}\n{inputs:?}",
                        rule.name, w.graph
                    )),
                );
            }
        }
    }
    (fired, None)
}

#[test]
fn every_row_can_be_read() {
    for rule in rules::all() {
        rule.compile().unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = rules::all().map(|r| r.name).collect();
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n);
}

#[test]
fn every_row_is_sound_by_number() {
    let mut wrong = Vec::new();
    for rule in rules::all() {
        let (fired, what) = check(rule);
        if fired < 8 {
            wrong.push(format!("{}: fired on {fired} witnesses only", rule.name));
        }
        wrong.extend(what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
