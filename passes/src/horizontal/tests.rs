//! The cases of `tests/cases/horizontal`: what each target makes of them, and that it means the same.

use super::*;
use crate::pass::Target;
use fuseline_ir::{Dim, Payload, Scalar, Symbol, Tensor, TensorType, text};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cases by name, with numbers for each constant.
fn cases() -> Vec<(String, Graph)> {
    let folder = std::fs::read_dir(root().join("tests/cases/horizontal")).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|e| e.unwrap().path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut graph = text::parse(&text).unwrap_or_else(|e| panic!("{}:{e}", path.display()));
        graph
            .verify()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for (name, constant) in &mut graph.constants {
            let data: Arc<dyn Payload> = Arc::new(random(name, &constant.ty).to_bytes());
            constant.data = Some(data);
        }
        (
            path.file_stem().unwrap().to_string_lossy().into_owned(),
            graph,
        )
    };
    paths.iter().map(read).collect()
}

fn case(name: &str) -> Graph {
    cases().into_iter().find(|(n, _)| n == name).unwrap().1
}

/// Numbers that the name decides, with 5 for every symbol, or 64 where that is too few.
fn random(name: &str, ty: &TensorType) -> Tensor {
    let shape = ty.shape.iter().map(|d| {
        let d = d.substitute(&|s: &Symbol| Some(Dim::from(if &**s == "s" { 5i64 } else { 64 })));
        usize::try_from(d.as_const().unwrap()).unwrap()
    });
    Tensor::from_fn(ty.dtype, shape.collect(), |i| {
        let mut hasher = DefaultHasher::new();
        (name, i).hash(&mut hasher);
        match ty.dtype {
            d if d.is_float() => {
                Scalar::float((hasher.finish() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
            }
            fuseline_ir::DType::U32 => Scalar::Int((hasher.finish() >> 32) as i64),
            _ => Scalar::Int(i as i64 + 3),
        }
    })
    .unwrap()
}

fn evaluate(graph: &Graph) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .map(|v| random(&v.to_string(), graph.tensor_ty(*v).unwrap()))
        .collect();
    let results = graph
        .eval(&inputs, &graph.initial_states().unwrap())
        .unwrap();
    results
        .outputs
        .into_iter()
        .chain(results.states.into_values())
        .collect()
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes().iter().filter(|n| n.op.name() == op).count()
}

#[test]
fn what_comes_out_of_each_case() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(root().join("snapshots/horizontal"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (name, graph) in cases() {
        let mut text = String::new();
        let mut last = String::new();
        for target in Target::ALL {
            let out = run(&graph, &PassCx::new(target)).unwrap().to_string();
            if out == last {
                writeln!(text, "// {target}: the same").unwrap();
            } else if out == sweep::sweep(&graph).unwrap().to_string() {
                writeln!(text, "// {target}: as it was").unwrap();
            } else {
                write!(text, "// {target}\n{out}").unwrap();
            }
            last = out;
        }
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

/// The reference sums in one order whatever the width, so the results are the same to the bit.
#[test]
fn every_case_means_what_it_meant() {
    for (name, graph) in cases() {
        let want = evaluate(&graph);
        for target in Target::ALL {
            let out = run(&graph, &PassCx::new(target)).unwrap();
            out.verify().unwrap();
            assert_eq!(evaluate(&out), want, "{name} on {target}");
            let again = run(&out, &PassCx::new(target)).unwrap();
            assert_eq!(
                again.to_string(),
                out.to_string(),
                "{name} on {target}, twice"
            );
        }
    }
}

#[test]
fn products_are_joined_only_where_sums_may_be_taken_in_another_order() {
    let graph = case("attention");
    let strict = PassCx {
        numerics: Numerics::Ulps(1),
        ..PassCx::new(Target::Metal)
    };
    assert_eq!(count(&run(&graph, &strict).unwrap(), "matmul"), 3);
    assert_eq!(
        count(&run(&graph, &PassCx::new(Target::Metal)).unwrap(), "matmul"),
        1
    );
}

#[test]
fn the_table_decides() {
    let graph = case("gate_up_many_rows");
    let matmuls = |cx: &PassCx| count(&run(&graph, cx).unwrap(), "matmul");
    let mut cx = PassCx::new(Target::Cuda);
    let mut table = (*cx.costs).clone();
    table.strided_gbs = table.copy_gbs.clone();
    cx.costs = Arc::new(table.clone());
    assert_eq!(matmuls(&cx), 1);
    table.strided_gbs.value /= 1000.0;
    cx.costs = Arc::new(table);
    assert_eq!(matmuls(&cx), 2);
    assert_eq!(matmuls(&PassCx::new(Target::Cpu)), 2);
}

/// A method for one row lays weights as one for many does, where the two share them.
#[test]
fn methods_that_share_weights_come_to_the_same() {
    let matmuls = |name: &str, shares_weights: bool| {
        let cx = PassCx {
            shares_weights,
            ..PassCx::new(Target::Cpu)
        };
        count(&run(&case(name), &cx).unwrap(), "matmul")
    };
    assert_eq!(matmuls("gate_up", false), 1);
    assert_eq!(matmuls("gate_up", true), 2);
    assert_eq!(matmuls("gate_up_many_rows", true), 2);
}

/// However many products there are, each weight is in the file once, and no name is given twice.
#[test]
fn many_products_of_one_value() {
    let mut body = String::from("graph \"case\" {\n  %x = input[name=\"x\", ty=f32[1, 4]]\n");
    let mut sum = String::new();
    for n in 0..200 {
        writeln!(
            body,
            "  data \"w{n}\" : f32[4, 1]\n  %w{n} = constant[name=\"w{n}\", ty=f32[4, 1]]"
        )
        .unwrap();
        writeln!(
            sum,
            "  %y{n} = matmul(%x, %w{n})\n  output \"y{n}\" = %y{n}"
        )
        .unwrap();
    }
    let mut graph = text::parse(&format!("{body}{sum}}}")).unwrap();
    for (name, constant) in &mut graph.constants {
        constant.data = Some(Arc::new(random(name, &constant.ty).to_bytes()));
    }
    let out = run(&graph, &PassCx::new(Target::Metal)).unwrap();
    assert_eq!(count(&out, "matmul"), 200usize.div_ceil(MAX_PARTS));
    assert_eq!(out.constants.len(), count(&out, "constant"));
    assert_eq!(evaluate(&out), evaluate(&graph));
}

/// A weight that is made in very many steps is left to itself: a text can hold any number of them.
#[test]
fn a_weight_of_many_steps() {
    let mut body = String::from("graph \"case\" {\n  %x = input[name=\"x\", ty=f32[1, 4]]\n");
    for weight in ["a", "b"] {
        writeln!(body, "  data \"{weight}\" : f32[4, 4]\n  %{weight}0 = constant[name=\"{weight}\", ty=f32[4, 4]]").unwrap();
        for n in 0..20_000 {
            writeln!(
                body,
                "  %{weight}{} = transpose[perm=[1, 0]](%{weight}{n})",
                n + 1
            )
            .unwrap();
        }
        writeln!(
            body,
            "  %y{weight} = matmul(%x, %{weight}20000)\n  output \"{weight}\" = %y{weight}"
        )
        .unwrap();
    }
    let graph = text::parse(&format!("{body}}}")).unwrap();
    assert_eq!(
        count(&run(&graph, &PassCx::new(Target::Metal)).unwrap(), "matmul"),
        2
    );
}
