//! Recognising positions and rotary tables.

use super::{Expr, Form, Key};
use fuseline_ir::{DType, Dim, Op, Scalar};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An integer that is linear in the index: `constant + Σ scalars + Σ stepₐ·iₐ`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position<K> {
    /// The part known from sizes.
    pub constant: Dim,
    /// One-element integer tensors that are added, with how often.
    pub scalars: BTreeMap<K, i64>,
    /// Steps along axes.
    pub axes: BTreeMap<usize, Dim>,
}

impl<K: Key> Position<K> {
    fn none() -> Position<K> {
        Position {
            constant: Dim::from(0i64),
            scalars: BTreeMap::new(),
            axes: BTreeMap::new(),
        }
    }

    /// The difference.
    pub fn minus(self, other: Position<K>) -> Position<K> {
        self.plus(other, -1)
    }

    fn plus(mut self, other: Position<K>, times: i64) -> Position<K> {
        let times_dim = Dim::from(times);
        self.constant = &self.constant + &(&other.constant * &times_dim);
        for (k, n) in other.scalars {
            let e = self.scalars.entry(k).or_insert(0);
            *e = e.saturating_add(n.saturating_mul(times));
        }
        for (axis, step) in other.axes {
            let e = self.axes.entry(axis).or_insert_with(|| Dim::from(0i64));
            *e = &*e + &(&step * &times_dim);
        }
        self.scalars.retain(|_, n| *n != 0);
        self.axes.retain(|_, d| !d.is(0));
        self
    }
}

/// The integer form as a [`Position`], where it is linear. Casts to wider integers are looked through.
pub fn position<K: Key>(form: &Arc<Form<K>>) -> Option<Position<K>> {
    let form = form.uncast();
    // Narrower integers wrap where positions don't.
    if !matches!(form.dtype, DType::I32 | DType::I64) {
        return None;
    }
    let mut out = Position::none();
    match &form.expr {
        Expr::Index(axis) => {
            out.axes.insert(*axis, Dim::from(1i64));
        }
        Expr::Literal(Scalar::Int(n)) => out.constant = Dim::from(*n),
        Expr::Dim(d) => out.constant = d.clone(),
        Expr::Scalar(k) => {
            out.scalars.insert(k.clone(), 1);
        }
        Expr::Apply(Op::Add(_), args) => {
            return Some(position(args.first()?)?.plus(position(args.get(1)?)?, 1));
        }
        Expr::Apply(Op::Sub(_), args) => {
            return Some(position(args.first()?)?.plus(position(args.get(1)?)?, -1));
        }
        Expr::Apply(Op::Neg(_), args) => return Some(out.plus(position(args.first()?)?, -1)),
        Expr::Apply(Op::Mul(_), args) => {
            let (a, b) = (position(args.first()?)?, position(args.get(1)?)?);
            let constant = |p: &Position<K>| {
                let plain = p.scalars.is_empty() && p.axes.is_empty();
                if plain { p.constant.as_const() } else { None }
            };
            return match (constant(&a), constant(&b)) {
                (_, Some(n)) => Some(out.plus(a, n)),
                (Some(n), _) => Some(out.plus(b, n)),
                _ => None,
            };
        }
        _ => return None,
    }
    Some(out)
}

/// Which function a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wave {
    /// Cosine.
    Cos,
    /// Sine.
    Sin,
}

/// How the index along the table's last axis chooses a frequency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Element j has frequency j: the table is as wide as there are frequencies.
    Once,
    /// Element j has frequency `j mod half`: halves are paired (`rotate_half`).
    Halves {
        /// Number of frequencies.
        half: Dim,
    },
    /// Element j has frequency `⌊j/2⌋`: neighbours are paired.
    Neighbours,
}

/// `amplitude · wave(angle_scale · position · freqs[j])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary<K> {
    /// Sine or cosine.
    pub wave: Wave,
    /// The axis that counts positions; `None` where the table holds one position.
    pub seq_axis: Option<usize>,
    /// One-element integer tensor that is added to the position, where there is one.
    pub offset: Option<K>,
    /// Added to the position as well.
    pub constant: Dim,
    /// The axis along which frequencies lie.
    pub freq_axis: usize,
    /// The tensor that holds the frequencies in row-major order; at most one of its axes isn't of size 1. Its elements are cast to `f32` before they are used.
    pub freqs: K,
    /// How the index chooses a frequency.
    pub pairing: Pairing,
    /// A number that the angle is multiplied by, 1 where there is none.
    pub angle_scale: f64,
    /// A number that the result is multiplied by, 1 where there is none.
    pub amplitude: f64,
    /// The dtype that the table is rounded to. The angle is always computed in `f32`.
    pub dtype: DType,
}

/// Recognises a rotary table: positions that count up by one from an offset, times frequencies read from a vector, in `f32`, through a sine or cosine.
pub fn rotary_table<K: Key>(form: &Arc<Form<K>>) -> Option<Rotary<K>> {
    let dtype = form.dtype;
    let mut amplitude = 1.0;
    let mut at = form;
    let (wave, angle) = loop {
        match &at.expr {
            Expr::Apply(Op::Cast(_), args) if at.dtype.is_float() => at = args.first()?,
            Expr::Apply(Op::Mul(_), args) => {
                let (x, c) = literal_factor(args)?;
                amplitude *= c;
                at = x;
            }
            Expr::Apply(Op::Cos(_), args) => break (Wave::Cos, args.first()?),
            Expr::Apply(Op::Sin(_), args) => break (Wave::Sin, args.first()?),
            _ => return None,
        }
    };
    if at.dtype != DType::F32 {
        return None;
    }
    let mut factors = Vec::new();
    let mut angle_scale = 1.0;
    flatten(angle, &mut factors, &mut angle_scale)?;
    let [a, b] = factors.as_slice() else {
        return None;
    };
    let (pos, freq) = if as_position(a).is_some() {
        (a, b)
    } else {
        (b, a)
    };
    let pos = as_position(pos)?;
    let (freqs, freq_axis, pairing) = frequency(freq)?;
    let mut axes = pos.axes.iter();
    let seq_axis = match (axes.next(), axes.next()) {
        (None, _) => None,
        (Some((axis, step)), None) if step.is(1) && *axis != freq_axis => Some(*axis),
        _ => return None,
    };
    let mut scalars = pos.scalars.iter();
    let offset = match (scalars.next(), scalars.next()) {
        (None, _) => None,
        (Some((k, 1)), None) => Some(k.clone()),
        _ => return None,
    };
    Some(Rotary {
        wave,
        seq_axis,
        offset,
        constant: pos.constant.clone(),
        freq_axis,
        freqs,
        pairing,
        angle_scale,
        amplitude,
        dtype,
    })
}

fn literal_factor<K: Key>(args: &[Arc<Form<K>>]) -> Option<(&Arc<Form<K>>, f64)> {
    let [a, b] = args else { return None };
    match (a.literal(), b.literal()) {
        (_, Some(c)) => Some((a, c.as_f64())),
        (Some(c), _) => Some((b, c.as_f64())),
        _ => None,
    }
}

/// The factors of a product of `f32`, literals multiplied together.
fn flatten<'a, K: Key>(
    form: &'a Arc<Form<K>>,
    factors: &mut Vec<&'a Arc<Form<K>>>,
    scale: &mut f64,
) -> Option<()> {
    if factors.len() > 2 || form.dtype != DType::F32 {
        return None;
    }
    match &form.expr {
        Expr::Literal(c) => *scale *= c.as_f64(),
        Expr::Apply(Op::Mul(_), args) => {
            args.iter().try_for_each(|a| flatten(a, factors, scale))?
        }
        Expr::Apply(Op::Div(_), args) => {
            *scale /= args.get(1)?.literal()?.as_f64();
            flatten(args.first()?, factors, scale)?;
        }
        _ => factors.push(form),
    }
    Some(())
}

/// A position cast to `f32`.
fn as_position<K: Key>(form: &Arc<Form<K>>) -> Option<Position<K>> {
    match &form.expr {
        Expr::Apply(Op::Cast(_), args) if args.first()?.dtype.is_int() => position(args.first()?),
        _ => None,
    }
}

/// An element of a vector of frequencies, chosen by the index along one axis.
fn frequency<K: Key>(form: &Arc<Form<K>>) -> Option<(K, usize, Pairing)> {
    let Expr::Element(key, index) = &form.uncast().expr else {
        return None;
    };
    let mut wide = index.iter().filter(|i| i.literal() != Some(Scalar::Int(0)));
    let (Some(along), None) = (wide.next(), wide.next()) else {
        return None;
    };
    let (axis, pairing) = match &along.expr {
        Expr::Index(axis) => (*axis, Pairing::Once),
        Expr::Apply(op, args) => {
            let Expr::Index(axis) = args.first()?.expr else {
                return None;
            };
            let by = args.get(1)?.as_dim()?;
            match op {
                Op::Remainder(_) => (axis, Pairing::Halves { half: by }),
                Op::FloorDiv(_) if by.is(2) => (axis, Pairing::Neighbours),
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((key.clone(), axis, pairing))
}
