//! Sorts: what a variable of a rule may be. At once the rule's side condition, its documentation and the generator of its test data.
//!
//! Shapes are written as in `"L.. S D"`: letters are sizes, equal letters equal sizes; `L..` is any number of leading axes; `2*H` is an expression. A letter is tied down by
//! the first sort that mentions it. Symbolic sizes count as equal only where the algebra proves it.

use crate::closed_form::{HIDING, half_space};
use crate::egraph::EGraph;
use crate::matcher::{Bindings, Bound, Letter, letters_of};
use crate::rotary;
use crate::shapes::product;
use egg::Id;
use fuseline_ir::{Attr, DType, Dim, F64, Op, TensorType, Type};
use std::fmt;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    /// A float dtype, named by a letter.
    Float(&'static str),
    /// A float dtype no wider than `f32`, named by a letter.
    Single(&'static str),
    /// `f16` or `bf16`, named by a letter.
    Narrow(&'static str),
    /// A float dtype with the range of `f32` at least, named by a letter: where a factor or a term may be taken out of a sum or a product without leaving the range that it kept the rest in.
    /// Not `f16`, which ends at 65504.
    Roomy(&'static str),
    /// `f32`.
    F32,
    /// `bool`.
    Bool,
}

/// The lowest number that an `f16` holds.
const LOWEST_F16: f64 = -65504.0;

/// A set of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// Any number, NaN too: what is true of the rule is true for all of them.
    Any,
    /// Finite.
    Finite,
    /// Above zero and finite.
    Positive,
    /// From ½ to 1: what it multiplies gets no larger, and loses a bit at most where it is small.
    Share,
    /// From 20 to 80: e to that is large beside 1, and no overflow of `f32`.
    Threshold,
    /// So low that a score with it is as good as masked, −10³⁰ and below, but finite.
    HidingFinite,
    /// Lower than any `f16`, but finite: what hides a score in code that avoids −∞.
    LowFinite,
    /// As low as that, or −∞.
    Low,
    /// −∞.
    MinusInfinity,
    /// As low as either.
    Hiding,
}

impl Range {
    /// Whether the number is in the set.
    pub fn holds(self, x: f64) -> bool {
        match self {
            Range::Any => true,
            Range::Finite => x.is_finite(),
            Range::Positive => x.is_finite() && x > 0.0,
            Range::Share => (0.5..=1.0).contains(&x),
            Range::Threshold => (20.0..=80.0).contains(&x),
            Range::HidingFinite => x.is_finite() && x <= HIDING,
            Range::LowFinite => x.is_finite() && x < LOWEST_F16,
            Range::Low => x < LOWEST_F16,
            Range::MinusInfinity => x == f64::NEG_INFINITY,
            Range::Hiding => x <= HIDING,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Range::Any => "any",
            Range::Finite => "finite",
            Range::Positive => "> 0",
            Range::Share => "from ½ to 1",
            Range::Threshold => "from 20 to 80",
            Range::HidingFinite => "at most −1e30, finite",
            Range::LowFinite => "below −65504, finite",
            Range::Low => "below −65504",
            Range::MinusInfinity => "−∞",
            Range::Hiding => "at most −1e30",
        })
    }
}

/// How a quantised tensor stores its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Integers, with scales and biases.
    Affine,
    /// Small floats, with scales.
    Floats,
    /// Either.
    Any,
}

/// How column j of a rotary table chooses one of H frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Frequency j.
    Once,
    /// Frequency j mod H: the columns are there twice, one half after the other.
    Halves,
    /// Frequency ⌊j/2⌋: each column is there twice, side by side.
    Neighbours,
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Columns::Once => "j",
            Columns::Halves => "j mod H",
            Columns::Neighbours => "⌊j/2⌋",
        })
    }
}

/// What a variable, or a letter, of a rule may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sort {
    /// A tensor of that shape.
    Tensor(Elem, &'static str),
    /// As [`Sort::Tensor`], whose elements are taken to be finite: what the rule does with others is not promised.
    Tame(Elem, &'static str),
    /// As [`Sort::Tensor`], and known to have no element below 0: a square, a sum of squares, an exponential, and the like.
    NotNegative(Elem, &'static str),
    /// A tensor with as many elements as that shape has, in any shape.
    Elements(Elem, &'static str),
    /// A tensor of which all elements are one number that is known now.
    Number(&'static str, Range),
    /// A tensor of which all elements are one over that size, as the dtype holds it.
    Share(&'static str, &'static str),
    /// A tensor of which all elements are one over the root of that size: as the dtype holds it, or the reciprocal of the root as the dtype holds that.
    Root(&'static str, &'static str),
    /// A tensor with one axis of that size and others of size 1, maybe repeated along further axes.
    Vector(&'static str, &'static str),
    /// A tensor with that size along the third axis from the end, and others of size 1.
    Channels(&'static str, &'static str),
    /// A tensor that broadcasts to that shape without changing it.
    Spread(Elem, &'static str),
    /// As [`Sort::Spread`], and added to scores or choosing among them: with at least one key left in each row.
    Mask(Elem, &'static str),
    /// A mask that is true at query s and key n where n ≤ s + N − S, and nowhere else.
    Causal,
    /// The packed words of a quantised tensor of that shape, with the scales in `?s`, the biases (where there are any) in `?z` or `?z*`, and the attributes `group`, `bits` and `mode`
    /// in `$g`, `$b` and `$m`.
    Packed(Packing, &'static str),
    /// Integers of that shape that choose among as many things as the letter says.
    Index(&'static str, &'static str),
    /// A number in an attribute.
    Literal(Range),
    /// A shape with as many elements as the variable has.
    Shape(&'static str),
    /// The axes that the variable has, in some order.
    Order(&'static str),
    /// `true` or `false`, in an attribute.
    Flag,
    /// One integer: a size, a 0-d tensor or one of one element; or as [`Sort::Listed`].
    Positions(&'static str),
    /// Integers of as many axes as that shape has, two at least, that broadcast to it.
    Listed(&'static str),
    /// As [`Sort::Listed`], and they count up by one along its second to last axis and no other. Gives the first as `offset`.
    Counted(&'static str),
    /// Letter: the value of that expression over other letters.
    Equals(&'static str),
    /// Letter: the product of the sizes of that schema.
    Product(&'static str),
    /// Letter of `M..`: as many places as that schema has, over any number of axes.
    Regroups(&'static str),
    /// Letter: a wider float dtype that holds every value of the dtype of the other letter: `f32` or `f64`.
    Holds(&'static str),
    /// A table of cosines for the positions and frequencies of a rotary embedding with rows `L.. S`, with the table of sines in variable `sin`.
    /// Gives `offset` (that of the first row where rows count up by one, else the position of each row), `freqs` (periods), `$scale`, and the number `amplitude`, which is 1 where `plain`.
    RotaryCos {
        /// The variable with the sines.
        sin: &'static str,
        /// How the table's columns choose frequencies.
        columns: Columns,
        /// Whether the amplitude must be 1.
        plain: bool,
    },
    /// The table of sines that belongs to a [`Sort::RotaryCos`].
    RotarySin,
    /// Given by another sort.
    Given,
}

impl Sort {
    /// Whether the row is about a letter, not a variable.
    pub fn is_letter(self) -> bool {
        matches!(
            self,
            Sort::Equals(_) | Sort::Product(_) | Sort::Regroups(_) | Sort::Holds(_)
        )
    }

    /// Whether what `b` binds to `name` is of this sort. Ties down letters, and gives variables, on the way.
    pub fn holds(self, egraph: &EGraph, name: &Name<'_>, b: &mut Bindings) -> bool {
        self.check(egraph, name, b).is_some()
    }

    fn check(self, egraph: &EGraph, name: &Name<'_>, b: &mut Bindings) -> Option<()> {
        match self {
            Sort::Tensor(elem, shape) | Sort::Tame(elem, shape) => {
                let ty = tensor(egraph, class(name.slot?, b)?)?;
                elem.unify(ty.dtype, b)?;
                unify(shape, &ty.shape, b)
            }
            Sort::NotNegative(elem, shape) => {
                let id = class(name.slot?, b)?;
                let ty = tensor(egraph, id)?;
                elem.unify(ty.dtype, b)?;
                egraph[id].data.not_negative.then_some(())?;
                unify(shape, &ty.shape, b)
            }
            // The reshape that takes it has counted.
            Sort::Elements(elem, _) => elem.unify(tensor(egraph, class(name.slot?, b)?)?.dtype, b),
            Sort::Packed(_, schema) => {
                let words = tensor(egraph, class(name.slot?, b)?)?;
                let bits = match b.get(name.all.find("b")?)? {
                    Bound::Attr(Attr::Int(bits)) => bits.clone(),
                    _ => return None,
                };
                let mut shape = words.shape.clone();
                let last = shape.last_mut()?;
                *last = (&*last * &Dim::from(32i64)).exact_div(&bits)?;
                unify(schema, &shape, b)
            }
            Sort::Index(_, schema) => {
                let ty = tensor(egraph, class(name.slot?, b)?)?;
                ty.dtype.is_int().then_some(())?;
                unify(schema, &ty.shape, b)
            }
            Sort::Number(dtype, range) => {
                let id = class(name.slot?, b)?;
                let ty = tensor(egraph, id)?;
                Elem::Float(dtype).unify(ty.dtype, b)?;
                let x = egraph[id].data.scalar?.as_f64();
                range.holds(x).then_some(())
            }
            Sort::Share(dtype, size) => {
                let id = class(name.slot?, b)?;
                let ty = tensor(egraph, id)?;
                Elem::Float(dtype).unify(ty.dtype, b)?;
                let size = letters_of(size, b)?.as_const().filter(|n| *n > 0)?;
                let share = ty.dtype.round(1.0 / size as f64);
                (egraph[id].data.scalar?.as_f64() == share).then_some(())
            }
            Sort::Root(dtype, size) => {
                let id = class(name.slot?, b)?;
                let ty = tensor(egraph, id)?;
                Elem::Float(dtype).unify(ty.dtype, b)?;
                let size = letters_of(size, b)?.as_const().filter(|n| *n > 0)?;
                let root = (size as f64).sqrt();
                let scalar = egraph[id].data.scalar?.as_f64();
                let held = |x: f64| ty.dtype.round(x) == scalar;
                (held(1.0 / root) || held(1.0 / ty.dtype.round(root))).then_some(())
            }
            Sort::Vector(dtype, len) => {
                let id = class(name.slot?, b)?;
                Elem::Float(dtype).unify(tensor(egraph, id)?.dtype, b)?;
                let (vector, size) = vector_in(egraph, id)?;
                b.set(name.slot?, Bound::Class(vector));
                unify(len, std::slice::from_ref(&size), b)
            }
            Sort::Channels(dtype, len) => {
                let ty = tensor(egraph, class(name.slot?, b)?)?;
                Elem::Float(dtype).unify(ty.dtype, b)?;
                let axis = ty.rank().checked_sub(3)?;
                let ones = ty
                    .shape
                    .iter()
                    .enumerate()
                    .all(|(a, d)| a == axis || d.is(1));
                ones.then_some(())?;
                unify(len, &ty.shape[axis..=axis], b)
            }
            Sort::Spread(elem, over) | Sort::Mask(elem, over) => {
                let ty = tensor(egraph, class(name.slot?, b)?)?;
                elem.unify(ty.dtype, b)?;
                spreads(ty, &resolve(over, b)?)
            }
            Sort::Causal => causal(egraph, class(name.slot?, b)?, &resolve("S N", b)?),
            Sort::Literal(range) => match b.get(name.slot?)? {
                Bound::Attr(Attr::Float(x)) => range.holds(x.get()).then_some(()),
                _ => None,
            },
            Sort::Flag => match b.get(name.slot?)? {
                Bound::Attr(Attr::Bool(_)) => Some(()),
                _ => None,
            },
            Sort::Positions(over) => {
                let ty = match &egraph[class(name.slot?, b)?].data.ty {
                    Type::Int(_) => return Some(()),
                    ty => ty.as_tensor()?,
                };
                let one = ty.rank() <= 1 && ty.shape.iter().all(|d| d.is(1));
                if one && ty.dtype.is_int() {
                    return Some(());
                }
                listed(ty, &resolve(over, b)?)
            }
            Sort::Listed(over) => {
                listed(tensor(egraph, class(name.slot?, b)?)?, &resolve(over, b)?)
            }
            Sort::Equals(expr) => {
                let value = letters_of(expr, b)?;
                b.unify(name.text, Letter::Dim(value))
            }
            Sort::Product(schema) => {
                let value = product(&resolve(schema, b)?);
                b.unify(name.text, Letter::Dim(value))
            }
            Sort::Regroups(schema) => match b.letter(name.text)? {
                Letter::Dims(dims) => {
                    (product(dims) == product(&resolve(schema, b)?)).then_some(())
                }
                _ => None,
            },
            Sort::Holds(narrow) => match (b.letter(name.text)?, b.letter(narrow)?) {
                (Letter::DType(wide), Letter::DType(narrow)) => {
                    let f32_at_least = matches!(wide, DType::F32 | DType::F64);
                    (f32_at_least && wider(*narrow, *wide)).then_some(())
                }
                _ => None,
            },
            Sort::RotaryCos {
                sin,
                columns,
                plain,
            } => {
                let (cos, sin) = (class(name.slot?, b)?, class(name.all.find(sin)?, b)?);
                let rows = resolve("L.. S", b)?;
                let given = rotary::tables(egraph, (cos, sin), columns, &rows)?;
                let unscaled = given.amplitude.is_none();
                (unscaled == plain).then_some(())?;
                b.give(name.all, "offset", Bound::Made(given.offset))?;
                b.give(name.all, "freqs", Bound::Made(given.periods))?;
                let scale = Attr::Float(F64::new(given.scale));
                b.give(name.all, "scale", Bound::Attr(scale))?;
                given.amplitude.map_or(Some(()), |amplitude| {
                    b.give(name.all, "amplitude", Bound::Made(amplitude))
                })
            }
            Sort::Counted(schema) => {
                let id = class(name.slot?, b)?;
                let rows = resolve(schema, b)?;
                listed(tensor(egraph, id)?, &rows)?;
                let offset = rotary::counted(egraph, id, &rows)?;
                b.give(name.all, "offset", Bound::Made(offset))
            }
            // The op that the attribute stands at has checked it.
            Sort::Shape(_) | Sort::Order(_) | Sort::RotarySin | Sort::Given => Some(()),
        }
    }
}

/// A variable's name and slot; a letter has no slot.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// The name without `?` or `$`.
    pub text: &'a str,
    /// Its slot.
    pub slot: Option<usize>,
    /// The slots of all variables by name, for sorts that look at several.
    pub all: &'a crate::pattern::Names,
}

impl Elem {
    fn unify(self, dtype: DType, b: &mut Bindings) -> Option<()> {
        match self {
            Elem::Bool => (dtype == DType::Bool).then_some(()),
            Elem::F32 => (dtype == DType::F32).then_some(()),
            Elem::Float(letter) if dtype.is_float() => b.unify(letter, Letter::DType(dtype)),
            Elem::Single(letter) if dtype.is_float() && dtype != DType::F64 => {
                b.unify(letter, Letter::DType(dtype))
            }
            Elem::Narrow(letter) if matches!(dtype, DType::F16 | DType::BF16) => {
                b.unify(letter, Letter::DType(dtype))
            }
            Elem::Roomy(letter) if dtype.is_float() && dtype != DType::F16 => {
                b.unify(letter, Letter::DType(dtype))
            }
            Elem::Float(_) | Elem::Single(_) | Elem::Narrow(_) | Elem::Roomy(_) => None,
        }
    }
}

fn class(slot: usize, b: &Bindings) -> Option<Id> {
    match b.get(slot)? {
        Bound::Class(id) => Some(*id),
        _ => None,
    }
}

fn tensor(egraph: &EGraph, id: Id) -> Option<&TensorType> {
    egraph[id].data.ty.as_tensor()
}

/// Whether a float dtype is another one, and holds every value of `narrow`.
pub fn wider(narrow: DType, wide: DType) -> bool {
    wide != narrow && crate::canon::cast::keeps(narrow, wide)
}

/// Ties the letters of a schema to the sizes of a shape.
fn unify(schema: &str, shape: &[Dim], b: &mut Bindings) -> Option<()> {
    let items: Vec<&str> = schema.split_whitespace().collect();
    let splice = items.iter().position(|i| i.ends_with(".."));
    let (lead, items) = match splice {
        Some(0) => {
            let lead = shape.len().checked_sub(items.len() - 1)?;
            b.unify(
                items[0].trim_end_matches('.'),
                Letter::Dims(shape[..lead].to_vec()),
            )?;
            (lead, &items[1..])
        }
        Some(_) => return None,
        None => (0, &items[..]),
    };
    let shape = &shape[lead..];
    if shape.len() != items.len() {
        return None;
    }
    for (item, size) in items.iter().zip(shape) {
        match letters_of(item, b) {
            Some(expected) => (expected == *size).then_some(())?,
            None => b.unify(item, Letter::Dim(size.clone()))?,
        }
    }
    Some(())
}

/// The sizes that a schema stands for, where all its letters are tied down.
pub fn resolve(schema: &str, b: &Bindings) -> Option<Vec<Dim>> {
    let mut out = Vec::new();
    for item in schema.split_whitespace() {
        match item.strip_suffix("..") {
            Some(splice) => match b.letter(splice)? {
                Letter::Dims(dims) => out.extend(dims.iter().cloned()),
                _ => return None,
            },
            None => out.push(letters_of(item, b)?),
        }
    }
    Some(out)
}

/// Whether a tensor broadcasts to that shape without changing it.
fn spreads(ty: &TensorType, over: &[Dim]) -> Option<()> {
    let lead = over.len().checked_sub(ty.rank())?;
    let fits = |(d, to): (&Dim, &Dim)| d == to || d.is(1);
    ty.shape.iter().zip(&over[lead..]).all(fits).then_some(())
}

/// Whether integers of as many axes as that shape, two at least, broadcast to it.
fn listed(ty: &TensorType, over: &[Dim]) -> Option<()> {
    (ty.dtype.is_int() && ty.rank() > 1 && ty.rank() == over.len()).then_some(())?;
    spreads(ty, over)
}

/// The class itself or one that it repeats, where that has one axis that may be longer than 1; and that size.
fn vector_in(egraph: &EGraph, id: Id) -> Option<(Id, Dim)> {
    let one_axis = |id: Id| {
        let ty = tensor(egraph, id)?;
        let (last, rest) = ty.shape.split_last()?;
        rest.iter().all(|d| d.is(1)).then(|| (id, last.clone()))
    };
    let repeated = || {
        let nodes = egraph[id].nodes.iter();
        let broadcasts = nodes.filter(|n| matches!(n.op, Op::Broadcast(_)));
        broadcasts.flat_map(|n| n.children.first()).find_map(|c| {
            // Only along further axes: the last one is the vector's own.
            let own = tensor(egraph, *c)?.shape.last()? == tensor(egraph, id)?.shape.last()?;
            if own { one_axis(egraph.find(*c)) } else { None }
        })
    };
    one_axis(egraph.find(id)).or_else(repeated)
}

fn causal(egraph: &EGraph, mask: Id, sizes: &[Dim]) -> Option<()> {
    let [queries, keys] = sizes else {
        return None;
    };
    let facts = &egraph[mask].data;
    let ty = facts.ty.as_tensor()?;
    let (rank, form) = (ty.rank(), facts.form.as_ref()?);
    if !ty.shape.ends_with(sizes) {
        return None;
    }
    let half = half_space(form, true)?;
    let one = Dim::from(1i64);
    let aligned = half.axes.len() == 2
        && half.axes.get(&(rank - 2)) == Some(&one)
        && half.axes.get(&(rank - 1)) == Some(&-&one);
    (aligned && half.constant == keys - queries).then_some(())
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Elem::Float(letter) => f.write_str(letter),
            Elem::Single(letter) => write!(f, "{letter} (not f64)"),
            Elem::Narrow(letter) => write!(f, "{letter} (f16 or bf16)"),
            Elem::Roomy(letter) => write!(f, "{letter} (not f16)"),
            Elem::Bool => f.write_str("bool"),
            Elem::F32 => f.write_str("f32"),
        }
    }
}

/// One clause, as the rule table in the docs says it.
impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sort::Tensor(elem, shape) => write!(f, "{elem}[{}]", shape.replace(' ', ", ")),
            Sort::Tame(elem, shape) => write!(f, "{elem}[{}], finite", shape.replace(' ', ", ")),
            Sort::NotNegative(elem, shape) => {
                write!(f, "{elem}[{}], never below 0", shape.replace(' ', ", "))
            }
            Sort::Elements(elem, shape) => write!(
                f,
                "{elem} with the elements of [{}]",
                shape.replace(' ', ", ")
            ),
            Sort::Number(dtype, range) => write!(f, "a known number of {dtype}, {range}"),
            Sort::Share(dtype, size) => write!(f, "1/{size} as a number of {dtype}"),
            Sort::Root(dtype, size) => write!(f, "1/√{size} as a number of {dtype}"),
            Sort::Channels(dtype, size) => {
                write!(f, "{dtype}[.., {size}, 1, 1], of size 1 otherwise")
            }
            Sort::Vector(dtype, len) => write!(
                f,
                "{dtype}[{len}], maybe with further axes of size 1 or repeated along them"
            ),
            Sort::Spread(elem, over) => {
                write!(f, "{elem} that broadcasts to [{}]", over.replace(' ', ", "))
            }
            Sort::Mask(elem, over) => {
                write!(
                    f,
                    "{elem} that broadcasts to [{}] and hides no whole row",
                    over.replace(' ', ", ")
                )
            }
            Sort::Causal => f.write_str("true at [s, n] just where n ≤ s + N − S"),
            Sort::Packed(packing, schema) => {
                let what = match packing {
                    Packing::Affine => "integers with biases",
                    Packing::Floats => "small floats",
                    Packing::Any => "quantised elements",
                };
                write!(f, "{what}, packed, [{}]", schema.replace(' ', ", "))
            }
            Sort::Index(count, schema) => {
                write!(f, "indices among {count}, [{}]", schema.replace(' ', ", "))
            }
            Sort::Literal(range) => write!(f, "a number, {range}"),
            Sort::Shape(x) => write!(f, "a shape for the elements of ?{x}"),
            Sort::Order(x) => write!(f, "the axes of ?{x} in some order"),
            Sort::Flag => f.write_str("true or false"),
            Sort::Positions(over) => write!(
                f,
                "one integer, or integers of as many axes as [{}] that broadcast to it",
                over.replace(' ', ", ")
            ),
            Sort::Listed(over) => write!(
                f,
                "integers of as many axes as [{}] that broadcast to it",
                over.replace(' ', ", ")
            ),
            Sort::Counted(over) => write!(
                f,
                "integers of as many axes as [{}] that broadcast to it and count up by one along its second to last axis",
                over.replace(' ', ", ")
            ),
            Sort::Equals(expr) => f.write_str(expr),
            Sort::Product(schema) => write!(f, "{}", schema.replace(' ', "·")),
            Sort::Regroups(schema) => {
                write!(f, "as many places as {}", schema.replace(' ', "·"))
            }
            Sort::Holds(narrow) => write!(f, "f32 or f64, wide enough for every {narrow}"),
            Sort::RotaryCos {
                sin,
                columns,
                plain,
            } => write!(
                f,
                "cos(scale·position·freqs[{columns}]) at column j{}, and ?{sin} the sine of the same",
                if *plain {
                    ""
                } else {
                    ", times an amplitude other than 1"
                }
            ),
            Sort::RotarySin => f.write_str("see the cosine"),
            Sort::Given => f.write_str("given by the sorts above"),
        }
    }
}

/// The type of a class, for messages and for the builder.
pub fn type_of(egraph: &EGraph, id: Id) -> &Type {
    &egraph[id].data.ty
}
