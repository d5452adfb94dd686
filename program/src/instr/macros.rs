//! The macro that turns the rows of the table into types.

/// See [`super::table`] for the form of a row.
macro_rules! instructions {
    ($(
        $(#[doc = $doc:literal])+
        $number:literal $name:ident : $node:ident $args:ident {
            $($role:ident $field:ident : $ty:ty $(= $default:expr)?),* $(,)?
        }
    )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                $(#[doc = role_doc!($role)] pub $field: $ty,)*
            }

            impl From<$name> for Instruction {
                fn from(instruction: $name) -> Self {
                    Self::$name(instruction)
                }
            }
        )+

        /// One instruction. All variants hold a struct of the same name.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(clippy::large_enum_variant, reason = "the large one is rare, and boxing it would make it unlike the others")]
        pub enum Instruction {
            $($(#[doc = $doc])+ $name($name),)+
        }

        static TABLE: &[InstrInfo] = &[$(
            InstrInfo {
                name: stringify!($name),
                number: $number,
                node: stringify!($node),
                doc: concat!($($doc, "\n"),+),
                fields: &[$(
                    FieldInfo {
                        name: stringify!($field),
                        role: role!($role),
                        kind: <$ty as FieldType>::KIND,
                        default: instructions!(@default $ty $(, $default)?),
                    },
                )*],
            },
        )+];

        /// All instructions, in the order of their numbers.
        #[must_use]
        pub fn instruction_table() -> &'static [InstrInfo] {
            TABLE
        }

        impl Instruction {
            /// The row of this instruction.
            #[must_use]
            pub fn info(&self) -> &'static InstrInfo {
                let number: usize = match self {
                    $(Self::$name(_) => $number,)+
                };
                &TABLE[number - 1]
            }

            /// The fields with what is in them, in the order of the row.
            #[must_use]
            pub fn fields(&self) -> Vec<(&'static FieldInfo, Field)> {
                let values = match self {
                    $(Self::$name(_i) => vec![$(_i.$field.to_field()),*],)+
                };
                self.info().fields.iter().zip(values).collect()
            }

            /// Visits the slots of the fields that `of` selects, in the order of the fields.
            pub(super) fn visit_slots(&self, of: impl Fn(Role) -> bool, mut visit: impl FnMut(Slot)) {
                match self {
                    $(Self::$name(_i) => {
                        $(if of(role!($role)) { _i.$field.visit_slots(&mut visit); })*
                    })+
                }
            }

            pub(super) fn visit_slots_mut(&mut self, of: impl Fn(Role) -> bool, mut visit: impl FnMut(SlotMut<'_>)) {
                match self {
                    $(Self::$name(_i) => {
                        $(if of(role!($role)) { _i.$field.visit_slots_mut(&mut visit); })*
                    })+
                }
            }

            pub(super) fn assemble(fields: &mut GivenFields<'_, '_>) -> Result<Self, BuildError> {
                match fields.info.number {
                    $($number => Ok(Self::$name($name {
                        $($field: fields.take(stringify!($field))?,)*
                    })),)+
                    _ => Err(BuildError::UnknownInstruction { name: fields.info.name.to_owned() }),
                }
            }

            /// Writes the node; the number for the union's tag comes with it.
            pub(crate) fn pack(
                &self,
                fbb: &mut flatbuffers::FlatBufferBuilder<'_>,
            ) -> (u8, flatbuffers::WIPOffset<flatbuffers::UnionWIPOffset>) {
                match self {
                    $(Self::$name(_i) => {
                        $(let $field = _i.$field.pack(fbb);)*
                        let args = wire::$args { $($field: <$ty as Pack>::arg(&$field),)* };
                        ($number, wire::$node::create(fbb, &args).as_union_value())
                    })+
                }
            }

            /// Reads a node out of a verified buffer.
            pub(crate) fn unpack(instruction: wire::Instruction<'_>) -> Result<Self, super::UnpackError> {
                known_fields!(instruction, Instruction, VT_OP)?;
                match instruction.op_type().0 {
                    $($number => {
                        // SAFETY: the verifier has checked that the table is of the type that its tag, matched here, says. Behind other tags it checks nothing, not even
                        // that there is a table.
                        let _node = unsafe { wire::$node::init_from_table(instruction.op()) };
                        fields(_node._tab, stringify!($node), TABLE[$number - 1].fields.len())?;
                        Ok(Self::$name($name { $($field: Unpack::unpack(_node.$field(), stringify!($field))?,)* }))
                    })+
                    number => Err(super::UnpackError::UnknownNode {
                        number,
                        known: TABLE.len(),
                    }),
                }
            }
        }
    };
    (@default $ty:ty) => { None };
    (@default $ty:ty, $default:expr) => {
        Some(|| {
            let value: $ty = $default;
            value.to_field()
        })
    };
}

macro_rules! role {
    (read) => {
        Role::Read
    };
    (write) => {
        Role::Write
    };
    (update) => {
        Role::Update
    };
    (attr) => {
        Role::Attr
    };
}

macro_rules! role_doc {
    (read) => {
        "Read."
    };
    (write) => {
        "Written."
    };
    (update) => {
        "Read and written."
    };
    (attr) => {
        "Fixed when the program is made."
    };
}

pub(super) use {instructions, role, role_doc};
