//! Recurrent networks: whole layers, unrolled over the sequence, and single cells.
//!
//! The products with the inputs of all steps are one matrix product; what is left in a step depends on the step before.

use fuseline_ir::Value;
use fuseline_ir::ops::table as op;

use super::pointwise::done;
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::{Handler, Importer, Out};

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    Some(match target {
        "aten.lstm.input" => |cx, call| layers(cx, call, Kind::Lstm),
        "aten.gru.input" => |cx, call| layers(cx, call, Kind::Gru),
        "aten.rnn_tanh.input" => |cx, call| layers(cx, call, Kind::Tanh),
        "aten.rnn_relu.input" => |cx, call| layers(cx, call, Kind::Relu),
        "aten.lstm_cell.default" => |cx, call| {
            let hx = call.values(cx, "hx")?;
            let [h, c] = hx.as_slice() else {
                return invalid(format!("an LSTM cell with {} states", hx.len()));
            };
            let (h, c) = cell(cx, call, Kind::Lstm, *h, Some(*c))?;
            Ok([Some(h), c].into_iter().flatten().map(Out::from).collect())
        },
        "aten.gru_cell.default" => |cx, call| simple_cell(cx, call, Kind::Gru),
        "aten.rnn_tanh_cell.default" => |cx, call| simple_cell(cx, call, Kind::Tanh),
        "aten.rnn_relu_cell.default" => |cx, call| simple_cell(cx, call, Kind::Relu),
        "aten.lstm.data" | "aten.gru.data" | "aten.rnn_tanh.data" | "aten.rnn_relu.data" => {
            |_, _| unsupported("a packed sequence, whose batch sizes are data")
        }
        _ => return None,
    })
}

/// What a step computes from the gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lstm,
    Gru,
    Tanh,
    Relu,
}

/// The weights of one layer in one direction, matrices transposed for a product from the right.
struct Weights {
    /// From the input, `[I, gates·H]`, and its bias.
    input: Value,
    input_bias: Option<Value>,
    /// From the last output, `[H, gates·H]`, and its bias.
    hidden: Value,
    hidden_bias: Option<Value>,
    /// From the cell's output to the layer's, `[H, P]`, of an LSTM with projections.
    projection: Option<Value>,
}

impl Weights {
    /// Takes the weights of one layer and direction from the front of the list.
    fn take(
        cx: &mut Importer<'_>,
        kind: Kind,
        params: &mut std::vec::IntoIter<Value>,
        biases: bool,
        projected: bool,
    ) -> Result<Self> {
        let mut next = || match params.next() {
            Some(value) => Ok(value),
            None => invalid("a recurrent network with too few weights"),
        };
        let (input, hidden) = (next()?, next()?);
        let (input_bias, hidden_bias) = if biases {
            (Some(next()?), Some(next()?))
        } else {
            (None, None)
        };
        // Only a GRU keeps the two biases apart.
        let (input_bias, hidden_bias) = match (input_bias, hidden_bias) {
            (Some(a), Some(b)) if kind != Kind::Gru => {
                (Some(cx.build.add(op::Add {}, &[a, b])?), None)
            }
            both => both,
        };
        let projection = if projected { Some(next()?) } else { None };
        Ok(Self {
            input: cx.build.swap(input, 0, 1)?,
            input_bias,
            hidden: cx.build.swap(hidden, 0, 1)?,
            hidden_bias,
            projection: projection.map(|p| cx.build.swap(p, 0, 1)).transpose()?,
        })
    }
}

fn affine(cx: &mut Importer<'_>, x: Value, weight: Value, bias: Option<Value>) -> Result<Value> {
    let product = cx.build.add(op::Matmul {}, &[x, weight])?;
    match bias {
        Some(bias) => cx.build.add(op::Add {}, &[product, bias]),
        None => Ok(product),
    }
}

/// The n-th of `count` equal parts of the last axis.
fn part(cx: &mut Importer<'_>, x: Value, n: i64, count: i64) -> Result<Value> {
    let shape = cx.build.shape(x)?;
    let Some((last, axis)) = shape.last().zip(shape.len().checked_sub(1)) else {
        return invalid("gates without an axis");
    };
    let size = last.floor_div(&count.into());
    let start = &size * &n.into();
    let stop = &start + &size;
    cx.build.slice(x, axis, start, stop)
}

/// One step of rows `[N, ·]`, or `[1, N, ·]` of one step of a sequence: from the gates' part of the input, the last output and an LSTM's cell to the next ones.
fn step(
    cx: &mut Importer<'_>,
    kind: Kind,
    weights: &Weights,
    from_input: Value,
    h: Value,
    c: Option<Value>,
) -> Result<(Value, Option<Value>)> {
    let from_hidden = affine(cx, h, weights.hidden, weights.hidden_bias)?;
    if kind == Kind::Gru {
        let both = |cx: &mut Importer<'_>, n| -> Result<Value> {
            let (a, b) = (part(cx, from_input, n, 3)?, part(cx, from_hidden, n, 3)?);
            let sum = cx.build.add(op::Add {}, &[a, b])?;
            cx.build.add(op::Sigmoid {}, &[sum])
        };
        let (reset, update) = (both(cx, 0)?, both(cx, 1)?);
        let (a, b) = (part(cx, from_input, 2, 3)?, part(cx, from_hidden, 2, 3)?);
        let kept = cx.build.add(op::Mul {}, &[reset, b])?;
        let sum = cx.build.add(op::Add {}, &[a, kept])?;
        let new = cx.build.add(op::Tanh {}, &[sum])?;
        let gap = cx.build.add(op::Sub {}, &[h, new])?;
        let kept = cx.build.add(op::Mul {}, &[gap, update])?;
        return Ok((cx.build.add(op::Add {}, &[kept, new])?, None));
    }
    let gates = cx.build.add(op::Add {}, &[from_input, from_hidden])?;
    let Some(c) = c.filter(|_| kind == Kind::Lstm) else {
        let out = if kind == Kind::Relu {
            cx.build.with_float(op::Maximum {}, gates, 0.0)?
        } else {
            cx.build.add(op::Tanh {}, &[gates])?
        };
        return Ok((out, None));
    };
    let sigmoid = |cx: &mut Importer<'_>, n| -> Result<Value> {
        let gate = part(cx, gates, n, 4)?;
        cx.build.add(op::Sigmoid {}, &[gate])
    };
    let (input, forget, output) = (sigmoid(cx, 0)?, sigmoid(cx, 1)?, sigmoid(cx, 3)?);
    let new = part(cx, gates, 2, 4)?;
    let new = cx.build.add(op::Tanh {}, &[new])?;
    let kept = cx.build.add(op::Mul {}, &[forget, c])?;
    let added = cx.build.add(op::Mul {}, &[input, new])?;
    let c = cx.build.add(op::Add {}, &[kept, added])?;
    let shown = cx.build.add(op::Tanh {}, &[c])?;
    let mut h = cx.build.add(op::Mul {}, &[output, shown])?;
    if let Some(projection) = weights.projection {
        h = cx.build.add(op::Matmul {}, &[h, projection])?;
    }
    Ok((h, Some(c)))
}

/// A cell: one step from its arguments.
fn cell(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    kind: Kind,
    h: Value,
    c: Option<Value>,
) -> Result<(Value, Option<Value>)> {
    let (input, hidden) = (call.value(cx, "w_ih")?, call.value(cx, "w_hh")?);
    let weights = Weights {
        input: cx.build.swap(input, 0, 1)?,
        input_bias: call.opt_value(cx, "b_ih")?,
        hidden: cx.build.swap(hidden, 0, 1)?,
        hidden_bias: call.opt_value(cx, "b_hh")?,
        projection: None,
    };
    let x = call.value(cx, "input")?;
    let from_input = affine(cx, x, weights.input, weights.input_bias)?;
    step(cx, kind, &weights, from_input, h, c)
}

fn simple_cell(cx: &mut Importer<'_>, call: &Call<'_>, kind: Kind) -> Result<Vec<Out>> {
    let h = call.value(cx, "hx")?;
    done(cell(cx, call, kind, h, None).map(|(h, _)| h))
}

/// Element `n` of the first axis, which it keeps.
fn row(cx: &mut Importer<'_>, x: Value, n: i64) -> Result<Value> {
    cx.build.slice(x, 0, n.into(), (n + 1).into())
}

/// All layers: the outputs of the last one, then the last state of each layer and direction.
fn layers(cx: &mut Importer<'_>, call: &Call<'_>, kind: Kind) -> Result<Vec<Out>> {
    let dropout = match call.bool("train")? {
        true => call.float(cx, "dropout")?,
        false => 0.0,
    };
    let (biases, batch_first) = (call.bool("has_biases")?, call.bool("batch_first")?);
    let directions = if call.bool("bidirectional")? { 2 } else { 1 };
    let count = call.int("num_layers")?;
    let (h0, c0) = if kind == Kind::Lstm {
        match call.values(cx, "hx")?.as_slice() {
            [h, c] => (*h, Some(*c)),
            other => return invalid(format!("an LSTM with {} states", other.len())),
        }
    } else {
        (call.value(cx, "hx")?, None)
    };
    let mut x = call.value(cx, "input")?;
    if cx.build.rank(x)? != 3 {
        return invalid(format!("a sequence of {}", cx.build.ty(x)?));
    }
    if batch_first {
        x = cx.build.swap(x, 0, 1)?;
    }
    let steps = &cx.build.shape(x)?[0];
    let Some(steps) = steps.as_const() else {
        return unsupported(format!(
            "a recurrent network over a sequence of dynamic length (`{steps}`): export it with a fixed length"
        ));
    };
    let projected = match c0 {
        Some(c) => cx.build.shape(h0)?.last() != cx.build.shape(c)?.last(),
        None => false,
    };
    let mut params = call.values(cx, "params")?.into_iter();
    let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
    for layer in 0..count {
        let mut sides = Vec::new();
        for direction in 0..directions {
            let weights = Weights::take(cx, kind, &mut params, biases, projected)?;
            let state = layer * directions + direction;
            let mut h = row(cx, h0, state)?;
            let mut c = c0.map(|c| row(cx, c, state)).transpose()?;
            let from_input = affine(cx, x, weights.input, weights.input_bias)?;
            let mut outs = Vec::new();
            for n in 0..steps {
                let n = if direction == 0 { n } else { steps - 1 - n };
                let gates = row(cx, from_input, n)?;
                (h, c) = step(cx, kind, &weights, gates, h, c)?;
                outs.push(h);
            }
            if direction == 1 {
                outs.reverse();
            }
            last_h.push(h);
            last_c.extend(c);
            sides.push(match outs.as_slice() {
                [] => return unsupported("a recurrent network over an empty sequence"),
                outs => cx.build.cat(outs, 0)?,
            });
        }
        x = cx.build.cat(&sides, 2)?;
        if dropout > 0.0 && layer + 1 < count {
            let shape = cx.build.shape(x)?;
            (x, _) = super::random::drop_out(cx, x, dropout, shape)?;
        }
    }
    if batch_first {
        x = cx.build.swap(x, 0, 1)?;
    }
    let mut results = vec![Out::Value(x), cx.build.cat(&last_h, 0)?.into()];
    if !last_c.is_empty() {
        results.push(cx.build.cat(&last_c, 0)?.into());
    }
    Ok(results)
}
