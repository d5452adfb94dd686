//! The rules, a table per theme.
//!
//! What belongs here: a rewrite whose right side is a choice (a fused op, another place for a factor) or makes one visible. What is always better is canonical form and lives in
//! [`crate::canon`]; patterns here are written in that form (`x²` is `square(x)`). There is no general commutativity or associativity: patterns match commutative ops in both orders,
//! and only known numbers travel.
//!
//! Law: the right side must mean the same within the row's class for *every* match, whatever the model; a sort that is too wide is a wrong rule.

mod activation;
mod attention;
mod linear;
mod norm;
mod norm_axes;
mod number;
mod quant;
mod rope;
mod turned;

use crate::rule::Rule;

/// Every rule, in a fixed order.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    let themes: [&'static [Rule]; 9] = [
        number::RULES,
        norm::RULES,
        norm_axes::RULES,
        activation::RULES,
        linear::RULES,
        turned::RULES,
        rope::RULES,
        attention::RULES,
        quant::RULES,
    ];
    themes.into_iter().flatten()
}

/// The rule of that name.
pub fn find(name: &str) -> Option<&'static Rule> {
    all().find(|r| r.name == name)
}

#[cfg(test)]
mod tests;
