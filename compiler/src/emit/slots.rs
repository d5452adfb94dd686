//! Which value stands in which slot.
//!
//! While a segment is lowered, slots are symbolic ([`Place`]); they are numbered at the end, when the counts of every class are known. Temporaries are recycled: a
//! slot is free again after the last instruction that reads the value in it.

use fuseline_program::SlotCounts;
use fuseline_program::instr::Tid;

/// A slot by class and number within the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A constant, in the file or set by the init chain.
    Constant(u32),
    /// An input of the segment.
    Input(u32),
    /// An output of the segment.
    Output(u32),
    /// A state.
    State(u32),
    /// A temporary.
    Temp(u32),
}

impl Place {
    /// The place as a provisional slot number: class in the upper bits, number in the lower. Replaced by [`Place::resolve`].
    pub fn provisional(self) -> Tid {
        let (class, n) = match self {
            Place::Constant(n) => (0, n),
            Place::Input(n) => (1, n),
            Place::Output(n) => (2, n),
            Place::State(n) => (3, n),
            Place::Temp(n) => (4, n),
        };
        Tid((class << CLASS_SHIFT) | n)
    }

    /// The final number of a provisional slot.
    pub fn resolve(provisional: Tid, counts: &SlotCounts) -> Tid {
        let n = provisional.0 & ((1 << CLASS_SHIFT) - 1);
        let before = match provisional.0 >> CLASS_SHIFT {
            0 => 0,
            1 => counts.constants,
            2 => counts.constants + counts.inputs,
            3 => counts.constants + counts.inputs + counts.outputs,
            _ => counts.constants + counts.inputs + counts.outputs + counts.state,
        };
        Tid(before + n)
    }
}

/// Slots of one class must stay below `1 << CLASS_SHIFT`; the format's own cap of a million is far below.
const CLASS_SHIFT: u32 = 28;

/// Temporaries and which of them are free.
#[derive(Debug, Default)]
pub struct Temps {
    free: Vec<u32>,
    count: u32,
}

impl Temps {
    /// A free temporary: the one freed last, or a new one.
    pub fn take(&mut self) -> Place {
        Place::Temp(self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        }))
    }

    /// Frees the place if it is a temporary.
    pub fn free(&mut self, place: Place) {
        if let Place::Temp(n) = place {
            self.free.push(n);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }
}
