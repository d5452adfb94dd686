//! Any bytes as a `.pte`: parsed and validated; what passes is described, and written again to the same program.

#![no_main]

use fuseline_fuzz::{edit, pte, random::Random};
use fuseline_program::Pte;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|file: &[u8]| {
    let Ok(pte) = Pte::parse(file) else { return };
    if pte.validate().is_err() {
        return;
    }
    let _ = pte.summary();
    let mut again = Vec::new();
    pte.program
        .write(&mut again)
        .expect("a valid program can be written");
    let read = Pte::parse(&again).expect("what was written can be read");
    read.validate().expect("what was written is valid");
    assert!(
        pte::same(&read.program, &pte.program),
        "what was written reads as another program"
    );
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    edit::put(
        data,
        pte::edited(&data[..size], &mut random, true),
        max_size,
    )
    .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
