//! A small mixture in many spellings, and what only looks like one.

use super::*;
use crate::canon;
use crate::pass::Target;
use fuseline_ir::{Payload, Scalar, Tensor, text};
use std::fmt::Write;
use std::sync::Arc;

const EXPERTS: usize = 3;

/// Each token's best two of three experts, as places `%i` in an order and as scores `%w`.
const BEST: &str = "
  %order = argsort[axis=1](%p)
  %i = slice[axis=1, start=1, stop=3, step=1](%order)
  %w = take_along[axis=1](%p, %i)";

/// The weight of expert `e` as `%c{e}`, from `%i` and `%w`.
fn compared(e: usize) -> String {
    format!(
        "%n{e} = full[value={e}, ty=i64[]]
  %h{e} = eq(%i, %n{e})
  %f{e} = cast[dtype=f32](%h{e})
  %m{e} = mul(%f{e}, %w)
  %c{e} = sum[axes=[1], keepdim=true](%m{e})"
    )
}

/// As [`compared`], of weights that are written to their places among `outside`.
const WRITTEN: &str = "
  %start = arange[start=0, step=3, len=t, dtype=i64]
  %column = reshape[shape=[t, 1]](%start)
  %places = add(%i, %column)
  %list = reshape[shape=[2*t]](%places)
  %flat = reshape[shape=[2*t]](%w)
  %zeros = full[value=0.0, ty=f32[3*t]]
  %all = index_copy[axis=0, wraps=false](%zeros, %list, %flat)
  %table = reshape[shape=[t, 3]](%all)";

fn column(e: usize) -> String {
    let end = e + 1;
    format!("%c{e} = slice[axis=1, start={e}, stop={end}, step=1](%table)")
}

/// What expert `e` makes of `%x` with weights of its own.
fn expert(e: usize) -> String {
    format!(
        "%a{e} = constant[name=\"a{e}\", ty=f32[4, 5]]
  %b{e} = constant[name=\"b{e}\", ty=f32[5]]
  %d{e} = constant[name=\"d{e}\", ty=f32[5, 4]]
  %u{e} = matmul(%x, %a{e})
  %v{e} = add(%u{e}, %b{e})
  %s{e} = silu(%v{e})
  %y{e} = matmul(%s{e}, %d{e})"
    )
}

/// The sum over `experts` of weight times value.
fn graph(
    choices: &str,
    weight: impl Fn(usize) -> String,
    expert: impl Fn(usize) -> String,
    experts: usize,
) -> Graph {
    let mut text = String::from("graph \"g\" {\n  symbol t in 1..=16\n");
    for e in 0..EXPERTS {
        writeln!(
            text,
            "  data \"a{e}\" : f32[4, 5]\n  data \"b{e}\" : f32[5]"
        )
        .unwrap();
        writeln!(text, "  data \"d{e}\" : f32[5, 4]").unwrap();
    }
    writeln!(text, "  data \"router\" : f32[4, 3]").unwrap();
    writeln!(text, "  data \"stack\" : f32[3, 4, 4]").unwrap();
    writeln!(text, "  %x = input[name=\"x\", ty=f32[t, 4]]").unwrap();
    writeln!(text, "  %given = input[name=\"given\", ty=i64[t, 2]]").unwrap();
    writeln!(text, "  %router = constant[name=\"router\", ty=f32[4, 3]]").unwrap();
    writeln!(text, "  %stack = constant[name=\"stack\", ty=f32[3, 4, 4]]").unwrap();
    writeln!(
        text,
        "  %l = matmul(%x, %router)\n  %p = softmax[axis=1](%l)"
    )
    .unwrap();
    writeln!(text, "{choices}").unwrap();
    for e in 0..experts {
        writeln!(text, "  {}\n  {}", weight(e), expert(e)).unwrap();
        writeln!(text, "  %t{e} = mul(%y{e}, %c{e})").unwrap();
        let sum = match e {
            0 => "%x".to_string(),
            e => format!("%sum{}", e - 1),
        };
        writeln!(text, "  %sum{e} = add({sum}, %t{e})").unwrap();
    }
    writeln!(text, "  output \"y\" = %sum{}\n}}", experts - 1).unwrap();
    let mut graph = text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    fill(&mut graph);
    graph
}

/// Gives every constant numbers.
fn fill(graph: &mut Graph) {
    for (n, constant) in graph.constants.values_mut().enumerate() {
        let shape = constant.ty.static_shape().unwrap();
        let number = |i: usize| Scalar::float(((i * 7 + n * 31) as f64).sin());
        let data = Tensor::from_fn(constant.ty.dtype, shape, number).unwrap();
        let data: Arc<dyn Payload> = Arc::new(data.to_bytes());
        constant.data = Some(data);
    }
}

fn evaluate(graph: &Graph) -> Vec<f64> {
    let dtype = graph.tensor_ty(graph.inputs()[0]).unwrap().dtype;
    let x = Tensor::from_fn(dtype, vec![6, 4], |i| Scalar::float((i as f64).cos())).unwrap();
    let given = (0..12).map(|i| i % 3).collect();
    let given = Tensor::ints(fuseline_ir::DType::I64, vec![6, 2], given).unwrap();
    let out = graph.eval(&[x, given], &BTreeMap::new()).unwrap().outputs;
    (0..out[0].len()).map(|i| out[0].get(i).as_f64()).collect()
}

/// How many products with chosen matrices there are afterwards; the numbers are the same, and a second run changes nothing.
fn chosen_by(graph: &Graph, cx: &PassCx) -> usize {
    let graph = canon::run(graph, cx).unwrap();
    let out = run(&graph, cx).unwrap();
    out.verify().unwrap();
    for (a, b) in evaluate(&graph).into_iter().zip(evaluate(&out)) {
        assert!((a - b).abs() < 1e-5, "{a} {b}\n{out}");
    }
    assert_eq!(run(&out, cx).unwrap().to_string(), out.to_string());
    let chosen = |n: &&fuseline_ir::Node| matches!(n.op, Op::GatherMm(_));
    out.nodes().iter().filter(chosen).count()
}

fn chosen(graph: &Graph) -> usize {
    chosen_by(graph, &PassCx::new(Target::Metal))
}

#[test]
fn choices_may_be_compared_or_written_to_their_places() {
    assert_eq!(chosen(&graph(BEST, compared, expert, EXPERTS)), 2);
    let written = format!("{BEST}{WRITTEN}");
    assert_eq!(chosen(&graph(&written, column, expert, EXPERTS)), 2);
    let softmax = format!("{BEST}{WRITTEN}").replace("value=0.0", "value=-inf");
    let softmax = softmax.replace("%table", "%scores") + "\n  %table = softmax[axis=1](%scores)";
    assert_eq!(chosen(&graph(&softmax, column, expert, EXPERTS)), 2);
    let best = "
  %i = argmax[axis=1, keepdim=true](%p)
  %w = amax[axes=[1], keepdim=true](%p)";
    assert_eq!(chosen(&graph(best, compared, expert, EXPERTS)), 2);
}

#[test]
fn choices_that_may_be_any_number_are_left() {
    let given = "%i = remainder(%given, %three)";
    let given = format!(
        "\n  %three = full[value=3, ty=i64[]]\n  {given}\n  %w = take_along[axis=1](%p, %i)"
    );
    assert_eq!(chosen(&graph(&given, compared, expert, EXPERTS)), 0);
    let written = format!("{given}{WRITTEN}");
    assert_eq!(chosen(&graph(&written, column, expert, EXPERTS)), 0);
}

/// Rows that are written to other tokens' places are no weights of theirs.
#[test]
fn weights_in_other_places_are_left() {
    let backwards = WRITTEN
        .replace("step=3", "step=-3")
        .replace("start=0, step=-3", "start=3*t - 3, step=-3");
    let written = format!("{BEST}{backwards}");
    assert_eq!(chosen(&graph(&written, column, expert, EXPERTS)), 0);
}

#[test]
fn each_expert_that_can_be_chosen_has_a_term() {
    assert_eq!(chosen(&graph(BEST, compared, expert, EXPERTS - 1)), 0);
    let twice = |e: usize| compared(e).replace("value=2", "value=1");
    assert_eq!(chosen(&graph(BEST, twice, expert, EXPERTS)), 0);
}

#[test]
fn experts_are_one_function_but_for_their_weights() {
    let other = |e: usize| match e {
        1 => expert(e).replace("silu", "tanh"),
        e => expert(e),
    };
    assert_eq!(chosen(&graph(BEST, compared, other, EXPERTS)), 0);
    let shared = |e: usize| expert(e).replace(&format!("\"a{e}\""), "\"a0\"");
    assert_eq!(chosen(&graph(BEST, compared, shared, EXPERTS)), 1);
}

#[test]
fn weights_may_be_parts_of_one_tensor_in_the_order_of_the_experts() {
    let part = |e: usize, at: usize| {
        let end = at + 1;
        format!(
            "%q{e} = slice[axis=0, start={at}, stop={end}, step=1](%stack)
  %r{e} = reshape[shape=[4, 4]](%q{e})
  %y{e} = matmul(%x, %r{e})"
        )
    };
    assert_eq!(chosen(&graph(BEST, compared, |e| part(e, e), EXPERTS)), 1);
    let turned = graph(BEST, compared, |e| part(e, 2 - e), EXPERTS);
    assert_eq!(chosen(&turned), 0);
}

#[test]
fn what_is_read_elsewhere_is_not_there_twice() {
    let mut read = graph(BEST, compared, expert, EXPERTS);
    let named = |n: &fuseline_ir::Node| matches!(&n.op, Op::Constant(c) if &*c.name == "a0");
    let weight = read.values().find(|(_, n)| named(n)).map(|(v, _)| v);
    read.output("weight", weight.unwrap());
    assert_eq!(chosen(&read), 0);
}

#[test]
fn another_order_of_the_sum_must_be_allowed() {
    let strict = PassCx {
        numerics: Numerics::Ulps(8),
        ..PassCx::new(Target::Metal)
    };
    assert_eq!(
        chosen_by(&graph(BEST, compared, expert, EXPERTS), &strict),
        0
    );
}

#[test]
fn the_table_decides() {
    let graph = graph(BEST, compared, expert, EXPERTS);
    assert_eq!(chosen_by(&graph, &PassCx::new(Target::Cpu)), 2);
    let narrow = graph.to_string().replace("f32", "f16");
    let narrow = text::parse(&narrow).unwrap();
    let product = |target| {
        let out = run(
            &canon::run(&narrow, &PassCx::new(target)).unwrap(),
            &PassCx::new(target),
        );
        out.unwrap().to_string().contains("gather_mm")
    };
    assert!(product(Target::Metal));
    assert!(!product(Target::Cpu));
}

/// A product of `x` with matrices that `i` chose, arranged by `between` into `%m`: how many products with chosen matrices there are afterwards.
fn arranged(x: &str, i: &str, between: &str, product: &str) -> usize {
    let text = format!(
        r#"graph "g" {{
  symbol t in 1..=16
  data "w" : f32[3, 4, 5]
  %x = input[name="x", ty=f32[{x}]]
  %i = input[name="i", ty=i64[{i}]]
  %w = constant[name="w", ty=f32[3, 4, 5]]
  %c = take[axis=0](%w, %i)
  {between}
  %out = {product}
  output "out" = %out
}}"#
    );
    let mut graph = text::parse(&text).unwrap();
    fill(&mut graph);
    let graph = canon::run(&graph, &PassCx::new(Target::Metal)).unwrap();
    let strict = PassCx {
        numerics: Numerics::Exact,
        ..PassCx::new(Target::Metal)
    };
    let out = run(&graph, &strict).unwrap();
    out.verify().unwrap();
    let sized = |v: &Value| {
        let ty = graph.tensor_ty(*v).unwrap();
        let size = |d: &Dim| d.substitute(&|_| Some(6i64.into())).as_const().unwrap() as usize;
        let shape: Vec<usize> = ty.shape.iter().map(size).collect();
        Tensor::from_fn(ty.dtype, shape, |i| match ty.dtype {
            DType::I64 => Scalar::Int((i * 7 % 3) as i64),
            _ => Scalar::float((i as f64).sin()),
        })
        .unwrap()
    };
    let inputs: Vec<Tensor> = graph.inputs().iter().map(sized).collect();
    let of = |g: &Graph| g.eval(&inputs, &BTreeMap::new()).unwrap().outputs;
    assert_eq!(of(&graph), of(&out), "{out}");
    out.to_string().matches("gather_mm").count()
}

#[test]
fn chosen_matrices_may_be_arranged_in_any_way() {
    let columns =
        "%t = transpose[perm=[0, 1, 3, 2, 4]](%c)\n  %m = reshape[shape=[2, t, 4, 15]](%t)";
    assert_eq!(
        arranged("2, t, 1, 4", "2, t, 3", columns, "matmul(%x, %m)"),
        1
    );
    let turned = "%t = transpose[perm=[0, 3, 1, 2]](%c)\n  %m = reshape[shape=[t, 5, 8]](%t)";
    assert_eq!(arranged("t, 1, 5", "t, 2", turned, "matmul(%x, %m)"), 1);
    let rows = "%m = reshape[shape=[t, 8, 5]](%c)";
    assert_eq!(arranged("t, 5, 1", "t, 2", rows, "matmul(%m, %x)"), 1);
    let batches = "%m = reshape[shape=[2*t, 4, 5]](%c)";
    assert_eq!(arranged("2*t, 3, 4", "t, 2", batches, "matmul(%x, %m)"), 1);
    let apart = "%m = transpose[perm=[1, 0, 3, 2]](%c)";
    assert_eq!(arranged("2, 1, 3, 5", "t, 2", apart, "matmul(%x, %m)"), 1);
}

#[test]
fn chosen_matrices_that_are_taken_apart_or_summed_over_are_left() {
    let summed = "%t = transpose[perm=[0, 1, 2, 3]](%c)\n  %m = reshape[shape=[t, 8, 5]](%t)";
    assert_eq!(arranged("t, 1, 8", "t, 2", summed, "matmul(%x, %m)"), 0);
    let apart = "%m = reshape[shape=[t, 2, 2, 2, 5]](%c)";
    assert_eq!(
        arranged("t, 2, 2, 1, 2", "t, 2", apart, "matmul(%x, %m)"),
        0
    );
    let batch = "%t = transpose[perm=[2, 0, 1, 3]](%c)\n  %m = reshape[shape=[4, 2*t, 5]](%t)";
    assert_eq!(arranged("4, 5, 1", "t, 2", batch, "matmul(%m, %x)"), 0);
}
