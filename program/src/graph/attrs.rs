//! The range of each attribute, as far as it is known before the program runs.
//!
//! A field of a certain name means the same in every instruction, so most ranges go with the name.

use crate::caps;
use crate::dtype::ScalarType;
use crate::error::Fault;
use crate::instr::{Field, Instruction, IntOrVid};

/// The rank of tensors that nothing is known about.
const ANY_RANK: i64 = caps::RANK as i64;

/// Checks the attributes of an instruction. `rank` is the rank of its first operand, where that is known.
pub(super) fn check(instruction: &Instruction, rank: Option<usize>) -> Result<(), Fault> {
    // Axes count in the result for the two instructions that add one.
    let adds = matches!(
        instruction,
        Instruction::ExpandDims(_) | Instruction::Stack(_)
    );
    let rank = rank.map_or(ANY_RANK, |rank| rank as i64 + i64::from(adds));
    for (info, content) in instruction.fields() {
        by_name(info.name, &content, rank)?;
    }
    by_instruction(instruction)
}

fn by_name(name: &'static str, content: &Field, rank: i64) -> Result<(), Fault> {
    match (name, content) {
        ("axis" | "dim" | "scan_axis", Field::Int(axis) | Field::IntOrVid(IntOrVid::Int(axis))) => {
            within_rank(name, *axis, rank)
        }
        ("axes" | "dims", Field::Ints(axes)) => {
            caps::rank(axes.len())?;
            axes.iter()
                .try_for_each(|axis| within_rank(name, *axis, rank))
        }
        ("perm", Field::Ints(perm)) => {
            // Negative ones count from the last.
            let rank = perm.len() as i64;
            let from_first = perm
                .iter()
                .map(|axis| if *axis < 0 { axis + rank } else { *axis });
            let mut sorted: Vec<i64> = from_first.collect();
            sorted.sort_unstable();
            let whole = sorted.iter().copied().eq(0..perm.len() as i64);
            allow(
                whole && perm.len() <= caps::RANK,
                name,
                format!("{perm:?}"),
                "an order of all the axes",
            )
        }
        ("groups", Field::Int(number)) => at_least(name, *number, 1),
        ("ddof", Field::Int(number)) => at_least(name, *number, 0),
        ("dims", Field::Int(number)) => at_least(name, *number, 1),
        ("step", Field::Int(step) | Field::IntOrVid(IntOrVid::Int(step))) => allow(
            *step != 0,
            name,
            step.to_string(),
            "a step that leads anywhere",
        ),
        (_, Field::Int(number)) if name.starts_with("stride") || name.starts_with("dilation") => {
            at_least(name, *number, 1)
        }
        (_, Field::Int(number))
            if name.starts_with("padding") || name.starts_with("output_padding") =>
        {
            at_least(name, *number, 0)
        }
        ("bits", Field::Int(bits)) => allow(
            matches!(bits, 2 | 3 | 4 | 5 | 6 | 8),
            name,
            bits.to_string(),
            "2, 3, 4, 5, 6 or 8",
        ),
        ("group_size", Field::Int(size)) => allow(
            matches!(size, 16 | 32 | 64 | 128),
            name,
            size.to_string(),
            "16, 32, 64 or 128",
        ),
        ("shape" | "reps" | "strides" | "shift", Field::IntOrVids(items)) => {
            caps::rank(items.len())
        }
        (_, Field::DType(dtype)) => mlx(*dtype),
        (_, Field::DTypes(dtypes)) => dtypes.iter().copied().try_for_each(mlx),
        _ => Ok(()),
    }
}

fn by_instruction(instruction: &Instruction) -> Result<(), Fault> {
    match instruction {
        Instruction::Gelu(gelu) => one_of(
            "approximate",
            &gelu.approximate,
            &["none", "tanh"],
            "\"none\" or \"tanh\"",
        ),
        Instruction::Pad(pad) => {
            one_of(
                "mode",
                &pad.mode,
                &["constant", "edge"],
                "\"constant\" or \"edge\"",
            )?;
            literals("pad_width", &pad.pad_width, i64::from(i32::MIN))?;
            allow(
                pad.pad_width.len() % 2 == 0,
                "pad_width",
                pad.pad_width.len().to_string(),
                "an even number of widths",
            )?;
            caps::rank(pad.pad_width.len() / 2)
        }
        Instruction::QuantizedMatmul(node) => quantised(&node.mode),
        Instruction::GatherQmm(node) => quantised(&node.mode),
        Instruction::Dequantize(node) => quantised(&node.mode),
        Instruction::Reshape(node) => literals("shape", &node.shape, -1),
        Instruction::BroadcastTo(node) => literals("shape", &node.shape, -1),
        Instruction::Tile(node) => literals("reps", &node.reps, 0),
        Instruction::Repeat(node) => literals("repeats", &[node.repeats], 0),
        Instruction::Full(node) => {
            literals("shape", &node.shape, 0)?;
            allocation(&node.shape, node.scalar_type.size())
        }
        Instruction::Tri(node) => {
            literals("n and m", &[node.n, node.m], 0)?;
            allocation(&[node.n, node.m], node.scalar_type.size())
        }
        Instruction::RandomBits(node) => {
            allow(
                matches!(node.width, 1 | 2 | 4),
                "width",
                node.width.to_string(),
                "1, 2 or 4",
            )?;
            literals("shape", &node.shape, 0)?;
            allocation(&node.shape, u64::from(node.width.unsigned_abs()))
        }
        Instruction::Arange(node) => {
            let (IntOrVid::Int(start), IntOrVid::Int(stop), IntOrVid::Int(step)) =
                (node.start, node.stop, node.step)
            else {
                return Ok(());
            };
            let length = (i128::from(stop) - i128::from(start)) / i128::from(step.max(1));
            let length = i64::try_from(length.max(0)).unwrap_or(i64::MAX);
            allocation(&[IntOrVid::Int(if step > 0 { length } else { 0 })], 8)
        }
        Instruction::Split(node) => {
            literals("sizes", &node.sizes, 0)?;
            // One size is that of each piece but the last, which may be shorter.
            match node.sizes.len() {
                1 => at_least("the number of outs", node.outs.len() as i64, 1),
                sizes => same("outs and sizes", node.outs.len(), sizes),
            }
        }
        Instruction::AsStrided(node) => {
            literals("shape", &node.shape, 0)?;
            same("shape and strides", node.shape.len(), node.strides.len())?;
            allow(
                i64::try_from(node.offset).is_ok(),
                "offset",
                node.offset.to_string(),
                "below 2^63",
            )
        }
        Instruction::Gather(node) => {
            caps::rank(node.slice_sizes.len())?;
            node.slice_sizes
                .iter()
                .try_for_each(|size| at_least("slice_sizes", i64::from(*size), 0))?;
            same("indices and axes", node.indices.len(), node.axes.len())
        }
        Instruction::Roll(node) => same("shift and axes", node.shift.len(), node.axes.len()),
        Instruction::Concatenate(node) => {
            at_least("the number of tensors", node.tensors.len() as i64, 1)
        }
        Instruction::Stack(node) => at_least("the number of tensors", node.tensors.len() as i64, 1),
        Instruction::Scan(node) => same(
            "originals and sliced",
            node.originals.len(),
            node.sliced.len(),
        ),
        Instruction::UpdateAndAttend(node) => {
            node.layer_id.ok_or(Fault::Missing("layer_id"))?;
            node.scale.ok_or(Fault::Missing("scale")).map(|_| ())
        }
        Instruction::MetalKernel(kernel) => metal_kernel(kernel),
        _ => Ok(()),
    }
}

fn metal_kernel(kernel: &crate::instr::MetalKernel) -> Result<(), Fault> {
    same("grid and three", kernel.grid.len(), 3)?;
    same("threadgroup and three", kernel.threadgroup.len(), 3)?;
    same(
        "inputs and input_names",
        kernel.inputs.len(),
        kernel.input_names.len(),
    )?;
    same(
        "outputs and output_names",
        kernel.outputs.len(),
        kernel.output_names.len(),
    )?;
    same(
        "outputs and output_dtypes",
        kernel.outputs.len(),
        kernel.output_dtypes.len(),
    )?;
    same(
        "outputs and output_shape_lengths",
        kernel.outputs.len(),
        kernel.output_shape_lengths.len(),
    )?;
    let mut dims = 0_usize;
    for rank in &kernel.output_shape_lengths {
        at_least("output_shape_lengths", i64::from(*rank), 0)?;
        caps::rank(rank.unsigned_abs() as usize)?;
        dims = dims.saturating_add(rank.unsigned_abs() as usize);
    }
    literals("output_shapes_flat", &kernel.output_shapes_flat, 0)?;
    same(
        "output_shapes_flat and output_shape_lengths",
        kernel.output_shapes_flat.len(),
        dims,
    )?;
    let templates = kernel.template_arg_names.len();
    same(
        "template_arg_names and template_arg_kinds",
        templates,
        kernel.template_arg_kinds.len(),
    )?;
    same(
        "template_arg_names and template_arg_values",
        templates,
        kernel.template_arg_values.len(),
    )?;
    for (kind, value) in kernel
        .template_arg_kinds
        .iter()
        .zip(&kernel.template_arg_values)
    {
        let dtype = || i8::try_from(*value).ok().and_then(ScalarType::from_code);
        let sound = match kind {
            0 => true,
            1 => matches!(value, 0 | 1),
            2 => dtype().is_some_and(ScalarType::is_mlx),
            _ => false,
        };
        allow(
            sound,
            "a template argument",
            format!("{value} of kind {kind}"),
            "a value of kind 0, 1 or 2",
        )?;
    }
    Ok(())
}

fn allow(
    sound: bool,
    what: &'static str,
    value: String,
    allowed: &'static str,
) -> Result<(), Fault> {
    if sound {
        Ok(())
    } else {
        Err(Fault::Value {
            what,
            value,
            allowed,
        })
    }
}

fn at_least(what: &'static str, number: i64, least: i64) -> Result<(), Fault> {
    let allowed = match least {
        -1 => "-1 or more",
        0 => "0 or more",
        _ => "1 or more",
    };
    allow(number >= least, what, number.to_string(), allowed)
}

fn within_rank(what: &'static str, axis: i64, rank: i64) -> Result<(), Fault> {
    // A scalar counts as having one axis here, as in PyTorch.
    let rank = rank.max(1);
    allow(
        (-rank..rank).contains(&axis),
        what,
        axis.to_string(),
        "an axis of the operand",
    )
}

fn one_of(
    what: &'static str,
    text: &str,
    all: &[&str],
    allowed: &'static str,
) -> Result<(), Fault> {
    allow(all.contains(&text), what, format!("{text:?}"), allowed)
}

fn quantised(mode: &str) -> Result<(), Fault> {
    one_of(
        "mode",
        mode,
        &["affine", "mxfp4", "mxfp8", "nvfp4"],
        "a quantisation that is known",
    )
}

fn same(what: &'static str, left: usize, right: usize) -> Result<(), Fault> {
    let (left, right) = (left as u64, right as u64);
    if left == right {
        Ok(())
    } else {
        Err(Fault::Mismatch { what, left, right })
    }
}

fn mlx(dtype: ScalarType) -> Result<(), Fault> {
    if dtype.is_mlx() {
        Ok(())
    } else {
        Err(Fault::DType {
            dtype,
            what: "an array of MLX",
        })
    }
}

/// Lengths that are known: not below `least`, and MLX counts in 31 bits.
fn literals(what: &'static str, items: &[IntOrVid], least: i64) -> Result<(), Fault> {
    for item in items {
        if let IntOrVid::Int(number) = item {
            at_least(what, *number, least)?;
            allow(
                *number <= i64::from(i32::MAX),
                what,
                number.to_string(),
                "below 2^31",
            )?;
        }
    }
    Ok(())
}

/// Bytes of a new tensor, if all lengths are known.
fn allocation(shape: &[IntOrVid], element: u64) -> Result<(), Fault> {
    let mut bytes = Some(element);
    for item in shape {
        match item {
            IntOrVid::Int(length) => {
                bytes = bytes.and_then(|bytes| bytes.checked_mul(length.unsigned_abs()))
            }
            IntOrVid::Vid(_) => return Ok(()),
        }
    }
    let bytes = bytes.unwrap_or(u64::MAX);
    if bytes > caps::TENSOR_BYTES {
        return Err(Fault::TooLarge {
            what: "the new tensor".to_owned(),
            bytes,
            cap: caps::TENSOR_BYTES,
        });
    }
    Ok(())
}
