//! The memory that MLX holds, for the whole process.
//!
//! MLX keeps memory that is not in use any more for the next array of the same size. A program that shares a machine with others can
//! limit that, or give it back.

use crate::mlx::{MlxError, catch_errors, check};

fn ask(call: unsafe extern "C" fn(*mut usize) -> i32) -> Result<usize, MlxError> {
    catch_errors();
    let mut bytes = 0;
    // SAFETY: the call writes one number.
    check(unsafe { call(&raw mut bytes) })?;
    Ok(bytes)
}

fn set(
    call: unsafe extern "C" fn(*mut usize, usize) -> i32,
    bytes: usize,
) -> Result<usize, MlxError> {
    catch_errors();
    let mut before = 0;
    // SAFETY: the call writes one number.
    check(unsafe { call(&raw mut before, bytes) })?;
    Ok(before)
}

/// Bytes of the arrays that there are.
///
/// # Errors
/// MLX can't tell.
pub fn active() -> Result<usize, MlxError> {
    ask(mlx_sys::mlx_get_active_memory)
}

/// Bytes that are kept for later arrays.
///
/// # Errors
/// MLX can't tell.
pub fn cached() -> Result<usize, MlxError> {
    ask(mlx_sys::mlx_get_cache_memory)
}

/// The most bytes of arrays at any time since the start or the last [`reset_peak`].
///
/// # Errors
/// MLX can't tell.
pub fn peak() -> Result<usize, MlxError> {
    ask(mlx_sys::mlx_get_peak_memory)
}

/// Lets [`peak`] begin anew.
///
/// # Errors
/// MLX can't do it.
pub fn reset_peak() -> Result<(), MlxError> {
    catch_errors();
    // SAFETY: the call takes nothing.
    check(unsafe { mlx_sys::mlx_reset_peak_memory() })
}

/// Gives back what is kept for later arrays.
///
/// # Errors
/// MLX can't do it.
pub fn clear_cache() -> Result<(), MlxError> {
    catch_errors();
    // SAFETY: the call takes nothing.
    check(unsafe { mlx_sys::mlx_clear_cache() })
}

/// Sets how many bytes may be kept for later arrays; returns the limit before.
///
/// # Errors
/// MLX can't do it.
pub fn set_cache_limit(bytes: usize) -> Result<usize, MlxError> {
    set(mlx_sys::mlx_set_cache_limit, bytes)
}

/// Sets at how many bytes of arrays MLX waits for work to finish before it takes on more; returns the limit before.
///
/// # Errors
/// MLX can't do it.
pub fn set_limit(bytes: usize) -> Result<usize, MlxError> {
    set(mlx_sys::mlx_set_memory_limit, bytes)
}
