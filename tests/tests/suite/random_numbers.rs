//! Random numbers: the same bits in reference evaluation and on MLX, as the seed says, and distributed as PyTorch's documentation says.
//!
//! The seed is fixed, so each figure is the same in every run; the bounds are those that a right generator exceeds once in ten thousand seeds.

use fuseline_passes::Level;
use fuseline_tests::cases::{self, Array, Case};
use fuseline_tests::{Result, compare, roads};
use safetensors::Dtype;
use std::f64::consts::SQRT_2;

fn case() -> Result<Case> {
    cases::find("random/draws")
}

fn seeded(case: &Case, seed: i64) -> Result<Vec<Vec<Array>>> {
    let mut calls = case.inputs()?;
    for inputs in &mut calls {
        inputs.push(Array {
            dtype: Dtype::I64,
            shape: Vec::new(),
            bytes: seed.to_le_bytes().to_vec(),
        });
    }
    Ok(calls)
}

/// The outputs of the case's first form in reference evaluation.
fn draws(seed: i64) -> Result<Vec<Array>> {
    let case = case()?;
    let graph = roads::imported(&case.folder.join("model.pt2"))?;
    let calls = roads::evaluate(&graph, &seeded(&case, seed)?)?;
    Ok(calls.into_iter().flatten().collect())
}

#[test]
fn mlx_draws_the_numbers_of_the_reference() -> Result {
    draws_as_the_reference(&case()?)
}

#[test]
fn each_round_of_a_loop_draws_numbers_of_its_own() -> Result {
    let case = cases::find("random/rounds")?;
    draws_as_the_reference(&case)?;
    let graph = roads::imported(&case.folder.join("model.pt2"))?;
    let calls = roads::evaluate(&graph, &seeded(&case, 7)?)?;
    let [first, second] = calls.as_slice() else {
        return Err("two calls".into());
    };
    let (above, below) = (numbers(&first[0]), numbers(&second[0]));
    assert!(above.iter().all(|x| *x >= 0.0) && below.iter().all(|x| *x <= 0.0));
    let all = numbers(&first[1]);
    let rows: Vec<&[f64]> = all.chunks(4).collect();
    assert_eq!(rows.len(), 5);
    for (at, row) in rows.iter().enumerate() {
        assert!(
            !rows[..at].contains(row),
            "round {at} repeats another: {rows:?}"
        );
    }
    Ok(())
}

/// Every form, at every level, on MLX, against the reference evaluation of the same form.
fn draws_as_the_reference(case: &Case) -> Result {
    let calls = seeded(case, 12345)?;
    let folder = tempfile::tempdir()?;
    for (form, path) in case.forms() {
        let want = roads::evaluate(&roads::imported(&path)?, &calls)?;
        for level in Level::ALL {
            let program = folder.path().join("model.pte");
            roads::compile_to(&path, level, &program)?;
            let got = roads::replay(&program, &calls)?;
            compare::check_calls(&got, &want, compare::tolerance(case))
                .map_err(|error| format!("{form} at {level}: {error}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_seed_decides_and_calls_differ() -> Result {
    let (one, again, other) = (draws(7)?, draws(7)?, draws(8)?);
    assert_eq!(one, again);
    for (number, (a, b)) in one.iter().zip(&other).enumerate() {
        assert_ne!(a, b, "output {number} does not depend on the seed");
    }
    assert_ne!(
        one[0], one[1],
        "two calls of one kind draw the same numbers"
    );
    assert_ne!(one[0], other[1], "calls of runs with neighbouring seeds do");
    Ok(())
}

/// The elements of an output as numbers.
fn numbers(array: &Array) -> Vec<f64> {
    let words = |n: usize| array.bytes.chunks_exact(n);
    match array.dtype {
        Dtype::F32 => words(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect(),
        Dtype::F16 => words(2)
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64())
            .collect(),
        Dtype::BF16 => words(2)
            .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f64())
            .collect(),
        _ => words(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f64)
            .collect(),
    }
}

/// Kolmogorov and Smirnov: how far the share of numbers up to x lies from the distribution function, at most.
fn follows(name: &str, array: &Array, cdf: impl Fn(f64) -> f64) {
    let mut x = numbers(array);
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let gap = x.iter().enumerate().fold(0.0f64, |gap, (i, x)| {
        let p = cdf(*x);
        gap.max((p - i as f64 / n).abs())
            .max(((i + 1) as f64 / n - p).abs())
    });
    // Halves round to steps of up to 2⁻⁸.
    let coarse = if array.dtype == Dtype::BF16 {
        2f64.powi(-8)
    } else {
        0.0
    };
    assert!(gap < 2.23 / n.sqrt() + coarse, "{name}: {gap}");
}

/// Whether each value occurs as often as its probability says, within four standard deviations.
fn occurs(name: &str, array: &Array, probabilities: &[(f64, f64)]) {
    let x = numbers(array);
    let n = x.len() as f64;
    let mut seen = 0.0;
    for (value, p) in probabilities {
        let count = x.iter().filter(|x| (*x - value).abs() < 1e-6).count() as f64;
        let bound = 4.0 * (n * p * (1.0 - p)).sqrt();
        assert!(
            (count - n * p).abs() <= bound,
            "{name}: {count} times {value} of {n}"
        );
        seen += count;
    }
    let total: f64 = probabilities.iter().map(|(_, p)| p).sum();
    assert!(
        total < 0.999 || seen == n,
        "{name}: other values than those expected"
    );
}

/// The normal distribution function, by Abramowitz and Stegun's 7.1.26 (error below 1.5·10⁻⁷).
fn normal(x: f64) -> f64 {
    let z = x.abs() / SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let fit = [
        0.254829592,
        -0.284496736,
        1.421413741,
        -1.453152027,
        1.061405429,
    ];
    let sum = fit.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    let upper = 0.5 * sum * (-z * z).exp();
    if x < 0.0 { upper } else { 1.0 - upper }
}

#[test]
fn distributions() -> Result {
    let out = draws(2024)?;
    follows("rand", &out[0], |x| x);
    follows("randn", &out[2], normal);
    let faces: Vec<_> = (3..11).map(|n| (f64::from(n), 0.125)).collect();
    occurs("randint", &out[3], &faces);
    let mut order = numbers(&out[4]);
    let moved = order
        .iter()
        .enumerate()
        .filter(|(i, x)| **x != *i as f64)
        .count();
    assert!(moved > order.len() - 10, "randperm moves {moved}");
    order.sort_by(f64::total_cmp);
    assert!(order.iter().enumerate().all(|(i, x)| *x == i as f64));
    occurs("bernoulli", &out[5], &[(0.0, 0.75), (1.0, 0.25)]);
    follows("uniform_", &out[6], |x| (x + 2.0) / 5.0);
    follows("normal", &out[7], |x| normal((x - 2.0) / 3.0));
    follows("exponential_", &out[8], |x| 1.0 - (-2.0 * x).exp());
    occurs(
        "dropout",
        &out[9],
        &[(0.0, 0.3), (f64::from(1.0f32 / 0.7), 0.7)],
    );
    let weights = [(0.0, 0.125), (1.0, 0.25), (2.0, 0.0), (3.0, 0.625)];
    occurs("multinomial", &out[10], &weights);
    for row in numbers(&out[11]).chunks(3) {
        let mut row = row.to_vec();
        row.sort_by(f64::total_cmp);
        assert_eq!(
            row,
            [0.0, 1.0, 3.0],
            "without replacement, what has no weight is not drawn"
        );
    }
    let first: Vec<u8> = out[11]
        .bytes
        .chunks(24)
        .flat_map(|row| &row[..8])
        .copied()
        .collect();
    let first = Array {
        shape: vec![first.len() / 8],
        bytes: first,
        ..out[11].clone()
    };
    occurs(
        "the first of a multinomial without replacement",
        &first,
        &weights,
    );
    follows("rand in f16", &out[12], |x| x);
    let trials: Vec<_> = (1..6)
        .map(|k| (f64::from(k), 0.4 * 0.6f64.powi(k - 1)))
        .collect();
    occurs("geometric_", &out[13], &trials);
    let p: f64 = 0.2;
    let alpha = 1.758_099_340_847_376_6;
    let scale = 1.0 / ((alpha * alpha * p + 1.0) * (1.0 - p)).sqrt();
    let (kept, low) = (alpha * scale * p, alpha * scale * (p - 1.0));
    occurs("alpha_dropout", &out[14], &[(kept, 0.8), (low, 0.2)]);
    follows("wide randint", &out[15], |x| x / 2f64.powi(40));
    follows("rand_like in bf16", &out[16], |x| x);
    for (number, array) in out.iter().enumerate() {
        if [0, 1, 12, 16].contains(&number) {
            let x = numbers(array);
            assert!(
                x.iter().all(|x| (0.0..1.0).contains(x)),
                "output {number} leaves [0, 1)"
            );
        }
    }
    // Neighbours are not related: the mean product of centred ones has standard deviation 1/(12·√n).
    let x = numbers(&out[0]);
    let product: f64 = x.windows(2).map(|w| (w[0] - 0.5) * (w[1] - 0.5)).sum();
    assert!((product / x.len() as f64).abs() < 4.0 / (12.0 * (x.len() as f64).sqrt()));
    Ok(())
}
