//! What a method's calls do with its values, looked up once: a file may name a million of each.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Method, Note, Payload, ValueIdx};
use crate::graph::{IoSlot, MlxGraph};

/// A slot of a delegate that takes or gives a value of the method.
#[derive(Debug, Clone, Copy)]
pub struct Border<'m> {
    /// The delegate's program.
    pub graph: &'m MlxGraph,
    /// The slot.
    pub slot: IoSlot,
    /// The slot's name, if it has one.
    pub name: Option<&'m str>,
    /// Whether the program names what it returns.
    pub names_outputs: bool,
}

/// The uses of a method's values.
#[derive(Debug)]
pub struct Uses<'m> {
    takes: BTreeMap<ValueIdx, Border<'m>>,
    takes_or_gives: BTreeMap<ValueIdx, Border<'m>>,
    touched: BTreeSet<ValueIdx>,
    notes: BTreeMap<(u32, u32), &'m Note>,
}

impl<'m> Uses<'m> {
    /// Looks at every call of a method.
    #[must_use]
    pub fn of(method: &'m Method<'_>) -> Self {
        let mut uses = Self {
            takes: BTreeMap::new(),
            takes_or_gives: BTreeMap::new(),
            touched: method.outputs.iter().copied().collect(),
            notes: BTreeMap::new(),
        };
        for note in &method.notes {
            uses.notes.entry((note.chain, note.call)).or_insert(note);
        }
        let mut borders: BTreeMap<u32, Vec<Border<'m>>> = BTreeMap::new();
        for call in method.chains.iter().flatten() {
            uses.touched.extend(call.values());
            let Call::Delegate { delegate, args } = call else {
                continue;
            };
            let called = method.delegates.get(*delegate as usize);
            let Some(Payload::Mlx(graph)) = called.map(|called| &called.payload) else {
                continue;
            };
            let borders = borders
                .entry(*delegate)
                .or_insert_with(|| borders_of(graph));
            for (at, (value, border)) in args.iter().zip(borders).enumerate() {
                uses.takes_or_gives.entry(*value).or_insert(*border);
                if at < graph.inputs.len() {
                    uses.takes.entry(*value).or_insert(*border);
                }
            }
        }
        uses
    }

    /// The first slot that takes the value.
    #[must_use]
    pub fn taken(&self, value: ValueIdx) -> Option<&Border<'m>> {
        self.takes.get(&value)
    }

    /// The first slot that takes or gives the value.
    #[must_use]
    pub fn border(&self, value: ValueIdx) -> Option<&Border<'m>> {
        self.takes_or_gives.get(&value)
    }

    /// Whether a call names the value, or it is an output.
    #[must_use]
    pub fn touches(&self, value: ValueIdx) -> bool {
        self.touched.contains(&value)
    }

    /// What the file notes about a call.
    #[must_use]
    pub fn note(&self, chain: u32, call: u32) -> Option<&'m Note> {
        self.notes.get(&(chain, call)).copied()
    }
}

/// The slots that stand for a delegate's arguments, in their order.
fn borders_of(graph: &MlxGraph) -> Vec<Border<'_>> {
    let mut names = BTreeMap::new();
    for named in &graph.names {
        names.entry(named.slot).or_insert(named.name.as_str());
    }
    let names_outputs = graph.outputs.iter().any(|slot| names.contains_key(slot));
    let slots = graph.inputs.iter().chain(&graph.outputs);
    let border = |slot: &IoSlot| Border {
        graph,
        slot: *slot,
        name: names.get(slot).copied(),
        names_outputs,
    };
    slots.map(border).collect()
}
