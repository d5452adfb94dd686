//! Operators, by theme: what each means in ops of the IR. A theme is a file whose `find` knows its operators by name.

pub(super) mod attention;
pub(super) mod bits;
pub(super) mod cached;
pub(super) mod calculus;
pub(super) mod columns;
pub(super) mod complex;
pub(super) mod complex_math;
pub(super) mod complex_parts;
pub(super) mod composite;
pub(super) mod control;
pub(super) mod conv;
pub(super) mod counting;
pub(super) mod create;
pub(super) mod cumulative;
pub(super) mod data_dependent;
pub(super) mod factor;
pub(super) mod fake_quantize;
pub(super) mod foreach;
pub(super) mod fourier;
pub(super) mod fractional;
pub(super) mod functionalized;
pub(super) mod grouped;
pub(super) mod higher_order;
pub(super) mod index;
pub(super) mod linalg;
pub(super) mod loss;
pub(super) mod margin;
pub(super) mod matmul;
pub(super) mod mlx;
pub(super) mod movement;
pub(super) mod norm;
pub(super) mod order;
pub(super) mod pointwise;
pub(super) mod pool;
pub(super) mod quant;
pub(super) mod quantile;
pub(super) mod quantise;
pub(super) mod random;
pub(super) mod rearrange;
pub(super) mod recurrent;
pub(super) mod reduce;
pub(super) mod resize;
pub(super) mod sample;
pub(super) mod scatter;
pub(super) mod search;
pub(super) mod segments;
pub(super) mod special;
pub(super) mod strided;
pub(super) mod transcendental;
pub(super) mod whole_conv;
pub(super) mod windows;

use super::Handler;

/// Finds a theme's handler of an operator.
pub(super) type Find = fn(&str) -> Option<Handler>;

/// The themes and their files, asked in this order.
pub(super) const THEMES: &[(&str, Find)] = &[
    ("pointwise", pointwise::find),
    ("special", special::find),
    ("movement", movement::find),
    ("rearrange", rearrange::find),
    ("matmul", matmul::find),
    ("reduce", reduce::find),
    ("index", index::find),
    ("create", create::find),
    ("norm", norm::find),
    ("attention", attention::find),
    ("cached", cached::find),
    ("conv", conv::find),
    ("pool", pool::find),
    ("order", order::find),
    ("resize", resize::find),
    ("cumulative", cumulative::find),
    ("data_dependent", data_dependent::find),
    ("scatter", scatter::find),
    ("composite", composite::find),
    ("control", control::find),
    ("recurrent", recurrent::find),
    ("fourier", fourier::find),
    ("columns", columns::find),
    ("sample", sample::find),
    ("random", random::find),
    ("transcendental", transcendental::find),
    ("counting", counting::find),
    ("quantile", quantile::find),
    ("strided", strided::find),
    ("loss", loss::find),
    ("margin", margin::find),
    ("calculus", calculus::find),
    ("search", search::find),
    ("fake_quantize", fake_quantize::find),
    ("foreach", foreach::find),
    ("linalg", linalg::find),
    ("factor", factor::find),
    ("grouped", grouped::find),
    ("windows", windows::find),
    ("bits", bits::find),
    ("fractional", fractional::find),
    ("segments", segments::find),
    ("mlx", mlx::find),
    ("quant", quant::find),
    ("quantise", quantise::find),
    ("functionalized", functionalized::find),
];
