//! What became of a value, pass by pass: which rules of the canonical form fired at it, and the chain of terms that led the e-graph from what it was to what was taken out.

use crate::egraph::{EGraph, ENode};
use crate::pass::{PassCx, PassError};
use crate::proof::{By, Line, Proof, Term};
use crate::{canon, pipeline, rules, saturate};
use egg::{Id, Language};
use fuseline_ir::text::INLINE_ELEMENTS;
use fuseline_ir::{Graph, Node, Op, TensorType, Type, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// How deep a value without a name is written out.
const DEPTH: usize = 3;

/// What became of `value` in each of the passes, as text. `names` are what values are called in the text that the graph was read from; others are written out.
///
/// # Errors
/// As [`pipeline::run_passes`].
pub fn explain(
    graph: &Graph,
    passes: &[&'static str],
    cx: &PassCx,
    value: Value,
    names: &BTreeMap<Value, String>,
) -> Result<String, PassError> {
    let mut at = At {
        labels: graph
            .values()
            .map(|(v, _)| names.get(&v).cloned())
            .collect(),
        graph: graph.clone(),
        value,
    };
    let mut text = at.whole(value);
    let mut used: BTreeSet<&'static str> = BTreeSet::new();
    let mut quiet: Vec<&str> = Vec::new();
    for pass in passes {
        let mut said = String::new();
        let next = match *pass {
            saturate::NAME => at.saturate(cx, &mut said, &mut used)?,
            pass => at.pass(pass, cx, &mut said)?,
        };
        if said.is_empty() {
            quiet.push(pass);
        } else {
            text += &as_it_was(&mut quiet);
            let _ = write!(text, "\n{pass}\n{said}");
        }
        match next {
            Some(next) => at = next,
            None => return Ok(text + &legend(&used)),
        }
    }
    text += &as_it_was(&mut quiet);
    let _ = write!(text, "\nresult\n  {}", at.whole(at.value));
    Ok(text + &legend(&used))
}

/// A line for passes that did nothing to the value.
fn as_it_was(quiet: &mut Vec<&str>) -> String {
    let passes = std::mem::take(quiet).join(", ");
    if passes.is_empty() {
        passes
    } else {
        format!("\n{passes}\n  as it was\n")
    }
}

/// What the rules of the e-graph that were named say about themselves.
fn legend(used: &BTreeSet<&'static str>) -> String {
    let mut text = String::new();
    for rule in used.iter().filter_map(|name| rules::find(name)) {
        let doc = rule.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = write!(text, "\n{} ({}): {doc}", rule.name, rule.class);
    }
    if text.is_empty() { text } else { text + "\n" }
}

/// A graph on the way, with the value that is followed and what values are called.
struct At {
    graph: Graph,
    labels: Vec<Option<String>>,
    value: Value,
}

impl At {
    /// The value's node as it prints, with its type and module.
    fn whole(&self, value: Value) -> String {
        let node = self.graph.node(value);
        let module = node.loc.module.as_ref();
        let module = module.map_or_else(String::new, |m| format!(" at \"{m}\""));
        let name = match &self.labels[value.index()] {
            Some(name) => format!("%{name}"),
            None => "it".to_string(),
        };
        format!(
            "{name} = {} : {}{module}\n",
            self.written(value, 0),
            node.ty
        )
    }

    /// The value's node, its arguments by name.
    fn written(&self, value: Value, depth: usize) -> String {
        let node = self.graph.node(value);
        let args = node.args.iter().map(|a| self.called(*a, depth + 1));
        application(&node.op, args.collect())
    }

    /// The value by name; a number as such; what has no name as its node.
    fn called(&self, value: Value, depth: usize) -> String {
        let node = self.graph.node(value);
        match (number(&node.op), &self.labels[value.index()]) {
            (Some(number), _) => number,
            (None, Some(name)) => format!("%{name}"),
            (None, None) if depth > DEPTH => "…".into(),
            (None, None) => self.written(value, depth),
        }
    }

    /// Follows the value through a pass that is no saturation, and says what that did to it, if anything. `None` where nothing needs it afterwards.
    fn pass(
        &self,
        pass: &'static str,
        cx: &PassCx,
        text: &mut String,
    ) -> Result<Option<At>, PassError> {
        if pass == canon::NAME {
            let fired = canon::rules_at(&self.graph, self.value)?;
            for (rule, times) in &fired {
                let times = if *times > 1 {
                    format!(" ({times} times)")
                } else {
                    String::new()
                };
                let _ = writeln!(text, "  {rule}{times}");
            }
        }
        let (graph, images) = self.images(pass, cx)?;
        let next = self.carried(graph, &images);
        match next {
            Some(next) => {
                let now = next.written(next.value, 0);
                if now != self.written(self.value, 0) {
                    let _ = writeln!(text, "  ⟶ {now}");
                }
                Ok(Some(next))
            }
            None => {
                let _ = writeln!(text, "  nothing needs it any more");
                for (reader, node) in self.graph.values() {
                    if pass == canon::NAME && node.args.contains(&self.value) {
                        let rules = canon::rules_at(&self.graph, reader)?;
                        let rules: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
                        let reader = self.called(reader, DEPTH);
                        let _ = writeln!(text, "  at {reader}: {}", rules.join(", "));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The place after a pass, where the value still is.
    fn carried(&self, graph: Graph, images: &[Option<Value>]) -> Option<At> {
        let value = images[self.value.index()]?;
        let mut labels = vec![None; graph.nodes().len()];
        for (label, image) in self.labels.iter().zip(images) {
            if let (Some(label), Some(image)) = (label, image) {
                let place: &mut Option<String> = &mut labels[image.index()];
                place.get_or_insert_with(|| label.clone());
            }
        }
        // The value that is asked for keeps its own name, whatever else has become the same.
        labels[value.index()].clone_from(&self.labels[self.value.index()]);
        Some(At {
            graph,
            labels,
            value,
        })
    }

    /// The graph after a pass, and what each value has become. A pass doesn't say; but where every value is an output, each output is what its value became. What that run
    /// computes is found again in the run without them by its op and arguments.
    fn images(
        &self,
        pass: &'static str,
        cx: &PassCx,
    ) -> Result<(Graph, Vec<Option<Value>>), PassError> {
        let run = |graph: &Graph| pipeline::run_passes(graph, &[pass], cx, &mut |_, _| {});
        let (result, _) = run(&self.graph)?;
        let mut pinned = self.graph.clone();
        let live = self.graph.live();
        let kept: Vec<Value> = self
            .graph
            .values()
            .filter(|(v, n)| live[v.index()] && matches!(n.ty, Type::Tensor(_)))
            .map(|(v, _)| v)
            .collect();
        let outputs = pinned.outputs.len();
        for value in &kept {
            pinned.output(format!("\u{1}{value}"), *value);
        }
        let (pinned, _) = run(&pinned)?;
        let same = found_again(&pinned, &result);
        let mut images = vec![None; self.graph.nodes().len()];
        for (value, output) in kept.iter().zip(&pinned.outputs[outputs..]) {
            images[value.index()] = same[output.value.index()];
        }
        Ok((result, images))
    }

    /// Follows the value through a saturation.
    fn saturate(
        &self,
        cx: &PassCx,
        text: &mut String,
        used: &mut BTreeSet<&'static str>,
    ) -> Result<Option<At>, PassError> {
        let done = saturate::proved(&self.graph, cx)?;
        let egraph = &done.loaded.egraph;
        let class_of = |v: Value| done.loaded.classes[v.index()].map(|id| egraph.find(id));
        let chosen: BTreeMap<Id, Value> = done
            .chosen
            .iter()
            .enumerate()
            .map(|(n, id)| (egraph.find(*id), Value::from_index(n)))
            .collect();
        let Some(class) = class_of(self.value) else {
            let _ = writeln!(text, "  nothing needs it");
            return Ok(None);
        };
        let origin = |v: u32| -> Option<ENode> {
            let node = self.graph.nodes().get(v as usize)?;
            let children = node
                .args
                .iter()
                .map(|a| class_of(*a))
                .collect::<Option<_>>()?;
            Some(ENode {
                op: node.op.clone(),
                children,
            })
        };
        let proof = Proof::new(egraph, &done.log, &origin);
        let Some(&value) = chosen.get(&class) else {
            let _ = writeln!(
                text,
                "  no longer computed: what was taken out does without it"
            );
            for (rule, at) in absorbed(&proof, class, &|id| chosen.contains_key(&id)) {
                used.insert(rule);
                let at = self.place(egraph, &Term::leaf(egraph, at), 1);
                let _ = writeln!(text, "  {rule} looked through it at {at}");
            }
            return Ok(None);
        };
        let node = done.graph.node(value);
        let goal = ENode {
            op: node.op.clone(),
            children: node
                .args
                .iter()
                .map(|a| egraph.find(done.chosen[a.index()]))
                .collect(),
        };
        let first = u32::try_from(self.value.index()).unwrap_or(u32::MAX);
        self.chain(egraph, &proof.chain(class, first, &goal), text, used);
        let images: Vec<Option<Value>> = self
            .graph
            .values()
            .map(|(v, _)| chosen.get(&class_of(v)?).copied())
            .collect();
        Ok(self.carried(done.graph, &images))
    }

    fn chain(
        &self,
        egraph: &EGraph,
        lines: &[Line],
        text: &mut String,
        used: &mut BTreeSet<&'static str>,
    ) {
        if lines.len() == 1 {
            return;
        }
        let mut rows: Vec<(String, String)> = Vec::new();
        for line in lines {
            let by = match line.by {
                By::Definition => String::new(),
                By::Rule(rule) => format!("{rule} ⟶"),
                By::Reverse(rule) => format!("{rule}, backwards ⟶"),
                By::Before => "by the steps above ⟶".to_string(),
            };
            if let By::Rule(rule) | By::Reverse(rule) = line.by {
                used.insert(rule);
            }
            let term = self.term(egraph, &line.term, 0);
            let same = rows.last().is_some_and(|(_, t)| *t == term);
            if !(same && by.is_empty()) {
                rows.push((by, term));
            }
        }
        let width = rows
            .iter()
            .map(|(by, _)| by.chars().count())
            .max()
            .unwrap_or(0);
        for (n, (by, term)) in rows.iter().enumerate() {
            let by = if by.is_empty() && n > 0 { "=" } else { by };
            let _ = writeln!(text, "  {by:>width$} {term}");
        }
    }

    fn term(&self, egraph: &EGraph, term: &Term, depth: usize) -> String {
        match &term.node {
            Some((op, args)) => match number(op) {
                Some(number) => number,
                None => {
                    let args = args.iter().map(|a| self.term(egraph, a, depth));
                    application(op, args.collect())
                }
            },
            None => self.place(egraph, term, depth + 1),
        }
    }

    /// A class by the name of a value of it; without one, as a node of it.
    fn place(&self, egraph: &EGraph, term: &Term, depth: usize) -> String {
        let facts = &egraph[term.class].data;
        if let Some(first) = term.first.or(facts.first) {
            return self.called(Value::from_index(first as usize), depth);
        }
        let node = egraph.id_to_node(term.class);
        if let Some(number) = number(&node.op) {
            return number;
        }
        if depth > DEPTH {
            return "…".into();
        }
        let args = node.children().iter();
        let args = args.map(|c| self.place(egraph, &Term::leaf(egraph, *c), depth + 1));
        application(&node.op, args.collect())
    }
}

/// The rules that looked through a class, and through what they made of it, up to classes that are `kept`: rule, and where it fired.
fn absorbed(proof: &Proof<'_>, class: Id, kept: &dyn Fn(Id) -> bool) -> Vec<(&'static str, Id)> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::from([class]);
    let mut open = vec![class];
    while let Some(class) = open.pop() {
        for (rule, at) in proof.readers(class) {
            if !out.contains(&(rule, at)) {
                out.push((rule, at));
            }
            if !kept(at) && seen.insert(at) {
                open.push(at);
            }
        }
    }
    out
}

fn application(op: &Op, args: Vec<String>) -> String {
    if args.is_empty() {
        op.to_string()
    } else {
        format!("{op}({})", args.join(", "))
    }
}

/// A number that is written out in the graph.
fn number(op: &Op) -> Option<String> {
    match op {
        Op::Full(full) if full.ty.shape.is_empty() => {
            let attrs = op.attrs();
            let value = attrs.iter().find(|(name, _)| *name == "value");
            value.map(|(_, value)| value.to_string())
        }
        _ => None,
    }
}

/// For each value of `of`, the value of `graph` that is the same computation. Constants that a pass has made are the same where their bytes are.
fn found_again(of: &Graph, graph: &Graph) -> Vec<Option<Value>> {
    let mut there: BTreeMap<(Key<'_>, Vec<Value>), Value> = BTreeMap::new();
    for (value, node) in graph.values() {
        there
            .entry((key(graph, node), node.args.clone()))
            .or_insert(value);
    }
    let mut found: Vec<Option<Value>> = Vec::with_capacity(of.nodes().len());
    for (_, node) in of.values() {
        let args = node
            .args
            .iter()
            .map(|a| found[a.index()])
            .collect::<Option<Vec<Value>>>();
        found.push(args.and_then(|args| there.get(&(key(of, node), args)).copied()));
    }
    found
}

/// What a node computes from its arguments.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'g> {
    Op(&'g Op),
    Data(String, Vec<u8>),
}

fn key<'g>(graph: &'g Graph, node: &'g Node) -> Key<'g> {
    let small = |ty: &TensorType| {
        let sizes = ty.static_shape()?;
        let n = sizes.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        (n <= INLINE_ELEMENTS * INLINE_ELEMENTS).then_some(())
    };
    let data = |op: &Op| {
        let Op::Constant(op) = op else { return None };
        small(&op.ty)?;
        let constant = graph.constants.get(&op.name)?;
        let bytes = constant.data.as_ref()?.bytes().ok()?;
        Some(Key::Data(op.ty.to_string(), bytes.into_owned()))
    };
    data(&node.op).unwrap_or(Key::Op(&node.op))
}
