//! What random programs found, as small as it gets. Sizes of the symbol, and a graph.

/// The graphs.
pub const FOUND: &[(&[i64], &str)] = &[
    // No instruction is left, but the state must change.
    (
        &[1],
        r#"graph "constant_state" {
  data "w" : f32[2] = [1.0, 2.0]
  state "m" : f32[2]
  %0 = input[name="x", ty=f32[2]] : f32[2]
  %1 = constant[name="w", ty=f32[2]] : f32[2]
  next "m" = %1
  output "y" = %0
}"#,
    ),
    (
        &[1],
        r#"graph "input_state" {
  state "m" : f32[2]
  %0 = input[name="x", ty=f32[2]] : f32[2]
  next "m" = %0
  output "y" = %0
}"#,
    ),
    (
        &[1],
        r#"graph "swapped_states" {
  data "w" : f32[2] = [1.0, 2.0]
  state "a" : f32[2] = "w"
  state "b" : f32[2]
  %0 = input[name="x", ty=f32[2]] : f32[2]
  %1 = state[name="a", ty=f32[2]] : f32[2]
  %2 = state[name="b", ty=f32[2]] : f32[2]
  next "a" = %2
  next "b" = %1
  output "y" = %0
}"#,
    ),
];
