//! Every single-byte change and every truncation of real files (of an archive, most of the changes): each gives an error or a result, and none asks for more memory at once than a file of
//! that size may.

use super::{allocations, tensors};
use fuseline_compiler::{import, pt2};
use fuseline_ir::text;
use fuseline_program::Pte;
use fuseline_runtime::{Device, Options, Program, Tensor};
use fuseline_tests::{Result, workspace};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

/// Shows `read` every file that differs from this one in a byte, or is the beginning of it. `more` is what reading any file may ask for at once, besides what goes with its size.
fn every_change(file: &[u8], more: usize, read: impl FnMut(&[u8]) -> Result) -> Result {
    changes(file, more, read, |_| 1..=u8::MAX)
}

/// [`every_change`], where `others` says by which bits the byte at a place is to differ.
fn changes<R: IntoIterator<Item = u8>>(
    file: &[u8],
    more: usize,
    mut read: impl FnMut(&[u8]) -> Result,
    others: impl Fn(usize) -> R,
) -> Result {
    let cap = allocations::cap(file.len()) + more;
    let mut show = |bytes: &[u8], what: &dyn Fn() -> String| -> Result {
        let (done, largest) = allocations::largest(|| read(bytes));
        done.map_err(|e| format!("{}: {e}", what()))?;
        assert!(
            largest <= cap,
            "{}: {largest} bytes at once for a file of {}",
            what(),
            file.len()
        );
        Ok(())
    };
    let mut changed = file.to_vec();
    for at in 0..file.len() {
        for bits in others(at) {
            let new = file[at] ^ bits;
            changed[at] = new;
            show(&changed, &|| {
                format!("byte {at} is {new} instead of {}", file[at])
            })?;
        }
        changed[at] = file[at];
    }
    (0..file.len())
        .try_for_each(|length| show(&file[..length], &|| format!("the first {length} bytes")))
}

/// Does the work for each file, on a thread of its own.
fn each(files: &[PathBuf], work: impl Fn(&Path) -> Result + Sync) -> Result {
    assert_eq!(files.len(), 5, "{files:?}");
    thread::scope(|scope| {
        let works = files.iter().map(|path| {
            let work = &work;
            scope.spawn(move || work(path).map_err(|e| format!("{}: {e}", path.display())))
        });
        let works: Vec<_> = works.collect();
        works.into_iter().try_for_each(|work| match work.join() {
            Ok(done) => Ok(done?),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
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
    each(&smallest("model.pte")?, |path| {
        let scratch = scratch()?;
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
            if valid.is_multiple_of(64) {
                fs::write(scratch.path(), bytes)?;
                replay(scratch.path())?;
            }
            Ok(())
        })
    })
}

/// Where the contents of the entries of an archive lie.
fn contents(archive: &[u8]) -> Result<Vec<Range<usize>>> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive))?;
    (0..archive.len())
        .map(|at| {
            let entry = archive.by_index_raw(at)?;
            let start = usize::try_from(entry.data_start().ok_or("an entry without a place")?)?;
            Ok(start..start + usize::try_from(entry.compressed_size())?)
        })
        .collect()
}

#[test]
fn archives() -> Result {
    each(&smallest("model.pt2")?, |path| {
        let scratch = scratch()?;
        let file = fs::read(path)?;
        let contents = contents(&file)?;
        let read = |bytes: &[u8]| -> Result {
            fs::write(scratch.path(), bytes)?;
            if let Ok(archive) = pt2::Archive::open(scratch.path()) {
                let _ = import::import(&archive);
            }
            Ok(())
        };
        // Opening an archive takes too long for all 255 others of a byte. Contents have a checksum, where one other byte is as wrong as the next (the fuzz targets change them
        // with their checksums); of what describes them, each bit is changed.
        changes(&file, 0, read, |at| {
            let checked = contents.iter().any(|range| range.contains(&at));
            let bits = (0..8).map(|bit| 1_u8 << bit);
            bits.step_by(if checked { 4 } else { 1 })
        })
    })
}

#[test]
fn texts() -> Result {
    let mut files = Vec::new();
    for path in workspace::files("tests/cases", "ir")? {
        let length = workspace::read(&path)?.len();
        // Each is read again for each change.
        if length <= 1000 {
            files.push((length, workspace::root().join(path)));
        }
    }
    files.sort();
    let spread = files.iter().rev().step_by(files.len() / 5).take(5);
    let spread: Vec<_> = spread.map(|(_, path)| path.clone()).collect();
    each(&spread, |path| {
        every_change(&fs::read(path)?, 0, |bytes| {
            if let Ok(source) = std::str::from_utf8(bytes)
                && let Ok(graph) = text::parse(source)
                && graph.verify().is_ok()
            {
                let _ = graph.to_string();
            }
            Ok(())
        })
    })
}

#[test]
fn inputs() -> Result {
    each(&smallest("inputs.safetensors")?, |path| {
        every_change(&fs::read(path)?, 0, |bytes| {
            let _ = tensors::parse_calls(path, bytes, tensors::Side::Input, None);
            Ok(())
        })
    })
}
