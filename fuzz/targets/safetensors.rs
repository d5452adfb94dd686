//! Any bytes as a safetensors file of inputs, read as the command `fuseline-run` does.

#![no_main]

use std::path::Path;

use fuseline_fuzz::{edit, random::Random, safetensors};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|file: &[u8]| {
    for side in [safetensors::Side::Input, safetensors::Side::Output] {
        if let Ok(file) = safetensors::parse_calls(Path::new("inputs.safetensors"), file, side, None) {
            let tensors = file
                .calls
                .values()
                .flatten()
                .filter_map(|value| value.as_tensor());
            tensors.for_each(|tensor| drop(tensor.to_bytes()));
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    edit::put(
        data,
        safetensors::edited(&data[..size], &mut random),
        max_size,
    )
    .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
