//! The text form: what a graph prints as, and what parses back to the same graph.
//!
//! ```text
//! graph "forward" {
//!   symbol s0 in 1..=511
//!   data "eps" : f32[2] = [0.5, 1.0]
//!   data "model.weight" : bf16[256, 256]
//!   state "cache" : f32[1, 512] = "cache.init"
//!   %0 = input[name="x", ty=f32[s0, 256]] : f32[s0, 256]
//!   %1 = constant[name="model.weight", ty=bf16[256, 256]] : bf16[256, 256]
//!   %2 = neg(%0) : f32[s0, 256] at "model.norm"
//!   require 512 - s0 in 1..=inf
//!   next "cache" = %7
//!   output "out0" = %2
//! }
//! ```
//!
//! One statement a line; `//` starts a comment. Values may have any name of letters, digits, `_` and `.` after the `%`; they are numbered anew when the graph is
//! printed. The type after a node is optional when reading and checked where it is there. `data` lists a constant; the elements are printed where there are at most
//! [`INLINE_ELEMENTS`], and a constant without them is read as one whose data is elsewhere. `range` ends may be `inf`.

mod lexer;
mod nearest;
mod parse;
mod print;
#[cfg(test)]
mod tests;

pub use nearest::nearest;
pub use parse::{Cursor, ValueNames, parse, parse_all, parse_attr, parse_attrs, parse_named};
pub use print::INLINE_ELEMENTS;
