//! Between which integers the elements of a result lie, where that follows from how it is made: what sorts or searches an axis gives positions on it, and views keep what they show.

use fuseline_program::instr::{FloatOrVid, Instruction as I, IntOrVid};
use fuseline_program::{ScalarType, Tid};

use super::axis_of;
use crate::frame::Frame;
use crate::late::Span;

/// The most elements of a constant that are read to know between what they lie.
const FEW: usize = 1 << 10;

/// What is known of the results of an instruction before it runs. Its results may have a type that holds less: see [`fitting`].
pub(super) fn before(instruction: &I, f: &Frame<'_>) -> Option<Span> {
    let of = |tid: Tid| f.span(tid, FEW).ok().flatten();
    let axis = |x: Tid, axis: i32| {
        let x = f.get(x).ok()?;
        let length = x.shape()[axis_of(axis, x.rank()).ok()?];
        positions(i64::from(length))
    };
    match instruction {
        I::Argsort(i) => axis(i.x, i.axis),
        I::ArgPartition(i) => axis(i.x, i.axis),
        I::Argmax(i) => axis(i.x, i.axis),
        I::Argmin(i) => axis(i.x, i.axis),
        I::Arange(i) => {
            let [start, stop, step] = [i.start, i.stop, i.step].map(|n| f.number(n).ok());
            arange(start?, stop?, step?)
        }
        I::Full(i) => number(i.v, f).map(|n| Span { least: n, most: n }),

        I::IdCopy(i) => of(i.x),
        I::AsType(i) => of(i.x),
        I::Contiguous(i) => of(i.x),
        I::Reshape(i) => of(i.x),
        I::ExpandDims(i) => of(i.x),
        I::Squeeze(i) => of(i.x),
        I::Transpose(i) => of(i.x),
        I::BroadcastTo(i) => of(i.x),
        I::Slice(i) => of(i.x),
        I::Split(i) => of(i.x),
        I::Flip(i) => of(i.x),
        I::Roll(i) => of(i.x),
        I::Tile(i) => of(i.x),
        I::Repeat(i) => of(i.x),
        I::Sort(i) => of(i.x),
        I::Partition(i) => of(i.x),
        I::Take(i) => of(i.x),
        I::TakeAlongAxis(i) => of(i.x),
        I::Gather(i) => of(i.x),
        I::Concatenate(i) => all(&i.tensors, of),
        I::Stack(i) => all(&i.tensors, of),
        I::Where(i) => all(&[i.x, i.y], of),

        I::Add(i) => pair(of(i.a)?, of(i.b)?, |a, b| a + b),
        I::Subtract(i) => pair(of(i.a)?, of(i.b)?, |a, b| a - b),
        I::Multiply(i) => pair(of(i.a)?, of(i.b)?, |a, b| a * b),
        I::Maximum(i) => pair(of(i.a)?, of(i.b)?, i128::max),
        I::Minimum(i) => pair(of(i.a)?, of(i.b)?, i128::min),
        I::FloorDivide(i) => {
            let (a, b) = (of(i.a)?, of(i.b).filter(|b| b.least > 0)?);
            pair(a, b, i128::div_euclid)
        }
        I::Remainder(i) => {
            let (a, b) = (of(i.a)?, of(i.b).filter(|b| b.least > 0)?);
            let unchanged = a.least >= 0 && a.most < b.least;
            if unchanged {
                Some(a)
            } else {
                positions(b.most)
            }
        }
        _ => None,
    }
}

/// What is known of a result of this type: nothing, if it has no integers or could have been cut to its bits.
pub(super) fn fitting(span: Option<Span>, dtype: ScalarType) -> Option<Span> {
    span.filter(|span| Span::of_type(dtype).is_some_and(|all| all.covers(*span)))
}

/// Positions on an axis.
fn positions(length: i64) -> Option<Span> {
    (length > 0).then_some(Span {
        least: 0,
        most: length - 1,
    })
}

fn arange(start: i64, stop: i64, step: i64) -> Option<Span> {
    // The last element may lie before the one at the end.
    let last = if step > 0 {
        stop.checked_sub(1)?
    } else {
        stop.checked_add(1)?
    };
    Some(Span {
        least: start.min(last),
        most: start.max(last),
    })
}

fn number(value: FloatOrVid, f: &Frame<'_>) -> Option<i64> {
    match value {
        FloatOrVid::Vid(vid) => f.number(IntOrVid::Vid(vid)).ok(),
        // Exact for all whole numbers that are of use as an index.
        FloatOrVid::Float(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(x as i64),
        FloatOrVid::Float(_) => None,
    }
}

fn all(tids: &[Tid], of: impl Fn(Tid) -> Option<Span>) -> Option<Span> {
    let mut spans = tids.iter().map(|tid| of(*tid));
    let first = spans.next()??;
    spans.try_fold(first, |all, span| Some(all.with(span?)))
}

/// All results of an operation that does not turn round within the spans.
fn pair(a: Span, b: Span, of: impl Fn(i128, i128) -> i128) -> Option<Span> {
    let ends = |span: Span| [i128::from(span.least), i128::from(span.most)];
    let mut results = Vec::with_capacity(4);
    for x in ends(a) {
        for y in ends(b) {
            results.push(i64::try_from(of(x, y)).ok()?);
        }
    }
    Some(Span {
        least: results.iter().copied().min()?,
        most: results.iter().copied().max()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(least: i64, most: i64) -> Span {
        Span { least, most }
    }

    #[test]
    fn spans_hold_every_result() {
        let spans = [span(-3, 2), span(0, 0), span(1, 4), span(-5, -2)];
        for a in spans {
            for b in spans {
                for (of, is) in [
                    (
                        pair(a, b, |x, y| x * y),
                        (|x, y| x * y) as fn(i64, i64) -> i64,
                    ),
                    (pair(a, b, |x, y| x - y), |x, y| x - y),
                    (pair(a, b, i128::min), i64::min),
                ] {
                    let of = of.expect("small numbers");
                    for x in a.least..=a.most {
                        for y in b.least..=b.most {
                            assert!(of.holds(is(x, y)), "{a:?} {b:?} {of:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_not_known() {
        assert_eq!(pair(span(0, i64::MAX), span(1, 1), |a, b| a + b), None);
        assert_eq!(fitting(Some(span(-1, 3)), ScalarType::U32), None);
        assert_eq!(fitting(Some(span(0, 300)), ScalarType::U8), None);
        assert_eq!(fitting(Some(span(0, 3)), ScalarType::F32), None);
        assert_eq!(fitting(Some(span(0, 3)), ScalarType::I8), Some(span(0, 3)));
        assert_eq!(arange(2, 9, 3), Some(span(2, 8)));
        assert_eq!(arange(9, 2, -3), Some(span(3, 9)));
        assert_eq!(positions(0), None);
    }
}
