//! Graphs that repeat themselves, and some that only nearly do.

use super::*;
use crate::pass::{PassCx, Target};
use crate::saturate;
use fuseline_ir::{Dim, Payload, Tensor, TensorType, text};
use std::fmt::Write;
use std::sync::Arc;

/// Layers of a norm written out, a product, a cache and a mask that all share; `odd` may change the text of a layer.
fn stack(layers: usize, odd: impl Fn(usize, String) -> String) -> Graph {
    let mut data =
        String::from("graph \"forward\" {\n  symbol s in 1..=16\n  data \"scale\" : f32[]\n");
    let mut body = String::from(
        "  %ids = input[name=\"%3\", ty=f32[1, s, 8]]\n  %at = input[name=\"at\", ty=i64[s]]\n  %eps = full[value=1e-05, ty=f32[]]\n\
         \x20 %cols = arange[start=0, step=1, len=16, dtype=i64]\n  %rows = reshape[shape=[s, 1]](%at)\n  %le = le(%cols, %rows)\n\
         \x20 %maskf = cast[dtype=f32](%le)\n  %mask = reshape[shape=[1, s, 16]](%maskf)\n  %x0 = exp(%ids)\n",
    );
    let mut ends = String::new();
    for n in 0..layers {
        let next = n + 1;
        writeln!(data, "  data \"w{n}\" : f32[8, 8]\n  data \"g{n}\" : f32[8]\n  data \"b{n}\" : f32[1]\n  state \"c{n}\" : f32[16, 8]").unwrap();
        let layer = format!(
            "  %w{n} = constant[name=\"w{n}\", ty=f32[8, 8]]\n  %g{n} = constant[name=\"g{n}\", ty=f32[8]]\n  %b{n} = constant[name=\"b{n}\", ty=f32[1]]\n\
             \x20 %c{n} = state[name=\"c{n}\", ty=f32[16, 8]]\n  %sq{n} = square(%x{n})\n  %mean{n} = mean[axes=[2], keepdim=true](%sq{n})\n  %me{n} = add(%mean{n}, %eps)\n\
             \x20 %r{n} = rsqrt(%me{n})\n  %sc{n} = mul(%x{n}, %r{n})\n  %h{n} = mul(%sc{n}, %g{n})\n  %wt{n} = transpose[perm=[1, 0]](%w{n})\n  %p{n} = matmul(%h{n}, %wt{n}) at \"layers.{n}\"\n\
             \x20 %v{n} = reshape[shape=[s, 8]](%p{n})\n  %cn{n} = index_copy[axis=0, wraps=false](%c{n}, %at, %v{n})\n  %a{n} = matmul(%mask, %cn{n})\n  %ab{n} = mul(%a{n}, %b{n})\n  %x{next} = add(%x{n}, %ab{n})\n"
        );
        body.push_str(&odd(n, layer));
        writeln!(ends, "  next \"c{n}\" = %cn{n}").unwrap();
    }
    let text = format!("{data}{body}{ends}  %last = neg(%x{layers})\n  output \"y\" = %last\n}}");
    let mut graph = text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for (name, constant) in &mut graph.constants {
        let n = name[1..].parse::<usize>().unwrap_or(0);
        let bytes = tensor(&constant.ty, if name.starts_with('b') { 0 } else { n }).to_bytes();
        let data: Arc<dyn Payload> = Arc::new(bytes);
        constant.data = Some(data);
    }
    graph.verify().unwrap();
    graph
}

fn tensor(ty: &TensorType, seed: usize) -> Tensor {
    let shape = ty
        .shape
        .iter()
        .map(|d| d.substitute(&|_| Some(Dim::from(5i64))).as_const().unwrap() as usize);
    Tensor::from_fn(ty.dtype, shape.collect(), |i| match ty.dtype.is_float() {
        true => Scalar::float(((i * 7 + seed * 5) % 11) as f64 / 8.0 - 0.5),
        false => Scalar::Int(i as i64),
    })
    .unwrap()
}

fn evaluate(graph: &Graph) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .enumerate()
        .map(|(n, v)| tensor(graph.tensor_ty(*v).unwrap(), n))
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

fn histogram(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut all = BTreeMap::new();
    graph
        .nodes()
        .iter()
        .for_each(|n| *all.entry(n.op.name()).or_insert(0) += 1);
    all
}

fn same(_: usize, layer: String) -> String {
    layer
}

fn count(graph: &Graph) -> usize {
    find(graph, &Default::default()).map_or(0, |layers| layers.count())
}

#[test]
fn a_stack_is_cut_into_its_layers() {
    for n in [3, 4, 9] {
        let graph = stack(n, same);
        let layers = find(&graph, &Default::default()).unwrap();
        assert!(
            layers.count() >= n - 1 && layers.period == 13,
            "{n}: {} of {}",
            layers.count(),
            layers.period
        );
        assert_eq!(layers.results.len(), 2, "the stream and the cache");
    }
    assert_eq!(count(&stack(2, same)), 0);
}

#[test]
fn solved_in_parts_it_is_what_it_is_solved_whole() {
    let graph = stack(5, same);
    let cx = PassCx::new(Target::Metal);
    let (parts, report) = saturate::report(&graph, &cx).unwrap();
    assert!(report.layers >= 4);
    parts.verify().unwrap();
    let (loaded, of_whole) = saturate::saturated(&graph, &cx, crate::rules::all()).unwrap();
    let model = crate::cost::Model::of(&cx, &graph.symbols);
    let weigh = |op: &Op, args: &[&Type], out: &Type, once: bool| model.cost(op, args, out, once);
    let (whole, cost) =
        crate::extract::extract(&graph, &loaded.egraph, &loaded.classes, &weigh).unwrap();
    assert_eq!(histogram(&parts), histogram(&whole));
    assert_eq!(histogram(&parts).get("rms_norm"), Some(&5));
    assert_eq!(report.cost, cost);
    let named = |r: &saturate::Report| {
        r.fired
            .iter()
            .filter(|(n, _)| **n != crate::leading::NAME)
            .map(|(n, t)| (*n, *t))
            .collect::<Vec<_>>()
    };
    assert_eq!(named(&report), named(&of_whole));
    for (got, want) in evaluate(&parts).iter().zip(evaluate(&graph)) {
        let near = got
            .to_f64()
            .iter()
            .zip(want.to_f64())
            .all(|(g, w)| (g - w).abs() <= 1e-5 * w.abs().max(1.0));
        assert!(near, "{got:?}, not {want:?}");
    }
    // Each layer keeps its own names and places.
    let text = parts.to_string();
    for n in 0..5 {
        assert!(
            text.contains(&format!("name=\"w{n}\""))
                && text.contains(&format!("at \"layers.{n}\"")),
            "{text}"
        );
        assert!(text.contains(&format!("next \"c{n}\"")));
    }
    assert!(report.nodes * 2 < of_whole.nodes);
}

/// Sizes that a number read before the layers decides are known in all of them.
#[test]
fn a_number_read_before_the_layers_is_there_for_all() {
    let mut graph = stack(4, |n, l| {
        let cut = format!(
            "  %cut{n} = slice[axis=1, start=0, stop=u, step=1](%p{n})\n  %v{n} = reshape[shape=[u, 8]](%cut{n})\n"
        );
        let l = l.replace(&format!("  %v{n} = reshape[shape=[s, 8]](%p{n})\n"), &cut);
        let l = l.replace(
            &format!("(%c{n}, %at, %v{n})"),
            &format!("(%c{n}, %few, %v{n})"),
        );
        if n > 0 {
            return l;
        }
        let read = "  %one = slice[axis=0, start=1, stop=2, step=1](%at)\n  %u = item[symbol=\"u\"](%one)\n  %few = arange[start=0, step=1, len=u, dtype=i64]\n";
        format!("{read}{l}")
    });
    graph
        .symbols
        .insert("u".into(), fuseline_ir::Range { min: 0, max: 2 });
    let (out, report) = saturate::report(&graph, &PassCx::new(Target::Metal)).unwrap();
    out.verify().unwrap();
    assert!(report.layers >= 3, "{}", report.layers);
    assert_eq!(histogram(&out).get("item"), Some(&1));
    for (got, want) in evaluate(&out).iter().zip(evaluate(&graph)) {
        let near = got
            .to_f64()
            .iter()
            .zip(want.to_f64())
            .all(|(g, w)| (g - w).abs() <= 1e-5 * w.abs().max(1.0));
        assert!(near, "{got:?}, not {want:?}");
    }
}

#[test]
fn layers_that_differ_are_not_taken_for_alike() {
    let cx = PassCx::new(Target::Metal);
    let check = |what: &str, most: usize, graph: Graph| {
        assert!(count(&graph) <= most, "{what}: {}", count(&graph));
        let (out, _) = saturate::report(&graph, &cx).unwrap();
        out.verify().unwrap();
        for (got, want) in evaluate(&out).iter().zip(evaluate(&graph)) {
            let near = got
                .to_f64()
                .iter()
                .zip(want.to_f64())
                .all(|(g, w)| (g - w).abs() <= 1e-5 * w.abs().max(1.0));
            assert!(near, "{what}");
        }
    };
    check(
        "another op",
        3,
        stack(7, |n, l| {
            if n == 3 {
                l.replace("rsqrt", "sqrt")
            } else {
                l
            }
        }),
    );
    check(
        "the first layer's stream",
        5,
        stack(6, |n, l| {
            if n == 4 {
                l.replace("%x5 = add(%x4", "%x5 = add(%x0")
            } else {
                l
            }
        }),
    );
    check(
        "every other layer",
        3,
        stack(6, |n, l| {
            if n % 2 == 0 {
                l.replace("rsqrt", "sqrt")
            } else {
                l
            }
        }),
    );
    check(
        "a weight of the first",
        6,
        stack(6, |n, l| {
            if n > 0 {
                l.replace(&format!("(%w{n})"), "(%w0)")
            } else {
                l
            }
        }),
    );
    // A number that rules look at.
    let mut other = stack(7, same);
    let one: Arc<dyn Payload> = Arc::new(1f32.to_le_bytes().to_vec());
    if let Some(b) = other.constants.get_mut("b3") {
        b.data = Some(one);
    }
    check("a number", 3, other);
}
