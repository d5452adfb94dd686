//! Each row's two sides, evaluated on random witnesses.

use super::compare::{Sides, broken};
use super::draw::{Draw, Mood, Special, specials};
use super::witness::{Witness, witness};
use crate::build::{Planned, Ref};
use crate::egraph;
use crate::pass::Numerics;
use crate::rule::{Compiled, Rule};
use crate::rules;
use crate::sort::{Elem, Sort};
use fuseline_ir::{DType, Graph, Loc, Tensor, Value};
use std::collections::BTreeMap;

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
const MOODS: [Mood; 4] = [Mood::Plain, Mood::Small, Mood::Wild, Mood::Large];
const ROUNDS: u64 = 24;

/// Further rounds of large numbers in `f16`, the one dtype that they come to the end of.
const LARGE_ROUNDS: u64 = 24;

/// How often a witness with a special number is drawn before the number counts as missing.
const TRIES: u64 = 60;

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
    let mood = move |round: u64| (round, MOODS[round as usize % MOODS.len()]);
    let draws = FLOATS.into_iter().flat_map(move |dtype| {
        let large = if dtype == DType::F16 { LARGE_ROUNDS } else { 0 };
        let large = (rounds..rounds + large).map(|round| (round, Mood::Large));
        let all = (0..rounds).map(mood).chain(large);
        all.map(move |(round, mood)| (dtype, round, mood))
    });
    draws.filter_map(move |(dtype, round, mood)| {
        let draw = Draw {
            mood,
            seed: round,
            special: None,
        };
        let make = |wide| witness(rule, dtype, draw, wide, free);
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

/// What is wrong with the rule on a witness; `None` where it doesn't fire.
fn check_one(rule: &Compiled, w: &Witness, wide: &Witness) -> Option<Result<(), String>> {
    let rights = right_sides(rule, w);
    let fired = !rights.is_empty();
    for right in rights {
        let what = wrong(rule.rule.class, &right, w, wide).unwrap_or_else(|e| panic!("{e}"));
        if let Some(what) = what {
            let (graph, inputs) = (&w.graph, &w.inputs);
            return Some(Err(format!("{what}\n{graph}\n{right}\n{inputs:?}")));
        }
    }
    fired.then_some(Ok(()))
}

/// What is wrong with the rule, by number; and on how many witnesses it fired.
fn check(rule: &Compiled) -> (usize, Option<String>) {
    let mut fired = 0;
    for (name, w, wide) in witnesses(rule, ROUNDS, None) {
        match check_one(rule, &w, &wide) {
            Some(Ok(())) => fired += 1,
            Some(Err(what)) => return (fired, Some(format!("{name}: {what}"))),
            None => {}
        }
    }
    (fired, None)
}

/// Whether a variable of that sort may be a tensor with that number among its elements.
fn allows(sort: Sort, number: f64) -> bool {
    match sort {
        Sort::Tensor(elem, _)
        | Sort::NotNegative(elem, _)
        | Sort::Elements(elem, _)
        | Sort::Spread(elem, _) => !matches!(elem, Elem::Bool | Elem::F32),
        Sort::Vector(..) => true,
        Sort::Tame(..) => number.abs() < 1.0,
        _ => false,
    }
}

/// What is wrong with the rule where a variable has an element that is a special number of its dtype. Each such number is drawn for each variable, in each dtype that the rule takes.
fn check_specials(rule: &Compiled) -> Option<String> {
    for (dtype, (variable, sort)) in FLOATS
        .into_iter()
        .flat_map(|d| rule.rule.vars.iter().map(move |v| (d, v)))
    {
        let numbers = specials(rule.rule.class, dtype);
        for number in numbers.into_iter().filter(|n| allows(*sort, *n)) {
            let special = Some(Special { variable, number });
            let mut drawn = false;
            for seed in 0..TRIES {
                let draw = Draw {
                    mood: Mood::Plain,
                    seed: seed + 1000,
                    special,
                };
                let make = |wide| witness(rule, dtype, draw, wide, None);
                let (Some(w), Some(wide)) = (make(false), make(true)) else {
                    continue;
                };
                match check_one(rule, &w, &wide).filter(|_| w.placed) {
                    Some(Err(what)) => {
                        return Some(format!("{dtype}, {number:e} in ?{variable}: {what}"));
                    }
                    Some(Ok(())) => {
                        drawn = true;
                        break;
                    }
                    None => {}
                }
            }
            if !drawn && takes(rule, dtype) {
                return Some(format!(
                    "{dtype}: {number:e} was never drawn for ?{variable}"
                ));
            }
        }
    }
    None
}

/// Whether the rule fires on any witness with its floats in that dtype.
fn takes(rule: &Compiled, dtype: DType) -> bool {
    (0..ROUNDS).any(|seed| {
        let draw = Draw {
            mood: Mood::Plain,
            seed,
            special: None,
        };
        let w = witness(rule, dtype, draw, false, None);
        w.is_some_and(|w| !right_sides(rule, &w).is_empty())
    })
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
        let compiled = rule.compile().unwrap_or_else(|e| panic!("{e}"));
        let (fired, what) = check(&compiled);
        if fired < 8 {
            wrong.push(format!("{}: fired on {fired} witnesses only", rule.name));
        }
        let what = what.or_else(|| check_specials(&compiled));
        wrong.extend(what.map(|what| format!("{}, {what}", rule.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Rows that are false at few numbers: what the test above is for.
#[test]
fn rows_that_are_false_at_one_number_are_found() {
    let x = ("x", Sort::Tensor(Elem::Float("T"), "L.."));
    let row = |lhs, rhs, class| Rule {
        name: "false",
        doc: "",
        vars: Vec::leak(vec![x]),
        lhs,
        rhs,
        class,
    };
    let rows = [
        row("square(rsqrt(?x))", "reciprocal(?x)", Numerics::Ulps(4)),
        row("sqrt(square(?x))", "?x", Numerics::Exact),
        row("exp(log(?x))", "?x", Numerics::Ulps(64)),
        row("square(sqrt(?x))", "?x", Numerics::Ulps(4)),
        row("mul(reciprocal(?x), square(?x))", "?x", Numerics::Ulps(8)),
    ];
    for rule in rows {
        let rule_of = rule.compile().unwrap();
        let found = check(&rule_of).1.or_else(|| check_specials(&rule_of));
        assert!(found.is_some(), "{} = {}", rule.lhs, rule.rhs);
    }
}
