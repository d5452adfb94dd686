//! The little of MLX that is not an operation: arrays, streams, evaluation, errors.
//!
//! Everything here goes through mlx-sys, the C interface below mlx-rs, and not through mlx-rs's own functions. Those
//! lack a part of the operations that a program can name, find the stream in a thread-local variable at each call, and
//! panic in places where a program file must get an error.
//!
//! # Threads
//! An MLX stream made the usual way belongs to the thread that made it. The streams here are of the kind that any
//! thread may use, one at a time; see [`Stream`] for how that is kept.

mod array;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use array::{Array, Optional, Vector, code_of, eval, start};
pub(crate) use stream::{Failures, Stream, gpu_started};

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

/// What MLX said when it refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MLX: {0}")]
pub struct MlxError(pub(crate) String);

thread_local! {
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
    /// How often this thread was told that something could not be computed.
    static FAILED: Cell<u64> = const { Cell::new(0) };
    static LAST_FAILURE: RefCell<Option<MlxError>> = const { RefCell::new(None) };
}

/// mlx-c's own handler ends the process, so this one has to be in place before any call that can fail.
extern "C" fn keep_error(message: *const c_char, _data: *mut c_void) {
    if message.is_null() {
        return;
    }
    // SAFETY: mlx-c passes a string that lives until the handler returns.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // mlx-c appends its own source line, which tells a user nothing.
    let text = match text.rfind(" at ") {
        Some(end) if text.contains("/mlx/c/") => &text[..end],
        _ => &text,
    };
    LAST_ERROR.with_borrow_mut(|last| *last = Some(text.to_owned()));
}

/// Makes failures of MLX come back as [`MlxError`]. Every path into MLX starts at a [`Stream`] or an [`Array`] made from
/// host data, and both call this.
pub(crate) fn catch_errors() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the handler is a plain function and keeps nothing of its arguments.
        unsafe { mlx_sys::mlx_set_error_handler(Some(keep_error), std::ptr::null_mut(), None) };
    });
}

/// The error that a call left behind on this thread.
pub(crate) fn last_error() -> MlxError {
    let kept = LAST_ERROR.with_borrow_mut(Option::take);
    MlxError(kept.unwrap_or_else(|| "failed without saying why".to_owned()))
}

/// Turns the status of a call into a result.
pub(crate) fn check(status: c_int) -> Result<(), MlxError> {
    if status == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// [`check`] of a call that computes, or that waits for what is computed: MLX tells of a failure once, and may tell it to whoever asks for something else. So it is counted; see [`Failures`].
fn check_computing(status: c_int) -> Result<(), MlxError> {
    check(status).inspect_err(|error| {
        FAILED.set(FAILED.get().wrapping_add(1));
        LAST_FAILURE.set(Some(error.clone()));
    })
}
