//! Indices that only the device knows: brought into range there, and looked at with the results.
//!
//! MLX reads and writes wherever an index says. On the host an index can be looked at before it is used; one that a GPU is still computing can't without waiting for it, and a
//! loop over tokens must not wait. So an instruction works on indices that are cut to what is there, and leaves a [`Pending`] flag: whether the cut changed any. Flags are
//! computed with the results of their call. Who reads a result reads them first, and gets the error in place of numbers that mean nothing.

use std::cell::{Cell, RefCell};

use fuseline_program::ScalarType;

use crate::fault::Fault;
use crate::mlx::{self, Array, MlxError};
use crate::ops::each_integer;
use crate::program::Program;
use crate::tensor::TensorError;

/// The indices that an operand may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// The axis that they are of, for messages.
    pub(crate) axis: i32,
    /// Its length, for messages.
    pub(crate) length: i64,
    /// The least index and the largest.
    pub(crate) span: Span,
}

/// Integers from `least` to `most`, both counted in; none if `most` is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) least: i64,
    pub(crate) most: i64,
}

impl Span {
    pub(crate) fn holds(self, number: i64) -> bool {
        (self.least..=self.most).contains(&number)
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        self.least <= other.least && other.most <= self.most
    }

    /// The smallest span with all of both in it.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            most: self.most.max(other.most),
        }
    }

    /// The integers of a type of elements.
    pub(crate) fn of_type(dtype: ScalarType) -> Option<Self> {
        use ScalarType as T;
        let (least, most) = match dtype {
            T::Bool => (0, 1),
            T::U8 => (0, u8::MAX.into()),
            T::I8 => (i8::MIN.into(), i8::MAX.into()),
            T::U16 => (0, u16::MAX.into()),
            T::I16 => (i16::MIN.into(), i16::MAX.into()),
            T::U32 => (0, u32::MAX.into()),
            T::I32 => (i32::MIN.into(), i32::MAX.into()),
            T::U64 => (0, i64::MAX),
            T::I64 => (i64::MIN, i64::MAX),
            _ => return None,
        };
        Some(Self { least, most })
    }
}

impl Range {
    /// Looks at indices on the host, which waits for them.
    pub(crate) fn check(self, indices: &Array) -> Result<(), Fault> {
        let mut wrong = None;
        each_integer(indices, |index| {
            if wrong.is_none() && !self.span.holds(index) {
                wrong = Some(index);
            }
        })?;
        match wrong {
            Some(index) => Err(Fault::Index {
                index,
                axis: self.axis,
                length: self.length,
            }),
            None => Ok(()),
        }
    }
}

/// An instruction: segment, chain, place in the chain.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: usize,
    chain: u32,
    position: usize,
}

/// Indices that are still to be looked at.
pub(crate) struct Pending {
    /// One truth value: whether any is out of range.
    flag: Array,
    indices: Array,
    range: Range,
    place: Place,
}

/// What one call leaves to be looked at.
pub(crate) struct Late {
    /// Whether it may leave anything, or must wait and look.
    on: bool,
    segment: Cell<usize>,
    at: Cell<(u32, usize)>,
    pending: RefCell<Vec<Pending>>,
}

impl Late {
    /// For one call, or for loading a program.
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            segment: Cell::new(0),
            at: Cell::new((0, 0)),
            pending: RefCell::default(),
        }
    }

    /// Whether indices may be looked at later.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Says which segment runs.
    pub(crate) fn enter(&self, segment: usize) {
        self.segment.set(segment);
    }

    /// Says which instruction runs.
    pub(crate) fn at(&self, chain: u32, position: usize) {
        self.at.set((chain, position));
    }

    /// Leaves indices of the running instruction to be looked at.
    pub(crate) fn leave(&self, flag: Array, indices: Array, range: Range) {
        let (chain, position) = self.at.get();
        self.pending.borrow_mut().push(Pending {
            flag,
            indices,
            range,
            place: Place {
                segment: self.segment.get(),
                chain,
                position,
            },
        });
    }

    /// Looks at what is computed already, so that a long loop does not gather flags.
    pub(crate) fn look(&self, program: &Program) -> Result<(), TensorError> {
        let mut pending = self.pending.borrow_mut();
        let ready = pending.iter().take_while(|one| one.flag.is_computed());
        let ready = ready.count();
        pending
            .drain(..ready)
            .try_for_each(|one| one.settle(program))
    }

    /// Puts the flags among what is computed next.
    pub(crate) fn start(&self) -> Result<(), MlxError> {
        let pending = self.pending.borrow();
        mlx::start(pending.iter().map(|one| &one.flag))
    }

    /// What is left to be looked at.
    pub(crate) fn into_pending(self) -> Vec<Pending> {
        self.pending.into_inner()
    }
}

impl Pending {
    /// Whether any is out of range, to be computed with the results.
    pub(crate) fn flag(&self) -> &Array {
        &self.flag
    }

    /// Waits for the flag; what it means.
    pub(crate) fn settle(self, program: &Program) -> Result<(), TensorError> {
        if self.flag.read()? == [0] {
            return Ok(());
        }
        match self.range.check(&self.indices) {
            Err(fault) => Err(instruction(program, self.place, fault)),
            Ok(()) => Ok(()),
        }
    }
}

fn instruction(program: &Program, place: Place, fault: Fault) -> TensorError {
    let Place {
        segment,
        chain,
        position,
    } = place;
    let graph = program
        .0
        .segments
        .get(segment)
        .map(|segment| &segment.graph);
    let text = graph.and_then(|graph| {
        let instruction = graph.chain(chain).get(position)?;
        Some(instruction.display(&graph.counts).to_string())
    });
    TensorError::Instruction {
        chain,
        position,
        text: text.unwrap_or_default(),
        fault: Box::new(fault),
    }
}
