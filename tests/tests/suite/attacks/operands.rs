//! Programs whose instructions get operands that MLX does not expect: its kernels divide by them, index with them, or fill memory on the way to nothing.

use super::Attack;
use super::pte::{OUT, T, U, W, X, bytes, int, ints, make, program};
use fuseline_program::instr::{Field, FloatOrVid, IntOrVidOrTid};
use fuseline_program::{Instruction, ScalarType, Tid};
use fuseline_tests::Result;

fn full(out: Tid, shape: &[i64], value: f64, dtype: ScalarType) -> Result<Instruction> {
    make(
        "Full",
        &[
            ("out", out.into()),
            ("v", Field::FloatOrVid(FloatOrVid::Float(value))),
            ("shape", ints(shape)),
            ("scalar_type", dtype.into()),
        ],
    )
}

fn pair(name: &str, a: Tid, b: Tid, out: Tid) -> Result<Instruction> {
    make(
        name,
        &[("a", a.into()), ("b", b.into()), ("out", out.into())],
    )
}

fn cast(x: Tid, out: Tid, dtype: ScalarType) -> Result<Instruction> {
    make(
        "AsType",
        &[
            ("x", x.into()),
            ("out", out.into()),
            ("scalar_type", dtype.into()),
        ],
    )
}

/// A convolution of ones, with these attributes.
fn convolution(name: &str, attributes: &[(&str, i64)]) -> Result<Vec<u8>> {
    let mut fields = vec![("x", T.into()), ("w", U.into()), ("out", OUT.into())];
    let attributes = attributes.iter().map(|(name, n)| (*name, (*n).into()));
    fields.extend(attributes);
    file(vec![
        full(T, &[1, 4, 4, 1], 1.0, ScalarType::F32)?,
        full(U, &[1, 2, 2, 1], 1.0, ScalarType::F32)?,
        make(name, &fields)?,
    ])
}

/// A program with this main chain, which fills the output.
fn file(main: Vec<Instruction>) -> Result<Vec<u8>> {
    bytes(&program(vec![main]))
}

/// All of them.
pub fn attacks() -> Result<Vec<Attack>> {
    let least = -9_223_372_036_854_775_808.0;
    let tids = |tid: Tid| Field::Tids(vec![tid]);
    let long = 0x7fff_ffff;
    Ok(vec![
        (
            "least_integer_divided_by_minus_one",
            file(vec![
                full(T, &[2, 3], least, ScalarType::I64)?,
                full(U, &[2, 3], -1.0, ScalarType::I64)?,
                pair("FloorDivide", T, U, OUT)?,
                pair("Remainder", T, U, T)?,
                pair("Add", OUT, T, OUT)?,
                cast(OUT, OUT, ScalarType::F32)?,
            ])?,
        ),
        (
            "triangle_of_no_columns",
            file(vec![
                make(
                    "Tri",
                    &[
                        ("out", T.into()),
                        ("n", int(0x7fff_ffff)),
                        ("m", int(0)),
                        ("scalar_type", ScalarType::I64.into()),
                    ],
                )?,
                make("IdCopy", &[("x", X.into()), ("out", OUT.into())])?,
            ])?,
        ),
        (
            "attention_to_no_heads",
            file(vec![
                full(T, &[1, 0, 2, 3], 1.0, ScalarType::F32)?,
                make(
                    "Sdpa",
                    &[
                        ("q", T.into()),
                        ("k", T.into()),
                        ("v", T.into()),
                        ("out", OUT.into()),
                        ("scale", Field::F32(1.0)),
                    ],
                )?,
            ])?,
        ),
        (
            "arange_over_all_integers",
            file(vec![
                make(
                    "Arange",
                    &[
                        ("out", T.into()),
                        ("start", int(i64::MIN)),
                        ("stop", int(i64::MAX)),
                        ("step", int(i64::MAX / 2)),
                        ("scalar_type", ScalarType::I64.into()),
                    ],
                )?,
                make("IdCopy", &[("x", X.into()), ("out", OUT.into())])?,
            ])?,
        ),
        (
            "convolution_whose_window_overflows",
            convolution(
                "ConvTranspose2D",
                &[("padding_w", long), ("dilation_w", long)],
            )?,
        ),
        (
            "convolution_with_gaps_beyond_counting",
            convolution("ConvTranspose2D", &[("stride_h", long)])?,
        ),
        (
            "convolution_of_a_little_in_a_wide_margin",
            convolution(
                "Conv2D",
                &[
                    ("padding_h", 1 << 29),
                    ("padding_w", 1 << 29),
                    ("stride_h", 1 << 29),
                    ("stride_w", 1 << 29),
                ],
            )?,
        ),
        (
            "computed_index_out_of_range",
            file(vec![
                cast(X, T, ScalarType::I32)?,
                make(
                    "Take",
                    &[
                        ("x", W.into()),
                        ("out", OUT.into()),
                        ("index", Field::IntOrVidOrTid(IntOrVidOrTid::Tid(T))),
                        ("axis", 0_i64.into()),
                    ],
                )?,
            ])?,
        ),
        (
            "gathered_part_beyond_the_axis",
            file(vec![
                full(T, &[2], 2.0, ScalarType::I32)?,
                make(
                    "Gather",
                    &[
                        ("x", X.into()),
                        ("indices", tids(T)),
                        ("out", OUT.into()),
                        ("axes", Field::Ints(vec![1])),
                        ("slice_sizes", Field::Ints(vec![1, 2])),
                    ],
                )?,
            ])?,
        ),
        (
            "matrix_that_is_not_there",
            file(vec![
                full(T, &[2, 3, 3], 1.0, ScalarType::F32)?,
                full(U, &[2], 2.0, ScalarType::U32)?,
                make(
                    "GatherMm",
                    &[
                        ("a", T.into()),
                        ("b", T.into()),
                        ("out", OUT.into()),
                        ("rhs_indices", U.into()),
                    ],
                )?,
            ])?,
        ),
    ])
}
