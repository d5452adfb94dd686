//! Whole graphs: what they become, that they mean the same whichever nodes are chosen, and how near the choice is to the best one.

use super::*;
use crate::extract::{Weigh, graph_cost};
use crate::pass::{Limits, Numerics, Target};
use fuseline_ir::{DType, Payload, Scalar, Symbol, Tensor, TensorType, text};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The graphs of `tests/cases/egraph`, by name.
fn cases() -> Vec<(String, Graph)> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("tests/cases/egraph"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let graph = text::parse(&text).unwrap_or_else(|e| panic!("{}:{e}", path.display()));
            graph.verify().unwrap();
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                graph,
            )
        })
        .collect()
}

fn case(name: &str) -> Graph {
    let found = cases().into_iter().find(|(n, _)| n == name);
    found.unwrap_or_else(|| panic!("no case {name}")).1
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes().iter().filter(|n| n.op.name() == op).count()
}

/// A number between −1 and 1 for these keys.
fn noise(key: impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn random(name: &str, ty: &TensorType, shape: Vec<usize>) -> Tensor {
    Tensor::from_fn(ty.dtype, shape, |i| match ty.dtype {
        // Frequencies, then weights of norms, then matrices and activations.
        DType::F32 if name.contains("freq") => Scalar::float(0.75f64.powi(i as i32)),
        d if d.is_float() && ty.rank() == 1 => Scalar::float(1.0 + 0.1 * noise((name, i))),
        d if d.is_float() => Scalar::float(0.3 * noise((name, i))),
        _ => Scalar::Int(i as i64 + 3),
    })
    .unwrap()
}

/// The same graph with data for each constant.
fn filled(mut graph: Graph) -> Graph {
    for (name, constant) in &mut graph.constants {
        if constant.data.is_none() {
            let shape = constant.ty.static_shape().unwrap();
            let payload: Arc<dyn Payload> = Arc::new(random(name, &constant.ty, shape).to_bytes());
            constant.data = Some(payload);
        }
    }
    graph
}

/// Outputs and states for random inputs, with 5 for every symbol.
fn evaluate(graph: &Graph) -> Vec<Vec<f64>> {
    let five = |_: &Symbol| Some(fuseline_ir::Dim::from(5i64));
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .map(|v| {
            let ty = graph.tensor_ty(*v).unwrap();
            let shape = ty.shape.iter().map(|d| d.substitute(&five)).collect();
            let ty = TensorType::new(ty.dtype, shape);
            let shape = ty.static_shape().unwrap();
            random(&v.to_string(), &ty, shape)
        })
        .collect();
    let results = graph
        .eval(&inputs, &graph.initial_states().unwrap())
        .unwrap();
    let states = results.states.values();
    results
        .outputs
        .iter()
        .chain(states)
        .map(Tensor::to_f64)
        .collect()
}

fn narrow(graph: &Graph) -> bool {
    let low = |n: &fuseline_ir::Node| {
        n.ty.as_tensor()
            .is_some_and(|t| matches!(t.dtype, DType::F16 | DType::BF16))
    };
    graph.nodes().iter().any(low)
}

/// |got − want| ≤ tolerance · max(1, max |want|), each result on its own.
fn assert_near(what: &str, got: &[Vec<f64>], want: &[Vec<f64>], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        let largest = want.iter().fold(1.0f64, |m, w| m.max(w.abs()));
        for (g, w) in got.iter().zip(want) {
            let near = (g - w).abs() <= tolerance * largest;
            assert!(near || (g.is_nan() && w.is_nan()), "{what}: {g}, not {w}");
        }
    }
}

#[test]
fn a_llama_layer_becomes_its_fused_ops() {
    let graph = case("llama_layer");
    for target in Target::ALL {
        let (out, report) = report(&graph, &PassCx::new(target)).unwrap();
        assert_eq!(report.limit, None);
        assert_eq!(count(&out, "rms_norm"), 2, "{target}");
        assert_eq!(count(&out, "rope"), 2, "{target}");
        assert_eq!(count(&out, "sdpa"), 1, "{target}");
        assert_eq!(count(&out, "addmm"), 2, "{target}");
        for gone in ["neg", "cat", "mean", "rsqrt", "cos", "sin", "cast"] {
            assert_eq!(count(&out, gone), 0, "{gone} on {target}");
        }
        assert!(report.cost.1 < report.cost.0);
    }
}

#[test]
fn what_comes_out_of_each_case() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots/egraph"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (name, graph) in cases() {
        let (out, report) = report(&graph, &PassCx::new(Target::Metal)).unwrap();
        let limit = report.limit.as_deref().unwrap_or("none");
        let text = format!(
            "fired: {:?}\nrounds: {}, limit hit: {limit}\n{out}",
            report.fired, report.rounds
        );
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

/// Whichever nodes are chosen, dear or cheap, the numbers agree.
#[test]
fn chaos() {
    for (name, graph) in cases() {
        let graph = filled(graph);
        let want = evaluate(&graph);
        let tolerance = if narrow(&graph) { 3e-2 } else { 1e-4 };
        let cx = PassCx::new(Target::Metal);
        let (loaded, _) = saturated(&graph, &cx, rules::all()).unwrap();
        for seed in 0..4u64 {
            let random = |op: &Op, args: &[&Type], out: &Type, _: bool| {
                let mut hasher = DefaultHasher::new();
                (seed, op, args, out).hash(&mut hasher);
                1 + hasher.finish() % 1000
            };
            let (out, _) =
                extract::extract(&graph, &loaded.egraph, &loaded.classes, &random).unwrap();
            out.verify().unwrap();
            assert_near(
                &format!("{name}, seed {seed}"),
                &evaluate(&out),
                &want,
                tolerance,
            );
        }
        let (best, _) = report(&graph, &cx).unwrap();
        assert_near(&name, &evaluate(&best), &want, tolerance);
    }
}

#[test]
fn never_worse_and_always_the_same() {
    for (name, graph) in cases() {
        for target in Target::ALL {
            let cx = PassCx::new(target);
            let model = Model::new(target, &graph.symbols);
            let weigh: Weigh<'_> = &|op, args, out, once| model.cost(op, args, out, once);
            let (out, report) = report(&graph, &cx).unwrap();
            assert!(
                graph_cost(&out, weigh) <= graph_cost(&graph, weigh),
                "{name} on {target}"
            );
            assert_eq!(report.cost.1, graph_cost(&out, weigh), "{name} on {target}");
            let again = run(&graph, &cx).unwrap();
            assert_eq!(out.to_string(), again.to_string(), "{name} on {target}");
        }
    }
}

#[test]
fn numerics_bound_which_rules_fire() {
    let graph = case("llama_layer");
    for numerics in [Numerics::Exact, Numerics::Ulps(1), Numerics::Ulps(2)] {
        let cx = PassCx {
            numerics,
            ..PassCx::new(Target::Cuda)
        };
        let (_, report) = report(&graph, &cx).unwrap();
        let allowed = |name: &str| {
            name == leading::NAME || rules::find(name).is_some_and(|r| r.class <= numerics)
        };
        assert!(
            report.fired.keys().all(|name| allowed(name)),
            "{numerics}: {:?}",
            report.fired
        );
    }
}

#[test]
fn limits_stop_it_and_are_reported() {
    let graph = case("llama_layer");
    let with = |limits: Limits| PassCx {
        limits,
        ..PassCx::new(Target::Cpu)
    };
    let rounds = with(Limits {
        rounds: 1,
        ..Limits::default()
    });
    assert_eq!(
        report(&graph, &rounds).unwrap().1.limit.as_deref(),
        Some("rounds")
    );
    let nodes = with(Limits {
        nodes: 10,
        growth: 1,
        ..Limits::default()
    });
    assert_eq!(
        report(&graph, &nodes).unwrap().1.limit.as_deref(),
        Some("nodes")
    );
}

#[test]
fn symbols_read_from_data_are_defined_before_they_are_used() {
    let text = r#"graph "case" {
  symbol u0 in 0..=16
  %n = input[name="n", ty=i64[]]
  %x = input[name="x", ty=f32[16]]
  %u = item[symbol="u0"](%n)
  %a = arange[start=0, step=1, len=u0, dtype=i64]
  %y = take[axis=0](%x, %a)
  %s = sigmoid(%y)
  %z = mul(%y, %s)
  output "out" = %z
}"#;
    let graph = text::parse(text).unwrap();
    let out = run(&graph, &PassCx::new(Target::Metal)).unwrap();
    assert_eq!(count(&out, "silu"), 1);
    assert_eq!(count(&out, "item"), 1);
}

/// How many choices an exhaustive search may look at.
const CHOICES: usize = 1 << 14;

/// The cost of the best graph in the e-graph, by trying everything; `None` where there is too much to try.
fn best(loaded: &Loaded, roots: &[Id], weigh: Weigh<'_>) -> Option<u64> {
    let egraph = &loaded.egraph;
    let mut open: Vec<Id> = egraph.classes().map(|c| c.id).collect();
    open.sort();
    let several: Vec<Id> = open
        .iter()
        .copied()
        .filter(|id| egraph[*id].nodes.len() > 1)
        .collect();
    let total = several
        .iter()
        .try_fold(1usize, |n, id| n.checked_mul(egraph[*id].nodes.len()))
        .filter(|n| *n <= CHOICES)?;
    let cost = |mut number: usize| -> Option<u64> {
        let mut chosen: BTreeMap<Id, usize> = BTreeMap::new();
        for id in &several {
            let n = egraph[*id].nodes.len();
            chosen.insert(*id, number % n);
            number /= n;
        }
        // (class, whether its arguments are done): a class met again while it is open is a cycle.
        let mut state: BTreeMap<Id, bool> = BTreeMap::new();
        let mut stack: Vec<(Id, bool)> = roots.iter().map(|id| (egraph.find(*id), false)).collect();
        let mut sum = 0;
        while let Some((id, done)) = stack.pop() {
            if done {
                state.insert(id, true);
                continue;
            }
            match state.get(&id) {
                Some(true) => continue,
                Some(false) => return None,
                None => {}
            }
            state.insert(id, false);
            let class = &egraph[id];
            let node = &class.nodes[chosen.get(&id).copied().unwrap_or(0)];
            let types: Vec<&Type> = node.children.iter().map(|c| &egraph[*c].data.ty).collect();
            sum += weigh(
                &node.op,
                &types,
                &class.data.ty,
                egraph::is_constant(egraph, node),
            );
            stack.push((id, true));
            stack.extend(
                node.children
                    .iter()
                    .map(|c| (egraph.find(*c), false))
                    .filter(|(c, _)| state.get(c) != Some(&true)),
            );
        }
        Some(sum)
    };
    (0..total).filter_map(cost).min()
}

/// The extraction against an exhaustive search, wherever that is possible: on the case of each rule, with all the rules.
#[test]
fn as_good_as_the_best() {
    let mut tried = 0;
    for entry in std::fs::read_dir(root().join("tests/cases/rules")).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::read_to_string(&path).unwrap();
        for part in file.split("graph \"case\"").skip(1) {
            let body = part.split("\n}").next().unwrap();
            let graph = text::parse(&format!("graph \"case\"{body}\n}}")).unwrap();
            let cx = PassCx::new(Target::Metal);
            let model = Model::of(&cx, &graph.symbols);
            let weigh: Weigh<'_> = &|op, args, out, once| model.cost(op, args, out, once);
            let (loaded, _) = saturated(&graph, &cx, rules::all()).unwrap();
            let (_, (_, found)) =
                extract::extract(&graph, &loaded.egraph, &loaded.classes, weigh).unwrap();
            let roots: Vec<Id> = graph
                .roots()
                .iter()
                .map(|v| loaded.classes[v.index()].unwrap())
                .collect();
            if let Some(best) = best(&loaded, &roots, weigh) {
                tried += 1;
                assert_eq!(found, best, "{}\n{graph}", path.display());
            }
        }
    }
    assert!(tried > 60, "{tried}");
}
