//! Operators of complex tensors that are what their own handlers make of the parts: of each part alike, or of all choices of parts where the operator is a product.

use fuseline_ir::Value;
use fuseline_ir::ops::table as op;

use super::complex::{Pair, zeros};
use crate::import::call::{Call, Val};
use crate::import::error::{Fail, Result, unsupported};
use crate::import::{Importer, Out, Scope, dispatch};
use crate::pt2::exported::{Argument, OptionalTensor};

/// Operators whose result's parts are what they make of the argument's parts.
pub(super) fn acts_on_parts(operator: &str) -> bool {
    matches!(
        operator,
        "alias"
            | "detach"
            | "clone"
            | "contiguous"
            | "lift_fresh"
            | "lift_fresh_copy"
            | "resolve_conj"
            | "resolve_neg"
            | "view"
            | "_unsafe_view"
            | "view_copy"
            | "reshape"
            | "flatten"
            | "unflatten"
            | "unsqueeze"
            | "squeeze"
            | "transpose"
            | "swapaxes"
            | "t"
            | "permute"
            | "movedim"
            | "expand"
            | "repeat"
            | "tile"
            | "flip"
            | "roll"
            | "slice"
            | "narrow"
            | "select"
            | "unbind"
            | "split"
            | "split_with_sizes"
            | "chunk"
            | "cat"
            | "concat"
            | "stack"
            | "hstack"
            | "vstack"
            | "index"
            | "index_select"
            | "gather"
            | "embedding"
            | "sum"
            | "mean"
            | "cumsum"
            | "neg"
            | "diagonal"
            | "tril"
            | "triu"
            | "_neg_view"
            | "numpy_T"
            | "mT"
            | "pad"
            | "constant_pad_nd"
            | "diag_embed"
            | "diag"
            | "trace"
            | "take_along_dim"
            | "unfold"
            | "broadcast_to"
            | "expand_as"
            | "view_as"
            | "reshape_as"
            | "meshgrid"
            | "fft_fftshift"
            | "fft_ifftshift"
            | "index_put"
            | "_index_put_impl"
            | "copy"
            | "where"
            | "slice_scatter"
            | "select_scatter"
            | "diagonal_scatter"
            | "index_add"
            | "index_copy"
            | "index_fill"
            | "scatter"
            | "scatter_add"
            | "masked_fill"
            | "masked_scatter"
            | "fill"
            | "full_like"
            | "zeros_like"
            | "ones_like"
            | "empty_like"
            | "new_zeros"
            | "new_ones"
            | "new_empty"
            | "new_full"
            | "rot90"
            | "repeat_interleave"
            | "moveaxis"
            | "swapdims"
            | "unsafe_split"
            | "unsafe_chunk"
            | "block_diag"
    )
}

/// Whether an argument of this name holds elements: of a real one the imaginary parts are 0. The others say where or how.
fn holds_elements(name: &str) -> bool {
    matches!(
        name,
        "self"
            | "input"
            | "other"
            | "tensors"
            | "values"
            | "value"
            | "source"
            | "src"
            | "fill_value"
            | "s"
            | "x"
            | "A"
    )
}

/// A part of a complex number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Real,
    Imaginary,
}

/// Runs the operator's own handler on the real and on the imaginary parts.
pub(super) fn by_parts(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if let "aten.resolve_conj.default" | "aten.resolve_neg.default" = call.target {
        let x = Pair::of(cx, call, "self")?;
        return Ok(vec![x.into()]);
    }
    let real = on_part(cx, call, |_| Part::Real)?;
    // What makes ones makes real ones.
    let creates = call.target.contains("ones")
        || call.target.contains("eye")
        || call.target.contains("arange");
    let imaginary = if creates {
        let zero = |out: &Out| match out {
            Out::Value(value) => Ok(Out::Value(zeros(cx, *value)?)),
            _ => Err(Fail::Bug("a new tensor is a view".to_owned())),
        };
        real.iter().map(zero).collect::<Result<Vec<_>>>()?
    } else {
        on_part(cx, call, |_| Part::Imaginary)?
    };
    let pair = |cx: &mut Importer<'_>, (re, im)| match (re, im) {
        (Out::Tensor(re), Out::Tensor(im)) => Ok(Out::Views(re, im)),
        (re, im) => {
            let mut value = |out| match out {
                Out::Value(value) => Ok(value),
                Out::Tensor(tensor) => cx.read(tensor),
                _ => Err(Fail::Bug("a part that is no tensor".to_owned())),
            };
            let (re, im) = (value(re)?, value(im)?);
            let im = cx.build.cast(im, cx.build.dtype(re)?)?;
            Ok(Pair { re, im: Some(im) }.into())
        }
    };
    real.into_iter()
        .zip(imaginary)
        .map(|both| pair(cx, both))
        .collect()
}

/// Runs the operator's own handler on a part of each argument that holds elements, as `part` chooses by the argument's number among those.
fn on_part(
    cx: &mut Importer<'_>,
    call: &Call<'_>,
    part: impl Fn(usize) -> Part,
) -> Result<Vec<Out>> {
    let Some(handler) = dispatch::find(call.target) else {
        return unsupported("this operator on complex numbers");
    };
    let mut names = call.scope.names.clone();
    let mut node = call.node.clone();
    node.inputs.retain(|input| input.name != "dtype");
    let mut count = 0;
    for input in &mut node.inputs {
        if !holds_elements(&input.name) && call.complex(&input.name).is_none() {
            continue;
        }
        let mut place = |cx: &mut Importer<'_>, name: &mut String| -> Result<()> {
            let part = part(count);
            count += 1;
            let value = match names.get(name.as_str()) {
                Some(Val::Complex(re, im)) => {
                    Val::Tensor(if part == Part::Real { *re } else { *im })
                }
                Some(Val::Tensor(tensor)) if part == Part::Imaginary => {
                    let x = cx.read(*tensor)?;
                    let zero = zeros(cx, x)?;
                    Val::Tensor(cx.memory.root(Some(zero)))
                }
                _ => return Ok(()),
            };
            // The same tensor may stand in several places, with another part in each.
            let own = format!("{name}#{count}");
            names.insert(own.clone(), value);
            *name = own;
            Ok(())
        };
        match &mut input.arg {
            Argument::Tensor(name) | Argument::OptionalTensor(OptionalTensor::Tensor(name)) => {
                place(cx, &mut name.name)?
            }
            Argument::Tensors(all) => {
                for one in all {
                    place(cx, &mut one.name)?;
                }
            }
            Argument::Complex(number) => {
                let chosen = if part(count) == Part::Real {
                    number.real
                } else {
                    number.imag
                };
                count += 1;
                input.arg = Argument::Float(chosen);
            }
            Argument::Float(_) | Argument::Int(_) | Argument::Bool(_) => {
                if part(count) == Part::Imaginary {
                    input.arg = Argument::Int(0);
                }
                count += 1;
            }
            _ => {}
        }
    }
    let scope = Scope {
        graph: call.scope.graph,
        names,
    };
    let own = Call {
        node: &node,
        scope: &scope,
        ..*call
    };
    let dtype = call.out_dtype(0)?;
    let outs = handler(cx, &own)?;
    outs.into_iter()
        .map(|out| match out {
            Out::Value(value) => cx.build.cast(value, dtype).map(Out::Value),
            other => Ok(other),
        })
        .collect()
}

/// An operator that is linear in each of its tensors: the sum over all choices of their parts, each with its power of i.
pub(super) fn multilinear(cx: &mut Importer<'_>, call: &Call<'_>) -> Result<Vec<Out>> {
    if call.argument("bias").is_some_and(|bias| {
        !matches!(
            bias,
            Argument::None(_) | Argument::OptionalTensor(OptionalTensor::None(_))
        )
    }) {
        return unsupported("complex numbers with a bias");
    }
    let factors: Vec<&str> = call.tensor_names();
    if factors.len() > 6 {
        return unsupported("a product of more than six complex tensors");
    }
    let complex: Vec<bool> = factors
        .iter()
        .map(|name| matches!(call.scope.get(name), Some(Val::Complex(..))))
        .collect();
    let mut sums: [Option<Value>; 2] = [None, None];
    for choice in 0..1_usize << factors.len() {
        let imaginary = |at: usize| choice >> at & 1 == 1;
        if complex
            .iter()
            .enumerate()
            .any(|(at, complex)| imaginary(at) && !complex)
        {
            continue;
        }
        let part = |at| {
            if imaginary(at) {
                Part::Imaginary
            } else {
                Part::Real
            }
        };
        let value = match on_part(cx, call, part)?.into_iter().next() {
            Some(Out::Value(value)) => value,
            Some(Out::Tensor(tensor)) => cx.read(tensor)?,
            _ => return Err(Fail::Bug("a product that is no tensor".to_owned())),
        };
        let power = choice.count_ones();
        let sum = &mut sums[usize::from(power % 2 == 1)];
        *sum = Some(match (*sum, power >= 2 && power % 4 >= 2) {
            (None, false) => value,
            (None, true) => cx.build.add(op::Neg {}, &[value])?,
            (Some(sum), false) => cx.build.plus(sum, value)?,
            (Some(sum), true) => cx.build.minus(sum, value)?,
        });
    }
    match sums {
        [Some(re), im] => Ok(vec![Pair { re, im }.into()]),
        _ => Err(Fail::Bug("a product of nothing".to_owned())),
    }
}
