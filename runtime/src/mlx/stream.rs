//! Streams: where operations run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::thread;

use super::{FAILED, LAST_FAILURE, MlxError, catch_errors, check_computing, last_error};
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
    failures: Arc<Failures>,
}

// SAFETY: the reference gives out the handle only, and submitting work takes the owner's `&mut` (see `Session::run`).
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream on `device`.
    pub(crate) fn on(device: Device) -> Result<Self, MlxError> {
        catch_errors();
        if device == Device::Gpu {
            GPU.store(true, Ordering::Relaxed);
        }
        start_scheduler()?;
        let idle = lock(&IDLE).get_mut(&device).and_then(Vec::pop);
        let Some(handle) = idle else {
            return Self::new(device);
        };
        let stream = Self::of(handle, device);
        // What the owner before has left behind may have failed, which is not for this one to hear.
        let _ = stream.synchronize();
        Ok(stream)
    }

    /// A stream that there has not been.
    fn new(device: Device) -> Result<Self, MlxError> {
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
        Ok(Self::of(Handle(stream), device))
    }

    fn of(handle: Handle, device: Device) -> Self {
        Self {
            handle,
            device,
            failures: Arc::default(),
        }
    }

    /// The device.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// The handle, for calls.
    pub(crate) fn raw(&self) -> mlx_sys::mlx_stream {
        self.handle.0
    }

    /// What has failed on it.
    pub(crate) fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// Waits for everything submitted so far.
    pub(crate) fn synchronize(&self) -> Result<(), MlxError> {
        self.failures.watch(|| {
            let _table = submitting();
            // SAFETY: the handle is valid for as long as the process runs.
            check_computing(unsafe { mlx_sys::mlx_synchronize(self.handle.0) })
        })
    }
}

/// What has failed on a stream.
///
/// MLX 0.32.2 tells of a failed task once: to whoever waits first for anything of the stream that was queued before the failure was told, be it the task's result or not. Whatever else the
/// task was to compute passes for computed from then on, and further failures until then are not told at all. So who is told notes it here, and everything queued by then counts as failed.
#[derive(Default)]
pub(crate) struct Failures {
    count: AtomicU64,
    last: Mutex<Option<MlxError>>,
}

impl Failures {
    /// How many there have been.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The last one, if there has been any since there were `count`.
    pub(crate) fn since(&self, count: u64) -> Result<(), MlxError> {
        if self.count() == count {
            return Ok(());
        }
        match &*lock(&self.last) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Does work that computes or waits on the stream; if any of it fails, whether or not the work goes on, that is noted.
    pub(crate) fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = FAILED.get();
        let done = work();
        if FAILED.get() != before {
            *lock(&self.last) = LAST_FAILURE.with_borrow(Option::clone);
            self.count.fetch_add(1, Ordering::Release);
        }
        done
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

/// Whether a stream on a GPU has been asked for.
static GPU: AtomicBool = AtomicBool::new(false);

/// Whether a stream on a GPU has been asked for.
pub(crate) fn gpu_started() -> bool {
    GPU.load(Ordering::Relaxed)
}

/// How the start of MLX's scheduler went.
static STARTED: OnceLock<Result<(), MlxError>> = OnceLock::new();

/// Starts MLX's scheduler, on a thread that does nothing else and never ends. Two things of MLX 0.32.2 want that:
///
/// - It takes the first thread that uses the scheduler for the main one, and there alone throws the failure of a task on the CPU at whoever queues the next task. If that is one of those that
///   it counts, it is never taken off the count, and after ten of them each evaluation waits for ever for tasks that are not there. On every other thread a failure comes back from waiting
///   for what was computed. So no thread of the caller's may be the first, and as the number of a thread that has ended is given to another, this one stays.
/// - It keeps streams for any thread in a table that is destroyed when the process ends, and that waits for their work. CUDA's own shutdown must come after that, so CUDA and what MLX keeps
///   of it have to be started before the table is made, which the scheduler does. Without this the process aborts at its end, "driver shutting down". Emptying the table earlier, in a handler
///   of `atexit`, corrupts the heap.
fn start_scheduler() -> Result<(), MlxError> {
    STARTED
        .get_or_init(|| {
            let (told, outcome) = mpsc::sync_channel(1);
            let run = move || {
                // Whoever waits for it holds the other end.
                let _ = told.send(Stream::new(Device::Cpu).and_then(|first| first.synchronize()));
                loop {
                    thread::park();
                }
            };
            let spawned = thread::Builder::new().name("mlx".to_owned()).spawn(run);
            spawned.map_err(|error| MlxError(format!("no thread for its scheduler: {error}")))?;
            let ended = |_| MlxError("its scheduler did not start".to_owned());
            outcome.recv().map_err(ended)?
        })
        .clone()
}
