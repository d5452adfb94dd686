//! Running the real commands.

use crate::Result;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// What a finished command left.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; absent where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The path of a command, `fuseline` or `fuseline-run`, built as the tests were.
///
/// # Errors
/// A build that fails.
pub fn path(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    BUILT
        .get_or_init(|| build().map_err(|e| e.to_string()))
        .clone()?;
    Ok(folder()?.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// Where cargo puts the commands: one up from the test's own `deps`.
fn folder() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    Ok(folder.ok_or("a test binary outside target")?.to_path_buf())
}

fn build() -> Result {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(crate::workspace::root());
    cargo.args([
        "build",
        "--quiet",
        "--bins",
        "-p",
        "fuseline-compiler",
        "-p",
        "fuseline-runtime",
    ]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if let Some(target) = folder()?.parent() {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let output = cargo.output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("cargo build: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

/// Runs a command to its end.
///
/// # Errors
/// A command that can't be built or started. One that fails is no error here.
pub fn run<A: AsRef<OsStr>>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Finished> {
    Ok(finished(
        Command::new(path(name)?).args(arguments).output()?,
    ))
}

/// What a finished process left.
pub fn finished(output: Output) -> Finished {
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
