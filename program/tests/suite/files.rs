//! Whole files: ExecuTorch's, ours, and broken ones.

use std::fs;

use fuseline_program::{Fault, Pte};

fn rewritten(pte: &Pte<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    pte.program.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn executorch_files_are_valid_and_survive_rewriting() {
    for path in crate::common::executorch_files() {
        let bytes = fs::read(&path).unwrap();
        let pte = Pte::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        pte.validate()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let ours = rewritten(&pte);
        let again = Pte::parse(&ours).unwrap();
        again.validate().unwrap();
        assert_eq!(again.program, pte.program, "{}", path.display());
        assert_eq!(rewritten(&again), ours, "{}", path.display());
    }
}

#[test]
fn files_in_words() {
    for name in [
        "kv_cache",
        "quantized_switch_linear_e4_i64_o128",
        "sample_greedy",
    ] {
        let bytes = crate::common::fixture(&format!("{name}.pte"));
        let summary = Pte::parse(&bytes).unwrap().summary();
        insta::with_settings!({
            snapshot_path => "../../../snapshots/program",
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, { insta::assert_snapshot!(name, summary) });
    }
}

#[test]
fn no_prefix_of_a_file_is_a_file() {
    let mut file = Vec::new();
    crate::common::sample().write(&mut file).unwrap();
    for file in [file, crate::common::fixture("kv_cache.pte")] {
        for length in 0..file.len() {
            assert!(
                Pte::parse(&file[..length]).is_err(),
                "{length} of {} bytes",
                file.len()
            );
        }
    }
}

#[test]
fn changed_bytes_are_refused_or_harmless_but_never_a_panic() {
    let mut file = Vec::new();
    crate::common::sample().write(&mut file).unwrap();
    for file in [
        file,
        crate::common::fixture("kv_cache.pte"),
        crate::common::fixture("sample_greedy.pte"),
    ] {
        let mut changed = file.clone();
        for (at, change) in (0..file.len()).zip([0x01, 0xff, 0x80, 0x04].into_iter().cycle()) {
            changed[at] = file[at] ^ change;
            exercise(&changed);
            changed[at] = file[at];
        }
    }
}

/// Everything that can be done with a file of unknown content.
fn exercise(bytes: &[u8]) {
    let Ok(pte) = Pte::parse(bytes) else { return };
    let text = pte.summary().to_string();
    assert!(!text.is_empty());
    if pte.validate().is_ok() {
        let ours = rewritten(&pte);
        let again = Pte::parse(&ours).unwrap();
        again.validate().unwrap();
    }
}

#[test]
fn other_files_are_told_apart() {
    let error = Pte::parse(b"PK\x03\x04 and so on, for at least forty bytes in all").unwrap_err();
    assert!(matches!(error.fault(), Fault::Magic { .. }), "{error}");
    assert_eq!(error.place().collect::<Vec<_>>(), ["header"]);
    assert!(matches!(
        Pte::parse(b"").unwrap_err().fault(),
        Fault::Short { .. }
    ));
}
