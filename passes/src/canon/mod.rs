//! Canonical form (to come with the next change).

pub mod cast;
