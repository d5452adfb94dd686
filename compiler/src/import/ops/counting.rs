//! Counting: histograms, distinct elements, common divisors.
//!
//! The number of distinct elements depends on data. It is computed, read as the symbol that the export gave it, and only cuts a list of known length; so no kernel of
//! the host is needed.

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Op, Range, Scalar, Value};

use super::pointwise::{done, operands};
use crate::import::call::Call;
use crate::import::error::{Result, invalid, unsupported};
use crate::import::promote;
use crate::import::{Handler, Importer, Out};

/// Rows are compared column by column up to this many columns.
const MOST_COLUMNS: i64 = 256;

/// Up to so many parts, each with one integer, PyTorch's arithmetic in `f32` puts every integer into its own.
const MOST_TALLIED: i64 = 1024;

pub(in crate::import) fn find(target: &str) -> Option<Handler> {
    let (operator, _) = target.strip_prefix("aten.")?.split_once('.')?;
    Some(match operator {
        "histc" => histc,
        "bincount" => bincount,
        "gcd" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            done(gcd(cx, a, b))
        },
        "lcm" => |cx, call| {
            let (a, b) = operands(cx, call)?;
            let divisor = gcd(cx, a, b)?;
            let one = cx.build.scalar(Scalar::Int(1), cx.build.dtype(a)?)?;
            let divisor = cx.build.add(op::Maximum {}, &[divisor, one])?;
            let part = cx.build.add(op::FloorDiv {}, &[a, divisor])?;
            let product = cx.build.add(op::Mul {}, &[part, b])?;
            done(cx.build.add(op::Abs {}, &[product]))
        },
        "_unique" => |cx, call| {
            let x = call.value(cx, "self")?;
            let found = Distinct::of(cx, x, None, true)?;
            found.outs(cx, call, call.bool("return_inverse")?, None)
        },
        "_unique2" => |cx, call| {
            let x = call.value(cx, "self")?;
            let found = Distinct::of(cx, x, None, true)?;
            let (inverse, counts) = (call.bool("return_inverse")?, call.bool("return_counts")?);
            found.outs(cx, call, inverse, Some(counts))
        },
        "unique_dim" | "unique_dim_consecutive" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = cx.build.axis(x, call.int("dim")?)?;
            let sorted = !call.target.contains("consecutive");
            let found = Distinct::of(cx, x, Some(axis), sorted)?;
            let (inverse, counts) = (call.bool("return_inverse")?, call.bool("return_counts")?);
            found.outs(cx, call, inverse, Some(counts))
        },
        "unique_consecutive" => |cx, call| {
            let x = call.value(cx, "self")?;
            let axis = match call.opt_int("dim")? {
                Some(axis) => Some(cx.build.axis(x, axis)?),
                None => None,
            };
            let found = Distinct::of(cx, x, axis, false)?;
            let (inverse, counts) = (call.bool("return_inverse")?, call.bool("return_counts")?);
            found.outs(cx, call, inverse, Some(counts))
        },
        _ => return None,
    })
}

/// `x` with one axis.
fn flat(cx: &mut Importer<'_>, x: Value) -> Result<Value> {
    let count = cx.build.ty(x)?.numel();
    cx.build.reshape(x, vec![count])
}

/// The integers that a tensor of floats was converted from.
fn whole(cx: &Importer<'_>, x: Value) -> Option<Value> {
    let node = cx.build.graph.node(x);
    let from = *node.args.first()?;
    let integers = cx.build.dtype(from).is_ok_and(DType::is_int);
    (matches!(node.op, Op::Cast(_)) && integers).then_some(from)
}

/// How often each of the integers `0 .. count` occurs: a histogram with a part for each of them.
fn tally(cx: &mut Importer<'_>, x: Value, count: i64, dtype: DType) -> Result<Value> {
    let x = cx.build.cast(x, DType::I64)?;
    let x = flat(cx, x)?;
    let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
    let last = cx.build.scalar(Scalar::Int(count - 1), DType::I64)?;
    let after = cx.build.add(op::Le {}, &[zero, x])?;
    let before = cx.build.add(op::Le {}, &[x, last])?;
    let inside = cx.build.add(op::LogicalAnd {}, &[after, before])?;
    let at = cx.build.select(inside, x, zero)?;
    let once = cx.build.cast(inside, DType::F32)?;
    let none = cx
        .build
        .full(Scalar::Int(0), DType::F32, vec![count.into()])?;
    let counts = cx
        .build
        .add(op::ScatterAdd { axis: 0 }, &[none, at, once])?;
    cx.build.cast(counts, dtype)
}

/// How many elements fall into each of `bins` equal parts of a range, the upper end included; of the range of the data where none is given.
fn histc(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let bins = call.int("bins")?;
    let dtype = cx.build.dtype(x)?;
    let (low, high) = (call.float(cx, "min")?, call.float(cx, "max")?);
    let each = low == 0.0 && high == (bins - 1) as f64 && (2..=MOST_TALLIED).contains(&bins);
    if let Some(x) = whole(cx, x).filter(|_| each) {
        return done(tally(cx, x, bins, dtype));
    }
    let wide = promote::compute_type(promote::to_float(dtype));
    let x = cx.build.cast(x, wide)?;
    let x = flat(cx, x)?;
    let (low, high) = if low < high {
        (cx.build.float(low, wide)?, cx.build.float(high, wide)?)
    } else if low > high {
        return invalid("a histogram of a range whose end is before its start");
    } else {
        let axes = vec![0];
        let keepdim = false;
        let (low, high) = if low == 0.0 && !cx.build.ty(x)?.numel().is(0) {
            let low = cx.build.add(
                op::Amin {
                    axes: axes.clone(),
                    keepdim,
                },
                &[x],
            )?;
            (low, cx.build.add(op::Amax { axes, keepdim }, &[x])?)
        } else {
            let at = cx.build.float(low, wide)?;
            (at, at)
        };
        // A single point is the middle of a range of 2.
        let same = cx.build.add(op::Eq {}, &[low, high])?;
        let (below, beyond) = (
            cx.build.with_float(op::Sub {}, low, 1.0)?,
            cx.build.with_float(op::Add {}, high, 1.0)?,
        );
        (
            cx.build.select(same, below, low)?,
            cx.build.select(same, beyond, high)?,
        )
    };
    let from_low = cx.build.add(op::Sub {}, &[x, low])?;
    let scaled = cx.build.with_float(op::Mul {}, from_low, bins as f64)?;
    let span = cx.build.add(op::Sub {}, &[high, low])?;
    let at = cx.build.add(op::Div {}, &[scaled, span])?;
    let at = cx.build.add(op::Floor {}, &[at])?;
    let at = cx.build.with_float(op::Minimum {}, at, (bins - 1) as f64)?;
    let (after, before) = (
        cx.build.add(op::Ge {}, &[x, low])?,
        cx.build.add(op::Le {}, &[x, high])?,
    );
    let inside = cx.build.add(op::LogicalAnd {}, &[after, before])?;
    let zero = cx.build.float(0.0, wide)?;
    let at = cx.build.select(inside, at, zero)?;
    let at = cx.build.cast(at, DType::I64)?;
    let ones = cx.build.cast(inside, wide)?;
    let empty = cx.build.full(Scalar::Int(0), wide, vec![bins.into()])?;
    let counts = cx
        .build
        .add(op::ScatterAdd { axis: 0 }, &[empty, at, ones])?;
    done(cx.build.cast(counts, dtype))
}

/// How often, or with which total weight, each number from 0 to the largest occurs.
fn bincount(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    let x = call.value(cx, "self")?;
    let x = cx.build.cast(x, DType::I64)?;
    let Some(size) = call.out_shape(0)?.into_iter().next() else {
        return invalid("counts without an axis");
    };
    if size.as_const().is_none() {
        let least = call.int("minlength")?;
        let minus = cx.build.scalar(Scalar::Int(-1), DType::I64)?;
        let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
        let first = cx.build.reshape(minus, vec![1i64.into()])?;
        let all = cx.build.cat(&[first, x], 0)?;
        let axes = vec![0];
        let largest = cx.build.add(
            op::Amax {
                axes,
                keepdim: false,
            },
            &[all],
        )?;
        let count = cx.build.add(op::Add {}, &[largest, one])?;
        let least = cx.build.scalar(Scalar::Int(least), DType::I64)?;
        let count = cx.build.add(op::Maximum {}, &[count, least])?;
        measured(cx, count, &size)?;
    }
    let dtype = call.out_dtype(0)?;
    let weights = match call.opt_value(cx, "weights")? {
        Some(weights) => cx.build.cast(weights, dtype)?,
        None => {
            let shape = cx.build.shape(x)?;
            cx.build.full(Scalar::Int(1), dtype, shape)?
        }
    };
    let empty = cx.build.full(Scalar::Int(0), dtype, vec![size])?;
    done(
        cx.build
            .add(op::ScatterAdd { axis: 0 }, &[empty, x, weights]),
    )
}

/// Says that a size which is a symbol is no larger.
pub(in crate::import) fn at_most(cx: &mut Importer<'_>, size: &Dim, most: i64) {
    let Some(symbol) = size.as_symbol() else {
        return;
    };
    let known = cx.build.graph.symbols.get(symbol).copied();
    let known = known.unwrap_or(Range { min: 0, max: most });
    let range = Range {
        min: known.min.max(0),
        max: known.max.min(most),
    };
    cx.build.graph.declare_symbol(symbol.clone(), range);
}

/// Says that the symbol `size` is the number in a tensor of one element.
pub(in crate::import) fn measured(cx: &mut Importer<'_>, count: Value, size: &Dim) -> Result<()> {
    match (size.as_symbol(), size.as_const()) {
        (Some(symbol), _) => {
            let symbol = symbol.clone();
            cx.build.add(op::Item { symbol }, &[count])?;
            Ok(())
        }
        // The export proved which number it is.
        (None, Some(_)) => Ok(()),
        (None, None) => unsupported(format!(
            "a result of the size `{size}`, which depends on data"
        )),
    }
}

/// The greatest common divisor, by Euclid's algorithm, written out for the worst case of the dtype: two neighbours of Fibonacci's.
fn gcd(cx: &mut Importer<'_>, a: Value, b: Value) -> Result<Value> {
    let dtype = cx.build.dtype(a)?;
    let steps = match dtype.size() {
        1 => 13,
        2 => 24,
        4 => 47,
        _ => 93,
    };
    let (zero, one) = (
        cx.build.scalar(Scalar::Int(0), dtype)?,
        cx.build.scalar(Scalar::Int(1), dtype)?,
    );
    let (mut a, mut b) = (
        cx.build.add(op::Abs {}, &[a])?,
        cx.build.add(op::Abs {}, &[b])?,
    );
    for _ in 0..steps {
        let divisor = cx.build.add(op::Maximum {}, &[b, one])?;
        let rest = cx.build.add(op::Remainder {}, &[a, divisor])?;
        let finished = cx.build.add(op::Eq {}, &[b, zero])?;
        (a, b) = (cx.build.select(finished, a, b)?, rest);
    }
    Ok(a)
}

/// The distinct elements of a tensor, or its distinct slices along an axis, in ascending order or as they follow each other.
struct Distinct {
    /// What is compared: elements (no axis) or slices along one.
    x: Value,
    axis: Option<usize>,
    /// The positions in the order in which they are compared.
    order: Option<Value>,
    /// For each position in that order, whether it differs from the one before.
    fresh: Value,
    /// For each position in that order, the number of its distinct value.
    number: Value,
}

impl Distinct {
    fn of(cx: &mut Importer<'_>, x: Value, axis: Option<usize>, sorted: bool) -> Result<Self> {
        let keys = keys(cx, x, axis)?;
        let Some(count) = keys
            .first()
            .map(|key| cx.build.ty(*key).map(|ty| ty.numel()))
        else {
            return unsupported("distinct slices that have no elements");
        };
        let count = count?;
        let mut order = None;
        if sorted {
            // By the last column first: each further sort keeps what it finds equal in order.
            for key in keys.iter().rev() {
                let next = match order {
                    None => cx.build.add(op::Argsort { axis: 0 }, &[*key])?,
                    Some(order) => {
                        let key = cx.build.add(op::Take { axis: 0 }, &[*key, order])?;
                        let again = cx.build.add(op::Argsort { axis: 0 }, &[key])?;
                        cx.build.add(op::Take { axis: 0 }, &[order, again])?
                    }
                };
                order = Some(next);
            }
        }
        let position = cx
            .build
            .arange(0i64.into(), 1i64.into(), count.clone(), DType::I64)?;
        let zero = cx.build.scalar(Scalar::Int(0), DType::I64)?;
        let mut fresh = cx.build.add(op::Eq {}, &[position, zero])?;
        for key in keys {
            let key = match order {
                Some(order) => cx.build.add(op::Take { axis: 0 }, &[key, order])?,
                None => key,
            };
            let pad = op::Pad {
                low: vec![1i64.into()],
                high: vec![0i64.into()],
                value: Scalar::Int(0).cast(cx.build.dtype(key)?),
            };
            let moved = cx.build.add(pad, &[key])?;
            let before = cx.build.slice(moved, 0, 0i64.into(), count.clone())?;
            let differs = cx.build.add(op::Ne {}, &[key, before])?;
            fresh = cx.build.add(op::LogicalOr {}, &[fresh, differs])?;
        }
        let running = cx.build.add(op::Cumsum { axis: 0 }, &[fresh])?;
        let one = cx.build.scalar(Scalar::Int(1), DType::I64)?;
        let number = cx.build.add(op::Sub {}, &[running, one])?;
        Ok(Self {
            x,
            axis,
            order,
            fresh,
            number,
        })
    }

    /// The results: distinct values, for each element the number of its value, and how often each value occurs.
    fn outs(
        &self,
        cx: &mut Importer<'_>,
        call: &Call<'_>,
        inverse: bool,
        counts: Option<bool>,
    ) -> Result<Vec<Out>> {
        let shape = call.out_shape(0)?;
        let Some(size) = shape.get(self.axis.unwrap_or(0)).cloned() else {
            return invalid("distinct values without an axis");
        };
        let axes = vec![0];
        let total = cx.build.add(
            op::Sum {
                axes,
                keepdim: false,
            },
            &[self.fresh],
        )?;
        let elements = cx.build.ty(self.fresh)?.numel();
        at_most(cx, &size, elements.range(&cx.build.graph.symbols).max);
        measured(cx, total, &size)?;
        // Sorted by not being fresh, the fresh ones stand first, in their order.
        let stale = cx.build.add(op::LogicalNot {}, &[self.fresh])?;
        let stale = cx.build.cast(stale, DType::I32)?;
        let first = cx.build.add(op::Argsort { axis: 0 }, &[stale])?;
        let mut first = cx.build.slice(first, 0, 0i64.into(), size.clone())?;
        if let Some(order) = self.order {
            first = cx.build.add(op::Take { axis: 0 }, &[order, first])?;
        }
        let values = match self.axis {
            Some(axis) => cx.build.add(op::Take { axis }, &[self.x, first])?,
            None => {
                let x = flat(cx, self.x)?;
                cx.build.add(op::Take { axis: 0 }, &[x, first])?
            }
        };
        // A result that was not asked for has a size all the same, sometimes that of one that was.
        let none = |cx: &mut Importer<'_>, n: usize| {
            let shape = call.out_shape(n).unwrap_or(vec![0i64.into()]);
            cx.build.full(Scalar::Int(0), DType::I64, shape)
        };
        let number = match self.order {
            _ if !inverse => none(cx, 1)?,
            None => self.number,
            Some(order) => {
                let shape = cx.build.shape(self.number)?;
                let empty = cx.build.full(Scalar::Int(0), DType::I64, shape)?;
                cx.build
                    .add(op::ScatterAdd { axis: 0 }, &[empty, order, self.number])?
            }
        };
        let number = match self.axis {
            None if inverse => {
                let shape = cx.build.shape(self.x)?;
                cx.build.reshape(number, shape)?
            }
            _ => number,
        };
        let mut outs = vec![values.into(), number.into()];
        match counts {
            Some(true) => {
                let shape = cx.build.shape(self.number)?;
                let ones = cx.build.full(Scalar::Int(1), DType::I64, shape)?;
                let empty = cx.build.full(Scalar::Int(0), DType::I64, vec![size])?;
                let counts = cx
                    .build
                    .add(op::ScatterAdd { axis: 0 }, &[empty, self.number, ones])?;
                outs.push(counts.into());
            }
            Some(false) => outs.push(none(cx, 2)?.into()),
            None => {}
        }
        Ok(outs)
    }
}

/// What is compared, as columns of numbers: the elements themselves, or the elements of each slice along an axis.
fn keys(cx: &mut Importer<'_>, x: Value, axis: Option<usize>) -> Result<Vec<Value>> {
    let x = match cx.build.dtype(x)? {
        DType::Bool => cx.build.cast(x, DType::U8)?,
        _ => x,
    };
    let Some(axis) = axis else {
        return Ok(vec![flat(cx, x)?]);
    };
    let rank = cx.build.rank(x)?;
    let mut perm: Vec<usize> = (0..rank).filter(|n| *n != axis).collect();
    perm.insert(0, axis);
    let x = cx.build.transpose(x, perm)?;
    let shape = cx.build.shape(x)?;
    let width = shape[1..].iter().fold(Dim::from(1i64), |n, d| &n * d);
    let Some(width @ 0..=MOST_COLUMNS) = width.as_const() else {
        return unsupported(format!("distinct slices of `{width}` elements"));
    };
    let x = cx.build.reshape(x, vec![shape[0].clone(), width.into()])?;
    let mut keys = Vec::new();
    for n in 0..width {
        let column = cx.build.slice(x, 1, n.into(), (n + 1).into())?;
        keys.push(cx.build.reshape(column, vec![shape[0].clone()])?);
    }
    Ok(keys)
}
