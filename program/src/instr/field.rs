//! Fields seen without their Rust types: for making an instruction by name, and for printing it.

use super::instruction_table;
use super::{
    FieldInfo, FloatOrVid, InstrInfo, Instruction, IntOrVid, IntOrVidOrTid, Role, Slot, SlotMut,
    Tid, Vid, VidOrTid,
};
use crate::dtype::ScalarType;

/// What is in a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// An optional field that holds nothing.
    None,
    /// A tensor slot.
    Tid(Tid),
    /// A value slot.
    Vid(Vid),
    /// Tensor slots.
    Tids(Vec<Tid>),
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// An integer, known or in a slot.
    IntOrVid(IntOrVid),
    /// Integers, known or in slots.
    IntOrVids(Vec<IntOrVid>),
    /// A float, known or in a slot.
    FloatOrVid(FloatOrVid),
    /// A host number or a tensor, from a slot.
    VidOrTid(VidOrTid),
    /// An integer, known, in a slot or in a tensor.
    IntOrVidOrTid(IntOrVidOrTid),
    /// A single precision float.
    F32(f32),
    /// A float.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    Str(String),
    /// Strings.
    Strs(Vec<String>),
    /// An element type.
    DType(ScalarType),
    /// Element types.
    DTypes(Vec<ScalarType>),
}

/// What a field can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldKind {
    /// [`Field::Tid`].
    Tid,
    /// [`Field::Vid`].
    Vid,
    /// [`Field::Tids`].
    Tids,
    /// [`Field::Int`] of 32 bits.
    I32,
    /// [`Field::Int`] of 32 bits, not negative.
    U32,
    /// [`Field::Int`] of 64 bits, not negative.
    U64,
    /// [`Field::Ints`] of 8 bits.
    I8s,
    /// [`Field::Ints`] of 32 bits.
    I32s,
    /// [`Field::F32`].
    F32,
    /// [`Field::Bool`].
    Bool,
    /// [`Field::Str`].
    Str,
    /// [`Field::Strs`].
    Strs,
    /// [`Field::DType`].
    DType,
    /// [`Field::DTypes`].
    DTypes,
    /// [`Field::IntOrVid`].
    IntOrVid,
    /// [`Field::IntOrVids`].
    IntOrVids,
    /// [`Field::FloatOrVid`].
    FloatOrVid,
    /// [`Field::VidOrTid`].
    VidOrTid,
    /// [`Field::IntOrVidOrTid`].
    IntOrVidOrTid,
}

/// Why an instruction could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// No row has this name.
    #[error("no instruction is called `{name}`")]
    UnknownInstruction {
        /// The name that was asked for.
        name: String,
    },
    /// The row has no such field.
    #[error("`{instruction}` has no field `{field}`")]
    UnknownField {
        /// The instruction.
        instruction: &'static str,
        /// The field that was given.
        field: String,
    },
    /// A field was given twice.
    #[error("`{instruction}`: the field `{field}` is given twice")]
    RepeatedField {
        /// The instruction.
        instruction: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field without a default was left out.
    #[error("`{instruction}` needs the field `{field}`")]
    MissingField {
        /// The instruction.
        instruction: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field can't hold what it was given.
    #[error("`{instruction}`: the field `{field}` ({kind:?}) {problem}: {given:?}")]
    BadField {
        /// The instruction.
        instruction: &'static str,
        /// The field.
        field: &'static str,
        /// What it can hold.
        kind: FieldKind,
        /// What is wrong.
        problem: FieldProblem,
        /// What it was given.
        given: Field,
    },
}

/// What is wrong with the content of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldProblem {
    /// It is of another kind.
    #[error("can't hold this kind of content")]
    WrongKind,
    /// It is a number that the field's type has no room for.
    #[error("has no room for this number")]
    OutOfRange,
}

impl Instruction {
    /// Makes an instruction by name from fields by name. Fields that are not given get the row's defaults. Contents convert where
    /// nothing is lost: an integer or a value slot is good for [`Field::IntOrVid`], and so on.
    ///
    /// # Errors
    /// No such instruction, a field that it does not have, a field given twice, a field without default left out,
    /// or a content that the field can't hold.
    pub fn build(name: &str, fields: &[(&str, Field)]) -> Result<Self, BuildError> {
        let info = instruction_table()
            .iter()
            .find(|info| info.name == name)
            .ok_or_else(|| BuildError::UnknownInstruction {
                name: name.to_owned(),
            })?;
        for (at, (name, _)) in fields.iter().enumerate() {
            let Some(field) = info.fields.iter().find(|field| field.name == *name) else {
                return Err(BuildError::UnknownField {
                    instruction: info.name,
                    field: (*name).to_owned(),
                });
            };
            if fields[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(BuildError::RepeatedField {
                    instruction: info.name,
                    field: field.name,
                });
            }
        }
        Self::assemble(&mut GivenFields { info, fields })
    }

    /// The slots that are read, in the order of the fields; a slot can come more than once. Slots that another
    /// chain reads when this instruction runs it are not among them.
    #[must_use]
    pub fn reads(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        self.visit_slots(Role::reads, |slot| slots.push(slot));
        slots
    }

    /// The slots that are written, in the order of the fields.
    #[must_use]
    pub fn writes(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        self.visit_slots(Role::writes, |slot| slots.push(slot));
        slots
    }

    /// Visits each slot that is read (and perhaps written too), for renumbering.
    pub fn for_each_read_mut(&mut self, visit: impl FnMut(SlotMut<'_>)) {
        self.visit_slots_mut(Role::reads, visit);
    }

    /// Visits each slot that is written (and perhaps read too), for renumbering.
    pub fn for_each_write_mut(&mut self, visit: impl FnMut(SlotMut<'_>)) {
        self.visit_slots_mut(Role::writes, visit);
    }

    /// Visits each slot once, for renumbering.
    pub fn for_each_slot_mut(&mut self, visit: impl FnMut(SlotMut<'_>)) {
        self.visit_slots_mut(|_| true, visit);
    }
}

/// Fields given to [`Instruction::build`], all of them names of the row.
pub(super) struct GivenFields<'a, 'b> {
    pub(super) info: &'static InstrInfo,
    fields: &'a [(&'b str, Field)],
}

impl GivenFields<'_, '_> {
    /// The content of a field: what was given, or its default.
    pub(super) fn take<T: FieldType>(&mut self, name: &'static str) -> Result<T, BuildError> {
        let default = || {
            let row: Option<&FieldInfo> = self.info.fields.iter().find(|field| field.name == name);
            row.and_then(|field| field.default).map(|make| make())
        };
        let given = self
            .fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, content)| content.clone());
        let content = given.or_else(default).ok_or(BuildError::MissingField {
            instruction: self.info.name,
            field: name,
        })?;
        T::from_field(&content).map_err(|problem| BuildError::BadField {
            instruction: self.info.name,
            field: name,
            kind: T::KIND,
            problem,
            given: content,
        })
    }
}

/// A Rust type that a field can have.
pub(super) trait FieldType: Sized {
    const KIND: FieldKind;
    fn to_field(&self) -> Field;
    fn from_field(field: &Field) -> Result<Self, FieldProblem>;
    fn visit_slots(&self, _visit: &mut dyn FnMut(Slot)) {}
    fn visit_slots_mut(&mut self, _visit: &mut dyn FnMut(SlotMut<'_>)) {}
}

impl FieldType for Tid {
    const KIND: FieldKind = FieldKind::Tid;
    fn to_field(&self) -> Field {
        Field::Tid(*self)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::Tid(tid) => Ok(*tid),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        visit(Slot::Tensor(*self));
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        visit(SlotMut::Tensor(self));
    }
}

impl FieldType for Vid {
    const KIND: FieldKind = FieldKind::Vid;
    fn to_field(&self) -> Field {
        Field::Vid(*self)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::Vid(vid) => Ok(*vid),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        visit(Slot::Value(*self));
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        visit(SlotMut::Value(self));
    }
}

impl FieldType for IntOrVid {
    const KIND: FieldKind = FieldKind::IntOrVid;
    fn to_field(&self) -> Field {
        Field::IntOrVid(*self)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::IntOrVid(value) => Ok(*value),
            Field::Int(value) => Ok(Self::Int(*value)),
            Field::Vid(vid) => Ok(Self::Vid(*vid)),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        match self {
            Self::Int(_) => {}
            Self::Vid(vid) => visit(Slot::Value(*vid)),
        }
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        match self {
            Self::Int(_) => {}
            Self::Vid(vid) => visit(SlotMut::Value(vid)),
        }
    }
}

impl FieldType for FloatOrVid {
    const KIND: FieldKind = FieldKind::FloatOrVid;
    fn to_field(&self) -> Field {
        Field::FloatOrVid(*self)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::FloatOrVid(value) => Ok(*value),
            Field::F64(value) => Ok(Self::Float(*value)),
            Field::F32(value) => Ok(Self::Float(f64::from(*value))),
            Field::Vid(vid) => Ok(Self::Vid(*vid)),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        match self {
            Self::Float(_) => {}
            Self::Vid(vid) => visit(Slot::Value(*vid)),
        }
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        match self {
            Self::Float(_) => {}
            Self::Vid(vid) => visit(SlotMut::Value(vid)),
        }
    }
}

impl FieldType for VidOrTid {
    const KIND: FieldKind = FieldKind::VidOrTid;
    fn to_field(&self) -> Field {
        Field::VidOrTid(*self)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::VidOrTid(value) => Ok(*value),
            Field::Vid(vid) => Ok(Self::Vid(*vid)),
            Field::Tid(tid) => Ok(Self::Tid(*tid)),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        match self {
            Self::Vid(vid) => visit(Slot::Value(*vid)),
            Self::Tid(tid) => visit(Slot::Tensor(*tid)),
        }
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        match self {
            Self::Vid(vid) => visit(SlotMut::Value(vid)),
            Self::Tid(tid) => visit(SlotMut::Tensor(tid)),
        }
    }
}

impl FieldType for IntOrVidOrTid {
    const KIND: FieldKind = FieldKind::IntOrVidOrTid;
    fn to_field(&self) -> Field {
        Field::IntOrVidOrTid(*self)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::IntOrVidOrTid(value) => Ok(*value),
            Field::Int(value) | Field::IntOrVid(IntOrVid::Int(value)) => Ok(Self::Int(*value)),
            Field::Vid(vid) | Field::IntOrVid(IntOrVid::Vid(vid)) => Ok(Self::Vid(*vid)),
            Field::Tid(tid) => Ok(Self::Tid(*tid)),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        match self {
            Self::Int(_) => {}
            Self::Vid(vid) => visit(Slot::Value(*vid)),
            Self::Tid(tid) => visit(Slot::Tensor(*tid)),
        }
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        match self {
            Self::Int(_) => {}
            Self::Vid(vid) => visit(SlotMut::Value(vid)),
            Self::Tid(tid) => visit(SlotMut::Tensor(tid)),
        }
    }
}

/// Types without slots: kind, variant, and how the variant's content becomes the type.
macro_rules! plain_fields {
    ($($ty:ty, $kind:ident: $variant:ident($out:ident) => $to:expr, { $($from:pat => $value:expr),+ $(,)? };)+) => {$(
        impl FieldType for $ty {
            const KIND: FieldKind = FieldKind::$kind;
            fn to_field(&self) -> Field {
                let $out = self;
                Field::$variant($to)
            }
            fn from_field(field: &Field) -> Result<Self, FieldProblem> {
                match field {
                    $($from => $value,)+
                    _ => Err(FieldProblem::WrongKind),
                }
            }
        }
    )+};
}

fn int<T: TryFrom<i64>>(value: i64) -> Result<T, FieldProblem> {
    T::try_from(value).map_err(|_| FieldProblem::OutOfRange)
}

fn ints<T: TryFrom<i64>>(values: &[i64]) -> Result<Vec<T>, FieldProblem> {
    values.iter().map(|value| int(*value)).collect()
}

/// The nearest single precision number; a finite one must stay finite.
fn single(value: f64) -> Result<f32, FieldProblem> {
    let rounded = value as f32;
    if rounded.is_infinite() && value.is_finite() {
        Err(FieldProblem::OutOfRange)
    } else {
        Ok(rounded)
    }
}

plain_fields! {
    i32, I32: Int(v) => i64::from(*v), { Field::Int(v) | Field::IntOrVid(IntOrVid::Int(v)) => int(*v) };
    u32, U32: Int(v) => i64::from(*v), { Field::Int(v) | Field::IntOrVid(IntOrVid::Int(v)) => int(*v) };
    u64, U64: Int(v) => i64::try_from(*v).unwrap_or(i64::MAX), { Field::Int(v) => int(*v) };
    Vec<i8>, I8s: Ints(v) => v.iter().map(|v| i64::from(*v)).collect(), { Field::Ints(v) => ints(v) };
    Vec<i32>, I32s: Ints(v) => v.iter().map(|v| i64::from(*v)).collect(), { Field::Ints(v) => ints(v) };
    f32, F32: F32(v) => *v, { Field::F32(v) => Ok(*v), Field::F64(v) => single(*v) };
    bool, Bool: Bool(v) => *v, { Field::Bool(v) => Ok(*v) };
    String, Str: Str(v) => v.clone(), { Field::Str(v) => Ok(v.clone()) };
    Vec<String>, Strs: Strs(v) => v.clone(), { Field::Strs(v) => Ok(v.clone()) };
    ScalarType, DType: DType(v) => *v, { Field::DType(v) => Ok(*v) };
    Vec<ScalarType>, DTypes: DTypes(v) => v.clone(), { Field::DTypes(v) => Ok(v.clone()) };
}

impl<T: FieldType> FieldType for Option<T> {
    const KIND: FieldKind = T::KIND;
    fn to_field(&self) -> Field {
        self.as_ref().map_or(Field::None, T::to_field)
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::None => Ok(None),
            _ => T::from_field(field).map(Some),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        if let Some(content) = self {
            content.visit_slots(visit);
        }
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        if let Some(content) = self {
            content.visit_slots_mut(visit);
        }
    }
}

impl FieldType for Vec<Tid> {
    const KIND: FieldKind = FieldKind::Tids;
    fn to_field(&self) -> Field {
        Field::Tids(self.clone())
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::Tids(tids) => Ok(tids.clone()),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        self.iter().for_each(|tid| tid.visit_slots(visit));
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        self.iter_mut().for_each(|tid| tid.visit_slots_mut(visit));
    }
}

impl FieldType for Vec<IntOrVid> {
    const KIND: FieldKind = FieldKind::IntOrVids;
    fn to_field(&self) -> Field {
        Field::IntOrVids(self.clone())
    }
    fn from_field(field: &Field) -> Result<Self, FieldProblem> {
        match field {
            Field::IntOrVids(values) => Ok(values.clone()),
            Field::Ints(values) => Ok(values.iter().map(|value| IntOrVid::Int(*value)).collect()),
            _ => Err(FieldProblem::WrongKind),
        }
    }
    fn visit_slots(&self, visit: &mut dyn FnMut(Slot)) {
        self.iter().for_each(|value| value.visit_slots(visit));
    }
    fn visit_slots_mut(&mut self, visit: &mut dyn FnMut(SlotMut<'_>)) {
        self.iter_mut()
            .for_each(|value| value.visit_slots_mut(visit));
    }
}

macro_rules! field_from {
    ($($variant:ident: $ty:ty;)+) => {$(
        impl From<$ty> for Field {
            fn from(content: $ty) -> Self {
                Field::$variant(content)
            }
        }
    )+};
}

field_from! {
    Tid: Tid;
    Vid: Vid;
    Tids: Vec<Tid>;
    Int: i64;
    Ints: Vec<i64>;
    IntOrVid: IntOrVid;
    IntOrVids: Vec<IntOrVid>;
    FloatOrVid: FloatOrVid;
    VidOrTid: VidOrTid;
    IntOrVidOrTid: IntOrVidOrTid;
    F32: f32;
    F64: f64;
    Bool: bool;
    Str: String;
    Strs: Vec<String>;
    DType: ScalarType;
    DTypes: Vec<ScalarType>;
}

impl From<&str> for Field {
    fn from(content: &str) -> Self {
        Field::Str(content.to_owned())
    }
}

impl<T: Into<Field>> From<Option<T>> for Field {
    fn from(content: Option<T>) -> Self {
        content.map_or(Field::None, Into::into)
    }
}
