//! Building the IR in the small: one function per op that handlers combine, each of which leaves out what does nothing.

use std::sync::Arc;

use fuseline_ir::ops::table as op;
use fuseline_ir::{DType, Dim, Flag, Graph, Loc, Op, Range, Scalar, TensorType, Value};

use super::error::{Result, invalid, unsupported};

/// The most elements of a table that an operator is computed with: a transform of 8192 points has as many.
const MOST_IN_A_TABLE: i64 = 1 << 26;

/// The graph under construction, and the place that new values belong to.
#[derive(Debug)]
pub(super) struct Builder {
    /// The graph.
    pub graph: Graph,
    /// Where values that are added now come from.
    pub loc: Loc,
}

impl Builder {
    /// Applies any op. Sizes that must be one for the op to be possible, though the algebra doesn't see it, are taken for one; the graph requires that they are.
    pub fn add(&mut self, op: impl Into<Op>, args: &[Value]) -> Result<Value> {
        let op = op.into();
        // Of what is not computed position by position, the first argument has sizes of its own.
        let own = match &op {
            Op::ScatterAdd(_) => 1,
            op if op.info().flags.contains(&Flag::Pointwise) => 0,
            _ => return Ok(self.graph.add(op, args, &self.loc)?),
        };
        match self.graph.add(op.clone(), args, &self.loc) {
            Ok(value) => Ok(value),
            Err(error) => match self.aligned(args, own)? {
                Some(args) => Ok(self.graph.add(op, &args, &self.loc)?),
                None => Err(error.into()),
            },
        }
    }

    /// The arguments with sizes at which they broadcast from the `own`-th on, if they differ in sizes that depend on symbols.
    fn aligned(&mut self, args: &[Value], own: usize) -> Result<Option<Vec<Value>>> {
        let mut args = args.to_vec();
        let mut shapes = Vec::new();
        for arg in &args {
            shapes.push(self.shape(*arg)?);
        }
        let rank = shapes.iter().skip(own).map(Vec::len).max().unwrap_or(0);
        let mut changed = false;
        for back in 1..=rank {
            let size = |shape: &Vec<Dim>| Some(shape[shape.len().checked_sub(back)?].clone());
            let sizes: Vec<Option<Dim>> = shapes.iter().map(size).collect();
            let symbols = &self.graph.symbols;
            let is_more = |d: &&Dim| {
                let range = d.range(symbols);
                (range.min, range.max) != (1, 1)
            };
            let wanted = sizes.iter().skip(own).flatten().find(is_more).cloned();
            let wanted = wanted.unwrap_or_else(|| 1i64.into());
            for (n, size) in sizes.into_iter().enumerate().skip(own) {
                let Some(size) = size.filter(|size| *size != wanted && !size.is(1)) else {
                    continue;
                };
                let axis = shapes[n].len() - back;
                match self.taken_for(args[n], axis, &size, &wanted)? {
                    Some(arg) => args[n] = arg,
                    None => return Ok(None),
                }
                changed = true;
            }
        }
        Ok(changed.then_some(args))
    }

    /// `x` with an axis of `size` taken for one of length 1, where that is all that it can be, or else for one of `wanted`; nothing where it can be neither.
    fn taken_for(
        &mut self,
        x: Value,
        axis: usize,
        size: &Dim,
        wanted: &Dim,
    ) -> Result<Option<Value>> {
        let range = size.range(&self.graph.symbols);
        let new = match (range.min, range.max) {
            (1, 1) => Dim::from(1i64),
            _ if size.as_const().is_some() && wanted.as_const().is_some() => return Ok(None),
            _ => wanted.clone(),
        };
        self.graph.require(&(size - &new), Range { min: 0, max: 0 });
        self.slice(x, axis, 0i64.into(), new).map(Some)
    }

    /// The type of a tensor.
    pub fn ty(&self, value: Value) -> Result<&TensorType> {
        Ok(self.graph.tensor_ty(value)?)
    }

    /// The element type of a tensor.
    pub fn dtype(&self, value: Value) -> Result<DType> {
        Ok(self.ty(value)?.dtype)
    }

    /// The sizes of a tensor.
    pub fn shape(&self, value: Value) -> Result<Vec<Dim>> {
        Ok(self.ty(value)?.shape.clone())
    }

    /// The number of axes of a tensor.
    pub fn rank(&self, value: Value) -> Result<usize> {
        Ok(self.ty(value)?.rank())
    }

    /// An axis given as PyTorch counts it: negative from the end; a 0-d tensor has axis 0 and -1.
    pub fn axis(&self, value: Value, axis: i64) -> Result<usize> {
        wrap_axis(axis, self.rank(value)?)
    }

    /// `x` converted to `dtype`.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Result<Value> {
        if self.dtype(x)? == dtype {
            return Ok(x);
        }
        self.add(op::Cast { dtype }, &[x])
    }

    /// A tensor that is `value` everywhere.
    pub fn full(&mut self, value: Scalar, dtype: DType, shape: Vec<Dim>) -> Result<Value> {
        self.add(
            op::Full {
                value: value.cast(dtype),
                ty: TensorType::new(dtype, shape),
            },
            &[],
        )
    }

    /// A number as a 0-d tensor.
    pub fn scalar(&mut self, value: Scalar, dtype: DType) -> Result<Value> {
        self.full(value, dtype, Vec::new())
    }

    /// Refuses a matrix that is too large to be a constant, before anything is computed for it.
    pub fn check_table([rows, columns]: [i64; 2]) -> Result<()> {
        let all = rows.checked_mul(columns);
        if all.is_none_or(|all| all > MOST_IN_A_TABLE) {
            return unsupported(format!("a table of {rows} times {columns} elements"));
        }
        Ok(())
    }

    /// A constant matrix of floats whose element is `f(row, column)`. Tables of one name, shape and dtype are one constant.
    pub fn table(
        &mut self,
        name: &str,
        dtype: DType,
        [rows, columns]: [i64; 2],
        f: impl Fn(i64, i64) -> f64,
    ) -> Result<Value> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return unsupported(format!("a table of {dtype}"));
        }
        Self::check_table([rows, columns])?;
        let mut bytes = Vec::new();
        for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
            let value = f(row, column);
            if dtype == DType::F64 {
                bytes.extend(value.to_le_bytes());
            } else {
                bytes.extend((value as f32).to_le_bytes());
            }
        }
        let ty = TensorType::new(dtype, vec![rows.into(), columns.into()]);
        let name = format!("<{name} {rows}x{columns} {dtype}>");
        Ok(self.graph.constant(name, ty, Some(Arc::new(bytes)))?)
    }

    /// A floating-point number as a 0-d tensor.
    pub fn float(&mut self, value: f64, dtype: DType) -> Result<Value> {
        self.scalar(Scalar::float(value), dtype)
    }

    /// `start, start + step, …`, `len` elements.
    pub fn arange(&mut self, start: Dim, step: Dim, len: Dim, dtype: DType) -> Result<Value> {
        self.add(
            op::Arange {
                start,
                step,
                len,
                dtype,
            },
            &[],
        )
    }

    /// `x` under another shape.
    pub fn reshape(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value> {
        if self.ty(x)?.shape == shape {
            return Ok(x);
        }
        self.add(op::Reshape { shape }, &[x])
    }

    /// The ops that give a tensor of type `ty` this shape, which is known to be its own though the algebra of sizes need not see it: axis by axis, all of the elements up to the
    /// size that is wanted.
    pub fn relabelled(ty: &TensorType, shape: &[Dim]) -> Vec<Op> {
        let numel = |shape: &[Dim]| shape.iter().fold(Dim::from(1i64), |n, d| &n * d);
        if ty.numel() == numel(shape) {
            let shape = shape.to_vec();
            return vec![op::Reshape { shape }.into()];
        }
        let axes = ty.shape.iter().zip(shape).enumerate();
        let differ = axes.filter(|(_, (own, wanted))| own != wanted);
        let slice = |(axis, (_, wanted)): (usize, (&Dim, &Dim))| op::Slice {
            axis,
            start: Dim::from(0i64),
            stop: wanted.clone(),
            step: 1,
        };
        differ.map(|one| slice(one).into()).collect()
    }

    /// `x` with its axes in another order: axis i of the result is axis `perm[i]`.
    pub fn transpose(&mut self, x: Value, perm: Vec<usize>) -> Result<Value> {
        if perm.iter().copied().eq(0..perm.len()) && perm.len() == self.rank(x)? {
            return Ok(x);
        }
        self.add(op::Transpose { perm }, &[x])
    }

    /// `x` with two axes exchanged.
    pub fn swap(&mut self, x: Value, a: usize, b: usize) -> Result<Value> {
        let mut perm: Vec<usize> = (0..self.rank(x)?).collect();
        if a.max(b) >= perm.len() {
            let rank = perm.len();
            return invalid(format!("axes {a} and {b} of a {rank}-d tensor"));
        }
        perm.swap(a, b);
        self.transpose(x, perm)
    }

    /// `x` broadcast to `shape`.
    pub fn broadcast(&mut self, x: Value, shape: Vec<Dim>) -> Result<Value> {
        if self.ty(x)?.shape == shape {
            return Ok(x);
        }
        let own = self.shape(x)?;
        let mut x = x;
        if let Some(lead) = shape.len().checked_sub(own.len()) {
            for (axis, (size, wanted)) in own.iter().zip(&shape[lead..]).enumerate() {
                if size != wanted && !size.is(1) {
                    x = self.taken_for(x, axis, size, wanted)?.unwrap_or(x);
                }
            }
        }
        self.add(op::Broadcast { shape }, &[x])
    }

    /// `x` with a new axis of size 1.
    pub fn unsqueeze(&mut self, x: Value, axis: usize) -> Result<Value> {
        let mut shape = self.shape(x)?;
        shape.insert(axis.min(shape.len()), Dim::from(1i64));
        self.reshape(x, shape)
    }

    /// Elements `start .. stop` of an axis.
    pub fn slice(&mut self, x: Value, axis: usize, start: Dim, stop: Dim) -> Result<Value> {
        if start.is(0) && self.ty(x)?.shape.get(axis) == Some(&stop) {
            return Ok(x);
        }
        self.add(
            op::Slice {
                axis,
                start,
                stop,
                step: 1,
            },
            &[x],
        )
    }

    /// Tensors one after the other along an axis.
    pub fn cat(&mut self, xs: &[Value], axis: usize) -> Result<Value> {
        match xs {
            [one] => Ok(*one),
            _ => self.add(op::Cat { axis }, xs),
        }
    }

    /// Applies a binary op to a tensor and a number of the tensor's dtype.
    pub fn with_float(&mut self, op: impl Into<Op>, x: Value, number: f64) -> Result<Value> {
        let number = self.float(number, self.dtype(x)?)?;
        self.add(op, &[x, number])
    }

    /// a + b.
    pub fn plus(&mut self, a: Value, b: Value) -> Result<Value> {
        self.add(op::Add {}, &[a, b])
    }

    /// a − b.
    pub fn minus(&mut self, a: Value, b: Value) -> Result<Value> {
        self.add(op::Sub {}, &[a, b])
    }

    /// a · b.
    pub fn times(&mut self, a: Value, b: Value) -> Result<Value> {
        self.add(op::Mul {}, &[a, b])
    }

    /// a / b.
    pub fn over(&mut self, a: Value, b: Value) -> Result<Value> {
        self.add(op::Div {}, &[a, b])
    }

    /// `x[..] = value` where `cond` holds.
    pub fn select(&mut self, cond: Value, then: Value, otherwise: Value) -> Result<Value> {
        self.add(op::Where {}, &[cond, then, otherwise])
    }
}

/// An axis as PyTorch counts it, checked.
pub(super) fn wrap_axis(axis: i64, rank: usize) -> Result<usize> {
    let bound = i64::try_from(rank.max(1)).unwrap_or(i64::MAX);
    let wrapped = if axis < 0 {
        axis.saturating_add(bound)
    } else {
        axis
    };
    match usize::try_from(wrapped) {
        Ok(axis) if wrapped < bound => Ok(axis),
        _ => invalid(format!("axis {axis} of a tensor with {rank} axes")),
    }
}

#[cfg(test)]
mod tests {
    use super::Builder;
    use fuseline_ir::ops::table as op;
    use fuseline_ir::{DType, Dim, Graph, Loc, Range, TensorType};

    /// Sizes that a model's arithmetic makes one without the algebra seeing it: `min(s, 9)` for `s` of at most 9 rows, and a size that can only be 1.
    #[test]
    fn sizes_that_must_be_one_are_taken_for_one_and_required() {
        let mut graph = Graph::new("forward");
        let s = Dim::symbol("s");
        graph.declare_symbol("s", Range { min: 2, max: 20 });
        let one = &Dim::from(1i64) - &Dim::from(0i64).maximum(&(&Dim::from(1i64) - &s));
        let cut = s.minimum(&9i64.into());
        let ty = |shape: Vec<Dim>| TensorType::new(DType::F32, shape);
        let x = graph.input("x", ty(vec![s.clone(), s.clone()])).unwrap();
        let y = graph.input("y", ty(vec![one, cut.clone()])).unwrap();
        let z = graph.input("z", ty(vec![3i64.into()])).unwrap();
        let mut build = Builder {
            graph,
            loc: Loc::default(),
        };
        let sum = build.add(op::Add {}, &[x, y]).unwrap();
        assert_eq!(build.shape(sum).unwrap(), [s.clone(), s.clone()]);
        let required = |build: &Builder| {
            let all = build.graph.requirements.iter();
            let open = all.filter(|one| !one.follows_from(&build.graph.symbols));
            open.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(required(&build), [format!("{} in 0..=0", &cut - &s)]);
        let wide = build.broadcast(z, vec![2i64.into(), s.clone()]).unwrap();
        assert_eq!(build.shape(wide).unwrap(), [2i64.into(), s]);
        assert_eq!(required(&build)[1], "s in 3..=3");
        let five = build.table("t", DType::F32, [1, 5], |_, _| 0.0).unwrap();
        assert!(build.add(op::Add {}, &[z, five]).is_err());
    }
}
