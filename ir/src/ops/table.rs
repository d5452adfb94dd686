//! The table of ops. A row yields the op's struct, its place in [`Op`], printing, parsing, pattern names, arity, flags and the ATen overloads
//! whose meaning is exactly the op with the attributes of the same name.
//!
//! Arguments: `x` is required, `x?` may be left out (only at the end), `xs*` is any number, at least one, `xs?*` any number.

use super::{EvalCx, Flag, OpImpl};
use crate::attr::{Attr, AttrType, F64, Scalar};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::{Graph, Value};
use crate::lower::{LowerCx, Lowering};
use crate::region::Region;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};
use std::fmt;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OpInfo {
    /// Name in the text form and in patterns.
    pub name: &'static str,
    /// The file of `ops/` that holds the impl.
    pub theme: &'static str,
    /// One or two sentences and the formula.
    pub doc: &'static str,
    /// Argument names; `?` marks an optional one, `*` a list.
    pub args: &'static [&'static str],
    /// Attribute names and what kind of value each takes.
    pub attrs: &'static [(&'static str, &'static str)],
    /// What the op is.
    pub flags: &'static [Flag],
    /// ATen overloads that import as this op without further code.
    pub aten: &'static [&'static str],
}

impl OpInfo {
    /// The number of arguments that the op takes: fewest, and most (`None`: any number).
    pub fn arity(&self) -> (usize, Option<usize>) {
        let least = self.args.iter().filter(|a| !a.contains('?')).count();
        let open = self.args.iter().any(|a| a.ends_with('*'));
        (least, (!open).then_some(self.args.len()))
    }

    /// Whether the op has the flag.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }
}

macro_rules! ops {
    ($($(#[doc = $doc:literal])+ $name:literal $theme:ident :: $Op:ident ($($arg:literal),*) { $($attr:ident : $ty:ty),* } [$($flag:ident),*] aten [$($aten:literal),*];)*) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $Op {
                $(
                    #[doc = concat!("Attribute `", stringify!($attr), "`.")]
                    pub $attr: $ty,
                )*
            }

            impl From<$Op> for Op {
                fn from(op: $Op) -> Op {
                    Op::$Op(op)
                }
            }
        )*

        /// An op with its attributes. Closed: every op of the IR is a variant.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Op {
            $(
                $(#[doc = $doc])+
                $Op($Op),
            )*
        }

        /// All rows, in the order of the table.
        pub const TABLE: &[OpInfo] = &[
            $(OpInfo {
                name: $name,
                theme: stringify!($theme),
                doc: concat!($($doc, "\n"),+),
                args: &[$($arg),*],
                attrs: &[$((stringify!($attr), <$ty as AttrType>::KIND)),*],
                flags: &[$(Flag::$flag),*],
                aten: &[$($aten),*],
            }),*
        ];

        enum Row { $($Op),* }

        impl Op {
            /// The op's row.
            pub fn info(&self) -> &'static OpInfo {
                let index = match self {
                    $(Op::$Op(_) => Row::$Op as usize,)*
                };
                &TABLE[index]
            }

            /// The attributes by name, in the row's order.
            pub fn attrs(&self) -> Vec<(&'static str, Attr)> {
                match self {
                    $(Op::$Op(op) => {
                        let _ = op;
                        vec![$((stringify!($attr), op.$attr.to_attr())),*]
                    })*
                }
            }

            /// The op of that name with those attributes: all of the row's, and no other.
            pub fn build(name: &str, attrs: &[(&str, Attr)]) -> Result<Op, OpError> {
                let find = |attr: &str| attrs.iter().find(|(n, _)| *n == attr).map(|(_, v)| v);
                let _ = &find;
                let op: Op = match name {
                    $($name => $Op {
                        $($attr: {
                            let value = find(stringify!($attr))
                                .ok_or_else(|| OpError::new(name, concat!("attribute `", stringify!($attr), "` is missing")))?;
                            <$ty>::from_attr(value).ok_or_else(|| {
                                OpError::new(name, format!("attribute `{}` must be {}, not {value}", stringify!($attr), <$ty as AttrType>::KIND))
                            })?
                        },)*
                    }.into(),)*
                    _ => return Err(OpError::new(name, "no such op")),
                };
                match attrs.iter().find(|(n, _)| !op.info().attrs.iter().any(|(k, _)| k == n)) {
                    Some((extra, _)) => Err(OpError::new(name, format!("no attribute `{extra}`"))),
                    None => Ok(op),
                }
            }

            fn as_impl(&self) -> &dyn OpImpl {
                match self {
                    $(Op::$Op(op) => op,)*
                }
            }
        }
    };
}

ops! {
    // Leaves.
    /// A user input of the graph.
    "input" create::Input() { name: Symbol, ty: Type } [Leaf] aten [];
    /// A weight or another constant, by name; its bytes are in the graph's constants.
    "constant" create::Constant() { name: Symbol, ty: TensorType } [Leaf] aten [];
    /// The value of a state (a mutated buffer) at the entry.
    "state" create::State() { name: Symbol, ty: TensorType } [Leaf] aten [];
    /// Every element is `value`.
    "full" create::Full() { value: Scalar, ty: TensorType } [Leaf] aten [];
    /// `x[i] = start + step·i`, `len` elements of an integer dtype.
    "arange" create::Arange() { start: Dim, step: Dim, len: Dim, dtype: DType } [Leaf] aten [];
    /// An integer computed from sizes.
    "size" create::Size() { value: Dim } [Leaf] aten [];
    /// A 0-d tensor that holds an integer value.
    "int_tensor" create::IntTensor("n") { dtype: DType } [] aten [];
    /// The number in a one-element integer tensor, as the symbol `symbol`.
    "item" control::Item("x") { symbol: Symbol } [] aten [];
    /// The n-th result of an op that has several.
    "get" control::Get("x") { index: usize } [] aten [];
    /// x, once the others have been computed, for what they do besides.
    "after" control::After("x", "first*") {} [] aten [];
    /// A kernel of the host, called between delegate segments. Stands for an op that the target can't express. `call` has the kernel's arguments in order: `$n` where
    /// tensor n goes, literals, lists of both. `ty` is its result, a tuple of tensors where there are several; their sizes may be symbols that only the result defines.
    "host" control::Host("xs?*") { kernel: Symbol, reason: Symbol, call: Vec<Attr>, ty: Type } [] aten [];
    /// What one of two graphs makes of the operands, whichever the condition chooses; the other one is not computed. A tuple. `cond` is a bool without axes.
    "branch" control::Branch("cond", "xs?*") { yes: Region, no: Region } [] aten [];
    /// A loop: while `cond` of the values holds, the first of them (as many as `step` has results) become what `step` makes of all. A tuple of the first. Runs between delegate segments.
    "while_loop" control::WhileLoop("xs*") { cond: Region, step: Region } [] aten [];

    // Random numbers: pure functions of a seed.
    /// Uniform 32-bit numbers, u32 of `shape`: Threefry-2x32 under the key (seed / 2³², seed mod 2³²), counted as MLX counts. Equal seeds give equal bits.
    "random_bits" random::RandomBits("seed") { shape: Vec<Dim> } [] aten [];

    // Pointwise, one argument.
    /// −x.
    "neg" pointwise::Neg("x") {} [Pointwise] aten ["aten.neg.default", "aten.negative.default"];
    /// |x|.
    "abs" pointwise::Abs("x") {} [Pointwise] aten ["aten.abs.default"];
    /// −1, 0 or 1; 0 for NaN.
    "sign" pointwise::Sign("x") {} [Pointwise] aten ["aten.sign.default", "aten.sgn.default"];
    /// eˣ.
    "exp" pointwise::Exp("x") {} [Pointwise] aten ["aten.exp.default"];
    /// eˣ − 1.
    "expm1" pointwise::Expm1("x") {} [Pointwise] aten ["aten.expm1.default"];
    /// Natural logarithm.
    "log" pointwise::Log("x") {} [Pointwise] aten ["aten.log.default"];
    /// Logarithm to base 2.
    "log2" pointwise::Log2("x") {} [Pointwise] aten ["aten.log2.default"];
    /// Logarithm to base 10.
    "log10" pointwise::Log10("x") {} [Pointwise] aten ["aten.log10.default"];
    /// ln(1 + x).
    "log1p" pointwise::Log1p("x") {} [Pointwise] aten ["aten.log1p.default"];
    /// √x.
    "sqrt" pointwise::Sqrt("x") {} [Pointwise] aten ["aten.sqrt.default"];
    /// 1/√x.
    "rsqrt" pointwise::Rsqrt("x") {} [Pointwise] aten ["aten.rsqrt.default"];
    /// 1/x.
    "reciprocal" pointwise::Reciprocal("x") {} [Pointwise] aten ["aten.reciprocal.default"];
    /// x².
    "square" pointwise::Square("x") {} [Pointwise] aten ["aten.square.default"];
    /// Sine.
    "sin" pointwise::Sin("x") {} [Pointwise] aten ["aten.sin.default"];
    /// Cosine.
    "cos" pointwise::Cos("x") {} [Pointwise] aten ["aten.cos.default"];
    /// Tangent.
    "tan" pointwise::Tan("x") {} [Pointwise] aten ["aten.tan.default"];
    /// Inverse sine.
    "asin" pointwise::Asin("x") {} [Pointwise] aten ["aten.asin.default", "aten.arcsin.default"];
    /// Inverse cosine.
    "acos" pointwise::Acos("x") {} [Pointwise] aten ["aten.acos.default", "aten.arccos.default"];
    /// Inverse tangent.
    "atan" pointwise::Atan("x") {} [Pointwise] aten ["aten.atan.default", "aten.arctan.default"];
    /// Hyperbolic sine.
    "sinh" pointwise::Sinh("x") {} [Pointwise] aten ["aten.sinh.default"];
    /// Hyperbolic cosine.
    "cosh" pointwise::Cosh("x") {} [Pointwise] aten ["aten.cosh.default"];
    /// Hyperbolic tangent.
    "tanh" pointwise::Tanh("x") {} [Pointwise] aten ["aten.tanh.default"];
    /// Inverse hyperbolic sine.
    "asinh" pointwise::Asinh("x") {} [Pointwise] aten ["aten.asinh.default", "aten.arcsinh.default"];
    /// Inverse hyperbolic cosine.
    "acosh" pointwise::Acosh("x") {} [Pointwise] aten ["aten.acosh.default", "aten.arccosh.default"];
    /// Inverse hyperbolic tangent.
    "atanh" pointwise::Atanh("x") {} [Pointwise] aten ["aten.atanh.default", "aten.arctanh.default"];
    /// The error function.
    "erf" pointwise::Erf("x") {} [Pointwise] aten ["aten.erf.default"];
    /// 1/(1 + e⁻ˣ).
    "sigmoid" pointwise::Sigmoid("x") {} [Pointwise] aten ["aten.sigmoid.default"];
    /// Largest integer not above x.
    "floor" pointwise::Floor("x") {} [Pointwise] aten ["aten.floor.default"];
    /// Smallest integer not below x.
    "ceil" pointwise::Ceil("x") {} [Pointwise] aten ["aten.ceil.default"];
    /// Nearest integer, ties to even.
    "round" pointwise::Round("x") {} [Pointwise] aten ["aten.round.default"];
    /// Integer part, towards zero.
    "trunc" pointwise::Trunc("x") {} [Pointwise] aten ["aten.trunc.default", "aten.fix.default"];
    /// `x == 0`, as bool.
    "logical_not" pointwise::LogicalNot("x") {} [Pointwise] aten ["aten.logical_not.default"];
    /// Every bit flipped; the logical not of a bool.
    "bitwise_not" pointwise::BitwiseNot("x") {} [Pointwise] aten ["aten.bitwise_not.default"];
    /// `x` converted to `dtype`: floats truncate to integers, anything non-zero is true.
    "cast" pointwise::Cast("x") { dtype: DType } [Pointwise] aten [];

    // Pointwise, two arguments of one dtype, broadcast.
    /// a + b.
    "add" pointwise::Add("a", "b") {} [Pointwise] aten [];
    /// a − b.
    "sub" pointwise::Sub("a", "b") {} [Pointwise] aten [];
    /// a · b.
    "mul" pointwise::Mul("a", "b") {} [Pointwise] aten [];
    /// a / b of floats.
    "div" pointwise::Div("a", "b") {} [Pointwise] aten [];
    /// ⌊a / b⌋.
    "floor_div" pointwise::FloorDiv("a", "b") {} [Pointwise] aten [];
    /// a − b·⌊a / b⌋: the sign of b.
    "remainder" pointwise::Remainder("a", "b") {} [Pointwise] aten [];
    /// aᵇ.
    "pow" pointwise::Pow("a", "b") {} [Pointwise] aten [];
    /// The larger; NaN where either is.
    "maximum" pointwise::Maximum("a", "b") {} [Pointwise] aten [];
    /// The smaller; NaN where either is.
    "minimum" pointwise::Minimum("a", "b") {} [Pointwise] aten [];
    /// The angle of the point (b, a).
    "atan2" pointwise::Atan2("a", "b") {} [Pointwise] aten [];
    /// ln(eᵃ + eᵇ).
    "logaddexp" pointwise::LogAddExp("a", "b") {} [Pointwise] aten [];
    /// a = b, as bool.
    "eq" pointwise::Eq("a", "b") {} [Pointwise] aten [];
    /// a ≠ b, as bool.
    "ne" pointwise::Ne("a", "b") {} [Pointwise] aten [];
    /// a < b, as bool.
    "lt" pointwise::Lt("a", "b") {} [Pointwise] aten [];
    /// a ≤ b, as bool.
    "le" pointwise::Le("a", "b") {} [Pointwise] aten [];
    /// a > b, as bool.
    "gt" pointwise::Gt("a", "b") {} [Pointwise] aten [];
    /// a ≥ b, as bool.
    "ge" pointwise::Ge("a", "b") {} [Pointwise] aten [];
    /// Both are true; of bools.
    "logical_and" pointwise::LogicalAnd("a", "b") {} [Pointwise] aten [];
    /// One at least is true; of bools.
    "logical_or" pointwise::LogicalOr("a", "b") {} [Pointwise] aten [];
    /// Bits and; of integers or bools.
    "bitwise_and" pointwise::BitwiseAnd("a", "b") {} [Pointwise] aten [];
    /// Bits or; of integers or bools.
    "bitwise_or" pointwise::BitwiseOr("a", "b") {} [Pointwise] aten [];
    /// Bits exclusive or; of integers or bools.
    "bitwise_xor" pointwise::BitwiseXor("a", "b") {} [Pointwise] aten [];
    /// `a` where the condition holds, else `b`.
    "where" pointwise::Where("cond", "a", "b") {} [Pointwise] aten [];

    // Fused activations.
    /// x · sigmoid(x).
    "silu" pointwise::Silu("x") {} [Pointwise, Fused] aten ["aten.silu.default"];
    /// x · Φ(x), or its tanh approximation ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
    "gelu" pointwise::Gelu("x") { tanh: bool } [Pointwise, Fused] aten [];
    /// 1 − erf(x), with as many digits where little is left of it.
    "erfc" pointwise::Erfc("x") {} [Pointwise, Fused] aten [];

    // Reductions. `axes` sorted and distinct; with `keepdim` they stay as size 1.
    /// Sum over the axes; integers and bools sum to i64.
    "sum" reduce::Sum("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Mean over the axes, of floats.
    "mean" reduce::Mean("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// ln of the sum of eˣ over the axes, of floats, whatever their size: −∞ of −∞ alone, ∞ where there is one, NaN where there is one.
    "logsumexp" reduce::LogSumExp("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Product over the axes; integers and bools multiply to i64.
    "prod" reduce::Prod("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Largest element; NaN where there is one.
    "amax" reduce::Amax("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Smallest element; NaN where there is one.
    "amin" reduce::Amin("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Whether one element at least is not zero.
    "any" reduce::Any("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Whether no element is zero.
    "all" reduce::All("x") { axes: Vec<usize>, keepdim: bool } [Reduction] aten [];
    /// Index of the first largest element along an axis, i64.
    "argmax" reduce::Argmax("x") { axis: usize, keepdim: bool } [Reduction] aten [];
    /// Index of the first smallest element along an axis, i64.
    "argmin" reduce::Argmin("x") { axis: usize, keepdim: bool } [Reduction] aten [];
    /// Running sum along an axis; integers and bools sum to i64.
    "cumsum" reduce::Cumsum("x") { axis: usize } [] aten [];

    // Matrix products.
    /// Product over the last axis of a and the second-to-last of b; leading axes broadcast. Both at least 2-d.
    "matmul" matmul::Matmul("a", "b") {} [] aten [];
    /// a·b + c, the sum in the accumulator; c broadcasts to the product's shape.
    "addmm" matmul::Addmm("a", "b", "c") {} [Fused] aten [];
    /// `a @ b[indices]`: each matrix of a meets the matrix of b `[E, K, N]` that its index chooses. The leading axes of a and the indices broadcast.
    "gather_mm" experts::GatherMm("a", "b", "indices") {} [Fused] aten [];

    // Quantised weights, in MLX's layout: elements of `bits` bits in a little-endian stream over u32 along the last axis, a scale (and a bias) for each `group` of them. `mode`:
    // "affine" (scale·q + bias, scales and biases in floats), "mxfp4", "mxfp8" (FP4 and FP8 elements, power-of-two scales in u8) or "nvfp4" (FP4 elements, FP8 scales in u8).
    /// The elements of a quantised tensor, as `dtype`: w [.., K·bits/32] becomes [.., K].
    "dequantize" quant::Dequantize("w", "scales", "biases?") { group: usize, bits: usize, mode: Symbol, dtype: DType } [] aten [];
    /// x · dequantize(w)ᵀ for w [N, K·bits/32].
    "quantized_matmul" quant::QuantizedMatmul("x", "w", "scales", "biases?") { group: usize, bits: usize, mode: Symbol } [Fused] aten [];
    /// x · dequantize(w[indices])ᵀ for w [E, N, K·bits/32]: as `gather_mm`.
    "gather_qmm" quant::GatherQmm("x", "indices", "w", "scales", "biases?") { group: usize, bits: usize, mode: Symbol } [Fused] aten [];

    // Convolution, channels last: x [N, spatial…, C], w [O, kernel…, C / groups].
    /// out[n, i, o] = Σ x[n, i·stride + k·dilation − padding, c] · w[o, k, c], positions outside x being 0.
    "conv" conv::Conv("x", "w") { stride: Vec<usize>, padding: Vec<usize>, dilation: Vec<usize>, groups: usize } [] aten [];
    /// The transpose of `conv` as a map: x[n, i, c] · w[o, k, c] is added to out[n, i·stride + k·dilation − padding, o]; `output_padding` more positions at the end.
    "conv_transpose" conv::ConvTranspose("x", "w") { stride: Vec<usize>, padding: Vec<usize>, dilation: Vec<usize>, output_padding: Vec<usize>, groups: usize } [] aten [];

    // Movement.
    /// The same elements in row-major order under another shape.
    "reshape" movement::Reshape("x") { shape: Vec<Dim> } [Movement] aten [];
    /// Axis i of the result is axis `perm[i]` of x.
    "transpose" movement::Transpose("x") { perm: Vec<usize> } [Movement] aten [];
    /// x repeated along axes of size 1 and new leading axes.
    "broadcast" movement::Broadcast("x") { shape: Vec<Dim> } [Movement] aten [];
    /// Elements `start, start + step, …` below `stop` of an axis; `0 ≤ start ≤ stop ≤ size`, `step ≥ 1`.
    "slice" movement::Slice("x") { axis: usize, start: Dim, stop: Dim, step: i64 } [Movement] aten [];
    /// Arrays one after the other along an axis.
    "cat" movement::Cat("xs*") { axis: usize } [Movement] aten [];
    /// `low[i]` and `high[i]` elements of `value` before and after axis i.
    "pad" movement::Pad("x") { low: Vec<Dim>, high: Vec<Dim>, value: Scalar } [Movement] aten [];
    /// Axes reversed.
    "flip" movement::Flip("x") { axes: Vec<usize> } [Movement] aten [];
    /// Sliding windows: each of `axes` becomes the count of its windows, of `sizes` elements `dilations` apart, one every `steps`; the positions inside windows are
    /// new axes at the end.
    "window" window::Window("x") { axes: Vec<usize>, sizes: Vec<usize>, steps: Vec<usize>, dilations: Vec<usize> } [Movement] aten [];

    // Order.
    /// The elements along an axis in ascending order, NaN last.
    "sort" sort::Sort("x") { axis: usize } [] aten [];
    /// The positions along an axis that sort x ascending, NaN last, equal elements in their order; i64.
    "argsort" sort::Argsort("x") { axis: usize } [] aten [];

    // Indexing. Indices are of an integer dtype; −size ≤ index < size.
    /// Elements of an axis by index: the axis is replaced by the axes of the indices.
    "take" index::Take("x", "indices") { axis: usize } [] aten [];
    /// `out[.., i, ..] = x[.., indices[.., i, ..], ..]` along an axis; x and indices of one rank, other axes broadcast.
    "take_along" index::TakeAlong("x", "indices") { axis: usize } [] aten [];
    /// Indices for several axes at once, broadcast with each other: their shape first, then the axes of x that are not in `axes`.
    "gather" index::Gather("x", "indices*") { axes: Vec<usize> } [] aten [];
    /// x with the rows of `source` written at `indices` (1-d) of an axis; `wraps` where negative ones count from the end, else they are refused.
    "index_copy" index::IndexCopy("x", "indices", "source") { axis: usize, wraps: bool } [] aten [];
    /// x with `source` written at `start, start + step, …` of an axis; a negative start counts from the end.
    "slice_update" index::SliceUpdate("x", "source") { axis: usize, start: Dim, step: i64 } [] aten [];
    /// x with `source` added at `indices` along an axis, `take_along`'s inverse; repeated indices add up.
    "scatter_add" index::ScatterAdd("x", "indices", "source") { axis: usize } [] aten [];

    // Normalisation.
    /// exp(x − max x) / Σ exp(x − max x) along an axis, in f32 at least.
    "softmax" norm::Softmax("x") { axis: usize } [Fused] aten [];
    /// w · x / √(mean(x²) + eps) over the last axis, in f32 at least; w of the last axis' size.
    "rms_norm" norm::RmsNorm("x", "w?") { eps: F64 } [Fused] aten [];
    /// w · (x − mean x) / √(var x + eps) + b over the last axis, in f32 at least; w and b of the last axis' size.
    "layer_norm" norm::LayerNorm("x", "w?", "b?") { eps: F64 } [Fused] aten [];

    // Attention.
    /// softmax(scale · q·kᵀ + mask) · v. q [B, H, S, D], k [B, K, T, D], v [B, K, T, E], H a multiple of K; the mask broadcasts to [B, H, S, T]: bool
    /// (true: attend) or added. `causal`: query i sees keys up to i + T − S.
    "sdpa" attention::Sdpa("q", "k", "v", "mask?") { scale: F64, causal: bool } [Fused] aten [];
    /// Causal attention over a cache that a session keeps for layer `layer_id`: k and v become its rows at the positions, then each query attends to all rows up to its own
    /// position. q [B, H, S, D], k [B, K, S, D], v [B, K, S, E], H a multiple of K, each of any float dtype; position: S successive integers, in any shape; the result is of
    /// `out_dtype`. `after`: the call for this layer before this one, since arguments alone order what shares a cache.
    "update_and_attend" cached::UpdateAndAttend("q", "k", "v", "position", "after?") { layer_id: i64, scale: F64, out_dtype: DType } [Effect] aten [];
    /// Rotary embedding of the first `dims` of the last axis of x [B, …, S, D]: pair j turned by the angle scale·(offset + s) / freqs[j]. Pairs are (j, j + dims/2), or
    /// neighbours where `traditional`. offset: one integer, or one for each of the batch, or the position offset + s itself for each row, in a shape of two axes or more that broadcasts to [B, …, S]; freqs: f32, dims/2 periods, of which `base` gives baseʲ˸ (j = 2i/dims) where they are left out.
    "rope" rope::Rope("x", "offset", "freqs?") { dims: usize, traditional: bool, base: Option<F64>, scale: F64 } [Fused] aten [];
}

impl Op {
    /// The row of that name.
    pub fn find(name: &str) -> Option<&'static OpInfo> {
        TABLE.iter().find(|r| r.name == name)
    }

    /// The op's name in the text form.
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    fn check_arity(&self, n: usize) -> Result<(), OpError> {
        let (least, most) = self.info().arity();
        if n < least || most.is_some_and(|m| n > m) {
            return Err(OpError::new(
                self.to_string(),
                format!("takes {} arguments, not {n}", self.info().args.join(", ")),
            ));
        }
        Ok(())
    }

    /// The type of the result, or why the arguments don't fit.
    pub fn infer(&self, args: &[&Type]) -> Result<Type, OpError> {
        self.check_arity(args.len())?;
        self.as_impl().infer(args).map_err(|e| self.own(e))
    }

    /// The reference evaluation.
    pub fn eval(&self, cx: &EvalCx<'_>, args: &[&Tensor]) -> Result<Vec<Tensor>, OpError> {
        self.check_arity(args.len())?;
        self.as_impl().eval(cx, args).map_err(|e| self.own(e))
    }

    /// What a fused op means in plainer ops; `None` for an op that isn't fused.
    pub fn decompose(&self, graph: &mut Graph, args: &[Value]) -> Result<Option<Value>, OpError> {
        self.check_arity(args.len())?;
        self.as_impl()
            .decompose(graph, args)
            .map_err(|e| self.own(e))
    }

    /// What the op becomes on the target.
    pub fn lower(&self, cx: &LowerCx<'_>) -> Result<Lowering, OpError> {
        self.check_arity(cx.args.len())?;
        self.as_impl().lower(cx).map_err(|e| self.own(e))
    }

    /// The argument whose storage the result may take over, where the op is an update of it.
    pub fn updates(&self) -> Option<usize> {
        self.as_impl().updates()
    }

    fn own(&self, e: OpError) -> OpError {
        OpError::new(self.to_string(), e.reason)
    }
}

/// Prints as `name` or `name[attr=value, …]`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let attrs = self.attrs();
        if attrs.is_empty() {
            return Ok(());
        }
        f.write_str("[")?;
        for (i, (name, value)) in attrs.iter().enumerate() {
            write!(f, "{}{name}={value}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}
