//! Sliding windows.

use super::movement::{check_args, check_axes, safe_strides};
pub use super::table::Window;
use super::util::{fail, for_each_index, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::error::OpError;
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Tensor, numel};
use crate::types::{Shape, Type};

impl Window {
    /// Refuses lists that don't belong together.
    fn check(&self, rank: usize) -> Result<(), OpError> {
        check_axes(&self.axes, rank)?;
        let n = self.axes.len();
        if self.sizes.len() != n || self.steps.len() != n || self.dilations.len() != n {
            return fail("axes, sizes, steps and dilations differ in length");
        }
        let lists = [&self.sizes, &self.steps, &self.dilations];
        if lists
            .iter()
            .any(|list| list.iter().any(|v| !(1..=1 << 20).contains(v)))
        {
            return fail("a size, step or dilation is out of range");
        }
        Ok(())
    }

    /// The strides of x's axes in units of x's own row-major strides, and those of the new axes.
    fn strides<T: Clone>(&self, own: &[T], times: impl Fn(&T, usize) -> T) -> Vec<T> {
        let mut strides = own.to_vec();
        for (axis, step) in self.axes.iter().zip(&self.steps) {
            strides[*axis] = times(&own[*axis], *step);
        }
        for (axis, dilation) in self.axes.iter().zip(&self.dilations) {
            strides.push(times(&own[*axis], *dilation));
        }
        strides
    }
}

impl OpImpl for Window {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        self.check(x.rank())?;
        let mut shape = x.shape.clone();
        for (i, &axis) in self.axes.iter().enumerate() {
            let reach = (self.sizes[i] - 1) * self.dilations[i] + 1;
            let span = &shape[axis] - &Dim::from(reach);
            if span.as_const().is_some_and(|n| n < 0) {
                return fail(format!(
                    "windows of {reach} positions in an axis of {}",
                    shape[axis]
                ));
            }
            shape[axis] = &span.floor_div(&Dim::from(self.steps[i])) + &Dim::from(1i64);
        }
        shape.extend(self.sizes.iter().map(|&size| Dim::from(size)));
        Ok(Type::tensor(x.dtype, shape))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x] = args else {
            return fail("takes one tensor");
        };
        self.check(x.shape().len())?;
        let shape = cx.out_shape()?;
        let strides = self.strides(&safe_strides(x.shape()), |stride, by| stride * by);
        let mut picks = Vec::with_capacity(numel(&shape)?);
        for_each_index(&shape, |_, index| {
            picks.push(
                index
                    .iter()
                    .zip(&strides)
                    .map(|(i, stride)| i * stride)
                    .sum(),
            );
        });
        Ok(vec![x.pick(shape, picks.into_iter())?])
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let x = tensor(cx.args, 0)?;
        let out: Shape = tensor(&[cx.out], 0)?.shape.clone();
        let mut own = vec![Dim::from(1i64); x.rank()];
        for axis in (1..x.rank()).rev() {
            own[axis - 1] = &own[axis] * &x.shape[axis];
        }
        let strides = self.strides(&own, |stride, by| stride * &Dim::from(by));
        // Strides count elements of a row-major tensor, which a view need not be.
        let dense = Inst::new("Contiguous")
            .tensor("x", Operand::Arg(0))
            .tensor("out", Operand::Temp(0));
        let view = Inst::new("AsStrided")
            .tensor("x", Operand::Temp(0))
            .out()
            .with("shape", Field::Dims(out))
            .with("strides", Field::Dims(strides));
        Ok(Lowering::Insts(vec![dense, view]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::*;

    #[test]
    fn windows_of_one_and_two_axes() {
        let x = f(&[1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let one = Window {
            axes: vec![1],
            sizes: vec![2],
            steps: vec![2],
            dilations: vec![2],
        };
        assert_eq!(
            run(one.clone(), &[&x]).unwrap(),
            f(&[1, 2, 2], &[1.0, 3.0, 3.0, 5.0])
        );
        assert_eq!(
            nodes(&lowered(one, &[type_of(&x)]).unwrap()),
            ["Contiguous", "AsStrided"]
        );
        let grid = f(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let two = Window {
            axes: vec![0, 1],
            sizes: vec![2, 2],
            steps: vec![1, 1],
            dilations: vec![1, 1],
        };
        assert_eq!(
            run(two, &[&grid]).unwrap(),
            f(&[1, 2, 2, 2], &[1.0, 2.0, 4.0, 5.0, 2.0, 3.0, 5.0, 6.0])
        );
    }

    #[test]
    fn windows_wider_than_the_axis_are_refused() {
        let wide = Window {
            axes: vec![0],
            sizes: vec![3],
            steps: vec![1],
            dilations: vec![2],
        };
        assert!(run(wide, &[&f(&[4], &[0.0; 4])]).is_err());
    }
}
