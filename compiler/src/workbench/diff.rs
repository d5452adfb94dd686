//! What differs between two graphs, by value.
//!
//! Numbers of values say nothing, so values are paired: first those that are the same computation of the same leaves; then, from the outputs and the states' next values down, what
//! stands at the same place; then what is left over and looks alike, in order. A pair whose ops are equal and whose arguments are paired in the same order is *alike*; what is not is
//! shown, in groups of values that depend on each other.

use fuseline_ir::{Graph, Node, Op, Type, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write};

/// The most pairs of left-over values that are compared to align them; beyond it they stay unpaired.
const ALIGNED: usize = 1 << 24;

/// The difference of two graphs; prints as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Values that are computed alike in both.
    pub alike: usize,
    /// Pairs that stand for each other but are computed differently.
    pub changed: usize,
    /// Values of the first graph without a partner.
    pub removed: usize,
    /// Values of the second graph without a partner.
    pub added: usize,
    /// Ops whose number differs, by name: before, after.
    pub ops: BTreeMap<&'static str, (usize, usize)>,
    /// Lines of declarations (symbols, data, states, inputs, outputs) that only one of them has, each with its sign.
    pub declarations: Vec<String>,
    /// The groups: the module that most of it comes from, and lines with their signs.
    pub groups: Vec<(String, Vec<String>)>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        self.groups.is_empty() && self.declarations.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return writeln!(f, "no difference: {} values alike", self.alike);
        }
        writeln!(
            f,
            "{} values alike, {} computed differently, {} only before, {} only after",
            self.alike, self.changed, self.removed, self.added
        )?;
        let ops: Vec<String> = self
            .ops
            .iter()
            .map(|(op, (a, b))| format!("{op} {a} → {b}"))
            .collect();
        if !ops.is_empty() {
            writeln!(f, "ops: {}", ops.join(", "))?;
        }
        if !self.declarations.is_empty() {
            writeln!(f, "\n@@ declarations")?;
        }
        for line in &self.declarations {
            writeln!(f, "{line}")?;
        }
        for (module, lines) in &self.groups {
            writeln!(f, "\n@@ {module}")?;
            for line in lines {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}

/// What differs between two graphs. Values that nothing needs are left out.
pub fn diff(before: &Graph, after: &Graph) -> Difference {
    let mut pairs = Pairs::new(before, after);
    pairs.equal_computations();
    pairs.pair_below_roots();
    pairs.leftovers();
    let mut out = Difference {
        ops: op_counts(before, after),
        declarations: declarations(before, after),
        ..Difference::default()
    };
    pairs.describe(&mut out);
    out
}

struct Side<'g> {
    graph: &'g Graph,
    live: Vec<bool>,
    /// The partner of each value.
    partner: Vec<Option<Value>>,
}

impl<'g> Side<'g> {
    fn new(graph: &'g Graph) -> Side<'g> {
        Side {
            graph,
            live: graph.live(),
            partner: vec![None; graph.nodes().len()],
        }
    }

    fn values(&self) -> impl Iterator<Item = (Value, &'g Node)> + '_ {
        self.graph.values().filter(|(v, _)| self.live[v.index()])
    }

    fn partner(&self, v: Value) -> Option<Value> {
        self.partner[v.index()]
    }
}

struct Pairs<'g> {
    a: Side<'g>,
    b: Side<'g>,
}

impl<'g> Pairs<'g> {
    fn new(a: &'g Graph, b: &'g Graph) -> Pairs<'g> {
        Pairs {
            a: Side::new(a),
            b: Side::new(b),
        }
    }

    /// Pairs two values that have no partners yet; whether it did.
    fn pair(&mut self, a: Value, b: Value) -> bool {
        let free = self.a.partner(a).is_none() && self.b.partner(b).is_none();
        if free {
            self.a.partner[a.index()] = Some(b);
            self.b.partner[b.index()] = Some(a);
        }
        free
    }

    /// The same op of the same arguments, from the leaves up.
    fn equal_computations(&mut self) {
        let mut there: BTreeMap<(&Op, Vec<Value>), VecDeque<Value>> = BTreeMap::new();
        let b = self.b.graph;
        for (value, node) in b.values().filter(|(v, _)| self.b.live[v.index()]) {
            there
                .entry((&node.op, node.args.clone()))
                .or_default()
                .push_back(value);
        }
        let a = self.a.graph;
        for (value, node) in a.values() {
            let args = node.args.iter().map(|v| self.a.partner(*v)).collect();
            let args: Option<Vec<Value>> = args;
            if let (true, Some(args)) = (self.a.live[value.index()], args)
                && let Some(found) = there.get_mut(&(&node.op, args))
                && let Some(other) = found.pop_front()
            {
                self.pair(value, other);
            }
        }
    }

    /// What stands at the same place below outputs and next values of the same name.
    fn pair_below_roots(&mut self) {
        let (a, b) = (self.a.graph, self.b.graph);
        let mut open = Vec::new();
        for output in &a.outputs {
            let same = b.outputs.iter().find(|o| o.name == output.name);
            open.extend(same.map(|o| (output.value, o.value)));
        }
        for state in &a.states {
            let same = b.states.iter().find(|s| s.name == state.name);
            open.extend(state.next.zip(same.and_then(|s| s.next)));
        }
        open.reverse();
        self.descend(open);
    }

    fn descend(&mut self, mut open: Vec<(Value, Value)>) {
        while let Some((a, b)) = open.pop() {
            let (from, to) = (self.a.graph.node(a), self.b.graph.node(b));
            if from.ty != to.ty || !self.pair(a, b) {
                continue;
            }
            if from.op.name() == to.op.name() && from.args.len() == to.args.len() {
                let args = from.args.iter().copied().zip(to.args.iter().copied());
                open.extend(args.rev());
            }
        }
    }

    /// The longest common sequence of what is left, by op, type and the constants used.
    fn leftovers(&mut self) {
        let left = |side: &Side<'g>| -> Vec<Value> {
            let free = side.values().filter(|(v, _)| side.partner(*v).is_none());
            free.map(|(v, _)| v).collect()
        };
        let (xs, ys) = (left(&self.a), left(&self.b));
        if xs.len().saturating_mul(ys.len()) > ALIGNED {
            return;
        }
        let keys_a: Vec<Key<'_>> = xs.iter().map(|v| self.key(&self.a, *v, true)).collect();
        let keys_b: Vec<Key<'_>> = ys.iter().map(|v| self.key(&self.b, *v, false)).collect();
        let common = longest_common(&keys_a, &keys_b);
        // The last first: what depends on most decides what its arguments are paired with.
        for (i, j) in common.into_iter().rev() {
            self.descend(vec![(xs[i], ys[j])]);
        }
    }

    fn key(&self, side: &Side<'g>, v: Value, first: bool) -> Key<'g> {
        let node = side.graph.node(v);
        let fixed = |v: &Value| matches!(side.graph.node(*v).op, Op::Constant(_));
        let known = node.args.iter().filter(|v| fixed(v));
        let known = known.filter_map(|v| match first {
            true => side.partner(*v),
            false => side.partner(*v).map(|_| *v),
        });
        (&node.op, &node.ty, known.collect())
    }

    /// Whether the pair is the same op of arguments that are pairs in the same order.
    fn is_alike(&self, a: Value, b: Value) -> bool {
        let (from, to) = (self.a.graph.node(a), self.b.graph.node(b));
        let args = from.args.iter().map(|v| self.a.partner(*v));
        from.op == to.op && args.eq(to.args.iter().copied().map(Some))
    }

    fn describe(&self, out: &mut Difference) {
        // What is shown: the second graph's order, what only the first has before what follows it there.
        let mut shown: Vec<Shown> = Vec::new();
        for (a, _) in self.a.values() {
            match self.a.partner(a) {
                None => shown.push(Shown::Removed(a)),
                Some(b) if self.is_alike(a, b) => out.alike += 1,
                Some(b) => shown.push(Shown::Changed(a, b)),
            }
        }
        let added = self
            .b
            .values()
            .filter(|(v, _)| self.b.partner(*v).is_none());
        shown.extend(added.map(|(v, _)| Shown::Added(v)));
        for s in &shown {
            match s {
                Shown::Changed(..) => out.changed += 1,
                Shown::Removed(_) => out.removed += 1,
                Shown::Added(_) => out.added += 1,
            }
        }
        for group in self.groups(&shown) {
            let mut lines = Vec::new();
            let removed = group.iter().filter_map(|s| s.before());
            lines.extend(removed.map(|v| format!("- {}", self.line(&self.a, v, false))));
            let mut added: Vec<Value> = group.iter().filter_map(|s| s.after()).collect();
            added.sort_unstable();
            lines.extend(
                added
                    .into_iter()
                    .map(|v| format!("+ {}", self.line(&self.b, v, true))),
            );
            out.groups.push((self.module(&group), lines));
        }
    }

    /// Splits what is shown into groups that are connected by arguments.
    fn groups(&self, shown: &[Shown]) -> Vec<Vec<Shown>> {
        let mut of_a: BTreeMap<Value, usize> = BTreeMap::new();
        let mut of_b: BTreeMap<Value, usize> = BTreeMap::new();
        for (i, s) in shown.iter().enumerate() {
            of_a.extend(s.before().map(|v| (v, i)));
            of_b.extend(s.after().map(|v| (v, i)));
        }
        let mut group: Vec<usize> = (0..shown.len()).collect();
        for (i, s) in shown.iter().enumerate() {
            let args =
                |graph: &'g Graph, v: Option<Value>| v.map_or(&[][..], |v| &graph.node(v).args);
            let before = args(self.a.graph, s.before()).iter().map(|v| of_a.get(v));
            let after = args(self.b.graph, s.after()).iter().map(|v| of_b.get(v));
            for other in before.chain(after).flatten() {
                let (x, y) = (root(&group, i), root(&group, *other));
                group[x.max(y)] = x.min(y);
            }
        }
        let mut groups: BTreeMap<usize, Vec<Shown>> = BTreeMap::new();
        for (i, s) in shown.iter().enumerate() {
            groups.entry(root(&group, i)).or_default().push(*s);
        }
        groups.into_values().collect()
    }

    /// The module that most of a group comes from; the first of equals.
    fn module(&self, group: &[Shown]) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for s in group {
            let before = s.before().map(|v| self.a.graph.node(v));
            let after = s.after().map(|v| self.b.graph.node(v));
            for module in before
                .into_iter()
                .chain(after)
                .filter_map(|n| n.loc.module.as_deref())
            {
                *counts.entry(module).or_default() += 1;
            }
        }
        let most = counts.values().copied().max();
        let found = counts.iter().find(|(_, n)| Some(**n) == most);
        found.map_or_else(|| "no module".to_string(), |(m, _)| (*m).to_string())
    }

    /// A node as it prints; in the second graph, a slash and its partner's number follow a value whose partner has another.
    fn line(&self, side: &Side<'g>, v: Value, after: bool) -> String {
        let was = |v: Value| match side.partner(v) {
            Some(p) if after && p != v => format!("{v}/{p}"),
            _ => v.to_string(),
        };
        let node = side.graph.node(v);
        let mut text = format!("{} = {}", was(v), node.op);
        if !node.args.is_empty() {
            let args: Vec<String> = node.args.iter().map(|a| was(*a)).collect();
            let _ = write!(text, "({})", args.join(", "));
        }
        let _ = write!(text, " : {}", node.ty);
        text
    }
}

/// What a left-over value looks like.
type Key<'g> = (&'g Op, &'g Type, Vec<Value>);

/// A value that is shown, or a pair.
#[derive(Clone, Copy)]
enum Shown {
    Removed(Value),
    Changed(Value, Value),
    Added(Value),
}

impl Shown {
    fn before(&self) -> Option<Value> {
        match self {
            Shown::Removed(a) | Shown::Changed(a, _) => Some(*a),
            Shown::Added(_) => None,
        }
    }

    fn after(&self) -> Option<Value> {
        match self {
            Shown::Added(b) | Shown::Changed(_, b) => Some(*b),
            Shown::Removed(_) => None,
        }
    }
}

fn root(group: &[usize], mut i: usize) -> usize {
    while group[i] != i {
        i = group[i];
    }
    i
}

/// Index pairs of the longest common subsequence of two sequences.
fn longest_common<T: PartialEq>(a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    let width = b.len() + 1;
    // best[i * width + j]: the length for what follows i and j.
    let mut best = vec![0u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            best[i * width + j] = if a[i] == b[j] {
                best[(i + 1) * width + j + 1] + 1
            } else {
                best[(i + 1) * width + j].max(best[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            out.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[(i + 1) * width + j] >= best[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

fn op_counts(a: &Graph, b: &Graph) -> BTreeMap<&'static str, (usize, usize)> {
    let mut counts: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    let live = a.live();
    for (_, node) in a.values().filter(|(v, _)| live[v.index()]) {
        counts.entry(node.op.name()).or_default().0 += 1;
    }
    let live = b.live();
    for (_, node) in b.values().filter(|(v, _)| live[v.index()]) {
        counts.entry(node.op.name()).or_default().1 += 1;
    }
    counts.retain(|_, (a, b)| a != b);
    counts
}

/// Declarations that only one of the graphs has, in the order in which they print.
fn declarations(a: &Graph, b: &Graph) -> Vec<String> {
    let (a, b) = (declared(a), declared(b));
    let set = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<String>>();
    let (in_a, in_b) = (set(&a), set(&b));
    let removed = a.iter().filter(|l| !in_b.contains(*l));
    let added = b.iter().filter(|l| !in_a.contains(*l));
    let removed = removed.map(|l| format!("- {l}"));
    removed.chain(added.map(|l| format!("+ {l}"))).collect()
}

/// What a graph declares, a line each, without numbers of values.
fn declared(graph: &Graph) -> Vec<String> {
    let mut lines = vec![format!("graph {:?}", graph.name)];
    for (name, range) in &graph.symbols {
        lines.push(format!("symbol {name} in {}..={}", range.min, range.max));
    }
    let constants = graph.constants.iter();
    lines.extend(constants.map(|(name, c)| format!("data {name:?} : {}", c.ty)));
    for state in &graph.states {
        let next = if state.next.is_some() {
            ""
        } else {
            ", never written"
        };
        lines.push(format!("state {:?} : {}{next}", state.name, state.ty));
    }
    let outputs = graph.outputs.iter();
    lines.extend(outputs.map(|o| format!("output {:?} : {}", o.name, graph.ty(o.value))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuseline_ir::text::parse;

    fn graph(body: &str) -> Graph {
        let text = format!("graph \"g\" {{ {body} }}");
        parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    const NORM: &str = "%x = input[name=\"x\", ty=f32[4, 8]] %w = input[name=\"w\", ty=f32[8]]";

    #[test]
    fn numbers_and_dead_values_are_no_difference() {
        let a = graph(&format!(
            "{NORM} %y = mul(%x, %w) %z = neg(%y) output \"o\" = %z"
        ));
        let b = graph(&format!(
            "{NORM} %dead = abs(%x) %y = mul(%x, %w) %z = neg(%y) output \"o\" = %z"
        ));
        let difference = diff(&a, &b);
        assert!(difference.is_none(), "{difference}");
        assert_eq!(difference.alike, 4);
    }

    #[test]
    fn a_replaced_middle_is_one_group_and_what_follows_it_is_alike() {
        let a = graph(&format!(
            "{NORM} %s = sigmoid(%x) %m = mul(%x, %s) at \"act\" %n = neg(%m) %z = mul(%n, %w) output \"o\" = %z"
        ));
        let b = graph(&format!(
            "{NORM} %m = silu(%x) at \"act\" %n = neg(%m) %z = mul(%n, %w) output \"o\" = %z"
        ));
        let text = diff(&a, &b).to_string();
        assert_eq!(
            text,
            "4 values alike, 1 computed differently, 1 only before, 0 only after\n\
             ops: mul 2 → 1, sigmoid 1 → 0, silu 0 → 1\n\
             \n@@ act\n- %2 = sigmoid(%0) : f32[4, 8]\n- %3 = mul(%0, %2) : f32[4, 8]\n+ %2/%3 = silu(%0) : f32[4, 8]\n"
        );
    }

    #[test]
    fn declarations_count() {
        let a = graph(&format!("{NORM} %y = mul(%x, %w) output \"o\" = %y"));
        let b = graph(&format!("{NORM} %y = mul(%x, %w) output \"p\" = %y"));
        let difference = diff(&a, &b);
        assert_eq!(
            difference.declarations,
            ["- output \"o\" : f32[4, 8]", "+ output \"p\" : f32[4, 8]"]
        );
        assert!(!difference.is_none());
    }

    #[test]
    fn changes_in_two_places_are_two_groups() {
        let block = |act: &str| {
            format!(
                "{NORM} %a = {act}(%x) %b = mul(%a, %w) %c = {act}(%b) %d = mul(%c, %w) output \"o\" = %d"
            )
        };
        let difference = diff(&graph(&block("sin")), &graph(&block("cos")));
        assert_eq!(difference.groups.len(), 2, "{difference}");
        assert_eq!((difference.alike, difference.changed), (4, 2));
    }
}
