use super::binary::{floor_div, log_add_exp, remainder};
use super::support::broadcast_sizes;
use super::*;
use crate::dtype::DType;
use crate::lower::Lowering;
use crate::ops::testing::*;
use crate::tensor::Tensor;
use crate::types::Type;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

#[test]
fn erf_is_exact_to_a_few_ulps() {
    // Values from tables of high precision.
    let table = [
        (0.0, 0.0),
        (1e-10, 1.1283791670955126e-10),
        (0.1, 0.1124629160182849),
        (0.5, 0.5204998778130465),
        (1.0, 0.8427007929497149),
        (1.5, 0.9661051464753108),
        (2.0, 0.9953222650189527),
        (2.5, 0.999593047982555),
        (3.0, 0.9999779095030014),
        (4.0, 0.9999999845827421),
        (7.0, 1.0),
        (INF, 1.0),
    ];
    for (x, y) in table {
        assert!(
            (erf(x) - y).abs() <= 1e-15 * y.abs(),
            "erf({x}) = {}, not {y}",
            erf(x)
        );
        assert_eq!(erf(-x), -erf(x));
    }
    assert!(erf(NAN).is_nan());
}

#[test]
fn rounding_and_signs() {
    let x = f(&[6], &[0.5, 1.5, 2.5, -0.5, -1.5, 3.7]);
    assert_eq!(
        run(Round {}, &[&x]).unwrap().to_f64(),
        [0.0, 2.0, 2.0, 0.0, -2.0, 4.0]
    );
    assert_eq!(
        run(Trunc {}, &[&x]).unwrap().to_f64(),
        [0.0, 1.0, 2.0, 0.0, -1.0, 3.0]
    );
    assert_eq!(
        run(Sign {}, &[&f(&[3], &[-INF, NAN, -0.0])])
            .unwrap()
            .to_f64(),
        [-1.0, 0.0, 0.0]
    );
    let big = i(DType::U64, &[2], &[-1, 0]);
    assert_eq!(run(Sign {}, &[&big]).unwrap().to_i64(), [1, 0]);
    assert_eq!(run(Abs {}, &[&big]).unwrap().to_i64(), [-1, 0]);
    assert_eq!(
        run(Abs {}, &[&i(DType::I8, &[1], &[-128])])
            .unwrap()
            .to_i64(),
        [-128]
    );
    assert_eq!(run(Floor {}, &[&big]).unwrap(), big);
    assert!(run(Neg {}, &[&i(DType::Bool, &[1], &[1])]).is_err());
    assert!(run(Exp {}, &[&big]).is_err());
}

#[test]
fn division_rounds_down() {
    let a = i(DType::I32, &[5], &[7, -7, 7, -7, 6]);
    let b = i(DType::I32, &[5], &[2, 2, -2, -2, 3]);
    assert_eq!(
        run(FloorDiv {}, &[&a, &b]).unwrap().to_i64(),
        [3, -4, -4, 3, 2]
    );
    assert_eq!(
        run(Remainder {}, &[&a, &b]).unwrap().to_i64(),
        [1, 1, -1, -1, 0]
    );
    let zero = i(DType::I32, &[], &[0]);
    assert!(run(FloorDiv {}, &[&a, &zero]).is_err());
    assert!(run(Remainder {}, &[&a, &zero]).is_err());
    let (least, minus) = (i(DType::I64, &[1], &[i64::MIN]), i(DType::I64, &[1], &[-1]));
    assert_eq!(
        run(FloorDiv {}, &[&least, &minus]).unwrap().to_i64(),
        [i64::MIN]
    );
    assert_eq!(run(Remainder {}, &[&least, &minus]).unwrap().to_i64(), [0]);
    let (most, two) = (i(DType::U64, &[1], &[-1]), i(DType::U64, &[1], &[2]));
    assert_eq!(
        run(FloorDiv {}, &[&most, &two]).unwrap().to_i64(),
        [i64::MAX]
    );
}

#[test]
fn float_division_is_not_fooled_by_rounding() {
    // The nearest double to 0.1 lies above it, so that the quotient lies below 10 although 1 / 0.1 rounds to 10.
    assert_eq!(floor_div(1.0, 0.1), 9.0);
    assert_eq!(floor_div(-1.0, 0.1), -10.0);
    assert_eq!(floor_div(7.5, 2.0), 3.0);
    assert_eq!(floor_div(-7.5, 2.0), -4.0);
    assert_eq!(floor_div(-7.5, -2.0), 3.0);
    assert_eq!(floor_div(1.0, 0.0), INF);
    assert_eq!(floor_div(-1.0, 0.0), -INF);
    assert_eq!(floor_div(-1.0, INF), -1.0);
    assert_eq!(floor_div(1.0, INF), 0.0);
    assert!(
        floor_div(0.0, 0.0).is_nan()
            && floor_div(INF, 2.0).is_nan()
            && floor_div(NAN, 1.0).is_nan()
    );
    assert_eq!(remainder(-1.0, 3.0), 2.0);
    assert_eq!(remainder(1.0, -3.0), -2.0);
    assert!(remainder(1.0, 0.0).is_nan());
}

#[test]
fn powers() {
    let a = f(&[4], &[-2.0, -2.0, 0.0, NAN]);
    let b = f(&[4], &[3.0, 0.5, -1.0, 0.0]);
    let out = run(Pow {}, &[&a, &b]).unwrap().to_f64();
    assert!(out[0] == -8.0 && out[1].is_nan() && out[2] == INF && out[3] == 1.0);
    let two = i(DType::I8, &[], &[2]);
    assert_eq!(
        run(Pow {}, &[&two, &i(DType::I8, &[3], &[0, 6, 7])])
            .unwrap()
            .to_i64(),
        [1, 64, -128]
    );
    assert!(run(Pow {}, &[&two, &i(DType::I8, &[], &[-1])]).is_err());
    let top = i(DType::I64, &[], &[i64::MAX]);
    assert_eq!(run(Pow {}, &[&top, &top]).unwrap().to_i64(), [i64::MAX]);
}

#[test]
fn extremes_and_comparisons_of_nan() {
    let (a, b) = (f(&[3], &[NAN, 1.0, -INF]), f(&[3], &[1.0, NAN, 2.0]));
    for op in [run(Maximum {}, &[&a, &b]), run(Minimum {}, &[&a, &b])] {
        let out = op.unwrap().to_f64();
        assert!(out[0].is_nan() && out[1].is_nan() && !out[2].is_nan());
    }
    assert_eq!(run(Ne {}, &[&a, &b]).unwrap().to_i64(), [1, 1, 1]);
    assert_eq!(run(Le {}, &[&a, &b]).unwrap().to_i64(), [0, 0, 1]);
    let (u, v) = (i(DType::U64, &[1], &[-1]), i(DType::U64, &[1], &[1]));
    assert_eq!(run(Gt {}, &[&u, &v]).unwrap().to_i64(), [1]);
    assert_eq!(run(LogicalNot {}, &[&a]).unwrap().to_i64(), [0, 0, 0]);
    assert_eq!(log_add_exp(-INF, -INF), -INF);
    assert_eq!(log_add_exp(INF, 1.0), INF);
    assert!((log_add_exp(1000.0, 1000.0) - 1000.0 - std::f64::consts::LN_2).abs() < 1e-12);
    assert!(log_add_exp(NAN, 1.0).is_nan());
}

#[test]
fn casts() {
    let x = f(&[5], &[-1.9, 1.9, NAN, 300.0, 0.5]);
    assert_eq!(
        run(Cast { dtype: DType::I32 }, &[&x]).unwrap().to_i64(),
        [-1, 1, 0, 300, 0]
    );
    assert_eq!(
        run(Cast { dtype: DType::U8 }, &[&x]).unwrap().to_i64(),
        [255, 1, 0, 44, 0]
    );
    assert_eq!(
        run(Cast { dtype: DType::Bool }, &[&x]).unwrap().to_i64(),
        [1, 1, 1, 1, 1]
    );
    let top = i(DType::U64, &[1], &[-1]);
    let there = run(Cast { dtype: DType::F64 }, &[&top]).unwrap();
    assert_eq!(there.to_f64(), [18446744073709551616.0]);
    assert_eq!(
        run(Cast { dtype: DType::U64 }, &[&there]).unwrap().to_i64(),
        [-1]
    );
    let f32_type = Type::tensor(DType::F32, vec![]);
    assert_eq!(
        lowered(Cast { dtype: DType::F32 }, &[f32_type]).unwrap(),
        Lowering::Alias(0)
    );
}

#[test]
fn shapes_broadcast_and_dtypes_agree() {
    let (a, b) = (f(&[2, 1], &[1.0, 2.0]), f(&[3], &[10.0, 20.0, 30.0]));
    let sum = run(Add {}, &[&a, &b]).unwrap();
    assert_eq!(
        (sum.shape(), sum.to_f64()),
        (&[2, 3][..], vec![11.0, 21.0, 31.0, 12.0, 22.0, 32.0])
    );
    let empty = run(Add {}, &[&f(&[0], &[]), &f(&[1], &[1.0])]).unwrap();
    assert_eq!(empty.shape(), [0]);
    assert!(run(Add {}, &[&f(&[2], &[1.0, 2.0]), &b]).is_err());
    assert!(run(Add {}, &[&a, &i(DType::I32, &[], &[1])]).is_err());
    assert!(
        run(
            Add {},
            &[&i(DType::Bool, &[], &[1]), &i(DType::Bool, &[], &[1])]
        )
        .is_err()
    );
    let cond = i(DType::Bool, &[2, 1, 1], &[1, 0]);
    let picked = run(Where {}, &[&cond, &a, &b]).unwrap();
    assert_eq!(picked.shape(), [2, 2, 3]);
    assert_eq!(picked.to_f64()[..6], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    assert!(run(Where {}, &[&a, &a, &b]).is_err());
    assert!(broadcast_sizes(&[1 << 20, 1], &[1, 1 << 20]).is_err());
}

#[test]
fn integers_wrap_and_bits_are_bits() {
    let (a, b) = (i(DType::U8, &[1], &[200]), i(DType::U8, &[1], &[100]));
    assert_eq!(run(Add {}, &[&a, &b]).unwrap().to_i64(), [44]);
    assert_eq!(run(Sub {}, &[&b, &a]).unwrap().to_i64(), [156]);
    assert_eq!(run(BitwiseNot {}, &[&a]).unwrap().to_i64(), [55]);
    let t = i(DType::Bool, &[2], &[1, 0]);
    assert_eq!(run(BitwiseNot {}, &[&t]).unwrap().to_i64(), [0, 1]);
    assert_eq!(run(BitwiseXor {}, &[&t, &t]).unwrap().to_i64(), [0, 0]);
    let xor = lowered(BitwiseXor {}, &[type_of(&t), type_of(&t)]).unwrap();
    assert_eq!(nodes(&xor), ["NotEqual"]);
    let least = i(DType::I64, &[1], &[i64::MIN]);
    assert_eq!(run(Mul {}, &[&least, &least]).unwrap().to_i64(), [0]);
    assert!(run(BitwiseAnd {}, &[&f(&[], &[1.0]), &f(&[], &[1.0])]).is_err());
}

#[test]
fn fused_activations_mean_their_decomposition() {
    let data: Vec<f64> = (-40..=40).map(|n| f64::from(n) / 5.0).collect();
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let x = Tensor::floats(dtype, vec![81], data.clone()).unwrap();
        let tolerance = if dtype.size() == 2 { 1e-2 } else { 1e-5 };
        for (a, b) in [
            both_ways(Silu {}, &[&x]),
            both_ways(Gelu { tanh: false }, &[&x]),
            both_ways(Gelu { tanh: true }, &[&x]),
            both_ways(Erfc {}, &[&x]),
        ] {
            assert_close(&a, &b, tolerance);
        }
    }
}

#[test]
fn erfc_keeps_its_digits() {
    for (x, y) in [
        (-3.0, 1.999977909503001),
        (0.5, 0.4795001221869535),
        (2.0, 0.004677734981047266),
        (9.0, 4.13703174651381e-37),
        (f64::INFINITY, 0.0),
        (f64::NEG_INFINITY, 2.0),
    ] {
        let out = run(Erfc {}, &[&f(&[], &[x])]).unwrap().get(0).as_f64();
        assert!((out - y).abs() <= 1e-6 * y, "{x}: {out}");
    }
}
