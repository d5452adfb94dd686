//! Instructions as text: `%t12 = RmsNorm(x=%t3, weight=%c0, eps=1e-5)`.

use std::fmt;

use super::{Field, FloatOrVid, Instruction, IntOrVid, IntOrVidOrTid, Slot, Tid, Vid, VidOrTid};

/// How slots are called in text.
pub trait SlotNames {
    /// Writes the name of a tensor slot.
    ///
    /// # Errors
    /// Those of the formatter.
    fn tensor(&self, tid: Tid, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Writes the name of a value slot.
    ///
    /// # Errors
    /// Those of the formatter.
    fn value(&self, vid: Vid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{vid}")
    }
}

/// Plain numbers, for an instruction seen alone.
struct Numbers;

impl SlotNames for Numbers {
    fn tensor(&self, tid: Tid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{tid}")
    }
}

impl Instruction {
    /// The instruction as one line of text: what it writes, its name, and the fields that don't have their default.
    pub fn display<'a>(&'a self, names: &'a dyn SlotNames) -> impl fmt::Display + 'a {
        Line {
            instruction: self,
            names,
            results: true,
        }
    }

    /// [`Instruction::display`] without what it writes.
    pub fn display_call<'a>(&'a self, names: &'a dyn SlotNames) -> impl fmt::Display + 'a {
        Line {
            instruction: self,
            names,
            results: false,
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.display(&Numbers).fmt(f)
    }
}

struct Line<'a> {
    instruction: &'a Instruction,
    names: &'a dyn SlotNames,
    results: bool,
}

impl Line<'_> {
    fn list<T>(
        &self,
        f: &mut fmt::Formatter<'_>,
        items: &[T],
        one: impl Fn(&T, &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        f.write_str("[")?;
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            one(item, f)?;
        }
        f.write_str("]")
    }

    fn int_or_vid(&self, value: &IntOrVid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match value {
            IntOrVid::Int(number) => write!(f, "{number}"),
            IntOrVid::Vid(vid) => self.names.value(*vid, f),
        }
    }

    fn field(&self, field: &Field, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match field {
            Field::None => f.write_str("none"),
            Field::Tid(tid) | Field::VidOrTid(VidOrTid::Tid(tid)) => self.names.tensor(*tid, f),
            Field::Vid(vid) | Field::VidOrTid(VidOrTid::Vid(vid)) => self.names.value(*vid, f),
            Field::Tids(tids) => self.list(f, tids, |tid, f| self.names.tensor(*tid, f)),
            Field::Int(number) => write!(f, "{number}"),
            Field::Ints(numbers) => write!(f, "{numbers:?}"),
            Field::IntOrVid(value) => self.int_or_vid(value, f),
            Field::IntOrVids(values) => self.list(f, values, |value, f| self.int_or_vid(value, f)),
            Field::FloatOrVid(FloatOrVid::Float(number)) => write!(f, "{number:?}"),
            Field::FloatOrVid(FloatOrVid::Vid(vid)) => self.names.value(*vid, f),
            Field::IntOrVidOrTid(IntOrVidOrTid::Int(number)) => write!(f, "{number}"),
            Field::IntOrVidOrTid(IntOrVidOrTid::Vid(vid)) => self.names.value(*vid, f),
            Field::IntOrVidOrTid(IntOrVidOrTid::Tid(tid)) => self.names.tensor(*tid, f),
            Field::F32(number) => write!(f, "{number:?}"),
            Field::F64(number) => write!(f, "{number:?}"),
            Field::Bool(value) => write!(f, "{value}"),
            Field::Str(text) => write!(f, "{text:?}"),
            Field::Strs(texts) => write!(f, "{texts:?}"),
            Field::DType(dtype) => write!(f, "{dtype}"),
            Field::DTypes(dtypes) => self.list(f, dtypes, |dtype, f| write!(f, "{dtype}")),
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writes = self.instruction.writes();
        writes.retain(|_| self.results);
        for (at, slot) in writes.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match slot {
                Slot::Tensor(tid) => self.names.tensor(*tid, f)?,
                Slot::Value(vid) => self.names.value(*vid, f)?,
            }
        }
        if !writes.is_empty() {
            f.write_str(" = ")?;
        }
        write!(f, "{}(", self.instruction.info().name)?;
        let mut first = true;
        for (info, content) in self.instruction.fields() {
            let only_written = info.role.writes() && !info.role.reads();
            if only_written || info.default.is_some_and(|make| make() == content) {
                continue;
            }
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            write!(f, "{}=", info.name)?;
            self.field(&content, f)?;
        }
        f.write_str(")")
    }
}
