//! Printing.

use crate::attr::{Scalar, quote};
use crate::graph::{Constant, Graph};
use crate::tensor::Tensor;
use std::fmt::{self, Write};

/// Constants with at most this many elements are printed with them.
pub const INLINE_ELEMENTS: usize = 64;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("graph ")?;
        quote(&self.name, f)?;
        f.write_str(" {\n")?;
        for (name, range) in &self.symbols {
            writeln!(f, "  symbol {name} in {range}")?;
        }
        for (name, constant) in &self.constants {
            f.write_str("  data ")?;
            quote(name, f)?;
            write!(f, " : {}", constant.ty)?;
            inline_data(constant, f)?;
            f.write_char('\n')?;
        }
        for state in &self.states {
            f.write_str("  state ")?;
            quote(&state.name, f)?;
            write!(f, " : {}", state.ty)?;
            if let Some(init) = &state.init {
                f.write_str(" = ")?;
                quote(init, f)?;
            }
            f.write_char('\n')?;
        }
        for (value, node) in self.values() {
            write!(f, "  {value} = {}", node.op)?;
            if !node.args.is_empty() {
                f.write_char('(')?;
                for (i, a) in node.args.iter().enumerate() {
                    write!(f, "{}{a}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(')')?;
            }
            write!(f, " : {}", node.ty)?;
            if let Some(module) = &node.loc.module {
                f.write_str(" at ")?;
                quote(module, f)?;
            }
            f.write_char('\n')?;
        }
        for requirement in &self.requirements {
            writeln!(f, "  require {requirement}")?;
        }
        for state in &self.states {
            if let Some(next) = state.next {
                f.write_str("  next ")?;
                quote(&state.name, f)?;
                writeln!(f, " = {next}")?;
            }
        }
        for output in &self.outputs {
            f.write_str("  output ")?;
            quote(&output.name, f)?;
            writeln!(f, " = {}", output.value)?;
        }
        f.write_str("}\n")
    }
}

/// ` = [..]` where the constant is small and its data is at hand and well-formed; nothing elsewhere.
fn inline_data(constant: &Constant, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(shape) = constant.ty.static_shape() else {
        return Ok(());
    };
    let small = shape
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul(*d))
        .is_some_and(|n| n <= INLINE_ELEMENTS);
    let (true, Some(data)) = (small, &constant.data) else {
        return Ok(());
    };
    let Ok(bytes) = data.bytes() else {
        return Ok(());
    };
    let Ok(tensor) = Tensor::from_bytes(constant.ty.dtype, shape, &bytes) else {
        return Ok(());
    };
    f.write_str(" = [")?;
    for i in 0..tensor.len() {
        if i > 0 {
            f.write_str(", ")?;
        }
        match tensor.get(i) {
            Scalar::Bool(b) => write!(f, "{b}")?,
            Scalar::Int(n) => write!(f, "{n}")?,
            Scalar::Float(x) => write!(f, "{x}")?,
        }
    }
    f.write_char(']')
}
