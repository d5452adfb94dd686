//! The program of a delegate: slots, chains of instructions over them, and how both meet the outside.

mod attrs;
mod flow;
mod slots;
mod validate;
mod wire;

pub use slots::{SlotClass, SlotCounts};

use crate::dtype::ScalarType;
use crate::instr::{Instruction, Tid, Vid};

/// A number of a chain in [`MlxGraph::chains`].
pub type ChainIdx = u32;

/// One delegate's program, as the compiler makes it and the runtime replays it.
///
/// Tensor slots are numbered by class: constants, inputs, outputs, state, temporaries ([`SlotCounts`]). Slots are storage, not
/// values: any slot but a constant's may be written again and again, outputs may hold intermediates, and an instruction may write
/// a slot that it reads.
///
/// The init chain, if there is one, runs once after the constants are loaded; it alone may write constant slots (with any
/// shape and type: `tensors` says what is in the file, not what the init chain leaves). The main chain runs at every
/// call. State keeps what is in it from call to call and starts as zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct MlxGraph {
    /// How many slots of each class there are.
    pub counts: SlotCounts,
    /// Sequences of instructions. Those that are neither main nor init are run by `If` and `Scan`.
    pub chains: Vec<Vec<Instruction>>,
    /// The chain that runs at every call.
    pub main_chain: ChainIdx,
    /// The chain that runs once, after the constants have been loaded.
    pub init_chain: Option<ChainIdx>,
    /// Where the call's inputs go, in the order of its arguments.
    pub inputs: Vec<IoSlot>,
    /// Where the call's outputs come from, in the order of its arguments, after the inputs.
    pub outputs: Vec<IoSlot>,
    /// The slots that keep their content from call to call.
    pub state: Vec<IoSlot>,
    /// Names. A constant's is the key of its bytes in the file; the others are for people.
    pub names: Vec<NamedSlot>,
    /// What is in the slots that are not temporaries, by number.
    pub tensors: Vec<TensorMeta>,
}

/// A slot seen from outside, with the kind of number where it is a host number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IoSlot {
    /// A tensor.
    Tensor(Tid),
    /// An integer.
    Int(Vid),
    /// A float.
    Float(Vid),
    /// A truth value.
    Bool(Vid),
}

/// The name of a slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedSlot {
    /// The name.
    pub name: String,
    /// What it names.
    pub slot: IoSlot,
}

/// Type and shape of what is in a tensor slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorMeta {
    /// The element type.
    pub dtype: ScalarType,
    /// The dimensions, outermost first. Elements lie in row-major order.
    pub shape: Vec<Dim>,
}

/// One dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// Always this long.
    Static(u32),
    /// Differs from call to call.
    Dynamic {
        /// At least this long.
        min: u32,
        /// At most this long, if there is a bound.
        max: Option<u32>,
    },
}

impl Dim {
    /// The largest length, if there is one.
    #[must_use]
    pub fn upper(self) -> Option<u32> {
        match self {
            Self::Static(length) => Some(length),
            Self::Dynamic { max, .. } => max,
        }
    }
}

impl TensorMeta {
    /// A tensor whose shape never changes.
    #[must_use]
    pub fn fixed(dtype: ScalarType, shape: &[u32]) -> Self {
        Self {
            dtype,
            shape: shape.iter().map(|length| Dim::Static(*length)).collect(),
        }
    }

    /// The shape, if no dimension varies.
    #[must_use]
    pub fn static_shape(&self) -> Option<Vec<u32>> {
        let lengths = self.shape.iter().map(|dim| match dim {
            Dim::Static(length) => Some(*length),
            Dim::Dynamic { .. } => None,
        });
        lengths.collect()
    }

    /// Bytes at the upper bounds of all dimensions: none if there is no bound or the number has no room in 64 bits.
    #[must_use]
    pub fn max_bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.dtype.size(), |bytes, dim| {
            bytes.checked_mul(u64::from(dim.upper()?))
        })
    }
}

impl MlxGraph {
    /// The instructions of a chain; none for a number that is not there.
    #[must_use]
    pub fn chain(&self, chain: ChainIdx) -> &[Instruction] {
        self.chains.get(chain as usize).map_or(&[], Vec::as_slice)
    }

    /// The name of a slot, if it has one.
    #[must_use]
    pub fn name_of(&self, slot: IoSlot) -> Option<&str> {
        self.names
            .iter()
            .find(|named| named.slot == slot)
            .map(|named| named.name.as_str())
    }
}
