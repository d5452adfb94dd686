//! Element types, by the numbers that both formats use.

use std::fmt;

macro_rules! scalar_types {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $text:literal, $size:literal;)+) => {
        /// The type of a tensor's elements. The numbers are those of PyTorch's core (`c10::ScalarType`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i8)]
        pub enum ScalarType {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl ScalarType {
            /// Every element type, in the order of the numbers.
            pub const ALL: &[ScalarType] = &[$(ScalarType::$name),+];

            /// The type with this number, if there is one.
            #[must_use]
            pub fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Bytes of one element.
            #[must_use]
            pub fn size(self) -> u64 {
                match self {
                    $(Self::$name => $size,)+
                }
            }

            /// A short name: `f32`, `bf16`, `i64`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// The type with this short name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

scalar_types! {
    /// Unsigned, 8 bits.
    U8 = 0, "u8", 1;
    /// Signed, 8 bits.
    I8 = 1, "i8", 1;
    /// Signed, 16 bits.
    I16 = 2, "i16", 2;
    /// Signed, 32 bits.
    I32 = 3, "i32", 4;
    /// Signed, 64 bits.
    I64 = 4, "i64", 8;
    /// IEEE half precision.
    F16 = 5, "f16", 2;
    /// IEEE single precision.
    F32 = 6, "f32", 4;
    /// IEEE double precision.
    F64 = 7, "f64", 8;
    /// A pair of single precision numbers.
    C64 = 9, "c64", 8;
    /// A truth value, one byte.
    Bool = 11, "bool", 1;
    /// The upper half of a single precision number.
    BF16 = 15, "bf16", 2;
    /// 8 bits: 5 of exponent, 2 of fraction.
    F8E5M2 = 23, "f8e5m2", 1;
    /// 8 bits: 4 of exponent, 3 of fraction, no infinities.
    F8E4M3 = 24, "f8e4m3", 1;
    /// Unsigned, 16 bits.
    U16 = 27, "u16", 2;
    /// Unsigned, 32 bits.
    U32 = 28, "u32", 4;
    /// Unsigned, 64 bits.
    U64 = 29, "u64", 8;
}

impl ScalarType {
    /// The number of this type in both formats.
    #[must_use]
    pub fn code(self) -> i8 {
        self as i8
    }

    /// Whether MLX has arrays of this type.
    #[must_use]
    pub fn is_mlx(self) -> bool {
        !matches!(self, Self::F8E5M2 | Self::F8E4M3)
    }
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
