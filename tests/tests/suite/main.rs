//! Every suite but the end-to-end one, as modules of one binary: each test binary links MLX, and linking is slow.

mod fixtures;
mod invariants;
