//! (crate essay to come)

pub mod import;
pub mod pt2;
