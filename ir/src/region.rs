//! Graphs inside ops.
//!
//! A region is what a branch computes, or a step of a loop. It is a graph of its own that sees nothing of the one around it but its inputs, which the op's arguments
//! are bound to in order; the symbols of sizes are the same in both. It has no states and no constants: both come in as arguments.

use crate::error::{EvalError, OpError};
use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::types::Type;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A graph inside an op. Two are equal if they print the same.
#[derive(Clone)]
pub struct Region {
    graph: Arc<Graph>,
    text: Arc<str>,
}

impl Region {
    /// A region of that graph.
    ///
    /// # Errors
    /// The graph has states or constants.
    pub fn new(graph: Graph) -> Result<Region, OpError> {
        if !graph.states.is_empty() || !graph.constants.is_empty() {
            let reason = "a graph inside an op has no states and no constants of its own";
            return Err(OpError::new("region", reason));
        }
        let text = graph.to_string();
        Ok(Region {
            graph: Arc::new(graph),
            text: text.trim_end().into(),
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The types of the results, or why arguments of these types can't be bound to the inputs. An integer comes as a 0-d `i64` tensor.
    pub(crate) fn results(&self, args: &[&Type]) -> Result<Vec<Type>, OpError> {
        let bad = |reason: String| Err(OpError::new("region", reason));
        let inputs = self.graph.inputs();
        if inputs.len() != args.len() {
            return bad(format!("{} inputs, {} arguments", inputs.len(), args.len()));
        }
        for (n, (input, arg)) in inputs.iter().zip(args).enumerate() {
            let wanted = self.graph.ty(*input);
            let fits = match (wanted, arg) {
                (Type::Int(_), Type::Tensor(t)) => t.dtype == crate::DType::I64 && t.rank() == 0,
                (wanted, arg) => wanted == *arg,
            };
            if !fits {
                return bad(format!("argument {n} is {arg}, its input {wanted}"));
            }
        }
        let outputs = self.graph.outputs.iter();
        Ok(outputs.map(|o| self.graph.ty(o.value).clone()).collect())
    }

    /// The results for these arguments.
    pub(crate) fn eval(&self, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        let args: Vec<Tensor> = args.iter().map(|tensor| (*tensor).clone()).collect();
        let done = self.graph.eval(&args, &BTreeMap::new());
        let done = done.map_err(|error: EvalError| OpError::new("region", error.to_string()))?;
        Ok(done.outputs)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:?})", self.graph.name)
    }
}

impl PartialEq for Region {
    fn eq(&self, other: &Region) -> bool {
        self.text == other.text
    }
}

impl Eq for Region {}

impl PartialOrd for Region {
    fn partial_cmp(&self, other: &Region) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Region {
    fn cmp(&self, other: &Region) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Region {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
