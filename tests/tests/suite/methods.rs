//! Several exports as methods of one file: each gives its own results, and weights that they share are stored once.

use fuseline_compiler::{Options as CompileOptions, Quiet, compile as compile_model};
use fuseline_passes::{Level, PassCx};
use fuseline_runtime::{Error, Options, Program, Tensor, Value};
use fuseline_tests::{Result, bins, cases, compare, roads, workspace};
use std::ffi::OsString;
use std::fs;

#[test]
fn two_exports_in_one_file() -> Result {
    let case = cases::find("decoders/llama3_cache_fp32")?;
    let folder = tempfile::tempdir()?;
    let from = workspace::fixtures().join("decoders/llama3_cache_fp32");
    let method = |name: &str, form: &str| -> [OsString; 2] {
        let mut value = OsString::from(format!("{name}="));
        value.push(from.join(form));
        ["--method".into(), value]
    };
    let compile = |methods: &[[OsString; 2]], output: &str| -> Result<u64> {
        let output = folder.path().join(output);
        let mut args = vec![OsString::from("compile"), "-q".into(), "-o".into()];
        args.push(output.clone().into());
        args.extend(methods.iter().flatten().cloned());
        let done = bins::run("fuseline", &args)?;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        Ok(fs::metadata(output)?.len())
    };
    let plain = method("plain", "model.pt2");
    let functional = method("functional", "model_func.pt2");
    let one = compile(std::slice::from_ref(&plain), "one.pte")?;
    let two = compile(&[plain.clone(), functional], "two.pte")?;
    assert!(two < one + one / 2, "{two} bytes for both, {one} for one");
    for name in ["plain", "functional"] {
        let got = folder.path().join("got.safetensors");
        let args: [OsString; 8] = [
            "run".into(),
            folder.path().join("two.pte").into(),
            "--method".into(),
            name.into(),
            "--inputs".into(),
            from.join("inputs.safetensors").into(),
            "--outputs".into(),
            got.clone().into(),
        ];
        let done = bins::run("fuseline-run", &args)?;
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
        let calls = cases::read_calls(&got, "out")?;
        compare::check_calls(&calls, &case.expected()?, compare::tolerance(&case))?;
    }
    let mut args = vec![
        OsString::from("compile"),
        "-o".into(),
        folder.path().join("x.pte").into(),
    ];
    args.extend(plain.iter().chain(&plain).cloned());
    let twice = bins::run("fuseline", &args)?;
    assert_eq!(twice.code, Some(2));
    assert!(
        twice.stderr.contains("`plain` is given twice"),
        "{}",
        twice.stderr
    );
    Ok(())
}

/// What the calls of a case give when every other one goes to the second of two methods of its model, in two forms.
fn taking_turns(name: &str, more: &[&str]) -> Result<Vec<Vec<cases::Array>>> {
    let case = cases::find(name)?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("two.pte");
    let mut args = vec![
        OsString::from("compile"),
        "-q".into(),
        "-o".into(),
        output.clone().into(),
    ];
    for (method, form) in [("one", "model.pt2"), ("two", "model_core.pt2")] {
        let mut value = OsString::from(format!("{method}="));
        value.push(case.folder.join(form));
        args.extend(["--method".into(), value]);
    }
    args.extend(more.iter().map(Into::into));
    let done = bins::run("fuseline", &args)?;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut session = Program::open(&output)?.session()?;
    let calls = case.inputs()?;
    let calls = calls.iter().zip(["one", "two"].into_iter().cycle());
    calls
        .map(|(inputs, method)| roads::call(&mut session, method, inputs))
        .collect()
}

#[test]
fn methods_share_their_states_where_that_is_asked_for() -> Result {
    for name in ["modules/state_counter", "modules/state_cache"] {
        let case = cases::find(name)?;
        let tolerance = compare::tolerance(&case);
        let shared = taking_turns(name, &["--share-state"])?;
        compare::check_calls(&shared, &case.expected()?, tolerance)
            .map_err(|e| format!("{name}: {e}"))?;
        let apart = taking_turns(name, &[])?;
        let same = compare::check_calls(&apart, &case.expected()?, tolerance);
        assert!(
            same.is_err(),
            "{name}: the second method has seen what the first one left"
        );
    }
    Ok(())
}

#[test]
fn a_loop_that_goes_on_and_on_is_an_error() -> Result {
    let case = cases::find("modules/loops_by_data")?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    roads::compile_to(
        &case.folder.join("model.pt2"),
        fuseline_passes::Level::O2,
        &output,
    )?;
    let options = Options {
        max_steps: Some(64),
        ..Options::default()
    };
    let mut session = Program::open_with(&output, &options)?.session()?;
    let error = roads::step(&mut session, &case.inputs()?[1]).err();
    let error = error.and_then(|e| e.downcast::<Error>().ok());
    assert!(
        matches!(error.as_deref(), Some(Error::Endless { limit: 64, .. })),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn a_row_that_is_not_there_is_an_error_and_the_next_call_goes_on() -> Result {
    let case = cases::find("modules/chosen_row")?;
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    roads::compile_to(
        &case.folder.join("model.pt2"),
        fuseline_passes::Level::O2,
        &output,
    )?;
    let mut session = Program::open(&output)?.session()?;
    let inputs = case.inputs()?;
    for row in [6i64, -7, 100] {
        let mut call = inputs[0].clone();
        call[1].bytes = row.to_le_bytes().to_vec();
        let error = roads::step(&mut session, &call).err();
        let error = error.and_then(|e| e.downcast::<Error>().ok());
        let said = error.map(|error| error.to_string()).unwrap_or_default();
        let wanted = format!("u0 is {row}, which must be -6 to 5");
        assert!(said.contains(&wanted), "{row}: {said}");
        roads::step(&mut session, &inputs[1])?;
    }
    Ok(())
}

#[test]
fn arguments_that_the_export_fixed_may_be_left_out_and_are_checked() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    let input = workspace::fixtures().join("host/fixed_arguments/model.pt2");
    let options = CompileOptions::new(input, Level::O2, PassCx::new(roads::target()));
    let report = compile_model(&options, &mut Quiet)?.write(&output, &mut Quiet)?;
    let noted = |note: &str| report.notes.iter().any(|own| own == note);
    for note in ["k = 2", "scale = 0.5", "flag = false"] {
        assert!(
            noted(&format!("fixed by the export: {note}")),
            "{:?}",
            report.notes
        );
    }
    let program = Program::open(&output)?;
    let names: Vec<&str> = program
        .fixed_inputs("forward")?
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["k", "scale", "flag"]);
    let mut session = program.session()?;
    let (x, y) = (
        Tensor::from_slice(&[3], &[1.0_f32; 3])?,
        Tensor::from_slice(&[3], &[0.0_f32, 1.0, 2.0])?,
    );
    let all = |k: i64, scale: f64, flag: bool| {
        vec![
            x.clone().into(),
            Value::Int(k),
            y.clone().into(),
            Value::Float(scale),
            Value::Bool(flag),
        ]
    };
    let short = session.run("forward", &[x.clone().into(), y.clone().into()])?;
    let whole = session.run("forward", &all(2, 0.5, false))?;
    let floats = |outs: &[Value]| outs[0].as_tensor().and_then(|out| out.to_vec::<f32>().ok());
    assert_eq!(floats(&short), Some(vec![2.0, 2.5, 3.0]));
    assert_eq!(floats(&whole), floats(&short));
    for (given, problem) in [
        (
            all(3, 0.5, false),
            "input 1 (`k`) is 3, but the export fixed it at 2",
        ),
        (
            all(2, 0.25, false),
            "input 3 (`scale`) is 0.25, but the export fixed it at 0.5",
        ),
        (
            all(2, 0.5, true),
            "input 4 (`flag`) is true, but the export fixed it at false",
        ),
    ] {
        let error = session
            .run("forward", &given)
            .err()
            .map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(problem)),
            "{error:?}"
        );
    }
    Ok(())
}

#[test]
fn lengths_that_the_export_knows_to_be_one_are_checked_against_each_other() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("model.pte");
    let input = workspace::fixtures().join("decoders/llama3_cache_fp32/model.pt2");
    roads::compile_to(&input, Level::O2, &output)?;
    let program = Program::open(&output)?;
    let mut session = program.session()?;
    let mut run = |tokens: usize, positions: usize| -> Result<Option<String>> {
        let tokens = Tensor::from_slice(&[1, tokens], &vec![1_i64; tokens])?;
        let all: Vec<i64> = (0..positions as i64).collect();
        let positions = Tensor::from_slice(&[positions], &all)?;
        let done = session.run("forward", &[tokens.into(), positions.into()]);
        Ok(done.err().map(|error| error.to_string()))
    };
    assert_eq!(run(3, 3)?, None);
    let error = run(3, 4)?.unwrap_or_default();
    let said = "has length 4 in dimension 0, but it must be 3, which follows from dimension 1 of";
    assert!(error.contains(said), "{error}");
    assert_eq!(run(2, 2)?, None);
    Ok(())
}
