//! The fixtures are what `tests/fixtures/README.md` says.

use fuseline_tests::{Result, cases, workspace};
use std::fs;

#[test]
fn every_case_has_a_program_inputs_and_expected_outputs_for_the_same_calls() -> Result {
    for case in cases::all()? {
        let any = !case.forms().is_empty() || case.lowered().is_some();
        assert!(any, "{}: no program", case.name);
        let expected = case.expected().map_err(|e| format!("{}: {e}", case.name))?;
        let inputs = case.inputs().map_err(|e| format!("{}: {e}", case.name))?;
        assert_eq!(inputs.len(), expected.len(), "{}: calls", case.name);
    }
    Ok(())
}

#[test]
fn they_stay_small_enough_to_commit() -> Result {
    let mut bytes = 0;
    for extension in ["pt2", "pte", "ptd", "safetensors", "json"] {
        for file in workspace::files("tests/fixtures", extension)? {
            bytes += fs::metadata(workspace::root().join(file))?.len();
        }
    }
    assert!(bytes < 40_000_000, "the fixtures take {bytes} bytes");
    Ok(())
}

#[test]
fn no_archive_names_a_machine() -> Result {
    for extension in ["pt2", "pte", "ptd", "json"] {
        for file in workspace::files("tests/fixtures", extension)? {
            let bytes = fs::read(workspace::root().join(&file))?;
            for place in ["/home/", "/root/", "/work/", "/tmp/", "/usr/"] {
                let found = bytes.windows(place.len()).any(|w| w == place.as_bytes());
                assert!(!found, "{file} holds a path below {place}");
            }
        }
    }
    Ok(())
}
