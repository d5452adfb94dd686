//! The algebra of symbolic sizes.
//!
//! A [`Dim`] is an integer polynomial over *atoms*: symbols such as `s0`, and the operations that a polynomial can't hold
//! (`floordiv`, `mod`, `min`, `max`) over other dims. It is kept in a normal form (terms sorted, equal monomials merged, zero terms gone), so two dims that are
//! equal as polynomials are equal as values. Equality that needs a range or number theory is *not* decided: unequal forms are "not known equal".
//! Arithmetic saturates at the ends of `i64`, so that a hostile file can't make it panic; and what would have more than some thousands of parts, as products of sums soon do, is a symbol
//! of its own instead, of which nothing else is known: whoever wants its value says that there is no such symbol.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of a symbolic integer, such as `s0` (a size) or `u0` (a number read from data).
pub type Symbol = Arc<str>;

/// The inclusive range of a symbol; `i64::MAX` stands for "unbounded".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

impl Range {
    /// Every number.
    pub const ALL: Range = Range {
        min: i64::MIN,
        max: i64::MAX,
    };

    /// The numbers from 0 on.
    pub const NATURAL: Range = Range {
        min: 0,
        max: i64::MAX,
    };

    /// The numbers that lie in both; empty where there are none.
    pub fn intersection(&self, other: &Range) -> Range {
        Range {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// The numbers with `n` added to each; an end at which there is no bound stays there.
    pub fn shifted(&self, n: i64) -> Range {
        let shift = |end: i64| match end {
            i64::MIN | i64::MAX => end,
            end => end.saturating_add(n),
        };
        Range {
            min: shift(self.min),
            max: shift(self.max),
        }
    }

    /// The numbers with their signs exchanged.
    pub fn negated(&self) -> Range {
        let negate = |end: i64| match end {
            i64::MIN => i64::MAX,
            i64::MAX => i64::MIN,
            end => -end,
        };
        Range {
            min: negate(self.max),
            max: negate(self.min),
        }
    }

    /// Whether the number lies within.
    pub fn contains(&self, n: i64) -> bool {
        (self.min..=self.max).contains(&n)
    }
}

/// `1..=511`, or `1..=inf`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            i64::MAX => write!(f, "{}..=inf", self.min),
            max => write!(f, "{}..={max}", self.min),
        }
    }
}

/// The symbols of a graph and their ranges.
pub type Symbols = BTreeMap<Symbol, Range>;

/// The most terms, symbols and operations that a dim is written with.
const MOST_PARTS: usize = 1 << 12;

/// A factor that a polynomial treats as opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A symbol.
    Sym(Symbol),
    /// Floor division, `floordiv(a, b)`.
    FloorDiv(Box<Dim>, Box<Dim>),
    /// Remainder with the sign of the divisor, `mod(a, b)`.
    Mod(Box<Dim>, Box<Dim>),
    /// The smaller one, `min(a, b)`.
    Min(Box<Dim>, Box<Dim>),
    /// The larger one, `max(a, b)`.
    Max(Box<Dim>, Box<Dim>),
}

/// A symbolic integer: a polynomial over [`Atom`]s with `i64` coefficients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dim {
    /// `(monomial, coefficient)`: monomials sorted and distinct, each a sorted product of atoms; coefficients non-zero.
    terms: Vec<(Vec<Atom>, i64)>,
}

impl Dim {
    /// The symbol `name`.
    pub fn symbol(name: impl Into<Symbol>) -> Dim {
        Dim::atom(Atom::Sym(name.into()))
    }

    fn atom(atom: Atom) -> Dim {
        if atom.parts() > MOST_PARTS {
            return Dim::beyond(format_args!("{atom}"));
        }
        Dim {
            terms: vec![(vec![atom], 1)],
        }
    }

    /// The terms, symbols and operations that it is written with.
    fn parts(&self) -> usize {
        let terms = self.terms.iter();
        let parts = terms.map(|(m, _)| 1 + m.iter().map(Atom::parts).sum::<usize>());
        parts.sum()
    }

    /// The symbol in the place of what has too many parts: the same one for the same text.
    fn beyond(text: fmt::Arguments<'_>) -> Dim {
        /// FNV-1a, of which nothing is stored.
        struct Hash(u64);
        impl fmt::Write for Hash {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for byte in text.bytes() {
                    self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                }
                Ok(())
            }
        }
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        // Only the hash could fail, and it does not.
        let _ = fmt::write(&mut hash, text);
        let name = format!("beyond_{:016x}", hash.0);
        Dim {
            terms: vec![(vec![Atom::Sym(name.into())], 1)],
        }
    }

    fn normal(map: BTreeMap<Vec<Atom>, i64>) -> Dim {
        Dim {
            terms: map.into_iter().filter(|(_, c)| *c != 0).collect(),
        }
    }

    /// The number, where the dim is one.
    pub fn as_const(&self) -> Option<i64> {
        match self.terms.as_slice() {
            [] => Some(0),
            [(m, c)] if m.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// True where the dim is the number `n`.
    pub fn is(&self, n: i64) -> bool {
        self.as_const() == Some(n)
    }

    /// The symbol, where the dim is just one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self.terms.as_slice() {
            [(m, 1)] => match m.as_slice() {
                [Atom::Sym(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// `(symbol, factor, offset)` where the dim is `factor · symbol + offset` with a positive factor: then its value gives the symbol's, `(value − offset) / factor`.
    pub fn as_linear(&self) -> Option<(&Symbol, i64, i64)> {
        let (term, offset) = match self.terms.as_slice() {
            [term] => (term, 0),
            [(constant, offset), term] if constant.is_empty() => (term, *offset),
            _ => return None,
        };
        match (term.0.as_slice(), term.1) {
            ([Atom::Sym(s)], factor @ 1..) => Some((s, factor, offset)),
            _ => None,
        }
    }

    /// The normal form: `(monomial, coefficient)` pairs, sorted.
    pub fn terms(&self) -> &[(Vec<Atom>, i64)] {
        &self.terms
    }

    /// `⌊self / by⌋`. What the divisor divides exactly is carried out; dividing by the number zero gives an opaque atom.
    ///
    /// By a positive number, the quotient has a normal form: the multiples of the divisor are taken out, the first term that is left is positive, and a
    /// quotient of a quotient is one quotient.
    pub fn floor_div(&self, by: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_const(), by.as_const())
            && b != 0
        {
            return Dim::from(a.saturating_sub(modulo(a, b)).saturating_div(b));
        }
        if let Some(q) = self.exact_div(by) {
            return q;
        }
        by.as_const()
            .filter(|b| *b > 1)
            .and_then(|b| self.normal_quotient(b))
            .unwrap_or_else(|| {
                Dim::atom(Atom::FloorDiv(Box::new(self.clone()), Box::new(by.clone())))
            })
    }

    /// `self = b·q + r`: every coefficient of r is smaller than `b`, and its constant is not negative. `b` is positive.
    fn split_multiples(&self, b: i64) -> (Dim, Dim) {
        let (mut whole, mut rest) = (BTreeMap::new(), BTreeMap::new());
        for (m, c) in &self.terms {
            let r = if m.is_empty() { modulo(*c, b) } else { c % b };
            // c − r lies between 0 and c, or less than b below it: a constant at the very end of the range saturates, as all arithmetic here.
            whole.insert(m.clone(), c.saturating_sub(r) / b);
            rest.insert(m.clone(), r);
        }
        (Dim::normal(whole), Dim::normal(rest))
    }

    /// The normal form of `⌊self / b⌋` for `b > 1`; `None` where a number would leave the range of `i64`.
    fn normal_quotient(&self, b: i64) -> Option<Dim> {
        let (whole, rest) = self.split_multiples(b);
        let divisor = Dim::from(b);
        let constant = rest
            .terms
            .first()
            .filter(|(m, _)| m.is_empty())
            .map_or(0, |(_, c)| *c);
        let symbolic = &rest - &Dim::from(constant);
        // ⌊⌊a / n⌋ + c⌋ / b⌋ = ⌊(a + c·n) / (n·b)⌋.
        if let [(mono, 1)] = symbolic.terms.as_slice()
            && let [Atom::FloorDiv(a, n)] = mono.as_slice()
            && let Some(n) = n.as_const().filter(|n| *n > 0)
        {
            let raised = a.as_ref() + &Dim::from(constant.checked_mul(n)?);
            return Some(&whole + &raised.floor_div(&Dim::from(n.checked_mul(b)?)));
        }
        match symbolic.terms.first() {
            None => Some(whole),
            // ⌊(c − a) / b⌋ = −⌊(a − c + b − 1) / b⌋.
            Some((_, first)) if *first < 0 => {
                let turned = &-&symbolic + &Dim::from(b - 1 - constant);
                let quotient = Dim::atom(Atom::FloorDiv(Box::new(turned), Box::new(divisor)));
                Some(&whole - &quotient)
            }
            Some(_) => {
                let quotient = Dim::atom(Atom::FloorDiv(Box::new(rest), Box::new(divisor)));
                Some(&whole + &quotient)
            }
        }
    }

    /// `self / by` where the division of polynomials by one term is exact; `None` elsewhere.
    pub fn exact_div(&self, by: &Dim) -> Option<Dim> {
        if self == by && !self.is(0) {
            return Some(Dim::from(1));
        }
        let [(mono, coef)] = by.terms.as_slice() else {
            return None;
        };
        let mut out = BTreeMap::new();
        for (m, c) in &self.terms {
            let mut rest = m.clone();
            for atom in mono {
                let at = rest.iter().position(|a| a == atom)?;
                rest.remove(at);
            }
            if c.checked_rem(*coef)? != 0 {
                return None;
            }
            out.insert(rest, c / coef);
        }
        Some(Dim::normal(out))
    }

    /// The remainder of floor division, with the sign of the divisor.
    pub fn modulo(&self, by: &Dim) -> Dim {
        match (self.as_const(), by.as_const()) {
            (Some(a), Some(b)) if b != 0 => Dim::from(modulo(a, b)),
            _ if self.exact_div(by).is_some() => Dim::from(0),
            (None, Some(b)) if b > 1 => {
                let (_, rest) = self.split_multiples(b);
                match rest.as_const() {
                    Some(n) => Dim::from(n),
                    None => Dim::atom(Atom::Mod(Box::new(rest), Box::new(by.clone()))),
                }
            }
            _ => Dim::atom(Atom::Mod(Box::new(self.clone()), Box::new(by.clone()))),
        }
    }

    /// The smaller of two dims.
    pub fn minimum(&self, other: &Dim) -> Dim {
        match (self - other).as_const() {
            Some(d) if d <= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other {
                    (self, other)
                } else {
                    (other, self)
                };
                Dim::atom(Atom::Min(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// The larger of two dims.
    pub fn maximum(&self, other: &Dim) -> Dim {
        match (self - other).as_const() {
            Some(d) if d >= 0 => self.clone(),
            Some(_) => other.clone(),
            None => {
                let (a, b) = if self <= other {
                    (self, other)
                } else {
                    (other, self)
                };
                Dim::atom(Atom::Max(Box::new(a.clone()), Box::new(b.clone())))
            }
        }
    }

    /// The value under an assignment of the symbols; `None` where a symbol has none or a divisor is zero.
    pub fn eval(&self, env: &BTreeMap<Symbol, i64>) -> Option<i64> {
        let mut sum = 0i64;
        for (mono, c) in &self.terms {
            let mut product = *c;
            for atom in mono {
                let v = match atom {
                    Atom::Sym(s) => *env.get(s)?,
                    Atom::FloorDiv(a, b) => {
                        let (a, b) = (a.eval(env)?, b.eval(env)?);
                        if b == 0 {
                            return None;
                        }
                        a.saturating_sub(modulo(a, b)).saturating_div(b)
                    }
                    Atom::Mod(a, b) => {
                        let (a, b) = (a.eval(env)?, b.eval(env)?);
                        if b == 0 {
                            return None;
                        }
                        modulo(a, b)
                    }
                    Atom::Min(a, b) => a.eval(env)?.min(b.eval(env)?),
                    Atom::Max(a, b) => a.eval(env)?.max(b.eval(env)?),
                };
                product = product.saturating_mul(v);
            }
            sum = sum.saturating_add(product);
        }
        Some(sum)
    }

    /// An interval that holds every value of the dim for symbols within their ranges (interval arithmetic: sound, not tight).
    pub fn range(&self, symbols: &Symbols) -> Range {
        let mut total = Range { min: 0, max: 0 };
        for (mono, c) in &self.terms {
            let mut r = Range { min: *c, max: *c };
            for atom in mono {
                r = r.mul(atom.range(symbols));
            }
            total = Range {
                min: total.min.saturating_add(r.min),
                max: total.max.saturating_add(r.max),
            };
        }
        total
    }

    /// Calls `f` with every symbol that occurs, nested ones included.
    pub fn visit_symbols(&self, f: &mut dyn FnMut(&Symbol)) {
        for (mono, _) in &self.terms {
            for atom in mono {
                match atom {
                    Atom::Sym(s) => f(s),
                    Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                        a.visit_symbols(f);
                        b.visit_symbols(f);
                    }
                }
            }
        }
    }

    /// The dim with each symbol replaced by what `f` gives for it (`None` keeps it).
    pub fn substitute(&self, f: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        let mut sum = Dim::from(0);
        for (mono, c) in &self.terms {
            let mut product = Dim::from(*c);
            for atom in mono {
                let v = match atom {
                    Atom::Sym(s) => f(s).unwrap_or_else(|| Dim::atom(atom.clone())),
                    Atom::FloorDiv(a, b) => a.substitute(f).floor_div(&b.substitute(f)),
                    Atom::Mod(a, b) => a.substitute(f).modulo(&b.substitute(f)),
                    Atom::Min(a, b) => a.substitute(f).minimum(&b.substitute(f)),
                    Atom::Max(a, b) => a.substitute(f).maximum(&b.substitute(f)),
                };
                product = &product * &v;
            }
            sum = &sum + &product;
        }
        sum
    }

    /// The dim with each `min` and `max` replaced by one of its arguments, where the symbols' ranges tell which.
    pub fn chosen(&self, symbols: &Symbols) -> Dim {
        let each = |dim: &Dim| dim.chosen(symbols);
        let mut sum = Dim::from(0);
        for (mono, c) in &self.terms {
            let mut product = Dim::from(*c);
            for atom in mono {
                let v = match atom {
                    Atom::Sym(_) => Dim::atom(atom.clone()),
                    Atom::FloorDiv(a, b) => each(a).floor_div(&each(b)),
                    Atom::Mod(a, b) => each(a).modulo(&each(b)),
                    Atom::Min(a, b) | Atom::Max(a, b) => {
                        let (a, b) = (each(a), each(b));
                        let more = (&a - &b).range(symbols);
                        let least = matches!(atom, Atom::Min(..));
                        match (more.min >= 0, more.max <= 0) {
                            (true, _) if least => b,
                            (true, _) => a,
                            (_, true) if least => a,
                            (_, true) => b,
                            _ if least => a.minimum(&b),
                            _ => a.maximum(&b),
                        }
                    }
                };
                product = &product * &v;
            }
            sum = &sum + &product;
        }
        sum
    }
}

/// The remainder of floor division; `b` is not zero.
fn modulo(a: i64, b: i64) -> i64 {
    let r = a.wrapping_rem(b);
    if r != 0 && (r < 0) != (b < 0) {
        r + b
    } else {
        r
    }
}

impl Atom {
    fn parts(&self) -> usize {
        match self {
            Atom::Sym(_) => 1,
            Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                1 + a.parts() + b.parts()
            }
        }
    }

    fn range(&self, symbols: &Symbols) -> Range {
        const ANY: Range = Range {
            min: i64::MIN,
            max: i64::MAX,
        };
        match self {
            Atom::Sym(s) => symbols.get(s).copied().unwrap_or(ANY),
            Atom::FloorDiv(a, b) => {
                let (a, b) = (a.range(symbols), b.range(symbols));
                if b.min <= 0 {
                    return ANY;
                }
                let q = |x: i64, y: i64| x.saturating_sub(modulo(x, y)).saturating_div(y);
                let all = [
                    q(a.min, b.min),
                    q(a.min, b.max),
                    q(a.max, b.min),
                    q(a.max, b.max),
                ];
                Range::of(&all)
            }
            Atom::Mod(_, b) => {
                let b = b.range(symbols);
                if b.min <= 0 {
                    return ANY;
                }
                Range {
                    min: 0,
                    max: b.max.saturating_sub(1),
                }
            }
            Atom::Min(a, b) => {
                let (a, b) = (a.range(symbols), b.range(symbols));
                Range {
                    min: a.min.min(b.min),
                    max: a.max.min(b.max),
                }
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.range(symbols), b.range(symbols));
                Range {
                    min: a.min.max(b.min),
                    max: a.max.max(b.max),
                }
            }
        }
    }
}

impl Range {
    fn of(all: &[i64]) -> Range {
        Range {
            min: all.iter().copied().min().unwrap_or(i64::MIN),
            max: all.iter().copied().max().unwrap_or(i64::MAX),
        }
    }

    fn mul(self, o: Range) -> Range {
        Range::of(&[
            self.min.saturating_mul(o.min),
            self.min.saturating_mul(o.max),
            self.max.saturating_mul(o.min),
            self.max.saturating_mul(o.max),
        ])
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim {
            terms: if n == 0 { vec![] } else { vec![(vec![], n)] },
        }
    }
}

impl From<i32> for Dim {
    fn from(n: i32) -> Dim {
        Dim::from(i64::from(n))
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::from(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl std::ops::Add for &Dim {
    type Output = Dim;
    fn add(self, o: &Dim) -> Dim {
        let mut map: BTreeMap<Vec<Atom>, i64> = self.terms.iter().cloned().collect();
        for (m, c) in &o.terms {
            let e = map.entry(m.clone()).or_insert(0);
            *e = e.saturating_add(*c);
        }
        Dim::normal(map)
    }
}

impl std::ops::Neg for &Dim {
    type Output = Dim;
    fn neg(self) -> Dim {
        Dim {
            terms: self
                .terms
                .iter()
                .map(|(m, c)| (m.clone(), c.saturating_neg()))
                .collect(),
        }
    }
}

impl std::ops::Sub for &Dim {
    type Output = Dim;
    fn sub(self, o: &Dim) -> Dim {
        self + &-o
    }
}

impl std::ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, o: &Dim) -> Dim {
        let pairs = self.terms.len() * o.parts() + o.terms.len() * self.parts();
        if pairs > MOST_PARTS {
            return Dim::beyond(format_args!("({self})*({o})"));
        }
        let mut map: BTreeMap<Vec<Atom>, i64> = BTreeMap::new();
        for (ma, ca) in &self.terms {
            for (mb, cb) in &o.terms {
                let mut m = ma.clone();
                m.extend(mb.iter().cloned());
                m.sort();
                let e = map.entry(m).or_insert(0);
                *e = e.saturating_add(ca.saturating_mul(*cb));
            }
        }
        Dim::normal(map)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => f.write_str(s),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

/// Prints as `2*s0*s1 + s0 - 3`; [`crate::text`] reads it back.
impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The constant (whose monomial sorts first) is written last, as one writes it by hand.
        let (consts, rest): (Vec<_>, Vec<_>) = self.terms.iter().partition(|(m, _)| m.is_empty());
        for (i, (mono, c)) in rest.into_iter().chain(consts).enumerate() {
            let magnitude = c.unsigned_abs();
            match (i, *c < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            if mono.is_empty() {
                write!(f, "{magnitude}")?;
                continue;
            }
            if magnitude != 1 {
                write!(f, "{magnitude}*")?;
            }
            for (k, atom) in mono.iter().enumerate() {
                if k > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s() -> Dim {
        Dim::symbol("s0")
    }

    #[test]
    fn normal_form_decides_polynomial_equality() {
        let a = &(&s() + &Dim::from(1)) * &(&s() - &Dim::from(1));
        let b = &(&s() * &s()) - &Dim::from(1);
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "s0*s0 - 1");
    }

    #[test]
    fn quotients_by_a_number_have_a_normal_form() {
        let shown = |d: &Dim, by: i64| d.floor_div(&Dim::from(by)).to_string();
        let n = |n: i64| Dim::from(n);
        assert_eq!(shown(&(&s() - &n(1)), 2), "floordiv(s0 + 1, 2) - 1");
        assert_eq!(
            shown(&(&(&s() * &n(5)) + &n(7)), 4),
            "s0 + floordiv(s0 + 3, 4) + 1"
        );
        // The ceiling of a quotient, as CeilDiv writes it.
        let ceil = -&(-&s()).floor_div(&n(3));
        assert_eq!(ceil.to_string(), "floordiv(s0 + 2, 3)");
        let half = &(&s() - &n(1)).floor_div(&n(2)) + &n(1);
        let quarter = &(&half - &n(1)).floor_div(&n(2)) + &n(1);
        assert_eq!(quarter, &(&s() - &n(1)).floor_div(&n(4)) + &n(1));
        for value in -9..9 {
            let env = [(Symbol::from("s0"), value)].into();
            for (c, d, by) in [(3, -5, 4), (-3, 7, 4), (-1, 0, 2), (9, 1, 4), (-6, 3, 4)] {
                let p = &(&s() * &n(c)) + &n(d);
                let exact = (c * value + d).div_euclid(by);
                assert_eq!(p.floor_div(&n(by)).eval(&env), Some(exact), "{p} / {by}");
                let rest = (c * value + d).rem_euclid(by);
                assert_eq!(p.modulo(&n(by)).eval(&env), Some(rest), "{p} mod {by}");
                let nested = (exact + d).div_euclid(3);
                let quotient = (&p.floor_div(&n(by)) + &n(d)).floor_div(&n(3));
                assert_eq!(quotient.eval(&env), Some(nested));
            }
        }
        let huge = &s() + &n(i64::MIN);
        assert!(
            huge.floor_div(&n(i64::MAX))
                .eval(&BTreeMap::new())
                .is_none()
        );
    }

    #[test]
    fn exact_division_is_carried_out() {
        let a = &Dim::from(6) * &s();
        assert_eq!(a.floor_div(&Dim::from(3)), &Dim::from(2) * &s());
        assert_eq!(a.floor_div(&s()), Dim::from(6));
        assert_eq!(s().floor_div(&Dim::from(2)).to_string(), "floordiv(s0, 2)");
        assert_eq!(Dim::from(-7).floor_div(&Dim::from(2)), Dim::from(-4));
        assert_eq!(Dim::from(-7).modulo(&Dim::from(2)), Dim::from(1));
    }

    #[test]
    fn linear_dims_are_told() {
        let d = &(&Dim::from(2) * &s()) + &Dim::from(3);
        assert_eq!(
            d.as_linear().map(|(s, f, o)| (s.to_string(), f, o)),
            Some(("s0".into(), 2, 3))
        );
        assert_eq!(s().as_linear().map(|(_, f, o)| (f, o)), Some((1, 0)));
        assert_eq!((&s() * &s()).as_linear(), None);
        assert_eq!((-&s()).as_linear(), None);
        assert_eq!(Dim::from(3).as_linear(), None);
    }

    #[test]
    fn what_has_too_many_parts_is_a_symbol() {
        let sum = |n: usize| &Dim::symbol(format!("s{n}")) + &Dim::symbol(format!("t{n}"));
        let product = || (0..60).fold(Dim::from(1i64), |all, n| &all * &sum(n));
        assert!(product().parts() <= MOST_PARTS);
        assert_eq!(product(), product());
        assert_ne!(product(), &product() * &sum(0));
        let (mut square, mut nested) = (Dim::symbol("s"), Dim::symbol("s"));
        for _ in 0..60 {
            square = &square * &square;
            nested = (&nested + &Dim::from(3i64)).floor_div(&(&nested + &Dim::from(1i64)));
        }
        assert!(square.parts() <= MOST_PARTS && nested.parts() <= MOST_PARTS);
        // A long product is not touched.
        let eight = (0..8).fold(Dim::from(1i64), |all, n| &all * &sum(n));
        assert_eq!(eight.terms().len(), 256);
    }

    #[test]
    fn ranges_are_sound() {
        let symbols = Symbols::from([(Symbol::from("s0"), Range { min: 1, max: 16 })]);
        let d = &(&Dim::from(-2) * &s()) + &Dim::from(40);
        let r = d.range(&symbols);
        assert_eq!((r.min, r.max), (8, 38));
        assert_eq!(Dim::from(i64::MAX).range(&symbols).max, i64::MAX);
    }
}
