//! The text form of graphs: what parses is verified, prints, and reads back as the same graph.

#![no_main]

use fuseline_fuzz::{edit, ir, random::Random};
use fuseline_ir::text;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|source: &str| {
    let Ok(graph) = text::parse(source) else {
        return;
    };
    if graph.verify().is_err() {
        return;
    }
    let printed = graph.to_string();
    let again = text::parse(&printed).expect("what is printed parses");
    assert!(graph.same(&again), "what is printed reads as another graph");
    assert_eq!(printed, again.to_string());
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed.into());
    edit::put(data, ir::edited(&data[..size], &mut random), max_size)
        .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
