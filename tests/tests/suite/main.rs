//! Every suite but the end-to-end one, as modules of one binary: each test binary links MLX, and linking is slow.

mod bad_input;
mod costs;
mod demo;
mod documents;
mod fixtures;
mod host;
mod hostile;
mod invariants;
mod methods;
mod models;
mod nothing;
mod quantize;
#[cfg(test)]
mod random;
mod random_numbers;
mod round_trip;
mod sessions;
mod snapshots;
mod workbench;
