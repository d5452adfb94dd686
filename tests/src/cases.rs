//! The recorded cases: which there are, and their inputs and expected outputs.

use crate::{Result, workspace};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A tensor as it stands in a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major and little-endian.
    pub bytes: Vec<u8>,
}

/// A folder of `tests/fixtures` with one exported module.
#[derive(Clone, Debug)]
pub struct Case {
    /// Group and name, such as `decoders/llama3_cache_fp32`.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// `meta.json`.
    pub meta: Value,
}

/// The file names that a form of a case can have.
pub const FORMS: [&str; 3] = ["model.pt2", "model_func.pt2", "model_core.pt2"];

/// The groups of cases that are there.
pub const GROUPS: [&str; 5] = ["decoders", "modules", "et_ops", "executorch", "spellings"];

/// Every case, by name.
///
/// # Errors
/// A folder or `meta.json` that can't be read.
pub fn all() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in GROUPS {
        let folder = workspace::fixtures().join(group);
        for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let folder = entry?.path();
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            cases.push(Case::open(format!("{group}/{name}"), folder)?);
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

/// One case by group and name.
///
/// # Errors
/// As [`all`].
pub fn find(name: &str) -> Result<Case> {
    Case::open(name.to_owned(), workspace::fixtures().join(name))
}

impl Case {
    fn open(name: String, folder: PathBuf) -> Result<Case> {
        let path = folder.join("meta.json");
        let text = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let meta = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Case { name, folder, meta })
    }

    /// The exported programs that the case has, by file name.
    pub fn forms(&self) -> Vec<(&'static str, PathBuf)> {
        FORMS
            .into_iter()
            .map(|form| (form, self.folder.join(form)))
            .filter(|(_, path)| path.exists())
            .collect()
    }

    /// The program that ExecuTorch made of the case, if there is one.
    pub fn lowered(&self) -> Option<PathBuf> {
        Some(self.folder.join("model.pte")).filter(|path| path.exists())
    }

    /// The files with weights that the lowered program does not hold itself, by name.
    ///
    /// # Errors
    /// A folder that can't be read.
    pub fn data(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "ptd") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Each call's inputs, in order.
    ///
    /// # Errors
    /// A file that can't be read, or names that don't follow the convention.
    pub fn inputs(&self) -> Result<Vec<Vec<Array>>> {
        read_calls(&self.folder.join("inputs.safetensors"), "in")
    }

    /// Each call's outputs by eager PyTorch, in order.
    ///
    /// # Errors
    /// As [`Case::inputs`].
    pub fn expected(&self) -> Result<Vec<Vec<Array>>> {
        read_calls(&self.folder.join("expected.safetensors"), "out")
    }

    /// The case's own relative and absolute tolerance, where it has one.
    pub fn own_tolerance(&self) -> Option<(f64, f64)> {
        let number = |key: &str| self.meta.get(key).and_then(Value::as_f64);
        Some((number("rtol")?, number("atol")?))
    }
}

/// The calls in a safetensors file: `call0_in0, call0_in1, call1_in0, …`, or one call `in0, in1, …`. A file may hold inputs and outputs; the prefix
/// (`in` or `out`) chooses.
///
/// # Errors
/// A file that can't be read or isn't safetensors; other names than these; a gap in the numbers.
pub fn read_calls(path: &Path, prefix: &str) -> Result<Vec<Vec<Array>>> {
    let wrong = |what: String| format!("{}: {what}", path.display());
    let bytes = fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
    let mut calls: BTreeMap<usize, BTreeMap<usize, Array>> = BTreeMap::new();
    let sequence = file.names().iter().any(|name| name.starts_with("call"));
    for (name, view) in file.tensors() {
        let (call, rest) = match name
            .strip_prefix("call")
            .and_then(|rest| rest.split_once('_'))
        {
            Some((call, rest)) => (call.parse()?, rest),
            None if sequence => continue,
            None => (0, name.as_str()),
        };
        let numbered = |prefix: &str| rest.strip_prefix(prefix).and_then(|n| n.parse().ok());
        let Some(index) = numbered(prefix) else {
            if numbered("in").or_else(|| numbered("out")).is_none() {
                return Err(wrong(format!("a tensor of the name {name}")).into());
            }
            continue;
        };
        let array = Array {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        calls.entry(call).or_default().insert(index, array);
    }
    for (call, tensors) in &calls {
        if tensors.keys().enumerate().any(|(want, got)| want != *got) {
            return Err(wrong(format!("call {call} has a gap in its numbers")).into());
        }
    }
    Ok(calls
        .into_values()
        .map(|t| t.into_values().collect())
        .collect())
}
