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
    /// The position: an integer that doesn't depend on the index along `freq_axis`.
    pub position: Arc<Form<K>>,
    /// The axis along which frequencies lie.
    pub freq_axis: usize,
    /// Frequency n, as a function of n = `i0`. It is cast to `f32` before it is used.
    pub freqs: Arc<Form<K>>,
    /// How the index chooses a frequency.
    pub pairing: Pairing,
    /// A number that the angle is multiplied by, 1 where there is none.
    pub angle_scale: f64,
    /// A number that the result is multiplied by, 1 where there is none.
    pub amplitude: f64,
    /// The dtype that the table is rounded to. The angle is always computed in `f32`.
    pub dtype: DType,
}

/// Recognises a rotary table: integers, times frequencies that depend on the index along one other axis, in `f32`, through a sine or cosine.
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
    let (position, freq) = match (as_position(a), as_position(b)) {
        (Some(position), _) => (position, b),
        (None, Some(position)) => (position, a),
        (None, None) => return None,
    };
    let (freqs, freq_axis, pairing) = frequency(freq)?;
    (!position.depends_on(freq_axis)).then_some(())?;
    Some(Rotary {
        wave,
        position: position.clone(),
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

/// The integer that is cast to `f32`. Narrower ones wrap where positions don't.
fn as_position<K: Key>(form: &Arc<Form<K>>) -> Option<&Arc<Form<K>>> {
    match &form.expr {
        Expr::Apply(Op::Cast(_), args) => args
            .first()
            .filter(|x| matches!(x.dtype, DType::I32 | DType::I64)),
        _ => None,
    }
}

/// Frequency n as a function of `i0`, the one axis that chooses n, and how.
fn frequency<K: Key>(form: &Arc<Form<K>>) -> Option<(Arc<Form<K>>, usize, Pairing)> {
    let mut axes = (0..form.reach()).filter(|a| form.depends_on(*a));
    let (axis, None) = (axes.next()?, axes.next()) else {
        return None;
    };
    let mut pairing = None;
    let freqs = chosen(form.uncast(), axis, &mut pairing)?;
    Some((freqs, axis, pairing?))
}

/// The form with what the index along `axis` chooses as `i0`, where it is the same choice everywhere.
fn chosen<K: Key>(
    form: &Arc<Form<K>>,
    axis: usize,
    pairing: &mut Option<Pairing>,
) -> Option<Arc<Form<K>>> {
    let mut choose = |by: Pairing| {
        let same = pairing.get_or_insert_with(|| by.clone()) == &by;
        same.then(|| Form::index(0))
    };
    match &form.expr {
        Expr::Index(a) if *a == axis => choose(Pairing::Once),
        Expr::Apply(op @ (Op::Remainder(_) | Op::FloorDiv(_)), args)
            if args.first().is_some_and(|a| a.expr == Expr::Index(axis)) =>
        {
            let by = args.get(1)?.as_dim()?;
            match op {
                Op::Remainder(_) => choose(Pairing::Halves { half: by }),
                _ if by.is(2) => choose(Pairing::Neighbours),
                _ => None,
            }
        }
        Expr::Apply(..) | Expr::Element(..) => {
            form.with_args(&mut |arg| chosen(arg, axis, pairing))
        }
        _ => Some(form.clone()),
    }
}
