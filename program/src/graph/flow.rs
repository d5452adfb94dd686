//! Which chain runs which, and what is in the slots when they do.

use std::collections::{BTreeMap, BTreeSet};

use super::{ChainIdx, IoSlot, MlxGraph, SlotClass};
use crate::error::{Fault, FormatError, Within};
use crate::instr::{Instruction, Slot, Tid};

/// Chains within chains within chains: at most so many, because they are run by recursion.
const MAX_NESTING: u32 = 32;
/// Slots handed from a chain to those that run it, over the whole graph. A graph for a model needs next to none.
const MAX_WORK: u64 = 10_000_000;

/// The chains that an instruction runs.
pub(super) fn runs(instruction: &Instruction) -> Vec<i64> {
    match instruction {
        Instruction::If(branch) => vec![
            i64::from(branch.then_chain_idx),
            i64::from(branch.else_chain_idx),
        ],
        Instruction::Scan(scan) => vec![i64::from(scan.body_chain_idx)],
        _ => Vec::new(),
    }
}

/// All chains, each after those that it runs.
pub(super) fn order(graph: &MlxGraph) -> Result<Vec<usize>, FormatError> {
    let count = graph.chains.len();
    let mut callers: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
    let mut waits = vec![0_usize; count];
    for (at, chain) in graph.chains.iter().enumerate() {
        for (number, instruction) in chain.iter().enumerate() {
            for index in runs(instruction) {
                let missing = Fault::Index {
                    what: "chain",
                    index,
                    count: count as u64,
                };
                let callee = usize::try_from(index)
                    .ok()
                    .filter(|callee| *callee < count)
                    .ok_or(missing);
                let callee = callee
                    .within(|| format!("instruction {number} ({})", instruction.info().name))
                    .within(|| format!("chain {at}"))?;
                if callers[callee].insert(at) {
                    waits[at] += 1;
                }
            }
        }
    }
    let mut ready: Vec<usize> = (0..count).filter(|chain| waits[*chain] == 0).collect();
    let mut depth = vec![0_u32; count];
    let mut order = Vec::with_capacity(count);
    while let Some(chain) = ready.pop() {
        order.push(chain);
        for caller in &callers[chain] {
            depth[*caller] = depth[*caller].max(depth[chain] + 1);
            if depth[*caller] > MAX_NESTING {
                let (count, cap) = (u64::from(depth[*caller]), u64::from(MAX_NESTING));
                return Err(Fault::TooMany {
                    what: "chains within chains",
                    count,
                    cap,
                }
                .into());
            }
            waits[*caller] -= 1;
            if waits[*caller] == 0 {
                ready.push(*caller);
            }
        }
    }
    match (0..count).find(|chain| waits[*chain] > 0) {
        Some(chain) => Err(Fault::Cycle(u32::try_from(chain).unwrap_or(u32::MAX)).into()),
        None => Ok(order),
    }
}

/// For each chain, whether it is `from` or run by it. All indices must have been checked.
pub(super) fn reachable(graph: &MlxGraph, from: Option<ChainIdx>) -> Vec<bool> {
    let mut reached = vec![false; graph.chains.len()];
    let mut open: Vec<usize> = from.map(|chain| chain as usize).into_iter().collect();
    while let Some(chain) = open.pop() {
        if reached.get(chain).copied().unwrap_or(true) {
            continue;
        }
        reached[chain] = true;
        let callees = graph.chains[chain].iter().flat_map(runs);
        open.extend(callees.filter_map(|callee| usize::try_from(callee).ok()));
    }
    reached
}

/// What running a chain asks for and leaves.
#[derive(Default)]
struct Effect {
    /// Slots that are read before the chain writes them, with the first instruction that does.
    needs: BTreeMap<Slot, usize>,
    /// Slots that are written whatever happens.
    gives: BTreeSet<Slot>,
}

impl Effect {
    fn read(&mut self, slot: Slot, at: usize) {
        if !self.gives.contains(&slot) {
            self.needs.entry(slot).or_insert(at);
        }
    }
}

/// Checks that nothing is read before it is written, and that the main chain fills the outputs.
pub(super) fn check(graph: &MlxGraph, order: &[usize]) -> Result<(), FormatError> {
    let mut effects: Vec<Effect> = graph.chains.iter().map(|_| Effect::default()).collect();
    let mut work = 0_u64;
    for chain in order {
        let effect = effect(&graph.chains[*chain], &effects, &mut work)?;
        effects[*chain] = effect;
    }
    let lasting = |slot: &Slot| match slot {
        Slot::Tensor(tid) => graph
            .counts
            .locate(*tid)
            .is_some_and(|(class, _)| matches!(class, SlotClass::Constant | SlotClass::State)),
        Slot::Value(_) => false,
    };
    let given: BTreeSet<Slot> = graph.inputs.iter().map(slot_of).collect();
    if let Some(init) = graph.init_chain {
        defined(graph, init, &effects[init as usize], lasting)?;
    }
    let main = &effects[graph.main_chain as usize];
    let there = |slot: &Slot| lasting(slot) || given.contains(slot);
    defined(graph, graph.main_chain, main, there)?;
    for (at, slot) in graph.outputs.iter().map(slot_of).enumerate() {
        if !there(&slot) && !main.gives.contains(&slot) {
            let fault = Fault::Undefined {
                slot: graph.counts.name(slot),
            };
            return Err(fault).within(|| format!("outputs, entry {at}"));
        }
    }
    Ok(())
}

fn slot_of(slot: &IoSlot) -> Slot {
    match slot {
        IoSlot::Tensor(tid) => Slot::Tensor(*tid),
        IoSlot::Int(vid) | IoSlot::Float(vid) | IoSlot::Bool(vid) => Slot::Value(*vid),
    }
}

fn defined(
    graph: &MlxGraph,
    chain: ChainIdx,
    effect: &Effect,
    there: impl Fn(&Slot) -> bool,
) -> Result<(), FormatError> {
    match effect
        .needs
        .iter()
        .filter(|(slot, _)| !there(slot))
        .min_by_key(|(_, at)| **at)
    {
        None => Ok(()),
        Some((slot, at)) => {
            let instruction = graph
                .chain(chain)
                .get(*at)
                .map_or("", |instruction| instruction.info().name);
            Err(Fault::Undefined {
                slot: graph.counts.name(*slot),
            })
            .within(|| format!("instruction {at} ({instruction})"))
            .within(|| format!("chain {chain}"))
        }
    }
}

fn effect(
    chain: &[Instruction],
    effects: &[Effect],
    work: &mut u64,
) -> Result<Effect, FormatError> {
    let none = Effect::default();
    let of = |chain: i64| {
        usize::try_from(chain)
            .ok()
            .and_then(|chain| effects.get(chain))
            .unwrap_or(&none)
    };
    let mut sum = Effect::default();
    for (at, instruction) in chain.iter().enumerate() {
        for callee in runs(instruction).into_iter().map(of) {
            *work += (callee.needs.len() + callee.gives.len()) as u64;
            if *work > MAX_WORK {
                let what = "slots handed between chains";
                return Err(Fault::TooMany {
                    what,
                    count: *work,
                    cap: MAX_WORK,
                }
                .into());
            }
        }
        match instruction {
            Instruction::If(branch) => {
                instruction
                    .reads()
                    .into_iter()
                    .for_each(|slot| sum.read(slot, at));
                let (yes, no) = (
                    of(i64::from(branch.then_chain_idx)),
                    of(i64::from(branch.else_chain_idx)),
                );
                yes.needs
                    .keys()
                    .chain(no.needs.keys())
                    .for_each(|slot| sum.read(*slot, at));
                sum.gives.extend(yes.gives.intersection(&no.gives));
            }
            Instruction::Scan(scan) => {
                let body = of(i64::from(scan.body_chain_idx));
                let tensors = |tids: &[Tid]| {
                    tids.iter()
                        .map(|tid| Slot::Tensor(*tid))
                        .collect::<Vec<_>>()
                };
                tensors(&scan.originals)
                    .into_iter()
                    .chain(tensors(&scan.carry))
                    .for_each(|slot| sum.read(slot, at));
                sum.gives.extend(tensors(&scan.sliced));
                body.needs.keys().for_each(|slot| sum.read(*slot, at));
                for slot in tensors(&scan.outputs) {
                    if !body.gives.contains(&slot) {
                        sum.read(slot, at);
                    }
                    sum.gives.insert(slot);
                }
            }
            _ => {
                instruction
                    .reads()
                    .into_iter()
                    .for_each(|slot| sum.read(slot, at));
                sum.gives.extend(instruction.writes());
            }
        }
    }
    Ok(sum)
}
