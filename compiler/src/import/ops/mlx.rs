//! The operators that ExecuTorch registers under `mlx::` for its MLX delegate, as they occur in exports. They mean plain operations, and become those.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, F64, Op, Scalar, Value};

use super::index::{dim_tensor, index_copy};
use super::pointwise::{Arg, done, to_common};
use super::reduce::vector_norm;
use super::{quant, random};
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};
use crate::pt2::exported::ScalarType;

/// A recurrence is written out step by step up to this many steps.
const MOST_STEPS: usize = 64;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(
        match target.strip_prefix("mlx.")?.strip_suffix(".default")? {
            "kv_cache_update" => kv_cache_update,
            "custom_sdpa" => custom_sdpa,
            "rope" => rope,
            "gather_mm" => gather_mm,
            "gather_qmm" => gather_qmm,
            "moe_gather_inputs" => moe_gather_inputs,
            "moe_scatter_outputs" => moe_scatter_outputs,
            "gated_delta_rule" => gated_delta_rule,
            "sample" => sample,
            "tq_norm" => |cx, call| {
                let x = call.value(cx, "x")?;
                let (rank, dtype) = (cx.build.rank(x)?, cx.build.dtype(x)?);
                let axes = vec![rank.saturating_sub(1)];
                done(vector_norm(cx, x, 2.0, axes, true, dtype))
            },
            "tq4_compress" => tq4_compress,
            "tq_dequant" => tq_dequant,
            _ => return None,
        },
    )
}

/// A token for each row of logits: drawn from `softmax(logits / temperature)` restricted to the `top_k` largest logits and, of those, to the likeliest that hold the mass
/// `top_p`; the likeliest at temperature 0. The draw is the largest of the logits plus Gumbel noise.
fn sample(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (logits, temperature) = (call.value(cx, "logits")?, call.value(cx, "temperature")?);
    let (top_k, top_p) = (call.value(cx, "top_k")?, call.value(cx, "top_p")?);
    let shape = cx.build.shape(logits)?;
    let Some((axis, vocabulary)) = shape.last().map(|n| (shape.len() - 1, n.clone())) else {
        return invalid("logits without an axis");
    };
    let bits = match call.opt_value(cx, "seed")? {
        Some(seed) => {
            let key = cx.computed_seed(seed)?;
            cx.build.add(op::RandomBits { shape }, &[key])?
        }
        None => cx.draw(shape)?,
    };
    let mut noise = random::fraction(cx, bits, DType::F32)?;
    for _ in 0..2 {
        let log = cx.build.add(op::Log {}, &[noise])?;
        noise = cx.build.add(op::Neg {}, &[log])?;
    }
    let wide = cx.build.cast(logits, DType::F32)?;
    let zero = cx
        .build
        .scalar(Scalar::Int(0), cx.build.dtype(temperature)?)?;
    let drawing = cx.build.add(op::Gt {}, &[temperature, zero])?;
    let temperature = cx.build.cast(temperature, DType::F32)?;
    let mut scaled = cx.build.add(op::Div {}, &[wide, temperature])?;
    let lowest = cx.build.float(f64::NEG_INFINITY, DType::F32)?;

    let ascending = cx.build.add(op::Sort { axis }, &[scaled])?;
    let vocabulary = dim_tensor(cx, &vocabulary)?;
    let top_k = cx.build.cast(top_k, DType::I64)?;
    let top_k = cx.build.add(op::Minimum {}, &[top_k, vocabulary])?;
    let at = cx.build.add(op::Sub {}, &[vocabulary, top_k])?;
    let at = cx.build.reshape(at, vec![1i64.into(); axis + 1])?;
    let threshold = cx.build.add(op::TakeAlong { axis }, &[ascending, at])?;
    let low = cx.build.add(op::Lt {}, &[scaled, threshold])?;
    scaled = cx.build.select(low, lowest, scaled)?;

    let likely = cx.build.add(op::Softmax { axis }, &[scaled])?;
    let ascending = cx.build.add(op::Sort { axis }, &[likely])?;
    let descending = cx.build.add(op::Flip { axes: vec![axis] }, &[ascending])?;
    let mass = cx.build.add(op::Cumsum { axis }, &[descending])?;
    let before = cx.build.add(op::Sub {}, &[mass, descending])?;
    let top_p = cx.build.cast(top_p, DType::F32)?;
    let beyond = cx.build.add(op::Gt {}, &[before, top_p])?;
    let highest = cx.build.float(f64::INFINITY, DType::F32)?;
    let kept = cx.build.select(beyond, highest, descending)?;
    let threshold = cx.build.add(
        op::Amin {
            axes: vec![axis],
            keepdim: true,
        },
        &[kept],
    )?;
    let low = cx.build.add(op::Lt {}, &[likely, threshold])?;
    scaled = cx.build.select(low, lowest, scaled)?;

    let raced = cx.build.add(op::Add {}, &[scaled, noise])?;
    let first = op::Argmax {
        axis,
        keepdim: false,
    };
    let drawn = cx.build.add(first.clone(), &[raced])?;
    let likeliest = cx.build.add(first, &[logits])?;
    done(cx.build.select(drawing, drawn, likeliest))
}

/// Each element as the number of boundaries below it, 4 bits wide; the pair (2j, 2j + 1) in one byte, the first in the high half.
fn tq4_compress(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, boundaries) = (call.value(cx, "values")?, call.value(cx, "boundaries")?);
    let rank = cx.build.rank(x)?;
    let Some(size) = cx.build.shape(x)?.last().cloned() else {
        return invalid("pairs of a 0-d tensor");
    };
    let column = cx.build.unsqueeze(x, rank)?;
    let values = to_common(cx, &[Arg::Tensor(column), Arg::Tensor(boundaries)])?;
    let above = cx.build.add(op::Gt {}, &values)?;
    let (axes, keepdim) = (vec![rank], false);
    let codes = cx.build.add(op::Sum { axes, keepdim }, &[above])?;
    let mut half = |start: i64| {
        let every_other = op::Slice {
            axis: rank - 1,
            start: start.into(),
            stop: size.clone(),
            step: 2,
        };
        cx.build.add(every_other, &[codes])
    };
    let (high, low) = (half(0)?, half(1)?);
    let high = cx.build.with_float(op::Mul {}, high, 16.0)?;
    let bytes = cx.build.plus(high, low)?;
    done(cx.build.cast(bytes, DType::U8))
}

/// The other way round: each half of a byte chooses one of the centroids, which is scaled by its row's norm.
fn tq_dequant(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (packed, norms) = (call.value(cx, "packed")?, call.value(cx, "norms")?);
    let centroids = call.value(cx, "centroids")?;
    let rank = cx.build.rank(packed)?;
    let bytes = cx.build.cast(packed, DType::I32)?;
    let halves = [
        cx.build.with_float(op::FloorDiv {}, bytes, 16.0)?,
        cx.build.with_float(op::Remainder {}, bytes, 16.0)?,
    ];
    let halves = [
        cx.build.unsqueeze(halves[0], rank)?,
        cx.build.unsqueeze(halves[1], rank)?,
    ];
    let codes = cx.build.cat(&halves, rank)?;
    let codes = cx.build.reshape(codes, call.out_shape(0)?)?;
    let chosen = cx.build.add(op::Take { axis: 0 }, &[centroids, codes])?;
    let values = to_common(cx, &[Arg::Tensor(chosen), Arg::Tensor(norms)])?;
    let scaled = cx.build.add(op::Mul {}, &values)?;
    done(cx.build.cast(scaled, call.out_dtype(0)?))
}

/// `cache[:, :, start_pos + i] = new_values[:, :, i]`, from a ring's beginning again after its end. The result is a placeholder of one element that nothing means to read.
fn kv_cache_update(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let cache = call.tensor("cache")?;
    let (old, new) = (cx.read(cache)?, call.value(cx, "new_values")?);
    let (start, ring) = (call.dim("start_pos")?, call.int("ring_size")?);
    let dtype = cx.build.dtype(new)?;
    let source = cx.build.cast(new, cx.build.dtype(old)?)?;
    let (whole, part) = (cx.build.shape(old)?, cx.build.shape(source)?);
    let (Some(capacity), Some(rows)) = (whole.get(2), part.get(2).cloned()) else {
        return invalid("a cache with fewer than three axes");
    };
    let updated = if ring > 0 {
        let positions = cx.build.arange(start, 1i64.into(), rows, DType::I64)?;
        let ring = cx.build.scalar(Scalar::Int(ring), DType::I64)?;
        let positions = cx.build.add(op::Remainder {}, &[positions, ring])?;
        index_copy(cx, old, 2, positions, source, false)?
    } else if start.is(0) && rows == *capacity {
        cx.build.broadcast(source, whole)?
    } else {
        cx.build.add(
            op::SliceUpdate {
                axis: 2,
                start,
                step: 1,
            },
            &[old, source],
        )?
    };
    cx.write(cache, updated)?;
    done(cx.build.full(Scalar::Int(0), dtype, vec![1i64.into()]))
}

/// Attention over the filled part of a cache: keys `0 .. start_pos + rows of the query`. A causal one lets the last row see the last key.
fn custom_sdpa(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if call.float(cx, "dropout_p")? != 0.0 {
        return unsupported("attention with dropout; call model.eval() before the export");
    }
    let (q, k, v) = (
        call.value(cx, "query")?,
        call.value(cx, "key")?,
        call.value(cx, "value")?,
    );
    let shape = cx.build.shape(q)?;
    let [_, _, rows, depth] = shape.as_slice() else {
        return invalid("attention of a query that is not 4-d");
    };
    let scale = match (call.opt_float(cx, "scale")?, depth.as_const()) {
        (Some(scale), _) => scale,
        (None, Some(depth)) => 1.0 / (depth as f64).sqrt(),
        (None, None) => return unsupported("attention whose scale depends on a dynamic size"),
    };
    let filled = &call.dim("start_pos")? + rows;
    let k = cx.build.slice(k, 2, 0i64.into(), filled.clone())?;
    let v = cx.build.slice(v, 2, 0i64.into(), filled)?;
    let causal = call.bool("is_causal")?;
    let mut args = vec![q, k, v];
    // A causal attention ignores its mask.
    if let Some(mask) = call.opt_value(cx, "attn_mask")?.filter(|_| !causal) {
        let mut shape = cx.build.shape(mask)?;
        while shape.len() < 4 {
            shape.insert(0, 1i64.into());
        }
        let mask = cx.build.reshape(mask, shape)?;
        args.push(match cx.build.dtype(mask)? {
            DType::Bool => mask,
            _ => cx.build.cast(mask, cx.build.dtype(q)?)?,
        });
    }
    done(cx.build.add(
        op::Sdpa {
            scale: F64::new(scale),
            causal,
        },
        &args,
    ))
}

/// Rotary embedding of `x [B, H, T, D]` from position `pos` on: by a base, by periods (1-d `freqs`), or by the angles themselves (`freqs [T, dims/2]`).
fn rope(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "x")?;
    let Ok(dims) = usize::try_from(call.int("dims")?) else {
        return invalid("a negative number of dims");
    };
    let (traditional, scale) = (
        call.bool("traditional")?,
        F64::new(call.float(cx, "scale")?),
    );
    let position = cx.build.add(
        op::Size {
            value: call.dim("pos")?,
        },
        &[],
    )?;
    let mut rope = op::Rope {
        dims,
        traditional,
        base: None,
        scale,
    };
    let Some(freqs) = call.opt_value(cx, "freqs")? else {
        rope.base = Some(F64::new(call.float(cx, "base")?));
        return done(cx.build.add(rope, &[x, position]));
    };
    let freqs = cx.build.cast(freqs, DType::F32)?;
    if cx.build.rank(freqs)? == 1 {
        return done(cx.build.add(rope, &[x, position, freqs]));
    }
    done(turn(cx, x, freqs, dims, traditional))
}

/// Pairs of the first `dims` elements of the last axis of `x`, turned by the angles `[.., T, dims/2]`.
fn turn(
    cx: &mut Importer<'_>,
    x: Value,
    angles: Value,
    dims: usize,
    traditional: bool,
) -> Result<Value> {
    let shape = cx.build.shape(x)?;
    let (dtype, half) = (cx.build.dtype(x)?, dims / 2);
    let [_, _, rows, width] = shape.as_slice() else {
        return invalid("a rotary embedding of a tensor that is not 4-d");
    };
    let angles = cx.build.reshape(
        angles,
        vec![1i64.into(), 1i64.into(), rows.clone(), half.into()],
    )?;
    let (cos, sin) = (
        cx.build.add(op::Cos {}, &[angles])?,
        cx.build.add(op::Sin {}, &[angles])?,
    );
    let (cos, sin) = (cx.build.cast(cos, dtype)?, cx.build.cast(sin, dtype)?);
    let part = |cx: &mut Importer<'_>, start: usize, stop: Dim, step: i64| {
        cx.build.add(
            op::Slice {
                axis: 3,
                start: start.into(),
                stop,
                step,
            },
            &[x],
        )
    };
    let (first, second) = if traditional {
        (part(cx, 0, dims.into(), 2)?, part(cx, 1, dims.into(), 2)?)
    } else {
        (
            part(cx, 0, half.into(), 1)?,
            part(cx, half, dims.into(), 1)?,
        )
    };
    let mut product = |a: Value, b: Value| cx.build.add(op::Mul {}, &[a, b]);
    let (a, b, c, d) = (
        product(first, cos)?,
        product(second, sin)?,
        product(first, sin)?,
        product(second, cos)?,
    );
    let (real, imaginary) = (
        cx.build.add(op::Sub {}, &[a, b])?,
        cx.build.add(op::Add {}, &[c, d])?,
    );
    let mut turned_shape = shape.clone();
    turned_shape[3] = dims.into();
    let turned = if traditional {
        let columns = [
            cx.build.unsqueeze(real, 4)?,
            cx.build.unsqueeze(imaginary, 4)?,
        ];
        let pairs = cx.build.cat(&columns, 4)?;
        cx.build.reshape(pairs, turned_shape)?
    } else {
        cx.build.cat(&[real, imaginary], 3)?
    };
    if width.is(dims as i64) {
        return Ok(turned);
    }
    let rest = part(cx, dims, width.clone(), 1)?;
    cx.build.cat(&[turned, rest], 3)
}

/// `a @ b[rhs_indices]`: each row of a batch meets the matrix that its index chooses. Whether indices are sorted is a hint about speed.
fn gather_mm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if !call.is_none("lhs_indices")? {
        return unsupported("rows chosen by lhs_indices");
    }
    let (a, b) = (call.value(cx, "a")?, call.value(cx, "b")?);
    done(match call.opt_value(cx, "rhs_indices")? {
        Some(indices) => cx.build.add(op::GatherMm {}, &[a, b, indices]),
        None => cx.build.add(op::Matmul {}, &[a, b]),
    })
}

/// As [`gather_mm`], with the matrices quantised in groups along their last axis: `w = q · scale + bias`. `q` comes as one integer an element, or as two of 4 bits in a byte, the
/// lower one first, that stand for −8 … 7.
fn gather_qmm(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if !call.is_none("lhs_indices")? {
        return unsupported("rows chosen by lhs_indices");
    }
    match call.opt_str("mode")? {
        Some("affine") | None => {}
        Some(mode) => return unsupported(format!("expert products in mode `{mode}`")),
    }
    let (x, codes) = (call.value(cx, "x")?, call.tensor("w")?);
    let packed = call.arg_meta("w")?.dtype == ScalarType::UInt8;
    let (bits, group) = (call.int("bits")?, call.int("group_size")?);
    if packed && bits != 4 || !(1..=8).contains(&bits) {
        return invalid(format!("elements of {bits} bits"));
    }
    let Ok(group) = usize::try_from(group) else {
        return invalid("a negative group size");
    };
    let mut block = vec![1; call.arg_meta("w")?.sizes.len()];
    if let Some(last) = block.last_mut() {
        *last = group;
    }
    let half = 1i64 << (bits - 1);
    let affine = quant::Affine {
        codes,
        nibbles: packed.then_some(-half),
        low: -half,
        high: half - 1,
        block,
        scale: call.tensor("scales")?,
        transposed: false,
        zero: None,
        bias: if call.is_none("biases")? {
            None
        } else {
            Some(call.tensor("biases")?)
        },
        dtype: cx.build.dtype(x)?,
    };
    let w = affine.build(cx)?;
    let rank = cx.build.rank(w)?;
    let w = if call.bool("transpose")? {
        cx.build
            .swap(w, rank.saturating_sub(2), rank.saturating_sub(1))?
    } else {
        w
    };
    done(match call.opt_value(cx, "rhs_indices")? {
        Some(indices) => cx.build.add(op::GatherMm {}, &[x, w, indices]),
        None => cx.build.add(op::Matmul {}, &[x, w]),
    })
}

/// Rows of `x [N, D]` repeated for each of their `top_k` experts, and the experts' numbers. More than `sort_cutoff` rows are ordered by expert. Results: rows `[N·top_k, 1, D]`,
/// experts, whether they are ordered, and the inverse of the order.
fn moe_gather_inputs(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (x, experts) = (call.value(cx, "x")?, call.value(cx, "expert_indices")?);
    let (top_k, cutoff) = (call.dim("top_k")?, call.int("sort_cutoff")?);
    let shape = cx.build.shape(x)?;
    let [rows, width] = shape.as_slice() else {
        return invalid("rows for experts that are not 2-d");
    };
    let total = rows * &top_k;
    let flat = cx.build.reshape(experts, vec![total.clone()])?;
    let flag = |cx: &mut Importer<'_>, sorted: bool| {
        cx.build.scalar(Scalar::Int(sorted.into()), DType::I32)
    };
    let identity = cx
        .build
        .arange(0i64.into(), 1i64.into(), total.clone(), DType::I64)?;
    let column = |cx: &mut Importer<'_>, rows: Value| {
        cx.build
            .reshape(rows, vec![total.clone(), 1i64.into(), width.clone()])
    };
    let sorts = rows.as_const().map(|n| n > cutoff);
    let expert_of = cx.build.cast(flat, DType::I32)?;
    if sorts == Some(false) {
        let once = cx
            .build
            .reshape(x, vec![rows.clone(), 1i64.into(), width.clone()])?;
        let each = cx
            .build
            .broadcast(once, vec![rows.clone(), top_k, width.clone()])?;
        let (each, flag) = (column(cx, each)?, flag(cx, false)?);
        let order = cx.build.cast(identity, DType::I32)?;
        return Ok(vec![
            each.into(),
            expert_of.into(),
            flag.into(),
            order.into(),
        ]);
    }
    // The order by expert; where few rows come, the order that they are in, which sorting does not change.
    let mut keys = cx.build.cast(flat, DType::I64)?;
    let mut sorted = flag(cx, true)?;
    if sorts.is_none() {
        let count = cx.build.add(
            op::Size {
                value: rows.clone(),
            },
            &[],
        )?;
        let count = cx
            .build
            .add(op::IntTensor { dtype: DType::I64 }, &[count])?;
        let cutoff = cx.build.scalar(Scalar::Int(cutoff), DType::I64)?;
        let many = cx.build.add(op::Gt {}, &[count, cutoff])?;
        keys = cx.build.select(many, keys, identity)?;
        sorted = cx.build.cast(many, DType::I32)?;
    }
    let order = cx.build.add(op::Argsort { axis: 0 }, &[keys])?;
    let inverse = cx.build.add(op::Argsort { axis: 0 }, &[order])?;
    let top_k = cx.number(&Num::Dim(top_k), DType::I64)?;
    let source = cx.build.add(op::FloorDiv {}, &[order, top_k])?;
    let each = cx.build.add(op::Take { axis: 0 }, &[x, source])?;
    let each = column(cx, each)?;
    let expert_of = cx.build.add(op::Take { axis: 0 }, &[expert_of, order])?;
    let inverse = cx.build.cast(inverse, DType::I32)?;
    Ok(vec![
        each.into(),
        expert_of.into(),
        sorted.into(),
        inverse.into(),
    ])
}

/// The inverse of [`moe_gather_inputs`] for the experts' results `[N·top_k, 1, H]`: `[N, top_k, H]`. Where the rows were never reordered, the inverse order is the identity.
fn moe_scatter_outputs(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (down, sorted, order) = (
        call.value(cx, "down")?,
        call.value(cx, "sort_experts")?,
        call.value(cx, "inv_order")?,
    );
    let top_k = call.dim("top_k")?;
    let out = call.out_shape(0)?;
    let shape = cx.build.shape(down)?;
    let [total, _, width] = shape.as_slice() else {
        return invalid("experts' results that are not 3-d");
    };
    let mut rows = cx.build.reshape(down, vec![total.clone(), width.clone()])?;
    if !is_zero(cx, sorted) {
        rows = cx.build.add(op::Take { axis: 0 }, &[rows, order])?;
    }
    match out.get(1) == Some(&top_k) {
        true => done(cx.build.reshape(rows, out)),
        false => invalid("experts' results of another number of experts"),
    }
}

fn is_zero(cx: &Importer<'_>, value: Value) -> bool {
    matches!(&cx.build.graph.node(value).op, Op::Full(full) if full.value == Scalar::Int(0))
}

/// For each step t: `s ← g·s; s ← s + (beta·(v − s·k)) kᵀ; y = s·q`, the state `s [B, H, V, K]` carried over from call to call. Heads of q and k are shared by groups of v's.
fn gated_delta_rule(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let state = call.tensor("state")?;
    let mut s = cx.read(state)?;
    let [q, k, v, g, beta] = ["q", "k", "v", "g", "beta"].map(|name| call.value(cx, name));
    let (mut q, mut k, v, g, beta) = (q?, k?, v?, g?, beta?);
    let shape = cx.build.shape(v)?;
    let [batch, steps, heads, values] = shape.as_slice() else {
        return invalid("a recurrence over values that are not 4-d");
    };
    let Some(count) = steps
        .as_const()
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n <= MOST_STEPS)
    else {
        return unsupported(format!(
            "a recurrence over `{steps}` steps, where at most {MOST_STEPS} are written out"
        ));
    };
    let narrow = cx.build.shape(q)?;
    let [_, _, key_heads, keys] = narrow.as_slice() else {
        return invalid("a recurrence over keys that are not 4-d");
    };
    if key_heads != heads {
        let Some(groups) = heads.exact_div(key_heads) else {
            return invalid(format!(
                "{heads} heads of values for {key_heads} heads of keys"
            ));
        };
        for x in [&mut q, &mut k] {
            let split = vec![
                batch.clone(),
                steps.clone(),
                key_heads.clone(),
                1i64.into(),
                keys.clone(),
            ];
            let one = cx.build.reshape(*x, split.clone())?;
            let mut each = split;
            each[3] = groups.clone();
            let each = cx.build.broadcast(one, each)?;
            *x = cx.build.reshape(
                each,
                vec![batch.clone(), steps.clone(), heads.clone(), keys.clone()],
            )?;
        }
    }
    let (b, h) = (batch.clone(), heads.clone());
    let row = vec![b.clone(), h.clone(), 1i64.into(), keys.clone()];
    let column = vec![b.clone(), h.clone(), values.clone(), 1i64.into()];
    let gate = vec![b.clone(), h.clone(), 1i64.into(), 1i64.into()];
    let mut outputs = Vec::new();
    for t in 0..count {
        let mut at = |x: Value, shape: &[Dim]| {
            let x = cx.build.slice(x, 1, t.into(), (t + 1).into())?;
            cx.build.reshape(x, shape.to_vec())
        };
        let (q, k, v, g, beta) = (
            at(q, &row)?,
            at(k, &row)?,
            at(v, &column)?,
            at(g, &gate)?,
            at(beta, &gate)?,
        );
        let mut two = |op: Op, a: Value, b: Value| cx.build.add(op, &[a, b]);
        s = two(op::Mul {}.into(), s, g)?;
        let seen = two(op::Mul {}.into(), s, k)?;
        let last = op::Sum {
            axes: vec![3],
            keepdim: true,
        };
        let seen = cx.build.add(last.clone(), &[seen])?;
        let mut two = |op: Op, a: Value, b: Value| cx.build.add(op, &[a, b]);
        let missed = two(op::Sub {}.into(), v, seen)?;
        let missed = two(op::Mul {}.into(), missed, beta)?;
        let learned = two(op::Mul {}.into(), k, missed)?;
        s = two(op::Add {}.into(), s, learned)?;
        let y = two(op::Mul {}.into(), s, q)?;
        let y = cx.build.add(last, &[y])?;
        outputs.push(
            cx.build
                .reshape(y, vec![b.clone(), 1i64.into(), h.clone(), values.clone()])?,
        );
    }
    cx.write(state, s)?;
    if outputs.is_empty() {
        return unsupported("a recurrence over no step");
    }
    done(cx.build.cat(&outputs, 1))
}
