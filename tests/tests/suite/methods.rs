//! Several exports as methods of one file: each gives its own results, and weights that they share are stored once.

use fuseline_tests::{Result, bins, cases, compare, workspace};
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
