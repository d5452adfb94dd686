//! Attention over caches that no program holds: the keys and values of `UpdateAndAttend`, layer by layer.
//!
//! A program names such a cache by the number of a layer only. The session keeps it: rows of keys and values in the order of their positions, in arrays
//! with room for more. A layer with a window forgets what lies before it when it needs room.

use std::collections::BTreeMap;

use fuseline_program::ScalarType;
use fuseline_program::instr::UpdateAndAttend;

use super::host::{fill_bytes, integers, scalar};
use super::several::{along, attend, replaced};
use super::{cast, op, zeros};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::{Array, MlxError};

/// How to keep the caches that a program's `UpdateAndAttend` instructions name by layer, where it shall not be as the program says.
///
/// A program can say it in methods that return a constant: `get_max_ctx_len`, a number, and `get_windows`, a number for each layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheOptions {
    /// The most positions that a layer takes. If neither this nor the program says it, as many as there is memory for.
    pub capacity: Option<u32>,
    /// The type that keys and values are kept in; none given means the one in which they come.
    pub dtype: Option<ScalarType>,
    /// For each layer how many positions a query sees, itself counted in. 0 means all, and so does a layer beyond the list.
    pub windows: Option<Vec<u32>>,
}

/// How the caches of a program are kept: the options, filled in by what the program says.
#[derive(Debug, Default)]
pub(crate) struct CacheLayout {
    pub(crate) capacity: Option<u32>,
    pub(crate) dtype: Option<ScalarType>,
    pub(crate) windows: Vec<u32>,
}

impl CacheLayout {
    /// The window of a layer, 0 for none.
    fn window(&self, layer: i32) -> i64 {
        let at = usize::try_from(layer).ok();
        at.and_then(|at| self.windows.get(at))
            .copied()
            .map_or(0, i64::from)
    }
}

/// What a session keeps of all layers.
#[derive(Default)]
pub(crate) struct Caches(BTreeMap<i32, Layer>);

/// Rows of one layer: those of the positions from `first` to before `end`, and behind them room.
struct Layer {
    keys: Array,
    values: Array,
    first: i64,
    end: i64,
}

impl Caches {
    /// References to the same arrays.
    pub(crate) fn share(&self) -> Result<Self, MlxError> {
        let layers = self.0.iter().map(|(number, layer)| {
            let layer = Layer {
                keys: layer.keys.share()?,
                values: layer.values.share()?,
                ..*layer
            };
            Ok((*number, layer))
        });
        Ok(Self(layers.collect::<Result<_, MlxError>>()?))
    }

    /// All arrays.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.0
            .values()
            .flat_map(|layer| [&layer.keys, &layer.values])
    }
}

/// A step: the positions that it begins and ends at, and the first one that its queries see.
#[derive(Clone, Copy)]
struct Step {
    start: i64,
    end: i64,
    seen: i64,
}

/// Keeps keys and values at their positions, then attends with the queries to all that they may see.
pub(super) fn update_and_attend(i: &UpdateAndAttend, f: &mut Frame<'_>) -> Result<(), Fault> {
    let layer_id = i.layer_id.unwrap_or_default();
    let (q, k, v) = (f.get(i.q)?, f.get(i.k)?, f.get(i.v)?);
    let count = rows(q)?;
    if count < 1 || rows(k)? != count || rows(v)? != count {
        return Err(Fault::Pieces {
            wanted: f.get(i.position)?.len(),
        });
    }
    let window = f.layout.window(layer_id);
    let (start, end) = run_of(f.get(i.position)?, count)?;
    if let Some(capacity) = f.layout.capacity.map(i64::from).filter(|most| end > *most) {
        return Err(Fault::CacheFull { end, capacity });
    }
    let seen = if window > 0 {
        (start - window + 1).max(0)
    } else {
        0
    };
    let step = Step { start, end, seen };

    let old = f.caches.0.get(&layer_id);
    let layer = written(old, k, v, step, window, f)?;
    let view = |x: &Array| {
        let part = along(
            x,
            2,
            to_i32(seen - layer.first)?,
            to_i32(end - layer.first)?,
            f,
        )?;
        cast(&part, q.dtype(), f)
    };
    let (keys, values) = (view(&layer.keys)?, view(&layer.values)?);
    let span = end - seen;
    // One query sees the whole span. Several see a part each: up to their own position, which MLX knows as causal, and not further
    // back than the window, which it does not know.
    let mask = if count > 1 && window > 0 && window < span {
        Some(band(i64::from(count), span, window, f)?)
    } else {
        None
    };
    let causal = count > 1 && mask.is_none();
    let scale = i.scale.unwrap_or(1.0);
    let out = attend([q, &keys, &values], scale, mask.as_ref(), causal, f)?;
    let out = cast(&out, i.out_dtype.unwrap_or(out.dtype()), f)?;
    f.caches.0.insert(layer_id, layer);
    f.put(i.out, out)
}

/// The number of positions of `[batch, heads, positions, width]`.
fn rows(x: &Array) -> Result<i32, Fault> {
    match x.shape() {
        [_, _, rows, _] => Ok(*rows),
        _ => Err(Fault::Axis {
            axis: 2,
            rank: x.rank(),
        }),
    }
}

/// First position and the one after the last. Positions of a step follow each other: a cache holds one sequence.
fn run_of(position: &Array, count: i32) -> Result<(i64, i64), Fault> {
    let positions = integers(position)?;
    let start = positions.first().copied().unwrap_or(-1);
    let one_each = positions.len() == count.unsigned_abs() as usize;
    let follows = |pair: &[i64]| pair[0].checked_add(1) == Some(pair[1]);
    if !one_each || start < 0 || !positions.windows(2).all(follows) {
        return Err(Fault::Positions { count, start });
    }
    let end = start.checked_add(i64::from(count)).ok_or(Fault::Overflow)?;
    Ok((start, end))
}

/// The layer with the new rows in it. Positions that were there already are replaced.
fn written(
    old: Option<&Layer>,
    k: &Array,
    v: &Array,
    step: Step,
    window: i64,
    f: &Frame<'_>,
) -> Result<Layer, Fault> {
    let Step { start, end, seen } = step;
    let (first, filled) = old.map_or((0, 0), |layer| (layer.first, layer.end));
    if start > filled || seen < first {
        return Err(Fault::Position {
            position: start,
            first,
            end: filled,
        });
    }
    let room = old.map_or(0, |layer| i64::from(layer.keys.shape()[2]));
    let grown = first + room < end;
    let base = if grown { seen.max(first) } else { first };
    let put = |old: Option<&Array>, rows: &Array| {
        let dtype = f.layout.dtype.unwrap_or(rows.dtype());
        let rows = cast(rows, dtype, f)?;
        let mut shape = rows.shape().to_vec();
        let store = match old {
            Some(old) if !fits(old, &rows) => {
                return Err(Fault::CacheShape {
                    held: old.shape().to_vec(),
                    given: shape,
                });
            }
            Some(old) if !grown => old.share()?,
            _ => {
                // Twice as much each time, so that all copies together cost as much as the rows.
                let needed = (end - base + window).unsigned_abs().next_power_of_two();
                let most = f
                    .layout
                    .capacity
                    .map_or(u64::MAX, |most| u64::from(most) - base.unsigned_abs());
                shape[2] = i32::try_from(needed.min(most)).map_err(|_| Fault::Overflow)?;
                let lengths = shape.iter().map(|length| u64::from(length.unsigned_abs()));
                fill_bytes(lengths, dtype, f)?;
                let fresh = zeros(&shape, dtype, f)?;
                match old.filter(|_| start > base) {
                    Some(old) => {
                        let (from, to) = (to_i32(base - first)?, to_i32(start - first)?);
                        let kept = along(old, 2, from, to, f)?;
                        replaced(&fresh, &kept, 2, (0, to_i32(start - base)?, 1), f)?
                    }
                    None => fresh,
                }
            }
        };
        let place = (to_i32(start - base)?, to_i32(end - base)?, 1);
        replaced(&store, &rows, 2, place, f)
    };
    Ok(Layer {
        keys: put(old.map(|layer| &layer.keys), k)?,
        values: put(old.map(|layer| &layer.values), v)?,
        first: base,
        end: if grown { end } else { end.max(filled) },
    })
}

/// Whether rows have the shape of those that are kept, but for their number, and their type.
fn fits(kept: &Array, rows: &Array) -> bool {
    let same = |axis: usize| kept.shape()[axis] == rows.shape()[axis];
    kept.dtype() == rows.dtype() && [0, 1, 3].into_iter().all(same)
}

/// Truth values `[1, 1, count, span]`: which of the span's positions each of its last `count` sees.
fn band(count: i64, span: i64, window: i64, f: &Frame<'_>) -> Result<Array, Fault> {
    let code = mlx_sys::mlx_dtype__MLX_INT32;
    let last = op!(f, mlx_arange, (span - count) as f64, span as f64, 1.0, code);
    let last = op!(f, mlx_reshape, last.raw(), [to_i32(count)?, 1].as_ptr(), 2);
    let at = op!(f, mlx_arange, 0.0, span as f64, 1.0, code);
    let back = op!(f, mlx_subtract, last.raw(), at.raw());
    let zero = scalar(0.0, ScalarType::I32)?;
    let far = scalar(window as f64, ScalarType::I32)?;
    let before = op!(f, mlx_greater_equal, back.raw(), zero.raw());
    let near = op!(f, mlx_less, back.raw(), far.raw());
    let seen = op!(f, mlx_logical_and, before.raw(), near.raw());
    let shape = [1, 1, to_i32(count)?, to_i32(span)?];
    Ok(op!(f, mlx_reshape, seen.raw(), shape.as_ptr(), shape.len()))
}

fn to_i32(number: i64) -> Result<i32, Fault> {
    i32::try_from(number).map_err(|_| Fault::Overflow)
}
