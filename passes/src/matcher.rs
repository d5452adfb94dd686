//! Finding a pattern in the e-graph.
//!
//! The search walks a list of goals (a pattern that a class must match), tries each node of the class, and both orders of the arguments of a commutative op. What it finds
//! depends on nothing but the e-graph's contents: classes are visited by id, nodes in their sorted order.

use crate::egraph::{EGraph, ENode};
use crate::pattern::{Apply, AttrPattern, Names, Pattern};
use egg::{Id, Language};
use fuseline_ir::text::Cursor;
use fuseline_ir::{Attr, DType, Dim, Op};
use std::collections::BTreeMap;

/// What a variable stands for in a match.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// A class.
    Class(Id),
    /// Any number of classes.
    Classes(Vec<Id>),
    /// An attribute.
    Attr(Attr),
    /// A term that a sort worked out, not yet in the e-graph.
    Made(Made),
}

/// A term to be built.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// A class that is there.
    Class(Id),
    /// An op applied to terms.
    Op(Op, Vec<Made>),
}

impl Made {
    /// An op applied to terms.
    pub fn op(op: impl Into<Op>, args: Vec<Made>) -> Made {
        Made::Op(op.into(), args)
    }
}

/// What a letter stands for in a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// A size.
    Dim(Dim),
    /// Sizes, of `L..`.
    Dims(Vec<Dim>),
    /// A dtype.
    DType(DType),
}

/// A match: what the variables and letters stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings {
    slots: Vec<Option<Bound>>,
    letters: BTreeMap<String, Letter>,
    /// Attributes whose patterns mention letters: pattern, what stands there.
    later: Vec<(AttrPattern, Attr)>,
    /// The nodes that the pattern's applications matched, in the order in which they are written.
    trace: Vec<Matched>,
}

/// A node that an application in a pattern matched, as long as the e-graph is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The class.
    pub class: Id,
    /// Which of its nodes.
    pub node: usize,
    /// Whether its two arguments matched in the other order.
    pub swapped: bool,
}

impl Bindings {
    /// Nothing bound; `n` variables.
    pub fn new(n: usize) -> Bindings {
        Bindings {
            slots: vec![None; n],
            ..Bindings::default()
        }
    }

    /// The nodes that the pattern's applications matched, in the order in which they are written.
    pub fn trace(&self) -> &[Matched] {
        &self.trace
    }

    /// What the variable in `slot` stands for.
    pub fn get(&self, slot: usize) -> Option<&Bound> {
        self.slots.get(slot)?.as_ref()
    }

    /// Binds a variable, whatever it was.
    pub fn set(&mut self, slot: usize, bound: Bound) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(bound);
        }
    }

    /// Binds the variable `name`, if the rule has one.
    pub fn give(&mut self, names: &Names, name: &str, bound: Bound) -> Option<()> {
        self.set(names.find(name)?, bound);
        Some(())
    }

    /// What a letter stands for.
    pub fn letter(&self, name: &str) -> Option<&Letter> {
        self.letters.get(name)
    }

    /// Ties a letter down; `None` where it stands for something else.
    pub fn unify(&mut self, name: &str, letter: Letter) -> Option<()> {
        match self.letters.get(name) {
            Some(old) => (*old == letter).then_some(()),
            None => {
                self.letters.insert(name.to_string(), letter);
                Some(())
            }
        }
    }

    fn bind(&mut self, slot: usize, bound: Bound) -> bool {
        match &self.slots[slot] {
            Some(old) => *old == bound,
            None => {
                self.slots[slot] = Some(bound);
                true
            }
        }
    }

    /// Ties down the letters that stand alone in attributes whose patterns mention letters; `None` where one stands for something else.
    pub fn learn(&mut self) -> Option<()> {
        let later = self.later.clone();
        later
            .iter()
            .try_for_each(|(pattern, attr)| self.learn_from(pattern, attr))
    }

    fn learn_from(&mut self, pattern: &AttrPattern, attr: &Attr) -> Option<()> {
        match (pattern, attr) {
            (AttrPattern::Literal(Attr::Int(d)), attr) => match (d.as_symbol(), attr) {
                (Some(s), Attr::Int(d)) if is_letter(s) => self.unify(s, Letter::Dim(d.clone())),
                (Some(s), Attr::DType(d)) if is_letter(s) => self.unify(s, Letter::DType(*d)),
                _ => Some(()),
            },
            (AttrPattern::List(items), Attr::List(attrs)) => {
                let (items, attrs) = match items.split_first() {
                    Some((AttrPattern::Splice(name), items)) => {
                        let (lead, attrs) = attrs.split_at(attrs.len().checked_sub(items.len())?);
                        self.unify(
                            name,
                            Letter::Dims(lead.iter().map(dim).collect::<Option<_>>()?),
                        )?;
                        (items, attrs)
                    }
                    _ => (items.as_slice(), attrs.as_slice()),
                };
                let mut pairs = items.iter().zip(attrs);
                pairs.try_for_each(|(p, a)| self.learn_from(p, a))
            }
            _ => Some(()),
        }
    }

    /// Whether the attributes that were put off are what their patterns say, now that the letters are tied down.
    pub fn settle(&self) -> bool {
        let same = |(pattern, attr): &(AttrPattern, Attr)| {
            pattern.with_letters(self).as_ref() == Some(attr)
        };
        self.later.iter().all(same)
    }
}

/// The expression `text` with its letters replaced; `None` where one is free or it is no expression.
pub fn letters_of(text: &str, b: &Bindings) -> Option<Dim> {
    let dim = Cursor::new(text).ok()?.dim().ok()?;
    substitute(&dim, b)
}

fn substitute(dim: &Dim, b: &Bindings) -> Option<Dim> {
    let mut free = false;
    dim.visit_symbols(&mut |s| {
        free |= is_letter(s) && !matches!(b.letter(s), Some(Letter::Dim(_)))
    });
    if free {
        return None;
    }
    Some(dim.substitute(&|s| match b.letter(s) {
        Some(Letter::Dim(d)) => Some(d.clone()),
        _ => None,
    }))
}

fn dim(attr: &Attr) -> Option<Dim> {
    match attr {
        Attr::Int(d) => Some(d.clone()),
        _ => None,
    }
}

/// Letters start with a capital, symbols of graphs don't.
fn is_letter(symbol: &str) -> bool {
    symbol.starts_with(|c: char| c.is_ascii_uppercase())
}

impl AttrPattern {
    fn has_letters(&self) -> bool {
        match self {
            AttrPattern::Bind(_)
            | AttrPattern::NumberOf(_)
            | AttrPattern::Times(..)
            | AttrPattern::Multiple(..) => false,
            AttrPattern::Splice(_) => true,
            AttrPattern::List(items) => items.iter().any(AttrPattern::has_letters),
            AttrPattern::Literal(attr) => {
                let mut found = false;
                fuseline_ir::attr::visit_symbols(attr, &mut |s| found |= is_letter(s));
                found
            }
        }
    }

    /// The attribute, letters replaced. `None` where one is free, or the pattern has variables.
    pub fn with_letters(&self, b: &Bindings) -> Option<Attr> {
        match self {
            AttrPattern::Literal(Attr::Int(d)) => match d.as_symbol().and_then(|s| b.letter(s)) {
                Some(Letter::DType(d)) => Some(Attr::DType(*d)),
                _ => substitute(d, b).map(Attr::Int),
            },
            AttrPattern::Literal(attr) => Some(attr.clone()),
            AttrPattern::List(items) => {
                let mut out = Vec::new();
                for item in items {
                    match item {
                        AttrPattern::Splice(name) => match b.letter(name)? {
                            Letter::Dims(dims) => out.extend(dims.iter().cloned().map(Attr::Int)),
                            _ => return None,
                        },
                        item => out.push(item.with_letters(b)?),
                    }
                }
                Some(Attr::List(out))
            }
            AttrPattern::Bind(slot) => match b.get(*slot)? {
                Bound::Attr(attr) => Some(attr.clone()),
                _ => None,
            },
            AttrPattern::NumberOf(_)
            | AttrPattern::Times(..)
            | AttrPattern::Multiple(..)
            | AttrPattern::Splice(_) => None,
        }
    }
}

/// Replaces negative axes by what they mean for a first argument of that rank.
pub fn resolve_axes(attr: &str, pattern: &AttrPattern, rank: Option<usize>) -> AttrPattern {
    let fix = |p: &AttrPattern| match (p, rank) {
        (AttrPattern::Literal(Attr::Int(d)), Some(rank)) => match d.as_const() {
            Some(n) if n < 0 => AttrPattern::Literal(Attr::Int(&Dim::from(n) + &Dim::from(rank))),
            _ => p.clone(),
        },
        _ => p.clone(),
    };
    match (attr, pattern) {
        ("axis", p) => fix(p),
        ("axes", AttrPattern::List(items)) => AttrPattern::List(items.iter().map(fix).collect()),
        (_, p) => p.clone(),
    }
}

/// Whether the op's two arguments may be exchanged.
pub fn commutes(op: &str) -> bool {
    matches!(
        op,
        "add"
            | "mul"
            | "maximum"
            | "minimum"
            | "eq"
            | "ne"
            | "logical_and"
            | "logical_or"
            | "bitwise_and"
            | "bitwise_or"
            | "bitwise_xor"
    )
}

/// The places where `pattern`, an application of an op, matches: root class and bindings. At most `limit` of them; the flag says whether there were more.
pub fn search(
    egraph: &EGraph,
    pattern: &Apply,
    slots: usize,
    limit: usize,
) -> (Vec<(Id, Bindings)>, bool) {
    let mut roots: Vec<Id> = Op::find(&pattern.name)
        .and_then(|info| egraph.classes_for_op(&info.name))
        .map(|ids| ids.map(|id| egraph.find(id)).collect())
        .unwrap_or_default();
    roots.sort();
    roots.dedup();
    let mut out = Vec::new();
    for root in roots {
        let mut search = Search {
            egraph,
            limit,
            root,
            out: &mut out,
        };
        search.class(pattern, root, &[], Bindings::new(slots));
        if out.len() >= limit {
            return (out, true);
        }
    }
    (out, false)
}

struct Search<'a> {
    egraph: &'a EGraph,
    limit: usize,
    root: Id,
    out: &'a mut Vec<(Id, Bindings)>,
}

/// A pattern that a class must match.
type Goal<'p> = (&'p Pattern, Id);

impl Search<'_> {
    fn solve(&mut self, goals: &[Goal<'_>], mut b: Bindings) {
        let Some(((pattern, id), rest)) = goals.split_last() else {
            if self.out.len() < self.limit {
                self.out.push((self.root, b));
            }
            return;
        };
        let id = self.egraph.find(*id);
        match pattern {
            Pattern::Var(slot) => {
                if b.bind(*slot, Bound::Class(id)) {
                    self.solve(rest, b);
                }
            }
            Pattern::Number(x) => {
                if is_number(self.egraph, id, *x) {
                    self.solve(rest, b);
                }
            }
            Pattern::Apply(apply) => self.class(apply, id, rest, b),
        }
    }

    fn class(&mut self, apply: &Apply, id: Id, rest: &[Goal<'_>], b: Bindings) {
        let egraph = self.egraph;
        for (index, node) in egraph[id].nodes.iter().enumerate() {
            if node.discriminant() != apply.name {
                continue;
            }
            let mut b = b.clone();
            if self.node(apply, node, &mut b) {
                b.trace.push(Matched {
                    class: id,
                    node: index,
                    swapped: false,
                });
                self.args(apply, node, rest, b);
            }
        }
    }

    /// Whether the attributes and the number of arguments fit.
    fn node(&self, apply: &Apply, node: &ENode, b: &mut Bindings) -> bool {
        let n = node.children.len();
        if n < apply.args.len() || (apply.rest.is_none() && n > apply.args.len()) {
            return false;
        }
        if let Some(slot) = apply.rest {
            let rest = node.children[apply.args.len()..].iter();
            let rest = rest.map(|c| self.egraph.find(*c)).collect();
            if !b.bind(slot, Bound::Classes(rest)) {
                return false;
            }
        }
        let rank = node
            .children
            .first()
            .and_then(|c| self.egraph[*c].data.ty.as_tensor())
            .map(|t| t.rank());
        let attrs = node.op.attrs();
        apply.attrs.iter().all(|(name, pattern)| {
            let Some((_, attr)) = attrs.iter().find(|(n, _)| n == name) else {
                return false;
            };
            let pattern = resolve_axes(name, pattern, rank);
            match &pattern {
                AttrPattern::Bind(slot) => b.bind(*slot, Bound::Attr(attr.clone())),
                pattern if pattern.has_letters() => {
                    b.later.push((pattern.clone(), attr.clone()));
                    true
                }
                AttrPattern::List(_) | AttrPattern::Literal(_) => {
                    pattern.with_letters(b).as_ref() == Some(attr)
                }
                AttrPattern::NumberOf(_)
                | AttrPattern::Times(..)
                | AttrPattern::Multiple(..)
                | AttrPattern::Splice(_) => false,
            }
        })
    }

    fn args(&mut self, apply: &Apply, node: &ENode, rest: &[Goal<'_>], b: Bindings) {
        let mut goals = rest.to_vec();
        let pairs = apply.args.iter().zip(node.children.iter().copied());
        goals.extend(pairs.rev());
        let swapped = match (apply.args.as_slice(), node.children.as_slice()) {
            ([x, y], [c, d]) if commutes(&apply.name) && c != d => {
                let mut goals = rest.to_vec();
                goals.extend([(y, *c), (x, *d)]);
                let mut b = b.clone();
                if let Some(matched) = b.trace.last_mut() {
                    matched.swapped = true;
                }
                Some((goals, b))
            }
            _ => None,
        };
        self.solve(&goals, b);
        if let Some((goals, b)) = swapped {
            self.solve(&goals, b);
        }
    }
}

/// Whether every element of the class is `x`, as its dtype rounds it.
fn is_number(egraph: &EGraph, id: Id, x: f64) -> bool {
    let facts = &egraph[id].data;
    match (facts.scalar, facts.ty.as_tensor()) {
        (Some(scalar), Some(ty)) if ty.dtype.is_float() => {
            let (got, want) = (scalar.as_f64(), ty.dtype.round(x));
            got == want
        }
        (Some(scalar), Some(_)) => scalar.as_f64() == x,
        _ => false,
    }
}
