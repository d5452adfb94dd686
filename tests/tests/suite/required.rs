//! Numbers that the data decide: where one leaves its range, the call fails with the number's name, its value and the range, on the reference and on MLX, and the
//! session goes on as if the call had not been.

use fuseline_compiler::Quiet;
use fuseline_compiler::compile::compile_graph;
use fuseline_ir::{Graph, Tensor, text};
use fuseline_passes::{Level, PassCx, optimise};
use fuseline_runtime::Program;
use fuseline_tests::{Result, roads};

/// What `i` and `j` give, and a state that counts calls: `i` chooses a row, `x[i:j]` is summed, and `2i` must lie within `x` too although nothing reads it.
const ROWS: &str = r#"graph "forward" {
  symbol s0 in 2..=9
  symbol u0 in 0..=6
  symbol u1 in 0..=inf
  state "calls" : i64[1]
  %x = input[name="x", ty=f32[s0, 2]]
  %i = input[name="i", ty=i64[]]
  %j = input[name="j", ty=i64[]]
  %u = item[symbol="u0"](%i)
  %v = item[symbol="u1"](%j)
  %rows = slice[axis=0, start=u0, stop=u1, step=1](%x)
  %sum = sum[axes=[0, 1], keepdim=false](%rows)
  %calls = state[name="calls", ty=i64[1]]
  %one = full[value=1, ty=i64[1]]
  %more = add(%calls, %one)
  require s0 - u1 in 0..=inf
  require u1 - u0 in 0..=inf
  require 2*u0 - s0 in -9223372036854775808..=-1
  next "calls" = %more
  output "sum" = %sum
}
"#;

const LEVELS: [Level; 3] = [Level::O0, Level::O1, Level::O2];

/// Positions, and what is said of them where they are refused.
const CALLS: [(usize, i64, i64, Option<&str>); 7] = [
    (4, 1, 3, None),
    (9, 7, 8, Some("u0 is 7, which must be 0 to 6")),
    (4, -1, 3, Some("u0 is -1, which must be 0 to 6")),
    (4, 1, 5, Some("s0 - u1 is -1, which must be 0 or more")),
    (4, 1, 0, Some("-u0 + u1 is -1, which must be 0 or more")),
    (4, 2, 3, Some("2*u0 is 0, which must be -1 or less")),
    (9, 4, 9, None),
];

fn inputs(rows: usize, i: i64, j: i64) -> Result<Vec<Tensor>> {
    let x: Vec<f64> = (0..2 * rows).map(|n| n as f64).collect();
    Ok(vec![
        Tensor::floats(fuseline_ir::DType::F32, vec![rows, 2], x)?,
        Tensor::ints(fuseline_ir::DType::I64, vec![], vec![i])?,
        Tensor::ints(fuseline_ir::DType::I64, vec![], vec![j])?,
    ])
}

fn sum(rows: i64, i: i64, j: i64) -> f64 {
    (2 * i..2 * j.min(rows)).map(|n| n as f64).sum()
}

#[test]
fn requirements_hold_on_the_reference_and_on_mlx() -> Result {
    let graph = text::parse(ROWS)?;
    graph.verify()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.pte");
    let cx = PassCx::new(roads::target());
    for level in LEVELS {
        compile_graph(&graph, level, &cx, &mut Quiet)?.write(&file, &mut Quiet)?;
        let mut session = Program::open(&file)?.session()?;
        let (optimised, _) = optimise(&graph, level, &cx, &mut |_, _| ())?;
        let mut done = 0;
        for (rows, i, j, refused) in CALLS {
            let given = inputs(rows, i, j)?;
            check_reference(&optimised, &given, refused)?;
            let given: Vec<_> = given.iter().map(roads::from_tensor).collect();
            let got = roads::step(&mut session, &given).map_err(|e| e.to_string());
            match (got, refused) {
                (Ok(got), None) => {
                    done += 1;
                    let want = sum(rows as i64, i, j) as f32;
                    assert_eq!(got[0].bytes, want.to_le_bytes(), "{level:?} {i} {j}");
                }
                (Err(said), Some(wanted)) => assert!(said.contains(wanted), "{level:?}: {said}"),
                (got, _) => return Err(format!("{level:?}, {i} to {j} of {rows}: {got:?}").into()),
            }
            let calls = roads::from_value(&session.state("calls")?.into())?;
            assert_eq!(calls.bytes, i64::to_le_bytes(done), "{level:?} {i} {j}");
        }
    }
    Ok(())
}

fn check_reference(graph: &Graph, given: &[Tensor], refused: Option<&str>) -> Result {
    match (graph.eval(given, &graph.initial_states()?), refused) {
        (Ok(_), None) | (Err(_), Some(_)) => Ok(()),
        (result, _) => Err(format!("{refused:?}, but {result:?}").into()),
    }
}
