//! A mutation test of the whole table: a rule that is a little wrong must fail a test.
//!
//! The mutants of a row are the row with two variables of its right side exchanged, for every two, and the row without the sort of one of its variables or letters, for every one. A mutant
//! *dies* where its numbers are wrong on a witness, where it doesn't fire in the row's case, or where it fires in the part of the case in which it must not. Witnesses of a row without a sort are
//! drawn without regard to that sort.
//!
//! Two kinds of mutants are no mutants, and are recognised, not listed. *Symmetric*: after the exchange the right side is the same up to the order of the arguments of commutative ops and of
//! the terms of sums and products, or both sides are when exchanged together and the two variables have the same sort; and no witness tells them apart. *Implied*: on every witness on which the row without the sort fires, the
//! row itself fires too and gives the same graph, since ops and the other sorts leave nothing else. What kills each mutant is a snapshot.

use super::cases;
use super::sound::{right_sides, witnesses, wrong};
use crate::matcher::commutes;
use crate::pass::PassCx;
use crate::pattern::{Apply, AttrPattern, Pattern};
use crate::rule::{Compiled, Rule};
use crate::rules;
use crate::saturate::saturated_by;
use crate::sort::{Range, Sort};
use fuseline_ir::{Graph, TensorType};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Witnesses of each float dtype, at most.
const ROUNDS: u64 = 200;

/// On how many witnesses a mutant must have fired before it counts as none, and on how many it need not be tried further.
const FIRED: usize = 8;
const ENOUGH: usize = 96;

struct Mutant {
    what: String,
    rule: Compiled,
    /// The variable or letter that lost its sort.
    free: Option<&'static str>,
    /// Whether an exchange left the row as it was, by its form.
    symmetric: bool,
}

/// What became of a mutant.
enum Fate {
    Dies(&'static str),
    None(&'static str),
    Survives(String),
}

fn variables(pattern: &Pattern, out: &mut BTreeSet<(bool, usize)>) {
    match pattern {
        Pattern::Var(slot) => drop(out.insert((true, *slot))),
        Pattern::Number(_) => {}
        Pattern::Apply(apply) => {
            apply.args.iter().for_each(|a| variables(a, out));
            for (_, attr) in &apply.attrs {
                match attr {
                    AttrPattern::NumberOf(slot) => drop(out.insert((true, *slot))),
                    AttrPattern::Bind(slot) | AttrPattern::Multiple(slot, _) => {
                        out.insert((false, *slot));
                    }
                    AttrPattern::Times(bound, slot) => {
                        out.extend([(false, *bound), (true, *slot)]);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The pattern with two variables exchanged.
fn exchanged(pattern: &Pattern, a: usize, b: usize) -> Pattern {
    let other = |slot: &usize| match *slot {
        s if s == a => b,
        s if s == b => a,
        s => s,
    };
    match pattern {
        Pattern::Var(slot) => Pattern::Var(other(slot)),
        Pattern::Number(x) => Pattern::Number(*x),
        Pattern::Apply(apply) => {
            let attr = |p: &AttrPattern| match p {
                AttrPattern::NumberOf(slot) => AttrPattern::NumberOf(other(slot)),
                AttrPattern::Bind(slot) => AttrPattern::Bind(other(slot)),
                AttrPattern::Multiple(slot, n) => AttrPattern::Multiple(other(slot), *n),
                AttrPattern::Times(bound, slot) => AttrPattern::Times(other(bound), other(slot)),
                p => p.clone(),
            };
            Pattern::Apply(Apply {
                args: apply.args.iter().map(|p| exchanged(p, a, b)).collect(),
                attrs: apply
                    .attrs
                    .iter()
                    .map(|(name, p)| (name.clone(), attr(p)))
                    .collect(),
                ..apply.clone()
            })
        }
    }
}

/// The forms of an op's arguments, those of sums within sums and of products within products as if they stood in one.
fn terms(apply: &Apply, out: &mut Vec<String>) {
    for arg in &apply.args {
        match arg {
            Pattern::Apply(inner) if inner.name == apply.name && is_associative(&apply.name) => {
                terms(inner, out)
            }
            arg => out.push(form(arg)),
        }
    }
}

fn is_associative(op: &str) -> bool {
    matches!(
        op,
        "add" | "mul" | "logical_and" | "logical_or" | "maximum" | "minimum"
    )
}

/// The pattern's form, the same for all orders of a commutative op's arguments, and of those of sums of sums and products of products.
fn form(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Apply(apply) => {
            let mut args: Vec<String> = Vec::new();
            terms(apply, &mut args);
            if commutes(&apply.name) || apply.name == "product" {
                args.sort();
            }
            let (name, rest) = (&apply.name, apply.rest);
            format!("{name}{:?}{rest:?}({})", apply.attrs, args.join(", "))
        }
        leaf => format!("{leaf:?}"),
    }
}

fn sort_of(rule: &Compiled, slot: usize) -> Option<Sort> {
    let name = &rule.names.0[slot];
    let row = rule.rule.vars.iter().find(|(n, _)| n == name);
    row.map(|(_, sort)| *sort)
}

fn mutants(rule: &Compiled) -> Vec<Mutant> {
    let mut out = Vec::new();
    let mut slots = BTreeSet::new();
    variables(&rule.rhs, &mut slots);
    let lhs = Pattern::Apply(rule.lhs.clone());
    for (kind, a) in &slots {
        for (_, b) in slots.iter().filter(|(k, b)| k == kind && b > a) {
            let rhs = exchanged(&rule.rhs, *a, *b);
            let both = form(&exchanged(&lhs, *a, *b)) == form(&lhs);
            let sorts = sort_of(rule, *a) == sort_of(rule, *b);
            let (x, y) = (&rule.names.0[*a], &rule.names.0[*b]);
            out.push(Mutant {
                what: format!("{x} and {y} exchanged"),
                symmetric: form(&rhs) == form(&rule.rhs) || (both && sorts),
                rule: Compiled {
                    rhs,
                    ..rule.clone()
                },
                free: None,
            });
        }
    }
    for (name, sort) in rule.rule.vars {
        // These say where something comes from, or what the op that an attribute stands in has said already; they don't restrict anything.
        if matches!(
            sort,
            Sort::Given
                | Sort::Shape(_)
                | Sort::Order(_)
                | Sort::Flag
                | Sort::RotarySin
                | Sort::Literal(Range::Any)
        ) {
            continue;
        }
        let kept: Vec<_> = rule
            .rule
            .vars
            .iter()
            .copied()
            .filter(|(n, _)| n != name)
            .collect();
        let row = Rule {
            vars: Vec::leak(kept),
            ..rule.rule
        };
        out.push(Mutant {
            what: format!("any {name}"),
            rule: Compiled {
                rule: row,
                ..rule.clone()
            },
            free: Some(name),
            symmetric: false,
        });
    }
    out
}

fn fires(rule: &Compiled, graph: &Graph, cx: &PassCx) -> bool {
    let rules = std::slice::from_ref(rule);
    let (_, report) = saturated_by(graph, &Default::default(), cx, rules, None).unwrap();
    !report.steps.is_empty()
}

fn fate(row: &Compiled, mutant: &Mutant) -> Fate {
    let (case, must_not, target) = cases::graphs(&row.rule);
    let cx = PassCx::new(target);
    if !fires(&mutant.rule, &case, &cx) {
        return Fate::Dies("doesn't fire in its case");
    }
    if must_not.iter().any(|graph| fires(&mutant.rule, graph, &cx)) {
        return Fate::Dies("fires where it must not");
    }
    let (mut fired, mut differs): (usize, Option<(usize, String)>) = (0, None);
    // An exchange often gives ill-typed terms, which never fire.
    let rounds = if mutant.free.is_some() {
        ROUNDS
    } else {
        8 * ROUNDS
    };
    for (name, w, wide) in witnesses(row, rounds, mutant.free) {
        let mut rights = right_sides(&mutant.rule, &w);
        // Where there are no elements, nothing can be wrong.
        let outputs = w
            .graph
            .outputs
            .iter()
            .filter_map(|o| w.graph.tensor_ty(o.value).ok());
        let empty = |t: &TensorType| t.shape.iter().any(|d| d.is(0));
        if rights.is_empty() || outputs.into_iter().any(empty) {
            continue;
        }
        let mut own = Vec::new();
        if mutant.free.is_some() {
            // What the row itself would have built here has a test of its own.
            own = right_sides(row, &w);
            // Nor does it tell anything where the row fires with the laws about leading axes and heads, as it does on the whole graph.
            if own.is_empty() && fires(row, &w.graph, &cx) {
                continue;
            }
            rights.retain(|right| !own.iter().any(|own| own.same(right)));
        }
        for right in &rights {
            // A stray witness that means nothing tells nothing.
            match wrong(row.rule.class, right, &w, &wide) {
                Ok(Some(_)) => return Fate::Dies("its numbers are wrong"),
                Ok(None) if mutant.free.is_some() => {
                    let text = w.graph.to_string();
                    // The clearest one to show: where the row doesn't fire at all, with elements, of f32.
                    let ugly = 100 * own.len()
                        + text.matches("[0").count()
                        + text.matches(", 0").count()
                        + text.matches("f16").count();
                    if differs.as_ref().is_none_or(|(u, _)| ugly < *u) {
                        differs = Some((ugly, format!("{name}\n{text}")));
                    }
                }
                _ => {}
            }
        }
        fired += 1;
        let settled = mutant.free.is_some() || mutant.symmetric;
        if fired >= ENOUGH && settled && differs.is_none() {
            break;
        }
    }
    let differs = differs.map(|(_, text)| text);
    match (mutant.free, differs) {
        _ if fired < FIRED => Fate::Survives(format!("fired on {fired} witnesses only")),
        (None, _) if mutant.symmetric => Fate::None("symmetric"),
        (Some(_), None) => Fate::None("implied"),
        (_, differs) => Fate::Survives(differs.unwrap_or_default()),
    }
}

#[test]
fn every_mutant_of_every_row_dies() {
    let mut text = String::new();
    let mut survivors = Vec::new();
    for rule in rules::all() {
        let row = rule.compile().unwrap();
        for mutant in mutants(&row) {
            let fate = match fate(&row, &mutant) {
                Fate::Dies(why) => format!("dies: {why}"),
                Fate::None(why) => why.to_string(),
                Fate::Survives(how) => {
                    survivors.push(format!("{}, {}: {how}", rule.name, mutant.what));
                    continue;
                }
            };
            writeln!(text, "{}, {}: {fate}", rule.name, mutant.what).unwrap();
        }
    }
    assert!(
        survivors.is_empty(),
        "{} survive:\n{}",
        survivors.len(),
        survivors.join("\n")
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root.join("snapshots/mutants"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("rules", text));
}
