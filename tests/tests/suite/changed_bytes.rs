//! Every single-byte change and every truncation of real files: each gives an error or a result, and none asks for more memory at once than a file of that
//! size may.

use super::allocations;
use fuseline_compiler::{import, pt2};
use fuseline_ir::text;
use fuseline_program::Pte;
use fuseline_runtime::{Device, Options, Program, ScalarType, Tensor};
use fuseline_tests::{Result, workspace};
use std::fs;
use std::path::{Path, PathBuf};

/// What becomes of a byte: nothing, all bits, another lowest or highest bit.
const CHANGES: [fn(u8) -> u8; 4] = [|_| 0, |_| 0xff, |b| b ^ 1, |b| b ^ 0x80];

/// Shows `read` every file that differs from this one in a byte or is a part of it. `more` is what reading any file may ask for at once, besides what goes with its size.
fn every_change(file: &[u8], more: usize, mut read: impl FnMut(&[u8]) -> Result) -> Result {
    let cap = allocations::cap(file.len()) + more;
    let mut show = |bytes: &[u8], what: String| -> Result {
        let (done, largest) = allocations::largest(|| read(bytes));
        done.map_err(|e| format!("{what}: {e}"))?;
        assert!(
            largest <= cap,
            "{what}: {largest} bytes at once for a file of {}",
            file.len()
        );
        Ok(())
    };
    let mut changed = file.to_vec();
    for at in 0..file.len() {
        for change in CHANGES {
            let new = change(file[at]);
            if new != file[at] {
                changed[at] = new;
                show(
                    &changed,
                    format!("byte {at} is {new} instead of {}", file[at]),
                )?;
            }
        }
        changed[at] = file[at];
    }
    (0..file.len())
        .try_for_each(|length| show(&file[..length], format!("the first {length} bytes")))
}

/// The slots of a program are made when it is called: a million of each kind at most, whatever the size of the file.
const SLOTS: usize = 64 << 20;

/// The five smallest files of the fixtures with that name.
fn smallest(name: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["tests/fixtures/et_ops", "tests/fixtures/modules"] {
        let extension = name.rsplit('.').next().unwrap_or_default();
        for path in workspace::files(folder, extension)? {
            let path = workspace::root().join(path);
            if path.file_name().is_some_and(|found| found == name) {
                files.push((fs::metadata(&path)?.len(), path));
            }
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).take(5).collect())
}

/// A file that is written again and again, in memory where there is a file system for that.
fn scratch() -> Result<tempfile::NamedTempFile> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() {
        tempfile::NamedTempFile::new_in(memory)?
    } else {
        tempfile::NamedTempFile::new()?
    })
}

/// Calls every method with zeros; errors are as good as results.
fn replay(path: &Path) -> Result {
    let options = Options {
        device: Some(Device::Cpu),
        ..Options::default()
    };
    let Ok(program) = Program::open_with(path, &options) else {
        return Ok(());
    };
    let mut session = program.session()?;
    for method in program.methods().map(str::to_owned).collect::<Vec<_>>() {
        let mut inputs = Vec::new();
        for input in program.inputs(&method)? {
            let fuseline_runtime::InputKind::Tensor { dtype, shape } = &input.kind else {
                return Ok(());
            };
            let shape: Vec<usize> = shape
                .iter()
                .map(|dim| dim.upper().unwrap_or(1).min(1 << 10) as usize)
                .collect();
            let bytes = vec![
                0;
                shape.iter().product::<usize>().min(1 << 20)
                    * usize::try_from(dtype.size())?
            ];
            let Ok(tensor) = Tensor::from_bytes(*dtype, &shape, &bytes) else {
                return Ok(());
            };
            inputs.push(tensor.into());
        }
        if let Ok(outputs) = session.run(&method, &inputs) {
            outputs
                .iter()
                .filter_map(fuseline_runtime::Value::as_tensor)
                .for_each(|tensor| drop(tensor.to_bytes()));
        }
    }
    Ok(())
}

#[test]
fn programs() -> Result {
    let scratch = scratch()?;
    for path in smallest("model.pte")? {
        let mut valid = 0_u32;
        every_change(&fs::read(path)?, SLOTS, |bytes| {
            let Ok(pte) = Pte::parse(bytes) else {
                return Ok(());
            };
            if pte.validate().is_err() {
                return Ok(());
            }
            let _ = pte.summary();
            valid += 1;
            if valid.is_multiple_of(8) {
                fs::write(scratch.path(), bytes)?;
                replay(scratch.path())?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn archives() -> Result {
    let scratch = scratch()?;
    for path in smallest("model.pt2")? {
        every_change(&fs::read(path)?, 0, |bytes| {
            fs::write(scratch.path(), bytes)?;
            if let Ok(archive) = pt2::Archive::open(scratch.path()) {
                let _ = import::import(&archive);
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn texts() -> Result {
    let mut files = Vec::new();
    for path in workspace::files("tests/cases", "ir")? {
        files.push((workspace::read(&path)?.len(), path));
    }
    files.sort();
    for (_, path) in files.iter().rev().step_by(files.len() / 5).take(5) {
        // The largest are of thousands of bytes, each of which is read again for each change.
        let source = workspace::read(path)?;
        if source.len() > 2000 {
            continue;
        }
        every_change(source.as_bytes(), 0, |bytes| {
            if let Ok(source) = std::str::from_utf8(bytes)
                && let Ok(graph) = text::parse(source)
                && graph.verify().is_ok()
            {
                let _ = graph.to_string();
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn inputs() -> Result {
    for path in smallest("inputs.safetensors")? {
        every_change(&fs::read(path)?, 0, |bytes| {
            if let Ok(file) = safetensors::SafeTensors::deserialize(bytes) {
                for (_, view) in file.tensors() {
                    let _ = Tensor::from_bytes(ScalarType::F32, view.shape(), view.data());
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
