//! The same models and options give the same bytes: from whatever folder, on however many processors, whichever methods and numbers are asked for.
//! `invariants.rs` compares the library with the command; here it is what the command is told that varies.

use std::fs;
use std::path::Path;
use std::process::Command;

use fuseline_tests::{Result, bins, workspace};

/// Models as they are called in the folder, options, and how often each is compiled.
type Way = (
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
    usize,
);

const WAYS: [Way; 5] = [
    (
        &[("model.pt2", "modules/tied_embedding")],
        &["model.pt2", "--quantize=affine8g32", "--quantize-map=all"],
        20,
    ),
    (
        &[
            ("a.pt2", "modules/state_counter"),
            ("b.pt2", "modules/state_cache"),
        ],
        &["--method=a=a.pt2", "--method=b=b.pt2", "--dtype=f16"],
        20,
    ),
    (
        &[("a.pt2", "modules/state_counter")],
        &["--method=a=a.pt2", "--method=b=a.pt2", "--share-state"],
        20,
    ),
    (
        &[("model.pt2", "decoders/qwen3_cache_fp32")],
        &[
            "model.pt2",
            "--dtype=bf16",
            "--quantize=affine4g32",
            "--quantize-map=some",
            "--quantize-search",
        ],
        5,
    ),
    (
        &[
            ("decode.pt2", "decoders/llama3_cache_bf16"),
            ("whole.pt2", "decoders/llama3_nocache_fp32"),
        ],
        &[
            "--method=decode=decode.pt2",
            "--method=whole=whole.pt2",
            "--dtype=f16",
            "--quantize=mxfp4",
        ],
        5,
    ),
];

/// Files of exceptions.
const MAPS: [(&str, &str); 2] = [
    ("all", "** = affine6g32\n"),
    (
        "some",
        "** = affine6g32\n**.o_proj = none\n**.embed_tokens = affine8g32\n",
    ),
];

/// The file and the report of the compile number `run`, in a folder of its own and on as many processors as `run` says, if there are that many.
fn compiled(way: &Way, parent: &Path, run: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let folder = parent.join(format!("number {run} ").repeat(1 + run % 7));
    fs::create_dir_all(&folder)?;
    let (models, options, _) = way;
    for (name, fixture) in *models {
        let model = workspace::fixtures().join(fixture).join("model.pt2");
        fs::copy(model, folder.join(name))?;
    }
    for (name, text) in MAPS {
        fs::write(folder.join(name), text)?;
    }
    let mut command = Command::new(bins::path("fuseline")?);
    command
        .current_dir(&folder)
        .arg("compile")
        .args(*options)
        .args(["--target=metal", "-o", "out.pte"])
        .env("RAYON_NUM_THREADS", (1 + run % 5).to_string())
        .env("HOME", &folder);
    on_processors(&mut command, 1 + run % 3);
    let done = bins::finished(command.output()?);
    if done.code != Some(0) {
        return Err(format!("{options:?}: {}", done.stderr).into());
    }
    let inspected = bins::run(
        "fuseline",
        ["inspect".as_ref(), folder.join("out.pte").as_os_str()],
    )?;
    Ok((
        fs::read(folder.join("out.pte"))?,
        inspected.stdout.into_bytes(),
    ))
}

/// Lets the command see so many processors: it takes as many threads.
#[cfg(target_os = "linux")]
fn on_processors(command: &mut Command, count: usize) {
    use std::os::unix::process::CommandExt;
    let limit = move || {
        // SAFETY: the set is plain bits, and the calls read and write it alone.
        unsafe {
            let mut all: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&all), &raw mut all);
            let mut some: libc::cpu_set_t = std::mem::zeroed();
            let there = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &all));
            there
                .take(count)
                .for_each(|cpu| libc::CPU_SET(cpu, &mut some));
            libc::sched_setaffinity(0, size_of_val(&some), &raw const some);
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only.
    unsafe {
        command.pre_exec(limit);
    }
}

#[cfg(not(target_os = "linux"))]
fn on_processors(_: &mut Command, _: usize) {}

#[test]
fn whatever_is_asked_for_the_bytes_are_the_same() -> Result {
    for way in &WAYS {
        let parent = tempfile::tempdir()?;
        let first = compiled(way, parent.path(), 0)?;
        for run in 1..way.2 {
            assert!(
                compiled(way, parent.path(), run)? == first,
                "{:?}: run {run} gives other bytes than the first",
                way.1
            );
        }
    }
    Ok(())
}
