//! Any bytes as a `.pt2`: opened, imported, and compiled at -O0.

#![no_main]

use fuseline_fuzz::{disk, edit, pt2, random::Random};
use fuseline_passes::{Level, PassCx, Target};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|file: &[u8]| {
    let input = disk::file("pt2", file);
    let options =
        fuseline_compiler::Options::new(input.path(), Level::O0, PassCx::new(Target::Cpu));
    if let Ok(compiled) = fuseline_compiler::compile(&options, &mut fuseline_compiler::Quiet) {
        let _ = compiled.program();
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    edit::put(data, pt2::edited(&data[..size], &mut random), max_size)
        .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
