//! What a delegate's program must hold before anything is made of it.
//!
//! [`MlxGraph::validate`] checks, in this order:
//! 1. counts are within the caps, and the number of described tensors is the number of slots that are not temporaries;
//! 2. element types are those of MLX; constants have a fixed shape; state has one too, of 4 GiB at most and not empty; no
//!    tensor's size overflows;
//! 3. inputs go to input slots, each once; state is all the state slots, each once; outputs are slots that exist;
//! 4. each constant has one name; no name leads nowhere;
//! 5. the main and the init chain exist; every operand of every instruction is a slot that exists; only the init chain (and what
//!    it runs) writes constants; attributes are in range ([`super::attrs`]);
//! 6. chains run chains that exist, none runs itself, however indirectly, and they are not nested too deeply;
//! 7. nothing is read before it is written, and the main chain leaves something in every output ([`super::flow`]).

use std::collections::BTreeSet;

use super::{ChainIdx, IoSlot, MlxGraph, SlotClass, TensorMeta, attrs, flow};
use crate::caps;
use crate::error::{Fault, FormatError, Within};
use crate::instr::{Instruction, Slot, Tid};

impl MlxGraph {
    /// Checks everything that can be known without running the program: the list is at the top of this module's source.
    ///
    /// # Errors
    /// The first thing that is wrong, and where it is.
    pub fn validate(&self) -> Result<(), FormatError> {
        self.check_counts()?;
        for (at, meta) in self.tensors.iter().enumerate() {
            let class = u32::try_from(at)
                .ok()
                .and_then(|tid| self.counts.locate(Tid(tid)));
            let class = class.map_or(SlotClass::Temp, |(class, _)| class);
            check_tensor(meta, class)
                .within(|| format!("tensor {at} (%{}{})", class.letter(), self.number(at)))?;
        }
        self.check_io()?;
        self.check_names()?;
        self.check_chain_exists("main chain", self.main_chain)?;
        if let Some(init) = self.init_chain {
            self.check_chain_exists("init chain", init)?;
        }
        let order = flow::order(self)?;
        let in_init = self.run_by_init();
        let fixed = self.slots_never_written();
        for (at, chain) in self.chains.iter().enumerate() {
            for (number, instruction) in chain.iter().enumerate() {
                self.check_instruction(instruction, in_init[at], &fixed)
                    .within(|| format!("instruction {number} ({})", instruction.info().name))
                    .within(|| format!("chain {at}"))?;
            }
        }
        flow::check(self, &order)
    }

    /// The number of a described slot within its class.
    fn number(&self, at: usize) -> u32 {
        u32::try_from(at)
            .ok()
            .and_then(|tid| self.counts.locate(Tid(tid)))
            .map_or(0, |(_, number)| number)
    }

    fn check_counts(&self) -> Result<(), FormatError> {
        for class in SlotClass::ALL {
            caps::count("tensor slots of a class", self.counts.of(class) as usize)?;
        }
        caps::count("value slots", self.counts.values as usize)?;
        caps::count("chains", self.chains.len())?;
        caps::count("instructions", self.chains.iter().map(Vec::len).sum())?;
        let (left, right) = (self.tensors.len() as u64, self.counts.described());
        if left != right {
            return Err(Fault::Mismatch {
                what: "described tensors and slots that are not temporaries",
                left,
                right,
            }
            .into());
        }
        Ok(())
    }

    fn check_io(&self) -> Result<(), FormatError> {
        for (place, slots, class) in [
            ("inputs", &self.inputs, Some(SlotClass::Input)),
            ("outputs", &self.outputs, None),
            ("state", &self.state, Some(SlotClass::State)),
        ] {
            let mut seen = BTreeSet::new();
            for (at, slot) in slots.iter().enumerate() {
                self.check_io_slot(*slot, class)
                    .within(|| format!("{place}, entry {at}"))?;
                if class.is_some() && !seen.insert(*slot) {
                    let name = format!("{slot:?}");
                    return Err(Fault::Repeated { what: "slot", name }).within(|| place.to_owned());
                }
            }
        }
        let (left, right) = (self.state.len() as u64, u64::from(self.counts.state));
        if left != right {
            return Err(Fault::Mismatch {
                what: "entries and slots",
                left,
                right,
            })
            .within(|| "state".to_owned());
        }
        Ok(())
    }

    fn check_io_slot(&self, slot: IoSlot, class: Option<SlotClass>) -> Result<(), Fault> {
        match slot {
            IoSlot::Tensor(tid) => {
                self.check_slot(Slot::Tensor(tid))?;
                if class.is_some_and(|class| {
                    self.counts
                        .locate(tid)
                        .is_none_or(|(found, _)| found != class)
                }) {
                    let allowed = "a slot of that class";
                    return Err(Fault::Value {
                        what: "the slot",
                        value: tid.to_string(),
                        allowed,
                    });
                }
                Ok(())
            }
            IoSlot::Int(vid) | IoSlot::Float(vid) | IoSlot::Bool(vid) => {
                if class == Some(SlotClass::State) {
                    return Err(Fault::Unsupported(
                        "a host number that is kept from call to call".to_owned(),
                    ));
                }
                self.check_slot(Slot::Value(vid))
            }
        }
    }

    fn check_names(&self) -> Result<(), FormatError> {
        let mut named = BTreeSet::new();
        for entry in &self.names {
            self.check_io_slot(entry.slot, None)
                .within(|| format!("name {:?}", entry.name))?;
            if !named.insert(entry.slot) {
                return Err(Fault::Repeated {
                    what: "slot with the name",
                    name: entry.name.clone(),
                }
                .into());
            }
        }
        for tid in 0..self.counts.constants {
            if !named.contains(&IoSlot::Tensor(Tid(tid))) {
                return Err(Fault::Missing("the name")).within(|| format!("constant %c{tid}"));
            }
        }
        Ok(())
    }

    fn check_chain_exists(&self, what: &'static str, chain: ChainIdx) -> Result<(), Fault> {
        let count = self.chains.len() as u64;
        if u64::from(chain) < count {
            return Ok(());
        }
        Err(Fault::Index {
            what,
            index: i64::from(chain),
            count,
        })
    }

    fn check_slot(&self, slot: Slot) -> Result<(), Fault> {
        let (what, index, count) = match slot {
            Slot::Tensor(tid) => ("tensor slot", tid.0, self.counts.tensors()),
            Slot::Value(vid) => ("value slot", vid.0, u64::from(self.counts.values)),
        };
        if u64::from(index) < count {
            return Ok(());
        }
        Err(Fault::Index {
            what,
            index: i64::from(index),
            count,
        })
    }

    fn check_instruction(
        &self,
        instruction: &Instruction,
        in_init: bool,
        fixed: &[bool],
    ) -> Result<(), Fault> {
        for slot in instruction.reads() {
            self.check_slot(slot)?;
        }
        for slot in instruction.writes() {
            self.check_slot(slot)?;
            if let Slot::Tensor(tid) = slot
                && tid.0 < self.counts.constants
                && !in_init
            {
                return Err(Fault::Unsupported(
                    "writing a constant outside of the init chain".to_owned(),
                ));
            }
        }
        // The rank of the first operand is known where nothing but the file or the caller fills the slot.
        let first = instruction.reads().first().copied();
        let known = |tid: Tid| fixed.get(tid.0 as usize).copied().unwrap_or(false);
        let rank = match first {
            Some(Slot::Tensor(tid)) if known(tid) => self
                .tensors
                .get(tid.0 as usize)
                .map(|meta| meta.shape.len()),
            _ => None,
        };
        attrs::check(instruction, rank)
    }

    /// For each chain, whether the init chain runs it, and the main chain does not.
    fn run_by_init(&self) -> Vec<bool> {
        let mut by_init = flow::reachable(self, self.init_chain);
        for (by_init, by_main) in by_init
            .iter_mut()
            .zip(flow::reachable(self, Some(self.main_chain)))
        {
            *by_init &= !by_main;
        }
        by_init
    }

    /// For each constant and input slot, whether no instruction writes it.
    fn slots_never_written(&self) -> Vec<bool> {
        let mut never = vec![true; (self.counts.constants + self.counts.inputs) as usize];
        for slot in self.chains.iter().flatten().flat_map(Instruction::writes) {
            if let Slot::Tensor(tid) = slot
                && let Some(never) = never.get_mut(tid.0 as usize)
            {
                *never = false;
            }
        }
        never
    }
}

fn check_tensor(meta: &TensorMeta, class: SlotClass) -> Result<(), Fault> {
    if !meta.dtype.is_mlx() {
        return Err(Fault::DType {
            dtype: meta.dtype,
            what: "an array of MLX",
        });
    }
    caps::rank(meta.shape.len())?;
    for dim in &meta.shape {
        caps::dim(dim.upper().unwrap_or(0))?;
    }
    if matches!(class, SlotClass::Constant | SlotClass::State) {
        let lengths = meta
            .static_shape()
            .ok_or_else(|| Fault::Unsupported("a shape that varies".to_owned()))?;
        let too_large = |bytes, cap| Fault::TooLarge {
            what: "the tensor".to_owned(),
            bytes,
            cap,
        };
        let bytes = meta
            .max_bytes()
            .ok_or_else(|| too_large(u64::MAX, i64::MAX as u64))?;
        if class == SlotClass::State {
            if lengths.contains(&0) {
                return Err(Fault::Unsupported("a state without elements".to_owned()));
            }
            if bytes > caps::TENSOR_BYTES {
                return Err(too_large(bytes, caps::TENSOR_BYTES));
            }
        }
    }
    Ok(())
}
