//! What goes wrong around a compile and not in it: kills, interrupts, full disks, folders that can't be written, files that shrink. The old output is
//! there, or the new one whole, or none; nothing else is left but, after a kill, the temporary file that the documentation names.
#![cfg(unix)]

use fuseline_compiler::{Options, Quiet, compile};
use fuseline_passes::{Level, PassCx};
use fuseline_program::{Mapping, Pte};
use fuseline_tests::{Result, bins, roads, workspace};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

fn model() -> PathBuf {
    workspace::fixtures().join("decoders/llama3_cache_fp32/model.pt2")
}

/// Starts a compile. It finds SIGINT as `interrupts` says, whatever the tests were started with: a shell starts what it puts in the background with
/// SIGINT ignored, and commands inherit that.
fn spawn(output: &Path, interrupts: libc::sighandler_t) -> Result<Child> {
    let mut command = Command::new(bins::path("fuseline")?);
    command.arg("compile").arg(model()).arg("-o").arg(output);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(move || match libc::signal(libc::SIGINT, interrupts) {
            libc::SIG_ERR => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    Ok(command.spawn()?)
}

/// Sends a signal when the time has come, unless the process has ended before; returns how it ended.
fn signal_at(mut child: Child, signal: i32, time: Instant) -> Result<ExitStatus> {
    while Instant::now() < time {
        if let Some(ended) = child.try_wait()? {
            return Ok(ended);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: the child is ours and has not been waited for.
    unsafe { libc::kill(libc::pid_t::try_from(child.id())?, signal) };
    Ok(child.wait()?)
}

/// The names in a folder that are not `out.pte`.
fn litter(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "out.pte" {
            names.push(name);
        }
    }
    Ok(names)
}

fn check_whole(path: &Path) -> Result {
    let map = Mapping::open(path)?;
    Pte::parse(&map)?.validate()?;
    Ok(())
}

/// How long a whole compile takes here.
fn usual(folder: &Path) -> Result<Duration> {
    let output = folder.join("out.pte");
    // Once before the clock runs, since the first call may build the command.
    assert!(spawn(&output, libc::SIG_DFL)?.wait()?.success());
    let start = Instant::now();
    assert!(spawn(&output, libc::SIG_DFL)?.wait()?.success());
    let took = start.elapsed();
    fs::remove_file(output)?;
    Ok(took)
}

/// Sends a signal at moments spread over a compile, with and without an old output; returns how each compile ended and what else it left.
fn stop_at_moments(signal: i32, moments: u32) -> Result<Vec<(ExitStatus, Vec<String>)>> {
    let folder = tempfile::tempdir()?;
    let mut whole = usual(folder.path())?;
    let output = folder.path().join("out.pte");
    let mut ends = Vec::new();
    for moment in 0..moments {
        let old = moment % 2 == 0;
        if old {
            fs::write(&output, "old")?;
        }
        let start = Instant::now();
        // A little beyond the usual end, since compiles differ in length.
        let time = start + whole * (moment + 1) / (moments - 2);
        let status = signal_at(spawn(&output, libc::SIG_DFL)?, signal, time)?;
        if status.success() {
            whole = whole.min(start.elapsed());
        }
        match fs::read(&output) {
            Ok(bytes) if old && bytes == b"old" => {}
            Ok(_) => check_whole(&output)?,
            Err(_) => assert!(!old, "the old output is gone"),
        }
        ends.push((status, litter(folder.path())?));
        drop(fs::remove_file(&output));
        for name in litter(folder.path())? {
            fs::remove_file(folder.path().join(name))?;
        }
    }
    Ok(ends)
}

#[test]
fn a_kill_leaves_the_old_output_or_a_whole_one_or_none() -> Result {
    for (_, left) in stop_at_moments(libc::SIGKILL, 12)? {
        for name in left {
            assert!(
                name.starts_with(".fuseline-") && name.ends_with(".tmp"),
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn an_interrupt_leaves_nothing_and_ends_with_130() -> Result {
    let ends = stop_at_moments(libc::SIGINT, 12)?;
    for (status, left) in &ends {
        assert!(left.is_empty(), "{left:?}");
        // The signal itself ends a process that has not come to its first line yet.
        let before = status.signal() == Some(libc::SIGINT);
        assert!(before || matches!(status.code(), Some(0 | 130)), "{status}");
    }
    let tidy = ends.iter().any(|(status, _)| status.code() == Some(130));
    assert!(tidy, "{ends:?}");
    Ok(())
}

#[test]
fn an_interrupt_that_is_ignored_changes_nothing() -> Result {
    let folder = tempfile::tempdir()?;
    let half = usual(folder.path())? / 2;
    let output = folder.path().join("out.pte");
    let time = Instant::now() + half;
    let status = signal_at(spawn(&output, libc::SIG_IGN)?, libc::SIGINT, time)?;
    assert!(status.success(), "{status}");
    check_whole(&output)
}

/// Runs a compile whose process may write files of so many bytes only, as a full disk would.
fn with_file_size_limit(bytes: u64, output: &Path) -> Result<bins::Finished> {
    let mut command = Command::new(bins::path("fuseline")?);
    command.arg("compile").arg(model()).arg("-o").arg(output);
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(
            move || match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
    Ok(bins::finished(command.output()?))
}

#[test]
fn a_full_disk_is_an_error_and_leaves_what_was_there() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pte");
    for bytes in [0, 1, 4096, 50_000] {
        fs::write(&output, "old")?;
        let done = with_file_size_limit(bytes, &output)?;
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        assert!(done.stderr.contains("out.pte"), "{}", done.stderr);
        assert_eq!(fs::read(&output)?, b"old");
        assert!(litter(folder.path())?.is_empty());
    }
    Ok(())
}

#[test]
fn a_folder_that_takes_no_files_is_an_error() -> Result {
    // One that is read-only for everybody, the superuser too.
    for output in ["/proc/out.pte", "/nonexistent/out.pte"] {
        let done = bins::run(
            "fuseline",
            [
                Path::new("compile"),
                &model(),
                Path::new("-o"),
                Path::new(output),
            ],
        )?;
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        assert!(done.stderr.contains(output), "{}", done.stderr);
    }
    Ok(())
}

/// A copy of the model that may be cut.
fn copy(folder: &Path) -> Result<(PathBuf, u64)> {
    let path = folder.join("model.pt2");
    let bytes = fs::copy(model(), &path)?;
    Ok((path, bytes))
}

#[test]
fn an_archive_that_is_cut_between_import_and_writing_is_an_error() -> Result {
    let folder = tempfile::tempdir()?;
    let (path, _) = copy(folder.path())?;
    let options = Options::new(&path, Level::O0, PassCx::new(roads::target()));
    let compiled = compile(&options, &mut Quiet)?;
    File::options().write(true).open(&path)?.set_len(4096)?;
    let output = folder.path().join("out.pte");
    fs::write(&output, "old")?;
    let refused = compiled.write(&output, &mut Quiet).map(|_| ());
    let Err(refused) = refused else {
        return Err("weights are gone, and nothing was said".into());
    };
    let said = refused.to_string();
    assert!(said.contains("cut"), "{said}");
    assert_eq!(fs::read(&output)?, b"old");
    Ok(())
}

#[test]
fn an_archive_that_is_cut_at_any_moment_of_a_compile_ends_no_process() -> Result {
    let folder = tempfile::tempdir()?;
    let whole = usual(folder.path())?;
    for moment in 0..8 {
        let (path, bytes) = copy(folder.path())?;
        let output = folder.path().join("out.pte");
        let mut command = Command::new(bins::path("fuseline")?);
        command.arg("compile").arg(&path).arg("-o").arg(&output);
        let child = command.stderr(Stdio::piped()).spawn()?;
        std::thread::sleep(whole * moment / 8);
        File::options()
            .write(true)
            .open(&path)?
            .set_len(bytes / 3)?;
        let done = bins::finished(child.wait_with_output()?);
        assert!(
            matches!(done.code, Some(0 | 3 | 4)),
            "{:?}: {}",
            done.code,
            done.stderr
        );
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        if done.code == Some(0) {
            check_whole(&output)?;
        } else {
            assert!(!output.exists());
        }
        drop(fs::remove_file(output));
    }
    Ok(())
}

#[test]
fn a_program_that_is_cut_is_an_error_when_it_is_opened_or_at_the_next_call() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.pte");
    roads::compile_to(&model(), Level::O2, &path)?;
    let bytes = fs::metadata(&path)?.len();
    let program = fuseline_runtime::Program::open(&path)?;
    File::options()
        .write(true)
        .open(&path)?
        .set_len(bytes / 2)?;
    // Whatever has been read by now is good; what is missed later is reported, not the end of the process.
    let session = program.session()?;
    let state = session
        .program()
        .state()
        .next()
        .map(|info| info.name.clone());
    drop(state.map(|name| session.state(&name)));
    let refused = fuseline_runtime::Program::open(&path).map(|_| ());
    assert!(refused.is_err());
    Ok(())
}

#[test]
fn a_memory_limit_ends_a_compile_and_a_run_with_its_own_code() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pte");
    let compile = |limit: &str| -> Result<bins::Finished> {
        let mut command = Command::new(bins::path("fuseline")?);
        command.arg("compile").arg(model()).arg("-o").arg(&output);
        Ok(bins::finished(
            command.args(["--max-memory", limit]).output()?,
        ))
    };
    for limit in ["0", "100K", "1M"] {
        let done = compile(limit)?;
        assert_eq!(done.code, Some(8), "{limit}: {}", done.stderr);
        assert!(done.stderr.contains("--max-memory"), "{}", done.stderr);
        assert!(!output.exists() && litter(folder.path())?.is_empty());
    }
    assert_eq!(compile("4G")?.code, Some(0));
    assert_eq!(compile("many")?.code, Some(2));
    let inputs = workspace::fixtures().join("decoders/llama3_cache_fp32/inputs.safetensors");
    let run = |limit: &str| -> Result<bins::Finished> {
        let mut command = Command::new(bins::path("fuseline-run")?);
        command.arg("run").arg(&output).arg("--inputs").arg(&inputs);
        command
            .arg("--outputs")
            .arg(folder.path().join("out.safetensors"));
        Ok(bins::finished(
            command.args(["--max-memory", limit]).output()?,
        ))
    };
    let done = run("10K")?;
    assert_eq!(done.code, Some(8), "{}", done.stderr);
    assert!(
        done.stderr.contains("10240 may be taken"),
        "{}",
        done.stderr
    );
    assert!(litter(folder.path())?.is_empty());
    assert_eq!(run("1G")?.code, Some(0));
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn what_never_ends_is_not_read_to_its_end() -> Result {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("out.pte");
    let model = model();
    let [model, out] = [&model, &output].map(|path| path.display().to_string());
    let endless = "/dev/zero";
    let compile = ["compile", &model, "-o", &out, "-q"];
    let quantised = ["--quantize", "affine4g32", "--quantize-map", endless];
    let cases: [(&str, &[&str], i32); 7] = [
        ("fuseline", &["opt", endless], 3),
        ("fuseline", &["inspect", endless], 4),
        ("fuseline", &["compile", endless, "-o", &out], 4),
        ("fuseline", &[&compile[..], &quantised].concat(), 3),
        (
            "fuseline",
            &[&compile[..], &["--cost", endless]].concat(),
            4,
        ),
        ("fuseline", &compile, 0),
        (
            "fuseline-run",
            &["run", &out, "--inputs", endless, "--outputs", "out"],
            3,
        ),
    ];
    for (program, arguments, code) in cases {
        let mut command = Command::new(bins::path(program)?);
        command.current_dir(folder.path()).args(arguments);
        let done = bins::finished(command.output()?);
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.stderr);
    }
    // Of a file of more than the limit nothing is read: this one has 64 GiB, and next to nothing on the disk.
    let header = format!(
        r#"{{"in0":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#,
        1_u64 << 36
    );
    let large = folder.path().join("large.safetensors");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    fs::write(&large, &bytes)?;
    File::options()
        .write(true)
        .open(&large)?
        .set_len(bytes.len() as u64 + (1 << 36))?;
    let mut command = Command::new(bins::path("fuseline-run")?);
    command
        .args(["run", &out, "--max-memory", "1G", "--inputs"])
        .arg(&large);
    let done = bins::finished(
        command
            .arg("--outputs")
            .arg(folder.path().join("o"))
            .output()?,
    );
    assert_eq!(done.code, Some(8), "{}", done.stderr);
    Ok(())
}
