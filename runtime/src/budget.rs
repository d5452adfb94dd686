//! How much a call may do again and again, and how much at once.
//!
//! What a call does once is bounded by the size of the file. Branches, loops and jumps let a small file ask for more than a machine does in a year, so what they run
//! is counted: a *step* is an instruction, or one of the slots that it names, which is what its own costs on the host grow with. How long an instruction takes on
//! the device is a matter of the arrays, and no file is refused for that.

use std::cell::Cell;

use fuseline_program::MlxGraph;

use crate::fault::Fault;

/// How many steps one call may take in branches and loops if nobody says otherwise. Some minutes pass until a loop of the cheapest instructions gets there; a
/// loop of four hundred instructions, a model's decoding step say, may be run more than ten thousand times.
pub const MAX_STEPS: u64 = 1 << 24;

/// As many slots are prepared for a delegate in the time of a step.
const SLOTS: u64 = 64;
/// As many of a method's values are looked at in the time of a step.
const VALUES: u64 = 16;
/// What a jump takes beside what it repeats: the host waits for the condition.
const JUMP: u64 = 16;

/// What a call may still do.
pub(crate) struct Budget {
    left: Cell<u64>,
    limit: u64,
    largest: u64,
}

impl Budget {
    /// What a call begins with: some steps, and how many bytes a single array may have.
    pub(crate) fn new(limit: u64, largest: u64) -> Self {
        Self {
            left: Cell::new(limit),
            limit,
            largest,
        }
    }

    /// How many bytes a single array may have.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// Takes some steps, if there are so many left.
    pub(crate) fn take(&self, steps: u64) -> Result<(), Fault> {
        let limit = self.limit;
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.ok_or(Fault::Steps { limit })?);
        Ok(())
    }

    /// Takes what a jump back takes: the steps that it repeats, and a look at each of the method's values.
    pub(crate) fn jump(&self, repeated: u64, values: usize) -> Result<(), Fault> {
        self.take(repeated.saturating_add(JUMP + values as u64 / VALUES))
    }
}

/// The steps of each chain, without those of the chains that it runs.
pub(crate) fn chain_steps(graph: &MlxGraph) -> Vec<u64> {
    let steps = graph.chains.iter().map(|chain| {
        let named = chain
            .iter()
            .map(|instruction| 1 + instruction.reads().len() + instruction.writes().len());
        named.sum::<usize>() as u64
    });
    steps.collect()
}

/// The steps of a delegate that is run once more: its main chain's, and its slots.
pub(crate) fn delegate_steps(graph: &MlxGraph, chains: &[u64]) -> u64 {
    let main = chains.get(graph.main_chain as usize).copied();
    let slots = graph.counts.tensors() + u64::from(graph.counts.values);
    main.unwrap_or_default().saturating_add(1 + slots / SLOTS)
}
