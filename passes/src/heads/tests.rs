//! Spellings on other axes than four: each becomes the fused op, and means what it meant.

use crate::pass::PassCx;
use crate::pass::Target;
use crate::saturate;
use fuseline_ir::{Graph, Scalar, Tensor, text};
use std::collections::BTreeMap;

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes().iter().filter(|n| n.op.name() == op).count()
}

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let number = |n: usize, i: usize| ((n * 131 + i * 37) % 101) as f64 / 50.0 - 1.0;
    let one = |(n, v): (usize, &fuseline_ir::Value)| {
        let ty = graph.ty(*v).as_tensor().unwrap();
        let shape = ty.static_shape().unwrap();
        let element = |i| match ty.dtype {
            fuseline_ir::DType::Bool => Scalar::Bool(i % 3 != 1),
            _ => Scalar::float(number(n, i)),
        };
        Tensor::from_fn(ty.dtype, shape, element).unwrap()
    };
    graph.inputs().iter().enumerate().map(one).collect()
}

/// The graph after saturation, which must have the same result.
fn optimised(inputs_of: &str, body: &str) -> Graph {
    let text = format!("graph \"case\" {{ {inputs_of} {body} output \"out\" = %out }}");
    let graph = text::parse(&text).unwrap_or_else(|e| panic!("{e}"));
    graph.verify().unwrap();
    let done = saturate::run(&graph, &PassCx::new(Target::Metal)).unwrap();
    let given = inputs(&graph);
    let states = BTreeMap::new();
    let before = graph.eval(&given, &states).unwrap().outputs;
    let after = done.eval(&given, &states).unwrap().outputs;
    for (a, b) in before.iter().zip(&after) {
        assert_eq!(a.shape(), b.shape());
        for i in 0..a.len() {
            let (a, b) = (a.get(i).as_f64(), b.get(i).as_f64());
            assert!((a - b).abs() < 1e-5, "{a} is not {b}");
        }
    }
    done
}

const SCALE: &str = "%c = full[value=0.5, ty=f32[]]";

#[test]
fn batch_and_heads_in_one_axis() {
    let done = optimised(
        "%q = input[name=\"q\", ty=f32[6, 5, 4]] %k = input[name=\"k\", ty=f32[6, 7, 4]] %v = input[name=\"v\", ty=f32[6, 7, 4]] %m = input[name=\"m\", ty=f32[1, 5, 7]]",
        &format!(
            "{SCALE} %t = transpose[perm=[0, 2, 1]](%k) %s = matmul(%q, %t) %u = mul(%s, %c) %a = add(%u, %m) %w = softmax[axis=2](%a) %out = matmul(%w, %v)"
        ),
    );
    assert_eq!(count(&done, "sdpa"), 1, "{done}");
}

#[test]
fn one_head() {
    let done = optimised(
        "%q = input[name=\"q\", ty=f32[5, 4]] %k = input[name=\"k\", ty=f32[7, 4]] %v = input[name=\"v\", ty=f32[7, 3]]",
        &format!(
            "{SCALE} %t = transpose[perm=[1, 0]](%k) %s = matmul(%q, %t) %u = mul(%s, %c) %w = softmax[axis=1](%u) %out = matmul(%w, %v)"
        ),
    );
    assert_eq!(count(&done, "sdpa"), 1, "{done}");
}

#[test]
fn groups_of_heads_in_a_fifth_axis() {
    let done = optimised(
        "%q = input[name=\"q\", ty=f32[2, 6, 5, 4]] %k = input[name=\"k\", ty=f32[2, 3, 7, 4]] %v = input[name=\"v\", ty=f32[2, 3, 7, 4]] %m = input[name=\"m\", ty=f32[2, 1, 1, 5, 7]]",
        &format!(
            "{SCALE} %g = reshape[shape=[2, 3, 2, 5, 4]](%q) %l = reshape[shape=[2, 3, 1, 7, 4]](%k) %t = transpose[perm=[0, 1, 2, 4, 3]](%l) \
             %s = matmul(%g, %t) %u = mul(%s, %c) %a = add(%u, %m) %w = softmax[axis=4](%a) %x = reshape[shape=[2, 3, 1, 7, 4]](%v) %y = matmul(%w, %x) \
             %out = reshape[shape=[2, 6, 5, 4]](%y)"
        ),
    );
    assert_eq!(count(&done, "sdpa"), 1, "{done}");
    assert_eq!(count(&done, "broadcast"), 0, "{done}");
}

#[test]
fn rows_of_a_group_folded_together() {
    let done = optimised(
        "%q = input[name=\"q\", ty=f32[2, 6, 5, 4]] %k = input[name=\"k\", ty=f32[2, 3, 7, 4]] %v = input[name=\"v\", ty=f32[2, 3, 7, 4]] %m = input[name=\"m\", ty=f32[5, 7]]",
        &format!(
            "{SCALE} %g = reshape[shape=[2, 3, 10, 4]](%q) %t = transpose[perm=[0, 1, 3, 2]](%k) %s = matmul(%g, %t) %h = reshape[shape=[2, 6, 5, 7]](%s) \
             %u = mul(%h, %c) %a = add(%u, %m) %w = softmax[axis=3](%a) %f = reshape[shape=[2, 3, 10, 7]](%w) %y = matmul(%f, %v) %out = reshape[shape=[2, 6, 5, 4]](%y)"
        ),
    );
    assert_eq!(count(&done, "sdpa"), 1, "{done}");
}

#[test]
fn an_attention_of_merged_batches() {
    let done = optimised(
        "%q = input[name=\"q\", ty=f32[2, 6, 5, 4]] %k = input[name=\"k\", ty=f32[2, 3, 7, 4]] %v = input[name=\"v\", ty=f32[2, 3, 7, 4]] %m = input[name=\"m\", ty=bool[5, 7]]",
        "%a = reshape[shape=[1, 12, 5, 4]](%q) %b = reshape[shape=[1, 6, 7, 4]](%k) %c = reshape[shape=[1, 6, 7, 4]](%v) \
         %s = sdpa[scale=0.5, causal=false](%a, %b, %c, %m) %out = reshape[shape=[2, 6, 5, 4]](%s)",
    );
    assert_eq!(count(&done, "reshape"), 0, "{done}");
}

#[test]
fn not_where_rows_of_one_softmax_would_be_parted() {
    // The softmax is over all keys of a pair of heads.
    let done = optimised(
        "%q = input[name=\"q\", ty=f32[4, 5, 4]] %k = input[name=\"k\", ty=f32[4, 4, 7]] %v = input[name=\"v\", ty=f32[2, 14, 3]]",
        "%s = matmul(%q, %k) %t = transpose[perm=[1, 0, 2]](%s) %u = reshape[shape=[5, 2, 14]](%t) %x = transpose[perm=[1, 0, 2]](%u) %w = softmax[axis=2](%x) %out = matmul(%w, %v)",
    );
    assert_eq!(count(&done, "sdpa"), 0, "{done}");
}
