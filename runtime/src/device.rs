//! Where a program runs.

use std::ffi::c_int;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

use crate::mlx::{MlxError, catch_errors, check, gpu_started};

/// Ends the process. A program that has used a GPU should end this way.
///
/// MLX has threads of its own for each GPU, which let go of CUDA's objects when they end. Where the process ends as usual, CUDA may be gone by then, and MLX aborts the
/// process for it ("driver shutting down", seen with MLX 0.32.2) although all work is done and written. So where a GPU has been used, standard output and error are flushed, and nothing that
/// C or C++ would do at the end is done.
pub fn leave(code: u8) -> ! {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    if !gpu_started() {
        std::process::exit(code.into());
    }
    // Nothing is left to do about a stream that is closed.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: the function takes any number and does not return.
    unsafe { _exit(code.into()) }
}

/// A kind of device that MLX can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The graphics processor: Apple's through Metal, or NVIDIA's through CUDA, as the MLX library at hand has it.
    Gpu,
}

impl Device {
    /// The device that MLX prefers: the GPU where it was built for one and finds it, else the CPU.
    ///
    /// # Errors
    /// Whatever MLX meets while it looks for devices.
    pub fn preferred() -> Result<Self, MlxError> {
        catch_errors();
        // SAFETY: the handle is made, written, read and freed here.
        unsafe {
            let mut device = mlx_sys::mlx_device_new();
            let mut kind = mlx_sys::mlx_device_type__MLX_CPU;
            let found = check(mlx_sys::mlx_get_default_device(&raw mut device))
                .and_then(|()| check(mlx_sys::mlx_device_get_type(&raw mut kind, device)));
            mlx_sys::mlx_device_free(device);
            found?;
            Ok(if kind == mlx_sys::mlx_device_type__MLX_GPU {
                Self::Gpu
            } else {
                Self::Cpu
            })
        }
    }

    /// Whether MLX can use this device here.
    #[must_use]
    pub fn is_available(self) -> bool {
        catch_errors();
        let mut available = false;
        // SAFETY: the handle is made, read and freed here.
        let asked = unsafe {
            let device = mlx_sys::mlx_device_new_type(self.raw(), 0);
            let asked = check(mlx_sys::mlx_device_is_available(&raw mut available, device));
            mlx_sys::mlx_device_free(device);
            asked
        };
        asked.is_ok() && available
    }

    pub(crate) fn raw(self) -> mlx_sys::mlx_device_type {
        match self {
            Self::Cpu => mlx_sys::mlx_device_type__MLX_CPU,
            Self::Gpu => mlx_sys::mlx_device_type__MLX_GPU,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            other => Err(format!("`{other}` is no device: cpu or gpu")),
        }
    }
}
