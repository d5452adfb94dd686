//! Convolutions, channels last.
//!
//! Both ops read x as `[N, spatial…, C]` and weights as `[O, kernel…, C / groups]`, one to three spatial axes: the target's layout, so that no transposition hides in
//! a lowering.

use super::movement::{check_args, safe_strides};
use super::pointwise::{Takes, arg, floats, same_dtype};
pub use super::table::{Conv, ConvTranspose};
use super::util::{fail, for_each_index, tensor};
use super::{EvalCx, OpImpl};
use crate::dim::Dim;
use crate::error::OpError;
use crate::lower::{Inst, LowerCx, Lowering};
use crate::tensor::{Tensor, numel};
use crate::types::{TensorType, Type};

/// What both ops say per spatial axis.
struct Axes<'a> {
    stride: &'a [usize],
    padding: &'a [usize],
    dilation: &'a [usize],
    groups: usize,
}

/// The arguments' types, checked against each other and the attributes; with the sizes of the kernel.
fn checked<'a>(
    args: &[&'a Type],
    axes: &Axes<'_>,
) -> Result<(&'a TensorType, &'a TensorType, Vec<usize>), OpError> {
    let (x, w) = (tensor(args, 0)?, tensor(args, 1)?);
    same_dtype(x, w)?;
    Takes::Floats.check(x.dtype)?;
    let n = axes.stride.len();
    if !(1..=3).contains(&n) || x.rank() != n + 2 || w.rank() != n + 2 {
        return fail(format!("{x} and {w} with {n} spatial axes"));
    }
    if axes.padding.len() != n || axes.dilation.len() != n {
        return fail("stride, padding and dilation differ in length");
    }
    let limit =
        |values: &[usize], least: usize| values.iter().all(|v| (least..=1 << 20).contains(v));
    if !limit(axes.stride, 1)
        || !limit(axes.dilation, 1)
        || !limit(axes.padding, 0)
        || axes.groups == 0
    {
        return fail("a stride, dilation, padding or number of groups is out of range");
    }
    let groups = Dim::from(axes.groups);
    if &w.shape[n + 1] * &groups != x.shape[n + 1] {
        return fail(format!(
            "{} channels of weights in {groups} groups for {} channels",
            w.shape[n + 1],
            x.shape[n + 1]
        ));
    }
    if w.shape[0]
        .as_const()
        .is_some_and(|o| o.rem_euclid(axes.groups as i64) != 0)
    {
        return fail(format!("{} results in {groups} groups", w.shape[0]));
    }
    let kernel = w.shape[1..=n].iter().map(|k| {
        k.as_const()
            .and_then(|k| usize::try_from(k).ok())
            .filter(|k| (1..=1 << 20).contains(k))
    });
    match kernel.collect() {
        Some(kernel) => Ok((x, w, kernel)),
        None => fail(format!("the kernel of {w} is not of known, positive size")),
    }
}

impl Conv {
    fn axes(&self) -> Axes<'_> {
        Axes {
            stride: &self.stride,
            padding: &self.padding,
            dilation: &self.dilation,
            groups: self.groups,
        }
    }
}

impl ConvTranspose {
    fn axes(&self) -> Axes<'_> {
        Axes {
            stride: &self.stride,
            padding: &self.padding,
            dilation: &self.dilation,
            groups: self.groups,
        }
    }
}

/// The type of the result with these spatial sizes.
fn result(x: &TensorType, w: &TensorType, spatial: Vec<Dim>) -> Result<Type, OpError> {
    if let Some(size) = spatial.iter().find(|d| d.as_const().is_some_and(|n| n < 0)) {
        return fail(format!("a result of size {size}"));
    }
    let mut shape = vec![x.shape[0].clone()];
    shape.extend(spatial);
    shape.push(w.shape[0].clone());
    Ok(Type::tensor(x.dtype, shape))
}

/// Calls `f(x position, kernel index, group)` sums: for each result element, the products of x and w that make it.
///
/// `source(axis, out, k)` is the position of x that kernel position k of a result position reads, if there is one.
fn eval_conv(
    cx: &EvalCx<'_>,
    args: &[&Tensor],
    groups: usize,
    source: impl Fn(usize, usize, usize) -> Option<usize>,
) -> Result<Vec<Tensor>, OpError> {
    check_args(cx, args)?;
    let (x, w) = (arg(args, 0)?, arg(args, 1)?);
    let (data, weights) = (floats(x)?, floats(w)?);
    let out = cx.out_shape()?;
    let n = out.len() - 2;
    let (x_strides, w_strides) = (safe_strides(x.shape()), safe_strides(w.shape()));
    let per_group = w.shape()[n + 1];
    let outs_per_group = (w.shape()[0] / groups.max(1)).max(1);
    let kernel = w.shape()[1..=n].to_vec();
    let mut values = Vec::with_capacity(numel(&out)?);
    for_each_index(&out, |_, at| {
        let channel = at[n + 1];
        let first = channel / outs_per_group * per_group;
        let mut sum = 0.0;
        for_each_index(&kernel, |_, k| {
            let mut from = at[0] * x_strides[0] + first * x_strides[n + 1];
            let mut weight = channel * w_strides[0];
            for axis in 0..n {
                match source(axis, at[axis + 1], k[axis]) {
                    Some(position) if position < x.shape()[axis + 1] => {
                        from += position * x_strides[axis + 1]
                    }
                    _ => return,
                }
                weight += k[axis] * w_strides[axis + 1];
            }
            for c in 0..per_group {
                sum += data[from + c] * weights[weight + c];
            }
        });
        values.push(sum);
    });
    Ok(vec![Tensor::floats(x.dtype(), out, values)?])
}

/// The instruction of that name for the number of spatial axes, with each list of attributes spread over the target's field names.
fn instruction(
    names: [&'static str; 3],
    lists: &[(&[usize], [&'static str; 4])],
    axes: &Axes<'_>,
) -> Result<Lowering, OpError> {
    let n = axes.stride.len();
    let Some(node) = names.get(n.wrapping_sub(1)) else {
        return fail(format!("{n} spatial axes"));
    };
    let mut inst = Inst::new(node)
        .tensor("x", crate::lower::Operand::Arg(0))
        .tensor("w", crate::lower::Operand::Arg(1))
        .out();
    for (values, [one, depth, height, width]) in lists {
        let fields: &[&'static str] = match n {
            1 => &[one],
            2 => &[height, width],
            _ => &[depth, height, width],
        };
        for (field, value) in fields.iter().zip(*values) {
            inst = inst.int(field, *value as i64);
        }
    }
    Ok(Lowering::Insts(vec![
        inst.int("groups", axes.groups as i64),
    ]))
}

const STRIDE: [&str; 4] = ["stride", "stride_d", "stride_h", "stride_w"];
const PADDING: [&str; 4] = ["padding", "padding_d", "padding_h", "padding_w"];
const DILATION: [&str; 4] = ["dilation", "dilation_d", "dilation_h", "dilation_w"];
const OUTPUT_PADDING: [&str; 4] = [
    "output_padding",
    "output_padding_d",
    "output_padding_h",
    "output_padding_w",
];

impl OpImpl for Conv {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, w, kernel) = checked(args, &self.axes())?;
        let spatial = (0..kernel.len()).map(|i| {
            let reach =
                2 * self.padding[i] as i64 - (self.dilation[i] * (kernel[i] - 1)) as i64 - 1;
            let span = &x.shape[i + 1] + &Dim::from(reach);
            &span.floor_div(&Dim::from(self.stride[i])) + &Dim::from(1i64)
        });
        result(x, w, spatial.collect())
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_conv(cx, args, self.groups, |axis, out, k| {
            (out * self.stride[axis] + k * self.dilation[axis]).checked_sub(self.padding[axis])
        })
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let lists: [(&[usize], _); 3] = [
            (&self.stride, STRIDE),
            (&self.padding, PADDING),
            (&self.dilation, DILATION),
        ];
        instruction(["Conv1D", "Conv2D", "Conv3D"], &lists, &self.axes())
    }
}

impl OpImpl for ConvTranspose {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, w, kernel) = checked(args, &self.axes())?;
        if self.output_padding.len() != kernel.len()
            || self.output_padding.iter().any(|p| *p > 1 << 20)
        {
            return fail("output_padding differs in length or is out of range");
        }
        let spatial = (0..kernel.len()).map(|i| {
            let before = &(&x.shape[i + 1] - &Dim::from(1i64)) * &Dim::from(self.stride[i]);
            let reach = (self.dilation[i] * (kernel[i] - 1) + self.output_padding[i] + 1) as i64;
            &before + &Dim::from(reach - 2 * self.padding[i] as i64)
        });
        result(x, w, spatial.collect())
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        eval_conv(cx, args, self.groups, |axis, out, k| {
            let spread = (out + self.padding[axis]).checked_sub(k * self.dilation[axis])?;
            spread
                .is_multiple_of(self.stride[axis])
                .then(|| spread / self.stride[axis])
        })
    }

    fn lower(&self, _: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let lists: [(&[usize], _); 4] = [
            (&self.stride, STRIDE),
            (&self.padding, PADDING),
            (&self.dilation, DILATION),
            (&self.output_padding, OUTPUT_PADDING),
        ];
        instruction(
            ["ConvTranspose1D", "ConvTranspose2D", "ConvTranspose3D"],
            &lists,
            &self.axes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::pointwise::testing::*;
    use super::*;

    fn conv(stride: usize, padding: usize, dilation: usize, groups: usize) -> Conv {
        Conv {
            stride: vec![stride],
            padding: vec![padding],
            dilation: vec![dilation],
            groups,
        }
    }

    #[test]
    fn strides_padding_and_dilation() {
        let x = f(&[1, 5, 1], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let w = f(&[1, 3, 1], &[1.0, 10.0, 100.0]);
        let at = |c| run(c, &[&x, &w]).unwrap().to_f64();
        assert_eq!(at(conv(1, 0, 1, 1)), [321.0, 432.0, 543.0]);
        assert_eq!(at(conv(2, 1, 1, 1)), [210.0, 432.0, 54.0]);
        assert_eq!(at(conv(1, 0, 2, 1)), [531.0]);
        assert!(run(conv(1, 0, 1, 2), &[&x, &w]).is_err());
        assert!(run(conv(0, 0, 1, 1), &[&x, &w]).is_err());
    }

    #[test]
    fn groups_see_their_own_channels() {
        let x = f(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let w = f(&[2, 1, 2], &[1.0, 1.0, 10.0, 10.0]);
        assert_eq!(
            run(conv(1, 0, 1, 2), &[&x, &w]).unwrap().to_f64(),
            [3.0, 70.0]
        );
    }

    #[test]
    fn a_transposed_convolution_spreads_what_a_convolution_gathers() {
        let op = ConvTranspose {
            stride: vec![2],
            padding: vec![0],
            dilation: vec![1],
            output_padding: vec![1],
            groups: 1,
        };
        let x = f(&[1, 2, 1], &[1.0, 2.0]);
        let w = f(&[1, 3, 1], &[1.0, 10.0, 100.0]);
        assert_eq!(
            run(op, &[&x, &w]).unwrap().to_f64(),
            [1.0, 10.0, 102.0, 20.0, 200.0, 0.0]
        );
    }

    #[test]
    fn two_axes_lower_by_name() {
        let op = Conv {
            stride: vec![1, 2],
            padding: vec![0, 1],
            dilation: vec![1, 1],
            groups: 1,
        };
        let x = type_of(&f(&[1, 3, 3, 1], &[0.0; 9]));
        let w = type_of(&f(&[2, 1, 1, 1], &[0.0; 2]));
        assert_eq!(nodes(&lowered(op, &[x, w]).unwrap()), ["Conv2D"]);
    }
}
