//! How the lengths of a method's inputs hang together: `1.0` is twice `0.0`, say. A delegate's own types hold a range for each length, but not that two lengths are one.
//!
//! The method has them as text in a string among its values that nothing reads, so that other runtimes pass it by.

use std::fmt;
use std::str::FromStr;

/// What the text begins with.
pub const PREFIX: &str = "sizes of inputs: ";

/// One length, or an integer input: `times · symbol + plus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Which input, from 0.
    pub input: usize,
    /// Which dimension; `None` for an integer.
    pub dimension: Option<usize>,
    /// Which number of [`Sizes::ranges`].
    pub symbol: usize,
    /// Never 0.
    pub times: i64,
    /// What is added.
    pub plus: i64,
}

/// The rules of a method.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The least and the largest value of each symbol.
    pub ranges: Vec<(i64, i64)>,
    /// What is to hold, in the order of the inputs.
    pub rules: Vec<Rule>,
}

/// Why lengths don't fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Not `times · n + plus` for any whole n.
    Form,
    /// The symbol would be out of its range; the least and the largest length.
    Range(i64, i64),
    /// It must be this, because of another rule.
    Related(i64, Rule),
}

impl Sizes {
    /// Checks lengths, which `given` tells; a rule about something else holds.
    ///
    /// # Errors
    /// The first rule that does not hold, what it speaks of, and why.
    pub fn check(&self, given: impl Fn(&Rule) -> Option<i64>) -> Result<(), (Rule, i64, Misfit)> {
        let mut known: Vec<Option<(i64, Rule)>> = vec![None; self.ranges.len()];
        for rule in &self.rules {
            let (Some(number), Some(slot)) = (given(rule), known.get_mut(rule.symbol)) else {
                continue;
            };
            let rest = number.checked_sub(rule.plus);
            let value = rest.filter(|rest| rest.checked_rem(rule.times) == Some(0));
            let Some(value) = value.and_then(|rest| rest.checked_div(rule.times)) else {
                return Err((*rule, number, Misfit::Form));
            };
            match *slot {
                Some((before, other)) if before != value => {
                    return Err((*rule, number, Misfit::Related(rule.of(before), other)));
                }
                Some(_) => {}
                None => {
                    let (least, most) = self.ranges[rule.symbol];
                    if value < least || value > most {
                        let ends = (rule.of(least), rule.of(most));
                        let misfit = Misfit::Range(ends.0.min(ends.1), ends.0.max(ends.1));
                        return Err((*rule, number, misfit));
                    }
                    *slot = Some((value, *rule));
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    /// What the length is for a value of the symbol.
    fn of(&self, value: i64) -> i64 {
        value.saturating_mul(self.times).saturating_add(self.plus)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for (least, most) in &self.ranges {
            write!(f, "{least}..{most} ")?;
        }
        f.write_str("|")?;
        for rule in &self.rules {
            write!(f, " {}", rule.input)?;
            if let Some(dimension) = rule.dimension {
                write!(f, ".{dimension}")?;
            }
            write!(f, "={}*{}+{}", rule.times, rule.symbol, rule.plus)?;
        }
        Ok(())
    }
}

/// A text that says no sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the sizes of inputs")]
pub struct NoSizes;

impl FromStr for Sizes {
    type Err = NoSizes;

    fn from_str(text: &str) -> Result<Self, NoSizes> {
        let number = |text: &str| text.parse::<i64>().ok();
        let place = |text: &str| text.parse::<usize>().ok();
        let range = |text: &str| {
            let (least, most) = text.split_once("..")?;
            Some((number(least)?, number(most)?))
        };
        let rule = |text: &str| {
            let (input, form) = text.split_once('=')?;
            let (input, dimension) = match input.split_once('.') {
                Some((input, dimension)) => (input, Some(place(dimension)?)),
                None => (input, None),
            };
            let (times, rest) = form.split_once('*')?;
            let (symbol, plus) = rest.split_once('+')?;
            Some(Rule {
                input: place(input)?,
                dimension,
                symbol: place(symbol)?,
                times: number(times).filter(|times| *times != 0)?,
                plus: number(plus)?,
            })
        };
        let read = || {
            let (ranges, rules) = text.strip_prefix(PREFIX)?.split_once('|')?;
            let sizes = Self {
                ranges: ranges
                    .split_whitespace()
                    .map(range)
                    .collect::<Option<_>>()?,
                rules: rules.split_whitespace().map(rule).collect::<Option<_>>()?,
            };
            let known = |rule: &Rule| rule.symbol < sizes.ranges.len();
            sizes.rules.iter().all(known).then_some(sizes)
        };
        read().ok_or(NoSizes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Misfit, Rule, Sizes};

    fn sizes() -> Sizes {
        let rule = |input, dimension, symbol, times, plus| Rule {
            input,
            dimension,
            symbol,
            times,
            plus,
        };
        Sizes {
            ranges: vec![(2, 12), (i64::MIN, i64::MAX)],
            rules: vec![
                rule(0, Some(1), 0, 2, 0),
                rule(1, Some(0), 0, 1, -1),
                rule(2, None, 1, 1, 0),
            ],
        }
    }

    #[test]
    fn text_is_read_back() {
        assert_eq!(sizes().to_string().parse(), Ok(sizes()));
        for broken in [
            "",
            "sizes of inputs: ",
            "sizes of inputs: 1..2 | 0.0=0*0+0",
            "sizes of inputs: | 0=1*0+0",
        ] {
            assert!(broken.parse::<Sizes>().is_err(), "{broken}");
        }
    }

    #[test]
    fn lengths_are_checked_against_each_other() {
        let check =
            |lengths: [i64; 3]| sizes().check(|rule| lengths.get(rule.input).copied()).err();
        assert_eq!(check([6, 2, i64::MIN]), None);
        let reason = |lengths| check(lengths).map(|(rule, given, why)| (rule.input, given, why));
        assert_eq!(reason([5, 2, 0]), Some((0, 5, Misfit::Form)));
        assert_eq!(reason([26, 12, 0]), Some((0, 26, Misfit::Range(4, 24))));
        assert_eq!(
            reason([6, 3, 0]),
            Some((1, 3, Misfit::Related(2, sizes().rules[0])))
        );
    }
}
