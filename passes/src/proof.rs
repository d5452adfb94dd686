//! Why two terms of a class are equal: the firings that made them so, as a chain of terms.
//!
//! A saturation may keep a [`Log`]: for each firing the term that its left side matched and the term that its right side became. The nodes of a class are then the places of a map
//! whose roads are firings, and an explanation is a shortest way from one node to another, the earliest firings first. Before a firing can be shown, what lies inside its left side
//! must be there: each inner node is reached in the same way, by firings before this one. Arguments that no rule looks into stay as they are.

use crate::build::{Planned, Ref};
use crate::egraph::{EGraph, ENode};
use crate::matcher::Matched;
use crate::pattern::{Apply, Pattern};
use crate::rule::{Compiled, Match};
use egg::{Id, Language};
use fuseline_ir::Op;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How deep what lies inside of left sides is explained.
const DEPTH: usize = 24;

/// The most steps of one chain.
const STEPS: usize = 400;

/// A term: a class, and as much of one of its nodes as matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The class, as it was called when the term was written down.
    pub class: Id,
    /// The first value of the input graph that was in the class then.
    pub first: Option<u32>,
    /// The node, where the term goes on.
    pub node: Option<(Op, Vec<Term>)>,
}

impl Term {
    /// The class alone.
    pub fn leaf(egraph: &EGraph, class: Id) -> Term {
        Term {
            class,
            first: egraph[class].data.first,
            node: None,
        }
    }

    /// One of the class' nodes, its arguments classes.
    pub fn node(egraph: &EGraph, class: Id, node: &ENode) -> Term {
        let args = node.children.iter().map(|c| Term::leaf(egraph, *c));
        Term {
            node: Some((node.op.clone(), args.collect())),
            ..Term::leaf(egraph, class)
        }
    }

    fn at(&mut self, path: &[usize]) -> Option<&mut Term> {
        path.iter().try_fold(self, |term, n| {
            term.node.as_mut().and_then(|(_, args)| args.get_mut(*n))
        })
    }

    /// The node as the e-graph has it now.
    fn key(&self, egraph: &EGraph) -> Option<ENode> {
        let (op, args) = self.node.as_ref()?;
        Some(ENode {
            op: op.clone(),
            children: args.iter().map(|a| egraph.find(a.class)).collect(),
        })
    }

    /// Whether a class of one of the term's inner nodes is `class`.
    fn looks_into(&self, egraph: &EGraph, class: Id) -> bool {
        let Some((_, args)) = &self.node else {
            return false;
        };
        args.iter().any(|a| {
            a.node.is_some() && (egraph.find(a.class) == class || a.looks_into(egraph, class))
        })
    }
}

/// One firing of a rule.
#[derive(Clone, Debug)]
pub struct Firing {
    /// The rule.
    pub rule: &'static str,
    /// The round, from 1.
    pub round: usize,
    /// What its left side matched.
    pub left: Term,
    /// What its right side became.
    pub right: Term,
}

/// Every firing of a saturation, in order.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The firings.
    pub firings: Vec<Firing>,
}

impl Log {
    /// Writes a firing down.
    pub fn record(&mut self, rule: &'static str, round: usize, left: Term, right: Term) {
        self.firings.push(Firing {
            rule,
            round,
            left,
            right,
        });
    }
}

/// What the left side of a rule matched, while the e-graph is as it was when it did.
pub fn matched(egraph: &EGraph, rule: &Compiled, m: &Match) -> Option<Term> {
    let mut trace = m.bindings.trace().iter();
    let term = matched_apply(egraph, &rule.lhs, &mut trace)?;
    trace.next().is_none().then_some(term)
}

fn matched_apply<'t>(
    egraph: &EGraph,
    apply: &Apply,
    trace: &mut impl Iterator<Item = &'t Matched>,
) -> Option<Term> {
    let at = trace.next()?;
    let node = egraph[at.class].nodes.get(at.node)?;
    let mut term = Term::node(egraph, at.class, node);
    let (_, args) = term.node.as_mut()?;
    for (n, arg) in apply.args.iter().enumerate() {
        if let Pattern::Apply(inner) = arg {
            let place = if at.swapped { 1 - n } else { n };
            *args.get_mut(place)? = matched_apply(egraph, inner, trace)?;
        }
    }
    Some(term)
}

/// A right side that has been built, as a term.
pub fn planned(egraph: &EGraph, planned: &Planned) -> Option<Term> {
    let mut made: Vec<Term> = Vec::new();
    let term = |r: &Ref, made: &[Term]| match r {
        Ref::There(id) => Some(Term::leaf(egraph, egraph.find(*id))),
        Ref::New(n) => made.get(*n).cloned(),
    };
    for (op, args) in &planned.nodes {
        let args = args
            .iter()
            .map(|a| term(a, &made))
            .collect::<Option<Vec<Term>>>()?;
        let node = ENode {
            op: op.clone(),
            children: args.iter().map(|a| egraph.find(a.class)).collect(),
        };
        let class = egraph.lookup(node)?;
        made.push(Term {
            node: Some((op.clone(), args)),
            ..Term::leaf(egraph, class)
        });
    }
    term(&planned.root, &made)
}

/// The node of the class that `twin` differs from in one argument, as a term.
pub fn twin_of(egraph: &EGraph, class: Id, twin: &ENode) -> Option<Term> {
    let differs = |n: &&ENode| {
        let pairs = n.children.iter().zip(&twin.children);
        n.matches(twin)
            && pairs
                .filter(|(a, b)| egraph.find(**a) != egraph.find(**b))
                .count()
                == 1
    };
    let node = egraph[class].nodes.iter().find(differs)?;
    Some(Term::node(egraph, class, node))
}

/// The node that made the class, as a term.
pub fn node_of(egraph: &EGraph, class: Id) -> Term {
    Term::node(egraph, class, egraph.id_to_node(class))
}

/// A line of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What led here.
    pub by: By,
    /// The whole term now.
    pub term: Term,
}

/// What leads from one term of a chain to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Values are written out.
    Definition,
    /// A rule fired.
    Rule(&'static str),
    /// A rule fired elsewhere, and is read from its right side to its left here.
    Reverse(&'static str),
    /// The same steps were shown before.
    Before,
}

/// The log as a map of each class.
pub struct Proof<'a> {
    egraph: &'a EGraph,
    log: &'a Log,
    /// The input graph's node of each value.
    origin: &'a dyn Fn(u32) -> Option<ENode>,
    /// For each node of a class: the firings at it, whether it is on their left, and the node at the other end.
    roads: BTreeMap<ENode, Vec<(usize, bool, ENode)>>,
}

impl<'a> Proof<'a> {
    /// The map of what `log` says about `egraph`; `origin` is the input graph's node of a value, its arguments classes.
    pub fn new(
        egraph: &'a EGraph,
        log: &'a Log,
        origin: &'a dyn Fn(u32) -> Option<ENode>,
    ) -> Proof<'a> {
        let mut proof = Proof {
            egraph,
            log,
            origin,
            roads: BTreeMap::new(),
        };
        for (n, firing) in log.firings.iter().enumerate() {
            let ends = (proof.end(&firing.left), proof.end(&firing.right));
            if let (Some(left), Some(right)) = ends {
                let road = (n, true, right.clone());
                proof.roads.entry(left.clone()).or_default().push(road);
                proof.roads.entry(right).or_default().push((n, false, left));
            }
        }
        proof
    }

    /// The node that a firing's side is; a class alone is the node that made it.
    fn end(&self, term: &Term) -> Option<ENode> {
        match term.key(self.egraph) {
            Some(key) => Some(key),
            None => self.start(term).key(self.egraph),
        }
    }

    /// A class' node in the input graph, or the one that made it.
    fn start(&self, term: &Term) -> Term {
        let origin = term.first.and_then(|v| (self.origin)(v));
        let node = origin.unwrap_or_else(|| self.egraph.id_to_node(term.class).clone());
        let args = node.children.iter().map(|c| Term::leaf(self.egraph, *c));
        Term {
            node: Some((node.op, args.collect())),
            ..term.clone()
        }
    }

    /// The chain from the term of value `first` in the input graph to `goal`, a node of the same class.
    pub fn chain(&self, class: Id, first: u32, goal: &ENode) -> Vec<Line> {
        let start = self.start(&Term {
            class,
            first: Some(first),
            node: None,
        });
        let mut chain = Chain {
            proof: self,
            term: start,
            lines: Vec::new(),
            shown: BTreeSet::new(),
        };
        chain.push(By::Definition);
        let goal = Term::node(self.egraph, class, goal);
        chain.bring(&mut Vec::new(), &goal, self.log.firings.len(), 0);
        chain.lines
    }

    /// The firings that looked into the class on their left, with the classes that they fired at.
    pub fn readers(&self, class: Id) -> impl Iterator<Item = (&'static str, Id)> + '_ {
        let class = self.egraph.find(class);
        let firings = self.log.firings.iter();
        firings
            .filter(move |f| f.left.looks_into(self.egraph, class))
            .map(|f| (f.rule, self.egraph.find(f.left.class)))
    }

    /// The shortest way from one node to another by firings before `limit`: which, and in which direction.
    fn way(&self, from: &ENode, to: &ENode, limit: usize) -> Option<Vec<(usize, bool)>> {
        let mut came: BTreeMap<&ENode, Option<(&ENode, usize, bool)>> = BTreeMap::new();
        let mut open = VecDeque::from([from]);
        came.insert(from, None);
        while let Some(node) = open.pop_front() {
            if node == to {
                let mut way = Vec::new();
                let mut at = node;
                while let Some(Some((before, firing, forward))) = came.get(at) {
                    way.push((*firing, *forward));
                    at = before;
                }
                way.reverse();
                return Some(way);
            }
            for (firing, forward, next) in self.roads.get(node).into_iter().flatten() {
                if *firing < limit && !came.contains_key(next) {
                    came.insert(next, Some((node, *firing, *forward)));
                    open.push_back(next);
                }
            }
        }
        None
    }
}

struct Chain<'p> {
    proof: &'p Proof<'p>,
    term: Term,
    lines: Vec<Line>,
    /// Nodes that have been led to.
    shown: BTreeSet<ENode>,
}

impl Chain<'_> {
    fn push(&mut self, by: By) {
        if self.lines.last().is_none_or(|l| l.term != self.term) {
            let term = self.term.clone();
            self.lines.push(Line { by, term });
        }
    }

    fn set(&mut self, path: &[usize], term: Term) {
        if let Some(place) = self.term.at(path) {
            *place = term;
        }
    }

    /// Leads what is at `path` to the node that `want` is, and what lies in it to what lies in that, by firings before `limit`.
    fn bring(&mut self, path: &mut Vec<usize>, want: &Term, limit: usize, depth: usize) {
        let egraph = self.proof.egraph;
        let (Some((_, args)), Some(key)) = (&want.node, want.key(egraph)) else {
            return;
        };
        if self.lines.len() >= STEPS {
            return;
        }
        let now = match self.term.at(path) {
            Some(place) => {
                if place.node.is_none() {
                    *place = self.proof.start(want);
                }
                place.key(egraph)
            }
            None => return,
        };
        if let Some(now) = now.filter(|now| *now != key) {
            self.lead(path, &now, want, &key, limit, depth);
        }
        for (n, arg) in args.iter().enumerate() {
            path.push(n);
            self.bring(path, arg, limit, depth);
            path.pop();
        }
    }

    fn lead(
        &mut self,
        path: &mut Vec<usize>,
        now: &ENode,
        want: &Term,
        key: &ENode,
        limit: usize,
        depth: usize,
    ) {
        let flat = Term {
            node: Some((
                key.op.clone(),
                want.node
                    .iter()
                    .flat_map(|(_, args)| args)
                    .map(|a| Term {
                        node: None,
                        ..a.clone()
                    })
                    .collect(),
            )),
            ..want.clone()
        };
        let proof = self.proof;
        let all = proof.log.firings.len();
        let way = proof
            .way(now, key, limit)
            .or_else(|| proof.way(now, key, all));
        let way = way.filter(|_| depth < DEPTH && !self.shown.contains(key));
        let Some(way) = way else {
            self.push(By::Definition);
            self.set(path, flat);
            self.push(By::Before);
            return;
        };
        for (n, forward) in way {
            let firing = &proof.log.firings[n];
            let (from, to, by) = match forward {
                true => (&firing.left, &firing.right, By::Rule(firing.rule)),
                false => (&firing.right, &firing.left, By::Reverse(firing.rule)),
            };
            self.bring(path, from, n, depth + 1);
            self.push(By::Definition);
            let to = match &to.node {
                Some(_) => to.clone(),
                None => proof.start(to),
            };
            self.set(path, to);
            self.push(by);
        }
        self.shown.insert(key.clone());
    }
}
