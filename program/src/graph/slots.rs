//! How tensor slots are numbered.

use std::fmt;

use crate::instr::{Slot, SlotNames, Tid};

/// What a tensor slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotClass {
    /// Bytes of the file, found by name. Printed as `%c0`.
    Constant,
    /// Given at each call: `%i0`.
    Input,
    /// Handed back by each call: `%o0`.
    Output,
    /// Kept from call to call: `%s0`.
    State,
    /// Of no meaning outside of a call: `%t0`.
    Temp,
}

impl SlotClass {
    /// The classes in the order of their numbers.
    pub const ALL: [SlotClass; 5] = [
        Self::Constant,
        Self::Input,
        Self::Output,
        Self::State,
        Self::Temp,
    ];

    /// The letter that stands for the class in text.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Constant => 'c',
            Self::Input => 'i',
            Self::Output => 'o',
            Self::State => 's',
            Self::Temp => 't',
        }
    }
}

/// How many slots of each class a program has. Tensor slots are numbered through, class after class in the order of the fields
/// here; value slots are numbered apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Tensors found in the file.
    pub constants: u32,
    /// Tensors given at each call.
    pub inputs: u32,
    /// Tensors handed back by each call.
    pub outputs: u32,
    /// Tensors kept from call to call.
    pub state: u32,
    /// Tensors of no meaning outside of a call.
    pub temps: u32,
    /// Host numbers.
    pub values: u32,
}

impl SlotCounts {
    /// How many tensor slots a class has.
    #[must_use]
    pub fn of(&self, class: SlotClass) -> u32 {
        match class {
            SlotClass::Constant => self.constants,
            SlotClass::Input => self.inputs,
            SlotClass::Output => self.outputs,
            SlotClass::State => self.state,
            SlotClass::Temp => self.temps,
        }
    }

    /// How many tensor slots there are in all.
    #[must_use]
    pub fn tensors(&self) -> u64 {
        SlotClass::ALL
            .iter()
            .map(|class| u64::from(self.of(*class)))
            .sum()
    }

    /// How many tensor slots are described by [`super::MlxGraph::tensors`]: all but the temporaries.
    #[must_use]
    pub fn described(&self) -> u64 {
        self.tensors() - u64::from(self.temps)
    }

    /// The class of a slot and its number within the class; none if there is no such slot.
    #[must_use]
    pub fn locate(&self, tid: Tid) -> Option<(SlotClass, u32)> {
        let mut number = tid.0;
        for class in SlotClass::ALL {
            match number.checked_sub(self.of(class)) {
                None => return Some((class, number)),
                Some(rest) => number = rest,
            }
        }
        None
    }

    /// The slot with this number within its class; none if the class is smaller or the number has no room.
    #[must_use]
    pub fn tid(&self, class: SlotClass, number: u32) -> Option<Tid> {
        if number >= self.of(class) {
            return None;
        }
        let before = SlotClass::ALL.iter().take_while(|other| **other != class);
        let start: u64 = before.map(|other| u64::from(self.of(*other))).sum();
        u32::try_from(start + u64::from(number)).ok().map(Tid)
    }
}

impl SlotCounts {
    /// How a slot is called in text: `%c0`, `%v3`.
    #[must_use]
    pub fn name(&self, slot: Slot) -> String {
        match slot {
            Slot::Value(vid) => vid.to_string(),
            Slot::Tensor(tid) => match self.locate(tid) {
                Some((class, number)) => format!("%{}{number}", class.letter()),
                None => format!("%?{}", tid.0),
            },
        }
    }
}

impl SlotNames for SlotCounts {
    fn tensor(&self, tid: Tid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name(Slot::Tensor(tid)))
    }
}
