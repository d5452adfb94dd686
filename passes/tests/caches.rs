//! Attention over caches: what the passes `positions` and `filled` make of graphs on which they fire, and of graphs that only look like those. The reference evaluation gives the
//! same before and after.

#![cfg(test)]

use fuseline_ir::{DType, Graph, Scalar, Tensor, text};
use fuseline_passes::{PassCx, Target, run_passes};
use std::collections::BTreeMap;

/// Query rows, keys and width of every case.
const ROWS: usize = 3;

/// A step of attention over a cache of 8 keys: `positions` are the lines that give `%at`, the places written, and `mask` those that give `%m`.
fn graph(copy: &str, positions: &str, mask: &str) -> Graph {
    let text = format!(
        r#"graph "t" {{
  symbol s in 1..=4
  %q = input[name="q", ty=f32[1, 2, s, 4]]
  %x = input[name="x", ty=f32[1, 2, s, 4]]
  %k0 = input[name="k", ty=f32[1, 2, 8, 4]]
  %p = input[name="p", ty=i64[1]]
  %o = input[name="o", ty=bool[8]]
  {positions}
  %k = index_copy[axis=2, wraps={copy}](%k0, %at, %x)
  %n = arange[start=0, step=1, len=8, dtype=i64]
  %rows = reshape[shape=[1, 1, s, 1]](%at)
  %hidden = full[value=-inf, ty=f32[]]
  %low = full[value=-3e38, ty=f32[]]
  %zero = full[value=0.0, ty=f32[]]
  {mask}
  %y = sdpa[scale=0.5, causal=false](%q, %k, %k, %m)
  output "y" = %y
  output "k" = %k
}}"#
    );
    let graph = text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    graph.verify().unwrap();
    graph
}

const COUNTED: &str = "%r = arange[start=0, step=1, len=s, dtype=i64]\n  %at = add(%p, %r)";
const SEEN: &str = "%m = le(%n, %rows)";

/// The graph after the passes, with its results for a position of 2 compared with those before.
fn after(graph: &Graph, at: i64) -> Graph {
    let list = ["canon", "positions", "canon", "filled", "canon"];
    let (out, _) = run_passes(graph, &list, &PassCx::new(Target::Metal), &mut |_, _| ()).unwrap();
    let noise = |shape: Vec<usize>| {
        Tensor::from_fn(DType::F32, shape, |i| Scalar::float((i as f64 * 0.7).sin())).unwrap()
    };
    let inputs = [
        noise(vec![1, 2, ROWS, 4]),
        noise(vec![1, 2, ROWS, 4]),
        noise(vec![1, 2, 8, 4]),
        Tensor::ints(DType::I64, vec![1], vec![at]).unwrap(),
        Tensor::from_fn(DType::Bool, vec![8], |i| Scalar::Bool(i != 1)).unwrap(),
    ];
    let results = |g: &Graph| g.eval(&inputs, &BTreeMap::new()).unwrap().outputs;
    for (x, y) in results(graph).iter().zip(&results(&out)) {
        assert!(x == y, "{x:?}\n{y:?}\n{out}");
    }
    out
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes().iter().filter(|n| n.op.name() == op).count()
}

/// Whether attention is causal, and how many keys it reads.
fn attention(graph: &Graph) -> (bool, String, usize) {
    let node = graph.nodes().iter().find(|n| n.op.name() == "sdpa");
    let node = node.unwrap();
    let keys = graph.tensor_ty(node.args[1]).unwrap().shape[2].to_string();
    (
        node.op.to_string().contains("causal=true"),
        keys,
        node.args.len(),
    )
}

#[test]
fn a_cache_is_read_as_far_as_it_is_filled() {
    for mask in [
        SEEN,
        "%h = lt(%rows, %n)\n  %m = logical_not(%h)",
        "%h = lt(%rows, %n)\n  %m = where(%h, %hidden, %zero)",
        "%c = le(%n, %rows)\n  %m = where(%c, %zero, %low)",
    ] {
        let out = after(&graph("false", COUNTED, mask), 2);
        assert_eq!(attention(&out), (true, "at0 + s".into(), 3), "{out}");
        assert_eq!(
            (count(&out, "slice_update"), count(&out, "item")),
            (1, 1),
            "{out}"
        );
    }
}

#[test]
fn a_place_behind_which_keys_are_hidden_counts_from_the_front() {
    let out = after(&graph("true", COUNTED, SEEN), 2);
    assert_eq!(attention(&out), (true, "at0 + s".into(), 3), "{out}");
    assert_eq!(out.symbols["at0"].min, 0, "{out}");
    // Where the mask looks at something else, such a place is as good as any.
    let out = after(&graph("true", COUNTED, "%m = le(%n, %n)"), -3);
    assert_eq!(out.symbols["at0"].min, -8, "{out}");
}

#[test]
fn places_that_count_from_the_end_are_written_there() {
    let out = after(&graph("true", COUNTED, "%m = le(%n, %n)"), -3);
    assert_eq!(
        (count(&out, "slice_update"), count(&out, "index_copy")),
        (1, 0)
    );
}

#[test]
fn a_mask_that_says_more_is_kept_for_the_keys_that_are_read() {
    let mask = "%c = le(%n, %rows)\n  %m = logical_and(%c, %o)";
    let out = after(&graph("false", COUNTED, mask), 2);
    assert_eq!(attention(&out), (false, "at0 + s".into(), 4), "{out}");
}

#[test]
fn a_window_is_read_from_its_start() {
    let window = |keys: i64| {
        format!(
            "%keys = full[value={keys}, ty=i64[]]\n  %c = le(%n, %rows)\n  %b = sub(%rows, %keys)\n  %w = lt(%b, %n)\n  %m = logical_and(%c, %w)"
        )
    };
    // At the start of the cache the window isn't filled yet.
    for at in [0, 1, 2, 4] {
        let out = after(&graph("false", COUNTED, &window(2)), at);
        let read = "at0 + s - max(0, at0 - 1)".into();
        assert_eq!(attention(&out), (false, read, 4), "{out}");
    }
    // As much as the cache holds: nothing would be gained.
    let out = after(&graph("false", COUNTED, &window(6)), 2);
    assert_eq!(attention(&out), (false, "at0 + s".into(), 4), "{out}");
}

#[test]
fn what_hides_nothing_behind_the_last_row_is_kept() {
    for (positions, mask) in [
        // Places that don't follow each other.
        (
            "%r = arange[start=0, step=2, len=s, dtype=i64]\n  %at = add(%p, %r)",
            SEEN,
        ),
        // A mask that looks ahead, past what was written.
        (
            COUNTED,
            "%one = full[value=1, ty=i64[]]\n  %b = add(%rows, %one)\n  %m = le(%n, %b)",
        ),
        // One that depends on data alone, or lets too much through.
        (COUNTED, "%m = broadcast[shape=[1, 1, s, 8]](%o)"),
        (COUNTED, "%c = le(%n, %rows)\n  %m = logical_or(%c, %o)"),
        // What is finite leaves a row that data hide whole uniform.
        (
            COUNTED,
            "%c = le(%n, %rows)\n  %b = logical_and(%c, %o)\n  %m = where(%b, %zero, %low)",
        ),
    ] {
        let out = after(&graph("false", positions, mask), 2);
        assert_eq!(attention(&out), (false, "8".into(), 4), "{mask}\n{out}");
    }
}

#[test]
fn a_number_is_read_once_and_a_size_never() {
    let text = r#"graph "t" {
  symbol s in 1..=4
  symbol u in 0..=9
  symbol v in 1..=7
  symbol w in 0..=4
  %x = input[name="x", ty=i64[s]]
  %p = input[name="p", ty=i64[1]]
  %a = item[symbol="u"](%p)
  %q = reshape[shape=[]](%p)
  %b = item[symbol="v"](%q)
  %n = size[value=s]
  %t = int_tensor[dtype=i64](%n)
  %c = item[symbol="w"](%t)
  %y = arange[start=u, step=1, len=s, dtype=i64]
  %z = arange[start=v, step=1, len=w, dtype=i64]
  output "y" = %y
  output "z" = %z
}"#;
    let graph = text::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let cx = PassCx::new(Target::Metal);
    let list = ["canon", "positions", "canon"];
    let (out, _) = run_passes(&graph, &list, &cx, &mut |_, _| ()).unwrap();
    assert_eq!(
        (count(&out, "item"), count(&out, "arange")),
        (1, 1),
        "{out}"
    );
    let inputs = [
        Tensor::ints(DType::I64, vec![3], vec![0; 3]).unwrap(),
        Tensor::ints(DType::I64, vec![1], vec![5]).unwrap(),
    ];
    let results = |g: &Graph| g.eval(&inputs, &BTreeMap::new()).unwrap().outputs;
    assert_eq!(results(&graph), results(&out));
}
