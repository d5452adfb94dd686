//! Attention reads what is filled: keys that no query sees are cut off, and a mask goes where what is left needs none.
//!
//! A cache has room for more keys than have been written, and a mask hides the rest. Where the mask is a function of the index ([`closed_form::seen`]) and lets no query see key
//! `e` or a later one, the keys and values are sliced to the first `e`; where it lets none see a key before the first query's window, and the window is smaller than the cache, the
//! slice starts there. What then lets query `i` see the keys up to `i + e − S` is what the op calls causal, and what lets it see
//! all of them is nothing. Else the mask is what is left of it: written anew as comparisons of positions where it is only those, so that every spelling of a window is one, or
//! sliced with the keys.
//!
//! True because a hidden key weighs nothing. A number that hides but is finite leaves a row that is hidden whole uniform over all keys, so for such a mask each row must
//! provably see a key. `e` must be known to lie within the keys: by its range, or because another part of the program writes or reads just up to `e` in an axis that isn't longer.
//!
//! Core ATen writes a cache at places that may count from its end. Where an attention hides the keys behind that very place, a negative one hides all of them from the first query,
//! so it is no place that a program means: such a number is refused when it is read, and the attention is one over what is filled ([`nonnegative`]).

use crate::closed_form::{self, Form, HalfSpace, Seen};
use crate::pass::{Numerics, PassCx, PassError};
use fuseline_ir::ops::{attention, create, movement, pointwise};
use fuseline_ir::{DType, Dim, Graph, Loc, Op, OpError, Range, Symbol, Symbols, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The pass's name.
pub const NAME: &str = "filled";

/// The pass: see the module.
///
/// # Errors
/// An op that doesn't take what it is given any more, which is a bug of the pass.
pub fn run(graph: &Graph, cx: &PassCx) -> Result<Graph, PassError> {
    let masked =
        |op: &Op, args: &[Value]| matches!(op, Op::Sdpa(s) if !s.causal) && args.len() == 4;
    if !graph.nodes().iter().any(|n| masked(&n.op, &n.args)) {
        return Ok(graph.clone());
    }
    let forms = closed_form::analyse(graph);
    let graph = &nonnegative(graph, &forms);
    let ends = ends(graph);
    let mut out = graph.rebuilt();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (value, node) in graph.values() {
        let args: Vec<Value> = node.args.iter().map(|a| map[a.index()]).collect();
        let cut = match &node.op {
            op if masked(op, &node.args) => cut(graph, &forms, &ends, &node.args, cx.numerics),
            _ => None,
        };
        let made = match (&node.op, cut) {
            (Op::Sdpa(op), Some(cut)) => attend(&mut out, op, &cut, &args, &node.loc),
            _ => out.add(node.op.clone(), &args, &node.loc),
        };
        map.push(made.map_err(PassError::at(NAME, graph, value))?);
    }
    crate::decompose::copy_ends(graph, &mut out, &map);
    Ok(out)
}

/// The graph with fewer numbers that it accepts: a symbol that is the place where keys are written, and behind which the same attention's mask hides them, isn't negative.
fn nonnegative<'g>(graph: &'g Graph, forms: &[Option<Arc<Form<Value>>>]) -> Cow<'g, Graph> {
    let mut out = Cow::Borrowed(graph);
    for (_, node) in graph.values() {
        let (Op::Sdpa(_), &[_, keys, _, mask]) = (&node.op, node.args.as_slice()) else {
            continue;
        };
        let Some(place) = written_at(graph, keys) else {
            continue;
        };
        let range = graph.symbols.get(place).filter(|range| range.min < 0);
        let seen = forms[mask.index()].as_ref().and_then(closed_form::seen);
        let (Some(range), Some(seen), Some(mask)) = (range, seen, graph.ty(mask).as_tensor())
        else {
            continue;
        };
        let behind = |half: &HalfSpace| {
            let first = rows_and_keys(half, mask.rank()).map(|(_, constant)| constant);
            first.is_some_and(|c| c == Dim::symbol(place.clone()))
        };
        if range.max >= 0 && seen.within.iter().any(behind) {
            let range = Range { min: 0, ..*range };
            out.to_mut().declare_symbol(place.clone(), range);
        }
    }
    out
}

/// The symbol at which a slice of what the keys are made of was written last.
fn written_at(graph: &Graph, mut keys: Value) -> Option<&Symbol> {
    loop {
        let node = graph.node(keys);
        match &node.op {
            Op::SliceUpdate(update) => return update.start.as_symbol(),
            Op::Reshape(_) | Op::Broadcast(_) | Op::Transpose(_) | Op::Cast(_) => {
                keys = *node.args.first()?;
            }
            _ => return None,
        }
    }
}

/// What is left of a mask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing: all that is left is seen.
    Nothing,
    /// The lower right corners align.
    Causal,
    /// Query `i` of so many sees the keys `n` with `i + bₗ ≤ n ≤ i + bₕ` for each pair of bounds that are there.
    Band {
        rows: Dim,
        lower: Vec<Dim>,
        upper: Vec<Dim>,
    },
    /// The mask itself.
    Mask,
}

/// What becomes of an attention.
struct Cut {
    /// The first key that is kept, and the one behind the last.
    start: Dim,
    stop: Dim,
    left: Left,
}

/// Ends of slices that are read or written, each with the size of its axis: a program that doesn't fail has each end within its size.
fn ends(graph: &Graph) -> Vec<(Dim, Dim)> {
    let live = graph.live();
    let mut out: Vec<(Dim, Dim)> = Vec::new();
    for (value, node) in graph.values() {
        let shape = |n: usize| Some(&graph.ty(*node.args.get(n)?).as_tensor()?.shape);
        let end = match &node.op {
            Op::Slice(s) => shape(0)
                .and_then(|x| x.get(s.axis))
                .map(|size| (s.stop.clone(), size.clone())),
            Op::SliceUpdate(s) if s.step == 1 => shape(0).zip(shape(1)).and_then(|(x, source)| {
                Some((&s.start + source.get(s.axis)?, x.get(s.axis)?.clone()))
            }),
            _ => None,
        };
        if let Some(end) = end.filter(|e| live[value.index()] && !out.contains(e)) {
            out.push(end);
        }
    }
    out
}

fn cut(
    graph: &Graph,
    forms: &[Option<Arc<Form<Value>>>],
    ends: &[(Dim, Dim)],
    args: &[Value],
    numerics: Numerics,
) -> Option<Cut> {
    let shape = |n: usize| Some(&graph.ty(*args.get(n)?).as_tensor()?.shape);
    let (queries, keys, mask) = (shape(0)?.get(2)?, shape(1)?.get(2)?, shape(3)?);
    let form = forms[args.get(3)?.index()].as_ref()?;
    let seen = closed_form::seen(form)?;
    // Its rows and keys are its last axes, and the scores' own.
    let rank = mask.len();
    let (rows, columns) = (mask.get(rank.checked_sub(2)?)?, mask.last()?);
    if columns != keys || keys.is(1) {
        return None;
    }
    let symbols = &graph.symbols;
    if !seen.infinite
        && (numerics != Numerics::Reassociates || !each_row_sees(&seen, rank, symbols))
    {
        return None;
    }
    let within = |end: &Dim| {
        let at_most = |a: &Dim, b: &Dim| (b - a).range(symbols).min >= 0;
        let known = |(e, size): &(Dim, Dim)| e == end && at_most(size, keys);
        ends.iter().any(known) || at_most(&Dim::from(0i64), end) && at_most(end, keys)
    };
    let last_row = rows - &Dim::from(1i64);
    let cut = seen.within.iter().find_map(|half| {
        let (step, constant) = rows_and_keys(half, rank)?;
        let end = &(&constant + &(&last_row * &Dim::from(step))) + &Dim::from(1i64);
        within(&end).then_some((end, step, constant))
    });
    let alone = seen.complete && seen.within.len() == 1;
    let nothing = seen.complete && seen.within.is_empty();
    let zero = Dim::from(0i64);
    let (start, stop, left) = match cut {
        None if nothing => (zero, keys.clone(), Left::Nothing),
        Some((end, 0, _)) if alone => (zero, end, Left::Nothing),
        Some((end, 1, constant)) if alone && rows == queries && constant == &end - queries => {
            (zero, end, Left::Causal)
        }
        cut => {
            let end = cut.map_or_else(|| keys.clone(), |(end, ..)| end);
            let start = window(&seen, rank, (&end, keys), symbols).unwrap_or(zero);
            match band(&seen, rows, rank, &start) {
                Some(_) if one_row_sees_all(&seen, rows, (&start, &end)) => {
                    (start, end, Left::Nothing)
                }
                Some(band) => (start, end, band),
                None if start.is(0) && end == *keys => return None,
                None => (start, end, Left::Mask),
            }
        }
    };
    Some(Cut { start, stop, left })
}

/// The first key that the first query may see, where it is one of a window that is smaller than the keys are at most.
fn window(seen: &Seen, rank: usize, (end, keys): (&Dim, &Dim), symbols: &Symbols) -> Option<Dim> {
    let (row, key) = (rank.checked_sub(2)?, rank.checked_sub(1)?);
    let first = seen.within.iter().find_map(|half| {
        let step = |axis: usize| half.axes.get(&axis).map_or(Some(0), Dim::as_const);
        let others = half.axes.keys().all(|a| *a == row || *a == key);
        let below = others && step(key)? == 1 && matches!(step(row)?, 0 | -1);
        below.then(|| -&half.constant)
    })?;
    let read = (end - &first).range(symbols);
    let fewer = read.min >= 0 && read.max < keys.range(symbols).max;
    let start = first.maximum(&Dim::from(0i64));
    (fewer && !start.is(0)).then_some(start)
}

/// Whether there is one query, which sees all keys from `start` up to `end`: its window begins there, and its last key is the last one.
fn one_row_sees_all(seen: &Seen, rows: &Dim, (start, end): (&Dim, &Dim)) -> bool {
    let one = Dim::from(1i64);
    let holds = |half: &HalfSpace| match half.axes.values().next().and_then(Dim::as_const) {
        Some(1) => (-&half.constant).maximum(&Dim::from(0i64)) == *start,
        Some(-1) => &half.constant + &one == *end,
        _ => false,
    };
    rows.is(1) && seen.complete && seen.within.iter().all(holds)
}

/// The mask as a band, where it is one and has a bound; of the keys from `start` on.
fn band(seen: &Seen, rows: &Dim, rank: usize, start: &Dim) -> Option<Left> {
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    for half in &seen.within {
        let step = |axis: usize| half.axes.get(&axis).and_then(Dim::as_const);
        // A single row has no index.
        let row = if rows.is(1) { None } else { Some(1) };
        let sign = step(rank.checked_sub(1)?)?;
        let others = half.axes.len() == 1 + usize::from(row.is_some());
        let along = step(rank.checked_sub(2)?) == row.map(|_| -sign);
        match sign {
            _ if !others || !along => return None,
            -1 => upper.push(&half.constant - start),
            1 => lower.push(&-&half.constant - start),
            _ => return None,
        }
    }
    let bounded = seen.complete && !(lower.is_empty() && upper.is_empty());
    lower.sort();
    upper.sort();
    bounded.then(|| Left::Band {
        rows: rows.clone(),
        lower,
        upper,
    })
}

/// A half-space `constant + step·i − n ≥ 0` of query i and key n, where the step is 0 or 1.
fn rows_and_keys(half: &HalfSpace, rank: usize) -> Option<(i64, Dim)> {
    let mut step = 0;
    let mut bounds_keys = false;
    for (&axis, by) in &half.axes {
        match by.as_const()? {
            -1 if axis + 1 == rank => bounds_keys = true,
            1 if axis + 2 == rank => step = 1,
            _ => return None,
        }
    }
    bounds_keys.then(|| (step, half.constant.clone()))
}

/// Whether every query provably sees a key: the last one that the first condition allows is there and satisfies the others.
fn each_row_sees(seen: &Seen, rank: usize, symbols: &Symbols) -> bool {
    let not_negative = |d: &Dim| d.range(symbols).min >= 0;
    let Some((step, constant)) = seen.within.iter().find_map(|h| rows_and_keys(h, rank)) else {
        return seen.complete && seen.within.is_empty();
    };
    let (row, key) = (rank.wrapping_sub(2), rank.wrapping_sub(1));
    let holds = |half: &HalfSpace| {
        let zero = Dim::from(0i64);
        let by = |axis: usize| half.axes.get(&axis).unwrap_or(&zero);
        let others = half.axes.keys().all(|a| *a == row || *a == key);
        let along = by(row) + &(by(key) * &Dim::from(step));
        let at = &half.constant + &(by(key) * &constant);
        others && along.as_const().is_some_and(|n| n >= 0) && not_negative(&at)
    };
    seen.complete && not_negative(&constant) && seen.within.iter().all(holds)
}

/// The places of an axis from `start` up to `stop`.
fn slice_to(
    out: &mut Graph,
    x: Value,
    axis: usize,
    (start, stop): (&Dim, &Dim),
    loc: &Loc,
) -> Result<Value, OpError> {
    if start.is(0) && out.tensor_ty(x)?.shape.get(axis) == Some(stop) {
        return Ok(x);
    }
    let slice = movement::Slice {
        axis,
        start: start.clone(),
        stop: stop.clone(),
        step: 1,
    };
    out.add(slice, &[x], loc)
}

/// The mask of a [`Left::Band`], as truth values `[1, 1, rows, keys]`.
fn in_band(
    out: &mut Graph,
    (rows, keys): (&Dim, &Dim),
    lower: &[Dim],
    upper: &[Dim],
    loc: &Loc,
) -> Result<Option<Value>, OpError> {
    let count = |start: &Dim, len: &Dim| create::Arange {
        start: start.clone(),
        step: Dim::from(1i64),
        len: len.clone(),
        dtype: DType::I64,
    };
    let places = out.add(count(&Dim::from(0i64), keys), &[], loc)?;
    // The rows stand at the first bound; the others are so far from it.
    let Some(origin) = upper.first().or(lower.first()) else {
        return Ok(None);
    };
    let at = out.add(count(origin, rows), &[], loc)?;
    let one = || Dim::from(1i64);
    let shape = vec![one(), one(), rows.clone(), one()];
    let at = out.add(movement::Reshape { shape }, &[at], loc)?;
    let mut seen: Option<Value> = None;
    let bounds = upper.iter().map(|b| (b, true));
    for (bound, above) in bounds.chain(lower.iter().map(|b| (b, false))) {
        let distance = bound - origin;
        let mut limit = at;
        if !distance.is(0) {
            let distance = out.add(create::Size { value: distance }, &[], loc)?;
            let dtype = DType::I64;
            let distance = out.add(create::IntTensor { dtype }, &[distance], loc)?;
            limit = out.add(pointwise::Add {}, &[at, distance], loc)?;
        }
        let (less, more) = if above {
            (places, limit)
        } else {
            (limit, places)
        };
        let holds = out.add(pointwise::Le {}, &[less, more], loc)?;
        seen = Some(match seen {
            None => holds,
            Some(before) => out.add(pointwise::LogicalAnd {}, &[before, holds], loc)?,
        });
    }
    Ok(seen)
}

fn attend(
    out: &mut Graph,
    op: &attention::Sdpa,
    cut: &Cut,
    args: &[Value],
    loc: &Loc,
) -> Result<Value, OpError> {
    let &[q, k, v, mask] = args else {
        return Err(OpError::new("sdpa", "has no mask"));
    };
    let mut first = |x: Value, axis: usize| slice_to(out, x, axis, (&cut.start, &cut.stop), loc);
    let (k, v) = (first(k, 2)?, first(v, 2)?);
    let mut args = vec![q, k, v];
    match &cut.left {
        Left::Nothing | Left::Causal => {}
        Left::Mask => {
            let last = out.tensor_ty(mask)?.rank().saturating_sub(1);
            let mut first =
                |x: Value, axis: usize| slice_to(out, x, axis, (&cut.start, &cut.stop), loc);
            args.push(first(mask, last)?);
        }
        Left::Band { rows, lower, upper } => {
            let keys = &cut.stop - &cut.start;
            args.extend(in_band(out, (rows, &keys), lower, upper, loc)?);
        }
    }
    let op = attention::Sdpa {
        causal: cut.left == Left::Causal,
        ..op.clone()
    };
    out.add(op, &args, loc)
}
