//! What is known of each result before a program runs: element types, lengths of axes, host integers.
//!
//! A file describes the tensors at a program's borders only. [`Types::of`] follows the instructions from there: it starts with the constants, inputs and
//! state of a delegate's program, and gives each result of each instruction a [`SlotType`]. What can't be known without running it is left open. Nothing here
//! fails, also for a program that has not been validated; one that takes too many looks has no types.
//!
//! A branch is followed from each `If` that runs it, and a loop's body until what it is entered with stays the same; where the ways differ, the results
//! have in common what is said of them.

mod gathered;
mod length;
mod promote;
mod results;
mod rows;
mod shapes;

use std::collections::BTreeMap;
use std::fmt;

use crate::dtype::ScalarType;
use crate::graph::{Dim, IoSlot, MlxGraph, SlotClass, TensorMeta};
use crate::instr::{Instruction, IntOrVid, Scan, Slot, Tid};
pub use gathered::indices_behind_axes;
use length::{Length, Lengths, NONE};
pub use rows::taken_as_rows;

/// Chains within chains that are followed.
const DEPTH: u32 = 32;
/// Looks at instructions and slots: so many in all, and so many more for each instruction and tensor slot of the program, whose branches may fan out.
const LOOKS: u64 = 100_000;
const LOOKS_EACH: u64 = 256;
/// Times that a loop's body is looked at until what it is entered with stays the same.
const ROUNDS: u32 = 8;

/// What is known of what an instruction puts into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotType {
    /// An array.
    Tensor {
        /// The element type, if it is known.
        dtype: Option<ScalarType>,
        /// The lengths of the axes, if their number is known.
        shape: Option<Vec<Extent>>,
    },
    /// A host integer.
    Int(Extent),
}

/// A number, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Always this one.
    Known(i64),
    /// Between these two, both included; no upper one means that none is known.
    Between(i64, Option<i64>),
    /// Any.
    Unknown,
}

/// What is known of the results of all instructions of a delegate's program.
#[derive(Debug, Clone, PartialEq)]
pub struct Types {
    chains: Vec<Vec<Vec<SlotType>>>,
}

/// What is known of a slot while the program is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Tensor(Array),
    Int(Length),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Array {
    dtype: Option<ScalarType>,
    shape: Option<Vec<Length>>,
}

impl Array {
    const ANY: Self = Self {
        dtype: None,
        shape: None,
    };
}

/// The slots at one point of a program. What is in none of them may be anything.
type Slots = BTreeMap<Slot, Known>;

/// A walk through a program.
struct Walk<'a> {
    graph: &'a MlxGraph,
    lengths: Lengths,
    slots: Slots,
    found: Vec<Vec<Option<Vec<Known>>>>,
    /// Looks that are left.
    looks: u64,
    /// Whether it was given up.
    lost: bool,
}

impl Types {
    /// Follows a program.
    #[must_use]
    pub fn of(graph: &MlxGraph) -> Self {
        let size = graph
            .chains
            .iter()
            .map(|chain| chain.len() as u64)
            .sum::<u64>();
        let size = size.saturating_add(graph.tensors.len() as u64);
        let mut walk = Walk {
            graph,
            lengths: Lengths::default(),
            slots: Slots::new(),
            found: graph.chains.iter().map(|c| vec![None; c.len()]).collect(),
            looks: LOOKS.saturating_add(LOOKS_EACH.saturating_mul(size)),
            lost: false,
        };
        walk.enter(&[SlotClass::Constant, SlotClass::State]);
        if let Some(init) = graph.init_chain {
            walk.chain(init as usize, 0);
        }
        // Only what the init chain has made of constants outlasts it, and state begins as it was left or left by a call.
        let constant = |slot: &Slot| matches!(slot, Slot::Tensor(tid) if class(graph, *tid) == Some(SlotClass::Constant));
        walk.slots.retain(|slot, _| constant(slot));
        walk.enter(&[SlotClass::Input, SlotClass::State]);
        walk.chain(graph.main_chain as usize, 0);
        walk.finish()
    }

    /// The results of an instruction, in the order of [`Instruction::writes`]; none where the program does not get to it, has no such instruction, or takes too
    /// many looks.
    #[must_use]
    pub fn results(&self, chain: usize, position: usize) -> &[SlotType] {
        let chain = self.chains.get(chain);
        chain
            .and_then(|chain| chain.get(position))
            .map_or(&[], Vec::as_slice)
    }
}

fn class(graph: &MlxGraph, tid: Tid) -> Option<SlotClass> {
    graph.counts.locate(tid).map(|(class, _)| class)
}

impl Walk<'_> {
    /// Puts what the file describes into the slots of some classes.
    fn enter(&mut self, classes: &[SlotClass]) {
        for (tid, meta) in (0..).map(Tid).zip(&self.graph.tensors) {
            if class(self.graph, tid).is_some_and(|class| classes.contains(&class)) {
                let array = self.described(meta);
                self.slots.insert(Slot::Tensor(tid), Known::Tensor(array));
            }
        }
        if classes.contains(&SlotClass::Input) {
            for slot in &self.graph.inputs {
                if let IoSlot::Int(vid) = slot {
                    let any = self.lengths.fresh(NONE, None);
                    self.slots.insert(Slot::Value(*vid), Known::Int(any));
                }
            }
        }
    }

    fn described(&mut self, meta: &TensorMeta) -> Array {
        let shape = meta.shape.iter().map(|dim| match *dim {
            Dim::Static(length) => Length::Known(length.into()),
            Dim::Dynamic { min, max } => self.lengths.fresh(min.into(), max.map(i64::from)),
        });
        Array {
            dtype: Some(meta.dtype),
            shape: Some(shape.collect()),
        }
    }

    /// Follows a chain from the slots as they are.
    fn chain(&mut self, chain: usize, depth: u32) {
        let graph = self.graph;
        for (position, instruction) in graph.chains.get(chain).into_iter().flatten().enumerate() {
            self.look(1);
            self.lost |= depth > DEPTH;
            if self.lost {
                return;
            }
            match instruction {
                Instruction::If(i) => {
                    self.look(self.slots.len());
                    let before = self.slots.clone();
                    self.chain(i.then_chain_idx as usize, depth + 1);
                    let yes = std::mem::replace(&mut self.slots, before);
                    self.chain(i.else_chain_idx as usize, depth + 1);
                    let no = std::mem::take(&mut self.slots);
                    self.slots = common(yes, no);
                }
                Instruction::Scan(i) => self.scan(i, depth),
                other => {
                    let results = self.results(other);
                    for (slot, known) in other.writes().into_iter().zip(&results) {
                        self.slots.insert(slot, known.clone());
                    }
                }
            }
            let left = instruction.writes().into_iter();
            let left = left.map(|slot| self.slot(slot)).collect();
            self.note(chain, position, left);
        }
    }

    /// Counts looks; the walk is lost when there are none left.
    fn look(&mut self, times: usize) {
        let left = self.looks.checked_sub(times as u64);
        self.lost |= left.is_none();
        self.looks = left.unwrap_or_default();
    }

    /// What is known of a slot.
    fn slot(&self, slot: Slot) -> Known {
        self.slots.get(&slot).cloned().unwrap_or(match slot {
            Slot::Tensor(_) => Known::Tensor(Array::ANY),
            Slot::Value(_) => Known::Int(Length::Unknown),
        })
    }

    /// Notes results; what was noted on another way here has to be true of these too.
    fn note(&mut self, chain: usize, position: usize, results: Vec<Known>) {
        let place = self.found.get_mut(chain).and_then(|c| c.get_mut(position));
        if let Some(place) = place {
            *place = Some(match place.take() {
                Some(earlier) => earlier.into_iter().zip(results).map(alike).collect(),
                None => results,
            });
        }
    }

    fn scan(&mut self, i: &Scan, depth: u32) {
        let Ok(body) = usize::try_from(i.body_chain_idx) else {
            self.lost = true;
            return;
        };
        let axis = i64::from(i.scan_axis);
        let originals: Vec<Array> = i.originals.iter().map(|tid| self.array(*tid)).collect();
        let steps = originals
            .first()
            .and_then(|first| self.axis(first, axis))
            .unwrap_or(Length::Unknown);
        for round in 0.. {
            self.look(self.slots.len());
            for (sliced, original) in i.sliced.iter().zip(&originals) {
                let slice = Known::Tensor(shapes::without(original, axis));
                self.slots.insert(Slot::Tensor(*sliced), slice);
            }
            let before = self.slots.clone();
            self.chain(body, depth + 1);
            let after = std::mem::take(&mut self.slots);
            self.slots = common(before.clone(), after.clone());
            // The slots that the body alone fills are there after it.
            let filled = after
                .into_iter()
                .filter(|(slot, _)| !before.contains_key(slot));
            // A step's slices are put in place anew, whatever the body makes of them.
            let is_slice = |slot: &Slot| i.sliced.iter().any(|tid| Slot::Tensor(*tid) == *slot);
            let mut kept = before.iter().filter(|(slot, _)| !is_slice(slot));
            let stable = kept.all(|(slot, known)| self.slots.get(slot) == Some(known));
            self.slots.extend(filled);
            self.lost |= round == ROUNDS;
            if stable || self.lost {
                break;
            }
        }
        for output in &i.outputs {
            let step = self.array(*output);
            let stacked = shapes::with(&step, axis, steps);
            self.slots
                .insert(Slot::Tensor(*output), Known::Tensor(stacked));
        }
    }

    /// What is known of the array in a slot.
    fn array(&self, tid: Tid) -> Array {
        match self.slots.get(&Slot::Tensor(tid)) {
            Some(Known::Tensor(array)) => array.clone(),
            _ => Array::ANY,
        }
    }

    /// What is known of an integer.
    fn int(&self, value: IntOrVid) -> Length {
        match value {
            IntOrVid::Int(number) => Length::Known(number),
            IntOrVid::Vid(vid) => match self.slots.get(&Slot::Value(vid)) {
                Some(Known::Int(length)) => *length,
                _ => Length::Unknown,
            },
        }
    }

    /// The length of an axis.
    fn axis(&self, array: &Array, axis: i64) -> Option<Length> {
        let shape = array.shape.as_ref()?;
        shape.get(shapes::counted(axis, shape.len())?).copied()
    }

    fn finish(self) -> Types {
        let Walk {
            lengths,
            found,
            lost,
            ..
        } = self;
        let extent = |length| match (length, lengths.bounds(length)) {
            (Length::Known(n), _) => Extent::Known(n),
            (_, (NONE, None)) => Extent::Unknown,
            (_, (min, max)) => Extent::Between(min, max),
        };
        let shown = |known| match known {
            Known::Int(length) => SlotType::Int(extent(length)),
            Known::Tensor(Array { dtype, shape }) => SlotType::Tensor {
                dtype,
                shape: shape.map(|shape| shape.into_iter().map(extent).collect()),
            },
        };
        let instruction =
            |found: Option<Vec<Known>>| found.into_iter().flatten().map(shown).collect();
        let chain = |chain: Vec<_>| chain.into_iter().map(instruction).collect();
        let kept = found.into_iter().filter(|_| !lost);
        Types {
            chains: kept.map(chain).collect(),
        }
    }
}

/// What is true of the slots on both ways; a slot that only one of them fills may hold anything.
fn common(a: Slots, mut b: Slots) -> Slots {
    let both = a
        .into_iter()
        .filter_map(|(slot, a)| Some((slot, alike((a, b.remove(&slot)?)))));
    both.collect()
}

/// What is true of both.
fn alike((a, b): (Known, Known)) -> Known {
    match (a, b) {
        (Known::Int(a), Known::Int(b)) => Known::Int(same(a, b)),
        (Known::Tensor(a), Known::Tensor(b)) => Known::Tensor(Array {
            dtype: a.dtype.filter(|dtype| Some(*dtype) == b.dtype),
            shape: match (a.shape, b.shape) {
                (Some(a), Some(b)) if a.len() == b.len() => {
                    Some(a.into_iter().zip(b).map(|(a, b)| same(a, b)).collect())
                }
                _ => None,
            },
        }),
        (Known::Tensor(_), Known::Int(_)) => Known::Tensor(Array::ANY),
        (Known::Int(_), Known::Tensor(_)) => Known::Int(Length::Unknown),
    }
}

fn same(a: Length, b: Length) -> Length {
    if a == b { a } else { Length::Unknown }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Between(i64::MIN, Some(max)) => write!(f, "..{max}"),
            Self::Between(min, Some(max)) => write!(f, "{min}..{max}"),
            Self::Between(min, None) => write!(f, "{min}.."),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// `f32[1, 1..16, 64]`, with `?` for what is not known: `f32[1, ?]`, `f32[...]` of any number of axes, `?[2]`, `?`.
impl fmt::Display for SlotType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(Extent::Unknown) => f.write_str("int"),
            Self::Int(extent) => write!(f, "int {extent}"),
            Self::Tensor {
                dtype: None,
                shape: None,
            } => f.write_str("?"),
            Self::Tensor { dtype, shape } => {
                f.write_str(dtype.map_or("?", ScalarType::name))?;
                let Some(shape) = shape else {
                    return f.write_str("[...]");
                };
                f.write_str("[")?;
                for (at, extent) in shape.iter().enumerate() {
                    let gap = if at == 0 { "" } else { ", " };
                    write!(f, "{gap}{extent}")?;
                }
                f.write_str("]")
            }
        }
    }
}
