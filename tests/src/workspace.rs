//! Where things are, and reading the workspace's own files.

use crate::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates, by folder.
pub const CRATES: [&str; 6] = ["ir", "passes", "program", "compiler", "runtime", "tests"];

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// `tests/fixtures`.
pub fn fixtures() -> PathBuf {
    root().join("tests/fixtures")
}

/// Every file under `folder` (relative to the root) whose name ends in `.{extension}`, relative to the root with `/` between the parts, sorted.
///
/// # Errors
/// A folder that can't be read.
pub fn files(folder: &str, extension: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found)?;
    let mut names: Vec<String> = found
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .filter_map(|p| p.strip_prefix(root()).ok())
        .map(|p| p.to_string_lossy().replace('\\', "/"))
        .collect();
    names.sort();
    Ok(names)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// A file's text, by its path relative to the root.
///
/// # Errors
/// A file that can't be read, or isn't UTF-8.
pub fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(root().join(path)).map_err(|e| format!("{path}: {e}"))?)
}

/// Rust source without line comments and the documentation in table rows (`doc: "…"`), so that a name there doesn't count as a use.
pub fn without_comments(source: &str) -> String {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .filter(|line| !line.trim_start().starts_with("doc:"))
        .collect::<Vec<_>>()
        .join("\n")
}
