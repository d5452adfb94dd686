//! The slots of one program while it runs.

use std::sync::OnceLock;

use fuseline_program::container::limits::Limit;
use fuseline_program::instr::{FloatOrVid, IntOrVid};
use fuseline_program::{Tid, Vid};

use crate::budget::Budget;
use crate::fault::Fault;
use crate::late::{Late, Span};
use crate::mlx::{Array, Optional, Stream};
use crate::ops::{CacheLayout, Caches, span_of};

/// A number in a value slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

/// The most elements of a slot that are read to know between what they lie, if they are there.
const FEW: usize = 16;

/// What is in a tensor slot.
pub(crate) struct Filled {
    array: Array,
    /// Between what its elements lie, if that follows from how it was made.
    span: Option<Span>,
}

impl From<Array> for Filled {
    fn from(array: Array) -> Self {
        Self { array, span: None }
    }
}

/// A constant, which is computed.
pub(crate) struct Constant {
    array: Array,
    span: OnceLock<Option<Span>>,
}

impl From<Array> for Constant {
    fn from(array: Array) -> Self {
        Self {
            array,
            span: OnceLock::new(),
        }
    }
}

impl Constant {
    /// Between what its elements lie, if they are integers, and not more than `most` of them.
    fn span(&self, most: usize) -> Result<Option<Span>, Fault> {
        if let Some(known) = self.span.get() {
            return Ok(*known);
        }
        if self.array.len() > most {
            return Ok(None);
        }
        let span = span_of(&self.array)?;
        Ok(*self.span.get_or_init(|| span))
    }
}

/// The slots of one program. Constants are shared, so they stand apart; the init chain has none apart and may write to all.
pub(crate) struct Frame<'a> {
    /// The slots that can't be written, which come first.
    pub(crate) constants: &'a [Constant],
    /// The other tensor slots.
    pub(crate) tensors: Vec<Option<Filled>>,
    /// The value slots.
    pub(crate) values: Vec<Option<Number>>,
    /// What may be put into value slots: those that are limited, in the order of their numbers.
    pub(crate) limits: &'a [Limit],
    /// Where operations run.
    pub(crate) stream: &'a Stream,
    /// What the call may still do again.
    pub(crate) budget: &'a Budget,
    /// The indices that are still to be looked at.
    pub(crate) late: &'a Late,
    /// The steps of each chain.
    pub(crate) steps: &'a [u64],
    /// The caches that instructions name by layer.
    pub(crate) caches: Caches,
    /// How those are kept.
    pub(crate) layout: &'a CacheLayout,
}

impl Frame<'_> {
    /// What is in a tensor slot.
    pub(crate) fn get(&self, tid: Tid) -> Result<&Array, Fault> {
        let at = tid.0 as usize;
        let found = match at.checked_sub(self.constants.len()) {
            None => self.constants.get(at).map(|constant| &constant.array),
            Some(at) => self.filled(at).map(|filled| &filled.array),
        };
        found.ok_or(Fault::UnsetTensor { slot: tid.0 })
    }

    fn filled(&self, at: usize) -> Option<&Filled> {
        self.tensors.get(at).and_then(Option::as_ref)
    }

    /// Between which integers the elements in a slot lie, if that is known without waiting. Constants of up to `most` elements are read to know it, once.
    pub(crate) fn span(&self, tid: Tid, most: usize) -> Result<Option<Span>, Fault> {
        let at = tid.0 as usize;
        match at.checked_sub(self.constants.len()) {
            None => self
                .constants
                .get(at)
                .map_or(Ok(None), |constant| constant.span(most)),
            Some(at) => match self.filled(at) {
                Some(Filled { array, span: None }) if array.len() <= FEW && array.is_computed() => {
                    span_of(array)
                }
                filled => Ok(filled.and_then(|filled| filled.span)),
            },
        }
    }

    /// Says between which integers the elements in a slot lie.
    pub(crate) fn set_span(&mut self, tid: Tid, span: Span) {
        let at = (tid.0 as usize).checked_sub(self.constants.len());
        if let Some(Some(filled)) = at.and_then(|at| self.tensors.get_mut(at)) {
            filled.span = Some(span);
        }
    }

    /// The handle of what is in a tensor slot.
    pub(crate) fn raw(&self, tid: Tid) -> Result<mlx_sys::mlx_array, Fault> {
        Ok(self.get(tid)?.raw())
    }

    /// What is in a tensor slot, if one is given.
    pub(crate) fn optional(&self, tid: Option<Tid>) -> Result<Optional<'_>, Fault> {
        Ok(Optional::of(tid.map(|tid| self.get(tid)).transpose()?))
    }

    /// What is in several tensor slots.
    pub(crate) fn all(&self, tids: &[Tid]) -> Result<Vec<&Array>, Fault> {
        tids.iter().map(|tid| self.get(*tid)).collect()
    }

    /// Puts an array into a tensor slot. What was there goes at once, so that its memory can be used again when nothing
    /// else needs it: this is how state is updated in place.
    pub(crate) fn put(&mut self, tid: Tid, array: Array) -> Result<(), Fault> {
        let slot = (tid.0 as usize)
            .checked_sub(self.constants.len())
            .ok_or(Fault::ReadOnly { slot: tid.0 })?;
        let place = self
            .tensors
            .get_mut(slot)
            .ok_or(Fault::UnsetTensor { slot: tid.0 })?;
        *place = Some(array.into());
        Ok(())
    }

    /// Takes an array out of a tensor slot.
    pub(crate) fn take(&mut self, tid: Tid) -> Result<Array, Fault> {
        let place = (tid.0 as usize)
            .checked_sub(self.constants.len())
            .and_then(|slot| self.tensors.get_mut(slot));
        place
            .and_then(Option::take)
            .map(|filled| filled.array)
            .ok_or(Fault::UnsetTensor { slot: tid.0 })
    }

    /// The number in a value slot.
    pub(crate) fn value(&self, vid: Vid) -> Result<Number, Fault> {
        let found = self.values.get(vid.0 as usize).copied().flatten();
        found.ok_or(Fault::UnsetValue { slot: vid.0 })
    }

    /// Puts an integer into a value slot.
    pub(crate) fn put_value(&mut self, vid: Vid, value: i64) -> Result<(), Fault> {
        self.put_number(vid, Number::Int(value))
    }

    /// Puts a number into a value slot.
    pub(crate) fn put_number(&mut self, vid: Vid, number: Number) -> Result<(), Fault> {
        if let Number::Int(value) = number {
            self.check_limits(vid, value)?;
        }
        let place = self.values.get_mut(vid.0 as usize);
        *place.ok_or(Fault::UnsetValue { slot: vid.0 })? = Some(number);
        Ok(())
    }

    /// Refuses a number that the file says is out of range.
    fn check_limits(&self, vid: Vid, value: i64) -> Result<(), Fault> {
        let first = self.limits.partition_point(|limit| limit.slot < vid.0);
        let own = self.limits.iter().skip(first);
        let mut own = own.take_while(|limit| limit.slot == vid.0);
        match own.find(|limit| value < limit.least || value > limit.most) {
            Some(limit) => Err(Fault::Number {
                number: limit.number.clone(),
                value,
                least: limit.least,
                most: limit.most,
            }),
            None => Ok(()),
        }
    }

    /// A host integer.
    pub(crate) fn number(&self, value: IntOrVid) -> Result<i64, Fault> {
        match value {
            IntOrVid::Int(value) => Ok(value),
            IntOrVid::Vid(vid) => match self.value(vid)? {
                Number::Int(value) => Ok(value),
                Number::Float(_) => Err(Fault::UnsetValue { slot: vid.0 }),
            },
        }
    }

    /// A host integer for a length or a position: those beyond 32 bits stand for "to the end" and are cut.
    pub(crate) fn int(&self, value: IntOrVid) -> Result<i32, Fault> {
        let cut = self
            .number(value)?
            .clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        i32::try_from(cut).map_err(|_| Fault::Overflow)
    }

    /// Several of [`Frame::int`].
    pub(crate) fn ints(&self, values: &[IntOrVid]) -> Result<Vec<i32>, Fault> {
        values.iter().map(|value| self.int(*value)).collect()
    }

    /// A host float.
    pub(crate) fn float(&self, value: FloatOrVid) -> Result<f64, Fault> {
        Ok(match value {
            FloatOrVid::Float(value) => value,
            FloatOrVid::Vid(vid) => match self.value(vid)? {
                Number::Int(value) => value as f64,
                Number::Float(value) => value,
            },
        })
    }
}
