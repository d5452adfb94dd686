//! The figures, each with where it comes from.

use crate::pass::Target;

/// A figure and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// In the unit that the table's field says.
    pub value: u64,
    /// Who measured or stated it, on what.
    pub source: &'static str,
}

/// What a target can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Host time of one primitive, a view included: picoseconds.
    pub primitive: Figure,
    /// Device time of one kernel that does nothing: picoseconds.
    pub launch: Figure,
    /// Memory traffic: bytes a microsecond.
    pub bytes: Figure,
    /// Arithmetic on f32: operations a microsecond.
    pub single: Figure,
    /// Arithmetic on f16 and bf16: operations a microsecond.
    pub narrow: Figure,
    /// How many primitives a fused norm, rotary embedding or attention is there.
    pub fused: Figure,
    /// Whether a product with matrices that an index chooses takes f16 and bf16.
    pub narrow_experts: bool,
    /// Whether a product of f16 or bf16 with a quantised weight is summed in f32, and not in the dtype itself.
    pub narrow_quantized: bool,
}

const fn figure(value: u64, source: &'static str) -> Figure {
    Figure { value, source }
}

/// One primitive takes about 3 µs of host time, whatever it computes: measured in a decode loop over mlx-sys on an H200.
const PRIMITIVE: Figure = figure(
    3_000_000,
    "MLX 0.32.2, H200: 1.2–1.6 ms of async_eval for some 420 primitives",
);

const METAL: Table = Table {
    primitive: PRIMITIVE,
    launch: figure(2_000_000, "assumed: of the order of CUDA's"),
    bytes: figure(400_000, "Apple: M4 Max, 410–546 GB/s"),
    single: figure(14_000_000, "Apple: M4 Max, about 15 TFLOP/s"),
    narrow: figure(
        14_000_000,
        "Apple: M4 Max, f16 at the rate of f32 in simdgroup matrices",
    ),
    fused: figure(1, "mlx::fast has a kernel for each"),
    narrow_experts: true,
    narrow_quantized: true,
};

const CUDA: Table = Table {
    primitive: PRIMITIVE,
    launch: figure(
        2_800_000,
        "MLX 0.32.2, H200: add or rms_norm in a long chain, 2.8 µs each",
    ),
    bytes: figure(4_300_000, "H200: 4.3 TB/s"),
    single: figure(60_000_000, "H200: 67 TFLOP/s without tensor cores"),
    narrow: figure(
        600_000_000,
        "H200: 989 TFLOP/s, of which large products reach some two thirds",
    ),
    fused: figure(1, "mlx::fast has a kernel for each"),
    narrow_experts: true,
    narrow_quantized: true,
};

const CPU: Table = Table {
    primitive: figure(
        3_000_000,
        "as on other targets: the same graph building and scheduling",
    ),
    launch: figure(500_000, "assumed: a task on the stream's thread"),
    bytes: figure(8_000, "assumed: one core's copy rate"),
    single: figure(
        3_600,
        "MLX 0.32.2's wheel, f32 matmul of 1024³: 3.6 GFLOP/s",
    ),
    narrow: figure(5_000, "MLX 0.32.2's wheel, bf16 matmul: 5 GFLOP/s"),
    fused: figure(
        4,
        "mlx::fast decomposes on the CPU; fewer than written out, since scalars are folded in",
    ),
    narrow_experts: false,
    narrow_quantized: false,
};

/// The figures of a target.
pub fn table(target: Target) -> &'static Table {
    match target {
        Target::Metal => &METAL,
        Target::Cuda => &CUDA,
        Target::Cpu => &CPU,
    }
}
