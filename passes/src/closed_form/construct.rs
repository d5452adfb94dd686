//! Building forms, with the arithmetic of integers carried out where it is exact.

use super::{Expr, Form, Key};
use fuseline_ir::ops::pointwise as p;
use fuseline_ir::{DType, Dim, Flag, Op, Scalar, TensorType};
use std::sync::Arc;

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
    /// with literals are carried out.
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
            _ => {}
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
    let (x, y) = (a.as_dim()?, b.as_dim()?);
    let d = match op {
        Op::Add(_) => &x + &y,
        Op::Sub(_) => &x - &y,
        _ => &x * &y,
    };
    Some(Form::dim(dtype, &d))
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
