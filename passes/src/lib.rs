//! (crate essay to come)

pub mod canon;
pub mod closed_form;
pub mod shapes;
