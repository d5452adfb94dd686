//! Each row's two sides, evaluated on random witnesses.

use super::compare::{Sides, broken};
use super::witness::{Mood, Witness, witness};
use crate::build::{Planned, Ref};
use crate::egraph;
use crate::pass::Numerics;
use crate::rule::{Compiled, Rule};
use crate::rules;
use fuseline_ir::{DType, Graph, Loc, Tensor, Value};
use std::collections::BTreeMap;

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
const ROUNDS: u64 = 24;

fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Tensor, String> {
    let results = graph.eval(inputs, &BTreeMap::new());
    let mut results = results.map_err(|e| format!("{e}\n{graph}"))?;
    Ok(results.outputs.remove(0))
}

/// The witness' graph with the rule's right side as its output, for each way in which the rule fires at the root.
pub fn right_sides(rule: &Compiled, w: &Witness) -> Vec<Graph> {
    let loaded = egraph::load(&w.graph, &BTreeMap::new()).unwrap();
    let root = loaded.classes[w.graph.outputs[0].value.index()].unwrap();
    let root = loaded.egraph.find(root);
    let (matches, _) = rule.find(&loaded.egraph, 100);
    let planned = matches
        .iter()
        .filter(|m| m.root == root)
        .filter_map(|m| rule.plan(&loaded.egraph, m));
    let built = |planned: Planned| {
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
        graph
    };
    planned.map(built).collect()
}

/// The witnesses of a rule: each with its wide twin, and what it is called. `free` is a variable or letter whose sort they need not keep.
pub fn witnesses<'a>(
    rule: &'a Compiled,
    rounds: u64,
    free: Option<&'a str>,
) -> impl Iterator<Item = (String, Witness, Witness)> + 'a {
    let draws = FLOATS
        .into_iter()
        .flat_map(move |d| (0..rounds).map(move |r| (d, r)));
    draws.filter_map(move |(dtype, round)| {
        let mood = [Mood::Plain, Mood::Small, Mood::Wild][round as usize % 3];
        let make = |wide| witness(rule, dtype, mood, round, wide, free);
        Some((format!("{dtype}, round {round}"), make(false)?, make(true)?))
    })
}

/// What is wrong, by number, with the graph `right` in the place of a witness of a rule of that class.
///
/// Errors: the witness itself can't be evaluated.
pub fn wrong(
    class: Numerics,
    right: &Graph,
    w: &Witness,
    wide: &Witness,
) -> Result<Option<String>, String> {
    // Of floats: words of quantised weights and indices are no magnitudes.
    let floats = w.inputs.iter().filter(|t| t.dtype().is_float());
    let values = floats.flat_map(Tensor::to_f64).filter(|x| x.is_finite());
    let (left, exact) = (run(&w.graph, &w.inputs)?, run(&wide.graph, &wide.inputs)?);
    let right = match run(right, &w.inputs) {
        Ok(right) => right,
        Err(reason) => return Ok(Some(reason)),
    };
    let sides = Sides {
        left: &left,
        right: &right,
        exact: &exact,
        inputs: values.fold(0.0, |a: f64, x| a.max(x.abs())),
    };
    Ok(broken(class, &sides))
}

/// What is wrong with the rule, by number; and on how many witnesses it fired.
fn check(rule: &Rule) -> (usize, Option<String>) {
    let compiled = rule.compile().unwrap_or_else(|e| panic!("{e}"));
    let mut fired = 0;
    for (name, w, wide) in witnesses(&compiled, ROUNDS, None) {
        let rights = right_sides(&compiled, &w);
        fired += usize::from(!rights.is_empty());
        for right in rights {
            let what = wrong(rule.class, &right, &w, &wide).unwrap_or_else(|e| panic!("{e}"));
            if let Some(what) = what {
                let (graph, inputs) = (&w.graph, &w.inputs);
                let name = format!("{}, {name}", rule.name);
                let what = format!("{name}: {what}\n{graph}\n{right}\n{inputs:?}");
                return (fired, Some(what));
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
