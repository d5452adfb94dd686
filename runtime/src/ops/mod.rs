//! What each instruction does: the only folder that names MLX's operations. Instructions that take more than a line or
//! two are in `several`, checks and host numbers in `host`.
//!
//! [`execute`] adds the operation of one instruction to MLX's graph; nothing is computed until the results are
//! evaluated, except where a host number must be known (`ItemInt`, the indices of `IndexCopy`), and for a few integers that are worked
//! out early, so that those numbers are (`early`).
//!
//! MLX trusts its callers in some places where a program file must not be trusted: negative lengths, strides of zero, views
//! beyond the end, integer division by zero, sorts of nothing. These are refused here, before MLX sees them.

mod cached;
mod conv;
mod early;
mod host;
mod indices;
mod metal_kernel;
mod nothing;
mod points;
mod quantized;
mod rope;
mod several;
mod spans;

use fuseline_program::ScalarType;
use fuseline_program::instr::{Instruction as I, IntOrVid, Slot};

use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::{Array, Vector, code_of};

pub use cached::CacheOptions;
pub(crate) use cached::{CacheLayout, Caches};
pub(crate) use host::{axis_of, each_integer, mark, span_of};
use host::{fill_bytes, is_integer, item, lengths, number, scalar};

/// Calls an operation of mlx-c with these arguments and the frame's stream; gives the array that it makes.
macro_rules! op {
    ($f:expr, $name:ident, $($arg:expr),* $(,)?) => {{
        let mut made = Array::empty();
        // SAFETY: handles among the arguments belong to arrays that live across the call, pointers to numbers stand before
        // their count, and strings end in a zero.
        let status = unsafe { mlx_sys::$name(made.slot(), $($arg,)* $f.stream.raw()) };
        crate::ops::host::bounded(made.if_made(status)?, $f)?
    }};
}
use op;

/// Runs one instruction that is no control flow; those that are belong to [`crate::replay`].
pub(crate) fn execute(instruction: &I, f: &mut Frame<'_>) -> Result<(), Fault> {
    if let Some((out, array)) = early::result(instruction, f)? {
        return f.put(out, array);
    }
    let span = spans::before(instruction, f);
    dispatch(instruction, f)?;
    if span.is_some() {
        for slot in instruction.writes() {
            if let Slot::Tensor(out) = slot
                && let Some(span) = spans::fitting(span, f.get(out)?.dtype())
            {
                f.set_span(out, span);
            }
        }
    }
    Ok(())
}

fn dispatch(instruction: &I, f: &mut Frame<'_>) -> Result<(), Fault> {
    macro_rules! unary {
        ($i:expr, $name:ident) => {
            f.put($i.out, op!(f, $name, f.raw($i.x)?))
        };
    }
    macro_rules! binary {
        ($i:expr, $name:ident) => {
            f.put($i.out, op!(f, $name, f.raw($i.a)?, f.raw($i.b)?))
        };
    }
    // `$all` reduces every axis, `$some` those that are listed.
    macro_rules! reduce {
        ($i:expr, $all:ident, $some:ident $(, $more:expr)*) => {{
            let fresh = nothing::fresh(f.get($i.x)?)?;
            let x = fresh.as_ref().map_or(f.raw($i.x)?, Array::raw);
            let axes = points::axes(f.get($i.x)?, &$i.axes);
            let reduced = if axes.is_empty() {
                op!(f, $all, x, $i.keepdims $(, $more)*)
            } else {
                op!(f, $some, x, axes.as_ptr(), axes.len(), $i.keepdims $(, $more)*)
            };
            f.put($i.out, reduced)
        }};
    }
    macro_rules! along_axis {
        ($i:expr, $name:ident $(, $more:expr)*) => {{
            let row = points::as_row(f.get($i.x)?, $i.axis, f)?;
            let fresh = nothing::fresh(f.get($i.x)?)?;
            let other = row.as_ref().or(fresh.as_ref());
            let x = other.map_or(f.raw($i.x)?, Array::raw);
            let made = op!(f, $name, x, $i.axis $(, $more)*);
            f.put($i.out, if row.is_some() { points::of_row(&made, f)? } else { made })
        }};
    }

    if let Some((out, made)) = nothing::of_nothing(instruction, f)? {
        return f.put(out, made);
    }
    match instruction {
        I::Noop(_) => Ok(()),
        I::IdCopy(i) => f.put(i.out, f.get(i.x)?.share()?),

        // Arithmetic, element by element.
        I::Add(i) => binary!(i, mlx_add),
        I::Subtract(i) => binary!(i, mlx_subtract),
        I::Multiply(i) => binary!(i, mlx_multiply),
        I::Divide(i) => binary!(i, mlx_divide),
        I::FloorDivide(i) => several::floor_divide(i, f),
        I::Remainder(i) => several::remainder(i, f),
        I::Power(i) => binary!(i, mlx_power),
        I::Maximum(i) => binary!(i, mlx_maximum),
        I::Minimum(i) => binary!(i, mlx_minimum),
        I::Atan2(i) => binary!(i, mlx_arctan2),
        I::LogAddExp(i) => binary!(i, mlx_logaddexp),
        I::Abs(i) => unary!(i, mlx_abs),
        I::Neg(i) => unary!(i, mlx_negative),
        I::Sign(i) => unary!(i, mlx_sign),
        I::Square(i) => unary!(i, mlx_square),
        I::Sqrt(i) => unary!(i, mlx_sqrt),
        I::Rsqrt(i) => unary!(i, mlx_rsqrt),
        I::Reciprocal(i) => unary!(i, mlx_reciprocal),
        I::Floor(i) => unary!(i, mlx_floor),
        I::Ceil(i) => unary!(i, mlx_ceil),
        I::Trunc(i) => unary!(i, mlx_trunc),
        I::Round(i) => f.put(i.out, op!(f, mlx_round, f.raw(i.x)?, i.decimals)),
        I::Exp(i) => unary!(i, mlx_exp),
        I::Expm1(i) => unary!(i, mlx_expm1),
        I::Log(i) => unary!(i, mlx_log),
        I::Log2(i) => unary!(i, mlx_log2),
        I::Log10(i) => unary!(i, mlx_log10),
        I::Log1p(i) => unary!(i, mlx_log1p),
        I::Erf(i) => unary!(i, mlx_erf),
        I::Sin(i) => unary!(i, mlx_sin),
        I::Cos(i) => unary!(i, mlx_cos),
        I::Tan(i) => unary!(i, mlx_tan),
        I::Arcsin(i) => unary!(i, mlx_arcsin),
        I::Arccos(i) => unary!(i, mlx_arccos),
        I::Arctan(i) => unary!(i, mlx_arctan),
        I::Sinh(i) => unary!(i, mlx_sinh),
        I::Cosh(i) => unary!(i, mlx_cosh),
        I::Tanh(i) => unary!(i, mlx_tanh),
        I::Arcsinh(i) => unary!(i, mlx_arcsinh),
        I::Arccosh(i) => unary!(i, mlx_arccosh),
        I::Arctanh(i) => unary!(i, mlx_arctanh),
        I::Sigmoid(i) => unary!(i, mlx_sigmoid),
        I::Silu(i) => {
            let gate = op!(f, mlx_sigmoid, f.raw(i.x)?);
            f.put(i.out, op!(f, mlx_multiply, f.raw(i.x)?, gate.raw()))
        }
        I::Gelu(i) => several::gelu(i, f),
        I::Clip(i) => {
            let (low, high) = (f.optional(i.a_min)?, f.optional(i.a_max)?);
            f.put(i.out, op!(f, mlx_clip, f.raw(i.x)?, low.raw(), high.raw()))
        }
        I::AsType(i) => f.put(
            i.out,
            op!(f, mlx_astype, f.raw(i.x)?, code_of(i.scalar_type)?),
        ),

        // Comparisons, truth values, bits.
        I::Less(i) => binary!(i, mlx_less),
        I::LessEqual(i) => binary!(i, mlx_less_equal),
        I::Greater(i) => binary!(i, mlx_greater),
        I::GreaterEqual(i) => binary!(i, mlx_greater_equal),
        I::Equal(i) => binary!(i, mlx_equal),
        I::NotEqual(i) => binary!(i, mlx_not_equal),
        I::LogicalNot(i) => unary!(i, mlx_logical_not),
        I::LogicalAnd(i) => binary!(i, mlx_logical_and),
        I::LogicalOr(i) => binary!(i, mlx_logical_or),
        I::BitwiseInvert(i) => unary!(i, mlx_bitwise_invert),
        I::BitwiseAnd(i) => binary!(i, mlx_bitwise_and),
        I::BitwiseOr(i) => binary!(i, mlx_bitwise_or),
        I::BitwiseXor(i) => binary!(i, mlx_bitwise_xor),
        I::Where(i) => f.put(
            i.out,
            op!(f, mlx_where, f.raw(i.condition)?, f.raw(i.x)?, f.raw(i.y)?),
        ),

        // Reductions and scans.
        I::Sum(i) => reduce!(i, mlx_sum, mlx_sum_axes),
        I::Mean(i) => reduce!(i, mlx_mean, mlx_mean_axes),
        I::Prod(i) => reduce!(i, mlx_prod, mlx_prod_axes),
        I::Max(i) => reduce!(i, mlx_max, mlx_max_axes),
        I::Min(i) => reduce!(i, mlx_min, mlx_min_axes),
        I::Any(i) => reduce!(i, mlx_any, mlx_any_axes),
        I::All(i) => reduce!(i, mlx_all, mlx_all_axes),
        I::Median(i) => reduce!(i, mlx_median, mlx_median_axes),
        // MLX refuses one of no elements, whose sum it takes.
        I::LogSumExp(i) if f.get(i.x)?.len() == 0 => {
            reduce!(i, mlx_sum, mlx_sum_axes)?;
            f.put(i.out, op!(f, mlx_log, f.raw(i.out)?))
        }
        I::LogSumExp(i) => reduce!(i, mlx_logsumexp, mlx_logsumexp_axes),
        I::Var(i) => reduce!(i, mlx_var, mlx_var_axes, i.ddof),
        I::Std(i) => reduce!(i, mlx_std, mlx_std_axes, i.ddof),
        I::Argmax(i) => along_axis!(i, mlx_argmax_axis, i.keepdims),
        I::Argmin(i) => along_axis!(i, mlx_argmin_axis, i.keepdims),
        I::Cumsum(i) => {
            let same = mlx_sys::mlx_optional_dtype {
                value: 0,
                has_value: false,
            };
            along_axis!(i, mlx_cumsum_axis, i.reverse, i.inclusive, same)
        }
        I::Softmax(i) => along_axis!(i, mlx_softmax_axis, i.precise),
        I::Sort(i) => along_axis!(i, mlx_sort_axis),
        I::Argsort(i) => along_axis!(i, mlx_argsort_axis),
        I::Partition(i) => {
            let kth = f.int(i.kth)?;
            f.put(i.out, op!(f, mlx_partition_axis, f.raw(i.x)?, kth, i.axis))
        }
        I::ArgPartition(i) => {
            let kth = f.int(i.kth)?;
            f.put(
                i.out,
                op!(f, mlx_argpartition_axis, f.raw(i.x)?, kth, i.axis),
            )
        }

        // Linear algebra and convolution.
        I::Addmm(i) if is_integer(f.get(i.mat1)?.dtype()) => several::integer_product(i, f),
        I::Addmm(i) => {
            let (a, b) = (f.raw(i.mat1)?, f.raw(i.mat2)?);
            let product = match i.bias {
                Some(bias) => op!(f, mlx_addmm, f.raw(bias)?, a, b, i.alpha, i.beta),
                None => op!(f, mlx_matmul, a, b),
            };
            f.put(i.out, product)
        }
        I::GatherMm(i) => several::gather_mm(i, f),
        I::QuantizedMatmul(i) => quantized::matmul(i, f),
        I::GatherQmm(i) => quantized::gathered(i, f),
        I::Dequantize(i) => quantized::dequantize(i, f),
        I::Conv1D(i) => {
            let axes = conv::Axes {
                stride: [i.stride],
                padding: [i.padding],
                dilation: [i.dilation],
                output_padding: [0; 1],
            };
            f.put(i.out, conv::forward(i.x, i.w, &axes, i.groups, f)?)
        }
        I::Conv2D(i) => {
            let axes = conv::Axes {
                stride: [i.stride_h, i.stride_w],
                padding: [i.padding_h, i.padding_w],
                dilation: [i.dilation_h, i.dilation_w],
                output_padding: [0; 2],
            };
            f.put(i.out, conv::forward(i.x, i.w, &axes, i.groups, f)?)
        }
        I::Conv3D(i) => {
            let axes = conv::Axes {
                stride: [i.stride_d, i.stride_h, i.stride_w],
                padding: [i.padding_d, i.padding_h, i.padding_w],
                dilation: [i.dilation_d, i.dilation_h, i.dilation_w],
                output_padding: [0; 3],
            };
            f.put(i.out, conv::forward(i.x, i.w, &axes, i.groups, f)?)
        }
        I::ConvTranspose1D(i) => {
            let axes = conv::Axes {
                stride: [i.stride],
                padding: [i.padding],
                dilation: [i.dilation],
                output_padding: [i.output_padding],
            };
            f.put(i.out, conv::transposed(i.x, i.w, &axes, i.groups, f)?)
        }
        I::ConvTranspose2D(i) => {
            let axes = conv::Axes {
                stride: [i.stride_h, i.stride_w],
                padding: [i.padding_h, i.padding_w],
                dilation: [i.dilation_h, i.dilation_w],
                output_padding: [i.output_padding_h, i.output_padding_w],
            };
            f.put(i.out, conv::transposed(i.x, i.w, &axes, i.groups, f)?)
        }
        I::ConvTranspose3D(i) => {
            let axes = conv::Axes {
                stride: [i.stride_d, i.stride_h, i.stride_w],
                padding: [i.padding_d, i.padding_h, i.padding_w],
                dilation: [i.dilation_d, i.dilation_h, i.dilation_w],
                output_padding: [i.output_padding_d, i.output_padding_h, i.output_padding_w],
            };
            f.put(i.out, conv::transposed(i.x, i.w, &axes, i.groups, f)?)
        }

        // Fused operations of transformers.
        I::RmsNorm(i) => {
            let weight = f.optional(i.weight)?;
            let fresh = nothing::fresh(f.get(i.x)?)?;
            let x = fresh.as_ref().map_or(f.raw(i.x)?, Array::raw);
            f.put(i.out, op!(f, mlx_fast_rms_norm, x, weight.raw(), i.eps))
        }
        I::LayerNorm(i) => {
            let (weight, bias) = (f.optional(i.weight)?, f.optional(i.bias)?);
            let fresh = nothing::fresh(f.get(i.x)?)?;
            let x = fresh.as_ref().map_or(f.raw(i.x)?, Array::raw);
            let (weight, bias) = (weight.raw(), bias.raw());
            f.put(i.out, op!(f, mlx_fast_layer_norm, x, weight, bias, i.eps))
        }
        I::Rope(i) => rope::rope(i, f),
        I::Sdpa(i) => several::attention(i, f),
        I::UpdateAndAttend(i) => cached::update_and_attend(i, f),

        // Shapes and views.
        I::ExpandDims(i) => f.put(i.out, op!(f, mlx_expand_dims, f.raw(i.x)?, i.axis)),
        I::Squeeze(i) => several::squeeze(i, f),
        I::Reshape(i) => {
            let shape = f.ints(&i.shape)?;
            lengths(&shape, 1)?;
            f.put(
                i.out,
                op!(f, mlx_reshape, f.raw(i.x)?, shape.as_ptr(), shape.len()),
            )
        }
        I::Transpose(i) => f.put(
            i.out,
            op!(
                f,
                mlx_transpose_axes,
                f.raw(i.x)?,
                i.perm.as_ptr(),
                i.perm.len()
            ),
        ),
        I::BroadcastTo(i) => several::broadcast_to(i, f),
        I::AsStrided(i) => several::as_strided(i, f),
        I::Contiguous(i) => f.put(i.out, op!(f, mlx_contiguous, f.raw(i.x)?, false)),
        I::Slice(i) => several::slice(i, f),
        I::Split(i) => several::split(i, f),
        I::Concatenate(i) => {
            let tensors = Vector::of(f.all(&i.tensors)?)?;
            f.put(i.out, op!(f, mlx_concatenate_axis, tensors.raw(), i.axis))
        }
        I::Stack(i) => {
            let tensors = Vector::of(f.all(&i.tensors)?)?;
            f.put(i.out, op!(f, mlx_stack_axis, tensors.raw(), i.axis))
        }
        I::Flip(i) => f.put(
            i.out,
            op!(f, mlx_flip_axes, f.raw(i.x)?, i.axes.as_ptr(), i.axes.len()),
        ),
        I::Roll(i) => {
            let shift = f.ints(&i.shift)?;
            let x = f.get(i.x)?;
            if x.len() == 0 {
                return f.put(i.out, x.share()?);
            }
            let out = op!(
                f,
                mlx_roll_axes,
                x.raw(),
                shift.as_ptr(),
                shift.len(),
                i.axes.as_ptr(),
                i.axes.len(),
            );
            f.put(i.out, out)
        }
        I::Tile(i) => {
            let reps = f.ints(&i.reps)?;
            lengths(&reps, 0)?;
            let x = f.get(i.x)?;
            let times = reps.iter().map(|n| u64::from(n.unsigned_abs()));
            fill_bytes(times.chain([x.len() as u64]), x.dtype(), f)?;
            f.put(i.out, op!(f, mlx_tile, x.raw(), reps.as_ptr(), reps.len()))
        }
        I::Repeat(i) => {
            let repeats = f.int(i.repeats)?;
            lengths(&[repeats], 0)?;
            let x = f.get(i.x)?;
            fill_bytes(
                [u64::from(repeats.unsigned_abs()), x.len() as u64],
                x.dtype(),
                f,
            )?;
            f.put(i.out, op!(f, mlx_repeat_axis, x.raw(), repeats, i.axis))
        }
        I::Pad(i) => several::pad(i, f),
        I::Tril(i) => f.put(i.out, op!(f, mlx_tril, f.raw(i.x)?, i.k)),
        I::Triu(i) => f.put(i.out, op!(f, mlx_triu, f.raw(i.x)?, i.k)),

        // Reading and writing at positions.
        I::Take(i) => several::take(i, f),
        I::TakeAlongAxis(i) => several::take_along_axis(i, f),
        I::Gather(i) => several::gather(i, f),
        I::ScatterAdd(i) => {
            let x = f.get(i.x)?;
            let indices = indices::along(x, i.axis, 1, i.indices, f)?;
            let updates = several::leading(f.get(i.updates)?, indices.shape(), f)?;
            f.put(
                i.out,
                op!(
                    f,
                    mlx_scatter_add_axis,
                    x.raw(),
                    indices.raw(),
                    updates.raw(),
                    i.axis
                ),
            )
        }
        I::SliceUpdate(i) => several::slice_update(i, f),
        I::IndexCopy(i) => several::index_copy(i, f),

        // Tensors from nothing.
        I::Arange(i) => several::arange(i, f),
        I::Full(i) => {
            let shape = f.ints(&i.shape)?;
            lengths(&shape, 0)?;
            fill_bytes(
                shape.iter().map(|n| u64::from(n.unsigned_abs())),
                i.scalar_type,
                f,
            )?;
            let value = number(i.v, i.scalar_type, f)?;
            let code = code_of(i.scalar_type)?;
            f.put(
                i.out,
                op!(f, mlx_full, shape.as_ptr(), shape.len(), value.raw(), code),
            )
        }
        I::FullLike(i) => {
            let x = f.get(i.x)?;
            let dtype = i.scalar_type.unwrap_or(x.dtype());
            let value = number(i.v, dtype, f)?;
            f.put(
                i.out,
                op!(f, mlx_full_like, x.raw(), value.raw(), code_of(dtype)?),
            )
        }
        I::Tri(i) => {
            let (n, m) = (f.int(i.n)?, f.int(i.m)?);
            lengths(&[n, m], 0)?;
            fill_bytes(
                [u64::from(n.unsigned_abs()), u64::from(m.unsigned_abs())],
                i.scalar_type,
                f,
            )?;
            f.put(i.out, op!(f, mlx_tri, n, m, i.k, code_of(i.scalar_type)?))
        }
        I::RandomBits(i) => several::random_bits(i, f),

        // Host numbers.
        I::ItemInt(i) => {
            let value = item(f.get(i.x)?)?;
            f.put_value(i.out, value)
        }
        I::SymSize(i) => {
            let a = f.get(i.a)?;
            let length = a.shape()[axis_of(i.dim, a.rank())?];
            f.put_value(i.out, i64::from(length))
        }
        I::AddInt(i) => {
            let sum = f
                .number(i.a)?
                .checked_add(f.number(i.b)?)
                .ok_or(Fault::Overflow)?;
            f.put_value(i.out, sum)
        }
        I::SubtractInt(i) => {
            let difference = f
                .number(i.a)?
                .checked_sub(f.number(i.b)?)
                .ok_or(Fault::Overflow)?;
            f.put_value(i.out, difference)
        }
        I::MultiplyInt(i) => {
            let product = f
                .number(i.a)?
                .checked_mul(f.number(i.b)?)
                .ok_or(Fault::Overflow)?;
            f.put_value(i.out, product)
        }
        I::FloorDivideInt(i) => {
            let (a, b) = (f.number(i.a)?, f.number(i.b)?);
            let quotient = a.checked_div(b).ok_or(Fault::Division)?;
            let below = a % b != 0 && (a < 0) != (b < 0);
            f.put_value(i.out, quotient - i64::from(below))
        }
        I::ModInt(i) => {
            let (a, b) = (f.number(i.a)?, f.number(i.b)?);
            let rest = a.checked_rem(b).ok_or(Fault::Division)?;
            let opposite = rest != 0 && (rest < 0) != (b < 0);
            f.put_value(i.out, if opposite { rest + b } else { rest })
        }

        I::MetalKernel(i) => metal_kernel::run(i, f),
        I::Scan(_) | I::If(_) => Err(Fault::Unsupported {
            node: instruction.info().node,
            needs: "control flow, which is not executed as an operation",
        }),
    }
}

/// What an instruction needs that is not here, if anything. Known without running it, so that a file is refused when it is opened.
pub(crate) fn missing(instruction: &I) -> Option<&'static str> {
    match instruction {
        I::MetalKernel(_) if !metal_kernel::metal_is_there() => Some("Metal"),
        _ => None,
    }
}

/// One slice of `x` along `axis`, without that axis; for loops over it.
pub(crate) fn select(x: &Array, at: i32, axis: i32, f: &Frame<'_>) -> Result<Array, Fault> {
    let index = scalar(f64::from(at), ScalarType::I32)?;
    Ok(op!(f, mlx_take_axis, x.raw(), index.raw(), axis))
}

/// Joins arrays along a new axis; for loops that collect them.
pub(crate) fn stack(arrays: &[Array], axis: i32, f: &Frame<'_>) -> Result<Array, Fault> {
    let arrays = Vector::of(arrays)?;
    Ok(op!(f, mlx_stack_axis, arrays.raw(), axis))
}

/// `x` with elements of type `dtype`.
pub(crate) fn cast(x: &Array, dtype: ScalarType, f: &Frame<'_>) -> Result<Array, Fault> {
    if x.dtype() == dtype {
        return Ok(x.share()?);
    }
    Ok(op!(f, mlx_astype, x.raw(), code_of(dtype)?))
}

/// Zeros; for the initial state.
pub(crate) fn zeros(shape: &[i32], dtype: ScalarType, f: &Frame<'_>) -> Result<Array, Fault> {
    lengths(shape, 0)?;
    Ok(op!(
        f,
        mlx_zeros,
        shape.as_ptr(),
        shape.len(),
        code_of(dtype)?
    ))
}

pub(super) fn sorted(fixed: bool, flag: Option<IntOrVid>, f: &Frame<'_>) -> Result<bool, Fault> {
    flag.map_or(Ok(fixed), |flag| Ok(f.number(flag)? != 0))
}
