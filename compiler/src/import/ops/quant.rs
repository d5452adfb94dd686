//! Quantised weights as TorchAO and ExecuTorch's export helpers leave them: a dequantisation operator before whatever uses the weight.
//!
//! A weight that MLX's layout can express becomes `dequantize` of constants in that layout ([`crate::import::pack`]); rules then fuse it with its users. Everything else becomes
//! the plain arithmetic that the operator means.

use std::collections::BTreeMap;
use std::sync::Arc;

use fuseline_ir::graph::Payload;
use fuseline_ir::ops::quant::Mode;
use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Scalar, Tensor, TensorType, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::memory::TensorId;
use crate::import::pack::{Groups, Offset, Packed, Reinterpreted};
use crate::import::{Handler, Importer, Out, symbolic};
use crate::pt2::WeightRef;
use crate::pt2::exported::ScalarType;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(
        match target.strip_prefix("torchao.")?.strip_suffix(".default")? {
            "dequantize_affine" => dequantize_affine,
            "dequantize_int4_tensor" => dequantize_int4,
            "dequantize_nvfp4" => dequantize_nvfp4,
            "dequantize_mx" => dequantize_mx,
            _ => return None,
        },
    )
}

/// What the constants that were made here are made of, by name: a name stands for one recipe.
#[derive(Debug, Default)]
pub(in crate::import) struct Recipes(BTreeMap<String, String>);

impl Recipes {
    /// A name like `base` that stands for nothing else than `recipe`.
    fn name(&mut self, base: String, recipe: String) -> String {
        let mut name = base.clone();
        let mut n = 1;
        loop {
            match self.0.get(&name) {
                Some(known) if *known == recipe => return name,
                Some(_) => {
                    n += 1;
                    name = format!("{base}_{n}");
                }
                None => {
                    self.0.insert(name.clone(), recipe);
                    return name;
                }
            }
        }
    }
}

/// A tensor of quantised integers, and what they stand for: `scale·(q − zero) + bias`.
pub(in crate::import) struct Affine {
    /// The integers.
    pub codes: TensorId,
    /// Set where a byte holds two of them in 4 bits each, the lower one first; the number is what stands for 0.
    pub nibbles: Option<i64>,
    /// The least integer that occurs.
    pub low: i64,
    /// The largest integer that occurs.
    pub high: i64,
    /// Elements that share a scale, along each axis.
    pub block: Vec<usize>,
    /// A scale for each block.
    pub scale: TensorId,
    /// Set where scales and zeros of a matrix are stored with the groups' axis before the rows'.
    pub transposed: bool,
    /// The integer that stands for 0, for each block.
    pub zero: Option<TensorId>,
    /// What is added, for each block.
    pub bias: Option<TensorId>,
    /// Dtype of the result.
    pub dtype: DType,
}

/// `(input − zero_point)·scale`, with a scale and a zero point for each block of `block_size`.
fn dequantize_affine(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let codes = call.tensor("input")?;
    let block: Option<Vec<usize>> = call
        .ints("block_size")?
        .into_iter()
        .map(|n| usize::try_from(n).ok())
        .collect();
    let Some(block) = block else {
        return invalid("a negative block size");
    };
    let (least, most) = match call.arg_meta("input")?.dtype {
        ScalarType::UInt8 => (0, 255),
        ScalarType::Int8 => (-128, 127),
        ScalarType::Int16 => (-32768, 32767),
        _ => (i64::from(i32::MIN), i64::from(i32::MAX)),
    };
    let bound = |cx: &mut Importer<'_>, name: &str, otherwise: i64| -> Result<i64> {
        Ok(if call.is_none(name)? {
            otherwise
        } else {
            call.scalar(cx, name)?.as_f64() as i64
        })
    };
    let affine = Affine {
        codes,
        nibbles: None,
        low: bound(cx, "quant_min", least)?,
        high: bound(cx, "quant_max", most)?,
        block,
        scale: call.tensor("scale")?,
        transposed: false,
        zero: if call.is_none("zero_point")? {
            None
        } else {
            Some(call.tensor("zero_point")?)
        },
        bias: None,
        dtype: call.out_dtype(0)?,
    };
    done(affine.build(cx))
}

/// `(q − zero_point)·scale` of a matrix of 4-bit integers, two in a byte, in groups along the rows; scales and zero points are `[K/group, N]`.
fn dequantize_int4(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let Ok(group) = usize::try_from(call.int("group_size")?) else {
        return invalid("a negative group size");
    };
    let affine = Affine {
        codes: call.tensor("qdata")?,
        nibbles: Some(0),
        low: 0,
        high: 15,
        block: vec![1, group],
        scale: call.tensor("scale")?,
        transposed: true,
        zero: Some(call.tensor("zero_point")?),
        bias: None,
        dtype: call.out_dtype(0)?,
    };
    done(affine.build(cx))
}

/// FP4 elements, eight in a word or two in a byte, times an FP8 scale for each 16, times one scale for all.
fn dequantize_nvfp4(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (codes, scale) = (call.tensor("qdata")?, call.tensor("scale")?);
    let (dtype, block) = (call.out_dtype(0)?, call.int("block_size")?);
    let value = small_floats(
        cx,
        codes,
        scale,
        Mode::NvFp4,
        block,
        dtype,
        &call.out_shape(0)?,
    )?;
    let overall = call.tensor("per_tensor_scale")?;
    let factor = match known_number(cx, overall) {
        Some(1.0) => return done(Ok(value)),
        Some(factor) => cx.build.float(factor, dtype)?,
        None => {
            let factor = cx.read(overall)?;
            let factor = cx.build.reshape(factor, Vec::new())?;
            cx.build.cast(factor, dtype)?
        }
    };
    done(cx.build.add(op::Mul {}, &[value, factor]))
}

/// FP8 elements times a power of two for each 32.
fn dequantize_mx(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (codes, scale) = (call.tensor("qdata")?, call.tensor("scale")?);
    match call.arg_meta("qdata")?.dtype {
        ScalarType::Float8E4M3FN => {}
        other => {
            return unsupported(format!(
                "MX elements of type {other:?}; the target has kernels for Float8E4M3FN"
            ));
        }
    }
    let dtype = call.out_dtype(0)?;
    done(small_floats(
        cx,
        codes,
        scale,
        Mode::MxFp8,
        call.int("block_size")?,
        dtype,
        &call.out_shape(0)?,
    ))
}

/// Elements and scales whose bytes are in MLX's layout already: they only get other element types.
fn small_floats(
    cx: &mut Importer<'_>,
    codes: TensorId,
    scale: TensorId,
    mode: Mode,
    block: i64,
    dtype: DType,
    out: &[Dim],
) -> Result<Value> {
    let (bits, group) = match mode {
        Mode::MxFp8 => (8, 32),
        Mode::NvFp4 => (4, 16),
        Mode::MxFp4 => (4, 32),
        Mode::Affine => return invalid("integers where floats belong"),
    };
    if block != group {
        return unsupported(format!(
            "{} in groups of {block}; the target's kernels have groups of {group}",
            mode.name()
        ));
    }
    let shape: Option<Vec<usize>> = out
        .iter()
        .map(|d| d.as_const().and_then(|n| usize::try_from(n).ok()))
        .collect();
    let (Some(codes), Some(scale), Some(shape)) = (weight(cx, codes), weight(cx, scale), shape)
    else {
        return unsupported(format!("{} numbers that are not weights", mode.name()));
    };
    let (Some((width, lead)), group) = (shape.split_last(), group as usize) else {
        return invalid("a quantised number without axes");
    };
    if width % group != 0 {
        return invalid(format!("rows of {width} in groups of {group}"));
    }
    let elements: usize = shape.iter().product();
    if codes.numel() * codes.dtype.size() * 8 != elements * bits
        || scale.dtype.size() != 1
        || scale.numel() * group != elements
    {
        return invalid(format!(
            "`{}` and `{}` don't hold {elements} elements of {bits} bits",
            codes.fqn, scale.fqn
        ));
    }
    let row = |last: usize| lead.iter().copied().chain([last]).collect::<Vec<_>>();
    let w = reinterpreted(cx, codes, DType::U32, row(width * bits / 32))?;
    let scales = reinterpreted(cx, scale, DType::U8, row(width / group))?;
    cx.build.add(
        op::Dequantize {
            group,
            bits,
            mode: mode.name().into(),
            dtype,
        },
        &[w, scales],
    )
}

/// The weight that a tensor is the whole of, where nothing writes to it.
fn weight<'a>(cx: &Importer<'a>, tensor: TensorId) -> Option<&'a WeightRef> {
    let storage = cx.memory.storage(tensor);
    let whole = cx.memory.root_of(storage) == tensor && cx.memory.writes(storage) == 0;
    cx.weights.constant(storage).filter(|_| whole)
}

/// The number in a weight of one element.
fn known_number(cx: &Importer<'_>, tensor: TensorId) -> Option<f64> {
    let weight = weight(cx, tensor).filter(|weight| weight.numel() == 1)?;
    let dtype = symbolic::dtype(weight.dtype).ok()?;
    let tensor = Tensor::from_bytes(dtype, Vec::new(), &weight.contiguous_bytes()).ok()?;
    Some(tensor.get(0).as_f64())
}

/// A constant that is made when it is needed.
fn made(
    cx: &mut Importer<'_>,
    base: String,
    recipe: String,
    ty: TensorType,
    data: impl Payload + 'static,
) -> Result<Value> {
    let name = cx.recipes.name(base, recipe);
    Ok(cx.build.graph.constant(name, ty, Some(Arc::new(data)))?)
}

/// A weight's bytes as elements of `dtype`.
fn reinterpreted(
    cx: &mut Importer<'_>,
    weight: &WeightRef,
    dtype: DType,
    shape: Vec<usize>,
) -> Result<Value> {
    let ty = TensorType::new(dtype, shape.into_iter().map(Dim::from).collect());
    let recipe = format!("{} as {ty}", weight.fqn);
    made(
        cx,
        format!("{}.{dtype}", weight.fqn),
        recipe,
        ty,
        Reinterpreted(weight.clone()),
    )
}

impl Affine {
    /// The floats that the integers stand for.
    pub fn build(&self, cx: &mut Importer<'_>) -> Result<Value> {
        match self.packed(cx)? {
            Some(value) => Ok(value),
            None => self.plain(cx),
        }
    }

    /// In MLX's layout: for weights in groups along the last axis, of a size that is a multiple of one that MLX has.
    fn packed(&self, cx: &mut Importer<'_>) -> Result<Option<Value>> {
        let span = self
            .high
            .checked_sub(self.low)
            .filter(|span| (1..256).contains(span));
        let bits = span.and_then(|span| {
            [2usize, 3, 4, 5, 6, 8]
                .into_iter()
                .find(|bits| span >> bits == 0)
        });
        let (Some(bits), Some((&block, outer))) = (bits, self.block.split_last()) else {
            return Ok(None);
        };
        let Some(group) = [128, 64, 32]
            .into_iter()
            .find(|group| block > 0 && block % group == 0)
        else {
            return Ok(None);
        };
        let optional = |tensor: Option<TensorId>| match tensor {
            Some(tensor) => weight(cx, tensor).map(Some),
            None => Some(None),
        };
        let (Some(codes), Some(scale), Some(zero), Some(bias)) = (
            weight(cx, self.codes),
            weight(cx, self.scale),
            optional(self.zero),
            optional(self.bias),
        ) else {
            return Ok(None);
        };
        let mut shape = codes.sizes.clone();
        if let (Some(last), Some(_)) = (shape.last_mut(), self.nibbles) {
            *last *= 2;
        }
        let Some((&width, lead)) = shape.split_last() else {
            return Ok(None);
        };
        if outer.iter().any(|n| *n != 1) || outer.len() != lead.len() || width % block != 0 {
            return Ok(None);
        }
        let blocks = codes.numel() * if self.nibbles.is_some() { 2 } else { 1 } / block;
        if [Some(scale), zero, bias]
            .into_iter()
            .flatten()
            .any(|list| list.numel() != blocks)
        {
            return invalid(format!(
                "`{}` has {blocks} groups, but its scales don't",
                codes.fqn
            ));
        }
        let (repeat, dtype) = (block / group, self.dtype);
        let row = |last: usize| {
            lead.iter()
                .copied()
                .chain([last])
                .map(Dim::from)
                .collect::<Vec<_>>()
        };
        let words = TensorType::new(DType::U32, row(width * bits / 32));
        let groups = TensorType::new(dtype, row(width / group));
        let recipe = format!("{} {bits} {}", codes.fqn, self.low);
        let packed = Packed {
            codes: codes.clone(),
            nibbles: self.nibbles,
            low: self.low,
            bits,
        };
        let w = made(
            cx,
            format!("{}.packed", codes.fqn),
            recipe.clone(),
            words,
            packed,
        )?;

        let as_it_is = symbolic::dtype(scale.dtype) == Ok(dtype) && repeat == 1 && !self.transposed;
        let list = |offset: Option<Offset>| Groups {
            scale: scale.clone(),
            transposed: self.transposed,
            repeat,
            dtype,
            offset,
        };
        let recipe = format!("{recipe} {} {repeat} {dtype}", scale.fqn);
        let scales = if as_it_is {
            let scales = cx.read(self.scale)?;
            cx.build.reshape(scales, groups.shape.clone())?
        } else {
            made(
                cx,
                format!("{}.scales", codes.fqn),
                recipe.clone(),
                groups.clone(),
                list(None),
            )?
        };
        let name =
            |list: Option<&WeightRef>| list.map_or_else(String::new, |list| list.fqn.clone());
        let recipe = format!("{recipe} {} {}", name(zero), name(bias));
        let offset = Offset {
            low: self.low,
            zero: zero.cloned(),
            bias: bias.cloned(),
        };
        let biases = made(
            cx,
            format!("{}.biases", codes.fqn),
            recipe,
            groups,
            list(Some(offset)),
        )?;
        let op = op::Dequantize {
            group,
            bits,
            mode: Mode::Affine.name().into(),
            dtype,
        };
        cx.build.add(op, &[w, scales, biases]).map(Some)
    }

    /// As plain arithmetic, for anything that is not a weight, and for blocks of other forms.
    fn plain(&self, cx: &mut Importer<'_>) -> Result<Value> {
        let mut q = cx.read(self.codes)?;
        if let Some(zero) = self.nibbles {
            q = nibbles(cx, q, zero)?;
        }
        let shape = cx.build.shape(q)?;
        if shape.len() != self.block.len() {
            return invalid(format!(
                "blocks of {} axes for a tensor of {}",
                self.block.len(),
                shape.len()
            ));
        }
        // Each axis becomes two: the block, and the place in it.
        let (mut split, mut blocks) = (Vec::new(), Vec::new());
        for (size, &block) in shape.iter().zip(&self.block) {
            let Some(count) = (block > 0).then(|| size.exact_div(&block.into())).flatten() else {
                return invalid(format!("an axis of size {size} in blocks of {block}"));
            };
            split.extend([count.clone(), block.into()]);
            blocks.extend([count, 1i64.into()]);
        }
        let own = cx.read(self.scale)?;
        let own = cx.build.dtype(own)?;
        // The scale may be finer than the result.
        let wide = if own.is_float() && own.size() > self.dtype.size() {
            own
        } else {
            self.dtype
        };
        let list = |cx: &mut Importer<'_>, tensor: TensorId| {
            let mut x = cx.read(tensor)?;
            if self.transposed && cx.build.rank(x)? == 2 {
                x = cx.build.swap(x, 0, 1)?;
            }
            let x = cx.build.reshape(x, blocks.clone())?;
            cx.build.cast(x, wide)
        };
        let q = cx.build.cast(q, wide)?;
        let mut x = cx.build.reshape(q, split)?;
        if let Some(zero) = self.zero {
            let zero = list(cx, zero)?;
            x = cx.build.add(op::Sub {}, &[x, zero])?;
        }
        let scale = list(cx, self.scale)?;
        x = cx.build.add(op::Mul {}, &[x, scale])?;
        if let Some(bias) = self.bias {
            let bias = list(cx, bias)?;
            x = cx.build.add(op::Add {}, &[x, bias])?;
        }
        let x = cx.build.reshape(x, shape)?;
        cx.build.cast(x, self.dtype)
    }
}

/// The two 4-bit integers in each byte, the lower one first, with `zero` for the bits 0000.
fn nibbles(cx: &mut Importer<'_>, bytes: Value, zero: i64) -> Result<Value> {
    let mut shape = cx.build.shape(bytes)?;
    let Some(last) = shape.last_mut() else {
        return invalid("packed integers without axes");
    };
    *last = &*last * &Dim::from(2i64);
    let bytes = cx.build.cast(bytes, DType::I32)?;
    let number = |cx: &mut Importer<'_>, n: i64| cx.build.scalar(Scalar::Int(n), DType::I32);
    let sixteen = number(cx, 16)?;
    let low = cx.build.add(op::Remainder {}, &[bytes, sixteen])?;
    let high = cx.build.add(op::FloorDiv {}, &[bytes, sixteen])?;
    let rank = cx.build.rank(bytes)?;
    let (low, high) = (
        cx.build.unsqueeze(low, rank)?,
        cx.build.unsqueeze(high, rank)?,
    );
    let pairs = cx.build.cat(&[low, high], rank)?;
    let pairs = cx.build.reshape(pairs, shape)?;
    let zero = number(cx, zero)?;
    cx.build.add(op::Add {}, &[pairs, zero])
}
