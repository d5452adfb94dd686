//! Random numbers.
//!
//! A program that draws random numbers has one more input than its export, after all others: the integer `random_seed`, 0 ≤ seed < 2³⁰. A compiled
//! program is a function of its inputs, this one included: the same seed gives the same numbers, on every device. The n-th call that draws (in the order of
//! the export) does so under the key `seed + step(n)`, where the steps are multiples of the golden ratio: far apart for the calls of one program, so that neither two
//! calls nor the calls of runs with consecutive seeds share a key. The numbers are not PyTorch's, whose generators differ between devices; their distribution is.
//!
//! Everything is made of 32 uniform bits an element: uniform numbers by scaling, normal ones by Box and Muller's method, choices by a race of exponential times.

use std::f64::consts::{PI, TAU};

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Range, Scalar, Symbol, Type, Value};

use super::pointwise::{Arg, done, tensor_or_number};
use crate::import::call::{Call, Num};
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};
use crate::pt2::exported::{Argument, Graph, Node};

/// The name of the input for a seed, and of its symbol.
pub const SEED: &str = "random_seed";
/// Seeds are below this, and so is what is added to them: their sum fits the 31 bits that every runtime's integers have.
const SEEDS: i64 = 1 << 30;
/// [`SEEDS`] divided by the golden ratio, made odd.
const STEP: i64 = 663_608_941;
/// From one round of a loop to the next: another odd number that is far from fractions of [`SEEDS`].
const ROUND: i64 = 410_132_893;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, overload) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "rand" | "rand_like" => |cx, call| {
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            done(uniform(cx, shape, dtype))
        },
        "randn" | "randn_like" => |cx, call| {
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            let x = normal(cx, shape, dtype)?;
            done(cx.build.cast(x, dtype))
        },
        "randint" | "randint_like" => |cx, call| {
            let low = if call.target.contains(".low") {
                call.num(cx, "low")?
            } else {
                Num::Known(Scalar::Int(0))
            };
            let high = call.num(cx, "high")?;
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            done(integers(cx, &low, &high, shape, dtype))
        },
        "random" => random,
        "randperm" => |cx, call| {
            let bits = cx.draw(call.out_shape(0)?)?;
            let order = cx.build.add(op::Argsort { axis: 0 }, &[bits])?;
            done(cx.build.cast(order, call.out_dtype(0)?))
        },
        "uniform" => |cx, call| {
            let (from, to) = (call.float(cx, "from")?, call.float(cx, "to")?);
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            let x = uniform(cx, shape, promote::compute_type(dtype))?;
            let x = cx.build.with_float(op::Mul {}, x, to - from)?;
            let x = cx.build.with_float(op::Add {}, x, from)?;
            done(cx.build.cast(x, dtype))
        },
        "normal" | "normal_functional" => |cx, call| {
            let x = scaled_normal(cx, call)?;
            done(cx.build.cast(x, call.out_dtype(0)?))
        },
        "log_normal" => |cx, call| {
            let x = scaled_normal(cx, call)?;
            let x = cx.build.add(op::Exp {}, &[x])?;
            done(cx.build.cast(x, call.out_dtype(0)?))
        },
        "exponential" => |cx, call| {
            let rate = call.float(cx, "lambd")?;
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            let x = exponential(cx, shape, dtype)?;
            let x = cx.build.with_float(op::Div {}, x, rate)?;
            done(cx.build.cast(x, dtype))
        },
        "geometric" => |cx, call| {
            let p = call.float(cx, "p")?;
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            let x = exponential(cx, shape, dtype)?;
            let x = cx.build.with_float(op::Div {}, x, -(-p).ln_1p())?;
            let x = cx.build.add(op::Ceil {}, &[x])?;
            done(cx.build.cast(x, dtype))
        },
        "cauchy" => |cx, call| {
            let (median, sigma) = (call.float(cx, "median")?, call.float(cx, "sigma")?);
            let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
            let x = open_uniform(cx, shape, dtype)?;
            let x = cx.build.with_float(op::Sub {}, x, 0.5)?;
            let x = cx.build.with_float(op::Mul {}, x, PI)?;
            let x = cx.build.add(op::Tan {}, &[x])?;
            let x = cx.build.with_float(op::Mul {}, x, sigma)?;
            let x = cx.build.with_float(op::Add {}, x, median)?;
            done(cx.build.cast(x, dtype))
        },
        "bernoulli" => |cx, call| {
            let named = if call.target.ends_with(".default") {
                "self"
            } else {
                "p"
            };
            let p = tensor_or_number(cx, call, named)?;
            let shape = call.out_shape(0)?;
            let hit = coin(cx, &p, shape)?;
            done(cx.build.cast(hit, call.out_dtype(0)?))
        },
        "multinomial" => multinomial,
        "dropout" if overload == "default" => |cx, call| dropped(cx, call, Noise::Elements),
        "feature_dropout" => |cx, call| dropped(cx, call, Noise::Channels),
        "alpha_dropout" => |cx, call| dropped(cx, call, Noise::AlphaElements),
        "feature_alpha_dropout" => |cx, call| dropped(cx, call, Noise::AlphaChannels),
        "native_dropout" => native_dropout,
        _ => return None,
    })
}

impl Importer<'_> {
    /// The symbol of a seed that the program itself computes, in a one-element tensor of integers.
    pub(in crate::import) fn computed_seed(&mut self, seed: Value) -> Result<Value> {
        let symbol = format!("{SEED}_{}", self.draws);
        self.draws += 1;
        self.build.graph.declare_symbol(
            symbol.as_str(),
            Range {
                min: i64::MIN,
                max: i64::MAX,
            },
        );
        let seed = self.build.cast(seed, DType::I64)?;
        self.build.add(
            op::Item {
                symbol: symbol.as_str().into(),
            },
            &[seed],
        )
    }

    /// Uniform 32-bit numbers that no other call of the program draws, nor another round of a loop: u32 of `shape`.
    pub(in crate::import) fn draw(&mut self, shape: Vec<Dim>) -> Result<Value> {
        let symbol = Symbol::from(SEED);
        self.declare_if_seed(&symbol)?;
        // As the order of calls, the number of draws is bounded by the file's size.
        let step = self.draws.wrapping_mul(STEP).rem_euclid(SEEDS);
        self.draws += 1;
        let value = &Dim::symbol(symbol) + &Dim::from(step);
        let key = match self.round {
            Round::Once | Round::Branch => self.build.add(op::Size { value }, &[])?,
            Round::Loop(at) => {
                let first = self.number(&Num::Dim(value), DType::I64)?;
                let mut number = |n| self.build.scalar(Scalar::Int(n), DType::I64);
                let (step, seeds) = (number(ROUND)?, number(SEEDS)?);
                let ahead = self.build.times(at, step)?;
                let key = self.build.plus(first, ahead)?;
                let key = self.build.add(op::Remainder {}, &[key, seeds])?;
                self.computed_seed(key)?
            }
            Round::Nested => {
                return unsupported(
                    "random numbers in a branch or a loop within a loop that data decide: draw them before the outer one",
                );
            }
        };
        self.build.add(op::RandomBits { shape }, &[key])
    }

    /// Declares the symbol of the seed where this is it: an input of the program, and of a graph inside it by what is handed in.
    pub(in crate::import) fn declare_if_seed(&mut self, symbol: &Symbol) -> Result<()> {
        if &**symbol != SEED || self.build.graph.symbols.contains_key(symbol) {
            return Ok(());
        }
        let range = Range {
            min: 0,
            max: SEEDS - 1,
        };
        self.build.graph.declare_symbol(SEED, range);
        if self.build.graph.name == crate::import::MAIN {
            let ty = Type::Int(Dim::symbol(SEED));
            self.build.graph.input(SEED, ty)?;
        }
        Ok(())
    }

    /// Imports a step of a loop, of which `at` says what round it is.
    pub(in crate::import) fn in_round<T>(
        &mut self,
        at: Value,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let own = match self.round {
            Round::Once | Round::Branch => Round::Loop(at),
            Round::Loop(_) | Round::Nested => Round::Nested,
        };
        let outer = std::mem::replace(&mut self.round, own);
        let made = run(self);
        self.round = outer;
        made
    }
}

/// How often a graph runs in a call of the program.
#[derive(Debug, Clone, Copy)]
pub(in crate::import) enum Round {
    /// Once: the program itself.
    Once,
    /// At most once: a side of a branch.
    Branch,
    /// As often as data say; the value, an i64 without axes, is how often it has run.
    Loop(Value),
    /// As often as data say, where nothing tells how often it has run.
    Nested,
}

impl Round {
    /// The same for a graph inside.
    pub fn inside(self) -> Self {
        match self {
            Self::Once | Self::Branch => Self::Branch,
            Self::Loop(_) | Self::Nested => Self::Nested,
        }
    }
}

/// Whether a graph of the export has an operator that may draw, in it or in graphs inside.
pub(in crate::import) fn may_draw(graph: &Graph) -> bool {
    let draws = |node: &Node| {
        let target = crate::import::target(node);
        let functional = crate::import::dispatch::functional(target);
        find(target).is_some() || functional.is_some_and(|name| find(&name).is_some())
    };
    let inside = |node: &Node| {
        let args = node.inputs.iter().map(|input| &input.arg);
        args.into_iter()
            .any(|arg| matches!(arg, Argument::Graph(inner) if may_draw(&inner.graph)))
    };
    graph.nodes.iter().any(|node| draws(node) || inside(node))
}

/// Bits as numbers in [0, 1) of a float dtype: multiples of 2⁻³² as far as the dtype has them.
pub(in crate::import) fn fraction(
    cx: &mut Importer<'_>,
    bits: Value,
    dtype: DType,
) -> Result<Value> {
    let x = cx.build.cast(bits, promote::compute_type(dtype))?;
    let x = cx.build.with_float(op::Mul {}, x, 2f64.powi(-32))?;
    // The largest multiples would round to 1.
    let ulp = match dtype {
        DType::F16 => 2f64.powi(-11),
        DType::BF16 => 2f64.powi(-8),
        DType::F64 => return Ok(x),
        _ => 2f64.powi(-24),
    };
    let x = cx.build.with_float(op::Minimum {}, x, 1.0 - ulp)?;
    cx.build.cast(x, dtype)
}

/// Uniform in [0, 1).
pub(in crate::import) fn uniform(
    cx: &mut Importer<'_>,
    shape: Vec<Dim>,
    dtype: DType,
) -> Result<Value> {
    let bits = cx.draw(shape)?;
    fraction(cx, bits, dtype)
}

/// Uniform in (0, 1): f64 for f64, f32 else.
fn open_uniform(cx: &mut Importer<'_>, shape: Vec<Dim>, dtype: DType) -> Result<Value> {
    let wide = if dtype == DType::F64 {
        dtype
    } else {
        DType::F32
    };
    let bits = cx.draw(shape)?;
    let x = cx.build.cast(bits, wide)?;
    let x = cx.build.with_float(op::Add {}, x, 0.5)?;
    let x = cx.build.with_float(op::Mul {}, x, 2f64.powi(-32))?;
    cx.build.with_float(op::Minimum {}, x, 1.0 - 2f64.powi(-24))
}

/// Exponentially distributed with rate 1, above 0: f64 for f64, f32 else.
fn exponential(cx: &mut Importer<'_>, shape: Vec<Dim>, dtype: DType) -> Result<Value> {
    let x = open_uniform(cx, shape, dtype)?;
    let x = cx.build.add(op::Log {}, &[x])?;
    cx.build.add(op::Neg {}, &[x])
}

/// Normally distributed with mean 0 and variance 1: f64 for f64, f32 else.
fn normal(cx: &mut Importer<'_>, shape: Vec<Dim>, dtype: DType) -> Result<Value> {
    let mut pairs = shape.clone();
    pairs.insert(0, 2i64.into());
    let x = open_uniform(cx, pairs, dtype)?;
    let first = cx.build.slice(x, 0, 0i64.into(), 1i64.into())?;
    let second = cx.build.slice(x, 0, 1i64.into(), 2i64.into())?;
    let log = cx.build.add(op::Log {}, &[first])?;
    let square = cx.build.with_float(op::Mul {}, log, -2.0)?;
    let radius = cx.build.add(op::Sqrt {}, &[square])?;
    let angle = cx.build.with_float(op::Mul {}, second, TAU)?;
    let cosine = cx.build.add(op::Cos {}, &[angle])?;
    let x = cx.build.add(op::Mul {}, &[radius, cosine])?;
    cx.build.reshape(x, shape)
}

/// `mean + std · normal`, either of which may be a tensor.
fn scaled_normal(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Value> {
    let (mean, std) = (
        tensor_or_number(cx, call, "mean")?,
        tensor_or_number(cx, call, "std")?,
    );
    let x = normal(cx, call.out_shape(0)?, call.out_dtype(0)?)?;
    let dtype = cx.build.dtype(x)?;
    let (mean, std) = (mean.to(cx, dtype)?, std.to(cx, dtype)?);
    let x = cx.build.add(op::Mul {}, &[x, std])?;
    cx.build.add(op::Add {}, &[x, mean])
}

/// Whole numbers in `low .. high`, as the remainder of 32 bits, or of 63 where the range may be wider.
fn integers(
    cx: &mut Importer<'_>,
    low: &Num,
    high: &Num,
    shape: Vec<Dim>,
    dtype: DType,
) -> Result<Value> {
    let (first, end) = (cx.number(low, DType::I64)?, cx.number(high, DType::I64)?);
    let span = match (low, high) {
        (Num::Known(Scalar::Int(low)), Num::Known(Scalar::Int(high))) => high.checked_sub(*low),
        _ => None,
    };
    let narrow = span.is_some_and(|span| span <= 1 << 32);
    let bits = if narrow {
        let bits = cx.draw(shape)?;
        cx.build.cast(bits, DType::I64)?
    } else {
        wide_bits(cx, shape)?
    };
    let span = cx.build.add(op::Sub {}, &[end, first])?;
    let x = cx.build.add(op::Remainder {}, &[bits, span])?;
    let x = cx.build.add(op::Add {}, &[x, first])?;
    cx.build.cast(x, dtype)
}

/// Uniform 63-bit numbers, i64.
fn wide_bits(cx: &mut Importer<'_>, shape: Vec<Dim>) -> Result<Value> {
    let mut pairs = shape.clone();
    pairs.insert(0, 2i64.into());
    let words = cx.draw(pairs)?;
    let words = cx.build.cast(words, DType::I64)?;
    let high = cx.build.slice(words, 0, 0i64.into(), 1i64.into())?;
    let low = cx.build.slice(words, 0, 1i64.into(), 2i64.into())?;
    let half = cx.build.scalar(Scalar::Int((1 << 31) - 1), DType::I64)?;
    let high = cx.build.add(op::BitwiseAnd {}, &[high, half])?;
    let above = cx.build.scalar(Scalar::Int(1 << 32), DType::I64)?;
    let high = cx.build.add(op::Mul {}, &[high, above])?;
    let x = cx.build.add(op::Add {}, &[high, low])?;
    cx.build.reshape(x, shape)
}

/// `random_`: integers from a range, without one all that the dtype tells apart.
fn random(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let (dtype, shape) = (call.out_dtype(0)?, call.out_shape(0)?);
    let most = match dtype {
        DType::Bool => 2,
        DType::F16 => (1 << 11) + 1,
        DType::BF16 => (1 << 8) + 1,
        DType::F32 => (1 << 24) + 1,
        DType::F64 => (1 << 53) + 1,
        DType::U8 => 1 << 8,
        DType::I8 => 1 << 7,
        DType::U16 => 1 << 16,
        DType::I16 => 1 << 15,
        DType::U32 => 1 << 32,
        DType::I32 => 1 << 31,
        DType::I64 | DType::U64 => i64::MAX,
    };
    let zero = Num::Known(Scalar::Int(0));
    let (low, high) = match call.target.rsplit('.').next() {
        Some("from") if call.is_none("to")? => {
            (call.num(cx, "from")?, Num::Known(Scalar::Int(most)))
        }
        Some("from") => (call.num(cx, "from")?, call.num(cx, "to")?),
        Some("to") => (zero, call.num(cx, "to")?),
        _ => (zero, Num::Known(Scalar::Int(most))),
    };
    done(integers(cx, &low, &high, shape, dtype))
}

/// True with probability p, which is a number or broadcasts to the shape.
fn coin(cx: &mut Importer<'_>, p: &Arg, shape: Vec<Dim>) -> Result<Value> {
    let x = uniform(cx, shape, DType::F32)?;
    let p = p.to(cx, DType::F32)?;
    cx.build.add(op::Lt {}, &[x, p])
}

/// Positions drawn by weights along the last axis: each waits an exponential time over its weight, and the first ones to come are drawn.
fn multinomial(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let weights = call.value(cx, "self")?;
    let count = call.dim("num_samples")?;
    let weights = cx.build.cast(weights, DType::F32)?;
    let mut shape = cx.build.shape(weights)?;
    let Some(last) = shape.len().checked_sub(1) else {
        return invalid("weights without an axis");
    };
    if call.bool("replacement")? {
        let weights = cx.build.unsqueeze(weights, last)?;
        shape.insert(last, count);
        let times = exponential(cx, shape, DType::F32)?;
        let speed = cx.build.add(op::Div {}, &[weights, times])?;
        let first = op::Argmax {
            axis: last + 1,
            keepdim: false,
        };
        return done(cx.build.add(first, &[speed]));
    }
    let times = exponential(cx, shape, DType::F32)?;
    let speed = cx.build.add(op::Div {}, &[weights, times])?;
    if count.is(1) {
        return done(cx.build.add(
            op::Argmax {
                axis: last,
                keepdim: true,
            },
            &[speed],
        ));
    }
    let slowness = cx.build.add(op::Neg {}, &[speed])?;
    let order = cx.build.add(op::Argsort { axis: last }, &[slowness])?;
    done(cx.build.slice(order, last, 0i64.into(), count))
}

/// What a dropout drops: elements or whole channels, to 0 or to the least value of a self-normalising activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noise {
    Elements,
    Channels,
    AlphaElements,
    AlphaChannels,
}

fn dropped(cx: &mut Importer<'_>, call: &Call<'_>, noise: Noise) -> Result<Vec<Out>> {
    let own = call
        .schema
        .is_some_and(|schema| schema.arg("input").is_some());
    let name = if own { "input" } else { "self" };
    let p = call.float(cx, "p")?;
    if !call.bool("train")? || p == 0.0 {
        return Ok(vec![Out::Tensor(call.tensor(name)?)]);
    }
    let x = call.value(cx, name)?;
    let mut shape = cx.build.shape(x)?;
    if matches!(noise, Noise::Channels | Noise::AlphaChannels) {
        if shape.len() < 2 {
            return invalid("a dropout of channels in a tensor without them");
        }
        shape[2..].fill(Dim::from(1i64));
    }
    if matches!(noise, Noise::Elements | Noise::Channels) {
        return done(drop_out(cx, x, p, shape).map(|(x, _)| x));
    }
    // −λα of SELU, then scaled and shifted so that mean 0 and variance 1 stay.
    const ALPHA: f64 = 1.758_099_340_847_376_6;
    let dtype = cx.build.dtype(x)?;
    if p == 1.0 {
        let zero = cx.build.float(0.0, dtype)?;
        return done(cx.build.add(op::Mul {}, &[x, zero]));
    }
    let scale = 1.0 / ((ALPHA * ALPHA * p + 1.0) * (1.0 - p)).sqrt();
    let kept = coin(cx, &keeping(p), shape)?;
    let inside = cx.build.with_float(op::Mul {}, x, scale)?;
    let inside = cx.build.with_float(op::Add {}, inside, ALPHA * scale * p)?;
    let low = cx.build.float(ALPHA * scale * (p - 1.0), dtype)?;
    done(cx.build.select(kept, inside, low))
}

fn keeping(p: f64) -> Arg {
    Arg::Number(Num::Known(Scalar::float(1.0 - p)))
}

/// `x / (1 − p)` where a coin of the given shape says so, else 0; and the coins.
pub(in crate::import) fn drop_out(
    cx: &mut Importer<'_>,
    x: Value,
    p: f64,
    shape: Vec<Dim>,
) -> Result<(Value, Value)> {
    let dtype = cx.build.dtype(x)?;
    let kept = coin(cx, &keeping(p), shape)?;
    let scale = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
    let (scale, zero) = (cx.build.float(scale, dtype)?, cx.build.float(0.0, dtype)?);
    let factor = cx.build.select(kept, scale, zero)?;
    Ok((cx.build.add(op::Mul {}, &[x, factor])?, kept))
}

fn native_dropout(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "input")?;
    let shape = cx.build.shape(x)?;
    if call.is_none("train")? || call.bool("train")? {
        let p = call.float(cx, "p")?;
        let (x, kept) = drop_out(cx, x, p, shape)?;
        return Ok(vec![x.into(), kept.into()]);
    }
    let mask = cx.build.full(Scalar::Bool(true), DType::Bool, shape)?;
    Ok(vec![x.into(), mask.into()])
}
