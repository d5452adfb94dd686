//! Patterns: terms over ops with holes, as one line of math.
//!
//! ```text
//! mul(?x, rsqrt(add(mean[axes=[-1], keepdim=true](square(?x)), ?eps)))
//! reshape[shape=[B, H, S, T]](matmul(reshape[shape=[B*H, S, D]](?a), reshape[shape=[B*H, D, T]](?b)))
//! sdpa[scale=$c, causal=false](?q, ?k, ?v, ?rest*)
//! ```
//!
//! - `?x` is any class; a second `?x` is the same class. `?xs*`, last among arguments, is all that are left, maybe none.
//! - `name[attr=…](…)` is a node of that op. An attribute that isn't mentioned may be anything; `attr=$a` binds it. A word that starts with a capital is a *letter*: an
//!   integer expression or a dtype that the sorts of the rule's variables tie down; expressions over letters are compared when all are known. `L..` within a list is any number of
//!   items. A negative `axis` counts from the end of the first argument's shape.
//! - a number is a class whose every element is that number, rounded to its dtype.
//! - the two arguments of `add`, `mul` and the like match in either order.
//!
//! On the right side of a rule, `attr=?c` is the number that `?c` is known to be, `attr=$a*?c` the number in `$a` times that one, `attr=$a*-1` times a number that is written, and these build what they say only where it is not there already:
//! `reshaped[shape=…](t)`, `vector(t)` (all in one axis), `swapped(t)` (last two axes exchanged), and the new numbers `product(?a, ?b)`,
//! `part[start, stop](?x)`: those places of the last axis, `?x` itself where they are all; `reciprocal_of(?a)`, `zero_of(?a)` and `lowest_of(?a)` (the lowest finite number), of the dtype
//! of `?a`.

use fuseline_ir::text::Cursor;
use fuseline_ir::{Attr, Op, ParseError};

/// Names of the helpers that only a right side may use.
pub const HELPERS: [&str; 8] = [
    "reshaped",
    "part",
    "vector",
    "swapped",
    "product",
    "reciprocal_of",
    "zero_of",
    "lowest_of",
];

/// A term with holes.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// `?x`: the slot of a variable.
    Var(usize),
    /// A number.
    Number(f64),
    /// An op or a helper.
    Apply(Apply),
}

/// An op applied to terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Apply {
    /// The op's or helper's name.
    pub name: String,
    /// The attributes that are mentioned.
    pub attrs: Vec<(String, AttrPattern)>,
    /// The arguments.
    pub args: Vec<Pattern>,
    /// The slot of `?xs*`.
    pub rest: Option<usize>,
}

/// An attribute with holes.
#[derive(Clone, Debug, PartialEq)]
pub enum AttrPattern {
    /// `$a`: the slot of a variable.
    Bind(usize),
    /// `?c`: the number that the variable in this slot is.
    NumberOf(usize),
    /// `$a*?c`: the number in the attribute that the first slot binds, times the number that the variable in the second one is.
    Times(usize, usize),
    /// `$a*-1`: the number in the attribute that this slot binds, times that one.
    Multiple(usize, i64),
    /// A literal, maybe with letters.
    Literal(Attr),
    /// `L..` within a list.
    Splice(String),
    /// A list.
    List(Vec<AttrPattern>),
}

/// The names of a rule's variables; a slot is a place in it. `x` is written `?x` or `$x`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names(pub Vec<String>);

impl Names {
    /// The slot of `name`, a new one if there is none.
    pub fn slot(&mut self, name: &str) -> usize {
        match self.find(name) {
            Some(slot) => slot,
            None => {
                self.0.push(name.to_string());
                self.0.len() - 1
            }
        }
    }

    /// The slot of `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|n| n == name)
    }
}

/// Letters that stand for any number of items of a list.
const SPLICES: [&str; 2] = ["L..", "M.."];

/// Reads a pattern; new variables get slots in `names`.
///
/// Errors: what isn't a pattern, an unknown op or attribute, or a number of arguments that the op doesn't take.
pub fn parse(text: &str, names: &mut Names) -> Result<Pattern, ParseError> {
    let mut cursor = Cursor::new(text)?;
    let pattern = Reader {
        names,
        c: &mut cursor,
    }
    .pattern(0)?;
    cursor.end()?;
    Ok(pattern)
}

/// How deep a pattern may nest.
const MAX_DEPTH: usize = 40;

struct Reader<'a> {
    names: &'a mut Names,
    c: &'a mut Cursor,
}

impl Reader<'_> {
    fn pattern(&mut self, depth: usize) -> Result<Pattern, ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.c.error("nested too deep"));
        }
        if self.c.eat('?') {
            let name = self.c.word()?;
            return Ok(Pattern::Var(self.names.slot(&name)));
        }
        if !self.c.at_word() {
            return self.number();
        }
        let name = self.c.word()?;
        if name == "inf" {
            return Ok(Pattern::Number(f64::INFINITY));
        }
        let info = Op::find(&name);
        if info.is_none() && !HELPERS.contains(&name.as_str()) {
            return Err(self.c.error(format!("no op `{name}`")));
        }
        let mut apply = Apply {
            name,
            attrs: Vec::new(),
            args: Vec::new(),
            rest: None,
        };
        if self.c.eat('[') {
            self.attrs(&mut apply)?;
        }
        if self.c.eat('(') {
            self.args(&mut apply, depth)?;
        }
        if let Some(info) = info {
            let (least, most) = info.arity();
            let n = apply.args.len();
            let enough = n >= least || apply.rest.is_some();
            if !enough || most.is_some_and(|m| n > m) {
                return Err(self
                    .c
                    .error(format!("`{}` doesn't take {n} arguments", apply.name)));
            }
        }
        Ok(Pattern::Apply(apply))
    }

    fn number(&mut self) -> Result<Pattern, ParseError> {
        match self.c.attr()? {
            Attr::Float(x) => Ok(Pattern::Number(x.get())),
            Attr::Int(d) => match d.as_const() {
                Some(n) => Ok(Pattern::Number(n as f64)),
                None => Err(self.c.error("expected a number")),
            },
            other => Err(self.c.error(format!("expected a term, not {other}"))),
        }
    }

    fn attrs(&mut self, apply: &mut Apply) -> Result<(), ParseError> {
        let info = Op::find(&apply.name);
        while !self.c.eat(']') {
            let attr = self.c.word()?;
            if info.is_some_and(|i| !i.attrs.iter().any(|(name, _)| *name == attr)) {
                return Err(self
                    .c
                    .error(format!("`{}` has no attribute `{attr}`", apply.name)));
            }
            self.c.expect('=')?;
            let value = self.attr(0)?;
            apply.attrs.push((attr, value));
            if !self.c.eat(',') {
                self.c.expect(']')?;
                break;
            }
        }
        Ok(())
    }

    fn args(&mut self, apply: &mut Apply, depth: usize) -> Result<(), ParseError> {
        while !self.c.eat(')') {
            let arg = self.pattern(depth + 1)?;
            match arg {
                Pattern::Var(slot) if self.c.eat('*') => {
                    apply.rest = Some(slot);
                    self.c.expect(')')?;
                    break;
                }
                arg => apply.args.push(arg),
            }
            if !self.c.eat(',') {
                self.c.expect(')')?;
                break;
            }
        }
        Ok(())
    }

    fn attr(&mut self, depth: usize) -> Result<AttrPattern, ParseError> {
        if depth > MAX_DEPTH {
            return Err(self.c.error("nested too deep"));
        }
        if self.c.eat('$') {
            let name = self.c.word()?;
            let bound = self.names.slot(&name);
            if !self.c.eat('*') {
                return Ok(AttrPattern::Bind(bound));
            }
            if self.c.eat('?') {
                let name = self.c.word()?;
                return Ok(AttrPattern::Times(bound, self.names.slot(&name)));
            }
            let times = self.c.dim()?.as_const();
            let times = times.ok_or_else(|| self.c.error("expected a whole number"))?;
            return Ok(AttrPattern::Multiple(bound, times));
        }
        if self.c.eat('?') {
            let name = self.c.word()?;
            return Ok(AttrPattern::NumberOf(self.names.slot(&name)));
        }
        for splice in SPLICES {
            if self.c.eat_word(splice) {
                return Ok(AttrPattern::Splice(
                    splice.trim_end_matches('.').to_string(),
                ));
            }
        }
        if !self.c.eat('[') {
            return self.c.attr().map(AttrPattern::Literal);
        }
        let mut items = Vec::new();
        while !self.c.eat(']') {
            items.push(self.attr(depth + 1)?);
            if !self.c.eat(',') {
                self.c.expect(']')?;
                break;
            }
        }
        Ok(AttrPattern::List(items))
    }
}

impl Pattern {
    /// Calls `f` with the slot of each variable, attribute variables included.
    pub fn visit_slots(&self, f: &mut dyn FnMut(usize)) {
        match self {
            Pattern::Var(slot) => f(*slot),
            Pattern::Number(_) => {}
            Pattern::Apply(apply) => {
                apply.attrs.iter().for_each(|(_, a)| a.visit_slots(f));
                apply.args.iter().for_each(|a| a.visit_slots(f));
                apply.rest.iter().for_each(|r| f(*r));
            }
        }
    }
}

impl AttrPattern {
    fn visit_slots(&self, f: &mut dyn FnMut(usize)) {
        match self {
            AttrPattern::Bind(slot)
            | AttrPattern::NumberOf(slot)
            | AttrPattern::Multiple(slot, _) => f(*slot),
            AttrPattern::Times(bound, slot) => [bound, slot].into_iter().for_each(|s| f(*s)),
            AttrPattern::List(items) => items.iter().for_each(|i| i.visit_slots(f)),
            AttrPattern::Literal(_) | AttrPattern::Splice(_) => {}
        }
    }
}
