//! The ops: one row each in [`table`], one impl each in a file by theme.

pub mod attention;
pub mod cached;
pub mod control;
pub mod conv;
pub mod create;
pub mod experts;
mod host;
pub mod index;
pub mod matmul;
pub mod movement;
pub mod norm;
pub mod pointwise;
pub mod quant;
pub mod random;
pub mod reduce;
pub mod rope;
pub mod sort;
pub mod table;
#[cfg(test)]
mod testing;
mod util;
pub mod window;

pub use table::{Op, OpInfo};

use crate::dim::{Dim, Symbol};
use crate::error::OpError;
use crate::graph::{Graph, Value};
use crate::lower::{LowerCx, Lowering};
use crate::tensor::Tensor;
use crate::types::Type;
use std::collections::BTreeMap;

/// What an op is, as far as passes may ask without knowing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Element i of the (broadcast) result depends on element i of each argument alone.
    Pointwise,
    /// Says what it means in plain ops through `decompose`.
    Fused,
    /// Takes no arguments and stands for something outside the graph or a literal.
    Leaf,
    /// Moves elements without arithmetic.
    Movement,
    /// Reduces over axes.
    Reduction,
    /// Reads and changes what belongs to a session and is no value of the graph: it runs once each time the program does, and constant arguments make it no constant.
    /// Arguments say its place among others (see [`table::UpdateAndAttend`]), and that it is needed ([`table::After`]).
    Effect,
}

/// What an op's impl supplies; its row supplies the rest.
pub trait OpImpl {
    /// The type of the result, or why the arguments don't fit. Total: no arguments or attributes make it panic.
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError>;

    /// The reference evaluation: written to be read, floats accumulated in f64 and rounded once to the result's dtype.
    /// Arguments have the types that `infer` accepted. An op with several results returns them in order, every other op one tensor. The default evaluates `decompose`.
    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError>;

    /// What a fused op means in plainer ops, built into `graph`. `None` for an op that isn't fused.
    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let _ = (graph, args);
        Ok(None)
    }

    /// What the op becomes on the target.
    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError>;

    /// The argument whose storage the result may take over, where the op is an update of it.
    fn updates(&self) -> Option<usize> {
        None
    }
}

/// What an evaluation may look at beside the arguments' elements.
#[derive(Clone, Copy, Debug)]
pub struct EvalCx<'a> {
    /// Values of the symbols.
    pub symbols: &'a BTreeMap<Symbol, i64>,
    /// Types of the arguments.
    pub args: &'a [&'a Type],
    /// Type of the result.
    pub out: &'a Type,
}

impl EvalCx<'_> {
    /// The value of a symbolic integer.
    pub fn dim(&self, d: &Dim) -> Result<i64, OpError> {
        d.eval(self.symbols)
            .ok_or_else(|| OpError::new("eval", format!("no value for {d}")))
    }

    /// The value of a size: a symbolic integer that must not be negative.
    pub fn size(&self, d: &Dim) -> Result<usize, OpError> {
        let n = self.dim(d)?;
        usize::try_from(n).map_err(|_| OpError::new("eval", format!("size {d} is {n}")))
    }

    /// The result's shape in numbers; an error where the result is no tensor.
    pub fn out_shape(&self) -> Result<Vec<usize>, OpError> {
        match self.out {
            Type::Tensor(t) => t.shape.iter().map(|d| self.size(d)).collect(),
            _ => Err(OpError::new("eval", "result is not a tensor")),
        }
    }
}
