//! Every suite but the end-to-end one, as modules of one binary: each test binary links MLX, and linking is slow.

mod allocations;
mod attacks;
mod bad_input;
mod changed_bytes;
mod costs;
mod demo;
mod determinism;
mod documents;
mod executorch;
mod faults;
mod fixtures;
mod host;
mod hostile;
mod inspected;
mod invariants;
mod kernels;
mod methods;
mod models;
mod nothing;
mod quantize;
#[cfg(test)]
mod random;
mod random_numbers;
mod required;
mod round_trip;
mod session_caches;
mod sessions;
mod snapshots;
mod spellings;
mod workbench;

// The command's own reader of inputs, which is in no library.
#[expect(dead_code, reason = "the command uses all of it")]
#[path = "../../../runtime/src/bin/fuseline-run/failure.rs"]
mod failure;
#[expect(dead_code, reason = "the command uses all of it")]
#[path = "../../../runtime/src/bin/fuseline-run/tensors.rs"]
mod tensors;
