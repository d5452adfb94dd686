//! What a model requires of the numbers that it reads from data: its own assertions, and that positions lie within their axis.
//!
//! Shapes are checked when the model is exported, and each input when a call is made. A number that is read from a tensor is known only in the middle of a call;
//! what must hold of it goes along as a [`Requirement`](fuseline_ir::Requirement).

use fuseline_ir::{Dim, Graph, Op, Range, Requirement, Symbol};

use super::error::{Result, invalid};
use super::{Importer, Scope, Val, symbolic, target};
use crate::pt2::exported::{Argument, Node, SymBoolArgument};
use crate::pt2::sym::{SymExpr, SymOp};

/// Whether an assertion is about numbers.
pub(super) fn is_requirement(target: &str) -> bool {
    matches!(
        target,
        "aten._assert_scalar.default" | "aten._functional_assert_scalar.default"
    )
}

impl Importer<'_> {
    /// Notes what an assertion says about integers. Those about floats and tensors say nothing that is known before the tensors are; they are left out.
    pub(super) fn assertion(&mut self, node: &Node, scope: &Scope<'_>) {
        let Some(Argument::SymBool(SymBoolArgument::Name(name))) = node
            .inputs
            .first()
            .map(|input| &input.arg)
            .filter(|_| is_requirement(target(node)))
        else {
            return;
        };
        if let Some(Val::Sym(condition)) = scope.names.get(name) {
            let condition = condition.clone();
            self.require(&condition);
        }
    }

    fn require(&mut self, condition: &SymExpr) {
        match condition {
            SymExpr::Call(SymOp::And, all) => all.iter().for_each(|one| self.require(one)),
            SymExpr::Call(SymOp::Eq, args) => {
                if let [a, b] = args.as_slice()
                    && let (Ok(a), Ok(b)) = (symbolic::dim(a), symbolic::dim(b))
                {
                    self.require_equal(&a, &b);
                }
            }
            _ => {
                if let Ok(margin) = margin(condition) {
                    self.require_natural(&margin);
                }
            }
        }
    }

    /// Requires that two numbers are one.
    pub(super) fn require_equal(&mut self, a: &Dim, b: &Dim) {
        self.require_in(&(a - b), Range { min: 0, max: 0 });
    }

    /// Requires that the positions from `start` to before `stop` are there in an axis of `size`.
    pub(super) fn require_within(&mut self, start: &Dim, stop: &Dim, size: &Dim) {
        self.require_natural(start);
        self.require_natural(&(size - stop));
    }

    /// Requires that `index`, which counts from the end where it is negative, is there in an axis of `size`.
    pub(super) fn require_index(&mut self, index: &Dim, size: &Dim) {
        self.require_natural(&(index + size));
        self.require_natural(&(&(size - index) - &Dim::from(1i64)));
    }

    fn require_natural(&mut self, dim: &Dim) {
        self.require_in(dim, Range::NATURAL);
    }

    /// What the symbols' ranges say already needs no words, unless it is of a number that only assertions read. Nor does what is true of sizes of inputs: the export has seen to it, and a
    /// call is checked for what they have to do with each other.
    fn require_in(&mut self, dim: &Dim, range: Range) {
        let requirement = Requirement::normal(dim, range);
        let graph = &mut self.build.graph;
        let mut of_sizes = None;
        let mut note = |s: &_| of_sizes = Some(of_sizes.unwrap_or(true) && is_size(graph, s));
        requirement.dim.visit_symbols(&mut note);
        if of_sizes == Some(true) {
            return;
        }
        let symbol = requirement.dim.as_symbol();
        if !requirement.follows_from(&graph.symbols) || symbol.is_some_and(|s| is_read(graph, s)) {
            graph.require(dim, range);
        }
    }
}

/// Whether the symbol is the size of an input.
fn is_size(graph: &Graph, symbol: &Symbol) -> bool {
    let of_input = |node: &fuseline_ir::Node| {
        let shape = node.ty.as_tensor().map_or(&[][..], |t| &t.shape);
        matches!(node.op, Op::Input(_)) && shape.iter().any(|d| d.as_symbol() == Some(symbol))
    };
    graph.nodes().iter().any(of_input)
}

/// Whether the symbol is a number that was read from a tensor of the model.
fn is_read(graph: &Graph, symbol: &Symbol) -> bool {
    graph.nodes().iter().any(|node| match &node.op {
        Op::Item(item) if item.symbol == *symbol => {
            let from = node.args.first().map(|x| &graph.node(*x).op);
            !matches!(from, Some(Op::IntTensor(_)))
        }
        _ => false,
    })
}

/// A number that is 0 or more exactly where the condition holds.
fn margin(condition: &SymExpr) -> Result<Dim> {
    let one = Dim::from(1i64);
    let (op, args) = match condition {
        SymExpr::Bool(holds) => return Ok(Dim::from(i64::from(*holds) - 1)),
        SymExpr::Call(op, args) => (op, args.as_slice()),
        _ => return invalid(format!("`{condition}` is not a condition")),
    };
    let difference =
        |a: &SymExpr, b: &SymExpr| -> Result<Dim> { Ok(&symbolic::dim(a)? - &symbolic::dim(b)?) };
    Ok(match (op, args) {
        (SymOp::Le, [a, b]) => difference(b, a)?,
        (SymOp::Ge, [a, b]) => difference(a, b)?,
        (SymOp::Lt, [a, b]) => &difference(b, a)? - &one,
        (SymOp::Gt, [a, b]) => &difference(a, b)? - &one,
        (SymOp::Eq | SymOp::Ne, [a, b]) => {
            let apart = difference(a, b)?;
            let square = &apart * &apart;
            match op {
                SymOp::Eq => -&square,
                _ => &square - &one,
            }
        }
        (SymOp::Not, [inner]) => &-&margin(inner)? - &one,
        (SymOp::And | SymOp::Or, [first, rest @ ..]) => {
            let mut all = margin(first)?;
            for condition in rest {
                let next = margin(condition)?;
                all = match op {
                    SymOp::And => all.minimum(&next),
                    _ => all.maximum(&next),
                };
            }
            all
        }
        _ => return invalid(format!("`{condition}` is not a condition")),
    })
}

#[cfg(test)]
mod tests {
    use super::margin;
    use crate::pt2::sym::SymExpr;
    use std::collections::BTreeMap;

    #[test]
    fn a_margin_has_the_sign_of_its_condition() {
        let holds = |text: &str, a: i64, b: i64| {
            let condition: SymExpr = text.parse().unwrap();
            let env = BTreeMap::from([("a".into(), a), ("b".into(), b)]);
            margin(&condition).unwrap().eval(&env).unwrap() >= 0
        };
        let (a, b) = ("Symbol('a')", "Symbol('b')");
        for x in -2..3 {
            for y in -2..3 {
                for (name, want) in [
                    ("LessThan", x <= y),
                    ("StrictLessThan", x < y),
                    ("GreaterThan", x >= y),
                    ("StrictGreaterThan", x > y),
                    ("Equality", x == y),
                    ("Unequality", x != y),
                ] {
                    let condition = format!("{name}({a}, {b})");
                    assert_eq!(holds(&condition, x, y), want, "{condition}");
                    assert_eq!(holds(&format!("Not({condition})"), x, y), !want);
                    let zero = format!("LessThan({a}, Integer(0))");
                    let or = format!("Or({condition}, {zero})");
                    assert_eq!(holds(&or, x, y), want || x <= 0, "{or}");
                    let and = format!("And({condition}, {zero})");
                    assert_eq!(holds(&and, x, y), want && x <= 0, "{and}");
                }
            }
        }
    }
}
