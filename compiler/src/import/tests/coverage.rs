//! How much of core ATen is imported.

use super::dispatch;

/// The overloads of core ATen, from `tests/scripts/core_aten.py`.
const CORE: &str = include_str!("core_aten.txt");

/// Those that are refused: derivatives, which only a training step holds.
const REFUSED: &[&str] = &[
    "aten._adaptive_avg_pool2d_backward.default",
    "aten.avg_pool2d_backward.default",
    "aten.convolution_backward.default",
    "aten.embedding_dense_backward.default",
    "aten.max_pool2d_with_indices_backward.default",
    "aten.native_group_norm_backward.default",
    "aten.native_layer_norm_backward.default",
];

#[test]
fn all_of_core_aten_but_derivatives_is_imported() {
    let refused: Vec<&str> = CORE
        .lines()
        .filter(|target| dispatch::find(target).is_none() && !dispatch::is_assertion(target))
        .collect();
    assert_eq!(refused, REFUSED);
    assert!(CORE.lines().count() > 180);
}
