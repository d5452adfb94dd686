//! What must hold of numbers that the data decide.

use crate::dim::{Dim, Range, Symbol, Symbols};
use std::collections::BTreeMap;
use std::fmt;

/// A number that must lie within a range whenever the graph runs, such as a position that was read from a tensor. Shapes can't say it, and no value depends on it:
/// a graph lists its requirements beside its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The number.
    pub dim: Dim,
    /// Where it lies.
    pub range: Range,
}

impl Requirement {
    /// The same requirement without a number added on the left, and with a positive sign where there is only one term: so `6 - u0 in 1..=inf` is `u0 in ..=5`.
    pub fn normal(dim: &Dim, range: Range) -> Requirement {
        let added = |(mono, n): &(Vec<_>, i64)| mono.is_empty().then_some(*n);
        let constant = dim.terms().iter().find_map(added).unwrap_or(0);
        let (dim, range) = (
            dim - &Dim::from(constant),
            range.shifted(constant.saturating_neg()),
        );
        match dim.terms() {
            [(_, n)] if *n < 0 => Requirement {
                dim: -&dim,
                range: range.negated(),
            },
            _ => Requirement { dim, range },
        }
    }

    /// Whether the ranges of symbols say it already.
    pub fn follows_from(&self, symbols: &Symbols) -> bool {
        let known = self.dim.chosen(symbols).range(symbols);
        self.range.contains(known.min) && self.range.contains(known.max)
    }

    /// The number's value, if it is known and lies outside.
    pub fn violated(&self, symbols: &BTreeMap<Symbol, i64>) -> Option<i64> {
        self.dim.eval(symbols).filter(|n| !self.range.contains(*n))
    }
}

/// As the text form says it: `u1 - u0 in 0..=inf`.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.dim, self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::Requirement;
    use crate::dim::{Dim, Range};

    #[test]
    fn the_normal_form_speaks_of_the_number_itself() {
        let u = Dim::symbol("u");
        let shown = |dim: &Dim, range| Requirement::normal(dim, range).to_string();
        assert_eq!(shown(&u, Range { min: 0, max: 5 }), "u in 0..=5");
        assert_eq!(
            shown(&(&Dim::from(6i64) - &u), Range { min: 1, max: 7 }),
            "u in -1..=5"
        );
        let upper = Requirement::normal(&(&Dim::from(5i64) - &u), Range::NATURAL);
        assert_eq!((upper.range.min, upper.range.max), (i64::MIN, 5));
        let ranges = [("u".into(), Range { min: 2, max: 9 })].into();
        let grown = &(&u + &u).minimum(&(&u + &Dim::from(1i64))) - &u;
        let one = Requirement::normal(&grown, Range { min: 1, max: 1 });
        assert!(one.follows_from(&ranges), "{one}");
        let both = &(&u + &Dim::symbol("v")) - &Dim::from(2i64);
        assert_eq!(shown(&both, Range { min: 0, max: 0 }), "u + v in 2..=2");
    }
}
