//! (crate essay to come)
