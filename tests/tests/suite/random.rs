//! Whole programs at random: small graphs, compiled at every level, out of an e-graph at random costs and as read back from their text, run on MLX, and compared with the reference
//! evaluation.
//!
//! `FUSELINE_RANDOM=FIRST..LAST` runs other seeds than those of the suite.
//!
//! A result is compared by the rule of [`compare`], with the tolerance of the narrowest float that it is computed from. What a graph does to the rounding of its
//! own floats is not the compiler's: the reference runs several times more with each float op's result off by a rounding, and an element on which those runs don't
//! agree (a comparison of two sums that are nearly equal, say) has no value to compare with.

#[path = "../../../passes/tests/common/mod.rs"]
mod common;
mod control;
mod draw;
mod found;
#[path = "../../../passes/tests/common/graphs.rs"]
mod graphs;
mod reference;

use common::{Random, same};
use draw::{Drawn, draw};
use fuseline_compiler::Quiet;
use fuseline_compiler::compile::compile_graph;
use fuseline_ir::{Graph, Op, Tensor, Type, text};
use fuseline_passes::cost::Model;
use fuseline_passes::extract::{self, graph_cost};
use fuseline_passes::{Level, PassCx, Target, canon, rules, saturate};
use fuseline_runtime::Program;
use fuseline_tests::compare::{Tolerance, check};
use fuseline_tests::{Result, cases, roads};
use reference::{Expected, expected};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// How many seeds the suite runs.
const SEEDS: u64 = 200;

/// How many calls a session gets, for the state.
pub const CALLS: usize = 2;

/// How many elements were there to compare, and how many were.
#[derive(Default)]
struct Count {
    all: usize,
    compared: usize,
}

/// A graph that means the same, out of the e-graph at costs that are no costs.
fn chaos(graph: &Graph, seed: u64) -> Result<Graph> {
    let (loaded, _) = saturate::saturated(graph, &PassCx::new(roads::target()), rules::all())?;
    let weigh = |op: &Op, args: &[&Type], out: &Type, _: bool| {
        let mut hasher = DefaultHasher::new();
        (seed, op.to_string(), format!("{args:?} {out:?}")).hash(&mut hasher);
        1 + hasher.finish() % 1000
    };
    let (out, _) = extract::extract(graph, &loaded.egraph, &loaded.classes, &weigh)?;
    Ok(out)
}

/// A graph that means the same and that is dear: out of the e-graph with what is cheap on the target dear, and what is dear cheap.
fn worst(graph: &Graph) -> Result<Graph> {
    let cx = PassCx::new(roads::target());
    let (loaded, _) = saturate::saturated(graph, &cx, rules::all())?;
    let model = Model::of(&cx, &graph.symbols);
    let weigh = |op: &Op, args: &[&Type], out: &Type, once: bool| {
        1 + (1u64 << 40) / model.cost(op, args, out, once)
    };
    let (out, _) = extract::extract(graph, &loaded.egraph, &loaded.classes, &weigh)?;
    Ok(out)
}

/// What comes out of the e-graph is never dearer than what went in, by the model's own measure, and always the same. `turn` picks the target.
fn never_dearer(what: &str, graph: &Graph, turn: usize) -> Result {
    let target = Target::ALL[turn % Target::ALL.len()];
    let cx = PassCx::new(target);
    let (out, report) = saturate::report(graph, &cx)?;
    let model = Model::of(&cx, &graph.symbols);
    let weigh = |op: &Op, args: &[&Type], out: &Type, once: bool| model.cost(op, args, out, once);
    let costs = (graph_cost(graph, &weigh), graph_cost(&out, &weigh));
    assert!(costs.1 <= costs.0, "{what} on {target}: {costs:?}");
    assert!(
        report.cost.1 <= report.cost.0,
        "{what} on {target}: {:?}",
        report.cost
    );
    let again = saturate::run(graph, &cx)?;
    assert!(
        again.same(&out),
        "{what} on {target}: another graph the second time"
    );
    Ok(())
}

#[test]
fn extraction_is_never_dearer_and_always_the_same() -> Result {
    for (turn, seed) in seeds()?.enumerate() {
        never_dearer(&format!("seed {seed}"), &draw(seed).graph, turn)?;
    }
    for (turn, case) in cases::all()?.iter().enumerate() {
        for (form, path) in case.forms().into_iter().take(1) {
            // What can't be imported is the end-to-end suite's business.
            if let Ok(graph) = roads::imported(&path) {
                let (graph, _) = canon::canonical(&graph)?;
                never_dearer(&format!("{}, {form}", case.name), &graph, turn)?;
            }
        }
    }
    Ok(())
}

/// Every way to compile the graph.
fn roads_of(graph: &Graph, seed: u64) -> Result<Vec<(&'static str, Graph, Level)>> {
    let mut roads = vec![
        ("O0", graph.clone(), Level::O0),
        ("O1", graph.clone(), Level::O1),
        ("O2", graph.clone(), Level::O2),
    ];
    roads.push(("chaos", chaos(graph, seed)?, Level::O0));
    roads.push(("worst", worst(graph)?, Level::O0));
    let mut read = text::parse(&graph.to_string())?;
    read.constants.clone_from(&graph.constants);
    roads.push(("text", read, Level::O2));
    Ok(roads)
}

/// Compiles the graph, runs every size's calls in a session of its own, and compares.
fn compare(
    graph: &Graph,
    level: Level,
    file: &Path,
    drawn: &Drawn,
    expected: &[Expected],
) -> Result<Count> {
    let compiled = compile_graph(graph, level, &PassCx::new(roads::target()), &mut Quiet)?;
    compiled.write(file, &mut Quiet)?;
    let program = Program::open(file)?;
    let mut count = Count::default();
    let initial = drawn.graph.initial_states()?;
    for (inputs, expected) in drawn.inputs.iter().zip(expected) {
        let mut session = program.session()?;
        let inputs: Vec<_> = inputs.iter().map(roads::from_tensor).collect();
        for (call, wanted) in expected.calls.iter().enumerate() {
            let mut got = roads::step(&mut session, &inputs)?;
            for state in drawn.graph.states.iter().filter(|s| s.next.is_some()) {
                // A state that provably never changes is a constant to the compiler.
                got.push(if program.state().any(|s| s.name == *state.name) {
                    roads::from_value(&session.state(&state.name)?.into())?
                } else {
                    roads::from_tensor(&initial[&state.name])
                });
            }
            for (n, (mut got, wanted)) in got.into_iter().zip(wanted).enumerate() {
                let want = roads::from_tensor(&wanted.tensor);
                count.all += wanted.known.len();
                count.compared += wanted.known.iter().filter(|k| **k).count();
                if got.bytes.len() == want.bytes.len() && !want.bytes.is_empty() {
                    let size = want.bytes.len() / wanted.known.len();
                    let pairs = got.bytes.chunks_mut(size).zip(want.bytes.chunks(size));
                    for (_, (got, want)) in wanted.known.iter().zip(pairs).filter(|(k, _)| !**k) {
                        got.copy_from_slice(want);
                    }
                }
                check(&got, &want, Tolerance::Scaled(wanted.tolerance))
                    .map_err(|e| format!("{level}, call {call}, result {n}: {e}"))?;
            }
        }
    }
    Ok(count)
}

/// The text reads back as a graph with the same results.
fn reads_back(drawn: &Drawn) -> Result {
    let mut read = text::parse(&drawn.graph.to_string())?;
    if !read.same(&drawn.graph) {
        return Err("the text reads back as another graph".into());
    }
    read.constants.clone_from(&drawn.graph.constants);
    for inputs in &drawn.inputs {
        let states = drawn.graph.initial_states()?;
        let (was, is) = (
            drawn.graph.eval(inputs, &states)?,
            read.eval(inputs, &states)?,
        );
        let pairs: Vec<(&Tensor, &Tensor)> = was.outputs.iter().zip(&is.outputs).collect();
        if !pairs.into_iter().all(|(a, b)| same(a, b)) {
            return Err("the text reads back as a graph with other results".into());
        }
    }
    Ok(())
}

fn seeds() -> Result<std::ops::Range<u64>> {
    let Ok(text) = std::env::var("FUSELINE_RANDOM") else {
        return Ok(1..SEEDS + 1);
    };
    let (first, last) = text.split_once("..").ok_or("FUSELINE_RANDOM=FIRST..LAST")?;
    Ok(first.parse()?..last.parse()?)
}

#[test]
fn programs_compute_what_their_graphs_mean() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("random.pte");
    let (mut total, mut failures) = (Count::default(), Vec::new());
    for seed in seeds()? {
        let drawn = draw(seed);
        drawn.graph.verify()?;
        reads_back(&drawn).map_err(|e| format!("seed {seed}: {e}"))?;
        let old = failures.len();
        let expected = expected(&drawn, &mut Random::new(seed))?;
        for (road, graph, level) in roads_of(&drawn.graph, seed)? {
            match compare(&graph, level, &file, &drawn, &expected) {
                Ok(count) => {
                    total.all += count.all;
                    total.compared += count.compared;
                }
                Err(e) => failures.push(format!("seed {seed}, {road}: {e}")),
            }
        }
        for failure in &failures[old..] {
            eprintln!("{failure}");
        }
        if failures.len() > old {
            eprintln!("{}", drawn.graph);
        }
    }
    if !failures.is_empty() {
        return Err(format!("{} programs compute something else", failures.len()).into());
    }
    assert!(
        total.compared * 10 > total.all * 9,
        "only {} of {} elements have a value",
        total.compared,
        total.all
    );
    Ok(())
}

#[test]
fn what_was_found_is_right() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("found.pte");
    for (sizes, text) in found::FOUND {
        let graph = text::parse(text)?;
        let name = graph.name.clone();
        let mut r = Random::new(1);
        let inputs = sizes
            .iter()
            .map(|s| draw::inputs(&mut r, &graph, *s))
            .collect();
        let drawn = Drawn { graph, inputs };
        let expected = expected(&drawn, &mut r)?;
        for (road, graph, level) in roads_of(&drawn.graph, 1)? {
            compare(&graph, level, &file, &drawn, &expected)
                .map_err(|e| format!("{name}, {road}: {e}"))?;
        }
    }
    Ok(())
}
