//! Quantised weights: what they stand for does not depend on the form that they are brought to.

use super::*;

const U8: i64 = 1;
const I8: i64 = 2;
const E4M3: i64 = 29;
const E8M0: i64 = 33;
const U32: i64 = 34;

/// `q [rows, width]` dequantised in blocks, with zero points: the imported graph and its result.
fn affine(
    bits: u32,
    rows: i64,
    width: i64,
    block: &[i64],
    zeros: &[i8],
) -> (Graph, Vec<f64>, Vec<f64>) {
    let half = 1i64 << (bits - 1);
    let groups = [rows / block[0], width / block[1]];
    let count = (groups[0] * groups[1]) as usize;
    let q: Vec<i64> = (0..rows * width)
        .map(|i| (i * 7 + i / 5) % (2 * half) - half)
        .collect();
    let scales: Vec<f32> = (0..count).map(|g| 0.25 + g as f32 * 0.125).collect();
    let program = Program::default()
        .buffer("q", dense(I8, &[rows, width]))
        .buffer("s", dense(F32, &groups))
        .buffer("z", dense(I8, &groups))
        .call(
            &[("w", dense(F32, &[rows, width]))],
            "torchao.dequantize_affine.default",
            &[
                ("input", t("b_q")),
                ("block_size", ints(block)),
                ("scale", t("b_s")),
                ("zero_point", t("b_z")),
                ("input_dtype", json!({"as_scalar_type": I8})),
                ("quant_min", int(-half)),
                ("quant_max", int(half - 1)),
            ],
        )
        .output("w");
    let zeros: Vec<i8> = (0..count).map(|g| zeros[g % zeros.len()]).collect();
    let weights = [
        Weight {
            fqn: "q",
            dtype: I8,
            sizes: &[rows, width],
            bytes: q.iter().map(|q| *q as u8).collect(),
        },
        Weight {
            fqn: "s",
            dtype: F32,
            sizes: &groups,
            bytes: floats(scales.iter().copied()),
        },
        Weight {
            fqn: "z",
            dtype: I8,
            sizes: &groups,
            bytes: zeros.iter().map(|z| *z as u8).collect(),
        },
    ];
    let graph = program.import(&weights).unwrap();
    graph.verify().unwrap();
    let result = graph.eval(&[], &BTreeMap::new()).unwrap().outputs[0].to_f64();
    let group = |i: i64| ((i / width / block[0]) * groups[1] + i % width / block[1]) as usize;
    let expected = (0..rows * width)
        .map(|i| (q[i as usize] - i64::from(zeros[group(i)])) as f64 * f64::from(scales[group(i)]));
    let expected = expected.collect();
    (graph, result, expected)
}

fn dequantize(graph: &Graph) -> Option<&op::Dequantize> {
    graph.nodes().iter().find_map(|node| match &node.op {
        fuseline_ir::Op::Dequantize(op) => Some(op),
        _ => None,
    })
}

#[test]
fn groups_along_rows_are_packed_in_every_width() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for (block, group) in [(32, 32), (64, 64), (128, 128), (256, 128), (96, 32)] {
            let width = block * 2;
            let (graph, result, expected) = affine(bits, 3, width, &[1, block], &[0, 1, -1]);
            let op = dequantize(&graph).unwrap();
            assert_eq!(
                (op.bits, op.group),
                (bits as usize, group),
                "{bits} bits, blocks of {block}"
            );
            let close = result
                .iter()
                .zip(&expected)
                .all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
            assert!(close, "{bits} bits, blocks of {block}");
        }
    }
}

#[test]
fn widths_that_mlx_lacks_take_the_next_one() {
    let (graph, result, expected) = affine(7, 1, 64, &[1, 64], &[0]);
    assert_eq!(dequantize(&graph).unwrap().bits, 8);
    assert_eq!(result, expected);
}

#[test]
fn other_blocks_are_plain_arithmetic() {
    for block in [[1, 16], [2, 32], [3, 1], [3, 64]] {
        let (graph, result, expected) = affine(4, 6, 64, &block, &[0, 3]);
        assert!(dequantize(&graph).is_none(), "{block:?}");
        assert_eq!(result, expected, "{block:?}");
    }
}

#[test]
fn integers_outside_their_range_are_an_error_when_they_are_packed() {
    let program = Program::default()
        .buffer("q", dense(I8, &[1, 32]))
        .buffer("s", dense(F32, &[1, 1]))
        .call(
            &[("w", dense(F32, &[1, 32]))],
            "torchao.dequantize_affine.default",
            &[
                ("input", t("b_q")),
                ("block_size", ints(&[1, 32])),
                ("scale", t("b_s")),
                ("zero_point", json!({"as_none": true})),
                ("input_dtype", json!({"as_scalar_type": I8})),
                ("quant_min", int(-8)),
                ("quant_max", int(7)),
            ],
        )
        .output("w");
    let weights = [
        Weight {
            fqn: "q",
            dtype: I8,
            sizes: &[1, 32],
            bytes: vec![9; 32],
        },
        Weight {
            fqn: "s",
            dtype: F32,
            sizes: &[1, 1],
            bytes: floats([1.0]),
        },
    ];
    let graph = program.import(&weights).unwrap();
    let packed = graph.constants.get("q.packed").unwrap();
    let error = packed.data.as_ref().unwrap().bytes().unwrap_err();
    assert_eq!(
        error,
        "`q` holds 9, which is not among the 16 values from -8 on"
    );
}

#[test]
fn nibbles_with_scales_groups_first() {
    // Rows 0 and 1 hold 0, 1, …, 15 twice; scales and zeros are [groups, rows].
    let program = Program::default()
        .buffer("q", dense(U8, &[2, 32]))
        .buffer("s", dense(F32, &[2, 2]))
        .buffer("z", dense(F32, &[2, 2]))
        .call(
            &[("w", dense(F32, &[2, 64]))],
            "torchao.dequantize_int4_tensor.default",
            &[
                ("qdata", t("b_q")),
                ("scale", t("b_s")),
                ("zero_point", t("b_z")),
                ("group_size", int(32)),
                ("output_dtype", json!({"as_scalar_type": F32})),
            ],
        )
        .output("w");
    let bytes: Vec<u8> = (0..64)
        .map(|i| (2 * i % 16) | ((2 * i + 1) % 16 * 16))
        .collect();
    let weights = [
        Weight {
            fqn: "q",
            dtype: U8,
            sizes: &[2, 32],
            bytes,
        },
        Weight {
            fqn: "s",
            dtype: F32,
            sizes: &[2, 2],
            bytes: floats([1.0, 2.0, 4.0, 8.0]),
        },
        Weight {
            fqn: "z",
            dtype: F32,
            sizes: &[2, 2],
            bytes: floats([0.0, 8.0, 1.0, 7.5]),
        },
    ];
    let graph = program.import(&weights).unwrap();
    assert!(dequantize(&graph).is_some());
    let out = graph.eval(&[], &BTreeMap::new()).unwrap().outputs[0].to_f64();
    // Row 0: group 0 is q, group 1 is 4(q − 1); row 1: 2(q − 8) and 8(q − 7.5).
    assert_eq!(
        [out[5], out[32], out[64], out[127]],
        [5.0, -4.0, -16.0, 60.0]
    );
}

#[test]
fn small_floats_keep_their_bytes() {
    let nvfp4 = Program::default()
        .buffer("q", dense(U32, &[1, 4]))
        .buffer("s", dense(U8, &[1, 2]))
        .buffer("p", dense(F32, &[]))
        .call(
            &[("w", dense(F32, &[1, 32]))],
            "torchao.dequantize_nvfp4.default",
            &[
                ("qdata", t("b_q")),
                ("scale", t("b_s")),
                ("per_tensor_scale", t("b_p")),
                ("block_size", int(16)),
            ],
        )
        .output("w");
    let bytes: Vec<u8> = (0..16)
        .map(|i| (2 * i % 16) | ((2 * i + 1) % 16 * 16))
        .collect();
    let weights = [
        Weight {
            fqn: "q",
            dtype: U32,
            sizes: &[1, 4],
            bytes,
        },
        Weight {
            fqn: "s",
            dtype: U8,
            sizes: &[1, 2],
            bytes: vec![0x38, 0x40],
        },
        Weight {
            fqn: "p",
            dtype: F32,
            sizes: &[],
            bytes: floats([0.5]),
        },
    ];
    let graph = nvfp4.import(&weights).unwrap();
    let out = graph.eval(&[], &BTreeMap::new()).unwrap().outputs[0].to_f64();
    assert_eq!([out[7], out[15], out[16 + 7]], [3.0, -3.0, 6.0]);

    let mx = Program::default()
        .buffer("q", dense(E4M3, &[1, 32]))
        .buffer("s", dense(E8M0, &[1, 1]))
        .call(
            &[("w", dense(F32, &[1, 32]))],
            "torchao.dequantize_mx.default",
            &[
                ("qdata", t("b_q")),
                ("scale", t("b_s")),
                ("elem_dtype", json!({"as_scalar_type": E4M3})),
                ("block_size", int(32)),
            ],
        )
        .output("w");
    let weights = [
        Weight {
            fqn: "q",
            dtype: E4M3,
            sizes: &[1, 32],
            bytes: (0x38..0x58).collect(),
        },
        Weight {
            fqn: "s",
            dtype: E8M0,
            sizes: &[1, 1],
            bytes: vec![128],
        },
    ];
    let graph = mx.import(&weights).unwrap();
    let out = graph.eval(&[], &BTreeMap::new()).unwrap().outputs[0].to_f64();
    assert_eq!([out[0], out[1], out[8]], [2.0, 2.25, 4.0]);
}
