//! (crate essay to come)

pub mod pt2;
