//! The figures of the three targets, each with where it comes from.

use super::{Figure, Table};
use crate::pass::Target;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

const fn figure(value: f64, source: &'static str) -> Figure {
    Figure {
        value,
        source: Cow::Borrowed(source),
    }
}

const METAL: Table = Table {
    name: Cow::Borrowed("the table of metal"),
    host_ns: figure(
        3000.0,
        "as on CUDA: the same graph building and scheduling, on a processor of the same speed",
    ),
    launch_ns: figure(2000.0, "assumed: of the order of CUDA's"),
    copy_gbs: figure(400.0, "Apple: M4 Max, 410–546 GB/s"),
    strided_gbs: figure(
        300.0,
        "assumed: whole rows are read at the rate of a copy, and index arithmetic costs a quarter",
    ),
    pointwise_gops: figure(14_000.0, "assumed: the rate of f32 arithmetic"),
    matmul_f32_gflops: figure(14_000.0, "Apple: M4 Max, about 15 TFLOP/s"),
    matmul_f16_gflops: figure(
        14_000.0,
        "Apple: M4 Max, f16 at the rate of f32 in simdgroup matrices",
    ),
    matmul_bf16_gflops: figure(14_000.0, "assumed: as f16"),
    quantized_row_gbs: figure(
        400.0,
        "assumed: bound by reading the weight, at the rate of a copy",
    ),
    quantized_gflops: figure(14_000.0, "assumed: unpacked on the way, at the rate of f16"),
    attention_gflops: figure(14_000.0, "assumed: the rate of f16 products"),
};

/// What `fuseline-run calibrate` measured of MLX 0.32.2 on an H200.
const CALIBRATED: &str = "fuseline-run calibrate, MLX 0.32.2, H200";

const CUDA: Table = Table {
    name: Cow::Borrowed("the table of cuda"),
    host_ns: figure(633.0, CALIBRATED),
    launch_ns: figure(1015.0, CALIBRATED),
    copy_gbs: figure(4206.0, CALIBRATED),
    strided_gbs: figure(4206.0, CALIBRATED),
    pointwise_gops: figure(431.2, CALIBRATED),
    matmul_f32_gflops: figure(
        450_400.0,
        "fuseline-run calibrate, MLX 0.32.2, H200: in TF32, as MLX multiplies unless told otherwise",
    ),
    matmul_f16_gflops: figure(878_200.0, CALIBRATED),
    matmul_bf16_gflops: figure(861_800.0, CALIBRATED),
    quantized_row_gbs: figure(859.1, CALIBRATED),
    quantized_gflops: figure(105_100.0, CALIBRATED),
    attention_gflops: figure(468_600.0, CALIBRATED),
};

const CPU: Table = Table {
    name: Cow::Borrowed("the table of cpu"),
    host_ns: figure(
        3000.0,
        "as on other targets: the same graph building and scheduling",
    ),
    launch_ns: figure(500.0, "assumed: a task on the stream's thread"),
    copy_gbs: figure(8.0, "assumed: one core's copy rate"),
    strided_gbs: figure(
        2.0,
        "assumed: MLX walks such operands element by element, without vectors",
    ),
    pointwise_gops: figure(3.6, "assumed: as f32 arithmetic without a library"),
    matmul_f32_gflops: figure(3.6, "MLX 0.32.2's wheel, f32 matmul of 1024³: 3.6 GFLOP/s"),
    matmul_f16_gflops: figure(5.0, "assumed: as bf16"),
    matmul_bf16_gflops: figure(5.0, "MLX 0.32.2's wheel, bf16 matmul: 5 GFLOP/s"),
    quantized_row_gbs: figure(
        0.7,
        "MLX 0.32.2's wheel, 4 bits, 4096×4096, one row: 13 ms, on one thread",
    ),
    quantized_gflops: figure(
        2.7,
        "MLX 0.32.2's wheel, 4 bits, 4096×4096, 128 rows: 1.6 s, on one thread",
    ),
    attention_gflops: figure(
        3.6,
        "mlx::fast decomposes on the CPU: the rate of the products",
    ),
};

/// The figures of a target.
pub fn table(target: Target) -> Arc<Table> {
    static TABLES: LazyLock<[Arc<Table>; 3]> = LazyLock::new(|| [METAL, CUDA, CPU].map(Arc::new));
    let index = match target {
        Target::Metal => 0,
        Target::Cuda => 1,
        Target::Cpu => 2,
    };
    TABLES[index].clone()
}
