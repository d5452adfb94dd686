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
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
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

/// A convolution's instruction: a name for each number of spatial axes, and each list of attributes with its fields' names.
struct Target<'a> {
    names: [&'static str; 3],
    lists: &'a [(&'a [usize], [&'static str; 4])],
    groups: usize,
}

impl Target<'_> {
    fn rank(&self) -> usize {
        self.lists.first().map_or(0, |(values, _)| values.len())
    }

    /// The instruction over these operands, without the groups.
    fn inst(&self, x: Operand, w: Operand, out: Operand) -> Result<Inst, OpError> {
        let n = self.rank();
        let Some(node) = self.names.get(n.wrapping_sub(1)) else {
            return fail(format!("{n} spatial axes"));
        };
        let mut inst = Inst::new(node)
            .tensor("x", x)
            .tensor("w", w)
            .tensor("out", out);
        for (values, [one, depth, height, width]) in self.lists {
            let fields: &[&'static str] = match n {
                1 => &[one],
                2 => &[height, width],
                _ => &[depth, height, width],
            };
            for (field, value) in fields.iter().zip(*values) {
                inst = inst.int(field, *value as i64);
            }
        }
        Ok(inst)
    }

    /// The instructions that compute `out` from `x`. The target takes groups over one and two axes only: over three, each group is a convolution of its own.
    /// Temporaries are numbered from `temps`.
    fn insts(
        &self,
        w: &TensorType,
        x: Operand,
        out: Operand,
        temps: usize,
    ) -> Result<Vec<Inst>, OpError> {
        let (n, groups) = (self.rank(), self.groups);
        if n < 3 || groups == 1 {
            let inst = self.inst(x, Operand::Arg(1), out)?;
            return Ok(vec![inst.int("groups", groups as i64)]);
        }
        let (Some(ins), Some(outs)) = (w.shape[n + 1].as_const(), w.shape[0].as_const()) else {
            return fail(format!("the channels of {w} are not known"));
        };
        let part = |which: usize| -> Vec<Operand> {
            (0..groups)
                .map(|g| Operand::Temp(temps + which * groups + g))
                .collect()
        };
        let split = |x: Operand, which: usize, axis: usize, size: i64| {
            Inst::new("Split")
                .tensor("x", x)
                .with("outs", Field::Tensors(part(which)))
                .with("sizes", Field::Ints(vec![size; groups]))
                .int("axis", axis as i64)
        };
        let mut insts = vec![
            split(x, 0, n + 1, ins),
            split(Operand::Arg(1), 1, 0, outs / groups as i64),
        ];
        for ((x, w), out) in part(0).into_iter().zip(part(1)).zip(part(2)) {
            insts.push(self.inst(x, w, out)?);
        }
        insts.push(
            Inst::new("Concatenate")
                .with("tensors", Field::Tensors(part(2)))
                .tensor("out", out)
                .int("axis", (n + 1) as i64),
        );
        Ok(insts)
    }
}

/// Whether the target's CPU kernel for convolutions with groups or dilations is sound: over two and three axes it takes it that the result is at least as long as
/// what the padding before an axis covers, `before` of which is given for each axis in positions of the result.
fn fits(axes: &Axes<'_>, out: &TensorType, before: impl Fn(usize) -> usize) -> bool {
    let n = axes.stride.len();
    let direct = axes.groups == 1 && axes.dilation.iter().all(|d| *d == 1);
    let covers = |axis: usize| match (before(axis), out.shape[axis + 1].as_const()) {
        (0 | 1, _) => true,
        (before, Some(size)) => usize::try_from(size).is_ok_and(|size| before <= size),
        (_, None) => false,
    };
    n < 2 || direct || (0..n).all(covers)
}

/// Zeros around the spatial axes of argument 0.
fn padded(padding: &[usize], out: Operand) -> Inst {
    let widths = [0, 0].into_iter();
    let widths = widths
        .chain(padding.iter().flat_map(|p| [*p as i64; 2]))
        .chain([0, 0]);
    Inst::new("Pad")
        .tensor("x", Operand::Arg(0))
        .tensor("out", out)
        .with("pad_width", Field::Dims(widths.map(Dim::from).collect()))
        .with("mode", Field::Str("constant"))
        .with("constant_value", Field::Float(0.0))
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

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let (out, w) = (tensor(&[cx.out], 0)?, tensor(cx.args, 1)?);
        let none = vec![0; self.padding.len()];
        let fits = fits(&self.axes(), out, |axis| {
            self.padding[axis].div_ceil(self.stride[axis])
        });
        let lists: [(&[usize], _); 3] = [
            (&self.stride, STRIDE),
            (if fits { &self.padding } else { &none }, PADDING),
            (&self.dilation, DILATION),
        ];
        let target = Target {
            names: ["Conv1D", "Conv2D", "Conv3D"],
            lists: &lists,
            groups: self.groups,
        };
        if fits {
            let insts = target.insts(w, Operand::Arg(0), Operand::Out(0), 0)?;
            return Ok(Lowering::Insts(insts));
        }
        let mut insts = vec![padded(&self.padding, Operand::Temp(0))];
        insts.extend(target.insts(w, Operand::Temp(0), Operand::Out(0), 1)?);
        Ok(Lowering::Insts(insts))
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

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let (out, w) = (tensor(&[cx.out], 0)?, tensor(cx.args, 1)?);
        let n = self.stride.len();
        // With stride 1 it is a convolution with as much padding as the kernel reaches, less its own.
        let reach = |axis: usize| {
            let taps = w.shape[axis + 1].as_const().unwrap_or(1) as usize;
            self.dilation[axis] * taps.saturating_sub(1)
        };
        let fits = self.stride.iter().any(|s| *s > 1)
            || fits(&self.axes(), out, |axis| {
                reach(axis).saturating_sub(self.padding[axis])
            });
        let none = vec![0; n];
        let lists: [(&[usize], _); 4] = [
            (&self.stride, STRIDE),
            (if fits { &self.padding } else { &none }, PADDING),
            (&self.dilation, DILATION),
            (&self.output_padding, OUTPUT_PADDING),
        ];
        let target = Target {
            names: ["ConvTranspose1D", "ConvTranspose2D", "ConvTranspose3D"],
            lists: &lists,
            groups: self.groups,
        };
        if fits {
            let insts = target.insts(w, Operand::Arg(0), Operand::Out(0), 0)?;
            return Ok(Lowering::Insts(insts));
        }
        // All of the result, and then what the padding leaves of it.
        let mut insts = target.insts(w, Operand::Arg(0), Operand::Temp(0), n)?;
        for (axis, padding) in self.padding.iter().enumerate() {
            let last = axis + 1 == n;
            let start = Dim::from(*padding);
            let stop = &start + &out.shape[axis + 1];
            insts.push(
                Inst::new("Slice")
                    .tensor("x", Operand::Temp(axis))
                    .tensor(
                        "out",
                        if last {
                            Operand::Out(0)
                        } else {
                            Operand::Temp(axis + 1)
                        },
                    )
                    .int("axis", (axis + 1) as i64)
                    .with("start", Field::Dim(start))
                    .with("stop", Field::Dim(stop))
                    .int("step", 1),
            );
        }
        Ok(Lowering::Insts(insts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::*;

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

    #[test]
    fn three_axes_with_groups_are_one_convolution_each() {
        let op = |groups| Conv {
            stride: vec![1; 3],
            padding: vec![0; 3],
            dilation: vec![1; 3],
            groups,
        };
        let ty = |shape: [i64; 5]| {
            Type::tensor(
                crate::dtype::DType::F32,
                shape.iter().map(|&n| Dim::from(n)).collect(),
            )
        };
        let args = [ty([1, 4, 4, 4, 6]), ty([4, 2, 2, 2, 3])];
        assert_eq!(
            nodes(&lowered(op(2), &args).unwrap()),
            ["Split", "Split", "Conv3D", "Conv3D", "Concatenate"]
        );
        let args = [ty([1, 4, 4, 4, 6]), ty([4, 2, 2, 2, 6])];
        assert_eq!(nodes(&lowered(op(1), &args).unwrap()), ["Conv3D"]);
    }

    #[test]
    fn a_result_smaller_than_its_padding_is_padded_apart() {
        let op = |groups| Conv {
            stride: vec![1; 2],
            padding: vec![3; 2],
            dilation: vec![1; 2],
            groups,
        };
        let ty = |shape: [Dim; 4]| Type::tensor(crate::dtype::DType::F32, shape.to_vec());
        let n = |n: i64| Dim::from(n);
        let image = |size: Dim| ty([n(1), size.clone(), size, n(2)]);
        let weights = |ins| ty([n(2), n(7), n(7), n(ins)]);
        let of = |groups, size: Dim, ins| {
            nodes(&lowered(op(groups), &[image(size), weights(ins)]).unwrap())
        };
        assert_eq!(of(2, n(2), 1), ["Pad", "Conv2D"]);
        assert_eq!(of(2, Dim::symbol("s0"), 1), ["Pad", "Conv2D"]);
        assert_eq!(of(2, n(4), 1), ["Conv2D"]);
        assert_eq!(of(1, n(2), 2), ["Conv2D"]);
        let turned = ConvTranspose {
            stride: vec![1; 2],
            padding: vec![3; 2],
            dilation: vec![1; 2],
            output_padding: vec![0; 2],
            groups: 2,
        };
        assert_eq!(
            nodes(&lowered(turned, &[image(n(2)), weights(1)]).unwrap()),
            ["ConvTranspose2D", "Slice", "Slice"]
        );
    }
}
