//! Fields to and from the generated types.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};

use super::{FloatOrVid, IntOrVid, IntOrVidOrTid, Tid, Vid, VidOrTid};
use crate::dtype::ScalarType;
use crate::generated::mlx as wire;
use crate::newer::{SCHEMAS, UnknownField, known_fields};

/// Why a node that FlatBuffers accepts is still no instruction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The union's tag is not one of the table's numbers.
    #[error("no instruction has the number {number}: as of {SCHEMAS} there are {known}")]
    UnknownNode {
        /// The tag.
        number: u8,
        /// How many are known, numbered from 1.
        known: usize,
    },
    /// A table with fields of a newer schema.
    #[error(transparent)]
    UnknownField(#[from] UnknownField),
    /// A number that stands for no element type.
    #[error("`{field}`: {code} is no element type")]
    UnknownDType {
        /// The field.
        field: &'static str,
        /// The number.
        code: i8,
    },
    /// A selector that selects nothing.
    #[error("`{field}`: {selector} does not say what the operand is")]
    UnknownSelector {
        /// The field.
        field: &'static str,
        /// The selector.
        selector: u8,
    },
    /// The selector says slot, but there is no slot.
    #[error("`{field}`: the slot is missing")]
    MissingSlot {
        /// The field.
        field: &'static str,
    },
}

/// What the generated `create` takes for a field of this type.
pub(super) trait Pack {
    /// The form that is written before the node itself.
    type Packed;
    /// The form that the node's arguments want.
    type Arg<'p>
    where
        Self::Packed: 'p;

    fn pack(&self, fbb: &mut FlatBufferBuilder<'_>) -> Self::Packed;
    fn arg(packed: &Self::Packed) -> Self::Arg<'_>;
}

/// How a field of this type is made from what the generated accessor returns.
pub(super) trait Unpack<W>: Sized {
    fn unpack(wire: W, field: &'static str) -> Result<Self, UnpackError>;
}

/// A value slot that the wire may leave out although it is needed.
fn unpack_slot<T>(slot: Option<T>, field: &'static str) -> Result<T, UnpackError> {
    slot.ok_or(UnpackError::MissingSlot { field })
}

/// Numbers, on the wire as they are.
macro_rules! scalars {
    ($($ty:ty),+) => {$(
        impl Pack for $ty {
            type Packed = $ty;
            type Arg<'p> = $ty;
            fn pack(&self, _fbb: &mut FlatBufferBuilder<'_>) -> $ty {
                *self
            }
            fn arg(packed: &$ty) -> $ty {
                *packed
            }
        }
        impl Unpack<$ty> for $ty {
            fn unpack(wire: $ty, _field: &'static str) -> Result<Self, UnpackError> {
                Ok(wire)
            }
        }
    )+};
}

scalars!(i32, u32, u64, f32, bool, Option<i32>, Option<f32>);

/// Slots: structs on the wire.
macro_rules! slots {
    ($($ty:ident),+) => {$(
        impl Pack for $ty {
            type Packed = wire::$ty;
            type Arg<'p> = Option<&'p wire::$ty>;
            fn pack(&self, _fbb: &mut FlatBufferBuilder<'_>) -> wire::$ty {
                wire::$ty::new(self.0)
            }
            fn arg(packed: &wire::$ty) -> Option<&wire::$ty> {
                Some(packed)
            }
        }
        impl Pack for Option<$ty> {
            type Packed = Option<wire::$ty>;
            type Arg<'p> = Option<&'p wire::$ty>;
            fn pack(&self, _fbb: &mut FlatBufferBuilder<'_>) -> Option<wire::$ty> {
                self.map(|slot| wire::$ty::new(slot.0))
            }
            fn arg(packed: &Option<wire::$ty>) -> Option<&wire::$ty> {
                packed.as_ref()
            }
        }
        impl Unpack<&wire::$ty> for $ty {
            fn unpack(wire: &wire::$ty, _field: &'static str) -> Result<Self, UnpackError> {
                Ok($ty(wire.idx()))
            }
        }
        impl Unpack<Option<&wire::$ty>> for Option<$ty> {
            fn unpack(wire: Option<&wire::$ty>, _field: &'static str) -> Result<Self, UnpackError> {
                Ok(wire.map(|slot| $ty(slot.idx())))
            }
        }
    )+};
}

slots!(Tid, Vid);

impl Pack for ScalarType {
    type Packed = i8;
    type Arg<'p> = i8;
    fn pack(&self, _fbb: &mut FlatBufferBuilder<'_>) -> i8 {
        self.code()
    }
    fn arg(packed: &i8) -> i8 {
        *packed
    }
}

impl Pack for Option<ScalarType> {
    type Packed = Option<i8>;
    type Arg<'p> = Option<i8>;
    fn pack(&self, _fbb: &mut FlatBufferBuilder<'_>) -> Option<i8> {
        self.map(ScalarType::code)
    }
    fn arg(packed: &Option<i8>) -> Option<i8> {
        *packed
    }
}

impl Unpack<i8> for ScalarType {
    fn unpack(code: i8, field: &'static str) -> Result<Self, UnpackError> {
        ScalarType::from_code(code).ok_or(UnpackError::UnknownDType { field, code })
    }
}

impl Unpack<Option<i8>> for Option<ScalarType> {
    fn unpack(wire: Option<i8>, field: &'static str) -> Result<Self, UnpackError> {
        wire.map(|code| ScalarType::unpack(code, field)).transpose()
    }
}

impl Unpack<wire::IntOrVid<'_>> for IntOrVid {
    fn unpack(wire: wire::IntOrVid<'_>, field: &'static str) -> Result<Self, UnpackError> {
        known_fields!(wire, IntOrVid, VT_IS_VID)?;
        if wire.is_vid() {
            Ok(Self::Vid(Vid(unpack_slot(wire.vid(), field)?.idx())))
        } else {
            Ok(Self::Int(wire.literal()))
        }
    }
}

impl Unpack<wire::FloatOrVid<'_>> for FloatOrVid {
    fn unpack(wire: wire::FloatOrVid<'_>, field: &'static str) -> Result<Self, UnpackError> {
        known_fields!(wire, FloatOrVid, VT_IS_VID)?;
        if wire.is_vid() {
            Ok(Self::Vid(Vid(unpack_slot(wire.vid(), field)?.idx())))
        } else {
            Ok(Self::Float(wire.literal()))
        }
    }
}

impl Unpack<wire::VidOrTid<'_>> for VidOrTid {
    fn unpack(wire: wire::VidOrTid<'_>, field: &'static str) -> Result<Self, UnpackError> {
        known_fields!(wire, VidOrTid, VT_IS_VID)?;
        if wire.is_vid() {
            Ok(Self::Vid(Vid(unpack_slot(wire.vid(), field)?.idx())))
        } else {
            Ok(Self::Tid(Tid(unpack_slot(wire.tid(), field)?.idx())))
        }
    }
}

impl Unpack<wire::IntOrVidOrTid<'_>> for IntOrVidOrTid {
    fn unpack(wire: wire::IntOrVidOrTid<'_>, field: &'static str) -> Result<Self, UnpackError> {
        known_fields!(wire, IntOrVidOrTid, VT_KIND)?;
        match wire.kind() {
            0 => Ok(Self::Int(wire.literal())),
            1 => Ok(Self::Vid(Vid(unpack_slot(wire.vid(), field)?.idx()))),
            2 => Ok(Self::Tid(Tid(unpack_slot(wire.tid(), field)?.idx()))),
            selector => Err(UnpackError::UnknownSelector { field, selector }),
        }
    }
}

/// Types that are written before the node, which then holds their offset.
macro_rules! by_offset {
    ($($ty:ty as $wire:ty: |$value:ident, $fbb:ident| $write:expr;)+) => {$(
        impl Pack for $ty {
            type Packed = WIPOffset<()>;
            type Arg<'p> = Option<WIPOffset<$wire>>;
            fn pack(&self, $fbb: &mut FlatBufferBuilder<'_>) -> WIPOffset<()> {
                let $value = self;
                WIPOffset::new($write.value())
            }
            fn arg(packed: &WIPOffset<()>) -> Self::Arg<'_> {
                Some(WIPOffset::new(packed.value()))
            }
        }
        impl Pack for Option<$ty> {
            type Packed = Option<WIPOffset<()>>;
            type Arg<'p> = Option<WIPOffset<$wire>>;
            fn pack(&self, fbb: &mut FlatBufferBuilder<'_>) -> Option<WIPOffset<()>> {
                self.as_ref().map(|value| value.pack(fbb))
            }
            fn arg(packed: &Option<WIPOffset<()>>) -> Self::Arg<'_> {
                packed.map(|offset| WIPOffset::new(offset.value()))
            }
        }
    )+};
}

by_offset! {
    IntOrVid as wire::IntOrVid<'p>: |value, fbb| {
        let (literal, vid) = match value {
            IntOrVid::Int(literal) => (*literal, None),
            IntOrVid::Vid(vid) => (0, Some(wire::Vid::new(vid.0))),
        };
        wire::IntOrVid::create(fbb, &wire::IntOrVidArgs { literal, vid: vid.as_ref(), is_vid: vid.is_some() })
    };
    FloatOrVid as wire::FloatOrVid<'p>: |value, fbb| {
        let (literal, vid) = match value {
            FloatOrVid::Float(literal) => (*literal, None),
            FloatOrVid::Vid(vid) => (0.0, Some(wire::Vid::new(vid.0))),
        };
        wire::FloatOrVid::create(fbb, &wire::FloatOrVidArgs { literal, vid: vid.as_ref(), is_vid: vid.is_some() })
    };
    VidOrTid as wire::VidOrTid<'p>: |value, fbb| {
        let (vid, tid) = match value {
            VidOrTid::Vid(vid) => (Some(wire::Vid::new(vid.0)), None),
            VidOrTid::Tid(tid) => (None, Some(wire::Tid::new(tid.0))),
        };
        let args = wire::VidOrTidArgs { vid: vid.as_ref(), tid: tid.as_ref(), is_vid: vid.is_some() };
        wire::VidOrTid::create(fbb, &args)
    };
    IntOrVidOrTid as wire::IntOrVidOrTid<'p>: |value, fbb| {
        let (literal, vid, tid, kind) = match value {
            IntOrVidOrTid::Int(literal) => (*literal, None, None, 0),
            IntOrVidOrTid::Vid(vid) => (0, Some(wire::Vid::new(vid.0)), None, 1),
            IntOrVidOrTid::Tid(tid) => (0, None, Some(wire::Tid::new(tid.0)), 2),
        };
        let args = wire::IntOrVidOrTidArgs { literal, vid: vid.as_ref(), tid: tid.as_ref(), kind };
        wire::IntOrVidOrTid::create(fbb, &args)
    };
    String as &'p str: |value, fbb| fbb.create_string(value);
    Vec<Tid> as Vector<'p, wire::Tid>: |value, fbb| {
        let slots: Vec<_> = value.iter().map(|tid| wire::Tid::new(tid.0)).collect();
        fbb.create_vector(&slots)
    };
    Vec<i8> as Vector<'p, i8>: |value, fbb| fbb.create_vector(value);
    Vec<i32> as Vector<'p, i32>: |value, fbb| fbb.create_vector(value);
    Vec<ScalarType> as Vector<'p, i8>: |value, fbb| {
        let codes: Vec<i8> = value.iter().map(|dtype| dtype.code()).collect();
        fbb.create_vector(&codes)
    };
    Vec<String> as Vector<'p, ForwardsUOffset<&'p str>>: |value, fbb| {
        let offsets: Vec<_> = value.iter().map(|text| fbb.create_string(text)).collect();
        fbb.create_vector(&offsets)
    };
    Vec<IntOrVid> as Vector<'p, ForwardsUOffset<wire::IntOrVid<'p>>>: |value, fbb| {
        let offsets: Vec<WIPOffset<wire::IntOrVid<'_>>> =
            value.iter().map(|item| WIPOffset::new(item.pack(fbb).value())).collect();
        fbb.create_vector(&offsets)
    };
}

impl Unpack<&str> for String {
    fn unpack(wire: &str, _field: &'static str) -> Result<Self, UnpackError> {
        Ok(wire.to_owned())
    }
}

impl Unpack<Option<&str>> for Option<String> {
    fn unpack(wire: Option<&str>, _field: &'static str) -> Result<Self, UnpackError> {
        Ok(wire.map(str::to_owned))
    }
}

impl Unpack<Option<wire::IntOrVid<'_>>> for Option<IntOrVid> {
    fn unpack(wire: Option<wire::IntOrVid<'_>>, field: &'static str) -> Result<Self, UnpackError> {
        wire.map(|value| IntOrVid::unpack(value, field)).transpose()
    }
}

/// Vectors: required ones come as they are, the others as options, and an absent one is an empty one.
macro_rules! vectors {
    ($($ty:ty, $wire:ty: |$item:ident, $field:ident| $unpack:expr;)+) => {$(
        impl<'a> Unpack<Vector<'a, $wire>> for Vec<$ty> {
            fn unpack(wire: Vector<'a, $wire>, $field: &'static str) -> Result<Self, UnpackError> {
                wire.iter().map(|$item| $unpack).collect()
            }
        }
        impl<'a> Unpack<Option<Vector<'a, $wire>>> for Vec<$ty> {
            fn unpack(wire: Option<Vector<'a, $wire>>, field: &'static str) -> Result<Self, UnpackError> {
                wire.map_or_else(|| Ok(Vec::new()), |vector| Self::unpack(vector, field))
            }
        }
    )+};
}

vectors! {
    Tid, wire::Tid: |item, _field| Ok(Tid(item.idx()));
    i8, i8: |item, _field| Ok(item);
    i32, i32: |item, _field| Ok(item);
    ScalarType, i8: |item, field| ScalarType::unpack(item, field);
    String, ForwardsUOffset<&'a str>: |item, _field| Ok(item.to_owned());
    IntOrVid, ForwardsUOffset<wire::IntOrVid<'a>>: |item, field| IntOrVid::unpack(item, field);
}
