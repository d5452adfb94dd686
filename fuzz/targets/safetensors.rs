//! Any bytes as a safetensors file of inputs, read as the command `fuseline-run` does.

#![no_main]

use fuseline_fuzz::{disk, edit, random::Random, safetensors};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|file: &[u8]| {
    let path = disk::file("safetensors", file);
    for side in [safetensors::Side::Input, safetensors::Side::Output] {
        if let Ok(file) = safetensors::read_calls(path.path(), side, None) {
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
