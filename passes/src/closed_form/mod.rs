//! Index functions: for a value of the graph, an expression for its element at `[i0, …, in]`.
//!
//! Masks, position tables and rotary tables are not data, they are formulas of the index: `arange`, casts, comparisons, sines, and movement between them. However a
//! model spells one (unsqueezed, expanded, transposed, multiplied by a matrix product of inner size 1, concatenated from two equal halves), the *form* of an element
//! is the same expression, because every movement op only substitutes index expressions. Recognisers ([`rotary_table`], [`seen`]) then match one formula instead of spellings.
//!
//! A form is over a key type `K` that names tensors which are opaque to it: [`Value`](fuseline_ir::Value) in a graph, a class in an e-graph. Only small tensors become
//! opaque elements (see [`Form::element`]); other values have no form, which keeps the analysis away from activations. Forms are capped in size.

mod construct;
mod mask;
mod movement;
mod rotary;
#[cfg(test)]
mod tests;
mod triangle;

pub use mask::{HIDING, HalfSpace, Seen, half_space, seen};
pub use rotary::{Pairing, Position, Rotary, Wave, position, rotary_table};
pub use triangle::{Triangle, constant_forms, triangles};

use fuseline_ir::{DType, Dim, Graph, Op, Scalar, Type, Value};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// The most nodes of a form, counted as a tree. A larger one is no form.
pub const MAX_SIZE: usize = 192;

/// What can name an opaque tensor.
pub trait Key: Clone + Ord + Hash + fmt::Debug {}

impl<K: Clone + Ord + Hash + fmt::Debug> Key for K {}

/// The value of one element, as an expression of its index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form<K> {
    /// The dtype that the expression's value has.
    pub dtype: DType,
    /// The expression.
    pub expr: Expr<K>,
    size: usize,
}

/// One step of a form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expr<K> {
    /// The element's index along an axis.
    Index(usize),
    /// A number.
    Literal(Scalar),
    /// A symbolic integer that isn't a number.
    Dim(Dim),
    /// The one element of an opaque tensor that has just one.
    Scalar(K),
    /// The element of an opaque tensor at these indices, one for each of its axes. Indices are forms of dtype `i64`, in range.
    Element(K, Vec<Arc<Form<K>>>),
    /// A pointwise op, applied to elements. Each has the dtype that the op takes.
    Apply(Op, Vec<Arc<Form<K>>>),
}

impl<K: Key> Form<K> {
    /// Number of nodes, counted as a tree.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The number, where the form is one.
    pub fn literal(&self) -> Option<Scalar> {
        match &self.expr {
            Expr::Literal(s) => Some(*s),
            _ => None,
        }
    }

    /// The integer that doesn't depend on the index nor on any tensor, where the form is one.
    pub fn as_dim(&self) -> Option<Dim> {
        match &self.expr {
            Expr::Literal(Scalar::Int(n)) => Some(Dim::from(*n)),
            Expr::Dim(d) => Some(d.clone()),
            _ => None,
        }
    }

    /// One more than the largest axis whose index the value depends on.
    pub fn reach(&self) -> usize {
        match &self.expr {
            Expr::Index(a) => a + 1,
            Expr::Literal(_) | Expr::Dim(_) | Expr::Scalar(_) => 0,
            Expr::Element(_, args) | Expr::Apply(_, args) => {
                args.iter().map(|a| a.reach()).max().unwrap_or(0)
            }
        }
    }

    /// Whether the value depends on the index along `axis`.
    pub fn depends_on(&self, axis: usize) -> bool {
        match &self.expr {
            Expr::Index(a) => *a == axis,
            Expr::Literal(_) | Expr::Dim(_) | Expr::Scalar(_) => false,
            Expr::Element(_, args) | Expr::Apply(_, args) => {
                args.iter().any(|a| a.depends_on(axis))
            }
        }
    }
}

/// Reads `Index` as `i0`, elements as `%3[i1]`, ops as calls.
impl<K: fmt::Debug> fmt::Display for Form<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, args: &[Arc<Form<K>>]| {
            for (i, a) in args.iter().enumerate() {
                write!(f, "{}{a}", if i > 0 { ", " } else { "" })?;
            }
            Ok(())
        };
        match &self.expr {
            Expr::Index(axis) => write!(f, "i{axis}"),
            Expr::Literal(Scalar::Bool(b)) => write!(f, "{b}"),
            Expr::Literal(Scalar::Int(n)) => write!(f, "{n}"),
            Expr::Literal(Scalar::Float(x)) => write!(f, "{x}"),
            Expr::Dim(d) => write!(f, "({d})"),
            Expr::Scalar(k) => write!(f, "{k:?}"),
            Expr::Element(k, args) => {
                write!(f, "{k:?}[")?;
                list(f, args)?;
                f.write_str("]")
            }
            Expr::Apply(Op::Cast(_), args) => {
                write!(f, "{}(", self.dtype)?;
                list(f, args)?;
                f.write_str(")")
            }
            Expr::Apply(op, args) => {
                write!(f, "{}(", op.name())?;
                list(f, args)?;
                f.write_str(")")
            }
        }
    }
}

/// The form of the result of `op`, from the forms of its arguments (`None`: not known). `opaque(n)` names argument n where its element has to be opaque.
///
/// `None` where the op is no index function of its arguments, an argument is neither known nor small, or the form grows too large.
pub fn of<K: Key>(
    op: &Op,
    args: &[Option<&Arc<Form<K>>>],
    arg_types: &[&Type],
    out: &Type,
    opaque: impl Fn(usize) -> K,
) -> Option<Arc<Form<K>>> {
    let cx = Cx {
        args,
        types: arg_types,
        out,
        opaque: &opaque,
    };
    let form = cx.of(op)?;
    (form.size <= MAX_SIZE).then_some(form)
}

/// The forms of all values of a graph that have one, by number of value.
pub fn analyse(graph: &Graph) -> Vec<Option<Arc<Form<Value>>>> {
    let mut forms: Vec<Option<Arc<Form<Value>>>> = Vec::with_capacity(graph.nodes().len());
    let constants = constant_forms(graph);
    for (_, node) in graph.values() {
        let args: Vec<_> = node
            .args
            .iter()
            .map(|a| forms[a.index()].as_ref())
            .collect();
        let types: Vec<_> = node.args.iter().map(|a| graph.ty(*a)).collect();
        let form = of(&node.op, &args, &types, &node.ty, |n| node.args[n]);
        let form = form.or_else(|| match &node.op {
            Op::Constant(constant) => constants.get(&constant.name).cloned(),
            _ => None,
        });
        forms.push(form);
    }
    forms
}

/// What `of` works from.
struct Cx<'a, K> {
    args: &'a [Option<&'a Arc<Form<K>>>],
    types: &'a [&'a Type],
    out: &'a Type,
    opaque: &'a dyn Fn(usize) -> K,
}
