//! The demo's model, a trained Llama in bfloat16: the whole road at every level, against the logits and the greedy tokens that eager PyTorch gave.

use fuseline_compiler::{Options, Quiet, compile};
use fuseline_passes::{Level, PassCx};
use fuseline_program::Pte;
use fuseline_runtime::Program;
use fuseline_tests::cases::{Array, read_calls};
use fuseline_tests::{Result, compare, roads, workspace};
use safetensors::Dtype;
use serde_json::Value;
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    workspace::fixtures().join("stdlib-llama").join(name)
}

/// The tolerance of bfloat16.
const TOLERANCE: compare::Tolerance = compare::Tolerance::Scaled(3e-2);

fn ints(shape: &[usize], values: &[i64]) -> Array {
    Array {
        dtype: Dtype::I64,
        shape: shape.to_vec(),
        bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// The token of the largest logit at the last position.
fn greedy(logits: &Array) -> Result<i64> {
    let values = compare::to_f64(logits).ok_or("logits that are no numbers")?;
    let vocabulary = *logits.shape.last().ok_or("logits without a shape")?;
    let last = &values[values.len() - vocabulary..];
    let best = (0..vocabulary).fold(0, |best, i| if last[i] > last[best] { i } else { best });
    Ok(i64::try_from(best)?)
}

#[test]
fn the_logits_are_pytorchs_at_every_level() -> Result {
    let reference = file("stdlib-llama-bf16.reference.safetensors");
    let (inputs, outputs) = (
        read_calls(&reference, "in")?,
        read_calls(&reference, "out")?,
    );
    let folder = tempfile::tempdir()?;
    for level in Level::ALL {
        let program = folder.path().join("model.pte");
        roads::compile_to(&file("stdlib-llama-bf16.pt2"), level, &program)?;
        let got = roads::replay(&program, &inputs)?;
        compare::check_calls(&got, &outputs, TOLERANCE).map_err(|e| format!("{level}: {e}"))?;
    }
    Ok(())
}

#[test]
fn the_greedy_tokens_are_pytorchs() -> Result {
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(file("stdlib-llama-bf16.greedy.json"))?)?;
    let list = |key: &str| -> Result<Vec<i64>> {
        let items = recorded[key]
            .as_array()
            .ok_or_else(|| format!("no {key}"))?;
        Ok(items.iter().filter_map(Value::as_i64).collect())
    };
    let (prompt, want) = (list("prompt_ids")?, list("greedy")?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.pte");
    roads::compile_to(&file("stdlib-llama-bf16.pt2"), Level::O2, &path)?;
    let program = Program::open(&path)?;
    // Two sessions of one program, in turns: each has its own cache.
    let mut sessions = [program.session()?, program.session()?];
    for session in &mut sessions {
        let positions: Vec<i64> = (0..).take(prompt.len()).collect();
        let mut step = vec![
            ints(&[1, prompt.len()], &prompt),
            ints(&[prompt.len()], &positions),
        ];
        let mut at = i64::try_from(prompt.len())?;
        let mut got = Vec::new();
        while got.len() < want.len() {
            let token = greedy(roads::step(session, &step)?.first().ok_or("no logits")?)?;
            got.push(token);
            step = vec![ints(&[1, 1], &[token]), ints(&[1], &[at])];
            at += 1;
        }
        assert_eq!(got, want);
    }
    Ok(())
}

#[test]
fn everything_that_can_be_fused_is() -> Result {
    let cx = PassCx::new(roads::target());
    let options = Options::new(file("stdlib-llama-bf16.pt2"), Level::O2, cx);
    let compiled = compile(&options, &mut Quiet)?;
    let count = |name: &str| {
        let live = compiled.graph.live();
        compiled
            .graph
            .values()
            .filter(|(v, n)| live[v.index()] && n.op.info().name == name)
            .count()
    };
    assert_eq!(count("rms_norm"), 9);
    assert_eq!(count("sdpa"), 4);
    assert!(count("rope") <= 8, "{} rope", count("rope"));
    for gone in ["pow", "square", "mean", "rsqrt", "neg", "concat", "cat"] {
        assert_eq!(count(gone), 0, "{gone}");
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.pte");
    compiled.write(&path, &mut Quiet)?;
    let bytes = std::fs::read(&path)?;
    let pte = Pte::parse(&bytes)?;
    pte.validate()?;
    Ok(())
}
