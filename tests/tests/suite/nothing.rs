//! Tensors without elements, where MLX's own loops would divide by zero or not end.

use fuseline_compiler::Quiet;
use fuseline_compiler::compile::compile_graph;
use fuseline_ir::{Tensor, text};
use fuseline_passes::{Level, PassCx};
use fuseline_tests::compare::{Tolerance, check};
use fuseline_tests::{Result, roads};

/// What the rows of a graph compute from `%0`, f32[2, s, 4], and its transpose `%1`, f32[2, 4, s].
const ROWS: &[&str] = &[
    "sort[axis=1](%0) : f32[2, s, 4]",
    "argsort[axis=1](%0) : i64[2, s, 4]",
    "sort[axis=2](%1) : f32[2, 4, s]",
    "cumsum[axis=1](%0) : f32[2, s, 4]",
    "cumsum[axis=1](%1) : f32[2, 4, s]",
    "argmax[axis=2, keepdim=false](%0) : i64[2, s]",
    "argmin[axis=1, keepdim=true](%1) : i64[2, 1, s]",
    "sum[axes=[1], keepdim=false](%1) : f32[2, s]",
    "sum[axes=[2], keepdim=false](%1) : f32[2, 4]",
    "sum[axes=[0, 1, 2], keepdim=false](%1) : f32[]",
    "prod[axes=[0, 2], keepdim=true](%1) : f32[1, 4, 1]",
    "mean[axes=[1], keepdim=true](%1) : f32[2, 1, s]",
    "amax[axes=[1], keepdim=false](%1) : f32[2, s]",
    "any[axes=[2], keepdim=false](%1) : bool[2, 4]",
    "all[axes=[0, 2], keepdim=false](%1) : bool[4]",
    "softmax[axis=1](%1) : f32[2, 4, s]",
    "softmax[axis=2](%1) : f32[2, 4, s]",
    "rms_norm[eps=1e-5](%0) : f32[2, s, 4]",
    "rms_norm[eps=1e-5](%1) : f32[2, 4, s]",
    "layer_norm[eps=1e-5](%1) : f32[2, 4, s]",
];

#[test]
fn operations_on_nothing_end_and_give_what_they_mean() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("nothing.pte");
    for row in ROWS {
        let text = format!(
            "graph \"forward\" {{\n  symbol s in 0..=4\n  %0 = input[name=\"x\", ty=f32[2, s, 4]] : f32[2, s, 4]\n  \
             %1 = transpose[perm=[0, 2, 1]](%0) : f32[2, 4, s]\n  %2 = {row}\n  output \"y\" = %2\n}}\n"
        );
        let graph = text::parse(&text).map_err(|e| format!("{row}: {e}"))?;
        let cx = PassCx::new(roads::target());
        compile_graph(&graph, Level::O1, &cx, &mut Quiet)?.write(&file, &mut Quiet)?;
        let x = Tensor::floats(fuseline_ir::DType::F32, vec![2, 0, 4], Vec::new())?;
        let want = graph.eval(std::slice::from_ref(&x), &graph.initial_states()?)?;
        let got = roads::replay(&file, &[vec![roads::from_tensor(&x)]])
            .map_err(|e| format!("{row}: {e}"))?;
        check(
            &got[0][0],
            &roads::from_tensor(&want.outputs[0]),
            Tolerance::Scaled(0.0),
        )
        .map_err(|e| format!("{row}: {e}"))?;
    }
    Ok(())
}
