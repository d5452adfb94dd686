//! Building forms, with the arithmetic of integers carried out where it is exact.

use super::{Expr, Form, Key, position};
use fuseline_ir::ops::pointwise as p;
use fuseline_ir::{DType, Dim, Flag, Op, Scalar, TensorType};
use std::sync::Arc;

/// From an argument to another one, or to none.
type Change<'a, K> = dyn FnMut(&Arc<Form<K>>) -> Option<Arc<Form<K>>> + 'a;

impl<K: Key> Form<K> {
    fn new(dtype: DType, expr: Expr<K>) -> Arc<Form<K>> {
        let size = match &expr {
            Expr::Element(_, args) | Expr::Apply(_, args) => {
                args.iter().fold(1usize, |n, a| n.saturating_add(a.size))
            }
            _ => 1,
        };
        Arc::new(Form { dtype, expr, size })
    }

    /// The index along an axis.
    pub fn index(axis: usize) -> Arc<Form<K>> {
        Form::new(DType::I64, Expr::Index(axis))
    }

    /// A number, as `dtype` holds it.
    pub fn number(dtype: DType, value: Scalar) -> Arc<Form<K>> {
        Form::new(dtype, Expr::Literal(value.cast(dtype)))
    }

    /// A symbolic integer, of an integer dtype.
    pub fn dim(dtype: DType, dim: &Dim) -> Arc<Form<K>> {
        match dim.as_const() {
            Some(n) => Form::number(dtype, Scalar::Int(n)),
            None => Form::new(dtype, Expr::Dim(dim.clone())),
        }
    }

    /// The element of an opaque tensor of type `ty` at its own index. Only for tensors that are (nearly) vectors: at most one axis isn't of size 1, or the elements are
    /// integers or bools and the rank is at most 2.
    pub fn element(key: K, ty: &TensorType) -> Option<Arc<Form<K>>> {
        let wide = crate::shapes::wide_axes(&ty.shape);
        if wide > 1 && (ty.dtype.is_float() || ty.rank() > 2) {
            return None;
        }
        if wide == 0 {
            return Some(Form::new(ty.dtype, Expr::Scalar(key)));
        }
        let index = ty.shape.iter().enumerate().map(|(a, d)| {
            if d.is(1) {
                Form::number(DType::I64, Scalar::Int(0))
            } else {
                Form::index(a)
            }
        });
        Some(Form::new(ty.dtype, Expr::Element(key, index.collect())))
    }

    /// A pointwise op applied to elements; `dtype` is its result's. Casts that change nothing disappear, literals are cast, and integer sums, differences and products
    /// with literals are carried out, as are remainders, magnitudes and signs of literals.
    pub fn apply(op: &Op, dtype: DType, args: Vec<Arc<Form<K>>>) -> Arc<Form<K>> {
        debug_assert!(op.info().has(Flag::Pointwise));
        match (op, args.as_slice()) {
            (Op::Cast(_), [x]) if x.dtype == dtype => return x.clone(),
            (Op::Cast(_), [x]) if x.literal().is_some() => {
                return x
                    .literal()
                    .map_or_else(|| x.clone(), |s| Form::number(dtype, s));
            }
            (Op::Add(_) | Op::Sub(_) | Op::Mul(_), [a, b])
                if matches!(dtype, DType::I64 | DType::I32) =>
            {
                if let Some(done) = integer(op, dtype, a, b) {
                    return done;
                }
            }
            (Op::FloorDiv(_) | Op::Remainder(_), [x, by]) if strided(x, by).is_some() => {
                if let Some((index, rest)) = strided(x, by) {
                    return match op {
                        Op::FloorDiv(_) => index.clone(),
                        _ => Form::number(dtype, Scalar::Int(rest)),
                    };
                }
            }
            (Op::Abs(_) | Op::Sign(_) | Op::Remainder(_), [x, by @ ..]) if dtype == DType::I64 => {
                let by = by.first().map_or(Some(Scalar::Int(1)), |b| b.literal());
                if let (Some(Scalar::Int(n)), Some(Scalar::Int(by @ 1..))) = (x.literal(), by) {
                    let value = match op {
                        Op::Abs(_) => n.wrapping_abs(),
                        Op::Sign(_) => n.signum(),
                        _ => n.rem_euclid(by),
                    };
                    return Form::number(dtype, Scalar::Int(value));
                }
            }
            _ => {
                let known = match op {
                    Op::Cast(_) if dtype != DType::Bool => None,
                    _ => truth(op, &args),
                };
                if let Some(done) = known {
                    return done;
                }
            }
        }
        Form::new(dtype, Expr::Apply(op.clone(), args))
    }

    /// The form with each index along an axis replaced; `f` gives an `i64` form for each axis that occurs.
    pub fn substitute(self: &Arc<Self>, f: &dyn Fn(usize) -> Arc<Form<K>>) -> Arc<Form<K>> {
        match &self.expr {
            Expr::Index(axis) => Form::apply(
                &Op::Cast(p::Cast { dtype: self.dtype }),
                self.dtype,
                vec![f(*axis)],
            ),
            Expr::Literal(_) | Expr::Dim(_) | Expr::Scalar(_) => self.clone(),
            Expr::Element(k, args) => {
                let args = args.iter().map(|a| a.substitute(f)).collect();
                Form::new(self.dtype, Expr::Element(k.clone(), args))
            }
            Expr::Apply(op, args) => Form::apply(
                op,
                self.dtype,
                args.iter().map(|a| a.substitute(f)).collect(),
            ),
        }
    }

    /// The form where the index along `axis` is below `len`: comparisons that this decides are gone.
    pub(super) fn within(self: &Arc<Self>, axis: usize, len: i64) -> Arc<Form<K>> {
        if let Expr::Apply(Op::Lt(_), args) = &self.expr
            && let [a, b] = args.as_slice()
            && let Some(Scalar::Int(end)) = b.literal()
        {
            let (index, from) = moved(a).unwrap_or((a, 0));
            let known = match from.checked_add(len) {
                _ if index.expr != Expr::Index(axis) => None,
                _ if from >= end => Some(false),
                Some(stop) if stop <= end => Some(true),
                _ => None,
            };
            if let Some(known) = known {
                return Form::number(DType::Bool, Scalar::Bool(known));
            }
        }
        let inner = self.with_args(&mut |arg| Some(arg.within(axis, len)));
        inner.unwrap_or_else(|| self.clone())
    }

    /// The form with other arguments, as `f` gives them; `None` where it gives none. A form without arguments stays.
    pub(super) fn with_args(&self, f: &mut Change<'_, K>) -> Option<Arc<Form<K>>> {
        let mut all = |args: &[Arc<Form<K>>]| args.iter().map(&mut *f).collect::<Option<Vec<_>>>();
        Some(match &self.expr {
            Expr::Element(k, args) => Form::new(self.dtype, Expr::Element(k.clone(), all(args)?)),
            Expr::Apply(op, args) => Form::apply(op, self.dtype, all(args)?),
            leaf => Form::new(self.dtype, leaf.clone()),
        })
    }

    /// The form with opaque tensors under other names.
    pub fn renamed(&self, name: &dyn Fn(&K) -> K) -> Arc<Form<K>> {
        let args = |args: &[Arc<Form<K>>]| args.iter().map(|a| a.renamed(name)).collect();
        let expr = match &self.expr {
            Expr::Scalar(k) => Expr::Scalar(name(k)),
            Expr::Element(k, index) => Expr::Element(name(k), args(index)),
            Expr::Apply(op, of) => Expr::Apply(op.clone(), args(of)),
            leaf => leaf.clone(),
        };
        Form::new(self.dtype, expr)
    }

    /// Whether an integer form is certainly not negative.
    pub fn not_negative(&self) -> bool {
        match &self.expr {
            Expr::Index(_) => true,
            Expr::Literal(s) => s.as_f64() >= 0.0,
            Expr::Apply(Op::Add(_) | Op::Mul(_), args) => args.iter().all(|a| a.not_negative()),
            Expr::Apply(Op::FloorDiv(_) | Op::Remainder(_), args) => {
                args.iter().all(|a| a.not_negative())
                    && args
                        .get(1)
                        .is_some_and(|b| b.literal().is_some_and(|s| s.as_f64() > 0.0))
            }
            _ => false,
        }
    }
}

/// Integer arithmetic with what is known: exact, since a ring's laws hold modulo 2ⁿ.
fn integer<K: Key>(
    op: &Op,
    dtype: DType,
    a: &Arc<Form<K>>,
    b: &Arc<Form<K>>,
) -> Option<Arc<Form<K>>> {
    let is = |f: &Arc<Form<K>>, n: i64| f.literal() == Some(Scalar::Int(n));
    match op {
        Op::Add(_) if is(a, 0) => return Some(b.clone()),
        Op::Add(_) | Op::Sub(_) if is(b, 0) => return Some(a.clone()),
        Op::Mul(_) if is(a, 1) || is(b, 0) => return Some(b.clone()),
        Op::Mul(_) if is(b, 1) || is(a, 0) => return Some(a.clone()),
        _ => {}
    }
    if let (Some(Scalar::Int(x)), Some(Scalar::Int(y))) = (a.literal(), b.literal()) {
        let n = match op {
            Op::Add(_) => x.wrapping_add(y),
            Op::Sub(_) => x.wrapping_sub(y),
            _ => x.wrapping_mul(y),
        };
        return Some(Form::number(dtype, Scalar::Int(n)));
    }
    if let (Op::Add(_) | Op::Sub(_), Some(Scalar::Int(y))) = (op, b.literal())
        && let Some((x, moved)) = moved(a)
    {
        let by = match op {
            Op::Add(_) => moved.wrapping_add(y),
            _ => moved.wrapping_sub(y),
        };
        let by = Form::number(dtype, Scalar::Int(by));
        return Some(Form::apply(&Op::Add(p::Add {}), dtype, vec![x.clone(), by]));
    }
    if let Op::Sub(_) = op
        && let Some((d, _)) = distance(a, b)
    {
        return Some(Form::dim(dtype, &d));
    }
    let (x, y) = (a.as_dim()?, b.as_dim()?);
    let d = match op {
        Op::Add(_) => &x + &y,
        Op::Sub(_) => &x - &y,
        _ => &x * &y,
    };
    Some(Form::dim(dtype, &d))
}

/// An `i64` form that is `n·i + c` with `0 ≤ c < n`, where `n` is that number: `i` and `c`, its quotient and remainder.
fn strided<'f, K: Key>(
    form: &'f Arc<Form<K>>,
    by: &Arc<Form<K>>,
) -> Option<(&'f Arc<Form<K>>, i64)> {
    let Some(Scalar::Int(n @ 1..)) = by.literal() else {
        return None;
    };
    let (product, rest) = moved(form).unwrap_or((form, 0));
    let Expr::Apply(Op::Mul(_), factors) = &product.expr else {
        return None;
    };
    let [index, times] = factors.as_slice() else {
        return None;
    };
    let fits = form.dtype == DType::I64
        && times.literal() == Some(Scalar::Int(n))
        && (0..n).contains(&rest);
    // An index times a size stays within the array; other integers may wrap.
    (fits && matches!(index.expr, Expr::Index(_))).then_some((index, rest))
}

/// What a number is added to, and the number.
fn moved<K: Key>(form: &Arc<Form<K>>) -> Option<(&Arc<Form<K>>, i64)> {
    let Expr::Apply(op @ (Op::Add(_) | Op::Sub(_)), args) = &form.expr else {
        return None;
    };
    match (op, args.first()?, args.get(1)?.literal()?) {
        (Op::Add(_), x, Scalar::Int(by)) => Some((x, by)),
        (_, x, Scalar::Int(by)) => Some((x, by.wrapping_neg())),
        _ => None,
    }
}

/// `a − b` of integers, where it is the same at every index; and whether it depends on sizes and indices alone, which stay far from the ends of their dtype.
fn distance<K: Key>(a: &Arc<Form<K>>, b: &Arc<Form<K>>) -> Option<(Dim, bool)> {
    if a == b {
        return Some((Dim::from(0i64), true));
    }
    // A number differs from an index by no constant.
    if a.literal().is_some() || b.literal().is_some() {
        return None;
    }
    let (a, b) = (position(a)?, position(b)?);
    let bounded = a.scalars.is_empty() && b.scalars.is_empty();
    let d = a.minus(b);
    (d.scalars.is_empty() && d.axes.is_empty()).then_some((d.constant, bounded))
}

/// Truth values that are known: comparisons of integers with a known distance, logical ops with a known operand, choices by a known condition, or between two
/// values that are the same where the condition picks them.
fn truth<K: Key>(op: &Op, args: &[Arc<Form<K>>]) -> Option<Arc<Form<K>>> {
    let known = |f: &Arc<Form<K>>| match f.literal() {
        Some(Scalar::Bool(t)) => Some(t),
        _ => None,
    };
    let bool = |t: bool| Some(Form::number(DType::Bool, Scalar::Bool(t)));
    match (op, args) {
        (Op::Eq(_) | Op::Ne(_) | Op::Lt(_) | Op::Le(_) | Op::Gt(_) | Op::Ge(_), [a, b])
            if b.literal().is_some() && chosen_number(a).is_some() =>
        {
            let (c, x, y) = chosen_number(a)?;
            let order = |x: Scalar| x.as_f64().partial_cmp(&b.literal()?.as_f64());
            let holds = |x: Scalar| {
                Some(match (op, order(x)) {
                    (Op::Eq(_), o) => o.is_some_and(|o| o.is_eq()),
                    (Op::Ne(_), o) => o.is_none_or(|o| o.is_ne()),
                    (Op::Lt(_), o) => o.is_some_and(|o| o.is_lt()),
                    (Op::Le(_), o) => o.is_some_and(|o| o.is_le()),
                    (Op::Gt(_), o) => o.is_some_and(|o| o.is_gt()),
                    (_, o) => o.is_some_and(|o| o.is_ge()),
                })
            };
            chosen_truth(c, holds(x)?, holds(y)?)
        }
        (Op::Cast(_), [a]) if a.dtype != DType::Bool => {
            let (c, x, y) = chosen_number(a)?;
            chosen_truth(c, x.as_f64() != 0.0, y.as_f64() != 0.0)
        }
        (Op::Eq(_) | Op::Ne(_) | Op::Lt(_) | Op::Le(_) | Op::Gt(_) | Op::Ge(_), [a, b])
            if a.dtype.is_int() =>
        {
            let order = match (a.literal(), b.literal()) {
                (Some(Scalar::Int(x)), Some(Scalar::Int(y))) if a.dtype != DType::U64 => x.cmp(&y),
                _ => {
                    let (d, bounded) = distance(a, b)?;
                    // x < x + 1 fails at the largest integer; x ≠ x + 1 doesn't.
                    let wraps = !bounded && !matches!(op, Op::Eq(_) | Op::Ne(_));
                    d.as_const().filter(|d| *d == 0 || !wraps)?.cmp(&0)
                }
            };
            bool(match op {
                Op::Eq(_) => order.is_eq(),
                Op::Ne(_) => order.is_ne(),
                Op::Lt(_) => order.is_lt(),
                Op::Le(_) => order.is_le(),
                Op::Gt(_) => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        (Op::LogicalNot(_), [a]) => bool(!known(a)?),
        (Op::LogicalAnd(_), [a, b]) if a.dtype == DType::Bool && b.dtype == DType::Bool => {
            match (known(a), known(b)) {
                (Some(false), _) | (_, Some(true)) => Some(a.clone()),
                (_, Some(false)) | (Some(true), _) => Some(b.clone()),
                _ => None,
            }
        }
        (Op::LogicalOr(_), [a, b]) if a.dtype == DType::Bool && b.dtype == DType::Bool => {
            match (known(a), known(b)) {
                (Some(true), _) | (_, Some(false)) => Some(a.clone()),
                (_, Some(true)) | (Some(false), _) => Some(b.clone()),
                _ => None,
            }
        }
        (Op::Where(_), [c, a, b]) => match known(c) {
            Some(true) => Some(a.clone()),
            Some(false) => Some(b.clone()),
            None if a == b => Some(a.clone()),
            None if a.dtype == DType::Bool && known(a).is_some() && known(b).is_some() => {
                chosen_truth(c, known(a)?, known(b)?)
            }
            None => first_element(c, a, b).then(|| b.clone()),
        },
        _ => None,
    }
}

/// A choice between two numbers, not of 64-bit integers that a float doesn't hold: the condition and both.
fn chosen_number<K: Key>(f: &Arc<Form<K>>) -> Option<(&Arc<Form<K>>, Scalar, Scalar)> {
    match (&f.expr, f.dtype) {
        (_, DType::I64 | DType::U64) => None,
        (Expr::Apply(Op::Where(_), args), _) => {
            let [c, x, y] = args.as_slice() else {
                return None;
            };
            Some((c, x.literal()?, y.literal()?))
        }
        // A truth value as a number.
        (Expr::Apply(Op::Cast(_), args), _) => {
            let c = args.first().filter(|c| c.dtype == DType::Bool)?;
            Some((c, Scalar::Int(1), Scalar::Int(0)))
        }
        _ => None,
    }
}

/// The truth value that is `x` where the condition holds and `y` elsewhere.
fn chosen_truth<K: Key>(c: &Arc<Form<K>>, x: bool, y: bool) -> Option<Arc<Form<K>>> {
    Some(match (x, y) {
        (true, false) => c.clone(),
        (false, true) => Form::apply(
            &Op::LogicalNot(p::LogicalNot {}),
            DType::Bool,
            vec![c.clone()],
        ),
        _ => Form::number(DType::Bool, Scalar::Bool(x)),
    })
}

/// Whether the condition is `iₐ < 1`, so that it picks `a` at index 0 only, and `b` has the same value there.
fn first_element<K: Key>(c: &Arc<Form<K>>, a: &Arc<Form<K>>, b: &Arc<Form<K>>) -> bool {
    let Expr::Apply(Op::Lt(_), args) = &c.expr else {
        return false;
    };
    let [index, one] = args.as_slice() else {
        return false;
    };
    let Expr::Index(axis) = index.expr else {
        return false;
    };
    let at_zero = |f: &Arc<Form<K>>| {
        f.substitute(&|x| {
            if x == axis {
                Form::number(DType::I64, Scalar::Int(0))
            } else {
                Form::index(x)
            }
        })
    };
    one.literal() == Some(Scalar::Int(1)) && at_zero(a) == at_zero(b)
}

/// `a + b` of indices.
pub fn add<K: Key>(a: Arc<Form<K>>, b: Arc<Form<K>>) -> Arc<Form<K>> {
    Form::apply(&Op::Add(p::Add {}), DType::I64, vec![a, b])
}

/// `a − d` of an index and a size.
pub fn sub<K: Key>(a: Arc<Form<K>>, d: &Dim) -> Arc<Form<K>> {
    Form::apply(
        &Op::Sub(p::Sub {}),
        DType::I64,
        vec![a, Form::dim(DType::I64, d)],
    )
}

/// `a · d` of an index and a size.
pub fn mul<K: Key>(a: Arc<Form<K>>, d: &Dim) -> Arc<Form<K>> {
    Form::apply(
        &Op::Mul(p::Mul {}),
        DType::I64,
        vec![a, Form::dim(DType::I64, d)],
    )
}

/// `⌊a / d⌋` of an index and a size.
pub fn floor_div<K: Key>(a: Arc<Form<K>>, d: &Dim) -> Arc<Form<K>> {
    if d.is(1) {
        return a;
    }
    Form::apply(
        &Op::FloorDiv(p::FloorDiv {}),
        DType::I64,
        vec![a, Form::dim(DType::I64, d)],
    )
}

/// `a mod d` of an index and a size.
pub fn modulo<K: Key>(a: Arc<Form<K>>, d: &Dim) -> Arc<Form<K>> {
    Form::apply(
        &Op::Remainder(p::Remainder {}),
        DType::I64,
        vec![a, Form::dim(DType::I64, d)],
    )
}

/// `a < d` of an index and a size.
pub fn below<K: Key>(a: Arc<Form<K>>, d: &Dim) -> Arc<Form<K>> {
    Form::apply(
        &Op::Lt(p::Lt {}),
        DType::Bool,
        vec![a, Form::dim(DType::I64, d)],
    )
}
