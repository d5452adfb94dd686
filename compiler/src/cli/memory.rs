//! The limit of `--max-memory`: an allocator that counts.
//!
//! When the limit would be passed, the process says so and ends with exit code [`exit::MEMORY`]; what was being written is removed. An allocation
//! that fails has no other end in Rust, and one process compiles one file. Pages of mapped files are the system's and are not counted.

use fuseline_program::command::exit;
use fuseline_program::replace::try_abandon;
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The system's allocator, counted.
pub struct Counting;

/// From now on the process ends when it needs more than so many bytes.
pub fn limit(bytes: u64) {
    LIMIT.store(
        usize::try_from(bytes).unwrap_or(usize::MAX),
        Ordering::Relaxed,
    );
}

/// Counts bytes that are about to be used.
fn take(bytes: usize) {
    let before = USED.fetch_add(bytes, Ordering::Relaxed);
    let limit = LIMIT.load(Ordering::Relaxed);
    if before.saturating_add(bytes) > limit {
        // What follows may allocate a little, and must not come here again.
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        try_abandon();
        let _ = writeln!(
            std::io::stderr(),
            "fuseline: more than the {limit} bytes of --max-memory are needed: {} are in use, {bytes} more are asked for",
            before
        );
        std::process::exit(i32::from(exit::MEMORY));
    }
}

fn give_back(bytes: usize) {
    USED.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: all memory comes from the system's allocator, with the layouts that it is asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        take(size);
        give_back(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}
