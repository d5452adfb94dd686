//! Attention.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, F64, Value};

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.scaled_dot_product_attention.default"
        | "aten._scaled_dot_product_flash_attention_for_cpu.default"
        | "aten._scaled_dot_product_attention_math.default" => |cx, call| {
            let mask = call.opt_value(cx, "attn_mask")?;
            attention(cx, call, mask)
        },
        // What a GPU's exports choose. Results behind the first are for the gradient.
        "aten._scaled_dot_product_efficient_attention.default"
        | "aten._scaled_dot_product_cudnn_attention.default"
        | "aten._scaled_dot_product_fused_attention_overrideable.default" => |cx, call| {
            let mask = call.opt_value(cx, "attn_bias")?;
            attention(cx, call, mask)
        },
        "aten._scaled_dot_product_flash_attention.default" => |cx, call| attention(cx, call, None),
        _ => return None,
    })
}

/// softmax(scale · q·kᵀ + mask) · v over the last two axes. The IR's op takes four axes: fewer are padded, more are merged.
fn attention(cx: &mut Importer<'_>, call: &Call<'_>, mask: Option<Value>) -> Result<Vec<Out>> {
    let (q, k, v) = (
        call.value(cx, "query")?,
        call.value(cx, "key")?,
        call.value(cx, "value")?,
    );
    let has = |name: &str| call.schema.is_some_and(|schema| schema.arg(name).is_some());
    let causal = call.bool("is_causal")?;
    let grouped = has("enable_gqa") && call.bool("enable_gqa")?;
    let q_shape = cx.build.shape(q)?;
    let (Some(depth), true) = (q_shape.last(), q_shape.len() >= 2) else {
        return invalid("attention of a tensor with fewer than two axes");
    };
    let scale = match call.opt_float(cx, "scale")? {
        Some(scale) => scale,
        None => match depth.as_const() {
            Some(depth) => 1.0 / (depth as f64).sqrt(),
            None => return unsupported("attention whose scale depends on a dynamic size"),
        },
    };
    let out_shape = call.out_shape(0)?;
    let rank = q_shape.len();
    let batch = Batch::of(&out_shape, rank);
    let q = batch.four(cx, q, true)?;
    let (k, v) = (batch.four(cx, k, !grouped)?, batch.four(cx, v, !grouped)?);
    let (rows, keys) = (cx.build.shape(q)?[2].clone(), cx.build.shape(k)?[2].clone());

    // PyTorch's causal mask starts at the upper left corner, the IR's ends at the lower right one: the same for square ones.
    let square = rows == keys;
    let mut mask = match mask {
        Some(mask) => Some(batch.mask(cx, mask)?),
        None => None,
    };
    if causal && (!square || mask.is_some()) {
        let triangle = lower_triangle(cx, rows.clone(), keys.clone())?;
        mask = Some(match mask {
            None => triangle,
            Some(_) => return unsupported("attention with a mask that is causal as well"),
        });
    }
    let causal = causal && square;
    let dropout = call.float(cx, "dropout_p")?;
    if dropout > 0.0 {
        let mask = match mask {
            None if causal => Some(lower_triangle(cx, rows, keys)?),
            mask => mask,
        };
        let out = dropped(cx, [q, k, v], mask, scale, dropout)?;
        return done(cx.build.reshape(out, out_shape));
    }
    let mut args = vec![q, k, v];
    if let Some(mask) = mask {
        let dtype = cx.build.dtype(mask)?;
        let mask = if dtype == DType::Bool {
            mask
        } else {
            cx.build.cast(mask, cx.build.dtype(q)?)?
        };
        args.push(mask);
    }
    let out = cx.build.add(
        op::Sdpa {
            scale: F64::new(scale),
            causal,
        },
        &args,
    )?;
    done(cx.build.reshape(out, out_shape))
}

/// Attention in training mode: probabilities are dropped before they meet the values.
fn dropped(
    cx: &mut Importer<'_>,
    [q, k, v]: [Value; 3],
    mask: Option<Value>,
    scale: f64,
    dropout: f64,
) -> Result<Value> {
    let heads = cx.build.shape(q)?[1].clone();
    let mut each = Vec::new();
    for x in [k, v] {
        let shape = cx.build.shape(x)?;
        let Some(group) = heads.exact_div(&shape[1]) else {
            return invalid("heads that are no multiple of the keys' heads");
        };
        let apart = cx.build.unsqueeze(x, 2)?;
        let mut wide = cx.build.shape(apart)?;
        wide[2] = group;
        let repeated = cx.build.broadcast(apart, wide)?;
        let mut merged = shape;
        merged[1] = heads.clone();
        each.push(cx.build.reshape(repeated, merged)?);
    }
    let turned = cx.build.swap(each[0], 2, 3)?;
    let product = cx.build.add(op::Matmul {}, &[q, turned])?;
    let mut scores = cx.build.with_float(op::Mul {}, product, scale)?;
    if let Some(mask) = mask {
        let dtype = cx.build.dtype(scores)?;
        scores = if cx.build.dtype(mask)? == DType::Bool {
            let lowest = cx.build.float(f64::NEG_INFINITY, dtype)?;
            cx.build.select(mask, scores, lowest)?
        } else {
            let mask = cx.build.cast(mask, dtype)?;
            cx.build.plus(scores, mask)?
        };
    }
    let shape = cx.build.shape(scores)?;
    let likely = cx.build.add(op::Softmax { axis: 3 }, &[scores])?;
    let (kept, _) = super::random::drop_out(cx, likely, dropout, shape)?;
    cx.build.add(op::Matmul {}, &[kept, each[1]])
}

/// The leading axes of an attention, as batch and heads.
struct Batch {
    /// All leading axes of the result.
    lead: Vec<Dim>,
    rank: usize,
}

impl Batch {
    fn of(out: &[Dim], rank: usize) -> Self {
        Self {
            lead: out[..out.len().saturating_sub(2)].to_vec(),
            rank,
        }
    }

    /// A tensor with exactly four axes. Leading axes broadcast as PyTorch broadcasts them, except heads that are shared by groups.
    fn four(&self, cx: &mut Importer<'_>, x: Value, heads_broadcast: bool) -> Result<Value> {
        let shape = cx.build.shape(x)?;
        let Some(split) = shape.len().checked_sub(2) else {
            return invalid("attention of a tensor with fewer than two axes");
        };
        let (own, matrix) = shape.split_at(split);
        let mut lead = self.lead.clone();
        if !heads_broadcast && let (Some(heads), Some(own)) = (lead.last_mut(), own.last()) {
            *heads = own.clone();
        }
        let x = cx.build.broadcast(x, [lead.as_slice(), matrix].concat())?;
        let merged = match lead.as_slice() {
            [] => vec![1i64.into(), 1i64.into()],
            [one] => vec![1i64.into(), one.clone()],
            // Groups of heads are heads, so that keys and values repeated for a group read as such.
            [batch, heads @ ..] => vec![
                batch.clone(),
                heads.iter().fold(Dim::from(1i64), |n, d| &n * d),
            ],
        };
        cx.build.reshape(x, [merged.as_slice(), matrix].concat())
    }

    /// A mask that broadcasts to the four axes of the scores.
    fn mask(&self, cx: &mut Importer<'_>, mask: Value) -> Result<Value> {
        if self.rank <= 4 {
            let mut shape = cx.build.shape(mask)?;
            while shape.len() < 2 {
                shape.insert(0, 1i64.into());
            }
            // [H, S, T] of a 3-d attention stands for one batch, as its tensors do.
            while shape.len() < 4 {
                shape.insert(0, 1i64.into());
            }
            return cx.build.reshape(mask, shape);
        }
        let shape = cx.build.shape(mask)?;
        if shape.len() <= 3 {
            let mut shape = shape;
            while shape.len() < 4 {
                shape.insert(0, 1i64.into());
            }
            return cx.build.reshape(mask, shape);
        }
        self.four(cx, mask, true)
    }
}

/// True where the column is not after the row.
fn lower_triangle(cx: &mut Importer<'_>, rows: Dim, columns: Dim) -> Result<Value> {
    let (row, column) = super::strided::rows_and_columns(cx, rows, columns)?;
    let kept = cx.build.add(op::Le {}, &[column, row])?;
    let shape = cx.build.shape(kept)?;
    cx.build
        .reshape(kept, [vec![1i64.into(), 1i64.into()], shape].concat())
}
