//! Hostile files: one for each known way to break a loader, and what is said about it. The files are in `/tests/attacks`, made by the functions here
//! (`FUSELINE_BLESS=1` writes them); what is said is in `/snapshots/attacks`.

mod broken_zip;
mod ir;
mod operands;
mod pt2;
mod pte;
mod safetensors;

use super::failure::Failure;
use super::{allocations, tensors};
use fuseline_compiler::import;
use fuseline_ir::{Graph, text};
use fuseline_passes::{Level, PassCx, Target, optimise};
use fuseline_runtime::{Device, Options, Program, Session, Tensor, Value};
use fuseline_tests::{Result, workspace};
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::Path;

/// A file's name, which says what is wrong with it, and its bytes.
type Attack = (&'static str, Vec<u8>);

/// The name of the innermost variant of an error: `Range` of `Format { source: FormatError { fault: Range { … } } }`.
fn kind(error: &dyn Debug) -> String {
    let text = format!("{error:?}");
    let inner = text
        .rsplit_once("fault: ")
        .map_or(&*text, |(_, fault)| fault);
    let end = inner
        .find(|c: char| !c.is_alphanumeric())
        .unwrap_or(inner.len());
    inner[..end].to_owned()
}

/// Checks the committed files, and snapshots what `said` says of each.
fn check(folder: &str, attacks: Vec<Attack>, said: impl Fn(&Path) -> Result<String>) -> Result {
    let home = workspace::root().join("tests/attacks").join(folder);
    let bless = std::env::var_os("FUSELINE_BLESS").is_some();
    let mut report = String::new();
    for (name, bytes) in &attacks {
        let path = home.join(format!("{name}.{folder}"));
        if bless {
            fs::create_dir_all(&home)?;
            fs::write(&path, bytes)?;
        }
        let found = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        assert!(
            found == *bytes,
            "{} is not what it is made from",
            path.display()
        );
        let (outcome, largest) = allocations::largest(|| said(&path));
        let outcome = outcome?.replace(&*path.to_string_lossy(), "FILE");
        writeln!(report, "{name}\n    {outcome}")?;
        let cap = allocations::cap(bytes.len());
        assert!(
            largest <= cap,
            "{name}: {largest} bytes at once for a file of {}",
            bytes.len()
        );
    }
    let count = fs::read_dir(&home)?.count();
    assert_eq!(
        count,
        attacks.len(),
        "{} holds a file that nothing makes",
        home.display()
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace::root().join("snapshots/attacks"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(folder, report));
    Ok(())
}

fn refused(when: &str, error: &(impl Debug + ToString)) -> String {
    format!("{when}, {}: {}", kind(error), error.to_string())
}

fn step(session: &mut Session) -> std::result::Result<(), fuseline_runtime::Error> {
    let numbers = [0.5_f32, -1.0, 2.0, 0.0, 3.0, 1.0];
    let x = Tensor::from_slice(&[2, 3], &numbers)?;
    for output in session.run("forward", &[x.into()])? {
        if let Value::Tensor(tensor) = output {
            tensor.to_bytes()?;
        }
    }
    Ok(())
}

/// Opens and calls a program; the session must say the same of a second call.
fn program(path: &Path) -> Result<String> {
    let options = Options {
        device: Some(Device::Cpu),
        max_steps: Some(1 << 21),
        ..Options::default()
    };
    let program = match Program::open_with(path, &options) {
        Ok(program) => program,
        Err(error) => return Ok(refused("opened", &error)),
    };
    let mut session = program.session()?;
    let first = step(&mut session);
    if first
        .as_ref()
        .is_err_and(|error| matches!(&*kind(error), "Steps" | "Endless"))
    {
        // To find out takes a while: once is enough.
        return Ok(first.map_or_else(|error| refused("called", &error), |()| String::new()));
    }
    let second = step(&mut session);
    Ok(match (first, second) {
        (Ok(()), Ok(())) => "runs".to_owned(),
        (Err(first), Err(second)) if first.to_string() == second.to_string() => {
            refused("called", &first)
        }
        (first, second) => return Err(format!("{first:?}, then {second:?}").into()),
    })
}

#[test]
fn programs() -> Result {
    let attacks = [pte::attacks()?, operands::attacks()?].concat();
    check("pte", attacks, program)
}

#[test]
fn archives() -> Result {
    check("pt2", pt2::attacks()?, |path| {
        Ok(match fuseline_compiler::pt2::Archive::open(path) {
            Err(error) => refused("opened", &error),
            Ok(archive) => match import::import(&archive) {
                Err(error) => refused("imported", &error),
                Ok(_) => "is a graph".to_owned(),
            },
        })
    })
}

#[test]
fn texts() -> Result {
    check("ir", ir::attacks(), |path| {
        Ok(match text::parse(&fs::read_to_string(path)?) {
            Err(error) => refused("parsed", &error),
            Ok(graph) => match graph.verify() {
                Err(error) => refused("verified", &error),
                Ok(()) => {
                    let mut quiet = |_: &str, _: &Graph| {};
                    match optimise(&graph, Level::O2, &PassCx::new(Target::Cpu), &mut quiet) {
                        Err(error) => refused("optimised", &error),
                        Ok(_) => "is a graph, and optimised".to_owned(),
                    }
                }
            },
        })
    })
}

#[test]
fn inputs() -> Result {
    check("safetensors", safetensors::attacks(), |path| {
        let bytes = fs::read(path)?;
        for side in [tensors::Side::Input, tensors::Side::Output] {
            if let Err(Failure::Message { code, text }) =
                tensors::parse_calls(path, &bytes, side, None)
            {
                // Which of two tensors is named depends on the order of a hash map.
                let end = text.find(" for tensor").unwrap_or(text.len());
                return Ok(format!("exit code {code}: {}", &text[..end]));
            }
        }
        Ok("holds tensors".to_owned())
    })
}
