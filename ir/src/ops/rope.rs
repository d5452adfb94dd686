//! Rotary position embedding.

use super::create::{Arange, Full, IntTensor};
use super::movement::{Cat, Reshape, Slice, check_args};
use super::pointwise::{Add, Cast, Cos, Exp, Mul, Reciprocal, Sin, Sub};
use super::table::Op;
use super::util::{fail, tensor};
use super::{EvalCx, OpImpl};
use crate::attr::Scalar;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

pub use super::table::Rope;

impl Rope {
    fn half(&self) -> usize {
        self.dims / 2
    }

    /// The flat positions, in a row of x, of the two elements of pair j.
    fn pair(&self, j: usize) -> (usize, usize) {
        if self.traditional {
            (2 * j, 2 * j + 1)
        } else {
            (j, j + self.half())
        }
    }

    /// For each pair the period that the position is divided by.
    fn periods(&self, freqs: Option<&Tensor>) -> Vec<f64> {
        match (freqs, self.base) {
            (Some(freqs), _) => freqs.to_f64(),
            (None, Some(base)) => {
                let exponent = |j: usize| (2 * j) as f64 / self.dims as f64;
                (0..self.half())
                    .map(|j| base.get().powf(exponent(j)))
                    .collect()
            }
            (None, None) => vec![],
        }
    }
}

/// What the offset says about positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// One number, to which rows add their own.
    FromOne,
    /// One number for each of the batch.
    FromEach,
    /// The position of each row itself: nothing is counted.
    Listed,
}

impl Counted {
    /// Of an offset that [`Rope::infer`](OpImpl::infer) takes.
    fn by(offset: &Type) -> Counted {
        match offset {
            Type::Tensor(t) if t.rank() > 1 => Counted::Listed,
            Type::Tensor(t) if t.rank() == 1 && !t.shape[0].is(1) => Counted::FromEach,
            _ => Counted::FromOne,
        }
    }
}

/// The elements of a tensor of shape `from`, repeated over shape `to` along the axes of size 1.
fn spread(data: &[f64], from: &[usize], to: &[usize]) -> Vec<f64> {
    let mut out = vec![0];
    let mut inner: usize = from.iter().product();
    for (own, n) in from.iter().zip(to) {
        inner = inner.checked_div(*own).unwrap_or(0);
        let step = if *own == 1 { 0 } else { inner };
        out = out
            .iter()
            .flat_map(|at| (0..*n).map(move |i| at + i * step))
            .collect();
    }
    out.iter().map(|at| data[*at]).collect()
}

impl OpImpl for Rope {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        if !x.dtype.is_float() || x.rank() < 2 {
            return fail(format!("takes floats of 2 axes at least, not {x}"));
        }
        let width = x.shape[x.rank() - 1]
            .as_const()
            .and_then(|n| usize::try_from(n).ok());
        if self.dims == 0 || !self.dims.is_multiple_of(2) || width.is_none_or(|n| self.dims > n) {
            return fail(format!(
                "dims {} of {x} must be even and within a last axis of fixed size",
                self.dims
            ));
        }
        match args.get(1) {
            Some(Type::Int(_)) => {}
            _ => {
                let offset = tensor(args, 1)?;
                let fits = match offset.shape.as_slice() {
                    [] => true,
                    [n] => n.is(1) || (x.rank() > 2 && *n == x.shape[0]),
                    listed => {
                        let over = &x.shape[..x.rank() - 1];
                        let fits = |(n, of): (&Dim, &Dim)| n.is(1) || n == of;
                        listed.len() == over.len() && listed.iter().zip(over).all(fits)
                    }
                };
                if !fits || !offset.dtype.is_int() {
                    return fail(format!(
                        "the offset {offset} is neither one integer, nor one for each of the batch of {x}, nor one for each row"
                    ));
                }
            }
        }
        match (args.len() > 2, self.base) {
            (true, None) => {
                let freqs = tensor(args, 2)?;
                let needed = TensorType::new(DType::F32, vec![self.half().into()]);
                if *freqs != needed {
                    return fail(format!("freqs are {freqs}, not {needed}"));
                }
            }
            (false, Some(_)) => {}
            _ => return fail("takes either freqs or a base"),
        }
        Ok(Type::Tensor(x.clone()))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, offset, rest @ ..] = args else {
            return fail("takes x and an offset");
        };
        let [.., rows, width] = *x.shape() else {
            return fail("takes 2 axes at least");
        };
        let counted = Counted::by(cx.args[1]);
        let mut offsets = offset.to_f64();
        if counted == Counted::Listed {
            let lead = &x.shape()[..x.shape().len() - 1];
            offsets = spread(&offsets, offset.shape(), lead);
        }
        let periods = self.periods(rest.first().copied());
        let mut out = x.to_f64();
        let lines = out.len().checked_div(width).unwrap_or(0);
        for (line, row) in out.chunks_exact_mut(width.max(1)).enumerate() {
            let position = match counted {
                Counted::Listed => offsets[line],
                _ => offsets[line * offsets.len() / lines] + (line % rows) as f64,
            };
            for (j, period) in periods.iter().enumerate() {
                let (sin, cos) = (self.scale.get() * position / period).sin_cos();
                let (a, b) = self.pair(j);
                (row[a], row[b]) = (row[a] * cos - row[b] * sin, row[a] * sin + row[b] * cos);
            }
        }
        Ok(vec![Tensor::floats(x.dtype(), x.shape().to_vec(), out)?])
    }

    /// In f32 at least, whatever the dtype of x.
    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let [x, offset, rest @ ..] = args else {
            return fail("takes x and an offset");
        };
        let ty = graph.tensor_ty(*x)?.clone();
        let offset_ty = graph.ty(*offset).clone();
        let rank = ty.rank();
        if rank < 2 {
            return fail(format!("takes 2 axes at least, not {ty}"));
        }
        let dtype = if ty.dtype == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        let half = Dim::from(self.half());
        let mut add = |op: Op, args: &[Value]| graph.add(op, args, &Loc::default());
        let number = |value: f64, dtype: DType| Full {
            value: Scalar::float(value),
            ty: TensorType::new(dtype, vec![]),
        };
        let range = |len: &Dim| Arange {
            start: 0i64.into(),
            step: 1i64.into(),
            len: len.clone(),
            dtype: DType::I64,
        };

        // Positions offset + s: [S, 1], or [B, 1, …, S, 1]; or those that are listed.
        let counted = Counted::by(&offset_ty);
        let offset = match &offset_ty {
            Type::Tensor(own) => {
                let one = Dim::from(1i64);
                let shape = match counted {
                    Counted::FromOne => vec![],
                    Counted::FromEach => {
                        let first = std::iter::once(ty.shape[0].clone());
                        first.chain(vec![one; rank - 1]).collect()
                    }
                    Counted::Listed => own.shape.iter().cloned().chain([one]).collect(),
                };
                let offset = add(Cast { dtype: DType::I64 }.into(), &[*offset])?;
                add(Reshape { shape }.into(), &[offset])?
            }
            _ => add(IntTensor { dtype: DType::I64 }.into(), &[*offset])?,
        };
        let positions = if counted == Counted::Listed {
            offset
        } else {
            let rows = &ty.shape[rank - 2];
            let steps = add(range(rows).into(), &[])?;
            let shape = vec![rows.clone(), 1i64.into()];
            let steps = add(Reshape { shape }.into(), &[steps])?;
            add(Add {}.into(), &[steps, offset])?
        };
        let mut angles = add(Cast { dtype: DType::F32 }.into(), &[positions])?;
        if self.scale.get() != 1.0 {
            let scale = add(number(self.scale.get(), DType::F32).into(), &[])?;
            angles = add(Mul {}.into(), &[angles, scale])?;
        }

        // Angles: [.., S, dims/2].
        let turns = match (rest.first(), self.base) {
            (Some(freqs), _) => add(Reciprocal {}.into(), &[*freqs])?,
            (None, Some(base)) => {
                let j = add(range(&half).into(), &[])?;
                let j = add(Cast { dtype: DType::F32 }.into(), &[j])?;
                let rate = add(
                    number(-2.0 * base.get().ln() / self.dims as f64, DType::F32).into(),
                    &[],
                )?;
                let exponent = add(Mul {}.into(), &[j, rate])?;
                add(Exp {}.into(), &[exponent])?
            }
            (None, None) => return fail("takes either freqs or a base"),
        };
        let mut angles = add(Mul {}.into(), &[angles, turns])?;
        if dtype != DType::F32 {
            angles = add(Cast { dtype }.into(), &[angles])?;
        }
        let (cos, sin) = (
            add(Cos {}.into(), &[angles])?,
            add(Sin {}.into(), &[angles])?,
        );

        let mut part = |x: Value, start: usize, stop: Dim, step: i64| {
            let slice = Slice {
                axis: rank - 1,
                start: start.into(),
                stop,
                step,
            };
            add(slice.into(), &[x])
        };
        let dims = Dim::from(self.dims);
        let (first, second) = if self.traditional {
            (part(*x, 0, dims.clone(), 2)?, part(*x, 1, dims.clone(), 2)?)
        } else {
            (
                part(*x, 0, half.clone(), 1)?,
                part(*x, self.half(), dims.clone(), 1)?,
            )
        };
        let whole = &ty.shape[rank - 1];
        let others = if *whole == dims {
            None
        } else {
            Some(part(*x, self.dims, whole.clone(), 1)?)
        };
        let mut wide = |v: Value| {
            if dtype == ty.dtype {
                Ok(v)
            } else {
                add(Cast { dtype }.into(), &[v])
            }
        };
        let (first, second) = (wide(first)?, wide(second)?);
        let mut product = |a: Value, b: Value| add(Mul {}.into(), &[a, b]);
        let (a, b) = (product(first, cos)?, product(second, sin)?);
        let (c, d) = (product(first, sin)?, product(second, cos)?);
        let mut turned = [add(Sub {}.into(), &[a, b])?, add(Add {}.into(), &[c, d])?];

        let mut shape = ty.shape.clone();
        shape[rank - 1] = dims;
        let mut out = if self.traditional {
            // Neighbours: the two halves become the columns of a new last axis.
            let mut column = shape.clone();
            column[rank - 1] = half;
            column.push(1i64.into());
            for v in &mut turned {
                *v = add(
                    Reshape {
                        shape: column.clone(),
                    }
                    .into(),
                    &[*v],
                )?;
            }
            let pairs = add(Cat { axis: rank }.into(), &turned)?;
            add(Reshape { shape }.into(), &[pairs])?
        } else {
            add(Cat { axis: rank - 1 }.into(), &turned)?
        };
        if dtype != ty.dtype {
            out = add(Cast { dtype: ty.dtype }.into(), &[out])?;
        }
        match others {
            Some(others) => Ok(Some(add(Cat { axis: rank - 1 }.into(), &[out, others])?)),
            None => Ok(Some(out)),
        }
    }

    /// The target wants three axes at least, and counts rows itself.
    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let x = tensor(cx.args, 0)?;
        let listed = cx.args.get(1).map(|ty| Counted::by(ty)) == Some(Counted::Listed);
        if x.rank() < 3 || listed {
            return Ok(Lowering::Decompose);
        }
        let inst = Inst::new("Rope")
            .tensor("x", Operand::Arg(0))
            .out()
            .int("dims", self.dims as i64)
            .with("offset", Field::Value(Operand::Arg(1)))
            .tensor_if(cx.args.len() > 2, "freqs", Operand::Arg(2))
            .with("traditional", Field::Bool(self.traditional))
            .with("scale", Field::Float(self.scale.get()));
        let inst = match self.base {
            Some(base) => inst.with("base", Field::Float(base.get())),
            None => inst,
        };
        Ok(Lowering::Insts(vec![inst]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::F64;
    use std::collections::BTreeMap;

    fn rope(dims: usize, traditional: bool, base: Option<f64>) -> Rope {
        Rope {
            dims,
            traditional,
            base: base.map(F64::new),
            scale: F64::new(0.5),
        }
    }

    fn type_of(t: &Tensor) -> Type {
        Type::tensor(t.dtype(), t.shape().iter().map(|&n| n.into()).collect())
    }

    fn wave(shape: &[usize]) -> Tensor {
        Tensor::from_fn(DType::F32, shape.to_vec(), |i| {
            Scalar::float((i as f64 * 0.7).sin())
        })
        .unwrap()
    }

    fn offsets(values: &[i64]) -> Tensor {
        Tensor::ints(DType::I32, vec![values.len()], values.to_vec()).unwrap()
    }

    fn run(op: &Rope, args: &[&Tensor], decomposed: bool) -> Result<Vec<f64>, OpError> {
        let types: Vec<Type> = args.iter().map(|t| type_of(t)).collect();
        let types: Vec<&Type> = types.iter().collect();
        let out = op.infer(&types)?;
        let symbols = BTreeMap::new();
        let cx = EvalCx {
            symbols: &symbols,
            args: &types,
            out: &out,
        };
        let result = if decomposed {
            crate::eval::eval_decomposed(&op.clone().into(), &cx, args)?
        } else {
            op.eval(&cx, args)?
        };
        assert_eq!(type_of(&result[0]), out);
        Ok(result[0].to_f64())
    }

    #[test]
    fn means_what_its_decomposition_means() {
        let freqs = Tensor::floats(DType::F32, vec![2], vec![1.0, 7.5]).unwrap();
        for shape in [&[3, 6][..], &[2, 3, 6], &[2, 2, 3, 4], &[2, 1, 2, 3, 6]] {
            let x = wave(shape);
            let many = offsets(&[5, 40]);
            let one = offsets(&[7]);
            for traditional in [false, true] {
                // A position for each row, the same for all heads.
                let mut rows = shape[..shape.len() - 1].to_vec();
                if let [_, heads @ .., _] = rows.as_mut_slice() {
                    heads.fill(1);
                }
                let n = rows.iter().product::<usize>() as i64;
                let data = (0..n).map(|i| (i * 7) % 11).collect();
                let rows = Tensor::ints(DType::I64, rows, data).unwrap();
                for offset in [&one, &many, &rows] {
                    if shape.len() == 2 && offset.len() > 1 {
                        continue;
                    }
                    let based = rope(4, traditional, Some(100.0));
                    let listed = rope(4, traditional, None);
                    for (op, args) in [
                        (based, vec![&x, offset]),
                        (listed, vec![&x, offset, &freqs]),
                    ] {
                        let a = run(&op, &args, false).unwrap();
                        let b = run(&op, &args, true).unwrap();
                        assert!(
                            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4),
                            "{op:?} {shape:?}: {a:?} {b:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn turns_pairs_and_leaves_the_rest() {
        let x = Tensor::floats(DType::F32, vec![1, 1, 5], vec![1.0, 2.0, 0.0, 0.0, 9.0]).unwrap();
        let quarter = Tensor::floats(
            DType::F32,
            vec![2],
            vec![2.0 / std::f64::consts::PI, f64::INFINITY],
        )
        .unwrap();
        let scaled = Rope {
            scale: F64::new(1.0),
            ..rope(4, false, None)
        };
        let near = |op: &Rope, expected: [f64; 5]| {
            let out = run(op, &[&x, &offsets(&[1]), &quarter], false).unwrap();
            assert!(
                out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6),
                "{out:?}"
            );
        };
        near(&scaled, [0.0, 2.0, 1.0, 0.0, 9.0]);
        let neighbours = Rope {
            traditional: true,
            ..scaled
        };
        near(&neighbours, [-2.0, 1.0, 0.0, 0.0, 9.0]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (x, one) = (wave(&[2, 3, 6]), offsets(&[0]));
        for dims in [0, 3, 8] {
            assert!(run(&rope(dims, false, Some(10.0)), &[&x, &one], false).is_err());
        }
        assert!(run(&rope(4, false, None), &[&x, &one], false).is_err());
        assert!(
            run(
                &rope(4, false, Some(10.0)),
                &[&x, &offsets(&[0, 1, 2])],
                false
            )
            .is_err()
        );
        assert!(run(&rope(4, false, Some(10.0)), &[&x, &wave(&[1])], false).is_err());
        let freqs = wave(&[2]);
        assert!(run(&rope(4, false, Some(10.0)), &[&x, &one, &freqs], false).is_err());
        assert!(run(&rope(6, false, None), &[&x, &one, &freqs], false).is_err());
        let matrix = wave(&[2, 6]);
        assert!(
            run(
                &rope(6, false, Some(10.0)),
                &[&matrix, &offsets(&[0, 1])],
                false
            )
            .is_err()
        );
    }

    #[test]
    fn an_integer_serves_as_the_offset() {
        let op = rope(4, false, Some(10.0));
        let x = type_of(&wave(&[1, 2, 4]));
        assert_eq!(
            op.infer(&[&x, &Type::Int(Dim::symbol("u0"))]),
            Ok(x.clone())
        );
        assert!(op.infer(&[&x, &Type::Tuple(vec![])]).is_err());
    }
}
