//! The pass: the whole graph in an e-graph, all rules to a fixed point or a limit, the cheapest graph for the target out again.

use crate::cost::Model;
use crate::egraph::{self, EGraph, Loaded, add_near, place};
use crate::pass::{PassCx, PassError, verified};
use crate::proof::{self, Log};
use crate::rule::{Compiled, Match, Rule};
use crate::tables::{self, Tables};
use crate::{build, extract, heads, layers, leading, rules, sweep};
use egg::Id;
use fuseline_ir::{Graph, Op, Type, Value};
use std::collections::BTreeMap;

/// The pass's name.
pub const NAME: &str = "saturate";

/// One firing of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule.
    pub rule: &'static str,
    /// The round in which it fired, from 1.
    pub round: usize,
    /// The value of the input graph at whose place it fired.
    pub value: Value,
    /// What was there before: one term of the class.
    pub before: String,
    /// What the rule added to it.
    pub after: String,
}

/// What a saturation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How often each rule fired (those that did), in each of the layers that are alike.
    pub fired: BTreeMap<&'static str, usize>,
    /// Every firing, in order; of layers that are alike, those of the first.
    pub steps: Vec<Step>,
    /// Rounds of search and application.
    pub rounds: usize,
    /// Classes at the end.
    pub classes: usize,
    /// Nodes at the end.
    pub nodes: usize,
    /// How many layers were alike and so solved as one; 0 where the graph was solved whole.
    pub layers: usize,
    /// Which limit ended it, if one did: `rounds`, `nodes`, or a rule's `matches`.
    pub limit: Option<String>,
    /// The model's cost of the graph before and after, in picoseconds.
    pub cost: (u64, u64),
}

/// Optimises the graph for `cx.target` with every rule that `cx.numerics` allows.
///
/// Errors: a rule that can't be read, or a graph that is not valid.
pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError> {
    run_with(graph, cx, rules::all()).map(|(graph, _)| graph)
}

/// As [`run`], and what happened.
///
/// Errors: as [`run`].
pub fn report(graph: &Graph, cx: &PassCx) -> Result<(Graph, Report), PassError> {
    run_with(graph, cx, rules::all())
}

/// As [`report`], with other rules.
///
/// Errors: as [`run`].
pub fn run_with<'r>(
    graph: &Graph,
    cx: &PassCx,
    rules: impl IntoIterator<Item = &'r Rule>,
) -> Result<(Graph, Report), PassError> {
    let rules = compiled(cx, rules)?;
    let (graph, tables) = tables::declared(graph);
    let graph = &*graph;
    let Some(layers) = layers::find(graph, &tables) else {
        return solved(graph, &tables, cx, &rules);
    };
    let cut = layers.cut()?;
    let (solved_cut, mut report) = solved(&cut.graph, &tables, cx, &rules)?;
    let whole = layers.whole(&cut, &solved_cut)?;
    report.layers = layers.count();
    for step in &mut report.steps {
        step.value = cut
            .origin
            .get(step.value.index())
            .copied()
            .unwrap_or(step.value);
        *report.fired.entry(step.rule).or_insert(0) += layers.times(step.value) - 1;
    }
    let model = Model::of(cx, &graph.symbols);
    let weigh = |op: &Op, args: &[&Type], out: &Type, once: bool| model.cost(op, args, out, once);
    let cost = |g: &Graph| extract::graph_cost(g, &weigh);
    report.cost = (cost(graph), cost(&whole));
    // What the layers share is weighed against one of them; should that ever mislead, the graph is solved whole.
    if report.cost.1 > report.cost.0 {
        return solved(graph, &tables, cx, &rules);
    }
    let out = sweep::sweep(&whole).map_err(PassError::op(NAME, "the sweep at the end"))?;
    Ok((verified(NAME, out)?, report))
}

/// One e-graph for the whole of a graph.
fn solved(
    graph: &Graph,
    tables: &Tables,
    cx: &PassCx,
    rules: &[Compiled],
) -> Result<(Graph, Report), PassError> {
    let (Loaded { egraph, classes }, mut report) = saturated_by(graph, tables, cx, rules, None)?;
    let model = Model::of(cx, &graph.symbols);
    let weigh = |op: &Op, args: &[&Type], out: &Type, once: bool| model.cost(op, args, out, once);
    let (out, cost) = extract::extract(graph, &egraph, &classes, &weigh)?;
    report.cost = cost;
    Ok((verified(NAME, out)?, report))
}

/// A saturation with the proof of everything that it found.
pub struct Proved {
    /// The e-graph.
    pub loaded: Loaded,
    /// What was done to it.
    pub log: Log,
    /// The graph that was taken out.
    pub graph: Graph,
    /// The class of each of its values.
    pub chosen: Vec<Id>,
}

/// As [`run`], with every rule's firings kept so that they can be explained. The graph is solved whole, also where [`run`] solves layers that are alike as one.
///
/// Errors: as [`run`].
pub fn proved(graph: &Graph, cx: &PassCx) -> Result<Proved, PassError> {
    let mut log = Log::default();
    let rules = compiled(cx, rules::all())?;
    let (graph, tables) = tables::declared(graph);
    let graph = &*graph;
    let (loaded, _) = saturated_by(graph, &tables, cx, &rules, Some(&mut log))?;
    let model = Model::of(cx, &graph.symbols);
    let weigh = |op: &Op, args: &[&Type], out: &Type, once: bool| model.cost(op, args, out, once);
    let choice = extract::choose(graph, &loaded.egraph, &loaded.classes, &weigh)?;
    Ok(Proved {
        log,
        graph: verified(NAME, choice.graph)?,
        chosen: choice.classes,
        loaded,
    })
}

/// The graph's e-graph with everything that the rules find.
///
/// Errors: as [`run`].
pub fn saturated<'r>(
    graph: &Graph,
    cx: &PassCx,
    rules: impl IntoIterator<Item = &'r Rule>,
) -> Result<(Loaded, Report), PassError> {
    let rules = compiled(cx, rules)?;
    let (graph, tables) = tables::declared(graph);
    saturated_by(&graph, &tables, cx, &rules, None)
}

/// The rules that `cx.numerics` allows, ready to be applied.
fn compiled<'r>(
    cx: &PassCx,
    rules: impl IntoIterator<Item = &'r Rule>,
) -> Result<Vec<Compiled>, PassError> {
    let allowed = rules.into_iter().filter(|r| r.class <= cx.numerics);
    allowed.map(Rule::compile).collect()
}

/// As [`saturated`], with rules that have been compiled, tables that have been found, and with every firing written to a log.
///
/// Errors: as [`run`].
pub fn saturated_by(
    graph: &Graph,
    tables: &Tables,
    cx: &PassCx,
    rules: &[Compiled],
    mut log: Option<&mut Log>,
) -> Result<(Loaded, Report), PassError> {
    let mut loaded = egraph::load(graph, tables)?;
    let mut report = Report::default();
    on_four_axes(graph, &mut loaded, &mut report, log.as_deref_mut());
    saturate(&mut loaded.egraph, rules, cx, &mut report, log);
    report.classes = loaded.egraph.number_of_classes();
    report.nodes = loaded.egraph.total_number_of_nodes();
    Ok((loaded, report))
}

/// Gives each attention that isn't written on four axes its twin that is.
fn on_four_axes(graph: &Graph, loaded: &mut Loaded, report: &mut Report, log: Option<&mut Log>) {
    let egraph = &mut loaded.egraph;
    let twins = heads::add(graph, egraph, &loaded.classes);
    let mut log = log;
    for (value, twin) in twins {
        let Some(class) = loaded.classes[value.index()] else {
            continue;
        };
        if let Some(log) = &mut log {
            let (left, right) = (proof::node_of(egraph, class), proof::node_of(egraph, twin));
            log.record(heads::NAME, 0, left, right);
        }
        egraph.union(class, twin);
        *report.fired.entry(heads::NAME).or_insert(0) += 1;
    }
    egraph.rebuild();
}

fn saturate(
    egraph: &mut EGraph,
    rules: &[Compiled],
    cx: &PassCx,
    report: &mut Report,
    mut log: Option<&mut Log>,
) {
    let limits = cx.limits;
    let most = limits
        .nodes
        .max(limits.growth.saturating_mul(egraph.total_number_of_nodes()));
    loop {
        if report.rounds == limits.rounds {
            report.limit = Some("rounds".into());
            return;
        }
        report.rounds += 1;
        let mut found = Vec::new();
        for rule in rules {
            let (matches, more) = rule.find(egraph, limits.matches);
            if more {
                report.limit = Some(format!("matches of {}", rule.rule.name));
            }
            // Nodes are named by their numbers in their classes, so what matched is written down before anything changes.
            let left = |m: &Match| log.as_ref().and_then(|_| proof::matched(egraph, rule, m));
            found.extend(matches.into_iter().map(|m| (rule, left(&m), m)));
        }
        let mut changed = false;
        for (rule, left, m) in found {
            let Some(planned) = rule.plan(egraph, &m) else {
                continue;
            };
            let near = egraph[m.root].data.near;
            let Some(id) = build::build(egraph, &planned, near) else {
                continue;
            };
            if egraph.find(id) == egraph.find(m.root) {
                continue;
            }
            if let (Some(log), Some(left)) = (log.as_deref_mut(), left)
                && let Some(right) = proof::planned(egraph, &planned)
            {
                log.record(rule.rule.name, report.rounds, left, right);
            }
            let (value, before) = (place(egraph, m.root), describe(egraph, m.root));
            report.steps.push(Step {
                rule: rule.rule.name,
                round: report.rounds,
                value,
                before,
                after: describe(egraph, id),
            });
            *report.fired.entry(rule.rule.name).or_insert(0) += 1;
            egraph.union(m.root, id);
            changed = true;
            if egraph.total_size() > most {
                report.limit = Some("nodes".into());
                egraph.rebuild();
                return;
            }
        }
        egraph.rebuild();
        for (id, twin) in leading::find(egraph) {
            let near = egraph[id].data.near;
            let of = log.is_some().then(|| proof::twin_of(egraph, id, &twin));
            let twin = add_near(egraph, twin, near);
            if let (Some(log), Some(Some(of))) = (log.as_deref_mut(), of) {
                let twin = proof::node_of(egraph, twin);
                log.record(leading::NAME, report.rounds, of, twin);
            }
            if egraph.union(id, twin) {
                changed = true;
                *report.fired.entry(leading::NAME).or_insert(0) += 1;
            }
        }
        egraph.rebuild();
        if !changed {
            return;
        }
    }
}

/// One node of the class, its arguments as places in the input graph.
fn describe(egraph: &EGraph, id: Id) -> String {
    let class = &egraph[id];
    let Some(node) = class.nodes.first() else {
        return String::new();
    };
    let args: Vec<String> = node
        .children
        .iter()
        .map(|c| place(egraph, *c).to_string())
        .collect();
    format!("{}({})", node.op, args.join(", "))
}

#[cfg(test)]
mod tests;
