//! FlatBuffers accessors, written by `make schemas` from the files in `schema/`.

#[rustfmt::skip]
#[expect(
    clippy::all, clippy::allow_attributes, clippy::unwrap_used, mismatched_lifetime_syntaxes,
    unsafe_op_in_unsafe_fn, unused_imports, reason = "generated",
)]
mod executorch_generated;
#[rustfmt::skip]
#[expect(
    clippy::all, clippy::allow_attributes, clippy::unwrap_used, mismatched_lifetime_syntaxes,
    unsafe_op_in_unsafe_fn, unused_imports, reason = "generated",
)]
mod flat_tensor_generated;
#[rustfmt::skip]
#[expect(
    clippy::all, clippy::allow_attributes, clippy::unwrap_used, mismatched_lifetime_syntaxes,
    unsafe_op_in_unsafe_fn, unused_imports, reason = "generated",
)]
mod mlx_generated;

pub(crate) use executorch_generated::executorch;
pub(crate) use flat_tensor_generated::flat_tensor;
pub(crate) use mlx_generated::mlx;
