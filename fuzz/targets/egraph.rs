//! A graph at random, optimised at every level and extracted at random costs: each computes what the graph means, by the reference.

#![no_main]

use fuseline_fuzz::egraph;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|seed: u64| {
    if let Err(wrong) = egraph::check(seed) {
        panic!("seed {seed}: {wrong}");
    }
});
