//! A few integers that are known already are worked out at once, on the host.
//!
//! Where a step's positions begin, and which rows of a cache they are, is the work of a few instructions on a few integers, and later instructions want the result on
//! the host: `IndexCopy` to check and to place its rows, `ItemInt`, every check of indices. Queued on the device it would be there only when everything that was
//! queued before it is done, the step before included; and a stream of the CPU beside the device's costs more for each of them than a few additions.

use fuseline_program::ScalarType;
use fuseline_program::Tid;
use fuseline_program::instr::{Instruction as I, IntOrVid, IntOrVidOrTid};

use super::host::{axis_of, integers};
use crate::fault::Fault;
use crate::frame::Frame;
use crate::mlx::Array;

/// The most integers of a tensor that is worked out early.
const FEW: usize = 256;

/// Integers in row-major order, of 32 or 64 bits.
#[derive(Debug, Clone, PartialEq)]
struct Few {
    dtype: ScalarType,
    shape: Vec<i32>,
    values: Vec<i64>,
}

/// What the instruction puts into its slot, if it makes a few integers of a few that are there. Whatever is unusual about it is left to MLX, errors too.
pub(super) fn result(instruction: &I, f: &Frame<'_>) -> Result<Option<(Tid, Array)>, Fault> {
    let Some((out, made)) = made(instruction, f) else {
        return Ok(None);
    };
    let bytes: Vec<u8> = match made.dtype {
        ScalarType::I32 => made
            .values
            .iter()
            .flat_map(|n| (*n as i32).to_le_bytes())
            .collect(),
        _ => made.values.iter().flat_map(|n| n.to_le_bytes()).collect(),
    };
    let array = Array::from_bytes(&bytes, &made.shape, made.dtype)?;
    Ok(Some((out, array)))
}

fn made(instruction: &I, f: &Frame<'_>) -> Option<(Tid, Few)> {
    let x = |tid| known(tid, f);
    let made = match instruction {
        I::Arange(i) => {
            let (start, stop, step) = (f.number(i.start), f.number(i.stop), f.number(i.step));
            (
                i.out,
                arange(start.ok()?, stop.ok()?, step.ok()?, i.scalar_type)?,
            )
        }
        I::AsType(i) => (i.out, x(i.x)?.of_type(i.scalar_type)?),
        I::Add(i) => (
            i.out,
            pairs(x(i.a)?, &x(i.b)?, |a, b| Some(a.wrapping_add(b)))?,
        ),
        I::Subtract(i) => (
            i.out,
            pairs(x(i.a)?, &x(i.b)?, |a, b| Some(a.wrapping_sub(b)))?,
        ),
        I::Multiply(i) => (
            i.out,
            pairs(x(i.a)?, &x(i.b)?, |a, b| Some(a.wrapping_mul(b)))?,
        ),
        I::Maximum(i) => (i.out, pairs(x(i.a)?, &x(i.b)?, |a, b| Some(a.max(b)))?),
        I::Minimum(i) => (i.out, pairs(x(i.a)?, &x(i.b)?, |a, b| Some(a.min(b)))?),
        I::FloorDivide(i) => (i.out, pairs(x(i.a)?, &x(i.b)?, floor_divided)?),
        I::Remainder(i) => (i.out, pairs(x(i.a)?, &x(i.b)?, rest)?),
        I::Take(i) => {
            let x = x(i.x)?;
            let axis = axis_of(i.axis, x.shape.len()).ok()?;
            match i.index {
                IntOrVidOrTid::Int(at) => (i.out, x.taken(axis, &[at], &[])?),
                IntOrVidOrTid::Vid(vid) => {
                    let at = f.number(IntOrVid::Vid(vid)).ok()?;
                    (i.out, x.taken(axis, &[at], &[])?)
                }
                IntOrVidOrTid::Tid(tid) => {
                    let at = known(tid, f)?;
                    (i.out, x.taken(axis, &at.values, &at.shape)?)
                }
            }
        }
        I::Slice(i) if i.step == 1 => {
            let x = x(i.x)?;
            let axis = axis_of(f.int(i.axis).ok()?, x.shape.len()).ok()?;
            let length = i64::from(x.shape[axis]);
            let place = |at: IntOrVid| {
                let at = i64::from(f.int(at).ok()?);
                Some((if at < 0 { at + length } else { at }).clamp(0, length))
            };
            let positions: Vec<i64> = (place(i.start)?..place(i.stop)?).collect();
            let count = i32::try_from(positions.len()).ok()?;
            (i.out, x.taken(axis, &positions, &[count])?)
        }
        I::Reshape(i) => (i.out, x(i.x)?.shaped(f.ints(&i.shape).ok()?)?),
        I::ExpandDims(i) => {
            let mut x = x(i.x)?;
            let axis = axis_of(i.axis, x.shape.len() + 1).ok()?;
            x.shape.insert(axis, 1);
            (i.out, x)
        }
        I::Squeeze(i) => {
            let mut x = x(i.x)?;
            let rank = x.shape.len();
            let named = i.dims.iter().map(|dim| axis_of(*dim, rank));
            let named = named.collect::<Result<Vec<usize>, _>>().ok()?;
            let mut at = 0..;
            x.shape.retain(|length| {
                let at = at.next().unwrap_or(usize::MAX);
                *length != 1 || !(named.is_empty() || named.contains(&at))
            });
            (i.out, x)
        }
        _ => return None,
    };
    (made.1.values.len() <= FEW).then_some(made)
}

/// What is in a slot, if it is a few integers that are there. None are not a few: the lengths of an array without elements have no bound.
fn known(tid: Tid, f: &Frame<'_>) -> Option<Few> {
    let array = f.get(tid).ok()?;
    let wide = matches!(array.dtype(), ScalarType::I32 | ScalarType::I64);
    if !wide || !(1..=FEW).contains(&array.len()) || !array.is_computed() {
        return None;
    }
    Some(Few {
        dtype: array.dtype(),
        shape: array.shape().to_vec(),
        values: integers(array).ok()?,
    })
}

fn arange(start: i64, stop: i64, step: i64, dtype: Option<ScalarType>) -> Option<Few> {
    let distance = (i128::from(stop) - i128::from(start)) * i128::from(step.signum());
    let step_size = u128::from(step.unsigned_abs());
    let count = distance
        .max(0)
        .unsigned_abs()
        .checked_add(step_size.checked_sub(1)?)?
        / step_size;
    let count = usize::try_from(count).ok().filter(|count| *count <= FEW)?;
    let element = |at: usize| i128::from(start) + at as i128 * i128::from(step);
    let values = (0..count).map(|at| i64::try_from(element(at)).ok());
    let values = values.collect::<Option<_>>()?;
    let all = Few {
        dtype: ScalarType::I64,
        shape: vec![i32::try_from(count).ok()?],
        values,
    };
    all.of_type(dtype.unwrap_or(ScalarType::I32))
}

fn floor_divided(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(quotient - i64::from(a % b != 0 && (a < 0) != (b < 0)))
}

fn rest(a: i64, b: i64) -> Option<i64> {
    let rest = a.checked_rem(b)?;
    Some(if rest != 0 && (rest < 0) != (b < 0) {
        rest + b
    } else {
        rest
    })
}

/// Both of one type, broadcast.
fn pairs(a: Few, b: &Few, of: impl Fn(i64, i64) -> Option<i64>) -> Option<Few> {
    if a.dtype != b.dtype {
        return None;
    }
    let rank = a.shape.len().max(b.shape.len());
    let at = |few: &Few, axis: usize| match (axis + few.shape.len()).checked_sub(rank) {
        Some(axis) => few.shape[axis],
        None => 1,
    };
    let lengths = (0..rank).map(|axis| match (at(&a, axis), at(b, axis)) {
        (x, y) if x == y || y == 1 => Some(x),
        (1, y) => Some(y),
        _ => None,
    });
    let shape = lengths.collect::<Option<Vec<i32>>>()?;
    let count = shape
        .iter()
        .try_fold(1_usize, |all, n| all.checked_mul(*n as usize))?;
    if count > FEW {
        return None;
    }
    let place = |few: &Few, position: usize| {
        let (mut rest, mut step, mut offset) = (position, 1, 0);
        for axis in (0..rank).rev() {
            let (length, own) = (shape[axis] as usize, at(few, axis) as usize);
            if own > 1 {
                offset += rest % length * step;
                step *= own;
            }
            rest /= length;
        }
        few.values.get(offset).copied()
    };
    let values = (0..count).map(|position| of(place(&a, position)?, place(b, position)?));
    let dtype = a.dtype;
    Few {
        dtype: ScalarType::I64,
        values: values.collect::<Option<Vec<i64>>>()?,
        shape,
    }
    .of_type(dtype)
}

impl Few {
    /// The same in a type of 32 or 64 bits, cut to its bits.
    fn of_type(mut self, dtype: ScalarType) -> Option<Self> {
        match dtype {
            ScalarType::I32 => self
                .values
                .iter_mut()
                .for_each(|n| *n = i64::from(*n as i32)),
            ScalarType::I64 => {}
            _ => return None,
        }
        self.dtype = dtype;
        Some(self)
    }

    /// The slices at positions of an axis, which becomes axes of these lengths.
    fn taken(self, axis: usize, positions: &[i64], lengths: &[i32]) -> Option<Self> {
        let own = i64::from(self.shape[axis]);
        let outer: i32 = self.shape[..axis].iter().product();
        let inner = self.shape[axis + 1..].iter().product::<i32>() as usize;
        let mut values = Vec::new();
        for row in 0..outer as usize {
            for position in positions {
                let position = if *position < 0 {
                    position + own
                } else {
                    *position
                };
                let position = usize::try_from(position).ok().filter(|_| position < own)?;
                let first = (row * own as usize + position) * inner;
                values.extend_from_slice(self.values.get(first..first + inner)?);
                if values.len() > FEW {
                    return None;
                }
            }
        }
        let mut shape = self.shape;
        shape.splice(axis..=axis, lengths.iter().copied());
        Some(Self {
            dtype: self.dtype,
            shape,
            values,
        })
    }

    fn shaped(self, mut shape: Vec<i32>) -> Option<Self> {
        let known = shape.iter().filter(|n| **n != -1);
        let mut known = known.map(|n| usize::try_from(*n).ok());
        let known = known.try_fold(1_usize, |all, n| all.checked_mul(n?))?;
        if let Some(open) = shape.iter_mut().find(|n| **n == -1) {
            let length = self.values.len().checked_div(known)?;
            *open = i32::try_from(length).ok()?;
        }
        let mut whole = shape.iter().map(|n| usize::try_from(*n).ok());
        let whole = whole.try_fold(1_usize, |all, n| all.checked_mul(n?))?;
        (whole == self.values.len()).then_some(Self { shape, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn few(shape: &[i32], values: &[i64]) -> Few {
        Few {
            dtype: ScalarType::I64,
            shape: shape.to_vec(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn arithmetic_broadcasts_and_rounds_down() {
        let (a, b) = (few(&[2, 1], &[-7, 7]), few(&[2], &[2, -2]));
        let made = |of: fn(i64, i64) -> Option<i64>| pairs(a.clone(), &b, of);
        assert_eq!(made(floor_divided), Some(few(&[2, 2], &[-4, 3, 3, -4])));
        assert_eq!(made(rest), Some(few(&[2, 2], &[1, -1, 1, -1])));
        assert_eq!(pairs(a.clone(), &few(&[], &[0]), rest), None);
        assert_eq!(
            pairs(few(&[1], &[i64::MIN]), &few(&[1], &[-1]), floor_divided),
            None
        );
        assert_eq!(pairs(few(&[2], &[0, 0]), &few(&[3], &[0; 3]), rest), None);
        let narrow = few(&[1], &[1 << 40]).of_type(ScalarType::I32);
        assert_eq!(narrow.map(|few| few.values), Some(vec![0]));
    }

    #[test]
    fn views_are_what_they_say_or_left_alone() {
        let x = few(&[2, 3], &[0, 1, 2, 3, 4, 5]);
        assert_eq!(
            x.clone().taken(1, &[2, -3], &[2]),
            Some(few(&[2, 2], &[2, 0, 5, 3]))
        );
        assert_eq!(x.clone().taken(0, &[1], &[]), Some(few(&[3], &[3, 4, 5])));
        assert_eq!(x.clone().taken(0, &[2], &[]), None);
        assert_eq!(
            x.clone().shaped(vec![3, -1]),
            Some(few(&[3, 2], &[0, 1, 2, 3, 4, 5]))
        );
        assert_eq!(x.clone().shaped(vec![4, -1]), None);
        assert_eq!(x.shaped(vec![0, -1]), None);
        assert_eq!(
            arange(5, 0, -2, None).map(|few| few.values),
            Some(vec![5, 3, 1])
        );
        assert_eq!(arange(0, i64::MAX, 1, None), None);
        let wide = arange(i64::MIN, i64::MAX, i64::MAX / 2, Some(ScalarType::I64));
        assert_eq!(wide.map(|few| few.values.len()), Some(5));
        assert_eq!(arange(0, 5, 0, None), None);
        assert_eq!(arange(3, 3, 1, None).map(|few| few.shape), Some(vec![0]));
    }
}
