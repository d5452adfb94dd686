//! A `.pte` through the whole runtime: opened, and every method called twice with small inputs, on the CPU.

#![no_main]

use fuseline_fuzz::{edit, pte, random::Random, replay};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|file: &[u8]| replay::run(file));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    edit::put(
        data,
        pte::edited(&data[..size], &mut random, false),
        max_size,
    )
    .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
