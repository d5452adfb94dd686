//! Operators that MLX can't express: calls of kernels of the host between delegate segments, those of a user's library included.

use fuseline_compiler::import::HostOps;
use fuseline_compiler::{Options, Quiet, Report, compile};
use fuseline_passes::{Level, PassCx};
use fuseline_program::Pte;
use fuseline_runtime::{Error, KernelError, Kernels, Program, Tensor, Value};
use fuseline_tests::{Result, bins, cases, compare, roads, workspace};
use std::path::Path;

#[test]
fn an_operator_in_the_middle_leaves_two_segments_and_one_host_call() -> Result {
    for level in Level::ALL {
        for form in ["model.pt2", "model_core.pt2"] {
            let input = workspace::fixtures()
                .join("modules/host_nonzero")
                .join(form);
            let options = Options::new(input, level, PassCx::new(roads::target()));
            let folder = tempfile::tempdir()?;
            let output = folder.path().join("model.pte");
            let report = compile(&options, &mut Quiet)?.write(&output, &mut Quiet)?;
            assert_eq!(report.segments, 2, "{form} at {level}");
            assert_eq!(report.host.len(), 1, "{form} at {level}");
        }
    }
    Ok(())
}

const SCALED: &str =
    "fixture::scaled(Tensor x, int k=2, *, float w=1.5, str mode=\"plain\") -> Tensor";
const PEAKS: &str =
    "fixture::peaks(Tensor x, float least, int[] limits, Tensor? floor=None) -> (Tensor, Tensor)";

/// Compiles a form of `host/library`.
fn library(form: &str, level: Level, host: &[&str], output: &Path) -> Result<Report> {
    over_library("host/library", form, level, host, output)
}

/// Compiles a form of a module over the library `fixture`.
fn over_library(
    case: &str,
    form: &str,
    level: Level,
    host: &[&str],
    output: &Path,
) -> Result<Report> {
    let input = workspace::fixtures().join(case).join(form);
    let mut options = Options::new(input, level, PassCx::new(roads::target()));
    options.host = HostOps::new(host)?;
    Ok(compile(&options, &mut Quiet)?.write(output, &mut Quiet)?)
}

fn problem(position: usize, what: &str) -> KernelError {
    KernelError::Argument {
        position,
        problem: what.to_owned(),
    }
}

fn floats(arguments: &[Value], position: usize) -> std::result::Result<&Tensor, KernelError> {
    let tensor = arguments.get(position).and_then(Value::as_tensor);
    tensor.ok_or_else(|| problem(position, "is not a tensor"))
}

/// `scaled(x, k=2, *, w=1.5, mode="plain")`. Without its schema the named arguments that are given follow the others.
fn scaled(arguments: &[Value]) -> std::result::Result<Vec<Value>, KernelError> {
    let x = floats(arguments, 0)?;
    let (mut k, mut w, mut shift) = (2.0, 1.5, 0.0);
    for argument in &arguments[1..] {
        match argument {
            Value::Int(n) => k = *n as f32,
            Value::Float(x) => w = *x as f32,
            Value::String(mode) => shift = if mode == "shifted" { 1.0 } else { 0.0 },
            _ => return Err(problem(1, "is no number")),
        }
    }
    let all = x.to_vec::<f32>()?;
    let all: Vec<f32> = all.into_iter().map(|x| x * k * w + shift).collect();
    Ok(vec![Tensor::from_slice(&x.shape(), &all)?.into()])
}

/// `peaks(x, least, limits, floor=None)`.
fn peaks(arguments: &[Value]) -> std::result::Result<Vec<Value>, KernelError> {
    let x = floats(arguments, 0)?;
    let least = arguments[1]
        .as_float()
        .ok_or_else(|| problem(1, "is no number"))? as f32;
    let Value::List(limits) = &arguments[2] else {
        return Err(problem(2, "is no list"));
    };
    let limits: Vec<usize> = limits
        .iter()
        .filter_map(|n| usize::try_from(n.as_int()?).ok())
        .collect();
    let above = x.to_vec::<f32>()?.into_iter().enumerate();
    let above = above.filter(|(_, x)| *x > least);
    let (at, values): (Vec<i64>, Vec<f32>) = above
        .map(|(at, x)| (at as i64, x))
        .take(limits[1])
        .skip(limits[0])
        .unzip();
    let shape = [at.len()];
    Ok(vec![
        Tensor::from_slice(&shape, &at)?.into(),
        Tensor::from_slice(&shape, &values)?.into(),
    ])
}

/// `blend(xs, count, weights)`.
fn blend(arguments: &[Value]) -> std::result::Result<Vec<Value>, KernelError> {
    let (Value::List(xs), Value::List(weights)) = (&arguments[0], &arguments[2]) else {
        return Err(problem(0, "is no list"));
    };
    let count = arguments[1]
        .as_int()
        .ok_or_else(|| problem(1, "is no number"))? as f32;
    let first = floats(xs, 0)?;
    let mut sum = vec![count; first.shape().iter().product()];
    for (n, weight) in weights.iter().enumerate() {
        let weight = weight.as_float().unwrap_or_default() as f32;
        for (sum, x) in sum.iter_mut().zip(floats(xs, n)?.to_vec::<f32>()?) {
            *sum += x * weight;
        }
    }
    Ok(vec![Tensor::from_slice(&first.shape(), &sum)?.into()])
}

fn kernels() -> Kernels {
    let mut kernels = Kernels::standard();
    kernels.register("fixture::scaled", 4, 1, scaled);
    kernels.register("fixture.peaks.default", 4, 2, peaks);
    kernels.register("fixture::blend.out", 3, 1, blend);
    kernels
}

fn open(path: &Path, kernels: Kernels) -> std::result::Result<Program, Error> {
    let options = fuseline_runtime::Options {
        kernels: Some(kernels),
        ..fuseline_runtime::Options::default()
    };
    Program::open_with(path, &options)
}

#[test]
fn operators_of_a_library_run_with_the_kernels_of_the_program_that_runs_the_model() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    let forms = ["model.pt2", "model_core.pt2"];
    let schemas = [&[][..], &[SCALED, PEAKS]];
    for (name, count) in [("host/library", 4), ("host/library_state", 3)] {
        let case = cases::find(name)?;
        let calls = case.inputs()?;
        for (form, level) in forms
            .iter()
            .flat_map(|f| Level::ALL.map(|level| (f, level)))
        {
            for schemas in schemas {
                let report = over_library(name, form, level, schemas, &output)?;
                let names: Vec<&str> = report.host.iter().map(|h| h.kernel.as_str()).collect();
                assert_eq!(names.len(), count, "{name}, {form} at {level}: {names:?}");
                for host in &report.host {
                    assert_eq!(host.reason, "an operator of the library `fixture`");
                }
                let mut session = open(&output, kernels())?.session()?;
                let got = calls.iter().map(|inputs| roads::step(&mut session, inputs));
                let got = got.collect::<Result<Vec<_>>>()?;
                compare::check_calls(&got, &case.expected()?, compare::tolerance(&case))
                    .map_err(|e| format!("{name}, {form} at {level}: {e}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn without_its_kernel_a_program_does_not_open_and_names_it() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    library("model.pt2", Level::O2, &[], &output)?;
    let Err(Error::Unsupported { needs, .. }) = Program::open(&output) else {
        return Err("it opened".into());
    };
    for name in ["scaled", "peaks", "blend"] {
        let need = format!("the operator `fixture::{name}.out`, which is not registered");
        assert!(needs.contains(&need), "{needs:?}");
    }
    let mut few = kernels();
    few.register("fixture::scaled", 0, 1, scaled);
    let error = open(&output, few).err().map(|e| e.to_string());
    let error = error.unwrap_or_default();
    assert!(error.contains("takes 0 and gives 1"), "{error}");
    Ok(())
}

#[test]
fn a_kernel_that_gives_something_else_is_an_error_and_no_wrong_number() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    library("model.pt2", Level::O2, &[], &output)?;
    let mut wrong = kernels();
    wrong.register("fixture::blend", 3, 1, |_| {
        Ok(vec![Tensor::from_slice(&[1], &[1_i64])?.into()])
    });
    let mut session = open(&output, wrong)?.session()?;
    let inputs = &cases::find("host/library")?.inputs()?[0];
    let error = roads::step(&mut session, inputs)
        .err()
        .map(|e| e.to_string());
    let error = error.unwrap_or_default();
    assert!(
        error.contains("fixture::blend.out: result 0 is i64[1]"),
        "{error}"
    );
    Ok(())
}

#[test]
fn inspect_lists_what_is_left_to_the_host_with_reasons() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    library("model.pt2", Level::O2, &[], &output)?;
    let bytes = std::fs::read(&output)?;
    let summary = Pte::parse(&bytes)?.summary();
    assert_eq!(summary.methods[0].host.len(), 4);
    let text = summary.to_string();
    let line = "on the host fixture::peaks.out: an operator of the library `fixture`";
    assert!(text.contains(line), "{text}");
    Ok(())
}

#[test]
fn an_operator_that_has_no_form_is_a_call_of_a_kernel_that_must_be_registered() -> Result {
    let folder = tempfile::tempdir()?;
    let model = workspace::fixtures().join("modules/host_missing/model.pt2");
    let output = folder.path().join("model.pte");
    let args: Vec<std::ffi::OsString> = vec![
        "compile".into(),
        model.into(),
        "-o".into(),
        (&output).into(),
    ];
    let done = bins::run("fuseline", &args)?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let line = "on the host:  aten::ormqr.out";
    assert!(done.stderr.contains(line), "{}", done.stderr);
    assert!(
        done.stderr.contains("registers a kernel"),
        "{}",
        done.stderr
    );
    let error = match Program::open(&output) {
        Ok(_) => return Err("a program without its kernel".into()),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("aten::ormqr.out"), "{error}");
    Ok(())
}

/// The session of a model of factorisations, and what its call makes of one matrix.
fn factored(matrix: &[f32], form: &str) -> Result<std::result::Result<Vec<Value>, Error>> {
    let input = workspace::fixtures()
        .join("modules/host_inverse")
        .join(form);
    let options = Options::new(input, Level::O2, PassCx::new(roads::target()));
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    compile(&options, &mut Quiet)?.write(&output, &mut Quiet)?;
    let program = Program::open(&output)?;
    let mut session = program.session()?;
    let x = Tensor::from_slice(&[1, 2, 2], matrix)?;
    Ok(session.run("forward", &[x.into()]))
}

#[test]
fn a_matrix_without_an_inverse_is_an_error_that_names_it() -> Result {
    for form in ["model.pt2", "model_core.pt2"] {
        assert!(factored(&[4.0, 1.0, 2.0, 3.0], form)?.is_ok(), "{form}");
        let error = factored(&[1.0, 2.0, 2.0, 4.0], form)?
            .err()
            .ok_or("an inverse of a singular matrix")?;
        let said = error.to_string();
        assert!(
            said.contains("matrix 0 of the batch is singular: pivot 2"),
            "{form}: {said}"
        );
    }
    Ok(())
}
