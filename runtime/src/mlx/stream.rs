//! Streams: where operations run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use super::{MlxError, catch_errors, check, last_error};
use crate::device::Device;

/// MLX looks streams up in a table that it does not lock, so nothing may be submitted while one is being made.
static TABLE: RwLock<()> = RwLock::new(());

/// MLX never frees a stream, so those of dropped owners wait here for the next.
static IDLE: Mutex<BTreeMap<Device, Vec<Handle>>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy)]
struct Handle(mlx_sys::mlx_stream);

// SAFETY: the handle names a stream that any thread may use; `Stream` sees to it that one does at a time.
unsafe impl Send for Handle {}

/// A stream on a device, for one owner. It can be used from any thread, and by `&mut` of the owner, from one at a time.
pub(crate) struct Stream {
    handle: Handle,
    device: Device,
}

// SAFETY: the reference gives out the handle only, and submitting work takes the owner's `&mut` (see `Session::run`).
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream on `device`.
    pub(crate) fn on(device: Device) -> Result<Self, MlxError> {
        catch_errors();
        let idle = lock(&IDLE).get_mut(&device).and_then(Vec::pop);
        let handle = match idle {
            Some(handle) => handle,
            None => new_handle(device)?,
        };
        Ok(Self { handle, device })
    }

    /// The device.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// The handle, for calls.
    pub(crate) fn raw(&self) -> mlx_sys::mlx_stream {
        self.handle.0
    }

    /// Waits for everything submitted so far.
    pub(crate) fn synchronize(&self) -> Result<(), MlxError> {
        let _table = submitting();
        // SAFETY: the handle is valid for as long as the process runs.
        check(unsafe { mlx_sys::mlx_synchronize(self.handle.0) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&IDLE)
            .entry(self.device)
            .or_default()
            .push(self.handle);
    }
}

/// Held around every call that submits work.
pub(super) fn submitting() -> RwLockReadGuard<'static, ()> {
    TABLE.read().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding it, and the data would be whole if something did.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the start of the GPU went, if a stream there has been asked for.
static GPU_STARTED: OnceLock<Result<(), MlxError>> = OnceLock::new();

/// Whether a stream on a GPU has been asked for.
pub(crate) fn gpu_started() -> bool {
    GPU_STARTED.get().is_some()
}

/// Starts MLX's scheduler before the first stream on a GPU is made, for the sake of an orderly end.
///
/// MLX keeps streams for any thread in a table that is destroyed when the process ends, and that waits for their work. CUDA's own shutdown must come
/// after that, so CUDA and what MLX keeps of it have to be started before the table is made: the scheduler does so when it is first used. Without
/// this the process aborts at its end, "driver shutting down". Emptying the table earlier, in a handler of `atexit`, corrupts the heap. (Both seen with MLX 0.32.2.)
fn start_gpu() -> Result<(), MlxError> {
    GPU_STARTED
        .get_or_init(|| {
            // SAFETY: the handle is made, used and freed here.
            unsafe {
                let stream = mlx_sys::mlx_default_cpu_stream_new();
                let status = mlx_sys::mlx_synchronize(stream);
                mlx_sys::mlx_stream_free(stream);
                check(status)
            }
        })
        .clone()
}

fn new_handle(device: Device) -> Result<Handle, MlxError> {
    if device == Device::Gpu {
        start_gpu()?;
    }
    let _table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the device handle is freed after its one use.
    let stream = unsafe {
        let raw = mlx_sys::mlx_device_new_type(device.raw(), 0);
        let stream = mlx_sys::mlx_stream_new_thread_unsafe(raw);
        mlx_sys::mlx_device_free(raw);
        stream
    };
    if stream.ctx.is_null() {
        return Err(last_error());
    }
    Ok(Handle(stream))
}
