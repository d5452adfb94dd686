//! Kernels that a program brings along as Metal source.

use std::ffi::CString;

use fuseline_program::instr::MetalKernel;

use super::host::{c_string, lengths};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::{Array, Vector, catch_errors, check, code_of, last_error};
use fuseline_program::ScalarType;

/// Compiles the kernel (MLX keeps compiled ones by name and source) and adds its launch to the graph.
pub(super) fn run(i: &MetalKernel, f: &mut Frame<'_>) -> Result<(), Fault> {
    if !metal_is_there() {
        return Err(Fault::Unsupported {
            node: "MetalKernelNode",
            needs: "Metal",
        });
    }
    let kernel = Kernel::new(i)?;
    let config = Config::new(i, f)?;
    let inputs = Vector::of(f.all(&i.inputs)?)?;
    let mut outputs = Vector::empty();
    // SAFETY: all handles are valid across the call.
    let status = unsafe {
        mlx_sys::mlx_fast_metal_kernel_apply(
            outputs.slot(),
            kernel.0,
            inputs.raw(),
            config.0,
            f.stream.raw(),
        )
    };
    check(status)?;
    let outputs: Vec<Array> = outputs.arrays()?;
    if outputs.len() != i.outputs.len() {
        return Err(Fault::Pieces {
            wanted: i.outputs.len(),
        });
    }
    for (out, array) in i.outputs.iter().zip(outputs) {
        f.put(*out, array)?;
    }
    Ok(())
}

/// Whether MLX was built for Metal and finds it.
pub(super) fn metal_is_there() -> bool {
    catch_errors();
    let mut there = false;
    // SAFETY: the call writes one truth value.
    let asked = unsafe { mlx_sys::mlx_metal_is_available(&raw mut there) };
    asked == 0 && there
}

struct Kernel(mlx_sys::mlx_fast_metal_kernel);

impl Kernel {
    fn new(i: &MetalKernel) -> Result<Self, Fault> {
        let (name, source) = (c_string(&i.name)?, c_string(&i.source)?);
        let header = c_string(i.header.as_deref().unwrap_or_default())?;
        let inputs = Strings::of(&i.input_names)?;
        let outputs = Strings::of(&i.output_names)?;
        // SAFETY: the strings live across the call, which copies them.
        let raw = unsafe {
            mlx_sys::mlx_fast_metal_kernel_new(
                name.as_ptr(),
                inputs.0,
                outputs.0,
                source.as_ptr(),
                header.as_ptr(),
                i.ensure_row_contiguous,
                i.atomic_outputs,
            )
        };
        if raw.ctx.is_null() {
            Err(last_error().into())
        } else {
            Ok(Self(raw))
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { mlx_sys::mlx_fast_metal_kernel_free(self.0) };
    }
}

struct Strings(mlx_sys::mlx_vector_string);

impl Strings {
    fn of(texts: &[String]) -> Result<Self, Fault> {
        let texts: Vec<CString> = texts
            .iter()
            .map(|text| c_string(text))
            .collect::<Result<_, _>>()?;
        let mut pointers: Vec<_> = texts.iter().map(|text| text.as_ptr()).collect();
        // SAFETY: the strings live across the call, which copies them.
        let raw =
            unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) };
        if raw.ctx.is_null() {
            Err(last_error().into())
        } else {
            Ok(Self(raw))
        }
    }
}

impl Drop for Strings {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { mlx_sys::mlx_vector_string_free(self.0) };
    }
}

struct Config(mlx_sys::mlx_fast_metal_kernel_config);

impl Config {
    fn new(i: &MetalKernel, f: &Frame<'_>) -> Result<Self, Fault> {
        let [gx, gy, gz] = three(f.ints(&i.grid)?)?;
        let [tx, ty, tz] = three(f.ints(&i.threadgroup)?)?;
        let shapes = shapes(i, f)?;
        // SAFETY: makes an empty configuration.
        let config = Self(unsafe { mlx_sys::mlx_fast_metal_kernel_config_new() });
        let raw = config.0;
        // SAFETY, here and below: the configuration is valid, and what is passed is copied.
        check(unsafe { mlx_sys::mlx_fast_metal_kernel_config_set_grid(raw, gx, gy, gz) })?;
        check(unsafe { mlx_sys::mlx_fast_metal_kernel_config_set_thread_group(raw, tx, ty, tz) })?;
        if let Some(value) = i.init_value {
            check(unsafe { mlx_sys::mlx_fast_metal_kernel_config_set_init_value(raw, value) })?;
        }
        for (shape, dtype) in shapes.iter().zip(&i.output_dtypes) {
            let code = code_of(*dtype)?;
            check(unsafe {
                mlx_sys::mlx_fast_metal_kernel_config_add_output_arg(
                    raw,
                    shape.as_ptr(),
                    shape.len(),
                    code,
                )
            })?;
        }
        let names = i.template_arg_names.iter();
        for (name, (kind, value)) in
            names.zip(i.template_arg_kinds.iter().zip(&i.template_arg_values))
        {
            let name = c_string(name)?;
            let name = name.as_ptr();
            check(match kind {
                0 => unsafe {
                    mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_int(raw, name, *value)
                },
                1 => unsafe {
                    mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_bool(
                        raw,
                        name,
                        *value != 0,
                    )
                },
                _ => {
                    let dtype = i8::try_from(*value).ok().and_then(ScalarType::from_code);
                    let wrong = Fault::Attribute {
                        what: "template argument",
                        value: i64::from(*value),
                    };
                    let code = code_of(dtype.ok_or(wrong)?)?;
                    unsafe {
                        mlx_sys::mlx_fast_metal_kernel_config_add_template_arg_dtype(
                            raw, name, code,
                        )
                    }
                }
            })?;
        }
        Ok(config)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { mlx_sys::mlx_fast_metal_kernel_config_free(self.0) };
    }
}

fn three(numbers: Vec<i32>) -> Result<[i32; 3], Fault> {
    lengths(&numbers, 0)?;
    numbers.try_into().map_err(|_| Fault::Pieces { wanted: 3 })
}

/// The shapes of the outputs, which stand one after the other.
fn shapes(i: &MetalKernel, f: &Frame<'_>) -> Result<Vec<Vec<i32>>, Fault> {
    let flat = f.ints(&i.output_shapes_flat)?;
    lengths(&flat, 0)?;
    let mut rest = flat.as_slice();
    let mut shapes = Vec::with_capacity(i.outputs.len());
    for rank in &i.output_shape_lengths {
        let cut = usize::try_from(*rank)
            .ok()
            .and_then(|rank| rest.split_at_checked(rank));
        let (shape, after) = cut.ok_or(Fault::Pieces { wanted: flat.len() })?;
        shapes.push(shape.to_vec());
        rest = after;
    }
    if !rest.is_empty() || shapes.len() != i.outputs.len() || i.output_dtypes.len() != shapes.len()
    {
        return Err(Fault::Pieces {
            wanted: i.outputs.len(),
        });
    }
    Ok(shapes)
}
