//! Lengths of axes and host integers, as far as they are known: numbers, and symbols for numbers between two bounds.
//!
//! Equal expressions over the same symbols get the same symbol, and products are kept apart into their factors, so that the entry -1 of a
//! reshape comes out as the length that it is.

use std::collections::BTreeMap;

/// A whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Length {
    /// This one.
    Known(i64),
    /// The same at each place that has the symbol, within the bounds of the symbol.
    Symbol(u32),
    /// Any.
    Unknown,
}

/// The lower bound of what has none.
pub(super) const NONE: i64 = i64::MIN;

/// Products of more symbols are symbols of their own.
const MOST_FACTORS: usize = 16;

/// What a symbol stands for. The bounds are inclusive; the lowest number there is, or no upper one, means that none is known.
#[derive(Debug, Clone)]
struct Symbol {
    min: i64,
    max: Option<i64>,
    made: Option<Made>,
}

/// How a symbol was made of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    Sum(Length, Length),
    Difference(Length, Length),
    Product(Product),
    Quotient(Product, Product),
    /// `floor(x · times / by) + plus`, at least 0.
    Scaled(Length, [i64; 3]),
    /// `x mod by`.
    Rest(Length, i64),
    Broadcast(Length, Length),
    /// A position on an axis of a length.
    Clamped(Length, Length),
}

/// A number times symbols, sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Product {
    times: i64,
    symbols: Vec<u32>,
}

/// The symbols of a program.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    symbols: Vec<Symbol>,
    made: BTreeMap<Made, u32>,
}

impl Lengths {
    /// A number within bounds that nothing else is known about.
    pub(super) fn fresh(&mut self, min: i64, max: Option<i64>) -> Length {
        if max == Some(min) {
            return Length::Known(min);
        }
        self.push(Symbol {
            min,
            max,
            made: None,
        })
    }

    fn push(&mut self, symbol: Symbol) -> Length {
        let Ok(number) = u32::try_from(self.symbols.len()) else {
            return Length::Unknown;
        };
        if let Some(made) = &symbol.made {
            self.made.insert(made.clone(), number);
        }
        self.symbols.push(symbol);
        Length::Symbol(number)
    }

    fn of(&mut self, made: Made, min: i64, max: Option<i64>) -> Length {
        if let Some(known) = self.made.get(&made) {
            return Length::Symbol(*known);
        }
        if max == Some(min) {
            return Length::Known(min);
        }
        self.push(Symbol {
            min,
            max,
            made: Some(made),
        })
    }

    /// The bounds of a length, inclusive: [`NONE`] below, or none above, where none is known.
    pub(super) fn bounds(&self, length: Length) -> (i64, Option<i64>) {
        match length {
            Length::Known(n) => (n, Some(n)),
            Length::Symbol(at) => {
                let symbol = self.symbols.get(at as usize);
                symbol.map_or((NONE, None), |symbol| (symbol.min, symbol.max))
            }
            Length::Unknown => (NONE, None),
        }
    }

    fn made(&self, length: Length) -> Option<&Made> {
        match length {
            Length::Symbol(at) => self.symbols.get(at as usize)?.made.as_ref(),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, a: Length, b: Length) -> Length {
        match (a.min(b), a.max(b)) {
            (Length::Known(a), Length::Known(b)) => {
                a.checked_add(b).map_or(Length::Unknown, Length::Known)
            }
            (Length::Known(0), other) => other,
            (_, Length::Unknown) => Length::Unknown,
            (a, b) => {
                let ((a_min, a_max), (b_min, b_max)) = (self.bounds(a), self.bounds(b));
                let min = lower(a_min, b_min, i64::checked_add);
                let max = both(a_max, b_max, i64::checked_add);
                self.of(Made::Sum(a, b), min, max)
            }
        }
    }

    pub(super) fn subtract(&mut self, a: Length, b: Length) -> Length {
        if let (Length::Known(a), Length::Known(b)) = (a, b) {
            return a.checked_sub(b).map_or(Length::Unknown, Length::Known);
        }
        if b == Length::Known(0) {
            return a;
        }
        if a == Length::Unknown || b == Length::Unknown {
            return Length::Unknown;
        }
        if a == b {
            return Length::Known(0);
        }
        match self.made(a) {
            Some(Made::Sum(x, y)) if *y == b => return *x,
            Some(Made::Sum(x, y)) if *x == b => return *y,
            _ => {}
        }
        let ((a_min, a_max), (b_min, b_max)) = (self.bounds(a), self.bounds(b));
        let min = b_max.map_or(NONE, |b_max| lower(a_min, b_max, i64::checked_sub));
        let b_min = Some(b_min).filter(|n| *n != NONE);
        let max = both(a_max, b_min, i64::checked_sub);
        self.of(Made::Difference(a, b), min, max)
    }

    pub(super) fn multiply(&mut self, a: Length, b: Length) -> Length {
        match self.product(&[a, b]) {
            Some(product) => self.length(product),
            None => Length::Unknown,
        }
    }

    /// The product of lengths; none if one is unknown, or negative.
    pub(super) fn product(&self, lengths: &[Length]) -> Option<Product> {
        let mut product = Product {
            times: 1,
            symbols: Vec::new(),
        };
        for length in lengths {
            match (length, self.made(*length)) {
                (Length::Unknown, _) => return None,
                (Length::Known(n), _) => product.times = product.times.checked_mul(*n)?,
                (Length::Symbol(_), Some(Made::Product(inner))) => {
                    product.times = product.times.checked_mul(inner.times)?;
                    product.symbols.extend(&inner.symbols);
                }
                (Length::Symbol(at), _) => product.symbols.push(*at),
            }
        }
        product.symbols.sort_unstable();
        let whole = product.symbols.len() <= MOST_FACTORS && product.times >= 0;
        whole.then_some(product)
    }

    fn length(&mut self, product: Product) -> Length {
        match product.symbols.as_slice() {
            _ if product.times == 0 => Length::Known(0),
            [] => Length::Known(product.times),
            [one] if product.times == 1 => Length::Symbol(*one),
            _ => match self.product_bounds(&product) {
                Some((min, max)) => self.of(Made::Product(product), min, max),
                None => Length::Unknown,
            },
        }
    }

    /// The bounds of a product of lengths that are not negative.
    fn product_bounds(&self, product: &Product) -> Option<(i64, Option<i64>)> {
        let (mut min, mut max) = (product.times, Some(product.times));
        for symbol in &product.symbols {
            let (low, high) = self.bounds(Length::Symbol(*symbol));
            if low < 0 {
                return None;
            }
            min = min.checked_mul(low)?;
            max = both(max, high, i64::checked_mul);
        }
        Some((min, max))
    }

    /// How often `b` goes into `a`, which it does without a rest.
    pub(super) fn quotient(&mut self, a: Product, b: Product) -> Length {
        let (mut a, mut b) = (a, b);
        for symbol in std::mem::take(&mut b.symbols) {
            match a.symbols.iter().position(|other| *other == symbol) {
                Some(at) => drop(a.symbols.remove(at)),
                None => b.symbols.push(symbol),
            }
        }
        if b.times == 0 {
            return Length::Unknown;
        }
        if a.times % b.times == 0 {
            (a.times, b.times) = (a.times / b.times, 1);
        }
        if b.symbols.is_empty() && b.times == 1 {
            return self.length(a);
        }
        match (self.product_bounds(&a), self.product_bounds(&b)) {
            (Some((a_min, a_max)), Some((b_min, b_max))) => {
                let min = b_max.filter(|n| *n > 0).map_or(0, |n| a_min / n);
                let max = a_max.map(|n| n / b_min.max(1));
                self.of(Made::Quotient(a, b), min, max)
            }
            _ => Length::Unknown,
        }
    }

    /// `floor(x · times / by) + plus` and not less than 0: what a window, a stride or a packing makes of a length. `times` is not negative, `by` positive.
    pub(super) fn scaled(&mut self, x: Length, [times, by, plus]: [i64; 3]) -> Length {
        if (times, by, plus) == (1, 1, 0) {
            return x;
        }
        let one = |n: i64| {
            let scaled = n.checked_mul(times)?.checked_div_euclid(by)?;
            Some(scaled.checked_add(plus)?.max(0))
        };
        if x == Length::Unknown {
            return x;
        }
        let (min, max) = self.bounds(x);
        let min = if min == NONE { Some(0) } else { one(min) };
        match min {
            Some(min) => {
                let max = max.and_then(one);
                self.of(Made::Scaled(x, [times, by, plus]), min, max)
            }
            None => Length::Unknown,
        }
    }

    /// `floor(a / b)`.
    pub(super) fn divide(&mut self, a: Length, b: Length) -> Length {
        match (a, b) {
            (Length::Known(a), Length::Known(b)) => {
                let quotient = a.checked_div(b);
                let below = quotient.is_some() && a % b != 0 && (a < 0) != (b < 0);
                quotient.map_or(Length::Unknown, |q| Length::Known(q - i64::from(below)))
            }
            (a, Length::Known(by)) if by > 0 && self.bounds(a).0 >= 0 => self.scaled(a, [1, by, 0]),
            _ => Length::Unknown,
        }
    }

    /// `a mod b` with the sign of `b`.
    pub(super) fn rest(&mut self, a: Length, b: Length) -> Length {
        match (a, b) {
            (Length::Known(a), Length::Known(b)) => match a.checked_rem(b) {
                Some(rest) if rest != 0 && (rest < 0) != (b < 0) => Length::Known(rest + b),
                Some(rest) => Length::Known(rest),
                None => Length::Unknown,
            },
            (a, Length::Known(by)) if by > 0 && a != Length::Unknown => {
                self.of(Made::Rest(a, by), 0, Some(by - 1))
            }
            _ => Length::Unknown,
        }
    }

    /// The length of two axes broadcast together.
    pub(super) fn broadcast(&mut self, a: Length, b: Length) -> Length {
        match (a.min(b), a.max(b)) {
            (a, b) if a == b => a,
            (Length::Known(1), other) => other,
            (Length::Known(n), _) => Length::Known(n),
            (_, Length::Unknown) => Length::Unknown,
            (a, b) => {
                let ((a_min, a_max), (b_min, b_max)) = (self.bounds(a), self.bounds(b));
                let min = a_min.min(b_min).max(0);
                let max = both(a_max, b_max, |a, b| Some(a.max(b)));
                self.of(Made::Broadcast(a, b), min, max)
            }
        }
    }

    /// A position on an axis: a negative one counts from the end, and all are cut to the axis.
    pub(super) fn position(&mut self, at: Length, length: Length) -> Length {
        if length == Length::Unknown {
            return length;
        }
        let ((low, high), (least, longest)) = (self.bounds(at), self.bounds(length));
        if low >= 0 && high.is_some_and(|high| high <= least) {
            return at;
        }
        if longest.is_some_and(|longest| low >= longest) || low == i64::MAX {
            return length;
        }
        if low < 0 && high == Some(low) {
            return self.scaled(length, [1, 1, low]);
        }
        let min = if low >= 0 { low.min(least) } else { 0 };
        let reach = high.filter(|_| low >= 0);
        let max = match (reach, longest) {
            (Some(reach), Some(longest)) => Some(reach.min(longest)),
            (one, other) => one.or(other),
        };
        match at {
            Length::Unknown => self.fresh(min, max),
            at => self.of(Made::Clamped(at, length), min, max),
        }
    }
}

/// A lower bound made of two, if neither is missing.
fn lower(a: i64, b: i64, of: impl Fn(i64, i64) -> Option<i64>) -> i64 {
    let both = (a != NONE && b != NONE).then(|| of(a, b));
    both.flatten().unwrap_or(NONE)
}

fn both(a: Option<i64>, b: Option<i64>, of: impl Fn(i64, i64) -> Option<i64>) -> Option<i64> {
    of(a?, b?)
}
