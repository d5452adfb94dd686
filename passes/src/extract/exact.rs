//! An exact extraction, slow, to measure the real one by: branch and bound over which node each class takes.
//!
//! What every choice needs is taken first. What is then still open falls apart into groups that could share nothing that isn't paid for already; each group is solved alone, by trying the
//! nodes of its widest class. A branch ends where what is paid and the cheapest nodes of what must come reach the best graph so far, or where a choice closes a cycle.
//!
//! Groups don't see each other's choices, so two of them could close a cycle together. Then, and where the search has used up its steps, the result is a bound from below and says so.

use super::{Candidate, Choice, Extracted, Weigh};
use crate::egraph::EGraph;
use crate::pass::PassError;
use egg::Id;
use fuseline_ir::Graph;
use std::collections::{BTreeMap, BTreeSet};

/// The most steps of a search.
const STEPS: usize = 60_000;

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The cost of the cheapest graph, or less where `proved` is false.
    pub cost: u64,
    /// Whether a graph of that cost exists.
    pub proved: bool,
}

/// The cheapest graph's cost, beside what the real extraction finds.
pub fn compare(
    graph: &Graph,
    egraph: &EGraph,
    values: &[Option<Id>],
    weigh: Weigh<'_>,
) -> Result<(Extracted, Exact), PassError> {
    let found = super::choose(graph, egraph, values, weigh)?;
    let choice = Choice::new(graph, egraph, values, weigh)?;
    let needed: BTreeSet<usize> = graph
        .roots()
        .iter()
        .filter_map(|v| values[v.index()])
        .map(|id| choice.class_of(id))
        .collect();
    let candidates: Vec<Vec<&Candidate<'_>>> = choice
        .classes
        .iter()
        .map(|class| undominated(&class.candidates))
        .collect();
    let mut search = Search {
        candidates,
        steps: 0,
    };
    let mut state = State::default();
    needed.iter().for_each(|c| state.require(*c));
    let bound = search.bound(state.clone());
    let best = search.solve(state, found.cost.1.saturating_add(1));
    let used_up = search.steps >= STEPS;
    let exact = match best {
        Some((cost, chosen)) if !used_up => Exact {
            cost,
            proved: search.is_acyclic(&chosen),
        },
        _ => Exact {
            cost: bound,
            proved: false,
        },
    };
    Ok((found, exact))
}

/// The candidates without those that need all that another needs, and cost as much.
fn undominated<'c, 'a>(all: &'c [Candidate<'a>]) -> Vec<&'c Candidate<'a>> {
    let within = |a: &Candidate<'_>, b: &Candidate<'_>| a.needs.iter().all(|n| b.needs.contains(n));
    let worse = |i: usize, c: &Candidate<'_>| {
        all.iter().enumerate().any(|(j, d)| {
            let less = d.cost < c.cost || d.needs.len() < c.needs.len() || j < i;
            j != i && d.cost <= c.cost && within(d, c) && less
        })
    };
    let kept = all.iter().enumerate().filter(|(i, c)| !worse(*i, c));
    kept.map(|(_, c)| c).collect()
}

/// Which classes are required, and which of their candidates are taken.
#[derive(Clone, Default)]
struct State {
    open: BTreeSet<usize>,
    /// Required by other groups, which pay for it.
    elsewhere: BTreeSet<usize>,
    chosen: BTreeMap<usize, usize>,
    cost: u64,
}

impl State {
    fn require(&mut self, class: usize) {
        if !self.is_required(class) {
            self.open.insert(class);
        }
    }

    fn is_required(&self, class: usize) -> bool {
        self.open.contains(&class)
            || self.chosen.contains_key(&class)
            || self.elsewhere.contains(&class)
    }
}

struct Search<'c, 'a> {
    candidates: Vec<Vec<&'c Candidate<'a>>>,
    steps: usize,
}

type Found = (u64, BTreeMap<usize, usize>);

impl Search<'_, '_> {
    /// The cost of the class' cheapest node.
    fn least(&self, class: usize) -> u64 {
        self.candidates[class]
            .iter()
            .map(|k| k.cost)
            .min()
            .unwrap_or(0)
    }

    /// A cost that no completion is below.
    fn bound(&self, mut state: State) -> u64 {
        self.forced(&mut state);
        state
            .open
            .iter()
            .fold(state.cost, |sum, c| sum.saturating_add(self.least(*c)))
    }

    /// The cheapest completion that costs less than `bound`: its whole cost, and what it takes.
    fn solve(&mut self, mut state: State, bound: u64) -> Option<Found> {
        self.steps += 1;
        if self.steps > STEPS || !self.forced(&mut state) {
            return None;
        }
        let rest: u64 = state.open.iter().map(|c| self.least(*c)).sum();
        if state.cost.saturating_add(rest) >= bound {
            return None;
        }
        if state.open.is_empty() {
            return Some((state.cost, state.chosen));
        }
        let groups = self.groups(&state);
        if groups.len() > 1 {
            return self.solve_groups(state, groups, bound);
        }
        let widest = state
            .open
            .iter()
            .copied()
            .max_by_key(|c| (self.reach(&state, *c).len(), usize::MAX - c))?;
        let mut order: Vec<usize> = (0..self.candidates[widest].len()).collect();
        order.sort_by_key(|k| (self.candidates[widest][*k].cost, *k));
        let mut best: Option<Found> = None;
        for k in order {
            let mut next = state.clone();
            if self.take(&mut next, widest, k) {
                let limit = best.as_ref().map_or(bound, |(cost, _)| *cost);
                best = self.solve(next, limit).or(best);
            }
        }
        best
    }

    /// Each group alone; what is paid already counts once.
    fn solve_groups(
        &mut self,
        state: State,
        groups: Vec<BTreeSet<usize>>,
        bound: u64,
    ) -> Option<Found> {
        let least = |g: &BTreeSet<usize>| g.iter().map(|c| self.least(*c)).sum();
        let least: Vec<u64> = groups.iter().map(least).collect();
        let mut total = state.cost;
        let mut chosen = state.chosen.clone();
        for (n, group) in groups.iter().enumerate() {
            let others: u64 = least[n + 1..].iter().sum();
            let elsewhere = state.open.difference(group).chain(&state.elsewhere);
            let alone = State {
                open: group.clone(),
                elsewhere: elsewhere.copied().collect(),
                chosen: state.chosen.clone(),
                cost: 0,
            };
            let limit = bound.checked_sub(total)?.checked_sub(others)?;
            let (cost, of) = self.solve(alone, limit)?;
            total += cost;
            chosen.extend(of);
        }
        Some((total, chosen))
    }

    /// Takes what is without a choice, and requires what every choice needs, until nothing changes. `false` where a class has nothing left to take.
    fn forced(&self, state: &mut State) -> bool {
        loop {
            let mut changed = false;
            for class in state.open.clone() {
                let fits = |k: &usize| !self.closes(state, class, *k);
                let fitting: Vec<usize> = (0..self.candidates[class].len()).filter(fits).collect();
                let Some((first, others)) = fitting.split_first() else {
                    return false;
                };
                if others.is_empty() {
                    changed = true;
                    if !self.take(state, class, *first) {
                        return false;
                    }
                    continue;
                }
                for need in &self.candidates[class][*first].needs {
                    let all = others
                        .iter()
                        .all(|k| self.candidates[class][*k].needs.contains(need));
                    if all && !state.is_required(*need) {
                        state.require(*need);
                        changed = true;
                    }
                }
            }
            if !changed {
                return true;
            }
        }
    }

    fn take(&self, state: &mut State, class: usize, k: usize) -> bool {
        if self.closes(state, class, k) {
            return false;
        }
        state.open.remove(&class);
        state.chosen.insert(class, k);
        let candidate = self.candidates[class][k];
        state.cost = state.cost.saturating_add(candidate.cost);
        candidate.needs.iter().for_each(|n| state.require(*n));
        true
    }

    /// Whether the candidate leads back to its class through what is chosen.
    fn closes(&self, state: &State, class: usize, k: usize) -> bool {
        let mut seen = BTreeSet::new();
        let mut stack = self.candidates[class][k].needs.clone();
        while let Some(c) = stack.pop() {
            if c == class {
                return true;
            }
            if let (true, Some(k)) = (seen.insert(c), state.chosen.get(&c)) {
                stack.extend_from_slice(&self.candidates[c][*k].needs);
            }
        }
        false
    }

    /// What an open class could bring in that isn't required yet.
    fn reach(&self, state: &State, class: usize) -> BTreeSet<usize> {
        let needs = |c: usize| {
            self.candidates[c]
                .iter()
                .flat_map(|k| k.needs.iter().copied())
        };
        let mut seen = BTreeSet::new();
        let mut stack: Vec<usize> = needs(class).collect();
        while let Some(c) = stack.pop() {
            if !state.is_required(c) && seen.insert(c) {
                stack.extend(needs(c));
            }
        }
        seen
    }

    /// The open classes, in groups that could bring in the same things.
    fn groups(&self, state: &State) -> Vec<BTreeSet<usize>> {
        let mut groups: Vec<(BTreeSet<usize>, BTreeSet<usize>)> = Vec::new();
        for class in &state.open {
            let mut reach = self.reach(state, *class);
            let mut members = BTreeSet::from([*class]);
            groups.retain(|(of, other)| {
                let apart = reach.is_disjoint(other);
                if !apart {
                    members.extend(of);
                    reach.extend(other);
                }
                apart
            });
            groups.push((members, reach));
        }
        groups.into_iter().map(|(members, _)| members).collect()
    }

    fn is_acyclic(&self, chosen: &BTreeMap<usize, usize>) -> bool {
        let state = State {
            chosen: chosen.clone(),
            ..State::default()
        };
        chosen
            .iter()
            .all(|(class, k)| !self.closes(&state, *class, *k))
    }
}
