//! Failures of tasks, and arrays that fail and that don't for other tests.

use std::process::Command;

use fuseline_program::ScalarType;

use super::{Array, Stream, start};
use crate::device::Device;

/// The inverse of a matrix that has none: MLX finds out in a task.
pub(crate) fn failing(stream: &Stream) -> Array {
    let ones = [1.0_f32; 4].map(f32::to_le_bytes).concat();
    let ones = Array::from_bytes(&ones, &[2, 2], ScalarType::F32).unwrap();
    let mut inverse = Array::empty();
    // SAFETY: the handles are valid.
    let status = unsafe { mlx_sys::mlx_linalg_inv(inverse.slot(), ones.raw(), stream.raw()) };
    inverse.if_made(status).unwrap()
}

/// Something that works out, and the bytes of it.
pub(crate) fn working(stream: &Stream) -> (Array, [u8; 4]) {
    let two = Array::from_bytes(&2_f32.to_le_bytes(), &[], ScalarType::F32).unwrap();
    let mut square = Array::empty();
    // SAFETY: the handles are valid.
    let status =
        unsafe { mlx_sys::mlx_multiply(square.slot(), two.raw(), two.raw(), stream.raw()) };
    (square.if_made(status).unwrap(), 4_f32.to_le_bytes())
}

/// Set for a process of which the test's thread is the first that uses MLX.
const FIRST: &str = "FUSELINE_FIRST_THREAD";

#[test]
fn failures_add_up_to_nothing() {
    if std::env::var_os(FIRST).is_none() {
        let arguments = ["--exact", "mlx::tests::failures_add_up_to_nothing"];
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(arguments).env(FIRST, "1").output().unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    let stream = Stream::on(Device::Cpu).unwrap();
    for _ in 0..400 {
        let array = failing(&stream);
        start([&array]).unwrap();
        array.read().unwrap_err();
        let (array, bytes) = working(&stream);
        assert_eq!(array.read().unwrap(), bytes);
    }
}

#[test]
fn a_stream_is_handed_on_without_its_failures() {
    let first = Stream::on(Device::Cpu).unwrap();
    start([&failing(&first)]).unwrap();
    drop(first);
    let second = Stream::on(Device::Cpu).unwrap();
    let (array, bytes) = working(&second);
    assert_eq!(array.read().unwrap(), bytes);
}
