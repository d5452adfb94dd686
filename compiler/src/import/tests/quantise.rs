//! Activations that are quantised by the model: TorchAO's numbers.

use super::*;

const U8: i64 = 1;
const I8: i64 = 2;

/// What TorchAO 0.18 on PyTorch 2.13 makes of `activations` in i8 with an `eps` of 10⁻⁵: dtype, mode, block, scales in f32, zero points, integers.
type Case = (
    i64,
    &'static str,
    [i64; 2],
    &'static [f32],
    &'static [i64],
    &'static [i64],
);

const CASES: &[Case] = &[
    (
        F32,
        "SYMMETRIC",
        [1, 8],
        &[0.024509804, 0.04509804, 0.04656863, 1e-05],
        &[0, 0, 0, 0],
        &[
            -128, -33, 61, -102, -8, 87, -76, 18, 127, 39, 90, 1, 53, 104, 15, 67, 114, 28, 78,
            127, 42, 91, 5, 55, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        F32,
        "SYMMETRIC",
        [2, 4],
        &[0.04509804, 0.036764707, 0.04656863, 0.033333335],
        &[0, 0, 0, 0],
        &[
            -69, -18, 33, -55, -5, 58, -51, 12, 127, 39, 90, 1, 65, 127, 19, 82, 114, 28, 78, 127,
            58, 127, 7, 77, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        F32,
        "SYMMETRIC_NO_CLIPPING_ERR",
        [1, 8],
        &[0.024414062, 0.04527559, 0.04675197, 1e-05],
        &[0, 0, 0, 0],
        &[
            -128, -33, 61, -102, -8, 87, -77, 18, 127, 39, 90, 1, 52, 104, 15, 66, 114, 28, 78,
            127, 41, 91, 5, 55, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        F32,
        "SYMMETRIC_NO_CLIPPING_ERR",
        [2, 4],
        &[0.04527559, 0.03690945, 0.04675197, 0.033464566],
        &[0, 0, 0, 0],
        &[
            -69, -18, 33, -55, -5, 58, -51, 12, 127, 39, 90, 1, 64, 127, 19, 81, 114, 28, 78, 127,
            58, 127, 7, 77, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        F32,
        "ASYMMETRIC",
        [1, 8],
        &[0.020588236, 0.02254902, 0.023284314, 1e-05],
        &[24, -128, -128, -128],
        &[
            -128, -15, 97, -97, 15, 127, -67, 45, 127, -50, 52, -125, -23, 80, -98, 5, 100, -72,
            28, 127, -45, 55, -117, -18, -128, -128, -128, -128, -128, -128, -128, -128,
        ],
    ),
    (
        F32,
        "ASYMMETRIC",
        [2, 4],
        &[0.034803923, 0.025735294, 0.023284314, 0.016666668],
        &[-38, -55, -128, -128],
        &[
            -128, -61, 5, -110, -62, 28, -128, -38, 127, 12, 79, -36, 37, 127, -28, 62, 100, -72,
            28, 127, -12, 127, -113, 26, -128, -128, -128, -128, -128, -128, -128, -128,
        ],
    ),
    (
        BF16,
        "SYMMETRIC",
        [1, 8],
        &[0.024536133, 0.045166016, 0.04663086, 1.001358e-05],
        &[0, 0, 0, 0],
        &[
            -127, -33, 61, -102, -8, 87, -76, 18, 127, 39, 90, 1, 53, 104, 15, 66, 114, 28, 78,
            127, 42, 91, 5, 55, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        BF16,
        "SYMMETRIC",
        [2, 4],
        &[0.045166016, 0.036865234, 0.04663086, 0.033447266],
        &[0, 0, 0, 0],
        &[
            -69, -18, 33, -55, -5, 58, -51, 12, 127, 39, 90, 1, 64, 127, 19, 81, 114, 28, 78, 127,
            58, 127, 7, 77, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        BF16,
        "SYMMETRIC_NO_CLIPPING_ERR",
        [1, 8],
        &[0.024414062, 0.045166016, 0.04663086, 1.001358e-05],
        &[0, 0, 0, 0],
        &[
            -128, -33, 61, -102, -8, 87, -77, 18, 127, 39, 90, 1, 53, 104, 15, 66, 114, 28, 78,
            127, 42, 91, 5, 55, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        BF16,
        "SYMMETRIC_NO_CLIPPING_ERR",
        [2, 4],
        &[0.045166016, 0.036865234, 0.04663086, 0.033447266],
        &[0, 0, 0, 0],
        &[
            -69, -18, 33, -55, -5, 58, -51, 12, 127, 39, 90, 1, 64, 127, 19, 81, 114, 28, 78, 127,
            58, 127, 7, 77, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ),
    (
        BF16,
        "ASYMMETRIC",
        [1, 8],
        &[0.020629883, 0.022583008, 0.02331543, 1.001358e-05],
        &[23, -128, -128, -128],
        &[
            -128, -16, 96, -98, 14, 126, -68, 44, 127, -51, 52, -125, -23, 80, -98, 5, 100, -72,
            27, 127, -45, 54, -117, -18, -128, -128, -128, -128, -128, -128, -128, -128,
        ],
    ),
    (
        BF16,
        "ASYMMETRIC",
        [2, 4],
        &[0.03491211, 0.025756836, 0.02331543, 0.016723633],
        &[-38, -55, -128, -128],
        &[
            -128, -61, 5, -110, -62, 28, -128, -38, 127, 12, 78, -36, 37, 127, -28, 61, 100, -72,
            27, 127, -12, 126, -113, 25, -128, -128, -128, -128, -128, -128, -128, -128,
        ],
    ),
];

/// Three rows that have both signs or only one, and one of zeros; bf16 holds them all.
fn activations() -> Vec<f64> {
    let at = |i: i64| match i {
        0..8 => f64::from((i * 37 % 101 - 50) as i32) / 16.0,
        8..24 => f64::from((i * 37 % 101 - 50) as i32) / 16.0 + 3.0,
        _ => 0.0,
    };
    (0..32).map(at).collect()
}

/// Activations of `dtype` in blocks, quantised to `target`: scales, zero points and integers.
fn program(dtype: i64, mode: &str, block: [i64; 2], target: i64) -> Program {
    let lists: Vec<i64> = match block {
        [1, 8] => vec![4],
        _ => vec![2, 2],
    };
    let element = |dtype: i64| json!({"as_scalar_type": dtype});
    let arguments = [
        ("input", t("x")),
        ("mapping_type", json!({"as_string": mode})),
        ("block_size", ints(&block)),
        ("target_dtype", element(target)),
        ("quant_min", int(-128)),
        ("quant_max", int(127)),
        ("eps", json!({"as_float": 1e-5})),
        ("scale_dtype", element(F32)),
        ("zero_point_dtype", element(target)),
    ];
    Program::default()
        .input("x", dense(dtype, &[4, 8]))
        .call(
            &[("s", dense(F32, &lists)), ("z", dense(target, &lists))],
            "torchao.choose_qparams_affine.default",
            &arguments,
        )
        .call(
            &[("q", dense(target, &[4, 8]))],
            "torchao.quantize_affine.default",
            &[
                ("input", t("x")),
                ("block_size", ints(&block)),
                ("scale", t("s")),
                ("zero_point", t("z")),
                ("output_dtype", element(target)),
                ("quant_min", int(-128)),
                ("quant_max", int(127)),
            ],
        )
        .output("s")
        .output("z")
        .output("q")
}

#[test]
fn every_mode_gives_the_numbers_that_torchao_gives() {
    for &(dtype, mode, block, scales, zeros, integers) in CASES {
        let own = if dtype == F32 {
            DType::F32
        } else {
            DType::BF16
        };
        let x = Tensor::floats(own, vec![4, 8], activations()).unwrap();
        let out = program(dtype, mode, block, I8).run(&[x]);
        let place = format!("{own} {mode} {block:?}");
        let scales: Vec<f64> = scales.iter().copied().map(f64::from).collect();
        assert_eq!(out[0].to_f64(), scales, "{place}");
        assert_eq!(out[1].to_i64(), zeros, "{place}");
        assert_eq!(out[2].to_i64(), integers, "{place}");
    }
}

#[test]
fn what_torchao_would_not_take_is_named() {
    let error =
        |mode: &str, block: [i64; 2], target: i64| program(F32, mode, block, target).error();
    assert!(error("LOGARITHMIC", [1, 8], I8).contains("scales chosen by the mode LOGARITHMIC"));
    assert!(error("ASYMMETRIC", [1, 3], I8).contains("an axis of size 8 in blocks of 3"));
    assert!(
        error("ASYMMETRIC", [1, 8], U8).contains("`quant_min` is -128, which u8 does not hold")
    );
    assert!(error("ASYMMETRIC", [1, 8], I32).contains("activations quantised to i32"));
}
