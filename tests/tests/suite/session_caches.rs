//! Calls on caches that a session keeps: in order, once each, and none dropped, whatever a level makes of the rest.

use fuseline_compiler::Quiet;
use fuseline_compiler::compile::compile_graph;
use fuseline_ir::{DType, Scalar, Tensor, text};
use fuseline_passes::{Level, PassCx};
use fuseline_runtime::Program;
use fuseline_tests::{Result, bins, roads};

/// Two steps on layer 0, of which only the second is a result. A step whose result nothing reads, and two of constants alone, alike but for their layers: conditions of an input
/// and of a constant.
const STEPS: &str = r#"graph "forward" {
  %x = input[name="x", ty=f32[1, 1, 2, 4]]
  %at = input[name="at", ty=i64[2]]
  %two = full[value=2, ty=i64[2]]
  %next = add(%at, %two)
  %half = full[value=0.5, ty=f32[1, 1, 2, 4]]
  %k = mul(%x, %half)
  %a = update_and_attend[layer_id=0, scale=0.5, out_dtype=f32](%x, %x, %x, %at)
  %b = update_and_attend[layer_id=0, scale=0.5, out_dtype=f32](%x, %k, %k, %next, %a)
  %zero = arange[start=0, step=1, len=2, dtype=i64]
  %c = update_and_attend[layer_id=1, scale=0.5, out_dtype=f32](%half, %half, %half, %zero)
  %d = update_and_attend[layer_id=2, scale=0.5, out_dtype=f32](%half, %half, %half, %zero)
  %e = update_and_attend[layer_id=3, scale=0.5, out_dtype=f32](%x, %half, %half, %at)
  %same = after(%x, %e)
  %fixed = after(%half, %c, %d)
  output "y" = %b
  output "same" = %same
  output "fixed" = %fixed
}"#;

/// What that gives: the second step attends to the rows of both.
const WHOLE: &str = r#"graph "forward" {
  %x = input[name="x", ty=f32[1, 1, 2, 4]]
  %half = full[value=0.5, ty=f32[1, 1, 2, 4]]
  %k = mul(%x, %half)
  %rows = cat[axis=2](%x, %k)
  %y = sdpa[scale=0.5, causal=true](%x, %rows, %rows)
  output "y" = %y
  output "same" = %x
  output "fixed" = %half
}"#;

#[test]
fn every_level_keeps_the_calls_and_their_order() -> Result {
    let x = Tensor::from_fn(DType::F32, vec![1, 1, 2, 4], |i| {
        Scalar::float((i as f64).sin())
    })?;
    let at = Tensor::ints(DType::I64, vec![2], vec![0, 1])?;
    let want = text::parse(WHOLE)?.eval(std::slice::from_ref(&x), &Default::default())?;
    let graph = text::parse(STEPS)?;
    let folder = tempfile::tempdir()?;
    for level in Level::ALL {
        let file = folder.path().join(format!("{level}.pte"));
        let compiled = compile_graph(&graph, level, &PassCx::new(roads::target()), &mut Quiet)?;
        compiled.write(&file, &mut Quiet)?;
        let program = Program::open(&file)?;
        let inspected = bins::run("fuseline", ["inspect".as_ref(), file.as_os_str()])?;
        let calls = inspected.stdout.matches("= UpdateAndAttend").count();
        assert_eq!(calls, 5, "{level}: {}", inspected.stdout);
        let mut session = program.session()?;
        let inputs = [roads::from_tensor(&x), roads::from_tensor(&at)];
        // The second call of the program writes the same rows again.
        for _ in 0..2 {
            let got = roads::step(&mut session, &inputs)?;
            for (got, want) in got.iter().zip(&want.outputs) {
                let floats = got.bytes.chunks_exact(4);
                let floats = floats.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                for (got, want) in floats.zip(want.to_f64()) {
                    let off = (f64::from(got) - want).abs();
                    assert!(off < 1e-5, "{level}: {got}, not {want}");
                }
            }
        }
    }
    Ok(())
}
