//! Spellings: what means the same becomes the same program. The cases of `tests/fixtures/spellings` are named `GROUP.SPELLING`; each group, in every form, has one multiset of
//! instructions, and so has each other fixture in all its forms.

use fuseline_compiler::compile::{Options, compile};
use fuseline_passes::{Level, PassCx, Target};
use fuseline_tests::cases::{self, Case};
use fuseline_tests::{Result, workspace};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Fixtures of which core ATen means less, or says it in another way on purpose: a part of the name, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "modules/pointwise_functions",
        "core ATen spells `logaddexp` out, with the cases of infinities",
    ),
    (
        "modules/complex_layers",
        "core ATen writes a part of a complex tensor by rebuilding the whole of it",
    ),
    (
        "modules/rare_operators",
        "core ATen repeats, wraps and counts in spellings of its own",
    ),
    (
        "modules/counting",
        "core ATen casts to bool by comparing with 0",
    ),
    (
        "modules/gamma_and_bessel",
        "core ATen spells special functions out by formulas of its own",
    ),
    (
        "modules/lengths",
        "core ATen pools a row as an image of one row",
    ),
    (
        "modules/ranks_and_windows",
        "core ATen writes to computed places in as many axes as there are, not in one",
    ),
    (
        "modules/rare_operators",
        "core ATen computes the exponents of `logspace` in f64",
    ),
    (
        "modules/split_by_data",
        "core ATen computes the ends of slices that data decide as sizes",
    ),
    (
        "modules/strided_views",
        "core ATen writes diagonals and strided views by padding and choosing",
    ),
    (
        "modules/vectors_and_matrices",
        "core ATen spells products of vectors and block matrices out",
    ),
    (
        "modules/host_",
        "parts run on the host, or the operators are not supported at all",
    ),
];

/// How often each instruction occurs in the program of the archive.
fn instructions(archive: &Path) -> Result<String> {
    let options = Options::new(archive, Level::O2, PassCx::new(Target::Metal));
    let folder = tempfile::tempdir()?;
    let written = compile(&options, &mut fuseline_compiler::Quiet)?.write(
        &folder.path().join("model.pte"),
        &mut fuseline_compiler::Quiet,
    )?;
    let counts = written.instructions.iter();
    Ok(counts
        .map(|(name, n)| format!("{name} × {n}"))
        .collect::<Vec<_>>()
        .join(", "))
}

/// The one multiset of all the programs, each with its name; an error that lists what each becomes where there are several.
fn same(programs: &[(String, PathBuf)]) -> Result<String> {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, path) in programs {
        let made = instructions(path).map_err(|e| format!("{name}: {e}"))?;
        found.entry(made).or_default().push(name);
    }
    if let (1, Some((made, _))) = (found.len(), found.first_key_value()) {
        return Ok(made.clone());
    }
    let mut text = String::from("several programs of one meaning:\n");
    for (made, names) in &found {
        writeln!(text, "  {made}\n    {}", names.join(", "))?;
    }
    Err(text.into())
}

/// The forms of a case, named after it.
fn forms(case: &Case) -> Vec<(String, PathBuf)> {
    let named = |(form, path): (&str, PathBuf)| (format!("{}/{form}", case.name), path);
    case.forms().into_iter().map(named).collect()
}

#[test]
fn each_spelling_becomes_the_same_instructions() -> Result {
    let mut groups: BTreeMap<String, Vec<(String, PathBuf)>> = BTreeMap::new();
    for case in cases::all()? {
        let spelling = case.name.strip_prefix("spellings/");
        if let Some((group, _)) = spelling.and_then(|s| s.split_once('.')) {
            groups
                .entry(group.to_owned())
                .or_default()
                .extend(forms(&case));
        }
    }
    let mut text = String::new();
    for (group, programs) in &groups {
        let made = same(programs).map_err(|e| format!("{group}: {e}"))?;
        writeln!(text, "{group}, {} programs: {made}", programs.len())?;
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(workspace::root().join("snapshots/spellings"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("groups", text));
    Ok(())
}

#[test]
fn each_form_becomes_the_same_instructions() -> Result {
    let excepted = |name: &str| EXCEPTIONS.iter().any(|(part, _)| name.contains(part));
    let mut differ = String::new();
    for case in cases::all()? {
        let own = case.name.starts_with("decoders/") || case.name.starts_with("modules/");
        if !own || excepted(&case.name) {
            continue;
        }
        if let Err(error) = same(&forms(&case)) {
            writeln!(differ, "{}: {error}", case.name)?;
        }
    }
    if differ.is_empty() {
        Ok(())
    } else {
        Err(differ.into())
    }
}
