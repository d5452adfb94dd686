//! Quantising while compiling: MLX's bytes, what becomes of each weight, and a file that doesn't depend on how it was made.

use fuseline_compiler::compile::{compile_method, write};
use fuseline_compiler::quantize::{Names, Plan, Quantised, Scheme, apply};
use fuseline_compiler::{Options, Quiet, Report, import, pt2};
use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Graph, Loc, TensorType};
use fuseline_passes::{Level, PassCx, Target, optimise};
use fuseline_program::container::WriteOptions;
use fuseline_tests::{Result, bins, workspace};
use safetensors::SafeTensors;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// A product with a weight, quantised.
fn quantised(ty: &TensorType, data: Vec<u8>, scheme: Scheme) -> Result<Graph> {
    let mut graph = Graph::new("forward");
    let x = TensorType::new(ty.dtype, vec![1i64.into(), ty.shape[1].clone()]);
    let x = graph.input("x", x)?;
    let w = graph.constant("w", ty.clone(), Some(Arc::new(data)))?;
    let w = graph.add(op::Transpose { perm: vec![1, 0] }, &[w], &Loc::default())?;
    let y = graph.add(op::Matmul {}, &[x, w], &Loc::default())?;
    graph.output("y", y);
    let plan = Plan {
        scheme: Some(scheme),
        ..Plan::default()
    };
    let names = Names::from([("w".into(), vec!["w".to_owned()])]);
    let (graph, done) = apply(&graph, &plan, &names)?;
    assert!(done.kept().is_empty(), "{:?}", done.kept());
    graph.verify()?;
    Ok(graph)
}

/// Bytes that are equal, but for NaN, which is equal to every other NaN.
fn same(dtype: DType, a: &[u8], b: &[u8]) -> bool {
    let numbers = |bytes: &[u8]| {
        let shape = vec![bytes.len() / dtype.size()];
        fuseline_ir::Tensor::from_bytes(dtype, shape, bytes).map(|t| t.to_f64())
    };
    a == b
        || match (numbers(a), numbers(b)) {
            (Ok(a), Ok(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(&b)
                        .all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
            }
            _ => false,
        }
}

/// `tests/scripts/mlx_quantize.py` made the expected bytes with MLX's Python package.
#[test]
fn every_scheme_gives_the_bytes_that_mlx_gives() -> Result {
    let file = std::fs::read(workspace::fixtures().join("quantize/mlx.safetensors"))?;
    let file = SafeTensors::deserialize(&file)?;
    let mut wrong = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let plain = file.tensor(&format!("{dtype}.w"))?;
        let strange = file.tensor(&format!("{dtype}.strange"))?;
        for scheme in Scheme::all() {
            let affine = scheme.to_string().starts_with("affine");
            let mut rows = plain.shape()[0];
            let mut data = plain.data().to_vec();
            if affine {
                rows += strange.shape()[0];
                data.extend_from_slice(strange.data());
            }
            let shape = [rows, plain.shape()[1]].map(Into::into).to_vec();
            let graph = quantised(&TensorType::new(dtype, shape), data, scheme)?;
            for list in ["packed", "scales", "biases"] {
                let Some(constant) = graph.constants.get(format!("w.{list}").as_str()) else {
                    assert!(!affine && list == "biases");
                    continue;
                };
                let expected = file.tensor(&format!("{dtype}.{scheme}.{list}"))?;
                let bytes = constant.data.as_ref().ok_or("no data")?.bytes()?;
                if !same(constant.ty.dtype, &bytes, expected.data()) {
                    wrong.push(format!("{dtype} {scheme} {list}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

/// Compiles an archive with a plan.
fn compiled(archive: &str, plan: Plan, output: &Path) -> Result<Report> {
    let mut options = Options::new(
        workspace::fixtures().join(archive),
        Level::O2,
        PassCx::new(Target::Metal),
    );
    options.quantize = plan;
    let method = compile_method("forward", &options, &mut Quiet)?;
    Ok(write(&[method], output, &mut Quiet)?)
}

fn plan(scheme: &str, map: &str) -> Result<Plan> {
    let scheme = if scheme == "none" {
        None
    } else {
        Some(scheme.parse()?)
    };
    Ok(Plan {
        scheme,
        map: map.parse()?,
        search: false,
    })
}

const DEMO: &str = "stdlib-llama/stdlib-llama-bf16.pt2";

#[test]
fn a_model_reads_its_weights_in_few_bits_everywhere() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    let report = compiled(DEMO, plan("affine4g64", "")?, &output)?;
    assert!(report.kept.is_empty(), "{:?}", report.kept);
    let count = |name: &str| report.instructions.get(name).copied().unwrap_or(0);
    assert_eq!(count("Matmul") + count("Addmm"), 0);
    // In each of four layers queries, keys and values are one, and so are the gate and its partner.
    assert_eq!(count("QuantizedMatmul"), 17);
    assert_eq!(count("Dequantize"), 1, "rows of the embedding");
    for weight in &report.quantized {
        let error = weight.relative_error.ok_or("an error that is not finite")?;
        assert!(error < 0.15, "{}: {error}", weight.name);
        assert_eq!(weight.bytes_before * 9, weight.bytes * 32);
    }
    let bytes: u64 = report.quantized.iter().map(|w| w.bytes).sum();
    assert!(bytes < report.weights.bytes && report.weights.bytes < report.bytes);
    Ok(())
}

/// What the plan does to a model, without the passes.
fn weights(archive: &str, plan: &Plan) -> Result<Quantised> {
    let archive = pt2::Archive::open(workspace::fixtures().join(archive))?;
    let graph = import::import(&archive)?;
    let (graph, done) = apply(&graph, plan, &import::parameters(&archive))?;
    graph.verify()?;
    Ok(done)
}

#[test]
fn rules_choose_by_name_and_tied_names_are_one_weight() -> Result {
    let map = "**.layers.0.** = none\n**.o_proj = affine8g32\nmodel.lm_head = affine6g128\n";
    let done = weights(DEMO, &plan("affine4g64", map)?)?;
    let report = done
        .report()
        .map_err(|(name, reason)| format!("{name}: {reason}"))?;
    let scheme = |name: &str| {
        let name = format!("model.model.{name}.weight");
        let found = report.iter().find(|w| w.name == name);
        found.map(|w| w.scheme.as_str())
    };
    assert_eq!(scheme("embed_tokens"), Some("affine6g128"));
    assert_eq!(scheme("layers.0.mlp.up_proj"), None);
    assert_eq!(scheme("layers.0.self_attn.o_proj"), Some("affine8g32"));
    assert_eq!(scheme("layers.1.mlp.up_proj"), Some("affine4g64"));
    Ok(())
}

#[test]
fn what_stays_in_floats_has_a_reason() -> Result {
    let done = weights(
        "decoders/llama3_cache_fp16/model.pt2",
        &plan("affine4g32", "")?,
    )?;
    let reasons: Vec<&str> = done
        .kept()
        .iter()
        .map(|kept| kept.reason.as_str())
        .collect();
    let expected = "48 numbers in a row are no multiple of the group of 32";
    assert_eq!(reasons, [expected, expected]);
    Ok(())
}

/// Eight matrices, of which an index chooses one for each column that it meets: `matmul(take(w, i), x)`, as exports of experts have it; maybe transposed after they are chosen.
fn experts(turned: bool) -> Result<Graph> {
    let at = Loc::default();
    let ty = |dtype, shape: &[i64]| {
        TensorType::new(dtype, shape.iter().map(|n| (*n).into()).collect::<Vec<_>>())
    };
    let mut graph = Graph::new("forward");
    let x = graph.input("x", ty(DType::F32, &[2, 64, 1]))?;
    let i = graph.input("i", ty(DType::I64, &[2]))?;
    let w = ty(DType::F32, &[8, 64, 64]);
    let data = (0..8 * 64 * 64i32).flat_map(|n| ((n % 61) as f32 - 30.0).to_le_bytes());
    let w = graph.constant("w", w, Some(Arc::new(data.collect::<Vec<u8>>())))?;
    let mut taken = graph.add(op::Take { axis: 0 }, &[w, i], &at)?;
    if turned {
        taken = graph.add(
            op::Transpose {
                perm: vec![0, 2, 1],
            },
            &[taken],
            &at,
        )?;
    }
    let y = graph.add(op::Matmul {}, &[taken, x], &at)?;
    graph.output("y", y);
    Ok(graph)
}

#[test]
fn experts_on_the_left_are_read_in_few_bits() -> Result {
    let names = Names::from([("w".into(), vec!["w".to_owned()])]);
    let (graph, done) = apply(&experts(false)?, &plan("affine4g64", "")?, &names)?;
    assert!(done.kept().is_empty(), "{:?}", done.kept());
    for target in [Target::Metal, Target::Cuda, Target::Cpu] {
        let (out, _) = optimise(&graph, Level::O2, &PassCx::new(target), &mut |_, _| {})?;
        let ops: Vec<&str> = out.values().map(|(_, node)| node.op.name()).collect();
        assert!(ops.contains(&"gather_qmm"), "{ops:?}");
        assert!(
            !ops.contains(&"dequantize") && !ops.contains(&"transpose"),
            "{ops:?}"
        );
    }
    let (_, done) = apply(&experts(true)?, &plan("affine4g64", "")?, &names)?;
    let reasons: Vec<&str> = done
        .kept()
        .iter()
        .map(|kept| kept.reason.as_str())
        .collect();
    assert_eq!(
        reasons,
        ["matmul reads it, and there is no quantised kernel for that"]
    );
    Ok(())
}

/// One weight of which each of three products reads a part, cut along an axis.
fn parts(axis: usize) -> Result<Graph> {
    let at = Loc::default();
    let ty = |shape: [i64; 2]| TensorType::new(DType::F32, shape.map(Into::into).to_vec());
    let mut graph = Graph::new("forward");
    let x = graph.input("x", ty([2, if axis == 0 { 96 } else { 32 }]))?;
    let data = (0..96 * 96i32).flat_map(|n| ((n % 61) as f32 - 30.0).to_le_bytes());
    let w = graph.constant("w", ty([96, 96]), Some(Arc::new(data.collect::<Vec<u8>>())))?;
    for n in 0..3i64 {
        let (start, stop) = ((32 * n).into(), (32 * n + 32).into());
        let cut = op::Slice {
            axis,
            start,
            stop,
            step: 1,
        };
        let part = graph.add(cut, &[w], &at)?;
        let part = graph.add(op::Transpose { perm: vec![1, 0] }, &[part], &at)?;
        let y = graph.add(op::Matmul {}, &[x, part], &at)?;
        graph.output(format!("y{n}"), y);
    }
    Ok(graph)
}

#[test]
fn parts_of_a_weight_are_read_in_few_bits_if_their_groups_are_whole() -> Result {
    let names = Names::from([("w".into(), vec!["w".to_owned()])]);
    let (graph, done) = apply(&parts(0)?, &plan("affine4g32", "")?, &names)?;
    assert!(done.kept().is_empty(), "{:?}", done.kept());
    let cx = PassCx::new(Target::Metal);
    let (out, _) = optimise(&graph, Level::O2, &cx, &mut |_, _| {})?;
    let count = |name: &str| out.nodes().iter().filter(|n| n.op.name() == name).count();
    assert_eq!((count("dequantize"), count("matmul")), (0, 0));
    assert!((1..=3).contains(&count("quantized_matmul")));
    let (_, done) = apply(&parts(1)?, &plan("affine4g32", "")?, &names)?;
    let reasons: Vec<&str> = done.kept().iter().map(|k| k.reason.as_str()).collect();
    assert_eq!(reasons, ["a product sums over a part of it"]);
    Ok(())
}

/// Its weights are stored with what products sum over first.
const TRANSPOSED: &str = "decoders/gpt2_cache_fp32/model.pt2";

#[test]
fn a_search_shows_its_gain_and_the_bytes_are_the_same_each_time() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    let mut searched = plan("affine2g32", "")?;
    searched.search = true;
    let report = compiled(TRANSPOSED, searched.clone(), &output)?;
    assert_eq!(report.quantized.len(), 10);
    for weight in &report.quantized {
        let (now, before) = (weight.relative_error, weight.relative_error_without_search);
        assert!(now < before, "{}: {now:?}, {before:?}", weight.name);
    }
    let first = std::fs::read(&output)?;
    compiled(TRANSPOSED, searched, &output)?;
    assert!(first == std::fs::read(&output)?);
    Ok(())
}

/// The dtypes of a model's outputs, states and large weights, and how many norms it has.
fn dtypes(archive: &str, dtype: DType) -> Result<(Vec<String>, Vec<String>, usize)> {
    let mut options = Options::new(
        workspace::fixtures().join(archive),
        Level::O2,
        PassCx::new(Target::Metal),
    );
    options.dtype = Some(dtype);
    let compiled = compile_method("forward", &options, &mut Quiet)?;
    let graph = &compiled.graph;
    let live = graph.live();
    let norms = graph
        .values()
        .filter(|(v, n)| live[v.index()] && n.op.name().ends_with("_norm"));
    let norms = norms.count();
    let set = |types: Vec<&TensorType>| {
        let names = types.iter().map(|ty| ty.dtype.to_string());
        let names: std::collections::BTreeSet<_> = names.collect();
        names.into_iter().collect::<Vec<_>>()
    };
    let data = |ty: &&TensorType| ty.dtype.is_float() && ty.rank() == 2;
    let states = graph
        .states
        .iter()
        .map(|s| &s.ty)
        .filter(|ty| ty.rank() > 2);
    let weights = graph.constants.values().map(|c| &c.ty).filter(data);
    Ok((set(states.collect()), set(weights.collect()), norms))
}

#[test]
fn a_model_in_another_dtype_keeps_its_norms() -> Result {
    for (archive, norms) in [
        ("decoders/llama3_cache_fp32/model.pt2", 5),
        ("decoders/llama3_cache_fp32/model_core.pt2", 5),
        ("decoders/llama3_cache_bf16/model.pt2", 5),
        ("decoders/gpt2_cache_fp32/model.pt2", 5),
    ] {
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            let (states, weights, found) = dtypes(archive, dtype)?;
            let expected = [dtype.to_string()];
            assert_eq!(
                (&states[..], &weights[..]),
                (&expected[..], &expected[..]),
                "{archive}"
            );
            assert_eq!(found, norms, "{archive} in {dtype}");
        }
    }
    Ok(())
}

/// What the command says of these options, which must be refused.
fn refused(options: &[&str], map: &str, code: i32) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (model, output) = (
        workspace::fixtures().join("modules/linear_bias/model.pt2"),
        folder.path().join("model.pte"),
    );
    let rules = folder.path().join("rules.txt");
    std::fs::write(&rules, map)?;
    let mut args: Vec<String> = vec!["compile".into(), model.display().to_string()];
    args.extend(["-o".into(), output.display().to_string()]);
    args.extend(
        options
            .iter()
            .map(|o| o.replace("RULES", &rules.display().to_string())),
    );
    let done = bins::run("fuseline", &args)?;
    assert_eq!(done.code, Some(code), "{}", done.stderr);
    assert!(!output.exists());
    Ok(done.stderr)
}

#[test]
fn mistakes_are_named() -> Result {
    let said = refused(&["--quantize", "int4"], "", 2)?;
    assert!(
        said.contains("affine4g64") && said.contains("nvfp4"),
        "{said}"
    );
    let said = refused(&["--quantize-search"], "", 2)?;
    assert!(said.contains("--quantize-map"), "{said}");
    let said = refused(&["--memory-budget", "1 pound"], "", 2)?;
    assert!(said.contains("kB, MB, GB"), "{said}");
    let map = ["--quantize-map", "RULES"];
    let said = refused(&map, "# first\n** = affine4g65\n", 4)?;
    assert!(said.contains("rules.txt: line 2: `affine4g65`"), "{said}");
    let said = refused(&map, "** = none\n\nencoder.** = mxfp4\n", 4)?;
    assert!(
        said.contains("rules.txt: line 3: `encoder.**` fits no weight"),
        "{said}"
    );
    Ok(())
}

#[test]
fn the_number_of_threads_shows_nowhere() -> Result {
    let mut options = Options::new(
        workspace::fixtures().join(TRANSPOSED),
        Level::O2,
        PassCx::new(Target::Metal),
    );
    options.quantize = plan("affine5g32", "")?;
    let method = compile_method("forward", &options, &mut Quiet)?;
    let program = method.program()?;
    let folder = tempfile::tempdir()?;
    let mut files = Vec::new();
    for threads in [1, 2, 7] {
        let path = folder.path().join(threads.to_string());
        let options = WriteOptions {
            threads: NonZeroUsize::new(threads),
            ..WriteOptions::default()
        };
        program.write_file_with(&path, &options)?;
        files.push(std::fs::read(&path)?);
    }
    assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
    Ok(())
}
