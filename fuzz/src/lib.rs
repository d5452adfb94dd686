//! What the fuzz targets share: changes that keep a file's frame whole (offsets, sizes, checksums), so that they reach what lies behind the
//! first check, and running what was changed within bounds.

pub mod disk;
pub mod edit;
pub mod egraph;
pub mod ir;
pub mod pt2;
pub mod pte;
pub mod random;
pub mod replay;
pub mod safetensors;

// The command's own reader of inputs, which is in no library.
#[expect(dead_code, reason = "the command uses all of it")]
#[path = "../../runtime/src/bin/fuseline-run/failure.rs"]
mod failure;
#[expect(dead_code, reason = "the command uses all of it")]
#[path = "../../runtime/src/bin/fuseline-run/tensors.rs"]
mod tensors;
