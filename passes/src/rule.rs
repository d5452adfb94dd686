//! A rewrite rule: one row of a table in [`crate::rules`], and what it compiles to.
//!
//! A row's left side is found, its variables are checked against their sorts, and its right side is built beside it; the two become one class where their inferred types are the
//! same. See [`crate::pattern`] for how the sides are written and [`crate::sort`] for the sorts.

use crate::build::{self, Planned};
use crate::egraph::EGraph;
use crate::matcher::{Bindings, search};
use crate::pass::{Numerics, PassError};
use crate::pattern::{Apply, Names, Pattern, parse};
use crate::sort::{Name, Sort};
use egg::Id;
use fuseline_ir::ParseError;

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Name, unique; also that of its case file.
    pub name: &'static str,
    /// What it does, why it is true, when it must not fire.
    pub doc: &'static str,
    /// Its variables (`x`, without `?` or `$`) and letters with their sorts.
    pub vars: &'static [(&'static str, Sort)],
    /// What is found.
    pub lhs: &'static str,
    /// What is as good or better.
    pub rhs: &'static str,
    /// How far the two may lie apart.
    pub class: Numerics,
}

/// A rule that can be applied.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The row.
    pub rule: Rule,
    /// The left side.
    pub lhs: Apply,
    /// The right side.
    pub rhs: Pattern,
    /// Names of the variables.
    pub names: Names,
}

/// A place where a rule fires: root class, and what to build there.
pub struct Match {
    /// The class of the left side.
    pub root: Id,
    /// What its variables stand for.
    pub bindings: Bindings,
}

impl Rule {
    /// Reads both sides.
    ///
    /// Errors: a side that can't be read, a left side that is no application of an op, a variable without a sort, a variable on the right that nothing binds.
    pub fn compile(&self) -> Result<Compiled, PassError> {
        let error = |side: &'static str| {
            move |error: ParseError| PassError::Rule {
                rule: self.name,
                side,
                error,
            }
        };
        let row = |side: &'static str, reason: String| {
            error(side)(ParseError {
                line: 1,
                column: 1,
                reason,
            })
        };
        let mut names = Names::default();
        let lhs = match parse(self.lhs, &mut names).map_err(error("left"))? {
            Pattern::Apply(apply) => apply,
            _ => return Err(row("left", "must be an op".into())),
        };
        let found = names.0.len();
        for (name, sort) in self.vars {
            if *sort == Sort::Given {
                names.slot(name);
            } else if !sort.is_letter() && names.find(name).is_none() {
                return Err(row("variables", format!("`{name}` is not on the left")));
            }
        }
        let known = names.0.len();
        let rhs = parse(self.rhs, &mut names).map_err(error("right"))?;
        if let Some(free) = names.0.get(known) {
            return Err(row("right", format!("nothing binds `{free}`")));
        }
        let sorted = |name: &&String| self.vars.iter().any(|(n, _)| n == name);
        let rest = |name: &&String| lhs.binds_rest(&names, name);
        if let Some(unsorted) = names.0[..found].iter().find(|n| !sorted(n) && !rest(n)) {
            return Err(row("variables", format!("`{unsorted}` has no sort")));
        }
        Ok(Compiled {
            rule: *self,
            lhs,
            rhs,
            names,
        })
    }
}

impl Apply {
    /// Whether `name` is written `?name*` in the term: such a variable needs no sort.
    pub fn binds_rest(&self, names: &Names, name: &str) -> bool {
        let here = self.rest.is_some() && self.rest == names.find(name);
        let below = |arg: &Pattern| matches!(arg, Pattern::Apply(a) if a.binds_rest(names, name));
        here || self.args.iter().any(below)
    }
}

impl Compiled {
    /// The matches in the e-graph, in a fixed order, at most `limit` of them; the flag says whether there were more.
    pub fn find(&self, egraph: &EGraph, limit: usize) -> (Vec<Match>, bool) {
        let (found, more) = search(egraph, &self.lhs, self.names.0.len(), limit);
        let matches = found.into_iter().filter_map(|(root, mut bindings)| {
            self.check(egraph, &mut bindings)
                .then_some(Match { root, bindings })
        });
        (matches.collect(), more)
    }

    /// Whether the variables are of their sorts; ties down the letters.
    pub fn check(&self, egraph: &EGraph, b: &mut Bindings) -> bool {
        // Letters are tied down by tensors and attributes, so their own rows come last.
        let (letters, vars): (Vec<_>, Vec<_>) =
            self.rule.vars.iter().partition(|(_, s)| s.is_letter());
        let holds = |b: &mut Bindings, (text, sort): &(&str, Sort)| {
            let name = Name {
                text,
                slot: self.names.find(text),
                all: &self.names,
            };
            sort.holds(egraph, &name, b)
        };
        vars.into_iter().all(|row| holds(b, row))
            && b.learn().is_some()
            && letters.into_iter().all(|row| holds(b, row))
            && b.settle()
    }

    /// The right side of `m`, where its type is that of the left side.
    pub fn plan(&self, egraph: &EGraph, m: &Match) -> Option<Planned> {
        build::plan(egraph, &self.rhs, &m.bindings, &egraph[m.root].data.ty)
    }
}
