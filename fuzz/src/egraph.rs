//! Graphs at random, and whether what is made of them computes the same: the drawing and the reference of the test suite, without MLX.

#[expect(dead_code, reason = "the tests use all of it")]
#[path = "../../passes/tests/common/mod.rs"]
mod common;
#[path = "../../tests/tests/suite/random/control.rs"]
mod control;
#[path = "../../tests/tests/suite/random/draw.rs"]
mod draw;
#[path = "../../passes/tests/common/graphs.rs"]
mod graphs;
#[path = "../../tests/tests/suite/random/reference.rs"]
mod reference;

use fuseline_ir::{Graph, Op, Tensor, Type};
use fuseline_passes::{Level, PassCx, Target, extract, optimise, rules, saturate};
use fuseline_tests::compare::{Tolerance, check as compare};
use fuseline_tests::{Result, roads::from_tensor};
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many calls a graph with a state gets.
pub const CALLS: usize = 2;

/// Draws a graph, optimises it every way, and compares with what it means.
///
/// # Errors
/// Another result, and the graph that has it.
pub fn check(seed: u64) -> Result {
    let drawn = draw::draw(seed);
    let expected = reference::expected(&drawn, &mut common::Random::new(seed))?;
    for (road, graph) in roads(&drawn.graph, seed)? {
        for (inputs, expected) in drawn.inputs.iter().zip(&expected) {
            calls(&drawn.graph, &graph, inputs, expected)
                .map_err(|wrong| format!("{road}: {wrong}\n{}\nbecame\n{graph}", drawn.graph))?;
        }
    }
    Ok(())
}

/// The graph after each level, and out of the e-graph at costs that are none.
fn roads(graph: &Graph, seed: u64) -> Result<Vec<(&'static str, Graph)>> {
    let cx = PassCx::new(Target::Cpu);
    let mut roads = Vec::new();
    for (name, level) in [("O0", Level::O0), ("O1", Level::O1), ("O2", Level::O2)] {
        roads.push((name, optimise(graph, level, &cx, &mut |_, _| ())?.0));
    }
    let (loaded, _) = saturate::saturated(graph, &cx, rules::all())?;
    let weigh = |op: &Op, args: &[&Type], out: &Type, _: bool| {
        let mut hasher = DefaultHasher::new();
        (seed, op.to_string(), format!("{args:?} {out:?}")).hash(&mut hasher);
        1 + hasher.finish() % 1000
    };
    let (chaos, _) = extract::extract(graph, &loaded.egraph, &loaded.classes, &weigh)?;
    roads.push(("chaos", chaos));
    Ok(roads)
}

fn calls(
    original: &Graph,
    graph: &Graph,
    inputs: &[Tensor],
    expected: &reference::Expected,
) -> Result {
    let mut states = graph.initial_states()?;
    for (number, wanted) in expected.calls.iter().enumerate() {
        let run = graph.eval(inputs, &states)?;
        let mut got = run.outputs;
        for state in original.states.iter().filter(|state| state.next.is_some()) {
            // A state that provably never changes is a constant to the compiler.
            let kept = run
                .states
                .get(&state.name)
                .or_else(|| states.get(&state.name))
                .cloned();
            got.push(kept.map_or_else(
                || {
                    original
                        .initial_states()
                        .map(|all| all[&state.name].clone())
                },
                Ok,
            )?);
        }
        states.extend(run.states);
        for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
            let (mut got, want) = (from_tensor(got), from_tensor(&wanted.tensor));
            if got.bytes.len() == want.bytes.len() && !want.bytes.is_empty() {
                let size = want.bytes.len() / wanted.known.len();
                let pairs = got.bytes.chunks_mut(size).zip(want.bytes.chunks(size));
                for (_, (got, want)) in wanted.known.iter().zip(pairs).filter(|(known, _)| !**known)
                {
                    got.copy_from_slice(want);
                }
            }
            compare(&got, &want, Tolerance::Scaled(wanted.tolerance))
                .map_err(|wrong| format!("call {number}, result {at}: {wrong}"))?;
        }
    }
    Ok(())
}
