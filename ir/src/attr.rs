//! Attributes of ops: the literals that the text form writes between brackets, and their conversion to and from Rust types.

use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::region::Region;
use crate::types::{TensorType, Type};
use std::fmt;
use std::sync::Arc;

/// A double that can be compared, sorted and hashed: by its bits, so NaN equals itself and −0 differs from +0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct F64(u64);

impl F64 {
    /// Wraps a number.
    pub fn new(x: f64) -> F64 {
        F64(x.to_bits())
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl fmt::Debug for F64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

/// Prints so that it reads back to the same bits (NaN payloads excepted) and never looks like an integer.
impl fmt::Display for F64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = self.get();
        if x.is_nan() {
            f.write_str("nan")
        } else if x.is_infinite() {
            f.write_str(if x < 0.0 { "-inf" } else { "inf" })
        } else {
            write!(f, "{x:?}")
        }
    }
}

/// One number of any dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scalar {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(F64),
}

impl Scalar {
    /// A floating-point scalar.
    pub fn float(x: f64) -> Scalar {
        Scalar::Float(F64::new(x))
    }

    /// The number as a double.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Bool(b) => f64::from(u8::from(b)),
            Scalar::Int(i) => i as f64,
            Scalar::Float(x) => x.get(),
        }
    }

    /// The scalar as a tensor of `dtype` holds it: rounded or wrapped, and of the matching variant.
    pub fn cast(self, dtype: DType) -> Scalar {
        if dtype.is_float() {
            return Scalar::float(dtype.round(self.as_f64()));
        }
        let int = match self {
            Scalar::Bool(b) => i64::from(b),
            Scalar::Int(i) => i,
            Scalar::Float(x) if dtype == DType::Bool => i64::from(x.get() != 0.0),
            Scalar::Float(x) => x.get() as i64,
        };
        if dtype == DType::Bool {
            Scalar::Bool(int != 0)
        } else {
            Scalar::Int(dtype.wrap(int))
        }
    }
}

/// An attribute value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attr {
    /// An absent optional attribute, `none`.
    None,
    /// `true` or `false`.
    Bool(bool),
    /// An integer or an expression over symbols.
    Int(Dim),
    /// A number written with a point, an exponent, or as `inf`, `-inf`, `nan`.
    Float(F64),
    /// A quoted string.
    Str(Arc<str>),
    /// A dtype's name.
    DType(DType),
    /// `[a, b, …]`.
    List(Vec<Attr>),
    /// A type, such as `f32[2, s0]` or `int(s0)`.
    Type(Type),
    /// Argument n of the op, `$n`, in an attribute that places arguments among literals.
    Arg(usize),
    /// A graph inside the op, `graph "name" { … }`.
    Region(Region),
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attr::None => f.write_str("none"),
            Attr::Bool(b) => write!(f, "{b}"),
            Attr::Int(d) => d.fmt(f),
            Attr::Float(x) => x.fmt(f),
            Attr::Str(s) => quote(s, f),
            Attr::DType(d) => d.fmt(f),
            Attr::Type(t) => t.fmt(f),
            Attr::Arg(n) => write!(f, "${n}"),
            Attr::Region(region) => region.fmt(f),
            Attr::List(items) => {
                f.write_str("[")?;
                for (i, a) in items.iter().enumerate() {
                    write!(f, "{}{a}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Writes `s` quoted, with `"`, `\` and control characters escaped as the text form reads them.
pub(crate) fn quote(s: &str, f: &mut dyn fmt::Write) -> fmt::Result {
    f.write_char('"')?;
    for c in s.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// A Rust type that an op's attribute can have.
pub trait AttrType: Sized {
    /// What a value of the type is called in an error.
    const KIND: &'static str;
    /// The attribute that holds the value.
    fn to_attr(&self) -> Attr;
    /// The value that the attribute holds, where it is of this type.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! attr_type {
    ($ty:ty, $kind:literal, |$v:ident| $to:expr, |$a:ident| $from:expr) => {
        impl AttrType for $ty {
            const KIND: &'static str = $kind;
            fn to_attr(&self) -> Attr {
                let $v = self;
                $to
            }
            fn from_attr($a: &Attr) -> Option<Self> {
                $from
            }
        }
    };
}

attr_type!(bool, "a truth value", |v| Attr::Bool(*v), |a| match a {
    Attr::Bool(b) => Some(*b),
    _ => None,
});
attr_type!(
    i64,
    "an integer",
    |v| Attr::Int(Dim::from(*v)),
    |a| match a {
        Attr::Int(d) => d.as_const(),
        _ => None,
    }
);
attr_type!(
    usize,
    "a non-negative integer",
    |v| Attr::Int(Dim::from(*v)),
    |a| match a {
        Attr::Int(d) => d.as_const().and_then(|n| usize::try_from(n).ok()),
        _ => None,
    }
);
attr_type!(
    Dim,
    "an integer expression",
    |v| Attr::Int(v.clone()),
    |a| match a {
        Attr::Int(d) => Some(d.clone()),
        _ => None,
    }
);
attr_type!(
    F64,
    "a floating-point number",
    |v| Attr::Float(*v),
    |a| match a {
        Attr::Float(x) => Some(*x),
        _ => None,
    }
);
attr_type!(Attr, "a literal", |v| v.clone(), |a| Some(a.clone()));
attr_type!(
    Region,
    "a graph",
    |v| Attr::Region(v.clone()),
    |a| match a {
        Attr::Region(r) => Some(r.clone()),
        _ => None,
    }
);
attr_type!(Symbol, "a string", |v| Attr::Str(v.clone()), |a| match a {
    Attr::Str(s) => Some(s.clone()),
    _ => None,
});
attr_type!(DType, "a dtype", |v| Attr::DType(*v), |a| match a {
    Attr::DType(d) => Some(*d),
    _ => None,
});
attr_type!(Type, "a type", |v| Attr::Type(v.clone()), |a| match a {
    Attr::Type(t) => Some(t.clone()),
    _ => None,
});
attr_type!(
    TensorType,
    "a tensor type",
    |v| Attr::Type(Type::Tensor(v.clone())),
    |a| match a {
        Attr::Type(Type::Tensor(t)) => Some(t.clone()),
        _ => None,
    }
);
attr_type!(
    Scalar,
    "a number",
    |v| match v {
        Scalar::Bool(b) => Attr::Bool(*b),
        Scalar::Int(i) => Attr::Int(Dim::from(*i)),
        Scalar::Float(x) => Attr::Float(*x),
    },
    |a| match a {
        Attr::Bool(b) => Some(Scalar::Bool(*b)),
        Attr::Int(d) => d.as_const().map(Scalar::Int),
        Attr::Float(x) => Some(Scalar::Float(*x)),
        _ => None,
    }
);

impl<T: AttrType> AttrType for Vec<T> {
    const KIND: &'static str = "a list";
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().map(T::to_attr).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::List(items) => items.iter().map(T::from_attr).collect(),
            _ => None,
        }
    }
}

impl<T: AttrType> AttrType for Option<T> {
    const KIND: &'static str = T::KIND;
    fn to_attr(&self) -> Attr {
        self.as_ref().map_or(Attr::None, T::to_attr)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::None => Some(None),
            other => T::from_attr(other).map(Some),
        }
    }
}

/// The attribute with each symbol for which `f` gives a dim replaced by it.
pub fn substitute(attr: &Attr, f: &dyn Fn(&Symbol) -> Option<Dim>) -> Attr {
    match attr {
        Attr::Int(d) => Attr::Int(d.substitute(f)),
        Attr::Type(t) => Attr::Type(t.substitute(f)),
        Attr::List(items) => Attr::List(items.iter().map(|a| substitute(a, f)).collect()),
        other => other.clone(),
    }
}

/// Calls `f` with each symbol that occurs in an attribute.
pub fn visit_symbols(attr: &Attr, f: &mut dyn FnMut(&Symbol)) {
    match attr {
        Attr::Int(d) => d.visit_symbols(f),
        Attr::Type(t) => t.visit_symbols(f),
        Attr::List(items) => items.iter().for_each(|a| visit_symbols(a, f)),
        _ => {}
    }
}
