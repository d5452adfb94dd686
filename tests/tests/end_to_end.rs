//! Every recorded case, in every form, on every road, against eager PyTorch's outputs. Each combination is a test of its own:
//!
//! - `reference/…/import`: the imported graph in reference evaluation
//! - `reference/…/O0`, `O1`, `O2`: the same after the passes of a level
//! - `mlx/…/O0`, `O1`, `O2`: the program compiled at that level, replayed through MLX
//! - `executorch/…`: the program that ExecuTorch's partitioner made, replayed through MLX
//! - `abroad/…/O0`, `O1`, `O2`, and `abroad/…`: what `mlx` and `executorch` replay, in ExecuTorch itself, where `FUSELINE_EXECUTORCH` names a program
//!   that runs a file there (see [`roads::abroad`])
//!
//! One expected result holds for all of them, within the tolerance of the dtype or the operator. Run some with
//! `cargo test -p fuseline-tests --test end_to_end -- mlx/decoders/gemma3`.

use fuseline_passes::Level;
use fuseline_tests::cases::{self, Case};
use fuseline_tests::{Result, compare, roads};
use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is not expected to pass: a part of the test's name, the operator that the refusal must name, and why. A test that stands here and passes fails.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "modules/host_missing/",
        "aten::ormqr.out",
        "no host kernel multiplies by the reflections of a factorisation",
    ),
    (
        "reference/modules/host_special/",
        "aten::",
        "the reference evaluation has no such functions",
    ),
    (
        "reference/modules/host_factorisations/",
        "aten::",
        "the reference evaluation has no factorisations of matrices",
    ),
    (
        "reference/modules/host_bits/",
        "aten::",
        "the reference evaluation has no kernels for bits",
    ),
    (
        "reference/modules/host_inverse/",
        "aten::",
        "the reference evaluation has no factorisations of matrices",
    ),
    (
        "reference/modules/session_caches/",
        "update_and_attend",
        "the caches belong to a session, and the reference evaluation has none",
    ),
    #[cfg(not(target_os = "macos"))]
    (
        "abroad/executorch/node_gather_mm_e4_i64_o128_bfloat16_sorted",
        "only supports float32",
        "MLX's product of gathered matrices on the CPU",
    ),
    #[cfg(not(target_os = "macos"))]
    (
        "abroad/executorch/node_metal_kernel_1024",
        "MetalKernelNode",
        "there is no Metal",
    ),
    (
        "abroad/executorch/host_complex",
        "aten::view_as_complex_copy.out",
        "ExecuTorch has no such kernel",
    ),
    (
        "abroad/executorch/portable_pointwise",
        "aten::__lshift__.Scalar_out",
        "ExecuTorch has no such kernel",
    ),
    (
        "abroad/executorch/portable_movement",
        "aten::constant_pad_nd.out",
        "ExecuTorch's kernel takes no negative padding",
    ),
    (
        "abroad/executorch/portable_reductions",
        "aten::cumsum.out",
        "ExecuTorch's kernel takes no tensor without axes",
    ),
    (
        "abroad/executorch/portable_products",
        "aten::convolution.out",
        "ExecuTorch's kernel takes no five axes",
    ),
    (
        "abroad/executorch/delegated_edges",
        "Invalid high padding size",
        "ExecuTorch hands its delegate negative padding, which MLX refuses",
    ),
    (
        "abroad/executorch/row_at_one_position",
        "tensor rank which is immutable",
        "ExecuTorch's lowering gives a result another rank",
    ),
    (
        "abroad/executorch/rows_at_a_matrix",
        "cannot be broadcast",
        "ExecuTorch's lowering adds an index's axes elsewhere",
    ),
    (
        "abroad/executorch/node_update_and_attend_decode",
        "no cache installed",
        "the runner has no caches",
    ),
    (
        "abroad/modules/session_caches/",
        "no cache installed",
        "the runner has no caches",
    ),
    (
        "abroad/modules/host_bits/",
        "aten::view.dtype_out",
        "ExecuTorch has no such kernel",
    ),
    (
        "abroad/modules/host_factorisations/model/",
        "aten::linalg_householder_product.out",
        "ExecuTorch has no such kernel",
    ),
    (
        "abroad/modules/host_factorisations/model_core/",
        "Unsupported ScalarType: 7",
        "ExecuTorch's delegate has no f64",
    ),
    (
        "abroad/modules/host_inverse/",
        "aten::linalg_inv_ex.out",
        "ExecuTorch has no such kernel",
    ),
    (
        "abroad/modules/host_special/",
        "aten::special_shifted_chebyshev_polynomial_u.out",
        "ExecuTorch has no such kernel",
    ),
    (
        "abroad/modules/ranks_and_windows/model_core/O0",
        "Unsupported ScalarType: 7",
        "ExecuTorch's delegate has no f64",
    ),
    (
        "abroad/modules/rare_operators/model_core/",
        "Unsupported ScalarType: 7",
        "ExecuTorch's delegate has no f64",
    ),
    (
        "abroad/modules/counting/",
        "signal",
        "ExecuTorch has no memory for results without upper bounds",
    ),
    (
        "abroad/modules/lengths/",
        "signal",
        "ExecuTorch has no memory for results without upper bounds",
    ),
    (
        "abroad/modules/repeats/",
        "signal",
        "ExecuTorch has no memory for results without upper bounds",
    ),
    (
        "abroad/modules/running_without_bound/",
        "signal",
        "ExecuTorch has no memory for results without upper bounds",
    ),
    #[cfg(not(target_os = "macos"))]
    (
        "executorch/node_metal_kernel_1024",
        "MetalKernelNode, which needs Metal",
        "there is no Metal",
    ),
];

/// What ExecuTorch is known not to run: a part of the test's name, and of what is said of it when the program is compiled.
const LIMITS: &[(&str, &str)] = &[
    ("modules/counting/", "without upper bounds"),
    ("modules/host_factorisations/model_core/", "of type f64"),
    ("modules/lengths/", "without upper bounds"),
    ("modules/ranks_and_windows/model_core/O0", "of type f64"),
    ("modules/rare_operators/model_core/", "of type f64"),
    ("modules/repeats/", "without upper bounds"),
    ("modules/running_without_bound/", "without upper bounds"),
];

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let runner = std::env::var_os("FUSELINE_EXECUTORCH").map(PathBuf::from);
    let mut trials = Vec::new();
    for case in cases::all()? {
        for (form, path) in case.forms() {
            let name = format!("{}/{}", case.name, form.trim_end_matches(".pt2"));
            let (case_, path_) = (case.clone(), path.clone());
            trials.push(trial(format!("reference/{name}/import"), move || {
                reference(&case_, &path_, None)
            }));
            for level in Level::ALL {
                let (case_, path_) = (case.clone(), path.clone());
                trials.push(trial(format!("reference/{name}/{level}"), move || {
                    reference(&case_, &path_, Some(level))
                }));
                let (case_, path_) = (case.clone(), path.clone());
                let name_ = format!("mlx/{name}/{level}");
                trials.push(trial(name_.clone(), move || {
                    mlx(&name_, &case_, &path_, level)
                }));
                if let Some(runner) = runner.clone() {
                    let (case_, path_) = (case.clone(), path.clone());
                    trials.push(trial(format!("abroad/{name}/{level}"), move || {
                        abroad(&case_, &path_, level, &runner)
                    }));
                }
            }
        }
        if let Some(lowered) = case.lowered() {
            if let Some(runner) = runner.clone() {
                let (case_, lowered) = (case.clone(), lowered.clone());
                trials.push(trial(format!("abroad/{}", case.name), move || {
                    let folder = tempfile::tempdir()?;
                    check(
                        &case_,
                        &roads::abroad(&runner, &lowered, &case_, folder.path())?,
                    )
                }));
            }
            let name = format!("executorch/{}", case.name);
            trials.push(trial(name, move || {
                let got = roads::replay_with(&lowered, case.data()?, &case.inputs()?)?;
                check(&case, &got)
            }));
        }
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// A test that turns around where its name is among the exceptions.
fn trial(name: String, run: impl FnOnce() -> Result + Send + 'static) -> Trial {
    let exception = EXCEPTIONS.iter().find(|(part, ..)| name.contains(part));
    Trial::test(name, move || match (run(), exception) {
        (Ok(()), None) => Ok(()),
        // An exception is a refusal that names its operator; any other failure is a failure.
        (Err(error), Some((_, operator, _))) if error.to_string().contains(operator) => Ok(()),
        (Err(error), _) => Err(Failed::from(error.to_string())),
        (Ok(()), Some((.., reason))) => Err(Failed::from(format!(
            "passes, but is an exception: {reason}"
        ))),
    })
}

fn check(case: &Case, got: &[Vec<cases::Array>]) -> Result {
    Ok(compare::check_calls(
        got,
        &case.expected()?,
        compare::tolerance(case),
    )?)
}

/// The archive in reference evaluation, as imported or after a level's passes.
fn reference(case: &Case, archive: &Path, level: Option<Level>) -> Result {
    let mut graph = roads::imported(archive)?;
    if let Some(level) = level {
        graph = roads::optimised(&graph, level)?;
    }
    check(case, &roads::evaluate(&graph, &case.inputs()?)?)
}

/// The archive compiled to a file, and all calls on one session of it.
fn mlx(name: &str, case: &Case, archive: &Path, level: Level) -> Result {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("model.pte");
    roads::compile_to(archive, level, &program)?;
    check(case, &roads::replay(&program, &case.inputs()?)?)?;
    let refusals = roads::refusals(&program)?;
    let limit = LIMITS.iter().find(|(part, _)| name.contains(part));
    match (refusals.as_slice(), limit) {
        ([], None) => Ok(()),
        ([], Some((_, text))) => Err(format!("ExecuTorch runs it, but its limit is {text}").into()),
        (all, Some((_, text))) if all.iter().all(|one| one.contains(text)) => Ok(()),
        (all, _) => Err(format!("ExecuTorch would not run it: {all:?}").into()),
    }
}

/// The archive compiled to a file, and all calls in ExecuTorch.
fn abroad(case: &Case, archive: &Path, level: Level, runner: &Path) -> Result {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("model.pte");
    roads::compile_to(archive, level, &program)?;
    check(case, &roads::abroad(runner, &program, case, folder.path())?)
}
