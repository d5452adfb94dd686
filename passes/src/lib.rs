//! Graph → better graph.

pub mod canon;
pub mod closed_form;
pub mod pass;
pub mod shapes;

pub use pass::{Limits, Numerics, PassCx, PassError, Target};
