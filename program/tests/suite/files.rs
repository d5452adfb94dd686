//! Whole files: ExecuTorch's, ours, and broken ones.

use std::fs;

use fuseline_program::{Fault, Kind, Pte};

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
    let is = |kind| move |fault: &Fault| matches!(fault, Fault::OtherKind { found, .. } if *found == kind);
    assert!(is(Kind::Archive)(error.fault()), "{error}");
    assert_eq!(error.place().collect::<Vec<_>>(), ["header"]);
    let error = Pte::parse(b"").unwrap_err();
    assert!(is(Kind::Empty)(error.fault()), "{error}");
    let error = Pte::parse(&[7; 4096]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Magic { .. }), "{error}");
    let error = Pte::parse(&[7; 7]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Short { .. }), "{error}");
}

/// The sample with eight bytes of its header replaced.
fn header_error(at: usize, number: u64) -> String {
    let mut file = Vec::new();
    crate::common::sample().write(&mut file).unwrap();
    file[at..at + 8].copy_from_slice(&number.to_le_bytes());
    Pte::parse(&file).unwrap_err().to_string()
}

#[test]
fn headers_that_lead_outside() {
    let (program, base, data) = (16, 24, 32);
    for number in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, 0] {
        assert!(
            header_error(program, number).starts_with("header: the program: "),
            "{number}"
        );
    }
    for number in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 32, 8] {
        let error = header_error(base, number);
        assert!(error.starts_with("header: "), "{number}: {error}");
        if number > 8 {
            assert!(
                header_error(data, number).starts_with("header: the segments: "),
                "{number}"
            );
        }
    }
}

#[test]
fn segments_that_lead_outside() {
    let mut file = Vec::new();
    crate::common::sample().write(&mut file).unwrap();
    let last = Pte::parse(&file).unwrap().segments.pop().unwrap();
    // The segment's table is the only place where its offset stands as 64 bits.
    let wanted = last.offset.to_le_bytes();
    let at = (40..file.len() - 8)
        .find(|at| file[*at..at + 8] == wanted)
        .unwrap();
    for number in [u64::MAX, u64::MAX - 127, 1 << 63, 1 << 40] {
        file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let error = Pte::parse(&file).unwrap_err();
        assert!(
            matches!(error.fault(), Fault::Range { .. }),
            "{number}: {error}"
        );
    }
    file[at..at + 8].copy_from_slice(&0_u64.to_le_bytes());
    let error = Pte::parse(&file)
        .and_then(|pte| pte.validate())
        .unwrap_err();
    assert!(
        matches!(
            error.fault(),
            Fault::Overlap {
                what: "segments",
                ..
            }
        ),
        "{error}"
    );
}
