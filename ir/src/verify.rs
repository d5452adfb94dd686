//! The verifier. Run after import and after each pass.
//!
//! It checks that
//! 1. each node's arguments are values of nodes before it;
//! 2. each node's type is what its op infers from its arguments' types;
//! 3. each symbol in a type or an attribute is declared, or defined by an `item` before its use, and a symbol's range is not empty;
//! 4. inputs have distinct names, and the list of inputs holds each `input` node once, in order;
//! 5. outputs have distinct names and name values of the graph;
//! 6. states have distinct names, are read with the type that they have, and their next value has that type; their initial constant is there with that type;
//! 7. each symbol of a requirement is declared, or defined by an `item`, and its range is not empty;
//! 8. each `constant` node names a constant of the graph with that type, and that type is static.

use crate::attr::visit_symbols;
use crate::dim::{Range, Symbol};
use crate::error::VerifyError;
use crate::graph::{Graph, Node, Value};
use crate::ops::Op;
use crate::types::Type;
use std::collections::BTreeSet;

impl Graph {
    /// Checks the invariants that this module lists.
    ///
    /// Errors: the first one that is broken, with its place.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let mut known: BTreeSet<Symbol> = self.symbols.keys().cloned().collect();
        for (name, range) in &self.symbols {
            ensure(
                range.min <= range.max,
                || format!("symbol {name}"),
                || format!("its range {range} is empty"),
            )?;
        }
        let mut inputs = Vec::new();
        let mut names = BTreeSet::new();
        for (value, node) in self.values() {
            let place = || self.describe(value, node);
            ensure(
                node.args.iter().all(|a| a.index() < value.index()),
                place,
                || "an argument is not before its use".into(),
            )?;
            let types: Vec<&Type> = node.args.iter().map(|a| self.ty(*a)).collect();
            match node.op.infer(&types) {
                Ok(ty) => ensure(ty == node.ty, place, || {
                    format!("its type is {}, but the op infers {ty}", node.ty)
                })?,
                Err(e) => return Err(error(place(), e.to_string())),
            }
            if let Op::Item(item) = &node.op {
                known.insert(item.symbol.clone());
            }
            let mut unknown = None;
            let mut see = |s: &Symbol| {
                if !known.contains(s) {
                    unknown = Some(s.clone());
                }
            };
            node.ty.visit_symbols(&mut see);
            node.op
                .attrs()
                .iter()
                .for_each(|(_, a)| visit_symbols(a, &mut see));
            if let Some(s) = unknown {
                return Err(error(place(), format!("symbol {s} is not declared")));
            }
            match &node.op {
                Op::Input(op) => {
                    ensure(names.insert(op.name.clone()), place, || {
                        "another input has the same name".into()
                    })?;
                    inputs.push(value);
                }
                Op::Constant(op) => {
                    let constant = self.constants.get(&op.name);
                    ensure(constant.is_some_and(|c| c.ty == op.ty), place, || {
                        "the graph has no constant of that name and type".into()
                    })?;
                    ensure(op.ty.static_shape().is_some(), place, || {
                        "a constant's type is static".into()
                    })?;
                }
                Op::State(op) => {
                    let state = self.states.iter().find(|s| s.name == op.name);
                    ensure(state.is_some_and(|s| s.ty == op.ty), place, || {
                        "the graph has no state of that name and type".into()
                    })?;
                }
                _ => {}
            }
        }
        ensure(
            inputs == self.inputs(),
            || "inputs".into(),
            || "the list of inputs is not the `input` nodes".into(),
        )?;
        for requirement in &self.requirements {
            let place = || format!("require {requirement}");
            let Range { min, max } = requirement.range;
            ensure(min <= max, place, || "the range is empty".into())?;
            let mut unknown = None;
            requirement.dim.visit_symbols(&mut |s| {
                if !known.contains(s) {
                    unknown = Some(s.clone());
                }
            });
            ensure(unknown.is_none(), place, || {
                "not all of its symbols are declared".into()
            })?;
        }
        self.verify_ends()
    }

    fn verify_ends(&self) -> Result<(), VerifyError> {
        let mut names = BTreeSet::new();
        for output in &self.outputs {
            let place = || format!("output \"{}\"", output.name);
            ensure(names.insert(&output.name), place, || {
                "another output has the same name".into()
            })?;
            ensure(output.value.index() < self.nodes().len(), place, || {
                "its value is not in the graph".into()
            })?;
        }
        let mut names = BTreeSet::new();
        for state in &self.states {
            let place = || format!("state \"{}\"", state.name);
            ensure(names.insert(&state.name), place, || {
                "another state has the same name".into()
            })?;
            ensure(state.ty.static_shape().is_some(), place, || {
                "a state's type is static".into()
            })?;
            if let Some(init) = &state.init {
                let constant = self.constants.get(init);
                ensure(constant.is_some_and(|c| c.ty == state.ty), place, || {
                    format!("its initial constant \"{init}\" is not there with its type")
                })?;
            }
            if let Some(next) = state.next {
                ensure(next.index() < self.nodes().len(), place, || {
                    "its next value is not in the graph".into()
                })?;
                ensure(self.ty(next).as_tensor() == Some(&state.ty), place, || {
                    format!(
                        "its next value is {}, the state {}",
                        self.ty(next),
                        state.ty
                    )
                })?;
            }
        }
        Ok(())
    }

    /// `%5 = add(%3, %4)`, for messages.
    pub fn describe(&self, value: Value, node: &Node) -> String {
        let args: Vec<String> = node.args.iter().map(Value::to_string).collect();
        let module = node
            .loc
            .module
            .as_ref()
            .map(|m| format!(" in {m}"))
            .unwrap_or_default();
        let op = match &node.op {
            // Without the graphs inside, which may be long.
            op @ (Op::Branch(_) | Op::WhileLoop(_)) => op.name().to_owned(),
            op => op.to_string(),
        };
        format!("{value} = {op}({}){module}", args.join(", "))
    }
}

fn error(place: String, reason: String) -> VerifyError {
    VerifyError { place, reason }
}

fn ensure(
    holds: bool,
    place: impl FnOnce() -> String,
    reason: impl FnOnce() -> String,
) -> Result<(), VerifyError> {
    if holds {
        Ok(())
    } else {
        Err(error(place(), reason()))
    }
}
