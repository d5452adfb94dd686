use super::*;
use crate::ops::testing::*;

const NAN: f64 = f64::NAN;

fn sum(axes: &[usize], keepdim: bool) -> Sum {
    Sum {
        axes: axes.to_vec(),
        keepdim,
    }
}

#[test]
fn sums_over_axes() {
    let x = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(
        run(sum(&[0], false), &[&x]).unwrap(),
        f(&[3], &[5.0, 7.0, 9.0])
    );
    assert_eq!(
        run(sum(&[1], true), &[&x]).unwrap(),
        f(&[2, 1], &[6.0, 15.0])
    );
    assert_eq!(run(sum(&[0, 1], false), &[&x]).unwrap(), f(&[], &[21.0]));
    assert_eq!(run(sum(&[], false), &[&x]).unwrap(), x);
    let mean = Mean {
        axes: vec![1],
        keepdim: false,
    };
    assert_eq!(run(mean, &[&x]).unwrap(), f(&[2], &[2.0, 5.0]));
    for bad in [
        sum(&[1, 0], false),
        sum(&[0, 0], false),
        sum(&[2], false),
        sum(&[usize::MAX], true),
    ] {
        assert!(run(bad, &[&x]).is_err());
    }
}

#[test]
fn sums_of_integers_are_i64() {
    let x = i(DType::U8, &[2], &[255, 255]);
    assert_eq!(
        run(sum(&[0], false), &[&x]).unwrap(),
        i(DType::I64, &[], &[510])
    );
    let t = i(DType::Bool, &[3], &[1, 1, 0]);
    assert_eq!(
        run(sum(&[0], false), &[&t]).unwrap(),
        i(DType::I64, &[], &[2])
    );
    assert_eq!(
        run(Cumsum { axis: 0 }, &[&t]).unwrap(),
        i(DType::I64, &[3], &[1, 2, 2])
    );
    let product = Prod {
        axes: vec![0],
        keepdim: false,
    };
    assert_eq!(run(product, &[&x]).unwrap(), i(DType::I64, &[], &[65025]));
    assert_eq!(
        nodes(&lowered(sum(&[0], false), &[type_of(&t)]).unwrap()),
        ["AsType", "Sum"]
    );
    assert_eq!(
        nodes(&lowered(sum(&[], false), &[type_of(&t)]).unwrap()),
        ["AsType"]
    );
    assert_eq!(
        lowered(sum(&[], false), &[type_of(&f(&[], &[1.0]))]).unwrap(),
        Lowering::Alias(0)
    );
    let half = Type::tensor(DType::BF16, vec![Dim::from(3i64)]);
    assert_eq!(
        nodes(&lowered(sum(&[0], false), &[half]).unwrap()),
        ["AsType", "Sum", "AsType"]
    );
}

#[test]
fn empty_reductions() {
    let x = f(&[0, 2], &[]);
    assert_eq!(run(sum(&[0], false), &[&x]).unwrap(), f(&[2], &[0.0, 0.0]));
    assert_eq!(
        run(
            Prod {
                axes: vec![0],
                keepdim: false
            },
            &[&x]
        )
        .unwrap(),
        f(&[2], &[1.0, 1.0])
    );
    assert!(
        run(
            Mean {
                axes: vec![0],
                keepdim: false
            },
            &[&x]
        )
        .unwrap()
        .to_f64()
        .iter()
        .all(|v| v.is_nan())
    );
    assert_eq!(
        run(
            All {
                axes: vec![0, 1],
                keepdim: false
            },
            &[&x]
        )
        .unwrap()
        .to_i64(),
        [1]
    );
    assert_eq!(
        run(
            Any {
                axes: vec![0, 1],
                keepdim: false
            },
            &[&x]
        )
        .unwrap()
        .to_i64(),
        [0]
    );
    assert!(
        run(
            Amax {
                axes: vec![0],
                keepdim: false
            },
            &[&x]
        )
        .is_err()
    );
    assert!(
        run(
            Argmax {
                axis: 0,
                keepdim: false
            },
            &[&x]
        )
        .is_err()
    );
    assert_eq!(
        run(
            Amax {
                axes: vec![1],
                keepdim: false
            },
            &[&x]
        )
        .unwrap()
        .shape(),
        [0]
    );
    assert_eq!(
        run(
            Argmin {
                axis: 1,
                keepdim: true
            },
            &[&x]
        )
        .unwrap()
        .shape(),
        [0, 1]
    );
    assert!(run(Cumsum { axis: 0 }, &[&x]).unwrap().is_empty());
    assert!(extremes(&x, &[0], false, true).is_err());
}

#[test]
fn extremes_know_nan_and_the_first_of_equals() {
    let x = f(&[2, 3], &[1.0, 3.0, 3.0, 0.0, NAN, 9.0]);
    let max = run(
        Amax {
            axes: vec![1],
            keepdim: false,
        },
        &[&x],
    )
    .unwrap()
    .to_f64();
    assert!(max[0] == 3.0 && max[1].is_nan());
    assert!(
        run(
            Amin {
                axes: vec![0, 1],
                keepdim: false
            },
            &[&x]
        )
        .unwrap()
        .to_f64()[0]
            .is_nan()
    );
    assert_eq!(
        run(
            Argmax {
                axis: 1,
                keepdim: true
            },
            &[&x]
        )
        .unwrap(),
        i(DType::I64, &[2, 1], &[1, 1])
    );
    assert_eq!(
        run(
            Argmin {
                axis: 0,
                keepdim: false
            },
            &[&x]
        )
        .unwrap(),
        i(DType::I64, &[3], &[1, 1, 0])
    );
    let u = i(DType::U64, &[2], &[5, -1]);
    assert_eq!(
        run(
            Argmax {
                axis: 0,
                keepdim: false
            },
            &[&u]
        )
        .unwrap()
        .to_i64(),
        [1]
    );
    assert!(
        run(
            Argmax {
                axis: 0,
                keepdim: false
            },
            &[&f(&[], &[1.0])]
        )
        .is_err()
    );
}

#[test]
fn quantifiers() {
    let x = f(&[2, 2], &[0.0, NAN, -0.0, 0.0]);
    assert_eq!(
        run(
            Any {
                axes: vec![1],
                keepdim: false
            },
            &[&x]
        )
        .unwrap()
        .to_i64(),
        [1, 0]
    );
    assert_eq!(
        run(
            All {
                axes: vec![0],
                keepdim: true
            },
            &[&x]
        )
        .unwrap()
        .to_i64(),
        [0, 0]
    );
    let any = Any {
        axes: vec![0],
        keepdim: false,
    };
    assert_eq!(
        nodes(&lowered(any, &[type_of(&x)]).unwrap()),
        ["AsType", "Any"]
    );
}

#[test]
fn running_sums() {
    let x = f(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(
        run(Cumsum { axis: 0 }, &[&x]).unwrap(),
        f(&[2, 2], &[1.0, 2.0, 4.0, 6.0])
    );
    assert_eq!(
        run(Cumsum { axis: 1 }, &[&x]).unwrap(),
        f(&[2, 2], &[1.0, 3.0, 3.0, 7.0])
    );
    assert!(run(Cumsum { axis: 2 }, &[&x]).is_err());
}

#[test]
fn logarithms_of_sums_of_exponentials() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let x = f(
        &[5, 2],
        &[1000.0, 1000.0, -inf, -inf, -inf, 3.0, inf, -inf, nan, inf],
    );
    let over = |axes: &[usize], keepdim| LogSumExp {
        axes: axes.to_vec(),
        keepdim,
    };
    let sums = run(over(&[1], false), &[&x]).unwrap().to_f64();
    let twice = f64::from((1000.0 + 2f64.ln()) as f32);
    assert_eq!(sums[..4], [twice, -inf, 3.0, inf]);
    assert!(sums[4].is_nan());
    assert_eq!(run(over(&[1], true), &[&x]).unwrap().shape(), [5, 1]);
    let y = f(&[2], &[1.5, -2.0]);
    assert_eq!(run(over(&[], false), &[&y]).unwrap(), y);
    assert!(run(over(&[0], false), &[&f(&[0], &[])]).is_err());
}
