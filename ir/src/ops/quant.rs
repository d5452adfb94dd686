//! Weights in few bits, in the layout of MLX's quantised kernels.
//!
//! A row of K elements is a stream of K·bits bits, the lowest first, in K·bits/32 words; a group of neighbours shares a scale. What an element means depends on the [`Mode`].

use super::create::{fill, spread};
use super::experts::GatherMm;
use super::experts::{choose, infer_chosen};
use super::index::check_indices;
use super::matmul::eval_product;
use super::movement::{Transpose, check_args};
use super::table::{Matmul, Op};
use super::util::{fail, tensor};
use super::{EvalCx, OpImpl};
use crate::attr::Scalar;
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Loc, Value};
use crate::lower::{Field, Inst, LowerCx, Lowering, Operand};
use crate::tensor::{Tensor, numel};
use crate::types::{TensorType, Type};

pub use super::table::{Dequantize, GatherQmm, QuantizedMatmul};

/// How elements and scales stand for numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Unsigned integers q, scales and biases in floats: scale·q + bias.
    Affine,
    /// FP4 (E2M1), scales are powers of two (E8M0).
    MxFp4,
    /// FP8 (E4M3), scales are powers of two (E8M0).
    MxFp8,
    /// FP4 (E2M1), scales in FP8 (E4M3).
    NvFp4,
}

impl Mode {
    /// The mode of that name.
    pub fn from_name(name: &str) -> Option<Mode> {
        [Mode::Affine, Mode::MxFp4, Mode::MxFp8, Mode::NvFp4]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// The name in the text form and on the target.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Affine => "affine",
            Mode::MxFp4 => "mxfp4",
            Mode::MxFp8 => "mxfp8",
            Mode::NvFp4 => "nvfp4",
        }
    }

    /// Whether the target has kernels for groups of that size and elements of that many bits.
    pub fn takes(self, group: usize, bits: usize) -> bool {
        match self {
            Mode::Affine => matches!(group, 32 | 64 | 128) && matches!(bits, 2 | 3 | 4 | 5 | 6 | 8),
            Mode::MxFp4 => group == 32 && bits == 4,
            Mode::MxFp8 => group == 32 && bits == 8,
            Mode::NvFp4 => group == 16 && bits == 4,
        }
    }

    /// What the bits of an element mean, before scaling.
    fn element(self, bits: u32) -> f64 {
        match self {
            Mode::Affine => f64::from(bits),
            Mode::MxFp8 => e4m3(bits),
            Mode::MxFp4 | Mode::NvFp4 => e2m1(bits),
        }
    }

    /// What the byte of a scale means.
    fn scale(self, byte: u32) -> f64 {
        match self {
            Mode::NvFp4 => e4m3(byte),
            _ => e8m0(byte),
        }
    }
}

/// A sign, two bits of exponent, one of mantissa.
fn e2m1(bits: u32) -> f64 {
    const MAGNITUDES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let magnitude = MAGNITUDES[(bits & 7) as usize];
    if bits & 8 == 0 { magnitude } else { -magnitude }
}

/// A sign, four bits of exponent, three of mantissa; no infinities, all ones is NaN.
fn e4m3(bits: u32) -> f64 {
    let (exponent, mantissa) = ((bits >> 3) & 15, f64::from(bits & 7));
    let magnitude = match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa * 2f64.powi(-9),
        _ => (8.0 + mantissa) * 2f64.powi(exponent as i32 - 10),
    };
    if bits & 128 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// A power of two; all ones is NaN.
fn e8m0(bits: u32) -> f64 {
    if bits == 255 {
        f64::NAN
    } else {
        2f64.powi(bits as i32 - 127)
    }
}

/// The attributes of a quantised tensor, checked.
#[derive(Clone, Copy)]
struct Format {
    group: usize,
    bits: usize,
    mode: Mode,
}

impl Format {
    fn new(group: usize, bits: usize, mode: &Symbol) -> Result<Format, OpError> {
        match Mode::from_name(mode).filter(|mode| mode.takes(group, bits)) {
            Some(mode) => Ok(Format { group, bits, mode }),
            None => fail(format!(
                "no mode \"{mode}\" of {bits} bits in groups of {group}"
            )),
        }
    }

    /// The shape of the elements, given the arguments that start with the packed words.
    fn infer(&self, args: &[&Type]) -> Result<Vec<Dim>, OpError> {
        let (w, scales) = (tensor(args, 0)?, tensor(args, 1)?);
        let ([lead @ .., words], [scale_lead @ .., groups]) =
            (w.shape.as_slice(), scales.shape.as_slice())
        else {
            return fail(format!("{w} and {scales} have no last axis"));
        };
        let Some(elements) = (words * &Dim::from(32usize)).exact_div(&self.bits.into()) else {
            return fail(format!(
                "the words of {w} don't hold whole elements of {} bits",
                self.bits
            ));
        };
        if w.dtype != DType::U32
            || lead != scale_lead
            || elements != groups * &Dim::from(self.group)
        {
            return fail(format!(
                "{w} and {scales} don't fit: {} bits in groups of {}",
                self.bits, self.group
            ));
        }
        match (self.mode, args.get(2)) {
            (Mode::Affine, Some(Type::Tensor(biases)))
                if biases == scales && scales.dtype.is_float() => {}
            (Mode::Affine, _) => {
                return fail(format!("takes biases as the scales {scales}, in floats"));
            }
            (_, None) if scales.dtype == DType::U8 => {}
            (_, _) => return fail(format!("takes scales in u8 and no biases, not {scales}")),
        }
        Ok([lead, &[elements]].concat())
    }

    /// The elements, exactly.
    fn unpack(&self, args: &[&Tensor]) -> Result<Tensor, OpError> {
        let [w, scales, rest @ ..] = args else {
            return fail("takes words and scales");
        };
        let [lead @ .., words] = w.shape() else {
            return fail("takes words with a last axis");
        };
        let row = words * 32 / self.bits;
        let groups = row / self.group;
        let shape: Vec<usize> = lead.iter().copied().chain([row]).collect();
        let (w, scales, biases) = (
            w.to_i64(),
            scales.to_f64(),
            rest.first().map(|b| b.to_f64()),
        );
        let mut out = Vec::with_capacity(numel(&shape)?);
        for (line, stream) in w.chunks_exact((*words).max(1)).enumerate() {
            for k in 0..row {
                let q = self.mode.element(bits_at(stream, k * self.bits, self.bits));
                let at = line * groups + k / self.group;
                out.push(match &biases {
                    Some(biases) => scales[at] * q + biases[at],
                    None => self.mode.scale(scales[at] as u32) * q,
                });
            }
        }
        Tensor::floats(DType::F64, shape, out)
    }

    fn fields(&self, inst: Inst) -> Inst {
        inst.int("group_size", self.group as i64)
            .int("bits", self.bits as i64)
            .with("mode", Field::Str(self.mode.name()))
    }
}

/// `count` bits of a stream of 32-bit words, from bit `start` on.
fn bits_at(words: &[i64], start: usize, count: usize) -> u32 {
    let word = |n: usize| words.get(n).map_or(0, |w| u64::from(*w as u32));
    let (n, shift) = (start / 32, start % 32);
    let both = word(n) | word(n + 1) << 32;
    ((both >> shift) & ((1 << count) - 1)) as u32
}

impl OpImpl for Dequantize {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        if !self.dtype.is_float() {
            return fail(format!("gives floats, not {}", self.dtype));
        }
        let shape = Format::new(self.group, self.bits, &self.mode)?.infer(args)?;
        Ok(Type::tensor(self.dtype, shape))
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let exact = Format::new(self.group, self.bits, &self.mode)?.unpack(args)?;
        Ok(vec![Tensor::floats(
            self.dtype,
            exact.shape().to_vec(),
            exact.to_f64(),
        )?])
    }

    /// The target wants two axes at least, and elements.
    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        let format = Format::new(self.group, self.bits, &self.mode)?;
        let Some(out) = cx.out() else {
            return fail("gives a tensor");
        };
        if is_empty(out) {
            return Ok(Lowering::Insts(fill(
                Scalar::float(0.0),
                out,
                spread(out, cx),
            )?));
        }
        let count = cx.args.len();
        let row = out.rank() == 1;
        let arg = |n: usize| {
            if row {
                Operand::Temp(n)
            } else {
                Operand::Arg(n)
            }
        };
        let result = if row {
            Operand::Temp(count)
        } else {
            Operand::Out(0)
        };
        let inst = Inst::new("Dequantize")
            .tensor("w", arg(0))
            .tensor("scales", arg(1))
            .tensor_if(count > 2, "biases", arg(2));
        let inst = format
            .fields(inst)
            .with("dtype", Field::DType(self.dtype))
            .tensor("out", result);
        if !row {
            return Ok(Lowering::Insts(vec![inst]));
        }
        let widened = |n: usize| {
            Inst::new("ExpandDims")
                .tensor("x", Operand::Arg(n))
                .tensor("out", Operand::Temp(n))
                .int("axis", 0)
        };
        let mut insts: Vec<Inst> = (0..count).map(widened).collect();
        insts.push(inst);
        let narrowed = Inst::new("Squeeze").tensor("x", result);
        insts.push(narrowed.with("dims", Field::Ints(vec![0])).out());
        Ok(Lowering::Insts(insts))
    }
}

/// Whether a tensor is known to have no elements.
fn is_empty(ty: &TensorType) -> bool {
    ty.shape.iter().any(|d| d.is(0))
}

/// Whether a product is known to be of nothing: the target's kernels don't take that.
fn of_nothing(cx: &LowerCx<'_>) -> bool {
    [cx.arg(0), cx.out()].into_iter().flatten().any(is_empty)
}

/// `dequantize(w)` with the axes of its matrices exchanged, as nodes.
fn plain_weight(
    graph: &mut Graph,
    format: &Format,
    dtype: DType,
    quantized: &[Value],
) -> Result<Value, OpError> {
    let mut add = |op: Op, args: &[Value]| graph.add(op, args, &Loc::default());
    let op = Dequantize {
        group: format.group,
        bits: format.bits,
        mode: format.mode.name().into(),
        dtype,
    };
    let w = add(op.into(), quantized)?;
    let rank = graph.tensor_ty(w)?.rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank.saturating_sub(2), rank.saturating_sub(1));
    graph.add(Transpose { perm }, &[w], &Loc::default())
}

/// x against scales: an affine weight is in the dtype of x.
fn check_dtypes(x: &TensorType, scales: &TensorType) -> Result<(), OpError> {
    if x.dtype.is_float() && (scales.dtype == x.dtype || scales.dtype == DType::U8) {
        return Ok(());
    }
    fail(format!("{x} and scales {scales} differ in dtype"))
}

fn swapped(w: &Tensor) -> Result<Tensor, OpError> {
    let [lead @ .., n, k] = w.shape() else {
        return fail("takes matrices");
    };
    let shape = lead.iter().copied().chain([*k, *n]).collect();
    let (n, k, all) = (*n, *k, w.len());
    w.pick(
        shape,
        (0..all).map(|i| i / (n * k) * (n * k) + i % n * k + i / n % k),
    )
}

impl OpImpl for QuantizedMatmul {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let x = tensor(args, 0)?;
        let rest = args.get(1..).unwrap_or_default();
        let weight = Format::new(self.group, self.bits, &self.mode)?.infer(rest)?;
        check_dtypes(x, tensor(args, 2)?)?;
        match (x.shape.as_slice(), weight.as_slice()) {
            ([lead @ .., m, inner], [n, k]) if inner == k => Ok(Type::tensor(
                x.dtype,
                [lead, &[m.clone(), n.clone()]].concat(),
            )),
            _ => fail(format!(
                "{x} doesn't meet a weight of {}",
                TensorType::new(x.dtype, weight)
            )),
        }
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, quantized @ ..] = args else {
            return fail("takes x and a weight");
        };
        let w = Format::new(self.group, self.bits, &self.mode)?.unpack(quantized)?;
        product(x, &swapped(&w)?)
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let [x, quantized @ ..] = args else {
            return fail("takes x and a weight");
        };
        let format = Format::new(self.group, self.bits, &self.mode)?;
        let dtype = graph.tensor_ty(*x)?.dtype;
        let w = plain_weight(graph, &format, dtype, quantized)?;
        graph.add(Matmul {}, &[*x, w], &Loc::default()).map(Some)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if of_nothing(cx) {
            return Ok(Lowering::Decompose);
        }
        let inst = Inst::new("QuantizedMatmul")
            .tensor("x", Operand::Arg(0))
            .tensor("w", Operand::Arg(1))
            .tensor("scales", Operand::Arg(2))
            .tensor_if(cx.args.len() > 3, "biases", Operand::Arg(3));
        let format = Format::new(self.group, self.bits, &self.mode)?;
        Ok(Lowering::Insts(vec![
            format
                .fields(inst)
                .with("transpose", Field::Bool(true))
                .out(),
        ]))
    }
}

/// A product with exact weights, rounded once to the dtype of x.
fn product(x: &Tensor, w: &Tensor) -> Result<Vec<Tensor>, OpError> {
    let wide = Tensor::floats(DType::F64, x.shape().to_vec(), x.to_f64())?;
    let exact = eval_product(&wide, w, None)?;
    exact
        .iter()
        .map(|out| Tensor::floats(x.dtype(), out.shape().to_vec(), out.to_f64()))
        .collect()
}

impl OpImpl for GatherQmm {
    fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        let (x, indices) = (tensor(args, 0)?, check_indices(args, 1)?);
        let rest = args.get(2..).unwrap_or_default();
        let weight = Format::new(self.group, self.bits, &self.mode)?.infer(rest)?;
        check_dtypes(x, tensor(args, 3)?)?;
        match weight.as_slice() {
            [_, n, k] => infer_chosen(x, k, n, indices),
            _ => fail("takes weights with one leading axis"),
        }
    }

    fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        check_args(cx, args)?;
        let [x, indices, quantized @ ..] = args else {
            return fail("takes x, indices and weights");
        };
        let w = Format::new(self.group, self.bits, &self.mode)?.unpack(quantized)?;
        product(x, &choose(&swapped(&w)?, indices)?)
    }

    fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        let [x, indices, quantized @ ..] = args else {
            return fail("takes x, indices and weights");
        };
        let format = Format::new(self.group, self.bits, &self.mode)?;
        let dtype = graph.tensor_ty(*x)?.dtype;
        let w = plain_weight(graph, &format, dtype, quantized)?;
        graph
            .add(GatherMm {}, &[*x, w, *indices], &Loc::default())
            .map(Some)
    }

    fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        if of_nothing(cx) {
            return Ok(Lowering::Decompose);
        }
        let inst = Inst::new("GatherQmm")
            .tensor("x", Operand::Arg(0))
            .tensor("rhs_indices", Operand::Arg(1))
            .tensor("w", Operand::Arg(2))
            .tensor("scales", Operand::Arg(3))
            .tensor_if(cx.args.len() > 4, "biases", Operand::Arg(4));
        let format = Format::new(self.group, self.bits, &self.mode)?;
        Ok(Lowering::Insts(vec![
            format
                .fields(inst)
                .with("transpose", Field::Bool(true))
                .out(),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::*;

    fn words(shape: &[usize], bits: usize) -> Tensor {
        let n: usize = shape.iter().product();
        // Elements 0, 1, 2, … in their order, wrapped to the bits.
        let per_row = shape[shape.len() - 1] * 32 / bits;
        let mut out = vec![0u64; n + 1];
        for k in 0..n * 32 / bits {
            let at = k * bits;
            let q = (k % per_row) as u64 & ((1 << bits) - 1);
            let both = q << (at % 32);
            out[at / 32] |= both & 0xffff_ffff;
            out[at / 32 + 1] |= both >> 32;
        }
        let data = out[..n].iter().map(|w| *w as i64).collect();
        Tensor::ints(DType::U32, shape.to_vec(), data).unwrap()
    }

    fn affine(group: usize, bits: usize, dtype: DType) -> Dequantize {
        Dequantize {
            group,
            bits,
            mode: "affine".into(),
            dtype,
        }
    }

    #[test]
    fn a_stream_of_bits_and_a_line_for_each_group() {
        for bits in [2, 3, 4, 5, 6, 8] {
            let w = words(&[1, bits * 2], bits);
            let (scales, biases) = (f(&[1, 2], &[0.5, 2.0]), f(&[1, 2], &[-1.0, 0.0]));
            let out = run(affine(32, bits, DType::F32), &[&w, &scales, &biases]).unwrap();
            let q = |k: usize| (k % (1 << bits)) as f64;
            let expected: Vec<f64> = (0..64)
                .map(|k| if k < 32 { q(k) * 0.5 - 1.0 } else { q(k) * 2.0 })
                .collect();
            assert_eq!(out.to_f64(), expected, "{bits} bits");
        }
    }

    #[test]
    fn small_floats() {
        assert_eq!(
            (0..16).map(e2m1).collect::<Vec<_>>(),
            [
                0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0,
                -6.0
            ]
        );
        assert_eq!(
            [
                e4m3(0),
                e4m3(1),
                e4m3(8),
                e4m3(0x38),
                e4m3(0x7e),
                e4m3(0xb8)
            ],
            [0.0, 0.001953125, 0.015625, 1.0, 448.0, -1.0]
        );
        assert!(e4m3(0x7f).is_nan() && e8m0(255).is_nan());
        assert_eq!([e8m0(127), e8m0(130), e8m0(0)], [1.0, 8.0, 2f64.powi(-127)]);
        let w = words(&[1, 4], 4);
        let op = Dequantize {
            group: 16,
            bits: 4,
            mode: "nvfp4".into(),
            dtype: DType::F32,
        };
        let out = run(op, &[&w, &i(DType::U8, &[1, 2], &[0x38, 0x40])])
            .unwrap()
            .to_f64();
        assert_eq!((out[7], out[17], out[31]), (6.0, 1.0, -12.0));
    }

    #[test]
    fn products_mean_what_they_decompose_to() {
        let x = Tensor::from_fn(DType::F32, vec![2, 1, 64], |i| {
            crate::attr::Scalar::float((i as f64 * 0.7).sin())
        })
        .unwrap();
        let w = words(&[3, 8], 4);
        let (scales, biases) = (
            f(&[3, 2], &[0.5, 1.0, 0.25, 2.0, 1.0, 1.0]),
            f(&[3, 2], &[-1.0; 6]),
        );
        let op = QuantizedMatmul {
            group: 32,
            bits: 4,
            mode: "affine".into(),
        };
        let (direct, plain) = both_ways(op, &[&x, &w, &scales, &biases]);
        assert_eq!(direct.shape(), [2, 1, 3]);
        assert_eq!(direct, plain);

        let experts = w.with_shape(vec![3, 1, 8]).unwrap();
        let (scales, biases) = (
            scales.with_shape(vec![3, 1, 2]).unwrap(),
            biases.with_shape(vec![3, 1, 2]).unwrap(),
        );
        let op = GatherQmm {
            group: 32,
            bits: 4,
            mode: "affine".into(),
        };
        let (chosen, plain) = both_ways(
            op,
            &[
                &x,
                &i(DType::I64, &[2], &[2, 0]),
                &experts,
                &scales,
                &biases,
            ],
        );
        assert_eq!(chosen.to_f64(), [direct.to_f64()[2], direct.to_f64()[3]]);
        assert_eq!(chosen, plain);
    }

    #[test]
    fn rows_and_nothing_lower_to_what_the_target_takes() {
        let (w, s) = (words(&[1, 8], 4), f(&[1, 2], &[1.0; 2]));
        let names = |types: &[&Tensor]| {
            let types = types.iter().map(|t| type_of(t)).collect::<Vec<_>>();
            nodes(&lowered(affine(32, 4, DType::F32), &types).unwrap()).join(" ")
        };
        assert_eq!(names(&[&w, &s, &s]), "Dequantize");
        let row = (
            w.with_shape(vec![8]).unwrap(),
            s.with_shape(vec![2]).unwrap(),
        );
        assert_eq!(
            names(&[&row.0, &row.1, &row.1]),
            "ExpandDims ExpandDims ExpandDims Dequantize Squeeze"
        );
        let op = QuantizedMatmul {
            group: 32,
            bits: 4,
            mode: "affine".into(),
        };
        let none = f(&[0, 64], &[]);
        let types = [&none, &w, &s, &s].map(type_of);
        assert_eq!(lowered(op, &types).unwrap(), Lowering::Decompose);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let w = words(&[1, 8], 4);
        let good = f(&[1, 2], &[1.0; 2]);
        let is_error = |op: Dequantize, args: &[&Tensor]| run(op, args).is_err();
        assert!(is_error(affine(32, 4, DType::F32), &[&w, &good]));
        assert!(is_error(affine(32, 7, DType::F32), &[&w, &good, &good]));
        assert!(is_error(affine(48, 4, DType::F32), &[&w, &good, &good]));
        assert!(is_error(affine(64, 4, DType::F32), &[&w, &good, &good]));
        assert!(is_error(affine(32, 4, DType::I8), &[&w, &good, &good]));
        assert!(is_error(affine(32, 4, DType::F32), &[&good, &good, &good]));
        let op = Dequantize {
            group: 32,
            bits: 4,
            mode: "mxfp4".into(),
            dtype: DType::F32,
        };
        assert!(is_error(op, &[&w, &good]));
    }
}
